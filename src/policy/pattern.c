/* SPDX-License-Identifier: MIT
 * How patterns match: texts, the words of a command, the segments of a path. A compiled part holds '*' for any run of
 * characters and '\' before a literal one. Each matcher remembers only the last star, so that no pattern takes more than
 * pattern times subject steps. */
#include "policy/internal.h"

static int
fold(int c, bool fold_case)
{
	return fold_case && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

bool
wild_match(struct str pattern, struct str s, bool fold_case)
{
	size_t p = 0, i = 0, star = SIZE_MAX, resume = 0;

	while (i < s.n || p < pattern.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = ++p;
			resume = i;
			continue;
		}
		if (p < pattern.n && i < s.n) {
			size_t literal = p + (pattern.p[p] == '\\' && p + 1 < pattern.n);

			if (fold(pattern.p[literal], fold_case) == fold(s.p[i], fold_case)) {
				p = literal + 1;
				i++;
				continue;
			}
		}
		if (star == SIZE_MAX || resume >= s.n)
			return false;
		p = star;
		i = ++resume;
	}
	return true;
}

static struct str
base_name(struct str path)
{
	for (size_t i = path.n; i > 0; i--)
		if (path.p[i - 1] == '/')
			return str_sub(path, i, path.n);
	return path;
}

static bool
word_match(const struct rule *r, size_t p, struct str word, bool is_loose)
{
	if (wild_match(r->parts[p], word, false))
		return true;
	return is_loose && p == 0 && str_find_char(r->parts[0], '/') < 0 &&
		wild_match(r->parts[0], base_name(word), false);
}

bool
words_match(const struct rule *r, const struct words *w)
{
	size_t p = 0, i = 0, star = w->is_through ? 0 : SIZE_MAX, resume = 0;

	while (i < w->argc || p < r->n) {
		if (p < r->n && str_is(r->parts[p], "*")) {
			star = ++p;
			resume = i;
			continue;
		}
		if (p < r->n && i < w->argc && word_match(r, p, w->argv[i], w->is_loose)) {
			p++;
			i++;
			continue;
		}
		if (star == SIZE_MAX || resume >= w->argc)
			return false;
		p = star;
		i = ++resume;
	}
	return true;
}

static size_t
split(struct str path, struct str *segments, size_t n)
{
	struct str part;

	while (str_next(&path, '/', &part)) {
		if (part.n == 0 || str_is(part, "."))
			continue;
		if (!str_is(part, ".."))
			segments[n++] = part;
		else if (n > 0)
			n--;
	}
	return n;
}

int
path_split(struct path *p, struct str text, struct arena *a)
{
	struct str *segments;
	size_t max = 2, n = 0;

	for (size_t i = 0; i < text.n; i++)
		max += text.p[i] == '/';
	segments = arena_try(a, max * sizeof(*segments));
	if (segments == NULL)
		return -1;
	if (!str_starts(text, "/"))
		segments[n++] = STR("shared");
	*p = (struct path){ text, segments, split(text, segments, n) };
	return 0;
}

bool
path_match(const struct rule *r, const struct path *path)
{
	size_t n = path->n;
	size_t p = 0, i = 0, star = SIZE_MAX, resume = 0;

	while (i < n || p < r->n) {
		if (p < r->n && str_is(r->parts[p], "**")) {
			star = ++p;
			resume = i;
			continue;
		}
		if (p < r->n && i < n && wild_match(r->parts[p], path->segments[i], false)) {
			p++;
			i++;
			continue;
		}
		if (star == SIZE_MAX || resume >= n)
			return false;
		p = star;
		i = ++resume;
	}
	return true;
}

static bool
is_literal(struct str part)
{
	for (size_t i = 0; i < part.n; i++) {
		if (part.p[i] == '*')
			return false;
		if (part.p[i] == '\\')
			i++;
	}
	return true;
}

bool
path_is_inside(const struct rule *r, const struct path *dir)
{
	size_t literal = 0, n = dir->n;

	while (literal < r->n && is_literal(r->parts[literal]))
		literal++;
	/* A pattern for the whole workspace speaks about every directory: it would stop every search. */
	if (literal < n || literal == 0 || (literal == 1 && str_is(r->parts[0], "shared") && r->n > 1))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!wild_match(r->parts[i], dir->segments[i], false))
			return false;
	return true;
}

static void
quote_word(struct buf *b, struct str s)
{
	bool is_plain = s.n > 0;

	for (size_t i = 0; i < s.n && is_plain; i++)
		is_plain = strchr("*\\'\" \t\n;&|<>()$`", s.p[i]) == NULL;
	if (is_plain) {
		buf_add_str(b, s);
		return;
	}
	buf_add_char(b, '\'');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\'')
			buf_add_z(b, "'\\''");
		else
			buf_add_char(b, s.p[i]);
	}
	buf_add_char(b, '\'');
}

void
pattern_quote(struct buf *b, enum pattern_form form, struct str s)
{
	if (form == PATTERN_WORDS) {
		quote_word(b, s);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '*' || s.p[i] == '\\')
			buf_add_char(b, '\\');
		buf_add_char(b, s.p[i]);
	}
}
