/* SPDX-License-Identifier: MIT
 * From "provider/model" to what a call needs to know: API, window, abilities, prices, times. Lays
 * the snapshot, the fetched catalog and the configuration over each other, in this order, field by
 * field.
 */
#include "provider/catalog.h"

#include "base/limits.h"

#define CONTEXT_DEFAULT    128000
#define CONNECT_MS_DEFAULT 10000
#define IDLE_MS_DEFAULT    120000
#define RETRIES_DEFAULT    4
#define NAMES_MAX          512

/* A row whose API is not part of this build is as if it were not there. */
static const struct builtin {
	const char *name, *api;
	const char *base_url; /* NULL: the API's own */
	const char *key_env, *vendor;
} builtin[] = {
	{ "anthropic", "anthropic", NULL, "ANTHROPIC_API_KEY", "anthropic" },
	{ "openai", "openai-chat", NULL, "OPENAI_API_KEY", "openai" },
	{ "google", "gemini", NULL, "GEMINI_API_KEY", "google" },
	{ "ollama", "ollama", NULL, "", "open" },
	{ "openrouter", "openai-chat", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY",
		"openrouter" },
	{ "offline", "offline", NULL, "", "" },
};

/* Whose models a server of another name has that speaks the API, and whose the API's own server
 * has. */
static const struct {
	const char *api, *vendor;
} api_vendors[] = {
	{ "anthropic", "anthropic" },
	{ "openai-chat", "openai" },
	{ "openai-responses", "openai" },
	{ "gemini", "google" },
};

/* ---- providers ---- */

static const struct node *
provider_node(const struct config *c, struct str name)
{
	return node_get_str(config_get(c, "providers"), name);
}

static const struct builtin *
builtin_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		if (str_is(name, builtin[i].name) && provider_api_find(str_of(builtin[i].api)))
			return &builtin[i];
	return NULL;
}

const char *
provider_builtin_name(size_t i)
{
	return i < ARRAY_LEN(builtin) ? builtin[i].name : NULL;
}

static int
unknown_provider(const struct config *c, struct str name, struct err *e)
{
	const struct node *all = config_get(c, "providers");
	const char *names[NAMES_MAX];
	const char *near;
	struct buf known;
	size_t n = 0;

	buf_init(&known, ERR_MSG_MAX);
	for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
		if (!builtin_find(str_of(builtin[i].name)))
			continue;
		names[n++] = builtin[i].name;
		buf_printf(&known, "%s%s", known.n ? ", " : "", builtin[i].name);
	}
	for (size_t i = 0; i < node_len(all) && n < NAMES_MAX; i++)
		names[n++] = all->map.pairs[i].key.p;
	near = str_nearest(name, names, n);
	if (near)
		err_set(e, ERR_CONFIG, ERR_TO_USER,
			"there is no provider '%.*s' (did you mean '%s'?)", STR_FMT(name), near);
	else
		err_set(e, ERR_CONFIG, ERR_TO_USER,
			"there is no provider '%.*s' (built in: %s; add others below providers:)",
			STR_FMT(name), buf_z(&known));
	buf_fini(&known);
	return ERR_CONFIG;
}

int
provider_resolve(const struct config *c, struct str name, struct arena *a,
	struct provider_info *out, struct err *e)
{
	const struct node *row = provider_node(c, name);
	const struct builtin *b = builtin_find(name);
	struct str api = node_str(row, "api", STR("")), url = node_str(row, "base_url", STR(""));
	struct str key_env = node_str(row, "api_key_env", STR(""));
	struct provider_info info = { 0 };

	/* A server of the user's own does not get the vendor's key unless it was named for it. */
	if (b && key_env.n == 0 && url.n == 0)
		key_env = str_of(b->key_env);
	if (b && api.n == 0)
		api = str_of(b->api);
	if (b && url.n == 0 && b->base_url && str_is(api, b->api))
		url = str_of(b->base_url);
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

/* ---- vendors ---- */

/* Whose rows are about the models of a provider. */
struct vendor {
	const char *name; /* "": nobody's */
	bool has_prices;  /* what the vendor asks is what this server asks */
	bool is_closed;   /* a model without a row is none */
};

static struct vendor
vendor_of(const struct config *c, const struct provider_info *p)
{
	const struct node *row = provider_node(c, p->name);
	const struct builtin *b = builtin_find(p->name);
	struct vendor v = { .name = node_z(row, "catalog", NULL), .is_closed = p->is_own_server };
	const char *usual = b && b->base_url ? b->base_url : p->api->base_url;
	bool is_builtin =
		b && strcmp(b->api, p->api->name) == 0 && usual && str_is(p->base_url, usual);

	v.has_prices = v.name || is_builtin || p->is_own_server;
	if (!v.name && is_builtin)
		v.name = b->vendor;
	for (size_t i = 0; i < ARRAY_LEN(api_vendors) && !v.name; i++)
		if (strcmp(api_vendors[i].api, p->api->name) == 0)
			v.name = api_vendors[i].vendor;
	if (!v.name)
		v.name = strcmp(p->api->name, "ollama") == 0 ? "open" : "";
	return v;
}

static void
add_vendor(const char **names, size_t *n, const char *name)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(names[i], name) == 0)
			return;
	if (name[0] && *n < NAMES_MAX)
		names[(*n)++] = name;
}

const char *const *
catalog_vendors(const struct config *c, struct arena *a)
{
	const struct node *all = config_get(c, "providers");
	const char **names = arena_alloc(a, (NAMES_MAX + 1) * sizeof(*names));
	struct provider_info p;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		if (strcmp(builtin[i].vendor, "open") != 0)
			add_vendor(names, &n, builtin[i].vendor);
	for (size_t i = 0; i < node_len(all); i++)
		if (provider_resolve(c, all->map.pairs[i].key, a, &p, NULL) == 0 &&
			strcmp(vendor_of(c, &p).name, "open") != 0)
			add_vendor(names, &n, vendor_of(c, &p).name);
	return names;
}

int
catalog_url_split(struct str url, struct str *base, struct str *path, struct err *e)
{
	ptrdiff_t host = str_find(url, STR("://")), slash;
	size_t at = host < 0 ? 0 : (size_t)host + 3;

	slash = str_find_char(str_sub(url, at, url.n), '/');
	if (host < 0 || slash <= 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"catalog.url: '%.*s' is not a URL with a path (as in "
			"https://models.dev/api.json)",
			(int)MIN(url.n, 100), url.p);
	*base = str_sub(url, 0, at + (size_t)slash);
	*path = str_sub(url, at + (size_t)slash, url.n);
	return 0;
}

/* What is known about one model, weakest first. */
struct layers {
	const struct catalog_row *snapshot, *fetched;
	struct catalog_row config;
};

static void
find_layers(const struct config *c, const char *vendor, struct str name, struct str model,
	struct layers *out)
{
	const struct catalog *fetched = config_attached(c);
	const struct node *settings = node_get_str(config_get(c, "catalog.models"), name);

	out->snapshot = rows_find(catalog_rows, catalog_rows_n, vendor, model);
	out->fetched = fetched ? rows_find(fetched->rows, fetched->n, vendor, model) : NULL;
	if (!out->snapshot && !out->fetched)
		out->snapshot = family_find(model);
	row_from_config(settings, &out->config);
	if (settings && !out->config.has) /* an empty entry: "I know that it is there" */
		out->config.has = HAS_CONTEXT, out->config.context_tokens = CONTEXT_DEFAULT;
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
static const char *
nearest_model(const struct config *c, const char *vendor, struct str model)
{
	const struct catalog *fetched = config_attached(c);
	const char *names[NAMES_MAX], *near;
	size_t n = 0;

	for (size_t i = 0; i < catalog_rows_n && n < NAMES_MAX; i++)
		if (strcmp(catalog_rows[i].vendor, vendor) == 0)
			names[n++] = catalog_rows[i].model;
	for (size_t i = 0; fetched && i < fetched->n && n < NAMES_MAX; i++)
		if (strcmp(fetched->rows[i].vendor, vendor) == 0)
			names[n++] = fetched->rows[i].model;
	near = str_nearest(model, names, n);
	if (near || n == 0)
		return near;
	near = names[0];
	for (size_t i = 1; i < n; i++)
		if (common_prefix(model, names[i]) > common_prefix(model, near))
			near = names[i];
	return near;
}

static int
unknown_model(const struct config *c, const struct provider_info *p, const char *vendor,
	struct str model, struct err *e)
{
	const char *near = nearest_model(c, vendor, model);

	return err_set(e, ERR_CONFIG, ERR_TO_USER,
		"provider %.*s has no model '%.*s' in the catalog (nearest: %.*s/%s; or "
		"`ithaca catalog fetch`, catalog.models, --allow-unknown-model)",
		STR_FMT(p->name), STR_FMT(model), STR_FMT(p->name), near ? near : "");
}

/* ---- models ---- */

/* What writing to a cache costs where a new price of input stands alone: as much above it as
 * before, or as the vendor of the API asks. */
static int64_t
usual_cache_write(const struct model_info *m, int64_t input)
{
	__int128 of = m->input_microusd_per_mtok, write = m->cache_write_microusd_per_mtok;

	if (!m->has_price && strcmp(m->api->name, "anthropic") == 0)
		of = 4, write = 5;
	if (of <= 0 || write <= of)
		return input;
	return (int64_t)MIN((input * write + of - 1) / of, (__int128)INT64_MAX / 8);
}

/* A new price of input ends the discounts of weaker layers, never their surcharges: a sum is not
 * below what is charged. */
static void
apply_prices(struct model_info *m, const struct catalog_row *r)
{
	bool is_other = (r->has & HAS_INPUT) && r->input != m->input_microusd_per_mtok;

	if ((r->has & HAS_CACHE_WRITE) || is_other)
		m->cache_write_microusd_per_mtok =
			r->has & HAS_CACHE_WRITE ? r->cache_write : usual_cache_write(m, r->input);
	if (r->has & HAS_INPUT)
		m->input_microusd_per_mtok = r->input;
	if (r->has & HAS_OUTPUT)
		m->output_microusd_per_mtok = r->output;
	/* A price that nobody gave beside a new input price: that one, which is never too low for a
	 * read. */
	if ((r->has & HAS_CACHED) || is_other)
		m->cached_microusd_per_mtok = r->has & HAS_CACHED ? r->cached : r->input;
	if (r->has & HAS_LONG) {
		m->long_tokens = r->long_tokens;
		m->long_input_percent = r->long_input_percent;
		m->long_output_percent = r->long_output_percent;
	}
	m->has_price = m->has_price || (r->has & HAS_INPUT);
}

static void
apply_row(struct model_info *m, const struct catalog_row *r, enum catalog_source source,
	bool with_prices)
{
	if (!r || !r->has)
		return;
	m->source = source;
	if (r->has & HAS_CONTEXT)
		m->context_tokens = r->context_tokens;
	if (r->has & HAS_OUTPUT_MAX)
		m->max_output_tokens = r->max_output_tokens;
	if (r->has & HAS_MODALITIES)
		m->input = r->able & (INPUT_TEXT | INPUT_IMAGE | INPUT_PDF | INPUT_AUDIO);
	if (r->has & HAS_TOOLS)
		m->has_tools = r->able & ABLE_TOOLS;
	if (r->has & HAS_REASONING)
		m->has_reasoning = r->able & ABLE_REASONING;
	if (r->has & HAS_SCHEMA)
		m->has_schema = r->able & ABLE_SCHEMA;
	m->knowledge = r->knowledge ? r->knowledge : m->knowledge;
	m->status = r->status ? r->status : m->status;
	if (with_prices)
		apply_prices(m, r);
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

/* The API that the model needs, where the configuration leaves the choice. */
static const struct provider_api *
api_for(const struct config *c, const struct provider_info *p, const struct catalog_row *snapshot,
	struct arena *a)
{
	const struct provider_api *responses = provider_api_find(STR("openai-responses"));
	const char *key = arena_printf(a, "providers.%.*s.api", STR_FMT(p->name));

	if (!snapshot || !(snapshot->able & NEEDS_RESPONSES) || !responses ||
		config_origin(c, str_of(key)).layer != LAYER_DEFAULT)
		return p->api;
	return responses;
}

/* Nothing is known: it may be able to do everything. */
static void
info_init(struct model_info *m, const struct config *c, const struct provider_info *p)
{
	const struct node *settings = provider_node(c, p->name);

	*m = (struct model_info){
		.provider = p->name,
		.api = p->api,
		.base_url = p->base_url,
		.is_own_server = p->is_own_server,
		.source = CATALOG_ASSUMED,
		.input = INPUT_TEXT | INPUT_IMAGE | INPUT_PDF | INPUT_AUDIO,
		.has_tools = true,
		.has_reasoning = true,
		.has_schema = true,
		.context_tokens = CONTEXT_DEFAULT,
		.connect_ms = node_int(settings, "connect_ms", CONNECT_MS_DEFAULT),
		.idle_ms = node_int(settings, "idle_ms", IDLE_MS_DEFAULT),
		.retries = (int)node_int(settings, "retries", RETRIES_DEFAULT),
	};
}

int
model_resolve(const struct config *c, struct str name, struct arena *a, struct model_info *out,
	struct err *e)
{
	struct provider_info p;
	struct layers l;
	struct vendor v;
	struct str provider, model;
	int rc = split_name(name, &provider, &model, e);

	if (rc == 0)
		rc = provider_resolve(c, provider, a, &p, e);
	if (rc != 0)
		return rc;
	v = vendor_of(c, &p);
	find_layers(c, v.name, name, model, &l);
	if (v.is_closed && (!l.snapshot || strcmp(l.snapshot->vendor, v.name) != 0) && !l.fetched &&
		!l.config.has && !config_bool(c, "catalog.allow_unknown"))
		return unknown_model(c, &p, v.name, model, e);
	info_init(out, c, &p);
	out->model = arena_str(a, model);
	out->api = api_for(c, &p, l.snapshot, a);
	apply_row(out, l.snapshot, CATALOG_SNAPSHOT, v.has_prices);
	apply_row(out, l.fetched, CATALOG_FETCHED, v.has_prices);
	apply_row(out, &l.config, CATALOG_CONFIG, true);
	out->input &= ~out->api->no_input;
	/* The fetched catalog may be replaced while the answer is in use. */
	out->knowledge = out->knowledge ? arena_strdup(a, str_of(out->knowledge)) : NULL;
	out->status = out->status ? arena_strdup(a, str_of(out->status)) : NULL;
	return 0;
}

/* ---- what is said about it ---- */

void
model_write_input(const struct model_info *m, struct json *j)
{
	input_write_names(m->input, j);
}

const char *
catalog_source_name(enum catalog_source s)
{
	static const char *const names[] = { "assumed", "snapshot", "fetched", "config" };

	return (size_t)s < ARRAY_LEN(names) ? names[s] : "unknown";
}

static bool
is_loopback(struct str url)
{
	static const char *const hosts[] = { "http://127.", "http://localhost", "http://[::1]",
		"https://127.", "https://localhost", "https://[::1]" };

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (str_starts(url, hosts[i]))
			return true;
	return false;
}

const char *
model_notice(const struct model_info *m, struct arena *a)
{
	bool may_cost = m->api->build && !m->has_price && !is_loopback(m->base_url);
	bool is_unknown = m->source == CATALOG_ASSUMED && m->is_own_server;
	struct buf b;
	char *text;

	if (!may_cost && !is_unknown)
		return NULL;
	buf_init(&b, 1 * KIB);
	buf_printf(&b, "%.*s/%.*s: ", STR_FMT(m->provider), STR_FMT(m->model));
	if (is_unknown)
		buf_printf(&b, "not in the catalog; a context of %lld tokens is assumed%s",
			(long long)m->context_tokens, may_cost ? "; " : "");
	if (may_cost)
		buf_add_z(&b, "its price is not known, so limits in USD do not hold for it (set "
			      "input_usd_per_mtok and output_usd_per_mtok below catalog.models)");
	text = arena_strdup(a, buf_str(&b));
	buf_fini(&b);
	return text;
}

static void
name_each(const char *provider, const char *vendor, const struct catalog_row *rows, size_t n,
	catalog_name_fn fn, void *arg)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].vendor, vendor) == 0)
			fn(arg, provider, rows[i].model);
}

void
catalog_each_model(const struct config *c, struct str provider, catalog_name_fn fn, void *arg)
{
	const struct catalog *fetched = config_attached(c);
	const struct node *own = config_get(c, "catalog.models");
	struct arena *a = arena_new(64 * KIB);
	struct provider_info p;
	struct vendor v;

	if (provider_resolve(c, provider, a, &p, NULL) == 0) {
		v = vendor_of(c, &p);
		if (v.has_prices || v.is_closed) {
			name_each(p.name.p, v.name, catalog_rows, catalog_rows_n, fn, arg);
			if (fetched)
				name_each(p.name.p, v.name, fetched->rows, fetched->n, fn, arg);
		}
		if (strcmp(v.name, "open") == 0)
			name_each(p.name.p, "open", catalog_families, catalog_families_n, fn, arg);
	}
	for (size_t i = 0; i < node_len(own); i++) {
		struct str key = own->map.pairs[i].key;
		if (key.n > provider.n && key.p[provider.n] == '/' &&
			str_eq(str_sub(key, 0, provider.n), provider))
			fn(arg, arena_strdup(a, provider), key.p + provider.n + 1);
	}
	arena_free(a);
}
