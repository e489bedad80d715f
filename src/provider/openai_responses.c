/* SPDX-License-Identifier: MIT
 * The OpenAI Responses API, streamed. Nothing is kept on the server (store: false): every request
 * sends the whole conversation as items, reasoning items among them with their encrypted content,
 * which only this provider can read. The answer is output items by index; items and events of
 * unknown kinds are ignored. The input comes last in the request, so that a longer conversation
 * begins with the bytes of a shorter one. */
#include "provider/internal.h"

#include "base/limits.h"

/* ---- request ---- */

static void
write_tools(struct json *j, const struct model_request *r)
{
	if (r->tools_n == 0)
		return;
	json_kv_arr(j, "tools");
	for (size_t i = 0; i < r->tools_n; i++) {
		json_obj(j);
		json_kv_z(j, "type", "function");
		json_kv_z(j, "name", r->tools[i].name);
		json_kv_z(j, "description", r->tools[i].text);
		json_kv_raw(j, "parameters", r->tools[i].schema);
		/* This API takes tools for strict ones when nothing is said. */
		json_kv_bool(j, "strict", false);
		json_obj_end(j);
	}
	json_arr_end(j);
}

static void
write_text_part(struct json *j, const char *type, struct str text)
{
	json_obj(j);
	json_kv_z(j, "type", type);
	json_kv_str(j, "text", text);
	json_obj_end(j);
}

static void
write_media(struct json *j, const struct part *p, struct arena *a)
{
	bool is_image = media_is(p, MEDIA_IMAGE);

	if (!is_image && !media_is(p, MEDIA_PDF)) {
		write_text_part(j, "input_text", media_text(p, a));
		return;
	}
	json_obj(j);
	json_kv_z(j, "type", is_image ? "input_image" : "input_file");
	if (!is_image)
		json_kv_str(j, "filename", media_name(p));
	json_key(j, is_image ? "image_url" : "file_data");
	write_data_url(j, p);
	if (is_image)
		json_kv_z(j, "detail", "auto");
	json_obj_end(j);
}

static bool
is_content(const struct part *p)
{
	return (p->type == PART_TEXT && p->text.n > 0) || p->type == PART_MEDIA;
}

static void
write_user(struct json *j, const struct model_request *r, size_t from, size_t to, struct arena *a)
{
	size_t contents = 0;

	for (size_t m = from; m < to; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			contents += is_content(p);
			if (p->type != PART_RESULT)
				continue;
			json_obj(j);
			json_kv_z(j, "type", "function_call_output");
			json_kv_str(j, "call_id", p->call_id);
			json_kv_str(j, "output", result_text(p, a));
			json_obj_end(j);
		}
	}
	if (contents == 0)
		return;
	json_obj(j);
	json_kv_z(j, "type", "message");
	json_kv_z(j, "role", "user");
	json_kv_arr(j, "content");
	for (size_t m = from; m < to; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			if (p->type == PART_MEDIA)
				write_media(j, p, a);
			else if (is_content(p))
				write_text_part(j, "input_text", p->text);
		}
	}
	json_arr_end(j);
	json_obj_end(j);
}

/* Reasoning is of use to the model that made it, and only with the content that the server
 * encrypted. */
static void
write_reasoning(struct json *j, const struct part *p)
{
	if (p->signature.n == 0)
		return;
	json_obj(j);
	json_kv_z(j, "type", "reasoning");
	if (p->item_id.n > 0)
		json_kv_str(j, "id", p->item_id);
	json_kv_arr(j, "summary");
	if (p->text.n > 0)
		write_text_part(j, "summary_text", p->text);
	json_arr_end(j);
	json_kv_str(j, "encrypted_content", p->signature);
	json_obj_end(j);
}

/* An item as the server sent it, with its id. */
static void
write_item_content(struct json *j, struct str text)
{
	json_arr(j);
	json_obj(j);
	json_kv_z(j, "type", "output_text");
	json_kv_str(j, "text", text);
	json_kv_arr(j, "annotations");
	json_arr_end(j);
	json_obj_end(j);
	json_arr_end(j);
}

/* A text's signature is its phase: what the model said on the way is told from its answer. A text
 * that has no id of this server is not one of its items, and goes as a plain message. */
static void
write_text(struct json *j, const struct part *p, bool is_own)
{
	bool is_item = is_own && p->item_id.n > 0;

	if (p->text.n == 0)
		return;
	json_obj(j);
	json_kv_z(j, "type", "message");
	if (is_item) {
		json_kv_str(j, "id", p->item_id);
		json_kv_z(j, "status", "completed");
	}
	json_kv_z(j, "role", "assistant");
	if (is_own && p->signature.n > 0)
		json_kv_str(j, "phase", p->signature);
	json_key(j, "content");
	if (is_item)
		write_item_content(j, p->text);
	else
		json_str(j, p->text);
	json_obj_end(j);
}

static void
write_call(struct json *j, const struct part *p, bool is_own, struct arena *a)
{
	json_obj(j);
	json_kv_z(j, "type", "function_call");
	if (is_own && p->item_id.n > 0)
		json_kv_str(j, "id", p->item_id);
	json_kv_str(j, "call_id", p->call_id);
	json_kv_str(j, "name", p->tool);
	json_kv_str(j, "arguments", call_args(p->args, a));
	json_obj_end(j);
}

static void
write_assistant(
	struct json *j, const struct model_request *r, const struct message *m, struct arena *a)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct part *p = &m->parts[i];
		bool is_own = part_is_own(r, p);

		if (p->type == PART_TEXT)
			write_text(j, p, is_own);
		else if (p->type == PART_CALL)
			write_call(j, p, is_own, a);
		else if (p->type == PART_REASONING && is_own)
			write_reasoning(j, p);
	}
}

/* Only models that reason know these fields; others refuse the request. */
static void
write_reasoning_options(struct json *j, const struct model_request *r)
{
	const char *effort = openai_effort(r);

	if (!r->has_reasoning)
		return;
	json_kv_arr(j, "include");
	json_z(j, "reasoning.encrypted_content");
	json_arr_end(j);
	json_kv_obj(j, "reasoning");
	if (effort)
		json_kv_z(j, "effort", effort);
	json_kv_z(j, "summary", "auto");
	json_obj_end(j);
}

static void
write_options(struct json *j, const struct model_request *r)
{
	json_kv_bool(j, "stream", true);
	json_kv_bool(j, "store", false);
	write_reasoning_options(j, r);
	if (r->max_output_tokens > 0)
		json_kv_int(j, "max_output_tokens", r->max_output_tokens);
	if (r->schema.n > 0) {
		json_kv_obj(j, "text");
		json_kv_obj(j, "format");
		json_kv_z(j, "type", "json_schema");
		json_kv_z(j, "name", SCHEMA_NAME);
		json_kv_bool(j, "strict", schema_is_strict(r->schema));
		json_kv_raw(j, "schema", r->schema);
		json_obj_end(j);
		json_obj_end(j);
	}
	if (r->cache_key.n > 0 && r->is_own_server)
		json_kv_str(j, "prompt_cache_key", r->cache_key);
	if (r->system.n > 0)
		json_kv_str(j, "instructions", r->system);
}

static int
build(const struct model_request *r, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = build_begin(&r, out, &j, a, e);
	size_t to;

	if (rc != 0)
		return rc;
	out->path = STR("/responses");
	json_kv_str(&j, "model", r->model);
	write_options(&j, r);
	write_tools(&j, r);
	json_kv_arr(&j, "input");
	for (size_t from = 0; from < r->messages_n; from = to) {
		to = messages_run(r, from);
		if (r->messages[from].role == MSG_USER)
			write_user(&j, r, from, to, a);
		for (size_t m = from; m < to && r->messages[m].role == MSG_ASSISTANT; m++)
			write_assistant(&j, r, &r->messages[m], a);
	}
	json_arr_end(&j);
	return build_end(out, &j, e);
}

/* ---- answer ---- */

static const struct {
	const char *type;
	enum part_type part;
} items[] = {
	{ "message", PART_TEXT },
	{ "reasoning", PART_REASONING },
	{ "function_call", PART_CALL },
};

/* The slot of an output item, which is made when the item is first heard of: servers differ in what
 * they announce. NULL: too many. */
static struct slot *
item_slot(struct parser *p, const struct node *item, int64_t index, struct err *e)
{
	struct slot *s = slot_find(p, index);
	struct str type = node_str(item, "type", STR(""));
	size_t k = 0;

	if (s)
		return s;
	while (k < ARRAY_LEN(items) && !str_is(type, items[k].type))
		k++;
	s = slot_new(p, k < ARRAY_LEN(items) ? items[k].part : PART_TEXT, index, e);
	if (s)
		s->is_ignored = k == ARRAY_LEN(items);
	return s;
}

/* The texts of a list of {type, text}; for a part whose pieces did not come as deltas. */
static int
take_texts(
	struct parser *p, struct slot *s, const struct node *list, const char *gap, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < node_len(list) && rc == 0; i++) {
		const struct node *c = node_at(list, i);
		struct str text = node_str(c, "text", node_str(c, "refusal", STR("")));

		if (node_is(node_get(c, "refusal"), NODE_STR))
			parser_set_stop(p, STOP_REFUSED);
		if (s->body.n > 0 && text.n > 0)
			rc = slot_add(p, s, str_of(gap), e);
		if (rc == 0)
			rc = slot_add(p, s, text, e);
	}
	return rc;
}

static int
take_reasoning(struct parser *p, struct slot *s, const struct node *item, struct err *e)
{
	int rc = slot_set_signature(p, s, node_str(item, "encrypted_content", STR("")), e);

	if (rc == 0 && s->body.n == 0)
		rc = take_texts(p, s, node_get(item, "summary"), "\n\n", e);
	if (rc == 0 && s->body.n == 0)
		rc = take_texts(p, s, node_get(item, "content"), "\n\n", e);
	return rc;
}

static int
take_call(struct parser *p, struct slot *s, const struct node *item, struct err *e)
{
	const struct node *args = node_get(item, "arguments");
	int rc = 0;

	if (s->id.n == 0)
		rc = slot_add_id(p, s, node_str(item, "call_id", STR("")), e);
	if (rc == 0)
		rc = slot_set_name(p, s, node_str(item, "name", STR("")), e);
	if (rc != 0 || s->body.n > 0)
		return rc;
	if (node_is(args, NODE_MAP))
		return slot_add_node(p, s, args, e);
	return slot_add(p, s, node_str(item, "arguments", STR("")), e);
}

/* An item comes up to three times: begun, done, and in the response that ends the stream. What is
 * already there stays. */
static int
take_item(struct parser *p, const struct node *item, int64_t index, bool is_whole, struct err *e)
{
	struct slot *s;
	int rc;

	if (!node_is(item, NODE_MAP))
		return parser_malformed(p, e, "an output item that is not an object");
	if (index < 0)
		return parser_malformed(p, e, "an output item without output_index");
	s = item_slot(p, item, index, e);
	if (!s)
		return ERR_LIMIT;
	if (s->is_ignored)
		return 0;
	rc = slot_set_item_id(p, s, node_str(item, "id", STR("")), e);
	if (rc != 0)
		return rc;
	if (s->type == PART_CALL)
		return take_call(p, s, item, e);
	if (s->type == PART_REASONING)
		return is_whole ? take_reasoning(p, s, item, e) : 0;
	rc = slot_set_signature(p, s, node_str(item, "phase", STR("")), e);
	if (rc == 0 && is_whole && s->body.n == 0)
		rc = take_texts(p, s, node_get(item, "content"), "", e);
	return rc;
}

static int
on_item_added(struct parser *p, const struct node *ev, struct err *e)
{
	return take_item(p, node_get(ev, "item"), node_int(ev, "output_index", -1), false, e);
}

static int
on_item_done(struct parser *p, const struct node *ev, struct err *e)
{
	return take_item(p, node_get(ev, "item"), node_int(ev, "output_index", -1), true, e);
}

static int
add_delta(struct parser *p, const struct node *ev, enum part_type type, struct err *e)
{
	int64_t index = node_int(ev, "output_index", -1);
	struct slot *s = slot_find(p, index);
	const struct node *delta = node_get(ev, "delta");

	if (!s)
		return parser_malformed(p, e, "a delta for output item %lld, which has not begun",
			(long long)index);
	if (s->is_ignored)
		return 0;
	if (s->type != type)
		return parser_malformed(p, e, "a delta for an output item of another type");
	if (!node_is(delta, NODE_STR))
		return parser_malformed(p, e, "delta: expected a string, found %s",
			delta ? node_type_name(delta->type) : "nothing");
	if (s->has_gap && s->body.n > 0 && slot_add(p, s, STR("\n\n"), e) != 0)
		return ERR_LIMIT;
	s->has_gap = false;
	return slot_add(p, s, delta->s, e);
}

static int
on_text(struct parser *p, const struct node *ev, struct err *e)
{
	return add_delta(p, ev, PART_TEXT, e);
}

static int
on_refusal(struct parser *p, const struct node *ev, struct err *e)
{
	parser_set_stop(p, STOP_REFUSED);
	return add_delta(p, ev, PART_TEXT, e);
}

static int
on_reasoning(struct parser *p, const struct node *ev, struct err *e)
{
	return add_delta(p, ev, PART_REASONING, e);
}

static int
on_args(struct parser *p, const struct node *ev, struct err *e)
{
	return add_delta(p, ev, PART_CALL, e);
}

/* Each part of a summary is a paragraph; servers do not send what stands between them. */
static int
on_summary_part(struct parser *p, const struct node *ev, struct err *e)
{
	struct slot *s = slot_find(p, node_int(ev, "output_index", -1));

	if (s)
		s->has_gap = true;
	return 0;
}

static void
on_usage(struct parser *p, const struct node *usage)
{
	const struct node *in = node_get(usage, "input_tokens_details");
	const struct node *out = node_get(usage, "output_tokens_details");
	struct model_usage *u = &p->answer.usage;

	u->input_tokens = usage_count(usage, "input_tokens", u->input_tokens);
	u->output_tokens = usage_count(usage, "output_tokens", u->output_tokens);
	u->cached_tokens = usage_count(in, "cached_tokens", u->cached_tokens);
	u->cache_write_tokens = usage_count(in, "cache_write_tokens", u->cache_write_tokens);
	u->reasoning_tokens = usage_count(out, "reasoning_tokens", u->reasoning_tokens);
}

static int
finish(struct parser *p, const struct node *ev, enum model_stop stop, struct err *e)
{
	const struct node *response = node_get(ev, "response");
	const struct node *output = node_get(response, "output");

	for (size_t i = 0; i < node_len(output); i++) {
		int rc = take_item(p, node_at(output, i), (int64_t)i, true, e);

		if (rc != 0)
			return rc;
	}
	on_usage(p, node_get(response, "usage"));
	if (!(p->has_stop && p->answer.stop == STOP_REFUSED))
		parser_set_stop(p, stop);
	p->is_done = true;
	return 0;
}

static int
on_completed(struct parser *p, const struct node *ev, struct err *e)
{
	return finish(p, ev, STOP_END, e);
}

static int
on_incomplete(struct parser *p, const struct node *ev, struct err *e)
{
	static const struct stop_name reasons[] = {
		{ "max_output_tokens", STOP_LENGTH },
		{ "max_tokens", STOP_LENGTH },
		{ "content_filter", STOP_REFUSED },
	};
	struct str why = node_str(node_find(ev, "response.incomplete_details"), "reason", STR(""));

	return finish(p, ev, stop_find(reasons, ARRAY_LEN(reasons), why), e);
}

static int
on_failed(struct parser *p, const struct node *ev, struct err *e)
{
	const struct node *why = node_find(ev, "response.error");

	return err_set(e, ERR_PROVIDER, ERR_TO_USER, "%.*s: %.*s",
		STR_FMT(node_str(why, "code", STR("failed"))),
		STR_FMT(node_str(why, "message", STR("the response failed"))));
}

static int
event(struct parser *p, struct str event, struct str data, struct err *e)
{
	static const struct {
		const char *type;
		int (*fn)(struct parser *p, const struct node *ev, struct err *e);
	} events[] = {
		{ "response.output_text.delta", on_text },
		{ "response.function_call_arguments.delta", on_args },
		{ "response.reasoning_summary_text.delta", on_reasoning },
		{ "response.reasoning_text.delta", on_reasoning },
		{ "response.reasoning_summary_part.added", on_summary_part },
		{ "response.refusal.delta", on_refusal },
		{ "response.output_item.added", on_item_added },
		{ "response.output_item.done", on_item_done },
		{ "response.completed", on_completed },
		{ "response.incomplete", on_incomplete },
		{ "response.failed", on_failed },
		{ "response.cancelled", on_failed },
	};
	const struct node *ev;
	struct str type;

	if (str_is(str_trim(data), "[DONE]"))
		return 0; /* of servers that imitate both APIs; the end is response.completed */
	if (parser_json(p, data, &ev, e) != 0)
		return e->code;
	type = node_str(ev, "type", event);
	if (str_is(type, "error") || (type.n == 0 && node_is(node_get(ev, "error"), NODE_MAP)))
		return stream_error(p, data, e);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (str_is(type, events[i].type))
			return events[i].fn(p, ev, e);
	return 0;
}

const struct provider_api provider_openai_responses = {
	.name = "openai-responses",
	.no_input = INPUT_AUDIO,
	.base_url = "https://api.openai.com/v1",
	.version = "/v1",
	.is_hosted = true,
	.key_header = "Authorization: Bearer ",
	.build = build,
	.event = event,
	.error = error_object,
	.embed_build = embed_build_openai,
	.embed_parse = embed_parse_openai,
	.embed_max = EMBED_TEXTS_MAX,
};
