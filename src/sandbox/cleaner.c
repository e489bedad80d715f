/* SPDX-License-Identifier: MIT
 * The cleaner: a small process that shelld starts and that outlives it, for what the kernel does not take away with a process that
 * was killed: empty control groups, and when every role of the home is gone their sockets. It knows nothing but names, reads
 * nothing but what shelld told it, and ends by itself. Invariant: a file of the home goes only while the cleaner holds the
 * home's lock, so never one of somebody who lives or is about to. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
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
#define AGAIN_MS   50 /* before one that ended is replaced */
#define LOOK_MS    10
#define SERVED_MS  500 /* then who still serves the home lives, and cleans up by himself */
#define CLEAN_MS   15000 /* the runtime of a killed runner holds the lock for up to 10 s */

/* ---- shelld's side ---- */

struct cleaner {
	struct loop *l;
	struct buf told;
	int fd; /* the only end that is written to: it closes with us */
	struct child *child;
	struct timer *again;
};

static void begin(struct cleaner *c);

static void
on_again(void *arg)
{
	struct cleaner *c = arg;

	timer_close(take_ptr(&c->again));
	begin(c);
}

/* Killed, before we are: another takes its place. */
static void
on_end(void *arg, pid_t pid, int status)
{
	struct cleaner *c = arg;

	log_warn("the cleaner ended and is started again", LOG_I("pid", pid), LOG_I("status", status));
	c->child = NULL;
	close(take_fd(&c->fd));
	c->again = timer_start(c->l, AGAIN_MS, on_again, c);
}

static void
begin(struct cleaner *c)
{
	char *argv[] = { (char *)"ithaca-guest", (char *)"--clean", NULL };
	AUTO_CLOSE int theirs = -1;
	struct child_spec spec = { .path = "/proc/self/exe", .argv = argv };
	struct err e = { 0 };
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) != 0) {
		log_error("no pipe to the cleaner", LOG_I("errno", errno));
		return;
	}
	theirs = pair[0];
	c->fd = pair[1];
	spec.fds = (const int[]){ -1, -1, -1, theirs };
	spec.fds_n = CLEANER_FD + 1;
	if (child_start(c->l, &spec, on_end, c, &c->child, &e) != 0) {
		log_error("there is no cleaner: what a kill of shelld leaves stays until the next start", LOG_E(&e));
		close(take_fd(&c->fd));
	} else if (fd_write_all(c->fd, c->told.p, c->told.n) != 0) {
		log_error("the cleaner was not told", LOG_I("errno", errno));
	}
}

static void
tell(struct cleaner *c, struct str name)
{
	buf_add_str(&c->told, name);
	buf_add_char(&c->told, '\0');
}

struct cleaner *
cleaner_start(struct loop *l, const char *dir, struct str lock, const struct node *names)
{
	struct cleaner *c = xcalloc(1, sizeof(*c));
	char pid[16];

	c->l = l;
	c->fd = -1;
	buf_init(&c->told, TOLD_MAX);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	tell(c, str_of(pid));
	tell(c, str_of(dir));
	tell(c, lock);
	for (size_t i = 0; i < node_len(names); i++)
		tell(c, node_is(node_at(names, i), NODE_STR) ? node_at(names, i)->s : STR("."));
	tell(c, STR("shelld.sock"));
	begin(c);
	return c;
}

void
cleaner_dismiss(struct cleaner *c)
{
	if (c != NULL && c->fd >= 0)
		(void)!write(c->fd, "", 1);
}

/* ---- the cleaner's side ---- */

/* What shelld told, each with a NUL behind it: its process, the directory, the lock, then what may lie in the directory. The first
 * of those shows whether somebody serves the home. */
struct told {
	int64_t pid;
	struct str dir, lock, names;
	bool is_dismissed; /* shelld ended in order, and its runner is there to clean up */
};

static bool
read_told(int fd, struct buf *b, struct told *t)
{
	struct str rest, one, last = STR("x");

	if (fd_read_all(fd, b) != 0)
		return false;
	rest = buf_str(b);
	while (rest.n > 0 && rest.p[rest.n - 1] != '\0') /* killed while it wrote: half a name is another name */
		rest.n--;
	if (rest.n == 0)
		return false;
	rest.n--;
	if (!str_next(&rest, '\0', &one) || str_i64(one, &t->pid) != 0 || !str_next(&rest, '\0', &t->dir) || !str_next(&rest, '\0', &t->lock))
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

/* false: somebody serves it. The kernel closes the descriptors of a killed process one after the other, the lock perhaps
 * first. */
static bool
remove_unserved(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && is_served(path))
		return false;
	(void)unlink(path);
	return true;
}

/* Whether nothing is left to do for the files of the home. */
static bool
clean_files(const struct told *t)
{
	bool is_clean = true;
	struct str rest = t->names, one;
	AUTO_FREE char *lock = str_dup(t->lock);
	AUTO_CLOSE int fd = open(lock, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return true; /* the home itself is gone */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return false;
	while (str_next(&rest, '\0', &one)) {
		AUTO_FREE char *path = xasprintf("%.*s/%.*s", STR_FMT(t->dir), STR_FMT(one));

		is_clean = remove_unserved(path) && is_clean;
	}
	return is_clean;
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
		size_t left = 1;

		if (getppid() != t->pid) /* its descriptors are closed before it has ended, and till then its groups are none of ours */
			left = cgroups_sweep(&groups);
		if (has_files && (clean_files(t) || (past_ms > SERVED_MS && home_is_served(t))))
			has_files = false;
		if (left == 0 && !has_files)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
	}
}

int
cleaner_main(void)
{
	struct told told = { 0 };
	struct buf b;

	prctl(PR_SET_NAME, "ithaca-cleaner", 0, 0, 0);
	signal(SIGTERM, SIG_IGN); /* told to all of a service: its time comes when shelld is gone */
	buf_init(&b, TOLD_MAX);
	if (read_told(CLEANER_FD, &b, &told) && !told.is_dismissed)
		clean(&told);
	return 0;
}
