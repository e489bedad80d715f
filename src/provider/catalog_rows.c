/* SPDX-License-Identifier: MIT
 * A snapshot of public model data, taken in November 2026 from the vendors' model and pricing
 * pages. It is not fetched or refreshed: a row of `catalog.models` in the configuration adds a
 * model or replaces any of these numbers. Models that take tools only through the Responses API are
 * not here. Prices: micro-dollars per million tokens. */
#include "provider/internal.h"

#define ANTHROPIC "anthropic"
#define OPENAI    "openai-chat"
#define USD(x)    ((int64_t)((x)*1000000.0 + 0.5))

const struct catalog_row catalog_rows[] = {
	/* api, model, context, output; input, output, cache read, cache write; long prompts */
	{ ANTHROPIC, "claude-fable-5-1", 1000000, 128000, USD(10), USD(50), USD(0.25), USD(12.5) },
	{ ANTHROPIC, "claude-opus-5-5", 1000000, 128000, USD(4), USD(20), USD(0.2), USD(5) },
	{ ANTHROPIC, "claude-opus-5", 1000000, 128000, USD(5), USD(25), USD(0.5), USD(6.25) },
	{ ANTHROPIC, "claude-opus-4-5", 200000, 64000, USD(5), USD(25), USD(0.5), USD(6.25) },
	{ ANTHROPIC, "claude-sonnet-5-5", 1000000, 128000, USD(2), USD(10), USD(0.1), USD(2.5) },
	{ ANTHROPIC, "claude-sonnet-5", 1000000, 128000, USD(2), USD(10), USD(0.2), USD(2.5) },
	{ ANTHROPIC, "claude-sonnet-4-5", 200000, 64000, USD(3), USD(15), USD(0.3), USD(3.75) },
	{ ANTHROPIC, "claude-haiku-5-5", 1000000, 128000, USD(0.1), USD(0.5), USD(0.01), USD(0.125),
		100000, 500, 500 },
	{ ANTHROPIC, "claude-haiku-4-5", 200000, 64000, USD(1), USD(5), USD(0.1), USD(1.25) },
	{ OPENAI, "gpt-5.6-terra", 1050000, 128000, USD(2), USD(12), USD(0.2), USD(2.5), 272000,
		200, 150 },
	{ OPENAI, "gpt-5.6-luna", 1050000, 128000, USD(0.2), USD(1.2), USD(0.02), USD(0.25), 272000,
		200, 150 },
	{ OPENAI, "gpt-5.2", 400000, 128000, USD(1.75), USD(14), USD(0.175), USD(1.75) },
	{ OPENAI, "gpt-5.1", 400000, 128000, USD(1.25), USD(10), USD(0.125), USD(1.25) },
	{ OPENAI, "gpt-5", 400000, 128000, USD(1.25), USD(10), USD(0.125), USD(1.25) },
	{ OPENAI, "gpt-5-mini", 400000, 128000, USD(0.25), USD(2), USD(0.025), USD(0.25) },
	{ OPENAI, "gpt-5-nano", 400000, 128000, USD(0.05), USD(0.4), USD(0.005), USD(0.05) },
	{ OPENAI, "gpt-4.1", 1047576, 32768, USD(2), USD(8), USD(0.5), USD(2) },
	{ OPENAI, "gpt-4.1-mini", 1047576, 32768, USD(0.4), USD(1.6), USD(0.1), USD(0.4) },
};
const size_t catalog_rows_n = ARRAY_LEN(catalog_rows);
