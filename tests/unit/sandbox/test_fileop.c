/* SPDX-License-Identifier: MIT
 * File operations, run in a directory of their own: what each answers, what it refuses and how it
 * says so, and the attack table (links, FIFOs, devices, loops, races, huge and sparse files, names
 * that are not UTF-8). */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/fileop.h"
#include "sandbox/sandbox.h"

struct fix {
	char dir[PATH_MAX], old_cwd[PATH_MAX];
	struct arena *a;
	struct buf head, tail;
	struct err e;
	const struct node *answer; /* of the last operation; NULL when it failed */
};

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int
setup(void **state)
{
	struct fix *f = test_calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->dir, sizeof(f->dir), "%s/fileop-XXXXXX", tmp ? tmp : "/tmp");
	if (getcwd(f->old_cwd, sizeof(f->old_cwd)) == NULL || mkdtemp(f->dir) == NULL ||
		chdir(f->dir) != 0 || mkdir("shared", 0755) != 0 || chdir("shared") != 0)
		return -1;
	f->a = arena_new(64 * MIB);
	buf_init(&f->head, WIRE_HEAD_MAX);
	buf_init(&f->tail, WIRE_TAIL_MAX);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fix *f = *state;

	if (chdir(f->old_cwd) != 0)
		return -1;
	nftw(f->dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	arena_free(f->a);
	buf_fini(&f->head);
	buf_fini(&f->tail);
	test_free(f);
	return 0;
}

static int
run_as(struct fix *f, int access, const char *op, struct str content, const char *params)
{
	buf_reset(&f->head);
	buf_reset(&f->tail);
	f->e = (struct err){ 0 };
	f->answer = NULL;
	int rc = fileop_run(str_of(op), str_of(params), content, access, &f->head, &f->tail, &f->e);
	if (rc == 0) {
		assert_int_equal(json_parse(f->a, buf_str(&f->head), &f->answer, &f->e), 0);
	} else {
		assert_int_equal(f->e.code, rc);
		assert_int_equal(f->e.to, ERR_TO_MODEL);
		assert_true(f->e.msg[0] != 0);
		assert_int_equal(f->head.n, 0);
		assert_int_equal(f->tail.n, 0);
	}
	return rc;
}

static int PRINTF_LIKE(3, 4) run(struct fix *f, const char *op, const char *fmt, ...)
{
	char params[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(params, sizeof(params), fmt, ap);
	va_end(ap);
	return run_as(f, CELL_WORKSPACE_WRITE, op, STR(""), params);
}

static void
put(const char *path, const char *content)
{
	struct err e;
	assert_int_equal(file_write(path, str_of(content), 0644, &e), 0);
}

static void
assert_content(const char *path, const char *content)
{
	char *p;
	size_t n;
	struct err e;

	assert_int_equal(file_read(path, MIB, &p, &n, &e), 0);
	assert_string_equal(p, content);
	free(p);
}

static void
assert_says(const struct fix *f, const char *part)
{
	if (strstr(f->e.msg, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", f->e.msg, part);
}

static int64_t
num(const struct fix *f, const char *key)
{
	return node_int(f->answer, key, -99);
}

/* No temporary file is left in the working directory. */
static void
assert_clean(struct fix *f)
{
	assert_int_equal(run(f, "glob", "{\"pattern\":\"**/.ithaca-*\"}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "paths")), 0);
}

/* ---- read ---- */

static void
test_read_whole(void **state)
{
	struct fix *f = *state;

	put("a.txt", "one\ntwo\nthree\n");
	assert_int_equal(run(f, "read", "{\"path\":\"a.txt\"}"), 0);
	assert_string_equal(buf_z(&f->tail), "one\ntwo\nthree\n");
	assert_int_equal(num(f, "size"), 14);
	assert_int_equal(num(f, "line"), 1);
	assert_int_equal(num(f, "lines"), 3);
	assert_int_equal(num(f, "total_lines"), 3);
	assert_true(node_bool(f->answer, "is_end", false));
	assert_false(node_bool(f->answer, "binary", true));
	char hex[SHA256_HEX];
	sha256_hex(STR("one\ntwo\nthree\n"), hex);
	assert_string_equal(node_z(f->answer, "sha256", ""), hex);
}

static void
test_read_ranges(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *params, *text;
		int64_t offset, line, lines;
		bool is_end;
	} rows[] = {
		{ "\"line\":2,\"lines\":1", "two\n", 4, 2, 1, false },
		{ "\"line\":2", "two\nthree", 4, 2, 2, true },
		{ "\"lines\":1", "one\n", 0, 1, 1, false },
		{ "\"line\":9", "", 13, 9, 0, true },
		{ "\"offset\":4,\"n\":2", "tw", 4, 2, 1, false },
		{ "\"offset\":10", "ree", 10, 3, 1, true },
		{ "\"offset\":99", "", 13, 3, 0, true },
		{ "\"line\":1,\"n\":6", "one\n", 0, 1, 1, false }, /* whole lines where one fits */
		{ "\"line\":1,\"n\":2", "on", 0, 1, 1, false },
	};
	put("a.txt", "one\ntwo\nthree");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(run(f, "read", "{\"path\":\"a.txt\",%s}", rows[i].params), 0);
		assert_string_equal(buf_z(&f->tail), rows[i].text);
		assert_int_equal(num(f, "offset"), rows[i].offset);
		assert_int_equal(num(f, "line"), rows[i].line);
		assert_int_equal(num(f, "lines"), rows[i].lines);
		assert_int_equal(node_bool(f->answer, "is_end", !rows[i].is_end), rows[i].is_end);
	}
	assert_int_equal(
		run(f, "read", "{\"path\":\"a.txt\",\"line\":2,\"offset\":2}"), ERR_INVALID);
}

static void
test_read_cuts_characters_whole(void **state)
{
	struct fix *f = *state;

	put("u.txt", "a\xc3\xa4\xe2\x82\xac"); /* a, 2 bytes, 3 bytes */
	assert_int_equal(run(f, "read", "{\"path\":\"u.txt\",\"n\":2}"), 0);
	assert_string_equal(buf_z(&f->tail), "a");
	assert_int_equal(run(f, "read", "{\"path\":\"u.txt\",\"n\":5}"), 0);
	assert_string_equal(buf_z(&f->tail), "a\xc3\xa4");
	assert_false(node_bool(f->answer, "is_end", true));
}

static void
test_read_large_and_sparse(void **state)
{
	struct fix *f = *state;
	int fd = open("big", O_CREAT | O_RDWR, 0644);

	assert_true(fd >= 0);
	for (int i = 0; i < 20; i++) {
		char *mb = xmalloc(MIB);
		memset(mb, 'x', MIB);
		mb[MIB - 1] = '\n';
		assert_int_equal(write(fd, mb, MIB), MIB);
		free(mb);
	}
	assert_int_equal(write(fd, "last line\n", 10), 10);
	close(fd);
	assert_int_equal(run(f, "read", "{\"path\":\"big\",\"line\":21}"), 0);
	assert_string_equal(buf_z(&f->tail), "last line\n");
	assert_true(node_bool(f->answer, "is_end", false));
	assert_string_equal(node_z(f->answer, "sha256", "?"), "");
	assert_int_equal(run(f, "read", "{\"path\":\"big\",\"offset\":20971525,\"n\":3}"), 0);
	assert_string_equal(buf_z(&f->tail), "lin");

	fd = open("sparse", O_CREAT | O_RDWR, 0644);
	assert_int_equal(ftruncate(fd, (off_t)1 << 36), 0);
	close(fd);
	assert_int_equal(run(f, "read", "{\"path\":\"sparse\",\"n\":100}"), 0);
	assert_true(node_bool(f->answer, "binary", false));
	assert_int_equal(run(f, "stat", "{\"path\":\"sparse\",\"hash\":true}"), 0);
	assert_null(node_get(f->answer, "sha256"));
	assert_int_equal(run(f, "grep", "{\"path\":\"sparse\",\"pattern\":\"x\"}"), 0);
	assert_int_equal(num(f, "skipped_binary"), 1);
	assert_int_equal(
		run(f, "edit", "{\"path\":\"sparse\",\"old\":\"x\",\"new\":\"y\"}"), ERR_LIMIT);
}

static void
test_missing_names_what_and_nearest(void **state)
{
	struct fix *f = *state;

	assert_int_equal(mkdir("source", 0755), 0);
	put("source/README.md", "x");
	assert_int_equal(run(f, "read", "{\"path\":\"source/readme.md\"}"), ERR_NOT_FOUND);
	assert_says(f, "did you mean README.md?");
	assert_int_equal(run(f, "read", "{\"path\":\"sorce/README.md\"}"), ERR_NOT_FOUND);
	assert_says(f, "there is no sorce there (did you mean source?)");
	assert_int_equal(run(f, "read", "{\"path\":\"source/README.md/x\"}"), ERR_INVALID);
	assert_says(f, "not a directory");
	assert_int_equal(run(f, "read", "{\"path\":\"source\"}"), ERR_INVALID);
	assert_says(f, "is a directory (use list)");
	assert_int_equal(run(f, "list", "{\"path\":\"source/README.md\"}"), ERR_INVALID);
	assert_says(f, "is a file, not a directory");
	assert_int_equal(run(f, "read", "{\"path\":\"\"}"), ERR_INVALID);
	assert_int_equal(run(f, "read", "{\"path\":\"a\\u0000b\"}"), ERR_INVALID);
	assert_int_equal(run(f, "read", "{\"pth\":\"a\"}"), ERR_INVALID);
	assert_says(f, "path");
	assert_int_equal(run(f, "fly", "{}"), ERR_INVALID);
	assert_int_equal(run(f, "read", "{"), ERR_INVALID);
}

/* ---- write ---- */

static void
test_write(void **state)
{
	struct fix *f = *state;
	struct stat st;

	assert_int_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("hello"), "{\"path\":\"n/e/w.txt\"}"),
		ERR_NOT_FOUND);
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("hello"),
				 "{\"path\":\"n/e/w.txt\",\"mkdirs\":true}"),
		0);
	assert_content("n/e/w.txt", "hello");
	assert_int_equal(num(f, "size"), 5);
	assert_false(node_bool(f->answer, "existed", true));
	assert_int_equal(chmod("n/e/w.txt", 0751), 0);
	assert_int_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("again"), "{\"path\":\"n/e/w.txt\"}"),
		0);
	assert_true(node_bool(f->answer, "existed", false));
	assert_int_equal(stat("n/e/w.txt", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_content("n/e/w.txt", "again");
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("x"), "{\"path\":\"n/\"}"),
		ERR_INVALID);
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("x"), "{\"path\":\"n\"}"),
		ERR_INVALID);
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("x"), "{\"path\":\"n/..\"}"),
		ERR_INVALID);
	assert_int_equal(
		run_as(f, CELL_READ_ONLY, "write", STR("x"), "{\"path\":\"n/x\"}"), ERR_READONLY);
	assert_says(f, "read_only");
	assert_int_equal(access("n/x", F_OK), -1);
	assert_clean(f);
}

static void
test_write_keeps_the_old_file_when_it_fails(void **state)
{
	struct fix *f = *state;
	struct rlimit old, tight = { 1000, RLIM_INFINITY };
	static char much[5000];

	put("a", "old");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight.rlim_max = old.rlim_max;
	memset(much, 'x', sizeof(much));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	int rc = run_as(f, CELL_WORKSPACE_WRITE, "write", (struct str){ much, sizeof(much) },
		"{\"path\":\"a\"}");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rc, ERR_LIMIT);
	assert_content("a", "old");
	assert_clean(f);
}

/* The name of the temporary file of "a", as a killed writer leaves it and as a living one holds it.
 */
static void
test_write_takes_over_what_a_killed_writer_left(void **state)
{
	struct fix *f = *state;
	char hex[SHA256_HEX], tmp[64];

	sha256_hex(STR("a"), hex);
	snprintf(tmp, sizeof(tmp), ".ithaca-%.16s.tmp", hex);
	put("a", "old");
	put(tmp, "half");
	assert_int_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("new"), "{\"path\":\"a\"}"), 0);
	assert_content("a", "new");
	assert_clean(f);

	put(tmp, "held");
	int fd = open(tmp, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("newer"), "{\"path\":\"a\"}"),
		ERR_CONFLICT);
	assert_content("a", "new");
	assert_content(tmp, "held");
	close(fd);

	/* A link planted under that name is not followed. */
	unlink(tmp);
	put("victim", "safe");
	assert_int_equal(symlink("victim", tmp), 0);
	assert_int_not_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("newer"), "{\"path\":\"a\"}"), 0);
	assert_content("victim", "safe");
}

/* ---- edit ---- */

static void
test_edit(void **state)
{
	struct fix *f = *state;
	char before[SHA256_HEX], after[SHA256_HEX];

	put("a.c", "int a;\nint b;\nint c;\n");
	sha256_hex(STR("int a;\nint b;\nint c;\n"), before);
	sha256_hex(STR("int a;\nlong b;\nint c;\n"), after);
	assert_int_equal(
		run(f, "edit",
			"{\"path\":\"a.c\",\"old\":\"int b\",\"new\":\"long b\",\"dry\":true}"),
		0);
	assert_content("a.c", "int a;\nint b;\nint c;\n");
	assert_string_equal(node_z(f->answer, "sha256_before", ""), before);
	assert_string_equal(node_z(f->answer, "sha256", ""), after);
	assert_int_equal(
		run_as(f, CELL_READ_ONLY, "edit", STR(""),
			"{\"path\":\"a.c\",\"old\":\"int b\",\"new\":\"long b\",\"dry\":true}"),
		0);
	assert_int_equal(
		run(f, "edit",
			"{\"path\":\"a.c\",\"old\":\"int b\",\"new\":\"long b\",\"expect\":\"%s\"}",
			after),
		ERR_CONFLICT);
	assert_int_equal(
		run(f, "edit",
			"{\"path\":\"a.c\",\"old\":\"int b\",\"new\":\"long b\",\"expect\":\"%s\"}",
			before),
		0);
	assert_int_equal(num(f, "replacements"), 1);
	assert_int_equal(num(f, "line"), 2);
	assert_content("a.c", "int a;\nlong b;\nint c;\n");
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a.c\",\"old\":\"int \",\"new\":\"x \"}"), ERR_CONFLICT);
	assert_says(f, "occurs 2 times in a.c, at lines 1, 3");
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a.c\",\"old\":\"int \",\"new\":\"x \",\"all\":true}"),
		0);
	assert_int_equal(num(f, "replacements"), 2);
	assert_content("a.c", "x a;\nlong b;\nx c;\n");
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a.c\",\"old\":\"\",\"new\":\"x\"}"), ERR_INVALID);
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a.c\",\"old\":\"x\",\"new\":\"x\"}"), ERR_INVALID);
	assert_clean(f);
}

static void
test_edit_says_what_is_near(void **state)
{
	struct fix *f = *state;

	put("a.c", "void f(void)\n{\n\treturn  1;\n}\n");
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a.c\",\"old\":\"{\\n    return 1;\\n}\",\"new\":\"\"}"),
		ERR_NOT_FOUND);
	assert_says(f, "line 2 matches except for white space");
	assert_int_equal(run(f, "edit",
				 "{\"path\":\"a.c\",\"old\":\"void f(void)\\n{\\n\\treturn "
				 "2;\",\"new\":\"\"}"),
		ERR_NOT_FOUND);
	assert_says(f, "its first line is at line 1");
	assert_int_equal(run(f, "edit", "{\"path\":\"a.c\",\"old\":\"nowhere\",\"new\":\"\"}"),
		ERR_NOT_FOUND);
	put("w.txt", "a\r\nb\r\n");
	assert_int_equal(run(f, "edit", "{\"path\":\"w.txt\",\"old\":\"a\\nb\",\"new\":\"\"}"),
		ERR_NOT_FOUND);
	assert_says(f, "CRLF");
}

/* Overlapping places are two places: "aa" in "aaa". */
static void
test_edit_counts_overlaps(void **state)
{
	struct fix *f = *state;

	put("a", "aaa");
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a\",\"old\":\"aa\",\"new\":\"b\"}"), ERR_CONFLICT);
	assert_int_equal(
		run(f, "edit", "{\"path\":\"a\",\"old\":\"aa\",\"new\":\"b\",\"all\":true}"), 0);
	assert_content("a", "ba");
}

/* A file of equal lines against a long text of equal lines: the hint has a budget. */
static void
test_edit_hint_is_bounded(void **state)
{
	struct fix *f = *state;
	struct buf text, params;

	buf_init(&text, 8 * MIB);
	buf_init(&params, MIB);
	for (int i = 0; i < 2000000; i++)
		buf_add_z(&text, "a\n");
	buf_add_z(&params, "{\"path\":\"a\",\"new\":\"\",\"old\":\"");
	for (int i = 0; i < 30000; i++)
		buf_add_z(&params, "a \\n");
	buf_add_z(&params, "b\"}");
	struct err e;
	assert_int_equal(file_write("a", buf_str(&text), 0644, &e), 0);
	assert_int_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "edit", STR(""), buf_z(&params)), ERR_NOT_FOUND);
	buf_fini(&text);
	buf_fini(&params);
}

/* ---- list, glob, grep ---- */

static void
make_tree(void)
{
	static const char *const dirs[] = { "src", "src/a", "src/a/deep", ".git", "docs" };
	static const char *const files[][2] = {
		{ "src/main.c", "int main(void)\n{\n\treturn 0;\n}\n" },
		{ "src/a/x.c", "needle one\nhay\nneedle two\n" },
		{ "src/a/x.h", "#define NEEDLE\n" },
		{ "src/a/deep/y.c", "hay\n" },
		{ ".git/config", "needle in git\n" },
		{ "docs/index.md", "# needle\n" },
		{ ".hidden", "needle\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		assert_int_equal(mkdir(dirs[i], 0755), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put(files[i][0], files[i][1]);
}

static void
test_list(void **state)
{
	struct fix *f = *state;

	make_tree();
	assert_int_equal(symlink("src", "link"), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(run(f, "list", "{}"), 0);
	const struct node *list = node_get(f->answer, "entries");
	static const char *const want[][2] = { { ".git", "dir" }, { ".hidden", "file" },
		{ "docs", "dir" }, { "fifo", "fifo" }, { "link", "link" }, { "src", "dir" } };
	assert_int_equal(node_len(list), ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_string_equal(node_z(node_at(list, i), "name", ""), want[i][0]);
		assert_string_equal(node_z(node_at(list, i), "type", ""), want[i][1]);
	}
	assert_int_equal(node_int(node_at(list, 1), "size", 0), 7);
	assert_false(node_bool(f->answer, "truncated", true));
	assert_int_equal(run(f, "list", "{\"path\":\"src\",\"depth\":2}"), 0);
	list = node_get(f->answer, "entries");
	assert_int_equal(node_len(list), 5);
	assert_string_equal(node_z(node_at(list, 1), "name", ""), "a/deep");
	assert_int_equal(run(f, "list", "{\"depth\":64,\"max\":3}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "entries")), 3);
	assert_true(node_bool(f->answer, "truncated", false));
}

static void
glob_is(struct fix *f, const char *path, const char *pattern, const char *want)
{
	char got[4096] = "";

	assert_int_equal(run(f, "glob", "{\"path\":\"%s\",\"pattern\":\"%s\"}", path, pattern), 0);
	const struct node *list = node_get(f->answer, "paths");
	for (size_t i = 0; i < node_len(list); i++) {
		size_t n = strlen(got);
		snprintf(got + n, sizeof(got) - n, "%s%s", n ? " " : "", node_at(list, i)->s.p);
	}
	assert_string_equal(got, want);
}

static void
test_glob(void **state)
{
	struct fix *f = *state;

	make_tree();
	glob_is(f, ".", "**/*.c", "src/a/deep/y.c src/a/x.c src/main.c");
	glob_is(f, ".", "*.c", "");
	glob_is(f, "src", "*.c", "src/main.c");
	glob_is(f, "src/", "**/*.{c,h}", "src/a/deep/y.c src/a/x.c src/a/x.h src/main.c");
	glob_is(f, ".", "src/{a/x,main}.[ch]", "src/a/x.c src/a/x.h src/main.c");
	glob_is(f, ".", "src/a/?.[!c]", "src/a/x.h");
	glob_is(f, ".", "*", ".hidden docs/ src/");
	glob_is(f, ".", ".git/*", ".git/config");
	glob_is(f, ".git", "*", ".git/config");
	glob_is(f, ".", "**/deep/**", "src/a/deep/y.c");
	glob_is(f, ".", "**",
		".hidden docs/ docs/index.md src/ src/a/ src/a/deep/ src/a/deep/y.c src/a/x.c "
		"src/a/x.h src/main.c");
	put("we{ird*[", "");
	glob_is(f, ".", "we\\\\{ird\\\\*\\\\[", "we{ird*[");
	glob_is(f, ".", "we{ird?[", "we{ird*[");
	put("gr\xc3\xbc\xc3\x9f", "");
	glob_is(f, ".", "gr??", "gr\xc3\xbc\xc3\x9f");
	glob_is(f, ".", "gr[\xc3\xa0-\xc3\xbf]*", "gr\xc3\xbc\xc3\x9f");
	assert_int_equal(run(f, "glob", "{\"pattern\":\"../x\"}"), ERR_INVALID);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"/etc/*\"}"), ERR_INVALID);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}\"}"),
		ERR_INVALID);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"\"}"), ERR_INVALID);
}

/* Patterns that take exponential time in a matcher that backtracks. */
static void
test_glob_is_linear(void **state)
{
	struct fix *f = *state;
	char name[201];

	memset(name, 'a', 200);
	name[200] = 0;
	put(name, "");
	glob_is(f, ".", "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "");
	glob_is(f, ".", "**/**/*/**/**/*/**/**/**/x", "");
}

static void
test_grep(void **state)
{
	struct fix *f = *state;

	make_tree();
	assert_int_equal(run(f, "grep", "{\"pattern\":\"needle\"}"), 0);
	const struct node *list = node_get(f->answer, "matches");
	assert_int_equal(
		node_len(list), 4); /* .hidden, docs/index.md, two in src/a/x.c; not .git */
	assert_string_equal(node_z(node_at(list, 0), "path", ""), ".hidden");
	assert_string_equal(node_z(node_at(list, 3), "path", ""), "src/a/x.c");
	assert_int_equal(node_int(node_at(list, 3), "line", 0), 3);
	assert_string_equal(node_z(node_at(list, 3), "text", ""), "needle two");
	assert_int_equal(num(f, "files"), 3);
	assert_int_equal(
		run(f, "grep", "{\"pattern\":\"needle\",\"ignore_case\":true,\"glob\":\"*.h\"}"),
		0);
	assert_int_equal(node_len(node_get(f->answer, "matches")), 1);
	assert_int_equal(run(f, "grep",
				 "{\"pattern\":\"^(needle|hay)( "
				 "one|)$\",\"path\":\"src\",\"glob\":\"a/*.c\"}"),
		0);
	assert_int_equal(node_len(node_get(f->answer, "matches")), 2);
	assert_int_equal(
		run(f, "grep", "{\"pattern\":\"hay\",\"path\":\"src/a/x.c\",\"context\":1}"), 0);
	list = node_get(f->answer, "matches");
	assert_int_equal(node_len(list), 3);
	assert_true(node_bool(node_at(list, 0), "context", false));
	assert_false(node_bool(node_at(list, 1), "context", false));
	assert_true(node_bool(node_at(list, 2), "context", false));
	assert_int_equal(run(f, "grep", "{\"pattern\":\"needle\",\"per_file\":1}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "matches")), 3);
	assert_true(node_bool(f->answer, "truncated", false));
	assert_int_equal(run(f, "grep", "{\"pattern\":\"needle\",\"max\":2}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "matches")), 2);
	assert_true(node_bool(f->answer, "truncated", false));
}

static void
test_grep_refuses_costly_patterns(void **state)
{
	struct fix *f = *state;
	static const char *const bad[] = { "(", "a{1,30000}", "((a{1,200}){1,200}){1,200}",
		"(a)\\\\1", "", "a\\nb", "[z-a]" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(run(f, "grep", "{\"pattern\":\"%s\"}", bad[i]), ERR_INVALID);
}

static void
test_grep_long_lines(void **state)
{
	struct fix *f = *state;
	struct buf b;

	buf_init(&b, 8 * MIB);
	for (int i = 0; i < 5000; i++)
		buf_add_z(&b, "\xc3\xa4");
	buf_add_z(&b, "needle");
	for (int i = 0; i < 100000; i++)
		buf_add_z(&b, "xyz ");
	struct err e;
	assert_int_equal(file_write("long", buf_str(&b), 0644, &e), 0);
	buf_fini(&b);
	for (int literal = 0; literal < 2; literal++) {
		assert_int_equal(
			run(f, "grep", "{\"pattern\":\"%s\"}", literal ? "needle" : "ne+dle"), 0);
		const struct node *m = node_at(node_get(f->answer, "matches"), 0);
		assert_non_null(strstr(node_z(m, "text", ""), "needle"));
		assert_true(strlen(node_z(m, "text", "")) <= GREP_TEXT_MAX);
		assert_true(node_bool(m, "cut", false));
	}
}

/* ---- move, delete, stat ---- */

static void
test_move(void **state)
{
	struct fix *f = *state;

	make_tree();
	assert_int_equal(run(f, "move", "{\"path\":\"src/main.c\",\"to\":\"docs/main.c\"}"), 0);
	assert_int_equal(access("src/main.c", F_OK), -1);
	assert_int_equal(access("docs/main.c", F_OK), 0);
	assert_int_equal(
		run(f, "move", "{\"path\":\"docs/main.c\",\"to\":\"docs/index.md\"}"), ERR_EXISTS);
	assert_says(f, "set replace");
	assert_int_equal(
		run(f, "move",
			"{\"path\":\"docs/main.c\",\"to\":\"docs/index.md\",\"replace\":true}"),
		0);
	assert_content("docs/index.md", "int main(void)\n{\n\treturn 0;\n}\n");
	assert_int_equal(run(f, "move", "{\"path\":\"docs/index.md\",\"to\":\"src\"}"), ERR_EXISTS);
	assert_int_equal(run(f, "move", "{\"path\":\"src\",\"to\":\"src/a/in\"}"), ERR_INVALID);
	assert_int_equal(run(f, "move", "{\"path\":\"docs\",\"to\":\"papers\"}"), 0);
	assert_int_equal(run(f, "move", "{\"path\":\"papers\",\"to\":\"x/y/z\"}"), ERR_NOT_FOUND);
	assert_int_equal(
		run(f, "move", "{\"path\":\"papers\",\"to\":\"x/y/z\",\"mkdirs\":true}"), 0);
	assert_int_equal(run(f, "move", "{\"path\":\"nothing\",\"to\":\"b\"}"), ERR_NOT_FOUND);
	assert_int_equal(
		run(f, "move", "{\"path\":\"../shared\",\"to\":\"../other\"}"), ERR_DENIED);
	assert_int_equal(run(f, "move", "{\"path\":\"x/y/z/index.md\",\"to\":\"x/y/z/index.md\"}"),
		ERR_INVALID);
}

static void
test_move_between_file_systems(void **state)
{
	struct fix *f = *state;
	char other[] = "/dev/shm/fileop-XXXXXX";
	struct stat here, there;

	if (mkdtemp(other) == NULL || stat(other, &there) != 0 || stat(".", &here) != 0 ||
		here.st_dev == there.st_dev) {
		rmdir(other);
		print_message("SKIP: /dev/shm is no other file system here\n");
		return;
	}
	put("a", "content");
	assert_int_equal(chmod("a", 0640), 0);
	int rc = run(f, "move", "{\"path\":\"a\",\"to\":\"%s/b\"}", other);
	int rc_dir = mkdir("d", 0755) == 0
			     ? run(f, "move", "{\"path\":\"d\",\"to\":\"%s/d\"}", other)
			     : -1;
	char path[64];
	snprintf(path, sizeof(path), "%s/b", other);
	int rc_back = run(f, "move", "{\"path\":\"%s\",\"to\":\"back\"}", path);
	rmdir(other);
	assert_int_equal(rc, 0);
	assert_int_equal(rc_dir, ERR_UNSUPPORTED);
	assert_int_equal(rc_back, 0);
	assert_content("back", "content");
	assert_int_equal(stat("back", &here), 0);
	assert_int_equal(here.st_mode & 0777, 0640);
	assert_int_equal(access("a", F_OK), -1);
	assert_clean(f);
}

static void
test_delete(void **state)
{
	struct fix *f = *state;

	make_tree();
	put("outside_target", "safe");
	assert_int_equal(symlink("../../outside_target", "src/a/link"), 0);
	assert_int_equal(mkfifo("src/a/fifo", 0600), 0);
	assert_int_equal(run(f, "delete", "{\"path\":\"src/main.c\"}"), 0);
	assert_int_equal(num(f, "removed"), 1);
	assert_int_equal(run(f, "delete", "{\"path\":\"src\"}"), ERR_CONFLICT);
	assert_says(f, "set recursive");
	assert_int_equal(run(f, "delete", "{\"path\":\"src\",\"recursive\":true}"), 0);
	assert_int_equal(num(f, "removed"), 8);
	assert_int_equal(access("src", F_OK), -1);
	assert_content("outside_target", "safe");
	assert_int_equal(run(f, "delete", "{\"path\":\"src\"}"), ERR_NOT_FOUND);
	static const char *const roots[] = { ".", "..", "./", "docs/..", "../shared", "/", "/tmp" };
	for (size_t i = 0; i < ARRAY_LEN(roots); i++)
		assert_int_not_equal(
			run(f, "delete", "{\"path\":\"%s\",\"recursive\":true}", roots[i]), 0);
	assert_int_equal(run(f, "delete", "{\"path\":\"%s/shared\",\"recursive\":true}", f->dir),
		ERR_DENIED);
	assert_int_equal(access("docs/index.md", F_OK), 0);
}

static void
test_stat(void **state)
{
	struct fix *f = *state;

	put("a", "abc");
	assert_int_equal(chmod("a", 0640), 0);
	assert_int_equal(run(f, "stat", "{\"path\":\"a\",\"hash\":true}"), 0);
	assert_true(node_bool(f->answer, "exists", false));
	assert_string_equal(node_z(f->answer, "type", ""), "file");
	assert_string_equal(node_z(f->answer, "mode", ""), "0640");
	assert_string_equal(node_z(f->answer, "sha256", ""),
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_true(num(f, "mtime_ms") > 1500000000000);
	assert_int_equal(run(f, "stat", "{\"path\":\"b\"}"), 0);
	assert_false(node_bool(f->answer, "exists", true));
	assert_int_equal(run(f, "stat", "{\"path\":\"a/b\"}"), 0);
	assert_false(node_bool(f->answer, "exists", true));
	assert_int_equal(symlink("a", "l"), 0);
	assert_int_equal(run(f, "stat", "{\"path\":\"l\",\"hash\":true}"), 0);
	assert_string_equal(node_z(f->answer, "type", ""), "link");
	assert_string_equal(node_z(f->answer, "target", ""), "a");
	assert_null(node_get(f->answer, "sha256"));
}

/* ---- attacks ---- */

/* Everything that is neither a file nor a directory is refused at once, by every operation that
 * opens something. */
static void
test_special_files_never_hang(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "sock" };
	static const char *const names[] = { "fifo", "sock", "/dev/null", "/dev/zero", "/dev/tty" };
	static const char *const calls[][2] = {
		{ "read", "" },
		{ "write", "" },
		{ "edit", ",\"old\":\"a\",\"new\":\"b\"" },
		{ "grep", ",\"pattern\":\"x\"" },
		{ "list", "" },
		{ "glob", ",\"pattern\":\"*\"" },
		{ "delete", "" },
		{ "move", ",\"to\":\"elsewhere\"" },
	};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
			assert_int_not_equal(
				run(f, calls[k][0], "{\"path\":\"%s\"%s}", names[i], calls[k][1]),
				0);
			struct stat st;
			assert_int_equal(lstat(names[i], &st), 0);
		}
	close(s);
}

static void
test_links(void **state)
{
	struct fix *f = *state;

	put("../secret", "secret");
	put("file", "file");
	assert_int_equal(mkdir("dir", 0755), 0);
	put("dir/in", "in");
	assert_int_equal(symlink("../secret", "to_secret"), 0);
	assert_int_equal(symlink("dir", "to_dir"), 0);
	assert_int_equal(symlink("loop_b", "loop_a"), 0);
	assert_int_equal(symlink("loop_a", "loop_b"), 0);
	assert_int_equal(symlink(".", "self"), 0);
	assert_int_equal(symlink("nowhere", "dangling"), 0);

	/* A link at the end is never written through, and stays what it is. */
	static const char *const last[] = { "to_secret", "dangling", "loop_a", "to_dir" };
	for (size_t i = 0; i < ARRAY_LEN(last); i++) {
		struct stat st;
		char params[128];
		snprintf(params, sizeof(params), "{\"path\":\"%s\"}", last[i]);
		assert_int_equal(
			run_as(f, CELL_WORKSPACE_WRITE, "write", STR("x"), params), ERR_INVALID);
		assert_says(f, "symbolic link");
		assert_int_not_equal(
			run(f, "edit", "{\"path\":\"%s\",\"old\":\"secret\",\"new\":\"x\"}",
				last[i]),
			0);
		assert_int_not_equal(
			run(f, "move", "{\"path\":\"file\",\"to\":\"%s\",\"replace\":true}",
				last[i]),
			0);
		assert_int_equal(lstat(last[i], &st), 0);
		assert_true(S_ISLNK(st.st_mode));
	}
	assert_content("../secret", "secret");
	assert_int_equal(access("nowhere", F_OK), -1);

	/* A link in the middle is the kernel's business: it leads where the cell lets it. */
	assert_int_equal(
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("new"), "{\"path\":\"to_dir/in\"}"),
		0);
	assert_content("dir/in", "new");
	assert_int_equal(run(f, "read", "{\"path\":\"loop_a\"}"), ERR_INVALID);
	assert_says(f, "loop");
	assert_int_equal(run(f, "read", "{\"path\":\"dangling\"}"), ERR_NOT_FOUND);
	assert_says(f, "leads nowhere");

	/* Magic links lead past every wall of names. */
	assert_int_equal(run(f, "read", "{\"path\":\"/proc/self/root/etc/passwd\"}"), ERR_INVALID);
	assert_int_equal(run(f, "read", "{\"path\":\"/proc/self/cwd/file\"}"), ERR_INVALID);

	/* Walks do not follow links, so `self` is no loop. */
	assert_int_equal(run(f, "glob", "{\"pattern\":\"**/file\"}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "paths")), 1);
	assert_int_equal(run(f, "delete", "{\"path\":\"to_dir\",\"recursive\":true}"), 0);
	assert_content("dir/in", "new");
}

static void
test_odd_names(void **state)
{
	struct fix *f = *state;

	put("bad\xff\xfename", "needle\n");
	put("new\nline", "needle\n");
	assert_int_equal(run(f, "list", "{}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "entries")), 2);
	assert_int_equal(run(f, "grep", "{\"pattern\":\"needle\"}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "matches")), 2);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"bad??name\"}"), 0);
	assert_int_equal(node_len(node_get(f->answer, "paths")), 1);
	assert_int_equal(run(f, "read", "{\"path\":\"new\\nline\"}"), 0);
	char longest[300];
	memset(longest, 'n', sizeof(longest));
	longest[256] = 0;
	assert_int_equal(run(f, "read", "{\"path\":\"%s\"}", longest), ERR_INVALID);
	longest[255] = 0;
	char params[400];
	snprintf(params, sizeof(params), "{\"path\":\"%s\"}", longest);
	assert_int_equal(run_as(f, CELL_WORKSPACE_WRITE, "write", STR("x"), params), 0);
}

static void
test_deep_tree(void **state)
{
	struct fix *f = *state;
	int top = open(".", O_RDONLY | O_DIRECTORY);

	for (unsigned i = 0; i < FILE_DEPTH_MAX + 20; i++)
		assert_int_equal(mkdir("d", 0755) == 0 ? chdir("d") : -1, 0);
	put("bottom", "x");
	assert_int_equal(fchdir(top), 0);
	close(top);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"**/bottom\"}"), 0);
	assert_true(node_bool(f->answer, "truncated", false));
	assert_string_equal(node_z(f->answer, "why", ""), "the tree is too deep");
	assert_int_equal(run(f, "delete", "{\"path\":\"d\",\"recursive\":true}"), ERR_INVALID);
}

static void
test_answers_are_bounded(void **state)
{
	struct fix *f = *state;
	char name[250];

	for (int i = 0; i < 2000; i++) {
		memset(name, 'x', 200);
		snprintf(name + 200, 50, "%04d", i);
		int fd = open(name, O_CREAT | O_WRONLY, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(run(f, "list", "{\"max\":10000}"), 0);
	assert_true(node_bool(f->answer, "truncated", false));
	assert_true(f->head.n <= FILE_HEAD_MAX);
	assert_int_equal(run(f, "glob", "{\"pattern\":\"*\",\"max\":10000}"), 0);
	assert_true(f->head.n <= FILE_HEAD_MAX);
}

/* Another thread swaps a file for a link to something precious, over and over: writes hit the file
 * or are refused. */
struct race {
	atomic_bool stop;
	atomic_int swaps;
};

static void *
swap_link(void *arg)
{
	struct race *r = arg;

	while (!atomic_load(&r->stop)) {
		if (symlink("../secret", "bait.new") == 0)
			(void)!rename("bait.new", "bait");
		int fd = open("bait.new", O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd >= 0)
			close(fd);
		(void)!rename("bait.new", "bait");
		atomic_fetch_add(&r->swaps, 1);
	}
	return NULL;
}

static void
test_race_with_a_link(void **state)
{
	struct fix *f = *state;
	struct race r = { 0 };
	pthread_t t;

	put("../secret", "secret");
	put("bait", "");
	assert_int_equal(pthread_create(&t, NULL, swap_link, &r), 0);
	for (int i = 0; i < 400 || atomic_load(&r.swaps) < 400; i++) {
		run_as(f, CELL_WORKSPACE_WRITE, "write", STR("written"), "{\"path\":\"bait\"}");
		run(f, "edit", "{\"path\":\"bait\",\"old\":\"written\",\"new\":\"edited\"}");
	}
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	assert_content("../secret", "secret");
	assert_clean(f);
}

static int
put_part(struct fix *f, const char *path, int64_t offset, bool last, const char *content)
{
	char params[PATH_MAX + 512];

	snprintf(params, sizeof(params), "{\"below\":\"%s\",\"path\":\"%s\",\"offset\":%lld,\"last\":%s}", f->dir, path,
		(long long)offset, last ? "true" : "false");
	return run_as(f, CELL_READ_ONLY, "put", str_of(content), params);
}

/* A file in parts is not there before its last one, and may be begun again at any time. */
static void
test_put(void **state)
{
	struct fix *f = *state;
	struct stat st;

	assert_int_equal(mkdir("../in", 0755), 0);
	assert_int_equal(put_part(f, "in/a", 0, false, "one "), 0);
	assert_int_equal(num(f, "size"), 4);
	assert_int_equal(put_part(f, "in/a", 4, false, "two "), 0);
	assert_int_equal(access("../in/a", F_OK), -1);
	assert_int_equal(put_part(f, "in/a", 4, false, "two "), ERR_CONFLICT); /* doubled: not where it ended */
	assert_int_equal(put_part(f, "in/a", 0, false, "1 "), 0);
	assert_int_equal(put_part(f, "in/a", 2, true, "2"), 0);
	assert_content("../in/a", "1 2");
	assert_int_equal(stat("../in/a", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0444);
	assert_int_equal(put_part(f, "in/a", 0, true, "again"), 0);
	assert_content("../in/a", "again");
	assert_int_equal(put_part(f, "in/b", 7, true, "never begun"), ERR_NOT_FOUND);
	assert_int_equal(chdir("../in"), 0);
	assert_clean(f);
	assert_int_equal(chdir("../shared"), 0);
}

/* A file as it is, in parts; the stamp changes with it. */
static void
test_get(void **state)
{
	struct fix *f = *state;
	char stamp[96], params[PATH_MAX + 512];

	put("a", "\xff" "123");
	snprintf(params, sizeof(params), "{\"below\":\"%s\",\"path\":\"shared/a\",\"n\":3}", f->dir);
	assert_int_equal(run(f, "get", "%s", params), 0);
	assert_true(str_eq(buf_str(&f->tail), STR("\xff" "12")));
	assert_false(node_bool(f->answer, "is_end", true));
	snprintf(stamp, sizeof(stamp), "%s", node_z(f->answer, "stamp", ""));
	assert_int_equal(run(f, "get", "{\"below\":\"%s\",\"path\":\"shared/a\",\"n\":3,\"offset\":3}", f->dir), 0);
	assert_true(str_eq(buf_str(&f->tail), STR("3")));
	assert_true(node_bool(f->answer, "is_end", false));
	assert_string_equal(node_z(f->answer, "stamp", ""), stamp);
	put("a", "\xff" "123");
	assert_int_equal(run(f, "get", "%s", params), 0);
	assert_string_not_equal(node_z(f->answer, "stamp", ""), stamp);
	put("empty", "");
	assert_int_equal(run(f, "get", "{\"below\":\"%s\",\"path\":\"shared/empty\",\"n\":3}", f->dir), 0);
	assert_true(node_bool(f->answer, "is_end", false));
}

/* Below a directory no link is followed, neither on the way nor at the end, and nothing leads out. Without `below` it does. */
static void
test_below(void **state)
{
	static const char *const bad[] = { "in/link", "in/fifo", "out/secret", "in/../../secret", "/etc/passwd",
		"../secret", "in/self/link" };
	struct fix *f = *state;
	char params[PATH_MAX + 512];

	assert_int_equal(mkdir("../in", 0755), 0);
	assert_int_equal(mkdir("../elsewhere", 0755), 0);
	put("../elsewhere/secret", "secret");
	put("../in/file", "file");
	assert_int_equal(symlink("../elsewhere/secret", "../in/link"), 0);
	assert_int_equal(symlink(".", "../in/self"), 0);
	assert_int_equal(symlink("elsewhere", "../out"), 0);
	assert_int_equal(mkfifo("../in/fifo", 0666), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(params, sizeof(params), "{\"below\":\"%s\",\"path\":\"%s\"}", f->dir, bad[i]);
		assert_int_not_equal(run(f, "get", "%.*s,\"n\":100}", (int)strlen(params) - 1, params), 0);
		if (i > 1) /* the first two would be replaced */
			assert_int_not_equal(run_as(f, CELL_READ_ONLY, "put", STR("x"), params), 0);
	}
	assert_content("../elsewhere/secret", "secret");
	assert_int_not_equal(run(f, "list", "{\"below\":\"%s\",\"path\":\"out\"}", f->dir), 0);
	assert_int_equal(run(f, "get", "{\"below\":\"%s\",\"path\":\"in/file\",\"n\":100}", f->dir), 0);
	assert_int_equal(run(f, "read", "{\"path\":\"../in/link\"}"), 0); /* the control */
	assert_int_equal(run(f, "list", "{\"path\":\"../out\"}"), 0);
	assert_int_equal(put_part(f, "in/link", 0, true, "mine"), 0);
	assert_content("../in/link", "mine");
	assert_content("../elsewhere/secret", "secret");
	assert_int_equal(mkdir("../in/dir", 0755), 0);
	assert_int_not_equal(put_part(f, "in/dir", 0, true, "x"), 0);
	assert_int_not_equal(put_part(f, "in/", 0, true, "x"), 0);
}

static void
test_list_types(void **state)
{
	static const char *const types[] = { "application/zip", NULL, NULL, NULL, "image/gif", "text/plain" };
	struct fix *f = *state;

	put("a.txt", "PK\x03\x04.....");
	assert_int_equal(mkdir("b", 0755), 0);
	assert_int_equal(mkfifo("c", 0666), 0);
	assert_int_equal(symlink("/etc/passwd", "d"), 0);
	put("e", "GIF89a\x0a\x0b\x0c\x0d\x0e\x0f\x10");
	put("f", "gr\xc3\xbc\xc3\x9f");
	assert_int_equal(run(f, "list", "{\"media\":true}"), 0);
	const struct node *list = node_get(f->answer, "entries");
	assert_int_equal(node_len(list), ARRAY_LEN(types));
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (types[i] != NULL)
			assert_string_equal(node_z(node_at(list, i), "media", ""), types[i]);
		else
			assert_null(node_get(node_at(list, i), "media"));
}

#define ROW(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(test_read_whole),
		ROW(test_read_ranges),
		ROW(test_read_cuts_characters_whole),
		ROW(test_read_large_and_sparse),
		ROW(test_missing_names_what_and_nearest),
		ROW(test_write),
		ROW(test_write_keeps_the_old_file_when_it_fails),
		ROW(test_write_takes_over_what_a_killed_writer_left),
		ROW(test_edit),
		ROW(test_edit_says_what_is_near),
		ROW(test_edit_counts_overlaps),
		ROW(test_edit_hint_is_bounded),
		ROW(test_list),
		ROW(test_glob),
		ROW(test_glob_is_linear),
		ROW(test_grep),
		ROW(test_grep_refuses_costly_patterns),
		ROW(test_grep_long_lines),
		ROW(test_move),
		ROW(test_move_between_file_systems),
		ROW(test_delete),
		ROW(test_stat),
		ROW(test_special_files_never_hang),
		ROW(test_links),
		ROW(test_odd_names),
		ROW(test_deep_tree),
		ROW(test_answers_are_bounded),
		ROW(test_race_with_a_link),
		ROW(test_put),
		ROW(test_get),
		ROW(test_below),
		ROW(test_list_types),
	};
	return cmocka_run_group_tests_name("fileop", tests, NULL, NULL);
}
