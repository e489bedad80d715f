/* SPDX-License-Identifier: MIT
 * /svc/NAME/path: a request of a cell to a server that the operator named. It becomes a FETCH like
 * one of the runtime's, on a link of this process to itself, so that key, address, TLS and mask are
 * the work of one place. Invariant: the cell decides method, path, body and harmless headers;
 * server and key never, and the key does not come back. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/proxy.h"

#define PIECE_MAX  16384
#define CHUNK_ROOM 16 /* of a chunk's size and line ends */

struct service_call {
	struct proxied *c;
	struct service_link *k;
	struct service_call *next;
	const struct upstream *u;
	struct stream *fetch; /* NULL: it is over */
	struct proxy_body body;
	bool is_head, is_http10, sends_body, fetch_ended, body_sent, is_pumping, is_gone;
	struct buf out; /* of the answer, not taken by the cell's stream yet */
};

struct service_link {
	struct wire *near, *far; /* two ends of one pair, both here */
	struct service_call *calls;
	struct egress *g;
	const struct upstreams *services;
	const struct vault *vault;
};

void
service_free(struct service_call *s)
{
	struct service_call **p;

	if (s == NULL)
		return;
	for (p = &s->k->calls; *p != s;)
		p = &(*p)->next;
	*p = s->next;
	if (s->fetch != NULL)
		stream_close(s->fetch, NULL);
	s->fetch = NULL;
	buf_fini(&s->out);
	if (s->is_pumping)
		s->is_gone = true; /* its pump frees it */
	else
		free(s);
}

/* ---- the request ---- */

/* Names that belong to the broker are left out, not refused: libraries send a key, even if it means
 * nothing. */
static void
keep_headers(const struct upstream *u, struct str lines, struct buf *out)
{
	size_t own_n = u->key_header != NULL ? strcspn(u->key_header, ":") : 0;
	struct str line;
	struct err e;

	while (str_next(&lines, '\n', &line)) {
		ptrdiff_t colon = str_find_char(line, ':');
		struct str name = str_sub(line, 0, colon > 0 ? (size_t)colon : 0);

		if (name.n == 0 ||
			request_check_header(name, str_sub(line, name.n + 1, line.n), false, &e) !=
				0 ||
			(name.n == own_n && strncasecmp(name.p, u->key_header, own_n) == 0))
			continue;
		buf_add_str(out, line);
		buf_add_char(out, '\n');
	}
}

/* The body so far. false: the call is gone. */
static bool
pump_request(struct service_call *s)
{
	struct buf *in = proxied_in(s->c);
	struct err e;

	while (!s->body.is_done && in->n > 0 && s->fetch != NULL && stream_credit(s->fetch) > 0) {
		struct str payload;
		size_t max = MIN(in->n, stream_credit(s->fetch));
		ptrdiff_t n = proxy_body_take(&s->body, str_sub(buf_str(in), 0, max), &payload, &e);

		if (n < 0) {
			proxied_refuse(s->c, 400, "Bad request", e.msg);
			return false;
		}
		if (payload.n > 0 && stream_write(s->fetch, 0, payload) != payload.n) {
			proxied_cut(s->c, NULL);
			return false;
		}
		if (payload.n > 0 && !proxied_count(s->c, payload.n))
			return false;
		proxied_consume(s->c, (size_t)n);
	}
	if (s->body.is_done && !s->body_sent && s->fetch != NULL) {
		s->body_sent = true;
		stream_eof(s->fetch);
	}
	if (s->body.is_done && in->n > 0)
		proxied_consume(s->c, in->n);
	if (!s->body.is_done && in->n == 0 && proxied_ended(s->c)) {
		proxied_cut(s->c, NULL); /* the rest of the request never comes */
		return false;
	}
	return true;
}

/* ---- the answer ---- */

static const char *
phrase_of(int64_t status)
{
	return status < 300 ? "OK" : status < 400 ? "Redirect" : "Error";
}

static bool
is_framing(struct str line)
{
	static const char *const names[] = { "connection:", "keep-alive:", "transfer-encoding:",
		"upgrade:", "trailer:", "content-length:", "proxy-authenticate:" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_starts(line, names[i]))
			return true;
	return false;
}

static void
write_head(struct service_call *s, int64_t status, struct str lines)
{
	struct str line;
	struct buf b;

	s->sends_body = !s->is_head && status != 204 && status != 304;
	buf_init(&b, FETCH_HEADERS_MAX + 4 * KIB);
	buf_printf(&b, "HTTP/1.1 %lld %s\r\n", (long long)status, phrase_of(status));
	while (str_next(&lines, '\n', &line)) {
		if (line.n == 0 ||
			(is_framing(line) && !(s->is_head && str_starts(line, "content-length:"))))
			continue;
		buf_add_str(&b, line);
		buf_add_z(&b, "\r\n");
	}
	if (s->sends_body && !s->is_http10)
		buf_add_z(&b, "Transfer-Encoding: chunked\r\n");
	buf_add_z(&b, "Connection: close\r\n\r\n");
	if (b.overflow || stream_write(proxied_stream(s->c), 0, buf_str(&b)) != b.n)
		proxied_cut(s->c, NULL);
	buf_fini(&b);
}

/* false: the call is gone. */
static bool
pump_answer(struct service_call *s)
{
	struct stream *to = proxied_stream(s->c);
	char size[CHUNK_ROOM];

	while (s->out.n > 0 && stream_credit(to) > CHUNK_ROOM) {
		size_t n = MIN(MIN(s->out.n, (size_t)PIECE_MAX), stream_credit(to) - CHUNK_ROOM),
		       done = n;

		if (!s->is_http10) {
			snprintf(size, sizeof(size), "%zx\r\n", n);
			done = stream_write(to, 0, str_of(size)) == 0 ? 0 : n;
		}
		done = done == 0 || !s->sends_body
			       ? done
			       : stream_write(to, 0, (struct str){ s->out.p, n });
		if (done == n && !s->is_http10)
			done = stream_write(to, 0, STR("\r\n")) == 0 ? 0 : n;
		if (done != n) {
			proxied_cut(s->c, NULL);
			return false;
		}
		buf_consume(&s->out, n);
		if (s->fetch != NULL)
			stream_consume(s->fetch, n);
		if (!proxied_count(s->c, n))
			return false;
	}
	if (s->out.n > 0 || !s->fetch_ended || stream_credit(to) <= CHUNK_ROOM)
		return true;
	if (s->sends_body && !s->is_http10 && stream_write(to, 0, STR("0\r\n\r\n")) == 0)
		proxied_cut(s->c, NULL);
	else
		proxied_finish(s->c);
	return false;
}

/* What is called here may end the connection and, with it, this call. */
void
service_pump(struct service_call *s)
{
	if (s->is_pumping)
		return;
	s->is_pumping = true;
	if (pump_request(s))
		(void)pump_answer(s);
	s->is_pumping = false;
	if (s->is_gone)
		free(s);
}

/* ---- the stream of the FETCH ---- */

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct service_call *s = arg;

	if (!s->sends_body) {
		stream_consume(s->fetch, bytes.n);
		return;
	}
	if (buf_add_str(&s->out, bytes) != 0)
		fatal("service: more than the credit of a stream");
	service_pump(s);
}

static void
on_credit(void *arg)
{
	service_pump(arg);
}

static void
on_eof(void *arg)
{
	struct service_call *s = arg;

	s->fetch_ended = true;
	service_pump(s);
}

/* Its words are about a provider, as its other user knows them. */
static void
on_reset(void *arg, const struct err *e)
{
	struct service_call *s = arg;
	struct err why;
	const char *text = strncmp(e->msg, "provider ", 9) == 0 ? e->msg + 9 : e->msg;

	s->fetch = NULL;
	err_set(&why, e->code, ERR_TO_MODEL, "service %s", text);
	proxied_refuse(s->c,
		e->code == ERR_DENIED    ? 403
		: e->code == ERR_TIMEOUT ? 504
					 : 502,
		e->code == ERR_DENIED ? "Egress denied" : "Bad gateway", why.msg);
}

static const struct stream_handler fetch_handler = { on_data, on_credit, on_eof, on_reset };

struct service_call *
service_start(struct proxy *x, struct proxied *c, const struct upstream *u,
	const struct proxy_request *r, struct str headers)
{
	struct service_link *k = proxy_service_link(x);
	struct service_call *s = xcalloc(1, sizeof(*s));
	uint64_t id = wire_next_id(k->near);
	struct json *j;
	struct buf lines;

	*s = (struct service_call){ .c = c,
		.k = k,
		.next = k->calls,
		.u = u,
		.is_http10 = r->is_http10,
		.is_head = strcmp(r->method, "HEAD") == 0 };
	k->calls = s;
	buf_init(&s->out, WIRE_WINDOW);
	buf_init(&lines, FETCH_HEADERS_MAX);
	proxy_body_init(&s->body, r);
	keep_headers(u, headers, &lines);
	j = wire_begin(k->near, WIRE_FETCH, id);
	json_kv_z(j, "provider", u->name);
	json_kv_z(j, "method", r->method);
	json_kv_str(j, "path", r->path);
	json_kv_str(j, "headers", buf_str(&lines));
	wire_end(k->near, STR(""), -1);
	buf_fini(&lines);
	s->fetch = stream_open(k->near, id, &fetch_handler, s);
	if (r->expects_continue)
		(void)!stream_write(proxied_stream(c), 0, STR("HTTP/1.1 100 Continue\r\n\r\n"));
	return s;
}

/* ---- the link ---- */

static int
on_near_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct service_link *k = arg;
	struct service_call *s = k->calls;

	while (s != NULL && (s->fetch == NULL || stream_id(s->fetch) != m->id))
		s = s->next;
	if (s == NULL)
		return 0;
	if (m->kind == WIRE_FETCHED) {
		proxied_answered(s->c);
		write_head(
			s, node_int(m->head, "status", 502), node_str(m->head, "headers", STR("")));
	} else {
		struct err why = { 0 };

		wire_err(m->head, &why);
		proxied_refuse(s->c, 502, "Bad gateway", why.msg);
	}
	return 0;
}

static int
on_far_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct service_link *k = arg;

	if (m->kind != WIRE_FETCH)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s on the link of services",
			wire_kind_name(m->kind));
	transfer_start(k->g, k->services, k->vault, w, m);
	return 0;
}

/* Both ends are ours: this is the end of the process, or a bug of ours. */
static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	fatal("the link of services broke: %s", e->msg);
}

static const struct wire_handler near_handler = { on_near_msg, on_gone },
				 far_handler = { on_far_msg, on_gone };

struct service_link *
service_link_new(struct loop *l, struct egress *g, const struct upstreams *u, const struct vault *v)
{
	struct service_link *k = xcalloc(1, sizeof(*k));
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		fatal("broker: no socket pair");
	*k = (struct service_link){ .g = g, .services = u, .vault = v };
	k->near = wire_open(l, pair[0], ROLE_RUNTIME, ROLE_BROKER, &near_handler, k);
	k->far = wire_open(l, pair[1], ROLE_BROKER, ROLE_RUNTIME, &far_handler, k);
	return k;
}

void
service_link_free(struct service_link *k)
{
	wire_close(k->far);
	wire_close(k->near);
	free(k);
}
