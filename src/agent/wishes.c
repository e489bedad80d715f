/* SPDX-License-Identifier: MIT
 * What people want of an open turn: to cancel it, to answer what it asks. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* A wish about an open turn; its session may have to be read first. */
struct wish {
	char target[64]; /* turn or approval */
	enum approval_decision decision;
	char by[64];
	engine_done_fn done;
	void *arg;
};

static void
wish_load(struct engine *en, const char *session, const struct wish *wish, session_ready_fn ready)
{
	struct wish *w = xcalloc(1, sizeof *w);

	*w = *wish;
	active_load(en, session, ready, w);
}

static void
wish_fails(struct wish *w, const struct err *e)
{
	w->done(w->arg, "", "", 0, e);
	free(w);
}

static void
on_unqueued(void *arg, uint64_t first_seq, const struct err *e)
{
	struct ack *ack = arg;
	struct active *s = active_find(ack->en, ack->session);

	ack->done(ack->arg, ack->session, ack->turn, first_seq, e);
	free(ack);
	if (s != NULL && s->loading != NULL)
		return; /* it is being read again already */
	if (s != NULL && e != NULL && s->run == NULL)
		active_drop(s); /* the log still has it waiting: it is read again before the next use */
	else if (s != NULL)
		active_idle(s);
}

/* Ends a turn that never began. It leaves the queue at once, so that it cannot begin behind its end. */
static void
unqueue(struct active *s, struct wish *w)
{
	struct event_draft d = { .kind = EVENT_TURN_FINISHED, .turn = w->target, .time_ms = clock_wall_ms() };
	struct batch *batch = batch_new();
	struct ack *ack = xcalloc(1, sizeof *ack);
	char message[128];
	struct json j;
	struct buf b;

	(void)forget_queued(s, w->target);
	snprintf(message, sizeof message, "cancelled by %s before it began", w->by);
	buf_init(&b, 4 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "status", turn_status_name(TURN_CANCELLED));
	json_kv_z(&j, "text", "");
	json_key(&j, "error");
	json_obj(&j);
	json_kv_z(&j, "code", err_name(ERR_CANCELLED));
	json_kv_z(&j, "message", message);
	json_obj_end(&j);
	json_obj_end(&j);
	d.body = buf_str(&b);
	snprintf(ack->session, sizeof ack->session, "%s", s->id);
	snprintf(ack->turn, sizeof ack->turn, "%.26s", w->target);
	ack->en = s->en;
	ack->done = w->done;
	ack->arg = w->arg;
	BATCH(batch, STMT_TURN_END, V_Z(w->target), V_Z("ended"), V_Z(turn_status_name(TURN_CANCELLED)), V_INT(d.time_ms),
		V_INT(0));
	events_append(s->en->parts.events, s->id, &d, 1, batch, on_unqueued, ack);
	buf_fini(&b);
}

static bool
is_queued(const struct active *s, const char *turn)
{
	const struct queued *q = s->queue;

	while (q != NULL && strcmp(q->turn, turn) != 0)
		q = q->next;
	return q != NULL && q->is_logged;
}

static void
on_cancel(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct wish *w = arg;
	struct run *r = s != NULL ? s->run : NULL;
	struct err le;

	if (e == NULL && s->is_closing) {
		err_set(&le, ERR_GONE, ERR_TO_USER, "session %s is being deleted", s->id);
		e = &le;
	} else if (e == NULL && is_queued(s, w->target)) {
		unqueue(s, w);
		free(w);
		return;
	}
	if (e == NULL && (r == NULL || r->has_failed || turn_state(r->t) == TURN_END || strcmp(r->turn, w->target) != 0)) {
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "turn %s is not running", w->target);
		e = &le;
	}
	if (e != NULL) {
		wish_fails(w, e);
		return;
	}
	if (turn_state(r->t) == TURN_STOP || turn_state(r->t) == TURN_COLLECT)
		w->done(w->arg, s->id, r->turn, 0, NULL); /* a second wish changes nothing, nor one at its end */
	else
		run_cancel(r, w->by, w->done, w->arg);
	free(w);
}

void
engine_cancel(struct engine *en, const char *session, const char *turn, const char *by, engine_done_fn done, void *arg)
{
	struct wish w = { .done = done, .arg = arg };

	snprintf(w.target, sizeof w.target, "%s", turn);
	snprintf(w.by, sizeof w.by, "%s", by);
	wish_load(en, session, &w, on_cancel);
}

static const char *const approval_names[] = { "allow_once", "allow_always", "deny" };

static void
approve(struct run *r, const struct turn_call *c, const struct wish *w)
{
	struct json j;
	struct buf b;

	buf_init(&b, 64 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "id", c->effect);
	json_kv_int(&j, "index", c - turn_call(r->t, 0));
	json_kv_str(&j, "hash", c->hash);
	json_kv_z(&j, "decision", approval_names[w->decision]);
	json_kv_z(&j, "by", w->by);
	if (w->decision == APPROVE_ALWAYS) {
		json_kv_str(&j, "rule", c->always);
		always_add(r->s, c->always);
	}
	json_obj_end(&j);
	run_input_acked(r, EVENT_APPROVAL_RESOLVED, buf_str(&b), w->done, w->arg);
	buf_fini(&b);
}

static void
on_approve(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct wish *w = arg;
	struct run *r = s != NULL ? s->run : NULL;
	const struct turn_call *c = r != NULL && !r->has_failed ? turn_asks(r->t) : NULL;
	struct err le;

	if (e != NULL)
		err_copy(&le, e);
	else if (c == NULL || strcmp(c->effect, w->target) != 0)
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "approval %s is not pending (see `ithaca approval list`)", w->target);
	else if (clock_wall_ms() >= turn_asked_ms(r->t) + APPROVAL_EXPIRES_MS) { /* the machine slept: no timer ran */
		run_expire(r);
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "approval %s has expired (give the task again)", w->target);
	} else if (w->decision == APPROVE_ALWAYS && c->always.n == 0)
		err_set(&le, ERR_INVALID, ERR_TO_USER,
			"this call cannot be allowed always: no exact rule covers it (allow it once)");
	else {
		approve(r, c, w);
		free(w);
		return;
	}
	wish_fails(w, &le);
}

void
engine_approve(struct engine *en, const char *session, const char *approval, enum approval_decision d, const char *by,
	engine_done_fn done, void *arg)
{
	struct wish w = { .decision = d, .done = done, .arg = arg };

	snprintf(w.target, sizeof w.target, "%s", approval);
	snprintf(w.by, sizeof w.by, "%s", by);
	wish_load(en, session, &w, on_approve);
}
