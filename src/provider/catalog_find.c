/* SPDX-License-Identifier: MIT
 * From the name of a model to rows of the catalog: exact and dated names of a vendor's models,
 * families of open models however a server spells them, and what the configuration says. */
#include "provider/catalog.h"

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

const struct catalog_row *
rows_find(const struct catalog_row *rows, size_t n, const char *vendor, struct str model)
{
	const struct catalog_row *dated = NULL;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].vendor, vendor) != 0)
			continue;
		if (str_is(model, rows[i].model))
			return &rows[i];
		if (is_dated(model, rows[i].model))
			dated = &rows[i];
	}
	return dated;
}

static char
lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

/* How much of the name the family takes, 0: it is another one. Servers write "llama3.1:8b",
 * "meta-llama/Llama-3.1-8B-Instruct" and "llama-3.1-8b": case and a dash that the family lacks do
 * not count, and what follows must not go on with the version. */
static size_t
family_match(struct str name, const char *family)
{
	size_t at = 0;

	for (; *family; family++, at++) {
		if (at < name.n && name.p[at] == '-' && *family != '-')
			at++;
		if (at >= name.n || lower(name.p[at]) != *family)
			return 0;
	}
	if (at < name.n && ((name.p[at] >= '0' && name.p[at] <= '9') || name.p[at] == '.'))
		return 0;
	return at;
}

const struct catalog_row *
family_find(struct str model)
{
	const struct catalog_row *best = NULL;
	size_t most = 0;

	for (size_t i = model.n; i > 0; i--) {
		if (model.p[i - 1] == '/') {
			model = str_sub(model, i, model.n);
			break;
		}
	}
	for (size_t i = 0; i < catalog_families_n; i++) {
		size_t n = family_match(model, catalog_families[i].model);
		if (n > most) {
			most = n;
			best = &catalog_families[i];
		}
	}
	return best;
}

void
catalog_snapshot(struct catalog *out, struct arena *a)
{
	struct catalog_row *rows =
		arena_alloc(a, (catalog_rows_n + catalog_families_n) * sizeof(*rows));

	memcpy(rows, catalog_rows, catalog_rows_n * sizeof(*rows));
	memcpy(rows + catalog_rows_n, catalog_families, catalog_families_n * sizeof(*rows));
	*out = (struct catalog){ .a = a, .rows = rows, .n = catalog_rows_n + catalog_families_n };
}

/* ---- the configuration ---- */

static const struct {
	const char *name;
	unsigned bit;
} modalities[] = {
	{ "text", INPUT_TEXT },
	{ "image", INPUT_IMAGE },
	{ "pdf", INPUT_PDF },
	{ "audio", INPUT_AUDIO },
};

unsigned
input_from_names(const struct node *list)
{
	unsigned input = INPUT_TEXT;

	for (size_t i = 0; i < node_len(list); i++)
		for (size_t k = 0; k < ARRAY_LEN(modalities); k++)
			if (node_is(node_at(list, i), NODE_STR) &&
				str_is(node_at(list, i)->s, modalities[k].name))
				input |= modalities[k].bit;
	return input;
}

void
input_write_names(unsigned input, struct json *j)
{
	json_arr(j);
	for (size_t k = 0; k < ARRAY_LEN(modalities); k++)
		if (input & modalities[k].bit)
			json_z(j, modalities[k].name);
	json_arr_end(j);
}

static void
take_money(const struct node *settings, const char *key, int64_t *out, unsigned *has, unsigned bit)
{
	const struct node *n = node_get(settings, key);

	if (n && field_money(n, out) == 0)
		*has |= bit;
}

static void
take_int(const struct node *settings, const char *key, int64_t *out, unsigned *has, unsigned bit)
{
	if (node_as_int(node_get(settings, key), out))
		*has |= bit;
}

static void
take_bool(const struct node *settings, const char *key, unsigned able, struct catalog_row *r,
	unsigned bit)
{
	const struct node *n = node_get(settings, key);

	if (!node_is(n, NODE_BOOL))
		return;
	r->has |= bit;
	r->able |= n->b ? able : 0;
}

void
row_from_config(const struct node *s, struct catalog_row *r)
{
	*r = (struct catalog_row){ 0 };
	take_int(s, "context", &r->context_tokens, &r->has, HAS_CONTEXT);
	take_int(s, "max_output", &r->max_output_tokens, &r->has, HAS_OUTPUT_MAX);
	take_money(s, "input_usd_per_mtok", &r->input, &r->has, HAS_INPUT);
	take_money(s, "output_usd_per_mtok", &r->output, &r->has, HAS_OUTPUT);
	take_money(s, "cached_usd_per_mtok", &r->cached, &r->has, HAS_CACHED);
	take_money(s, "cache_write_usd_per_mtok", &r->cache_write, &r->has, HAS_CACHE_WRITE);
	take_bool(s, "tools", ABLE_TOOLS, r, HAS_TOOLS);
	take_bool(s, "reasoning", ABLE_REASONING, r, HAS_REASONING);
	take_bool(s, "structured_output", ABLE_SCHEMA, r, HAS_SCHEMA);
	if (node_is(node_get(s, "input"), NODE_LIST)) {
		r->able |= input_from_names(node_get(s, "input"));
		r->has |= HAS_MODALITIES;
	}
}
