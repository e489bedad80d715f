/* SPDX-License-Identifier: MIT
 * The price of a model call: what it may cost at most is claimed before it is made, within what every cap leaves; what it
 * has cost is estimated where its server did not get to say it. */
#include "agent/model_call.h"

#define OUTPUT_TOKENS_MIN 256 /* less than this is not worth a call */
#define MTOK              1000000

static int64_t
output_cost(int64_t price, int64_t tokens)
{
	return (int64_t)(((__int128)price * tokens + MTOK - 1) / MTOK);
}

/* As densely as this model's answers in this session have shown it. */
static int64_t
input_tokens(const struct model_call *m)
{
	return transcript_tokens(m->r->s->tr, run_model(m->r), m->input_bytes);
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
	input = model_cost_bound(&input_only, input_tokens(m));
	if (price == 0 && input == 0)
		return 0; /* what costs nothing passes no cap, also where one was passed */
	if (price > 0 && left > input)
		affordable = (int64_t)MIN((__int128)(left - input) * MTOK / price, (__int128)INT64_MAX);
	if (input > left || affordable < MIN(OUTPUT_TOKENS_MIN, most))
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"limits.%s: the next model call does not fit into what is left of it (raise it, or choose a cheaper model)",
			cap);
	if (affordable < most)
		m->q.max_output_tokens = most = affordable;
	money_claim(en, &m->claim, &w, input + output_cost(price, most));
	return 0;
}

static int64_t
estimate(const struct model_call *m, const struct model_usage *counted, size_t output_bytes)
{
	struct model_usage u = *counted;

	if (u.input_tokens == 0)
		u.input_tokens = input_tokens(m);
	u.output_tokens = MAX(u.output_tokens, model_tokens_bound(output_bytes));
	return model_cost(&m->info, &u);
}

int64_t
call_estimate(const struct model_call *m)
{
	if (m->parser == NULL || m->status != 200)
		return 0;
	return estimate(m, parser_usage(m->parser), parser_bytes(m->parser));
}

int64_t
call_estimate_begun(const struct model_call *m, size_t output_bytes)
{
	static const struct model_usage nothing;

	return m->info.api->build != NULL ? estimate(m, &nothing, output_bytes) : 0;
}

int64_t
call_cost(const struct model_call *m, const struct model_answer *answer, int64_t *estimated)
{
	const struct model_usage *u = &answer->usage;

	*estimated = u->input_tokens == 0 && u->output_tokens == 0 ? call_estimate(m) : 0;
	return *estimated > 0 ? *estimated : model_cost(&m->info, u);
}
