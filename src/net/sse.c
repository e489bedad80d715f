/* SPDX-License-Identifier: MIT
 * Reader of server-sent events, by the algorithm of WHATWG HTML 9.2.6. Works on bytes: a character
 * that is split over two reads is put together here and judged by the reader of the data. A whole
 * line inside one read is taken from there without a copy; only what a read cuts off is kept. The
 * result does not depend on where the reads were cut. */
#include "net/sse.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

#define BOM      "\xEF\xBB\xBF"
#define BOM_SIZE 3

struct sse {
	sse_fn fn;
	void *arg;
	struct buf line; /* begun in an earlier read */
	struct buf data;
	struct buf event;
	struct buf id;
	size_t bom;    /* bytes of the byte order mark seen at the start; BOM_SIZE: over */
	bool has_data; /* an event without a data line is not an event */
	bool after_cr; /* a LF now belongs to the line end before it */
	int64_t retry_ms;
	int failed; /* the first error; the reader stays where it stopped */
};

struct sse *
sse_new(sse_fn fn, void *arg)
{
	struct sse *s = xcalloc(1, sizeof(*s));

	s->fn = fn;
	s->arg = arg;
	s->retry_ms = -1;
	buf_init(&s->line, SSE_EVENT_MAX);
	buf_init(&s->data, SSE_EVENT_MAX);
	buf_init(&s->event, SSE_EVENT_MAX);
	buf_init(&s->id, SSE_EVENT_MAX);
	return s;
}

void
sse_free(struct sse *s)
{
	if (!s)
		return;
	buf_fini(&s->line);
	buf_fini(&s->data);
	buf_fini(&s->event);
	buf_fini(&s->id);
	free(s);
}

int64_t
sse_retry_ms(const struct sse *s)
{
	return s->retry_ms;
}

static int
too_large(struct err *e)
{
	return err_set(e, ERR_LIMIT, ERR_TO_USER, "an event of the stream is larger than %u bytes",
		SSE_EVENT_MAX);
}

static int
dispatch(struct sse *s)
{
	int rc = 0;

	if (s->has_data) {
		struct sse_event ev = { .event = buf_str(&s->event),
			.data = buf_str(&s->data),
			.id = buf_str(&s->id) };

		ev.data.n--; /* the \n after the last line */
		rc = s->fn(s->arg, &ev);
	}
	buf_reset(&s->data);
	buf_reset(&s->event);
	s->has_data = false;
	return rc;
}

static int
field(struct sse *s, struct str name, struct str value, struct err *e)
{
	int64_t ms;

	if (str_is(name, "data")) {
		/* One byte is left for the \n, so that the limit does not depend on the order of
		 * the two. */
		if (s->data.n + value.n + 1 > SSE_EVENT_MAX)
			return too_large(e);
		buf_add_str(&s->data, value);
		buf_add_char(&s->data, '\n');
		s->has_data = true;
	} else if (str_is(name, "event")) {
		buf_reset(&s->event);
		buf_add_str(&s->event, value);
	} else if (str_is(name, "id")) {
		if (value.n && memchr(value.p, 0, value.n))
			return 0; /* the standard ignores it */
		buf_reset(&s->id);
		buf_add_str(&s->id, value);
	} else if (str_is(name, "retry")) {
		if (value.n && value.p[0] >= '0' && value.p[0] <= '9' && str_i64(value, &ms) == 0)
			s->retry_ms = ms;
	}
	return 0;
}

static int
line(struct sse *s, struct str l, struct err *e)
{
	ptrdiff_t colon;
	struct str value;

	if (l.n == 0)
		return dispatch(s);
	colon = str_find_char(l, ':');
	if (colon == 0)
		return 0; /* a comment */
	if (colon < 0)
		return field(s, l, STR(""), e);
	value = str_sub(l, (size_t)colon + 1, l.n);
	if (value.n && value.p[0] == ' ')
		value = str_sub(value, 1, value.n);
	return field(s, str_sub(l, 0, (size_t)colon), value, e);
}

/* Takes the byte order mark off the front of *in. Bytes that only looked like its beginning become
 * line content. */
static void
skip_bom(struct sse *s, struct str *in)
{
	size_t seen;

	while (s->bom < BOM_SIZE && in->n) {
		if (in->p[0] != BOM[s->bom]) {
			seen = s->bom;
			s->bom = BOM_SIZE;
			buf_add(&s->line, BOM, seen);
			return;
		}
		s->bom++;
		*in = str_sub(*in, 1, in->n);
	}
}

/* A plain loop: memchr for one of the two ends would run ahead through the whole read for every
 * line. */
static size_t
line_end(struct str in)
{
	size_t n = 0;

	while (n < in.n && in.p[n] != '\n' && in.p[n] != '\r')
		n++;
	return n;
}

/* One line, or the beginning of one, off the front of *in. */
static int
step(struct sse *s, struct str *in, struct err *e)
{
	size_t n = line_end(*in);
	struct str l = str_sub(*in, 0, n);
	int rc;

	if (s->line.n + n > SSE_EVENT_MAX)
		return too_large(e);
	if (n == in->n) {
		buf_add_str(&s->line, l);
		*in = str_sub(*in, n, 0);
		return 0;
	}
	s->after_cr = in->p[n] == '\r';
	*in = str_sub(*in, n + 1, in->n);
	if (s->line.n == 0)
		return line(s, l, e);
	buf_add_str(&s->line, l);
	rc = line(s, buf_str(&s->line), e);
	buf_reset(&s->line);
	return rc;
}

int
sse_feed(struct sse *s, struct str bytes, struct err *e)
{
	if (s->failed)
		return err_set(e, s->failed, ERR_TO_LOG, "the event stream failed before");
	skip_bom(s, &bytes);
	while (bytes.n && !s->failed) {
		if (s->after_cr) {
			s->after_cr = false;
			if (bytes.p[0] == '\n') {
				bytes = str_sub(bytes, 1, bytes.n);
				continue;
			}
		}
		s->failed = step(s, &bytes, e);
	}
	return s->failed;
}
