/* SPDX-License-Identifier: MIT
 * 128-bit time-ordered ids in the ULID layout (48 bits of milliseconds, 80 random bits), written as 26 characters of
 * lower-case Crockford base32. Within one process ids of the same millisecond are strictly increasing. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "base/str.h"

#define ID_SIZE 27 /* 26 characters and NUL */

struct id {
	char z[ID_SIZE];
};

struct id id_new(void);
bool id_valid(struct str s);
/* Milliseconds in a valid id. */
int64_t id_time_ms(const struct id *id);
/* 0, or -1 when s is not an id. Accepts upper case. */
int id_parse(struct str s, struct id *out) MUST_USE;

/* n random bytes from the kernel; dies when there are none. */
void random_bytes(void *p, size_t n);

#endif
