/* SPDX-License-Identifier: MIT
 * Reads a session from the log into memory: its transcript, the turn that is open and the messages that wait. A session
 * that is in memory is never read again; one that is dropped costs nothing. The workspace's own configuration is read
 * here too, and can only narrow. */
#include "agent/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

#include <sys/stat.h>
#include <stdlib.h>
#include <stdio.h>

struct waiter {
	struct waiter *next;
	session_ready_fn ready;
	void *arg;
};

struct loading {
	struct engine *en;
	char id[ID_SIZE];
	struct waiter *waiters;
	struct arena *a; /* of one event */
	uint64_t after;
	struct err error;
	struct err bad_turn; /* the open turn cannot be replayed */
};

/* ---- the workspace's file ---- */

static void
on_refused(void *arg, const char *dotted, uint32_t line, const char *why)
{
	struct active *s = arg;
	char *text = xasprintf(".ithaca.yaml line %u: %s is not applied: %s", line, dotted, why);

	s->notices = vec_grow(s->notices, &s->notices_cap, s->notices_n + 1, sizeof *s->notices);
	s->notices[s->notices_n++] = text;
}

static int
load_config(struct active *s, struct err *e)
{
	struct config *base = s->en->parts.config;
	AUTO_FREE char *path = xasprintf("%s/.ithaca.yaml", s->workspace);
	AUTO_FREE char *text = NULL;
	mode_t kind;
	size_t n;
	int rc;

	/* The workspace is hostile: only a plain file, never what a link points to, not even one made since the look. */
	if (hostfiles_look(s->en->parts.files, path, false, &kind, NULL) != 0) {
		s->config = config_ref(base);
	} else if (!S_ISREG(kind)) {
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "%s is not a regular file (remove it)", path);
	} else {
		rc = hostfiles_read_plain(s->en->parts.files, path, CONFIG_TEXT_MAX, &text, &n, e);
		if (rc == 0)
			rc = config_narrow(base, path, (struct str){ text, n }, on_refused, s, &s->config, e);
		if (rc != 0)
			return rc;
	}
	/* The runner checked the operator's wish; the workspace may ask for more than there is. */
	const struct sandbox *sb = s->en->parts.sandbox;
	const char *tier = sb != NULL && sandbox_is_up(sb) ? sandbox_facts(sb)->tier : config_z(base, "tier");
	if (sandbox_tier_rank(tier) < sandbox_tier_rank(config_z(s->config, "tier_min")))
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "%s: tier_min %s cannot be met: this runtime works in tier %s (start it "
			"with --tier %s)", path, config_z(s->config, "tier_min"), tier, config_z(s->config, "tier_min"));
	return policy_new(s->config, &s->policy, e);
}

/* ---- the log ---- */

/* The node as JSON text, to be freed. */
static char *
node_text(const struct node *n)
{
	struct buf b;
	struct json j;
	char *text;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	json_node(&j, n);
	text = str_dup(buf_str(&b));
	buf_fini(&b);
	return text;
}

static void
load_queued(struct active *s, const struct event *ev, const struct node *body)
{
	struct queued *q = xcalloc(1, sizeof *q), **at = &s->queue;
	enum mode mode;

	snprintf(q->turn, sizeof q->turn, "%s", ev->turn);
	q->text = str_dup(node_str(body, "text", STR("")));
	q->text_n = node_str(body, "text", STR("")).n;
	q->model = str_dup(node_str(body, "model", STR("")));
	if (node_is(node_get(body, "attachments"), NODE_LIST))
		q->attachments = node_text(node_get(body, "attachments"));
	q->mode = mode_parse(node_str(body, "mode", STR("")), &mode) == 0 ? (int)mode : -1;
	q->yes = node_bool(body, "yes", false);
	if (node_get(body, "effort") != NULL)
		q->effort = str_dup(node_str(body, "effort", STR("")));
	if (node_is(node_get(body, "schema"), NODE_MAP))
		q->schema = node_text(node_get(body, "schema"));
	q->is_logged = true;
	while (*at != NULL)
		at = &(*at)->next;
	*at = q;
}

static void
load_turn_event(struct active *s, const struct event *ev, const struct node *body)
{
	struct run *r = s->run;

	if (ev->kind == EVENT_TURN_QUEUED) {
		load_queued(s, ev, body);
		return;
	}
	if (ev->kind == EVENT_TURN_STARTED) {
		(void)forget_queued(s, ev->turn);
		r = run_new(s, ev->turn);
	}
	if (ev->kind == EVENT_APPROVAL_RESOLVED && str_is(node_str(body, "decision", STR("")), "allow_always"))
		always_add(s, node_str(body, "rule", STR("")));
	if (ev->kind == EVENT_EFFECT_OUTCOME)
		s->egress_bytes += MAX(node_int(body, "egress_bytes", 0), 0);
	if (r == NULL || ev->turn == NULL || strcmp(r->turn, ev->turn) != 0)
		return;
	if (s->loading->bad_turn.code == 0)
		(void)run_replay(r, ev->kind, body, ev->time_ms, &s->loading->bad_turn);
	if (ev->kind == EVENT_TURN_FINISHED) {
		s->spent_microusd += node_int(body, "cost_microusd", 0);
		s->run = NULL;
		r->s = NULL;
		run_unref(r);
		s->loading->bad_turn.code = 0; /* it is over, whatever the machine thinks of it */
	}
}

static int
load_event(struct active *s, struct arena *a, const struct event *ev, struct err *e)
{
	const struct node *body;
	int rc;

	if (ev->kind == EVENT_TURN_FINISHED && ev->turn != NULL && forget_queued(s, ev->turn))
		return 0; /* cancelled before it began */
	arena_reset(a);
	rc = json_parse(a, ev->body, &body, e);
	if (rc == 0)
		rc = transcript_add(s->tr, ev->kind, body, e);
	if (rc == 0)
		load_turn_event(s, ev, body);
	else
		err_wrap(e, "session %s event %llu", s->id, (unsigned long long)ev->seq);
	return rc;
}

/* ---- steps ---- */

/* What is open goes on before anybody is told: whoever waits may act on the run. */
static void
load_end(struct active *s, const struct err *e)
{
	struct loading *ld = s->loading;
	struct engine *en = ld->en;
	struct waiter *w = ld->waiters;

	s->loading = NULL;
	if (e == NULL && s->run != NULL) {
		memcpy(s->recovered, s->run->turn, sizeof s->recovered);
		if (ld->bad_turn.code != 0)
			run_fail(s->run, &ld->bad_turn);
		else
			run_resume(s->run);
	}
	while (w != NULL) {
		struct waiter *next = w->next;

		s = active_find(en, ld->id);
		if (e == NULL && s == NULL) /* one before it made it go: read it again */
			active_load(en, ld->id, w->ready, w->arg);
		else
			w->ready(en, e == NULL ? s : NULL, w->arg, e);
		free(w);
		w = next;
	}
	s = active_find(en, ld->id);
	if (e != NULL && s != NULL)
		active_drop(s);
	else if (s != NULL && s->loading == NULL && s->run == NULL)
		active_idle(s);
	else
		engine_changed(en);
	arena_free(ld->a);
	free(ld);
}

static void read_page(struct active *s);

static void
on_page(void *arg, const struct event *evs, size_t n, bool more, const struct err *e)
{
	struct active *s = arg;
	struct loading *ld = s->loading;

	for (size_t i = 0; i < n && e == NULL; i++) {
		if (load_event(s, ld->a, &evs[i], &ld->error) != 0)
			e = &ld->error;
		ld->after = evs[i].seq;
	}
	if (e != NULL || !more)
		load_end(s, e);
	else
		read_page(s);
}

static void
read_page(struct active *s)
{
	events_read(s->en->parts.events, s->id, s->loading->after, SIZE_MAX, on_page, s);
}

static void
on_row(void *arg, const struct rows *rows, const struct err *e)
{
	struct active *s = arg;
	struct err le = { 0 };
	int rc = 0;

	if (e == NULL && rows_len(rows) == 0)
		rc = err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "there is no session %s (see `ithaca session list`)", s->id);
	if (e == NULL && rc == 0) {
		s->owner = str_dup(rows_str(rows, 0, 0));
		s->agent = str_dup(rows_str(rows, 0, 1));
		s->workspace = str_dup(rows_str(rows, 0, 2));
		if (mode_parse(rows_str(rows, 0, 3), &s->mode) != 0)
			s->mode = MODE_READ_ONLY;
		rc = load_config(s, &le);
	}
	if (e != NULL || rc != 0)
		load_end(s, e != NULL ? e : &le);
	else
		read_page(s);
}

static struct active *
active_new(struct engine *en, const char *id)
{
	struct active *s = xcalloc(1, sizeof *s);

	s->en = en;
	snprintf(s->id, sizeof s->id, "%s", id);
	snprintf(s->cell, sizeof s->cell, "%s", id);
	s->cell_state = xasprintf("%s/state/cells/%s", en->parts.home, id);
	s->tr = transcript_new();
	active_insert(s);
	return s;
}

void
active_load(struct engine *en, const char *id, session_ready_fn ready, void *arg)
{
	struct active *s = active_find(en, id);
	struct cell_value param = V_Z(id);
	struct waiter *w, **at;

	if (s != NULL && s->loading == NULL) {
		s->used_ms = loop_now_ms(en->parts.loop);
		ready(en, s, arg, NULL);
		return;
	}
	w = xcalloc(1, sizeof *w);
	*w = (struct waiter){ .ready = ready, .arg = arg };
	if (s == NULL) {
		s = active_new(en, id);
		s->used_ms = loop_now_ms(en->parts.loop);
		s->loading = xcalloc(1, sizeof *s->loading);
		s->loading->en = en;
		snprintf(s->loading->id, sizeof s->loading->id, "%s", id);
		s->loading->a = arena_new(2 * EVENT_BODY_MAX + 16 * MIB);
		s->loading->waiters = w;
		store_query(en->parts.store, STMT_SESSION_LOAD, &param, 1, on_row, s);
		return;
	}
	for (at = &s->loading->waiters; *at != NULL;)
		at = &(*at)->next;
	*at = w;
}

/* A new session is in memory at once: there is nothing to read. */
int
active_create(struct engine *en, const char *id, const struct session_spec *spec, struct active **out, struct err *e)
{
	struct active *s = active_new(en, id);
	int rc;

	s->owner = str_dup(spec->owner);
	s->agent = str_dup(spec->agent);
	s->workspace = str_dup(spec->workspace);
	s->mode = spec->mode;
	rc = load_config(s, e);
	if (rc != 0) {
		active_drop(s);
		return rc;
	}
	*out = s;
	return 0;
}
