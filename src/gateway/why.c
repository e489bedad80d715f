/* SPDX-License-Identifier: MIT
 * The handler of policy.why: what the rules say of a call, what the walls of its cell say, and whether its tool is there. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/path.h"

#include <stdio.h>

/* "path" is no tool: it asks about a path alone, to be read and to be written. */
static bool
is_path(const struct request *q)
{
	return str_is(node_str(q->params, "tool", STR("")), "path");
}

static struct str
why_tool(const struct request *q)
{
	return is_path(q) ? STR("read") : node_str(q->params, "tool", STR(""));
}

static int
why_request(struct request *q, struct policy_request *out, struct err *e)
{
	struct str name = why_tool(q);
	const struct registry *registry = q->g->parts.registry;
	const struct tool *tool = registry_find(registry, name);
	const struct node *args;
	struct tool_env env = { 0 };
	struct buf b;
	int rc;

	if (tool == NULL) {
		const char *near = registry_nearest(registry, name);

		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "there is no tool %.*s (%s%s%s`ithaca tool list` lists them)",
			STR_FMT(name), near != NULL ? "did you mean " : "", near != NULL ? near : "", near != NULL ? "? " : "");
	}
	*out = (struct policy_request){ .subject = tool->subject, .tool = str_of(tool->name),
		.target = node_str(q->params, "text", STR("")) };
	if (mode_parse(node_str(q->params, "mode", str_of(config_z(q->g->parts.config, "mode"))), &out->mode) != 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "there is no such mode");
	env.mode = out->mode;
	env.cwd = "/shared";
	if (node_get(q->params, "args") == NULL || tool->target == NULL)
		return 0;
	buf_init(&b, 1 * MIB);
	json_canonical(&b, node_get(q->params, "args"));
	rc = tool_args(tool, buf_str(&b), q->a, &args, e);
	buf_fini(&b);
	if (rc == 0)
		tool->target(args, &env, q->a, out);
	return rc;
}

/* A call that is allowed cannot be made all the same when its tool is not there. On the host itself no cell is needed. */
static void
write_withdrawn(struct request *q, enum mode mode, struct json *j)
{
	const struct tool *tool = registry_find(q->g->parts.registry, why_tool(q));
	const char *code = NULL, *why = sandbox_withdrawn(q->g->parts.sandbox, tool->effects & TOOL_EXECS, &code);

	if (why != NULL && (mode != MODE_DANGER_FULL_ACCESS || strcmp(code, "cell_none") != 0))
		json_kv_z(j, "withdrawn", arena_printf(q->a, "%s: %s", code, why));
}

static void
write_wall(struct json *j, const char *name, const char *text)
{
	json_obj(j);
	json_kv_z(j, "name", name);
	json_kv_z(j, "text", text);
	json_obj_end(j);
}

static void
write_path_walls(struct request *q, const struct cell_plan *plan, struct str target, bool is_write, struct json *j)
{
	const char *path = path_clean(q->a, path_join(q->a, "/shared", arena_strdup(q->a, target))), *place = sandbox_place(path);
	char text[SANDBOX_TEXT_MAX];

	if (sandbox_wall(plan, path, is_write, text) == NULL)
		snprintf(text, sizeof(text), "none: what is at %.100s (%s) can be %s", path,
			place == NULL ? "a directory" : place, is_write ? "written" : "read");
	write_wall(j, is_write ? "write" : "read", text);
}

/* What a cell keeps from a command whatever it tries: the promises that doctor looks into. */
static void
write_exec_walls(const struct cell_plan *plan, bool has_network, struct json *j)
{
	char text[SANDBOX_TEXT_MAX];
	const char *name, *promise;

	write_wall(j, "writable", sandbox_writable(plan, text));
	for (size_t i = 0; sandbox_check_text(i, &name, &promise); i++) {
		if (has_network && strcmp(name, "network") == 0)
			promise = "no network but the proxy on 127.0.0.1:3128, which lets through what rules allow";
		write_wall(j, name, promise);
	}
}

/* Rules decide what is tried; these are what holds whatever they say. */
static void
write_walls(struct request *q, const struct policy *p, const struct policy_request *r, struct json *j)
{
	const struct cell_plan plan = { .access = tool_access(r->mode),
		.scratch = gateway_user_dir(q->g->parts.config, q->g->parts.home, q->a) };
	bool is_basic = plan.access != CELL_HOST && (strcmp(config_z(q->g->parts.config, "tier"), "process") == 0 ||
		sandbox_facts(q->g->parts.sandbox)->level == CELL_BASIC);

	json_kv_arr(j, "walls");
	if (plan.access == CELL_HOST || is_basic) {
		write_wall(j, is_basic ? "basic" : "none", is_basic ?
			"no tree of its own here: Landlock on the host's paths, where the workspace can be written as the mode says" :
			"danger_full_access is no cell: commands and files are those of the host");
		json_arr_end(j);
		return;
	}
	if (r->subject == SUBJECT_EXEC)
		write_exec_walls(&plan, policy_egress_is_open(p, q->g->parts.config), j);
	else if (r->subject == SUBJECT_READ && r->target.n > 0)
		write_path_walls(q, &plan, r->target, false, j);
	if ((is_path(q) || r->subject == SUBJECT_WRITE) && r->target.n > 0)
		write_path_walls(q, &plan, r->target, true, j);
	json_arr_end(j);
}

/* "host" is no tool either: it asks where commands of a cell may connect to. */
static void
why_host(struct request *q)
{
	struct policy *p = NULL;
	struct verdict v;
	struct err e = { 0 };
	enum mode mode;

	if (mode_parse(node_str(q->params, "mode", str_of(config_z(q->g->parts.config, "mode"))), &mode) != 0)
		err_set(&e, ERR_INVALID, ERR_TO_USER, "there is no such mode");
	else if (policy_new(q->g->parts.config, &p, &e) == 0 && policy_egress_why(p, q->g->parts.config,
		node_str(q->params, "text", STR("")), &v, &e) == 0 && mode == MODE_DANGER_FULL_ACCESS)
		v = (struct verdict){ .decision = DECIDE_ALLOW, .rule = "mode danger_full_access", .origin = "built in",
			.reason = "Commands have the host's own network: no rule is asked." };
	policy_free(p);
	if (e.code != 0) {
		reply_error(q, &e);
		return;
	}
	struct json *j = reply_begin(q);
	json_kv_z(j, "decision", decision_name(v.decision));
	json_kv_z(j, "rule", v.rule);
	json_kv_z(j, "origin", v.origin);
	json_kv_z(j, "reason", v.reason);
	reply_end(q);
}

void
handle_policy_why(struct request *q)
{
	struct policy_request r;
	struct verdict v;
	struct policy *p;
	struct err e = { 0 };
	struct json *j;
	struct buf b;

	if (str_is(node_str(q->params, "tool", STR("")), "host")) {
		why_host(q);
		return;
	}
	if (why_request(q, &r, &e) != 0 || policy_new(q->g->parts.config, &p, &e) != 0) {
		reply_error(q, &e);
		return;
	}
	policy_decide(p, &r, &v);
	buf_init(&b, 1 * MIB);
	policy_explain(p, &r, &b);
	j = reply_begin(q);
	json_kv_z(j, "decision", decision_name(v.decision));
	json_kv_z(j, "rule", v.rule);
	json_kv_z(j, "origin", v.origin);
	json_kv_z(j, "reason", v.reason);
	json_kv_str(j, "text", buf_str(&b));
	write_walls(q, p, &r, j);
	write_withdrawn(q, r.mode, j);
	buf_fini(&b);
	policy_free(p);
	reply_end(q);
}
