/* SPDX-License-Identifier: MIT
 * What the files of the runner share. */
#ifndef RUNNER_INTERNAL_H
#define RUNNER_INTERNAL_H

#include "base/inputs.h"
#include "base/seal.h"
#include "config/config.h"
#include "loop/wire.h"
#include "runner/runner.h"

/* The configuration, and what it was made from. */
struct settings {
	struct config *config;
	char *config_file; /* NULL: none in use */
	char salt[INPUTS_SALT_SIZE], files_digest[SHA256_HEX];
	struct arena *a;
	const char *files[3]; /* system, home, user */
	const char *named, *set; /* --config and --set, as given; NULL: not */
};
int settings_load(struct settings *s, const char *home, const struct node *opts, struct err *e) MUST_USE;
/* Writes run/inputs for a private runner, so that a command can tell whether it would start one from the same; a runner
 * that was started by itself has none. */
int settings_note(const struct settings *s, const char *home, bool is_private, struct err *e) MUST_USE;
void settings_fini(struct settings *s);

/* ---- keys.c ---- */

/* Keys that came with the environment, which no longer has them. */
struct env_keys;
struct env_keys *env_keys_take(const struct config *c);
void env_keys_free(struct env_keys *k); /* NULL is fine */

/* The key of one provider that is no reference; *out is NULL when it has none, owned by the caller, and its first_line
 * is the key. On an error there is one, but it cannot be had. */
int key_resolve(const struct node *settings, const char *home, const struct env_keys *env, struct secret **out,
	struct err *e) MUST_USE;
/* A regular file of at most max bytes that only its owner can read, ours or root's; NULs stand behind its text. */
int private_file_read(const char *path, size_t max, struct secret **out, struct err *e) MUST_USE;
struct str first_line(const struct secret *s); /* trimmed; borrowed */
char *below_home(const char *home, const char *path); /* a relative path is; owned by caller */

/* ---- master.c ---- */

struct masters {
	struct {
		const char *kind; /* "credential", "passphrase", "file" */
		struct secret *seed;
	} v[3];
	size_t n;
	struct err why; /* code set: one that was chosen cannot be had */
};
/* may_ask: a person sits at the terminal. Never fails: without a master key sealed secrets stay closed, nothing else. */
void masters_load(struct masters *m, const char *home, bool may_ask);
void masters_write(const struct masters *m, struct json *j);
void masters_fini(struct masters *m);
/* One line of master.salt: 0 or -1. */
int salt_parse(struct str line, unsigned char salt[SEAL_SALT_SIZE], int64_t *ops, int64_t *mem, struct str *public);

/* Envelopes: what each role is given at its start, and nothing more. */
struct envelope_source {
	struct config *config;
	const char *home;
	const char *config_file; /* NULL: none in use */
	bool is_private;
	const struct env_keys *env;
	const struct masters *masters;
};
void envelope_runtime(const struct envelope_source *s, struct json *j);
/* With the keys and the master keys. A key that cannot be had is logged, and calls of that provider say why. */
void envelope_broker(const struct envelope_source *s, struct json *j);
void envelope_shelld(const struct envelope_source *s, struct json *j);

#endif
