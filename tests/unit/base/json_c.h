/* SPDX-License-Identifier: MIT
 * json-c as the reference of the parser's differential test. In a file of its own, because both
 * sides have a `json_bool`. */
#ifndef TEST_JSON_C_H
#define TEST_JSON_C_H

#include "base/node.h"

/* Does json-c, strict and with UTF-8 validation, read text as the same tree? */
bool json_c_agrees(struct str text, const struct node *n);

#endif
