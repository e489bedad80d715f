/* SPDX-License-Identifier: MIT
 * Streams of a link: bytes in order, both ways, on the id of the message that opened them, with
 * credit. Invariant: at most WIRE_WINDOW bytes of a stream are sent and not yet consumed; a peer
 * that breaks it is dropped. Each stream ends once: by stream_close here, or by on_reset. */
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "loop/internal.h"

#define DATA_MAX    (64u * KIB) /* of one frame, so that other messages get a turn */
#define CREDIT_STEP (WIRE_WINDOW / 4)

struct stream {
	struct wire *w;
	uint64_t id;
	struct stream *next; /* in its bucket */
	const struct stream_handler *handler;
	void *arg;
	size_t credit; /* that we may send */
	size_t window; /* that the peer may send */
	size_t held; /* received and not consumed */
	size_t owed; /* consumed and not yet given back as credit */
	bool sent_eof, got_eof;
	bool is_over; /* on_reset is running */
	bool waits; /* for the link's backlog */
};

/* ---- the table ---- */

static struct stream **
bucket_of(struct stream_table *t, uint64_t id)
{
	/* ids of one side count up in steps of two */
	return &t->buckets[(id >> 1 ^ id << 4) & (t->size - 1)];
}

static void
table_grow(struct stream_table *t)
{
	struct stream_table bigger = { .size = t->size > 0 ? t->size * 2 : 16 };

	bigger.buckets = xcalloc(bigger.size, sizeof(struct stream *));
	for (size_t i = 0; i < t->size; i++) {
		struct stream *s, *next;
		for (s = t->buckets[i]; s != NULL; s = next) {
			next = s->next;
			struct stream **b = bucket_of(&bigger, s->id);
			s->next = *b;
			*b = s;
		}
	}
	free(t->buckets);
	t->buckets = bigger.buckets;
	t->size = bigger.size;
}

static struct stream *
table_find(struct stream_table *t, uint64_t id)
{
	if (t->n == 0)
		return NULL;
	struct stream *s = *bucket_of(t, id);
	while (s != NULL && s->id != id)
		s = s->next;
	return s;
}

static void
table_remove(struct stream_table *t, struct stream *s)
{
	struct stream **p = bucket_of(t, s->id);
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	t->n--;
	t->waiting -= s->waits;
}

bool
stream_exists(struct stream_table *t, uint64_t id)
{
	return table_find(t, id) != NULL;
}

/* ---- ends ---- */

struct stream *
stream_open(struct wire *w, uint64_t id, const struct stream_handler *handler, void *arg)
{
	struct stream_table *t = wire_streams(w);

	if (stream_exists(t, id))
		fatal("stream_open: id %llu is in use", (unsigned long long)id);
	if (t->n >= t->size)
		table_grow(t);
	struct stream *s = xcalloc(1, sizeof(*s));
	*s = (struct stream){ .w = w, .id = id, .handler = handler, .arg = arg };
	s->credit = WIRE_WINDOW;
	s->window = WIRE_WINDOW;
	struct stream **b = bucket_of(t, id);
	s->next = *b;
	*b = s;
	t->n++;
	t->id_max = MAX(t->id_max, id);
	return s;
}

uint64_t
stream_id(const struct stream *s)
{
	return s->id;
}

void
stream_close(struct stream *s, const struct err *e)
{
	static const struct err cancelled = { .code = ERR_CANCELLED, .msg = "cancelled" };

	if (s->is_over) /* from its own on_reset: released there */
		return;
	if (!(s->sent_eof && s->got_eof)) {
		struct json *j = wire_begin(s->w, WIRE_RESET, s->id);
		wire_put_err(j, e != NULL ? e : &cancelled);
		wire_end(s->w, STR(""), -1);
	}
	table_remove(wire_streams(s->w), s);
	free(s);
}

/* The peer or the link ended it. */
static void
stream_over(struct stream_table *t, struct stream *s, const struct err *e)
{
	table_remove(t, s);
	s->is_over = true;
	s->handler->on_reset(s->arg, e);
	free(s);
}

void
stream_reset_all(struct stream_table *t, const struct err *e)
{
	/* A callback may close others, or even reset them all: look anew after each. */
	for (size_t i = 0; t->n > 0;) {
		struct stream *s = t->buckets[i & (t->size - 1)];
		if (s != NULL)
			stream_over(t, s, e);
		else
			i++;
	}
	free(t->buckets);
	*t = (struct stream_table){ .id_max = t->id_max };
}

/* ---- sending ---- */

size_t
stream_write(struct stream *s, int ch, struct str bytes)
{
	size_t taken = 0;

	if (s->sent_eof)
		fatal("stream_write after stream_eof");
	while (taken < bytes.n && s->credit > 0 && wire_is_open(s->w)) {
		struct str part = str_sub(bytes, taken, MIN(DATA_MAX, s->credit));
		struct json *j = wire_begin(s->w, WIRE_DATA, s->id);
		json_kv_int(j, "ch", ch);
		wire_end(s->w, part, -1);
		s->credit -= part.n;
		taken += part.n;
	}
	return taken;
}

size_t
stream_credit(struct stream *s)
{
	struct stream_table *t = wire_streams(s->w);

	if (s->credit == 0 || wire_queued(s->w) < WIRE_BACKLOG_HIGH)
		return s->credit;
	t->waiting += !s->waits;
	s->waits = true;
	return 0;
}

void
stream_resume_all(struct stream_table *t)
{
	size_t i = 0, n = 0;
	uint64_t *ids;

	if (t->waiting == 0)
		return;
	/* A callback may open and close streams: go by ids. */
	ids = xcalloc(t->waiting, sizeof(*ids));
	for (size_t b = 0; b < t->size; b++)
		for (struct stream *s = t->buckets[b]; s != NULL; s = s->next)
			if (s->waits) {
				s->waits = false;
				ids[n++] = s->id;
			}
	t->waiting = 0;
	for (; i < n; i++) {
		struct stream *s = table_find(t, ids[i]);
		if (s != NULL && s->handler->on_credit != NULL && !s->sent_eof)
			s->handler->on_credit(s->arg);
	}
	free(ids);
}

void
stream_eof(struct stream *s)
{
	if (s->sent_eof)
		return;
	s->sent_eof = true;
	wire_begin(s->w, WIRE_EOF, s->id);
	wire_end(s->w, STR(""), -1);
}

void
stream_consume(struct stream *s, size_t n)
{
	if (n > s->held)
		fatal("stream_consume: %zu bytes of %zu", n, s->held);
	s->held -= n;
	s->owed += n;
	/* In steps, so that credit costs little; at once when the peer is about to run dry. */
	if (s->got_eof || s->owed == 0 || (s->owed < CREDIT_STEP && s->window >= CREDIT_STEP))
		return;
	struct json *j = wire_begin(s->w, WIRE_CREDIT, s->id);
	json_kv_int(j, "n", (int64_t)s->owed);
	wire_end(s->w, STR(""), -1);
	s->window += s->owed;
	s->owed = 0;
}

/* ---- receiving; a stream may be gone after its callback ---- */

static int
receive_data(struct stream *s, const struct wire_msg *m, struct err *e)
{
	size_t n = m->tail.n;
	int64_t ch = node_int(m->head, "ch", 0);

	if (s->got_eof)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "data after eof on stream %llu",
			(unsigned long long)s->id);
	if (n == 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "empty data on stream %llu",
			(unsigned long long)s->id);
	if (n > s->window)
		return err_set(e, ERR_PROTO, ERR_TO_LOG,
			"%zu bytes on stream %llu with credit for %zu", n,
			(unsigned long long)s->id, s->window);
	if (ch < 0 || ch > UINT8_MAX)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "channel %lld on stream %llu (0..255)",
			(long long)ch, (unsigned long long)s->id);
	s->window -= n;
	s->held += n;
	s->handler->on_data(s->arg, (int)ch, m->tail);
	return 0;
}

static int
receive_credit(struct stream *s, const struct wire_msg *m, struct err *e)
{
	int64_t n = node_int(m->head, "n", 0);

	if (n < 1 || (uint64_t)n > WIRE_WINDOW - s->credit)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "credit of %lld on stream %llu (1..%zu)",
			(long long)n, (unsigned long long)s->id, WIRE_WINDOW - s->credit);
	s->credit += (size_t)n;
	if (s->handler->on_credit != NULL && !s->sent_eof)
		s->handler->on_credit(s->arg);
	return 0;
}

static int
receive_eof(struct stream *s, struct err *e)
{
	if (s->got_eof)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "second eof on stream %llu",
			(unsigned long long)s->id);
	s->got_eof = true;
	s->handler->on_eof(s->arg);
	return 0;
}

int
stream_receive(struct stream_table *t, const struct wire_msg *m, struct err *e)
{
	struct stream *s = table_find(t, m->id);

	if (s == NULL) {
		/* Late for a stream that was released here, unless nothing ever had this id. */
		if (m->id <= t->id_max)
			return 0;
		return err_set(e, ERR_PROTO, ERR_TO_LOG,
			"%s on stream %llu, which was never opened", wire_kind_name(m->kind),
			(unsigned long long)m->id);
	}
	switch (m->kind) {
	case WIRE_DATA:
		return receive_data(s, m, e);
	case WIRE_CREDIT:
		return receive_credit(s, m, e);
	case WIRE_EOF:
		return receive_eof(s, e);
	default:
		break;
	}
	struct err why = { 0 };
	wire_err(m->head, &why);
	stream_over(t, s, &why);
	return 0;
}
