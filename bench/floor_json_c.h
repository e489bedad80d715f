/* SPDX-License-Identifier: MIT
 * The floor of bench/parsers: json-c parses each line and frees the tree, and nothing else. A file
 * of its own, because names of json-c and of base/json.h are the same. */
#ifndef BENCH_FLOOR_JSON_C_H
#define BENCH_FLOOR_JSON_C_H

#include "base/str.h"

int floor_json_c(const struct str *lines, size_t n); /* 0, or -1 with a message on stderr */

#endif
