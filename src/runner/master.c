/* SPDX-License-Identifier: MIT
 * The master key, which opens the sealed secrets: a credential of systemd, a passphrase, or a file that is made at the
 * first start. The runner finds it, because only it knows the person and the environment; the broker holds it. All that
 * are found are handed over, the strongest first: new secrets are sealed to that one, and those that were sealed to
 * another one before can still be opened. */
#include "runner/internal.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define CREDENTIAL "ithaca-master"
#define FIRST_WORDS "ithaca-master 1 "

static void
add(struct masters *m, const char *kind, const unsigned char seed[SEAL_SEED_SIZE])
{
	m->v[m->n].kind = kind;
	m->v[m->n++].seed = secret_new((struct str){ (const char *)seed, SEAL_SEED_SIZE });
}

/* ---- a credential of systemd: of any form ---- */

static int
from_credential(struct masters *m, struct err *e)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	unsigned char seed[SEAL_SEED_SIZE];
	struct secret *text;

	if (dir == NULL)
		return 0;
	AUTO_FREE char *path = xasprintf("%s/%s", dir, CREDENTIAL);
	if (access(path, F_OK) != 0)
		return 0;
	if (private_file_read(path, MASTER_FILE_MAX, &text, e) != 0)
		return e->code;
	struct str line = first_line(text);
	if (line.n < 16) {
		secret_free(text);
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "credential %s is shorter than 16 bytes", path);
	}
	seal_seed_of(line, seed);
	add(m, "credential", seed);
	wipe(seed, sizeof seed);
	secret_free(text);
	return 0;
}

/* ---- a passphrase; master.salt says how it becomes a key and which one ---- */

struct salt {
	unsigned char bytes[SEAL_SALT_SIZE];
	int64_t ops, mem;
	char public[SEAL_PUBLIC_HEX]; /* "": not known yet */
};

int
salt_parse(struct str line, unsigned char salt[SEAL_SALT_SIZE], int64_t *ops, int64_t *mem, struct str *public)
{
	struct str word[4];

	if (!str_starts(line, FIRST_WORDS "argon2id "))
		return -1;
	line = str_sub(line, strlen(FIRST_WORDS "argon2id "), line.n);
	for (size_t i = 0; i < ARRAY_LEN(word); i++)
		if (!str_next(&line, ' ', &word[i]))
			return -1;
	if (line.n > 0 || hex_decode(word[0], salt, SEAL_SALT_SIZE) != 0 || str_i64(word[1], ops) != 0 ||
		str_i64(word[2], mem) != 0 || word[3].n != SEAL_PUBLIC_HEX - 1)
		return -1;
	*public = word[3];
	return 0;
}

static int
read_salt(const char *path, struct salt *s, struct err *e)
{
	AUTO_FREE char *text = NULL;
	struct str public;
	size_t n;

	if (file_read(path, MASTER_FILE_MAX, &text, &n, e) != 0) {
		if (e->code != ERR_NOT_FOUND)
			return e->code;
		e->code = 0; /* the first time */
		*s = (struct salt){ .ops = SEAL_OPS, .mem = SEAL_MEM };
		seal_random(s->bytes, sizeof s->bytes);
		return 0;
	}
	if (salt_parse(str_trim((struct str){ text, n }), s->bytes, &s->ops, &s->mem, &public) != 0)
		return err_set(e, ERR_CORRUPT, ERR_TO_USER, "%s is damaged (restore it from a backup)", path);
	memcpy(s->public, public.p, public.n);
	return 0;
}

static int
write_salt(const char *path, const struct salt *s, struct err *e)
{
	char hex[2 * SEAL_SALT_SIZE + 1];
	AUTO_FREE char *text = NULL;

	hex_encode(s->bytes, sizeof s->bytes, hex);
	text = xasprintf(FIRST_WORDS "argon2id %s %lld %lld %s\n", hex, (long long)s->ops, (long long)s->mem, s->public);
	return file_write(path, str_of(text), 0600, e);
}

/* From the terminal, without echo. */
static int
ask(struct secret **out, struct err *e)
{
	AUTO_CLOSE int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	static const char question[] = "Passphrase of the secrets of Ithaca: ";
	struct termios was, quiet;
	char *room;
	ssize_t n;

	if (tty < 0 || tcgetpgrp(tty) != getpgrp() || tcgetattr(tty, &was) != 0)
		return err_set(e, ERR_AUTH, ERR_TO_USER,
			"the secrets wait for their passphrase (set ITHACA_PASSPHRASE_FILE, or start ithacad on a terminal)");
	quiet = was;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	(void)tcsetattr(tty, TCSAFLUSH, &quiet);
	(void)fd_write_all(tty, question, sizeof question - 1);
	*out = secret_room(MASTER_FILE_MAX, &room);
	n = read(tty, room, MASTER_FILE_MAX);
	(void)tcsetattr(tty, TCSAFLUSH, &was);
	(void)fd_write_all(tty, "\n", 1);
	if (n > 1)
		return 0;
	secret_free(*out);
	return err_set(e, ERR_AUTH, ERR_TO_USER, "no passphrase was given, so the secrets stay closed");
}

static int
open_with(struct masters *m, const char *path, struct str passphrase, struct err *e)
{
	unsigned char seed[SEAL_SEED_SIZE];
	struct salt s = { 0 };
	struct seal_key *key;
	int rc = read_salt(path, &s, e);

	if (rc == 0 && passphrase.n < 8)
		rc = err_set(e, ERR_AUTH, ERR_TO_USER, "the passphrase is shorter than 8 bytes");
	if (rc == 0)
		rc = seal_seed_derive(passphrase, s.bytes, s.ops, s.mem, seed, e);
	if (rc != 0)
		return rc;
	key = seal_key_new(seed);
	if (s.public[0] == '\0') {
		memcpy(s.public, seal_key_public(key), SEAL_PUBLIC_HEX);
		rc = write_salt(path, &s, e);
	} else if (strcmp(s.public, seal_key_public(key)) != 0) {
		rc = err_set(e, ERR_AUTH, ERR_TO_USER, "the passphrase is not the one of %s", path);
	}
	seal_key_free(key);
	if (rc == 0)
		add(m, "passphrase", seed);
	wipe(seed, sizeof seed);
	return rc;
}

static int
from_passphrase(struct masters *m, const char *home, bool may_ask, struct err *e)
{
	const char *file = getenv("ITHACA_PASSPHRASE_FILE");
	AUTO_FREE char *salt = xasprintf("%s/master.salt", home);
	struct secret *text = NULL;
	int rc;

	if (file != NULL && file[0] != '\0')
		rc = private_file_read(file, MASTER_FILE_MAX, &text, e);
	else if (access(salt, F_OK) != 0)
		return 0; /* nobody chose one */
	else if (may_ask)
		rc = ask(&text, e);
	else
		rc = err_set(e, ERR_AUTH, ERR_TO_USER,
			"the secrets wait for their passphrase (set ITHACA_PASSPHRASE_FILE to a file that holds it)");
	if (rc != 0)
		return rc;
	rc = open_with(m, salt, first_line(text), e);
	secret_free(text);
	return rc;
}

/* ---- a file, made where there is nothing better ---- */

static int
make_file(const char *path, unsigned char seed[SEAL_SEED_SIZE], struct err *e)
{
	char text[sizeof FIRST_WORDS + 4 + 2 * SEAL_SEED_SIZE + 2];
	size_t n = (size_t)snprintf(text, sizeof text, FIRST_WORDS "key ");
	int rc;

	seal_random(seed, SEAL_SEED_SIZE);
	hex_encode(seed, SEAL_SEED_SIZE, text + n);
	n += 2 * SEAL_SEED_SIZE;
	text[n++] = '\n';
	rc = file_write(path, (struct str){ text, n }, 0600, e);
	wipe(text, sizeof text);
	return rc;
}

static int
from_file(struct masters *m, const char *home, struct err *e)
{
	struct err own = { 0 };
	AUTO_FREE char *path = xasprintf("%s/master.key", home);
	unsigned char seed[SEAL_SEED_SIZE];
	struct secret *text;
	struct str line;
	int rc = 0;

	if (access(path, F_OK) != 0) {
		if (m->n == 0 && e->code == 0 && (rc = make_file(path, seed, &own)) == 0)
			add(m, "file", seed);
		wipe(seed, sizeof seed);
		return rc == 0 || e->code != 0 ? rc : err_copy(e, &own);
	}
	if (private_file_read(path, MASTER_FILE_MAX, &text, &own) != 0)
		return e->code != 0 ? 0 : err_copy(e, &own);
	line = first_line(text);
	if (!str_starts(line, FIRST_WORDS "key ") ||
		hex_decode(str_sub(line, strlen(FIRST_WORDS "key "), line.n), seed, sizeof seed) != 0)
		rc = err_set(&own, ERR_CORRUPT, ERR_TO_USER, "%s is damaged (restore it from a backup)", path);
	else
		add(m, "file", seed);
	wipe(seed, sizeof seed);
	secret_free(text);
	return rc == 0 || e->code != 0 ? rc : err_copy(e, &own); /* the first reason is the one to repair */
}

void
masters_load(struct masters *m, const char *home, bool may_ask)
{
	struct err *e = &m->why;

	if (from_credential(m, e) == 0)
		(void)from_passphrase(m, home, may_ask, e);
	/* Where a stronger one was chosen and cannot be had, the file opens what was sealed to it before, but nothing
	 * new is sealed: the broker sees that there is an error. */
	(void)from_file(m, home, e);
	if (e->code != 0)
		log_warn("sealed secrets cannot all be opened", LOG_E(e));
}

void
masters_write(const struct masters *m, struct json *j)
{
	char hex[2 * SEAL_SEED_SIZE + 1];

	json_key(j, "masters");
	json_arr(j);
	for (size_t i = 0; i < m->n; i++) {
		hex_encode((const unsigned char *)secret_peek(m->v[i].seed).p, SEAL_SEED_SIZE, hex);
		json_obj(j);
		json_kv_z(j, "kind", m->v[i].kind);
		json_kv_z(j, "seed", hex);
		json_obj_end(j);
	}
	json_arr_end(j);
	wipe(hex, sizeof hex);
	if (m->why.code != 0)
		json_kv_z(j, "master_error", m->why.msg);
}

void
masters_fini(struct masters *m)
{
	for (size_t i = 0; i < m->n; i++)
		secret_free(m->v[i].seed);
}
