/* SPDX-License-Identifier: MIT
 * The reading half of the event log: pages, and subscriptions that follow a session. A subscription
 * that is level with the database gets events as they become durable; one that is new, was paused,
 * or sees a gap is fed in pages from the database until it is level again. Invariant: each stored
 * event after the start position is delivered once, in order. */
#include "session/log_internal.h"

#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"

enum sub_state {
	SUB_BEHIND,  /* paused, or about to look where it stands */
	SUB_READING, /* a page is on its way */
	SUB_LIVE,
};

struct subscription {
	struct subscription *prev, *next; /* of the session */
	struct session_log *log;
	const struct event_handler *handler;
	void *arg;
	enum sub_state state;
	uint64_t position;
	uint64_t
		asked_at; /* durable_seq when the page was asked for: the page holds all up to it */
	int refs;         /* the owner, a page on its way, a deferred call, callers up the stack */
	bool paused, closed, kicked, missed_live;
};

/* ---- pages ---- */

struct page;
typedef void (*page_fn)(struct page *p, const struct event *events, size_t n, const struct err *e);

struct page {
	struct events *v;
	char *session;
	uint64_t after, last; /* last: seq of the last row, also of one that is skipped */
	size_t limit, rows;
	page_fn fn;
	events_page_fn user_fn;
	void *arg;
};

static void on_rows(void *arg, const struct rows *r, const struct err *e);

static void
page_ask(struct page *p)
{
	store_query(p->v->store, STMT_EVENT_READ,
		(const struct cell_value[]){ V_Z(p->session),
			V_INT((int64_t)MIN(p->after, INT64_MAX)), V_INT((int64_t)p->limit) },
		3, on_rows, p);
}

static void
page_start(struct events *v, const char *session, uint64_t after, size_t limit, page_fn fn,
	events_page_fn user_fn, void *arg)
{
	struct page *p = xcalloc(1, sizeof(*p));

	*p = (struct page){ .v = v,
		.session = xstrdup(session),
		.after = after,
		.last = after,
		.limit = MAX(1, MIN(limit, EVENT_PAGE)),
		.fn = fn,
		.user_fn = user_fn,
		.arg = arg };
	page_ask(p);
}

/* Columns of EVENT_READ. A kind that this program does not know was written by a newer one: it is
 * passed over. */
static bool
event_from_row(const struct page *p, const struct rows *r, size_t i, struct event *ev)
{
	struct str turn = rows_str(r, i, 2);

	*ev = (struct event){
		.seq = (uint64_t)rows_int(r, i, 0),
		.session = p->session,
		.turn = turn.n != 0 ? turn.p : NULL, /* results end in NUL */
		.time_ms = rows_int(r, i, 3),
		.body = rows_str(r, i, 5),
	};
	if (id_parse(rows_str(r, i, 1), &ev->id) == 0 &&
		event_kind_parse(rows_str(r, i, 4), &ev->kind) == 0)
		return true;
	log_warn("event passed over", LOG_S("session", p->session), LOG_I("seq", (int64_t)ev->seq),
		LOG_SV("kind", rows_str(r, i, 4)));
	return false;
}

static void
on_rows(void *arg, const struct rows *r, const struct err *e)
{
	struct page *p = arg;
	struct event *events;
	size_t n = 0;

	/* Few large events: fewer at once. One always fits. */
	if (e != NULL && e->code == ERR_LIMIT && p->limit > 1) {
		p->limit /= 2;
		page_ask(p);
		return;
	}
	p->rows = rows_len(r);
	events = xcalloc(p->rows + 1, sizeof(*events));
	for (size_t i = 0; i < p->rows; i++) {
		n += event_from_row(p, r, i, &events[n]);
		p->last = (uint64_t)rows_int(r, i, 0);
	}
	p->fn(p, events, n, e);
	free(events);
	free(p->session);
	free(p);
}

static void
on_user_page(struct page *p, const struct event *events, size_t n, const struct err *e)
{
	p->user_fn(p->arg, events, n, p->rows == p->limit, e);
}

void
events_read(struct events *v, const char *session, uint64_t after_seq, size_t limit,
	events_page_fn fn, void *arg)
{
	page_start(v, session, after_seq, limit, on_user_page, fn, arg);
}

/* ---- subscriptions ---- */

static void
sub_unref(struct subscription *s)
{
	struct session_log *log = s->log;

	if (--s->refs > 0)
		return;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		log->subs = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	free(s);
	log_use(log);
	log_release(log);
}

/* Delivers what is new to it, until it is paused or ended by one of its callbacks. The caller holds
 * a reference. */
static void
sub_deliver(struct subscription *s, const struct event *events, size_t n)
{
	for (size_t i = 0; i < n && !s->paused && !s->closed; i++) {
		if (events[i].seq <= s->position)
			continue;
		s->position = events[i].seq;
		s->handler->on_event(s->arg, &events[i]);
	}
}

static void on_sub_page(struct page *p, const struct event *events, size_t n, const struct err *e);

static void
sub_read(struct subscription *s)
{
	s->state = SUB_READING;
	s->asked_at = s->log->durable_seq;
	s->refs++;
	page_start(s->log->v, s->log->id, s->position, EVENT_PAGE, on_sub_page, NULL, s);
}

static void
sub_go_live(struct subscription *s)
{
	bool missed_live = s->missed_live;

	s->state = SUB_LIVE;
	s->missed_live = false;
	if (s->handler->on_caught_up != NULL)
		s->handler->on_caught_up(s->arg, missed_live);
}

static void
on_sub_page(struct page *p, const struct event *events, size_t n, const struct err *e)
{
	struct subscription *s = p->arg;

	s->state = SUB_BEHIND;
	if (e != NULL && !s->closed) {
		s->paused = true;
		if (s->handler->on_error != NULL)
			s->handler->on_error(s->arg, e);
	} else {
		sub_deliver(s, events, n);
	}
	if (!s->paused && !s->closed && s->state == SUB_BEHIND && e == NULL) {
		s->position = MAX(s->position, p->last);
		/* What became durable after the question may be missing in the answer, and was not
		 * delivered. */
		if (p->rows == p->limit || s->log->durable_seq > MAX(s->asked_at, s->position))
			sub_read(s);
		else
			sub_go_live(s);
	}
	sub_unref(s);
}

/* Looks where the subscription stands, outside of the caller's call. */
static void
sub_step(void *arg)
{
	struct subscription *s = arg;

	s->kicked = false;
	if (!s->closed && !s->paused && s->state == SUB_BEHIND) {
		if (s->log->state == LOG_READY && s->position >= s->log->durable_seq)
			sub_go_live(s);
		else
			sub_read(s);
	}
	sub_unref(s);
}

static void
sub_kick(struct subscription *s)
{
	if (s->kicked)
		return;
	s->kicked = true;
	s->refs++;
	loop_defer(s->log->v->loop, sub_step, s);
}

struct subscription *
events_subscribe(struct events *v, const char *session, uint64_t after_seq,
	const struct event_handler *handler, void *arg)
{
	struct session_log *log = log_need(v, session);
	struct subscription *s = xcalloc(1, sizeof(*s));

	*s = (struct subscription){ .log = log,
		.handler = handler,
		.arg = arg,
		.position = after_seq,
		.refs = 1,
		.next = log->subs };
	if (log->subs != NULL)
		log->subs->prev = s;
	log->subs = s;
	sub_kick(s);
	return s;
}

void
events_pause(struct subscription *s)
{
	s->paused = true;
	if (s->state == SUB_LIVE)
		s->state = SUB_BEHIND;
}

void
events_resume(struct subscription *s)
{
	if (!s->paused)
		return;
	s->paused = false;
	if (s->state == SUB_BEHIND)
		sub_kick(s);
}

uint64_t
events_position(const struct subscription *s)
{
	return s->position;
}

void
events_unsubscribe(struct subscription *s)
{
	if (s == NULL)
		return;
	s->closed = true;
	sub_unref(s);
}

/* ---- live ---- */

static void
offer(struct subscription *s, const struct event *events, size_t n)
{
	if (s->state != SUB_LIVE || s->closed)
		return;
	if (events[0].seq > s->position + 1) {
		s->missed_live = true;
		sub_read(s);
	} else {
		sub_deliver(s, events, n);
	}
}

static void
offer_live(struct subscription *s, const struct event *ev)
{
	if (s->state == SUB_LIVE && !s->closed)
		s->handler->on_event(s->arg, ev);
	else
		s->missed_live = true;
}

/* Callbacks may end or add any subscription: the current one is held, and nothing is unlinked
 * before its last holder let go, so next is always good. A new one is put in front and looks for
 * itself. */
static void
for_each(struct session_log *log, const struct event *events, size_t n)
{
	struct subscription *s = log->subs, *next;

	log_use(log);
	for (; s != NULL; s = next) {
		s->refs++;
		if (events[0].seq == 0)
			offer_live(s, events);
		else
			offer(s, events, n);
		next = s->next;
		sub_unref(s);
	}
	log_release(log);
}

void
feed_publish(struct session_log *log, const struct event *events, size_t n)
{
	log->durable_seq = MAX(log->durable_seq, events[n - 1].seq);
	for_each(log, events, n);
}

void
events_live(
	struct events *v, const char *session, enum event_kind k, const char *turn, struct str body)
{
	struct session_log *log = log_find(v, session);
	struct event ev = { .session = session, .turn = turn, .kind = k, .body = body };

	if (!(event_kind_flags(k) & EVENT_LIVE))
		fatal("event log: %s must be stored", event_kind_name(k));
	if (log == NULL || log->subs == NULL)
		return;
	ev.id = id_new();
	ev.time_ms = clock_wall_ms();
	for_each(log, &ev, 1);
}

void
events_end(struct events *v, const char *session, const struct err *e)
{
	struct session_log *log = log_find(v, session);
	struct subscription *s, *next;

	if (log == NULL)
		return;
	log_use(log);
	for (s = log->subs; s != NULL; s = next) {
		s->refs++;
		events_pause(s);
		if (!s->closed && s->handler->on_error != NULL)
			s->handler->on_error(s->arg, e);
		next = s->next;
		sub_unref(s);
	}
	log_release(log);
}

void
feed_close(struct session_log *log)
{
	for (struct subscription *s = log->subs; s != NULL; s = s->next)
		s->closed = true;
}
