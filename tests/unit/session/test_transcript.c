/* SPDX-License-Identifier: MIT
 * The transcript: what a model sees of a log, also after cuts, denials and cancelled turns. */
#include <stdio.h>
#include "session/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct bench {
	struct transcript *tr;
	struct arena *a;
	struct transcript_view v;
};

static int
setup(void **state)
{
	struct bench *b = test_calloc(1, sizeof *b);

	b->tr = transcript_new();
	b->a = arena_new(64u << 20);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	transcript_free(b->tr);
	arena_free(b->a);
	test_free(b);
	return 0;
}

static int
add(struct bench *b, enum event_kind kind, const char *body)
{
	const struct node *n;
	struct err e;

	assert_int_equal(json_parse(b->a, str_of(body), &n, &e), 0);
	return transcript_add(b->tr, kind, n, &e);
}

static const struct part *
part(struct bench *b, size_t message, size_t i)
{
	assert_true(message < b->v.n);
	assert_true(i < b->v.messages[message].n);
	return &b->v.messages[message].parts[i];
}

static void
view(struct bench *b, size_t max)
{
	struct view_limits l = { .max_bytes = max };

	transcript_view(b->tr, &l, b->a, &b->v);
}

#define TWO_CALLS "{\"blocks\":[{\"type\":\"text\",\"text\":\"I look\"}," \
	"{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"read\",\"args\":\"{}\"}," \
	"{\"type\":\"call\",\"call_id\":\"b\",\"tool\":\"exec\",\"args\":\"{}\"}]}"

static void
test_results_stand_behind_their_calls(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":1,\"text\":\"second\"}"), 0);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":0,\"text\":\"\",\"is_error\":true}"), 0);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 3);
	assert_int_equal(b->v.messages[2].role, MSG_USER);
	assert_true(str_is(part(b, 2, 0)->call_id, "a"));
	assert_true(str_is(part(b, 2, 0)->text, "(no output)"));
	assert_true(part(b, 2, 0)->is_error);
	assert_true(str_is(part(b, 2, 1)->text, "second"));
}

/* The loop guard speaks as soon as it sees the second call, the third has no result yet. */
static void
test_a_notice_between_results_stands_behind_them(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":0,\"text\":\"first\"}"), 0);
	assert_int_equal(add(b, EVENT_NOTICE, "{\"text\":\"again?\",\"to_model\":true}"), 0);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":1,\"text\":\"second\"}"), 0);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 4);
	assert_true(str_is(part(b, 2, 1)->text, "second"));
	assert_true(str_is(part(b, 3, 0)->text, "again?"));
}

static void
test_refusals_are_results(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	assert_int_equal(add(b, EVENT_TOOL_REQUESTED, "{\"index\":0,\"decision\":\"allow\"}"), 0);
	assert_int_equal(add(b, EVENT_TOOL_REQUESTED, "{\"index\":1,\"decision\":\"deny\",\"reason\":\"a rule\"}"), 0);
	view(b, 1 << 20);
	assert_true(str_is(part(b, 2, 1)->text, "a rule"));
	assert_true(part(b, 2, 1)->is_error);
}

static void
test_calls_without_results_get_one(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	assert_int_equal(add(b, EVENT_TURN_FINISHED, "{}"), 0);
	view(b, 1 << 20);
	assert_true(part(b, 2, 0)->is_error);
	assert_true(str_find(part(b, 2, 0)->text, STR("not run")) >= 0);
	assert_true(str_is(part(b, 2, 1)->call_id, "b"));
}

static void
test_partial_text_of_a_cut_turn_is_kept(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_PARTIAL, "{\"text\":\"wrong\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_RESET, "{\"text\":\"\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_PARTIAL, "{\"text\":\"half \"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_PARTIAL, "{\"text\":\"an answer\"}"), 0);
	assert_int_equal(add(b, EVENT_TURN_FINISHED, "{\"status\":\"cancelled\"}"), 0);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 2);
	assert_true(str_is(part(b, 1, 0)->text, "half an answer"));
}

static void
test_partials_are_replaced_by_the_answer(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_PARTIAL, "{\"text\":\"ans\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, "{\"blocks\":[{\"type\":\"text\",\"text\":\"answer\"}]}"), 0);
	assert_int_equal(add(b, EVENT_TURN_FINISHED, "{}"), 0);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 2);
	assert_true(str_is(part(b, 1, 0)->text, "answer"));
}

static void
test_signed_reasoning_goes_back_unchanged(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE,
		"{\"blocks\":[{\"type\":\"reasoning\",\"text\":\"hm\",\"signature\":\"s==\"},"
		"{\"type\":\"redacted\",\"text\":\"\",\"signature\":\"d\"},{\"type\":\"text\",\"text\":\"x\"}]}"), 0);
	view(b, 1 << 20);
	assert_int_equal(part(b, 1, 0)->type, PART_REASONING);
	assert_true(str_is(part(b, 1, 0)->signature, "s=="));
	assert_int_equal(part(b, 1, 1)->type, PART_REASONING_REDACTED);
}

static void
test_oldest_turns_are_dropped_whole(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"0123456789\"}"), 0);
		assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
		assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":0,\"text\":\"0123456789\"}"), 0);
		assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":1,\"text\":\"0123456789\"}"), 0);
	}
	view(b, 100);
	assert_true(b->v.dropped_turns > 0);
	assert_true(b->v.bytes <= 100);
	assert_true(str_find(part(b, 0, 0)->text, STR("left out")) >= 0);
	/* what is left begins with a person's message, never with a result */
	assert_int_equal(part(b, 1, 0)->type, PART_TEXT);
	view(b, 1);
	assert_int_equal(b->v.dropped_turns, 9); /* the turn in progress is always there */
}

static void
test_bodies_that_do_not_fit_their_kind_are_refused(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":0,\"text\":\"x\"}"), ERR_CORRUPT);
	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, "{\"index\":2,\"text\":\"x\"}"), ERR_CORRUPT);
	assert_int_equal(add(b, EVENT_MODEL_DONE, "{\"blocks\":[{\"type\":\"song\"}]}"), ERR_CORRUPT);
}

static void
test_notices_to_the_model(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_NOTICE, "{\"text\":\"for people\"}"), 0);
	assert_int_equal(add(b, EVENT_NOTICE, "{\"text\":\"you repeat yourself\",\"to_model\":true}"), 0);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 2);
	assert_true(str_is(part(b, 1, 0)->text, "you repeat yourself"));
}

static void
test_what_an_api_wants_back(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE,
		"{\"provider\":\"p\",\"model\":\"p/m\",\"blocks\":[{\"type\":\"text\",\"text\":\"a\",\"signature\":\"s1\"},"
		"{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"read\",\"args\":\"{}\",\"signature\":\"s2\",\"item_id\":\"i2\"}]}"), 0);
	view(b, 1 << 20);
	assert_true(str_is(part(b, 1, 0)->signature, "s1"));
	assert_true(str_is(part(b, 1, 0)->origin, "p"));
	assert_true(str_is(part(b, 1, 1)->signature, "s2"));
	assert_true(str_is(part(b, 1, 1)->item_id, "i2"));
	assert_true(str_is(part(b, 1, 1)->origin, "p"));
	assert_int_equal(part(b, 2, 0)->origin.n, 0); /* the result is nobody's */
}

/* Logs of old say neither. */
static void
test_blocks_without_origin(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE, TWO_CALLS), 0);
	view(b, 1 << 20);
	assert_int_equal(part(b, 1, 0)->origin.n + part(b, 1, 1)->origin.n + part(b, 1, 1)->item_id.n, 0);
}

/* A step with one call, whose result has n bytes that end with the number of the step. */
static void
step(struct bench *b, int i, size_t n)
{
	struct buf body;

	assert_int_equal(add(b, EVENT_MODEL_DONE,
		"{\"blocks\":[{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"read\",\"args\":\"{}\"}]}"), 0);
	buf_init(&body, 1 << 20);
	buf_printf(&body, "{\"index\":0,\"text\":\"start ");
	for (size_t k = 0; k < n; k++)
		buf_add_char(&body, 'x');
	buf_printf(&body, "\xc3\xbc end %d\"}", i);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, buf_z(&body)), 0);
	buf_fini(&body);
}

static void
test_results_are_cut_where_asked(void **state)
{
	struct bench *b = *state;
	struct view_limits l = { .max_bytes = 1 << 20, .result_max = 1000 };

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	step(b, 1, 10000);
	step(b, 2, 10000);
	transcript_view(b->tr, &l, b->a, &b->v);
	assert_true(part(b, 2, 0)->text.n < 1100);
	assert_true(str_starts(part(b, 2, 0)->text, "start "));
	assert_true(str_find(part(b, 2, 0)->text, STR(" end 1")) > 0);
	assert_true(str_find(part(b, 2, 0)->text, STR("bytes left out to fit the context window")) > 0);
	assert_in_range(part(b, 4, 0)->text.n, 3000, 4100); /* the newest may be longer */
	assert_true(b->v.bytes < 6000);
}

/* A NUL of a command's output ends nothing. */
static void
test_a_cut_result_keeps_its_nul(void **state)
{
	struct bench *b = *state;
	struct view_limits l = { .max_bytes = 1 << 20, .result_max = 100 };
	struct buf body;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_int_equal(add(b, EVENT_MODEL_DONE,
		"{\"blocks\":[{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"read\",\"args\":\"{}\"}]}"), 0);
	buf_init(&body, 1 << 20);
	buf_printf(&body, "{\"index\":0,\"text\":\"a\\u0000b%01000d\\u0000c\"}", 7);
	assert_int_equal(add(b, EVENT_EFFECT_OUTCOME, buf_z(&body)), 0);
	buf_fini(&body);
	transcript_view(b->tr, &l, b->a, &b->v);
	assert_true(str_starts(str_sub(part(b, 2, 0)->text, 2, SIZE_MAX), "b000"));
	assert_true(str_ends(part(b, 2, 0)->text, "c"));
	assert_true(part(b, 2, 0)->text.n > 300); /* the newest may have four times as much */
}

/* One turn that outgrows the window: its results shrink, its calls and texts stay. */
static void
test_a_turn_that_is_too_long_is_cut(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	for (int i = 0; i < 20; i++)
		step(b, i, 20000);
	view(b, 50000);
	assert_true(b->v.bytes <= 50000);
	assert_int_equal(b->v.n, 41);
	assert_int_equal(b->v.dropped_turns, 0);
	assert_true(part(b, 40, 0)->text.n > part(b, 2, 0)->text.n);
	view(b, 100); /* cannot: the least there is */
	assert_int_equal(b->v.n, 41);
	view(b, 1 << 20); /* and nothing is lost */
	assert_true(part(b, 2, 0)->text.n > 20000);
}

#define WITH_FILES "{\"text\":\"what is this?\",\"attachments\":[" \
	"{\"name\":\"a.png\",\"mime\":\"image/png\",\"size\":12345,\"blob\":\"b10b\",\"tokens\":900}," \
	"{\"name\":\"b.txt\",\"mime\":\"text/plain\",\"size\":30,\"blob\":\"7e47\",\"tokens\":10}]}"

/* Files stand before the text, without bytes, and count as their tokens. */
static void
test_files_of_a_message(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"go\"}"), 0);
	assert_false(transcript_has_media(b->tr));
	assert_int_equal(add(b, EVENT_USER_MESSAGE, WITH_FILES), 0);
	assert_true(transcript_has_media(b->tr));
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 2);
	assert_int_equal(b->v.messages[1].n, 3);
	assert_int_equal(part(b, 1, 0)->type, PART_MEDIA);
	assert_true(str_is(part(b, 1, 0)->text, "a.png (image/png, 12 KB)"));
	assert_true(str_is(part(b, 1, 0)->blob, "b10b"));
	assert_null(part(b, 1, 0)->data.p);
	assert_int_equal(part(b, 1, 0)->data.n, 12345);
	assert_true(str_is(part(b, 1, 1)->text, "b.txt (text/plain, 30 bytes)"));
	assert_true(str_is(part(b, 1, 2)->text, "what is this?"));
	assert_int_equal(b->v.bytes, 2 + 3 * (900 + 10) + 13 + 2 * (5 + 16)); /* and the line of their names */
	assert_int_equal(b->v.turns[0], 1);
	assert_int_equal(b->v.turns[1], 2);
	assert_true(str_is(part(b, 1, 0)->file, "a.png"));
	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"and?\"}"), 0);
	view(b, 2000); /* the image is too much for this window: its turn goes whole */
	assert_int_equal(b->v.dropped_turns, 2);
	assert_int_equal(b->v.turns[0], 0);
	assert_int_equal(b->v.turns[1], 3);
}

static void
add_file(struct bench *b, const char *name, int blob, size_t size)
{
	struct buf body;

	buf_init(&body, 4 * KIB);
	buf_printf(&body, "{\"text\":\"go\",\"attachments\":[{\"name\":\"%s\",\"mime\":\"application/zip\",\"size\":%zu,"
		"\"blob\":\"%d\",\"tokens\":100}]}", name, size, blob);
	assert_int_equal(add(b, EVENT_USER_MESSAGE, buf_z(&body)), 0);
	buf_fini(&body);
}

/* Names of the inbox: the first has its own, others a number, equal bytes are one file; the newest are there. */
static void
test_files_for_an_inbox(void **state)
{
	struct bench *b = *state;
	struct transcript_file files[TURN_FILES_MAX];

	assert_int_equal(transcript_files(b->tr, files), 0);
	add_file(b, "a.zip", 1, 10);
	add_file(b, "../a.zip", 2, 20);
	add_file(b, "a.zip", 1, 10);
	add_file(b, "a-2.zip", 3, 30);
	assert_int_equal(transcript_files(b->tr, files), 3);
	assert_true(str_is(files[0].name, "a-2-2.zip") && str_is(files[0].blob, "3") && files[0].size_bytes == 30);
	assert_true(str_is(files[1].name, "a.zip") && str_is(files[1].blob, "1"));
	assert_true(str_is(files[2].name, "a-2.zip") && str_is(files[2].blob, "2"));
	for (int i = 10; i < 50; i++)
		add_file(b, "x", i, 1);
	assert_int_equal(transcript_files(b->tr, files), TURN_FILES_MAX);
	assert_true(str_is(files[0].name, "x-40") && str_is(files[TURN_FILES_MAX - 1].name, "x-9"));
	add_file(b, "large", 60, 20 * MIB);
	add_file(b, "large", 61, 12 * MIB);
	assert_int_equal(transcript_files(b->tr, files), 2);
	add_file(b, "large", 62, 20 * MIB);
	assert_int_equal(transcript_files(b->tr, files), 2); /* 20 and 12 are 32 */
	add_file(b, "small", 63, 1);
	assert_int_equal(transcript_files(b->tr, files), 2);
	assert_true(str_is(files[1].name, "large-3"));
}

static void
test_what_may_come_next(void **state)
{
	struct bench *b = *state;
	struct transcript *real = b->tr, *copy;
	struct model_usage u;
	int64_t cost;

	assert_int_equal(add(b, EVENT_USER_MESSAGE, WITH_FILES), 0);
	assert_false(transcript_last_usage(real, &u, &cost));
	assert_int_equal(add(b, EVENT_MODEL_DONE, "{\"blocks\":[{\"type\":\"text\",\"text\":\"a cat\"}],\"usage\":{"
		"\"input_tokens\":100,\"cached_tokens\":60},\"cost_microusd\":7}"), 0);
	copy = transcript_imagine(real);
	b->tr = copy;
	assert_int_equal(add(b, EVENT_USER_MESSAGE, "{\"text\":\"sure?\"}"), 0);
	assert_true(transcript_last_usage(copy, &u, &cost));
	assert_int_equal(u.cached_tokens, 60);
	assert_int_equal(cost, 7);
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 3);
	assert_true(str_is(part(b, 2, 0)->text, "sure?"));
	assert_int_equal(b->v.turns[2], 2);
	transcript_free(copy);
	b->tr = real;
	view(b, 1 << 20);
	assert_int_equal(b->v.n, 2);
}

static void
answer_of(struct bench *b, const char *model, int64_t tokens, int64_t bytes)
{
	char body[256];

	snprintf(body, sizeof body, "{\"model\":\"%s\",\"blocks\":[],\"usage\":{\"input_tokens\":%lld},\"input_bytes\":%lld}", model,
		(long long)tokens, (long long)bytes);
	assert_int_equal(add(b, EVENT_MODEL_DONE, body), 0);
}

/* The densest answer of a model counts, from a token for 3 bytes to one for each. */
static void
test_tokens_of_bytes(void **state)
{
	struct bench *b = *state;

	assert_int_equal(transcript_tokens(b->tr, STR("a/m"), 301), 101);
	answer_of(b, "a/m", 10, 100);
	assert_int_equal(transcript_tokens(b->tr, STR("a/m"), 300), 100);
	answer_of(b, "a/m", 50, 100);
	answer_of(b, "a/m", 40, 100);
	assert_int_equal(transcript_tokens(b->tr, STR("a/m"), 301), 151);
	assert_int_equal(transcript_tokens(b->tr, STR("b/m"), 300), 100);
	answer_of(b, "b/m", INT64_MAX, 100); /* a server may say anything */
	assert_int_equal(transcript_tokens(b->tr, STR("b/m"), 300), 300);
	assert_true(transcript_tokens(b->tr, STR("b/m"), SIZE_MAX) > 0);
	answer_of(b, "c/m", -1, -1);
	answer_of(b, "c/m", 0, 0);
	answer_of(b, "c/m", 5, 0);
	assert_int_equal(transcript_tokens(b->tr, STR("c/m"), 300), 100);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_results_stand_behind_their_calls), T(test_refusals_are_results),
		T(test_calls_without_results_get_one),
		T(test_files_of_a_message),
		T(test_files_for_an_inbox),
		T(test_what_may_come_next), T(test_partial_text_of_a_cut_turn_is_kept),
		T(test_partials_are_replaced_by_the_answer), T(test_signed_reasoning_goes_back_unchanged),
		T(test_oldest_turns_are_dropped_whole), T(test_bodies_that_do_not_fit_their_kind_are_refused),
		T(test_notices_to_the_model), T(test_a_notice_between_results_stands_behind_them),
		T(test_what_an_api_wants_back), T(test_blocks_without_origin), T(test_results_are_cut_where_asked), T(test_a_cut_result_keeps_its_nul),
		T(test_a_turn_that_is_too_long_is_cut), T(test_tokens_of_bytes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
