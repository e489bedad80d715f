/* SPDX-License-Identifier: MIT
 * glob and grep. Both walk below one directory in the order of names, do not follow links, and
 * leave .git out unless the path or the pattern names it. Expressions are POSIX ERE in the C
 * locale, without back references, so a search costs time in proportion to the text; files with NUL
 * bytes are skipped and counted. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include "base/path.h"
#include "base/utf8.h"
#include "sandbox/fileop_internal.h"

/* What a walk finds: the pattern's positions at each level, so that a directory starts where its
 * parent stood. */
struct find {
	struct fileop *c;
	struct glob *glob;    /* NULL: everything */
	struct glob_pos *pos; /* FILE_DEPTH_MAX + 1 of them */
	bool with_git;
	const char *base; /* "" or the start of the walk with a slash: what paths in the answer
			     begin with */
	int64_t max, n;
	const char *why;
};

static bool
path_names_git(struct str path)
{
	struct str part;

	while (str_next(&path, '/', &part))
		if (str_is(part, ".git"))
			return true;
	return false;
}

static int
find_init(struct find *f, struct fileop *c, const char *path, struct str pattern, bool any_depth,
	struct err *e)
{
	struct str p = str_of(path);

	f->c = c;
	f->max = node_int(c->params, "max", 1);
	f->with_git = path_names_git(p);
	while (p.n > 1 && p.p[p.n - 1] == '/')
		p.n--;
	f->base = str_is(p, ".")   ? ""
		  : str_is(p, "/") ? "/"
				   : arena_printf(c->a, "%.*s/", STR_FMT(p));
	if (pattern.n == 0)
		return 0;
	int rc = glob_new(c->a, pattern, any_depth, &f->glob, e);
	if (rc != 0)
		return rc;
	f->with_git = f->with_git || glob_names_git(f->glob);
	f->pos = arena_alloc(c->a, (FILE_DEPTH_MAX + 1) * sizeof(*f->pos));
	glob_start(f->glob, &f->pos[0]);
	return 0;
}

/* Steps the pattern to this entry. Sets *hit; returns whether something below it may match. */
static bool
find_step(struct find *f, const struct walk_entry *w, bool *hit)
{
	*hit = false;
	if (!f->with_git && strcmp(w->name, ".git") == 0)
		return false;
	*hit = true;
	if (f->glob == NULL)
		return true;
	bool may = glob_step(f->glob, &f->pos[w->depth - 1], str_of(w->name), &f->pos[w->depth]);
	*hit = glob_done(f->glob, &f->pos[w->depth]);
	return may;
}

/* ---- glob ---- */

static enum walk_next
glob_visit(void *arg, const struct walk_entry *w)
{
	struct find *f = arg;
	bool hit, may = find_step(f, w, &hit);

	if (hit) {
		const char *slash = S_ISDIR(w->st.st_mode) ? "/" : "";
		if (f->n >= f->max || !head_has_room(f->c, strlen(f->base) + w->path.n)) {
			f->why = "more paths than max";
			return WALK_STOP;
		}
		f->n++;
		json_str(f->c->j, str_of(arena_printf(
					  f->c->a, "%s%.*s%s", f->base, STR_FMT(w->path), slash)));
	}
	return may ? WALK_ON : WALK_SKIP;
}

int
op_glob(struct fileop *c, struct err *e)
{
	struct find f = { 0 };
	const char *path;
	int rc = param_path(c, "path", &path, e);

	if (rc != 0)
		return rc;
	struct str pattern = node_str(c->params, "pattern", STR(""));
	if (pattern.n == 0)
		return err_set(
			e, ERR_INVALID, ERR_TO_MODEL, "pattern is empty (for example **/*.c)");
	if ((rc = find_init(&f, c, path, pattern, false, e)) != 0)
		return rc;
	return list_tree(c, path_open_dir(NULL, path, e), "paths", glob_visit, &f, &f.why, e);
}

/* ---- grep ---- */

struct grep {
	struct find f;
	regex_t re;
	struct str literal; /* the pattern, when it has no operators and case counts: then re is not
			       used */
	int64_t context, per_file;
	int64_t files, searched, skipped_binary, skipped_large;
	struct buf text; /* of the file being searched */
};

/* Counted repetition is unrolled by regcomp: the product of nested counts is what its memory grows
 * with. */
static int
check_repeats(struct str p, struct err *e)
{
	int64_t product = 1;

	for (size_t i = 0; i < p.n; i++) {
		if (p.p[i] == '\\' && i + 1 < p.n && p.p[i + 1] >= '1' && p.p[i + 1] <= '9')
			return err_set(e, ERR_INVALID, ERR_TO_MODEL,
				"pattern has a back reference \\%c, which grep does not take here",
				p.p[i + 1]);
		if (p.p[i] == '\\') {
			i++;
			continue;
		}
		int64_t n = 0, most = 1;
		if (p.p[i] != '{')
			continue;
		for (i++; i < p.n && ((p.p[i] >= '0' && p.p[i] <= '9') || p.p[i] == ','); i++) {
			n = p.p[i] == ',' ? 0 : MIN(n * 10 + p.p[i] - '0', (int64_t)1000000);
			most = MAX(most, n);
		}
		if ((product *= most) > GREP_REPEAT_MAX)
			return err_set(e, ERR_INVALID, ERR_TO_MODEL,
				"pattern repeats too much: the counts in {} multiply to more than "
				"%d",
				GREP_REPEAT_MAX);
	}
	return 0;
}

static int
grep_compile(struct grep *g, struct str p, bool ignore_case, struct err *e)
{
	char why[100];
	int rc;

	if (p.n == 0 || p.n > GREP_PATTERN_MAX || memchr(p.p, 0, p.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"pattern must have 1 to %u bytes and no NUL", GREP_PATTERN_MAX);
	if (memchr(p.p, '\n', p.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"pattern has a line end in it, but grep looks at one line at a time");
	if ((rc = check_repeats(p, e)) != 0)
		return rc;
	rc = regcomp(
		&g->re, arena_strdup(g->f.c->a, p), REG_EXTENDED | (ignore_case ? REG_ICASE : 0));
	if (rc != 0) {
		regerror(rc, &g->re, why, sizeof(why));
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"pattern is not a POSIX extended regular expression: %s (quote ( ) [ { * + "
			"? . | ^ $ with \\ to mean them)",
			why);
	}
	if (!ignore_case && strcspn(arena_strdup(g->f.c->a, p), "\\^$.[]|()*+?{}") == p.n)
		g->literal = p;
	return 0;
}

/* Whether a line matches; sets *at to where, when the line is too long to be shown whole. */
static bool
line_match(const struct grep *g, struct str line, size_t *at)
{
	regmatch_t m[1] = { { .rm_so = 0, .rm_eo = (regoff_t)line.n } };

	*at = 0;
	if (g->literal.n > 0) {
		ptrdiff_t found = str_find(line, g->literal);
		*at = found > 0 ? (size_t)found : 0;
		return found >= 0;
	}
	if (regexec(&g->re, line.p, line.n > GREP_TEXT_MAX, m, REG_STARTEND) != 0)
		return false;
	if (line.n > GREP_TEXT_MAX)
		*at = (size_t)m[0].rm_so;
	return true;
}

static struct str
line_at(struct str text, size_t at)
{
	const char *end = memchr(text.p + at, '\n', text.n - at);
	size_t n = end ? (size_t)(end - text.p) - at : text.n - at;

	if (n > 0 && text.p[at + n - 1] == '\r')
		n--;
	return str_sub(text, at, MIN(n, (size_t)GREP_LINE_MAX));
}

static size_t
next_line(struct str text, size_t at)
{
	const char *end = memchr(text.p + at, '\n', text.n - at);
	return end ? (size_t)(end - text.p) + 1 : text.n;
}

/* One entry of the answer. A long line is shown around its match. false: the answer is full. */
static bool
grep_show(struct grep *g, const char *path, int64_t number, struct str line, size_t at,
	bool is_context)
{
	struct json *j = g->f.c->j;
	size_t from = at > GREP_TEXT_MAX / 2 ? utf8_start(line, at - GREP_TEXT_MAX / 2) : 0;
	struct str shown = str_sub(line, from, line.n);

	if (shown.n > GREP_TEXT_MAX)
		shown.n = utf8_cut(shown, GREP_TEXT_MAX);
	if (!head_has_room(g->f.c, strlen(path) + shown.n + 64)) {
		g->f.why = "the matches found so far fill the answer";
		return false;
	}
	json_obj(j);
	json_kv_z(j, "path", path);
	json_kv_int(j, "line", number);
	json_kv_str(j, "text", shown);
	if (is_context)
		json_kv_bool(j, "context", true);
	if (shown.n < line.n)
		json_kv_bool(j, "cut", true);
	json_obj_end(j);
	return true;
}

/* The lines before a match that were not shown yet. */
static bool
show_before(
	struct grep *g, const char *path, struct str text, size_t at, int64_t number, int64_t shown)
{
	int64_t n = 0;
	size_t from = at;

	while (n < g->context && number - n - 1 > shown && from > 0) {
		from--;
		while (from > 0 && text.p[from - 1] != '\n')
			from--;
		n++;
	}
	for (; n > 0; n--, from = next_line(text, from))
		if (!grep_show(g, path, number - n, line_at(text, from), 0, true))
			return false;
	return true;
}

/* false: stop the whole search. */
static bool
grep_text(struct grep *g, const char *path, struct str text)
{
	int64_t number = 1, shown = 0, after = 0, hits = 0;
	size_t where;

	for (size_t at = 0; at < text.n; at = next_line(text, at), number++) {
		struct str line = line_at(text, at);
		bool hit = hits < g->per_file && line_match(g, line, &where);
		if (!hit && after-- <= 0) {
			if (hits >= g->per_file)
				break;
			continue;
		}
		if (hit && g->f.n >= g->f.max) {
			g->f.why = "more matches than max";
			return false;
		}
		if (hit && !show_before(g, path, text, at, number, shown))
			return false;
		if (!grep_show(g, path, number, line, hit ? where : 0, !hit))
			return false;
		shown = number;
		if (hit) {
			after = g->context;
			hits++;
			g->f.n++;
		}
		if (hits == g->per_file && hit)
			g->f.why =
				"a file has as many matches as per_file allows: it may have more";
	}
	g->files += hits > 0;
	return true;
}

/* Searches one open file (-1: it could not be opened, and is passed over as a directory would be).
 * false: stop. */
static bool
grep_file(struct grep *g, int fd, const char *path)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return true;
	buf_reset(&g->text);
	if (fd_load(fd, 0, 8 * KIB, &g->text, path, NULL) != 0)
		return true;
	if (is_binary(buf_str(&g->text))) {
		g->skipped_binary++;
		return true;
	}
	if (st.st_size > GREP_FILE_MAX ||
		fd_load(fd, (int64_t)g->text.n, GREP_FILE_MAX, &g->text, path, NULL) != 0) {
		g->skipped_large++;
		return true;
	}
	g->searched++;
	return grep_text(g, path, buf_str(&g->text));
}

static enum walk_next
grep_visit(void *arg, const struct walk_entry *w)
{
	struct grep *g = arg;
	bool hit, may = find_step(&g->f, w, &hit);

	if (!hit || !S_ISREG(w->st.st_mode))
		return may ? WALK_ON : WALK_SKIP;
	char path[2 * FILE_PATH_MAX];
	snprintf(path, sizeof(path), "%s%.*s", g->f.base, STR_FMT(w->path));
	AUTO_CLOSE int fd = path_openat(w->dir, w->name, O_RDONLY | O_NOFOLLOW);
	return grep_file(g, fd, path) ? WALK_ON : WALK_STOP;
}

static int
grep_run(struct grep *g, const char *path, struct err *e)
{
	char shown[SHOWN_MAX];
	struct stat st;
	int rc = 0;
	AUTO_CLOSE int fd = path_openat(AT_FDCWD, path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) != 0)
		return path_error(e, errno, path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "%s is %s, not a file or a directory",
			path_shown(path, shown), kind_text(st.st_mode));
	json_kv_arr(g->f.c->j, "matches");
	if (S_ISDIR(st.st_mode))
		rc = walk_tree(fd, g->f.c->a, grep_visit, g, &g->f.why, e);
	else
		grep_file(g, fd, path);
	json_arr_end(g->f.c->j);
	return rc;
}

int
op_grep(struct fileop *c, struct err *e)
{
	struct grep g = { .context = node_int(c->params, "context", 0),
		.per_file = node_int(c->params, "per_file", 1) };
	const char *path;
	int rc = param_path(c, "path", &path, e);

	if (rc != 0 ||
		(rc = find_init(&g.f, c, path, node_str(c->params, "glob", STR("")), true, e)) !=
			0 ||
		(rc = grep_compile(&g, node_str(c->params, "pattern", STR("")),
			 node_bool(c->params, "ignore_case", false), e)) != 0)
		return rc;
	buf_init(&g.text, GREP_FILE_MAX + MIB);
	rc = grep_run(&g, path, e);
	buf_fini(&g.text);
	regfree(&g.re);
	if (rc != 0)
		return rc;
	json_kv_int(c->j, "files", g.files);
	json_kv_int(c->j, "searched", g.searched);
	json_kv_int(c->j, "skipped_binary", g.skipped_binary);
	json_kv_int(c->j, "skipped_large", g.skipped_large);
	json_truncated(c->j, g.f.why);
	return 0;
}
