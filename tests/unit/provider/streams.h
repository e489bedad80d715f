/* SPDX-License-Identifier: MIT
 * Feeds a recorded stream to a parser, cut at every byte position, and compares what comes out as
 * one line of text; and what tests of request bodies share. */
#ifndef TESTS_STREAMS_H
#define TESTS_STREAMS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/limits.h"
#include "provider/provider.h"

#define S(z) { z, sizeof(z) - 1 } /* STR in a table */

/* For the prompt cache: a body, but for its last bytes, is how the next one begins. Frees both. */
static inline void
expect_prefix(struct buf *body, size_t last, struct buf *next)
{
	buf_truncate(body, body->n - last);
	if (!str_starts(buf_str(next), buf_z(body)))
		fail_msg("%s\ndoes not begin\n%s", buf_z(body), buf_z(next));
	buf_fini(body);
	buf_fini(next);
}

struct outcome {
	struct buf deltas, answer;
	struct err e;
	int rc;
};

static inline void
stream_delta(void *arg, enum delta_type type, struct str text)
{
	struct outcome *o = arg;

	buf_printf(&o->deltas, "%c(%.*s)", "TRC"[type], STR_FMT(text));
}

static inline void
stream_show(struct buf *b, const struct model_answer *a)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct part *p = &a->parts[i];

		switch (p->type) {
		case PART_TEXT:
			buf_printf(b, "text[%.*s] ", STR_FMT(p->text));
			break;
		case PART_REASONING:
			buf_printf(b, "reasoning[%.*s|%.*s] ", STR_FMT(p->text),
				STR_FMT(p->signature));
			break;
		case PART_REASONING_REDACTED:
			buf_printf(b, "redacted[%.*s] ", STR_FMT(p->signature));
			break;
		case PART_CALL:
			/* An id that the parser made is random. */
			buf_printf(b, "call[%.*s %.*s %.*s] ",
				STR_FMT(p->call_id.n > 20 ? STR("made") : p->call_id),
				STR_FMT(p->tool), STR_FMT(p->args));
			break;
		case PART_RESULT:
		case PART_MEDIA:
			fail();
		}
		/* What only some APIs give: the signature of a text or call, the API's own id. */
		if (p->signature.n > 0 && (p->type == PART_TEXT || p->type == PART_CALL))
			buf_printf(b, "signed[%.*s] ", STR_FMT(p->signature));
		if (p->item_id.n > 0)
			buf_printf(b, "id[%.*s] ", STR_FMT(p->item_id));
	}
	buf_printf(b, "%s in=%lld out=%lld cached=%lld written=%lld reasoning=%lld",
		model_stop_name(a->stop), (long long)a->usage.input_tokens,
		(long long)a->usage.output_tokens, (long long)a->usage.cached_tokens,
		(long long)a->usage.cache_write_tokens, (long long)a->usage.reasoning_tokens);
}

static inline struct parser *
stream_open(const struct provider_api *api, struct outcome *o)
{
	*o = (struct outcome){ 0 };
	buf_init(&o->deltas, 16 * MIB);
	buf_init(&o->answer, 16 * MIB);
	return parser_new(api, stream_delta, o);
}

static inline void
stream_close(struct parser *p, struct outcome *o)
{
	const struct model_answer *a;

	if (o->rc == 0)
		o->rc = parser_end(p, &a, &o->e);
	if (o->rc == 0)
		stream_show(&o->answer, a);
	parser_free(p);
}

static inline void
outcome_free(struct outcome *o)
{
	buf_fini(&o->deltas);
	buf_fini(&o->answer);
}

/* cut == n + 1: byte by byte. */
static inline void
stream_run(const struct provider_api *api, struct str s, size_t cut, struct outcome *o)
{
	struct parser *p = stream_open(api, o);

	if (cut <= s.n) {
		o->rc = parser_feed(p, str_sub(s, 0, cut), &o->e);
		if (o->rc == 0)
			o->rc = parser_feed(p, str_sub(s, cut, s.n), &o->e);
	}
	for (size_t i = 0; cut > s.n && i < s.n && o->rc == 0; i++)
		o->rc = parser_feed(p, str_sub(s, i, 1), &o->e);
	stream_close(p, o);
}

static inline void
expect_answer(const struct provider_api *api, struct str s, const char *answer, const char *deltas)
{
	for (size_t cut = 0; cut <= s.n + 1; cut++) {
		struct outcome o;

		stream_run(api, s, cut, &o);
		if (o.rc != 0)
			print_error("cut at %zu: %s\n", cut, o.e.msg);
		assert_int_equal(o.rc, 0);
		assert_string_equal(buf_z(&o.answer), answer);
		if (deltas)
			assert_string_equal(buf_z(&o.deltas), deltas);
		outcome_free(&o);
	}
}

static inline void
expect_error(const struct provider_api *api, struct str s, int code, const char *part_of_message)
{
	for (size_t cut = 0; cut <= s.n + 1; cut++) {
		struct outcome o;

		stream_run(api, s, cut, &o);
		assert_int_equal(o.rc, code);
		if (!strstr(o.e.msg, part_of_message))
			fail_msg("'%s' does not have '%s'", o.e.msg, part_of_message);
		outcome_free(&o);
	}
}

/* A proper prefix of a good stream is never an answer: the connection was cut (or the last event is
 * not whole yet). */
static inline void
expect_cut_everywhere(const struct provider_api *api, struct str s, size_t end_mark)
{
	for (size_t n = 0; n < s.n - end_mark; n++) {
		struct outcome o;

		stream_run(api, str_sub(s, 0, n), n / 2, &o);
		assert_int_equal(o.rc, ERR_NET);
		outcome_free(&o);
	}
}

#endif
