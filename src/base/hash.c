/* SPDX-License-Identifier: MIT
 * SHA-256 through libsodium, whose state lives in an opaque array so that no other room sees the
 * library, and FNV-1a for tables in memory (never for identity: it is easy to collide on purpose).
 */
#include "base/hash.h"

#include <sodium.h>

_Static_assert(
	sizeof(struct sha256) >= sizeof(crypto_hash_sha256_state), "struct sha256 is too small");
_Static_assert(SHA256_SIZE == crypto_hash_sha256_BYTES, "digest size");

static crypto_hash_sha256_state *
state(struct sha256 *h)
{
	return (crypto_hash_sha256_state *)(void *)h->state;
}

void
sha256_init(struct sha256 *h)
{
	(void)crypto_hash_sha256_init(state(h));
}

void
sha256_add(struct sha256 *h, const void *p, size_t n)
{
	if (n)
		(void)crypto_hash_sha256_update(state(h), p, n);
}

void
sha256_done(struct sha256 *h, unsigned char out[SHA256_SIZE])
{
	(void)crypto_hash_sha256_final(state(h), out);
}

void
sha256_hex(struct str s, char out[SHA256_HEX])
{
	unsigned char digest[SHA256_SIZE];
	struct sha256 h;
	sha256_init(&h);
	sha256_add(&h, s.p, s.n);
	sha256_done(&h, digest);
	hex_encode(digest, sizeof(digest), out);
}

void
hex_encode(const unsigned char *p, size_t n, char *out)
{
	static const char hex[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex[p[i] >> 4];
		out[2 * i + 1] = hex[p[i] & 15];
	}
	out[2 * n] = '\0';
}

uint64_t
hash64(struct str s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}
