/* SPDX-License-Identifier: MIT
 * Sealed secrets. A record (name, value, where the value may go) is encrypted to a public key
 * (X25519 with XSalsa20-Poly1305, libsodium's sealed box): whoever holds the private key opens it,
 * whoever made it cannot, and it cannot be changed unnoticed. The bindings are inside, so that who
 * stores a record cannot move its value elsewhere. */
#ifndef BASE_SEAL_H
#define BASE_SEAL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/secret.h"

#define SEAL_SEED_SIZE  32
#define SEAL_SALT_SIZE  16
#define SEAL_PUBLIC_HEX 65 /* 64 hex digits and NUL */

/* ---- keys ---- */

struct seal_key; /* a key pair in a locked page */
struct seal_key *seal_key_new(const unsigned char seed[SEAL_SEED_SIZE]) MUST_USE;
void seal_key_free(struct seal_key *k);                /* wipes; NULL is fine */
const char *seal_key_public(const struct seal_key *k); /* hex; borrowed */

void seal_random(void *p, size_t n);
/* The seed that a file of any form (at least 16 bytes) stands for: BLAKE2b. */
void seal_seed_of(struct str content, unsigned char seed[SEAL_SEED_SIZE]);
/* The seed that a passphrase stands for: Argon2id (RFC 9106). Blocks for about a second at SEAL_OPS
 * and SEAL_MEM. */
#define SEAL_OPS 3
#define SEAL_MEM (128u * MIB)
int seal_seed_derive(struct str passphrase, const unsigned char salt[SEAL_SALT_SIZE], int64_t ops,
	int64_t mem, unsigned char seed[SEAL_SEED_SIZE], struct err *e) MUST_USE;
/* n bytes from 2n hex digits; 0 or -1. */
int hex_decode(struct str hex, unsigned char *out, size_t n) MUST_USE;

/* ---- records ---- */

/* All views are borrowed. */
struct seal_record {
	struct str name;
	struct str
		hosts[SECRET_HOSTS_MAX]; /* "[http://|https://]HOST[:PORT]", see binding_allows */
	size_t hosts_n;
	struct str uses[SECRET_USES_MAX]; /* "header": any; "header:NAME"; "url" */
	size_t uses_n;
	struct str value;
};
bool secret_name_is_valid(
	struct str name); /* letters, digits, . _ -; begins with a letter or digit */
/* Name, hosts and uses; value too unless it is NULL (p). */
int seal_record_check(const struct seal_record *r, struct err *e) MUST_USE;
/* Checks r, seals it to the key and appends hex. */
int seal_record_close(const struct seal_record *r, const char *public_hex, struct buf *out,
	struct err *e) MUST_USE;
/* The plain text of a sealed record, or NULL with why. */
struct secret *seal_open(const struct seal_key *k, struct str hex, struct err *e) MUST_USE;
/* Reads a plain text; out points into it. */
int seal_record_parse(struct str plain, struct seal_record *out, struct err *e) MUST_USE;

/* ---- bindings ---- */

int binding_check(struct str binding, struct err *e) MUST_USE;
/* Without a scheme only TLS is allowed, except to this machine itself (127.0.0.0/8, ::1,
 * localhost). Without a port the scheme's own; any port of this machine itself. host as in a URL,
 * IPv6 in brackets. */
bool binding_allows(struct str binding, bool is_tls, struct str host, uint64_t port);
/* Whether a use ("header:authorization", "url") is among the declared ones. */
bool use_allows(struct str declared, struct str use);

#endif
