/* SPDX-License-Identifier: MIT
 * Allocation that dies when memory is gone, for sizes the program itself chose, and one checked
 * call for sizes that came from outside. A size of zero gives a pointer that can be freed, never
 * NULL. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void *
xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);
	if (!p)
		fatal("out of memory (%zu bytes)", size);
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	void *p = n && size ? calloc(n, size) : calloc(1, 1);
	if (!p)
		fatal("out of memory (%zu times %zu bytes)", n, size);
	return p;
}

void *
xrealloc(void *p, size_t size)
{
	void *q = realloc(p, size ? size : 1);
	if (!q)
		fatal("out of memory (%zu bytes)", size);
	return q;
}

char *
xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *
xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = xmalloc(len + 1);
	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *
xasprintf(const char *fmt, ...)
{
	char *p;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0)
		fatal("out of memory or a bad format (%s)", fmt);
	return p;
}

void *
mem_try(size_t size, size_t max)
{
	return size > max ? NULL : malloc(size ? size : 1);
}

void *
vec_grow(void *items, size_t *cap, size_t need, size_t item_size)
{
	if (need <= *cap)
		return items;
	size_t want = *cap < 8 ? 8 : *cap;
	while (want < need) {
		if (want > SIZE_MAX / 2)
			fatal("array of %zu elements", need);
		want *= 2;
	}
	if (item_size && want > SIZE_MAX / item_size)
		fatal("array of %zu elements of %zu bytes", want, item_size);
	items = xrealloc(items, want * item_size);
	*cap = want;
	return items;
}
