/* SPDX-License-Identifier: MIT
 * OpenAI Chat Completions: chunks without names, `[DONE]` at the end, usage in a chunk of its own.
 */
#include "render.h"

#include <stdio.h>

/* Begins a chunk up to and into choices. */
static struct json *
chunk_begin(struct render *w)
{
	struct json *j = event_begin(w, NULL);
	char id[40];

	snprintf(id, sizeof(id), "chatcmpl-%llu", (unsigned long long)w->r->seq);
	json_kv_z(j, "id", id);
	json_kv_z(j, "object", "chat.completion.chunk");
	json_kv_int(j, "created", 1700000000);
	json_kv_str(j, "model", w->r->model);
	json_kv_arr(j, "choices");
	return j;
}

/* ... up to and into choices[0].delta. */
static struct json *
delta_begin(struct render *w)
{
	struct json *j = chunk_begin(w);

	json_obj(j);
	json_kv_int(j, "index", 0);
	json_kv_obj(j, "delta");
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
delta_text(struct render *w, const char *key, struct str text)
{
	json_kv_str(delta_begin(w), key, text);
	delta_end(w, NULL);
}

static void
start(struct render *w)
{
	struct json *j = delta_begin(w);

	json_kv_z(j, "role", "assistant");
	json_kv_z(j, "content", "");
	delta_end(w, NULL);
}

static void
text(struct render *w, struct str text, struct str signature)
{
	delta_text(w, "content", text);
}

static void
refusal(struct render *w, struct str text)
{
	delta_text(w, "refusal", text);
}

static void
thought(struct render *w, struct str text)
{
	delta_text(w, "reasoning_content", text);
}

/* This API has no place for signatures and redacted reasoning. */
static void
nothing(struct render *w, struct str signature)
{
}

static struct json *
call_begin(struct render *w, const struct call *c)
{
	struct json *j = delta_begin(w);

	json_kv_arr(j, "tool_calls");
	json_obj(j);
	if (c->has_index)
		json_kv_int(j, "index", w->calls);
	return j;
}

static void
call_end(struct render *w)
{
	json_obj_end(&w->j);
	json_obj_end(&w->j);
	json_arr_end(&w->j);
	delta_end(w, NULL);
}

static void
call(struct render *w, const struct call *c)
{
	struct str rest = c->args, piece;
	int64_t pieces = c->pieces;
	struct json *j = call_begin(w, c);

	json_kv_str(j, "id", c->id);
	json_kv_z(j, "type", "function");
	json_kv_obj(j, "function");
	json_kv_str(j, "name", c->tool);
	json_kv_z(j, "arguments", "");
	call_end(w);
	while (piece_next(&rest, &pieces, &piece)) {
		j = call_begin(w, c);
		json_kv_obj(j, "function");
		json_kv_str(j, "arguments", piece);
		call_end(w);
	}
}

static void
usage(struct render *w)
{
	struct json *j = chunk_begin(w);
	int64_t in = usage_of(w, "input"), out = usage_of(w, "output");

	json_arr_end(j);
	json_kv_obj(j, "usage");
	json_kv_int(j, "prompt_tokens", in);
	json_kv_int(j, "completion_tokens", out);
	json_kv_int(j, "total_tokens", in + out);
	json_kv_obj(j, "prompt_tokens_details");
	json_kv_int(j, "cached_tokens", usage_of(w, "cached"));
	json_kv_int(j, "cache_write_tokens", usage_of(w, "written"));
	json_obj_end(j);
	json_kv_obj(j, "completion_tokens_details");
	json_kv_int(j, "reasoning_tokens", usage_of(w, "reasoning"));
	json_obj_end(j);
	json_obj_end(j);
	event_end(w);
}

static void
finished(struct render *w, struct str reason, bool is_done)
{
	char why[64];

	snprintf(why, sizeof(why), "%.*s", STR_FMT(reason));
	delta_begin(w);
	delta_end(w, why);
	usage(w);
	if (!is_done)
		return;
	buf_reset(&w->event);
	event_send(w, STR("[DONE]"));
}

static void
error(struct json *j, const struct render *w, const struct node *error, int status)
{
	struct str code = node_str(error, "code", STR(""));

	json_kv_obj(j, "error");
	json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
	json_kv_str(j, "type", node_str(error, "type", STR("api_error")));
	json_kv_z(j, "param", NULL);
	if (code.n)
		json_kv_str(j, "code", code);
	else
		json_kv_z(j, "code", NULL);
	json_obj_end(j);
}

static void
stream_error(struct render *w, const struct node *n)
{
	error(event_begin(w, NULL), w, n, 0);
	event_end(w);
}

const struct dialect dialect_chat = {
	.call_prefix = "call",
	.request_id = "x-request-id",
	.finish = { "stop", "tool_calls", "length", "stop", "content_filter" },
	.start = start,
	.text = text,
	.refusal = refusal,
	.thought = thought,
	.thought_end = nothing,
	.redacted = nothing,
	.call = call,
	.finished = finished,
	.error = error,
	.stream_error = stream_error,
};
