/* SPDX-License-Identifier: MIT
 * What a model call tells the log and the live readers: deltas, partial text every 250 ms or 4 KiB, retries, and the body
 * of model.done. Nothing here decides how the call goes on. */
#include "agent/model_call.h"

#include "base/clock.h"
#include "base/limits.h"

#include <stdio.h>

#define PARTIAL_BYTES   (4 * KIB)
#define PARTIAL_STEP_MS 125 /* the partials of all sessions come in groups, and each group is one commit */

static void
event_head(const struct model_call *m, struct json *j, struct buf *b)
{
	json_init(j, b);
	json_obj(j);
	json_kv_int(j, "step", m->step);
	json_kv_int(j, "attempt", m->attempt);
}

void
call_event_begin(const struct model_call *m, struct json *j, struct buf *b, size_t max)
{
	buf_init(b, max);
	event_head(m, j, b);
}

/* Text comes in thousands of small events a second: their bodies share the engine's buffer. */
static struct buf *
text_begin(const struct model_call *m, struct json *j, int64_t offset, struct str text)
{
	struct buf *b = &m->r->en->body;

	buf_reset(b);
	event_head(m, j, b);
	json_kv_int(j, "offset", offset);
	json_kv_str(j, "text", text);
	return b;
}

/* Logs an event that causes nothing; the order with other events of the session is that of the calls. */
static void
event_log(struct run *r, enum event_kind kind, struct str body)
{
	struct event_draft d = { .kind = kind, .turn = r->turn, .time_ms = clock_wall_ms(), .body = body };
	struct turn_input in = { .kind = kind, .time_ms = d.time_ms };
	struct turn_out out;
	struct err e = { 0 };
	int rc = json_parse(r->en->scratch, d.body, &in.body, &e);

	if (rc == 0)
		rc = transcript_add(r->s->tr, kind, in.body, &e);
	if (rc == 0 && (event_kind_flags(kind) & EVENT_INPUT) != 0)
		rc = turn_step(r->t, &in, &out, &e);
	if (rc == 0)
		events_append(r->en->parts.events, r->s->id, &d, 1, NULL, NULL, NULL);
	arena_reset(r->en->scratch);
}

/* The end of what call_event_begin began. */
static void
event_log_end(struct model_call *m, enum event_kind kind, struct json *j, struct buf *b)
{
	json_obj_end(j);
	event_log(m->r, kind, buf_str(b));
	buf_fini(b);
}

void
call_log_partial(struct model_call *m)
{
	struct json j;
	struct buf *b;

	timer_stop(m->partial_timer);
	if (m->partial.n == 0 || turn_state(m->r->t) != TURN_MODEL)
		return;
	b = text_begin(m, &j, m->partial_at, buf_str(&m->partial));
	json_obj_end(&j);
	m->partial_at += (int64_t)m->partial.n;
	buf_reset(&m->partial);
	event_log(m->r, EVENT_MODEL_PARTIAL, buf_str(b));
}

/* The model began to write a call: while it writes the arguments, the cell is made that they will need. */
static void
warm_cell(struct run *r, struct str tool)
{
	if (r->is_warmed || registry_find(r->en->parts.registry, tool) == NULL)
		return;
	r->is_warmed = true;
	sandbox_warm(r->env.sandbox, r->env.cell, &r->env.plan, r->env.run);
}

/* Live text. The parser gives whole characters only, so every delta is UTF-8. */
void
call_delta(void *arg, enum delta_type type, struct str text)
{
	struct model_call *m = arg;
	bool is_reasoning = type == DELTA_REASONING;
	struct json j;
	struct buf *b;

	if (turn_state(m->r->t) != TURN_MODEL) /* stopped: the log has what was shown */
		return;
	if (type == DELTA_CALL) {
		warm_cell(m->r, text);
		return;
	}
	b = text_begin(m, &j, m->shown[is_reasoning], text);
	if (is_reasoning)
		json_kv_bool(&j, "reasoning", true);
	json_obj_end(&j);
	events_live(m->r->en->parts.events, m->r->s->id, EVENT_MODEL_DELTA, m->r->turn, buf_str(b));
	m->shown[is_reasoning] += (int64_t)text.n;
	if (is_reasoning)
		return;
	m->r->text_shown = true;
	if (m->partial.n == 0)
		timer_align(m->partial_timer, PARTIAL_MS, PARTIAL_STEP_MS);
	buf_add_str(&m->partial, text);
	if (m->partial.n >= PARTIAL_BYTES)
		call_log_partial(m);
}

void
call_log_retry(struct model_call *m, struct str model, const char *why, int64_t after_ms, struct str next,
	const struct err *e)
{
	struct json j;
	struct buf b;

	if (turn_state(m->r->t) != TURN_MODEL)
		return; /* stopped: nothing goes on */
	call_log_partial(m);
	call_event_begin(m, &j, &b, 8 * KIB);
	json_kv_str(&j, "model", model);
	json_kv_z(&j, "why", why);
	json_kv_int(&j, "after_ms", after_ms);
	json_kv_int(&j, "failures", m->r->failures);
	if (next.n > 0)
		json_kv_str(&j, "next", next);
	call_write_lost(m, &j);
	json_kv_obj(&j, "error");
	json_kv_err(&j, e);
	json_obj_end(&j);
	event_log_end(m, EVENT_MODEL_RETRY, &j, &b);
}

int64_t
retry_failures(const struct node *body, int64_t before)
{
	bool is_ours = str_is(node_str(node_get(body, "error"), "code", STR("")), err_name(ERR_GONE));

	return node_int(body, "failures", before + !is_ours); /* logs of old do not say it */
}

void
call_log_context(struct model_call *m, const struct transcript_view *view)
{
	struct json j;
	struct buf b;

	call_event_begin(m, &j, &b, 1 * KIB);
	json_kv_str(&j, "model", run_model(m->r));
	json_kv_z(&j, "why", "too_long");
	json_kv_int(&j, "max_bytes", (int64_t)m->r->view_bytes_max);
	json_kv_int(&j, "bytes", (int64_t)view->bytes);
	json_kv_int(&j, "dropped_turns", (int64_t)view->dropped_turns);
	event_log_end(m, EVENT_CONTEXT_BUILT, &j, &b);
}

static void
write_block(struct model_call *m, const struct part *p, size_t index, struct json *j)
{
	char id[48];

	json_obj(j);
	switch (p->type) {
	case PART_CALL:
		json_kv_z(j, "type", "call");
		/* Some servers send no ids; results are matched by them. */
		snprintf(id, sizeof id, "call_%lld_%zu", (long long)m->step, index);
		json_kv_str(j, "call_id", p->call_id.n > 0 ? p->call_id : str_of(id));
		json_kv_str(j, "tool", p->tool);
		json_kv_str(j, "args", p->args);
		break;
	case PART_REASONING:
	case PART_REASONING_REDACTED:
		json_kv_z(j, "type", p->type == PART_REASONING ? "reasoning" : "redacted");
		json_kv_str(j, "text", p->text);
		break;
	default:
		json_kv_z(j, "type", "text");
		json_kv_str(j, "text", p->text);
		break;
	}
	/* What the API wants back with the part. */
	if (p->signature.n > 0)
		json_kv_str(j, "signature", p->signature);
	if (p->item_id.n > 0)
		json_kv_str(j, "item_id", p->item_id);
	json_obj_end(j);
}

void
write_lost(struct json *j, int64_t microusd)
{
	if (microusd <= 0)
		return;
	json_kv_int(j, "cost_microusd", microusd);
	json_kv_int(j, "estimated_microusd", microusd);
}

void
call_write_lost(struct model_call *m, struct json *j)
{
	write_lost(j, m->lost_microusd);
	m->lost_microusd = 0;
}

void
call_write_done(struct model_call *m, const struct model_answer *answer, struct buf *b)
{
	int64_t estimated, cost = call_cost(m, answer, &estimated);
	struct json j;

	call_event_begin(m, &j, b, EVENT_BODY_MAX / 2); /* what quotes it must fit into an event too */
	json_kv_str(&j, "provider", m->info.provider);
	json_kv_str(&j, "model", run_model(m->r));
	json_kv_arr(&j, "blocks");
	for (size_t i = 0; i < answer->n; i++)
		write_block(m, &answer->parts[i], i, &j);
	json_arr_end(&j);
	json_kv_z(&j, "stop", model_stop_name(answer->stop));
	json_kv_obj(&j, "usage");
	json_kv_int(&j, "input_tokens", answer->usage.input_tokens);
	json_kv_int(&j, "output_tokens", answer->usage.output_tokens);
	json_kv_int(&j, "cached_tokens", answer->usage.cached_tokens);
	json_kv_int(&j, "cache_write_tokens", answer->usage.cache_write_tokens);
	json_kv_int(&j, "reasoning_tokens", answer->usage.reasoning_tokens);
	json_obj_end(&j);
	if (m->parser != NULL)
		json_kv_int(&j, "input_bytes", (int64_t)m->input_bytes); /* that were those tokens */
	json_kv_int(&j, "cost_microusd", cost);
	if (estimated > 0)
		json_kv_int(&j, "estimated_microusd", estimated);
	json_obj_end(&j);
}
