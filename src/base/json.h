/* SPDX-License-Identifier: MIT
 * Streaming JSON writer into a buf. Commas and nesting are kept by the writer; strings that are not UTF-8 are written
 * lossily (U+FFFD). json_canonical gives the bytes of RFC 8785, which is what hashes are taken over. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/node.h"

struct json {
	struct buf *b;
	uint8_t depth;
	bool need_comma;
};

/* The writer appends to b, which the caller owns; b->overflow tells of truncation. Reuse after json_init. */
void json_init(struct json *j, struct buf *b);

void json_obj(struct json *j); /* { */
void json_obj_end(struct json *j);
void json_arr(struct json *j); /* [ */
void json_arr_end(struct json *j);
void json_key_str(struct json *j, struct str key);

void json_str(struct json *j, struct str s);
void json_z(struct json *j, const char *z); /* NULL gives null */
void json_int(struct json *j, int64_t i);
void json_uint(struct json *j, uint64_t u);
void json_double(struct json *j, double d); /* shortest form that reads back; NaN and infinities give null */
void json_bool(struct json *j, bool b);
void json_null(struct json *j);
void json_node(struct json *j, const struct node *n); /* numbers as written */
void json_raw(struct json *j, struct str text); /* already valid JSON */

/* What models write nearly right: commas before a closing bracket left out, control characters inside strings as escapes.
 * The copy lives in a; where that has no room, the text stays as it is. */
struct str json_mend(struct arena *a, struct str text);
/* Length of the object or list that text begins with, by its brackets alone; 0: none, or it does not end. */
size_t json_span(struct str text);

/* key and value in one call, inside an object. Inline for the keys, which are literals. */
static inline void
json_key(struct json *j, const char *key)
{
	json_key_str(j, str_of(key));
}

static inline void
json_kv_str(struct json *j, const char *key, struct str s)
{
	json_key(j, key);
	json_str(j, s);
}

static inline void
json_kv_z(struct json *j, const char *key, const char *z)
{
	json_key(j, key);
	json_z(j, z);
}

/* The two keys by which an error is told everywhere. */
static inline void
json_kv_err(struct json *j, const struct err *e)
{
	json_kv_z(j, "code", err_name(e->code));
	json_kv_z(j, "message", e->msg);
}

static inline void
json_kv_int(struct json *j, const char *key, int64_t i)
{
	json_key(j, key);
	json_int(j, i);
}

static inline void
json_kv_bool(struct json *j, const char *key, bool b)
{
	json_key(j, key);
	json_bool(j, b);
}

static inline void
json_kv_node(struct json *j, const char *key, const struct node *n)
{
	json_key(j, key);
	json_node(j, n);
}

/* The value is an object or a list that is written next, up to its end. */
static inline void
json_kv_obj(struct json *j, const char *key)
{
	json_key(j, key);
	json_obj(j);
}

static inline void
json_kv_arr(struct json *j, const char *key)
{
	json_key(j, key);
	json_arr(j);
}

static inline void
json_kv_raw(struct json *j, const char *key, struct str text)
{
	json_key(j, key);
	json_raw(j, text);
}

/* Appends n as RFC 8785 canonical JSON. Integers that a double cannot hold are written as integers. */
int json_canonical(struct buf *b, const struct node *n);
/* Appends n indented by two spaces, for people. */
int json_pretty(struct buf *b, const struct node *n);
/* Appends n as YAML block style, for people. */
int yaml_write(struct buf *b, const struct node *n);

#endif
