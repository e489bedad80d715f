/* SPDX-License-Identifier: MIT
 * Commands through a real shelld: status, output, limits of time and size, input, background jobs, and that an effect
 * runs once whatever happens to the link. */
#include "rig.h"

static void
test_status(void **state)
{
	struct outcome o;
	rig_sh(*state, "echo out; echo err >&2; exit 3", &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.state, EXEC_DONE);
	assert_int_equal(o.st.exit_code, 3);
	assert_int_equal(o.st.signal, 0);
	assert_string_equal(buf_z(&o.out), "out\n");
	assert_string_equal(buf_z(&o.err), "err\n");
	assert_int_equal(o.st.kept_bytes, 8);
	outcome_fini(&o);

	rig_sh(*state, "kill -SEGV $$", &o);
	assert_int_equal(o.st.signal, SIGSEGV);
	assert_false(o.st.killed || o.st.timed_out || o.st.out_of_memory);
	outcome_fini(&o);
}

/* Two channels arrive in the order in which they were written, because one command waits for the other. */
static void
test_order(void **state)
{
	struct outcome o;
	rig_sh(*state, "for i in 1 2 3; do echo o$i; sleep 0.02; echo e$i >&2; sleep 0.02; done", &o);
	assert_string_equal(buf_z(&o.both), "o1\ne1\no2\ne2\no3\ne3\n");
	outcome_fini(&o);
}

static void
test_environment(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	const char *const env[] = { "A=b c", "LANG=C", NULL };
	struct exec_request q = rig_request(r, id.z, "echo \"$HOME|$A|$LANG|$LEAK|$USER|$PWD|$(id -u)|$(hostname)\"");

	q.env = env;
	rig_run(r, &q, &o);
	assert_string_equal(buf_z(&o.out), "/home/agent|b c|C||agent|/shared|1000|cell\n");
	outcome_fini(&o);

	const char *const bad[] = { "no equals sign", NULL };
	id = id_new();
	q.effect = id.z;
	q.env = bad;
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);

	id = id_new();
	q = rig_request(r, id.z, "pwd");
	q.cwd = "/tmp";
	rig_run(r, &q, &o);
	assert_string_equal(buf_z(&o.out), "/tmp\n");
	outcome_fini(&o);

	id = id_new();
	q = rig_request(r, id.z, "pwd");
	q.cwd = "nowhere";
	rig_run(r, &q, &o);
	assert_non_null(strstr(o.e.msg, "working directory /shared/nowhere"));
	outcome_fini(&o);
	/* Nothing ran, so the key is free. */
	q.cwd = NULL;
	rig_run(r, &q, &o);
	assert_string_equal(buf_z(&o.out), "/shared\n");
	outcome_fini(&o);
}

/* The whole tree goes at the timeout: a child in a session of its own, a double fork and a deaf one included. */
static void
test_timeout(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z,
		"exec 3>alive; (setsid sh -c 'while :; do echo x >&3; sleep 0.01; done' &) ; (trap '' TERM HUP INT; sleep 100) & "
		"echo begun; wait");
	int alive = rig_alive(r);

	q.timeout_ms = 300;
	rig_run(r, &q, &o);
	assert_true(o.st.timed_out);
	assert_int_equal(o.st.signal, SIGKILL);
	assert_true(o.st.duration_ms >= 300 && o.st.duration_ms < 3000);
	assert_string_equal(buf_z(&o.out), "begun\n");
	outcome_fini(&o);
	rig_expect_alive(alive);
	rig_expect_dead(alive);
}

/* What a command leaves in the background ends with it. */
static void
test_leftovers(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	int64_t began = clock_mono_ms();
	rig_sh(r, "(nohup setsid sleep 60 >/dev/null 2>&1 &); sleep 60 & echo done", &o);
	assert_string_equal(buf_z(&o.out), "done\n");
	assert_int_equal(o.st.exit_code, 0);
	assert_true(clock_mono_ms() - began < 5000);
	outcome_fini(&o);
}

static void
test_flood(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "head -c 5000000 /dev/zero | tr '\\0' a");
	struct answer x;
	struct err e = { 0 };

	q.output_max = 1000000;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.exit_code, 0);
	assert_int_equal(o.st.output_bytes, 5000000);
	assert_int_equal(o.st.kept_bytes, 1000000);
	assert_int_equal(o.out.n, 1000000);
	outcome_fini(&o);

	answer_init(&x, r);
	assert_int_equal(sandbox_spool(r->sb, "cell-1", id.z, 999990, 100, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_int_equal(x.tail.n, 10);
	assert_true(node_bool(x.head, "is_end", false));
	assert_int_equal(node_int(x.head, "kept_bytes", 0), 1000000);
	answer_fini(&x);
}

static void
test_input(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "cat; echo end");
	struct buf big;

	rig_run(r, &q, &o); /* no input asked for: empty */
	assert_string_equal(buf_z(&o.out), "end\n");
	outcome_fini(&o);

	id = id_new();
	q.effect = id.z;
	q.input = true;
	buf_init(&big, MIB);
	for (int i = 0; i < 300 * 1024; i++)
		buf_add_char(&big, (char)('a' + i % 26));
	rig_begin(r, &q, &o);
	exec_call_input(o.call, buf_str(&big));
	exec_call_input(o.call, STR(""));
	rig_finish(&o);
	assert_int_equal(o.st.exit_code, 0);
	assert_int_equal(o.out.n, big.n + 4);
	assert_memory_equal(o.out.p, big.p, big.n);
	buf_fini(&big);
	outcome_fini(&o);
}

static void
test_kill(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo ready; sleep 60");

	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	exec_call_kill(o.call);
	rig_finish(&o);
	assert_true(o.st.killed);
	assert_int_equal(o.st.signal, SIGKILL);
	assert_false(o.st.timed_out);
	outcome_fini(&o);
}

static void
test_background(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo one; sleep 60");
	struct answer x;
	struct err e = { 0 };

	q.background = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_RUNNING);
	outcome_fini(&o);
	for (;;) { /* until its first line is kept */
		answer_init(&x, r);
		assert_int_equal(sandbox_job(r->sb, "cell-1", id.z, rig_reply, &x, &e), 0);
		answer_wait(&x);
		assert_string_equal(node_z(x.head, "state", ""), "running");
		bool has_line = node_int(x.head, "kept_bytes", 0) == 4;
		answer_fini(&x);
		if (has_line)
			break;
	}
	answer_init(&x, r);
	assert_int_equal(sandbox_job_kill(r->sb, "cell-1", id.z, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_true(node_bool(x.head, "killed", false));
	assert_string_equal(node_z(x.head, "state", ""), "done");
	answer_fini(&x);
	answer_init(&x, r);
	assert_int_equal(sandbox_spool(r->sb, "cell-1", id.z, 0, 100, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_string_equal(buf_z(&x.tail), "one\n");
	answer_fini(&x);
}

enum { ASK_SPOOL, ASK_JOB, ASK_KILL, ASK_COUNT };

static void
ask(struct rig *r, int what, const char *cell, const char *effect, struct answer *x)
{
	struct err e = { 0 };
	int rc = what == ASK_SPOOL ? sandbox_spool(r->sb, cell, effect, 0, 100, rig_reply, x, &e)
		: what == ASK_JOB  ? sandbox_job(r->sb, cell, effect, rig_reply, x, &e)
				   : sandbox_job_kill(r->sb, cell, effect, rig_reply, x, &e);
	assert_int_equal(rc, 0);
	answer_wait(x);
}

/* Who knows the id of a command of another session can neither read nor end it, while it runs and after. */
static void
test_foreign_ids(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo secret; touch /shared/told; sleep 60");
	struct answer x;

	q.background = true;
	rig_run(r, &q, &o);
	outcome_fini(&o);
	rig_expect_file(r->shared, "told");
	for (int is_ended = 0; is_ended < 2; is_ended++) {
		for (int what = 0; what < ASK_COUNT; what++) {
			answer_init(&x, r);
			ask(r, what, "cell-2", id.z, &x);
			assert_int_equal(x.e.code, ERR_NOT_FOUND);
			assert_null(x.head);
			assert_int_equal(x.tail.n, 0);
			answer_fini(&x);
		}
		for (int what = 0; what < ASK_COUNT; what++) { /* the control: its own cell, which ends it at last */
			answer_init(&x, r);
			ask(r, what, "cell-1", id.z, &x);
			assert_int_equal(x.e.code, 0);
			assert_string_equal(node_z(x.head, "state", ""), is_ended || what == ASK_KILL ? "done" : "running");
			assert_string_equal(buf_z(&x.tail), what == ASK_SPOOL ? "secret\n" : "");
			answer_fini(&x);
		}
	}
}

/* The same effect never runs twice: a second call gets the output and the status of the first. */
static void
test_once(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo x >> /shared/once; echo out; echo err >&2; exit 7");

	q.only_resume = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_NOT_BEGUN);
	outcome_fini(&o);
	q.only_resume = false;
	for (int i = 0; i < 3; i++) {
		rig_run(r, &q, &o);
		assert_int_equal(o.st.state, EXEC_DONE);
		assert_int_equal(o.st.exit_code, 7);
		assert_int_equal(o.both.n, 8);
		outcome_fini(&o);
	}
	rig_sh(r, "cat /shared/once", &o);
	assert_string_equal(buf_z(&o.out), "x\n");
	outcome_fini(&o);
	sandbox_effect_forget(r->sb, id.z);
	q.only_resume = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_NOT_BEGUN);
	outcome_fini(&o);
}

/* The link breaks in the middle; the command goes on and the next runtime sees all of it. */
static void
test_new_runtime(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z,
		"echo a; while [ ! -e /shared/go ]; do sleep 0.01; done; echo b >&2; echo c; exit 4");
	char path[RIG_PATH + 8];

	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	o.stop_after = 0;
	rig_peer(r);
	assert_true(o.is_over);
	assert_int_equal(o.e.code, ERR_GONE);
	outcome_fini(&o);

	q.only_resume = true;
	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	assert_string_equal(buf_z(&o.out), "a\n"); /* from the start again */
	o.stop_after = 0;
	snprintf(path, sizeof(path), "%s/go", r->shared);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	rig_finish(&o);
	assert_int_equal(o.st.exit_code, 4);
	assert_string_equal(buf_z(&o.both), "a\nb\nc\n");
	assert_string_equal(buf_z(&o.err), "b\n");
	outcome_fini(&o);
}

/* It ended while nobody was there. */
static void
test_end_without_runtime(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo a; exit 5");
	char name[64];

	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	sandbox_free(r->sb);
	outcome_fini(&o);
	snprintf(name, sizeof(name), "%s.status", id.z);
	rig_expect_file(r->spool, name);
	r->sb = sandbox_new(r->l, rig_state, r);
	rig_peer(r);
	q.only_resume = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_DONE);
	assert_int_equal(o.st.exit_code, 5);
	assert_string_equal(buf_z(&o.out), "a\n");
	outcome_fini(&o);
}

/* shelld is killed with the command in flight: what it began is unknown, and is not run again. */
static void
test_killed_shelld(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo a; sleep 60");

	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	o.stop_after = 0;
	child_kill(r->guest, SIGKILL);
	rig_finish(&o);
	assert_int_equal(o.e.code, ERR_GONE);
	outcome_fini(&o);
	while (!r->guest_ended || r->runner != NULL)
		rig_wait(r);
	rig_spawn(r);
	rig_peer(r);
	q.only_resume = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_UNKNOWN);
	outcome_fini(&o);
	q.only_resume = false;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_UNKNOWN);
	outcome_fini(&o);
}

/* An effect from before this boot that left nothing may have run. */
static void
test_before_boot(void **state)
{
	struct outcome o;
	struct exec_request q = rig_request(*state, "00000000010000000000000000", "true");
	q.only_resume = true;
	rig_run(*state, &q, &o);
	assert_int_equal(o.st.state, EXEC_UNKNOWN);
	outcome_fini(&o);
}

static void
test_bad_requests(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, "../x", "true");
	struct cell_plan plan = r->plan;

	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);

	q = rig_request(r, id.z, "true");
	plan.shared = "relative";
	q.plan = &plan;
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);

	plan.shared = "/nonexistent-directory";
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_NOT_FOUND);
	outcome_fini(&o);

	plan.shared = r->run; /* the daemon's own */
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_DENIED);
	outcome_fini(&o);

	plan.shared = "/";
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_DENIED);
	outcome_fini(&o);

	plan = r->plan;
	plan.state = "/tmp";
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_DENIED);
	outcome_fini(&o);

	char *big = xmalloc(EXEC_COMMAND_MAX + 2);
	memset(big, 'x', EXEC_COMMAND_MAX + 1);
	big[EXEC_COMMAND_MAX + 1] = '\0';
	q = rig_request(r, id.z, big);
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);
	memset(big, ' ', EXEC_COMMAND_MAX);
	memcpy(big, "echo largest", 12);
	big[EXEC_COMMAND_MAX] = '\0';
	q = rig_request(r, id.z, big);
	rig_run(r, &q, &o);
	assert_string_equal(buf_z(&o.out), "largest\n");
	outcome_fini(&o);
	free(big);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_status, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_order, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_environment, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_timeout, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_flood, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_input, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_kill, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_background, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_foreign_ids, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_once, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_new_runtime, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_end_without_runtime, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_killed_shelld, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_before_boot, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_bad_requests, rig_setup, rig_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
