/* SPDX-License-Identifier: MIT
 * The event log: numbers, pipelined appends, failures, replay and live delivery, pauses under a
 * flood. */
#include "../store/fixture.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "base/mem.h"
#include "session/log_internal.h"

struct log_fix {
	struct fix f; /* first */
	struct events *v;
};

static int
setup(void **state)
{
	struct log_fix *x = xcalloc(1, sizeof(*x));

	fix_init(&x->f, true);
	*state = x;
	assert_int_equal(fix_open(&x->f), 0);
	x->v = events_open(x->f.store, x->f.loop);
	return 0;
}

static int
teardown(void **state)
{
	struct log_fix *x = *state;

	vfs_drop_power_on(x->f.disk);
	fix_close(&x->f);
	events_close(x->v);
	fix_fini(&x->f);
	free(x);
	return 0;
}

/* ---- appending ---- */

struct answer {
	struct log_fix *x;
	uint64_t first_seq;
	int code, n; /* n: order in which answers came, from 1 */
	char msg[ERR_MSG_MAX];
	int *counter;
};

static void
on_appended(void *arg, uint64_t first_seq, const struct err *e)
{
	struct answer *a = arg;

	a->first_seq = first_seq;
	a->code = e != NULL ? e->code : 0;
	if (e != NULL)
		memcpy(a->msg, e->msg, sizeof(a->msg));
	if (a->counter != NULL)
		a->n = ++*a->counter;
	if (--a->x->f.waiting == 0)
		loop_stop(a->x->f.loop);
}

static void
append_kind(struct log_fix *x, struct answer *a, const char *session, enum event_kind kind, int n)
{
	struct event_draft drafts[64];

	for (int i = 0; i < n; i++)
		drafts[i] = (struct event_draft){
			.kind = kind, .turn = i % 2 ? "01turn" : NULL, .body = STR("{\"a\":1}")
		};
	a->x = x;
	x->f.waiting++;
	events_append(x->v, session, drafts, (size_t)n, NULL, on_appended, a);
}

static void
append(struct log_fix *x, struct answer *a, const char *session, int n)
{
	append_kind(x, a, session, EVENT_NOTICE, n);
}

static uint64_t
append_wait(struct log_fix *x, const char *session, int n)
{
	struct answer a = { 0 };

	append(x, &a, session, n);
	fix_wait(&x->f);
	assert_int_equal(a.code, 0);
	return a.first_seq;
}

static void
numbers_follow_each_other(void **state)
{
	struct log_fix *x = *state;
	struct answer a[40] = { 0 };
	int counter = 0;

	for (int i = 0; i < 40; i++) { /* none is durable when the next is queued */
		a[i].counter = &counter;
		append(x, &a[i], "s", 1 + i % 3);
	}
	fix_wait(&x->f);
	for (uint64_t i = 0, next = 1; i < 40; next += 1 + i % 3, i++) {
		assert_int_equal(a[i].code, 0);
		assert_int_equal(a[i].first_seq, next);
		assert_int_equal(a[i].n, i + 1);
	}
	assert_int_equal(append_wait(x, "other", 1), 1);
	assert_int_equal(fix_count(&x->f, "s"), 79);
}

static void
number_goes_on_after_forgetting(void **state)
{
	struct log_fix *x = *state;

	assert_int_equal(append_wait(x, "s", 3), 1);
	assert_int_equal(events_active(x->v), 1);
	events_forget(x->v, "s");
	assert_int_equal(events_active(x->v), 0);
	assert_int_equal(append_wait(x, "s", 1), 4);
	struct answer a = { 0 };
	append(x, &a, "s", 1);
	events_forget(x->v, "s"); /* not idle: it is dropped when it is */
	assert_int_equal(events_active(x->v), 1);
	fix_wait(&x->f);
	assert_int_equal(a.first_seq, 5);
	assert_int_equal(events_active(x->v), 0);
}

static void
many_sessions_cost_nothing_when_idle(void **state)
{
	struct log_fix *x = *state;
	static struct answer a[10000];
	char id[16];

	for (int i = 0; i < 10000; i++) {
		snprintf(id, sizeof(id), "s%05d", i);
		append_kind(x, &a[i], id, EVENT_SESSION_CREATED, 1);
	}
	assert_int_equal(events_active(x->v), 10000);
	for (int i = 0; i < 10000; i++) {
		snprintf(id, sizeof(id), "s%05d", i);
		events_forget(x->v, id);
	}
	fix_wait(&x->f);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(a[i].first_seq, 1);
	assert_int_equal(events_active(x->v), 0);
}

static void
extra_batch_shares_the_commit(void **state)
{
	struct log_fix *x = *state;
	struct answer a = { .x = x };
	struct event_draft d = { .kind = EVENT_TURN_QUEUED, .turn = "t1", .body = STR("{}") };
	struct batch *b = batch_new();
	struct rows *r = NULL;

	BATCH(b, STMT_TURN_INSERT, V_Z("t1"), V_Z("s"), V_Z("me"), V_Z("queued"), V_INT(7));
	x->f.waiting++;
	events_append(x->v, "s", &d, 1, b, on_appended, &a);
	fix_wait(&x->f);
	assert_int_equal(a.code, 0);
	b = batch_new();
	BATCH(b, STMT_TURN_INSERT, V_Z("t1"), V_Z("s"), V_Z("me"), V_Z("queued"),
		V_INT(7)); /* again */
	x->f.waiting++;
	events_append(x->v, "s", &d, 1, b, on_appended, &a);
	fix_wait(&x->f);
	assert_int_equal(a.code, ERR_CONFLICT);
	assert_int_equal(fix_count(&x->f, "s"), 1); /* the event went with it */
	b = batch_new();
	BATCH(b, STMT_TURN_STATE, V_Z("t1"), V_Z("running"));
	x->f.waiting++;
	events_append(x->v, "s", NULL, 0, b, on_appended, &a); /* projections alone */
	fix_wait(&x->f);
	assert_int_equal(a.code, 0);
	assert_int_equal(a.first_seq, 0);
	assert_int_equal(store_query_now(x->f.store, STMT_TURN_GET,
				 (const struct cell_value[]){ V_Z("t1") }, 1, &r, NULL),
		0);
	assert_true(str_is(rows_str(r, 0, 3), "running"));
	rows_free(r);
}

static void
too_large_event_is_refused_alone(void **state)
{
	struct log_fix *x = *state;
	struct answer before = { 0 }, large = { .x = x }, after = { 0 };
	char *text = xcalloc(1, EVENT_BODY_MAX + 1);
	struct event_draft d = { .kind = EVENT_NOTICE, .body = { text, EVENT_BODY_MAX + 1 } };

	append(x, &before, "s", 1);
	x->f.waiting++;
	events_append(x->v, "s", &d, 1, batch_new(), on_appended, &large);
	append(x, &after, "s", 1);
	fix_wait(&x->f);
	free(text);
	assert_int_equal(large.code, ERR_LIMIT);
	assert_int_equal(before.first_seq, 1);
	assert_int_equal(after.first_seq, 2);
}

/* Someone else wrote event 3 meanwhile. */
static void
conflict_breaks_the_log_until_it_is_read_again(void **state)
{
	struct log_fix *x = *state;
	struct answer a[6] = { 0 };

	assert_int_equal(append_wait(x, "s", 2), 1);
	assert_int_equal(fix_commit_wait(&x->f, event_batch("s", 3, 1, 10)), 0);
	for (int i = 0; i < 6; i++)
		append(x, &a[i], "s", 2);
	append(x, &a[5], "fine", 1);
	fix_wait(&x->f);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(a[i].code, ERR_CONFLICT);
		assert_string_equal(a[i].msg, a[0].msg);
	}
	assert_int_equal(a[5].code, 0);
	assert_int_equal(fix_count(&x->f, "s"), 3); /* not one of the later ones slipped in */
	assert_int_equal(append_wait(x, "s", 1), 4);
}

static void
full_disk_fails_what_was_queued_in_the_same_way(void **state)
{
	struct log_fix *x = *state;
	struct answer a[30] = { 0 };
	int counter = 0;

	assert_int_equal(append_wait(x, "s", 1), 1);
	vfs_drop_fail(x->f.disk, DISK_WRITE, SQLITE_FULL,
		1); /* once: later commits of the disk would work */
	for (int i = 0; i < 30; i++) {
		a[i].counter = &counter;
		append(x, &a[i], "s", 1);
	}
	fix_wait(&x->f);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(a[i].code, ERR_FULL);
		assert_int_equal(a[i].n, i + 1);
	}
	assert_int_equal(append_wait(x, "s", 1), 2);
}

struct retry {
	struct log_fix *x;
	int failures;
	uint64_t first_seq;
};

static void
on_retry(void *arg, uint64_t first_seq, const struct err *e)
{
	struct retry *r = arg;
	struct event_draft d = { .kind = EVENT_NOTICE, .body = STR("{}") };

	r->first_seq = first_seq;
	if (e == NULL) {
		r->x->f.waiting--;
		loop_stop(r->x->f.loop);
		return;
	}
	r->failures++;
	events_append(r->x->v, "s", &d, 1, NULL, on_retry, r);
}

static void
append_again_from_the_answer(void **state)
{
	struct log_fix *x = *state;
	struct retry r = { .x = x };
	struct event_draft d = { .kind = EVENT_NOTICE, .body = STR("{}") };

	assert_int_equal(append_wait(x, "s", 1), 1);
	vfs_drop_fail(x->f.disk, DISK_WRITE, SQLITE_FULL, 1);
	x->f.waiting++;
	events_append(x->v, "s", &d, 1, NULL, on_retry, &r);
	fix_wait(&x->f);
	assert_int_equal(r.failures, 1);
	assert_int_equal(r.first_seq, 2);
}

static void
failing_load_fails_the_append(void **state)
{
	struct log_fix *x = *state;
	struct answer a = { 0 };

	vfs_drop_fail(x->f.disk, DISK_OPEN, SQLITE_CANTOPEN, 1); /* the reader's connection */
	append(x, &a, "s", 1);
	fix_wait(&x->f);
	assert_int_equal(a.code, ERR_IO);
	assert_int_equal(events_active(x->v), 0);
	assert_int_equal(append_wait(x, "s", 1), 1);
}

/* ---- subscriptions ---- */

struct reader {
	struct log_fix *x;
	struct subscription *sub;
	uint64_t seen, stop_at; /* stops the loop when level at or behind stop_at */
	int caught_up, live, errors, pause_every;
	bool missed_live, wants_resume;
	struct reader *also_end; /* ended by this one's next event */
	bool end_self;
};

static void
reader_check(struct reader *r)
{
	if (r->stop_at != 0 && r->seen >= r->stop_at)
		loop_stop(r->x->f.loop);
}

static void
on_event(void *arg, const struct event *ev)
{
	struct reader *r = arg;

	assert_non_null(r->sub);
	assert_int_equal(strlen(ev->id.z), ID_SIZE - 1);
	if (ev->seq == 0) {
		r->live++;
	} else {
		assert_int_equal(ev->seq, r->seen + 1); /* no gap, no duplicate */
		r->seen = ev->seq;
		assert_int_equal(events_position(r->sub), ev->seq);
	}
	if (r->also_end != NULL) {
		events_unsubscribe(r->also_end->sub);
		r->also_end->sub = NULL;
		r->also_end = NULL;
	}
	if (r->end_self) {
		events_unsubscribe(r->sub);
		r->sub = NULL;
	} else if (r->pause_every != 0 && ev->seq % (uint64_t)r->pause_every == 0) {
		events_pause(r->sub);
		r->wants_resume = true;
		loop_stop(r->x->f.loop);
	}
	reader_check(r);
}

static void
on_caught_up(void *arg, bool missed_live)
{
	struct reader *r = arg;

	r->caught_up++;
	r->missed_live = missed_live;
	loop_stop(r->x->f.loop);
}

static void
on_error(void *arg, const struct err *e)
{
	struct reader *r = arg;

	r->errors++;
	loop_stop(r->x->f.loop);
}

static const struct event_handler handler = { on_event, on_caught_up, on_error };

static void
reader_start(struct reader *r, struct log_fix *x, const char *session, uint64_t after)
{
	*r = (struct reader){ .x = x, .seen = after };
	r->sub = events_subscribe(x->v, session, after, &handler, r);
	assert_int_equal(r->caught_up, 0); /* nothing inside the call */
}

static void
lost_event(void *arg)
{
	fatal("test: an event did not come");
}

/* Runs the loop until *value reaches at_least. */
static void
run_until(struct log_fix *x, const int *value, int at_least)
{
	struct timer *guard = timer_start(x->f.loop, 30000, lost_event, x);

	while (*value < at_least)
		loop_run(x->f.loop);
	timer_close(guard);
}

static void
run_until_seen(struct log_fix *x, struct reader *r, uint64_t seq)
{
	struct timer *guard = timer_start(x->f.loop, 30000, lost_event, x);

	r->stop_at = seq;
	while (r->seen < seq)
		loop_run(x->f.loop);
	timer_close(guard);
}

static void
replay_then_live(void **state)
{
	struct log_fix *x = *state;
	struct reader r, late;

	for (int i = 0; i < 20; i++)
		append_wait(x, "s", 50); /* several pages */
	reader_start(&r, x, "s", 0);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 1000);
	assert_false(r.missed_live);
	append_wait(x, "s", 10);
	assert_int_equal(r.seen, 1010); /* published before the append was answered */
	reader_start(&late, x, "s", 990);
	run_until(x, &late.caught_up, 1);
	assert_int_equal(late.seen, 1010);
	append_wait(x, "s", 1);
	append_wait(x, "other", 1);
	assert_int_equal(r.seen, 1011);
	assert_int_equal(late.seen, 1011);
	assert_int_equal(r.caught_up, 1);
	events_unsubscribe(r.sub);
	append_wait(x, "s", 1);
	assert_int_equal(r.seen, 1011);
	assert_int_equal(late.seen, 1012);
	events_unsubscribe(late.sub);
}

static void
subscribe_before_there_is_a_session(void **state)
{
	struct log_fix *x = *state;
	struct reader r;

	reader_start(&r, x, "s", 0);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(events_active(x->v), 1);
	append_wait(x, "s", 3);
	assert_int_equal(r.seen, 3);
	events_unsubscribe(r.sub);
	events_forget(x->v, "s");
	assert_int_equal(events_active(x->v), 0);
}

/* Subscriptions that begin while appends are under way, at every moment of it. */
static void
subscribe_in_the_middle_of_a_flood(void **state)
{
	struct log_fix *x = *state;
	static struct answer a[400];
	struct reader r[40];

	for (int i = 0; i < 400; i++) {
		append(x, &a[i], "s", 1 + i % 5);
		if (i % 10 == 5) {
			reader_start(&r[i / 10], x, "s", i % 20 == 5 ? 0 : 7);
			if (i % 30 == 5) /* let some of it happen */
				append_wait(x, "other", 1);
		}
	}
	fix_wait(&x->f);
	for (int i = 0; i < 40; i++) {
		run_until_seen(x, &r[i], 1200);
		run_until(x, &r[i].caught_up, 1);
		assert_int_equal(r[i].seen, 1200);
		events_unsubscribe(r[i].sub);
	}
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

/* The page was read before an append became durable, and arrives after it was published: nobody may
 * fall between. */
static void
append_while_a_page_is_under_way(void **state)
{
	struct log_fix *x = *state;
	struct reader r;

	append_wait(x, "s", 50);
	assert_int_equal(fix_count(&x->f, "s"), 50); /* the reader's connection is open */
	append_wait(x, "s", 50);
	vfs_drop_hold_read(x->f.disk, true);
	reader_start(&r, x, "s", 0);
	loop_post(x->f.loop, stop, x->f.loop);
	loop_run(x->f.loop);
	vfs_drop_wait_read(x->f.disk); /* its view of the database is fixed now */
	assert_int_equal(append_wait(x, "s", 1), 101);
	assert_int_equal(r.seen, 0);
	vfs_drop_hold_read(x->f.disk, false);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 101);
	events_unsubscribe(r.sub);
}

/* What the database showed before it was acknowledged is not delivered again; a gap is filled from
 * the database. */
static void
overlap_and_gap(void **state)
{
	struct log_fix *x = *state;
	struct reader r;
	struct event ev[4];
	struct batch *b = batch_new();

	append_wait(x, "s", 5);
	reader_start(&r, x, "s", 0);
	run_until(x, &r.caught_up, 1);
	for (int i = 0; i < 4; i++)
		ev[i] = (struct event){ .seq = 4 + (uint64_t)i,
			.id = id_new(),
			.session = "s",
			.kind = EVENT_NOTICE,
			.body = STR("{}") };
	feed_publish(
		log_find(x->v, "s"), ev, 4); /* 4, 5, 6, 7: on_event checks that 6 comes next */
	assert_int_equal(r.seen, 7);
	for (int i = 6; i <= 9; i++)
		BATCH(b, STMT_EVENT_INSERT, V_Z("s"), V_INT(i), V_Z(ev[0].id.z), V_Z(NULL),
			V_INT(1), V_Z("notice"), V_BYTES(STR("{}")));
	assert_int_equal(fix_commit_wait(&x->f, b), 0);
	ev[0].seq = 9;
	feed_publish(log_find(x->v, "s"), ev, 1); /* 8 is missing */
	assert_int_equal(r.seen, 7);
	run_until(x, &r.caught_up, 2);
	assert_int_equal(r.seen, 9);
	assert_true(r.missed_live);
	events_unsubscribe(r.sub);
}

static void
nothing_is_published_before_it_is_durable(void **state)
{
	struct log_fix *x = *state;
	struct reader r;
	struct answer a = { 0 };

	reader_start(&r, x, "s", 0);
	run_until(x, &r.caught_up, 1);
	append_wait(x, "s", 1);
	vfs_drop_hold_sync(x->f.disk, true);
	append(x, &a, "s", 1);
	vfs_drop_wait_sync(x->f.disk);
	assert_int_equal(fix_count(&x->f, "s"), 1); /* a turn of the loop */
	assert_int_equal(r.seen, 1);
	vfs_drop_hold_sync(x->f.disk, false);
	fix_wait(&x->f);
	assert_int_equal(r.seen, 2);
	vfs_drop_fail(x->f.disk, DISK_SYNC, SQLITE_IOERR_FSYNC, 1);
	append(x, &a, "s", 1);
	fix_wait(&x->f);
	assert_int_equal(a.code, ERR_IO);
	assert_int_equal(r.seen, 2);
	assert_int_equal(append_wait(x, "s", 1), 3);
	assert_int_equal(r.seen, 3);
	events_unsubscribe(r.sub);
}

static void
live_events_reach_who_is_level(void **state)
{
	struct log_fix *x = *state;
	struct reader r;

	events_live(
		x->v, "s", EVENT_MODEL_DELTA, "t", STR("{}")); /* nobody listens: costs nothing */
	assert_int_equal(events_active(x->v), 0);
	append_wait(x, "s", 5);
	reader_start(&r, x, "s", 0);
	events_live(x->v, "s", EVENT_MODEL_DELTA, "t", STR("{}"));
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.live, 0);
	assert_true(r.missed_live);
	events_live(x->v, "s", EVENT_MODEL_DELTA, "t", STR("{}"));
	events_live(x->v, "s", EVENT_TOOL_PROGRESS, NULL, STR("{}"));
	assert_int_equal(r.live, 2);
	events_pause(r.sub);
	events_live(x->v, "s", EVENT_MODEL_DELTA, "t", STR("{}"));
	assert_int_equal(r.live, 2);
	events_resume(r.sub);
	run_until(x, &r.caught_up, 2);
	assert_true(r.missed_live);
	events_pause(r.sub);
	events_resume(r.sub);
	run_until(x, &r.caught_up, 3);
	assert_false(r.missed_live);
	events_unsubscribe(r.sub);
	assert_int_equal(fix_count(&x->f, "s"), 5);
}

/* A slow reader stops every 7 events while thousands come in; a fast one beside it does not notice.
 */
static void
pause_under_a_flood(void **state)
{
	struct log_fix *x = *state;
	static struct answer a[500];
	struct reader slow, fast;
	struct timer *guard = timer_start(x->f.loop, 30000, lost_event, x);

	reader_start(&slow, x, "s", 0);
	slow.pause_every = 7;
	reader_start(&fast, x, "s", 0);
	for (int i = 0; i < 500; i++)
		append(x, &a[i], "s", 6);
	while (slow.seen < 3000) {
		if (slow.wants_resume) {
			slow.wants_resume = false;
			events_resume(slow.sub);
		}
		slow.stop_at = 3000;
		loop_run(x->f.loop);
	}
	fix_wait(&x->f);
	timer_close(guard);
	assert_int_equal(fast.seen, 3000);
	assert_int_equal(slow.seen, 3000);
	events_unsubscribe(slow.sub);
	events_unsubscribe(fast.sub);
}

static void
a_paused_reader_gets_nothing(void **state)
{
	struct log_fix *x = *state;
	struct reader r;

	append_wait(x, "s", 5);
	reader_start(&r, x, "s", 0);
	events_pause(r.sub); /* before it began */
	append_wait(x, "s", 5);
	assert_int_equal(fix_count(&x->f, "s"), 10);
	assert_int_equal(r.seen, 0);
	events_resume(r.sub);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 10);
	events_unsubscribe(r.sub);
}

static void
unsubscribe_inside_callbacks(void **state)
{
	struct log_fix *x = *state;
	struct reader r[4];

	/* During replay: the first event ends the subscription itself. */
	append_wait(x, "s", 5);
	reader_start(&r[0], x, "s", 0);
	r[0].end_self = true;
	run_until_seen(x, &r[0], 1);
	append_wait(x, "s", 1);
	assert_int_equal(r[0].seen, 1);
	/* Live: one ends its neighbours on both sides, another one itself. */
	for (int i = 0; i < 4; i++) {
		reader_start(&r[i], x, "s", 6);
		run_until(x, &r[i].caught_up, 1);
	}
	r[2].also_end = &r[1];
	r[3].end_self = true;
	append_wait(x, "s", 2);
	assert_int_equal(r[3].seen, 7);
	assert_int_equal(r[2].seen, 8);
	assert_null(r[1].sub);
	assert_int_equal(r[1].seen, 6);
	assert_int_equal(r[0].seen, 8);
	r[0].also_end = &r[2];
	append_wait(x, "s", 1);
	assert_null(r[2].sub);
	assert_int_equal(r[0].seen, 9);
	events_unsubscribe(r[0].sub);
	/* With a page under way. */
	reader_start(&r[0], x, "s", 0);
	assert_int_equal(fix_count(&x->f, "s"), 9);
	events_unsubscribe(r[0].sub);
	reader_start(&r[0], x, "s", 0);
	events_unsubscribe(r[0].sub);
	r[0].sub = NULL;
	append_wait(x, "s", 1);
	assert_int_equal(r[0].seen, 0);
}

static void
reading_that_fails_can_be_resumed(void **state)
{
	struct log_fix *x = *state;
	struct reader r;
	struct answer a = { 0 };

	append_kind(x, &a, "s", EVENT_SESSION_CREATED, 5); /* needs no reader yet */
	fix_wait(&x->f);
	vfs_drop_fail(x->f.disk, DISK_OPEN, SQLITE_CANTOPEN, 1);
	reader_start(&r, x, "s", 0);
	run_until(x, &r.errors, 1);
	assert_int_equal(r.seen, 0);
	events_resume(r.sub);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 5);
	events_unsubscribe(r.sub);
}

/* Large events: the page shrinks until it fits. */
static void
large_events_are_replayed(void **state)
{
	struct log_fix *x = *state;
	struct reader r;
	struct answer a = { .x = x };
	char *text = xcalloc(1, EVENT_BODY_MAX);
	struct event_draft d = { .kind = EVENT_NOTICE, .body = { text, EVENT_BODY_MAX } };

	memset(text, ' ', EVENT_BODY_MAX);
	for (int i = 0; i < 9; i++) {
		x->f.waiting++;
		events_append(x->v, "s", &d, 1, NULL, on_appended, &a);
	}
	fix_wait(&x->f);
	free(text);
	reader_start(&r, x, "s", 0);
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 9);
	events_unsubscribe(r.sub);
}

struct pages {
	struct log_fix *x;
	uint64_t first;
	size_t n;
	bool more;
	int code, came;
	char envelope[512];
};

static void
on_page(void *arg, const struct event *events, size_t n, bool more, const struct err *e)
{
	struct pages *p = arg;
	struct buf b;
	struct json j;

	p->n = n;
	p->first = n > 0 ? events[0].seq : 0;
	p->more = more;
	p->code = e != NULL ? e->code : 0;
	if (n > 1) {
		buf_init(&b, sizeof(p->envelope));
		json_init(&j, &b);
		event_envelope(&events[1], &j);
		snprintf(p->envelope, sizeof(p->envelope), "%s", buf_z(&b));
		buf_fini(&b);
	}
	p->came++;
	loop_stop(p->x->f.loop);
}

static void
pages_and_envelope(void **state)
{
	struct log_fix *x = *state;
	struct pages p = { .x = x };

	append_wait(x, "s", 10);
	events_read(x->v, "s", 3, 4, on_page, &p);
	run_until(x, &p.came, 1);
	assert_int_equal(p.first, 4);
	assert_int_equal(p.n, 4);
	assert_true(p.more);
	assert_non_null(strstr(p.envelope, "{\"seq\":5,\"id\":\""));
	assert_non_null(strstr(p.envelope, "\",\"session\":\"s\",\"turn\":null,\"time\":\"20"));
	assert_non_null(strstr(p.envelope, "Z\",\"kind\":\"notice\",\"body\":{\"a\":1}}"));
	events_read(x->v, "s", 8, 4, on_page, &p);
	run_until(x, &p.came, 2);
	assert_int_equal(p.n, 2);
	assert_false(p.more);
	events_read(x->v, "none", 0, 1000, on_page, &p);
	run_until(x, &p.came, 3);
	assert_int_equal(p.n, 0);
	assert_int_equal(p.code, 0);
}

static void
unknown_kind_is_passed_over(void **state)
{
	struct log_fix *x = *state;
	struct batch *b = batch_new();
	struct reader r;
	struct id id = id_new();

	BATCH(b, STMT_EVENT_INSERT, V_Z("s"), V_INT(1), V_Z(id.z), V_Z(NULL), V_INT(1),
		V_Z("from.tomorrow"), V_BYTES(STR("{}")));
	assert_int_equal(fix_commit_wait(&x->f, b), 0);
	assert_int_equal(append_wait(x, "s", 1), 2);
	reader_start(&r, x, "s", 0);
	r.seen = 1;
	run_until(x, &r.caught_up, 1);
	assert_int_equal(r.seen, 2);
	events_unsubscribe(r.sub);
}

static void
kinds_have_names(void **state)
{
	enum event_kind k;

	for (int i = 0; i < EVENT_KIND_COUNT; i++) {
		assert_int_equal(event_kind_parse(str_of(event_kind_name(i)), &k), 0);
		assert_int_equal(k, i);
		assert_false(
			(event_kind_flags(i) & EVENT_INPUT) && (event_kind_flags(i) & EVENT_LIVE));
	}
	assert_int_equal(event_kind_parse(STR("model"), &k), -1);
	assert_int_equal(event_kind_parse(STR(""), &k), -1);
}

/* Closing with readers and appends still there. */
static void
close_in_the_middle(void **state)
{
	struct log_fix *x = *state;
	struct reader r[2];
	struct answer a = { 0 };

	reader_start(&r[0], x, "s", 0);
	run_until(x, &r[0].caught_up, 1);
	reader_start(&r[1], x, "s", 0);
	append(x, &a, "s", 5);
	x->f.waiting++;
	fix_close(&x->f);
	x->f.waiting = 0;
	assert_true(a.code == 0 || a.code == ERR_GONE);
	events_close(x->v);
	x->v = NULL;
	events_unsubscribe(r[0].sub);
	events_unsubscribe(r[1].sub);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(numbers_follow_each_other),
		ROW(number_goes_on_after_forgetting),
		ROW(many_sessions_cost_nothing_when_idle),
		ROW(extra_batch_shares_the_commit),
		ROW(too_large_event_is_refused_alone),
		ROW(conflict_breaks_the_log_until_it_is_read_again),
		ROW(full_disk_fails_what_was_queued_in_the_same_way),
		ROW(append_again_from_the_answer),
		ROW(failing_load_fails_the_append),
		ROW(replay_then_live),
		ROW(subscribe_before_there_is_a_session),
		ROW(subscribe_in_the_middle_of_a_flood),
		ROW(append_while_a_page_is_under_way),
		ROW(overlap_and_gap),
		ROW(nothing_is_published_before_it_is_durable),
		ROW(live_events_reach_who_is_level),
		ROW(pause_under_a_flood),
		ROW(a_paused_reader_gets_nothing),
		ROW(unsubscribe_inside_callbacks),
		ROW(reading_that_fails_can_be_resumed),
		ROW(large_events_are_replayed),
		ROW(pages_and_envelope),
		ROW(unknown_kind_is_passed_over),
		ROW(kinds_have_names),
		ROW(close_in_the_middle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
