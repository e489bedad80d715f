/* SPDX-License-Identifier: MIT
 * The role in a process of its own, with a runner and a runtime that live in the test. The key is
 * looked for in every error, where it must not be. */
#ifndef TEST_WORLD_H
#define TEST_WORLD_H

#include <signal.h>
#include <sys/wait.h>
#include "broker/broker.h"
#include "server.h"

#define KEY "sk-test-0123456789abcdef"

struct call {
	struct world *w;
	struct fetch *f;
	int status, ends;
	struct str_copy {
		char z[2000];
	} headers;
	size_t body_n;
	char body[200]; /* its beginning */
	struct err e;
	bool cancel_on_data;
	size_t stop_at; /* bytes of body after which the loop stops */
};

struct world {
	struct loop *l;
	struct server server;
	pid_t pid;
	struct wire *runner; /* our end of the broker's link to the runner */
	int runner_gone;
	char ready[600];
	struct err fault;
	struct broker *broker;
	struct timer *guard;
	int ups, closed_port;
};

/* ---- the runner's side ---- */

static int
runner_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct world *x = arg;
	if (m->kind == WIRE_READY) {
		struct buf b;
		buf_init(&b, 600);
		json_canonical(&b, m->head);
		snprintf(x->ready, sizeof(x->ready), "%s", buf_z(&b));
		buf_fini(&b);
	} else if (m->kind == WIRE_FAULT) {
		wire_err(m->head, &x->fault);
	}
	return 0;
}

static void
runner_gone(void *arg, struct wire *w, const struct err *e)
{
	struct world *x = arg;
	x->runner = NULL;
	x->runner_gone++;
	loop_stop(x->l);
}

static const struct wire_handler runner_handler = { runner_msg, runner_gone };

static void
hangs(void *arg)
{
	fatal("the test waited for something that did not happen");
}

static void
on_up(void *arg)
{
	((struct world *)arg)->ups++;
}

/* What the test boots the role with: appends the envelope. */
typedef void (*envelope_fn)(struct world *x, struct buf *b);

static void
send_boot(struct world *x, envelope_fn write)
{
	struct buf b;
	buf_init(&b, 64 * KIB);
	write(x, &b);
	wire_begin(x->runner, WIRE_BOOT, 0);
	assert_int_equal(wire_end(x->runner, buf_str(&b), -1), 0);
	buf_fini(&b);
}

/* A new link for a runtime; our end comes back. */
static int
send_peer(struct world *x, const char *role)
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	struct json *j = wire_begin(x->runner, WIRE_PEER, 0);
	json_kv_z(j, "role", role);
	wire_end(x->runner, STR(""), fds[1]);
	close(fds[1]);
	return fds[0];
}

static int
free_port(void)
{
	struct server s = { 0 };
	server_listen(&s);
	close(s.listen_fd);
	return s.port;
}

/* script NULL: there is no server. */
static struct world *
world_with(server_script script, envelope_fn write)
{
	struct world *x = xcalloc(1, sizeof(*x));
	int fds[2];

	server_listen(&x->server);
	x->closed_port = free_port();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	x->pid = fork();
	if (x->pid == 0) {
		close(fds[0]);
		close(x->server.listen_fd);
		_exit(broker_main(fds[1]));
	}
	close(fds[1]);
	if (script != NULL)
		server_start(&x->server, script);
	assert_int_equal(loop_open(&x->l, NULL), 0);
	x->guard = timer_start(x->l, 30000, hangs, x);
	x->runner = wire_open(x->l, fds[0], ROLE_RUNNER, ROLE_BROKER, &runner_handler, x);
	x->broker = broker_new(x->l, on_up, x);
	send_boot(x, write);
	broker_attach(x->broker, send_peer(x, "runtime"));
	assert_true(broker_is_up(x->broker));
	return x;
}

static int
wait_broker(struct world *x)
{
	int status = -1;
	if (x->pid > 0)
		assert_int_equal(waitpid(x->pid, &status, 0), x->pid);
	x->pid = 0;
	return status;
}

static void
world_free(struct world *x)
{
	broker_free(x->broker);
	wire_close(x->runner);
	wait_broker(x);
	server_stop(&x->server);
	timer_close(x->guard);
	loop_close(x->l);
	free(x);
}

/* ---- calls ---- */

static void
on_head(void *arg, int status, struct str headers)
{
	struct call *c = arg;
	assert_int_equal(c->status, 0);
	c->status = status;
	snprintf(c->headers.z, sizeof(c->headers.z), "%.*s", STR_FMT(headers));
}

static void
on_data(void *arg, struct str bytes)
{
	struct call *c = arg;
	for (size_t i = 0; i < bytes.n && c->body_n + i < sizeof(c->body) - 1; i++)
		c->body[c->body_n + i] = bytes.p[i];
	c->body_n += bytes.n;
	if (c->cancel_on_data) {
		fetch_cancel(c->f);
		loop_stop(c->w->l);
	}
	if (c->stop_at > 0 && c->body_n >= c->stop_at)
		loop_stop(c->w->l);
}

static void
on_end(void *arg)
{
	struct call *c = arg;
	c->ends++;
	loop_stop(c->w->l);
}

static void
on_fail(void *arg, const struct err *e)
{
	struct call *c = arg;
	c->ends++;
	c->e = *e;
	assert_int_not_equal(e->code, 0);
	assert_null(strstr(e->msg, KEY));
	loop_stop(c->w->l);
}

static const struct fetch_handler handler = { on_head, on_data, on_end, on_fail };

static void
start(struct world *x, struct call *c, const char *provider, struct str body, int64_t idle_ms)
{
	struct fetch_request r = { .provider = provider,
		.path = STR("/chat?x=1"),
		.body = body,
		.idle_ms = idle_ms,
		.headers = STR("Content-Type: application/json\nX-Empty:\n") };
	struct err e = { 0 };
	memset(c, 0, sizeof(*c));
	c->w = x;
	if (broker_fetch(x->broker, &r, &handler, c, &c->f, &e) != 0)
		fail_msg("%s", e.msg);
}

static void
finish(struct world *x, struct call *c)
{
	while (c->ends == 0)
		loop_run(x->l);
	assert_int_equal(c->ends, 1);
}

static UNUSED void
fetch(struct world *x, struct call *c, const char *provider, struct str body)
{
	start(x, c, provider, body, 0);
	finish(x, c);
}

static UNUSED void
assert_fails(struct world *x, const char *provider, int code, const char *why)
{
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, provider, STR("{}"));
	if (c->e.code != code || strstr(c->e.msg, why) == NULL)
		fail_msg("\"%s\" (%s) is not \"%s\" (%s)", c->e.msg, err_name(c->e.code), why,
			err_name(code));
	free(c);
}

#endif
