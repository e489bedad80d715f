/* SPDX-License-Identifier: MIT
 * The arena: a chain of blocks, newest first, that is dropped at once. Small requests share a
 * block; a request larger than a quarter of the block size gets a block of its own behind the
 * newest, so that the rest of the newest stays usable. The maximum counts bytes handed out. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/internal.h"
#include "base/mem.h"
#include "base/secret.h"

/* The first one is 1 KiB with its head: a session that streams has six arenas with little in them. */
#define BLOCK_FIRST ((size_t)992)
#define BLOCK_LAST  ((size_t)256 * 1024)

struct block {
	struct block *older;
	size_t size, used;
	alignas(max_align_t) char bytes[];
};

struct arena {
	struct block *newest;
	size_t max, used, next_size;
};

struct arena *
arena_new(size_t max)
{
	struct arena *a = xcalloc(1, sizeof(*a));
	a->max = max;
	a->next_size = BLOCK_FIRST;
	return a;
}

static void
drop_blocks(struct block *b)
{
	while (b) {
		struct block *older = b->older;
		free(b);
		b = older;
	}
}

void
arena_free(struct arena *a)
{
	if (!a)
		return;
	drop_blocks(a->newest);
	free(a);
}

void
arena_free_wiped(struct arena *a)
{
	for (struct block *b = a ? a->newest : NULL; b; b = b->older)
		wipe(b->bytes, b->used);
	arena_free(a);
}

void
arena_reset(struct arena *a)
{
	a->used = 0;
	if (!a->newest)
		return;
	drop_blocks(a->newest->older);
	a->newest->older = NULL;
	a->newest->used = 0;
}

static struct block *
add_block(struct arena *a, size_t size)
{
	bool own = size > a->next_size / 4;
	size_t bytes = own ? size : a->next_size;
	struct block *b = malloc(sizeof(*b) + bytes);
	if (!b)
		return NULL;
	*b = (struct block){ .size = bytes };
	if (own && a->newest) {
		b->older = a->newest->older;
		a->newest->older = b;
	} else {
		b->older = a->newest;
		a->newest = b;
	}
	if (!own && a->next_size < BLOCK_LAST)
		a->next_size *= 2;
	return b;
}

static void *
take(struct arena *a, size_t size, size_t align)
{
	if (size > a->max - a->used || size > SIZE_MAX / 2)
		return NULL;
	struct block *b = a->newest;
	size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;
	if (!b || at > b->size || size > b->size - at) {
		b = add_block(a, size);
		if (!b)
			return NULL;
		at = 0;
	}
	b->used = at + size;
	a->used += size;
	return b->bytes + at;
}

char *
arena_chars(struct arena *a, size_t n)
{
	return take(a, n, 1);
}

void *
arena_try(struct arena *a, size_t size)
{
	void *p = take(a, size, alignof(max_align_t));
	if (p)
		memset(p, 0, size);
	return p;
}

static void *
or_die(const struct arena *a, void *p, size_t size)
{
	if (!p)
		fatal("arena: %zu more bytes do not fit (%zu of %zu used)", size, a->used, a->max);
	return p;
}

void *
arena_alloc(struct arena *a, size_t size)
{
	return or_die(a, arena_try(a, size), size);
}

char *
arena_strdup(struct arena *a, struct str s)
{
	char *p = or_die(a, arena_chars(a, s.n + 1), s.n + 1);
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

struct str
arena_str(struct arena *a, struct str s)
{
	return (struct str){ arena_strdup(a, s), s.n };
}

struct str
arena_take(struct arena *a, struct buf *b)
{
	struct str s = arena_str(a, buf_str(b));

	buf_fini(b);
	return s;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		fatal("arena_printf: bad format (%s)", fmt);
	char *p = or_die(a, arena_chars(a, (size_t)n + 1), (size_t)n + 1);
	(void)vsnprintf(p, (size_t)n + 1, fmt, again);
	va_end(again);
	return p;
}

size_t
arena_used(const struct arena *a)
{
	return a->used;
}
