/* SPDX-License-Identifier: MIT
 * The circuit breaker: every way through its states, with a clock of the test's own. */
#include "provider/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "provider/provider.h"

/* One call that ends at once; gives whether it was let through. */
static bool
call(struct breaker *b, enum breaker_outcome o, int64_t now_ms)
{
	int64_t wait_ms;
	enum breaker_pass pass = breaker_ask(b, now_ms, &wait_ms);

	if (pass == BREAKER_REFUSES)
		return false;
	breaker_report(b, pass, o, now_ms);
	return true;
}

static void
fail_until_open(struct breaker *b, int64_t now_ms)
{
	for (int i = 0; i < BREAKER_FAILURES; i++)
		assert_true(call(b, BREAKER_FAILED, now_ms));
	assert_int_equal(b->state, BREAKER_OPEN);
}

static void
test_opens_after_failures_in_a_row(void **state)
{
	struct breaker b = { 0 };
	int64_t wait_ms;

	for (int i = 0; i < BREAKER_FAILURES - 1; i++)
		assert_true(call(&b, BREAKER_FAILED, 1000));
	assert_int_equal(b.state, BREAKER_CLOSED);
	assert_true(call(&b, BREAKER_OK, 1000)); /* an answer between: the row is over */
	fail_until_open(&b, 2000);
	assert_int_equal(breaker_ask(&b, 2001, &wait_ms), BREAKER_REFUSES);
	assert_int_equal(wait_ms, BREAKER_COOL_MS - 1);
}

static void
test_failures_far_apart_do_not_count_together(void **state)
{
	struct breaker b = { 0 };

	for (int i = 0; i < 3 * BREAKER_FAILURES; i++)
		assert_true(call(&b, BREAKER_FAILED, i * (BREAKER_WINDOW_MS / (BREAKER_FAILURES - 1) + 1)));
	assert_int_equal(b.state, BREAKER_CLOSED);
}

static void
test_what_says_nothing_changes_nothing(void **state)
{
	struct breaker b = { 0 };

	for (int i = 0; i < 3 * BREAKER_FAILURES; i++)
		assert_true(call(&b, BREAKER_NEITHER, 0));
	assert_int_equal(b.state, BREAKER_CLOSED);
	for (int i = 0; i < BREAKER_FAILURES - 1; i++)
		assert_true(call(&b, BREAKER_FAILED, 0));
	assert_true(call(&b, BREAKER_NEITHER, 0)); /* and does not end a row either */
	assert_true(call(&b, BREAKER_FAILED, 0));
	assert_int_equal(b.state, BREAKER_OPEN);
}

static void
test_one_probe_decides(void **state)
{
	struct breaker b = { 0 };
	int64_t wait_ms, at = BREAKER_COOL_MS;

	fail_until_open(&b, 0);
	assert_int_equal(breaker_ask(&b, at, &wait_ms), BREAKER_PROBES);
	assert_int_equal(b.state, BREAKER_HALF_OPEN);
	assert_int_equal(breaker_ask(&b, at, &wait_ms), BREAKER_REFUSES); /* one only */
	assert_int_equal(wait_ms, BREAKER_LOOK_MS);
	assert_true(breaker_report(&b, BREAKER_PROBES, BREAKER_OK, at));
	assert_int_equal(b.state, BREAKER_CLOSED);
	assert_int_equal(breaker_ask(&b, at, &wait_ms), BREAKER_ADMITS);
	assert_int_equal(b.failures, 0);
}

static void
test_a_failed_probe_doubles_the_time(void **state)
{
	struct breaker b = { 0 };
	int64_t now_ms = 0, cool_ms = BREAKER_COOL_MS;

	fail_until_open(&b, 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(b.cool_ms, cool_ms);
		assert_false(call(&b, BREAKER_FAILED, now_ms + cool_ms - 1));
		now_ms += cool_ms;
		assert_true(call(&b, BREAKER_FAILED, now_ms));
		cool_ms = 2 * cool_ms < BREAKER_COOL_MAX_MS ? 2 * cool_ms : BREAKER_COOL_MAX_MS;
	}
	assert_int_equal(b.cool_ms, BREAKER_COOL_MAX_MS);
}

/* A probe that was cancelled leaves the question open: the next call is one, and the time stays. */
static void
test_a_probe_that_says_nothing(void **state)
{
	struct breaker b = { 0 };
	int64_t wait_ms;

	fail_until_open(&b, 0);
	assert_true(call(&b, BREAKER_NEITHER, BREAKER_COOL_MS));
	assert_int_equal(b.state, BREAKER_OPEN);
	assert_int_equal(breaker_ask(&b, BREAKER_COOL_MS, &wait_ms), BREAKER_PROBES);
	assert_true(breaker_report(&b, BREAKER_PROBES, BREAKER_FAILED, BREAKER_COOL_MS));
	assert_int_equal(b.cool_ms, 2 * BREAKER_COOL_MS);
}

/* Calls that were under way when it opened end later. */
static void
test_late_reports(void **state)
{
	struct breaker b = { 0 };
	int64_t wait_ms;

	fail_until_open(&b, 0);
	assert_false(breaker_report(&b, BREAKER_ADMITS, BREAKER_FAILED, 10));
	assert_int_equal(b.until_ms, BREAKER_COOL_MS);
	assert_int_equal(breaker_ask(&b, BREAKER_COOL_MS, &wait_ms), BREAKER_PROBES);
	assert_false(breaker_report(&b, BREAKER_ADMITS, BREAKER_FAILED, BREAKER_COOL_MS)); /* not the probe's */
	assert_false(breaker_report(&b, BREAKER_ADMITS, BREAKER_NEITHER, BREAKER_COOL_MS));
	assert_int_equal(b.state, BREAKER_HALF_OPEN);
	assert_true(breaker_report(&b, BREAKER_ADMITS, BREAKER_OK, BREAKER_COOL_MS)); /* it answers */
	assert_int_equal(b.state, BREAKER_CLOSED);
}

static void
test_what_errors_say(void **state)
{
	static const struct {
		enum failure_kind kind;
		int64_t after_ms;
		enum breaker_outcome outcome;
	} rows[] = {
		{ FAIL_NETWORK, -1, BREAKER_FAILED }, { FAIL_OVERLOAD, -1, BREAKER_FAILED },
		{ FAIL_OVERLOAD, 1000, BREAKER_FAILED }, { FAIL_RATE, -1, BREAKER_FAILED },
		{ FAIL_RATE, 1000, BREAKER_NEITHER }, { FAIL_PROTOCOL, -1, BREAKER_NEITHER }, { FAIL_AUTH, -1, BREAKER_OK },
		{ FAIL_QUOTA, -1, BREAKER_OK }, { FAIL_REQUEST, -1, BREAKER_OK }, { FAIL_CONTEXT, -1, BREAKER_OK },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct failure f = { .kind = rows[i].kind, .after_ms = rows[i].after_ms };

		assert_int_equal(breaker_outcome(&f), rows[i].outcome);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_opens_after_failures_in_a_row),
		cmocka_unit_test(test_failures_far_apart_do_not_count_together),
		cmocka_unit_test(test_what_says_nothing_changes_nothing), cmocka_unit_test(test_one_probe_decides),
		cmocka_unit_test(test_a_failed_probe_doubles_the_time), cmocka_unit_test(test_a_probe_that_says_nothing),
		cmocka_unit_test(test_late_reports), cmocka_unit_test(test_what_errors_say) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
