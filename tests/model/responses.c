/* SPDX-License-Identifier: MIT
 * OpenAI Responses: named events that are numbered, output in items that are added and done, the
 * whole answer once more in the last event. Encrypted reasoning comes only when it was asked for,
 * as `include` says. */
#include "render.h"

#include <stdio.h>

/* Kinds of items (struct render.block); a refusal is another part in the message's form. */
#define MESSAGE "message"
#define REFUSED "refusal"

static struct json *
ev(struct render *w, const char *name)
{
	struct json *j = event_begin(w, name);

	json_kv_int(j, "sequence_number", w->sequence++);
	return j;
}

static void
kv_item_id(struct render *w, struct json *j, const char *key, const char *prefix)
{
	char id[64];

	snprintf(id, sizeof(id), "%s_%llu_%lld", prefix, (unsigned long long)w->r->seq,
		(long long)(w->blocks - 1));
	json_kv_z(j, key, id);
}

/* Begins an event about the open item. */
static struct json *
ev_item(struct render *w, const char *name, const char *prefix)
{
	struct json *j = ev(w, name);

	kv_item_id(w, j, "item_id", prefix);
	json_kv_int(j, "output_index", w->blocks - 1);
	return j;
}

static void
kv_usage(struct render *w, struct json *j)
{
	int64_t in = usage_of(w, "input"), out = usage_of(w, "output");

	json_kv_obj(j, "usage");
	json_kv_int(j, "input_tokens", in);
	json_kv_obj(j, "input_tokens_details");
	json_kv_int(j, "cached_tokens", usage_of(w, "cached"));
	json_kv_int(j, "cache_write_tokens", usage_of(w, "written"));
	json_obj_end(j);
	json_kv_int(j, "output_tokens", out);
	json_kv_obj(j, "output_tokens_details");
	json_kv_int(j, "reasoning_tokens", usage_of(w, "reasoning"));
	json_obj_end(j);
	json_kv_int(j, "total_tokens", in + out);
	json_obj_end(j);
}

/* An event with the whole response. why: of `incomplete`; error: of `failed`. */
static void
ev_response(struct render *w, const char *name, const char *status, struct str why,
	const struct node *error)
{
	struct json *j = ev(w, name);
	char id[40];

	snprintf(id, sizeof(id), "resp_%llu", (unsigned long long)w->r->seq);
	json_kv_obj(j, "response");
	json_kv_z(j, "id", id);
	json_kv_z(j, "object", "response");
	json_kv_int(j, "created_at", 1700000000);
	json_kv_z(j, "status", status);
	json_key(j, "error");
	if (error) {
		json_obj(j);
		json_kv_str(j, "code", node_str(error, "code", STR("server_error")));
		json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
		json_obj_end(j);
	} else {
		json_null(j);
	}
	json_key(j, "incomplete_details");
	if (why.n) {
		json_obj(j);
		json_kv_str(j, "reason", why);
		json_obj_end(j);
	} else {
		json_null(j);
	}
	json_kv_z(j, "instructions", NULL);
	json_kv_z(j, "metadata", NULL);
	json_kv_str(j, "model", w->r->model);
	json_kv_raw(j, "output", STR("["));
	buf_add_str(j->b, buf_str(&w->items));
	buf_add_char(j->b, ']');
	json_kv_bool(j, "parallel_tool_calls", true);
	json_kv_z(j, "previous_response_id", NULL);
	json_kv_bool(j, "store", false);
	json_kv_int(j, "temperature", 1);
	json_kv_z(j, "tool_choice", "auto");
	json_kv_raw(j, "tools", STR("[]"));
	json_kv_int(j, "top_p", 1);
	if (str_is(str_of(status), "in_progress"))
		json_kv_z(j, "usage", NULL);
	else
		kv_usage(w, j);
	json_obj_end(j);
	event_end(w);
}

static void
start(struct render *w)
{
	ev_response(w, "response.created", "in_progress", STR(""), NULL);
	ev_response(w, "response.in_progress", "in_progress", STR(""), NULL);
}

/* ---- items ---- */

/* Sends an item that is done, and keeps it for the last event. item: writes the members. */
struct item {
	const char *type, *prefix;
	struct str signature;
	const struct call *call;
	bool is_done;
};

static void
item_write(struct render *w, struct json *j, const struct item *it)
{
	struct str text = buf_str(&w->text);

	json_obj(j);
	kv_item_id(w, j, "id", it->prefix);
	if (it->call) {
		json_kv_z(j, "type", "function_call");
		json_kv_z(j, "status", it->is_done ? "completed" : "in_progress");
		json_kv_str(j, "arguments", it->is_done ? it->call->args : STR(""));
		json_kv_str(j, "call_id", it->call->id);
		json_kv_str(j, "name", it->call->tool);
	} else if (str_is(str_of(it->type), "reasoning")) {
		json_kv_z(j, "type", "reasoning");
		json_kv_arr(j, "summary");
		if (it->is_done && text.n) {
			json_obj(j);
			json_kv_z(j, "type", "summary_text");
			json_kv_str(j, "text", text);
			json_obj_end(j);
		}
		json_arr_end(j);
		if (it->signature.n && w->r->wants_encrypted)
			json_kv_str(j, "encrypted_content", it->signature);
	} else {
		json_kv_z(j, "type", MESSAGE);
		json_kv_z(j, "status", it->is_done ? "completed" : "in_progress");
		json_kv_z(j, "role", "assistant");
		json_kv_arr(j, "content");
		if (it->is_done) {
			json_obj(j);
			json_kv_z(j, "type",
				str_is(str_of(it->type), REFUSED) ? "refusal" : "output_text");
			json_kv_str(
				j, str_is(str_of(it->type), REFUSED) ? "refusal" : "text", text);
			if (!str_is(str_of(it->type), REFUSED))
				json_kv_raw(j, "annotations", STR("[]"));
			json_obj_end(j);
		}
		json_arr_end(j);
	}
	json_obj_end(j);
}

static void
item_add(struct render *w, struct item it)
{
	struct json *j;

	w->blocks++;
	buf_reset(&w->text);
	j = ev(w, "response.output_item.added");
	json_kv_int(j, "output_index", w->blocks - 1);
	json_key(j, "item");
	item_write(w, j, &it);
	event_end(w);
}

static void
item_done(struct render *w, struct item it)
{
	struct json *j = ev(w, "response.output_item.done"), kept;

	it.is_done = true;
	json_kv_int(j, "output_index", w->blocks - 1);
	json_key(j, "item");
	item_write(w, j, &it);
	event_end(w);
	if (w->items.n)
		buf_add_char(&w->items, ',');
	json_init(&kept, &w->items);
	item_write(w, &kept, &it);
}

/* ---- messages ---- */

static void
part_event(struct render *w, const char *name, struct str text)
{
	bool is_refusal = str_is(str_of(w->block), REFUSED);
	struct json *j = ev_item(w, name, "msg");

	json_kv_int(j, "content_index", 0);
	json_kv_obj(j, "part");
	json_kv_z(j, "type", is_refusal ? "refusal" : "output_text");
	json_kv_str(j, is_refusal ? "refusal" : "text", text);
	if (!is_refusal)
		json_kv_raw(j, "annotations", STR("[]"));
	json_obj_end(j);
	event_end(w);
}

static void
message_end(struct render *w)
{
	bool is_refusal;
	struct json *j;

	if (!w->block)
		return;
	is_refusal = str_is(str_of(w->block), REFUSED);
	j = ev_item(w, is_refusal ? "response.refusal.done" : "response.output_text.done", "msg");
	json_kv_int(j, "content_index", 0);
	json_kv_str(j, is_refusal ? "refusal" : "text", buf_str(&w->text));
	if (!is_refusal)
		json_kv_raw(j, "logprobs", STR("[]"));
	event_end(w);
	part_event(w, "response.content_part.done", buf_str(&w->text));
	item_done(w, (struct item){ .type = w->block, .prefix = "msg" });
	w->block = NULL;
}

static void
message_delta(struct render *w, const char *kind, struct str text)
{
	struct json *j;

	if (!w->block || !str_is(str_of(w->block), kind)) {
		message_end(w);
		w->block = kind;
		item_add(w, (struct item){ .type = kind, .prefix = "msg" });
		part_event(w, "response.content_part.added", STR(""));
	}
	buf_add_str(&w->text, text);
	j = ev_item(w,
		str_is(str_of(kind), REFUSED) ? "response.refusal.delta"
					      : "response.output_text.delta",
		"msg");
	json_kv_int(j, "content_index", 0);
	json_kv_str(j, "delta", text);
	if (!str_is(str_of(kind), REFUSED))
		json_kv_raw(j, "logprobs", STR("[]"));
	event_end(w);
}

static void
text(struct render *w, struct str text, struct str signature)
{
	message_delta(w, MESSAGE, text);
}

static void
refusal(struct render *w, struct str text)
{
	message_delta(w, REFUSED, text);
}

/* ---- reasoning ---- */

static struct json *
summary_event(struct render *w, const char *name)
{
	struct json *j = ev_item(w, name, "rs");

	json_kv_int(j, "summary_index", 0);
	return j;
}

static void
summary_part(struct render *w, const char *name, struct str text)
{
	struct json *j = summary_event(w, name);

	json_kv_obj(j, "part");
	json_kv_z(j, "type", "summary_text");
	json_kv_str(j, "text", text);
	json_obj_end(j);
	event_end(w);
}

static void
thought(struct render *w, struct str text)
{
	static const struct item reasoning = { .type = "reasoning", .prefix = "rs" };

	if (!w->block || !str_is(str_of(w->block), "reasoning")) {
		message_end(w);
		w->block = "reasoning";
		item_add(w, reasoning);
		summary_part(w, "response.reasoning_summary_part.added", STR(""));
	}
	buf_add_str(&w->text, text);
	json_kv_str(summary_event(w, "response.reasoning_summary_text.delta"), "delta", text);
	event_end(w);
}

static void
thought_end(struct render *w, struct str signature)
{
	json_kv_str(summary_event(w, "response.reasoning_summary_text.done"), "text",
		buf_str(&w->text));
	event_end(w);
	summary_part(w, "response.reasoning_summary_part.done", buf_str(&w->text));
	item_done(w, (struct item){ .type = "reasoning", .prefix = "rs", .signature = signature });
	w->block = NULL;
}

static void
redacted(struct render *w, struct str data)
{
	struct item it = { .type = "reasoning", .prefix = "rs", .signature = data };

	message_end(w);
	item_add(w, it);
	item_done(w, it);
}

/* ---- calls ---- */

static void
call(struct render *w, const struct call *c)
{
	struct item it = { .prefix = "fc", .call = c };
	struct str rest = c->args, piece;
	int64_t pieces = c->pieces;
	struct json *j;

	message_end(w);
	item_add(w, it);
	while (piece_next(&rest, &pieces, &piece)) {
		j = ev_item(w, "response.function_call_arguments.delta", "fc");
		json_kv_str(j, "delta", piece);
		event_end(w);
	}
	j = ev_item(w, "response.function_call_arguments.done", "fc");
	json_kv_str(j, "name", c->tool);
	json_kv_str(j, "arguments", c->args);
	event_end(w);
	item_done(w, it);
}

/* ---- the end ---- */

static void
finished(struct render *w, struct str reason, bool is_done)
{
	message_end(w);
	if (!is_done)
		return;
	if (str_is(reason, "completed"))
		ev_response(w, "response.completed", "completed", STR(""), NULL);
	else
		ev_response(w, "response.incomplete", "incomplete", reason, NULL);
}

static void
stream_error(struct render *w, const struct node *error)
{
	struct str code = node_str(error, "code", node_str(error, "type", STR("server_error")));
	struct json *j;

	if (node_bool(error, "failed", false)) {
		ev_response(w, "response.failed", "failed", STR(""), error);
		return;
	}
	j = ev(w, "error");
	json_kv_str(j, "code", code);
	json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
	json_kv_z(j, "param", NULL);
	event_end(w);
}

static void
error(struct json *j, const struct render *w, const struct node *error, int status)
{
	dialect_chat.error(j, w, error, status);
}

const struct dialect dialect_responses = {
	.call_prefix = "call",
	.request_id = "x-request-id",
	.has_event_names = true,
	.finish = { "completed", "completed", "max_output_tokens", "completed", "content_filter" },
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
