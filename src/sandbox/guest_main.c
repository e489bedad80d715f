/* SPDX-License-Identifier: MIT
 * ithaca-guest: it becomes shelld. On the host the runner starts it with its link as descriptor 3; as the first process of
 * a container it listens in the directory that it is given. The zygote is forked first, while there is one thread and no
 * event loop. With --attempt it is what the self-test runs in a cell (attempt.h). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/path.h"
#include "ithaca-version.h"
#include "sandbox/attempt.h"
#include "sandbox/cleaner.h"
#include "sandbox/shelld.h"
#include "sandbox/vm.h"

#define LINK_FD 3

static int
become(const struct shelld_links *links)
{
	struct err e = { 0 };
	int sock, pidfd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (zygote_start(&sock, &pidfd, &e) != 0) {
		log_error("cannot start", LOG_E(&e));
		return 1;
	}
	fd_limit_raise(); /* several for each command */
	return shelld_main(links, sock, pidfd);
}

static int
listen_in(const char *dir)
{
	char token[DOOR_TOKEN_SIZE], path[PLAN_PATH_MAX];
	struct shelld_links links = { .runner_fd = -1, .token = token };
	struct err e = { 0 };

	if (getpid() == 1)
		pid1_split();
	door_path(dir, ROLE_SHELLD, path, sizeof(path));
	links.listen_fd = door_take(dir, ROLE_SHELLD, token, &e);
	if (links.listen_fd < 0) {
		log_error("cannot start", LOG_E(&e));
		return 1;
	}
	int rc = become(&links);
	unlink(path);
	return rc;
}

/* For all that is started from here. No core, and no handler of the machine's that is given one: the kernel pipes a crash to it
 * whatever the limit is, but for 1, which syscalls.def then lets no command change. A handler behind a socket (Linux 6.16) knows no
 * limit: it gets no memory. To be done before our own files in /proc are root's. */
static void
no_cores(void)
{
	const struct rlimit one = { 1, 1 };
	(void)setrlimit(RLIMIT_CORE, &one);
	AUTO_CLOSE int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)fd_write_all(fd, "0", 1);
}

int
main(int argc, char **argv)
{
	struct stat st;

	if (argc >= 2 && strncmp(argv[1], "--attempt", 9) == 0)
		return attempt_main(argc, argv);
	no_cores();
	/* Nobody of the same user may look into a process that decides what runs. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	log_open("shelld", STDERR_FILENO, LOG_WARN, LOG_LOGFMT);
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("ithaca-guest %s\n", ITHACA_VERSION);
		return 0;
	}
	if (vm_is_first()) {
		static char dir[PLAN_PATH_MAX];
		vm_split(dir);
		no_cores(); /* again: there was no /proc before */
		return listen_in(dir);
	}
	if (argc > 3 && strcmp(argv[1], "--share") == 0)
		return vm_share(argv[2], argv + 3);
	if (argc == 3 && strcmp(argv[1], "--listen") == 0 && argv[2][0] == '/')
		return listen_in(argv[2]);
	if (argc == 2 && strcmp(argv[1], "--clean") == 0)
		return cleaner_main();
	bool is_role = argc == 1 || (argc == 3 && strcmp(argv[1], "-x") == 0 && strcmp(argv[2], "shelld") == 0);
	if (!is_role || fstat(LINK_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "ithaca-guest: started by ithacad with its link as descriptor %d (use: ithaca start)\n", LINK_FD);
		return 2;
	}
	/* It outlives its runner for a while, and no key typed at the runner's terminal is meant for it. */
	(void)setsid();
	fcntl(LINK_FD, F_SETFD, FD_CLOEXEC);
	return become(&(struct shelld_links){ .runner_fd = LINK_FD, .listen_fd = -1 });
}
