/* SPDX-License-Identifier: MIT
 * Field tables: what is checked and how it is said, defaults, money, text to value, everything
 * derived from a table, and command lines. */
#include "tree.h"

#include <stdlib.h>

#include "base/args.h"

static const char *const modes[] = { "read_only", "workspace_write", NULL };
static const struct field a_name = { .type = FIELD_STR, .min = 1, .max = 8 };
static const struct field limit_fields[] = {
	{ .name = "turn_steps",
		.type = FIELD_INT,
		.min = 1,
		.max = 1000,
		.dflt = "100",
		.unit = "steps",
		.text = "Steps of one turn." },
	{ .name = "turn_cost_usd",
		.type = FIELD_MONEY,
		.max = 1000000000,
		.dflt = "5",
		.text = "Money of one turn." },
	{ .type = FIELD_END },
};
static const struct field provider_fields[] = {
	{ .name = "api",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.text = "Which API it speaks." },
	{ .name = "retries", .type = FIELD_INT, .dflt = "4" },
	{ .name = "key",
		.type = FIELD_INT,
		.flags = FIELD_SECRET,
		.min = 1,
		.max = 5,
		.dflt = "3" },
	{ .type = FIELD_END },
};
static const struct field a_provider = { .type = FIELD_OBJECT, .sub = provider_fields };
static const struct field fields[] = {
	{ .name = "help", .type = FIELD_BOOL, .text = "Show this.", .short_opt = 'h' },
	{ .name = "yes", .type = FIELD_BOOL, .text = "Do not ask.", .short_opt = 'y' },
	{ .name = "model",
		.type = FIELD_STR,
		.max = 16,
		.text = "Model to use.",
		.short_opt = 'm' },
	{ .name = "mode",
		.type = FIELD_ENUM,
		.choices = modes,
		.dflt = "workspace_write",
		.text = "What may be touched." },
	{ .name = "turn_ms",
		.type = FIELD_INT,
		.min = 1,
		.max = 60000,
		.unit = "ms",
		.text = "Longest turn." },
	{ .name = "limits", .type = FIELD_OBJECT, .sub = limit_fields },
	{ .name = "providers",
		.type = FIELD_MAP,
		.sub = provider_fields,
		.text = "Model servers." },
	{ .name = "backups", .type = FIELD_LIST, .item = &a_provider, .text = "More of them." },
	{ .name = "names",
		.type = FIELD_LIST,
		.max = 3,
		.item = &a_name,
		.text = "Names | labels." },
	{ .name = "env",
		.type = FIELD_MAP,
		.item = &a_name,
		.text = "Variables.",
		.short_opt = 'e' },
	{ .name = "old", .type = FIELD_ANY, .flags = FIELD_HIDDEN },
	{ .name = "task", .type = FIELD_STR, .flags = FIELD_POSITIONAL, .text = "The task." },
	{ .type = FIELD_END },
};

static void
accepted(void **state)
{
	static const char *const rows[] = {
		"",
		"{}",
		"mode: read_only",
		"mode: ~",
		"limits: {turn_steps: 1}",
		"limits: {turn_steps: 1000.0}",
		"limits: {turn_cost_usd: 0.1}",
		"limits: {turn_cost_usd: '0.1'}",
		"providers: {a: {api: x}}",
		"providers: {}",
		"names: [a, b]",
		"env: {A: b}",
		"old: [{x: 1}]",
		"limits: ",
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		if (field_check(fields, yaml(rows[i]), "c.yaml", ERR_TO_USER, &e) != 0)
			fail_msg("%s: %s", rows[i], e.msg);
	}
}

static void
refused(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "modle: x", "c.yaml line 1: modle: unknown key (did you mean model?)" },
		{ "limits: {zzz: 1}", "c.yaml line 1: limits.zzz: unknown key (known: turn_steps, "
				      "turn_cost_usd)" },
		{ "x: 1", "unknown key (known: help, yes, model" },
		{ "mode: read-only", "\"read-only\" is not one of read_only, workspace_write (did "
				     "you mean read_only?)" },
		{ "mode: 5", "c.yaml line 1: mode: must be one of read_only, workspace_write" },
		{ "\n\nlimits:\n  turn_steps: 1001",
			"c.yaml line 4: limits.turn_steps: 1001 is outside 1..1000 steps" },
		{ "limits: {turn_steps: '5'}", "must be a whole number, not a string" },
		{ "limits: {turn_steps: 5.5}", "must be a whole number, not a number" },
		{ "limits: [5]", "limits: must be a map, not a list" },
		{ "limits: {turn_cost_usd: 1001}", "is outside 0..1000 US dollars" },
		{ "limits: {turn_cost_usd: much}", "must be an amount of US dollars" },
		{ "limits: {turn_cost_usd: -1}", "outside" },
		{ "help: yes", "help: must be true or false, not a string" },
		{ "model: 5",
			"model: must be a string, not a whole number (put it in double quotes)" },
		{ "model: 12345678901234567", "double quotes" },
		{ "model: a2345678901234567", "model: has 17 bytes, at most 16 are allowed" },
		{ "providers: {a: {}}", "providers.a.api: is required (Which API it speaks.)" },
		{ "providers: {a: }", "providers.a.api: is required" },
		{ "providers: {a: {api: ~}}", "providers.a.api: is required" },
		{ "providers: {a: {api: x, key: 77}}", "providers.a.key: is outside 1..5" },
		{ "providers: [a]", "providers: must be a map" },
		{ "names: a", "names: must be a list, not a string (write [a, b])" },
		{ "names: [a, b, c, d]", "names: has 4 items, at most 3" },
		{ "names: [a, '']", "names[1]: must not be empty" },
		{ "backups:\n- api: x\n- {}\n", "c.yaml line 3: backups[1].api: is required" },
		{ "env: {A: 5}", "env.A: must be a string" },
		{ "[a]", "c.yaml line 1: must be a map of keys, not a list" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		if (field_check(fields, yaml(rows[i].text), "c.yaml", ERR_TO_USER, &e) !=
			ERR_INVALID)
			fail_msg("accepted: %s", rows[i].text);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text, e.msg,
				rows[i].message);
	}
}

static void
what_a_model_is_told(void **state)
{
	struct err e = { 0 };
	assert_int_equal(
		field_check(fields, yaml("mode: x"), "exec", ERR_TO_MODEL, &e), ERR_INVALID);
	assert_int_equal(e.to, ERR_TO_MODEL);
	assert_string_equal(e.msg, "exec: mode: \"x\" is not one of read_only, workspace_write");
	assert_int_equal(
		field_check_value(&limit_fields[0], yaml("0"), NULL, "a.b", ERR_TO_USER, &e),
		ERR_INVALID);
	assert_string_equal(e.msg, "a.b: 0 is outside 1..1000 steps");
	assert_int_equal(field_check_value(&provider_fields[0], NULL, NULL, "api", ERR_TO_USER, &e),
		ERR_INVALID);
	static const struct field hidden = {
		.type = FIELD_ENUM, .flags = FIELD_SECRET, .choices = modes
	};
	assert_int_equal(field_check_value(&hidden, yaml("rad_only"), NULL, "k", ERR_TO_USER, &e),
		ERR_INVALID);
	assert_string_equal(e.msg, "k: must be one of read_only, workspace_write");
	assert_int_equal(field_check(fields, NULL, "x", ERR_TO_USER, &e), 0);
}

static void
defaults(void **state)
{
	assert_json(
		field_defaults(limit_fields, NULL, a), "{\"turn_steps\":100,\"turn_cost_usd\":5}");
	assert_json(
		field_defaults(fields,
			yaml("{model: x, limits: {turn_steps: 7}, providers: {p: {api: y}, q: }, "
			     "backups: [{api: z}], mode: ~, extra: [1]}"),
			a),
		"{\"model\":\"x\",\"limits\":{\"turn_steps\":7,\"turn_cost_usd\":5},"
		"\"providers\":{\"p\":{\"api\":\"y\",\"retries\":4,\"key\":3},\"q\":{\"retries\":4,"
		"\"key\":3}},"
		"\"backups\":[{\"api\":\"z\",\"retries\":4,\"key\":3}],\"extra\":[1],\"mode\":"
		"\"workspace_write\"}");
}

static void
money(void **state)
{
	static const struct {
		const char *text;
		int64_t micro;
	} rows[] = {
		{ "0", 0 },
		{ "5", 5000000 },
		{ "0.1", 100000 },
		{ "2.50", 2500000 },
		{ "0.000001", 1 },
		{ "0.0000001", 1 },
		{ "0.00000100", 1 },
		{ "0.0000010000000000000000000001", 2 },
		{ "1e-5", 10 },
		{ "1.5e3", 1500000000 },
		{ "2E+1", 20000000 },
		{ "1e-300", 1 },
		{ "-0.5", -500000 },
		{ "-0.0000001", 0 },
		{ "9223372036854.775807", INT64_MAX },
		{ "0e18", 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t micro = -7;
		const struct node text = { .type = NODE_STR, .s = str_of(rows[i].text) };
		if (field_money(&text, &micro) != 0 || micro != rows[i].micro)
			fail_msg("%s is %lld", rows[i].text, (long long)micro);
		assert_int_equal(field_money(yaml(rows[i].text), &micro), 0);
		assert_true(micro == rows[i].micro);
	}
	static const char *const bad[] = { "", "-", ".", "1.", ".5", "1.2.3", "5 USD", "$5", "1,5",
		"9223372036854.775808", "1e19", "1e", "e5", "1e-401", "99999999999999999999", "+5",
		"0x10", "1e+-5" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t micro = 7;
		const struct node text = { .type = NODE_STR, .s = str_of(bad[i]) };
		if (field_money(&text, &micro) != -1 || micro != 7)
			fail_msg("accepted: %s as %lld", bad[i], (long long)micro);
	}
	assert_int_equal(field_money(NULL, &(int64_t){ 0 }), -1);
}

static const struct node *
from_text(const char *name, const char *text, const char *message)
{
	const struct node *n = NULL;
	struct err e = { 0 };
	int rc = field_parse(field_find(fields, str_of(name)), str_of(text), a, &n, &e);
	assert_int_equal(rc != 0, message != NULL);
	if (message && !strstr(e.msg, message))
		fail_msg("\"%s\" does not say \"%s\"", e.msg, message);
	return n;
}

static void
values_from_text(void **state)
{
	assert_json(from_text("turn_ms", "500", NULL), "500");
	assert_json(from_text("yes", "true", NULL), "true");
	assert_json(from_text("model", "true", NULL), "\"true\"");
	assert_json(from_text("names", "[a, b]", NULL), "[\"a\",\"b\"]");
	assert_json(from_text("limits", "{turn_steps: 3}", NULL), "{\"turn_steps\":3}");
	(void)from_text("turn_ms", "5s", "turn_ms: must be a whole number");
	(void)from_text("turn_ms", "0", "turn_ms: 0 is outside 1..60000 ms");
	(void)from_text("yes", "yes", "yes: must be true or false");
	(void)from_text("mode", "rad_only", "did you mean read_only");
	(void)from_text("model", "\xff", "UTF-8");
	(void)from_text("names", "a", "write [a, b]");
	(void)from_text("names", "[a", "names line 1");
}

static void
schema(void **state)
{
	struct buf b;
	struct json j;
	const struct node *n = NULL;
	buf_init(&b, MIB);
	json_init(&j, &b);
	field_schema(fields, &j);
	assert_int_equal(json_parse(a, buf_str(&b), &n, NULL), 0);
	assert_true(node_is(node_get(n, "additionalProperties"), NODE_BOOL));
	assert_json(node_find(n, "properties.turn_ms"),
		"{\"type\":\"integer\",\"minimum\":1,\"maximum\":60000,\"description\":\"Longest "
		"turn. Unit: ms.\"}");
	assert_json(node_find(n, "properties.mode.enum"), "[\"read_only\",\"workspace_write\"]");
	assert_json(node_find(n, "properties.mode.default"), "\"workspace_write\"");
	assert_json(node_find(n, "properties.names"),
		"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":"
		"8},\"maxItems\":3,"
		"\"description\":\"Names | labels.\"}");
	assert_json(
		node_find(n, "properties.providers.additionalProperties.required"), "[\"api\"]");
	/* The default of a secret is one. */
	assert_null(
		node_find(n, "properties.providers.additionalProperties.properties.key.default"));
	buf_fini(&b);
}

static void
help(void **state)
{
	struct buf b;
	buf_init(&b, MIB);
	field_help(fields, &b);
	assert_non_null(strstr(buf_z(&b), "  TASK                        The task.\n"));
	assert_non_null(strstr(buf_z(&b), "\n  -m, --model TEXT            Model to use.\n"));
	assert_non_null(
		strstr(buf_z(&b), "\n      --turn-ms N             Longest turn. (1..60000 ms)\n"));
	assert_non_null(strstr(
		buf_z(&b), "\n  -e, --env NAME=VALUE        Variables. (may be repeated)\n"));
	assert_null(strstr(buf_z(&b), "old"));
	struct str rest = buf_str(&b), line;
	while (str_next(&rest, '\n', &line))
		assert_true(line.n <= 100);
	buf_fini(&b);
}

#define WORDS(...) ((char *const[]){ __VA_ARGS__, NULL })

static void
assert_args(char *const *words, const char *want)
{
	const struct node *n = NULL;
	struct err e = { 0 };
	int argc = 0;
	while (words[argc])
		argc++;
	if (args_parse(fields, argc, words, a, &n, &e) != 0)
		fail_msg("%s", e.msg);
	assert_json(n, want);
}

static void
command_lines(void **state)
{
	assert_args(WORDS(NULL), "{}");
	assert_args(WORDS("--model", "x", "do it"), "{\"model\":\"x\",\"task\":\"do it\"}");
	assert_args(WORDS("do it", "--model=x=y"), "{\"task\":\"do it\",\"model\":\"x=y\"}");
	assert_args(WORDS("-mx"), "{\"model\":\"x\"}");
	assert_args(WORDS("-ym", "x", "-h"), "{\"yes\":true,\"model\":\"x\",\"help\":true}");
	assert_args(WORDS("--no-yes"), "{\"yes\":false}");
	assert_args(WORDS("--yes=false"), "{\"yes\":false}");
	assert_args(WORDS("--turn-ms", "5", "--turn_ms=6"), "{\"turn_ms\":6}");
	assert_args(WORDS("--names", "a", "--names=b"), "{\"names\":[\"a\",\"b\"]}");
	assert_args(
		WORDS("-e", "A=1=2", "-eB=y", "--env=A=x"), "{\"env\":{\"A\":\"x\",\"B\":\"y\"}}");
	assert_args(WORDS("--limits", "{turn_steps: 5}"), "{\"limits\":{\"turn_steps\":5}}");
	assert_args(WORDS("-"), "{\"task\":\"-\"}");
	assert_args(WORDS("--", "--model"), "{\"task\":\"--model\"}");
	assert_args(WORDS("--model", "--"), "{\"model\":\"--\"}");
	assert_args(WORDS(""), "{\"task\":\"\"}");
}

static void
refused_command_lines(void **state)
{
	static const struct {
		char *const words[3];
		const char *message;
	} rows[] = {
		{ { "--modle", "x" }, "unknown option --modle (did you mean --model?)" },
		{ { "--turn-sm", "5" }, "did you mean --turn-ms?" },
		{ { "--qqq" }, "unknown option --qqq (--help lists them)" },
		{ { "-q" }, "unknown option -q" },
		{ { "-\xc3\xa9" }, "unknown option -\xc3\xa9" },
		{ { "--model" }, "--model needs a value" },
		{ { "-m" }, "--model needs a value" },
		{ { "--turn-ms", "x" }, "--turn-ms: must be a whole number" },
		{ { "--turn-ms=99999999" }, "--turn-ms: 99999999 is outside 1..60000 ms" },
		{ { "--yes=maybe" }, "--yes: must be true or false" },
		{ { "--no-model" }, "unknown option --no-model" },
		{ { "--env", "x" }, "--env needs NAME=VALUE, not x" },
		{ { "a", "b" }, "unexpected operand \"b\"" },
		{ { "\xff" }, "word 1 of the command line is not UTF-8" },
		{ { "--task", "x" }, "unknown option --task" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct node *n = NULL;
		struct err e = { 0 };
		int argc = 1 + (rows[i].words[1] != NULL);
		assert_int_equal(args_parse(fields, argc, rows[i].words, a, &n, &e), ERR_USAGE);
		assert_int_equal(e.code, ERR_USAGE);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("\"%s\" does not say \"%s\"", e.msg, rows[i].message);
		assert_null(n);
	}
}

static void
operands(void **state)
{
	static const struct field copy[] = {
		{ .name = "help", .type = FIELD_BOOL },
		{ .name = "-", .type = FIELD_BOOL, .text = "Read standard input." },
		{ .name = "to",
			.type = FIELD_STR,
			.flags = FIELD_POSITIONAL | FIELD_REQUIRED,
			.text = "Where to." },
		{ .name = "from",
			.type = FIELD_LIST,
			.flags = FIELD_POSITIONAL,
			.item = &a_name,
			.max = 2 },
		{ .type = FIELD_END },
	};
	const struct node *n = NULL;
	struct err e = { 0 };
	assert_int_equal(args_parse(copy, 4, WORDS("x", "-", "a", "b"), a, &n, &e), 0);
	assert_json(n, "{\"to\":\"x\",\"-\":true,\"from\":[\"a\",\"b\"]}");
	assert_int_equal(args_parse(copy, 4, WORDS("x", "a", "b", "c"), a, &n, &e), ERR_USAGE);
	assert_string_equal(e.msg, "from: has 3 items, at most 2 are allowed");
	assert_int_equal(args_parse(copy, 0, WORDS(NULL), a, &n, &e), ERR_USAGE);
	assert_string_equal(e.msg, "to is missing (Where to.)");
	assert_int_equal(args_parse(copy, 1, WORDS("--help"), a, &n, &e), 0);
	assert_int_equal(args_parse(copy, 0, WORDS(NULL), a, &n, NULL), ERR_USAGE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(what_a_model_is_told),
		cmocka_unit_test(defaults),
		cmocka_unit_test(money),
		cmocka_unit_test(values_from_text),
		cmocka_unit_test(schema),
		cmocka_unit_test(help),
		cmocka_unit_test(command_lines),
		cmocka_unit_test(refused_command_lines),
		cmocka_unit_test(operands),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
