/* SPDX-License-Identifier: MIT
 * Glob patterns for whole paths: braces are expanded, the pattern is split at slashes, and a path
 * is matched one name at a time against the set of positions that are still possible (`**` keeps
 * its own position). So matching costs parts x names whatever the pattern holds, and a walk can
 * leave out what cannot match. No locale, no recursion. */
#include "base/utf8.h"
#include "sandbox/fileop_internal.h"

struct glob_alt {
	struct str *parts;
	size_t n;
};
struct glob {
	struct glob_alt *alts;
	size_t n;
	bool names_git;
};

/* The character at the start of s and its length; a byte that is not UTF-8 is a character outside
 * Unicode. */
static size_t
char_at(struct str s, uint32_t *c)
{
	size_t n = utf8_decode(s.p, s.n, c);
	if (n > 0)
		return n;
	*c = 0x110000u + (unsigned char)s.p[0];
	return 1;
}

/* A class [...] at p; sets *end after it and tells whether c is in it. A '[' that is never closed
 * is a plain one. */
static bool
class_match(struct str p, size_t *end, uint32_t c)
{
	size_t i = 1;
	bool negate = i < p.n && (p.p[i] == '!' || p.p[i] == '^'), hit = false;

	i += negate;
	for (size_t first = i; i < p.n && (p.p[i] != ']' || i == first);) {
		uint32_t lo, hi;
		i += p.p[i] == '\\' && i + 1 < p.n;
		i += char_at(str_sub(p, i, p.n), &lo);
		hi = lo;
		if (i + 1 < p.n && p.p[i] == '-' && p.p[i + 1] != ']') {
			i++;
			i += p.p[i] == '\\' && i + 1 < p.n;
			i += char_at(str_sub(p, i, p.n), &hi);
		}
		hit = hit || (lo <= c && c <= hi);
	}
	if (i >= p.n) {
		*end = 1;
		return c == '[';
	}
	*end = i + 1;
	return hit != negate;
}

/* Matches one unit of the pattern (not '*') with the start of s. Sets the bytes taken from each. */
static bool
unit_match(struct str p, struct str s, size_t *pn, size_t *sn)
{
	uint32_t c;

	*sn = char_at(s, &c);
	*pn = 1;
	if (p.p[0] == '?')
		return true;
	if (p.p[0] == '[')
		return class_match(p, pn, c);
	size_t quote = p.p[0] == '\\' && p.n > 1;
	*pn = quote + 1;
	*sn = 1;
	return p.p[quote] == s.p[0];
}

/* One part against one name. Only the last '*' is ever tried again, so this is at most |p| x |s|.
 */
static bool
part_match(struct str p, struct str s)
{
	size_t pi = 0, si = 0, star = (size_t)-1, star_s = 0, pn, sn;
	uint32_t c;

	while (si < s.n) {
		if (pi < p.n && p.p[pi] == '*') {
			star = ++pi;
			star_s = si;
		} else if (pi < p.n &&
			   unit_match(str_sub(p, pi, p.n), str_sub(s, si, s.n), &pn, &sn)) {
			pi += pn;
			si += sn;
		} else if (star != (size_t)-1) {
			pi = star;
			star_s += char_at(str_sub(s, star_s, s.n), &c);
			si = star_s;
		} else {
			return false;
		}
	}
	while (pi < p.n && p.p[pi] == '*')
		pi++;
	return pi == p.n;
}

/* The end of the class that starts at p[i] ('['), or i when it is never closed: braces in it mean
 * nothing. */
static size_t
class_end(struct str p, size_t i)
{
	size_t j = i + 1;

	j += j < p.n && (p.p[j] == '!' || p.p[j] == '^');
	for (size_t first = j; j < p.n && p.p[j] != '/'; j++) {
		if (p.p[j] == ']' && j > first)
			return j;
		j += p.p[j] == '\\';
	}
	return i;
}

/* Finds the first {...} with a comma on its own level. cuts: offsets of '{', each ',' and '}'. 0:
 * there is none. */
static size_t
brace_find(struct str p, size_t cuts[GLOB_BRACES_MAX + 2])
{
	for (size_t from = 0; from < p.n; from++) {
		size_t n = 0;
		int depth = 0;

		if (p.p[from] == '\\')
			from++;
		else if (p.p[from] == '[')
			from = class_end(p, from);
		if (from >= p.n || p.p[from] != '{')
			continue;
		for (size_t i = from; i < p.n && n < GLOB_BRACES_MAX + 2; i++) {
			char c = p.p[i];
			if (c == '\\')
				i++;
			else if (c == '[')
				i = class_end(p, i);
			else if (c == '{' && depth++ == 0)
				cuts[n++] = i;
			else if (c == ',' && depth == 1)
				cuts[n++] = i;
			else if (c == '}' && --depth == 0) {
				cuts[n++] = i;
				if (n > 2)
					return n;
				break;
			}
		}
		if (depth != 0 && n >= GLOB_BRACES_MAX + 2)
			return n;
	}
	return 0;
}

/* Replaces pattern by its alternatives until none has braces left: a queue, so that nesting needs
 * no recursion. */
static int
brace_expand(struct arena *a, struct str pattern, struct str out[GLOB_BRACES_MAX], size_t *out_n,
	struct err *e)
{
	size_t cuts[GLOB_BRACES_MAX + 2], n = 1;

	out[0] = pattern;
	for (size_t i = 0; i < n;) {
		struct str p = out[i];
		size_t k = brace_find(p, cuts);
		if (k == 0) {
			i++;
			continue;
		}
		if (n + k - 2 > GLOB_BRACES_MAX)
			return err_set(e, ERR_INVALID, ERR_TO_MODEL,
				"glob pattern has more than %u alternatives in braces",
				GLOB_BRACES_MAX);
		struct str before = str_sub(p, 0, cuts[0]),
			   after = str_sub(p, cuts[k - 1] + 1, p.n);
		for (size_t j = 0; j + 1 < k; j++) {
			struct str mid = str_sub(p, cuts[j] + 1, cuts[j + 1] - cuts[j] - 1);
			struct str s = str_of(arena_printf(
				a, "%.*s%.*s%.*s", STR_FMT(before), STR_FMT(mid), STR_FMT(after)));
			out[j == 0 ? i : n++] = s;
		}
	}
	*out_n = n;
	return 0;
}

static int
alt_split(struct arena *a, struct str text, struct glob_alt *alt, bool *names_git, struct err *e)
{
	struct str part;

	alt->parts = arena_alloc(a, (GLOB_PARTS_MAX + 1) * sizeof(*alt->parts));
	while (str_next(&text, '/', &part)) {
		if (part.n == 0 || str_is(part, "."))
			continue;
		if (str_is(part, ".."))
			return err_set(e, ERR_INVALID, ERR_TO_MODEL,
				"glob pattern has .. in it (set path to that directory instead)");
		if (str_is(part, "**") && alt->n > 0 && str_is(alt->parts[alt->n - 1], "**"))
			continue;
		if (alt->n >= GLOB_PARTS_MAX)
			return err_set(e, ERR_INVALID, ERR_TO_MODEL,
				"glob pattern has more than %u parts", GLOB_PARTS_MAX);
		*names_git = *names_git || str_is(part, ".git");
		alt->parts[alt->n++] = part;
	}
	if (alt->n == 0)
		return err_set(
			e, ERR_INVALID, ERR_TO_MODEL, "glob pattern is empty (for example **/*.c)");
	return 0;
}

int
glob_new(struct arena *a, struct str pattern, bool any_depth, struct glob **out, struct err *e)
{
	struct str texts[GLOB_BRACES_MAX];
	struct glob *g = arena_alloc(a, sizeof(*g));
	int rc;

	if (pattern.n > GLOB_PATTERN_MAX ||
		(pattern.n > 0 && memchr(pattern.p, 0, pattern.n) != NULL))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"glob pattern has a NUL or more than %u bytes", GLOB_PATTERN_MAX);
	if (pattern.n > 0 && pattern.p[0] == '/')
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"glob pattern starts with / (set path to the directory, and pattern below "
			"it)");
	if ((rc = brace_expand(a, pattern, texts, &g->n, e)) != 0)
		return rc;
	g->alts = arena_alloc(a, g->n * sizeof(*g->alts));
	for (size_t i = 0; i < g->n; i++) {
		struct str t = texts[i];
		if (any_depth && str_find_char(t, '/') < 0)
			t = str_of(arena_printf(a, "**/%.*s", STR_FMT(t)));
		if ((rc = alt_split(a, t, &g->alts[i], &g->names_git, e)) != 0)
			return rc;
	}
	*out = g;
	return 0;
}

/* A position before `**` is also one after it: `**` matches no directory as well. */
static uint64_t
closure(const struct glob_alt *alt, uint64_t at)
{
	for (size_t i = 0; i < alt->n; i++)
		if ((at >> i & 1) && str_is(alt->parts[i], "**") && i + 1 < alt->n)
			at |= (uint64_t)1 << (i + 1);
	return at;
}

void
glob_start(const struct glob *g, struct glob_pos *p)
{
	memset(p, 0, sizeof(*p));
	for (size_t k = 0; k < g->n; k++)
		p->at[k] = closure(&g->alts[k], 1);
}

bool
glob_step(const struct glob *g, const struct glob_pos *from, struct str name, struct glob_pos *to)
{
	uint64_t any = 0;

	memset(to, 0, sizeof(*to));
	for (size_t k = 0; k < g->n; k++) {
		const struct glob_alt *alt = &g->alts[k];
		for (size_t i = 0; i < alt->n; i++) {
			if (!(from->at[k] >> i & 1))
				continue;
			if (str_is(alt->parts[i], "**"))
				to->at[k] |= (uint64_t)1 << i |
					     (i + 1 == alt->n ? (uint64_t)1 << alt->n : 0);
			else if (part_match(alt->parts[i], name))
				to->at[k] |= (uint64_t)1 << (i + 1);
		}
		to->at[k] = closure(alt, to->at[k]);
		any |= to->at[k];
	}
	return any != 0;
}

bool
glob_done(const struct glob *g, const struct glob_pos *p)
{
	for (size_t k = 0; k < g->n; k++)
		if (p->at[k] >> g->alts[k].n & 1)
			return true;
	return false;
}

bool
glob_names_git(const struct glob *g)
{
	return g->names_git;
}
