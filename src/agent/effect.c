/* SPDX-License-Identifier: MIT
 * Effects of a turn: prepares a call (facts that a probe would need), runs it, recovers it after a crash by its class,
 * and turns its result into effect.outcome. Each effect ends in exactly one outcome: done, not done, or unknown. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>

#define PARTIAL_MS    250
#define PARTIAL_BYTES (4 * KIB)
#define SANDBOX_WAIT_MS 20000 /* for a shelld that is started again */

enum phase { PHASE_PREPARE, PHASE_RUN, PHASE_RECOVER };

struct effect_call {
	struct tool_call c; /* first: the tool sees this */
	struct run *r;
	size_t index;
	enum phase phase; /* RECOVER: it was sent, here or before a crash */
	int64_t started_ms; /* monotonic */
	bool is_waiting; /* for the sandbox: issued again when it is back */
	bool is_cancelled;
	bool is_sent; /* the sandbox has seen it, so it may have happened */
	bool is_held; /* it is over: its result waits until the broker has told what it refused, which comes on another link */
	struct tool_result held;
	size_t notes_known; /* of what was refused before it began */
	int64_t output_end; /* of what was shown or logged: a resumed command tells its output from the start */
	struct buf partial; /* output shown and not logged yet */
	int64_t partial_at;
	int partial_ch;
	struct timer *partial_timer;
	struct timer *wait_timer; /* for the sandbox */
};

static void issue(struct effect_call *x);

/* ---- events ---- */

static void
write_head(const struct effect_call *x, struct json *j)
{
	const struct turn_call *c = turn_call(x->r->t, x->index);

	json_obj(j);
	json_kv_z(j, "effect", c->effect);
	json_kv_int(j, "index", (int64_t)x->index);
	json_kv_str(j, "call", c->call_id);
	json_kv_str(j, "tool", c->tool);
}

static void
write_output(const struct effect_call *x, int ch, int64_t offset, struct str bytes, struct buf *b)
{
	struct json j;

	json_init(&j, b);
	write_head(x, &j);
	json_kv_int(&j, "ch", ch);
	json_kv_int(&j, "offset", offset);
	json_kv_int(&j, "bytes", (int64_t)bytes.n); /* text has fewer or more where it is not UTF-8 */
	json_kv_str(&j, "text", bytes);
	json_obj_end(&j);
}

static void
log_partial(struct effect_call *x)
{
	struct event_draft d = { .kind = EVENT_TOOL_PARTIAL, .turn = x->r->turn, .time_ms = clock_wall_ms() };
	struct buf b;

	if (x->partial.n == 0 || x->r->s == NULL)
		return;
	timer_stop(x->partial_timer);
	buf_init(&b, EVENT_BODY_MAX);
	write_output(x, x->partial_ch, x->partial_at, buf_str(&x->partial), &b);
	d.body = buf_str(&b);
	events_append(x->r->en->parts.events, x->r->s->id, &d, 1, NULL, NULL, NULL);
	buf_fini(&b);
	buf_reset(&x->partial);
}

static void
on_partial_timer(void *arg)
{
	log_partial(arg);
}

void
effect_replay_output(struct run *r, const struct node *body)
{
	int64_t index = node_int(body, "index", -1);
	size_t cap = r->output_ends_n;

	if (index < 0 || (size_t)index >= turn_calls(r->t))
		return;
	if ((size_t)index >= cap) {
		r->output_ends = vec_grow(r->output_ends, &cap, (size_t)index + 1, sizeof *r->output_ends);
		memset(r->output_ends + r->output_ends_n, 0, (cap - r->output_ends_n) * sizeof *r->output_ends);
		r->output_ends_n = cap;
	}
	r->output_ends[index] = node_int(body, "offset", 0) + node_int(body, "bytes", 0);
}

/* ---- life ---- */

static void
effect_free(struct effect_call *x)
{
	struct run *r = x->r;

	r->effects[x->index] = NULL;
	timer_close(x->partial_timer);
	timer_close(x->wait_timer);
	buf_fini(&x->partial);
	arena_free(x->c.a);
	free(x);
	run_unref(r);
}

static bool
has_commands(const struct effect_call *x)
{
	return x->r->s != NULL && (x->c.tool->effects & TOOL_EXECS) != 0;
}

/* Text, and what else the model must know by now: told once. */
static struct str
with_notes(struct buf *notes, struct str text, struct arena *a)
{
	char *p = arena_alloc(a, text.n + notes->n + 1);

	memcpy(p, text.p != NULL ? text.p : "", text.n);
	memcpy(p + text.n, notes->n > 0 ? notes->p : "", notes->n);
	text.n += notes->n;
	buf_reset(notes);
	return (struct str){ p, text.n };
}

/* Ends the effect with an outcome; the run goes on with its next input. */
static void
outcome(struct effect_call *x, enum effect_state state, bool is_error, struct str text, struct str facts)
{
	struct run *r = run_ref(x->r);
	bool is_command = has_commands(x);
	struct json j;
	struct buf b;

	if (is_command) {
		facts = egress_facts(r->s, is_error && r->s->egress_notes.n > x->notes_known, facts, x->c.a);
		text = with_notes(&r->s->egress_notes, text, x->c.a);
	}
	text = with_notes(&r->inbox_notes, text, x->c.a);
	r->has_inbox = r->has_inbox || state == EFFECT_DONE; /* also one that was recovered */
	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	write_head(x, &j);
	json_kv_z(&j, "state", effect_state_name(state));
	json_kv_bool(&j, "is_error", is_error);
	json_kv_str(&j, "text", text);
	if (facts.n > 0)
		json_kv_raw(&j, "facts", facts);
	json_kv_int(&j, "ms", clock_mono_ms() - x->started_ms);
	if (is_command && r->s->egress_unlogged > 0) {
		json_kv_int(&j, "egress_bytes", r->s->egress_unlogged);
		r->s->egress_unlogged = 0;
	}
	json_obj_end(&j);
	effect_free(x);
	run_input(r, EVENT_EFFECT_OUTCOME, buf_str(&b));
	buf_fini(&b);
	run_unref(r);
}

static void
outcome_error(struct effect_call *x, const struct err *e)
{
	outcome(x, EFFECT_NOT_DONE, true, str_of(e->msg), STR(""));
}

static void
outcome_unknown(struct effect_call *x)
{
	outcome(x, EFFECT_UNKNOWN, true,
		STR("It is unknown whether this call took effect: the system was interrupted while it ran. It was not run "
		    "again. Check the state of things before you decide what to do."),
		STR(""));
}

/* Nothing came back in time. What had been started may have happened; what had not, has not. */
static void
on_wait_timer(void *arg)
{
	struct effect_call *x = arg;
	const struct sandbox_facts *f = sandbox_facts(x->r->en->parts.sandbox);
	struct err e;

	if (x->phase == PHASE_RECOVER && x->c.tool->recovery != EFFECT_PURE) {
		outcome_unknown(x);
		return;
	}
	err_set(&e, ERR_GONE, ERR_TO_MODEL, "there is no cell to run this in: %s",
		f->reason[0] != '\0' ? f->reason : "shelld is not running (see `ithaca doctor`)");
	outcome_error(x, &e);
}

static void
wait_for_sandbox(struct effect_call *x)
{
	if (x->r->s == NULL) {
		effect_free(x);
		return;
	}
	x->is_waiting = true;
	if (x->phase == PHASE_RUN && x->is_sent)
		x->phase = PHASE_RECOVER;
	if (x->wait_timer == NULL)
		x->wait_timer = timer_start(x->r->en->parts.loop, SANDBOX_WAIT_MS, on_wait_timer, x);
}

/* ---- what the tool says ---- */

static void
on_prepared(void *arg, struct str probe, const struct err *e)
{
	struct effect_call *x = arg;
	struct run *r = run_ref(x->r);
	struct buf b;

	if (x->is_cancelled) {
		effect_free(x);
	} else if (e != NULL && e->code == ERR_GONE) {
		wait_for_sandbox(x);
	} else if (e != NULL) {
		outcome_error(x, e);
	} else {
		buf_init(&b, EVENT_BODY_MAX);
		intent_body(r, x->index, probe, &b);
		effect_free(x);
		run_input(r, EVENT_EFFECT_INTENT, buf_str(&b));
		buf_fini(&b);
	}
	run_unref(r);
}

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct effect_call *x = arg;
	struct buf b;

	if (x->r->s == NULL || offset + (int64_t)bytes.n <= x->output_end)
		return;
	if (offset < x->output_end) {
		bytes = str_sub(bytes, (size_t)(x->output_end - offset), bytes.n);
		offset = x->output_end;
	}
	x->output_end = offset + (int64_t)bytes.n;
	buf_init(&b, EVENT_BODY_MAX);
	write_output(x, ch, offset, bytes, &b);
	events_live(x->r->en->parts.events, x->r->s->id, EVENT_TOOL_PROGRESS, x->r->turn, buf_str(&b));
	buf_fini(&b);
	if (x->partial.n > 0 && x->partial_ch != ch)
		log_partial(x);
	if (x->partial.n == 0) {
		x->partial_at = offset;
		x->partial_ch = ch;
		timer_again(x->partial_timer, PARTIAL_MS);
	}
	buf_add_str(&x->partial, bytes);
	if (x->partial.n >= PARTIAL_BYTES)
		log_partial(x);
}

static void
on_done(void *arg, const struct tool_result *result)
{
	struct effect_call *x = arg;

	if (x->r->s == NULL) { /* the run was detached: the log has it open */
		effect_free(x);
		return;
	}
	if (result->is_gone) {
		wait_for_sandbox(x);
		return;
	}
	if (x->phase == PHASE_RECOVER && result->state == EFFECT_NOT_DONE && !result->is_error && !x->is_cancelled) {
		x->phase = PHASE_RUN; /* it never happened: it is safe to do it now, under the same key */
		issue(x);
		return;
	}
	if (result->state == EFFECT_UNKNOWN && result->text.n == 0) {
		outcome_unknown(x);
		return;
	}
	if (has_commands(x) && x->r->s->has_grant && broker_mark(x->r->en->parts.broker, x->r->s->cell, x->c.effect)) {
		x->is_held = true;
		x->held = *result;
		x->held.text = arena_str(x->c.a, result->text);
		x->held.facts = arena_str(x->c.a, result->facts);
		return;
	}
	outcome(x, result->state, result->is_error, result->text, result->facts);
}

void
effects_told(struct run *r, const char *effect)
{
	run_ref(r);
	for (size_t i = 0; i < r->effects_n; i++) {
		struct effect_call *x = r->effects[i];

		if (x != NULL && x->is_held && (effect == NULL || strcmp(x->c.effect, effect) == 0))
			outcome(x, x->held.state, x->held.is_error, x->held.text, x->held.facts);
	}
	run_unref(r);
}

static const struct tool_handler handler = { on_prepared, on_output, on_done };

/* ---- starting ---- */

static void
issue(struct effect_call *x)
{
	const struct tool *tool = x->c.tool;
	struct err e = { 0 };
	int rc;

	if (!x->is_sent && x->r->s != NULL)
		x->notes_known = x->r->s->egress_notes.n;
	x->is_waiting = false;
	timer_close(x->wait_timer);
	x->wait_timer = NULL;
	if (x->phase != PHASE_RECOVER && (rc = inbox_fill(x->r, &e)) != 0) {
		if (rc > 0)
			x->is_waiting = true;
		else
			wait_for_sandbox(x);
		return;
	}
	if (x->phase != PHASE_PREPARE && (tool->effects & TOOL_EXECS) != 0 && x->c.env->plan.has_proxy && x->r->s != NULL)
		egress_grant(x->r->s);
	if (x->phase == PHASE_PREPARE)
		rc = tool->prepare(&x->c, &e);
	else if (x->phase == PHASE_RUN || tool->recovery == EFFECT_PURE)
		rc = tool->start(&x->c, &e);
	else if (tool->recover != NULL)
		rc = tool->recover(&x->c, &e);
	else {
		outcome_unknown(x);
		return;
	}
	x->is_sent = x->is_sent || rc == 0;
	if (rc == 0)
		return;
	if (e.code == ERR_GONE)
		wait_for_sandbox(x);
	else
		outcome_error(x, &e);
}

static void
effect_start(struct run *r, size_t index, enum phase phase)
{
	const struct turn_call *tc = turn_call(r->t, index);
	struct effect_call *x = xcalloc(1, sizeof *x);

	if (index >= r->effects_n) {
		size_t cap = r->effects_n;

		r->effects = vec_grow(r->effects, &cap, index + 1, sizeof *r->effects);
		memset(r->effects + r->effects_n, 0, (cap - r->effects_n) * sizeof *r->effects);
		r->effects_n = cap;
	}
	r->effects[index] = x;
	x->r = run_ref(r);
	x->index = index;
	x->phase = phase;
	x->output_end = phase == PHASE_RECOVER && index < r->output_ends_n ? r->output_ends[index] : 0;
	x->started_ms = clock_mono_ms();
	buf_init(&x->partial, EVENT_BODY_MAX / 4);
	x->partial_timer = timer_start(r->en->parts.loop, PARTIAL_MS, on_partial_timer, x);
	timer_stop(x->partial_timer);
	x->c = (struct tool_call){ .tool = registry_find(r->en->parts.registry, tc->tool), .env = &r->env,
		.effect = tc->effect, .args = tc->checked, .probe = tc->probe, .a = arena_new(TURN_ARENA_MAX),
		.h = &handler, .arg = x };
	issue(x);
}

void
effect_prepare(struct run *r, size_t index)
{
	effect_start(r, index, PHASE_PREPARE);
}

void
effect_run(struct run *r, size_t index)
{
	effect_start(r, index, PHASE_RUN);
}

void
effect_recover(struct run *r, size_t index)
{
	effect_start(r, index, PHASE_RECOVER);
}

void
effects_resume(struct run *r)
{
	for (size_t i = 0; i < r->effects_n; i++) {
		if (r->effects[i] == NULL || !r->effects[i]->is_waiting)
			continue;
		issue(r->effects[i]);
		if (r->effects[i] != NULL && r->effects[i]->is_cancelled && r->effects[i]->c.tool->cancel != NULL)
			r->effects[i]->c.tool->cancel(&r->effects[i]->c);
	}
}

/* The turn stops: what runs is told to, and still ends in an outcome; what only prepares is dropped. Detached: the
 * log keeps the turn open, so nothing is told to stop, but nothing may call back into the run's session. */
void
effects_cancel(struct run *r, bool is_detached)
{
	for (size_t i = 0; i < r->effects_n; i++) {
		struct effect_call *x = r->effects[i];

		if (x == NULL || (x->is_cancelled && !is_detached))
			continue;
		x->is_cancelled = true;
		if (is_detached) { /* its answer may never come: nothing of it may keep the loop */
			timer_close(x->partial_timer);
			timer_close(x->wait_timer);
			x->partial_timer = x->wait_timer = NULL;
		}
		if (x->is_held && !is_detached)
			continue;
		if (x->is_held || (x->is_waiting && (x->phase == PHASE_PREPARE || is_detached)))
			effect_free(x);
		else if (x->is_waiting && x->phase == PHASE_RUN)
			outcome(x, EFFECT_NOT_DONE, true, STR("cancelled before it began"), STR(""));
		else if (!is_detached && x->phase != PHASE_PREPARE && x->c.tool->cancel != NULL && !x->is_waiting)
			x->c.tool->cancel(&x->c);
	}
}
