/* SPDX-License-Identifier: MIT
 * Arguments as models write them: parsed strictly, and where that fails, repaired only where one
 * reading is possible. Never guesses a value, a missing brace or a name: those go back to the model
 * with the field that is wrong. */
#include "base/json.h"
#include "tool/internal.h"

/* The object that a text is about: fences and words around a single pair of braces are left out. */
static struct str
find_object(struct str s)
{
	ptrdiff_t from = str_find_char(s, '{');
	struct str object = from < 0 ? STR("") : str_sub(s, (size_t)from, s.n);
	size_t n = json_span(object);
	struct str rest = str_sub(object, n, object.n);

	if (n == 0 || str_find_char(rest, '{') >= 0 || str_find_char(rest, '}') >= 0)
		return s; /* none, or two objects: which one was meant? */
	return str_sub(object, 0, n);
}

/* Parses to a map: as it is, then around it, then mended; an object inside a string is opened once.
 */
static int
parse_map(struct arena *a, struct str text, bool may_open, const struct node **out, struct err *e)
{
	struct err first = { 0 };
	const struct node *n = NULL;
	int rc = json_parse(a, text, &n, &first);

	if (rc != 0) {
		struct str s = find_object(text);
		rc = json_parse(a, s, &n, NULL);
		if (rc != 0)
			rc = json_parse(a, json_mend(a, s), &n, NULL);
		if (rc != 0)
			rc = json_parse(a, find_object(json_mend(a, text)), &n, NULL);
	}
	if (rc != 0)
		return err_copy(e, &first);
	if (n->type == NODE_STR && may_open)
		return parse_map(a, str_trim(n->s), false, out, e);
	if (n->type != NODE_MAP)
		return err_set(
			e, ERR_INVALID, ERR_TO_MODEL, "%s, not an object", node_type_name(n->type));
	*out = n;
	return 0;
}

/* The value that a field of this type can only have meant: "12" for a number, "[1]" for a list, 3.0
 * for 3. */
static bool
convert(const struct field *f, const struct node *v, struct arena *a, struct node *out)
{
	const struct node *inner;
	enum node_type want = f->type == FIELD_LIST ? NODE_LIST : NODE_MAP;

	*out = *v;
	if (f->type == FIELD_INT && v->type == NODE_NUM && v->num.d > -9e15 && v->num.d < 9e15 &&
		v->num.d == (double)(int64_t)v->num.d) {
		out->type = NODE_INT;
		out->i = (int64_t)v->num.d;
		return true;
	}
	if (v->type != NODE_STR)
		return false;
	switch (f->type) {
	case FIELD_INT:
		out->type = NODE_INT;
		return str_i64(v->s, &out->i) == 0;
	case FIELD_BOOL:
		out->type = NODE_BOOL;
		out->b = str_is(v->s, "true");
		return out->b || str_is(v->s, "false");
	case FIELD_LIST:
	case FIELD_OBJECT:
	case FIELD_MAP:
		if (json_parse(a, v->s, &inner, NULL) != 0 || inner->type != want)
			return false;
		*out = *inner;
		return true;
	default:
		return false;
	}
}

/* A copy in which values have the types of their fields where that loses nothing, and null means
 * absent. */
static const struct node *
coerce(const struct field *table, const struct node *map, struct arena *a)
{
	struct node *out = arena_alloc(a, sizeof(*out));
	struct node_pair *pairs = arena_alloc(a, (map->map.n + 1) * sizeof(*pairs));
	struct node v;

	*out = *map;
	out->map.pairs = pairs;
	out->map.n = 0;
	for (size_t i = 0; i < map->map.n; i++) {
		const struct node_pair *p = &map->map.pairs[i];
		const struct field *f = field_find(table, p->key);
		if (f != NULL && p->value.type == NODE_NULL && f->type != FIELD_ANY &&
			!(f->flags & FIELD_REQUIRED))
			continue;
		pairs[out->map.n] = *p;
		if (f != NULL && convert(f, &p->value, a, &v))
			pairs[out->map.n].value = v;
		out->map.n++;
	}
	return out;
}

int
tool_args(const struct tool *t, struct str text, struct arena *a, const struct node **out,
	struct err *e)
{
	const struct node *map;
	struct err why = { 0 };

	text = str_trim(text);
	if (text.n == 0)
		text = STR("{}");
	if (text.n > MODEL_ARGS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%s: the arguments have %zu bytes, at most %u are possible", t->name,
			text.n, MODEL_ARGS_MAX);
	if (parse_map(a, text, true, &map, &why) != 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"%s: the arguments are not a JSON object: %s (send one object, for example "
			"{\"%s\": ...})",
			t->name, why.msg, t->args[0].type != FIELD_END ? t->args[0].name : "name");
	map = coerce(t->args, map, a);
	int rc = field_check(t->args, map, t->name, ERR_TO_MODEL, e);
	if (rc != 0)
		return rc;
	*out = field_defaults(t->args, map, a);
	return 0;
}
