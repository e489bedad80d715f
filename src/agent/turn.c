/* SPDX-License-Identifier: MIT
 * The turn machine: one table of edges {state, input, action, next}. Inputs are logged events and nothing else, so a
 * fold over the log gives the same state, events and effects as the live run. No I/O, no clock, only the turn's arena. */
#include "agent/turn.h"

#include "agent/guard.h"
#include "agent/output.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "provider/provider.h"

#include <stdio.h>

#define TOOL_NOTED_MAX  64 /* bytes of a name in turn.finished: a model may invent longer ones */
#define EFFECT_NOTE_MAX 512 /* one item, escaped */
#define WHY_MAX         (4 * KIB) /* what is wrong with a structured answer, for the model */
#define PARALLEL_MAX    32 /* calls side by side: a cell runs only so many commands at once */
#define POLL_MS         5000 /* a command that takes so long is no spinning */
#define OUTPUT_MAX      (EVENT_BODY_MAX / 8) /* of a structured answer: turn.finished has the text beside it */

struct turn {
	struct arena *a;
	struct arena *step_a; /* calls and text of the newest answer */
	struct arena *out_a; /* bodies of the step under way */
	const char *id;
	enum turn_state state;
	enum turn_status status;
	const struct node *options;
	int64_t started_ms, last_ms;
	int64_t asked_ms, waited_ms; /* when it began to wait for a person; how long it did before */
	int64_t step;
	struct str model; /* that answered last, or the turn's own */
	struct str schema; /* of the final answer; empty: none */
	struct str output; /* the final answer as JSON, checked */
	bool has_outbox; /* a call may have left something there */
	bool is_repaired; /* the model was told once what was wrong with its answer */
	struct expense spent;
	struct turn_call *calls;
	size_t calls_n;
	size_t at; /* calls before it are settled */
	struct guard guard;
	struct buf effects; /* JSON items of turn.finished.effects */
	struct str text; /* of the newest answer */
	struct str why_code, why_text; /* of a failure or stop */
	struct turn_out out; /* of the step under way; arrays grow in the arena and are used again */
	size_t events_cap, effects_cap;
};

/* What an input means to the machine; events that mean nothing to it are not given to turn_step. */
enum input {
	IN_STARTED, IN_RETRY, IN_ANSWER, IN_CALLS, IN_FAILED, IN_REQUESTED, IN_ALLOWED, IN_DENIED, IN_INTENT, IN_OUTCOME, IN_STOP,
	IN_FILES, INPUT_COUNT
};
static const char *const input_names[INPUT_COUNT] = { "started", "retry", "answer", "calls", "failed", "requested",
	"allowed", "denied", "intent", "outcome", "stop", "files" };

static const char *const state_names[TURN_STATE_COUNT] = { "new", "model", "admit", "ask", "tools", "stop", "collect", "end" };

const char *
turn_state_name(enum turn_state s)
{
	return (unsigned)s < TURN_STATE_COUNT ? state_names[s] : "?";
}

struct turn *
turn_new(struct arena *a, const char *id)
{
	struct turn *t = arena_alloc(a, sizeof *t);

	t->a = a;
	t->id = arena_strdup(a, str_of(id));
	t->step_a = arena_new(TURN_ARENA_MAX);
	t->out_a = arena_new(TURN_ARENA_MAX);
	buf_init(&t->effects, EVENT_BODY_MAX / 4);
	return t;
}

void
turn_fini(struct turn *t)
{
	buf_fini(&t->effects);
	arena_free(t->step_a);
	arena_free(t->out_a);
}

/* ---- output ---- */

/* Room for one more item in an array of the arena. */
static void *
grow(struct turn *t, void *items, size_t n, size_t *cap, size_t size)
{
	void *p;

	if (n < *cap)
		return items;
	*cap = MAX(8, *cap * 2);
	p = arena_alloc(t->a, *cap * size);
	if (n > 0)
		memcpy(p, items, n * size);
	return p;
}

static void
ask_for(struct turn *t, enum turn_effect_type type, size_t index)
{
	struct turn_out *o = &t->out;

	o->effects = grow(t, o->effects, o->effects_n, &t->effects_cap, sizeof *o->effects);
	o->effects[o->effects_n++] = (struct turn_effect){ .type = type, .step = t->step, .index = index };
}

/* The text of b becomes the body of a new event, until the next step. */
static void
tell(struct turn *t, enum event_kind kind, struct buf *b)
{
	struct turn_out *o = &t->out;

	o->events = grow(t, o->events, o->events_n, &t->events_cap, sizeof *o->events);
	o->events[o->events_n++] = (struct turn_event){ .kind = kind, .body = arena_str(t->out_a, buf_str(b)) };
	buf_fini(b);
}

static void
tell_notice(struct turn *t, const char *level, const char *code, const char *text, bool to_model)
{
	struct buf b;
	struct json j;

	buf_init(&b, 8 * WHY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "level", level);
	json_kv_z(&j, "code", code);
	json_kv_z(&j, "text", text);
	json_kv_bool(&j, "to_model", to_model);
	json_obj_end(&j);
	tell(t, EVENT_NOTICE, &b);
}

static void
fail_with(struct turn *t, enum turn_status status, struct str code, struct str text)
{
	t->status = status;
	t->why_code = arena_str(t->a, code);
	t->why_text = arena_str(t->a, text);
}

/* How a call ended, for turn.finished: calls that ran side by side are listed in the order of the answer. */
static void
note_effect(struct turn_call *c, const char *status, int64_t ms)
{
	c->status = status;
	c->ms = ms;
}

static void
list_effects(struct turn *t)
{
	for (size_t i = 0; i < t->calls_n; i++) {
		struct turn_call *c = &t->calls[i];
		struct json j;

		if (c->status == NULL || t->effects.n + EFFECT_NOTE_MAX > t->effects.max)
			continue; /* the log has them all */
		if (t->effects.n > 0)
			buf_add_char(&t->effects, ',');
		json_init(&j, &t->effects);
		json_obj(&j);
		json_kv_str(&j, "tool", str_sub(c->tool, 0, utf8_cut(c->tool, TOOL_NOTED_MAX)));
		json_kv_z(&j, "status", c->status);
		json_kv_int(&j, "ms", c->ms);
		json_obj_end(&j);
		c->status = NULL; /* listed */
	}
}

static void
write_finished(struct turn *t, struct json *j)
{
	list_effects(t);
	json_obj(j);
	json_kv_z(j, "status", turn_status_name(t->status));
	json_kv_str(j, "text", t->text);
	if (t->output.n > 0)
		json_kv_raw(j, "output", t->output);
	json_kv_str(j, "model", t->model);
	json_key(j, "usage");
	json_obj(j);
	json_kv_int(j, "input_tokens", t->spent.usage.input_tokens);
	json_kv_int(j, "output_tokens", t->spent.usage.output_tokens);
	json_kv_int(j, "cached_tokens", t->spent.usage.cached_tokens);
	json_kv_int(j, "cache_write_tokens", t->spent.usage.cache_write_tokens);
	json_kv_int(j, "reasoning_tokens", t->spent.usage.reasoning_tokens);
	json_obj_end(j);
	json_kv_int(j, "cost_microusd", t->spent.microusd);
	if (t->spent.estimated > 0)
		json_kv_int(j, "estimated_microusd", t->spent.estimated);
	json_kv_int(j, "steps", t->step);
	json_key(j, "effects");
	json_arr(j);
	json_raw(j, buf_str(&t->effects));
	json_arr_end(j);
	json_kv_int(j, "duration_ms", MAX(t->last_ms - t->started_ms, 0));
	if (t->status != TURN_ANSWERED) {
		json_key(j, "error");
		json_obj(j);
		json_kv_str(j, "code", t->why_code);
		json_kv_str(j, "message", t->why_text);
		json_obj_end(j);
	}
	json_obj_end(j);
}

static enum turn_state
end(struct turn *t)
{
	struct buf b;
	struct json j;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	write_finished(t, &j);
	tell(t, EVENT_TURN_FINISHED, &b);
	ask_for(t, DO_END, 0);
	return TURN_END;
}

/* How it ends is decided; what it left for the user is kept first. */
static enum turn_state
finish(struct turn *t)
{
	if (!t->has_outbox)
		return end(t);
	ask_for(t, DO_COLLECT, 0);
	return TURN_COLLECT;
}

/* ---- the model ---- */

static int64_t
limit(const struct turn *t, const char *key)
{
	return node_int(node_get(t->options, "limits"), key, INT64_MAX);
}

static enum turn_state
limit_reached(struct turn *t, const char *key, int64_t value)
{
	const char *text = arena_printf(t->a,
		"limits.%s of %lld was reached (raise it in the configuration, or continue with a new message)", key,
		(long long)value);

	fail_with(t, TURN_LIMIT, STR("limit"), str_of(text));
	return finish(t);
}

/* The next model call, unless a limit forbids it. Money is reserved by the driver, which knows the size of the call. */
static enum turn_state
call_model(struct turn *t)
{
	struct buf b;
	struct json j;
	int64_t tokens = t->spent.usage.input_tokens + t->spent.usage.output_tokens;

	if (t->step >= limit(t, "turn_steps"))
		return limit_reached(t, "turn_steps", limit(t, "turn_steps"));
	if (tokens >= limit(t, "turn_tokens"))
		return limit_reached(t, "turn_tokens", limit(t, "turn_tokens"));
	t->step++;
	buf_init(&b, 4 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_int(&j, "step", t->step);
	json_kv_int(&j, "attempt", 1);
	json_kv_str(&j, "model", t->model);
	json_obj_end(&j);
	tell(t, EVENT_MODEL_STARTED, &b);
	ask_for(t, DO_MODEL, 0);
	return TURN_MODEL;
}

static void
add_cost(struct turn *t, const struct node *body)
{
	t->spent.microusd += node_int(body, "cost_microusd", 0);
	t->spent.estimated += node_int(body, "estimated_microusd", 0);
}

static void
add_usage(struct turn *t, const struct node *body)
{
	const struct node *u = node_get(body, "usage");
	struct str model = node_str(body, "model", t->model);

	if (!str_eq(model, t->model))
		t->model = arena_str(t->a, model);
	t->spent.usage.input_tokens += node_int(u, "input_tokens", 0);
	t->spent.usage.output_tokens += node_int(u, "output_tokens", 0);
	t->spent.usage.cached_tokens += node_int(u, "cached_tokens", 0);
	t->spent.usage.cache_write_tokens += node_int(u, "cache_write_tokens", 0);
	t->spent.usage.reasoning_tokens += node_int(u, "reasoning_tokens", 0);
	add_cost(t, body);
}

/* Text of the answer: its text blocks, one behind the other. */
static struct str
answer_text(struct turn *t, const struct node *blocks)
{
	struct buf b;
	struct str text;

	buf_init(&b, MODEL_TEXT_MAX);
	for (size_t i = 0; i < node_len(blocks); i++)
		if (str_is(node_str(node_at(blocks, i), "type", STR("")), "text"))
			buf_add_str(&b, node_str(node_at(blocks, i), "text", STR("")));
	text = arena_str(t->step_a, buf_str(&b));
	buf_fini(&b);
	return text;
}

/* Of the answer before, nothing is needed any more: a long turn takes no more memory than a short one. */
static void
take_answer(struct turn *t, const struct turn_input *in)
{
	list_effects(t);
	t->calls = NULL;
	t->calls_n = t->at = 0;
	arena_reset(t->step_a);
	add_usage(t, in->body);
	t->text = answer_text(t, node_get(in->body, "blocks"));
}

/* A node as JSON text that lives as long as the turn. */
static struct str
text_of(struct turn *t, const struct node *n)
{
	struct buf b;
	struct json j;
	struct str text;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	json_node(&j, n);
	text = arena_str(t->a, buf_str(&b));
	buf_fini(&b);
	return text;
}

static enum turn_state
act_begin(struct turn *t, const struct turn_input *in)
{
	const struct node *schema;

	t->options = node_copy(t->a, in->body);
	t->model = node_str(t->options, "model", STR(""));
	schema = node_get(t->options, "schema");
	if (node_is(schema, NODE_MAP))
		t->schema = text_of(t, schema);
	t->started_ms = in->time_ms;
	return call_model(t);
}

/* The answer must be JSON that matches the schema of the turn. The model gets one chance to repair it. */
static enum turn_state
check_output(struct turn *t)
{
	const struct node *value;
	struct buf why;
	const char *reasons;

	buf_init(&why, 64 * KIB);
	if (output_read(t->step_a, node_get(t->options, "schema"), t->text, &value, &why) == 0) {
		buf_fini(&why);
		t->output = text_of(t, value);
		if (t->output.n > OUTPUT_MAX) {
			t->output = STR("");
			fail_with(t, TURN_FAILED, STR("output"), STR("the answer is larger than a structured answer may be"));
		}
		return finish(t);
	}
	reasons = arena_printf(t->out_a, "%.*s", (int)utf8_cut(buf_str(&why), WHY_MAX), buf_z(&why));
	buf_fini(&why);
	if (t->is_repaired) {
		fail_with(t, TURN_FAILED, STR("output"),
			str_of(arena_printf(t->a, "the answer does not match the schema: %s", reasons)));
		return finish(t);
	}
	t->is_repaired = true;
	tell_notice(t, "warn", "output_invalid",
		arena_printf(t->out_a,
			"Your answer does not match the JSON Schema:\n%s\nAnswer again with the corrected JSON value and nothing else.",
			reasons),
		true);
	return call_model(t);
}

static enum turn_state
act_answer(struct turn *t, const struct turn_input *in)
{
	struct str stop = node_str(in->body, "stop", STR("end"));

	take_answer(t, in);
	t->status = TURN_ANSWERED;
	if (str_is(stop, "refused"))
		fail_with(t, TURN_FAILED, STR("refused"), STR("the model refused to answer"));
	else if (str_is(stop, "length"))
		tell_notice(t, "warn", "answer_cut", "the answer was cut at the model's largest output size", false);
	else if (t->text.n == 0)
		fail_with(t, TURN_FAILED, STR("provider"), STR("the model gave an empty answer (try again, or another model)"));
	if (t->schema.n > 0 && t->status == TURN_ANSWERED)
		return check_output(t);
	return finish(t);
}

static enum turn_state
act_calls(struct turn *t, const struct turn_input *in)
{
	const struct node *blocks = node_get(in->body, "blocks");
	size_t n = node_len(blocks);

	take_answer(t, in);
	t->calls = arena_alloc(t->step_a, n * sizeof *t->calls);
	for (size_t i = 0; i < n; i++) {
		const struct node *block = node_at(blocks, i);
		struct turn_call *c = &t->calls[t->calls_n];

		if (!str_is(node_str(block, "type", STR("")), "call"))
			continue;
		c->call_id = arena_str(t->step_a, node_str(block, "call_id", STR("")));
		c->tool = arena_str(t->step_a, node_str(block, "tool", STR("")));
		c->args = arena_str(t->step_a, node_str(block, "args", STR("{}")));
		snprintf(c->effect, sizeof c->effect, "%s.%lld.%zu", t->id, (long long)t->step, t->calls_n);
		ask_for(t, DO_ADMIT, t->calls_n++);
	}
	return TURN_ADMIT;
}

/* The call goes on; what is gone is gone. */
static enum turn_state
act_retry(struct turn *t, const struct turn_input *in)
{
	add_cost(t, in->body);
	return TURN_MODEL;
}

static enum turn_state
act_failed(struct turn *t, const struct turn_input *in)
{
	const struct node *err = node_get(in->body, "error");

	add_usage(t, in->body);
	fail_with(t, TURN_FAILED, node_str(err, "code", STR("failed")), node_str(err, "message", STR("the model call failed")));
	return finish(t);
}

/* ---- calls ---- */

static void
write_approval(struct turn *t, size_t i, struct json *j)
{
	struct turn_call *c = &t->calls[i];

	json_obj(j);
	json_kv_z(j, "id", c->effect);
	json_kv_int(j, "index", (int64_t)i);
	json_kv_str(j, "call", c->call_id);
	json_kv_str(j, "tool", c->tool);
	json_kv_node(j, "args", c->checked);
	json_kv_str(j, "summary", c->summary);
	json_kv_str(j, "always", c->always);
	json_kv_str(j, "hash", c->hash);
	json_kv_int(j, "expires_at_ms", t->last_ms + APPROVAL_EXPIRES_MS);
	json_obj_end(j);
}

/* One side effect alone, or the read-only calls that start here, as many as may run side by side. */
static enum turn_state
start_group(struct turn *t)
{
	size_t i = t->at, end = MIN(t->calls_n, t->at + PARALLEL_MAX);
	bool is_parallel = t->calls[i].is_parallel;

	do {
		t->calls[i].state = CALL_PREPARES;
		ask_for(t, DO_PREPARE, i);
		i++;
	} while (is_parallel && i < end && t->calls[i].is_parallel && t->calls[i].state == CALL_ALLOWED);
	return TURN_TOOLS;
}

/* The first call that is not settled decides what comes next; when all are, the model is called again. */
static enum turn_state
advance(struct turn *t)
{
	struct buf b;
	struct json j;

	while (t->at < t->calls_n &&
		(t->calls[t->at].state == CALL_REFUSED || t->calls[t->at].state == CALL_DONE))
		t->at++;
	if (t->at == t->calls_n)
		return call_model(t);
	switch (t->calls[t->at].state) {
	case CALL_ASKS:
		buf_init(&b, EVENT_BODY_MAX);
		json_init(&j, &b);
		write_approval(t, t->at, &j);
		tell(t, EVENT_APPROVAL_REQUESTED, &b);
		ask_for(t, DO_ASK, t->at);
		t->asked_ms = t->last_ms;
		return TURN_ASK;
	case CALL_ALLOWED:
		return start_group(t);
	default: /* others of its group are under way */
		return TURN_TOOLS;
	}
}

static struct turn_call *
call_of(struct turn *t, const struct turn_input *in)
{
	int64_t i = node_int(in->body, "index", -1);

	return i >= 0 && (size_t)i < t->calls_n ? &t->calls[i] : NULL;
}

/* What makes two results of a call the same: all of it, but for the line that says how a command ended, because that has
 * its time. How it ended is in the facts. A command that takes long waits for something, and may do so again. */
static uint64_t
result_hash(const struct node *body, struct str text)
{
	const struct node *facts = node_get(body, "facts");
	uint64_t sig = 0;
	struct str line;

	if (node_get(facts, "signal") == NULL || node_int(facts, "ms", 0) >= POLL_MS)
		return hash64(text);
	while (text.n > 0) {
		(void)str_next(&text, '\n', &line);
		if (!str_starts(line, "[exit ") && !str_starts(line, "[killed by signal "))
			sig = sig * 31 + hash64(line);
	}
	return (sig * 31 + (uint64_t)node_int(facts, "exit", -1)) * 31 + (uint64_t)node_int(facts, "signal", 0);
}

/* Feeds the loop guard; true when the turn must stop. */
static bool
guard_stops(struct turn *t, const struct turn_call *c, uint64_t result)
{
	uint64_t sig = hash64(c->tool) * 31 + hash64(c->args);

	switch (guard_add(&t->guard, sig * 31 + result)) {
	case GUARD_WARN:
		tell_notice(t, "warn", "loop_guard",
			arena_printf(t->out_a, "You are repeating yourself: %s. Do something else, or answer with what you have.",
				t->guard.what),
			true);
		return false;
	case GUARD_STOP:
		fail_with(t, TURN_LIMIT, STR("loop_guard"),
			str_of(arena_printf(t->a, "the model was stopped: it made %s", t->guard.what)));
		return true;
	default:
		return false;
	}
}

static enum turn_state
act_requested(struct turn *t, const struct turn_input *in)
{
	struct turn_call *c = call_of(t, in);
	struct str decision = node_str(in->body, "decision", STR(""));
	bool is_last = true;

	c->is_parallel = node_bool(in->body, "parallel", false);
	c->checked = node_copy(t->step_a, node_get(in->body, "args"));
	c->hash = arena_str(t->step_a, node_str(in->body, "hash", STR("")));
	c->always = arena_str(t->step_a, node_str(in->body, "always", STR("")));
	c->summary = arena_str(t->step_a, node_str(in->body, "summary", STR("")));
	c->state = str_is(decision, "allow") ? CALL_ALLOWED : str_is(decision, "ask") ? CALL_ASKS : CALL_REFUSED;
	if (c->state == CALL_REFUSED) {
		note_effect(c, str_is(decision, "deny") ? "denied" : "invalid", 0);
		if (guard_stops(t, c, hash64(node_str(in->body, "reason", STR("")))))
			return finish(t);
	}
	for (size_t i = 0; i < t->calls_n; i++)
		is_last = is_last && t->calls[i].state != CALL_NEW;
	return is_last ? advance(t) : TURN_ADMIT;
}

static enum turn_state
act_allowed(struct turn *t, const struct turn_input *in)
{
	call_of(t, in)->state = CALL_ALLOWED;
	t->waited_ms += MAX(in->time_ms - t->asked_ms, 0);
	return advance(t);
}

static enum turn_state
act_denied(struct turn *t, const struct turn_input *in)
{
	struct turn_call *c = call_of(t, in);
	bool is_expired = in->kind == EVENT_APPROVAL_EXPIRED;

	c->state = CALL_REFUSED;
	note_effect(c, "denied", 0);
	fail_with(t, TURN_DENIED, STR("denied"),
		str_of(arena_printf(t->a, "%.*s: %s", STR_FMT(c->tool),
			is_expired ? "the approval expired" : "denied by the user")));
	return finish(t);
}

static enum turn_state
act_intent(struct turn *t, const struct turn_input *in)
{
	struct turn_call *c = call_of(t, in);

	c->probe = node_get(in->body, "probe") != NULL ? node_copy(t->step_a, node_get(in->body, "probe")) : NULL;
	c->state = CALL_RUNS;
	ask_for(t, DO_RUN, (size_t)(c - t->calls));
	return TURN_TOOLS;
}

/* Whether a file tool was asked to put something there, by whatever path. */
static bool
writes_outbox(const struct turn_call *c)
{
	return !c->is_parallel && (str_find(node_str(c->checked, "path", STR("")), STR("outbox")) >= 0 ||
		str_find(node_str(c->checked, "to", STR("")), STR("outbox")) >= 0);
}

static void
settle(struct turn *t, const struct turn_input *in)
{
	struct turn_call *c = call_of(t, in);
	struct str state = node_str(in->body, "state", STR("done"));

	t->has_outbox = t->has_outbox || node_bool(node_get(in->body, "facts"), "outbox", false) || writes_outbox(c);
	c->state = CALL_DONE;
	note_effect(c,
		str_is(state, "done") ? (node_bool(in->body, "is_error", false) ? "error" : "done") :
		str_is(state, "unknown") ? "unknown" : "not_done",
		node_int(in->body, "ms", 0));
}

static bool
is_under_way(const struct turn *t, enum call_state least)
{
	for (size_t i = 0; i < t->calls_n; i++)
		if (t->calls[i].state >= least && t->calls[i].state < CALL_DONE)
			return true;
	return false;
}

static enum turn_state
act_outcome(struct turn *t, const struct turn_input *in)
{
	settle(t, in);
	if (guard_stops(t, call_of(t, in), result_hash(in->body, node_str(in->body, "text", STR(""))))) {
		if (!is_under_way(t, CALL_RUNS))
			return finish(t);
		ask_for(t, DO_CANCEL, 0);
		return TURN_STOP;
	}
	return is_under_way(t, CALL_PREPARES) ? TURN_TOOLS : advance(t);
}

static enum turn_state
act_stop(struct turn *t, const struct turn_input *in)
{
	struct str why = node_str(in->body, "why", STR("cancelled"));

	add_cost(t, in->body);
	fail_with(t, str_is(why, "limit") ? TURN_LIMIT : str_is(why, "failed") ? TURN_FAILED : TURN_CANCELLED,
		node_str(in->body, "code", why), node_str(in->body, "message", STR("cancelled")));
	ask_for(t, DO_CANCEL, 0);
	return is_under_way(t, CALL_RUNS) ? TURN_STOP : finish(t);
}

static enum turn_state
act_stopped(struct turn *t, const struct turn_input *in)
{
	settle(t, in);
	return is_under_way(t, CALL_RUNS) ? TURN_STOP : finish(t);
}

static enum turn_state
act_files(struct turn *t, const struct turn_input *in)
{
	return end(t);
}

/* A second wish to stop changes nothing. */
static enum turn_state
act_ignore(struct turn *t, const struct turn_input *in)
{
	return t->state;
}

/* ---- the table ---- */

static const struct edge {
	enum turn_state state;
	enum input input;
	enum turn_state (*action)(struct turn *, const struct turn_input *); /* gives the next state */
} edges[] = {
	{ TURN_NEW, IN_STARTED, act_begin }, /* -> model, end; where it says end here and below: collect, when the outbox may hold something */
	{ TURN_MODEL, IN_RETRY, act_retry }, /* -> model */
	{ TURN_MODEL, IN_ANSWER, act_answer }, /* -> end, model (a structured answer to be repaired) */
	{ TURN_MODEL, IN_CALLS, act_calls }, /* -> admit */
	{ TURN_MODEL, IN_FAILED, act_failed }, /* -> end */
	{ TURN_MODEL, IN_STOP, act_stop }, /* -> end */
	{ TURN_ADMIT, IN_REQUESTED, act_requested }, /* -> admit, ask, tools, model, end */
	{ TURN_ADMIT, IN_STOP, act_stop }, /* -> end */
	{ TURN_ASK, IN_ALLOWED, act_allowed }, /* -> tools */
	{ TURN_ASK, IN_DENIED, act_denied }, /* -> end */
	{ TURN_ASK, IN_STOP, act_stop }, /* -> end */
	{ TURN_TOOLS, IN_INTENT, act_intent }, /* -> tools */
	{ TURN_TOOLS, IN_OUTCOME, act_outcome }, /* -> tools, ask, model, stop, end */
	{ TURN_TOOLS, IN_STOP, act_stop }, /* -> stop, end */
	{ TURN_STOP, IN_OUTCOME, act_stopped }, /* -> stop, end */
	{ TURN_STOP, IN_STOP, act_ignore },
	{ TURN_COLLECT, IN_FILES, act_files }, /* -> end */
};

/* The meaning of a logged event, or -1 with *needs_call set for those that name a call. */
static int
classify(const struct turn_input *in, bool *needs_call)
{
	*needs_call = false;
	switch (in->kind) {
	case EVENT_TURN_STARTED:
		return IN_STARTED;
	case EVENT_MODEL_RETRY:
		return IN_RETRY;
	case EVENT_MODEL_DONE:
		if (node_get(in->body, "error") != NULL)
			return IN_FAILED;
		for (size_t i = 0; i < node_len(node_get(in->body, "blocks")); i++)
			if (str_is(node_str(node_at(node_get(in->body, "blocks"), i), "type", STR("")), "call"))
				return IN_CALLS;
		return IN_ANSWER;
	case EVENT_TURN_STOPPING:
		return IN_STOP;
	case EVENT_TURN_FILES:
		return IN_FILES;
	default:
		break;
	}
	*needs_call = true;
	switch (in->kind) {
	case EVENT_TOOL_REQUESTED:
		return IN_REQUESTED;
	case EVENT_APPROVAL_RESOLVED:
		return str_is(node_str(in->body, "decision", STR("")), "deny") ? IN_DENIED : IN_ALLOWED;
	case EVENT_APPROVAL_EXPIRED:
		return IN_DENIED;
	case EVENT_EFFECT_INTENT:
		return IN_INTENT;
	case EVENT_EFFECT_OUTCOME:
		return IN_OUTCOME;
	default:
		return -1;
	}
}

int
turn_step(struct turn *t, const struct turn_input *in, struct turn_out *out, struct err *e)
{
	bool needs_call;
	int input = classify(in, &needs_call);

	t->out.events_n = t->out.effects_n = 0;
	arena_reset(t->out_a);
	*out = t->out;
	if (input < 0 || (needs_call && call_of(t, in) == NULL) ||
		((input == IN_ALLOWED || input == IN_DENIED) && call_of(t, in) != turn_asks(t)))
		return err_set(e, ERR_CORRUPT, ERR_TO_LOG, "turn %s: %s is not an input of this turn", t->id,
			event_kind_name(in->kind));
	for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
		if (edges[i].state != t->state || edges[i].input != (enum input)input)
			continue;
		t->last_ms = in->time_ms;
		t->state = edges[i].action(t, in);
		*out = t->out;
		return 0;
	}
	return err_set(e, ERR_CORRUPT, ERR_TO_LOG, "turn %s: no edge for %s in state %s", t->id,
		input_names[input], turn_state_name(t->state));
}

/* ---- readers ---- */

enum turn_state
turn_state(const struct turn *t)
{
	return t->state;
}

int64_t
turn_step_no(const struct turn *t)
{
	return t->step;
}

size_t
turn_calls(const struct turn *t)
{
	return t->calls_n;
}

const struct turn_call *
turn_asks(const struct turn *t)
{
	return t->state == TURN_ASK ? &t->calls[t->at] : NULL;
}

int64_t
turn_asked_ms(const struct turn *t)
{
	return t->asked_ms;
}

const struct turn_call *
turn_call(const struct turn *t, size_t i)
{
	return i < t->calls_n ? &t->calls[i] : NULL;
}

const struct node *
turn_options(const struct turn *t)
{
	return t->options;
}

int64_t
turn_work_began_ms(const struct turn *t)
{
	return t->started_ms + t->waited_ms;
}

const struct expense *
turn_spent(const struct turn *t)
{
	return &t->spent;
}

struct str
turn_schema(const struct turn *t)
{
	return t->schema;
}

enum turn_status
turn_status(const struct turn *t)
{
	return t->state == TURN_ASK ? TURN_WAITING : t->status;
}
