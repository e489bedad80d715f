/* SPDX-License-Identifier: MIT
 * Text for a model out of bytes from a cell: decoded lossily once, secrets replaced, cut after a
 * line where that costs little. Cleaning comes before cutting, so that a cut never leaves the half
 * of a secret that nobody recognises. */
#include <stdarg.h>
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
	struct str s = arena_str(a, buf_str(&b));
	buf_fini(&b);
	return s;
}
