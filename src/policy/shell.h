/* SPDX-License-Identifier: MIT
 * Inside of the shell parser: the lexer (shell_lex.c) and the grammar (shell.c) share this state.
 * They call each other, because a word may hold a command substitution. Nothing here runs or
 * expands anything. */
#ifndef POLICY_SHELL_H
#define POLICY_SHELL_H

#include "policy/policy.h"

enum token_type {
	TOKEN_EOF,
	TOKEN_NEWLINE,
	TOKEN_WORD,
	TOKEN_SEMI,     /* ; */
	TOKEN_AMP,      /* & */
	TOKEN_AND_OR,   /* && || */
	TOKEN_PIPE,     /* | */
	TOKEN_CASE_END, /* ;; */
	TOKEN_OPEN,     /* ( */
	TOKEN_CLOSE,    /* ) */
	TOKEN_REDIRECT,
};

enum redirect {
	REDIRECT_IN,
	REDIRECT_OUT,
	REDIRECT_DUP,
	REDIRECT_HERE,
	REDIRECT_HERE_TABS,
	REDIRECT_STRING
};

struct token {
	enum token_type type;
	enum redirect redirect;
	struct str text; /* of a word: quoting removed, expansions as written */
	size_t known; /* bytes of text that no expansion can change: all, or those before the first
		       */
	bool is_quoted;     /* some of it was quoted: no reserved word, a literal here-document */
	bool is_dynamic;    /* its value depends on an expansion */
	bool is_assignment; /* NAME=... */
};

/* A here-document whose body begins after the next newline. */
struct here {
	struct str delimiter;
	bool is_quoted, strip_tabs;
};

/* An array in the arena. */
struct shell_vec {
	void *items;
	size_t n, cap;
};

struct shell {
	struct str s;
	size_t at;
	struct token cur;
	struct arena *a;
	struct shell_vec commands, writes, reads, inputs, heres;
	bool writes_computed;
	unsigned depth;
	const char *why_opaque;
	struct err error; /* the first one */
};

/* One more item of the given size, zeroed; NULL (and the error set) when the arena is full. */
void *shell_push(struct shell *sh, struct shell_vec *v, size_t size) MUST_USE;
void shell_opaque(struct shell *sh, const char *why); /* static text; the first reason is kept */
/* Notes the first error; the rest of the script is still looked at. */
void shell_error(struct shell *sh, int code, const char *what);
/* Reads the next token into sh->cur. */
void shell_next(struct shell *sh);
/* Parses commands from sh->at up to the ')' that closes a substitution, or the end; sh->cur is
 * kept. */
void shell_substitution(struct shell *sh);
/* Parses a text of its own (the body of a backquote), adding to the same result. */
void shell_nested(struct shell *sh, struct str text);

/* Why this command may run or become something else than its words say (env, xargs, sh -c, eval,
 * find -exec, alias,
 * ...): static text, or NULL. */
const char *shell_wrapper(const struct shell_command *c);

/* Whether the word is this program, with or without a directory. */
bool shell_is_program(struct str word, const char *name);
/* Whether it runs a text: a shell, eval, trap and their like. */
bool shell_runs_text(struct str word);
/* Whether it is a shell that reads its script from standard input. */
bool shell_runs_input(const struct shell_command *c);

/* As shell_parse, but fills *out with what was found before and after an error too. */
int shell_scan(
	struct str script, struct arena *a, struct shell_script *out, struct err *e) MUST_USE;

#endif
