/* SPDX-License-Identifier: MIT
 * The loop: timers, deferred and posted calls, pool work, watches, signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "loop/loop.h"

struct state {
	struct loop *l;
	struct timer *timer, *other;
	struct watch *watch;
	struct signal_watch *sig;
	int fds[2];
	int count, events;
	char trace[64];
	pthread_t thread;
	int64_t started_ms;
};

static int
setup(void **out)
{
	struct state *s = calloc(1, sizeof(*s));
	assert_int_equal(loop_open(&s->l, NULL), 0);
	*out = s;
	return 0;
}

static int
teardown(void **in)
{
	struct state *s = *in;
	loop_close(s->l);
	free(s);
	return 0;
}

static void
trace(struct state *s, char c)
{
	s->trace[strlen(s->trace)] = c;
}

static void
test_empty_loop_returns(void **in)
{
	struct state *s = *in;
	loop_run(s->l);
}

static void
timer_a(void *arg)
{
	struct state *s = arg;
	trace(s, 'a');
	if (++s->count < 3)
		timer_again(s->timer, 1);
	else
		timer_close(s->timer);
}

static void
test_timer_repeats_by_again(void **in)
{
	struct state *s = *in;
	s->timer = timer_start(s->l, 1, timer_a, s);
	loop_run(s->l);
	assert_string_equal(s->trace, "aaa");
}

static void
timer_early(void *arg)
{
	struct state *s = arg;
	trace(s, 'e');
	assert_true(clock_mono_ms() - s->started_ms >= 19);
	timer_close(s->timer);
}

static void
test_timer_is_not_early_on_a_stale_loop(void **in)
{
	struct state *s = *in;
	/* the loop's clock is as old as the last pass: let real time pass without one */
	int64_t stale = clock_mono_ms() + 15;
	while (clock_mono_ms() < stale)
		;
	s->started_ms = clock_mono_ms();
	s->timer = timer_start(s->l, 20, timer_early, s);
	loop_run(s->l);
	assert_string_equal(s->trace, "e");
}

static void
pass_over(void *arg)
{
	trace(arg, '.');
}

static void
timer_aligned(void *arg)
{
	struct state *s = arg;
	if (s->trace[0] == '\0')
		loop_defer(s->l, pass_over, s);
	trace(s, 'a');
	assert_true(clock_mono_ms() - s->started_ms >= 50);
}

/* Started at different times of one step, they end in one pass, no later than asked for. */
static void
test_aligned_timers_end_together(void **in)
{
	struct state *s = *in;
	int64_t now;
	do { /* again when the machine gave us no time in between, so that they fell into two slots */
		timer_close(s->timer);
		timer_close(s->other);
		while (clock_mono_ms() % 50 > 5)
			;
		s->started_ms = clock_mono_ms();
		s->timer = timer_start(s->l, 60000, timer_aligned, s);
		s->other = timer_start(s->l, 60000, timer_aligned, s);
		timer_align(s->timer, 100, 50);
		while (clock_mono_ms() < s->started_ms + 15)
			;
		timer_align(s->other, 100, 50);
		now = clock_mono_ms();
	} while (now > s->started_ms + 40);
	loop_run(s->l);
	assert_string_equal(s->trace, "aa.");
	timer_close(s->timer);
	timer_close(s->other);
}

static void
timer_stops_other(void *arg)
{
	struct state *s = arg;
	trace(s, 's');
	timer_stop(s->other);
	timer_close(s->other);
	timer_close(s->timer);
}

static void
timer_never(void *arg)
{
	trace(arg, '!');
}

static void
test_no_callback_after_close(void **in)
{
	struct state *s = *in;
	s->timer = timer_start(s->l, 1, timer_stops_other, s);
	s->other = timer_start(s->l, 1, timer_never, s);
	loop_run(s->l);
	assert_string_equal(s->trace, "s");
}

static void
test_unref_timer_does_not_hold_the_loop(void **in)
{
	struct state *s = *in;
	s->timer = timer_start(s->l, 60000, timer_never, s);
	timer_unref(s->timer);
	loop_run(s->l);
	timer_close(s->timer);
	assert_string_equal(s->trace, "");
}

static void
deferred_b(void *arg)
{
	trace(arg, 'b');
}

static void
deferred_a(void *arg)
{
	struct state *s = arg;
	trace(s, 'a');
	loop_defer(s->l, deferred_b, s);
}

static void
timer_defers(void *arg)
{
	struct state *s = arg;
	loop_defer(s->l, deferred_a, s);
	trace(s, 't');
	timer_close(s->timer);
}

static void
other_after(void *arg)
{
	struct state *s = arg;
	trace(s, 'o');
	timer_close(s->other);
}

static void
test_deferred_runs_before_the_next_block(void **in)
{
	struct state *s = *in;
	s->timer = timer_start(s->l, 1, timer_defers, s);
	s->other = timer_start(s->l, 30, other_after, s);
	loop_run(s->l);
	assert_string_equal(s->trace, "tabo");
}

static void
test_deferred_before_run_runs(void **in)
{
	struct state *s = *in;
	loop_defer(s->l, deferred_a, s);
	loop_run(s->l);
	assert_string_equal(s->trace, "ab");
}

#define POSTS 1000

static void
on_post(void *arg)
{
	struct state *s = arg;
	assert_true(pthread_equal(pthread_self(), s->thread));
	if (++s->count == POSTS)
		loop_stop(s->l);
}

static void *
poster(void *arg)
{
	struct state *s = arg;
	for (int i = 0; i < POSTS; i++)
		loop_post(s->l, on_post, s);
	return NULL;
}

static void
test_post_from_a_thread(void **in)
{
	struct state *s = *in;
	pthread_t t;
	s->thread = pthread_self();
	s->timer = timer_start(s->l, 20000, timer_never, s); /* keeps it alive */
	assert_int_equal(pthread_create(&t, NULL, poster, s), 0);
	loop_run(s->l);
	pthread_join(t, NULL);
	timer_close(s->timer);
	assert_int_equal(s->count, POSTS);
}

static void
work(void *arg)
{
	struct state *s = arg;
	assert_false(pthread_equal(pthread_self(), s->thread));
	s->count = 7;
}

static void
work_done(void *arg)
{
	struct state *s = arg;
	assert_true(pthread_equal(pthread_self(), s->thread));
	s->count *= 6;
}

static void
test_work_runs_elsewhere(void **in)
{
	struct state *s = *in;
	s->thread = pthread_self();
	loop_work(s->l, work, work_done, s);
	loop_run(s->l);
	assert_int_equal(s->count, 42);
}

static void
on_watch(void *arg, int events)
{
	struct state *s = arg;
	s->events |= events;
	if (events & LOOP_WRITE) {
		trace(s, 'w');
		assert_int_equal(write(s->fds[0], "x", 1), 1);
		watch_update(s->watch, LOOP_READ | LOOP_HANGUP);
	}
	if (events & LOOP_READ) {
		char c;
		ssize_t n = read(s->fds[0], &c, 1);
		trace(s, n == 1 ? 'r' : '0');
		if (n == 1) {
			close(s->fds[1]);
			s->fds[1] = -1;
		} else {
			watch_close(s->watch);
		}
	}
}

static void
echo(void *arg, int events)
{
	struct state *s = arg;
	char c;
	if (read(s->fds[1], &c, 1) == 1)
		assert_int_equal(write(s->fds[1], &c, 1), 1);
	watch_close((struct watch *)s->other);
	s->other = NULL;
}

static void
test_watch_write_read_hangup(void **in)
{
	struct state *s = *in;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s->fds), 0);
	s->watch = watch_start(s->l, s->fds[0], LOOP_WRITE, on_watch, s);
	s->other = (struct timer *)watch_start(s->l, s->fds[1], LOOP_READ, echo, s);
	loop_run(s->l);
	close(s->fds[0]);
	assert_string_equal(s->trace, "wr0");
	assert_true(s->events & LOOP_HANGUP);
}

static void
on_broken_pipe(void *arg, int events)
{
	struct state *s = arg;
	s->events = events;
	if (++s->count == 2)
		watch_close(s->watch);
}

static void
test_watch_goes_on_after_an_error(void **in)
{
	struct state *s = *in;
	assert_int_equal(pipe(s->fds), 0);
	close(s->fds[0]); /* the writing end now has an error, not readiness */
	s->watch = watch_start(s->l, s->fds[1], LOOP_WRITE, on_broken_pipe, s);
	loop_run(s->l);
	close(s->fds[1]);
	assert_int_equal(s->count, 2);
	assert_true(s->events & LOOP_WRITE);
}

static void
test_regular_file_cannot_be_watched(void **in)
{
	struct state *s = *in;
	FILE *f = tmpfile();
	assert_non_null(f);
	assert_null(watch_start(s->l, fileno(f), LOOP_READ, on_watch, s));
	fclose(f);
}

static void
on_usr1(void *arg)
{
	struct state *s = arg;
	trace(s, 'u');
	loop_stop(s->l);
}

static void
raise_usr1(void *arg)
{
	struct state *s = arg;
	timer_close(s->timer);
	s->timer = timer_start(s->l, 20000, timer_never, s);
	kill(getpid(), SIGUSR1);
}

static void
test_signal(void **in)
{
	struct state *s = *in;
	s->sig = signal_start(s->l, SIGUSR1, on_usr1, s);
	s->timer = timer_start(s->l, 0, raise_usr1, s);
	loop_run(s->l);
	timer_close(s->timer);
	signal_close(s->sig);
	assert_string_equal(s->trace, "u");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_empty_loop_returns),
		T(test_timer_repeats_by_again),
		T(test_timer_is_not_early_on_a_stale_loop),
		T(test_aligned_timers_end_together),
		T(test_no_callback_after_close),
		T(test_unref_timer_does_not_hold_the_loop),
		T(test_deferred_runs_before_the_next_block),
		T(test_deferred_before_run_runs),
		T(test_post_from_a_thread),
		T(test_work_runs_elsewhere),
		T(test_watch_write_read_hangup),
		T(test_watch_goes_on_after_an_error),
		T(test_regular_file_cannot_be_watched),
		T(test_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
