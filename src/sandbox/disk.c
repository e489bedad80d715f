/* SPDX-License-Identifier: MIT
 * What a cell has on the disk: counted by shelld, because quotas of directories need the file system's help. The free space of
 * the file system is looked at often; only when so much of it went that the limit may be passed is the tree counted, on a
 * pool thread. The tree is hostile: no link is followed, nothing but directories is opened, and descriptors and memory have a
 * bound whatever its depth. Invariant: a command that only removes is never ended. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/disk.h"
#include "sandbox/shelld.h"

#define ENTRY_BYTES   4096 /* the least that a file counts: an empty one takes an inode */
#define OPEN_LEVELS   64u /* directories of a walk that are open at once */
#define WALK_MAX      (16u * MIB) /* memory of one walk */
#define UNLINKED_MAX  65536u /* files without a name that are told apart; a power of two */
#define FD_LOOKS_MAX  4194304u
#define LOOK_EVERY_MS 10000 /* whatever the free space says: others may free what a cell takes */
#define LOOK_GAP      4 /* and at the earliest after so many times what the last one took */

/* ---- one tree ---- */

struct level {
	dev_t dev;
	ino_t ino;
	mode_t mode; /* to give back, where the walk had to change it; else 0 */
	int fd; /* -1: closed meanwhile */
	char *names; /* directories in it that are still to be visited, NUL-terminated */
	size_t names_n;
};

struct walk {
	struct level *levels;
	size_t n, cap;
	int64_t bytes, stop;
	size_t memory;
};

/* Names of one file share what it takes: all of them lie in the tree, because links do not cross mounts. */
static int64_t
cost(const struct stat *st)
{
	int64_t bytes = MAX((int64_t)st->st_blocks * 512, (int64_t)ENTRY_BYTES), links = (int64_t)MAX(st->st_nlink, (nlink_t)1);

	return S_ISDIR(st->st_mode) ? bytes : (bytes + links - 1) / links;
}

/* A directory, also one that its owner took the right to look from himself: he gets it back. */
static int
open_level(int at, const char *name, mode_t *mode)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	char path[32];
	struct stat st;

	*mode = 0;
	AUTO_CLOSE int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	if (geteuid() != 0 && (st.st_mode & 0500) != 0500) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (chmod(path, st.st_mode | 0500) != 0)
			return -1;
		*mode = st.st_mode & 07777;
		if (*mode == 0)
			*mode = S_IFDIR; /* chmod leaves the kind out */
	}
	return openat(fd, ".", flags);
}

static void
level_close(struct level *v)
{
	if (v->fd >= 0 && v->mode != 0)
		(void)fchmod(v->fd, v->mode & 07777);
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
}

static void
add_name(struct walk *w, struct level *v, size_t *cap, const char *name)
{
	size_t n = strlen(name) + 1;

	v->names = vec_grow(v->names, cap, v->names_n + n, 1);
	memcpy(v->names + v->names_n, name, n);
	v->names_n += n;
	w->memory += n;
}

/* Counts what is in a directory and notes the directories. Takes fd. */
static void
push(struct walk *w, int fd, mode_t mode)
{
	struct stat st;
	size_t cap = 0;
	int list = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = list < 0 ? NULL : fdopendir(list);

	w->levels = vec_grow(w->levels, &w->cap, w->n + 1, sizeof(w->levels[0]));
	struct level *v = &w->levels[w->n++];
	*v = (struct level){ .fd = fd, .mode = mode };
	w->memory += sizeof(*v);
	if (fstat(fd, &st) == 0) {
		v->dev = st.st_dev;
		v->ino = st.st_ino;
	}
	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL && w->bytes <= w->stop; x = readdir(d)) {
		if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 ||
			fstatat(fd, x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != v->dev)
			continue;
		w->bytes += cost(&st);
		if (S_ISDIR(st.st_mode))
			add_name(w, v, &cap, x->d_name);
		if (w->memory > WALK_MAX)
			w->bytes = MAX(w->bytes, w->stop + 1); /* what cannot be counted is too much */
	}
	if (d != NULL)
		closedir(d);
	if (w->n > OPEN_LEVELS)
		level_close(&w->levels[w->n - 1 - OPEN_LEVELS]);
}

/* Back to the directory above, which may have been closed: it is found again by "..", unless it was moved meanwhile. */
static bool
pop(struct walk *w)
{
	struct level *v = &w->levels[w->n - 1], *up = w->n > 1 ? v - 1 : NULL;
	bool is_there = true;
	struct stat st;

	if (up != NULL && up->fd < 0) {
		up->fd = open_level(v->fd, "..", &up->mode);
		is_there = up->fd >= 0 && fstat(up->fd, &st) == 0 && st.st_dev == up->dev && st.st_ino == up->ino;
	}
	level_close(v);
	free(v->names);
	w->memory -= sizeof(*v);
	w->n--;
	return is_there;
}

int64_t
disk_walk(const char *dir, int64_t stop)
{
	struct walk w = { .stop = stop };
	mode_t mode;
	int fd = open_level(AT_FDCWD, dir, &mode);

	if (fd < 0)
		return 0;
	push(&w, fd, mode);
	while (w.n > 0 && w.bytes <= stop) {
		struct level *v = &w.levels[w.n - 1];
		if (v->names_n == 0) {
			if (!pop(&w))
				break;
			continue;
		}
		size_t at = v->names_n - 1; /* the last name */
		while (at > 0 && v->names[at - 1] != '\0')
			at--;
		fd = open_level(v->fd, v->names + at, &mode);
		w.memory -= v->names_n - at;
		v->names_n = at;
		if (fd >= 0)
			push(&w, fd, mode);
	}
	while (w.n > 0) {
		level_close(&w.levels[w.n - 1]);
		free(w.levels[--w.n].names);
	}
	free(w.levels);
	return w.bytes;
}

/* ---- files without a name that are open ---- */

struct unlinked {
	struct {
		dev_t dev;
		ino_t ino;
	} *seen;
	size_t looks, n;
	int64_t bytes, stop;
};

/* False: it was counted before. */
static bool
is_new(struct unlinked *u, const struct stat *st)
{
	size_t at = ((size_t)st->st_ino * 2654435761u ^ (size_t)st->st_dev) & (UNLINKED_MAX - 1);

	for (; u->seen[at].ino != 0; at = (at + 1) & (UNLINKED_MAX - 1)) {
		if (u->seen[at].ino == st->st_ino && u->seen[at].dev == st->st_dev)
			return false;
	}
	if (u->n < UNLINKED_MAX / 2) {
		u->n++;
		u->seen[at].ino = st->st_ino;
		u->seen[at].dev = st->st_dev;
	}
	return true;
}

static void
add_unlinked(struct unlinked *u, pid_t pid)
{
	char dir[32], path[64];
	struct statfs fs;
	struct stat st;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(dir);
	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL && u->bytes <= u->stop; x = readdir(d)) {
		if (x->d_name[0] == '.' || fstatat(dirfd(d), x->d_name, &st, 0) != 0)
			continue;
		if (++u->looks > FD_LOOKS_MAX)
			u->bytes = MAX(u->bytes, u->stop + 1);
		if (!S_ISREG(st.st_mode) || st.st_nlink > 0 || st.st_blocks == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%.20s", dir, x->d_name);
		if (statfs(path, &fs) == 0 && fs.f_type != TMPFS_MAGIC && is_new(u, &st)) /* memory has limits of its own */
			u->bytes += cost(&st);
	}
	if (d != NULL)
		closedir(d);
}

int64_t
disk_unlinked(pid_t root, int64_t stop)
{
	AUTO_FREE pid_t *list = xcalloc(TREE_MAX, sizeof(*list));
	size_t n = tree_list(root, list);
	struct unlinked u = { .stop = stop };

	u.seen = xcalloc(UNLINKED_MAX, sizeof(u.seen[0]));
	for (size_t i = 0; i < n && u.bytes <= stop; i++)
		add_unlinked(&u, list[i]);
	free(u.seen);
	return u.bytes;
}

/* ---- the disks of a cell ---- */

static const char *
dir_of(const struct cell *c, int i)
{
	return i == DISK_STATE ? c->plan.state : c->plan.scratch;
}

static bool
is_limited(const struct cell *c)
{
	return c->plan.disk_bytes > 0 && !c->is_probe && c->kind != KIND_HOST;
}

/* Space and inodes that are left where a directory lies, as bytes. */
static int64_t
free_bytes(const char *dir, int64_t *inodes)
{
	struct statvfs v;

	if (statvfs(dir, &v) != 0)
		return 0;
	*inodes = (int64_t)v.f_ffree;
	return (int64_t)v.f_bfree * (int64_t)v.f_frsize;
}

struct look {
	struct shelld *d;
	uint32_t cell;
	int disk;
	pid_t pid;
	char *dir;
	int64_t stop, bytes, grown, began_ms;
};

static void
look_work(void *arg)
{
	struct look *k = arg;

	k->bytes = disk_walk(k->dir, k->stop);
	if (k->disk == DISK_STATE && k->pid > 0 && k->bytes <= k->stop)
		k->bytes += disk_unlinked(k->pid, k->stop - k->bytes);
}

static void
look_done(void *arg)
{
	struct look *k = arg;
	struct cell *c = cell_by_id(k->d, k->cell);
	int64_t now = loop_now_ms(k->d->l);

	if (c != NULL && c->state != CELL_DEAD) {
		struct disk *x = &c->disks[k->disk];
		if (!x->is_known) /* what was there when they began is what did not come since */
			x->allowed = MAX(c->plan.disk_bytes, k->bytes - k->grown);
		else if (x->is_before)
			x->allowed = MAX(c->plan.disk_bytes, k->bytes);
		x->is_before = false;
		x->is_looking = false;
		x->is_known = true;
		x->took_ms = now - k->began_ms;
		x->looked_at_ms = now;
		x->used = k->bytes;
		if (x->used > x->allowed && c->jobs_n > 0) {
			log_warn("a cell passed its disk limit", LOG_S("cell", c->key), LOG_I("bytes", c->plan.disk_bytes));
			jobs_kill_cell(c, KILL_DISK);
		}
		x->allowed = MAX(c->plan.disk_bytes, MIN(x->used, x->allowed));
	}
	free(k->dir);
	free(k);
}

/* What the file system has less than at the last look, or since the commands began. */
static int64_t
grown(const struct cell *c, int i)
{
	const struct disk *x = &c->disks[i];
	int64_t inodes = 0, bytes = x->free_bytes - free_bytes(dir_of(c, i), &inodes);

	return MAX(MAX(bytes, (x->free_inodes - inodes) * ENTRY_BYTES), (int64_t)0);
}

static void
look(struct cell *c, int i)
{
	struct disk *x = &c->disks[i];
	struct look *k = xcalloc(1, sizeof(*k));

	*k = (struct look){ .d = c->d, .cell = c->id, .disk = i, .pid = c->pid, .dir = xstrdup(dir_of(c, i)), .grown = grown(c, i),
		.stop = DISK_REFUSE * c->plan.disk_bytes, .began_ms = loop_now_ms(c->d->l) };
	x->free_bytes = free_bytes(k->dir, &x->free_inodes);
	x->is_looking = true;
	loop_work(c->d->l, look_work, look_done, k);
}

/* So much may have been written since the last look that the limit could be passed now. */
static bool
is_due(const struct cell *c, int i)
{
	const struct disk *x = &c->disks[i];
	int64_t since = loop_now_ms(c->d->l) - x->looked_at_ms, n;

	if (since < LOOK_GAP * x->took_ms)
		return false;
	n = grown(c, i);
	return (n > 0 && n >= x->allowed - x->used) || since >= MAX((int64_t)LOOK_EVERY_MS, 10 * LOOK_GAP * x->took_ms);
}

void
disk_tick(struct cell *c)
{
	for (int i = 0; i < DISK_COUNT && is_limited(c); i++) {
		if (dir_of(c, i) != NULL && !c->disks[i].is_looking && is_due(c, i))
			look(c, i);
	}
}

void
disk_starts(struct cell *c)
{
	if (is_limited(c))
		look(c, DISK_STATE);
}

void
disk_begins(struct cell *c)
{
	for (int i = 0; i < DISK_COUNT && is_limited(c); i++) {
		struct disk *x = &c->disks[i];
		x->allowed = MAX(c->plan.disk_bytes, x->used);
		x->is_before = x->is_looking;
		if (x->is_known || dir_of(c, i) == NULL)
			continue;
		x->free_bytes = free_bytes(dir_of(c, i), &x->free_inodes);
		x->looked_at_ms = loop_now_ms(c->d->l);
	}
}

void
disk_ends(struct cell *c)
{
	const struct disk *x = &c->disks[DISK_STATE];

	if (is_limited(c) && (!x->is_known || x->used > c->plan.disk_bytes) && !x->is_looking)
		look(c, DISK_STATE); /* nobody waits for it, and there may be room again */
	disk_tick(c);
}

int
disk_room(const struct cell *c, struct err *e)
{
	if (!is_limited(c) || c->disks[DISK_STATE].used <= DISK_REFUSE * c->plan.disk_bytes)
		return 0;
	return err_set(e, ERR_FULL, ERR_TO_MODEL,
		"out_of_disk: /home/agent and /run/work have more than %d times what cell.disk_mb allows (%lld MiB), and no command is "
		"started before that is less (use delete there)", DISK_REFUSE, (long long)(c->plan.disk_bytes / MIB));
}
