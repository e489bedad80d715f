/* SPDX-License-Identifier: MIT
 * What the next request to the model holds. The request is made by the very functions that make a
 * real one, for a turn that is only imagined, and is not sent; then each part of it is a row: how
 * many bytes it takes there, its tokens, what it costs fresh and from the cache, why it is there,
 * and what would go first. The rows add up to the request. */
#include "agent/media.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <stdio.h>

#define CONTEXT_MAX  WIRE_TAIL_MAX
#define LABEL_MAX    60 /* bytes of a text that names a row */
#define NEEDLE_BYTES 48 /* of a file, to find it in a request; a multiple of three */

/* A turn that is not begun: enough of it for a request to be made. */
struct sketch {
	struct active s;
	struct run r;
	struct model_call m;
};

struct wish {
	struct engine *en;
	char session[ID_SIZE];
	char *text, *model; /* NULL: none */
	size_t text_n;
	engine_text_fn done;
	void *arg;
};

/* ---- the request ---- */

static int
sketch_text(struct sketch *k, struct str text, struct err *e)
{
	const struct node *n;
	struct buf b;
	struct json j;
	int rc;

	buf_init(&b, 8 * USER_TEXT_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, "text", text);
	json_obj_end(&j);
	rc = json_parse(k->r.a, buf_str(&b), &n, e);
	if (rc == 0)
		rc = transcript_add(k->s.tr, EVENT_USER_MESSAGE, n, e);
	buf_fini(&b);
	return rc;
}

/* The options of the turn in progress, or those that a new one would have. */
static int
sketch_turn(struct sketch *k, const struct wish *w, struct err *e)
{
	const struct run *now = k->s.run;
	struct queued q = { .model = w->model, .mode = -1 };
	struct turn_input in = { .kind = EVENT_TURN_STARTED, .time_ms = clock_wall_ms() };
	struct turn_out out;
	struct buf b;
	struct json j;
	int rc;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	if (now != NULL && w->text == NULL && w->model == NULL && turn_state(now->t) != TURN_NEW)
		json_node(&j, turn_options(now->t));
	else
		write_options(&k->r, &q, &j);
	rc = json_parse(k->r.a, buf_str(&b), &in.body, e);
	buf_fini(&b);
	return rc == 0 ? turn_step(k->r.t, &in, &out, e) : rc;
}

static void
sketch_free(struct sketch *k)
{
	transcript_free(k->s.tr);
	turn_fini(k->r.t);
	arena_free(k->r.a);
	arena_free(k->m.a);
	buf_fini(&k->m.body);
	free(k);
}

static struct sketch *
sketch_new(struct active *s)
{
	struct sketch *k = xcalloc(1, sizeof *k);

	k->s = *s;
	k->s.tr = transcript_imagine(s->tr);
	k->r = (struct run){ .refs = 1, .en = s->en, .s = &k->s, .a = arena_new(TURN_ARENA_MAX) };
	snprintf(k->r.turn, sizeof k->r.turn, "%s", s->run != NULL ? s->run->turn : id_new().z);
	k->r.t = turn_new(k->r.a, k->r.turn);
	k->m = (struct model_call){
		.r = &k->r, .a = arena_new(TURN_ARENA_MAX), .step = 1, .attempt = 1
	};
	buf_init(&k->m.body, REQUEST_BODY_MAX);
	return k;
}

/* Everything up to the bytes that would be sent. */
static int
sketch_make(struct sketch *k, const struct wish *w, struct err *e)
{
	struct http_request http = { .body = &k->m.body };
	int rc = sketch_turn(k, w, e);

	if (rc == 0 && w->text != NULL)
		rc = sketch_text(k, (struct str){ w->text, w->text_n }, e);
	if (rc != 0)
		return rc;
	run_env(&k->r);
	rc = call_request(&k->m, e);
	if (rc == 0 && !media_is_wanted(&k->s) && k->m.info.api->build != NULL &&
		k->m.q.messages_n > 0)
		rc = k->m.info.api->build(&k->m.q, &http, k->m.a, e);
	return rc;
}

/* ---- rows ---- */

struct row {
	const char *kind;
	struct str what;
	size_t turn, drops; /* 0: of none; never */
	size_t bytes, content;
	int64_t tokens;
	bool is_stable;
	const char *why;
};

struct listing {
	const struct sketch *k;
	struct json *j;
	struct buf scratch;
	size_t sent_n; /* messages that the last call has sent already */
	size_t bytes, stable_bytes;
	int64_t tokens, stable_tokens;
};

static int64_t
price(const struct model_info *m, int64_t tokens, bool is_cached)
{
	struct model_usage u = { .input_tokens = tokens, .cached_tokens = is_cached ? tokens : 0 };

	return model_cost(m, &u);
}

static void
write_row(struct listing *l, const struct row *row)
{
	const struct model_info *m = &l->k->m.info;
	struct json *j = l->j;

	json_obj(j);
	json_kv_z(j, "kind", row->kind);
	json_kv_str(j, "what", row->what);
	if (row->turn > 0)
		json_kv_int(j, "turn", (int64_t)row->turn);
	json_kv_int(j, "bytes", (int64_t)row->bytes);
	json_kv_int(j, "tokens", row->tokens);
	json_key(j, "share");
	json_double(j, (double)(row->tokens * 10000 / MAX(m->context_tokens, 1)) / 100);
	json_kv_int(j, "fresh_microusd", price(m, row->tokens, false));
	json_kv_int(j, "cached_microusd", price(m, row->tokens, true));
	json_kv_bool(j, "stable", row->is_stable);
	if (row->drops > 0)
		json_kv_int(j, "drops", (int64_t)row->drops);
	json_kv_z(j, "why", row->why);
	json_obj_end(j);
	l->bytes += row->bytes;
	l->tokens += row->tokens;
	if (row->is_stable) {
		l->stable_bytes += row->bytes;
		l->stable_tokens += row->tokens;
	}
}

/* As it stands inside a JSON string. */
static struct str
escaped(struct listing *l, struct str s)
{
	struct json j;

	buf_reset(&l->scratch);
	json_init(&j, &l->scratch);
	json_str(&j, s);
	return str_sub(buf_str(&l->scratch), 1, l->scratch.n - 2);
}

static size_t
escaped_n(struct listing *l, struct str s)
{
	return s.n > 0 ? escaped(l, s).n : 0;
}

static int64_t
text_tokens(size_t bytes)
{
	return (int64_t)((bytes + MEDIA_TEXT_BYTES - 1) / MEDIA_TEXT_BYTES);
}

static bool
is_in_body(const struct listing *l, struct str needle)
{
	return l->k->m.info.api->build == NULL || needle.n == 0 ||
	       str_find(buf_str(&l->k->m.body), needle) >= 0;
}

static struct str
first_line(struct str s)
{
	ptrdiff_t end = str_find_char(s = str_trim(s), '\n');

	s = str_sub(s, 0, end >= 0 ? (size_t)end : s.n);
	return str_sub(s, 0, utf8_cut(s, LABEL_MAX));
}

/* Each line of the prompt says something of its own. */
static void
system_rows(struct listing *l)
{
	struct str rest = l->k->m.q.system, line;
	bool is_sent = l->sent_n > 0;

	while (rest.n > 0) {
		ptrdiff_t end = str_find_char(rest, '\n');

		line = str_sub(rest, 0, end >= 0 ? (size_t)end + 1 : rest.n);
		rest = str_sub(rest, line.n, rest.n);
		write_row(l, &(struct row){ .kind = "system",
				     .what = first_line(line),
				     .bytes = escaped_n(l, line),
				     .tokens = text_tokens(line.n),
				     .is_stable = is_sent,
				     .why = "the system prompt: in every request" });
	}
}

static void
tool_rows(struct listing *l)
{
	for (size_t i = 0; i < l->k->m.q.tools_n; i++) {
		const struct tool_schema *t = &l->k->m.q.tools[i];
		size_t content = strlen(t->name) + strlen(t->text) + t->schema.n;

		write_row(l, &(struct row){ .kind = "tool",
				     .what = str_of(t->name),
				     .bytes = strlen(t->name) + escaped_n(l, str_of(t->text)) +
					      t->schema.n,
				     .tokens = text_tokens(content),
				     .is_stable = l->sent_n > 0,
				     .why = "on offer: a model can call only what is described in "
					    "every request" });
	}
}

/* The beginning of a file as a request holds it: whole groups of three bytes, so that nothing is
 * filled up. */
static struct str
needle_of(struct str data, char out[NEEDLE_BYTES / 3 * 4])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = 0;

	for (size_t i = 0; i + 3 <= MIN(data.n, (size_t)NEEDLE_BYTES); i += 3) {
		uint32_t v = (uint32_t)(unsigned char)data.p[i] << 16 |
			     (uint32_t)(unsigned char)data.p[i + 1] << 8 |
			     (unsigned char)data.p[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			out[n++] = digits[v >> shift & 63];
	}
	return (struct str){ out, n };
}

static void
media_row(struct listing *l, struct row *row, const struct part *p)
{
	char encoded[NEEDLE_BYTES / 3 * 4];
	struct media md;

	row->kind = "attachment";
	row->what = p->text;
	if (media_sniff(p->name, p->data, &md, NULL) == 0)
		row->tokens = md.tokens;
	if (is_in_body(l, needle_of(p->data, encoded)))
		row->bytes = (p->data.n + 2) / 3 * 4;
	else
		row->why = "not sent: this API takes no such file";
}

static void
part_row(struct listing *l, const struct part *p, enum message_role role, struct row row)
{
	switch (p->type) {
	case PART_TEXT:
		row.kind = row.turn == 0      ? "note"
			   : p->blob.n > 0    ? "attachment"
			   : role == MSG_USER ? "user"
					      : "assistant";
		row.what = first_line(p->text);
		row.bytes = escaped_n(l, p->text);
		row.tokens = text_tokens(p->text.n);
		break;
	case PART_REASONING:
	case PART_REASONING_REDACTED:
		row.kind = "reasoning";
		row.what = first_line(p->text);
		if (is_in_body(l,
			    p->signature.n > 0 ? escaped(l, p->signature) : escaped(l, p->text))) {
			row.bytes = escaped_n(l, p->text) + escaped_n(l, p->signature);
			row.tokens = text_tokens(p->text.n + p->signature.n);
		} else {
			row.why = "not sent back: only signed reasoning goes back, to the provider "
				  "that signed it";
		}
		break;
	case PART_CALL:
		row.kind = "call";
		row.what = p->tool;
		row.bytes =
			p->tool.n + p->call_id.n +
			(is_in_body(l, escaped(l, p->args)) ? escaped_n(l, p->args) : p->args.n);
		row.tokens = text_tokens(p->tool.n + p->call_id.n + p->args.n);
		break;
	case PART_RESULT:
		row.kind = "result";
		row.what = first_line(p->text);
		row.bytes = p->call_id.n + escaped_n(l, p->text);
		row.tokens = text_tokens(p->call_id.n + p->text.n);
		break;
	case PART_MEDIA:
		media_row(l, &row, p);
		break;
	}
	write_row(l, &row);
}

static void
message_rows(struct listing *l)
{
	const struct model_request *q = &l->k->m.q;
	const size_t *turns = l->k->m.turns;
	size_t newest = q->messages_n > 0 ? turns[q->messages_n - 1] : 0,
	       dropped = l->k->m.dropped_turns;

	for (size_t i = 0; i < q->messages_n; i++) {
		bool is_newest = turns[i] == newest;
		struct row row = { .turn = turns[i], .is_stable = i < l->sent_n };

		row.drops = is_newest || turns[i] == 0 ? 0 : turns[i] - dropped;
		row.why = turns[i] == 0 ? "stands for the turns that do not fit the window"
			  : is_newest   ? "the newest turn: always kept"
					: "history: kept while it fits, dropped turn by turn, the "
					"oldest first";
		for (size_t k = 0; k < q->messages[i].n; k++)
			part_row(l, &q->messages[i].parts[k], q->messages[i].role, row);
	}
}

/* ---- the whole ---- */

/* The last call sent everything in front of its answer. */
static size_t
sent_before(const struct model_request *q)
{
	for (size_t i = q->messages_n; i > 0; i--)
		if (q->messages[i - 1].role == MSG_ASSISTANT)
			return i - 1;
	return 0;
}

static size_t
count_marks(struct str body)
{
	size_t n = 0;

	for (ptrdiff_t at; (at = str_find(body, STR("\"cache_control\":"))) >= 0; n++)
		body = str_sub(body, (size_t)at + 1, body.n);
	return n;
}

static void
write_last_call(struct json *j, const struct transcript *tr)
{
	struct model_usage u;
	int64_t cost;

	if (!transcript_last_usage(tr, &u, &cost))
		return;
	json_kv_obj(j, "last_call");
	json_kv_int(j, "input_tokens", u.input_tokens);
	json_kv_int(j, "cached_tokens", u.cached_tokens);
	json_kv_int(j, "cache_write_tokens", u.cache_write_tokens);
	json_kv_int(j, "output_tokens", u.output_tokens);
	json_kv_int(j, "cost_microusd", cost);
	json_obj_end(j);
}

static void
write_context(const struct sketch *k, const char *session, struct json *j)
{
	const struct model_info *m = &k->m.info;
	struct listing l = { .k = k, .j = j, .sent_n = sent_before(&k->m.q) };
	char model[200];

	buf_init(&l.scratch, 8 * TURN_MEDIA_MAX);
	snprintf(model, sizeof model, "%.*s/%.*s", STR_FMT(m->provider), STR_FMT(m->model));
	json_obj(j);
	json_kv_z(j, "session", session);
	json_kv_z(j, "model", model);
	json_kv_z(j, "api", m->api->name);
	json_kv_int(j, "window_tokens", m->context_tokens);
	json_kv_int(j, "output_tokens", k->m.q.max_output_tokens);
	json_kv_int(j, "dropped_turns", (int64_t)k->m.dropped_turns);
	json_kv_arr(j, "parts");
	system_rows(&l);
	tool_rows(&l);
	message_rows(&l);
	if (k->m.body.n > l.bytes)
		write_row(&l, &(struct row){ .kind = "syntax",
				      .what = STR("JSON around them"),
				      .bytes = k->m.body.n - l.bytes,
				      .why = "names, quotes and options of the request: servers do "
					     "not count them as input" });
	json_arr_end(j);
	json_kv_int(j, "bytes", (int64_t)l.bytes);
	json_kv_int(j, "tokens", l.tokens);
	json_kv_int(j, "fresh_microusd", price(m, l.tokens, false));
	json_kv_int(j, "cached_microusd",
		price(m, l.stable_tokens, true) + price(m, l.tokens - l.stable_tokens, false));
	json_kv_int(j, "stable_bytes", (int64_t)l.stable_bytes);
	json_kv_int(j, "stable_tokens", l.stable_tokens);
	json_kv_int(j, "cache_marks", (int64_t)count_marks(buf_str(&k->m.body)));
	write_last_call(j, k->s.tr);
	json_obj_end(j);
	buf_fini(&l.scratch);
}

static void
wish_done(struct wish *w, struct str json, const struct err *e)
{
	w->done(w->arg, json, e);
	free(w->text);
	free(w->model);
	free(w);
}

static void on_session(struct engine *en, struct active *s, void *arg, const struct err *e);

/* With its files read. The session may have gone meanwhile: everything is done again. */
static void
on_media(void *arg)
{
	struct wish *w = arg;
	struct err e;

	if (!w->en->is_stopping) {
		active_load(w->en, w->session, on_session, w);
		return;
	}
	err_set(&e, ERR_GONE, ERR_TO_USER, "the runtime is ending");
	wish_done(w, STR(""), &e);
}

static void
on_session(struct engine *en, struct active *s, void *arg, const struct err *e)
{
	struct wish *w = arg;
	struct sketch *k;
	struct buf b;
	struct json j;
	struct err le = { 0 };
	int rc;

	if (e != NULL) {
		wish_done(w, STR(""), e);
		return;
	}
	k = sketch_new(s);
	rc = sketch_make(k, w, &le);
	s->media = k->s.media; /* what it noted as wanted */
	if (rc == 0 && media_is_wanted(s)) {
		sketch_free(k);
		media_read(s, on_media, w);
		return;
	}
	buf_init(&b, CONTEXT_MAX);
	json_init(&j, &b);
	if (rc == 0)
		write_context(k, s->id, &j);
	if (rc == 0 && b.overflow)
		rc = err_set(&le, ERR_LIMIT, ERR_TO_USER,
			"session.context: the list is larger than %u MiB", CONTEXT_MAX / MIB);
	sketch_free(k);
	if (s->run == NULL)
		media_forget(s);
	wish_done(w, buf_str(&b), rc != 0 ? &le : NULL);
	buf_fini(&b);
}

void
engine_context(struct engine *en, const char *session, struct str text, struct str model,
	engine_text_fn done, void *arg)
{
	struct wish *w = xcalloc(1, sizeof *w);

	*w = (struct wish){ .en = en,
		.text = text.n > 0 ? str_dup(text) : NULL,
		.text_n = text.n,
		.model = model.n > 0 ? str_dup(model) : NULL,
		.done = done,
		.arg = arg };
	snprintf(w->session, sizeof w->session, "%s", session);
	active_load(en, session, on_session, w);
}
