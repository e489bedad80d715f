/* SPDX-License-Identifier: MIT
 * The fold over a turn's events. Live text has offsets and logged text repeats it, so merging is by offset: what lies
 * before the end is known, what starts at the end is appended, and a reset replaces from its offset on. */
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/fold.h"

#define EFFECTS_MAX   100000
#define APPROVALS_MAX 1000
#define OFFSET_MAX    ((int64_t)JSON_TEXT_MAX) /* of an answer: past it an event is nonsense */

void
fold_init(struct fold *f)
{
	*f = (struct fold){ .status = TURN_FAILED, .step = -1 };
	buf_init(&f->text, MODEL_TEXT_MAX + 64 * KIB);
	buf_init(&f->answer, MODEL_TEXT_MAX + 64 * KIB);
	buf_init(&f->json_output, MODEL_TEXT_MAX + 64 * KIB);
	buf_init(&f->files, EVENT_BODY_MAX);
	buf_init(&f->left_out, EVENT_BODY_MAX);
	buf_init(&f->error_code, 64);
	buf_init(&f->error_msg, 4 * KIB);
}

void
fold_fini(struct fold *f)
{
	buf_fini(&f->text);
	buf_fini(&f->answer);
	buf_fini(&f->json_output);
	buf_fini(&f->files);
	buf_fini(&f->left_out);
	buf_fini(&f->error_code);
	buf_fini(&f->error_msg);
	free(f->effects);
	free(f->approvals);
	f->effects = NULL;
	f->approvals = NULL;
}

static void
buf_set(struct buf *b, struct str s)
{
	buf_reset(b);
	buf_add(b, s.p, utf8_cut(s, b->max));
}

void
call_summary(struct buf *b, const struct node *args)
{
	static const char *const keys[] = { "command", "path", "pattern", "query", "url", "from",
		"file", "name", "text" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const struct node *v = node_get(args, keys[i]);

		if (!node_is(v, NODE_STR))
			continue;
		buf_add_str(b, v->s);
		return;
	}
	if (node_is(args, NODE_MAP) && args->map.n > 0 && args->map.pairs[0].value.type == NODE_STR)
		buf_add_str(b, args->map.pairs[0].value.s);
}

/* ---- text ---- */

static void
text_begin(struct fold *f, int64_t step, int64_t attempt)
{
	f->step = step;
	f->attempt = attempt;
	f->text_offset = 0;
	f->text_done = false;
	buf_reset(&f->text);
}

/* Whether an event of this step and attempt is about the text in hand; starts over for a later step. A later attempt
 * goes on with the text: a reset says when it does not. */
static bool
text_current(struct fold *f, int64_t step, int64_t attempt)
{
	if (step < f->step || (step == f->step && (attempt < f->attempt || f->text_done)))
		return false;
	if (step > f->step)
		text_begin(f, step, attempt);
	f->attempt = attempt;
	return true;
}

static enum fold_news
text_add(struct fold *f, const struct node *body, size_t *kept)
{
	int64_t offset = node_int(body, "offset", 0);
	int64_t attempt = node_int(body, "attempt", 0);
	struct str text = node_str(body, "text", STR(""));
	bool is_later = attempt > f->attempt && node_int(body, "step", 0) == f->step;
	int64_t end;

	if (!text_current(f, node_int(body, "step", 0), attempt) || offset < 0 || offset > OFFSET_MAX)
		return FOLD_OLD;
	*kept = f->text.n;
	/* An attempt that begins at 0 again without a word about it has dropped what was there. */
	if (is_later && offset == 0 && f->text.n > 0) {
		*kept = 0;
		f->text_offset = 0;
		buf_reset(&f->text);
	}
	if (f->text.n == 0)
		f->text_offset = offset;
	end = f->text_offset + (int64_t)f->text.n;
	if (offset > end)
		f->text_offset += offset - end; /* a part was missed: model.done will bring the whole */
	else if (end - offset >= (int64_t)text.n)
		return FOLD_OLD;
	else
		text = str_sub(text, (size_t)(end - offset), text.n);
	buf_add_str(&f->text, text);
	return FOLD_TEXT;
}

static size_t
common_prefix(struct str a, struct str b)
{
	size_t n = 0;

	while (n < a.n && n < b.n && a.p[n] == b.p[n])
		n++;
	return n;
}

/* Replaces everything from byte `at` of the text on; says how much of the start is unchanged. */
static enum fold_news
text_replace(struct fold *f, size_t at, struct str text, size_t *kept)
{
	size_t old = f->text.n;

	if (at > old)
		at = old;
	*kept = at + common_prefix(str_sub(buf_str(&f->text), at, old), text);
	if (*kept == old && at + text.n == old)
		return FOLD_OLD;
	buf_truncate(&f->text, at);
	buf_add_str(&f->text, text);
	return FOLD_TEXT;
}

static enum fold_news
text_reset(struct fold *f, const struct node *body, size_t *kept)
{
	int64_t offset = node_int(body, "offset", 0);
	struct str text = node_str(body, "text", STR(""));
	size_t at;

	if (!text_current(f, node_int(body, "step", 0), node_int(body, "attempt", 0)) || offset < 0 || offset > OFFSET_MAX)
		return FOLD_OLD;
	if (f->text.n == 0)
		f->text_offset = offset;
	if (offset < f->text_offset) {
		f->text_offset = offset;
		return text_replace(f, 0, text, kept);
	}
	at = (size_t)MIN(offset - f->text_offset, (int64_t)f->text.n);
	return text_replace(f, at, text, kept);
}

/* The blocks of a finished answer are the truth about its text. */
static void
text_of_blocks(struct buf *b, const struct node *blocks)
{
	for (size_t i = 0; i < node_len(blocks); i++) {
		const struct node *block = node_at(blocks, i);

		if (str_is(node_str(block, "type", STR("")), "text"))
			buf_add_str(b, node_str(block, "text", STR("")));
	}
}

static void
add_usage(struct fold_usage *u, const struct node *usage)
{
	u->input += node_int(usage, "input_tokens", 0);
	u->output += node_int(usage, "output_tokens", 0);
	u->cached += node_int(usage, "cached_tokens", 0);
	u->reasoning += node_int(usage, "reasoning_tokens", 0);
}

static enum fold_news
on_model_done(struct fold *f, const struct node *body, size_t *kept)
{
	struct buf whole;
	enum fold_news news = FOLD_NEW;
	int64_t step = node_int(body, "step", 0);

	add_usage(&f->usage, node_get(body, "usage"));
	f->cost_microusd += node_int(body, "cost_microusd", 0);
	f->steps++;
	if (step > f->step)
		text_begin(f, step, node_int(body, "attempt", 0));
	buf_init(&whole, f->text.max);
	text_of_blocks(&whole, node_get(body, "blocks"));
	if (step == f->step && whole.n > 0) {
		f->text_offset = 0;
		if (text_replace(f, 0, buf_str(&whole), kept) == FOLD_TEXT)
			news = FOLD_TEXT;
	}
	f->text_done = true;
	buf_fini(&whole);
	return news;
}

/* ---- effects and approvals ---- */

struct fold_effect *
fold_effect(struct fold *f, struct str id)
{
	for (size_t i = f->effects_n; i-- > 0;)
		if (str_is(id, f->effects[i].id))
			return &f->effects[i];
	return NULL;
}

static struct fold_effect *
effect_add(struct fold *f, const struct node *body)
{
	struct fold_effect *x;
	struct buf b;

	if (f->effects_n >= EFFECTS_MAX)
		return NULL;
	f->effects = vec_grow(f->effects, &f->effects_cap, f->effects_n + 1, sizeof(*f->effects));
	x = &f->effects[f->effects_n++];
	*x = (struct fold_effect){ 0 };
	utf8_copy(x->id, sizeof(x->id), node_str(body, "effect", STR("")));
	utf8_copy(x->tool, sizeof(x->tool), node_str(body, "tool", STR("?")));
	buf_init(&b, MODEL_ARGS_MAX);
	call_summary(&b, node_get(body, "args"));
	utf8_copy(x->summary, sizeof(x->summary), buf_str(&b));
	buf_fini(&b);
	return x;
}

static enum fold_news
on_effect_intent(struct fold *f, const struct node *body, size_t *kept)
{
	struct fold_effect *x = fold_effect(f, node_str(body, "effect", STR("")));

	if (!x)
		effect_add(f, body);
	return FOLD_NEW;
}

static enum fold_news
on_effect_outcome(struct fold *f, const struct node *body, size_t *kept)
{
	struct fold_effect *x = fold_effect(f, node_str(body, "effect", STR("")));

	if (!x)
		x = effect_add(f, body);
	if (!x)
		return FOLD_NEW;
	x->is_error = node_bool(body, "is_error", false);
	utf8_copy(x->status, sizeof(x->status), node_str(body, "state", STR("unknown")));
	x->ms = node_int(body, "ms", 0);
	return FOLD_NEW;
}

static enum fold_news
on_approval_requested(struct fold *f, const struct node *body, size_t *kept)
{
	struct fold_approval *p;

	if (f->approvals_n >= APPROVALS_MAX)
		return FOLD_NEW;
	f->approvals = vec_grow(f->approvals, &f->approvals_cap, f->approvals_n + 1,
		sizeof(*f->approvals));
	p = &f->approvals[f->approvals_n++];
	utf8_copy(p->id, sizeof(p->id), node_str(body, "id", STR("")));
	utf8_copy(p->tool, sizeof(p->tool), node_str(body, "tool", STR("?")));
	utf8_copy(p->summary, sizeof(p->summary), node_str(body, "summary", STR("")));
	p->may_always = node_str(body, "always", STR("")).n > 0;
	return FOLD_NEW;
}

static enum fold_news
on_approval_resolved(struct fold *f, const struct node *body, size_t *kept)
{
	struct str id = node_str(body, "id", STR(""));

	for (size_t i = 0; i < f->approvals_n; i++) {
		if (!str_is(id, f->approvals[i].id))
			continue;
		memmove(&f->approvals[i], &f->approvals[i + 1],
			(f->approvals_n - i - 1) * sizeof(*f->approvals));
		f->approvals_n--;
		break;
	}
	return FOLD_NEW;
}

/* ---- the turn ---- */

static enum fold_news
on_turn_started(struct fold *f, const struct node *body, size_t *kept)
{
	utf8_copy(f->model, sizeof(f->model), node_str(body, "model", STR("")));
	return FOLD_NEW;
}

static enum fold_news
on_model_started(struct fold *f, const struct node *body, size_t *kept)
{
	text_current(f, node_int(body, "step", 0), node_int(body, "attempt", 0));
	return FOLD_NEW;
}

static void
take_error(struct fold *f, const struct node *error)
{
	if (!node_is(error, NODE_MAP))
		return;
	buf_set(&f->error_code, node_str(error, "code", STR("failed")));
	buf_set(&f->error_msg, node_str(error, "message", STR("")));
}

/* The journal's own list: it also has what ran before this client looked. */
static void
take_effects(struct fold *f, const struct node *list)
{
	if (!node_is(list, NODE_LIST))
		return;
	f->effects_n = 0;
	for (size_t i = 0; i < list->list.n; i++) {
		struct fold_effect *x = effect_add(f, node_at(list, i));

		if (!x)
			return;
		utf8_copy(x->status, sizeof(x->status), node_str(node_at(list, i), "status", STR("unknown")));
		x->ms = node_int(node_at(list, i), "ms", 0);
	}
}

static void
take_list(struct buf *b, const struct node *list)
{
	struct json j;

	buf_reset(b);
	if (node_len(list) == 0)
		return;
	json_init(&j, b);
	json_node(&j, list);
}

static enum fold_news
on_turn_files(struct fold *f, const struct node *body, size_t *kept)
{
	take_list(&f->files, node_get(body, "files"));
	take_list(&f->left_out, node_get(body, "left_out"));
	return FOLD_NEW;
}

static enum fold_news
on_turn_finished(struct fold *f, const struct node *body, size_t *kept)
{
	struct str model = node_str(body, "model", STR(""));
	const struct node *usage = node_get(body, "usage");

	f->is_finished = true;
	if (turn_status_parse(node_str(body, "status", STR("failed")), &f->status) != 0)
		f->status = TURN_FAILED;
	if (model.n > 0)
		utf8_copy(f->model, sizeof(f->model), model);
	buf_set(&f->answer, node_str(body, "text", STR("")));
	if (node_get(body, "output")) {
		struct json j;

		buf_reset(&f->json_output);
		json_init(&j, &f->json_output);
		json_node(&j, node_get(body, "output"));
	}
	if (node_is(usage, NODE_MAP)) {
		f->usage = (struct fold_usage){ 0 };
		add_usage(&f->usage, usage);
	}
	f->cost_microusd = node_int(body, "cost_microusd", f->cost_microusd);
	f->steps = node_int(body, "steps", f->steps);
	f->duration_ms = node_int(body, "duration_ms", f->duration_ms);
	take_error(f, node_get(body, "error"));
	take_effects(f, node_get(body, "effects"));
	f->approvals_n = 0;
	return FOLD_NEW;
}

/* The runtime cannot go on with it (its store failed): the log has it open, and it is taken up again later. */
static enum fold_news
on_turn_suspended(struct fold *f, const struct node *body, size_t *kept)
{
	f->is_finished = true;
	f->status = TURN_FAILED;
	take_error(f, body);
	return FOLD_NEW;
}

static const struct {
	const char *kind;
	enum fold_news (*fn)(struct fold *f, const struct node *body, size_t *kept);
} readers[] = {
	{ "model.delta", text_add },
	{ "model.partial", text_add },
	{ "model.reset", text_reset },
	{ "model.started", on_model_started },
	{ "model.done", on_model_done },
	{ "effect.intent", on_effect_intent },
	{ "effect.outcome", on_effect_outcome },
	{ "approval.requested", on_approval_requested },
	{ "approval.resolved", on_approval_resolved },
	{ "approval.expired", on_approval_resolved },
	{ "turn.started", on_turn_started },
	{ "turn.files", on_turn_files },
	{ "turn.finished", on_turn_finished },
	{ "turn.suspended", on_turn_suspended },
};

enum fold_news
fold_event(struct fold *f, const struct node *envelope, size_t *kept)
{
	struct str turn = node_str(envelope, "turn", STR(""));
	struct str kind = node_str(envelope, "kind", STR(""));
	const struct node *body = node_get(envelope, "body");
	int64_t seq = node_int(envelope, "seq", 0);

	*kept = f->text.n;
	if (seq > 0 && seq <= f->last_seq)
		return FOLD_OLD;
	if (seq > 0)
		f->last_seq = seq;
	if (f->is_finished || (f->turn[0] && turn.n > 0 && !str_is(turn, f->turn)))
		return FOLD_OLD;
	/* Reasoning is no part of the answer, whichever channel its offsets count in. */
	if (node_bool(body, "reasoning", false))
		return FOLD_NEW;
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		if (str_is(kind, readers[i].kind))
			return readers[i].fn(f, body, kept);
	return FOLD_NEW;
}

void
fold_stop(struct fold *f, enum turn_status status, const struct err *e)
{
	if (f->is_finished)
		return;
	f->status = status;
	buf_set(&f->answer, buf_str(&f->text));
	if (!e || e->code == 0)
		return;
	buf_set(&f->error_code, str_of(err_name(e->code)));
	buf_set(&f->error_msg, str_of(e->msg));
}

int
fold_exit(const struct fold *f)
{
	char code[64];
	int status;

	if (f->status != TURN_FAILED || f->error_code.n == 0)
		return turn_status_exit(f->status);
	/* A turn that failed for a missing key or a wrong model is a mistake in the configuration. */
	utf8_copy(code, sizeof(code), buf_str(&f->error_code));
	status = err_exit_status(err_from_name(code));
	return status == 2 ? 2 : 1;
}

static void
json_id(struct json *j, const char *key, const char *id)
{
	json_kv_z(j, key, id[0] ? id : NULL);
}

void
fold_json(const struct fold *f, struct json *j)
{
	json_obj(j);
	json_id(j, "session", f->session);
	json_id(j, "turn", f->turn);
	json_kv_z(j, "status", turn_status_name(f->status));
	json_kv_str(j, "text", buf_str(&f->answer));
	if (f->json_output.n > 0)
		json_kv_raw(j, "output", buf_str(&f->json_output));
	json_id(j, "model", f->model);
	json_kv_obj(j, "usage");
	json_kv_int(j, "input_tokens", f->usage.input);
	json_kv_int(j, "output_tokens", f->usage.output);
	json_kv_int(j, "cached_tokens", f->usage.cached);
	json_kv_int(j, "reasoning_tokens", f->usage.reasoning);
	json_obj_end(j);
	json_kv_int(j, "cost_microusd", f->cost_microusd);
	json_kv_int(j, "steps", f->steps);
	json_kv_arr(j, "effects");
	for (size_t i = 0; i < f->effects_n; i++) {
		json_obj(j);
		json_kv_z(j, "tool", f->effects[i].tool);
		json_kv_z(j, "status", f->effects[i].status[0] ? f->effects[i].status : "running");
		json_kv_int(j, "ms", f->effects[i].ms);
		json_obj_end(j);
	}
	json_arr_end(j);
	if (f->files.n > 0)
		json_kv_raw(j, "files", buf_str(&f->files));
	if (f->left_out.n > 0)
		json_kv_raw(j, "files_left_out", buf_str(&f->left_out));
	json_kv_int(j, "duration_ms", f->duration_ms);
	if (f->error_code.n > 0) {
		json_kv_obj(j, "error");
		json_kv_str(j, "code", buf_str(&f->error_code));
		json_kv_str(j, "message", buf_str(&f->error_msg));
		json_obj_end(j);
	}
	json_obj_end(j);
}
