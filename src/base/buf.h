/* SPDX-License-Identifier: MIT
 * A growing byte buffer that is born with a maximum. A write that would pass the maximum adds nothing and sets
 * `overflow`, which stays set: check once at the end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include "base/str.h"

struct buf {
	char *p;
	size_t n, cap, max;
	bool overflow;
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
void buf_reset(struct buf *b); /* empty, keeps memory, clears overflow */
/* 0, or ERR_LIMIT and overflow set. */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_str(struct buf *b, struct str s);
int buf_add_z(struct buf *b, const char *z);
int buf_add_char(struct buf *b, char c);
/* s as one word of a shell, between single quotes. */
int buf_add_quoted(struct buf *b, struct str s);
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Room for n more bytes at the end, or NULL past the maximum; then buf_added. */
char *buf_reserve(struct buf *b, size_t n) MUST_USE;
void buf_added(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n); /* drops n bytes from the front */
void buf_truncate(struct buf *b, size_t n); /* keeps the first n bytes */
struct str buf_str(const struct buf *b);
/* NUL-terminated content; the NUL is not counted. Valid until the next write. */
const char *buf_z(struct buf *b);
/* Heap copy of the content, NUL-terminated, owned by the caller; the buffer is empty after. */
char *buf_take(struct buf *b, size_t *n) MUST_USE;

#endif
