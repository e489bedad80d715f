/* SPDX-License-Identifier: MIT
 * read, write, get, put, edit and stat: operations on the content of one file. What is read is described
 * (size, lines, hash, whether it is text) so that a model can page through it and guard an edit;
 * what is written is replaced whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/path.h"
#include "base/utf8.h"
#include "sandbox/fileop_internal.h"

static int64_t
mtime_ms(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

static int64_t
count_lines(struct str s)
{
	int64_t n = 0;
	const char *p = s.p, *end = s.p + s.n;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		n++;
		p++;
	}
	return n;
}

/* Offset just after the n-th newline of s, or s.n when it has fewer; *found: how many there were.
 */
static size_t
after_lines(struct str s, int64_t n, int64_t *found)
{
	size_t at = 0;

	for (*found = 0; *found < n; (*found)++) {
		const char *p = at < s.n ? memchr(s.p + at, '\n', s.n - at) : NULL;
		if (p == NULL)
			return s.n;
		at = (size_t)(p - s.p) + 1;
	}
	return at;
}

/* ---- read ---- */

struct page {
	const char *path;
	int fd;
	int64_t line, lines;            /* wanted; line 0: by offset */
	int64_t offset;                 /* of bytes */
	size_t n;                       /* wanted at most, then what there is */
	int64_t got_lines, total_lines; /* total: -1 unknown */
	int64_t size;
	bool is_end;
	struct str bytes;
	char sha256[SHA256_HEX];
};

/* Finds the offset of a line in a file that is too large to be held. */
static int
seek_line(struct page *g, struct arena *a, struct err *e)
{
	enum { CHUNK = 256 * KIB };
	char shown[SHOWN_MAX], *chunk = arena_alloc(a, CHUNK);
	int64_t at = 0, left = g->line - 1, found;

	while (left > 0) {
		ssize_t n = pread(g->fd, chunk, CHUNK, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return path_error(e, errno, g->path);
		struct str s = { chunk, (size_t)n };
		size_t used = after_lines(s, left, &found);
		left -= found;
		at += (int64_t)used;
		if (n == 0)
			break;
		if (at > FILE_SCAN_MAX)
			return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
				"line %lld of %s lies beyond its first %u MiB (read by offset, or "
				"use grep)",
				(long long)g->line, path_shown(g->path, shown),
				FILE_SCAN_MAX / MIB);
	}
	g->offset = at;
	return 0;
}

/* Cuts what was loaded to the lines and bytes that were asked for: after whole lines where one
 * fits, else on a character boundary. */
static void
page_cut(struct page *g, struct str from)
{
	struct str s = str_sub(from, 0, g->n);
	bool cut = from.n > g->n;

	if (g->line > 0) {
		size_t n = after_lines(s, g->lines, &g->got_lines);
		if (n < s.n) {
			s.n = n;
			cut = false;
		} else if (cut && g->got_lines > 0) {
			s.n = after_lines(s, count_lines(s), &g->got_lines);
			cut = false;
		}
	}
	if (cut)
		s.n = utf8_cut(from, s.n) > 0 ? utf8_cut(from, s.n) : s.n;
	g->bytes = s;
	g->got_lines = count_lines(s) + (s.n > 0 && s.p[s.n - 1] != '\n');
}

/* A file that can be held whole: everything about it can be said. */
static int
page_whole(struct page *g, struct buf *b, struct err *e)
{
	int rc = fd_load(g->fd, 0, FILE_READ_MAX, b, g->path, e);
	struct str all = buf_str(b);
	int64_t found;

	if (rc != 0)
		return rc;
	g->size = (int64_t)all.n;
	g->total_lines = count_lines(all) + (all.n > 0 && all.p[all.n - 1] != '\n');
	sha256_hex(all, g->sha256);
	if (g->line > 0)
		g->offset = (int64_t)after_lines(all, g->line - 1, &found);
	g->offset = MIN(g->offset, g->size);
	page_cut(g, str_sub(all, (size_t)g->offset, all.n));
	if (g->line == 0)
		g->line = count_lines(str_sub(all, 0, (size_t)g->offset)) + 1;
	g->is_end = g->offset + (int64_t)g->bytes.n == g->size;
	return 0;
}

static int
page_part(struct page *g, struct arena *a, struct buf *b, struct err *e)
{
	int rc = g->line > 0 ? seek_line(g, a, e) : 0;

	/* 4 more, so that a cut sees whether it splits a character. */
	if (rc == 0)
		rc = fd_load(g->fd, g->offset, g->n + 4, b, g->path, e);
	if (rc != 0)
		return rc;
	g->total_lines = -1;
	page_cut(g, buf_str(b));
	g->is_end = g->bytes.n == b->n && b->n < g->n + 4;
	return 0;
}

static int
page_answer(struct fileop *c, const struct page *g, struct err *e)
{
	struct json *j = c->j;

	json_kv_int(j, "size", g->size);
	json_kv_int(j, "offset", g->offset);
	json_kv_int(j, "n", (int64_t)g->bytes.n);
	json_kv_int(j, "line", g->line);
	json_kv_int(j, "lines", g->got_lines);
	if (g->total_lines >= 0)
		json_kv_int(j, "total_lines", g->total_lines);
	json_kv_bool(j, "is_end", g->is_end);
	json_kv_z(j, "sha256", g->sha256);
	json_kv_bool(j, "binary", is_binary(g->bytes));
	if (buf_add_str(c->tail, g->bytes) != 0)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%zu bytes are too many for one read (set n)", g->bytes.n);
	return 0;
}

int
op_read(struct fileop *c, struct err *e)
{
	struct page g = { .line = node_int(c->params, "line", 0),
		.lines = node_int(c->params, "lines", INT64_MAX),
		.offset = node_int(c->params, "offset", 0) };
	struct stat st;
	struct buf b;
	int rc;

	if (g.line > 0 && g.offset > 0)
		return err_set(
			e, ERR_INVALID, ERR_TO_MODEL, "give either line or offset, not both");
	if (g.lines != INT64_MAX && g.line == 0 && g.offset == 0)
		g.line = 1;
	if ((rc = param_path(c, "path", &g.path, e)) != 0)
		return rc;
	AUTO_CLOSE int fd = path_open_file(NULL, g.path, &st, e);
	if (fd < 0)
		return fd;
	g.fd = fd;
	g.size = st.st_size;
	g.n = (size_t)MIN(
		node_int(c->params, "n", INT64_MAX), (int64_t)(c->tail->max - c->tail->n));
	buf_init(&b, FILE_READ_MAX + MIB);
	rc = g.size <= FILE_READ_MAX ? page_whole(&g, &b, e) : page_part(&g, c->a, &b, e);
	if (rc == 0)
		rc = page_answer(c, &g, e);
	buf_fini(&b);
	return rc;
}

/* ---- write ---- */

static int
replace_whole(struct replace *r, const char *path, struct str content, struct err *e)
{
	if (fd_write_all(r->fd, content.p, content.n) != 0) {
		int rc = path_error(e, errno, path);
		replace_abort(r);
		return rc;
	}
	return replace_commit(r, path, NULL, false, e);
}

int
op_write(struct fileop *c, struct err *e)
{
	char hex[SHA256_HEX];
	const char *path;
	struct replace r;
	int rc;

	if ((rc = param_path(c, "path", &path, e)) != 0 ||
		(rc = replace_begin(&r, path, node_bool(c->params, "mkdirs", false), e)) != 0)
		return rc;
	bool existed = r.existed;
	if ((rc = replace_whole(&r, path, c->content, e)) != 0)
		return rc;
	sha256_hex(c->content, hex);
	json_kv_int(c->j, "size", (int64_t)c->content.n);
	json_kv_z(c->j, "sha256", hex);
	json_kv_bool(c->j, "existed", existed);
	return 0;
}

/* ---- get and put: files as they are, in parts that fit a message ---- */

/* The stamp is another one as soon as the file is: parts with the same stamp are of one file. */
int
op_get(struct fileop *c, struct err *e)
{
	int64_t offset = node_int(c->params, "offset", 0), n = node_int(c->params, "n", 0);
	const char *path;
	struct stat st;
	int rc = param_path(c, "path", &path, e);

	if (rc != 0)
		return rc;
	AUTO_CLOSE int fd = path_open_file(node_z(c->params, "below", ""), path, &st, e);
	if (fd < 0)
		return fd;
	if ((rc = fd_load(fd, offset, (size_t)n, c->tail, path, e)) != 0)
		return rc;
	json_kv_int(c->j, "size", st.st_size);
	json_kv_z(c->j, "stamp", arena_printf(c->a, "%llu:%lld:%lld.%09ld", (unsigned long long)st.st_ino, (long long)st.st_size,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec));
	json_kv_bool(c->j, "is_end", offset + (int64_t)c->tail->n >= st.st_size);
	return 0;
}

/* The unfinished file. A part that a runtime asked for which is gone may still be written: it ends first. fd or -1 with
 * errno. */
static int
part_open(int dir, const char *tmp, int64_t offset)
{
	struct stat st;
	int fd = path_openat(dir, tmp, O_WRONLY | O_NOFOLLOW);

	if (fd >= 0)
		(void)flock(fd, LOCK_EX);
	if (offset > 0) {
		if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == offset && lseek(fd, offset, SEEK_SET) == offset))
			return fd;
		close(fd);
		errno = ESTALE; /* not what the last part left: it has to begin anew */
		return -1;
	}
	(void)unlinkat(dir, tmp, 0);
	if (fd >= 0)
		close(fd);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0)
		(void)flock(fd, LOCK_EX);
	return fd;
}

/* Nothing is to be seen under the name before the last one. Nobody may write
 * to it then, which is a word to its reader and no wall: the directory is the reader's own. */
int
op_put(struct fileop *c, struct err *e)
{
	const char *below = node_z(c->params, "below", ""), *path, *slash;
	int64_t offset = node_int(c->params, "offset", 0);
	char tmp[TMP_NAME_SIZE];
	int rc = param_path(c, "path", &path, e);

	if (rc != 0)
		return rc;
	slash = strrchr(path, '/');
	AUTO_CLOSE int dir = path_open_below(below, slash == NULL ? "." : arena_printf(c->a, "%.*s", (int)(slash - path), path),
		O_RDONLY | O_DIRECTORY);
	const char *name = slash == NULL ? path : slash + 1;
	if (dir < 0)
		return path_error(e, errno, path);
	tmp_name(name, tmp);
	AUTO_CLOSE int fd = part_open(dir, tmp, offset);
	if (fd < 0)
		return path_error(e, errno, path);
	rc = fd_write_all(fd, c->content.p, c->content.n);
	if (rc == 0 && node_bool(c->params, "last", false)) {
		rc = fchmod(fd, 0444) != 0 || fsync(fd) != 0 ? -1 : renameat(dir, tmp, dir, name);
		if (rc == 0)
			dir_sync(dir);
	}
	if (rc != 0) {
		rc = path_error(e, errno, path);
		(void)unlinkat(dir, tmp, 0);
		return rc;
	}
	json_kv_int(c->j, "size", offset + (int64_t)c->content.n);
	return 0;
}

/* ---- edit ---- */

struct edit {
	const char *path;
	char shown[SHOWN_MAX];
	struct str text, old, new;
	bool all;
	int64_t count, line; /* replacements; line of the first */
};

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Whether text starts with old when each run of white space counts as one blank. Takes what it
 * compares off *budget, because a file of equal lines would otherwise cost the product of both
 * lengths. */
static bool
match_loosely(struct str text, struct str old, int64_t *budget)
{
	for (size_t i = 0, k = 0; *budget > 0; i++, k++, --*budget) {
		size_t from_i = i, from_k = k;
		for (; i < text.n && is_space(text.p[i]); i++, --*budget)
			;
		for (; k < old.n && is_space(old.p[k]); k++, --*budget)
			;
		if (k == old.n)
			return true;
		if ((i > from_i) != (k > from_k) || i == text.n || text.p[i] != old.p[k])
			return false;
	}
	return false;
}

/* Nothing matched: says what stands nearest. White space is what models get wrong most. */
static int
edit_missing(const struct edit *x, struct err *e)
{
	int64_t line = 1, budget = EDIT_COMPARE_MAX;
	struct str rest, old = str_trim(x->old), row, first = old;

	str_next(&first, '\n', &row);
	first = str_trim(row);
	for (rest = x->text; first.n > 0 && rest.n > 0 && budget > 0; line++) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) + 1 : rest.n;
		size_t indent = 0;
		while (indent < n && is_space(rest.p[indent]))
			indent++;
		struct str from = str_sub(rest, indent, rest.n);
		if (match_loosely(from, old, &budget))
			return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
				"old is not in %s as written, but line %lld matches except for "
				"white space (read it and copy "
				"its tabs, blanks and line ends exactly%s)",
				x->shown, (long long)line,
				str_find(x->text, STR("\r\n")) >= 0
					? "; the file has CRLF line ends"
					: "");
		rest = str_sub(rest, n, rest.n);
	}
	ptrdiff_t at = first.n >= 4 ? str_find(x->text, first) : -1;
	if (at >= 0 && first.n < old.n)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
			"old is not in %s: its first line is at line %lld, but what follows there "
			"differs (read those lines again)",
			x->shown, (long long)count_lines(str_sub(x->text, 0, (size_t)at)) + 1);
	return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
		"old is not in %s (read the file and copy the text to replace exactly)", x->shown);
}

/* More than one match where one was expected: how many, and where the first ones are. */
static int
edit_ambiguous(const struct edit *x, struct err *e)
{
	enum { SHOW = 8 };
	char lines[SHOW * 22] = "";
	size_t at = 0, n = 0, used = 0;
	ptrdiff_t found;

	while (n < EDIT_COUNT_MAX &&
		(found = str_find(str_sub(x->text, at, x->text.n), x->old)) >= 0) {
		at += (size_t)found;
		if (n < SHOW)
			used += (size_t)snprintf(lines + used, sizeof(lines) - used, "%s%lld",
				n ? ", " : "", (long long)count_lines(str_sub(x->text, 0, at)) + 1);
		at++;
		n++;
	}
	return err_set(e, ERR_CONFLICT, ERR_TO_MODEL,
		"old occurs %s%zu times in %s, at lines %s%s (add lines around it until it is "
		"unique, or set all)",
		n == EDIT_COUNT_MAX ? "at least " : "", n, x->shown, lines,
		n > SHOW ? ", ..." : "");
}

static int
edit_apply(struct edit *x, struct buf *out, struct err *e)
{
	size_t at = 0;
	ptrdiff_t found = str_find(x->text, x->old);

	if (found < 0)
		return edit_missing(x, e);
	x->line = count_lines(str_sub(x->text, 0, (size_t)found)) + 1;
	if (!x->all && str_find(str_sub(x->text, (size_t)found + 1, x->text.n), x->old) >= 0)
		return edit_ambiguous(x, e);
	for (; found >= 0 && !out->overflow; x->count++) {
		buf_add_str(out, str_sub(x->text, at, (size_t)found));
		buf_add_str(out, x->new);
		at += (size_t)found + x->old.n;
		found = str_find(str_sub(x->text, at, x->text.n), x->old);
	}
	buf_add_str(out, str_sub(x->text, at, x->text.n));
	if (out->overflow)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%s would pass %u MiB (use exec for files of this size)", x->shown,
			FILE_READ_MAX / MIB);
	return 0;
}

static int
edit_load(struct fileop *c, struct edit *x, struct buf *b, struct err *e)
{
	struct stat st;

	x->old = node_str(c->params, "old", STR(""));
	x->new = node_str(c->params, "new", STR(""));
	x->all = node_bool(c->params, "all", false);
	if (x->old.n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"old is empty (give the text to replace; use write to make or replace a "
			"file)");
	if (str_eq(x->old, x->new))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"old and new are equal: nothing would change");
	AUTO_CLOSE int fd = path_open_file(NULL, x->path, &st, e);
	if (fd < 0)
		return fd;
	if (st.st_size > FILE_READ_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%s has %lld bytes, edit takes at most %u MiB (use exec)", x->shown,
			(long long)st.st_size, FILE_READ_MAX / MIB);
	int rc = fd_load(fd, 0, FILE_READ_MAX, b, x->path, e);
	x->text = buf_str(b);
	return rc;
}

static int
edit_store(const struct edit *x, struct str after, const char *expect, struct err *e)
{
	char now[SHA256_HEX];
	struct replace r;
	int rc = replace_begin(&r, x->path, false, e);

	if (rc != 0)
		return rc;
	/* Somebody may have changed it while this edit was computed. */
	AUTO_CLOSE int fd = path_openat(r.dir.fd, r.dir.name, O_RDONLY | O_NOFOLLOW);
	if (fd < 0 || fd_sha256(fd, now) != 0 || strcmp(now, expect) != 0) {
		replace_abort(&r);
		return err_set(e, ERR_CONFLICT, ERR_TO_MODEL,
			"%s was changed by something else meanwhile (read it again)", x->shown);
	}
	return replace_whole(&r, x->path, after, e);
}

int
op_edit(struct fileop *c, struct err *e)
{
	char before[SHA256_HEX], after[SHA256_HEX];
	struct str expect = node_str(c->params, "expect", STR(""));
	struct edit x = { 0 };
	struct buf text, out;
	int rc;

	if ((rc = param_path(c, "path", &x.path, e)) != 0)
		return rc;
	path_shown(x.path, x.shown);
	buf_init(&text, FILE_READ_MAX + MIB);
	buf_init(&out, FILE_READ_MAX);
	if ((rc = edit_load(c, &x, &text, e)) != 0)
		goto out;
	sha256_hex(x.text, before);
	if (expect.n > 0 && !str_is(expect, before)) {
		rc = err_set(e, ERR_CONFLICT, ERR_TO_MODEL,
			"%s is not as expected: it was changed since (read it again)", x.shown);
		goto out;
	}
	if ((rc = edit_apply(&x, &out, e)) != 0)
		goto out;
	if (!node_bool(c->params, "dry", false) &&
		(rc = edit_store(&x, buf_str(&out), before, e)) != 0)
		goto out;
	sha256_hex(buf_str(&out), after);
	json_kv_z(c->j, "sha256_before", before);
	json_kv_z(c->j, "sha256", after);
	json_kv_int(c->j, "replacements", x.count);
	json_kv_int(c->j, "line", x.line);
	json_kv_int(c->j, "size", (int64_t)out.n);
out:
	buf_fini(&text);
	buf_fini(&out);
	return rc;
}

/* ---- stat ---- */

static void
stat_hash(struct fileop *c, const char *path)
{
	char hex[SHA256_HEX];
	struct stat st;
	AUTO_CLOSE int fd = path_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW);

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fd_sha256(fd, hex) == 0)
		json_kv_z(c->j, "sha256", hex);
}

int
op_stat(struct fileop *c, struct err *e)
{
	char mode[8], target[FILE_PATH_MAX];
	const char *path;
	struct stat st;
	int rc;

	if ((rc = param_path(c, "path", &path, e)) != 0)
		return rc;
	AUTO_CLOSE int fd = path_openat(AT_FDCWD, path, O_PATH | O_NOFOLLOW);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		json_kv_bool(c->j, "exists", false);
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) != 0)
		return path_error(e, errno, path);
	snprintf(mode, sizeof(mode), "%04o", (unsigned)(st.st_mode & 07777));
	json_kv_bool(c->j, "exists", true);
	json_kv_z(c->j, "type", kind_name(st.st_mode));
	json_kv_int(c->j, "size", st.st_size);
	json_kv_int(c->j, "mtime_ms", mtime_ms(&st));
	json_kv_z(c->j, "mode", mode);
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(fd, "", target, sizeof(target));
		json_kv_str(c->j, "target", (struct str){ target, n > 0 ? (size_t)n : 0 });
	}
	if (S_ISREG(st.st_mode) && node_bool(c->params, "hash", false))
		stat_hash(c, path);
	return 0;
}
