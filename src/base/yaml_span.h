/* SPDX-License-Identifier: MIT
 * Where a key stands in YAML text, in bytes: for edits that keep comments and layout. The text must have passed
 * yaml_parse; this finds places and judges nothing. */
#ifndef BASE_YAML_SPAN_H
#define BASE_YAML_SPAN_H

#include "base/err.h"
#include "base/str.h"

enum yaml_form {
	YAML_FORM_EMPTY, /* nothing after `key:`, or an empty document */
	YAML_FORM_SCALAR, /* plain or quoted */
	YAML_FORM_BLOCK_SCALAR, /* | or > */
	YAML_FORM_BLOCK, /* a list or map by indentation */
	YAML_FORM_FLOW, /* [...] or {...} */
	YAML_FORM_ALIAS,
};

/* The value of the last key of a path that exists; the whole document when not even the first one does. */
struct yaml_span {
	size_t found; /* keys of the path that exist */
	enum yaml_form form;
	bool is_map;
	bool is_tied; /* has an anchor or a tag of its own */
	bool is_one_line;
	size_t items; /* of a list or map: pairs and items */
	size_t from, to; /* bytes of the value */
	size_t end; /* of the last thing inside it: a further entry of a block goes after that line */
	size_t column; /* of the keys of a map; otherwise of the key whose value this is */
	uint32_t line; /* 1-based */
};

int yaml_locate(struct str text, const struct str *path, size_t n, struct yaml_span *out, struct err *e) MUST_USE;

#endif
