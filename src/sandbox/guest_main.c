/* SPDX-License-Identifier: MIT
 * ithaca-guest: started by the runner with its link as descriptor 3, it becomes shelld. The zygote is forked first,
 * while there is one thread and no event loop. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "ithaca-version.h"
#include "sandbox/shelld.h"

#define LINK_FD 3

int
main(int argc, char **argv)
{
	struct err e = { 0 };
	struct stat st;
	int sock, pidfd;

	/* Nobody of the same user may look into a process that decides what runs. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	log_open("shelld", STDERR_FILENO, LOG_WARN, LOG_LOGFMT);
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("ithaca-guest %s\n", ITHACA_VERSION);
		return 0;
	}
	bool is_role = argc == 1 || (argc == 3 && strcmp(argv[1], "-x") == 0 && strcmp(argv[2], "shelld") == 0);
	if (!is_role || fstat(LINK_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "ithaca-guest: started by ithacad with its link as descriptor %d (use: ithaca start)\n", LINK_FD);
		return 2;
	}
	/* It outlives its runner for a while, and no key typed at the runner's terminal is meant for it. */
	(void)setsid();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	fcntl(LINK_FD, F_SETFD, FD_CLOEXEC);
	if (zygote_start(&sock, &pidfd, &e) != 0) {
		log_error("cannot start", LOG_E(&e));
		return 1;
	}
	return shelld_main(LINK_FD, sock, pidfd);
}
