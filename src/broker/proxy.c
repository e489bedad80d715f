/* SPDX-License-Identifier: MIT
 * The proxy of cells: takes connections from shelld, reads one request of each, asks the cell's
 * grant, resolves the name here and nowhere else, checks the address that comes out and connects to
 * exactly that. Then bytes pass, both ways, with credit, counted against the session's quota.
 * Invariant: nothing is connected to before the grant and the address were both checked, and one
 * connection of a cell serves one request. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "broker/proxy.h"

#define CHUNK        65536
#define REPORT_BYTES (1 * (int64_t)MIB) /* used, before the runtime is told again */

enum state {
	ST_HEAD,  /* the request is not whole */
	ST_GRANT, /* it is, and the cell's grant is not here yet */
	ST_RESOLVE,
	ST_CONNECT,
	ST_RELAY, /* bytes pass */
	ST_SERVICE,
};

struct address {
	struct sockaddr_storage sa;
	socklen_t n;
};

/* A name that is being resolved on a pool thread. It may outlive its connection. */
struct lookup {
	struct proxied *c; /* NULL: it is gone */
	struct proxy *x;
	struct lookup *next;
	char host[ENDPOINT_HOST_MAX + 1], port[8];
	struct address found[EGRESS_ADDRESSES_MAX];
	size_t n;
	int error;
};

struct proxied {
	struct proxy *x;
	struct proxied *next;
	struct wire *w;
	struct stream *stream;
	char *cell;
	struct grant *g; /* NULL: not known yet */
	enum state state;
	struct buf in;   /* from the cell */
	struct buf head; /* the request's, while it is needed: what r points into */
	struct buf out;  /* for the server, written anew; not of a tunnel */
	struct buf headers;
	struct proxy_request r;
	struct proxy_body body;
	bool cell_ended, server_ended, has_shut, has_answered;
	struct address to[EGRESS_ADDRESSES_MAX];
	size_t to_n, to_at;
	int connect_error;
	int fd;
	struct watch *watch;
	struct timer *timer;
	int64_t moved_ms; /* loop time of the last byte */
	struct lookup *lookup;
	struct service_call *service;
};

struct proxy {
	struct loop *l;
	const struct upstreams *services;
	struct service_link *link;
	struct wire *shelld, *runtime;
	struct grant *grants;
	struct proxied *connections;
	struct lookup *lookups;
	size_t n;
	char chunk[CHUNK];
};

/* ---- what the runtime is told ---- */

static void
report_use(struct proxy *x, struct grant *g)
{
	struct json *j;

	if (x->runtime == NULL || g->used_bytes == g->reported_bytes)
		return;
	j = wire_begin(x->runtime, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", g->cell);
	json_kv_int(j, "bytes", g->used_bytes - g->reported_bytes);
	wire_end(x->runtime, STR(""), -1);
	g->reported_bytes = g->used_bytes;
}

/* Once for each target until the next grant: a program that tries again and again says nothing new.
 */
static void
report_denied(
	struct proxy *x, struct grant *g, const char *target, const char *rule, const char *why)
{
	struct json *j;

	for (size_t i = 0; i < g->told_n; i++)
		if (strcmp(g->told[i], target) == 0)
			return;
	if (x->runtime == NULL || g->told_n == EGRESS_TOLD_MAX)
		return;
	g->told[g->told_n++] = xstrdup(target);
	j = wire_begin(x->runtime, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", g->cell);
	json_kv_z(j, "denied", target);
	json_kv_z(j, "rule", rule);
	json_kv_z(j, "why", why);
	wire_end(x->runtime, STR(""), -1);
}

/* ---- ends ---- */

static void
close_server(struct proxied *c)
{
	watch_close(c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(take_fd(&c->fd));
}

static void
proxied_free(struct proxied *c)
{
	struct proxy *x = c->x;
	struct proxied **p = &x->connections;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	x->n--;
	if (c->g != NULL) {
		c->g->connections--;
		report_use(x, c->g);
	}
	if (c->lookup != NULL)
		c->lookup->c = NULL;
	service_free(c->service);
	close_server(c);
	timer_close(c->timer);
	buf_fini(&c->in);
	buf_fini(&c->head);
	buf_fini(&c->out);
	buf_fini(&c->headers);
	free(c->cell);
	free(c);
}

static void
cut(struct proxied *c, const struct err *e)
{
	stream_close(c->stream, e);
	proxied_free(c);
}

void
proxied_cut(struct proxied *c)
{
	cut(c, NULL);
}

/* An end before the reset tells shelld that nothing is missing. */
void
proxied_finish(struct proxied *c)
{
	stream_eof(c->stream);
	cut(c, NULL);
}

void
proxied_refuse(struct proxied *c, int status, const char *phrase, const char *text)
{
	struct buf b;

	if (c->has_answered) {
		cut(c, NULL);
		return;
	}
	c->has_answered = true;
	buf_init(&b, 8 * KIB);
	buf_printf(&b,
		"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
		"%zu\r\n"
		"Connection: close\r\n\r\n%s\n",
		status, phrase, strlen(text) + 1, text);
	if (stream_write(c->stream, 0, buf_str(&b)) == b.n)
		proxied_finish(c);
	else
		cut(c, NULL);
	buf_fini(&b);
}

static void
refuse_err(struct proxied *c, int status, const char *phrase, const struct err *e)
{
	proxied_refuse(c, status, phrase, e->msg);
}

/* Told to the model by the answer, and to user and model by the runtime. target: what was wanted;
 * name: what a rule would have to name. */
static void
deny(struct proxied *c, const char *target, const char *name, const char *why)
{
	char rule[ENDPOINT_TEXT_SIZE + 16];
	struct err e;

	snprintf(rule, sizeof(rule), "Fetch(%s)", name);
	err_set(&e, ERR_DENIED, ERR_TO_MODEL, "egress denied: %s: %s (rule to allow: %s)", target,
		why, rule);
	report_denied(c->x, c->g, target, rule, why);
	refuse_err(c, 403, "Egress denied", &e);
}

static void connect_next(struct proxied *c);

void
proxied_alive(struct proxied *c)
{
	c->moved_ms = loop_now_ms(c->x->l);
}

static void
on_timer(void *arg)
{
	struct proxied *c = arg;
	int64_t left_ms = c->moved_ms + EGRESS_IDLE_MS - loop_now_ms(c->x->l);

	switch (c->state) {
	case ST_HEAD:
		proxied_refuse(c, 408, "Request timeout", "bad request: it was not whole in time");
		return;
	case ST_GRANT:
		proxied_refuse(c, 403, "Egress denied",
			"egress denied: this cell may not connect to anywhere");
		return;
	case ST_CONNECT:
		c->connect_error = ETIMEDOUT;
		close_server(c);
		c->to_at++;
		connect_next(c);
		return;
	case ST_RELAY:
	case ST_SERVICE:
		if (left_ms > 0) {
			timer_again(c->timer, left_ms);
			return;
		}
		break;
	default:
		break;
	}
	cut(c, NULL);
}

/* ---- bytes ---- */

bool
proxied_count(struct proxied *c, size_t n)
{
	struct grant *g = c->g;
	char text[96];
	struct err e;

	proxied_alive(c);
	g->used_bytes += (int64_t)n;
	if (g->used_bytes - g->reported_bytes >= REPORT_BYTES)
		report_use(c->x, g);
	if (!grant_is_spent(g))
		return true;
	snprintf(text, sizeof(text), "the session's egress.quota_mb of %lld MiB is spent",
		(long long)(g->quota_bytes / (int64_t)MIB));
	report_denied(c->x, g, "quota", "egress.quota_mb", text);
	err_set(&e, ERR_LIMIT, ERR_TO_MODEL, "%s", text);
	cut(c, &e);
	return false;
}

static bool
has_more(const struct proxied *c)
{
	return c->r.what == PROXY_CONNECT ? c->in.n > 0 : c->out.n > 0;
}

static void
watch_set(struct proxied *c)
{
	int events = has_more(c) ? LOOP_WRITE : 0;

	if (!c->server_ended && stream_credit(c->stream) > 0)
		events |= LOOP_READ;
	watch_update(c->watch, events);
}

/* Turns what the cell sent of its body into what the server gets. false: c is gone. */
static bool
encode(struct proxied *c)
{
	struct err e;

	while (c->in.n > 0 && !c->body.is_done && c->out.n < CHUNK) {
		struct str payload;
		ptrdiff_t n =
			proxy_body_take(&c->body, str_sub(buf_str(&c->in), 0, CHUNK), &payload, &e);

		if (n < 0) {
			refuse_err(c, 400, "Bad request", &e);
			return false;
		}
		if (payload.n > 0 && c->body.is_chunked)
			buf_printf(&c->out, "%zx\r\n", payload.n);
		buf_add_str(&c->out, payload);
		if (payload.n > 0 && c->body.is_chunked)
			buf_add_z(&c->out, "\r\n");
		if (c->body.is_done && c->body.is_chunked)
			buf_add_z(&c->out, "0\r\n\r\n");
		proxied_consume(c, (size_t)n);
	}
	if (c->body.is_done && c->in.n > 0) /* a second request: it is not answered here */
		proxied_consume(c, c->in.n);
	return true;
}

void
proxied_consume(struct proxied *c, size_t n)
{
	buf_consume(&c->in, n);
	stream_consume(c->stream, n);
}

/* How much of it the server took; -1: c is gone. */
static ssize_t
send_some(struct proxied *c, struct str bytes)
{
	size_t taken = 0;

	while (taken < bytes.n) {
		ssize_t n =
			send(c->fd, bytes.p + taken, bytes.n - taken, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && c->r.what == PROXY_FORWARD &&
			(errno == EPIPE || errno == ECONNRESET)) {
			taken = bytes.n; /* it may have answered before it closed: what it says is
					    still read */
			break;
		}
		if (n < 0) {
			cut(c, NULL);
			return -1;
		}
		taken += (size_t)n;
	}
	return taken > 0 && !proxied_count(c, taken) ? -1 : (ssize_t)taken;
}

/* Once all of the cell's bytes are out, its end is passed on. false: c is gone. */
static bool
pass_end(struct proxied *c)
{
	if (c->r.what == PROXY_CONNECT && c->cell_ended && c->in.n == 0 && !c->has_shut) {
		c->has_shut = true;
		(void)shutdown(c->fd, SHUT_WR);
	}
	if (c->r.what == PROXY_FORWARD && c->cell_ended && c->in.n == 0 && !c->body.is_done) {
		cut(c, NULL); /* the rest of the request never comes */
		return false;
	}
	if (c->server_ended && (c->r.what == PROXY_FORWARD || (c->cell_ended && c->in.n == 0))) {
		proxied_finish(c);
		return false;
	}
	return true;
}

/* From the cell to the server. false: c is gone. */
static bool
pump_out(struct proxied *c)
{
	ssize_t n;

	if (c->r.what == PROXY_CONNECT) {
		n = send_some(c, buf_str(&c->in));
		if (n < 0)
			return false;
		proxied_consume(c, (size_t)n);
		return pass_end(c);
	}
	do {
		if (!encode(c))
			return false;
		n = send_some(c, buf_str(&c->out));
		if (n < 0)
			return false;
		buf_consume(&c->out, (size_t)n);
	} while (c->out.n == 0 && c->in.n > 0);
	return pass_end(c);
}

/* From the server to the cell. false: c is gone. */
static bool
pump_in(struct proxied *c)
{
	while (!c->server_ended && stream_credit(c->stream) > 0) {
		ssize_t n = recv(
			c->fd, c->x->chunk, MIN(stream_credit(c->stream), CHUNK), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			cut(c, NULL);
			return false;
		}
		if (n == 0) {
			c->server_ended = true;
			if (c->r.what == PROXY_CONNECT)
				stream_eof(c->stream);
			return pass_end(c);
		}
		c->has_answered = true;
		if (stream_write(c->stream, 0, (struct str){ c->x->chunk, (size_t)n }) !=
			(size_t)n) {
			cut(c, NULL);
			return false;
		}
		if (!proxied_count(c, (size_t)n))
			return false;
		if ((size_t)n < CHUNK)
			return true;
	}
	return true;
}

static void
on_server(void *arg, int events)
{
	struct proxied *c = arg;

	if ((events & LOOP_READ) != 0 && !pump_in(c))
		return;
	if ((events & LOOP_WRITE) != 0 && !pump_out(c))
		return;
	if ((events & LOOP_HANGUP) != 0 && c->server_ended) /* it would be reported without end */
		cut(c, NULL);
	else
		watch_set(c);
}

/* ---- connecting ---- */

static void
write_head(struct proxied *c)
{
	struct str lines = buf_str(&c->headers), line;
	char to[ENDPOINT_TEXT_SIZE];
	struct endpoint host = c->r.to;

	buf_printf(&c->out, "%s %s%.*s HTTP/1.1\r\n", c->r.method,
		c->r.path.n > 0 && c->r.path.p[0] == '/' ? "" : "/", STR_FMT(c->r.path));
	endpoint_text(&host, to);
	if (host.port == 80)
		to[strlen(to) - 3] = '\0';
	buf_printf(&c->out, "Host: %s\r\n", to);
	while (str_next(&lines, '\n', &line)) {
		if (line.n > 0) {
			buf_add_str(&c->out, line);
			buf_add_z(&c->out, "\r\n");
		}
	}
	if (c->r.is_chunked)
		buf_add_z(&c->out, "Transfer-Encoding: chunked\r\n");
	else if (c->r.length >= 0)
		buf_printf(&c->out, "Content-Length: %lld\r\n", (long long)c->r.length);
	if (c->r.expects_continue)
		buf_add_z(&c->out, "Expect: 100-continue\r\n");
	buf_add_z(&c->out, "Connection: close\r\n\r\n");
}

static void
relay_begin(struct proxied *c)
{
	c->state = ST_RELAY;
	proxied_alive(c);
	timer_again(c->timer, EGRESS_IDLE_MS);
	if (c->r.what == PROXY_CONNECT) {
		c->has_answered = true;
		if (stream_write(c->stream, 0,
			    STR("HTTP/1.1 200 Connection established\r\n\r\n")) == 0) {
			cut(c, NULL);
			return;
		}
	} else {
		proxy_body_init(&c->body, &c->r);
		write_head(c);
	}
	if (pump_out(c))
		watch_set(c);
}

static void
on_connected(void *arg, int events)
{
	struct proxied *c = arg;
	socklen_t n = sizeof(c->connect_error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &c->connect_error, &n) != 0)
		c->connect_error = errno;
	watch_close(c->watch);
	c->watch = NULL;
	if (c->connect_error != 0) {
		close_server(c);
		c->to_at++;
		connect_next(c);
		return;
	}
	c->watch = watch_start(c->x->l, c->fd, LOOP_READ, on_server, c);
	relay_begin(c);
}

static void
refuse_unreachable(struct proxied *c)
{
	char to[ENDPOINT_TEXT_SIZE];
	struct err e;

	err_set(&e, ERR_NET, ERR_TO_MODEL, "cannot connect to %s: %s", endpoint_text(&c->r.to, to),
		strerror(c->connect_error != 0 ? c->connect_error : EHOSTUNREACH));
	refuse_err(c, 502, "Bad gateway", &e);
}

/* Tries the addresses in turn; all of them were checked. */
static void
connect_next(struct proxied *c)
{
	const int on = 1;

	for (; c->to_at < c->to_n; c->to_at++) {
		const struct address *a = &c->to[c->to_at];

		c->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->fd < 0) {
			c->connect_error = errno;
			continue;
		}
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(c->fd, (const struct sockaddr *)&a->sa, a->n) == 0 ||
			errno == EINPROGRESS) {
			c->state = ST_CONNECT;
			c->watch = watch_start(c->x->l, c->fd, LOOP_WRITE, on_connected, c);
			timer_again(c->timer, EGRESS_CONNECT_MS);
			return;
		}
		c->connect_error = errno;
		close_server(c);
	}
	refuse_unreachable(c);
}

/* Keeps the addresses that a connection may go to, and goes there. */
static void
connect_checked(struct proxied *c, const struct address *found, size_t n, bool is_mapped)
{
	char target[ENDPOINT_TEXT_SIZE], text[ADDRESS_TEXT_SIZE] = "";
	const char *why = "its name leads to no address";
	struct err e;

	c->to_n = c->to_at = 0;
	for (size_t i = 0; i < n; i++) {
		const struct sockaddr *sa = (const struct sockaddr *)&found[i].sa;
		const char *refusal = grant_address_refusal(c->g, sa, is_mapped);

		if (refusal == NULL) {
			c->to[c->to_n++] = found[i];
		} else {
			why = refusal;
			address_text(sa, text);
		}
	}
	if (c->to_n > 0) {
		connect_next(c);
		return;
	}
	endpoint_text(&c->r.to, target);
	err_set(&e, ERR_DENIED, ERR_TO_MODEL, "it leads to %s, which is not of the Internet: %s",
		text, why);
	deny(c, target, text[0] != '\0' ? text : target, e.msg);
}

/* ---- names ---- */

static void
lookup_work(void *arg)
{
	struct lookup *k = arg;
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list = NULL;

	k->error = getaddrinfo(k->host, k->port, &hints, &list);
	for (struct addrinfo *a = list; a != NULL && k->n < EGRESS_ADDRESSES_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(k->found[0].sa))
			continue;
		memcpy(&k->found[k->n].sa, a->ai_addr, a->ai_addrlen);
		k->found[k->n++].n = a->ai_addrlen;
	}
	if (list != NULL)
		freeaddrinfo(list);
}

static void
lookup_done(void *arg)
{
	struct lookup *k = arg, **p = &k->x->lookups;
	struct proxied *c = k->c;
	char target[ENDPOINT_TEXT_SIZE];
	struct err e;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	if (c != NULL) {
		c->lookup = NULL;
		if (k->error != 0 || k->n == 0) {
			err_set(&e, ERR_NET, ERR_TO_MODEL, "cannot resolve %s: %s",
				endpoint_text(&c->r.to, target),
				k->error != 0 ? gai_strerror(k->error) : "no address");
			refuse_err(c, 502, "Bad gateway", &e);
		} else {
			connect_checked(c, k->found, k->n, false);
		}
	}
	free(k);
}

static void
lookup_start(struct proxied *c)
{
	struct lookup *k = xcalloc(1, sizeof(*k));

	*k = (struct lookup){ .c = c, .x = c->x, .next = c->x->lookups };
	c->x->lookups = c->lookup = k;
	snprintf(k->host, sizeof(k->host), "%s", c->r.to.host);
	snprintf(k->port, sizeof(k->port), "%u", c->r.to.port);
	c->state = ST_RESOLVE;
	timer_stop(c->timer);
	loop_work(c->x->l, lookup_work, lookup_done, k);
}

/* An address is itself, a name of the operator's map is what that says, any other is asked for. */
static void
find_address(struct proxied *c)
{
	const struct grant_host *h = grant_host_find(c->g, &c->r.to);
	struct endpoint at = h != NULL ? h->to : c->r.to;
	struct address a;

	if (at.port == 0)
		at.port = c->r.to.port;
	a.n = endpoint_address(&at, &a.sa);
	if (a.n > 0)
		connect_checked(c, &a, 1, h != NULL);
	else
		lookup_start(c);
}

/* ---- a request ---- */

static void
begin_service(struct proxied *c)
{
	char target[ENDPOINT_TEXT_SIZE + 64];
	const struct upstream *u;
	struct endpoint to;
	struct err e = { 0 }, why = { 0 };

	u = upstream_find(c->x->services, c->r.service, &e);
	if (u == NULL || !grant_has_service(c->g, c->r.service)) {
		err_set(&e, ERR_NOT_FOUND, ERR_TO_MODEL,
			"no service \"%.*s\" (below egress.services of the configuration)",
			STR_FMT(str_sub(c->r.service, 0, 64)));
		refuse_err(c, 404, "Not found", &e);
		return;
	}
	for (size_t i = 0; endpoint_parse(str_of(u->where), 0, &to, &e) == 0 && i < c->g->deny_n;
		i++) {
		if (!endpoint_rule_denies(&c->g->deny[i], &to))
			continue;
		snprintf(target, sizeof(target), "service %s", u->name);
		err_set(&why, ERR_DENIED, ERR_TO_MODEL, "egress denied: %s: a rule denies %s",
			target, u->where);
		report_denied(c->x, c->g, target, "", why.msg);
		refuse_err(c, 403, "Egress denied", &why);
		return;
	}
	if (request_check_path(c->r.path, &e) != 0) {
		refuse_err(c, 400, "Bad request", &e);
		return;
	}
	c->state = ST_SERVICE;
	c->has_answered = false;
	proxied_alive(c);
	timer_again(c->timer, EGRESS_IDLE_MS);
	c->service = service_start(c->x, c, u, &c->r, buf_str(&c->headers));
	service_pump(c->service);
}

static void
begin(struct proxied *c)
{
	char target[ENDPOINT_TEXT_SIZE];
	struct err why;

	if (grant_is_spent(c->g)) {
		snprintf(why.msg, sizeof(why.msg),
			"egress denied: the session's egress.quota_mb is spent");
		report_denied(c->x, c->g, "quota", "egress.quota_mb", why.msg);
		refuse_err(c, 403, "Egress denied", &why);
	} else if (c->r.what == PROXY_SERVICE) {
		begin_service(c);
	} else if (!grant_allows(c->g, &c->r.to, &why)) {
		endpoint_text(&c->r.to, target);
		deny(c, target, target, why.msg);
	} else {
		find_address(c);
	}
}

static struct grant *
find_grant(struct proxy *x, const char *cell)
{
	struct grant *g = x->grants;

	while (g != NULL && strcmp(g->cell, cell) != 0)
		g = g->next;
	return g;
}

/* The runtime sends a grant before it asks for the command, but on another link. */
static void
begin_granted(struct proxied *c)
{
	c->g = find_grant(c->x, c->cell);
	if (c->g == NULL) {
		c->state = ST_GRANT;
		timer_again(c->timer, EGRESS_GRANT_MS);
	} else if (c->g->connections >= EGRESS_CONNECTIONS_MAX) {
		c->g = NULL;
		proxied_refuse(c, 503, "Too many connections", "too many connections of this cell");
	} else {
		c->g->connections++;
		begin(c);
	}
}

static void
read_head(struct proxied *c)
{
	struct err e;
	int rc = proxy_request_parse(buf_str(&c->in), &c->headers, &c->r, &e);

	if (rc == 0)
		return;
	if (rc < 0) {
		refuse_err(c, 400, "Bad request", &e);
		return;
	}
	/* What the request points into stays; only the rest is the body's. */
	buf_add(&c->head, c->in.p, c->r.head_n);
	c->r.path.p = c->head.p + (c->r.path.p != NULL ? c->r.path.p - c->in.p : 0);
	c->r.service.p = c->head.p + (c->r.service.p != NULL ? c->r.service.p - c->in.p : 0);
	proxied_consume(c, c->r.head_n);
	begin_granted(c);
}

/* ---- the stream of a connection ---- */

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct proxied *c = arg;

	if (buf_add_str(&c->in, bytes) != 0)
		fatal("proxy: more than the credit of a stream");
	if (c->state == ST_HEAD) {
		/* Only a line that ends can change anything: a head in single bytes costs no more
		 * than its lines. */
		if (memchr(bytes.p, '\n', bytes.n) != NULL || c->in.n >= EGRESS_HEAD_MAX)
			read_head(c);
	} else if (c->state == ST_RELAY) {
		if (pump_out(c))
			watch_set(c);
	} else if (c->state == ST_SERVICE) {
		service_pump(c->service);
	}
}

static void
on_credit(void *arg)
{
	struct proxied *c = arg;

	if (c->state == ST_RELAY)
		watch_set(c);
	else if (c->state == ST_SERVICE)
		service_pump(c->service);
}

static void
on_eof(void *arg)
{
	struct proxied *c = arg;

	c->cell_ended = true;
	if (c->state == ST_HEAD)
		cut(c, NULL);
	else if (c->state == ST_SERVICE)
		service_pump(c->service);
	else if (c->state == ST_RELAY && pump_out(c))
		watch_set(c);
}

static void
on_reset(void *arg, const struct err *e)
{
	proxied_free(arg);
}

static const struct stream_handler handler = { on_data, on_credit, on_eof, on_reset };

static int
on_shelld_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct proxy *x = arg;
	struct proxied *c = xcalloc(1, sizeof(*c));

	*c = (struct proxied){ .x = x, .next = x->connections, .w = w, .fd = -1 };
	x->connections = c;
	x->n++;
	c->cell = str_dup(node_str(m->head, "cell", STR("")));
	buf_init(&c->in, WIRE_WINDOW);
	buf_init(&c->head, EGRESS_HEAD_MAX);
	buf_init(&c->out, 4 * CHUNK);
	buf_init(&c->headers, EGRESS_HEAD_MAX);
	c->timer = timer_start(x->l, EGRESS_HEAD_MS, on_timer, c);
	c->stream = stream_open(w, m->id, &handler, c);
	if (x->n > EGRESS_ALL_MAX)
		proxied_refuse(c, 503, "Too many connections", "too many connections of all cells");
	return 0;
}

static void
on_shelld_gone(void *arg, struct wire *w, const struct err *e)
{
	struct proxy *x = arg;

	if (e->code != ERR_GONE)
		log_error("shelld dropped", LOG_E(e));
	if (x->shelld == w)
		x->shelld = NULL;
}

static const struct wire_handler shelld_handler = { on_shelld_msg, on_shelld_gone };

void
proxy_shelld(struct proxy *x, int fd)
{
	wire_close(take_ptr(&x->shelld)); /* ends its connections */
	x->shelld = wire_open(x->l, fd, ROLE_BROKER, ROLE_SHELLD, &shelld_handler, x);
}

/* ---- grants ---- */

static void
grant_remove(struct proxy *x, struct grant *g)
{
	struct grant **p = &x->grants;

	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	for (struct proxied *c = x->connections, *next; c != NULL; c = next) {
		next = c->next;
		if (c->g == g)
			cut(c, NULL);
	}
	grant_free(g);
}

/* Under new rules: what they no longer allow is cut, the rest goes on. */
static void
grant_replace(struct proxy *x, struct grant *old, struct grant *new)
{
	struct err why;

	new->used_bytes = MAX(new->used_bytes, old->used_bytes);
	new->reported_bytes = MAX(new->reported_bytes, old->reported_bytes);
	for (struct proxied *c = x->connections, *next; c != NULL; c = next) {
		next = c->next;
		if (c->g != old)
			continue;
		if (c->r.what == PROXY_SERVICE ? grant_has_service(new, c->r.service)
					       : grant_allows(new, &c->r.to, &why)) {
			c->g = new;
			old->connections--;
			new->connections++;
		}
	}
	grant_remove(x, old);
}

static void
grant_make_room(struct proxy *x)
{
	struct grant *idle = NULL;
	size_t n = 0;

	for (struct grant *g = x->grants; g != NULL; g = g->next, n++)
		if (g->connections == 0)
			idle = g; /* the oldest is last */
	if (n >= EGRESS_GRANTS_MAX && idle != NULL)
		grant_remove(x, idle);
}

void
proxy_grant(struct proxy *x, const struct wire_msg *m)
{
	struct str cell = node_str(m->head, "cell", STR(""));
	AUTO_FREE char *key = str_dup(cell);
	struct grant *old = find_grant(x, key), *new = NULL;
	struct err e = { 0 };

	if (m->tail.n > 0 && (new = grant_new(cell, m->tail, &e)) == NULL)
		log_error("a grant cannot be read", LOG_S("cell", key), LOG_E(&e));
	if (old == NULL && new != NULL)
		grant_make_room(x);
	if (new != NULL) {
		new->next = x->grants;
		x->grants = new;
	}
	if (old != NULL && new != NULL)
		grant_replace(x, old, new);
	else if (old != NULL)
		grant_remove(x, old);
	for (struct proxied *c = x->connections, *next; c != NULL && new != NULL; c = next) {
		next = c->next;
		if (c->state == ST_GRANT && strcmp(c->cell, key) == 0)
			begin_granted(c);
	}
}

/* ---- life ---- */

void
proxied_answered(struct proxied *c)
{
	c->has_answered = true;
}

struct stream *
proxied_stream(struct proxied *c)
{
	return c->stream;
}

struct buf *
proxied_in(struct proxied *c)
{
	return &c->in;
}

bool
proxied_ended(const struct proxied *c)
{
	return c->cell_ended;
}

struct service_link *
proxy_service_link(struct proxy *x)
{
	return x->link;
}

struct proxy *
proxy_new(struct loop *l, struct egress *g, const struct upstreams *services, const struct vault *v)
{
	struct proxy *x = xcalloc(1, sizeof(*x));

	x->l = l;
	x->services = services;
	x->link = service_link_new(l, g, services, v);
	return x;
}

void
proxy_free(struct proxy *x)
{
	if (x == NULL)
		return;
	while (x->connections != NULL)
		cut(x->connections, NULL);
	wire_close(take_ptr(&x->shelld));
	service_link_free(x->link);
	while (x->grants != NULL)
		grant_remove(x, x->grants);
	if (x->lookups ==
		NULL) /* else a pool thread still holds it, and the process ends with it */
		free(x);
}

void
proxy_runtime(struct proxy *x, struct wire *w)
{
	x->runtime = w;
	for (struct grant *g = x->grants; g != NULL; g = g->next)
		report_use(x, g);
}
