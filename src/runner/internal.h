/* SPDX-License-Identifier: MIT
 * What the files of the runner share. */
#ifndef RUNNER_INTERNAL_H
#define RUNNER_INTERNAL_H

#include "base/inputs.h"
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

/* Envelopes: what each role is given at its start, and nothing more. */
struct envelope_source {
	struct config *config;
	const char *home;
	const char *config_file; /* NULL: none in use */
	bool is_private;
};
void envelope_runtime(const struct envelope_source *s, struct json *j);
/* With the keys: from the configuration, the environment, or a command's output. A command that fails is logged, and
 * calls of that provider then say that the key is missing. */
void envelope_broker(const struct envelope_source *s, struct json *j);
void envelope_shelld(const struct envelope_source *s, struct json *j);

/* The key of one provider, NULL when it has none. Owned by the caller, who wipes it. */
char *key_resolve(const char *provider, const struct node *settings);

#endif
