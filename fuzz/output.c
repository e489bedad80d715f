/* SPDX-License-Identifier: MIT
 * The reader of structured answers: fences around JSON, then the check against a schema. */
#include <stddef.h>
#include <stdint.h>
#include "agent/output.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char schema[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}";
	struct arena *a = arena_new(64u << 20);
	const struct node *n, *value;
	struct buf why;
	struct err e;

	buf_init(&why, 64 << 10);
	if (json_parse(a, str_of(schema), &n, &e) == 0)
		(void)!output_read(a, n, (struct str){ (const char *)data, size }, &value, &why);
	buf_fini(&why);
	arena_free(a);
	return 0;
}
