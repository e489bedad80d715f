/* SPDX-License-Identifier: MIT
 * Removing blobs: rows that nobody needs, each in a commit of its own that fails when somebody came
 * to need it meanwhile, and behind it the file; and once, after the start, files that have no row
 * because a crash came between file and row. Both are jobs, so nothing is being put while they run.
 */
#include "store/blob_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#define SWEEP_AT_ONCE 100

struct found {
	char hash[SHA256_HEX];
	bool is_file;
};

struct sweep {
	struct job job;
	struct found *found;
	size_t n, cap, at;
};

static void
found_add(struct sweep *s, struct str hash, bool is_file)
{
	s->found = vec_grow(s->found, &s->cap, s->n + 1, sizeof *s->found);
	snprintf(s->found[s->n].hash, sizeof s->found[s->n].hash, "%.*s", STR_FMT(hash));
	s->found[s->n++].is_file = is_file;
}

static void
sweep_answer(struct job *j, const struct err *e)
{
	if (e != NULL && e->code != ERR_GONE)
		log_warn("blobs that nobody needs were not removed", LOG_E(e));
}

static void
sweep_fini(struct job *j)
{
	free(((struct sweep *)j)->found);
}

static void
remove_file(const struct sweep *s)
{
	AUTO_FREE char *path = blob_file(s->job.b, s->found[s->at].hash);

	if (unlink(path) != 0 && errno != ENOENT)
		log_warn("the file of a removed blob is still there", LOG_S("file", path),
			LOG_I("errno", errno));
}

/* ---- rows that nobody needs ---- */

static void unused_ask(struct job *j);
static void unused_next(struct sweep *s);

static void
on_removed(void *arg, const struct err *e)
{
	struct sweep *s = arg;

	if (!job_goes_on(&s->job, e != NULL && e->code == ERR_CONFLICT ? NULL : e)) /* conflict: it is needed again, and stays */
		return;
	if (e == NULL && s->found[s->at].is_file)
		remove_file(s);
	s->at++;
	unused_next(s);
}

static void
unused_next(struct sweep *s)
{
	struct cell_value hash;
	struct batch *batch;

	if (s->at == s->n) {
		if (s->n == SWEEP_AT_ONCE) {
			s->n = s->at = 0;
			unused_ask(&s->job);
		} else {
			job_end(&s->job, NULL);
		}
		return;
	}
	hash = V_Z(s->found[s->at].hash);
	batch = batch_new();
	BATCH(batch, STMT_BLOB_UNREF_UPLOADS, hash);
	batch_add_expect(batch, STMT_BLOB_DELETE, &hash, 1, 1);
	job_waits(&s->job);
	store_commit(s->job.b->store, batch, on_removed, s);
}

static void
on_unused(void *arg, const struct rows *rows, const struct err *e)
{
	struct sweep *s = arg;

	if (!job_goes_on(&s->job, e))
		return;
	for (size_t i = 0; i < rows_len(rows); i++)
		found_add(s, rows_str(rows, i, 0), rows_int(rows, i, 1) > BLOB_ROW_MAX);
	unused_next(s);
}

static void
unused_ask(struct job *j)
{
	struct cell_value params[] = { V_INT(clock_wall_ms() - BLOB_UPLOAD_MS),
		V_INT(SWEEP_AT_ONCE) };

	job_waits(j);
	store_query(j->b->store, STMT_BLOB_UNUSED, params, 2, on_unused, j);
}

void
blobs_sweep(struct blobs *b)
{
	struct sweep *s;

	if (b->is_stopped)
		return;
	s = xcalloc(1, sizeof *s);
	s->job = (struct job){
		.b = b, .start = unused_ask, .answer = sweep_answer, .fini = sweep_fini
	};
	job_add(b, &s->job);
}

/* ---- files without a row ---- */

/* On a pool thread: names of blobs, and what a write left behind when it was cut off. */
static void
list_files(void *arg)
{
	struct sweep *s = arg;

	for (int i = 0; i < 256; i++) {
		AUTO_FREE char *path = xasprintf("%s/%02x", s->job.b->dir, (unsigned)i);
		DIR *d = opendir(path);
		struct dirent *entry;

		while (d != NULL && (entry = readdir(d)) != NULL) {
			if (blob_hash_valid(str_of(entry->d_name)))
				found_add(s, str_of(entry->d_name), true);
			else if (str_ends(str_of(entry->d_name), ".tmp"))
				(void)unlinkat(dirfd(d), entry->d_name, 0);
		}
		if (d != NULL)
			closedir(d);
	}
}

static void on_row(void *arg, const struct rows *rows, const struct err *e);

static void
orphan_next(struct sweep *s)
{
	struct cell_value hash;

	if (s->at == s->n) {
		job_end(&s->job, NULL);
		return;
	}
	hash = V_Z(s->found[s->at].hash);
	job_waits(&s->job);
	store_query(s->job.b->store, STMT_BLOB_SIZE, &hash, 1, on_row, s);
}

static void
on_row(void *arg, const struct rows *rows, const struct err *e)
{
	struct sweep *s = arg;

	if (!job_goes_on(&s->job, e))
		return;
	if (rows_len(rows) == 0)
		remove_file(s);
	s->at++;
	orphan_next(s);
}

static void
on_listed(void *arg)
{
	struct sweep *s = arg;

	if (job_goes_on(&s->job, NULL))
		orphan_next(s);
}

static void
orphans_list(struct job *j)
{
	job_waits(j);
	loop_work(j->b->loop, list_files, on_listed, j);
}

void
orphans_start(struct blobs *b)
{
	struct sweep *s;

	if (access(b->dir, F_OK) != 0)
		return;
	s = xcalloc(1, sizeof *s);
	s->job = (struct job){
		.b = b, .start = orphans_list, .answer = sweep_answer, .fini = sweep_fini
	};
	job_add(b, &s->job);
}
