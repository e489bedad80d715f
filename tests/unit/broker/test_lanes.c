/* SPDX-License-Identifier: MIT
 * Many requests to one server, the limits of time, and secrets on their way: with the role in a
 * process of its own. The server here serves all its connections at once, and can hold every answer
 * back while it keeps each of them alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <time.h>

#define KEY "sk-test-0123456789abcdef"

#include "base/hash.h"
#include "base/seal.h"
#include "world.h"

#define DOT_MS      40
#define CLIENTS_MAX 600
#define CONNECTIONS 256 /* the default of a provider */
#define HEAD        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"

/* ---- a server of many connections ---- */

struct crowd {
	int listen_fd, port;
	pthread_t thread;
	size_t hold_n;   /* nothing is finished before this many requests are open at once */
	int64_t hold_ms; /* and this long after the first: a byte now and then keeps them alive */
	size_t n, most, requests;
	struct {
		int fd;
		size_t in_n, sent; /* sent: bytes of body; 0: waits for a request */
		char in[4096];
	} c[CLIENTS_MAX];
	atomic_bool stops;
};

static int64_t
now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void
crowd_finish(struct crowd *w, size_t i)
{
	static const char body[] =
		"..............................................................................."
		".....................";
	fd_write_all(w->c[i].fd, body, 100 - w->c[i].sent);
	w->c[i].sent = 0;
	w->c[i].in_n = 0;
}

static bool
crowd_read(struct crowd *w, size_t i)
{
	ssize_t n = recv(
		w->c[i].fd, w->c[i].in + w->c[i].in_n, sizeof(w->c[i].in) - 1 - w->c[i].in_n, 0);
	if (n <= 0)
		return false;
	w->c[i].in_n += (size_t)n;
	w->c[i].in[w->c[i].in_n] = '\0';
	if (str_ends((struct str){ w->c[i].in, w->c[i].in_n }, "}")) { /* our bodies are {} */
		w->requests++;
		fd_write_all(w->c[i].fd, HEAD ".", sizeof(HEAD));
		w->c[i].sent = 1;
	}
	return true;
}

static size_t
crowd_open(const struct crowd *w)
{
	size_t n = 0;
	for (size_t i = 0; i < w->n; i++)
		n += w->c[i].sent > 0;
	return n;
}

static void *
crowd_serve(void *arg)
{
	struct crowd *w = arg;
	struct pollfd *p = xcalloc(CLIENTS_MAX + 1, sizeof(*p));
	int64_t began_ms = 0, dotted_ms = 0;
	bool is_free = false;

	while (!w->stops) {
		for (size_t i = 0; i < w->n; i++)
			p[i] = (struct pollfd){ .fd = w->c[i].fd, .events = POLLIN };
		p[w->n] = (struct pollfd){ .fd = w->listen_fd, .events = POLLIN };
		size_t polled = w->n;
		poll(p, polled + 1, 20);
		if (p[polled].revents != 0 && w->n < CLIENTS_MAX) {
			int fd = accept(w->listen_fd, NULL, NULL);
			if (fd >= 0)
				w->c[w->n++].fd = fd;
		}
		for (size_t i = polled; i-- > 0;) {
			if (p[i].revents == 0 || crowd_read(w, i))
				continue;
			close(w->c[i].fd);
			w->c[i] = w->c[--w->n];
			w->c[w->n] = (__typeof__(w->c[0])){ 0 };
		}
		size_t open = crowd_open(w);
		int64_t now = now_ms();
		w->most = MAX(w->most, open);
		began_ms = began_ms == 0 && open > 0 ? now : began_ms;
		is_free = is_free || (open >= w->hold_n && now - began_ms >= w->hold_ms);
		for (size_t i = 0; i < w->n; i++) {
			if (w->c[i].sent > 0 && is_free)
				crowd_finish(w, i);
			else if (w->c[i].sent > 0 && w->c[i].sent < 99 && now - dotted_ms >= DOT_MS)
				w->c[i].sent += (size_t)(fd_write_all(w->c[i].fd, ".", 1) == 0);
		}
		dotted_ms = now - dotted_ms >= DOT_MS ? now : dotted_ms;
	}
	for (size_t i = 0; i < w->n; i++)
		close(w->c[i].fd);
	free(p);
	return NULL;
}

static struct crowd *
crowd_new(size_t hold_n, int64_t hold_ms)
{
	struct server s = { 0 };
	struct crowd *w = xcalloc(1, sizeof(*w));
	server_listen(&s);
	assert_int_equal(listen(s.listen_fd, 1000), 0);
	w->listen_fd = s.listen_fd;
	w->port = s.port;
	w->hold_n = hold_n;
	w->hold_ms = hold_ms;
	if (pthread_create(&w->thread, NULL, crowd_serve, w) != 0)
		fatal("the test server cannot start");
	return w;
}

static void
crowd_free(struct crowd *w)
{
	w->stops = true;
	pthread_join(w->thread, NULL);
	close(w->listen_fd);
	free(w);
}

/* ---- what the role is booted with ---- */

static int port;
static const char *settings = "";

static const char *
seed_hex(int n)
{
	static char hex[65];
	unsigned char seed[SEAL_SEED_SIZE] = { (unsigned char)n };
	hex_encode(seed, sizeof(seed), hex);
	return hex;
}

static void
envelope(struct world *x, struct buf *b)
{
	buf_printf(b,
		"{\"log\":{\"level\":\"off\"},\"masters\":[{\"kind\":\"file\",\"seed\":\"%s\"}],"
		"\"providers\":{"
		"\"p\":{\"base_url\":\"http://127.0.0.1:%d\",\"key_header\":\"x-api-key: \"%s},"
		"\"elsewhere\":{\"base_url\":\"http://127.0.0.1:%d\",\"key_header\":\"x-api-key: "
		"\","
		"\"headers\":{\"Host\":\"127.0.0.1:%d\"},\"api_key\":{\"secret\":\"mine\"}}}}",
		seed_hex(1), port != 0 ? port : x->server.port, settings, x->closed_port,
		x->server.port);
}

/* ---- many requests ---- */

static void
on_many_end(void *arg)
{
	struct call *c = arg;
	c->ends++;
	if (++c->w->ups == 0) /* counts up from minus the number of calls */
		loop_stop(c->w->l);
}

static void
on_many_fail(void *arg, const struct err *e)
{
	((struct call *)arg)->e = *e;
	on_many_end(arg);
}

static const struct fetch_handler many_handler = { on_head, on_data, on_many_end, on_many_fail };

static struct call *
fetch_many(struct world *x, size_t n)
{
	struct call *calls = xcalloc(n, sizeof(*calls));
	struct fetch_request r = {
		.provider = "p", .path = STR("/x"), .headers = STR(""), .body = STR("{}")
	};

	x->ups = -(int)n;
	for (size_t i = 0; i < n; i++) {
		calls[i].w = x;
		assert_int_equal(
			broker_fetch(x->broker, &r, &many_handler, &calls[i], &calls[i].f, NULL),
			0);
	}
	loop_run(x->l);
	return calls;
}

/* 1,000 requests at 256 connections. The first 256 are held for much longer than connecting may
 * take and a server may be silent: the 744 that wait must not be counted as slow. */
static void
test_a_thousand_requests(void **in)
{
	struct crowd *w = crowd_new(CONNECTIONS, 3000);
	port = w->port;
	settings = ",\"connect_ms\":1000,\"idle_ms\":1500,\"total_ms\":60000";
	struct world *x = world_with(NULL, envelope);
	struct call *calls = fetch_many(x, 1000);
	for (size_t i = 0; i < 1000; i++) {
		if (calls[i].e.code != 0)
			fail_msg("call %zu: %s", i, calls[i].e.msg);
		assert_int_equal(calls[i].ends, 1);
		assert_int_equal(calls[i].status, 200);
		assert_int_equal(calls[i].body_n, 100);
	}
	assert_int_equal(w->requests, 1000);
	assert_int_equal(w->most, CONNECTIONS);
	free(calls);
	world_free(x);
	crowd_free(w);
	port = 0;
}

/* Who waits and is cancelled never reaches the server, and takes nobody's place. */
static void
test_cancel_in_the_queue(void **in)
{
	struct crowd *w = crowd_new(CONNECTIONS, 0);
	port = w->port;
	settings = "";
	struct world *x = world_with(NULL, envelope);
	struct fetch_request r = {
		.provider = "p", .path = STR("/x"), .headers = STR(""), .body = STR("{}")
	};
	struct call *calls = xcalloc(300, sizeof(*calls));
	x->ups = -256 - 22;
	for (size_t i = 0; i < 300; i++) {
		calls[i].w = x;
		assert_int_equal(
			broker_fetch(x->broker, &r, &many_handler, &calls[i], &calls[i].f, NULL),
			0);
	}
	for (size_t i = 256; i < 300; i += 2)
		fetch_cancel(calls[i].f);
	loop_run(x->l);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(calls[i].ends, i < 256 || i % 2 == 1 ? 1 : 0);
	assert_int_equal(w->requests, 278);
	free(calls);
	world_free(x);
	crowd_free(w);
	port = 0;
}

/* A server that is never silent and never done. */
static void
test_total(void **in)
{
	struct crowd *w = crowd_new(2, 0);
	struct call *c = xcalloc(1, sizeof(*c));
	port = w->port;
	settings = ",\"idle_ms\":20000,\"total_ms\":1500";
	struct world *x = world_with(NULL, envelope);
	fetch(x, c, "p", STR("{}"));
	assert_int_equal(c->e.code, ERR_TIMEOUT);
	assert_non_null(strstr(c->e.msg, "not done after 1500 ms"));
	assert_true(c->body_n > 0); /* it was alive */
	free(c);
	world_free(x);
	crowd_free(w);
	port = 0;
}

/* ---- secrets ---- */

static bool
answers_with_an_echo(struct server *s, int fd, int n)
{
	/* The key in a header, and in a body in two pieces. */
	say(fd, "HTTP/1.1 401 Unauthorized\r\nX-Echo: got " KEY
		"\r\nContent-Length: 47\r\n\r\nbad key: sk-test-0123");
	say(fd, "456789abcdef, sk-test-0123");
	return true;
}

static char *
sealed_file(const char *name, const char *host, const char *use, const char *value)
{
	unsigned char seed[SEAL_SEED_SIZE] = { 1 };
	struct seal_key *k = seal_key_new(seed);
	struct seal_record r = { .name = str_of(name),
		.hosts = { str_of(host) },
		.hosts_n = 1,
		.uses = { str_of(use) },
		.uses_n = 1,
		.value = str_of(value) };
	struct buf sealed;
	struct err e;

	buf_init(&sealed, 2 * SECRET_RECORD_MAX);
	assert_int_equal(seal_record_close(&r, seal_key_public(k), &sealed, &e), 0);
	char *file = xasprintf("{\"v\":1,\"secrets\":[{\"name\":\"%s\",\"hosts\":[],\"uses\":[],"
			       "\"set_at_ms\":1,\"key\":\"%s\","
			       "\"sealed\":\"%s\"}]}",
		name, seal_key_public(k), buf_z(&sealed));
	buf_fini(&sealed);
	seal_key_free(k);
	return file;
}

static void
on_keyring(void *arg)
{
	loop_stop(((struct world *)arg)->l);
}

/* Hands the file over and waits for the answer; gives whether provider p has a key then. */
static bool
keep(struct world *x, const char *file)
{
	broker_on_keyring(x->broker, on_keyring, x);
	broker_secrets(x->broker, str_of(file));
	assert_null(broker_keyring(x->broker));
	loop_run(x->l);
	assert_non_null(broker_keyring(x->broker));
	return node_bool(node_get(broker_keyring(x->broker), "providers"), "p", false);
}

static void
assert_fetch_fails(struct world *x, const char *provider, int code, const char *why)
{
	int connections = x->server.connections;
	assert_fails(x, provider, code, why);
	assert_int_equal(x->server.connections, connections); /* refused before anything was sent */
}

static void
test_secret_is_bound(void **in)
{
	struct call *c = xcalloc(1, sizeof(*c));
	settings = ",\"api_key\":{\"secret\":\"mine\"}";
	struct world *x = world_with(answers_with_an_echo, envelope);
	AUTO_FREE char *here = xasprintf("127.0.0.1:%d", x->server.port);
	AUTO_FREE char *good = sealed_file("mine", here, "header", KEY);
	AUTO_FREE char *other_host = sealed_file("mine", "api.openai.com", "header", KEY);
	AUTO_FREE char *other_use = sealed_file("mine", here, "header:authorization", KEY);
	AUTO_FREE char *other_value =
		sealed_file("mine", here, "header:x-api-key", "another-value-9876");

	assert_false(keep(x, ""));
	assert_fetch_fails(x, "p", ERR_AUTH, "there is no secret mine");
	assert_true(keep(x, good));
	fetch(x, c, "p", STR("{}")); /* the control: where it is bound to it goes */
	assert_int_equal(c->e.code, 0);
	assert_non_null(strstr(x->server.request, "\r\nx-api-key: " KEY "\r\n"));
	/* and does not come back */
	assert_string_equal(c->body, "bad key: ************************, sk-test-0123");
	assert_non_null(strstr(c->headers.z, "x-echo: got ************************\n"));
	/* Another server of the same configuration, whose Host header even names the right one. */
	assert_fetch_fails(x, "elsewhere", ERR_DENIED, "not bound to http://127.0.0.1:");
	assert_false(keep(x, other_host));
	assert_fetch_fails(x, "p", ERR_DENIED, "secret mine is not bound to");
	assert_false(keep(x, other_use));
	assert_fetch_fails(x, "p", ERR_DENIED, "may not be used as header:x-api-key");
	assert_true(keep(x, other_value)); /* changed, without a restart */
	fetch(x, c, "p", STR("{}"));
	assert_non_null(strstr(x->server.request, "\r\nx-api-key: another-value-9876\r\n"));
	assert_null(strstr(x->server.request, KEY));
	assert_false(keep(x, "{ damaged"));
	assert_fetch_fails(x, "p", ERR_CORRUPT, "the secrets file cannot be read");
	assert_true(keep(x, good));
	free(c);
	world_free(x);
}

static void
test_secret_in_headers(void **in)
{
	struct call *c = xcalloc(1, sizeof(*c));
	settings = ",\"headers\":{\"X-Team\":\"blue\",\"X-Token\":{\"secret\":\"mine\"}}";
	struct world *x = world_with(answers_with_an_echo, envelope);
	AUTO_FREE char *here = xasprintf("127.0.0.1:%d", x->server.port);
	AUTO_FREE char *header = sealed_file("mine", here, "header:x-token", KEY);
	AUTO_FREE char *url = sealed_file("mine", here, "url", KEY);

	(void)keep(x, header);
	fetch(x, c, "p", STR("{}"));
	assert_non_null(strstr(x->server.request, "\r\nX-Token: " KEY "\r\n"));
	assert_non_null(strstr(x->server.request, "\r\nX-Team: blue\r\n"));
	(void)keep(x, url);
	assert_fetch_fails(x, "p", ERR_DENIED,
		"header X-Token: secret mine may not be used as header:X-Token");
	free(c);
	world_free(x);
}

static void
url_envelope(struct world *x, struct buf *b)
{
	buf_printf(b,
		"{\"log\":{\"level\":\"off\"},\"masters\":[{\"kind\":\"file\",\"seed\":\"%s\"}],"
		"\"providers\":{"
		"\"p\":{\"base_url\":\"http://127.0.0.1:%d/bot{secret:mine}/v1\"}}}",
		seed_hex(1), x->server.port);
}

static void
test_secret_in_url(void **in)
{
	struct call *c = xcalloc(1, sizeof(*c));
	struct world *x = world_with(answers_with_an_echo, url_envelope);
	AUTO_FREE char *here = xasprintf("127.0.0.1:%d", x->server.port);
	AUTO_FREE char *url = sealed_file("mine", here, "url", KEY),
		       *header = sealed_file("mine", here, "header", KEY);
	AUTO_FREE char *slash = sealed_file("mine", here, "url", "../" KEY);

	(void)keep(x, url);
	fetch(x, c, "p", STR("{}"));
	assert_true(
		str_starts(str_of(x->server.request), "POST /bot" KEY "/v1/chat?x=1 HTTP/1.1\r\n"));
	(void)keep(x, header);
	assert_fetch_fails(x, "p", ERR_DENIED, "may not be used as url");
	(void)keep(x, slash);
	assert_fetch_fails(x, "p", ERR_INVALID, "may not stand in a path");
	free(c);
	world_free(x);
}

/* The text of a reference in a request of the runtime is text. */
static void
test_requests_refer_to_nothing(void **in)
{
	struct call *c = xcalloc(1, sizeof(*c));
	struct fetch_request r = { .provider = "p",
		.path = STR("/{secret:mine}"),
		.body = STR("{secret:mine}"),
		.headers = STR("X-A: {secret:mine}\n") };
	settings = "";
	struct world *x = world_with(answers_with_an_echo, envelope);
	AUTO_FREE char *here = xasprintf("127.0.0.1:%d", x->server.port);
	AUTO_FREE char *file = sealed_file("mine", here, "header", KEY);

	(void)keep(x, file);
	c->w = x;
	assert_int_equal(broker_fetch(x->broker, &r, &handler, c, &c->f, NULL), 0);
	finish(x, c);
	assert_int_equal(c->status, 401);
	assert_null(strstr(x->server.request, KEY));
	assert_non_null(strstr(x->server.request, "X-A: {secret:mine}"));
	free(c);
	world_free(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_thousand_requests),
		cmocka_unit_test(test_cancel_in_the_queue),
		cmocka_unit_test(test_total),
		cmocka_unit_test(test_secret_is_bound),
		cmocka_unit_test(test_secret_in_headers),
		cmocka_unit_test(test_secret_in_url),
		cmocka_unit_test(test_requests_refer_to_nothing),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
