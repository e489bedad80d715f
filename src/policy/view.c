/* SPDX-License-Identifier: MIT
 * A request taken apart: the commands of a script (for deny and ask also those that env, sudo, sh
 * -c and their like would run), the files it writes, or the one or two targets of another tool.
 * Allow rules see only what is certain, deny and ask rules all that could be found. */
#include "policy/internal.h"

#include "base/limits.h"

/* Shells treat these as themselves, not as files. */
static bool
is_device(struct str path)
{
	static const char *const devices[] = { "/dev/null", "/dev/stdout", "/dev/stderr",
		"/dev/stdin", "/dev/tty" };

	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		if (str_is(path, devices[i]))
			return true;
	return false;
}

static int
add_path(struct view *v, struct shell_vec *paths, struct str text)
{
	struct shell sh = { .a = v->a };
	struct path *p = shell_push(&sh, paths, sizeof(*p));

	return p == NULL ? -1 : path_split(p, text, v->a);
}

/* Words whose value nobody knows before they run. */
static const size_t none_known;
static const struct str any_word = { "(computed)", 10 };

/* A word may be a file, and so may what follows its '=' (--file=x, if=x). */
static int
add_words(struct view *v, const struct shell_command *c)
{
	for (size_t i = 0; i < c->argc; i++) {
		ptrdiff_t eq = str_find_char(c->argv[i], '=');

		if (add_path(v, &v->words, c->argv[i]) != 0)
			return -1;
		if (eq >= 0 &&
			add_path(v, &v->words, str_sub(c->argv[i], (size_t)eq + 1, SIZE_MAX)) != 0)
			return -1;
	}
	return 0;
}

/* Does it run further commands than those among its words: from standard input, or with arguments
 * from there? */
static bool
takes_arguments(const struct shell_command *c)
{
	for (size_t i = 0; i < c->argc; i++)
		if (shell_is_program(c->argv[i], "xargs") ||
			shell_is_program(c->argv[i], "parallel"))
			return true;
	return false;
}

static struct unit *
push_unit(struct view *v)
{
	struct shell sh = { .a = v->a };

	return shell_push(&sh, &v->units, sizeof(struct unit));
}

static int
add_unit(struct view *v, const struct shell_command *c, bool is_through)
{
	struct unit *u = push_unit(v);

	if (u == NULL)
		return -1;
	*u = (struct unit){ .argv = c->argv,
		.known = c->known,
		.argc = c->argc,
		.is_through = is_through,
		.is_open = is_through && takes_arguments(c),
		.is_guess = v->is_guess };
	return add_words(v, c);
}

/* A command that is known by no word of it: what a shell reads from a pipe. */
static int
add_unknown(struct view *v)
{
	struct unit *u = push_unit(v);

	if (u == NULL)
		return -1;
	*u = (struct unit){ .argv = &any_word, .known = &none_known, .argc = 1 };
	return 0;
}

static int
add_files(struct view *v, struct shell_vec *paths, const struct str *files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!is_device(files[i]) && add_path(v, paths, files[i]) != 0)
			return -1;
	return 0;
}

static int add_script(struct view *v, const struct shell_script *script, unsigned depth);

/* A text that some command may run as a script. What is not valid shell adds what was understood of
 * it. */
static int
add_text(struct view *v, struct str text, unsigned depth)
{
	struct shell_script inner;
	struct err e = { 0 };

	if (depth >= SHELL_THROUGH_MAX)
		return -1;
	if (shell_scan(text, v->a, &inner, &e) == ERR_LIMIT)
		return -1;
	v->writes_computed = v->writes_computed || inner.writes_computed;
	if (add_files(v, &v->inner_writes, inner.writes, inner.writes_n) != 0 ||
		add_files(v, &v->inner_reads, inner.reads, inner.reads_n) != 0)
		return -1;
	return add_script(v, &inner, depth + 1);
}

/* Does any word of it name what runs a text? */
static bool
runs_text(const struct shell_command *c)
{
	for (size_t i = 0; i < c->argc; i++)
		if (shell_runs_text(c->argv[i]))
			return true;
	return false;
}

static bool
has_blank(struct str word)
{
	for (size_t i = 0; i < word.n; i++)
		if (strchr(" \t\n", word.p[i]) != NULL && word.p[i] != 0)
			return true;
	return false;
}

static bool
may_be_script(struct str word)
{
	for (size_t i = 0; i < word.n; i++)
		if (strchr(" \t\n;&|<>()$`'\"\\", word.p[i]) != NULL)
			return true;
	return false;
}

/* The whole of it, or what follows an '=' (alias x='git push') or the letter of an option (env
 * -S'git push'). */
static int
add_argument(struct view *v, struct str word, unsigned depth)
{
	ptrdiff_t eq = str_find_char(word, '=');

	if (add_text(v, word, depth) != 0)
		return -1;
	if (eq > 0 && add_text(v, str_sub(word, (size_t)eq + 1, SIZE_MAX), depth) != 0)
		return -1;
	return str_starts(word, "-") ? add_text(v, str_sub(word, MIN(2, word.n), SIZE_MAX), depth)
				     : 0;
}

static int
add_joined(struct view *v, const struct shell_command *c, unsigned depth)
{
	struct buf b;
	int rc;

	buf_init(&b, SHELL_TEXT_MAX);
	for (size_t i = 1; i < c->argc; i++) {
		buf_add_str(&b, c->argv[i]);
		buf_add_char(&b, ' ');
	}
	rc = add_text(v, arena_str(v->a, buf_str(&b)), depth);
	buf_fini(&b);
	return rc;
}

static int
add_script(struct view *v, const struct shell_script *script, unsigned depth)
{
	bool runs_input = false, was_guess = v->is_guess;

	for (size_t i = 0; i < script->n; i++) {
		const struct shell_command *c = &script->commands[i];
		bool is_through = shell_wrapper(c) != NULL;

		if (add_unit(v, c, is_through) != 0)
			return -1;
		if (!is_through)
			continue;
		if (shell_runs_input(c) && script->inputs_n == 0 && add_unknown(v) != 0)
			return -1;
		runs_input = true;
		bool is_text = runs_text(c);

		for (size_t k = 1; k < c->argc; k++) {
			v->is_guess = was_guess || !(is_text || has_blank(c->argv[k]));
			if (may_be_script(c->argv[k]) && add_argument(v, c->argv[k], depth) != 0)
				return -1;
		}
		v->is_guess = was_guess;
		if (str_is(c->argv[0], "eval") && add_joined(v, c, depth) != 0)
			return -1;
	}
	for (size_t i = 0; runs_input && i < script->inputs_n; i++)
		if (add_text(v, script->inputs[i], depth) != 0)
			return -1;
	return 0;
}

int
view_init(struct view *v, const struct policy_request *r, struct arena *a)
{
	const struct shell_script *s = &v->script;

	*v = (struct view){ .r = r, .a = a };
	if (r->target.n > SHELL_TEXT_MAX || r->target2.n > SHELL_TEXT_MAX)
		return -1;
	if (r->subject != SUBJECT_EXEC) {
		if (add_path(v, &v->targets, r->target) != 0)
			return -1;
		return r->target2.n > 0 ? add_path(v, &v->targets, r->target2) : 0;
	}
	if (shell_scan(r->target, a, &v->script, &v->error) == ERR_LIMIT)
		return -1;
	if (r->keeps_state && !v->script.opaque) {
		v->script.opaque = true;
		v->script.why_opaque = "its shell keeps functions and aliases of earlier commands";
	}
	v->writes_computed = s->writes_computed;
	if (add_files(v, &v->writes, s->writes, s->writes_n) != 0 ||
		add_files(v, &v->reads, s->reads, s->reads_n) != 0)
		return -1;
	return add_script(v, s, 0);
}

static bool
rule_names(const struct rule *rule, enum subject subject)
{
	return rule->tool.n == 0 && rule->subject == subject;
}

/* Is the rule about this call itself, by subject or by tool? */
static bool
is_about(const struct view *v, const struct rule *rule)
{
	return rule->tool.n > 0 ? str_eq(rule->tool, v->r->tool) : rule->subject == v->r->subject;
}

static bool
path_is_matched(const struct rule *rule, const struct path *path, bool is_tree)
{
	if (rule->is_bare)
		return true;
	return rule->form == PATTERN_PATH &&
	       (path_match(rule, path) || (is_tree && path_is_inside(rule, path)));
}

static bool
any_path(const struct rule *rule, const struct shell_vec *paths, bool is_tree, struct str *what)
{
	const struct path *items = paths->items;

	for (size_t i = 0; i < paths->n; i++) {
		if (path_is_matched(rule, &items[i], is_tree)) {
			*what = items[i].text;
			return true;
		}
	}
	return false;
}

static struct words
words_of(const struct unit *u)
{
	return (struct words){ u->argv, u->known, u->argc, true, u->is_through, u->is_open };
}

static bool
any_command(const struct view *v, const struct rule *rule, struct str *what)
{
	const struct unit *units = v->units.items;

	if (rule->is_bare)
		return true;
	for (size_t i = 0; i < v->units.n && rule->form == PATTERN_WORDS; i++) {
		struct words w = words_of(&units[i]);

		if (words_match(rule, &w)) {
			*what = units[i].argv[0];
			return true;
		}
	}
	return false;
}

static bool
exec_is_covered(const struct view *v, const struct rule *rule, struct str *what)
{
	if (is_about(v, rule) && any_command(v, rule, what))
		return true;
	if (rule_names(rule, SUBJECT_WRITE))
		return any_path(rule, &v->writes, false, what) ||
		       any_path(rule, &v->inner_writes, false, what);
	/* A command that names a file which a rule keeps from being read is covered too. */
	return rule_names(rule, SUBJECT_READ) &&
	       (any_path(rule, &v->reads, false, what) ||
		       any_path(rule, &v->inner_reads, false, what) ||
		       (!rule->is_bare && any_path(rule, &v->words, false, what)));
}

static bool
file_is_covered(const struct view *v, const struct rule *rule, struct str *what)
{
	const struct tool_kind *kind = tool_kind_find(v->r->tool);
	bool is_tree = kind != NULL && kind->is_tree;

	/* What may not be read may not be moved to where it may. */
	if (is_about(v, rule) || (v->targets.n > 1 && rule_names(rule, SUBJECT_READ)))
		return any_path(rule, &v->targets, is_tree, what);
	return false;
}

static bool
text_is_matched(const struct view *v, const struct rule *rule, struct str text)
{
	bool is_host = v->r->subject == SUBJECT_FETCH;

	if (rule->is_bare)
		return true;
	if (is_host && str_ends(text, "."))
		text = str_sub(text, 0, text.n - 1);
	return rule->form == PATTERN_TEXT && wild_match(rule->parts[0], text, is_host);
}

bool
view_is_covered(const struct view *v, const struct rule *rule, struct str *what)
{
	*what = v->r->target;
	switch (v->r->subject) {
	case SUBJECT_EXEC:
		return exec_is_covered(v, rule, what);
	case SUBJECT_READ:
	case SUBJECT_WRITE:
		return file_is_covered(v, rule, what);
	default:
		return is_about(v, rule) && text_is_matched(v, rule, v->r->target);
	}
}

bool
view_may_be_covered(const struct view *v, const struct rule *rule, struct str *what)
{
	const struct unit *units = v->units.items;

	*what = v->r->target;
	if (v->r->subject != SUBJECT_EXEC)
		return false;
	if (rule_names(rule, SUBJECT_WRITE) && v->writes_computed)
		return true;
	for (size_t i = 0; i < v->units.n && is_about(v, rule) && rule->form == PATTERN_WORDS;
		i++) {
		struct words w = words_of(&units[i]);

		if (!units[i].is_guess && words_may_match(rule, &w)) {
			*what = units[i].argv[0];
			return true;
		}
	}
	return false;
}

/* An opaque or empty script is one part: the whole of it. */
static size_t
commands_of(const struct view *v)
{
	return v->script.opaque || v->script.n == 0 ? 1 : v->script.n;
}

size_t
view_parts(const struct view *v)
{
	return v->r->subject == SUBJECT_EXEC ? commands_of(v) + v->writes.n : v->targets.n;
}

struct str
view_part_text(const struct view *v, size_t i)
{
	const struct path *writes = v->writes.items, *targets = v->targets.items;

	if (v->r->subject != SUBJECT_EXEC)
		return targets[i].text;
	if (i >= commands_of(v))
		return writes[i - commands_of(v)].text;
	return v->script.opaque || v->script.n == 0 ? v->r->target : v->script.commands[i].argv[0];
}

/* Words that an expansion makes are allowed only where the rule's last `*` takes whatever comes. */
static bool
command_is_allowed(const struct view *v, size_t i, const struct rule *rule)
{
	const struct shell_command *c;
	struct words w;

	if (rule->is_bare)
		return true;
	if (v->script.opaque || v->script.n == 0 || rule->form != PATTERN_WORDS)
		return false;
	c = &v->script.commands[i];
	if (c->dynamic && !str_is(rule->parts[rule->n - 1], "*"))
		return false;
	w = (struct words){ .argv = c->argv, .argc = c->fixed };
	return words_match(rule, &w);
}

bool
view_part_is_allowed(const struct view *v, size_t i, const struct rule *rule)
{
	const struct path *writes = v->writes.items, *targets = v->targets.items;

	switch (v->r->subject) {
	case SUBJECT_EXEC:
		if (i >= commands_of(v))
			return rule_names(rule, SUBJECT_WRITE) &&
			       path_is_matched(rule, &writes[i - commands_of(v)], false);
		return is_about(v, rule) && command_is_allowed(v, i, rule);
	case SUBJECT_READ:
	case SUBJECT_WRITE:
		return is_about(v, rule) && path_is_matched(rule, &targets[i], false);
	default:
		return is_about(v, rule) && text_is_matched(v, rule, view_part_text(v, i));
	}
}
