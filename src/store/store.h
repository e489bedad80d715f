/* SPDX-License-Identifier: MIT
 * The database. All SQL is the named statements of statements.def; nobody else writes SQL or sees the library.
 * store_commit is the only write path: one writer thread, WAL, synchronous=FULL; batches of many sessions share one
 * COMMIT with a savepoint each, and nothing is acknowledged before that COMMIT returned. Two reader threads. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/err.h"
#include "loop/loop.h"

/* One constant for each row STMT(name, SQL) of statements.def: STMT_SESSION_GET, ... */
#define STMT(name, ...) STMT_##name,
enum stmt {
#include "store/statements.def"
	STMT_COUNT
};
#undef STMT

enum cell_type { CELL_NULL, CELL_INT, CELL_TEXT, CELL_BYTES };
/* A parameter or a result value. Text and bytes are borrowed by results, copied by batches. */
struct cell_value {
	enum cell_type type;
	int64_t i;
	struct str s;
};
#define V_NULL    ((struct cell_value){ .type = CELL_NULL })
#define V_INT(x)  ((struct cell_value){ .type = CELL_INT, .i = (x) })
#define V_TEXT(x) ((struct cell_value){ .type = CELL_TEXT, .s = (x) })
#define V_Z(z)    ((struct cell_value){ .type = (z) ? CELL_TEXT : CELL_NULL, .s = str_of(z) })
#define V_BYTES(x) ((struct cell_value){ .type = CELL_BYTES, .s = (x) })

struct store;

struct store_options {
	const char *path; /* of the database file; its directory exists */
	const char *vfs; /* NULL: the default; tests name their own */
	int64_t busy_ms; /* how long to wait for a lock held by another process */
};

/* Opens, checks and migrates. Errors say what is wrong with the file: locked (ERR_BUSY), read-only (ERR_READONLY),
 * corrupt (ERR_CORRUPT), full (ERR_FULL), newer than this program (ERR_UNSUPPORTED). Blocks; called before serving. */
int store_open(struct store **out, struct loop *l, const struct store_options *o, struct err *e) MUST_USE;
/* Waits for queued commits, then closes. Pending callbacks are called before it returns. */
void store_close(struct store *s);

/* A batch: statements that become durable together or not at all. */
struct batch;
struct batch *batch_new(void) MUST_USE;
void batch_free(struct batch *b); /* only when it was not committed */
void batch_add(struct batch *b, enum stmt st, const struct cell_value *params, size_t n);
/* As batch_add, and the whole batch fails with ERR_CONFLICT unless the statement changed exactly `rows` rows: guards
 * of sequence numbers and leases. */
void batch_add_expect(struct batch *b, enum stmt st, const struct cell_value *params, size_t n, int rows);
size_t batch_len(const struct batch *b);
#define BATCH(b, st, ...)                                                                          \
	batch_add(b, st, (const struct cell_value[]){ __VA_ARGS__ },                               \
		sizeof((const struct cell_value[]){ __VA_ARGS__ }) / sizeof(struct cell_value))

/* e is NULL on success. ERR_CONFLICT: a constraint or an expectation failed (only this batch is rolled back).
 * ERR_FULL, ERR_IO ...: nothing of this batch is there; the store keeps working if it can. */
typedef void (*store_done_fn)(void *arg, const struct err *e);
/* Takes b. Batches are applied in the order of the calls. done runs on the loop's thread. */
void store_commit(struct store *s, struct batch *b, store_done_fn done, void *arg);

/* Rows of a query; released after the callback. */
struct rows;
size_t rows_len(const struct rows *r);
const struct cell_value *rows_at(const struct rows *r, size_t row, size_t col); /* borrowed */
int64_t rows_int(const struct rows *r, size_t row, size_t col);
struct str rows_str(const struct rows *r, size_t row, size_t col); /* text or bytes; NULL gives empty */

typedef void (*store_rows_fn)(void *arg, const struct rows *r, const struct err *e);
/* Reads on a reader thread: sees every commit that was acknowledged before the call. params are copied. */
void store_query(struct store *s, enum stmt st, const struct cell_value *params, size_t n,
	store_rows_fn done, void *arg);
/* The same on the caller's thread: for start and recovery, before serving. *out is freed with rows_free. */
int store_query_now(struct store *s, enum stmt st, const struct cell_value *params, size_t n,
	struct rows **out, struct err *e) MUST_USE;
void rows_free(struct rows *r);

/* Full integrity check, for doctor: slow, on a reader's thread. NULL, or ERR_CORRUPT with the first finding. */
void store_verify(struct store *s, store_done_fn done, void *arg);
/* Commits, batches and rows since start, for health and bench. */
struct store_stats {
	uint64_t commits, batches, rows, commit_us_total;
};
void store_stats(const struct store *s, struct store_stats *out);
/* Whether the last group of batches could not be committed, and why. */
bool store_trouble(struct store *s, struct err *e);
int store_schema_version(void);

#endif
