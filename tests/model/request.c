/* SPDX-License-Identifier: MIT
 * Reads a request: which API its path names, and what a script may ask about its body. The four
 * chat APIs say the same things by other names; each has a small reader of its messages. */
#include "model.h"

#include "base/limits.h"

static const struct {
	const char *end; /* of the path */
	enum api api;
} endpoints[] = {
	{ "/chat/completions", API_OPENAI },
	{ "/messages", API_ANTHROPIC },
	{ "/responses", API_RESPONSES },
	{ ":streamGenerateContent", API_GEMINI },
	{ "/embeddings", API_EMBED },
	{ ":embedContent", API_EMBED_GEMINI },
	{ ":batchEmbedContents", API_EMBED_GEMINI_BATCH },
	{ "/api/embed", API_EMBED_OLLAMA },
};
/* Parts that are no text. */
static const char *const media_types[] = { "image_url", "input_audio", "file", "image", "document",
	"input_image", "input_file" };

enum api
request_api(struct request *r)
{
	ptrdiff_t query = str_find_char(r->path, '?');
	struct str path = query < 0 ? r->path : str_sub(r->path, 0, (size_t)query);

	r->is_sse = query >= 0 && str_find(r->path, STR("alt=sse")) > query;
	if (!str_is(r->method, "POST"))
		return API_NONE;
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++)
		if (str_ends(path, endpoints[i].end))
			return endpoints[i].api;
	return API_NONE;
}

static bool
is_text(struct str type)
{
	return str_is(type, "text") || str_is(type, "input_text") || str_is(type, "output_text");
}

static struct str
text_of(const struct node *content)
{
	if (node_is(content, NODE_STR))
		return content->s;
	for (size_t i = node_len(content); i-- > 0;) {
		const struct node *part = node_at(content, i);

		if (is_text(node_str(part, "type", STR(""))))
			return node_str(part, "text", STR(""));
	}
	return STR("");
}

static void
add_result(struct request *r, struct str text)
{
	r->results++;
	r->turn_results++;
	r->result = text;
}

static void
add_user(struct request *r, struct str text)
{
	if (text.n == 0)
		return;
	r->user = text;
	r->turn_results = 0;
}

static void
look_for_media(struct request *r, const struct node *content)
{
	for (size_t i = 0; node_is(content, NODE_LIST) && i < node_len(content); i++) {
		const struct node *part = node_at(content, i);
		struct str type = node_str(part, "type", STR(""));

		for (size_t k = 0; k < ARRAY_LEN(media_types); k++)
			r->has_media |= str_is(type, media_types[k]);
		if (str_is(type, "tool_result"))
			look_for_media(r, node_get(part, "content"));
	}
}

/* Chat and Anthropic; also the messages among the items of Responses. */
static void
read_message(struct request *r, const struct node *m)
{
	struct str role = node_str(m, "role", STR(""));
	const struct node *content = node_get(m, "content");

	look_for_media(r, content);
	if (str_is(role, "system") || str_is(role, "developer"))
		r->system = text_of(content);
	if (str_is(role, "tool"))
		add_result(r, text_of(content));
	if (!str_is(role, "user"))
		return;
	for (size_t i = 0; node_is(content, NODE_LIST) && i < node_len(content); i++) {
		const struct node *part = node_at(content, i);

		if (str_is(node_str(part, "type", STR("")), "tool_result"))
			add_result(r, text_of(node_get(part, "content")));
	}
	add_user(r, text_of(content));
}

static void
read_item(struct request *r, const struct node *item)
{
	if (!str_is(node_str(item, "type", STR("message")), "function_call_output")) {
		read_message(r, item);
		return;
	}
	look_for_media(r, node_get(item, "output"));
	add_result(r, text_of(node_get(item, "output")));
}

/* What a function answered, as text: the one string in it, else all of it as JSON. */
static struct str
response_text(const struct node *response, struct arena *a)
{
	struct buf b;
	struct json j;
	struct str text;

	if (node_len(response) == 1 && node_is(&response->map.pairs[0].value, NODE_STR))
		return response->map.pairs[0].value.s;
	buf_init(&b, REQUEST_MAX);
	json_init(&j, &b);
	json_node(&j, response);
	text = arena_str(a, buf_str(&b));
	buf_fini(&b);
	return text;
}

static void
read_content(struct request *r, const struct node *content, struct arena *a)
{
	const struct node *parts = node_get(content, "parts");
	struct str text = STR("");

	for (size_t i = 0; i < node_len(parts); i++) {
		const struct node *part = node_at(parts, i),
				  *answered = node_get(part, "functionResponse");

		r->has_media |= node_get(part, "inlineData") || node_get(part, "fileData");
		if (answered)
			add_result(r, response_text(node_get(answered, "response"), a));
		text = node_str(part, "text", text);
	}
	if (!str_is(node_str(content, "role", STR("user")), "model"))
		add_user(r, text);
}

static struct str
model_in_path(struct str path)
{
	ptrdiff_t from = str_find(path, STR("/models/"));
	struct str rest, name;

	if (from < 0)
		return STR("scripted");
	rest = str_sub(path, (size_t)from + 8, path.n);
	return str_next(&rest, ':', &name) ? name : STR("scripted");
}

static bool
is_on(const struct node *n)
{
	return n && !node_is(n, NODE_NULL) && !str_is(node_str(n, "type", STR("")), "disabled") &&
	       !(node_is(n, NODE_STR) && str_is(n->s, "none")) &&
	       !str_is(node_str(n, "effort", STR("")), "none") &&
	       node_int(n, "thinkingBudget", 1) != 0;
}

/* Where the APIs say that they want JSON of a schema, or reasoning. */
static void
read_wishes(struct request *r)
{
	static const char *const schemas[] = { "response_format.json_schema", "text.format.schema",
		"output_config.format.schema", "output_format.schema",
		"generationConfig.responseSchema", "generationConfig.responseJsonSchema",
		"generationConfig.responseFormat" };
	static const char *const efforts[] = { "reasoning_effort", "reasoning", "thinking",
		"generationConfig.thinkingConfig" };
	const struct node *include = node_get(r->json, "include");

	for (size_t i = 0; i < ARRAY_LEN(schemas); i++)
		r->has_schema |= node_find(r->json, schemas[i]) != NULL;
	for (size_t i = 0; i < ARRAY_LEN(efforts); i++)
		r->has_reasoning |= is_on(node_find(r->json, efforts[i]));
	for (size_t i = 0; i < node_len(include); i++)
		if (node_is(node_at(include, i), NODE_STR) &&
			str_is(node_at(include, i)->s, "reasoning.encrypted_content"))
			r->wants_encrypted = true;
	r->has_tools = node_len(node_get(r->json, "tools")) > 0;
}

void
request_read(struct request *r, struct arena *a)
{
	const struct node *list;
	bool is_gemini = r->api == API_GEMINI || r->api == API_EMBED_GEMINI ||
			 r->api == API_EMBED_GEMINI_BATCH;

	if (json_parse(a, r->body, &r->json, NULL) != 0)
		return;
	r->model = is_gemini ? model_in_path(r->path) : node_str(r->json, "model", STR("scripted"));
	if (node_get(r->json, "system"))
		r->system = text_of(node_get(r->json, "system"));
	r->system = node_str(r->json, "instructions", r->system);
	list = node_find(r->json, "systemInstruction.parts");
	if (list)
		r->system = node_str(node_at(list, 0), "text", STR(""));
	list = node_get(r->json, "messages");
	for (size_t i = 0; i < node_len(list); i++)
		read_message(r, node_at(list, i));
	list = node_get(r->json, "contents");
	for (size_t i = 0; i < node_len(list); i++)
		read_content(r, node_at(list, i), a);
	list = node_get(r->json, "input");
	if (r->api == API_RESPONSES && node_is(list, NODE_STR))
		add_user(r, list->s);
	for (size_t i = 0; r->api == API_RESPONSES && i < node_len(list); i++)
		read_item(r, node_at(list, i));
	read_wishes(r);
}
