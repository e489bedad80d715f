/* SPDX-License-Identifier: MIT
 * The words and operators of POSIX sh. It removes quoting, keeps expansions as they are written and
 * marks what depends on them. Where bash and POSIX read the same bytes differently the script
 * becomes opaque, so that no rule can be satisfied by a reading that the shell does not share.
 * Every loop takes at least one byte: the text bounds it. */
#include "policy/shell.h"

#include "base/limits.h"
#include "base/utf8.h"

/* A word while it is read. */
struct word {
	struct shell *sh;
	struct buf b;
	bool is_quoted, is_dynamic, is_assignment;
	bool is_name;                /* all of it so far may be a variable's name */
	bool has_brace, has_bracket; /* an unquoted { or [ was seen */
	bool has_subscript;          /* a name and its [ were seen */
	bool may_vary; /* something was seen that an expansion may begin with, at `known` */
	size_t known;
};

static int
peek(const struct shell *sh, size_t ahead)
{
	return sh->at + ahead < sh->s.n ? (unsigned char)sh->s.p[sh->at + ahead] : -1;
}

static bool
is_name_char(int c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}

/* Adding to a word cannot overflow: its maximum is the script's size, and no word is longer than
 * how it is written. */
static void
put(struct word *w, int c)
{
	(void)buf_add_char(&w->b, (char)c);
}

/* From here on the value may depend on an expansion. */
static void
varies(struct word *w)
{
	if (!w->may_vary)
		w->known = w->b.n;
	w->may_vary = true;
}

/* Copies script bytes from..at as they are written. */
static void
put_raw(struct word *w, size_t from)
{
	(void)buf_add_str(&w->b, str_sub(w->sh->s, from, w->sh->at - from));
}

static void
skip_continuations(struct shell *sh)
{
	while (peek(sh, 0) == '\\' && peek(sh, 1) == '\n')
		sh->at += 2;
}

static void scan_dollar(struct shell *sh, bool in_quotes);
static void scan_backquote(struct shell *sh);

/* From after the opening quote to after the closing one. */
static void
scan_single(struct shell *sh)
{
	while (peek(sh, 0) >= 0 && peek(sh, 0) != '\'')
		sh->at++;
	if (peek(sh, 0) < 0)
		shell_error(sh, ERR_INVALID, "a ' is not closed");
	else
		sh->at++;
}

/* As scan_single for $'...', where a backslash takes the next character along. */
static void
scan_ansi(struct shell *sh)
{
	while (peek(sh, 0) >= 0 && peek(sh, 0) != '\'')
		sh->at += peek(sh, 0) == '\\' && peek(sh, 1) >= 0 ? 2 : 1;
	if (peek(sh, 0) < 0)
		shell_error(sh, ERR_INVALID, "a $' is not closed");
	else
		sh->at++;
}

/* Skips one element of text that is kept as written, inside ${}, $(()) or "". */
static void
scan_element(struct shell *sh, bool in_quotes)
{
	int c = peek(sh, 0);

	sh->at++;
	if (c == '\\' && peek(sh, 0) >= 0)
		sh->at++;
	else if (c == '$')
		scan_dollar(sh, in_quotes);
	else if (c == '`')
		scan_backquote(sh);
	else if (c == '\'' && !in_quotes)
		scan_single(sh);
	else if (c == '"') {
		while (peek(sh, 0) >= 0 && peek(sh, 0) != '"')
			scan_element(sh, true);
		if (peek(sh, 0) < 0)
			shell_error(sh, ERR_INVALID, "a \" is not closed");
		else
			sh->at++;
	}
}

static bool
enter(struct shell *sh)
{
	if (sh->depth >= SHELL_DEPTH_MAX) {
		shell_error(sh, ERR_LIMIT, "it is nested too deeply");
		sh->at = sh->s.n;
		return false;
	}
	sh->depth++;
	return true;
}

/* What stands after "${" and is read alike everywhere and changes nothing: a name or number, or its
 * length, then the end or one of `- ? + % #`. The rest assigns, or bash alone knows it and may run
 * what a value holds: ${!x}, ${x@P}, ${x:x}. */
static bool
is_plain_parameter(const struct shell *sh)
{
	size_t n = peek(sh, 0) == '#' && peek(sh, 1) != '}', from = n;

	while (is_name_char(peek(sh, n), false))
		n++;
	if (n == from && peek(sh, n) > 0 && strchr("@*#?-$!", peek(sh, n)) != NULL &&
		(peek(sh, n) != '!' || peek(sh, n + 1) == '}'))
		n++;
	if (n == from)
		return false;
	if (peek(sh, n) == ':')
		return peek(sh, n + 1) > 0 && strchr("-?+", peek(sh, n + 1)) != NULL;
	return peek(sh, n) > 0 && strchr("}-?+%#", peek(sh, n)) != NULL;
}

/* From after "${" to after the brace that closes it. */
static void
scan_braces(struct shell *sh, bool in_quotes)
{
	if (!enter(sh))
		return;
	if (!is_plain_parameter(sh))
		shell_opaque(
			sh, "it has an expansion that assigns or that shells read differently");
	while (peek(sh, 0) >= 0 && peek(sh, 0) != '}') {
		if (in_quotes && strchr("'\"", peek(sh, 0)) != NULL)
			shell_opaque(sh, "it has quotes inside a quoted ${...}");
		scan_element(sh, in_quotes);
	}
	if (peek(sh, 0) < 0)
		shell_error(sh, ERR_INVALID, "a ${ is not closed");
	else
		sh->at++;
	sh->depth--;
}

/* Does the text after "$((" close as arithmetic, with "))" where the nesting first ends? Otherwise
 * it is a command substitution that begins with a subshell. */
static bool
is_arithmetic(const struct shell *sh)
{
	size_t depth = 0;

	for (size_t i = sh->at; i < sh->s.n; i++) {
		if (sh->s.p[i] == '(')
			depth++;
		else if (sh->s.p[i] == ')' && depth > 0)
			depth--;
		else if (sh->s.p[i] == ')')
			return i + 1 < sh->s.n && sh->s.p[i + 1] == ')';
	}
	return false;
}

/* From after "$((" to after "))". */
static void
scan_arithmetic(struct shell *sh)
{
	size_t depth = 0;

	if (!enter(sh))
		return;
	while (peek(sh, 0) >= 0 && (depth > 0 || peek(sh, 0) != ')')) {
		if (peek(sh, 0) == '(')
			depth++;
		else if (peek(sh, 0) == ')')
			depth--;
		else if (strchr("'\"\\", peek(sh, 0)) != NULL)
			shell_opaque(sh, "it has quotes inside $((...))");
		else if (peek(sh, 0) == '$' || is_name_char(peek(sh, 0), true))
			shell_opaque(
				sh, "it computes with a variable, whose value bash may run"); /* a[$(x)]
											       */
		scan_element(sh, true);
	}
	if (peek(sh, 0) == ')' && peek(sh, 1) == ')')
		sh->at += 2;
	else
		shell_error(sh, ERR_INVALID, "a $(( is not closed");
	sh->depth--;
}

/* From after '$'. Leaves sh->at where it is when no expansion begins there. */
static void
scan_dollar(struct shell *sh, bool in_quotes)
{
	int c;

	skip_continuations(sh);
	c = peek(sh, 0);
	if (c == '(' && peek(sh, 1) == '(') {
		sh->at += 2;
		if (is_arithmetic(sh)) {
			scan_arithmetic(sh);
			return;
		}
		sh->at--;
		shell_substitution(sh);
	} else if (c == '(') {
		sh->at++;
		shell_substitution(sh);
	} else if (c == '{') {
		sh->at++;
		scan_braces(sh, in_quotes);
	} else if (is_name_char(c, true)) {
		while (is_name_char(peek(sh, 0), false))
			sh->at++;
	} else if (c > 0 && strchr("@*#?-$!0123456789", c) != NULL) {
		sh->at++;
	} else if ((c == '\'' || c == '"') && !in_quotes) {
		shell_opaque(sh, "it has a $ before a quote, which shells read differently");
		if (c == '\'') {
			sh->at++;
			scan_ansi(sh);
		}
	}
}

/* From after the opening backquote to after the closing one. The body is a script of its own, after
 * one level of backslashes is taken off. */
static void
scan_backquote(struct shell *sh)
{
	size_t start = sh->at, n = 0;
	char *body;

	shell_opaque(sh, "it has a command substitution");
	while (peek(sh, 0) >= 0 && peek(sh, 0) != '`')
		sh->at += peek(sh, 0) == '\\' && peek(sh, 1) >= 0 ? 2 : 1;
	body = arena_try(sh->a, sh->at - start + 1);
	if (body == NULL) {
		shell_error(sh, ERR_LIMIT, "it is too large");
		return;
	}
	for (size_t i = start; i < sh->at; i++) {
		if (sh->s.p[i] == '\\' && i + 1 < sh->at && strchr("`\\$", sh->s.p[i + 1]) != NULL)
			i++;
		body[n++] = sh->s.p[i];
	}
	if (peek(sh, 0) < 0)
		shell_error(sh, ERR_INVALID, "a ` is not closed");
	else
		sh->at++;
	shell_nested(sh, (struct str){ body, n });
}

/* '$' or '`' in a word, quoted or not: an expansion, or a literal '$'. */
static void
word_expansion(struct word *w, bool in_quotes)
{
	struct shell *sh = w->sh;
	size_t from = sh->at;
	int c = peek(sh, 0);

	varies(w);
	sh->at++;
	if (c == '`')
		scan_backquote(sh);
	else
		scan_dollar(sh, in_quotes);
	put_raw(w, from);
	if (c == '`' || sh->at > from + 1)
		w->is_dynamic = true;
}

static void
word_double(struct word *w)
{
	struct shell *sh = w->sh;
	int c;

	sh->at++;
	while ((c = peek(sh, 0)) >= 0 && c != '"') {
		if (c == '\\' && peek(sh, 1) == '\n') {
			sh->at += 2;
		} else if (c == '\\' && peek(sh, 1) > 0 && strchr("$`\"\\", peek(sh, 1)) != NULL) {
			put(w, peek(sh, 1));
			sh->at += 2;
		} else if (c == '$' || c == '`') {
			word_expansion(w, true);
		} else {
			put(w, c);
			sh->at++;
		}
	}
	if (c < 0)
		shell_error(sh, ERR_INVALID, "a \" is not closed");
	else
		sh->at++;
}

static void
word_quoted(struct word *w)
{
	struct shell *sh = w->sh;
	size_t from = sh->at + 1;

	w->is_quoted = true;
	w->is_name = false;
	switch (peek(sh, 0)) {
	case '\\':
		if (peek(sh, 1) >= 0) /* a backslash at the very end stands for itself */
			sh->at++;
		put(w, peek(sh, 0));
		sh->at++;
		return;
	case '\'':
		sh->at++;
		scan_single(sh);
		for (size_t i = from; i < sh->at && sh->s.p[i] != '\''; i++)
			put(w, sh->s.p[i]);
		return;
	default:
		word_double(w);
	}
}

/* The number in base 8 or 16 at sh->at, of at most so many digits. */
static uint32_t
ansi_number(struct shell *sh, unsigned base, size_t most)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t value = 0;
	size_t n = 0;

	for (; n < most && peek(sh, 0) > 0; n++, sh->at++) {
		int c = peek(sh, 0) >= 'A' && peek(sh, 0) <= 'F' ? peek(sh, 0) - 'A' + 'a'
								 : peek(sh, 0);
		const char *at = strchr(digits, c);

		if (at == NULL || (unsigned)(at - digits) >= base)
			break;
		value = value * base + (uint32_t)(at - digits);
	}
	return value;
}

/* From after the backslash: puts what bash makes of it. It is never longer than how it is written.
 */
static void
ansi_escape(struct word *w)
{
	static const char names[] = "abeEfnrtv", values[] = "\a\b\033\033\f\n\r\t\v";
	struct shell *sh = w->sh;
	int c = peek(sh, 0);
	const char *at = strchr(names, c);
	char utf8[4];

	if (c >= '0' && c <= '7') {
		put(w, (int)(ansi_number(sh, 8, 3) & 0xff));
		return;
	}
	sh->at++;
	if (c == 'x')
		put(w, (int)ansi_number(sh, 16, 2));
	else if (c == 'u' || c == 'U')
		(void)buf_add(
			&w->b, utf8, utf8_encode(ansi_number(sh, 16, c == 'u' ? 4 : 8), utf8));
	else if (c == 'c' && peek(sh, 0) >= 0)
		put(w, w->sh->s.p[sh->at++] & 0x1f);
	else
		put(w, at != NULL ? values[at - names] : c);
}

/* $'...' as bash reads it, so that deny rules see the words. What shells disagree on is opaque. */
static void
word_ansi(struct word *w)
{
	struct shell *sh = w->sh;
	size_t from = sh->at, end;

	scan_dollar(sh, false); /* over it */
	end = sh->at;
	sh->at = from + 1;
	w->is_quoted = true;
	w->is_name = false;
	while (sh->at < end && peek(sh, 0) != '\'') {
		int c = peek(sh, 0);

		sh->at++;
		if (c == '\\' && sh->at < end)
			ansi_escape(w);
		else
			put(w, c);
		if (w->b.n > 0 && w->b.p[w->b.n - 1] == '\0') { /* bash drops it and the rest */
			buf_truncate(&w->b, w->b.n - 1);
			break;
		}
	}
	sh->at = end;
}

/* '$' outside of quotes. */
static void
word_dollar(struct word *w)
{
	struct shell *sh = w->sh;

	if (peek(sh, 1) == '\'') {
		sh->at++;
		word_ansi(w);
	} else if (peek(sh, 1) == '"') { /* a text to be translated: itself */
		sh->at++;
		scan_dollar(sh, false);
	} else {
		word_expansion(w, false);
	}
}

/* Does this '=' or '+=' make the word an assignment? Bash takes `a[1]=x cmd` as one too. */
static bool
assigns(const struct word *w, int c)
{
	bool has_name =
		w->b.n > 0 && (w->is_name || (w->has_subscript && w->b.p[w->b.n - 1] == ']'));

	return has_name && (c == '=' || (c == '+' && peek(w->sh, 1) == '='));
}

static void
word_plain(struct word *w, int c)
{
	struct shell *sh = w->sh;

	if (assigns(w, c))
		w->is_assignment = true;
	if (strchr("*?~[{", c) != NULL && c != 0)
		varies(w);
	if (c == '[' && w->is_name && w->b.n > 0)
		w->has_subscript = true;
	if (c == '*' || c == '?' || (c == '~' && (w->b.n == 0 || w->is_assignment)))
		w->is_dynamic = true;
	if (c == '[')
		w->has_bracket = true;
	else if (c == ']' && w->has_bracket)
		w->is_dynamic = true; /* [a-z]; a lone [ is the test command */
	if (c == '{')
		w->has_brace = true;
	else if (w->has_brace && (c == ',' || (c == '.' && peek(sh, 1) == '.')))
		w->is_dynamic = true; /* bash expands {a,b} and {1..9} */
	w->is_name = w->is_name && is_name_char(c, w->b.n == 0);
	put(w, c);
	sh->at++;
}

/* <(...) or >(...): bash runs it, POSIX calls it an error. */
static void
word_process(struct word *w)
{
	size_t from = w->sh->at;

	varies(w);
	w->sh->at += 2;
	shell_substitution(w->sh);
	put_raw(w, from);
	w->is_dynamic = true;
}

/* The word at sh->at. false: there is none. */
static bool
word_read(struct shell *sh)
{
	struct word w = { .sh = sh, .is_name = true };
	size_t from = sh->at;
	char *text;
	int c;

	buf_init(&w.b, sh->s.n + 1);
	for (;;) {
		skip_continuations(sh);
		c = peek(sh, 0);
		if (c < 0)
			break;
		if ((c == '<' || c == '>') && peek(sh, 1) == '(')
			word_process(&w);
		else if (strchr(" \t\n;&|()<>", c) != NULL && c != 0)
			break;
		else if (c == '\\' || c == '\'' || c == '"')
			word_quoted(&w);
		else if (c == '$')
			word_dollar(&w);
		else if (c == '`')
			word_expansion(&w, false);
		else
			word_plain(&w, c);
	}
	text = arena_try(sh->a, w.b.n + 1);
	if (text == NULL)
		shell_error(sh, ERR_LIMIT, "it is too large");
	else if (w.b.n > 0)
		memcpy(text, w.b.p, w.b.n);
	sh->cur = (struct token){ .type = TOKEN_WORD,
		.text = { text, text == NULL ? 0 : w.b.n },
		.known = text == NULL   ? 0
			 : w.is_dynamic ? w.known
					: w.b.n,
		.is_quoted = w.is_quoted,
		.is_dynamic = w.is_dynamic,
		.is_assignment = w.is_assignment };
	buf_fini(&w.b);
	return sh->at > from;
}

struct operator
{
	const char *text;
	enum token_type type;
	enum redirect redirect;
	const char *why_opaque;
};

/* The longest spelling comes first. */
static const struct operator operators[] = {
	{ ";;&", TOKEN_CASE_END, 0, "it uses ;;&, which only bash knows" },
	{ "<<-", TOKEN_REDIRECT, REDIRECT_HERE_TABS, "it has a here-document" },
	{ "<<<", TOKEN_REDIRECT, REDIRECT_STRING, "it has a here-string" },
	{ "&&", TOKEN_AND_OR, 0, NULL },
	{ "||", TOKEN_AND_OR, 0, NULL },
	{ ";;", TOKEN_CASE_END, 0, NULL },
	{ ";&", TOKEN_CASE_END, 0, "it uses ;&, which only bash knows" },
	{ "|&", TOKEN_PIPE, 0, "it uses |&, which only bash knows" },
	{ "<<", TOKEN_REDIRECT, REDIRECT_HERE, "it has a here-document" },
	{ ">>", TOKEN_REDIRECT, REDIRECT_OUT, NULL },
	{ ">|", TOKEN_REDIRECT, REDIRECT_OUT, NULL },
	{ "<>", TOKEN_REDIRECT, REDIRECT_OUT, NULL },
	{ "<&", TOKEN_REDIRECT, REDIRECT_DUP, NULL },
	{ ">&", TOKEN_REDIRECT, REDIRECT_DUP, NULL },
	{ "<", TOKEN_REDIRECT, REDIRECT_IN, NULL },
	{ ">", TOKEN_REDIRECT, REDIRECT_OUT, NULL },
	{ ";", TOKEN_SEMI, 0, NULL },
	{ "&", TOKEN_AMP, 0, NULL },
	{ "|", TOKEN_PIPE, 0, NULL },
	{ "(", TOKEN_OPEN, 0, NULL },
	{ ")", TOKEN_CLOSE, 0, NULL },
};

/* Compares spelling at sh->at, with line continuations between its characters left out. */
static bool
operator_at(struct shell *sh, const char *text)
{
	size_t start = sh->at;

	for (; *text != '\0'; text++) {
		skip_continuations(sh);
		if (peek(sh, 0) != (unsigned char)*text) {
			sh->at = start;
			return false;
		}
		sh->at++;
	}
	return true;
}

static bool
operator_read(struct shell *sh)
{
	for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
		const struct operator* o = & operators[i];

		if (!operator_at(sh, o->text))
			continue;
		sh->cur = (struct token){
			.type = o->type, .redirect = o->redirect, .text = str_of(o->text)
		};
		if (o->why_opaque != NULL)
			shell_opaque(sh, o->why_opaque);
		return true;
	}
	return false;
}

/* Command substitutions in the body of a here-document whose delimiter is not quoted. */
static void
here_expansions(struct shell *sh, size_t end)
{
	struct str whole = sh->s;

	sh->s.n = end; /* nothing below may read past the body */
	while (sh->at < end) {
		int c = peek(sh, 0);

		sh->at++;
		if (c == '\\' && sh->at < end)
			sh->at++;
		else if (c == '$')
			scan_dollar(sh, true);
		else if (c == '`')
			scan_backquote(sh);
	}
	sh->s = whole;
	sh->at = end;
}

static void
here_body(struct shell *sh, const struct here *h)
{
	size_t start = sh->at, end = sh->s.n, after = sh->s.n;
	struct str *body;

	for (size_t line = start; line < sh->s.n;) {
		struct str rest = str_sub(sh->s, line, sh->s.n), text;
		size_t n;

		(void)str_next(&rest, '\n', &text);
		n = text.n;
		while (h->strip_tabs && text.n > 0 && text.p[0] == '\t')
			text = str_sub(text, 1, text.n);
		if (str_eq(text, h->delimiter)) {
			end = line;
			after = MIN(line + n + 1, sh->s.n);
			break;
		}
		line += n + 1;
	}
	body = shell_push(sh, &sh->inputs, sizeof(*body));
	if (body != NULL)
		*body = str_sub(sh->s, start, end - start);
	if (!h->is_quoted)
		here_expansions(sh, end);
	sh->at = after;
}

/* The bodies that begin after the newline just read. */
static void
here_bodies(struct shell *sh)
{
	struct shell_vec pending = sh->heres;

	sh->heres = (struct shell_vec){ 0 };
	for (size_t i = 0; i < pending.n; i++)
		here_body(sh, &((const struct here *)pending.items)[i]);
}

/* A number right before < or > names a descriptor and is no word. */
static void
skip_descriptor(struct shell *sh)
{
	size_t n = 0;

	while (peek(sh, n) >= '0' && peek(sh, n) <= '9')
		n++;
	if (n > 0 && (peek(sh, n) == '<' || peek(sh, n) == '>'))
		sh->at += n;
}

void
shell_next(struct shell *sh)
{
	for (;;) {
		skip_continuations(sh);
		if (peek(sh, 0) == ' ' || peek(sh, 0) == '\t')
			sh->at++;
		else
			break;
	}
	if (peek(sh, 0) == '#')
		while (peek(sh, 0) >= 0 && peek(sh, 0) != '\n')
			sh->at++;
	sh->cur = (struct token){ .type = TOKEN_EOF };
	if (peek(sh, 0) < 0)
		return;
	if (peek(sh, 0) == '\n') {
		sh->at++;
		sh->cur.type = TOKEN_NEWLINE;
		here_bodies(sh);
		sh->cur = (struct token){ .type = TOKEN_NEWLINE, .text = STR("a newline") };
		return;
	}
	skip_descriptor(sh);
	if ((peek(sh, 0) == '<' || peek(sh, 0) == '>') && peek(sh, 1) == '(') {
		(void)word_read(sh);
		return;
	}
	if (!operator_read(sh) && !word_read(sh))
		sh->cur = (struct token){ .type = TOKEN_EOF };
}
