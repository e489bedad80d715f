/* SPDX-License-Identifier: MIT
 * The Gemini API, streamed as server-sent events. The model's name is in the path; contents
 * alternate between user and model and come last, so that a longer conversation begins with the
 * bytes of a shorter one. A thought signature goes back on the very part that had it, so a part
 * with one is never joined with another. The stream has no end mark: it is whole when a finish
 * reason came and the body ended. */
#include "provider/internal.h"

#include "base/limits.h"

/* From this generation on, calls of the turn must carry a signature; for those that another model
 * made the API takes this word. Also from here on: levels of thinking instead of budgets, and
 * answers with a schema beside tools. */
#define SIGNED_GENERATION 3
#define NO_SIGNATURE      "skip_thought_signature_validator"

#define GEMINI_EMBED_MAX 100 /* requests in a batch */

static bool
is_signing(const struct model_request *r)
{
	return model_generation(r->model, "gemini-") >= SIGNED_GENERATION;
}

/* ---- request ---- */

/* Everything that is not unreserved (RFC 3986) is escaped: a name cannot leave its place. */
struct str
gemini_path(struct str model, const char *verb, struct arena *a)
{
	struct buf b;

	buf_init(&b, 3 * model.n + 100);
	buf_add_z(&b, "/models/");
	for (size_t i = 0; i < model.n; i++) {
		unsigned char c = (unsigned char)model.p[i];

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			c == '-' || c == '_' || (c == '.' && model.n > 2))
			buf_add_char(&b, (char)c);
		else
			buf_printf(&b, "%%%02X", c);
	}
	buf_add_z(&b, verb);
	return arena_take(a, &b);
}

static void
write_tools(struct json *j, const struct model_request *r)
{
	if (r->tools_n == 0)
		return;
	json_kv_arr(j, "tools");
	json_obj(j);
	json_kv_arr(j, "functionDeclarations");
	for (size_t i = 0; i < r->tools_n; i++) {
		json_obj(j);
		json_kv_z(j, "name", r->tools[i].name);
		json_kv_z(j, "description", r->tools[i].text);
		json_kv_raw(j, "parametersJsonSchema", r->tools[i].schema);
		json_obj_end(j);
	}
	json_arr_end(j);
	json_obj_end(j);
	json_arr_end(j);
}

static void
write_text_part(struct json *j, struct str text)
{
	json_obj(j);
	json_kv_str(j, "text", text);
	json_obj_end(j);
}

/* Before this generation the API refuses a schema beside tools: then it is asked for in words. */
static bool
has_schema_field(const struct model_request *r)
{
	return r->schema.n > 0 && (r->tools_n == 0 || is_signing(r));
}

static void
write_system(struct json *j, const struct model_request *r, struct arena *a)
{
	bool in_words = r->schema.n > 0 && !has_schema_field(r);

	if (str_trim(r->system).n == 0 && !in_words)
		return;
	json_kv_obj(j, "systemInstruction");
	json_kv_arr(j, "parts");
	if (str_trim(r->system).n > 0)
		write_text_part(j, r->system);
	if (in_words)
		write_text_part(j, schema_words(r->schema, a));
	json_arr_end(j);
	json_obj_end(j);
}

/* Levels since generation 3, tokens before it. The larger models cannot stop thinking: they are
 * asked for the least that they take. */
static void
write_effort(struct json *j, const struct model_request *r)
{
	static const struct {
		const char *level;
		int64_t budget;
	} efforts[] = {
		[EFFORT_OFF] = { "minimal", 0 },
		[EFFORT_LOW] = { "low", 1024 },
		[EFFORT_MEDIUM] = { "medium", 8192 },
		[EFFORT_HIGH] = { "high", 24576 },
	};
	bool is_large = str_find(r->model, STR("-pro")) >= 0, is_off = r->effort == EFFORT_OFF;

	if (r->effort == EFFORT_AUTO)
		return;
	if (is_signing(r))
		json_kv_z(
			j, "thinkingLevel", is_off && is_large ? "low" : efforts[r->effort].level);
	else
		json_kv_int(
			j, "thinkingBudget", is_off && is_large ? 128 : efforts[r->effort].budget);
}

static void
write_config(struct json *j, const struct model_request *r)
{
	if (!r->has_reasoning && r->max_output_tokens <= 0 && !has_schema_field(r))
		return;
	json_kv_obj(j, "generationConfig");
	if (r->max_output_tokens > 0)
		json_kv_int(j, "maxOutputTokens", r->max_output_tokens);
	if (r->has_reasoning) {
		json_kv_obj(j, "thinkingConfig");
		json_kv_bool(j, "includeThoughts", r->effort != EFFORT_OFF);
		write_effort(j, r);
		json_obj_end(j);
	}
	if (has_schema_field(r)) {
		json_kv_z(j, "responseMimeType", "application/json");
		json_kv_raw(j, "responseJsonSchema", r->schema);
	}
	json_obj_end(j);
}

/* The id that the server gave the call of this result; empty: the server gives none. */
static struct str
server_id(const struct model_request *r, const struct part *result)
{
	for (size_t m = r->messages_n; m-- > 0;) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *c = &r->messages[m].parts[i];

			if (c->type == PART_CALL && str_eq(c->call_id, result->call_id))
				return part_is_own(r, c) ? c->item_id : STR("");
		}
	}
	return STR("");
}

static void
write_result(struct json *j, const struct model_request *r, const struct part *p, struct arena *a)
{
	struct str id = server_id(r, p);

	json_obj(j);
	json_kv_obj(j, "functionResponse");
	if (id.n > 0)
		json_kv_str(j, "id", id);
	json_kv_str(j, "name", result_tool(r, p));
	json_kv_obj(j, "response");
	json_kv_str(j, p->is_error ? "error" : "output", result_text(p, a));
	json_obj_end(j);
	json_obj_end(j);
	json_obj_end(j);
}

static void
write_call(struct json *j, const struct part *p, bool is_own, bool is_first, struct arena *a)
{
	json_obj(j);
	json_kv_obj(j, "functionCall");
	if (is_own && p->item_id.n > 0)
		json_kv_str(j, "id", p->item_id);
	json_kv_str(j, "name", p->tool);
	json_kv_raw(j, "args", call_args(p->args, a));
	json_obj_end(j);
	if (is_own && p->signature.n > 0)
		json_kv_str(j, "thoughtSignature", p->signature);
	else if (is_first)
		json_kv_z(j, "thoughtSignature", NO_SIGNATURE);
	json_obj_end(j);
}

static void
write_media(struct json *j, const struct part *p, struct arena *a)
{
	if (!media_is(p, MEDIA_IMAGE) && !media_is(p, MEDIA_PDF) && !media_is(p, MEDIA_AUDIO)) {
		write_text_part(j, media_text(p, a));
		return;
	}
	json_obj(j);
	json_kv_obj(j, "inlineData");
	json_kv_str(j, "mimeType", media_mime(p));
	json_key(j, "data");
	write_base64(j, p->data);
	json_obj_end(j);
	json_obj_end(j);
}

/* Text or a thought. A signature makes even an empty one worth sending; a thought without one is
 * not. */
static void
write_words(struct json *j, const struct part *p, bool is_own)
{
	json_obj(j);
	json_kv_str(j, "text", p->text);
	if (p->type == PART_REASONING)
		json_kv_bool(j, "thought", true);
	if (is_own && p->signature.n > 0)
		json_kv_str(j, "thoughtSignature", p->signature);
	json_obj_end(j);
}

static bool
is_sendable(const struct model_request *r, const struct part *p)
{
	bool is_signed = part_is_own(r, p) && p->signature.n > 0;

	switch (p->type) {
	case PART_TEXT:
		return p->text.n > 0 || is_signed;
	case PART_REASONING:
		return is_signed;
	case PART_REASONING_REDACTED:
		return false;
	case PART_CALL:
	case PART_RESULT:
	case PART_MEDIA:
		return true;
	}
	return false;
}

static void
write_part(struct json *j, const struct model_request *r, const struct part *p, bool is_first_call,
	struct arena *a)
{
	bool is_own = part_is_own(r, p);

	if (p->type == PART_CALL)
		write_call(j, p, is_own, is_first_call && is_signing(r), a);
	else if (p->type == PART_RESULT)
		write_result(j, r, p, a);
	else if (p->type == PART_MEDIA)
		write_media(j, p, a);
	else
		write_words(j, p, is_own);
}

static size_t
count_sendable(const struct model_request *r, size_t from, size_t to)
{
	size_t n = 0;

	for (size_t m = from; m < to; m++)
		for (size_t i = 0; i < r->messages[m].n; i++)
			n += is_sendable(r, &r->messages[m].parts[i]);
	return n;
}

/* One content out of messages [from, to) of one role; results stand before the rest. */
static void
write_content(
	struct json *j, const struct model_request *r, size_t from, size_t to, struct arena *a)
{
	bool has_call = false;

	if (count_sendable(r, from, to) == 0)
		return;
	json_obj(j);
	json_kv_z(j, "role", r->messages[from].role == MSG_USER ? "user" : "model");
	json_kv_arr(j, "parts");
	for (int pass = 0; pass < 2; pass++) {
		for (size_t m = from; m < to; m++) {
			for (size_t i = 0; i < r->messages[m].n; i++) {
				const struct part *p = &r->messages[m].parts[i];

				if (!is_sendable(r, p) || (p->type == PART_RESULT) != (pass == 0))
					continue;
				write_part(j, r, p, !has_call, a);
				has_call = has_call || p->type == PART_CALL;
			}
		}
	}
	json_arr_end(j);
	json_obj_end(j);
}

static int
build(const struct model_request *r, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = build_begin(&r, out, &j, a, e);
	size_t to;

	if (rc != 0)
		return rc;
	out->path = gemini_path(r->model, ":streamGenerateContent?alt=sse", a);
	write_system(&j, r, a);
	write_tools(&j, r);
	write_config(&j, r);
	json_kv_arr(&j, "contents");
	for (size_t from = 0; from < r->messages_n; from = to) {
		to = messages_run(r, from);
		write_content(&j, r, from, to, a);
	}
	json_arr_end(&j);
	return build_end(out, &j, e);
}

/* ---- answer ---- */

static const struct stop_name stops[] = {
	{ "STOP", STOP_END },
	{ "FUNCTION_CALL", STOP_TOOLS },
	{ "MAX_TOKENS", STOP_LENGTH },
	{ "SAFETY", STOP_REFUSED },
	{ "RECITATION", STOP_REFUSED },
	{ "LANGUAGE", STOP_REFUSED },
	{ "BLOCKLIST", STOP_REFUSED },
	{ "PROHIBITED_CONTENT", STOP_REFUSED },
	{ "SPII", STOP_REFUSED },
	{ "IMAGE_SAFETY", STOP_REFUSED },
	{ "IMAGE_PROHIBITED_CONTENT", STOP_REFUSED },
	{ "IMAGE_RECITATION", STOP_REFUSED },
};

/* The model lost its way in its own format: there is no answer, and another attempt may bring one.
 */
static const char *const broken[] = {
	"MALFORMED_FUNCTION_CALL",
	"MALFORMED_RESPONSE",
	"UNEXPECTED_TOOL_CALL",
	"TOO_MANY_TOOL_CALLS",
	"MISSING_THOUGHT_SIGNATURE",
};

static int
on_text(struct parser *p, const struct node *part, struct str text, struct err *e)
{
	enum part_type type = node_bool(part, "thought", false) ? PART_REASONING : PART_TEXT;
	struct str signature = node_str(part, "thoughtSignature", STR(""));
	struct slot *s;
	int rc;

	if (signature.n == 0)
		return parser_add_text(p, type, text, e);
	s = slot_new(p, type, -1, e);
	if (!s)
		return ERR_LIMIT;
	rc = slot_add(p, s, text, e);
	return rc != 0 ? rc : slot_add_signature(p, s, signature, e);
}

/* Calls come whole. */
static int
on_call(struct parser *p, const struct node *part, const struct node *call, struct err *e)
{
	struct slot *s = slot_new(p, PART_CALL, -1, e);
	const struct node *args = node_get(call, "args");
	struct str id = node_str(call, "id", STR(""));
	int rc;

	if (!s)
		return ERR_LIMIT;
	rc = slot_add_id(p, s, id, e);
	if (rc == 0)
		rc = slot_set_item_id(p, s, id, e);
	if (rc == 0)
		rc = slot_set_name(p, s, node_str(call, "name", STR("")), e);
	if (rc == 0 && args && args->type != NODE_NULL)
		rc = slot_add_node(p, s, args, e);
	if (rc == 0)
		rc = slot_add_signature(p, s, node_str(part, "thoughtSignature", STR("")), e);
	return rc;
}

static int
on_part(struct parser *p, const struct node *part, struct err *e)
{
	const struct node *text = node_get(part, "text"), *call = node_get(part, "functionCall");

	if (!node_is(part, NODE_MAP))
		return parser_malformed(p, e, "a part that is not an object");
	if (call && !node_is(call, NODE_MAP))
		return parser_malformed(p, e, "functionCall: expected an object, found %s",
			node_type_name(call->type));
	if (call)
		return on_call(p, part, call, e);
	if (text && !node_is(text, NODE_STR))
		return parser_malformed(
			p, e, "text: expected a string, found %s", node_type_name(text->type));
	return text ? on_text(p, part, text->s, e) : 0;
}

static int
on_finish(struct parser *p, const struct node *candidate, struct str reason, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(broken); i++)
		if (str_is(reason, broken[i]))
			return err_set(e, ERR_PROVIDER, ERR_TO_USER, "%.*s: %.*s", STR_FMT(reason),
				STR_FMT(node_str(candidate, "finishMessage",
					STR("the model wrote a call that the server could not "
					    "read"))));
	parser_set_stop(p, stop_find(stops, ARRAY_LEN(stops), reason));
	return 0;
}

static int
on_candidate(struct parser *p, const struct node *candidate, struct err *e)
{
	const struct node *parts = node_find(candidate, "content.parts");
	struct str reason = node_str(candidate, "finishReason", STR(""));

	if (node_int(candidate, "index", 0) != 0)
		return 0; /* only one answer was asked for */
	for (size_t i = 0; i < node_len(parts); i++) {
		int rc = on_part(p, node_at(parts, i), e);

		if (rc != 0)
			return rc;
	}
	if (reason.n == 0 || str_is(reason, "FINISH_REASON_UNSPECIFIED"))
		return 0;
	return on_finish(p, candidate, reason, e);
}

/* Counts grow from event to event; thoughts are not among the candidates' tokens. */
static void
on_usage(struct parser *p, const struct node *usage)
{
	struct model_usage *u = &p->answer.usage;
	int64_t prompt = usage_count(usage, "promptTokenCount", -1);
	int64_t visible = u->output_tokens - u->reasoning_tokens;

	if (prompt >= 0)
		u->input_tokens = prompt + usage_count(usage, "toolUsePromptTokenCount", 0);
	u->cached_tokens = usage_count(usage, "cachedContentTokenCount", u->cached_tokens);
	visible = usage_count(usage, "candidatesTokenCount", visible);
	u->reasoning_tokens = usage_count(usage, "thoughtsTokenCount", u->reasoning_tokens);
	u->output_tokens = visible + u->reasoning_tokens;
}

static int
event(struct parser *p, struct str event, struct str data, struct err *e)
{
	const struct node *ev, *candidates;

	if (parser_json(p, data, &ev, e) != 0)
		return e->code;
	if (node_is(node_get(ev, "error"), NODE_MAP))
		return stream_error(p, data, e);
	on_usage(p, node_get(ev, "usageMetadata"));
	candidates = node_get(ev, "candidates");
	for (size_t i = 0; i < node_len(candidates); i++) {
		int rc = on_candidate(p, node_at(candidates, i), e);

		if (rc != 0)
			return rc;
	}
	/* A prompt that is blocked gets no candidate. */
	if (node_str(node_get(ev, "promptFeedback"), "blockReason", STR("")).n > 0)
		parser_set_stop(p, STOP_REFUSED);
	return 0;
}

const struct provider_api provider_gemini = {
	.name = "gemini",
	.base_url = "https://generativelanguage.googleapis.com/v1beta",
	.version = "/v1beta",
	.is_hosted = true,
	.ends_with_body = true,
	.key_header = "x-goog-api-key: ",
	.build = build,
	.event = event,
	.error = error_object,
	.embed_build = embed_build_gemini,
	.embed_parse = embed_parse_gemini,
	.embed_max = GEMINI_EMBED_MAX,
};
