/* SPDX-License-Identifier: MIT
 * The writing half of the event log: which sessions are active, who has which number, appends in
 * order. Numbers are given here ahead of the commit, so that appends can be pipelined; the database
 * refuses an append that is not right behind the last event, so that a failed one takes all later
 * ones with it. Invariants: a session's log has no gap and no duplicate; nothing is published or
 * acknowledged before it is durable. */
#include "session/log_internal.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/hash.h"

#define BUCKETS_FIRST 64

/* An append on its way. Its texts lie behind the events, in the same allocation. */
struct append {
	struct append *next;
	struct session_log *log;
	struct batch *extra; /* until it is handed to the store */
	events_done_fn done;
	void *arg;
	size_t n;
	struct event events[];
};

/* ---- the registry ---- */

struct events *
events_open(struct store *s, struct loop *l)
{
	struct events *v = xcalloc(1, sizeof(*v));

	v->store = s;
	v->loop = l;
	v->buckets_n = BUCKETS_FIRST;
	v->buckets = xcalloc(v->buckets_n, sizeof(struct session_log *));
	return v;
}

static void
events_free(struct events *v)
{
	free(v->buckets);
	free(v);
}

static struct session_log **
bucket_of(const struct events *v, const char *session)
{
	return &v->buckets[hash64(str_of(session)) & (v->buckets_n - 1)];
}

struct session_log *
log_find(const struct events *v, const char *session)
{
	struct session_log *log = *bucket_of(v, session);

	while (log != NULL && strcmp(log->id, session) != 0)
		log = log->next;
	return log;
}

static void
grow(struct events *v)
{
	struct session_log **old = v->buckets;
	size_t n = v->buckets_n;

	v->buckets_n *= 2;
	v->buckets = xcalloc(v->buckets_n, sizeof(struct session_log *));
	for (size_t i = 0; i < n; i++) {
		for (struct session_log *log = old[i], *next; log != NULL; log = next) {
			struct session_log **bucket = bucket_of(v, log->id);
			next = log->next;
			log->next = *bucket;
			*bucket = log;
		}
	}
	free(old);
}

struct session_log *
log_need(struct events *v, const char *session)
{
	struct session_log *log = log_find(v, session);
	struct session_log **bucket;
	size_t n = strlen(session) + 1;

	if (log != NULL)
		return log;
	if (v->logs >= v->buckets_n)
		grow(v);
	bucket = bucket_of(v, session);
	log = xcalloc(1, sizeof(*log) + n);
	memcpy(log->id, session, n);
	log->v = v;
	log->next = *bucket;
	*bucket = log;
	v->logs++;
	return log;
}

void
log_use(struct session_log *log)
{
	log->users++;
}

/* An object without numbers, appends and readers says nothing that the database does not. */
static void
log_reap(struct session_log *log)
{
	struct events *v = log->v;
	struct session_log **link = bucket_of(v, log->id);

	if (log->users > 0 || log->subs != NULL || log->inflight > 0 || log->head != NULL)
		return;
	if (log->state != LOG_UNLOADED && !log->forget)
		return;
	while (*link != log)
		link = &(*link)->next;
	*link = log->next;
	free(log);
	if (--v->logs == 0 && v->closed)
		events_free(v);
}

void
log_release(struct session_log *log)
{
	log->users--;
	log_reap(log);
}

void
events_forget(struct events *v, const char *session)
{
	struct session_log *log = log_find(v, session);

	if (log == NULL)
		return;
	log->forget = true;
	log_reap(log);
}

size_t
events_active(const struct events *v)
{
	return v->logs;
}

void
events_close(struct events *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->buckets_n; i++) {
		for (struct session_log *log = v->buckets[i], *next; log != NULL; log = next) {
			next = log->next;
			log_use(log);
			log->forget = true;
			feed_close(log);
			log_release(log);
		}
	}
	v->closed = true;
	if (v->logs == 0)
		events_free(v);
}

/* ---- appends ---- */

static size_t
text_size(const char *z)
{
	return z != NULL ? strlen(z) + 1 : 0;
}

static struct str
text_copy(char **to, const char *p, size_t n)
{
	struct str copy = { *to, n };

	if (n != 0)
		memcpy(*to, p, n);
	*to += n;
	return copy;
}

/* NULL when a body is too large. */
static struct append *
append_new(struct session_log *log, const struct event_draft *drafts, size_t n)
{
	struct append *ap;
	size_t bytes = 0;
	char *text;

	for (size_t i = 0; i < n; i++) {
		if (drafts[i].body.n > EVENT_BODY_MAX)
			return NULL;
		bytes += text_size(drafts[i].turn) + drafts[i].body.n;
	}
	ap = xmalloc(sizeof(*ap) + n * sizeof(ap->events[0]) + bytes);
	*ap = (struct append){ .log = log, .n = n };
	text = (char *)&ap->events[n];
	for (size_t i = 0; i < n; i++) {
		const struct event_draft *d = &drafts[i];
		if (event_kind_flags(d->kind) & EVENT_LIVE)
			fatal("event log: %s is never stored", event_kind_name(d->kind));
		ap->events[i] = (struct event){ .id = id_new(),
			.session = log->id,
			.time_ms = d->time_ms != 0 ? d->time_ms : clock_wall_ms(),
			.kind = d->kind };
		if (d->turn != NULL)
			ap->events[i].turn = text_copy(&text, d->turn, text_size(d->turn)).p;
		ap->events[i].body = text_copy(&text, d->body.p, d->body.n);
	}
	return ap;
}

static void
append_end(struct append *ap, const struct err *e)
{
	if (ap->done != NULL)
		ap->done(ap->arg, e == NULL && ap->n > 0 ? ap->events[0].seq : 0, e);
	batch_free(ap->extra);
	free(ap);
}

static void
queue_add(struct session_log *log, struct append *ap)
{
	ap->next = NULL;
	if (log->tail != NULL)
		log->tail->next = ap;
	else
		log->head = ap;
	log->tail = ap;
}

static void
queue_push(struct session_log *log, struct append *ap)
{
	ap->next = log->head;
	log->head = ap;
	if (log->tail == NULL)
		log->tail = ap;
}

static struct append *
queue_take_all(struct session_log *log)
{
	struct append *ap = log->head;

	log->head = log->tail = NULL;
	return ap;
}

/* Fails what waits and starts over: the next append reads the last seq from the database. */
static void
log_reset(struct session_log *log, const struct err *why)
{
	struct err e = *why; /* a callback may append, fail and overwrite log->err */
	struct append *ap = queue_take_all(log);

	log->state = LOG_UNLOADED;
	while (ap != NULL) {
		struct append *next = ap->next;
		append_end(ap, &e);
		ap = next;
	}
}

static void
on_committed(void *arg, const struct err *e)
{
	struct append *ap = arg;
	struct session_log *log = ap->log;

	log_use(log);
	log->inflight--;
	if (e != NULL && log->state != LOG_BROKEN) {
		log->state = LOG_BROKEN;
		log->err = *e;
	}
	if (e == NULL) {
		if (ap->n > 0)
			feed_publish(log, ap->events, ap->n);
		append_end(ap, NULL);
	} else if (log->inflight > 0) {
		append_end(ap, &log->err);
	} else {
		queue_push(log, ap); /* its callback may append again, so it comes after the end of
					LOG_BROKEN */
	}
	if (log->state == LOG_BROKEN && log->inflight == 0)
		log_reset(log, &log->err);
	log_release(log);
}

static void
add_row(struct batch *b, const struct event *ev, bool is_first)
{
	const struct cell_value row[] = { V_Z(ev->session), V_INT((int64_t)ev->seq), V_Z(ev->id.z),
		V_Z(ev->turn), V_INT(ev->time_ms), V_Z(event_kind_name(ev->kind)),
		V_BYTES(ev->body) };

	if (is_first)
		batch_add_expect(b, STMT_EVENT_APPEND, row, ARRAY_LEN(row), 1);
	else
		batch_add(b, STMT_EVENT_INSERT, row, ARRAY_LEN(row));
}

/* Numbers the events and hands them to the store. */
static void
submit(struct append *ap)
{
	struct session_log *log = ap->log;
	struct batch *b = take_ptr(&ap->extra);

	if (b == NULL)
		b = batch_new();
	for (size_t i = 0; i < ap->n; i++) {
		ap->events[i].seq = ++log->last_seq;
		add_row(b, &ap->events[i], i == 0);
	}
	log->inflight++;
	store_commit(log->v->store, b, on_committed, ap);
}

static void
on_loaded(void *arg, const struct rows *r, const struct err *e)
{
	struct session_log *log = arg;

	if (e != NULL) {
		log_reset(log, e);
	} else {
		struct append *ap = queue_take_all(log);
		log->state = LOG_READY;
		log->last_seq = (uint64_t)rows_int(r, 0, 0);
		log->durable_seq = MAX(log->durable_seq, log->last_seq);
		while (ap != NULL) {
			struct append *next = ap->next;
			submit(ap);
			ap = next;
		}
	}
	log_release(log);
}

static void
load(struct session_log *log)
{
	log->state = LOG_LOADING;
	log_use(log);
	store_query(log->v->store, STMT_EVENT_LAST, (const struct cell_value[]){ V_Z(log->id) }, 1,
		on_loaded, log);
}

static void
refuse(void *arg)
{
	struct append *ap = arg;
	struct session_log *log = ap->log;
	struct err e = { 0 };

	err_set(&e, ERR_LIMIT, ERR_TO_USER,
		"an event is larger than %u KiB (keep large content as a blob)",
		EVENT_BODY_MAX / KIB);
	append_end(ap, &e);
	log_release(log);
}

void
events_append(struct events *v, const char *session, const struct event_draft *drafts, size_t n,
	struct batch *extra, events_done_fn done, void *arg)
{
	struct session_log *log = log_need(v, session);
	struct append *ap = append_new(log, drafts, n);
	bool is_refused = ap == NULL;

	if (is_refused)
		ap = append_new(log, NULL, 0);
	ap->extra = extra;
	ap->done = done;
	ap->arg = arg;
	if (is_refused) {
		log_use(log);
		loop_defer(v->loop, refuse, ap);
		return;
	}
	log->forget = false;
	/* A session that begins has no last seq to ask for; were it not new, the database would
	 * refuse. */
	if (log->state == LOG_UNLOADED && n > 0 && drafts[0].kind == EVENT_SESSION_CREATED) {
		log->state = LOG_READY;
		log->last_seq = 0;
	}
	if (log->state == LOG_READY) {
		submit(ap);
		return;
	}
	queue_add(log, ap);
	if (log->state == LOG_UNLOADED)
		load(log);
}
