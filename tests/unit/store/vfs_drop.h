/* SPDX-License-Identifier: MIT
 * A disk that can lose power, fill up and fail, for the tests of the store: a VFS over the default
 * one. Writes reach the real file at once, but an undo log keeps what they replaced until the file
 * is synced; a power cut takes back all or some of them. Creating and deleting a file counts as
 * durable at once. Thread-safe. */
#ifndef TESTS_STORE_VFS_DROP_H
#define TESTS_STORE_VFS_DROP_H

#include <stdbool.h>
#include <stdint.h>

struct vfs_drop;

/* What is left of the writes that were not synced. */
enum cut {
	CUT_ALL,  /* nothing */
	CUT_TORN, /* all but the last one, of which the first half is left */
	CUT_SOME, /* a random part of them, in no order */
};
enum disk_op { DISK_READ, DISK_WRITE, DISK_SYNC, DISK_OPEN };

struct vfs_drop *vfs_drop_new(const char *name); /* registers itself as this VFS */
void vfs_drop_free(struct vfs_drop *v);          /* after the last connection was closed */

/* Counts writes, truncations, syncs and deletions; when the count reaches `at` the power goes. 0:
 * never. */
void vfs_drop_cut_at(struct vfs_drop *v, int64_t at, enum cut how, uint64_t seed);
void vfs_drop_power_cut(
	struct vfs_drop *v, enum cut how, uint64_t seed); /* now; every later call fails */
void vfs_drop_power_on(struct vfs_drop *v);               /* also ends every fault */
bool vfs_drop_is_off(struct vfs_drop *v);
int64_t vfs_drop_ops(struct vfs_drop *v); /* counted since power_on */
int64_t vfs_drop_syncs(struct vfs_drop *v);

/* A disk that says it synced and did not. */
void vfs_drop_fake_sync(struct vfs_drop *v, bool fake);
/* Files may grow by this many bytes more, then the disk is full. -1: no limit. */
void vfs_drop_room(struct vfs_drop *v, int64_t bytes);
/* The next n calls of this kind fail with this result code of the library. */
void vfs_drop_fail(struct vfs_drop *v, enum disk_op op, int rc, int n);
/* Syncs, or reads, wait while held. The second call returns when one waits. */
void vfs_drop_hold_sync(struct vfs_drop *v, bool hold);
void vfs_drop_wait_sync(struct vfs_drop *v);
void vfs_drop_hold_read(struct vfs_drop *v, bool hold);
void vfs_drop_wait_read(struct vfs_drop *v);

#endif
