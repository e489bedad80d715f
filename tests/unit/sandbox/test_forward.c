/* SPDX-License-Identifier: MIT
 * The way out of a cell as shelld makes it, with a broker that lives in the test: which cell a connection comes from, bytes
 * and ends both ways, credit, the number of connections, and a broker that goes and comes back. */
#include "rig.h"

struct link {
	struct rig *r;
	struct wire *w;
	struct conn *conns;
	size_t n, most;
	int total;
	bool holds; /* new connections get no answer */
};

struct conn {
	struct link *k;
	struct conn *next;
	struct stream *s;
	size_t got;
};

static void
conn_free(struct conn *c)
{
	struct conn **p = &c->k->conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->k->n--;
	loop_stop(c->k->r->l);
	free(c);
}

/* "big": as much as there is credit for, "cut": an answer without an end, "hold": none; else an answer and its end. */
static void
conn_data(void *arg, int ch, struct str bytes)
{
	static const char block[WIRE_WINDOW];
	struct conn *c = arg;
	size_t n = str_starts(bytes, "big") ? sizeof(block) : 7;

	c->got += bytes.n;
	stream_consume(c->s, bytes.n);
	loop_stop(c->k->r->l);
	if (c->k->holds || str_starts(bytes, "hold") || c->got > bytes.n)
		return;
	assert_int_equal(stream_write(c->s, 0, (struct str){ n == 7 ? "answer\n" : block, n }), n);
	if (!str_starts(bytes, "cut"))
		stream_eof(c->s);
	stream_close(c->s, NULL); /* with its end before: all is said; else it is cut */
	conn_free(c);
}

static void
conn_eof(void *arg)
{
	struct conn *c = arg;

	stream_close(c->s, NULL);
	conn_free(c);
}

static void
conn_reset(void *arg, const struct err *e)
{
	conn_free(arg);
}

static const struct stream_handler conn_handler = { conn_data, NULL, conn_eof, conn_reset };

static int
on_proxy(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct link *k = arg;
	struct conn *c = xcalloc(1, sizeof(*c));

	assert_int_equal(m->kind, WIRE_PROXY);
	assert_true(str_is(node_str(m->head, "cell", STR("")), "cell-1"));
	*c = (struct conn){ .k = k, .next = k->conns };
	k->conns = c;
	k->total++;
	k->n++;
	k->most = MAX(k->most, k->n);
	c->s = stream_open(w, m->id, &conn_handler, c);
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	((struct link *)arg)->w = NULL;
}

static const struct wire_handler link_handler = { on_proxy, on_gone };

static void
link_up(struct rig *r, struct link *k)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	json_kv_z(wire_begin(r->runner, WIRE_PEER, 0), "role", "broker");
	assert_int_equal(wire_end(r->runner, STR(""), pair[1]), 0);
	close(pair[1]);
	k->r = r;
	k->w = wire_open(r->l, pair[0], ROLE_BROKER, ROLE_SHELLD, &link_handler, k);
}

static void
run(struct rig *r, const char *effect, const char *command, struct outcome *o)
{
	struct exec_request q = rig_request(r, effect, command);
	struct err e = { 0 };

	outcome_init(o, r);
	assert_int_equal(sandbox_exec(r->sb, &q, &rig_handler, o, &o->call, &e), 0);
}

static void
expect(struct rig *r, const char *effect, const char *command, const char *want)
{
	struct outcome o;

	run(r, effect, command, &o);
	while (!o.is_over)
		rig_wait(r);
	if (strcmp(buf_z(&o.both), want) != 0)
		fail_msg("%s gives: %s", command, buf_z(&o.both));
	outcome_fini(&o);
}

#define PY(code) "/usr/bin/python3 -c \"import socket\ndef c(): return socket.create_connection(('127.0.0.1', 3128))\n" code "\""
#define READ_ALL "b=b''\nwhile (p := s.recv(65536)): b += p\n"

static void
test_bytes(void **in)
{
	struct link k = { 0 };
	struct rig r;

	rig_start(&r);
	link_up(&r, &k);
	expect(&r, "1", PY("try: c()\nexcept ConnectionRefusedError: print('nobody')") "; echo $http_proxy", "nobody\n\n");
	r.plan.has_proxy = true;
	expect(&r, "2", PY("s=c(); s.sendall(b'x'); print(s.recv(99).decode(), end=''); print(s.recv(99))"), "answer\nb''\n");
	/* A slow reader gets all of it, although the broker was done long before. */
	expect(&r, "3", PY("s=c(); s.sendall(b'big'); s.shutdown(socket.SHUT_WR)\n" READ_ALL "print(len(b))"), "262144\n");
	/* What is cut is not taken for the end. */
	expect(&r, "4", PY("s=c(); s.sendall(b'cut')\ntry:\n b=b''\n while (p := s.recv(9)): b += p\n print('ended')\n"
		"except ConnectionResetError: print('cut')"), "cut\n");
	expect(&r, "5", "echo $http_proxy $HTTPS_PROXY $all_proxy $NO_PROXY", "http://127.0.0.1:3128 http://127.0.0.1:3128 "
		"http://127.0.0.1:3128 localhost,127.0.0.1,::1\n");
	assert_int_equal(k.n, 0);
	wire_close(k.w);
	rig_stop(&r);
}

/* 200 connections: no more than the maximum at a time, and all are served. */
static void
test_many(void **in)
{
	struct link k = { .holds = true };
	struct outcome o;
	struct rig r;

	rig_start(&r);
	r.plan.has_proxy = true;
	link_up(&r, &k);
	run(&r, "1", PY("ss=[c() for i in range(200)]\n[s.sendall(b'x') for s in ss]\nprint(sum(s.recv(9) == b'answer\\n' for s in ss))"), &o);
	while (k.n < EGRESS_CONNECTIONS_MAX)
		rig_wait(&r);
	k.holds = false;
	while (!o.is_over) {
		for (struct conn *c = k.conns, *next; c != NULL; c = next) {
			next = c->next;
			if (c->got > 0) {
				assert_int_equal(stream_write(c->s, 0, STR("answer\n")), 7);
				stream_eof(c->s);
				stream_close(c->s, NULL);
				conn_free(c);
			}
		}
		rig_wait(&r);
	}
	assert_string_equal(buf_z(&o.both), "200\n");
	assert_int_equal(k.most, EGRESS_CONNECTIONS_MAX);
	assert_int_equal(k.total, 200);
	outcome_fini(&o);
	wire_close(k.w);
	rig_stop(&r);
}

static void
test_broker_goes(void **in)
{
	struct link k = { 0 };
	struct outcome o;
	struct rig r;

	rig_start(&r);
	r.plan.has_proxy = true;
	link_up(&r, &k);
	run(&r, "1", PY("s=c(); s.sendall(b'hold')\ntry:\n s.recv(9); print('ended')\nexcept ConnectionResetError: print('cut', flush=True)\n"
		"s=c(); s.sendall(b'x'); print(s.recv(9).decode(), end='')"), &o);
	o.stop_after = 1;
	while (k.conns == NULL || k.conns->got == 0)
		rig_wait(&r);
	wire_close(k.w);
	assert_int_equal(k.n, 0);
	while (buf_str(&o.both).n == 0) /* the second connection is made while there is no broker, and waits */
		rig_wait(&r);
	link_up(&r, &k);
	while (!o.is_over)
		rig_wait(&r);
	assert_string_equal(buf_z(&o.both), "cut\nanswer\n");
	outcome_fini(&o);
	/* The end of the cell ends its connections. */
	run(&r, "2", PY("s=c(); s.sendall(b'hold'); s.recv(9)"), &o);
	while (k.conns == NULL || k.conns->got == 0)
		rig_wait(&r);
	exec_call_kill(o.call);
	while (!o.is_over || k.n > 0)
		rig_wait(&r);
	outcome_fini(&o);
	wire_close(k.w);
	rig_stop(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_broker_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
