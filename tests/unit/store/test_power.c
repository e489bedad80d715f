/* SPDX-License-Identifier: MIT
 * Loss of power at every operation on the disk, from the creation of the file on: what was
 * acknowledged is there, what was not is there whole or not at all, and the file opens. A control
 * shows that the same test finds a disk that only says it synced. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/mem.h"

#define SESSIONS 3
#define ROUNDS   6
#define ROWS     4 /* of one batch */

struct worker {
	struct fix *f;
	char session[8];
	int sent, acknowledged; /* batches */
};

static void
on_round(void *arg, const struct err *e)
{
	struct worker *w = arg;

	w->f->waiting--;
	if (e == NULL) {
		w->acknowledged++;
		if (w->sent < ROUNDS) {
			w->f->waiting++;
			/* Some batches are larger than several pages. */
			store_commit(w->f->store,
				event_batch(w->session, 1 + w->sent * ROWS, ROWS,
					w->sent % 2 ? 60 : 3000),
				on_round, w);
			w->sent++;
		}
	}
	if (w->f->waiting == 0)
		loop_stop(w->f->loop);
}

/* Works until done or until the power goes. */
static void
work(struct fix *f, struct worker *w)
{
	for (int i = 0; i < SESSIONS; i++) {
		w[i] = (struct worker){ .f = f };
		snprintf(w[i].session, sizeof(w[i].session), "s%d", i);
	}
	if (fix_open(f) != 0)
		return;
	for (int i = 0; i < SESSIONS; i++) {
		f->waiting++;
		w[i].sent = 1;
		store_commit(f->store, event_batch(w[i].session, 1, ROWS, 500), on_round, &w[i]);
	}
	fix_wait(f);
	fix_close(f);
}

/* Batches that were acknowledged and are not there whole; a half batch is never fine. */
static int
lost(struct fix *f, const struct worker *w)
{
	int n = 0;

	vfs_drop_power_on(f->disk);
	if (fix_open(f) == ERR_CORRUPT)
		return SESSIONS * ROUNDS;
	if (f->code != 0)
		fail_msg("open: %s", f->err.msg);
	for (int i = 0; i < SESSIONS; i++) {
		int64_t rows = fix_count(f, w[i].session);
		assert_int_equal(rows % ROWS, 0);
		assert_true(rows <= w[i].sent * ROWS);
		n += MAX(0, w[i].acknowledged - (int)(rows / ROWS));
	}
	if (fix_verify(f) != 0)
		fail_msg("%s", f->err.msg);
	/* It goes on where it was. */
	int64_t next = fix_count(f, "s0") + 1;
	assert_int_equal(fix_commit_wait(f, event_batch("s0", next, 1, 10)), 0);
	fix_close(f);
	return n;
}

static void
start_over(struct fix *f)
{
	static const char *const suffix[] = { "", "-wal", "-shm", "-journal" };
	char path[256];

	for (size_t i = 0; i < ARRAY_LEN(suffix); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffix[i]);
		unlink(path);
	}
	vfs_drop_power_on(f->disk);
}

static void
cut_everywhere(enum cut how)
{
	struct fix f;
	struct worker w[SESSIONS];
	int64_t acknowledged = 0, cuts = 0;

	fix_init(&f, true);
	for (int64_t at = 1;; at++) {
		start_over(&f);
		vfs_drop_cut_at(f.disk, at, how, (uint64_t)at * 77);
		work(&f, w);
		if (!vfs_drop_is_off(f.disk))
			break; /* all was done before the cut */
		cuts++;
		for (int i = 0; i < SESSIONS; i++)
			acknowledged += w[i].acknowledged;
		if (lost(&f, w) != 0)
			fail_msg("acknowledged batches lost by a cut at operation %d", (int)at);
	}
	assert_true(cuts > 60);
	assert_true(acknowledged > 100); /* so there was something to lose */
	fix_fini(&f);
}

static void
cut_drops_all(void **state)
{
	cut_everywhere(CUT_ALL);
}

static void
cut_tears_the_last_write(void **state)
{
	cut_everywhere(CUT_TORN);
}

static void
cut_keeps_a_random_part(void **state)
{
	cut_everywhere(CUT_SOME);
}

/* Many batches in one group: the group is there whole or not at all. */
static void
cut_inside_a_group(void **state)
{
	struct fix f;

	fix_init(&f, true);
	for (int round = 0; round < 3; round++) {
		start_over(&f);
		assert_int_equal(fix_open(&f), 0);
		vfs_drop_hold_sync(f.disk, true);
		for (int i = 0; i < 100; i++)
			fix_commit(&f, event_batch("g", 1 + i * ROWS, ROWS, 100));
		vfs_drop_wait_sync(f.disk);
		vfs_drop_power_cut(f.disk, (enum cut)round, 5);
		fix_wait(&f);
		assert_int_equal(f.code, ERR_IO);
		fix_close(&f);
		vfs_drop_power_on(f.disk);
		assert_int_equal(fix_open(&f), 0);
		assert_int_equal(fix_count(&f, "g") % ROWS, 0);
		fix_close(&f);
	}
	fix_fini(&f);
}

static void
control_a_lying_disk_loses_data(void **state)
{
	struct fix f;
	struct worker w[SESSIONS];

	fix_init(&f, true);
	start_over(&f);
	assert_int_equal(fix_open(&f), 0); /* the empty file is sound */
	fix_close(&f);
	vfs_drop_fake_sync(f.disk, true);
	vfs_drop_cut_at(f.disk, 25, CUT_ALL, 1);
	work(&f, w);
	assert_true(vfs_drop_is_off(f.disk));
	assert_true(lost(&f, w) > 0);
	fix_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_drops_all),
		cmocka_unit_test(cut_tears_the_last_write),
		cmocka_unit_test(cut_keeps_a_random_part),
		cmocka_unit_test(cut_inside_a_group),
		cmocka_unit_test(control_a_lying_disk_loses_data),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
