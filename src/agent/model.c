/* SPDX-License-Identifier: MIT
 * One model call of a turn: builds the request from the transcript, reserves its money, sends it through the broker (or
 * asks the offline model), shows deltas live, logs partial text every 250 ms or 4 KiB, retries what may be retried, and
 * ends in exactly one model.done. A retry resets the text of the step, so nothing is ever shown twice. A call that was
 * lost with one of our own processes is made again and does not count as a failure. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <stdio.h>

#define PARTIAL_MS        250
#define PARTIAL_BYTES     (4 * KIB)
#define BYTES_PER_TOKEN   3 /* a low estimate, so that a request that should fit does */
#define BROKER_WAIT_MS    20000 /* for a broker that is started again */
#define OUTPUT_TOKENS_MIN 256 /* less than this is not worth a call */

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

static void attempt_afford(struct model_call *m);
static void attempt_begin(struct model_call *m);
static void attempt_failed(struct model_call *m, const struct failure *f);

/* ---- events ---- */

static void
event_begin(const struct model_call *m, struct json *j, struct buf *b, size_t max)
{
	buf_init(b, max);
	json_init(j, b);
	json_obj(j);
	json_kv_int(j, "step", m->step);
	json_kv_int(j, "attempt", m->attempt);
}

/* Logs an event that is no input of the machine; the order with other events of the session is that of the calls. */
static void
event_log(struct run *r, enum event_kind kind, struct json *j, struct buf *b)
{
	struct event_draft d = { .kind = kind, .turn = r->turn, .time_ms = clock_wall_ms() };
	struct arena *a = arena_new(TURN_ARENA_MAX);
	const struct node *n;
	struct err e = { 0 };

	json_obj_end(j);
	d.body = buf_str(b);
	if (json_parse(a, d.body, &n, &e) == 0 && transcript_add(r->s->tr, kind, n, &e) == 0)
		events_append(r->en->parts.events, r->s->id, &d, 1, NULL, NULL, NULL);
	arena_free(a);
	buf_fini(b);
}

static void
log_partial(struct model_call *m)
{
	struct json j;
	struct buf b;

	timer_stop(m->partial_timer);
	if (m->partial.n == 0 || turn_state(m->r->t) != TURN_MODEL)
		return;
	event_begin(m, &j, &b, EVENT_BODY_MAX);
	json_kv_int(&j, "offset", m->partial_at);
	json_kv_str(&j, "text", buf_str(&m->partial));
	m->partial_at += (int64_t)m->partial.n;
	buf_reset(&m->partial);
	event_log(m->r, EVENT_MODEL_PARTIAL, &j, &b);
}

static void
on_partial_timer(void *arg)
{
	log_partial(arg);
}

/* The model began to write a call: while it writes the arguments, the cell is made that they will need. */
static void
warm_cell(struct run *r, struct str tool)
{
	if (r->is_warmed || registry_find(r->en->parts.registry, tool) == NULL)
		return;
	r->is_warmed = true;
	sandbox_warm(r->env.sandbox, r->env.cell, &r->env.plan);
}

/* Live text. The parser gives whole characters only, so every delta is UTF-8. */
static void
on_delta(void *arg, enum delta_type type, struct str text)
{
	struct model_call *m = arg;
	bool is_reasoning = type == DELTA_REASONING;
	struct json j;
	struct buf b;

	if (turn_state(m->r->t) != TURN_MODEL) /* stopped: the log has what was shown */
		return;
	if (type == DELTA_CALL) {
		warm_cell(m->r, text);
		return;
	}
	event_begin(m, &j, &b, EVENT_BODY_MAX);
	json_kv_int(&j, "offset", m->shown[is_reasoning]);
	json_kv_str(&j, "text", text);
	if (is_reasoning)
		json_kv_bool(&j, "reasoning", true);
	json_obj_end(&j);
	events_live(m->r->en->parts.events, m->r->s->id, EVENT_MODEL_DELTA, m->r->turn, buf_str(&b));
	buf_fini(&b);
	m->shown[is_reasoning] += (int64_t)text.n;
	if (is_reasoning)
		return;
	m->r->text_shown = true;
	if (m->partial.n == 0)
		timer_again(m->partial_timer, PARTIAL_MS);
	buf_add_str(&m->partial, text);
	if (m->partial.n >= PARTIAL_BYTES)
		log_partial(m);
}

/* ---- life of a call ---- */

static void
attempt_end(struct model_call *m)
{
	if (m->fetch != NULL)
		fetch_cancel(m->fetch);
	m->fetch = NULL;
	parser_free(m->parser);
	m->parser = NULL;
	m->r->en->reserved_microusd -= m->reserved_microusd;
	m->reserved_microusd = 0;
}

static void
model_free(struct model_call *m)
{
	attempt_end(m);
	timer_close(m->timer);
	timer_close(m->partial_timer);
	buf_fini(&m->body);
	buf_fini(&m->headers);
	buf_fini(&m->error_body);
	buf_fini(&m->partial);
	arena_free(m->a);
	if (m->r->model == m)
		m->r->model = NULL;
	run_unref(m->r);
	free(m);
}

/* Ends the call; the run goes on with its next input. */
static void
finish(struct model_call *m, struct buf *body)
{
	struct run *r = run_ref(m->r);

	model_free(m);
	run_input(r, EVENT_MODEL_DONE, buf_str(body));
	buf_fini(body);
	run_unref(r);
}

static void
finish_error(struct model_call *m, const struct err *e)
{
	struct json j;
	struct buf b;

	log_partial(m);
	event_begin(m, &j, &b, 8 * KIB);
	json_key(&j, "error");
	json_obj(&j);
	json_kv_z(&j, "code", err_name(e->code));
	json_kv_z(&j, "message", e->msg);
	json_obj_end(&j);
	json_obj_end(&j);
	finish(m, &b);
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
		json_kv_str(j, "signature", p->signature);
		break;
	default:
		json_kv_z(j, "type", "text");
		json_kv_str(j, "text", p->text);
		break;
	}
	json_obj_end(j);
}

static void
finish_answer(struct model_call *m, const struct model_answer *answer)
{
	struct json j;
	struct buf b;

	buf_reset(&m->partial); /* model.done has it all */
	event_begin(m, &j, &b, EVENT_BODY_MAX / 2); /* what quotes it must fit into an event too */
	json_key(&j, "blocks");
	json_arr(&j);
	for (size_t i = 0; i < answer->n; i++)
		write_block(m, &answer->parts[i], i, &j);
	json_arr_end(&j);
	json_kv_z(&j, "stop", model_stop_name(answer->stop));
	json_key(&j, "usage");
	json_obj(&j);
	json_kv_int(&j, "input_tokens", answer->usage.input_tokens);
	json_kv_int(&j, "output_tokens", answer->usage.output_tokens);
	json_kv_int(&j, "cached_tokens", answer->usage.cached_tokens);
	json_kv_int(&j, "cache_write_tokens", answer->usage.cache_write_tokens);
	json_kv_int(&j, "reasoning_tokens", answer->usage.reasoning_tokens);
	json_obj_end(&j);
	json_kv_int(&j, "cost_microusd", model_cost(&m->info, &answer->usage));
	json_obj_end(&j);
	if (b.overflow) {
		struct err e = { 0 };

		buf_fini(&b);
		err_set(&e, ERR_LIMIT, ERR_TO_USER, "the model's answer is larger than %u KiB", EVENT_BODY_MAX / 2 / KIB);
		finish_error(m, &e);
		return;
	}
	finish(m, &b);
}

static void
on_attempt_logged(void *arg, uint64_t first_seq, const struct err *e)
{
	struct model_call *m = arg;

	m->is_awaited = false;
	if (m->r->model != m) /* cancelled meanwhile */
		model_free(m);
	else if (e != NULL)
		run_suspend(m->r, e);
	else if (!m->r->en->is_stopping)
		attempt_afford(m);
}

/* What a further attempt begins with: its number, and the word that the text so far is dropped. Deltas are live and
 * overtake what is being made durable, so the attempt waits for both. */
static void
attempt_again(struct model_call *m, bool is_reset)
{
	struct event_draft d[] = { { .kind = EVENT_MODEL_STARTED }, { .kind = EVENT_MODEL_RESET } };
	struct buf bodies[ARRAY_LEN(d)];
	const struct node *n;
	struct err e;

	if (turn_state(m->r->t) != TURN_MODEL)
		return;
	m->attempt++;
	m->r->attempts = m->attempt;
	for (size_t i = 0; i < ARRAY_LEN(d); i++) {
		struct json j;

		event_begin(m, &j, &bodies[i], 1 * KIB);
		if (d[i].kind == EVENT_MODEL_RESET) {
			json_kv_int(&j, "offset", 0);
			json_kv_z(&j, "text", "");
			json_kv_z(&j, "why", "retry");
		}
		json_obj_end(&j);
		d[i].turn = m->r->turn;
		d[i].time_ms = clock_wall_ms();
		d[i].body = buf_str(&bodies[i]);
	}
	if (is_reset && (json_parse(m->a, d[1].body, &n, &e) != 0 || transcript_add(m->r->s->tr, d[1].kind, n, &e) != 0))
		fatal("model.reset: %s", e.msg);
	m->r->text_shown = m->r->text_shown && !is_reset;
	m->is_awaited = true;
	events_append(m->r->en->parts.events, m->r->s->id, d, is_reset ? 2 : 1, NULL, on_attempt_logged, m);
	for (size_t i = 0; i < ARRAY_LEN(d); i++)
		buf_fini(&bodies[i]);
}

static void
on_retry_timer(void *arg)
{
	struct model_call *m = arg;

	attempt_again(m, m->r->text_shown);
}

static double
jitter(void)
{
	uint32_t x;

	random_bytes(&x, sizeof x);
	return (double)x / 4294967296.0;
}

static void
log_retry(struct model_call *m, int64_t after_ms, const struct err *e)
{
	struct json j;
	struct buf b;

	log_partial(m);
	event_begin(m, &j, &b, 8 * KIB);
	json_kv_int(&j, "after_ms", after_ms);
	json_key(&j, "error");
	json_obj(&j);
	json_kv_z(&j, "code", err_name(e->code));
	json_kv_z(&j, "message", e->msg);
	json_obj_end(&j);
	event_log(m->r, EVENT_MODEL_RETRY, &j, &b);
}

bool
retry_is_failure(const struct node *body)
{
	return !str_is(node_str(node_get(body, "error"), "code", STR("")), err_name(ERR_GONE));
}

static void
attempt_failed(struct model_call *m, const struct failure *f)
{
	int64_t after_ms;

	attempt_end(m);
	if (turn_state(m->r->t) != TURN_MODEL)
		return; /* stopped: cancelled as soon as that is durable */
	if (!f->may_retry || m->r->failures >= m->info.retries) {
		finish_error(m, &f->e);
		return;
	}
	after_ms = retry_delay_ms(f, (int)++m->r->failures, jitter());
	log_retry(m, after_ms, &f->e);
	timer_close(m->timer);
	m->timer = timer_start(m->r->en->parts.loop, after_ms, on_retry_timer, m);
}

static void
on_broker_wait(void *arg)
{
	struct err e;

	err_set(&e, ERR_GONE, ERR_TO_USER, "the broker does not run (see `ithaca doctor`)");
	finish_error(arg, &e);
}

/* The broker ended, and comes back: nobody is to blame for this attempt. */
static void
attempt_waits(struct model_call *m, bool was_sent, const struct err *e)
{
	attempt_end(m);
	if (turn_state(m->r->t) != TURN_MODEL)
		return;
	if (was_sent)
		log_retry(m, 0, e);
	m->waits = was_sent ? WAITS_TO_REPEAT : WAITS_TO_SEND;
	timer_close(m->timer);
	m->timer = timer_start(m->r->en->parts.loop, BROKER_WAIT_MS, on_broker_wait, m);
}

void
model_resume(struct run *r)
{
	struct model_call *m = r->model;

	if (m == NULL || m->waits == WAITS_NOT)
		return;
	bool is_again = m->waits == WAITS_TO_REPEAT;

	timer_stop(m->timer);
	m->waits = WAITS_NOT;
	if (is_again)
		attempt_again(m, r->text_shown);
	else
		attempt_afford(m);
}

static void
attempt_error(struct model_call *m, const struct err *e)
{
	struct failure f;

	if (e->code == ERR_GONE) {
		attempt_waits(m, true, e);
		return;
	}
	failure_from_err(m->info.api, arena_strdup(m->a, m->info.provider), e, &f);
	attempt_failed(m, &f);
}

/* ---- through the broker ---- */

static void
on_head(void *arg, int status, struct str headers)
{
	struct model_call *m = arg;

	m->status = status;
	buf_reset(&m->headers);
	buf_reset(&m->error_body);
	buf_add_str(&m->headers, headers);
}

static void
on_data(void *arg, struct str bytes)
{
	struct model_call *m = arg;
	struct err e = { 0 };

	if (m->status != 200) {
		buf_add_str(&m->error_body, str_sub(bytes, 0, PROVIDER_ERROR_MAX - m->error_body.n));
		return;
	}
	if (parser_feed(m->parser, bytes, &e) != 0)
		attempt_error(m, &e);
}

static void
on_end(void *arg)
{
	struct model_call *m = arg;
	const struct model_answer *answer;
	struct failure f;
	struct err e = { 0 };

	m->fetch = NULL;
	if (m->status != 200) {
		failure_from_http(m->info.api, arena_strdup(m->a, m->info.provider), m->status, buf_str(&m->headers),
			buf_str(&m->error_body), clock_wall_ms(), &f);
		attempt_failed(m, &f);
	} else if (parser_end(m->parser, &answer, &e) != 0) {
		attempt_error(m, &e);
	} else {
		finish_answer(m, answer);
	}
}

static void
on_fail(void *arg, const struct err *e)
{
	struct model_call *m = arg;

	m->fetch = NULL;
	attempt_error(m, e);
}

static const struct fetch_handler handler = { on_head, on_data, on_end, on_fail };

static void
send_request(struct model_call *m, const struct model_request *q)
{
	struct http_request http = { .body = &m->body };
	struct fetch_request f;
	struct err e = { 0 };

	buf_reset(&m->body);
	if (m->info.api->build(q, &http, m->a, &e) != 0) {
		finish_error(m, &e);
		return;
	}
	m->parser = parser_new(m->info.api, on_delta, m);
	f = (struct fetch_request){ .provider = arena_strdup(m->a, m->info.provider), .path = http.path,
		.headers = http.headers, .body = buf_str(&m->body), .connect_ms = m->info.connect_ms,
		.idle_ms = m->info.idle_ms };
	if (broker_fetch(m->r->en->parts.broker, &f, &handler, m, &m->fetch, &e) == 0)
		return;
	if (e.code == ERR_GONE)
		attempt_waits(m, false, &e);
	else
		attempt_error(m, &e);
}

/* ---- offline ---- */

static void
offline_end(struct model_call *m)
{
	struct model_answer answer = { .parts = m->parts, .n = m->parts_n, .stop = STOP_END };

	for (size_t i = 0; i < m->parts_n; i++)
		if (m->parts[i].type == PART_CALL)
			answer.stop = STOP_TOOLS;
	answer.usage.input_tokens = (int64_t)(m->input_bytes / 4 + 1);
	answer.usage.output_tokens = (int64_t)(m->output_bytes / 4 + 1);
	finish_answer(m, &answer);
}

/* Text pieces that follow each other are one block. They are pieces of one text, or nearly: joining them takes memory for
 * twice the whole, not for every beginning of it. */
static void
offline_text(struct model_call *m, enum part_type type, struct str text)
{
	struct part *last = m->parts_n > 0 ? &m->parts[m->parts_n - 1] : NULL;

	if (last == NULL || last->type != type) {
		last = &m->parts[m->parts_n++];
		*last = (struct part){ .type = type };
		m->room = 0;
	}
	if (last->text.n + text.n > m->room) {
		char *p = arena_alloc(m->a, m->room = 2 * (last->text.n + text.n));

		if (last->text.n > 0)
			memcpy(p, last->text.p, last->text.n);
		last->text.p = p;
	}
	memcpy((char *)last->text.p + last->text.n, text.p, text.n);
	last->text.n += text.n;
	m->output_bytes += text.n;
	on_delta(m, type == PART_TEXT ? DELTA_TEXT : DELTA_REASONING, text);
}

static void
offline_error(struct model_call *m, const struct offline_step *st)
{
	struct failure f;

	failure_from_offline(arena_strdup(m->a, m->info.provider), st, &f);
	attempt_failed(m, &f);
}

static void
offline_go(void *arg)
{
	struct model_call *m = arg;

	while (m->steps_at < m->steps_n) {
		const struct offline_step *st = &m->steps[m->steps_at++];

		switch (st->type) {
		case OFFLINE_TEXT:
		case OFFLINE_REASONING:
			offline_text(m, st->type == OFFLINE_TEXT ? PART_TEXT : PART_REASONING, st->text);
			break;
		case OFFLINE_CALL:
			m->parts[m->parts_n++] = (struct part){ .type = PART_CALL, .tool = st->tool, .args = st->args };
			m->output_bytes += st->args.n;
			break;
		case OFFLINE_DELAY:
			timer_close(m->timer);
			m->timer = timer_start(m->r->en->parts.loop, st->ms, offline_go, m);
			return;
		case OFFLINE_ERROR:
		case OFFLINE_CUT:
			offline_error(m, st);
			return;
		}
	}
	offline_end(m);
}

static void
ask_offline(struct model_call *m, const struct model_request *q)
{
	const struct offline *o;
	struct err e = { 0 };

	if (engine_offline(m->r->en, &m->info, &o, &e) != 0 ||
		offline_answer(o, q, m->a, &m->steps, &m->steps_n, &e) != 0) {
		finish_error(m, &e);
		return;
	}
	m->parts = arena_alloc(m->a, (m->steps_n + 1) * sizeof *m->parts);
	m->parts_n = m->steps_at = m->output_bytes = 0;
	offline_go(m);
}

/* ---- an attempt ---- */

/* Reserves what the call may cost at most; a smaller answer is asked for when the money of the turn or the day is nearly
 * gone. */
static int
reserve(struct model_call *m, size_t input_bytes, int64_t *output_tokens, struct err *e)
{
	const struct run *r = m->r;
	int64_t limit = node_int(node_get(turn_options(r->t), "limits"), "turn_cost_microusd", INT64_MAX);
	int64_t turn_left = limit - turn_cost_microusd(r->t), left = MIN(turn_left, m->day_left);
	int64_t price = m->info.output_microusd_per_mtok;
	int64_t most = m->info.max_output_tokens > 0 ? m->info.max_output_tokens : m->info.context_tokens;
	int64_t input = model_cost_bound(&m->info, input_bytes) - (price * most + 999999) / 1000000;
	int64_t affordable = INT64_MAX;

	if (price > 0 && left > input)
		affordable = (int64_t)MIN((__int128)(left - input) * 1000000 / price, (__int128)INT64_MAX);
	if (input > left || affordable < OUTPUT_TOKENS_MIN)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"limits.%s: the next model call does not fit into what is left of it (raise it, or choose a cheaper model)",
			left < turn_left ? "day_cost_usd" : "turn_cost_usd");
	if (affordable < most)
		*output_tokens = most = affordable;
	m->reserved_microusd = MAX(input, 0) + (price * most + 999999) / 1000000;
	r->en->reserved_microusd += m->reserved_microusd;
	return 0;
}

static void
on_limit(struct model_call *m, const struct err *e)
{
	struct run *r = run_ref(m->r);

	model_free(m);
	run_stop(r, "limit", "limit", e->msg);
	run_unref(r);
}

static void
attempt_begin(struct model_call *m)
{
	struct engine *en = m->r->en;
	struct transcript_view view;
	struct model_request q;
	struct err e = { 0 };

	m->shown[0] = m->shown[1] = m->partial_at = 0;
	buf_reset(&m->partial);
	arena_reset(m->a);
	if (model_resolve(m->r->s->config, node_str(turn_options(m->r->t), "model", STR("")), m->a, &m->info, &e) != 0) {
		finish_error(m, &e);
		return;
	}
	model_request_init(&q, &m->info);
	q.attempt = (int)m->attempt - 1;
	q.system = prompt_system(m->r, m->a);
	q.tools = en->schemas;
	q.tools_n = en->schemas_n;
	transcript_view(m->r->s->tr,
		(size_t)MAX(m->info.context_tokens - q.max_output_tokens, m->info.context_tokens / 2) * BYTES_PER_TOKEN, m->a,
		&view);
	q.messages = view.messages;
	q.messages_n = view.n;
	m->input_bytes = view.bytes + q.system.n + en->schemas_bytes;
	if (reserve(m, m->input_bytes, &q.max_output_tokens, &e) != 0) {
		on_limit(m, &e);
		return;
	}
	if (m->info.api->build == NULL)
		ask_offline(m, &q);
	else
		send_request(m, &q);
}

/* ---- what one day may cost ---- */

static void
on_day_cost(void *arg, const struct rows *rows, const struct err *e)
{
	struct model_call *m = arg;

	m->is_awaited = false;
	if (m->r->model != m) { /* cancelled meanwhile */
		model_free(m);
		return;
	}
	if (m->r->en->is_stopping)
		return;
	if (e != NULL) {
		finish_error(m, e);
		return;
	}
	/* What ended turns cost, what running ones have spent, and what is reserved for calls under way. */
	m->day_left = config_microusd(m->r->s->config, "limits.day_cost_usd") - rows_int(rows, 0, 0) -
		engine_running_microusd(m->r->en) - m->r->en->reserved_microusd;
	attempt_begin(m);
}

static struct model_call *
model_new(struct run *r)
{
	struct model_call *m = xcalloc(1, sizeof *m);

	m->r = run_ref(r);
	m->a = arena_new(TURN_ARENA_MAX);
	m->step = turn_step_no(r->t);
	m->day_left = INT64_MAX;
	buf_init(&m->body, REQUEST_BODY_MAX);
	buf_init(&m->headers, 64 * KIB);
	buf_init(&m->error_body, PROVIDER_ERROR_MAX);
	buf_init(&m->partial, MODEL_TEXT_MAX);
	m->partial_timer = timer_start(r->en->parts.loop, PARTIAL_MS, on_partial_timer, m);
	timer_stop(m->partial_timer);
	r->model = m;
	return m;
}

/* Asks what the day has left, where that matters, then begins. */
static void
attempt_afford(struct model_call *m)
{
	int64_t day_ms = clock_wall_ms() / 86400000 * 86400000;
	struct cell_value params[] = { V_Z(m->r->s->owner), V_INT(day_ms) };
	struct model_info info;
	struct err e = { 0 };

	if (model_resolve(m->r->s->config, node_str(turn_options(m->r->t), "model", STR("")), m->a, &info, &e) != 0) {
		finish_error(m, &e);
	} else if (info.output_microusd_per_mtok > 0) {
		m->is_awaited = true;
		store_query(m->r->en->parts.store, STMT_TURN_COST_SINCE, params, 2, on_day_cost, m);
	} else {
		attempt_begin(m);
	}
}

void
model_start(struct run *r)
{
	struct model_call *m = model_new(r);
	bool recovers = r->recovers;

	m->attempt = r->attempts > 0 ? r->attempts : 1;
	r->attempts = m->attempt;
	r->recovers = false;
	if (recovers)
		attempt_again(m, true); /* nobody knows what was shown before the crash */
	else
		attempt_afford(m);
}

void
model_flush(struct run *r)
{
	if (r->model != NULL)
		log_partial(r->model);
}

void
model_cancel(struct run *r)
{
	struct model_call *m = r->model;

	if (m == NULL)
		return;
	if (r->s != NULL && !r->en->is_stopping)
		log_partial(m);
	r->model = NULL;
	if (!m->is_awaited) /* else its callback still comes and frees it */
		model_free(m);
}
