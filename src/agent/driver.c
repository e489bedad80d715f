/* SPDX-License-Identifier: MIT
 * The driver of a turn. Invariant: an effect starts only after the events that asked for it are durable. What one input
 * causes without waiting (checking calls, intents of tools that need no preparation) goes into the same commit. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/blob.h"

#include <stdlib.h>
#include <stdio.h>

/* One input with all that follows from it at once. */
struct pass {
	struct run *r;
	struct arena *a; /* bodies and what is parsed of them, until they are on their way */
	int64_t now_ms;
	struct event_draft *drafts;
	size_t drafts_n, drafts_cap;
	struct turn_effect *effects;
	size_t effects_n, effects_cap, effects_at;
	struct turn_effect *later; /* those that wait for the commit */
	size_t later_n, later_cap;
	struct batch *batch;
	struct queued *begins; /* to be acknowledged */
	engine_done_fn done; /* another one who waits for an acknowledgement */
	void *done_arg;
	struct err error; /* the machine and the log disagree */
};

struct run *
run_new(struct active *s, const char *turn)
{
	struct run *r = xcalloc(1, sizeof *r);

	r->refs = 1;
	r->en = s->en;
	r->s = s;
	snprintf(r->turn, sizeof r->turn, "%s", turn);
	r->a = arena_new(TURN_ARENA_MAX);
	r->t = turn_new(r->a, turn);
	buf_init(&r->inbox_notes, INBOX_NOTES_MAX);
	s->run = r;
	return r;
}

struct run *
run_ref(struct run *r)
{
	r->refs++;
	return r;
}

void
run_unref(struct run *r)
{
	if (--r->refs > 0)
		return;
	turn_fini(r->t);
	arena_free(r->a);
	free(r->effects);
	free(r->output_ends);
	buf_fini(&r->inbox_notes);
	free(r);
}

/* ---- projections: rows that mirror the log, in the same commit ---- */

static const char *
draft_z(const struct node *body, const char *key)
{
	return node_z(body, key, "");
}

static void
project_approval(struct pass *p, enum event_kind kind, struct str text, const struct node *body)
{
	struct run *r = p->r;

	if (kind == EVENT_APPROVAL_REQUESTED) {
		BATCH(p->batch, STMT_APPROVAL_INSERT, V_Z(draft_z(body, "id")), V_Z(r->s->id), V_Z(r->turn),
			V_Z(r->s->owner), V_Z(draft_z(body, "hash")), V_BYTES(text), V_INT(p->now_ms),
			V_INT(node_int(body, "expires_at_ms", 0)));
		BATCH(p->batch, STMT_TURN_STATE, V_Z(r->turn), V_Z("waiting"));
		return;
	}
	BATCH(p->batch, STMT_APPROVAL_END, V_Z(draft_z(body, "id")),
		V_Z(kind == EVENT_APPROVAL_EXPIRED ? "expired" : draft_z(body, "decision")), V_INT(p->now_ms));
	BATCH(p->batch, STMT_TURN_STATE, V_Z(r->turn), V_Z("running"));
}

static void
project(struct pass *p, enum event_kind kind, struct str text, const struct node *body)
{
	struct run *r = p->r;

	switch (kind) {
	case EVENT_TURN_STARTED:
		if (p->begins != NULL && p->begins->is_logged)
			BATCH(p->batch, STMT_TURN_STATE, V_Z(r->turn), V_Z("running"));
		else
			BATCH(p->batch, STMT_TURN_INSERT, V_Z(r->turn), V_Z(r->s->id), V_Z(r->s->owner),
				V_Z("running"), V_INT(p->now_ms));
		break;
	case EVENT_EFFECT_INTENT:
		BATCH(p->batch, STMT_EFFECT_INSERT, V_Z(draft_z(body, "effect")), V_Z(r->s->id), V_Z(r->turn),
			V_Z(draft_z(body, "tool")), V_Z(draft_z(body, "class")), V_INT(p->now_ms));
		break;
	case EVENT_EFFECT_OUTCOME:
		BATCH(p->batch, STMT_EFFECT_END, V_Z(draft_z(body, "effect")), V_Z(draft_z(body, "state")),
			V_INT(p->now_ms));
		break;
	case EVENT_APPROVAL_REQUESTED:
	case EVENT_APPROVAL_RESOLVED:
	case EVENT_APPROVAL_EXPIRED:
		project_approval(p, kind, text, body);
		break;
	case EVENT_TURN_STOPPING:
		BATCH(p->batch, STMT_APPROVAL_CLOSE, V_Z(r->s->id), V_Z(r->turn), V_INT(p->now_ms));
		break;
	case EVENT_TURN_FILES:
		for (size_t i = 0; i < node_len(node_get(body, "files")); i++)
			blob_keep(p->batch, r->s->owner, node_str(node_at(node_get(body, "files"), i), "blob", STR("")), r->s->id);
		break;
	case EVENT_TURN_FINISHED:
		BATCH(p->batch, STMT_TURN_END, V_Z(r->turn), V_Z("ended"), V_Z(draft_z(body, "status")),
			V_INT(p->now_ms), V_INT(turn_spent(r->t)->microusd));
		money_project(p->batch, r->s->owner, r->s->agent, p->now_ms, turn_spent(r->t));
		break;
	default:
		break;
	}
}

/* ---- one pass ---- */

/* Adds an event to the commit, to the projections and to the transcript. */
static const struct node *
pass_event(struct pass *p, enum event_kind kind, struct str text)
{
	struct str body = arena_str(p->a, text);
	const struct node *n = &node_null;
	struct err e = { 0 };

	if (json_parse(p->a, body, &n, &e) != 0 || transcript_add(p->r->s->tr, kind, n, &e) != 0) {
		if (p->error.code == 0)
			p->error = e;
		return NULL;
	}
	p->drafts = vec_grow(p->drafts, &p->drafts_cap, p->drafts_n + 1, sizeof *p->drafts);
	p->drafts[p->drafts_n++] =
		(struct event_draft){ .kind = kind, .turn = p->r->turn, .time_ms = p->now_ms, .body = body };
	project(p, kind, body, n);
	return n;
}

static void
pass_input(struct pass *p, enum event_kind kind, struct str body)
{
	const struct node *n = pass_event(p, kind, body);
	struct turn_input in = { kind, n, p->now_ms };
	struct turn_out out;

	if (n == NULL || turn_step(p->r->t, &in, &out, &p->error) != 0)
		return;
	for (size_t i = 0; i < out.events_n; i++)
		pass_event(p, out.events[i].kind, out.events[i].body);
	p->effects = vec_grow(p->effects, &p->effects_cap, p->effects_n + out.effects_n, sizeof *p->effects);
	if (out.effects_n > 0)
		memcpy(p->effects + p->effects_n, out.effects, out.effects_n * sizeof *out.effects);
	p->effects_n += out.effects_n;
}

static void
write_intent(struct run *r, size_t index, struct str probe, struct json *j)
{
	const struct turn_call *c = turn_call(r->t, index);
	const struct tool *tool = registry_find(r->en->parts.registry, c->tool);

	json_obj(j);
	json_kv_z(j, "effect", c->effect);
	json_kv_int(j, "index", (int64_t)index);
	json_kv_str(j, "call", c->call_id);
	json_kv_str(j, "tool", c->tool);
	json_kv_node(j, "args", c->checked);
	json_kv_z(j, "class", effect_class_name(tool->recovery));
	if (probe.n > 0)
		json_kv_raw(j, "probe", probe);
	json_obj_end(j);
}

void
intent_body(struct run *r, size_t index, struct str probe, struct buf *b)
{
	struct json j;

	json_init(&j, b);
	write_intent(r, index, probe, &j);
}

/* Effects that need no waiting are inputs of the same pass; the others start when it is durable. */
static void
pass_effects(struct pass *p)
{
	while (p->effects_at < p->effects_n && p->error.code == 0) {
		struct turn_effect ef = p->effects[p->effects_at++];
		const struct turn_call *c = turn_call(p->r->t, ef.index);
		struct buf b;

		if (ef.type == DO_ADMIT && turn_state(p->r->t) != TURN_ADMIT)
			continue; /* the guard ended the turn at an earlier call */
		buf_init(&b, EVENT_BODY_MAX);
		if (ef.type == DO_ADMIT) {
			admit_call(p->r, ef.index, p->a, &b);
			pass_input(p, EVENT_TOOL_REQUESTED, buf_str(&b));
		} else if (ef.type == DO_PREPARE &&
			registry_find(p->r->en->parts.registry, c->tool)->prepare == NULL) {
			intent_body(p->r, ef.index, STR(""), &b);
			pass_input(p, EVENT_EFFECT_INTENT, buf_str(&b));
		} else {
			p->later = vec_grow(p->later, &p->later_cap, p->later_n + 1, sizeof *p->later);
			p->later[p->later_n++] = ef;
		}
		buf_fini(&b);
	}
}

static void
pass_free(struct pass *p)
{
	run_unref(p->r);
	arena_free(p->a);
	free(p->drafts);
	free(p->effects);
	free(p->later);
	free(p);
}

/* ---- effects ---- */

void
run_detach(struct run *r)
{
	model_cancel(r);
	effects_cancel(r, true);
	outbox_detach(r);
	timer_close(r->deadline);
	r->deadline = NULL;
	r->s->run = NULL;
	r->s = NULL;
	run_unref(r);
}

static void
run_over(struct run *r)
{
	struct active *s = r->s;

	s->spent_microusd += turn_spent(r->t)->microusd;
	money_turn_ended(r);
	run_detach(r);
	active_idle(s);
}

void
run_expire(struct run *r)
{
	const struct turn_call *c = turn_asks(r->t);
	struct buf b;
	struct json j;

	buf_init(&b, 1024);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "id", c->effect);
	json_kv_int(&j, "index", c - turn_call(r->t, 0));
	json_obj_end(&j);
	run_input(r, EVENT_APPROVAL_EXPIRED, buf_str(&b));
	buf_fini(&b);
}

static void
on_deadline(void *arg)
{
	struct run *r = arg;

	if (turn_state(r->t) != TURN_ASK) {
		run_stop(r, "limit", "turn_ms", "limits.turn_ms was reached (raise it in the configuration)");
		return;
	}
	run_expire(r);
}

/* A turn that waits for a person has the time of the approval, one that works the time of the turn. */
static void
set_deadline(struct run *r)
{
	int64_t limit_ms = node_int(node_get(turn_options(r->t), "limits"), "turn_ms", 0);
	int64_t ms = MAX(1, limit_ms - (clock_wall_ms() - turn_work_began_ms(r->t)));

	if (turn_state(r->t) == TURN_ASK)
		ms = MAX(1, turn_asked_ms(r->t) + APPROVAL_EXPIRES_MS - clock_wall_ms());
	if (turn_state(r->t) == TURN_STOP || turn_state(r->t) == TURN_COLLECT) { /* what runs was told; it ends by itself */
		timer_close(r->deadline);
		r->deadline = NULL;
	} else if (r->deadline == NULL)
		r->deadline = timer_start(r->en->parts.loop, ms, on_deadline, r);
	else
		timer_again(r->deadline, ms);
}

static void
start_effect(struct run *r, const struct turn_effect *ef)
{
	switch (ef->type) {
	case DO_MODEL:
		r->attempts = r->failures = 0;
		r->text_shown = r->is_narrowed = false;
		model_start(r);
		break;
	case DO_PREPARE:
		effect_prepare(r, ef->index);
		break;
	case DO_RUN:
		effect_run(r, ef->index);
		break;
	case DO_ASK:
		engine_changed(r->en);
		break;
	case DO_CANCEL:
		model_cancel(r);
		effects_cancel(r, false);
		break;
	case DO_COLLECT:
		outbox_collect(r);
		break;
	case DO_END:
		run_over(r);
		break;
	case DO_ADMIT: /* never waits */
		break;
	}
}

static void
pass_durable(void *arg, uint64_t first_seq, const struct err *e)
{
	struct pass *p = arg;
	struct run *r = p->r;

	if (p->begins != NULL) {
		struct queued *q = p->begins;

		if (q->done != NULL)
			q->done(q->arg, r->s != NULL ? r->s->id : "", r->turn, first_seq, e);
		queued_free(q);
	}
	if (p->done != NULL)
		p->done(p->done_arg, r->s != NULL ? r->s->id : "", r->turn, first_seq, e);
	if (e != NULL && r->s != NULL)
		run_suspend(r, e);
	for (size_t i = 0; i < p->later_n && r->s != NULL && !r->has_failed && !r->en->is_stopping; i++)
		start_effect(r, &p->later[i]);
	if (r->s != NULL && !r->has_failed && !r->en->is_stopping)
		set_deadline(r);
	pass_free(p);
}

static void
on_failed(void *arg, uint64_t first_seq, const struct err *e)
{
	struct run *r = arg;
	struct engine *en = r->en;
	char id[ID_SIZE];

	if (r->s != NULL && e != NULL) {
		run_suspend(r, e);
	} else if (r->s != NULL) { /* what is in memory has seen events that the log has not */
		money_turn_ended(r);
		snprintf(id, sizeof id, "%s", r->s->id);
		active_drop(r->s);
		active_load(en, id, active_loaded, NULL);
	}
	run_unref(r);
}

void
run_fail(struct run *r, const struct err *why)
{
	struct event_draft d = { .kind = EVENT_TURN_FINISHED, .turn = r->turn, .time_ms = clock_wall_ms() };
	const struct expense *spent = turn_spent(r->t);
	struct batch *batch = batch_new();
	struct buf b;
	struct json j;

	r->has_failed = true;
	model_cancel(r);
	effects_cancel(r, false);
	buf_init(&b, 8 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "status", turn_status_name(TURN_FAILED));
	json_kv_z(&j, "text", "");
	json_kv_str(&j, "model", node_str(turn_options(r->t), "model", STR("")));
	json_kv_int(&j, "cost_microusd", spent->microusd);
	if (spent->estimated > 0)
		json_kv_int(&j, "estimated_microusd", spent->estimated);
	json_kv_int(&j, "steps", turn_step_no(r->t));
	json_key(&j, "error");
	json_obj(&j);
	json_kv_err(&j, why);
	json_obj_end(&j);
	json_obj_end(&j);
	d.body = buf_str(&b);
	BATCH(batch, STMT_APPROVAL_CLOSE, V_Z(r->s->id), V_Z(r->turn), V_INT(d.time_ms));
	BATCH(batch, STMT_TURN_END, V_Z(r->turn), V_Z("ended"), V_Z(turn_status_name(TURN_FAILED)), V_INT(d.time_ms),
		V_INT(spent->microusd));
	money_project(batch, r->s->owner, r->s->agent, d.time_ms, spent);
	events_append(r->en->parts.events, r->s->id, &d, 1, batch, on_failed, run_ref(r));
	buf_fini(&b);
}

static void
pass_commit(struct pass *p)
{
	pass_effects(p);
	if (p->error.code != 0 && p->begins == NULL) {
		log_error("the turn cannot go on", LOG_S("session", p->r->s->id), LOG_S("turn", p->r->turn),
			LOG_E(&p->error));
		batch_free(p->batch);
		if (p->done != NULL)
			p->done(p->done_arg, "", p->r->turn, 0, &p->error);
		run_fail(p->r, &p->error);
		pass_free(p);
		return;
	}
	if (p->error.code != 0) { /* nothing of it is in the log */
		log_error("the turn cannot go on", LOG_S("session", p->r->s->id), LOG_S("turn", p->r->turn),
			LOG_E(&p->error));
		batch_free(p->batch);
		p->batch = NULL;
		p->later_n = 0;
		pass_durable(p, 0, &p->error);
		return;
	}
	events_append(p->r->en->parts.events, p->r->s->id, p->drafts, p->drafts_n, p->batch, pass_durable, p);
	arena_reset(p->a); /* the log has its own copies */
}

static struct pass *
pass_new(struct run *r)
{
	struct pass *p = xcalloc(1, sizeof *p);

	p->r = run_ref(r);
	p->a = arena_new(TURN_ARENA_MAX);
	p->now_ms = clock_wall_ms();
	p->batch = batch_new();
	return p;
}

void
run_input_acked(struct run *r, enum event_kind kind, struct str body, engine_done_fn done, void *arg)
{
	struct pass *p = pass_new(r);

	p->done = done;
	p->done_arg = arg;
	pass_input(p, kind, body);
	pass_commit(p);
}

void
run_input(struct run *r, enum event_kind kind, struct str body)
{
	if (r->s != NULL && !r->has_failed && turn_state(r->t) != TURN_END)
		run_input_acked(r, kind, body, NULL, NULL);
}

/* What was asked for, but never more than the workspace's file allows. */
static enum mode
mode_of(const struct active *s, const struct queued *q)
{
	enum mode mode = q->mode >= 0 ? (enum mode)q->mode : s->mode, most;

	if (config_origin(s->config, STR("mode")).layer != LAYER_WORKSPACE ||
		mode_parse(str_of(config_z(s->config, "mode")), &most) != 0)
		return mode;
	return MIN(mode, most);
}

void
write_options(struct run *r, const struct queued *q, struct json *j)
{
	const struct config *c = r->s->config;
	const char *model = q->model != NULL && q->model[0] != '\0' ? q->model : role_model(c, ROLE_MAIN);
	const struct node *fallback = config_get(c, "models.fallback");

	json_obj(j);
	json_kv_z(j, "model", model);
	json_key(j, "fallback");
	json_arr(j);
	for (size_t i = 0; i < node_len(fallback); i++)
		if (!str_is(node_at(fallback, i)->s, model))
			json_str(j, node_at(fallback, i)->s);
	json_arr_end(j);
	json_kv_z(j, "effort", q->effort != NULL ? q->effort : config_z(c, "reasoning"));
	if (q->schema != NULL)
		json_kv_raw(j, "schema", str_of(q->schema));
	json_kv_z(j, "agent", r->s->agent);
	json_kv_z(j, "mode", mode_name(mode_of(r->s, q)));
	json_kv_bool(j, "yes", q->yes);
	json_kv_z(j, "workspace", r->s->workspace);
	json_key(j, "limits");
	json_obj(j);
	json_kv_int(j, "turn_steps", config_int(c, "limits.turn_steps"));
	json_kv_int(j, "turn_ms", config_int(c, "limits.turn_ms"));
	json_kv_int(j, "turn_tokens", config_int(c, "limits.turn_tokens"));
	json_kv_int(j, "turn_cost_microusd", config_microusd(c, "limits.turn_cost_usd"));
	json_obj_end(j);
	json_obj_end(j);
}

static void
pass_notice(struct pass *p, const char *code, const char *text)
{
	struct buf b;
	struct json j;

	buf_init(&b, 8 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "level", "warn");
	json_kv_z(&j, "code", code);
	json_kv_z(&j, "text", text);
	json_obj_end(&j);
	pass_event(p, EVENT_NOTICE, buf_str(&b));
	buf_fini(&b);
}

/* What the workspace's file asked for and may not have is told once. */
static void
pass_refused(struct pass *p)
{
	struct active *s = p->r->s;

	for (size_t i = 0; i < s->notices_n; i++) {
		pass_notice(p, "workspace_config", s->notices[i]);
		free(s->notices[i]);
	}
	s->notices_n = 0;
}

/* What nobody knows of a model that the turn may ask, its price above all. */
static void
pass_model_notice(struct pass *p, struct str model)
{
	struct arena *a = arena_new(TURN_ARENA_MAX);
	struct model_info info;
	const char *text = model_resolve(p->r->s->config, model, a, &info, NULL) == 0 ? model_notice(&info, a) : NULL;

	if (text != NULL)
		pass_notice(p, "model", text);
	arena_free(a);
}

/* Behind turn.started, whose options they are about. */
static void
pass_model_notices(struct pass *p)
{
	const struct node *options = turn_options(p->r->t), *fallback = node_get(options, "fallback");

	pass_model_notice(p, node_str(options, "model", STR("")));
	for (size_t i = 0; i < node_len(fallback); i++)
		pass_model_notice(p, node_at(fallback, i)->s);
}

void
run_begin(struct run *r, struct queued *q)
{
	struct pass *p = pass_new(r);
	struct buf b;
	struct json j;

	p->begins = q;
	r->s->recovered[0] = '\0';
	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, "text", (struct str){ q->text, q->text_n });
	if (q->attachments != NULL)
		json_kv_raw(&j, "attachments", str_of(q->attachments));
	json_obj_end(&j);
	pass_event(p, EVENT_USER_MESSAGE, buf_str(&b));
	if (!q->is_logged) /* else the commit of turn.queued did */
		media_keep(p->batch, r->s, q->attachments);
	pass_refused(p);
	buf_reset(&b);
	json_init(&j, &b);
	write_options(r, q, &j);
	pass_input(p, EVENT_TURN_STARTED, buf_str(&b));
	buf_fini(&b);
	if (p->error.code == 0)
		pass_model_notices(p);
	run_env(r);
	pass_commit(p);
}

static void
stop_body(struct run *r, struct buf *b, const char *why, const char *code, const char *message)
{
	struct json j;

	buf_init(b, 8 * KIB);
	json_init(&j, b);
	json_obj(&j);
	json_kv_z(&j, "why", why);
	json_kv_z(&j, "code", code);
	json_kv_z(&j, "message", message);
	write_lost(&j, model_lost(r));
	json_obj_end(&j);
}

void
run_stop(struct run *r, const char *why, const char *code, const char *message)
{
	struct buf b;

	if (turn_state(r->t) == TURN_STOP || turn_state(r->t) == TURN_COLLECT)
		return; /* a second wish changes nothing */
	model_flush(r);
	stop_body(r, &b, why, code, message);
	run_input(r, EVENT_TURN_STOPPING, buf_str(&b));
	buf_fini(&b);
}

void
run_cancel(struct run *r, const char *by, engine_done_fn done, void *arg)
{
	char message[128];
	struct buf b;

	model_flush(r);
	snprintf(message, sizeof message, "cancelled by %s", by);
	stop_body(r, &b, "cancelled", "cancelled", message);
	run_input_acked(r, EVENT_TURN_STOPPING, buf_str(&b), done, arg);
	buf_fini(&b);
}

/* Live subscribers learn that nothing more will come from this process, for the turn that runs and for those that wait. */
void
active_tell_suspended(struct active *s, const struct err *e)
{
	struct events *events = s->en->parts.events;
	struct buf b;
	struct json j;

	buf_init(&b, 8 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_err(&j, e);
	json_obj_end(&j);
	if (s->run != NULL)
		events_live(events, s->id, EVENT_TURN_SUSPENDED, s->run->turn, buf_str(&b));
	for (const struct queued *q = s->queue; q != NULL; q = q->next)
		events_live(events, s->id, EVENT_TURN_SUSPENDED, q->turn, buf_str(&b));
	buf_fini(&b);
}

void
run_suspend(struct run *r, const struct err *e)
{
	active_tell_suspended(r->s, e);
	active_drop(r->s); /* the log is the truth: it is read again before the next use */
}

/* ---- recovery ---- */

int
run_replay(struct run *r, enum event_kind kind, const struct node *body, int64_t time_ms, struct err *e)
{
	struct turn_input in = { kind, body, time_ms };
	struct turn_out out;

	if (kind == EVENT_MODEL_STARTED || kind == EVENT_MODEL_RETRY)
		r->attempts = MAX(r->attempts, node_int(body, "attempt", 1));
	if (kind == EVENT_MODEL_STARTED) {
		run_set_model(r, node_str(body, "model", STR("")));
		r->is_begun = true;
		r->begun_bytes = 0;
	}
	if (kind == EVENT_MODEL_RETRY) {
		run_set_model(r, node_str(body, "next", STR("")));
		r->failures = retry_failures(body, r->failures);
		r->is_begun = false;
	}
	if (kind == EVENT_CONTEXT_BUILT) {
		r->view_bytes_max = (size_t)MAX(node_int(body, "max_bytes", 0), 0);
		r->is_narrowed = true;
	}
	if (kind == EVENT_MODEL_DONE) {
		r->is_begun = false;
		r->attempts = r->failures = 0;
		r->output_ends_n = 0;
		r->text_shown = r->is_narrowed = false;
	}
	if (kind == EVENT_EFFECT_OUTCOME)
		r->has_inbox = r->has_inbox || str_is(node_str(body, "state", STR("")), "done");
	if (kind == EVENT_TOOL_PARTIAL)
		effect_replay_output(r, body);
	if (kind == EVENT_MODEL_PARTIAL) {
		r->text_shown = true;
		r->begun_bytes += node_str(body, "text", STR("")).n;
	}
	if ((event_kind_flags(kind) & EVENT_INPUT) == 0)
		return 0;
	return turn_step(r->t, &in, &out, e);
}

void
run_resume(struct run *r)
{
	enum turn_state state = turn_state(r->t);
	struct pass *p;

	if (r->en->is_stopping)
		return;
	run_env(r);
	set_deadline(r);
	run_ref(r); /* an input that cannot be logged drops the run at once */
	switch (state) {
	case TURN_MODEL:
		r->recovers = true;
		model_start(r);
		break;
	case TURN_ADMIT:
		p = pass_new(r);
		p->effects = vec_grow(NULL, &p->effects_cap, turn_calls(r->t), sizeof *p->effects);
		for (size_t i = 0; i < turn_calls(r->t); i++)
			if (turn_call(r->t, i)->state == CALL_NEW)
				p->effects[p->effects_n++] = (struct turn_effect){ .type = DO_ADMIT, .index = i };
		pass_commit(p);
		break;
	case TURN_TOOLS:
	case TURN_STOP:
		for (size_t i = 0; r->s != NULL && i < turn_calls(r->t); i++) {
			if (turn_call(r->t, i)->state == CALL_PREPARES)
				effect_prepare(r, i);
			else if (turn_call(r->t, i)->state == CALL_RUNS)
				effect_recover(r, i);
		}
		if (state == TURN_STOP && r->s != NULL)
			effects_cancel(r, false);
		break;
	case TURN_COLLECT:
		outbox_collect(r);
		break;
	default: /* TURN_ASK waits, the others have nothing under way */
		break;
	}
	run_unref(r);
}
