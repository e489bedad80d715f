/* SPDX-License-Identifier: MIT
 * The price of a model call: what it may cost at most is claimed before it is made, within what every cap leaves. */
#include "agent/model_call.h"

#define OUTPUT_TOKENS_MIN 256 /* less than this is not worth a call */
#define MTOK              1000000

static int64_t
output_cost(int64_t price, int64_t tokens)
{
	return (int64_t)(((__int128)price * tokens + MTOK - 1) / MTOK);
}

int
call_reserve(struct model_call *m, struct err *e)
{
	struct engine *en = m->r->en;
	struct spender w = { m->r, m->r->s->owner, m->r->s->agent, m->r->s->config };
	const char *cap = "";
	int64_t price = m->info.output_microusd_per_mtok;
	int64_t most = m->info.max_output_tokens > 0 ? m->info.max_output_tokens : m->info.context_tokens;
	int64_t left = money_left(en, &w, &cap), affordable = INT64_MAX, input;
	struct model_info input_only = m->info;

	/* A token is a byte at least: only a prompt that cannot be long has the lower price for sure. */
	if (m->info.long_tokens > 0 && m->input_bytes > (size_t)m->info.long_tokens) {
		input_only.long_tokens = 1;
		price = price * m->info.long_output_percent / 100;
	}
	input_only.output_microusd_per_mtok = 0;
	input = model_cost_bound(&input_only, m->input_bytes);
	if (price > 0 && left > input)
		affordable = (int64_t)MIN((__int128)(left - input) * MTOK / price, (__int128)INT64_MAX);
	if (input > left || affordable < MIN(OUTPUT_TOKENS_MIN, most))
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"limits.%s: the next model call does not fit into what is left of it (raise it, or choose a cheaper model)",
			cap);
	if (affordable < most)
		m->q.max_output_tokens = most = affordable;
	if (price > 0 || input > 0)
		money_claim(en, &m->claim, &w, input + output_cost(price, most));
	return 0;
}
