/* SPDX-License-Identifier: MIT
 * Inside of config/: the tree of settings, one per key that is set, each with its row and its origin. The immutable node
 * tree that readers see is made from it once. */
#ifndef CONFIG_INTERNAL_H
#define CONFIG_INTERNAL_H

#include "config/config.h"

extern const struct field config_root; /* an object of config_keys */
extern const char *const config_tiers[]; /* after "auto" from weak to strong */

struct setting {
	struct str key;
	const struct field *field;
	bool is_secret; /* its row, or one above it, is */
	struct config_origin origin;
	const struct node *value; /* of a scalar or list; NULL for an object or map */
	struct config_origin *items; /* of a list: where each element comes from */
	const struct node *node; /* its place in the tree, once that is made */
	struct setting *parent, *first, *next;
};

/* config_attach: its own lifetime, because configurations narrowed from one share it. */
struct attachment {
	int refs;
	void *object;
	void (*free_fn)(void *object);
};

struct config {
	int refs;
	struct attachment *attached;
	struct arena *a;
	struct setting root;
};

/* Where values come from while a layer is merged. where begins messages: "config FILE" or "environment NAME". */
struct source {
	enum config_layer layer;
	const char *file; /* in the configuration's arena, or NULL */
	const char *where;
};

struct config *config_new(void);

/* Takes one segment off a dotted path: plain, or "in double quotes". false at the end; a malformed rest is taken whole. */
bool dotted_next(struct str *rest, struct str *segment);
/* Appends a segment, after a dot unless b is empty, quoted when it has to be. */
void dotted_add(struct buf *b, struct str segment);

/* The row of a key below a row, or NULL. Entries of a map that has `sub` share one row made in a. */
const struct field *field_below(const struct field *f, struct str key, struct arena *a);
/* Sets an error that names the nearest key. dotted: the whole path; segment: the part that is not there. */
int field_unknown(const struct field *f, struct str dotted, struct str segment, struct err *e);
/* The row that a dotted path means. */
int field_resolve(struct str dotted, struct arena *a, const struct field **out, struct err *e) MUST_USE;

struct setting *setting_find(const struct setting *s, struct str key);
struct setting *setting_at(const struct config *c, struct str dotted); /* NULL when it is not set */
struct setting *setting_make(struct config *c, struct setting *parent, struct str key, const struct field *f);
/* Puts a checked value in: maps and objects merge key by key, the rest is replaced. */
void setting_merge(struct config *c, struct setting *s, const struct node *value, uint32_t line, const struct source *from);
/* As setting_merge at a path whose keys exist in the table. */
void setting_merge_at(struct config *c, struct str dotted, const struct node *value, uint32_t line,
	const struct source *from);
/* Fills in defaults of rows that are not set, inside entries of maps too. */
void setting_defaults(struct config *c, struct setting *s);
void setting_path(const struct setting *s, struct buf *b);
/* Makes the tree: after it the configuration does not change. */
void config_seal(struct config *c);
struct config *config_clone(const struct config *c);

/* Parses YAML text and checks it against the table; keys without a value count as absent. *out is a map. */
int document_read(struct arena *a, const char *where, struct str text, const struct node **out,
	struct err *e) MUST_USE;
/* What no single row can check: combinations of keys. */
int config_check(const struct config *c, struct err *e) MUST_USE;

#endif
