/* SPDX-License-Identifier: MIT
 * JSON: no input may crash the parser, and what it takes must survive each writer: plain and
 * indented text read back as the same tree, canonical text is its own canonical form. */
#include "base/json.h"
#include "base/limits.h"
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct node *
again(struct arena *a, struct buf *b)
{
	const struct node *n = NULL;
	check(!b->overflow && json_parse(a, buf_str(b), &n, NULL) == 0);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new(16 * MIB);
	struct buf b, canonical;
	struct json j;
	struct err e = { 0 };
	const struct node *n = NULL;
	buf_init(&b, 64 * MIB);
	buf_init(&canonical, 64 * MIB);
	if (json_parse(a, (struct str){ (const char *)data, size }, &n, &e) == 0) {
		json_init(&j, &b);
		json_node(&j, n);
		check(node_equal(n, again(a, &b)));
		buf_reset(&b);
		check(json_pretty(&b, n) == 0 && node_equal(n, again(a, &b)));
		check(json_canonical(&canonical, n) == 0);
		buf_reset(&b);
		check(json_canonical(&b, again(a, &canonical)) == 0);
		check(str_eq(buf_str(&b), buf_str(&canonical)));
		check(node_equal(n, node_copy(a, n)));
	} else {
		check(n == NULL && e.msg[0] != '\0');
	}
	buf_fini(&canonical);
	buf_fini(&b);
	arena_free(a);
	return 0;
}
