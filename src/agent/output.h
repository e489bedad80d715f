/* SPDX-License-Identifier: MIT
 * Structured output: reads a final answer as JSON and checks it against the schema that the turn asked for. Pure. */
#ifndef AGENT_OUTPUT_H
#define AGENT_OUTPUT_H

#include "base/node.h"
#include "base/buf.h"

/* 0 with the value in a. ERR_INVALID: it is no JSON, or does not match; why then says what to change, a line each.
 * A fence of three or more backticks around the value is taken off. */
int output_read(struct arena *a, const struct node *schema, struct str text, const struct node **out,
	struct buf *why) MUST_USE;

#endif
