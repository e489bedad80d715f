/* SPDX-License-Identifier: MIT
 * YAML in and out: the core schema, what is refused and how it is said, aliases and their limits,
 * and that what is written reads back as the same tree. */
#include "tree.h"

#include <stdlib.h>


static void
assert_means(const char *text, const char *json)
{
	assert_json(yaml(text), json);
}

static void
core_schema(void **state)
{
	assert_means("[true, True, TRUE, false, yes, no, on, off, y]",
		"[true,true,true,false,\"yes\",\"no\",\"on\",\"off\",\"y\"]");
	assert_means("[null, Null, ~, {a: , b}, nil]",
		"[null,null,null,{\"a\":null,\"b\":null},\"nil\"]");
	assert_means("a:\nb:\n", "{\"a\":null,\"b\":null}");
	assert_means("[0, -0, +5, 007, 0x1F, 0o17, 0b1, 1_000, 12:30, 0x, 0o8]",
		"[0,0,5,7,31,15,\"0b1\",\"1_000\",\"12:30\",\"0x\",\"0o8\"]");
	assert_means("[1.50, .5, 5., +1e3, -2.5E-3, 00.5, ., 1e, e5, 1.2.3]",
		"[1.50,0.5,5,1e3,-2.5e-3,0.5,\".\",\"1e\",\"e5\",\"1.2.3\"]");
	assert_means("[9223372036854775807, 9223372036854775808, 0x7fffffffffffffff]",
		"[9223372036854775807,9223372036854775808,9223372036854775807]");
	assert_means("['5', \"true\", '~', !!str 5, !!int '5', !!float 1.5, ! true]",
		"[\"5\",\"true\",\"~\",\"5\",5,1.5,\"true\"]");
	assert_means("{1: a, true: b, ~: c}", "{\"1\":\"a\",\"true\":\"b\",\"~\":\"c\"}");
	assert_means("{<<: {a: 1}}", "{\"<<\":{\"a\":1}}");
	assert_means("a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\\n\"}");
	assert_means("", "null");
	assert_means("# only a comment\n", "null");
	assert_means("\xef\xbb\xbf"
		     "a: 1",
		"{\"a\":1}");
	assert_means("%YAML 1.2\n---\na: \"\\0\"\n...\n", "{\"a\":\"\\u0000\"}");
}

static void
lines(void **state)
{
	const struct node *n = yaml("# x\na: 1\nb:\n  - c\n  - d: |\n      text\n    e: 5\n");
	assert_int_equal(n->line, 2);
	assert_int_equal(node_get(n, "b")->line, 4);
	assert_int_equal(node_at(node_get(n, "b"), 1)->line, 5);
	assert_int_equal(node_at(node_get(n, "b"), 1)->map.pairs[1].line, 7);
}

static void
refused(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "a: 1\na: 2", "t.yaml line 2: the key \"a\" occurs twice" },
		{ "a:\n\tb: 1", "line 2" },
		{ "a:\n\tb: 1", "spaces, not tabs" },
		{ "a: 'x", "quoted scalar" },
		{ "a: [1", "line 1" },
		{ "a: 1\nb: [1", "t.yaml line 2: " },
		{ "a: b: c", "line 1 column 5" },
		{ "a: b: c", "line 1" },
		{ "x\n---\ny", "line 2: a second document" },
		{ "[a]: b", "a key must be plain text" },
		{ "? {a: 1}\n: c", "a key must be plain text" },
		{ "a: !foo x", "unknown tag !foo" },
		{ "a: !!binary aGk=", "unknown tag" },
		{ "a: !!set {x}", "unknown tag" },
		{ "a: !!int x", "is not what its tag" },
		{ "a: !!map [x]", "is not what its tag" },
		{ "!!str a: 1", "neither a tag nor an anchor" },
		{ "a: *b", "*b has no anchor" },
		{ "a: &a [*a]", "*a has no anchor" },
		{ "a: .nan", "NaN" },
		{ "a: -.Inf", "infinity" },
		{ "a: 1e999", "1.8e308" },
		{ "a: 0xffffffffffffffff", "64 bits" },
		{ "a: 1\nb: \xff", "line 2: bytes that are not UTF-8" },
		{ "a: \x01", "line" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct node *n = &node_null;
		struct err e = { 0 };
		if (yaml_parse(a, "t.yaml", str_of(rows[i].text), &n, &e) != ERR_INVALID)
			fail_msg("accepted: %s", rows[i].text);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text, e.msg,
				rows[i].message);
		assert_ptr_equal(n, &node_null);
	}
}

static void
aliases(void **state)
{
	assert_means("a: &x {b: [1, 2]}\nc: *x\nd: &x 5\ne: *x",
		"{\"a\":{\"b\":[1,2]},\"c\":{\"b\":[1,2]},\"d\":5,\"e\":5}");
	assert_means("- &k key\n- {*k : 1}", "[\"key\",{\"key\":1}]");
}

/* Ten levels of ten aliases each would be ten thousand million values. */
static void
alias_bombs(void **state)
{
	struct buf b;
	struct err e = { 0 };
	const struct node *n;
	buf_init(&b, MIB);
	(void)buf_add_z(&b, "a0: &a0 lol\n");
	for (int i = 1; i <= 10; i++) {
		(void)buf_printf(&b, "a%d: &a%d [", i, i);
		for (int k = 0; k < 10; k++)
			(void)buf_printf(&b, "*a%d,", i - 1);
		(void)buf_add_z(&b, "]\n");
	}
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "aliases"));

	buf_reset(&b); /* few values, but long ones */
	(void)buf_printf(&b, "- &a \"%0100000d\"\n", 0);
	for (int i = 0; i < 200; i++)
		(void)buf_add_z(&b, "- *a\n");
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);

	buf_reset(&b); /* deep ones */
	(void)buf_add_z(&b, "- &a0 [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\n");
	for (int i = 1; i <= 20; i++)
		(void)buf_printf(&b, "- &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i - 1);
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "deep"));
	buf_fini(&b);
}

static void
limits(void **state)
{
	struct buf b;
	struct err e = { 0 };
	const struct node *n;
	buf_init(&b, 8 * MIB);
	for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
		buf_reset(&b);
		for (int i = 0; i < depth; i++)
			(void)buf_add_char(&b, '[');
		for (int i = 0; i < depth; i++)
			(void)buf_add_char(&b, ']');
		assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e),
			depth > JSON_DEPTH_MAX ? ERR_LIMIT : 0);
	}
	buf_reset(&b);
	for (size_t i = 0; i <= YAML_NODES_MAX; i++)
		(void)buf_add_z(&b, "- 1\n");
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);
	buf_reset(&b);
	for (size_t i = 0; i <= YAML_ANCHORS_MAX; i++)
		(void)buf_printf(&b, "- &a%zu 1\n", i);
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);
	buf_reset(&b);
	memset(buf_reserve(&b, YAML_TEXT_MAX + 1), '#', YAML_TEXT_MAX + 1);
	buf_added(&b, YAML_TEXT_MAX + 1);
	assert_int_equal(yaml_parse(a, "t.yaml", buf_str(&b), &n, &e), ERR_LIMIT);
	struct arena *small = arena_new(300);
	assert_int_equal(yaml_parse(small, "t.yaml", STR("[1,2,3,4,5,6,7,8,9,10,11,12]"), &n, &e),
		ERR_LIMIT);
	arena_free(small);
	buf_fini(&b);
}

static const struct node *
string_node(struct str s)
{
	struct node *n = arena_alloc(a, sizeof(*n));
	n->type = NODE_STR;
	n->s = arena_str(a, s);
	return n;
}

static void
assert_round_trip(const struct node *n)
{
	struct buf b;
	struct err e = { 0 };
	const struct node *back = NULL;
	buf_init(&b, MIB);
	assert_int_equal(yaml_write(&b, n), 0);
	if (yaml_parse(a, "t.yaml", buf_str(&b), &back, &e) != 0)
		fail_msg("%s: %s", buf_z(&b), e.msg);
	if (!node_equal(n, back))
		fail_msg("read back differently: %s", buf_z(&b));
	buf_fini(&b);
}

/* Strings that are something else when they are written carelessly. */
static void
strings_survive(void **state)
{
	static const struct str texts[] = {
		{ "", 0 },
		{ " ", 1 },
		{ "a", 1 },
		{ "yes", 3 },
		{ "No", 2 },
		{ "true", 4 },
		{ "null", 4 },
		{ "~", 1 },
		{ "5", 1 },
		{ "0x1f", 4 },
		{ ".5", 2 },
		{ ".nan", 4 },
		{ "1e999", 5 },
		{ "- a", 3 },
		{ "a: b", 4 },
		{ "a #b", 4 },
		{ "#a", 2 },
		{ "[a", 2 },
		{ "{a", 2 },
		{ "*a", 2 },
		{ "&a", 2 },
		{ "!a", 2 },
		{ "|", 1 },
		{ ">", 1 },
		{ "%a", 2 },
		{ "@a", 2 },
		{ "`a", 2 },
		{ "'", 1 },
		{ "\"", 1 },
		{ "\\", 1 },
		{ "a\n", 2 },
		{ "\n", 1 },
		{ "\na", 2 },
		{ "a\n\n", 3 },
		{ "a\nb", 3 },
		{ " a\nb\n", 5 },
		{ "a \nb\n", 5 },
		{ "a\n b\n", 5 },
		{ "a\tb", 3 },
		{ "\ta", 2 },
		{ "a\n\tb\n", 5 },
		{ "a\r\nb", 4 },
		{ "a\0b", 3 },
		{ "\x1b[0m", 4 },
		{ "\x7f", 1 },
		{ "\xc2\x85", 2 },
		{ "\xe2\x80\xa8", 3 },
		{ "\xef\xbb\xbf"
		  "a",
			4 },
		{ "\xf0\x9f\x98\x80", 4 },
		{ "\xc3\xa9", 2 },
		{ "---", 3 },
		{ "...", 3 },
		{ "---\n", 4 },
		{ "a\n---\nb\n", 8 },
		{ "a\n...\n", 6 },
		{ "? a", 3 },
		{ "-", 1 },
		{ "?", 1 },
		{ ":", 1 },
		{ "a:", 2 },
		{ "<<", 2 },
		{ "=", 1 },
		{ "2026-11-21", 10 },
		{ "a, b", 4 },
		{ "a]", 2 },
		{ "\xef\xbf\xbf", 3 },
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		const struct node *s = string_node(texts[i]);
		assert_round_trip(s);
		struct node_pair pair = { .key = s->s, .value = *s };
		const struct node map = { .type = NODE_MAP, .map = { &pair, 1 } };
		assert_round_trip(&map);
		const struct node items[2] = { *s, map };
		const struct node list = { .type = NODE_LIST, .list = { items, 2 } };
		assert_round_trip(&list);
	}
}

static void
trees_survive(void **state)
{
	const struct node *n = NULL;
	struct buf b;
	assert_int_equal(
		json_parse(a,
			STR("{\"a\":[],\"b\":{},\"c\":[[1,[2]],{\"d\":[{}]}],\"n\":null,\"t\":true,"
			    "\"f\":1.50,\"i\":-9223372036854775808,\"u\":18446744073709551615,"
			    "\"e\":1e-7}"),
			&n, NULL),
		0);
	assert_round_trip(n);
	buf_init(&b, 1000);
	assert_int_equal(
		yaml_write(&b, yaml("{a: {b: [1, two]}, text: \"x\\ny\\n\", mode: \"yes\"}")), 0);
	assert_string_equal(
		buf_z(&b), "a:\n  b:\n  - 1\n  - two\ntext: |\n  x\n  y\nmode: \"yes\"\n");
	buf_fini(&b);
	buf_init(&b, 10);
	assert_int_equal(yaml_write(&b, n), ERR_LIMIT);
	buf_fini(&b);
	buf_init(&b, 100);
	assert_int_equal(yaml_write(&b, string_node(STR("a\xff"))), 0);
	assert_non_null(strstr(buf_z(&b), "a\xef\xbf\xbd"));
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(core_schema),
		cmocka_unit_test(lines),
		cmocka_unit_test(refused),
		cmocka_unit_test(aliases),
		cmocka_unit_test(alias_bombs),
		cmocka_unit_test(limits),
		cmocka_unit_test(strings_survive),
		cmocka_unit_test(trees_survive),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
