/* SPDX-License-Identifier: MIT
 * Anthropic Messages: named events, content in blocks that start and stop, reasoning that is
 * signed.
 */
#include "render.h"

#include <stdio.h>

static void
block_stop(struct render *w)
{
	if (!w->block)
		return;
	w->block = NULL;
	json_kv_int(event_begin(w, "content_block_stop"), "index", w->blocks - 1);
	event_end(w);
}

/* Begins content_block_start up to and into content_block. */
static struct json *
block_start(struct render *w, const char *type)
{
	struct json *j;

	block_stop(w);
	w->block = type;
	j = event_begin(w, "content_block_start");
	json_kv_int(j, "index", w->blocks++);
	json_kv_obj(j, "content_block");
	json_kv_z(j, "type", type);
	return j;
}

static void
block_started(struct render *w)
{
	json_obj_end(&w->j);
	event_end(w);
}

static void
block_delta(struct render *w, const char *type, const char *key, struct str value)
{
	struct json *j = event_begin(w, "content_block_delta");

	json_kv_int(j, "index", w->blocks - 1);
	json_kv_obj(j, "delta");
	json_kv_z(j, "type", type);
	json_kv_str(j, key, value);
	json_obj_end(j);
	event_end(w);
}

static void
usage(struct render *w, struct json *j, int64_t output)
{
	int64_t cached = usage_of(w, "cached"), written = usage_of(w, "written");

	json_kv_obj(j, "usage");
	json_kv_int(j, "input_tokens", usage_of(w, "input") - cached - written);
	json_kv_int(j, "cache_creation_input_tokens", written);
	json_kv_int(j, "cache_read_input_tokens", cached);
	json_kv_int(j, "output_tokens", output);
	json_obj_end(j);
}

static void
start(struct render *w)
{
	struct json *j = event_begin(w, "message_start");
	char id[40];

	json_kv_obj(j, "message");
	snprintf(id, sizeof(id), "msg_%llu", (unsigned long long)w->r->seq);
	json_kv_z(j, "id", id);
	json_kv_z(j, "type", "message");
	json_kv_z(j, "role", "assistant");
	json_kv_str(j, "model", w->r->model);
	json_kv_arr(j, "content");
	json_arr_end(j);
	json_kv_z(j, "stop_reason", NULL);
	json_kv_z(j, "stop_sequence", NULL);
	usage(w, j, 1);
	json_obj_end(j);
	event_end(w);
}

static void
in_block(struct render *w, const char *type, const char *key)
{
	if (w->block && str_is(str_of(w->block), type))
		return;
	json_kv_z(block_start(w, type), key, "");
	block_started(w);
}

static void
text(struct render *w, struct str text, struct str signature)
{
	in_block(w, "text", "text");
	block_delta(w, "text_delta", "text", text);
}

static void
refusal(struct render *w, struct str said)
{
	text(w, said, STR(""));
}

static void
thought(struct render *w, struct str text)
{
	in_block(w, "thinking", "thinking");
	block_delta(w, "thinking_delta", "thinking", text);
}

static void
thought_end(struct render *w, struct str signature)
{
	if (signature.n)
		block_delta(w, "signature_delta", "signature", signature);
	block_stop(w);
}

static void
redacted(struct render *w, struct str data)
{
	json_kv_str(block_start(w, "redacted_thinking"), "data", data);
	block_started(w);
	block_stop(w);
}

static void
call(struct render *w, const struct call *c)
{
	struct str rest = c->args, piece;
	int64_t pieces = c->pieces;
	struct json *j = block_start(w, "tool_use");

	json_kv_str(j, "id", c->id);
	json_kv_str(j, "name", c->tool);
	json_kv_obj(j, "input");
	json_obj_end(j);
	block_started(w);
	while (piece_next(&rest, &pieces, &piece))
		block_delta(w, "input_json_delta", "partial_json", piece);
}

static void
finished(struct render *w, struct str reason, bool is_done)
{
	struct json *j;

	block_stop(w);
	j = event_begin(w, "message_delta");
	json_kv_obj(j, "delta");
	json_kv_str(j, "stop_reason", reason);
	json_kv_z(j, "stop_sequence", NULL);
	json_obj_end(j);
	usage(w, j, usage_of(w, "output"));
	event_end(w);
	if (!is_done)
		return;
	event_begin(w, "message_stop");
	event_end(w);
}

static void
error(struct json *j, const struct render *w, const struct node *error, int status)
{
	if (status)
		json_kv_z(j, "type", "error");
	json_kv_obj(j, "error");
	json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
	json_kv_str(j, "type", node_str(error, "type", STR("api_error")));
	json_obj_end(j);
}

static void
stream_error(struct render *w, const struct node *n)
{
	error(event_begin(w, "error"), w, n, 0);
	event_end(w);
}

const struct dialect dialect_anthropic = {
	.call_prefix = "toolu",
	.request_id = "request-id",
	.has_event_names = true,
	.finish = { "end_turn", "tool_use", "max_tokens", "refusal", "refusal" },
	.start = start,
	.text = text,
	.refusal = refusal,
	.thought = thought,
	.thought_end = thought_end,
	.redacted = redacted,
	.call = call,
	.finished = finished,
	.error = error,
	.stream_error = stream_error,
};
