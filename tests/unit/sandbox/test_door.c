/* SPDX-License-Identifier: MIT
 * The door of a shelld that inherits no link: who has the token comes in, with all bytes that follow; nobody else does. */
#include "rig.h"
#include "sandbox/door.h"

#define KNOCK_MS 20000

struct state {
	struct loop *l;
	char dir[64], path[80], token[DOOR_TOKEN_SIZE];
	struct door *door;
	int came, fd;
	enum role who;
	struct child *knocker;
	int status;
	bool ended;
};

static void
on_came(void *arg, enum role who, int fd)
{
	struct state *s = arg;
	s->came++;
	s->who = who;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	loop_stop(s->l);
}

static int
setup(void **state)
{
	struct state *s = xcalloc(1, sizeof(*s));
	struct err e = { 0 };

	log_open("test", 2, LOG_ERROR, LOG_LOGFMT);
	assert_int_equal(loop_open(&s->l, &e), 0);
	snprintf(s->dir, sizeof(s->dir), "/tmp/ithaca-door-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/s", s->dir);
	door_token(s->token);
	int fd = unix_listen(s->path, 0600, &e);
	assert_true(fd >= 0);
	s->fd = -1;
	s->door = door_open(s->l, fd, s->token, on_came, s);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct state *s = *state;
	door_close(s->door);
	if (s->fd >= 0)
		close(s->fd);
	loop_close(s->l);
	rig_remove(s->dir);
	free(s);
	return 0;
}

static void
on_hangup(void *arg, int events)
{
	loop_stop(arg);
}

/* Runs the loop until the door closed this connection or wrote to it. */
static void
wait_for(struct state *s, int fd)
{
	struct timer *guard = timer_start(s->l, RIG_GUARD_MS, rig_guard, NULL);
	struct watch *w = watch_start(s->l, fd, LOOP_READ, on_hangup, s->l);
	loop_run(s->l);
	watch_close(w);
	timer_close(guard);
}

static int
say(struct state *s, const void *p, size_t n)
{
	struct err e = { 0 };
	int fd = unix_connect(s->path, &e);
	assert_true(fd >= 0);
	assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
	return fd;
}

static void
expect_turned_away(struct state *s, int fd)
{
	char byte;
	wait_for(s, fd);
	ssize_t n = recv(fd, &byte, 1, 0);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	assert_int_equal(s->came, 0);
	close(fd);
}

static void
hello(struct buf *b, enum role who, const char *token)
{
	char nonce[DOOR_TOKEN_SIZE];
	door_token(nonce);
	buf_init(b, 4096);
	door_hello_put(b, who, token, nonce);
}

static void
test_comes_in(void **state)
{
	struct state *s = *state;
	struct buf b;
	char got[16] = "";

	for (int i = 0; i < 2; i++) {
		enum role who = i == 0 ? ROLE_RUNNER : ROLE_RUNTIME;
		hello(&b, who, s->token);
		buf_add_z(&b, "what follows");
		int fd = say(s, b.p, b.n);
		wait_for(s, fd);
		while (s->came <= i)
			wait_for(s, fd);
		assert_int_equal(s->who, who);
		assert_int_equal(recv(s->fd, got, sizeof(got), 0), 12);
		assert_memory_equal(got, "what follows", 12);
		close(fd);
		buf_fini(&b);
	}
}

/* One byte after the other. */
static void
test_slowly(void **state)
{
	struct state *s = *state;
	struct buf b;
	hello(&b, ROLE_RUNNER, s->token);
	int fd = say(s, b.p, 1);
	for (size_t i = 1; i < b.n; i++) {
		struct timer *now = timer_start(s->l, 0, (loop_fn)loop_stop, s->l);
		loop_run(s->l);
		timer_close(now);
		assert_int_equal(s->came, 0);
		assert_int_equal(send(fd, b.p + i, 1, 0), 1);
	}
	wait_for(s, fd);
	assert_int_equal(s->came, 1);
	close(fd);
	buf_fini(&b);
}

static void
test_turned_away(void **state)
{
	struct state *s = *state;
	char other[DOOR_TOKEN_SIZE];
	struct buf b;
	struct json j;
	struct err e;

	door_token(other);
	hello(&b, ROLE_RUNNER, other);
	expect_turned_away(s, say(s, b.p, b.n));
	buf_fini(&b);
	memcpy(other, s->token, sizeof(other)); /* its last digit alone */
	other[DOOR_TOKEN_SIZE - 2] = other[DOOR_TOKEN_SIZE - 2] == '0' ? '1' : '0';
	hello(&b, ROLE_RUNTIME, other);
	expect_turned_away(s, say(s, b.p, b.n));
	buf_fini(&b);
	hello(&b, ROLE_CLIENT, s->token); /* has no link to shelld */
	expect_turned_away(s, say(s, b.p, b.n));
	buf_fini(&b);
	hello(&b, ROLE_RUNNER, s->token); /* a wall of bytes instead of a frame */
	memset(b.p, 0x7f, b.n);
	expect_turned_away(s, say(s, b.p, b.n));
	buf_fini(&b);
	buf_init(&b, 4096); /* another kind first */
	size_t start = wire_put_begin(&b, &j, WIRE_STOP, 0);
	assert_int_equal(wire_put_end(&b, &j, start, WIRE_STOP, STR(""), false, &e), 0);
	expect_turned_away(s, say(s, b.p, b.n));
	buf_fini(&b);
	hello(&b, ROLE_RUNNER, s->token); /* gone in the middle of it */
	int fd = say(s, b.p, b.n / 2);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	expect_turned_away(s, fd);
	buf_fini(&b);
}

/* The other end: what an earlier link left on the channel comes before the answer and is dropped. */
static void
test_knock(void **state)
{
	struct state *s = *state;
	struct err e = { 0 };
	char frame[DOOR_FRAME_MAX], rest[8] = "";
	struct door_hello h;
	struct arena *a = arena_new(MIB);
	struct buf b;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	if (pid == 0) {
		static const char old[40000] = "x";
		ssize_t n = recv(pair[1], frame, sizeof(frame), 0);
		if (n <= 0 || door_hello_parse((struct str){ frame, (size_t)n }, a, &h, &e) != n ||
			send(pair[1], old, sizeof(old), 0) != (ssize_t)sizeof(old))
			_exit(1);
		buf_init(&b, 4096);
		door_answer_put(&b, h.nonce);
		buf_add_z(&b, "rest");
		for (size_t i = 0; i < b.n; i++) /* in as many pieces as can be */
			if (send(pair[1], b.p + i, 1, 0) != 1)
				_exit(1);
		_exit(0);
	}
	assert_int_equal(door_knock(pair[0], ROLE_RUNNER, s->token, KNOCK_MS, &e), 0);
	assert_int_equal(recv(pair[0], rest, 4, MSG_WAITALL), 4);
	assert_string_equal(rest, "rest");
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	close(pair[1]);
	assert_true(door_knock(pair[0], ROLE_RUNNER, s->token, KNOCK_MS, &e) < 0);
	close(pair[0]);
	arena_free(a);
}

static bool
is_lost(void *arg, struct err *e)
{
	err_set(e, ERR_FAILED, ERR_TO_USER, "it ended");
	return false;
}

static void
test_nobody(void **state)
{
	struct err e = { 0 };
	assert_int_equal(door_reach("/tmp/ithaca-no-such-socket", ROLE_RUNNER, "", 20, NULL, NULL, &e), ERR_TIMEOUT);
	assert_int_equal(door_reach("/tmp/ithaca-no-such-socket", ROLE_RUNNER, "", KNOCK_MS, is_lost, NULL, &e), ERR_FAILED);
	assert_string_equal(e.msg, "it ended");
}

/* ---- the whole guest, listening ---- */

static void
listening_start(struct rig *r, char token[DOOR_TOKEN_SIZE])
{
	char path[RIG_PATH], file[RIG_PATH + 16];
	struct err e = { 0 };

	rig_init(r);
	rig_guest_path(path);
	assert_int_equal(mkdir(r->run, 0700), 0);
	snprintf(file, sizeof(file), "%s/token", r->run);
	door_token(token);
	assert_int_equal(file_write(file, str_of(token), 0600, &e), 0);
	char *argv[] = { path, (char *)(uintptr_t) "--listen", r->run, NULL };
	int fds[] = { -1, 2, 2 };
	struct child_spec spec = { .path = path, .argv = argv, .fds = fds, .fds_n = ARRAY_LEN(fds) };
	assert_int_equal(child_start(r->l, &spec, rig_guest_end, r, &r->guest, &e), 0);
}

static int
reach(struct rig *r, enum role who, const char *token, struct err *e)
{
	char path[RIG_PATH + 16];
	snprintf(path, sizeof(path), "%s/shelld.sock", r->run);
	return door_reach(path, who, token, KNOCK_MS, NULL, NULL, e);
}

static void
test_listening(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	char token[DOOR_TOKEN_SIZE], other[DOOR_TOKEN_SIZE], file[RIG_PATH + 16];
	struct err e = { 0 };
	struct outcome o;

	listening_start(r, token);
	int fd = reach(r, ROLE_RUNNER, token, &e);
	assert_true(fd >= 0);
	snprintf(file, sizeof(file), "%s/token", r->run);
	assert_int_equal(access(file, F_OK), -1); /* nobody finds it there afterwards */
	/* A runtime before the boot envelope is turned away: it was answered, then nothing. */
	int early = reach(r, ROLE_RUNTIME, token, &e);
	assert_true(early >= 0);
	char byte;
	assert_int_equal(recv(early, &byte, 1, 0), 0);
	close(early);
	r->runner = wire_open(r->l, fd, ROLE_RUNNER, ROLE_SHELLD, &rig_runner_handler, r);
	rig_boot(r, ",\"tier\":\"container\"");
	while (!r->is_ready)
		rig_wait(r);
	for (int i = 0; i < 2; i++) { /* a runtime, and the one after it */
		fd = reach(r, ROLE_RUNTIME, token, &e);
		assert_true(fd >= 0);
		sandbox_attach(r->sb, fd);
		for (int ups = r->ups; r->ups == ups;)
			rig_wait(r);
		assert_string_equal(sandbox_facts(r->sb)->tier, "container");
		rig_sh(r, "echo here", &o);
		assert_string_equal(buf_z(&o.out), "here\n");
		outcome_fini(&o);
	}
	rig_peer(r); /* descriptors pass as well */
	rig_sh(r, "echo here", &o);
	assert_string_equal(buf_z(&o.out), "here\n");
	outcome_fini(&o);
	door_token(other);
	assert_true(reach(r, ROLE_RUNTIME, other, &e) < 0);
	/* A new runner takes over when the old one is gone. */
	wire_close(r->runner);
	fd = reach(r, ROLE_RUNNER, token, &e);
	assert_true(fd >= 0);
	r->runner = wire_open(r->l, fd, ROLE_RUNNER, ROLE_SHELLD, &rig_runner_handler, r);
	r->is_ready = false;
	while (!r->is_ready)
		rig_wait(r);
	assert_true(r->was_adopted);
	rig_stop(r);
	assert_int_equal(r->guest_status, 0);
	free(r);
}

/* What floods a port of a machine instead of answering is given up, whatever time is left. */
static void
test_flood(void **state)
{
	char token[DOOR_TOKEN_SIZE], bytes[16 * 1024];
	struct err e = { 0 };
	int pair[2];

	door_token(token);
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		signal(SIGPIPE, SIG_IGN);
		while (write(pair[1], bytes, sizeof(bytes)) > 0) {
		}
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(door_knock(pair[0], ROLE_RUNTIME, token, 10 * KNOCK_MS, &e), ERR_PROTO);
	assert_non_null(strstr(e.msg, "does not answer"));
	close(pair[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_comes_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slowly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turned_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_knock, setup, teardown),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_listening),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
