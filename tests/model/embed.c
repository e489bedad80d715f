/* SPDX-License-Identifier: MIT
 * Embeddings without a model: each word stands for a direction that its hash gives, a text for the
 * sum of its words, at length 1. So equal texts are equal, and texts that share words are near. */
#include "model.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "base/mem.h"

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
 */
static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u;
}

static void
add_word(double *v, int64_t dims, struct str word)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (size_t i = 0; i < word.n; i++)
		h = (h ^ (unsigned char)tolower((unsigned char)word.p[i])) * 1099511628211u;
	h |= 1;
	for (int64_t i = 0; i < dims; i++)
		v[i] += (double)(next_random(&h) >> 11) / (double)(1ull << 52) - 1;
}

static void
embed(struct str text, int64_t dims, double *v)
{
	double square = 0;
	size_t from = 0;

	memset(v, 0, (size_t)dims * sizeof(*v));
	for (size_t i = 0; i <= text.n; i++) {
		if (i < text.n && (isalnum((unsigned char)text.p[i]) || text.p[i] & 0x80))
			continue;
		if (i > from)
			add_word(v, dims, str_sub(text, from, i - from));
		from = i + 1;
	}
	for (int64_t i = 0; i < dims; i++)
		square += v[i] * v[i];
	if (square == 0) {
		add_word(v, dims, STR(""));
		for (int64_t i = 0; i < dims; i++)
			square += v[i] * v[i];
	}
	for (int64_t i = 0; i < dims; i++)
		v[i] /= sqrt(square);
}

static void
add_base64(struct buf *b, const unsigned char *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t three = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
				 (i + 2 < n ? p[i + 2] : 0);

		for (int k = 0; k < 4; k++)
			buf_add_char(
				b, i + (size_t)k <= n ? digits[three >> (18 - 6 * k) & 63] : '=');
	}
}

/* One vector, as numbers or as base64 of little-endian floats; both forms hold the same floats. */
static void
write_vector(struct json *j, struct str text, int64_t dims, bool is_base64)
{
	double *v = xcalloc((size_t)dims, sizeof(*v));
	float *f = xcalloc((size_t)dims, sizeof(*f));
	struct buf b;

	embed(text, dims, v);
	for (int64_t i = 0; i < dims; i++)
		f[i] = (float)v[i];
	buf_init(&b, 8 * DIMS_MAX);
	if (is_base64) {
		add_base64(&b, (const unsigned char *)f, (size_t)dims * sizeof(*f));
		json_str(j, buf_str(&b));
	} else {
		json_arr(j);
		for (int64_t i = 0; i < dims; i++)
			json_double(j, (double)f[i]);
		json_arr_end(j);
	}
	buf_fini(&b);
	free(v);
	free(f);
}

/* Texts of an input that is one or many. */
static size_t
inputs(const struct node *input)
{
	return node_is(input, NODE_LIST) ? node_len(input) : input ? 1 : 0;
}

static struct str
input_at(const struct node *input, size_t i)
{
	const struct node *one = node_is(input, NODE_LIST) ? node_at(input, i) : input;

	return node_is(one, NODE_STR) ? one->s : STR("");
}

static struct str
content_text(const struct node *request)
{
	return node_str(node_at(node_find(request, "content.parts"), 0), "text", STR(""));
}

static void
write_openai(struct json *j, const struct request *r, int64_t dims)
{
	const struct node *input = node_get(r->json, "input");
	bool is_base64 = str_is(node_str(r->json, "encoding_format", STR("")), "base64");
	int64_t tokens = 0;

	json_kv_z(j, "object", "list");
	json_kv_arr(j, "data");
	for (size_t i = 0; i < inputs(input); i++) {
		tokens += (int64_t)(input_at(input, i).n + 3) / 4;
		json_obj(j);
		json_kv_z(j, "object", "embedding");
		json_kv_int(j, "index", (int64_t)i);
		json_key(j, "embedding");
		write_vector(j, input_at(input, i), dims, is_base64);
		json_obj_end(j);
	}
	json_arr_end(j);
	json_kv_str(j, "model", r->model);
	json_kv_obj(j, "usage");
	json_kv_int(j, "prompt_tokens", tokens);
	json_kv_int(j, "total_tokens", tokens);
	json_obj_end(j);
}

static void
write_ollama(struct json *j, const struct request *r, int64_t dims)
{
	const struct node *input = node_get(r->json, "input");
	int64_t tokens = 0;

	json_kv_str(j, "model", r->model);
	json_kv_arr(j, "embeddings");
	for (size_t i = 0; i < inputs(input); i++) {
		tokens += (int64_t)(input_at(input, i).n + 3) / 4;
		write_vector(j, input_at(input, i), dims, false);
	}
	json_arr_end(j);
	json_kv_int(j, "total_duration", 1000000);
	json_kv_int(j, "load_duration", 1000);
	json_kv_int(j, "prompt_eval_count", tokens);
}

static void
write_gemini(struct json *j, const struct node *request, int64_t dims)
{
	int64_t asked = node_int(request, "outputDimensionality", dims);

	json_key(j, "values");
	write_vector(j, content_text(request), MAX(1, MIN(asked, DIMS_MAX)), false);
}

static void
write_batch(struct json *j, const struct request *r, int64_t dims)
{
	const struct node *requests = node_get(r->json, "requests");

	json_kv_arr(j, "embeddings");
	for (size_t i = 0; i < node_len(requests); i++) {
		json_obj(j);
		write_gemini(j, node_at(requests, i), dims);
		json_obj_end(j);
	}
	json_arr_end(j);
}

void
render_embeddings(const struct request *r, int64_t dims, struct answer *a)
{
	struct buf body;
	struct json j;
	int64_t asked = node_int(r->json, "dimensions", dims);

	if (!r->json || asked < 1 || asked > DIMS_MAX) {
		render_plain(a, 400, "application/json", STR(""),
			STR("{\"error\":{\"message\":\"no JSON, or a wrong number of dimensions\","
			    "\"type\":\"invalid_request_error\",\"code\":null,\"param\":null}}"));
		return;
	}
	buf_init(&body, ANSWER_MAX);
	json_init(&j, &body);
	json_obj(&j);
	if (r->api == API_EMBED) {
		write_openai(&j, r, asked);
	} else if (r->api == API_EMBED_OLLAMA) {
		write_ollama(&j, r, asked);
	} else if (r->api == API_EMBED_GEMINI_BATCH) {
		write_batch(&j, r, dims);
	} else {
		json_kv_obj(&j, "embedding");
		write_gemini(&j, r->json, dims);
		json_obj_end(&j);
	}
	json_obj_end(&j);
	render_plain(a, 200, "application/json", STR(""), buf_str(&body));
	buf_fini(&body);
}
