/* SPDX-License-Identifier: MIT
 * However a server is written down, its requests go to the same place. */
#include "streams.h"

static const struct {
	const char *api, *written, *want;
} rows[] = {
	{ "openai-chat", "https://api.openai.com/v1", "https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/v1/", "https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/v1//", "https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com", "https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/", "https://api.openai.com/v1" },
	{ "openai-chat", " https://api.openai.com ", "https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/v1/chat/completions",
		"https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/v1/chat/completions/",
		"https://api.openai.com/v1" },
	{ "openai-chat", "https://api.openai.com/v1/models", "https://api.openai.com/v1" },
	{ "openai-chat", "https://x.example/chat/completions", "https://x.example" },
	{ "openai-chat", "https://x.example/api/v4", "https://x.example/api/v4" },
	{ "openai-chat", "https://x.example/api", "https://x.example/api/v1" },
	{ "openai-chat", "https://x.example/v1beta/openai/", "https://x.example/v1beta/openai" },
	{ "openai-chat", "https://x.example/vision", "https://x.example/vision/v1" },
	{ "openai-chat", "http://127.0.0.1:8080", "http://127.0.0.1:8080/v1" },
	{ "openai-chat", "http://[::1]:8080/v1", "http://[::1]:8080/v1" },
	{ "openai-chat", "https://v1.example", "https://v1.example/v1" },
	{ "openai-chat", "https://x.example/?a=b", "https://x.example/?a=b" },
	{ "openai-chat", "", "" },
	{ "openai-responses", "https://api.openai.com/v1/responses", "https://api.openai.com/v1" },
	{ "openai-responses", "http://127.0.0.1:1234", "http://127.0.0.1:1234/v1" },
	{ "anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1" },
	{ "anthropic", "https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1" },
	{ "anthropic", "https://x.example/anthropic", "https://x.example/anthropic/v1" },
	{ "gemini", "https://g.example", "https://g.example/v1beta" },
	{ "gemini", "https://g.example/v1beta/", "https://g.example/v1beta" },
	{ "gemini", "https://g.example/v1", "https://g.example/v1" },
	{ "gemini", "https://g.example/v1beta/models/m:streamGenerateContent?alt=sse",
		"https://g.example/v1beta" },
	{ "gemini", "https://g.example/v1beta/models/m:generateContent",
		"https://g.example/v1beta" },
	{ "ollama", "http://127.0.0.1:11434", "http://127.0.0.1:11434" },
	{ "ollama", "http://127.0.0.1:11434/", "http://127.0.0.1:11434" },
	{ "ollama", "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434" },
	{ "ollama", "http://127.0.0.1:11434/v1/chat/completions", "http://127.0.0.1:11434" },
	{ "ollama", "http://127.0.0.1:11434/api", "http://127.0.0.1:11434" },
	{ "ollama", "http://127.0.0.1:11434/api/chat", "http://127.0.0.1:11434" },
	{ "ollama", "http://api", "http://api" },
	{ "ollama", "https://x.example/ollama/api", "https://x.example/ollama" },
};

static void
test_table(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct provider_api *api = provider_api_find(str_of(rows[i].api));
		struct arena *a = arena_new(64 * KIB);
		struct str once = provider_base_url(api, str_of(rows[i].written), a);

		if (!str_is(once, rows[i].want))
			fail_msg("%s: '%s' gives '%.*s'", rows[i].api, rows[i].written,
				STR_FMT(once));
		/* what was put right stays as it is */
		if (str_find(once, STR("v1")) >= 0 || !api->version)
			assert_true(str_eq(provider_base_url(api, once, a), once));
		arena_free(a);
	}
}

static void
test_own_servers(void **state)
{
	for (size_t i = 0; provider_apis[i]; i++) {
		struct arena *a = arena_new(64 * KIB);

		if (provider_apis[i]->base_url)
			assert_true(str_is(provider_base_url(provider_apis[i],
						   str_of(provider_apis[i]->base_url), a),
				provider_apis[i]->base_url));
		arena_free(a);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_own_servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
