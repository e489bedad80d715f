/* SPDX-License-Identifier: MIT
 * SHA-256 (FIPS 180-4, through libsodium) for content addresses and probes, and a keyed short hash for tables. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/str.h"

#define SHA256_SIZE 32
#define SHA256_HEX  65 /* 64 hex digits and NUL */

struct sha256 {
	unsigned char state[128]; /* opaque: large enough and aligned for the library's state */
} __attribute__((aligned(16)));

void sha256_init(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *p, size_t n);
void sha256_done(struct sha256 *h, unsigned char out[SHA256_SIZE]);
void sha256_hex(struct str s, char out[SHA256_HEX]); /* of one string, as lower-case hex */
void hex_encode(const unsigned char *p, size_t n, char *out); /* writes 2n digits and NUL */

/* 64-bit FNV-1a: only for tables in this process, never for identity. */
uint64_t hash64(struct str s);

#endif
