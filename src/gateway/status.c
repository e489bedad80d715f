/* SPDX-License-Identifier: MIT
 * status.get and tool.list: what is in force now. Every degraded part is gathered in one place, look(), from the runner's
 * word on the roles, the cells' facts, the providers' breakers, the broker's keyring and the store; a change is logged. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "ithaca-version.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- gathering ---- */

static void
add_breaker(void *arg, const char *provider, const char *state, int64_t wait_ms)
{
	health_add(arg, "provider_down", "%s failed several times in a row: its breaker is %s, next call in %lld ms", provider,
		state, (long long)wait_ms);
}

static void
add_cells(const struct sandbox *sb, struct health *h)
{
	const struct sandbox_facts *f = sandbox_facts(sb);

	if (!sandbox_is_up(sb))
		return;
	if (f->files_only)
		health_add(h, "tier_process", NULL);
	if (f->level == CELL_NONE)
		health_add(h, "cell_none", "%s", f->reason);
	else if (f->level == CELL_BASIC && !f->files_only)
		health_add(h, "cell_basic", "%s", f->reason);
	if (f->limits == LIMITS_SOFT && !f->files_only)
		health_add(h, "limits_soft", NULL);
}

/* Only what was there and is not any more, or never came: a start is no trouble. */
static void
add_links(const struct gateway *g, struct health *h)
{
	bool has_broker = false, has_shelld = false;

	for (size_t i = 0; i < h->n; i++) {
		has_broker = has_broker || strcmp(h->v[i].code, "broker_down") == 0;
		has_shelld = has_shelld || strcmp(h->v[i].code, "shelld_down") == 0;
	}
	if (!has_broker && !broker_is_up(g->parts.broker) && g->is_settled)
		health_add(h, "broker_down", NULL);
	if (!has_shelld && sandbox_withdrawn(g->parts.sandbox, false, NULL) != NULL && !sandbox_is_up(g->parts.sandbox))
		health_add(h, "shelld_down", NULL);
}

static void
add_keys(const struct gateway *g, struct health *h)
{
	const struct node *keyring = broker_keyring(g->parts.broker), *list = node_get(keyring, "secrets");
	struct str bad = node_str(keyring, "bad_file", STR(""));
	size_t closed = 0;

	for (size_t i = 0; i < node_len(list); i++)
		closed += !str_is(node_str(node_at(list, i), "state", STR("")), "ready");
	if (bad.n > 0)
		health_add(h, "secrets_closed", "%.*s", (int)MIN(bad.n, 200u), bad.p);
	else if (closed > 0)
		health_add(h, "secrets_closed", "%zu of %zu", closed, node_len(list));
}

static void
look(struct gateway *g, struct health *h)
{
	struct err e = { 0 };

	*h = (struct health){ 0 };
	health_roles(h, g->roles, g->roles_n);
	add_links(g, h);
	add_cells(g->parts.sandbox, h);
	engine_each_breaker(g->parts.engine, add_breaker, h);
	if (g->catalog_trouble[0] != '\0')
		health_add(h, "catalog_broken", "%s", g->catalog_trouble);
	add_keys(g, h);
	if (store_trouble(g->parts.store, &e))
		health_add(h, "store_trouble", "%s", e.msg);
	if (g->log_trouble[0] != '\0')
		health_add(h, "log_trouble", "%s", g->log_trouble);
	health_log(h, &g->health);
}

/* Reads the kept file whole: at the start, and when somebody asks. */
void
look_at_catalog(struct gateway *g)
{
	struct err e = { 0 };

	g->catalog_trouble[0] = '\0';
	if (gateway_check_catalog(g->parts.home, &e) != 0)
		snprintf(g->catalog_trouble, sizeof g->catalog_trouble, "%s", e.msg);
}

void
gateway_look(struct gateway *g)
{
	struct health h;

	g->is_settled = g->is_settled || broker_is_up(g->parts.broker);
	look(g, &h);
}

void
gateway_degraded(void *arg, const char *except, struct buf *out)
{
	struct gateway *g = arg;
	struct health h;

	look(g, &h);
	health_brief(&h, except, out);
}

void
gateway_roles(struct gateway *g, struct str status)
{
	struct arena *a = arena_new(1 * MIB);
	const struct node *n = &node_null;
	struct err e;

	if (json_parse(a, status, &n, &e) == 0) {
		g->is_private = node_bool(n, "private", g->is_private);
		g->started_ms = node_int(n, "started_at_ms", g->started_ms);
		g->roles_n = role_health_read(node_get(n, "roles"), g->roles, ROLES_HEALTH_MAX);
		for (size_t i = 0; i < g->roles_n; i++) /* that is us: by now we are */
			if (g->roles[i].role == ROLE_RUNTIME && g->roles[i].phase != PHASE_UP) {
				g->roles[i].phase = PHASE_UP;
				g->roles[i].reason[0] = '\0';
			}
		snprintf(g->log_trouble, sizeof g->log_trouble, "%s", node_z(n, "log_trouble", ""));
	}
	arena_free(a);
	gateway_look(g);
}

/* ---- status.get ---- */

void
handle_status_get(struct request *q)
{
	struct gateway *g = q->g;
	const struct gateway_parts *gp = &g->parts;
	struct json *j = reply_begin(q);
	struct health h;
	size_t sessions, turns;

	look_at_catalog(g);
	look(g, &h);
	engine_counts(gp->engine, &sessions, &turns);
	json_kv_z(j, "version", ITHACA_VERSION);
	json_kv_bool(j, "private", g->is_private);
	json_kv_z(j, "home", gp->home);
	if (gp->config_file != NULL)
		json_kv_z(j, "config_file", gp->config_file);
	json_kv_z(j, "tier", sandbox_is_up(gp->sandbox) ? sandbox_facts(gp->sandbox)->tier : gp->tier);
	json_kv_z(j, "tier_asked", config_z(gp->config, "tier"));
	json_kv_int(j, "started_at_ms", g->started_ms);
	json_kv_int(j, "sessions", (int64_t)sessions);
	json_kv_int(j, "turns", (int64_t)turns);
	health_write(&h, g->roles, g->roles_n, j);
	reply_end(q);
}

/* ---- tool.list ---- */

void
handle_tool_list(struct request *q)
{
	const struct registry *registry = q->g->parts.registry;
	struct json *j = reply_begin(q);

	json_kv_arr(j, "tools");
	for (size_t i = 0; i < registry_len(registry); i++) {
		const struct tool *t = registry_at(registry, i);
		const char *code = NULL, *reason = sandbox_withdrawn(q->g->parts.sandbox, t->effects & TOOL_EXECS, &code);

		json_obj(j);
		json_kv_z(j, "name", t->name);
		json_kv_z(j, "text", t->text);
		json_kv_bool(j, "offered", reason == NULL);
		if (reason != NULL) {
			json_kv_z(j, "code", code);
			json_kv_z(j, "reason", reason);
		}
		json_kv_z(j, "class", effect_class_name(t->recovery));
		json_key(j, "args");
		field_schema(t->args, j);
		json_obj_end(j);
	}
	json_arr_end(j);
	reply_end(q);
}
