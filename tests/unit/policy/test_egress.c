/* SPDX-License-Identifier: MIT
 * The grant that configuration and rules make, and what the section may not say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/limits.h"
#include "broker/proxy.h"
#include "policy/policy.h"

static struct config *
load(const char *const *flags)
{
	struct config_sources src = { .system_file = "/nonexistent/config.yaml", .flags = (const char **)(uintptr_t)flags };
	struct config *c;
	struct err e;

	if (config_load(&src, &c, &e) != 0)
		fail_msg("%s", e.msg);
	return c;
}

static void
expect(struct config *c, bool is_open, const char *want)
{
	static const char *const always[] = { "Fetch(always.test:1)", "Exec(ls)" };
	struct policy *p;
	struct json j;
	struct buf b;
	struct err e;

	if (policy_new(c, &p, &e) != 0)
		fail_msg("%s", e.msg);
	buf_init(&b, MIB);
	json_init(&j, &b);
	policy_egress_write(p, c, always, ARRAY_LEN(always), 7, &j);
	assert_string_equal(buf_z(&b), want);
	assert_int_equal(policy_egress_is_open(p, c), is_open);
	buf_fini(&b);
	policy_free(p);
	config_unref(c);
}

static void
test_grant(void **in)
{
	static const char *const none[] = { NULL };
	static const char *const all[] = { "egress.allow=[a.test:443, '*.b.test', 10.0.0.1:80]", "egress.deny=[x.b.test]",
		"egress.hosts={a.test: 127.0.0.1, c.test: '[::1]:8080'}", "egress.quota_mb=3",
		"egress.services={api: {url: 'https://api.test'}}",
		"permissions.allow=[Fetch(docs*.test), Fetch(d.test:22), Exec(ls), read]",
		"permissions.ask=[Fetch(e.test)]", "permissions.deny=['Fetch(https://f.test/x)', Fetch(g.test:443)]", NULL };
	static const char *const only_rule[] = { "permissions.allow=[Fetch]", "permissions.deny=[Exec]", NULL };

	expect(load(none), false, "{\"allow\":[\"always.test:1\"],\"deny\":[],\"services\":[],\"quota_bytes\":10737418240,"
		"\"used_bytes\":7}");
	expect(load(all), true, "{\"allow\":[\"a.test:443\",\"*.b.test\",\"10.0.0.1:80\",\"docs*.test\",\"d.test:22\",\"always.test:1\"],"
		"\"deny\":[\"x.b.test\",\"g.test:443\",\"e.test\"],\"hosts\":{\"a.test\":\"127.0.0.1\",\"c.test\":\"[::1]:8080\"},"
		"\"services\":[\"api\"],\"quota_bytes\":3145728,\"used_bytes\":7}");
	expect(load(only_rule), true, "{\"allow\":[\"*\",\"always.test:1\"],\"deny\":[],\"services\":[],"
		"\"quota_bytes\":10737418240,\"used_bytes\":7}");
}

static void
test_mistakes(void **in)
{
	static const struct {
		const char *flag, *says;
	} rows[] = {
		{ "egress.allow=[https://a.test]", "egress.allow: \"https://a.test\"" },
		{ "egress.allow=['a*.test']", "first labels" },
		{ "egress.allow=['127.1']", "four decimal numbers" },
		{ "egress.deny=['a.test:x']", "port is not 1..65535" },
		{ "egress.hosts={a.test: b.test}", "is not an address" },
		{ "egress.hosts={A.test: 127.0.0.1}", "lower case" },
		{ "egress.hosts={'127.0.0.1': 127.0.0.2}", "is not a host name" },
		{ "egress.services={'a/b': {url: 'https://x.test'}}", "may not hold /" },
		{ "egress.services={a: {}}", "has no url" },
		{ "egress.services={a: {url: 'ftp://x'}}", "begins with https://" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *const flags[] = { rows[i].flag, NULL };
		struct config *c = load(flags);
		struct policy *p;
		struct err e = { 0 };

		if (policy_new(c, &p, &e) != ERR_CONFIG || strstr(e.msg, rows[i].says) == NULL)
			fail_msg("%s: \"%s\"", rows[i].flag, e.msg);
		config_unref(c);
	}
}

static void
no_refusal(void *arg, const char *dotted, uint32_t line, const char *why)
{
	buf_printf(arg, "%s;", dotted);
}

static void
test_workspace(void **in)
{
	static const char *const flags[] = { "egress.allow=[a.test]", "egress.deny=[b.test]", "egress.quota_mb=5", NULL };
	struct config *c = load(flags), *narrow;
	struct buf refused;
	struct err e;

	buf_init(&refused, 4096);
	assert_int_equal(config_narrow(c, "w.yaml", STR("egress: { allow: [c.test], deny: [a.test], quota_mb: 4, hosts: { a.test: "
		"127.0.0.1 }, services: { s: { url: 'https://x.test' } } }"), no_refusal, &refused, &narrow, &e), 0);
	assert_non_null(strstr(buf_z(&refused), "egress.allow;"));
	assert_non_null(strstr(buf_z(&refused), "egress.hosts"));
	assert_non_null(strstr(buf_z(&refused), "egress.services"));
	expect(narrow, true, "{\"allow\":[\"a.test\",\"always.test:1\"],\"deny\":[\"b.test\",\"a.test\"],\"services\":[],"
		"\"quota_bytes\":4194304,\"used_bytes\":7}");
	assert_int_equal(config_narrow(c, "w.yaml", STR("egress: { quota_mb: 6 }"), no_refusal, &refused, &narrow, &e), 0);
	assert_int_equal(config_int(narrow, "egress.quota_mb"), 5);
	config_unref(narrow);
	config_unref(c);
	buf_fini(&refused);
}

/* What `ithaca why host` says is what the broker does with the grant, target by target. */
static void
test_why_is_the_grant(void **in)
{
	static const char *const flags[] = { "egress.allow=[github.com, \"*.example.org:8080\", \"192.168.1.20:3000\", \"any.test:*\"]",
		"egress.deny=[gist.github.com, \"*.github.com:22\"]",
		"permissions.deny=[\"Fetch(evil.example.org:*)\"]", "permissions.ask=[\"Fetch(asked.test:443)\"]",
		"permissions.allow=[\"Fetch(asked.test:443)\", \"Fetch(other.test:1)\"]", NULL };
	static const char *const targets[] = { "github.com", "github.com:443", "github.com:80", "github.com:22", "gist.github.com:443",
		"a.github.com:22", "a.example.org:8080", "a.example.org:443", "evil.example.org:8080", "example.org:8080",
		"192.168.1.20:3000", "192.168.1.20:80", "127.0.0.1:443", "any.test:9", "asked.test:443", "other.test:1", "other.test:2",
		"[::1]:443", "nothing.test" };
	struct config *c = load(flags);
	struct policy *p;
	struct buf text;
	struct json j;
	struct err e;
	size_t allowed = 0;

	assert_int_equal(policy_new(c, &p, &e), 0);
	buf_init(&text, 64 * KIB);
	json_init(&j, &text);
	policy_egress_write(p, c, NULL, 0, 0, &j);
	struct grant *g = grant_new(STR("cell"), buf_str(&text), &e);
	assert_non_null(g);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct endpoint to;
		struct verdict v;

		assert_int_equal(endpoint_parse(str_of(targets[i]), 443, &to, &e), 0);
		assert_int_equal(policy_egress_why(p, c, str_of(targets[i]), &v, &e), 0);
		if ((v.decision == DECIDE_ALLOW) != grant_allows(g, &to, &e))
			fail_msg("%s: why says %s", targets[i], decision_name(v.decision));
		allowed += v.decision == DECIDE_ALLOW;
		if (v.decision == DECIDE_DENY && strcmp(v.rule, "default") == 0)
			assert_non_null(strstr(v.reason, "rule to allow: Fetch("));
	}
	assert_int_equal(allowed, 7);
	assert_int_equal(policy_egress_why(p, c, STR("https://evil.example.org/a/b"), &(struct verdict){ 0 }, &e), 0);
	assert_int_not_equal(policy_egress_why(p, c, STR("two words"), &(struct verdict){ 0 }, &e), 0);
	assert_int_not_equal(policy_egress_why(p, c, STR("[::ffff:127.0.0.1]:80"), &(struct verdict){ 0 }, &e), 0);
	grant_free(g);
	buf_fini(&text);
	policy_free(p);
	config_unref(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grant),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_workspace),
		cmocka_unit_test(test_why_is_the_grant),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
