/* SPDX-License-Identifier: MIT
 * Handlers of config.*, and policy.why: what is configured, and what it means. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "ithaca-version.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- config.* ---- */

static void
write_key(struct json *j, const char *dotted, const struct node *value, struct config_origin origin)
{
	json_obj(j);
	json_kv_z(j, "key", dotted);
	json_key(j, "value");
	if (value != NULL)
		json_node(j, value);
	else
		json_null(j);
	json_kv_z(j, "layer", config_layer_name(origin.layer));
	if (origin.file != NULL) {
		json_kv_z(j, "file", origin.file);
		json_kv_int(j, "line", origin.line);
	}
	json_obj_end(j);
}

static void
each_key(void *arg, const char *dotted, const struct node *value, struct config_origin origin)
{
	write_key(arg, dotted, value, origin);
}

void
handle_config_list(struct request *q)
{
	struct json *j = reply_begin(q);

	json_obj(j);
	json_key(j, "keys");
	json_arr(j);
	config_each(q->g->parts.config, each_key, j);
	json_arr_end(j);
	json_obj_end(j);
	reply_end(q);
}

void
handle_config_get(struct request *q)
{
	struct str key = node_str(q->params, "key", STR(""));
	const struct node *value;
	struct json *j;
	struct err e = { 0 };

	value = config_lookup(q->g->parts.config, key, &e);
	if (value == NULL && e.code != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	write_key(j, arena_strdup(q->a, key), value, config_origin(q->g->parts.config, key));
	reply_end(q);
}

static const char *
config_path(struct request *q)
{
	if (q->g->parts.config_file != NULL)
		return q->g->parts.config_file;
	return path_join(q->a, q->g->parts.home, "config.yaml");
}

/* The file as it is; a missing one is empty. */
static int
read_config(const char *path, char **text, size_t *n, struct err *e)
{
	int rc = file_read(path, CONFIG_TEXT_MAX, text, n, e);

	if (rc != ERR_NOT_FOUND)
		return rc;
	*text = xstrdup("");
	*n = 0;
	return 0;
}

static void
keep_attached(void *object)
{
}

/* Models that a file names are looked up where this runtime looks them up; key: only when it is one of these. */
static int
check_models(struct request *q, struct config *c, struct str key, struct err *e)
{
	const struct node *value = config_lookup(c, key, NULL);
	struct model_info m;
	int rc = 0;

	if (!str_is(key, "model") && !str_starts(key, "models."))
		return 0;
	config_attach(c, (void *)config_attached(q->g->parts.config), keep_attached);
	if (node_is(value, NODE_STR))
		rc = model_resolve(c, value->s, q->a, &m, e);
	for (size_t i = 0; rc == 0 && node_is(value, NODE_LIST) && i < node_len(value); i++)
		if (node_is(node_at(value, i), NODE_STR))
			rc = model_resolve(c, node_at(value, i)->s, q->a, &m, e);
	config_attach(c, NULL, NULL);
	return rc;
}

/* A file as a runner would read it, rules included; set (may be NULL): with this key=value on top of it. */
static int
check_config(struct request *q, const char *path, bool is_required, const char *set, struct str key, struct err *e)
{
	const char *flags[] = { set, NULL };
	struct config_sources src = { .home_file = path, .home_file_required = is_required, .flags = flags };
	struct config *c;
	struct policy *p;
	int rc = config_load(&src, &c, e);

	if (rc != 0)
		return rc;
	rc = policy_new(c, &p, e);
	if (rc == 0) {
		policy_free(p);
		rc = check_models(q, c, key, e);
	}
	config_unref(c);
	return rc;
}

/* A command line can be read by every user of the machine, and what comes here is in the runtime's memory: of a secret only
 * where it is kept may be set. */
static int
check_no_secret(struct request *q, struct str key, struct str value, struct err *e)
{
	const struct node *n;

	if (!config_is_secret(key))
		return 0;
	if (yaml_parse(q->a, "value", value, &n, NULL) == 0 && field_secret_name(n).n > 0)
		return 0;
	return err_set(e, ERR_INVALID, ERR_TO_USER, "%.*s: a secret is not given like this (ithaca secret set NAME, then set "
		"it to '{secret: NAME}')", STR_FMT(str_sub(key, 0, 80)));
}

void
handle_config_set(struct request *q)
{
	struct str key = node_str(q->params, "key", STR(""));
	struct str value = node_str(q->params, "value", STR(""));
	const char *path = config_path(q), *set = arena_printf(q->a, "%.*s=%.*s", STR_FMT(key), STR_FMT(value));
	AUTO_FREE char *text = NULL;
	struct err e = { 0 };
	struct json *j;
	struct buf out;
	size_t n = 0;

	buf_init(&out, CONFIG_TEXT_MAX);
	if (check_no_secret(q, key, value, &e) != 0 || read_config(path, &text, &n, &e) != 0 ||
		config_set_text((struct str){ text, n }, key, value, &out, &e) != 0 ||
		check_config(q, path, false, set, key, &e) != 0 || file_write(path, buf_str(&out), 0600, &e) != 0) {
		buf_fini(&out);
		reply_error(q, &e);
		return;
	}
	buf_fini(&out);
	j = reply_begin(q);
	json_obj(j);
	json_kv_z(j, "file", path);
	json_kv_bool(j, "restart", !q->g->parts.is_private); /* a private one is replaced by the next command */
	json_obj_end(j);
	reply_end(q);
}

void
handle_config_schema(struct request *q)
{
	struct json *j = reply_begin(q);

	json_obj(j);
	json_key(j, "schema");
	field_schema(config_keys, j);
	json_obj_end(j);
	reply_end(q);
}

void
handle_config_validate(struct request *q)
{
	const char *file = node_z(q->params, "file", config_path(q));
	struct err e = { 0 };
	struct json *j;

	if (check_config(q, file, node_get(q->params, "file") != NULL, NULL, STR(""), &e) != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	json_obj(j);
	json_kv_z(j, "file", file);
	json_obj_end(j);
	reply_end(q);
}

void
handle_config_default(struct request *q)
{
	struct json *j = reply_begin(q);
	struct buf b;

	buf_init(&b, CONFIG_TEXT_MAX);
	config_default_file(&b);
	json_obj(j);
	json_kv_str(j, "text", buf_str(&b));
	json_obj_end(j);
	buf_fini(&b);
	reply_end(q);
}

/* ---- policy.why ---- */

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
	const struct cell_plan plan = { .access = r->mode == MODE_DANGER_FULL_ACCESS ? CELL_HOST :
			r->mode == MODE_READ_ONLY ? CELL_READ_ONLY : CELL_WORKSPACE_WRITE,
		.scratch = gateway_user_dir(q->g->parts.config, q->g->parts.home, q->a) };
	bool is_basic = plan.access != CELL_HOST && (strcmp(config_z(q->g->parts.config, "tier"), "process") == 0 ||
		sandbox_facts(q->g->parts.sandbox)->level == CELL_BASIC);

	json_key(j, "walls");
	json_arr(j);
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

void
handle_policy_why(struct request *q)
{
	struct policy_request r;
	struct verdict v;
	struct policy *p;
	struct err e = { 0 };
	struct json *j;
	struct buf b;

	if (why_request(q, &r, &e) != 0 || policy_new(q->g->parts.config, &p, &e) != 0) {
		reply_error(q, &e);
		return;
	}
	policy_decide(p, &r, &v);
	buf_init(&b, 1 * MIB);
	policy_explain(p, &r, &b);
	j = reply_begin(q);
	json_obj(j);
	json_kv_z(j, "decision", decision_name(v.decision));
	json_kv_z(j, "rule", v.rule);
	json_kv_z(j, "origin", v.origin);
	json_kv_z(j, "reason", v.reason);
	json_kv_str(j, "text", buf_str(&b));
	write_walls(q, p, &r, j);
	write_withdrawn(q, r.mode, j);
	json_obj_end(j);
	buf_fini(&b);
	policy_free(p);
	reply_end(q);
}
