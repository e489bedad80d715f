/* SPDX-License-Identifier: MIT
 * The script of the model server: its tables, and which answer a request gets. Rules look at the
 * request; steps go by the number of requests so far (`by: sequence`) or, without any state, by the
 * number of tool results in the request. */
#include "model.h"

#include <stdlib.h>
#include <string.h>
#include "base/field.h"
#include "base/limits.h"
#include "base/mem.h"

#define LIST_MAX 10000

static const struct field call_fields[] = {
	{ .name = "tool", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "Name." },
	{ .name = "args", .type = FIELD_ANY, .text = "Map, or text that is sent as it is." },
	{ .name = "id", .type = FIELD_STR, .text = "Id of the call; made when absent." },
	{ .name = "pieces",
		.type = FIELD_INT,
		.min = 1,
		.max = 100000,
		.text = "Fragments of the arguments." },
	{ .name = "index", .type = FIELD_BOOL, .text = "openai: false leaves the index out." },
	{ .type = FIELD_END },
};
static const struct field header_row = { .type = FIELD_STR, .text = "Value." };
static const struct field error_fields[] = {
	{ .name = "status",
		.type = FIELD_INT,
		.min = 100,
		.max = 599,
		.text = "HTTP status; absent: an error in the stream." },
	{ .name = "type", .type = FIELD_STR, .text = "Type of the error." },
	{ .name = "code", .type = FIELD_STR, .text = "openai: code." },
	{ .name = "message", .type = FIELD_STR, .text = "Message." },
	{ .name = "retry_after", .type = FIELD_STR, .text = "Header, as it is." },
	{ .name = "retry_after_ms", .type = FIELD_STR, .text = "Header, as it is." },
	{ .name = "should_retry", .type = FIELD_BOOL, .text = "Header x-should-retry." },
	{ .name = "headers", .type = FIELD_MAP, .item = &header_row, .text = "More headers." },
	{ .name = "failed",
		.type = FIELD_BOOL,
		.text = "responses, in a stream: response.failed instead of an error event." },
	{ .type = FIELD_END },
};
static const struct field respond_fields[] = {
	{ .name = "status", .type = FIELD_INT, .min = 100, .max = 599, .text = "HTTP status." },
	{ .name = "type", .type = FIELD_STR, .text = "Content type." },
	{ .name = "headers", .type = FIELD_MAP, .item = &header_row, .text = "More headers." },
	{ .name = "body", .type = FIELD_STR, .text = "Body." },
	{ .type = FIELD_END },
};
static const struct field usage_fields[] = {
	{ .name = "input", .type = FIELD_INT, .text = "All input tokens." },
	{ .name = "output", .type = FIELD_INT, .text = "All output tokens." },
	{ .name = "cached", .type = FIELD_INT, .text = "Of the input: read from the cache." },
	{ .name = "written", .type = FIELD_INT, .text = "Of the input: written to the cache." },
	{ .name = "reasoning", .type = FIELD_INT, .text = "Of the output." },
	{ .type = FIELD_END },
};
static const char *const cut_names[] = { "close", "mid", "reset", "end", NULL };
static const struct field action_fields[] = {
	{ .name = "text", .type = FIELD_STR, .flags = FIELD_NUL, .text = "Text." },
	{ .name = "reasoning", .type = FIELD_STR, .text = "Reasoning." },
	{ .name = "refusal", .type = FIELD_STR, .text = "Text of a refusal." },
	{ .name = "json", .type = FIELD_ANY, .text = "Text: this value as JSON." },
	{ .name = "signature",
		.type = FIELD_STR,
		.text = "Beside reasoning, text or call: what must come back with it." },
	{ .name = "redacted", .type = FIELD_STR, .text = "Reasoning that only its maker reads." },
	{ .name = "block", .type = FIELD_STR, .text = "The prompt is refused: the reason." },
	{ .name = "call", .type = FIELD_OBJECT, .sub = call_fields, .text = "Tool call." },
	{ .name = "error",
		.type = FIELD_OBJECT,
		.sub = error_fields,
		.text = "Error of the vendor's form." },
	{ .name = "respond",
		.type = FIELD_OBJECT,
		.sub = respond_fields,
		.text = "Any HTTP answer." },
	{ .name = "delay",
		.type = FIELD_INT,
		.min = 0,
		.max = 600000,
		.text = "Pause; beside a text: between its pieces." },
	{ .name = "chunk",
		.type = FIELD_INT,
		.min = 1,
		.max = ANSWER_MAX,
		.text = "Bytes of text per event." },
	{ .name = "cut", .type = FIELD_ENUM, .choices = cut_names, .text = "Stop here." },
	{ .name = "raw", .type = FIELD_STR, .text = "Bytes of the event stream." },
	{ .name = "hex", .type = FIELD_STR, .text = "The same in hexadecimal." },
	{ .name = "ping", .type = FIELD_BOOL, .text = "Ping event or comment." },
	{ .name = "bad_utf8", .type = FIELD_BOOL, .text = "A text event with invalid UTF-8." },
	{ .name = "huge",
		.type = FIELD_INT,
		.min = 1,
		.max = ANSWER_MAX,
		.text = "A text event of that many bytes." },
	{ .name = "finish", .type = FIELD_STR, .text = "Finish reason." },
	{ .name = "usage",
		.type = FIELD_OBJECT,
		.sub = usage_fields,
		.text = "Token counts of this answer." },
	{ .type = FIELD_END },
};
static const char *const api_names[] = { "openai-chat", "anthropic", "openai-responses", "gemini",
	"embeddings", NULL };
static const struct field when_fields[] = {
	{ .name = "api", .type = FIELD_ENUM, .choices = api_names, .text = "The API asked." },
	{ .name = "path_has", .type = FIELD_STR, .text = "Text in the path." },
	{ .name = "model", .type = FIELD_STR, .text = "The model asked for." },
	{ .name = "user_has", .type = FIELD_STR, .text = "Text in the last text of a user." },
	{ .name = "result_has", .type = FIELD_STR, .text = "Text in the last tool result." },
	{ .name = "body_has", .type = FIELD_STR, .text = "Text in the body." },
	{ .name = "system_has", .type = FIELD_STR, .text = "Text in the system text." },
	{ .name = "has_media",
		.type = FIELD_BOOL,
		.text = "Whether a message holds an image, file or sound." },
	{ .name = "has_schema", .type = FIELD_BOOL, .text = "Whether JSON of a schema is asked." },
	{ .name = "has_tools", .type = FIELD_BOOL, .text = "Whether tools are offered." },
	{ .name = "has_reasoning", .type = FIELD_BOOL, .text = "Whether reasoning is asked for." },
	{ .name = "results", .type = FIELD_INT, .text = "Tool results in the request." },
	{ .name = "results_below", .type = FIELD_INT, .text = "Fewer tool results than this." },
	{ .name = "turn_results",
		.type = FIELD_INT,
		.text = "Tool results since the last text of a user." },
	{ .name = "turn_results_below", .type = FIELD_INT, .text = "Fewer of these." },
	{ .name = "seq", .type = FIELD_INT, .text = "Number of the request, from 0." },
	{ .type = FIELD_END },
};
static const struct field action_item = { .type = FIELD_OBJECT, .sub = action_fields };
static const char *const eol_names[] = { "lf", "crlf", "cr", NULL };
/* Keys that a rule and a step share. */
#define STEP_FIELDS                                                                                \
	{ .name = "answer",                                                                        \
		.type = FIELD_LIST,                                                                \
		.flags = FIELD_REQUIRED,                                                           \
		.item = &action_item,                                                              \
		.max = LIST_MAX,                                                                   \
		.text = "What to do, in order." },                                                 \
		{ .name = "eol",                                                                   \
			.type = FIELD_ENUM,                                                        \
			.choices = eol_names,                                                      \
			.text = "Line ends of the stream." },                                      \
		{ .name = "write",                                                                 \
			.type = FIELD_INT,                                                         \
			.min = 1,                                                                  \
			.max = ANSWER_MAX,                                                         \
			.text = "Bytes per write." },                                              \
		{ .name = "write_delay",                                                           \
			.type = FIELD_INT,                                                         \
			.min = 0,                                                                  \
			.max = 60000,                                                              \
			.text = "Milliseconds between writes." },                                  \
		{ .name = "first_delay",                                                           \
			.type = FIELD_INT,                                                         \
			.min = 0,                                                                  \
			.max = 600000,                                                             \
			.text = "Milliseconds before the head." },                                 \
		{ .name = "headers",                                                               \
			.type = FIELD_MAP,                                                         \
			.item = &header_row,                                                       \
			.text = "Headers of the stream." },                                        \
		{ .name = "done", .type = FIELD_BOOL, .text = "false: no end mark." },             \
	{                                                                                          \
		.name = "close", .type = FIELD_BOOL,                                               \
		.text = "Close the connection after the answer."                                   \
	}
static const struct field step_fields[] = { STEP_FIELDS, { .type = FIELD_END } };
static const struct field rule_fields[] = {
	{ .name = "when",
		.type = FIELD_OBJECT,
		.sub = when_fields,
		.text = "Conditions; all must hold." },
	{ .name = "times",
		.type = FIELD_INT,
		.min = 1,
		.max = INT32_MAX,
		.text = "How often the rule may fire." },
	STEP_FIELDS,
	{ .type = FIELD_END },
};
static const struct field rule_item = { .type = FIELD_OBJECT, .sub = rule_fields };
static const struct field step_item = { .type = FIELD_OBJECT, .sub = step_fields };
static const char *const by_names[] = { "sequence", "results", "turn_results", NULL };
static const struct field script_fields[] = {
	{ .name = "rules",
		.type = FIELD_LIST,
		.item = &rule_item,
		.max = LIST_MAX,
		.text = "First match answers." },
	{ .name = "steps",
		.type = FIELD_LIST,
		.item = &step_item,
		.max = LIST_MAX,
		.text = "Answers by number." },
	{ .name = "by",
		.type = FIELD_ENUM,
		.choices = by_names,
		.text = "What numbers the steps." },
	{ .name = "repeat", .type = FIELD_BOOL, .text = "After the last step: the last again." },
	{ .name = "usage",
		.type = FIELD_OBJECT,
		.sub = usage_fields,
		.text = "Token counts of every answer." },
	{ .name = "dims",
		.type = FIELD_INT,
		.min = 1,
		.max = DIMS_MAX,
		.text = "Numbers of an embedding whose request does not say how many." },
	{ .type = FIELD_END },
};

struct script {
	struct arena *a;
	const struct node *root, *rules, *steps;
	int64_t *fired;
};

int
script_load(const char *name, struct str text, struct script **out, struct err *e)
{
	struct script *s = xcalloc(1, sizeof(*s));
	int rc;

	s->a = arena_new(256u * MIB);
	rc = yaml_parse(s->a, name, text, &s->root, e);
	if (rc == 0)
		rc = field_check(script_fields, s->root, name, ERR_TO_USER, e);
	if (rc != 0) {
		script_free(s);
		return rc;
	}
	s->rules = node_get(s->root, "rules");
	s->steps = node_get(s->root, "steps");
	s->fired = xcalloc(node_len(s->rules) + 1, sizeof(*s->fired));
	*out = s;
	return 0;
}

void
script_free(struct script *s)
{
	if (!s)
		return;
	arena_free(s->a);
	free(s->fired);
	free(s);
}

const struct node *
script_usage(const struct script *s)
{
	return node_get(s->root, "usage");
}

int64_t
script_dims(const struct script *s)
{
	return node_int(s->root, "dims", 8);
}

/* ---- the choice ---- */

static const char *
api_name(enum api api)
{
	return api == API_NONE ? "" : api_names[MIN((size_t)api, ARRAY_LEN(api_names) - 1) - 1];
}

/* Embeddings are answered by vectors, unless a rule speaks of them. */
static bool
is_meant(const struct node *when, const struct request *r)
{
	return r->api < API_EMBED || node_get(when, "api");
}

static bool
holds(const struct node *when, const struct request *r)
{
	const struct {
		const char *key;
		struct str value;
	} texts[] = {
		{ "path_has", r->path },
		{ "user_has", r->user },
		{ "result_has", r->result },
		{ "body_has", r->body },
		{ "system_has", r->system },
		{ "api", str_of(api_name(r->api)) },
	};
	const struct {
		const char *key;
		bool value;
	} flags[] = {
		{ "has_media", r->has_media },
		{ "has_schema", r->has_schema },
		{ "has_tools", r->has_tools },
		{ "has_reasoning", r->has_reasoning },
	};
	const struct {
		const char *equal, *below;
		int64_t value;
	} numbers[] = {
		{ "results", "results_below", r->results },
		{ "turn_results", "turn_results_below", r->turn_results },
		{ "seq", "", (int64_t)r->seq },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		const struct node *n = node_get(when, texts[i].key);

		if (n && str_find(texts[i].value, n->s) < 0)
			return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (node_bool(when, flags[i].key, flags[i].value) != flags[i].value)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (node_int(when, numbers[i].equal, numbers[i].value) != numbers[i].value ||
			node_int(when, numbers[i].below, INT64_MAX) <= numbers[i].value)
			return false;
	return !node_get(when, "model") || str_eq(node_str(when, "model", STR("")), r->model);
}

const struct node *
script_choose(struct script *s, const struct request *r)
{
	struct str by = node_str(s->root, "by", STR("sequence"));
	uint64_t i = r->seq;

	for (size_t k = 0; k < node_len(s->rules); k++) {
		const struct node *rule = node_at(s->rules, k);

		if (s->fired[k] < node_int(rule, "times", INT64_MAX) &&
			is_meant(node_get(rule, "when"), r) && holds(node_get(rule, "when"), r)) {
			s->fired[k]++;
			return rule;
		}
	}
	if (r->api >= API_EMBED)
		return NULL;
	if (str_is(by, "results"))
		i = (uint64_t)r->results;
	else if (str_is(by, "turn_results"))
		i = (uint64_t)r->turn_results;
	if (i >= node_len(s->steps) && node_bool(s->root, "repeat", false) &&
		node_len(s->steps) > 0)
		i = node_len(s->steps) - 1;
	return i < node_len(s->steps) ? node_at(s->steps, i) : NULL;
}
