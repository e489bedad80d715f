/* SPDX-License-Identifier: MIT
 * Exec inits made ahead: one waits after a command and runs the next, one that died or has the
 * directory of another run does not, and only a few wait at a time. */
#include "rig.h"
#include "sandbox/shelld.h"

#define TRIES_MAX 20

/* ---- in a guest ---- */

static bool
is_below(pid_t pid, pid_t above)
{
	while (pid > 1 && pid != above)
		pid = rig_parent_of(pid);
	return pid == above;
}

/* What an init has as its child: the process that will be a command has the name of its init until then. Empty: no child. */
static const char *
child_of(pid_t pid, char comm[32])
{
	char name[64], text[64];

	comm[0] = '\0';
	snprintf(name, sizeof(name), "task/%d/children", (int)pid);
	if (rig_read_proc(pid, name, text, sizeof(text)))
		(void)rig_read_proc((pid_t)strtol(text, NULL, 10), "comm", comm, 32);
	return comm;
}

#define INIT "ithaca-exec\n"

/* An exec init of this guest that waits. 0: none. */
static pid_t
find_init(const struct rig *r)
{
	char comm[32];
	pid_t found = 0;
	DIR *d = opendir("/proc");

	assert_non_null(d);
	for (const struct dirent *x = readdir(d); x != NULL && found == 0; x = readdir(d)) {
		pid_t pid = (pid_t)strtol(x->d_name, NULL, 10);
		if (pid > 0 && rig_read_proc(pid, "comm", comm, sizeof(comm)) && strcmp(comm, INIT) == 0 &&
			strcmp(child_of(pid, comm), INIT) == 0 && is_below(pid, child_pid(r->guest)))
			found = pid;
	}
	closedir(d);
	return found;
}

/* Nothing tells of it. */
static pid_t
wait_init(const struct rig *r)
{
	int64_t until = clock_mono_us() + RIG_GUARD_MS * 1000ll;
	pid_t pid;

	while ((pid = find_init(r)) == 0) {
		assert_true(clock_mono_us() < until);
		poll(NULL, 0, 1);
	}
	return pid;
}

/* A command that waits for input; was it the init that waited before which runs it? */
static bool
runs_in_it(struct rig *r)
{
	struct id id = id_new();
	struct outcome o;
	struct exec_request q = rig_request(r, id.z, "echo $0 $$; read x; echo $x; exit 7");
	char comm[32];
	pid_t waits = wait_init(r);

	q.run = "turn-1";
	q.input = true;
	rig_begin(r, &q, &o);
	o.stop_after = 5;
	rig_wait(r);
	bool is_it = strcmp(child_of(waits, comm), "sh\n") == 0;
	exec_call_input(o.call, STR("line\n"));
	o.stop_after = 0;
	rig_finish(&o);
	assert_string_equal(buf_z(&o.out), "sh 2\nline\n");
	assert_int_equal(o.st.exit_code, 7);
	assert_true(o.st.has_use);
	outcome_fini(&o);
	return is_it;
}

/* One that is not ready in time stays for the command after. */
static void
test_runs_the_next(void **state)
{
	struct rig *r = *state;
	int tries = 1;

	rig_expect_in(r, "turn-1", "pwd; exit 3", "/shared\n");
	while (!runs_in_it(r))
		assert_true(++tries <= TRIES_MAX);
}

/* Many in a row: most of them go to one that waited, whatever its predecessor left. */
static void
test_many(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 20; i++) {
		rig_expect_in(r, "turn-1",
			"echo out; sleep 60 & echo /proc/[0-9]*",
			"out\n/proc/1 /proc/2 /proc/3\n");
		wait_init(r);
	}
}

static void
test_other_run(void **state)
{
	struct rig *r = *state;

	rig_expect_in(r, "turn-1", "echo one > /run/work/outbox/f", "");
	wait_init(r);
	rig_expect_in(r, "turn-2", "ls /run/work/outbox; echo two > /run/work/outbox/g", "");
	wait_init(r);
	rig_expect_in(r, "turn-1", "ls /run/work/outbox", "f\n");
}

static void
test_one_that_died(void **state)
{
	struct rig *r = *state;

	rig_expect_in(r, "turn-1", "true", "");
	pid_t pid = wait_init(r);
	AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(poll(&p, 1, RIG_GUARD_MS), 1);
	rig_expect_in(r, "turn-1", "echo fine", "fine\n");
}

/* ---- its parts ---- */

/* A cell with one that waits, whose end of the socket is *init. */
static void
fake(struct cell *c, const char *run, int *init)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fd_set_nonblock(pair[0]);
	standby_init(&c->standby);
	c->standby.control = pair[0];
	snprintf(c->standby.run, sizeof(c->standby.run), "%s", run);
	*init = pair[1];
}

static void
say(int init, enum report_kind kind)
{
	struct report r = { .kind = kind };
	assert_int_equal(report_send(init, &r, kind == REPORT_BEGUN ? 0 : -1), 0);
}

static void
test_send(void **state)
{
	static char mem[ORDER_MAX];
	struct cell c = { .state = CELL_READY };
	struct order o = { .kind = ORDER_EXEC }, got;
	int init, control = -1, pidfd = -1;

	fake(&c, "turn-1", &init);
	o.text[EXEC_TEXT_RUN] = STR("turn-1");
	assert_false(standby_send(&c, &o, &control, &pidfd)); /* it said nothing yet */
	say(init, REPORT_READY);
	assert_false(standby_send(&c, &o, &control, &pidfd)); /* nobody has its pidfd yet */
	say(init, REPORT_BEGUN);
	o.text[EXEC_TEXT_RUN] = STR("turn-2");
	assert_false(standby_send(&c, &o, &control, &pidfd));
	o.text[EXEC_TEXT_RUN] = STR("turn-1");
	assert_true(standby_send(&c, &o, &control, &pidfd));
	assert_true(control >= 0 && pidfd >= 0);
	assert_int_equal(c.standby.control, -1);
	assert_int_equal(order_recv(init, mem, &got), 1);
	assert_int_equal(got.kind, ORDER_EXEC);
	close(control);
	close(pidfd);
	close(init);
}

static void
test_useless(void **state)
{
	struct cell c = { .state = CELL_READY };
	struct order o = { .kind = ORDER_EXEC };
	int init, control, pidfd;

	o.text[EXEC_TEXT_RUN] = STR("turn-1");
	for (int i = 0; i < 2; i++) {
		fake(&c, "turn-1", &init);
		say(init, REPORT_BEGUN);
		say(init, REPORT_READY);
		if (i == 0)
			say(init, REPORT_FAILED);
		else
			close(init);
		assert_false(standby_send(&c, &o, &control, &pidfd));
		assert_int_equal(c.standby.control, -1);
		if (i == 0)
			close(init);
	}
	assert_false(standby_send(&c, &o, &control, &pidfd)); /* there is none */
}

/* The oldest go, and those of cells that nobody has used for long. */
static void
test_few(void **state)
{
	struct shelld d = { 0 };
	struct cell cells[STANDBYS_MAX + 3];
	struct err e = { 0 };
	int init[ARRAY_LEN(cells)];

	assert_int_equal(loop_open(&d.l, &e), 0);
	int64_t now = loop_now_ms(d.l);
	memset(cells, 0, sizeof(cells));
	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		struct cell *c = &cells[i];
		c->d = &d;
		c->state = CELL_READY;
		c->used_at_ms = i == 1 ? now - STANDBY_MS : now + (int64_t)i;
		c->next = d.cells;
		d.cells = c;
		fake(c, "turn-1", &init[i]);
	}
	assert_true(standbys_tend(&d));
	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		assert_int_equal(cells[i].standby.control >= 0, i >= 3);
	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		cells[i].used_at_ms = now - STANDBY_MS;
		close(init[i]);
	}
	assert_false(standbys_tend(&d));
	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		assert_int_equal(cells[i].standby.control, -1);
	loop_close(d.l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs_the_next, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_many, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_other_run, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_one_that_died, rig_setup, rig_teardown),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_useless),
		cmocka_unit_test(test_few),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
