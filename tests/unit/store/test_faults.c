/* SPDX-License-Identifier: MIT
 * Everything that can be wrong with the file or the disk: the right code, a message that names file
 * and fix, nothing acknowledged that is not there, and work goes on when the cause is gone. */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"

#define NOBODY 65534

static int
setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	fix_init(f, true);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fix *f = *state;

	vfs_drop_power_on(f->disk);
	fix_fini(f);
	free(f);
	return 0;
}

/* The message names the file (its end), says how to fix it, and was not cut. */
static void
assert_clear(const struct fix *f, int code, const char *what)
{
	size_t n = strlen(f->err.msg);

	if (f->err.code != code || strstr(f->err.msg, what) == NULL ||
		strstr(f->err.msg, "t.db") == NULL || n == 0 || f->err.msg[n - 1] != ')')
		fail_msg("not what was expected (%s): %s: %s", what, err_name(f->err.code),
			f->err.msg);
}

static void
make_sound(struct fix *f, int events)
{
	assert_int_equal(fix_open(f), 0);
	for (int i = 1; i <= events; i++)
		assert_int_equal(fix_commit_wait(f, event_batch("s", i, 1, 900)), 0);
	fix_close(f);
}

static sqlite3 *
other_process(struct fix *f, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	return db;
}

static void
patch(struct fix *f, off_t offset, const char *bytes, size_t n)
{
	int fd = open(f->path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, offset), n);
	close(fd);
}

static void
locked_while_it_is_made(void **state)
{
	struct fix *f = *state;
	sqlite3 *db = other_process(f, "BEGIN IMMEDIATE");

	assert_int_equal(fix_open(f), ERR_BUSY);
	assert_clear(f, ERR_BUSY, "locked by another process");
	sqlite3_close(db);
	assert_int_equal(fix_open(f), 0);
}

static void
locked_while_it_works(void **state)
{
	struct fix *f = *state;
	sqlite3 *db;

	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 1, 1, 10)), 0);
	db = other_process(f, "BEGIN IMMEDIATE");
	assert_int_equal(fix_commit_wait(f, event_batch("s", 2, 1, 10)), ERR_BUSY);
	assert_clear(f, ERR_BUSY, "locked by another process");
	assert_int_equal(fix_count(f, "s"), 1); /* reading goes on */
	sqlite3_close(db);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 2, 1, 10)), 0);
	assert_int_equal(fix_count(f, "s"), 2);
}

static void
locked_altogether(void **state)
{
	struct fix *f = *state;
	sqlite3 *db;

	make_sound(f, 1);
	db = other_process(f, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
	assert_int_equal(fix_open(f), ERR_BUSY);
	assert_clear(f, ERR_BUSY, "locked by another process");
	sqlite3_close(db);
	assert_int_equal(fix_open(f), 0);
}

/* File modes bind only an ordinary user. */
static bool
become_nobody(struct fix *f)
{
	if (geteuid() != 0)
		return false;
	assert_int_equal(chown(f->dir, NOBODY, NOBODY), 0);
	assert_int_equal(chown(f->path, NOBODY, NOBODY), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	return true;
}

static void
read_only_file(void **state)
{
	struct fix *f = *state;
	bool was_root;

	make_sound(f, 1);
	was_root = become_nobody(f);
	chmod(f->path, 0400);
	fix_open(f);
	assert_clear(f, ERR_READONLY, "read-only");
	chmod(f->path, 0600);
	chmod(f->dir, 0500);
	fix_open(f);
	assert_clear(f, ERR_READONLY, "its directory writable");
	chmod(f->dir, 0700);
	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_count(f, "s"), 1);
	fix_close(f);
	assert_true(!was_root || seteuid(0) == 0);
}

static void
read_only_directory_without_a_file(void **state)
{
	struct fix *f = *state;
	bool was_root;

	make_sound(f, 0);
	was_root = become_nobody(f);
	unlink(f->path);
	chmod(f->dir, 0500);
	assert_int_equal(fix_open(f), ERR_DENIED);
	assert_non_null(strstr(f->err.msg, "t.db"));
	chmod(f->dir, 0700);
	assert_true(!was_root || seteuid(0) == 0);
}

static void
missing_directory(void **state)
{
	struct fix *f = *state;
	struct store_options o = { .path = "/nonexistent-ithaca/t.db" };

	assert_int_equal(store_open(&f->store, f->loop, &o, &f->err), ERR_NOT_FOUND);
	o.path = f->dir;
	assert_int_equal(store_open(&f->store, f->loop, &o, &f->err), ERR_INVALID);
	assert_null(f->store);
}

static void
damaged_header(void **state)
{
	struct fix *f = *state;

	make_sound(f, 3);
	patch(f, 0, "not a database..", 16);
	fix_open(f);
	assert_clear(f, ERR_CORRUPT, "header is damaged");
	assert_null(f->store);
}

static void
text_file(void **state)
{
	struct fix *f = *state;
	FILE *text = fopen(f->path, "w");

	fputs("hello\n", text);
	fclose(text);
	fix_open(f);
	assert_clear(f, ERR_CORRUPT, "is not a database");
}

static void
truncated_file(void **state)
{
	struct fix *f = *state;
	char log[200];

	make_sound(f, 40);
	assert_int_equal(truncate(f->path, 4096 * 3), 0);
	assert_int_equal(fix_open(f), ERR_CORRUPT);
	assert_clear(f, ERR_CORRUPT, "is damaged");
	assert_int_equal(truncate(f->path, 100), 0);
	assert_int_equal(fix_open(f), ERR_CORRUPT);
	/* An empty file beside a log that is not empty is not a new database. */
	assert_int_equal(truncate(f->path, 0), 0);
	snprintf(log, sizeof(log), "%s-wal", f->path);
	FILE *text = fopen(log, "w");
	fputs("frames", text);
	fclose(text);
	assert_int_equal(fix_open(f), ERR_CORRUPT);
	assert_clear(f, ERR_CORRUPT, "is empty but its log is not");
	unlink(log);
	assert_int_equal(fix_open(f), 0);
}

/* Damage inside a page does not show at once, but in verify, and in the commit that meets it. */
static void
damaged_page(void **state)
{
	struct fix *f = *state;
	char noise[4096];

	make_sound(f, 200);
	memset(noise, 0x5a, sizeof(noise));
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	for (off_t at = 4096 * 16; at < st.st_size; at += 4096)
		patch(f, at, noise, sizeof(noise));
	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_verify(f), ERR_CORRUPT);
	assert_clear(f, ERR_CORRUPT, "is damaged");
	assert_int_equal(fix_commit_wait(f, event_batch("s", 201, 1, 10)), ERR_CORRUPT);
	assert_clear(f, ERR_CORRUPT, "restore the last backup");
}

static void
file_of_another_program(void **state)
{
	struct fix *f = *state;

	sqlite3_close(
		other_process(f, "CREATE TABLE bookmarks (a); INSERT INTO bookmarks VALUES (1)"));
	fix_open(f);
	assert_clear(f, ERR_INVALID, "belongs to another program");
	sqlite3_close(other_process(f, "SELECT * FROM bookmarks")); /* and is untouched */
}

static void
newer_schema(void **state)
{
	struct fix *f = *state;

	make_sound(f, 1);
	sqlite3_close(other_process(f, "UPDATE meta SET value = '999' WHERE name = 'schema'"));
	assert_int_equal(fix_open(f), 0); /* it says that we can still work with it */
	assert_int_equal(fix_commit_wait(f, event_batch("s", 2, 1, 10)), 0);
	fix_close(f);
	sqlite3_close(other_process(f, "UPDATE meta SET value = '998' WHERE name = 'min_reader'"));
	fix_open(f);
	assert_clear(f, ERR_UNSUPPORTED, "has schema 999");
	sqlite3_close(other_process(f, "DELETE FROM meta"));
	fix_open(f);
	assert_clear(f, ERR_CORRUPT, "schema version");
}

/* ---- a disk that fails while it is used ---- */

static void
full_disk(void **state)
{
	struct fix *f = *state;
	int64_t n = 1;

	assert_int_equal(fix_open(f), 0);
	vfs_drop_room(f->disk, 200 * KIB);
	while (fix_commit_wait(f, event_batch("s", n, 1, 5000)) == 0)
		n++;
	assert_clear(f, ERR_FULL, "disk is full");
	assert_true(n > 10);
	assert_int_equal(fix_count(f, "s"), n - 1);
	assert_int_equal(fix_commit_wait(f, event_batch("s", n, 1, 5000)), ERR_FULL);
	vfs_drop_room(f->disk, -1);
	assert_int_equal(fix_commit_wait(f, event_batch("s", n, 1, 5000)), 0);
	assert_int_equal(fix_count(f, "s"), n);
	vfs_drop_power_cut(f->disk, CUT_ALL, 0);
	fix_close(f);
	vfs_drop_power_on(f->disk);
	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_count(f, "s"), n);
	assert_int_equal(fix_verify(f), 0);
}

static void
full_disk_fails_the_whole_group(void **state)
{
	struct fix *f = *state;

	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 1, 1, 10)), 0);
	vfs_drop_hold_sync(f->disk, true);
	fix_commit(f, event_batch("s", 2, 1, 10));
	vfs_drop_wait_sync(f->disk);
	for (int i = 3; i <= 30; i++)
		fix_commit(f, event_batch("s", i, 1, 10000));
	vfs_drop_room(f->disk, 8 * KIB);
	vfs_drop_hold_sync(f->disk, false);
	fix_wait(f);
	assert_int_equal(f->code, ERR_FULL);
	assert_int_equal(fix_count(f, "s"), 2);
	vfs_drop_room(f->disk, -1);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 3, 1, 10)), 0);
}

static void
full_disk_at_creation(void **state)
{
	struct fix *f = *state;

	for (int64_t room = 0; room < 200 * KIB; room += 6000) {
		vfs_drop_room(f->disk, room);
		if (fix_open(f) == 0)
			break;
		assert_int_equal(f->code, ERR_FULL);
	}
	assert_int_equal(f->code, 0); /* what was begun before is gone on with */
}

static void
failing_disk(void **state)
{
	static const struct {
		enum disk_op op;
		int rc, code;
	} rows[] = {
		{ DISK_SYNC, SQLITE_IOERR_FSYNC, ERR_IO },
		{ DISK_WRITE, SQLITE_IOERR_WRITE, ERR_IO },
		{ DISK_WRITE, SQLITE_READONLY, ERR_READONLY },
		{ DISK_WRITE, SQLITE_CORRUPT, ERR_CORRUPT },
		{ DISK_WRITE, SQLITE_FULL, ERR_FULL },
	};
	struct fix *f = *state;

	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 1, 1, 10)), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t n = 2 + (int64_t)i;
		vfs_drop_fail(f->disk, rows[i].op, rows[i].rc, 1);
		assert_int_equal(fix_commit_wait(f, event_batch("s", n, 1, 10)), rows[i].code);
		assert_int_equal(fix_count(f, "s"), n - 1);
		assert_int_equal(fix_commit_wait(f, event_batch("s", n, 1, 10)), 0);
	}
	assert_int_equal(fix_verify(f), 0);
}

static void
failing_reader_recovers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(fix_open(f), 0);
	assert_int_equal(fix_commit_wait(f, event_batch("s", 1, 1, 10)), 0);
	vfs_drop_fail(f->disk, DISK_OPEN, SQLITE_CANTOPEN, 1);
	assert_int_equal(fix_count(f, "s"), -1);
	assert_int_equal(f->err.code, ERR_IO);
	assert_int_equal(fix_count(f, "s"), 1);
}

/* As full, with the reason that helps: the limit of this process, not the disk. */
static void
file_size_limit(void **state)
{
	struct rlimit old, small = { .rlim_cur = 200 * KIB };
	struct fix f;
	int64_t n = 1;

	fix_init(&f, false);
	assert_int_equal(fix_open(&f), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	while (n < 1000 && fix_commit_wait(&f, event_batch("s", n, 1, 5000)) == 0)
		n++;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_clear(&f, ERR_FULL, "file size limit");
	assert_int_equal(fix_count(&f, "s"), n - 1);
	assert_int_equal(fix_commit_wait(&f, event_batch("s", n, 1, 5000)), 0);
	assert_int_equal(fix_count(&f, "s"), n);
	fix_close(&f);
	fix_fini(&f);
}

/* The same on a real full disk, where this user may mount one. */
static void
full_file_system(void **state)
{
	struct fix f;
	int64_t n = 1;

	fix_init(&f, false);
	if (geteuid() != 0 || mount("ithaca", f.dir, "tmpfs", 0, "size=512k") != 0) {
		print_message("SKIP full_file_system: may not mount a tmpfs here\n");
		fix_fini(&f);
		return;
	}
	assert_int_equal(fix_open(&f), 0);
	while (fix_commit_wait(&f, event_batch("s", n, 1, 5000)) == 0)
		n++;
	assert_clear(&f, ERR_FULL, "disk is full");
	assert_int_equal(fix_count(&f, "s"), n - 1);
	assert_int_equal(mount("ithaca", f.dir, "tmpfs", MS_REMOUNT, "size=4m"), 0);
	assert_int_equal(fix_commit_wait(&f, event_batch("s", n, 1, 5000)), 0);
	fix_close(&f);
	assert_int_equal(fix_open(&f), 0);
	assert_int_equal(fix_count(&f, "s"), n);
	fix_close(&f);
	umount2(f.dir, MNT_DETACH);
	fix_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(locked_while_it_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(locked_while_it_works, setup, teardown),
		cmocka_unit_test_setup_teardown(locked_altogether, setup, teardown),
		cmocka_unit_test_setup_teardown(read_only_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			read_only_directory_without_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(missing_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_header, setup, teardown),
		cmocka_unit_test_setup_teardown(text_file, setup, teardown),
		cmocka_unit_test_setup_teardown(truncated_file, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_page, setup, teardown),
		cmocka_unit_test_setup_teardown(file_of_another_program, setup, teardown),
		cmocka_unit_test_setup_teardown(newer_schema, setup, teardown),
		cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(full_disk_fails_the_whole_group, setup, teardown),
		cmocka_unit_test_setup_teardown(full_disk_at_creation, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_reader_recovers, setup, teardown),
		cmocka_unit_test(file_size_limit),
		cmocka_unit_test(full_file_system),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
