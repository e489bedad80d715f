/* SPDX-License-Identifier: MIT
 * Blobs: rows and files, who may see one and who needs it, what a sweep leaves, damage, and the end
 * of the runtime in the middle of everything. */
#include "fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "store/blob_internal.h"

struct rig {
	struct fix f;
	struct blobs *b;
	char dir[160];
	char hash[SHA256_HEX];
	char *bytes;
	size_t n;
	int64_t size;
	int code, answers;
	char msg[ERR_MSG_MAX];
};

static void
blobs_up(struct rig *r)
{
	assert_int_equal(fix_open(&r->f), 0);
	r->b = blobs_open(r->f.store, r->f.loop, r->dir);
}

static void
blobs_down(struct rig *r)
{
	if (r->b == NULL)
		return;
	blobs_stop(r->b);
	fix_close(&r->f);
	blobs_free(r->b);
	r->b = NULL;
}

static int
setup(void **state)
{
	struct rig *r = xcalloc(1, sizeof *r);

	fix_init(&r->f, false);
	snprintf(r->dir, sizeof r->dir, "%s/blobs", r->f.dir);
	blobs_up(r);
	*state = r;
	return 0;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	blobs_down(r);
	nftw(r->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(r->bytes);
	fix_fini(&r->f);
	free(r);
	return 0;
}

static void
answered(struct rig *r, const struct err *e)
{
	r->code = e != NULL ? e->code : 0;
	snprintf(r->msg, sizeof r->msg, "%s", e != NULL ? e->msg : "");
	r->answers++;
	if (--r->f.waiting == 0)
		loop_stop(r->f.loop);
}

static void
on_put(void *arg, const char *hash, const struct err *e)
{
	struct rig *r = arg;

	snprintf(r->hash, sizeof r->hash, "%s", hash != NULL ? hash : "");
	answered(r, e);
}

static void
on_get(void *arg, char *bytes, size_t n, const struct err *e)
{
	struct rig *r = arg;

	free(r->bytes);
	r->bytes = bytes;
	r->n = n;
	answered(r, e);
}

static void
on_find(void *arg, int64_t size, const struct err *e)
{
	struct rig *r = arg;

	r->size = size;
	answered(r, e);
}

static char *
noise(size_t n, unsigned seed)
{
	char *p = xmalloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
	return p;
}

static int
put(struct rig *r, const char *owner, size_t n, unsigned seed)
{
	r->f.waiting++;
	blob_put(r->b, owner, noise(n, seed), n, on_put, r);
	fix_wait(&r->f);
	return r->code;
}

static int
get(struct rig *r, const char *hash)
{
	r->f.waiting++;
	blob_get(r->b, hash, on_get, r);
	fix_wait(&r->f);
	return r->code;
}

static int
find(struct rig *r, const char *owner, const char *hash)
{
	r->f.waiting++;
	blob_find(r->b, owner, str_of(hash), on_find, r);
	fix_wait(&r->f);
	return r->code;
}

/* Jobs run in order: when this one has its answer, so has the sweep in front of it. */
static void
sweep(struct rig *r)
{
	char hash[SHA256_HEX];

	memcpy(hash, r->hash, sizeof hash);
	blobs_sweep(r->b);
	put(r, "sweeper", 1, 1);
	memcpy(r->hash, hash, sizeof hash);
}

static bool
has_file(struct rig *r, const char *hash)
{
	char *path = blob_file(r->b, hash);
	bool yes = access(path, F_OK) == 0;

	free(path);
	return yes;
}

static struct batch *
session_batch(const char *id, const char *owner)
{
	struct batch *b = batch_new();

	BATCH(b, STMT_SESSION_INSERT, V_Z(id), V_Z(owner), V_Z(NULL), V_Z("default"), V_Z("/w"),
		V_Z("read_only"), V_INT(1));
	return b;
}

static void
test_what_is_put_is_read_back(void **state)
{
	static const size_t sizes[] = { 1, BLOB_ROW_MAX, BLOB_ROW_MAX + 1, 3 * MIB };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char *want = noise(sizes[i], (unsigned)i);
		char hash[SHA256_HEX];

		sha256_hex((struct str){ want, sizes[i] }, hash);
		assert_int_equal(put(r, "me", sizes[i], (unsigned)i), 0);
		assert_string_equal(r->hash, hash);
		assert_int_equal(has_file(r, hash), sizes[i] > BLOB_ROW_MAX);
		assert_int_equal(put(r, "me", sizes[i], (unsigned)i), 0); /* once more is once */
		assert_int_equal(get(r, hash), 0);
		assert_int_equal(r->n, sizes[i]);
		assert_memory_equal(r->bytes, want, sizes[i]);
		free(want);
	}
	sha256_hex(STR("nothing"), r->hash);
	assert_int_equal(get(r, r->hash), ERR_NOT_FOUND);
}

static void
test_who_may_see_it(void **state)
{
	struct rig *r = *state;
	struct batch *b;

	assert_int_equal(put(r, "me", 100, 7), 0);
	assert_int_equal(find(r, "me", r->hash), 0);
	assert_int_equal(r->size, 100);
	assert_int_equal(find(r, "you", r->hash), ERR_NOT_FOUND);
	b = session_batch("s1", "me");
	blob_keep(b, "me", str_of(r->hash), "s1");
	blob_keep(b, "me", str_of(r->hash), "s1"); /* twice in one message */
	assert_int_equal(fix_commit_wait(&r->f, b), 0);
	assert_int_equal(find(r, "me", r->hash), 0);
	assert_int_equal(find(r, "you", r->hash), ERR_NOT_FOUND);
	assert_int_equal(put(r, "you", 100, 7), 0); /* who has the bytes may use them */
	assert_int_equal(find(r, "you", r->hash), 0);
	b = batch_new();
	blob_keep(b, "me", STR("0000000000000000000000000000000000000000000000000000000000000000"),
		"s1");
	assert_int_equal(fix_commit_wait(&r->f, b), ERR_CONFLICT);
}

static void
test_a_sweep_takes_what_nobody_needs(void **state)
{
	struct rig *r = *state;
	struct batch *b = session_batch("s1", "me");
	struct cell_value session = V_Z("s1");

	assert_int_equal(put(r, "me", BLOB_ROW_MAX + 1, 3), 0);
	sweep(r);
	assert_int_equal(find(r, "me", r->hash), 0); /* just uploaded */
	blob_keep(b, "me", str_of(r->hash), "s1");
	assert_int_equal(fix_commit_wait(&r->f, b), 0);
	sweep(r);
	assert_int_equal(get(r, r->hash), 0);
	b = batch_new();
	batch_add(b, STMT_BLOB_UNREF, &session, 1);
	assert_int_equal(fix_commit_wait(&r->f, b), 0);
	sweep(r);
	assert_int_equal(get(r, r->hash), ERR_NOT_FOUND);
	assert_false(has_file(r, r->hash));
}

static void
test_an_upload_that_no_message_took_ends(void **state)
{
	struct rig *r = *state;
	struct batch *b = batch_new();

	for (unsigned i = 0; i < 120; i++) /* more than one round of a sweep */
		assert_int_equal(put(r, "me", 10, i), 0);
	for (unsigned i = 0; i < 120; i++) {
		char hash[SHA256_HEX];
		char *bytes = noise(10, i);

		sha256_hex((struct str){ bytes, 10 }, hash);
		free(bytes);
		BATCH(b, STMT_BLOB_PUT, V_TEXT(str_of(hash)), V_INT(10), V_NULL,
			V_INT(clock_wall_ms() - BLOB_UPLOAD_MS - 1));
	}
	assert_int_equal(fix_commit_wait(&r->f, b), 0);
	assert_int_equal(put(r, "me", 10, 5), 0); /* brought again: its time starts over */
	sweep(r);
	assert_int_equal(find(r, "me", r->hash), 0);
	for (unsigned i = 0; i < 120; i++) {
		char hash[SHA256_HEX];
		char *bytes = noise(10, i);

		sha256_hex((struct str){ bytes, 10 }, hash);
		free(bytes);
		assert_int_equal(get(r, hash), i == 5 ? 0 : ERR_NOT_FOUND);
	}
}

static void
test_files_without_a_row_go_at_the_start(void **state)
{
	struct rig *r = *state;
	char *orphan, *temp;
	char hash[SHA256_HEX];
	struct err e;

	assert_int_equal(put(r, "me", BLOB_ROW_MAX + 1, 3), 0);
	sha256_hex(STR("crashed"), hash);
	memcpy(hash, r->hash, 2); /* in a directory that is there */
	orphan = blob_file(r->b, hash);
	temp = xasprintf("%s.0.tmp", orphan);
	assert_int_equal(file_write(orphan, STR("x"), 0600, &e), 0);
	assert_int_equal(file_write(temp, STR("x"), 0600, &e), 0);
	blobs_down(r);
	blobs_up(r);
	sweep(r);
	assert_int_equal(access(orphan, F_OK), -1);
	assert_int_equal(access(temp, F_OK), -1);
	assert_int_equal(get(r, r->hash), 0);
	free(orphan);
	free(temp);
}

static void
test_damage_is_told(void **state)
{
	struct rig *r = *state;
	char *path;
	int fd;

	assert_int_equal(put(r, "me", BLOB_ROW_MAX + 1, 3), 0);
	path = blob_file(r->b, r->hash);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "x!", 2, 100), 2);
	close(fd);
	assert_int_equal(get(r, r->hash), ERR_CORRUPT);
	assert_non_null(strstr(r->msg, "damaged"));
	unlink(path);
	assert_int_equal(get(r, r->hash), ERR_NOT_FOUND);
	assert_int_equal(put(r, "me", BLOB_ROW_MAX + 1, 3), 0); /* sending it again repairs it */
	assert_int_equal(get(r, r->hash), 0);
	free(path);
}

static void
test_a_disk_that_refuses(void **state)
{
	struct rig *r = *state;
	int fd = open(r->dir, O_WRONLY | O_CREAT, 0600); /* a file where the directory should be */

	close(fd);
	assert_int_not_equal(put(r, "me", BLOB_ROW_MAX + 1, 3), 0);
	assert_true(r->msg[0] != '\0');
	unlink(r->dir);
	assert_int_equal(put(r, "me", 10, 3), 0);
}

/* Stopped with puts, reads and sweeps at every stage: each is answered once, nothing leaks, and a
 * late call is refused. */
static void
test_stop_in_the_middle(void **state)
{
	struct rig *r = *state;

	for (int passes = 0; passes < 12; passes++) {
		int before = r->answers;
		struct timer *t;

		assert_int_equal(put(r, "me", BLOB_ROW_MAX + 1, 9), 0);
		r->f.waiting = 1000; /* only counted */
		for (unsigned i = 0; i < 3; i++)
			blob_put(r->b, "me", noise(BLOB_ROW_MAX + 1, i), BLOB_ROW_MAX + 1, on_put,
				r);
		blobs_sweep(r->b);
		blob_get(r->b, r->hash, on_get, r);
		blob_find(r->b, "me", str_of(r->hash), on_find, r);
		t = timer_start(r->f.loop, passes, (loop_fn)loop_stop, r->f.loop);
		loop_run(r->f.loop);
		timer_close(t);
		blobs_stop(r->b);
		assert_int_equal(r->answers - before, 6);
		blob_put(r->b, "me", noise(1, 1), 1, on_put, r);
		blob_get(r->b, r->hash, on_get, r);
		blob_find(r->b, "me", str_of(r->hash), on_find, r);
		assert_int_equal(r->answers - before, 6); /* not inside the call */
		fix_close(&r->f);
		t = timer_start(r->f.loop, 0, (loop_fn)loop_stop, r->f.loop);
		loop_run(r->f.loop);
		timer_close(t);
		assert_int_equal(r->answers - before, 9);
		assert_int_equal(r->code, ERR_GONE);
		blobs_free(r->b);
		r->f.waiting = 0;
		blobs_up(r);
	}
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_what_is_put_is_read_back),
		T(test_who_may_see_it),
		T(test_a_sweep_takes_what_nobody_needs),
		T(test_an_upload_that_no_message_took_ends),
		T(test_files_without_a_row_go_at_the_start),
		T(test_damage_is_told),
		T(test_a_disk_that_refuses),
		T(test_stop_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
