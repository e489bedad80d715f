/* SPDX-License-Identifier: MIT
 * The store's life and its calls from the loop's thread: open, queue batches and queries, hand
 * answers back, close. Does not run SQL. Invariants: every accepted callback is called exactly
 * once, on the loop's thread, in the order in which the work was done; after store_close no
 * callback runs. */
#include "store/internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREAD_STACK (512 * KIB)

void
tickets_add(struct ticket_list *l, struct ticket *t)
{
	t->next = NULL;
	if (l->tail != NULL)
		l->tail->next = t;
	else
		l->head = t;
	l->tail = t;
	l->n++;
}

struct ticket *
tickets_take(struct ticket_list *l)
{
	struct ticket *t = l->head;

	if (t == NULL)
		return NULL;
	l->head = t->next;
	if (l->head == NULL)
		l->tail = NULL;
	l->n--;
	return t;
}

void
ticket_fail(struct ticket *t, const struct err *e)
{
	if (t->err != NULL)
		return;
	t->err = xmalloc(sizeof(*t->err));
	*t->err = *e;
}

int
thread_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	rc = pthread_create(t, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

/* ---- the way back to the loop's thread ---- */

static void
outbox_unref(struct outbox *o)
{
	int refs;

	pthread_mutex_lock(&o->lock);
	refs = --o->refs;
	pthread_mutex_unlock(&o->lock);
	if (refs > 0)
		return;
	pthread_mutex_destroy(&o->lock);
	free(o);
}

static struct ticket *
outbox_take(struct outbox *o)
{
	struct ticket *t;

	pthread_mutex_lock(&o->lock);
	t = tickets_take(&o->done);
	pthread_mutex_unlock(&o->lock);
	return t;
}

static void
outbox_posted(void *arg)
{
	struct outbox *o = arg;
	struct ticket *t;
	size_t n;

	pthread_mutex_lock(&o->lock);
	o->posted = false;
	n = o->done.n;
	pthread_mutex_unlock(&o->lock);
	/* One by one, because a callback may close the store, which answers the rest; and no more
	 * than were there, so that a busy store leaves the loop time for others. What comes later
	 * posts again. */
	while (n-- > 0 && (t = outbox_take(o)) != NULL)
		t->finish(t);
	outbox_unref(o);
}

void
outbox_put(struct outbox *o, struct ticket_list *l)
{
	struct ticket *t;
	bool post;

	pthread_mutex_lock(&o->lock);
	while ((t = tickets_take(l)) != NULL)
		tickets_add(&o->done, t);
	post = !o->posted;
	o->posted = true;
	o->refs += post;
	pthread_mutex_unlock(&o->lock);
	if (post)
		loop_post(o->loop, outbox_posted, o);
}

/* ---- open and close ---- */

/* The library would create the file readable for all. Also catches a file that lost its content:
 * with a log beside it, an empty file is not a new one, and the library would throw the log away.
 */
static int
create_file(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st, log;
	char *log_path;
	int rc;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno != EEXIST)
		return err_errno(e, errno, ERR_TO_USER, "cannot create the database %.90s", path);
	if (stat(path, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot open the database %.90s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"database %.90s is not a regular file (choose another path in store.url)",
			path);
	log_path = xasprintf("%s-wal", path);
	rc = stat(log_path, &log);
	free(log_path);
	if (st.st_size == 0 && rc == 0 && log.st_size > 0)
		return err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"database %.90s is empty but its log is not (restore the last backup)",
			path);
	return 0;
}

static struct outbox *
outbox_new(struct loop *l)
{
	struct outbox *o = xcalloc(1, sizeof(*o));

	pthread_mutex_init(&o->lock, NULL);
	o->loop = l;
	o->refs = 1;
	return o;
}

static void
store_free(struct store *s)
{
	conn_close(&s->writer);
	outbox_unref(s->outbox);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->writer_lock);
	pthread_cond_destroy(&s->writer_wake);
	pthread_cond_destroy(&s->reader_wake);
	free(s->path);
	free(s->vfs);
	free(s);
}

static struct store *
store_new(struct loop *l, const struct store_options *o)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->path = xstrdup(o->path);
	s->vfs = o->vfs != NULL ? xstrdup(o->vfs) : NULL;
	s->options =
		(struct store_options){ .path = s->path, .vfs = s->vfs, .busy_ms = o->busy_ms };
	s->loop = l;
	s->outbox = outbox_new(l);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->writer_lock, NULL);
	pthread_cond_init(&s->writer_wake, NULL);
	pthread_cond_init(&s->reader_wake, NULL);
	return s;
}

int
store_open(struct store **out, struct loop *l, const struct store_options *o, struct err *e)
{
	struct err why = { 0 };
	struct store *s;
	int rc = create_file(o->path, e);

	if (rc != 0)
		return rc;
	s = store_new(l, o);
	rc = conn_open(&s->writer, CONN_WRITER, &s->options, &why);
	if (rc == 0)
		rc = store_migrate(&s->writer, &why);
	if (rc == 0) {
		rc = thread_start(&s->writer_thread, writer_main, s);
		if (rc != 0)
			rc = err_errno(&why, rc, ERR_TO_USER, "cannot start the database's writer");
	}
	if (rc == 0) {
		*out = s;
		return 0;
	}
	store_free(s);
	return err_copy(e, &why);
}

void
store_close(struct store *s)
{
	struct ticket *t;

	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_broadcast(&s->writer_wake);
	pthread_cond_broadcast(&s->reader_wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->writer_thread, NULL);
	for (int i = 0; i < s->readers; i++)
		pthread_join(s->reader_threads[i], NULL);
	while ((t = outbox_take(s->outbox)) != NULL)
		t->finish(t);
	store_free(s);
}

/* ---- commits ---- */

static void
batch_finish(struct ticket *t)
{
	struct batch *b = (struct batch *)t;

	if (b->done != NULL)
		b->done(b->arg, t->err);
	batch_free(b);
}

/* Whether b may wait in the queue; sets why not. With s->lock held. */
static int
admit_batch(struct store *s, const struct batch *b, struct err *e)
{
	if (s->closing)
		return err_set(e, ERR_GONE, ERR_TO_LOG, "the database is closed");
	if (b->too_big)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"a batch for the database is larger than %u MiB (store large content as "
			"files)",
			STORE_BATCH_MAX / MIB);
	if (s->batches_bytes + b->used > STORE_QUEUE_MAX)
		return err_set(e, ERR_BUSY, ERR_TO_USER,
			"the database cannot keep up: %u MiB wait to be written (try again later)",
			STORE_QUEUE_MAX / MIB);
	return 0;
}

void
store_commit(struct store *s, struct batch *b, store_done_fn done, void *arg)
{
	struct ticket_list refused = { 0 };
	struct err e = { 0 };

	b->ticket.finish = batch_finish;
	b->done = done;
	b->arg = arg;
	pthread_mutex_lock(&s->lock);
	if (admit_batch(s, b, &e) != 0) {
		batch_fini(b); /* its memory; it still waits its turn, so that answers keep their
				  order */
		b->ticket.finish = batch_finish;
		ticket_fail(&b->ticket, &e);
	}
	if (!s->closing) {
		s->batches_bytes += b->used;
		tickets_add(&s->batches, &b->ticket);
		pthread_cond_signal(&s->writer_wake);
	} else {
		tickets_add(&refused, &b->ticket);
	}
	pthread_mutex_unlock(&s->lock);
	if (refused.head != NULL)
		outbox_put(s->outbox, &refused);
}

/* ---- queries ---- */

static void
read_finish(struct ticket *t)
{
	struct read *r = (struct read *)t;

	r->done(r->arg, r->rows, t->err);
	rows_free(r->rows);
	free(t->err);
	batch_fini(&r->params);
	free(r);
}

void
store_query(struct store *s, enum stmt st, const struct cell_value *params, size_t n,
	store_rows_fn done, void *arg)
{
	struct read *r = xcalloc(1, sizeof(*r));
	struct ticket_list refused = { 0 };
	struct err e = { 0 };

	batch_init(&r->params);
	batch_add(&r->params, st, params, n);
	r->ticket.finish = read_finish;
	r->done = done;
	r->arg = arg;
	pthread_mutex_lock(&s->lock);
	if (admit_batch(s, &r->params, &e) != 0) {
		ticket_fail(&r->ticket, &e);
		tickets_add(&refused, &r->ticket);
	} else {
		tickets_add(&s->reads, &r->ticket);
		readers_wake(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (refused.head != NULL)
		outbox_put(s->outbox, &refused);
}

int
store_query_now(struct store *s, enum stmt st, const struct cell_value *params, size_t n,
	struct rows **out, struct err *e)
{
	struct batch b;
	int rc;

	batch_init(&b);
	batch_add(&b, st, params, n);
	if (b.too_big) {
		batch_fini(&b);
		return err_set(
			e, ERR_LIMIT, ERR_TO_LOG, "%s: parameters are too large", stmt_name(st));
	}
	pthread_mutex_lock(&s->writer_lock);
	rc = read_run(&s->writer, &b, out, e);
	pthread_mutex_unlock(&s->writer_lock);
	batch_fini(&b);
	return rc;
}

/* ---- health ---- */

struct verify {
	struct store *s;
	store_done_fn done;
	void *arg;
};

static void
on_verified(void *arg, const struct rows *rows, const struct err *e)
{
	struct verify *v = arg;
	struct err why;

	if (e == NULL && !str_is(rows_str(rows, 0, 0), "ok")) {
		err_set(&why, ERR_CORRUPT, ERR_TO_USER,
			"database %.90s is damaged: %.90s (restore the last backup)", v->s->path,
			rows_str(rows, 0, 0).p);
		e = &why;
	}
	v->done(v->arg, e);
	free(v);
}

void
store_verify(struct store *s, store_done_fn done, void *arg)
{
	struct verify *v = xmalloc(sizeof(*v));

	*v = (struct verify){ s, done, arg };
	store_query(s, STMT_VERIFY, NULL, 0, on_verified, v);
}

void
store_stats(const struct store *s, struct store_stats *out)
{
	*out = (struct store_stats){
		.commits = atomic_load(&s->commits),
		.batches = atomic_load(&s->batches_total),
		.rows = atomic_load(&s->rows),
		.commit_us_total = atomic_load(&s->commit_us),
	};
}

bool
store_trouble(struct store *s, struct err *e)
{
	bool is_bad;

	pthread_mutex_lock(&s->lock);
	is_bad = s->trouble.code != 0;
	if (is_bad)
		*e = s->trouble;
	pthread_mutex_unlock(&s->lock);
	return is_bad;
}
