/* SPDX-License-Identifier: MIT
 * How patterns match: texts, the words of a command, the segments of a path. A compiled part holds
 * '*' for any run of characters and '\' before a literal one. Each matcher remembers only the last
 * star, so that no pattern takes more than pattern times subject steps. */
#include "policy/internal.h"

#include "base/limits.h"

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

/* Could the pattern match a text that begins so? */
static bool
wild_may_begin(struct str pattern, struct str s)
{
	size_t p = 0;

	for (size_t i = 0; i < s.n; i++, p++) {
		if (p < pattern.n && pattern.p[p] == '*')
			return true;
		p += p + 1 < pattern.n && pattern.p[p] == '\\';
		if (p >= pattern.n || pattern.p[p] != s.p[i])
			return false;
	}
	return true;
}

/* As word_match, for a word of which only the beginning is known. */
static bool
word_may_match(const struct rule *r, size_t p, struct str known, bool is_loose)
{
	if (wild_may_begin(r->parts[p], known))
		return true;
	return is_loose && p == 0 && str_find_char(r->parts[0], '/') < 0 &&
	       wild_may_begin(r->parts[0], base_name(known));
}

#define RULE_WORDS_MAX (RULE_TEXT_MAX / 2 + 1)

/* Which parts of the rule may be next, one flag each. A star may stand for nothing, and an option
 * with its value may stand between two parts (git -C x push). */
struct places {
	bool at[RULE_WORDS_MAX + 1];
	bool is_value; /* the next word may belong to an option */
};

static void
places_step_over_stars(const struct rule *r, struct places *s)
{
	for (size_t p = 0; p < r->n; p++)
		if (s->at[p] && str_is(r->parts[p], "*"))
			s->at[p + 1] = true;
}

/* An expansion gives no word at all (if nothing of it is written out), or one that begins with what
 * is known, and any number of further words. */
static void
places_take(const struct rule *r, const struct words *w, struct str word, size_t known,
	const struct places *s, struct places *out)
{
	bool is_computed = known < word.n, is_taken = false;
	bool is_option = word.n > 1 && word.p[0] == '-' && known > 0,
	     is_passed = is_option || s->is_value;

	memset(out->at, 0, r->n + 1);
	out->is_value = is_option;
	for (size_t p = 0; p <= r->n; p++) {
		bool is_last = p == r->n, is_star = !is_last && str_is(r->parts[p], "*");

		if (is_taken || (s->at[p] && ((is_computed && known == 0) || is_star ||
						     (is_passed && p > 0 && !is_last))))
			out->at[p] = true;
		if (is_last || !s->at[p])
			continue;
		if (!is_computed && word_match(r, p, word, w->is_loose))
			out->at[p + 1] = true;
		if (is_computed && !is_taken)
			is_taken = word_may_match(r, p, str_sub(word, 0, known), w->is_loose);
	}
	places_step_over_stars(r, out);
}

/* Options, assignments and numbers stand between a wrapper and the command that it runs. */
static bool
is_plain(struct str word)
{
	return word.n > 0 && word.p[0] != '-' && !(word.p[0] >= '0' && word.p[0] <= '9') &&
	       str_find_char(word, '=') < 0;
}

bool
words_may_match(const struct rule *r, const struct words *w)
{
	struct places places[2] = { { .at = { true } } }, *now = &places[0], *next = &places[1],
		      *done;
	bool is_head = true;

	if (r->n > RULE_WORDS_MAX)
		return true;
	places_step_over_stars(r, now);
	for (size_t i = 0; i < w->argc; i++) {
		if (w->is_through && (is_head || w->known[i] == w->argv[i].n)) {
			now->at[0] = true;
			places_step_over_stars(r, now);
		}
		is_head = is_head && (i == 0 || !is_plain(w->argv[i]));
		places_take(r, w, w->argv[i], w->known[i], now, next);
		done = now;
		now = next;
		next = done;
	}
	for (size_t p = 1; w->is_open && p <= r->n; p++)
		if (now->at[p])
			return true;
	return now->at[r->n] || (w->is_open && is_head);
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
	/* A pattern for the whole workspace speaks about every directory: it would stop every
	 * search. */
	if (literal < n || literal == 0 ||
		(literal == 1 && str_is(r->parts[0], "shared") && r->n > 1))
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
	if (is_plain)
		buf_add_str(b, s);
	else
		buf_add_quoted(b, s);
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
