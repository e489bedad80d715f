/* SPDX-License-Identifier: MIT
 * The cleaner: a small process that shelld starts and that outlives it, for what the kernel does not take away with a process that
 * was killed: empty control groups, and when every role of the home is gone their sockets. Where shelld is in a container or a
 * machine the runner starts it, and it waits for the end of those as well, or ends what would never. It knows nothing but names, reads
 * nothing but what it was told, command lines and the note of a machine's processes, and ends by itself. Invariant: a file of the home goes only while the cleaner holds the home's lock, so
 * never one of somebody who lives or is about to. */
#include <dirent.h>
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
#include "sandbox/vm.h"

#define TOLD_MAX   (64 * KIB)
#define ARGV_MAX   (64 * KIB) /* of a command line, from its beginning */
#define AGAIN_MS   50 /* before one that ended is replaced */
#define LOOK_MS    10
#define SELDOM_MS  500 /* where others are waited for, at all processes */
#define SERVED_MS  500 /* then who still serves the home lives, and cleans up by himself */
#define CLEAN_MS   15000 /* the runtime of a killed runner holds the lock for up to 10 s */

/* ---- the side of who starts it ---- */

struct cleaner {
	struct loop *l;
	char *program;
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
	struct child_spec spec = { .path = c->program, .argv = argv };
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
		log_error("there is no cleaner: what a kill leaves stays until the next start", LOG_E(&e));
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
cleaner_start(struct loop *l, const struct cleaner_order *o)
{
	struct cleaner *c = xcalloc(1, sizeof(*c));
	char number[24];

	c->l = l;
	c->fd = -1;
	c->program = xstrdup(o->program);
	buf_init(&c->told, TOLD_MAX);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	tell(c, str_of(number));
	snprintf(number, sizeof(number), "%lld", (long long)o->wait_ms);
	tell(c, str_of(number));
	tell(c, str_of(o->dir));
	tell(c, o->lock);
	for (size_t i = 0; i < o->names_n; i++)
		tell(c, o->names[i]);
	begin(c);
	return c;
}

void
cleaner_dismiss(struct cleaner *c)
{
	if (c == NULL)
		return;
	if (c->fd >= 0) {
		(void)!write(c->fd, "", 1);
		close(c->fd);
	}
	if (c->child != NULL)
		child_leave(c->child);
	timer_close(c->again);
	buf_fini(&c->told);
	free(c->program);
	free(c);
}

/* ---- the cleaner's side ---- */

/* What it was told (struct cleaner_order), each with a NUL behind it: the process that did, then numbers and names in their order. */
struct told {
	int64_t pid, wait_ms;
	struct str dir, lock, names;
	bool is_dismissed; /* it ended in order, and what it leaves is no concern of ours */
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
	if (!str_next(&rest, '\0', &one) || str_i64(one, &t->pid) != 0 || !str_next(&rest, '\0', &one) || str_i64(one, &t->wait_ms) != 0 ||
		!str_next(&rest, '\0', &t->dir) || !str_next(&rest, '\0', &t->lock))
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

static bool
is_served_socket(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && is_served(path);
}

/* false: somebody serves it. The kernel closes the descriptors of a killed process one after the other, the lock perhaps
 * first. */
static bool
remove_unserved(const char *path)
{
	if (is_served_socket(path))
		return false;
	(void)unlink(path);
	return true;
}

/* Of a guest, who may have put anything there: no link is followed, and what he filled with more stays. */
static bool
clear_unserved(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool is_free = true;

	if (d == NULL)
		return true;
	(void)take_fd(&fd);
	for (const struct dirent *x = readdir(d); x != NULL && is_free; x = readdir(d)) {
		AUTO_FREE char *name = xasprintf("%s/%s", path, x->d_name);
		is_free = !is_served_socket(name);
	}
	rewinddir(d);
	for (const struct dirent *x = readdir(d); x != NULL && is_free; x = readdir(d)) {
		if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0 && unlinkat(dirfd(d), x->d_name, 0) != 0)
			(void)unlinkat(dirfd(d), x->d_name, AT_REMOVEDIR);
	}
	closedir(d);
	return is_free;
}

/* Whether the command line of a process names something in dir, as those of a container and a machine of the home do. To knock
 * at their sockets instead would disturb them. */
static bool
is_lived_in(struct str dir)
{
	AUTO_FREE char *below = xasprintf("%.*s/", STR_FMT(dir));
	AUTO_FREE char *text = xcalloc(1, ARGV_MAX);
	DIR *d = opendir("/proc");
	bool is_named = d == NULL; /* nobody knows */

	for (const struct dirent *x = is_named ? NULL : readdir(d); x != NULL && !is_named; x = readdir(d)) {
		char path[300];
		snprintf(path, sizeof(path), "/proc/%s/cmdline", x->d_name);
		AUTO_CLOSE int fd = x->d_name[0] >= '1' && x->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		ssize_t n = fd < 0 ? 0 : read(fd, text, ARGV_MAX);
		is_named = n > 0 && str_find((struct str){ text, (size_t)n }, str_of(below)) >= 0;
	}
	if (d != NULL)
		closedir(d);
	return is_named;
}

static char *
path_of(const struct told *t, struct str name, bool *is_dir)
{
	*is_dir = name.n > 0 && name.p[name.n - 1] == '/';
	if (*is_dir)
		name.n--; /* else a link there would be followed */
	return xasprintf("%.*s/%.*s", STR_FMT(t->dir), STR_FMT(name));
}

/* A machine whose start was under way waits for a word of its runner for ever; any other goes off in time, or it never will. */
static void
end_machines(const struct told *t, bool is_late)
{
	struct str rest = t->names, one;
	AUTO_FREE char *lock = str_dup(t->lock);
	AUTO_CLOSE int fd = open(lock, O_RDWR | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
		return;
	while (str_next(&rest, '\0', &one)) {
		bool is_dir;
		AUTO_FREE char *path = path_of(t, one, &is_dir);

		if (is_dir)
			vm_end_noted(path, is_late);
	}
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
	/* First without the lock, which is not to be in the way of a start for so long. */
	if ((t->wait_ms > 0 && is_lived_in(t->dir)) || flock(fd, LOCK_EX | LOCK_NB) != 0 || (t->wait_ms > 0 && is_lived_in(t->dir)))
		return false;
	while (str_next(&rest, '\0', &one)) {
		bool is_dir;
		AUTO_FREE char *path = path_of(t, one, &is_dir);

		is_clean = (is_dir ? clear_unserved(path) : remove_unserved(path)) && is_clean;
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
	int64_t began_ms = clock_mono_ms(), past_ms = 0, look_ms = t->wait_ms > 0 ? SELDOM_MS : LOOK_MS;
	bool has_files = t->lock.n > 0;
	struct cgroups groups;

	cgroups_open(&groups, "/proc/self");
	for (; past_ms < CLEAN_MS + t->wait_ms; past_ms = clock_mono_ms() - began_ms) {
		size_t left = 1;

		if (getppid() != t->pid) /* its descriptors are closed before it has ended, and till then its groups are none of ours */
			left = cgroups_sweep(&groups);
		if (has_files && t->wait_ms > 0)
			end_machines(t, past_ms > t->wait_ms);
		if (has_files && (clean_files(t) || (past_ms > SERVED_MS && home_is_served(t))))
			has_files = false;
		if (left == 0 && !has_files)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = look_ms * 1000000L }, NULL);
	}
}

int
cleaner_main(void)
{
	struct told told = { 0 };
	struct buf b;

	prctl(PR_SET_NAME, "ithaca-cleaner", 0, 0, 0);
	(void)setsid(); /* a key typed at the runner's terminal is not meant for it */
	signal(SIGTERM, SIG_IGN); /* told to all of a service: its time comes when who started it is gone */
	buf_init(&b, TOLD_MAX);
	if (read_told(CLEANER_FD, &b, &told) && !told.is_dismissed)
		clean(&told);
	return 0;
}
