/* SPDX-License-Identifier: MIT
 * The file tools end to end over real file operations: what a model reads, what surfaces get, and
 * what recovery finds after a crash before, in the middle of, and after each change. */
#include "fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"

static void
test_words(void **state)
{
	struct fix *f = *state;

	assert_string_equal(
		fix_run(f, "write", "{\"path\":\"src/a.c\",\"content\":\"int a;\\nint b;\\n\"}"),
		"made src/a.c (14 bytes)");
	assert_string_equal(node_z(f->facts, "path", ""), "src/a.c");
	assert_int_equal(node_int(f->facts, "size", 0), 14);
	assert_string_equal(
		fix_run(f, "write", "{\"path\":\"src/a.c\",\"content\":\"int a;\\nint b;\\n\"}"),
		"replaced src/a.c (14 bytes)");
	assert_string_equal(fix_run(f, "read", "{\"path\":\"src/a.c\"}"), "int a;\nint b;\n");
	assert_string_equal(
		fix_run(f, "edit", "{\"path\":\"src/a.c\",\"old\":\"int b\",\"new\":\"long b\"}"),
		"replaced 1 place in src/a.c, at line 2");
	assert_has(fix_run(f, "edit", "{\"path\":\"src/a.c\",\"old\":\"nothing\",\"new\":\"x\"}"),
		"old is not in src/a.c");
	assert_true(f->r.is_error);
	assert_has(fix_run(f, "list", "{}"), "src/\n");
	assert_has(fix_run(f, "list", "{\"path\":\"src\"}"), "a.c  15 bytes  20");
	assert_int_equal(node_int(f->facts, "entries", 0), 1);
	assert_string_equal(fix_run(f, "glob", "{\"pattern\":\"**/*.c\"}"), "src/a.c\n");
	assert_string_equal(fix_run(f, "glob", "{\"pattern\":\"*.zig\"}"), "[no path matches]\n");
	assert_string_equal(fix_run(f, "grep", "{\"pattern\":\"^long\"}"), "src/a.c:2:long b;\n");
	assert_string_equal(fix_run(f, "grep", "{\"pattern\":\"^long\",\"context\":1}"),
		"src/a.c-1-int a;\nsrc/a.c:2:long b;\n");
	assert_string_equal(
		fix_run(f, "grep", "{\"pattern\":\"nowhere\"}"), "[no match in 1 files]\n");
	assert_string_equal(fix_run(f, "move", "{\"path\":\"src/a.c\",\"to\":\"lib/b.c\"}"),
		"moved src/a.c to lib/b.c");
	assert_has(fix_run(f, "stat", "{\"path\":\"lib/b.c\"}"), "lib/b.c: file, 15 bytes, mode 0");
	assert_string_equal(fix_run(f, "stat", "{\"path\":\"lib/c.c\"}"), "lib/c.c does not exist");
	assert_false(f->r.is_error);
	assert_string_equal(fix_run(f, "delete", "{\"path\":\"lib\",\"recursive\":true}"),
		"deleted lib (2 entries)");
	assert_has(fix_run(f, "read", "{\"path\":\"lib/b.c\"}"), "lib/b.c does not exist");
	assert_true(f->r.is_error);
	assert_int_equal(f->r.state, EFFECT_NOT_DONE);
	assert_string_equal(node_z(f->facts, "error", ""), "not_found");
}

static void
test_read_only_mode(void **state)
{
	struct fix *f = *state;

	f->env.plan.access = CELL_READ_ONLY;
	assert_has(fix_run(f, "write", "{\"path\":\"a\",\"content\":\"x\"}"), "read_only");
	assert_true(f->r.is_error);
	assert_null(fix_get(f, "a"));
}

static void
test_read_notes(void **state)
{
	struct fix *f = *state;

	fix_put(f, "a", STR("one\ntwo\nthree\n"));
	fix_put(f, "bin", STR("ab\0cd"));
	fix_put(f, "empty", STR(""));
	fix_put(f, "latin", STR("gr\xfc\xdf\n"));
	assert_string_equal(fix_run(f, "read", "{\"path\":\"a\",\"line\":2,\"lines\":1}"),
		"two\n[lines 2-2 of 3, bytes 4-8 of 14; read on with line 3]");
	assert_string_equal(fix_run(f, "read", "{\"path\":\"a\",\"line\":3}"),
		"three\n[lines 3-3 of 3, bytes 8-14 of 14]");
	assert_string_equal(fix_run(f, "read", "{\"path\":\"a\",\"line\":4}"),
		"[nothing is there: the file has 14 bytes and 3 lines]");
	assert_has(fix_run(f, "read", "{\"path\":\"bin\"}"), "[bin is binary, 5 bytes: not shown");
	assert_string_equal(fix_run(f, "read", "{\"path\":\"empty\"}"), "[the file is empty]");
	assert_string_equal(
		fix_run(f, "read", "{\"path\":\"latin\"}"), "gr\xef\xbf\xbd\xef\xbf\xbd\n");
}

/* Pages are followed as the notes say, and give the whole file back. */
static void
read_by_notes(struct fix *f, const char *name, struct str content, int min_pages)
{
	struct buf all;
	char args[128];
	int pages = 0;

	buf_init(&all, 4 * MIB);
	snprintf(args, sizeof(args), "{\"path\":\"%s\"}", name);
	for (bool more = true; more; pages++) {
		const char *text = fix_run(f, "read", args), *note = strrchr(text, '['), *next;
		assert_false(f->r.is_error);
		assert_non_null(note);
		buf_add(&all, text, (size_t)(note - text));
		const char *line = strstr(note, "read on with line "),
			   *offset = strstr(note, "read on with offset ");
		more = line != NULL || offset != NULL;
		next = line ? line + 18 : offset ? offset + 20 : "";
		snprintf(args, sizeof(args), "{\"path\":\"%s\",\"%s\":%lld}", name,
			line ? "line" : "offset", strtoll(next, NULL, 10));
		if (offset != NULL)
			buf_truncate(&all, all.n - 1); /* the note began a line of its own */
		assert_true(pages < 100);
	}
	assert_true(pages >= min_pages);
	if (content.p[content.n - 1] != '\n')
		buf_truncate(&all, all.n - 1);
	assert_int_equal(all.n, content.n);
	assert_memory_equal(all.p, content.p, content.n);
	buf_fini(&all);
}

static void
test_read_pages(void **state)
{
	struct fix *f = *state;
	struct buf b;

	buf_init(&b, 4 * MIB);
	for (int i = 0; b.n < 200 * KIB; i++)
		buf_printf(&b,
			"line %d of a long file, gr\xc3\xbc\xc3\x9f"
			"e\n",
			i);
	fix_put(f, "long", buf_str(&b));
	read_by_notes(f, "long", buf_str(&b), 6);
	buf_reset(&b);
	while (b.n < 100 * KIB)
		buf_add_z(&b, "\xe2\x82\xac.");
	fix_put(f, "wide", buf_str(&b));
	read_by_notes(f, "wide", buf_str(&b), 3);
	buf_fini(&b);
}

static void
test_big_answers_are_cut(void **state)
{
	struct fix *f = *state;
	struct buf b;
	char name[256];

	buf_init(&b, 4 * MIB);
	for (int i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "%0150d.txt", i);
		fix_put(f, name, STR("needle\n"));
	}
	assert_has(fix_run(f, "list", "{\"max\":2000}"),
		"more bytes are not shown: list a directory below");
	assert_has(fix_run(f, "glob", "{\"pattern\":\"*.txt\",\"max\":5}"),
		"[not all is shown: more paths than max (narrow");
	assert_has(fix_run(f, "grep", "{\"pattern\":\"needle\",\"max\":3}"),
		"[not all is shown: more matches than max (narrow");
	buf_fini(&b);
}

static void
test_secrets_are_hidden_and_ids_stay(void **state)
{
	struct fix *f = *state;

	fix_put(f, "env",
		STR("API_KEY=sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD\n"
		    "id=123e4567-e89b-12d3-a456-426614174000\n"));
	static const char *const calls[][2] = { { "read", "{\"path\":\"env\"}" },
		{ "grep", "{\"pattern\":\".\"}" }, { "exec", "{\"command\":\"cat env\"}" } };
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		const char *text = fix_run(f, calls[i][0], calls[i][1]);
		assert_null(strstr(text, "abcdefghijkl"));
		assert_has(text, "[redacted]");
		assert_has(text, "123e4567-e89b-12d3-a456-426614174000");
	}
}

/* ---- recovery ---- */

struct change {
	const char *tool, *args;
	const char *before[2], *after[2]; /* contents of a and b, NULL: not there */
};
static const struct change changes[] = {
	{ "write", "{\"path\":\"a\",\"content\":\"new\"}", { "old", NULL }, { "new", NULL } },
	{ "write", "{\"path\":\"a\",\"content\":\"new\"}", { NULL, NULL }, { "new", NULL } },
	{ "edit", "{\"path\":\"a\",\"old\":\"l\",\"new\":\"L\"}", { "old", NULL },
		{ "oLd", NULL } },
	{ "delete", "{\"path\":\"a\"}", { "old", NULL }, { NULL, NULL } },
	{ "move", "{\"path\":\"a\",\"to\":\"b\"}", { "old", NULL }, { NULL, "old" } },
	{ "move", "{\"path\":\"a\",\"to\":\"b\",\"replace\":true}", { "old", "victim" },
		{ NULL, "old" } },
};

static void
set_state(struct fix *f, const char *const content[2])
{
	for (int i = 0; i < 2; i++) {
		char path[512], name[2] = { (char)('a' + i), 0 };
		snprintf(path, sizeof(path), "%s/%s", f->dir, name);
		unlink(path);
		if (content[i] != NULL)
			fix_put(f, name, str_of(content[i]));
	}
}

static void
assert_state(struct fix *f, const char *const content[2])
{
	for (int i = 0; i < 2; i++) {
		const char *got = fix_get(f, i ? "b" : "a");
		assert_int_equal(got != NULL, content[i] != NULL);
		if (got != NULL)
			assert_string_equal(got, content[i]);
	}
}

/* The link breaks before or after the change; the probe of the journal tells which, and a second
 * run ends it. */
static void
test_recovery(void **state)
{
	struct fix *f = *state;
	static const char *const odd[2] = { "someone else's", "theirs" };

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		const struct change *x = &changes[i];
		set_state(f, x->before);
		fix_call(f, x->tool, x->args);
		fix_prepare(f);
		assert_int_equal(f->prepare_err.code, 0);
		assert_state(f, x->before); /* preparing changes nothing */

		fake_fault(f->sb, FAKE_LOSE_REQUEST);
		fix_start(f);
		assert_true(f->r.is_gone);
		fix_recover(f);
		assert_int_equal(f->r.state, EFFECT_NOT_DONE);

		fake_fault(f->sb, FAKE_LOSE_ANSWER);
		fix_start(f);
		assert_true(f->r.is_gone);
		assert_state(f, x->after);
		fix_recover(f);
		assert_int_equal(f->r.state, EFFECT_DONE);
		assert_false(f->r.is_error);
		assert_has(f->r.text.p, "was found done after a restart");

		set_state(f, odd);
		fix_recover(f);
		assert_int_equal(f->r.state, EFFECT_UNKNOWN);
		assert_true(f->r.is_error);
		assert_has(f->r.text.p, "look at it");

		fake_fault(f->sb, FAKE_LOSE_REQUEST);
		fix_recover(f);
		assert_true(f->r.is_gone);
	}
}

/* The process that does it is killed: what is there says how far it came. */
static void
test_killed_operations(void **state)
{
	struct fix *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		set_state(f, changes[i].before);
		fix_call(f, changes[i].tool, changes[i].args);
		fix_prepare(f);
		fake_fault(f->sb, FAKE_KILL_BEFORE);
		fix_start(f);
		assert_int_equal(f->r.state, EFFECT_NOT_DONE);
		assert_true(f->r.is_error);
		assert_has(f->r.text.p, "was killed");
		fake_fault(f->sb, FAKE_KILL_AFTER);
		fix_start(f);
		assert_int_equal(f->r.state, EFFECT_DONE);
		assert_false(f->r.is_error);
		assert_has(f->r.text.p, "found done all the same");
	}
	fix_put(f, "a", STR("x"));
	fix_call(f, "delete", "{\"path\":\"nothing\"}");
	fix_prepare(f);
	fix_start(f);
	assert_int_equal(f->r.state, EFFECT_NOT_DONE);
	assert_true(f->r.is_error);
}

/* A file that changes between probe and edit is not edited: the probe would be wrong about it. */
static void
test_edit_is_bound_to_its_probe(void **state)
{
	struct fix *f = *state;

	fix_put(f, "a", STR("one two"));
	fix_call(f, "edit", "{\"path\":\"a\",\"old\":\"one\",\"new\":\"1\"}");
	fix_prepare(f);
	fix_put(f, "a", STR("one three"));
	fix_start(f);
	assert_true(f->r.is_error);
	assert_string_equal(fix_get(f, "a"), "one three");
}

static void
test_move_of_a_directory_recovers(void **state)
{
	struct fix *f = *state;

	fix_run(f, "write", "{\"path\":\"d/x\",\"content\":\"x\"}");
	fix_call(f, "move", "{\"path\":\"d\",\"to\":\"e\"}");
	fix_prepare(f);
	fix_recover(f);
	assert_int_equal(f->r.state, EFFECT_NOT_DONE);
	fake_fault(f->sb, FAKE_LOSE_ANSWER);
	fix_start(f);
	fix_recover(f);
	assert_int_equal(f->r.state, EFFECT_DONE);
}

static void
test_failing_prepare_is_told(void **state)
{
	struct fix *f = *state;

	fix_put(f, "a", STR("aa"));
	assert_has(fix_run(f, "edit", "{\"path\":\"a\",\"old\":\"a\",\"new\":\"b\"}"),
		"occurs 2 times");
	assert_int_equal(f->prepare_err.code, ERR_CONFLICT);
	fix_call(f, "move", "{\"path\":\"a\",\"to\":\"b\"}");
	fake_fault(f->sb, FAKE_LOSE_REQUEST);
	fix_prepare(f);
	assert_int_equal(f->prepare_err.code, ERR_GONE);
}

/* ---- the rest ---- */

static void
test_cancel(void **state)
{
	struct fix *f = *state;
	struct err e;

	fix_put(f, "a", STR("x"));
	fix_call(f, "read", "{\"path\":\"a\"}");
	assert_int_equal(f->call.tool->start(&f->call, &e), 0);
	f->call.tool->cancel(&f->call);
	fake_pump(f->sb);
	assert_int_equal(f->done, 1);
	assert_true(f->r.is_error);
	assert_string_equal(node_z(f->facts, "error", ""), "cancelled");

	/* A change that happened is told as done. */
	fix_call(f, "write", "{\"path\":\"a\",\"content\":\"y\"}");
	fix_prepare(f);
	assert_int_equal(f->call.tool->start(&f->call, &e), 0);
	f->call.tool->cancel(&f->call);
	fake_pump(f->sb);
	assert_int_equal(f->r.state, EFFECT_DONE);
	assert_string_equal(fix_get(f, "a"), "y");
}

static void
test_targets(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *tool, *args, *target, *target2;
	} rows[] = {
		{ "read", "{\"path\":\"a/../b//./c\"}", "/shared/b/c", "" },
		{ "read", "{\"path\":\"../etc/passwd\"}", "/etc/passwd", "" },
		{ "read", "{\"path\":\"/sharedx/a\"}", "/sharedx/a", "" },
		{ "list", "{}", "/shared", "" },
		{ "move", "{\"path\":\"a\",\"to\":\"/tmp/../x\"}", "/shared/a", "/x" },
		{ "exec", "{\"command\":\"ls -l\"}", "ls -l", "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_request r = { 0 };
		fix_call(f, rows[i].tool, rows[i].args);
		f->call.tool->target(f->call.args, &f->env, f->a, &r);
		assert_true(str_is(r.target, rows[i].target));
		assert_true(str_is(r.target2, rows[i].target2));
	}
}

static void
test_edit_of_too_much_is_refused(void **state)
{
	struct fix *f = *state;
	struct buf b;
	struct err e = { 0 };

	buf_init(&b, MIB);
	buf_add_z(&b, "{\"path\":\"a\",\"old\":\"");
	for (int i = 0; i < 60000; i++)
		buf_add_z(&b, "\\u0001");
	buf_add_z(&b, "\",\"new\":\"x\"}");
	fix_put(f, "a", STR("x"));
	fix_call(f, "edit", buf_z(&b));
	assert_int_equal(f->call.tool->prepare(&f->call, &e), ERR_LIMIT);
	assert_int_equal(e.to, ERR_TO_MODEL);
	assert_int_equal(f->call.tool->start(&f->call, &e), ERR_LIMIT);
	buf_fini(&b);
}

#define ROW(t) cmocka_unit_test_setup_teardown(t, fix_setup, fix_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = { ROW(test_words), ROW(test_read_only_mode),
		ROW(test_read_notes), ROW(test_read_pages), ROW(test_big_answers_are_cut),
		ROW(test_secrets_are_hidden_and_ids_stay), ROW(test_recovery),
		ROW(test_killed_operations), ROW(test_edit_is_bound_to_its_probe),
		ROW(test_move_of_a_directory_recovers), ROW(test_failing_prepare_is_told),
		ROW(test_cancel), ROW(test_targets), ROW(test_edit_of_too_much_is_refused) };
	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
