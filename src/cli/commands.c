/* SPDX-License-Identifier: MIT
 * The command table: one row per command. Option parsing, --help, the man page, docs/cli.md and the completions are
 * read from these rows. Most rows are a method and the columns of its answer; cmd_call does the rest. */
#include "base/limits.h"
#include "base/utf8.h"
#include "cli/internal.h"

#define JSON_OPTION                                                                               \
	{ .name = "json", .type = FIELD_BOOL, .dflt = "false", .text = "Print JSON." }
#define END { .type = FIELD_END }

static const char *const modes[] = { "read_only", "workspace_write", "danger_full_access", NULL };
static const char *const tiers[] = { "auto", "cell", "container", "microvm", "micro_vm", "process", NULL };
static const char *const efforts[] = { "auto", "off", "low", "medium", "high", NULL };
static const char *const shells[] = { "bash", "zsh", "fish", NULL };
static const char *const documents[] = { "man", "cli", NULL };
static const struct field word = { .type = FIELD_STR, .max = USER_TEXT_MAX };
static const struct field pair = { .type = FIELD_STR, .min = 1, .max = 128 * KIB, .unit = "NAME=VALUE" };
static const struct field file = { .type = FIELD_STR, .min = 1, .max = 4096, .unit = "file" };

const struct field global_options[] = {
	{ .name = "home", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "dir",
		.text = "Where everything is kept; default $ITHACA_HOME, else ~/.ithaca." },
	{ .name = "config", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "file",
		.text = "Configuration file to use instead of the home's config.yaml." },
	{ .name = "user", .type = FIELD_STR, .min = 1, .max = 64, .unit = "name",
		.text = "Act as this user; only \"default\" exists." },
	{ .name = "env", .type = FIELD_LIST, .max = 1000, .item = &pair, .short_opt = 'e',
		.unit = "NAME=VALUE",
		.text = "Environment variable for the runtime that this command starts." },
	{ .name = "env_file", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "file",
		.text = "Such variables from a file, one NAME=VALUE per line; -e wins." },
	{ .name = "verbose", .type = FIELD_BOOL, .short_opt = 'v', .dflt = "false",
		.text = "Show more of what happens." },
	{ .name = "version", .type = FIELD_BOOL, .dflt = "false", .text = "Print the version." },
	{ .name = "help", .type = FIELD_BOOL, .short_opt = 'h', .dflt = "false",
		.text = "Show help on the command." },
	END,
};

/* ---- options ---- */

static const struct field run_options[] = {
	{ .name = "task", .type = FIELD_LIST, .item = &word, .flags = FIELD_POSITIONAL, .max = 10000,
		.text = "What to do, in plain words; \"-\" reads it from standard input." },
	{ .name = "json", .type = FIELD_BOOL, .dflt = "false",
		.text = "Print one JSON object at the end, on failure too." },
	{ .name = "stream_json", .type = FIELD_BOOL, .dflt = "false",
		.text = "Print each event as one line of JSON." },
	{ .name = "session", .type = FIELD_STR, .min = 1, .max = 128, .unit = "id",
		.text = "Go on in this session: id, unique start of it, or name." },
	{ .name = "new", .type = FIELD_BOOL, .dflt = "false",
		.text = "Make a new session; this is what happens without --session." },
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = 128, .unit = "name",
		.text = "Name of the new session." },
	{ .name = "continue", .type = FIELD_BOOL, .dflt = "false",
		.text = "Go on with what a crash or a stop left open, in --session or in the newest session; "
			"with a task, send it there." },
	{ .name = "agent", .type = FIELD_STR, .min = 1, .max = 128, .unit = "name",
		.text = "Agent definition to use." },
	{ .name = "model", .type = FIELD_STR, .min = 1, .max = 128, .unit = "provider/model",
		.text = "Model to use; default: as configured.", .short_opt = 'm' },
	{ .name = "effort", .type = FIELD_ENUM, .choices = efforts,
		.text = "How much the model may think; default: as configured." },
	{ .name = "schema", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "file",
		.text = "File with a JSON Schema: the answer is JSON that matches it, or the command fails." },
	{ .name = "allow_unknown_model", .type = FIELD_BOOL, .dflt = "false",
		.text = "Use a model that no catalog knows: its context is assumed, its price unknown." },
	{ .name = "mode", .type = FIELD_ENUM, .choices = modes,
		.text = "What tools may touch; default: as configured." },
	{ .name = "tier", .type = FIELD_ENUM, .choices = tiers,
		.text = "Where commands run; default: as configured." },
	{ .name = "insecure", .type = FIELD_BOOL, .dflt = "false",
		.text = "Same as --tier process: no cell, and therefore no shell." },
	{ .name = "workspace", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "dir",
		.text = "Directory that the agent sees as /shared, or \"user\"; default: the current one." },
	{ .name = "yes", .type = FIELD_BOOL, .dflt = "false", .short_opt = 'y',
		.text = "Allow what would be asked, inside the mode; what a rule denies stays denied." },
	{ .name = "attach", .type = FIELD_LIST, .max = 32, .item = &file, .unit = "file",
		.text = "Send a file with the message: an image, a PDF, audio or UTF-8 text for the model, anything else for commands." },
	END,
};

#define SESSION_OPERAND                                                                           \
	{ .name = "session", .type = FIELD_STR, .min = 1, .max = 128,                               \
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED,                                         \
		.text = "Id of a session, a unique start of it, or its name." }

static const struct field context_options[] = {
	SESSION_OPERAND,
	{ .name = "text", .type = FIELD_LIST, .item = &word, .max = 10000, .flags = FIELD_POSITIONAL,
		.text = "As if this were sent next; default: the conversation as it stands." },
	{ .name = "model", .type = FIELD_STR, .min = 1, .max = 128, .unit = "provider/model",
		.text = "With this model; default: that of the turn in progress, else as configured.", .short_opt = 'm' },
	JSON_OPTION,
	END,
};
static const struct field session_list_options[] = {
	{ .name = "limit", .type = FIELD_INT, .min = 1, .max = 1000, .dflt = "50", .text = "At most this many." },
	JSON_OPTION,
	END,
};
static const struct field session_options[] = { SESSION_OPERAND, JSON_OPTION, END };
static const struct field session_events_options[] = {
	SESSION_OPERAND,
	{ .name = "after", .type = FIELD_INT, .dflt = "0", .text = "Only events with a larger number." },
	{ .name = "follow", .type = FIELD_BOOL, .dflt = "false", .short_opt = 'f',
		.text = "Go on printing what comes." },
	{ .name = "json", .type = FIELD_BOOL, .dflt = "false", .text = "Print each event as one line of JSON." },
	END,
};
static const struct field session_rename_options[] = {
	SESSION_OPERAND,
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = 128,
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED, .text = "The new name." },
	JSON_OPTION,
	END,
};
static const struct field blob_get_options[] = {
	{ .name = "blob", .type = FIELD_STR, .min = 64, .max = 64, .flags = FIELD_POSITIONAL | FIELD_REQUIRED,
		.text = "SHA-256 of its bytes, as run and session show name it." },
	{ .name = "output", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "file", .short_opt = 'o',
		.text = "File to write, or to replace; default: standard output." },
	END,
};
static const struct field json_options[] = { JSON_OPTION, END };
static const struct field budget_options[] = {
	{ .name = "session", .type = FIELD_STR, .min = 1, .max = 128, .unit = "id",
		.text = "Also this session with its turns and calls: id, unique start of it, or name." },
	JSON_OPTION,
	END,
};

#define APPROVAL_OPERAND                                                                          \
	{ .name = "id", .type = FIELD_STR, .min = 1, .max = 63,                                     \
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED, .text = "Id of an approval." }
static const struct field approve_options[] = {
	APPROVAL_OPERAND,
	{ .name = "always", .type = FIELD_BOOL, .dflt = "false",
		.text = "Also allow calls like it from now on: the same beginning of the command." },
	JSON_OPTION,
	END,
};
static const struct field deny_options[] = { APPROVAL_OPERAND, JSON_OPTION, END };

#define KEY_OPERAND                                                                               \
	{ .name = "key", .type = FIELD_STR, .min = 1, .max = 256,                                   \
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED,                                         \
		.text = "Dotted key, as in limits.turn_steps." }
static const struct field config_get_options[] = { KEY_OPERAND, JSON_OPTION, END };
static const struct field config_set_options[] = {
	KEY_OPERAND,
	{ .name = "value", .type = FIELD_STR, .max = 64 * KIB,
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED,
		.text = "The value as it would be written in the file." },
	JSON_OPTION,
	END,
};
static const struct field config_validate_options[] = {
	{ .name = "file", .type = FIELD_STR, .min = 1, .max = 4096, .flags = FIELD_POSITIONAL,
		.unit = "file", .text = "File to check; default: the one in use." },
	JSON_OPTION,
	END,
};
#define SECRET_OPERAND                                                                            \
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = SECRET_NAME_MAX,                      \
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED,                                         \
		.text = "Name of a secret: letters, digits, . _ -" }
static const struct field secret_set_options[] = {
	SECRET_OPERAND,
	{ .name = "host", .type = FIELD_LIST, .item = &word, .max = SECRET_HOSTS_MAX, .unit = "host",
		.text = "Where it may go, as [http://|https://]HOST[:PORT]; default: the servers of the providers that "
			"refer to it." },
	{ .name = "header", .type = FIELD_LIST, .item = &word, .max = SECRET_USES_MAX - 1, .unit = "name",
		.text = "It may only stand in this header; default: in any." },
	{ .name = "url", .type = FIELD_BOOL, .dflt = "false",
		.text = "It may stand in a provider's base_url, and in no header unless --header names it." },
	JSON_OPTION,
	END,
};
static const struct field secret_options[] = { SECRET_OPERAND, JSON_OPTION, END };
static const struct field why_options[] = {
	{ .name = "tool", .type = FIELD_STR, .min = 1, .max = 128,
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED, .text = "Name of a tool, as in exec; or path or host, to ask about one alone." },
	{ .name = "text", .type = FIELD_LIST, .item = &word, .max = 1000, .flags = FIELD_POSITIONAL,
		.text = "What it would act on: a command, a path, a host." },
	{ .name = "mode", .type = FIELD_ENUM, .choices = modes, .text = "Default: as configured." },
	JSON_OPTION,
	END,
};
static const char *const role_names[] = { "all", "runtime", "broker", "shelld", NULL };
static const char *const log_levels[] = { "debug", "info", "warn", "error", NULL };
static const char *const log_streams[] = { "stdout", "stderr", "log", "console", "qemu", "virtiofsd", NULL };
#define START_OPTIONS                                                                             \
	{ .name = "tier", .type = FIELD_ENUM, .choices = tiers,                                   \
		.text = "Where commands run; default: as configured." },                          \
	{ .name = "insecure", .type = FIELD_BOOL, .dflt = "false",                                \
		.text = "Tier process: no cells, no commands, file tools held by Landlock alone." }
static const struct field start_options[] = {
	{ .name = "foreground", .type = FIELD_BOOL, .dflt = "false", .short_opt = 'f',
		.text = "Stay in this terminal and log to it as well; Ctrl-C stops." },
	START_OPTIONS,
	JSON_OPTION,
	END,
};
static const struct field restart_options[] = {
	{ .name = "role", .type = FIELD_ENUM, .choices = role_names, .flags = FIELD_POSITIONAL, .dflt = "all",
		.text = "One role alone, without ending the others; all: everything, with the configuration of now." },
	START_OPTIONS,
	JSON_OPTION,
	END,
};
static const struct field logs_options[] = {
	{ .name = "role", .type = FIELD_STR, .min = 1, .max = 100, .unit = "role,role",
		.text = "Of these alone: runner, runtime, broker, shelld." },
	{ .name = "stream", .type = FIELD_ENUM, .choices = log_streams,
		.text = "log: what roles logged; stdout, stderr: what they printed otherwise; console, qemu, virtiofsd: of a "
			"microvm. Default: all." },
	{ .name = "tail", .type = FIELD_INT, .min = 0, .max = LOG_TAIL_MAX, .dflt = "200", .unit = "lines", .short_opt = 'n',
		.text = "The last so many lines; 0: all." },
	{ .name = "since", .type = FIELD_STR, .min = 2, .max = 24, .unit = "10m|time",
		.text = "Not older than a span (s, m, h, d) or a time in UTC, as in 2026-11-21T02:04." },
	{ .name = "level", .type = FIELD_ENUM, .choices = log_levels, .dflt = "debug", .text = "The least important line." },
	{ .name = "follow", .type = FIELD_BOOL, .dflt = "false", .short_opt = 'f', .text = "Go on with what comes." },
	JSON_OPTION,
	END,
};
#define SOCKET_OPTION                                                                              \
	{ .name = "socket", .type = FIELD_STR, .min = 1, .max = 500, .unit = "path",               \
		.text = "Socket of the container engine; default: as tier container finds it." }
static const struct field image_build_options[] = {
	{ .name = "root", .type = FIELD_STR, .min = 1, .max = 4096, .unit = "dir",
		.text = "Root directory of a system, as debootstrap makes one; default: places for the host's own programs." },
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = 128, .unit = "name",
		.text = "Name of the image; default localhost/ithaca-host, with --root localhost/ithaca-root." },
	SOCKET_OPTION, JSON_OPTION, END,
};
static const struct field image_list_options[] = { SOCKET_OPTION, JSON_OPTION, END };
static const struct field image_remove_options[] = {
	{ .name = "name", .type = FIELD_STR, .flags = FIELD_POSITIONAL | FIELD_REQUIRED, .min = 1, .max = 128, .text = "Name of the image." },
	SOCKET_OPTION, END,
};

static const char *const tiers_or_all[] = { "all", "cell", "container", "microvm", "micro_vm", "process", NULL };
static const struct field doctor_options[] = {
	{ .name = "tier", .type = FIELD_ENUM, .choices = tiers_or_all,
		.text = "Try this tier, or all of them, beside what runs, and say what it enforces here." },
	{ .name = "in_tier", .type = FIELD_ENUM, .choices = tiers,
		.text = "Start what runs for this check in that tier; an error when something runs in another one." },
	JSON_OPTION,
	END,
};
static const struct field catalog_show_options[] = {
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = 256, .flags = FIELD_POSITIONAL, .unit = "provider/model",
		.text = "A model, its id alone, or a provider; default: all." },
	JSON_OPTION,
	END,
};
static const struct field catalog_fetch_options[] = {
	{ .name = "url", .type = FIELD_STR, .min = 1, .max = 2048, .unit = "URL",
		.text = "Where to get it; default: catalog.url." },
	{ .name = "dry_run", .type = FIELD_BOOL, .dflt = "false", .text = "Say what would change and keep nothing." },
	JSON_OPTION,
	END,
};
static const struct field completion_options[] = {
	{ .name = "shell", .type = FIELD_ENUM, .choices = shells,
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED, .text = "bash, zsh or fish." },
	END,
};
static const struct field docs_options[] = {
	{ .name = "document", .type = FIELD_ENUM, .choices = documents,
		.flags = FIELD_POSITIONAL | FIELD_REQUIRED, .text = "Which one." },
	END,
};
static const struct field help_options[] = {
	{ .name = "command", .type = FIELD_LIST, .item = &word, .max = 4, .flags = FIELD_POSITIONAL,
		.text = "The command to explain." },
	END,
};

/* ---- columns ---- */

static const struct column session_columns[] = {
	{ "session", "SESSION" },
	{ "name", "NAME" },
	{ "state", "STATE" },
	{ "mode", "MODE" },
	{ "updated_at_ms", "UPDATED (UTC)", COLUMN_TIME },
	{ "workspace", "WORKSPACE" },
	{ 0 },
};
static const struct column approval_columns[] = {
	{ "id", "APPROVAL" },
	{ "session", "SESSION" },
	{ "tool", "TOOL" },
	{ "expires_at_ms", "EXPIRES (UTC)", COLUMN_TIME },
	{ "summary", "WHAT" },
	{ 0 },
};
static const struct column secret_columns[] = {
	{ "name", "SECRET" },
	{ "state", "STATE" },
	{ "hosts", "GOES TO", COLUMN_VALUE },
	{ "uses", "AS", COLUMN_VALUE },
	{ "set_at_ms", "SET (UTC)", COLUMN_TIME },
	{ "why", "WHY CLOSED" },
	{ 0 },
};
static const struct column config_columns[] = {
	{ "key", "KEY" },
	{ "value", "VALUE", COLUMN_VALUE },
	{ "layer", "FROM" },
	{ "file", "FILE" },
	{ "line", "LINE", COLUMN_NUMBER },
	{ 0 },
};

static void
print_session(const struct node *r, struct buf *out)
{
	static const struct column columns[] = {
		{ "session", "session" },
		{ "name", "name" },
		{ "agent", "agent" },
		{ "state", "state" },
		{ "mode", "mode" },
		{ "workspace", "workspace" },
		{ "created_at_ms", "created (UTC)", COLUMN_TIME },
		{ "updated_at_ms", "updated (UTC)", COLUMN_TIME },
		{ "last_seq", "events", COLUMN_NUMBER },
		{ 0 },
	};
	static const struct column turns[] = {
		{ "turn", "TURN" },
		{ "state", "STATE" },
		{ "status", "STATUS" },
		{ "created_at_ms", "CREATED (UTC)", COLUMN_TIME },
		{ "cost_microusd", "COST", COLUMN_MONEY },
		{ 0 },
	};

	static const struct column files[] = {
		{ "name", "ATTACHED" },
		{ "mime", "TYPE" },
		{ "size", "BYTES", COLUMN_NUMBER },
		{ "turn", "IN TURN" },
		{ "blob", "SHA-256" },
		{ 0 },
	};

	static const struct column left[] = {
		{ "name", "FILE" },
		{ "type", "TYPE" },
		{ "bytes", "BYTES", COLUMN_NUMBER },
		{ "turn", "OF TURN" },
		{ "blob", "SHA-256" },
		{ 0 },
	};

	print_row(r, columns, out);
	if (node_len(node_get(r, "turns")) > 0) {
		buf_add_char(out, '\n');
		print_table(node_get(r, "turns"), turns, out);
	}
	if (node_len(node_get(r, "attachments")) > 0) {
		buf_add_char(out, '\n');
		print_table(node_get(r, "attachments"), files, out);
	}
	if (node_len(node_get(r, "files")) > 0) {
		buf_add_char(out, '\n');
		print_table(node_get(r, "files"), left, out);
	}
}

/* The bare value, so that a script can use it. */
static void
print_value(const struct node *r, struct buf *out)
{
	static const struct column value[] = { { "value", "", COLUMN_VALUE }, { 0 } };
	const struct node *v = node_get(r, "value");

	if (node_is(v, NODE_MAP) || node_is(v, NODE_LIST)) {
		yaml_write(out, v);
		return;
	}
	print_row(r, value, out);
	if (out->n > 2 && out->p[0] == ' ')
		buf_consume(out, 2); /* the gap after an empty title */
}

static void
print_schema(const struct node *r, struct buf *out)
{
	json_pretty(out, node_get(r, "schema"));
	buf_add_char(out, '\n');
}

static void
print_default(const struct node *r, struct buf *out)
{
	buf_add_str(out, node_str(r, "text", STR("")));
}

static void
print_why(const struct node *r, struct buf *out)
{
	static const struct column columns[] = {
		{ "decision", "decision" },
		{ "rule", "rule" },
		{ "origin", "written in" },
		{ "reason", "because" },
		{ "withdrawn", "withdrawn" },
		{ 0 },
	};
	struct str text = str_trim(node_str(r, "text", STR(""))), line;
	const struct node *walls = node_get(r, "walls");

	print_row(r, columns, out);
	if (text.n > 0)
		buf_add_z(out, "\nconsidered:\n");
	while (text.n > 0 && str_next(&text, '\n', &line)) {
		buf_add_z(out, "  ");
		term_clean(out, line, true);
		buf_add_char(out, '\n');
	}
	if (node_len(walls) > 0)
		buf_add_z(out, "\nwalls of the cell, whatever the rules say:\n");
	for (size_t i = 0; i < node_len(walls); i++) {
		buf_add_z(out, "  ");
		term_clean(out, node_str(node_at(walls, i), "name", STR("")), true);
		buf_add_z(out, ": ");
		term_clean(out, node_str(node_at(walls, i), "text", STR("")), true);
		buf_add_char(out, '\n');
	}
}

static void
print_tools(const struct node *r, struct buf *out)
{
	static const struct column offered[] = {
		{ "name", "TOOL" }, { "class", "CLASS" }, { "text", "WHAT" }, { "reason", "WITHDRAWN" }, { 0 } };

	print_table(node_get(r, "tools"), offered, out);
}

static void
print_set(const struct node *r, struct buf *out)
{
	buf_add_z(out, "written to ");
	term_clean(out, node_str(r, "file", STR("the configuration file")), true);
	buf_add_z(out, node_bool(r, "restart", false) ? " (takes effect after a restart)\n" : "\n");
}

static void
print_valid(const struct node *r, struct buf *out)
{
	term_clean(out, node_str(r, "file", STR("the configuration")), true);
	buf_add_z(out, " is valid\n");
}

static void
print_budget(const struct node *r, struct buf *out)
{
	static const struct column budgets[] = {
		{ "scope", "SCOPE" },
		{ "name", "NAME" },
		{ "status", "STATUS" },
		{ "spent_microusd", "SPENT", COLUMN_MONEY },
		{ "estimated_microusd", "ESTIMATED", COLUMN_MONEY },
		{ "reserved_microusd", "RESERVED", COLUMN_MONEY },
		{ "cap_microusd", "CAP", COLUMN_MONEY },
		{ "input_tokens", "INPUT", COLUMN_NUMBER },
		{ "output_tokens", "OUTPUT", COLUMN_NUMBER },
		{ "cached_tokens", "CACHED", COLUMN_NUMBER },
		{ 0 },
	};
	static const struct column calls[] = {
		{ "turn", "TURN" },
		{ "step", "STEP", COLUMN_NUMBER },
		{ "model", "MODEL" },
		{ "cost_microusd", "COST", COLUMN_MONEY },
		{ "estimated_microusd", "ESTIMATED", COLUMN_MONEY },
		{ "input_tokens", "INPUT", COLUMN_NUMBER },
		{ "output_tokens", "OUTPUT", COLUMN_NUMBER },
		{ "cached_tokens", "CACHED", COLUMN_NUMBER },
		{ 0 },
	};

	print_table(node_get(r, "budgets"), budgets, out);
	if (node_len(node_get(r, "calls")) == 0)
		return;
	buf_add_char(out, '\n');
	print_table(node_get(r, "calls"), calls, out);
}

#define CALL(m) .run = cmd_call, .method = (m)

const struct command commands[] = {
	{ .words = "run", .text = "Do a task and show what happens.", .options = run_options, .run = cmd_run,
		.more = "Standard input, when something is piped into it, is added to the task as context.\n\n"
			"Without a terminal the answer goes to standard output and progress to standard error. "
			"Ctrl-C stops the turn and its commands; a second one leaves at once, and the turn can be "
			"gone on with later.\n\n"
			"Exit status: 0 answered, 1 failed, 2 usage or configuration, 3 approval needed or denied, "
			"4 a limit was reached, 5 cancelled." },
	{ .words = "context", .text = "Show what the next request to the model holds, part by part.",
		.options = context_options, CALL(API_SESSION_CONTEXT), .print = print_context,
		.more = "Tokens are estimates; the last line has what the server counted in the last call. Parts marked "
			"\"sent\" were the beginning of that call too, so a server that caches beginnings need not read "
			"them again. Nothing is sent." },
	{ .words = "session list", .text = "List sessions, newest first.", .options = session_list_options,
		CALL(API_SESSION_LIST), .list = "sessions", .columns = session_columns },
	{ .words = "session show", .text = "Show one session and its turns.", .options = session_options,
		CALL(API_SESSION_GET), .print = print_session },
	{ .words = "session events", .text = "Print the events of a session.",
		.options = session_events_options, .run = cmd_events, .method = API_SESSION_EVENTS },
	{ .words = "session rename", .text = "Give a session a name.", .options = session_rename_options,
		CALL(API_SESSION_RENAME), .done = "renamed" },
	{ .words = "session delete", .text = "Delete a session with its events and its cell.",
		.options = session_options, CALL(API_SESSION_DELETE), .done = "deleted" },
	{ .words = "blob get", .text = "Get a file that a turn left, or that came with a message.", .options = blob_get_options,
		.run = cmd_blob_get, .method = API_BLOB_GET },
	{ .words = "approval list", .text = "List what waits for approval.", .options = json_options,
		CALL(API_APPROVAL_LIST), .list = "approvals", .columns = approval_columns },
	{ .words = "approval allow", .text = "Allow a call that waits.", .options = approve_options,
		.run = cmd_approve, .method = API_APPROVAL_RESOLVE },
	{ .words = "approval deny", .text = "Deny a call that waits.", .options = deny_options,
		.run = cmd_deny, .method = API_APPROVAL_RESOLVE },
	{ .words = "config list", .text = "Effective configuration, and where each value comes from.",
		.options = json_options, CALL(API_CONFIG_LIST), .list = "keys", .columns = config_columns, .flags = CMD_FRESH },
	{ .words = "config get", .text = "Print one effective value.", .options = config_get_options,
		CALL(API_CONFIG_GET), .print = print_value, .flags = CMD_FRESH },
	{ .words = "config set", .text = "Set a key in the home's configuration file.",
		.options = config_set_options, CALL(API_CONFIG_SET), .print = print_set, .flags = CMD_FRESH },
	{ .words = "config validate", .text = "Check a configuration file without using it.",
		.options = config_validate_options, CALL(API_CONFIG_VALIDATE), .print = print_valid, .flags = CMD_FRESH },
	{ .words = "config schema", .text = "Print the JSON Schema of the configuration.",
		.options = json_options, CALL(API_CONFIG_SCHEMA), .print = print_schema },
	{ .words = "config default", .text = "Print a commented configuration file with every default.",
		.options = json_options, CALL(API_CONFIG_DEFAULT), .print = print_default },
	{ .words = "secret set", .text = "Keep a key or another secret, sealed.", .options = secret_set_options,
		.run = cmd_secret_set, .method = API_SECRET_SET,
		.more = "The value is asked for without echo, or read from standard input; it cannot be an argument. It is "
			"sealed before it leaves this command, takes effect at once, and is sent to the named hosts only." },
	{ .words = "secret list", .text = "List secrets: names and bindings, never values.", .options = json_options,
		CALL(API_SECRET_LIST), .list = "secrets", .columns = secret_columns },
	{ .words = "secret remove", .text = "Forget a secret.", .options = secret_options, CALL(API_SECRET_REMOVE),
		.done = "removed" },
	{ .words = "catalog show", .text = "Show what is known about models: sizes, abilities, prices, and who says so.",
		.options = catalog_show_options, CALL(API_CATALOG_SHOW), .print = print_models, .flags = CMD_FRESH,
		.more = "Configuration (catalog.models) wins over a fetched catalog, which wins over the snapshot in the program." },
	{ .words = "catalog fetch", .text = "Get a newer model catalog and say what changed.",
		.options = catalog_fetch_options, .run = cmd_catalog_fetch, .method = API_CATALOG_FETCH, .print = print_fetched, .flags = CMD_FRESH },
	{ .words = "catalog verify", .text = "Check the catalogs, and that each configured model is known.",
		.options = json_options, .run = cmd_catalog_verify, .method = API_CATALOG_VERIFY, .flags = CMD_FRESH,
		.more = "Exit status: 0 when everything is good, else 1." },
	{ .words = "catalog names", .text = "Print the names of all models, one a line.", .options = catalog_show_options,
		CALL(API_CATALOG_SHOW), .print = print_model_names, .flags = CMD_HIDDEN },
	{ .words = "image build", .text = "Make an image for tier container, without a registry.", .options = image_build_options,
		.run = cmd_image_build, .flags = CMD_LOCAL,
		.more = "Without --root the image is empty and commands find the host's own programs, read-only; the runner makes it by "
			"itself when it is needed. With --root they find those of that directory: set container.image to its name." },
	{ .words = "image list", .text = "List images that were made here.", .options = image_list_options,
		.run = cmd_image_list, .flags = CMD_LOCAL },
	{ .words = "image remove", .text = "Remove such an image.", .options = image_remove_options, .run = cmd_image_remove,
		.flags = CMD_LOCAL },
	{ .words = "doctor", .text = "Check what works on this machine, and say how to repair what does not.",
		.options = doctor_options, .run = cmd_doctor, .method = API_DOCTOR_RUN, .flags = CMD_FRESH,
		.more = "Exit status: 0 when no check failed, else 1." },
	{ .words = "why", .text = "Explain what would be decided on a call, by which rule, and which walls of the cell hold anyway.",
		.options = why_options, CALL(API_POLICY_WHY), .print = print_why, .flags = CMD_FRESH },
	{ .words = "tool list", .text = "List tools on offer, and those withdrawn with the reason.",
		.options = json_options, CALL(API_TOOL_LIST), .print = print_tools, .flags = CMD_FRESH },
	{ .words = "budget show", .text = "Show what was spent and reserved, beside the caps.",
		.options = budget_options, CALL(API_BUDGET_GET), .print = print_budget },
	{ .words = "start", .text = "Start the daemon of this home and wait until every role answers.", .options = start_options,
		.run = cmd_start,
		.more = "A runner that a command started for itself becomes the daemon. Exit status: 2 when one runs already." },
	{ .words = "stop", .text = "Stop what runs for this home: open turns stay open and go on after the next start.",
		.options = json_options, .run = cmd_stop,
		.more = "Exit status: 0 also when nothing was running." },
	{ .words = "restart", .text = "Start the daemon anew, or one of its roles.", .options = restart_options, .run = cmd_restart },
	{ .words = "status", .text = "Roles, their state, and every degraded part with its reason and fix.", .options = json_options,
		.run = cmd_status,
		.more = "Works also when the runtime is dead. Exit status: 0 when a runner runs, else 1. Starts nothing." },
	{ .words = "logs", .text = "Show what the roles logged and printed, merged by time.", .options = logs_options,
		.run = cmd_logs, .more = "Reads $ITHACA_HOME/logs, so it works whoever is dead." },
	{ .words = "version", .text = "Print the version.", .options = json_options, .run = cmd_version,
		.flags = CMD_LOCAL },
	{ .words = "completion", .text = "Print a completion script for a shell.",
		.options = completion_options, .run = cmd_completion, .flags = CMD_LOCAL,
		.more = "bash: source <(ithaca completion bash)\n"
			"zsh: ithaca completion zsh >~/.zfunc/_ithaca, with ~/.zfunc in fpath\n"
			"fish: ithaca completion fish | source" },
	{ .words = "help", .text = "Explain a command.", .options = help_options, .run = cmd_help,
		.flags = CMD_LOCAL },
	{ .words = "docs", .text = "Print the man page or docs/cli.md.", .options = docs_options,
		.run = cmd_docs, .flags = CMD_HIDDEN | CMD_LOCAL },
	{ 0 },
};
