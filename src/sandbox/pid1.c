/* SPDX-License-Identifier: MIT
 * What the first process of a container or a machine has to do beside being shelld: reap whom nobody waits for, and end as
 * shelld ends. It reads nothing and has no descriptor of a link. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "sandbox/door.h"
#include "sandbox/internal.h"

static void
reap(pid_t child, const sigset_t *set)
{
	for (;;) {
		int status, signo = sigwaitinfo(set, NULL);
		pid_t pid;

		if (signo == SIGTERM)
			kill(child, SIGTERM);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == child)
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
		}
	}
}

void
pid1_split(void)
{
	sigset_t set, old;

	/* Blocked before the fork: neither its end nor an order to stop can be missed. */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid_t child = fork();
	if (child < 0) {
		log_error("cannot start", LOG_I("errno", errno));
		_exit(1);
	}
	if (child > 0) {
		fds_keep(NULL, 0);
		reap(child, &set);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
}
