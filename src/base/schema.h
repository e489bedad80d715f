/* SPDX-License-Identifier: MIT
 * JSON Schema (draft 2020-12): the part that structured output of models uses. What a schema says
 * is either checked or refused when it is compiled, never passed over: the table in schema.c has
 * the keywords. Numbers are equal by value (5 is 5.0), lengths count code points. */
#ifndef BASE_SCHEMA_H
#define BASE_SCHEMA_H

#include "base/buf.h"
#include "base/node.h"

struct schema;

/* The compiled form lives in a and borrows the tree of `schema`, which must live as long.
 * ERR_INVALID with the JSON pointer of what is wrong or not supported, ERR_LIMIT past a maximum. */
int schema_compile(
	struct arena *a, const struct node *schema, struct schema **out, struct err *e) MUST_USE;
/* 0: value matches. ERR_INVALID: it does not; why (may be NULL) gets the first SCHEMA_FAULTS_MAX
 * faults, a line each: "/items/3/name: expected string, got integer 5". ERR_LIMIT: value and schema
 * together take more work or depth than is spent on one check; why says so. */
int schema_check(const struct schema *s, const struct node *value, struct buf *why) MUST_USE;

#endif
