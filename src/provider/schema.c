/* SPDX-License-Identifier: MIT
 * JSON Schemas on their way to an API that accepts a part of the language only. What a schema says
 * is not made stricter or looser behind the caller's back: where an API cannot express it, the
 * schema is asked for in words, and whoever asked checks the answer. */
#include "provider/internal.h"

#include "base/limits.h"

#define SCHEMA_REFS_MAX 32 /* references on the way to a value */

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

/* ---- walking ---- */

static bool
is_one_of(struct str key, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(key, names[i]))
			return true;
	return false;
}

/* Their value holds values, not schemas. */
static bool
holds_values(struct str key)
{
	static const char *const names[] = { "const", "default", "enum", "examples" };

	return is_one_of(key, names, ARRAY_LEN(names));
}

/* Their members are names of the user's choice, not keywords. */
static bool
holds_names(struct str key)
{
	static const char *const names[] = { "properties", "$defs", "definitions" };

	return is_one_of(key, names, ARRAY_LEN(names));
}

static bool
is_object_schema(const struct node *n)
{
	return str_is(node_str(n, "type", STR("")), "object") ||
	       node_is(node_get(n, "properties"), NODE_MAP);
}

/* ---- strict schemas ---- */

/* What the strict mode of OpenAI's APIs refuses wherever it stands; without it a schema is a wish
 * that may say anything. */
static bool
is_refused_by_strict(struct str key)
{
	static const char *const names[] = { "allOf", "default", "maxLength", "maxProperties",
		"minLength", "minProperties", "not", "oneOf", "prefixItems", "uniqueItems" };

	return is_one_of(key, names, ARRAY_LEN(names));
}

static bool
is_strict(const struct node *n, bool has_names)
{
	for (size_t i = 0; node_is(n, NODE_LIST) && i < n->list.n; i++)
		if (!is_strict(&n->list.items[i], false))
			return false;
	if (!node_is(n, NODE_MAP))
		return true;
	if (!has_names && is_object_schema(n) &&
		(node_bool(n, "additionalProperties", true) || !requires_all(n)))
		return false;
	for (size_t i = 0; i < n->map.n; i++) {
		const struct node_pair *p = &n->map.pairs[i];

		if (!has_names && is_refused_by_strict(p->key))
			return false;
		if ((has_names || !holds_values(p->key)) &&
			!is_strict(&p->value, !has_names && holds_names(p->key)))
			return false;
	}
	return true;
}

bool
schema_is_strict(struct str schema)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *n;
	/* The whole answer is one object. */
	bool yes = json_parse(scratch, schema, &n, NULL) == 0 &&
		   str_is(node_str(n, "type", STR("")), "object") && !node_get(n, "anyOf") &&
		   is_strict(n, false);

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
	return is_one_of(key, unenforced, ARRAY_LEN(unenforced));
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

/* What it cannot say at all. */
static bool
is_unsayable(const struct node *n)
{
	return node_get(n, "not") || node_get(n, "prefixItems") ||
	       (node_get(n, "oneOf") && node_get(n, "anyOf"));
}

/* What "#/$defs/NAME" means; NULL for any other reference. */
static const struct node *
definition_of(const struct node *root, struct str ref)
{
	static const char *const maps[] = { "$defs", "definitions" };

	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		struct str rest = str_sub(ref, 2, ref.n);
		size_t n = strlen(maps[i]);

		if (str_starts(ref, "#/") && str_starts(rest, maps[i]) && rest.n > n + 1)
			return node_get_str(node_get(root, maps[i]), str_sub(rest, n + 1, rest.n));
	}
	return NULL;
}

/* Whether it refers to itself, or in a way that tells too little about that. */
static bool
is_recursive(const struct node *root, const struct node *n, unsigned depth, size_t *left)
{
	struct str ref = node_str(n, "$ref", STR(""));

	if (*left == 0 || depth > SCHEMA_REFS_MAX)
		return true;
	--*left;
	if (ref.n > 0 && (!definition_of(root, ref) ||
				 is_recursive(root, definition_of(root, ref), depth + 1, left)))
		return true;
	for (size_t i = 0; i < node_len(n); i++) {
		const struct node_pair *p = node_is(n, NODE_MAP) ? &n->map.pairs[i] : NULL;
		bool is_defs = p && holds_names(p->key) && !str_is(p->key, "properties");

		if (!is_defs && is_recursive(root, p ? &p->value : node_at(n, i), depth, left))
			return true;
	}
	return false;
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
	if (!has_names && (is_map_schema(n) || is_unsayable(n)))
		return false;
	json_obj(j);
	for (size_t i = 0; i < n->map.n && is_ok; i++) {
		const struct node_pair *p = &n->map.pairs[i];

		if (!has_names && (is_unenforced(p->key) || str_is(p->key, "additionalProperties")))
			continue;
		/* It knows no oneOf; that only one form matches, the checker of the answer sees. */
		json_key_str(j, !has_names && str_is(p->key, "oneOf") ? STR("anyOf") : p->key);
		if (!has_names && holds_values(p->key))
			json_node(j, &p->value);
		else
			is_ok = write_closed(j, &p->value, !has_names && holds_names(p->key));
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
	size_t left = SCHEMA_NODES_MAX;
	bool is_ok;

	buf_init(&b, REQUEST_BODY_MAX);
	json_init(&j, &b);
	is_ok = json_parse(scratch, schema, &n, NULL) == 0 && node_is(n, NODE_MAP) &&
		!is_recursive(n, n, 0, &left) && write_closed(&j, n, false) && !b.overflow;
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
