/* SPDX-License-Identifier: MIT
 * Path text and small whole files of the daemon. Cleaning is lexical and never asks the file
 * system. A file is replaced whole or not at all: readers see the old content or the new, also
 * after a power loss. */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/mem.h"

char *
path_join(struct arena *a, const char *dir, const char *name)
{
	if (name[0] == '/' || dir[0] == '\0')
		return arena_strdup(a, str_of(name));
	size_t n = strlen(dir);
	while (n > 1 && dir[n - 1] == '/')
		n--;
	bool slash = dir[n - 1] == '/';
	return arena_printf(a, "%.*s%s%s", (int)n, dir, slash ? "" : "/", name);
}

/* Takes the last part off out[0..n). false when there is none that ".." could remove. */
static bool
drop_last(const char *out, size_t *n, bool absolute)
{
	size_t end = *n, at = end;
	while (at > 0 && out[at - 1] != '/')
		at--;
	if (at == end || (end - at == 2 && memcmp(out + at, "..", 2) == 0))
		return absolute;
	*n = at > absolute ? at - 1 : at;
	return true;
}

char *
path_clean(struct arena *a, const char *path)
{
	bool absolute = path[0] == '/';
	char *out =
		arena_strdup(a, str_of(path)); /* a cleaned path is never longer, "." excepted */
	size_t n = absolute;
	struct str rest = str_of(path), part;
	while (str_next(&rest, '/', &part)) {
		if (part.n == 0 || str_is(part, "."))
			continue;
		if (str_is(part, "..") && drop_last(out, &n, absolute))
			continue;
		if (n > absolute)
			out[n++] = '/';
		memmove(out + n, part.p, part.n);
		n += part.n;
	}
	if (n == 0)
		return arena_strdup(a, STR("."));
	out[n] = '\0';
	return out;
}

static int
make_dir(const char *dir, mode_t mode, struct err *e)
{
	struct stat st;
	if (mkdir(dir, mode) == 0)
		return 0;
	int saved = errno;
	if (saved != EEXIST && stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
		return 0; /* a parent on a read-only or foreign file system */
	if (saved == EEXIST && stat(dir, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		return err_set(e, ERR_EXISTS, ERR_TO_USER,
			"%s exists and is not a directory (move it away)", dir);
	}
	return err_errno(e, saved, ERR_TO_USER, "cannot create the directory %s", dir);
}

int
path_mkdirs(const char *dir, mode_t mode, struct err *e)
{
	AUTO_FREE char *path = xstrdup(dir);
	for (char *at = path; *at; at++) {
		if (*at != '/' || at == path)
			continue;
		*at = '\0';
		int rc = make_dir(path, mode | S_IRWXU, e);
		*at = '/';
		if (rc != 0)
			return rc;
	}
	return make_dir(path, mode, e);
}

/* O_NONBLOCK: opening a pipe must not wait for its other end before it is refused as not regular.
 */
static int
read_regular(const char *path, int flags, size_t max, char **out, size_t *n, struct err *e)
{
	AUTO_CLOSE int fd = open(path, flags | O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "%s is not a regular file", path);
	struct buf b;
	buf_init(&b, max);
	for (;;) {
		size_t left = max - b.n;
		size_t want = MAX(MIN(left, (size_t)65536), (size_t)1);
		char spill; /* one byte past the maximum tells that the file is too large */
		char *to = left ? buf_reserve(&b, want) : &spill;
		ssize_t got = to ? read(fd, to, want) : -1;
		if (got == 0)
			break;
		if (got > 0 && left) {
			buf_added(&b, (size_t)got);
			continue;
		}
		int saved = to ? errno : ENOMEM;
		if (got < 0 && saved == EINTR)
			continue;
		buf_fini(&b);
		if (got > 0)
			return err_set(e, ERR_LIMIT, ERR_TO_USER, "%s is larger than %zu bytes",
				path, max);
		return err_errno(e, saved, ERR_TO_USER, "cannot read %s", path);
	}
	*out = buf_take(&b, n);
	return 0;
}

int
file_read(const char *path, size_t max, char **out, size_t *n, struct err *e)
{
	return read_regular(path, 0, max, out, n, e);
}

int
file_read_no_link(const char *path, size_t max, char **out, size_t *n, struct err *e)
{
	return read_regular(path, O_NOFOLLOW, max, out, n, e);
}

int
fd_write_all(int fd, const void *p, size_t n)
{
	const char *from = p;
	while (n > 0) {
		ssize_t put = write(fd, from, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		from += put;
		n -= (size_t)put;
	}
	return 0;
}

int
fd_read_all(int fd, struct buf *b)
{
	for (;;) {
		size_t want = MIN(b->max - b->n, (size_t)4096);
		char *to = want > 0 ? buf_reserve(b, want) : NULL;
		if (to == NULL) {
			errno = ENOBUFS;
			return -1;
		}
		ssize_t got = read(fd, to, want);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return (int)got;
		buf_added(b, (size_t)got);
	}
}

static int
sync_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *dir =
		!slash ? xstrdup(".") : xstrndup(path, MAX((size_t)(slash - path), (size_t)1));
	AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -1 : fsync(fd);
}

/* Fills the temporary file; errno tells why when it fails. */
static int
fill(const char *temp, struct str content, mode_t mode)
{
	AUTO_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	if (fchmod(fd, mode) != 0 || fd_write_all(fd, content.p, content.n) != 0 || fsync(fd) != 0)
		return -1;
	/* close(2) is the last place where a network file system reports a lost write. */
	return close(take_fd(&fd));
}

int
file_write(const char *path, struct str content, mode_t mode, struct err *e)
{
	AUTO_FREE char *temp = xasprintf("%s.%s.tmp", path, id_new().z);
	if (fill(temp, content, mode) != 0 || rename(temp, path) != 0) {
		int saved = errno;
		(void)unlink(temp);
		return err_errno(e, saved, ERR_TO_USER, "cannot write %s", path);
	}
	if (sync_dir(path) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make %s durable", path);
	return 0;
}

int
fd_set_cloexec(int fd)
{
	int flags = fcntl(fd, F_GETFD);
	return flags < 0 ? -1 : fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

int
fd_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void
fd_limit_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}
