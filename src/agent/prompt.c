/* SPDX-License-Identifier: MIT
 * The system prompt of the default agent and the environment of its tools. Byte-stable: it depends on the mode and the
 * tools on offer only, so that providers can cache it; a tool that was withdrawn or another degraded part changes it, and its
 * return changes it back. */
#include "agent/internal.h"

#include "base/limits.h"

#define DEGRADED_TEXT_MAX (4u * KIB)

static const char *const mode_texts[MODE_COUNT] = {
	[MODE_READ_ONLY] = "The workspace is mounted read-only at /shared: you can look, not change. /tmp is yours.",
	[MODE_WORKSPACE_WRITE] =
		"The workspace is mounted at /shared and you may change it. Everything outside /shared, /tmp, /scratch and "
		"your home is read-only or invisible.",
	[MODE_DANGER_FULL_ACCESS] =
		"Your commands run on the host itself, without isolation, as the user who started you. Be careful: what you "
		"delete is gone.",
};

/* In tier process and in cell-basic nothing is mounted anywhere: paths are the host's. */
static bool
is_on_host(const struct run *r, enum mode m)
{
	const struct sandbox *sb = r->en->parts.sandbox;

	return m == MODE_DANGER_FULL_ACCESS || strcmp(config_z(r->s->config, "tier"), "process") == 0 ||
		(sandbox_is_up(sb) && sandbox_facts(sb)->level == CELL_BASIC);
}

static const char *
mode_text(const struct run *r, struct arena *a)
{
	if (r->env.mode == MODE_DANGER_FULL_ACCESS || !is_on_host(r, r->env.mode))
		return mode_texts[r->env.mode];
	return r->env.mode == MODE_READ_ONLY ?
		arena_printf(a, "The workspace is %s: you can look, not change.", r->env.cwd) :
		arena_printf(a, "The workspace is %s and you may change it. Everything outside it is read-only or invisible.",
			r->env.cwd);
}

static const char *
network_text(const struct run *r, struct arena *a)
{
	if (r->env.mode == MODE_DANGER_FULL_ACCESS)
		return "";
	return r->env.plan.has_proxy && r->s != NULL ? egress_text(r->s, a) : " There is no network.";
}

static const char *
outbox_text(const struct run *r, struct arena *a)
{
	return r->env.work == NULL ? "" : arena_printf(a, " Files that the user shall get go to %s/outbox.", r->env.work);
}

static const char *
full_text(const struct run *r, struct arena *a)
{
	return arena_printf(a,
		"You are an agent of Ithaca. You do real work with tools and report truthfully what you did.\n"
		"%s%s%s Relative paths are below %s, where commands start.%s\n"
		"Prefer the file tools for files and exec for everything else. Look before you change. When a call fails, read "
		"the message: it says what to do. When the task is done, answer briefly; never claim what you did not do.",
		strcmp(config_z(r->s->config, "tier"), "process") == 0 ? "" : "Tools run in an isolated cell. ",
		mode_text(r, a), network_text(r, a), r->env.cwd, outbox_text(r, a));
}

/* For models with a small window: what they must know, in few words. */
static const char *
small_text(const struct run *r, struct arena *a)
{
	return arena_printf(a,
		"You are an agent that does real work with tools. Files are below %s%s.%s%s\n"
		"Make one call at a time, read its result, then go on. When the task is done, answer in a few words. Never claim "
		"what you did not do.",
		r->env.cwd, r->env.mode == MODE_READ_ONLY ? ", which is read-only" : "", network_text(r, a), outbox_text(r, a));
}

/* What is missing and why, so that the model neither looks for it nor makes believe. NULL: nothing is. */
static const char *
withdrawn_text(const struct run *r, bool is_small, const char **reason, struct arena *a)
{
	const struct toolset *set = &r->en->toolsets[is_small];
	const char *why = NULL, *code = NULL, *names = "";

	for (size_t i = 0; i < set->n; i++) {
		const char *w = tool_withdrawn(r, set->tools[i], &code);

		if (w == NULL)
			continue;
		*reason = code;
		why = arena_printf(a, "%s: %s", code, w);
		names = arena_printf(a, "%s%s%s", names, names[0] != '\0' ? ", " : "", set->tools[i]->name);
	}
	return why == NULL ? NULL :
		arena_printf(a, "Not available now: %s (%s). Do what you can without them, and say what could not be done.", names, why);
}

/* What else is not as it should be, whether or not it concerns a tool. */
static const char *
degraded_text(const struct run *r, const char *except, struct arena *a)
{
	const char *z = "";
	struct buf b;

	if (r->en->degraded == NULL)
		return z;
	buf_init(&b, DEGRADED_TEXT_MAX);
	r->en->degraded(r->en->degraded_arg, except, &b);
	if (b.n > 0)
		z = arena_printf(a, "\nDegraded here now: %s.", buf_z(&b));
	buf_fini(&b);
	return z;
}

struct str
prompt_system(const struct run *r, bool is_small, struct str schema, struct arena *a)
{
	const char *z = is_small ? small_text(r, a) : full_text(r, a), *code = NULL, *missing = withdrawn_text(r, is_small, &code, a);

	if (missing != NULL)
		z = arena_printf(a, "%s\n%s", z, missing);
	z = arena_printf(a, "%s%s", z, degraded_text(r, code, a));
	if (schema.n > 0)
		z = arena_printf(a, "%s\nYour final answer must be one JSON value that matches this JSON Schema, and nothing else:\n%.*s",
			z, STR_FMT(schema));
	return str_of(z);
}

void
run_env(struct run *r)
{
	/* Copies, because calls under way can outlive the session's place in memory. */
	const struct active *s = r->s;
	const char *workspace = arena_strdup(r->a, str_of(s->workspace));
	const struct config *c = s->config;
	enum mode mode = MODE_READ_ONLY;

	if (mode_parse(node_str(turn_options(r->t), "mode", STR("")), &mode) != 0)
		mode = MODE_READ_ONLY;
	r->yes = node_bool(turn_options(r->t), "yes", false);
	r->env = (struct tool_env){
		.sandbox = r->en->parts.sandbox,
		.cell = arena_strdup(r->a, str_of(s->cell)),
		.run = r->turn,
		.cwd = is_on_host(r, mode) ? workspace : "/shared",
		.mode = mode,
		.exec_timeout_ms = config_int(c, "exec.timeout_ms"),
		.exec_job_timeout_ms = config_int(c, "exec.job_timeout_ms"),
		.exec_timeout_max_ms = config_int(c, "exec.timeout_max_ms"),
		.exec_output_max = config_int(c, "exec.output_max_bytes"),
		.plan = tool_plan(c, mode),
	};
	r->env.plan.shared = workspace;
	r->env.plan.scratch = r->en->parts.scratch;
	r->env.plan.state = arena_strdup(r->a, str_of(s->cell_state));
	if (strcmp(config_z(c, "tier"), "process") != 0)
		r->env.work = is_on_host(r, mode) ? arena_printf(r->a, "%s/runs/%s", r->env.plan.state, r->turn) : "/run/work";
	r->env.plan.has_proxy = !is_on_host(r, mode) && policy_egress_is_open(s->policy, c);
}
