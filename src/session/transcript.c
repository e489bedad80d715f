/* SPDX-License-Identifier: MIT
 * The transcript: a fold of a session's events into the messages that a model sees. Pure: no I/O, no clock. Each entry
 * belongs to a turn, and turns are dropped whole, so a call is never without its result. */
#include "session/session.h"

#include "base/limits.h"
#include "base/media.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>

#define FILE_LINE 16 /* of the line that names a file of the inbox */

struct entry {
	enum message_role role;
	struct part *parts;
	size_t n;
	size_t turn; /* 1.. */
	size_t bytes;
};

/* How many tokens the bytes of a request were, where a model's answer said it most densely. */
struct density {
	const struct density *next;
	struct str model;
	int64_t tokens, bytes;
};

struct transcript {
	struct arena *a;
	const struct density *densities; /* the newest of a model stands first */
	struct entry *entries;
	size_t n, cap;
	size_t turns;
	struct buf partial; /* text of the model call in progress, as far as it was logged */
	bool has_media, has_usage;
	struct model_usage usage; /* of the last answer */
	int64_t cost_microusd;
};

struct transcript *
transcript_new(void)
{
	struct transcript *tr = xcalloc(1, sizeof *tr);

	tr->a = arena_new(TRANSCRIPT_MAX);
	buf_init(&tr->partial, MODEL_TEXT_MAX);
	return tr;
}

void
transcript_free(struct transcript *tr)
{
	if (tr == NULL)
		return;
	buf_fini(&tr->partial);
	arena_free(tr->a);
	free(tr->entries);
	free(tr);
}

struct transcript *
transcript_imagine(const struct transcript *tr)
{
	struct transcript *copy = transcript_new();

	copy->densities = tr->densities;
	copy->turns = tr->turns;
	copy->has_media = tr->has_media;
	copy->has_usage = tr->has_usage;
	copy->usage = tr->usage;
	copy->cost_microusd = tr->cost_microusd;
	copy->entries = vec_grow(NULL, &copy->cap, tr->n + 1, sizeof *copy->entries);
	copy->n = tr->n;
	if (tr->n > 0)
		memcpy(copy->entries, tr->entries, tr->n * sizeof *tr->entries);
	return copy;
}

size_t
transcript_memory(const struct transcript *tr)
{
	return arena_used(tr->a) + tr->cap * sizeof *tr->entries + tr->partial.cap;
}

bool
transcript_has_media(const struct transcript *tr)
{
	return tr->has_media;
}

bool
transcript_last_usage(const struct transcript *tr, struct model_usage *u, int64_t *cost_microusd)
{
	*u = tr->usage;
	if (cost_microusd != NULL)
		*cost_microusd = tr->cost_microusd;
	return tr->has_usage;
}

static const struct density *
density_of(const struct transcript *tr, struct str model)
{
	const struct density *d = tr->densities;

	while (d != NULL && !str_eq(d->model, model))
		d = d->next;
	return d;
}

int64_t
transcript_tokens(const struct transcript *tr, struct str model, size_t bytes)
{
	const struct density *d = density_of(tr, model);
	int64_t most = (int64_t)MIN(bytes, (size_t)INT64_MAX), bound = model_tokens_bound(bytes);

	if (d == NULL)
		return bound;
	return MAX(bound, (int64_t)MIN(((__int128)most * d->tokens + d->bytes - 1) / d->bytes, (__int128)most));
}

/* A token is a byte at least, whatever a server says. Only what is denser than before is kept, by a thousandth part or
 * more, so that there are few of them. */
static void
note_density(struct transcript *tr, struct str model, int64_t tokens, int64_t bytes)
{
	const struct density *old = density_of(tr, model);
	struct density *d;
	char *name;

	tokens = MIN(tokens, bytes);
	if (tokens <= 0 || (old != NULL && (__int128)tokens * old->bytes * 1000 < (__int128)old->tokens * bytes * 1001))
		return;
	d = arena_try(tr->a, sizeof *d);
	name = arena_try(tr->a, model.n + 1);
	if (d == NULL || name == NULL)
		return;
	if (model.n > 0)
		memcpy(name, model.p, model.n);
	*d = (struct density){ tr->densities, { name, model.n }, tokens, bytes };
	tr->densities = d;
}

static struct entry *
entry_push(struct transcript *tr, enum message_role role, size_t parts)
{
	struct entry *en;

	tr->entries = vec_grow(tr->entries, &tr->cap, tr->n + 1, sizeof *tr->entries);
	en = &tr->entries[tr->n];
	*en = (struct entry){ .role = role, .n = parts, .turn = tr->turns };
	en->parts = arena_try(tr->a, MAX(parts, 1) * sizeof *en->parts);
	if (en->parts == NULL)
		return NULL;
	tr->n++;
	return en;
}

/* Copies a string of the body into the transcript; a copy that does not fit gives false. */
static bool
keep(struct transcript *tr, struct entry *en, struct str s, struct str *out)
{
	char *p = arena_try(tr->a, s.n + 1);

	if (p == NULL)
		return false;
	memcpy(p, s.p != NULL ? s.p : "", s.n);
	*out = (struct str){ p, s.n };
	en->bytes += s.n;
	return true;
}

static int
too_large(struct err *e)
{
	return err_set(e, ERR_LIMIT, ERR_TO_USER,
		"the session is larger than %u MiB (start a new one with --new)", TRANSCRIPT_MAX / MIB);
}

static const struct part *
file_called(const struct transcript *tr, const char *name)
{
	for (size_t i = tr->has_media ? 0 : tr->n; i < tr->n; i++)
		for (size_t k = 0; k < tr->entries[i].n; k++)
			if (tr->entries[i].parts[k].type == PART_MEDIA && str_is(tr->entries[i].parts[k].file, name))
				return &tr->entries[i].parts[k];
	return NULL;
}

/* The same for every reading of the log: the first file of a name has it, others get a number. */
static void
name_file(const struct transcript *tr, struct str name, struct str blob, char out[MEDIA_NAME_MAX + 1])
{
	const struct part *other;
	unsigned nth = 1;

	do
		other = file_called(tr, media_file_name(name, nth++, out));
	while (other != NULL && !str_eq(other->blob, blob));
}

size_t
transcript_files(const struct transcript *tr, struct transcript_file out[TURN_FILES_MAX])
{
	size_t n = 0, bytes = 0;

	for (size_t i = tr->has_media ? tr->n : 0; i-- > 0;)
		for (size_t k = tr->entries[i].n; k-- > 0;) {
			const struct part *p = &tr->entries[i].parts[k];
			bool is_known = p->type != PART_MEDIA;

			for (size_t x = 0; x < n && !is_known; x++)
				is_known = str_eq(out[x].name, p->file);
			if (is_known)
				continue;
			bytes += p->data.n;
			if (n == TURN_FILES_MAX || bytes > TURN_MEDIA_MAX)
				return n;
			out[n++] = (struct transcript_file){ p->file, p->blob, p->data.n };
		}
	return n;
}

/* A file that came with the message: its bytes are in a blob. What it takes of the window counts as text would. */
static bool
add_file(struct transcript *tr, struct entry *en, struct part *p, const struct node *file)
{
	size_t size = (size_t)MAX(node_int(file, "size", 0), 0), before = en->bytes;
	struct arena *a = arena_new(64 * KIB);
	char size_text[32], called[MEDIA_NAME_MAX + 1];
	const char *label;
	bool ok;

	name_file(tr, node_str(file, "name", STR("")), node_str(file, "blob", STR("")), called);
	p->type = PART_MEDIA;
	p->data.n = size;
	label = arena_printf(a, "%.*s (%.*s, %s)", STR_FMT(node_str(file, "name", STR(""))),
		STR_FMT(node_str(file, "mime", STR(""))), media_size_text(size, size_text));
	ok = keep(tr, en, node_str(file, "name", STR("")), &p->name) &&
		keep(tr, en, node_str(file, "mime", STR("")), &p->mime) &&
		keep(tr, en, node_str(file, "blob", STR("")), &p->blob) && keep(tr, en, str_of(label), &p->text) &&
		keep(tr, en, str_of(called), &p->file);
	en->bytes = before + (size_t)MAX(node_int(file, "tokens", 0), 0) * MEDIA_TEXT_BYTES + strlen(called) + FILE_LINE;
	tr->has_media = true;
	arena_free(a);
	return ok;
}

/* Files stand before the text that speaks of them. */
static int
add_user(struct transcript *tr, const struct node *body, struct err *e)
{
	const struct node *files = node_get(body, "attachments");
	size_t n = node_len(files);
	struct entry *en;

	tr->turns++;
	en = entry_push(tr, MSG_USER, n + 1);
	if (en == NULL)
		return too_large(e);
	for (size_t i = 0; i < n; i++)
		if (!add_file(tr, en, &en->parts[i], node_at(files, i)))
			return too_large(e);
	if (!keep(tr, en, node_str(body, "text", STR("")), &en->parts[n].text))
		return too_large(e);
	en->parts[n].type = PART_TEXT;
	return 0;
}

/* As keep, for what most blocks do not have. */
static bool
keep_some(struct transcript *tr, struct entry *en, struct str s, struct str *out)
{
	return s.n == 0 || keep(tr, en, s, out);
}

static void
add_usage(struct transcript *tr, const struct node *body)
{
	const struct node *u = node_get(body, "usage");

	if (u == NULL)
		return;
	tr->has_usage = true;
	tr->cost_microusd = node_int(body, "cost_microusd", 0);
	tr->usage = (struct model_usage){ .input_tokens = node_int(u, "input_tokens", 0),
		.output_tokens = node_int(u, "output_tokens", 0), .cached_tokens = node_int(u, "cached_tokens", 0),
		.cache_write_tokens = node_int(u, "cache_write_tokens", 0),
		.reasoning_tokens = node_int(u, "reasoning_tokens", 0) };
	note_density(tr, node_str(body, "model", STR("")), tr->usage.input_tokens, node_int(body, "input_bytes", 0));
}

static int
add_block(struct transcript *tr, struct entry *en, struct part *p, const struct node *block, struct err *e)
{
	struct str type = node_str(block, "type", STR(""));
	bool ok = keep_some(tr, en, node_str(block, "signature", STR("")), &p->signature) &&
		keep_some(tr, en, node_str(block, "item_id", STR("")), &p->item_id);

	if (!ok)
		return too_large(e);
	if (str_is(type, "text") || str_is(type, "reasoning") || str_is(type, "redacted")) {
		p->type = str_is(type, "text") ? PART_TEXT :
			str_is(type, "reasoning") ? PART_REASONING : PART_REASONING_REDACTED;
		ok = keep(tr, en, node_str(block, "text", STR("")), &p->text);
	} else if (str_is(type, "call")) {
		p->type = PART_CALL;
		ok = keep(tr, en, node_str(block, "call_id", STR("")), &p->call_id) &&
			keep(tr, en, node_str(block, "tool", STR("")), &p->tool) &&
			keep(tr, en, node_str(block, "args", STR("{}")), &p->args);
	} else {
		return err_set(e, ERR_CORRUPT, ERR_TO_LOG, "model.done: unknown block type %.*s", STR_FMT(type));
	}
	return ok ? 0 : too_large(e);
}

/* An assistant message, and behind it one message with a place for the result of each of its calls. */
static int
add_answer(struct transcript *tr, const struct node *body, struct err *e)
{
	const struct node *blocks = node_get(body, "blocks");
	size_t n = node_len(blocks), calls = 0;
	struct str origin = STR("");
	struct entry *en;

	buf_reset(&tr->partial);
	if (n == 0)
		return 0;
	en = entry_push(tr, MSG_ASSISTANT, n);
	if (en == NULL || !keep_some(tr, en, node_str(body, "provider", STR("")), &origin))
		return too_large(e);
	for (size_t i = 0; i < n; i++) {
		int rc = add_block(tr, en, &en->parts[i], node_at(blocks, i), e);

		if (rc != 0)
			return rc;
		en->parts[i].origin = origin;
		calls += en->parts[i].type == PART_CALL;
	}
	if (calls == 0)
		return 0;
	struct part *asked = en->parts;

	en = entry_push(tr, MSG_USER, calls);
	if (en == NULL)
		return too_large(e);
	for (size_t i = 0, k = 0; i < n; i++)
		if (asked[i].type == PART_CALL)
			en->parts[k++] = (struct part){ .type = PART_RESULT, .call_id = asked[i].call_id };
	return 0;
}

/* The places for the results of the newest answer; a notice may have come behind them. */
static struct entry *
newest_results(const struct transcript *tr)
{
	for (size_t i = tr->n; i > 0 && tr->entries[i - 1].role == MSG_USER; i--)
		if (tr->entries[i - 1].n > 0 && tr->entries[i - 1].parts[0].type == PART_RESULT)
			return &tr->entries[i - 1];
	return NULL;
}

static int
add_result(struct transcript *tr, const struct node *body, struct str text, bool is_error, struct err *e)
{
	int64_t index = node_int(body, "index", -1);
	struct entry *en = newest_results(tr);

	if (en == NULL || index < 0 || (size_t)index >= en->n)
		return err_set(e, ERR_CORRUPT, ERR_TO_LOG, "a result without its call (index %lld)",
			(long long)index);
	en->parts[index].is_error = is_error;
	if (text.n == 0)
		text = STR("(no output)");
	return keep(tr, en, text, &en->parts[index].text) ? 0 : too_large(e);
}

static int
add_requested(struct transcript *tr, const struct node *body, struct err *e)
{
	struct str decision = node_str(body, "decision", STR(""));

	if (!str_is(decision, "deny") && !str_is(decision, "invalid"))
		return 0;
	return add_result(tr, body, node_str(body, "reason", STR("refused")), true, e);
}

static int
add_resolved(struct transcript *tr, const struct node *body, struct err *e)
{
	if (!str_is(node_str(body, "decision", STR("")), "deny"))
		return 0;
	return add_result(tr, body, STR("The user denied this call. Do not try it again in another form."), true, e);
}

static void
add_partial(struct transcript *tr, const struct node *body, bool is_reset)
{
	if (node_bool(body, "reasoning", false))
		return;
	if (is_reset)
		buf_reset(&tr->partial);
	buf_add_str(&tr->partial, node_str(body, "text", STR("")));
}

/* What the model had said before it was cut off stays part of the conversation. */
static int
add_finished(struct transcript *tr, struct err *e)
{
	struct entry *en;
	struct str text = str_trim(buf_str(&tr->partial));

	if (text.n == 0)
		return 0;
	en = entry_push(tr, MSG_ASSISTANT, 1);
	if (en == NULL || !keep(tr, en, text, &en->parts[0].text))
		return too_large(e);
	en->parts[0].type = PART_TEXT;
	buf_reset(&tr->partial);
	return 0;
}

/* What the daemon itself tells the model (loop guard, limits): behind the results of the step. */
static int
add_notice(struct transcript *tr, const struct node *body, struct err *e)
{
	struct entry *en;

	if (!node_bool(body, "to_model", false))
		return 0;
	en = entry_push(tr, MSG_USER, 1);
	if (en == NULL || !keep(tr, en, node_str(body, "text", STR("")), &en->parts[0].text))
		return too_large(e);
	en->parts[0].type = PART_TEXT;
	return 0;
}

int
transcript_add(struct transcript *tr, enum event_kind kind, const struct node *body, struct err *e)
{
	switch (kind) {
	case EVENT_USER_MESSAGE:
		return add_user(tr, body, e);
	case EVENT_MODEL_DONE:
		add_usage(tr, body);
		return add_answer(tr, body, e);
	case EVENT_MODEL_PARTIAL:
	case EVENT_MODEL_RESET:
		add_partial(tr, body, kind == EVENT_MODEL_RESET);
		return 0;
	case EVENT_TOOL_REQUESTED:
		return add_requested(tr, body, e);
	case EVENT_APPROVAL_RESOLVED:
		return add_resolved(tr, body, e);
	case EVENT_EFFECT_OUTCOME:
		return add_result(tr, body, node_str(body, "text", STR("")), node_bool(body, "is_error", false), e);
	case EVENT_TURN_FINISHED:
		return add_finished(tr, e);
	case EVENT_NOTICE:
		return add_notice(tr, body, e);
	default:
		return 0;
	}
}

/* ---- the view ---- */

#define CUT_TAIL   4 /* of a result that is cut, one part in so many is its end */
#define CUT_NEWEST 4 /* the newest results may be so many times as long as the older ones */
#define CUT_MIN    256

static const struct part no_result = {
	.type = PART_RESULT,
	.text = { "This call was not run: the turn ended before it.", 48 },
	.is_error = true,
};

/* The beginning and the end of a text that is too long, with a word about what is missing. */
static struct str
cut_middle(struct str s, size_t most, struct arena *a)
{
	size_t tail_n, head, tail;
	struct buf b;

	if (s.n <= most)
		return s;
	tail_n = most / CUT_TAIL;
	head = utf8_cut(s, most - tail_n);
	tail = s.n - tail_n;
	while (tail < s.n && ((unsigned char)s.p[tail] & 0xc0) == 0x80)
		tail++;
	buf_init(&b, s.n + 128);
	buf_add_str(&b, str_sub(s, 0, head));
	buf_printf(&b, "\n[%zu bytes left out to fit the context window]\n", tail - head);
	buf_add_str(&b, str_sub(s, tail, s.n));
	return arena_take(a, &b);
}

/* How long a result of this entry may be. */
static size_t
result_most(const struct transcript *tr, const struct entry *en, size_t result_max)
{
	size_t limit = result_max > 0 ? result_max : SIZE_MAX;

	return en == newest_results(tr) && limit < SIZE_MAX / CUT_NEWEST ? limit * CUT_NEWEST : limit;
}

static size_t
entry_bytes(const struct transcript *tr, const struct entry *en, size_t result_max)
{
	size_t most = result_most(tr, en, result_max), bytes = en->bytes;

	for (size_t i = 0; i < en->n; i++)
		if (en->parts[i].type == PART_RESULT)
			bytes -= en->parts[i].text.n - MIN(en->parts[i].text.n, most);
	return bytes;
}

static void
view_entry(const struct transcript *tr, const struct entry *en, size_t result_max, struct arena *a, struct message *out)
{
	struct part *parts = arena_alloc(a, MAX(en->n, 1) * sizeof *parts);
	size_t most = result_most(tr, en, result_max);

	for (size_t i = 0; i < en->n; i++) {
		parts[i] = en->parts[i];
		if (parts[i].type != PART_RESULT)
			continue;
		if (parts[i].text.p == NULL) {
			parts[i] = no_result;
			parts[i].call_id = en->parts[i].call_id;
		} else {
			parts[i].text = cut_middle(parts[i].text, most, a);
		}
	}
	*out = (struct message){ .role = en->role, .parts = parts, .n = en->n };
}

static const struct message *
dropped_note(size_t turns, struct arena *a, struct message *m)
{
	struct part *p = arena_alloc(a, sizeof *p);
	const char *z = arena_printf(a, "[%zu earlier turns are left out to fit the context window.]", turns);

	*p = (struct part){ .type = PART_TEXT, .text = str_of(z) };
	*m = (struct message){ .role = MSG_USER, .parts = p, .n = 1 };
	return m;
}

/* The turn that `first` is behind: its first entry, and its size. */
static size_t
turn_before(const struct transcript *tr, size_t first, size_t result_max, size_t *size)
{
	size_t turn = tr->entries[first - 1].turn;

	*size = 0;
	while (first > 0 && tr->entries[first - 1].turn == turn)
		*size += entry_bytes(tr, &tr->entries[--first], result_max);
	return first;
}

/* The turn in progress is always there. Where it alone is too long, its results are cut until it fits, or cannot. */
static size_t
result_cut(const struct transcript *tr, const struct view_limits *l)
{
	size_t cut = l->result_max, size;

	if (tr->n == 0)
		return cut;
	for (;;) {
		(void)turn_before(tr, tr->n, cut, &size);
		if (size <= l->max_bytes || (cut > 0 && cut <= CUT_MIN))
			return cut;
		cut = cut == 0 ? EVENT_BODY_MAX : cut / 2;
	}
}

void
transcript_view(const struct transcript *tr, const struct view_limits *l, struct arena *a, struct transcript_view *out)
{
	size_t first = tr->n, bytes = 0, n = 0, cut = result_cut(tr, l);
	struct message *messages;
	size_t *turns;

	/* Walk back turn by turn as long as the next older one fits. */
	while (first > 0) {
		size_t size, from = turn_before(tr, first, cut, &size);

		if (first < tr->n && bytes + size > l->max_bytes)
			break;
		bytes += size;
		first = from;
	}
	*out = (struct transcript_view){ .bytes = bytes };
	if (first > 0)
		out->dropped_turns = tr->entries[first - 1].turn;
	messages = arena_alloc(a, (tr->n - first + 1) * sizeof *messages);
	turns = arena_alloc(a, (tr->n - first + 1) * sizeof *turns);
	if (out->dropped_turns > 0)
		dropped_note(out->dropped_turns, a, &messages[n++]);
	for (size_t i = first; i < tr->n; i++) {
		turns[n] = tr->entries[i].turn;
		view_entry(tr, &tr->entries[i], cut, a, &messages[n++]);
	}
	out->messages = messages;
	out->turns = turns;
	out->n = n;
}
