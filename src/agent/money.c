/* SPDX-License-Identifier: MIT
 * The money of an engine: what was spent and what is claimed, against five caps. Spent is what ended turns cost (in purses,
 * one for each owner, agent and day; durable as rows of `usage`) and what running turns have cost so far; claimed is what
 * calls under way may cost at most. All of it is in memory and changes on the loop's thread, so two calls can never be
 * promised the same money. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

#define DAY_MS 86400000

struct purse {
	struct purse *next;
	char *owner, *agent;
	int64_t day;
	struct expense spent;
};

static int64_t
today(void)
{
	return clock_wall_ms() / DAY_MS;
}

/* ---- purses ---- */

static void
purse_free(struct purse *p)
{
	free(p->owner);
	free(p->agent);
	free(p);
}

/* The purse of today, made when it is missing; those of other days are dropped on the way. */
static struct purse *
purse_of(struct engine *en, struct str owner, struct str agent)
{
	int64_t day = today();
	struct purse **at = &en->purses, *found = NULL;

	while (*at != NULL) {
		struct purse *p = *at;

		if (p->day != day) {
			*at = p->next;
			purse_free(p);
			continue;
		}
		if (str_is(owner, p->owner) && str_is(agent, p->agent))
			found = p;
		at = &p->next;
	}
	if (found == NULL) {
		found = xcalloc(1, sizeof *found);
		found->owner = str_dup(owner);
		found->agent = str_dup(agent);
		found->day = day;
		found->next = en->purses;
		en->purses = found;
	}
	return found;
}

int
money_open(struct engine *en, struct err *e)
{
	struct cell_value day = V_INT(today());
	struct rows *rows;
	int rc = store_query_now(en->parts.store, STMT_USAGE_OF_DAY, &day, 1, &rows, e);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < rows_len(rows); i++) {
		struct purse *p = purse_of(en, rows_str(rows, i, 0), rows_str(rows, i, 1));

		p->spent = (struct expense){ rows_int(rows, i, 2), rows_int(rows, i, 8),
			{ rows_int(rows, i, 3), rows_int(rows, i, 4), rows_int(rows, i, 5), rows_int(rows, i, 6),
				rows_int(rows, i, 7) } };
	}
	rows_free(rows);
	return 0;
}

void
money_close(struct engine *en)
{
	while (en->purses != NULL) {
		struct purse *p = en->purses;

		en->purses = p->next;
		purse_free(p);
	}
}

static void
add_expense(struct expense *sum, const struct expense *x)
{
	sum->microusd += x->microusd;
	sum->estimated += x->estimated;
	sum->usage.input_tokens += x->usage.input_tokens;
	sum->usage.output_tokens += x->usage.output_tokens;
	sum->usage.cached_tokens += x->usage.cached_tokens;
	sum->usage.cache_write_tokens += x->usage.cache_write_tokens;
	sum->usage.reasoning_tokens += x->usage.reasoning_tokens;
}

void
money_ended(struct engine *en, const char *owner, const char *agent, const struct expense *x)
{
	add_expense(&purse_of(en, str_of(owner), str_of(agent))->spent, x);
}

void
money_turn_ended(struct run *r)
{
	money_ended(r->en, r->s->owner, r->s->agent, turn_spent(r->t));
}

void
money_project(struct batch *batch, const char *owner, const char *agent, int64_t now_ms, const struct expense *x)
{
	BATCH(batch, STMT_USAGE_ADD, V_Z(owner), V_Z(agent), V_INT(now_ms / DAY_MS), V_INT(x->microusd),
		V_INT(x->usage.input_tokens), V_INT(x->usage.output_tokens), V_INT(x->usage.cached_tokens),
		V_INT(x->usage.cache_write_tokens), V_INT(x->usage.reasoning_tokens), V_INT(x->estimated));
}

/* ---- sums ---- */

struct sum {
	const char *owner, *agent; /* agent NULL: all of the owner's */
	struct money total;
};

static bool
is_same(const struct sum *sum, const char *owner, const char *agent)
{
	return strcmp(sum->owner, owner) == 0 && (sum->agent == NULL || strcmp(sum->agent, agent) == 0);
}

static void
add_running(void *arg, const struct run *r)
{
	struct sum *sum = arg;

	if (is_same(sum, r->s->owner, r->s->agent))
		add_expense(&sum->total.spent, turn_spent(r->t));
}

struct money
engine_money_of_day(const struct engine *en, const char *owner, const char *agent)
{
	struct sum sum = { .owner = owner, .agent = agent };
	int64_t day = today();

	for (const struct purse *p = en->purses; p != NULL; p = p->next)
		if (p->day == day && is_same(&sum, p->owner, p->agent))
			add_expense(&sum.total.spent, &p->spent);
	for (const struct claim *c = en->claims; c != NULL; c = c->next)
		if (is_same(&sum, c->owner, c->agent))
			sum.total.claimed += c->microusd;
	engine_each_run(en, add_running, &sum);
	return sum.total;
}

struct money
money_of_turn(const struct engine *en, const struct run *r)
{
	struct money m = { .spent = *turn_spent(r->t) };

	for (const struct claim *c = en->claims; c != NULL; c = c->next)
		if (c->r == r)
			m.claimed += c->microusd;
	return m;
}

int64_t
engine_claimed(const struct engine *en, const char *session)
{
	int64_t sum = 0;

	for (const struct claim *c = en->claims; c != NULL; c = c->next)
		if (c->r != NULL && c->r->s != NULL && strcmp(c->r->s->id, session) == 0)
			sum += c->microusd;
	return sum;
}

struct agents {
	const char *owner;
	const char **names;
	size_t n, cap;
};

static void
add_agent(struct agents *x, const char *owner, const char *agent)
{
	if (strcmp(owner, x->owner) != 0)
		return;
	for (size_t i = 0; i < x->n; i++)
		if (strcmp(x->names[i], agent) == 0)
			return;
	x->names = vec_grow(x->names, &x->cap, x->n + 1, sizeof *x->names);
	x->names[x->n++] = agent;
}

static void
add_agent_of(void *arg, const struct run *r)
{
	add_agent(arg, r->s->owner, r->s->agent);
}

void
engine_each_agent(const struct engine *en, const char *owner, engine_agent_fn fn, void *arg)
{
	struct agents x = { .owner = owner };

	for (const struct purse *p = en->purses; p != NULL; p = p->next)
		if (p->day == today())
			add_agent(&x, p->owner, p->agent);
	engine_each_run(en, add_agent_of, &x);
	for (size_t i = 0; i < x.n; i++)
		fn(arg, x.names[i]);
	free(x.names);
}

/* ---- caps ---- */

struct cap {
	const char *name;
	int64_t cap;
	struct money used;
};

static size_t
caps_of(struct engine *en, const struct spender *w, struct cap *caps)
{
	size_t n = 0;

	caps[n++] = (struct cap){ "call_cost_usd", config_microusd(w->config, "limits.call_cost_usd"), { .claimed = 0 } };
	caps[n++] = (struct cap){ "agent_cost_usd", config_microusd(w->config, "limits.agent_cost_usd"),
		engine_money_of_day(en, w->owner, w->agent) };
	caps[n++] = (struct cap){ "day_cost_usd", config_microusd(w->config, "limits.day_cost_usd"),
		engine_money_of_day(en, w->owner, NULL) };
	if (w->r == NULL)
		return n;
	struct money turn = money_of_turn(en, w->r);
	int64_t most = node_int(node_get(turn_options(w->r->t), "limits"), "turn_cost_microusd", INT64_MAX);

	caps[n++] = (struct cap){ "turn_cost_usd", most, turn };
	turn.spent.microusd += w->r->s->spent_microusd;
	caps[n++] = (struct cap){ "session_cost_usd", config_microusd(w->config, "limits.session_cost_usd"), turn };
	return n;
}

int64_t
money_left(struct engine *en, const struct spender *w, const char **cap)
{
	struct cap caps[5];
	size_t n = caps_of(en, w, caps);
	int64_t least = INT64_MAX;

	for (size_t i = 0; i < n; i++) {
		int64_t left = caps[i].cap - caps[i].used.spent.microusd - caps[i].used.claimed;

		if (left >= least)
			continue;
		least = left;
		*cap = caps[i].name;
	}
	return least;
}

void
money_claim(struct engine *en, struct claim *c, const struct spender *w, int64_t microusd)
{
	*c = (struct claim){ .next = en->claims, .r = w->r, .owner = w->owner, .agent = w->agent, .microusd = microusd };
	en->claims = c;
}

void
money_release(struct engine *en, struct claim *c)
{
	struct claim **at = &en->claims;

	while (*at != NULL && *at != c)
		at = &(*at)->next;
	if (*at == c)
		*at = c->next;
	*c = (struct claim){ 0 };
}
