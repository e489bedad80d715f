/* SPDX-License-Identifier: MIT
 * Reading, comparing and copying the immutable tree. Nothing here fails or changes a node; a walk
 * goes as deep as the parsers allow (JSON_DEPTH_MAX), so recursion is bounded. */
#include "base/node.h"

#include <stdlib.h>

#include "base/internal.h"
#include "base/mem.h"

#define SMALL_MAP 16 /* below this, comparing each key with each other one beats sorting */

const struct node node_null = { .type = NODE_NULL };

const struct node *
node_get_str(const struct node *map, struct str key)
{
	if (!node_is(map, NODE_MAP))
		return NULL;
	for (size_t i = 0; i < map->map.n; i++) {
		if (str_eq(map->map.pairs[i].key, key))
			return &map->map.pairs[i].value;
	}
	return NULL;
}

const struct node *
node_at(const struct node *list, size_t i)
{
	return node_is(list, NODE_LIST) && i < list->list.n ? &list->list.items[i] : NULL;
}

size_t
node_len(const struct node *n)
{
	return node_is(n, NODE_LIST) ? n->list.n : node_is(n, NODE_MAP) ? n->map.n : 0;
}

const struct node *
node_find(const struct node *map, const char *dotted)
{
	struct str rest = str_of(dotted), part;
	while (map && str_next(&rest, '.', &part))
		map = node_get_str(map, part);
	return map;
}

/* A string with a NUL inside would be read as a shorter one: it is not a C string and gives the
 * default. */
const char *
node_z(const struct node *map, const char *key, const char *dflt)
{
	const struct node *n = node_get(map, key);
	if (!node_is(n, NODE_STR) || str_find_char(n->s, '\0') >= 0)
		return dflt;
	return n->s.p;
}

bool
node_as_int(const struct node *n, int64_t *out)
{
	if (node_is(n, NODE_INT)) {
		*out = n->i;
		return true;
	}
	/* 5.0 and 1e3 are whole; beyond 2^53 a double no longer says which number was meant. */
	if (!node_is(n, NODE_NUM) || n->num.d < -0x1p53 || n->num.d > 0x1p53)
		return false;
	int64_t whole = (int64_t)n->num.d;
	if ((double)whole != n->num.d)
		return false;
	*out = whole;
	return true;
}

const char *
node_type_name(enum node_type t)
{
	static const char *const names[] = {
		[NODE_NULL] = "null",
		[NODE_BOOL] = "true or false",
		[NODE_INT] = "a whole number",
		[NODE_NUM] = "a number",
		[NODE_STR] = "a string",
		[NODE_LIST] = "a list",
		[NODE_MAP] = "a map",
	};
	return (size_t)t < ARRAY_LEN(names) ? names[t] : "an unknown value";
}

static void
copy_into(struct arena *a, struct node *to, const struct node *from)
{
	*to = *from;
	if (from->type == NODE_STR) {
		to->s = arena_str(a, from->s);
	} else if (from->type == NODE_NUM) {
		to->num.raw = arena_str(a, from->num.raw);
	} else if (from->type == NODE_LIST && from->list.n) {
		struct node *items = arena_alloc(a, from->list.n * sizeof(*items));
		for (size_t i = 0; i < from->list.n; i++)
			copy_into(a, &items[i], &from->list.items[i]);
		to->list.items = items;
	} else if (from->type == NODE_MAP && from->map.n) {
		struct node_pair *pairs = arena_alloc(a, from->map.n * sizeof(*pairs));
		for (size_t i = 0; i < from->map.n; i++) {
			pairs[i].key = arena_str(a, from->map.pairs[i].key);
			pairs[i].line = from->map.pairs[i].line;
			copy_into(a, &pairs[i].value, &from->map.pairs[i].value);
		}
		to->map.pairs = pairs;
	}
}

const struct node *
node_copy(struct arena *a, const struct node *n)
{
	struct node *copy = arena_alloc(a, sizeof(*copy));
	copy_into(a, copy, n ? n : &node_null);
	return copy;
}

/* strtod(3) reads the decimal point of the locale. A program that sets LC_NUMERIC would silently
 * read 1.5 as 1; it is stopped instead. */
double
number_value(const char *z)
{
	char *end;
	double d = strtod(z, &end);
	if (*end)
		fatal("\"%s\" is not read as a number: LC_NUMERIC must stay \"C\"", z);
	return d;
}

static bool
is_whole(struct str raw)
{
	for (size_t i = 0; i < raw.n; i++) {
		if (raw.p[i] != '-' && (raw.p[i] < '0' || raw.p[i] > '9'))
			return false;
	}
	return raw.n > 0;
}

/* 1.50 equals 1.5, but two whole numbers that a double cannot tell apart are compared as written.
 */
static bool
num_equal(const struct node *a, const struct node *b)
{
	if (is_whole(a->num.raw) && is_whole(b->num.raw))
		return str_eq(a->num.raw, b->num.raw);
	return a->num.d == b->num.d;
}

static bool
map_equal(const struct node *a, const struct node *b)
{
	if (a->map.n != b->map.n)
		return false;
	AUTO_FREE const struct node_pair **pa = pairs_sorted(a, false);
	AUTO_FREE const struct node_pair **pb = pairs_sorted(b, false);
	for (size_t i = 0; i < a->map.n; i++) {
		if (!str_eq(pa[i]->key, pb[i]->key) || !node_equal(&pa[i]->value, &pb[i]->value))
			return false;
	}
	return true;
}

bool
node_equal(const struct node *a, const struct node *b)
{
	a = a ? a : &node_null;
	b = b ? b : &node_null;
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case NODE_NULL:
		return true;
	case NODE_BOOL:
		return a->b == b->b;
	case NODE_INT:
		return a->i == b->i;
	case NODE_NUM:
		return num_equal(a, b);
	case NODE_STR:
		return str_eq(a->s, b->s);
	case NODE_MAP:
		return map_equal(a, b);
	case NODE_LIST:
		break;
	}
	for (size_t i = 0; i < a->list.n; i++) {
		if (i >= b->list.n || !node_equal(&a->list.items[i], &b->list.items[i]))
			return false;
	}
	return a->list.n == b->list.n;
}

static int
by_bytes(const void *a, const void *b)
{
	const struct node_pair *x = *(const struct node_pair *const *)a,
			       *y = *(const struct node_pair *const *)b;
	int order = str_cmp(x->key, y->key);
	return order ? order : (x > y) - (x < y);
}

/* UTF-16 order from UTF-8 bytes: it differs only in that characters past U+FFFF (lead byte F0 and
 * up), which are written with surrogates D800..DFFF, come before U+E000..U+FFFF (lead bytes EE and
 * EF). */
static int
by_utf16(const void *a, const void *b)
{
	struct str x = (*(const struct node_pair *const *)a)->key,
		   y = (*(const struct node_pair *const *)b)->key;
	for (size_t i = 0; i < x.n && i < y.n; i++) {
		unsigned char cx = (unsigned char)x.p[i], cy = (unsigned char)y.p[i];
		if (cx == cy)
			continue;
		if (cx >= 0xee && cy >= 0xee && (cx >= 0xf0) != (cy >= 0xf0))
			return cx >= 0xf0 ? -1 : 1;
		return cx < cy ? -1 : 1;
	}
	return (x.n > y.n) - (x.n < y.n);
}

const struct node_pair **
pairs_sorted(const struct node *map, bool utf16)
{
	const struct node_pair **sorted = xcalloc(map->map.n, sizeof(*sorted));
	for (size_t i = 0; i < map->map.n; i++)
		sorted[i] = &map->map.pairs[i];
	if (map->map.n > 1)
		qsort(sorted, map->map.n, sizeof(*sorted), utf16 ? by_utf16 : by_bytes);
	return sorted;
}

const struct node_pair *
pairs_duplicate(const struct node_pair *pairs, size_t n)
{
	if (n <= SMALL_MAP) {
		for (size_t i = 1; i < n; i++) {
			for (size_t k = 0; k < i; k++) {
				if (str_eq(pairs[i].key, pairs[k].key))
					return &pairs[i];
			}
		}
		return NULL;
	}
	const struct node map = { .type = NODE_MAP, .map = { pairs, n } };
	AUTO_FREE const struct node_pair **sorted = pairs_sorted(&map, false);
	for (size_t i = 1; i < n; i++) {
		if (str_eq(sorted[i]->key, sorted[i - 1]->key))
			return sorted[i];
	}
	return NULL;
}
