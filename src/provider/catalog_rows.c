/* SPDX-License-Identifier: MIT
 * The snapshot of public model data, as of CATALOG_DATE, from the vendors' model and pricing pages.
 * A model that is not known for certain is not here. Prices change: `ithaca catalog fetch` and
 * `catalog.models` are laid over these rows, and bills are the vendors' business. Prices:
 * micro-dollars per million tokens; where a vendor has a price of its own for audio input, it is
 * not told apart from text. */
#include "provider/catalog.h"

#define USD(x) ((int64_t)((x)*1000000.0 + 0.5))

#define SEES     (INPUT_TEXT | INPUT_IMAGE | INPUT_PDF)
#define PLAIN    (SEES | ABLE_TOOLS | ABLE_SCHEMA)
#define THINKS   (PLAIN | ABLE_REASONING)
#define HEARS    (THINKS | INPUT_AUDIO)
#define UNFORMED (THINKS & ~ABLE_SCHEMA) /* no structured output */

/* vendor, model, context, output; input, output, cache read, cache write; abilities, knowledge;
 * then long prompts: tokens, percent of the input and of the output prices. */
#define ROW(v, m, ctx, out, in_, out_, read, write, able_, known, ...)                             \
	{                                                                                          \
		.vendor = v, .model = m, .context_tokens = ctx, .max_output_tokens = out,          \
		.input = USD(in_), .output = USD(out_), .cached = USD(read),                       \
		.cache_write = USD(write), .able = able_, .knowledge = known, .has = HAS_ALL,      \
		__VA_ARGS__                                                                        \
	}
#define LONG(n, in_, out_) .long_tokens = n, .long_input_percent = in_, .long_output_percent = out_
#define ANTHROPIC(...)     ROW("anthropic", __VA_ARGS__)
#define OPENAI(...)        ROW("openai", __VA_ARGS__)
#define GOOGLE(...)        ROW("google", __VA_ARGS__)

const struct catalog_row catalog_rows[] = {
	ANTHROPIC("claude-fable-5-1", 1000000, 128000, 10, 50, 0.25, 12.5, THINKS, NULL),
	ANTHROPIC("claude-opus-5-5", 1000000, 128000, 4, 20, 0.2, 5, THINKS, NULL),
	ANTHROPIC("claude-opus-5", 1000000, 128000, 5, 25, 0.5, 6.25, THINKS, NULL),
	ANTHROPIC("claude-opus-4-5", 200000, 64000, 5, 25, 0.5, 6.25, THINKS, "2025-05"),
	ANTHROPIC("claude-opus-4-1", 200000, 32000, 15, 75, 1.5, 18.75, THINKS, "2025-01"),
	ANTHROPIC("claude-sonnet-5-5", 1000000, 128000, 2, 10, 0.1, 2.5, THINKS, NULL),
	ANTHROPIC("claude-sonnet-5", 1000000, 128000, 2, 10, 0.2, 2.5, THINKS, NULL),
	ANTHROPIC("claude-sonnet-4-5", 200000, 64000, 3, 15, 0.3, 3.75, THINKS, "2025-01"),
	ANTHROPIC("claude-sonnet-4", 200000, 64000, 3, 15, 0.3, 3.75, UNFORMED, "2025-01"),
	ANTHROPIC("claude-haiku-5-5", 1000000, 128000, 0.1, 0.5, 0.01, 0.125, THINKS, NULL,
		LONG(100000, 500, 500)),
	ANTHROPIC("claude-haiku-4-5", 200000, 64000, 1, 5, 0.1, 1.25, THINKS, "2025-02"),
	OPENAI("gpt-5.6-terra", 1050000, 128000, 2, 12, 0.2, 2.5, THINKS, NULL,
		LONG(272000, 200, 150)),
	OPENAI("gpt-5.6-luna", 1050000, 128000, 0.2, 1.2, 0.02, 0.25, THINKS, NULL,
		LONG(272000, 200, 150)),
	OPENAI("gpt-5.2", 400000, 128000, 1.75, 14, 0.175, 1.75, THINKS, "2025-08"),
	OPENAI("gpt-5.1", 400000, 128000, 1.25, 10, 0.125, 1.25, THINKS, "2024-09"),
	OPENAI("gpt-5", 400000, 128000, 1.25, 10, 0.125, 1.25, THINKS, "2024-09"),
	OPENAI("gpt-5-mini", 400000, 128000, 0.25, 2, 0.025, 0.25, THINKS, "2024-05"),
	OPENAI("gpt-5-nano", 400000, 128000, 0.05, 0.4, 0.005, 0.05, THINKS, "2024-05"),
	OPENAI("gpt-5-codex", 400000, 128000, 1.25, 10, 0.125, 1.25, THINKS | NEEDS_RESPONSES,
		"2024-09"),
	OPENAI("gpt-5-pro", 400000, 272000, 15, 120, 15, 15, THINKS | NEEDS_RESPONSES, "2024-09"),
	OPENAI("gpt-4.1", 1047576, 32768, 2, 8, 0.5, 2, PLAIN, "2024-06"),
	OPENAI("gpt-4.1-mini", 1047576, 32768, 0.4, 1.6, 0.1, 0.4, PLAIN, "2024-06"),
	OPENAI("gpt-4.1-nano", 1047576, 32768, 0.1, 0.4, 0.025, 0.1, PLAIN, "2024-06"),
	OPENAI("gpt-4o", 128000, 16384, 2.5, 10, 1.25, 2.5, PLAIN, "2023-10"),
	OPENAI("gpt-4o-mini", 128000, 16384, 0.15, 0.6, 0.075, 0.15, PLAIN, "2023-10"),
	OPENAI("o3", 200000, 100000, 2, 8, 0.5, 2, THINKS, "2024-06"),
	OPENAI("o4-mini", 200000, 100000, 1.1, 4.4, 0.275, 1.1, THINKS, "2024-06"),
	GOOGLE("gemini-3-pro-preview", 1048576, 65536, 2, 12, 0.2, 2, HEARS, "2025-01",
		LONG(200000, 200, 150), .status = "beta"),
	GOOGLE("gemini-2.5-pro", 1048576, 65536, 1.25, 10, 0.125, 1.25, HEARS, "2025-01",
		LONG(200000, 200, 150)),
	GOOGLE("gemini-2.5-flash", 1048576, 65536, 0.3, 2.5, 0.03, 0.3, HEARS, "2025-01"),
	GOOGLE("gemini-2.5-flash-lite", 1048576, 65536, 0.1, 0.4, 0.01, 0.1, HEARS, "2025-01"),
};
const size_t catalog_rows_n = ARRAY_LEN(catalog_rows);

#define TOOLS      (INPUT_TEXT | ABLE_TOOLS)
#define TOOLS_SEES (TOOLS | INPUT_IMAGE)
/* Servers of open models constrain the output themselves, whatever the model. */
#define FAMILY(m, ctx, able_)                                                                      \
	{                                                                                          \
		.vendor = "open", .model = m, .context_tokens = ctx,                               \
		.able = (able_) | ABLE_SCHEMA, .has = HAS_CONTEXT | HAS_ABILITIES                  \
	}

/* Windows are those of the smallest size of a family; a server may be set to less. */
const struct catalog_row catalog_families[] = {
	FAMILY("gpt-oss", 131072, TOOLS | ABLE_REASONING),
	FAMILY("llama3.1", 131072, TOOLS),
	FAMILY("llama3.2", 131072, TOOLS),
	FAMILY("llama3.2-vision", 131072, INPUT_TEXT | INPUT_IMAGE),
	FAMILY("llama3.3", 131072, TOOLS),
	FAMILY("llama4", 1048576, TOOLS_SEES),
	FAMILY("qwen2.5", 32768, TOOLS),
	FAMILY("qwen2.5-coder", 32768, TOOLS),
	FAMILY("qwen2.5vl", 32768, INPUT_TEXT | INPUT_IMAGE),
	FAMILY("qwen3", 32768, TOOLS | ABLE_REASONING),
	FAMILY("qwen3-coder", 262144, TOOLS),
	FAMILY("qwen3-vl", 262144, TOOLS_SEES),
	FAMILY("qwq", 32768, TOOLS | ABLE_REASONING),
	FAMILY("deepseek-r1", 131072, INPUT_TEXT | ABLE_REASONING),
	FAMILY("deepseek-v3", 131072, TOOLS),
	FAMILY("mistral-nemo", 131072, TOOLS),
	FAMILY("mistral-small3.1", 131072, TOOLS_SEES),
	FAMILY("mistral-small3.2", 131072, TOOLS_SEES),
	FAMILY("mistral-large", 131072, TOOLS),
	FAMILY("devstral", 131072, TOOLS),
	FAMILY("gemma3", 32768, INPUT_TEXT | INPUT_IMAGE),
	FAMILY("phi4", 16384, INPUT_TEXT),
	FAMILY("phi4-mini", 131072, TOOLS),
	FAMILY("glm-4.5", 131072, TOOLS | ABLE_REASONING),
	FAMILY("kimi-k2", 131072, TOOLS),
};
const size_t catalog_families_n = ARRAY_LEN(catalog_families);
