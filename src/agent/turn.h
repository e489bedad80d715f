/* SPDX-License-Identifier: MIT
 * The turn machine: a pure function from the inputs that the log holds to further events and to effects. It does no
 * I/O, reads no clock and allocates only from the turn's arena. Recovery and replay feed it the same logged inputs, so
 * it always comes to the same state; the effects that it asked for and that have no logged completion are what is left
 * to do. */
#ifndef AGENT_TURN_H
#define AGENT_TURN_H

#include "api/api.h"
#include "provider/provider.h"
#include "session/log.h"

#define APPROVAL_EXPIRES_MS (24 * 3600 * 1000LL)

enum turn_state {
	TURN_NEW, /* waits for turn.started */
	TURN_MODEL, /* a model call is under way */
	TURN_ADMIT, /* the driver checks the calls of the answer */
	TURN_ASK, /* an approval is pending */
	TURN_TOOLS, /* effects are being prepared or run */
	TURN_STOP, /* stopping: waits for the outcomes of what runs */
	TURN_COLLECT, /* it ends when its outbox was looked at */
	TURN_END,
	TURN_STATE_COUNT
};
const char *turn_state_name(enum turn_state s);

/* One logged event, as the driver made it or as the log has it. */
struct turn_input {
	enum event_kind kind;
	const struct node *body;
	int64_t time_ms;
};

enum turn_effect_type {
	DO_MODEL, /* call the model: step, attempt; completes with model.done */
	DO_ADMIT, /* check call `index`; completes with tool.requested */
	DO_ASK, /* nothing to do but to show it; completes with approval.resolved or approval.expired */
	DO_PREPARE, /* make the intent of call `index`; completes with effect.intent */
	DO_RUN, /* run effect of call `index`; completes with effect.outcome */
	DO_CANCEL, /* stop whatever is under way; each DO_RUN still completes */
	DO_COLLECT, /* keep what is in the outbox; completes with turn.files */
	DO_END, /* the turn is over */
};
struct turn_effect {
	enum turn_effect_type type;
	int64_t step;
	size_t index; /* of the call in the answer's calls */
};
struct turn_event {
	enum event_kind kind;
	struct str body; /* JSON object */
};
struct turn_out {
	struct turn_event *events; /* to be logged, in order, behind the input */
	size_t events_n;
	struct turn_effect *effects; /* to be started when all of that is durable */
	size_t effects_n;
};

/* A call of the answer that is being worked on. Strings live in the turn's arena. */
enum call_state {
	CALL_NEW, CALL_REFUSED, CALL_ASKS, CALL_ALLOWED, CALL_PREPARES, CALL_RUNS, CALL_DONE
};
struct turn_call {
	enum call_state state;
	bool is_parallel; /* read-only: may run beside its neighbours of the same kind */
	struct str call_id, tool, args; /* args: as the model wrote them */
	const struct node *checked; /* arguments from tool.requested: checked, defaults filled in */
	const struct node *probe; /* from effect.intent */
	struct str hash, summary, always; /* of the approval, when it asks; always: the rule of allow_always */
	char effect[64]; /* TURN.STEP.INDEX: the same after every replay */
	const char *status; /* how it ended; NULL: not yet */
	int64_t ms;
};

/* What was spent. */
struct expense {
	int64_t microusd, estimated; /* the second: of the first, for streams that ended before their count came */
	struct model_usage usage; /* as far as it was counted */
};

struct turn;

/* id is the turn's; lives in a until it is dropped. */
struct turn *turn_new(struct arena *a, const char *id);
void turn_fini(struct turn *t); /* before its arena is dropped */
/* Advances by one input; out is valid until the next step. An input that the state has no edge for is ERR_CORRUPT: the log and
 * the machine disagree, and the turn must be failed, never patched. */
int turn_step(struct turn *t, const struct turn_input *in, struct turn_out *out, struct err *e) MUST_USE;

enum turn_state turn_state(const struct turn *t);
int64_t turn_step_no(const struct turn *t); /* 1..: of the model call under way or last made */
size_t turn_calls(const struct turn *t);
const struct turn_call *turn_call(const struct turn *t, size_t i); /* until the next model.done */
/* The call whose approval is pending; NULL: not in TURN_ASK. */
const struct turn_call *turn_asks(const struct turn *t);
int64_t turn_asked_ms(const struct turn *t); /* since when */
/* What turn.started said. */
const struct node *turn_options(const struct turn *t);
/* Wall time of turn.started, moved on by the time that it waited for a person: what limits.turn_ms counts from. */
int64_t turn_work_began_ms(const struct turn *t);
const struct expense *turn_spent(const struct turn *t);
/* JSON Schema that the final answer must match; empty: none. */
struct str turn_schema(const struct turn *t);
enum turn_status turn_status(const struct turn *t); /* valid in TURN_END; TURN_WAITING in TURN_ASK */

#endif
