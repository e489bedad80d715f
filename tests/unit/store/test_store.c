/* SPDX-License-Identifier: MIT
 * The store on a sound disk: order, groups, isolation of conflicts, what queries see, close. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/limits.h"
#include "base/mem.h"
#include "store/internal.h"

static int
setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	fix_init(f, true);
	*state = f;
	assert_int_equal(fix_open(f), 0);
	return 0;
}

static int
teardown(void **state)
{
	struct fix *f = *state;

	if (f->disk != NULL)
		vfs_drop_power_on(f->disk);
	fix_fini(f);
	free(f);
	return 0;
}

/* Each statement can be prepared, so no name in it is wrong; and those that read say what they
 * return. */
static void
every_statement_prepares(void **state)
{
	struct fix *f = *state;

	for (int i = 0; i < STMT_COUNT; i++) {
		struct err e = { 0 };
		sqlite3_stmt *q;
		if (conn_stmt(&f->store->writer, i, &q, &e) != 0)
			fail_msg("%s: %s", stmt_name(i), e.msg);
		assert_true(sqlite3_bind_parameter_count(q) < 16);
	}
}

static void
commit_is_read_back(void **state)
{
	struct fix *f = *state;
	struct rows *r = NULL;
	struct batch *b = batch_new();
	struct err e = { 0 };

	BATCH(b, STMT_EVENT_INSERT, V_Z("s"), V_INT(1), V_Z("id1"), V_Z(NULL), V_INT(-5),
		V_Z("notice"), V_BYTES(((struct str){ "a\0b", 3 })));
	BATCH(b, STMT_EVENT_INSERT, V_Z("s"), V_INT(INT64_MAX), V_Z(""), V_Z("turn"),
		V_INT(INT64_MIN), V_Z("notice"), V_BYTES(STR("")));
	assert_int_equal(batch_len(b), 2);
	assert_int_equal(fix_commit_wait(f, b), 0);
	assert_int_equal(
		store_query_now(f->store, STMT_EVENT_READ,
			(const struct cell_value[]){ V_Z("s"), V_INT(0), V_INT(10) }, 3, &r, &e),
		0);
	assert_int_equal(rows_len(r), 2);
	assert_int_equal(rows_int(r, 0, 0), 1);
	assert_int_equal(rows_at(r, 0, 2)->type, CELL_NULL);
	assert_true(str_eq(rows_str(r, 0, 5), (struct str){ "a\0b", 3 }));
	assert_int_equal(rows_at(r, 0, 5)->type, CELL_BYTES);
	assert_true(rows_int(r, 1, 0) == INT64_MAX);
	assert_true(rows_int(r, 1, 3) == INT64_MIN);
	assert_int_equal(rows_at(r, 1, 1)->type, CELL_TEXT);
	assert_int_equal(rows_str(r, 1, 1).n, 0);
	assert_string_equal(rows_str(r, 1, 2).p, "turn");
	assert_int_equal(rows_at(r, 2, 0)->type, CELL_NULL); /* past the end */
	assert_int_equal(rows_at(r, 0, 6)->type, CELL_NULL);
	rows_free(r);
}

static void
conflict_leaves_the_others_alone(void **state)
{
	struct fix *f = *state;
	struct err e;

	vfs_drop_hold_sync(f->disk, true);
	fix_commit(f,
		event_batch("x", 1, 1, 10)); /* in its sync while the next three become one group */
	vfs_drop_wait_sync(f->disk);
	fix_commit(f, event_batch("a", 1, 2, 10));
	struct batch *b = event_batch("b", 1, 1, 10);
	BATCH(b, STMT_EVENT_INSERT, V_Z("a"), V_INT(2), V_Z("i"), V_Z(NULL), V_INT(1),
		V_Z("notice"), V_BYTES(STR("{}")));
	fix_commit(f, b);
	b = event_batch("c", 1, 1, 10);
	batch_add_expect(
		b, STMT_TURN_STATE, (const struct cell_value[]){ V_Z("none"), V_Z("x") }, 2, 1);
	fix_commit(f, b);
	fix_commit(f, event_batch("a", 3, 1, 10));
	vfs_drop_hold_sync(f->disk, false);
	fix_wait(f);
	assert_int_equal(f->code, 0);
	e = f->err;
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_non_null(strstr(e.msg, "TURN_STATE: changed 0 rows instead of 1"));
	assert_int_equal(fix_count(f, "a"), 3);
	assert_int_equal(fix_count(f, "b"), 0);
	assert_int_equal(fix_count(f, "c"), 0);
	assert_int_equal(fix_commit_wait(f, event_batch("a", 3, 1, 10)), ERR_CONFLICT);
	assert_non_null(strstr(f->err.msg, "EVENT_INSERT"));
}

static void
nothing_is_acknowledged_before_the_sync(void **state)
{
	struct fix *f = *state;

	vfs_drop_hold_sync(f->disk, true);
	fix_commit(f, event_batch("s", 1, 1, 10));
	vfs_drop_wait_sync(f->disk);
	assert_int_equal(fix_count(f, "s"), 0); /* stops the loop with the commit still waiting */
	assert_int_equal(f->waiting, 1);
	vfs_drop_hold_sync(f->disk, false);
	fix_wait(f);
	assert_int_equal(fix_count(f, "s"), 1);
}

/* A chain commits its next batch when the last one was acknowledged, as a session does. */
struct chain {
	struct fix *f;
	char session[16];
	int64_t seq;
	int left;
};

static void
chain_step(void *arg, const struct err *e)
{
	struct chain *c = arg;

	assert_null(e);
	c->f->waiting--;
	if (c->left-- > 0) {
		c->f->waiting++;
		c->seq += 3;
		store_commit(c->f->store, event_batch(c->session, c->seq, 3, 200), chain_step, c);
	} else if (c->f->waiting == 0) {
		loop_stop(c->f->loop);
	}
}

static void
chains_share_commits(void **state)
{
	struct fix *f = *state;
	struct chain chains[64];
	struct store_stats st;

	for (int i = 0; i < 64; i++) {
		chains[i] = (struct chain){ .f = f, .seq = 1, .left = 20 };
		snprintf(chains[i].session, sizeof(chains[i].session), "s%02d", i);
		f->waiting++;
		chain_step(&chains[i], NULL);
	}
	/* chain_step counted down its own waiting; the answers are still to come */
	fix_wait(f);
	store_stats(f->store, &st);
	assert_int_equal(st.batches, 64 * 20);
	assert_int_equal(st.rows, 64 * 20 * 3);
	assert_true(st.commits * 4 < st.batches);
	assert_true(st.commit_us_total > 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(fix_count(f, chains[i].session), 60);
}

static void
answers_come_in_order(void *arg, const struct err *e)
{
	struct chain *c = arg;

	assert_int_equal(c->seq++, c->left++);
	if (--c->f->waiting == 0)
		loop_stop(c->f->loop);
}

struct numbered {
	struct chain *all;
	int64_t n;
};

static void
on_numbered(void *arg, const struct err *e)
{
	struct numbered *x = arg;

	assert_int_equal(x->n, x->all->left);
	answers_come_in_order(x->all, e);
}

static void
order_is_kept_across_failures(void **state)
{
	struct fix *f = *state;
	struct chain all = { .f = f };
	struct numbered x[300];

	for (int i = 0; i < 300; i++) {
		struct batch *b =
			i % 7 == 3 ? event_batch("s", 1, 1, 10) : event_batch("s", i + 1, 1, 10);
		if (i % 50 == 10) { /* too large: refused, yet in its turn */
			batch_free(b);
			b = batch_new();
			for (int k = 0; k < 5; k++) {
				char *big = xcalloc(1, STORE_BATCH_MAX / 4);
				BATCH(b, STMT_BLOB_PUT, V_Z("h"), V_INT(1),
					V_BYTES(((struct str){ big, STORE_BATCH_MAX / 4 })),
					V_INT(0));
				free(big);
			}
		}
		x[i] = (struct numbered){ &all, i };
		f->waiting++;
		store_commit(f->store, b, on_numbered, &x[i]);
	}
	fix_wait(f);
	assert_int_equal(all.left, 300);
}

static void
queue_has_a_maximum(void **state)
{
	struct fix *f = *state;

	vfs_drop_hold_sync(f->disk, true);
	fix_commit(f, event_batch("s", 1, 1, 10));
	vfs_drop_wait_sync(f->disk);
	for (int i = 2; i <= 5; i++) /* all four are more than may wait */
		fix_commit(f, event_batch("s", i, 1, STORE_QUEUE_MAX / 4 + 1));
	vfs_drop_hold_sync(f->disk, false);
	fix_wait(f);
	assert_int_equal(f->code, ERR_BUSY);
	assert_non_null(strstr(f->err.msg, "cannot keep up"));
	assert_int_equal(fix_count(f, "s"), 4);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 5, 1, 10)), 0);
}

static void
query_sees_what_was_acknowledged(void **state)
{
	struct fix *f = *state;

	for (int i = 1; i <= 50; i++) {
		assert_int_equal(fix_commit_wait(f, event_batch("s", i, 1, 100)), 0);
		assert_int_equal(fix_count(f, "s"), i);
	}
}

static void
close_flushes(void **state)
{
	struct fix *f = *state;

	for (int i = 1; i <= 500; i++)
		fix_commit(f, event_batch("s", i, 1, 500));
	f->waiting++;
	fix_close(f); /* the answers come before it returns */
	assert_int_equal(f->waiting, 1);
	f->waiting = 0;
	assert_int_equal(f->code, 0);
	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_count(f, "s"), 500);
}

static void
on_done_commits_again(void *arg, const struct err *e)
{
	struct fix *f = arg;

	f->code = e != NULL ? e->code : 0;
	f->waiting--;
	if (e == NULL && f->waiting < 3) {
		f->waiting += 2;
		store_commit(
			f->store, event_batch("t", f->value++, 1, 10), on_done_commits_again, f);
		store_commit(
			f->store, event_batch("t", f->value++, 1, 10), on_done_commits_again, f);
	}
}

static void
commit_during_close_is_refused(void **state)
{
	struct fix *f = *state;

	f->waiting = 1;
	f->value = 1;
	store_commit(f->store, event_batch("t", f->value++, 1, 10), on_done_commits_again, f);
	fix_close(f);
	assert_int_equal(f->waiting, 0);
	assert_int_equal(f->code, ERR_GONE);
}

static void
on_done_closes(void *arg, const struct err *e)
{
	struct fix *f = arg;

	f->waiting--;
	if (f->store != NULL) {
		struct store *s = f->store;
		f->store = NULL;
		store_close(s);
		assert_int_equal(f->waiting, 0); /* the others were answered inside */
		loop_stop(f->loop);
	}
}

static void
close_inside_a_callback(void **state)
{
	struct fix *f = *state;

	for (int i = 1; i <= 20; i++) {
		f->waiting++;
		store_commit(f->store, event_batch("s", i, 1, 10), on_done_closes, f);
	}
	fix_wait(f);
}

static void
result_has_a_maximum(void **state)
{
	struct fix *f = *state;
	struct rows *r = NULL;
	struct err e = { 0 };

	for (int i = 1; i <= 6; i++)
		assert_int_equal(fix_commit_wait(f, event_batch("s", i, 1, 3 * MIB)), 0);
	assert_int_equal(
		store_query_now(f->store, STMT_EVENT_READ,
			(const struct cell_value[]){ V_Z("s"), V_INT(0), V_INT(10) }, 3, &r, &e),
		ERR_LIMIT);
	assert_null(r);
	assert_int_equal(
		store_query_now(f->store, STMT_EVENT_READ,
			(const struct cell_value[]){ V_Z("s"), V_INT(0), V_INT(5) }, 3, &r, &e),
		0);
	assert_int_equal(rows_len(r), 5);
	assert_int_equal(rows_str(r, 4, 5).n, 3 * MIB);
	rows_free(r);
}

/* The log is moved into the file while commits go on, so it does not grow with what was written. */
struct ticking {
	struct timer *timer;
	int ticks;
};

static void
on_tick(void *arg)
{
	struct ticking *t = arg;

	t->ticks++;
	timer_again(t->timer, 1);
}

/* A look through a large database leaves the loop's thread to others. */
static void
verify_does_not_hold_the_loop(void **state)
{
	struct fix *f = *state;
	struct ticking t = { 0 };

	for (int i = 1; i <= 60; i++)
		assert_int_equal(fix_commit_wait(f, event_batch("s", i, 1, MIB)), 0);
	t.timer = timer_start(f->loop, 1, on_tick, &t);
	assert_int_equal(fix_verify(f), 0);
	timer_close(t.timer);
	assert_in_range(t.ticks, 2, INT32_MAX);
}

static void
log_starts_over(void **state)
{
	struct fix *f = *state;
	char path[256];
	struct stat st;

	for (int i = 1; i <= 120; i++)
		assert_int_equal(fix_commit_wait(f, event_batch("s", i, 1, MIB / 2)), 0);
	snprintf(path, sizeof(path), "%s-wal", f->path);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 48 * MIB);
	assert_int_equal(fix_count(f, "s"), 120);
	assert_int_equal(fix_verify(f), 0);
}

static void
file_is_private(void **state)
{
	struct fix *f = *state;
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_statement_prepares, setup, teardown),
		cmocka_unit_test_setup_teardown(commit_is_read_back, setup, teardown),
		cmocka_unit_test_setup_teardown(conflict_leaves_the_others_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(
			nothing_is_acknowledged_before_the_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(chains_share_commits, setup, teardown),
		cmocka_unit_test_setup_teardown(order_is_kept_across_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(queue_has_a_maximum, setup, teardown),
		cmocka_unit_test_setup_teardown(query_sees_what_was_acknowledged, setup, teardown),
		cmocka_unit_test_setup_teardown(close_flushes, setup, teardown),
		cmocka_unit_test_setup_teardown(commit_during_close_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(close_inside_a_callback, setup, teardown),
		cmocka_unit_test_setup_teardown(result_has_a_maximum, setup, teardown),
		cmocka_unit_test_setup_teardown(verify_does_not_hold_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(log_starts_over, setup, teardown),
		cmocka_unit_test_setup_teardown(file_is_private, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
