/* SPDX-License-Identifier: MIT
 * Where user namespaces are refused: the reason is told with its fix, commands are refused, and cell-basic runs them
 * only when it was asked for. Both ways of refusing are made here: a namespace whose limit of namespaces is 0, and a
 * filter that lets clone through and denies mount, as some distributions do. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "rig.h"

#define SKIP_TEST 77
#define CROWD     200

static const char *expected_reason;

/* The daemon's files are elsewhere: cell-basic cannot hide what is below a workspace. */
static int
setup_apart(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	rig_init(r);
	rig_remove(r->hidden);
	snprintf(r->hidden, RIG_PATH, "%s/daemon", r->dir);
	rig_spawn(r);
	rig_peer(r);
	*state = r;
	return 0;
}

static void
test_refused(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	const struct sandbox_facts *f = sandbox_facts(r->sb);

	assert_int_equal(f->level, landlock_abi() >= 2 ? CELL_BASIC : CELL_NONE);
	if (strstr(f->reason, expected_reason) == NULL)
		fail_msg("reason \"%s\" does not say \"%s\"", f->reason, expected_reason);
	rig_sh(r, "echo must not run", &o);
	assert_int_equal(o.e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(o.e.msg, expected_reason));
	assert_int_equal(o.out.n, 0);
	outcome_fini(&o);
}

static void
test_basic(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	char text[RIG_PATH * 3];

	if (sandbox_facts(r->sb)->level != CELL_BASIC)
		skip();
	r->plan.allow_basic = true;
	rig_sh(r, "pwd; echo x > file && cat file; echo $HOME; touch ~/h $TMPDIR/t $XDG_CACHE_HOME/c && echo own places", &o);
	if (o.e.code != 0)
		fail_msg("%s", o.e.msg);
	snprintf(text, sizeof(text), "%s\nx\n%s/data\nown places\n", r->shared, r->state);
	assert_string_equal(buf_z(&o.out), text);
	outcome_fini(&o);

	snprintf(text, sizeof(text), "%s/outside", r->dir);
	assert_int_equal(file_write(text, STR("secret"), 0666, NULL), 0);
	rig_sh(r, "cat ../outside; echo y > ../outside; ls / ; cat /etc/shadow; cat /proc/$PPID/environ", &o);
	assert_string_equal(buf_z(&o.out), "");
	outcome_fini(&o);
	rig_sh(r, "perl -MSocket -e 'print socket(S, PF_INET, SOCK_STREAM, 0) ? \"network\" : \"none\"'", &o);
	assert_string_equal(buf_z(&o.out), "none");
	outcome_fini(&o);

	r->plan.access = CELL_READ_ONLY;
	rig_sh(r, "cat file; echo z > file 2>/dev/null || echo read-only", &o);
	assert_string_equal(buf_z(&o.out), "x\nread-only\n");
	outcome_fini(&o);
}

/* Without a process namespace the tree is ended one generation after the other. */
static void
test_basic_tree(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z,
		"exec 3>alive; (setsid sh -c 'while :; do echo x >&3; sleep 0.01; done' &); echo begun; sleep 60");
	int alive;

	if (sandbox_facts(r->sb)->level != CELL_BASIC)
		skip();
	r->plan.allow_basic = true;
	alive = rig_alive(r);
	q.timeout_ms = 400;
	rig_run(r, &q, &o);
	assert_true(o.st.timed_out);
	outcome_fini(&o);
	rig_expect_alive(alive);
	rig_expect_dead(alive);
}

/* A command kills or stops its own init, which is a process of the same user: what it started, in sessions of their own, ends all
 * the same. Another command of the cell is no orphan. */
static void
expect_ends(struct rig *r, const char *what)
{
	struct id id = id_new(), other = id_new();
	char text[300];
	struct outcome o, beside;
	struct exec_request q = rig_request(r, other.z, "echo begun; read x; echo $x");
	int alive = rig_alive(r);

	q.input = true;
	rig_begin(r, &q, &beside);
	beside.stop_after = 1;
	while (beside.out.n == 0 && !beside.is_over)
		rig_wait(r);
	snprintf(text, sizeof(text), "exec 3>alive; (setsid sh -c 'setsid sh -c \"while :; do echo x >&3; sleep 0.01; done\" & wait' &);"
		"while :; do echo y >&3; sleep 0.01; %s; done", what);
	q = rig_request(r, id.z, text);
	q.timeout_ms = 400;
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.signal, SIGKILL);
	outcome_fini(&o);
	rig_expect_alive(alive);
	rig_expect_dead(alive);
	exec_call_input(beside.call, STR("over\n"));
	rig_finish(&beside);
	assert_string_equal(buf_z(&beside.out), "begun\nover\n");
	outcome_fini(&beside);
}

static void
test_init_killed(void **state)
{
	static const char *const attempts[] = { "kill -9 $PPID", "kill -STOP $PPID", ":" };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		r->plan.access = CELL_HOST;
		expect_ends(r, attempts[i]);
		r->plan.access = CELL_WORKSPACE_WRITE;
		r->plan.allow_basic = true;
		if (sandbox_facts(r->sb)->level == CELL_BASIC)
			expect_ends(r, attempts[i]);
	}
}

/* What else the user runs is no reason for a command to fail, and what the cell runs is counted all the same. */
static void
test_basic_processes(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	pid_t others[CROWD];

	if (sandbox_facts(r->sb)->level != CELL_BASIC)
		skip();
	r->plan.allow_basic = true;
	r->plan.processes = 24;
	rig_sh(r, "echo the cell is made", &o);
	outcome_fini(&o);
	for (size_t i = 0; i < CROWD; i++) {
		others[i] = fork();
		if (others[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	rig_sh(r, "(echo fork)", &o);
	assert_string_equal(buf_z(&o.out), "fork\n");
	outcome_fini(&o);
	for (size_t i = 0; i < CROWD; i++) {
		kill(others[i], SIGKILL);
		waitpid(others[i], NULL, 0);
	}
	rig_sh(r, "i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); done; wait", &o);
	if (sandbox_facts(r->sb)->limits == LIMITS_SOFT)
		assert_true(o.st.out_of_processes);
	assert_true(o.st.signal != 0 || o.err.n > 0); /* or: Cannot fork */
	outcome_fini(&o);
	rig_sh(r, "echo next", &o);
	assert_string_equal(buf_z(&o.out), "next\n");
	outcome_fini(&o);
}

/* The daemon's files below the workspace cannot be hidden there. */
static void
test_basic_hidden(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	if (sandbox_facts(r->sb)->level != CELL_BASIC)
		skip();
	r->plan.allow_basic = true;
	rig_sh(r, "echo must not run", &o);
	assert_int_equal(o.e.code, ERR_UNSUPPORTED);
	outcome_fini(&o);
}

static void
test_basic_file(void **state)
{
	struct rig *r = *state;
	struct answer x;
	struct err e = { 0 };
	struct file_request q = { .cell = "cell-1", .plan = &r->plan, .op = "write", .params = STR("{\"path\":\"a\"}"),
		.content = STR("content") };

	if (sandbox_facts(r->sb)->level != CELL_BASIC)
		skip();
	r->plan.allow_basic = true;
	answer_init(&x, r);
	assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &e), 0);
	answer_wait(&x);
	if (x.e.code != 0)
		fail_msg("%s", x.e.msg);
	answer_fini(&x);
}

static void
without_namespaces(void)
{
	if (!rig_own_users() || rig_put("/proc/sys/user/max_user_namespaces", "0\n") != 0)
		_exit(SKIP_TEST);
	expected_reason = "user.max_user_namespaces";
}

static void
without_mount(void)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = ARRAY_LEN(code), .filter = (struct sock_filter *)(uintptr_t)code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		_exit(SKIP_TEST);
	expected_reason = "mount";
}

static int
run(const char *name, void (*prepare)(void))
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_basic, setup_apart, rig_teardown),
		cmocka_unit_test_setup_teardown(test_basic_tree, setup_apart, rig_teardown),
		cmocka_unit_test_setup_teardown(test_init_killed, setup_apart, rig_teardown),
		cmocka_unit_test_setup_teardown(test_basic_processes, setup_apart, rig_teardown),
		cmocka_unit_test_setup_teardown(test_basic_hidden, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_basic_file, setup_apart, rig_teardown),
	};
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		prepare();
		exit(cmocka_run_group_tests_name(name, tests, NULL, NULL));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_TEST)
		print_message("SKIP: %s cannot be arranged here\n", name);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int
main(void)
{
	int a = run("no user namespaces", without_namespaces), b = run("no mounts", without_mount);
	return a == SKIP_TEST && b == SKIP_TEST ? SKIP_TEST : (a % SKIP_TEST) | (b % SKIP_TEST);
}
