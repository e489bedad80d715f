/* SPDX-License-Identifier: MIT
 * The proxy of cells: takes connections from shelld, reads one request of each, asks the cell's
 * grant, resolves the name here and nowhere else, checks the address that comes out and connects to
 * exactly that. Then bytes pass, both ways, with credit, counted against the session's quota.
 * Invariant: nothing is connected to before the grant and the address were both checked, and one
 * connection of a cell serves one request. */
#include "broker/proxy_internal.h"

/* ---- ends ---- */

void
proxied_close_server(struct proxied *c)
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
		proxy_tell_use(x, c->g);
	}
	if (c->lookup != NULL)
		c->lookup->c = NULL;
	service_free(c->service);
	proxied_close_server(c);
	timer_close(c->timer);
	buf_fini(&c->in);
	buf_fini(&c->head);
	buf_fini(&c->out);
	buf_fini(&c->headers);
	buf_fini(&c->line);
	free(c->cell);
	free(c);
}

void
proxied_cut(struct proxied *c, const struct err *e)
{
	stream_close(c->stream, e);
	proxied_free(c);
}

/* An end before the reset tells shelld that nothing is missing. */
void
proxied_finish(struct proxied *c)
{
	stream_eof(c->stream);
	proxied_cut(c, NULL);
}

void
proxied_refuse(struct proxied *c, int status, const char *phrase, const char *text)
{
	struct buf b;

	if (c->has_answered) {
		proxied_cut(c, NULL);
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
		proxied_cut(c, NULL);
	buf_fini(&b);
}

void
proxied_refuse_err(struct proxied *c, int status, const char *phrase, const struct err *e)
{
	proxied_refuse(c, status, phrase, e->msg);
}

/* Told to the model by the answer, and to user and model by the runtime. target: what was wanted;
 * name: what a rule would have to name. */
void
proxied_deny(struct proxied *c, const char *target, const char *name, const char *why)
{
	char rule[ENDPOINT_TEXT_SIZE + 16];
	struct err e;

	snprintf(rule, sizeof(rule), "Fetch(%s)", name);
	err_set(&e, ERR_DENIED, ERR_TO_MODEL, "egress denied: %s: %s (rule to allow: %s)", target,
		why, rule);
	proxy_tell_denied(c->x, c->g, target, rule, why);
	proxied_refuse_err(c, 403, "Egress denied", &e);
}

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
	case ST_RESOLVE:
		proxied_resolve_timeout(c);
		return;
	case ST_CONNECT:
		proxied_connect_timeout(c);
		return;
	case ST_RELAY:
	case ST_SERVICE:
		if (left_ms > 0) {
			timer_again(c->timer, left_ms);
			return;
		}
		break;
	}
	proxied_cut(c, NULL);
}

/* ---- a request ---- */

static void
begin_service(struct proxied *c)
{
	char target[ENDPOINT_TEXT_SIZE + 64];
	const struct upstream *u;
	struct err e = { 0 }, why = { 0 };

	u = upstream_find(c->x->services, c->r.service, &e);
	if (u == NULL || !grant_has_service(c->g, c->r.service)) {
		err_set(&e, ERR_NOT_FOUND, ERR_TO_MODEL,
			"no service \"%.*s\" (below egress.services of the configuration)",
			STR_FMT(str_sub(c->r.service, 0, 64)));
		proxied_refuse_err(c, 404, "Not found", &e);
		return;
	}
	if (grant_denies_service(c->g, u)) {
		snprintf(target, sizeof(target), "service %s", u->name);
		err_set(&why, ERR_DENIED, ERR_TO_MODEL, "egress denied: %s: a rule denies %s",
			target, u->where);
		proxy_tell_denied(c->x, c->g, target, "", why.msg);
		proxied_refuse_err(c, 403, "Egress denied", &why);
		return;
	}
	if (request_check_path(c->r.path, &e) != 0) {
		proxied_refuse_err(c, 400, "Bad request", &e);
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

	if (grant_left(c->g) == 0) {
		snprintf(why.msg, sizeof(why.msg),
			"egress denied: the session's egress.quota_mb is spent");
		proxy_tell_denied(c->x, c->g, "quota", "egress.quota_mb", why.msg);
		proxied_refuse_err(c, 403, "Egress denied", &why);
	} else if (c->r.what == PROXY_SERVICE) {
		begin_service(c);
	} else if (!grant_allows(c->g, &c->r.to, &why)) {
		endpoint_text(&c->r.to, target);
		proxied_deny(c, target, target, why.msg);
	} else {
		proxied_connect(c);
	}
}

/* The runtime sends a grant before it asks for the command, but on another link. */
void
proxied_granted(struct proxied *c)
{
	c->g = proxy_find_grant(c->x, c->cell);
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
		proxied_refuse_err(c, 400, "Bad request", &e);
		return;
	}
	/* What the request points into stays; only the rest is the body's. */
	buf_add(&c->head, c->in.p, c->r.head_n);
	c->r.path.p = c->head.p + (c->r.path.p != NULL ? c->r.path.p - c->in.p : 0);
	c->r.service.p = c->head.p + (c->r.service.p != NULL ? c->r.service.p - c->in.p : 0);
	proxied_consume(c, c->r.head_n);
	proxied_granted(c);
}

/* ---- the stream of a connection ---- */

void
proxied_consume(struct proxied *c, size_t n)
{
	buf_consume(&c->in, n);
	stream_consume(c->stream, n);
}

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
		proxied_relay_out(c);
	} else if (c->state == ST_SERVICE) {
		service_pump(c->service);
	}
}

static void
on_credit(void *arg)
{
	struct proxied *c = arg;

	if (c->state == ST_RELAY)
		proxied_relay_credit(c);
	else if (c->state == ST_SERVICE)
		service_pump(c->service);
}

static void
on_eof(void *arg)
{
	struct proxied *c = arg;

	c->cell_ended = true;
	if (c->state == ST_HEAD)
		proxied_cut(c, NULL);
	else if (c->state == ST_SERVICE)
		service_pump(c->service);
	else if (c->state == ST_RELAY)
		proxied_relay_out(c);
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
	buf_init(&c->out, 4 * PROXY_CHUNK);
	buf_init(&c->headers, EGRESS_HEAD_MAX);
	buf_init(&c->line, PROXY_CHUNK);
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
		proxied_cut(x->connections, NULL);
	wire_close(take_ptr(&x->shelld));
	service_link_free(x->link);
	proxy_free_grants(x);
	if (x->lookups ==
		NULL) /* else a pool thread still holds it, and the process ends with it */
		free(x);
}
