/* SPDX-License-Identifier: MIT
 * Reading a configuration: typed getters by dotted key, where a value comes from, and the envelope in which the runner
 * hands it to the other roles. Secrets never enter the envelope. */
#include "config/config.h"

#include <stdlib.h>

#include "base/limits.h"
#include "config/internal.h"

static const char *const layer_names[LAYER_COUNT] = {
	"default", "system", "home", "user", "environment", "flag", "workspace",
};

const char *
config_layer_name(enum config_layer l)
{
	return (unsigned)l < LAYER_COUNT ? layer_names[l] : "unknown";
}

struct config *
config_ref(struct config *c)
{
	c->refs++;
	return c;
}

void
config_unref(struct config *c)
{
	if (c == NULL || --c->refs > 0)
		return;
	arena_free_wiped(c->a); /* texts and trees of layers too, which hold keys as they came */
	if (--c->attached->refs == 0) {
		config_attach(c, NULL, NULL);
		free(c->attached);
	}
	free(c);
}

void
config_attach(struct config *c, void *object, void (*free_fn)(void *object))
{
	struct attachment *at = c->attached;

	if (at->object != NULL)
		at->free_fn(at->object);
	at->object = object;
	at->free_fn = free_fn;
}

const void *
config_attached(const struct config *c)
{
	return c->attached->object;
}

/* A getter with a key that is not in the table is a bug of the caller, whatever is configured. */
static const struct setting *
get(const struct config *c, const char *key)
{
	const struct setting *s = &c->root;
	struct str rest = str_of(key), segment;

	while (dotted_next(&rest, &segment)) {
		const struct setting *kid = setting_find(s, segment);

		if (kid == NULL) {
			struct arena *a = arena_new(64 * KIB);
			const struct field *f;
			struct err e = { 0 };

			if (field_resolve(str_of(key), a, &f, &e) != 0)
				fatal("configuration: %s", e.msg);
			arena_free(a);
			return NULL;
		}
		s = kid;
	}
	return s;
}

const struct node *
config_get(const struct config *c, const char *key)
{
	const struct setting *s = get(c, key);

	return s != NULL ? s->node : NULL;
}

static const struct node *
get_typed(const struct config *c, const char *key, enum field_type type, enum field_type other)
{
	const struct setting *s = get(c, key);

	if (s != NULL && s->field->type != type && s->field->type != other)
		fatal("configuration: %s is read as another type than it has", key);
	return s != NULL ? s->node : NULL;
}

int64_t
config_int(const struct config *c, const char *key)
{
	const struct node *n = get_typed(c, key, FIELD_INT, FIELD_INT);
	double d;

	if (node_is(n, NODE_INT))
		return n->i;
	d = node_is(n, NODE_NUM) ? n->num.d : 0; /* 1e3: checked to be whole and in range */
	return (int64_t)d;
}

bool
config_bool(const struct config *c, const char *key)
{
	const struct node *n = get_typed(c, key, FIELD_BOOL, FIELD_BOOL);

	return node_is(n, NODE_BOOL) && n->b;
}

const char *
config_z(const struct config *c, const char *key)
{
	const struct node *n = get_typed(c, key, FIELD_STR, FIELD_ENUM);

	return node_is(n, NODE_STR) ? n->s.p : NULL;
}

int64_t
config_microusd(const struct config *c, const char *key)
{
	const struct node *n = get_typed(c, key, FIELD_MONEY, FIELD_MONEY);
	int64_t microusd = 0;

	if (n != NULL && field_money(n, &microusd) != 0)
		fatal("configuration: %s holds no money", key);
	return microusd;
}

/* The entry of a map that is not there: with the nearest one that is. */
static int
entry_unknown(const struct setting *map, struct str dotted, struct str segment, struct err *e)
{
	const char *names[64];
	const char *near;
	size_t n = 0;

	for (const struct setting *kid = map->first; kid != NULL && n < ARRAY_LEN(names); kid = kid->next)
		names[n++] = kid->key.p;
	near = str_nearest(segment, names, n);
	return err_set(e, ERR_CONFIG, ERR_TO_USER, "%.*s: %s has no '%.*s'%s%s%s", STR_FMT(str_sub(dotted, 0, 80)),
		map->field->name, STR_FMT(str_sub(segment, 0, 64)), near ? " (did you mean " : "", near ? near : "",
		near ? "?)" : "");
}

const struct node *
config_lookup(const struct config *c, struct str dotted, struct err *e)
{
	struct arena *a = arena_new(64 * KIB);
	const struct setting *s = &c->root;
	struct str rest = dotted, segment;
	const struct field *f;
	int rc = field_resolve(dotted, a, &f, e);

	arena_free(a);
	if (rc != 0)
		return NULL;
	while (dotted_next(&rest, &segment)) {
		const struct setting *kid = setting_find(s, segment);

		if (kid == NULL && s->field->type == FIELD_MAP) {
			(void)entry_unknown(s, dotted, segment, e);
			return NULL;
		}
		if (kid == NULL)
			return &node_null;
		s = kid;
	}
	return s->node;
}

static bool
has_flag(struct str dotted, unsigned flag)
{
	struct arena *a = arena_new(64 * KIB);
	const struct field *f;
	struct err e;
	bool has = field_resolve(dotted, a, &f, &e) == 0 && (f->flags & flag) != 0;

	arena_free(a);
	return has;
}

bool
config_is_reserved(struct str dotted)
{
	return has_flag(dotted, FIELD_RESERVED);
}

bool
config_is_secret(struct str dotted)
{
	return has_flag(dotted, FIELD_SECRET);
}

struct config_origin
config_origin(const struct config *c, struct str dotted)
{
	const struct setting *s = &c->root;
	struct str segment;
	int64_t i;

	while (dotted_next(&dotted, &segment)) {
		const struct setting *kid = setting_find(s, segment);

		if (kid == NULL && s->items != NULL && str_i64(segment, &i) == 0 && i >= 0 &&
			(size_t)i < node_len(s->value))
			return s->items[i];
		if (kid == NULL)
			return (struct config_origin){ .layer = LAYER_DEFAULT };
		s = kid;
	}
	return s->origin;
}

/* A secret is told to be there; where it is kept, if it is not in the configuration, is no secret. */
static const struct node *
shown(const struct setting *s, const struct node *n)
{
	static const struct node hidden = { .type = NODE_STR, .s = { "(secret)", 8 } };

	return s->is_secret && field_secret_name(n).n == 0 ? &hidden : n;
}

static void
each(const struct setting *s, config_each_fn fn, void *arg)
{
	struct buf path;

	if (s->value != NULL) {
		buf_init(&path, 4 * KIB);
		setting_path(s, &path);
		fn(arg, buf_z(&path), shown(s, s->node), s->origin);
		buf_fini(&path);
	}
	for (const struct setting *kid = s->first; kid != NULL; kid = kid->next)
		each(kid, fn, arg);
}

void
config_each(const struct config *c, config_each_fn fn, void *arg)
{
	each(&c->root, fn, arg);
}

/* ---- the envelope: {v, keys: [{key, value, origin, items?}]}; an origin is [layer, file, line] ---- */

static void
write_origin(struct json *j, struct config_origin o)
{
	json_arr(j);
	json_int(j, o.layer);
	json_z(j, o.file);
	json_int(j, o.line);
	json_arr_end(j);
}

static void
write_setting(struct json *j, const struct setting *s)
{
	struct buf path;

	if (s->value != NULL) {
		buf_init(&path, 4 * KIB);
		setting_path(s, &path);
		json_obj(j);
		json_kv_str(j, "key", buf_str(&path));
		json_kv_node(j, "value", shown(s, s->value));
		json_key(j, "origin");
		write_origin(j, s->origin);
		json_kv_arr(j, "items");
		for (size_t i = 0; s->items != NULL && i < node_len(s->value); i++)
			write_origin(j, s->items[i]);
		json_arr_end(j);
		json_obj_end(j);
		buf_fini(&path);
	}
	for (const struct setting *kid = s->first; kid != NULL; kid = kid->next)
		write_setting(j, kid);
}

void
config_envelope(const struct config *c, struct json *j)
{
	json_obj(j);
	json_kv_int(j, "v", 1);
	json_kv_arr(j, "keys");
	write_setting(j, &c->root);
	json_arr_end(j);
	json_obj_end(j);
}

static int
read_origin(struct config *c, const struct node *n, struct config_origin *out)
{
	const struct node *layer = node_at(n, 0), *file = node_at(n, 1), *line = node_at(n, 2);

	if (!node_is(layer, NODE_INT) || layer->i < 0 || layer->i >= LAYER_COUNT || !node_is(line, NODE_INT) ||
		line->i < 0 || line->i > UINT32_MAX || (!node_is(file, NODE_STR) && !node_is(file, NODE_NULL)))
		return -1;
	*out = (struct config_origin){ .layer = (enum config_layer)layer->i, .line = (uint32_t)line->i,
		.file = node_is(file, NODE_STR) ? arena_strdup(c->a, file->s) : NULL };
	return 0;
}

static int
read_entry(struct config *c, const struct node *entry, struct err *e)
{
	const struct node *value = node_get(entry, "value"), *items = node_get(entry, "items");
	struct str key = node_str(entry, "key", STR(""));
	struct source from = { .layer = LAYER_DEFAULT };
	const struct field *f;
	struct setting *s;
	int rc = field_resolve(key, c->a, &f, e);

	if (rc == 0 && (f->type == FIELD_OBJECT || f->type == FIELD_MAP || value == NULL))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "'%.*s' has no value of its own", STR_FMT(key));
	if (rc == 0)
		rc = field_check_value(f, value, "configuration", arena_strdup(c->a, key), ERR_TO_LOG, e);
	if (rc != 0)
		return rc;
	setting_merge_at(c, key, value, 0, &from);
	s = setting_at(c, key);
	rc = read_origin(c, node_get(entry, "origin"), &s->origin);
	for (size_t i = 0; rc == 0 && s->items != NULL && i < node_len(value); i++)
		rc = read_origin(c, node_at(items, i), &s->items[i]);
	return rc == 0 ? 0 : err_set(e, ERR_PROTO, ERR_TO_LOG, "'%.*s' has a malformed origin", STR_FMT(key));
}

int
config_from_envelope(struct str json, struct config **out, struct err *e)
{
	struct config *c = config_new();
	const struct node *doc, *keys;
	int rc = json_parse(c->a, json, &doc, e);

	if (rc == 0 && node_int(doc, "v", 0) != 1)
		rc = err_set(e, ERR_PROTO, ERR_TO_LOG, "another version than 1");
	keys = rc == 0 ? node_get(doc, "keys") : NULL;
	for (size_t i = 0; rc == 0 && i < node_len(keys); i++)
		rc = read_entry(c, node_at(keys, i), e);
	if (rc != 0) {
		config_unref(c);
		return err_wrap(e, "configuration envelope");
	}
	setting_defaults(c, &c->root);
	config_seal(c);
	*out = c;
	return 0;
}
