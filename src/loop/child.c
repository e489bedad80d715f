/* SPDX-License-Identifier: MIT
 * Child processes: posix_spawn, then a pidfd that becomes readable when the child has ended. No
 * SIGCHLD handler and no waitpid(-1), so libraries keep their own children. Invariant: the pid
 * cannot be reused while a struct child lives, because only this file reaps it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/mem.h"
#include "loop/internal.h"

#define CHILD_FDS_MAX 64

struct child {
	struct watch *watch;
	int pidfd;
	pid_t pid;
	child_fn fn;
	void *arg;
};

void
child_leave(struct child *c)
{
	watch_close(c->watch);
	close(c->pidfd);
	free(c);
}

static void
on_end(void *arg, int events)
{
	struct child *c = arg;
	int status = 0;
	pid_t got = waitpid(c->pid, &status, WNOHANG);
	if (got == 0 || (got == -1 && errno == EINTR))
		return;
	if (got == -1)
		fatal("child %d was reaped by someone else", (int)c->pid);
	child_fn fn = c->fn;
	void *fn_arg = c->arg;
	pid_t pid = c->pid;
	child_leave(c);
	fn(fn_arg, pid, status);
}

static int
source_fd(const struct child_spec *spec, size_t i)
{
	return i < spec->fds_n ? spec->fds[i] : -1;
}

/* Sources are first duplicated above every target, so that no target overwrites a source that is
 * still needed. */
static int
add_fds(posix_spawn_file_actions_t *fa, const struct child_spec *spec, int *high)
{
	size_t n = MAX(spec->fds_n, 3);
	for (size_t i = 0; i < n; i++) {
		int fd = source_fd(spec, i), rc = 0;
		if (fd >= 0) {
			high[i] = fcntl(fd, F_DUPFD_CLOEXEC, (int)n);
			rc = high[i] < 0 ? errno
					 : posix_spawn_file_actions_adddup2(fa, high[i], (int)i);
		} else if (i < 3) {
			rc = posix_spawn_file_actions_addopen(fa, (int)i, "/dev/null", O_RDWR, 0);
		} else {
			rc = posix_spawn_file_actions_addclose(fa, (int)i);
		}
		if (rc != 0)
			return rc;
	}
	return posix_spawn_file_actions_addclosefrom_np(fa, (int)n);
}

/* The child starts with no signal blocked and every disposition default: an inherited ignored
 * SIGPIPE breaks pipelines, a blocked SIGTERM cannot be undone by a shell. */
static int
spawn(const struct child_spec *spec, posix_spawn_file_actions_t *fa, pid_t *pid)
{
	char *const no_env[] = { NULL };
	sigset_t none, all;
	posix_spawnattr_t attr;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int rc = posix_spawn(pid, spec->path, fa, &attr, spec->argv,
		spec->env != NULL ? spec->env : no_env);
	posix_spawnattr_destroy(&attr);
	return rc;
}

static int
spawn_with_fds(const struct child_spec *spec, pid_t *pid)
{
	int high[CHILD_FDS_MAX];
	posix_spawn_file_actions_t fa;

	for (size_t i = 0; i < ARRAY_LEN(high); i++)
		high[i] = -1;
	posix_spawn_file_actions_init(&fa);
	int rc = add_fds(&fa, spec, high);
	if (rc == 0 && spec->cwd != NULL)
		rc = posix_spawn_file_actions_addchdir_np(&fa, spec->cwd);
	if (rc == 0)
		rc = spawn(spec, &fa, pid);
	posix_spawn_file_actions_destroy(&fa);
	for (size_t i = 0; i < ARRAY_LEN(high); i++) {
		if (high[i] >= 0)
			close(high[i]);
	}
	return rc;
}

/* With SIGCHLD ignored, as some parents leave it, the kernel reaps children itself and their status
 * is lost. */
static void
keep_zombies(void)
{
	struct sigaction sa;
	if (sigaction(SIGCHLD, NULL, &sa) == 0 &&
		(sa.sa_handler == SIG_IGN || (sa.sa_flags & SA_NOCLDWAIT))) {
		sa.sa_handler = SIG_DFL;
		sa.sa_flags = 0;
		sigaction(SIGCHLD, &sa, NULL);
	}
}

int
child_start(struct loop *l, const struct child_spec *spec, child_fn on_exit, void *arg,
	struct child **out, struct err *e)
{
	if (spec->fds_n > CHILD_FDS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG,
			"cannot start %s: %zu descriptors (at most %d)", spec->path, spec->fds_n,
			CHILD_FDS_MAX);
	keep_zombies();
	pid_t pid;
	int rc = spawn_with_fds(spec, &pid);
	if (rc != 0)
		return err_errno(e, rc, ERR_TO_USER, "cannot start %s", spec->path);
	int pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		rc = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_errno(e, rc, ERR_TO_USER, "cannot watch %s (pidfd_open)", spec->path);
	}
	struct child *c = xcalloc(1, sizeof(*c));
	*c = (struct child){ .pidfd = pidfd, .pid = pid, .fn = on_exit, .arg = arg };
	c->watch = watch_start(l, pidfd, LOOP_READ, on_end, c);
	*out = c;
	return 0;
}

pid_t
child_pid(const struct child *c)
{
	return c->pid;
}

int
child_kill(struct child *c, int signo)
{
	return pidfd_send_signal(c->pidfd, signo, NULL, 0);
}
