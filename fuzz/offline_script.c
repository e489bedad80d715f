/* SPDX-License-Identifier: MIT
 * The offline model: a script up to the first NUL (none: the built-in rules), the user's words
 * behind it. Whatever is accepted must answer, twice the same. */
#include <stdlib.h>
#include "base/hash.h"
#include "base/limits.h"
#include "provider/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t
answer(const struct offline *o, struct str words)
{
	const struct part asked = { .type = PART_TEXT, .text = words };
	const struct part call = {
		.type = PART_CALL, .call_id = STR("1"), .tool = STR("read"), .args = STR("{}")
	};
	const struct part result = { .type = PART_RESULT, .call_id = STR("1"), .text = words };
	const struct message messages[] = { { MSG_USER, &asked, 1 }, { MSG_ASSISTANT, &call, 1 },
		{ MSG_USER, &result, 1 } };
	const struct tool_schema tools[] = { { .name = "read" }, { .name = "exec" },
		{ .name = "write" }, { .name = "list" } };
	uint64_t h = 0;

	for (size_t n = 0; n <= 3; n++) {
		struct model_request r = {
			.messages = messages, .messages_n = n, .tools = tools, .tools_n = 4
		};
		struct arena *a = arena_new(64 * MIB);
		const struct offline_step *steps = NULL;
		size_t steps_n = 0;
		struct err e;

		if (offline_answer(o, &r, a, &steps, &steps_n, &e) != 0)
			h ^= n + 1;
		for (size_t i = 0; i < steps_n; i++)
			h = (h ^ hash64(steps[i].text) ^ hash64(steps[i].args) ^ steps[i].type) *
			    1099511628211u;
		arena_free(a);
	}
	return h;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str all = { (const char *)data, size }, script = all,
		   words = STR("read a then run b");
	ptrdiff_t nul = str_find_char(all, '\0');
	struct offline *o;
	struct err e;

	if (nul >= 0) {
		script = str_sub(all, 0, (size_t)nul);
		words = str_sub(all, (size_t)nul + 1, size);
	}
	if (offline_open("fuzz.yaml", script, &o, &e) != 0)
		return 0;
	if (answer(o, words) != answer(o, words))
		abort();
	offline_close(o);
	return 0;
}
