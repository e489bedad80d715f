/* SPDX-License-Identifier: MIT
 * The JSON parser against RFC 8259 and against json-c on random valid documents, the writers, and
 * RFC 8785. */
#include "tree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json_c.h"

static void
values(void **state)
{
	const struct node *n = parsed(
		" {\"a\" : [1, -0, -5, 9223372036854775807, 9223372036854775808, 1.50, 1e3],\n"
		"  \"s\":\"x\\u00e9\\ud83d\\ude00\\n\\/\\u0000y\", \"t\":true, \"f\":false, "
		"\"n\":null,\n"
		"  \"o\":{}, \"l\":[] } ");
	const struct node *l = node_get(n, "a");
	assert_int_equal(node_len(l), 7);
	assert_true(node_is(node_at(l, 3), NODE_INT) && node_at(l, 3)->i == INT64_MAX);
	assert_true(node_is(node_at(l, 4), NODE_NUM));
	assert_str(node_at(l, 4)->num.raw, "9223372036854775808");
	assert_str(node_at(l, 5)->num.raw, "1.50");
	assert_true(node_at(l, 6)->num.d == 1000);
	assert_null(node_at(l, 7));
	struct str s = node_str(n, "s", STR(""));
	assert_int_equal(s.n, 11);
	assert_memory_equal(s.p, "x\xc3\xa9\xf0\x9f\x98\x80\n/\0y", 11);
	assert_null(node_z(n, "s", NULL)); /* a NUL inside: not a C string */
	assert_true(
		node_bool(n, "t", false) && !node_bool(n, "f", true) && node_bool(n, "none", true));
	assert_int_equal(node_get(n, "s")->line, 2);
	assert_int_equal(node_get(n, "l")->line, 3);
	assert_int_equal(n->line, 1);
	assert_int_equal(node_int(n, "t", 7), 7);
	assert_true(node_is(node_get(n, "n"), NODE_NULL));
	assert_int_equal(node_int(parsed("{\"x\":5.0}"), "x", 7), 5);
	assert_int_equal(node_int(parsed("{\"x\":5.5}"), "x", 7), 7);
	assert_int_equal(
		node_int(node_find(parsed("{\"a\":{\"b\":{\"c\":9}}}"), "a.b"), "c", 0), 9);
	assert_null(node_find(n, "a.b"));
	assert_null(node_get(NULL, "x"));
}

static void
refused(void **state)
{
	/* Text, and a part of the message that names what is wrong and where. */
	static const struct {
		struct str text;
		const char *message;
	} rows[] = {
#define BAD(text, message) { { text, sizeof(text) - 1 }, message }
		BAD("", "ends too early"),
		BAD(" \n ", "line 2"),
		BAD("{", "ends too early"),
		BAD("[1,]", "column 4"),
		BAD("{\"a\":1,}", "follow the comma"),
		BAD("[1 2]", "',' or ']'"),
		BAD("[,1]", "expected a value"),
		BAD("{\"a\" 1}", "':'"),
		BAD("{a:1}", "double quotes"),
		BAD("{'a':1}", "double quotes"),
		BAD("NaN", "expected a value"),
		BAD("Infinity", "expected a value"),
		BAD("-Infinity", "digit"),
		BAD("nul", "expected a value"),
		BAD("True", "expected a value"),
		BAD("01", "begin with 0"),
		BAD("-01", "begin with 0"),
		BAD("+1", "expected a value"),
		BAD("1.", "ends too early"),
		BAD("1.e5", "decimal point"),
		BAD(".5", "expected a value"),
		BAD("1e", "ends too early"),
		BAD("1e+", "ends too early"),
		BAD("[1e999]", "1.8e308"),
		BAD("0x10", "more text"),
		BAD("1 2", "more text"),
		BAD("{} x", "more text"),
		BAD("[]\0", "more text"),
		BAD("\"a", "ends too early"),
		BAD("\"a\\", "ends too early"),
		BAD("\"\\x\"", "unknown escape"),
		BAD("\"\\u12g4\"", "hexadecimal"),
		BAD("\"\\ud800\"", "surrogate"),
		BAD("\"\\ud800x\"", "surrogate"),
		BAD("\"\\ud800\\ud800\"", "surrogate"),
		BAD("\"\\udc00\"", "surrogate"),
		BAD("\"a\nb\"", "control character"),
		BAD("\"a\0b\"", "control character"),
		BAD("\"\xff\"", "UTF-8"),
		BAD("\"\xc0\xaf\"", "UTF-8"),
		BAD("\"\xed\xa0\x80\"", "UTF-8"),
		BAD("\"\xe2\x82\"", "UTF-8"),
		BAD("\xef\xbb\xbf{}", "expected a value"),
		BAD("{\"a\":1,\n\"b\":2,\n\"a\":3}", "line 3: the key \"a\" occurs twice"),
		BAD("{\"a\":1,\"\\u0061\":3}", "occurs twice"),
		BAD("// x\n1", "expected a value"),
		BAD("[1,\n 2,\n x]", "line 3 column 2"),
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct node *n = &node_null;
		struct err e = { 0 };
		if (json_parse(a, rows[i].text, &n, &e) != ERR_INVALID)
			fail_msg("accepted: %s", rows[i].text.p);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text.p, e.msg,
				rows[i].message);
		assert_ptr_equal(n, &node_null);
	}
}

static void
limits(void **state)
{
	struct buf b;
	struct err e = { 0 };
	const struct node *n;
	buf_init(&b, 16 * MIB);
	for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
		buf_reset(&b);
		for (int i = 0; i < depth; i++)
			(void)buf_add_char(&b, '[');
		for (int i = 0; i < depth; i++)
			(void)buf_add_char(&b, ']');
		assert_int_equal(
			json_parse(a, buf_str(&b), &n, &e), depth > JSON_DEPTH_MAX ? ERR_LIMIT : 0);
	}
	buf_reset(&b);
	for (size_t i = 0; i <= JSON_NODES_MAX + 1; i++)
		(void)buf_add_z(&b, i ? ",1" : "[1");
	(void)buf_add_char(&b, ']');
	assert_int_equal(json_parse(a, buf_str(&b), &n, &e), ERR_LIMIT);
	buf_reset(&b);
	(void)buf_printf(&b, "%0*d", (int)JSON_NUMBER_MAX + 1, 0);
	b.p[0] = '1';
	assert_int_equal(json_parse(a, buf_str(&b), &n, &e), ERR_LIMIT);

	struct arena *small = arena_new(200);
	assert_int_equal(json_parse(small, STR("[1,2,3,4,5,6,7,8,9]"), &n, &e), ERR_LIMIT);
	arena_free(small);
	buf_fini(&b);
}

/* A duplicate among many keys, which is found by sorting. */
static void
many_keys(void **state)
{
	struct buf b;
	struct err e = { 0 };
	const struct node *n;
	buf_init(&b, MIB);
	for (int twice = 0; twice < 2; twice++) {
		buf_reset(&b);
		(void)buf_add_char(&b, '{');
		for (int i = 0; i < 5000; i++)
			(void)buf_printf(&b, "\"k%d\":%d,\n", (i * 7919) % 5000, i);
		(void)buf_printf(&b, "\"%s\":1}", twice ? "k4242" : "last");
		assert_int_equal(json_parse(a, buf_str(&b), &n, &e), twice ? ERR_INVALID : 0);
	}
	assert_string_equal(e.msg, "JSON line 5001: the key \"k4242\" occurs twice");
	assert_int_equal(node_len(n), 5001);
	buf_fini(&b);
}

/* The same random numbers in every run. */
static uint64_t seed;

static uint32_t
roll(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % n;
}

static void
random_string(struct json *j, bool is_key, size_t unique)
{
	static const char *const parts[] = { "a", "key", "\xc3\xa9", "\xf0\x9f\x98\x80", "\n", "\"",
		"\\", "\x01", "/", "\xef\xbf\xbd", " ", "\x7f" };
	char text[64];
	size_t n = 0;
	for (uint32_t i = roll(6); i > 0; i--) {
		const char *part = parts[roll(ARRAY_LEN(parts))];
		memcpy(text + n, part, strlen(part));
		n += strlen(part);
	}
	if (is_key) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%zu", unique);
		json_key_str(j, (struct str){ text, n });
	} else {
		json_str(j, (struct str){ text, n });
	}
}

static void
random_value(struct json *j, int depth)
{
	static const char *const numbers[] = { "1.5", "-0.1", "1e10", "1E-7", "123456789.125",
		"0.0", "2e+5" };
	switch (roll(depth > 6 ? 6 : 8)) {
	case 0:
		json_null(j);
		break;
	case 1:
		json_bool(j, roll(2));
		break;
	case 2:
		json_int(j, (int64_t)(seed ^ seed << 32) >> roll(64));
		break;
	case 3:
		json_raw(j, str_of(numbers[roll(ARRAY_LEN(numbers))]));
		break;
	case 4:
	case 5:
		random_string(j, false, 0);
		break;
	case 6:
		json_arr(j);
		for (uint32_t i = roll(8); i > 0; i--)
			random_value(j, depth + 1);
		json_arr_end(j);
		break;
	default:
		json_obj(j);
		for (uint32_t i = roll(40); i > 0; i -= 1 + (i > 20) * 19) {
			random_string(j, true, i);
			random_value(j, depth + 1);
		}
		json_obj_end(j);
	}
}

static void
same_as_json_c(void **state)
{
	struct buf text, again;
	buf_init(&text, MIB);
	buf_init(&again, MIB);
	for (seed = 1; seed < 3000; seed++) {
		uint64_t kept = seed;
		struct json j;
		struct err e = { 0 };
		const struct node *n = NULL;
		buf_reset(&text);
		buf_reset(&again);
		json_init(&j, &text);
		random_value(&j, 0);
		seed = kept;
		if (json_parse(a, buf_str(&text), &n, &e) != 0)
			fail_msg("%s: %s", buf_z(&text), e.msg);
		(void)buf_z(&text);
		if (!json_c_agrees(buf_str(&text), n))
			fail_msg("json-c reads this differently: %s", buf_z(&text));
		/* What was read writes the same bytes again, and an indented copy means the same.
		 */
		json_init(&j, &again);
		json_node(&j, n);
		assert_string_equal(buf_z(&again), buf_z(&text));
		buf_reset(&again);
		assert_int_equal(json_pretty(&again, n), 0);
		assert_true(node_equal(n, parsed(buf_z(&again))));
		arena_reset(a);
	}
	buf_fini(&text);
	buf_fini(&again);
}

/* One byte changed: whatever is still taken, json-c must take as well and read alike. */
static void
damaged_text_is_never_taken_alone(void **state)
{
	static const char bytes[] = "\"\\{}[],:0123456789-+.eEtfnu \n\x01\xff\x80";
	struct buf text;
	size_t taken = 0;
	buf_init(&text, MIB);
	for (seed = 1; seed < 20000; seed++) {
		uint64_t kept = seed;
		struct json j;
		const struct node *n = NULL;
		buf_reset(&text);
		json_init(&j, &text);
		random_value(&j, 3);
		text.p[roll((uint32_t)text.n)] = bytes[roll(sizeof(bytes) - 1)];
		seed = kept;
		(void)buf_z(&text);
		if (json_parse(a, buf_str(&text), &n, NULL) == 0) {
			taken++;
			if (!json_c_agrees(buf_str(&text), n))
				fail_msg("json-c reads this differently: %s", buf_z(&text));
		}
		arena_reset(a);
	}
	assert_true(taken > 1000);
	buf_fini(&text);
}

static void
writer(void **state)
{
	struct buf b;
	struct json j;
	buf_init(&b, 1000);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, "s", STR("a\"\\\n\x01\xff\xc3\xa9/"));
	json_kv_int(&j, "min", INT64_MIN);
	json_kv_arr(&j, "l");
	json_uint(&j, UINT64_MAX);
	json_double(&j, 0.1);
	json_double(&j, NAN);
	json_z(&j, NULL);
	json_arr(&j);
	json_arr_end(&j);
	json_arr_end(&j);
	json_kv_bool(&j, "b", true);
	json_kv_node(&j, "n", NULL);
	json_kv_raw(&j, "r", STR("{\"x\":1}"));
	json_obj_end(&j);
	assert_string_equal(buf_z(&b),
		"{\"s\":\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa9/\",\"min\":-9223372036854775808,"
		"\"l\":[18446744073709551615,0.1,null,null,[]],\"b\":true,\"n\":null,\"r\":{\"x\":"
		"1}}");
	assert_int_equal(j.depth, 0);
	buf_fini(&b);
}

static void
assert_canonical(const char *text, const char *want)
{
	struct buf b;
	buf_init(&b, 4000);
	assert_int_equal(json_canonical(&b, parsed(text)), 0);
	assert_string_equal(buf_z(&b), want);
	buf_fini(&b);
}

static void
canonical_numbers(void **state)
{
	/* The finite rows of RFC 8785 appendix B, then powers of two, whose gaps are uneven. */
	static const struct {
		uint64_t bits;
		const char *text;
	} rows[] = {
		{ 0x0000000000000000, "0" },
		{ 0x8000000000000000, "0" },
		{ 0x0000000000000001, "5e-324" },
		{ 0x8000000000000001, "-5e-324" },
		{ 0x7fefffffffffffff, "1.7976931348623157e+308" },
		{ 0xffefffffffffffff, "-1.7976931348623157e+308" },
		{ 0x4340000000000000, "9007199254740992" },
		{ 0xc340000000000000, "-9007199254740992" },
		{ 0x4430000000000000, "295147905179352830000" },
		{ 0x44b52d02c7e14af5, "9.999999999999997e+22" },
		{ 0x44b52d02c7e14af6, "1e+23" },
		{ 0x44b52d02c7e14af7, "1.0000000000000001e+23" },
		{ 0x444b1ae4d6e2ef4e, "999999999999999700000" },
		{ 0x444b1ae4d6e2ef4f, "999999999999999900000" },
		{ 0x444b1ae4d6e2ef50, "1e+21" },
		{ 0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7" },
		{ 0x3eb0c6f7a0b5ed8d, "0.000001" },
		{ 0x41b3de4355555553, "333333333.3333332" },
		{ 0x41b3de4355555554, "333333333.33333325" },
		{ 0x41b3de4355555555, "333333333.3333333" },
		{ 0x41b3de4355555556, "333333333.3333334" },
		{ 0x41b3de4355555557, "333333333.33333343" },
		{ 0xbecbf647612f3696, "-0.0000033333333333333333" },
		{ 0x43143ff3c1cb0959, "1424953923781206.2" },
		{ 0x3d30000000000000, "5.684341886080802e-14" },
		{ 0x0010000000000000, "2.2250738585072014e-308" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b;
		struct json j;
		double d;
		memcpy(&d, &rows[i].bits, sizeof(d));
		buf_init(&b, 100);
		json_init(&j, &b);
		json_double(&j, d);
		assert_string_equal(buf_z(&b), rows[i].text);
		assert_true(strtod(buf_z(&b), NULL) == d);
		buf_fini(&b);
	}
	assert_canonical("[1e3,1.50,-0.0,1E-7,100000000000000000000,1e21]",
		"[1000,1.5,0,1e-7,100000000000000000000,1e+21]");
	/* No double holds these: their digits stay, so that neighbours do not hash alike. */
	assert_canonical("[18446744073709551615,9007199254740993,1000000000000000000001]",
		"[18446744073709551615,9007199254740993,1000000000000000000001]");
}

static void
canonical_text(void **state)
{
	/* RFC 8785, 3.2.2 and 3.2.3. */
	assert_canonical(
		"{\"numbers\":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"
		"\"string\":\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\","
		"\"literals\":[null,true,false]}",
		"{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-"
		"27],"
		"\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
	assert_canonical("{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,"
			 "\"\\u0080\":6,\"\\u00f6\":7}",
		"{\"\\r\":2,\"1\":4,\"\xc2\x80\":6,\"\xc3\xb6\":7,\"\xe2\x82\xac\":1,"
		"\"\xf0\x9f\x98\x80\":5,"
		"\"\xef\xac\xb3\":3}");
	assert_canonical("{\"b\":{\"d\":1,\"c\":2},\"ab\":[],\"a\":{}}",
		"{\"a\":{},\"ab\":[],\"b\":{\"c\":2,\"d\":1}}");
}

static void
pretty(void **state)
{
	struct buf b;
	buf_init(&b, 1000);
	assert_int_equal(json_pretty(&b, parsed("{\"a\":[1,{}],\"b\":\"x\"}")), 0);
	assert_string_equal(buf_z(&b), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x\"\n}");
	buf_fini(&b);
	buf_init(&b, 10);
	assert_int_equal(json_pretty(&b, parsed("[1,2,3,4]")), ERR_LIMIT);
	buf_fini(&b);
}

static void
equality_and_copies(void **state)
{
	const struct node *n =
		parsed("{\"a\":[1,1.5,\"x\",null,true],\"b\":{\"c\":18446744073709551615}}");
	assert_true(node_equal(
		n, parsed("{\"b\":{\"c\":18446744073709551615},\"a\":[1,1.50,\"x\",null,true]}")));
	assert_false(node_equal(
		n, parsed("{\"b\":{\"c\":18446744073709551614},\"a\":[1,1.5,\"x\",null,true]}")));
	assert_false(node_equal(parsed("[1]"), parsed("[1,2]")));
	assert_false(node_equal(parsed("[1,2]"), parsed("[1]")));
	assert_true(node_equal(NULL, parsed("null")));
	struct arena *other = arena_new(MIB);
	const struct node *copy = node_copy(other, n);
	arena_reset(a);
	memset(arena_alloc(a, 4000), 'x', 4000);
	assert_str(node_at(node_get(copy, "a"), 1)->num.raw, "1.5");
	assert_str(node_at(node_get(copy, "a"), 2)->s, "x");
	assert_true(node_is(node_copy(other, NULL), NODE_NULL));
	arena_free(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(refused),
		cmocka_unit_test(limits),
		cmocka_unit_test(many_keys),
		cmocka_unit_test(same_as_json_c),
		cmocka_unit_test(damaged_text_is_never_taken_alone),
		cmocka_unit_test(writer),
		cmocka_unit_test(canonical_numbers),
		cmocka_unit_test(canonical_text),
		cmocka_unit_test(pretty),
		cmocka_unit_test(equality_and_copies),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
