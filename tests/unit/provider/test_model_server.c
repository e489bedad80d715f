/* SPDX-License-Identifier: MIT
 * The scripted model server and the parsers agree: what the server renders for a script, either API
 * reads back. The bytes between them are also the proof that the script's pauses and cuts land
 * where they should. */
#include "../../model/model.h"
#include "streams.h"

static const char *const paths[] = { [API_OPENAI] = "openai-chat", [API_ANTHROPIC] = "anthropic" };

/* The body of a chunked answer; *is_whole: it has its last chunk. */
static struct str
unchunk(struct str http, struct arena *a, bool *is_whole)
{
	struct str in = str_sub(http, (size_t)str_find(http, STR("\r\n\r\n")) + 4, http.n);
	struct buf b;
	struct str out;

	buf_init(&b, 64 * MIB);
	*is_whole = false;
	while (in.n > 0) {
		ptrdiff_t eol = str_find(in, STR("\r\n"));
		size_t n = strtoul(in.p, NULL, 16);

		assert_true(eol > 0);
		*is_whole = n == 0;
		buf_add_str(&b, str_sub(in, (size_t)eol + 2, n));
		in = str_sub(in, (size_t)eol + 2 + n + 2, in.n);
	}
	out = arena_str(a, buf_str(&b));
	buf_fini(&b);
	return out;
}

static void
serve_path(
	const char *yaml, enum api api, const char *path, const char *request, struct answer *out)
{
	struct arena *a = arena_new(64 * MIB);
	struct request r = { .api = api,
		.seq = 3,
		.method = STR("POST"),
		.path = str_of(path),
		.body = str_of(request),
		.model = STR("m") };
	struct script *s;
	struct err e = { 0 };

	if (script_load("s.yaml", str_of(yaml), &s, &e) != 0)
		fail_msg("%s", e.msg);
	r.user = r.result = r.system = STR("");
	(void)request_api(&r); /* for the query */
	request_read(&r, a);
	answer_init(out);
	const struct node *step = script_choose(s, &r);
	assert_non_null(step);
	render(step, script_usage(s), &r, out);
	script_free(s);
	arena_free(a);
}

static void
serve(const char *yaml, enum api api, const char *request, struct answer *out)
{
	serve_path(yaml, api, "", request, out);
}

static void
expect_parsed(const char *yaml, enum api api, const char *request, const char *want)
{
	struct arena *a = arena_new(64 * MIB);
	struct answer answer;
	bool is_whole;

	serve(yaml, api, request, &answer);
	expect_answer(provider_api_find(str_of(paths[api])),
		unchunk(buf_str(&answer.bytes), a, &is_whole), want, NULL);
	assert_true(is_whole);
	answer_fini(&answer);
	arena_free(a);
}

#define ASK "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hey\"}]}"

static void
test_answers(void **state)
{
	static const char yaml[] =
		"usage: { input: 100, output: 20, cached: 60, written: 10 }\n"
		"rules: [ { answer: [ { reasoning: hm }, { text: 'H\xC3\xA9 {{user}}', chunk: 2 }, "
		"{ ping: true },"
		"{ call: { tool: read, args: { path: 'a' }, pieces: 5, id: c1 } },"
		"{ call: { tool: list, args: '{oops', id: c2 } } ], eol: crlf } ]";
	static const char calls[] =
		"call[c1 read {\"path\":\"a\"}] call[c2 list {oops] tools in=100 out=20 cached=60 "
		"written=10 reasoning=0";
	char want[300];

	snprintf(want, sizeof(want), "reasoning[hm|] id[reasoning_content] text[H\xC3\xA9 hey] %s",
		calls);
	expect_parsed(yaml, API_OPENAI, ASK, want);
	snprintf(want, sizeof(want), "reasoning[hm|c2lnbmF0dXJl] text[H\xC3\xA9 hey] %s", calls);
	expect_parsed(yaml, API_ANTHROPIC, ASK, want);
}

static void
test_results_choose(void **state)
{
	static const char yaml[] = "{by: results, repeat: true, steps: [{answer: [{text: a}]}, "
				   "{answer: [{text: 'b {{n}} {{result}}'}]}]}";
	static const char usage[] = "end in=10 out=5 cached=0 written=0 reasoning=0";
	char want[200];

	snprintf(want, sizeof(want), "text[a] %s", usage);
	expect_parsed(yaml, API_OPENAI, ASK, want);
	snprintf(want, sizeof(want), "text[b 2 R] %s", usage);
	expect_parsed(yaml, API_OPENAI,
		"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"},{\"role\":\"tool\","
		"\"content\":\"R\"}]}",
		want);
	expect_parsed(yaml, API_ANTHROPIC,
		"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
		"\"content\":\"x\"},"
		"{\"type\":\"tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"R\"}]}]}]}",
		want);
}

static void
expect_failed(const char *action, enum api api, int code, bool whole)
{
	struct arena *a = arena_new(64 * MIB);
	struct answer answer;
	char yaml[300];
	bool is_whole;

	snprintf(yaml, sizeof(yaml), "{steps: [], rules: [{answer: [{text: abc}, %s]}]}", action);
	serve(yaml, api, ASK, &answer);
	expect_error(provider_api_find(str_of(paths[api])),
		unchunk(buf_str(&answer.bytes), a, &is_whole), code, "");
	assert_int_equal(is_whole, whole);
	answer_fini(&answer);
	arena_free(a);
}

static void
test_failures(void **state)
{
	for (enum api api = API_OPENAI; api <= API_ANTHROPIC; api++) {
		expect_failed("{cut: close}", api, ERR_NET, false);
		expect_failed("{cut: mid}", api, ERR_NET, false);
		expect_failed("{cut: end}", api, ERR_NET, true);
		expect_failed(
			"{error: {type: overloaded_error, message: m}}", api, ERR_PROVIDER, true);
		expect_failed("{bad_utf8: true}", api, ERR_PROTO, true);
		expect_failed("{raw: \"data: {oops\\n\\n\"}", api, ERR_PROTO, true);
		expect_failed("{hex: '64 61 74 61 3a 20 5b 5d 0a 0a'}", api, ERR_PROTO, true);
	}
}

static void
test_huge(void **state)
{
	struct arena *a = arena_new(64 * MIB);
	struct answer answer;
	struct outcome o;
	bool is_whole;

	serve("{rules: [{answer: [{text: abc}, {huge: 2097152}]}]}", API_OPENAI, ASK, &answer);
	stream_run(provider_api_find(STR("openai-chat")),
		unchunk(buf_str(&answer.bytes), a, &is_whole), 1000000, &o);
	assert_int_equal(o.rc, ERR_LIMIT);
	outcome_free(&o);
	answer_fini(&answer);
	arena_free(a);
}

static void
test_marks(void **state)
{
	struct answer a;

	serve("{rules: [{write: 100, write_delay: 2, first_delay: 9, answer: [{text: ab, chunk: 1, "
	      "delay: 7}, {cut: reset}]}]}",
		API_OPENAI, ASK, &a);
	assert_int_equal(a.marks[0].offset, 0);
	assert_int_equal(a.marks[0].ms, 9);
	assert_int_equal(a.marks[1].offset, 100);
	assert_int_equal(a.marks[1].ms, 2);
	assert_int_equal(a.marks[a.n - 1].type, MARK_RESET);
	assert_int_equal(a.marks[a.n - 1].offset, a.bytes.n);
	for (size_t i = 1; i < a.n; i++)
		assert_true(a.marks[i - 1].offset <= a.marks[i].offset);
	answer_fini(&a);
}

static void
test_http_errors(void **state)
{
	struct answer a;

	serve("{rules: [{answer: [{error: {status: 429, type: rate_limit_error, message: slow, "
	      "retry_after: '7'}}]}]}",
		API_ANTHROPIC, ASK, &a);
	assert_true(str_starts(buf_str(&a.bytes), "HTTP/1.1 429 "));
	assert_true(str_find(buf_str(&a.bytes), STR("\r\nretry-after: 7\r\n")) > 0);
	assert_true(
		str_ends(buf_str(&a.bytes), "\r\n\r\n{\"type\":\"error\",\"error\":{\"message\":"
					    "\"slow\",\"type\":\"rate_limit_error\"}}"));
	answer_fini(&a);
}

/* The types of the events of a stream, in order, each once for a run of equals. */
static struct str
event_types(struct str stream, struct arena *a)
{
	struct str line, last = STR("");
	struct buf b;
	struct str out;

	buf_init(&b, 64 * KIB);
	while (str_next(&stream, '\n', &line)) {
		if (!str_starts(line, "event: ") || str_eq(line, last))
			continue;
		last = line;
		buf_printf(&b, "%.*s ", STR_FMT(str_sub(line, 7, line.n)));
	}
	out = arena_str(a, buf_str(&b));
	buf_fini(&b);
	return out;
}

static const char every_part[] =
	"{usage: {input: 9, output: 7, reasoning: 2}, rules: [{answer: [{reasoning: hm, signature: "
	"S}, {text: 'H\xC3\xA9 {{user}}', chunk: 2}, {call: {tool: a, args: {x: 1}, pieces: 2, id: "
	"c}}, {call: {tool: b, args: {}}}]}]}";

static void
expect_types(const char *yaml, const char *request, const char *want, const char *last)
{
	struct arena *a = arena_new(64 * MIB);
	struct answer answer;
	struct str stream;
	bool is_whole;

	serve(yaml, API_RESPONSES, request, &answer);
	stream = unchunk(buf_str(&answer.bytes), a, &is_whole);
	assert_string_equal(event_types(stream, a).p, want);
	assert_true(str_find(stream, str_of(last)) > 0);
	assert_true(is_whole);
	answer_fini(&answer);
	arena_free(a);
}

static void
test_responses(void **state)
{
#define BEGIN "response.created response.in_progress "
#define SAID                                                                                       \
	"response.output_item.added response.content_part.added response.output_text.delta "       \
	"response.output_text.done response.content_part.done response.output_item.done "
#define CALLED                                                                                     \
	"response.output_item.added response.function_call_arguments.delta "                       \
	"response.function_call_arguments.done response.output_item.done "
	expect_types(every_part,
		"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
		"\"you\"}]}],\"include\":[\"reasoning.encrypted_content\"]}",
		BEGIN
		"response.output_item.added response.reasoning_summary_part.added "
		"response.reasoning_summary_text.delta response.reasoning_summary_text.done "
		"response.reasoning_summary_part.done response.output_item.done " SAID CALLED CALLED
		"response.completed ",
		"\"output\":[{\"id\":\"rs_3_0\",\"type\":\"reasoning\","
		"\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm\"}],\"encrypted_content\":"
		"\"S\"},{\"id\":\"msg_3_1\",\"type\":\"message\",\"status\":\"completed\",\"role\":"
		"\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"H\xC3\xA9 you\"");
	expect_types("{rules: [{answer: [{refusal: no}]}]}", "{\"input\":\"x\"}",
		BEGIN "response.output_item.added response.content_part.added "
		      "response.refusal.delta response.refusal.done response.content_part.done "
		      "response.output_item.done response.completed ",
		"\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]");
	expect_types("{rules: [{answer: [{text: x}, {finish: length}]}]}", "{\"input\":\"x\"}",
		BEGIN SAID "response.incomplete ",
		"\"incomplete_details\":{\"reason\":\"max_output_tokens\"}");
	expect_types("{rules: [{answer: [{error: {code: oops, failed: true}}]}]}",
		"{\"input\":\"x\"}", BEGIN "response.failed ",
		"\"status\":\"failed\",\"error\":{\"code\":\"oops\"");
	expect_types("{rules: [{answer: [{error: {code: oops}}]}]}", "{\"input\":\"x\"}",
		BEGIN "error ", "{\"type\":\"error\",\"sequence_number\":2,\"code\":\"oops\"");
}

#define GEMINI_TAIL "\"modelVersion\":\"scripted\",\"responseId\":\"gen-3\"}\n\n"
#define GEMINI_USED "\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9}," GEMINI_TAIL
#define GEMINI_PARTS(parts)                                                                        \
	"data: {\"candidates\":[{\"content\":{\"parts\":[" parts                                   \
	"],\"role\":\"model\"},\"index\":0}]," GEMINI_USED

static void
test_gemini(void **state)
{
	static const char want[] = GEMINI_PARTS("{\"text\":\"hm\",\"thought\":true}") GEMINI_PARTS(
		"{\"text\":\"H\"}") GEMINI_PARTS("{\"text\":\"\xC3\xA9\"}")
		GEMINI_PARTS("{\"text\":\" y\"}")
			GEMINI_PARTS("{\"text\":\"ou\",\"thoughtSignature\":\"S\"}") GEMINI_PARTS(
				"{\"functionCall\":{\"id\":\"c\",\"name\":"
				"\"a\",\"args\":{\"x\":1}}},"
				"{\"functionCall\":{\"name\":\"b\","
				"\"args\":{}}}") "data: "
						 "{\"candidates\":[{\"content\":{\"parts\":[{"
						 "\"text\":\"\"}],\"role\":"
						 "\"model\"},\"finishReason\":\"STOP\",\"index\":0}"
						 "],\"usageMetadata\":{"
						 "\"promptTokenCount\":9,\"candidatesTokenCount\":"
						 "5,\"thoughtsTokenCount\":2,"
						 "\"totalTokenCount\":16}," GEMINI_TAIL;
	static const char ask[] = "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":"
				  "\"you\"}]}]}";
	struct arena *a = arena_new(64 * MIB);
	const struct node *list;
	struct answer answer;
	bool is_whole;

	serve_path(every_part, API_GEMINI, "/m:streamGenerateContent?alt=sse", ask, &answer);
	assert_string_equal(unchunk(buf_str(&answer.bytes), a, &is_whole).p, want);
	answer_fini(&answer);
	serve_path(every_part, API_GEMINI, "/m:streamGenerateContent", ask, &answer);
	assert_int_equal(
		json_parse(a, unchunk(buf_str(&answer.bytes), a, &is_whole), &list, NULL), 0);
	assert_int_equal(node_len(list), 7);
	answer_fini(&answer);
	serve_path("{rules: [{answer: [{error: {status: 429, message: slow, retry_after: '34', "
		   "headers: {x-a: b}}}]}]}",
		API_GEMINI, "/m:streamGenerateContent?alt=sse", ask, &answer);
	assert_true(str_find(buf_str(&answer.bytes), STR("\r\nx-a: b\r\n")) > 0);
	assert_true(str_find(buf_str(&answer.bytes), STR("retry-after")) < 0);
	assert_true(str_ends(buf_str(&answer.bytes),
		"{\"error\":{\"code\":429,\"message\":\"slow\",\"status\":\"RESOURCE_EXHAUSTED\","
		"\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
		"\"retryDelay\":\"34s\"}]}}"));
	answer_fini(&answer);
	arena_free(a);
}

static void
test_signatures(void **state)
{
	expect_parsed(
		"{rules: [{answer: [{reasoning: a, signature: S1}, {redacted: R}, {reasoning: "
		"b, signature: ''}, {json: {x: [1, true]}}]}]}",
		API_ANTHROPIC, ASK,
		"reasoning[a|S1] redacted[R] reasoning[b|] text[{\"x\":[1,true]}] end in=10 out=5 "
		"cached=0 written=0 reasoning=0");
}

/* What a script may ask of a request, in the words of every API. */
static void
test_questions(void **state)
{
	static const struct {
		enum api api;
		const char *body;
	} rows[] = {
		{ API_OPENAI,
			"{\"messages\":[{\"role\":\"system\",\"content\":\"sys\"},{\"role\":"
			"\"user\","
			"\"content\":[{\"type\":\"image_url\"},{\"type\":\"text\",\"text\":\"U\"}]}"
			","
			"{\"role\":\"tool\",\"content\":\"R\"}],\"tools\":[1],\"reasoning_effort\":"
			"\"low\",\"response_format\":{\"json_schema\":{}}}" },
		{ API_ANTHROPIC,
			"{\"system\":\"sys\",\"messages\":[{\"role\":\"user\",\"content\":[{"
			"\"type\":"
			"\"document\"},{\"type\":\"text\",\"text\":\"U\"}]},{\"role\":\"user\","
			"\"content\":[{\"type\":\"tool_result\",\"content\":\"R\"}]}],\"tools\":[1]"
			","
			"\"thinking\":{\"type\":\"enabled\"},\"output_config\":{\"format\":{"
			"\"schema\":"
			"{}}}}" },
		{ API_RESPONSES,
			"{\"instructions\":\"sys\",\"input\":[{\"role\":\"user\",\"content\":["
			"{\"type\":\"input_file\"},{\"type\":\"input_text\",\"text\":\"U\"}]},"
			"{\"type\":\"function_call_output\",\"output\":\"R\"}],\"tools\":[1],"
			"\"reasoning\":{\"effort\":\"low\"},\"text\":{\"format\":{\"schema\":{}}}"
			"}" },
		{ API_GEMINI,
			"{\"systemInstruction\":{\"parts\":[{\"text\":\"sys\"}]},\"contents\":["
			"{\"role\":\"user\",\"parts\":[{\"inlineData\":{}},{\"text\":\"U\"}]},"
			"{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"response\":"
			"{\"output\":\"R\"}}}]}],\"tools\":[1],\"generationConfig\":{"
			"\"thinkingConfig\":{},\"responseSchema\":{}}}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer a;

		serve("{rules: [{when: {user_has: U, result_has: R, system_has: sys, has_media: "
		      "true, has_schema: true, has_tools: true, has_reasoning: true, results: 1, "
		      "turn_results: 1}, answer: [{text: yes}]}]}",
			rows[i].api, rows[i].body, &a);
		answer_fini(&a);
		serve("{rules: [{when: {has_media: false}, answer: []}, {when: {has_schema: "
		      "false}, "
		      "answer: []}, {when: {has_tools: false}, answer: []}, {when: {has_reasoning: "
		      "false}, answer: []}, {answer: [{text: none}]}]}",
			rows[i].api, rows[i].body, &a);
		assert_true(str_find(buf_str(&a.bytes), STR("none")) > 0);
		answer_fini(&a);
	}
}

static const struct node *
embeddings(enum api api, const char *request, struct arena *a)
{
	struct answer answer;
	struct request r = { .api = api, .body = str_of(request), .path = STR("") };
	const struct node *n;
	struct str http;

	request_read(&r, a);
	answer_init(&answer);
	render_embeddings(&r, 5, &answer);
	http = arena_str(a, buf_str(&answer.bytes));
	answer_fini(&answer);
	http = str_sub(http, (size_t)str_find(http, STR("\r\n\r\n")) + 4, http.n);
	assert_int_equal(json_parse(a, http, &n, NULL), 0);
	return n;
}

static double
cosine(const struct node *u, const struct node *v)
{
	double sum = 0;

	for (size_t i = 0; i < node_len(u); i++)
		sum += node_at(u, i)->num.d * node_at(v, i)->num.d;
	return sum;
}

static void
test_embeddings(void **state)
{
	struct arena *a = arena_new(64 * MIB);
	const struct node *data = node_get(embeddings(API_EMBED,
						   "{\"input\":[\"red apple\",\"a red "
						   "apple\",\"war and peace\"],\"dimensions\":64}",
						   a),
		"data");
	const struct node *v[3];
	const struct node *five =
		node_at(node_get(embeddings(API_EMBED_OLLAMA, "{\"input\":\"red apple\"}", a),
				"embeddings"),
			0);

	for (size_t i = 0; i < 3; i++) {
		v[i] = node_get(node_at(data, i), "embedding");
		assert_int_equal(node_len(v[i]), 64);
		assert_true(cosine(v[i], v[i]) > 0.999 && cosine(v[i], v[i]) < 1.001);
	}
	assert_true(cosine(v[0], v[1]) > 0.6);
	assert_true(cosine(v[0], v[2]) < 0.5);
	assert_int_equal(node_len(five), 5);
	assert_true(node_equal(
		five, node_find(embeddings(API_EMBED_GEMINI,
					"{\"content\":{\"parts\":[{\"text\":\"red apple\"}]}}", a),
			      "embedding.values")));
	arena_free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_results_choose),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_http_errors),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_gemini),
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_embeddings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
