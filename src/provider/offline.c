/* SPDX-License-Identifier: MIT
 * The offline model: a script, or the built-in reader of plain English requests. It has no memory
 * of its own and reads no clock: what it answers is a function of the conversation (and of the
 * attempt), so a replay gives the same answer. Every text that it writes begins with its label. */
#include "provider/internal.h"

#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

struct offline {
	struct script *script;   /* NULL: built-in rules only */
	struct phrases *phrases; /* NULL: the script never leaves it to them */
};

const struct provider_api provider_offline = {
	.name = "offline", /* no transport: offline_answer takes the place of build and event */
	.error = error_object,
};

int
offline_open(const char *name, struct str script, struct offline **out, struct err *e)
{
	struct script *s = NULL;
	struct offline *o;
	int rc;

	if (str_trim(script).n > 0) {
		rc = script_parse(name, script, &s, e);
		if (rc != 0)
			return rc;
	}
	o = xcalloc(1, sizeof(*o));
	o->script = s;
	if (!s || script_has_builtin(s))
		o->phrases = phrases_new();
	*out = o;
	return 0;
}

void
offline_close(struct offline *o)
{
	if (!o)
		return;
	script_free(o->script);
	phrases_free(o->phrases);
	free(o);
}

int
offline_answer(const struct offline *o, const struct model_request *r, struct arena *a,
	const struct offline_step **steps, size_t *n, struct err *e)
{
	struct offline_out out = { .a = a };
	int rc = o->script ? script_answer(o->script, r, &out, e) : 0;

	if (rc == 0)
		rc = phrases_answer(o->phrases, r, &out, e);
	if (rc < 0)
		return rc;
	*steps = out.steps;
	*n = out.n;
	return 0;
}

/* ---- steps ---- */

struct offline_step *
offline_add(struct offline_out *o, enum offline_step_type type)
{
	struct offline_step *s;

	if (o->n >= OFFLINE_STEPS_MAX)
		return NULL;
	if (o->n == o->cap) {
		size_t cap = o->cap ? 2 * o->cap : 8;

		s = arena_try(o->a, cap * sizeof(*s));
		if (!s)
			return NULL;
		if (o->n)
			memcpy(s, o->steps, o->n * sizeof(*s));
		o->steps = s;
		o->cap = cap;
	}
	s = &o->steps[o->n++];
	s->type = type;
	s->ms = -1;
	return s;
}

static int
too_long(struct err *e)
{
	return err_set(e, ERR_LIMIT, ERR_TO_USER, "the offline model's answer is too long");
}

/* A copy in the arena with the label in front. */
static int
labelled(struct arena *a, struct str text, struct str *out, struct err *e)
{
	struct str label = STR(OFFLINE_LABEL " ");
	char *z = arena_try(a, label.n + text.n + 1);

	if (!z)
		return too_long(e);
	memcpy(z, label.p, label.n);
	if (text.n)
		memcpy(z + label.n, text.p, text.n);
	*out = (struct str){ z, label.n + text.n };
	return 0;
}

int
offline_text(struct offline_out *o, enum offline_step_type type, struct str text, int64_t chunk,
	int64_t delay_ms, struct err *e)
{
	struct offline_step *s;
	size_t n;

	if (type == OFFLINE_TEXT && !o->is_labelled) {
		o->is_labelled = true;
		if (!str_starts(text, OFFLINE_LABEL) && labelled(o->a, text, &text, e) != 0)
			return ERR_LIMIT;
	}
	for (bool first = true; text.n > 0; first = false) {
		if (!first && delay_ms > 0) {
			s = offline_add(o, OFFLINE_DELAY);
			if (!s)
				return too_long(e);
			s->ms = delay_ms;
		}
		n = chunk > 0 ? utf8_cut(text, (size_t)chunk) : text.n;
		if (n == 0) /* one character is longer than the chunk */
			n = MIN(utf8_start(text, 1), text.n);
		s = offline_add(o, type);
		if (!s)
			return too_long(e);
		s->text = str_sub(text, 0, n);
		text = str_sub(text, n, text.n);
	}
	return 0;
}

/* ---- the conversation ---- */

static bool
user_text(const struct message *m, struct str *text)
{
	bool found = false;

	if (m->role != MSG_USER)
		return false;
	for (size_t i = 0; i < m->n; i++) {
		if (m->parts[i].type == PART_TEXT && str_trim(m->parts[i].text).n > 0) {
			*text = m->parts[i].text;
			found = true;
		}
	}
	return found;
}

static const struct part *
find_call(const struct model_request *r, size_t messages_n, struct str id)
{
	for (size_t m = messages_n; m-- > 0;)
		for (size_t i = 0; i < r->messages[m].n; i++)
			if (r->messages[m].parts[i].type == PART_CALL &&
				str_eq(r->messages[m].parts[i].call_id, id))
				return &r->messages[m].parts[i];
	return NULL;
}

/* The request is the last text of the last user message that has one: files given along come before
 * it. */
int
offline_look(const struct model_request *r, size_t messages_n, struct arena *a,
	struct offline_view *v, struct err *e)
{
	size_t last = 0, parts = 0;

	*v = (struct offline_view){ .user = STR("") };
	for (size_t m = 0; m < messages_n; m++) {
		if (user_text(&r->messages[m], &v->user))
			last = m;
		v->answers += r->messages[m].role == MSG_ASSISTANT;
	}
	for (size_t m = last; m < messages_n; m++)
		parts += r->messages[m].n;
	v->results = arena_try(a, (parts + 1) * sizeof(const struct part *));
	if (!v->results)
		return too_long(e);
	for (size_t m = last; m < messages_n; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			/* Results in the message of the request belong to what was asked before. */
			if (p->type == PART_RESULT && m > last)
				v->results[v->results_n++] = p;
		}
	}
	if (v->results_n > 0) {
		v->result = v->results[v->results_n - 1];
		v->call = find_call(r, messages_n, v->result->call_id);
	}
	return 0;
}
