/* SPDX-License-Identifier: MIT
 * The event log: every session is an append-only list of numbered events, and everything else is a reading of it. Here
 * sequence numbers are given, appends are made durable in order, and readers follow: first from the database, then
 * live, without gap or duplicate. All calls on the loop's thread; callbacks come later, never inside the call. */
#ifndef SESSION_LOG_H
#define SESSION_LOG_H

#include "base/id.h"
#include "base/json.h"
#include "store/store.h"

enum event_flags {
	EVENT_LIVE = 1, /* only for who listens now; never stored, seq is 0 */
	EVENT_INPUT = 2, /* an input of the turn machine: replay folds over these */
	EVENT_OUTPUT = 4, /* the turn machine said it */
};

/* Rows: constant, name on the wire and in the database, flags. */
#define EVENT_KINDS(X)                                                                             \
	X(SESSION_CREATED, "session.created", 0)                                                   \
	X(USER_MESSAGE, "user.message", 0)                                               \
	X(TURN_QUEUED, "turn.queued", 0)                                                           \
	X(TURN_STARTED, "turn.started", EVENT_INPUT)                                              \
	X(TURN_STEERED, "turn.steered", 0)                                               \
	X(TURN_STOPPING, "turn.stopping", EVENT_INPUT)                                             \
	X(TURN_SUSPENDED, "turn.suspended", EVENT_LIVE) /* not ended: taken up again later */      \
	X(TURN_FILES, "turn.files", EVENT_INPUT) /* what it left for the user: in front of its end */  \
	X(TURN_FINISHED, "turn.finished", EVENT_OUTPUT)                                            \
	X(CONTEXT_BUILT, "context.built", EVENT_OUTPUT)                                            \
	X(CONTEXT_COMPACTED, "context.compacted", 0)                                     \
	X(MODEL_STARTED, "model.started", EVENT_OUTPUT)                                            \
	X(MODEL_PARTIAL, "model.partial", 0)                                                       \
	X(MODEL_RESET, "model.reset", 0)                                                           \
	X(MODEL_RETRY, "model.retry", EVENT_INPUT) /* for what the attempt cost */                    \
	X(MODEL_DONE, "model.done", EVENT_INPUT)                                                   \
	X(MODEL_DELTA, "model.delta", EVENT_LIVE)                                                  \
	X(TOOL_REQUESTED, "tool.requested", EVENT_INPUT)                                          \
	X(TOOL_PROGRESS, "tool.progress", EVENT_LIVE)                                              \
	X(TOOL_PARTIAL, "tool.partial", 0)                                                         \
	X(APPROVAL_REQUESTED, "approval.requested", EVENT_OUTPUT)                                  \
	X(APPROVAL_RESOLVED, "approval.resolved", EVENT_INPUT)                                     \
	X(APPROVAL_EXPIRED, "approval.expired", EVENT_INPUT)                                       \
	X(EFFECT_INTENT, "effect.intent", EVENT_INPUT)                                            \
	X(EFFECT_OUTCOME, "effect.outcome", EVENT_INPUT)                                           \
	X(EXEC_BEGIN, "exec.begin", 0)                                                             \
	X(EXEC_OUTPUT, "exec.output", 0)                                                           \
	X(EXEC_END, "exec.end", 0)                                                                 \
	X(QUESTION_ASKED, "question.asked", EVENT_OUTPUT)                                          \
	X(QUESTION_ANSWERED, "question.answered", 0)                                     \
	X(PLAN_UPDATED, "plan.updated", 0)                                                         \
	X(MEDIA_SENT, "media.sent", 0)                                                             \
	X(MEMORY_RECALLED, "memory.recalled", 0)                                         \
	X(MEMORY_SAVED, "memory.saved", 0)                                                         \
	X(MEMORY_FORGOTTEN, "memory.forgotten", 0)                                                 \
	X(BUDGET_CHANGED, "budget.changed", 0)                                                     \
	X(AGENT_FORKED, "agent.forked", 0)                                                         \
	X(AGENT_EXITED, "agent.exited", 0)                                                         \
	X(SCHEDULE_FIRED, "schedule.fired", 0)                                                     \
	X(TAINT_CHANGED, "taint.changed", 0)                                                       \
	X(EGRESS_DENIED, "egress.denied", 0)                                                       \
	X(NOTICE, "notice", 0)

#define EVENT_ENUM(name, text, flags) EVENT_##name,
enum event_kind { EVENT_KINDS(EVENT_ENUM) EVENT_KIND_COUNT };
#undef EVENT_ENUM

const char *event_kind_name(enum event_kind k);
unsigned event_kind_flags(enum event_kind k);
/* 0, or -1 when there is no such kind. */
int event_kind_parse(struct str name, enum event_kind *out) MUST_USE;

/* Everything is borrowed. */
struct event {
	uint64_t seq; /* 1, 2, 3, ... within the session; 0: live only */
	struct id id;
	const char *session;
	const char *turn; /* NULL: of no turn */
	int64_t time_ms;
	enum event_kind kind;
	struct str body; /* a JSON object */
};
/* Writes {seq, id, session, turn, time, kind, body}; time as RFC 3339. */
void event_envelope(const struct event *ev, struct json *j);

struct events;
/* The store must be open until every callback came (store_close sees to that); close events after it. */
struct events *events_open(struct store *s, struct loop *l) MUST_USE;
void events_close(struct events *v); /* subscriptions end silently; NULL is fine */

/* What is to be appended; borrowed, copied by the call. */
struct event_draft {
	enum event_kind kind; /* a stored one */
	const char *turn; /* NULL: of no turn */
	int64_t time_ms; /* 0: now. A turn's inputs give the time that the turn machine was told */
	struct str body; /* a JSON object of at most EVENT_BODY_MAX bytes */
};
/* The events are durable and were published; they are numbered from first_seq (0 when there were none). Or e says why
 * nothing of this append, nor of its extra batch, is there. */
typedef void (*events_done_fn)(void *arg, uint64_t first_seq, const struct err *e);
/* Appends in the order of the calls; a further append may follow before this one is durable. extra (taken, may be NULL)
 * becomes durable in the same commit. After a failure the appends of this session that were already queued fail with
 * the same error; the next one after that starts from what the database holds. done may be NULL. */
void events_append(struct events *v, const char *session, const struct event_draft *drafts, size_t n,
	struct batch *extra, events_done_fn done, void *arg);
/* Tells live subscribers of a live-only kind; nothing is stored, who is behind misses it. */
void events_live(struct events *v, const char *session, enum event_kind k, const char *turn, struct str body);

struct event_handler {
	void (*on_event)(void *arg, const struct event *ev);
	/* Everything stored was delivered, live from here on: at first, and after each time it fell behind.
	 * missed_live: live-only events went by meanwhile. May be NULL. */
	void (*on_caught_up)(void *arg, bool missed_live);
	/* The log could not be read; the subscription is paused, events_resume tries again. May be NULL. */
	void (*on_error)(void *arg, const struct err *e);
};
struct subscription;
/* Delivers every stored event after after_seq, in order and once, then goes on live. handler is borrowed for the life of
 * the subscription. */
struct subscription *events_subscribe(struct events *v, const char *session, uint64_t after_seq,
	const struct event_handler *handler, void *arg) MUST_USE;
/* A paused subscription gets nothing and costs nothing; after resume it is fed from the database until it is level. */
void events_pause(struct subscription *s);
void events_resume(struct subscription *s);
uint64_t events_position(const struct subscription *s); /* seq of the last stored event that was delivered */
void events_unsubscribe(struct subscription *s); /* no callback after it, also inside one; NULL is fine */

/* One page: at most limit (and at most EVENT_PAGE) events after a seq. more: there may be further ones. */
typedef void (*events_page_fn)(void *arg, const struct event *events, size_t n, bool more,
	const struct err *e);
void events_read(struct events *v, const char *session, uint64_t after_seq, size_t limit,
	events_page_fn fn, void *arg);

/* The session is no more: its subscribers get on_error, and are paused. */
void events_end(struct events *v, const char *session, const struct err *e);
/* Drops what is kept in memory for a session, now or when it falls idle; the next append reads the last seq again. */
void events_forget(struct events *v, const char *session);
size_t events_active(const struct events *v); /* sessions that take memory */

#endif
