/* SPDX-License-Identifier: MIT
 * JSON text into nodes, strictly by RFC 8259. json-c is not used for this: its strict mode takes
 * NaN and duplicate keys, saturates whole numbers past 64 bits, turns lone surrogates into U+FFFD,
 * forgets how a number was written and knows no lines, so a second full scan would be needed
 * anyway. It is the reference of the differential test instead. Invariant: on an error *out is
 * untouched; sizes are bounded by JSON_TEXT_MAX, JSON_DEPTH_MAX, JSON_NODES_MAX and the arena.
 * Children wait on one stack until their list or map closes and then move to the arena in one
 * piece. */
#include "base/node.h"

#include <math.h>
#include <stdlib.h>

#include "base/internal.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#define STACK_FIRST 24

struct parser {
	struct arena *a;
	const char *start, *p, *end;
	const char *line_start;
	uint32_t line;
	unsigned depth;
	size_t nodes;
	struct err *e;
	struct node_pair *stack; /* `first`, or heap once that was too small */
	size_t n, cap;
	struct node_pair first[STACK_FIRST];
};

static int parse_value(struct parser *s, struct node *out);

static int
fail(struct parser *s, int code, const char *what)
{
	return err_set(s->e, code, ERR_TO_USER, "JSON line %u column %zu: %s", s->line,
		(size_t)(s->p - s->line_start) + 1, what);
}

static int
invalid(struct parser *s, const char *what)
{
	return fail(s, ERR_INVALID, s->p >= s->end ? "the text ends too early" : what);
}

static void
skip_space(struct parser *s)
{
	for (; s->p < s->end; s->p++) {
		char c = *s->p;
		if (c == '\n') {
			s->line++;
			s->line_start = s->p + 1;
		} else if (c != ' ' && c != '\t' && c != '\r') {
			return;
		}
	}
}

/* The next byte after white space, 0 at the end (a NUL in the text is no token either). */
static char
peek(struct parser *s)
{
	skip_space(s);
	return s->p < s->end ? *s->p : '\0';
}

static int
push(struct parser *s, const struct node_pair *pair)
{
	if (++s->nodes > JSON_NODES_MAX)
		return fail(s, ERR_LIMIT, "too many values (send less at once)");
	if (s->n == s->cap && s->stack == s->first) {
		struct node_pair *heap = xmalloc(2 * sizeof(s->first));
		memcpy(heap, s->first, sizeof(s->first));
		s->stack = heap;
		s->cap *= 2;
	} else if (s->n == s->cap) {
		s->stack = vec_grow(s->stack, &s->cap, s->n + 1, sizeof(*s->stack));
	}
	s->stack[s->n++] = *pair;
	return 0;
}

static int
four_hex(struct parser *s, uint32_t *out)
{
	uint32_t v = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		char c = s->p < s->end ? *s->p : 'x';
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return invalid(s, "\\u needs four hexadecimal digits");
	}
	*out = v;
	return 0;
}

/* After "\u". A character past U+FFFF comes as two escapes; half of one is no character. */
static int
unicode_escape(struct parser *s, char **to)
{
	uint32_t cp, low;
	int rc = four_hex(s, &cp);
	if (rc == 0 && cp >= 0xd800 && cp <= 0xdbff) {
		if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
			return fail(s, ERR_INVALID,
				"half of a surrogate pair (\\ud83d needs its \\ude00)");
		s->p += 2;
		rc = four_hex(s, &low);
		if (rc == 0 && (low < 0xdc00 || low > 0xdfff))
			return fail(s, ERR_INVALID,
				"half of a surrogate pair (\\ud83d needs its \\ude00)");
		cp = 0x10000 + ((cp - 0xd800) << 10 | (low & 0x3ff));
	} else if (rc == 0 && cp >= 0xdc00 && cp <= 0xdfff) {
		return fail(s, ERR_INVALID,
			"half of a surrogate pair (\\ude00 needs a \\ud83d before it)");
	}
	if (rc == 0)
		*to += utf8_encode(cp, *to);
	return rc;
}

static int
escape(struct parser *s, char **to)
{
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	s->p++; /* the backslash */
	if (s->p < s->end && *s->p == 'u') {
		s->p++;
		return unicode_escape(s, to);
	}
	const char *at = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
	if (!at)
		return invalid(
			s, "unknown escape (known: \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00e9)");
	*(*to)++ = into[at - from];
	s->p++;
	return 0;
}

/* Finds the closing quote, so that the text gets exactly the room it needs (escapes only make it
 * shorter). */
static const char *
string_end(const struct parser *s)
{
	const char *p = s->p;
	while (p < s->end && *p != '"')
		p += *p == '\\' && s->end - p > 1 ? 2 : 1;
	return p;
}

static int
plain_text(struct parser *s, const char *end, char **to)
{
	const char *from = s->p;
	uint32_t cp;
	while (s->p < end && *s->p != '\\') {
		if ((unsigned char)*s->p < 0x20)
			return fail(s, ERR_INVALID,
				"control character in a string (write it as \\n, \\t or \\u00XX)");
		size_t len = (unsigned char)*s->p < 0x80
				     ? 1
				     : utf8_decode(s->p, (size_t)(end - s->p), &cp);
		if (len == 0)
			return fail(s, ERR_INVALID, "bytes that are not UTF-8");
		s->p += len;
	}
	memcpy(*to, from, (size_t)(s->p - from));
	*to += s->p - from;
	return 0;
}

/* At the opening quote. */
static int
parse_string(struct parser *s, struct str *out)
{
	s->p++;
	const char *end = string_end(s);
	char *text = arena_chars(s->a, (size_t)(end - s->p) + 1), *to = text;
	if (!text)
		return fail(s, ERR_LIMIT, "the document needs too much memory");
	while (s->p < end) {
		int rc = *s->p == '\\' ? escape(s, &to) : plain_text(s, end, &to);
		if (rc != 0)
			return rc;
	}
	if (s->p >= s->end)
		return invalid(s, "");
	s->p++;
	*to = '\0';
	*out = (struct str){ text, (size_t)(to - text) };
	return 0;
}

static bool
skip_digits(struct parser *s)
{
	const char *from = s->p;
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > from;
}

static int
parse_number(struct parser *s, struct node *out)
{
	const char *from = s->p;
	bool whole = true;
	s->p += *s->p == '-';
	const char *digits = s->p;
	if (!skip_digits(s))
		return invalid(s, "a digit must follow");
	if (*digits == '0' && s->p - digits > 1) {
		s->p = digits;
		return fail(s, ERR_INVALID,
			"a number must not begin with 0 (write it without, or in quotes)");
	}
	if (s->p < s->end && *s->p == '.') {
		whole = false;
		s->p++;
		if (!skip_digits(s))
			return invalid(s, "a digit must follow the decimal point");
	}
	if (s->p < s->end && (*s->p | 0x20) == 'e') {
		whole = false;
		s->p++;
		s->p += s->p < s->end && (*s->p == '+' || *s->p == '-');
		if (!skip_digits(s))
			return invalid(s, "a digit must follow the exponent");
	}
	struct str raw = { from, (size_t)(s->p - from) };
	if (whole && str_i64(raw, &out->i) == 0) {
		out->type = NODE_INT;
		return 0;
	}
	if (raw.n > JSON_NUMBER_MAX)
		return fail(s, ERR_LIMIT, "a number with too many digits (write it in quotes)");
	char *text = arena_chars(s->a, raw.n + 1);
	if (!text)
		return fail(s, ERR_LIMIT, "the document needs too much memory");
	memcpy(text, raw.p, raw.n);
	text[raw.n] = '\0';
	out->type = NODE_NUM;
	out->num.raw = (struct str){ text, raw.n };
	out->num.d = number_value(text);
	return isfinite(out->num.d)
		       ? 0
		       : fail(s, ERR_INVALID, "a number past 1.8e308 (write it in quotes)");
}

static int
parse_word(struct parser *s, struct node *out)
{
	static const struct {
		struct str text;
		enum node_type type;
		bool b;
	} words[] = {
		{ { "true", 4 }, NODE_BOOL, true },
		{ { "false", 5 }, NODE_BOOL, false },
		{ { "null", 4 }, NODE_NULL, false },
	};
	struct str rest = { s->p, (size_t)(s->end - s->p) };
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!str_starts(rest, words[i].text.p))
			continue;
		out->type = words[i].type;
		out->b = words[i].b;
		s->p += words[i].text.n;
		return 0;
	}
	return invalid(s, "expected a value (a string in double quotes, a number, true, false, "
			  "null, [ or {)");
}

/* Moves the values above `from` into the arena as the items of out. */
static int
close_list(struct parser *s, size_t from, struct node *out)
{
	size_t n = s->n - from;
	struct node *items = arena_try(s->a, n * sizeof(*items));
	if (!items)
		return fail(s, ERR_LIMIT, "the document needs too much memory");
	for (size_t i = 0; i < n; i++)
		items[i] = s->stack[from + i].value;
	out->list.items = items;
	out->list.n = n;
	s->n = from;
	return 0;
}

static int
close_map(struct parser *s, size_t from, struct node *out)
{
	size_t n = s->n - from;
	const struct node_pair *twice = pairs_duplicate(s->stack + from, n);
	if (twice)
		return err_set(s->e, ERR_INVALID, ERR_TO_USER,
			"JSON line %u: the key \"%.*s\" occurs twice", twice->line,
			(int)MIN(twice->key.n, (size_t)80), twice->key.p);
	struct node_pair *pairs = arena_try(s->a, n * sizeof(*pairs));
	if (!pairs)
		return fail(s, ERR_LIMIT, "the document needs too much memory");
	if (n)
		memcpy(pairs, s->stack + from, n * sizeof(*pairs));
	out->map.pairs = pairs;
	out->map.n = n;
	s->n = from;
	return 0;
}

static int
parse_member(struct parser *s, bool is_map)
{
	struct node_pair pair = { 0 };
	int rc = 0;
	if (is_map) {
		if (peek(s) != '"')
			return invalid(s, "expected a key in double quotes");
		pair.line = s->line;
		rc = parse_string(s, &pair.key);
		if (rc == 0 && peek(s) != ':')
			return invalid(s, "expected ':' after the key");
		s->p++;
	}
	if (rc == 0)
		rc = parse_value(s, &pair.value);
	return rc == 0 ? push(s, &pair) : rc;
}

/* At the opening bracket. */
static int
parse_container(struct parser *s, struct node *out, bool is_map)
{
	char close = is_map ? '}' : ']';
	size_t from = s->n;
	if (++s->depth > JSON_DEPTH_MAX)
		return fail(s, ERR_LIMIT, "nested too deeply");
	s->p++;
	out->type = is_map ? NODE_MAP : NODE_LIST;
	char c = peek(s);
	while (c != close) {
		int rc = parse_member(s, is_map);
		if (rc != 0)
			return rc;
		c = peek(s);
		if (c == ',') {
			s->p++;
			if (peek(s) == close)
				return fail(s, ERR_INVALID, "a value must follow the comma");
		} else if (c != close) {
			return invalid(s, is_map ? "expected ',' or '}'" : "expected ',' or ']'");
		}
	}
	s->p++;
	s->depth--;
	return is_map ? close_map(s, from, out) : close_list(s, from, out);
}

static int
parse_value(struct parser *s, struct node *out)
{
	char c = peek(s);
	*out = (struct node){ .line = s->line };
	if (c == '"') {
		out->type = NODE_STR;
		return parse_string(s, &out->s);
	}
	if (c == '{' || c == '[')
		return parse_container(s, out, c == '{');
	if (c == '-' || (c >= '0' && c <= '9'))
		return parse_number(s, out);
	return parse_word(s, out);
}

int
json_parse(struct arena *a, struct str text, const struct node **out, struct err *e)
{
	if (text.n > JSON_TEXT_MAX)
		return err_set(
			e, ERR_LIMIT, ERR_TO_USER, "JSON: more than %u bytes", JSON_TEXT_MAX);
	const char *start = text.p ? text.p : "";
	struct parser s = { .a = a,
		.start = start,
		.p = start,
		.end = start + text.n,
		.line_start = start,
		.line = 1,
		.e = e,
		.cap = STACK_FIRST };
	s.stack = s.first;
	struct node *root = arena_try(a, sizeof(*root));
	int rc = root ? parse_value(&s, root)
		      : fail(&s, ERR_LIMIT, "the document needs too much memory");
	if (rc == 0) {
		skip_space(&s);
		if (s.p < s.end)
			rc = fail(&s, ERR_INVALID, "more text after the document");
	}
	if (s.stack != s.first)
		free(s.stack);
	if (rc == 0)
		*out = root;
	return rc;
}
