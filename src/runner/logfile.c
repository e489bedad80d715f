/* SPDX-License-Identifier: MIT
 * One file of logs/, put aside by size: NAME.log, NAME.log.1 (the newest put aside), NAME.log.2, ... Lines are written
 * whole or not at all; while the disk is full some are held in memory, and what had to be dropped is counted and said.
 * The descriptor's number never changes, so that whoever logs to it need not know. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct logfile {
	char *path;
	int fd; /* -1: could not be opened yet */
	int64_t max_bytes;
	int keep;
	struct buf held; /* lines that the disk did not take */
	size_t lost;
	int errnum; /* why; 0: all is well */
};

static int
open_append(const char *path, int flags)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

struct logfile *
logfile_open(const char *path, int64_t max_bytes, int keep)
{
	struct logfile *f = xcalloc(1, sizeof *f);

	*f = (struct logfile){ .path = xstrdup(path), .max_bytes = max_bytes, .keep = keep };
	f->fd = open_append(path, 0);
	f->errnum = f->fd < 0 ? errno : 0;
	buf_init(&f->held, LOG_PENDING_MAX);
	return f;
}

void
logfile_close(struct logfile *f)
{
	if (f == NULL)
		return;
	if (f->fd >= 0)
		close(f->fd);
	buf_fini(&f->held);
	free(f->path);
	free(f);
}

static void
aside_name(const struct logfile *f, int i, char *out, size_t n)
{
	if (i == 0)
		snprintf(out, n, "%s", f->path);
	else
		snprintf(out, n, "%s.%d", f->path, i);
}

/* The new file is there before the old one gives up its descriptor: where it cannot be made, the old one goes on growing. */
static void
turn_over(struct logfile *f)
{
	char from[4096], to[4096];
	int fd;

	for (int i = f->keep; i >= 0; i--) {
		aside_name(f, i, from, sizeof from);
		aside_name(f, i + 1, to, sizeof to);
		if (i == f->keep)
			unlink(from);
		else if (rename(from, to) != 0 && errno != ENOENT)
			return;
	}
	fd = open_append(f->path, O_EXCL);
	if (fd < 0)
		return;
	if (dup3(fd, f->fd, O_CLOEXEC) < 0)
		f->errnum = errno;
	close(fd);
}

void
logfile_check(struct logfile *f)
{
	struct stat st;

	if (f->fd >= 0 && fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= f->max_bytes)
		turn_over(f);
}

/* Whole or not at all: a part that a full disk took is taken back. 0 or -1. */
static int
put(struct logfile *f, struct str line)
{
	struct stat st;
	ssize_t n;

	if (f->fd < 0)
		f->fd = open_append(f->path, 0);
	if (f->fd < 0 || fstat(f->fd, &st) != 0) {
		f->errnum = errno;
		return -1;
	}
	if (st.st_size > 0 && st.st_size + (int64_t)line.n > f->max_bytes) {
		turn_over(f);
		if (fstat(f->fd, &st) != 0)
			st.st_size = 0;
	}
	do
		n = write(f->fd, line.p, line.n);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)line.n) {
		f->errnum = 0;
		return 0;
	}
	f->errnum = n < 0 ? errno : ENOSPC;
	if (n > 0 && ftruncate(f->fd, st.st_size) != 0)
		f->errnum = errno;
	return -1;
}

/* What was held, line by line, and then how much could not be. 0: nothing is held any more. */
static int
put_held(struct logfile *f)
{
	size_t done = 0;
	int rc = 0;

	while (rc == 0 && done < f->held.n) {
		struct str rest = str_sub(buf_str(&f->held), done, f->held.n);
		ptrdiff_t end = str_find_char(rest, '\n');
		struct str line = str_sub(rest, 0, end < 0 ? rest.n : (size_t)end + 1);

		rc = put(f, line);
		done += rc == 0 ? line.n : 0;
	}
	buf_consume(&f->held, done);
	if (rc == 0 && f->lost > 0) {
		struct buf b;

		buf_init(&b, LOG_RECORD_MAX);
		log_record(&b, "runner", LOG_WARN, LOG_LOGFMT, "lines were lost while the log could not be written",
			(const struct log_field[]){ LOG_I("lines", (int64_t)f->lost) }, 1);
		rc = put(f, buf_str(&b));
		buf_fini(&b);
		f->lost = rc == 0 ? 0 : f->lost;
	}
	return rc;
}

void
logfile_write(struct logfile *f, struct str line)
{
	if ((f->held.n > 0 || f->lost > 0) && put_held(f) != 0) {
		/* in order: this one waits behind the others */
	} else if (put(f, line) == 0) {
		return;
	}
	if (f->held.n + line.n > LOG_PENDING_MAX || buf_add_str(&f->held, line) != 0)
		f->lost++;
}

int
logfile_fd(const struct logfile *f)
{
	return f->fd;
}

int
logfile_trouble(const struct logfile *f)
{
	return f->errnum;
}
