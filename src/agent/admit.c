/* SPDX-License-Identifier: MIT
 * Checks one call of the model: is there such a tool, do its arguments fit the table, what does policy say. The result
 * is the body of tool.requested, an input of the machine: what was decided is in the log and is never decided again. */
#include "agent/internal.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "base/mem.h"

#include <stdio.h>

#define SUMMARY_MAX 400

void
always_add(struct active *s, struct str rule)
{
	s->always = vec_grow(s->always, &s->always_cap, s->always_n + 1, sizeof *s->always);
	s->always[s->always_n++] = str_dup(rule);
}

/* Whether the user allowed this kind of call for the session: the rule that "always" made then equals today's. */
static bool
is_always(const struct active *s, const struct policy_request *q)
{
	struct buf b;
	bool found = false;

	buf_init(&b, 64 * KIB);
	if (s->always_n > 0 && policy_always_rule(q, &b))
		for (size_t i = 0; i < s->always_n && !found; i++)
			found = str_is(buf_str(&b), s->always[i]);
	buf_fini(&b);
	return found;
}

/* SHA-256 over what an approval binds: another tool, argument, directory, mode, agent or session needs another one. */
static void
approval_hash(struct run *r, const struct tool *tool, const struct node *args, struct arena *a, char out[SHA256_HEX])
{
	struct buf b, canonical;
	struct json j;
	const struct node *n;
	struct err e;

	buf_init(&b, EVENT_BODY_MAX);
	buf_init(&canonical, EVENT_BODY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "tool", tool->name);
	json_kv_node(&j, "args", args);
	json_kv_z(&j, "cwd", r->env.cwd);
	json_kv_z(&j, "workspace", r->s->workspace);
	json_kv_z(&j, "mode", mode_name(r->env.mode));
	json_kv_z(&j, "agent", r->s->agent);
	json_kv_z(&j, "session", r->s->id);
	json_obj_end(&j);
	if (json_parse(a, buf_str(&b), &n, &e) == 0)
		json_canonical(&canonical, n);
	sha256_hex(buf_str(&canonical), out);
	buf_fini(&b);
	buf_fini(&canonical);
}

static void
write_ask(struct run *r, const struct tool *tool, const struct node *args, const struct policy_request *q,
	struct arena *a, struct json *j)
{
	char hash[SHA256_HEX];
	struct buf b;

	approval_hash(r, tool, args, a, hash);
	json_kv_z(j, "hash", hash);
	buf_init(&b, 2 * SUMMARY_MAX);
	buf_printf(&b, "%s(%.*s", subject_name(q->subject), (int)utf8_cut(q->target, SUMMARY_MAX), q->target.p != NULL ?
		q->target.p : "");
	if (q->target.n > SUMMARY_MAX)
		buf_add_z(&b, "...");
	if (q->target2.n > 0)
		buf_printf(&b, " -> %.*s", (int)utf8_cut(q->target2, SUMMARY_MAX), q->target2.p);
	buf_add_char(&b, ')');
	json_kv_str(j, "summary", buf_str(&b));
	buf_reset(&b);
	if (policy_always_rule(q, &b))
		json_kv_str(j, "always", buf_str(&b));
	buf_fini(&b);
}

static void
write_decision(struct run *r, const struct tool *tool, const struct node *args, struct arena *a, struct json *j)
{
	struct policy_request q = { .subject = tool->subject, .tool = str_of(tool->name), .mode = r->env.mode,
		.yes = r->yes };
	struct verdict v;

	if (tool->target != NULL)
		tool->target(args, &r->env, a, &q);
	policy_decide(r->s->policy, &q, &v);
	if (v.decision == DECIDE_ASK && is_always(r->s, &q)) {
		v.decision = DECIDE_ALLOW;
		snprintf(v.rule, sizeof v.rule, "allowed always for this session");
	}
	json_kv_node(j, "args", args);
	json_kv_z(j, "decision", decision_name(v.decision));
	json_kv_z(j, "rule", v.rule);
	json_kv_z(j, "origin", v.origin);
	json_kv_z(j, "reason", v.reason);
	json_kv_z(j, "class", effect_class_name(tool->recovery));
	json_kv_bool(j, "parallel", tool->recovery == EFFECT_PURE && (tool->effects & ~(unsigned)TOOL_READS) == 0);
	if (v.decision == DECIDE_ASK)
		write_ask(r, tool, args, &q, a, j);
}

static void
write_invalid(const struct turn_call *c, const char *reason, struct json *j)
{
	json_kv_str(j, "args", c->args);
	json_kv_z(j, "decision", "invalid");
	json_kv_z(j, "reason", reason);
}

/* A tool that this installation cannot offer. One that lost its shelld waits for it instead. */
static bool
will_not_return(const struct run *r, const struct tool *tool, const char **why)
{
	const char *code = NULL;

	*why = tool_withdrawn(r, tool, &code);
	return *why != NULL && strcmp(code, "shelld_down") != 0;
}

void
admit_call(struct run *r, size_t index, struct arena *a, struct buf *body)
{
	const struct turn_call *c = turn_call(r->t, index);
	const struct registry *registry = r->en->parts.registry;
	const struct tool *tool = registry_find(registry, c->tool);
	const struct node *args;
	const char *why;
	struct json j;
	struct err e = { 0 };

	json_init(&j, body);
	json_obj(&j);
	json_kv_int(&j, "step", turn_step_no(r->t));
	json_kv_int(&j, "index", (int64_t)index);
	json_kv_str(&j, "call", c->call_id);
	json_kv_str(&j, "tool", c->tool);
	if (tool == NULL) {
		const char *near = registry_nearest(registry, c->tool);

		err_set(&e, ERR_NOT_FOUND, ERR_TO_MODEL, "there is no tool %.*s (%s%s%s)", STR_FMT(c->tool),
			near != NULL ? "did you mean " : "use one of those that are offered", near != NULL ? near : "",
			near != NULL ? "?" : "");
		write_invalid(c, e.msg, &j);
	} else if (will_not_return(r, tool, &why)) {
		write_invalid(c, why, &j);
	} else if (tool_args(tool, c->args, a, &args, &e) != 0) {
		write_invalid(c, e.msg, &j);
	} else {
		write_decision(r, tool, args, a, &j);
	}
	json_obj_end(&j);
}
