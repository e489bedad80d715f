/* SPDX-License-Identifier: MIT
 * Turns on their way in: submitting, waiting in a session's queue, continuing what was left open. One session works on one
 * turn at a time; what comes meanwhile is logged as queued and started in order. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUED_TURNS_MAX 32
#define OPTIONS_MAX      (16u * KIB) /* of a turn, beside its text */

static void
write_queued(const struct queued *q, struct buf *b)
{
	struct json j;

	json_init(&j, b);
	json_obj(&j);
	json_kv_str(&j, "text", (struct str){ q->text, q->text_n });
	json_kv_z(&j, "model", q->model);
	if (q->mode >= 0)
		json_kv_z(&j, "mode", mode_name((enum mode)q->mode));
	json_kv_bool(&j, "yes", q->yes);
	if (q->effort != NULL)
		json_kv_z(&j, "effort", q->effort);
	if (q->schema != NULL)
		json_kv_raw(&j, "schema", str_of(q->schema));
	if (q->attachments != NULL)
		json_kv_raw(&j, "attachments", str_of(q->attachments));
	json_obj_end(&j);
}

bool
forget_queued(struct active *s, const char *turn)
{
	struct queued **at = &s->queue, *q;

	while (*at != NULL && strcmp((*at)->turn, turn) != 0)
		at = &(*at)->next;
	if (*at == NULL)
		return false;
	q = *at;
	*at = q->next;
	queued_free(q);
	return true;
}

static void
on_queued(void *arg, uint64_t first_seq, const struct err *e)
{
	struct ack *ack = arg;
	struct active *s = e != NULL ? active_find(ack->en, ack->session) : NULL;

	if (s != NULL) /* what is not in the log must not be in memory */
		(void)forget_queued(s, ack->turn);
	if (ack->done != NULL)
		ack->done(ack->arg, ack->session, ack->turn, first_seq, e);
	free(ack);
}

int
engine_check_text(struct str text, struct err *e)
{
	struct json j;
	struct buf b;
	bool fits;

	buf_init(&b, EVENT_BODY_MAX - OPTIONS_MAX);
	json_init(&j, &b);
	json_str(&j, text);
	fits = !b.overflow;
	buf_fini(&b);
	return fits ? 0 : err_set(e, ERR_LIMIT, ERR_TO_USER, "the message has too many control characters: as JSON it is larger "
		"than %u KiB (put it into a file of the workspace)", (EVENT_BODY_MAX - OPTIONS_MAX) / KIB);
}

static void
enqueue(struct active *s, struct queued *q)
{
	struct event_draft d = { .kind = EVENT_TURN_QUEUED, .turn = q->turn, .time_ms = clock_wall_ms() };
	struct batch *batch = batch_new();
	struct queued **at = &s->queue;
	struct ack *ack = xcalloc(1, sizeof *ack);
	struct buf b;

	buf_init(&b, EVENT_BODY_MAX);
	write_queued(q, &b);
	d.body = buf_str(&b);
	BATCH(batch, STMT_TURN_INSERT, V_Z(q->turn), V_Z(s->id), V_Z(s->owner), V_Z("queued"), V_INT(d.time_ms));
	media_keep(batch, s, q->attachments);
	snprintf(ack->session, sizeof ack->session, "%s", s->id);
	snprintf(ack->turn, sizeof ack->turn, "%s", q->turn);
	ack->en = s->en;
	ack->done = q->done;
	ack->arg = q->arg;
	q->done = NULL;
	q->is_logged = true;
	while (*at != NULL)
		at = &(*at)->next;
	*at = q;
	events_append(s->en->parts.events, s->id, &d, 1, batch, on_queued, ack);
	buf_fini(&b);
}

static void
on_submit(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct queued *q = arg;
	size_t n = 0;
	struct err le;

	for (const struct queued *x = s != NULL ? s->queue : NULL; x != NULL; x = x->next)
		n++;
	if (e == NULL && engine_has_turn(en, q->turn)) {
		err_set(&le, ERR_EXISTS, ERR_TO_USER, "turn %s was submitted already", q->turn);
		e = &le;
	} else if (e == NULL && s->is_closing) {
		err_set(&le, ERR_GONE, ERR_TO_USER, "session %s is being deleted", s->id);
		e = &le;
	} else if (e == NULL && n >= QUEUED_TURNS_MAX) {
		err_set(&le, ERR_BUSY, ERR_TO_USER, "%d messages wait in this session already (wait, or cancel its turn)",
			QUEUED_TURNS_MAX);
		e = &le;
	}
	if (e != NULL) {
		q->done(q->arg, "", q->turn, 0, e);
		queued_free(q);
	} else if (s->run != NULL || s->queue != NULL) {
		enqueue(s, q);
	} else {
		run_begin(run_new(s, q->turn), q);
		engine_changed(en);
	}
}

void
engine_submit(struct engine *en, const struct turn_spec *spec, engine_done_fn done, void *arg)
{
	struct queued *q = xcalloc(1, sizeof *q);
	struct err e;

	snprintf(q->turn, sizeof q->turn, "%s", spec->turn != NULL ? spec->turn : id_new().z);
	q->text = str_dup(spec->text);
	q->text_n = spec->text.n;
	q->model = str_dup(spec->model);
	q->attachments = spec->attachments.n > 0 ? str_dup(spec->attachments) : NULL;
	q->mode = spec->mode;
	q->yes = spec->yes;
	q->effort = spec->effort.n > 0 ? str_dup(spec->effort) : NULL;
	q->schema = spec->schema.n > 0 ? str_dup(spec->schema) : NULL;
	q->done = done;
	q->arg = arg;
	if (engine_check_text(spec->text, &e) != 0) {
		done(arg, "", q->turn, 0, &e);
		queued_free(q);
		return;
	}
	active_load(en, spec->session, on_submit, q);
}

static void
on_continue(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct ack *ack = arg;
	const char *turn = "";
	struct err le;

	if (e == NULL && s->is_closing) {
		err_set(&le, ERR_GONE, ERR_TO_USER, "session %s is being deleted", s->id);
		e = &le;
	} else if (e == NULL && s->run != NULL)
		turn = s->run->turn;
	else if (e == NULL && s->queue != NULL)
		turn = s->queue->turn;
	else if (e == NULL && s->recovered[0] != '\0')
		turn = s->recovered; /* it was open, and has ended before anybody asked */
	else if (e == NULL) {
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "nothing is open in session %s (give it a task)", s->id);
		e = &le;
	}
	ack->done(ack->arg, ack->session, turn, 0, e);
	free(ack);
}

void
engine_continue(struct engine *en, const char *session, engine_done_fn done, void *arg)
{
	struct ack *ack = xcalloc(1, sizeof *ack);

	snprintf(ack->session, sizeof ack->session, "%s", session);
	ack->done = done;
	ack->arg = arg;
	active_load(en, session, on_continue, ack);
}
