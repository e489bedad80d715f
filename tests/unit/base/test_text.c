/* SPDX-License-Identifier: MIT
 * str, buf, utf8 and width: views, bounded writing, what is UTF-8 and what a terminal may see. */
#include "test.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"

static void
views(void **state)
{
	struct str s = STR("  a,b,,c\t\n"), rest, part;
	assert_str(str_trim(s), "a,b,,c");
	assert_str(str_sub(STR("hello"), 3, 99), "lo");
	assert_str(str_sub(STR("hello"), 99, 1), "");
	assert_true(str_starts(STR("hello"), "he") && !str_starts(STR("h"), "he"));
	assert_true(str_ends(STR("hello"), "lo") && str_ends(STR(""), ""));
	assert_int_equal(str_find(STR("abcabd"), STR("abd")), 3);
	assert_int_equal(str_find(STR("abc"), STR("x")), -1);
	assert_true(str_cmp(STR("a"), STR("ab")) < 0 && str_cmp(STR("b"), STR("ab")) > 0);
	assert_true(str_eq(str_of(NULL), STR("")));

	const char *const want[] = { "a", "b", "", "c" };
	size_t n = 0;
	rest = str_trim(s);
	while (str_next(&rest, ',', &part))
		assert_str(part, want[n++]);
	assert_int_equal(n, 4);
	rest = STR("a,");
	assert_true(str_next(&rest, ',', &part) && str_next(&rest, ',', &part));
	assert_int_equal(part.n, 0);
	assert_false(str_next(&rest, ',', &part));
}

static void
whole_numbers(void **state)
{
	int64_t i = 7;
	uint64_t u = 7;
	assert_int_equal(str_i64(STR("-9223372036854775808"), &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(str_i64(STR("9223372036854775807"), &i), 0);
	assert_true(i == INT64_MAX);
	assert_int_equal(str_u64(STR("18446744073709551615"), &u), 0);
	assert_true(u == UINT64_MAX);
	static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "1x", "9223372036854775808",
		"-9223372036854775809", "99999999999999999999", "0x1", "1.0" };
	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		i = 7;
		assert_int_equal(str_i64(str_of(bad[k]), &i), -1);
		assert_int_equal(i, 7);
	}
	assert_int_equal(str_u64(STR("-1"), &u), -1);
	assert_int_equal(str_u64(STR("18446744073709551616"), &u), -1);
}

static void
nearest_name(void **state)
{
	static const char *const names[] = { "model", "mode", "limits", "permissions" };
	assert_string_equal(str_nearest(STR("modle"), names, 4), "model");
	assert_string_equal(str_nearest(STR("permision"), names, 4), "permissions");
	assert_null(str_nearest(STR("zzz"), names, 4));
	assert_null(str_nearest(STR("x"), names, 4));
	assert_int_equal(str_distance(STR("kitten"), STR("sitting")), 3);
	assert_int_equal(str_distance(STR("ab"), STR("ba")), 1);
	assert_int_equal(str_distance(STR(""), STR("abc")), 3);
	char longer[80] = { 0 };
	memset(longer, 'a', 70);
	assert_true(str_distance(str_of(longer), STR("a")) > 100);
}

static void
buffer_keeps_its_maximum(void **state)
{
	struct buf b;
	buf_init(&b, 8);
	assert_string_equal(buf_z(&b), "");
	assert_int_equal(buf_add_z(&b, "12345"), 0);
	assert_int_equal(buf_add_z(&b, "6789"), ERR_LIMIT);
	assert_true(b.overflow);
	/* Still room for one byte, but what follows a hole must not be written. */
	assert_int_equal(buf_add_char(&b, 'x'), ERR_LIMIT);
	assert_string_equal(buf_z(&b), "12345");
	buf_reset(&b);
	assert_int_equal(buf_printf(&b, "%d%s", 1234, "5678"), 0);
	assert_string_equal(buf_z(&b), "12345678");
	assert_false(b.overflow);
	buf_consume(&b, 3);
	assert_string_equal(buf_z(&b), "45678");
	buf_truncate(&b, 2);
	assert_string_equal(buf_z(&b), "45");
	assert_null(buf_reserve(&b, 7));
	buf_fini(&b);
}

static void
buffer_hands_over(void **state)
{
	struct buf b;
	size_t n;
	buf_init(&b, SIZE_MAX);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_printf(&b, "%0300d", i), 0);
	assert_int_equal(b.n, 300000);
	memcpy(buf_reserve(&b, 3), "end", 3);
	buf_added(&b, 3);
	AUTO_FREE char *all = buf_take(&b, &n);
	assert_int_equal(n, 300003);
	assert_string_equal(all + 300000, "end");
	assert_int_equal(b.n, 0);
	AUTO_FREE char *empty = buf_take(&b, NULL);
	assert_string_equal(empty, "");
	buf_fini(&b);
}

/* Well-formed and ill-formed sequences after Unicode table 3-7, and what lossy decoding makes of
 * each. */
static const struct {
	struct str bytes;
	bool valid;
	const char *lossy;
} sequences[] = {
	{ { "", 0 }, true, "" },
	{ { "abc", 3 }, true, "abc" },
	{ { "\xc3\xa9", 2 }, true, "\xc3\xa9" },
	{ { "\xf0\x9f\x98\x80", 4 }, true, "\xf0\x9f\x98\x80" },
	{ { "\xf4\x8f\xbf\xbf", 4 }, true, "\xf4\x8f\xbf\xbf" },
	{ { "\x80", 1 }, false, "\xef\xbf\xbd" },
	{ { "\xc0\xaf", 2 }, false, "\xef\xbf\xbd\xef\xbf\xbd" },
	{ { "\xe0\x80\xaf", 3 }, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ { "\xed\xa0\x80", 3 }, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ { "\xf4\x90\x80\x80", 4 }, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9 }, false,
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
		"A" },
	{ { "a\xe2\x82", 3 }, false, "a\xef\xbf\xbd" },
	{ { "\xff\xfe", 2 }, false, "\xef\xbf\xbd\xef\xbf\xbd" },
	{ { "12345678\xc3", 9 }, false, "12345678\xef\xbf\xbd" },
};

static void
utf8_sequences(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
		struct buf b;
		buf_init(&b, 1000);
		assert_int_equal(utf8_valid(sequences[i].bytes), sequences[i].valid);
		assert_int_equal(utf8_add_lossy(&b, sequences[i].bytes), 0);
		assert_string_equal(buf_z(&b), sequences[i].lossy);
		assert_true(utf8_valid(buf_str(&b)));
		buf_fini(&b);
	}
}

static void
utf8_round_trip(void **state)
{
	for (uint32_t cp = 0; cp <= 0x110000; cp++) {
		char text[4];
		uint32_t back = 0;
		size_t n = utf8_encode(cp, text);
		if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) {
			assert_int_equal(n, 0);
			continue;
		}
		assert_int_equal(utf8_decode(text, n, &back), n);
		assert_int_equal(back, cp);
		assert_int_equal(utf8_decode(text, n - 1, &back), 0);
	}
}

static void
utf8_cutting(void **state)
{
	struct str s = STR("a\xc3\xa9\xf0\x9f\x98\x80z");
	const size_t cut[] = { 0, 1, 1, 3, 3, 3, 3, 7, 8, 8 };
	const size_t start[] = { 0, 1, 3, 3, 7, 7, 7, 7, 8, 8 };
	for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
		assert_int_equal(utf8_cut(s, i), cut[i]);
		assert_int_equal(utf8_start(s, i), start[i]);
	}
	const size_t incomplete[] = { 0, 0, 1, 0, 1, 2, 3, 0, 0 };
	for (size_t i = 0; i <= s.n; i++)
		assert_int_equal(utf8_incomplete(str_sub(s, 0, i)), incomplete[i]);
	assert_int_equal(utf8_incomplete(STR("\xff")), 0);
	assert_int_equal(utf8_incomplete(STR("\xed\xa0")), 0);
	/* Text that is no UTF-8 at all is still cut near the maximum. */
	assert_int_equal(utf8_cut(STR("\x80\x80\x80\x80\x80\x80"), 5), 5);
	for (size_t size = 1; size <= s.n + 1; size++) {
		char text[16] = "...............";
		utf8_copy(text, size, s);
		assert_int_equal(strlen(text), cut[size - 1]);
		assert_memory_equal(text, s.p, cut[size - 1]);
		assert_int_equal(text[size], '.');
	}
	char none[2] = "x";
	utf8_copy(none, 1, (struct str){ NULL, 0 });
	assert_string_equal(none, "");
}

static void
quoted_words(void **state)
{
	static const char *const rows[][2] = {
		{ "", "''" },
		{ "a b", "'a b'" },
		{ "it's", "'it'\\''s'" },
		{ "'", "''\\'''" },
		{ "$(x) \\ \"y\"\n", "'$(x) \\ \"y\"\n'" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b;
		buf_init(&b, strlen(rows[i][1]));
		assert_int_equal(buf_add_quoted(&b, str_of(rows[i][0])), 0);
		assert_string_equal(buf_z(&b), rows[i][1]);
		buf_fini(&b);
		buf_init(&b, strlen(rows[i][1]) - 1);
		assert_int_equal(buf_add_quoted(&b, str_of(rows[i][0])), ERR_LIMIT);
		buf_fini(&b);
	}
}

static void
assert_clean(struct str in, bool one_line, const char *want)
{
	struct buf b;
	buf_init(&b, 1000);
	assert_int_equal(term_clean(&b, in, one_line), 0);
	assert_string_equal(buf_z(&b), want);
	buf_fini(&b);
}

static void
terminal_text(void **state)
{
	assert_clean(STR("plain \xc3\xa9 text\n\tx"), false, "plain \xc3\xa9 text\n\tx");
	assert_clean(STR("a\n\tb"), true, "a\\n\\tb");
	assert_clean(STR("\x1b[31mred\r\x07\x7f"), false, "\\x1b[31mred\\x0d\\x07\\x7f");
	assert_clean(STR("\xc2\x9b"
			 "31m"),
		false, "\\x9b31m");
	assert_clean(STR("\0x"), false, "\\x00x");
	assert_clean(STR("\xe2\x80\xae"
			 "evil\xe2\x81\xa6"),
		false, "\\u{202e}evil\\u{2066}");
	assert_clean(STR("a\xe2\x80\x8b"
			 "b\xef\xbb\xbf"),
		false, "a\\u{200b}b\\u{feff}");
	assert_clean(STR("\xf3\xa0\x81\x81"), false, "\\u{e0041}");
	assert_clean(STR("\xff!"), false, "\xef\xbf\xbd!");
	assert_clean(STR("\xe2\x9c\x94\xef\xb8\x8f"), false, "\xe2\x9c\x94\xef\xb8\x8f");
}

static void
columns(void **state)
{
	assert_int_equal(utf8_width(STR("abc")), 3);
	assert_int_equal(utf8_width(STR("\xe6\xbc\xa2\xe5\xad\x97")), 4); /* two CJK characters */
	assert_int_equal(utf8_width(STR("e\xcc\x81")), 1);        /* e with a combining acute */
	assert_int_equal(utf8_width(STR("\xf0\x9f\x98\x80")), 2); /* emoji */
	assert_int_equal(utf8_width(STR("\xc3\xa9")), 1);
	assert_int_equal(utf8_width(STR("\xef\xbc\xa1")), 2); /* full-width A */
	assert_int_equal(utf8_width(STR("")), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(views),
		cmocka_unit_test(whole_numbers),
		cmocka_unit_test(nearest_name),
		cmocka_unit_test(buffer_keeps_its_maximum),
		cmocka_unit_test(buffer_hands_over),
		cmocka_unit_test(utf8_sequences),
		cmocka_unit_test(utf8_round_trip),
		cmocka_unit_test(utf8_cutting),
		cmocka_unit_test(quoted_words),
		cmocka_unit_test(terminal_text),
		cmocka_unit_test(columns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
