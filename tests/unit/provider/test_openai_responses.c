/* SPDX-License-Identifier: MIT
 * The OpenAI Responses API: streams and requests. */
#include "streams.h"

#define EV(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define CREATED                                                                                    \
	EV("response.created",                                                                     \
		",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"status\":\"in_"          \
		"progress\",\"output\":[],\"usage\":null}")                                        \
	EV("response.in_progress", ",\"response\":{\"id\":\"resp_1\"}")
#define ADDED(i, item) EV("response.output_item.added", ",\"output_index\":" i ",\"item\":" item)
#define DONE(i, item)  EV("response.output_item.done", ",\"output_index\":" i ",\"item\":" item)
#define DELTA(t, i, s) EV("response." t ".delta", ",\"output_index\":" i ",\"delta\":\"" s "\"")
#define MESSAGE(content)                                                                           \
	"{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[" content "]}"
#define TEXT(i, s)    DELTA("output_text", i, s)
#define ARGS(i, s)    DELTA("function_call_arguments", i, s)
#define SUMMARY(i, s) DELTA("reasoning_summary_text", i, s)
#define PART(i)       EV("response.reasoning_summary_part.added", ",\"output_index\":" i)
#define CALL(id, call, name, args)                                                                 \
	"{\"id\":\"" id "\",\"type\":\"function_call\",\"call_id\":\"" call "\",\"name\":\"" name  \
	"\",\"arguments\":\"" args "\"}"
#define USAGE_JSON                                                                                 \
	"\"usage\":{\"input_tokens\":100,\"input_tokens_details\":{\"cached_tokens\":60,"          \
	"\"cache_write_tokens\":5},\"output_tokens\":25,\"output_tokens_details\":{\"reasoning_"   \
	"tokens\":7},\"total_tokens\":125}"
#define COMPLETED                                                                                  \
	EV("response.completed", ",\"response\":{\"status\":\"completed\"," USAGE_JSON "}")
#define USAGE    " in=100 out=25 cached=60 written=5 reasoning=7"
#define NO_USAGE " in=0 out=0 cached=0 written=0 reasoning=0"

static const struct provider_api *
api(void)
{
	return provider_api_find(STR("openai-responses"));
}

static void
test_text(void **state)
{
	expect_answer(api(),
		STR(CREATED ADDED("0", MESSAGE("")) EV("response.content_part.added",
			",\"output_index\":0") TEXT("0", "H\xC3\xA9") TEXT("0",
			"y \xF0\x9F\x98\x80") EV("response.output_text.done", ",\"text\":\"x\"")
				DONE("0", MESSAGE("{\"type\":\"output_text\",\"text\":\"other\"}"))
					COMPLETED "data: [DONE]\n\n"),
		"text[H\xC3\xA9y \xF0\x9F\x98\x80] id[msg_1] end" USAGE,
		"T(H\xC3\xA9)T(y \xF0\x9F\x98\x80)");
}

#define REASONING(summary, content)                                                                \
	"{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[" summary                            \
	"],\"encrypted_content\":" content "}"

static void
test_reasoning_and_calls(void **state)
{
	expect_answer(api(),
		STR(CREATED ADDED("0", REASONING("", "\"early\"")) PART("0") SUMMARY(
			"0", "one") SUMMARY("0", "!") PART("0") SUMMARY("0", "two") DONE("0",
			REASONING("", "\"enc==\"")) ADDED("1", CALL("fc_1", "call_1", "read", ""))
				ADDED("2", CALL("fc_2", "call_2", "list", "")) ARGS("2",
					"{\\\"b\\\":2}") ARGS("1", "{\\\"a\\\":") ARGS("1", "1}")
					DONE("1", CALL("fc_1", "call_1", "read", "{\\\"a\\\":1}"))
						DONE("2", CALL("fc_2", "call_2", "list", "{}"))
							COMPLETED),
		"reasoning[one!\n\ntwo|enc==] id[rs_1] call[call_1 read {\"a\":1}] id[fc_1] "
		"call[call_2 list {\"b\":2}] id[fc_2] tools" USAGE,
		"R(one)R(!)R(\n\n)R(two)C(read)C(list)");
}

/* Servers that send items whole, and a response that says everything only at its end. */
static void
test_without_deltas(void **state)
{
	expect_answer(api(),
		STR(DONE("0",
			"{\"id\":\"rs\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_"
			"text\",\"text\":\"a\"},{\"text\":\"b\"}]}") DONE("1",
			MESSAGE("{\"type\":\"output_text\",\"text\":\"x\"},{\"text\":"
				"\"y\"}")) DONE("2", CALL("f", "c", "read", "{}")) COMPLETED),
		"reasoning[a\n\nb|] id[rs] text[xy] id[msg_1] call[c read {}] id[f] tools" USAGE,
		NULL);
	expect_answer(api(),
		STR(EV("response.completed",
			",\"response\":{\"output\":[" MESSAGE(
				"{\"type\":\"output_text\",\"text\":\"all\"}") "]}")),
		"text[all] id[msg_1] end" NO_USAGE, "T(all)");
	expect_answer(api(),
		STR(ADDED("0", "{\"type\":\"function_call\",\"name\":\"read\",\"arguments\":{\"k\":"
			       "[1]}}") COMPLETED),
		"call[made read {\"k\":[1]}] tools" USAGE, "C(read)");
}

static void
test_what_is_ignored(void **state)
{
	expect_answer(api(),
		STR(CREATED ADDED("0", "{\"type\":\"web_search_call\",\"id\":\"ws\"}") EV(
			"response.web_search_call.searching",
			",\"output_index\":0") DELTA("output_text", "0", "lost") ADDED("1",
			"{\"type\":\"custom_tool_call\",\"name\":\"x\",\"input\":"
			"\"\"}") DELTA("custom_tool_call_input", "1", "zzz") ADDED("2",
			MESSAGE("")) TEXT("2", "a") EV("response.brand_new", ",\"x\":{}")
				EV("response.output_text.annotation.added", ",\"output_index\":2")
					EV("response.queued", "") COMPLETED "data: junk\n\n"),
		"text[a] id[msg_1] end" USAGE, "T(a)");
}

static void
test_phase(void **state)
{
	expect_answer(api(),
		STR(ADDED("0", "{\"type\":\"message\",\"id\":\"m\",\"phase\":\"commentary\"}")
				TEXT("0", "wait") COMPLETED),
		"text[wait] signed[commentary] id[m] end" USAGE, "T(wait)");
}

static void
test_refusal(void **state)
{
	expect_answer(api(),
		STR(CREATED ADDED("0", MESSAGE("")) DELTA("refusal", "0", "I can't.") COMPLETED),
		"text[I can't.] id[msg_1] refused" USAGE, "T(I can't.)");
	expect_answer(api(),
		STR(DONE("0", MESSAGE("{\"type\":\"refusal\",\"refusal\":\"No.\"}")) COMPLETED),
		"text[No.] id[msg_1] refused" USAGE, NULL);
}

static void
test_incomplete(void **state)
{
	static const struct {
		const char *reason, *want;
	} rows[] = {
		{ "max_output_tokens", "length" },
		{ "content_filter", "refused" },
		{ "odd", "other" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char stream[1000], want[120];

		snprintf(stream, sizeof(stream),
			ADDED("0", MESSAGE("")) TEXT("0", "half")
				EV("response.incomplete", ",\"response\":{\"incomplete_details\":{"
							  "\"reason\":\"%s\"}," USAGE_JSON "}"),
			rows[i].reason);
		snprintf(want, sizeof(want), "text[half] id[msg_1] %s" USAGE, rows[i].want);
		expect_answer(api(), str_of(stream), want, "T(half)");
	}
	/* arguments that were cut are left as they are */
	expect_answer(api(),
		STR(ADDED("0", CALL("f", "c", "read", "")) ARGS("0", "{\\\"pa")
				EV("response.incomplete", ",\"response\":{\"incomplete_details\":{"
							  "\"reason\":\"max_output_tokens\"}}")),
		"call[c read {\"pa] id[f] length" NO_USAGE, "C(read)");
}

static void
test_errors(void **state)
{
	expect_error(api(),
		STR(CREATED EV("response.failed",
			",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\","
			"\"message\":\"sorry\"}}")),
		ERR_PROVIDER, "server_error: sorry");
	expect_error(api(), STR(CREATED EV("response.failed", "")), ERR_PROVIDER, "failed:");
	expect_error(api(),
		STR(EV("error", ",\"code\":\"rate_limit_exceeded\",\"message\":\"slow\",\"param\":"
				"null,\"sequence_number\":1")),
		ERR_PROVIDER, "rate_limit_exceeded: slow");
	expect_error(api(),
		STR("event: error\ndata: {\"error\":{\"type\":\"invalid_request_error\",\"code\":"
		    "null,\"message\":\"bad\"}}\n\n"),
		ERR_PROVIDER, "invalid_request_error: bad");
	expect_error(api(), STR(TEXT("0", "x")), ERR_PROTO, "item 0, which has not begun");
	expect_error(api(), STR(ADDED("0", MESSAGE("")) ARGS("0", "x")), ERR_PROTO, "another type");
	expect_error(api(), STR(ADDED("0", "7")), ERR_PROTO, "not an object");
	expect_error(api(), STR(EV("response.output_item.added", ",\"item\":" MESSAGE(""))),
		ERR_PROTO, "without output_index");
	expect_error(api(),
		STR(ADDED("0", MESSAGE("")) EV(
			"response.output_text.delta", ",\"output_index\":0,\"delta\":{}")),
		ERR_PROTO, "delta: expected a string");
	expect_error(api(), STR(ADDED("0", MESSAGE("")) TEXT("0", "\xE2\x28\xA1")), ERR_PROTO,
		"invalid UTF-8");
	expect_error(api(), STR(ADDED("0", "{\"type\":\"function_call\"}") COMPLETED), ERR_PROTO,
		"call without a name");
	expect_error(
		api(), STR("data: {\n\n"), ERR_PROTO, "event 1 of the openai-responses stream");
	expect_error(api(), STR("<html>"), ERR_PROTO, "begins with: <html>");
}

static void
test_cut(void **state)
{
	expect_cut_everywhere(api(),
		STR(CREATED ADDED("0", REASONING("", "null")) PART("0") SUMMARY("0", "\xC3\xA9")
				ADDED("1", CALL("f", "c", "read", "")) ARGS("1", "{}") COMPLETED),
		1);
}

static void
feed_n(const char *event, size_t n, int want, const char *message)
{
	struct outcome o;
	struct parser *p = stream_open(api(), &o);
	struct str head = STR(ADDED("0", MESSAGE("")) ADDED("1", CALL("f", "c", "read", "")));

	assert_int_equal(parser_feed(p, head, &o.e), 0);
	for (size_t i = 0; i < n && o.rc == 0; i++)
		o.rc = parser_feed(p, str_of(event), &o.e);
	assert_int_equal(o.rc, want);
	assert_non_null(strstr(o.e.msg, message));
	stream_close(p, &o);
	outcome_free(&o);
}

static void
test_limits(void **state)
{
	size_t n = 64 * KIB;
	char *big = malloc(n + 200), *z = malloc(n + 400);

	memset(big, 'x', n);
	big[n] = '\0';
	snprintf(z, n + 400, TEXT("0", "%s"), big);
	feed_n(z, 100, ERR_LIMIT, "text of the model's answer");
	snprintf(z, n + 400, ARGS("1", "%s"), big);
	feed_n(z, 100, ERR_LIMIT, "arguments of one tool call");
	free(big);
	free(z);

	struct outcome o;
	struct parser *p = stream_open(api(), &o);

	for (size_t i = 0; i <= MODEL_CALLS_MAX && o.rc == 0; i++) {
		char one[300];

		snprintf(one, sizeof(one),
			EV("response.output_item.added",
				",\"output_index\":%zu,\"item\":" CALL("f", "c", "read", "")),
			i);
		o.rc = parser_feed(p, str_of(one), &o.e);
	}
	assert_int_equal(o.rc, ERR_LIMIT);
	stream_close(p, &o);
	outcome_free(&o);
}

/* ---- requests ---- */

static const struct tool_schema tools[] = { { "read", "Reads.", { "{\"type\":\"object\"}", 17 } } };

static const struct part user1[] = { { .type = PART_TEXT, .text = S("Hi") },
	{ .type = PART_MEDIA,
		.mime = S("image/png"),
		.data = S("\x00\xff\x10z"),
		.name = S("a.png") },
	{ .type = PART_MEDIA, .mime = S("application/pdf"), .data = S("%PDF"), .name = S("d.pdf") },
	{ .type = PART_MEDIA, .mime = S("audio/wav"), .data = S("RI") },
	{ .type = PART_MEDIA, .mime = S("text/plain"), .data = S("int \"x\";"), .name = S("x.c") },
	{ .type = PART_MEDIA, .mime = S("video/mp4"), .data = S("123"), .name = S("v") } };
static const struct part model1[] = {
	{ .type = PART_REASONING,
		.text = S("hm"),
		.signature = S("enc"),
		.item_id = S("rs_1"),
		.origin = S("acme") },
	{ .type = PART_REASONING, .text = S("bare"), .item_id = S("rs_2"), .origin = S("acme") },
	{ .type = PART_REASONING,
		.text = S("foreign"),
		.signature = S("sig"),
		.item_id = S("x"),
		.origin = S("other") },
	{ .type = PART_TEXT,
		.text = S("So"),
		.signature = S("commentary"),
		.item_id = S("msg_1"),
		.origin = S("acme") },
	{ .type = PART_CALL,
		.call_id = S("c1"),
		.tool = S("read"),
		.args = S("{\"p\": 1}"),
		.item_id = S("fc_1"),
		.origin = S("acme") },
	{ .type = PART_CALL,
		.call_id = S("c2"),
		.tool = S("read"),
		.args = S("[1]"),
		.item_id = S("t2"),
		.origin = S("other") },
};
static const struct part user2[] = {
	{ .type = PART_RESULT, .call_id = S("c1"), .text = S("one") },
	{ .type = PART_RESULT, .call_id = S("c2"), .text = S("bad"), .is_error = true },
	{ .type = PART_TEXT, .text = S("hurry") },
};
static const struct part model2[] = {
	{ .type = PART_TEXT, .text = S("Done."), .item_id = S("m2"), .origin = S("other") }
};
static const struct part user3[] = { { .type = PART_TEXT, .text = S("Thanks") } };
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
	r.model = STR("m");
	r.messages = messages;
	r.messages_n = messages_n;
	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(api()->build(&r, &out, a, &e), 0);
	assert_true(str_is(out.path, "/responses"));
	arena_free(a);
}

#define CONTENTS                                                                                   \
	"{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"  \
	"\"Hi\"},{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AP8Qeg==\",\"detail\":\"auto\"},"     \
	"{\"type\":\"input_file\",\"filename\":\"d.pdf\",\"file_data\":\"data:application/"        \
	"pdf;base64,JVBERg==\"},{\"type\":\"input_text\",\"text\":\"(The file attachment, "    \
	"audio/wav, 2 bytes, is attached, but this model's API cannot take such files.)\"},{\"type\":\"input_text\",\"text\":\"File x.c:\\nint \\\"x\\\";\"},"  \
	"{\"type\":\"input_text\",\"text\":\"(The file v, video/mp4, 3 bytes, is attached, but "   \
	"this model's API cannot take such files.)\"}]}"

static void
test_request(void **state)
{
	const struct model_request options = { .system = STR("Be brief."),
		.tools = tools,
		.tools_n = 1,
		.max_output_tokens = 100,
		.has_reasoning = true,
		.is_own_server = true,
		.effort = EFFORT_LOW,
		.cache_key = STR("k"),
		.schema = STR("{\"type\":\"object\"}") };
	struct buf body;

	build(&options, 3, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"store\":false,\"include\":[\"reasoning."
		"encrypted_content\"],\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"},"
		"\"max_output_tokens\":100,\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":"
		"\"answer\",\"strict\":false,\"schema\":{\"type\":\"object\"}}},\"prompt_cache_"
		"key\":\"k\",\"instructions\":\"Be brief.\",\"tools\":[{\"type\":\"function\","
		"\"name\":\"read\",\"description\":\"Reads.\",\"parameters\":{\"type\":\"object\"},"
		"\"strict\":false}],\"input\":[" CONTENTS ",{\"type\":\"reasoning\",\"id\":\"rs_"
		"1\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm\"}],\"encrypted_"
		"content\":\"enc\"},{\"type\":\"message\",\"id\":\"msg_1\",\"status\":"
		"\"completed\",\"role\":\"assistant\",\"phase\":\"commentary\",\"content\":[{"
		"\"type\":\"output_text\",\"text\":\"So\",\"annotations\":[]}]},{\"type\":"
		"\"function_call\",\"id\":\"fc_1\",\"call_id\":\"c1\",\"name\":\"read\","
		"\"arguments\":\"{\\\"p\\\": 1}\"},{\"type\":\"function_call\",\"call_id\":\"c2\","
		"\"name\":\"read\",\"arguments\":\"{\\\"raw_arguments\\\":\\\"[1]\\\"}\"},{"
		"\"type\":"
		"\"function_call_output\",\"call_id\":\"c1\",\"output\":\"one\"},{\"type\":"
		"\"function_call_output\",\"call_id\":\"c2\",\"output\":\"error: bad\"},{\"type\":"
		"\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
		"\"hurry\"}]}]}");
	buf_fini(&body);
}

/* What another provider said has no id here, and an item without one is refused. */
static void
test_request_of_another(void **state)
{
	const struct model_request options = { .cache_key = STR("k") };
	struct buf body;

	build(&options, 5, &body);
	assert_non_null(strstr(buf_z(&body),
		"{\"type\":\"message\",\"role\":\"assistant\",\"content\":\"Done.\"},{\"type\":"
		"\"message\",\"role\":\"user\""));
	buf_fini(&body);
}

static void
test_request_variants(void **state)
{
	struct model_request options = { .cache_key = STR("k"), .effort = EFFORT_HIGH };
	struct buf body;

	/* neither reasoning nor a cache key where the server does not know them */
	build(&options, 1, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"store\":false,\"input\":[" CONTENTS "]}");
	buf_fini(&body);
	options = (struct model_request){ .has_reasoning = true, .effort = EFFORT_OFF };
	build(&options, 1, &body);
	assert_non_null(
		strstr(buf_z(&body), "\"reasoning\":{\"effort\":\"none\",\"summary\":\"auto\"}"));
	buf_fini(&body);
	options.effort = EFFORT_AUTO;
	options.schema = STR("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"object\","
			     "\"properties\":{},\"additionalProperties\":false}},\"required\":["
			     "\"a\"],\"additionalProperties\":false}");
	build(&options, 1, &body);
	assert_non_null(strstr(buf_z(&body), "\"reasoning\":{\"summary\":\"auto\"}"));
	assert_non_null(strstr(buf_z(&body), "\"strict\":true"));
	buf_fini(&body);
}

static void
test_prefix_is_stable(void **state)
{
	const struct model_request options = {
		.tools = tools, .tools_n = 1, .has_reasoning = true, .schema = STR("{}")
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
		cmocka_unit_test(test_reasoning_and_calls),
		cmocka_unit_test(test_without_deltas),
		cmocka_unit_test(test_what_is_ignored),
		cmocka_unit_test(test_phase),
		cmocka_unit_test(test_refusal),
		cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_request_of_another),
		cmocka_unit_test(test_request_variants),
		cmocka_unit_test(test_prefix_is_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
