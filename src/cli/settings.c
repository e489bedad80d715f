/* SPDX-License-Identifier: MIT
 * Whether a private runner that serves already was started from what this command would start one from: configuration
 * files, ITHACA__ variables, keys, --config and --tier. It reads the note that the runner left in run/inputs. */
#include <stdlib.h>
#include "base/inputs.h"
#include "base/path.h"
#include "cli/internal.h"

extern char **environ;

/* The texts of a list of strings. */
static const char **
texts(struct arena *a, const struct node *list, size_t *n)
{
	const char **out = arena_alloc(a, (node_len(list) + 1) * sizeof(*out));

	*n = 0;
	for (size_t i = 0; i < node_len(list); i++)
		if (node_is(node_at(list, i), NODE_STR))
			out[(*n)++] = node_at(list, i)->s.p;
	return out;
}

static bool
is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* A variable of -e or --env-file that the runner took no note of: nobody knows what it was then. */
static bool
has_unknown(const struct cli *c, const char *const *names, size_t n)
{
	for (size_t i = 0; i < c->env_n; i++) {
		struct str name = { c->env[i], strcspn(c->env[i], "=") };
		bool is_known = str_starts(name, "ITHACA__");

		for (size_t k = 0; k < n && !is_known; k++)
			is_known = str_is(name, names[k]);
		if (!is_known)
			return true;
	}
	return false;
}

static bool
env_differs(const struct cli *c, const struct node *note, struct arena *a)
{
	size_t n, names_n, at = 0;
	const char **names = texts(a, node_get(note, "env"), &names_n);
	char digest[SHA256_HEX];
	char **env;

	for (n = 0; environ[n]; n++)
		;
	env = arena_alloc(a, (n + c->env_n + 1) * sizeof(*env));
	for (size_t i = 0; i < n; i++)
		env[at++] = environ[i];
	for (size_t i = 0; i < c->env_n; i++)
		env[at++] = c->env[i];
	inputs_env(node_z(note, "salt", ""), env, at, "ITHACA__", names, names_n, digest);
	return strcmp(digest, node_z(note, "env_digest", "")) != 0 || has_unknown(c, names, names_n);
}

static bool
files_differ(const struct node *note, struct arena *a)
{
	size_t n;
	const char **files = texts(a, node_get(note, "files"), &n);
	char digest[SHA256_HEX];

	inputs_files(node_z(note, "salt", ""), files, n, digest);
	return strcmp(digest, node_z(note, "files_digest", "")) != 0;
}

const char *
settings_differ(const struct cli *c, struct arena *a, bool *noted)
{
	const char *set = c->tier ? arena_printf(a, "tier=%s", c->tier) : NULL;
	AUTO_FREE char *text = NULL;
	const struct node *note;
	struct err e;
	size_t n;

	if (file_read(path_join(a, c->home, "run/inputs"), INPUTS_TEXT_MAX, &text, &n, &e) != 0 ||
		json_parse(a, (struct str){ text, n }, &note, &e) != 0)
		return NULL;
	if (noted)
		*noted = true;
	if (!is_same(node_z(note, "config", NULL), c->config))
		return "--config names another file";
	if (!is_same(node_z(note, "set", NULL), set))
		return "--tier is another one";
	if (files_differ(note, a))
		return "a configuration file changed";
	return env_differs(c, note, a) ? "an environment variable of it changed" : NULL;
}
