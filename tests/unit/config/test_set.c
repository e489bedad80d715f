/* SPDX-License-Identifier: MIT
 * `config set` on text: what is spliced where, that everything else stays byte for byte, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "config/config.h"

struct sample {
	const char *before, *key, *value, *after;
};

static const struct sample samples[] = {
	/* replaced in place */
	{ "mode: read_only\n", "mode", "workspace_write", "mode: workspace_write\n" },
	{ "# a\nlimits: # b\n  # c\n  turn_steps:   7   # d\n  depth: 1\n", "limits.turn_steps", "12",
	  "# a\nlimits: # b\n  # c\n  turn_steps:   12   # d\n  depth: 1\n" },
	{ "limits: { turn_steps: 7, depth: 1 } # x\n", "limits.turn_steps", "12",
	  "limits: { turn_steps: 12, depth: 1 } # x\n" },
	{ "model: 'a/b'\n", "model", "c/d", "model: c/d\n" },
	{ "model: a/b", "model", "c/d: e", "model: \"c/d: e\"" },
	{ "limits:\n  turn_cost_usd: 1\n", "limits.turn_cost_usd", "2.50", "limits:\n  turn_cost_usd: 2.50\n" },
	{ "permissions:\n  deny: [a]  # x\n", "permissions.deny", "[\"Exec(git push *)\", b]",
	  "permissions:\n  deny: [\"Exec(git push *)\", b]  # x\n" },
	{ "# \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\nmodel: \"\xc3\xa4/b\" # \xc3\xb6\n", "model", "c/d",
	  "# \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\nmodel: c/d # \xc3\xb6\n" },
	{ "\xef\xbb\xbfmodel: a/b\n", "model", "c/d", "\xef\xbb\xbfmodel: c/d\n" },
	{ "model: a/b\r\nmode: read_only\r\n", "model", "c/d", "model: c/d\r\nmode: read_only\r\n" },
	/* without a value so far */
	{ "model: # none\n", "model", "c/d", "model: c/d # none\n" },
	{ "model:", "model", "c/d", "model: c/d" },
	{ "limits:\n", "limits.depth", "1", "limits:\n  depth: 1\n" },
	{ "limits: # why\nmode: read_only\n", "limits.depth", "1", "limits: # why\n  depth: 1\nmode: read_only\n" },
	{ "limits: {}\n", "limits.depth", "1", "limits: { depth: 1 }\n" },
	/* added */
	{ "", "mode", "read_only", "mode: read_only\n" },
	{ "# only this\n", "limits.depth", "1", "# only this\nlimits:\n  depth: 1\n" },
	{ "---\n", "mode", "read_only", "---\nmode: read_only\n" },
	{ "mode: read_only", "model", "a/b", "mode: read_only\nmodel: a/b\n" },
	{ "mode: read_only\n# end\n", "model", "a/b", "mode: read_only\nmodel: a/b\n# end\n" },
	{ "mode: read_only\r\n", "limits.depth", "1", "mode: read_only\r\nlimits:\r\n  depth: 1\r\n" },
	{ "limits:\n    depth: 1 # x\n\nmode: read_only\n", "limits.turn_steps", "3",
	  "limits:\n    depth: 1 # x\n    turn_steps: 3\n\nmode: read_only\n" },
	{ "providers:\n  x:\n    api: offline\n", "providers.x.retries", "0",
	  "providers:\n  x:\n    api: offline\n    retries: 0\n" },
	{ "providers:\n  x:\n    api: offline\n", "providers.y.api", "offline",
	  "providers:\n  x:\n    api: offline\n  y:\n    api: offline\n" },
	{ "mode: read_only\n", "catalog.models.\"a/b.c\".context", "1000",
	  "mode: read_only\ncatalog:\n  models:\n    a/b.c:\n      context: 1000\n" },
	{ "permissions:\n  deny:\n  - a\n  - b\nmode: read_only\n", "permissions.ask", "[c]",
	  "permissions:\n  deny:\n  - a\n  - b\n  ask: [c]\nmode: read_only\n" },
	{ "model: |\n  a/b\nmode: read_only\n", "limits.depth", "1", "model: |\n  a/b\nmode: read_only\nlimits:\n  depth: 1\n" },
	{ "mode: read_only\n...\n", "model", "a/b", "mode: read_only\nmodel: a/b\n...\n" },
	/* texts that YAML would read as something else */
	{ "", "model", "true/x y", "model: \"true/x y\"\n" },
	{ "", "models.fallback", "['a/b', \"1\"]", "models:\n  fallback: [a/b, \"1\"]\n" },
	{ "", "log.level", "off", "log:\n  level: off\n" },
	{ "", "workspace_root", "null", "workspace_root: \"null\"\n" },
	{ "", "workspace_root", "123", "workspace_root: \"123\"\n" },
};

static void
test_set(void **state)
{
	struct buf out;

	buf_init(&out, MIB);
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		struct err e = { 0 };

		buf_reset(&out);
		if (config_set_text(str_of(s->before), str_of(s->key), str_of(s->value), &out, &e) != 0)
			fail_msg("'%s' %s: %s", s->before, s->key, e.msg);
		assert_string_equal(buf_z(&out), s->after);
		/* Setting it once more changes nothing. */
		buf_reset(&out);
		if (config_set_text(str_of(s->after), str_of(s->key), str_of(s->value), &out, &e) != 0)
			fail_msg("again '%s' %s: %s", s->after, s->key, e.msg);
		assert_string_equal(buf_z(&out), s->after);
	}
	buf_fini(&out);
}

static void
test_refusals(void **state)
{
	static const struct {
		const char *before, *key, *value;
		int code;
		const char *message;
	} rows[] = {
		{ "mode: read_only\n\nmodel: >-\n  a/b\n", "model", "c/d", ERR_UNSUPPORTED, "line 3: model" },
		{ "permissions:\n  deny:\n    - a\n", "permissions.deny", "[b]", ERR_UNSUPPORTED, "line 3: permissions.deny" },
		{ "permissions: { deny: [a,\n b] }\n", "permissions.deny", "[b]", ERR_UNSUPPORTED, "several lines" },
		{ "limits: { depth: 1 }\n", "limits.turn_steps", "2", ERR_UNSUPPORTED, "line 1: limits.turn_steps" },
		{ "model: &m a/b\nmodels: { fast: *m }\n", "model", "c/d", ERR_UNSUPPORTED, "line 1: model" },
		{ "model: &m a/b\nmodels: { fast: *m }\n", "models.fast", "c/d", ERR_UNSUPPORTED, "line 2: models.fast" },
		{ "providers:\n  a: &p { api: offline }\n  b: *p\n", "providers.b.retries", "1", ERR_UNSUPPORTED, "line 3" },
		{ "providers:\n  a: &p\n    api: offline\n  b: *p\n", "providers.a.api", "anthropic", ERR_UNSUPPORTED,
		  "touch more than this key" },
		{ "model: !!str a/b\n", "model", "c/d", ERR_UNSUPPORTED, "line 1" },
		{ "{}\n", "limts.depth", "1", ERR_CONFIG, "did you mean limits?" },
		{ "", "limits", "{}", ERR_CONFIG, "is a section" },
		{ "", "providers.x", "{}", ERR_CONFIG, "is a section" },
		{ "", "limits.depth", "99", ERR_CONFIG, "limits.depth: 99 is outside" },
		{ "", "permissions.deny", "", ERR_CONFIG, "has no value" },
		{ "mode: [\n", "model", "a/b", ERR_CONFIG, "line 2" },
		{ "mdoe: x\n", "model", "a/b", ERR_CONFIG, "line 1: mdoe" },
	};
	struct buf out;

	buf_init(&out, MIB);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		int rc = config_set_text(str_of(rows[i].before), str_of(rows[i].key), str_of(rows[i].value), &out, &e);

		if (rc != rows[i].code || strstr(e.msg, rows[i].message) == NULL)
			fail_msg("'%s' %s: %d %s '%s'", rows[i].before, rows[i].key, rc, e.msg, buf_z(&out));
		assert_int_equal(out.n, 0);
	}
	buf_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests_name("config/set", tests, NULL, NULL);
}
