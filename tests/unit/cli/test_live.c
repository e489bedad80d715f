/* SPDX-License-Identifier: MIT
 * What a person sees, on a terminal that interprets what the view writes. */
#include <stdio.h>
#include "events.h"
#include "screen.h"

struct show {
	struct fold f;
	struct live v;
	struct buf out, text;
	struct screen *screen;
};

static void
show_open(struct show *s, bool live, size_t columns)
{
	struct live_style style = { .text = live, .spinner = live, .color = live, .utf8 = true, .columns = columns,
		.rows = 24 };

	fold_init(&s->f);
	strncpy(s->f.session, SESSION, sizeof(s->f.session) - 1);
	strncpy(s->f.turn, TURN, sizeof(s->f.turn) - 1);
	buf_init(&s->out, 1 << 20);
	buf_init(&s->text, 1 << 20);
	live_init(&s->v, style, &s->out);
	s->screen = calloc(1, sizeof(*s->screen));
	s->screen->columns = columns;
}

static void
show_close(struct show *s)
{
	live_fini(&s->v);
	fold_fini(&s->f);
	buf_fini(&s->out);
	buf_fini(&s->text);
	free(s->screen);
}

static const char *
show_text(struct show *s)
{
	screen_write(s->screen, buf_str(&s->out));
	buf_reset(&s->out);
	screen_text(s->screen, &s->text);
	return buf_z(&s->text);
}

static void
show_event(struct show *s, const char *json)
{
	size_t kept;

	feed(&s->f, &s->v, json, &kept);
	/* The spinner turns between any two events. */
	live_tick(&s->v, 7000);
	show_text(s);
}

static const char *const expected =
	"test/x · workspace_write · cell\n"
	"Let me look.\n"
	"✓ exec ls -la  100 ms\n"
	"    a.txt\n"
	"    b.txt\\x1b[31m\n"
	"Two files.\n"
	"✓ answered · 2 steps · 250 in, 30 out tokens · $0.0012 · 200 ms · session " SESSION;

static void
test_live(void **state)
{
	struct show s;

	show_open(&s, true, 120);
	for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
		show_event(&s, recorded[i]);
	live_pause(&s.v);
	live_summary(&s.v, &s.f);
	assert_string_equal(show_text(&s), expected);
	show_close(&s);
}

/* The link breaks after any event and everything that was logged is sent again: the screen ends the same. */
static void
test_live_reconnect(void **state)
{
	for (size_t cut = 0; cut < ARRAY_LEN(recorded); cut++) {
		struct show s;

		show_open(&s, true, 120);
		for (size_t i = 0; i < cut; i++)
			show_event(&s, recorded[i]);
		for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
			if (!strstr(recorded[i], "\"seq\":0"))
				show_event(&s, recorded[i]);
		live_pause(&s.v);
		live_summary(&s.v, &s.f);
		assert_string_equal(show_text(&s), expected);
		show_close(&s);
	}
}

static void
test_spinner(void **state)
{
	struct show s;

	show_open(&s, true, 120);
	for (size_t i = 0; i < 9; i++)
		show_event(&s, recorded[i]);
	assert_non_null(strstr(show_text(&s), "exec ls -la  2.0 s  b.txt"));
	live_pause(&s.v);
	assert_null(strstr(show_text(&s), "2.0 s"));
	show_close(&s);
}

#define DELTA(at, off, t)                                                                         \
	EV("0", "1", "model.delta", "{\"step\":1,\"attempt\":" at ",\"offset\":" off ",\"text\":\"" t "\"}")
#define RETRY(seq)                                                                                \
	EV(seq, "1", "model.retry",                                                                 \
		"{\"step\":1,\"attempt\":1,\"after_ms\":900,\"error\":{\"code\":\"network\",\"message\":\"cut\"}}")
#define RESET(seq, at, off, t)                                                                    \
	EV(seq, "1", "model.reset", "{\"step\":1,\"attempt\":" at ",\"offset\":" off ",\"text\":\"" t "\"}")

/* Text that wraps over several rows of a narrow terminal, in wide characters too, is taken back whole. */
static void
test_taken_back(void **state)
{
	static const char *const texts[] = { "one two three four five six seven eight nine ten eleven",
		"日本語のとても長い文章がここにあります。折り返しも必要です。もう少し続きます。",
		"exactly-twenty-chars", "line one\\nline two\\n\\nline four", "ends with a line end\\n" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct show s;
		char delta[1000];

		show_open(&s, true, 20);
		show_event(&s, EV("2", "1", "notice", "{\"level\":\"info\",\"text\":\"above\"}"));
		snprintf(delta, sizeof(delta), DELTA("1", "0", "%s"), texts[i]);
		show_event(&s, delta);
		show_event(&s, RETRY("3"));
		assert_non_null(strstr(show_text(&s), "trying again"));
		show_event(&s, RESET("4", "2", "0", ""));
		show_event(&s, DELTA("2", "0", "All "));
		show_event(&s, DELTA("2", "4", "new."));
		live_pause(&s.v);
		assert_string_equal(show_text(&s), "! above\nAll new.");
		show_close(&s);
	}
}

/* A retry that goes on where it was cut. */
static void
test_goes_on(void **state)
{
	struct show s;

	show_open(&s, true, 40);
	show_event(&s, DELTA("1", "0", "The answer is "));
	show_event(&s, RETRY("3"));
	show_event(&s, DELTA("2", "14", "forty-two."));
	live_pause(&s.v);
	assert_string_equal(show_text(&s), "The answer is forty-two.");
	show_close(&s);
}

/* Text that has scrolled away cannot be taken back: the new one is announced. */
static void
test_scrolled(void **state)
{
	struct show s;
	struct buf b;

	show_open(&s, true, 20);
	buf_init(&b, 1 << 16);
	buf_add_z(&b, "start");
	for (int i = 0; i < 30; i++)
		buf_add_z(&b, "\\nrow");
	{
		AUTO_FREE char *delta = malloc(4096);

		snprintf(delta, 4096, DELTA("1", "0", "%s"), buf_z(&b));
		show_event(&s, delta);
	}
	show_event(&s, RESET("4", "2", "0", "fresh"));
	assert_non_null(strstr(show_text(&s), "from the start"));
	assert_int_equal(occurrences(show_text(&s), "fresh"), 1);
	buf_fini(&b);
	show_close(&s);
}

static void
test_split_utf8(void **state)
{
	struct show s;
	size_t kept;

	/* A character cut between two deltas is shown when it is whole. JSON cannot carry half of one, so the fold is
	 * filled by hand. */
	show_open(&s, true, 40);
	feed(&s.f, &s.v, DELTA("1", "0", "a"), &kept);
	buf_add(&s.f.text, "\xc3", 1);
	feed(&s.f, &s.v, EV("9", "1", "notice", "{\"level\":\"debug\",\"text\":\"x\"}"), &kept);
	assert_string_equal(show_text(&s), "a");
	show_close(&s);
}

static void
test_hostile(void **state)
{
	struct show s;

	show_open(&s, true, 100);
	show_event(&s, DELTA("1", "0", "\\u001b]0;owned\\u0007\\u001b[2J\\u202egpj.exe\\r"));
	show_event(&s,
		EV("3", "1", "effect.intent",
			"{\"effect\":\"e\",\"tool\":\"ex\\u001bec\",\"args\":{\"command\":\"a\\u001b[1A\\nb\\u0000\"}}"));
	show_event(&s, EV("4", "1", "tool.progress", "{\"effect\":\"e\",\"text\":\"\\u001b[9A\\rx\"}"));
	show_event(&s,
		EV("5", "1", "effect.outcome",
			"{\"effect\":\"e\",\"state\":\"done\",\"is_error\":true,\"text\":\"\\u009b2J\\u001b\",\"facts\":{\"exit\":3},"
			"\"ms\":12345}"));
	show_event(&s, EV("6", "1", "notice", "{\"level\":\"warn\",\"text\":\"\\u001b[5A\"}"));
	/* The terminal of the test fails on any sequence that is not the view's own. */
	assert_non_null(strstr(show_text(&s), "\\x1b]0;owned"));
	assert_non_null(strstr(show_text(&s), "exit 3  12 s"));
	show_close(&s);
}

static void
test_outcomes(void **state)
{
	struct show s;

	show_open(&s, true, 100);
	show_event(&s,
		EV("2", "1", "tool.requested",
			"{\"call\":\"c\",\"tool\":\"exec\",\"args\":{\"command\":\"git push\"},\"decision\":\"deny\","
			"\"reason\":\"rule Exec(git push *)\"}"));
	show_event(&s, EV("3", "1", "effect.intent", "{\"effect\":\"e\",\"tool\":\"write\",\"args\":{\"path\":\"a.c\"}}"));
	show_event(&s, EV("4", "1", "effect.outcome", "{\"effect\":\"e\",\"tool\":\"write\",\"state\":\"unknown\",\"ms\":5}"));
	live_pause(&s.v);
	assert_string_equal(show_text(&s),
		"✗ exec git push  denied: rule Exec(git push *)\n"
		"? write a.c  unknown: nobody can tell whether it happened  5 ms");
	show_close(&s);
}

/* Without a terminal: no escape sequences at all, and no streamed text. */
static void
test_plain(void **state)
{
	struct show s;
	size_t kept;

	show_open(&s, false, 160);
	for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
		feed(&s.f, &s.v, recorded[i], &kept);
	live_tick(&s.v, 9000);
	live_pause(&s.v);
	live_summary(&s.v, &s.f);
	assert_null(strchr(buf_z(&s.out), 27));
	assert_null(strchr(buf_z(&s.out), '\r'));
	assert_string_equal(buf_z(&s.out),
		"test/x · workspace_write · cell\n"
		"✓ exec ls -la  100 ms\n"
		"! trying again in 500 ms: the stream was cut\n"
		"✓ answered · 2 steps · 250 in, 30 out tokens · $0.0012 · 200 ms · session " SESSION "\n");
	show_close(&s);
}

static void
test_formats(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} times[] = { { 0, "0 ms" }, { 450, "450 ms" }, { 9999, "9.9 s" }, { 12345, "12 s" }, { 125000, "2 min 05 s" } };
	static const struct {
		int64_t microusd;
		const char *text;
	} money[] = { { 0, "$0.0000" }, { 1, "$0.0001" }, { 12345, "$0.0124" }, { 999900, "$0.9999" }, { 999901, "$1.00" },
		{ 1234567, "$1.24" } };
	static const struct {
		const char *in;
		size_t columns;
		const char *out;
	} cuts[] = { { "abcdef", 6, "abcdef" }, { "abcdefg", 6, "abcde…" }, { "  x\n", 6, "x" }, { "日本語", 5, "日本…" },
		{ "a\nb", 10, "a\\nb" } };
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		buf_reset(&b);
		add_duration(&b, times[i].ms);
		assert_string_equal(buf_z(&b), times[i].text);
	}
	for (size_t i = 0; i < ARRAY_LEN(money); i++) {
		buf_reset(&b);
		add_money(&b, money[i].microusd);
		assert_string_equal(buf_z(&b), money[i].text);
	}
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		buf_reset(&b);
		add_cut(&b, str_of(cuts[i].in), cuts[i].columns, true);
		assert_string_equal(buf_z(&b), cuts[i].out);
	}
	buf_fini(&b);
}

static void
test_attachments(void **state)
{
	struct show s;

	show_open(&s, true, 100);
	show_event(&s, EV("2", "1000", "user.message", "{\"text\":\"look\",\"attachments\":[{\"name\":\"a\\u001b[2J.png\","
		"\"mime\":\"image/png\",\"size\":12345},{\"name\":\"b.txt\",\"mime\":\"text/plain\",\"size\":7}]}"));
	assert_non_null(strstr(show_text(&s), "[attached a\\x1b[2J.png image/png 12 KB]\n[attached b.txt text/plain 7 bytes]"));
	show_close(&s);
}

/* A name shows no control, and the words that get the file are harmless in a shell. */
static void
test_files(void **state)
{
	struct show s;

	show_open(&s, true, 100);
	show_event(&s, EV("2", "1000", "turn.files", "{\"files\":[{\"name\":\"d/a\\u001b[2J;rm -rf $HOME.csv\",\"bytes\":12345,\"type\":\"text/plain\","
		"\"blob\":\"00ff\"}],\"left_out\":[{\"name\":\"l\\nx\",\"bytes\":0,\"why\":\"link\"}],\"left_out_more\":3,"
		"\"error\":{\"code\":\"gone\",\"message\":\"no cell\"}}"));
	assert_non_null(strstr(show_text(&s), "file d/a\\x1b[2J;rm -rf $HOME.csv text/plain 12 KB\n"
		"    ithaca blob get 00ff -o a__2J_rm_-rf__HOME.csv\n"));
	assert_non_null(strstr(show_text(&s), "not kept: l\\nx (link)\n"));
	assert_non_null(strstr(show_text(&s), "not kept: 3 or more other files in the outbox"));
	show_close(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_attachments),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_live_reconnect),
		cmocka_unit_test(test_spinner),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_scrolled),
		cmocka_unit_test(test_split_utf8),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
