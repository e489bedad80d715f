/* SPDX-License-Identifier: MIT
 * A model call, for the files that are one: model.c (its life and its attempts), model_request.c (what is sent),
 * model_money.c (what it may cost), model_log.c (what is told of it) and model_offline.c (the model without a server). */
#ifndef AGENT_MODEL_CALL_H
#define AGENT_MODEL_CALL_H

#include "agent/internal.h"

#define PARTIAL_MS 250

struct model_call {
	struct run *r;
	struct arena *a; /* of this attempt */
	int64_t step, attempt;
	struct model_info info;
	struct buf body;
	struct fetch *fetch;
	struct parser *parser;
	struct timer *timer; /* retry, offline delay, or waiting for the broker */
	enum { WAITS_NOT, WAITS_TO_SEND, WAITS_TO_REPEAT } waits; /* for the broker */
	struct timer *partial_timer;
	int status;
	struct buf headers, error_body;
	int64_t shown[2]; /* bytes of text and of reasoning shown so far */
	struct buf partial; /* text shown and not logged yet */
	int64_t partial_at; /* its offset */
	int64_t reserved_microusd;
	int64_t day_left; /* micro-dollars that the day still has */
	bool is_awaited; /* a commit or a query is under way: its callback frees a cancelled call */
	/* offline */
	const struct offline_step *steps;
	size_t steps_n, steps_at;
	struct part *parts;
	size_t parts_n;
	size_t room; /* of the newest text */
	size_t input_bytes, output_bytes;
};

/* model.c */
void call_begin(struct model_call *m); /* an attempt that the money suffices for, as far as the day is concerned */
void call_failed(struct model_call *m, const struct failure *f); /* the attempt: it may be made again */
void call_finish_answer(struct model_call *m, const struct model_answer *answer);
void call_finish_error(struct model_call *m, const struct err *e);
void call_free(struct model_call *m);

/* model_request.c: in m->a. */
int call_request(struct model_call *m, struct model_request *q, struct err *e) MUST_USE;

/* model_money.c */
void call_afford(struct model_call *m); /* asks what the day has left, where that matters, then begins */
int call_reserve(struct model_call *m, size_t input_bytes, int64_t *output_tokens, struct err *e) MUST_USE;
void call_limit(struct model_call *m, const struct err *e); /* ends the turn: a limit was reached */

/* model_log.c */
void call_event_begin(const struct model_call *m, struct json *j, struct buf *b, size_t max);
void call_delta(void *arg, enum delta_type type, struct str text); /* a delta_fn; arg: the call */
void call_log_partial(struct model_call *m);
void call_log_retry(struct model_call *m, int64_t after_ms, const struct err *e);
void call_write_done(struct model_call *m, const struct model_answer *answer, struct buf *b);

/* model_offline.c */
void call_ask_offline(struct model_call *m, const struct model_request *q);

#endif
