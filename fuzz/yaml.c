/* SPDX-License-Identifier: MIT
 * YAML: no input may crash the reader, and what it takes reads back as the same tree from YAML and
 * from JSON. */
#include "base/json.h"
#include "base/limits.h"
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new(64 * MIB);
	struct buf b;
	struct json j;
	struct err e = { 0 };
	const struct node *n = NULL, *back = NULL;
	buf_init(&b, YAML_TEXT_MAX);
	if (yaml_parse(a, "fuzz", (struct str){ (const char *)data, size }, &n, &e) == 0) {
		json_init(&j, &b);
		json_node(&j, n);
		if (!b.overflow) {
			check(json_parse(a, buf_str(&b), &back, NULL) == 0);
			check(node_equal(n, back));
			buf_reset(&b);
			if (yaml_write(&b, n) == 0) {
				check(yaml_parse(a, "again", buf_str(&b), &back, &e) == 0);
				check(node_equal(n, back));
			}
		}
	} else {
		check(n == NULL && e.msg[0] != '\0');
	}
	buf_fini(&b);
	arena_free(a);
	return 0;
}
