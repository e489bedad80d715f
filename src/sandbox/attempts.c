/* SPDX-License-Identifier: MIT
 * Runs attempts: one as this process, or all of them, each in a child of its own, so that none spoils the next. */
#include "sandbox/attempt.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/attr.h"

int
attempt_verdict(long r)
{
	if (r >= 0)
		return ATTEMPT_WORKED;
	printf("%s", strerror(errno));
	return ATTEMPT_DENIED;
}

int
attempt_skip(const char *why)
{
	printf("%s", why);
	return ATTEMPT_SKIPPED;
}

pid_t
attempt_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		exit(attempt_skip("no child can be made"));
	return pid;
}

const char *
attempt_decoy(const char *name)
{
	const char *v = getenv(name);

	if (v == NULL) {
		printf("%s is not set", name);
		exit(ATTEMPT_SKIPPED);
	}
	return v;
}

int
attempt_decoy_number(const char *name)
{
	return (int)strtol(attempt_decoy(name), NULL, 10);
}

const struct attempt *
attempt_next(const struct attempt *at)
{
	static const struct attempt *const tables[] = { attempts_file, attempts_process, attempts_network, attempts_kernel };

	if (at == NULL)
		return tables[0];
	if (at[1].name != NULL)
		return at + 1;
	for (size_t i = 0; i + 1 < ARRAY_LEN(tables); i++)
		for (const struct attempt *a = tables[i]; a->name != NULL; a++)
			if (a == at)
				return tables[i + 1];
	return NULL;
}

static int
run_one(const struct attempt *a)
{
	int r = a->fn != NULL ? a->fn() : attempt_setid(a->setid);

	fflush(stdout);
	return r;
}

static int
run_all(void)
{
	for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a)) {
		int status = 0;

		if (a->wall == NULL || strcmp(a->wall, "limits") == 0)
			continue;
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (pid == 0) {
			int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
			if (fd >= 0) {
				dup2(fd, 1);
				close(fd);
			}
			exit(run_one(a));
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
		/* Killed in the middle: by the filter of system calls, as a wall may do. */
		printf("%s %d\n", a->name, WIFEXITED(status) ? WEXITSTATUS(status) : ATTEMPT_DENIED);
		fflush(stdout);
	}
	return 0;
}

int
attempt_main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--attempts") == 0)
		return run_all();
	for (const struct attempt *a = attempt_next(NULL); argc == 3 && a != NULL; a = attempt_next(a))
		if (strcmp(argv[2], a->name) == 0)
			return run_one(a);
	fprintf(stderr, "ithaca-guest: --attempt needs the name of one\n");
	return 2;
}
