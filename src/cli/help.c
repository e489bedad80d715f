/* SPDX-License-Identifier: MIT
 * Looking commands up, --help, the man page and docs/cli.md: all read the command table and its field tables, so they
 * cannot say anything else than the parser does. */
#include <stdio.h>
#include "base/limits.h"
#include "base/utf8.h"
#include "cli/internal.h"
#include "ithaca-version.h"

#define WORDS_MAX 128

/* How many words of `words` start argv; 0 when they do not. */
static size_t
match(const char *words, char *const *argv, size_t argc)
{
	struct str rest = str_of(words), word;
	size_t n = 0;

	while (rest.n > 0 && str_next(&rest, ' ', &word)) {
		if (n >= argc || !str_is(word, argv[n]))
			return 0;
		n++;
	}
	return n;
}

static struct str
first_word(const char *words)
{
	return (struct str){ words, strcspn(words, " ") };
}

/* "session": a first word that needs a second one. */
static bool
is_group(struct str word)
{
	for (const struct command *c = commands; c->words; c++)
		if (str_eq(first_word(c->words), word) && strchr(c->words, ' '))
			return true;
	return false;
}

static int
unknown_in_group(struct str group, const char *given, struct err *e)
{
	struct buf list;

	buf_init(&list, 1024);
	for (const struct command *c = commands; c->words; c++)
		if (str_eq(first_word(c->words), group))
			buf_printf(&list, "%s%s", list.n > 0 ? ", " : "", c->words + group.n + 1);
	if (given)
		err_set(e, ERR_USAGE, ERR_TO_USER, "%.*s %.40s: there is no such command (one of: %s)",
			STR_FMT(group), given, buf_z(&list));
	else
		err_set(e, ERR_USAGE, ERR_TO_USER, "%.*s needs one of: %s", STR_FMT(group), buf_z(&list));
	buf_fini(&list);
	return e->code;
}

const struct command *
command_find(char *const *argv, size_t argc, size_t *used, struct err *e)
{
	const char *names[WORDS_MAX];
	const char *nearest;
	size_t n = 0;

	for (const struct command *c = commands; c->words; c++) {
		*used = match(c->words, argv, argc);
		if (*used > 0)
			return c;
	}
	if (argc > 0 && is_group(str_of(argv[0]))) {
		unknown_in_group(str_of(argv[0]), argc > 1 && argv[1][0] != '-' ? argv[1] : NULL, e);
		return NULL;
	}
	/* Group names stand for their commands: a near miss of "sesion list" is one of "session". */
	for (const struct command *c = commands; c->words && n < WORDS_MAX; c++)
		names[n++] = c->words;
	nearest = NULL;
	if (argc > 0) {
		char joined[160];

		snprintf(joined, sizeof(joined), "%.70s %.70s", argv[0], argc > 1 ? argv[1] : "");
		nearest = str_nearest(str_trim(str_of(joined)), names, n);
		if (!nearest)
			nearest = str_nearest(str_of(argv[0]), names, n);
	}
	if (nearest)
		err_set(e, ERR_USAGE, ERR_TO_USER, "%.60s: there is no such command (did you mean \"ithaca %s\"?)",
			argc > 0 ? argv[0] : "", nearest);
	else
		err_set(e, ERR_USAGE, ERR_TO_USER, "%.60s: there is no such command (ithaca --help lists them)",
			argc > 0 ? argv[0] : "");
	return NULL;
}

const struct field *
command_fields(struct arena *a, const struct command *cmd)
{
	size_t own = field_count(cmd->options), global = field_count(global_options);
	struct field *all = arena_alloc(a, (own + global + 1) * sizeof(*all));

	memcpy(all, cmd->options, own * sizeof(*all));
	/* With the row that ends the table. */
	memcpy(all + own, global_options, (global + 1) * sizeof(*all));
	return all;
}

/* ---- help ---- */

static void
add_upper(struct buf *b, const char *name)
{
	for (; *name; name++)
		buf_add_char(b, *name >= 'a' && *name <= 'z' ? (char)(*name - 32) : *name == '_' ? '-' : *name);
}

static void
add_usage(struct buf *b, const struct command *cmd)
{
	buf_printf(b, "ithaca %s [options]", cmd->words);
	for (const struct field *f = cmd->options; f->type != FIELD_END; f++) {
		bool is_required = f->flags & FIELD_REQUIRED;

		if (!(f->flags & FIELD_POSITIONAL))
			continue;
		buf_add_z(b, is_required ? " " : " [");
		add_upper(b, f->name);
		if (f->type == FIELD_LIST)
			buf_add_z(b, "...");
		if (!is_required)
			buf_add_char(b, ']');
	}
}

void
help_all(struct buf *b)
{
	buf_add_z(b, "usage: ithaca COMMAND [options]\n\nCommands:\n");
	for (const struct command *c = commands; c->words; c++)
		if (!(c->flags & CMD_HIDDEN))
			buf_printf(b, "  %-18s %s\n", c->words, c->text);
	buf_add_z(b, "\nOptions of every command:\n");
	field_help(global_options, b);
	buf_add_z(b, "\nithaca help COMMAND, or ithaca COMMAND --help, tells more.\n");
}

#define HELP_COLUMNS 100

/* Paragraphs of plain words, each line at most HELP_COLUMNS wide. */
static void
add_paragraphs(struct buf *b, struct str text)
{
	struct str line, word;

	while (text.n > 0 && str_next(&text, '\n', &line)) {
		size_t width = 0;

		while (line.n > 0 && str_next(&line, ' ', &word)) {
			bool fits = width == 0 || width + 1 + utf8_width(word) <= HELP_COLUMNS;

			if (width > 0)
				buf_add_char(b, fits ? ' ' : '\n');
			width = fits && width > 0 ? width + 1 : 0;
			width += utf8_width(word);
			buf_add_str(b, word);
		}
		buf_add_char(b, '\n');
	}
}

void
help_command(struct arena *a, const struct command *cmd, struct buf *b)
{
	buf_add_z(b, "usage: ");
	add_usage(b, cmd);
	buf_printf(b, "\n\n%s\n", cmd->text);
	if (cmd->options->type != FIELD_END) {
		buf_add_char(b, '\n');
		field_help(cmd->options, b);
	}
	if (cmd->more) {
		buf_add_char(b, '\n');
		add_paragraphs(b, str_of(cmd->more));
	}
	buf_add_z(b, "\nOptions of every command:\n");
	field_help(global_options, b);
}

int
help_print(struct cli *c, const struct command *cmd, struct err *e)
{
	struct buf b;

	buf_init(&b, 1 * MIB);
	if (cmd)
		help_command(c->a, cmd, &b);
	else
		help_all(&b);
	return out_take(&b, e);
}

int
cmd_help(struct cli *c, struct err *e)
{
	const struct node *words = node_get(c->options, "command");
	const struct command *cmd = NULL;
	char *argv[4];
	size_t n = 0, used;

	for (size_t i = 0; i < node_len(words) && n < ARRAY_LEN(argv); i++)
		argv[n++] = arena_strdup(c->a, node_at(words, i)->s);
	if (n > 0 && !(cmd = command_find(argv, n, &used, e)))
		return e->code;
	return help_print(c, cmd, e);
}

/* ---- the man page ---- */

/* Text as roff: nothing in it is a request, a hyphen stays a hyphen. */
static void
roff_text(struct buf *b, struct str s)
{
	bool at_start = true;

	for (size_t i = 0; i < s.n; i++) {
		char x = s.p[i];

		if (at_start && (x == '.' || x == '\''))
			buf_add_z(b, "\\&");
		if (x == '\\')
			buf_add_z(b, "\\e");
		else if (x == '-')
			buf_add_z(b, "\\-");
		else
			buf_add_char(b, x);
		at_start = x == '\n';
	}
}

static void
roff_fields(struct buf *b, const struct field *table)
{
	struct buf text;

	if (table->type == FIELD_END)
		return;
	buf_init(&text, 1 * MIB);
	field_help(table, &text);
	buf_add_z(b, ".sp\n.nf\n");
	roff_text(b, buf_str(&text));
	buf_add_z(b, ".fi\n");
	buf_fini(&text);
}

static void
roff_paragraphs(struct buf *b, const char *more)
{
	for (struct str rest = str_of(more), line; rest.n > 0 && str_next(&rest, '\n', &line);) {
		if (line.n == 0)
			continue;
		buf_add_z(b, ".PP\n");
		roff_text(b, line);
		buf_add_char(b, '\n');
	}
}

void
docs_man(struct arena *a, struct buf *b)
{
	struct buf usage;

	buf_add_z(b, ".\\\" Written by `ithaca docs man` from the command table: do not edit.\n");
	buf_add_z(b, ".TH ITHACA 1 \"\" \"ithaca " ITHACA_VERSION "\" \"User commands\"\n.SH NAME\n"
		     "ithaca \\- run language\\-model agents that do real work, in cells\n.SH SYNOPSIS\n"
		     ".B ithaca\n.I COMMAND\n[options]\n.SH COMMANDS\n");
	buf_init(&usage, 4 * KIB);
	for (const struct command *c = commands; c->words; c++) {
		if (c->flags & CMD_HIDDEN)
			continue;
		buf_reset(&usage);
		add_usage(&usage, c);
		buf_add_z(b, ".SS ");
		roff_text(b, buf_str(&usage));
		buf_add_char(b, '\n');
		roff_text(b, str_of(c->text));
		buf_add_char(b, '\n');
		roff_fields(b, c->options);
		roff_paragraphs(b, c->more ? c->more : "");
	}
	buf_fini(&usage);
	buf_add_z(b, ".SH OPTIONS OF EVERY COMMAND\n");
	roff_fields(b, global_options);
	buf_add_z(b, ".SH EXIT STATUS\n0 done or answered, 1 failed, 2 usage or configuration, 3 approval needed "
		     "or denied, 4 a limit was reached, 5 cancelled.\n"
		     ".SH FILES\n.TP\n.I ~/.ithaca/config.yaml\nThe configuration; see\n.BR \"ithaca config default\" .\n"
		     ".TP\n.I ~/.ithaca/logs/runner.log\nWhat a runner says that a command started.\n"
		     ".SH ENVIRONMENT\n.TP\n.B ITHACA_HOME\nWhere everything is kept.\n"
		     ".TP\n.B ITHACA__SECTION__KEY\nAny key of the configuration.\n"
		     ".TP\n.B NO_COLOR\nWhen set, no colours.\n");
}

/* ---- docs/cli.md ---- */

void
docs_markdown(struct arena *a, struct buf *b)
{
	buf_add_z(b, "<!-- Written by `ithaca docs cli` from the command table: do not edit. -->\n# Command line\n\n");
	buf_add_z(b, "| command | what it does |\n|---|---|\n");
	for (const struct command *c = commands; c->words; c++)
		if (!(c->flags & CMD_HIDDEN))
			buf_printf(b, "| `ithaca %s` | %s |\n", c->words, c->text);
	buf_add_z(b, "\nExit status: 0 done or answered, 1 failed, 2 usage or configuration, 3 approval needed or "
		     "denied, 4 a limit was reached, 5 cancelled.\nErrors are one line on standard error: what went "
		     "wrong, and in parentheses how to fix it. With `--json` standard output has them too, as "
		     "`{\"error\":{\"code\":...,\"message\":...}}` (`run` within its object).\n\n## Options of every command\n\n```\n");
	field_help(global_options, b);
	buf_add_z(b, "```\n");
	for (const struct command *c = commands; c->words; c++) {
		if (c->flags & CMD_HIDDEN)
			continue;
		buf_printf(b, "\n## ithaca %s\n\n%s\n\n```\n", c->words, c->text);
		add_usage(b, c);
		buf_add_z(b, "\n");
		if (c->options->type != FIELD_END) {
			buf_add_char(b, '\n');
			field_help(c->options, b);
		}
		buf_add_z(b, "```\n");
		if (c->more)
			buf_printf(b, "\n%s\n", c->more);
	}
}

int
cmd_docs(struct cli *c, struct err *e)
{
	struct buf b;

	buf_init(&b, 4 * MIB);
	if (strcmp(node_z(c->options, "document", ""), "man") == 0)
		docs_man(c->a, &b);
	else
		docs_markdown(c->a, &b);
	return out_take(&b, e);
}
