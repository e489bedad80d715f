/* SPDX-License-Identifier: MIT
 * The text of a task: what was typed, then piped standard input as a labelled block. Reading a pipe
 * ends at its end; a socket that stays silent (programs that start programs leave one open) is given up, and said. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/media.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/task.h"

#define SILENT_NOTICE_MS 1000
#define SILENT_SOCKET_MS 3000

static int
too_large(const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, ERR_TO_USER,
		"%s makes the message larger than %u KiB (put it into a file of the workspace and name the file)",
		what, USER_TEXT_MAX / KIB);
}

/* 1: there is something to read; 0: a silent socket. */
static int
wait_first_byte(int fd, bool is_socket)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static const char notice[] = "ithaca: reading standard input until it ends (</dev/null skips it)\n";

	if (poll(&p, 1, SILENT_NOTICE_MS) != 0)
		return 1;
	if (is_socket && poll(&p, 1, SILENT_SOCKET_MS - SILENT_NOTICE_MS) == 0)
		return 0;
	if (!is_socket)
		fd_write_all(STDERR_FILENO, notice, sizeof(notice) - 1);
	return 1;
}

static int
read_fd(int fd, struct buf *b, struct err *e)
{
	for (;;) {
		char *room = buf_reserve(b, 64 * KIB);
		ssize_t n;

		if (!room)
			return too_large("standard input", e);
		n = read(fd, room, 64 * KIB);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot read standard input");
		if (n == 0)
			return 0;
		buf_added(b, (size_t)n);
	}
}

int
task_stdin(int fd, bool is_task, struct buf *out, struct err *e)
{
	static const char given_up[] =
		"ithaca: nothing came on standard input for 3 s: going on without it (</dev/null skips it)\n";
	struct stat st;
	bool is_socket;

	if (fstat(fd, &st) != 0)
		return 0; /* closed: nothing is piped */
	is_socket = S_ISSOCK(st.st_mode);
	if (!is_task && !S_ISFIFO(st.st_mode) && !S_ISREG(st.st_mode) && !is_socket)
		return 0;
	if (!is_task && !S_ISREG(st.st_mode) && wait_first_byte(fd, is_socket) == 0) {
		fd_write_all(STDERR_FILENO, given_up, sizeof(given_up) - 1);
		return 0;
	}
	return read_fd(fd, out, e);
}

int
task_text(const struct task *t, struct buf *out, struct err *e)
{
	struct buf input;
	int rc;

	buf_init(&input, USER_TEXT_MAX + 64 * KIB);
	buf_add_str(out, str_trim(t->text));
	rc = t->stdin_fd >= 0 ? task_stdin(t->stdin_fd, t->is_stdin_task, &input, e) : 0;
	if (rc == 0 && t->is_stdin_task) {
		if (out->n > 0)
			buf_add_z(out, "\n\n");
		utf8_add_lossy(out, str_trim(buf_str(&input)));
		buf_reset(&input);
	}
	if (rc == 0 && str_trim(buf_str(&input)).n > 0)
		media_add_block(out, STR("standard input"), buf_str(&input));
	if (rc == 0 && (out->overflow || out->n > USER_TEXT_MAX))
		rc = too_large("what was given", e);
	buf_fini(&input);
	return rc;
}
