/* SPDX-License-Identifier: MIT
 * Reader of server-sent events (WHATWG HTML, section 9.2): CR, LF and CRLF line ends, also split
 * across reads, comments, multi-line data, a leading byte order mark. Knows nothing of sockets. */
#ifndef NET_SSE_H
#define NET_SSE_H

#include "base/buf.h"
#include "base/err.h"

struct sse_event {
	struct str event; /* empty: "message" */
	struct str data;  /* lines joined by \n */
	struct str id;    /* last event id so far */
};
/* Return 0, or an error code to stop (sse_feed returns it). Borrowed for the call. */
typedef int (*sse_fn)(void *arg, const struct sse_event *ev);

struct sse;
struct sse *sse_new(sse_fn fn, void *arg); /* an event larger than SSE_EVENT_MAX is ERR_LIMIT */
void sse_free(struct sse *s);
int sse_feed(struct sse *s, struct str bytes, struct err *e) MUST_USE;
/* Milliseconds asked for by the last `retry:` field, or -1. */
int64_t sse_retry_ms(const struct sse *s);

#endif
