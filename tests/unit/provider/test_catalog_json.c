/* SPDX-License-Identifier: MIT
 * Catalogs as JSON: what is taken from the form of models.dev, what is left out and refused, the
 * kept file with its digest, differences, and how the layers lie over each other. */
#include "streams.h"

static const char *const vendors[] = { "acme", "anthropic", "openai", NULL };

struct bad {
	size_t n;
	char last[200];
};

static void
on_bad(void *arg, const char *vendor, const char *model, const char *why)
{
	struct bad *b = arg;

	b->n++;
	snprintf(b->last, sizeof(b->last), "%s/%s: %s", vendor, model, why);
}

static struct catalog *
import(const char *text, struct bad *bad)
{
	struct catalog *c = NULL;
	struct err e = { 0 };

	if (catalog_import(str_of(text), vendors, bad ? on_bad : NULL, bad, &c, &e) != 0)
		fail_msg("%s", e.msg);
	return c;
}

static struct config *
load(struct catalog *fetched, const char *more)
{
	const char *const flags[] = {
		"providers.test={api: openai-chat, base_url: 'http://127.0.0.1:1/v1', "
		"catalog: acme}",
		more, NULL
	};
	struct config_sources src = {
		.system_file = "/nonexistent", .home_file = "/nonexistent", .flags = flags
	};
	struct config *c = NULL;
	struct err e = { 0 };

	if (config_load(&src, &c, &e) != 0)
		fail_msg("%s", e.msg);
	config_attach(c, fetched, catalog_free);
	return c;
}

#define FULL                                                                                       \
	"{\"acme\":{\"id\":\"acme\",\"env\":[\"X\"],\"models\":{\"m-1\":{\"id\":\"m-1\",\"name\":" \
	"\"M\","                                                                                   \
	"\"tool_call\":true,\"reasoning\":false,\"structured_output\":true,\"knowledge\":\"2026-"  \
	"01\","                                                                                    \
	"\"status\":\"beta\",\"modalities\":{\"input\":[\"text\",\"image\",\"video\"],\"output\":" \
	"["                                                                                        \
	"\"text\"]},\"cost\":{\"input\":1.25,\"output\":10,\"cache_read\":0.125,\"context_over_"   \
	"200k\":{"                                                                                 \
	"\"input\":2.5,\"output\":15}},\"limit\":{\"context\":1000000,\"output\":64000}}}},"       \
	"\"other\":{\"models\":{\"x\":{\"limit\":{\"context\":1}}}}}"

static void
test_takes_known_fields(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(import(FULL, NULL), NULL);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(model_resolve(c, STR("test/m-1"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_FETCHED);
	assert_int_equal(m.context_tokens, 1000000);
	assert_int_equal(m.max_output_tokens, 64000);
	assert_int_equal(m.input, INPUT_TEXT | INPUT_IMAGE);
	assert_true(m.has_tools && !m.has_reasoning && m.has_schema && m.has_price);
	assert_int_equal(m.input_microusd_per_mtok, 1250000);
	assert_int_equal(m.cached_microusd_per_mtok, 125000);
	assert_int_equal(m.cache_write_microusd_per_mtok, 1250000); /* not given: as input */
	assert_int_equal(m.long_tokens, 200000);
	assert_int_equal(m.long_input_percent, 200);
	assert_int_equal(m.long_output_percent, 150);
	assert_string_equal(m.knowledge, "2026-01");
	assert_string_equal(m.status, "beta");
	config_unref(c);
	assert_string_equal(m.knowledge, "2026-01"); /* its own copy */
	arena_free(a);
}

static void
test_layers(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(
		import("{\"anthropic\":{\"models\":{"
		       "\"claude-opus-5\":{\"limit\":{\"context\":7000},\"cost\":{"
		       "\"input\":6,\"output\":30}},"
		       "\"claude-sonnet-5\":{\"limit\":{\"context\":8000},\"cost\":{"
		       "\"input\":2,\"output\":11}},"
		       "\"claude-next\":{\"limit\":{\"context\":9000}}}}}",
			NULL),
		"catalog.models={anthropic/claude-opus-5: {output_usd_per_mtok: 31, tools: false, "
		"input: [pdf, audio]}}");
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(model_resolve(c, STR("anthropic/claude-opus-5"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_CONFIG);
	assert_int_equal(m.context_tokens, 7000);      /* fetched */
	assert_int_equal(m.max_output_tokens, 128000); /* snapshot */
	assert_int_equal(m.input_microusd_per_mtok, 6000000);
	assert_int_equal(
		m.cached_microusd_per_mtok, 6000000); /* an old discount on a new price is none */
	assert_int_equal(m.output_microusd_per_mtok, 31000000); /* configuration */
	assert_false(m.has_tools);
	assert_int_equal(m.input, INPUT_TEXT | INPUT_PDF); /* its API has no form for sound */
	assert_int_equal(model_resolve(c, STR("anthropic/claude-sonnet-5"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_FETCHED);
	assert_int_equal(
		m.cached_microusd_per_mtok, 200000); /* same input price: the discount stays */
	assert_int_equal(m.output_microusd_per_mtok, 11000000);
	assert_int_equal(model_resolve(c, STR("anthropic/claude-next"), a, &m, &e), 0);
	assert_false(m.has_price);
	assert_non_null(strstr(model_notice(&m, a), "its price is not known"));
	assert_int_equal(model_resolve(c, STR("anthropic/claude-haiku-5-5"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_SNAPSHOT);
	assert_null(model_notice(&m, a));
	config_unref(c);
	arena_free(a);
}

static void
test_unknown_models(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(NULL, NULL);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(model_resolve(c, STR("anthropic/claude-opus-6"), a, &m, &e), ERR_CONFIG);
	assert_non_null(strstr(e.msg, "--allow-unknown-model"));
	config_unref(c);
	c = load(NULL, "catalog.allow_unknown=true");
	assert_int_equal(model_resolve(c, STR("anthropic/claude-opus-6"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_ASSUMED);
	assert_int_equal(m.context_tokens, 128000);
	assert_non_null(strstr(model_notice(&m, a), "a context of 128000 tokens is assumed"));
	assert_non_null(strstr(model_notice(&m, a), "limits in USD do not hold"));
	/* Servers on this machine cost nothing that anybody bills. */
	assert_int_equal(model_resolve(c, STR("test/anything"), a, &m, &e), 0);
	assert_null(model_notice(&m, a));
	assert_int_equal(model_resolve(c, STR("openrouter/x/y"), a, &m, &e), 0);
	assert_string_equal(m.api->name, "openai-chat");
	assert_true(str_is(m.base_url, "https://openrouter.ai/api/v1"));
	assert_false(m.is_own_server);
	assert_non_null(strstr(model_notice(&m, a), "its price is not known"));
	config_unref(c);
	arena_free(a);
}

static void
test_families(void **state)
{
	static const struct {
		const char *name;
		int64_t context;
		bool tools, sees;
	} rows[] = {
		{ "test/llama3.1:8b", 131072, true, false },
		{ "test/meta-llama/Llama-3.1-8B-Instruct", 131072, true, false },
		{ "test/Llama-3.2-11B", 131072, true, false },
		{ "test/llama3.2-vision:11b", 131072, false, true },
		{ "test/qwen3:8b", 32768, true, false },
		{ "test/Qwen/Qwen3-Coder-30B-A3B", 262144, true, false },
		{ "test/qwen2.5vl:7b", 32768, false, true },
		{ "test/Qwen2.5-VL-7B-Instruct", 32768, false, true },
		{ "test/gemma3:27b", 32768, false, true },
		{ "test/gpt-oss:20b", 131072, true, false },
		{ "test/llama3.19", 128000, true, true }, /* another version: nothing is known */
		{ "test/qwen3.7:8b", 128000, true, true },
		{ "test/llamas", 128000, true, true },
	};
	struct arena *a = arena_new(MIB);
	struct config *c = load(NULL, NULL);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct model_info m;
		struct err e = { 0 };

		assert_int_equal(model_resolve(c, str_of(rows[i].name), a, &m, &e), 0);
		if (m.context_tokens != rows[i].context || m.has_tools != rows[i].tools ||
			!(m.input & INPUT_IMAGE) == rows[i].sees || m.has_price)
			fail_msg("%s: context %lld tools %d input %u", rows[i].name,
				(long long)m.context_tokens, m.has_tools, m.input);
	}
	config_unref(c);
	arena_free(a);
}

static void
test_needs_responses(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(NULL, NULL);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(model_resolve(c, STR("openai/gpt-5-codex"), a, &m, &e), 0);
	assert_string_equal(m.api->name, "openai-responses");
	assert_int_equal(model_resolve(c, STR("openai/gpt-5"), a, &m, &e), 0);
	assert_string_equal(m.api->name, "openai-chat");
	config_unref(c);
	c = load(NULL, "providers.openai={api: openai-chat}");
	assert_int_equal(model_resolve(c, STR("openai/gpt-5-codex"), a, &m, &e), 0);
	assert_string_equal(m.api->name, "openai-chat"); /* who says so is heard */
	config_unref(c);
	c = load(NULL, "providers.openai={api: openai-responses}");
	assert_int_equal(model_resolve(c, STR("openai/gpt-5"), a, &m, &e), 0);
	assert_string_equal(m.api->name, "openai-responses");
	assert_int_equal(m.input_microusd_per_mtok, 1250000);
	config_unref(c);
	arena_free(a);
}

/* ---- what is left out, and what is refused ---- */

static void
test_bad_rows(void **state)
{
	static const struct {
		const char *row, *why;
	} rows[] = {
		{ "\"b\":1", "b: it is no object" },
		{ "\"b\":{}", "b: it has no context window" },
		{ "\"b\":{\"limit\":{\"context\":0}}", "it has no context window" },
		{ "\"b\":{\"limit\":{\"context\":-5}}", "limit: not a number of tokens" },
		{ "\"b\":{\"limit\":{\"context\":\"many\"}}", "limit: not a number of tokens" },
		{ "\"b\":{\"limit\":{\"context\":9e15}}", "limit: not a number of tokens" },
		{ "\"b\":{\"limit\":{\"context\":9},\"cost\":{\"input\":-1,\"output\":1}}",
			"cost: not a price" },
		{ "\"b\":{\"limit\":{\"context\":9},\"cost\":{\"input\":1e30,\"output\":1}}",
			"cost: not a price" },
		{ "\"b\":{\"limit\":{\"context\":9},\"cost\":{\"input\":\"1\",\"output\":1}}",
			"cost: not a price" },
		{ "\"b\":{\"limit\":{\"context\":9},\"cost\":{\"input\":1}}",
			"without one of output" },
		{ "\"b\":{\"limit\":{\"context\":9},\"tool_call\":\"yes\"}", "are true or false" },
		{ "\"b\":{\"limit\":{\"context\":9},\"status\":\"\\u001b[31m\"}",
			"are short words" },
		{ "\"b c\":{\"limit\":{\"context\":9}}", "its id is not a plain name" },
		{ "\"\\u202eb\":{\"limit\":{\"context\":9}}", "its id is not a plain name" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bad bad = { 0 };
		struct catalog_facts f;
		struct catalog *c;
		struct buf b;

		buf_init(&b, 64 * KIB);
		buf_printf(&b, "{\"acme\":{\"models\":{\"good\":{\"limit\":{\"context\":9}},%s}}}",
			rows[i].row);
		c = import(buf_z(&b), &bad);
		catalog_facts(c, &f);
		assert_int_equal(f.models, 1);
		assert_int_equal(bad.n, 1);
		if (!strstr(bad.last, rows[i].why))
			fail_msg("%s: '%s' without '%s'", rows[i].row, bad.last, rows[i].why);
		catalog_free(c);
		buf_fini(&b);
	}
}

static void
test_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{ "", "this is no model catalog" },
		{ "<html>", "this is no model catalog" },
		{ "[]", "where an object of vendors is expected" },
		{ "{}", "none of the vendors in use" },
		{ "{\"other\":{\"models\":{\"x\":{\"limit\":{\"context\":9}}}}}",
			"none of the vendors in use" },
		{ "{\"acme\":{\"models\":{}}}", "no model that is usable" },
		{ "{\"acme\":{\"models\":{\"x\":{}}}}", "no model that is usable" },
		{ "{\"acme\":{\"models\":{\"x\":{},\"x\":{}}}}", "this is no model catalog" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct catalog *c = NULL;
		struct err e = { 0 };

		assert_true(catalog_import(str_of(rows[i].text), vendors, NULL, NULL, &c, &e) < 0);
		assert_null(c);
		if (!strstr(e.msg, rows[i].words))
			fail_msg("%s: '%s' without '%s'", rows[i].text, e.msg, rows[i].words);
	}
}

static void
test_too_many(void **state)
{
	struct catalog *c = NULL;
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, CATALOG_TEXT_MAX + 100);
	buf_add_z(&b, "{\"acme\":{\"models\":{\"m\":{\"limit\":{\"context\":9}}");
	for (unsigned i = 0; i < CATALOG_MODELS_MAX; i++)
		buf_printf(&b, ",\"m%u\":{\"limit\":{\"context\":9}}", i);
	buf_add_z(&b, "}}}");
	assert_int_equal(catalog_import(buf_str(&b), vendors, NULL, NULL, &c, &e), ERR_LIMIT);
	while (b.n <= CATALOG_TEXT_MAX)
		buf_add_char(&b, ' ');
	assert_int_equal(catalog_import(buf_str(&b), vendors, NULL, NULL, &c, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "larger than 16 MiB"));
	assert_null(c);
	buf_fini(&b);
}

/* ---- the kept file ---- */

static void
test_kept_file(void **state)
{
	struct catalog *c = import(FULL, NULL), *again = NULL, *other;
	struct catalog_facts f, g;
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, MIB);
	catalog_write(c, "http://127.0.0.1/api.json", 1795000000000, &b);
	assert_int_equal(catalog_read(buf_str(&b), &again, &e), 0);
	catalog_facts(c, &f);
	catalog_facts(again, &g);
	assert_string_equal(f.digest, g.digest);
	assert_int_equal(g.models, 1);
	assert_string_equal(g.url, "http://127.0.0.1/api.json");
	assert_memory_equal(g.fetched_at, "2026-11-18", 10);
	assert_true(str_find(buf_str(&b), STR("\"env\"")) <
		    0); /* fields that nobody uses are not kept */
	assert_true(str_find(buf_str(&b), STR("1.25")) > 0);
	catalog_free(again);
	/* One digit of a price changes: the digest tells. */
	b.p[str_find(buf_str(&b), STR("1.25"))] = '0';
	other = NULL;
	assert_int_equal(catalog_read(buf_str(&b), &other, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.msg, "does not have the digest"));
	assert_int_equal(catalog_read(STR("{\"v\":2}"), &other, &e), ERR_CORRUPT);
	assert_int_equal(catalog_read(STR("{\"v\":1}"), &other, &e), ERR_CORRUPT);
	for (size_t n = 0; n < b.n - 1; n += 7)
		assert_int_equal(catalog_read(str_sub(buf_str(&b), 0, n), &other, &e), ERR_CORRUPT);
	assert_null(other);
	buf_fini(&b);
	catalog_free(c);
}

static void
changes(const struct catalog *from, const struct catalog *to, const char *want)
{
	struct buf b;
	struct json j;

	buf_init(&b, MIB);
	json_init(&j, &b);
	catalog_changes(from, to, &j);
	if (!str_is(buf_str(&b), want))
		fail_msg("got %s, want %s", buf_z(&b), want);
	buf_fini(&b);
}

static void
test_changes(void **state)
{
	struct catalog *a = import(
		"{\"acme\":{\"models\":{\"x\":{\"limit\":{\"context\":9},\"cost\":{\"input\":1,"
		"\"output\":0.5}},\"y\":{\"limit\":{\"context\":9}}}}}",
		NULL);
	struct catalog *b = import(
		"{\"acme\":{\"models\":{\"x\":{\"limit\":{\"context\":10},\"cost\":{\"input\":2.25,"
		"\"output\":0.5,\"cache_read\":0}},\"z\":{\"limit\":{\"context\":9}}}}}",
		NULL);

	changes(a, a, "[]");
	changes(NULL, NULL, "[]");
	changes(a, b,
		"[{\"model\":\"acme/x\",\"what\":\"context\",\"from\":9,\"to\":10},"
		"{\"model\":\"acme/x\",\"what\":\"input price\",\"from\":1,\"to\":2.25},"
		"{\"model\":\"acme/x\",\"what\":\"cached price\",\"to\":0},"
		"{\"model\":\"acme/z\",\"what\":\"new\"},{\"model\":\"acme/"
		"y\",\"what\":\"gone\"}]");
	catalog_free(a);
	catalog_free(b);
}

/* The snapshot reads back as what it is: its form on disk loses nothing that a call needs. */
static void
test_snapshot(void **state)
{
	struct catalog_facts f, again;

	catalog_facts(NULL, &f);
	catalog_facts(NULL, &again);
	assert_true(f.models > 40);
	assert_string_equal(f.digest, again.digest);
	assert_int_equal(strlen(f.digest), 64);
}

static void
test_url(void **state)
{
	struct str base, path;
	struct err e = { 0 };

	assert_int_equal(
		catalog_url_split(STR("https://models.dev/api.json"), &base, &path, &e), 0);
	assert_true(str_is(base, "https://models.dev") && str_is(path, "/api.json"));
	assert_int_equal(catalog_url_split(STR("http://[::1]:8/a/b?c=/d"), &base, &path, &e), 0);
	assert_true(str_is(base, "http://[::1]:8") && str_is(path, "/a/b?c=/d"));
	assert_int_equal(
		catalog_url_split(STR("https://models.dev"), &base, &path, &e), ERR_CONFIG);
	assert_int_equal(
		catalog_url_split(STR("models.dev/api.json"), &base, &path, &e), ERR_CONFIG);
	assert_int_equal(catalog_url_split(STR("https:///api.json"), &base, &path, &e), ERR_CONFIG);
}

/* A configuration that a workspace narrowed sees the catalog that came after it. */
static void
test_shared_with_narrowed(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(NULL, NULL), *narrowed = NULL;
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(
		config_narrow(c, "x", STR("limits: {turn_steps: 5}"), NULL, NULL, &narrowed, &e),
		0);
	config_attach(c, import(FULL, NULL), catalog_free);
	assert_int_equal(model_resolve(narrowed, STR("test/m-1"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_FETCHED);
	config_unref(c);
	assert_int_equal(model_resolve(narrowed, STR("test/m-1"), a, &m, &e), 0);
	assert_int_equal(m.source, CATALOG_FETCHED);
	config_unref(narrowed);
	arena_free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_known_fields),
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_unknown_models),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_needs_responses),
		cmocka_unit_test(test_bad_rows),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_kept_file),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_shared_with_narrowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
