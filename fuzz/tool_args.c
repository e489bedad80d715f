/* SPDX-License-Identifier: MIT
 * Arguments of a tool call as a model may write them. Whatever comes in, what tool_args lets
 * through has only fields of the table, all required ones, and values in range; and it lets its own
 * output through unchanged. */
#include "base/limits.h"
#include "tool/tool.h"

static const char *const choices[] = { "poll", "kill", NULL };
static const struct field item = { .type = FIELD_STR };
static const struct field sub[] = { { .name = "x", .type = FIELD_INT, .dflt = "1" },
	{ .type = FIELD_END } };
static const struct field args[] = {
	{ .name = "path", .type = FIELD_STR, .flags = FIELD_REQUIRED, .max = 100 },
	{ .name = "n", .type = FIELD_INT, .min = 1, .max = 1000, .dflt = "10" },
	{ .name = "all", .type = FIELD_BOOL, .dflt = "false" },
	{ .name = "action", .type = FIELD_ENUM, .choices = choices, .dflt = "poll" },
	{ .name = "list", .type = FIELD_LIST, .item = &item, .max = 5 },
	{ .name = "object", .type = FIELD_OBJECT, .sub = sub },
	{ .type = FIELD_END },
};
static const struct tool tool = { .name = "fuzzed", .args = args };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena *a = arena_new(256 * MIB);
	const struct node *once, *twice;
	struct err e = { 0 };
	struct buf b;

	if (tool_args(&tool, (struct str){ (const char *)data, n }, a, &once, &e) == 0) {
		int64_t i = node_int(once, "n", -1);
		if (node_get(once, "path") == NULL || i < 1 || i > 1000 ||
			node_get(once, "all")->type != NODE_BOOL)
			fatal("arguments outside of their table came through");
		buf_init(&b, 16 * MIB);
		if (json_canonical(&b, once) != 0 ||
			tool_args(&tool, buf_str(&b), a, &twice, &e) != 0 ||
			!node_equal(once, twice))
			fatal("checked arguments are not their own fixed point: %s", e.msg);
		buf_fini(&b);
	} else if (e.to != ERR_TO_MODEL || e.msg[0] == 0) {
		fatal("an error without words for the model");
	}
	arena_free(a);
	return 0;
}
