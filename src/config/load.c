/* SPDX-License-Identifier: MIT
 * Layers: defaults, system file, home file, user file, environment, flags; later wins. Each layer is checked alone, so
 * that a mistake is reported with its own file and line, and the result is checked for combinations. */
#include "config/internal.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/secret.h"

static const char env_prefix[] = "ITHACA__";

/* What a user's file may hold: nothing that reaches beyond this user. */
static const char *const user_keys[] = { "model", "models", "tier_min", "mode", "permissions", "limits" };

/* A key without a value counts as absent, at every level of the table; the document was checked. */
static const struct node *
without_nulls(struct arena *a, const struct field *f, const struct node *map)
{
	struct node *copy = arena_alloc(a, sizeof(*copy));
	struct node_pair *pairs = arena_alloc(a, MAX(node_len(map), 1) * sizeof(*pairs));
	size_t n = 0;

	for (size_t i = 0; i < node_len(map); i++) {
		const struct node_pair *pair = &map->map.pairs[i];
		const struct field *below = field_below(f, pair->key, a);
		bool is_entry = f->type == FIELD_MAP && f->sub != NULL; /* `local:` alone is a provider with no keys */

		if (pair->value.type == NODE_NULL && !is_entry)
			continue;
		pairs[n] = *pair;
		if (pair->value.type == NODE_MAP || pair->value.type == NODE_NULL)
			pairs[n].value = *without_nulls(a, below, &pair->value);
		n++;
	}
	*copy = (struct node){ .type = NODE_MAP, .line = map->line, .map = { pairs, n } };
	return copy;
}

int
document_read(struct arena *a, const char *where, struct str text, const struct node **out, struct err *e)
{
	static const struct node empty = { .type = NODE_MAP };
	const struct node *doc;

	if (yaml_parse(a, where, text, &doc, e) != 0)
		goto bad;
	if (node_is(doc, NODE_NULL))
		doc = &empty;
	if (!node_is(doc, NODE_MAP))
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "%s line %u: is %s (expected keys, as in 'mode: read_only')",
			where, doc->line, node_type_name(doc->type));
	if (field_check(config_keys, doc, where, ERR_TO_USER, e) != 0)
		goto bad;
	*out = without_nulls(a, &config_root, doc);
	return 0;
bad:
	if (e != NULL && e->code != ERR_LIMIT)
		e->code = ERR_CONFIG;
	return e != NULL ? e->code : ERR_CONFIG;
}

static int
check_user_keys(const struct node *doc, const char *where, struct err *e)
{
	for (size_t i = 0; i < doc->map.n; i++) {
		const struct node_pair *pair = &doc->map.pairs[i];
		size_t k = 0;

		while (k < ARRAY_LEN(user_keys) && !str_is(pair->key, user_keys[k]))
			k++;
		if (k == ARRAY_LEN(user_keys))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"%s line %u: %.*s is not for a user's file (it belongs into config.yaml)", where,
				pair->line, STR_FMT(pair->key));
	}
	return 0;
}

static int
merge_text(struct config *c, struct str text, const char *file, enum config_layer layer, struct err *e)
{
	struct source from = { .layer = layer, .file = arena_strdup(c->a, str_of(file)),
		.where = arena_printf(c->a, "config %s", file) };
	const struct node *doc;
	int rc = document_read(c->a, from.where, text, &doc, e);

	if (rc == 0 && layer == LAYER_USER)
		rc = check_user_keys(doc, from.where, e);
	if (rc == 0)
		setting_merge(c, &c->root, doc, doc->line, &from);
	return rc;
}

static int
merge_file(struct config *c, struct hostfiles *files, const char *file, enum config_layer layer, bool is_required, struct err *e)
{
	struct err why = { 0 };
	size_t n;
	char *text;
	int rc;

	if (file == NULL)
		return 0;
	rc = hostfiles_read(files, file, CONFIG_TEXT_MAX, &text, &n, &why);
	if (rc == ERR_NOT_FOUND && !is_required)
		return 0;
	if (rc != 0) {
		err_copy(e, &why);
		if (e != NULL)
			e->code = ERR_CONFIG;
		return ERR_CONFIG;
	}
	rc = merge_text(c, (struct str){ text, n }, file, layer, e);
	wipe(text, n); /* it may hold a key */
	free(text);
	return rc;
}

/* Sets one key from a text. */
static int
merge_value(struct config *c, const char *dotted, const struct field *f, struct str text,
	const struct source *from, struct err *e)
{
	const struct node *value;
	int rc = field_parse(f, text, c->a, &value, e);

	if (rc == 0 && node_is(value, NODE_NULL))
		rc = err_set(e, ERR_CONFIG, ERR_TO_USER, "has no value (write [] or {} for an empty one)");
	if (rc != 0) {
		rc = err_wrap(e, "%s", from->where);
		if (e != NULL)
			e->code = ERR_CONFIG;
		return ERR_CONFIG;
	}
	if (node_is(value, NODE_MAP))
		value = without_nulls(c->a, f, value);
	setting_merge_at(c, str_of(dotted), value, 0, from);
	return 0;
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* An environment name has no '-', '.' or '/': '_' stands for each of them in the key of a map. */
static bool
is_env_spelling(struct str key, struct str part, bool is_loose)
{
	if (key.n != part.n)
		return false;
	for (size_t i = 0; i < key.n; i++)
		if (lower(key.p[i]) != lower(part.p[i]) &&
			!(is_loose && part.p[i] == '_' && strchr("-./:", key.p[i]) != NULL))
			return false;
	return true;
}

static const struct setting *
find_env_spelling(const struct setting *s, struct str part, bool is_loose, size_t *n)
{
	const struct setting *found = NULL;

	*n = 0;
	for (const struct setting *kid = s != NULL ? s->first : NULL; kid != NULL; kid = kid->next) {
		if (is_env_spelling(kid->key, part, is_loose)) {
			found = kid;
			++*n;
		}
	}
	return found;
}

/* The key below a row that a part of an environment name means: a key of the table, a key of the map that is there
 * already (exactly, else loosely), else a new one in lower case. */
static int
env_segment(struct config *c, const struct field *f, const struct setting *s, struct str part, struct str *out,
	struct err *e)
{
	const struct setting *found = NULL;
	char *text = arena_strdup(c->a, part);
	size_t n = 0;

	for (size_t i = 0; i < part.n; i++)
		text[i] = lower(text[i]);
	*out = (struct str){ text, part.n };
	if (f->type != FIELD_MAP)
		return 0;
	found = find_env_spelling(s, part, false, &n);
	if (n != 1)
		found = find_env_spelling(s, part, true, &n);
	if (n > 1)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "'%.*s' could mean several entries of %s (set it in a file)",
			STR_FMT(part), f->name);
	if (found != NULL)
		*out = found->key;
	return 0;
}

static int
merge_env(struct config *c, const char *entry, struct err *e)
{
	struct str all = str_of(entry), name, rest;
	struct source from = { .layer = LAYER_ENV };
	const struct field *f = &config_root;
	const struct setting *s = &c->root;
	struct buf dotted;
	int rc = 0;

	(void)str_next(&all, '=', &name);
	from.where = arena_printf(c->a, "environment %.*s", STR_FMT(str_sub(name, 0, 100)));
	rest = str_sub(name, sizeof(env_prefix) - 1, name.n);
	buf_init(&dotted, 4 * KIB);
	while (rc == 0 && rest.n > 0) {
		ptrdiff_t end = str_find(rest, STR("__"));
		struct str part = end < 0 ? rest : str_sub(rest, 0, (size_t)end), key;
		const struct field *below;

		rest = end < 0 ? (struct str){ 0 } : str_sub(rest, (size_t)end + 2, rest.n);
		rc = env_segment(c, f, s, part, &key, e);
		if (rc != 0)
			break;
		dotted_add(&dotted, key);
		below = key.n > 0 ? field_below(f, key, c->a) : NULL;
		if (below == NULL)
			rc = field_unknown(f, buf_str(&dotted), key, e);
		s = s != NULL ? setting_find(s, key) : NULL;
		f = below;
	}
	if (rc == 0 && (dotted.n == 0 || dotted.overflow))
		rc = err_set(e, ERR_CONFIG, ERR_TO_USER, "names no key (expected ITHACA__SECTION__KEY)");
	if (rc != 0)
		rc = err_wrap(e, "%s", from.where);
	else
		rc = merge_value(c, buf_z(&dotted), f, all, &from, e);
	buf_fini(&dotted);
	return rc;
}

static int
merge_flag(struct config *c, const char *flag, struct err *e)
{
	struct source from = { .layer = LAYER_FLAG };
	struct str all = str_of(flag);
	const struct field *f;
	size_t eq = 0;
	bool in_quotes = false;

	for (; eq < all.n && (in_quotes || all.p[eq] != '='); eq++)
		in_quotes ^= all.p[eq] == '"';
	from.where = arena_printf(c->a, "setting %.*s", STR_FMT(str_sub(all, 0, MIN(eq, 100))));
	if (eq == all.n)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "setting '%.*s' has no value (expected key=value)",
			STR_FMT(str_sub(all, 0, 100)));
	if (field_resolve(str_sub(all, 0, eq), c->a, &f, e) != 0)
		return err_wrap(e, "%s", from.where);
	return merge_value(c, arena_strdup(c->a, str_sub(all, 0, eq)), f, str_sub(all, eq + 1, all.n), &from, e);
}

/* The variable that a built-in provider's key comes from belongs to its built-in server: an address that a person gave gets
 * that key only when the person named its source too. */
static void
keep_vendor_keys(struct config *c)
{
	const struct setting *providers = setting_find(&c->root, STR("providers"));

	for (struct setting *p = providers != NULL ? providers->first : NULL; p != NULL; p = p->next) {
		const struct setting *url = setting_find(p, STR("base_url")), *key = setting_find(p, STR("api_key_env"));

		if (url == NULL || key == NULL || url->origin.layer == LAYER_DEFAULT || key->origin.layer != LAYER_DEFAULT)
			continue;
		for (struct setting **at = &p->first; *at != NULL; at = &(*at)->next)
			if (*at == key) {
				*at = key->next;
				break;
			}
	}
}

static int
merge_all(struct config *c, const struct config_sources *src, struct err *e)
{
	const char *system_file = src->system_file != NULL ? src->system_file : CONFIG_SYSTEM_FILE;
	int rc;

	setting_defaults(c, &c->root);
	rc = merge_file(c, src->files, system_file, LAYER_SYSTEM, false, e);
	if (rc == 0 && src->home_text.p != NULL)
		rc = merge_text(c, src->home_text, src->home_file, LAYER_HOME, e);
	else if (rc == 0)
		rc = merge_file(c, src->files, src->home_file, LAYER_HOME, src->home_file_required, e);
	if (rc == 0)
		rc = merge_file(c, src->files, src->user_file, LAYER_USER, false, e);
	for (char *const *env = src->env; rc == 0 && env != NULL && *env != NULL; env++)
		if (str_starts(str_of(*env), env_prefix))
			rc = merge_env(c, *env, e);
	for (const char *const *flag = src->flags; rc == 0 && flag != NULL && *flag != NULL; flag++)
		rc = merge_flag(c, *flag, e);
	if (rc != 0)
		return rc;
	setting_defaults(c, &c->root); /* of entries that layers added to maps */
	keep_vendor_keys(c);
	return config_check(c, e);
}

int
config_load(const struct config_sources *src, struct config **out, struct err *e)
{
	struct config *c = config_new();
	int rc = merge_all(c, src, e);

	if (rc != 0) {
		config_unref(c);
		return rc;
	}
	config_seal(c);
	*out = c;
	return 0;
}
