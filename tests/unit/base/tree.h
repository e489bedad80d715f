/* SPDX-License-Identifier: MIT
 * An arena for each test of trees, texts that must parse, and a tree compared as JSON. */
#ifndef TEST_BASE_TREE_H
#define TEST_BASE_TREE_H

#include "test.h"

#include "base/json.h"
#include "base/limits.h"

static struct arena *a;

static int
setup(void **state)
{
	a = arena_new(256 * MIB);
	return 0;
}

static int
teardown(void **state)
{
	arena_free(a);
	return 0;
}

static inline const struct node *
parsed(const char *json)
{
	const struct node *n = NULL;
	struct err e = { 0 };
	if (json_parse(a, str_of(json), &n, &e) != 0)
		fail_msg("%.200s: %s", json, e.msg);
	return n;
}

static inline const struct node *
yaml(const char *text)
{
	const struct node *n = NULL;
	struct err e = { 0 };
	if (yaml_parse(a, "t.yaml", str_of(text), &n, &e) != 0)
		fail_msg("%s: %s", text, e.msg);
	return n;
}

static inline void
assert_json(const struct node *n, const char *want)
{
	struct buf b;
	struct json j;
	buf_init(&b, MIB);
	json_init(&j, &b);
	json_node(&j, n);
	assert_string_equal(buf_z(&b), want);
	buf_fini(&b);
}

#endif
