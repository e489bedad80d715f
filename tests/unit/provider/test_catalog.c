/* SPDX-License-Identifier: MIT
 * From a model's name to its API, sizes and prices, with real configuration; and what calls cost.
 */
#include "streams.h"

static struct config *
load(const char *const *flags)
{
	struct config_sources src = {
		.system_file = "/nonexistent", .home_file = "/nonexistent", .flags = flags
	};
	struct config *c = NULL;
	struct err e = { 0 };

	if (config_load(&src, &c, &e) != 0)
		fail_msg("%s", e.msg);
	return c;
}

static const char *const own[] = {
	"providers.local={api: openai-chat, base_url: 'http://127.0.0.1:1/v1/', idle_ms: 5, "
	"retries: 1}",
	"providers.test={api: anthropic, base_url: 'http://127.0.0.1:2/v1', api_key_env: TEST_KEY}",
	"providers.claude={api: anthropic}",
	"catalog.models={test/x: {input_usd_per_mtok: 3, output_usd_per_mtok: '15.5', context: "
	"200000}, "
	"anthropic/claude-opus-5: {output_usd_per_mtok: 20}, openai/new: {input_usd_per_mtok: 1, "
	"max_output: 7}, anthropic/claude-haiku-5-5: {input_usd_per_mtok: 2, "
	"output_usd_per_mtok: 10}}",
	NULL,
};

static int
resolve(const char *name, struct arena *a, struct model_info *m, struct err *e)
{
	struct config *c = load(own);
	int rc = model_resolve(c, str_of(name), a, m, e);

	config_unref(c);
	return rc;
}

static void
test_catalog_model(void **state)
{
	struct arena *a = arena_new(MIB);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(resolve("anthropic/claude-sonnet-4-5", a, &m, &e), 0);
	assert_true(str_is(m.provider, "anthropic"));
	assert_true(str_is(m.model, "claude-sonnet-4-5"));
	assert_string_equal(m.api->name, "anthropic");
	assert_true(m.is_own_server);
	assert_int_equal(m.context_tokens, 200000);
	assert_int_equal(m.max_output_tokens, 64000);
	assert_int_equal(m.input_microusd_per_mtok, 3000000);
	assert_int_equal(m.output_microusd_per_mtok, 15000000);
	assert_int_equal(m.cached_microusd_per_mtok, 300000);
	assert_int_equal(m.cache_write_microusd_per_mtok, 3750000);
	assert_int_equal(m.connect_ms, 10000);
	assert_int_equal(m.idle_ms, 120000);
	assert_int_equal(m.retries, 4);
	assert_int_equal(resolve("anthropic/claude-sonnet-4-5-20250929", a, &m, &e), 0);
	assert_true(str_is(m.model, "claude-sonnet-4-5-20250929"));
	assert_int_equal(m.context_tokens, 200000);
	assert_int_equal(resolve("openai/gpt-5-2025-08-07", a, &m, &e), 0);
	assert_int_equal(m.input_microusd_per_mtok, 1250000);
	assert_int_equal(resolve("claude/claude-haiku-4-5", a, &m, &e),
		0); /* another name, the vendor's server */
	assert_int_equal(m.input_microusd_per_mtok, 1000000);
	arena_free(a);
}

static void
test_own_server(void **state)
{
	struct arena *a = arena_new(MIB);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(resolve("local/qwen/qwen3:8b", a, &m, &e), 0);
	assert_true(str_is(m.model, "qwen/qwen3:8b"));
	assert_false(m.is_own_server);
	assert_int_equal(m.input_microusd_per_mtok, 0);
	assert_int_equal(m.max_output_tokens, 0);
	assert_true(m.context_tokens > 0);
	assert_int_equal(m.idle_ms, 5);
	assert_int_equal(m.retries, 1);
	assert_int_equal(resolve("test/x", a, &m, &e), 0);
	assert_int_equal(m.input_microusd_per_mtok, 3000000);
	assert_int_equal(m.output_microusd_per_mtok, 15500000);
	assert_int_equal(m.cached_microusd_per_mtok, 3000000);
	assert_int_equal(m.context_tokens, 200000);
	assert_int_equal(resolve("test/claude-opus-5", a, &m, &e),
		0); /* sizes are known, prices are the server's */
	assert_int_equal(m.context_tokens, 1000000);
	assert_int_equal(m.input_microusd_per_mtok, 0);
	arena_free(a);
}

static void
test_overrides(void **state)
{
	struct arena *a = arena_new(MIB);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(resolve("anthropic/claude-opus-5", a, &m, &e), 0);
	assert_int_equal(m.input_microusd_per_mtok, 5000000);
	assert_int_equal(m.output_microusd_per_mtok, 20000000);
	assert_int_equal(resolve("openai/new", a, &m, &e), 0);
	assert_int_equal(m.max_output_tokens, 7);
	assert_int_equal(m.input_microusd_per_mtok, 1000000);
	assert_int_equal(resolve("offline/demo", a, &m, &e), 0);
	assert_string_equal(m.api->name, "offline");
	assert_null(m.api->build);
	assert_null(m.api->event);
	arena_free(a);
}

/* A price of input alone: what costs more than input still does. */
static void
test_surcharges_stay(void **state)
{
	struct arena *a = arena_new(MIB);
	struct model_info m;
	struct err e = { 0 };

	assert_int_equal(resolve("anthropic/claude-haiku-5-5", a, &m, &e), 0);
	assert_int_equal(m.input_microusd_per_mtok, 2000000);
	assert_int_equal(m.cached_microusd_per_mtok, 2000000);
	assert_int_equal(m.cache_write_microusd_per_mtok, 2500000);
	assert_int_equal(m.long_tokens, 100000);
	assert_int_equal(m.long_input_percent, 500);
	assert_int_equal(resolve("test/x", a, &m, &e), 0); /* nothing is known but its API */
	assert_int_equal(m.cache_write_microusd_per_mtok, 3750000);
	assert_int_equal(resolve("openai/new", a, &m, &e), 0);
	assert_int_equal(m.cache_write_microusd_per_mtok, 1000000);
	arena_free(a);
}

static void
check_error(const char *name, const char *words)
{
	struct arena *a = arena_new(MIB);
	struct model_info m = { .retries = 77 };
	struct err e = { 0 };

	assert_int_equal(resolve(name, a, &m, &e), ERR_CONFIG);
	if (!strstr(e.msg, words))
		fail_msg("'%s' does not have '%s'", e.msg, words);
	assert_int_equal(m.retries, 77);
	arena_free(a);
}

static void
test_errors(void **state)
{
	check_error("anthropic/claude-sonet-4-5", "nearest: anthropic/claude-sonnet-4-5");
	check_error("anthropic/claude-opus-99-ultra", "nearest: anthropic/claude-opus");
	check_error("openai/zzz", "nearest: openai/gpt");
	check_error("claude/gpt-5", "provider claude has no model 'gpt-5'");
	check_error("antropic/claude-opus-5", "did you mean 'anthropic'?");
	check_error("nobody/x", "there is no provider 'nobody'");
	check_error("claude-opus-5", "expected provider/model");
	check_error("anthropic/", "expected provider/model");
	check_error("/x", "expected provider/model");
	check_error("", "expected provider/model");
}

static void
test_providers(void **state)
{
	struct arena *a = arena_new(MIB);
	struct config *c = load(own);
	struct provider_info p;
	struct err e = { 0 };

	assert_int_equal(provider_resolve(c, STR("anthropic"), a, &p, &e), 0);
	assert_string_equal(p.base_url.p, "https://api.anthropic.com/v1");
	assert_string_equal(p.key_env.p, "ANTHROPIC_API_KEY");
	assert_true(p.is_own_server);
	assert_int_equal(provider_resolve(c, STR("local"), a, &p, &e), 0);
	assert_string_equal(p.base_url.p, "http://127.0.0.1:1/v1");
	assert_int_equal(p.key_env.n, 0);
	assert_false(p.is_own_server);
	assert_int_equal(provider_resolve(c, STR("test"), a, &p, &e), 0);
	assert_string_equal(p.key_env.p, "TEST_KEY");
	assert_int_equal(provider_resolve(c, STR("offline"), a, &p, &e), 0);
	assert_int_equal(p.base_url.n, 0);
	config_unref(c);
	arena_free(a);
}

static void
test_cost(void **state)
{
	struct model_info m = { .input_microusd_per_mtok = 3000000,
		.output_microusd_per_mtok = 15000000,
		.cached_microusd_per_mtok = 300000,
		.cache_write_microusd_per_mtok = 3750000 };
	struct model_usage u = { .input_tokens = 100,
		.output_tokens = 20,
		.cached_tokens = 60,
		.cache_write_tokens = 10,
		.reasoning_tokens = 5 };

	/* 30 x 3 + 60 x 0.3 + 10 x 3.75 (rounded up) + 20 x 15 */
	assert_int_equal(model_cost(&m, &u), 90 + 18 + 38 + 300);
	u = (struct model_usage){ .input_tokens = 1 };
	m.input_microusd_per_mtok = 1;
	assert_int_equal(model_cost(&m, &u), 1); /* never nothing for something */
	m.input_microusd_per_mtok = 0;
	assert_int_equal(model_cost(&m, &u), 0);
	u = (struct model_usage){
		.input_tokens = 10, .cached_tokens = 50, .cache_write_tokens = 50
	};
	assert_int_equal(model_cost(&m, &u), 3); /* a server that counts its cache twice */
	u = (struct model_usage){ .input_tokens = USAGE_TOKENS_MAX,
		.output_tokens = USAGE_TOKENS_MAX };
	m.input_microusd_per_mtok = m.output_microusd_per_mtok = INT64_MAX;
	assert_true(model_cost(&m, &u) > 0);
}

static void
test_long_prompts(void **state)
{
	struct model_info m = { .input_microusd_per_mtok = 1000000,
		.output_microusd_per_mtok = 2000000,
		.long_tokens = 100,
		.long_input_percent = 200,
		.long_output_percent = 150 };
	struct model_usage u = { .input_tokens = 100, .output_tokens = 10 };

	assert_int_equal(model_cost(&m, &u), 100 + 20);
	u.input_tokens = 101;
	assert_int_equal(model_cost(&m, &u), 202 + 30);
}

static void
test_bound(void **state)
{
	struct model_info m = { .input_microusd_per_mtok = 1000000,
		.cache_write_microusd_per_mtok = 2000000,
		.output_microusd_per_mtok = 10000000,
		.max_output_tokens = 100,
		.context_tokens = 1000 };

	assert_int_equal(model_cost_bound(&m, model_tokens_bound(0)), 1000);
	assert_int_equal(model_cost_bound(&m, model_tokens_bound(1)), 2 + 1000);
	assert_int_equal(model_cost_bound(&m, model_tokens_bound(30)), 20 + 1000);
	m.max_output_tokens = 0; /* not known: it cannot be longer than the window */
	assert_int_equal(model_cost_bound(&m, model_tokens_bound(0)), 10000);
	assert_true(model_cost_bound(&m, model_tokens_bound(SIZE_MAX)) > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_catalog_model),
		cmocka_unit_test(test_own_server),
		cmocka_unit_test(test_overrides),
		cmocka_unit_test(test_surcharges_stay),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_providers),
		cmocka_unit_test(test_cost),
		cmocka_unit_test(test_long_prompts),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
