/* SPDX-License-Identifier: MIT
 * `ithaca logs`: reads the files themselves, so that it works whoever is dead. Each role is a sequence of files, from the
 * oldest that was put aside to the one that is written; the roles are merged by time. Memory is bounded: one line of each
 * role, and what --tail holds back. A file is followed by its inode, so that being put aside loses nothing. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "cli/internal.h"
#include "cli/logline.h"

#define LINE_MAX_BYTES (2 * LOG_RECORD_MAX)
#define READ_BYTES     (64 * KIB)
#define ASIDE_MAX      101 /* files of one role that are looked for: log.keep is at most 100 */
#define FOLLOW_MS      1000 /* looked at so often also without a word from the kernel */

static const char *const roles[] = { "runner", "runtime", "broker", "shelld" };
enum { ROLES = ARRAY_LEN(roles) };

/* One role's files as one stream of lines. */
struct source {
	const char *path; /* of the file that is written */
	const char *role;
	int fd; /* -1: nothing is open */
	struct stat st; /* of what is open */
	struct buf in;
	size_t done; /* of in */
	struct arena *a; /* of line */
	struct logline line;
	struct str text; /* as it stands in the file */
	char last[CLOCK_TEXT_SIZE + 8]; /* time of the line before: what has none follows it */
	bool has_line;
};

struct filter {
	const char *since; /* as text, or NULL */
	const char *stream; /* "stdout", "stderr", "log", or NULL */
	enum log_level level;
};

/* Lines that --tail holds back. */
struct held {
	char **lines; /* a ring */
	size_t max, first, n, bytes;
};

struct reader {
	struct cli *cli;
	struct source sources[ROLES];
	size_t n;
	struct filter filter;
	struct held held; /* max 0: nothing is held back */
	struct buf out;
};

/* ---- one role ---- */

static const char *
aside(struct arena *a, const char *path, int i)
{
	return i == 0 ? path : arena_printf(a, "%s.%d", path, i);
}

static bool
is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool
open_file(struct source *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	s->st = st;
	return true;
}

/* What follows the file that is open: the next newer one. Files move up while we look, so it is found by what is open, and
 * looked for once more when it moved meanwhile. */
static bool
open_next(struct source *s, struct arena *a)
{
	struct stat st;
	int at = ASIDE_MAX;

	for (int i = 0; i < ASIDE_MAX && at == ASIDE_MAX; i++)
		if (s->fd >= 0 && stat(aside(a, s->path, i), &st) == 0 && is_same_file(&st, &s->st))
			at = i;
	if (at == 0)
		return false;
	for (int i = at - 1; i >= 0; i--)
		if (open_file(s, aside(a, s->path, i)))
			return true;
	return false;
}

/* false: the end of the file that is open. */
static bool
fill(struct source *s)
{
	char *room;
	ssize_t n;

	buf_consume(&s->in, s->done);
	s->done = 0;
	room = s->fd >= 0 ? buf_reserve(&s->in, READ_BYTES) : NULL;
	n = room ? read(s->fd, room, READ_BYTES) : 0;
	if (n <= 0)
		return false;
	buf_added(&s->in, (size_t)n);
	return true;
}

/* The next whole line; at the end of a file that was put aside, also one without an end. */
static bool
next_text(struct source *s, struct arena *a, struct str *out)
{
	for (;;) {
		struct str in = str_sub(buf_str(&s->in), s->done, s->in.n);
		ptrdiff_t end = str_find_char(in, '\n');

		if (end < 0 && in.n < LINE_MAX_BYTES && fill(s))
			continue;
		in = str_sub(buf_str(&s->in), s->done, s->in.n);
		if (end < 0 && in.n < LINE_MAX_BYTES) {
			if (!open_next(s, a))
				return false;
			if (in.n == 0)
				continue;
			end = (ptrdiff_t)in.n;
		}
		*out = str_sub(in, 0, end < 0 ? LINE_MAX_BYTES : (size_t)end);
		s->done += MIN(in.n, out->n + (end >= 0));
		return true;
	}
}

static bool
next_line(struct source *s, struct arena *a)
{
	struct str text;

	if (s->has_line)
		return true;
	do
		if (!next_text(s, a, &text))
			return false;
	while (text.n == 0);
	arena_reset(s->a);
	s->text = arena_str(s->a, text);
	if (logline_parse(s->text, s->a, &s->line) != 0)
		s->line = (struct logline){ .time = str_of(arena_strdup(s->a, str_of(s->last))), .role = str_of(s->role),
			.stream = STR("stderr"), .msg = s->text, .level = LOG_INFO, .fields = &node_null };
	snprintf(s->last, sizeof(s->last), "%.*s", (int)MIN(s->line.time.n, sizeof(s->last) - 1), s->line.time.p);
	s->has_line = true;
	return true;
}

/* ---- all of them ---- */

static bool
is_wanted(const struct filter *f, const struct logline *l)
{
	if (l->level < f->level)
		return false;
	if (f->since && str_cmp(l->time, str_of(f->since)) < 0)
		return false;
	return !f->stream || str_is(l->stream, strcmp(f->stream, "log") == 0 ? "" : f->stream);
}

static void
render(struct reader *r, const struct logline *l, struct buf *out)
{
	if (!r->cli->json) {
		logline_print(l, out);
		return;
	}
	struct json j;

	json_init(&j, out);
	if (node_is(l->fields, NODE_MAP)) {
		json_node(&j, l->fields);
	} else {
		json_obj(&j);
		json_kv_str(&j, "time", l->time);
		json_kv_z(&j, "level", "info");
		json_kv_str(&j, "role", l->role);
		json_kv_str(&j, "stream", l->stream);
		json_kv_str(&j, "msg", l->msg);
		json_obj_end(&j);
	}
	buf_add_char(out, '\n');
}

static void
hold(struct held *h, struct str line)
{
	while (h->n > 0 && (h->n == h->max || h->bytes + line.n > LOG_HELD_MAX)) {
		h->bytes -= strlen(h->lines[h->first]);
		free(h->lines[h->first]);
		h->first = (h->first + 1) % h->max;
		h->n--;
	}
	h->lines[(h->first + h->n++) % h->max] = str_dup(line);
	h->bytes += line.n;
}

static int
flush(struct reader *r, struct err *e)
{
	return r->out.n > 0 ? out_flush(STDOUT_FILENO, &r->out, e) : 0;
}

static int
emit(struct reader *r, const struct logline *l, struct err *e)
{
	struct buf b;
	int rc = 0;

	buf_init(&b, 8 * LINE_MAX_BYTES);
	render(r, l, &b);
	if (r->held.max > 0)
		hold(&r->held, buf_str(&b));
	else
		buf_add_str(&r->out, buf_str(&b));
	buf_fini(&b);
	if (r->out.n > 256 * KIB)
		rc = flush(r, e);
	return rc;
}

/* Everything that there is now, the oldest first. */
static int
read_all(struct reader *r, struct err *e)
{
	struct arena *a = arena_new(1 * MIB);
	int rc = 0;

	while (rc == 0) {
		struct source *first = NULL;

		arena_reset(a);
		for (size_t i = 0; i < r->n; i++)
			if (next_line(&r->sources[i], a) && (!first || str_cmp(r->sources[i].line.time, first->line.time) < 0))
				first = &r->sources[i];
		if (!first)
			break;
		if (is_wanted(&r->filter, &first->line))
			rc = emit(r, &first->line, e);
		first->has_line = false;
	}
	arena_free(a);
	return rc;
}

/* What was held back is shown, and from now on nothing is. */
static int
release(struct reader *r, struct err *e)
{
	struct held *h = &r->held;
	int rc = 0;

	for (size_t i = 0; i < h->n; i++) {
		char *line = h->lines[(h->first + i) % h->max];

		buf_add_z(&r->out, line);
		free(line);
		if (rc == 0 && r->out.n > 256 * KIB)
			rc = flush(r, e);
	}
	free(h->lines);
	*h = (struct held){ 0 };
	return rc != 0 ? rc : flush(r, e);
}

static int
follow(struct reader *r, struct err *e)
{
	AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char events[4096];
	int rc = 0;

	if (fd >= 0)
		(void)inotify_add_watch(fd, path_join(r->cli->a, r->cli->home, "logs"),
			IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM);
	while (rc == 0) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDOUT_FILENO } };

		rc = read_all(r, e);
		if (rc == 0)
			rc = flush(r, e);
		if (rc != 0)
			break;
		(void)poll(p, 2, FOLLOW_MS);
		if (p[1].revents & (POLLERR | POLLHUP))
			break; /* nobody reads any more */
		while (fd >= 0 && read(fd, events, sizeof(events)) > 0)
			continue;
	}
	return rc;
}

/* ---- options ---- */

/* The beginning of a time as logs have it, from the day on: times are compared as text, so no other form will do. */
static bool
is_time(struct str s)
{
	static const char shape[] = "0000-00-00T00:00:00.000Z";

	if (s.n < 10 || s.n >= sizeof(shape))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (shape[i] == '0' ? s.p[i] < '0' || s.p[i] > '9' : s.p[i] != shape[i])
			return false;
	return true;
}

static int
read_since(struct cli *c, struct filter *f, struct err *e)
{
	static const struct {
		char unit;
		int64_t ms;
	} units[] = { { 's', 1000 }, { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 } };
	struct str s = node_str(c->options, "since", STR(""));
	char text[CLOCK_TEXT_SIZE];
	int64_t n = 0;
	size_t i = 0;

	if (s.n == 0)
		return 0;
	if (is_time(s)) {
		f->since = arena_strdup(c->a, s);
		return 0;
	}
	while (i < s.n && i < 9 && s.p[i] >= '0' && s.p[i] <= '9')
		n = 10 * n + s.p[i++] - '0';
	for (size_t u = 0; u < ARRAY_LEN(units) && i > 0 && i + 1 == s.n; u++)
		if (units[u].unit == s.p[i])
			f->since = arena_strdup(c->a, str_of(clock_text(clock_wall_ms() - n * units[u].ms, text)));
	return f->since ? 0 : err_set(e, ERR_USAGE, ERR_TO_USER,
		"--since %.*s: is neither a span, as in 10m (s, m, h, d), nor a time, as in 2026-11-21T02:04", STR_FMT(s));
}

static int
read_roles(struct reader *r, struct err *e)
{
	struct cli *c = r->cli;
	struct str list = node_str(c->options, "role", STR("")), name;
	bool wanted[ROLES] = { false };

	while (list.n > 0 && str_next(&list, ',', &name)) {
		bool is_all = str_is(str_trim(name), "all"), is_known = is_all;

		for (size_t i = 0; i < ROLES; i++)
			if (is_all || str_is(str_trim(name), roles[i]))
				wanted[i] = is_known = true;
		if (!is_known)
			return err_set(e, ERR_USAGE, ERR_TO_USER, "--role %.*s: there is no such role (runner, runtime, broker, shelld)",
				(int)MIN(name.n, 40u), name.p);
	}
	for (size_t i = 0; i < ROLES; i++) {
		struct source *s = &r->sources[r->n];

		if (!wanted[i] && node_str(c->options, "role", STR("")).n > 0)
			continue;
		*s = (struct source){ .role = roles[i], .fd = -1, .a = arena_new(4 * MIB),
			.path = path_join(c->a, c->home, arena_printf(c->a, "logs/%s.log", roles[i])) };
		buf_init(&s->in, LINE_MAX_BYTES + 2 * READ_BYTES);
		r->n++;
	}
	return 0;
}

static int
read_options(struct reader *r, struct err *e)
{
	struct cli *c = r->cli;
	int64_t tail = node_int(c->options, "tail", 200);

	r->filter.stream = node_z(c->options, "stream", NULL);
	if (log_level_parse(node_str(c->options, "level", STR("debug")), &r->filter.level) != 0)
		r->filter.level = LOG_DEBUG;
	r->held.max = (size_t)tail;
	r->held.lines = tail > 0 ? xcalloc((size_t)tail, sizeof(*r->held.lines)) : NULL;
	return read_since(c, &r->filter, e) != 0 ? e->code : read_roles(r, e);
}

int
cmd_logs(struct cli *c, struct err *e)
{
	struct reader r = { .cli = c };
	struct err cut = { 0 };
	int rc;

	buf_init(&r.out, 1 * MIB);
	rc = read_options(&r, e);
	if (rc == 0)
		rc = read_all(&r, e);
	if (rc == 0)
		rc = release(&r, e);
	if (rc == 0 && node_bool(c->options, "follow", false))
		rc = follow(&r, e);
	if (r.held.lines)
		(void)release(&r, &cut);
	for (size_t i = 0; i < r.n; i++) {
		if (r.sources[i].fd >= 0)
			close(r.sources[i].fd);
		buf_fini(&r.sources[i].in);
		arena_free(r.sources[i].a);
	}
	buf_fini(&r.out);
	return rc;
}
