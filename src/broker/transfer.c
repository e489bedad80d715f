/* SPDX-License-Identifier: MIT
 * One request: gathers its body from the stream, sends it with the server's credentials, and passes
 * status, headers and body back as they come, no faster than the runtime takes them. Invariant: a
 * transfer ends exactly once, never inside a callback of libcurl, and no message about it holds a
 * key. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/internal.h"
#include "ithaca-version.h"

/* What libcurl reads at once: it keeps a buffer of that size for each stream. */
#define PIECE        4096L
#define FETCH_MS_MAX (24 * 60 * 60 * INT64_C(1000))

struct transfer {
	struct egress *g;
	struct pool *pool; /* NULL: not begun */
	const struct upstream *u;
	struct wire *w;
	struct stream *stream;
	CURL *easy;               /* NULL: the body is not complete yet */
	struct curl_slist *lines; /* hold the key */
	struct buf url, own;      /* own: the lines that hold the key, until they are in `lines` */
	struct mask mask;
	struct ticket ticket;
	struct buf path, asked; /* of the request */
	char method[16];        /* empty: GET or POST, by the body */
	struct buf body;
	int64_t connect_ms, idle_ms;
	struct timer *idle, *total;
	int64_t heard_ms; /* loop time of the last byte */
	curl_off_t sent;  /* of the body, when the idle timer last ran out */
	bool is_connected;
	bool is_paused; /* the runtime is slow; the server is not to blame */
	int status;
	struct buf head; /* of the answer, until it is sent */
	bool head_sent;
	struct err e; /* why a callback stopped the transfer */
	char detail[CURL_ERROR_SIZE];
};

/* ---- ends ---- */

static void
free_lines(const struct curl_api *api, struct curl_slist *lines)
{
	for (struct curl_slist *i = lines; i != NULL; i = i->next)
		wipe(i->data, strlen(i->data));
	api->slist_free_all(lines);
}

static void
transfer_free(struct transfer *t)
{
	const struct curl_api *api = egress_api(t->g);

	if (t->easy != NULL) {
		pool_remove(t->pool, t->easy);
		api->easy_cleanup(t->easy);
	}
	timer_close(t->idle);
	timer_close(t->total);
	free_lines(api, t->lines);
	wipe(t->url.p, t->url.cap);
	buf_fini(&t->url);
	wipe(t->own.p, t->own.cap);
	buf_fini(&t->own);
	mask_free(&t->mask);
	buf_fini(&t->path);
	buf_fini(&t->asked);
	buf_fini(&t->body);
	buf_fini(&t->head);
	if (t->ticket.lane != NULL)
		lane_leave(&t->ticket); /* the next one may start: this one is off its connection */
	free(t);
}

static void
transfer_fail(struct transfer *t, const struct err *e)
{
	stream_close(t->stream, e);
	transfer_free(t);
}

static const struct reason {
	CURLcode code;
	int err;
	const char *what; /* NULL: libcurl's own words */
	const char *fix;
} reasons[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, ERR_NET, "the name cannot be resolved",
		"check base_url and the network" },
	{ CURLE_COULDNT_CONNECT, ERR_NET, "cannot connect",
		"is the server running? check base_url" },
	{ CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT, "no connection in time",
		"check the network, or raise connect_ms" },
	{ CURLE_PEER_FAILED_VERIFICATION, ERR_NET, NULL, "trust it by ca_file?" },
	{ CURLE_SSL_CONNECT_ERROR, ERR_NET, NULL, "does base_url name a TLS port?" },
	{ CURLE_SSL_CACERT_BADFILE, ERR_NET, "there are no certificates of authorities here",
		"install the package ca-certificates" },
	{ CURLE_GOT_NOTHING, ERR_NET, "it closed the connection without an answer", "try again" },
	{ CURLE_PARTIAL_FILE, ERR_NET, "it cut the answer short", "try again" },
	{ CURLE_RECV_ERROR, ERR_NET, "the connection broke", "try again" },
	{ CURLE_SEND_ERROR, ERR_NET, "the connection broke", "try again" },
	{ CURLE_HTTP2, ERR_NET, "the HTTP/2 connection broke", "try again" },
	{ CURLE_HTTP2_STREAM, ERR_NET, "it reset the HTTP/2 stream", "try again" },
	{ CURLE_WEIRD_SERVER_REPLY, ERR_PROTO, "its answer is not HTTP", "check base_url" },
	{ CURLE_UNSUPPORTED_PROTOCOL, ERR_PROTO, "its answer is not HTTP/1 or 2",
		"check base_url" },
};

/* "OpenSSL/3.0.19: error:0A00010B:SSL routines::wrong version number": the last part is for people.
 */
static const char *
last_words(const char *detail)
{
	const char *p = strstr(detail, "::");

	while (p != NULL && strstr(p + 2, "::") != NULL)
		p = strstr(p + 2, "::");
	return p != NULL && p[2] != '\0' ? p + 2 : detail;
}

static void
explain(struct transfer *t, CURLcode code, struct err *e)
{
	const struct curl_api *api = egress_api(t->g);
	struct reason r = { code, ERR_NET, NULL, "try again" };
	long os = 0;

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		if (reasons[i].code == code)
			r = reasons[i];
	}
	if (code == CURLE_SSL_CACERT_BADFILE && t->u->ca_file != NULL) {
		r.what = "its ca_file cannot be read";
		r.fix = "name a file of certificates in PEM";
	}
	mask_text(&t->mask, t->detail, strlen(t->detail));
	if (r.what == NULL)
		r.what = t->detail[0] != '\0' ? last_words(t->detail) : api->easy_strerror(code);
	api->easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os);
	if (code == CURLE_COULDNT_CONNECT && os != 0)
		err_set(e, r.err, ERR_TO_USER, "provider %s: cannot connect to %s: %s (%s)",
			t->u->name, t->u->where, strerror((int)os), r.fix);
	else
		err_set(e, r.err, ERR_TO_USER, "provider %s at %s: %s (%s)", t->u->name,
			t->u->where, r.what, r.fix);
}

void
transfer_done(void *transfer, CURLcode result)
{
	struct transfer *t = transfer;

	if (result == CURLE_OK && t->head_sent) {
		struct str rest = mask_rest(&t->mask);

		/* A link that broke in this pass takes nothing any more, and its end comes next. */
		if (stream_write(t->stream, 0, rest) != rest.n && wire_is_open(t->w))
			fatal("broker: no credit for what was held back");
		stream_eof(t->stream);
		stream_close(t->stream, NULL);
		transfer_free(t);
		return;
	}
	if (t->e.code == 0)
		explain(t, result == CURLE_OK ? CURLE_WEIRD_SERVER_REPLY : result, &t->e);
	transfer_fail(t, &t->e);
}

static void
on_total(void *arg)
{
	struct transfer *t = arg;

	err_set(&t->e, ERR_TIMEOUT, ERR_TO_USER,
		"provider %s at %s: not done after %lld ms (or raise total_ms)", t->u->name,
		t->u->where, (long long)t->u->total_ms);
	transfer_fail(t, &t->e);
}

/* A server is not idle while it takes the request: attachments are large, and uplinks slow. */
static bool
has_sent_more(struct transfer *t)
{
	curl_off_t before = t->sent;

	egress_api(t->g)->easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &t->sent);
	return t->sent > before;
}

/* A timer that starts over with each byte costs more than the byte: it is left to run out, and only
 * then goes on for as long as the server may still be silent. */
static void
on_idle(void *arg)
{
	struct transfer *t = arg;
	int64_t left_ms = t->heard_ms + t->idle_ms - loop_now_ms(egress_loop(t->g));

	if (t->is_connected && left_ms > 0) {
		timer_again(t->idle, left_ms);
		return;
	}
	if (t->is_connected && has_sent_more(t)) {
		timer_again(t->idle, t->idle_ms);
		return;
	}
	if (t->is_connected)
		err_set(&t->e, ERR_TIMEOUT, ERR_TO_USER,
			"provider %s at %s: no byte for %lld ms (is it busy? or raise idle_ms)",
			t->u->name, t->u->where, (long long)t->idle_ms);
	else
		err_set(&t->e, ERR_TIMEOUT, ERR_TO_USER,
			"provider %s at %s: no free connection in %lld ms (at most %lld: raise "
			"connections)",
			t->u->name, t->u->where, (long long)(t->connect_ms + t->idle_ms),
			(long long)t->u->connections);
	transfer_fail(t, &t->e);
}

/* ---- callbacks of libcurl: they note and pass on, and never end the transfer ---- */

static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct transfer *t = arg;
	char text[ADDRESS_TEXT_SIZE];
	const char *why = address_refusal(&a->addr);

	if (why != NULL) {
		err_set(&t->e, ERR_DENIED, ERR_TO_USER,
			"provider %s at %s: the address %s is refused: %s (check base_url)",
			t->u->name, t->u->where, address_text(&a->addr, text), why);
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static void
heard(struct transfer *t)
{
	t->heard_ms = loop_now_ms(egress_loop(t->g));
}

static int
on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct transfer *t = arg;
	t->is_connected = true;
	heard(t);
	timer_again(t->idle, t->idle_ms);
	return CURL_PREREQFUNC_OK;
}

/* An answer means that the request is not made again: what was sent of it need not be kept while
 * the answer streams. */
static void
drop_sent_body(struct transfer *t)
{
	curl_off_t sent = 0;

	egress_api(t->g)->easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	if ((size_t)sent == t->body.n)
		buf_fini(&t->body);
}

static void
send_head(struct transfer *t)
{
	struct json *j = wire_begin(t->w, WIRE_FETCHED, stream_id(t->stream));
	mask_text(&t->mask, t->head.p, t->head.n);
	json_kv_int(j, "status", t->status);
	json_kv_int(j, "queued_ms", t->ticket.queued_ms);
	json_kv_str(j, "headers", buf_str(&t->head));
	wire_end(t->w, STR(""), -1);
	t->head_sent = true;
	drop_sent_body(t);
	buf_fini(&t->head);
	buf_init(&t->head, FETCH_HEADERS_MAX);
}

static void
add_header(struct buf *b, struct str line)
{
	ptrdiff_t colon = str_find_char(line, ':');
	if (colon <= 0)
		return;
	for (size_t i = 0; i < (size_t)colon; i++) {
		char c = line.p[i];
		buf_add_char(b, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
	}
	buf_add_z(b, ": ");
	struct str value = str_trim(str_sub(line, (size_t)colon + 1, line.n));
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];
		buf_add_char(b, c < 0x20 || c == 0x7f ? ' ' : (char)c);
	}
	buf_add_char(b, '\n');
}

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct str line = { p, size * n };

	heard(t);
	while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
		line.n--;
	if (t->head_sent) /* a trailer */
		return size * n;
	if (str_starts(line, "HTTP/")) {
		long status = 0;
		if (str_starts(line, "HTTP/2"))
			lane_shares(&t->ticket);
		egress_api(t->g)->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		t->status = (int)status;
		buf_reset(&t->head);
	} else if (line.n > 0) {
		add_header(&t->head, line);
	} else if (t->status >= 200) { /* below: an interim answer, another head follows */
		send_head(t);
	}
	if (t->head.overflow) {
		err_set(&t->e, ERR_LIMIT, ERR_TO_USER,
			"provider %s at %s: over %u bytes of headers in its answer", t->u->name,
			t->u->where, FETCH_HEADERS_MAX);
		return 0;
	}
	return size * n;
}

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct str bytes = { p, size * n };

	if (stream_credit(t->stream) < bytes.n + mask_held(&t->mask)) {
		t->is_paused = true;
		timer_stop(t->idle);
		return CURL_WRITEFUNC_PAUSE;
	}
	heard(t);
	struct str pass = mask_take(&t->mask, bytes);
	return stream_write(t->stream, 0, pass) == pass.n ? bytes.n : 0;
}

/* ---- the request ---- */

static void
add_line(struct transfer *t, const char *line)
{
	struct curl_slist *more = egress_api(t->g)->slist_append(t->lines, line);
	if (more == NULL)
		fatal("broker: out of memory");
	t->lines = more;
}

static void
add_lines(struct transfer *t, struct str lines)
{
	struct buf b;
	struct str line;

	buf_init(&b, FETCH_HEADERS_MAX + 2);
	while (str_next(&lines, '\n', &line)) {
		if (line.n == 0)
			continue;
		buf_reset(&b);
		buf_add_str(&b, line);
		size_t colon = (size_t)str_find_char(line, ':');
		if (str_trim(str_sub(line, colon + 1, line.n)).n ==
			0) { /* libcurl spells an empty value so */
			buf_truncate(&b, colon);
			buf_add_char(&b, ';');
		}
		add_line(t, buf_z(&b));
	}
	wipe(b.p, b.cap);
	buf_fini(&b);
}

static void
set_headers(struct transfer *t)
{
	struct str own = buf_str(&t->own);

	add_line(t, "Expect:"); /* some servers never answer 100-continue */
	add_line(
		t, "Content-Type:"); /* libcurl's own guess; one that was asked for is still sent */
	for (size_t at = 0; at < own.n; at += strlen(own.p + at) + 1)
		add_lines(t, str_of(own.p + at));
	add_lines(t, buf_str(&t->asked));
	egress_api(t->g)->easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->lines);
}

/* The same for every request. What libcurl would take from the environment or the answer is off. */
static void
set_fixed(const struct curl_api *api, CURL *easy)
{
	static const struct {
		CURLoption option;
		long value;
	} rows[] = {
		{ CURLOPT_NOSIGNAL, 1 },
		{ CURLOPT_NOPROGRESS, 1 },
		{ CURLOPT_QUICK_EXIT, 1 }, /* or ending a transfer waits for name resolution */
		{ CURLOPT_FOLLOWLOCATION, 0 },
		{ CURLOPT_NETRC, CURL_NETRC_IGNORED },
		{ CURLOPT_DISALLOW_USERNAME_IN_URL, 1 },
		{ CURLOPT_PATH_AS_IS, 1 },
		{ CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
		{ CURLOPT_BUFFERSIZE, PIECE },
		{ CURLOPT_TCP_KEEPALIVE, 1 },
		{ CURLOPT_TCP_NODELAY, 1 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		api->easy_setopt(easy, rows[i].option, rows[i].value);
	api->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	api->easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "");
	api->easy_setopt(easy, CURLOPT_PROXY, "");
	api->easy_setopt(easy, CURLOPT_USERAGENT, "ithaca/" ITHACA_VERSION);
	/* Reading the whole bundle takes 20 ms at the first connection; by hash only what is needed
	 * is read. */
	if (api->has_hashed_ca)
		api->easy_setopt(easy, CURLOPT_CAINFO, NULL);
}

static void
set_callbacks(const struct curl_api *api, struct transfer *t)
{
	api->easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	api->easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->detail);
	api->easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	api->easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, t);
	api->easy_setopt(t->easy, CURLOPT_PREREQFUNCTION, on_connected);
	api->easy_setopt(t->easy, CURLOPT_PREREQDATA, t);
	api->easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
	api->easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
	api->easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
	api->easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
}

/* HTTP/2 over TLS only. There a request waits for a connection that is being set up, to share it;
 * without TLS that wait would last until the first answer begins. */
static void
set_version(const struct curl_api *api, struct transfer *t)
{
	api->easy_setopt(t->easy, CURLOPT_HTTP_VERSION,
		t->u->is_tls ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
	api->easy_setopt(t->easy, CURLOPT_PIPEWAIT, t->u->is_tls ? 1L : 0L);
}

/* With a file of its own nothing else is trusted there. */
static void
set_authorities(const struct curl_api *api, struct transfer *t)
{
	if (t->u->ca_file == NULL)
		return;
	api->easy_setopt(t->easy, CURLOPT_CAINFO, t->u->ca_file);
	api->easy_setopt(t->easy, CURLOPT_CAPATH, NULL);
}

/* A connection may be used: only from here on time counts. */
static void
transfer_send(void *arg)
{
	struct transfer *t = arg;

	t->idle = timer_start(egress_loop(t->g), t->connect_ms + t->idle_ms, on_idle, t);
	if (t->u->total_ms > 0)
		t->total = timer_start(egress_loop(t->g), t->u->total_ms, on_total, t);
	pool_add(t->pool, t->easy);
}

/* Those that are about a body say also of an empty one how long it is (RFC 9110, 8.6). */
static bool
sends_body(const struct transfer *t)
{
	static const char *const names[] = { "POST", "PUT", "PATCH" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(t->method, names[i]) == 0)
			return true;
	return t->body.n > 0;
}

/* A body makes libcurl forget that it is a HEAD, for which a body means nothing. */
static void
set_method(const struct curl_api *api, struct transfer *t)
{
	if (strcmp(t->method, "HEAD") == 0) {
		api->easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
		return;
	}
	if (t->method[0] != '\0')
		api->easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, t->method);
	if (!sends_body(t))
		return;
	api->easy_setopt(t->easy, CURLOPT_POST, 1L);
	api->easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body.n);
	api->easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->body.n > 0 ? t->body.p : "");
}

/* The body is whole before the request goes out, so that libcurl can send it again on a fresh
 * connection when a kept one turns out to be closed. An empty body makes it a GET. */
static void
transfer_begin(struct transfer *t)
{
	const struct curl_api *api = egress_api(t->g);

	t->easy = api->easy_init();
	if (t->easy == NULL)
		fatal("broker: out of memory");
	buf_add_str(&t->url, buf_str(&t->path));
	set_fixed(api, t->easy);
	set_callbacks(api, t);
	set_version(api, t);
	set_headers(t);
	set_authorities(api, t);
	api->easy_setopt(t->easy, CURLOPT_URL, buf_z(&t->url));
	api->easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_ms);
	set_method(api, t);
	t->pool = egress_pool(t->g, t->u);
	lane_enter(pool_lane(t->pool), &t->ticket, transfer_send, t);
}

/* ---- its stream ---- */

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct transfer *t = arg;

	stream_consume(t->stream, bytes.n);
	if (buf_add_str(&t->body, bytes) == 0)
		return;
	err_set(&t->e, ERR_LIMIT, ERR_TO_USER, "provider %s: request body over %u bytes",
		t->u->name, REQUEST_BODY_MAX);
	transfer_fail(t, &t->e);
}

static void
on_eof(void *arg)
{
	transfer_begin(arg);
}

static void
on_credit(void *arg)
{
	struct transfer *t = arg;

	if (!t->is_paused || stream_credit(t->stream) < (size_t)PIECE + mask_held(&t->mask))
		return;
	t->is_paused = false;
	heard(t);
	timer_again(t->idle, t->idle_ms);
	CURLcode rc = egress_api(t->g)->easy_pause(t->easy, CURLPAUSE_CONT);
	if (rc != CURLE_OK)
		transfer_done(t, rc);
}

static void
on_reset(void *arg, const struct err *e)
{
	transfer_free(arg);
}

static const struct stream_handler handler = {
	.on_data = on_data, .on_credit = on_credit, .on_eof = on_eof, .on_reset = on_reset
};

static int64_t
wait_ms(const struct node *head, const char *key, int64_t dflt)
{
	int64_t ms = node_int(head, key, 0);
	return ms > 0 ? MIN(ms, FETCH_MS_MAX) : dflt;
}

/* Those whose meaning libcurl and the proxy know. */
static int
read_method(struct transfer *t, struct str method, struct err *e)
{
	static const char *const known[] = { "", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE",
		"OPTIONS" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (str_is(method, known[i])) {
			memcpy(t->method, method.p, method.n);
			return 0;
		}
	}
	return err_set(e, ERR_INVALID, ERR_TO_USER,
		"provider %s: method %.*s is not one of GET HEAD POST PUT PATCH DELETE OPTIONS",
		t->u->name, STR_FMT(str_sub(method, 0, 16)));
}

void
transfer_start(struct egress *g, const struct upstreams *list, const struct vault *v,
	struct wire *w, const struct wire_msg *m)
{
	struct str path = node_str(m->head, "path", STR(""));
	struct str lines = node_str(m->head, "headers", STR(""));
	struct transfer *t = xcalloc(1, sizeof(*t));
	struct err e = { 0 };

	t->g = g;
	t->w = w;
	buf_init(&t->path, FETCH_PATH_MAX);
	buf_init(&t->url, 2 * FETCH_PATH_MAX + SECRET_VALUE_MAX);
	buf_init(&t->own, FETCH_HEADERS_MAX);
	buf_init(&t->mask.held,
		CURL_MAX_WRITE_SIZE + SECRET_VALUE_MAX); /* more than PIECE after a pause */
	buf_init(&t->asked, FETCH_HEADERS_MAX);
	buf_init(&t->body, REQUEST_BODY_MAX);
	buf_init(&t->head, FETCH_HEADERS_MAX);
	t->stream = stream_open(w, m->id, &handler, t);
	t->u = upstream_find(list, node_str(m->head, "provider", STR("")), &e);
	if (t->u == NULL || read_method(t, node_str(m->head, "method", STR("")), &e) != 0 ||
		request_check_path(path, &e) != 0 || request_check_headers(lines, &e) != 0 ||
		upstream_write(t->u, v, &t->url, &t->own, &t->mask, &e) != 0) {
		transfer_fail(t, &e);
		return;
	}
	buf_add_str(&t->path, path);
	buf_add_str(&t->asked, lines);
	t->connect_ms = wait_ms(m->head, "connect_ms", t->u->connect_ms);
	t->idle_ms = wait_ms(m->head, "idle_ms", t->u->idle_ms);
}
