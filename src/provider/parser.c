/* SPDX-License-Identifier: MIT
 * The answer of a model while it streams: bytes to events to parts. What the events mean is in one
 * file per API; the limits, the live deltas, the end mark and the last tidying are here, the same
 * for all. The result does not depend on where the bytes were cut. */
#include "provider/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/id.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

static const char *const stop_names[] = {
	[STOP_END] = "end",
	[STOP_TOOLS] = "tools",
	[STOP_LENGTH] = "length",
	[STOP_REFUSED] = "refused",
	[STOP_OTHER] = "other",
};

const struct provider_api *const provider_apis[] = {
	&provider_openai_chat,
	&provider_openai_responses,
	&provider_anthropic,
	&provider_gemini,
	&provider_ollama,
	&provider_offline,
	NULL,
};

const struct provider_api *
provider_api_find(struct str name)
{
	for (size_t i = 0; provider_apis[i]; i++)
		if (str_is(name, provider_apis[i]->name))
			return provider_apis[i];
	return NULL;
}

const char *
model_stop_name(enum model_stop s)
{
	return (size_t)s < ARRAY_LEN(stop_names) ? stop_names[s] : "other";
}

enum model_stop
stop_find(const struct stop_name *table, size_t n, struct str name)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(name, table[i].name))
			return table[i].stop;
	return STOP_OTHER;
}

/* ---- life ---- */

static int
on_event(void *arg, const struct sse_event *ev)
{
	struct parser *p = arg;

	p->events++;
	if (p->is_done || str_trim(ev->data).n == 0)
		return 0; /* nothing after the end mark counts; empty data is some servers'
			     keep-alive */
	arena_reset(p->scratch);
	return p->api->event(p, ev->event, ev->data, p->e);
}

struct parser *
parser_new(const struct provider_api *api, delta_fn fn, void *arg)
{
	struct parser *p = xcalloc(1, sizeof(*p));

	p->api = api;
	p->fn = fn;
	p->arg = arg;
	p->sse = sse_new(on_event, p);
	p->scratch = arena_new(MODEL_EVENT_TREE_MAX);
	p->answer.stop = STOP_OTHER;
	return p;
}

void
parser_free(struct parser *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		buf_fini(&p->slots[i].body);
		buf_fini(&p->slots[i].id);
		buf_fini(&p->slots[i].name);
		buf_fini(&p->slots[i].signature);
		buf_fini(&p->slots[i].item_id);
	}
	free(p->slots);
	free(p->parts);
	arena_free(p->scratch);
	sse_free(p->sse);
	free(p);
}

static void
keep_head(struct parser *p, struct str bytes)
{
	size_t n = MIN(bytes.n, sizeof(p->head) - p->head_n);

	if (n == 0)
		return;
	memcpy(p->head + p->head_n, bytes.p, n);
	p->head_n += n;
}

int
parser_feed(struct parser *p, struct str bytes, struct err *e)
{
	struct err local = { 0 };

	if (p->failed)
		return err_set(e, p->failed, ERR_TO_LOG, "the stream failed before");
	keep_head(p, bytes);
	p->e = e ? e : &local;
	p->failed = sse_feed(p->sse, bytes, p->e);
	p->e = NULL;
	return p->failed;
}

const struct model_usage *
parser_usage(const struct parser *p)
{
	return &p->answer.usage;
}

size_t
parser_bytes(const struct parser *p)
{
	return p->all_bytes;
}

/* ---- what the event functions use ---- */

int
parser_malformed(struct parser *p, struct err *e, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(e, ERR_PROTO, ERR_TO_USER, "event %" PRIu64 " of the %s stream: %s",
		p->events, p->api->name, what);
}

int
parser_json(struct parser *p, struct str data, const struct node **out, struct err *e)
{
	struct err why = { 0 };
	const struct node *n;

	if (json_parse(p->scratch, data, &n, &why) != 0) {
		if (why.code == ERR_LIMIT)
			return err_copy(e, &why);
		if (!utf8_valid(data))
			return parser_malformed(p, e, "invalid UTF-8");
		return parser_malformed(p, e, "%s", why.msg);
	}
	if (n->type != NODE_MAP)
		return parser_malformed(
			p, e, "expected an object, found %s", node_type_name(n->type));
	*out = n;
	return 0;
}

int
stream_error(struct parser *p, struct str data, struct err *e)
{
	struct str type, message;

	error_object(data, &type, &message, p->scratch);
	return err_set(e, ERR_PROVIDER, ERR_TO_USER, "%.*s: %.*s", STR_FMT(type), STR_FMT(message));
}

struct slot *
slot_new(struct parser *p, enum part_type type, int64_t key, struct err *e)
{
	struct slot *s;

	if (p->n >= MODEL_PARTS_MAX || (type == PART_CALL && p->calls >= MODEL_CALLS_MAX)) {
		err_set(e, ERR_LIMIT, ERR_TO_USER, "the model's answer has more than %u %s",
			type == PART_CALL ? MODEL_CALLS_MAX : MODEL_PARTS_MAX,
			type == PART_CALL ? "tool calls" : "parts");
		return NULL;
	}
	p->calls += type == PART_CALL;
	p->slots = vec_grow(p->slots, &p->cap, p->n + 1, sizeof(*p->slots));
	s = &p->slots[p->n++];
	*s = (struct slot){ .type = type, .key = key };
	buf_init(&s->body, MODEL_ANSWER_MAX);
	buf_init(&s->id, MODEL_ANSWER_MAX);
	buf_init(&s->name, MODEL_NAME_MAX);
	buf_init(&s->signature, MODEL_ANSWER_MAX);
	buf_init(&s->item_id, MODEL_ANSWER_MAX);
	return s;
}

struct slot *
slot_find(struct parser *p, int64_t key)
{
	for (size_t i = p->n; i-- > 0;)
		if (p->slots[i].key == key)
			return &p->slots[i];
	return NULL;
}

struct slot *
slot_last(struct parser *p)
{
	return p->n ? &p->slots[p->n - 1] : NULL;
}

static int
count(struct parser *p, const struct slot *s, size_t n, struct err *e)
{
	bool is_call = s->type == PART_CALL;

	if (is_call && s->body.n + n > MODEL_ARGS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the arguments of one tool call are larger than %u bytes", MODEL_ARGS_MAX);
	if (!is_call && p->text_bytes + n > MODEL_TEXT_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the text of the model's answer is larger than %u bytes", MODEL_TEXT_MAX);
	if (p->all_bytes + n > MODEL_ANSWER_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the model's answer is larger than %u bytes", MODEL_ANSWER_MAX);
	p->all_bytes += n;
	p->text_bytes += is_call ? 0 : n;
	return 0;
}

int
slot_add(struct parser *p, struct slot *s, struct str text, struct err *e)
{
	int rc;

	if (s->is_ignored || text.n == 0)
		return 0;
	rc = count(p, s, text.n, e);
	if (rc != 0)
		return rc;
	buf_add_str(&s->body, text);
	if (p->fn && s->type != PART_CALL)
		p->fn(p->arg, s->type == PART_TEXT ? DELTA_TEXT : DELTA_REASONING, text);
	return 0;
}

/* What is neither text nor arguments counts as well. */
static int
add_opaque(struct parser *p, const struct slot *s, struct buf *b, struct str text, struct err *e)
{
	if (s->is_ignored || text.n == 0)
		return 0;
	if (p->all_bytes + text.n > MODEL_ANSWER_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the model's answer is larger than %u bytes", MODEL_ANSWER_MAX);
	p->all_bytes += text.n;
	return buf_add_str(b, text);
}

int
slot_add_id(struct parser *p, struct slot *s, struct str id, struct err *e)
{
	return add_opaque(p, s, &s->id, id, e);
}

int
slot_add_signature(struct parser *p, struct slot *s, struct str text, struct err *e)
{
	return add_opaque(p, s, &s->signature, text, e);
}

/* The last one that is told counts. */
int
slot_set_signature(struct parser *p, struct slot *s, struct str text, struct err *e)
{
	if (text.n > 0)
		buf_reset(&s->signature);
	return add_opaque(p, s, &s->signature, text, e);
}

int
slot_set_item_id(struct parser *p, struct slot *s, struct str id, struct err *e)
{
	return s->item_id.n > 0 ? 0 : add_opaque(p, s, &s->item_id, id, e);
}

int
slot_add_node(struct parser *p, struct slot *s, const struct node *n, struct err *e)
{
	struct buf text;
	struct json j;
	int rc;

	buf_init(&text, 8 * MODEL_ARGS_MAX);
	json_init(&j, &text);
	json_node(&j, n);
	rc = text.overflow ? err_set(e, ERR_LIMIT, ERR_TO_USER,
				     "the arguments of one tool call are larger than %u bytes",
				     MODEL_ARGS_MAX)
			   : slot_add(p, s, buf_str(&text), e);
	buf_fini(&text);
	return rc;
}

int
slot_set_name(struct parser *p, struct slot *s, struct str name, struct err *e)
{
	if (s->is_ignored || name.n == 0 || s->name.n > 0)
		return 0;
	if (name.n > MODEL_NAME_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the name of a tool is longer than %u bytes", MODEL_NAME_MAX);
	buf_add_str(&s->name, name);
	if (p->fn)
		p->fn(p->arg, DELTA_CALL, name);
	return 0;
}

int
parser_add_text(struct parser *p, enum part_type type, struct str text, struct err *e)
{
	struct slot *s = slot_last(p);

	if (text.n == 0)
		return 0;
	/* A signature seals the part that has it. */
	if (!s || s->type != type || s->is_ignored || s->signature.n > 0)
		s = slot_new(p, type, -1, e);
	return s ? slot_add(p, s, text, e) : ERR_LIMIT;
}

void
parser_set_stop(struct parser *p, enum model_stop stop)
{
	p->answer.stop = stop;
	p->has_stop = true;
}

int64_t
usage_count(const struct node *usage, const char *key, int64_t dflt)
{
	const struct node *n = node_get(usage, key);

	if (!n || n->type != NODE_INT)
		return dflt;
	return MIN(MAX(n->i, 0), USAGE_TOKENS_MAX);
}

/* ---- the end ---- */

/* Whether the body began as an event stream does; a beginning of one also counts. */
static bool
is_stream_head(const struct parser *p)
{
	static const char *const starts[] = { ":", "data", "event", "id", "retry", "\xEF\xBB\xBF",
		"\n", "\r" };

	for (size_t i = 0; i < ARRAY_LEN(starts); i++)
		if (memcmp(p->head, starts[i], MIN(p->head_n, strlen(starts[i]))) == 0)
			return true;
	return false;
}

static int
not_done(struct parser *p, struct err *e)
{
	struct buf shown;
	int rc;

	if (is_stream_head(p))
		return err_set(e, ERR_NET, ERR_TO_USER,
			"the stream was cut before its end (after %" PRIu64 " events)", p->events);
	buf_init(&shown, 8 * PARSER_HEAD_SIZE);
	term_clean(&shown, (struct str){ p->head, p->head_n }, true);
	rc = err_set(e, ERR_PROTO, ERR_TO_USER,
		"the answer is not an event stream; it begins with: %s (does base_url belong to a "
		"server with the %s API?)",
		buf_z(&shown), p->api->name);
	buf_fini(&shown);
	return rc;
}

static bool
is_id_taken(const struct parser *p, size_t before, struct str id)
{
	for (size_t i = 0; i < before; i++)
		if (p->slots[i].type == PART_CALL && str_eq(buf_str(&p->slots[i].id), id))
			return true;
	return false;
}

/* Every call ends with a name, arguments and an id of its own, whatever the server left out or used
 * twice. */
static int
complete_call(struct parser *p, size_t i, struct err *e)
{
	struct slot *s = &p->slots[i];
	struct id fresh;

	if (s->name.n == 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER,
			"the %s stream has a tool call without a name", p->api->name);
	if (str_trim(buf_str(&s->body)).n == 0) {
		buf_reset(&s->body);
		buf_add_z(&s->body, "{}");
	}
	if (s->id.n == 0 || is_id_taken(p, i, buf_str(&s->id))) {
		fresh = id_new();
		buf_reset(&s->id);
		buf_printf(&s->id, "call_%s", fresh.z);
	}
	return 0;
}

static struct part
part_of(const struct slot *s)
{
	struct part part = {
		.type = s->type,
		.signature = buf_str(&s->signature),
		.item_id = buf_str(&s->item_id),
	};

	if (s->type == PART_CALL) {
		part.call_id = buf_str(&s->id);
		part.tool = buf_str(&s->name);
		part.args = buf_str(&s->body);
	} else {
		part.text = buf_str(&s->body);
	}
	return part;
}

int
parser_end(struct parser *p, const struct model_answer **out, struct err *e)
{
	size_t n = 0;
	int rc;

	if (p->failed)
		return err_set(e, p->failed, ERR_TO_LOG, "the stream failed before");
	if (!p->is_done && !(p->api->ends_with_body && p->has_stop))
		return not_done(p, e);
	free(p->parts);
	p->parts = xcalloc(p->n + 1, sizeof(*p->parts));
	for (size_t i = 0; i < p->n; i++) {
		const struct slot *s = &p->slots[i];

		if (s->is_ignored ||
			(s->type != PART_CALL && s->body.n == 0 && s->signature.n == 0))
			continue;
		rc = s->type == PART_CALL ? complete_call(p, i, e) : 0;
		if (rc != 0)
			return rc;
		p->parts[n++] = part_of(s);
	}
	/* Servers differ in how they name the end of an answer with calls; what counts is whether
	 * there are any. */
	if (p->calls > 0 && (p->answer.stop == STOP_END || p->answer.stop == STOP_OTHER))
		p->answer.stop = STOP_TOOLS;
	else if (p->calls == 0 &&
		 (p->answer.stop == STOP_TOOLS || (!p->has_stop && p->answer.stop != STOP_REFUSED)))
		p->answer.stop = STOP_END;
	p->answer.parts = p->parts;
	p->answer.n = n;
	*out = &p->answer;
	return 0;
}
