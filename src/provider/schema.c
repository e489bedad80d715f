/* SPDX-License-Identifier: MIT
 * JSON Schemas on their way to an API that accepts a part of the language only. What a schema says
 * is not made stricter or looser behind the caller's back: where an API cannot express it, the
 * schema is asked for in words, and whoever asked checks the answer. */
#include "provider/internal.h"

#include "base/limits.h"

static bool
requires_all(const struct node *schema)
{
	const struct node *members = node_get(schema, "properties");
	const struct node *required = node_get(schema, "required");

	/* Keys are unique, so counting those that are found is enough. */
	for (size_t i = 0; i < node_len(members); i++) {
		bool is_found = false;

		for (size_t k = 0; k < node_len(required) && !is_found; k++)
			is_found = node_is(node_at(required, k), NODE_STR) &&
				   str_eq(node_at(required, k)->s, members->map.pairs[i].key);
		if (!is_found)
			return false;
	}
	return true;
}

static bool
is_strict(const struct node *n)
{
	if (node_is(n, NODE_LIST)) {
		for (size_t i = 0; i < n->list.n; i++)
			if (!is_strict(&n->list.items[i]))
				return false;
		return true;
	}
	if (!node_is(n, NODE_MAP))
		return true;
	if ((str_is(node_str(n, "type", STR("")), "object") ||
		    node_is(node_get(n, "properties"), NODE_MAP)) &&
		(node_bool(n, "additionalProperties", true) || !requires_all(n)))
		return false;
	for (size_t i = 0; i < n->map.n; i++)
		if (!is_strict(&n->map.pairs[i].value))
			return false;
	return true;
}

bool
schema_is_strict(struct str schema)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *n;
	bool yes = json_parse(scratch, schema, &n, NULL) == 0 && is_strict(n);

	arena_free(scratch);
	return yes;
}

/* ---- closed schemas ---- */

/* What Anthropic's API does not enforce, and refuses: left out, the checker of the answer still has
 * it. */
static const char *const unenforced[] = {
	"$schema",
	"exclusiveMaximum",
	"exclusiveMinimum",
	"maxItems",
	"maxLength",
	"maxProperties",
	"maximum",
	"minItems",
	"minLength",
	"minProperties",
	"minimum",
	"multipleOf",
	"uniqueItems",
};

static bool
is_unenforced(struct str key)
{
	for (size_t i = 0; i < ARRAY_LEN(unenforced); i++)
		if (str_is(key, unenforced[i]))
			return true;
	return false;
}

static bool
is_object_schema(const struct node *n)
{
	return str_is(node_str(n, "type", STR("")), "object") ||
	       node_is(node_get(n, "properties"), NODE_MAP);
}

/* Members of any name are wanted: closing the object would forbid what was asked for. */
static bool
is_map_schema(const struct node *n)
{
	const struct node *more = node_get(n, "additionalProperties");

	return node_is(more, NODE_MAP) || node_get(n, "patternProperties") ||
	       (is_object_schema(n) && node_len(node_get(n, "properties")) == 0 &&
		       node_bool(n, "additionalProperties", true));
}

/* has_names: the members of n are names of the user's choice, not keywords. */
static bool
write_closed(struct json *j, const struct node *n, bool has_names)
{
	bool is_ok = true;

	if (node_is(n, NODE_LIST)) {
		json_arr(j);
		for (size_t i = 0; i < n->list.n && is_ok; i++)
			is_ok = write_closed(j, &n->list.items[i], false);
		json_arr_end(j);
		return is_ok;
	}
	if (!node_is(n, NODE_MAP)) {
		json_node(j, n);
		return true;
	}
	if (!has_names && is_map_schema(n))
		return false;
	json_obj(j);
	for (size_t i = 0; i < n->map.n && is_ok; i++) {
		const struct node_pair *p = &n->map.pairs[i];

		if (!has_names && (is_unenforced(p->key) || str_is(p->key, "additionalProperties")))
			continue;
		json_key_str(j, p->key);
		if (!has_names && (str_is(p->key, "enum") || str_is(p->key, "const") ||
					  str_is(p->key, "default") || str_is(p->key, "examples")))
			json_node(j, &p->value); /* values, not schemas */
		else
			is_ok = write_closed(j, &p->value,
				!has_names &&
					(str_is(p->key, "properties") || str_is(p->key, "$defs") ||
						str_is(p->key, "definitions")));
	}
	if (!has_names && is_object_schema(n))
		json_kv_bool(j, "additionalProperties", false);
	json_obj_end(j);
	return is_ok;
}

bool
schema_close(struct str schema, struct arena *a, struct str *out)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *n;
	struct buf b;
	struct json j;
	bool is_ok;

	buf_init(&b, REQUEST_BODY_MAX);
	json_init(&j, &b);
	is_ok = json_parse(scratch, schema, &n, NULL) == 0 && node_is(n, NODE_MAP) &&
		write_closed(&j, n, false) && !b.overflow;
	if (is_ok)
		*out = arena_str(a, buf_str(&b));
	buf_fini(&b);
	arena_free(scratch);
	return is_ok;
}

struct str
schema_words(struct str schema, struct arena *a)
{
	return str_of(arena_printf(a,
		"Your final answer must be JSON alone, without a fence around it, and match this "
		"JSON Schema:\n%.*s",
		STR_FMT(schema)));
}
