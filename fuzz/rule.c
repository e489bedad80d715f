/* SPDX-License-Identifier: MIT
 * Rules and decisions: the first byte chooses subject and mode, the first line is a rule, the rest the target. A rule
 * that compiles must decide without harm, deny must win over the same rule in allow, and the rule that "always" makes
 * must allow what it was made for. */
#include <stdlib.h>

#include "base/limits.h"
#include "policy/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum decision
decide(const struct policy *p, const struct policy_request *r)
{
	struct verdict v;

	policy_decide(p, r, &v);
	if (v.rule[0] == '\0' || v.reason[0] == '\0')
		fatal("a verdict without a reason");
	return v.decision;
}

static void
check_always(const struct policy_request *r, struct arena *a)
{
	struct rule rule;
	struct policy p = { .a = a, .rules = &rule, .n = 1 };
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, 64 * KIB);
	if (policy_always_rule(r, &b)) {
		if (rule_compile(buf_str(&b), a, &rule, &e) != 0)
			fatal("always made a rule that does not compile: %s", e.msg);
		rule.decision = DECIDE_ALLOW;
		rule.origin = STR("fuzz");
		if (rule.is_bare || decide(&p, r) == DECIDE_ASK)
			fatal("always made %s", buf_z(&b));
	}
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = { (const char *)data, size }, text;
	struct rule rules[2];
	struct policy p = { .rules = rules, .n = 2 };
	struct policy_request r = { .yes = false };
	struct err e = { 0 };
	struct buf b;

	if (size < 2)
		return 0;
	r.subject = (enum subject)(data[0] % SUBJECT_COUNT);
	r.mode = (enum mode)(data[0] / SUBJECT_COUNT % MODE_COUNT);
	r.tool = data[0] & 0x80 ? STR("grep") : STR("exec");
	rest = str_sub(rest, 1, size);
	(void)str_next(&rest, '\n', &text);
	r.target = rest;
	p.a = arena_new(8 * MIB);
	buf_init(&b, 4 * MIB);
	check_always(&r, p.a);
	if (rule_compile(text, p.a, &rules[0], &e) == 0) {
		rules[0].origin = STR("fuzz");
		rules[0].decision = DECIDE_DENY;
		rules[1] = rules[0];
		rules[1].decision = DECIDE_ALLOW;
		policy_explain(&p, &r, &b);
		if (rules[0].is_bare && rules[0].tool.n == 0 && rules[0].subject == r.subject &&
			decide(&p, &r) != DECIDE_DENY)
			fatal("deny did not win");
		p.n = 1;
		if (decide(&p, &r) == DECIDE_ALLOW) {
			p.rules = &rules[1]; /* what is not covered by deny can be, or not, by allow: no crash */
			(void)decide(&p, &r);
		}
	}
	buf_fini(&b);
	arena_free(p.a);
	return 0;
}
