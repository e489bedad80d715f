/* SPDX-License-Identifier: MIT
 * Field tables: one row describes a configuration key, a tool argument, an API parameter or a command-line option.
 * Parser, range check, help, man page, JSON Schema and default file derive from the row. A table ends with a row of
 * type FIELD_END. */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include "base/json.h"

enum field_type {
	FIELD_END = 0,
	FIELD_BOOL,
	FIELD_INT, /* min..max when max > min */
	FIELD_STR, /* min..max bytes when max > 0 */
	FIELD_ENUM, /* one of choices */
	FIELD_MONEY, /* decimal US dollars (number or string), kept as micro-dollars in int64; min..max in micro-dollars */
	FIELD_LIST, /* of `item`; max items when max > 0 */
	FIELD_OBJECT, /* fields in `sub` */
	FIELD_MAP, /* free keys, each value an object of `sub`, or of `item` when sub is NULL */
	FIELD_ANY, /* not checked here */
};

enum {
	FIELD_REQUIRED = 1 << 0,
	FIELD_SECRET = 1 << 1, /* never shown; FIELD_STR: also {secret: NAME}, which is */
	FIELD_NARROWS = 1 << 2, /* config: a workspace may set it, but only to something stricter */
	FIELD_HIDDEN = 1 << 3, /* not in help */
	FIELD_POSITIONAL = 1 << 4, /* command line: not an option but an operand */
	FIELD_OPEN = 1 << 5, /* object: unknown keys are kept, not refused */
	FIELD_RESTART = 1 << 6, /* config: read at start only */
	FIELD_NUL = 1 << 8, /* FIELD_STR: may hold NUL; others are read as C strings, which would end there */
	FIELD_RESERVED = 1 << 7, /* accepted and checked, but nothing in this version reads it: said wherever it shows */
};

struct field {
	const char *name;
	enum field_type type;
	unsigned flags;
	int64_t min, max;
	const char *dflt; /* as it would be written; NULL: none */
	const char *const *choices; /* FIELD_ENUM: NULL-terminated */
	const struct field *item; /* FIELD_LIST, FIELD_MAP: one row that describes an element (its name is unused) */
	const struct field *sub; /* FIELD_OBJECT, FIELD_MAP: table */
	const char *unit; /* "ms", "bytes", ... for help and messages */
	const char *text; /* one sentence */
	char short_opt; /* command line: -m */
};

/* Checks a map against a table: unknown keys (with the nearest name), types, ranges, missing required ones.
 * where: "config.yaml" or a tool's name. A document with lines gives "WHERE line 12: limits.turn_steps: ...". */
int field_check(const struct field *table, const struct node *map, const char *where, enum err_to to,
	struct err *e) MUST_USE;
/* Checks one value against one row; path is what the message calls it ("limits.turn_steps"). */
int field_check_value(const struct field *f, const struct node *value, const char *where,
	const char *path, enum err_to to, struct err *e) MUST_USE;
/* Makes the node that a text (environment, command line, default) means for this row. Lists and maps are YAML flow. */
int field_parse(const struct field *f, struct str text, struct arena *a, const struct node **out,
	struct err *e) MUST_USE;
/* A copy of map in which absent fields that have a default are filled in, at every level of FIELD_OBJECT. */
const struct node *field_defaults(const struct field *table, const struct node *map, struct arena *a);

/* The name in {secret: NAME}, empty when n is no such reference. Borrowed. */
struct str field_secret_name(const struct node *n);
size_t field_count(const struct field *table); /* rows before the end */
const struct field *field_find(const struct field *table, struct str name);
/* Micro-dollars from a checked FIELD_MONEY value; rounds up a part below one micro-dollar. 0 or -1. */
int field_money(const struct node *value, int64_t *microusd) MUST_USE;

/* JSON Schema (draft 2020-12) of an object with this table, additionalProperties false. */
void field_schema(const struct field *table, struct json *j);
/* Appends an aligned list of operands and options, at most 100 columns wide, for --help and the man page. */
void field_help(const struct field *table, struct buf *b);

#endif
