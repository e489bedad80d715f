/* SPDX-License-Identifier: MIT
 * What the files of this room share. The only header that sees the database library.
 * Threads: the loop's thread calls the API; one writer and up to two readers each own a connection.
 * A ticket is a piece of work on its way from the loop's thread through one of them and back. */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include "base/limits.h"
#include "base/mem.h"
#include "store/store.h"

#define STORE_READERS 2

/* The frame of a group commit. */
enum step {
	STEP_BEGIN,
	STEP_SAVEPOINT,
	STEP_UNDO,
	STEP_RELEASE,
	STEP_COMMIT,
	STEP_ROLLBACK,
	STEP_COUNT
};

/* One connection, used by one thread at a time. */
struct conn {
	sqlite3 *db;
	const char *path;                /* borrowed: for messages */
	sqlite3_stmt *stmts[STMT_COUNT]; /* prepared at first use */
	sqlite3_stmt *steps[STEP_COUNT];
};

enum conn_kind { CONN_WRITER, CONN_READER };

int conn_open(
	struct conn *c, enum conn_kind kind, const struct store_options *o, struct err *e) MUST_USE;
void conn_close(struct conn *c); /* also of a connection that was never opened */
int conn_exec(struct conn *c, const char *sql, struct err *e) MUST_USE;
/* The first column of the first row as an integer; *out is 0 when there is no row. */
int conn_int(struct conn *c, const char *sql, int64_t *out, struct err *e) MUST_USE;
int conn_step(struct conn *c, enum step step, struct err *e); /* e may be NULL */
/* The prepared statement, reset and without parameters. */
int conn_stmt(struct conn *c, enum stmt st, sqlite3_stmt **out, struct err *e) MUST_USE;
/* Sets *e for a result code of the library: what happened to which file, and what to do about it.
 */
int conn_err(struct conn *c, int rc, const char *doing, struct err *e);
const char *stmt_name(enum stmt st);

/* Brings the schema to this program's version, or says why that is not possible. */
int store_migrate(struct conn *c, struct err *e) MUST_USE;

/* Work on its way; the first member of struct batch and struct read. finish runs on the loop's
 * thread and frees it. */
struct ticket {
	struct ticket *next;
	void (*finish)(struct ticket *t);
	struct err *err; /* heap, NULL: it worked */
};

struct ticket_list {
	struct ticket *head, *tail;
	size_t n;
};
void tickets_add(struct ticket_list *l, struct ticket *t);
struct ticket *tickets_take(struct ticket_list *l);      /* NULL when empty */
void ticket_fail(struct ticket *t, const struct err *e); /* the first error stays */

/* One operation: a head, then n values, each followed by its bytes padded to 8. */
struct batch_op {
	uint16_t stmt, n;
	int32_t expect; /* rows that must change, or -1 */
};
struct batch_value {
	uint32_t type, size;
	int64_t i;
};

#define BATCH_INLINE 1664 /* a usual batch is one allocation of 1.75 KiB */

struct batch {
	struct ticket ticket;
	store_done_fn done;
	void *arg;
	size_t len; /* operations */
	size_t used, cap;
	bool too_big;
	char *data; /* inline_ or heap */
	_Alignas(8) char inline_[BATCH_INLINE];
};

void batch_init(struct batch *b); /* in the caller's memory, which must not move */
void batch_fini(struct batch *b);
/* The operation at *offset with its parameters bound to the cached statement; moves *offset behind
 * it. The bytes stay in the batch, so it must outlive the step. */
int batch_bind(struct conn *c, const struct batch *b, size_t *offset, struct batch_op *op,
	sqlite3_stmt **out, struct err *e) MUST_USE;

/* A query on its way: its parameters are a batch of one operation. */
struct read {
	struct ticket ticket;
	struct batch params;
	store_rows_fn done;
	void *arg;
	struct rows *rows;
};
int read_run(struct conn *c, const struct batch *params, struct rows **out, struct err *e) MUST_USE;

/* Finished tickets on the way back to the loop's thread. Outlives the store while a posted call is
 * under way. */
struct outbox {
	pthread_mutex_t lock;
	struct loop *loop;
	struct ticket_list done;
	bool posted;
	int refs;
};

struct store {
	char *path, *vfs;
	struct store_options options; /* points to the two above */
	struct loop *loop;
	struct outbox *outbox;

	struct conn writer;
	pthread_mutex_t
		writer_lock; /* of that connection: the writer's group, or store_query_now */
	pthread_t writer_thread;

	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t writer_wake, reader_wake;
	struct ticket_list batches, reads;
	size_t batches_bytes; /* queued */
	bool closing;
	bool checkpoint_wanted;
	pthread_t reader_threads[STORE_READERS];
	int readers, readers_idle;

	/* The writer's own. */
	int wal_pages;     /* after the last commit */
	int checkpoint_at; /* ask a reader for a checkpoint when the log is longer than this */
	atomic_bool checkpoint_done; /* a reader finished one since the writer looked */

	atomic_uint_fast64_t commits, batches_total, rows, commit_us;
	struct err trouble; /* of the last group; code 0: it was committed; under lock */
};

/* Puts finished tickets (emptied) on their way to the loop's thread, in order. */
void outbox_put(struct outbox *o, struct ticket_list *l);

void *writer_main(void *store);
/* With s->lock held: wakes a reader, starting its thread if need be. */
void readers_wake(struct store *s);
int thread_start(pthread_t *t, void *(*fn)(void *),
	void *arg); /* 0 or an errno value; signals stay blocked in it */

#endif
