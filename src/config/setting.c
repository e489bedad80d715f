/* SPDX-License-Identifier: MIT
 * The tree of settings: merging layers, filling in defaults, and the immutable tree that readers get. Values are checked
 * against their rows before they come here; a setting never exists without a row of the key table. */
#include "config/internal.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"

struct config *
config_new(void)
{
	struct config *c = xcalloc(1, sizeof(*c));

	c->refs = 1;
	c->attached = xcalloc(1, sizeof(*c->attached));
	c->attached->refs = 1;
	c->a = arena_new(CONFIG_ARENA_MAX);
	c->root.field = &config_root;
	return c;
}

bool
dotted_next(struct str *rest, struct str *segment)
{
	ptrdiff_t end;

	if (rest->n == 0)
		return false;
	if (rest->p[0] != '"')
		return str_next(rest, '.', segment);
	end = str_find_char(str_sub(*rest, 1, rest->n), '"');
	if (end < 0 || ((size_t)end + 2 < rest->n && rest->p[end + 2] != '.')) {
		*segment = *rest;
		*rest = (struct str){ 0 };
		return true;
	}
	*segment = str_sub(*rest, 1, (size_t)end);
	*rest = str_sub(*rest, (size_t)end + 3, rest->n);
	return true;
}

void
dotted_add(struct buf *b, struct str segment)
{
	bool quote = segment.n == 0 || str_find_char(segment, '.') >= 0;

	if (b->n > 0)
		buf_add_char(b, '.');
	if (quote)
		buf_add_char(b, '"');
	buf_add_str(b, segment);
	if (quote)
		buf_add_char(b, '"');
}

const struct field *
field_below(const struct field *f, struct str key, struct arena *a)
{
	struct field *entry;

	if (f->type == FIELD_OBJECT)
		return field_find(f->sub, key);
	if (f->type != FIELD_MAP)
		return NULL;
	if (f->sub == NULL)
		return f->item;
	entry = arena_alloc(a, sizeof(*entry));
	*entry = (struct field){ .name = f->name, .type = FIELD_OBJECT, .flags = f->flags & ~FIELD_REQUIRED,
		.sub = f->sub, .text = f->text };
	return entry;
}

int
field_unknown(const struct field *f, struct str dotted, struct str segment, struct err *e)
{
	const char *names[64];
	const char *near;
	size_t n = 0;

	for (const struct field *row = f->sub; f->type == FIELD_OBJECT && row->type != FIELD_END; row++)
		if (n < ARRAY_LEN(names))
			names[n++] = row->name;
	near = str_nearest(segment, names, n);
	if (near != NULL)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "%.*s: unknown key '%.*s' (did you mean %s?)",
			STR_FMT(str_sub(dotted, 0, 80)), STR_FMT(str_sub(segment, 0, 64)), near);
	if (f->type == FIELD_OBJECT && n == 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "%.*s: unknown key (%s must be empty in this version)",
			STR_FMT(str_sub(dotted, 0, 80)), f->name);
	return err_set(e, ERR_CONFIG, ERR_TO_USER, "%.*s: unknown key '%.*s' (docs/config.md lists all keys)",
		STR_FMT(str_sub(dotted, 0, 80)), STR_FMT(str_sub(segment, 0, 64)));
}

int
field_resolve(struct str dotted, struct arena *a, const struct field **out, struct err *e)
{
	const struct field *f = &config_root;
	struct str rest = dotted, segment;

	if (dotted.n == 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "the key is empty (expected one such as limits.turn_steps)");
	if (str_ends(dotted, "."))
		return field_unknown(f, dotted, STR(""), e);
	while (dotted_next(&rest, &segment)) {
		const struct field *below = field_below(f, segment, a);

		if (str_find_char(segment, '"') >= 0)
			return err_set(e, ERR_CONFIG, ERR_TO_USER, "%.*s: quotes go around a whole part of a key "
				"(as in catalog.models.\"test/x-1.5\".context)", STR_FMT(str_sub(dotted, 0, 80)));
		if (below == NULL || segment.n == 0)
			return field_unknown(f, dotted, segment, e);
		f = below;
	}
	*out = f;
	return 0;
}

struct setting *
setting_find(const struct setting *s, struct str key)
{
	struct setting *kid = s->first;

	while (kid != NULL && !str_eq(kid->key, key))
		kid = kid->next;
	return kid;
}

struct setting *
setting_at(const struct config *c, struct str dotted)
{
	const struct setting *s = &c->root;
	struct str segment;

	while (s != NULL && dotted_next(&dotted, &segment))
		s = setting_find(s, segment);
	return (struct setting *)s;
}

/* Keys of an object are kept in table order, which is the order of their rows in memory; keys of a map as they come. */
struct setting *
setting_make(struct config *c, struct setting *parent, struct str key, const struct field *f)
{
	struct setting *s = setting_find(parent, key);
	struct setting **at = &parent->first;

	if (s != NULL)
		return s;
	s = arena_alloc(c->a, sizeof(*s));
	*s = (struct setting){ .key = arena_str(c->a, key), .field = f, .parent = parent,
		.is_secret = parent->is_secret || (f->flags & FIELD_SECRET) };
	while (*at != NULL && (parent->field->type == FIELD_MAP || (*at)->field < f))
		at = &(*at)->next;
	s->next = *at;
	*at = s;
	return s;
}

static struct config_origin
origin_of(const struct source *from, uint32_t line)
{
	return (struct config_origin){ .layer = from->layer, .file = from->file, .line = from->file ? line : 0 };
}

/* micro_vm is another spelling: readers only ever see microvm. */
static const struct node *
canonical(struct config *c, const struct setting *s, const struct node *value)
{
	struct node *copy = (struct node *)node_copy(c->a, value);

	if (s->field->type == FIELD_ENUM && node_is(copy, NODE_STR) && str_is(copy->s, "micro_vm"))
		copy->s = STR("microvm");
	return copy;
}

static void
set_leaf(struct config *c, struct setting *s, const struct node *value, uint32_t line, const struct source *from)
{
	s->value = canonical(c, s, value);
	s->origin = origin_of(from, line);
	s->items = NULL;
	if (!node_is(value, NODE_LIST) || value->list.n == 0)
		return;
	s->items = arena_alloc(c->a, value->list.n * sizeof(*s->items));
	for (size_t i = 0; i < value->list.n; i++)
		s->items[i] = origin_of(from, value->list.items[i].line);
}

void
setting_merge(struct config *c, struct setting *s, const struct node *value, uint32_t line, const struct source *from)
{
	if (s->field->type != FIELD_OBJECT && s->field->type != FIELD_MAP) {
		set_leaf(c, s, value, line, from);
		return;
	}
	s->origin = origin_of(from, line);
	for (size_t i = 0; i < node_len(value); i++) {
		const struct node_pair *pair = &value->map.pairs[i];
		const struct field *f = field_below(s->field, pair->key, c->a);

		if (f == NULL)
			fatal("configuration: %s has no key %.*s", s->field->name, STR_FMT(pair->key));
		setting_merge(c, setting_make(c, s, pair->key, f), &pair->value, pair->line, from);
	}
}

void
setting_merge_at(struct config *c, struct str dotted, const struct node *value, uint32_t line,
	const struct source *from)
{
	struct setting *s = &c->root;
	struct str segment;

	while (dotted_next(&dotted, &segment)) {
		const struct field *f = field_below(s->field, segment, c->a);

		if (f == NULL)
			fatal("configuration: %s has no key %.*s", s->field->name, STR_FMT(segment));
		s = setting_make(c, s, segment, f);
	}
	setting_merge(c, s, value, line, from);
}

static void
row_default(struct config *c, struct setting *s, const struct field *row)
{
	static const struct source built_in = { .layer = LAYER_DEFAULT };
	const struct node *value;
	struct err e = { 0 };

	if (setting_find(s, str_of(row->name)) != NULL || (row->dflt == NULL && row->type != FIELD_OBJECT))
		return;
	s = setting_make(c, s, str_of(row->name), row);
	if (row->dflt == NULL)
		return;
	if (field_parse(row, str_of(row->dflt), c->a, &value, &e) != 0)
		fatal("default of %s: %s", row->name, e.msg);
	setting_merge(c, s, value, 0, &built_in);
}

void
setting_defaults(struct config *c, struct setting *s)
{
	if (s->field->type == FIELD_OBJECT)
		for (const struct field *row = s->field->sub; row->type != FIELD_END; row++)
			row_default(c, s, row);
	for (struct setting *kid = s->first; kid != NULL; kid = kid->next)
		setting_defaults(c, kid);
}

void
setting_path(const struct setting *s, struct buf *b)
{
	if (s->parent == NULL)
		return;
	setting_path(s->parent, b);
	dotted_add(b, s->key);
}

static void
make_node(struct config *c, struct setting *s, struct node *out)
{
	struct node_pair *pairs;
	size_t n = 0;

	s->node = out;
	if (s->field->type != FIELD_OBJECT && s->field->type != FIELD_MAP) {
		*out = *s->value;
		out->line = s->origin.line;
		return;
	}
	for (const struct setting *kid = s->first; kid != NULL; kid = kid->next)
		n++;
	pairs = arena_alloc(c->a, MAX(n, 1) * sizeof(*pairs));
	*out = (struct node){ .type = NODE_MAP, .line = s->origin.line, .map = { pairs, n } };
	for (struct setting *kid = s->first; kid != NULL; kid = kid->next, pairs++) {
		pairs->key = kid->key;
		pairs->line = kid->origin.line;
		make_node(c, kid, &pairs->value);
	}
}

void
config_seal(struct config *c)
{
	make_node(c, &c->root, arena_alloc(c->a, sizeof(struct node)));
}

static struct config_origin
clone_origin(struct config *to, struct config_origin o)
{
	if (o.file != NULL)
		o.file = arena_strdup(to->a, str_of(o.file));
	return o;
}

static void
clone_setting(struct config *to, struct setting *parent, const struct setting *s)
{
	struct setting *copy = setting_make(to, parent, s->key, field_below(parent->field, s->key, to->a));

	copy->origin = clone_origin(to, s->origin);
	if (s->value != NULL)
		copy->value = node_copy(to->a, s->value);
	if (s->items != NULL)
		copy->items = arena_alloc(to->a, node_len(s->value) * sizeof(*copy->items));
	for (size_t i = 0; s->items != NULL && i < node_len(s->value); i++)
		copy->items[i] = clone_origin(to, s->items[i]);
	for (const struct setting *kid = s->first; kid != NULL; kid = kid->next)
		clone_setting(to, copy, kid);
}

struct config *
config_clone(const struct config *c)
{
	struct config *copy = config_new();

	free(copy->attached);
	copy->attached = c->attached;
	copy->attached->refs++;
	for (const struct setting *kid = c->root.first; kid != NULL; kid = kid->next)
		clone_setting(copy, &copy->root, kid);
	return copy;
}
