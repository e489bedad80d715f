/* SPDX-License-Identifier: MIT
 * What is not as it should be, in one form for every surface: codes that stay the same, what each means, and how to get
 * back what is missing. Pure: who knows facts adds them, who shows them writes them. */
#include "gateway/internal.h"

#include "base/log.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

/* The first %s of fix, if there is one, is the role. */
static const struct {
	const char *code, *text, *fix;
} codes[] = {
	{ "runtime_down", "no turn runs and no command is answered",
		"it is started again by itself; see `ithaca logs --role runtime`, then `ithaca restart runtime`" },
	{ "broker_down", "models behind a network cannot be called",
		"it is started again by itself; see `ithaca logs --role broker`" },
	{ "shelld_down", "tools that need a cell are withdrawn until it is back",
		"it is started again by itself; see `ithaca logs --role shelld`" },
	{ "runtime_on_host", "the runtime is a process of the host: it could not be put into a container of its own",
		"do what the reason says, then `ithaca restart`" },
	{ "cell_none", "tools that need a cell are withdrawn", "run `ithaca doctor`" },
	{ "cell_basic", "cells are made of Landlock and seccomp only", "run `ithaca doctor`" },
	{ "tier_process", "tier process: no cells, so commands are not offered and file tools are confined by Landlock alone",
		"use tier: cell" },
	{ "limits_soft", "memory and processes of cells are limited by rlimits and a watchdog, not by a cgroup",
		"start Ithaca with a delegated cgroup: systemd-run --user --scope -p Delegate=yes ithaca ..." },
	{ "provider_down", "calls to a provider fail", "check its base_url and the server; models.fallback goes on meanwhile" },
	{ "catalog_broken", "the fetched model catalog cannot be used", "`ithaca catalog fetch`, or remove the file" },
	{ "store_trouble", "nothing can be written to the database", "see `ithaca doctor`" },
	{ "secrets_closed", "sealed secrets cannot be opened", "see `ithaca doctor`" },
	{ "log_trouble", "logs cannot be written", "make room on the file system of ITHACA_HOME; see `ithaca doctor`" },
};

static const char *const phases[PHASE_COUNT] = {
	[PHASE_STARTING] = "starting",
	[PHASE_UP] = "up",
	[PHASE_RESTARTING] = "restarting",
	[PHASE_DOWN] = "down",
	[PHASE_STOPPING] = "stopping",
};

/* ---- roles ---- */

void
role_health_write(const struct role_health *r, struct json *j)
{
	json_obj(j);
	json_kv_z(j, "name", role_name(r->role));
	json_kv_z(j, "state", phases[r->phase]);
	if (r->pid > 0)
		json_kv_int(j, "pid", r->pid);
	if (r->container[0] != '\0')
		json_kv_z(j, "container", r->container);
	json_kv_int(j, "restarts", r->restarts);
	json_kv_int(j, "since_ms", r->since_ms);
	if (r->reason[0] != '\0')
		json_kv_z(j, "reason", r->reason);
	json_obj_end(j);
}

static bool
role_read(const struct node *n, struct role_health *out)
{
	struct str name = node_str(n, "name", STR("")), state = node_str(n, "state", STR(""));
	enum role role = ROLE_RUNNER;
	enum role_phase phase = PHASE_STARTING;

	while (role < ROLE_COUNT && !str_is(name, role_name(role)))
		role++;
	while (phase < PHASE_COUNT && !str_is(state, phases[phase]))
		phase++;
	if (role == ROLE_COUNT || phase == PHASE_COUNT)
		return false;
	*out = (struct role_health){ .role = role, .phase = phase, .pid = node_int(n, "pid", 0),
		.restarts = node_int(n, "restarts", 0), .since_ms = node_int(n, "since_ms", 0) };
	snprintf(out->reason, sizeof out->reason, "%s", node_z(n, "reason", ""));
	snprintf(out->container, sizeof out->container, "%s", node_z(n, "container", ""));
	return true;
}

size_t
role_health_read(const struct node *list, struct role_health *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < node_len(list) && n < max; i++)
		n += role_read(node_at(list, i), &out[n]);
	return n;
}

/* ---- reasons ---- */

void
health_add(struct health *h, const char *code, const char *fmt, ...)
{
	struct reason *v = &h->v[h->n];
	char more[280] = "";
	size_t i = 0;
	va_list ap;

	if (h->n == REASONS_MAX)
		return; /* the first are enough to begin with */
	while (i < ARRAY_LEN(codes) && strcmp(codes[i].code, code) != 0)
		i++;
	if (i == ARRAY_LEN(codes))
		fatal("health: no reason is called %s", code);
	if (fmt != NULL) {
		va_start(ap, fmt);
		vsnprintf(more, sizeof more, fmt, ap);
		va_end(ap);
	}
	v->code = codes[i].code;
	snprintf(v->text, sizeof v->text, "%.*s%s%s", more[0] != '\0' ? 150 : 300, codes[i].text, more[0] != '\0' ? ": " : "", more);
	v->text[utf8_cut(str_of(v->text), sizeof v->text - 1)] = '\0';
	snprintf(v->fix, sizeof v->fix, "%s", codes[i].fix);
	h->n++;
}

void
health_roles(struct health *h, const struct role_health *roles, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char code[32];

		if (roles[i].role == ROLE_RUNTIME && roles[i].phase == PHASE_UP && roles[i].reason[0] != '\0')
			health_add(h, "runtime_on_host", "%s", roles[i].reason);
		if (roles[i].role == ROLE_RUNNER || roles[i].phase == PHASE_UP || roles[i].phase == PHASE_STARTING ||
			roles[i].phase == PHASE_STOPPING)
			continue;
		snprintf(code, sizeof code, "%s_down", role_name(roles[i].role));
		health_add(h, code, "%s%s%s", phases[roles[i].phase], roles[i].reason[0] != '\0' ? ", " : "",
			roles[i].reason);
	}
}

void
health_write(const struct health *h, const struct role_health *roles, size_t n, struct json *j)
{
	json_kv_arr(j, "roles");
	for (size_t i = 0; i < n; i++)
		role_health_write(&roles[i], j);
	json_arr_end(j);
	json_kv_arr(j, "degraded");
	for (size_t i = 0; i < h->n; i++) {
		json_obj(j);
		json_kv_z(j, "code", h->v[i].code);
		json_kv_z(j, "text", h->v[i].text);
		json_kv_z(j, "fix", h->v[i].fix);
		json_obj_end(j);
	}
	json_arr_end(j);
}

void
health_brief(const struct health *h, const char *except, struct buf *out)
{
	for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
		bool is_there = false;

		for (size_t i = 0; i < h->n; i++)
			is_there = is_there || h->v[i].code == codes[c].code;
		if (is_there && (except == NULL || strcmp(except, codes[c].code) != 0))
			buf_printf(out, "%s%s (%s)", out->n > 0 ? "; " : "", codes[c].code, codes[c].text);
	}
}

/* ---- changes ---- */

static bool
has(const struct health *h, const struct reason *v)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->v[i].code, v->code) == 0)
			return true;
	return false;
}

void
health_log(const struct health *now, struct health *last)
{
	for (size_t i = 0; i < now->n; i++)
		if (!has(last, &now->v[i]))
			log_warn("degraded", LOG_S("code", now->v[i].code), LOG_S("text", now->v[i].text),
				LOG_S("fix", now->v[i].fix));
	for (size_t i = 0; i < last->n; i++)
		if (!has(now, &last->v[i]))
			log_info("no longer degraded", LOG_S("code", last->v[i].code));
	*last = *now;
}
