/* SPDX-License-Identifier: MIT
 * Group commit: one thread takes every batch that waits, applies them inside one transaction with a
 * savepoint each, and lets the loop's thread know after COMMIT returned. No delay is added: a group
 * is what came in during the last COMMIT. Invariants: nothing is acknowledged before it is durable;
 * batches are applied and answered in the order of the calls; a batch that fails leaves nothing
 * behind and no other batch notices. */
#include "store/internal.h"

#include "base/clock.h"

#define CHECKPOINT_PAGES 1000 /* a reader moves the log into the file from here on: 4 MiB */
#define RESTART_PAGES                                                                              \
	4000 /* the writer finishes that itself, so that the log can start over: 16 MiB */

/* Everything that waits, up to the size of a group. NULL head: the store is closing and the queue
 * is empty. */
static struct ticket_list
take_group(struct store *s)
{
	struct ticket_list group = { 0 };
	size_t bytes = 0;

	pthread_mutex_lock(&s->lock);
	while (s->batches.head == NULL && !s->closing)
		pthread_cond_wait(&s->writer_wake, &s->lock);
	while (s->batches.head != NULL && group.n < STORE_GROUP_MAX && bytes < STORE_GROUP_BYTES) {
		struct ticket *t = tickets_take(&s->batches);
		bytes += ((struct batch *)t)->used;
		tickets_add(&group, t);
	}
	s->batches_bytes -= bytes;
	pthread_mutex_unlock(&s->lock);
	return group;
}

static int
apply_ops(struct store *s, const struct batch *b, uint64_t *rows, struct err *e)
{
	struct conn *c = &s->writer;

	for (size_t offset = 0; offset < b->used;) {
		struct batch_op op;
		sqlite3_stmt *q;
		int rc = batch_bind(c, b, &offset, &op, &q, e);
		if (rc != 0)
			return rc;
		rc = sqlite3_step(q);
		if (rc == SQLITE_ROW)
			fatal("store: %s reads, it does not belong into a batch",
				stmt_name(op.stmt));
		if (rc != SQLITE_DONE)
			conn_err(c, rc, stmt_name(op.stmt), e);
		sqlite3_reset(q);
		sqlite3_clear_bindings(q);
		if (rc != SQLITE_DONE)
			return e->code;
		int changed = sqlite3_changes(c->db);
		if (op.expect >= 0 && changed != op.expect)
			return err_set(e, ERR_CONFLICT, ERR_TO_LOG,
				"%s: changed %d rows instead of %d", stmt_name(op.stmt), changed,
				op.expect);
		*rows += (uint64_t)changed;
	}
	return 0;
}

/* 0 when the transaction lives on, whether the batch worked or not. */
static int
apply_batch(struct store *s, struct batch *b, uint64_t *rows, struct err *e)
{
	uint64_t changed = 0;
	struct err why = { 0 };
	int rc;

	if (b->ticket.err != NULL) /* refused when it was queued */
		return 0;
	rc = conn_step(&s->writer, STEP_SAVEPOINT, e);
	if (rc != 0)
		return rc;
	if (apply_ops(s, b, &changed, &why) == 0) {
		*rows += changed;
		return conn_step(&s->writer, STEP_RELEASE, e);
	}
	/* Out of room or memory may have ended the transaction itself. */
	if (sqlite3_get_autocommit(s->writer.db))
		return err_copy(e, &why);
	rc = conn_step(&s->writer, STEP_UNDO, e);
	if (rc == 0)
		rc = conn_step(&s->writer, STEP_RELEASE, e);
	if (rc == 0)
		ticket_fail(&b->ticket, &why);
	return rc;
}

static int
run_group(struct store *s, const struct ticket_list *group, uint64_t *rows, struct err *e)
{
	int rc = conn_step(&s->writer, STEP_BEGIN, e);

	if (rc != 0)
		return rc;
	for (struct ticket *t = group->head; t != NULL && rc == 0; t = t->next)
		rc = apply_batch(s, (struct batch *)t, rows, e);
	if (rc == 0)
		rc = conn_step(&s->writer, STEP_COMMIT, e);
	if (rc != 0 && !sqlite3_get_autocommit(s->writer.db))
		conn_step(&s->writer, STEP_ROLLBACK, NULL);
	return rc;
}

static void
commit_group(struct store *s, struct ticket_list *group)
{
	struct err e = { 0 };
	uint64_t rows = 0;
	int64_t began_us = clock_mono_us();

	pthread_mutex_lock(&s->writer_lock);
	if (run_group(s, group, &rows, &e) != 0) {
		for (struct ticket *t = group->head; t != NULL; t = t->next)
			ticket_fail(t, &e);
	} else {
		atomic_fetch_add(&s->commits, 1);
		atomic_fetch_add(&s->rows, rows);
		atomic_fetch_add(&s->commit_us, (uint64_t)(clock_mono_us() - began_us));
	}
	pthread_mutex_unlock(&s->writer_lock);
	pthread_mutex_lock(&s->lock);
	s->trouble = e;
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_add(&s->batches_total, group->n);
}

/* Moving the log into the file is a reader's work. While commits never pause it cannot catch up, so
 * the last, short part is done here; then the next commit starts the log over. */
static void
tend_log(struct store *s)
{
	bool done = atomic_exchange(&s->checkpoint_done, false);

	if (done && s->wal_pages >= RESTART_PAGES) {
		pthread_mutex_lock(&s->writer_lock);
		sqlite3_wal_checkpoint_v2(
			s->writer.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		pthread_mutex_unlock(&s->writer_lock);
	}
	if (s->wal_pages < CHECKPOINT_PAGES)
		s->checkpoint_at = CHECKPOINT_PAGES;
	if (s->wal_pages < s->checkpoint_at)
		return;
	s->checkpoint_at = s->wal_pages + CHECKPOINT_PAGES;
	pthread_mutex_lock(&s->lock);
	s->checkpoint_wanted = true;
	readers_wake(s);
	pthread_mutex_unlock(&s->lock);
}

static int
on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	((struct store *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

void *
writer_main(void *arg)
{
	struct store *s = arg;

	sqlite3_wal_hook(s->writer.db, on_wal, s);
	for (;;) {
		struct ticket_list group = take_group(s);
		if (group.head == NULL)
			return NULL;
		commit_group(s, &group);
		outbox_put(s->outbox, &group);
		tend_log(s);
	}
}
