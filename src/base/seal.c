/* SPDX-License-Identifier: MIT
 * Keys and boxes of sealed secrets, through libsodium. Private keys and opened records exist only
 * in locked pages. */
#include "base/seal.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

_Static_assert(SEAL_SEED_SIZE == crypto_box_SEEDBYTES, "a seed is what makes a key pair");
_Static_assert(SEAL_SALT_SIZE == crypto_pwhash_argon2id_SALTBYTES, "a salt is what Argon2id takes");
_Static_assert(SEAL_PUBLIC_HEX == 2 * crypto_box_PUBLICKEYBYTES + 1, "a public key in hex");

struct seal_key {
	unsigned char public[crypto_box_PUBLICKEYBYTES];
	char hex[SEAL_PUBLIC_HEX];
	struct secret *private;
};

static void
init(void)
{
	if (sodium_init() < 0)
		fatal("libsodium does not work here");
}

struct seal_key *
seal_key_new(const unsigned char seed[SEAL_SEED_SIZE])
{
	struct seal_key *k = xcalloc(1, sizeof(*k));
	char *room;

	init();
	k->private = secret_room(crypto_box_SECRETKEYBYTES, &room);
	if (crypto_box_seed_keypair(k->public, (unsigned char *)room, seed) != 0)
		fatal("libsodium makes no key pair");
	hex_encode(k->public, sizeof(k->public), k->hex);
	return k;
}

void
seal_key_free(struct seal_key *k)
{
	if (k == NULL)
		return;
	secret_free(k->private);
	free(k);
}

const char *
seal_key_public(const struct seal_key *k)
{
	return k->hex;
}

void
seal_random(void *p, size_t n)
{
	init();
	randombytes_buf(p, n);
}

void
seal_seed_of(struct str content, unsigned char seed[SEAL_SEED_SIZE])
{
	init();
	crypto_generichash(
		seed, SEAL_SEED_SIZE, (const unsigned char *)content.p, content.n, NULL, 0);
}

int
seal_seed_derive(struct str passphrase, const unsigned char salt[SEAL_SALT_SIZE], int64_t ops,
	int64_t mem, unsigned char seed[SEAL_SEED_SIZE], struct err *e)
{
	init();
	if (ops < (int64_t)crypto_pwhash_argon2id_OPSLIMIT_MIN || ops > SEAL_OPS_MAX ||
		mem < (int64_t)crypto_pwhash_argon2id_MEMLIMIT_MIN || mem > (int64_t)SEAL_MEM_MAX)
		return err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"Argon2id with %lld passes over %lld bytes is out of range", (long long)ops,
			(long long)mem);
	if (crypto_pwhash(seed, SEAL_SEED_SIZE, passphrase.p, passphrase.n, salt,
		    (unsigned long long)ops, (size_t)mem, crypto_pwhash_ALG_ARGON2ID13) != 0)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"no memory for Argon2id (it takes %lld MiB)", (long long)(mem / MIB));
	return 0;
}

static int
digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
hex_decode(struct str hex, unsigned char *out, size_t n)
{
	if (hex.n != 2 * n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(hex.p[2 * i]), lo = digit(hex.p[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -1;
		out[i] = (unsigned char)(hi * 16 + lo);
	}
	return 0;
}

/* ---- boxes ---- */

/* The plain text: lines of "word value", an empty line, the value as it is. It is written into a
 * locked page. */
static struct secret *
write_plain(const struct seal_record *r)
{
	size_t n = r->name.n + r->value.n + 64;
	struct secret *plain;
	struct buf head;
	char *room;

	for (size_t i = 0; i < r->hosts_n; i++)
		n += r->hosts[i].n + 8;
	for (size_t i = 0; i < r->uses_n; i++)
		n += r->uses[i].n + 8;
	buf_init(&head, n);
	buf_printf(&head, "ithaca-secret 1\nname %.*s\n", STR_FMT(r->name));
	for (size_t i = 0; i < r->hosts_n; i++)
		buf_printf(&head, "host %.*s\n", STR_FMT(r->hosts[i]));
	for (size_t i = 0; i < r->uses_n; i++)
		buf_printf(&head, "use %.*s\n", STR_FMT(r->uses[i]));
	buf_add_char(&head, '\n');
	plain = secret_room(head.n + r->value.n, &room);
	memcpy(room, head.p, head.n);
	memcpy(room + head.n, r->value.p, r->value.n);
	buf_fini(&head);
	return plain;
}

int
seal_record_close(
	const struct seal_record *r, const char *public_hex, struct buf *out, struct err *e)
{
	unsigned char public[crypto_box_PUBLICKEYBYTES];
	int rc = seal_record_check(r, e);

	init();
	if (rc != 0)
		return rc;
	if (hex_decode(str_of(public_hex), public, sizeof(public)) != 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER, "the broker's public key is malformed");
	struct secret *plain = write_plain(r);
	struct str s = secret_peek(plain);
	size_t n = s.n + crypto_box_SEALBYTES;
	AUTO_FREE unsigned char *box = xmalloc(n);
	AUTO_FREE char *hex = xmalloc(2 * n + 1);

	if (crypto_box_seal(box, (const unsigned char *)s.p, s.n, public) != 0)
		rc = err_set(e, ERR_PROTO, ERR_TO_USER,
			"nothing can be sealed to the broker's public key");
	secret_free(plain);
	if (rc != 0)
		return rc;
	hex_encode(box, n, hex);
	return buf_add_z(out, hex) == 0
		       ? 0
		       : err_set(e, ERR_LIMIT, ERR_TO_USER, "the sealed secret is too large");
}

struct secret *
seal_open(const struct seal_key *k, struct str hex, struct err *e)
{
	size_t n = hex.n / 2;
	struct secret *plain;
	char *room;

	if (hex.n > 2 * SECRET_RECORD_MAX || n <= crypto_box_SEALBYTES) {
		err_set(e, ERR_CORRUPT, ERR_TO_USER, "a sealed record of %zu digits", hex.n);
		return NULL;
	}
	AUTO_FREE unsigned char *box = xmalloc(n);
	if (hex_decode(hex, box, n) != 0) {
		err_set(e, ERR_CORRUPT, ERR_TO_USER, "a sealed record that is not lower-case hex");
		return NULL;
	}
	plain = secret_room(n - crypto_box_SEALBYTES, &room);
	if (crypto_box_seal_open((unsigned char *)room, box, n, k->public,
		    (const unsigned char *)secret_peek(k->private).p) != 0) {
		secret_free(plain);
		err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"it was changed, or sealed to another master key");
		return NULL;
	}
	return plain;
}
