/* SPDX-License-Identifier: MIT
 * The bootstrap envelopes. Invariant: only the broker's holds keys, and only the runtime's holds the configuration. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "provider/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_MAX        (16 * KIB)
#define KEY_COMMAND_MS 30000

extern char **environ;

void
envelope_runtime(const struct envelope_source *s, struct json *j)
{
	json_obj(j);
	json_kv_z(j, "home", s->home);
	if (s->config_file != NULL)
		json_kv_z(j, "config_file", s->config_file);
	json_kv_bool(j, "private", s->is_private);
	json_key(j, "config");
	config_envelope(s->config, j);
	json_obj_end(j);
}

/* ---- keys ---- */

/* Reads what the command prints until it ends; false when it takes too long or prints too much. */
static bool
read_output(int fd, struct buf *b)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char *room = buf_reserve(b, 1024);
		ssize_t n;

		if (room == NULL || poll(&p, 1, KEY_COMMAND_MS) <= 0)
			return false;
		n = read(fd, room, 1024);
		if (n <= 0)
			return n == 0;
		buf_added(b, (size_t)n);
	}
}

static char *
key_from_command(const char *provider, const char *command)
{
	char *argv[] = { "sh", "-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	int fds[2], status = -1;
	char *key = NULL;
	struct str rest, line = STR("");
	bool ok;
	pid_t pid;
	struct buf b;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return NULL;
	buf_init(&b, KEY_MAX);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	ok = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ) == 0;
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (ok) {
		ok = read_output(fds[0], &b);
		if (!ok)
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(fds[0]);
	rest = str_trim(buf_str(&b));
	if (ok && WIFEXITED(status) && WEXITSTATUS(status) == 0 && str_next(&rest, '\n', &line))
		key = str_dup(str_trim(line));
	else
		log_error("api_key_cmd failed", LOG_S("provider", provider), LOG_I("status", status));
	wipe(b.p, b.n);
	buf_fini(&b);
	return key;
}

char *
key_resolve(const char *provider, const struct node *settings)
{
	const char *inline_key = node_z(settings, "api_key", NULL);
	const char *env = node_z(settings, "api_key_env", NULL);
	const char *command = node_z(settings, "api_key_cmd", NULL);

	if (inline_key != NULL)
		return xstrdup(inline_key);
	if (command != NULL)
		return key_from_command(provider, command);
	return env != NULL && getenv(env) != NULL && getenv(env)[0] != '\0' ? xstrdup(getenv(env)) : NULL;
}

static void
write_provider(const char *name, const struct node *settings, struct json *j)
{
	const struct provider_api *api = provider_api_find(node_str(settings, "api", STR("")));
	struct arena *a;
	char *key;

	if (api == NULL || api->build == NULL)
		return; /* has no transport */
	json_key(j, name);
	json_obj(j);
	a = arena_new(64 * KIB);
	json_kv_str(j, "base_url",
		provider_base_url(api, node_str(settings, "base_url", str_of(api->base_url)), a));
	arena_free(a);
	json_kv_z(j, "key_header", api->key_header);
	if (node_get(settings, "headers") != NULL)
		json_kv_node(j, "headers", node_get(settings, "headers"));
	if (node_z(settings, "api_key_env", NULL) != NULL)
		json_kv_z(j, "api_key_env", node_z(settings, "api_key_env", NULL)); /* for the message when it is missing */
	key = key_resolve(name, settings);
	if (key != NULL) {
		json_kv_z(j, "api_key", key);
		wipe(key, strlen(key));
		free(key);
	}
	json_kv_int(j, "connect_ms", node_int(settings, "connect_ms", 10000));
	json_kv_int(j, "idle_ms", node_int(settings, "idle_ms", 120000));
	json_kv_int(j, "connections", node_int(settings, "connections", 256));
	json_obj_end(j);
}

static void
write_log(const struct envelope_source *s, struct json *j)
{
	json_key(j, "log");
	json_obj(j);
	json_kv_z(j, "level", config_z(s->config, "log.level"));
	json_kv_z(j, "format", config_z(s->config, "log.format"));
	json_obj_end(j);
}

void
envelope_broker(const struct envelope_source *s, struct json *j)
{
	const struct node *providers = config_get(s->config, "providers");

	json_obj(j);
	json_key(j, "providers");
	json_obj(j);
	for (size_t i = 0; i < node_len(providers); i++)
		write_provider(providers->map.pairs[i].key.p, &providers->map.pairs[i].value, j);
	json_obj_end(j);
	write_log(s, j);
	json_obj_end(j);
}

void
envelope_shelld(const struct envelope_source *s, struct json *j)
{
	AUTO_FREE char *run = xasprintf("%s/run", s->home);
	AUTO_FREE char *spool = xasprintf("%s/state/spool", s->home);
	AUTO_FREE char *cells = xasprintf("%s/state/cells", s->home);

	json_obj(j);
	json_kv_z(j, "run_dir", run);
	json_kv_z(j, "spool_dir", spool);
	json_kv_z(j, "state_root", cells);
	json_kv_z(j, "home", s->home); /* hidden from every cell */
	json_kv_z(j, "mode_max", config_z(s->config, "mode_max"));
	json_kv_bool(j, "allow_basic", config_bool(s->config, "cell.allow_basic"));
	json_kv_int(j, "orphan_ms", config_int(s->config, "cell.orphan_ms"));
	write_log(s, j);
	json_obj_end(j);
}
