/* SPDX-License-Identifier: MIT
 * One immutable tree for JSON and YAML documents. It lives in an arena, keeps numbers as written, and knows the line
 * of each value, so that an error can name file and line. Reading never fails: a missing or wrongly typed value gives
 * the default, because documents are validated against a field table before they are read. */
#ifndef BASE_NODE_H
#define BASE_NODE_H

#include "base/arena.h"
#include "base/err.h"

enum node_type { NODE_NULL, NODE_BOOL, NODE_INT, NODE_NUM, NODE_STR, NODE_LIST, NODE_MAP };

struct node_pair;

struct node {
	enum node_type type;
	uint32_t line; /* 1-based, 0 when not from a document */
	union {
		bool b;
		int64_t i;
		struct {
			double d;
			struct str raw; /* as written: money and 64-bit values lose nothing */
		} num; /* NODE_NUM: has a fraction or exponent, or is outside int64 */
		struct str s; /* also NUL-terminated in memory */
		struct {
			const struct node *items;
			size_t n;
		} list;
		struct {
			const struct node_pair *pairs; /* in document order; keys are unique */
			size_t n;
		} map;
	};
};

struct node_pair {
	struct str key; /* also NUL-terminated in memory */
	uint32_t line;
	struct node value;
};

extern const struct node node_null;

/* Strict RFC 8259: UTF-8 only, no NaN, no duplicate keys, no trailing bytes, depth JSON_DEPTH_MAX. */
int json_parse(struct arena *a, struct str text, const struct node **out, struct err *e) MUST_USE;
/* YAML 1.2 core schema (true/false/null only in those spellings, no yes/no/on), one document, aliases expanded up to
 * YAML_NODES_MAX, no tags but the core ones, keys are scalars and unique. name is for messages. */
int yaml_parse(struct arena *a, const char *name, struct str text, const struct node **out,
	struct err *e) MUST_USE;

/* All accept NULL as node. */
const struct node *node_get_str(const struct node *map, struct str key); /* NULL when absent */
const struct node *node_at(const struct node *list, size_t i); /* NULL past the end */
size_t node_len(const struct node *n); /* of a list or map, else 0 */
/* "a.b.c" through maps. */
const struct node *node_find(const struct node *map, const char *dotted);

static inline bool
node_is(const struct node *n, enum node_type type)
{
	return n && n->type == type;
}

/* Inline for the keys, which are literals. */
static inline const struct node *
node_get(const struct node *map, const char *key)
{
	return node_get_str(map, str_of(key));
}

static inline struct str
node_str(const struct node *map, const char *key, struct str dflt)
{
	const struct node *n = node_get(map, key);
	return node_is(n, NODE_STR) ? n->s : dflt;
}

const char *node_z(const struct node *map, const char *key, const char *dflt); /* dflt too when it holds a NUL */
/* The whole number that n is (5, 5.0, 5e0), false when it is none. */
bool node_as_int(const struct node *n, int64_t *out);

static inline int64_t
node_int(const struct node *map, const char *key, int64_t dflt)
{
	int64_t i;
	return node_as_int(node_get(map, key), &i) ? i : dflt;
}

static inline bool
node_bool(const struct node *map, const char *key, bool dflt)
{
	const struct node *n = node_get(map, key);
	return node_is(n, NODE_BOOL) ? n->b : dflt;
}

const char *node_type_name(enum node_type t); /* "a string", "a list", ... for messages */
/* Deep copy into another arena. */
const struct node *node_copy(struct arena *a, const struct node *n);
bool node_equal(const struct node *a, const struct node *b); /* maps without order */

#endif
