/* SPDX-License-Identifier: MIT
 * Tools for a model that has no calls of its own: they are described in the system text, and the
 * conversation's calls and results become text. TOOLS_SCHEMA also gives the server the schema of
 * what the model may answer: text, or calls of the tools that exist. The same request gives the
 * same text, so prefixes stay stable. What comes back is read by text_calls.c. */
#include "provider/internal.h"

#include "base/limits.h"

/* ---- description ---- */

static const char how_text[] =
	"To call a tool, write a block like this one, and nothing after it; the result comes in "
	"the "
	"next message:\n"
	"<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"KEY\": VALUE}}\n</tool_call>\n"
	"Several blocks may follow each other. To answer without a tool, write no block.\n";
static const char how_schema[] =
	"Every answer is one JSON object. To call tools: {\"tool_calls\": [{\"name\": \"NAME\", "
	"\"arguments\": {\"KEY\": VALUE}}]}; the results come in the next message. To answer: "
	"{\"answer\": ...}, with text for the user%s.\n";

static bool
is_required(const struct node *schema, struct str key)
{
	const struct node *list = node_get(schema, "required");

	for (size_t i = 0; i < node_len(list); i++)
		if (node_is(node_at(list, i), NODE_STR) && str_eq(node_at(list, i)->s, key))
			return true;
	return false;
}

/* "string", "list of integer", "one of a, b"; a shape that has no short name is shown as it is. */
static void
add_type(struct buf *b, const struct node *n)
{
	struct str type = node_str(n, "type", STR(""));
	const struct node *choices = node_get(n, "enum"), *item = node_get(n, "items");
	struct json j;

	if (node_len(choices) > 0) {
		buf_add_z(b, "one of ");
		for (size_t i = 0; i < node_len(choices); i++) {
			buf_add_z(b, i ? ", " : "");
			json_init(&j, b);
			json_node(&j, node_at(choices, i));
		}
	} else if (str_is(type, "array") && node_str(item, "type", STR("")).n > 0 &&
		   !node_get(item, "properties")) {
		buf_add_z(b, "list of ");
		add_type(b, item);
	} else if (type.n > 0 && !str_is(type, "array") && !node_get(n, "properties")) {
		buf_add_str(b, type);
	} else {
		json_init(&j, b);
		json_node(&j, n);
	}
}

static void
add_tool(struct buf *b, const struct tool_schema *t)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *schema = NULL, *members;

	buf_printf(b, "\n## %s\n%s\n", t->name, t->text);
	if (json_parse(scratch, t->schema, &schema, NULL) != 0)
		schema = NULL;
	members = node_get(schema, "properties");
	for (size_t i = 0; i < node_len(members); i++) {
		const struct node_pair *p = &members->map.pairs[i];

		buf_printf(b, "- %.*s (", STR_FMT(p->key));
		add_type(b, &p->value);
		buf_add_z(b, is_required(schema, p->key) ? ", required)" : ")");
		if (node_str(&p->value, "description", STR("")).n > 0)
			buf_printf(
				b, ": %.*s", STR_FMT(node_str(&p->value, "description", STR(""))));
		buf_add_char(b, '\n');
	}
	arena_free(scratch);
}

static struct str
describe(const struct model_request *r, struct arena *a)
{
	struct buf b;

	buf_init(&b, REQUEST_BODY_MAX);
	buf_add_str(&b, r->system);
	buf_add_z(&b, r->system.n > 0 ? "\n\n# Tools\n" : "# Tools\n");
	if (r->tool_mode == TOOLS_SCHEMA)
		buf_printf(
			&b, how_schema, r->schema.n > 0 ? ", or the value that was asked for" : "");
	else
		buf_add_z(&b, how_text);
	for (size_t i = 0; i < r->tools_n; i++)
		add_tool(&b, &r->tools[i]);
	return arena_take(a, &b);
}

/* ---- schema of an answer ---- */

static void
write_object(struct json *j, const char *key, struct str value)
{
	json_obj(j);
	json_kv_z(j, "type", "object");
	json_kv_obj(j, "properties");
	json_kv_raw(j, key, value);
	json_obj_end(j);
	json_kv_arr(j, "required");
	json_z(j, key);
	json_arr_end(j);
	json_kv_bool(j, "additionalProperties", false);
	json_obj_end(j);
}

static void
write_call_schema(struct json *j, const struct tool_schema *t)
{
	json_obj(j);
	json_kv_z(j, "type", "object");
	json_kv_obj(j, "properties");
	json_kv_obj(j, "name");
	json_kv_z(j, "const", t->name);
	json_obj_end(j);
	json_kv_raw(j, "arguments", t->schema);
	json_obj_end(j);
	json_kv_arr(j, "required");
	json_z(j, "name");
	json_z(j, "arguments");
	json_arr_end(j);
	json_kv_bool(j, "additionalProperties", false);
	json_obj_end(j);
}

static struct str
calls_schema(const struct model_request *r, struct arena *a)
{
	struct buf b;
	struct json j;

	buf_init(&b, REQUEST_BODY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "type", "array");
	json_kv_int(&j, "minItems", 1);
	json_kv_obj(&j, "items");
	json_kv_arr(&j, "oneOf");
	for (size_t i = 0; i < r->tools_n; i++)
		write_call_schema(&j, &r->tools[i]);
	json_arr_end(&j);
	json_obj_end(&j);
	json_obj_end(&j);
	return arena_take(a, &b);
}

struct str
text_call_schema(const struct model_request *r, struct arena *a)
{
	struct buf b;
	struct json j;

	buf_init(&b, REQUEST_BODY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_arr(&j, "oneOf");
	write_object(&j, "answer", r->schema.n > 0 ? r->schema : STR("{\"type\":\"string\"}"));
	write_object(&j, "tool_calls", calls_schema(r, a));
	json_arr_end(&j);
	json_obj_end(&j);
	return arena_take(a, &b);
}

/* ---- conversation ---- */

static void
write_call(struct json *j, const struct part *p, struct arena *a)
{
	json_obj(j);
	json_kv_str(j, "name", p->tool);
	json_kv_raw(j, "arguments", call_args(p->args, a));
	json_obj_end(j);
}

static size_t
add_call_list(struct json *j, const struct message *m, struct arena *a)
{
	size_t n = 0;

	json_obj(j);
	json_kv_arr(j, "tool_calls");
	for (size_t i = 0; i < m->n; i++) {
		if (m->parts[i].type != PART_CALL)
			continue;
		write_call(j, &m->parts[i], a);
		n++;
	}
	json_arr_end(j);
	json_obj_end(j);
	return n;
}

/* The text parts, one below the other, and, unless they are listed, the calls among them. */
static void
add_words(struct buf *b, const struct message *m, bool with_calls, struct arena *a)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct part *p = &m->parts[i];
		bool is_call = p->type == PART_CALL && with_calls;
		struct json j;

		if (!is_call && (p->type != PART_TEXT || str_trim(p->text).n == 0))
			continue;
		buf_add_z(b, b->n > 0 ? "\n" : "");
		if (!is_call) {
			buf_add_str(b, p->text);
			continue;
		}
		buf_add_z(b, "<tool_call>\n");
		json_init(&j, b);
		write_call(&j, p, a);
		buf_add_z(b, "\n</tool_call>");
	}
}

/* What the model should have written, so that it goes on writing it. With a schema an answer is
 * calls or text; text beside calls is of a model that was not held to it, and is left out. */
static void
add_answer(struct buf *b, const struct message *m, bool is_schema, struct arena *a)
{
	struct str words;
	struct json j;

	json_init(&j, b);
	if (!is_schema) {
		add_words(b, m, true, a);
		return;
	}
	if (add_call_list(&j, m, a) > 0)
		return;
	buf_reset(b);
	add_words(b, m, false, a);
	if (b->n == 0)
		return;
	words = arena_str(a, buf_str(b));
	buf_reset(b);
	json_init(&j, b);
	json_obj(&j);
	json_kv_str(&j, "answer", words);
	json_obj_end(&j);
}

static void
add_result(struct buf *b, const struct model_request *r, const struct part *p, struct arena *a)
{
	buf_printf(b, "<tool_response name=\"%.*s\">\n", STR_FMT(result_tool(r, p)));
	buf_add_str(b, result_text(p, a));
	buf_add_z(b, "\n</tool_response>");
}

static struct part
text_part(struct buf *b, struct arena *a)
{
	struct part p = { .type = PART_TEXT, .text = arena_str(a, buf_str(b)) };

	buf_reset(b);
	return p;
}

static struct message
plain_message(
	const struct model_request *r, const struct message *m, struct buf *b, struct arena *a)
{
	struct part *parts = arena_alloc(a, (m->n + 1) * sizeof(*parts));
	struct message out = { .role = m->role, .parts = parts };

	if (m->role == MSG_ASSISTANT) {
		add_answer(b, m, r->tool_mode == TOOLS_SCHEMA, a);
		if (b->n > 0)
			parts[out.n++] = text_part(b, a);
		return out;
	}
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < m->n; i++) {
			if ((m->parts[i].type == PART_RESULT) != (pass == 0))
				continue;
			if (pass == 0)
				add_result(b, r, &m->parts[i], a);
			parts[out.n++] = pass == 0 ? text_part(b, a) : m->parts[i];
		}
	}
	return out;
}

const struct model_request *
request_prepare(const struct model_request *r, struct arena *a)
{
	struct model_request *plain;
	struct message *messages;
	struct buf b;

	if (r->tool_mode == TOOLS_NATIVE || r->tools_n == 0)
		return r;
	plain = arena_alloc(a, sizeof(*plain));
	messages = arena_alloc(a, r->messages_n * sizeof(*messages));
	buf_init(&b, REQUEST_BODY_MAX);
	for (size_t m = 0; m < r->messages_n; m++)
		messages[m] = plain_message(r, &r->messages[m], &b, a);
	buf_fini(&b);
	*plain = *r;
	plain->system = describe(r, a);
	plain->schema = r->tool_mode == TOOLS_SCHEMA ? text_call_schema(r, a) : r->schema;
	plain->messages = messages;
	plain->tools = NULL;
	plain->tools_n = 0;
	return plain;
}
