/* SPDX-License-Identifier: MIT
 * The disk of the store's tests; see vfs_drop.h. Invariant: reverting a file's undo log from its
 * last entry to its first gives the content at its last sync. */
#include "vfs_drop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"

#define SECTOR 512

struct change { /* a write, or a truncation when n is 0 */
	struct change *prev, *next;
	int64_t offset, n, old_size, old_n;
	char *bytes, *old_bytes; /* old_n bytes of what was there */
};

struct disk_file {
	struct disk_file *next;
	char *path;
	struct change *first, *last;
};

struct vfs_drop {
	sqlite3_vfs vfs; /* first */
	sqlite3_vfs *base;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct disk_file *files;
	bool off, fake_sync;
	struct {
		bool hold;
		int waiting;
	} gate[4];
	int64_t ops, syncs, cut_at, room;
	enum cut cut_how;
	uint64_t random;
	struct {
		int rc, n;
	} fail[4];
};

struct file {
	sqlite3_file base; /* first: the library sees this */
	struct vfs_drop *v;
	struct disk_file *disk; /* NULL: a temporary file, which survives nothing anyway */
	sqlite3_file *real;     /* behind this struct */
};

static struct file *
file_of(sqlite3_file *f)
{
	return (struct file *)f;
}

/* ---- the undo log ---- */

static void
change_free(struct change *c)
{
	free(c->bytes);
	free(c->old_bytes);
	free(c);
}

static void
disk_synced(struct disk_file *d)
{
	for (struct change *c = d->first, *next; c != NULL; c = next) {
		next = c->next;
		change_free(c);
	}
	d->first = d->last = NULL;
}

static struct disk_file *
disk_find(struct vfs_drop *v, const char *path)
{
	struct disk_file *d = v->files;

	while (d != NULL && strcmp(d->path, path) != 0)
		d = d->next;
	if (d == NULL) {
		d = xcalloc(1, sizeof(*d));
		d->path = xstrdup(path);
		d->next = v->files;
		v->files = d;
	}
	return d;
}

/* Remembers what the range held, before it changes. */
static void
disk_note(struct file *f, const void *bytes, int64_t n, int64_t offset)
{
	struct disk_file *d = f->disk;
	struct change *c;
	sqlite3_int64 size = 0;

	if (d == NULL)
		return;
	f->real->pMethods->xFileSize(f->real, &size);
	c = xcalloc(1, sizeof(*c));
	c->offset = offset;
	c->n = n;
	c->old_size = size;
	c->old_n = MAX(0, n == 0 ? size - offset : MIN(n, size - offset));
	c->old_bytes = xmalloc((size_t)c->old_n + 1);
	if (c->old_n > 0)
		f->real->pMethods->xRead(f->real, c->old_bytes, (int)c->old_n, offset);
	c->bytes = xmalloc((size_t)n + 1);
	if (n > 0)
		memcpy(c->bytes, bytes, (size_t)n);
	c->prev = d->last;
	if (d->last != NULL)
		d->last->next = c;
	else
		d->first = c;
	d->last = c;
}

static void
must(bool ok, const char *what)
{
	if (!ok)
		fatal("vfs_drop: %s: %s", what, strerror(errno));
}

static void
redo(int fd, const struct change *c, int64_t n)
{
	if (c->n == 0)
		must(ftruncate(fd, c->offset) == 0, "ftruncate");
	else
		must(pwrite(fd, c->bytes, (size_t)n, c->offset) == n, "pwrite");
}

static uint64_t
next_random(struct vfs_drop *v)
{
	v->random = v->random * 6364136223846793005u + 1442695040888963407u;
	return v->random >> 33;
}

static void
disk_cut(struct vfs_drop *v, struct disk_file *d, enum cut how, bool is_last)
{
	int fd = d->last != NULL ? open(d->path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0) /* nothing pending, or deleted since */
		return;
	for (struct change *c = d->last; c != NULL; c = c->prev) {
		must(pwrite(fd, c->old_bytes, (size_t)c->old_n, c->offset) == c->old_n, "undo");
		must(ftruncate(fd, c->old_size) == 0, "undo size");
	}
	for (struct change *c = d->first; c != NULL && how != CUT_ALL; c = c->next) {
		if (how == CUT_SOME && next_random(v) % 2 == 0)
			continue;
		if (how == CUT_TORN && is_last && c->next == NULL)
			redo(fd, c,
				c->n / 2 / SECTOR * SECTOR + (c->n < 2 * SECTOR ? c->n / 2 : 0));
		else
			redo(fd, c, c->n);
	}
	close(fd);
}

static void
cut_now(struct vfs_drop *v, enum cut how)
{
	v->off = true;
	for (struct disk_file *d = v->files; d != NULL; d = d->next) {
		disk_cut(v, d, how, true);
		disk_synced(d);
	}
	pthread_cond_broadcast(&v->wake);
}

/* Counts an operation; true when the power is gone, or goes with this one. */
static bool
count_op(struct vfs_drop *v)
{
	if (v->off)
		return true;
	v->ops++;
	if (v->cut_at == 0 || v->ops < v->cut_at)
		return false;
	cut_now(v, v->cut_how);
	return true;
}

static int
injected(struct vfs_drop *v, enum disk_op op)
{
	if (v->off)
		return SQLITE_IOERR;
	if (v->fail[op].n == 0)
		return SQLITE_OK;
	v->fail[op].n--;
	errno = EIO;
	return v->fail[op].rc;
}

static void
pass_gate(struct vfs_drop *v, enum disk_op op)
{
	v->gate[op].waiting++;
	pthread_cond_broadcast(&v->wake);
	while (v->gate[op].hold && !v->off)
		pthread_cond_wait(&v->wake, &v->lock);
	v->gate[op].waiting--;
}

/* ---- files ---- */

static int
x_close(sqlite3_file *file)
{
	struct file *f = file_of(file);

	return f->real->pMethods->xClose(f->real);
}

static int
x_read(sqlite3_file *file, void *p, int n, sqlite3_int64 offset)
{
	struct file *f = file_of(file);
	int rc;

	pthread_mutex_lock(&f->v->lock);
	pass_gate(f->v, DISK_READ);
	rc = injected(f->v, DISK_READ);
	if (rc == SQLITE_OK)
		rc = f->real->pMethods->xRead(f->real, p, n, offset);
	pthread_mutex_unlock(&f->v->lock);
	return rc;
}

static int
write_locked(struct file *f, const void *p, int n, sqlite3_int64 offset)
{
	struct vfs_drop *v = f->v;
	sqlite3_int64 size = 0;
	int rc = injected(v, DISK_WRITE);

	if (rc != SQLITE_OK)
		return rc;
	f->real->pMethods->xFileSize(f->real, &size);
	if (v->room >= 0 && offset + n > size) {
		if (offset + n - size > v->room)
			return SQLITE_FULL;
		v->room -= offset + n - size;
	}
	disk_note(f, p, n, offset);
	rc = f->real->pMethods->xWrite(f->real, p, n, offset);
	return count_op(v) ? SQLITE_IOERR : rc;
}

static int
x_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 offset)
{
	struct file *f = file_of(file);
	int rc;

	pthread_mutex_lock(&f->v->lock);
	rc = write_locked(f, p, n, offset);
	pthread_mutex_unlock(&f->v->lock);
	return rc;
}

static int
x_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct file *f = file_of(file);
	int rc = SQLITE_IOERR;

	pthread_mutex_lock(&f->v->lock);
	if (!f->v->off) {
		disk_note(f, NULL, 0, size);
		rc = f->real->pMethods->xTruncate(f->real, size);
		if (count_op(f->v))
			rc = SQLITE_IOERR;
	}
	pthread_mutex_unlock(&f->v->lock);
	return rc;
}

static int
sync_locked(struct file *f)
{
	struct vfs_drop *v = f->v;
	int rc;

	pass_gate(v, DISK_SYNC);
	if (count_op(v))
		return SQLITE_IOERR;
	rc = injected(v, DISK_SYNC);
	if (rc != SQLITE_OK)
		return rc;
	v->syncs++;
	if (f->disk != NULL && !v->fake_sync)
		disk_synced(f->disk);
	return SQLITE_OK; /* the undo log is what makes it durable here */
}

static int
x_sync(sqlite3_file *file, int flags)
{
	struct file *f = file_of(file);
	int rc;

	pthread_mutex_lock(&f->v->lock);
	rc = sync_locked(f);
	pthread_mutex_unlock(&f->v->lock);
	return rc;
}

static int
x_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
	struct file *f = file_of(file);

	return vfs_drop_is_off(f->v) ? SQLITE_IOERR : f->real->pMethods->xFileSize(f->real, size);
}

static int
x_lock(sqlite3_file *file, int level)
{
	struct file *f = file_of(file);

	return vfs_drop_is_off(f->v) ? SQLITE_IOERR_LOCK : f->real->pMethods->xLock(f->real, level);
}

static int
x_unlock(sqlite3_file *file, int level)
{
	return file_of(file)->real->pMethods->xUnlock(file_of(file)->real, level);
}

static int
x_check_reserved(sqlite3_file *file, int *out)
{
	return file_of(file)->real->pMethods->xCheckReservedLock(file_of(file)->real, out);
}

static int
x_file_control(sqlite3_file *file, int op, void *arg)
{
	return file_of(file)->real->pMethods->xFileControl(file_of(file)->real, op, arg);
}

static int
x_sector_size(sqlite3_file *file)
{
	return file_of(file)->real->pMethods->xSectorSize(file_of(file)->real);
}

static int
x_characteristics(sqlite3_file *file)
{
	return file_of(file)->real->pMethods->xDeviceCharacteristics(file_of(file)->real);
}

static int
x_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
	return file_of(file)->real->pMethods->xShmMap(file_of(file)->real, page, size, extend, out);
}

static int
x_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	return file_of(file)->real->pMethods->xShmLock(file_of(file)->real, offset, n, flags);
}

static void
x_shm_barrier(sqlite3_file *file)
{
	file_of(file)->real->pMethods->xShmBarrier(file_of(file)->real);
}

static int
x_shm_unmap(sqlite3_file *file, int delete)
{
	return file_of(file)->real->pMethods->xShmUnmap(file_of(file)->real, delete);
}

/* Version 2: no memory-mapped reads, which would not pass here. */
static const sqlite3_io_methods methods = { 2, x_close, x_read, x_write, x_truncate, x_sync,
	x_file_size, x_lock, x_unlock, x_check_reserved, x_file_control, x_sector_size,
	x_characteristics, x_shm_map, x_shm_lock, x_shm_barrier, x_shm_unmap, NULL, NULL };

/* ---- the VFS ---- */

static int
x_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out_flags)
{
	struct vfs_drop *v = (struct vfs_drop *)vfs;
	struct file *f = file_of(file);
	int rc;

	memset(f, 0, sizeof(*f));
	pthread_mutex_lock(&v->lock);
	rc = injected(v, DISK_OPEN);
	if (rc == SQLITE_OK && name != NULL)
		f->disk = disk_find(v, name);
	pthread_mutex_unlock(&v->lock);
	if (rc != SQLITE_OK)
		return rc;
	f->v = v;
	f->real = (sqlite3_file *)(f + 1);
	rc = v->base->xOpen(v->base, name, f->real, flags, out_flags);
	if (f->real->pMethods != NULL)
		f->base.pMethods = &methods;
	return rc;
}

static int
x_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	struct vfs_drop *v = (struct vfs_drop *)vfs;
	int rc = SQLITE_IOERR_DELETE;

	pthread_mutex_lock(&v->lock);
	if (!count_op(v)) {
		disk_synced(disk_find(v, name));
		rc = v->base->xDelete(v->base, name, sync_dir);
	}
	pthread_mutex_unlock(&v->lock);
	return rc;
}

static int
x_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	struct vfs_drop *v = (struct vfs_drop *)vfs;

	return vfs_drop_is_off(v) ? SQLITE_IOERR_ACCESS
				  : v->base->xAccess(v->base, name, flags, out);
}

struct vfs_drop *
vfs_drop_new(const char *name)
{
	struct vfs_drop *v = xcalloc(1, sizeof(*v));

	v->base = sqlite3_vfs_find(NULL);
	v->vfs = *v->base;
	v->vfs.szOsFile = (int)sizeof(struct file) + v->base->szOsFile;
	v->vfs.pNext = NULL;
	v->vfs.zName = xstrdup(name);
	v->vfs.xOpen = x_open;
	v->vfs.xDelete = x_delete;
	v->vfs.xAccess = x_access;
	v->room = -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->wake, NULL);
	if (sqlite3_vfs_register(&v->vfs, 0) != SQLITE_OK)
		fatal("vfs_drop: cannot register %s", name);
	return v;
}

void
vfs_drop_free(struct vfs_drop *v)
{
	sqlite3_vfs_unregister(&v->vfs);
	for (struct disk_file *d = v->files, *next; d != NULL; d = next) {
		next = d->next;
		disk_synced(d);
		free(d->path);
		free(d);
	}
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->wake);
	free((char *)v->vfs.zName);
	free(v);
}

/* ---- faults ---- */

void
vfs_drop_cut_at(struct vfs_drop *v, int64_t at, enum cut how, uint64_t seed)
{
	pthread_mutex_lock(&v->lock);
	v->ops = 0;
	v->cut_at = at;
	v->cut_how = how;
	v->random = seed;
	pthread_mutex_unlock(&v->lock);
}

void
vfs_drop_power_cut(struct vfs_drop *v, enum cut how, uint64_t seed)
{
	pthread_mutex_lock(&v->lock);
	v->random = seed;
	if (!v->off)
		cut_now(v, how);
	pthread_mutex_unlock(&v->lock);
}

void
vfs_drop_power_on(struct vfs_drop *v)
{
	pthread_mutex_lock(&v->lock);
	v->off = v->fake_sync = false;
	memset(v->gate, 0, sizeof(v->gate));
	v->ops = v->syncs = v->cut_at = 0;
	v->room = -1;
	memset(v->fail, 0, sizeof(v->fail));
	pthread_mutex_unlock(&v->lock);
}

bool
vfs_drop_is_off(struct vfs_drop *v)
{
	bool off;

	pthread_mutex_lock(&v->lock);
	off = v->off;
	pthread_mutex_unlock(&v->lock);
	return off;
}

int64_t
vfs_drop_ops(struct vfs_drop *v)
{
	int64_t n;

	pthread_mutex_lock(&v->lock);
	n = v->ops;
	pthread_mutex_unlock(&v->lock);
	return n;
}

int64_t
vfs_drop_syncs(struct vfs_drop *v)
{
	int64_t n;

	pthread_mutex_lock(&v->lock);
	n = v->syncs;
	pthread_mutex_unlock(&v->lock);
	return n;
}

void
vfs_drop_fake_sync(struct vfs_drop *v, bool fake)
{
	pthread_mutex_lock(&v->lock);
	v->fake_sync = fake;
	pthread_mutex_unlock(&v->lock);
}

void
vfs_drop_room(struct vfs_drop *v, int64_t bytes)
{
	pthread_mutex_lock(&v->lock);
	v->room = bytes;
	pthread_mutex_unlock(&v->lock);
}

void
vfs_drop_fail(struct vfs_drop *v, enum disk_op op, int rc, int n)
{
	pthread_mutex_lock(&v->lock);
	v->fail[op].rc = rc;
	v->fail[op].n = n;
	pthread_mutex_unlock(&v->lock);
}

static void
hold(struct vfs_drop *v, enum disk_op op, bool is_held)
{
	pthread_mutex_lock(&v->lock);
	v->gate[op].hold = is_held;
	pthread_cond_broadcast(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

static void
wait_at(struct vfs_drop *v, enum disk_op op)
{
	pthread_mutex_lock(&v->lock);
	while (v->gate[op].waiting == 0)
		pthread_cond_wait(&v->wake, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void
vfs_drop_hold_sync(struct vfs_drop *v, bool is_held)
{
	hold(v, DISK_SYNC, is_held);
}

void
vfs_drop_wait_sync(struct vfs_drop *v)
{
	wait_at(v, DISK_SYNC);
}

void
vfs_drop_hold_read(struct vfs_drop *v, bool is_held)
{
	hold(v, DISK_READ, is_held);
}

void
vfs_drop_wait_read(struct vfs_drop *v)
{
	wait_at(v, DISK_READ);
}
