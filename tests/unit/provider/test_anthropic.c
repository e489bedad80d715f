/* SPDX-License-Identifier: MIT
 * The Anthropic Messages API: streams and requests. */
#include "streams.h"

#define EV(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define START                                                                                      \
	EV("message_start", ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":"            \
			    "\"assistant\",\"content\":[],"                                        \
			    "\"stop_reason\":null,\"usage\":{\"input_tokens\":10,\"cache_"         \
			    "creation_input_tokens\":30,"                                          \
			    "\"cache_read_input_tokens\":60,\"output_tokens\":1}}")
#define BLOCK(i, block) EV("content_block_start", ",\"index\":" i ",\"content_block\":" block)
#define DELTA(i, delta) EV("content_block_delta", ",\"index\":" i ",\"delta\":" delta)
#define STOP(i)         EV("content_block_stop", ",\"index\":" i)
#define TEXT(i, text)   DELTA(i, "{\"type\":\"text_delta\",\"text\":\"" text "\"}")
#define JSON(i, text)   DELTA(i, "{\"type\":\"input_json_delta\",\"partial_json\":\"" text "\"}")
#define END(why)                                                                                   \
	EV("message_delta",                                                                        \
		",\"delta\":{\"stop_reason\":\"" why "\"},\"usage\":{\"output_tokens\":25}")       \
	EV("message_stop", "")
#define USAGE " in=100 out=25 cached=60 written=30 reasoning=0"

static const struct provider_api *
api(void)
{
	return provider_api_find(STR("anthropic"));
}

static void
test_text(void **state)
{
	expect_answer(api(),
		STR(START BLOCK("0", "{\"type\":\"text\",\"text\":\"\"}") EV("ping", "") TEXT("0",
			"H\xC3\xA9") TEXT("0", "y \xF0\x9F\x98\x80") STOP("0") END("end_turn")),
		"text[H\xC3\xA9y \xF0\x9F\x98\x80] end" USAGE, "T(H\xC3\xA9)T(y \xF0\x9F\x98\x80)");
}

static void
test_thinking_and_calls(void **state)
{
	expect_answer(api(),
		STR(START BLOCK("0",
			"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}") DELTA("0",
			"{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}") DELTA("0",
			"{\"type\":\"signature_delta\",\"signature\":\"Sig\"}") DELTA("0",
			"{\"type\":\"signature_delta\",\"signature\":\"==\"}") STOP("0") BLOCK("1",
			"{\"type\":\"redacted_thinking\",\"data\":\"opaque\"}") STOP("1") BLOCK("2",
			"{\"type\":\"text\",\"text\":\"\"}") TEXT("2", "ok") STOP("2") BLOCK("3",
			"{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"read\",\"input\":{}}")
				JSON("3", "") JSON("3", "{\\\"a\\\": ") JSON("3", "1}") STOP("3")
					BLOCK("4", "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":"
						   "\"list\",\"input\":{}}") STOP("4")
						END("tool_use")),
		"reasoning[hm|Sig==] redacted[opaque] text[ok] call[t1 read {\"a\": 1}] call[t2 "
		"list {}] tools" USAGE,
		"R(hm)T(ok)C(read)C(list)");
}

static void
test_hidden_thinking_is_kept(void **state)
{
	expect_answer(api(),
		STR(START BLOCK(
			"0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"S\"}")
				STOP("0") BLOCK("1", "{\"type\":\"text\",\"text\":\"\"}") STOP("1")
					END("end_turn")),
		"reasoning[|S] end" USAGE, "");
}

static void
test_interleaved_blocks(void **state)
{
	expect_answer(api(),
		STR(START BLOCK("0", "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"x\"}") BLOCK(
			"1",
			"{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"y\",\"input\":{\"k\":1}}")
				JSON("0", "{}") STOP("1") STOP("0") END("tool_use")),
		"call[a x {}] call[b y {\"k\":1}] tools" USAGE, "C(x)C(y)");
}

static void
test_what_is_ignored(void **state)
{
	expect_answer(api(),
		STR(START BLOCK("0", "{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_"
				     "search\",\"input\":{}}") JSON("0", "{\\\"q\\\":1}") STOP("0")
				BLOCK("1", "{\"type\":\"text\",\"text\":\"\"}")
					DELTA("1", "{\"type\":\"citations_delta\",\"citation\":{}}")
						TEXT("1", "a") EV("brand_new_event", ",\"x\":{}")
							STOP("1") END("end_turn") "data: junk\n\n"),
		"text[a] end" USAGE, "T(a)");
	/* without event names, as some servers send it */
	expect_answer(api(),
		STR("data: "
		    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"
		    "\"text\",\"text\":\"a\"}}\r\n\r\n"
		    "data: {\"type\":\"message_stop\"}\r\n\r\n"),
		"text[a] end in=0 out=0 cached=0 written=0 reasoning=0", "T(a)");
}

static void
test_usage_is_overridden(void **state)
{
	expect_answer(api(),
		STR(START EV("message_delta", ",\"delta\":{\"stop_reason\":null},\"usage\":{"
					      "\"input_tokens\":11,\"output_tokens\":5}") EV(
			"message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{"
					 "\"input_tokens\":null,"
					 "\"cache_read_input_tokens\":0,\"output_tokens\":9}")
				EV("message_stop", "")),
		"end in=41 out=9 cached=0 written=30 reasoning=0", NULL);
}

static void
test_stop_reasons(void **state)
{
	static const struct {
		const char *reason, *want;
	} rows[] = {
		{ "max_tokens", "length" },
		{ "model_context_window_exceeded", "length" },
		{ "refusal", "refused" },
		{ "stop_sequence", "end" },
		{ "pause_turn", "other" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char stream[600], want[100];

		snprintf(stream, sizeof(stream),
			START EV("message_delta", ",\"delta\":{\"stop_reason\":\"%s\"},\"usage\":{"
						  "\"output_tokens\":25}") EV("message_stop", ""),
			rows[i].reason);
		snprintf(want, sizeof(want), "%s" USAGE, rows[i].want);
		expect_answer(api(), str_of(stream), want, "");
	}
}

static void
test_errors(void **state)
{
	expect_error(api(),
		STR(START EV("error",
			",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}")),
		ERR_PROVIDER, "overloaded_error: Overloaded");
	expect_error(api(), STR(START TEXT("0", "x")), ERR_PROTO, "block 0, which has not begun");
	expect_error(api(), STR(START BLOCK("0", "{\"type\":\"text\"}") JSON("0", "x")), ERR_PROTO,
		"another type");
	expect_error(api(), STR(START BLOCK("0", "{\"type\":\"text\"}") TEXT("0", "\xE2\x28\xA1")),
		ERR_PROTO, "invalid UTF-8");
	expect_error(api(), STR("event: ping\ndata: {\n\n"), ERR_PROTO,
		"event 1 of the anthropic stream");
	expect_error(api(), STR("Not found"), ERR_PROTO, "begins with: Not found");
}

static void
test_cut(void **state)
{
	struct str s = STR(START BLOCK(
		"0", "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"read\",\"input\":{}}")
			JSON("0", "{\\\"a\\\":\\\"\xC3\xA9\\\"}") STOP("0") END("tool_use"));

	expect_cut_everywhere(api(), s, 1);
}

/* ---- requests ---- */

static const struct tool_schema tools[] = { { "read", "Reads.", { "{}", 2 } },
	{ "list", "Lists.", { "{}", 2 } } };
static const struct part user1[] = {
	{ .type = PART_TEXT, .text = { "Hi", 2 } },
	{ .type = PART_TEXT, .text = { " \n", 2 } },
};
static const struct part model1[] = {
	{ .type = PART_REASONING, .text = { "hm", 2 }, .signature = { "S==", 3 } },
	{ .type = PART_REASONING, .text = { "unsigned", 8 } },
	{ .type = PART_REASONING_REDACTED, .signature = { "D", 1 } },
	{ .type = PART_CALL,
		.call_id = { "fn.read:0", 9 },
		.tool = { "read", 4 },
		.args = { "{\"p\": 1}", 8 } },
	{ .type = PART_CALL, .call_id = { "c2", 2 }, .tool = { "read", 4 }, .args = { "[1]", 3 } },
};
static const struct part user2[] = {
	{ .type = PART_TEXT, .text = { "hurry", 5 } },
	{ .type = PART_RESULT, .call_id = { "fn.read:0", 9 } },
};
static const struct part user3[] = {
	{ .type = PART_RESULT, .call_id = { "c2", 2 }, .text = { "bad", 3 }, .is_error = true },
};
static const struct part model2[] = { { .type = PART_TEXT, .text = { "Done.", 5 } } };
static const struct part user4[] = { { .type = PART_TEXT, .text = { "Thanks", 6 } } };
static const struct message messages[] = {
	{ MSG_USER, user1, ARRAY_LEN(user1) },
	{ MSG_ASSISTANT, model1, ARRAY_LEN(model1) },
	{ MSG_USER, user2, ARRAY_LEN(user2) },
	{ MSG_USER, user3, ARRAY_LEN(user3) },
	{ MSG_ASSISTANT, model2, ARRAY_LEN(model2) },
	{ MSG_USER, user4, ARRAY_LEN(user4) },
};

static void
build(size_t messages_n, struct buf *body)
{
	struct model_request r = { .model = STR("m"),
		.system = STR("Be brief."),
		.messages = messages,
		.messages_n = messages_n,
		.tools = tools,
		.tools_n = 2,
		.max_output_tokens = 100 };
	struct http_request out = { .body = body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(api()->build(&r, &out, a, &e), 0);
	assert_true(str_is(out.path, "/messages"));
	assert_true(str_find(out.headers, STR("anthropic-version: 2023-06-01\n")) >= 0);
	arena_free(a);
}

#define MARK ",\"cache_control\":{\"type\":\"ephemeral\"}"
#define HEAD                                                                                       \
	"{\"model\":\"m\",\"stream\":true,\"max_tokens\":100,\"tools\":["                          \
	"{\"name\":\"read\",\"description\":\"Reads.\",\"input_schema\":{}},"                      \
	"{\"name\":\"list\",\"description\":\"Lists.\",\"input_schema\":{}" MARK "}],"             \
	"\"system\":[{\"type\":\"text\",\"text\":\"Be brief.\"" MARK "}],\"messages\":["

static void
test_request(void **state)
{
	struct buf body;

	build(1, &body);
	assert_string_equal(buf_z(&body), HEAD
		"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"" MARK "}]}]}");
	buf_fini(&body);
	build(4, &body);
	assert_string_equal(buf_z(&body),
		HEAD "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},"
		     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":"
		     "\"hm\",\"signature\":\"S==\"},"
		     "{\"type\":\"redacted_thinking\",\"data\":\"D\"},"
		     "{\"type\":\"tool_use\",\"id\":\"fn_read_0\",\"name\":\"read\",\"input\":{"
		     "\"p\": 1}},"
		     "{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":\"read\",\"input\":{\"raw_"
		     "arguments\":\"[1]\"}}]},"
		     "{\"role\":\"user\",\"content\":["
		     "{\"type\":\"tool_result\",\"tool_use_id\":\"fn_read_0\",\"content\":\"(no "
		     "output)\"},"
		     "{\"type\":\"tool_result\",\"tool_use_id\":\"c2\",\"content\":\"error: "
		     "bad\",\"is_error\":true},"
		     "{\"type\":\"text\",\"text\":\"hurry\"" MARK "}]}]}");
	buf_fini(&body);
}

/* Marks of the prompt cache move with the end of the conversation and are not part of what is
 * cached. */
static void
test_prefix_is_stable(void **state)
{
	static const size_t ends[] = { 1, 4, 6 };

	for (size_t i = 0; i + 1 < ARRAY_LEN(ends); i++) {
		struct buf a, b;

		build(ends[i], &a);
		build(ends[i + 1], &b);
		expect_prefix(&a, strlen(MARK "}]}]}"), &b);
	}
}

/* ---- attachments, thinking, schemas ---- */

static const struct part rich1[] = { { .type = PART_TEXT, .text = S("Look") },
	{ .type = PART_MEDIA, .mime = S("image/png"), .data = S("\x00\xff\x10z"), .name = S("a.png") },
	{ .type = PART_MEDIA, .mime = S("application/pdf"), .data = S("%PDF"), .name = S("d.pdf") },
	{ .type = PART_MEDIA, .mime = S("text/plain"), .data = S("a,b"), .name = S("t.csv") },
	{ .type = PART_MEDIA, .mime = S("image/bmp"), .data = S("B"), .name = S("b.bmp") },
	{ .type = PART_MEDIA, .mime = S("audio/wav"), .data = S("R"), .name = S("s.wav") } };
static const struct part rich2[] = {
	{ .type = PART_REASONING, .text = S("hm"), .signature = S("S=="), .origin = S("acme") },
	{ .type = PART_REASONING, .text = S("foreign"), .signature = S("F"), .origin = S("other") },
	{ .type = PART_REASONING_REDACTED, .signature = S("D"), .origin = S("acme") },
	{ .type = PART_CALL, .call_id = S("c1"), .tool = S("read"), .args = S("{}"), .signature = S("G"),
		.origin = S("other") },
};
static const struct part rich3[] = { { .type = PART_RESULT, .call_id = S("c1"), .text = S("ok") },
	{ .type = PART_MEDIA, .mime = S("image/png"), .data = S("p") } };
static const struct part rich4[] = { { .type = PART_CALL, .call_id = S("c2"), .tool = S("read"), .args = S("{}") } };
static const struct part rich5[] = { { .type = PART_RESULT, .call_id = S("c2"), .text = S("ok") } };
static const struct message rich[] = {
	{ MSG_USER, rich1, ARRAY_LEN(rich1) },
	{ MSG_ASSISTANT, rich2, ARRAY_LEN(rich2) },
	{ MSG_USER, rich3, ARRAY_LEN(rich3) },
	{ MSG_ASSISTANT, rich4, ARRAY_LEN(rich4) },
	{ MSG_USER, rich5, ARRAY_LEN(rich5) },
};

static void
build_rich(const struct model_request *options, size_t n, struct buf *body)
{
	struct model_request r = *options;
	struct http_request out = { .body = body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	r.provider = STR("acme");
	r.messages = rich;
	r.messages_n = n;
	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(api()->build(&r, &out, a, &e), 0);
	arena_free(a);
}

static void
test_attachments_and_origin(void **state)
{
	const struct model_request options = { .model = STR("m") };
	struct buf body;

	build_rich(&options, 3, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"max_tokens\":4096,\"messages\":[{\"role\":"
		"\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Look\"},{\"type\":\"image\","
		"\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"AP8Qeg==\"}},"
		"{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":"
		"\"application/pdf\",\"data\":\"JVBERg==\"},\"title\":\"d.pdf\"},{\"type\":"
		"\"document\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":"
		"\"a,b\"},\"title\":\"t.csv\"},{\"type\":\"text\",\"text\":\"(The file b.bmp, "
		"image/bmp, 1 bytes, is attached, but this model's API cannot take such files.)\"},"
		"{\"type\":\"text\",\"text\":\"(The file s.wav, audio/wav, 1 bytes, is attached, but "
		"this model's API cannot take such files.)\"}]},{\"role\":\"assistant\",\"content\":"
		"[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"S==\"},{\"type\":"
		"\"redacted_thinking\",\"data\":\"D\"},{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":"
		"\"read\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
		"\"tool_use_id\":\"c1\",\"content\":\"ok\"},{\"type\":\"image\",\"source\":{\"type\":"
		"\"base64\",\"media_type\":\"image/png\",\"data\":\"cA==\"}" MARK "}]}]}");
	buf_fini(&body);
	for (size_t n = 1; n + 2 <= ARRAY_LEN(rich); n += 2) {
		struct buf a, b;

		build_rich(&options, n, &a);
		build_rich(&options, n + 2, &b);
		expect_prefix(&a, strlen(MARK "}]}]}"), &b);
	}
}

static void
test_thinking_options(void **state)
{
	static const struct {
		const char *model;
		enum effort effort;
		int64_t max;
		size_t messages;
		const char *want; /* NULL: nothing about thinking */
	} rows[] = {
		{ "claude-sonnet-4-5", EFFORT_AUTO, 64000, 1, NULL },
		{ "claude-sonnet-4-5", EFFORT_LOW, 64000, 1, "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":4096}" },
		{ "claude-sonnet-4-5-20250929", EFFORT_HIGH, 64000, 1, "\"budget_tokens\":32000}" },
		{ "claude-opus-4-20250514", EFFORT_MEDIUM, 32000, 1, "\"budget_tokens\":12288}" },
		{ "claude-3-7-sonnet-20250219", EFFORT_HIGH, 0, 1, "\"budget_tokens\":3072}" },
		{ "claude-sonnet-4-5", EFFORT_HIGH, 1500, 1, "\"thinking\":{\"type\":\"disabled\"}" },
		{ "claude-sonnet-4-5", EFFORT_HIGH, 64000, 3, "\"budget_tokens\":32000}" },
		/* the turn goes on after a call that began without thinking */
		{ "claude-sonnet-4-5", EFFORT_HIGH, 64000, 5, "\"thinking\":{\"type\":\"disabled\"}" },
		{ "claude-sonnet-4-5", EFFORT_OFF, 64000, 1, "\"thinking\":{\"type\":\"disabled\"}" },
		{ "claude-opus-4-6", EFFORT_LOW, 64000, 5, "\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"low\"}" },
		{ "vendor/claude-opus-5.5", EFFORT_HIGH, 64000, 1, "\"output_config\":{\"effort\":\"high\"}" },
		{ "claude-haiku-5-5", EFFORT_OFF, 64000, 1, "\"thinking\":{\"type\":\"disabled\"}" },
		{ "other-model", EFFORT_LOW, 64000, 1, "\"budget_tokens\":4096}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct model_request r = { .model = str_of(rows[i].model),
			.effort = rows[i].effort,
			.max_output_tokens = rows[i].max,
			.has_reasoning = true };
		struct buf body;

		build_rich(&r, rows[i].messages, &body);
		if (rows[i].want && !strstr(buf_z(&body), rows[i].want))
			fail_msg("%s: %s", rows[i].want, buf_z(&body));
		if (!rows[i].want)
			assert_null(strstr(buf_z(&body), "\"thinking\":{"));
		buf_fini(&body);
		r.has_reasoning = false;
		build_rich(&r, 1, &body);
		assert_null(strstr(buf_z(&body), "\"thinking\":{"));
		assert_null(strstr(buf_z(&body), "output_config"));
		buf_fini(&body);
	}
}

static void
test_schema(void **state)
{
	static const struct {
		const char *schema, *want;
		bool is_own;
	} rows[] = {
		{ "{\"type\":\"object\",\"properties\":{\"minimum\":{\"type\":\"integer\",\"minimum\":1},"
		  "\"list\":{\"type\":\"array\",\"minItems\":2,\"items\":{\"type\":\"object\","
		  "\"properties\":{\"k\":{\"enum\":[{\"minimum\":1}]}}}}},\"required\":[\"list\"]}",
			"\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":"
			"\"object\",\"properties\":{\"minimum\":{\"type\":\"integer\"},\"list\":{\"type\":"
			"\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[{"
			"\"minimum\":1}]}},\"additionalProperties\":false}}},\"required\":[\"list\"],"
			"\"additionalProperties\":false}}},\"messages\"",
			true },
		{ "{\"oneOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{"
		  "\"type\":\"object\",\"properties\":{\"oneOf\":{\"type\":\"string\"}}}}}",
			"\"schema\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}],\"$defs\":"
			"{\"a\":{\"type\":\"object\",\"properties\":{\"oneOf\":{\"type\":\"string\"}},",
			true },
		/* what refers to itself, or cannot be said */
		{ "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/a\"}},\"$defs\":{\"a\":"
		  "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/b\"}},\"b\":{\"$ref\":\"#/$defs/a\"}}}",
			"\"max_tokens\":4096,\"system\":[", true },
		{ "{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{\"type\":\"null\"}}}}",
			"\"max_tokens\":4096,\"system\":[", true },
		{ "{\"type\":\"object\",\"properties\":{\"a\":{\"prefixItems\":[{}]}}}",
			"\"max_tokens\":4096,\"system\":[", true },
		/* what cannot be closed, and what another server may not know, is asked for in words */
		{ "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}",
			"\"max_tokens\":4096,\"system\":[{\"type\":\"text\",\"text\":\"Your final answer must be", true },
		{ "{\"type\":\"object\",\"properties\":{\"a\":{}}}",
			"\"max_tokens\":4096,\"system\":[{\"type\":\"text\",\"text\":\"Your final answer must be", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct model_request r = { .model = STR("claude-sonnet-4-5"),
			.schema = str_of(rows[i].schema),
			.is_own_server = rows[i].is_own };
		struct buf body;

		build_rich(&r, 1, &body);
		if (!strstr(buf_z(&body), rows[i].want))
			fail_msg("%s", buf_z(&body));
		buf_fini(&body);
	}
}

/* Four marks are allowed. */
static void
test_cache_marks(void **state)
{
	const struct model_request r = { .model = STR("m"),
		.system = STR("s"),
		.schema = STR("{}"),
		.tools = tools,
		.tools_n = 2 };
	struct buf body;
	size_t marks = 0;

	build_rich(&r, 5, &body);
	for (const char *p = buf_z(&body); (p = strstr(p, MARK)) != NULL; p++)
		marks++;
	assert_int_equal(marks, 3);
	buf_fini(&body);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_thinking_and_calls),
		cmocka_unit_test(test_hidden_thinking_is_kept),
		cmocka_unit_test(test_interleaved_blocks),
		cmocka_unit_test(test_what_is_ignored),
		cmocka_unit_test(test_usage_is_overridden),
		cmocka_unit_test(test_stop_reasons),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_prefix_is_stable),
		cmocka_unit_test(test_attachments_and_origin),
		cmocka_unit_test(test_thinking_options),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_cache_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
