/* SPDX-License-Identifier: MIT
 * Persistent shells: what they keep, that no output passes for a mark, interruption without loss of the shell, and its end. */
#include "rig.h"

static void
run(struct rig *r, const char *shell, const char *command, int64_t timeout_ms, struct outcome *o)
{
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, command);

	q.shell = shell;
	if (timeout_ms > 0)
		q.timeout_ms = timeout_ms;
	rig_run(r, &q, o);
}

static void
expect(struct rig *r, const char *shell, const char *command, int exit_code, const char *output)
{
	struct outcome o;

	run(r, shell, command, 0, &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.state, EXEC_DONE);
	assert_string_equal(buf_z(&o.both), output);
	assert_int_equal(o.st.exit_code, exit_code);
	assert_int_equal(o.st.signal, 0);
	assert_int_equal(o.st.kept_bytes, o.both.n);
	outcome_fini(&o);
}

static void
test_keeps(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	expect(r, "main", "mkdir -p 'a dir'; cd 'a dir'; A='b c'; export E=1; f() { echo \"f $1\"; }", 0, "");
	run(r, "main", "pwd; echo \"$A\"; sh -c 'echo $E'; f x; false", 0, &o);
	assert_string_equal(buf_z(&o.both), "/shared/a dir\nb c\n1\nf x\n");
	assert_int_equal(o.st.exit_code, 1);
	assert_string_equal(o.st.cwd, "/shared/a dir");
	assert_false(o.st.shell_ended);
	outcome_fini(&o);
	expect(r, "other", "pwd; echo \"[$A]\"", 0, "/shared\n[]\n");
	expect(r, "main", "echo 'it'\\''s' \"$(printf 'two\\nlines')\"\necho next; exit_code() { return 42; }; exit_code", 42,
		"it's two\nlines\nnext\n");
}

/* A syntax error is the command's, not the shell's; its words differ from shell to shell. */
static void
test_syntax(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	run(r, "main", "if then", 0, &o);
	assert_int_not_equal(o.st.exit_code, 0);
	assert_non_null(strstr(buf_z(&o.both), "yntax error"));
	outcome_fini(&o);
	run(r, "main", "echo 'unfinished", 0, &o);
	assert_int_not_equal(o.st.exit_code, 0);
	outcome_fini(&o);
	expect(r, "main", "echo fine", 0, "fine\n");
}

static void
test_terminal(void **state)
{
	struct rig *r = *state;

	expect(r, "main", "[ -t 0 ] && [ -t 1 ] && echo terminal; stty size", 0, "terminal\n50 200\n");
	/* Whatever a command does to it, the next one finds it in order. */
	expect(r, "main", "stty raw echo opost onlcr; true", 0, "");
	expect(r, "main", "printf 'a\\nb\\n'", 0, "a\nb\n");
	expect(r, "main", "exec 3>&1; echo to three >&3; exec 3>&-", 0, "to three\n");
	expect(r, "main", "exec 1>/dev/null; echo lost", 0, "");
	expect(r, "main", "exec 1>/dev/tty; echo back", 0, "back\n");
}

/* Text of an older mark, a wrong one, and what the shell traces of the real one. */
static void
test_marks(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	expect(r, "main", "printf '\\0360123456789abcdef0123456789abcdef:0123456789abcdef0123456789abcdef:0:/x\\036'; echo end", 0,
		"\0360123456789abcdef0123456789abcdef:0123456789abcdef0123456789abcdef:0:/x\036end\n");
	run(r, "main", "set -x; set -v; echo one; false", 0, &o);
	assert_int_equal(o.st.exit_code, 1);
	outcome_fini(&o);
	run(r, "main", "echo two", 0, &o);
	assert_non_null(strstr(buf_z(&o.both), "two\n"));
	assert_int_equal(o.st.exit_code, 0);
	outcome_fini(&o);
	run(r, "main", "set +x; set +v", 0, &o);
	outcome_fini(&o);
	run(r, "main", "head -c 3000000 /dev/zero | tr '\\0' '\\036'", 0, &o);
	assert_int_equal(o.st.output_bytes, 3000000);
	assert_int_equal(o.st.kept_bytes, 1 * MIB);
	outcome_fini(&o);
	expect(r, "main", "echo still", 0, "still\n");
}

static void
test_interrupt(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	expect(r, "main", "cd /tmp; K=kept", 0, "");
	run(r, "main", "sleep 1000; echo not reached", 200, &o);
	assert_true(o.st.timed_out);
	assert_int_equal(o.st.exit_code, 130);
	assert_false(o.st.shell_ended);
	assert_null(strstr(buf_z(&o.both), "reached"));
	outcome_fini(&o);
	expect(r, "main", "echo $PWD $K", 0, "/tmp kept\n");

	/* A loop of the shell's own. */
	run(r, "main", "while :; do :; done", 200, &o);
	assert_true(o.st.timed_out);
	assert_false(o.st.shell_ended);
	outcome_fini(&o);
	expect(r, "main", "echo $K", 0, "kept\n");

	/* One that ignores it is killed; the shell stays. */
	run(r, "main", "sh -c 'trap \"\" INT; while :; do sleep 0.1; done'", 200, &o);
	assert_true(o.st.timed_out);
	assert_false(o.st.shell_ended);
	assert_int_equal(o.st.exit_code, 128 + SIGKILL);
	outcome_fini(&o);
	expect(r, "main", "echo $K", 0, "kept\n");

	/* The shell itself ignores it: it goes, and the next command has a new one. */
	run(r, "main", "trap '' INT; while :; do :; done", 200, &o);
	assert_true(o.st.timed_out);
	assert_true(o.st.shell_ended);
	outcome_fini(&o);
	expect(r, "main", "echo \"[$K]\"", 0, "[]\n");
}

static void
test_exit(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	run(r, "main", "G=1; echo bye; exit 6", 0, &o);
	assert_int_equal(o.st.exit_code, 6);
	assert_true(o.st.shell_ended);
	assert_true(strncmp(buf_z(&o.both), "bye\n", 4) == 0);
	outcome_fini(&o);
	expect(r, "main", "echo \"[$G]\"", 0, "[]\n");
	run(r, "main", "kill -KILL $$", 0, &o);
	assert_int_equal(o.st.signal, SIGKILL);
	assert_true(o.st.shell_ended);
	outcome_fini(&o);
}

/* What goes on in the background lives with the shell, and dies with it. */
static void
test_background(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	int alive = rig_alive(r);

	run(r, "main", "set +m; (exec 9>/shared/alive; echo x >&9; sleep 1000) & echo started", 0, &o);
	assert_int_equal(o.st.exit_code, 0);
	outcome_fini(&o);
	rig_expect_alive(alive);
	run(r, "main", "exit", 0, &o);
	outcome_fini(&o);
	rig_expect_dead(alive);
}

/* Once only: an effect is not run again, and a second command at a time is refused. */
static void
test_once(void **state)
{
	struct rig *r = *state;
	struct outcome a, b;
	struct id id = id_new(), second = id_new();
	struct exec_request q = rig_request(r, id.z, "echo ran >> /shared/count; cat /shared/count");

	q.shell = "main";
	rig_run(r, &q, &a);
	assert_string_equal(buf_z(&a.both), "ran\n");
	outcome_fini(&a);
	rig_run(r, &q, &a);
	assert_string_equal(buf_z(&a.both), "ran\n");
	assert_string_equal(a.st.cwd, "/shared");
	outcome_fini(&a);

	q.command = STR("echo go; sleep 1000");
	q.effect = second.z;
	rig_begin(r, &q, &a);
	a.stop_after = 1;
	rig_wait(r);
	run(r, "main", "echo no", 0, &b);
	assert_int_equal(b.e.code, ERR_BUSY);
	outcome_fini(&b);
	exec_call_kill(a.call);
	rig_finish(&a);
	assert_true(a.st.killed);
	assert_false(a.st.shell_ended);
	outcome_fini(&a);
}

static void
test_limits(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	char name[16];

	for (unsigned i = 0; i < SHELLS_MAX; i++) {
		snprintf(name, sizeof(name), "limit-%u", i);
		r->plan.processes = 200; /* a cell of its own */
		run(r, name, "true", 0, &o);
		assert_int_equal(o.e.code, 0);
		outcome_fini(&o);
	}
	run(r, "one-more", "true", 0, &o);
	assert_int_equal(o.e.code, ERR_LIMIT);
	outcome_fini(&o);
	run(r, "bad name", "true", 0, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);
	/* A new plan is a new cell: its shells begin anew, the old ones end. */
	r->plan.processes = 128;
	expect(r, "limit-0", "pwd", 0, "/shared\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeps),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_exit),
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
