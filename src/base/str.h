/* SPDX-License-Identifier: MIT
 * A borrowed view of bytes. Not NUL-terminated; never owns. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/attr.h"

struct str {
	const char *p;
	size_t n;
};

#define STR(lit) ((struct str){ (lit), sizeof(lit) - 1 })
/* For printf("%.*s", STR_FMT(s)). */
#define STR_FMT(s) (int)((s).n > 1000000 ? 1000000 : (s).n), ((s).p ? (s).p : "")

/* Inline, so that the length of a literal is known when the program is built: names are compared all the time. */
static inline struct str
str_of(const char *z) /* NULL gives an empty view */
{
	return z ? (struct str){ z, strlen(z) } : (struct str){ "", 0 };
}

static inline bool
str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
str_is(struct str a, const char *z)
{
	return str_eq(a, str_of(z));
}

struct str str_sub(struct str s, size_t from, size_t n); /* clamped */
bool str_starts(struct str s, const char *prefix);
bool str_ends(struct str s, const char *suffix);
int str_cmp(struct str a, struct str b);
/* Offset of the first occurrence, or -1. */
ptrdiff_t str_find(struct str s, struct str needle);
ptrdiff_t str_find_char(struct str s, char c);
struct str str_trim(struct str s); /* ASCII white space at both ends */
/* Takes the text up to `sep` off the front of *rest (all of it when there is none). false at the end. */
bool str_next(struct str *rest, char sep, struct str *out);
/* Whole decimal or error: no sign for u64, no white space, no overflow. 0 or -1. */
int str_i64(struct str s, int64_t *out) MUST_USE;
int str_u64(struct str s, uint64_t *out) MUST_USE;
char *str_dup(struct str s) MUST_USE; /* heap, NUL-terminated */
/* Typing mistakes between two short names (insert, drop, replace, swap neighbours; at most 64 bytes each, else a large
 * number), for "did you mean". */
size_t str_distance(struct str a, struct str b);
/* The nearest of names[0..n) if it is near enough to be a typing mistake, else NULL. */
const char *str_nearest(struct str s, const char *const *names, size_t n);

#endif
