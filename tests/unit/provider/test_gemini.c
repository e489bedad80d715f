/* SPDX-License-Identifier: MIT
 * The Gemini API: streams and requests. */
#include "streams.h"

#define EV(json)     "data: " json "\r\n\r\n"
#define PARTS(parts) "\"content\":{\"role\":\"model\",\"parts\":[" parts "]}"
#define CAND(parts)  EV("{\"candidates\":[{" PARTS(parts) ",\"index\":0}],\"modelVersion\":\"m\"}")
#define LAST(parts, why)                                                                           \
	EV("{\"candidates\":[{" PARTS(parts) ",\"finishReason\":\"" why                            \
					     "\",\"index\":0}],\"usageMetadata\":" COUNTS          \
					     ",\"responseId\":\"r\"}")
#define COUNTS                                                                                     \
	"{\"promptTokenCount\":90,\"toolUsePromptTokenCount\":10,\"cachedContentTokenCount\":60,"  \
	"\"candidatesTokenCount\":18,\"thoughtsTokenCount\":7,\"totalTokenCount\":125}"
#define TEXT(s)  "{\"text\":\"" s "\"}"
#define USAGE    " in=100 out=25 cached=60 written=0 reasoning=7"
#define NO_USAGE " in=0 out=0 cached=0 written=0 reasoning=0"

static const struct provider_api *
api(void)
{
	return provider_api_find(STR("gemini"));
}

static void
test_text(void **state)
{
	expect_answer(api(),
		STR(CAND(TEXT("H\xC3\xA9")) CAND(TEXT("y \xF0\x9F\x98\x80"))
				LAST(TEXT("!"), "STOP")),
		"text[H\xC3\xA9y \xF0\x9F\x98\x80!] end" USAGE,
		"T(H\xC3\xA9)T(y \xF0\x9F\x98\x80)T(!)");
}

static void
test_thoughts_and_signatures(void **state)
{
	expect_answer(api(),
		STR(CAND("{\"text\":\"hm\",\"thought\":true}") CAND("{\"text\":\"..\",\"thought\":"
								    "true}") CAND(
			"{\"text\":\"T\",\"thought\":true,\"thoughtSignature\":\"S0\"}")
				CAND(TEXT("a")) CAND("{\"text\":\"b\",\"thoughtSignature\":"
						     "\"S1\"}") CAND(TEXT("c")) CAND(TEXT("d"))
					LAST("{\"text\":\"\",\"thoughtSignature\":"
					     "\"S2==\"}",
						"STOP")),
		"reasoning[hm..|] reasoning[T|S0] text[a] text[b] signed[S1] text[cd] text[] "
		"signed[S2==] end" USAGE,
		"R(hm)R(..)R(T)T(a)T(b)T(c)T(d)");
}

static void
test_calls(void **state)
{
	expect_answer(api(),
		STR(CAND(TEXT(
			"ok") ",{\"functionCall\":{\"name\":\"read\",\"args\":{\"a\":1.50}},"
			      "\"thoughtSignature\":\"Sig\"},{\"functionCall\":{\"id\":\"f7\","
			      "\"name\":\"list\"}}") LAST("{\"functionCall\":{\"name\":\"grep\","
							  "\"args\":null}}",
			"STOP")),
		"text[ok] call[made read {\"a\":1.50}] signed[Sig] call[f7 list {}] id[f7] "
		"call[made grep {}] tools" USAGE,
		"T(ok)C(read)C(list)C(grep)");
	expect_answer(api(), STR(LAST("{\"functionCall\":{\"name\":\"x\"}}", "FUNCTION_CALL")),
		"call[made x {}] tools" USAGE, "C(x)");
}

static void
test_what_is_ignored(void **state)
{
	expect_answer(api(),
		STR(": keep-alive\n\n" CAND("{\"executableCode\":{\"code\":\"1\"}},{\"inlineData\":"
					    "{\"data\":\"AA==\"}},"
					    "{\"brandNew\":1}")
				EV("{\"candidates\":[{\"index\":1,\"finishReason\":\"STOP\"," PARTS(
					TEXT("other")) "}]}")
					EV("{\"usageMetadata\":{\"promptTokenCount\":1}}")
						LAST(TEXT("a"), "STOP")),
		"text[a] end" USAGE, "T(a)");
}

static void
test_stop_reasons(void **state)
{
	static const struct {
		const char *reason, *want;
	} rows[] = {
		{ "MAX_TOKENS", "length" },
		{ "SAFETY", "refused" },
		{ "RECITATION", "refused" },
		{ "PROHIBITED_CONTENT", "refused" },
		{ "SPII", "refused" },
		{ "OTHER", "other" },
		{ "BRAND_NEW", "other" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char stream[600], want[100];

		snprintf(stream, sizeof(stream), LAST(TEXT("x"), "%s"), rows[i].reason);
		snprintf(want, sizeof(want), "text[x] %s" USAGE, rows[i].want);
		expect_answer(api(), str_of(stream), want, "T(x)");
	}
	expect_answer(api(),
		STR(EV("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{"
		       "\"promptTokenCount\":3}}")),
		"refused in=3 out=0 cached=0 written=0 reasoning=0", "");
}

static void
test_errors(void **state)
{
	expect_error(api(),
		STR(CAND(TEXT("x")) EV("{\"error\":{\"code\":503,\"message\":\"The model is "
				       "overloaded.\",\"status\":\"UNAVAILABLE\"}}")),
		ERR_PROVIDER, "UNAVAILABLE: The model is overloaded.");
	expect_error(api(),
		STR(EV("{\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\","
		       "\"finishMessage\":\"Malformed: print(\"}]}")),
		ERR_PROVIDER, "MALFORMED_FUNCTION_CALL: Malformed: print(");
	expect_error(api(), STR(CAND("{\"functionCall\":7}")), ERR_PROTO, "functionCall: expected");
	expect_error(api(), STR(CAND("{\"text\":7}")), ERR_PROTO, "text: expected a string");
	expect_error(api(), STR(CAND("7")), ERR_PROTO, "not an object");
	expect_error(
		api(), STR(LAST("{\"functionCall\":{}}", "STOP")), ERR_PROTO, "without a name");
	expect_error(api(), STR(CAND(TEXT("\xE2\x28\xA1"))), ERR_PROTO, "invalid UTF-8");
	expect_error(api(), STR("data: [\n\n"), ERR_PROTO, "event 1 of the gemini stream");
	/* without alt=sse the answer is one list */
	expect_error(api(), STR("[{\"candidates\":[]}]"), ERR_PROTO, "not an event stream");
}

static void
test_cut(void **state)
{
	expect_cut_everywhere(api(),
		STR(CAND(TEXT("\xC3\xA9")) CAND("{\"functionCall\":{\"name\":\"x\"}}")
				LAST(TEXT("a"), "STOP")),
		2);
}

static void
test_limits(void **state)
{
	size_t n = 64 * KIB;
	char *big = malloc(n + 1), *z = malloc(n + 400);
	struct outcome o;
	struct parser *p = stream_open(api(), &o);

	memset(big, 'x', n);
	big[n] = '\0';
	snprintf(z, n + 400, CAND(TEXT("%s")), big);
	for (size_t i = 0; i < 100 && o.rc == 0; i++)
		o.rc = parser_feed(p, str_of(z), &o.e);
	assert_int_equal(o.rc, ERR_LIMIT);
	stream_close(p, &o);
	outcome_free(&o);
	p = stream_open(api(), &o);
	snprintf(z, n + 400, CAND("{\"text\":\"\",\"thoughtSignature\":\"%s\"}"), big);
	for (size_t i = 0; i < 100 && o.rc == 0; i++)
		o.rc = parser_feed(p, str_of(z), &o.e);
	assert_int_equal(o.rc, ERR_LIMIT);
	stream_close(p, &o);
	outcome_free(&o);
	p = stream_open(api(), &o);
	for (size_t i = 0; i <= MODEL_CALLS_MAX && o.rc == 0; i++)
		o.rc = parser_feed(p, STR(CAND("{\"functionCall\":{\"name\":\"x\"}}")), &o.e);
	assert_int_equal(o.rc, ERR_LIMIT);
	stream_close(p, &o);
	outcome_free(&o);
	free(big);
	free(z);
}

/* ---- requests ---- */

static const struct tool_schema tools[] = { { "read", "Reads.", { "{\"type\":\"object\"}", 17 } },
	{ "list", "Lists.", { "{}", 2 } } };

static const struct part user1[] = { { .type = PART_TEXT, .text = S("Hi") },
	{ .type = PART_MEDIA, .mime = S("image/png"), .data = S("\x00\xff\x10z") },
	{ .type = PART_MEDIA, .mime = S("audio/ogg"), .data = S("O") },
	{ .type = PART_MEDIA, .mime = S("text/plain"), .data = S("words"), .name = S("x.txt") } };
static const struct part model1[] = {
	{ .type = PART_REASONING, .text = S("hm"), .signature = S("S0"), .origin = S("acme") },
	{ .type = PART_REASONING, .text = S("unsigned"), .origin = S("acme") },
	{ .type = PART_REASONING, .text = S("foreign"), .signature = S("x"), .origin = S("other") },
	{ .type = PART_REASONING_REDACTED, .signature = S("x"), .origin = S("other") },
	{ .type = PART_TEXT, .text = S(""), .signature = S("S1"), .origin = S("acme") },
	{ .type = PART_CALL,
		.call_id = S("call_1"),
		.tool = S("read"),
		.args = S("{\"p\": 1}"),
		.signature = S("S2"),
		.origin = S("acme") },
	{ .type = PART_CALL,
		.call_id = S("f7"),
		.tool = S("list"),
		.args = S("[1]"),
		.item_id = S("f7"),
		.origin = S("acme") },
};
static const struct part user2[] = {
	{ .type = PART_TEXT, .text = S("hurry") },
	{ .type = PART_RESULT, .call_id = S("call_1"), .text = S("one") },
	{ .type = PART_RESULT, .call_id = S("f7"), .text = S("bad"), .is_error = true },
};
static const struct part model2[] = {
	{ .type = PART_TEXT,
		.text = S("Well"),
		.signature = S("x"),
		.item_id = S("m2"),
		.origin = S("other") },
	{ .type = PART_CALL,
		.call_id = S("o1"),
		.tool = S("read"),
		.args = S("{}"),
		.signature = S("x"),
		.item_id = S("fc_9"),
		.origin = S("other") },
	{ .type = PART_CALL,
		.call_id = S("o2"),
		.tool = S("read"),
		.args = S("{}"),
		.origin = S("other") },
};
static const struct part user3[] = { { .type = PART_RESULT, .call_id = S("o1") },
	{ .type = PART_RESULT, .call_id = S("o2") } };
static const struct message messages[] = {
	{ MSG_USER, user1, ARRAY_LEN(user1) },
	{ MSG_ASSISTANT, model1, ARRAY_LEN(model1) },
	{ MSG_USER, user2, ARRAY_LEN(user2) },
	{ MSG_ASSISTANT, model2, ARRAY_LEN(model2) },
	{ MSG_USER, user3, ARRAY_LEN(user3) },
};

static void
build(const struct model_request *options, size_t messages_n, struct buf *body)
{
	struct model_request r = *options;
	struct http_request out = { .body = body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	r.provider = STR("acme");
	r.messages = messages;
	r.messages_n = messages_n;
	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(api()->build(&r, &out, a, &e), 0);
	assert_true(str_starts(out.path, "/models/"));
	assert_true(str_ends(out.path, ":streamGenerateContent?alt=sse"));
	arena_free(a);
}

#define USER1                                                                                      \
	"{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\"},{\"inlineData\":{\"mimeType\":\"image/"   \
	"png\",\"data\":\"AP8Qeg==\"}},{\"inlineData\":{\"mimeType\":\"audio/ogg\",\"data\":"      \
	"\"Tw==\"}},{\"text\":\"File x.txt:\\nwords\"}]}"
#define MODEL1                                                                                     \
	"{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true,\"thoughtSignature\":"   \
	"\"S0\"},{\"text\":\"\",\"thoughtSignature\":\"S1\"},{\"functionCall\":{\"name\":"         \
	"\"read\",\"args\":{\"p\": 1}},\"thoughtSignature\":\"S2\"},{\"functionCall\":{\"id\":"    \
	"\"f7\",\"name\":\"list\",\"args\":{\"raw_arguments\":\"[1]\"}}}]}"
#define USER2                                                                                      \
	"{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"read\",\"response\":{"    \
	"\"output\":\"one\"}}},{\"functionResponse\":{\"id\":\"f7\",\"name\":\"list\","            \
	"\"response\":{\"error\":\"error: bad\"}}},{\"text\":\"hurry\"}]}"
#define MODEL2(sig)                                                                                \
	"{\"role\":\"model\",\"parts\":[{\"text\":\"Well\"},{\"functionCall\":{\"name\":\"read\"," \
	"\"args\":{}}" sig "},{\"functionCall\":{\"name\":\"read\",\"args\":{}}}]}"
#define USER3                                                                                      \
	"{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"read\",\"response\":{"    \
	"\"output\":\"(no output)\"}}},{\"functionResponse\":{\"name\":\"read\",\"response\":{"    \
	"\"output\":\"(no output)\"}}}]}"
#define TOOLS                                                                                      \
	"\"tools\":[{\"functionDeclarations\":[{\"name\":\"read\",\"description\":\"Reads.\","     \
	"\"parametersJsonSchema\":{\"type\":\"object\"}},{\"name\":\"list\",\"description\":"      \
	"\"Lists.\",\"parametersJsonSchema\":{}}]}]"

static void
test_request(void **state)
{
	struct model_request options = { .model = STR("gemini-3-pro-preview"),
		.system = STR("Be brief."),
		.tools = tools,
		.tools_n = 2,
		.max_output_tokens = 100,
		.has_reasoning = true,
		.effort = EFFORT_HIGH,
		.schema = STR("{\"type\":\"object\"}") };
	struct buf body;

	build(&options, 5, &body);
	assert_string_equal(buf_z(&body),
		"{\"systemInstruction\":{\"parts\":[{\"text\":\"Be brief.\"}]}," TOOLS
		",\"generationConfig\":{\"maxOutputTokens\":100,\"thinkingConfig\":{"
		"\"includeThoughts\":true,\"thinkingLevel\":\"high\"},\"responseMimeType\":"
		"\"application/json\",\"responseJsonSchema\":{\"type\":\"object\"}},\"contents\":"
		"[" USER1 "," MODEL1 "," USER2
		"," MODEL2(",\"thoughtSignature\":\"skip_thought_signature_validator\"") "," USER3
											 "]}");
	buf_fini(&body);
	/* the generation before: budgets, no word for a missing signature, the schema in words */
	options.model = STR("gemini-2.5-flash");
	options.effort = EFFORT_LOW;
	build(&options, 5, &body);
	assert_string_equal(buf_z(&body),
		"{\"systemInstruction\":{\"parts\":[{\"text\":\"Be brief.\"},{\"text\":\"Your "
		"final "
		"answer must be JSON alone, without a fence around it, and match this JSON "
		"Schema:\\n{\\\"type\\\":\\\"object\\\"}\"}]}," TOOLS
		",\"generationConfig\":{\"maxOutputTokens\":100,\"thinkingConfig\":{"
		"\"includeThoughts\":true,\"thinkingBudget\":1024}},\"contents\":"
		"[" USER1 "," MODEL1 "," USER2 "," MODEL2("") "," USER3 "]}");
	buf_fini(&body);
}

static void
test_request_variants(void **state)
{
	static const struct {
		const char *model, *want;
		enum effort effort;
	} efforts[] = {
		{ "gemini-3-flash", "{\"includeThoughts\":false,\"thinkingLevel\":\"minimal\"}",
			EFFORT_OFF },
		{ "gemini-3.1-pro", "{\"includeThoughts\":false,\"thinkingLevel\":\"low\"}",
			EFFORT_OFF },
		{ "gemini-2.5-pro", "{\"includeThoughts\":false,\"thinkingBudget\":128}",
			EFFORT_OFF },
		{ "gemini-2.5-flash", "{\"includeThoughts\":false,\"thinkingBudget\":0}",
			EFFORT_OFF },
		{ "gemini-2.5-flash", "{\"includeThoughts\":true}", EFFORT_AUTO },
		{ "gemini-2.5-flash", "{\"includeThoughts\":true,\"thinkingBudget\":8192}",
			EFFORT_MEDIUM },
	};
	struct model_request options = { .model = STR("gemma"), .effort = EFFORT_HIGH };
	struct buf body;

	build(&options, 1, &body);
	assert_string_equal(buf_z(&body), "{\"contents\":[" USER1 "]}");
	buf_fini(&body);
	for (size_t i = 0; i < ARRAY_LEN(efforts); i++) {
		options = (struct model_request){ .model = str_of(efforts[i].model),
			.effort = efforts[i].effort,
			.has_reasoning = true };
		build(&options, 1, &body);
		assert_non_null(strstr(buf_z(&body), efforts[i].want));
		buf_fini(&body);
	}
}

/* A name is one segment of the path, whatever it holds. */
static void
test_model_name_in_path(void **state)
{
	static const struct {
		const char *model, *path;
	} rows[] = {
		{ "gemini-2.5-pro", "/models/gemini-2.5-pro:streamGenerateContent?alt=sse" },
		{ "../x?y#z a", "/models/..%2Fx%3Fy%23z%20a:streamGenerateContent?alt=sse" },
		{ "..", "/models/%2E%2E:streamGenerateContent?alt=sse" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct model_request r = {
			.model = str_of(rows[i].model), .messages = messages, .messages_n = 1
		};
		struct buf body;
		struct http_request out = { .body = &body };
		struct arena *a = arena_new(MIB);
		struct err e = { 0 };

		buf_init(&body, REQUEST_BODY_MAX);
		assert_int_equal(api()->build(&r, &out, a, &e), 0);
		assert_true(str_is(out.path, rows[i].path));
		buf_fini(&body);
		arena_free(a);
	}
}

static void
test_prefix_is_stable(void **state)
{
	const struct model_request options = {
		.model = STR("gemini-3-flash"), .tools = tools, .tools_n = 2, .has_reasoning = true
	};
	static const size_t ends[] = { 1, 3, 5 };

	for (size_t i = 0; i + 1 < ARRAY_LEN(ends); i++) {
		struct buf a, b;

		build(&options, ends[i], &a);
		build(&options, ends[i + 1], &b);
		expect_prefix(&a, strlen("]}"), &b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_thoughts_and_signatures),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_what_is_ignored),
		cmocka_unit_test(test_stop_reasons),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_request_variants),
		cmocka_unit_test(test_model_name_in_path),
		cmocka_unit_test(test_prefix_is_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
