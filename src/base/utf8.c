/* SPDX-License-Identifier: MIT
 * UTF-8 by RFC 3629 and the cleaner for text that a terminal will show. Decoding is one function;
 * everything else is written over it, so there is one place that knows which byte sequences are
 * characters. */
#include "base/utf8.h"

#include <stdio.h>

#include "base/internal.h"

static const char replacement[] = "\xEF\xBF\xBD";

/* Length by lead byte, and the range of the second byte, which is where overlong forms, surrogates
 * and values past U+10FFFF are excluded (Unicode table 3-7). */
static size_t
lead(unsigned char c, unsigned char *low, unsigned char *high)
{
	*low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	*high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	return c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

size_t
utf8_decode(const char *p, size_t n, uint32_t *cp)
{
	static const unsigned char lead_mask[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	const unsigned char *u = (const unsigned char *)p;
	unsigned char low, high;
	if (n == 0)
		return 0;
	size_t len = lead(u[0], &low, &high);
	if (len == 0 || len > n)
		return 0;
	if (len > 1 && (u[1] < low || u[1] > high))
		return 0;
	uint32_t v = u[0] & lead_mask[len];
	for (size_t i = 1; i < len; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (u[i] & 0x3f);
	}
	*cp = v;
	return len;
}

/* How much of a character is at p: all continuation bytes that could still have become one. */
static size_t
partial(const char *p, size_t n, size_t *want)
{
	const unsigned char *u = (const unsigned char *)p;
	unsigned char low, high;
	*want = lead(u[0], &low, &high);
	size_t have = 1;
	while (have < *want && have < n) {
		unsigned char c = u[have];
		if (have == 1 ? c < low || c > high : (c & 0xc0) != 0x80)
			break;
		have++;
	}
	return have;
}

size_t
utf8_bad_length(const char *p, size_t n)
{
	size_t want;
	return partial(p, n, &want);
}

/* Length of the run of ASCII bytes at the front, eight at a time. */
static size_t
ascii_run(const char *p, size_t n)
{
	size_t i = 0;
	for (uint64_t word; i + sizeof(word) <= n; i += sizeof(word)) {
		memcpy(&word, p + i, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			break;
	}
	while (i < n && (unsigned char)p[i] < 0x80)
		i++;
	return i;
}

bool
utf8_valid(struct str s)
{
	size_t i = 0;
	while (i < s.n) {
		i += ascii_run(s.p + i, s.n - i);
		uint32_t cp;
		if (i < s.n) {
			size_t len = utf8_decode(s.p + i, s.n - i, &cp);
			if (len == 0)
				return false;
			i += len;
		}
	}
	return true;
}

size_t
utf8_encode(uint32_t cp, char out[4])
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (cp & 0x3f));
		cp >>= 6;
	}
	out[0] = (char)((0xf00 >> len & 0xff) | cp);
	return len;
}

static bool
is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Goes back over at most three continuation bytes, so that invalid text is cut near max too. */
size_t
utf8_cut(struct str s, size_t max)
{
	if (max >= s.n)
		return s.n;
	size_t n = max;
	while (n > 0 && max - n < 3 && is_continuation(s.p[n]))
		n--;
	return is_continuation(s.p[n]) ? max : n;
}

void
utf8_copy(char *out, size_t size, struct str s)
{
	size_t n = utf8_cut(s, size - 1);

	if (n > 0)
		memcpy(out, s.p, n);
	out[n] = '\0';
}

size_t
utf8_start(struct str s, size_t from)
{
	if (from >= s.n)
		return s.n;
	size_t at = from;
	while (at < s.n && at - from < 3 && is_continuation(s.p[at]))
		at++;
	return at < s.n && is_continuation(s.p[at]) ? from : at;
}

size_t
utf8_incomplete(struct str s)
{
	for (size_t back = 1; back <= 3 && back <= s.n; back++) {
		const char *p = s.p + s.n - back;
		if (is_continuation(*p))
			continue;
		size_t want;
		size_t have = partial(p, back, &want);
		return have == back && want > back ? back : 0;
	}
	return 0;
}

int
utf8_add_lossy(struct buf *b, struct str s)
{
	int rc = 0;
	for (size_t i = 0, from = 0; i < s.n || from < s.n;) {
		uint32_t cp;
		i += ascii_run(s.p + i, s.n - i);
		size_t len = i < s.n ? utf8_decode(s.p + i, s.n - i, &cp) : 0;
		if (len > 0) {
			i += len;
			continue;
		}
		rc = buf_add(b, s.p + from, i - from);
		if (i < s.n) {
			rc = buf_add(b, replacement, sizeof(replacement) - 1);
			i += utf8_bad_length(s.p + i, s.n - i);
		}
		from = i;
	}
	return rc;
}

/* Characters that change what a reader sees without being seen: direction marks and overrides,
 * zero-width and invisible characters, line separators, tags, and the variation selectors that can
 * carry hidden data. FE0E and FE0F (text or emoji form) stay. Sorted. */
static const struct {
	uint32_t first, last;
} invisible[] = {
	{ 0x00ad, 0x00ad },
	{ 0x034f, 0x034f },
	{ 0x061c, 0x061c },
	{ 0x115f, 0x1160 },
	{ 0x17b4, 0x17b5 },
	{ 0x180b, 0x180f },
	{ 0x200b, 0x200f },
	{ 0x2028, 0x202e },
	{ 0x2060, 0x206f },
	{ 0x2800, 0x2800 },
	{ 0x3164, 0x3164 },
	{ 0xfe00, 0xfe0d },
	{ 0xfeff, 0xfeff },
	{ 0xffa0, 0xffa0 },
	{ 0xfff0, 0xfffb },
	{ 0x1bca0, 0x1bca3 },
	{ 0x1d173, 0x1d17a },
	{ 0xe0000, 0xe0fff },
};

static bool
is_invisible(uint32_t cp)
{
	for (size_t i = 0; i < ARRAY_LEN(invisible) && cp >= invisible[i].first; i++) {
		if (cp <= invisible[i].last)
			return true;
	}
	return false;
}

/* Writes the escape of cp, or nothing when it is harmless. */
static size_t
escape(uint32_t cp, bool one_line, char out[16])
{
	if (cp == '\n' || cp == '\t') {
		if (!one_line)
			return 0;
		memcpy(out, cp == '\n' ? "\\n" : "\\t", 2);
		return 2;
	}
	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
		return (size_t)snprintf(out, 16, "\\x%02x", (unsigned)cp);
	if (cp >= 0xad && is_invisible(cp))
		return (size_t)snprintf(out, 16, "\\u{%04x}", (unsigned)cp);
	return 0;
}

int
term_clean(struct buf *b, struct str s, bool one_line)
{
	int rc = 0;
	size_t from = 0;
	for (size_t i = 0; i < s.n;) {
		uint32_t cp = 0;
		char text[16];
		const char *shown = text;
		size_t shown_n = 0;
		size_t len = utf8_decode(s.p + i, s.n - i, &cp);
		if (len == 0) {
			len = utf8_bad_length(s.p + i, s.n - i);
			shown = replacement;
			shown_n = sizeof(replacement) - 1;
		} else if (cp < 0x20 || cp >= 0x7f) {
			shown_n = escape(cp, one_line, text);
		}
		if (shown_n > 0) {
			(void)buf_add(b, s.p + from, i - from);
			rc = buf_add(b, shown, shown_n);
			from = i + len;
		}
		i += len;
	}
	return from < s.n ? buf_add(b, s.p + from, s.n - from) : rc;
}
