/* SPDX-License-Identifier: MIT
 * From "provider/model" to what a call needs to know: API, window, prices, times. Reads the
 * configuration and the snapshot of catalog_rows.c; configuration wins. Money is micro-dollars in
 * int64 and every part of a cost is rounded up, so that a sum is never below what the vendor
 * charges. */
#include "provider/internal.h"

#include "base/limits.h"

#define CONTEXT_DEFAULT    128000
#define CONNECT_MS_DEFAULT 10000
#define IDLE_MS_DEFAULT    120000
#define RETRIES_DEFAULT    4
#define MTOK               1000000
#define NAMES_MAX          64
#define BYTES_PER_TOKEN                                                                            \
	3 /* below what tokenizers reach on prose and code, so that the bound holds */

static const struct {
	const char *name, *api, *key_env;
} builtin[] = {
	{ "anthropic", "anthropic", "ANTHROPIC_API_KEY" },
	{ "openai", "openai-chat", "OPENAI_API_KEY" },
	{ "offline", "offline", "" },
};

/* ---- providers ---- */

static const struct node *
provider_node(const struct config *c, struct str name)
{
	return node_get_str(config_get(c, "providers"), name);
}

static int
unknown_provider(const struct config *c, struct str name, struct err *e)
{
	const struct node *all = config_get(c, "providers");
	const char *names[NAMES_MAX];
	const char *near;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		names[n++] = builtin[i].name;
	for (size_t i = 0; i < node_len(all) && n < NAMES_MAX; i++)
		names[n++] = all->map.pairs[i].key.p;
	near = str_nearest(name, names, n);
	if (near)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"there is no provider '%.*s' (did you mean '%s'?)", STR_FMT(name), near);
	return err_set(e, ERR_CONFIG, ERR_TO_USER,
		"there is no provider '%.*s' (anthropic, openai and offline are built in; add "
		"others below providers:)",
		STR_FMT(name));
}

int
provider_resolve(const struct config *c, struct str name, struct arena *a,
	struct provider_info *out, struct err *e)
{
	const struct node *row = provider_node(c, name);
	struct str api = node_str(row, "api", STR("")), url = node_str(row, "base_url", STR(""));
	struct str key_env = node_str(row, "api_key_env", STR(""));
	struct provider_info info = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
		if (!str_is(name, builtin[i].name))
			continue;
		api = api.n ? api : str_of(builtin[i].api);
		/* A server of the user's own does not get the vendor's key unless it was named for
		 * it. */
		if (key_env.n == 0 && url.n == 0)
			key_env = str_of(builtin[i].key_env);
	}
	if (api.n == 0 && !row)
		return unknown_provider(c, name, e);
	info.api = provider_api_find(api);
	if (!info.api)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"providers.%.*s.api: '%.*s' is not one of openai-chat, openai-responses, "
			"anthropic, gemini, ollama, offline",
			STR_FMT(name), STR_FMT(api));
	url = provider_base_url(info.api, url.n ? url : str_of(info.api->base_url), a);
	info.name = arena_str(a, name);
	info.base_url = url;
	info.key_env = arena_str(a, key_env);
	info.is_own_server = info.api->is_hosted && str_is(url, info.api->base_url);
	*out = info;
	return 0;
}

/* ---- models ---- */

/* "claude-sonnet-4-5-20250929" and "gpt-5-2025-08-07" are dated names of catalog models. */
static bool
is_dated(struct str model, const char *base)
{
	size_t n = strlen(base), digits = 0;

	if (!str_starts(model, base) || model.n < n + 2 || model.p[n] != '-')
		return false;
	for (size_t i = n + 1; i < model.n; i++) {
		if (model.p[i] >= '0' && model.p[i] <= '9')
			digits++;
		else if (model.p[i] != '-')
			return false;
	}
	return digits == 8;
}

static const struct catalog_row *
catalog_find(const char *api, struct str model)
{
	for (size_t i = 0; i < catalog_rows_n; i++)
		if (strcmp(catalog_rows[i].api, api) == 0 &&
			(str_is(model, catalog_rows[i].model) ||
				is_dated(model, catalog_rows[i].model)))
			return &catalog_rows[i];
	return NULL;
}

static size_t
common_prefix(struct str s, const char *z)
{
	size_t k = 0;

	while (k < s.n && z[k] && z[k] == s.p[k])
		k++;
	return k;
}

/* A typing mistake is near by distance; another version of a family shares the longest beginning.
 */
static int
unknown_model(const struct provider_info *p, struct str model, struct err *e)
{
	const char *names[NAMES_MAX];
	const char *near;
	size_t n = 0;

	for (size_t i = 0; i < catalog_rows_n && n < NAMES_MAX; i++)
		if (strcmp(catalog_rows[i].api, p->api->name) == 0)
			names[n++] = catalog_rows[i].model;
	near = str_nearest(model, names, n);
	if (!near && n > 0) {
		near = names[0];
		for (size_t i = 1; i < n; i++)
			if (common_prefix(model, names[i]) > common_prefix(model, near))
				near = names[i];
	}
	return err_set(e, ERR_CONFIG, ERR_TO_USER,
		"provider %.*s has no model '%.*s' in the catalog (nearest: %.*s/%s; others: "
		"catalog.models, or a base_url)",
		STR_FMT(p->name), STR_FMT(model), STR_FMT(p->name), near ? near : "");
}

static int64_t
price(const struct node *row, const char *key, int64_t dflt)
{
	const struct node *n = node_get(row, key);
	int64_t microusd;

	return n && field_money(n, &microusd) == 0 ? microusd : dflt;
}

static void
apply_row(struct model_info *m, const struct catalog_row *r, bool with_prices)
{
	m->context_tokens = r->context_tokens;
	m->max_output_tokens = r->max_output_tokens;
	if (!with_prices)
		return;
	m->input_microusd_per_mtok = r->input;
	m->output_microusd_per_mtok = r->output;
	m->cached_microusd_per_mtok = r->cached;
	m->cache_write_microusd_per_mtok = r->cache_write;
	m->long_tokens = r->long_tokens;
	m->long_input_percent = r->long_input_percent;
	m->long_output_percent = r->long_output_percent;
}

/* Numbers that the configuration gives replace those of the snapshot; a cache price that nobody
 * gave is the input price, which is never too low for a read. */
static void
apply_config(struct model_info *m, const struct node *row)
{
	bool has_input = node_get(row, "input_usd_per_mtok") != NULL;

	m->context_tokens = node_int(row, "context", m->context_tokens);
	m->max_output_tokens = node_int(row, "max_output", m->max_output_tokens);
	m->input_microusd_per_mtok = price(row, "input_usd_per_mtok", m->input_microusd_per_mtok);
	m->output_microusd_per_mtok =
		price(row, "output_usd_per_mtok", m->output_microusd_per_mtok);
	m->cached_microusd_per_mtok = price(row, "cached_usd_per_mtok",
		has_input ? m->input_microusd_per_mtok : m->cached_microusd_per_mtok);
	m->cache_write_microusd_per_mtok = price(row, "cache_write_usd_per_mtok",
		has_input ? m->input_microusd_per_mtok : m->cache_write_microusd_per_mtok);
	if (has_input)
		m->long_tokens = 0;
}

static int
split_name(struct str name, struct str *provider, struct str *model, struct err *e)
{
	ptrdiff_t slash = str_find_char(name, '/');

	if (slash <= 0 || (size_t)slash + 1 == name.n)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"model '%.*s': expected provider/model, for instance "
			"anthropic/claude-sonnet-5-5",
			STR_FMT(name));
	*provider = str_sub(name, 0, (size_t)slash);
	*model = str_sub(name, (size_t)slash + 1, name.n);
	return 0;
}

int
model_resolve(const struct config *c, struct str name, struct arena *a, struct model_info *out,
	struct err *e)
{
	const struct node *override = node_get_str(config_get(c, "catalog.models"), name), *conf;
	const struct catalog_row *row;
	struct provider_info p;
	struct str provider, model;
	int rc = split_name(name, &provider, &model, e);

	if (rc == 0)
		rc = provider_resolve(c, provider, a, &p, e);
	if (rc != 0)
		return rc;
	row = catalog_find(p.api->name, model);
	if (!row && !override && p.is_own_server)
		return unknown_model(&p, model, e);
	conf = provider_node(c, provider);
	*out = (struct model_info){
		.provider = p.name,
		.model = arena_str(a, model),
		.api = p.api,
		.is_own_server = p.is_own_server,
		.input = INPUT_TEXT | INPUT_IMAGE | INPUT_PDF | INPUT_AUDIO,
		.has_tools = true,
		.has_reasoning = true,
		.has_schema = true,
		.context_tokens = CONTEXT_DEFAULT,
		.connect_ms = node_int(conf, "connect_ms", CONNECT_MS_DEFAULT),
		.idle_ms = node_int(conf, "idle_ms", IDLE_MS_DEFAULT),
		.retries = (int)node_int(conf, "retries", RETRIES_DEFAULT),
	};
	if (row)
		apply_row(out, row, p.is_own_server);
	apply_config(out, override);
	return 0;
}

/* ---- money ---- */

static int64_t
part_cost(int64_t tokens, int64_t per_mtok, int64_t percent)
{
	__int128 microusd = (__int128)MAX(tokens, 0) * MAX(per_mtok, 0) * percent;

	microusd = (microusd + (__int128)MTOK * 100 - 1) / ((__int128)MTOK * 100);
	return microusd > INT64_MAX / 8 ? INT64_MAX / 8 : (int64_t)microusd;
}

int64_t
model_cost(const struct model_info *m, const struct model_usage *u)
{
	bool is_long = m->long_tokens > 0 && u->input_tokens > m->long_tokens;
	int64_t in = is_long ? m->long_input_percent : 100,
		out = is_long ? m->long_output_percent : 100;
	int64_t cached = MIN(u->cached_tokens, u->input_tokens);
	int64_t written = MIN(u->cache_write_tokens, u->input_tokens - cached);

	return part_cost(u->input_tokens - cached - written, m->input_microusd_per_mtok, in) +
	       part_cost(cached, m->cached_microusd_per_mtok, in) +
	       part_cost(written, m->cache_write_microusd_per_mtok, in) +
	       part_cost(u->output_tokens, m->output_microusd_per_mtok, out);
}

int64_t
model_cost_bound(const struct model_info *m, size_t input_bytes)
{
	int64_t tokens = (int64_t)((MIN(input_bytes, (size_t)INT64_MAX / 8) + BYTES_PER_TOKEN - 1) /
				   BYTES_PER_TOKEN);
	bool is_long = m->long_tokens > 0 && tokens > m->long_tokens;

	return part_cost(tokens, MAX(m->input_microusd_per_mtok, m->cache_write_microusd_per_mtok),
		       is_long ? m->long_input_percent : 100) +
	       part_cost(m->max_output_tokens > 0 ? m->max_output_tokens : m->context_tokens,
		       m->output_microusd_per_mtok, is_long ? m->long_output_percent : 100);
}
