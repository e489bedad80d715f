/* SPDX-License-Identifier: MIT
 * Gemini: each event a whole response with a few parts more; calls come whole and together; a
 * signature rides on the part that follows its thought; no end mark but a finish reason. Without
 * alt=sse the responses are the elements of one JSON array. */
#include "render.h"

#include <stdio.h>
#include <stdlib.h>

/* What the service calls a status (google.rpc.Code). */
static const struct {
	int status;
	const char *name;
} codes[] = {
	{ 400, "INVALID_ARGUMENT" },
	{ 401, "UNAUTHENTICATED" },
	{ 403, "PERMISSION_DENIED" },
	{ 404, "NOT_FOUND" },
	{ 409, "ABORTED" },
	{ 429, "RESOURCE_EXHAUSTED" },
	{ 500, "INTERNAL" },
	{ 501, "UNIMPLEMENTED" },
	{ 504, "DEADLINE_EXCEEDED" },
};

static const char *
code_name(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (codes[i].status == status)
			return codes[i].name;
	return status < 500 ? "FAILED_PRECONDITION" : "UNAVAILABLE";
}

static void
usage(struct render *w, struct json *j, bool is_last)
{
	int64_t in = usage_of(w, "input"), out = is_last ? usage_of(w, "output") : 0,
		thoughts = is_last ? usage_of(w, "reasoning") : 0;
	int64_t cached = usage_of(w, "cached");

	json_kv_obj(j, "usageMetadata");
	json_kv_int(j, "promptTokenCount", in);
	if (cached)
		json_kv_int(j, "cachedContentTokenCount", cached);
	if (is_last)
		json_kv_int(j, "candidatesTokenCount", out - thoughts);
	if (thoughts)
		json_kv_int(j, "thoughtsTokenCount", thoughts);
	json_kv_int(j, "totalTokenCount", in + out);
	json_obj_end(j);
}

static void
tail(struct render *w, struct json *j, bool is_last)
{
	char id[40];

	usage(w, j, is_last);
	json_kv_str(j, "modelVersion", w->r->model);
	snprintf(id, sizeof(id), "gen-%llu", (unsigned long long)w->r->seq);
	json_kv_z(j, "responseId", id);
	event_end(w);
}

/* Sends one response whose content is these parts. */
static void
parts_send(struct render *w, struct str parts, struct str finish, struct str message)
{
	struct json *j = event_begin(w, NULL);

	json_kv_arr(j, "candidates");
	json_obj(j);
	json_kv_obj(j, "content");
	json_kv_arr(j, "parts");
	if (parts.n)
		json_raw(j, parts);
	json_arr_end(j);
	json_kv_z(j, "role", "model");
	json_obj_end(j);
	if (finish.n)
		json_kv_str(j, "finishReason", finish);
	if (message.n)
		json_kv_str(j, "finishMessage", message);
	json_kv_int(j, "index", 0);
	json_obj_end(j);
	json_arr_end(j);
	tail(w, j, finish.n > 0);
}

static void
text_send(
	struct render *w, struct str text, struct str signature, bool is_thought, struct str finish)
{
	struct buf part;
	struct json j;

	buf_init(&part, 2 * ANSWER_MAX);
	json_init(&j, &part);
	json_obj(&j);
	json_kv_str(&j, "text", text);
	if (is_thought)
		json_kv_bool(&j, "thought", true);
	if (signature.n)
		json_kv_str(&j, "thoughtSignature", signature);
	json_obj_end(&j);
	parts_send(w, buf_str(&part), finish, STR(""));
	buf_fini(&part);
}

/* The signature that a part carries: its own, else the one that a thought left. */
static struct str
signature_take(struct render *w, struct str own)
{
	struct str s = own.n ? own : w->signature;

	w->signature = STR("");
	return s;
}

static void
start(struct render *w)
{
}

/* The calls that wait come in one response. */
static void
settle(struct render *w)
{
	if (w->items.n == 0)
		return;
	parts_send(w, buf_str(&w->items), STR(""), STR(""));
	buf_reset(&w->items);
}

static void
text(struct render *w, struct str text, struct str signature)
{
	text_send(w, text, signature.n ? signature_take(w, signature) : STR(""), false, STR(""));
}

static void
refusal(struct render *w, struct str said)
{
	text(w, said, STR(""));
}

static void
thought(struct render *w, struct str text)
{
	text_send(w, text, STR(""), true, STR(""));
}

static void
thought_end(struct render *w, struct str signature)
{
	w->signature = signature;
}

static bool
is_object(struct str text)
{
	struct arena *a = arena_new(2 * ANSWER_MAX);
	const struct node *n;
	bool ok = json_parse(a, text, &n, NULL) == 0 && node_is(n, NODE_MAP);

	arena_free(a);
	return ok;
}

static void
call(struct render *w, const struct call *c)
{
	struct str signature = signature_take(w, c->signature);
	struct json j;

	if (!is_object(c->args)) { /* this API has no place for what is no object */
		settle(w);
		parts_send(w, STR(""), STR("MALFORMED_FUNCTION_CALL"), c->args);
		w->is_over = true;
		return;
	}
	if (w->items.n)
		buf_add_char(&w->items, ',');
	json_init(&j, &w->items);
	json_obj(&j);
	json_kv_obj(&j, "functionCall");
	if (c->has_id)
		json_kv_str(&j, "id", c->id);
	json_kv_str(&j, "name", c->tool);
	json_kv_raw(&j, "args", c->args);
	json_obj_end(&j);
	if (signature.n)
		json_kv_str(&j, "thoughtSignature", signature);
	json_obj_end(&j);
}

static void
blocked(struct render *w, struct str reason)
{
	struct json *j = event_begin(w, NULL);

	json_kv_obj(j, "promptFeedback");
	json_kv_str(j, "blockReason", reason);
	json_obj_end(j);
	tail(w, j, false);
}

static void
finished(struct render *w, struct str reason, bool is_done)
{
	settle(w);
	if (is_done)
		text_send(w, STR(""), signature_take(w, STR("")), false, reason);
}

static void
retry_info(struct json *j, const struct node *error)
{
	struct str s = node_str(error, "retry_after", STR("")),
		   ms = node_str(error, "retry_after_ms", STR(""));
	char delay[40];
	int64_t n;

	if (ms.n && str_i64(ms, &n) == 0)
		snprintf(delay, sizeof(delay), "%lld.%03llds", (long long)(n / 1000),
			(long long)(n % 1000));
	else if (s.n && str_i64(s, &n) == 0)
		snprintf(delay, sizeof(delay), "%llds", (long long)n);
	else
		return;
	json_obj(j);
	json_kv_z(j, "@type", "type.googleapis.com/google.rpc.RetryInfo");
	json_kv_z(j, "retryDelay", delay);
	json_obj_end(j);
}

static void
error(struct json *j, const struct render *w, const struct node *error, int status)
{
	int code = status ? status : 503;
	struct str type = node_str(error, "type", STR(""));
	bool is_own = type.n && type.p[0] >= 'A' && type.p[0] <= 'Z';

	json_kv_obj(j, "error");
	json_kv_int(j, "code", code);
	json_kv_str(j, "message", node_str(error, "message", STR("scripted error")));
	json_kv_str(j, "status", is_own ? type : str_of(code_name(code)));
	json_kv_arr(j, "details");
	retry_info(j, error);
	json_arr_end(j);
	json_obj_end(j);
}

static void
stream_error(struct render *w, const struct node *n)
{
	error(event_begin(w, NULL), w, n, 0);
	event_end(w);
}

const struct dialect dialect_gemini = {
	.call_prefix = "call",
	.finish = { "STOP", "STOP", "MAX_TOKENS", "SAFETY", "SAFETY" },
	.start = start,
	.text = text,
	.refusal = refusal,
	.thought = thought,
	.thought_end = thought_end,
	.redacted = thought_end,
	.call = call,
	.settle = settle,
	.blocked = blocked,
	.finished = finished,
	.error = error,
	.stream_error = stream_error,
};
