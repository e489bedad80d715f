/* SPDX-License-Identifier: MIT
 * Configuration text: the first line is KEY=VALUE, the rest a YAML file. Narrowing never widens, `config set` returns
 * only what reads back as asked, and an envelope keeps every value. */
#include <stdlib.h>

#include "base/limits.h"
#include "config/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_narrow(struct config *base, struct str text)
{
	struct config *c, *copy;
	struct err e = { 0 };
	struct json j;
	struct buf b;

	if (config_narrow(base, "fuzz", text, NULL, NULL, &c, &e) != 0)
		return;
	if (config_int(c, "limits.turn_steps") > config_int(base, "limits.turn_steps") ||
		config_microusd(c, "limits.turn_cost_usd") > config_microusd(base, "limits.turn_cost_usd") ||
		config_bool(c, "cell.allow_basic") ||
		!node_equal(config_get(c, "providers"), config_get(base, "providers")) ||
		!node_equal(config_get(c, "permissions.allow"), config_get(base, "permissions.allow")))
		fatal("a workspace widened the configuration");
	buf_init(&b, 16 * MIB);
	json_init(&j, &b);
	config_envelope(c, &j);
	if (config_from_envelope(buf_str(&b), &copy, &e) != 0)
		fatal("envelope: %s", e.msg);
	if (!node_equal(config_get(c, "limits"), config_get(copy, "limits")) ||
		!node_equal(config_get(c, "permissions"), config_get(copy, "permissions")))
		fatal("the envelope lost a value");
	config_unref(copy);
	config_unref(c);
	buf_fini(&b);
}

static void
check_set(struct str text, struct str key, struct str value)
{
	struct err e = { 0 };
	struct buf once, twice;

	buf_init(&once, 4 * MIB);
	buf_init(&twice, 4 * MIB);
	if (config_set_text(text, key, value, &once, &e) == 0) {
		if (config_set_text(buf_str(&once), key, value, &twice, &e) != 0)
			fatal("set twice: %s", e.msg);
		if (!str_eq(buf_str(&once), buf_str(&twice)))
			fatal("setting a key once more changed the text");
	}
	buf_fini(&once);
	buf_fini(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config_sources src = { .system_file = "/nonexistent/config.yaml" };
	struct str text = { (const char *)data, size }, line, key;
	struct config *base;
	struct err e = { 0 };

	(void)str_next(&text, '\n', &line);
	(void)str_next(&line, '=', &key);
	if (config_load(&src, &base, &e) != 0)
		fatal("defaults: %s", e.msg);
	check_narrow(base, text);
	check_set(text, key, line);
	(void)config_lookup(base, key, &e);
	(void)config_origin(base, key);
	config_unref(base);
	return 0;
}
