/* SPDX-License-Identifier: MIT
 * Rules as people write them: Tool or Tool(pattern). Compiling refuses what could never match (operators in an Exec
 * pattern, ** inside a path segment, an unknown name), so that no rule is silently dead. */
#include "policy/internal.h"

#include "base/limits.h"

static const char *const mode_names[] = { "read_only", "workspace_write", "danger_full_access" };
static const char *const decision_names[] = { "allow", "ask", "deny" };
static const char *const subject_names[] = {
	"Read", "Write", "Exec", "Fetch", "Send", "Delegate", "Mcp", "Memory", "Schedule",
};

static const struct tool_kind tool_kinds[] = {
	{ "read", SUBJECT_READ, false }, { "stat", SUBJECT_READ, false }, { "list", SUBJECT_READ, true },
	{ "glob", SUBJECT_READ, true }, { "grep", SUBJECT_READ, true }, { "write", SUBJECT_WRITE, false },
	{ "edit", SUBJECT_WRITE, false }, { "move", SUBJECT_WRITE, true },
	{ "delete", SUBJECT_WRITE, true }, { "exec", SUBJECT_EXEC, false },
	{ "job", SUBJECT_EXEC, false }, { "output", SUBJECT_EXEC, false },
};

const char *
mode_name(enum mode m)
{
	return (unsigned)m < MODE_COUNT ? mode_names[m] : "unknown";
}

int
mode_parse(struct str s, enum mode *out)
{
	for (size_t i = 0; i < MODE_COUNT; i++) {
		if (str_is(s, mode_names[i])) {
			*out = (enum mode)i;
			return 0;
		}
	}
	return -1;
}

const char *
subject_name(enum subject s)
{
	return (unsigned)s < SUBJECT_COUNT ? subject_names[s] : "Tool";
}

const char *
decision_name(enum decision d)
{
	return (unsigned)d < ARRAY_LEN(decision_names) ? decision_names[d] : "unknown";
}

const struct tool_kind *
tool_kind_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(tool_kinds); i++)
		if (str_is(name, tool_kinds[i].name))
			return &tool_kinds[i];
	return NULL;
}

static int
rule_error(struct err *e, struct str text, const char *why)
{
	return err_set(e, ERR_CONFIG, ERR_TO_USER, "rule '%.*s': %s", STR_FMT(str_sub(text, 0, 80)), why);
}

static int
name_error(struct err *e, struct str text, struct str name)
{
	const char *names[SUBJECT_COUNT + ARRAY_LEN(tool_kinds)];
	const char *near;
	size_t n = 0;

	if (str_is(name, "Bash") || str_is(name, "Shell") || str_is(name, "bash") || str_is(name, "shell"))
		return rule_error(e, text, "commands are called Exec (write Exec(git push *))");
	for (size_t i = 0; i < SUBJECT_COUNT; i++)
		names[n++] = subject_names[i];
	for (size_t i = 0; i < ARRAY_LEN(tool_kinds); i++)
		names[n++] = tool_kinds[i].name;
	near = str_nearest(name, names, n);
	return err_set(e, ERR_CONFIG, ERR_TO_USER, "rule '%.*s': unknown name '%.*s' (%s%s%s)",
		STR_FMT(str_sub(text, 0, 80)), STR_FMT(str_sub(name, 0, 40)), near ? "did you mean " : "expected ",
		near ? near : "Read Write Exec Fetch Send Delegate Mcp Memory Schedule or a tool's name",
		near ? "?" : "");
}

/* A lower-case name that is no tool of ours may be one of an MCP server; a near miss of ours is a mistake. */
static int
name_compile(struct str text, struct str name, struct rule *out, struct err *e)
{
	const struct tool_kind *kind = tool_kind_find(name);

	for (size_t i = 0; i < SUBJECT_COUNT; i++) {
		if (str_is(name, subject_names[i])) {
			out->subject = (enum subject)i;
			return 0;
		}
	}
	for (size_t i = 0; i < name.n; i++)
		if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') ||
			strchr("_.-", name.p[i]) != NULL))
			return name_error(e, text, name);
	out->tool = name;
	out->subject = kind != NULL ? kind->subject : SUBJECT_COUNT;
	if (kind != NULL)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(tool_kinds); i++)
		if (str_distance(name, str_of(tool_kinds[i].name)) <= 1)
			return name_error(e, text, name);
	return str_is(name, "bash") || str_is(name, "shell") ? name_error(e, text, name) : 0;
}

static void
add_literal(struct buf *b, char c)
{
	if (c == '*' || c == '\\')
		buf_add_char(b, '\\');
	buf_add_char(b, c);
}

/* One word of an Exec pattern from s[*i]: quotes and backslashes take characters literally. */
static int
word_compile(struct str text, struct str s, size_t *i, struct buf *b, struct err *e)
{
	char quote = 0;

	for (; *i < s.n && (quote != 0 || (s.p[*i] != ' ' && s.p[*i] != '\t')); ++*i) {
		char c = s.p[*i];

		if (quote != 0 && c == quote) {
			quote = 0;
		} else if (quote == 0 && (c == '\'' || c == '"')) {
			quote = c;
		} else if (c == '\\' && quote != '\'') {
			if (*i + 1 >= s.n)
				return rule_error(e, text, "ends with a backslash");
			add_literal(b, s.p[++*i]);
		} else if (quote != 0) {
			add_literal(b, c);
		} else if (strchr(";&|<>()$`\n", c) != NULL) {
			return rule_error(e, text, "an Exec pattern names one simple command; each command of a "
						   "script is matched alone (quote an operator that is meant literally)");
		} else {
			buf_add_char(b, c);
		}
	}
	return quote == 0 ? 0 : rule_error(e, text, "a quote is not closed");
}

static int
words_compile(struct str pattern, struct arena *a, struct rule *out, struct err *e)
{
	size_t i = 0;
	int rc = 0;

	out->form = PATTERN_WORDS;
	out->parts = arena_alloc(a, (pattern.n / 2 + 1) * sizeof(*out->parts));
	while (rc == 0 && i < pattern.n) {
		struct buf b;

		if (pattern.p[i] == ' ' || pattern.p[i] == '\t') {
			i++;
			continue;
		}
		buf_init(&b, 2 * RULE_TEXT_MAX);
		rc = word_compile(out->text, pattern, &i, &b, e);
		out->parts[out->n++] = arena_take(a, &b);
	}
	if (rc == 0 && str_ends(out->parts[0], ":*") && out->n == 1)
		return rule_error(e, out->text, "the program's name is followed by a space (write Exec(ls *))");
	return rc;
}

static int
path_compile(struct str pattern, struct arena *a, struct rule *out, struct err *e)
{
	struct path path;

	out->form = PATTERN_PATH;
	if (str_starts(pattern, "~"))
		return rule_error(e, out->text, "~ is not expanded (write an absolute path, or one below /shared)");
	if (path_split(&path, pattern, a) != 0)
		return rule_error(e, out->text, "there are too many rules");
	out->parts = path.segments;
	out->n = path.n;
	for (size_t i = 0; i < out->n; i++)
		if (!str_is(out->parts[i], "**") && str_find(out->parts[i], STR("**")) >= 0)
			return rule_error(e, out->text, "** must be a whole path segment (as in src/**/*.c)");
	return 0;
}

static int
pattern_compile(struct str pattern, struct arena *a, struct rule *out, struct err *e)
{
	if (str_is(pattern, "*")) {
		out->is_bare = true;
		return 0;
	}
	switch (out->subject) {
	case SUBJECT_EXEC:
		return words_compile(pattern, a, out, e);
	case SUBJECT_READ:
	case SUBJECT_WRITE:
		return path_compile(pattern, a, out, e);
	default:
		out->form = PATTERN_TEXT;
		out->parts = arena_alloc(a, sizeof(*out->parts));
		out->parts[0] = pattern;
		out->n = 1;
		return 0;
	}
}

int
rule_compile(struct str text, struct arena *a, struct rule *out, struct err *e)
{
	struct str copy = arena_str(a, str_sub(text, 0, RULE_TEXT_MAX));
	struct rule r = { .text = copy };
	ptrdiff_t open = str_find_char(copy, '(');
	struct str name = open < 0 ? copy : str_sub(copy, 0, (size_t)open);
	int rc;

	if (text.n > RULE_TEXT_MAX)
		return rule_error(e, text, "is too long");
	if (memchr(copy.p, 0, copy.n) != NULL)
		return rule_error(e, text, "holds a NUL byte");
	if (name.n == 0)
		return rule_error(e, text, "has no name (expected Tool or Tool(pattern), as in Exec(git push *))");
	if (open >= 0 && !str_ends(copy, ")"))
		return rule_error(e, text, "the closing ) is missing at its end (expected Tool(pattern))");
	if (open < 0 && str_find_char(copy, ')') >= 0)
		return rule_error(e, text, "has a ) without a ( (expected Tool(pattern))");
	rc = name_compile(copy, name, &r, e);
	if (rc != 0)
		return rc;
	if (open < 0) {
		r.is_bare = true;
	} else {
		struct str pattern = str_trim(str_sub(copy, (size_t)open + 1, copy.n - (size_t)open - 2));

		if (pattern.n == 0)
			return rule_error(e, text, "its pattern is empty (write the name alone to mean everything)");
		rc = pattern_compile(pattern, a, &r, e);
		if (rc != 0)
			return rc;
	}
	*out = r;
	return 0;
}

int
policy_rule_check(struct str rule, struct err *e)
{
	struct arena *a = arena_new(POLICY_ARENA_MAX);
	struct rule r;
	int rc = rule_compile(rule, a, &r, e);

	arena_free(a);
	return rc;
}
