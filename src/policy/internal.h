/* SPDX-License-Identifier: MIT
 * Shared inside policy/: compiled rules, and the view of a request that rules are matched against.
 */
#ifndef POLICY_INTERNAL_H
#define POLICY_INTERNAL_H

#include "policy/shell.h"

/* What a pattern is made of: one text, the words of a command, the segments of a path. */
enum pattern_form { PATTERN_TEXT, PATTERN_WORDS, PATTERN_PATH };

struct rule {
	enum decision decision;
	enum subject subject; /* SUBJECT_COUNT: it names a tool that is not in the table of tools */
	struct str tool;      /* empty: it names a subject */
	struct str text;      /* as written */
	struct str origin;
	bool is_bare; /* no pattern, or "*" alone: everything of its kind */
	enum pattern_form form;
	struct str *parts; /* compiled: '*' is any run of characters, '\' takes the next one
			      literally */
	size_t n;
};

struct policy {
	struct arena *a;
	struct rule *rules; /* deny, then ask, then allow; each in the order written */
	size_t n;
};

/* A tool and what it does, so that a rule may name it. */
struct tool_kind {
	const char *name;
	enum subject subject;
	bool is_tree; /* acts on everything below its target */
};
const struct tool_kind *tool_kind_find(struct str name);

/* Compiles one rule; everything it keeps lives in a. */
int rule_compile(struct str text, struct arena *a, struct rule *out, struct err *e) MUST_USE;

/* Matches a compiled text. */
bool wild_match(struct str pattern, struct str s, bool fold_case);
/* Matches the words of a command: a word that is `*` stands for any number of words. is_loose (for
 * deny and ask): a program may be written with its directory, and the command may begin anywhere
 * when is_through. */
struct words {
	const struct str *argv;
	const size_t *known; /* as in shell_command; for words_may_match */
	size_t argc;
	bool is_loose, is_through;
	bool is_open; /* words that nobody knows may follow */
};
bool words_match(const struct rule *r, const struct words *w);
/* Could it match, by what the expansions among the words come to, or with options passed over? */
bool words_may_match(const struct rule *r, const struct words *w);
/* A path, cleaned: no "." and "..", a relative one below /shared. */
struct path {
	struct str text; /* as given */
	struct str *segments;
	size_t n;
};
/* 0, or -1 when the arena is full. */
int path_split(struct path *p, struct str text, struct arena *a) MUST_USE;
bool path_match(const struct rule *r, const struct path *p);
/* Does the pattern speak about something inside this directory? Only what its literal beginning
 * tells. */
bool path_is_inside(const struct rule *r, const struct path *dir);
/* Appends s so that it stands for itself in a pattern of that form. */
void pattern_quote(struct buf *b, enum pattern_form form, struct str s);

/* A command that deny and ask rules look at. */
struct unit {
	const struct str *argv;
	const size_t *known;
	size_t argc;
	bool is_through; /* it runs what stands among its arguments */
	bool is_open;    /* further arguments come from elsewhere */
	bool is_guess;   /* of an argument that is hardly a script */
};

/* A request, taken apart once. */
struct view {
	const struct policy_request *r;
	struct arena *a;
	struct shell_script script;              /* SUBJECT_EXEC */
	struct shell_vec units;                  /* of struct unit */
	struct shell_vec targets, writes, reads; /* of struct path */
	struct shell_vec words; /* of struct path: arguments of the units, which may name files */
	struct shell_vec inner_writes,
		inner_reads;  /* of struct path: redirections of scripts inside arguments */
	bool is_guess;        /* for the units that are added */
	bool writes_computed; /* by the script or one inside it, to a name that an expansion makes
			       */
	struct err error;     /* of the shell parser; code 0: none */
};
/* 0, or -1 when the request is too large to be judged: then it is refused. */
int view_init(struct view *v, const struct policy_request *r, struct arena *a) MUST_USE;
/* Does a deny or ask rule speak about any part of the request? *what: the part, for messages. */
bool view_is_covered(const struct view *v, const struct rule *rule, struct str *what);
/* Could a deny or ask rule speak about it, although it does not by its words? */
bool view_may_be_covered(const struct view *v, const struct rule *rule, struct str *what);
/* The parts that each need an allowance: commands and written files, or the one or two targets. */
size_t view_parts(const struct view *v);
struct str view_part_text(const struct view *v, size_t i);
bool view_part_is_allowed(const struct view *v, size_t i, const struct rule *rule);
enum decision mode_default(enum mode m, enum subject s);

#endif
