/* SPDX-License-Identifier: MIT
 * What the builders and the error readers of the APIs share. Everything here is a function of its
 * arguments: the same conversation gives the same bytes, and a longer one begins with the bytes of
 * the shorter, which is what the servers' prompt caches need. */
#include "provider/internal.h"

#include <strings.h>
#include "base/limits.h"

#define RAW_ARGS_KEY "raw_arguments"

void
model_request_init(struct model_request *r, const struct model_info *m)
{
	*r = (struct model_request){
		.provider = m->provider,
		.model = m->model,
		.max_output_tokens = m->max_output_tokens,
		.is_own_server = m->is_own_server,
		.has_reasoning = m->has_reasoning,
	};
}

static bool
is_object(struct str args)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *n;
	bool yes = json_parse(scratch, args, &n, NULL) == 0 && n->type == NODE_MAP;

	arena_free(scratch);
	return yes;
}

struct str
call_args(struct str args, struct arena *a)
{
	struct buf b;
	struct json j;

	if (is_object(args))
		return args;
	buf_init(&b, 8 * MODEL_ARGS_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, RAW_ARGS_KEY, args);
	json_obj_end(&j);
	return arena_take(a, &b);
}

bool
part_is_own(const struct model_request *r, const struct part *p)
{
	return str_eq(p->origin, r->provider);
}

struct str
result_tool(const struct model_request *r, const struct part *p)
{
	if (p->tool.n > 0)
		return p->tool;
	for (size_t m = r->messages_n; m-- > 0;) {
		for (size_t i = 0; i < r->messages[m].n; i++) {
			const struct part *c = &r->messages[m].parts[i];

			if (c->type == PART_CALL && str_eq(c->call_id, p->call_id))
				return c->tool;
		}
	}
	return STR("tool");
}

/* How little a model can be told to think: the first of OpenAI's that could be told anything have
 * no "none". */
static const char *
least_effort(struct str model)
{
	static const struct {
		const char *prefix, *effort;
	} rows[] = {
		{ "gpt-5-", "minimal" },
		{ "o1", "low" },
		{ "o3", "low" },
		{ "o4", "low" },
	};

	if (str_is(model, "gpt-5"))
		return "minimal";
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (str_starts(model, rows[i].prefix))
			return rows[i].effort;
	return "none";
}

const char *
openai_effort(const struct model_request *r)
{
	static const char *const names[] = {
		[EFFORT_LOW] = "low",
		[EFFORT_MEDIUM] = "medium",
		[EFFORT_HIGH] = "high",
	};

	if (!r->has_reasoning || r->effort == EFFORT_AUTO)
		return NULL;
	return r->effort == EFFORT_OFF ? least_effort(r->model) : names[r->effort];
}

int64_t
model_generation(struct str model, const char *prefix)
{
	struct str rest = str_sub(model, strlen(prefix), model.n);
	size_t n = 0;
	int64_t generation;

	if (!str_starts(model, prefix))
		return 0;
	while (n < rest.n && rest.p[n] >= '0' && rest.p[n] <= '9')
		n++;
	return str_i64(str_sub(rest, 0, n), &generation) == 0 ? generation : 0;
}

int
build_begin(const struct model_request **r, struct http_request *out, struct json *j, struct arena *a,
	struct err *e)
{
	if ((*r)->messages_n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "a request without messages");
	*r = request_prepare(*r, a);
	out->headers = STR(STREAM_HEADERS);
	json_init(j, out->body);
	json_obj(j);
	return 0;
}

int
build_end(const struct http_request *out, struct json *j, struct err *e)
{
	json_obj_end(j);
	if (out->body->overflow)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the request is larger than %zu bytes (start a new session)",
			out->body->max);
	return 0;
}

size_t
messages_run(const struct model_request *r, size_t from)
{
	size_t to = from;

	while (to < r->messages_n && r->messages[to].role == r->messages[from].role)
		to++;
	return to;
}

/* An empty result is refused by some servers and puzzles models; a failed one must read as such
 * everywhere. */
struct str
result_text(const struct part *p, struct arena *a)
{
	struct buf b;

	if (p->text.n == 0)
		return p->is_error ? STR("error: the tool failed without a message")
				   : STR("(no output)");
	if (!p->is_error || (p->text.n >= 5 && strncasecmp(p->text.p, "error", 5) == 0))
		return p->text;
	buf_init(&b, REQUEST_BODY_MAX);
	buf_add_z(&b, "error: ");
	buf_add_str(&b, p->text);
	return arena_take(a, &b);
}

/* ---- error bodies ---- */

static struct str
first_str(const struct node *map, const char *const *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct str s = node_str(map, keys[i], STR(""));

		if (s.n)
			return s;
	}
	return STR("");
}

/* Both vendors use {"error":{"type","message"}}, OpenAI with a more telling "code" beside it.
 * Servers that imitate them also answer {"error":"text"}, {"message":"text"} or {"detail":"text"},
 * and proxies answer HTML. */
void
error_object(struct str body, struct str *type, struct str *message, struct arena *a)
{
	static const char *const types[] = { "code", "type", "status" };
	static const char *const messages[] = { "message", "detail", "error", "msg" };
	const struct node *root, *err;

	*type = STR("error");
	*message = str_trim(body);
	if (json_parse(a, body, &root, NULL) != 0)
		return;
	if (root->type == NODE_LIST)
		root = node_at(root, 0);
	err = node_get(root, "error");
	if (!node_is(err, NODE_MAP))
		err = root;
	if (first_str(err, messages, ARRAY_LEN(messages)).n)
		*message = first_str(err, messages, ARRAY_LEN(messages));
	if (first_str(err, types, ARRAY_LEN(types)).n)
		*type = first_str(err, types, ARRAY_LEN(types));
}
