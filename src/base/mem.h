/* SPDX-License-Identifier: MIT
 * Allocation. Small fixed sizes die on exhaustion (x*); sizes that came from outside go through mem_try with a
 * named maximum from limits.h. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include "base/attr.h"

void *xmalloc(size_t size) MUST_USE __attribute__((malloc));
void *xcalloc(size_t n, size_t size) MUST_USE; /* zeroed; dies on overflow */
void *xrealloc(void *p, size_t size) MUST_USE;
char *xstrdup(const char *s) MUST_USE;
char *xstrndup(const char *s, size_t n) MUST_USE;
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) MUST_USE;

/* NULL when size > max or memory is exhausted. */
void *mem_try(size_t size, size_t max) MUST_USE;

/* Grows an array: returns items (moved) with *cap >= need elements of item_size. Dies on exhaustion. */
void *vec_grow(void *items, size_t *cap, size_t need, size_t item_size) MUST_USE;

#endif
