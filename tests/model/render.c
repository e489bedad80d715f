/* SPDX-License-Identifier: MIT
 * From a step of the script to the bytes on the wire, in the form of either API: event by event,
 * each in a chunk of its own (RFC 9112 chunked coding), with marks where sending pauses or stops.
 * Nothing here knows of sockets. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

struct render {
	const struct request *r;
	struct answer *a;
	struct str eol;
	struct buf event; /* one event of the stream */
	struct buf data;  /* its JSON */
	struct json j;
	int64_t blocks, calls; /* begun so far */
	const char *block;     /* anthropic: type of the open block, or NULL */
	struct str finish;
	const struct node *usage;
	bool is_over; /* respond, error or cut: nothing more */
	bool is_cut;  /* without the last chunk */
};

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

static void
chunk(struct render *w, struct str bytes)
{
	if (bytes.n == 0)
		return;
	buf_printf(&w->a->bytes, "%zx\r\n", bytes.n);
	buf_add_str(&w->a->bytes, bytes);
	buf_add_z(&w->a->bytes, "\r\n");
}

static struct json *
event_begin(struct render *w, const char *name)
{
	buf_reset(&w->event);
	buf_reset(&w->data);
	if (w->r->api == API_ANTHROPIC)
		buf_printf(&w->event, "event: %s%.*s", name, STR_FMT(w->eol));
	json_init(&w->j, &w->data);
	json_obj(&w->j);
	if (w->r->api == API_ANTHROPIC)
		json_kv_z(&w->j, "type", name);
	return &w->j;
}

static void
event_send(struct render *w, struct str data)
{
	buf_add_z(&w->event, "data: ");
	buf_add_str(&w->event, data);
	buf_add_str(&w->event, w->eol);
	buf_add_str(&w->event, w->eol);
	chunk(w, buf_str(&w->event));
}

static void
event_end(struct render *w)
{
	json_obj_end(&w->j);
	event_send(w, buf_str(&w->data));
}

/* openai: begins a chunk up to and into choices[0].delta. */
static struct json *
delta_begin(struct render *w)
{
	struct json *j = event_begin(w, NULL);
	char id[40];

	snprintf(id, sizeof(id), "chatcmpl-%llu", (unsigned long long)w->r->seq);
	json_kv_z(j, "id", id);
	json_kv_z(j, "object", "chat.completion.chunk");
	json_kv_int(j, "created", 1700000000);
	json_kv_str(j, "model", w->r->model);
	json_key(j, "choices");
	json_arr(j);
	json_obj(j);
	json_kv_int(j, "index", 0);
	json_key(j, "delta");
	json_obj(j);
	return j;
}

static void
delta_end(struct render *w, const char *finish)
{
	json_obj_end(&w->j);
	json_kv_z(&w->j, "finish_reason", finish);
	json_obj_end(&w->j);
	json_arr_end(&w->j);
	event_end(w);
}

static void
block_stop(struct render *w)
{
	if (!w->block)
		return;
	w->block = NULL;
	json_kv_int(event_begin(w, "content_block_stop"), "index", w->blocks - 1);
	event_end(w);
}

/* anthropic: begins content_block_start up to and into content_block. */
static struct json *
block_start(struct render *w, const char *type)
{
	struct json *j;

	block_stop(w);
	w->block = type;
	j = event_begin(w, "content_block_start");
	json_kv_int(j, "index", w->blocks++);
	json_key(j, "content_block");
	json_obj(j);
	json_kv_z(j, "type", type);
	return j;
}

static void
block_delta(struct render *w, const char *type, const char *key, struct str value)
{
	struct json *j = event_begin(w, "content_block_delta");

	json_kv_int(j, "index", w->blocks - 1);
	json_key(j, "delta");
	json_obj(j);
	json_kv_z(j, "type", type);
	json_kv_str(j, key, value);
	json_obj_end(j);
	event_end(w);
}

static void
usage_openai(struct render *w)
{
	struct json *j = event_begin(w, NULL);
	int64_t in = node_int(w->usage, "input", 10), out = node_int(w->usage, "output", 5);

	json_kv_z(j, "object", "chat.completion.chunk");
	json_key(j, "choices");
	json_arr(j);
	json_arr_end(j);
	json_key(j, "usage");
	json_obj(j);
	json_kv_int(j, "prompt_tokens", in);
	json_kv_int(j, "completion_tokens", out);
	json_kv_int(j, "total_tokens", in + out);
	json_key(j, "prompt_tokens_details");
	json_obj(j);
	json_kv_int(j, "cached_tokens", node_int(w->usage, "cached", 0));
	json_kv_int(j, "cache_write_tokens", node_int(w->usage, "written", 0));
	json_obj_end(j);
	json_key(j, "completion_tokens_details");
	json_obj(j);
	json_kv_int(j, "reasoning_tokens", node_int(w->usage, "reasoning", 0));
	json_obj_end(j);
	json_obj_end(j);
	event_end(w);
}

static void
usage_anthropic(struct render *w, struct json *j, int64_t output)
{
	int64_t cached = node_int(w->usage, "cached", 0),
		written = node_int(w->usage, "written", 0);

	json_key(j, "usage");
	json_obj(j);
	json_kv_int(j, "input_tokens", node_int(w->usage, "input", 10) - cached - written);
	json_kv_int(j, "cache_creation_input_tokens", written);
	json_kv_int(j, "cache_read_input_tokens", cached);
	json_kv_int(j, "output_tokens", output);
	json_obj_end(j);
}

static void
stream_start(struct render *w)
{
	struct json *j;
	char id[40];

	if (w->r->api == API_OPENAI) {
		j = delta_begin(w);
		json_kv_z(j, "role", "assistant");
		json_kv_z(j, "content", "");
		delta_end(w, NULL);
		return;
	}
	j = event_begin(w, "message_start");
	json_key(j, "message");
	json_obj(j);
	snprintf(id, sizeof(id), "msg_%llu", (unsigned long long)w->r->seq);
	json_kv_z(j, "id", id);
	json_kv_z(j, "type", "message");
	json_kv_z(j, "role", "assistant");
	json_kv_str(j, "model", w->r->model);
	json_key(j, "content");
	json_arr(j);
	json_arr_end(j);
	json_kv_z(j, "stop_reason", NULL);
	usage_anthropic(w, j, 1);
	json_obj_end(j);
	event_end(w);
}

static void
stream_finish(struct render *w, bool is_done)
{
	bool anthropic = w->r->api == API_ANTHROPIC;
	struct str finish = w->finish;
	struct json *j;

	if (finish.n == 0)
		finish = str_of(w->calls    ? (anthropic ? "tool_use" : "tool_calls")
				: anthropic ? "end_turn"
					    : "stop");
	if (!anthropic) {
		char why[64];

		snprintf(why, sizeof(why), "%.*s", STR_FMT(finish));
		delta_begin(w);
		delta_end(w, why);
		usage_openai(w);
		if (is_done) {
			buf_reset(&w->event);
			event_send(w, STR("[DONE]"));
		}
		return;
	}
	block_stop(w);
	j = event_begin(w, "message_delta");
	json_key(j, "delta");
	json_obj(j);
	json_kv_str(j, "stop_reason", finish);
	json_kv_z(j, "stop_sequence", NULL);
	json_obj_end(j);
	usage_anthropic(w, j, node_int(w->usage, "output", 5));
	event_end(w);
	if (is_done) {
		event_begin(w, "message_stop");
		event_end(w);
	}
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
send_text(struct render *w, struct str text, bool is_reasoning)
{
	struct json *j;

	if (w->r->api == API_OPENAI) {
		j = delta_begin(w);
		json_kv_str(j, is_reasoning ? "reasoning_content" : "content", text);
		delta_end(w, NULL);
		return;
	}
	if (!w->block || strcmp(w->block, is_reasoning ? "thinking" : "text") != 0) {
		j = block_start(w, is_reasoning ? "thinking" : "text");
		json_kv_z(j, is_reasoning ? "thinking" : "text", "");
		json_obj_end(j);
		event_end(w);
	}
	block_delta(w, is_reasoning ? "thinking_delta" : "text_delta",
		is_reasoning ? "thinking" : "text", text);
}

static void
do_text(struct render *w, const struct node *action, struct str template, bool is_reasoning)
{
	int64_t size = node_int(action, "chunk", ANSWER_MAX), delay = node_int(action, "delay", 0);
	struct buf b;
	struct str text;

	buf_init(&b, ANSWER_MAX);
	expand(&b, template, w->r);
	text = buf_str(&b);
	while (text.n > 0) {
		size_t n = utf8_cut(text, (size_t)size);

		if (n == 0)
			n = MIN(utf8_start(text, 1), text.n);
		send_text(w, str_sub(text, 0, n), is_reasoning);
		text = str_sub(text, n, text.n);
		if (text.n > 0 && delay > 0)
			answer_mark(w->a, MARK_PAUSE, delay);
	}
	if (is_reasoning && w->r->api == API_ANTHROPIC)
		block_delta(w, "signature_delta", "signature", STR("c2lnbmF0dXJl"));
	buf_fini(&b);
}

static void
call_open(struct render *w, const struct node *call, struct str id)
{
	struct json *j;

	if (w->r->api == API_ANTHROPIC) {
		j = block_start(w, "tool_use");
		json_kv_str(j, "id", id);
		json_kv_str(j, "name", node_str(call, "tool", STR("")));
		json_key(j, "input");
		json_obj(j);
		json_obj_end(j);
		json_obj_end(j);
		event_end(w);
		return;
	}
	j = delta_begin(w);
	json_key(j, "tool_calls");
	json_arr(j);
	json_obj(j);
	if (node_bool(call, "index", true))
		json_kv_int(j, "index", w->calls);
	json_kv_str(j, "id", id);
	json_kv_z(j, "type", "function");
	json_key(j, "function");
	json_obj(j);
	json_kv_str(j, "name", node_str(call, "tool", STR("")));
	json_kv_z(j, "arguments", "");
	json_obj_end(j);
	json_obj_end(j);
	json_arr_end(j);
	delta_end(w, NULL);
}

static void
call_args(struct render *w, const struct node *call, struct str args)
{
	struct json *j;

	if (w->r->api == API_ANTHROPIC) {
		block_delta(w, "input_json_delta", "partial_json", args);
		return;
	}
	j = delta_begin(w);
	json_key(j, "tool_calls");
	json_arr(j);
	json_obj(j);
	if (node_bool(call, "index", true))
		json_kv_int(j, "index", w->calls);
	json_key(j, "function");
	json_obj(j);
	json_kv_str(j, "arguments", args);
	json_obj_end(j);
	json_obj_end(j);
	json_arr_end(j);
	delta_end(w, NULL);
}

static void
do_call(struct render *w, const struct node *call)
{
	const struct node *args = node_get(call, "args");
	int64_t pieces = node_int(call, "pieces", 1);
	struct buf id, text, full;
	struct json j;
	struct str rest;

	buf_init(&id, 256);
	buf_init(&text, ANSWER_MAX);
	buf_init(&full, ANSWER_MAX);
	if (node_get(call, "id"))
		expand(&id, node_str(call, "id", STR("")), w->r);
	else
		buf_printf(&id, "%s_%llu_%lld", w->r->api == API_ANTHROPIC ? "toolu" : "call",
			(unsigned long long)w->r->seq, (long long)w->calls);
	json_init(&j, &text);
	if (node_is(args, NODE_STR))
		buf_add_str(&text, args->s);
	else if (args)
		json_node(&j, args);
	else
		buf_add_z(&text, "{}");
	expand(&full, buf_str(&text), w->r);
	call_open(w, call, buf_str(&id));
	rest = buf_str(&full);
	for (; pieces > 0 && rest.n > 0; pieces--) {
		size_t n = utf8_cut(rest, (rest.n + (size_t)pieces - 1) / (size_t)pieces);

		n = n ? n : MIN(utf8_start(rest, 1), rest.n);
		call_args(w, call, str_sub(rest, 0, n));
		rest = str_sub(rest, n, rest.n);
	}
	w->calls++;
	buf_fini(&id);
	buf_fini(&text);
	buf_fini(&full);
}

static void
error_body(struct render *w, struct json *j, const struct node *error)
{
	struct str type = node_str(error, "type", STR("api_error")),
		   code = node_str(error, "code", STR(""));

	json_key(j, "error");
	json_obj(j);
	json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
	json_kv_str(j, "type", type);
	if (w->r->api == API_OPENAI) {
		json_kv_z(j, "param", NULL);
		if (code.n)
			json_kv_str(j, "code", code);
		else
			json_kv_z(j, "code", NULL);
	}
	json_obj_end(j);
}

static void
do_error(struct render *w, const struct node *error)
{
	static const char *const names[][2] = { { "retry_after", "retry-after" },
		{ "retry_after_ms", "retry-after-ms" } };
	struct buf body, headers;
	struct json j;

	if (!node_get(error, "status")) { /* inside a stream that began well */
		error_body(w, event_begin(w, "error"), error);
		event_end(w);
		w->is_over = true;
		return;
	}
	buf_init(&body, MIB);
	buf_init(&headers, KIB * 16);
	json_init(&j, &body);
	json_obj(&j);
	if (w->r->api == API_ANTHROPIC)
		json_kv_z(&j, "type", "error");
	error_body(w, &j, error);
	json_obj_end(&j);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (node_get(error, names[i][0]))
			buf_printf(&headers, "%s: %s\r\n", names[i][1],
				node_z(error, names[i][0], ""));
	if (node_get(error, "should_retry"))
		buf_printf(&headers, "x-should-retry: %s\r\n",
			node_bool(error, "should_retry", false) ? "true" : "false");
	render_plain(w->a, (int)node_int(error, "status", 500), "application/json",
		buf_str(&headers), buf_str(&body));
	buf_fini(&body);
	buf_fini(&headers);
	w->is_over = true;
}

static void
do_respond(struct render *w, const struct node *respond)
{
	const struct node *map = node_get(respond, "headers");
	struct buf headers;

	buf_init(&headers, KIB * 64);
	for (size_t i = 0; i < node_len(map); i++)
		buf_printf(&headers, "%.*s: %.*s\r\n", STR_FMT(map->map.pairs[i].key),
			STR_FMT(map->map.pairs[i].value.s));
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
		buf_add_z(&w->event, "data: {\"type\":\"content_blo");
		chunk(w, buf_str(&w->event));
	}
	w->is_over = true;
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
	chunk(w, buf_str(&w->event));
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
	buf_printf(&w->event, ": ping%.*s%.*s", STR_FMT(w->eol), STR_FMT(w->eol));
	chunk(w, buf_str(&w->event));
}

/* The writer of JSON repairs invalid UTF-8, so it is put in afterwards. */
static void
do_bad_utf8(struct render *w)
{
	size_t from = w->a->bytes.n;
	struct str sent;
	ptrdiff_t at;

	send_text(w, STR("@@"), false);
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
	send_text(w, (struct str){ p, (size_t)size }, false);
	free(p);
}

static void
act(struct render *w, const struct node *action)
{
	struct str text = node_str(action, "text", STR("")),
		   thought = node_str(action, "reasoning", STR(""));

	if (text.n || thought.n)
		do_text(w, action, text.n ? text : thought, text.n == 0);
	else if (node_int(action, "delay", 0) > 0)
		answer_mark(w->a, MARK_PAUSE, node_int(action, "delay", 0));
	if (node_get(action, "call"))
		do_call(w, node_get(action, "call"));
	if (node_get(action, "raw"))
		chunk(w, node_str(action, "raw", STR("")));
	if (node_get(action, "hex"))
		do_hex(w, node_str(action, "hex", STR("")));
	if (node_bool(action, "ping", false))
		do_ping(w);
	if (node_bool(action, "bad_utf8", false))
		do_bad_utf8(w);
	if (node_get(action, "huge"))
		do_huge(w, node_int(action, "huge", 1));
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
render_stream(struct render *w, const struct node *step, const struct node *actions)
{
	buf_printf(&w->a->bytes,
		"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
		"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n%s\r\n",
		w->a->close ? "connection: close\r\n" : "");
	stream_start(w);
	for (size_t i = 0; i < node_len(actions) && !w->is_over; i++)
		act(w, node_at(actions, i));
	if (!w->is_over)
		stream_finish(w, node_bool(step, "done", true));
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
	struct render w = {
		.r = r, .a = a, .usage = own ? own : usage, .finish = finish ? finish->s : STR("")
	};

	w.eol = str_is(eol, "crlf") ? STR("\r\n") : str_is(eol, "cr") ? STR("\r") : STR("\n");
	buf_init(&w.event, 2 * ANSWER_MAX);
	buf_init(&w.data, 2 * ANSWER_MAX);
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
}
