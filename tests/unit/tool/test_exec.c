/* SPDX-License-Identifier: MIT
 * exec, job and output over a real shell: how ends are told, how long output is cut and read on,
 * and that a command of one key never runs twice, whatever breaks. */
#include "fixture.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "tool/internal.h"

static void
test_ends(void **state)
{
	struct fix *f = *state;

	const char *text = fix_run(f, "exec", "{\"command\":\"echo out; echo err >&2\"}");
	assert_int_equal(strncmp(text, "out\nerr\n[exit 0, ", 17), 0);
	assert_false(f->r.is_error);
	assert_int_equal(f->r.state, EFFECT_DONE);
	assert_int_equal(node_int(f->facts, "exit", -1), 0);
	assert_int_equal(f->live_bytes, 8);
	assert_has(fix_run(f, "exec", "{\"command\":\"exit 3\"}"), "[exit 3, ");
	assert_true(f->r.is_error);
	assert_int_equal(f->r.state, EFFECT_DONE);
	assert_int_equal(node_int(f->facts, "exit", -1), 3);
	assert_has(fix_run(f, "exec", "{\"command\":\"kill -TERM $$\"}"),
		"[killed by signal 15 SIGTERM, ");
	assert_null(node_get(f->facts, "exit"));
	assert_has(fix_run(f, "exec",
			   "{\"command\":\"echo begun; exec sleep 600\",\"timeout_ms\":300}"),
		"begun\n[killed by signal 9 SIGKILL, ");
	assert_has(f->r.text.p, "ran into timeout_ms");
	assert_true(node_bool(f->facts, "timed_out", false));
	assert_has(fix_run(f, "exec", "{\"command\":\"printf '\\\\377\\\\376x'\"}"),
		"\xef\xbf\xbd\xef\xbf\xbdx\n[exit 0");
}

static void
test_request(void **state)
{
	struct fix *f = *state;

	fix_run(f, "exec", "{\"command\":\"true\"}");
	assert_int_equal(fake_last_exec(f->sb)->timeout_ms, 120000);
	assert_string_equal(fake_last_exec(f->sb)->cwd, "/shared");
	fix_run(f, "exec", "{\"command\":\"true\",\"background\":true,\"cwd\":\"/tmp\"}");
	assert_int_equal(fake_last_exec(f->sb)->timeout_ms, 3600000);
	assert_string_equal(fake_last_exec(f->sb)->cwd, "/tmp");
	assert_true(fake_last_exec(f->sb)->background);
}

/* What is in the outbox when a command ended is told with its end, in a line that no name can leave, and bounded. */
static void
test_outbox(void **state)
{
	struct fix *f = *state;

	f->env.work = f->dir;
	fake_outbox(f->sb, true);
	assert_has(fix_run(f, "exec", "{\"command\":\"mkdir outbox outbox/d; echo abc > outbox/d/t.txt; printf 'PK\\\\003\\\\004' > 'outbox/a\nb'; "
				       "ln -s / outbox/l; echo out\"}"),
		"ms]\n[in the outbox, for the user when the turn ends: \"a\\nb\" application/zip 4 bytes, \"d/t.txt\" text/plain 4 bytes, "
		"\"l\" (link: not kept)]");
	assert_true(node_bool(f->facts, "outbox", false));
	assert_false(f->r.is_error);
	fix_run(f, "exec", "{\"command\":\"cd outbox; for i in 1 2 3 4 5 6 7 8 9; do : > f$i; : > g$i; done; exit 3\"}");
	assert_has(f->r.text.p, "\"f9\" text/plain 0 bytes, ");
	assert_has(f->r.text.p, ", and more]");
	assert_true(f->r.is_error);
	fix_run(f, "exec", "{\"command\":\"cd outbox; rm -r *; for i in $(seq 200); do : > $(printf '%0200d' $i); done; seq 100000\"}");
	assert_true(f->r.text.n <= TOOL_RESULT_MAX);
	assert_has(f->r.text.p, "0000\" text/plain 0 bytes, ");
	assert_has(f->r.text.p, ", and more]");
	fix_run(f, "exec", "{\"command\":\"rm -r outbox\"}");
	assert_has(f->r.text.p, "outbox does not exist");
	fix_run(f, "exec", "{\"command\":\"mkdir outbox; echo x > outbox/x\"}");
	assert_has(f->r.text.p, "\"x\" text/plain 2 bytes]");
	fake_outbox(f->sb, false);
	fix_run(f, "exec", "{\"command\":\"true\"}");
	assert_null(strstr(f->r.text.p, "outbox"));
	assert_null(node_get(f->facts, "outbox"));
	fix_run(f, "exec", "{\"command\":\"true\",\"background\":true}"); /* it may yet leave something */
	assert_true(node_bool(f->facts, "outbox", false));
}

/* A session runs where its shell is, and what a model reads is what a terminal would show. */
static void
test_session(void **state)
{
	struct fix *f = *state;

	fix_run(f, "exec", "{\"command\":\"true\",\"session\":\"main\"}");
	assert_string_equal(fake_last_exec(f->sb)->shell, "main");
	assert_null(fake_last_exec(f->sb)->cwd);
	assert_has(fix_run(f, "exec",
			   "{\"session\":\"main\",\"command\":\"printf '\\\\033[1;31mred\\\\033[0m 10%%\\\\r50%%\\\\r\\\\n"
			   "\\\\033]0;title\\\\007n\\\\bname\\\\033(B ok'\"}"),
		"50%\nname ok\n[exit 0");
	/* Without one nothing is changed, and no shell is asked for. */
	assert_has(fix_run(f, "exec", "{\"command\":\"printf 'a\\\\033[1mb'\"}"), "a\033[1mb");
	assert_null(fake_last_exec(f->sb)->shell);
}

static void
test_terminal_text(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "plain\ttext\n", "plain\ttext\n" }, { "a\r\nb\r\r\n", "a\nb\n" }, { "old\rnew", "new" },
		{ "last\r", "last" }, { "\b\bx", "x" }, { "\xc3\xa9\be", "e" }, { "line\n\b\bx", "line\nx" },
		{ "\033", "" }, { "\033[", "" }, { "\033[12;3", "" }, { "\033]0;never ends\nnext", "\nnext" },
		{ "\033]8;;http://x\033\\link\033]8;;\033\\", "link" }, { "\033P1$r0m\033\\x", "x" },
		{ "\033[?2004h$ \033[?2004l", "$ " }, { "\033=\033>\0337\0338x", "x" }, { "a\177\001b", "ab" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena *a = arena_new(MIB);
		struct str s = text_terminal(a, str_of(rows[i].in));
		assert_true(str_is(s, rows[i].out));
		arena_free(a);
	}
	(void)f;
}

/* A failed command that met words of a wall is told what the cell is; any other is not. */
static void
test_walls(void **state)
{
	struct fix *f = *state;

	assert_has(fix_run(f, "exec", "{\"command\":\"echo touch: Read-only file system >&2; exit 1\"}"), "this cell: mode ");
	assert_has(f->r.text.p, "no network");
	assert_null(strstr(fix_run(f, "exec", "{\"command\":\"echo Read-only file system\"}"), "this cell"));
	assert_null(strstr(fix_run(f, "exec", "{\"command\":\"echo no such thing; exit 1\"}"), "this cell"));
}

/* The start and the end are shown; what the note names gives the rest, and nothing is lost between
 * them. */
static void
test_long_output(void **state)
{
	struct fix *f = *state;
	char args[128];
	struct buf all, expected;

	const char *text = fix_run(f, "exec",
		"{\"command\":\"i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done\"}");
	assert_int_equal(strncmp(text, "line 0\nline 1\n", 14), 0);
	assert_has(text, "line 19998\nline 19999\n[exit 0, ");
	const char *note = strstr(text, "[... the output has ");
	assert_non_null(note);
	assert_has(note, f->effect);
	assert_true(strlen(text) > TOOL_RESULT_MAX * 3 / 4);

	buf_init(&all, MIB);
	buf_add(&all, text, (size_t)(note - text));
	long long offset = strtoll(strstr(note, "\"offset\": ") + 10, NULL, 10);
	assert_int_equal(offset, all.n);
	snprintf(args, sizeof(args), "{\"handle\":\"%s\",\"offset\":%lld}", f->effect, offset);
	for (int pages = 0; pages < 20; pages++) {
		text = fix_run(f, "output", args);
		assert_false(f->r.is_error);
		note = strrchr(text, '[');
		buf_add(&all, text, (size_t)(note - text));
		if (strstr(note, "read on with offset ") == NULL)
			break;
		snprintf(args, sizeof(args), "{\"handle\":\"effect-1\",\"offset\":%lld}",
			strtoll(strstr(note, "read on with offset ") + 20, NULL, 10));
	}
	buf_init(&expected, MIB);
	for (int i = 0; i < 20000; i++)
		buf_printf(&expected, "line %d\n", i);
	assert_int_equal(all.n, expected.n);
	assert_memory_equal(all.p, expected.p, expected.n);
	buf_fini(&all);
	buf_fini(&expected);
}

/* Just as long as fits, one line more, and everything between the windows. */
static void
test_output_sizes(void **state)
{
	struct fix *f = *state;
	char args[128];

	for (int lines = 3000; lines < 5200; lines += 100) {
		snprintf(args, sizeof(args), "{\"command\":\"yes 123456789 | head -n %d\"}", lines);
		const char *text = fix_run(f, "exec", args);
		bool cut = strstr(text, "[... the output has ") != NULL;
		assert_int_equal(cut, lines * 10 > (int)TOOL_RESULT_MAX - 1024);
		int64_t shown = 0;
		for (const char *p = text; (p = strstr(p, "123456789\n")) != NULL; p += 10)
			shown++;
		if (!cut)
			assert_int_equal(shown, lines);
		else
			assert_true(shown > 2800 && shown < lines);
	}
}

/* One line without end: cut on bytes; invalid bytes grow to three and still fit. */
static void
test_output_without_lines(void **state)
{
	struct fix *f = *state;

	assert_has(fix_run(f, "exec", "{\"command\":\"head -c 200000 /dev/zero | tr '\\\\0' x\"}"),
		"the output has 200000 bytes");
	assert_has(fix_run(f, "exec",
			   "{\"command\":\"head -c 60000 /dev/zero | tr '\\\\0' '\\\\377'\"}"),
		"the output has 60000 bytes");
	assert_true(f->r.text.n > TOOL_RESULT_MAX / 2);
}

/* A page never starts in the middle of a line: the half of a key is no key to any filter. */
static void
test_pages_start_at_lines(void **state)
{
	struct fix *f = *state;

	fix_run(f, "exec",
		"{\"command\":\"echo first; echo "
		"API_KEY=sk-proj-abcdefghijklmnopqrstuvwxyz0123456789; echo last\"}");
	for (int offset = 0; offset < 60; offset++) {
		char args[128];
		snprintf(args, sizeof(args), "{\"handle\":\"effect-1\",\"offset\":%d}", offset);
		assert_null(strstr(fix_run(f, "output", args), "0123456789"));
	}
	assert_has(
		fix_run(f, "output", "{\"handle\":\"nothing\"}"), "no command has the id nothing");
	assert_true(f->r.is_error);
}

/* ---- crashes ---- */

static void
test_recover(void **state)
{
	struct fix *f = *state;

	fix_call(f, "exec", "{\"command\":\"echo x >>ran; echo done\"}");
	fake_fault(f->sb, FAKE_LOSE_REQUEST);
	fix_start(f);
	assert_true(f->r.is_gone);
	fix_recover(f);
	assert_int_equal(f->r.state, EFFECT_NOT_DONE);
	assert_null(fix_get(f, "ran"));

	fake_fault(f->sb, FAKE_LOSE_ANSWER);
	fix_start(f);
	assert_true(f->r.is_gone);
	fix_recover(f);
	assert_int_equal(f->r.state, EFFECT_DONE);
	assert_int_equal(strncmp(f->r.text.p, "done\n[exit 0", 12), 0);
	fix_recover(f);
	assert_string_equal(fix_get(f, "ran"), "x\n");
	assert_int_equal(fake_started(f->sb), 1);

	fake_status(f->sb, f->effect)->state = EXEC_UNKNOWN;
	fix_recover(f);
	assert_int_equal(f->r.state, EFFECT_UNKNOWN);
	assert_true(f->r.is_error);
	assert_has(f->r.text.p, "how it ended is not known");
}

static void
test_cancel(void **state)
{
	struct fix *f = *state;
	struct err e;

	fix_call(f, "exec", "{\"command\":\"sleep 600\"}");
	assert_int_equal(f->call.tool->start(&f->call, &e), 0);
	f->call.tool->cancel(&f->call);
	f->call.tool->cancel(&f->call);
	fake_pump(f->sb);
	assert_int_equal(f->done, 1);
	assert_int_equal(f->r.state, EFFECT_DONE);
	assert_has(f->r.text.p, "killed on request");
	assert_true(node_bool(f->facts, "killed", false));
}

static void
test_jobs(void **state)
{
	struct fix *f = *state;

	assert_has(fix_run(f, "exec", "{\"command\":\"echo one; echo two\",\"background\":true}"),
		"[running in the background as job effect-1: job {\"id\": \"effect-1\"}]");
	assert_string_equal(node_z(f->facts, "job", ""), "effect-1");
	const char *text = fix_run(f, "job", "{\"id\":\"effect-1\"}");
	assert_int_equal(strncmp(text, "one\ntwo\n[job ended: exit 0, ", 28), 0);
	assert_int_equal(node_int(f->facts, "next", 0), 8);
	assert_int_equal(node_int(node_get(f->facts, "job"), "exit", -1), 0);
	text = fix_run(f, "job", "{\"id\":\"effect-1\",\"offset\":8}");
	assert_int_equal(strncmp(text, "[job ended: ", 12), 0);
	assert_null(strstr(text, "cpu_time"));
	fake_status(f->sb, "effect-1")->out_of_cpu = true;
	assert_has(fix_run(f, "job", "{\"id\":\"effect-1\"}"), "cpu_time: it used all the processor time");
	assert_has(fix_run(f, "job", "{\"id\":\"effect-1\",\"action\":\"kill\"}"),
		"killed on request");
	assert_has(fix_run(f, "job", "{\"id\":\"none\"}"), "no command has the id none");
	assert_true(f->r.is_error);
	fix_call(f, "job", "{\"id\":\"effect-1\"}");
	fake_fault(f->sb, FAKE_LOSE_ANSWER);
	fix_start(f);
	assert_true(f->r.is_gone);
}

#define ROW(t) cmocka_unit_test_setup_teardown(t, fix_setup, fix_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = { ROW(test_ends), ROW(test_request), ROW(test_outbox), ROW(test_session),
		ROW(test_terminal_text), ROW(test_walls),
		ROW(test_long_output), ROW(test_output_sizes), ROW(test_output_without_lines),
		ROW(test_pages_start_at_lines), ROW(test_recover), ROW(test_cancel),
		ROW(test_jobs) };
	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
