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
serve(const char *yaml, enum api api, const char *request, struct answer *out)
{
	struct arena *a = arena_new(64 * MIB);
	struct request r = { .api = api, .seq = 3, .body = str_of(request), .model = STR("m") };
	struct script *s;
	struct err e = { 0 };

	if (script_load("s.yaml", str_of(yaml), &s, &e) != 0)
		fail_msg("%s", e.msg);
	r.user = r.result = STR("");
	request_read(&r, a);
	answer_init(out);
	const struct node *step = script_choose(s, &r);
	assert_non_null(step);
	render(step, script_usage(s), &r, out);
	script_free(s);
	arena_free(a);
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

	snprintf(want, sizeof(want), "reasoning[hm|] text[H\xC3\xA9 hey] %s", calls);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
