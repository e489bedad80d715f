/* SPDX-License-Identifier: MIT
 * What the two halves of the event log share: log.c numbers and appends, feed.c reads and follows.
 */
#ifndef SESSION_LOG_INTERNAL_H
#define SESSION_LOG_INTERNAL_H

#include "base/limits.h"
#include "base/mem.h"
#include "session/log.h"

struct append;

/* A session is UNLOADED until its last seq is needed; BROKEN while appends behind a failed one are
 * still out. */
enum log_state { LOG_UNLOADED, LOG_LOADING, LOG_READY, LOG_BROKEN };

struct session_log {
	struct session_log *next; /* in its bucket */
	struct events *v;
	enum log_state state;
	uint64_t last_seq;          /* given out; LOG_READY only */
	uint64_t durable_seq;       /* highest that is known to be durable */
	struct append *head, *tail; /* wait for the load, or for the end of LOG_BROKEN */
	size_t inflight;            /* appends that the store has */
	struct err err;             /* LOG_BROKEN: why */
	struct subscription *subs;
	int users;   /* callers up the stack and queries that still need this object */
	bool forget; /* free it as soon as it is idle */
	char id[];
};

struct events {
	struct store *store;
	struct loop *loop;
	struct session_log **buckets;
	size_t buckets_n; /* a power of two */
	size_t logs;
	bool closed; /* freed with the last log */
};

struct session_log *log_find(
	const struct events *v, const char *session); /* NULL when it takes no memory */
struct session_log *log_need(struct events *v, const char *session);
void log_use(struct session_log *log);
void log_release(struct session_log *log); /* frees it when nobody needs it */

/* feed.c: hands events that were just made durable to the live subscribers. */
void feed_publish(struct session_log *log, const struct event *events, size_t n);
void feed_close(struct session_log *log); /* no callback of any subscription after it */

#endif
