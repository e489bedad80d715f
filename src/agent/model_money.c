/* SPDX-License-Identifier: MIT
 * The money of a model call: what it may cost at most is reserved before it, within what the turn and the day have left. */
#include "agent/model_call.h"

#include "base/clock.h"

#define OUTPUT_TOKENS_MIN 256 /* less than this is not worth a call */

/* Reserves what the call may cost at most; a smaller answer is asked for when the money of the turn or the day is nearly
 * gone. */
int
call_reserve(struct model_call *m, size_t input_bytes, int64_t *output_tokens, struct err *e)
{
	const struct run *r = m->r;
	int64_t limit = node_int(node_get(turn_options(r->t), "limits"), "turn_cost_microusd", INT64_MAX);
	int64_t turn_left = limit - turn_cost_microusd(r->t), left = MIN(turn_left, m->day_left);
	int64_t price = m->info.output_microusd_per_mtok;
	int64_t most = m->info.max_output_tokens > 0 ? m->info.max_output_tokens : m->info.context_tokens;
	int64_t input = model_cost_bound(&m->info, input_bytes) - (price * most + 999999) / 1000000;
	int64_t affordable = INT64_MAX;

	if (price > 0 && left > input)
		affordable = (int64_t)MIN((__int128)(left - input) * 1000000 / price, (__int128)INT64_MAX);
	if (input > left || affordable < OUTPUT_TOKENS_MIN)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"limits.%s: the next model call does not fit into what is left of it (raise it, or choose a cheaper model)",
			left < turn_left ? "day_cost_usd" : "turn_cost_usd");
	if (affordable < most)
		*output_tokens = most = affordable;
	m->reserved_microusd = MAX(input, 0) + (price * most + 999999) / 1000000;
	r->en->reserved_microusd += m->reserved_microusd;
	return 0;
}

void
call_limit(struct model_call *m, const struct err *e)
{
	struct run *r = run_ref(m->r);

	call_free(m);
	run_stop(r, "limit", "limit", e->msg);
	run_unref(r);
}

static void
on_day_cost(void *arg, const struct rows *rows, const struct err *e)
{
	struct model_call *m = arg;

	m->is_awaited = false;
	if (m->r->model != m) { /* cancelled meanwhile */
		call_free(m);
		return;
	}
	if (m->r->en->is_stopping)
		return;
	if (e != NULL) {
		call_finish_error(m, e);
		return;
	}
	/* What ended turns cost, what running ones have spent, and what is reserved for calls under way. */
	m->day_left = config_microusd(m->r->s->config, "limits.day_cost_usd") - rows_int(rows, 0, 0) -
		engine_running_microusd(m->r->en) - m->r->en->reserved_microusd;
	call_begin(m);
}

/* Asks what the day has left, where that matters, then begins. */
void
call_afford(struct model_call *m)
{
	int64_t day_ms = clock_wall_ms() / 86400000 * 86400000;
	struct cell_value params[] = { V_Z(m->r->s->owner), V_INT(day_ms) };
	struct model_info info;
	struct err e = { 0 };

	if (model_resolve(m->r->s->config, node_str(turn_options(m->r->t), "model", STR("")), m->a, &info, &e) != 0) {
		call_finish_error(m, &e);
	} else if (info.output_microusd_per_mtok > 0) {
		m->is_awaited = true;
		store_query(m->r->en->parts.store, STMT_TURN_COST_SINCE, params, 2, on_day_cost, m);
	} else {
		call_begin(m);
	}
}
