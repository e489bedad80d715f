/* SPDX-License-Identifier: MIT
 * Decides: deny rules first, then ask rules, then each part of the request needs an allow rule or
 * the mode's default. No order or specificity lets an allow win over a deny, and no rule lifts what
 * the mode denies. A request too large to be judged is refused. */
#include "policy/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

/* What needs no rule. What leaves the cell is asked for; what stays inside it is not, so that
 * defaults do not tire. */
static const enum decision defaults[MODE_COUNT][SUBJECT_COUNT] = {
	[MODE_READ_ONLY] = {
		[SUBJECT_READ] = DECIDE_ALLOW, [SUBJECT_WRITE] = DECIDE_DENY,
		[SUBJECT_EXEC] = DECIDE_ALLOW, /* the kernel makes its cell read only */
		[SUBJECT_FETCH] = DECIDE_ASK, [SUBJECT_SEND] = DECIDE_ASK,
		[SUBJECT_DELEGATE] = DECIDE_ALLOW, [SUBJECT_MCP] = DECIDE_ASK,
		[SUBJECT_MEMORY] = DECIDE_ASK, [SUBJECT_SCHEDULE] = DECIDE_ASK,
	},
	[MODE_WORKSPACE_WRITE] = {
		[SUBJECT_READ] = DECIDE_ALLOW, [SUBJECT_WRITE] = DECIDE_ALLOW, [SUBJECT_EXEC] = DECIDE_ALLOW,
		[SUBJECT_FETCH] = DECIDE_ASK, [SUBJECT_SEND] = DECIDE_ASK,
		[SUBJECT_DELEGATE] = DECIDE_ALLOW, [SUBJECT_MCP] = DECIDE_ASK,
		[SUBJECT_MEMORY] = DECIDE_ALLOW, [SUBJECT_SCHEDULE] = DECIDE_ASK,
	},
	[MODE_DANGER_FULL_ACCESS] = {
		[SUBJECT_READ] = DECIDE_ALLOW, [SUBJECT_WRITE] = DECIDE_ASK, [SUBJECT_EXEC] = DECIDE_ASK,
		[SUBJECT_FETCH] = DECIDE_ASK, [SUBJECT_SEND] = DECIDE_ASK,
		[SUBJECT_DELEGATE] = DECIDE_ASK, [SUBJECT_MCP] = DECIDE_ASK,
		[SUBJECT_MEMORY] = DECIDE_ALLOW, [SUBJECT_SCHEDULE] = DECIDE_ASK,
	},
};

enum decision
mode_default(enum mode m, enum subject s)
{
	return (unsigned)m < MODE_COUNT && (unsigned)s < SUBJECT_COUNT ? defaults[m][s]
								       : DECIDE_DENY;
}

static struct str
origin_text(const struct config *c, const char *key, struct arena *a)
{
	struct config_origin o = config_origin(c, str_of(key));

	if (o.file != NULL)
		return str_of(arena_printf(a, "%s line %u", o.file, o.line));
	return str_of(o.layer == LAYER_ENV    ? "environment"
		      : o.layer == LAYER_FLAG ? "command line"
					      : "built in");
}

static int
add_rules(struct policy *p, const struct config *c, enum decision d, struct err *e)
{
	const char *list_key = arena_printf(p->a, "permissions.%s", decision_name(d));
	const struct node *list = config_get(c, list_key);

	for (size_t i = 0; i < node_len(list); i++) {
		struct rule *rule = &p->rules[p->n];
		struct str origin = origin_text(c, arena_printf(p->a, "%s.%zu", list_key, i), p->a);

		if (rule_compile(node_at(list, i)->s, p->a, rule, e) != 0)
			return err_wrap(e, "config (%.*s): %s", STR_FMT(origin), list_key);
		rule->decision = d;
		rule->origin = origin;
		p->n++;
	}
	return 0;
}

int
policy_new(const struct config *c, struct policy **out, struct err *e)
{
	static const enum decision order[] = { DECIDE_DENY, DECIDE_ASK, DECIDE_ALLOW };
	struct policy *p;
	size_t n = 0;

	if (policy_egress_check(c, e) != 0)
		return e->code;
	p = xcalloc(1, sizeof(*p));

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		char key[32];

		snprintf(key, sizeof(key), "permissions.%s", decision_name(order[i]));
		n += node_len(config_get(c, key));
	}
	p->a = arena_new(POLICY_ARENA_MAX);
	p->rules = xcalloc(n + 1, sizeof(*p->rules));
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		int rc = add_rules(p, c, order[i], e);

		if (rc != 0) {
			policy_free(p);
			return rc;
		}
	}
	*out = p;
	return 0;
}

void
policy_free(struct policy *p)
{
	if (p == NULL)
		return;
	arena_free(p->a);
	free(p->rules);
	free(p);
}

static void say(struct verdict *out, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void
say(struct verdict *out, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 8 * KIB);
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	utf8_copy(out->reason, sizeof(out->reason), buf_str(&b));
	buf_fini(&b);
}

static void
set_rule(struct verdict *out, enum decision d, const struct rule *rule)
{
	out->decision = d;
	utf8_copy(out->rule, sizeof(out->rule), rule->text);
	utf8_copy(out->origin, sizeof(out->origin), rule->origin);
}

static void
set_default(struct verdict *out, enum decision d, enum mode m)
{
	out->decision = d;
	snprintf(out->rule, sizeof(out->rule), "mode %s: default", mode_name(m));
	snprintf(out->origin, sizeof(out->origin), "built in");
}

/* The first deny or ask rule that speaks about any part, or NULL. */
static const struct rule *
find_covering(const struct policy *p, const struct view *v, enum decision d, struct str *what)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].decision == d && view_is_covered(v, &p->rules[i], what))
			return &p->rules[i];
	return NULL;
}

/* The first deny or ask rule that may speak about it, depending on what expansions come to. */
static const struct rule *
find_possible(const struct policy *p, const struct view *v, struct str *what)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].decision != DECIDE_ALLOW &&
			view_may_be_covered(v, &p->rules[i], what))
			return &p->rules[i];
	return NULL;
}

static const struct rule *
find_allowing(const struct policy *p, const struct view *v, size_t part)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].decision == DECIDE_ALLOW &&
			view_part_is_allowed(v, part, &p->rules[i]))
			return &p->rules[i];
	return NULL;
}

static void
decide_by_default(
	const struct policy_request *r, const struct view *v, struct str part, struct verdict *out)
{
	enum decision d = mode_default(r->mode, r->subject);
	const char *why = r->subject == SUBJECT_EXEC ? v->script.why_opaque : NULL;

	set_default(out, d, r->mode);
	if (d == DECIDE_ALLOW)
		say(out, "%s is allowed in mode %s.", subject_name(r->subject), mode_name(r->mode));
	else if (d == DECIDE_DENY)
		say(out, "Mode %s does not allow %s.", mode_name(r->mode),
			subject_name(r->subject));
	else if (why != NULL)
		say(out, "Mode %s asks; only Exec(*) could allow this script, because %s.",
			mode_name(r->mode), why);
	else
		say(out, "Mode %s asks for %s, and no rule allows '%.*s'.", mode_name(r->mode),
			subject_name(r->subject), STR_FMT(str_sub(part, 0, 100)));
}

/* Every part needs an allow rule where the mode does not allow by itself. */
static void
decide_parts(const struct policy *p, const struct view *v, struct verdict *out)
{
	const struct policy_request *r = v->r;
	enum decision d = mode_default(r->mode, r->subject);
	const struct rule *last = NULL;

	for (size_t i = 0; i < view_parts(v) && d != DECIDE_DENY; i++) {
		const struct rule *rule = find_allowing(p, v, i);

		if (rule == NULL) {
			decide_by_default(r, v, view_part_text(v, i), out);
			return;
		}
		last = rule;
	}
	if (last == NULL) {
		decide_by_default(r, v, r->target, out);
		return;
	}
	set_rule(out, DECIDE_ALLOW, last);
	say(out, "The rule %.*s allows it.", STR_FMT(last->text));
}

/* What the rule speaks about may be hidden, by an expansion above all: a person decides. Where
 * --yes stands for the person, what may be denied is denied. */
static void
decide_possible(const struct view *v, const struct rule *rule, struct str what, struct verdict *out)
{
	bool is_denied = rule->decision == DECIDE_DENY && v->r->yes;

	set_rule(out, is_denied ? DECIDE_DENY : DECIDE_ASK, rule);
	say(out,
		"The rule %.*s may speak about '%.*s': expansions, options or other input leave "
		"that open (write it plainly).",
		STR_FMT(str_sub(rule->text, 0, 80)), STR_FMT(str_sub(what, 0, 60)));
}

static void
decide(const struct policy *p, const struct view *v, struct verdict *out)
{
	struct str what;
	const struct rule *rule = find_covering(p, v, DECIDE_DENY, &what);

	if (rule != NULL) {
		set_rule(out, DECIDE_DENY, rule);
		say(out, "The rule %.*s denies '%.*s'.", STR_FMT(str_sub(rule->text, 0, 100)),
			STR_FMT(str_sub(what, 0, 100)));
		return;
	}
	decide_parts(p, v, out);
	if (out->decision == DECIDE_DENY)
		return;
	rule = find_covering(p, v, DECIDE_ASK, &what);
	if (rule != NULL) {
		set_rule(out, DECIDE_ASK, rule);
		say(out, "The rule %.*s asks before '%.*s'.", STR_FMT(str_sub(rule->text, 0, 100)),
			STR_FMT(str_sub(what, 0, 100)));
	}
	if (out->decision == DECIDE_ALLOW && (rule = find_possible(p, v, &what)) != NULL)
		decide_possible(v, rule, what, out);
	else if (out->decision == DECIDE_ASK && v->r->yes &&
		 (rule = find_possible(p, v, &what)) != NULL && rule->decision == DECIDE_DENY)
		decide_possible(v, rule, what, out);
	if (out->decision == DECIDE_ASK && v->r->yes) {
		out->decision = DECIDE_ALLOW;
		say(out, "--yes answers the question that %s would ask.", out->rule);
	}
}

static void
refuse_size(struct verdict *out)
{
	out->decision = DECIDE_DENY;
	snprintf(out->rule, sizeof(out->rule), "size");
	snprintf(out->origin, sizeof(out->origin), "built in");
	say(out, "It is too large or too deeply nested to be judged (put the script into a file "
		 "and run that).");
}

void
policy_decide(const struct policy *p, const struct policy_request *r, struct verdict *out)
{
	struct arena *a = arena_new(SHELL_ARENA_MAX);
	struct view v;

	*out = (struct verdict){ 0 };
	if (view_init(&v, r, a) != 0)
		refuse_size(out);
	else
		decide(p, &v, out);
	arena_free(a);
}

/* One line: what it says, where it is written, whether it speaks about this request. */
static void
explain_rule(const struct view *v, const struct rule *rule, struct buf *out)
{
	struct str what = v->r->target;
	bool matches = false;

	if (rule->decision != DECIDE_ALLOW)
		matches = view_is_covered(v, rule, &what);
	for (size_t i = 0; rule->decision == DECIDE_ALLOW && i < view_parts(v) && !matches; i++) {
		matches = view_part_is_allowed(v, i, rule);
		what = view_part_text(v, i);
	}
	buf_printf(out, "%-5s %.*s (%.*s): ", decision_name(rule->decision), STR_FMT(rule->text),
		STR_FMT(rule->origin));
	if (!matches && rule->decision != DECIDE_ALLOW && view_may_be_covered(v, rule, &what))
		buf_printf(out, "may match '%.*s'\n", STR_FMT(str_sub(what, 0, 200)));
	else if (matches)
		buf_printf(out, "matches '%.*s'\n", STR_FMT(str_sub(what, 0, 200)));
	else
		buf_add_z(out, "does not match\n");
}

static void
explain_script(const struct view *v, struct buf *out)
{
	const struct unit *units = v->units.items;

	for (size_t i = 0; i < v->units.n; i++) {
		buf_printf(out, "command %zu:", i + 1);
		for (size_t k = 0; k < units[i].argc; k++) {
			buf_add_char(out, ' ');
			pattern_quote(out, PATTERN_WORDS, units[i].argv[k]);
		}
		buf_add_char(out, '\n');
	}
	for (size_t i = 0; i < v->writes.n; i++)
		buf_printf(out, "writes: %.*s\n",
			STR_FMT(((const struct path *)v->writes.items)[i].text));
	if (v->script.opaque)
		buf_printf(out, "opaque: %s; for allow only Exec and Exec(*) match\n",
			v->script.why_opaque);
	if (v->error.code != 0)
		buf_printf(out, "parser: %s\n", v->error.msg);
}

void
policy_explain(const struct policy *p, const struct policy_request *r, struct buf *out)
{
	struct arena *a = arena_new(SHELL_ARENA_MAX);
	struct verdict verdict = { 0 };
	struct view v;

	buf_printf(out, "request: %s, tool %.*s, mode %s\n", subject_name(r->subject),
		STR_FMT(r->tool), mode_name(r->mode));
	if (view_init(&v, r, a) != 0) {
		refuse_size(&verdict);
	} else {
		if (r->subject == SUBJECT_EXEC)
			explain_script(&v, out);
		for (size_t i = 0; i < p->n; i++)
			explain_rule(&v, &p->rules[i], out);
		buf_printf(out, "mode %s: %s by default\n", mode_name(r->mode),
			decision_name(mode_default(r->mode, r->subject)));
		decide(p, &v, &verdict);
	}
	buf_printf(out, "decision: %s by %s (%s). %s\n", decision_name(verdict.decision),
		verdict.rule, verdict.origin, verdict.reason);
	arena_free(a);
}

static bool
always_exec(const struct policy_request *r, struct arena *a, struct buf *out)
{
	struct shell_script s;
	struct err e = { 0 };

	if (r->keeps_state || shell_parse(r->target, a, &s, &e) != 0 || s.opaque || s.n != 1 ||
		s.writes_n > 0 || s.commands[0].dynamic)
		return false;
	buf_add_z(out, "Exec(");
	for (size_t i = 0; i < s.commands[0].argc; i++) {
		if (i > 0)
			buf_add_char(out, ' ');
		pattern_quote(out, PATTERN_WORDS, s.commands[0].argv[i]);
	}
	buf_add_char(out, ')');
	return true;
}

static bool
always_target(const struct policy_request *r, struct buf *out)
{
	bool is_file = r->subject == SUBJECT_READ || r->subject == SUBJECT_WRITE;

	if (r->target.n == 0 || r->target2.n > 0 || (unsigned)r->subject >= SUBJECT_COUNT)
		return false;
	buf_printf(out, "%s(", subject_name(r->subject));
	pattern_quote(out, is_file ? PATTERN_PATH : PATTERN_TEXT, r->target);
	buf_add_char(out, ')');
	return true;
}

/* Does the rule compile, mean less than everything, and allow the request it was made for? */
static bool
always_holds(const struct policy_request *r, struct str text, struct arena *a)
{
	struct err e = { 0 };
	struct rule rule;
	struct view v;

	return rule_compile(text, a, &rule, &e) == 0 && !rule.is_bare && view_init(&v, r, a) == 0 &&
	       view_parts(&v) == 1 && view_part_is_allowed(&v, 0, &rule);
}

bool
policy_always_rule(const struct policy_request *r, struct buf *out)
{
	struct arena *a = arena_new(SHELL_ARENA_MAX);
	size_t start = out->n;
	bool ok = r->subject == SUBJECT_EXEC ? always_exec(r, a, out) : always_target(r, out);

	if (ok && (out->overflow || !always_holds(r, str_sub(buf_str(out), start, SIZE_MAX), a)))
		ok = false;
	if (!ok)
		buf_truncate(out, start);
	arena_free(a);
	return ok;
}
