/* SPDX-License-Identifier: MIT
 * What calls cost. Money is micro-dollars in int64 and every part of a cost is rounded up, so that
 * a sum is never below what the vendor charges. */
#include "provider/internal.h"

#define MTOK 1000000
#define BYTES_PER_TOKEN                                                                            \
	3 /* below what tokenizers reach on prose and code; what they do on other text, a session  \
	     learns from its answers */

static int64_t
part_cost(int64_t tokens, int64_t per_mtok, int64_t percent)
{
	__int128 microusd = (__int128)MAX(tokens, 0) * MAX(per_mtok, 0) * percent;

	microusd = (microusd + (__int128)MTOK * 100 - 1) / ((__int128)MTOK * 100);
	return microusd > INT64_MAX / 8 ? INT64_MAX / 8 : (int64_t)microusd;
}

int64_t
model_cost(const struct model_info *m, const struct model_usage *u)
{
	bool is_long = m->long_tokens > 0 && u->input_tokens > m->long_tokens;
	int64_t in = is_long ? m->long_input_percent : 100,
		out = is_long ? m->long_output_percent : 100;
	int64_t cached = MIN(u->cached_tokens, u->input_tokens);
	int64_t written = MIN(u->cache_write_tokens, u->input_tokens - cached);

	return part_cost(u->input_tokens - cached - written, m->input_microusd_per_mtok, in) +
	       part_cost(cached, m->cached_microusd_per_mtok, in) +
	       part_cost(written, m->cache_write_microusd_per_mtok, in) +
	       part_cost(u->output_tokens, m->output_microusd_per_mtok, out);
}

int64_t
model_tokens_bound(size_t bytes)
{
	return (int64_t)((MIN(bytes, (size_t)INT64_MAX / 8) + BYTES_PER_TOKEN - 1) /
			 BYTES_PER_TOKEN);
}

int64_t
model_cost_bound(const struct model_info *m, int64_t input_tokens)
{
	bool is_long = m->long_tokens > 0 && input_tokens > m->long_tokens;

	return part_cost(input_tokens,
		       MAX(m->input_microusd_per_mtok, m->cache_write_microusd_per_mtok),
		       is_long ? m->long_input_percent : 100) +
	       part_cost(m->max_output_tokens > 0 ? m->max_output_tokens : m->context_tokens,
		       m->output_microusd_per_mtok, is_long ? m->long_output_percent : 100);
}
