/* SPDX-License-Identifier: MIT
 * The offline model: plain English requests played through with scripted tool results, and the
 * script language. */
#include "streams.h"

#include "base/json.h"

#define MESSAGES_MAX 64

/* A conversation that grows. */
struct talk {
	struct offline *o;
	struct arena *a;
	struct message m[MESSAGES_MAX];
	size_t n;
	int attempt;
	bool without_exec;
	struct buf shown; /* the last answer: "text{...} call{tool args} ..." */
	struct str tool, args, id;
};

static const struct tool_schema tools[] = {
	{ .name = "read" },
	{ .name = "write" },
	{ .name = "list" },
	{ .name = "grep" },
	{ .name = "glob" },
	{ .name = "exec" },
};

static void
open_talk(struct talk *t, const char *script)
{
	struct err e = { 0 };

	*t = (struct talk){ .a = arena_new(64 * MIB) };
	buf_init(&t->shown, 8 * MIB);
	if (offline_open("test.yaml", str_of(script), &t->o, &e) != 0)
		fail_msg("%s", e.msg);
}

static void
close_talk(struct talk *t)
{
	offline_close(t->o);
	arena_free(t->a);
	buf_fini(&t->shown);
}

static struct part *
say(struct talk *t, enum message_role role, struct part part)
{
	struct part *p = arena_alloc(t->a, sizeof(*p));

	*p = part;
	assert_true(t->n < MESSAGES_MAX);
	t->m[t->n++] = (struct message){ role, p, 1 };
	return p;
}

static void
user(struct talk *t, const char *text)
{
	say(t, MSG_USER, (struct part){ .type = PART_TEXT, .text = str_of(text) });
}

/* Asks for an answer, shows it as text and makes it part of the conversation. */
static int
answer(struct talk *t, struct err *e)
{
	struct model_request r = { .messages = t->m,
		.messages_n = t->n,
		.tools = tools,
		.tools_n = ARRAY_LEN(tools) - t->without_exec,
		.attempt = t->attempt };
	const struct offline_step *steps;
	size_t n;
	int rc = offline_answer(t->o, &r, t->a, &steps, &n, e);

	buf_reset(&t->shown);
	t->tool = STR("");
	for (size_t i = 0; i < n && rc == 0; i++) {
		const struct offline_step *s = &steps[i];

		if (s->type == OFFLINE_TEXT)
			buf_printf(&t->shown, "text{%.*s}", STR_FMT(s->text));
		else if (s->type == OFFLINE_REASONING)
			buf_printf(&t->shown, "thought{%.*s}", STR_FMT(s->text));
		else if (s->type == OFFLINE_CALL)
			buf_printf(
				&t->shown, "call{%.*s %.*s}", STR_FMT(s->tool), STR_FMT(s->args));
		else if (s->type == OFFLINE_DELAY)
			buf_printf(&t->shown, "delay{%d}", (int)s->ms);
		else if (s->type == OFFLINE_ERROR)
			buf_printf(&t->shown, "error{%d %.*s %d}", s->status, STR_FMT(s->text),
				(int)s->ms);
		else
			buf_printf(&t->shown, "cut{}");
		if (s->type == OFFLINE_CALL) {
			t->tool = s->tool;
			t->args = s->args;
		}
	}
	return rc;
}

static void
expect(struct talk *t, const char *want)
{
	struct err e = { 0 };

	if (answer(t, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(buf_z(&t->shown), want);
}

static void
expect_has(struct talk *t, const char *part)
{
	struct err e = { 0 };

	assert_int_equal(answer(t, &e), 0);
	if (!strstr(buf_z(&t->shown), part))
		fail_msg("'%s' does not have '%s'", buf_z(&t->shown), part);
	assert_int_equal(strncmp(buf_z(&t->shown), "text{[offline model] ", 21), 0);
}

/* The last answer's call was run and gave this. */
static void
result(struct talk *t, const char *text, bool is_error)
{
	assert_true(t->tool.n > 0);
	t->id = str_of(arena_printf(t->a, "id%zu", t->n));
	say(t, MSG_ASSISTANT,
		(struct part){
			.type = PART_CALL, .call_id = t->id, .tool = t->tool, .args = t->args });
	say(t, MSG_USER,
		(struct part){ .type = PART_RESULT,
			.call_id = t->id,
			.text = str_of(text),
			.is_error = is_error });
}

/* ---- plain English ---- */

static void
test_calls(void **state)
{
	static const struct {
		const char *request, *call;
	} rows[] = {
		{ "list the files", "call{list {\"path\":\".\"}}" },
		{ "Please list all the files in src/net.", "call{list {\"path\":\"src/net\"}}" },
		{ "List files in the current directory", "call{list {\"path\":\".\"}}" },
		{ "what files are there in docs?", "call{list {\"path\":\"docs\"}}" },
		{ "ls", "call{list {\"path\":\".\"}}" },
		{ "list the contents of docs", "call{list {\"path\":\"docs\"}}" },
		{ "List files in the folder src/net please", "call{list {\"path\":\"src/net\"}}" },
		{ "show the file x.c, please", "call{read {\"path\":\"x.c\"}}" },
		{ "list docs", "call{list {\"path\":\"docs\"}}" },
		{ "read README.md", "call{read {\"path\":\"README.md\"}}" },
		{ "Could you read the file `a b.txt`?", "call{read {\"path\":\"a b.txt\"}}" },
		{ "show me the contents of src/x.c", "call{read {\"path\":\"src/x.c\"}}" },
		{ "run make -j2 all", "call{exec {\"command\":\"make -j2 all\"}}" },
		{ "execute the command `ls -l | wc -l`",
			"call{exec {\"command\":\"ls -l | wc -l\"}}" },
		{ "write a.txt with hello world",
			"call{write {\"path\":\"a.txt\",\"content\":\"hello world\"}}" },
		{ "create a new file called 'my notes.txt' containing the text \"one; two\"",
			"call{write {\"path\":\"my notes.txt\",\"content\":\"one; two\"}}" },
		{ "write hello to out/b.txt",
			"call{write {\"path\":\"out/b.txt\",\"content\":\"hello\"}}" },
		{ "summarise README.md", "call{read {\"path\":\"README.md\"}}" },
		{ "Summarize the file docs/a.md.", "call{read {\"path\":\"docs/a.md\"}}" },
		{ "count the words in README.md",
			"call{exec {\"command\":\"wc -w -- 'README.md'\"}}" },
		{ "How many lines are there in it's.txt?",
			"call{exec {\"command\":\"wc -l -- 'it'\\\\''s.txt'\"}}" },
		{ "count the bytes of x", "call{exec {\"command\":\"wc -c -- 'x'\"}}" },
		{ "search for main in src", "call{grep {\"pattern\":\"main\",\"path\":\"src\"}}" },
		{ "grep 'a b' in the file x.c",
			"call{grep {\"pattern\":\"a b\",\"path\":\"x.c\"}}" },
		{ "look for TODO", "call{grep {\"pattern\":\"TODO\",\"path\":\".\"}}" },
		{ "find all files named *.c", "call{glob {\"pattern\":\"**/*.c\"}}" },
		{ "1. read a\n2. read b", "call{read {\"path\":\"a\"}}" },
		{ "- run true", "call{exec {\"command\":\"true\"}}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct talk t;

		open_talk(&t, "");
		user(&t, rows[i].request);
		expect_has(&t, rows[i].call);
		close_talk(&t);
	}
}

static void
test_answers(void **state)
{
	static const struct {
		const char *request, *result, *answer;
	} rows[] = {
		{ "list the files", "a.txt  3 bytes  x\nsrc/\n",
			"the tool answered:\na.txt  3 bytes  x\nsrc/" },
		{ "read a", "one\ntwo\n", "the tool answered:\none\ntwo" },
		{ "run true", "[exit 0, 1 ms]", "[exit 0, 1 ms]" },
		{ "write a with hi", "made a (2 bytes)", "I wrote 2 bytes to `a`." },
		{ "count the words in R.md", "  123 R.md\n[exit 0, 2 ms]",
			"`R.md` has 123 words." },
		{ "count the lines in \"7 things.txt\"", "12 7 things.txt\n[exit 0, 2 ms]",
			"`7 things.txt` has 12 lines." },
		{ "count the words in R.md", "strange", "could not find the number" },
		{ "summarise R.md",
			"# Title\n\nThis is the\nfirst sentence. And more.\n\n## Part\n",
			"Summary of `R.md`: This is the first sentence. (6 lines, 11 words, 56 "
			"bytes)\nHeadings: Title; Part" },
		{ "summarise R.md", "```\ncode.\n```\n", "no prose was found" },
		{ "summarise R.md", "A b.\n[lines 1-1 of 9, bytes 0-5 of 90; read on with line 2]",
			"A b. (1 lines, 2 words, 5 bytes in the first part" },
		{ "summarise R.md", "[the file is empty]",
			"no prose was found. (0 lines, 0 words, 0 bytes)" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct talk t;

		open_talk(&t, "");
		user(&t, rows[i].request);
		expect_has(&t, "call{");
		result(&t, rows[i].result, false);
		expect_has(&t, rows[i].answer);
		assert_null(strstr(buf_z(&t.shown), "call{"));
		close_talk(&t);
	}
}

static void
test_requests_in_a_row(void **state)
{
	struct talk t;

	open_talk(&t, "");
	user(&t, "write a.txt with one then two, then read a.txt; count the words in a.txt and "
		 "then list the files");
	expect_has(&t, "call{write {\"path\":\"a.txt\",\"content\":\"one then two\"}}");
	result(&t, "made a.txt (12 bytes)", false);
	expect_has(&t, "call{read {\"path\":\"a.txt\"}}");
	result(&t, "one then two", false);
	expect_has(&t, "call{exec {\"command\":\"wc -w -- 'a.txt'\"}}");
	result(&t, "3 a.txt\n[exit 0, 1 ms]", false);
	expect_has(&t, "call{list {\"path\":\".\"}}");
	result(&t, "a.txt", false);
	expect_has(&t, "I wrote 12 bytes to `a.txt`.");
	assert_non_null(strstr(buf_z(&t.shown), "`a.txt` has 3 words."));
	assert_null(strstr(buf_z(&t.shown), "Not done"));
	/* the next request begins anew */
	say(&t, MSG_ASSISTANT, (struct part){ .type = PART_TEXT, .text = STR("done") });
	user(&t, "read b");
	expect_has(&t, "call{read {\"path\":\"b\"}}");
	close_talk(&t);
}

static void
test_lines(void **state)
{
	struct talk t;

	open_talk(&t, "");
	user(&t, "Here is what I want:\nwrite a.txt with first\nsecond line\nread a.txt\n");
	expect_has(&t, "\"content\":\"first\\nsecond line\"");
	result(&t, "made", false);
	expect_has(&t, "call{read");
	result(&t, "first", false);
	expect_has(&t, "I did not understand: Here is what I want:");
	close_talk(&t);
}

static void
test_errors_are_told(void **state)
{
	struct talk t;

	open_talk(&t, "");
	user(&t, "read nope then list the files");
	expect_has(&t, "call{read");
	result(&t, "nope: no such file", true);
	expect_has(&t, "I could not read `nope`: nope: no such file");
	assert_non_null(strstr(buf_z(&t.shown), "Not done: list the files in `.`."));
	assert_null(strstr(buf_z(&t.shown), "call{"));
	close_talk(&t);
}

static void
test_missing_tool(void **state)
{
	struct talk t;

	open_talk(&t, "");
	t.without_exec = true;
	user(&t, "count the words in a then run ls");
	expect_has(&t, "call{read {\"path\":\"a\"}}");
	result(&t, "one two\nthree", false);
	expect_has(&t, "`a` has 3 words.");
	assert_non_null(strstr(buf_z(&t.shown), "the tool `exec` is not offered here"));
	close_talk(&t);
}

static void
test_help(void **state)
{
	static const char *const requests[] = { "hello", "", "what is the meaning of life?",
		"list the files then dance", "\xF0\x9F\x98\x80" };

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct talk t;

		open_talk(&t, "");
		user(&t, requests[i]);
		expect_has(&t, "summarise FILE");
		close_talk(&t);
	}
}

static void
test_context_comes_first(void **state)
{
	struct talk t;
	static const struct part parts[] = {
		{ .type = PART_TEXT, .text = { "read this context: rm -rf", 25 } },
		{ .type = PART_TEXT, .text = { "read a.txt", 10 } },
	};

	open_talk(&t, "");
	user(&t, "run false");
	t.m[t.n++] = (struct message){ MSG_USER, parts, 2 };
	expect_has(&t, "call{read {\"path\":\"a.txt\"}}");
	close_talk(&t);
}

/* ---- scripts ---- */

static void
test_steps(void **state)
{
	struct talk t;

	open_talk(&t,
		"steps:\n"
		"  - answer: [ { reasoning: hm }, { text: 'a\xC3\xA9"
		"b', chunk: 2, delay: 5 }, { call: { tool: read, args: { path: x, n: 1 } } } ]\n"
		"  - answer:\n"
		"      - text: '[offline model] {{user}}: {{result}} {{x}}'\n"
		"      - delay: 7\n"
		"      - call: { tool: raw, args: '{broken' }\n"
		"      - call: { tool: none }\n");
	user(&t, "go");
	expect(&t, "thought{hm}text{[o}delay{5}text{ff}delay{5}text{li}delay{5}text{ne}delay{5}"
		   "text{ m}delay{5}text{od}"
		   "delay{5}text{el}delay{5}text{] "
		   "}delay{5}text{a}delay{5}text{\xC3\xA9}delay{5}text{b}"
		   "call{read {\"path\":\"x\",\"n\":1}}");
	result(&t, "R", false);
	expect(&t, "text{[offline model] go: R {{x}}}delay{7}call{raw {broken}call{none {}}");
	result(&t, "R", false);
	struct err e = { 0 };
	assert_int_equal(answer(&t, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "test.yaml has no rule that matches and no step 2"));
	close_talk(&t);
}

static void
test_failures_and_attempts(void **state)
{
	struct talk t;

	open_talk(&t, "steps:\n"
		      "  - answer: [ { error: { status: 429, message: slow, retry_after: 2 }, "
		      "attempts: 2 }, { text: part }, "
		      "{ cut: true, attempts: 3 }, { text: rest } ]\n"
		      "  - answer: [ { error: {} }, { text: never } ]\n");
	user(&t, "go");
	expect(&t, "error{429 slow 2000}");
	t.attempt = 1;
	expect(&t, "error{429 slow 2000}");
	t.attempt = 2;
	expect(&t, "text{[offline model] part}cut{}");
	t.attempt = 3;
	expect(&t, "text{[offline model] part}text{rest}");
	say(&t, MSG_ASSISTANT, (struct part){ .type = PART_TEXT, .text = STR("part rest") });
	user(&t, "again");
	t.attempt = 0;
	expect(&t, "error{500 scripted error -1}");
	close_talk(&t);
}

static void
test_rules(void **state)
{
	struct talk t;

	open_talk(&t, "rules:\n"
		      "  - when: { tool: read, is_error: true }\n"
		      "    answer: [ { text: failed } ]\n"
		      "  - when: { result: '^[0-9]+$', step: 1 }\n"
		      "    answer: [ { call: { tool: next } } ]\n"
		      "  - when: { result_has: more }\n"
		      "    times: 2\n"
		      "    answer: [ { call: { tool: exec, args: { command: 'true' } } } ]\n"
		      "  - when: { user: 'READ|open', step: 0 }\n"
		      "    answer: [ { call: { tool: read } } ]\n"
		      "otherwise: builtin\n"
		      "steps: [ { answer: [ { text: first } ] } ]\n");
	user(&t, "please read it");
	expect(&t, "call{read {}}");
	result(&t, "12", false);
	expect(&t, "call{next {}}");
	result(&t, "more", false);
	expect(&t, "call{exec {\"command\":\"true\"}}");
	result(&t, "more", false);
	expect(&t, "call{exec {\"command\":\"true\"}}");
	result(&t, "more", false);
	/* the rule has fired twice; no step 4; the built-in rules take over and see a request that
	 * was answered */
	expect_has(&t, "text{[offline model] Asked to read `it`");
	user(&t, "something else");
	expect_has(&t, "summarise FILE");
	close_talk(&t);
}

static void
test_rule_on_error(void **state)
{
	struct talk t;

	open_talk(&t, "rules: [ { when: { tool: read, is_error: true }, answer: [ { text: failed } "
		      "] } ]\n"
		      "steps: [ { answer: [ { call: { tool: read } } ] }, { answer: [ { text: fine "
		      "} ] } ]\n");
	user(&t, "x");
	expect(&t, "call{read {}}");
	result(&t, "no", true);
	expect(&t, "text{[offline model] failed}");
	close_talk(&t);
}

static void
check_script_error(const char *script, const char *words)
{
	struct offline *o = NULL;
	struct err e = { 0 };

	assert_true(offline_open("s.yaml", str_of(script), &o, &e) < 0);
	assert_null(o);
	if (!strstr(e.msg, words))
		fail_msg("'%s' does not have '%s'", e.msg, words);
	assert_non_null(strstr(e.msg, "s.yaml"));
}

static void
test_script_errors(void **state)
{
	check_script_error("stepz: []", "did you mean steps?");
	check_script_error("steps:\n  - answer: [ { txt: a } ]", "line 2");
	check_script_error("steps:\n  - answer: [ { txt: a } ]", "did you mean text?");
	check_script_error("steps:\n  - {}", "answer");
	check_script_error("steps:\n  - answer:\n    - text: a\n      call: { tool: x }",
		"line 3: expected exactly one of");
	check_script_error("steps: [ { answer: [ {} ] } ]", "expected exactly one of");
	check_script_error("steps: [ { answer: [ { text: a, attempts: 1 } ] } ]",
		"attempts belongs to error or cut");
	check_script_error("steps: [ { answer: [ { call: { args: {} } } ] } ]", "tool");
	check_script_error("steps: [ { answer: [ { error: { status: 200 } } ] } ]", "400..599");
	check_script_error("rules:\n- when: { user: '(' }\n  answer: []",
		"line 2: when.user: not a usable regular expression");
	check_script_error(
		"rules: [ { when: { result: '(a)\\1' }, answer: [] } ]", "back references");
	check_script_error("rules: [ { when: { result: 'a{1,30000}' }, answer: [] } ]", "{n,m}");
	check_script_error("otherwise: maybe", "builtin");
	check_script_error("steps: [", "line");
	check_script_error("- a", "s.yaml");
}

/* Same conversation, same answer, to the byte. */
static void
test_deterministic(void **state)
{
	struct talk t;

	open_talk(&t, "");
	user(&t, "read a then run b");
	expect_has(&t, "call{read");
	struct str first = arena_str(t.a, buf_str(&t.shown));
	for (int i = 0; i < 10; i++)
		expect(&t, first.p);
	close_talk(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_requests_in_a_row),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_errors_are_told),
		cmocka_unit_test(test_missing_tool),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_context_comes_first),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_failures_and_attempts),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_rule_on_error),
		cmocka_unit_test(test_script_errors),
		cmocka_unit_test(test_deterministic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
