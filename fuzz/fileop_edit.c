/* SPDX-License-Identifier: MIT
 * Edits: the first two NUL-terminated strings are the text to replace and its replacement, the rest
 * is the file. The outcome must be what a plain reading of the words gives: no match, several
 * matches, or exactly one replaced. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/json.h"
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "sandbox/fileop.h"
#include "sandbox/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int
matches_of(struct str text, struct str old)
{
	int n = 0;

	for (size_t i = 0; i + old.n <= text.n; i++)
		n += memcmp(text.p + i, old.p, old.n) == 0;
	return n;
}

static void
check(struct str old, struct str new, struct str text)
{
	struct buf params, head, tail;
	struct json j;
	struct err e = { 0 };
	char *after;
	size_t n;

	buf_init(&params, MIB);
	buf_init(&head, MIB);
	buf_init(&tail, MIB);
	json_init(&j, &params);
	json_obj(&j);
	json_kv_z(&j, "path", "f");
	json_kv_str(&j, "old", old);
	json_kv_str(&j, "new", new);
	json_obj_end(&j);
	if (file_write("f", text, 0600, &e) != 0)
		fatal("%s", e.msg);
	int rc = fileop_run(
		STR("edit"), buf_str(&params), STR(""), CELL_WORKSPACE_WRITE, &head, &tail, &e);
	int count = matches_of(text, old);
	if (file_read("f", 2 * MIB, &after, &n, NULL) != 0)
		fatal("the file is gone");
	bool changed = n != text.n || (n > 0 && memcmp(after, text.p, n) != 0);
	if ((rc == 0) != (count == 1) || (rc != 0 && changed) ||
		(rc == 0 && n != text.n - old.n + new.n))
		fatal("%d matches, result %d", count, rc);
	free(after);
	buf_fini(&params);
	buf_fini(&head);
	buf_fini(&tail);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str text = { (const char *)data, n }, old, new;
	char dir[64], cwd[4096];

	/* Parameters are JSON: strings that are not UTF-8 would be another text there. */
	if (n > 64 * KIB || !str_next(&text, 0, &old) || !str_next(&text, 0, &new) ||
		!utf8_valid(old) || !utf8_valid(new) || old.n == 0 || str_eq(old, new))
		return 0;
	/* In memory where that can be had: an edit syncs twice. */
	snprintf(dir, sizeof(dir), "%s/fuzz-edit-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (getcwd(cwd, sizeof(cwd)) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0)
		abort();
	check(old, new, text);
	unlink("f");
	if (chdir(cwd) != 0 || rmdir(dir) != 0)
		fatal("something was left behind in %s", dir);
	return 0;
}
