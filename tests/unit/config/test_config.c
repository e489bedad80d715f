/* SPDX-License-Identifier: MIT
 * Configuration: the table, layers and origins, messages for mistakes, narrowing, and the envelope. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/limits.h"
#include "config/internal.h"

struct files {
	char dir[64];
	char system[96], home[96], user[96];
};

static int
setup(void **state)
{
	struct files *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->dir, sizeof(f->dir), "%.40s/config.XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->system, sizeof(f->system), "%s/system.yaml", f->dir);
	snprintf(f->home, sizeof(f->home), "%s/config.yaml", f->dir);
	snprintf(f->user, sizeof(f->user), "%s/user.yaml", f->dir);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct files *f = *state;

	unlink(f->system);
	unlink(f->home);
	unlink(f->user);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void
put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fputs(text, f) >= 0 && fclose(f) == 0, 1);
}

static int
load(const struct files *f, char *const *env, const char *const *flags, struct config **out, struct err *e)
{
	const struct config_sources src = { .system_file = f->system, .home_file = f->home, .user_file = f->user,
		.env = env, .flags = flags };

	*e = (struct err){ 0 };
	return config_load(&src, out, e);
}

static struct config *
must_load(const struct files *f, char *const *env, const char *const *flags)
{
	struct config *c = NULL;
	struct err e;

	if (load(f, env, flags, &c, &e) != 0)
		fail_msg("%s", e.msg);
	return c;
}

static void
assert_origin(const struct config *c, const char *key, enum config_layer layer, const char *file, uint32_t line)
{
	struct config_origin o = config_origin(c, str_of(key));

	if (o.layer != layer || o.line != line || (o.file == NULL) != (file == NULL) ||
		(file != NULL && strcmp(o.file, file) != 0))
		fail_msg("%s: %s %s line %u", key, config_layer_name(o.layer), o.file ? o.file : "-", o.line);
}

/* A vendor's key goes to an address of the user's own only when the user named it there. */
static void
test_vendor_keys(void **state)
{
	static const struct {
		const char *home, *flag, *key;
	} rows[] = {
		{ "providers: { openai: { idle_ms: 5 } }\n", NULL, "OPENAI_API_KEY" },
		{ "providers: { openai: { base_url: \"http://127.0.0.1:9/v1\" } }\n", NULL, NULL },
		{ "model: openai/gpt-5\n", "providers.openai.base_url=http://127.0.0.1:9/v1", NULL },
		{ "providers: { openai: { api_key_env: OPENAI_API_KEY } }\n", "providers.openai.base_url=http://127.0.0.1:9",
			"OPENAI_API_KEY" },
		{ "providers: { openrouter: { retries: 1 } }\n", NULL, NULL },
	};
	const struct files *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *const flags[] = { rows[i].flag, NULL };
		struct config *c;
		const char *key;

		put(f->home, rows[i].home);
		c = must_load(f, NULL, flags);
		key = node_z(node_get(config_get(c, "providers"), "openai"), "api_key_env", NULL);
		if (i == ARRAY_LEN(rows) - 1)
			assert_string_equal(config_z(c, "providers.openrouter.api_key_env"), "OPENROUTER_API_KEY");
		else if (rows[i].key == NULL)
			assert_null(key);
		else
			assert_string_equal(key, rows[i].key);
		config_unref(c);
	}
}

static void
test_defaults(void **state)
{
	struct config *c = must_load(*state, NULL, NULL);

	assert_string_equal(config_z(c, "model"), "offline/rules");
	assert_string_equal(config_z(c, "providers.anthropic.api_key_env"), "ANTHROPIC_API_KEY");
	assert_string_equal(config_z(c, "providers.openai.api"), "openai-chat");
	assert_string_equal(config_z(c, "providers.offline.api"), "offline");
	assert_int_equal(config_int(c, "providers.openai.retries"), 4);
	assert_int_equal(config_int(c, "limits.turn_steps"), 100);
	assert_int_equal(config_microusd(c, "limits.turn_cost_usd"), 5000000);
	assert_false(config_bool(c, "cell.require_limits"));
	assert_int_equal(node_len(config_get(c, "permissions.deny")), 0);
	assert_null(config_get(c, "models.fast"));
	assert_null(config_z(c, "models.fast"));
	assert_null(config_get(c, "providers.other.api"));
	assert_origin(c, "limits.turn_steps", LAYER_DEFAULT, NULL, 0);
	config_unref(c);
}

/* The file that the interfaces promise to take. */
static void
test_whole_file(void **state)
{
	const struct files *f = *state;
	struct config *c;

	put(f->home,
		"model: anthropic/claude-sonnet-4-5\n"
		"models: { fast: a/b, judge: , fallback: [a/b, c/d] }\n"
		"providers:\n"
		"  anthropic: { api: anthropic, api_key_env: MY_KEY }\n"
		"  local:     { api: openai-chat, base_url: \"http://127.0.0.1:11434/v1\", headers: { x-a: b } }\n"
		"  offline:   { script: demo.yaml }\n"
		"tier: micro_vm\n"
		"tier_min: process\n"
		"mode: read_only\n"
		"permissions: { allow: [\"Fetch(docs.example.org)\"], ask: [\"Send(*)\"], deny: [\"Exec(git push *)\"] }\n"
		"limits: { turn_steps: 7, turn_ms: 1e3, turn_cost_usd: \"0.1\", day_cost_usd: 0.0000001, agents: 32, depth: 3 }\n"
		"gateway: { host: 127.0.0.1, port: 4200, tls: {cert: , key: } }\n"
		"store: { url: \"sqlite:state/ithaca.db\" }\n"
		"memory: {}\nscheduler: {}\nmcp: { servers: {} }\nchannels: { telegram: {} , discord: {} }\n"
		"browser: {}\naudit: {}\nlog: {}\nlimits2:\n");
	struct err e;
	assert_int_equal(load(f, NULL, NULL, &c, &e), ERR_CONFIG); /* limits2, even without a value */
	assert_non_null(strstr(e.msg, "line 21"));
	put(f->home,
		"model: anthropic/claude-sonnet-4-5\n"
		"models: { fast: a/b, judge: , fallback: [a/b, c/d] }\n"
		"providers:\n"
		"  anthropic: { api: anthropic, api_key_env: MY_KEY }\n"
		"  local:     { api: openai-chat, base_url: \"http://127.0.0.1:11434/v1\", headers: { x-a: b } }\n"
		"  offline:   { script: demo.yaml }\n"
		"tier: micro_vm\n"
		"mode: read_only\n"
		"permissions: { allow: [\"Fetch(docs.example.org)\"], ask: [\"Send(*)\"], deny: [\"Exec(git push *)\"] }\n"
		"limits: { turn_steps: 7, turn_ms: 1e3, turn_cost_usd: \"0.1\", day_cost_usd: 0.0000001 }\n"
		"gateway: { tls: {cert: , key: } }\n"
		"catalog: { models: { test/x-1.5: { input_usd_per_mtok: 3, context: 200000 } } }\n"
		"memory: {}\nscheduler: {}\nmcp: { servers: {} }\nchannels: { telegram: {} , discord: {} }\n"
		"browser: {}\naudit: {}\nlog: {}\n");
	c = must_load(f, NULL, NULL);
	assert_string_equal(config_z(c, "tier"), "microvm");
	assert_int_equal(config_int(c, "limits.turn_steps"), 7);
	assert_int_equal(config_int(c, "limits.turn_ms"), 1000);
	assert_int_equal(config_microusd(c, "limits.turn_cost_usd"), 100000);
	assert_int_equal(config_microusd(c, "limits.day_cost_usd"), 1); /* rounded up */
	assert_string_equal(config_z(c, "providers.anthropic.api_key_env"), "MY_KEY");
	assert_string_equal(config_z(c, "providers.openai.api_key_env"), "OPENAI_API_KEY");
	assert_string_equal(config_z(c, "providers.offline.script"), "demo.yaml");
	assert_int_equal(config_int(c, "providers.local.connect_ms"), 10000);
	assert_int_equal(config_int(c, "catalog.models.\"test/x-1.5\".context"), 200000);
	assert_int_equal(node_int(node_get(config_get(c, "catalog.models"), "test/x-1.5"), "context", 0), 200000);
	assert_origin(c, "providers.local.base_url", LAYER_HOME, f->home, 5);
	assert_origin(c, "permissions.deny.0", LAYER_HOME, f->home, 9);
	config_unref(c);
}

static void
test_layers(void **state)
{
	const struct files *f = *state;
	char *const env[] = { "PATH=/bin", "ITHACA_HOME=/x", "ITHACA__LIMITS__TURN_MS=4000", "ITHACA__limits__depth=1",
		"ITHACA__PERMISSIONS__DENY=[\"Exec(rm *)\", 'Exec(dd *)']", "ITHACA__PROVIDERS__MY_LOCAL__RETRIES=2",
		"ITHACA__PROVIDERS__NEW__API=offline", "ITHACA__PROVIDERS__ANTHROPIC__BASE_URL=http://127.0.0.1:1", NULL };
	const char *const flags[] = { "limits.depth=2", "model=a/b=c", "catalog.models.\"x/y=1.5\".context=300", NULL };
	struct config *c;

	put(f->system, "limits:\n  turn_steps: 1\n  turn_ms: 1\n  agents: 1\npermissions:\n  deny: [\"Exec(a)\"]\n");
	put(f->home, "limits:\n  turn_steps: 2\n  turn_ms: 2\nproviders:\n  my-local: { api: openai-chat }\n");
	put(f->user, "limits:\n  turn_ms: 3\n");
	c = must_load(f, env, flags);
	assert_int_equal(config_int(c, "limits.agents"), 1);
	assert_int_equal(config_int(c, "limits.turn_steps"), 2);
	assert_int_equal(config_int(c, "limits.turn_ms"), 4000);
	assert_int_equal(config_int(c, "limits.depth"), 2);
	assert_string_equal(config_z(c, "model"), "a/b=c");
	assert_int_equal(node_len(config_get(c, "permissions.deny")), 2); /* lists are replaced */
	assert_int_equal(config_int(c, "providers.my-local.retries"), 2); /* MY_LOCAL means my-local */
	assert_string_equal(config_z(c, "providers.new.api"), "offline");
	assert_string_equal(config_z(c, "providers.anthropic.base_url"), "http://127.0.0.1:1");
	assert_int_equal(config_int(c, "catalog.models.\"x/y=1.5\".context"), 300);
	assert_origin(c, "limits.agents", LAYER_SYSTEM, f->system, 4);
	assert_origin(c, "limits.turn_steps", LAYER_HOME, f->home, 2);
	assert_origin(c, "limits.turn_ms", LAYER_ENV, NULL, 0);
	assert_origin(c, "limits.depth", LAYER_FLAG, NULL, 0);
	config_unref(c);
}

struct mistake {
	const char *text; /* of the home file */
	const char *wanted; /* in the message */
};

static void
test_mistakes(void **state)
{
	static const struct mistake mistakes[] = {
		{ "limits:\n  turn_stps: 3\n", "line 2: limits.turn_stps: unknown key (did you mean turn_steps?)" },
		{ "limit: {}\n", "line 1: limit: unknown key (did you mean limits?)" },
		{ "limits:\n  turn_steps: many\n", "line 2: limits.turn_steps: must be a whole number" },
		{ "\n\nlimits: { turn_steps: 0 }\n", "line 3: limits.turn_steps: 0 is outside 1..10000" },
		{ "limits: 5\n", "line 1: limits: must be a map" },
		{ "mode: readonly\n", "did you mean read_only?" },
		{ "mode: [read_only\n", "line 2 column 1" },
		{ "a: b: c\n", "line 1 column 5" },
		{ "- x\n", "line 1" },
		{ "mode: read_only\nmode: read_only\n", "line 2" },
		{ "memory: { path: x }\n", "line 1: memory.path: unknown key" },
		{ "mcp: { servers: { x: {} } }\n", "line 1: mcp.servers.x: unknown key" },
		{ "providers:\n  x: { retries: 2 }\n", "line 2: providers.x: has no api" },
		{ "providers:\n  x:\n", "line 2: providers.x: has no api" },
		{ "providers:\n  x: { api: bard }\n", "line 2: providers.x.api" },
		{ "providers:\n  x/y: { api: offline }\n", "line 2: providers.x/y: a provider's name" },
		{ "providers:\n  'x y': { api: offline }\n", "line 2" },
		{ "providers:\n  openai: { base_url: ftp://x }\n", "line 2: providers.openai.base_url: expected a URL" },
		{ "providers:\n  openai: { base_url: \"http://u:p@x\" }\n", "line 2: providers.openai.base_url" },
		{ "providers:\n  openai: { base_url: \"http://a\\0b\" }\n", "line 2: providers.openai.base_url: a" },
		{ "providers:\n  openai: { script: x }\n", "line 2: providers.openai.script: is only for" },
		{ "model: gpt\n", "line 1: model: expected provider/model" },
		{ "models: { fast: gpt }\n", "line 1: models.fast: expected provider/model" },
		{ "tier: process\ntier_min: cell\n", "line 1: tier: is weaker than tier_min" },
		{ "gateway: { tls: { cert: a } }\n", "gateway.tls: needs both cert and key" },
		{ "permissions: { deny: [3] }\n", "line 1: permissions.deny[0]: must be a string" },
		{ "permissions: { deny: Exec }\n", "line 1: permissions.deny: must be a list" },
		{ "limits: { turn_cost_usd: -1 }\n", "line 1: limits.turn_cost_usd: is outside" },
	};
	const struct files *f = *state;
	struct config *c = NULL;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
		put(f->home, mistakes[i].text);
		assert_int_equal(load(f, NULL, NULL, &c, &e), ERR_CONFIG);
		if (strstr(e.msg, mistakes[i].wanted) == NULL || strstr(e.msg, f->home) == NULL)
			fail_msg("'%s' gives '%s'", mistakes[i].text, e.msg);
	}
	assert_null(c);
	assert_int_equal(err_exit_status(ERR_CONFIG), 2);
}

static void
test_mistakes_elsewhere(void **state)
{
	static const struct {
		char *const env;
		const char *const flag, *wanted;
	} rows[] = {
		{ "ITHACA__LIMITS__TURN_STEP=3", NULL, "ITHACA__LIMITS__TURN_STEP: limits.turn_step: unknown key 'turn_step' (did you mean turn_steps?)" },
		{ "ITHACA__LIMITS__TURN_STEPS=x", NULL, "environment ITHACA__LIMITS__TURN_STEPS: turn_steps: must be a whole number" },
		{ "ITHACA__LIMITS__TURN_STEPS=", NULL, "must be a whole number" },
		{ "ITHACA__=3", NULL, "names no key" },
		{ "ITHACA__LIMITS____X=3", NULL, "unknown key" },
		{ "ITHACA__PERMISSIONS__DENY=", NULL, "has no value" },
		{ NULL, "limits.turn_steps", "expected key=value" },
		{ NULL, "limits.turn_steps=0", "setting limits.turn_steps: turn_steps: 0 is outside" },
		{ NULL, "limit.turn_steps=3", "unknown key 'limit' (did you mean limits?)" },
		{ NULL, "limits.turn_steps.x=3", "unknown key 'x'" },
		{ NULL, "=3", "the key is empty" },
		{ NULL, "memory.x=3", "memory must be empty in this version" },
		{ NULL, "model=x", "model: has 1 bytes, at least 3 are needed" },
		{ NULL, "model=abcd", "config (flag) model: expected provider/model" },
		{ NULL, "providers.\"a\"b.api=offline", "quotes go around a whole part" },
	};
	const struct files *f = *state;
	struct config *c = NULL;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *const env[] = { rows[i].env, NULL };
		const char *const flags[] = { rows[i].flag, NULL };

		assert_int_equal(load(f, env, flags, &c, &e), ERR_CONFIG);
		if (strstr(e.msg, rows[i].wanted) == NULL)
			fail_msg("%s%s gives '%s'", rows[i].env ? rows[i].env : "", rows[i].flag ? rows[i].flag : "", e.msg);
	}
}

static void
test_files(void **state)
{
	const struct files *f = *state;
	const struct config_sources needed = { .system_file = f->system, .home_file = f->home, .home_file_required = true };
	struct config *c = NULL;
	struct err e = { 0 };

	assert_int_equal(config_load(&needed, &c, &e), ERR_CONFIG);
	assert_non_null(strstr(e.msg, f->home));
	put(f->home, "# nothing but a comment\n");
	assert_int_equal(config_load(&needed, &c, &e), 0);
	config_unref(c);
	c = NULL;
	put(f->user, "mode: read_only\nstore: { url: x }\n");
	assert_int_equal(load(f, NULL, NULL, &c, &e), ERR_CONFIG);
	assert_non_null(strstr(e.msg, "line 2: store is not for a user's file"));
	assert_int_equal(unlink(f->user), 0);
	assert_int_equal(mkdir(f->user, 0700), 0); /* not a file */
	assert_int_equal(load(f, NULL, NULL, &c, &e), ERR_CONFIG);
	assert_int_equal(rmdir(f->user), 0);
	assert_null(c);
}

static void
test_two_spellings(void **state)
{
	const struct files *f = *state;
	char *const env[] = { "ITHACA__PROVIDERS__A_B__RETRIES=1", NULL };
	struct config *c;
	struct err e;

	put(f->home, "providers:\n  a-b: { api: offline }\n  a.b: { api: offline }\n");
	assert_int_equal(load(f, env, NULL, &c, &e), ERR_CONFIG);
	assert_non_null(strstr(e.msg, "several entries of providers"));
	put(f->home, "providers:\n  a-b: { api: offline }\n  a_b: { api: offline }\n");
	c = must_load(f, env, NULL);
	assert_int_equal(config_int(c, "providers.a_b.retries"), 1); /* the exact one wins */
	assert_int_equal(config_int(c, "providers.a-b.retries"), 4);
	config_unref(c);
}

static void
test_lookup(void **state)
{
	struct config *c = must_load(*state, NULL, NULL);
	struct err e = { 0 };

	assert_int_equal(config_lookup(c, STR("limits.turn_steps"), &e)->i, 100);
	assert_int_equal(config_lookup(c, STR("limits"), &e)->type, NODE_MAP);
	assert_int_equal(config_lookup(c, STR("models.fast"), &e)->type, NODE_NULL);
	assert_null(config_lookup(c, STR("limits.turn_step"), &e));
	assert_non_null(strstr(e.msg, "did you mean turn_steps?"));
	assert_null(config_lookup(c, STR("providers.anthropc.api"), &e));
	assert_non_null(strstr(e.msg, "did you mean anthropic?"));
	assert_null(config_lookup(c, STR(""), &e));
	assert_null(config_lookup(c, STR("limits."), &e));
	assert_null(config_lookup(c, STR("limits..turn_steps"), &e));
	config_unref(c);
}

/* ---- each and the envelope ---- */

struct seen {
	struct buf b;
};

static void
see(void *arg, const char *dotted, const struct node *value, struct config_origin o)
{
	struct seen *s = arg;
	struct json j;

	json_init(&j, &s->b);
	buf_printf(&s->b, "%s=", dotted);
	json_node(&j, value);
	buf_printf(&s->b, " %d %s %u\n", o.layer, o.file ? o.file : "-", o.line);
}

static void
test_envelope(void **state)
{
	const struct files *f = *state;
	const char *const flags[] = { "limits.depth=1", NULL };
	struct seen before = { 0 }, after = { 0 };
	struct config *c, *copy;
	struct err e = { 0 };
	struct json j;
	struct buf b;

	put(f->home,
		"providers:\n  x: { api: openai-chat, api_key: sk-topsecret, headers: { x-key: topsecret2, x-ref: { secret: two } } }\n"
		"permissions:\n  deny:\n    - Exec(a)\n    - Exec(b)\ncatalog: { models: { a/b.c: { context: 1000 } } }\n"
		"limits: { turn_cost_usd: 1.10 }\n");
	c = must_load(f, NULL, flags);
	assert_string_equal(config_z(c, "providers.x.api_key"), "sk-topsecret");
	buf_init(&b, MIB);
	json_init(&j, &b);
	config_envelope(c, &j);
	assert_true(str_find(buf_str(&b), STR("topsecret")) < 0);
	assert_int_equal(config_from_envelope(buf_str(&b), &copy, &e), 0);
	buf_init(&before.b, MIB);
	buf_init(&after.b, MIB);
	config_each(c, see, &before);
	config_each(copy, see, &after);
	assert_null(strstr(buf_z(&before.b), "topsecret"));
	assert_non_null(strstr(buf_z(&before.b), "providers.x.api_key=\"(secret)\" 2"));
	assert_non_null(strstr(buf_z(&before.b), "providers.x.headers.x-key=\"(secret)\" 2"));
	assert_non_null(strstr(buf_z(&before.b), "providers.x.headers.x-ref={\"secret\":\"two\"} 2"));
	assert_string_equal(buf_z(&before.b), buf_z(&after.b));
	assert_string_equal(config_z(copy, "providers.x.api_key"), "(secret)");
	assert_int_equal(config_microusd(copy, "limits.turn_cost_usd"), 1100000);
	assert_origin(copy, "permissions.deny.1", LAYER_HOME, f->home, 6);
	assert_origin(copy, "limits.depth", LAYER_FLAG, NULL, 0);
	assert_int_equal(config_int(copy, "catalog.models.\"a/b.c\".context"), 1000);
	config_unref(c);
	/* So is the copy of the copy. */
	buf_reset(&b);
	json_init(&j, &b);
	config_envelope(copy, &j);
	assert_int_equal(config_from_envelope(buf_str(&b), &c, &e), 0);
	buf_reset(&before.b);
	config_each(c, see, &before);
	assert_string_equal(buf_z(&before.b), buf_z(&after.b));
	config_unref(c);
	config_unref(copy);
	buf_fini(&b);
	buf_fini(&before.b);
	buf_fini(&after.b);
}

static void
test_bad_envelope(void **state)
{
	static const char *const bad[] = {
		"", "{}", "[]", "{\"v\":2,\"keys\":[]}", "{\"v\":1,\"keys\":[{}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"limits.turn_steps\",\"value\":0,\"origin\":[0,null,0]}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"limits.turn_steps\",\"value\":1,\"origin\":[9,null,0]}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"limits.turn_steps\",\"value\":1}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"limits\",\"value\":{},\"origin\":[0,null,0]}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"x\",\"value\":1,\"origin\":[0,null,0]}]}",
		"{\"v\":1,\"keys\":[{\"key\":\"permissions.deny\",\"value\":[\"Exec\"],\"origin\":[0,null,0]}]}",
	};
	struct config *c = NULL;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = { 0 };

		if (config_from_envelope(str_of(bad[i]), &c, &e) == 0)
			fail_msg("accepted %s", bad[i]);
		assert_true(str_starts(str_of(e.msg), "configuration envelope"));
	}
	assert_null(c);
}

/* ---- narrowing ---- */

static void
refused(void *arg, const char *dotted, uint32_t line, const char *why)
{
	buf_printf(arg, "%s:%u ", dotted, line);
	assert_non_null(strstr(why, dotted[0] == 'p' && strstr(dotted, "deny") ? "too long" : "ithaca trust DIR"));
}

static void
test_narrow(void **state)
{
	const struct files *f = *state;
	struct config *base, *c;
	struct err e = { 0 };
	struct buf told;

	put(f->home, "mode: workspace_write\ntier_min: cell\nlimits: { turn_steps: 50 }\npermissions: { deny: [\"Exec(a)\"] }\n"
		     "cell: { require_limits: true }\n");
	base = must_load(f, NULL, NULL);
	buf_init(&told, MIB);
	assert_int_equal(config_narrow(base, "ws/.ithaca.yaml",
		STR("mode: read_only\ntier_min: container\nlimits: { turn_steps: 10, turn_cost_usd: 0.5 }\n"
		    "permissions:\n  deny: [\"Exec(b)\"]\n  ask: [\"Fetch(x)\"]\ncell: { memory_mb: 100 }\n"),
		refused, &told, &c, &e), 0);
	assert_string_equal(buf_z(&told), "");
	assert_string_equal(config_z(c, "mode"), "read_only");
	assert_string_equal(config_z(c, "tier_min"), "container");
	assert_int_equal(config_int(c, "limits.turn_steps"), 10);
	assert_int_equal(config_microusd(c, "limits.turn_cost_usd"), 500000);
	assert_int_equal(config_int(c, "cell.memory_mb"), 100);
	assert_int_equal(node_len(config_get(c, "permissions.deny")), 2); /* added, not replaced */
	assert_origin(c, "permissions.deny.0", LAYER_HOME, f->home, 4);
	assert_origin(c, "permissions.deny.1", LAYER_WORKSPACE, "ws/.ithaca.yaml", 5);
	assert_origin(c, "limits.turn_steps", LAYER_WORKSPACE, "ws/.ithaca.yaml", 3);
	/* The base is as it was. */
	assert_int_equal(config_int(base, "limits.turn_steps"), 50);
	assert_int_equal(node_len(config_get(base, "permissions.deny")), 1);
	config_unref(c);

	assert_int_equal(config_narrow(base, "w",
		STR("mode: danger_full_access\ntier_min: process\nlimits: { turn_steps: 51, turn_ms: 1800001, turn_cost_usd: 5.1 }\n"
		    "permissions:\n  allow: [Exec]\nmodel: a/b\nproviders: { openai: { base_url: http://evil } }\n"
		    "cell: { require_limits: false, allow_basic: true }\ntier: process\nstore: { url: x }\n"),
		refused, &told, &c, &e), 0);
	assert_string_equal(buf_z(&told), "mode:1 tier_min:2 limits.turn_steps:3 limits.turn_ms:3 limits.turn_cost_usd:3 "
		"permissions.allow:5 model:6 providers:7 cell.require_limits:8 cell.allow_basic:8 tier:9 store.url:10 ");
	assert_string_equal(config_z(c, "mode"), "workspace_write");
	assert_int_equal(config_int(c, "limits.turn_steps"), 50);
	assert_true(config_bool(c, "cell.require_limits"));
	assert_null(config_get(c, "providers.openai.base_url"));
	config_unref(c);

	c = NULL;
	assert_int_equal(config_narrow(base, "w", STR("limits: { turn_steps: 0 }"), refused, &told, &c, &e), ERR_CONFIG);
	assert_non_null(strstr(e.msg, "config w line 1: limits.turn_steps"));
	assert_int_equal(config_narrow(base, "w", STR("a: [\n"), NULL, NULL, &c, &e), ERR_CONFIG);
	assert_int_equal(config_narrow(base, "w", STR("limts: {}"), NULL, NULL, &c, &e), ERR_CONFIG);
	assert_null(c);
	buf_fini(&told);
	config_unref(base);
}

/* Every row that may narrow is tried both ways: the stricter value is taken, the looser one refused. */
static void
count_refusal(void *arg, const char *dotted, uint32_t line, const char *why)
{
	++*(int *)arg;
}

static void
test_narrow_rows(void **state)
{
	static const struct {
		const char *key, *base, *stricter, *looser;
	} rows[] = {
		{ "tier_min", "cell", "container", "process" }, { "mode", "workspace_write", "read_only", "danger_full_access" },
		{ "limits.turn_steps", "10", "9", "11" }, { "limits.turn_ms", "10", "9", "11" },
		{ "limits.turn_tokens", "10", "9", "11" }, { "limits.turn_cost_usd", "1", "0.9", "1.1" },
		{ "limits.call_cost_usd", "1", "0.9", "1.1" }, { "limits.session_cost_usd", "1", "0.9", "1.1" },
		{ "limits.agent_cost_usd", "1", "0.9", "1.1" },
		{ "limits.day_cost_usd", "1", "0.9", "1.1" }, { "limits.agents", "10", "9", "11" },
		{ "limits.depth", "2", "1", "3" }, { "cell.require_limits", "false", "true", NULL },
		{ "cell.allow_basic", "true", "false", NULL }, { "cell.memory_mb", "100", "99", "101" },
		{ "cell.processes", "100", "99", "101" }, { "cell.cpu_percent", "100", "99", "101" },
		{ "cell.file_mb", "100", "99", "101" }, { "cell.tmp_mb", "100", "99", "101" },
		{ "cell.disk_mb", "100", "99", "101" },
		{ "cell.cpu_ms", "2000", "1999", "2001" }, { "cell.open_files", "100", "99", "101" },
		{ "exec.timeout_ms", "100", "99", "101" }, { "exec.job_timeout_ms", "100", "99", "101" },
		{ "exec.timeout_max_ms", "100", "99", "101" },
		{ "exec.output_max_bytes", "5000", "4999", "5001" },
		{ "egress.deny", "[]", "[a.test]", NULL }, { "egress.quota_mb", "10", "9", "11" },
		{ "permissions.ask", "[]", "[Fetch]", NULL }, { "permissions.deny", "[]", "[Fetch]", NULL },
	};
	size_t tried = 0, expected = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++, tried++) {
		char flag[96], text[96], text2[96];
		const char *const flags[] = { flag, NULL };
		const char *dot = strchr(rows[i].key, '.');
		int refusals = 0;
		struct config *base, *c;
		struct err e = { 0 };

		snprintf(flag, sizeof(flag), "%s=%s", rows[i].key, rows[i].base);
		snprintf(text, sizeof(text), dot ? "%.*s: { %s: %s }" : "%.*s%s: %s", dot ? (int)(dot - rows[i].key) : 0,
			rows[i].key, dot ? dot + 1 : rows[i].key, rows[i].stricter);
		base = must_load(*state, NULL, flags);
		assert_int_equal(config_narrow(base, "w", str_of(text), count_refusal, &refusals, &c, &e), 0);
		if (refusals != 0 || config_origin(c, str_of(rows[i].key)).layer != LAYER_WORKSPACE)
			fail_msg("%s is refused", text);
		config_unref(c);
		if (rows[i].looser != NULL) {
			snprintf(text2, sizeof(text2), dot ? "%.*s: { %s: %s }" : "%.*s%s: %s",
				dot ? (int)(dot - rows[i].key) : 0, rows[i].key, dot ? dot + 1 : rows[i].key, rows[i].looser);
			assert_int_equal(config_narrow(base, "w", str_of(text2), count_refusal, &refusals, &c, &e), 0);
			if (refusals != 1)
				fail_msg("%s is not refused", text2);
			config_unref(c);
		}
		config_unref(base);
	}
	for (const struct field *f = config_keys; f->type != FIELD_END; f++) {
		expected += (f->flags & FIELD_NARROWS) != 0;
		for (const struct field *g = f->type == FIELD_OBJECT ? f->sub : NULL; g != NULL && g->type != FIELD_END; g++)
			expected += (g->flags & FIELD_NARROWS) != 0;
	}
	assert_int_equal(tried, expected); /* a new row needs a line above */
}

/* ---- documentation ---- */

static void
check_rows(const struct field *table, const struct buf *doc)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		assert_non_null(f->text);
		assert_true(str_ends(str_of(f->text), "."));
		if (str_find(buf_str(doc), str_of(f->text)) < 0)
			fail_msg("%s is not in the documentation", f->name);
		if (f->sub != NULL)
			check_rows(f->sub, doc);
	}
}

static void
test_doc(void **state)
{
	struct buf doc;

	buf_init(&doc, MIB);
	config_doc(&doc);
	assert_false(doc.overflow);
	check_rows(config_keys, &doc);
	assert_non_null(strstr(buf_z(&doc), "| `limits.turn_steps` | 1..10000 | `100` |"));
	assert_non_null(strstr(buf_z(&doc), "`catalog.models.NAME.context`"));
	buf_fini(&doc);
}

/* The default file is a configuration, as it is and with every line switched on; both mean the defaults. */
static void
test_default_file(void **state)
{
	const struct files *f = *state;
	struct config *plain = must_load(f, NULL, NULL), *c;
	struct seen before = { 0 }, after = { 0 };
	struct buf file, on;
	struct str rest, line;

	buf_init(&file, MIB);
	buf_init(&on, MIB);
	buf_init(&before.b, MIB);
	buf_init(&after.b, MIB);
	config_default_file(&file);
	put(f->home, buf_z(&file));
	c = must_load(f, NULL, NULL);
	config_unref(c);
	rest = buf_str(&file);
	while (str_next(&rest, '\n', &line)) {
		bool is_key = str_starts(line, "#") && !str_starts(line, "##") && !str_starts(line, "# I") &&
			!str_starts(line, "# c");

		buf_add_str(&on, is_key ? str_sub(line, 1, line.n) : line);
		buf_add_char(&on, '\n');
	}
	put(f->home, buf_z(&on));
	c = must_load(f, NULL, NULL);
	assert_int_equal(config_origin(c, STR("limits.turn_steps")).layer, LAYER_HOME);
	for (const struct setting *s = plain->root.first; s != NULL; s = s->next)
		if (!node_equal(s->node, setting_find(&c->root, s->key)->node))
			fail_msg("%s differs from its default", s->key.p);
	config_unref(c);
	config_unref(plain);
	buf_fini(&file);
	buf_fini(&on);
	buf_fini(&before.b);
	buf_fini(&after.b);
}

/* How often a text stands in the writable memory of this process; each byte of it is given with bits
 * turned, so that the search does not find itself. */
static size_t __attribute__((no_sanitize("address")))
count_in_memory(const unsigned char *turned, size_t n)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t found = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		const unsigned char *from, *to;
		char mode[8];

		if (sscanf(line, "%p-%p %7s", (void **)&from, (void **)&to, mode) != 3 || strncmp(mode, "rw-p", 4) != 0 ||
			to - from > (ptrdiff_t)(1024 * MIB)) /* the shadow of a sanitizer */
			continue;
		for (; from + n <= to; from++) {
			size_t i = 0;

			while (i < n && (from[i] ^ 0x55) == turned[i])
				i++;
			found += i == n;
		}
	}
	fclose(maps);
	return found;
}

/* A key that came as a flag: in the text of the layer, in its tree, in the merged one. */
static void
test_nothing_is_left_of_secrets(void **state)
{
	char flag[] = "providers.openai.api_key=sk-0000-of-a-test";
	const char *flags[] = { flag, NULL };
	char *key = strchr(flag, '=') + 1;
	unsigned char turned[32];
	size_t n = strlen(key);

	for (size_t i = 0; i < n; i++) {
		key[i] = (char)(key[i] == '0' ? '7' : key[i]); /* not as it stands in the program */
		turned[i] = (unsigned char)key[i] ^ 0x55;
	}
	struct config *c = must_load(*state, NULL, flags);
	struct config *copy = config_clone(c);
	assert_true(count_in_memory(turned, n) > 2);
	config_unref(copy);
	config_unref(c);
	assert_int_equal(count_in_memory(turned, n), 1); /* the flag itself, which proves the search */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vendor_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whole_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_spellings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_envelope, setup, teardown),
		cmocka_unit_test(test_bad_envelope),
		cmocka_unit_test_setup_teardown(test_narrow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_narrow_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_left_of_secrets, setup, teardown),
		cmocka_unit_test(test_doc),
		cmocka_unit_test_setup_teardown(test_default_file, setup, teardown),
	};

	return cmocka_run_group_tests_name("config/config", tests, NULL, NULL);
}
