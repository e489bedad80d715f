/* SPDX-License-Identifier: MIT
 * Memory of one lifetime: all of it is dropped at once. Born with a maximum; past it arena_try gives NULL and
 * arena_alloc dies, so outside sizes use arena_try. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/buf.h"

struct arena;

struct arena *arena_new(size_t max) MUST_USE;
void arena_free(struct arena *a); /* NULL is fine */
void arena_free_wiped(struct arena *a); /* of one that held secrets: nothing is left of what was in it */
void arena_reset(struct arena *a); /* drops the content, keeps one block */
void *arena_alloc(struct arena *a, size_t size) MUST_USE; /* zeroed, aligned for any type */
void *arena_try(struct arena *a, size_t size) MUST_USE; /* zeroed, or NULL past the maximum */
char *arena_strdup(struct arena *a, struct str s) MUST_USE; /* NUL-terminated */
struct str arena_str(struct arena *a, struct str s); /* copy, also NUL-terminated */
struct str arena_take(struct arena *a, struct buf *b); /* such a copy of what is in b, which is freed */
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_USE;
size_t arena_used(const struct arena *a);

#endif
