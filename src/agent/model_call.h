/* SPDX-License-Identifier: MIT
 * A model call, for the files that are one: model.c (its life and its attempts), model_request.c (what is sent),
 * model_money.c (what it may cost), model_log.c (what is told of it) and model_offline.c (the model without a server). */
#ifndef AGENT_MODEL_CALL_H
#define AGENT_MODEL_CALL_H

#include "agent/internal.h"
#include "provider/breaker.h"

#define PARTIAL_MS 250

struct model_call {
	struct run *r;
	struct arena *a; /* of this attempt */
	int64_t step, attempt;
	struct model_info info;
	struct model_request q; /* of this attempt */
	struct buf body;
	struct fetch *fetch;
	struct parser *parser;
	struct timer *timer; /* retry, offline delay, or waiting for the broker */
	enum { WAITS_NOT, WAITS_TO_SEND, WAITS_TO_REPEAT, WAITS_FOR_SANDBOX } waits; /* the first two for the broker */
	bool has_waited; /* for the sandbox */
	struct breaker *breaker; /* of the provider; NULL while nothing is asked of it */
	enum breaker_pass pass;
	struct timer *partial_timer;
	int status;
	struct buf headers, error_body;
	int64_t shown[2]; /* bytes of text and of reasoning shown so far */
	struct buf partial; /* text shown and not logged yet */
	int64_t partial_at; /* its offset */
	struct claim claim; /* what it may cost at most, while it is under way */
	int64_t lost_microusd; /* by attempts without an answer; not told yet */
	bool is_awaited; /* a commit is under way: its callback frees a cancelled call */
	bool is_small; /* the small profile: a short prompt, few tools, short results */
	size_t view_bytes, dropped_turns; /* of the conversation in the request */
	const size_t *turns; /* of each message of it, as in the view */
	/* offline */
	const struct offline_step *steps;
	size_t steps_n, steps_at;
	struct part *parts;
	size_t parts_n;
	size_t room; /* of the newest text */
	size_t input_bytes, output_bytes;
};

/* model.c */
void call_begin(struct model_call *m); /* an attempt */
void call_failed(struct model_call *m, const struct failure *f); /* the attempt: it may be made again */
/* The model cannot do it: the next one of the chain, else the end. why: for the log. */
void call_give_up(struct model_call *m, const char *why, const struct err *e);
void call_finish_answer(struct model_call *m, const struct model_answer *answer);
void call_finish_error(struct model_call *m, const struct err *e);
void call_free(struct model_call *m);

/* model_request.c: in m->a. */
int call_request(struct model_call *m, struct err *e) MUST_USE; /* fills m->q and m->info */
/* The server found the request too long: whether the step may be tried once more with half of the conversation. */
bool call_narrow(struct model_call *m);

/* media.c: whether files that the request needs are read first; then the call goes on by itself. */
bool call_media_waits(struct model_call *m);

/* model_money.c */
/* Reserves what the call may cost at most; where the money is nearly gone, it asks for a shorter answer. */
int call_reserve(struct model_call *m, struct err *e) MUST_USE;
/* What the attempt has cost so far, by estimate: 0 until its server began to answer. */
int64_t call_estimate(const struct model_call *m);
/* Of an attempt that a crash ended: its request is the one that is made now. */
int64_t call_estimate_begun(const struct model_call *m, size_t output_bytes);
/* Of an answer; *estimated: of it, because the server counted nothing. */
int64_t call_cost(const struct model_call *m, const struct model_answer *answer, int64_t *estimated);

/* model_log.c */
void call_event_begin(const struct model_call *m, struct json *j, struct buf *b, size_t max);
void call_delta(void *arg, enum delta_type type, struct str text); /* a delta_fn; arg: the call */
void call_log_partial(struct model_call *m);
/* model is the one that failed; next: another one goes on. Logged after r->failures counts it. */
void call_log_retry(struct model_call *m, struct str model, const char *why, int64_t after_ms, struct str next,
	const struct err *e);
void call_log_context(struct model_call *m, const struct transcript_view *view);
/* The cost of lost attempts, once. */
void call_write_lost(struct model_call *m, struct json *j);
void call_write_done(struct model_call *m, const struct model_answer *answer, struct buf *b);

/* model_offline.c */
void call_ask_offline(struct model_call *m);

#endif
