/* SPDX-License-Identifier: MIT
 * Glob patterns: the first line is the pattern, the second the path. No pattern may crash or take
 * long, and a path whose operators are quoted matches itself. */
#include "sandbox/fileop_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Matches a path name by name, as a walk does. */
static bool
matches(const struct glob *g, struct str path)
{
	struct glob_pos at, next;
	struct str name;

	glob_start(g, &at);
	while (str_next(&path, '/', &name)) {
		if (name.n == 0 || str_is(name, "."))
			continue;
		if (!glob_step(g, &at, name, &next))
			return false;
		at = next;
	}
	return glob_done(g, &at);
}

static void
check_quoted(struct arena *a, struct str path)
{
	struct glob *g;
	struct buf b;

	buf_init(&b, 2 * path.n + 1);
	for (size_t i = 0; i < path.n; i++) {
		if (path.p[i] != 0 && strchr("*?[]{},\\", path.p[i]) != NULL)
			buf_add_char(&b, '\\');
		buf_add_char(&b, path.p[i]);
	}
	if (glob_new(a, buf_str(&b), false, &g, NULL) == 0 && !matches(g, path))
		fatal("a quoted path does not match itself");
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str path = { (const char *)data, n }, pattern;
	struct arena *a = arena_new(FILE_ARENA_MAX);
	struct glob *g;
	struct err e = { 0 };

	if (str_next(&path, '\n', &pattern)) {
		if (glob_new(a, pattern, n & 1, &g, &e) == 0)
			(void)matches(g, path);
		else if (e.to != ERR_TO_MODEL || e.msg[0] == 0)
			fatal("an error without words for the model");
		if (path.n > 0 && path.p[0] != '/')
			check_quoted(a, path);
	}
	arena_free(a);
	return 0;
}
