/* SPDX-License-Identifier: MIT
 * The engine: the table of active sessions, their making and deletion, and what a link that comes or goes means for all
 * of them. Turns come in by submit.c; what people want of an open one is in wishes.c. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "store/blob.h"

#include <stdlib.h>
#include <stdio.h>

#define TABLE_SIZE       4096
#define IDLE_KEPT        64 /* idle sessions that stay in memory ... */
#define IDLE_BYTES       (64u * MIB) /* ... and what their conversations may take */

/* ---- the table ---- */

static struct active **
chain(struct engine *en, const char *id)
{
	return &en->table[hash64(str_of(id)) % TABLE_SIZE];
}

struct active *
active_find(struct engine *en, const char *id)
{
	struct active *s = *chain(en, id);

	while (s != NULL && strcmp(s->id, id) != 0)
		s = s->next;
	return s;
}

void
active_insert(struct active *s)
{
	struct active **at = chain(s->en, s->id);

	s->next = *at;
	*at = s;
	s->en->active_n++;
}

void
queued_free(struct queued *q)
{
	free(q->text);
	free(q->model);
	free(q->effort);
	free(q->schema);
	free(q->attachments);
	free(q);
}

void
active_drop(struct active *s)
{
	struct engine *en = s->en;
	struct active **at = chain(en, s->id);

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	en->active_n--;
	while (s->queue != NULL) {
		struct queued *q = s->queue;

		s->queue = q->next;
		queued_free(q);
	}
	if (s->run != NULL)
		run_detach(s->run);
	for (size_t i = 0; i < s->always_n; i++)
		free(s->always[i]);
	for (size_t i = 0; i < s->notices_n; i++)
		free(s->notices[i]);
	free(s->always);
	free(s->notices);
	policy_free(s->policy);
	config_unref(s->config);
	transcript_free(s->tr);
	media_forget(s);
	events_forget(s->en->parts.events, s->id);
	free(s->owner);
	free(s->agent);
	free(s->workspace);
	free(s->cell_state);
	buf_fini(&s->egress_notes);
	buf_fini(&s->egress_facts);
	free(s);
	engine_changed(en);
}

static bool
active_is_idle(const struct active *s)
{
	return s->run == NULL && s->queue == NULL && s->loading == NULL && !s->is_closing;
}

/* The idle session that was used least recently, when there are too many, or too much is kept of them. The newest one
 * stays, however large it is: somebody works with it. */
static struct active *
one_too_many(const struct engine *en)
{
	struct active *oldest = NULL;
	size_t idle = 0, bytes = 0;

	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct active *s = en->table[i]; s != NULL; s = s->next)
			if (active_is_idle(s)) {
				idle++;
				bytes += transcript_memory(s->tr);
				if (oldest == NULL || s->used_ms < oldest->used_ms)
					oldest = s;
			}
	return idle > IDLE_KEPT || (idle > 1 && bytes > IDLE_BYTES) ? oldest : NULL;
}

/* A dropped session is read again when it is needed, and its cell ends. */
static void
drop_idle(struct engine *en)
{
	struct active *oldest;
	struct err e;

	while ((oldest = one_too_many(en)) != NULL) {
		if (sandbox_is_up(en->parts.sandbox) &&
			sandbox_cell_close(en->parts.sandbox, oldest->cell, false, NULL, NULL, &e) != 0)
			log_debug("cell not closed", LOG_S("session", oldest->id), LOG_E(&e));
		egress_withdraw(oldest);
		active_drop(oldest);
	}
}

void
active_idle(struct active *s)
{
	struct engine *en = s->en;
	struct queued *q = s->queue;

	s->used_ms = loop_now_ms(s->en->parts.loop);
	if (s->run == NULL)
		media_forget(s);
	if (s->run == NULL && s->loading == NULL && !s->is_closing && q != NULL) {
		s->queue = q->next;
		run_begin(run_new(s, q->turn), q);
		return;
	}
	if (active_is_idle(s))
		drop_idle(en); /* perhaps s itself */
	engine_changed(en);
}

/* ---- busy or idle ---- */

/* Runs that work: those that wait for a person hold nothing. */
static bool
run_works(const struct run *r)
{
	return r != NULL && turn_state(r->t) != TURN_ASK;
}

void
engine_changed(struct engine *en)
{
	en->parts.on_busy(en->parts.arg);
}

void
engine_each_run(const struct engine *en, run_fn fn, void *arg)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (const struct active *s = en->table[i]; s != NULL; s = s->next)
			if (s->run != NULL)
				fn(arg, s->run);
}

bool
engine_is_idle(const struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (const struct active *s = en->table[i]; s != NULL; s = s->next)
			if (s->loading != NULL || s->is_closing || run_works(s->run) || (s->queue != NULL && s->run == NULL))
				return false;
	return en->embeddings == NULL;
}

bool
engine_has_turn(const struct engine *en, const char *turn)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (const struct active *s = en->table[i]; s != NULL; s = s->next) {
			if (s->run != NULL && strcmp(s->run->turn, turn) == 0)
				return true;
			for (const struct queued *q = s->queue; q != NULL; q = q->next)
				if (strcmp(q->turn, turn) == 0)
					return true;
		}
	return false;
}

/* ---- sessions ---- */

static void
on_created(void *arg, uint64_t first_seq, const struct err *e)
{
	struct ack *ack = arg;
	struct active *s = e != NULL ? active_find(ack->en, ack->session) : NULL;

	if (s != NULL)
		active_drop(s);
	if (ack->done != NULL)
		ack->done(ack->arg, ack->session, "", first_seq, e);
	s = e == NULL ? active_find(ack->en, ack->session) : NULL;
	if (s != NULL && active_is_idle(s))
		active_idle(s);
	free(ack);
}

int
engine_session_create(struct engine *en, const struct session_spec *spec, struct id *out, engine_done_fn done,
	void *arg, struct err *e)
{
	struct event_draft d = { .kind = EVENT_SESSION_CREATED, .time_ms = clock_wall_ms() };
	struct id id = id_new();
	struct active *s;
	struct batch *batch;
	struct ack *ack;
	struct json j;
	struct buf b;
	int rc = active_create(en, id.z, spec, &s, e);

	if (rc != 0)
		return rc;
	batch = batch_new();
	BATCH(batch, STMT_SESSION_INSERT, V_Z(id.z), V_TEXT(spec->owner), V_TEXT(spec->name), V_TEXT(spec->agent),
		V_TEXT(spec->workspace), V_Z(mode_name(spec->mode)), V_INT(d.time_ms));
	buf_init(&b, 64 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, "name", spec->name);
	json_kv_str(&j, "agent", spec->agent);
	json_kv_str(&j, "workspace", spec->workspace);
	json_kv_z(&j, "mode", mode_name(spec->mode));
	json_obj_end(&j);
	d.body = buf_str(&b);
	ack = xcalloc(1, sizeof *ack);
	ack->en = en;
	snprintf(ack->session, sizeof ack->session, "%s", id.z);
	ack->done = done;
	ack->arg = arg;
	s->used_ms = loop_now_ms(en->parts.loop);
	events_append(en->parts.events, id.z, &d, 1, batch, on_created, ack);
	buf_fini(&b);
	*out = id;
	return 0;
}

struct deletion {
	struct engine *en;
	struct ack ack;
	struct expense spent; /* by the turn that was open */
	char *owner, *agent; /* NULL: the session could not be read */
};

static void
on_deleted(void *arg, uint64_t first_seq, const struct err *e)
{
	struct deletion *x = arg;
	struct active *s = active_find(x->en, x->ack.session);
	struct err gone;

	if (s != NULL && s->loading == NULL) /* else somebody asks for it anew, and learns that it is gone */
		active_drop(s);
	if (e == NULL) {
		err_set(&gone, ERR_NOT_FOUND, ERR_TO_USER, "session %s was deleted", x->ack.session);
		events_end(x->en->parts.events, x->ack.session, &gone);
	}
	events_forget(x->en->parts.events, x->ack.session);
	if (e == NULL)
		blobs_sweep(x->en->parts.blobs);
	x->ack.done(x->ack.arg, x->ack.session, "", 0, e);
	free(x->owner);
	free(x->agent);
	free(x);
}

static void
delete_rows(struct deletion *x)
{
	static const enum stmt statements[] = { STMT_EVENT_DELETE, STMT_EFFECT_DELETE, STMT_APPROVAL_DELETE,
		STMT_TURN_DELETE, STMT_BLOB_UNREF, STMT_SESSION_DELETE };
	struct batch *batch = batch_new();
	struct cell_value param = V_Z(x->ack.session);

	for (size_t i = 0; i < ARRAY_LEN(statements); i++)
		batch_add(batch, statements[i], &param, 1);
	if (x->spent.microusd > 0)
		money_project(batch, x->owner, x->agent, clock_wall_ms(), &x->spent);
	/* Behind every append that is on its way: none of them may come after the rows are gone. */
	events_append(x->en->parts.events, x->ack.session, NULL, 0, batch, on_deleted, x);
}

static void
on_cell_closed(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct deletion *x = arg;

	if (e != NULL)
		log_warn("the cell of a deleted session was not closed", LOG_S("session", x->ack.session), LOG_E(e));
	delete_rows(x);
}

static void
on_delete(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct deletion *x = arg;
	struct err le;

	if (e != NULL && e->code == ERR_NOT_FOUND) {
		on_deleted(x, 0, e);
		return;
	}
	if (s != NULL) { /* else it could not be read, which is no reason to keep it */
		s->is_closing = true;
		egress_withdraw(s);
		x->owner = str_dup(str_of(s->owner));
		x->agent = str_dup(str_of(s->agent));
		err_set(&le, ERR_GONE, ERR_TO_USER, "session %s was deleted", s->id);
		active_tell_suspended(s, &le);
		if (s->run != NULL) {
			int64_t lost = model_lost(s->run);

			x->spent = *turn_spent(s->run->t);
			x->spent.microusd += lost;
			x->spent.estimated += lost;
			money_ended(en, s->owner, s->agent, &x->spent);
			run_detach(s->run);
		}
	}
	if (!sandbox_is_up(en->parts.sandbox) ||
		sandbox_cell_close(en->parts.sandbox, x->ack.session, true, on_cell_closed, x, &le) != 0)
		delete_rows(x);
}

void
engine_session_delete(struct engine *en, const char *session, engine_done_fn done, void *arg)
{
	struct deletion *x = xcalloc(1, sizeof *x);

	x->en = en;
	snprintf(x->ack.session, sizeof x->ack.session, "%s", session);
	x->ack.done = done;
	x->ack.arg = arg;
	active_load(en, session, on_delete, x);
}

const char *
engine_session_owner(const struct engine *en, const char *session)
{
	const struct active *s = active_find((struct engine *)en, session);

	return s != NULL && s->loading == NULL ? s->owner : NULL;
}

void
engine_counts(const struct engine *en, size_t *sessions, size_t *turns)
{
	*sessions = en->active_n;
	*turns = 0;
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (const struct active *s = en->table[i]; s != NULL; s = s->next)
			*turns += s->run != NULL;
}

/* ---- links ---- */

void
engine_broker_up(struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct active *s = en->table[i], *next; s != NULL; s = next) {
			next = s->next;
			egress_broker_up(en, s);
			if (s->run != NULL)
				model_broker_up(s->run);
		}
}

void
engine_egress_lost(struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct active *s = en->table[i], *next; s != NULL; s = next) {
			next = s->next;
			if (s->run != NULL)
				effects_told(s->run, NULL);
		}
}

void
engine_sandbox_up(struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct active *s = en->table[i], *next; s != NULL; s = next) {
			next = s->next;
			if (s->run != NULL && turn_state(s->run->t) == TURN_MODEL)
				model_sandbox_up(s->run);
			else if (s->run != NULL && turn_state(s->run->t) == TURN_COLLECT)
				outbox_resume(s->run);
			else if (s->run != NULL)
				effects_resume(s->run);
		}
}

/* ---- life ---- */

int
engine_open(const struct engine_parts *parts, struct engine **out, struct err *e)
{
	struct engine *en = xcalloc(1, sizeof *en);
	struct policy *check;
	int rc = policy_new(parts->config, &check, e); /* a malformed rule is told at start, not at the first turn */

	if (rc != 0) {
		free(en);
		return rc;
	}
	policy_free(check);
	en->parts = *parts;
	en->table = xcalloc(TABLE_SIZE, sizeof *en->table);
	en->a = arena_new(4 * MIB);
	buf_init(&en->body, EVENT_BODY_MAX);
	en->scratch = arena_new(TURN_ARENA_MAX);
	toolsets_make(en);
	if (parts->broker != NULL)
		broker_on_egress(parts->broker, egress_told, en);
	*out = en;
	return 0;
}

void
engine_stop(struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		for (struct active *s = en->table[i]; s != NULL; s = s->next)
			if (s->run != NULL)
				model_flush(s->run);
	en->is_stopping = true;
}

void
engine_close(struct engine *en)
{
	for (size_t i = 0; i < TABLE_SIZE; i++)
		while (en->table[i] != NULL)
			active_drop(en->table[i]);
	embeddings_free(en);
	engine_links_free(en);
	money_close(en);
	arena_free(en->a);
	arena_free(en->scratch);
	buf_fini(&en->body);
	free(en->table);
	free(en);
}

void
active_loaded(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	if (e != NULL)
		log_error("a session with an open turn could not be read", LOG_E(e));
}

int
engine_recover(struct engine *en, struct err *e)
{
	struct rows *rows;
	int rc = money_open(en, e);

	if (rc == 0)
		rc = store_query_now(en->parts.store, STMT_TURN_OPEN, NULL, 0, &rows, e);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < rows_len(rows); i++) {
		char id[ID_SIZE];

		snprintf(id, sizeof id, "%.*s", STR_FMT(rows_str(rows, i, 1)));
		active_load(en, id, active_loaded, NULL);
	}
	rows_free(rows);
	return 0;
}
