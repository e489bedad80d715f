/* SPDX-License-Identifier: MIT
 * Vectors of texts: requests and answers of three APIs. What comes back is checked as a whole
 * before any of it is used: as many vectors as texts, each once, all of one length, nothing that is
 * not a finite number. */
#include "provider/internal.h"

#include <math.h>
#include "base/limits.h"

/* ---- requests ---- */

static int
check_request(const struct embed_request *q, size_t max, struct err *e)
{
	if (q->n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "a request for vectors without texts");
	if (q->n > max)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG,
			"a request for vectors of %zu texts, at most %zu are possible", q->n, max);
	if (q->dimensions < 0 || q->dimensions > EMBED_DIMENSIONS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "vectors of %lld dimensions (1..%u)",
			(long long)q->dimensions, EMBED_DIMENSIONS_MAX);
	for (size_t i = 0; i < q->n; i++)
		if (str_trim(q->texts[i]).n == 0)
			return err_set(e, ERR_INVALID, ERR_TO_LOG,
				"a request for the vector of an empty text (number %zu)", i + 1);
	return 0;
}

static void
begin(struct http_request *out, struct str path, struct json *j)
{
	out->path = path;
	out->headers = STR("content-type: application/json\naccept: application/json\n");
	json_init(j, out->body);
	json_obj(j);
}

static void
write_texts(struct json *j, const struct embed_request *q)
{
	json_kv_arr(j, "input");
	for (size_t i = 0; i < q->n; i++)
		json_str(j, q->texts[i]);
	json_arr_end(j);
}

int
embed_build_openai(
	const struct embed_request *q, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = check_request(q, EMBED_TEXTS_MAX, e);

	if (rc != 0)
		return rc;
	begin(out, STR("/embeddings"), &j);
	json_kv_str(&j, "model", q->model);
	write_texts(&j, q);
	json_kv_z(&j, "encoding_format", "float");
	if (q->dimensions > 0)
		json_kv_int(&j, "dimensions", q->dimensions);
	return build_end(out, &j, e);
}

int
embed_build_ollama(
	const struct embed_request *q, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	int rc = check_request(q, EMBED_TEXTS_MAX, e);

	if (rc != 0)
		return rc;
	begin(out, STR("/api/embed"), &j);
	json_kv_str(&j, "model", q->model);
	write_texts(&j, q);
	json_kv_bool(&j, "truncate", true);
	if (q->dimensions > 0)
		json_kv_int(&j, "dimensions", q->dimensions);
	return build_end(out, &j, e);
}

/* Later models refuse a task. */
static bool
has_task(struct str model)
{
	return str_starts(model, "text-embedding-") || str_is(model, "embedding-001") ||
	       str_is(model, "gemini-embedding-001");
}

int
embed_build_gemini(
	const struct embed_request *q, struct http_request *out, struct arena *a, struct err *e)
{
	struct json j;
	struct str name;
	int rc = check_request(q, provider_gemini.embed_max, e);

	if (rc != 0)
		return rc;
	name = str_of(arena_printf(a, "models/%.*s", STR_FMT(q->model)));
	begin(out, gemini_path(q->model, ":batchEmbedContents", a), &j);
	json_kv_arr(&j, "requests");
	for (size_t i = 0; i < q->n; i++) {
		json_obj(&j);
		json_kv_str(&j, "model", name);
		json_kv_obj(&j, "content");
		json_kv_arr(&j, "parts");
		json_obj(&j);
		json_kv_str(&j, "text", q->texts[i]);
		json_obj_end(&j);
		json_arr_end(&j);
		json_obj_end(&j);
		if (has_task(q->model))
			json_kv_z(&j, "taskType",
				q->is_query ? "RETRIEVAL_QUERY" : "RETRIEVAL_DOCUMENT");
		if (q->dimensions > 0)
			json_kv_int(&j, "outputDimensionality", q->dimensions);
		json_obj_end(&j);
	}
	json_arr_end(&j);
	return build_end(out, &j, e);
}

/* ---- answers ---- */

struct rows {
	const struct embed_request *q;
	struct arena *a;
	float *values; /* made when the first vector tells the length */
	bool *is_set;
	size_t n, dimensions;
};

static int
bad(struct err *e, const char *what, size_t row)
{
	return err_set(e, ERR_PROTO, ERR_TO_USER,
		"the answer with vectors is not usable: %s (vector %zu)", what, row + 1);
}

static int
begin_rows(struct rows *r, size_t dimensions, struct err *e)
{
	if (dimensions == 0 || dimensions > EMBED_DIMENSIONS_MAX)
		return err_set(e, dimensions ? ERR_LIMIT : ERR_PROTO, ERR_TO_USER,
			"the answer has vectors of %zu dimensions (1..%u)", dimensions,
			EMBED_DIMENSIONS_MAX);
	if (r->q->dimensions > 0 && dimensions != (size_t)r->q->dimensions)
		return err_set(e, ERR_PROTO, ERR_TO_USER,
			"the answer has vectors of %zu dimensions, %lld were asked for", dimensions,
			(long long)r->q->dimensions);
	r->values = arena_try(r->a, r->q->n * dimensions * sizeof(*r->values));
	r->is_set = arena_try(r->a, r->q->n * sizeof(*r->is_set));
	if (!r->values || !r->is_set)
		return err_set(
			e, ERR_LIMIT, ERR_TO_USER, "there is no room for %zu vectors", r->q->n);
	r->dimensions = dimensions;
	return 0;
}

static int
add_row(struct rows *r, size_t at, const struct node *list, struct err *e)
{
	int rc = 0;

	if (!node_is(list, NODE_LIST))
		return bad(e, "it is no list of numbers", at);
	if (at >= r->q->n)
		return bad(e, "there are more vectors than texts", at);
	if (!r->values)
		rc = begin_rows(r, list->list.n, e);
	if (rc != 0)
		return rc;
	if (list->list.n != r->dimensions)
		return bad(e, "it has another length than the first one", at);
	if (r->is_set[at])
		return bad(e, "it came twice", at);
	for (size_t i = 0; i < r->dimensions; i++) {
		const struct node *v = &list->list.items[i];
		float f = v->type == NODE_INT   ? (float)v->i
			  : v->type == NODE_NUM ? (float)v->num.d
						: NAN;

		if (!isfinite(f))
			return bad(e, "a value is not a finite number", at);
		r->values[at * r->dimensions + i] = f;
	}
	r->is_set[at] = true;
	r->n++;
	return 0;
}

static int
end_rows(const struct rows *r, int64_t tokens, struct embed_result *out, struct err *e)
{
	if (r->n != r->q->n)
		return err_set(e, ERR_PROTO, ERR_TO_USER,
			"the answer has %zu vectors for %zu texts", r->n, r->q->n);
	*out = (struct embed_result){
		.values = r->values, .n = r->n, .dimensions = r->dimensions, .input_tokens = tokens
	};
	return 0;
}

/* The body as an object; errors that came with a good status are told as such. */
static int
read_body(struct str body, struct arena *scratch, const struct node **out, struct err *e)
{
	struct str type, message;
	struct err why = { 0 };

	if (body.n > EMBED_ANSWER_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the answer with vectors is larger than %u bytes", EMBED_ANSWER_MAX);
	if (json_parse(scratch, body, out, &why) != 0)
		return err_set(e, why.code == ERR_LIMIT ? ERR_LIMIT : ERR_PROTO, ERR_TO_USER,
			"the answer with vectors is not JSON: %s", why.msg);
	if (node_get(*out, "error")) {
		error_object(body, &type, &message, scratch);
		return err_set(e, ERR_PROVIDER, ERR_TO_USER, "%.*s: %.*s", STR_FMT(type),
			STR_FMT(message));
	}
	return 0;
}

/* The vectors of an API: a list under a key, each vector the item itself or below a key of it. */
struct shape {
	const char *list, *vector, *index; /* vector NULL: the item; index NULL: by place */
	const char *tokens;                /* dotted */
};

static int
parse(const struct shape *shape, const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e)
{
	struct arena *scratch = arena_new(EMBED_TREE_MAX);
	struct rows r = { .q = q, .a = a };
	const struct node *root, *list = NULL, *tokens;
	int rc = read_body(body, scratch, &root, e);

	if (rc == 0) {
		list = node_get(root, shape->list);
		if (!node_is(list, NODE_LIST))
			rc = err_set(e, ERR_PROTO, ERR_TO_USER,
				"the answer with vectors has no list \"%s\" (does the model make "
				"vectors?)",
				shape->list);
	}
	for (size_t i = 0; rc == 0 && i < node_len(list); i++) {
		const struct node *item = node_at(list, i);
		int64_t at = shape->index ? node_int(item, shape->index, (int64_t)i) : (int64_t)i;

		rc = at < 0 ? bad(e, "its index is negative", i)
			    : add_row(&r, (size_t)at,
				      shape->vector ? node_get(item, shape->vector) : item, e);
	}
	if (rc == 0) {
		tokens = node_find(root, shape->tokens);
		rc = end_rows(&r,
			node_is(tokens, NODE_INT) ? MIN(MAX(tokens->i, 0), USAGE_TOKENS_MAX) : 0,
			out, e);
	}
	arena_free(scratch);
	return rc;
}

int
embed_parse_openai(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e)
{
	static const struct shape shape = { "data", "embedding", "index", "usage.prompt_tokens" };

	return parse(&shape, q, body, a, out, e);
}

int
embed_parse_gemini(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e)
{
	static const struct shape shape = { "embeddings", "values", NULL,
		"usageMetadata.promptTokenCount" };

	return parse(&shape, q, body, a, out, e);
}

int
embed_parse_ollama(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e)
{
	static const struct shape shape = { "embeddings", NULL, NULL, "prompt_eval_count" };

	return parse(&shape, q, body, a, out, e);
}
