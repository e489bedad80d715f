/* SPDX-License-Identifier: MIT
 * See fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/mem.h"

#define GUARD_MS 30000

static void
lost_answer(void *arg)
{
	fatal("test: an answer did not come");
}

void
fix_init(struct fix *f, bool with_disk)
{
	const char *tmp = getenv("TMPDIR");

	*f = (struct fix){ 0 };
	snprintf(f->dir, sizeof(f->dir), "%s/ithaca-store-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/t.db", f->dir);
	assert_int_equal(loop_open(&f->loop, NULL), 0);
	if (with_disk)
		f->disk = vfs_drop_new("drop");
}

static void
remove_tree(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	char path[512];

	while (d != NULL && (entry = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(dir);
}

void
fix_fini(struct fix *f)
{
	fix_close(f);
	loop_close(f->loop);
	if (f->disk != NULL)
		vfs_drop_free(f->disk);
	remove_tree(f->dir);
}

int
fix_open(struct fix *f)
{
	struct store_options o = {
		.path = f->path, .vfs = f->disk != NULL ? "drop" : NULL, .busy_ms = 20
	};

	f->err = (struct err){ 0 };
	f->code = store_open(&f->store, f->loop, &o, &f->err);
	return f->code;
}

void
fix_close(struct fix *f)
{
	store_close(f->store);
	f->store = NULL;
}

void
fix_wait(struct fix *f)
{
	struct timer *guard = timer_start(f->loop, GUARD_MS, lost_answer, f);

	while (f->waiting > 0)
		loop_run(f->loop);
	timer_close(guard);
}

static void
on_done(void *arg, const struct err *e)
{
	struct fix *f = arg;

	f->code = e != NULL ? e->code : 0;
	if (e != NULL)
		f->err = *e;
	if (--f->waiting == 0)
		loop_stop(f->loop);
}

static void
on_rows(void *arg, const struct rows *r, const struct err *e)
{
	struct fix *f = arg;

	f->code = e != NULL ? e->code : 0;
	if (e != NULL)
		f->err = *e;
	f->value = rows_len(r) != 0 ? rows_int(r, 0, 0) : -1;
	f->is_counting = false;
	loop_stop(f->loop);
}

struct batch *
event_batch(const char *session, int64_t first_seq, int n, size_t body)
{
	struct batch *b = batch_new();
	char *text = xmalloc(body + 1);

	for (size_t i = 0; i < body; i++)
		text[i] = (char)('a' + (first_seq + (int64_t)i) % 23);
	for (int i = 0; i < n; i++) {
		struct str bytes = { text, body };
		BATCH(b, STMT_EVENT_INSERT, V_Z(session), V_INT(first_seq + i), V_Z("id"),
			V_Z(NULL), V_INT(1), V_Z("notice"), V_BYTES(bytes));
	}
	free(text);
	return b;
}

void
fix_commit(struct fix *f, struct batch *b)
{
	f->waiting++;
	store_commit(f->store, b, on_done, f);
}

int
fix_commit_wait(struct fix *f, struct batch *b)
{
	fix_commit(f, b);
	fix_wait(f);
	return f->code;
}

int
fix_verify(struct fix *f)
{
	f->waiting++;
	store_verify(f->store, on_done, f);
	fix_wait(f);
	return f->code;
}

int64_t
fix_count(struct fix *f, const char *session)
{
	struct timer *guard = timer_start(f->loop, GUARD_MS, lost_answer, f);

	f->is_counting = true;
	store_query(f->store, STMT_COUNT_EVENTS, (const struct cell_value[]){ V_Z(session) }, 1,
		on_rows, f);
	while (f->is_counting)
		loop_run(f->loop);
	timer_close(guard);
	return f->value;
}
