/* SPDX-License-Identifier: MIT
 * Blobs: putting, getting, finding, and who needs one. What changes blobs is a job, and jobs run
 * one after the other, so no sweep ever removes the file of a blob that is just being put. Order of
 * what becomes durable: the file, then its row; on removal the row, then its file. */
#include "store/blob_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"

#define SWEEP_MS    (3600 * 1000LL)
#define UPLOAD_SIZE 160 /* "upload:" and a user's name */

struct put {
	struct job job;
	char *owner, *bytes;
	size_t n;
	char hash[SHA256_HEX];
	blob_put_fn fn;
	void *arg;
	struct err e;
};

/* A read that is under way: exactly one callback of store or pool still comes for it. */
struct fetch {
	struct fetch *next;
	struct blobs *b;
	char hash[SHA256_HEX];
	char *bytes;
	size_t n;
	blob_get_fn get; /* or */
	blob_find_fn find;
	void *arg;
	bool is_answered;
	struct err e;
};

static void
blobs_release(struct blobs *b)
{
	if (!b->is_freed || b->busy > 0)
		return;
	free(b->dir);
	free(b);
}

char *
blob_file(const struct blobs *b, const char *hash)
{
	return xasprintf("%s/%.2s/%s", b->dir, hash, hash);
}

bool
blob_hash_valid(struct str hash)
{
	for (size_t i = 0; i < hash.n; i++)
		if (!((hash.p[i] >= '0' && hash.p[i] <= '9') ||
			    (hash.p[i] >= 'a' && hash.p[i] <= 'f')))
			return false;
	return hash.n == SHA256_HEX - 1;
}

static const char *
upload_of(const char *owner, char out[UPLOAD_SIZE])
{
	snprintf(out, UPLOAD_SIZE, "upload:%s", owner);
	return out;
}

static int
gone(struct err *e)
{
	return err_set(e, ERR_GONE, ERR_TO_USER, "the runtime is ending");
}

/* ---- jobs ---- */

void
job_waits(struct job *j)
{
	j->steps++;
	j->b->busy++;
}

static void
job_free(struct job *j)
{
	j->fini(j);
	free(j);
}

bool
job_goes_on(struct job *j, const struct err *e)
{
	struct blobs *b = j->b;

	j->steps--;
	b->busy--;
	if (j->is_answered) {
		job_free(j);
		blobs_release(b);
	} else if (e == NULL) {
		return true;
	} else {
		job_end(j, e);
	}
	return false;
}

static void
job_start(void *arg)
{
	struct blobs *b = arg;

	b->busy--;
	if (b->jobs != NULL)
		b->jobs->start(b->jobs);
	else
		blobs_release(b);
}

/* The first job starts outside of the call that brought it. */
static void
job_kick(struct blobs *b)
{
	b->busy++;
	loop_defer(b->loop, job_start, b);
}

void
job_end(struct job *j, const struct err *e)
{
	struct blobs *b = j->b;

	b->jobs = j->next;
	if (b->jobs != NULL)
		job_kick(b);
	j->answer(j, e);
	job_free(j);
}

void
job_add(struct blobs *b, struct job *j)
{
	struct job **at = &b->jobs;

	if (*at == NULL)
		job_kick(b);
	while (*at != NULL)
		at = &(*at)->next;
	*at = j;
}

/* ---- putting ---- */

static void
put_answer(struct job *j, const struct err *e)
{
	struct put *p = (struct put *)j;

	p->fn(p->arg, e == NULL ? p->hash : NULL, e);
}

static void
put_fini(struct job *j)
{
	struct put *p = (struct put *)j;

	free(p->owner);
	free(p->bytes);
}

static void
on_put(void *arg, const struct err *e)
{
	struct put *p = arg;

	if (job_goes_on(&p->job, e))
		job_end(&p->job, NULL);
}

static bool
has_file(const char *path, size_t n)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == n;
}

/* On a pool thread. What blobs_stop answered lives on until this has come back. */
static void
put_work(void *arg)
{
	struct put *p = arg;
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *dir = NULL;

	sha256_hex((struct str){ p->bytes, p->n }, p->hash);
	if (p->n <= BLOB_ROW_MAX)
		return;
	path = blob_file(p->job.b, p->hash);
	dir = xstrndup(path, strlen(path) - SHA256_HEX);
	if (!has_file(path, p->n) && path_mkdirs(dir, 0700, &p->e) == 0)
		(void)!file_write(path, (struct str){ p->bytes, p->n }, 0600, &p->e);
}

static void
put_stored(void *arg)
{
	struct put *p = arg;
	struct batch *batch;
	char upload[UPLOAD_SIZE];

	if (!job_goes_on(&p->job, p->e.code != 0 ? &p->e : NULL))
		return;
	batch = batch_new();
	BATCH(batch, STMT_BLOB_PUT, V_Z(p->hash), V_INT((int64_t)p->n),
		p->n <= BLOB_ROW_MAX ? V_BYTES(((struct str){ p->bytes, p->n })) : V_NULL,
		V_INT(clock_wall_ms()));
	BATCH(batch, STMT_BLOB_REF, V_Z(p->hash), V_Z(upload_of(p->owner, upload)));
	job_waits(&p->job);
	store_commit(p->job.b->store, batch, on_put, p);
}

static void
put_start(struct job *j)
{
	job_waits(j);
	loop_work(j->b->loop, put_work, put_stored, j);
}

struct refusal {
	blob_put_fn put;
	blob_get_fn get;
	blob_find_fn find;
	void *arg;
};

static void
refuse(void *arg)
{
	struct refusal *r = arg;
	struct err e;

	gone(&e);
	if (r->put != NULL)
		r->put(r->arg, NULL, &e);
	else if (r->get != NULL)
		r->get(r->arg, NULL, 0, &e);
	else
		r->find(r->arg, 0, &e);
	free(r);
}

static void
refuse_later(struct blobs *b, struct refusal r)
{
	struct refusal *copy = xcalloc(1, sizeof *copy);

	*copy = r;
	loop_defer(b->loop, refuse, copy);
}

void
blob_put(struct blobs *b, const char *owner, char *bytes, size_t n, blob_put_fn fn, void *arg)
{
	struct put *p;

	if (b->is_stopped) {
		free(bytes);
		refuse_later(b, (struct refusal){ .put = fn, .arg = arg });
		return;
	}
	p = xcalloc(1, sizeof *p);
	*p = (struct put){
		.job = { .b = b, .start = put_start, .answer = put_answer, .fini = put_fini },
		.owner = xstrdup(owner),
		.bytes = bytes,
		.n = n,
		.fn = fn,
		.arg = arg
	};
	job_add(b, &p->job);
}

void
blob_keep(struct batch *batch, const char *owner, struct str hash, const char *session)
{
	char upload[UPLOAD_SIZE];

	batch_add_expect(batch, STMT_BLOB_REF,
		(const struct cell_value[]){ V_TEXT(hash), V_Z(session) }, 2, 1);
	BATCH(batch, STMT_BLOB_UNREF_ONE, V_TEXT(hash), V_Z(upload_of(owner, upload)));
}

/* ---- getting and finding ---- */

static struct fetch *
fetch_new(struct blobs *b, struct str hash, blob_get_fn get, blob_find_fn find, void *arg)
{
	struct fetch *f = xcalloc(1, sizeof *f);

	*f = (struct fetch){ .next = b->fetches, .b = b, .get = get, .find = find, .arg = arg };
	snprintf(f->hash, sizeof f->hash, "%.*s", STR_FMT(hash));
	b->fetches = f;
	b->busy++;
	return f;
}

static void
fetch_answer(struct fetch *f, const struct err *e)
{
	f->is_answered = true;
	if (f->get != NULL)
		f->get(f->arg, e == NULL ? take_ptr(&f->bytes) : NULL, e == NULL ? f->n : 0, e);
	else
		f->find(f->arg, e == NULL ? (int64_t)f->n : 0, e);
}

static void
fetch_end(struct fetch *f)
{
	struct blobs *b = f->b;
	struct fetch **at = &b->fetches;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	b->busy--;
	if (!f->is_answered)
		fetch_answer(f, f->e.code != 0 ? &f->e : NULL);
	free(f->bytes);
	free(f);
	blobs_release(b);
}

static int
no_blob(struct fetch *f)
{
	return err_set(&f->e, ERR_NOT_FOUND, ERR_TO_USER,
		"there is no blob %.12s... (send the file again)", f->hash);
}

/* On a pool thread. */
static void
get_work(void *arg)
{
	struct fetch *f = arg;
	char hash[SHA256_HEX];

	if (f->bytes == NULL) {
		AUTO_FREE char *path = blob_file(f->b, f->hash);

		if (file_read(path, MEDIA_MAX, &f->bytes, &f->n, &f->e) != 0) {
			f->bytes = NULL;
			err_wrap(&f->e, "blob");
			return;
		}
	}
	sha256_hex((struct str){ f->bytes, f->n }, hash);
	if (strcmp(hash, f->hash) != 0)
		err_set(&f->e, ERR_CORRUPT, ERR_TO_USER,
			"blob %.12s... is damaged (restore it from a backup, or send the "
			"file again)",
			f->hash);
}

static void
get_done(void *arg)
{
	fetch_end(arg);
}

static void
on_get(void *arg, const struct rows *rows, const struct err *e)
{
	struct fetch *f = arg;

	err_copy(&f->e, e);
	if (e == NULL && rows_len(rows) == 0)
		no_blob(f);
	if (f->e.code != 0 || f->is_answered) {
		fetch_end(f);
		return;
	}
	if (rows_at(rows, 0, 1)->type != CELL_NULL) {
		f->n = rows_str(rows, 0, 1).n;
		f->bytes = str_dup(rows_str(rows, 0, 1));
	}
	loop_work(f->b->loop, get_work, get_done, f);
}

void
blob_get(struct blobs *b, const char *hash, blob_get_fn fn, void *arg)
{
	struct fetch *f;
	struct cell_value param;

	if (b->is_stopped) {
		refuse_later(b, (struct refusal){ .get = fn, .arg = arg });
		return;
	}
	f = fetch_new(b, str_of(hash), fn, NULL, arg);
	param = V_Z(f->hash);
	store_query(b->store, STMT_BLOB_GET, &param, 1, on_get, f);
}

static void
on_found(void *arg, const struct rows *rows, const struct err *e)
{
	struct fetch *f = arg;

	err_copy(&f->e, e);
	if (e == NULL && rows_len(rows) == 0)
		no_blob(f);
	f->n = (size_t)rows_int(rows, 0, 0);
	fetch_end(f);
}

void
blob_find(struct blobs *b, const char *owner, struct str hash, blob_find_fn fn, void *arg)
{
	char upload[UPLOAD_SIZE];
	struct cell_value params[] = { V_TEXT(hash), V_Z(owner), V_Z(upload_of(owner, upload)) };

	if (b->is_stopped)
		refuse_later(b, (struct refusal){ .find = fn, .arg = arg });
	else
		store_query(b->store, STMT_BLOB_OWNED, params, 3, on_found,
			fetch_new(b, hash, NULL, fn, arg));
}

/* ---- life ---- */

static void
on_timer(void *arg)
{
	struct blobs *b = arg;

	blobs_sweep(b);
	timer_again(b->timer, SWEEP_MS);
}

struct blobs *
blobs_open(struct store *s, struct loop *l, const char *dir)
{
	struct blobs *b = xcalloc(1, sizeof *b);

	*b = (struct blobs){ .store = s, .loop = l, .dir = xstrdup(dir) };
	b->timer = timer_start(l, SWEEP_MS, on_timer, b);
	timer_unref(b->timer);
	blobs_sweep(b);
	orphans_start(b);
	return b;
}

void
blobs_stop(struct blobs *b)
{
	struct job *j = b->jobs;
	struct err e;

	gone(&e);
	b->is_stopped = true;
	b->jobs = NULL;
	timer_close(take_ptr(&b->timer));
	for (struct fetch *f = b->fetches; f != NULL; f = f->next)
		if (!f->is_answered)
			fetch_answer(f, &e);
	while (j != NULL) {
		struct job *next = j->next;

		j->answer(j, &e);
		j->is_answered = true;
		if (j->steps == 0)
			job_free(j);
		j = next;
	}
}

void
blobs_free(struct blobs *b)
{
	if (b == NULL)
		return;
	b->is_freed = true;
	blobs_release(b);
}
