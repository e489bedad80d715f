/* SPDX-License-Identifier: MIT
 * Commands that are one call: options become parameters by name, the answer is printed as JSON or in columns. Also the
 * few whose answer decides the exit status. */
#include <stdlib.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "ithaca-version.h"
#include "cli/internal.h"

static void
join_words(struct buf *b, const struct node *list)
{
	for (size_t i = 0; i < node_len(list); i++) {
		if (i > 0)
			buf_add_char(b, ' ');
		buf_add_str(b, node_at(list, i)->s);
	}
}

/* What is in a file goes along where the method takes it: a daemon in a container cannot look. One that cannot be read is left
 * to the daemon, whose error says why. */
static void
add_file_text(struct json *j, const char *path)
{
	AUTO_FREE char *text = NULL;
	struct err ignored;
	size_t n = 0;

	if (file_read(path, CONFIG_TEXT_MAX, &text, &n, &ignored) == 0 && utf8_valid((struct str){ text, n }))
		json_kv_str(j, "text", (struct str){ text, n });
}

/* An option and a parameter of the same name are the same thing; words become one text, paths become absolute. */
static void
add_param(struct cli *c, struct json *j, const struct field *option, const struct field *param,
	const struct node *value)
{
	struct buf text;
	char cwd[4096];

	buf_init(&text, USER_TEXT_MAX);
	if (option->type == FIELD_LIST && param->type == FIELD_STR) {
		join_words(&text, value);
		json_kv_str(j, param->name, buf_str(&text));
	} else if (option->unit && strcmp(option->unit, "file") == 0 && getcwd(cwd, sizeof(cwd))) {
		AUTO_FREE char *named = str_dup(value->s);
		const char *path = path_clean(c->a, path_join(c->a, cwd, named));

		json_kv_z(j, param->name, path);
		if (strcmp(param->name, "file") == 0 && field_find(api_methods[c->command->method].params, STR("text")) != NULL)
			add_file_text(j, path);
	} else {
		json_kv_node(j, param->name, value);
	}
	buf_fini(&text);
}

static void
command_params(struct cli *c, struct buf *b)
{
	const struct command *cmd = c->command;
	struct json j;

	json_init(&j, b);
	json_obj(&j);
	for (const struct field *f = cmd->options; f->type != FIELD_END; f++) {
		const struct field *param = field_find(api_methods[cmd->method].params, str_of(f->name));
		const struct node *value = node_get(c->options, f->name);

		if (param && value && !node_is(value, NODE_NULL) && !(f->type == FIELD_LIST && node_len(value) == 0))
			add_param(c, &j, f, param, value);
	}
	json_obj_end(&j);
}

static enum connect
how_to_connect(const struct cli *c)
{
	return c->command->flags & CMD_FRESH ? CONNECT_FRESH : CONNECT_START;
}

static int
call_command(struct cli *c, enum connect how, const struct node **result, struct err *e)
{
	struct buf params;
	int rc;

	buf_init(&params, WIRE_TAIL_MAX);
	command_params(c, &params);
	rc = call_once(c, c->command->method, buf_str(&params), how, result, e);
	buf_fini(&params);
	return rc;
}

static int
print_result(struct cli *c, const struct node *result, struct err *e)
{
	const struct command *cmd = c->command;
	struct buf out;

	if (c->json)
		return out_node(result, true, e);
	buf_init(&out, JSON_TEXT_MAX);
	if (cmd->print)
		cmd->print(result, &out);
	else if (cmd->columns && cmd->list)
		print_table(node_get(result, cmd->list), cmd->columns, &out);
	else if (cmd->columns)
		print_row(result, cmd->columns, &out);
	else if (cmd->done)
		buf_printf(&out, "%s\n", cmd->done);
	return out_take(&out, e);
}

int
cmd_call(struct cli *c, struct err *e)
{
	const struct node *result;

	if (call_command(c, how_to_connect(c), &result, e) != 0)
		return e->code;
	return print_result(c, result, e);
}

/* ---- approvals ---- */

static int
resolve(struct cli *c, const char *decision, const char *done, struct err *e)
{
	const struct node *result;
	struct buf params, out;
	struct json j;
	int rc;

	buf_init(&params, 4 * KIB);
	json_init(&j, &params);
	json_obj(&j);
	json_kv_node(&j, "id", node_get(c->options, "id"));
	json_kv_z(&j, "decision", decision);
	json_obj_end(&j);
	rc = call_once(c, API_APPROVAL_RESOLVE, buf_str(&params), CONNECT_START, &result, e);
	buf_fini(&params);
	if (rc != 0)
		return rc;
	if (c->json)
		return out_node(result, true, e);
	buf_init(&out, 4 * KIB);
	buf_printf(&out, "%s\n", done);
	return out_take(&out, e);
}

int
cmd_approve(struct cli *c, struct err *e)
{
	bool always = node_bool(c->options, "always", false);

	return resolve(c, always ? "allow_always" : "allow_once", always ? "allowed, always" : "allowed once", e);
}

int
cmd_deny(struct cli *c, struct err *e)
{
	return resolve(c, "deny", "denied", e);
}

/* ---- doctor ---- */

static void
print_checks(const struct node *checks, struct buf *out)
{
	static const struct column columns[] = { { "n", "N", COLUMN_NUMBER }, { "ok", "OK" },
		{ "name", "CHECK" }, { "text", "WHAT WAS FOUND" }, { 0 } };
	bool has_fix = false;

	print_table(checks, columns, out);
	for (size_t i = 0; i < node_len(checks); i++) {
		const struct node *check = node_at(checks, i);
		struct str fix = node_str(check, "fix", STR(""));

		if (fix.n == 0 || str_is(node_str(check, "ok", STR("")), "pass"))
			continue;
		buf_printf(out, "%sfix %d: ", has_fix ? "" : "\n", (int)node_int(check, "n", 0));
		term_clean(out, fix, false);
		buf_add_char(out, '\n');
		has_fix = true;
	}
}

int
cmd_doctor(struct cli *c, struct err *e)
{
	const struct node *result, *checks;
	struct buf out;
	const char *tier = node_z(c->options, "tier", NULL);
	int rc, exit = 0;

	if (tier != NULL)
		return cmd_doctor_tiers(c, strcmp(tier, "micro_vm") == 0 ? "microvm" : tier, e);
	if (call_command(c, how_to_connect(c), &result, e) != 0)
		return e->code;
	checks = node_get(result, "checks");
	for (size_t i = 0; i < node_len(checks); i++)
		if (str_is(node_str(node_at(checks, i), "ok", STR("")), "fail"))
			exit = 1;
	if (c->json) {
		rc = out_node(result, true, e);
	} else {
		buf_init(&out, JSON_TEXT_MAX);
		print_checks(checks, &out);
		rc = out_take(&out, e);
	}
	return rc != 0 ? rc : exit;
}

int
cmd_version(struct cli *c, struct err *e)
{
	return out_text(c->json ? STR("{\"version\":\"" ITHACA_VERSION "\"}\n") : STR("ithaca " ITHACA_VERSION "\n"), e);
}
