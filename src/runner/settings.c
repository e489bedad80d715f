/* SPDX-License-Identifier: MIT
 * The configuration of a runner, and the note of what it was made from. A private runner serves further commands for some
 * seconds; by the note a command sees that a file or a variable changed since, and has a new one started. The note
 * holds names and digests, never a value. */
#include "runner/internal.h"

#include "base/id.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/utf8.h"
#include "provider/provider.h"
#include "sandbox/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

/* Tiers from weak to strong. */
static const struct {
	const char *name;
	bool is_here;
} tiers[] = {
	{ "process", true },
	{ "cell", true },
	{ "container", true },
	{ "microvm", true },
};

static size_t
tier_rank(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(tiers); i++)
		if (strcmp(name, tiers[i].name) == 0)
			return i;
	return strcmp(name, "micro_vm") == 0 ? 3 : 1; /* auto */
}

bool
settings_needs_guest(const struct settings *s)
{
	return tier_find(settings_tier(s)) != NULL;
}

bool
settings_holds_runtime(const struct settings *s)
{
	const struct tier *t = tier_find(settings_tier(s));

	return t != NULL && t->holds_runtime;
}

bool
settings_has_risen(const struct settings *s)
{
	return s->rise == RISE_TRIED;
}

bool
settings_rise(struct settings *s)
{
	if (s->rise != RISE_NOT || strcmp(config_z(s->config, "tier"), "auto") != 0)
		return false;
	s->rise = RISE_TRIED;
	return true;
}

bool
settings_fall(struct settings *s, const char *why)
{
	if (s->rise != RISE_TRIED)
		return false;
	s->rise = RISE_FAILED;
	snprintf(s->no_container, sizeof s->no_container, "%.*s", (int)utf8_cut(str_of(why), sizeof s->no_container - 1), why);
	return true;
}

bool
settings_insists(const struct settings *s)
{
	return strcmp(config_z(s->config, "tier"), "cell") == 0;
}

const char *
settings_tier(const struct settings *s)
{
	if (s->rise == RISE_TRIED)
		return "container";
	return tiers[tier_rank(config_z(s->config, "tier"))].name;
}

/* A tier that is not here is refused, never replaced by a weaker one. */
static int
check_tier(const struct config *c, struct err *e)
{
	const char *tier = config_z(c, "tier"), *least = config_z(c, "tier_min");
	size_t rank = tier_rank(tier);

	if (!tiers[rank].is_here)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"tier_not_available: tier %s is not part of this version (use tier: cell)", tier);
	if (rank < tier_rank(least))
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"tier_below_minimum: tier %s is weaker than tier_min %s (%s)", tiers[rank].name, least,
			tiers[tier_rank(least)].is_here ? "choose a stronger tier, or lower tier_min" :
			"this version has the tiers process and cell: lower tier_min");
	return 0;
}

int
settings_load(struct settings *s, const char *home, const struct node *opts, struct err *e)
{
	const struct node *set = node_get(opts, "set");
	AUTO_FREE const char **flags = xcalloc(node_len(set) + 1, sizeof *flags);
	const char *named = node_z(opts, "config", NULL);
	struct config_sources src = { .env = environ, .flags = flags, .home_file_required = named != NULL };

	for (size_t i = 0; i < node_len(set); i++)
		flags[i] = node_at(set, i)->s.p;
	s->a = arena_new(INPUTS_TEXT_MAX);
	s->named = named != NULL ? arena_strdup(s->a, str_of(named)) : NULL;
	s->set = node_len(set) > 0 ? arena_strdup(s->a, node_at(set, node_len(set) - 1)->s) : NULL;
	s->config_file = named != NULL ? realpath(named, NULL) : xasprintf("%s/config.yaml", home);
	if (s->config_file == NULL)
		s->config_file = xstrdup(named);
	s->files[0] = CONFIG_SYSTEM_FILE;
	src.home_file = s->files[1] = arena_strdup(s->a, str_of(s->config_file));
	src.user_file = s->files[2] = path_join(s->a, home, "users/default.yaml");
	/* Before they are read: a change in between makes the note old, never wrong. */
	snprintf(s->salt, sizeof s->salt, "%s", id_new().z);
	inputs_files(s->salt, s->files, ARRAY_LEN(s->files), s->files_digest);
	if (config_load(&src, &s->config, e) != 0 || check_tier(s->config, e) != 0)
		return e->code;
	if (access(s->config_file, F_OK) != 0) {
		free(s->config_file);
		s->config_file = NULL;
	}
	return 0;
}

/* Names of the variables that keys are taken from. */
static size_t
key_names(const struct settings *s, const char **names, size_t max)
{
	const struct node *providers = config_get(s->config, "providers");
	size_t n = 0;

	for (size_t i = 0; i < node_len(providers) && n < max; i++) {
		const char *name = node_z(&providers->map.pairs[i].value, "api_key_env", NULL);

		if (name != NULL)
			names[n++] = name;
	}
	return n;
}

static void
write_note(const struct settings *s, struct json *j)
{
	const size_t max = node_len(config_get(s->config, "providers"));
	AUTO_FREE const char **names = xcalloc(max + 1, sizeof *names);
	size_t n = key_names(s, names, max), env_n = 0;
	char digest[SHA256_HEX];

	while (environ[env_n] != NULL)
		env_n++;
	inputs_env(s->salt, environ, env_n, "ITHACA__", names, n, digest);
	json_obj(j);
	json_kv_z(j, "salt", s->salt);
	if (s->named != NULL)
		json_kv_z(j, "config", s->named);
	if (s->set != NULL)
		json_kv_z(j, "set", s->set);
	json_key(j, "files");
	json_arr(j);
	for (size_t i = 0; i < ARRAY_LEN(s->files); i++)
		json_z(j, s->files[i]);
	json_arr_end(j);
	json_kv_z(j, "files_digest", s->files_digest);
	json_key(j, "env");
	json_arr(j);
	for (size_t i = 0; i < n; i++)
		json_z(j, names[i]);
	json_arr_end(j);
	json_kv_z(j, "env_digest", digest);
	json_obj_end(j);
}

void
settings_forget(const char *home)
{
	AUTO_FREE char *path = xasprintf("%s/run/inputs", home);

	(void)unlink(path);
}

int
settings_note(const struct settings *s, const char *home, bool is_private, struct err *e)
{
	AUTO_FREE char *path = xasprintf("%s/run/inputs", home);
	AUTO_CLOSE int fd = -1;
	struct buf b;
	struct json j;
	int rc;

	unlink(path);
	if (!is_private)
		return 0;
	/* Never synced: it speaks of this process alone. */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot write %s", path);
	buf_init(&b, INPUTS_TEXT_MAX);
	json_init(&j, &b);
	write_note(s, &j);
	rc = fd_write_all(fd, b.p, b.n) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot write %s", path);
	buf_fini(&b);
	return rc;
}

void
settings_fini(struct settings *s)
{
	config_unref(s->config);
	free(s->config_file);
	arena_free(s->a);
}
