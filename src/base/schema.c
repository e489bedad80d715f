/* SPDX-License-Identifier: MIT
 * Compiles a JSON Schema: the table of keywords, their values, references. Subschemas are taken
 * from a queue, so a schema is never as deep as the stack; each place in the document is compiled
 * once, which is what makes recursive references finite. Only what can be reached is looked at. */
#include "base/schema_internal.h"

#include "base/field.h"
#include "base/limits.h"
#include "base/utf8.h"

#define BUCKETS    1024
#define WHERE_SIZE 160 /* of a pointer in a message */

/* What to write instead of a refused keyword. */
#define SPLIT  "write one schema for each case below anyOf"
#define STRICT "list the keys below properties, with additionalProperties"

/* The order is the order of checking: what is wrong first is what a reader wants to know first. */
static const struct keyword keywords[] = {
	{ "type", ARG_TYPES, check_type },
	{ "const", ARG_ANY, check_const },
	{ "enum", ARG_VALUES, check_enum },
	{ "$ref", ARG_REF, check_all, .is_in_place = true },
	{ "allOf", ARG_SCHEMAS, check_all, .is_in_place = true },
	{ "anyOf", ARG_SCHEMAS, check_any, .is_in_place = true },
	{ "oneOf", ARG_SCHEMAS, check_one, .is_in_place = true },
	{ "not", ARG_SCHEMA, check_not, .is_in_place = true },
	{ "minimum", ARG_NUMBER, check_bound },
	{ "maximum", ARG_NUMBER, check_bound },
	{ "exclusiveMinimum", ARG_NUMBER, check_bound },
	{ "exclusiveMaximum", ARG_NUMBER, check_bound },
	{ "multipleOf", ARG_POSITIVE, check_multiple },
	{ "minLength", ARG_COUNT, check_size },
	{ "maxLength", ARG_COUNT, check_size },
	{ "minItems", ARG_COUNT, check_size },
	{ "maxItems", ARG_COUNT, check_size },
	{ "minProperties", ARG_COUNT, check_size },
	{ "maxProperties", ARG_COUNT, check_size },
	{ "required", ARG_NAMES, check_required },
	{ "additionalProperties", ARG_SCHEMA, check_additional },
	{ "properties", ARG_SCHEMA_MAP, check_properties },
	{ "prefixItems", ARG_SCHEMAS, check_prefix },
	{ "items", ARG_SCHEMA, check_items },
	{ "uniqueItems", ARG_BOOL, check_unique },
	/* Read where a reference names them. */
	{ "$defs", ARG_NONE },
	{ "definitions", ARG_NONE },
	/* Annotations. Formats are one by the standard. */
	{ "title", ARG_NONE },
	{ "description", ARG_NONE },
	{ "default", ARG_NONE },
	{ "examples", ARG_NONE },
	{ "deprecated", ARG_NONE },
	{ "readOnly", ARG_NONE },
	{ "writeOnly", ARG_NONE },
	{ "format", ARG_NONE },
	{ "contentEncoding", ARG_NONE },
	{ "contentMediaType", ARG_NONE },
	{ "contentSchema", ARG_NONE },
	{ "$comment", ARG_NONE },
	{ "$schema", ARG_NONE },
	{ "$vocabulary", ARG_NONE },
	{ "$anchor", ARG_NONE },
	{ "$dynamicAnchor", ARG_NONE },
	{ "$id", ARG_NONE }, /* below the root it moves the base of references: see add_rule */
	/* These would narrow or widen what matches. */
	{ "pattern", ARG_REFUSED, .fix = "use enum, or say it in description" },
	{ "patternProperties", ARG_REFUSED, .fix = STRICT },
	{ "propertyNames", ARG_REFUSED, .fix = STRICT },
	{ "unevaluatedProperties", ARG_REFUSED, .fix = STRICT },
	{ "unevaluatedItems", ARG_REFUSED, .fix = "use items" },
	{ "contains", ARG_REFUSED, .fix = "use items" },
	{ "minContains", ARG_REFUSED, .fix = "use minItems" },
	{ "maxContains", ARG_REFUSED, .fix = "use maxItems" },
	{ "if", ARG_REFUSED, .fix = SPLIT },
	{ "then", ARG_REFUSED, .fix = SPLIT },
	{ "else", ARG_REFUSED, .fix = SPLIT },
	{ "dependentRequired", ARG_REFUSED, .fix = SPLIT },
	{ "dependentSchemas", ARG_REFUSED, .fix = SPLIT },
	{ "$dynamicRef", ARG_REFUSED, .fix = "use $ref" },
	{ "$recursiveRef", ARG_REFUSED, .fix = "use $ref" },
	{ "dependencies", ARG_REFUSED, .fix = SPLIT },
	{ "additionalItems", ARG_REFUSED, .fix = "write prefixItems and items" },
	{ "nullable", ARG_REFUSED, .fix = "write type: [..., \"null\"]" },
};

const char *const schema_type_names[TYPE_COUNT] = { "null", "boolean", "integer", "number",
	"string", "array", "object" };

struct compiler {
	struct arena *a;
	const struct node *root;
	struct schema *first, **last; /* all schemas; those after `done` wait */
	struct schema *buckets[BUCKETS];
	size_t n;
};

/* ---- places ---- */

void
pointer_add(struct buf *b, struct str token)
{
	buf_add_char(b, '/');
	for (size_t i = 0; i < token.n; i++) {
		if (token.p[i] == '~')
			buf_add_z(b, "~0");
		else if (token.p[i] == '/')
			buf_add_z(b, "~1");
		else
			buf_add_char(b, token.p[i]);
	}
}

static void
add_where(struct buf *b, const struct schema *s)
{
	const struct schema *way[JSON_DEPTH_MAX];
	size_t n = 0;

	for (; s->up && n < ARRAY_LEN(way); s = s->up)
		way[n++] = s;
	if (!s->up && s->key.n)
		buf_add_str(b, str_sub(s->key, 1, s->key.n));
	while (n-- > 0) {
		pointer_add(b, str_of(way[n]->keyword));
		if (way[n]->has_index)
			buf_printf(b, "/%zu", way[n]->index);
		else if (way[n]->key.p)
			pointer_add(b, way[n]->key);
	}
}

/* "schema /properties/x/keyword: ", then what is wrong. */
static int PRINTF_LIKE(5, 6) refuse(
	const struct schema *s, struct str keyword, int code, struct err *e, const char *fmt, ...)
{
	struct buf where, what;
	struct str at;
	va_list ap;

	buf_init(&where, WHERE_SIZE + 8 * FILE_PATH_MAX);
	buf_init(&what, ERR_MSG_MAX);
	va_start(ap, fmt);
	buf_vprintf(&what, fmt, ap);
	va_end(ap);
	add_where(&where, s);
	if (keyword.n)
		pointer_add(&where, keyword);
	at = str_sub(buf_str(&where), 0, utf8_cut(buf_str(&where), WHERE_SIZE));
	err_set(e, code, ERR_TO_USER, "schema %.*s: %s", STR_FMT(at.n ? at : STR("(top level)")),
		buf_z(&what));
	buf_fini(&what);
	buf_fini(&where);
	return code;
}

/* ---- schemas ---- */

static size_t
bucket_of(const struct node *n)
{
	return ((uintptr_t)n / sizeof(struct node)) % BUCKETS;
}

/* The schema at this node: made and queued when it is met for the first time. */
static int
schema_at(struct compiler *c, const struct schema *like, const struct node *n, struct schema **out,
	struct err *e)
{
	struct schema *s = c->buckets[bucket_of(n)];

	while (s && s->node != n)
		s = s->chain;
	if (!s) {
		s = c->n < SCHEMA_NODES_MAX ? arena_try(c->a, sizeof(*s)) : NULL;
		if (!s)
			return err_set(e, ERR_LIMIT, ERR_TO_USER,
				"the schema has more than %u subschemas, or its memory is used up "
				"(use fewer, or share them through $ref)",
				SCHEMA_NODES_MAX);
		*s = *like;
		s->node = n;
		s->chain = c->buckets[bucket_of(n)];
		c->buckets[bucket_of(n)] = s;
		*c->last = s;
		c->last = &s->next;
		c->n++;
	}
	*out = s;
	return 0;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* One token of a reference: percent-decoded (it is a URI fragment), then ~1 and ~0. */
static void
decode_token(struct str token, struct buf *b)
{
	for (size_t i = 0; i < token.n; i++) {
		char ch = token.p[i];
		if (ch == '%' && i + 2 < token.n && hex_digit(token.p[i + 1]) >= 0 &&
			hex_digit(token.p[i + 2]) >= 0) {
			ch = (char)(hex_digit(token.p[i + 1]) * 16 + hex_digit(token.p[i + 2]));
			i += 2;
		}
		if (ch == '~' && i + 1 < token.n &&
			(token.p[i + 1] == '0' || token.p[i + 1] == '1'))
			ch = token.p[++i] == '0' ? '~' : '/';
		buf_add_char(b, ch);
	}
}

static const struct node *
step_into(const struct node *n, struct str token)
{
	uint64_t i;

	if (node_is(n, NODE_LIST))
		return str_u64(token, &i) == 0 ? node_at(n, i) : NULL;
	return node_get_str(n, token);
}

static const struct node *
resolve(const struct compiler *c, struct str ref)
{
	const struct node *n = c->root;
	struct str rest = str_sub(ref, 1, ref.n), token;
	struct buf b;

	if (rest.n == 0)
		return n;
	rest = str_sub(rest, 1, rest.n);
	buf_init(&b, JSON_TEXT_MAX);
	do {
		ptrdiff_t slash = str_find_char(rest, '/');
		token = str_sub(rest, 0, slash < 0 ? rest.n : (size_t)slash);
		buf_reset(&b);
		decode_token(token, &b);
		n = step_into(n, buf_str(&b));
		if (slash < 0)
			break;
		rest = str_sub(rest, (size_t)slash + 1, rest.n);
	} while (n);
	buf_fini(&b);
	return n;
}

/* ---- the value of a keyword ---- */

static int
read_types(struct rule *u)
{
	const struct node *v = u->value;
	size_t n = v->type == NODE_LIST ? v->list.n : 1;

	for (size_t i = 0; i < n; i++) {
		const struct node *t = v->type == NODE_LIST ? node_at(v, i) : v;
		unsigned k = 0;
		while (k < TYPE_COUNT &&
			!(t->type == NODE_STR && str_is(t->s, schema_type_names[k])))
			k++;
		if (k == TYPE_COUNT || (u->n & (1 << k)))
			return -1;
		u->n |= 1 << k;
	}
	return n > 0 ? 0 : -1;
}

static bool
are_names(const struct node *v)
{
	if (!node_is(v, NODE_LIST))
		return false;
	for (size_t i = 0; i < v->list.n; i++)
		if (v->list.items[i].type != NODE_STR)
			return false;
	return true;
}

/* What is wrong with the value itself, or NULL; subschemas are looked at when their turn comes. */
static const char *
value_fault(struct rule *u)
{
	const struct node *v = u->value;
	bool is_number = v->type == NODE_INT || v->type == NODE_NUM;

	switch (u->k->arg) {
	case ARG_BOOL:
		return v->type == NODE_BOOL ? NULL : "must be true or false";
	case ARG_NUMBER:
		return is_number ? NULL : "must be a number";
	case ARG_POSITIVE:
		return is_number && (v->type == NODE_INT ? v->i > 0 : v->num.d > 0)
			       ? NULL
			       : "must be a number above 0";
	case ARG_COUNT:
		return node_as_int(v, &u->n) && u->n >= 0 ? NULL : "must be a whole number from 0";
	case ARG_TYPES:
		return read_types(u) == 0
			       ? NULL
			       : "must be one or several different ones of null, boolean, "
				 "integer, number, string, array, object";
	case ARG_NAMES:
		return are_names(v) ? NULL : "must be a list of strings";
	case ARG_VALUES:
	case ARG_SCHEMAS:
		return node_is(v, NODE_LIST) && v->list.n ? NULL
							  : "must be a list that is not empty";
	case ARG_SCHEMA_MAP:
		return node_is(v, NODE_MAP) ? NULL : "must be an object whose values are schemas";
	case ARG_SCHEMA:
		return node_is(v, NODE_LIST) ? "must be a schema (a list of them is prefixItems)"
					     : NULL;
	case ARG_REF:
		return node_is(v, NODE_STR) && (str_is(v->s, "#") || str_starts(v->s, "#/"))
			       ? NULL
			       : "must point into the same document, as in #/$defs/name";
	default:
		return NULL;
	}
}

/* Node i of those that are schemas, and where it is. */
static const struct node *
sub_node(const struct compiler *c, const struct rule *u, size_t i, struct schema *like)
{
	switch (u->k->arg) {
	case ARG_SCHEMAS:
		like->index = i;
		like->has_index = true;
		return node_at(u->value, i);
	case ARG_SCHEMA_MAP:
		like->key = u->value->map.pairs[i].key;
		return &u->value->map.pairs[i].value;
	case ARG_REF:
		like->up = NULL;
		like->key = u->value->s;
		return resolve(c, u->value->s);
	default:
		return u->value;
	}
}

static int
add_subs(struct compiler *c, const struct schema *s, struct rule *u, struct err *e)
{
	size_t n = u->k->arg == ARG_SCHEMAS || u->k->arg == ARG_SCHEMA_MAP ? node_len(u->value) : 1;

	if (u->k->arg < ARG_SCHEMA)
		return 0;
	u->subs = arena_try(c->a, MAX(n, 1) * sizeof(struct schema *));
	if (!u->subs)
		return refuse(s, STR(""), ERR_LIMIT, e, "the memory for the schema is used up");
	for (size_t i = 0; i < n; i++) {
		struct schema like = { .up = s, .keyword = u->k->name };
		const struct node *sub = sub_node(c, u, i, &like);

		if (!sub)
			return refuse(s, str_of(u->k->name), ERR_INVALID, e,
				"there is nothing at %.*s", (int)MIN(u->value->s.n, 80),
				u->value->s.p);
		if (schema_at(c, &like, sub, &u->subs[i], e) != 0)
			return e ? e->code : ERR_LIMIT;
		u->subs_n++;
	}
	return 0;
}

/* ---- one schema ---- */

/* By the standard an unknown keyword is an annotation; one that looks like a typing mistake of a
 * keyword is refused, because what it meant would not be checked. */
static int
check_unknown(const struct schema *s, struct str name, struct err *e)
{
	const char *names[ARRAY_LEN(keywords)], *near;

	for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
		names[i] = keywords[i].name;
		if (str_is(name, names[i]))
			return 0;
	}
	near = str_starts(name, "x-") ? NULL : str_nearest(name, names, ARRAY_LEN(names));
	if (!near)
		return 0;
	return refuse(s, name, ERR_INVALID, e, "unknown keyword (did you mean %s?)", near);
}

static int
add_rule(struct compiler *c, struct schema *s, const struct keyword *k, const struct node *value,
	struct err *e)
{
	struct rule *u = &s->rules[s->rules_n];
	const char *fault;

	if (strcmp(k->name, "$id") == 0 && s->node != c->root)
		return refuse(s, STR("$id"), ERR_INVALID, e,
			"not supported below the top level (leave it out)");
	if (k->arg == ARG_REFUSED)
		return refuse(s, str_of(k->name), ERR_INVALID, e, "not supported (%s)", k->fix);
	if (k->arg == ARG_NONE)
		return 0;
	*u = (struct rule){ .k = k, .value = value };
	fault = value_fault(u);
	if (fault)
		return refuse(s, str_of(k->name), ERR_INVALID, e, "%s", fault);
	s->rules_n++;
	return add_subs(c, s, u, e);
}

static int
compile_one(struct compiler *c, struct schema *s, struct err *e)
{
	size_t n = 0;
	int rc = 0;

	if (s->node->type == NODE_BOOL) {
		s->is_nothing = !s->node->b;
		return 0;
	}
	if (s->node->type != NODE_MAP)
		return refuse(s, STR(""), ERR_INVALID, e,
			"a schema is an object or true or false, not %s",
			node_type_name(s->node->type));
	for (size_t i = 0; i < s->node->map.n && rc == 0; i++)
		rc = check_unknown(s, s->node->map.pairs[i].key, e);
	for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
		n += node_get(s->node, keywords[i].name) != NULL;
	if (rc != 0 || n == 0)
		return rc;
	s->rules = arena_try(c->a, n * sizeof(*s->rules));
	if (!s->rules)
		return refuse(s, STR(""), ERR_LIMIT, e, "the memory for the schema is used up");
	for (size_t i = 0; i < ARRAY_LEN(keywords) && rc == 0; i++) {
		const struct node *value = node_get(s->node, keywords[i].name);
		if (value)
			rc = add_rule(c, s, &keywords[i], value, e);
	}
	return rc;
}

/* ---- references that go round ---- */

/* A reference may come back to a schema only with a smaller value in hand: through in-place
 * keywords alone it would never end. Sets s->height; depth is that of the way to s. */
static int
measure(struct schema *s, unsigned depth, struct err *e)
{
	unsigned height = 1;

	if (s->is_open)
		return refuse(s, STR(""), ERR_INVALID, e,
			"refers to itself without going into the value (let the way back pass "
			"properties or items)");
	if (depth + s->height > SCHEMA_IN_PLACE_MAX)
		return refuse(s, STR(""), ERR_LIMIT, e,
			"more than %u levels of $ref, anyOf, allOf, oneOf and not on one value",
			SCHEMA_IN_PLACE_MAX);
	if (s->height)
		return 0;
	s->is_open = true;
	for (size_t i = 0; i < s->rules_n; i++) {
		for (size_t k = 0; s->rules[i].k->is_in_place && k < s->rules[i].subs_n; k++) {
			int rc = measure(s->rules[i].subs[k], depth + 1, e);
			if (rc != 0)
				return rc;
			height = MAX(height, s->rules[i].subs[k]->height + 1);
		}
	}
	s->is_open = false;
	s->height = height;
	return 0;
}

int
schema_compile(struct arena *a, const struct node *schema, struct schema **out, struct err *e)
{
	struct compiler c = { .a = a, .root = schema ? schema : &node_null };
	struct schema like = { 0 }, *root;
	int rc;

	c.last = &c.first;
	rc = schema_at(&c, &like, c.root, &root, e);
	for (struct schema *s = c.first; s && rc == 0; s = s->next)
		rc = compile_one(&c, s, e);
	for (struct schema *s = c.first; s && rc == 0; s = s->next)
		rc = measure(s, 0, e);
	if (rc == 0)
		*out = root;
	return rc;
}
