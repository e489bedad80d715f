/* SPDX-License-Identifier: MIT
 * What the files of the runner share. */
#ifndef RUNNER_INTERNAL_H
#define RUNNER_INTERNAL_H

#include "config/config.h"
#include "loop/wire.h"
#include "runner/runner.h"

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
