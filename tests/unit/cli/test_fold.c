/* SPDX-License-Identifier: MIT
 * The fold over events: one object at the end, and text that is never doubled, whatever arrives twice or late. */
#include "events.h"

static const char *
json_of(const struct fold *f, struct buf *b)
{
	struct json j;

	buf_reset(b);
	json_init(&j, b);
	fold_json(f, &j);
	return buf_z(b);
}

static const char *const want =
	"{\"session\":\"" SESSION "\",\"turn\":\"" TURN "\",\"status\":\"answered\",\"text\":\"Two files.\","
	"\"model\":\"test/x\",\"usage\":{\"input_tokens\":250,\"output_tokens\":30,\"cached_tokens\":90,"
	"\"reasoning_tokens\":0},\"cost_microusd\":1200,\"steps\":2,\"effects\":[{\"tool\":\"exec\","
	"\"status\":\"done\",\"ms\":100}],\"duration_ms\":200}";

static void
begin(struct fold *f)
{
	fold_init(f);
	strncpy(f->session, SESSION, sizeof(f->session) - 1);
	strncpy(f->turn, TURN, sizeof(f->turn) - 1);
}

static void
test_json(void **state)
{
	struct fold f;
	struct buf b;
	size_t kept;

	buf_init(&b, 1 << 20);
	begin(&f);
	for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
		feed(&f, NULL, recorded[i], &kept);
	assert_true(f.is_finished);
	assert_string_equal(json_of(&f, &b), want);
	assert_int_equal(fold_exit(&f), 0);
	fold_fini(&f);
	buf_fini(&b);
}

/* Files are in the object where there are any, and what was left out beside them. */
static void
test_files(void **state)
{
	struct fold f;
	struct buf b;
	size_t kept;

	buf_init(&b, 1 << 20);
	begin(&f);
	feed(&f, NULL, EV("1", "1", "turn.files", "{\"files\":[{\"name\":\"a\",\"bytes\":1,\"type\":\"text/plain\",\"blob\":\"00\"}],\"left_out\":[]}"), &kept);
	assert_non_null(strstr(json_of(&f, &b), "\"files\":[{\"name\":\"a\",\"bytes\":1,\"type\":\"text/plain\",\"blob\":\"00\"}],\"duration_ms\""));
	feed(&f, NULL, EV("2", "2", "turn.files", "{\"files\":[],\"left_out\":[{\"name\":\"l\",\"bytes\":0,\"why\":\"link\"}]}"), &kept);
	assert_null(strstr(json_of(&f, &b), "\"files\""));
	assert_non_null(strstr(json_of(&f, &b), "\"files_left_out\":[{\"name\":\"l\""));
	fold_fini(&f);
	buf_fini(&b);
}

/* Cut the link after every event: what follows is everything that was logged after the last number seen, or, worse,
 * the whole log again. The text of each step must come out the same. */
static void
test_reconnect_anywhere(void **state)
{
	struct buf b;
	size_t kept;

	buf_init(&b, 1 << 20);
	for (size_t cut = 0; cut < ARRAY_LEN(recorded); cut++) {
		struct fold f;

		begin(&f);
		for (size_t i = 0; i < cut; i++)
			feed(&f, NULL, recorded[i], &kept);
		for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
			if (!strstr(recorded[i], "\"seq\":0"))
				feed(&f, NULL, recorded[i], &kept);
		assert_string_equal(json_of(&f, &b), want);
		assert_string_equal(buf_z(&f.text), "Two files.");
		fold_fini(&f);
	}
	buf_fini(&b);
}

struct text_case {
	const char *name;
	const char *events[8];
	const char *text;
};

#define DELTA(s, at, off, t)                                                                      \
	EV("0", "1", "model.delta", "{\"step\":" s ",\"attempt\":" at ",\"offset\":" off ",\"text\":\"" t "\"}")
#define PARTIAL(seq, s, at, off, t)                                                               \
	EV(seq, "1", "model.partial", "{\"step\":" s ",\"attempt\":" at ",\"offset\":" off ",\"text\":\"" t "\"}")
#define RESET(seq, s, at, off, t)                                                                 \
	EV(seq, "1", "model.reset",                                                                 \
		"{\"step\":" s ",\"attempt\":" at ",\"offset\":" off ",\"text\":\"" t "\",\"why\":\"retry\"}")
#define DONE(seq, s, t)                                                                           \
	EV(seq, "1", "model.done", "{\"step\":" s ",\"blocks\":[{\"type\":\"text\",\"text\":\"" t "\"}]}")

static const struct text_case cases[] = {
	{ "deltas", { DELTA("1", "1", "0", "abc"), DELTA("1", "1", "3", "def") }, "abcdef" },
	{ "the same delta twice", { DELTA("1", "1", "0", "abc"), DELTA("1", "1", "0", "abc") }, "abc" },
	{ "overlap", { DELTA("1", "1", "0", "abcd"), DELTA("1", "1", "2", "cdef") }, "abcdef" },
	{ "partial repeats deltas", { DELTA("1", "1", "0", "abc"), PARTIAL("5", "1", "1", "0", "abc") }, "abc" },
	{ "partial is ahead", { DELTA("1", "1", "0", "abc"), PARTIAL("5", "1", "1", "0", "abcdef") }, "abcdef" },
	{ "delta after its partial", { PARTIAL("5", "1", "1", "0", "abcdef"), DELTA("1", "1", "3", "def") }, "abcdef" },
	{ "reset to nothing", { DELTA("1", "1", "0", "abc"), RESET("5", "1", "2", "0", ""), DELTA("1", "2", "0", "xy") },
		"xy" },
	{ "reset keeps a start", { DELTA("1", "1", "0", "abcdef"), RESET("5", "1", "2", "3", "XY") }, "abcXY" },
	{ "old attempt after a reset",
		{ DELTA("1", "1", "0", "abc"), RESET("5", "1", "2", "0", "new"), DELTA("1", "1", "3", "old") }, "new" },
	{ "new attempt without a reset", { DELTA("1", "1", "0", "abc"), DELTA("1", "2", "0", "xyz") }, "xyz" },
	{ "new attempt that goes on", { DELTA("1", "1", "0", "abc"), DELTA("1", "2", "3", "def") }, "abcdef" },
	{ "joined late", { DELTA("1", "1", "7", "tail"), DONE("5", "1", "the of tail") }, "the of tail" },
	{ "a hole, then the whole", { DELTA("1", "1", "0", "ab"), DELTA("1", "1", "4", "ef"), DONE("5", "1", "abcdef") },
		"abcdef" },
	{ "delta after done", { DELTA("1", "1", "0", "ab"), DONE("5", "1", "ab"), DELTA("1", "1", "2", "cd") }, "ab" },
	{ "next step", { DELTA("1", "1", "0", "ab"), DELTA("2", "1", "0", "cd") }, "cd" },
	{ "step before", { DELTA("2", "1", "0", "cd"), DELTA("1", "1", "0", "ab") }, "cd" },
	{ "reasoning is not text",
		{ EV("0", "1", "model.delta",
			  "{\"step\":1,\"attempt\":1,\"offset\":0,\"text\":\"hmm\",\"reasoning\":true}"),
			DELTA("1", "1", "0", "abc") },
		"abc" },
	{ "negative offset", { DELTA("1", "1", "-5", "abc") }, "" },
	{ "huge offset", { DELTA("1", "1", "0", "ab"), DELTA("1", "1", "9223372036854775807", "c") }, "ab" },
};

static void
test_text(void **state)
{
	size_t kept;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fold f;

		begin(&f);
		for (size_t k = 0; k < ARRAY_LEN(cases[i].events) && cases[i].events[k]; k++)
			feed(&f, NULL, cases[i].events[k], &kept);
		if (strcmp(buf_z(&f.text), cases[i].text) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", cases[i].name, buf_z(&f.text), cases[i].text);
		fold_fini(&f);
	}
}

static void
test_other_turns(void **state)
{
	struct fold f;
	size_t kept;

	begin(&f);
	assert_int_equal(feed(&f, NULL,
				 "{\"seq\":4,\"turn\":\"01jd0000000000000000000009\",\"time\":1,\"kind\":\"turn.finished\","
				 "\"body\":{\"status\":\"failed\"}}",
				 &kept),
		FOLD_OLD);
	assert_false(f.is_finished);
	assert_int_equal(f.last_seq, 4);
	fold_fini(&f);
}

static void
test_stopped(void **state)
{
	static const struct {
		int code, exit;
		enum turn_status status;
	} rows[] = { { ERR_NET, 1, TURN_FAILED }, { ERR_CONFIG, 2, TURN_FAILED }, { ERR_AUTH, 2, TURN_FAILED },
		{ ERR_APPROVAL, 3, TURN_WAITING }, { ERR_LIMIT, 4, TURN_LIMIT }, { ERR_CANCELLED, 5, TURN_CANCELLED } };
	struct buf b;
	size_t kept;

	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fold f;
		struct err e;

		begin(&f);
		for (size_t k = 0; k < 10; k++)
			feed(&f, NULL, recorded[k], &kept);
		err_set(&e, rows[i].code, ERR_TO_USER, "what went wrong");
		fold_stop(&f, rows[i].status, &e);
		assert_int_equal(fold_exit(&f), rows[i].exit);
		assert_non_null(strstr(json_of(&f, &b), err_name(rows[i].code)));
		assert_non_null(strstr(buf_z(&b), "\"message\":\"what went wrong\""));
		/* What was known by then is in the object. */
		assert_non_null(strstr(buf_z(&b), "\"input_tokens\":100"));
		assert_non_null(strstr(buf_z(&b), "{\"tool\":\"exec\",\"status\":\"done\",\"ms\":100}"));
		fold_fini(&f);
	}
	buf_fini(&b);
}

static void
test_before_anything(void **state)
{
	struct fold f;
	struct buf b;
	struct err e;

	buf_init(&b, 1 << 20);
	fold_init(&f);
	err_set(&e, ERR_CONFIG, ERR_TO_USER, "config.yaml line 3: no");
	fold_stop(&f, TURN_FAILED, &e);
	assert_string_equal(json_of(&f, &b),
		"{\"session\":null,\"turn\":null,\"status\":\"failed\",\"text\":\"\",\"model\":null,\"usage\":{"
		"\"input_tokens\":0,\"output_tokens\":0,\"cached_tokens\":0,\"reasoning_tokens\":0},"
		"\"cost_microusd\":0,\"steps\":0,\"effects\":[],\"duration_ms\":0,\"error\":{\"code\":\"config\","
		"\"message\":\"config.yaml line 3: no\"}}");
	assert_int_equal(fold_exit(&f), 2);
	fold_fini(&f);
	buf_fini(&b);
}

static void
test_approvals(void **state)
{
	struct fold f;
	size_t kept;

	begin(&f);
	feed(&f, NULL, EV("2", "1", "approval.requested", "{\"id\":\"a1\",\"tool\":\"exec\",\"summary\":\"git push\"}"), &kept);
	feed(&f, NULL, EV("3", "1", "approval.requested", "{\"id\":\"a2\",\"tool\":\"exec\",\"summary\":\"rm x\"}"), &kept);
	assert_int_equal(f.approvals_n, 2);
	feed(&f, NULL, EV("4", "1", "approval.resolved", "{\"id\":\"a1\",\"decision\":\"deny\"}"), &kept);
	assert_int_equal(f.approvals_n, 1);
	assert_string_equal(f.approvals[0].id, "a2");
	assert_string_equal(f.approvals[0].summary, "rm x");
	feed(&f, NULL, EV("5", "1", "approval.expired", "{\"id\":\"a2\"}"), &kept);
	assert_int_equal(f.approvals_n, 0);
	fold_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_reconnect_anywhere),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_other_turns),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_before_anything),
		cmocka_unit_test(test_approvals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
