/* SPDX-License-Identifier: MIT
 * One turn as its events tell it: the running text, the effects, and the object that --json prints. Pure: no I/O and
 * no clock. Feeding the same event twice changes nothing, so a client may read on after a broken link. */
#ifndef CLI_FOLD_H
#define CLI_FOLD_H

#include "api/api.h"

#define FOLD_ID_MAX 64

struct fold_effect {
	char id[FOLD_ID_MAX];
	char tool[64];
	char summary[200]; /* of the arguments, one line, not yet cleaned for a terminal */
	char status[16]; /* empty while it runs; then done, not_done or unknown */
	bool is_error; /* done, and it says that it failed */
	int64_t ms;
};

/* An approval that nobody has resolved yet. */
struct fold_approval {
	char id[FOLD_ID_MAX];
	char tool[64];
	char summary[512];
	bool may_always; /* a rule covers calls like it */
};

struct fold_usage {
	int64_t input, output, cached, reasoning;
};

struct fold {
	char session[32], turn[32]; /* empty until known */
	char model[128];
	int64_t last_seq;
	int64_t step, attempt;
	struct buf text; /* of the current step, from text_offset on */
	int64_t text_offset; /* stream offset of text.p[0]; more than 0 when the start was missed */
	bool text_done; /* model.done closed this step: a delta that comes later is old */
	struct fold_effect *effects;
	size_t effects_n, effects_cap;
	struct fold_approval *approvals;
	size_t approvals_n, approvals_cap;
	struct fold_usage usage;
	int64_t cost_microusd, steps, duration_ms;
	bool is_finished;
	enum turn_status status;
	struct buf answer; /* final text */
	struct buf json_output; /* the final answer as JSON, where a schema asked for it */
	struct buf files, left_out; /* JSON lists of turn.files; empty: none */
	struct buf error_code, error_msg; /* empty: none */
};

enum fold_news {
	FOLD_OLD, /* known already, or of another turn: nothing changed */
	FOLD_NEW, /* something other than text */
	FOLD_TEXT, /* text grew, or was replaced: the first `kept` bytes are as before */
};

void fold_init(struct fold *f);
void fold_fini(struct fold *f);
/* Takes one event envelope. *kept: see FOLD_TEXT. */
enum fold_news fold_event(struct fold *f, const struct node *envelope, size_t *kept);
/* The effect with this id; NULL when its intent was not seen. */
struct fold_effect *fold_effect(struct fold *f, struct str id);
/* The turn did not end but the command does: what --json and the exit status say. e may be NULL. */
void fold_stop(struct fold *f, enum turn_status status, const struct err *e);
int fold_exit(const struct fold *f);
/* The object of `run --json`. */
void fold_json(const struct fold *f, struct json *j);
/* The one argument that tells a person most: command, path, pattern, ... Appends raw text to b. */
void call_summary(struct buf *b, const struct node *args);

#endif
