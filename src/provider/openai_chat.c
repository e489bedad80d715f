/* SPDX-License-Identifier: MIT
 * The OpenAI Chat Completions API, streamed, and what servers that imitate it do differently: a
 * missing or constant call index, whole arguments in one chunk, arguments as an object, names
 * repeated, reasoning beside the content. Messages come last in the request, so that a longer
 * conversation begins with the bytes of a shorter one. */
#include "provider/internal.h"

#include "base/limits.h"

static const struct stop_name stops[] = {
	{ "stop", STOP_END },
	{ "tool_calls", STOP_TOOLS },
	{ "function_call", STOP_TOOLS },
	{ "length", STOP_LENGTH },
	{ "content_filter", STOP_REFUSED },
};

/* Where servers that imitate the API put reasoning. */
static const char *const reasoning_fields[] = { "reasoning_content", "reasoning" };

static bool
is_reasoning_field(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(reasoning_fields); i++)
		if (str_is(name, reasoning_fields[i]))
			return true;
	return false;
}

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
		json_kv_obj(j, "function");
		json_kv_z(j, "name", r->tools[i].name);
		json_kv_z(j, "description", r->tools[i].text);
		json_kv_raw(j, "parameters", r->tools[i].schema);
		json_obj_end(j);
		json_obj_end(j);
	}
	json_arr_end(j);
}

/* ---- attachments ---- */

static void
write_text_part(struct json *j, struct str text)
{
	json_obj(j);
	json_kv_z(j, "type", "text");
	json_kv_str(j, "text", text);
	json_obj_end(j);
}

/* What the API calls the types of sound that it knows; NULL: another. */
static const char *
audio_format(const struct part *p)
{
	return str_is(p->mime, "audio/wav") ? "wav" : str_is(p->mime, "audio/mpeg") ? "mp3" : NULL;
}

static void
write_media(struct json *j, const struct part *p, struct arena *a)
{
	const char *audio = audio_format(p);

	if (!media_is(p, MEDIA_IMAGE) && !media_is(p, MEDIA_PDF) && !audio) {
		write_text_part(j, media_text(p, a));
		return;
	}
	json_obj(j);
	if (media_is(p, MEDIA_IMAGE)) {
		json_kv_z(j, "type", "image_url");
		json_kv_obj(j, "image_url");
		json_key(j, "url");
		write_data_url(j, p);
	} else if (media_is(p, MEDIA_PDF)) {
		json_kv_z(j, "type", "file");
		json_kv_obj(j, "file");
		json_kv_str(j, "filename", media_name(p));
		json_key(j, "file_data");
		write_data_url(j, p);
	} else {
		json_kv_z(j, "type", "input_audio");
		json_kv_obj(j, "input_audio");
		json_key(j, "data");
		write_base64(j, p->data);
		json_kv_z(j, "format", audio);
	}
	json_obj_end(j);
	json_obj_end(j);
}

static size_t
count_parts(const struct model_request *r, size_t from, size_t to, enum part_type type)
{
	size_t n = 0;

	for (size_t m = from; m < to; m++)
		for (size_t i = 0; i < r->messages[m].n; i++)
			n += r->messages[m].parts[i].type == type;
	return n;
}

/* Content with attachments is a list; without, it stays a string, which every server takes. */
static void
write_contents(
	struct json *j, const struct model_request *r, size_t from, size_t to, struct arena *a)
{
	json_arr(j);
	for (size_t m = from; m < to; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			if (p->type == PART_MEDIA)
				write_media(j, p, a);
			else if (p->type == PART_TEXT && p->text.n > 0)
				write_text_part(j, p->text);
		}
	}
	json_arr_end(j);
}

/* ---- messages ---- */

/* All text of messages [from, to) as one string; texts are kept apart by an empty line. false:
 * there is none. */
static bool
join_text(const struct model_request *r, size_t from, size_t to, struct buf *text)
{
	bool any = false;

	for (size_t m = from; m < to; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			if (p->type != PART_TEXT || p->text.n == 0)
				continue;
			if (any)
				buf_add_z(text, "\n\n");
			buf_add_str(text, p->text);
			any = true;
		}
	}
	return any;
}

static void
write_result(struct json *j, const struct part *p, struct arena *a)
{
	json_obj(j);
	json_kv_z(j, "role", "tool");
	json_kv_str(j, "tool_call_id", p->call_id);
	json_kv_str(j, "content", result_text(p, a));
	json_obj_end(j);
}

static void
write_user(struct json *j, const struct model_request *r, size_t from, size_t to, struct buf *text,
	struct arena *a)
{
	for (size_t m = from; m < to; m++)
		for (size_t i = 0; i < r->messages[m].n; i++)
			if (r->messages[m].parts[i].type == PART_RESULT)
				write_result(j, &r->messages[m].parts[i], a);
	bool has_media = count_parts(r, from, to, PART_MEDIA) > 0;

	if (!has_media && !join_text(r, from, to, text))
		return;
	json_obj(j);
	json_kv_z(j, "role", "user");
	json_key(j, "content");
	if (has_media)
		write_contents(j, r, from, to, a);
	else
		json_str(j, buf_str(text));
	json_obj_end(j);
}

static void
write_call(struct json *j, const struct part *p, struct arena *a)
{
	json_obj(j);
	json_kv_str(j, "id", p->call_id);
	json_kv_z(j, "type", "function");
	json_kv_obj(j, "function");
	json_kv_str(j, "name", p->tool);
	json_kv_str(j, "arguments", call_args(p->args, a));
	json_obj_end(j);
	json_obj_end(j);
}

/* Servers that think before a call want to see it again while they work; they get it under the name
 * under which they sent it, beside calls alone, so that it never moves. OpenAI's own server sends
 * none, and other providers' reasoning stays away: some servers refuse fields they do not know. */
static void
write_reasoning(struct json *j, const struct model_request *r, size_t from, size_t to)
{
	struct str name = STR("");
	struct buf text;

	buf_init(&text, REQUEST_BODY_MAX);
	for (size_t m = from; m < to; m++) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *p = &r->messages[m].parts[i];

			if (p->type != PART_REASONING || p->text.n == 0 || !part_is_own(r, p) ||
				!is_reasoning_field(p->item_id))
				continue;
			if (name.n > 0)
				buf_add_z(&text, "\n\n");
			name = p->item_id;
			buf_add_str(&text, p->text);
		}
	}
	if (name.n > 0) {
		json_key_str(j, name);
		json_str(j, buf_str(&text));
	}
	buf_fini(&text);
}

static void
write_assistant(struct json *j, const struct model_request *r, size_t from, size_t to,
	struct buf *text, struct arena *a)
{
	bool has_text = join_text(r, from, to, text);
	size_t calls = count_parts(r, from, to, PART_CALL);

	if (!has_text && calls == 0)
		return;
	json_obj(j);
	json_kv_z(j, "role", "assistant");
	if (calls > 0)
		write_reasoning(j, r, from, to);
	json_key(j, "content");
	if (has_text)
		json_str(j, buf_str(text));
	else
		json_null(j);
	if (calls > 0) {
		json_kv_arr(j, "tool_calls");
		for (size_t m = from; m < to; m++)
			for (size_t i = 0; i < r->messages[m].n; i++)
				if (r->messages[m].parts[i].type == PART_CALL)
					write_call(j, &r->messages[m].parts[i], a);
		json_arr_end(j);
	}
	json_obj_end(j);
}

static void
write_messages(struct json *j, const struct model_request *r, struct arena *a)
{
	struct buf text;
	size_t to;

	buf_init(&text, REQUEST_BODY_MAX);
	if (r->system.n > 0) {
		json_obj(j);
		json_kv_z(j, "role", "system");
		json_kv_str(j, "content", r->system);
		json_obj_end(j);
	}
	for (size_t from = 0; from < r->messages_n; from = to) {
		to = messages_run(r, from);
		buf_reset(&text);
		if (r->messages[from].role == MSG_USER)
			write_user(j, r, from, to, &text, a);
		else
			write_assistant(j, r, from, to, &text, a);
	}
	buf_fini(&text);
}

static void
write_options(struct json *j, const struct model_request *r)
{
	const char *effort = openai_effort(r);

	json_kv_bool(j, "stream", true);
	json_kv_obj(j, "stream_options");
	json_kv_bool(j, "include_usage", true);
	json_obj_end(j);
	/* OpenAI's reasoning models refuse the old name; servers that imitate the API often know
	 * only that one. */
	if (r->max_output_tokens > 0)
		json_kv_int(j, r->is_own_server ? "max_completion_tokens" : "max_tokens",
			r->max_output_tokens);
	if (effort)
		json_kv_z(j, "reasoning_effort", effort);
	if (r->cache_key.n > 0 && r->is_own_server)
		json_kv_str(j, "prompt_cache_key", r->cache_key);
	if (r->schema.n == 0)
		return;
	json_kv_obj(j, "response_format");
	json_kv_z(j, "type", "json_schema");
	json_kv_obj(j, "json_schema");
	json_kv_z(j, "name", SCHEMA_NAME);
	json_kv_bool(j, "strict", schema_is_strict(r->schema));
	json_kv_raw(j, "schema", r->schema);
	json_obj_end(j);
	json_obj_end(j);
}

static int
build(const struct model_request *r, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = build_begin(&r, out, &j, a, e);

	if (rc != 0)
		return rc;
	out->path = STR("/chat/completions");
	json_kv_str(&j, "model", r->model);
	write_options(&j, r);
	write_tools(&j, r);
	json_kv_arr(&j, "messages");
	write_messages(&j, r, a);
	json_arr_end(&j);
	return build_end(out, &j, e);
}

/* ---- answer ---- */

/* A string, or NULL and absent; any other type is told rather than lost. */
static int
text_of(struct parser *p, const struct node *map, const char *key, struct str *out, struct err *e)
{
	const struct node *n = node_get(map, key);

	*out = STR("");
	if (!n || n->type == NODE_NULL)
		return 0;
	if (n->type != NODE_STR)
		return parser_malformed(
			p, e, "%s: expected a string, found %s", key, node_type_name(n->type));
	*out = n->s;
	return 0;
}

/* Which call a fragment belongs to. Some servers leave the index out, others send 0 for every call:
 * an id that is new, or a second name where there is no id, begins a call; anything else goes on
 * with the last one. */
static struct slot *
find_call(struct parser *p, const struct node *call, struct str id, struct str name, struct err *e)
{
	int64_t index = node_int(call, "index", -1);
	struct slot *s = NULL;

	if (index >= 0) {
		s = slot_find(p, index);
	} else {
		for (size_t i = p->n; i-- > 0 && !s;)
			if (p->slots[i].type == PART_CALL)
				s = &p->slots[i];
		if (s && id.n == 0 && name.n > 0 && s->name.n > 0)
			s = NULL;
	}
	if (s && id.n > 0 && s->id.n > 0 && !str_eq(buf_str(&s->id), id))
		s = NULL;
	return s ? s : slot_new(p, PART_CALL, index >= 0 ? index : -2, e);
}

static int
add_args(struct parser *p, struct slot *s, const struct node *args, struct err *e)
{
	if (!args || args->type == NODE_NULL)
		return 0;
	return args->type == NODE_STR ? slot_add(p, s, args->s, e) : slot_add_node(p, s, args, e);
}

static int
on_call(struct parser *p, const struct node *call, struct err *e)
{
	const struct node *fn = node_get(call, "function");
	struct str id, name;
	struct slot *s;

	if (text_of(p, call, "id", &id, e) != 0 || text_of(p, fn, "name", &name, e) != 0)
		return ERR_PROTO;
	s = find_call(p, call, id, name, e);
	if (!s)
		return ERR_LIMIT;
	if (s->id.n == 0) {
		int rc = slot_add_id(p, s, id, e);

		if (rc != 0)
			return rc;
	}
	if (slot_set_name(p, s, name, e) != 0)
		return ERR_LIMIT;
	return add_args(p, s, node_get(fn, "arguments"), e);
}

static int
on_reasoning(struct parser *p, const struct node *delta, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(reasoning_fields); i++) {
		struct str text;

		if (text_of(p, delta, reasoning_fields[i], &text, e) != 0)
			return ERR_PROTO;
		if (text.n == 0)
			continue;
		/* Some servers send it under both names: the first one is taken. */
		if (parser_add_text(p, PART_REASONING, text, e) != 0)
			return ERR_LIMIT;
		return slot_set_item_id(p, slot_last(p), str_of(reasoning_fields[i]), e);
	}
	return 0;
}

/* Content as a list of blocks, as some servers send it: text, and thinking that holds text. */
static int
on_blocks(struct parser *p, const struct node *list, enum part_type type, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < node_len(list) && rc == 0; i++) {
		const struct node *block = node_at(list, i), *inner = node_get(block, "thinking");

		if (!node_is(block, NODE_MAP))
			return parser_malformed(p, e,
				"content: expected a list of objects, found %s in it",
				node_type_name(block->type));
		if (node_is(inner, NODE_LIST) && type == PART_TEXT)
			rc = on_blocks(p, inner, PART_REASONING, e);
		else
			rc = parser_add_text(p, type, node_str(block, "text", STR("")), e);
	}
	return rc;
}

static int
on_content(struct parser *p, const struct node *delta, struct err *e)
{
	const struct node *content = node_get(delta, "content");
	struct str text, refusal;
	int rc;

	if (text_of(p, delta, "refusal", &refusal, e) != 0)
		return ERR_PROTO;
	if (node_is(content, NODE_LIST)) {
		rc = on_blocks(p, content, PART_TEXT, e);
	} else {
		rc = text_of(p, delta, "content", &text, e);
		if (rc == 0)
			rc = parser_add_text(p, PART_TEXT, text, e);
	}
	if (rc == 0 && refusal.n > 0) {
		p->answer.stop = STOP_REFUSED; /* and not yet the end */
		rc = parser_add_text(p, PART_TEXT, refusal, e);
	}
	return rc;
}

static int
on_delta(struct parser *p, const struct node *delta, struct err *e)
{
	const struct node *calls = node_get(delta, "tool_calls");
	int rc = on_reasoning(p, delta, e);

	if (rc == 0)
		rc = on_content(p, delta, e);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < node_len(calls); i++) {
		rc = on_call(p, node_at(calls, i), e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Some servers, xAI's among them, count reasoning beside the completion: then the total has more
 * than the two, and what it has more is charged as output. */
static int64_t
hidden_output(const struct node *usage)
{
	int64_t total = usage_count(usage, "total_tokens", 0);

	return MAX(total - usage_count(usage, "prompt_tokens", total) -
			   usage_count(usage, "completion_tokens", total),
		0);
}

static void
on_usage(struct parser *p, const struct node *usage)
{
	const struct node *in = node_get(usage, "prompt_tokens_details");
	const struct node *out = node_get(usage, "completion_tokens_details");
	struct model_usage *u = &p->answer.usage;

	if (!node_is(usage, NODE_MAP))
		return;
	u->input_tokens = usage_count(usage, "prompt_tokens", u->input_tokens);
	u->output_tokens =
		usage_count(usage, "completion_tokens", u->output_tokens) + hidden_output(usage);
	u->cached_tokens = usage_count(in, "cached_tokens", u->cached_tokens);
	u->cache_write_tokens = usage_count(in, "cache_write_tokens", u->cache_write_tokens);
	u->reasoning_tokens = usage_count(out, "reasoning_tokens", u->reasoning_tokens);
}

/* How servers say that an answer broke off on their side; another attempt may bring it whole. */
static const char *const broken[] = { "error", "insufficient_system_resource" };

static int
on_finish(struct parser *p, const struct node *choice, struct str finish, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(broken); i++)
		if (str_is(finish, broken[i]))
			return err_set(e, ERR_PROVIDER, ERR_TO_USER, "server_error: %.*s",
				STR_FMT(node_str(node_get(choice, "error"), "message",
					STR("the server broke the answer off"))));
	if (finish.n > 0)
		parser_set_stop(p, p->answer.stop == STOP_REFUSED
					   ? STOP_REFUSED
					   : stop_find(stops, ARRAY_LEN(stops), finish));
	return 0;
}

static int
on_choice(struct parser *p, const struct node *choice, struct err *e)
{
	struct str finish;
	int rc;

	if (node_int(choice, "index", 0) != 0)
		return 0;                       /* only one answer was asked for */
	on_usage(p, node_get(choice, "usage")); /* Moonshot's place for it */
	rc = on_delta(p, node_get(choice, "delta"), e);
	if (rc == 0)
		rc = text_of(p, choice, "finish_reason", &finish, e);
	return rc != 0 ? rc : on_finish(p, choice, finish, e);
}

static int
event(struct parser *p, struct str event, struct str data, struct err *e)
{
	const struct node *chunk, *choices, *err;

	if (str_is(str_trim(data), "[DONE]")) {
		p->is_done = true;
		return 0;
	}
	if (parser_json(p, data, &chunk, e) != 0)
		return e->code;
	err = node_get(chunk, "error");
	if (str_is(event, "error") || (err && err->type != NODE_NULL))
		return stream_error(p, data, e);
	on_usage(p, node_find(chunk, "x_groq.usage")); /* Groq's place for it */
	on_usage(p, node_get(chunk, "usage"));
	choices = node_get(chunk, "choices");
	for (size_t i = 0; i < node_len(choices); i++) {
		int rc = on_choice(p, node_at(choices, i), e);

		if (rc != 0)
			return rc;
	}
	return 0;
}

const struct provider_api provider_openai_chat = {
	.name = "openai-chat",
	.base_url = "https://api.openai.com/v1",
	.version = "/v1",
	.is_hosted = true,
	.ends_with_body = true, /* some servers leave [DONE] out */
	.key_header = "Authorization: Bearer ",
	.build = build,
	.event = event,
	.error = error_object,
	.embed_build = embed_build_openai,
	.embed_parse = embed_parse_openai,
	.embed_max = EMBED_TEXTS_MAX,
};
