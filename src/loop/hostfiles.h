/* SPDX-License-Identifier: MIT
 * Files of the host for a role that may not see them, because it runs in a container of its own: the runner reads, writes
 * and looks at those that its table allows (runner/keeper.c). Calls block, as those of the file system do; one thread. */
#ifndef LOOP_HOSTFILES_H
#define LOOP_HOSTFILES_H

#include <sys/stat.h>
#include "base/str.h"
#include "loop/loop.h"

struct hostfiles; /* NULL, everywhere below: the file system itself */
struct hostfiles *hostfiles_open(int fd); /* takes a blocking socket to the runner */
void hostfiles_close(struct hostfiles *h);

/* As file_read and file_write of base/path.h. What the runner does not show is ERR_DENIED. */
int hostfiles_read(struct hostfiles *h, const char *path, size_t max, char **out, size_t *n, struct err *e) MUST_USE;
int hostfiles_write(struct hostfiles *h, const char *path, struct str content, struct err *e) MUST_USE; /* mode 0600 */
/* As file_read_no_link: never what a link points to. */
int hostfiles_read_plain(struct hostfiles *h, const char *path, size_t max, char **out, size_t *n, struct err *e) MUST_USE;
/* Its kind and permissions, of what a link leads to or of the link. The message begins with the path. */
int hostfiles_look(struct hostfiles *h, const char *path, bool may_follow, mode_t *mode, struct err *e) MUST_USE;

#endif
