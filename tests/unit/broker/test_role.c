/* SPDX-License-Identifier: MIT
 * The role in a process of its own, driven by a runner and a runtime that live in the test, against
 * a real socket. The key is looked for on the wire, where it must be, and in every error, where it
 * must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "world.h"

/* ---- scripts and tests ---- */

static void
providers(struct world *x, struct buf *b)
{
	buf_printf(b,
		"{\"log\":{\"level\":\"off\"},\"providers\":{"
		"\"good\":{\"base_url\":\"http://127.0.0.1:%d/v1/"
		"\",\"key_header\":\"Authorization: Bearer \","
		"\"api_key\":\"" KEY
		"\",\"headers\":{\"X-Team\":\"blue\"},\"connect_ms\":5000,\"idle_ms\":20000},"
		"\"x\":{\"base_url\":\"http://localhost:%d\",\"key_header\":\"x-api-key: "
		"\",\"api_key\":\"" KEY "\"},"
		"\"free\":{\"base_url\":\"http://127.0.0.1:%d\",\"key_header\":\"x-api-key: \"},"
		"\"tls\":{\"base_url\":\"https://127.0.0.1:%d\",\"key_header\":\"x-api-key: "
		"\",\"api_key\":\"" KEY "\"},"
		"\"nokey\":{\"base_url\":\"http://127.0.0.1:%d\",\"key_header\":\"x-api-key: "
		"\",\"api_key_env\":\"SOME_KEY\"},"
		"\"refused\":{\"base_url\":\"http://127.0.0.1:%d\",\"key_header\":\"x-api-key: "
		"\",\"api_key\":\"" KEY "\"},"
		"\"one\":{\"base_url\":\"http://127.0.0.1:%d\",\"connections\":1,"
		"\"connect_ms\":100},"
		"\"nowhere\":{\"base_url\":\"http://no-such-host.invalid\"},"
		"\"metadata\":{\"base_url\":\"http://169.254.169.254\",\"key_header\":\"x-api-key: "
		"\",\"api_key\":\"" KEY "\"}}}",
		x->server.port, x->server.port, x->server.port, x->server.port, x->server.port,
		x->closed_port, x->server.port);
}

static struct world *
world_new(server_script script)
{
	return world_with(script, providers);
}

static bool
answers(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
	say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-ID:  abc "
		"\r\nContent-Length: 5\r\n\r\nhello");
	return true;
}

static void
test_head_and_body(void **in)
{
	struct world *x = world_new(answers);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "good", STR("{\"a\":1}"));
	assert_int_equal(c->e.code, 0);
	assert_int_equal(c->status, 200);
	assert_string_equal(
		c->headers.z, "content-type: text/plain\nx-request-id: abc\ncontent-length: 5\n");
	assert_string_equal(c->body, "hello");
	const char *r = x->server.request;
	assert_true(str_starts(str_of(r), "POST /v1/chat?x=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(r, "\r\nAuthorization: Bearer " KEY "\r\n"));
	assert_non_null(strstr(r, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(r, "\r\nX-Empty:\r\n"));
	assert_non_null(strstr(r, "\r\nX-Team: blue\r\n"));
	assert_non_null(strstr(r, "\r\nContent-Length: 7\r\n"));
	assert_non_null(strstr(r, "\r\nUser-Agent: ithaca/"));
	assert_null(strcasestr(r, "expect:"));
	assert_null(strcasestr(r, "upgrade:")); /* HTTP/2 over TLS only */
	assert_null(strcasestr(r, "accept-encoding:"));
	assert_string_equal(r + x->server.head_n, "{\"a\":1}");
	assert_non_null(strstr(x->ready, "\"kind\":\"ready\""));
	assert_non_null(strstr(x->ready, "\"good\":true"));
	assert_non_null(strstr(x->ready, "\"nokey\":false"));
	free(c);
	world_free(x);
}

static void
test_other_key_header_and_get(void **in)
{
	struct world *x = world_new(answers);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "x", STR(""));
	assert_int_equal(c->status, 200);
	assert_true(str_starts(str_of(x->server.request), "GET /chat?x=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(x->server.request, "\r\nx-api-key: " KEY "\r\n"));
	world_free(x);
	x = world_new(answers);
	fetch(x, c, "free", STR("")); /* needs no key and sends none */
	assert_int_equal(c->status, 200);
	assert_null(strstr(x->server.request, "x-api-key"));
	free(c);
	world_free(x);
}

static void
test_connections_are_kept(void **in)
{
	struct world *x = world_new(answers);
	struct call *c = xcalloc(1, sizeof(*c));
	for (int i = 0; i < 5; i++) {
		fetch(x, c, "good", STR("{}"));
		assert_int_equal(c->status, 200);
	}
	assert_int_equal(x->server.connections, 1);
	free(c);
	world_free(x);
}

/* Leaves the first request open and answers a second one, on a connection of its own. */
static bool
answers_second_first(struct server *s, int fd, int n)
{
	int other = accept(s->listen_fd, NULL, NULL);
	if (!read_request(s, other))
		fatal("the second request did not come");
	say(other, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond");
	close(other);
	await_close(s, fd); /* the first one is never answered */
	return false;
}

static void
test_requests_do_not_wait_for_each_other(void **in)
{
	struct world *x = world_new(answers_second_first);
	struct call *c = xcalloc(1, sizeof(*c)), *d = xcalloc(1, sizeof(*d));
	start(x, c, "good", STR("{}"), 0);
	start(x, d, "good", STR("{}"), 0);
	while (c->ends + d->ends == 0)
		loop_run(x->l);
	/* which of the two libcurl connected first is its business */
	struct call *answered = c->ends ? c : d, *held = c->ends ? d : c;
	assert_string_equal(answered->body, "second");
	assert_int_equal(held->ends, 0);
	fetch_cancel(held->f);
	free(c);
	free(d);
	world_free(x);
}

static bool
answers_and_closes(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	return false; /* although it promised to keep the connection */
}

static void
test_closed_connection_is_replaced(void **in)
{
	struct world *x = world_new(answers_and_closes);
	struct call *c = xcalloc(1, sizeof(*c));
	for (int i = 0; i < 4; i++) {
		fetch(x, c, "good", STR("{\"n\":1}"));
		assert_int_equal(c->e.code, 0);
		assert_string_equal(c->body, "ok");
		assert_string_equal(x->server.request + x->server.head_n, "{\"n\":1}");
	}
	free(c);
	world_free(x);
}

#define LARGE (8 * MIB)

static bool
echoes_length(struct server *s, int fd, int n)
{
	char head[100];
	char *bytes = xcalloc(1, LARGE);
	for (size_t i = 0; i < s->body_n; i++) {
		if (s->request[s->head_n + i] != (char)('a' + i % 26))
			fatal("the request body is not what was sent");
	}
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\nX-Got: %zu\r\n\r\n",
		LARGE, s->body_n);
	say(fd, head);
	fd_write_all(fd, bytes, LARGE);
	free(bytes);
	return true;
}

static void
test_large_bodies_both_ways(void **in)
{
	struct world *x = world_new(echoes_length);
	struct call *c = xcalloc(1, sizeof(*c));
	char *bytes = xmalloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = (char)('a' + i % 26);
	fetch(x, c, "good", (struct str){ bytes, LARGE });
	assert_int_equal(c->e.code, 0);
	assert_non_null(strstr(c->headers.z, "x-got: 8388608\n"));
	assert_int_equal(c->body_n, LARGE);
	free(bytes);
	free(c);
	world_free(x);
}

/* A runtime that does not take what arrives: credit stops the broker, and the broker stops the
 * server. */
struct slow {
	struct world *w;
	struct stream *stream;
	size_t got;
	int eof;
	struct err e;
	struct timer *timer;
};

static void
slow_data(void *arg, int ch, struct str bytes)
{
	struct slow *s = arg;
	s->got += bytes.n;
	if (s->timer == NULL)
		stream_consume(s->stream, bytes.n);
}

static void
slow_eof(void *arg)
{
	struct slow *s = arg;
	s->eof++;
	loop_stop(s->w->l);
}

static void
slow_reset(void *arg, const struct err *e)
{
	struct slow *s = arg;
	s->e = *e;
	s->stream = NULL;
	loop_stop(s->w->l);
}

static void
slow_over(void *arg)
{
	struct slow *s = arg;
	loop_stop(s->w->l);
}

static int
ignore_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	return 0;
}

static void
ignore_gone(void *arg, struct wire *w, const struct err *e)
{
	fatal("the broker dropped the test's runtime: %s", e->msg);
}

static const struct wire_handler raw_handler = { ignore_msg, ignore_gone };
static const struct stream_handler slow_handler = { slow_data, NULL, slow_eof, slow_reset };

/* A FETCH as a runtime would write it that does not check anything. */
static void
raw_fetch(struct slow *s, struct wire *w, const char *provider, const char *path,
	const char *headers, int64_t idle_ms)
{
	uint64_t id = wire_next_id(w);
	struct json *j = wire_begin(w, WIRE_FETCH, id);
	json_kv_z(j, "provider", provider);
	json_kv_z(j, "path", path);
	json_kv_z(j, "headers", headers);
	json_kv_int(j, "idle_ms", idle_ms);
	wire_end(w, STR(""), -1);
	s->stream = stream_open(w, id, &slow_handler, s);
	stream_eof(s->stream);
}

static void
test_slow_runtime_holds_the_server_back(void **in)
{
	struct world *x = world_new(echoes_length);
	struct slow s = { .w = x };
	struct wire *w = wire_open(
		x->l, send_peer(x, "runtime"), ROLE_RUNTIME, ROLE_BROKER, &raw_handler, x);
	raw_fetch(&s, w, "good", "/x", "", 200);
	s.timer = timer_start(x->l, 600, slow_over, &s);
	for (size_t before = 1;
		before != s.got || s.e.code != 0;) { /* until nothing arrived for 600 ms */
		assert_int_equal(s.e.code, 0); /* a pause of ours is no silence of the server's */
		before = s.got;
		timer_again(s.timer, 600);
		loop_run(x->l);
	}
	assert_true(s.got > WIRE_WINDOW / 2 && s.got <= WIRE_WINDOW);
	timer_close(s.timer);
	s.timer = NULL;
	stream_consume(s.stream, s.got);
	while (s.eof == 0 && s.e.code == 0)
		loop_run(x->l);
	assert_int_equal(s.got, LARGE);
	stream_close(s.stream, NULL);
	wire_close(w);
	world_free(x);
}

static void
test_role_checks_what_the_runtime_should_have(void **in)
{
	static const struct {
		const char *path, *headers;
	} rows[] = {
		{ "/x\r\nHost: evil", "" },
		{ "/../admin", "" },
		{ "no-slash", "" },
		{ "/x", "a: b\rc: d\n" },
		{ "/x", "Authorization: Bearer mine\n" },
		{ "/x", "Host: evil.example\n" },
	};
	struct world *x = world_new(answers);
	struct wire *w = wire_open(
		x->l, send_peer(x, "runtime"), ROLE_RUNTIME, ROLE_BROKER, &raw_handler, x);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slow s = { .w = x };
		raw_fetch(&s, w, "good", rows[i].path, rows[i].headers, 0);
		while (s.e.code == 0)
			loop_run(x->l);
		assert_int_equal(s.e.code, ERR_INVALID);
	}
	assert_int_equal(x->server.requests, 0);
	wire_close(w);
	world_free(x);
}

static void
test_client_refuses_injection(void **in)
{
	static const struct {
		const char *path, *headers;
	} rows[] = {
		{ "/x\r\nHost: evil", "" },
		{ "/x y", "" },
		{ "/x", "a: b\r\nc: d\n" },
		{ "/x", "x-api-key: mine\n" },
	};
	struct world *x = world_new(answers);
	struct call c = { .w = x };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fetch_request r = { .provider = "good",
			.path = str_of(rows[i].path),
			.headers = str_of(rows[i].headers) };
		struct err e = { 0 };
		struct fetch *f = NULL;
		assert_int_equal(broker_fetch(x->broker, &r, &handler, &c, &f, &e), ERR_INVALID);
		assert_null(f);
		assert_int_not_equal(e.msg[0], 0);
	}
	assert_int_equal(c.ends, 0);
	world_free(x);
}

static bool
trickles_then_stops(struct server *s, int fd, int n)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 10;
		i++) { /* each byte within the idle time, all of them far beyond it */
		say(fd, "1\r\n.\r\n");
		poll(&p, 1, 100);
	}
	await_close(s, fd);
	return false;
}

static void
test_idle_server(void **in)
{
	struct world *x = world_new(trickles_then_stops);
	struct call *c = xcalloc(1, sizeof(*c));
	start(x, c, "good", STR("{}"), 500);
	finish(x, c);
	assert_int_equal(c->e.code, ERR_TIMEOUT);
	assert_non_null(strstr(c->e.msg, "provider good at 127.0.0.1:"));
	assert_non_null(strstr(c->e.msg, "no byte for 500 ms"));
	assert_non_null(strstr(c->e.msg, "raise idle_ms"));
	assert_string_equal(c->body, "..........");
	free(c);
	world_free(x);
}

static bool
never_answers(struct server *s, int fd, int n)
{
	await_close(s, fd);
	return false;
}

/* Takes a long request slowly; the first half of it takes twice as long as a server may be silent.
 */
static void *
takes_slowly(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listen_fd, NULL, NULL), small = 65536;
	char *chunk = xmalloc(MIB);
	size_t n = 0;
	ssize_t got;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (int step = 0; step < 16; step++) {
		for (size_t until = n + MIB / 2; n < until; n += (size_t)got) {
			got = recv(fd, chunk, MIN((size_t)MIB, until - n), 0);
			if (got <= 0)
				goto out;
		}
		poll(NULL, 0, 100); /* a slow line */
	}
	while (n < 32 * (size_t)MIB && (got = recv(fd, chunk, MIB, 0)) > 0)
		n += (size_t)got;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	await_close(s, fd);
out:
	free(chunk);
	close(fd);
	return NULL;
}

static void
test_slow_upload(void **in)
{
	struct world *x = world_new(NULL);
	struct call *c = xcalloc(1, sizeof(*c));
	struct str body = { xcalloc(32, MIB), 32 * (size_t)MIB };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, takes_slowly, &x->server), 0);
	start(x, c, "good", body, 800);
	finish(x, c);
	assert_string_equal(c->e.msg, "");
	assert_int_equal(c->status, 200);
	pthread_join(thread, NULL);
	free((char *)body.p);
	free(c);
	world_free(x);
}

static void
test_idle_before_the_head(void **in)
{
	struct world *x = world_new(never_answers);
	struct call *c = xcalloc(1, sizeof(*c));
	start(x, c, "good", STR("{}"), 150);
	finish(x, c);
	assert_int_equal(c->e.code, ERR_TIMEOUT);
	assert_int_equal(c->status, 0);
	free(c);
	world_free(x);
}

/* The second request waits for the connection of the first, and its time does not run. */
static void
test_connections_are_limited(void **in)
{
	struct world *x = world_new(never_answers);
	struct call *c = xcalloc(1, sizeof(*c)), *d = xcalloc(1, sizeof(*d)),
		    *e = xcalloc(1, sizeof(*e));
	start(x, c, "one", STR("{}"), 20000);
	start(x, d, "one", STR("{}"), 100);
	start(x, e, "good", STR("{}"), 300); /* has connections of its own */
	finish(x, e);
	assert_non_null(strstr(e->e.msg, "no byte for 300 ms"));
	assert_int_equal(c->ends, 0);
	assert_int_equal(d->ends, 0); /* longer than connect_ms and its idle_ms */
	fetch_cancel(c->f);
	finish(x, d);
	assert_int_equal(d->e.code, ERR_TIMEOUT);
	assert_non_null(strstr(d->e.msg, "no byte for 100 ms")); /* of its own connection */
	free(c);
	free(d);
	free(e);
	world_free(x);
}

static void
test_failures_to_connect(void **in)
{
	struct world *x = world_new(answers);
	char where[100];
	snprintf(where, sizeof(where),
		"provider refused: cannot connect to 127.0.0.1:%d: Connection refused (",
		x->closed_port);
	assert_fails(x, "refused", ERR_NET, where);
	assert_fails(x, "refused", ERR_NET, "check base_url");
	assert_fails(
		x, "nowhere", ERR_NET, "no-such-host.invalid:80: the name cannot be resolved (");
	assert_fails(x, "metadata", ERR_DENIED, "169.254.169.254:80 is refused: link-local");
	assert_fails(
		x, "goof", ERR_NOT_FOUND, "unknown provider \"goof\" (did you mean \"good\"?)");
	assert_fails(x, "nokey", ERR_AUTH, "provider nokey has no key (set SOME_KEY");
	assert_int_equal(x->server.requests, 0);
	world_free(x);
}

static bool
hangs_up(struct server *s, int fd, int n)
{
	return false;
}

static void
test_no_answer(void **in)
{
	struct world *x = world_new(hangs_up);
	assert_fails(x, "good", ERR_NET, "closed the connection without an answer");
	world_free(x);
}

static bool
cuts(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of i");
	return false;
}

static void
test_cut_answer(void **in)
{
	struct world *x = world_new(cuts);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "good", STR("{}"));
	assert_int_equal(c->e.code, ERR_NET);
	assert_non_null(strstr(c->e.msg, "cut the answer short"));
	assert_string_equal(c->body, "half of i");
	free(c);
	world_free(x);
}

static bool
speaks_something_else(struct server *s, int fd, int n)
{
	say(fd, "220 mail.example ESMTP\r\n");
	return false;
}

static void
test_not_http(void **in)
{
	struct world *x = world_new(speaks_something_else);
	assert_fails(x, "good", ERR_PROTO, "is not HTTP");
	world_free(x);
}

static bool
redirects(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: "
		"0\r\n\r\n");
	return true;
}

static void
test_redirect_is_not_followed(void **in)
{
	struct world *x = world_new(redirects);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "good", STR("{}"));
	assert_int_equal(c->e.code, 0);
	assert_int_equal(c->status, 302);
	assert_int_equal(x->server.requests, 1);
	free(c);
	world_free(x);
}

static bool
refuses_key(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\nRetry-After: "
		"3\r\n\r\n{\"no\":1}\n");
	return true;
}

static void
test_error_status_is_an_answer(void **in)
{
	struct world *x = world_new(refuses_key);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "good", STR("{}"));
	assert_int_equal(c->e.code, 0);
	assert_int_equal(c->status, 401);
	assert_non_null(strstr(c->headers.z, "retry-after: 3\n"));
	assert_string_equal(c->body, "{\"no\":1}\n");
	free(c);
	world_free(x);
}

static bool
large_head(struct server *s, int fd, int n)
{
	char line[1024];
	memset(line, 'v', sizeof(line));
	memcpy(line, "X-A: ", 5);
	memcpy(line + sizeof(line) - 3, "\r\n", 3);
	say(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 70; i++)
		say(fd, line);
	say(fd, "Content-Length: 0\r\n\r\n");
	return false;
}

static void
test_too_many_headers(void **in)
{
	struct world *x = world_new(large_head);
	assert_fails(x, "good", ERR_LIMIT, "over 65536 bytes of headers");
	world_free(x);
}

static bool
plain_under_tls(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
	return false;
}

static void
test_tls_to_a_plain_port(void **in)
{
	struct world *x = world_new(plain_under_tls);
	/* the server reads the hello as a request that never gets complete: the idle time ends it
	 */
	struct call *c = xcalloc(1, sizeof(*c));
	struct fetch_request r = {
		.provider = "tls", .path = STR("/x"), .connect_ms = 300, .idle_ms = 300
	};
	c->w = x;
	assert_int_equal(broker_fetch(x->broker, &r, &handler, c, &c->f, NULL), 0);
	finish(x, c);
	assert_int_equal(c->e.code, ERR_TIMEOUT);
	assert_non_null(strstr(c->e.msg, "no connection in time"));
	free(c);
	world_free(x);
}

static bool
streams_until_closed(struct server *s, int fd, int n)
{
	say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
	await_close(s, fd);
	return false;
}

static void
test_cancel_closes_the_connection(void **in)
{
	struct world *x = world_new(streams_until_closed);
	struct call *c = xcalloc(1, sizeof(*c));
	start(x, c, "good", STR("{}"), 0);
	c->cancel_on_data = true;
	loop_run(x->l);
	assert_string_equal(c->body, "data: 1\n\n");
	/* a second call can only be served once the (single) connection of the first was closed */
	struct call *d = xcalloc(1, sizeof(*d));
	start(x, d, "good", STR("{}"), 0);
	d->cancel_on_data = true;
	loop_run(x->l);
	assert_string_equal(d->body, "data: 1\n\n");
	assert_true(x->server.closed >= 1);
	assert_int_equal(x->server.connections, 2);
	assert_int_equal(c->ends, 0); /* no callback after the cancel */
	free(c);
	free(d);
	world_free(x);
}

static void
test_broker_dies(void **in)
{
	struct world *x = world_new(streams_until_closed);
	struct call *c = xcalloc(1, sizeof(*c));
	start(x, c, "good", STR("{}"), 0);
	c->stop_at = 1;
	loop_run(x->l);
	kill(x->pid, SIGKILL);
	finish(x, c);
	assert_int_equal(c->e.code, ERR_GONE);
	assert_false(broker_is_up(x->broker));
	struct fetch_request r = { .provider = "good", .path = STR("/x") };
	struct err e = { 0 };
	assert_int_equal(broker_fetch(x->broker, &r, &handler, c, &c->f, &e), ERR_GONE);
	assert_true(WIFSIGNALED(wait_broker(x)));
	free(c);
	world_free(x);
}

static void
test_new_link_fails_what_was_in_flight(void **in)
{
	struct world *x = world_new(streams_until_closed);
	struct call *c = xcalloc(1, sizeof(*c)), *d = xcalloc(1, sizeof(*d));
	start(x, c, "good", STR("{}"), 0);
	c->stop_at = 1;
	loop_run(x->l);
	broker_attach(x->broker, send_peer(x, "runtime"));
	assert_int_equal(c->ends, 1);
	assert_int_equal(c->e.code, ERR_GONE);
	assert_int_equal(x->ups, 2);
	start(x, d, "good", STR("{}"), 0); /* and the new one works */
	d->stop_at = 1;
	while (d->body_n == 0)
		loop_run(x->l);
	assert_int_equal(d->status, 200);
	fetch_cancel(d->f);
	free(c);
	free(d);
	world_free(x);
}

static void
test_stop_ends_it(void **in)
{
	struct world *x = world_new(streams_until_closed);
	struct call *c = xcalloc(1, sizeof(*c));
	start(x, c, "good", STR("{}"), 0);
	c->stop_at = 1;
	while (c->body_n == 0)
		loop_run(x->l);
	wire_begin(x->runner, WIRE_STOP, 0);
	wire_end(x->runner, STR(""), -1);
	finish(x, c);
	assert_int_equal(c->e.code, ERR_GONE);
	int status = wait_broker(x);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	free(c);
	world_free(x);
}

static void
test_end_of_the_runner_ends_it(void **in)
{
	struct world *x = world_new(answers);
	struct call *c = xcalloc(1, sizeof(*c));
	fetch(x, c, "good", STR("{}")); /* it is up */
	wire_close(x->runner);
	x->runner = NULL;
	assert_true(WIFEXITED(wait_broker(x)));
	free(c);
	world_free(x);
}

static void
assert_broker_drops_runner(struct world *x)
{
	while (x->runner_gone == 0)
		loop_run(x->l);
	assert_true(WIFEXITED(wait_broker(x)));
	world_free(x);
}

static void
test_only_runtime_and_shelld_may_be_peers(void **in)
{
	struct world *x = world_new(answers);
	close(send_peer(x, "client"));
	assert_broker_drops_runner(x);
}

static void
test_second_boot_is_refused(void **in)
{
	struct world *x = world_new(answers);
	send_boot(x, providers);
	assert_broker_drops_runner(x);
}

static void
test_bad_envelope_is_refused(void **in)
{
	struct world *x = xcalloc(1, sizeof(*x));
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	x->pid = fork();
	if (x->pid == 0) {
		close(fds[0]);
		_exit(broker_main(fds[1]));
	}
	close(fds[1]);
	server_listen(&x->server);
	assert_int_equal(loop_open(&x->l, NULL), 0);
	x->guard = timer_start(x->l, 30000, hangs, x);
	x->runner = wire_open(x->l, fds[0], ROLE_RUNNER, ROLE_BROKER, &runner_handler, x);
	wire_begin(x->runner, WIRE_BOOT, 0);
	assert_int_equal(wire_end(x->runner, STR("{\"providers\": {"), -1), 0);
	assert_broker_drops_runner(x);
}

#define T(f) cmocka_unit_test(f)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_head_and_body),
		T(test_other_key_header_and_get),
		T(test_connections_are_kept),
		T(test_requests_do_not_wait_for_each_other),
		T(test_closed_connection_is_replaced),
		T(test_large_bodies_both_ways),
		T(test_slow_runtime_holds_the_server_back),
		T(test_role_checks_what_the_runtime_should_have),
		T(test_client_refuses_injection),
		T(test_idle_server),
		T(test_slow_upload),
		T(test_idle_before_the_head),
		T(test_connections_are_limited),
		T(test_failures_to_connect),
		T(test_no_answer),
		T(test_cut_answer),
		T(test_not_http),
		T(test_redirect_is_not_followed),
		T(test_error_status_is_an_answer),
		T(test_too_many_headers),
		T(test_tls_to_a_plain_port),
		T(test_cancel_closes_the_connection),
		T(test_broker_dies),
		T(test_new_link_fails_what_was_in_flight),
		T(test_stop_ends_it),
		T(test_end_of_the_runner_ends_it),
		T(test_only_runtime_and_shelld_may_be_peers),
		T(test_second_boot_is_refused),
		T(test_bad_envelope_is_refused),
	};
	/* what libcurl would take from the environment must not matter */
	setenv("http_proxy", "http://127.0.0.1:1/", 1);
	setenv("https_proxy", "http://127.0.0.1:1/", 1);
	setenv("all_proxy", "http://127.0.0.1:1/", 1);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
