/* SPDX-License-Identifier: MIT
 * The reader of server-sent events. Each stream is fed whole, byte by byte and cut in two at every
 * position; all of these must give the same events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/limits.h"
#include "net/sse.h"

struct seen {
	struct buf text; /* "event|data|id\n" for each event */
	int stop_after;  /* events; 0: never */
	int events;
};

static int
on_event(void *arg, const struct sse_event *ev)
{
	struct seen *s = arg;

	buf_printf(&s->text, "%.*s|%.*s|%.*s\n", STR_FMT(ev->event), STR_FMT(ev->data),
		STR_FMT(ev->id));
	return ++s->events == s->stop_after ? ERR_CANCELLED : 0;
}

static void
expect(struct str stream, const char *want)
{
	for (size_t cut = 0; cut <= stream.n + 1; cut++) {
		struct seen seen = { 0 };
		struct sse *s = sse_new(on_event, &seen);
		struct err e = { 0 };

		buf_init(&seen.text, MIB);
		if (cut <= stream.n) {
			assert_int_equal(sse_feed(s, str_sub(stream, 0, cut), &e), 0);
			assert_int_equal(sse_feed(s, str_sub(stream, cut, stream.n), &e), 0);
		} else {
			for (size_t i = 0; i < stream.n; i++)
				assert_int_equal(sse_feed(s, str_sub(stream, i, 1), &e), 0);
		}
		assert_string_equal(buf_z(&seen.text), want);
		buf_fini(&seen.text);
		sse_free(s);
	}
}

static void
test_line_ends(void **state)
{
	expect(STR("data: a\n\ndata: b\n\n"), "|a|\n|b|\n");
	expect(STR("data: a\r\rdata: b\r\r"), "|a|\n|b|\n");
	expect(STR("data: a\r\n\r\ndata: b\r\n\r\n"), "|a|\n|b|\n");
	expect(STR("data: a\r\n\n\rdata: b\n\r\n"), "|a|\n|b|\n");
}

static void
test_fields(void **state)
{
	expect(STR("event: x\ndata: 1\ndata: 2\nid: 7\n\ndata: 3\n\n"), "x|1\n2|7\n|3|7\n");
	expect(STR("data:a\n\ndata:  b\n\n"), "|a|\n| b|\n");
	expect(STR("data\n\n"), "||\n");
	expect(STR("data\ndata\n\n"), "|\n|\n");
	expect(STR("data: a: b\n\n"), "|a: b|\n");
	expect(STR("foo: bar\nDATA: no\ndata: yes\n\n"), "|yes|\n");
	expect(STR("event: a\nevent: b\ndata: 1\n\n"), "b|1|\n");
}

static void
test_no_event(void **state)
{
	expect(STR(": comment\n\n:\n\n"), "");
	expect(STR("event: x\n\ndata: 1\n\n"),
		"|1|\n"); /* without data no event, and its name is forgotten */
	expect(STR("data: not ended"), "");
	expect(STR("data: not ended\n"), "");
	expect(STR("\n\n\n\r\r\n"), "");
}

static void
test_byte_order_mark(void **state)
{
	expect(STR("\xEF\xBB\xBF"
		   "data: a\n\n"),
		"|a|\n");
	expect(STR("\xEF\xBB"
		   "data: a\n\ndata: b\n\n"),
		"|b|\n"); /* half a mark is part of a field's name */
	expect(STR("data: \xEF\xBB\xBF\n\n"), "|\xEF\xBB\xBF|\n");
}

static void
test_bytes_pass(void **state)
{
	expect(STR("data: \xF0\x9F\x98\x80 \xC3\xA9\n\n"), "|\xF0\x9F\x98\x80 \xC3\xA9|\n");
	expect(STR("data: \xFF\xFE\n\n"), "|\xFF\xFE|\n"); /* judged by the reader of the data */
}

static void
test_ids(void **state)
{
	expect(STR("id: 1\ndata: a\n\nid\ndata: b\n\n"), "|a|1\n|b|\n");
	expect(STR("id: 1\nid: x\0y\ndata: a\n\n"), "|a|1\n");
}

static void
test_retry(void **state)
{
	struct seen seen = { 0 };
	struct sse *s = sse_new(on_event, &seen);

	assert_int_equal(sse_retry_ms(s), -1);
	assert_int_equal(sse_feed(s, STR("retry: 1500\n"), NULL), 0);
	assert_int_equal(sse_retry_ms(s), 1500);
	assert_int_equal(sse_feed(s, STR("retry: -5\nretry: x\nretry:\n"), NULL), 0);
	assert_int_equal(sse_retry_ms(s), 1500);
	sse_free(s);
}

static void
test_stop(void **state)
{
	struct seen seen = { .stop_after = 2 };
	struct sse *s = sse_new(on_event, &seen);

	buf_init(&seen.text, KIB);
	assert_int_equal(
		sse_feed(s, STR("data: 1\n\ndata: 2\n\ndata: 3\n\n"), NULL), ERR_CANCELLED);
	assert_int_equal(seen.events, 2);
	assert_int_equal(sse_feed(s, STR("data: 4\n\n"), NULL), ERR_CANCELLED); /* stays stopped */
	assert_int_equal(seen.events, 2);
	buf_fini(&seen.text);
	sse_free(s);
}

static int
on_size(void *arg, const struct sse_event *ev)
{
	*(size_t *)arg = ev->data.n;
	return 0;
}

/* One line of n bytes of data, in pieces of a size that does not divide it. */
static int
feed_large(size_t n, size_t *got)
{
	struct sse *s = sse_new(on_size, got);
	struct err e = { 0 };
	char *piece = malloc(65537);
	int rc = sse_feed(s, STR("data:"), &e);

	memset(piece, 'x', 65537);
	for (size_t left = n; left > 0 && rc == 0;) {
		size_t k = MIN(left, 65537);

		rc = sse_feed(s, (struct str){ piece, k }, &e);
		left -= k;
	}
	if (rc == 0)
		rc = sse_feed(s, STR("\n\n"), &e);
	assert_int_equal(rc, e.code);
	free(piece);
	sse_free(s);
	return rc;
}

static void
test_limit(void **state)
{
	size_t got = 0;

	assert_int_equal(feed_large(SSE_EVENT_MAX - 100, &got), 0);
	assert_int_equal(got, SSE_EVENT_MAX - 100);
	assert_int_equal(feed_large(SSE_EVENT_MAX, &got), ERR_LIMIT);
}

static void
test_limit_of_many_lines(void **state)
{
	size_t got = 0, fed = 0;
	struct sse *s = sse_new(on_size, &got);
	char line[1024 + 6];
	int rc = 0;

	memset(line, 'x', sizeof(line));
	memcpy(line, "data:", 5);
	line[sizeof(line) - 1] = '\n';
	while (rc == 0 && fed <= SSE_EVENT_MAX + MIB) {
		rc = sse_feed(s, (struct str){ line, sizeof(line) }, NULL);
		fed += sizeof(line);
	}
	assert_int_equal(rc, ERR_LIMIT);
	sse_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_no_event),
		cmocka_unit_test(test_byte_order_mark),
		cmocka_unit_test(test_bytes_pass),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_of_many_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
