/* SPDX-License-Identifier: MIT
 * The streaming JSON writer. It keeps commas and nesting; it does not check that keys are unique or
 * that an object has a value for each key: that is the caller's shape. Overflow is the buffer's and
 * is checked once at the end. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>

#include "base/internal.h"
#include "base/utf8.h"

void
json_init(struct json *j, struct buf *b)
{
	*j = (struct json){ .b = b };
}

/* A comma where one value or key follows another. */
static void
lead(struct json *j)
{
	if (j->need_comma)
		(void)buf_add_char(j->b, ',');
	j->need_comma = true;
}

static void
begin(struct json *j, char c)
{
	lead(j);
	(void)buf_add_char(j->b, c);
	j->depth++;
	j->need_comma = false;
}

static void
finish(struct json *j, char c)
{
	if (j->depth == 0)
		fatal("json writer: '%c' without its opening", c);
	(void)buf_add_char(j->b, c);
	j->depth--;
	j->need_comma = true;
}

void
json_obj(struct json *j)
{
	begin(j, '{');
}

void
json_obj_end(struct json *j)
{
	finish(j, '}');
}

void
json_arr(struct json *j)
{
	begin(j, '[');
}

void
json_arr_end(struct json *j)
{
	finish(j, ']');
}

/* The escapes of RFC 8785, which suit the plain writer as well: short forms where JSON has them,
 * \u00xx for the other controls, everything else as it is. */
static void
add_escape(struct buf *b, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;
	if (at) {
		(void)buf_add_char(b, '\\');
		(void)buf_add_char(b, into[at - from]);
	} else {
		(void)buf_printf(b, "\\u%04x", c);
	}
}

static void
add_string(struct buf *b, struct str s)
{
	(void)buf_add_char(b, '"');
	size_t from = 0;
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		uint32_t cp;
		size_t len = c < 0x80 ? 1 : utf8_decode(s.p + i, s.n - i, &cp);
		if (len > 0 && c >= 0x20 && c != '"' && c != '\\') {
			i += len;
			continue;
		}
		(void)buf_add(b, s.p + from, i - from);
		if (len == 0) {
			(void)buf_add_z(b, "\xEF\xBF\xBD");
			i += utf8_bad_length(s.p + i, s.n - i);
		} else {
			add_escape(b, c);
			i++;
		}
		from = i;
	}
	(void)buf_add(b, s.p + from, s.n - from);
	(void)buf_add_char(b, '"');
}

void
json_key_str(struct json *j, struct str key)
{
	lead(j);
	add_string(j->b, key);
	(void)buf_add_char(j->b, ':');
	j->need_comma = false;
}

void
json_str(struct json *j, struct str s)
{
	lead(j);
	add_string(j->b, s);
}

void
json_raw(struct json *j, struct str text)
{
	lead(j);
	(void)buf_add_str(j->b, text);
}

void
json_null(struct json *j)
{
	json_raw(j, STR("null"));
}

void
json_z(struct json *j, const char *z)
{
	if (z)
		json_str(j, str_of(z));
	else
		json_null(j);
}

/* Digits from the end of a small array: messages between roles are mostly small numbers. */
static void
add_digits(struct json *j, uint64_t u, bool negative)
{
	char text[24];
	size_t at = sizeof(text);
	do {
		text[--at] = (char)('0' + u % 10);
		u /= 10;
	} while (u);
	if (negative)
		text[--at] = '-';
	json_raw(j, (struct str){ text + at, sizeof(text) - at });
}

void
json_int(struct json *j, int64_t i)
{
	add_digits(j, i < 0 ? 0 - (uint64_t)i : (uint64_t)i, i < 0);
}

void
json_uint(struct json *j, uint64_t u)
{
	add_digits(j, u, false);
}

void
json_double(struct json *j, double d)
{
	char text[ES_NUMBER_SIZE];
	if (!isfinite(d)) {
		json_null(j);
		return;
	}
	es_number(d, text);
	json_raw(j, str_of(text));
}

void
json_bool(struct json *j, bool b)
{
	json_raw(j, b ? STR("true") : STR("false"));
}

void
json_node(struct json *j, const struct node *n)
{
	n = n ? n : &node_null;
	switch (n->type) {
	case NODE_NULL:
		json_null(j);
		break;
	case NODE_BOOL:
		json_bool(j, n->b);
		break;
	case NODE_INT:
		json_int(j, n->i);
		break;
	case NODE_NUM:
		json_raw(j, n->num.raw);
		break;
	case NODE_STR:
		json_str(j, n->s);
		break;
	case NODE_LIST:
		json_arr(j);
		for (size_t i = 0; i < n->list.n; i++)
			json_node(j, &n->list.items[i]);
		json_arr_end(j);
		break;
	case NODE_MAP:
		json_obj(j);
		for (size_t i = 0; i < n->map.n; i++) {
			json_key_str(j, n->map.pairs[i].key);
			json_node(j, &n->map.pairs[i].value);
		}
		json_obj_end(j);
		break;
	}
}
