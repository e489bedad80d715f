/* SPDX-License-Identifier: MIT
 * Where commands of a cell may connect to: the section `egress` of the configuration together with the Fetch rules of
 * the permissions, written as the grant that the broker enforces. A command cannot wait for a person, so what would be
 * asked is refused. Pure. Invariant: deny and ask only take away, and a workspace's file can only add those. */
#include "policy/internal.h"

#include <stdio.h>
#include "base/limits.h"
#include "net/endpoint.h"

static int
check_list(const struct config *c, const char *key, struct err *e)
{
	const struct node *list = config_get(c, key);
	struct endpoint_rule rule;

	for (size_t i = 0; i < node_len(list); i++) {
		if (endpoint_rule_parse(node_at(list, i)->s, true, &rule, e) != 0)
			return err_wrap(e, "config %s", key);
	}
	return 0;
}

static int
check_hosts(const struct config *c, struct err *e)
{
	const struct node *hosts = config_get(c, "egress.hosts");
	struct endpoint to;

	for (size_t i = 0; i < node_len(hosts); i++) {
		const struct node_pair *p = &hosts->map.pairs[i];

		if (endpoint_parse(p->key, 1, &to, e) != 0)
			return err_wrap(e, "config egress.hosts");
		if (to.form != ENDPOINT_NAME || !str_is(p->key, to.host))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"config egress.hosts: \"%.*s\" is not a host name in lower case without a port",
				STR_FMT(str_sub(p->key, 0, 80)));
		if (endpoint_host_parse(p->value.s, &to, e) != 0)
			return err_wrap(e, "config egress.hosts.%.*s", STR_FMT(str_sub(p->key, 0, 80)));
	}
	return 0;
}

static int
check_services(const struct config *c, struct err *e)
{
	const struct node *services = config_get(c, "egress.services");

	for (size_t i = 0; i < node_len(services); i++) {
		const struct node_pair *p = &services->map.pairs[i];
		struct str url = node_str(&p->value, "url", STR(""));

		for (size_t k = 0; k < p->key.n; k++)
			if (strchr("/?#%", p->key.p[k]) != NULL)
				return err_set(e, ERR_CONFIG, ERR_TO_USER,
					"config egress.services: a name may not hold %c, because it is part of an address",
					p->key.p[k]);
		if (!str_starts(url, "https://") && !str_starts(url, "http://"))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"config egress.services.%.*s has no url that begins with https:// or http://",
				STR_FMT(str_sub(p->key, 0, 80)));
	}
	return 0;
}

int
policy_egress_check(const struct config *c, struct err *e)
{
	if (check_list(c, "egress.allow", e) != 0 || check_list(c, "egress.deny", e) != 0 || check_hosts(c, e) != 0 ||
		check_services(c, e) != 0) {
		e->code = ERR_CONFIG;
		return e->code;
	}
	return 0;
}

/* Fetch(pattern) as a rule of the grant; false: it says nothing about hosts. */
static bool
fetch_pattern(const struct rule *r, struct str *out)
{
	struct endpoint_rule rule;
	struct err e;

	if (r->subject != SUBJECT_FETCH || r->tool.n > 0)
		return false;
	*out = r->is_bare ? STR("*") : r->parts[0];
	return endpoint_rule_parse(*out, false, &rule, &e) == 0;
}

static void
write_rules(const struct policy *p, const struct node *list, bool allows, struct json *j)
{
	struct str pattern;

	for (size_t i = 0; i < node_len(list); i++)
		json_str(j, node_at(list, i)->s);
	for (size_t i = 0; i < p->n; i++)
		if ((p->rules[i].decision == DECIDE_ALLOW) == allows && fetch_pattern(&p->rules[i], &pattern))
			json_str(j, pattern);
}

static void
write_always(const char *const *always, size_t n, struct json *j)
{
	struct arena *a = arena_new(POLICY_ARENA_MAX);
	struct str pattern;
	struct rule rule;
	struct err e;

	for (size_t i = 0; i < n; i++)
		if (rule_compile(str_of(always[i]), a, &rule, &e) == 0 && fetch_pattern(&rule, &pattern))
			json_str(j, pattern);
	arena_free(a);
}

void
policy_egress_write(const struct policy *p, const struct config *c, const char *const *always, size_t always_n,
	int64_t used_bytes, struct json *j)
{
	const struct node *services = config_get(c, "egress.services"), *hosts = config_get(c, "egress.hosts");

	json_obj(j);
	json_kv_arr(j, "allow");
	write_rules(p, config_get(c, "egress.allow"), true, j);
	write_always(always, always_n, j);
	json_arr_end(j);
	json_kv_arr(j, "deny");
	write_rules(p, config_get(c, "egress.deny"), false, j);
	json_arr_end(j);
	if (node_len(hosts) > 0)
		json_kv_node(j, "hosts", hosts);
	json_kv_arr(j, "services");
	for (size_t i = 0; i < node_len(services); i++)
		json_str(j, services->map.pairs[i].key);
	json_arr_end(j);
	json_kv_int(j, "quota_bytes", config_int(c, "egress.quota_mb") * (int64_t)MIB);
	json_kv_int(j, "used_bytes", used_bytes);
	json_obj_end(j);
}

bool
policy_egress_is_open(const struct policy *p, const struct config *c)
{
	struct str pattern;

	if (node_len(config_get(c, "egress.allow")) > 0 || node_len(config_get(c, "egress.services")) > 0)
		return true;
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].decision == DECIDE_ALLOW && fetch_pattern(&p->rules[i], &pattern))
			return true;
	return false;
}

/* ---- one target ---- */

/* The rule of one side that speaks of it, with where it stands. */
static bool
find_rule(const struct policy *p, const struct config *c, bool allows, const struct endpoint *to, struct verdict *out)
{
	bool (*const matches)(const struct endpoint_rule *, const struct endpoint *) = allows ? endpoint_rule_allows :
		endpoint_rule_denies;
	const char *key = allows ? "egress.allow" : "egress.deny";
	const struct node *list = config_get(c, key);
	struct endpoint_rule rule;
	struct str pattern;
	struct err e;

	for (size_t i = 0; i < node_len(list); i++) {
		if (endpoint_rule_parse(node_at(list, i)->s, true, &rule, &e) != 0 || !matches(&rule, to))
			continue;
		snprintf(out->rule, sizeof(out->rule), "%.*s", STR_FMT(str_sub(node_at(list, i)->s, 0, 100)));
		snprintf(out->origin, sizeof(out->origin), "%s", key);
		return true;
	}
	for (size_t i = 0; i < p->n; i++) {
		if ((p->rules[i].decision == DECIDE_ALLOW) != allows || !fetch_pattern(&p->rules[i], &pattern) ||
			endpoint_rule_parse(pattern, false, &rule, &e) != 0 || !matches(&rule, to))
			continue;
		snprintf(out->rule, sizeof(out->rule), "%.*s", STR_FMT(str_sub(p->rules[i].text, 0, 100)));
		snprintf(out->origin, sizeof(out->origin), "%.*s", STR_FMT(str_sub(p->rules[i].origin, 0, 100)));
		return true;
	}
	return false;
}

static int
parse_target(struct str text, struct endpoint *out, struct err *e)
{
	bool is_plain = str_starts(text, "http://");
	ptrdiff_t slash;

	if (is_plain || str_starts(text, "https://"))
		text = str_sub(text, is_plain ? 7 : 8, text.n);
	slash = str_find_char(text, '/');
	return endpoint_parse(slash < 0 ? text : str_sub(text, 0, (size_t)slash), is_plain ? 80 : 443, out, e);
}

int
policy_egress_why(const struct policy *p, const struct config *c, struct str target, struct verdict *out, struct err *e)
{
	struct verdict v = { .decision = DECIDE_DENY, .rule = "default", .origin = "built in" };
	struct sockaddr_storage sa = { 0 };
	char text[ENDPOINT_TEXT_SIZE];
	struct endpoint to;

	if (parse_target(target, &to, e) != 0)
		return e->code;
	const char *special = endpoint_address(&to, &sa) > 0 ? address_is_special((const struct sockaddr *)&sa) : NULL;
	endpoint_text(&to, text);
	if (find_rule(p, c, false, &to, &v)) {
		snprintf(v.reason, sizeof(v.reason), "A rule denies %.160s: take it away to allow it.", text);
	} else if (find_rule(p, c, true, &to, &v)) {
		v.decision = DECIDE_ALLOW;
		snprintf(v.reason, sizeof(v.reason), "The proxy lets commands reach %.100s. An address that is not of the Internet "
			"needs a rule or egress.hosts that names it.", text);
	} else {
		snprintf(v.reason, sizeof(v.reason), "No rule allows %s%s%s%.120s (rule to allow: Fetch(%.60s)).",
			special != NULL ? "a " : "", special != NULL ? special : "", special != NULL ? " address, " : "", text, text);
	}
	*out = v;
	return 0;
}
