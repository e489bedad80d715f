/* SPDX-License-Identifier: MIT
 * The bootstrap envelopes. Invariant: only the broker's holds keys, and only the runtime's holds the configuration. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/secret.h"
#include "provider/provider.h"
#include "sandbox/tier.h"

#include <stdlib.h>

void
envelope_runtime(const struct envelope_source *s, struct json *j)
{
	json_obj(j);
	json_kv_z(j, "home", s->home);
	if (s->config_file != NULL)
		json_kv_z(j, "config_file", s->config_file);
	json_kv_z(j, "tier", s->tier);
	json_kv_bool(j, "private", s->is_private);
	json_key(j, "config");
	config_envelope(s->config, j);
	json_obj_end(j);
}

/* A header's value may be a reference, which the broker resolves; so may the key. */
static void
write_key(const struct envelope_source *s, const char *name, const struct node *settings, struct json *j)
{
	const struct node *reference = node_get(settings, "api_key");
	struct secret *key = NULL;
	struct err e = { 0 };

	if (field_secret_name(reference).n > 0) {
		json_kv_node(j, "api_key", reference);
		return;
	}
	if (key_resolve(settings, s->home, s->env, &key, &e) != 0) {
		log_error("a provider has no key", LOG_S("provider", name), LOG_E(&e));
		json_kv_z(j, "key_error", e.msg);
	}
	if (key != NULL)
		json_kv_str(j, "api_key", first_line(key));
	secret_free(key);
}

static void
write_provider(const struct envelope_source *s, const char *name, const struct node *settings, struct json *j)
{
	static const char *const numbers[] = { "connect_ms", "idle_ms", "total_ms", "connections" };
	const struct provider_api *api = provider_api_find(node_str(settings, "api", STR("")));
	struct arena *a;
	const char *env = node_z(settings, "api_key_env", NULL), *ca = node_z(settings, "ca_file", NULL);

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
	if (env != NULL)
		json_kv_z(j, "api_key_env", env); /* for the message when it is missing */
	write_key(s, name, settings, j);
	if (ca != NULL) {
		AUTO_FREE char *path = below_home(s->home, ca);

		json_kv_z(j, "ca_file", path);
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		json_kv_int(j, numbers[i], node_int(settings, numbers[i], 0));
	json_obj_end(j);
}

/* The catalog is asked for where the operator says, like a model: the broker knows no other address. */
static void
write_catalog(const struct envelope_source *s, struct json *j)
{
	struct str base, path;

	if (catalog_url_split(str_of(config_z(s->config, "catalog.url")), &base, &path, NULL) != 0)
		return;
	json_key(j, CATALOG_UPSTREAM);
	json_obj(j);
	json_kv_str(j, "base_url", base);
	json_obj_end(j);
}

/* What cells reach through /svc/NAME of their proxy: upstreams like any other, with a key that no cell sees. */
static void
write_service(const struct envelope_source *s, const char *name, const struct node *settings, struct json *j)
{
	const struct node *key = node_get(settings, "key");
	const char *ca = node_z(settings, "ca_file", NULL);

	json_key(j, name);
	json_obj(j);
	json_kv_z(j, "base_url", node_z(settings, "url", ""));
	json_kv_z(j, "key_header", node_z(settings, "header", "Authorization: Bearer "));
	if (key != NULL)
		json_kv_node(j, "api_key", key);
	if (ca != NULL) {
		AUTO_FREE char *path = below_home(s->home, ca);

		json_kv_z(j, "ca_file", path);
	}
	json_obj_end(j);
}

static void
write_services(const struct envelope_source *s, struct json *j)
{
	const struct node *services = config_get(s->config, "egress.services");

	json_key(j, "services");
	json_obj(j);
	for (size_t i = 0; i < node_len(services); i++)
		write_service(s, services->map.pairs[i].key.p, &services->map.pairs[i].value, j);
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
		write_provider(s, providers->map.pairs[i].key.p, &providers->map.pairs[i].value, j);
	write_catalog(s, j);
	json_obj_end(j);
	write_services(s, j);
	masters_write(s->masters, j);
	write_log(s, j);
	json_obj_end(j);
}

void
envelope_shelld(const struct envelope_source *s, struct json *j)
{
	AUTO_FREE char *run = xasprintf("%s/run%s", s->home, tier_find(s->tier) != NULL ? "/guest" : "");
	AUTO_FREE char *spool = xasprintf("%s/state/spool", s->home);
	AUTO_FREE char *cells = xasprintf("%s/state/cells", s->home);
	struct arena *a = arena_new(64 * KIB);

	json_obj(j);
	json_key(j, "hide"); /* whatever directory a session works in */
	json_arr(j);
	json_z(j, path_join(a, gateway_user_dir(s->config, s->home, a), "vault"));
	json_arr_end(j);
	arena_free(a);
	json_kv_z(j, "run_dir", run);
	json_kv_z(j, "spool_dir", spool);
	json_kv_z(j, "state_root", cells);
	json_kv_z(j, "home", s->home); /* hidden from every cell */
	leaves_write(s->home, j);
	json_kv_z(j, "tier", s->tier);
	json_kv_z(j, "no_container", s->no_container);
	json_kv_bool(j, "files_only", strcmp(s->tier, "process") == 0);
	json_kv_z(j, "mode_max", config_z(s->config, "mode_max"));
	json_kv_bool(j, "allow_basic", config_bool(s->config, "cell.allow_basic"));
	json_kv_int(j, "orphan_ms", config_int(s->config, "cell.orphan_ms"));
	write_log(s, j);
	json_obj_end(j);
}
