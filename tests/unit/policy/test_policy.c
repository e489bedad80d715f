/* SPDX-License-Identifier: MIT
 * Rules and decisions: what each form matches and never matches, that deny wins whatever the order,
 * that no rule is silently dead, what the modes decide alone, "always", and the explanation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/limits.h"
#include "policy/policy.h"

/* Rules as YAML flow lists; NULL: none. */
static int
make(const char *allow, const char *ask, const char *deny, struct config **c, struct policy **p,
	struct err *e)
{
	static const char *const names[] = { "allow", "ask", "deny" };
	const char *lists[] = { allow, ask, deny };
	char flags[3][4096];
	const char *ptrs[4] = { NULL };
	struct config_sources src = { .system_file = "/nonexistent/config.yaml", .flags = ptrs };
	size_t n = 0;

	for (size_t i = 0; i < 3; i++) {
		if (lists[i] == NULL)
			continue;
		snprintf(flags[n], sizeof(flags[n]), "permissions.%s=%s", names[i], lists[i]);
		ptrs[n] = flags[n];
		n++;
	}
	*e = (struct err){ 0 };
	if (config_load(&src, c, e) != 0)
		fail_msg("%s", e->msg);
	return policy_new(*c, p, e);
}

static struct policy *
must_make(const char *allow, const char *ask, const char *deny)
{
	struct policy *p = NULL;
	struct config *c;
	struct err e;

	if (make(allow, ask, deny, &c, &p, &e) != 0)
		fail_msg("%s", e.msg);
	config_unref(c); /* a policy keeps what it needs */
	return p;
}

static enum decision
ask_policy(const struct policy *p, enum mode mode, enum subject s, const char *tool,
	const char *target)
{
	const struct policy_request r = {
		.subject = s, .tool = str_of(tool), .target = str_of(target), .mode = mode
	};
	struct verdict v;

	policy_decide(p, &r, &v);
	assert_true(v.rule[0] != '\0' && v.origin[0] != '\0' && v.reason[0] != '\0');
	return v.decision;
}

/* In danger_full_access everything is asked for, so that an allow rule shows. */
static bool
exec_allowed(const char *rules, const char *script)
{
	struct policy *p = must_make(rules, NULL, NULL);
	enum decision d = ask_policy(p, MODE_DANGER_FULL_ACCESS, SUBJECT_EXEC, "exec", script);

	assert_int_not_equal(d, DECIDE_DENY);
	policy_free(p);
	return d == DECIDE_ALLOW;
}

static bool
denied(const char *rules, enum subject s, const char *tool, const char *target)
{
	struct policy *p = must_make("[Exec, Read, Write, Fetch]", NULL, rules);
	enum decision d = ask_policy(p, MODE_WORKSPACE_WRITE, s, tool, target);

	assert_int_not_equal(d, DECIDE_ASK);
	policy_free(p);
	return d == DECIDE_DENY;
}

struct pair {
	const char *rule, *script;
	bool expected;
};

static const struct pair allows[] = {
	{ "[Exec(ls *)]", "ls", true },
	{ "[Exec(ls *)]", "ls -la /tmp", true },
	{ "[Exec(ls)]", "ls", true },
	{ "[Exec(ls)]", "ls -la", false },
	/* a value that bash would run, and an option that is computed */
	{ "[Exec(ls *)]", "for x in 'a[$(id)]'; do ls $((x)); done", false },
	{ "[Exec(ls *)]", "for x in 'a[$(id)]'; do ls ${!x}; done", false },
	{ "[Exec(ls *)]", "for x in '$(id)'; do ls ${x@P}; done", false },
	{ "[Exec(ls *)]", "for x in a b; do ls ${x} $((1 + 2)); done", true },
	{ "[Exec(find *)]", "for x in -exec; do find . $x id \\;; done", false },
	{ "[Exec(find *)]", "find . -name x", true },
	{ "[Exec(printf *)]", "printf -v 'a[$(id)]' x", false },
	{ "[Exec(git push *)]", "git push", true },
	{ "[Exec(git push *)]", "git push origin main", true },
	{ "[Exec(git push *)]", "git pushx", false },
	{ "[Exec(git push *)]", "'git push' x", false }, /* one word is not two */
	{ "[Exec(git push *)]", "git -C x push", false },
	{ "[Exec(git * push)]", "git -C x push", true },
	{ "[Exec(git * push)]", "git push", true },
	{ "[Exec(make test-*)]", "make test-unit", true },
	{ "[Exec(make test-*)]", "make test-unit clean", false }, /* inside a word * stays in it */
	{ "[Exec(echo 'a b' \\*)]", "echo 'a b' '*'", true },
	{ "[\"Exec(echo 'a b' \\\\*)\"]", "echo 'a b' x", false },
	{ "[\"Exec(cmd ';')\"]", "cmd \\;", true },
	{ "[Exec(*)]", "ls && id", true },
	{ "[Exec]", "eval $x", true },
	/* the rest of a script is not forgotten */
	{ "[Exec(ls *)]", "ls && id", false },
	{ "[Exec(ls *)]", "ls; id", false },
	{ "[Exec(ls *)]", "ls & id", false },
	{ "[Exec(ls *)]", "ls | id", false },
	{ "[Exec(ls *)]", "ls\nid", false },
	{ "[Exec(ls *)]", "ls || id", false },
	{ "[Exec(ls *)]", "(ls; id)", false },
	{ "[Exec(ls *)]", "if ls; then id; fi", false },
	{ "[Exec(ls *)]", "lsblk", false },
	{ "[Exec(ls *)]", "/tmp/evil/ls", false }, /* not the ls that was meant */
	{ "[Exec(ls *), Exec(id)]", "ls && id", true },
	{ "[Exec(ls *)]", "ls 'a && id'", true },
	{ "[Exec(ls *)]", "ls \"; id\"", true },
	/* opaque */
	{ "[Exec(ls *)]", "ls $(id)", false },
	{ "[Exec(ls *)]", "ls `id`", false },
	{ "[Exec(ls *)]", "ls <(id)", false },
	{ "[Exec(ls *)]", "PATH=. ls", false },
	{ "[Exec(ls *)]", "ls() { id; }; ls", false },
	{ "[Exec(ls *)]", "ls <<EOF\nEOF", false },
	{ "[Exec(ls *)]", "ls 'x", false },
	{ "[Exec(ls *)]", "alias ls=id\nls", false },
	{ "[Exec(env *)]", "env ls", false },
	{ "[Exec(sh *)]", "sh -c ls", false },
	{ "[Exec(find *)]", "find . -exec rm {} +", false },
	{ "[Exec(find *)]", "find . -name x", true },
	{ "[Exec(xargs *)]", "xargs rm", false },
	/* computed words are taken only by a last * */
	{ "[Exec(ls *)]", "ls *.c $HOME", true },
	{ "[Exec(ls *)]", "ls -l *.c", true },
	{ "[Exec(ls -l *)]", "ls $x", false },
	{ "[Exec(ls * x)]", "ls $y x", false },
	{ "[Exec(make test-*)]", "make test-$x", false },
	{ "['Exec(echo \"$x\")']", "echo $x", false },
	/* files that a redirection writes are a question of their own */
	{ "[Exec(ls *)]", "ls > out", false },
	{ "[Exec(ls *)]", "ls > /dev/null 2>&1", true },
	{ "[Exec(ls *), Write(/shared/out)]", "ls > out", true },
	{ "[Exec(ls *), Write(/shared/out)]", "ls > ../etc/out", false },
	{ "[Exec(ls *), Write(/shared/**)]", "ls > /shared/../etc/passwd", false },
	{ "[Exec(ls *)]", "", false },
	{ "[exec(ls *)]", "ls x", true }, /* the tool's name */
	{ "[job(ls *)]", "ls x", false },
	{ "[Write]", "ls", false },
};

static void
test_exec_allow(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(allows); i++)
		if (exec_allowed(allows[i].rule, allows[i].script) != allows[i].expected)
			fail_msg("%s on '%s' should be %d", allows[i].rule, allows[i].script,
				allows[i].expected);
}

static const struct pair denies[] = {
	{ "[Exec(git push *)]", "git push", true },
	{ "[Exec(git push *)]", "git pull", false },
	{ "[Exec(git push *)]", "ls; git push origin", true },
	{ "[Exec(git push *)]", "ls && (cd x && git push)", true },
	{ "[Exec(git push *)]", "\"git\" 'pu'sh", true },
	{ "[Exec(git push *)]", "git \\\n push", true },
	{ "[Exec(git push *)]", "/usr/bin/git push", true },
	{ "[Exec(git push *)]", "echo git push", false },
	{ "[Exec(git push *)]", "echo 'git push'", false },
	{ "[Exec(git push *)]", "X=1 git push", true },
	{ "[Exec(git push *)]", "git push > log", true },
	{ "[Exec(git push *)]", "git push &", true },
	{ "[Exec(git push *)]", "! git push", true },
	{ "[Exec(git push *)]", "for r in a b; do git push $r; done", true },
	{ "[Exec(git push *)]", "f() { git push; }; f", true },
	{ "[Exec(git push *)]", "echo $(git push)", true },
	{ "[Exec(git push *)]", "echo \"`git push`\"", true },
	{ "[Exec(git push *)]", "cat <(git push)", true },
	{ "[Exec(git push *)]", "echo ${x:-$(git push)}", true },
	{ "[Exec(git push *)]", "echo $(( $(git push) ))", true },
	/* looking through what runs its arguments */
	{ "[Exec(git push *)]", "env git push", true },
	{ "[Exec(git push *)]", "env A=1 -u B git push", true },
	{ "[Exec(git push *)]", "sudo -u root git push", true },
	{ "[Exec(git push *)]", "nohup nice -n 5 timeout 5 git push", true },
	{ "[Exec(git push *)]", "time git push", true },
	{ "[Exec(git push *)]", "command git push", true },
	{ "[Exec(git push *)]", "exec git push", true },
	{ "[Exec(git push *)]", "echo main | xargs git push origin", true },
	{ "[Exec(git push *)]", "find . -exec git push {} \\;", true },
	{ "[Exec(git push *)]", "sh -c 'git push'", true },
	{ "[Exec(git push *)]", "sh -c 'sh -c \"git push\"'", true },
	{ "[Exec(git push *)]", "env sh -c 'ls; git push'", true },
	{ "[Exec(git push *)]", "bash -lc \"git push\"", true },
	{ "[Exec(git push *)]", "eval git push", true },
	{ "[Exec(git push *)]", "eval 'git' 'push; ls'", true },
	{ "[Exec(git push *)]", "trap 'git push' EXIT", true },
	{ "[Exec(git push *)]", "sh <<EOF\ngit push\nEOF", true },
	{ "[Exec(git push *)]", "cat <<EOF\ngit push\nEOF", false }, /* only text */
	{ "[Exec(rm *)]", "rm", true },
	{ "[Exec(rm *)]", "rmdir x", false },
	{ "[Exec(rm -rf *)]", "rm -rf /", true },
	{ "[Exec(* --force *)]", "git push --force", true },
	{ "[Exec(*)]", "ls", true },
	{ "[Exec]", "ls", true },
	{ "[Exec(git push *)]", "! ! git push", true },
	{ "[Exec(git push *)]", "alias x='git push'\nx", true },
	{ "[Exec(git push *)]", "env -S'git push'", true },
	/* not valid shell: what was understood counts */
	{ "[Exec(git push *)]", "git push; echo 'x", true },
	{ "[Exec(git push *)]", "fi; git push", true },
	{ "[Exec(git push *)]", "function f { git push; }", true },
	/* redirections */
	{ "[Write(/shared/keep/**)]", "echo x > keep/a", true },
	{ "[Write(/shared/keep/**)]", "echo x >> /shared/keep/../keep/a", true },
	{ "[Write(/shared/keep/**)]", "cat keep/a", false },
	{ "[Write]", "echo x > a", true },
	{ "[Write]", "echo x > /dev/null", false },
	{ "[Read(/shared/secret/**)]", "cat < secret/a", true },
	{ "[Read(/shared/secret/**)]", "cat secret/a", true },
	{ "[Read(/shared/secret/**)]", "cp -r ./secret /tmp", true },
	{ "[Read(/shared/secret/**)]", "dd if=secret/a", true },
	{ "[Read(/shared/secret/**)]", "sh -c 'cat secret/a'", true },
	{ "[Read(/shared/secret/**)]", "ls", false },
	{ "[Read]", "ls", false },
	{ "[exec(git push *)]", "git push", true },
	/* what bash reads otherwise than it looks */
	{ "[Exec(git push *)]", "a[0]=1 git push", true },
	{ "[Exec(git push *)]", "$'git' push", true },
	{ "[Exec(git push *)]", "$'\\x67it' $\"push\"", true },
	{ "[Exec(git push *)]", "$'git\\0x' push", true },
	{ "[Exec(git push *)]", "echo $'\\''; git push #'", true },
	{ "[Exec(git push *)]", "echo ${x:-$'\\''}; git push #'", true },
	{ "[Exec(git push *)]", "setarch x86_64 git push", true },
	{ "[Exec(git push *)]", "prlimit --nofile=9 git push", true },
	/* redirections of a script inside an argument */
	{ "[Write(/shared/keep/**)]", "sh -c 'echo x > keep/a'", true },
	{ "[Write(/shared/keep/**)]", "sh -c 'echo x > other/a'", false },
	{ "[Read(/shared/secret/**)]", "sh -c 'cat < secret/a'", true },
};

static void
test_exec_deny(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(denies); i++)
		if (denied(denies[i].rule, SUBJECT_EXEC, "exec", denies[i].script) !=
			denies[i].expected)
			fail_msg("%s on '%s' should be %d", denies[i].rule, denies[i].script,
				denies[i].expected);
}

/* Words that are known only when it runs, and options that stand between the words of a rule. */
static const struct pair possibles[] = {
	{ "[Exec(git push *)]", "git $x", true },
	{ "[Exec(git push *)]", "git \"$x\"", true },
	{ "[Exec(git push *)]", "$x", true },
	{ "[Exec(git push *)]", "$x push", true },
	{ "[Exec(git push *)]", "git p$x origin", true },
	{ "[Exec(git push *)]", "git pus*", true },
	{ "[Exec(git push *)]", "/usr/bin/g?t push", true },
	{ "[Exec(git push *)]", "git {push,origin}", true },
	{ "[Exec(git push *)]", "g{it,} push", true },
	{ "[Exec(git push *)]", "git $(cat x)", true },
	{ "[Exec(git push *)]", "g() { git \"$@\"; }; g x", true },
	{ "[Exec(git push *)]", "git q$x", false },
	{ "[Exec(git push *)]", "git pull $x", false },
	{ "[Exec(git push *)]", "ls $x *.c {a,b}", false },
	{ "[Exec(git push *)]", "gcc -c *.c", false },
	{ "[Exec(id)]", "i$x", true },
	{ "[Exec(id)]", "id x$y", false },
	{ "[Exec(* --force *)]", "git push $x", true },
	{ "[\"Exec(a \\\\* b)\"]", "a $x b", true },
	{ "[\"Exec(a \\\\* b)\"]", "a c$x b", false },
	/* through what runs its arguments */
	{ "[Exec(git push *)]", "sudo $x", true },
	{ "[Exec(git push *)]", "timeout 5 git $x", true },
	{ "[Exec(git push *)]", "timeout 5 python3 $x", false },
	{ "[Exec(git push *)]", "time make -j$(nproc)", false },
	{ "[Exec(git push *)]", "eval \"$x\"", true },
	{ "[Exec(git push *)]", "timeout 5 sh -c \"$x\"", true },
	{ "[Exec(git push *)]", "sh -c 'git $x'", true },
	/* words and scripts that come from elsewhere */
	{ "[Exec(git push *)]", "echo push | xargs git", true },
	{ "[Exec(git push *)]", "cat x | xargs", true },
	{ "[Exec(git push *)]", "cat x | xargs grep y", false },
	{ "[Exec(git push *)]", "cat x | sh", true },
	{ "[Exec(git push *)]", "cat x | bash -s", true },
	{ "[Exec(git push *)]", "cat x | . /dev/stdin", true },
	{ "[Exec(git push *)]", "sh x", false },
	{ "[Exec(git push *)]", ". venv/bin/activate", false },
	{ "[Exec(git push *)]", "sh <<E\nls\nE", false },
	/* options between the words */
	{ "[Exec(git push *)]", "git -C x push", true },
	{ "[Exec(git push *)]", "git --git-dir=x --work-tree y push z", true },
	{ "[Exec(git push *)]", "git -c a=b commit -m push", false },
	{ "[Exec(git push *)]", "git commit -m push", false },
	{ "[Exec(git push *)]", "-x git push", false },
	/* files */
	{ "[Write(keep/**)]", "echo x > $f", true },
	{ "[Write(keep/**)]", "echo x > ke*/a", true },
	{ "[Write(keep/**)]", "sh -c 'echo x > $f'", true },
	{ "[Write(keep/**)]", "cat < $f", false },
	{ "[Write(keep/**)]", "echo x > a", false },
};

static void
test_exec_possible(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(possibles); i++) {
		const struct pair *c = &possibles[i];
		struct policy *deny = must_make("[Exec, Write]", NULL, c->rule),
			      *ask = must_make("[Exec, Write]", c->rule, NULL);
		struct policy_request r = { .subject = SUBJECT_EXEC,
			.tool = STR("exec"),
			.target = str_of(c->script),
			.mode = MODE_WORKSPACE_WRITE };
		struct verdict v;

		policy_decide(deny, &r, &v);
		if (v.decision != (c->expected ? DECIDE_ASK : DECIDE_ALLOW))
			fail_msg("%s on '%s' gave %s", c->rule, c->script,
				decision_name(v.decision));
		policy_decide(ask, &r, &v);
		assert_int_equal(v.decision, c->expected ? DECIDE_ASK : DECIDE_ALLOW);
		/* --yes answers what is asked, and never what may be denied. */
		r.yes = true;
		policy_decide(deny, &r, &v);
		assert_int_equal(v.decision, c->expected ? DECIDE_DENY : DECIDE_ALLOW);
		policy_decide(ask, &r, &v);
		assert_int_equal(v.decision, DECIDE_ALLOW);
		policy_free(deny);
		policy_free(ask);
	}
}

struct path_sample {
	const char *rule;
	enum subject subject;
	const char *tool, *path;
	bool expected;
};

static const struct path_sample paths[] = {
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "/shared/secret/a/b", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "secret/a", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "/shared/x/../secret/a", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "./secret//a", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "/shared/secrets/a", false },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "read", "/secret/a", false },
	{ "[Read(/shared/secret/**)]", SUBJECT_WRITE, "write", "secret/a", false },
	{ "[Read(secret/**)]", SUBJECT_READ, "read", "/shared/secret/a", true },
	{ "[Read(./secret/)]", SUBJECT_READ, "read", "secret", true },
	{ "[Read(*)]", SUBJECT_READ, "read", "/any/thing", true },
	{ "[Read(*.md)]", SUBJECT_READ, "read", "a.md", true },
	{ "[Read(*.md)]", SUBJECT_READ, "read", "d/a.md", false },
	{ "[\"Read(**/*.md)\"]", SUBJECT_READ, "read", "a.md", true },
	{ "[\"Read(**/*.md)\"]", SUBJECT_READ, "read", "d/e/a.md", true },
	{ "[\"Read(**/.env)\"]", SUBJECT_READ, "read", "a/.env", true },
	{ "[\"Read(**/.env)\"]", SUBJECT_READ, "grep", "/shared", false },
	{ "[\"Read(/**/id_*)\"]", SUBJECT_READ, "read", "/home/x/.ssh/id_rsa", true },
	{ "[Read(src/*/x)]", SUBJECT_READ, "read", "src/a/x", true },
	{ "[Read(src/*/x)]", SUBJECT_READ, "read", "src/a/b/x", false },
	{ "[\"Read(a\\\\*b)\"]", SUBJECT_READ, "read", "a*b", true },
	{ "[\"Read(a\\\\*b)\"]", SUBJECT_READ, "read", "axb", false },
	{ "[Write]", SUBJECT_WRITE, "edit", "x", true },
	{ "[edit]", SUBJECT_WRITE, "edit", "x", true },
	{ "[edit]", SUBJECT_WRITE, "write", "x", false },
	{ "[edit(src/**)]", SUBJECT_WRITE, "edit", "src/a", true },
	{ "[edit(src/**)]", SUBJECT_WRITE, "edit", "lib/a", false },
	/* what acts on a whole tree is stopped by a rule about a part of it */
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "grep", "/shared", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "glob", "/", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "grep", "src", false },
	{ "[Read(/shared/secret/*.pem)]", SUBJECT_READ, "list", "secret", true },
	{ "[Read(/shared/secret/**)]", SUBJECT_READ, "stat", "/shared", false },
	{ "[Write(/shared/keep/**)]", SUBJECT_WRITE, "delete", "/shared", true },
	{ "[Write(/shared/keep/**)]", SUBJECT_WRITE, "delete", "keep", true },
	{ "[Write(/shared/keep/**)]", SUBJECT_WRITE, "write", "keep2", false },
	/* hosts */
	{ "[Fetch(*.example.org)]", SUBJECT_FETCH, "fetch", "a.Example.ORG", true },
	{ "[Fetch(*.example.org)]", SUBJECT_FETCH, "fetch", "a.example.org.", true },
	{ "[Fetch(*.example.org)]", SUBJECT_FETCH, "fetch", "example.org", false },
	{ "[Fetch(*.example.org)]", SUBJECT_FETCH, "fetch", "a.example.org.evil.net", false },
	{ "[Mcp(files/*)]", SUBJECT_MCP, "mcp", "files/delete", true },
	{ "[mcp__x]", SUBJECT_MCP, "mcp__x", "files/delete", true },
};

static void
test_paths(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct path_sample *s = &paths[i];
		struct policy *p = must_make("[Exec, Fetch, Mcp]", NULL, s->rule);

		if ((ask_policy(p, MODE_WORKSPACE_WRITE, s->subject, s->tool, s->path) ==
			    DECIDE_DENY) != s->expected)
			fail_msg("%s on %s '%s' should be %d", s->rule, s->tool, s->path,
				s->expected);
		policy_free(p);
	}
}

static void
test_move(void **state)
{
	struct policy *p = must_make(NULL, NULL, "[Read(secret/**), Write(keep/**)]");
	struct policy_request r = {
		.subject = SUBJECT_WRITE, .tool = STR("move"), .mode = MODE_WORKSPACE_WRITE
	};
	static const struct {
		const char *from, *to;
		enum decision d;
	} rows[] = {
		{ "a", "b", DECIDE_ALLOW },
		{ "secret/a", "b", DECIDE_DENY },
		{ "keep/a", "b", DECIDE_DENY },
		{ "a", "keep/b", DECIDE_DENY },
		{ "/shared", "b", DECIDE_DENY },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct verdict v;

		r.target = str_of(rows[i].from);
		r.target2 = str_of(rows[i].to);
		policy_decide(p, &r, &v);
		if (v.decision != rows[i].d)
			fail_msg("move %s %s: %s", rows[i].from, rows[i].to, v.reason);
	}
	policy_free(p);
	/* Both ends need an allowance where the mode asks. */
	p = must_make("[Write(a)]", NULL, NULL);
	r.mode = MODE_DANGER_FULL_ACCESS;
	r.target = STR("a");
	for (size_t i = 0; i < 2; i++) {
		struct verdict v;

		r.target2 = i == 0 ? STR("b") : STR("./a");
		policy_decide(p, &r, &v);
		assert_int_equal(v.decision, i == 0 ? DECIDE_ASK : DECIDE_ALLOW);
	}
	policy_free(p);
}

/* Deny wins over ask, ask over allow, whatever their order and however exact the other rule is. */
static void
test_precedence(void **state)
{
	struct policy *p = must_make("[Exec(ls *), Exec(git push origin main)]", NULL, "[Exec]");

	assert_int_equal(
		ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", "ls -la"), DECIDE_DENY);
	policy_free(p);
	p = must_make("[Exec(git push origin main)]", "[Exec(git push *)]",
		"[Exec(git push * --force *)]");
	assert_int_equal(
		ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", "git push origin main"),
		DECIDE_ASK);
	assert_int_equal(
		ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", "git push --force"),
		DECIDE_DENY);
	assert_int_equal(ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", "ls; git push"),
		DECIDE_ASK);
	assert_int_equal(
		ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", "ls"), DECIDE_ALLOW);
	policy_free(p);
}

static void
test_modes(void **state)
{
	struct policy *none = must_make(NULL, NULL, NULL),
		      *all = must_make("[Read, Write, Exec, Fetch]", NULL, NULL);
	const enum decision A = DECIDE_ALLOW, Q = DECIDE_ASK, D = DECIDE_DENY;
	const struct {
		enum mode m;
		enum subject s;
		const char *target;
		enum decision without, with;
	} rows[] = {
		{ MODE_READ_ONLY, SUBJECT_READ, "x", A, A },
		{ MODE_READ_ONLY, SUBJECT_WRITE, "x", D, D },
		{ MODE_READ_ONLY, SUBJECT_EXEC, "ls > /tmp/x", A, A },
		{ MODE_READ_ONLY, SUBJECT_FETCH, "x", Q, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_READ, "x", A, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_WRITE, "x", A, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "eval $(x) > y", A, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_FETCH, "x", Q, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_SEND, "x", Q, Q },
		{ MODE_WORKSPACE_WRITE, SUBJECT_SCHEDULE, "x", Q, Q },
		{ MODE_WORKSPACE_WRITE, SUBJECT_MCP, "x", Q, Q },
		{ MODE_WORKSPACE_WRITE, SUBJECT_MEMORY, "x", A, A },
		{ MODE_WORKSPACE_WRITE, SUBJECT_DELEGATE, "x", A, A },
		{ MODE_DANGER_FULL_ACCESS, SUBJECT_READ, "x", A, A },
		{ MODE_DANGER_FULL_ACCESS, SUBJECT_WRITE, "x", Q, A },
		{ MODE_DANGER_FULL_ACCESS, SUBJECT_EXEC, "ls", Q, A },
		{ MODE_COUNT, SUBJECT_READ, "x", D, D },
		{ MODE_READ_ONLY, SUBJECT_COUNT, "x", D, D },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (ask_policy(none, rows[i].m, rows[i].s, "t", rows[i].target) !=
				rows[i].without ||
			ask_policy(all, rows[i].m, rows[i].s, "t", rows[i].target) != rows[i].with)
			fail_msg("mode %s, %s", mode_name(rows[i].m), subject_name(rows[i].s));
	}
	policy_free(none);
	policy_free(all);
}

static void
test_yes(void **state)
{
	struct policy *p = must_make(NULL, "[Exec(make *)]", "[Exec(rm *)]");
	struct policy_request r = { .subject = SUBJECT_EXEC,
		.tool = STR("exec"),
		.mode = MODE_WORKSPACE_WRITE,
		.yes = true };
	struct verdict v;

	r.target = STR("make x");
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_ALLOW);
	assert_string_equal(v.rule, "Exec(make *)");
	r.target = STR("make x; rm y");
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY);
	r = (struct policy_request){ .subject = SUBJECT_WRITE,
		.tool = STR("write"),
		.target = STR("x"),
		.yes = true,
		.mode = MODE_READ_ONLY };
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY); /* only inside the mode */
	policy_free(p);
}

static void
test_verdict(void **state)
{
	struct policy *p = must_make(NULL, NULL, "[Exec(rm *)]");
	struct policy_request r = { .subject = SUBJECT_EXEC,
		.tool = STR("exec"),
		.target = STR("ls; rm x"),
		.mode = MODE_WORKSPACE_WRITE };
	struct verdict v;
	struct buf b;

	policy_decide(p, &r, &v);
	assert_string_equal(v.rule, "Exec(rm *)");
	assert_string_equal(v.origin, "command line");
	assert_string_equal(v.reason, "The rule Exec(rm *) denies 'rm'.");
	buf_init(&b, MIB);
	policy_explain(p, &r, &b);
	assert_string_equal(buf_z(&b),
		"request: Exec, tool exec, mode workspace_write\n"
		"command 1: ls\n"
		"command 2: rm x\n"
		"deny  Exec(rm *) (command line): matches 'rm'\n"
		"mode workspace_write: allow by default\n"
		"decision: deny by Exec(rm *) (command line). The rule Exec(rm *) denies 'rm'.\n");
	r.target = STR("ls $(id) > out 'x");
	buf_reset(&b);
	policy_explain(p, &r, &b);
	assert_non_null(strstr(buf_z(&b), "writes: out\n"));
	assert_non_null(strstr(buf_z(&b), "opaque: it has a command substitution"));
	assert_non_null(strstr(buf_z(&b), "parser: shell script: a ' is not closed\n"));
	assert_non_null(
		strstr(buf_z(&b), "decision: allow by mode workspace_write: default (built in)"));
	buf_fini(&b);
	policy_free(p);
}

/* The rule's file and line. */
static void
test_origin(void **state)
{
	struct config_sources src = { .system_file = "/nonexistent/config.yaml" };
	struct policy_request r = {
		.subject = SUBJECT_EXEC, .tool = STR("exec"), .target = STR("rm x")
	};
	struct config *base, *c;
	struct policy *p;
	struct verdict v;
	struct err e = { 0 };

	assert_int_equal(config_load(&src, &base, &e), 0);
	assert_int_equal(config_narrow(base, "ws/.ithaca.yaml",
				 STR("permissions:\n  deny:\n    - Exec(a)\n    - Exec(rm *)\n"),
				 NULL, NULL, &c, &e),
		0);
	assert_int_equal(policy_new(c, &p, &e), 0);
	policy_decide(p, &r, &v);
	assert_string_equal(v.origin, "ws/.ithaca.yaml line 4");
	policy_free(p);
	config_unref(c);
	assert_int_equal(config_narrow(base, "ws/.ithaca.yaml",
				 STR("permissions:\n  deny:\n    - Exec(a\n"), NULL, NULL, &c, &e),
		0);
	assert_int_equal(policy_new(c, &p, &e), ERR_CONFIG);
	assert_string_equal(e.msg, "config (ws/.ithaca.yaml line 3): permissions.deny: rule "
				   "'Exec(a': the closing ) is missing at "
				   "its end (expected Tool(pattern))");
	config_unref(c);
	config_unref(base);
}

static void
test_rule_check(void **state)
{
	static const struct {
		const char *rule, *message; /* NULL: fine */
	} rows[] = {
		{ "Exec", NULL },
		{ "Exec(*)", NULL },
		{ "Exec(git push *)", NULL },
		{ "read(src/**)", NULL },
		{ "mcp__server__tool", NULL },
		{ "Exec(echo ')')", NULL },
		{ "Exec(echo \\;)", NULL },
		{ "Send(telegram:*)", NULL },
		{ "Fetch(127.0.0.1)", NULL },
		{ "", "has no name" },
		{ "(x)", "has no name" },
		{ "Exec()", "its pattern is empty" },
		{ "Exec( )", "its pattern is empty" },
		{ "Exec(ls", "closing ) is missing" },
		{ "Exec(ls) ", "closing ) is missing" },
		{ "Exec)", "has a ) without a (" },
		{ "Exce(ls)", "did you mean Exec?" },
		{ "Reed", "did you mean Read?" },
		{ "exce(ls)", "did you mean exec?" },
		{ "Bash(ls *)", "commands are called Exec" },
		{ "bash(ls *)", "commands are called Exec" },
		{ "WebSearch", "unknown name 'WebSearch' (expected Read" },
		{ "*", "unknown name '*'" },
		{ "Exec(ls:*)", "write Exec(ls *)" },
		{ "Exec(ls && id)", "names one simple command" },
		{ "Exec(echo $HOME)", "names one simple command" },
		{ "Exec(echo 'x)", "a quote is not closed" },
		{ "Exec(echo x\\)", "ends with a backslash" },
		{ "Read(~/x)", "~ is not expanded" },
		{ "Write(src/**.c)", "** must be a whole path segment" },
	};
	char long_rule[RULE_TEXT_MAX + 2];
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc = policy_rule_check(str_of(rows[i].rule), &e);

		if (rc != (rows[i].message != NULL ? ERR_CONFIG : 0) ||
			(rows[i].message != NULL && strstr(e.msg, rows[i].message) == NULL))
			fail_msg("'%s': %d %s", rows[i].rule, rc, e.msg);
	}
	memset(long_rule, 'a', sizeof(long_rule));
	assert_int_equal(
		policy_rule_check((struct str){ long_rule, sizeof(long_rule) }, &e), ERR_CONFIG);
	assert_int_equal(policy_rule_check((struct str){ "Exec(a\0b)", 9 }, &e), ERR_CONFIG);
}

static void
test_always(void **state)
{
	static const struct {
		enum subject s;
		const char *target, *rule; /* NULL: there is none */
	} rows[] = {
		{ SUBJECT_EXEC, "git push origin main", "Exec(git push origin main)" },
		{ SUBJECT_EXEC, "echo 'a b' \\* \"it's\" ''",
			"Exec(echo 'a b' '*' 'it'\\''s' '')" },
		{ SUBJECT_EXEC, "ls && id", NULL },
		{ SUBJECT_EXEC, "ls $x", NULL },
		{ SUBJECT_EXEC, "ls > x", NULL },
		{ SUBJECT_EXEC, "env ls", NULL },
		{ SUBJECT_EXEC, "", NULL },
		{ SUBJECT_EXEC, "ls 'x", NULL },
		{ SUBJECT_EXEC, "'*'", "Exec('*')" }, /* not everything */
		{ SUBJECT_WRITE, "/shared/a*b\\c", "Write(/shared/a\\*b\\\\c)" },
		{ SUBJECT_FETCH, "example.org", "Fetch(example.org)" },
		{ SUBJECT_WRITE, "a**b", "Write(a\\*\\*b)" },
		{ SUBJECT_SEND, "", NULL },
		{ SUBJECT_SEND, "*", "Send(\\*)" },
		{ SUBJECT_READ, "~x", NULL },
		{ SUBJECT_MCP, " ", NULL },
		{ SUBJECT_WRITE, "a ", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_request r = { .subject = rows[i].s,
			.tool = STR("t"),
			.target = str_of(rows[i].target),
			.mode = MODE_DANGER_FULL_ACCESS };
		struct buf b, list;
		struct policy *p;
		bool made;

		buf_init(&b, 4096);
		made = policy_always_rule(&r, &b);
		if (made != (rows[i].rule != NULL) ||
			!str_is(buf_str(&b), made ? rows[i].rule : ""))
			fail_msg("'%s': %d '%s'", rows[i].target, made, buf_z(&b));
		if (made && rows[i].s != SUBJECT_READ) { /* the rule does what it is for */
			struct json j;
			buf_init(&list, 8192);
			json_init(&j, &list);
			json_arr(&j);
			json_str(&j, buf_str(&b));
			json_arr_end(&j);
			p = must_make(buf_z(&list), NULL, NULL);
			assert_int_equal(ask_policy(p, r.mode, r.subject, "t", rows[i].target),
				DECIDE_ALLOW);
			assert_int_equal(
				ask_policy(p, r.mode, r.subject, "t", "other"), DECIDE_ASK);
			policy_free(p);
			buf_fini(&list);
		}
		buf_fini(&b);
	}
}

/* What cannot be judged is refused, not let through. */
static void
test_size(void **state)
{
	struct policy *p = must_make("[Exec]", NULL, "[Exec(git push *)]");
	struct policy_request r = { .subject = SUBJECT_EXEC,
		.tool = STR("exec"),
		.mode = MODE_WORKSPACE_WRITE,
		.yes = true };
	struct verdict v;
	struct buf b;

	buf_init(&b, MIB);
	while (b.n <= SHELL_TEXT_MAX)
		buf_add_z(&b, "true\n");
	r.target = buf_str(&b);
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY);
	buf_reset(&b);
	for (size_t i = 0; i <= SHELL_DEPTH_MAX; i++)
		buf_add_z(&b, "$(");
	r.target = buf_str(&b);
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY);
	/* A large script is judged whole. */
	buf_reset(&b);
	while (b.n < SHELL_TEXT_MAX - 32)
		buf_add_z(&b, "sudo x y z;");
	buf_add_z(&b, "sudo git push");
	r.target = buf_str(&b);
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY);
	assert_string_equal(v.rule, "Exec(git push *)");
	buf_fini(&b);
	policy_free(p);
}

/* The work grows with the words of a command, not with their square: a model must not be able to stop the runtime. */
static void
test_many_words(void **state)
{
	struct policy *p = must_make("[Exec]", NULL, "[Exec(git push *)]");
	struct buf b;
	clock_t began = clock();

	buf_init(&b, SHELL_TEXT_MAX);
	buf_add_z(&b, "xargs");
	while (b.n + 3 < SHELL_TEXT_MAX)
		buf_add_z(&b, " -x");
	assert_int_equal(ask_policy(p, MODE_WORKSPACE_WRITE, SUBJECT_EXEC, "exec", buf_z(&b)), DECIDE_ASK);
	assert_in_range((clock() - began) / (CLOCKS_PER_SEC / 1000), 0, 1000);
	buf_fini(&b);
	policy_free(p);
}

static void
test_names(void **state)
{
	enum mode m = MODE_COUNT;

	assert_int_equal(mode_parse(STR("read_only"), &m), 0);
	assert_int_equal(m, MODE_READ_ONLY);
	assert_int_equal(mode_parse(STR("readonly"), &m), -1);
	assert_string_equal(mode_name(MODE_DANGER_FULL_ACCESS), "danger_full_access");
	assert_string_equal(subject_name(SUBJECT_SCHEDULE), "Schedule");
	assert_string_equal(decision_name(DECIDE_DENY), "deny");
}

/* In a shell that lives on, a name may mean what an earlier command made of it. */
static void
test_kept_shell(void **state)
{
	struct policy *p = must_make("[Exec(ls *)]", "[]", "[Exec(rm *)]");
	struct policy_request r = { .subject = SUBJECT_EXEC,
		.tool = STR("exec"),
		.target = STR("ls /"),
		.mode = MODE_DANGER_FULL_ACCESS };
	struct verdict v;
	struct buf rule;

	buf_init(&rule, 1024);
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_ALLOW);
	assert_true(policy_always_rule(&r, &rule));
	r.keeps_state = true;
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_ASK);
	buf_reset(&rule);
	assert_false(policy_always_rule(&r, &rule));
	r.target = STR("rm -r x"); /* what can be seen is still denied */
	policy_decide(p, &r, &v);
	assert_int_equal(v.decision, DECIDE_DENY);
	buf_fini(&rule);
	policy_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exec_allow),
		cmocka_unit_test(test_kept_shell),
		cmocka_unit_test(test_exec_deny),
		cmocka_unit_test(test_exec_possible),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_yes),
		cmocka_unit_test(test_verdict),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_rule_check),
		cmocka_unit_test(test_always),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_many_words),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("policy/policy", tests, NULL, NULL);
}
