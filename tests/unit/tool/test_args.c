/* SPDX-License-Identifier: MIT
 * Arguments as models write them: what is taken as it is, what is repaired, and what goes back with
 * which words. */
#include "fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "base/path.h"

/* Canonical JSON of what tool_args makes of a text, or "!" and the error. */
static const char *
args_of(struct fix *f, const char *tool, const char *text)
{
	const struct node *n;
	struct err e = { 0 };
	struct buf b;

	if (tool_args(registry_find(f->tools, str_of(tool)), str_of(text), f->a, &n, &e) != 0) {
		assert_int_equal(e.to, ERR_TO_MODEL);
		return arena_printf(f->a, "!%s", e.msg);
	}
	buf_init(&b, MIB);
	assert_int_equal(json_canonical(&b, n), 0);
	const char *out = arena_strdup(f->a, buf_str(&b));
	buf_fini(&b);
	return out;
}

static void
test_salvage(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "{\"path\":\"a\"}", "{\"hash\":false,\"path\":\"a\"}" },
		{ "  {\"path\":\"a\",}\n", "{\"hash\":false,\"path\":\"a\"}" },
		{ "{\"path\":\"a\" , \n }", "{\"hash\":false,\"path\":\"a\"}" },
		{ "```json\n{\"path\":\"a\"}\n```", "{\"hash\":false,\"path\":\"a\"}" },
		{ "```\n{\"path\":\"a\",}\n```", "{\"hash\":false,\"path\":\"a\"}" },
		{ "Here is the call: {\"path\":\"a\"} as you asked.",
			"{\"hash\":false,\"path\":\"a\"}" },
		{ "\"{\\\"path\\\":\\\"a\\\"}\"", "{\"hash\":false,\"path\":\"a\"}" },
		{ "\"{\\\"path\\\":\\\"a\\\",}\"", "{\"hash\":false,\"path\":\"a\"}" },
		{ "{\"path\":\"a\",\"hash\":\"true\"}", "{\"hash\":true,\"path\":\"a\"}" },
		{ "{\"path\":\"a\",\"hash\":null}", "{\"hash\":false,\"path\":\"a\"}" },
		{ "{\"path\":\"a{b}\\\",}\"}",
			"{\"hash\":false,\"path\":\"a{b}\\\",}\"}" }, /* braces in a string */
		{ "{\"path\":\"a\nb\"}",
			"{\"hash\":false,\"path\":\"a\\nb\"}" }, /* a raw line end in a string */
		{ "{\"path\":\"a\tb,]\",}", "{\"hash\":false,\"path\":\"a\\tb,]\"}" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(args_of(f, "stat", rows[i].text), rows[i].want);
	assert_has(args_of(f, "read", "{\"path\":\"a\",\"line\":\"12\",\"lines\":3.0}"),
		"\"line\":12,\"lines\":3");
}

/* More than one reading, or none: back to the model, with what is wrong. */
static void
test_refused(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "", "path" },
		{ "{}", "path" },
		{ "{\"path\":\"a\"", "not a JSON object" }, /* cut off: there may have been more */
		{ "{\"path\":\"a\"} {\"path\":\"b\"}", "not a JSON object" },
		{ "[\"a\"]", "not an object" },
		{ "null", "not an object" },
		{ "\"a\"", "not a JSON object" },
		{ "{'path':'a'}", "not a JSON object" },
		{ "{\"path\":\"a\",\"path\":\"b\"}", "not a JSON object" },
		{ "{\"path\":7}", "path" },
		{ "{\"pth\":\"a\"}", "pth" },
		{ "{\"path\":\"a\",\"hash\":\"maybe\"}", "hash" },
		{ "{\"path\":null}", "path" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *got = args_of(f, "stat", rows[i].text);
		assert_int_equal(got[0], '!');
		assert_has(got, "stat");
		assert_has(got, rows[i].says);
	}
	assert_has(args_of(f, "exec", "{\"command\":\"x\",\"timeout_ms\":0}"), "timeout_ms");
	assert_has(args_of(f, "exec", "{\"comand\":\"x\"}"), "command"); /* the nearest name */
	assert_has(args_of(f, "job", "{\"id\":\"x\",\"action\":\"list\"}"), "poll");
}

static void
test_defaults(void **state)
{
	struct fix *f = *state;

	assert_string_equal(args_of(f, "exec", "{\"command\":\"x\"}"),
		"{\"background\":false,\"command\":\"x\"}");
	assert_string_equal(args_of(f, "list", ""), "{\"depth\":1,\"max\":500,\"path\":\".\"}");
}

static void
test_registry(void **state)
{
	struct fix *f = *state;
	static const char *const names[] = { "read", "write", "edit", "list", "glob", "grep",
		"move", "delete", "stat", "exec", "job", "output" };

	assert_int_equal(registry_len(f->tools), ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_string_equal(registry_at(f->tools, i)->name, names[i]);
	assert_null(registry_at(f->tools, ARRAY_LEN(names)));
	assert_null(registry_find(f->tools, STR("raed")));
	assert_string_equal(registry_nearest(f->tools, STR("raed")), "read");
	assert_null(registry_nearest(f->tools, STR("telephone")));
}

/* Classes and flags that recovery and scheduling rely on. */
static void
test_tables_agree(void **state)
{
	struct fix *f = *state;

	for (size_t i = 0; i < registry_len(f->tools); i++) {
		const struct tool *t = registry_at(f->tools, i);
		struct buf b;
		struct json j;
		assert_true(t->start != NULL && t->cancel != NULL && t->text != NULL &&
			    t->result_max > 0);
		assert_int_equal(t->prepare != NULL, t->recovery == EFFECT_PROBE);
		assert_int_equal(t->recover != NULL,
			t->recovery == EFFECT_PROBE || t->recovery == EFFECT_KEYED);
		if (t->effects == TOOL_READS)
			assert_int_equal(t->recovery, EFFECT_PURE);
		if (t->effects & TOOL_WRITES)
			assert_int_not_equal(t->subject, SUBJECT_READ);
		for (const struct field *a = t->args; a->type != FIELD_END; a++)
			assert_true(a->text != NULL && a->text[0] != 0);
		buf_init(&b, MIB);
		json_init(&j, &b);
		field_schema(t->args, &j);
		const struct node *n;
		assert_int_equal(json_parse(f->a, buf_str(&b), &n, NULL), 0);
		buf_fini(&b);
	}
}

/* The manual's page has the section of each tool exactly as its table gives it. */
static void
test_manual_is_current(void **state)
{
	struct fix *f = *state;
	struct err e = { 0 };
	struct buf b;
	char *page;
	size_t n;

	if (file_read(path_clean(f->a, TEST_DATA "/../../docs/tools.md"), MIB, &page, &n, &e) != 0)
		fail_msg("%s", e.msg);
	buf_init(&b, MIB);
	tool_doc(f->tools, &b);
	struct str rest = buf_str(&b), has = { page, n };
	ptrdiff_t at = str_find(rest, STR("\n## "));
	while (at >= 0) {
		rest = str_sub(rest, (size_t)at, rest.n);
		ptrdiff_t end = str_find(str_sub(rest, 1, rest.n), STR("\n## "));
		struct str part = end < 0 ? rest : str_sub(rest, 0, (size_t)end + 1);
		if (str_find(has, part) < 0)
			fail_msg("docs/tools.md differs from the tables (make docs) at: %.*s", 200,
				part.p);
		at = end < 0 ? -1 : end + 1;
	}
	buf_fini(&b);
	free(page);
}

#define ROW(t) cmocka_unit_test_setup_teardown(t, fix_setup, fix_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = { ROW(test_salvage), ROW(test_refused),
		ROW(test_defaults), ROW(test_registry), ROW(test_tables_agree),
		ROW(test_manual_is_current) };
	return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
