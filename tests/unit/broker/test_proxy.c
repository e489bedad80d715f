/* SPDX-License-Identifier: MIT
 * The proxy in a role of its own, with a runtime that grants and a shelld that brings connections,
 * both in the test. The resolver is the test's: it answers anew each time, as one does that an
 * attacker controls. */
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#undef EGRESS_HEAD_MS
#define EGRESS_HEAD_MS 400
#undef EGRESS_GRANT_MS
#define EGRESS_GRANT_MS 400
#undef EGRESS_RESOLVE_MS
#define EGRESS_RESOLVE_MS 2000

static int test_getaddrinfo(
	const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out);
static void test_freeaddrinfo(struct addrinfo *list);
#define getaddrinfo  test_getaddrinfo
#define freeaddrinfo test_freeaddrinfo
#include "broker/proxy.c"
#include "broker/proxy_connect.c"
#undef getaddrinfo
#undef freeaddrinfo

#define handler proxy_test_handler /* of world.h: the includes have one each */
#define on_data proxy_test_on_data
#include "world.h"
#undef handler
#undef on_data

/* ---- the resolver, in the role ---- */

static int lookups;
static int slow[2]; /* a pipe: slow.test has no address before a byte is written there */

/* The n-th lookup of rebind.test leads to 127.0.0.n; both.test to two addresses; any other name to
 * none. */
static int
test_getaddrinfo(
	const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	char first[32];
	struct addrinfo numeric = *hints, *more = NULL;

	numeric.ai_flags |= AI_NUMERICHOST;
	if (strcmp(host, "rebind.test") == 0) {
		snprintf(first, sizeof(first), "127.0.0.%d", ++lookups);
		return getaddrinfo(first, port, &numeric, out);
	}
	if (strcmp(host, "slow.test") == 0)
		return read(slow[0], first, 1) == 1 ? EAI_NONAME : EAI_FAIL;
	if (strcmp(host, "both.test") != 0)
		return EAI_NONAME;
	if (getaddrinfo("127.0.0.2", port, &numeric, out) != 0 ||
		getaddrinfo("127.0.0.1", port, &numeric, &more) != 0)
		return EAI_FAIL;
	(*out)->ai_next = more;
	return 0;
}

static void
test_freeaddrinfo(struct addrinfo *list)
{
	freeaddrinfo(list);
}

/* ---- the test's shelld ---- */

struct conn {
	struct world *x;
	struct stream *s; /* NULL: over */
	struct buf got;
	bool ended, cut, holds; /* holds: gives no credit back */
	size_t held;
};

struct told {
	struct world *x;
	char denied[200], rule[200], why[300];
	int n;
	int64_t bytes;
};

static struct wire *shelld;
static struct told told;

static void
conn_data(void *arg, int ch, struct str bytes)
{
	struct conn *c = arg;

	buf_add_str(&c->got, bytes);
	if (c->holds)
		c->held += bytes.n;
	else
		stream_consume(c->s, bytes.n);
	loop_stop(c->x->l);
}

static void
conn_eof(void *arg)
{
	struct conn *c = arg;

	c->ended = true;
	loop_stop(c->x->l);
}

static void
conn_reset(void *arg, const struct err *e)
{
	struct conn *c = arg;

	c->s = NULL;
	c->cut = !c->ended;
	loop_stop(c->x->l);
}

static const struct stream_handler conn_handler = { conn_data, NULL, conn_eof, conn_reset };

static int
no_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	return err_set(e, ERR_PROTO, ERR_TO_LOG, "nothing is expected here");
}

static void
link_gone(void *arg, struct wire *w, const struct err *e)
{
	shelld = NULL;
}

static const struct wire_handler link_handler = { no_msg, link_gone };

static void
on_told(void *arg, const struct node *head)
{
	struct told *t = arg;

	t->bytes += node_int(head, "bytes", 0);
	if (node_get(head, "denied") != NULL) {
		t->n++;
		snprintf(t->denied, sizeof(t->denied), "%s", node_z(head, "denied", ""));
		snprintf(t->rule, sizeof(t->rule), "%s", node_z(head, "rule", ""));
		snprintf(t->why, sizeof(t->why), "%s", node_z(head, "why", ""));
	}
	loop_stop(t->x->l);
}

static void
services(struct world *x, struct buf *b)
{
	buf_printf(b,
		"{\"log\":{\"level\":\"off\"},\"providers\":{},\"services\":{\"api\":{"
		"\"base_url\":\"http://127.0.0.1:%d/v1\",\"key_header\":\"x-api-key: \","
		"\"api_key\":\"" KEY "\"}}}",
		x->server.port);
}

static struct world *
proxy_world(void)
{
	struct world *x = world_with(NULL, services);

	told = (struct told){ .x = x };
	broker_on_egress(x->broker, on_told, &told);
	shelld =
		wire_open(x->l, send_peer(x, "shelld"), ROLE_SHELLD, ROLE_BROKER, &link_handler, x);
	return x;
}

static void
proxy_world_free(struct world *x)
{
	wire_close(shelld);
	world_free(x);
}

static struct conn *
conn_open(struct world *x, const char *cell, const char *text)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	uint64_t id = wire_next_id(shelld);

	c->x = x;
	buf_init(&c->got, 8 * MIB);
	json_kv_z(wire_begin(shelld, WIRE_PROXY, id), "cell", cell);
	wire_end(shelld, STR(""), -1);
	c->s = stream_open(shelld, id, &conn_handler, c);
	assert_int_equal(stream_write(c->s, 0, str_of(text)), strlen(text));
	return c;
}

static void
conn_free(struct conn *c)
{
	if (c->s != NULL)
		stream_close(c->s, NULL);
	buf_fini(&c->got);
	free(c);
}

static void
wait_for(struct conn *c, const char *text)
{
	while (str_find(buf_str(&c->got), str_of(text)) < 0) {
		if (c->s == NULL)
			fail_msg("it is over after: %s", buf_z(&c->got));
		loop_run(c->x->l);
	}
}

static void
wait_over(struct conn *c)
{
	while (c->s != NULL)
		loop_run(c->x->l);
}

static void grant(struct world *x, const char *cell, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void
grant(struct world *x, const char *cell, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	broker_grant(x->broker, cell, str_of(text));
	broker_secrets(
		x->broker, STR("")); /* answered on the same link: the grant has arrived then */
	broker_on_keyring(x->broker, (loop_fn)loop_stop, x->l);
	while (broker_keyring(x->broker) == NULL)
		loop_run(x->l);
}

/* A connection that goes through to the test's own listening socket: our end of it. */
static struct conn *
tunnel(struct world *x, const char *cell, const char *host, int *fd)
{
	char text[200];
	struct conn *c;

	snprintf(text, sizeof(text), "CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host,
		x->server.port);
	c = conn_open(x, cell, text);
	wait_for(c, "\r\n\r\n");
	if (!str_starts(buf_str(&c->got), "HTTP/1.1 200 "))
		fail_msg("%s", buf_z(&c->got));
	buf_reset(&c->got);
	*fd = accept(x->server.listen_fd, NULL, NULL);
	assert_true(*fd >= 0);
	return c;
}

static void
refused(struct world *x, const char *cell, const char *host, const char *status, const char *why)
{
	char text[200];
	struct conn *c;

	snprintf(text, sizeof(text), "CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host,
		x->server.port);
	c = conn_open(x, cell, text);
	wait_over(c);
	assert_false(c->cut);
	if (str_find(buf_str(&c->got), str_of(status)) != 9 ||
		str_find(buf_str(&c->got), str_of(why)) < 0)
		fail_msg("%s is not %s %s", buf_z(&c->got), status, why);
	conn_free(c);
}

/* ---- tests ---- */

static void
test_grants(void **in)
{
	struct world *x = proxy_world();
	int fd, fd2;

	refused(x, "a", "127.0.0.1", "403", "may not connect to anywhere");
	grant(x, "a", "{\"allow\":[\"127.0.0.1:%d\"]}", x->server.port);
	struct conn *c = tunnel(x, "a", "127.0.0.1", &fd);
	refused(x, "b", "127.0.0.1", "403",
		"may not connect to anywhere"); /* the grant is another cell's */
	grant(x, "b", "{\"allow\":[\"other.test\"]}");
	refused(x, "b", "127.0.0.1", "403", "no rule allows it");
	while (told.n == 0)
		loop_run(x->l);
	assert_non_null(strstr(told.rule, "Fetch(127.0.0.1:"));
	refused(x, "b", "127.0.0.1", "403", "no rule allows it");
	grant(x, "c", "{}"); /* what was told before it has arrived */
	assert_int_equal(told.n, 1);

	/* New rules that still allow it let it live, others cut it, and so does the end of the
	 * grant. */
	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	assert_int_equal(write(fd, "x", 1), 1);
	wait_for(c, "x");
	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"],\"deny\":[\"127.0.0.1\"]}");
	wait_over(c);
	assert_true(c->cut);
	conn_free(c);
	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	c = tunnel(x, "a", "127.0.0.1", &fd2);
	grant(x, "a", "%s", "");
	wait_over(c);
	assert_true(c->cut);
	conn_free(c);
	refused(x, "a", "127.0.0.1", "403", "may not connect to anywhere");
	close(fd);
	close(fd2);
	proxy_world_free(x);
}

/* Grant and connection travel on two links, and may overtake each other. */
static void
test_grant_is_late(void **in)
{
	struct world *x = proxy_world();
	char text[200];
	int fd;

	snprintf(text, sizeof(text), "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n",
		x->server.port);
	struct conn *c = conn_open(x, "a", text);
	struct conn *first = conn_open(x, "none", "GET / HTTP/1.1\r\n\r\n");
	wait_over(first); /* it is refused, so the other one was read as well */
	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	wait_for(c, "200");
	fd = accept(x->server.listen_fd, NULL, NULL);
	conn_free(first);
	conn_free(c);
	close(fd);
	proxy_world_free(x);
}

static void
test_bad_grant_grants_nothing(void **in)
{
	static const char *const bad[] = { "{", "{\"allow\":[\"127.0.0.1:*\",1]}",
		"{\"allow\":[\"127.0.0.1:*\"],\"deny\":[\"http://x\"]}",
		"{\"allow\":[\"127.0.0.1:*\"],\"hosts\":{\"x\":\"y\"}}" };
	struct world *x = proxy_world();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		grant(x, "a", "%s", bad[i]);
		refused(x, "a", "127.0.0.1", "403", "may not connect to anywhere");
	}
	proxy_world_free(x);
}

/* Names are asked for once in a connection, and what comes out is checked and used. */
static void
test_names(void **in)
{
	struct world *x = proxy_world();
	int fd;

	grant(x, "a",
		"{\"allow\":[\"*:*\",\"127.0.0.1:%d\"],\"hosts\":{\"mapped.test\":\"127.0.0.2\"}}",
		x->server.port);
	struct conn *c = tunnel(x, "a", "rebind.test", &fd);
	conn_free(c);
	close(fd);
	refused(x, "a", "rebind.test", "403", "127.0.0.2");
	while (told.n == 0)
		loop_run(x->l);
	assert_non_null(strstr(told.why, "loopback"));
	assert_non_null(strstr(told.rule, "Fetch(127.0.0.2:"));
	c = tunnel(x, "a", "both.test", &fd); /* the one of its addresses that may be used */
	conn_free(c);
	close(fd);
	refused(x, "a", "none.test", "502", "cannot resolve");
	refused(x, "a", "mapped.test", "502", "cannot connect"); /* allowed, and nobody is there */
	refused(x, "a", "127.0.0.2", "403", "no rule allows it");
	refused(x, "a", "169.254.169.254", "403", "no rule allows it");
	grant(x, "a", "{\"allow\":[\"169.254.169.254:*\"]}");
	refused(x, "a", "169.254.169.254", "403", "link-local"); /* not even by name */
	proxy_world_free(x);
}

/* A cell whose names are never resolved waits alone, and not for ever; what waited goes on when a
 * name is through. */
static void
test_slow_names(void **in)
{
	enum { CALLS = 40 };
	struct conn *c[CALLS];
	size_t unknown = 0, late = 0;
	char text[100];
	int fd;

	assert_int_equal(pipe(slow), 0);
	struct world *x = proxy_world();
	grant(x, "a", "{\"allow\":[\"*:*\",\"127.0.0.1:*\"]}");
	grant(x, "b", "{\"allow\":[\"*:*\",\"127.0.0.1:*\"]}");
	for (size_t i = 0; i < CALLS; i++)
		c[i] = conn_open(x, "a", "CONNECT slow.test:1 HTTP/1.1\r\nHost: x\r\n\r\n");
	snprintf(text, sizeof(text), "CONNECT both.test:%d HTTP/1.1\r\nHost: x\r\n\r\n",
		x->server.port);
	conn_free(tunnel(x, "b", "both.test", &fd));
	close(fd);
	assert_int_equal(write(slow[1], text, 6), 6);
	for (size_t i = 0; i < CALLS; i++) { /* which of the threads that wait gets a byte is not said */
		wait_over(c[i]);
		unknown += str_starts(buf_str(&c[i]->got), "HTTP/1.1 502 ");
		late += str_starts(buf_str(&c[i]->got), "HTTP/1.1 504 ");
		conn_free(c[i]);
	}
	assert_int_equal(unknown, 6);
	assert_int_equal(late, CALLS - 6);
	assert_int_equal(write(slow[1], text, CALLS), CALLS); /* the role can end */
	proxy_world_free(x);
	close(slow[0]);
	close(slow[1]);
}

static void
test_slow_head(void **in)
{
	struct world *x = proxy_world();
	struct conn *c = conn_open(x, "a", "GET http://");

	wait_over(c);
	assert_non_null(strstr(buf_z(&c->got), "HTTP/1.1 408"));
	conn_free(c);
	proxy_world_free(x);
}

static void
test_connections(void **in)
{
	struct world *x = proxy_world();
	struct conn *c[EGRESS_CONNECTIONS_MAX];
	int fds[EGRESS_CONNECTIONS_MAX], fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	grant(x, "b", "{\"allow\":[\"127.0.0.1:*\"]}");
	for (size_t i = 0; i < EGRESS_CONNECTIONS_MAX; i++)
		c[i] = tunnel(x, "a", "127.0.0.1", &fds[i]);
	refused(x, "a", "127.0.0.1", "503", "too many connections");
	struct conn *other = tunnel(x, "b", "127.0.0.1", &fd); /* not at the cost of another cell */
	conn_free(other);
	close(fd);
	conn_free(c[0]);
	close(fds[0]);
	c[0] = tunnel(x, "a", "127.0.0.1", &fds[0]);
	for (size_t i = 0; i < EGRESS_CONNECTIONS_MAX; i++) {
		conn_free(c[i]);
		close(fds[i]);
	}
	proxy_world_free(x);
}

static void *
flood(void *arg)
{
	static char block[65536];
	int fd = *(int *)arg;

	for (size_t i = 0; i < 32; i++)
		fd_write_all(fd, block, sizeof(block));
	close(fd);
	return NULL;
}

/* A server that floods fills the credit of the stream and no memory; all of it arrives, and its
 * end. */
static void
test_credit(void **in)
{
	struct world *x = proxy_world();
	pthread_t thread;
	int fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	struct conn *c = tunnel(x, "a", "127.0.0.1", &fd);
	c->holds = true;
	pthread_create(&thread, NULL, flood, &fd);
	while (c->got.n < WIRE_WINDOW - 100)
		loop_run(x->l);
	assert_true(c->got.n <= WIRE_WINDOW);
	c->holds = false;
	stream_consume(c->s, c->held);
	while (!c->ended)
		loop_run(x->l);
	pthread_join(thread, NULL);
	assert_int_equal(c->got.n, 32 * 65536);
	/* Half closed: what we say still arrives, then our end does. */
	conn_free(c);
	proxy_world_free(x);
}

/* What the server is sent when a program says `request`, up to the end of the head; fd: the
 * server's end. */
static struct conn *
passed_on(struct world *x, const char *request, char *head, size_t size, int *fd)
{
	struct conn *c = conn_open(x, "a", request);
	struct pollfd p = { .fd = x->server.listen_fd, .events = POLLIN };
	size_t n = 0;

	while (poll(&p, 1, 0) == 0) {
		loop_defer(x->l, (loop_fn)loop_stop, x->l);
		loop_run(x->l);
	}
	*fd = accept(x->server.listen_fd, NULL, NULL);
	assert_true(*fd >= 0);
	do {
		ssize_t got = recv(*fd, head + n, size - 1 - n, 0);

		assert_true(got > 0);
		n += (size_t)got;
		head[n] = '\0';
	} while (strstr(head, "\r\n\r\n") == NULL);
	return c;
}

/* A program of HTTP/1.0 gets no chunks: the server is asked in its version. */
static void
test_old_program(void **in)
{
	struct world *x = proxy_world();
	char text[200], head[2000];
	int fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	snprintf(text, sizeof(text), "GET http://127.0.0.1:%d/a HTTP/1.0\r\n\r\n", x->server.port);
	struct conn *c = passed_on(x, text, head, sizeof(head), &fd);
	assert_true(str_starts(str_of(head), "GET /a HTTP/1.0\r\nHost: 127.0.0.1:"));
	close(fd);
	conn_free(c);
	proxy_world_free(x);
}

/* What of a request to a service is about its body. */
static void
test_service_methods(void **in)
{
	static const struct {
		const char *request, *first, *has, *has_not;
	} rows[] = {
		{ "HEAD /svc/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
			"HEAD /v1/x HTTP/1.1\r\n", "\r\nx-api-key: " KEY "\r\n", "ontent-" },
		{ "PUT /svc/api/x HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /v1/x HTTP/1.1\r\n",
			"\r\nContent-Length: 0\r\n", "Content-Type" },
		{ "PATCH /svc/api/x HTTP/1.1\r\nHost: x\r\ncontent-type: a/b\r\nContent-Length: "
		  "2\r\n\r\nhi",
			"PATCH /v1/x HTTP/1.1\r\n", "\r\ncontent-type: a/b\r\n", "Content-Type" },
		{ "POST /svc/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
			"POST /v1/x HTTP/1.1\r\n", "\r\nContent-Length: 2\r\n", "Content-Type" },
		{ "DELETE /svc/api/x HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /v1/x HTTP/1.1\r\n",
			"\r\nx-api-key: ", "ontent-" },
	};
	struct world *x = proxy_world();
	char head[4000];
	int fd;

	grant(x, "a", "{\"services\":[\"api\"]}");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conn *c = passed_on(x, rows[i].request, head, sizeof(head), &fd);

		if (!str_starts(str_of(head), rows[i].first) || strstr(head, rows[i].has) == NULL ||
			strstr(head, rows[i].has_not) != NULL)
			fail_msg("%zu: %s", i, head);
		say(fd, "HTTP/1.1 204 No\r\nConnection: close\r\n\r\n");
		close(fd);
		wait_over(c);
		conn_free(c);
	}
	proxy_world_free(x);
}

/* A new rule against the server of a service ends what is under way. */
static void
test_service_is_denied(void **in)
{
	static const char request[] = "GET /svc/api/x HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *x = proxy_world();
	char head[4000];
	int fd;

	grant(x, "a", "{\"services\":[\"api\"]}");
	struct conn *c = passed_on(x, request, head, sizeof(head), &fd);
	grant(x, "a", "{\"services\":[\"api\"],\"deny\":[\"127.0.0.2\"]}");
	assert_non_null(c->s);
	grant(x, "a", "{\"services\":[\"api\"],\"deny\":[\"127.0.0.1\"]}");
	wait_over(c);
	assert_true(c->cut);
	close(fd);
	conn_free(c);
	proxy_world_free(x);
}

/* The server's answer to a plain request, written in pieces of `piece` bytes. */
static void
answered(const char *answer, const char *wanted, size_t piece)
{
	struct world *x = proxy_world();
	char text[200], got[400];

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	snprintf(text, sizeof(text), "GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n",
		x->server.port);
	struct conn *c = conn_open(x, "a", text);
	for (int i = 0; i < 3; i++) { /* until the broker's connection is there */
		loop_defer(x->l, (loop_fn)loop_stop, x->l);
		loop_run(x->l);
	}
	int fd = accept(x->server.listen_fd, NULL, NULL);
	assert_true(fd >= 0);
	assert_true(recv(fd, got, sizeof(got), 0) > 0);
	for (size_t at = 0; at < strlen(answer); at += piece)
		assert_int_equal(write(fd, answer + at, MIN(piece, strlen(answer) - at)),
			MIN(piece, strlen(answer) - at));
	close(fd);
	wait_over(c);
	assert_string_equal(buf_z(&c->got), wanted);
	conn_free(c);
	proxy_world_free(x);
}

/* A connection serves one request, and the program is told, whatever the server says. */
static void
test_answer_says_close(void **in)
{
	static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			  interim[] =
				  "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n";

	for (size_t piece = 1; piece < 60; piece += 29) {
		answered(plain,
			"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
			piece);
		answered(interim,
			"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\nConnection: "
			"close\r\n\r\n",
			piece);
	}
	answered("no head at all", "no head at all", 4);
}

static void
test_half_close(void **in)
{
	struct world *x = proxy_world();
	char got[16];
	int fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	struct conn *c = tunnel(x, "a", "127.0.0.1", &fd);
	assert_int_equal(stream_write(c->s, 0, STR("question")), 8);
	stream_eof(c->s);
	loop_defer(x->l, (loop_fn)loop_stop, x->l);
	loop_run(x->l);
	assert_int_equal(recv(fd, got, 8, MSG_WAITALL), 8);
	assert_int_equal(recv(fd, got, 8, MSG_WAITALL), 0);
	assert_int_equal(write(fd, "answer", 6), 6);
	close(fd);
	wait_for(c, "answer");
	while (!c->ended)
		loop_run(x->l);
	conn_free(c);
	proxy_world_free(x);
}

static void
test_quota(void **in)
{
	struct world *x = proxy_world();
	static char block[65536];
	int fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"],\"quota_bytes\":100000,\"used_bytes\":60000}");
	struct conn *c = tunnel(x, "a", "127.0.0.1", &fd);
	assert_int_equal(write(fd, block, 30000), 30000);
	while (c->got.n < 30000)
		loop_run(x->l);
	assert_int_equal(write(fd, block, 30000), 30000);
	wait_over(c);
	assert_true(c->cut);
	while (told.n == 0 || told.bytes < 40000)
		loop_run(x->l);
	assert_string_equal(told.denied, "quota");
	assert_int_equal(told.bytes, 40000);
	assert_int_equal(c->got.n, 40000); /* exactly */
	conn_free(c);
	close(fd);
	refused(x, "a", "127.0.0.1", "403", "quota");
	/* What the runtime says anew does not give back what was used. */
	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"],\"quota_bytes\":100000,\"used_bytes\":0}");
	refused(x, "a", "127.0.0.1", "403", "quota");
	proxy_world_free(x);
}

/* The end of shelld's link ends its connections, and a new one works. */
static void
test_links(void **in)
{
	struct world *x = proxy_world();
	char c;
	int fd;

	grant(x, "a", "{\"allow\":[\"127.0.0.1:*\"]}");
	struct conn *old = tunnel(x, "a", "127.0.0.1", &fd);
	wire_close(shelld);
	assert_null(old->s);
	assert_true(recv(fd, &c, 1, 0) <= 0);
	close(fd);
	conn_free(old);
	shelld =
		wire_open(x->l, send_peer(x, "shelld"), ROLE_SHELLD, ROLE_BROKER, &link_handler, x);
	old = tunnel(x, "a", "127.0.0.1", &fd);
	conn_free(old);
	close(fd);
	proxy_world_free(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grants),
		cmocka_unit_test(test_grant_is_late),
		cmocka_unit_test(test_bad_grant_grants_nothing),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_slow_names),
		cmocka_unit_test(test_slow_head),
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_credit),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_answer_says_close),
		cmocka_unit_test(test_old_program),
		cmocka_unit_test(test_service_methods),
		cmocka_unit_test(test_service_is_denied),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_links),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
