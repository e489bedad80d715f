/* SPDX-License-Identifier: MIT
 * What the store's tests share: a directory, a loop, a store, and waiting for answers. Waiting is
 * always on an answer; a guard timer turns a lost one into a failed test instead of a hanging one.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "store/store.h"
#include "vfs_drop.h"

struct fix {
	char dir[128], path[160];
	struct loop *loop;
	struct store *store;
	struct vfs_drop *disk; /* NULL: the real one */
	int waiting;           /* answers of commits */
	bool is_counting;
	int code; /* of the last answer */
	struct err err;
	int64_t value; /* first column of the last query, -1 without a row */
};

void fix_init(struct fix *f, bool with_disk);
void fix_fini(struct fix *f);
int fix_open(struct fix *f);   /* 0 or a code, f->err */
void fix_close(struct fix *f); /* the store */
void fix_wait(struct fix *f);  /* until every answer that is waited for is there */

struct batch *event_batch(const char *session, int64_t first_seq, int n, size_t body);
void fix_commit(struct fix *f, struct batch *b); /* its answer is waited for by fix_wait */
int fix_commit_wait(struct fix *f, struct batch *b);
int fix_verify(struct fix *f); /* 0 or a code, f->err */
/* Events, read through a reader while commits may still be waiting; -1 and f->err on failure. */
int64_t fix_count(struct fix *f, const char *session);

#endif
