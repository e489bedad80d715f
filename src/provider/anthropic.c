/* SPDX-License-Identifier: MIT
 * The Anthropic Messages API, streamed. The request alternates roles, puts tool results first,
 * gives signed thinking back unchanged and marks the ends of system, tools and conversation for the
 * prompt cache; the answer is blocks by index, and token counts that later events override. Events
 * and blocks of unknown kinds are ignored, as the API asks. */
#include "provider/internal.h"

#include "base/limits.h"

/* The API wants a maximum; this is what every model of it can do. */
#define DEFAULT_MAX_TOKENS 4096
#define MIN_BUDGET         1024 /* of thinking; also what is left for the answer */

static const struct stop_name stops[] = {
	{ "end_turn", STOP_END },
	{ "stop_sequence", STOP_END },
	{ "tool_use", STOP_TOOLS },
	{ "max_tokens", STOP_LENGTH },
	{ "model_context_window_exceeded", STOP_LENGTH },
	{ "refusal", STOP_REFUSED },
};

/* ---- request ---- */

static void
write_cache_mark(struct json *j)
{
	json_kv_obj(j, "cache_control");
	json_kv_z(j, "type", "ephemeral");
	json_obj_end(j);
}

/* Ids must match [a-zA-Z0-9_-]+ here; a conversation begun with another API may have others. */
static struct str
clean_id(struct str id, struct arena *a)
{
	char *z = arena_strdup(a, id);

	for (size_t i = 0; i < id.n; i++) {
		char c = z[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    c == '-'))
			z[i] = '_';
	}
	return (struct str){ z, id.n };
}

/* Blocks without content, and thinking that this server did not sign, are refused by it. */
static bool
is_sendable(const struct model_request *r, const struct part *p)
{
	switch (p->type) {
	case PART_TEXT:
		return str_trim(p->text).n > 0;
	case PART_REASONING:
	case PART_REASONING_REDACTED:
		return p->signature.n > 0 && part_is_own(r, p);
	case PART_CALL:
	case PART_RESULT:
	case PART_MEDIA:
		return true;
	}
	return false;
}

static void
write_source(struct json *j, const struct part *p, bool is_text)
{
	json_kv_obj(j, "source");
	json_kv_z(j, "type", is_text ? "text" : "base64");
	json_kv_str(j, "media_type", is_text ? STR("text/plain") : media_mime(p));
	json_key(j, "data");
	if (is_text)
		json_str(j, p->data);
	else
		write_base64(j, p->data);
	json_obj_end(j);
}

/* The members of a block; there is none for sound. */
static void
write_media(struct json *j, const struct part *p, struct arena *a)
{
	bool is_text = media_is(p, MEDIA_TEXT) && p->data.n > 0;

	if (media_is(p, MEDIA_IMAGE)) {
		json_kv_z(j, "type", "image");
		write_source(j, p, false);
	} else if (media_is(p, MEDIA_PDF) || is_text) {
		json_kv_z(j, "type", "document");
		write_source(j, p, is_text);
		json_kv_str(j, "title", media_name(p));
	} else {
		json_kv_z(j, "type", "text");
		json_kv_str(j, "text", media_text(p, a));
	}
}

static void
write_part(struct json *j, const struct part *p, bool is_last, struct arena *a)
{
	json_obj(j);
	switch (p->type) {
	case PART_TEXT:
		json_kv_z(j, "type", "text");
		json_kv_str(j, "text", p->text);
		break;
	case PART_REASONING:
		json_kv_z(j, "type", "thinking");
		json_kv_str(j, "thinking", p->text);
		json_kv_str(j, "signature", p->signature);
		break;
	case PART_REASONING_REDACTED:
		json_kv_z(j, "type", "redacted_thinking");
		json_kv_str(j, "data", p->signature);
		break;
	case PART_CALL:
		json_kv_z(j, "type", "tool_use");
		json_kv_str(j, "id", clean_id(p->call_id, a));
		json_kv_str(j, "name", p->tool);
		json_kv_raw(j, "input", call_args(p->args, a));
		break;
	case PART_RESULT:
		json_kv_z(j, "type", "tool_result");
		json_kv_str(j, "tool_use_id", clean_id(p->call_id, a));
		json_kv_str(j, "content", result_text(p, a));
		if (p->is_error)
			json_kv_bool(j, "is_error", true);
		break;
	case PART_MEDIA:
		write_media(j, p, a);
		break;
	}
	if (is_last && p->type != PART_REASONING && p->type != PART_REASONING_REDACTED)
		write_cache_mark(j);
	json_obj_end(j);
}

/* One message out of messages [from, to) of one role: results first, then the rest in order. */
static void
write_message(struct json *j, const struct model_request *r, size_t from, size_t to, bool is_last,
	struct arena *a)
{
	size_t left = 0;

	for (size_t m = from; m < to; m++)
		for (size_t i = 0; i < r->messages[m].n; i++)
			left += is_sendable(r, &r->messages[m].parts[i]);
	if (left == 0)
		return;
	json_obj(j);
	json_kv_z(j, "role", r->messages[from].role == MSG_USER ? "user" : "assistant");
	json_kv_arr(j, "content");
	for (int pass = 0; pass < 2; pass++) {
		for (size_t m = from; m < to; m++) {
			for (size_t i = 0; i < r->messages[m].n; i++) {
				const struct part *p = &r->messages[m].parts[i];

				if (is_sendable(r, p) && (p->type == PART_RESULT) == (pass == 0))
					write_part(j, p, is_last && --left == 0, a);
			}
		}
	}
	json_arr_end(j);
	json_obj_end(j);
}

static void
write_tools(struct json *j, const struct model_request *r)
{
	if (r->tools_n == 0)
		return;
	json_kv_arr(j, "tools");
	for (size_t i = 0; i < r->tools_n; i++) {
		json_obj(j);
		json_kv_z(j, "name", r->tools[i].name);
		json_kv_z(j, "description", r->tools[i].text);
		json_kv_raw(j, "input_schema", r->tools[i].schema);
		if (i + 1 == r->tools_n)
			write_cache_mark(j);
		json_obj_end(j);
	}
	json_arr_end(j);
}

static void
write_system_block(struct json *j, struct str text, bool is_last)
{
	json_obj(j);
	json_kv_z(j, "type", "text");
	json_kv_str(j, "text", text);
	if (is_last)
		write_cache_mark(j);
	json_obj_end(j);
}

static void
write_system(struct json *j, struct str system, struct str words)
{
	bool has_system = str_trim(system).n > 0;

	if (!has_system && words.n == 0)
		return;
	json_kv_arr(j, "system");
	if (has_system)
		write_system_block(j, system, words.n == 0);
	if (words.n > 0)
		write_system_block(j, words, true);
	json_arr_end(j);
}

/* ---- thinking and form of the answer ---- */

/* Since 4.6 these models decide themselves how long they think, and take an effort instead of a
 * budget. A date in the name is no version. */
static bool
is_adaptive(struct str model)
{
	ptrdiff_t at = str_find(model, STR("claude-"));
	int64_t version[2] = { 0, 0 };
	size_t found = 0, from = 0;

	if (at < 0)
		return false;
	model = str_sub(model, (size_t)at, model.n);
	for (size_t i = 0; i <= model.n && found < 2; i++) {
		int64_t number;
		struct str segment;

		if (i < model.n && model.p[i] != '-' && model.p[i] != '.')
			continue;
		segment = str_sub(model, from, i - from);
		from = i + 1;
		if (segment.n > 0 && segment.n <= 2 && str_i64(segment, &number) == 0)
			version[found++] = number;
		else if (found > 0)
			break;
	}
	return version[0] > 4 || (version[0] == 4 && version[1] >= 6);
}

/* With a budget, an answer that goes on after tools must begin with a thinking block of this
 * server: a turn that another model began, or that began without thinking, goes on without it. */
static bool
may_think(const struct model_request *r)
{
	size_t end = r->messages_n;

	while (end > 0 && r->messages[end - 1].role == MSG_USER)
		end--;
	if (end == 0)
		return true;
	for (size_t i = 0; i < r->messages[end - 1].n; i++) {
		const struct part *p = &r->messages[end - 1].parts[i];

		if (!is_sendable(r, p))
			continue;
		if (p->type == PART_REASONING || p->type == PART_REASONING_REDACTED)
			return true;
		if (p->type == PART_CALL)
			return false;
	}
	return true;
}

/* A budget is part of the output, which must be larger; 0: too little room to think at all. */
static int64_t
budget(const struct model_request *r, int64_t max_tokens)
{
	static const int64_t budgets[] = {
		[EFFORT_LOW] = 4096, [EFFORT_MEDIUM] = 12288, [EFFORT_HIGH] = 32000
	};
	int64_t tokens = MIN(budgets[r->effort], max_tokens - MIN_BUDGET);

	return tokens >= MIN_BUDGET && may_think(r) ? tokens : 0;
}

static void
write_thinking(struct json *j, const struct model_request *r, int64_t max_tokens)
{
	int64_t tokens = 0;
	bool is_off = r->effort == EFFORT_OFF, by_itself = is_adaptive(r->model);

	if (!r->has_reasoning || r->effort == EFFORT_AUTO)
		return;
	if (!is_off && !by_itself)
		tokens = budget(r, max_tokens);
	json_kv_obj(j, "thinking");
	if (!is_off && by_itself) {
		json_kv_z(j, "type", "adaptive");
	} else if (tokens > 0) {
		json_kv_z(j, "type", "enabled");
		json_kv_int(j, "budget_tokens", tokens);
	} else {
		json_kv_z(j, "type", "disabled");
	}
	json_obj_end(j);
}

/* A schema is a field of the API, not a tool that must be called: with a forced tool the model can
 * neither think nor use other tools first. Where the field cannot be had, *words ask for it. */
static void
write_output_config(
	struct json *j, const struct model_request *r, struct str *words, struct arena *a)
{
	static const char *const efforts[] = {
		[EFFORT_LOW] = "low", [EFFORT_MEDIUM] = "medium", [EFFORT_HIGH] = "high"
	};
	bool has_effort = r->has_reasoning && r->effort >= EFFORT_LOW && is_adaptive(r->model);
	struct str closed = STR("");

	if (r->schema.n > 0 && !(r->is_own_server && schema_close(r->schema, a, &closed)))
		*words = schema_words(r->schema, a);
	if (!has_effort && closed.n == 0)
		return;
	json_kv_obj(j, "output_config");
	if (has_effort)
		json_kv_z(j, "effort", efforts[r->effort]);
	if (closed.n > 0) {
		json_kv_obj(j, "format");
		json_kv_z(j, "type", "json_schema");
		json_kv_raw(j, "schema", closed);
		json_obj_end(j);
	}
	json_obj_end(j);
}

static int
build(const struct model_request *r, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = build_begin(&r, out, &j, a, e);
	struct str words = STR("");
	int64_t max_tokens = r->max_output_tokens > 0 ? r->max_output_tokens : DEFAULT_MAX_TOKENS;
	size_t to;

	if (rc != 0)
		return rc;
	out->path = STR("/messages");
	out->headers = STR(STREAM_HEADERS "anthropic-version: 2023-06-01\n");
	json_kv_str(&j, "model", r->model);
	json_kv_bool(&j, "stream", true);
	json_kv_int(&j, "max_tokens", max_tokens);
	write_thinking(&j, r, max_tokens);
	write_output_config(&j, r, &words, a);
	write_tools(&j, r);
	write_system(&j, r->system, words);
	json_kv_arr(&j, "messages");
	for (size_t from = 0; from < r->messages_n; from = to) {
		to = messages_run(r, from);
		write_message(&j, r, from, to, to == r->messages_n, a);
	}
	json_arr_end(&j);
	return build_end(out, &j, e);
}

/* ---- answer ---- */

static void
on_usage(struct parser *p, const struct node *usage)
{
	struct model_usage *u = &p->answer.usage;
	int64_t fresh = u->input_tokens - u->cached_tokens - u->cache_write_tokens;

	/* The API counts uncached input alone; here input is all of it. */
	fresh = usage_count(usage, "input_tokens", fresh);
	u->cached_tokens = usage_count(usage, "cache_read_input_tokens", u->cached_tokens);
	u->cache_write_tokens =
		usage_count(usage, "cache_creation_input_tokens", u->cache_write_tokens);
	u->input_tokens = fresh + u->cached_tokens + u->cache_write_tokens;
	u->output_tokens = usage_count(usage, "output_tokens", u->output_tokens);
}

static int
on_message_start(struct parser *p, const struct node *ev, struct err *e)
{
	on_usage(p, node_find(ev, "message.usage"));
	return 0;
}

/* tool_use and its name arrive at the start; the input is {} here and follows in pieces, but
 * servers that imitate the API may send it whole at once. */
static int
start_call(struct parser *p, struct slot *s, const struct node *block, struct err *e)
{
	const struct node *input = node_get(block, "input");
	int rc = slot_add_id(p, s, node_str(block, "id", STR("")), e);

	if (rc == 0)
		rc = slot_set_name(p, s, node_str(block, "name", STR("")), e);
	if (rc != 0 || node_len(input) == 0)
		return rc;
	s->is_preset = true;
	return slot_add_node(p, s, input, e);
}

static int
on_block_start(struct parser *p, const struct node *ev, struct err *e)
{
	static const struct {
		const char *name;
		enum part_type type;
		const char *body, *id;
	} kinds[] = {
		{ "text", PART_TEXT, "text", NULL },
		{ "thinking", PART_REASONING, "thinking", "signature" },
		{ "redacted_thinking", PART_REASONING_REDACTED, NULL, "data" },
		{ "tool_use", PART_CALL, NULL, NULL },
	};
	const struct node *block = node_get(ev, "content_block");
	struct str type = node_str(block, "type", STR(""));
	struct slot *s;
	size_t k = 0;
	int rc = 0;

	while (k < ARRAY_LEN(kinds) && !str_is(type, kinds[k].name))
		k++;
	s = slot_new(
		p, k < ARRAY_LEN(kinds) ? kinds[k].type : PART_TEXT, node_int(ev, "index", -1), e);
	if (!s)
		return ERR_LIMIT;
	if (k == ARRAY_LEN(kinds)) {
		s->is_ignored = true;
		return 0;
	}
	if (s->type == PART_CALL)
		return start_call(p, s, block, e);
	if (kinds[k].body)
		rc = slot_add(p, s, node_str(block, kinds[k].body, STR("")), e);
	if (rc == 0 && kinds[k].id)
		rc = slot_add_signature(p, s, node_str(block, kinds[k].id, STR("")), e);
	return rc;
}

static int
on_block_delta(struct parser *p, const struct node *ev, struct err *e)
{
	static const struct {
		const char *name, *key;
		enum part_type type;
	} kinds[] = {
		{ "text_delta", "text", PART_TEXT },
		{ "thinking_delta", "thinking", PART_REASONING },
		{ "signature_delta", "signature", PART_REASONING },
		{ "input_json_delta", "partial_json", PART_CALL },
	};
	const struct node *delta = node_get(ev, "delta");
	struct str type = node_str(delta, "type", STR("")), text;
	struct slot *s = slot_find(p, node_int(ev, "index", -1));
	size_t k = 0;

	if (!s)
		return parser_malformed(p, e, "a delta for block %lld, which has not begun",
			(long long)node_int(ev, "index", -1));
	while (k < ARRAY_LEN(kinds) && !str_is(type, kinds[k].name))
		k++;
	if (s->is_ignored || k == ARRAY_LEN(kinds))
		return 0;
	if (s->type != kinds[k].type)
		return parser_malformed(p, e, "%s for a block of another type", kinds[k].name);
	text = node_str(delta, kinds[k].key, STR(""));
	if (k == 2)
		return slot_add_signature(p, s, text, e);
	if (s->is_preset && text.n > 0) {
		buf_reset(&s->body);
		s->is_preset = false;
	}
	return slot_add(p, s, text, e);
}

static int
on_message_delta(struct parser *p, const struct node *ev, struct err *e)
{
	struct str reason = node_str(node_get(ev, "delta"), "stop_reason", STR(""));

	if (reason.n > 0)
		parser_set_stop(p, stop_find(stops, ARRAY_LEN(stops), reason));
	on_usage(p, node_get(ev, "usage"));
	return 0;
}

static int
on_message_stop(struct parser *p, const struct node *ev, struct err *e)
{
	p->is_done = true;
	return 0;
}

static int
event(struct parser *p, struct str event, struct str data, struct err *e)
{
	static const struct {
		const char *type;
		int (*fn)(struct parser *p, const struct node *ev, struct err *e);
	} events[] = {
		{ "content_block_delta", on_block_delta },
		{ "content_block_start", on_block_start },
		{ "message_start", on_message_start },
		{ "message_delta", on_message_delta },
		{ "message_stop", on_message_stop },
	};
	const struct node *ev;
	struct str type;

	if (parser_json(p, data, &ev, e) != 0)
		return e->code;
	type = node_str(ev, "type", event);
	if (str_is(type, "error"))
		return stream_error(p, data, e);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (str_is(type, events[i].type))
			return events[i].fn(p, ev, e);
	return 0;
}

const struct provider_api provider_anthropic = {
	.name = "anthropic",
	.no_input = INPUT_AUDIO,
	.base_url = "https://api.anthropic.com/v1",
	.version = "/v1",
	.is_hosted = true,
	.key_header = "x-api-key: ",
	.build = build,
	.event = event,
	.error = error_object,
};
