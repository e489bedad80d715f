/* SPDX-License-Identifier: MIT
 * Reading: results, the reader threads and the checkpoints that they run between queries. A reader
 * has a connection of its own that cannot change data, so it sees what is committed and never waits
 * for the writer. Threads start when there is something to read. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

struct rows {
	size_t n, cols, cap;
	struct cell_value *cells; /* row after row */
	struct arena *text;
};

size_t
rows_len(const struct rows *r)
{
	return r != NULL ? r->n : 0;
}

const struct cell_value *
rows_at(const struct rows *r, size_t row, size_t col)
{
	static const struct cell_value none;

	return r != NULL && row < r->n && col < r->cols ? &r->cells[row * r->cols + col] : &none;
}

int64_t
rows_int(const struct rows *r, size_t row, size_t col)
{
	return rows_at(r, row, col)->i;
}

struct str
rows_str(const struct rows *r, size_t row, size_t col)
{
	return rows_at(r, row, col)->s;
}

void
rows_free(struct rows *r)
{
	if (r == NULL)
		return;
	free(r->cells);
	arena_free(r->text);
	free(r);
}

/* 0, or -1 when the result is too large. */
static int
copy_cell(struct rows *r, sqlite3_stmt *q, int col, struct cell_value *out)
{
	int type = sqlite3_column_type(q, col);
	struct str s;
	char *p;

	*out = V_NULL;
	if (type == SQLITE_NULL)
		return 0;
	if (type == SQLITE_INTEGER) {
		*out = V_INT(sqlite3_column_int64(q, col));
		return 0;
	}
	s.p = sqlite3_column_blob(q, col);
	s.n = (size_t)sqlite3_column_bytes(q, col);
	p = arena_try(r->text, s.n + 1); /* ends in NUL */
	if (p == NULL)
		return -1;
	if (s.n != 0)
		memcpy(p, s.p, s.n);
	s.p = p;
	*out = type == SQLITE_BLOB ? V_BYTES(s) : V_TEXT(s);
	return 0;
}

static int
copy_row(struct rows *r, sqlite3_stmt *q)
{
	if (r->n * r->cols * sizeof(*r->cells) > STORE_ROWS_MAX)
		return -1;
	r->cells = vec_grow(r->cells, &r->cap, (r->n + 1) * r->cols, sizeof(*r->cells));
	for (size_t i = 0; i < r->cols; i++) {
		if (copy_cell(r, q, (int)i, &r->cells[r->n * r->cols + i]) != 0)
			return -1;
	}
	r->n++;
	return 0;
}

int
read_run(struct conn *c, const struct batch *params, struct rows **out, struct err *e)
{
	struct batch_op op;
	sqlite3_stmt *q;
	size_t offset = 0;
	struct rows *r;
	int rc = batch_bind(c, params, &offset, &op, &q, e);

	if (rc != 0)
		return rc;
	r = xcalloc(1, sizeof(*r));
	r->cols = (size_t)sqlite3_column_count(q);
	r->text = arena_new(STORE_ROWS_MAX);
	while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
		if (copy_row(r, q) != 0)
			break;
	}
	if (rc == SQLITE_ROW)
		rc = err_set(e, ERR_LIMIT, ERR_TO_USER,
			"%s: the result is larger than %u MiB (ask for fewer rows)",
			stmt_name(op.stmt), STORE_ROWS_MAX / MIB);
	else if (rc != SQLITE_DONE)
		rc = conn_err(c, rc, stmt_name(op.stmt), e);
	else
		rc = 0;
	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
	if (rc == 0)
		*out = r;
	else
		rows_free(r);
	return rc;
}

/* The next query, or NULL: then *checkpoint says whether that is wanted, otherwise the store is
 * closing. */
static struct read *
take_read(struct store *s, bool *checkpoint)
{
	struct read *r;

	pthread_mutex_lock(&s->lock);
	s->readers_idle++;
	while (s->reads.head == NULL && !s->checkpoint_wanted && !s->closing)
		pthread_cond_wait(&s->reader_wake, &s->lock);
	s->readers_idle--;
	r = (struct read *)tickets_take(&s->reads);
	*checkpoint = r == NULL && s->checkpoint_wanted && !s->closing;
	if (*checkpoint)
		s->checkpoint_wanted = false;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int
conn_ready(struct store *s, struct conn *c, struct err *e)
{
	return c->db != NULL ? 0 : conn_open(c, CONN_READER, &s->options, e);
}

static void
run_checkpoint(struct store *s, struct conn *c)
{
	struct err e = { 0 };
	int rc = conn_ready(s, c, &e);

	if (rc == 0) {
		rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
			conn_err(c, rc, "checkpoint", &e);
	}
	if (e.code != 0) /* nothing is lost: the log keeps growing until a later one works */
		log_warn("checkpoint failed", LOG_E(&e));
	atomic_store(&s->checkpoint_done, true);
}

static void *
reader_main(void *arg)
{
	struct store *s = arg;
	struct conn c = { .path = s->path };
	struct read *r;
	bool checkpoint;

	while ((r = take_read(s, &checkpoint)) != NULL || checkpoint) {
		struct ticket_list done = { 0 };
		struct err e = { 0 };
		if (checkpoint) {
			run_checkpoint(s, &c);
			continue;
		}
		if (conn_ready(s, &c, &e) != 0 || read_run(&c, &r->params, &r->rows, &e) != 0)
			ticket_fail(&r->ticket, &e);
		tickets_add(&done, &r->ticket);
		outbox_put(s->outbox, &done);
	}
	conn_close(&c);
	return NULL;
}

void
readers_wake(struct store *s)
{
	int waiting = (int)MIN(s->reads.n, STORE_READERS) + s->checkpoint_wanted;
	int rc;

	if (waiting > s->readers_idle && s->readers < STORE_READERS && !s->closing) {
		rc = thread_start(&s->reader_threads[s->readers], reader_main, s);
		if (rc == 0)
			s->readers++;
		else if (s->readers == 0)
			fatal("store: cannot start a thread: %s", strerror(rc));
	}
	pthread_cond_signal(&s->reader_wake);
}
