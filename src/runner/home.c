/* SPDX-License-Identifier: MIT
 * Whether the home is still the one that we hold the lock of: it may be renamed or removed under a daemon, which no command can
 * reach then, and another daemon may stand at its path. Invariant: nothing is removed by name from a home that is not ours. */
#include "runner/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

struct home_watch {
	int fd;
	struct watch *watch;
	loop_fn fn;
	void *arg;
};

bool
home_is_ours(const char *home, int lock_fd)
{
	AUTO_FREE char *path = xasprintf("%s/run/lock", home);
	struct stat there, held;

	return stat(path, &there) == 0 && fstat(lock_fd, &held) == 0 && there.st_dev == held.st_dev && there.st_ino == held.st_ino;
}

void
home_unlink(const struct runner *r, const char *path)
{
	if (home_is_ours(r->home, r->lock_fd))
		(void)unlink(path);
}

static void
on_event(void *arg, int events)
{
	struct home_watch *w = arg;
	char text[4096];

	while (read(w->fd, text, sizeof text) > 0)
		; /* what it was does not matter */
	w->fn(w->arg);
}

struct home_watch *
home_watch_start(struct loop *l, const char *home, loop_fn fn, void *arg)
{
	AUTO_FREE char *lock = xasprintf("%s/run/lock", home);
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	struct home_watch *w;

	if (fd < 0 || inotify_add_watch(fd, home, IN_MOVE_SELF | IN_DELETE_SELF) < 0 ||
		inotify_add_watch(fd, lock, IN_ATTRIB | IN_DELETE_SELF) < 0) {
		log_warn("it will not be noticed if the home is removed", LOG_S("home", home), LOG_S("error", strerror(errno)));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	w = xcalloc(1, sizeof *w);
	*w = (struct home_watch){ .fd = fd, .fn = fn, .arg = arg };
	w->watch = watch_start(l, fd, LOOP_READ, on_event, w);
	return w;
}

void
home_watch_close(struct home_watch *w)
{
	if (w == NULL)
		return;
	watch_close(w->watch);
	close(w->fd);
	free(w);
}
