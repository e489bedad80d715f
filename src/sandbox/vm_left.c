/* SPDX-License-Identifier: MIT
 * The processes of a machine, noted beside its sockets: those of a runner that was killed are ended by the next start, whose machine
 * would share the same directories, and by the cleaner where they do not end by themselves. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm.h"

#define ORPHAN_MS 5000 /* for a process that was killed to be gone */
#define STARTING  "starting\n"

static char *
note_path(const char *run_dir)
{
	return xasprintf("%s/processes", run_dir);
}

void
vm_note(const char *run_dir, pid_t machine, pid_t share, bool is_up)
{
	AUTO_FREE char *path = note_path(run_dir);
	char text[64];
	struct err e;

	snprintf(text, sizeof(text), "%d\n%d\n%s", (int)machine, (int)share, is_up ? "" : STARTING);
	if (file_write(path, str_of(text), 0600, &e) != 0)
		log_warn("the processes of a machine are not noted", LOG_E(&e));
}

/* A number may be another process's by now: only one whose command line names our directory is ended. */
static void
end_left(const char *run_dir, int64_t number)
{
	char path[64];
	AUTO_CLOSE int pidfd = number > 1 ? (int)syscall(SYS_pidfd_open, (pid_t)number, 0) : -1;

	if (pidfd < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%lld/cmdline", (long long)number);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = xcalloc(1, 64 * KIB);
	ssize_t got = fd < 0 ? -1 : read(fd, text, 64 * KIB - 1);
	if (str_find((struct str){ text, got > 0 ? (size_t)got : 0 }, str_of(run_dir)) >= 0 &&
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		(void)poll(&p, 1, ORPHAN_MS);
		log_warn("a process of an earlier machine was ended", LOG_I("pid", number));
	}
}

void
vm_end_noted(const char *run_dir, bool is_up_too)
{
	AUTO_FREE char *path = note_path(run_dir);
	AUTO_FREE char *text = NULL;
	struct str rest, line;
	size_t n;

	if (file_read_no_link(path, 256, &text, &n, NULL) != 0)
		return;
	rest = (struct str){ text, n };
	if (!is_up_too && str_find(rest, STR(STARTING)) < 0)
		return;
	while (str_next(&rest, '\n', &line)) {
		int64_t number;
		if (str_i64(line, &number) == 0)
			end_left(run_dir, number);
	}
	unlink(path);
}
