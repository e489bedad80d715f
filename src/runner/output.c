/* SPDX-License-Identifier: MIT
 * What the roles say: the runner reads their standard output and error through pipes and writes logs/ROLE.log. So the last
 * words of a role that was killed are kept, rotation loses no line, and a container's or a guest's output can come the same
 * way. A role never waits for the disk; a flood is cut to LOG_RATE_MAX and what is left out is counted and said.
 * A line that is a log record stays as it is; any other becomes a record of its own, with the stream it came by. So does every
 * line of a machine, whose console is written by whoever is root in it. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define RAW_LINE_MAX 4000 /* longer ones become several records */
#define READ_PASS    (256 * KIB) /* of one pipe in one pass of the loop: the others have their turn */
#define PIPE_BYTES   (1024 * 1024) /* what a role may be ahead of us */

/* One pipe. It outlives the role until everything in it was read. */
struct tap {
	struct tap *next;
	struct outputs *o;
	enum role role;
	const char *stream;
	bool is_foreign; /* nothing in it is taken for a record of ours */
	int fd;
	struct watch *watch;
	struct buf line;
	int64_t budget, budget_at_ms;
	size_t dropped;
};

struct outputs {
	struct loop *loop;
	struct logfile *files[ROLE_COUNT];
	enum log_format format;
	struct tap *taps;
};

struct outputs *
outputs_open(struct loop *l, const char *home, const struct config *c)
{
	struct outputs *o = xcalloc(1, sizeof *o);

	o->loop = l;
	o->format = strcmp(config_z(c, "log.format"), "json") == 0 ? LOG_JSON : LOG_LOGFMT;
	for (enum role r = ROLE_RUNNER; r <= ROLE_SHELLD; r++) {
		AUTO_FREE char *path = xasprintf("%s/logs/%s.log", home, role_name(r));

		o->files[r] = logfile_open(path, config_int(c, "log.file_kb") * (int64_t)KIB, (int)config_int(c, "log.keep"));
	}
	return o;
}

struct logfile *
outputs_file(struct outputs *o, enum role r)
{
	return o->files[r];
}

/* ---- lines ---- */

static bool
is_record(const struct tap *t, struct str s)
{
	return !t->is_foreign && (str_starts(s, "time=2") || str_starts(s, "{\"time\":\"2"));
}

static void
write_raw(struct tap *t, struct str line)
{
	struct buf b, text;

	buf_init(&b, LOG_RECORD_MAX);
	buf_init(&text, RAW_LINE_MAX + 1);
	(void)buf_add_str(&text, line);
	(void)buf_add_char(&text, '\0');
	bool is_plain = strcmp(t->stream, "stdout") == 0 || strcmp(t->stream, "console") == 0;
	log_record(&b, role_name(t->role), is_plain ? LOG_INFO : LOG_WARN, t->o->format,
		text.p != NULL ? text.p : "", (const struct log_field[]){ LOG_S("stream", t->stream) }, 1);
	logfile_write(t->o->files[t->role], buf_str(&b));
	buf_fini(&text);
	buf_fini(&b);
}

static void
tell_dropped(struct tap *t)
{
	struct buf b;

	if (t->dropped == 0)
		return;
	buf_init(&b, LOG_RECORD_MAX);
	log_record(&b, role_name(t->role), LOG_WARN, t->o->format, "a flood of log lines was cut",
		(const struct log_field[]){ LOG_I("lines", (int64_t)t->dropped) }, 1);
	logfile_write(t->o->files[t->role], buf_str(&b));
	buf_fini(&b);
	t->dropped = 0;
}

/* Whether the rate of this pipe allows a line of n bytes. */
static bool
may_keep(struct tap *t, size_t n)
{
	int64_t now = loop_now_ms(t->o->loop);

	t->budget += (now - t->budget_at_ms) * (int64_t)LOG_RATE_MAX / 1000;
	t->budget = MIN(t->budget, (int64_t)LOG_BURST_MAX);
	t->budget_at_ms = now;
	if (t->budget < (int64_t)n)
		return false;
	t->budget -= (int64_t)n;
	return true;
}

static void
write_line(struct tap *t, struct str line)
{
	struct str text = str_sub(line, 0, line.n > 0 && line.p[line.n - 1] == '\n' ? line.n - 1 : line.n);
	bool is_ours = is_record(t, line) && text.n < line.n;

	if (t->is_foreign && text.n > 0 && text.p[text.n - 1] == '\r') /* a serial line ends so */
		text.n--;
	if (text.n == 0)
		return;
	if (!may_keep(t, text.n + 64)) {
		t->dropped++;
		return;
	}
	tell_dropped(t);
	if (is_ours)
		logfile_write(t->o->files[t->role], line);
	else
		write_raw(t, text);
}

/* Length of the next line with its newline; 0: there is no whole one yet. A line without end is cut. */
static size_t
next_line(const struct tap *t, struct str in)
{
	ptrdiff_t end = str_find_char(str_sub(in, 0, LOG_RECORD_MAX), '\n');
	bool record = is_record(t, in);
	size_t n = end >= 0 ? (size_t)end + 1 : 0;

	if (!record && (n > RAW_LINE_MAX || (n == 0 && in.n >= RAW_LINE_MAX)))
		return utf8_cut(str_sub(in, 0, in.n), RAW_LINE_MAX);
	return n == 0 && in.n >= LOG_RECORD_MAX ? RAW_LINE_MAX : n;
}

static void
take_lines(struct tap *t, bool is_end)
{
	size_t done = 0;

	for (;;) {
		struct str in = str_sub(buf_str(&t->line), done, t->line.n);
		size_t n = next_line(t, in);

		if (n == 0 && is_end)
			n = MIN(in.n, (size_t)RAW_LINE_MAX);
		if (n == 0)
			break;
		write_line(t, str_sub(in, 0, n));
		done += n;
	}
	buf_consume(&t->line, done);
}

/* ---- pipes ---- */

static void
tap_close(struct tap *t)
{
	struct tap **p = &t->o->taps;

	take_lines(t, true);
	tell_dropped(t);
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	watch_close(t->watch);
	close(t->fd);
	buf_fini(&t->line);
	free(t);
}

/* false: the pipe has ended. */
static bool
tap_read(struct tap *t, size_t max)
{
	while (max > 0) {
		char *room = buf_reserve(&t->line, LOG_RECORD_MAX);
		ssize_t n = room != NULL ? read(t->fd, room, MIN((size_t)LOG_RECORD_MAX, max)) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		buf_added(&t->line, (size_t)n);
		max -= (size_t)n;
		take_lines(t, false);
	}
	return true;
}

static void
on_output(void *arg, int events)
{
	if (!tap_read(arg, READ_PASS))
		tap_close(arg);
}

static void
tap_open(struct outputs *o, enum role role, const char *stream, int fd, bool is_foreign)
{
	struct tap *t = xcalloc(1, sizeof *t);

	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES); /* refused: 64 KiB will do */
	fd_set_nonblock(fd);
	*t = (struct tap){ .next = o->taps, .o = o, .role = role, .stream = stream, .fd = fd, .is_foreign = is_foreign, .budget = LOG_BURST_MAX,
		.budget_at_ms = loop_now_ms(o->loop) };
	buf_init(&t->line, 4 * LOG_RECORD_MAX);
	t->watch = watch_start(o->loop, t->fd, LOOP_READ, on_output, t);
	o->taps = t;
}

void
outputs_take(struct outputs *o, enum role role, const char *stream, int fd)
{
	tap_open(o, role, stream, fd, true);
}

int
outputs_pipe(struct outputs *o, enum role role, const char *stream, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "no pipe for %s's %s", role_name(role), stream);
	tap_open(o, role, stream, fds[0], false);
	return fds[1];
}

int
outputs_trouble(const struct outputs *o)
{
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (o->files[i] != NULL && logfile_trouble(o->files[i]) != 0)
			return logfile_trouble(o->files[i]);
	return 0;
}

void
outputs_close(struct outputs *o)
{
	if (o == NULL)
		return;
	while (o->taps != NULL) {
		(void)tap_read(o->taps, LOG_BURST_MAX);
		tap_close(o->taps);
	}
	for (size_t i = 0; i < ROLE_COUNT; i++)
		logfile_close(o->files[i]);
	free(o);
}
