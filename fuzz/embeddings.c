/* SPDX-License-Identifier: MIT
 * The readers of answers with vectors: the first byte chooses API, number of texts and dimensions.
 * What is accepted has as many vectors as texts, all finite. */
#include <math.h>
#include <stdlib.h>
#include "base/limits.h"
#include "provider/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const apis[] = { "openai-chat", "gemini", "ollama" };
	const struct str texts[] = { STR("a"), STR("b"), STR("c"), STR("d") };
	struct embed_request q = { .model = STR("m"), .texts = texts };
	struct embed_result r;
	struct arena *a;
	struct err e = { 0 };

	if (size < 1)
		return 0;
	q.n = 1 + data[0] / 3 % 4;
	q.dimensions = data[0] / 12 % 4;
	a = arena_new(64 * MIB);
	if (provider_api_find(str_of(apis[data[0] % 3]))
			->embed_parse(&q, (struct str){ (const char *)data + 1, size - 1 }, a, &r,
				&e) == 0) {
		if (r.n != q.n || r.dimensions == 0 || r.dimensions > EMBED_DIMENSIONS_MAX ||
			(q.dimensions > 0 && r.dimensions != (size_t)q.dimensions) ||
			r.input_tokens < 0)
			abort();
		for (size_t i = 0; i < r.n * r.dimensions; i++)
			if (!isfinite(r.values[i]))
				abort();
	} else if (e.code == 0 || e.msg[0] == '\0') {
		abort();
	}
	arena_free(a);
	return 0;
}
