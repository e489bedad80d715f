/* SPDX-License-Identifier: MIT
 * Vectors: requests byte for byte, answers, and every way in which an answer can be wrong. */
#include "streams.h"

#include <math.h>

static const struct str two[] = { { "one", 3 }, { "t\"wo", 4 } };

static void
built(const char *api, const struct embed_request *q, const char *path, const char *want)
{
	struct buf body;
	struct http_request out = { .body = &body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	buf_init(&body, REQUEST_BODY_MAX);
	assert_int_equal(provider_api_find(str_of(api))->embed_build(q, &out, a, &e), 0);
	assert_true(str_is(out.path, path));
	assert_string_equal(buf_z(&body), want);
	buf_fini(&body);
	arena_free(a);
}

static void
test_requests(void **state)
{
	struct embed_request q = { .model = STR("gemini-embedding-001"), .texts = two, .n = 2 };

	built("openai-chat", &q, "/embeddings",
		"{\"model\":\"gemini-embedding-001\",\"input\":[\"one\",\"t\\\"wo\"],\"encoding_"
		"format\":"
		"\"float\"}");
	built("ollama", &q, "/api/embed",
		"{\"model\":\"gemini-embedding-001\",\"input\":[\"one\",\"t\\\"wo\"],\"truncate\":"
		"true}");
	built("gemini", &q, "/models/gemini-embedding-001:batchEmbedContents",
		"{\"requests\":[{\"model\":\"models/"
		"gemini-embedding-001\",\"content\":{\"parts\":[{"
		"\"text\":\"one\"}]},\"taskType\":\"RETRIEVAL_DOCUMENT\"},{\"model\":\"models/"
		"gemini-"
		"embedding-001\",\"content\":{\"parts\":[{\"text\":\"t\\\"wo\"}]},\"taskType\":"
		"\"RETRIEVAL_DOCUMENT\"}]}");
	q = (struct embed_request){
		.model = STR("m"), .texts = two, .n = 1, .dimensions = 256, .is_query = true
	};
	built("openai-responses", &q, "/embeddings",
		"{\"model\":\"m\",\"input\":[\"one\"],\"encoding_format\":\"float\",\"dimensions\":"
		"256}");
	built("ollama", &q, "/api/embed",
		"{\"model\":\"m\",\"input\":[\"one\"],\"truncate\":true,\"dimensions\":256}");
	built("gemini", &q, "/models/m:batchEmbedContents",
		"{\"requests\":[{\"model\":\"models/"
		"m\",\"content\":{\"parts\":[{\"text\":\"one\"}]},"
		"\"outputDimensionality\":256}]}");
	assert_null(provider_api_find(STR("anthropic"))->embed_build);
}

static void
test_bad_requests(void **state)
{
	static const char *const apis[] = { "openai-chat", "gemini", "ollama" };
	static struct str many[EMBED_TEXTS_MAX + 1];
	const struct str blank[] = { STR("a"), STR(" \n") };
	struct buf body;
	struct http_request out = { .body = &body };
	struct arena *a = arena_new(MIB);

	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = STR("x");
	for (size_t i = 0; i < ARRAY_LEN(apis); i++) {
		const struct provider_api *api = provider_api_find(str_of(apis[i]));
		const struct {
			struct embed_request q;
			int code;
		} rows[] = {
			{ { .texts = two }, ERR_INVALID },
			{ { .texts = blank, .n = 2 }, ERR_INVALID },
			{ { .texts = many, .n = api->embed_max + 1 }, ERR_LIMIT },
			{ { .texts = two, .n = 2, .dimensions = EMBED_DIMENSIONS_MAX + 1 },
				ERR_LIMIT },
			{ { .texts = two, .n = 2, .dimensions = -1 }, ERR_LIMIT },
		};

		assert_true(api->embed_max > 0 && api->embed_max <= EMBED_TEXTS_MAX);
		for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
			struct err e = { 0 };

			buf_init(&body, 100);
			assert_int_equal(api->embed_build(&rows[k].q, &out, a, &e), rows[k].code);
			buf_fini(&body);
		}
		/* a body that is full */
		const struct embed_request q = { .model = STR("m"), .texts = many, .n = 50 };
		struct err e = { 0 };

		buf_init(&body, 100);
		assert_int_equal(api->embed_build(&q, &out, a, &e), ERR_LIMIT);
		buf_fini(&body);
	}
	arena_free(a);
}

static int
parse(const char *api, const char *body, int64_t dimensions, struct buf *shown, struct err *e)
{
	const struct embed_request q = { .texts = two, .n = 2, .dimensions = dimensions };
	struct arena *a = arena_new(MIB);
	struct embed_result r;
	int rc = provider_api_find(str_of(api))->embed_parse(&q, str_of(body), a, &r, e);

	for (size_t i = 0; rc == 0 && i < r.n * r.dimensions; i++)
		buf_printf(shown, "%g ", (double)r.values[i]);
	if (rc == 0)
		buf_printf(shown, "%zu x %zu, %lld", r.n, r.dimensions, (long long)r.input_tokens);
	arena_free(a);
	return rc;
}

static void
test_answers(void **state)
{
	static const struct {
		const char *api, *body, *want;
	} rows[] = {
		{ "openai-chat",
			"{\"object\":\"list\",\"data\":[{\"index\":1,\"embedding\":[3,-4e-1]},{"
			"\"index\":0,"
			"\"embedding\":[0.5,1]}],\"usage\":{\"prompt_tokens\":7}}",
			"0.5 1 3 -0.4 2 x 2, 7" },
		{ "openai-chat", "{\"data\":[{\"embedding\":[1]},{\"embedding\":[2]}]}",
			"1 2 2 x 1, 0" },
		{ "gemini", "{\"embeddings\":[{\"values\":[1,2]},{\"values\":[3,4]}]}",
			"1 2 3 4 2 x 2, 0" },
		{ "ollama", "{\"embeddings\":[[1,2],[3,4]],\"prompt_eval_count\":5}",
			"1 2 3 4 2 x 2, 5" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf shown;
		struct err e = { 0 };

		buf_init(&shown, KIB);
		if (parse(rows[i].api, rows[i].body, 0, &shown, &e) != 0)
			fail_msg("%s", e.msg);
		assert_string_equal(buf_z(&shown), rows[i].want);
		buf_fini(&shown);
	}
}

static void
test_bad_answers(void **state)
{
	static const struct {
		const char *api, *body;
		int64_t dimensions;
		int code;
		const char *message;
	} rows[] = {
		{ "ollama", "{", 0, ERR_PROTO, "not JSON" },
		{ "ollama", "[]", 0, ERR_PROTO, "no list \"embeddings\"" },
		{ "ollama", "{\"embeddings\":{}}", 0, ERR_PROTO, "no list" },
		{ "ollama", "{\"error\":\"model \\\"x\\\" not found\"}", 0, ERR_PROVIDER,
			"not found" },
		{ "openai-chat", "{\"error\":{\"type\":\"t\",\"message\":\"m\"}}", 0, ERR_PROVIDER,
			"t: m" },
		{ "ollama", "{\"embeddings\":[[1]]}", 0, ERR_PROTO, "1 vectors for 2 texts" },
		{ "ollama", "{\"embeddings\":[]}", 0, ERR_PROTO, "0 vectors for 2 texts" },
		{ "ollama", "{\"embeddings\":[[1],[2],[3]]}", 0, ERR_PROTO,
			"more vectors than texts" },
		{ "ollama", "{\"embeddings\":[[1,2],[3]]}", 0, ERR_PROTO, "another length" },
		{ "ollama", "{\"embeddings\":[[],[]]}", 0, ERR_PROTO, "0 dimensions" },
		{ "ollama", "{\"embeddings\":[[1],[null]]}", 0, ERR_PROTO,
			"not a finite number (vector 2)" },
		{ "ollama", "{\"embeddings\":[[1e39],[1]]}", 0, ERR_PROTO,
			"not a finite number (vector 1)" },
		{ "ollama", "{\"embeddings\":[[1e999],[1]]}", 0, ERR_PROTO, "" },
		{ "ollama", "{\"embeddings\":[[\"1\"],[1]]}", 0, ERR_PROTO, "not a finite number" },
		{ "ollama", "{\"embeddings\":[\"AAAA\",[1]]}", 0, ERR_PROTO, "no list of numbers" },
		{ "ollama", "{\"embeddings\":[[1,2],[3,4]]}", 3, ERR_PROTO,
			"2 dimensions, 3 were asked for" },
		{ "openai-chat",
			"{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}"
			"]}",
			0, ERR_PROTO, "came twice" },
		{ "openai-chat", "{\"data\":[{\"index\":-1,\"embedding\":[1]}]}", 0, ERR_PROTO,
			"negative" },
		{ "openai-chat", "{\"data\":[{\"index\":9,\"embedding\":[1]}]}", 0, ERR_PROTO,
			"more vectors" },
		{ "openai-chat", "{\"data\":[7,8]}", 0, ERR_PROTO, "no list of numbers" },
		{ "gemini", "{\"embeddings\":[{\"values\":[1]},{}]}", 0, ERR_PROTO,
			"no list of numbers" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf shown;
		struct err e = { 0 };

		buf_init(&shown, KIB);
		assert_int_equal(parse(rows[i].api, rows[i].body, rows[i].dimensions, &shown, &e),
			rows[i].code);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("'%s' does not have '%s'", e.msg, rows[i].message);
		buf_fini(&shown);
	}
}

/* Every proper prefix of a good answer is an error. */
static void
test_cut(void **state)
{
	const char good[] = "{\"embeddings\":[[1,2],[3,4]],\"prompt_eval_count\":5}";

	for (size_t n = 0; n + 1 < sizeof(good); n++) {
		char part[sizeof(good)];
		struct buf shown;
		struct err e = { 0 };

		memcpy(part, good, n);
		part[n] = '\0';
		buf_init(&shown, KIB);
		assert_int_equal(parse("ollama", part, 0, &shown, &e), ERR_PROTO);
		buf_fini(&shown);
	}
}

static void
test_limits(void **state)
{
	struct buf body, shown;
	struct err e = { 0 };

	buf_init(&body, 64 * MIB);
	buf_init(&shown, KIB);
	buf_add_z(&body, "{\"embeddings\":[[1");
	for (size_t i = 0; i < EMBED_DIMENSIONS_MAX; i++)
		buf_add_z(&body, ",1");
	buf_add_z(&body, "]]}");
	assert_int_equal(parse("ollama", buf_z(&body), 0, &shown, &e), ERR_LIMIT);
	buf_reset(&body);
	while (body.n <= EMBED_ANSWER_MAX)
		buf_add_z(
			&body, "                                                                ");
	assert_int_equal(parse("ollama", buf_z(&body), 0, &shown, &e), ERR_LIMIT);
	buf_fini(&body);
	buf_fini(&shown);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_bad_answers),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
