/* SPDX-License-Identifier: MIT
 * A workspace is hostile input: its file may only make things stricter. Rows with FIELD_NARROWS may go the strict way,
 * everything else is left out and told. The invariant: no value in the result allows more than the base does. */
#include "config/internal.h"

#include <stdlib.h>

static const char trust[] = "a workspace may only narrow (run `ithaca trust DIR` to accept its file)";

/* Which way is stricter? Lower, for numbers, choices (false, the first one) and lists; these are the others. */
static const char *const higher_is_stricter[] = { "tier_min", "cell.require_limits" };

struct narrowing {
	struct config *c;
	struct source from;
	config_refused_fn on_refused;
	void *arg;
};

static int64_t
rank(const struct field *f, const struct node *n)
{
	int64_t r = 0;

	switch (f->type) {
	case FIELD_BOOL:
		return n->b;
	case FIELD_MONEY:
		return field_money(n, &r) == 0 ? r : INT64_MAX;
	case FIELD_ENUM:
		while (f->choices[r] != NULL && !str_is(n->s, f->choices[r]))
			r++;
		return r;
	default:
		return node_is(n, NODE_NUM) ? (int64_t)n->num.d : n->i;
	}
}

static bool
is_stricter(const struct field *f, const char *dotted, const struct node *new, const struct node *old)
{
	int64_t a = rank(f, new), b = rank(f, old);

	for (size_t i = 0; i < ARRAY_LEN(higher_is_stricter); i++)
		if (str_is(str_of(dotted), higher_is_stricter[i]))
			return a >= b;
	return a <= b;
}

/* Adds the elements of a list behind those that are there: more rules of deny and ask only narrow. */
static void
append(struct narrowing *w, struct setting *s, const struct node *list)
{
	size_t old = node_len(s->value), n = node_len(list);
	struct node *items = arena_alloc(w->c->a, (old + n + 1) * sizeof(*items));
	struct config_origin *origins = arena_alloc(w->c->a, (old + n + 1) * sizeof(*origins));
	struct node *value = arena_alloc(w->c->a, sizeof(*value));

	for (size_t i = 0; i < old; i++) {
		items[i] = s->value->list.items[i];
		origins[i] = s->items[i];
	}
	for (size_t i = 0; i < n; i++) {
		items[old + i] = *node_copy(w->c->a, &list->list.items[i]);
		origins[old + i] = (struct config_origin){ w->from.layer, w->from.file, list->list.items[i].line };
	}
	*value = (struct node){ .type = NODE_LIST, .line = list->line, .list = { items, old + n } };
	s->value = value;
	s->items = origins;
	if (n > 0)
		s->origin = (struct config_origin){ w->from.layer, w->from.file, list->line };
}

static void
narrow_leaf(struct narrowing *w, struct setting *s, const struct field *f, const char *dotted,
	const struct node_pair *pair)
{
	if (!(f->flags & FIELD_NARROWS) || s == NULL || s->value == NULL)
		w->on_refused(w->arg, dotted, pair->line, trust);
	else if (f->type == FIELD_LIST && node_len(s->value) + node_len(&pair->value) > (size_t)f->max)
		w->on_refused(w->arg, dotted, pair->line, "it would make the list too long");
	else if (f->type == FIELD_LIST)
		append(w, s, &pair->value);
	else if (is_stricter(f, dotted, &pair->value, s->value))
		setting_merge(w->c, s, &pair->value, pair->line, &w->from);
	else
		w->on_refused(w->arg, dotted, pair->line,
			"it would allow more; a workspace may only narrow (run `ithaca trust DIR` to accept its file)");
}

static void
narrow_map(struct narrowing *w, struct setting *s, const struct field *f, struct buf *path, const struct node *map)
{
	for (size_t i = 0; i < node_len(map); i++) {
		const struct node_pair *pair = &map->map.pairs[i];
		const struct field *below = field_find(f->sub, pair->key);
		struct setting *kid = setting_find(s, pair->key);
		size_t n = path->n;

		dotted_add(path, pair->key);
		if (below->type == FIELD_OBJECT && kid != NULL)
			narrow_map(w, kid, below, path, &pair->value);
		else
			narrow_leaf(w, kid, below, buf_z(path), pair);
		buf_truncate(path, n);
	}
}

static void
ignore_refusal(void *arg, const char *dotted, uint32_t line, const char *why)
{
}

int
config_narrow(struct config *base, const char *file, struct str text, config_refused_fn on_refused, void *arg,
	struct config **out, struct err *e)
{
	struct narrowing w = { .on_refused = on_refused != NULL ? on_refused : ignore_refusal, .arg = arg };
	struct config *c = config_clone(base);
	const struct node *doc;
	struct buf path;
	int rc;

	w.c = c;
	w.from = (struct source){ .layer = LAYER_WORKSPACE, .file = arena_strdup(c->a, str_of(file)),
		.where = arena_printf(c->a, "config %s", file) };
	rc = document_read(c->a, w.from.where, text, &doc, e);
	if (rc != 0) {
		config_unref(c);
		return rc;
	}
	buf_init(&path, 4096);
	narrow_map(&w, &c->root, &config_root, &path, doc);
	buf_fini(&path);
	config_seal(c);
	*out = c;
	return 0;
}
