/* SPDX-License-Identifier: MIT
 * Sessions: the append-only event log (log.h), and the transcript, which is the reading of that log that a model sees.
 * Nothing here decides or runs anything. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "base/limits.h"
#include "provider/provider.h"
#include "session/log.h"

/* The conversation of one session, folded from its events. Adding an event twice or out of order is a broken
 * invariant of the caller. Strings are copied. */
struct transcript;

struct transcript *transcript_new(void) MUST_USE;
void transcript_free(struct transcript *tr); /* NULL is fine */
/* A copy for what may come next; it borrows from tr, which must outlive it and not grow meanwhile. */
struct transcript *transcript_imagine(const struct transcript *tr) MUST_USE;
size_t transcript_memory(const struct transcript *tr); /* bytes that it takes */
bool transcript_has_media(const struct transcript *tr); /* some message came with a file */
/* The files that came with messages, the newest first, as an inbox has them: at most TURN_FILES_MAX of TURN_MEDIA_MAX
 * together. Equal bytes of the same name are one. Strings are borrowed. */
struct transcript_file {
	struct str name, blob;
	size_t size_bytes;
};
size_t transcript_files(const struct transcript *tr, struct transcript_file out[TURN_FILES_MAX]);
/* What the last answer said of its request; false: there was none yet. cost (may be NULL): of that call. */
bool transcript_last_usage(const struct transcript *tr, struct model_usage *u, int64_t *cost_microusd);
/* How many tokens that many bytes of a request to this model (as model.done names it) may be: a token for 3 bytes, or more
 * where its answers have shown that. */
int64_t transcript_tokens(const struct transcript *tr, struct str model, size_t bytes);
/* Events that are not part of the conversation are ignored. 0, or ERR_CORRUPT when the body is not what its kind says,
 * or ERR_LIMIT when the session is larger than TRANSCRIPT_MAX. */
int transcript_add(struct transcript *tr, enum event_kind kind, const struct node *body, struct err *e) MUST_USE;

struct transcript_view {
	const struct message *messages;
	size_t n;
	size_t bytes; /* of all text in them: for estimates */
	size_t dropped_turns; /* oldest turns that were left out to fit */
	const size_t *turns; /* of each message, from 1; 0: it stands for what was left out */
};
struct view_limits {
	size_t max_bytes; /* of all text */
	size_t result_max; /* bytes of a tool's result that is not of the newest step; 0: as it is in the log */
};
/* What a model gets: the newest whole turns whose text fits into max_bytes; the turn in progress is always there, if need
 * be with its results cut in the middle. Calls that have no result (a turn was cancelled) get one that says so, because
 * every API wants one. In a. */
void transcript_view(const struct transcript *tr, const struct view_limits *l, struct arena *a,
	struct transcript_view *out);

#endif
