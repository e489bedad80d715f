/* SPDX-License-Identifier: MIT
 * The bounded buffer. After the first write that does not fit (or finds no memory) every further
 * write is refused too, so what is in the buffer is always an unbroken beginning of what was
 * written. One byte beyond the content is kept for a NUL, so buf_z costs nothing. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

void
buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void
buf_fini(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ .max = b->max };
}

void
buf_reset(struct buf *b)
{
	b->n = 0;
	b->overflow = false;
}

char *
buf_reserve(struct buf *b, size_t n)
{
	if (b->overflow || n > b->max - b->n || b->n + n + 1 == 0)
		goto full;
	size_t need = b->n + n + 1;
	if (need > b->cap) {
		size_t want = MAX(need, b->cap < SIZE_MAX / 2 ? b->cap * 2 : need);
		want = MAX(want, (size_t)64);
		if (b->max < SIZE_MAX)
			want = MIN(want, b->max + 1);
		char *p = realloc(b->p, want);
		if (!p)
			goto full;
		b->p = p;
		b->cap = want;
	}
	return b->p + b->n;
full:
	b->overflow = true;
	return NULL;
}

void
buf_added(struct buf *b, size_t n)
{
	if (n >= b->cap - b->n)
		fatal("buf_added: %zu bytes were not reserved", n);
	b->n += n;
}

int
buf_add(struct buf *b, const void *p, size_t n)
{
	char *to = buf_reserve(b, n);
	if (!to)
		return ERR_LIMIT;
	if (n)
		memcpy(to, p, n);
	b->n += n;
	return 0;
}

int
buf_add_str(struct buf *b, struct str s)
{
	return buf_add(b, s.p, s.n);
}

int
buf_add_z(struct buf *b, const char *z)
{
	return buf_add(b, z, strlen(z));
}

int
buf_add_char(struct buf *b, char c)
{
	if (!b->overflow && b->n < b->max && b->cap > b->n + 1) {
		b->p[b->n++] = c;
		return 0;
	}
	return buf_add(b, &c, 1);
}

int
buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	char small[128];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof(small), fmt, ap);
	int rc;
	if (n < 0) {
		b->overflow = true;
		rc = ERR_LIMIT;
	} else if ((size_t)n < sizeof(small)) {
		rc = buf_add(b, small, (size_t)n);
	} else {
		char *to = buf_reserve(b, (size_t)n);
		rc = to ? 0 : ERR_LIMIT;
		if (to) {
			(void)vsnprintf(to, (size_t)n + 1, fmt, again);
			b->n += (size_t)n;
		}
	}
	va_end(again);
	return rc;
}

int
buf_add_quoted(struct buf *b, struct str s)
{
	buf_add_char(b, '\'');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\'')
			buf_add_z(b, "'\\''");
		else
			buf_add_char(b, s.p[i]);
	}
	return buf_add_char(b, '\'');
}

int
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int rc = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return rc;
}

void
buf_consume(struct buf *b, size_t n)
{
	n = MIN(n, b->n);
	if (n == 0)
		return;
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

void
buf_truncate(struct buf *b, size_t n)
{
	b->n = MIN(b->n, n);
}

struct str
buf_str(const struct buf *b)
{
	return (struct str){ b->p ? b->p : "", b->n };
}

const char *
buf_z(struct buf *b)
{
	if (!b->p)
		return "";
	b->p[b->n] = '\0';
	return b->p;
}

char *
buf_take(struct buf *b, size_t *n)
{
	char *taken = b->p ? b->p : xmalloc(1);
	taken[b->n] = '\0';
	if (n)
		*n = b->n;
	*b = (struct buf){ .max = b->max };
	return taken;
}
