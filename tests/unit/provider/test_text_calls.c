/* SPDX-License-Identifier: MIT
 * Tools as text: how they are told to a model, and the calls that models write. */
#include "streams.h"

static const struct tool_schema tools[] = {
	{ "read", "Reads a file.",
		S("{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\","
		  "\"description\":"
		  "\"Where it "
		  "is.\"},\"limit\":{\"type\":\"integer\"},\"mode\":{\"enum\":[\"a\",\"b\"]},"
		  "\"parts\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}},\"required\":["
		  "\"path\"]}") },
	{ "list", "Lists.", S("{\"type\":\"object\"}") },
};

static void
find_in(struct str text, enum tool_mode mode, bool is_own, size_t calls, const char *want)
{
	const struct part parts[] = { { .type = PART_REASONING, .text = STR("hm") },
		{ .type = PART_TEXT, .text = text } };
	const struct model_answer answer = { .parts = parts, .n = 2, .stop = STOP_END };
	const struct model_request r = {
		.tools = tools, .tools_n = 2, .tool_mode = mode, .is_own_server = is_own
	};
	struct arena *a = arena_new(64 * MIB);
	struct model_answer out;
	struct buf shown;
	char all[4000];

	buf_init(&shown, 16 * MIB);
	assert_int_equal(answer_text_calls(&answer, &r, a, &out), calls);
	assert_int_equal(out.stop, calls > 0 ? STOP_TOOLS : STOP_END);
	stream_show(&shown, &out);
	snprintf(all, sizeof(all), "reasoning[hm|] %s %s in=0 out=0 cached=0 written=0 reasoning=0",
		want, calls ? "tools" : "end");
	assert_string_equal(buf_z(&shown), all);
	buf_fini(&shown);
	arena_free(a);
}

/* Found in both modes of text, and on a server that does not know its model's form. */
static void
found(const char *text, size_t calls, const char *want)
{
	find_in(str_of(text), TOOLS_TEXT, false, calls, want);
	find_in(str_of(text), TOOLS_NATIVE, false, calls, want);
	find_in(str_of(text), TOOLS_SCHEMA, true, calls, want);
}

/* No call: the text stays to the last byte. */
static void
stays(const char *text)
{
	char want[2000];

	snprintf(want, sizeof(want), "text[%s]", text);
	found(text, 0, want);
}

#define READ_A "call[made read {\"path\":\"a\"}]"
#define OBJ_A  "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}"
#define LIST   "call[made list {}]"

static void
test_hermes(void **state)
{
	found("I look.\n<tool_call>\n" OBJ_A "\n</tool_call>", 1, "text[I look.] " READ_A);
	found("<tool_call>" OBJ_A "</tool_call>\n<tool_call>{\"name\":\"list\",\"arguments\":{}}"
	      "</tool_call>\nand more",
		2, READ_A " " LIST " text[and more]");
	found("<tool_call>\n" OBJ_A, 1, READ_A); /* the end mark ended the answer */
	found("<tool_call>" OBJ_A "\n" OBJ_A "</tool_call>", 2, READ_A " " READ_A);
	found("<tool_call>[" OBJ_A "]</tool_call>", 1, READ_A);
	found("<tool_call>{\"name\":\"read\",\"arguments\":\"{\\\"path\\\":\\\"a\\\"}\"}</"
	      "tool_call>",
		1, READ_A);
	/* slips with one reading */
	found("<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"a\",},}</tool_call>", 1,
		READ_A);
	found("<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"a\nb\"}}</tool_call>", 1,
		"call[made read {\"path\":\"a\\nb\"}]");
}

static void
test_tags(void **state)
{
	found("<tool_call>\n<function=read>\n<parameter=path>\n12\n</"
	      "parameter>\n<parameter=limit>\n3\n"
	      "</parameter>\n<parameter=parts>[\"x\"]</parameter>\n</function>\n</tool_call>",
		1, "call[made read {\"path\":\"12\",\"limit\":3,\"parts\":[\"x\"]}]");
	found("So: <function=list></function>", 1, "text[So:] " LIST);
	found("<function=read><parameter=path>\n a\n\nb \n</parameter></function>", 1,
		"call[made read {\"path\":\" a\\n\\nb \"}]");
	found("<tool_call>read\n<arg_key>path</arg_key>\n<arg_value>a</arg_value>\n</tool_call>", 1,
		READ_A);
	stays("<function=unknown><parameter=path>a</parameter></function>");
	stays("<function=read><parameter=path>a</parameter>");
	stays("<function=read><parameter=path>a</parameter><parameter=path>b</parameter></"
	      "function>");
}

static void
test_llama(void **state)
{
	found("{\"name\": \"read\", \"parameters\": {\"path\": \"a\"}}", 1, READ_A);
	found(" [" OBJ_A ", {\"name\":\"list\",\"parameters\":{}}]\n", 2, READ_A " " LIST);
	found("<|python_tag|>{\"name\": \"read\", \"parameters\": {\"path\": \"a\"}}<|eom_id|>", 1,
		READ_A);
	found("<|python_tag|>" OBJ_A "; " OBJ_A, 2, READ_A " " READ_A);
	found("{\"type\":\"function\",\"function\":{\"name\":\"list\",\"arguments\":{}}}", 1, LIST);
	found("{\"type\": \"function\", \"function\": \"list\", \"parameters\": {}}", 1, LIST);
	stays("<|python_tag|>print(1)");
	stays(OBJ_A " is how one calls it");
}

static void
test_mistral(void **state)
{
	found("[TOOL_CALLS][" OBJ_A "]", 1, READ_A);
	found("[TOOL_CALLS] [" OBJ_A ", {\"name\":\"list\",\"arguments\":{}}]", 2, READ_A " " LIST);
	found("[TOOL_CALLS]read[ARGS]{\"path\":\"a\"}[TOOL_CALLS]list[ARGS]{}", 2, READ_A " " LIST);
	stays("[TOOL_CALLS] none");
	stays("[TOOL_CALLS]other[ARGS]{}");
}

static void
test_fences(void **state)
{
	found("Here:\n```json\n" OBJ_A "\n```\nDone.", 1, "text[Here:] " READ_A " text[Done.]");
	found("```\n" OBJ_A "\n```", 1, READ_A);
	found("```tool_call\n" OBJ_A "\n" OBJ_A "\n```", 2, READ_A " " READ_A);
	stays("```json\n{\"name\": \"read\"}\n```");
	stays("```json\n{\"name\": \"Ann\", \"arguments\": {}}\n```");
	stays("```json\n" OBJ_A " // like this\n```");
	stays("```json\n" OBJ_A);
}

#define DS(name) "<\xEF\xBD\x9C" name "\xEF\xBD\x9C>"
#define SP       "\xE2\x96\x81"

static void
test_deepseek(void **state)
{
	found(DS("tool" SP "calls" SP "begin") DS("tool" SP "call" SP "begin") "function" DS(
		      "tool" SP
		      "sep") "read\n```json\n{\"path\":\"a\"}\n```" DS("tool" SP "call" SP "end")
			DS("tool" SP "calls" SP "end"),
		1, READ_A);
	found("Well " DS("tool" SP "calls" SP "begin") DS("tool" SP "call" SP "begin") "read" DS(
		      "tool" SP
		      "sep") "{\"path\":\"a\"}" DS("tool" SP "call" SP
						   "end") "\n" DS("tool" SP "call" SP
								  "begin") "list" DS("tool" SP
										     "sep") "{}" DS("tool" SP
												    "call" SP
												    "end")
			DS("tool" SP "calls" SP "end"),
		2, "text[Well] " READ_A " " LIST);
	stays(DS("tool" SP "calls" SP "begin") "x");
}

static void
test_what_stays_text(void **state)
{
	stays("Nothing here.");
	stays("  spaces stay \n");
	stays("<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>");
	stays("<tool_call>{\"name\":\"read\",\"arguments\":[1]}</tool_call>");
	stays("<tool_call>{\"name\":\"read\"}</tool_call>");
	stays("<tool_call>" OBJ_A "{\"name\":\"unknown\",\"arguments\":{}}</tool_call>");
	stays("<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"a\"</tool_call>");
	stays("<tool_call>" OBJ_A "</tool_call");
	/* a broken block does not hide the next */
	found("<tool_call>{</tool_call><tool_call>" OBJ_A "</tool_call>", 1,
		"text[<tool_call>{</tool_call>] " READ_A);
	/* an API's own server reads the calls of its models itself */
	find_in(STR("<tool_call>" OBJ_A "</tool_call>"), TOOLS_NATIVE, true, 0,
		"text[<tool_call>" OBJ_A "</tool_call>]");
}

static void
test_native_calls_win(void **state)
{
	const struct part parts[] = { { .type = PART_TEXT,
					      .text = STR("<tool_call>" OBJ_A "</tool_call>") },
		{ .type = PART_CALL, .tool = STR("list"), .args = STR("{}") } };
	const struct model_answer answer = { .parts = parts, .n = 2, .stop = STOP_TOOLS };
	const struct model_request r = { .tools = tools, .tools_n = 2 };
	struct arena *a = arena_new(MIB);
	struct model_answer out;

	assert_int_equal(answer_text_calls(&answer, &r, a, &out), 0);
	assert_ptr_equal(out.parts, parts);
	assert_int_equal(out.n, 2);
	arena_free(a);
}

static void
schema(const char *text, size_t calls, const char *want)
{
	find_in(str_of(text), TOOLS_SCHEMA, false, calls, want);
}

static void
test_schema_answers(void **state)
{
	schema("{\"answer\": \"Hi \\\"you\\\"\"}", 0, "text[Hi \"you\"]");
	schema(" {\"answer\": {\"n\": 1.50}}\n", 0, "text[{\"n\":1.50}]");
	schema("{\"tool_calls\": [" OBJ_A ", {\"name\":\"list\",\"arguments\":{}}]}", 2,
		READ_A " " LIST);
	schema("{\"answer\": \"wait\", \"tool_calls\": [" OBJ_A "]}", 1, "text[wait] " READ_A);
	schema("{\"answer\": \"x\", \"tool_calls\": []}", 0, "text[x]");
	schema("{\"tool_calls\": [{\"name\":\"unknown\",\"arguments\":{}}]}", 0,
		"text[{\"tool_calls\": [{\"name\":\"unknown\",\"arguments\":{}}]}]");
	schema("just words", 0, "text[just words]");
}

static void
test_limits(void **state)
{
	struct buf b;
	struct part part = { .type = PART_TEXT };
	const struct model_answer answer = { .parts = &part, .n = 1, .stop = STOP_END };
	const struct model_request r = { .tools = tools, .tools_n = 2 };
	struct arena *a = arena_new(64 * MIB);
	struct model_answer out;

	buf_init(&b, 16 * MIB);
	for (size_t i = 0; i <= MODEL_CALLS_MAX; i++)
		buf_add_z(&b, "<tool_call>" OBJ_A "</tool_call>");
	part.text = buf_str(&b);
	assert_int_equal(answer_text_calls(&answer, &r, a, &out), MODEL_CALLS_MAX);
	assert_int_equal(out.n, MODEL_CALLS_MAX + 1); /* the last one is left as text */
	/* beginnings without end take no time and no memory */
	buf_reset(&b);
	while (b.n < MODEL_TEXT_MAX - 100)
		buf_add_z(&b, "<tool_call>{[\"<function=read>```json\n[");
	part.text = buf_str(&b);
	assert_int_equal(answer_text_calls(&answer, &r, a, &out), 0);
	assert_true(str_eq(out.parts[0].text, part.text));
	buf_fini(&b);
	arena_free(a);
}

/* ---- requests ---- */

static const struct part user1[] = { { .type = PART_TEXT, .text = S("Hi") } };
static const struct part model1[] = {
	{ .type = PART_REASONING, .text = S("hm") },
	{ .type = PART_TEXT, .text = S("I look.") },
	{ .type = PART_CALL, .call_id = S("c1"), .tool = S("read"), .args = S("{\"path\":\"a\"}") },
	{ .type = PART_CALL, .call_id = S("c2"), .tool = S("list"), .args = S("oops") },
};
static const struct part user2[] = {
	{ .type = PART_TEXT, .text = S("hurry") },
	{ .type = PART_RESULT, .call_id = S("c1"), .text = S("one") },
	{ .type = PART_RESULT, .call_id = S("c2"), .text = S("bad"), .is_error = true },
};
static const struct part model2[] = { { .type = PART_TEXT, .text = S("Done.") } };
static const struct message messages[] = {
	{ MSG_USER, user1, ARRAY_LEN(user1) },
	{ MSG_ASSISTANT, model1, ARRAY_LEN(model1) },
	{ MSG_USER, user2, ARRAY_LEN(user2) },
	{ MSG_ASSISTANT, model2, ARRAY_LEN(model2) },
};

static void
build(const char *api, enum tool_mode mode, size_t messages_n, struct buf *body)
{
	const struct model_request r = { .model = STR("m"),
		.system = STR("Be brief."),
		.messages = messages,
		.messages_n = messages_n,
		.tools = tools,
		.tools_n = 2,
		.tool_mode = mode };
	struct http_request out = { .body = body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(provider_api_find(str_of(api))->build(&r, &out, a, &e), 0);
	arena_free(a);
}

static void
test_request_text(void **state)
{
	struct buf body;

	build("openai-chat", TOOLS_TEXT, 4, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\\n\\n# Tools\\nTo call "
		"a tool, write a block like this one, and nothing after it; the result comes in "
		"the "
		"next message:\\n<tool_call>\\n{\\\"name\\\": \\\"NAME\\\", \\\"arguments\\\": "
		"{\\\"KEY\\\": VALUE}}\\n</tool_call>\\nSeveral blocks may follow each other. To "
		"answer without a tool, write no block.\\n\\n## read\\nReads a file.\\n- path "
		"(string, required): Where it is.\\n- limit (integer)\\n- mode (one of \\\"a\\\", "
		"\\\"b\\\")\\n- parts (list of string)\\n\\n## list\\nLists.\\n\"},{\"role\":"
		"\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"I "
		"look.\\n<tool_"
		"call>\\n{\\\"name\\\":\\\"read\\\",\\\"arguments\\\":{\\\"path\\\":\\\"a\\\"}}\\n<"
		"/"
		"tool_call>\\n<tool_call>\\n{\\\"name\\\":\\\"list\\\",\\\"arguments\\\":{\\\"raw_"
		"arguments\\\":\\\"oops\\\"}}\\n</tool_call>\"},{\"role\":\"user\",\"content\":"
		"\"<tool_response name=\\\"read\\\">\\none\\n</tool_response>\\n\\n<tool_response "
		"name=\\\"list\\\">\\nerror: bad\\n</tool_response>\\n\\nhurry\"},{\"role\":"
		"\"assistant\",\"content\":\"Done.\"}]}");
	buf_fini(&body);
}

static void
test_request_schema(void **state)
{
	struct buf body;

	build("openai-chat", TOOLS_SCHEMA, 4, &body);
	assert_non_null(strstr(buf_z(&body),
		"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":"
		"\"answer\","
		"\"strict\":false,\"schema\":{\"oneOf\":[{\"type\":\"object\",\"properties\":{"
		"\"answer\":{\"type\":\"string\"}},\"required\":[\"answer\"],"
		"\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"tool_"
		"calls\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"oneOf\":[{\"type\":"
		"\"object\",\"properties\":{\"name\":{\"const\":\"read\"},\"arguments\":{"
		"\"type\":"));
	assert_non_null(strstr(buf_z(&body),
		"{\"role\":\"assistant\",\"content\":\"{\\\"tool_calls\\\":[{\\\"name\\\":"
		"\\\"read\\\","
		"\\\"arguments\\\":{\\\"path\\\":\\\"a\\\"}},{\\\"name\\\":\\\"list\\\","
		"\\\"arguments\\\":{\\\"raw_arguments\\\":\\\"oops\\\"}}]}\"}"));
	assert_non_null(strstr(buf_z(&body),
		"{\"role\":\"assistant\",\"content\":\"{\\\"answer\\\":\\\"Done.\\\"}\"}"));
	assert_null(strstr(buf_z(&body), "\"tools\":"));
	buf_fini(&body);
}

/* No API sends a call, a result or a tool in its own form, and prefixes stay stable. */
static void
test_every_api(void **state)
{
	static const char *const apis[] = { "openai-chat", "openai-responses", "gemini", "ollama" };

	for (size_t i = 0; i < ARRAY_LEN(apis); i++) {
		struct buf a, b;

		build(apis[i], TOOLS_TEXT, 1, &a);
		build(apis[i], TOOLS_TEXT, 4, &b);
		assert_null(strstr(buf_z(&b), "\"tool"));
		assert_null(strstr(buf_z(&b), "function"));
		expect_prefix(&a, strlen("]}"), &b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hermes),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_llama),
		cmocka_unit_test(test_mistral),
		cmocka_unit_test(test_fences),
		cmocka_unit_test(test_deepseek),
		cmocka_unit_test(test_what_stays_text),
		cmocka_unit_test(test_native_calls_win),
		cmocka_unit_test(test_schema_answers),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_request_text),
		cmocka_unit_test(test_request_schema),
		cmocka_unit_test(test_every_api),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
