/* SPDX-License-Identifier: MIT
 * list, move and delete, and the walk over a tree that list, glob and grep share. A walk holds one
 * descriptor per level and never follows a link, so there are no loops; it is bounded in entries,
 * depth, names per directory and time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/media.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/fileop_internal.h"

/* ---- walking ---- */

struct names {
	char **items; /* heap */
	size_t n, cap;
};

static void
names_free(struct names *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->items[i]);
	free(x->items);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads the names of a directory in order. fd is taken. */
static void
names_read(int fd, struct names *out, const char **why)
{
	const struct dirent *x;
	DIR *d = fdopendir(fd);

	if (d == NULL) {
		close(fd);
		return;
	}
	while ((x = readdir(d)) != NULL) {
		if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
			continue;
		if (out->n >= FILE_DIR_MAX) {
			*why = "a directory has too many names";
			break;
		}
		out->items = vec_grow(out->items, &out->cap, out->n + 1, sizeof(*out->items));
		out->items[out->n++] = xstrdup(x->d_name);
	}
	closedir(d);
	if (out->n > 1)
		qsort(out->items, out->n, sizeof(*out->items), compare_names);
}

struct level {
	int fd;
	struct names names;
	size_t at;     /* next name */
	size_t path_n; /* of the path before this level's names */
};
struct walk {
	struct level *levels; /* FILE_DEPTH_MAX of them */
	int depth;            /* levels in use */
	struct buf path;
	int64_t entries, until_ms;
	const char **why;
};

/* fd is taken. */
static void
walk_enter(struct walk *w, int fd)
{
	struct level *l = &w->levels[w->depth++];
	int copy = path_openat(fd, ".", O_RDONLY | O_DIRECTORY);

	*l = (struct level){ .fd = fd, .path_n = w->path.n };
	if (copy >= 0)
		names_read(copy, &l->names, w->why);
}

static void
walk_leave(struct walk *w)
{
	struct level *l = &w->levels[--w->depth];

	names_free(&l->names);
	close(l->fd);
}

static bool
walk_is_over(struct walk *w)
{
	if (++w->entries > FILE_WALK_MAX)
		*w->why = "the tree has too many entries";
	else if (w->entries % 64 == 0 && clock_mono_ms() > w->until_ms)
		*w->why = "it took too long";
	else
		return false;
	return true;
}

/* The next entry in order, or false at the end of this level. An entry that vanished meanwhile is
 * passed over. */
static bool
walk_next_entry(struct walk *w, struct walk_entry *x)
{
	struct level *l = &w->levels[w->depth - 1];

	while (l->at < l->names.n) {
		x->name = l->names.items[l->at++];
		x->dir = l->fd;
		x->depth = w->depth;
		buf_truncate(&w->path, l->path_n);
		if (l->path_n > 0)
			buf_add_char(&w->path, '/');
		if (buf_add_z(&w->path, x->name) != 0) {
			buf_truncate(&w->path, l->path_n);
			w->path.overflow = false;
			*w->why = "a path is too long";
			continue;
		}
		x->path = buf_str(&w->path);
		if (fstatat(l->fd, x->name, &x->st, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	}
	return false;
}

int
walk_tree(int dir, struct arena *a, walk_fn fn, void *arg, const char **why, struct err *e)
{
	struct walk w = { .levels = arena_alloc(a, FILE_DEPTH_MAX * sizeof(struct level)),
		.until_ms = clock_mono_ms() + FILE_WALK_MS,
		.why = why };
	struct walk_entry x;

	int fd = path_openat(dir, ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_MODEL, "the directory cannot be read");
	buf_init(&w.path, FILE_PATH_MAX);
	walk_enter(&w, fd);
	while (w.depth > 0) {
		if (!walk_next_entry(&w, &x)) {
			walk_leave(&w);
			continue;
		}
		enum walk_next next = walk_is_over(&w) ? WALK_STOP : fn(arg, &x);
		if (next == WALK_STOP)
			break;
		if (next == WALK_SKIP || !S_ISDIR(x.st.st_mode))
			continue;
		if (w.depth == FILE_DEPTH_MAX) {
			*why = "the tree is too deep";
			continue;
		}
		fd = path_openat(x.dir, x.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (fd >= 0)
			walk_enter(&w, fd);
	}
	while (w.depth > 0)
		walk_leave(&w);
	buf_fini(&w.path);
	return 0;
}

/* ---- list ---- */

struct list {
	struct fileop *c;
	int64_t depth, max, n;
	bool has_media;
	const char *why;
};

/* What a file is, as far as its beginning tells. */
static const char *
media_at(const struct walk_entry *w)
{
	enum { LOOK = 4 * KIB };
	char head[LOOK];
	AUTO_CLOSE int fd = path_openat(w->dir, w->name, O_RDONLY | O_NOFOLLOW);
	struct stat st;
	ssize_t n = fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ? -1 : pread(fd, head, LOOK, 0);

	return n < 0 ? NULL : media_type((struct str){ head, (size_t)n }, n == LOOK);
}

static enum walk_next
list_visit(void *arg, const struct walk_entry *w)
{
	struct list *l = arg;
	struct json *j = l->c->j;

	if (l->n >= l->max || !head_has_room(l->c, w->path.n + 64)) {
		l->why = "more entries than max";
		return WALK_STOP;
	}
	l->n++;
	json_obj(j);
	json_kv_str(j, "name", w->path);
	json_kv_z(j, "type", kind_name(w->st.st_mode));
	json_kv_int(j, "size", S_ISREG(w->st.st_mode) ? w->st.st_size : 0);
	json_kv_int(j, "mtime_ms",
		(int64_t)w->st.st_mtim.tv_sec * 1000 + w->st.st_mtim.tv_nsec / 1000000);
	if (l->has_media && S_ISREG(w->st.st_mode)) {
		const char *media = media_at(w);
		if (media != NULL)
			json_kv_z(j, "media", media);
	}
	json_obj_end(j);
	return w->depth >= l->depth || strcmp(w->name, ".git") == 0 ? WALK_SKIP : WALK_ON;
}

void
json_truncated(struct json *j, const char *why)
{
	json_kv_bool(j, "truncated", why != NULL);
	if (why != NULL)
		json_kv_z(j, "why", why);
}

int
list_tree(struct fileop *c, int dir, const char *key, walk_fn fn, void *arg, const char **why, struct err *e)
{
	AUTO_CLOSE int fd = dir;

	if (fd < 0)
		return fd;
	json_kv_arr(c->j, key);
	int rc = walk_tree(fd, c->a, fn, arg, why, e);
	if (rc != 0)
		return rc;
	json_arr_end(c->j);
	json_truncated(c->j, *why);
	return 0;
}

int
op_list(struct fileop *c, struct err *e)
{
	struct list l = { .c = c,
		.depth = node_int(c->params, "depth", 1),
		.has_media = node_bool(c->params, "media", false),
		.max = node_int(c->params, "max", 1) };
	const char *path;
	int rc = param_path(c, "path", &path, e);

	if (rc != 0)
		return rc;
	return list_tree(c, path_open_dir(node_z(c->params, "below", NULL), path, e), "entries", list_visit, &l, &l.why, e);
}

/* ---- delete ---- */

/* Whether the directory is the workspace, the root, or above the workspace. */
static bool
holds_workspace(int fd)
{
	struct stat target, at, up;
	AUTO_CLOSE int dir = path_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY);

	if (fstat(fd, &target) != 0 || dir < 0)
		return true;
	for (int i = 0; i < 256 && fstat(dir, &at) == 0; i++) {
		if (at.st_dev == target.st_dev && at.st_ino == target.st_ino)
			return true;
		int next = path_openat(dir, "..", O_PATH | O_DIRECTORY);
		if (next < 0 || fstat(next, &up) != 0) {
			if (next >= 0)
				close(next);
			return true;
		}
		close(dir);
		dir = next;
		if (up.st_dev == at.st_dev && up.st_ino == at.st_ino)
			return false;
	}
	return true;
}

/* Removes one name of the level, or enters it when it is a directory. 0 or an errno value. */
static int
remove_name(struct walk *w, struct level *l, const char *name, int64_t *removed)
{
	if (unlinkat(l->fd, name, 0) == 0) {
		++*removed;
		return 0;
	}
	if (errno != EISDIR && errno != EPERM)
		return errno == ENOENT ? 0 : errno;
	if (w->depth == FILE_DEPTH_MAX)
		return ENAMETOOLONG;
	int fd = path_openat(l->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOTDIR ? EPERM : errno;
	walk_enter(w, fd);
	return 0;
}

/* The names of a level are used up: reads on where there were too many to hold, otherwise goes up
 * and removes it. */
static int
remove_level(struct walk *w, int64_t *removed)
{
	struct level *l = &w->levels[w->depth - 1];

	if (l->names.n >= FILE_DIR_MAX) {
		int fd = path_openat(l->fd, ".", O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return errno;
		names_free(&l->names);
		l->names = (struct names){ 0 };
		l->at = 0;
		names_read(fd, &l->names, w->why);
		return 0;
	}
	walk_leave(w);
	if (w->depth == 0)
		return 0;
	l = &w->levels[w->depth - 1];
	if (unlinkat(l->fd, l->names.items[l->at - 1], AT_REMOVEDIR) == 0)
		++*removed;
	else if (errno != ENOENT)
		return errno;
	return 0;
}

/* Removes what is below fd (taken), deepest first. 0 or an errno value. */
static int
empty_tree(int fd, struct arena *a, int64_t *removed)
{
	const char *why = NULL;
	struct walk w = { .levels = arena_alloc(a, FILE_DEPTH_MAX * sizeof(struct level)),
		.why = &why };
	int bad = 0;

	walk_enter(&w, fd);
	while (w.depth > 0 && bad == 0) {
		struct level *l = &w.levels[w.depth - 1];
		bad = l->at < l->names.n ? remove_name(&w, l, l->names.items[l->at++], removed)
					 : remove_level(&w, removed);
	}
	while (w.depth > 0)
		walk_leave(&w);
	return bad;
}

static int
delete_dir(struct fileop *c, struct parent *p, const char *path, int64_t *removed, struct err *e)
{
	char shown[SHOWN_MAX];
	int fd = path_openat(p->fd, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

	if (fd < 0)
		return path_error(e, errno, path);
	if (holds_workspace(fd)) {
		close(fd);
		return err_set(e, ERR_DENIED, ERR_TO_MODEL,
			"%s holds the workspace and cannot be deleted (delete what is in it)",
			path_shown(path, shown));
	}
	int bad = 0;
	if (node_bool(c->params, "recursive", false))
		bad = empty_tree(fd, c->a, removed);
	else
		close(fd);
	if (bad == 0 && unlinkat(p->fd, p->name, AT_REMOVEDIR) != 0)
		bad = errno;
	if (bad == 0)
		++*removed;
	if ((bad == ENOTEMPTY || bad == EEXIST) && *removed == 0)
		return err_set(e, ERR_CONFLICT, ERR_TO_MODEL,
			"%s is a directory that is not empty (set recursive to delete all of it)",
			path_shown(path, shown));
	if (bad != 0 && *removed > 0)
		return err_errno(e, bad, ERR_TO_MODEL,
			"%s: %lld entries in it were deleted, then one could not be",
			path_shown(path, shown), (long long)*removed);
	return bad != 0 ? path_error(e, bad, path) : 0;
}

/* Files, directories and links (the link itself) may be moved and deleted; FIFOs, sockets and
 * devices may not. */
static int
check_kind(const struct parent *p, const char *path, struct stat *st, struct err *e)
{
	char shown[SHOWN_MAX];

	if (fstatat(p->fd, p->name, st, AT_SYMLINK_NOFOLLOW) != 0)
		return path_error(e, errno, path);
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode))
		return 0;
	return err_set(e, ERR_INVALID, ERR_TO_MODEL,
		"%s is %s, not a file or a directory (use exec)", path_shown(path, shown),
		kind_text(st->st_mode));
}

int
op_delete(struct fileop *c, struct err *e)
{
	const char *path;
	struct parent p;
	struct stat st;
	int64_t removed = 0;
	int rc;

	if ((rc = param_path(c, "path", &path, e)) != 0 ||
		(rc = parent_open(path, false, &p, e)) != 0)
		return rc;
	if ((rc = check_kind(&p, path, &st, e)) == 0) {
		if (S_ISDIR(st.st_mode))
			rc = delete_dir(c, &p, path, &removed, e);
		else if (unlinkat(p.fd, p.name, 0) != 0)
			rc = path_error(e, errno, path);
		else
			removed = 1;
	}
	if (rc == 0)
		dir_sync(p.fd);
	parent_close(&p);
	if (rc == 0)
		json_kv_int(c->j, "removed", removed);
	return rc;
}

/* ---- move ---- */

struct move {
	const char *path, *to;
	struct parent from, dest;
	struct stat st;
	bool replace;
};

/* Between two file systems a rename is a copy and a delete. The copy is complete and durable before
 * its name appears. */
static int
move_copy(struct move *m, struct err *e)
{
	char shown[SHOWN_MAX];
	struct replace r;
	struct stat now;
	int rc;

	if (!S_ISREG(m->st.st_mode))
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_MODEL,
			"%s is %s, and the destination is another file system (use exec: cp -a, "
			"then rm -r)",
			path_shown(m->path, shown), kind_text(m->st.st_mode));
	/* Where it cannot be deleted, no copy is left either. */
	if (faccessat(m->from.fd, ".", W_OK, AT_EACCESS) != 0)
		return path_error(e, errno, m->path);
	AUTO_CLOSE int fd = path_openat(m->from.fd, m->from.name, O_RDONLY | O_NOFOLLOW);
	if (fd < 0)
		return path_error(e, errno, m->path);
	if ((rc = replace_begin(&r, m->to, false, e)) != 0)
		return rc;
	ssize_t n;
	while ((n = sendfile(r.fd, fd, NULL, MIB)) > 0 || (n < 0 && errno == EINTR))
		;
	if (n < 0 || fstat(fd, &now) != 0) {
		rc = path_error(e, errno, m->to);
		replace_abort(&r);
		return rc;
	}
	struct timespec times[2] = { now.st_atim, now.st_mtim };
	(void)futimens(r.fd, times);
	if ((rc = replace_commit(&r, m->to, &now, !m->replace, e)) != 0)
		return rc;
	if (unlinkat(m->from.fd, m->from.name, 0) != 0)
		return err_errno(e, errno, ERR_TO_MODEL,
			"copied to %s, but the original could not be deleted",
			path_shown(m->to, shown));
	return 0;
}

/* Without RENAME_NOREPLACE (some network trees) the check and the rename are two steps. */
static int
rename_new(const struct move *m)
{
	struct stat st;

	if (renameat2(m->from.fd, m->from.name, m->dest.fd, m->dest.name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (fstatat(m->dest.fd, m->dest.name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(m->from.fd, m->from.name, m->dest.fd, m->dest.name);
}

static int
move_run(struct move *m, struct err *e)
{
	char shown[SHOWN_MAX];
	struct stat st;
	bool exists = fstatat(m->dest.fd, m->dest.name, &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (exists && st.st_dev == m->st.st_dev && st.st_ino == m->st.st_ino)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "path and to are the same file");
	if (exists && S_ISDIR(st.st_mode) && !S_ISDIR(m->st.st_mode))
		return err_set(e, ERR_EXISTS, ERR_TO_MODEL,
			"%s is a directory (give the whole new path, with the name at its end)",
			path_shown(m->to, shown));
	if (exists && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s is %s and is not replaced",
			path_shown(m->to, shown), kind_text(st.st_mode));
	int rc = m->replace ? renameat(m->from.fd, m->from.name, m->dest.fd, m->dest.name)
			    : rename_new(m);
	if (rc == 0)
		return 0;
	switch (errno) {
	case EXDEV:
		return exists && !m->replace ? err_set(e, ERR_EXISTS, ERR_TO_MODEL,
						       "%s exists (set replace to overwrite it)",
						       path_shown(m->to, shown))
					     : move_copy(m, e);
	case EEXIST:
	case ENOTEMPTY:
		return err_set(e, ERR_EXISTS, ERR_TO_MODEL, "%s exists (%s)",
			path_shown(m->to, shown),
			m->replace ? "a directory that is not empty is never replaced"
				   : "set replace to overwrite it");
	case EINVAL:
		return err_set(
			e, ERR_INVALID, ERR_TO_MODEL, "a directory cannot be moved into itself");
	default:
		return path_error(e, errno, m->to);
	}
}

int
op_move(struct fileop *c, struct err *e)
{
	char shown[SHOWN_MAX];
	struct move m = { .replace = node_bool(c->params, "replace", false) };
	int rc;

	if ((rc = param_path(c, "path", &m.path, e)) != 0 ||
		(rc = param_path(c, "to", &m.to, e)) != 0 ||
		(rc = parent_open(m.path, false, &m.from, e)) != 0)
		return rc;
	if ((rc = parent_open(m.to, node_bool(c->params, "mkdirs", false), &m.dest, e)) == 0) {
		if ((rc = check_kind(&m.from, m.path, &m.st, e)) == 0) {
			AUTO_CLOSE int fd =
				S_ISDIR(m.st.st_mode)
					? path_openat(m.from.fd, m.from.name, O_PATH | O_NOFOLLOW)
					: -1;
			if (fd >= 0 && holds_workspace(fd))
				rc = err_set(e, ERR_DENIED, ERR_TO_MODEL,
					"%s holds the workspace and cannot be moved",
					path_shown(m.path, shown));
			else
				rc = move_run(&m, e);
		}
		if (rc == 0) {
			dir_sync(m.dest.fd);
			dir_sync(m.from.fd);
		}
		parent_close(&m.dest);
	}
	parent_close(&m.from);
	return rc;
}
