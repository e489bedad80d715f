/* SPDX-License-Identifier: MIT
 * Commands whose arguments are commands, or that change what later commands mean. They make a
 * script opaque for allow rules, and deny rules look through them. The table holds what is common,
 * not everything that can start a program. */
#include "policy/shell.h"

struct wrapper {
	const char *name;             /* of the program, without its directory */
	const char *const *only_with; /* an argument that begins so is needed; NULL: always */
	const char *why;
};

static const char runs_arguments[] = "it runs a command through another one";
static const char runs_text[] = "it runs text as a script";
/* The same of a shell, which without a script reads one from its input. */
static const char runs_script[] = "it runs text as a script";
static const char changes_meaning[] = "it changes what later commands mean";
static const char only_bash[] = "it uses [[, which only bash knows";

static const char *const find_runs[] = { "-exec", "-ok", NULL };
static const char *const any_option[] = { "-", NULL };
static const char *const names_variable[] = { "-v", "-R",
	NULL }; /* bash runs the subscript in a[$(x)] */

static const struct wrapper wrappers[] = {
	{ "env", NULL, runs_arguments },
	{ "sudo", NULL, runs_arguments },
	{ "doas", NULL, runs_arguments },
	{ "su", NULL, runs_arguments },
	{ "runuser", NULL, runs_arguments },
	{ "setpriv", NULL, runs_arguments },
	{ "nohup", NULL, runs_arguments },
	{ "nice", NULL, runs_arguments },
	{ "ionice", NULL, runs_arguments },
	{ "chrt", NULL, runs_arguments },
	{ "taskset", NULL, runs_arguments },
	{ "time", NULL, runs_arguments },
	{ "timeout", NULL, runs_arguments },
	{ "xargs", NULL, runs_arguments },
	{ "parallel", NULL, runs_arguments },
	{ "setsid", NULL, runs_arguments },
	{ "stdbuf", NULL, runs_arguments },
	{ "unbuffer", NULL, runs_arguments },
	{ "watch", NULL, runs_arguments },
	{ "strace", NULL, runs_arguments },
	{ "ltrace", NULL, runs_arguments },
	{ "flock", NULL, runs_arguments },
	{ "unshare", NULL, runs_arguments },
	{ "nsenter", NULL, runs_arguments },
	{ "chroot", NULL, runs_arguments },
	{ "script", NULL, runs_arguments },
	{ "busybox", NULL, runs_arguments },
	{ "toybox", NULL, runs_arguments },
	{ "setarch", NULL, runs_arguments },
	{ "linux32", NULL, runs_arguments },
	{ "linux64", NULL, runs_arguments },
	{ "i386", NULL, runs_arguments },
	{ "x86_64", NULL, runs_arguments },
	{ "prlimit", NULL, runs_arguments },
	{ "choom", NULL, runs_arguments },
	{ "uclampset", NULL, runs_arguments },
	{ "pkexec", NULL, runs_arguments },
	{ "runcon", NULL, runs_arguments },
	{ "capsh", NULL, runs_arguments },
	{ "gosu", NULL, runs_arguments },
	{ "fakeroot", NULL, runs_arguments },
	{ "bwrap", NULL, runs_arguments },
	{ "systemd-run", NULL, runs_arguments },
	{ "start-stop-daemon", NULL, runs_arguments },
	{ "run-parts", NULL, runs_arguments },
	{ "ssh", NULL, runs_arguments },
	{ "gdb", NULL, runs_arguments },
	{ "valgrind", NULL, runs_arguments },
	{ "perf", NULL, runs_arguments },
	{ "expect", NULL, runs_arguments },
	{ "exec", NULL, runs_arguments },
	{ "command", NULL, runs_arguments },
	{ "builtin", NULL, runs_arguments },
	{ "coproc", NULL, runs_arguments },
	{ "find", find_runs, runs_arguments },
	{ "jobs", any_option, runs_arguments },
	{ "mapfile", NULL, runs_text },
	{ "readarray", NULL, runs_text },
	{ "compgen", NULL, runs_text },
	{ "let", NULL, runs_text },
	{ "printf", names_variable, changes_meaning },
	{ "test", names_variable, changes_meaning },
	{ "[", names_variable, changes_meaning },
	{ "unset", NULL, changes_meaning },
	{ "getopts", NULL, changes_meaning },
	{ "shopt", NULL, changes_meaning },
	{ "wait", any_option, changes_meaning },
	{ "eval", NULL, runs_text },
	{ "trap", NULL, runs_text },
	{ ".", NULL, runs_script },
	{ "source", NULL, runs_script },
	{ "sh", NULL, runs_script },
	{ "bash", NULL, runs_script },
	{ "dash", NULL, runs_script },
	{ "ash", NULL, runs_script },
	{ "zsh", NULL, runs_script },
	{ "ksh", NULL, runs_script },
	{ "mksh", NULL, runs_script },
	{ "fish", NULL, runs_script },
	{ "rbash", NULL, runs_script },
	{ "yash", NULL, runs_script },
	{ "alias", NULL, changes_meaning },
	{ "export", NULL, changes_meaning },
	{ "declare", NULL, changes_meaning },
	{ "typeset", NULL, changes_meaning },
	{ "readonly", NULL, changes_meaning },
	{ "local", NULL, changes_meaning },
	{ "read", NULL, changes_meaning },
	{ "hash", NULL, changes_meaning },
	{ "enable", NULL, changes_meaning },
	{ "function", NULL, changes_meaning },
	{ "[[", NULL, only_bash },
};

/* A computed argument may be any: for x in -exec; do find . $x ... */
static bool
may_have_argument(const struct shell_command *c, const char *const *wanted)
{
	for (size_t i = 1; i < c->argc; i++)
		for (size_t k = 0; wanted[k] != NULL; k++)
			if (str_starts(c->argv[i], wanted[k]))
				return true;
	return c->dynamic;
}

bool
shell_is_program(struct str word, const char *name)
{
	for (size_t i = word.n; i > 0; i--)
		if (word.p[i - 1] == '/')
			return str_is(str_sub(word, i, word.n), name);
	return str_is(word, name);
}

static const char *
why_of(struct str word)
{
	for (size_t i = 0; i < ARRAY_LEN(wrappers); i++)
		if (shell_is_program(word, wrappers[i].name))
			return wrappers[i].why;
	return NULL;
}

bool
shell_runs_text(struct str word)
{
	const char *why = why_of(word);

	return why == runs_text || why == runs_script;
}

bool
shell_runs_input(const struct shell_command *c)
{
	if (why_of(c->argv[0]) != runs_script)
		return false;
	for (size_t i = 1; i < c->argc; i++) {
		struct str word = c->argv[i];

		if (str_starts(word, "/dev/") || str_starts(word, "/proc/") || str_is(word, "-") ||
			str_is(word, "-s"))
			return true;
		if (!str_starts(word, "-") && !str_starts(word, "+"))
			return false;
	}
	return true;
}

const char *
shell_wrapper(const struct shell_command *c)
{
	for (size_t i = 0; i < ARRAY_LEN(wrappers); i++) {
		const struct wrapper *w = &wrappers[i];

		if (shell_is_program(c->argv[0], w->name) &&
			(w->only_with == NULL || may_have_argument(c, w->only_with)))
			return w->why;
	}
	return NULL;
}
