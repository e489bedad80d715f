/* SPDX-License-Identifier: MIT
 * Paths for file operations: opening without surprises (no magic links, no blocking on FIFOs,
 * nothing but files and directories), errors that tell a model what to do instead, and the atomic
 * replacement of one file. Invariant: what is changed is always named by an open directory and one
 * component that is not followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/path.h"
#include "base/utf8.h"
#include "sandbox/fileop_internal.h"

const char *
path_shown(const char *path, char out[SHOWN_MAX])
{
	struct str s = str_of(path);
	if (s.n < SHOWN_MAX) {
		snprintf(out, SHOWN_MAX, "%s", path);
		return out;
	}
	size_t from = utf8_start(s, s.n - (SHOWN_MAX - 4));
	snprintf(out, SHOWN_MAX, "...%s", path + from);
	return out;
}

int
param_path(const struct fileop *c, const char *key, const char **out, struct err *e)
{
	struct str s = node_str(c->params, key, STR(""));
	if (s.n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s is empty (give a path, for example src/main.c)", key);
	if (memchr(s.p, 0, s.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s has a NUL character in it", key);
	if (s.n >= FILE_PATH_MAX)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s has %zu bytes, at most %u are possible", key, s.n, FILE_PATH_MAX - 1);
	*out = arena_strdup(c->a, s);
	return 0;
}

static const struct {
	mode_t type;
	const char *name, *text;
} kinds[] = {
	{ S_IFREG, "file", "a file" },
	{ S_IFDIR, "dir", "a directory" },
	{ S_IFLNK, "link", "a symbolic link" },
	{ S_IFIFO, "fifo", "a FIFO" },
	{ S_IFSOCK, "socket", "a socket" },
	{ S_IFCHR, "device", "a character device" },
	{ S_IFBLK, "device", "a block device" },
};

const char *
kind_name(mode_t mode)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].type == (mode & S_IFMT))
			return kinds[i].name;
	return "other";
}

const char *
kind_text(mode_t mode)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].type == (mode & S_IFMT))
			return kinds[i].text;
	return "something unknown";
}

static int
open_resolving(int dir, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC |
			 ((flags & O_PATH) ? 0 : O_NONBLOCK | O_NOCTTY),
		.resolve = resolve,
	};
	long fd;
	do
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)fd;
}

int
path_openat(int dir, const char *path, int flags)
{
	return open_resolving(dir, path, flags, RESOLVE_NO_MAGICLINKS);
}

int
path_open_below(const char *below, const char *path, int flags)
{
	if (below == NULL)
		return path_openat(AT_FDCWD, path, flags);
	AUTO_CLOSE int dir = path_openat(AT_FDCWD, below, O_PATH | O_DIRECTORY);
	return dir < 0 ? -1 : open_resolving(dir, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/* The name in dir that was probably meant: equal but for case, or near. Empty when there is none.
 */
static void
nearest_name(int dir, const char *name, char out[256])
{
	enum { LOOK_AT = 2048 };
	size_t best = MAX((size_t)1, strlen(name) / 3) + 1;

	out[0] = 0;
	int fd = path_openat(dir, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	const struct dirent *x;
	for (int i = 0; i < LOOK_AT && (x = readdir(d)) != NULL; i++) {
		if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 ||
			!utf8_valid(str_of(x->d_name)))
			continue;
		size_t n = strcasecmp(x->d_name, name) == 0
				   ? 0
				   : str_distance(str_of(x->d_name), str_of(name));
		if (n < best) {
			best = n;
			snprintf(out, 256, "%s", x->d_name);
		}
	}
	closedir(d);
}

/* Walks to the first component that is missing and names what stands beside it. */
static int
missing_error(struct err *e, const char *path)
{
	char part[256], near[256], shown[SHOWN_MAX];
	int dir = path_openat(AT_FDCWD, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY);
	const char *p = path;

	path_shown(path, shown);
	while (dir >= 0) {
		p += strspn(p, "/");
		size_t n = strcspn(p, "/");
		if (n == 0 || n >= sizeof(part))
			break;
		snprintf(part, sizeof(part), "%.*s", (int)n, p);
		p += n;
		int next = path_openat(dir, part, O_PATH | O_DIRECTORY);
		if (next >= 0) {
			close(dir);
			dir = next;
			continue;
		}
		bool is_last = p[strspn(p, "/")] == 0;
		struct stat st;
		if (is_last && fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			close(dir);
			return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
				"%s is a symbolic link that leads nowhere", shown);
		}
		nearest_name(dir, part, near);
		close(dir);
		if (near[0])
			return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
				"%s does not exist: there is no %.60s there (did you mean %.60s?)",
				shown, part, near);
		return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
			"%s does not exist: there is no %s%.60s (use list or glob to find it)",
			shown, is_last ? "" : "directory ", part);
	}
	if (dir >= 0)
		close(dir);
	return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
		"%s does not exist (use list or glob to find it)", shown);
}

static const struct {
	int errnum, code;
	const char *text;
} reasons[] = {
	{ EACCES, ERR_DENIED,
		"is not permitted here (see the paths and the mode of this session)" },
	{ EPERM, ERR_DENIED, "is not permitted here (see the paths and the mode of this session)" },
	{ EROFS, ERR_READONLY, "is on a read-only tree (write below /shared or /tmp)" },
	{ ENOTDIR, ERR_INVALID, "goes through something that is not a directory" },
	{ EISDIR, ERR_INVALID, "is a directory (use list)" },
	{ ELOOP, ERR_INVALID,
		"goes through a loop of symbolic links, or one that may not be followed" },
	{ ENAMETOOLONG, ERR_INVALID,
		"has a name that is too long (at most 255 bytes between slashes)" },
	{ ENXIO, ERR_INVALID, "is a FIFO, a socket or a device, not a file" },
	{ ENODEV, ERR_INVALID, "is a FIFO, a socket or a device, not a file" },
	{ ENOSPC, ERR_FULL, "could not be written: the disk is full" },
	{ EDQUOT, ERR_FULL, "could not be written: the quota is used up" },
	{ EFBIG, ERR_LIMIT, "would be larger than this session may write" },
	{ EBUSY, ERR_CONFLICT, "is in use, or something is mounted on it" },
	{ ESTALE, ERR_CONFLICT, "was changed by something else meanwhile" },
	{ ETXTBSY, ERR_CONFLICT, "is a program that is running" },
	{ EMFILE, ERR_LIMIT, "could not be opened: too many open files" },
	{ ENOSYS, ERR_UNSUPPORTED,
		"could not be opened: this kernel has no openat2 (Linux 5.6 is needed)" },
};

int
path_error(struct err *e, int errnum, const char *path)
{
	char shown[SHOWN_MAX];

	if (errnum == ENOENT)
		return missing_error(e, path);
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (reasons[i].errnum == errnum)
			return err_set(e, reasons[i].code, ERR_TO_MODEL, "%s %s",
				path_shown(path, shown), reasons[i].text);
	return err_errno(e, errnum, ERR_TO_MODEL, "%s", path_shown(path, shown));
}

int
path_open_file(const char *below, const char *path, struct stat *st, struct err *e)
{
	char shown[SHOWN_MAX];
	AUTO_CLOSE int fd = path_open_below(below, path, O_RDONLY);

	if (fd < 0 || fstat(fd, st) != 0)
		return path_error(e, errno, path);
	if (S_ISDIR(st->st_mode))
		return path_error(e, EISDIR, path);
	if (!S_ISREG(st->st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s is %s, not a file",
			path_shown(path, shown), kind_text(st->st_mode));
	return take_fd(&fd);
}

int
path_open_dir(const char *below, const char *path, struct err *e)
{
	char shown[SHOWN_MAX];
	struct stat st;
	int fd = path_open_below(below, path, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		return fd;
	if (errno != ENOTDIR || below != NULL)
		return path_error(e, errno, path);
	if (stat(path, &st) == 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s is %s, not a directory%s",
			path_shown(path, shown), kind_text(st.st_mode),
			S_ISREG(st.st_mode) ? " (use read or stat)" : "");
	return path_error(e, ENOTDIR, path);
}

void
dir_sync(int dir)
{
	/* A directory that cannot be opened for reading or synced (some network trees) is as
	 * durable as it gets. */
	int fd = path_openat(dir, ".", O_RDONLY | O_DIRECTORY);
	if (fd >= 0) {
		(void)fsync(fd);
		close(fd);
	}
}

/* Opens one directory on the way; makes it when asked. fd or -1 with errno. */
static int
enter(int dir, const char *name, bool make)
{
	int fd = path_openat(dir, name, O_PATH | O_DIRECTORY);
	if (fd >= 0 || errno != ENOENT || !make)
		return fd;
	if (mkdirat(dir, name, 0777) == 0)
		dir_sync(dir);
	else if (errno != EEXIST)
		return -1;
	return path_openat(dir, name, O_PATH | O_DIRECTORY);
}

int
parent_open(const char *path, bool mkdirs, struct parent *out, struct err *e)
{
	char shown[SHOWN_MAX], part[256];
	const char *p = path + strspn(path, "/");
	AUTO_CLOSE int dir =
		path_openat(AT_FDCWD, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY);

	if (dir < 0)
		return path_error(e, errno, path);
	for (;;) {
		size_t n = strcspn(p, "/");
		if (n >= sizeof(part))
			return path_error(e, ENAMETOOLONG, path);
		snprintf(part, sizeof(part), "%.*s", (int)n, p);
		p += n + strspn(p + n, "/");
		if (*p == 0)
			break;
		int next = enter(dir, part, mkdirs);
		if (next < 0)
			return path_error(e, errno, path);
		close(dir);
		dir = next;
	}
	if (part[0] == 0 || strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s does not end in a name (give the path of one file or directory)",
			path_shown(path, shown));
	out->fd = take_fd(&dir);
	snprintf(out->name, sizeof(out->name), "%s", part);
	return 0;
}

void
parent_close(struct parent *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void
tmp_name(const char *name, char out[TMP_NAME_SIZE])
{
	char hex[SHA256_HEX];

	sha256_hex(str_of(name), hex);
	snprintf(out, TMP_NAME_SIZE, ".ithaca-%.16s.tmp", hex);
}

/* Makes and locks the temporary file. One that nobody holds was left by a writer that was killed:
 * it is removed. The lock is taken before a name is trusted, so two writers of one file never write
 * into the same temporary file. */
static int
tmp_open(struct replace *r)
{
	struct stat mine, named;

	for (int i = 0; i < 3; i++) {
		int fd = openat(r->dir.fd, r->tmp,
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
		bool made = fd >= 0;
		if (!made && errno != EEXIST)
			return -1;
		if (!made)
			fd = path_openat(r->dir.fd, r->tmp, O_RDWR | O_NOFOLLOW);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
			close(fd);
			errno = EBUSY;
			return -1;
		}
		bool is_named = fstat(fd, &mine) == 0 &&
				fstatat(r->dir.fd, r->tmp, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
				mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
		if (made && is_named)
			return fd;
		if (is_named)
			(void)unlinkat(r->dir.fd, r->tmp, 0);
		close(fd);
	}
	errno = EBUSY;
	return -1;
}

/* What stands under the name now: nothing, or a file that may be replaced. */
static int
check_target(struct replace *r, const char *path, struct err *e)
{
	char shown[SHOWN_MAX];

	r->existed = fstatat(r->dir.fd, r->dir.name, &r->old, AT_SYMLINK_NOFOLLOW) == 0;
	if (!r->existed)
		return errno == ENOENT ? 0 : path_error(e, errno, path);
	if (S_ISLNK(r->old.st_mode)) {
		char to[128];
		ssize_t n = readlinkat(r->dir.fd, r->dir.name, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = 0;
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s is a symbolic link to %s (change that file instead)",
			path_shown(path, shown), to);
	}
	if (!S_ISREG(r->old.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s is %s, not a file",
			path_shown(path, shown), kind_text(r->old.st_mode));
	if (faccessat(r->dir.fd, r->dir.name, W_OK, AT_EACCESS) != 0)
		return path_error(e, errno, path);
	return 0;
}

int
replace_begin(struct replace *r, const char *path, bool mkdirs, struct err *e)
{
	char shown[SHOWN_MAX];
	int rc;

	memset(r, 0, sizeof(*r));
	r->fd = r->dir.fd = -1;
	if (path[strlen(path) - 1] == '/')
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s names a directory (give the path of a file)", path_shown(path, shown));
	if ((rc = parent_open(path, mkdirs, &r->dir, e)) != 0)
		return rc;
	if ((rc = check_target(r, path, e)) == 0) {
		tmp_name(r->dir.name, r->tmp);
		r->fd = tmp_open(r);
		if (r->fd >= 0)
			return 0;
		rc = path_error(e, errno, path);
	}
	parent_close(&r->dir);
	return rc;
}

int
replace_commit(struct replace *r, const char *path, const struct stat *keep, bool no_clobber,
	struct err *e)
{
	int rc = -1;

	if (keep == NULL && r->existed)
		keep = &r->old;
	if (keep != NULL) {
		if (keep->st_uid != geteuid() || keep->st_gid != getegid())
			(void)!fchown(r->fd, keep->st_uid,
				keep->st_gid); /* only root may; others own it from now on */
		if (fchmod(r->fd, keep->st_mode & 01777) != 0)
			goto out;
	}
	if (fsync(r->fd) != 0)
		goto out;
	rc = no_clobber ? renameat2(r->dir.fd, r->tmp, r->dir.fd, r->dir.name, RENAME_NOREPLACE)
			: renameat(r->dir.fd, r->tmp, r->dir.fd, r->dir.name);
out:
	if (rc != 0) {
		rc = path_error(e, errno, path);
		replace_abort(r);
		return rc;
	}
	dir_sync(r->dir.fd);
	close(r->fd);
	parent_close(&r->dir);
	return 0;
}

void
replace_abort(struct replace *r)
{
	(void)unlinkat(r->dir.fd, r->tmp, 0);
	close(r->fd);
	parent_close(&r->dir);
}

int
fd_load(int fd, int64_t offset, size_t max, struct buf *out, const char *path, struct err *e)
{
	while (max > 0) {
		size_t want = MIN(max, (size_t)256 * KIB);
		char *p = buf_reserve(out, want);
		if (p == NULL)
			return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
				"%s is too large to be read at once (read a part of it)", path);
		ssize_t n = pread(fd, p, want, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return path_error(e, errno, path);
		if (n == 0)
			break;
		buf_added(out, (size_t)n);
		offset += n;
		max -= (size_t)n;
	}
	return 0;
}

bool
is_binary(struct str s)
{
	return s.n > 0 && memchr(s.p, 0, MIN(s.n, (size_t)8 * KIB)) != NULL;
}

int
fd_sha256(int fd, char out[SHA256_HEX])
{
	enum { CHUNK = 64 * KIB };
	char chunk[CHUNK];
	unsigned char digest[SHA256_SIZE];
	struct sha256 h;
	int64_t at = 0;

	sha256_init(&h);
	for (;;) {
		ssize_t n = pread(fd, chunk, CHUNK, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ERR_IO;
		if (n == 0)
			break;
		at += n;
		if (at > FILE_HASH_MAX)
			return ERR_LIMIT;
		sha256_add(&h, chunk, (size_t)n);
	}
	sha256_done(&h, digest);
	hex_encode(digest, sizeof(digest), out);
	return 0;
}
