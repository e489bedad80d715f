/* SPDX-License-Identifier: MIT
 * What the two halves of the JSON Schema validator share: schema.c makes this form, schema_check.c
 * runs it. */
#ifndef BASE_SCHEMA_INTERNAL_H
#define BASE_SCHEMA_INTERNAL_H

#include "base/schema.h"

struct run; /* one check */
struct at;  /* a place in the value */
struct rule;
typedef void (*rule_fn)(struct run *r, const struct schema *s, const struct rule *u,
	const struct node *v, const struct at *at);

/* What the value of a keyword must be. */
enum keyword_arg {
	ARG_NONE,       /* an annotation: not looked at */
	ARG_REFUSED,    /* it would change the meaning, and is not supported */
	ARG_ANY,        /* any value */
	ARG_BOOL,       /* true or false */
	ARG_NUMBER,     /* a number */
	ARG_POSITIVE,   /* a number above 0 */
	ARG_COUNT,      /* a whole number from 0 */
	ARG_TYPES,      /* a type, or a list of different types */
	ARG_NAMES,      /* a list of different strings */
	ARG_VALUES,     /* a list that is not empty */
	ARG_SCHEMA,     /* a schema */
	ARG_SCHEMAS,    /* a list of schemas that is not empty */
	ARG_SCHEMA_MAP, /* a map of schemas */
	ARG_REF,        /* a reference into the same document */
};

struct keyword {
	const char *name;
	enum keyword_arg arg;
	rule_fn check;
	bool is_in_place; /* its schemas are about the same value */
	const char *fix;  /* ARG_REFUSED: what to write instead */
};

enum { /* ARG_TYPES, as a set */
	TYPE_NULL = 1,
	TYPE_BOOLEAN = 2,
	TYPE_INTEGER = 4,
	TYPE_NUMBER = 8,
	TYPE_STRING = 16,
	TYPE_ARRAY = 32,
	TYPE_OBJECT = 64,
};
#define TYPE_COUNT 7
extern const char *const schema_type_names[TYPE_COUNT]; /* by bit */

/* One keyword of a schema that is checked. */
struct rule {
	const struct keyword *k;
	const struct node *value;
	int64_t n;            /* ARG_COUNT; ARG_TYPES: the set */
	struct schema **subs; /* ARG_SCHEMA*, ARG_REF: in the order of value */
	size_t subs_n;
};

struct schema {
	const struct node *node;
	/* Where it is: `key` or, when that is empty, `index` below `keyword` of `up`. Without `up`:
	 * the root, or what the reference `key` names. */
	const struct schema *up;
	const char *keyword;
	struct str key;
	size_t index;
	bool has_index;
	bool is_nothing;    /* the schema `false` */
	struct rule *rules; /* in the order of the table of keywords */
	size_t rules_n;
	struct schema *next;  /* of all, while compiling */
	struct schema *chain; /* same bucket */
	unsigned height;      /* longest way through in-place keywords, 0: not known yet */
	bool is_open;         /* on the way that is being walked */
};

/* A token of a JSON pointer, with ~ and / escaped. */
void pointer_add(struct buf *b, struct str token);

void check_type(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_const(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_enum(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_bound(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_multiple(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_size(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_unique(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_required(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_properties(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_additional(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_prefix(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_items(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_all(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_any(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_one(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);
void check_not(struct run *, const struct schema *, const struct rule *, const struct node *,
	const struct at *);

#endif
