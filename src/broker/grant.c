/* SPDX-License-Identifier: MIT
 * A grant: where one cell may connect to, as the runtime decided it. The broker only compares: deny
 * wins over allow, what no rule allows is refused, and an address that is not of the Internet needs
 * a rule (or the operator's map) that names it in full. Invariant: a grant that cannot be read
 * grants nothing. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/proxy.h"

static int
read_rules(const struct node *list, struct endpoint_rule **out, size_t *n, struct err *e)
{
	if (node_len(list) > EGRESS_RULES_MAX * 8)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG, "too many rules");
	*out = xcalloc(node_len(list) + 1, sizeof(**out));
	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *one = node_at(list, i);

		if (!node_is(one, NODE_STR))
			return err_set(e, ERR_PROTO, ERR_TO_LOG, "a rule that is no text");
		if (endpoint_rule_parse(one->s, false, &(*out)[*n], e) != 0)
			return e->code;
		++*n;
	}
	return 0;
}

static int
read_hosts(const struct node *map, struct grant *g, struct err *e)
{
	if (!node_is(map, NODE_MAP))
		return 0;
	g->hosts = xcalloc(node_len(map) + 1, sizeof(*g->hosts));
	for (size_t i = 0; i < node_len(map); i++) {
		struct grant_host *h = &g->hosts[g->hosts_n];
		const struct node_pair *p = &map->map.pairs[i];

		if (!node_is(&p->value, NODE_STR))
			return err_set(e, ERR_PROTO, ERR_TO_LOG, "an address that is no text");
		if (endpoint_host_parse(p->value.s, &h->to, e) != 0)
			return e->code;
		h->name = str_dup(p->key);
		g->hosts_n++;
	}
	return 0;
}

static int
read_services(const struct node *list, struct grant *g, struct err *e)
{
	if (node_len(list) > EGRESS_SERVICES_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG, "too many services");
	g->services = xcalloc(node_len(list) + 1, sizeof(*g->services));
	for (size_t i = 0; i < node_len(list); i++)
		if (node_is(node_at(list, i), NODE_STR))
			g->services[g->services_n++] = str_dup(node_at(list, i)->s);
	return 0;
}

struct grant *
grant_new(struct str cell, struct str text, struct err *e)
{
	struct grant *g = xcalloc(1, sizeof(*g));
	struct arena *a = arena_new(WIRE_NODES_MAX);
	const struct node *n = &node_null;
	int rc = json_parse(a, text, &n, e);

	g->cell = str_dup(cell);
	if (rc == 0)
		rc = read_rules(node_get(n, "allow"), &g->allow, &g->allow_n, e);
	if (rc == 0)
		rc = read_rules(node_get(n, "deny"), &g->deny, &g->deny_n, e);
	if (rc == 0)
		rc = read_hosts(node_get(n, "hosts"), g, e);
	if (rc == 0)
		rc = read_services(node_get(n, "services"), g, e);
	g->quota_bytes = node_int(n, "quota_bytes", 0);
	g->used_bytes = g->reported_bytes = node_int(n, "used_bytes", 0);
	arena_free(a);
	if (rc == 0)
		return g;
	grant_free(g);
	return NULL;
}

void
grant_free(struct grant *g)
{
	for (size_t i = 0; i < g->hosts_n; i++)
		free(g->hosts[i].name);
	for (size_t i = 0; i < g->services_n; i++)
		free(g->services[i]);
	for (size_t i = 0; i < g->told_n; i++)
		free(g->told[i]);
	free(g->hosts);
	free(g->services);
	free(g->allow);
	free(g->deny);
	free(g->cell);
	free(g);
}

/* ---- decisions ---- */

bool
grant_allows(const struct grant *g, const struct endpoint *to, struct err *why)
{
	for (size_t i = 0; i < g->deny_n; i++) {
		if (endpoint_rule_denies(&g->deny[i], to)) {
			err_set(why, ERR_DENIED, ERR_TO_MODEL, "a rule denies it");
			return false;
		}
	}
	for (size_t i = 0; i < g->allow_n; i++)
		if (endpoint_rule_allows(&g->allow[i], to))
			return true;
	err_set(why, ERR_DENIED, ERR_TO_MODEL, "no rule allows it");
	return false;
}

const struct grant_host *
grant_host_find(const struct grant *g, const struct endpoint *to)
{
	for (size_t i = 0; i < g->hosts_n; i++)
		if (to->form == ENDPOINT_NAME && strcmp(g->hosts[i].name, to->host) == 0)
			return &g->hosts[i];
	return NULL;
}

/* The address as a rule would name it. */
static void
endpoint_of(const struct sockaddr *sa, struct endpoint *out)
{
	*out = (struct endpoint){ .form = sa->sa_family == AF_INET ? ENDPOINT_V4 : ENDPOINT_V6 };
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		inet_ntop(AF_INET, &in->sin_addr, out->host, sizeof(out->host));
		out->port = ntohs(in->sin_port);
	} else {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)sa;
		inet_ntop(AF_INET6, &in->sin6_addr, out->host, sizeof(out->host));
		out->port = ntohs(in->sin6_port);
	}
}

const char *
grant_address_refusal(const struct grant *g, const struct sockaddr *sa, bool is_mapped)
{
	const char *never = address_refusal(sa), *special = address_is_special(sa);
	struct endpoint to;
	struct err e;

	if (never != NULL)
		return never;
	endpoint_of(sa, &to);
	for (size_t i = 0; i < g->deny_n; i++)
		if (endpoint_rule_denies(&g->deny[i], &to))
			return "a rule denies it";
	if (special == NULL || is_mapped || grant_allows(g, &to, &e))
		return NULL;
	return special;
}

bool
grant_has_service(const struct grant *g, struct str name)
{
	for (size_t i = 0; i < g->services_n; i++)
		if (str_is(name, g->services[i]))
			return true;
	return false;
}

bool
grant_denies_service(const struct grant *g, const struct upstream *u)
{
	struct endpoint to;
	struct err e;

	if (endpoint_parse(str_of(u->where), 0, &to, &e) != 0)
		return g->deny_n > 0;
	for (size_t i = 0; i < g->deny_n; i++)
		if (endpoint_rule_denies(&g->deny[i], &to))
			return true;
	return false;
}

size_t
grant_left(const struct grant *g)
{
	if (g->quota_bytes == 0)
		return SIZE_MAX;
	return (size_t)MAX(g->quota_bytes - g->used_bytes, 0);
}
