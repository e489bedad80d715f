/* SPDX-License-Identifier: MIT
 * The cleaner: a small process beside shelld that outlives it, for what the kernel does not take away with a process that
 * was killed: empty control groups, and when every role of the home is gone their sockets. It knows nothing but names, reads
 * nothing but what shelld told it, and ends by itself. Invariant: a file of the home goes only while the cleaner holds the
 * home's lock, so never one of somebody who lives or is about to. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "loop/loop.h"
#include "sandbox/cleaner.h"
#include "sandbox/cgroup.h"

#define TOLD_MAX   (64 * KIB)
#define LOOK_MS    10
#define SERVED_MS  500 /* then who still serves the home lives, and cleans up by himself */
#define CLEAN_MS   15000 /* the runtime of a killed runner holds the lock for up to 10 s */

/* ---- shelld's side ---- */

void
cleaner_tell(int fd, struct str name)
{
	static const char nul = '\0';

	if (fd >= 0 && fd_write_all(fd, name.p, name.n) == 0)
		(void)!write(fd, &nul, 1);
}

void
cleaner_dismiss(int fd)
{
	cleaner_tell(fd, STR(""));
}

/* ---- the cleaner's side ---- */

/* What shelld told, each name with a NUL behind it: the directory, the lock, then what may lie in the directory. The first
 * of those shows whether somebody serves the home. */
struct told {
	struct str dir, lock, names;
	bool is_dismissed; /* shelld ended in order, and its runner is there to clean up */
};

static bool
read_told(int fd, struct buf *b, struct told *t)
{
	struct str rest, one, last = STR("x");

	for (ssize_t n = 1; n > 0;) {
		char *room = buf_reserve(b, 4096);

		n = room == NULL ? -1 : read(fd, room, 4096);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			buf_added(b, (size_t)n);
		else if (n < 0)
			return false;
	}
	rest = buf_str(b);
	while (rest.n > 0 && rest.p[rest.n - 1] != '\0') /* killed while it wrote: half a name is another name */
		rest.n--;
	if (rest.n == 0)
		return false;
	rest.n--;
	if (!str_next(&rest, '\0', &t->dir) || !str_next(&rest, '\0', &t->lock))
		return false;
	t->names = rest;
	while (str_next(&rest, '\0', &one))
		last = one;
	t->is_dismissed = last.n == 0;
	return true;
}

static bool
is_served(const char *path)
{
	struct err e;
	int fd = unix_connect(path, &e);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || e.code != ERR_NOT_FOUND;
}

static void
remove_unserved(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && !(S_ISSOCK(st.st_mode) && is_served(path)))
		(void)unlink(path);
}

/* Whether nothing is left to do for the files of the home. */
static bool
clean_files(const struct told *t)
{
	struct str rest = t->names, one;
	AUTO_FREE char *lock = str_dup(t->lock);
	AUTO_CLOSE int fd = open(lock, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return true; /* the home itself is gone */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return false;
	while (str_next(&rest, '\0', &one)) {
		AUTO_FREE char *path = xasprintf("%.*s/%.*s", STR_FMT(t->dir), STR_FMT(one));

		remove_unserved(path);
	}
	return true;
}

static bool
home_is_served(const struct told *t)
{
	struct str rest = t->names, one;

	if (!str_next(&rest, '\0', &one))
		return false;
	AUTO_FREE char *path = xasprintf("%.*s/%.*s", STR_FMT(t->dir), STR_FMT(one));
	return is_served(path);
}

static void
clean(const struct told *t)
{
	int64_t began_ms = clock_mono_ms(), past_ms = 0;
	bool has_files = t->lock.n > 0;
	struct cgroups groups;

	cgroups_open(&groups, "/proc/self");
	for (; past_ms < CLEAN_MS; past_ms = clock_mono_ms() - began_ms) {
		size_t left = cgroups_sweep(&groups);

		if (has_files && (clean_files(t) || (past_ms > SERVED_MS && home_is_served(t))))
			has_files = false;
		if (left == 0 && !has_files)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
	}
}

/* Another name in lists of processes: it is not the role that it was forked from. The words of a command line lie side by
 * side. */
static void
rename_self(int argc, char **argv)
{
	size_t n = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]);

	memset(argv[0] + strnlen(argv[0], n), '\0', n - strnlen(argv[0], n));
	prctl(PR_SET_NAME, "ithaca-cleaner", 0, 0, 0);
}

static void
null_streams(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
}

static void NORETURN
cleaner_main(int fd, int argc, char **argv)
{
	struct told told = { 0 };
	struct buf b;

	rename_self(argc, argv);
	null_streams(); /* the pipe to the log ends with shelld */
	fds_keep(&fd, 1);
	signal(SIGTERM, SIG_IGN); /* told to all of a service: its time comes when shelld is gone */
	buf_init(&b, TOLD_MAX);
	if (read_told(fd, &b, &told) && !told.is_dismissed)
		clean(&told);
	_exit(0);
}

int
cleaner_start(int argc, char **argv)
{
	int pair[2];
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) != 0) {
		log_error("no cleaner", LOG_I("errno", errno));
		return -1;
	}
	pid = fork();
	if (pid == 0) {
		close(pair[1]);
		cleaner_main(pair[0], argc, argv);
	}
	close(pair[0]);
	if (pid < 0) {
		log_error("no cleaner", LOG_I("errno", errno));
		close(take_fd(&pair[1]));
		return -1;
	}
	return pair[1];
}
