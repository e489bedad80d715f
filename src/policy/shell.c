/* SPDX-License-Identifier: MIT
 * The grammar of POSIX sh, as far as it takes to find every simple command, wherever it stands. It
 * is conservative: what it does not understand makes the script opaque, and it goes on after an
 * error, so that deny rules see the rest. It never evaluates anything. Bounded by SHELL_TEXT_MAX,
 * SHELL_DEPTH_MAX and the caller's arena. */
#include "policy/shell.h"

#include "base/limits.h"

static void parse_list(struct shell *sh);
static void parse_command(struct shell *sh);

void *
shell_push(struct shell *sh, struct shell_vec *v, size_t size)
{
	if (v->n == v->cap) {
		size_t cap = v->cap == 0 ? 4 : v->cap * 2;
		void *items = arena_try(sh->a, cap * size);

		if (items == NULL) {
			shell_error(sh, ERR_LIMIT, "it is too large");
			sh->at = sh->s.n;
			return NULL;
		}
		if (v->n > 0)
			memcpy(items, v->items, v->n * size);
		v->items = items;
		v->cap = cap;
	}
	return (char *)v->items + v->n++ * size;
}

static void
push_str(struct shell *sh, struct shell_vec *v, struct str s)
{
	struct str *slot = shell_push(sh, v, sizeof(*slot));

	if (slot != NULL)
		*slot = s;
}

void
shell_opaque(struct shell *sh, const char *why)
{
	if (sh->why_opaque == NULL)
		sh->why_opaque = why;
}

void
shell_error(struct shell *sh, int code, const char *what)
{
	shell_opaque(sh, "it is not valid shell");
	if (sh->error.code == 0)
		err_set(&sh->error, code, ERR_TO_MODEL, "shell script: %s", what);
	else if (code == ERR_LIMIT) /* a limit hides the rest: it outranks a plain mistake */
		err_set(&sh->error, code, ERR_TO_MODEL, "shell script: %s", what);
}

static void
unexpected(struct shell *sh, const char *wanted)
{
	struct str t = sh->cur.type == TOKEN_EOF ? STR("the end") : sh->cur.text;

	shell_opaque(sh, "it is not valid shell");
	if (sh->error.code == 0)
		err_set(&sh->error, ERR_INVALID, ERR_TO_MODEL,
			"shell script: %.*s where %s was expected", STR_FMT(str_sub(t, 0, 40)),
			wanted);
}

static bool
is_word(const struct shell *sh, const char *reserved)
{
	return sh->cur.type == TOKEN_WORD && !sh->cur.is_quoted && str_is(sh->cur.text, reserved);
}

static bool
is_one_of(const struct shell *sh, const char *const *reserved)
{
	for (; *reserved != NULL; reserved++)
		if (is_word(sh, *reserved))
			return true;
	return false;
}

static void
expect(struct shell *sh, const char *reserved)
{
	if (is_word(sh, reserved))
		shell_next(sh);
	else
		unexpected(sh, reserved);
}

static void
skip_newlines(struct shell *sh)
{
	while (sh->cur.type == TOKEN_NEWLINE)
		shell_next(sh);
}

/* What ends a list: its owner checks that it is the right one. */
static bool
is_end_of_list(const struct shell *sh)
{
	static const char *const ends[] = { "then", "elif", "else", "fi", "do", "done", "esac", "}",
		NULL };

	return sh->cur.type == TOKEN_EOF || sh->cur.type == TOKEN_CLOSE ||
	       sh->cur.type == TOKEN_CASE_END || is_one_of(sh, ends);
}

/* Commands up to `end`, stepping over what does not belong there. */
static void
parse_until(struct shell *sh, enum token_type end)
{
	for (;;) {
		parse_list(sh);
		if (sh->cur.type == end || sh->cur.type == TOKEN_EOF)
			return;
		unexpected(sh, "a command");
		shell_next(sh);
	}
}

static bool
enter(struct shell *sh)
{
	if (sh->depth >= SHELL_DEPTH_MAX) {
		shell_error(sh, ERR_LIMIT, "it is nested too deeply");
		sh->at = sh->s.n;
		sh->cur = (struct token){ .type = TOKEN_EOF };
		return false;
	}
	sh->depth++;
	return true;
}

void
shell_substitution(struct shell *sh)
{
	struct token cur = sh->cur;

	shell_opaque(sh, "it has a command substitution");
	if (enter(sh)) {
		shell_next(sh);
		parse_until(sh, TOKEN_CLOSE);
		if (sh->cur.type != TOKEN_CLOSE)
			unexpected(sh, ")");
		sh->depth--;
	}
	sh->cur = cur;
}

void
shell_nested(struct shell *sh, struct str text)
{
	struct shell_vec heres = sh->heres;
	struct token cur = sh->cur;
	struct str s = sh->s;
	size_t at = sh->at;

	if (!enter(sh))
		return;
	sh->s = text;
	sh->at = 0;
	sh->heres = (struct shell_vec){ 0 };
	shell_next(sh);
	parse_until(sh, TOKEN_EOF);
	sh->depth--;
	sh->s = s;
	sh->at = at;
	sh->cur = cur;
	sh->heres = heres;
}

static bool
is_number_or_dash(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '-')
			return false;
	return true;
}

/* A redirection: the operator is sh->cur, its word is next. */
static void
parse_redirect(struct shell *sh)
{
	enum redirect kind = sh->cur.redirect;
	bool out = sh->cur.text.n > 0 && sh->cur.text.p[0] == '>';
	struct here *here;

	shell_next(sh);
	if (sh->cur.type != TOKEN_WORD) {
		unexpected(sh, "the file of a redirection");
		return;
	}
	if (kind == REDIRECT_HERE || kind == REDIRECT_HERE_TABS) {
		here = shell_push(sh, &sh->heres, sizeof(*here));
		if (here != NULL)
			*here = (struct here){ sh->cur.text, sh->cur.is_quoted,
				kind == REDIRECT_HERE_TABS };
	} else if (kind == REDIRECT_STRING) {
		push_str(sh, &sh->inputs, sh->cur.text);
	} else if (kind != REDIRECT_DUP || !is_number_or_dash(sh->cur.text)) {
		if (sh->cur.is_dynamic) {
			shell_opaque(sh, "a redirection goes to a computed name");
			sh->writes_computed = sh->writes_computed || kind == REDIRECT_OUT || out;
		}
		push_str(sh, kind == REDIRECT_OUT || out ? &sh->writes : &sh->reads, sh->cur.text);
	}
	shell_next(sh); /* only now: it may read the body of a here-document */
}

static void
parse_redirects(struct shell *sh)
{
	while (sh->cur.type == TOKEN_REDIRECT)
		parse_redirect(sh);
}

static void
parse_function(struct shell *sh)
{
	shell_opaque(sh, "it defines a function, which may hide a command");
	shell_next(sh);
	if (sh->cur.type != TOKEN_CLOSE) {
		unexpected(sh, ")");
		return;
	}
	shell_next(sh);
	skip_newlines(sh);
	parse_command(sh);
}

static void
command_done(struct shell *sh, const struct shell_vec *words, const struct shell_vec *known,
	size_t fixed)
{
	struct shell_command *c;
	const char *why;

	if (words->n == 0 ||
		known->n < words->n) /* less only when there is no room, which is an error */
		return;
	c = shell_push(sh, &sh->commands, sizeof(*c));
	if (c == NULL)
		return;
	*c = (struct shell_command){ .argv = words->items,
		.known = known->items,
		.argc = words->n,
		.fixed = fixed,
		.dynamic = fixed < words->n };
	if (fixed == 0)
		shell_opaque(sh, "the name of a command is computed");
	why = shell_wrapper(c);
	if (why != NULL)
		shell_opaque(sh, why);
}

static void
parse_simple(struct shell *sh)
{
	struct shell_vec words = { 0 }, known = { 0 };
	size_t fixed = 0, *n;
	bool is_fixed = true;

	for (;;) {
		if (sh->cur.type == TOKEN_REDIRECT) {
			parse_redirect(sh);
			continue;
		}
		if (sh->cur.type == TOKEN_OPEN && words.n == 1) {
			parse_function(sh);
			return;
		}
		if (sh->cur.type != TOKEN_WORD)
			break;
		if (words.n == 0 && sh->cur.is_assignment) {
			shell_opaque(
				sh, "it assigns a variable, which may change what a command does");
		} else {
			is_fixed = is_fixed && !sh->cur.is_dynamic;
			fixed += is_fixed;
			push_str(sh, &words, sh->cur.text);
			n = shell_push(sh, &known, sizeof(*n));
			if (n != NULL)
				*n = sh->cur.known;
		}
		shell_next(sh);
	}
	command_done(sh, &words, &known, fixed);
}

static void
parse_do(struct shell *sh)
{
	expect(sh, "do");
	parse_list(sh);
	expect(sh, "done");
}

static void
parse_if(struct shell *sh)
{
	do {
		shell_next(sh);
		parse_list(sh);
		expect(sh, "then");
		parse_list(sh);
	} while (is_word(sh, "elif"));
	if (is_word(sh, "else")) {
		shell_next(sh);
		parse_list(sh);
	}
	expect(sh, "fi");
}

static bool
is_lower_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return false;
	return true;
}

static void
parse_for(struct shell *sh)
{
	shell_next(sh);
	if (sh->cur.type != TOKEN_WORD) {
		unexpected(sh, "a variable");
		return;
	}
	if (!is_lower_name(sh->cur.text)) /* PATH, IFS and their like change what commands do */
		shell_opaque(sh, "it assigns a variable, which may change what a command does");
	shell_next(sh);
	skip_newlines(sh);
	if (is_word(sh, "in"))
		do
			shell_next(sh);
		while (sh->cur.type == TOKEN_WORD);
	if (sh->cur.type == TOKEN_SEMI)
		shell_next(sh);
	skip_newlines(sh);
	parse_do(sh);
}

/* One "pattern | pattern) list ;;". */
static void
parse_case_item(struct shell *sh)
{
	if (sh->cur.type == TOKEN_OPEN)
		shell_next(sh);
	while (sh->cur.type == TOKEN_WORD || sh->cur.type == TOKEN_PIPE)
		shell_next(sh);
	if (sh->cur.type == TOKEN_CLOSE)
		shell_next(sh);
	else
		unexpected(sh, ") after the pattern of a case");
	parse_list(sh);
	if (sh->cur.type == TOKEN_CASE_END) {
		shell_next(sh);
		skip_newlines(sh);
	} else if (!is_word(sh, "esac")) {
		unexpected(sh, "esac");
		if (sh->cur.type != TOKEN_EOF)
			shell_next(sh);
	}
}

static void
parse_case(struct shell *sh)
{
	shell_next(sh);
	if (sh->cur.type == TOKEN_WORD)
		shell_next(sh);
	skip_newlines(sh);
	expect(sh, "in");
	skip_newlines(sh);
	while (sh->cur.type != TOKEN_EOF && !is_word(sh, "esac"))
		parse_case_item(sh);
	expect(sh, "esac");
}

static void
parse_while(struct shell *sh)
{
	shell_next(sh);
	parse_list(sh);
	parse_do(sh);
}

static void
parse_group(struct shell *sh)
{
	shell_next(sh);
	parse_list(sh);
	expect(sh, "}");
}

static void
parse_subshell(struct shell *sh)
{
	shell_next(sh);
	if (sh->cur.type == TOKEN_OPEN)
		shell_opaque(sh, "it uses ((, which shells read differently");
	parse_list(sh);
	if (sh->cur.type == TOKEN_CLOSE)
		shell_next(sh);
	else
		unexpected(sh, ")");
}

static void
parse_command(struct shell *sh)
{
	static const struct compound {
		const char *word;
		void (*parse)(struct shell *sh);
	} compounds[] = {
		{ "if", parse_if },
		{ "for", parse_for },
		{ "case", parse_case },
		{ "while", parse_while },
		{ "until", parse_while },
		{ "{", parse_group },
	};
	void (*parse)(struct shell *) = NULL;

	if (!enter(sh))
		return;
	if (sh->cur.type == TOKEN_OPEN)
		parse = parse_subshell;
	for (size_t i = 0; i < ARRAY_LEN(compounds); i++)
		if (is_word(sh, compounds[i].word))
			parse = compounds[i].parse;
	if (parse != NULL) {
		parse(sh);
		parse_redirects(sh);
	} else if ((sh->cur.type == TOKEN_WORD && !is_end_of_list(sh)) ||
		   sh->cur.type == TOKEN_REDIRECT) {
		parse_simple(sh);
	} else {
		unexpected(sh, "a command");
	}
	sh->depth--;
}

static void
parse_list(struct shell *sh)
{
	skip_newlines(sh);
	while (!is_end_of_list(sh)) {
		size_t at = sh->at;

		while (is_word(sh, "!")) /* bash takes any number */
			shell_next(sh);
		parse_command(sh);
		if (sh->cur.type == TOKEN_PIPE || sh->cur.type == TOKEN_AND_OR) {
			shell_next(sh);
			skip_newlines(sh);
			if (is_end_of_list(sh))
				unexpected(sh, "a command");
		} else if (sh->cur.type == TOKEN_SEMI || sh->cur.type == TOKEN_AMP ||
			   sh->cur.type == TOKEN_NEWLINE) {
			shell_next(sh);
			skip_newlines(sh);
		} else if (!is_end_of_list(sh)) {
			unexpected(sh, "; or a newline");
			if (sh->at == at)
				shell_next(sh);
		}
	}
}

int
shell_scan(struct str script, struct arena *a, struct shell_script *out, struct err *e)
{
	struct shell sh = { .s = script, .a = a };

	if (script.n > SHELL_TEXT_MAX)
		shell_error(&sh, ERR_LIMIT, "it is too large");
	else if (memchr(script.n > 0 ? script.p : "", 0, script.n) != NULL)
		shell_error(&sh, ERR_INVALID, "it holds a NUL byte");
	else
		shell_nested(&sh, script);
	*out = (struct shell_script){
		.commands = sh.commands.items,
		.n = sh.commands.n,
		.writes = sh.writes.items,
		.writes_n = sh.writes.n,
		.writes_computed = sh.writes_computed,
		.reads = sh.reads.items,
		.reads_n = sh.reads.n,
		.inputs = sh.inputs.items,
		.inputs_n = sh.inputs.n,
		.opaque = sh.why_opaque != NULL,
		.why_opaque = sh.why_opaque,
	};
	return sh.error.code == 0 ? 0 : err_copy(e, &sh.error);
}

int
shell_parse(struct str script, struct arena *a, struct shell_script *out, struct err *e)
{
	struct shell_script found;
	int rc = shell_scan(script, a, &found, e);

	if (rc == 0)
		*out = found;
	return rc;
}
