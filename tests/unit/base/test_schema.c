/* SPDX-License-Identifier: MIT
 * The JSON Schema validator: tables of values that match and that do not, of faults in words, of
 * schemas that are refused, and what it spends at most. */
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/schema.h"

static const struct schema *
compiled(const char *text)
{
	struct schema *s = NULL;
	struct err e = { 0 };

	if (schema_compile(a, parsed(text), &s, &e) != 0)
		fail_msg("%.200s: %s", text, e.msg);
	return s;
}

/* ---- what matches ---- */

#define TREE                                                                                       \
	"{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\",\"required\":[\"v\"],"      \
	"\"properties\":{\"v\":{\"type\":\"integer\"},\"kids\":{\"type\":\"array\",\"items\":"     \
	"{\"$ref\":\"#/$defs/t\"}}},\"additionalProperties\":false}}}"

static const struct {
	const char *schema;
	const char *yes[8], *no[8];
} cases[] = {
	{ "{}", { "1", "null", "{\"a\":1}" }, { 0 } },
	{ "true", { "1", "[]" }, { 0 } },
	{ "false", { 0 }, { "1", "null", "{}" } },
	{ "{\"type\":\"null\"}", { "null" }, { "false", "0", "\"\"" } },
	{ "{\"type\":\"boolean\"}", { "true", "false" }, { "null", "1", "\"true\"" } },
	{ "{\"type\":\"integer\"}", { "0", "-7", "5.0", "1e3", "99999999999999999999" },
		{ "5.5", "1e-3", "\"5\"", "true" } },
	{ "{\"type\":\"number\"}", { "0", "5.5", "1e300" }, { "\"5\"", "null" } },
	{ "{\"type\":\"string\"}", { "\"\"", "\"x\"" }, { "1", "[\"x\"]" } },
	{ "{\"type\":\"array\"}", { "[]", "[1]" }, { "{}", "\"[]\"" } },
	{ "{\"type\":\"object\"}", { "{}" }, { "[]", "null" } },
	{ "{\"type\":[\"string\",\"null\"]}", { "\"x\"", "null" }, { "1", "false" } },
	{ "{\"type\":[\"integer\",\"number\"]}", { "1", "1.5" }, { "\"1\"" } },
	/* numbers */
	{ "{\"minimum\":3}", { "3", "3.0", "4", "\"1\"" }, { "2", "2.9999" } },
	{ "{\"maximum\":3}", { "3", "-1" }, { "4", "3.0001" } },
	{ "{\"exclusiveMinimum\":3}", { "3.0001", "4" }, { "3", "3.0", "2" } },
	{ "{\"exclusiveMaximum\":3.5}", { "3" }, { "3.5", "4" } },
	{ "{\"minimum\":9223372036854775807}", { "9223372036854775807" },
		{ "9223372036854775806" } },
	{ "{\"multipleOf\":3}", { "0", "9", "-3", "9.0", "[]" }, { "10", "1.5" } },
	{ "{\"multipleOf\":0.1}", { "0.3", "1", "0.7", "-1.1" }, { "0.35", "0.01" } },
	{ "{\"multipleOf\":0.01}", { "19.99", "4.35" }, { "4.355" } },
	/* text: code points, not bytes */
	{ "{\"minLength\":2}", { "\"ab\"", "\"\xc3\xa9\xc3\xa9\"", "7" },
		{ "\"\"", "\"\xc3\xa9\"", "\"\xf0\x9f\x98\x80\"" } },
	{ "{\"maxLength\":2}", { "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"", "\"\"" }, { "\"abc\"" } },
	{ "{\"type\":\"string\",\"format\":\"date\"}", { "\"no date\"" }, { "1" } },
	/* lists */
	{ "{\"minItems\":1,\"maxItems\":2}", { "[1]", "[1,2]", "{}" }, { "[]", "[1,2,3]" } },
	{ "{\"items\":{\"type\":\"integer\"}}", { "[]", "[1,2]", "\"x\"" }, { "[1,\"2\"]" } },
	{ "{\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}",
		{ "[]", "[\"a\"]", "[\"a\",1,null]" }, { "[1]", "[\"a\",\"b\"]" } },
	{ "{\"prefixItems\":[{\"type\":\"string\"}],\"items\":false}", { "[]", "[\"a\"]" },
		{ "[\"a\",1]", "[1]" } },
	{ "{\"prefixItems\":[true],\"items\":{\"type\":\"integer\"}}", { "[\"a\",1]" },
		{ "[\"a\",\"b\"]" } },
	{ "{\"uniqueItems\":true}", { "[]", "[1,\"1\",[1],{\"a\":1}]", "[false,0,null]" },
		{ "[1,1.0]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]", "[[1],[1]]" } },
	{ "{\"uniqueItems\":false}", { "[1,1]" }, { 0 } },
	/* objects */
	{ "{\"required\":[\"a\",\"b\"]}", { "{\"a\":1,\"b\":null}", "[]" }, { "{\"a\":1}", "{}" } },
	{ "{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":false}}",
		{ "{}", "{\"a\":\"x\",\"z\":1}" }, { "{\"a\":1}", "{\"b\":1}" } },
	{ "{\"properties\":{\"a\":true},\"additionalProperties\":false}", { "{}", "{\"a\":1}" },
		{ "{\"b\":1}" } },
	{ "{\"additionalProperties\":{\"type\":\"integer\"}}", { "{\"a\":1}" },
		{ "{\"a\":\"1\"}" } },
	{ "{\"minProperties\":1,\"maxProperties\":1}", { "{\"a\":1}" },
		{ "{}", "{\"a\":1,\"b\":2}" } },
	/* constants */
	{ "{\"enum\":[\"a\",1,null,{\"x\":[1]}]}", { "\"a\"", "1", "1.0", "null", "{\"x\":[1.0]}" },
		{ "\"b\"", "2", "{\"x\":[]}", "false" } },
	{ "{\"const\":{\"b\":1,\"a\":2}}", { "{\"a\":2,\"b\":1}" }, { "{\"a\":2}", "1" } },
	{ "{\"const\":null}", { "null" }, { "0", "false" } },
	/* combinations */
	{ "{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", { "\"x\"", "7", "null" },
		{ "3" } },
	{ "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":5}]}", { "3", "5.5" }, { "7", "3.5" } },
	{ "{\"allOf\":[{\"minimum\":1},{\"maximum\":3}]}", { "1", "3" }, { "0", "4" } },
	{ "{\"not\":{\"type\":\"null\"}}", { "1", "\"\"" }, { "null" } },
	{ "{\"type\":\"integer\",\"anyOf\":[{\"minimum\":5},{\"maximum\":1}]}", { "5", "0" },
		{ "3", "5.5" } },
	/* references; keywords beside one count too */
	{ TREE, { "{\"v\":1}", "{\"v\":1,\"kids\":[{\"v\":2,\"kids\":[{\"v\":3}]}]}" },
		{ "{}", "{\"v\":1,\"kids\":[{\"v\":2,\"kids\":[{}]}]}", "{\"v\":1,\"x\":1}" } },
	{ "{\"$defs\":{\"s\":{\"type\":\"string\"}},\"$ref\":\"#/$defs/s\",\"maxLength\":1}",
		{ "\"x\"" }, { "\"xy\"", "1" } },
	{ "{\"definitions\":{\"a/b~c d\":{\"type\":\"null\"}},\"items\":{\"$ref\":"
	  "\"#/definitions/a~1b~0c%20d\"}}",
		{ "[null]" }, { "[1]" } },
	{ "{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\"}],\"items\":{\"$ref\":\"#\"},"
	  "\"properties\":{\"x\":{\"$ref\":\"#/anyOf/1\"}}}",
		{ "null", "\"s\"" }, { "[]", "1" } },
	{ "{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":"
	  "\"null\"}]}},\"required\":[\"next\"]}",
		{ "{\"next\":null}", "{\"next\":{\"next\":{\"next\":null}}}" },
		{ "{\"next\":{\"next\":{}}}", "{\"next\":1}" } },
	/* what changes nothing */
	{ "{\"$schema\":\"https://json-schema.org/draft/2020-12/"
	  "schema\",\"$id\":\"x\",\"title\":\"t\","
	  "\"description\":\"d\",\"default\":1,\"examples\":[1],\"deprecated\":true,\"x-own\":{},"
	  "\"propertyOrdering\":[\"a\"],\"$defs\":{\"unused\":{\"pattern\":\"x\"}}}",
		{ "1", "null" }, { 0 } },
};

static void
matches(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct schema *s = compiled(cases[i].schema);
		struct buf why;

		buf_init(&why, 64 * KIB);
		for (size_t k = 0; k < 8 && cases[i].yes[k]; k++)
			if (schema_check(s, parsed(cases[i].yes[k]), &why) != 0 || why.n)
				fail_msg("%s takes not %s: %s", cases[i].schema, cases[i].yes[k],
					buf_z(&why));
		for (size_t k = 0; k < 8 && cases[i].no[k]; k++) {
			buf_reset(&why);
			if (schema_check(s, parsed(cases[i].no[k]), &why) != ERR_INVALID || !why.n)
				fail_msg("%s takes %s", cases[i].schema, cases[i].no[k]);
			assert_int_equal(
				schema_check(s, parsed(cases[i].no[k]), NULL), ERR_INVALID);
		}
		buf_fini(&why);
	}
}

/* ---- faults in words ---- */

static void
words(void **state)
{
	static const struct {
		const char *schema, *value, *why;
	} rows[] = {
		{ "{\"type\":\"object\",\"properties\":{\"a/"
		  "b\":{\"items\":{\"type\":\"string\"}}}}",
			"{\"a/b\":[\"x\",5]}", "/a~1b/1: expected string, got integer 5" },
		{ "{\"type\":[\"string\",\"null\"]}", "{}",
			"(top level): expected null or string, got object" },
		{ "{\"type\":\"integer\",\"minimum\":3}", "\"x\"",
			"(top level): expected integer, got string \"x\"" },
		{ "{\"required\":[\"a\",\"b\"],\"properties\":{\"c\":{\"maximum\":1.50}}}",
			"{\"c\":2}",
			"(top level): is missing the required key \"a\"\n"
			"(top level): is missing the required key \"b\"\n"
			"/c: must be at most 1.50, got 2" },
		{ "{\"properties\":{\"name\":{},\"age\":{}},\"additionalProperties\":false}",
			"{\"nam\":1}",
			"/nam: this key is not allowed (allowed: \"name\", \"age\")" },
		{ "{\"additionalProperties\":false}", "{\"a\":1}",
			"/a: this key is not allowed (the object must be empty)" },
		{ "{\"enum\":[\"red\",\"green\"]}", "\"blue\"",
			"(top level): must be one of \"red\", \"green\", got \"blue\"" },
		{ "{\"const\":1}", "[1]", "(top level): must be 1, got [...]" },
		{ "{\"minLength\":3}", "\"\xc3\xa9\"",
			"(top level): must have at least 3 characters, has 1" },
		{ "{\"maxItems\":1}", "[1,2]", "(top level): must have at most 1 item, has 2" },
		{ "{\"multipleOf\":5}", "7", "(top level): must be a multiple of 5, got 7" },
		{ "{\"uniqueItems\":true}", "[1,2,1]",
			"(top level): items must differ, but items 0 and 2 are equal" },
		{ "{\"prefixItems\":[true],\"items\":false}", "[1,2]",
			"(top level): must have at most 1 item, has 2" },
		{ "{\"not\":{\"const\":\"x\"}}", "\"x\"",
			"(top level): \"x\" is excluded by the schema (not)" },
		{ "{\"properties\":{\"p\":{\"anyOf\":[{\"type\":\"string\"},{\"required\":[\"k\"],"
		  "\"type\":\"object\"}]}}}",
			"{\"p\":{}}",
			"/p: matches none of the 2 allowed forms (/p: expected string, got "
			"object;/p: is missing the required key \"k\")" },
		{ "{\"oneOf\":[{\"minimum\":1},{\"maximum\":9}]}", "5",
			"(top level): matches forms 1 and 2 of 2, but only one may match" },
		{ "{\"properties\":{\"x\":false}}", "{\"x\":1}", "/x: nothing is allowed here" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why;

		buf_init(&why, 64 * KIB);
		assert_int_equal(
			schema_check(compiled(rows[i].schema), parsed(rows[i].value), &why),
			ERR_INVALID);
		assert_str(buf_str(&why), rows[i].why);
		buf_fini(&why);
	}
}

static void
few_and_short(void **state)
{
	struct buf value, why;
	size_t lines = 1;

	buf_init(&value, 1 * MIB);
	buf_init(&why, 64 * KIB);
	buf_add_z(&value, "[\"");
	for (size_t i = 0; i < 10000; i++)
		buf_add_z(&value, "\xc3\xa9");
	buf_add_z(&value, "\"");
	for (size_t i = 0; i < 99; i++)
		buf_add_z(&value, ",\"x\"");
	buf_add_z(&value, "]");
	assert_int_equal(schema_check(compiled("{\"items\":{\"type\":\"integer\"}}"),
				 parsed(buf_z(&value)), &why),
		ERR_INVALID);
	for (size_t i = 0; i < why.n; i++)
		lines += why.p[i] == '\n';
	assert_int_equal(lines, SCHEMA_FAULTS_MAX);
	assert_in_range(why.n, 1, 2000);
	buf_fini(&value);
	buf_fini(&why);
}

/* ---- schemas that are refused ---- */

static void
refused(void **state)
{
	static const struct {
		const char *schema, *words;
	} rows[] = {
		{ "1", "schema (top level): a schema is an object or true or false" },
		{ "{\"properties\":{\"x\":{\"items\":{\"pattern\":\"^a\"}}}}",
			"schema /properties/x/items/pattern: not supported (use enum" },
		{ "{\"patternProperties\":{}}", "schema /patternProperties: not supported" },
		{ "{\"anyOf\":[{},{\"if\":{}}]}", "schema /anyOf/1/if: not supported" },
		{ "{\"properties\":{\"x\":{\"nullable\":true}}}",
			"schema /properties/x/nullable: not supported (write type: [..., "
			"\"null\"])" },
		{ "{\"items\":{\"$ref\":\"#/$defs/p\"},\"$defs\":{\"p\":{\"pattern\":\"x\"}}}",
			"schema /$defs/p/pattern: not supported" },
		{ "{\"requird\":[\"a\"]}",
			"schema /requird: unknown keyword (did you mean required?)" },
		{ "{\"type\":\"text\"}", "schema /type: must be one or several" },
		{ "{\"type\":[]}", "schema /type: must be one or several" },
		{ "{\"type\":[\"string\",\"string\"]}", "schema /type: must be one or several" },
		{ "{\"minLength\":-1}", "schema /minLength: must be a whole number from 0" },
		{ "{\"maxItems\":1.5}", "schema /maxItems: must be a whole number from 0" },
		{ "{\"multipleOf\":0}", "schema /multipleOf: must be a number above 0" },
		{ "{\"exclusiveMinimum\":true}", "schema /exclusiveMinimum: must be a number" },
		{ "{\"uniqueItems\":1}", "schema /uniqueItems: must be true or false" },
		{ "{\"required\":true}", "schema /required: must be a list of strings" },
		{ "{\"enum\":[]}", "schema /enum: must be a list that is not empty" },
		{ "{\"anyOf\":[]}", "schema /anyOf: must be a list that is not empty" },
		{ "{\"properties\":[]}", "schema /properties: must be an object" },
		{ "{\"properties\":{\"x\":\"string\"}}", "schema /properties/x: a schema is" },
		{ "{\"items\":[{}]}",
			"schema /items: must be a schema (a list of them is prefixItems)" },
		{ "{\"$ref\":\"other.json\"}", "schema /$ref: must point into the same document" },
		{ "{\"$ref\":\"#name\"}", "schema /$ref: must point into the same document" },
		{ "{\"$ref\":\"#/$defs/none\"}", "schema /$ref: there is nothing at #/$defs/none" },
		{ "{\"$ref\":\"#\"}", "schema (top level): refers to itself without going into" },
		{ "{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
		  "b\"}]},\"b\":{\"not\":{\"$ref\":"
		  "\"#/$defs/a\"}}},\"items\":{\"$ref\":\"#/$defs/a\"}}",
			"refers to itself without going into the value" },
		{ "{\"properties\":{\"x\":{\"$id\":\"y\"}}}",
			"schema /properties/x/$id: not supported below the top level" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct schema *s = NULL;
		struct err e = { 0 };

		assert_int_equal(schema_compile(a, parsed(rows[i].schema), &s, &e), ERR_INVALID);
		assert_null(s);
		if (!strstr(e.msg, rows[i].words))
			fail_msg("%s: \"%s\" without \"%s\"", rows[i].schema, e.msg, rows[i].words);
	}
}

/* ---- bounds ---- */

/* open repeated n times, then middle, then close repeated n times. */
static const char *
nested(size_t n, const char *open, const char *middle, const char *close)
{
	struct buf b;
	char *text;

	buf_init(&b, 64 * MIB);
	for (size_t i = 0; i < n; i++)
		buf_add_z(&b, open);
	buf_add_z(&b, middle);
	for (size_t i = 0; i < n; i++)
		buf_add_z(&b, close);
	text = arena_strdup(a, buf_str(&b));
	buf_fini(&b);
	return text;
}

static void
chains_end(void **state)
{
	struct schema *s = NULL;
	struct err e = { 0 };
	struct buf b;

	/* 60 levels on one value are fine, 100 are not: nested, and as references. */
	compiled(nested(60, "{\"not\":", "{}", "}"));
	assert_int_equal(
		schema_compile(a, parsed(nested(100, "{\"not\":", "{}", "}")), &s, &e), ERR_LIMIT);
	buf_init(&b, 1 * MIB);
	buf_add_z(&b, "{\"$defs\":{\"d0\":{}");
	for (int i = 1; i <= 5000; i++)
		buf_printf(&b, ",\"d%d\":{\"$ref\":\"#/$defs/d%d\"}", i, i - 1);
	buf_add_z(&b, "},\"items\":{\"$ref\":\"#/$defs/d5000\"}}");
	assert_int_equal(schema_compile(a, parsed(buf_z(&b)), &s, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "levels of $ref"));
	/* Too many subschemas, and too little memory for them. */
	buf_reset(&b);
	buf_add_z(&b, "{\"anyOf\":[{}");
	for (unsigned i = 0; i < SCHEMA_NODES_MAX; i++)
		buf_add_z(&b, ",{}");
	buf_add_z(&b, "]}");
	assert_int_equal(schema_compile(a, parsed(buf_z(&b)), &s, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "subschemas"));
	struct arena *small = arena_new(16 * KIB);
	assert_int_equal(schema_compile(small, parsed(buf_z(&b)), &s, &e), ERR_LIMIT);
	arena_free(small);
	assert_null(s);
	buf_fini(&b);
}

/* Work that doubles with each level of the value ends with ERR_LIMIT, not never; a list that is
 * linked through anyOf, which is how models write one, does not double. */
static void
work_is_bounded(void **state)
{
	const struct schema *bomb = compiled(
		"{\"$defs\":{\"n\":{\"oneOf\":[{\"properties\":{\"x\":{\"$ref\":\"#/$defs/n\"}}},"
		"{\"properties\":{\"x\":{\"$ref\":\"#/$defs/n\"}}}]}},\"$ref\":\"#/$defs/n\"}");
	const struct schema *linked =
		compiled("{\"type\":\"object\",\"properties\":{\"x\":{\"anyOf\":[{\"type\":"
			 "\"null\"},{\"$ref\":"
			 "\"#\"}]}},\"required\":[\"x\"],\"additionalProperties\":false}");
	const struct schema *unique = compiled("{\"uniqueItems\":true}");
	struct buf why, list;

	buf_init(&why, 64 * KIB);
	buf_init(&list, 1 * MIB);
	assert_int_equal(
		schema_check(bomb, parsed(nested(100, "{\"x\":", "1", "}")), &why), ERR_LIMIT);
	assert_non_null(strstr(buf_z(&why), "too deep or too large"));
	assert_int_equal(
		schema_check(linked, parsed(nested(120, "{\"x\":", "null", "}")), NULL), 0);
	buf_reset(&why);
	assert_int_equal(
		schema_check(linked, parsed(nested(120, "{\"x\":", "1", "}")), &why), ERR_INVALID);
	buf_add_z(&list, "[0");
	for (int i = 1; i < 20000; i++)
		buf_printf(&list, ",%d", i);
	buf_add_z(&list, "]");
	assert_int_equal(schema_check(unique, parsed(buf_z(&list)), &why), ERR_LIMIT);
	buf_fini(&list);
	buf_fini(&why);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(matches, setup, teardown),
		cmocka_unit_test_setup_teardown(words, setup, teardown),
		cmocka_unit_test_setup_teardown(few_and_short, setup, teardown),
		cmocka_unit_test_setup_teardown(refused, setup, teardown),
		cmocka_unit_test_setup_teardown(chains_end, setup, teardown),
		cmocka_unit_test_setup_teardown(work_is_bounded, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
