/* SPDX-License-Identifier: MIT
 * Views of bytes: comparing, cutting, splitting, whole numbers, and the edit distance behind "did
 * you mean". Nothing here needs a NUL at the end, reads a locale, or allocates (str_dup excepted).
 */
#include "base/str.h"

#include "base/mem.h"

#define DISTANCE_MAX_LEN 64
#define DISTANCE_FAR     1000

struct str
str_sub(struct str s, size_t from, size_t n)
{
	if (from > s.n)
		from = s.n;
	if (n > s.n - from)
		n = s.n - from;
	return (struct str){ s.p ? s.p + from : "", n };
}

bool
str_starts(struct str s, const char *prefix)
{
	size_t n = strlen(prefix);
	return s.n >= n && (n == 0 || memcmp(s.p, prefix, n) == 0);
}

bool
str_ends(struct str s, const char *suffix)
{
	size_t n = strlen(suffix);
	return s.n >= n && (n == 0 || memcmp(s.p + s.n - n, suffix, n) == 0);
}

int
str_cmp(struct str a, struct str b)
{
	size_t n = MIN(a.n, b.n);
	int order = n ? memcmp(a.p, b.p, n) : 0;
	return order ? order : (a.n > b.n) - (a.n < b.n);
}

ptrdiff_t
str_find(struct str s, struct str needle)
{
	if (needle.n == 0)
		return 0;
	const char *hit = s.n ? memmem(s.p, s.n, needle.p, needle.n) : NULL;
	return hit ? hit - s.p : -1;
}

ptrdiff_t
str_find_char(struct str s, char c)
{
	const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;
	return hit ? hit - s.p : -1;
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str
str_trim(struct str s)
{
	while (s.n && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* p becomes NULL once the part after the last separator was given, so that "a," ends with an empty
 * part. */
bool
str_next(struct str *rest, char sep, struct str *out)
{
	if (!rest->p)
		return false;
	ptrdiff_t at = str_find_char(*rest, sep);
	if (at < 0) {
		*out = *rest;
		*rest = (struct str){ NULL, 0 };
		return true;
	}
	*out = str_sub(*rest, 0, (size_t)at);
	*rest = str_sub(*rest, (size_t)at + 1, rest->n);
	return true;
}

int
str_u64(struct str s, uint64_t *out)
{
	uint64_t v = 0;
	if (s.n == 0)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return -1;
	}
	*out = v;
	return 0;
}

int
str_i64(struct str s, int64_t *out)
{
	bool negative = s.n > 0 && s.p[0] == '-';
	uint64_t v;
	if (str_u64(str_sub(s, negative, s.n), &v) != 0 || v > (uint64_t)INT64_MAX + negative)
		return -1;
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

char *
str_dup(struct str s)
{
	char *p = xmalloc(s.n + 1);
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

/* Wagner and Fischer's table with Damerau's transposition of neighbours, kept as the last three
 * rows. */
size_t
str_distance(struct str a, struct str b)
{
	if (a.n > DISTANCE_MAX_LEN || b.n > DISTANCE_MAX_LEN)
		return DISTANCE_FAR;
	size_t rows[3][DISTANCE_MAX_LEN + 1];
	for (size_t j = 0; j <= b.n; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		const size_t *before = rows[(i + 1) % 3], *above = rows[(i - 1) % 3];
		size_t *row = rows[i % 3];
		row[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			size_t replace = above[j - 1] + (a.p[i - 1] != b.p[j - 1]);
			row[j] = MIN(replace, MIN(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
				row[j] = MIN(row[j], before[j - 2] + 1);
		}
	}
	return rows[a.n % 3][b.n];
}

/* Near enough: one error in a short name, up to a third of a longer one. */
const char *
str_nearest(struct str s, const char *const *names, size_t n)
{
	const char *nearest = NULL;
	size_t best = DISTANCE_FAR;
	for (size_t i = 0; i < n; i++) {
		struct str name = str_of(names[i]);
		size_t distance = str_distance(s, name);
		size_t most = MAX(MIN(s.n, name.n) / 3, 1);
		if (distance <= most && distance < MIN(s.n, name.n) && distance < best) {
			best = distance;
			nearest = names[i];
		}
	}
	return nearest;
}
