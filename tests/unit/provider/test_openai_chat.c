/* SPDX-License-Identifier: MIT
 * The OpenAI Chat Completions API: streams of the vendor and of servers that imitate it, and the
 * requests. */
#include "streams.h"

#define CHUNK(choice)                                                                              \
	"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[" choice "]}\n\n"
#define DELTA(delta) CHUNK("{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}")
#define FINISH(why)  CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"" why "\"}")
#define CALLS(calls) DELTA("{\"tool_calls\":[" calls "]}")
#define USAGE                                                                                      \
	"data: "                                                                                   \
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":20,\"total_"       \
	"tokens\":120,"                                                                            \
	"\"prompt_tokens_details\":{\"cached_tokens\":64},\"completion_tokens_details\":{"         \
	"\"reasoning_tokens\":7}}}\n\n"
#define DONE     "data: [DONE]\n\n"
#define NO_USAGE " in=0 out=0 cached=0 written=0 reasoning=0"

static const struct provider_api *
api(void)
{
	return provider_api_find(STR("openai-chat"));
}

static void
test_text(void **state)
{
	expect_answer(api(),
		STR(DELTA("{\"role\":\"assistant\",\"content\":\"\"}")
				DELTA("{\"content\":\"H\xC3\xA9llo \"}")
					DELTA("{\"content\":\"\xF0\x9F\x98\x80\\n\"}")
						FINISH("stop") USAGE DONE),
		"text[H\xC3\xA9llo \xF0\x9F\x98\x80\n] end in=100 out=20 cached=64 written=0 "
		"reasoning=7",
		"T(H\xC3\xA9llo )T(\xF0\x9F\x98\x80\n)");
}

static void
test_crlf_comments_and_keepalives(void **state)
{
	expect_answer(api(),
		STR(": OPENROUTER PROCESSING\r\n\r\ndata: "
		    "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n"
		    ":\r\n\r\ndata:\r\n\r\ndata: "
		    "{\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}"
		    "\r\n\r\n"
		    "data: [DONE]\r\n\r\n"),
		"text[ab] end" NO_USAGE, "T(a)T(b)");
}

static void
test_calls(void **state)
{
	expect_answer(api(),
		STR(CALLS("{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":"
			  "\"read\",\"arguments\":\"\"}}") CALLS("{\"index\":0,\"function\":{"
								 "\"arguments\":\"{\\\"pa\"}}")
				CALLS("{\"index\":1,\"id\":\"c2\",\"function\":{\"name\":\"list\","
				      "\"arguments\":\"\"}}") CALLS("{\"index\":0,\"function\":{"
								    "\"arguments\":\"th\\\":1}\"}}")
					FINISH("tool_calls") DONE),
		"call[c1 read {\"path\":1}] call[c2 list {}] tools" NO_USAGE, "C(read)C(list)");
}

static void
test_calls_of_other_servers(void **state)
{
	/* whole arguments in one chunk, two calls in one chunk, no index */
	expect_answer(api(),
		STR(CALLS("{\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}},"
			  "{\"id\":\"b\",\"function\":{\"name\":\"y\",\"arguments\":\"{\\\"k\\\":2}"
			  "\"}}") FINISH("stop") DONE),
		"call[a x {}] call[b y {\"k\":2}] tools" NO_USAGE, "C(x)C(y)");
	/* index 0 for every call, told apart by the id; the name is repeated */
	expect_answer(api(),
		STR(CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{"
			  "\"}}") CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\","
					"\"arguments\":\"}\"}}")
				CALLS("{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"y\","
				      "\"arguments\":\"{"
				      "\"}}")
					CALLS("{\"index\":0,\"function\":{\"arguments\":\"}\"}}")
						DONE),
		"call[a x {}] call[b y {}] tools" NO_USAGE, "C(x)C(y)");
	/* neither index nor id: a second name begins a second call; ids are made */
	expect_answer(api(),
		STR(CALLS("{\"function\":{\"name\":\"x\",\"arguments\":\"{\"}}")
				CALLS("{\"function\":{\"arguments\":\"}\"}}") CALLS(
					"{\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
					FINISH("tool_calls") DONE),
		"call[made x {}] call[made x {}] tools" NO_USAGE, NULL);
	/* arguments as an object; the same id twice in different places */
	expect_answer(api(),
		STR(CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":{"
			  "\"n\":1.50}}},"
			  "{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"y\"}}")
				FINISH("tool_calls") DONE),
		"call[a x {\"n\":1.50}] call[made y {}] tools" NO_USAGE, NULL);
}

static void
test_broken_arguments_are_kept(void **state)
{
	expect_answer(api(),
		STR(CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{"
			  "\\\"p\\\": oops\"}}") FINISH("length") DONE),
		"call[a x {\"p\": oops] length" NO_USAGE, NULL);
}

static void
test_reasoning(void **state)
{
	expect_answer(api(),
		STR(DELTA("{\"reasoning_content\":\"hm\"}")
				DELTA("{\"reasoning_content\":\"m\",\"reasoning\":\"m\"}")
					DELTA("{\"content\":\"yes\"}") FINISH("stop") DONE),
		"reasoning[hmm|] id[reasoning_content] text[yes] end" NO_USAGE, "R(hm)R(m)T(yes)");
	expect_answer(api(),
		STR(DELTA("{\"reasoning\":\"hm\",\"content\":\"yes\"}") FINISH("stop") DONE),
		"reasoning[hm|] id[reasoning] text[yes] end" NO_USAGE, NULL);
	/* content as a list of blocks */
	expect_answer(api(),
		STR(DELTA("{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\","
			  "\"text\":\"hm\"}]}]}") DELTA("{\"content\":[{\"type\":\"text\",\"text\":"
							"\"yes\"}]}")
				DELTA("{\"content\":\"!\"}") "data: [DONE]\n\n"),
		"reasoning[hm|] text[yes!] end" NO_USAGE, "R(hm)T(yes)T(!)");
}

static void
test_finish_reasons(void **state)
{
	expect_answer(api(), STR(DELTA("{\"content\":\"a\"}") FINISH("length") DONE),
		"text[a] length" NO_USAGE, NULL);
	expect_answer(api(), STR(FINISH("content_filter") DONE), "refused" NO_USAGE, NULL);
	expect_answer(api(), STR(DELTA("{\"content\":\"a\"}") FINISH("new_reason") DONE),
		"text[a] other" NO_USAGE, NULL);
	expect_answer(api(), STR(DELTA("{\"content\":\"a\"}") DONE), "text[a] end" NO_USAGE, NULL);
	expect_answer(api(), STR(FINISH("tool_calls") DONE), "end" NO_USAGE,
		NULL); /* says calls, has none */
	expect_answer(api(), STR(DELTA("{\"refusal\":\"no\"}") FINISH("stop") DONE),
		"text[no] refused" NO_USAGE, NULL);
}

static void
test_what_is_ignored(void **state)
{
	expect_answer(api(),
		STR("data: "
		    "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\n\n" DELTA(
			    "{\"content\":\"a\"}")
				FINISH("stop") "data: "
					       "{\"choices\":[],\"usage\":null,\"x\":[1,{}]}"
					       "\n\n" DONE "data: not json after the end\n\n"),
		"text[a] end" NO_USAGE, NULL);
	expect_answer(api(),
		STR("data: "
		    "{\"choices\":[],\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":"
		    "99999999999999999}}\n\n" DONE),
		"end in=0 out=1000000000000 cached=0 written=0 reasoning=0", NULL);
}

/* Reasoning that is counted beside the completion is output like any other. */
static void
test_hidden_output(void **state)
{
	static const struct {
		const char *usage, *want;
	} rows[] = {
		{ "\"prompt_tokens\":32,\"completion_tokens\":9,\"total_tokens\":135,"
		  "\"completion_tokens_details\":{\"reasoning_tokens\":94}",
			"end in=32 out=103 cached=0 written=0 reasoning=94" },
		{ "\"prompt_tokens\":32,\"completion_tokens\":103,\"total_tokens\":135,"
		  "\"completion_tokens_details\":{\"reasoning_tokens\":94}",
			"end in=32 out=103 cached=0 written=0 reasoning=94" },
		{ "\"prompt_tokens\":32,\"completion_tokens\":9,\"total_tokens\":0",
			"end in=32 out=9 cached=0 written=0 reasoning=0" },
		{ "\"completion_tokens\":9,\"total_tokens\":41",
			"end in=0 out=9 cached=0 written=0 reasoning=0" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char stream[400];

		snprintf(stream, sizeof(stream), "data: {\"choices\":[],\"usage\":{%s}}\n\n" DONE,
			rows[i].usage);
		expect_answer(api(), str_of(stream), rows[i].want, NULL);
	}
}

/* Where some servers put what others send beside the choices. */
static void
test_other_places_of_usage(void **state)
{
	expect_answer(api(),
		STR(DELTA("{\"content\":\"a\"}") "data: {\"choices\":[{\"index\":0,\"delta\":{},"
						 "\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":"
						 "\"r\",\"usage\":{\"queue_time\":0.1,"
						 "\"prompt_tokens\":7,\"completion_tokens\":2,"
						 "\"total_tokens\":9}}}\n\n" DONE),
		"text[a] end in=7 out=2 cached=0 written=0 reasoning=0", NULL);
	expect_answer(api(),
		STR(CHUNK("{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\","
			  "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}") DONE),
		"text[a] end in=7 out=2 cached=0 written=0 reasoning=0", NULL);
}

static void
test_errors(void **state)
{
	expect_error(api(), STR(DELTA("{\"content\":\"half\"}") FINISH("error") DONE), ERR_PROVIDER,
		"server_error: the server broke the answer off");
	expect_error(api(),
		STR(CHUNK("{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\","
			  "\"error\":{\"message\":\"no room\"}}") DONE),
		ERR_PROVIDER, "server_error: no room");
	expect_error(api(),
		STR("data: "
		    "{\"error\":{\"message\":\"Overloaded\",\"type\":\"server_error\",\"code\":"
		    "null}}\n\n"),
		ERR_PROVIDER, "server_error: Overloaded");
	expect_error(
		api(), STR("event: error\ndata: {\"message\":\"bad\"}\n\n"), ERR_PROVIDER, "bad");
	expect_error(api(), STR("data: {\"choices\": oops}\n\n"), ERR_PROTO, "event 1");
	expect_error(api(), STR(DELTA("{}") "data: [1]\n\n"), ERR_PROTO,
		"event 2 of the openai-chat stream: expected an object");
	expect_error(api(), STR(DELTA("{\"content\":\"\xC3(\"}")), ERR_PROTO, "invalid UTF-8");
	expect_error(api(), STR(DELTA("{\"content\":[1]}")), ERR_PROTO,
		"content: expected a list of objects, found");
	expect_error(api(),
		STR(CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"arguments\":\"{}\"}}") DONE),
		ERR_PROTO, "without a name");
	expect_error(api(), STR("<html><body>\x1b[31m502 Bad Gateway"), ERR_PROTO,
		"<html><body>\\x1b[31m502");
	expect_error(api(), STR("{\"choices\":[]}"), ERR_PROTO, "not an event stream");
	expect_error(api(), STR(""), ERR_NET, "cut before its end");
}

#define FIRST DELTA("{\"content\":\"a\xC3\xA9\"}")

/* An answer is whole at its end mark, or when a reason was given and the body ends: some servers
 * send no mark. */
static void
test_cut(void **state)
{
	struct str whole = STR(FIRST FINISH("stop"));

	expect_cut_everywhere(api(), whole, 1);
	expect_cut_everywhere(api(), STR(FIRST DONE), 1);
	expect_cut_everywhere(
		api(), STR(DELTA("{\"refusal\":\"I\"}") DELTA("{\"refusal\":\" no\"}")), 0);
	expect_answer(api(), whole, "text[a\xC3\xA9] end" NO_USAGE, NULL);
	expect_answer(api(), STR(FIRST FINISH("stop") USAGE),
		"text[a\xC3\xA9] end in=100 out=20 cached=64 written=0 reasoning=7", NULL);
	expect_answer(api(), STR(FIRST DONE), "text[a\xC3\xA9] end" NO_USAGE, NULL);
	expect_answer(api(), STR(DELTA("{\"refusal\":\"I no\"}") DONE),
		"text[I no] refused" NO_USAGE, NULL);
}

/* ---- limits ---- */

static int
feed_n(struct parser *p, const char *event, unsigned n, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = parser_feed(p, str_of(event), e);
	return rc;
}

static void
expect_limit(const char *format, unsigned piece, unsigned n_ok, const char *message)
{
	char *fill = malloc(piece + 1), *event = malloc(piece + 1000);
	struct outcome o;
	struct parser *p = stream_open(api(), &o);

	memset(fill, 'x', piece);
	fill[piece] = '\0';
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(event, piece + 1000, format, fill);
#pragma GCC diagnostic pop
	assert_int_equal(feed_n(p, event, n_ok, &o.e), 0);
	assert_int_equal(feed_n(p, event, 1, &o.e), ERR_LIMIT);
	assert_non_null(strstr(o.e.msg, message));
	assert_int_equal(feed_n(p, event, 1, &o.e), ERR_LIMIT); /* stays failed */
	o.rc = ERR_LIMIT;
	stream_close(p, &o);
	outcome_free(&o);
	free(fill);
	free(event);
}

static void
test_limits(void **state)
{
	expect_limit(DELTA("{\"content\":\"%s\"}"), 64 * KIB, MODEL_TEXT_MAX / (64 * KIB),
		"text of the model");
	expect_limit(CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":"
			   "\"%s\"}}"),
		64 * KIB, MODEL_ARGS_MAX / (64 * KIB), "arguments of one tool call");
	expect_limit(
		CALLS("{\"function\":{\"name\":\"%s\"}}"), 3, MODEL_CALLS_MAX, "128 tool calls");
}

/* ---- requests ---- */

static const struct tool_schema tools[] = {
	{ "read", "Reads a file.", { "{\"type\":\"object\"}", 17 } },
	{ "list", "Lists.", { "{}", 2 } },
};
static const struct part user1[] = { { .type = PART_TEXT, .text = { "Hi \"you\"", 8 } } };
static const struct part model1[] = {
	{ .type = PART_REASONING, .text = { "secret", 6 } },
	{ .type = PART_CALL,
		.call_id = { "c1", 2 },
		.tool = { "read", 4 },
		.args = { "{\"path\":\"a\"}", 12 } },
	{ .type = PART_CALL,
		.call_id = { "c2", 2 },
		.tool = { "read", 4 },
		.args = { "{oops", 5 } },
};
static const struct part user2[] = {
	{ .type = PART_TEXT, .text = { "and now?", 8 } },
	{ .type = PART_RESULT, .call_id = { "c1", 2 }, .text = { "content", 7 } },
	{ .type = PART_RESULT,
		.call_id = { "c2", 2 },
		.text = { "no such file", 12 },
		.is_error = true },
};
static const struct part user3[] = { { .type = PART_TEXT, .text = { "hurry", 5 } } };
static const struct part model2[] = { { .type = PART_TEXT, .text = { "Done.", 5 } } };
static const struct message messages[] = {
	{ MSG_USER, user1, ARRAY_LEN(user1) },
	{ MSG_ASSISTANT, model1, ARRAY_LEN(model1) },
	{ MSG_USER, user2, ARRAY_LEN(user2) },
	{ MSG_USER, user3, ARRAY_LEN(user3) },
	{ MSG_ASSISTANT, model2, ARRAY_LEN(model2) },
};

static struct model_request
request(size_t messages_n)
{
	return (struct model_request){ .model = STR("m"),
		.system = STR("Be brief."),
		.messages = messages,
		.messages_n = messages_n,
		.tools = tools,
		.tools_n = 2,
		.max_output_tokens = 100 };
}

static void
build(const struct model_request *r, struct buf *body)
{
	struct http_request out = { .body = body };
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };

	buf_init(body, REQUEST_BODY_MAX);
	assert_int_equal(api()->build(r, &out, a, &e), 0);
	assert_true(str_is(out.path, "/chat/completions"));
	assert_true(str_starts(out.headers, "content-type: application/json\n"));
	arena_free(a);
}

static void
test_request(void **state)
{
	struct model_request r = request(5);
	struct buf body;

	build(&r, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"max_tokens\":100,\"tools\":["
		"{\"type\":\"function\",\"function\":{\"name\":\"read\",\"description\":\"Reads a "
		"file.\","
		"\"parameters\":{\"type\":\"object\"}}},{\"type\":\"function\",\"function\":{"
		"\"name\":\"list\","
		"\"description\":\"Lists.\",\"parameters\":{}}}],\"messages\":["
		"{\"role\":\"system\",\"content\":\"Be "
		"brief.\"},{\"role\":\"user\",\"content\":\"Hi \\\"you\\\"\"},"
		"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
		"{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"read\","
		"\"arguments\":\"{\\\"path\\\":\\\"a\\\"}\"}},"
		"{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"read\","
		"\"arguments\":"
		"\"{\\\"raw_arguments\\\":\\\"{oops\\\"}\"}}]},"
		"{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"content\"},"
		"{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"error: no such file\"},"
		"{\"role\":\"user\",\"content\":\"and now?\\n\\nhurry\"},"
		"{\"role\":\"assistant\",\"content\":\"Done.\"}]}");
	buf_fini(&body);
}

static void
test_request_variants(void **state)
{
	struct model_request r = request(1);
	struct http_request out = { 0 };
	struct buf body;
	struct err e = { 0 };

	r.is_own_server = true;
	build(&r, &body);
	assert_non_null(strstr(buf_z(&body), "\"max_completion_tokens\":100"));
	assert_null(strstr(buf_z(&body), "\"max_tokens\""));
	buf_fini(&body);
	r.max_output_tokens = 0;
	r.tools_n = 0;
	r.system = STR("");
	build(&r, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"messages\":[{\"role\":\"user\",\"content\":\"Hi \\\"you\\\"\"}]}");
	buf_fini(&body);
	out.body = &body;
	buf_init(&body, 10);
	assert_int_equal(api()->build(&r, &out, NULL, &e), ERR_LIMIT);
	buf_fini(&body);
	r.messages_n = 0;
	assert_int_equal(api()->build(&r, &out, NULL, &e), ERR_INVALID);
}

/* The prompt cache: what was sent is a prefix of what is sent next, up to the brackets at the end.
 */
static const struct part rich1[] = { { .type = PART_TEXT, .text = S("Look") },
	{ .type = PART_MEDIA,
		.mime = S("image/jpeg"),
		.data = S("\x00\xff\x10"),
		.name = S("a.jpg") },
	{ .type = PART_MEDIA, .mime = S("application/pdf"), .data = S("%PDF"), .name = S("d.pdf") },
	{ .type = PART_MEDIA, .mime = S("audio/mpeg"), .data = S("ID") },
	{ .type = PART_MEDIA, .mime = S("text/plain"), .data = S("[]") },
	{ .type = PART_MEDIA, .mime = S("a\"/b"), .data = S("z"), .name = S("x.bin") } };
static const struct part rich2[] = {
	{ .type = PART_REASONING,
		.text = S("own"),
		.item_id = S("reasoning_content"),
		.origin = S("acme") },
	{ .type = PART_REASONING,
		.text = S("foreign"),
		.item_id = S("reasoning_content"),
		.origin = S("other") },
	{ .type = PART_REASONING, .text = S("signed"), .item_id = S("rs_1"), .origin = S("acme") },
	{ .type = PART_REASONING,
		.text = S("more"),
		.item_id = S("reasoning_content"),
		.origin = S("acme") },
	{ .type = PART_CALL, .call_id = S("c1"), .tool = S("read"), .args = S("{}") },
};
static const struct part rich3[] = { { .type = PART_RESULT, .call_id = S("c1"), .text = S("ok") } };
static const struct part rich4[] = {
	{ .type = PART_REASONING,
		.text = S("last"),
		.item_id = S("reasoning_content"),
		.origin = S("acme") },
	{ .type = PART_TEXT, .text = S("Done.") },
};
static const struct part rich5[] = { { .type = PART_TEXT, .text = S("Thanks") } };
static const struct message rich[] = {
	{ MSG_USER, rich1, ARRAY_LEN(rich1) },
	{ MSG_ASSISTANT, rich2, ARRAY_LEN(rich2) },
	{ MSG_USER, rich3, ARRAY_LEN(rich3) },
	{ MSG_ASSISTANT, rich4, ARRAY_LEN(rich4) },
	{ MSG_USER, rich5, ARRAY_LEN(rich5) },
};

static struct model_request
rich_request(size_t n)
{
	return (struct model_request){
		.model = STR("m"), .provider = STR("acme"), .messages = rich, .messages_n = n
	};
}

#define RICH1                                                                                      \
	"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Look\"},{\"type\":"         \
	"\"image_url\",\"image_url\":{\"url\":\"data:image/jpeg;base64,AP8Q\"}},{\"type\":"        \
	"\"file\",\"file\":{\"filename\":\"d.pdf\",\"file_data\":\"data:application/pdf;"          \
	"base64,JVBERg==\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"SUQ=\","        \
	"\"format\":\"mp3\"}},{\"type\":\"text\",\"text\":\"File attachment:\\n[]\"},{\"type\":"   \
	"\"text\",\"text\":\"(The file x.bin, application/octet-stream, 1 bytes, is attached, "    \
	"but this model's API cannot take such files.)\"}]}"

static void
test_attachments_and_reasoning(void **state)
{
	struct model_request r = rich_request(5);
	struct buf body;

	build(&r, &body);
	assert_string_equal(buf_z(&body),
		"{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		"\"messages\":[" RICH1 ",{\"role\":\"assistant\",\"reasoning_content\":"
		"\"own\\n\\nmore\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
		"\"function\",\"function\":{\"name\":\"read\",\"arguments\":\"{}\"}}]},{\"role\":"
		"\"tool\",\"tool_call_id\":\"c1\",\"content\":\"ok\"},{\"role\":\"assistant\","
		"\"content\":\"Done.\"},{\"role\":\"user\",\"content\":\"Thanks\"}]}");
	buf_fini(&body);
	for (size_t n = 1; n < ARRAY_LEN(rich); n++) {
		struct model_request shorter = rich_request(n), longer = rich_request(n + 1);
		struct buf a, b;

		build(&shorter, &a);
		build(&longer, &b);
		a.n -= 2;
		assert_true(str_starts(buf_str(&b), buf_z(&a)));
		buf_fini(&a);
		buf_fini(&b);
	}
}

static void
test_options(void **state)
{
	static const struct {
		const char *model;
		enum effort effort;
		const char *want;
	} efforts[] = {
		{ "gpt-5.2", EFFORT_HIGH, "\"reasoning_effort\":\"high\"" },
		{ "gpt-5.2", EFFORT_OFF, "\"reasoning_effort\":\"none\"" },
		{ "gpt-5", EFFORT_OFF, "\"reasoning_effort\":\"minimal\"" },
		{ "gpt-5-mini", EFFORT_OFF, "\"reasoning_effort\":\"minimal\"" },
		{ "o4-mini", EFFORT_OFF, "\"reasoning_effort\":\"low\"" },
		{ "qwen3", EFFORT_MEDIUM, "\"reasoning_effort\":\"medium\"" },
	};
	struct model_request r = request(1);
	struct buf body;

	for (size_t i = 0; i < ARRAY_LEN(efforts); i++) {
		r.model = str_of(efforts[i].model);
		r.effort = efforts[i].effort;
		r.has_reasoning = true;
		build(&r, &body);
		assert_non_null(strstr(buf_z(&body), efforts[i].want));
		buf_fini(&body);
		r.has_reasoning = false;
		build(&r, &body);
		assert_null(strstr(buf_z(&body), "reasoning_effort"));
		buf_fini(&body);
	}
	r.cache_key = STR("k\"1");
	r.schema = STR("{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[],"
		       "\"additionalProperties\":false}");
	build(&r, &body);
	assert_non_null(strstr(buf_z(&body), "\"response_format\":{\"type\":\"json_schema\",\"json_"
					     "schema\":{\"name\":\"answer\","
					     "\"strict\":false,\"schema\":{\"type\":\"object\","));
	assert_null(strstr(buf_z(&body), "prompt_cache_key"));
	buf_fini(&body);
	r.is_own_server = true;
	r.schema = STR("{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"],"
		       "\"additionalProperties\":false}");
	build(&r, &body);
	assert_non_null(strstr(buf_z(&body), "\"prompt_cache_key\":\"k\\\"1\""));
	assert_non_null(strstr(buf_z(&body), "\"strict\":true"));
	buf_fini(&body);
}

/* Strict is said of what the strict mode takes, and of nothing else: it refuses the request. */
static void
test_strict_schemas(void **state)
{
#define CLOSED(members, names)                                                                     \
	"{\"type\":\"object\",\"properties\":{" members "},\"required\":[" names                   \
	"],\"additionalProperties\":false}"
	static const struct {
		const char *schema;
		bool is_strict;
	} rows[] = {
		{ CLOSED("\"a\":{\"type\":\"string\",\"enum\":[\"x\"]}", "\"a\""), true },
		{ CLOSED("\"a\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"integer\",\"minimum\":"
			 "1}]}",
			  "\"a\""),
			true },
		/* names and values are no keywords */
		{ CLOSED("\"not\":{\"const\":{\"oneOf\":1}},\"properties\":{\"type\":\"string\"}",
			  "\"not\",\"properties\""),
			true },
		{ CLOSED("\"a\":{\"type\":\"string\",\"minLength\":1}", "\"a\""), false },
		{ CLOSED("\"a\":{\"oneOf\":[{\"type\":\"null\"}]}", "\"a\""), false },
		{ CLOSED("\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
			 "\"uniqueItems\":"
			 "true}",
			  "\"a\""),
			false },
		{ CLOSED("\"a\":{\"type\":\"object\",\"properties\":{\"b\":{}}}", "\"a\""), false },
		{ "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", false },
		{ "{\"anyOf\":[" CLOSED("", "") "]}", false },
	};
#undef CLOSED

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct model_request r = request(1);
		struct buf body;

		r.schema = str_of(rows[i].schema);
		build(&r, &body);
		if (!strstr(buf_z(&body),
			    rows[i].is_strict ? "\"strict\":true" : "\"strict\":false"))
			fail_msg("%s", buf_z(&body));
		buf_fini(&body);
	}
}

static void
test_prefix_is_stable(void **state)
{
	for (size_t n = 1; n < ARRAY_LEN(messages); n++) {
		struct model_request r = request(n), next = request(n + 1);
		struct buf a, b;

		build(&r, &a);
		build(&next, &b);
		/* A user message that goes on is one string: it grows before its closing quote. */
		expect_prefix(&a, messages[n].role == messages[n - 1].role ? 4 : 2, &b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_crlf_comments_and_keepalives),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_calls_of_other_servers),
		cmocka_unit_test(test_broken_arguments_are_kept),
		cmocka_unit_test(test_reasoning),
		cmocka_unit_test(test_finish_reasons),
		cmocka_unit_test(test_what_is_ignored),
		cmocka_unit_test(test_hidden_output),
		cmocka_unit_test(test_other_places_of_usage),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_request_variants),
		cmocka_unit_test(test_attachments_and_reasoning),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_strict_schemas),
		cmocka_unit_test(test_prefix_is_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
