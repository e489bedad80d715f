/* SPDX-License-Identifier: MIT
 * What shelld keeps of commands, by effect id, in one directory: EFFECT.begun is made before the
 * command starts, EFFECT.out gets its output, and at the end begun gets the status as its last line
 * and becomes EFFECT.status; CELL.cell lists what belongs to a cell. The files are not synced: they
 * serve a runtime that comes back, and after a crash of the machine anything that began before it
 * is unknown, which the boot id and the time in an effect id tell. A file is made ahead, without a
 * name, because that is the slow part. Invariant: begun exists before anything runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/path.h"
#include "sandbox/spool.h"

#define STATUS_TEXT_MAX (4u * KIB)
#define CELL_TEXT_MAX   (4u * MIB)
#define NAME_SIZE       (CELL_KEY_MAX + 16)

static const char *
file_name(char out[NAME_SIZE], const char *key, const char *suffix)
{
	snprintf(out, NAME_SIZE, "%s.%s", key, suffix);
	return out;
}

int
spool_open(struct spool *s, const char *dir, struct err *e)
{
	struct timespec up;

	if (path_mkdirs(dir, 0700, e) != 0)
		return e->code;
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "spool %s", dir);
	memset(s->boot, 0, sizeof(s->boot));
	/* /proc files report no size: read what there is. */
	AUTO_CLOSE int b = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = b < 0 ? 0 : read(b, s->boot, sizeof(s->boot) - 1);
	s->boot[got > 36 ? 36 : got < 0 ? 0 : got] = '\0';
	clock_gettime(CLOCK_BOOTTIME, &up);
	s->boot_at_ms = clock_wall_ms() - (int64_t)up.tv_sec * 1000;
	s->dir = fd;
	for (size_t i = 0; i < SPOOL_BLANKS; i++)
		s->blanks[i] = -1;
	return 0;
}

void
spool_close(struct spool *s)
{
	for (size_t i = 0; i < SPOOL_BLANKS; i++) {
		if (s->blanks[i] >= 0)
			close(s->blanks[i]);
	}
	close(s->dir);
}

/* Room for the status: what began can say how it ended even when the disk is full by then. */
static int
reserve_end(int fd)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, STATUS_TEXT_MAX) == 0 || errno == EOPNOTSUPP
		       ? 0
		       : -1;
}

void
spool_prepare(struct spool *s)
{
	for (size_t i = 0; i < SPOOL_BLANKS; i++) {
		int fd = s->blanks[i] >= 0
				 ? -1
				 : openat(s->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

		if (fd >= 0 && reserve_end(fd) != 0)
			close(fd);
		else if (fd >= 0)
			s->blanks[i] = fd;
	}
}

/* A blank file that got that name; -1 with errno EEXIST: there is one already; or ENOENT: there is
 * no blank. Not every file system has files without a name. */
static int
name_blank(struct spool *s, const char *name)
{
	char self[40];
	size_t i = 0;

	while (i < SPOOL_BLANKS && s->blanks[i] < 0)
		i++;
	if (i < SPOOL_BLANKS) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", s->blanks[i]);
		if (linkat(AT_FDCWD, self, s->dir, name, AT_SYMLINK_FOLLOW) == 0)
			return take_fd(&s->blanks[i]);
		if (errno == EEXIST)
			return -1;
	}
	errno = ENOENT;
	return -1;
}

/* Files of a private directory that only shelld writes; O_NOFOLLOW all the same. */
static int
spool_file(const struct spool *s, const char *key, const char *suffix, int flags)
{
	char name[NAME_SIZE];
	return openat(s->dir, file_name(name, key, suffix), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static void
cell_note(const struct spool *s, const char *cell, const char *line)
{
	char text[PLAN_PATH_MAX + 2];
	AUTO_CLOSE int fd = spool_file(s, cell, "cell", O_WRONLY | O_CREAT | O_APPEND);
	int n = snprintf(text, sizeof(text), "%s\n", line);
	if (fd >= 0 && n > 0 && (size_t)n < sizeof(text))
		(void)fd_write_all(fd, text, (size_t)n);
}

void
spool_cell(const struct spool *s, const char *cell, const char *state)
{
	cell_note(s, cell, state); /* a line with '/' */
}

static bool
has_file(const struct spool *s, const char *effect, const char *suffix)
{
	char name[NAME_SIZE];
	return faccessat(s->dir, file_name(name, effect, suffix), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A new file, for reading and writing; -1 with errno. */
static int
spool_new(struct spool *s, const char *key, const char *suffix)
{
	char name[NAME_SIZE];
	int fd = name_blank(s, file_name(name, key, suffix));

	if (fd >= 0 || errno == EEXIST)
		return fd;
	fd = spool_file(s, key, suffix, O_RDWR | O_CREAT | O_EXCL);
	if (fd >= 0 && reserve_end(fd) != 0) {
		int saved = errno;
		close(fd);
		unlinkat(s->dir, name, 0);
		errno = saved;
		return -1;
	}
	return fd;
}

int
spool_begin(struct spool *s, const char *effect, const char *cell, struct err *e)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "{\"boot\":\"%s\",\"at_ms\":%lld,\"cell\":\"%s\"}\n",
		s->boot, (long long)clock_wall_ms(), cell);

	if (has_file(s, effect, "status"))
		return err_set(e, ERR_EXISTS, ERR_TO_LOG, "effect %s ended before", effect);
	AUTO_CLOSE int fd = spool_new(s, effect, "begun");
	if (fd < 0 && errno == EEXIST)
		return err_set(e, ERR_EXISTS, ERR_TO_LOG, "effect %s began before", effect);
	if (fd < 0 || fd_write_all(fd, text, (size_t)n) != 0) {
		err_errno(e, errno, ERR_TO_USER, "cannot note that effect %s begins", effect);
		if (fd >= 0)
			spool_forget(s, effect);
		return e->code;
	}
	cell_note(s, cell, effect);
	return 0;
}

int
spool_out(struct spool *s, const char *effect, bool is_new)
{
	int fd = is_new ? spool_new(s, effect, "out") : spool_file(s, effect, "out", O_RDONLY);

	/* Of an effect whose begin failed half-way before. */
	return fd < 0 && is_new && errno == EEXIST ? spool_file(s, effect, "out", O_RDWR | O_TRUNC)
						   : fd;
}

int
spool_end(const struct spool *s, const char *effect, const struct exec_status *st)
{
	struct buf b;
	struct json j;
	char name[NAME_SIZE], begun[NAME_SIZE];

	buf_init(&b, STATUS_TEXT_MAX);
	json_init(&j, &b);
	json_obj(&j);
	status_write(&j, st);
	json_obj_end(&j);
	AUTO_CLOSE int fd = spool_file(s, effect, "begun", O_WRONLY | O_APPEND);
	int r = fd < 0 ? -1 : fd_write_all(fd, b.p, b.n);
	if (r == 0)
		r = renameat(s->dir, file_name(begun, effect, "begun"), s->dir,
			file_name(name, effect, "status"));
	buf_fini(&b);
	return r;
}

static int
read_whole(const struct spool *s, const char *key, const char *suffix, struct buf *b)
{
	AUTO_CLOSE int fd = spool_file(s, key, suffix, O_RDONLY);
	return fd < 0 ? -1 : fd_read_all(fd, b);
}

static int
status_load(const struct spool *s, const char *effect, struct exec_status *st)
{
	struct buf b;
	const struct node *n = NULL;

	buf_init(&b, STATUS_TEXT_MAX + 4096);
	struct arena *a = arena_new(64 * KIB);
	int r = read_whole(s, effect, "status", &b);
	struct str rest = buf_str(&b), last = { 0 };
	while (str_next(&rest, '\n', &last)) {
	}
	if (r == 0)
		r = json_parse(a, last, &n, NULL);
	if (r == 0)
		r = exec_status_read(n, st);
	arena_free(a);
	buf_fini(&b);
	return r;
}

bool
spool_has_begun(const struct spool *s, const char *effect)
{
	return has_file(s, effect, "begun") || has_file(s, effect, "status");
}

bool
spool_is_of(const struct spool *s, const char *effect, struct str cell)
{
	struct buf b;
	const struct node *n = NULL;

	if (!spool_has_begun(s, effect))
		return true;
	buf_init(&b, STATUS_TEXT_MAX + 4096);
	struct arena *a = arena_new(64 * KIB);
	bool was_read =
		read_whole(s, effect, "begun", &b) == 0 || read_whole(s, effect, "status", &b) == 0;
	struct str rest = buf_str(&b), first = { 0 };
	(void)str_next(&rest, '\n', &first);
	bool is_of = was_read && json_parse(a, first, &n, NULL) == 0 && cell.n > 0 &&
		     str_eq(node_str(n, "cell", STR("")), cell);
	arena_free(a);
	buf_fini(&b);
	return is_of;
}

/* An effect id older than this boot that left nothing may have begun all the same: the machine went down. */
static bool
is_before_boot(const struct spool *s, const char *effect)
{
	struct id id;
	return id_parse(str_of(effect), &id) == 0 && id_time_ms(&id) < s->boot_at_ms;
}

void
spool_find(const struct spool *s, const char *effect, struct exec_status *st)
{
	*st = (struct exec_status){ .state = EXEC_NOT_BEGUN };
	if (status_load(s, effect, st) == 0)
		return;
	*st = (struct exec_status){ .state = EXEC_NOT_BEGUN };
	if (spool_has_begun(s, effect) || is_before_boot(s, effect))
		st->state = EXEC_UNKNOWN;
}

void
spool_forget(const struct spool *s, const char *effect)
{
	static const char *const suffixes[] = { "out", "status",
		"begun" }; /* begun last: it says that the rest may be */
	char name[NAME_SIZE];
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		unlinkat(s->dir, file_name(name, effect, suffixes[i]), 0);
}

int
spool_cell_read(const struct spool *s, const char *cell, spool_line_fn fn, void *arg)
{
	struct buf b;
	char line[PLAN_PATH_MAX + 1];

	buf_init(&b, CELL_TEXT_MAX);
	int r = read_whole(s, cell, "cell", &b);
	struct str rest = buf_str(&b), one;
	while (str_next(&rest, '\n', &one)) {
		if (one.n == 0 || one.n >= sizeof(line))
			continue;
		memcpy(line, one.p, one.n);
		line[one.n] = '\0';
		if (one.p[0] == '/' || key_valid(one))
			fn(arg, line, one.p[0] == '/');
	}
	buf_fini(&b);
	return r;
}

void
spool_cell_forget(const struct spool *s, const char *cell)
{
	char name[NAME_SIZE];
	unlinkat(s->dir, file_name(name, cell, "cell"), 0);
}
