/* SPDX-License-Identifier: MIT
 * The life of one model call of a turn: its attempts, sent through the broker or answered by the offline model; what may
 * be retried is, then the next model of the chain is asked, and the call ends in exactly one model.done. A further attempt
 * resets the text of the step, so nothing is ever shown twice. A call that was lost with one of our own processes is
 * made again and does not count as a failure. */
#include "agent/model_call.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>

#define BROKER_WAIT_MS 20000 /* for a broker that is started again */
#define SANDBOX_WAIT_MS 2000 /* for the first word of a sandbox that is just starting */


static void
on_partial_timer(void *arg)
{
	call_log_partial(arg);
}

/* ---- the breaker of its provider ---- */

/* What the attempt says about the server. Once for each time that the breaker let one through. */
static void
breaker_end(struct model_call *m, enum breaker_outcome o)
{
	struct breaker *b = m->breaker;

	m->breaker = NULL;
	if (b != NULL && breaker_report(b, m->pass, o, loop_now_ms(m->r->en->parts.loop)))
		engine_breaker_changed(m->r->en, m->info.provider);
}

/* ---- the end ---- */

static void
attempt_end(struct model_call *m)
{
	m->lost_microusd += call_estimate(m);
	if (m->fetch != NULL)
		fetch_cancel(m->fetch);
	m->fetch = NULL;
	parser_free(m->parser);
	m->parser = NULL;
	breaker_end(m, BREAKER_NEITHER);
	money_release(m->r->en, &m->claim);
}

void
call_free(struct model_call *m)
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

	call_free(m);
	run_input(r, EVENT_MODEL_DONE, buf_str(body));
	buf_fini(body);
	run_unref(r);
}

void
call_finish_error(struct model_call *m, const struct err *e)
{
	struct json j;
	struct buf b;

	attempt_end(m);
	call_log_partial(m);
	call_event_begin(m, &j, &b, 8 * KIB);
	json_kv_str(&j, "model", run_model(m->r));
	call_write_lost(m, &j);
	json_kv_obj(&j, "error");
	json_kv_err(&j, e);
	json_obj_end(&j);
	json_obj_end(&j);
	finish(m, &b);
}

void
call_finish_answer(struct model_call *m, const struct model_answer *answer)
{
	struct buf b;

	breaker_end(m, BREAKER_OK);
	buf_reset(&m->partial); /* model.done has it all */
	call_write_done(m, answer, &b);
	if (b.overflow) {
		struct err e = { 0 };

		buf_fini(&b);
		err_set(&e, ERR_LIMIT, ERR_TO_USER, "the model's answer is larger than %u KiB", EVENT_BODY_MAX / 2 / KIB);
		call_finish_error(m, &e);
		return;
	}
	finish(m, &b);
}

/* Ends the turn: its money does not suffice for the call. */
static void
finish_limit(struct model_call *m, const struct err *e)
{
	struct run *r = run_ref(m->r);

	call_free(m);
	run_stop(r, "limit", "limit", e->msg);
	run_unref(r);
}

/* ---- further attempts ---- */

static void
on_attempt_logged(void *arg, uint64_t first_seq, const struct err *e)
{
	struct model_call *m = arg;

	m->is_awaited = false;
	if (m->r->model != m) /* cancelled meanwhile */
		call_free(m);
	else if (e != NULL)
		run_suspend(m->r, e);
	else if (!m->r->en->is_stopping)
		call_begin(m);
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

		call_event_begin(m, &j, &bodies[i], 1 * KIB);
		if (d[i].kind == EVENT_MODEL_RESET) {
			json_kv_int(&j, "offset", 0);
			json_kv_z(&j, "text", "");
			json_kv_z(&j, "why", "retry");
		} else {
			json_kv_str(&j, "model", run_model(m->r));
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
attempt_later(struct model_call *m, const char *why, int64_t after_ms, const struct err *e)
{
	call_log_retry(m, run_model(m->r), why, after_ms, STR(""), e);
	timer_close(m->timer);
	m->timer = timer_start(m->r->en->parts.loop, after_ms, on_retry_timer, m);
}

void
call_give_up(struct model_call *m, const char *why, const struct err *e)
{
	struct str failed = run_model(m->r);

	attempt_end(m);
	if (!run_next_model(m->r)) {
		call_finish_error(m, e);
		return;
	}
	log_warn("another model goes on", LOG_S("session", m->r->s->id), LOG_S("turn", m->r->turn), LOG_S("why", why),
		LOG_E(e));
	call_log_retry(m, failed, why, 0, run_model(m->r), e);
	attempt_again(m, m->r->text_shown);
}

void
call_failed(struct model_call *m, const struct failure *f)
{
	const char *why = failure_kind_name(f->kind);

	breaker_end(m, breaker_outcome(f));
	attempt_end(m);
	if (turn_state(m->r->t) != TURN_MODEL)
		return; /* stopped: cancelled as soon as that is durable */
	if (f->kind == FAIL_CONTEXT && call_narrow(m)) {
		attempt_later(m, why, 0, &f->e);
	} else if (!f->may_retry || m->r->failures >= m->info.retries) {
		call_give_up(m, why, &f->e);
	} else {
		m->r->failures++;
		attempt_later(m, why, retry_delay_ms(f, (int)m->r->failures, jitter()), &f->e);
	}
}

static void
on_look_timer(void *arg)
{
	call_begin(arg);
}

/* Nobody may call this server now. Another model goes on at once; without one the turn waits, as for any failure, and for
 * a probe as long as that takes: it ends, and then the breaker is open, which counts, or closed. */
static void
refused_by_breaker(struct model_call *m, const struct breaker *b, int64_t wait_ms)
{
	bool has_next = m->r->model_at < node_len(node_get(turn_options(m->r->t), "fallback"));
	struct err e;

	if (b->state == BREAKER_HALF_OPEN && !has_next) {
		attempt_end(m);
		timer_close(m->timer);
		m->timer = timer_start(m->r->en->parts.loop, wait_ms, on_look_timer, m);
		return;
	}

	err_set(&e, ERR_PROVIDER, ERR_TO_USER,
		"%.*s: not called for another %lld ms, it failed %d times in a row (wait, or set models.fallback)",
		STR_FMT(m->info.provider), (long long)wait_ms, BREAKER_FAILURES);
	attempt_end(m);
	if (has_next || m->r->failures >= m->info.retries) {
		call_give_up(m, "breaker", &e);
		return;
	}
	m->r->failures++;
	attempt_later(m, "breaker", wait_ms, &e);
}

/* ---- the broker ends and comes back ---- */

static void
on_broker_wait(void *arg)
{
	struct err e;

	err_set(&e, ERR_GONE, ERR_TO_USER, "the broker does not run (see `ithaca doctor`)");
	call_finish_error(arg, &e);
}

/* Nobody is to blame for this attempt. */
static void
attempt_waits(struct model_call *m, bool was_sent, const struct err *e)
{
	attempt_end(m);
	if (turn_state(m->r->t) != TURN_MODEL)
		return;
	if (was_sent)
		call_log_retry(m, run_model(m->r), err_name(e->code), 0, STR(""), e);
	m->waits = was_sent ? WAITS_TO_REPEAT : WAITS_TO_SEND;
	timer_close(m->timer);
	m->timer = timer_start(m->r->en->parts.loop, BROKER_WAIT_MS, on_broker_wait, m);
}

static void
resume(struct model_call *m)
{
	bool is_again = m->waits == WAITS_TO_REPEAT;

	timer_stop(m->timer);
	m->waits = WAITS_NOT;
	if (is_again)
		attempt_again(m, m->r->text_shown);
	else
		call_begin(m);
}

void
model_broker_up(struct run *r)
{
	if (r->model != NULL && (r->model->waits == WAITS_TO_SEND || r->model->waits == WAITS_TO_REPEAT))
		resume(r->model);
}

void
model_sandbox_up(struct run *r)
{
	if (r->model != NULL && r->model->waits == WAITS_FOR_SANDBOX)
		resume(r->model);
}

static void
attempt_error(struct model_call *m, const struct err *e)
{
	struct failure f;

	if (e->code == ERR_GONE) {
		attempt_waits(m, true, e);
		return;
	}
	if (e->code == ERR_PROVIDER && m->parser != NULL && parser_bytes(m->parser) == 0)
		m->status = 0; /* refused, only later than by a status: nothing was made, nothing is charged */
	failure_from_err(m->info.api, arena_strdup(m->a, m->info.provider), e, &f);
	call_failed(m, &f);
}

/* ---- through the broker ---- */

static void
on_head(void *arg, int status, struct str headers)
{
	struct model_call *m = arg;

	if (status == 200 && m->pass == BREAKER_PROBES)
		breaker_end(m, BREAKER_OK); /* others need not wait for the whole answer */
	m->status = status;
	buf_fini(&m->body); /* sent, and larger than all that the answer needs */
	buf_reset(&m->headers);
	buf_reset(&m->error_body);
	buf_add_str(&m->headers, headers);
}

static void
refused(struct model_call *m)
{
	struct failure f;

	failure_from_http(m->info.api, arena_strdup(m->a, m->info.provider), m->status, buf_str(&m->headers),
		buf_str(&m->error_body), clock_wall_ms(), &f);
	call_failed(m, &f);
}

static void
on_data(void *arg, struct str bytes)
{
	struct model_call *m = arg;
	struct err e = { 0 };

	if (m->status != 200) {
		buf_add_str(&m->error_body, str_sub(bytes, 0, PROVIDER_ERROR_MAX - m->error_body.n));
		if (m->error_body.n == PROVIDER_ERROR_MAX) /* enough is known; it may never end */
			refused(m);
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
	struct model_answer found;
	struct err e = { 0 };

	m->fetch = NULL;
	if (m->status != 200) {
		refused(m);
	} else if (parser_end(m->parser, &answer, &e) != 0) {
		attempt_error(m, &e);
	} else {
		(void)answer_text_calls(answer, &m->q, m->a, &found); /* calls that a weak model wrote as text */
		call_finish_answer(m, &found);
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
send_request(struct model_call *m)
{
	struct http_request http = { .body = &m->body };
	struct fetch_request f;
	struct err e = { 0 };

	m->status = 0;
	buf_reset(&m->body);
	if (m->info.api->build(&m->q, &http, m->a, &e) != 0) {
		call_give_up(m, err_name(e.code), &e);
		return;
	}
	m->parser = parser_new(m->info.api, call_delta, m);
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

/* ---- an attempt ---- */

static void
on_sandbox_wait(void *arg)
{
	resume(arg);
}

/* What the prompt says of tools and of the machine stays as it is from the first request on, so that it can be cached: a sandbox
 * that is only just starting is heard first. */
static bool
sandbox_is_awaited(struct model_call *m)
{
	if (m->has_waited || !sandbox_is_coming(m->r->en->parts.sandbox))
		return false;
	m->has_waited = true;
	m->waits = WAITS_FOR_SANDBOX;
	timer_close(m->timer);
	m->timer = timer_start(m->r->en->parts.loop, SANDBOX_WAIT_MS, on_sandbox_wait, m);
	return true;
}

void
call_begin(struct model_call *m)
{
	struct breaker *breaker;
	int64_t wait_ms;
	struct err e = { 0 };

	if (sandbox_is_awaited(m) || call_media_waits(m))
		return;
	m->shown[0] = m->shown[1] = m->partial_at = 0;
	buf_reset(&m->partial);
	if (call_request(m, &e) != 0) {
		call_give_up(m, "config", &e);
		return;
	}
	if (call_reserve(m, &e) != 0) {
		finish_limit(m, &e);
		return;
	}
	if (m->info.api->build == NULL) {
		call_ask_offline(m);
		return;
	}
	breaker = engine_breaker(m->r->en, m->info.provider);
	m->pass = breaker_ask(breaker, loop_now_ms(m->r->en->parts.loop), &wait_ms);
	if (m->pass == BREAKER_REFUSES) {
		refused_by_breaker(m, breaker, wait_ms);
		return;
	}
	m->breaker = breaker;
	send_request(m);
}

static struct model_call *
model_new(struct run *r)
{
	struct model_call *m = xcalloc(1, sizeof *m);

	m->r = run_ref(r);
	m->a = arena_new(TURN_ARENA_MAX);
	m->step = turn_step_no(r->t);
	buf_init(&m->body, REQUEST_BODY_MAX);
	buf_init(&m->headers, 64 * KIB);
	buf_init(&m->error_body, PROVIDER_ERROR_MAX);
	buf_init(&m->partial, MODEL_TEXT_MAX);
	m->partial_timer = timer_start(r->en->parts.loop, PARTIAL_MS, on_partial_timer, m);
	timer_stop(m->partial_timer);
	r->model = m;
	return m;
}

/* Whether its server ever got the request, nobody knows: it counts. */
static void
tell_crashed(struct model_call *m)
{
	struct err e = { 0 };

	if (!m->r->is_begun || call_request(m, &e) != 0)
		return;
	m->lost_microusd = call_estimate_begun(m, m->r->begun_bytes);
	err_set(&e, ERR_GONE, ERR_TO_USER, "the runtime ended in the middle of the call");
	if (m->lost_microusd > 0)
		call_log_retry(m, run_model(m->r), "crash", 0, STR(""), &e);
}

void
model_start(struct run *r)
{
	struct model_call *m = model_new(r);
	bool recovers = r->recovers;

	m->attempt = r->attempts > 0 ? r->attempts : 1;
	r->attempts = m->attempt;
	r->recovers = false;
	if (!recovers) {
		call_begin(m);
		return;
	}
	tell_crashed(m);
	r->is_begun = false;
	attempt_again(m, true); /* nobody knows what was shown before the crash */
}

void
model_flush(struct run *r)
{
	if (r->model != NULL)
		call_log_partial(r->model);
}

int64_t
model_lost(struct run *r)
{
	return r->model != NULL && turn_state(r->t) == TURN_MODEL ? r->model->lost_microusd + call_estimate(r->model) : 0;
}

void
model_cancel(struct run *r)
{
	struct model_call *m = r->model;

	if (m == NULL)
		return;
	if (r->s != NULL && !r->en->is_stopping)
		call_log_partial(m);
	r->model = NULL;
	if (!m->is_awaited) /* else its callback still comes and frees it */
		call_free(m);
}
