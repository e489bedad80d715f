/* SPDX-License-Identifier: MIT
 * Completion scripts for three shells, written from the command table: commands, options, the choices of an option. */
#include "base/limits.h"
#include "cli/internal.h"

static void
add_option(struct buf *b, const struct field *f)
{
	buf_add_z(b, "--");
	for (const char *p = f->name; *p; p++)
		buf_add_char(b, *p == '_' ? '-' : *p);
}

static bool
is_option(const struct field *f)
{
	return !(f->flags & (FIELD_POSITIONAL | FIELD_HIDDEN));
}

static const struct field *
value_row(const struct field *f)
{
	return f->type == FIELD_LIST && f->item ? f->item : f;
}

static bool
takes_path(const struct field *f)
{
	return f->unit && (strcmp(f->unit, "file") == 0 || strcmp(f->unit, "dir") == 0);
}

/* Names of models come from the catalog, when they are wanted. */
static bool
takes_model(const struct field *f)
{
	return f->unit && strcmp(f->unit, "provider/model") == 0;
}

static bool
has_choices(const struct field *f)
{
	return value_row(f)->choices || takes_model(f);
}

#define MODEL_NAMES "$(ithaca catalog names 2>/dev/null)"

/* Choices of the option or operand, separated by spaces. */
static void
add_choices(struct buf *b, const struct field *f)
{
	const char *const *choices = value_row(f)->choices;

	if (takes_model(f))
		buf_add_z(b, MODEL_NAMES);
	for (size_t i = 0; choices && choices[i]; i++)
		buf_printf(b, "%s%s", i > 0 ? " " : "", choices[i]);
}

static void
add_options(struct buf *b, const struct field *table)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		if (!is_option(f))
			continue;
		buf_add_char(b, ' ');
		add_option(b, f);
	}
}

static size_t
first_size(const struct command *c)
{
	return strcspn(c->words, " ");
}

/* The first row of each first word: `run`, `session`, ... */
static bool
is_first_of_group(const struct command *c)
{
	for (const struct command *x = commands; x < c; x++)
		if (first_size(x) == first_size(c) && strncmp(x->words, c->words, first_size(c)) == 0)
			return false;
	return !(c->flags & CMD_HIDDEN);
}

static bool
is_in_group(const struct command *c, const struct command *group)
{
	size_t n = first_size(group);

	return first_size(c) == n && strncmp(c->words, group->words, n) == 0 && c->words[n] == ' ';
}

static void
add_subcommands(struct buf *b, const struct command *group)
{
	for (const struct command *c = commands; c->words; c++)
		if (is_in_group(c, group))
			buf_printf(b, " %s", c->words + first_size(c) + 1);
}

/* Text inside single quotes of a shell. */
static void
add_quoted(struct buf *b, const char *text, const char *escape)
{
	for (; *text; text++) {
		if (*text == '\'')
			buf_add_z(b, "'\\''");
		else if (strchr(escape, *text))
			buf_printf(b, "\\%c", *text);
		else
			buf_add_char(b, *text);
	}
}

/* ---- what an option's value may be, for bash and zsh: case lines over the previous word ---- */

static void
value_cases(struct buf *b, const struct field *table, const char *choices_line, const char *path_line)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		bool is_choice = has_choices(f);

		if (!is_option(f) || (!is_choice && !takes_path(f)))
			continue;
		buf_add_z(b, "\t");
		add_option(b, f);
		if (f->short_opt)
			buf_printf(b, "|-%c", f->short_opt);
		buf_add_z(b, ") ");
		if (is_choice) {
			buf_add_z(b, choices_line);
			add_choices(b, f);
			buf_add_z(b, choices_line[0] == 'C' ? "' -- \"$cur\")); return;;\n" : "; return;;\n");
		} else {
			buf_printf(b, "%s return;;\n", path_line);
		}
	}
}

/* The same option means the same in each command, so one case over all of them is enough. */
static void
all_value_cases(struct buf *b, const char *choices_line, const char *path_line)
{
	value_cases(b, global_options, choices_line, path_line);
	for (const struct command *c = commands; c->words; c++)
		value_cases(b, c->options, choices_line, path_line);
}

static void
bash_script(struct buf *b)
{
	buf_add_z(b, "# bash completion for ithaca; written by `ithaca completion bash`\n_ithaca()\n{\n"
		     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= words= i\n"
		     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		     "\t\t[[ ${COMP_WORDS[i]} == -* ]] || cmd+=\"${cmd:+ }${COMP_WORDS[i]}\"\n\tdone\n"
		     "\tcase $prev in\n");
	all_value_cases(b, "COMPREPLY=($(compgen -W '", "COMPREPLY=($(compgen -f -- \"$cur\"));");
	buf_add_z(b, "\tesac\n\tcase $cmd in\n\t'') words='");
	for (const struct command *c = commands; c->words; c++)
		if (is_first_of_group(c))
			buf_printf(b, "%.*s ", (int)first_size(c), c->words);
	buf_add_z(b, "'");
	buf_add_z(b, ";;\n");
	for (const struct command *c = commands; c->words; c++) {
		if (is_first_of_group(c) && strchr(c->words, ' ')) {
			buf_printf(b, "\t%.*s) words='", (int)first_size(c), c->words);
			add_subcommands(b, c);
			buf_add_z(b, "';;\n");
		}
		if (c->flags & CMD_HIDDEN)
			continue;
		buf_printf(b, "\t'%s'*) words='", c->words);
		for (const struct field *f = c->options; f->type != FIELD_END; f++)
			if ((f->flags & FIELD_POSITIONAL) && has_choices(f)) {
				add_choices(b, f);
				buf_add_char(b, ' ');
			}
		add_options(b, c->options);
		buf_add_z(b, "';;\n");
	}
	buf_add_z(b, "\tesac\n\t[[ $cur == -* ]] && words+='");
	add_options(b, global_options);
	buf_add_z(b, "'\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
		     "complete -o default -F _ithaca ithaca\n");
}

static void
zsh_pairs(struct buf *b, const struct field *table)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		if (!is_option(f))
			continue;
		buf_add_z(b, " '");
		add_option(b, f);
		buf_add_char(b, ':');
		add_quoted(b, f->text, ":");
		buf_add_char(b, '\'');
	}
}

static void
zsh_command(struct buf *b, const struct command *c)
{
	if (is_first_of_group(c) && strchr(c->words, ' ')) {
		buf_printf(b, "\t%.*s) cmds=(", (int)first_size(c), c->words);
		for (const struct command *x = commands; x->words; x++) {
			if (!is_in_group(x, c))
				continue;
			buf_printf(b, " '%s:", x->words + first_size(x) + 1);
			add_quoted(b, x->text, ":");
			buf_add_char(b, '\'');
		}
		buf_add_z(b, ");;\n");
	}
	if (c->flags & CMD_HIDDEN)
		return;
	buf_printf(b, "\t'%s'*)", c->words);
	for (const struct field *f = c->options; f->type != FIELD_END; f++) {
		if (!(f->flags & FIELD_POSITIONAL) || !has_choices(f))
			continue;
		buf_add_z(b, " cmds=(");
		add_choices(b, f);
		buf_add_z(b, ");");
	}
	buf_add_z(b, " opts+=(");
	zsh_pairs(b, c->options);
	buf_add_z(b, ");;\n");
}

static void
zsh_script(struct buf *b)
{
	buf_add_z(b, "#compdef ithaca\n# written by `ithaca completion zsh`\n_ithaca()\n{\n"
		     "\tlocal cmd= i\n\tlocal -a cmds opts\n"
		     "\tfor ((i = 2; i < CURRENT; i++)); do\n"
		     "\t\t[[ $words[i] == -* ]] || cmd+=\"${cmd:+ }$words[i]\"\n\tdone\n"
		     "\tcase $words[CURRENT-1] in\n");
	all_value_cases(b, "compadd ", "_files;");
	buf_add_z(b, "\tesac\n\topts=(");
	zsh_pairs(b, global_options);
	buf_add_z(b, ")\n\tcase $cmd in\n\t'') cmds=(");
	for (const struct command *c = commands; c->words; c++) {
		if (!is_first_of_group(c))
			continue;
		buf_printf(b, " '%.*s:", (int)first_size(c), c->words);
		if (strchr(c->words, ' '))
			add_subcommands(b, c);
		else
			add_quoted(b, c->text, ":");
		buf_add_char(b, '\'');
	}
	buf_add_z(b, ");;\n");
	for (const struct command *c = commands; c->words; c++)
		zsh_command(b, c);
	buf_add_z(b, "\tesac\n\tif [[ $PREFIX == -* ]]; then\n\t\t_describe -o option opts\n"
		     "\telif (( $#cmds )); then\n\t\t_describe command cmds\n\telse\n\t\t_files\n\tfi\n}\n"
		     "compdef _ithaca ithaca\n");
}

static void
fish_options(struct buf *b, const char *condition, const struct field *table)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		struct str name;
		struct buf option;

		if (!is_option(f))
			continue;
		buf_init(&option, 256);
		add_option(&option, f);
		name = str_sub(buf_str(&option), 2, option.n);
		buf_printf(b, "complete -c ithaca%s -l %.*s", condition, STR_FMT(name));
		buf_fini(&option);
		if (f->short_opt)
			buf_printf(b, " -s %c", f->short_opt);
		if (has_choices(f)) {
			buf_add_z(b, " -x -a '");
			add_choices(b, f);
			buf_add_char(b, '\'');
		} else if (f->type != FIELD_BOOL) {
			buf_add_z(b, takes_path(f) ? " -r -F" : " -x");
		}
		buf_add_z(b, " -d '");
		for (const char *p = f->text; *p; p++)
			buf_printf(b, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
		buf_add_z(b, "'\n");
	}
}

static void
fish_command(struct buf *b, const struct command *c)
{
	int n = (int)first_size(c);
	struct buf condition;

	buf_init(&condition, 4 * KIB);
	if (c->words[n] == '\0') {
		buf_printf(b, "complete -c ithaca -n __fish_use_subcommand -a %s -d '", c->words);
		buf_printf(&condition, " -n '__fish_seen_subcommand_from %s'", c->words);
	} else {
		if (is_first_of_group(c)) {
			buf_printf(b, "complete -c ithaca -n __fish_use_subcommand -a %.*s -d '", n, c->words);
			add_subcommands(b, c);
			buf_add_z(b, "'\n");
		}
		buf_printf(b, "complete -c ithaca -n '__fish_seen_subcommand_from %.*s; and not "
			"__fish_seen_subcommand_from", n, c->words);
		add_subcommands(b, c);
		buf_printf(b, "' -a %s -d '", c->words + n + 1);
		buf_printf(&condition, " -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'", n,
			c->words, c->words + n + 1);
	}
	for (const char *p = c->text; *p; p++)
		buf_printf(b, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
	buf_add_z(b, "'\n");
	for (const struct field *f = c->options; f->type != FIELD_END; f++) {
		if (!(f->flags & FIELD_POSITIONAL) || !has_choices(f))
			continue;
		buf_printf(b, "complete -c ithaca%s -a '", buf_z(&condition));
		add_choices(b, f);
		buf_add_z(b, "'\n");
	}
	fish_options(b, buf_z(&condition), c->options);
	buf_fini(&condition);
}

static void
fish_script(struct buf *b)
{
	buf_add_z(b, "# fish completion for ithaca; written by `ithaca completion fish`\ncomplete -c ithaca -f\n");
	fish_options(b, "", global_options);
	for (const struct command *c = commands; c->words; c++)
		if (!(c->flags & CMD_HIDDEN))
			fish_command(b, c);
}

int
docs_completion(struct arena *a, struct str shell, struct buf *b, struct err *e)
{
	static const struct {
		const char *name;
		void (*write)(struct buf *b);
	} scripts[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		if (!str_is(shell, scripts[i].name))
			continue;
		scripts[i].write(b);
		return 0;
	}
	return err_set(e, ERR_USAGE, ERR_TO_USER, "completion: no script for %.*s (bash, zsh, fish)",
		(int)MIN(shell.n, 40), shell.p);
}

int
cmd_completion(struct cli *c, struct err *e)
{
	struct buf b;
	int rc;

	buf_init(&b, 1 * MIB);
	rc = docs_completion(c->a, node_str(c->options, "shell", STR("")), &b, e);
	if (rc == 0)
		rc = out_text(buf_str(&b), e);
	buf_fini(&b);
	return rc;
}
