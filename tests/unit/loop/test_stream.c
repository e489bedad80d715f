/* SPDX-License-Identifier: MIT
 * Streams: credit in both directions, ends, resets, late frames, and peers that break the rules. */
#include "pair.h"

static void
open_answer(struct end *end, struct wire_msg *m)
{
	if (m->kind == WIRE_FETCH)
		end->stream = stream_open(end->w, m->id, &end_stream, end);
}

/* a is the runtime and opens stream 1; b is the broker. */
static struct pair *
opened(void)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_BROKER);
	p->b.on_msg = open_answer;
	uint64_t id = wire_next_id(p->a.w);
	send_text(p->a.w, WIRE_FETCH, id, "");
	p->a.stream = stream_open(p->a.w, id, &end_stream, &p->a);
	pair_settle(p);
	assert_non_null(p->b.stream);
	assert_int_equal(stream_id(p->a.stream), stream_id(p->b.stream));
	return p;
}

/* The peer of a is a bare socket that says it is the broker. */
static struct pair *
opened_raw(void)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_BROKER);
	uint64_t id = wire_next_id(p->a.w);
	send_text(p->a.w, WIRE_FETCH, id, "");
	p->a.stream = stream_open(p->a.w, id, &end_stream, &p->a);
	assert_int_equal(id, 1);
	pair_settle(p);
	return p;
}

static void
close_streams(struct pair *p)
{
	if (p->a.stream != NULL)
		stream_close(p->a.stream, NULL);
	if (p->b.stream != NULL)
		stream_close(p->b.stream, NULL);
	p->a.stream = p->b.stream = NULL;
	pair_free(p);
}

static size_t
write_n(struct stream *s, size_t n)
{
	char *bytes = xcalloc(1, n);
	size_t taken = stream_write(s, 1, (struct str){ bytes, n });
	free(bytes);
	return taken;
}

static void
test_credit_stops_and_resumes(void **in)
{
	struct pair *p = opened();
	assert_int_equal(stream_credit(p->a.stream), WIRE_WINDOW);
	assert_int_equal(write_n(p->a.stream, WIRE_WINDOW + 5), WIRE_WINDOW);
	assert_int_equal(write_n(p->a.stream, 5), 0);
	for (int i = 0; i < 50; i++)
		pair_settle(p);
	assert_int_equal(p->b.received, WIRE_WINDOW);
	assert_int_equal(stream_credit(p->a.stream), 0);
	stream_consume(p->b.stream, 1); /* the peer is dry: even one byte is given back at once */
	pair_settle(p);
	assert_int_equal(stream_credit(p->a.stream), 1);
	assert_int_equal(p->a.credits, 1);
	stream_consume(p->b.stream, WIRE_WINDOW - 1);
	pair_settle(p);
	assert_int_equal(stream_credit(p->a.stream), WIRE_WINDOW);
	close_streams(p);
}

static void
test_credit_is_given_in_steps(void **in)
{
	struct pair *p = opened();
	p->b.consume = true;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(write_n(p->a.stream, 1000), 1000);
		pair_settle(p);
	}
	assert_int_equal(p->b.received, 100000);
	assert_int_equal(p->a.credits, 1); /* not a hundred */
	close_streams(p);
}

/* Many streams with credit each could queue more for a peer that stands still than its link may hold. */
static void
test_backlog_of_the_link(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	char *tail = xcalloc(1, MIB);

	p->a.stream = stream_open(p->a.w, 1, &end_stream, &p->a);
	for (int i = 0; i < 40 && wire_queued(p->a.w) < WIRE_BACKLOG_HIGH; i++) {
		wire_begin(p->a.w, WIRE_EVENT, 1);
		wire_end(p->a.w, (struct str){ tail, MIB }, -1);
	}
	assert_true(wire_queued(p->a.w) >= WIRE_BACKLOG_HIGH);
	assert_int_equal(stream_credit(p->a.stream), 0);
	assert_int_equal(stream_credit(p->a.stream), 0);
	assert_int_equal(p->a.credits, 0);
	for (int i = 0; i < 1000 && wire_queued(p->a.w) > 0; i++)
		pair_settle(p);
	pair_settle(p);
	assert_int_equal(wire_queued(p->a.w), 0);
	assert_int_equal(p->a.credits, 1);
	assert_int_equal(stream_credit(p->a.stream), WIRE_WINDOW);
	free(tail);
	close_streams(p);
}

static void
more(void *arg)
{
	struct end *end = arg;
	end->credits++;
	while (stream_credit(end->stream) > 0 && end->expected > 0) {
		size_t n = write_n(end->stream, MIN(end->expected, 50000));
		end->expected -= n;
	}
	if (end->expected == 0)
		stream_eof(end->stream);
}

static void
eof_stops(void *arg)
{
	struct end *end = arg;
	end->eof++;
	loop_stop(end->pair->l);
}

static void
test_large_body(void **in)
{
	static const struct stream_handler sender = { end_data, more, end_eof, end_reset };
	static const struct stream_handler receiver = { end_data, end_credit, eof_stops,
		end_reset };
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_BROKER);
	send_text(p->a.w, WIRE_FETCH, 1, "");
	p->a.stream = stream_open(p->a.w, 1, &sender, &p->a);
	pair_settle(p);
	p->b.stream = stream_open(p->b.w, 1, &receiver, &p->b);
	p->b.consume = true;
	p->a.expected = 30 * MIB;
	more(&p->a);
	loop_run(p->l);
	assert_int_equal(p->b.received, 30 * MIB);
	assert_int_equal(p->b.eof, 1);
	close_streams(p);
}

static void
test_both_eof_is_a_clean_end(void **in)
{
	struct pair *p = opened();
	assert_int_equal(write_n(p->a.stream, 10), 10);
	stream_eof(p->a.stream);
	stream_eof(p->b.stream);
	pair_settle(p);
	assert_int_equal(p->a.eof, 1);
	assert_int_equal(p->b.eof, 1);
	assert_int_equal(p->b.received, 10);
	stream_close(p->a.stream, NULL);
	p->a.stream = NULL;
	pair_settle(p);
	assert_int_equal(p->b.resets, 0); /* no reset after a clean end */
	close_streams(p);
}

static void
test_reset_carries_the_reason(void **in)
{
	struct pair *p = opened();
	struct err e;
	err_set(&e, ERR_TIMEOUT, ERR_TO_USER, "no byte for 5 s");
	stream_close(p->b.stream, &e);
	p->b.stream = NULL;
	pair_settle(p);
	assert_int_equal(p->a.resets, 1);
	assert_int_equal(p->a.reset.code, ERR_TIMEOUT);
	assert_string_equal(p->a.reset.msg, "no byte for 5 s");
	close_streams(p);
}

static void
test_cancel(void **in)
{
	struct pair *p = opened();
	assert_int_equal(write_n(p->b.stream, 1000), 1000); /* crosses the reset: late, ignored */
	stream_close(p->a.stream, NULL);
	p->a.stream = NULL;
	pair_settle(p);
	assert_int_equal(p->b.resets, 1);
	assert_int_equal(p->b.reset.code, ERR_CANCELLED);
	assert_int_equal(p->a.received, 0);
	assert_int_equal(p->a.gone, 0);
	assert_int_equal(p->b.gone, 0);
	close_streams(p);
}

static void
test_link_loss_resets_streams(void **in)
{
	struct pair *p = opened();
	wire_close(p->b.w);
	p->b.w = NULL;
	assert_int_equal(p->b.resets, 1); /* its own streams are released too */
	pair_settle(p);
	assert_trace(&p->a, "reset gone ");
	assert_int_equal(p->a.reset.code, ERR_GONE);
	close_streams(p);
}

static void
close_others(void *arg, const struct err *e)
{
	struct end *end = arg;
	end->resets++;
	stream_close(end->arg, NULL);
}

static void
test_reset_may_close_another_stream(void **in)
{
	static const struct stream_handler h = { end_data, NULL, end_eof, close_others };
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_BROKER);
	struct stream *first = stream_open(p->a.w, 1, &h, &p->a);
	p->a.arg = stream_open(p->a.w, 3, &h, &p->a);
	assert_int_equal(stream_id(first), 1);
	wire_close(p->b.w);
	p->b.w = NULL;
	/* whichever is reset first closes number 3, itself included */
	pair_settle(p);
	assert_true(p->a.resets >= 1);
	pair_free(p);
}

static void
test_many_streams(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_BROKER);
	struct stream *s[500];
	for (size_t i = 0; i < 500; i++)
		s[i] = stream_open(p->a.w, wire_next_id(p->a.w), &end_stream, &p->a);
	for (size_t i = 0; i < 500; i += 2)
		stream_close(s[i], NULL);
	wire_close(p->a.w);
	p->a.w = NULL;
	assert_int_equal(p->a.resets, 250);
	pair_free(p);
}

static void
test_data_for_a_refused_opening_is_late(void **in)
{
	/* The opener may send data right behind the opening message, before it knows that it was
	 * refused. */
	struct pair *p = pair_new_raw(ROLE_BROKER, ROLE_RUNTIME);
	raw_send(p, "\"kind\":\"fetch\",\"id\":1", NULL, 0);
	raw_send(p, "\"kind\":\"data\",\"id\":1", "x", 1);
	raw_send(p, "\"kind\":\"eof\",\"id\":1", NULL, 0);
	pair_settle(p);
	assert_trace(&p->a, "fetch:1: ");
	pair_free(p);
}

static void
test_peers_that_break_the_rules(void **in)
{
	static const struct {
		const char *first, *second;
		size_t n;
		const char *why;
	} bad[] = {
		{ NULL, "\"kind\":\"data\",\"id\":1", 0, "empty data" },
		{ NULL, "\"kind\":\"data\",\"id\":1,\"ch\":256", 1, "channel 256" },
		{ NULL, "\"kind\":\"data\",\"id\":1,\"ch\":-1", 1, "channel -1" },
		{ NULL, "\"kind\":\"data\",\"id\":3", 1, "never opened" },
		{ NULL, "\"kind\":\"credit\",\"id\":1,\"n\":1", 0, "credit of 1 on stream 1" },
		{ NULL, "\"kind\":\"credit\",\"id\":1,\"n\":0", 0, "credit of 0" },
		{ NULL, "\"kind\":\"credit\",\"id\":1,\"n\":-5", 0, "credit of -5" },
		{ NULL, "\"kind\":\"credit\",\"id\":1", 0, "credit of 0" },
		{ "\"kind\":\"eof\",\"id\":1", "\"kind\":\"data\",\"id\":1", 1, "data after eof" },
		{ "\"kind\":\"eof\",\"id\":1", "\"kind\":\"eof\",\"id\":1", 0, "second eof" },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct pair *p = opened_raw();
		if (bad[i].first != NULL)
			raw_send(p, bad[i].first, NULL, 0);
		raw_send(p, bad[i].second, "x", bad[i].n);
		assert_dropped(p, bad[i].why);
		assert_int_equal(p->a.err.code, ERR_PROTO);
		assert_int_equal(p->a.resets, 1);
		pair_free(p);
	}
}

static void
test_data_past_the_credit_drops(void **in)
{
	struct pair *p = opened_raw();
	char *bytes = xcalloc(1, 64 * KIB);
	for (int i = 0; i < 4; i++)
		raw_send(p, "\"kind\":\"data\",\"id\":1", bytes, 64 * KIB);
	pair_settle(p);
	assert_int_equal(p->a.received, WIRE_WINDOW);
	assert_int_equal(p->a.gone, 0);
	raw_send(p, "\"kind\":\"data\",\"id\":1", bytes, 1);
	assert_dropped(p, "1 bytes on stream 1 with credit for 0");
	assert_int_equal(p->a.received, WIRE_WINDOW); /* not handed on */
	free(bytes);
	pair_free(p);
}

static void
test_frames_after_a_reset_are_late(void **in)
{
	struct pair *p = opened_raw();
	raw_send(
		p, "\"kind\":\"reset\",\"id\":1,\"code\":\"network\",\"message\":\"cut\"", NULL, 0);
	raw_send(p, "\"kind\":\"data\",\"id\":1", "x", 1);
	pair_settle(p);
	assert_trace(&p->a, "reset ");
	assert_int_equal(p->a.reset.code, ERR_NET);
	assert_int_equal(p->a.gone, 0);
	pair_free(p);
}

#define T(f) cmocka_unit_test(f)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_credit_stops_and_resumes),
		T(test_credit_is_given_in_steps),
		T(test_backlog_of_the_link),
		T(test_large_body),
		T(test_both_eof_is_a_clean_end),
		T(test_reset_carries_the_reason),
		T(test_cancel),
		T(test_link_loss_resets_streams),
		T(test_reset_may_close_another_stream),
		T(test_many_streams),
		T(test_data_for_a_refused_opening_is_late),
		T(test_peers_that_break_the_rules),
		T(test_data_past_the_credit_drops),
		T(test_frames_after_a_reset_are_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
