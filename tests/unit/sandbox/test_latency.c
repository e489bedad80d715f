/* SPDX-License-Identifier: MIT
 * How long things take through the whole chain, printed as medians. The bounds are far above the goals (exec 4 ms, cell
 * 4 ms, start 10 ms): they catch a mistake, not a busy machine. */
#include "rig.h"

#define ROUNDS 60

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int64_t
report(const char *what, int64_t *us, size_t n)
{
	qsort(us, n, sizeof(us[0]), compare);
	print_message("%-34s median %5lld us, minimum %5lld, 90 %% %5lld\n", what, (long long)us[n / 2], (long long)us[0],
		(long long)us[n * 9 / 10]);
	return us[n / 2];
}

static int64_t
time_command(struct rig *r, const char *command)
{
	struct outcome o;
	int64_t began = clock_mono_us();
	rig_sh(r, command, &o);
	int64_t us = clock_mono_us() - began;
	assert_int_equal(o.st.exit_code, 0);
	outcome_fini(&o);
	return us;
}

static void
test_latency(void **state)
{
	struct rig rig, *r = &rig;
	int64_t us[ROUNDS], began = clock_mono_us();
	struct answer x;
	struct err e = { 0 };

	rig_start(r);
	print_message("%-34s %lld us\n", "start to hello, with self-test", (long long)(clock_mono_us() - began));
	for (int i = 0; i < ROUNDS; i++)
		us[i] = time_command(r, "true");
	assert_true(report("exec `true` in a warm cell", us, ROUNDS) < 100000);
	for (int i = 0; i < ROUNDS; i++)
		us[i] = time_command(r, "/bin/true");
	report("exec `/bin/true` in a warm cell", us, ROUNDS);
	for (int i = 0; i < ROUNDS / 3; i++) {
		r->plan.tmp_bytes += 4096; /* another plan, another cell */
		us[i] = time_command(r, "true");
	}
	assert_true(report("exec `true` in a new cell", us, ROUNDS / 3) < 300000);
	for (int i = 0; i < ROUNDS; i++) {
		struct file_request q = { .cell = "cell-1", .plan = &r->plan, .op = "stat", .params = STR("{\"path\":\".\"}") };
		answer_init(&x, r);
		began = clock_mono_us();
		assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &e), 0);
		answer_wait(&x);
		us[i] = clock_mono_us() - began;
		answer_fini(&x);
	}
	report("file operation", us, ROUNDS);
	rig_stop(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_latency) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
