/* SPDX-License-Identifier: MIT
 * The disk limit of a cell: what its own directories take, and what /scratch does. Counted, not enforced by the kernel: a
 * command can pass it by what it writes between two looks. */
#ifndef SANDBOX_DISK_H
#define SANDBOX_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

#define DISK_REFUSE 2 /* times the limit: then no command is started any more */

enum { DISK_STATE, DISK_SCRATCH, DISK_COUNT };
struct disk {
	bool is_known, is_looking;
	bool is_before; /* the look under way began before the commands did: it says what they found */
	int64_t used; /* at the last look */
	int64_t allowed; /* the limit, or what was there when the commands began, if that is more */
	int64_t free_bytes, free_inodes; /* of the file system at the last look */
	int64_t looked_at_ms, took_ms;
};

/* Bytes that a tree takes: blocks, not sizes; the names of a file share what it takes; each file counts a block at least. Ends
 * early with more than stop. Blocks: for a pool thread. */
int64_t disk_walk(const char *dir, int64_t stop);
/* The same of files that have no name any more and are open in a process below root. */
int64_t disk_unlinked(pid_t root, int64_t stop);

struct cell;
void disk_starts(struct cell *c); /* it is being made: what it finds there is not what its first command wrote */
void disk_begins(struct cell *c); /* the first of its jobs does */
void disk_tick(struct cell *c); /* every now and then while they run */
void disk_ends(struct cell *c); /* the last one did */
int disk_room(const struct cell *c, struct err *e) MUST_USE; /* may a command start? ERR_FULL */

#endif
