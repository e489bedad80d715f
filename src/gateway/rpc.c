/* SPDX-License-Identifier: MIT
 * API calls over frames: accepts clients, checks calls against the method table, answers them, and feeds subscriptions.
 * Back-pressure: a subscription pauses while its client has more than SUB_HIGH bytes queued, and goes on from the
 * database, so a slow reader never sees a gap and never fills the runtime. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include <stdlib.h>

#define CLIENTS_MAX 1024
#define CALLS_MAX   256 /* of one client, unanswered */
#define FEEDS_MAX   1024 /* of one client */
#define SUB_HIGH    (1 * MIB)
#define SUB_LOW     (256 * KIB)

#define ENVELOPE_KEEP (64 * KIB) /* memory for one that stays */

struct feed {
	struct feed *next;
	struct client *client;
	uint64_t sub;
	struct subscription *events;
};

struct client {
	struct client *next;
	struct gateway *g;
	struct wire *w;
	struct request *requests;
	size_t requests_n;
	struct feed *feeds;
	size_t feeds_n;
	bool is_paused;
};

/* ---- answers ---- */

static void
request_free(struct request *q)
{
	struct request **at;

	if (q->client != NULL) {
		for (at = &q->client->requests; *at != q; at = &(*at)->next)
			;
		*at = q->next;
		q->client->requests_n--;
	}
	if (q->stream != NULL)
		stream_close(q->stream, NULL);
	buf_fini(&q->out);
	arena_free(q->a);
	free(q);
}

struct stream *
request_stream(struct request *q, const struct stream_handler *handler, void *arg)
{
	return q->stream = stream_open(q->client->w, q->id, handler, arg);
}

void
reply_error(struct request *q, const struct err *e)
{
	if (q->client != NULL)
		wire_error(q->client->w, q->id, e);
	request_free(q);
}

void
reply_text(struct request *q, struct str json)
{
	if (q->client != NULL) {
		wire_begin(q->client->w, WIRE_RESULT, q->id);
		wire_end(q->client->w, json, -1); /* answers with an error itself when it is too large */
	}
	request_free(q);
}

bool
reply_failed(struct request *q, const struct err *e)
{
	if (e != NULL)
		reply_error(q, e);
	return e != NULL;
}

void
reply_done(struct request *q, const struct err *e)
{
	if (!reply_failed(q, e))
		reply_text(q, STR("{}"));
}

struct json *
reply_begin(struct request *q)
{
	buf_init(&q->out, WIRE_TAIL_MAX + 1);
	json_init(&q->j, &q->out);
	json_obj(&q->j);
	return &q->j;
}

void
reply_end(struct request *q)
{
	struct err e;

	json_obj_end(&q->j);
	if (!q->out.overflow) {
		reply_text(q, buf_str(&q->out));
		return;
	}
	err_set(&e, ERR_LIMIT, ERR_TO_USER, "%s: the result is larger than %u MiB (ask for less)", q->method->name,
		WIRE_TAIL_MAX / MIB);
	reply_error(q, &e);
}

/* ---- subscriptions ---- */

static void
feed_free(struct feed *s)
{
	struct feed **at = &s->client->feeds;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->client->feeds_n--;
	events_unsubscribe(s->events);
	free(s);
}

static void
on_drain(void *arg)
{
	struct client *c = arg;

	c->is_paused = false;
	for (struct feed *s = c->feeds; s != NULL; s = s->next)
		events_resume(s->events);
}

static void
client_throttle(struct client *c)
{
	if (c->is_paused || wire_queued(c->w) < SUB_HIGH)
		return;
	c->is_paused = true;
	for (struct feed *s = c->feeds; s != NULL; s = s->next)
		events_pause(s->events);
	wire_on_drain(c->w, SUB_LOW, on_drain, c);
}

static struct str
envelope(struct gateway *g, const struct event *ev)
{
	struct json j;

	if (strcmp(g->envelope_id.z, ev->id.z) == 0)
		return buf_str(&g->envelope);
	if (g->envelope.cap > ENVELOPE_KEEP)
		buf_fini(&g->envelope);
	buf_reset(&g->envelope);
	json_init(&j, &g->envelope);
	event_envelope(ev, &j);
	g->envelope_id = ev->id;
	return buf_str(&g->envelope);
}

static void
on_event(void *arg, const struct event *ev)
{
	struct feed *s = arg;
	struct client *c = s->client;

	json_kv_int(wire_begin(c->w, WIRE_EVENT, 0), "sub", (int64_t)s->sub);
	wire_end(c->w, envelope(c->g, ev), -1);
	client_throttle(c);
}

static void
on_caught_up(void *arg, bool missed_live)
{
	struct feed *s = arg;
	struct json *j = wire_begin(s->client->w, WIRE_EVENT, 0);

	json_kv_int(j, "sub", (int64_t)s->sub);
	json_kv_bool(j, "caught_up", true);
	json_kv_bool(j, "missed_live", missed_live);
	wire_end(s->client->w, STR(""), -1);
}

static void
on_error(void *arg, const struct err *e)
{
	struct feed *s = arg;
	struct json *j = wire_begin(s->client->w, WIRE_EVENT, 0);

	json_kv_int(j, "sub", (int64_t)s->sub);
	json_kv_err(j, e);
	wire_end(s->client->w, STR(""), -1);
}

static const struct event_handler event_handler = { .on_event = on_event, .on_caught_up = on_caught_up,
	.on_error = on_error };

void
reply_subscribe(struct request *q, const char *session, uint64_t after)
{
	struct client *c = q->client;
	struct gateway *g = q->g;
	struct feed *s;
	struct json *j;
	struct err e;

	if (c == NULL) {
		request_free(q);
		return;
	}
	if (c->feeds_n >= FEEDS_MAX) {
		err_set(&e, ERR_LIMIT, ERR_TO_USER, "%s: this client follows %d times already (end one with session.unfollow)", q->method->name,
			FEEDS_MAX);
		reply_error(q, &e);
		return;
	}
	c->feeds_n++;
	s = xcalloc(1, sizeof *s);
	s->client = c;
	s->sub = g->next_sub++;
	s->next = c->feeds;
	c->feeds = s;
	/* Before the answer, which ends the request and what it holds; no event comes inside the call. */
	s->events = events_subscribe(g->parts.events, session, after, &event_handler, s);
	if (c->is_paused)
		events_pause(s->events);
	j = reply_begin(q);
	json_kv_int(j, "sub", (int64_t)s->sub);
	reply_end(q);
}

void
reply_unsubscribe(struct request *q, uint64_t sub)
{
	struct feed *s = q->client == NULL ? NULL : q->client->feeds;
	struct err e;

	while (s != NULL && s->sub != sub)
		s = s->next;
	if (s == NULL) {
		err_set(&e, ERR_NOT_FOUND, ERR_TO_USER, "%s: this link has no subscription %llu", q->method->name, (unsigned long long)sub);
		reply_error(q, &e);
		return;
	}
	feed_free(s);
	reply_done(q, NULL);
}

/* ---- calls ---- */

static void
call(struct client *c, uint64_t id, const struct method *m, struct str tail)
{
	struct request *q;
	struct err e = { 0 };

	if (c->requests_n >= CALLS_MAX) {
		err_set(&e, ERR_BUSY, ERR_TO_USER, "%s: %d calls of this client wait for an answer already (wait for one)", m->name,
			CALLS_MAX);
		wire_error(c->w, id, &e);
		return;
	}
	q = xcalloc(1, sizeof *q);
	c->requests_n++;
	q->g = c->g;
	q->client = c;
	q->id = id;
	q->method = m;
	q->a = arena_new(64 * MIB);
	q->next = c->requests;
	c->requests = q;
	q->params = &node_null;
	if (json_parse(q->a, tail.n > 0 ? tail : STR("{}"), &q->params, &e) != 0 ||
		field_check(m->params, q->params, m->name, ERR_TO_USER, &e) != 0) {
		if (e.code != ERR_LIMIT)
			e.code = ERR_INVALID;
		reply_error(q, &e);
		return;
	}
	q->params = field_defaults(m->params, q->params, q->a);
	handlers[m->id](q);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct client *c = arg;
	struct str name;
	const struct method *method;
	struct err le;

	if (m->kind != WIRE_CALL)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "a client sent %s", wire_kind_name(m->kind));
	name = node_str(m->head, "method", STR(""));
	method = api_find(name);
	if (method == NULL) {
		const char *near = api_nearest(name);

		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "there is no method %.*s%s%s%s", STR_FMT(name),
			near != NULL ? " (did you mean " : "", near != NULL ? near : "", near != NULL ? "?)" : "");
		wire_error(w, m->id, &le);
		return 0;
	}
	call(c, m->id, method, m->tail);
	return 0;
}

static void
client_free(struct client *c)
{
	struct gateway *g = c->g;
	struct client **at = &g->clients;

	while (c->feeds != NULL)
		feed_free(c->feeds);
	for (struct request *q = c->requests; q != NULL; q = q->next)
		q->client = NULL;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	g->clients_n--;
	free(c);
	g->parts.on_busy(g->parts.arg);
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	if (e->code != ERR_GONE)
		log_warn("a client was dropped", LOG_E(e));
	client_free(arg);
}

static const struct wire_handler wire_handler = { on_msg, on_gone };

static void
on_accept(void *arg, int events)
{
	struct gateway *g = arg;
	struct client *c;
	uid_t uid;
	pid_t pid;
	int fd;

	while ((fd = unix_accept(g->listen_fd)) >= 0) {
		if (unix_peer(fd, &uid, &pid) != 0 || (uid != geteuid() && (uid != 0 || g->parts.root_is_foreign))) {
			log_warn("a client of another user was refused", LOG_I("uid", uid));
			close(fd);
			continue;
		}
		if (g->clients_n >= CLIENTS_MAX) {
			log_warn("too many clients", LOG_I("clients", (int64_t)g->clients_n));
			close(fd);
			continue;
		}
		c = xcalloc(1, sizeof *c);
		c->g = g;
		c->next = g->clients;
		g->clients = c;
		g->clients_n++;
		c->w = wire_open(g->parts.loop, fd, ROLE_RUNTIME, ROLE_CLIENT, &wire_handler, c);
		g->parts.on_busy(g->parts.arg);
	}
}

struct gateway *
gateway_open(const struct gateway_parts *parts, int listen_fd)
{
	struct gateway *g = xcalloc(1, sizeof *g);

	g->parts = *parts;
	g->listen_fd = listen_fd;
	g->next_sub = 1;
	buf_init(&g->envelope, WIRE_TAIL_MAX);
	g->started_ms = clock_wall_ms();
	g->is_private = parts->is_private;
	g->watch = watch_start(parts->loop, listen_fd, LOOP_READ, on_accept, g);
	secrets_open(g);
	look_at_catalog(g);
	engine_tell_degraded(parts->engine, gateway_degraded, g);
	return g;
}

size_t
gateway_clients(const struct gateway *g)
{
	return g->clients_n;
}

void
gateway_stop(struct gateway *g)
{
	engine_tell_degraded(g->parts.engine, NULL, NULL);
	watch_close(g->watch);
	g->watch = NULL;
	if (g->listen_fd >= 0)
		close(g->listen_fd);
	g->listen_fd = -1;
	catalog_fetch_stop(g);
	while (g->clients != NULL) {
		struct client *c = g->clients;

		wire_close(c->w);
		client_free(c);
	}
}

void
gateway_close(struct gateway *g)
{
	gateway_stop(g);
	secrets_close(g);
	self_tests_close(g);
	buf_fini(&g->envelope);
	free(g);
}
