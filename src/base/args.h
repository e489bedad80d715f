/* SPDX-License-Identifier: MIT
 * Command lines over a field table: the words after the command's name become a NODE_MAP with the
 * table's names, already checked against it. A name_with_underscores is written --name-with-dashes.
 */
#ifndef BASE_ARGS_H
#define BASE_ARGS_H

#include "base/field.h"

/* argv[0..argc) are the words after the command's name. Understood are `--name value`,
 * `--name=value`, `-m value`,
 * `-mvalue`, `-vx` (several flags), `--flag`, `--no-flag`, a FIELD_LIST option once for each item,
 * a FIELD_MAP option as NAME=VALUE, FIELD_POSITIONAL rows in their order (the last may be a
 * FIELD_LIST and takes the rest) and `--`, after which all words are operands. A lone `-` sets the
 * FIELD_BOOL row named "-" where the table has one and is an operand otherwise. Of a repeated
 * single option the last counts. Defaults are not filled in (field_defaults does). Required rows
 * are not asked for when a FIELD_BOOL row named "help" was given. Errors are ERR_USAGE. */
int args_parse(const struct field *table, int argc, char *const *argv, struct arena *a,
	const struct node **out, struct err *e) MUST_USE;

#endif
