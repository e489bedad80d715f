/* SPDX-License-Identifier: MIT
 * Commands on a terminal, signals, live output that holds the command back, and what a command used. */
#include "rig.h"

static struct exec_request
on_terminal(struct rig *r, const struct id *id, const char *command)
{
	struct exec_request q = rig_request(r, id->z, command);
	q.rows = 24;
	q.columns = 80;
	q.live = true;
	return q;
}

/* Runs the loop until the output ends with a text. */
static void
expect(struct outcome *o, const char *text)
{
	while (!o->is_over && strstr(buf_z(&o->both), text) == NULL) {
		o->stop_after = o->both.n + 1;
		rig_wait(o->r);
	}
	assert_non_null(strstr(buf_z(&o->both), text));
	o->stop_after = 0;
}

static void
test_terminal(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = on_terminal(r, &id, "tty; stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && ps -o tty= -p $$ >/dev/null; "
		"echo x > /dev/tty; exit 7");

	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.exit_code, 7);
	assert_string_equal(buf_z(&o.both), "/dev/pts/0\r\n24 80\r\nx\r\n");
	assert_int_equal(o.st.output_bytes, o.both.n);
	assert_int_equal(o.st.kept_bytes, 0);
	outcome_fini(&o);
}

static void
test_resize(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = on_terminal(r, &id, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done");

	rig_begin(r, &q, &o);
	expect(&o, "ready");
	exec_call_resize(o.call, 0, 70000); /* no size: nothing happens */
	exec_call_resize(o.call, 50, 132);
	rig_finish(&o);
	assert_non_null(strstr(buf_z(&o.both), "50 132"));
	outcome_fini(&o);
}

/* An interactive shell, as a person would use it: input, the interrupt key, the end of input. */
static void
test_shell(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = on_terminal(r, &id, "");

	rig_begin(r, &q, &o);
	exec_call_input(o.call, STR("cd /tmp; A=kept; stty -echo; echo be\"\"gun\n"));
	expect(&o, "begun");
	exec_call_input(o.call, STR("sh -c 'trap \"echo $((6*7))int; exit\" INT; echo sleep\"\"ing; while :; do sleep 0.02; done'\n"));
	expect(&o, "sleeping");
	exec_call_input(o.call, STR("\3"));
	expect(&o, "42int");
	exec_call_input(o.call, STR("echo $PWD-$A\n"));
	expect(&o, "/tmp-kept");
	exec_call_input(o.call, STR("echo rea\"\"ding; cat; exit 3\n")); /* a command, so that no line editor is in between */
	expect(&o, "reading");
	exec_call_input(o.call, STR(""));
	rig_finish(&o);
	assert_int_equal(o.st.exit_code, 3);
	outcome_fini(&o);
}

/* Named signals reach the foreground; a shell that ignores one goes on. */
static void
test_signals(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "trap 'echo got usr1' USR1; trap 'echo got term; exit 9' TERM; echo ready; "
		"while :; do sleep 0.02; done");

	rig_begin(r, &q, &o);
	expect(&o, "ready");
	exec_call_signal(o.call, SIGUSR1);
	expect(&o, "got usr1");
	exec_call_signal(o.call, SIGTERM);
	rig_finish(&o);
	assert_int_equal(o.st.exit_code, 9);
	assert_false(o.st.killed);
	outcome_fini(&o);

	assert_int_equal(exec_signal_parse(STR("WINCH")), 0);
	assert_int_equal(exec_signal_parse(STR("INT")), SIGINT);
	assert_null(exec_signal_name(SIGSEGV));
}

static void
test_live(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "head -c 50000000 /dev/zero; echo end >&2; exit 4");

	q.live = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.exit_code, 4);
	assert_int_equal(o.out.n, 50000000);
	assert_string_equal(buf_z(&o.err), "end\n");
	assert_int_equal(o.st.output_bytes, 50000004);
	assert_int_equal(o.st.kept_bytes, 0);
	outcome_fini(&o);
}

/* Nobody watches: the flood stops at what a pipe takes, and the kill still comes through. */
static void
test_held_back(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct answer x;
	struct id id = id_new();
	char path[RIG_PATH + 16];
	struct stat st = { 0 };
	struct exec_request q = rig_request(r, id.z, "i=0; while [ $i -lt 100 ]; do head -c 65536 /dev/zero; i=$((i+1)); "
		"echo -n x >> /shared/written; done");

	q.live = true;
	q.background = true;
	rig_run(r, &q, &o);
	assert_int_equal(o.st.state, EXEC_RUNNING);
	outcome_fini(&o);
	rig_expect_file(r->shared, "written");
	answer_init(&x, r);
	assert_int_equal(sandbox_job_kill(r->sb, "cell-1", id.z, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	assert_int_equal(x.e.code, 0);
	assert_true(node_bool(x.head, "killed", false));
	snprintf(path, sizeof(path), "%s/written", r->shared);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= 2);
	answer_fini(&x);
}

static void
test_use(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	rig_sh(r, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; head -c 3000000 /dev/zero > /shared/f; sync /shared/f", &o);
	assert_int_equal(o.st.exit_code, 0);
	assert_true(o.st.has_use);
	assert_true(o.st.user_ms + o.st.system_ms > 10);
	assert_true(o.st.memory_bytes > 500000 && o.st.memory_bytes < 100000000);
	outcome_fini(&o);

	/* Also of one that is killed, with what its children used. */
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "sh -c 'while :; do :; done' & wait");
	q.timeout_ms = 2000; /* a fortieth of a processor is enough */
	rig_run(r, &q, &o);
	assert_true(o.st.timed_out);
	assert_int_equal(o.st.signal, SIGKILL);
	assert_true(o.st.has_use);
	assert_true(o.st.user_ms + o.st.system_ms > 50);
	outcome_fini(&o);
}

/* Processor time is of the whole tree: each process alone stays below the limit. */
static void
test_cpu(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	r->plan.cpu_ms = 1000;
	rig_sh(r, "for i in 1 2 3 4; do sh -c 'while :; do :; done' & done; wait", &o);
	assert_true(o.st.out_of_cpu);
	assert_false(o.st.timed_out || o.st.killed);
	assert_true(o.st.user_ms + o.st.system_ms >= 900);
	outcome_fini(&o);

	rig_sh(r, "while :; do :; done", &o);
	assert_true(o.st.out_of_cpu);
	outcome_fini(&o);

	rig_sh(r, "sleep 1.3; echo idle is free", &o); /* the control */
	assert_false(o.st.out_of_cpu);
	assert_string_equal(buf_z(&o.out), "idle is free\n");
	outcome_fini(&o);
	r->plan.cpu_ms = 0;
}

static void
test_files(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	static const char many[] = "python3 -c 'f=[open(\"/dev/null\") for i in range(60)]' 2>&1 | tail -1; echo; ulimit -n";

	r->plan.open_files = 40;
	rig_sh(r, many, &o);
	assert_non_null(strstr(buf_z(&o.both), "Too many open files"));
	assert_non_null(strstr(buf_z(&o.both), "\n40\n"));
	outcome_fini(&o);
	rig_sh(r, "ulimit -n 4000 2>&1 || echo stays", &o);
	assert_non_null(strstr(buf_z(&o.both), "stays"));
	outcome_fini(&o);
	rig_sh(r, "ulimit -c 0 && echo set", &o); /* what holds keys ends when it cannot */
	assert_string_equal(buf_z(&o.both), "set\n");
	outcome_fini(&o);
	r->plan.open_files = 0;
	rig_sh(r, many, &o); /* the control */
	assert_null(strstr(buf_z(&o.both), "Too many"));
	outcome_fini(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_shell),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_held_back),
		cmocka_unit_test(test_use),
		cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
