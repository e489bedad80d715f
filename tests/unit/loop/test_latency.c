/* SPDX-License-Identifier: MIT
 * What a message costs: a ping-pong between two processes, each with its own loop. Prints the
 * figures that docs/internals/loop.md quotes and fails when a round trip takes a quarter of the
 * budget of a whole exec call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"
#include "loop/wire.h"

#define ROUNDS   2000
#define BUDGET_US 1000

struct ping {
	struct loop *l;
	struct wire *w;
	int rounds;
	int64_t sent_us;
	int64_t us[ROUNDS];
};

static void
ping_send(struct ping *p)
{
	struct json *j = wire_begin(p->w, WIRE_CALL, wire_next_id(p->w));
	json_kv_z(j, "method", "session.turn");
	p->sent_us = clock_mono_us();
	wire_end(p->w, STR("{\"text\":\"hello\",\"session\":\"01hzzzzzzzzzzzzzzzzzzzzzzz\"}"), -1);
}

static int
ping_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct ping *p = arg;
	p->us[p->rounds++] = clock_mono_us() - p->sent_us;
	if (p->rounds == ROUNDS)
		loop_stop(p->l);
	else
		ping_send(p);
	return 0;
}

static int
pong_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	wire_begin(w, WIRE_RESULT, m->id);
	wire_end(w, m->tail, -1);
	return 0;
}

static void
pong_gone(void *arg, struct wire *w, const struct err *e)
{
}

static void
pong(int fd)
{
	static const struct wire_handler handler = { pong_msg, pong_gone };
	struct loop *l;
	if (loop_open(&l, NULL) != 0)
		_exit(1);
	wire_open(l, fd, ROLE_RUNTIME, ROLE_CLIENT, &handler, NULL);
	loop_run(l);
	loop_close(l);
	_exit(0);
}

static int
by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void
test_ping_pong(void **in)
{
	static const struct wire_handler handler = { ping_msg, pong_gone };
	struct ping *p = xcalloc(1, sizeof(*p));
	int fds[2], status = -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		pong(fds[1]);
	}
	close(fds[1]);
	assert_int_equal(loop_open(&p->l, NULL), 0);
	p->w = wire_open(p->l, fds[0], ROLE_CLIENT, ROLE_RUNTIME, &handler, p);
	ping_send(p);
	loop_run(p->l);
	wire_close(p->w);
	loop_close(p->l);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	qsort(p->us, ROUNDS, sizeof(p->us[0]), by_time);
	print_message("round trip between two processes: median %lld us, 99th percentile %lld us\n",
		(long long)p->us[ROUNDS / 2], (long long)p->us[ROUNDS * 99 / 100]);
	assert_true(p->us[ROUNDS / 2] < BUDGET_US);
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ping_pong) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
