/* SPDX-License-Identifier: MIT
 * The grants of the proxy: the runtime says for each cell where its commands may connect to, and is
 * told what was used and refused. Invariant: a connection points to its cell's newest grant or is
 * cut. */
#include "broker/proxy_internal.h"

/* ---- what the runtime is told ---- */

void
proxy_tell_use(struct proxy *x, struct grant *g)
{
	struct json *j;

	if (x->runtime == NULL || g->used_bytes == g->reported_bytes)
		return;
	j = wire_begin(x->runtime, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", g->cell);
	json_kv_int(j, "bytes", g->used_bytes - g->reported_bytes);
	wire_end(x->runtime, STR(""), -1);
	g->reported_bytes = g->used_bytes;
}

/* Once for each target until the next grant: a program that tries again and again says nothing new.
 */
void
proxy_tell_denied(
	struct proxy *x, struct grant *g, const char *target, const char *rule, const char *why)
{
	struct json *j;

	for (size_t i = 0; i < g->told_n; i++)
		if (strcmp(g->told[i], target) == 0)
			return;
	if (x->runtime == NULL || g->told_n == EGRESS_TOLD_MAX)
		return;
	g->told[g->told_n++] = xstrdup(target);
	j = wire_begin(x->runtime, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", g->cell);
	json_kv_z(j, "denied", target);
	json_kv_z(j, "rule", rule);
	json_kv_z(j, "why", why);
	wire_end(x->runtime, STR(""), -1);
}

/* What the runtime knows when it has this back: all that the cell did before. */
void
proxy_tell_mark(struct proxy *x, const struct wire_msg *m)
{
	AUTO_FREE char *cell = str_dup(node_str(m->head, "cell", STR("")));
	struct grant *g = proxy_find_grant(x, cell);
	struct json *j;

	if (g != NULL)
		proxy_tell_use(x, g);
	if (x->runtime == NULL)
		return;
	j = wire_begin(x->runtime, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", cell);
	json_kv_str(j, "mark", node_str(m->head, "mark", STR("")));
	wire_end(x->runtime, STR(""), -1);
}

/* ---- grants ---- */

struct grant *
proxy_find_grant(struct proxy *x, const char *cell)
{
	struct grant *g = x->grants;

	while (g != NULL && strcmp(g->cell, cell) != 0)
		g = g->next;
	return g;
}

static void
grant_remove(struct proxy *x, struct grant *g)
{
	struct grant **p = &x->grants;

	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	for (struct proxied *c = x->connections, *next; c != NULL; c = next) {
		next = c->next;
		if (c->g == g)
			proxied_cut(c, NULL);
	}
	grant_free(g);
}

void
proxy_free_grants(struct proxy *x)
{
	while (x->grants != NULL)
		grant_remove(x, x->grants);
}

static bool
still_allows(const struct grant *g, const struct proxied *c)
{
	const struct upstream *u;
	struct err why;

	if (c->r.what != PROXY_SERVICE)
		return grant_allows(g, &c->r.to, &why);
	u = upstream_find(c->x->services, c->r.service, &why);
	return u != NULL && grant_has_service(g, c->r.service) && !grant_denies_service(g, u);
}

/* Under new rules: what they no longer allow is cut, the rest goes on. */
static void
grant_replace(struct proxy *x, struct grant *old, struct grant *new)
{
	new->used_bytes = MAX(new->used_bytes, old->used_bytes);
	new->reported_bytes = MAX(new->reported_bytes, old->reported_bytes);
	for (struct proxied *c = x->connections, *next; c != NULL; c = next) {
		next = c->next;
		if (c->g != old)
			continue;
		if (still_allows(new, c)) {
			c->g = new;
			old->connections--;
			new->connections++;
		}
	}
	grant_remove(x, old);
}

static void
grant_make_room(struct proxy *x)
{
	struct grant *idle = NULL;
	size_t n = 0;

	for (struct grant *g = x->grants; g != NULL; g = g->next, n++)
		if (g->connections == 0)
			idle = g; /* the oldest is last */
	if (n >= EGRESS_GRANTS_MAX && idle != NULL)
		grant_remove(x, idle);
}

void
proxy_grant(struct proxy *x, const struct wire_msg *m)
{
	struct str cell = node_str(m->head, "cell", STR(""));
	AUTO_FREE char *key = str_dup(cell);
	struct grant *old = proxy_find_grant(x, key), *new = NULL;
	struct err e = { 0 };

	if (m->tail.n > 0 && (new = grant_new(cell, m->tail, &e)) == NULL)
		log_error("a grant cannot be read", LOG_S("cell", key), LOG_E(&e));
	if (old == NULL && new != NULL)
		grant_make_room(x);
	if (new != NULL) {
		new->next = x->grants;
		x->grants = new;
	}
	if (old != NULL && new != NULL)
		grant_replace(x, old, new);
	else if (old != NULL)
		grant_remove(x, old);
	for (struct proxied *c = x->connections, *next; c != NULL && new != NULL; c = next) {
		next = c->next;
		if (c->state == ST_GRANT && strcmp(c->cell, key) == 0)
			proxied_granted(c);
	}
}

void
proxy_runtime(struct proxy *x, struct wire *w)
{
	x->runtime = w;
	for (struct grant *g = x->grants; g != NULL; g = g->next)
		proxy_tell_use(x, g);
}
