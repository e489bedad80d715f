/* SPDX-License-Identifier: MIT
 * What the files of base share among themselves. Not for other rooms. */
#ifndef BASE_INTERNAL_H
#define BASE_INTERNAL_H

#include "base/field.h"

/* n bytes without alignment and not zeroed, or NULL past the maximum: for text. */
char *arena_chars(struct arena *a, size_t n);

/* Length of the invalid sequence at p (1..3), by the maximal-subpart rule of Unicode chapter 3.9.
 */
size_t utf8_bad_length(const char *p, size_t n);

/* The pairs of a map in the order of their keys (bytes, or UTF-16 code units as RFC 8785 wants
 * them). Heap. */
const struct node_pair **pairs_sorted(const struct node *map, bool utf16) MUST_USE;
/* A key that occurs twice, or NULL. Of the two, the pair that comes later in the document. */
const struct node_pair *pairs_duplicate(const struct node_pair *pairs, size_t n);

/* The double that a JSON number means. */
double number_value(const char *z);

/* ECMAScript's Number::toString, which RFC 8785 prescribes. d is finite. */
#define ES_NUMBER_SIZE 64
void es_number(double d, char out[ES_NUMBER_SIZE]);

/* What a plain YAML scalar means in the core schema; a number's raw text is a valid JSON number in
 * the arena. 0, ERR_INVALID (reason set) or ERR_LIMIT (arena full). */
int yaml_scalar(struct arena *a, struct str s, struct node *out, const char **reason) MUST_USE;

#endif
