/* SPDX-License-Identifier: MIT
 * Text for a model out of bytes from a cell: decoded lossily once, secrets replaced, cut after a
 * line where that costs little. Cleaning comes before cutting, so that a cut never leaves the half
 * of a secret that nobody recognises. */
#include <stdarg.h>
#include <string.h>
#include "base/secret.h"
#include "base/utf8.h"
#include "tool/internal.h"

struct str
text_clean(struct arena *a, struct str bytes)
{
	struct buf lossy, clean;

	/* A wrong byte becomes three, and a short value may become "[redacted]". */
	buf_init(&lossy, 3 * bytes.n + 1);
	buf_init(&clean, 16 * bytes.n + KIB);
	utf8_add_lossy(&lossy, bytes);
	secret_scrub(&clean, buf_str(&lossy));
	struct str s = arena_str(a, buf_str(&clean));
	buf_fini(&lossy);
	buf_fini(&clean);
	return s;
}

/* The bytes of the control sequence that begins with the escape at s.p[0]. */
static size_t
escape_length(struct str s)
{
	size_t i = 1;

	if (s.n < 2)
		return s.n;
	if (s.p[1] == '[') { /* parameters, then one final byte */
		for (i = 2; i < s.n && s.p[i] >= 0x20 && s.p[i] <= 0x3f; i++)
			;
		return MIN(i + 1, s.n);
	}
	if (strchr("]P_^X", s.p[1]) != NULL && s.p[1] != '\0') { /* a string, up to BEL or ESC \ */
		for (i = 2; i < s.n && s.p[i] != '\n'; i++) {
			if (s.p[i] == '\a')
				return i + 1;
			if (s.p[i] == '\033')
				return i + 1 < s.n && s.p[i + 1] == '\\' ? i + 2 : i;
		}
		return i;
	}
	while (i < s.n && s.p[i] >= 0x20 && s.p[i] <= 0x2f)
		i++;
	return i < s.n && s.p[i] >= 0x30 && s.p[i] <= 0x7e ? i + 1 : i;
}

/* Back by one character, not beyond the start of the line. */
static void
step_back(struct buf *b, size_t line)
{
	size_t n = b->n;

	while (n > line && ((unsigned char)b->p[n - 1] & 0xc0) == 0x80)
		n--;
	buf_truncate(b, n > line ? n - 1 : line);
}

struct str
text_terminal(struct arena *a, struct str text)
{
	struct buf b, safe;
	size_t line = 0;

	buf_init(&b, text.n + 1);
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c == '\033') {
			i += escape_length(str_sub(text, i, text.n)) - 1;
		} else if (c == '\r') { /* what comes is written over the line; before a newline nothing comes */
			size_t next = i + 1;
			while (next < text.n && text.p[next] == '\r')
				next++;
			if (next < text.n && text.p[next] != '\n')
				buf_truncate(&b, line);
		} else if (c == '\b') {
			step_back(&b, line);
		} else if (c == '\n' || c == '\t' || (unsigned char)c >= 0x20) {
			if (c != 0x7f)
				buf_add_char(&b, c);
			line = c == '\n' ? b.n : line;
		}
	}
	/* What a sequence kept apart may be a secret now. */
	buf_init(&safe, 16 * b.n + KIB);
	secret_scrub(&safe, buf_str(&b));
	struct str s = arena_str(a, buf_str(&safe));
	buf_fini(&b);
	buf_fini(&safe);
	return s;
}

size_t
text_cut(struct str s, size_t max)
{
	if (s.n <= max)
		return s.n;
	size_t n = utf8_cut(s, max);
	for (size_t i = n; i > n / 2; i--)
		if (s.p[i - 1] == '\n')
			return i;
	return n;
}

size_t
text_cut_front(struct str s, size_t max)
{
	if (s.n <= max)
		return 0;
	size_t from = utf8_start(s, s.n - max);
	for (size_t i = from; i < from + (s.n - from) / 2; i++)
		if (s.p[i - 1] == '\n')
			return i;
	return from;
}

struct str
text_page(struct arena *a, struct str bytes, size_t max, size_t *used)
{
	size_t n = MIN(bytes.n, max);

	for (;;) {
		n = text_cut(bytes, n);
		struct str s = text_clean(a, str_sub(bytes, 0, n));
		if (s.n <= max || n == 0) {
			*used = n;
			return s;
		}
		n = MIN(n - 1, n * max / s.n);
	}
}

struct str
text_note(struct arena *a, struct str text, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, text.n + 4 * NOTE_MAX);
	buf_add_str(&b, text);
	if (text.n > 0 && text.p[text.n - 1] != '\n')
		buf_add_char(&b, '\n');
	buf_add_char(&b, '[');
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	buf_add_char(&b, ']');
	return arena_take(a, &b);
}
