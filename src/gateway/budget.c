/* SPDX-License-Identifier: MIT
 * Handler of budget.get: money and tokens by day, agent, session, turn and call, beside the caps. Days and agents come from the
 * engine's books, a session is read from its log. */
#include "gateway/internal.h"

#include "base/limits.h"

#define CALLS_BYTES_MAX (WIRE_TAIL_MAX / 4) /* of the list of calls: then the oldest ones are what there is */
#define TURNS_MAX       2000 /* newest turns that are listed */

struct turn_sum {
	const char *turn;
	struct expense sum;
	int64_t cap;
	const char *status; /* NULL: it runs */
};

/* What is gathered of a session while its log is read. */
struct survey {
	const char *session;
	uint64_t after;
	struct arena *event_a;
	struct turn_sum *turns;
	size_t turns_n, turns_cap;
	struct expense sum;
	struct buf calls; /* JSON items */
	bool is_cut;
};

static void
tally_add(struct expense *t, const struct node *body)
{
	const struct node *u = node_get(body, "usage");

	t->microusd += node_int(body, "cost_microusd", 0);
	t->estimated += node_int(body, "estimated_microusd", 0);
	t->usage.input_tokens += node_int(u, "input_tokens", 0);
	t->usage.output_tokens += node_int(u, "output_tokens", 0);
	t->usage.cached_tokens += node_int(u, "cached_tokens", 0);
	t->usage.cache_write_tokens += node_int(u, "cache_write_tokens", 0);
	t->usage.reasoning_tokens += node_int(u, "reasoning_tokens", 0);
}

static void
write_usage(struct json *j, const struct model_usage *u)
{
	json_kv_int(j, "input_tokens", u->input_tokens);
	json_kv_int(j, "output_tokens", u->output_tokens);
	json_kv_int(j, "cached_tokens", u->cached_tokens);
	json_kv_int(j, "cache_write_tokens", u->cache_write_tokens);
	json_kv_int(j, "reasoning_tokens", u->reasoning_tokens);
}

static void
write_budget(struct json *j, const char *scope, const char *name, const struct expense *t, int64_t reserved, int64_t cap,
	const char *status)
{
	json_obj(j);
	json_kv_z(j, "scope", scope);
	json_kv_z(j, "name", name);
	json_kv_int(j, "spent_microusd", t->microusd);
	json_kv_int(j, "estimated_microusd", t->estimated);
	json_kv_int(j, "reserved_microusd", reserved);
	json_kv_int(j, "cap_microusd", cap);
	write_usage(j, &t->usage);
	if (status != NULL)
		json_kv_z(j, "status", status);
	json_obj_end(j);
}

/* ---- day and agents ---- */

static void
write_money(struct request *q, const char *scope, const char *name, const char *agent, const char *key)
{
	struct money m = engine_money_of_day(q->g->parts.engine, OWNER, agent);

	write_budget(&q->j, scope, name, &m.spent, m.claimed, config_microusd(q->g->parts.config, key), NULL);
}

static void
write_agent(void *arg, const char *agent)
{
	write_money(arg, "agent", agent, agent, "limits.agent_cost_usd");
}

static void
write_days(struct request *q)
{
	write_money(q, "day", OWNER, NULL, "limits.day_cost_usd");
	engine_each_agent(q->g->parts.engine, OWNER, write_agent, q);
}

/* ---- a session ---- */

static struct turn_sum *
turn_of(struct survey *v, const char *turn, struct arena *a)
{
	struct turn_sum *last = v->turns_n > 0 ? &v->turns[v->turns_n - 1] : NULL;

	if (last != NULL && strcmp(last->turn, turn) == 0)
		return last;
	for (size_t i = v->turns_n; i-- > 0;)
		if (strcmp(v->turns[i].turn, turn) == 0)
			return &v->turns[i];
	if (v->turns_n == v->turns_cap) {
		struct turn_sum *more = arena_alloc(a, (v->turns_cap = 2 * v->turns_cap + 16) * sizeof *more);

		if (v->turns_n > 0)
			memcpy(more, v->turns, v->turns_n * sizeof *more);
		v->turns = more;
	}
	v->turns[v->turns_n] = (struct turn_sum){ .turn = arena_strdup(a, str_of(turn)) };
	return &v->turns[v->turns_n++];
}

static void
add_call(struct survey *v, const char *turn, const struct node *body)
{
	struct expense t = { 0 };
	struct json j;

	if (v->calls.n > CALLS_BYTES_MAX) {
		v->is_cut = true;
		return;
	}
	tally_add(&t, body);
	if (v->calls.n > 0)
		buf_add_char(&v->calls, ',');
	json_init(&j, &v->calls);
	json_obj(&j);
	json_kv_z(&j, "turn", turn);
	json_kv_int(&j, "step", node_int(body, "step", 0));
	json_kv_str(&j, "model", node_str(body, "model", STR("")));
	json_kv_int(&j, "cost_microusd", t.microusd);
	json_kv_int(&j, "estimated_microusd", t.estimated);
	write_usage(&j, &t.usage);
	json_obj_end(&j);
}

/* model.retry and turn.stopping tell of calls without an answer. */
static bool
is_of_money(enum event_kind kind)
{
	return kind == EVENT_TURN_STARTED || kind == EVENT_MODEL_DONE || kind == EVENT_MODEL_RETRY ||
		kind == EVENT_TURN_STOPPING || kind == EVENT_TURN_FINISHED;
}

static int
survey_event(struct request *q, const struct event *ev, struct err *e)
{
	struct survey *v = q->own;
	const struct node *body;
	struct turn_sum *t;

	if (ev->turn == NULL || !is_of_money(ev->kind))
		return 0;
	arena_reset(v->event_a);
	if (json_parse(v->event_a, ev->body, &body, e) != 0)
		return e->code;
	t = turn_of(v, ev->turn, q->a);
	switch (ev->kind) {
	case EVENT_TURN_STARTED:
		t->cap = node_int(node_get(body, "limits"), "turn_cost_microusd", 0);
		break;
	case EVENT_TURN_FINISHED:
		t->status = arena_strdup(q->a, node_str(body, "status", STR("")));
		break;
	default:
		tally_add(&t->sum, body);
		tally_add(&v->sum, body);
		if (ev->kind == EVENT_MODEL_DONE || node_int(body, "cost_microusd", 0) > 0)
			add_call(v, ev->turn, body);
		break;
	}
	return 0;
}

static void
write_session(struct request *q)
{
	struct survey *v = q->own;
	int64_t reserved = engine_claimed(q->g->parts.engine, v->session);
	size_t first = v->turns_n > TURNS_MAX ? v->turns_n - TURNS_MAX : 0;

	write_budget(&q->j, "session", v->session, &v->sum, reserved,
		config_microusd(q->g->parts.config, "limits.session_cost_usd"), NULL);
	for (size_t i = first; i < v->turns_n; i++) {
		const struct turn_sum *t = &v->turns[i];

		write_budget(&q->j, "turn", t->turn, &t->sum, t->status == NULL ? reserved : 0, t->cap,
			t->status == NULL ? "running" : t->status);
	}
}

static void
survey_free(struct survey *v)
{
	arena_free(v->event_a);
	buf_fini(&v->calls);
}

/* ---- the answer ---- */

static void
answer(struct request *q)
{
	struct survey *v = q->own;
	struct json *j = reply_begin(q);

	json_kv_int(j, "call_cap_microusd", config_microusd(q->g->parts.config, "limits.call_cost_usd"));
	json_kv_arr(j, "budgets");
	write_days(q);
	if (v != NULL)
		write_session(q);
	json_arr_end(j);
	json_kv_arr(j, "calls");
	if (v != NULL)
		json_raw(j, buf_str(&v->calls));
	json_arr_end(j);
	json_kv_bool(j, "more", v != NULL && v->is_cut);
	if (v != NULL)
		survey_free(v);
	reply_end(q);
}

static void read_on(struct request *q);

static void
on_page(void *arg, const struct event *evs, size_t n, bool more, const struct err *e)
{
	struct request *q = arg;
	struct survey *v = q->own;
	struct err le = { 0 };

	for (size_t i = 0; i < n && e == NULL; i++) {
		if (survey_event(q, &evs[i], &le) != 0)
			e = &le;
		v->after = evs[i].seq;
	}
	if (e != NULL) {
		survey_free(v);
		reply_error(q, e);
	} else if (more) {
		read_on(q);
	} else {
		answer(q);
	}
}

static void
read_on(struct request *q)
{
	struct survey *v = q->own;

	events_read(q->g->parts.events, v->session, v->after, SIZE_MAX, on_page, q);
}

static void
survey_session(struct request *q, const char *session)
{
	struct survey *v = arena_alloc(q->a, sizeof *v);

	*v = (struct survey){ .session = arena_strdup(q->a, str_of(session)),
		.event_a = arena_new(2 * EVENT_BODY_MAX + 16 * MIB) };
	buf_init(&v->calls, CALLS_BYTES_MAX + 64 * KIB);
	q->own = v;
	read_on(q);
}

void
handle_budget_get(struct request *q)
{
	q->own = NULL;
	if (node_get(q->params, "session") != NULL)
		with_session(q, survey_session);
	else
		answer(q);
}
