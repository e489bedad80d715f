/* SPDX-License-Identifier: MIT
 * Files of --attach: what is read, and what is refused before anything is started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/path.h"
#include "cli/attach.h"

struct place {
	char dir[64];
	struct arena *a;
	struct attached *files;
	size_t n;
	struct err e;
};

static int
setup(void **state)
{
	struct place *p = test_calloc(1, sizeof *p);

	snprintf(p->dir, sizeof p->dir, "/tmp/ithaca-attach-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->a = arena_new(64 * MIB);
	*state = p;
	return 0;
}

static const char *
file(struct place *p, const char *name, struct str bytes)
{
	const char *path = path_join(p->a, p->dir, name);
	struct err e;

	assert_int_equal(file_write(path, bytes, 0600, &e), 0);
	return path;
}

static int
teardown(void **state)
{
	static const char *const names[] = { "notes.md", "a.png", "big.txt", "big.pdf", "secret",
		"sub" };
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)remove(path_join(p->a, p->dir, names[i]));
	assert_int_equal(rmdir(p->dir), 0);
	arena_free(p->a);
	test_free(p);
	return 0;
}

static int
attach(struct place *p, const char *one, const char *two)
{
	const char *json = two ? arena_printf(p->a, "[\"%s\",\"%s\"]", one, two)
			       : arena_printf(p->a, "[\"%s\"]", one);
	const struct node *list;

	p->e = (struct err){ 0 };
	assert_int_equal(json_parse(p->a, str_of(json), &list, &p->e), 0);
	return attach_read(list, &p->files, &p->n, &p->e);
}

static void
test_what_is_read(void **state)
{
	struct place *p = *state;
	char hash[SHA256_HEX];

	assert_int_equal(attach(p, file(p, "notes.md", STR("# notes\n")),
				 file(p, "a.png", STR("GIF89a\x0a\0\x14\0\0\0\0;"))),
		0);
	assert_int_equal(p->n, 2);
	assert_string_equal(p->files[0].name, "notes.md");
	assert_memory_equal(p->files[0].bytes, "# notes\n", 8);
	sha256_hex(STR("# notes\n"), hash);
	assert_string_equal(p->files[0].hash, hash);
	assert_int_equal(p->files[1].n, 14);
	attach_free(p->files, p->n);
	assert_int_equal(attach(p, file(p, "secret", STR("PK\x03\x04")), file(p, "big.txt", STR("\0\xff"))), 0); /* the runtime knows whether they may */
	attach_free(p->files, p->n);
	assert_int_equal(attach_read(NULL, &p->files, &p->n, &p->e), 0);
	assert_int_equal(p->n, 0);
	attach_free(p->files, p->n);
}

static void
refused(struct place *p, const char *path, int code, const char *word)
{
	const char *good = file(p, "notes.md", STR("x"));

	assert_int_equal(attach(p, good, path), code);
	if (!strstr(p->e.msg, word) || strncmp(p->e.msg, "--attach: ", 10) != 0)
		fail_msg("\"%s\" does not say \"%s\"", p->e.msg, word);
}

static void
test_refusals(void **state)
{
	struct place *p = *state;
	char *big = arena_alloc(p->a, 20 * MIB);
	const char *sub = path_join(p->a, p->dir, "sub");

	assert_int_equal(mkdir(sub, 0700), 0);
	refused(p, path_join(p->a, p->dir, "missing"), ERR_NOT_FOUND, "missing");
	refused(p, sub, ERR_INVALID, "is a directory");
	refused(p, "/dev/null", ERR_INVALID, "not a regular file");
	refused(p, file(p, "a.png", STR("")), ERR_INVALID, "is empty");
	refused(p, file(p, "a.png", STR("<html>")), ERR_INVALID, "its name says an image");
	memset(big, 'a', 20 * MIB);
	memcpy(big, "%PDF-1.7", 8);
	assert_int_equal(
		attach(p, file(p, "big.pdf", (struct str){ big, 20 * MIB }), p->dir), ERR_INVALID);
	assert_int_equal(
		attach(p, path_join(p->a, p->dir, "big.pdf"), path_join(p->a, p->dir, "big.pdf")),
		ERR_LIMIT);
	assert_non_null(strstr(p->e.msg, "32 MiB together"));
	if (geteuid() != 0) {
		chmod(file(p, "secret", STR("x")), 0);
		refused(p, path_join(p->a, p->dir, "secret"), ERR_DENIED, "secret");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
