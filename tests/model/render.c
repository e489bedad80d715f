/* SPDX-License-Identifier: MIT
 * From a step of the script to the bytes on the wire: walks the actions, has the dialect of the
 * request's API write each, and frames the events, each in a chunk of its own (RFC 9112 chunked
 * coding), with marks where sending pauses or stops. Nothing here knows of sockets. */
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

/* Of reasoning whose script says none. */
#define SIGNATURE "c2lnbmF0dXJl"

static const struct dialect *const dialects[] = {
	[API_OPENAI] = &dialect_chat,
	[API_ANTHROPIC] = &dialect_anthropic,
	[API_RESPONSES] = &dialect_responses,
	[API_GEMINI] = &dialect_gemini,
	/* for their errors */
	[API_EMBED] = &dialect_chat,
	[API_EMBED_GEMINI] = &dialect_gemini,
	[API_EMBED_GEMINI_BATCH] = &dialect_gemini,
	[API_EMBED_OLLAMA] = &dialect_chat,
};
static const char *const finish_names[FINISH_N] = { "end", "tools", "length", "refusal", "filter" };

void
answer_init(struct answer *a)
{
	*a = (struct answer){ 0 };
	buf_init(&a->bytes, 2 * ANSWER_MAX);
}

void
answer_fini(struct answer *a)
{
	buf_fini(&a->bytes);
	free(a->marks);
	*a = (struct answer){ 0 };
}

void
answer_mark(struct answer *a, enum mark_type type, int64_t ms)
{
	a->marks = vec_grow(a->marks, &a->cap, a->n + 1, sizeof(*a->marks));
	a->marks[a->n++] = (struct mark){ .offset = a->bytes.n, .type = type, .ms = ms };
}

/* ---- stream ---- */

void
chunk_send(struct render *w, struct str bytes)
{
	if (bytes.n == 0)
		return;
	buf_printf(&w->a->bytes, "%zx\r\n", bytes.n);
	buf_add_str(&w->a->bytes, bytes);
	buf_add_z(&w->a->bytes, "\r\n");
}

struct json *
event_begin(struct render *w, const char *name)
{
	buf_reset(&w->event);
	buf_reset(&w->data);
	if (w->d->has_event_names)
		buf_printf(&w->event, "event: %s%.*s", name, STR_FMT(w->eol));
	json_init(&w->j, &w->data);
	json_obj(&w->j);
	if (w->d->has_event_names)
		json_kv_z(&w->j, "type", name);
	return &w->j;
}

void
event_send(struct render *w, struct str data)
{
	if (w->is_array) {
		buf_add_z(&w->event, w->sequence++ ? ",\r\n" : "[");
		buf_add_str(&w->event, data);
	} else {
		buf_add_z(&w->event, "data: ");
		buf_add_str(&w->event, data);
		buf_add_str(&w->event, w->eol);
		buf_add_str(&w->event, w->eol);
	}
	chunk_send(w, buf_str(&w->event));
}

void
event_end(struct render *w)
{
	json_obj_end(&w->j);
	event_send(w, buf_str(&w->data));
}

bool
piece_next(struct str *rest, int64_t *pieces, struct str *out)
{
	size_t n;

	if (*pieces <= 0 || rest->n == 0)
		return false;
	n = utf8_cut(*rest, (rest->n + (size_t)*pieces - 1) / (size_t)*pieces);
	n = n ? n : MIN(utf8_start(*rest, 1), rest->n);
	*out = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n, rest->n);
	--*pieces;
	return true;
}

int64_t
usage_of(const struct render *w, const char *key)
{
	int64_t dflt = strcmp(key, "input") == 0 ? 10 : strcmp(key, "output") == 0 ? 5 : 0;

	return node_int(w->usage, key, dflt);
}

/* What the script calls it, in the words of the API; its own words are sent as they are. */
static struct str
finish_reason(const struct render *w)
{
	if (w->finish.n == 0)
		return str_of(w->d->finish[w->calls ? FINISH_TOOLS : FINISH_END]);
	for (size_t i = 0; i < FINISH_N; i++)
		if (str_is(w->finish, finish_names[i]))
			return str_of(w->d->finish[i]);
	return w->finish;
}

/* ---- actions ---- */

/* {{seq}}, {{n}} (tool results in the request), {{user}} and {{result}}. */
static void
expand(struct buf *b, struct str s, const struct request *r)
{
	ptrdiff_t at;

	while ((at = str_find(s, STR("{{"))) >= 0) {
		buf_add_str(b, str_sub(s, 0, (size_t)at));
		s = str_sub(s, (size_t)at, s.n);
		if (str_starts(s, "{{seq}}"))
			buf_printf(b, "%llu", (unsigned long long)r->seq);
		else if (str_starts(s, "{{n}}"))
			buf_printf(b, "%lld", (long long)r->results);
		else if (str_starts(s, "{{user}}"))
			buf_add_str(b, r->user);
		else if (str_starts(s, "{{result}}"))
			buf_add_str(b, r->result);
		else {
			buf_add_z(b, "{{");
			s = str_sub(s, 2, s.n);
			continue;
		}
		s = str_sub(s, (size_t)str_find(s, STR("}}")) + 2, s.n);
	}
	buf_add_str(b, s);
}

static void
do_text(struct render *w, const struct node *action, struct str text)
{
	int64_t size = node_int(action, "chunk", ANSWER_MAX), delay = node_int(action, "delay", 0);
	struct str signature = node_str(action, "signature", w->signature);

	while (text.n > 0) {
		size_t n = utf8_cut(text, (size_t)size);

		if (n == 0)
			n = MIN(utf8_start(text, 1), text.n);
		if (node_get(action, "reasoning"))
			w->d->thought(w, str_sub(text, 0, n));
		else if (node_get(action, "refusal"))
			w->d->refusal(w, str_sub(text, 0, n));
		else
			w->d->text(w, str_sub(text, 0, n), n == text.n ? signature : STR(""));
		text = str_sub(text, n, text.n);
		if (text.n > 0 && delay > 0)
			answer_mark(w->a, MARK_PAUSE, delay);
	}
}

static void
do_words(struct render *w, const struct node *action)
{
	static const char *const keys[] = { "text", "reasoning", "refusal", "json" };
	const struct node *words = NULL;
	struct buf written, b;
	struct json j;

	for (size_t i = 0; i < ARRAY_LEN(keys) && !words; i++)
		words = node_get(action, keys[i]);
	buf_init(&written, ANSWER_MAX);
	buf_init(&b, ANSWER_MAX);
	json_init(&j, &written);
	if (node_is(words, NODE_STR))
		buf_add_str(&written, words->s);
	else
		json_node(&j, words);
	expand(&b, buf_str(&written), w->r);
	do_text(w, action, buf_str(&b));
	if (node_get(action, "reasoning") && b.n > 0)
		w->d->thought_end(w, node_str(action, "signature", STR(SIGNATURE)));
	if (node_get(action, "refusal") && w->finish.n == 0)
		w->finish = str_of(finish_names[FINISH_REFUSAL]);
	buf_fini(&written);
	buf_fini(&b);
}

static void
do_call(struct render *w, const struct node *action)
{
	const struct node *n = node_get(action, "call"), *args = node_get(n, "args");
	struct call c = { .tool = node_str(n, "tool", STR("")),
		.pieces = node_int(n, "pieces", 1),
		.signature = node_str(action, "signature", STR("")),
		.has_id = node_get(n, "id"),
		.has_index = node_bool(n, "index", true) };
	struct buf id, text, full;
	struct json j;

	buf_init(&id, 256);
	buf_init(&text, ANSWER_MAX);
	buf_init(&full, ANSWER_MAX);
	if (c.has_id)
		expand(&id, node_str(n, "id", STR("")), w->r);
	else
		buf_printf(&id, "%s_%llu_%lld", w->d->call_prefix, (unsigned long long)w->r->seq,
			(long long)w->calls);
	json_init(&j, &text);
	if (node_is(args, NODE_STR))
		buf_add_str(&text, args->s);
	else if (args)
		json_node(&j, args);
	else
		buf_add_z(&text, "{}");
	expand(&full, buf_str(&text), w->r);
	c.id = buf_str(&id);
	c.args = buf_str(&full);
	w->d->call(w, &c);
	w->calls++;
	buf_fini(&id);
	buf_fini(&text);
	buf_fini(&full);
}

static void
add_headers(struct buf *b, const struct node *map)
{
	for (size_t i = 0; i < node_len(map); i++)
		buf_printf(b, "%.*s: %.*s\r\n", STR_FMT(map->map.pairs[i].key),
			STR_FMT(map->map.pairs[i].value.s));
}

/* Headers of an error. Gemini says how long to wait in the body, as long as that is a number. */
static void
error_headers(struct render *w, const struct node *error, struct buf *b)
{
	static const char *const names[][2] = { { "retry_after", "retry-after" },
		{ "retry_after_ms", "retry-after-ms" } };
	int64_t number;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct str value = node_str(error, names[i][0], STR(""));

		if (value.n && !(w->d == &dialect_gemini && str_i64(value, &number) == 0))
			buf_printf(b, "%s: %.*s\r\n", names[i][1], STR_FMT(value));
	}
	if (node_get(error, "should_retry"))
		buf_printf(b, "x-should-retry: %s\r\n",
			node_bool(error, "should_retry", false) ? "true" : "false");
	add_headers(b, node_get(error, "headers"));
}

static void
do_error(struct render *w, const struct node *error)
{
	int status = (int)node_int(error, "status", 0);
	struct buf body, headers;
	struct json j;

	w->is_over = true;
	if (status == 0) { /* inside a stream that began well */
		w->d->stream_error(w, error);
		return;
	}
	buf_init(&body, MIB);
	buf_init(&headers, KIB * 64);
	json_init(&j, &body);
	json_obj(&j);
	w->d->error(&j, w, error, status);
	json_obj_end(&j);
	error_headers(w, error, &headers);
	render_plain(w->a, status, "application/json", buf_str(&headers), buf_str(&body));
	buf_fini(&body);
	buf_fini(&headers);
}

static void
do_respond(struct render *w, const struct node *respond)
{
	struct buf headers;

	buf_init(&headers, KIB * 64);
	add_headers(&headers, node_get(respond, "headers"));
	render_plain(w->a, (int)node_int(respond, "status", 200),
		node_z(respond, "type", "application/json"), buf_str(&headers),
		node_str(respond, "body", STR("")));
	buf_fini(&headers);
	w->is_over = true;
}

static void
do_cut(struct render *w, struct str how)
{
	if (str_is(how, "mid")) {
		event_begin(w, "content_block_delta");
		buf_add_z(&w->event, w->is_array ? "," : "data: ");
		buf_add_z(&w->event, "{\"type\":\"content_blo");
		chunk_send(w, buf_str(&w->event));
	}
	w->is_over = w->lacks_end = true;
	w->is_cut = !str_is(
		how, "end"); /* "end": the body ends as it should, but without its end mark */
	if (w->is_cut)
		answer_mark(w->a, str_is(how, "reset") ? MARK_RESET : MARK_CLOSE, 0);
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9'                     ? c - '0'
	       : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
							: -1;
}

static void
do_hex(struct render *w, struct str hex)
{
	int high = -1;

	buf_reset(&w->event);
	for (size_t i = 0; i < hex.n; i++) {
		int d = hex_digit(hex.p[i]);

		if (d < 0)
			continue;
		if (high < 0) {
			high = d;
			continue;
		}
		buf_add_char(&w->event, (char)(high << 4 | d));
		high = -1;
	}
	chunk_send(w, buf_str(&w->event));
}

static void
do_ping(struct render *w)
{
	if (w->r->api == API_ANTHROPIC) {
		event_begin(w, "ping");
		event_end(w);
		return;
	}
	buf_reset(&w->event);
	if (w->is_array)
		buf_add_z(&w->event, "\r\n");
	else
		buf_printf(&w->event, ": ping%.*s%.*s", STR_FMT(w->eol), STR_FMT(w->eol));
	chunk_send(w, buf_str(&w->event));
}

/* The writer of JSON repairs invalid UTF-8, so it is put in afterwards. */
static void
do_bad_utf8(struct render *w)
{
	size_t from = w->a->bytes.n;
	struct str sent;
	ptrdiff_t at;

	w->d->text(w, STR("@@"), STR(""));
	sent = str_sub(buf_str(&w->a->bytes), from, w->a->bytes.n);
	at = str_find(sent, STR("@@"));
	if (at >= 0) {
		w->a->bytes.p[from + (size_t)at] = '\xC3';
		w->a->bytes.p[from + (size_t)at + 1] = '(';
	}
}

static void
do_huge(struct render *w, int64_t size)
{
	char *p = xmalloc((size_t)size);

	memset(p, 'x', (size_t)size);
	w->d->text(w, (struct str){ p, (size_t)size }, STR(""));
	free(p);
}

static void
do_block(struct render *w, struct str reason)
{
	if (w->d->blocked) {
		w->d->blocked(w, reason);
		w->is_over = true;
	} else {
		w->finish = str_of(finish_names[FINISH_FILTER]);
	}
}

static void
act(struct render *w, const struct node *action)
{
	if (w->d->settle && !node_get(action, "call"))
		w->d->settle(w);
	if (node_get(action, "text") || node_get(action, "reasoning") ||
		node_get(action, "refusal") || node_get(action, "json"))
		do_words(w, action);
	else if (node_int(action, "delay", 0) > 0)
		answer_mark(w->a, MARK_PAUSE, node_int(action, "delay", 0));
	if (node_get(action, "redacted"))
		w->d->redacted(w, node_str(action, "redacted", STR("")));
	if (node_get(action, "call"))
		do_call(w, action);
	if (node_get(action, "raw"))
		chunk_send(w, node_str(action, "raw", STR("")));
	if (node_get(action, "hex"))
		do_hex(w, node_str(action, "hex", STR("")));
	if (node_bool(action, "ping", false))
		do_ping(w);
	if (node_bool(action, "bad_utf8", false))
		do_bad_utf8(w);
	if (node_get(action, "huge"))
		do_huge(w, node_int(action, "huge", 1));
	if (node_get(action, "block"))
		do_block(w, node_str(action, "block", STR("")));
	if (node_get(action, "error"))
		do_error(w, node_get(action, "error"));
	if (node_get(action, "cut"))
		do_cut(w, node_str(action, "cut", STR("close")));
}

/* ---- whole answers ---- */

void
render_plain(struct answer *a, int status, const char *type, struct str headers, struct str body)
{
	buf_printf(&a->bytes,
		"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%.*s%s\r\n", status,
		status < 400 ? "OK" : "Error", type, body.n, STR_FMT(headers),
		a->close ? "connection: close\r\n" : "");
	buf_add_str(&a->bytes, body);
}

/* One pause in front of every n bytes: each is a write of its own. */
static void
split_writes(struct answer *a, int64_t n, int64_t ms)
{
	struct mark *old = a->marks;
	size_t old_n = a->n, k = 0, end = a->bytes.n;

	a->marks = NULL;
	a->n = a->cap = 0;
	for (size_t at = (size_t)n; at < end; at += (size_t)n) {
		while (k < old_n && old[k].offset <= at) {
			a->marks = vec_grow(a->marks, &a->cap, a->n + 1, sizeof(*a->marks));
			a->marks[a->n++] = old[k++];
		}
		a->marks = vec_grow(a->marks, &a->cap, a->n + 1, sizeof(*a->marks));
		a->marks[a->n++] = (struct mark){ .offset = at, .type = MARK_PAUSE, .ms = ms };
	}
	for (; k < old_n; k++) {
		a->marks = vec_grow(a->marks, &a->cap, a->n + 1, sizeof(*a->marks));
		a->marks[a->n++] = old[k];
	}
	free(old);
}

static const struct node *
find_action(const struct node *actions, const char *key)
{
	for (size_t i = 0; i < node_len(actions); i++)
		if (node_get(node_at(actions, i), key))
			return node_get(node_at(actions, i), key);
	return NULL;
}

static void
stream_head(struct render *w, const struct node *step)
{
	struct buf headers;

	buf_init(&headers, KIB * 64);
	add_headers(&headers, node_get(step, "headers"));
	buf_printf(&w->a->bytes,
		"HTTP/1.1 200 OK\r\ncontent-type: %s; charset=utf-8\r\n"
		"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n",
		w->is_array ? "application/json" : "text/event-stream");
	if (w->d->request_id)
		buf_printf(&w->a->bytes, "%s: req_%llu\r\n", w->d->request_id,
			(unsigned long long)w->r->seq);
	buf_printf(&w->a->bytes, "%.*s%s\r\n", STR_FMT(buf_str(&headers)),
		w->a->close ? "connection: close\r\n" : "");
	buf_fini(&headers);
}

static void
render_stream(struct render *w, const struct node *step, const struct node *actions)
{
	bool is_done = node_bool(step, "done", true);

	stream_head(w, step);
	w->d->start(w);
	for (size_t i = 0; i < node_len(actions) && !w->is_over; i++)
		act(w, node_at(actions, i));
	if (!w->is_over)
		w->d->finished(w, finish_reason(w), is_done);
	if (w->is_array && is_done && !w->lacks_end)
		chunk_send(w, w->sequence ? STR("]") : STR("[]"));
	if (!w->is_cut)
		buf_add_z(&w->a->bytes, "0\r\n\r\n");
}

void
render(const struct node *step, const struct node *usage, const struct request *r, struct answer *a)
{
	const struct node *actions = node_get(step, "answer"),
			  *respond = find_action(actions, "respond");
	const struct node *error = find_action(actions, "error"),
			  *own = find_action(actions, "usage");
	const struct node *finish = find_action(actions, "finish");
	struct str eol = node_str(step, "eol", STR("lf"));
	struct render w = { .r = r,
		.a = a,
		.d = dialects[r->api],
		.usage = own ? own : usage,
		.finish = finish ? finish->s : STR(""),
		.signature = STR(""),
		.is_array = r->api == API_GEMINI && !r->is_sse };

	w.eol = str_is(eol, "crlf") ? STR("\r\n") : str_is(eol, "cr") ? STR("\r") : STR("\n");
	buf_init(&w.event, 2 * ANSWER_MAX);
	buf_init(&w.data, 2 * ANSWER_MAX);
	buf_init(&w.items, 2 * ANSWER_MAX);
	buf_init(&w.text, 2 * ANSWER_MAX);
	a->close = node_bool(step, "close", false);
	if (node_int(step, "first_delay", 0) > 0)
		answer_mark(a, MARK_PAUSE, node_int(step, "first_delay", 0));
	if (respond)
		do_respond(&w, respond);
	else if (error && node_get(error, "status"))
		do_error(&w, error);
	else
		render_stream(&w, step, actions);
	if (node_get(step, "write"))
		split_writes(a, node_int(step, "write", 1), node_int(step, "write_delay", 0));
	buf_fini(&w.event);
	buf_fini(&w.data);
	buf_fini(&w.items);
	buf_fini(&w.text);
}
