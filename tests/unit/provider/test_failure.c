/* SPDX-License-Identifier: MIT
 * What errors mean: kind, retry, delay and words, from recorded answers of both vendors and of
 * proxies. */
#include "streams.h"

#include "base/clock.h"

static void
check(int status, const char *headers, const char *body, enum failure_kind kind, bool may_retry,
	int64_t after_ms, const char *words)
{
	struct failure f;

	failure_from_http(provider_api_find(STR("anthropic")), "acme", status, str_of(headers),
		str_of(body), 1700000000000, &f);
	assert_string_equal(failure_kind_name(f.kind), failure_kind_name(kind));
	assert_int_equal(f.may_retry, may_retry);
	assert_int_equal(f.after_ms, after_ms);
	if (!strstr(f.e.msg, words))
		fail_msg("'%s' does not have '%s'", f.e.msg, words);
	assert_true(strncmp(f.e.msg, "acme: HTTP ", 11) == 0);
	assert_int_equal(f.e.to, ERR_TO_USER);
	assert_true(f.e.code < 0);
}

#define GEM(status, text, details)                                                                 \
	"{\"error\":{\"code\":0,\"message\":\"" text "\",\"status\":\"" status                     \
	"\",\"details\":[" details "]}}"
#define ANT(type, text)                                                                            \
	"{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" text "\"}}"
#define OAI(type, code, text)                                                                      \
	"{\"error\":{\"message\":\"" text "\",\"type\":\"" type                                    \
	"\",\"param\":null,\"code\":\"" code "\"}}"

static void
test_kinds(void **state)
{
	check(401, "", ANT("authentication_error", "invalid x-api-key"), FAIL_AUTH, false, -1,
		"401 authentication_error: invalid x-api-key (check the key of providers.acme; "
		"docs/secrets.md names all places that it may come from)");
	check(401, "", OAI("invalid_request_error", "invalid_api_key", "Incorrect API key"),
		FAIL_AUTH, false, -1, "401 invalid_api_key: Incorrect API key");
	check(403, "", ANT("permission_error", "no"), FAIL_AUTH, false, -1, "403");
	check(404, "", ANT("not_found_error", "model: x"), FAIL_REQUEST, false, -1,
		"providers.acme.base_url");
	check(400, "", ANT("invalid_request_error", "messages: empty"), FAIL_REQUEST, false, -1,
		"messages: empty");
	check(429, "", ANT("rate_limit_error", "slow"), FAIL_RATE, true, -1,
		"429 rate_limit_error: slow");
	check(529, "", ANT("overloaded_error", "Overloaded"), FAIL_OVERLOAD, true, -1,
		"529 overloaded_error");
	check(500, "", ANT("api_error", "oops"), FAIL_OVERLOAD, true, -1, "500");
	check(503, "", "", FAIL_OVERLOAD, true, -1, "HTTP 503");
	check(408, "", "", FAIL_OVERLOAD, true, -1, "HTTP 408");
	check(409, "", ANT("conflict_error", "x"), FAIL_OVERLOAD, true, -1, "HTTP 409");
	check(302, "", "", FAIL_PROTOCOL, false, -1, "HTTP 302");
}

static void
test_words_outrank_the_status(void **state)
{
	check(429, "retry-after: 5\n",
		OAI("insufficient_quota", "insufficient_quota", "You exceeded"), FAIL_QUOTA, false,
		5000, "plan and balance");
	check(400, "", ANT("invalid_request_error", "Your credit balance is too low"), FAIL_QUOTA,
		false, -1, "credit");
	check(402, "", ANT("billing_error", "pay"), FAIL_QUOTA, false, -1, "402");
	check(400, "",
		ANT("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
		FAIL_CONTEXT, false, -1, "start a new session");
	check(400, "", OAI("invalid_request_error", "context_length_exceeded", "maximum context"),
		FAIL_CONTEXT, false, -1, "context_length_exceeded");
	check(413, "", ANT("request_too_large", "Request exceeds the maximum size"), FAIL_CONTEXT,
		false, -1, "413");
	check(200, "", ANT("overloaded_error", "Overloaded"), FAIL_OVERLOAD, true, -1,
		"overloaded_error");
}

/* Names and words of four vendors and of servers that imitate them. */
static void
test_vendors(void **state)
{
	static const struct {
		int status;
		const char *body;
		enum failure_kind kind;
		bool may_retry;
	} rows[] = {
		{ 400, OAI("invalid_request_error", "content_policy_violation", "x"), FAIL_CONTENT,
			false },
		{ 400, OAI("invalid_request_error", "invalid_prompt", "x"), FAIL_CONTENT, false },
		{ 400, OAI("x", "content_filter", "The response was filtered"), FAIL_CONTENT,
			false },
		{ 400, OAI("invalid_request_error", "model_not_found", "no"), FAIL_REQUEST, false },
		{ 429, OAI("tokens", "rate_limit_exceeded", "Limit 30000"), FAIL_RATE, true },
		{ 429,
			OAI("tokens", "rate_limit_exceeded",
				"Request too large for m on tokens per min (TPM): Limit 10, "
				"Requested 20"),
			FAIL_CONTEXT, false },
		{ 503, OAI("x", "slow_down", "Slow down"), FAIL_OVERLOAD, true },
		{ 401, OAI("x", "account_deactivated", "gone"), FAIL_AUTH, false },
		{ 422, OAI("invalid_request_error", "x", "no"), FAIL_REQUEST, false },
		{ 425, "", FAIL_REQUEST, false },
		{ 418, "", FAIL_REQUEST, false },
		{ 400, ANT("invalid_request_error", "Output blocked by content filtering policy"),
			FAIL_CONTENT, false },
		{ 504, ANT("timeout_error", "x"), FAIL_OVERLOAD, true },
		{ 404, ANT("not_found_error", "x"), FAIL_REQUEST, false },
		{ 400,
			GEM("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
				""),
			FAIL_AUTH, false },
		{ 400, GEM("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum", ""),
			FAIL_CONTEXT, false },
		{ 400, GEM("FAILED_PRECONDITION", "User location is not supported", ""),
			FAIL_REQUEST, false },
		{ 403, GEM("PERMISSION_DENIED", "x", ""), FAIL_AUTH, false },
		{ 503, GEM("UNAVAILABLE", "The model is overloaded.", ""), FAIL_OVERLOAD, true },
		{ 500, GEM("INTERNAL", "x", ""), FAIL_OVERLOAD, true },
		{ 504, GEM("DEADLINE_EXCEEDED", "x", ""), FAIL_OVERLOAD, true },
		{ 429,
			GEM("RESOURCE_EXHAUSTED",
				"You exceeded your current quota, please check your plan and "
				"billing",
				""),
			FAIL_RATE, true },
		{ 429,
			GEM("RESOURCE_EXHAUSTED", "You exceeded your current quota",
				"{\"violations\":[{\"quotaId\":"
				"\"GenerateRequestsPerDayPerProject\"}]}"),
			FAIL_QUOTA, false },
		{ 429, GEM("RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", ""),
			FAIL_QUOTA, false },
		{ 400,
			"{\"error\":{\"code\":400,\"type\":\"exceed_context_size_error\","
			"\"message\":\"x\"}}",
			FAIL_CONTEXT, false },
		{ 400, "{\"error\":\"the request exceeds the available context size\"}",
			FAIL_CONTEXT, false },
		{ 404, "{\"error\":\"model 'x' not found\"}", FAIL_REQUEST, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check(rows[i].status, "", rows[i].body, rows[i].kind, rows[i].may_retry, -1, "");
}

#define RETRY(delay)                                                                               \
	GEM("RESOURCE_EXHAUSTED", "x",                                                             \
		"{\"@type\":\"type.googleapis.com/google.rpc.Help\"},{\"@type\":"                  \
		"\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"" delay "\"}")

static void
test_other_delays(void **state)
{
	check(429, "", RETRY("34s"), FAIL_RATE, true, 34000, "");
	check(429, "", RETRY("34.074824224s"), FAIL_RATE, true, 34074, "");
	check(429, "", "[" RETRY("0.5s") "]", FAIL_RATE, true, 500, "");
	check(429, "", RETRY("soon"), FAIL_RATE, true, -1, "");
	check(429, "retry-after: 2\n", RETRY("34s"), FAIL_RATE, true, 2000, "");
	/* the limit of which nothing is left */
	check(429,
		"x-ratelimit-remaining-requests: 10\nx-ratelimit-reset-requests: 6m0s\n"
		"x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 1.5s\n",
		"", FAIL_RATE, true, 1500, "");
	check(429,
		"X-RateLimit-Remaining-Requests: 0\nX-RateLimit-Reset-Requests: 1m2s\n"
		"x-ratelimit-remaining-tokens: 5\nx-ratelimit-reset-tokens: 20ms\n",
		"", FAIL_RATE, true, 62000, "");
	check(429,
		"x-ratelimit-remaining-requests: 10\nx-ratelimit-reset-requests: 6m0s\n"
		"x-ratelimit-remaining-tokens: 7\nx-ratelimit-reset-tokens: 250ms\n",
		"", FAIL_RATE, true, 250, "");
	check(429, "x-ratelimit-reset-requests: 1h\n", "", FAIL_RATE, true, RETRY_AFTER_MAX_MS, "");
	check(429, "x-ratelimit-reset-tokens: 12us\n", "", FAIL_RATE, true, 0, "");
	check(429, "x-ratelimit-reset-tokens: 1.5\n", "", FAIL_RATE, true, -1, "");
	check(429, "x-ratelimit-reset-tokens: s\n", "", FAIL_RATE, true, -1, "");
	/* now is 2023-11-14T22:13:20Z */
	check(429,
		"anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: "
		"2023-11-14T22:13:50Z\n",
		"", FAIL_RATE, true, 30000, "");
	check(429, "anthropic-ratelimit-requests-reset: 2023-11-14T23:13:21.5+01:00\n", "",
		FAIL_RATE, true, 1000, "");
	check(429, "anthropic-ratelimit-requests-reset: 2023-11-14T20:13:22-02:00\n", "", FAIL_RATE,
		true, 2000, "");
	check(429, "anthropic-ratelimit-requests-reset: 2023-11-14T20:13:22\n", "", FAIL_RATE, true,
		-1, "");
	check(429, "anthropic-ratelimit-requests-reset: tomorrow\n", "", FAIL_RATE, true, -1, "");
	/* limits are told with every answer: only a refusal is about them */
	check(503, "x-ratelimit-reset-tokens: 30s\n", "", FAIL_OVERLOAD, true, -1, "");
}

static void
test_header_wins(void **state)
{
	check(500, "x-should-retry: false\n", "", FAIL_OVERLOAD, false, -1, "");
	check(400, "X-Should-Retry: true\n", "", FAIL_REQUEST, true, -1, "");
	check(429, "x-should-retry: true\n", OAI("x", "insufficient_quota", "y"), FAIL_QUOTA, false,
		-1, "");
}

static void
test_retry_after(void **state)
{
	check(429, "retry-after: 7\n", "", FAIL_RATE, true, 7000, "");
	check(429, "Retry-After: 0\n", "", FAIL_RATE, true, 0, "");
	check(429, "retry-after: 1.5\n", "", FAIL_RATE, true, 1500, "");
	check(429, "a: b\nretry-after-ms: 250.9\nretry-after: 7\n", "", FAIL_RATE, true, 250, "");
	check(429, "retry-after-ms: x\nretry-after: 7\n", "", FAIL_RATE, true, 7000, "");
	check(429, "retry-after: 99999999999\n", "", FAIL_RATE, true, RETRY_AFTER_MAX_MS, "");
	check(429, "retry-after: -3\n", "", FAIL_RATE, true, -1, "");
	check(429, "retry-after: soon\n", "", FAIL_RATE, true, -1, "");
	/* now is Tue, 14 Nov 2023 22:13:20 GMT */
	check(429, "retry-after: Tue, 14 Nov 2023 22:13:30 GMT\n", "", FAIL_RATE, true, 10000, "");
	check(429, "retry-after: Tuesday, 14-Nov-23 22:13:25 GMT\n", "", FAIL_RATE, true, 5000, "");
	check(429, "retry-after: Tue Nov 14 22:13:21 2023\n", "", FAIL_RATE, true, 1000, "");
	/* by a clock that is ahead of the server's: no reason to ask at once, again and again */
	check(429, "retry-after: Mon, 13 Nov 2023 22:13:30 GMT\n", "", FAIL_RATE, true, -1, "");
	check(429, "anthropic-ratelimit-requests-reset: 2023-11-14T22:13:19Z\n", "", FAIL_RATE,
		true, -1, "");
	check(429, "retry-after: 0\n", "", FAIL_RATE, true, 0, "");
	check(429, "retry-after: Wed, 14 Nov 2029 22:13:30 GMT\n", "", FAIL_RATE, true,
		RETRY_AFTER_MAX_MS, "");
}

static void
test_bodies(void **state)
{
	check(502, "", "<html>\x1b[2Jbad\ngateway", FAIL_OVERLOAD, true, -1,
		"<html>\\x1b[2Jbad\\ngateway");
	check(500, "", "{\"error\":\"plain words\"}", FAIL_OVERLOAD, true, -1, "plain words");
	check(500, "", "{\"detail\":\"fast api\"}", FAIL_OVERLOAD, true, -1, "fast api");
	check(500, "", "[{\"error\":{\"message\":\"in a list\"}}]", FAIL_OVERLOAD, true, -1,
		"in a list");
	check(500, "", "\"just a string\"", FAIL_OVERLOAD, true, -1, "just a string");
	check(500, "", "\xff\xfe", FAIL_OVERLOAD, true, -1, "HTTP 500");
}

static void
test_long_words_are_cut(void **state)
{
	char body[5000];
	struct failure f;

	for (size_t i = 0; i + 2 < sizeof(body); i += 2)
		memcpy(body + i, "\xC3\xA9", 2);
	failure_from_http(
		NULL, "acme", 400, STR(""), (struct str){ body, sizeof(body) - 2 }, 0, &f);
	assert_non_null(strstr(f.e.msg, "(check the model's name and providers.acme.base_url)"));
}

static void
test_words_are_cut_between_words(void **state)
{
	static const char said[] =
		"{\"error\":{\"message\":\"The quick brown fox jumps over the lazy dog and then "
		"over the next lazy dog and over the thirdverylonganimal and so on until the end "
		"of the "
		"day\"}}";
	struct failure f;

	failure_from_http(NULL, "acme", 400, STR(""), str_of(said), 0, &f);
	assert_non_null(strstr(f.e.msg, " over the... (check"));
}

/* One advice, that of who knew more. */
static void
test_one_advice(void **state)
{
	static const struct {
		int code;
		const char *said, *told;
	} rows[] = {
		{ ERR_NET,
			"provider acme at https://127.0.0.1:1: there are no certificates of "
			"authorities here (install the package ca-certificates)",
			"acme: provider acme at https://127.0.0.1:1: there are no certificates of "
			"authorities here (install the package ca-certificates)" },
		{ ERR_PROTO, "it begins with: x (does base_url belong to a server with it?)",
			"acme: it begins with: x (does base_url belong to a server with it?)" },
		{ ERR_NET, "the stream was cut",
			"acme: the stream was cut (check the network and "
			"providers.acme.base_url)" },
		{ ERR_PROVIDER, "overloaded_error: later (really)",
			"acme: overloaded_error: later (really) (try again later, or set "
			"models.fallback)" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e;
		struct failure f;

		err_set(&e, rows[i].code, ERR_TO_USER, "%s", rows[i].said);
		failure_from_err(NULL, "acme", &e, &f);
		assert_string_equal(f.e.msg, rows[i].told);
	}
}

static void
test_from_err(void **state)
{
	static const struct {
		int code;
		const char *msg;
		enum failure_kind kind;
		bool may_retry;
	} rows[] = {
		{ ERR_NET, "cut", FAIL_NETWORK, true },
		{ ERR_TIMEOUT, "silent", FAIL_NETWORK, true },
		{ ERR_GONE, "broker restarted", FAIL_NETWORK, true },
		{ ERR_PROTO, "not JSON", FAIL_PROTOCOL, true },
		{ ERR_PROVIDER, "overloaded_error: Overloaded", FAIL_OVERLOAD, true },
		{ ERR_PROVIDER, "rate_limit_error: slow", FAIL_RATE, true },
		{ ERR_PROVIDER, "insufficient_quota: pay", FAIL_QUOTA, false },
		{ ERR_PROVIDER, "odd: x", FAIL_PROTOCOL, true },
		{ ERR_PROVIDER, "UNAVAILABLE: x", FAIL_OVERLOAD, true },
		{ ERR_PROVIDER, "MALFORMED_FUNCTION_CALL: x", FAIL_PROTOCOL, true },
		{ ERR_PROVIDER, "content_filter: x", FAIL_CONTENT, false },
		{ ERR_PROVIDER, "server_error: x", FAIL_OVERLOAD, true },
		{ ERR_AUTH, "no key: set ACME_KEY", FAIL_AUTH, false },
		{ ERR_LIMIT, "too large", FAIL_REQUEST, false },
		{ ERR_DENIED, "address", FAIL_REQUEST, false },
		{ ERR_CANCELLED, "cancelled", FAIL_REQUEST, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e;
		struct failure f;

		err_set(&e, rows[i].code, ERR_TO_USER, "%s", rows[i].msg);
		failure_from_err(NULL, "acme", &e, &f);
		assert_int_equal(f.kind, rows[i].kind);
		assert_int_equal(f.may_retry, rows[i].may_retry);
		assert_int_equal(f.after_ms, -1);
		assert_int_equal(f.e.code, rows[i].code);
		assert_true(strncmp(f.e.msg, "acme: ", 6) == 0);
		assert_non_null(strstr(f.e.msg, rows[i].msg));
	}
}

static void
test_offline_steps(void **state)
{
	struct offline_step error = {
		.type = OFFLINE_ERROR, .status = 429, .text = STR("slow"), .ms = 2000
	};
	struct offline_step cut = { .type = OFFLINE_CUT };
	struct failure f;

	failure_from_offline("offline", &error, &f);
	assert_int_equal(f.kind, FAIL_RATE);
	assert_int_equal(f.after_ms, 2000);
	assert_non_null(strstr(f.e.msg, "HTTP 429: slow"));
	failure_from_offline("offline", &cut, &f);
	assert_int_equal(f.kind, FAIL_NETWORK);
	assert_true(f.may_retry);
}

static void
test_delays(void **state)
{
	struct failure f = { .after_ms = -1 };

	assert_int_equal(retry_delay_ms(&f, 1, 0), 500);
	assert_int_equal(retry_delay_ms(&f, 2, 0), 1000);
	assert_int_equal(retry_delay_ms(&f, 5, 0), 8000);
	assert_int_equal(retry_delay_ms(&f, 1000000, 0), 8000);
	assert_int_equal(retry_delay_ms(&f, 1, 0.5), 438);
	assert_int_equal(retry_delay_ms(&f, 1, 1.0), 375);
	f.after_ms = 0;
	assert_int_equal(retry_delay_ms(&f, 3, 0.5), 0);
	f.after_ms = 7000;
	assert_int_equal(retry_delay_ms(&f, 3, 0.5), 7000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_words_outrank_the_status),
		cmocka_unit_test(test_vendors),
		cmocka_unit_test(test_other_delays),
		cmocka_unit_test(test_header_wins),
		cmocka_unit_test(test_retry_after),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_long_words_are_cut),
		cmocka_unit_test(test_words_are_cut_between_words),
		cmocka_unit_test(test_one_advice),
		cmocka_unit_test(test_from_err),
		cmocka_unit_test(test_offline_steps),
		cmocka_unit_test(test_delays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
