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
	{ .type = FIELD_END },
};
static const struct field header_row = { .type = FIELD_STR, .text = "Value." };
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
	{ .name = "text", .type = FIELD_STR, .text = "Text." },
	{ .name = "reasoning", .type = FIELD_STR, .text = "Reasoning." },
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
static const struct field when_fields[] = {
	{ .name = "path_has", .type = FIELD_STR, .text = "Text in the path." },
	{ .name = "model", .type = FIELD_STR, .text = "The model asked for." },
	{ .name = "user_has", .type = FIELD_STR, .text = "Text in the last text of a user." },
	{ .name = "result_has", .type = FIELD_STR, .text = "Text in the last tool result." },
	{ .name = "body_has", .type = FIELD_STR, .text = "Text in the body." },
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

/* ---- the request ---- */

static struct str
text_of(const struct node *content)
{
	if (node_is(content, NODE_STR))
		return content->s;
	for (size_t i = node_len(content); i-- > 0;) {
		const struct node *part = node_at(content, i);

		if (str_is(node_str(part, "type", STR("")), "text"))
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
read_message(struct request *r, const struct node *m)
{
	struct str role = node_str(m, "role", STR("")), text;
	const struct node *content = node_get(m, "content");

	if (str_is(role, "tool")) {
		add_result(r, text_of(content));
		return;
	}
	if (!str_is(role, "user"))
		return;
	for (size_t i = 0; node_is(content, NODE_LIST) && i < node_len(content); i++) {
		const struct node *part = node_at(content, i);

		if (str_is(node_str(part, "type", STR("")), "tool_result"))
			add_result(r, text_of(node_get(part, "content")));
	}
	text = text_of(content);
	if (text.n > 0) {
		r->user = text;
		r->turn_results = 0;
	}
}

void
request_read(struct request *r, struct arena *a)
{
	const struct node *messages;

	if (json_parse(a, r->body, &r->json, NULL) != 0)
		return;
	r->model = node_str(r->json, "model", STR("scripted"));
	messages = node_get(r->json, "messages");
	for (size_t i = 0; i < node_len(messages); i++)
		read_message(r, node_at(messages, i));
}

/* ---- the choice ---- */

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
			holds(node_get(rule, "when"), r)) {
			s->fired[k]++;
			return rule;
		}
	}
	if (str_is(by, "results"))
		i = (uint64_t)r->results;
	else if (str_is(by, "turn_results"))
		i = (uint64_t)r->turn_results;
	if (i >= node_len(s->steps) && node_bool(s->root, "repeat", false) &&
		node_len(s->steps) > 0)
		i = node_len(s->steps) - 1;
	return i < node_len(s->steps) ? node_at(s->steps, i) : NULL;
}
