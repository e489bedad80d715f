/* SPDX-License-Identifier: MIT
 * Text functions on any bytes: what they give is UTF-8, cleaning and scrubbing twice is the same as
 * once, cuts stay inside, and nothing that a terminal obeys is left. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/path.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_cuts(struct str s)
{
	for (size_t i = 0; i <= s.n && i < 64; i++) {
		size_t cut = utf8_cut(s, i), start = utf8_start(s, i);
		check(cut <= i && i - cut <= 3 && start >= i && start - i <= 3 && start <= s.n);
		check(!utf8_valid(s) ||
			(utf8_valid(str_sub(s, 0, cut)) && utf8_valid(str_sub(s, start, s.n))));
		check(utf8_incomplete(str_sub(s, 0, i)) <= MIN(i, (size_t)3));
	}
}

static void
check_cleaner(struct str s, bool one_line)
{
	struct buf once, twice;
	buf_init(&once, 64 * MIB);
	buf_init(&twice, 64 * MIB);
	check(term_clean(&once, s, one_line) == 0 && utf8_valid(buf_str(&once)));
	for (size_t i = 0; i < once.n; i++) {
		unsigned char c = (unsigned char)once.p[i];
		check(c != 0x7f && (c >= 0x20 || (!one_line && (c == '\n' || c == '\t'))));
	}
	check(term_clean(&twice, buf_str(&once), one_line) == 0);
	check(str_eq(buf_str(&once), buf_str(&twice)));
	check(utf8_width(buf_str(&once)) <= once.n);
	buf_fini(&once);
	buf_fini(&twice);
}

static void
check_paths(const char *z)
{
	struct arena *a = arena_new(MIB);
	const char *clean = path_clean(a, z);
	check(strcmp(clean, path_clean(a, clean)) == 0);
	check((z[0] == '/') == (clean[0] == '/') && !strstr(clean, "//") && !strstr(clean, "/./"));
	check(z[0] != '/' || !strstr(clean, "/../"));
	arena_free(a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 64 * KIB)
		return 0;
	struct str s = { (const char *)data, size };
	struct buf b, again;
	buf_init(&b, 64 * MIB);
	buf_init(&again, 64 * MIB);
	check(utf8_add_lossy(&b, s) == 0 && utf8_valid(buf_str(&b)));
	check(!utf8_valid(s) || str_eq(buf_str(&b), s));
	check_cuts(s);
	check_cleaner(s, false);
	check_cleaner(s, true);
	buf_reset(&b);
	size_t found = secret_scrub(&b, s);
	check(found > 0 || str_eq(buf_str(&b), s));
	char *z = str_dup(s);
	check_paths(z);
	free(z);
	buf_fini(&b);
	buf_fini(&again);
	return 0;
}
