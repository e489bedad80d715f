/* SPDX-License-Identifier: MIT
 * The shell parser: which commands it finds, what it calls opaque, what it refuses, and that it
 * reads words as sh does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/limits.h"
#include "policy/shell.h"

/* "git,push / ls > out < in" and '?' after the first word that is not fixed. */
static void
render(const struct shell_script *s, struct buf *b)
{
	buf_reset(b);
	for (size_t i = 0; i < s->n; i++) {
		const struct shell_command *c = &s->commands[i];

		buf_add_z(b, i > 0 ? " / " : "");
		for (size_t k = 0; k < c->argc; k++) {
			buf_add_z(b, k > 0 ? "," : "");
			buf_add_str(b, c->argv[k]);
			buf_add_z(b, k == c->fixed ? "?" : "");
		}
		assert_int_equal(c->dynamic, c->fixed < c->argc);
	}
	for (size_t i = 0; i < s->writes_n; i++)
		buf_printf(b, " > %.*s", STR_FMT(s->writes[i]));
	for (size_t i = 0; i < s->reads_n; i++)
		buf_printf(b, " < %.*s", STR_FMT(s->reads[i]));
}

struct sample {
	const char *script, *found;
	bool is_opaque;
};

static const struct sample samples[] = {
	{ "ls -la /tmp", "ls,-la,/tmp", false },
	{ "  ls  ", "ls", false },
	{ "", "", false },
	{ "# only a comment\n", "", false },
	{ "echo a#b # c; rm x", "echo,a#b", false },
	{ "ls && id", "ls / id", false },
	{ "ls||id;pwd&date", "ls / id / pwd / date", false },
	{ "a | b |\n c", "a / b / c", false },
	{ "! grep -q x f", "grep,-q,x,f", false },
	{ "(cd x; make) > log", "cd,x / make > log", false },
	{ "{ a; b; } >>log 2>&1", "a / b > log", false },
	{ "if a; then b; elif c; then d; else e; fi", "a / b / c / d / e", false },
	{ "while a; do b; done; until c; do d; done", "a / b / c / d", false },
	{ "for f in x y; do cat $f; done", "cat,$f?", false },
	{ "for f\ndo\ncat \"$f\"\ndone", "cat,$f?", false },
	{ "case $x in a|b) one;; (c) two ;; *) three; esac", "one / two / three", false },
	{ "case x in esac", "", false },
	{ "git\\\n push", "git,push", false },
	{ "g\\\nit push", "git,push", false },
	{ "ls &\\\n& id", "ls / id", false },
	{ "'git' \"pu\"sh", "git,push", false },
	{ "cmd <in >out 2>/dev/null", "cmd > out > /dev/null < in", false },
	{ "cmd >|out 3<>rw", "cmd > out > rw", false },
	{ "cmd &>both", "cmd > both", false },
	{ "cmd >&both", "cmd > both", false },
	{ "cmd >&- 2>&1 <&3", "cmd", false },
	{ "cp 2 3", "cp,2,3", false },
	{ "ls *.c", "ls,*.c?", false },
	{ "ls [a-c].c x[y]", "ls,[a-c].c?,x[y]", false },
	{ "[ -f x ] && y", "[,-f,x,] / y", false },
	{ "ls '*.c' \\*.c", "ls,*.c,*.c", false },
	{ "ls ~/x a~b", "ls,~/x?,a~b", false },
	{ "echo {a,b} {} {x", "echo,{a,b}?,{},{x", false },
	{ "echo $((1 + 2)) $n ${n} ${n:-x y}", "echo,$((1 + 2))?,$n,${n},${n:-x y}", false },
	{ "echo \"a $n b\" 'c $n'", "echo,a $n b?,c $n", false },
	{ "echo $ a$ \"$\"", "echo,$,a$,$", false },
	{ "if true; then echo if then fi; fi", "true / echo,if,then,fi", false },
	{ "echo }", "echo,}", false },
	/* opaque, but what is inside is found */
	{ "echo $(git push)", "git,push / echo,$(git push)?", true },
	{ "echo `git push`", "git,push / echo,`git push`?", true },
	{ "echo \"x `git \\`id\\`` y\"", "id / git,`id`? / echo,x `git \\`id\\`` y?", true },
	{ "echo \"$(git push \")\")\"", "git,push,) / echo,$(git push \")\")?", true },
	{ "echo ${x:-$(git push)}", "git,push / echo,${x:-$(git push)}?", true },
	{ "echo $((1 + $(git push)))", "git,push / echo,$((1 + $(git push)))?", true },
	{ "echo $((git push); id)", "git,push / id / echo,$((git push); id)?", true },
	{ "diff <(git push) >(id)", "git,push / id / diff,<(git push)?,>(id)", true },
	{ "$cmd push", "$cmd?,push", true },
	{ "/bin/l? x", "/bin/l??,x", true },
	{ "PATH=. ls", "ls", true },
	{ "x=1", "", true },
	{ "x+=1 ls", "ls", true },
	{ "for PATH in .; do ls; done", "ls", true },
	{ "ls() { rm x; }; ls", "rm,x / ls", true },
	{ "env git push", "env,git,push", true },
	{ "/usr/bin/sudo git push", "/usr/bin/sudo,git,push", true },
	{ "sh -c 'git push'", "sh,-c,git push", true },
	{ "find . -exec rm {} \\;", "find,.,-exec,rm,{},;", true },
	{ "find . -name x", "find,.,-name,x", false },
	{ "eval x", "eval,x", true },
	{ "cat <<EOF\n$(git push)\nEOF\nid", "git,push / cat / id", true },
	{ "cat <<'EOF'\n$(git push)\nEOF\nid", "cat / id", true },
	{ "cat <<-E1 <<E2\n\tone\n\tE1\ntwo\nE2\nid", "cat / id", true },
	{ "cat <<EOF", "cat", true },
	{ "cat <<< word", "cat", true },
	{ "echo x > $f", "echo,x > $f", true },
	{ "echo $'a' $\"b\"", "echo,a,b", true },
	{ "$'\\x67it' $'p\\165\\x73h\\n' $'\\u0061\\U0001f600\\'\\cA' $'a\\0b'c",
		"git,push\n,a\xf0\x9f\x98\x80'\x01,ac", true },
	{ "echo $'\\''; git push #'", "echo,' / git,push", true },
	{ "echo ${x:-$'\\''}; git push #'", "echo,${x:-$'\\''}? / git,push", true },
	{ "a[0]=1 git push", "git,push", true },
	{ "a[x]+=1 b[$(id)]=2 ls", "id / ls", true },
	{ "[[ -f x ]]", "[[,-f,x,]]", true },
	{ "((x))", "x", true },
	{ "a |& b", "a / b", true },
	/* what bash runs, or what assigns, although no substitution is written */
	{ "ls $((x))", "ls,$((x))?", true },
	{ "ls $((1 + $1))", "ls,$((1 + $1))?", true },
	{ "ls ${!x}", "ls,${!x}?", true },
	{ "ls ${x@P}", "ls,${x@P}?", true },
	{ "ls ${x:y}", "ls,${x:y}?", true },
	{ "ls ${x[y]}", "ls,${x[y]}?", true },
	{ "ls \"${x/a/b}\"", "ls,${x/a/b}?", true },
	{ ": ${x:=y}", ":,${x:=y}?", true },
	{ ": ${x=y}", ":,${x=y}?", true },
	{ "ls ${#x} ${#} ${x%.c} ${x##*/} ${1:-a} ${x:+b} ${x?c} ${@} ${!}",
		"ls,${#x}?,${#},${x%.c},${x##*/},${1:-a},${x:+b},${x?c},${@},${!}", false },
	{ "find . $x id", "find,.,$x?,id", true },
	{ "printf -va x", "printf,-va,x", true },
	{ "printf %s x", "printf,%s,x", false },
	{ "test -v x", "test,-v,x", true },
	{ "jobs -x ls", "jobs,-x,ls", true },
	{ "wait", "wait", false },
	{ "! ! ls", "ls", false },
};

static void
test_commands(void **state)
{
	struct buf b;

	buf_init(&b, MIB);
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		struct arena *a = arena_new(4 * MIB);
		struct shell_script s;
		struct err e = { 0 };

		if (shell_parse(str_of(samples[i].script), a, &s, &e) != 0)
			fail_msg("%s: %s", samples[i].script, e.msg);
		render(&s, &b);
		if (!str_is(buf_str(&b), samples[i].found) || s.opaque != samples[i].is_opaque)
			fail_msg("%s: found '%s', opaque %d (%s)", samples[i].script, buf_z(&b),
				s.opaque, s.why_opaque ? s.why_opaque : "");
		assert_int_equal(s.opaque, s.why_opaque != NULL);
		arena_free(a);
	}
	buf_fini(&b);
}

/* Not valid shell: an error, and yet the commands are found. */
static const struct sample mistakes[] = {
	{ "echo 'a", "echo,a", true },
	{ "echo \"a", "echo,a", true },
	{ "git push; echo `a", "git,push / a / echo,`a?", true },
	{ "echo $(git push", "git,push / echo,$(git push?", true },
	{ "echo ${a", "echo,${a?", true },
	{ "git push; fi", "git,push", true },
	{ "a=(x); git push", "x / git,push", true },
	{ "if a; git push", "a / git,push", true },
	{ ") git push", "git,push", true },
	{ "a && && git push", "a / git,push", true },
	{ "function f { git push; }", "function,f,{,git,push", true },
	{ "select x in a; do git push; done", "select,x,in,a / git,push", true },
	{ "ls |", "ls", true },
	{ "case x in a) git push", "git,push", true },
	{ "while a; do git push", "a / git,push", true },
	{ "> ; git push", "git,push", true },
};

static void
test_mistakes(void **state)
{
	struct buf b;

	buf_init(&b, MIB);
	for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
		struct arena *a = arena_new(4 * MIB);
		struct shell_script s = { .n = 77 };
		struct err e = { 0 };

		assert_int_equal(shell_parse(str_of(mistakes[i].script), a, &s, &e), ERR_INVALID);
		assert_int_equal(s.n, 77); /* a failure leaves the result untouched */
		assert_true(str_starts(str_of(e.msg), "shell script: "));
		assert_int_equal(shell_scan(str_of(mistakes[i].script), a, &s, &e), ERR_INVALID);
		render(&s, &b);
		if (!str_is(buf_str(&b), mistakes[i].found) || !s.opaque)
			fail_msg("%s: found '%s'", mistakes[i].script, buf_z(&b));
		arena_free(a);
	}
	buf_fini(&b);
}

static void
test_limits(void **state)
{
	struct arena *a = arena_new(16 * MIB);
	struct shell_script s;
	struct buf b;
	struct err e = { 0 };

	buf_init(&b, MIB);
	for (size_t i = 0; i < SHELL_DEPTH_MAX + 1; i++)
		buf_add_z(&b, "(");
	assert_int_equal(shell_parse(buf_str(&b), a, &s, &e), ERR_LIMIT);
	buf_reset(&b);
	while (b.n <= SHELL_TEXT_MAX)
		buf_add_z(&b, "ls;");
	assert_int_equal(shell_parse(buf_str(&b), a, &s, &e), ERR_LIMIT);
	buf_truncate(&b, SHELL_TEXT_MAX / 3 * 3);
	assert_int_equal(shell_parse(buf_str(&b), a, &s, &e), 0);
	assert_int_equal(s.n, SHELL_TEXT_MAX / 3);
	assert_int_equal(shell_parse((struct str){ "ls\0id", 5 }, a, &s, &e), ERR_INVALID);
	arena_free(a);
	a = arena_new(64 * KIB); /* the caller's maximum is a limit too */
	assert_int_equal(shell_parse(buf_str(&b), a, &s, &e), ERR_LIMIT);
	arena_free(a);
	buf_fini(&b);
}

/* What printf prints when sh splits and unquotes the words. */
static void
run_sh(const char *words, struct buf *out)
{
	int fd[2];
	pid_t pid;
	ssize_t n;
	int status;
	char script[512], piece[512];

	assert_int_equal(pipe(fd), 0);
	snprintf(script, sizeof(script), "printf '<%%s>' %s", words);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fd[1], 1);
		close(fd[0]);
		close(fd[1]);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	while ((n = read(fd[0], piece, sizeof(piece))) > 0)
		buf_add(out, piece, (size_t)n);
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_words_as_sh(void **state)
{
	static const char *const words[] = {
		"a b",
		"'a b' c",
		"\"a b\" c",
		"a\\ b",
		"a''b",
		"''",
		"\"\"",
		"'a'\"b\"c",
		"\\a\\b",
		"\"\\a\\\"\\\\\\$\"",
		"'\\'",
		"\"'\" '\"'",
		"a\\\nb",
		"\"a\\\nb\"",
		"'a\\\nb'",
		"a\tb",
		"a#b",
		"x '#y'",
		"\\#",
		"a=b c=d",
		"'$x' \\$x \"\\$x\"",
		"\"\\`\"",
		"a\\;b",
		"';'\"|\"\\&",
		"{} { }",
		"-- -x --y=z",
		"'a\nb'",
		"\"a\nb\"",
		"a\\",
		"\\\\",
		"\\'",
		"\"a'b'c\"",
		"!",
		"a!b",
		"%s",
		"if then",
		"1 2",
		"a1>/dev/stdout b",
		"\xc3\xa4 '\xc3\xb6'",
		"a\rb",
		"]",
		"a]b",
		"=",
		"==",
		"a:b",
		"@ + , ^",
		"\"$\" $",
	};
	struct buf theirs, ours;

	buf_init(&theirs, MIB);
	buf_init(&ours, MIB);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct arena *a = arena_new(MIB);
		char script[512];
		struct shell_script s;
		struct err e = { 0 };

		buf_reset(&theirs);
		buf_reset(&ours);
		run_sh(words[i], &theirs);
		snprintf(script, sizeof(script), "printf '<%%s>' %s", words[i]);
		assert_int_equal(shell_parse(str_of(script), a, &s, &e), 0);
		assert_int_equal(s.n, 1);
		assert_false(s.commands[0].dynamic);
		for (size_t k = 2; k < s.commands[0].argc; k++)
			buf_printf(&ours, "<%.*s>", STR_FMT(s.commands[0].argv[k]));
		assert_string_equal(buf_z(&ours), buf_z(&theirs));
		arena_free(a);
	}
	buf_fini(&theirs);
	buf_fini(&ours);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_words_as_sh),
	};

	return cmocka_run_group_tests_name("policy/shell", tests, NULL, NULL);
}
