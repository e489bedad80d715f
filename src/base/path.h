/* SPDX-License-Identifier: MIT
 * Paths and small whole files of the daemon itself (never of a workspace: those are reached only inside a cell). */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <sys/types.h>
#include "base/arena.h"
#include "base/err.h"

/* Joins with exactly one '/'; an absolute b replaces a. In the arena. */
char *path_join(struct arena *a, const char *dir, const char *name);
/* Lexical cleaning: no "//", no "." parts, ".." resolved; never above "/". In the arena. */
char *path_clean(struct arena *a, const char *path);
/* Creates dir and its parents with mode; an existing directory is fine. */
int path_mkdirs(const char *dir, mode_t mode, struct err *e) MUST_USE;
/* Reads a whole regular file of at most max bytes; *out is heap, NUL-terminated, owned by caller. */
int file_read(const char *path, size_t max, char **out, size_t *n, struct err *e) MUST_USE;
/* The same, but a path whose last name is a link fails: for a directory that a stranger can write. */
int file_read_no_link(const char *path, size_t max, char **out, size_t *n, struct err *e) MUST_USE;
/* Replaces path atomically: temporary file in the same directory, fsync, rename, fsync of the directory. */
int file_write(const char *path, struct str content, mode_t mode, struct err *e) MUST_USE;
int fd_write_all(int fd, const void *p, size_t n); /* 0 or -1 with errno; EINTR and short writes handled */
/* Appends what is left to read, up to its end. -1 with errno; ENOBUFS: b has no room for more. */
int fd_read_all(int fd, struct buf *b);
int fd_set_cloexec(int fd);
int fd_set_nonblock(int fd);
/* As many descriptors as the system lets this process have: for roles that serve many at once. What they start inherits it,
 * so not for those that run commands. */
void fd_limit_raise(void);

#endif
