/* SPDX-License-Identifier: MIT
 * What the two halves of blobs share: blob.c puts, gets and finds, blob_sweep.c removes. */
#ifndef STORE_BLOB_INTERNAL_H
#define STORE_BLOB_INTERNAL_H

#include "store/blob.h"

/* Work that changes blobs: one at a time, in the order of the calls. */
struct job {
	struct job *next;
	struct blobs *b;
	void (*start)(struct job *j);
	void (*answer)(struct job *j, const struct err *e);
	void (*fini)(struct job *j); /* frees what is its own */
	int steps;                   /* under way in store or pool: 0 or 1 */
	bool is_answered;            /* by blobs_stop; its step still comes back */
};

struct blobs {
	struct store *store;
	struct loop *loop;
	char *dir;
	struct job *jobs; /* the first one runs */
	struct fetch *fetches;
	struct timer *timer;
	size_t busy; /* callbacks of store and pool that still come */
	bool is_stopped, is_freed;
};

void job_add(struct blobs *b, struct job *j);
/* The job is over; the next one starts. e NULL: it worked. */
void job_end(struct job *j, const struct err *e);
/* Each step of a job: before it is started, and first thing in its callback, with what the step came to. false: the job
 * is gone. */
void job_waits(struct job *j);
bool job_goes_on(struct job *j, const struct err *e);

char *blob_file(const struct blobs *b, const char *hash); /* heap */
void orphans_start(struct blobs *b);

#endif
