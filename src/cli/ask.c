/* SPDX-License-Identifier: MIT
 * One key from the terminal in non-canonical mode; signals stay on, so Ctrl-C works as ever. */
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "cli/ask.h"

struct ask {
	int fd;
	struct termios saved;
	struct watch *watch;
	const char *keys;
	ask_fn fn;
	void *arg;
};

/* A descriptor of our own: non-blocking mode is not set on the one that is shared with the shell. */
static int
open_terminal(void)
{
	return open("/dev/tty", O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

bool
ask_possible(void)
{
	int fd;

	if (!isatty(STDERR_FILENO))
		return false;
	fd = open_terminal();
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void
on_key(void *arg, int events)
{
	struct ask *q = arg;
	char key;
	ssize_t n = read(q->fd, &key, 1);

	if (n == 0)
		key = 4; /* end of file */
	else if (n < 0)
		return;
	key = (char)tolower((unsigned char)key);
	if (key == 4 || key == 27)
		key = 'n';
	if (strchr(q->keys, key) && key != '\0')
		q->fn(q->arg, key);
}

struct ask *
ask_open(struct loop *l, const char *keys, ask_fn fn, void *arg)
{
	struct ask *q;
	struct termios raw;
	int fd = open_terminal();

	if (fd < 0)
		return NULL;
	q = xcalloc(1, sizeof(*q));
	*q = (struct ask){ .fd = fd, .keys = keys, .fn = fn, .arg = arg };
	if (tcgetattr(fd, &q->saved) != 0) {
		close(fd);
		free(q);
		return NULL;
	}
	raw = q->saved;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	/* What was typed before the question was not meant for it. */
	tcsetattr(fd, TCSAFLUSH, &raw);
	q->watch = watch_start(l, fd, LOOP_READ, on_key, q);
	return q;
}

void
ask_close(struct ask *q)
{
	if (!q)
		return;
	watch_close(q->watch);
	tcsetattr(q->fd, TCSADRAIN, &q->saved);
	close(q->fd);
	free(q);
}
