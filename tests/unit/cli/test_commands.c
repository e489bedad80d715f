/* SPDX-License-Identifier: MIT
 * The command table and everything that is written from it: lookups, options, help, man page, completions. */
#include "events.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/args.h"
#include "cli/internal.h"

static const struct command *
find(const char *line, size_t *used, struct err *e)
{
	char *words[8];
	static char copy[200];
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *p = copy; *p && n < 8;) {
		words[n++] = p;
		p += strcspn(p, " ");
		if (*p)
			*p++ = '\0';
	}
	*e = (struct err){ 0 };
	return command_find(words, n, used, e);
}

static void
test_find(void **state)
{
	static const struct {
		const char *line, *words; /* words NULL: error that contains `error` */
		size_t used;
		const char *error;
	} rows[] = {
		{ "run hello", "run", 1, NULL },
		{ "session list --json", "session list", 2, NULL },
		{ "config get limits.turn_steps", "config get", 2, NULL },
		{ "sesion list", NULL, 0, "session list" },
		{ "rnu x", NULL, 0, "ithaca run" },
		{ "session", NULL, 0, "list, show, events, rename, delete" },
		{ "session lst", NULL, 0, "list, show" },
		{ "session --json", NULL, 0, "list, show" },
		{ "frobnicate", NULL, 0, "ithaca --help" },
	};
	struct err e;
	size_t used;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct command *c = find(rows[i].line, &used, &e);

		if (rows[i].words) {
			assert_non_null(c);
			assert_string_equal(c->words, rows[i].words);
			assert_int_equal(used, rows[i].used);
			continue;
		}
		assert_null(c);
		assert_int_equal(e.code, ERR_USAGE);
		if (!strstr(e.msg, rows[i].error))
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].line, e.msg, rows[i].error);
	}
}

/* Each row is whole, its options do not hide global ones, and what it sends is a parameter of its method. */
static void
test_rows(void **state)
{
	for (const struct command *c = commands; c->words; c++) {
		assert_non_null(c->text);
		assert_int_equal(c->text[strlen(c->text) - 1], '.');
		assert_non_null(c->run);
		assert_true(strlen(c->words) <= 18);
		for (const struct field *f = c->options; f->type != FIELD_END; f++) {
			assert_non_null(f->text);
			assert_null(field_find(global_options, str_of(f->name)));
			for (const struct field *g = global_options; f->short_opt && g->type != FIELD_END; g++)
				assert_true(g->short_opt != f->short_opt);
			if (c->run == cmd_call && strcmp(f->name, "json") != 0 &&
				!field_find(api_methods[c->method].params, str_of(f->name)))
				fail_msg("%s: %s is no parameter of %s", c->words, f->name, api_methods[c->method].name);
		}
		if (c->run != cmd_call)
			continue;
		for (const struct field *p = api_methods[c->method].params; p->type != FIELD_END; p++)
			if ((p->flags & FIELD_REQUIRED) && !field_find(c->options, str_of(p->name)))
				fail_msg("%s cannot give %s of %s", c->words, p->name, api_methods[c->method].name);
		assert_true(c->print || c->columns || c->done);
	}
}

/* Columns name what the method says it answers. */
static void
test_columns(void **state)
{
	for (const struct command *c = commands; c->words; c++) {
		const struct field *row = api_methods[c->method].result;

		if (c->run != cmd_call || !c->columns)
			continue;
		if (c->list) {
			const struct field *list = field_find(row, str_of(c->list));

			assert_non_null(list);
			row = list->item->sub;
		}
		for (const struct column *k = c->columns; k->key; k++)
			if (!field_find(row, str_of(k->key)))
				fail_msg("%s: no %s in the answer", c->words, k->key);
	}
}

static void
test_run_options(void **state)
{
	static const char *const line[] = { "fix", "the", "bug", "--session", "demo", "--model=a/b", "-e", "A=1", "-e",
		"B=2", "--yes", "--attach", "x", "--attach", "y", "--mode", "read_only", "-v" };
	struct arena *a = arena_new(1 << 20);
	const struct node *o = NULL;
	struct err e = { 0 };
	size_t used;
	const struct command *run = find("run", &used, &e);

	assert_int_equal(args_parse(command_fields(a, run), ARRAY_LEN(line), (char *const *)line, a, &o, &e), 0);
	assert_int_equal(node_len(node_get(o, "task")), 3);
	assert_string_equal(node_z(o, "session", ""), "demo");
	assert_string_equal(node_z(o, "model", ""), "a/b");
	assert_int_equal(node_len(node_get(o, "env")), 2);
	assert_int_equal(node_len(node_get(o, "attach")), 2);
	assert_true(node_bool(o, "yes", false));
	assert_true(node_bool(o, "verbose", false));
	assert_string_equal(node_z(o, "mode", ""), "read_only");

	{
		static const char *const bad[] = { "--modle", "x", "task" };

		assert_int_equal(args_parse(command_fields(a, run), 3, (char *const *)bad, a, &o, &e), ERR_USAGE);
		assert_non_null(strstr(e.msg, "--mod"));
	}
	arena_free(a);
}

static void
test_help_names_everything(void **state)
{
	struct arena *a = arena_new(1 << 20);
	struct buf all, man, md;

	buf_init(&all, 1 << 20);
	buf_init(&man, 1 << 22);
	buf_init(&md, 1 << 22);
	help_all(&all);
	docs_man(a, &man);
	docs_markdown(a, &md);
	for (const struct command *c = commands; c->words; c++) {
		struct buf one;

		if (c->flags & CMD_HIDDEN) {
			assert_null(strstr(buf_z(&all), c->text));
			continue;
		}
		assert_non_null(strstr(buf_z(&all), c->text));
		assert_non_null(strstr(buf_z(&md), c->text));
		buf_init(&one, 1 << 20);
		help_command(a, c, &one);
		assert_non_null(strstr(buf_z(&one), c->text));
		for (const struct field *f = c->options; f->type != FIELD_END; f++) {
			char name[64] = "--";

			if (f->flags & FIELD_POSITIONAL)
				continue;
			for (size_t i = 0; f->name[i] && i < 60; i++)
				name[2 + i] = f->name[i] == '_' ? '-' : f->name[i];
			assert_non_null(strstr(buf_z(&one), name));
			assert_non_null(strstr(buf_z(&md), name));
		}
		buf_fini(&one);
	}
	/* Nothing in the man page starts a line as a request by accident. */
	assert_null(strstr(buf_z(&man), "\n.ithaca"));
	assert_null(strstr(buf_z(&man), "\n'"));
	buf_fini(&all);
	buf_fini(&man);
	buf_fini(&md);
	arena_free(a);
}

/* Feeds a script to a shell; its output or NULL when the shell is not here. */
static char *
shell(const char *program, const char *const *argv, struct str input)
{
	char path[] = "/tmp/ithaca-completion-XXXXXX";
	static char out[8192];
	int fd = mkstemp(path), pair[2], status;
	ssize_t n;
	size_t at = 0;
	pid_t pid;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, input.p, input.n), input.n);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		lseek(fd, 0, SEEK_SET);
		dup2(fd, 0);
		dup2(pair[1], 1);
		dup2(pair[1], 2);
		execvp(program, (char *const *)argv);
		_exit(127);
	}
	close(pair[1]);
	while (at < sizeof(out) - 1 && (n = read(pair[0], out + at, sizeof(out) - 1 - at)) > 0)
		at += (size_t)n;
	out[at] = '\0';
	close(pair[0]);
	close(fd);
	unlink(path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return NULL;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("%s: %s", program, out);
	return out;
}

static void
completion(const char *name, struct buf *b)
{
	struct arena *a = arena_new(1 << 20);
	struct err e = { 0 };

	buf_init(b, 1 << 20);
	assert_int_equal(docs_completion(a, str_of(name), b, &e), 0);
	arena_free(a);
}

/* What bash offers for a line: the last word is the one being typed. */
static void
test_bash(void **state)
{
	static const struct {
		const char *words, *want, *not_want;
	} rows[] = {
		{ "''", "session", "docs" },
		{ "ses", "session", "run" },
		{ "session ''", "rename", "run" },
		{ "session list --", "--limit", "--attach" },
		{ "run --m", "--model", "--json" },
		{ "run --mode ''", "workspace_write", "--model" },
		{ "run --mode r", "read_only", "workspace_write" },
		{ "run x --stream", "--stream-json", "--json " },
		{ "completion ''", "fish", "--json" },
		{ "--home /tmp --e", "--env-file", "--json" },
	};
	static const char *const argv[] = { "bash", "--norc", NULL };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b;
		char *out;

		completion("bash", &b);
		buf_printf(&b, "COMP_WORDS=(ithaca %s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_ithaca\n"
			       "printf '%%s ' \"${COMPREPLY[@]}\"\n", rows[i].words);
		out = shell("bash", argv, buf_str(&b));
		buf_fini(&b);
		if (!out) {
			print_message("SKIP: no bash here\n");
			return;
		}
		if (!strstr(out, rows[i].want) || strstr(out, rows[i].not_want))
			fail_msg("%s gives \"%s\"", rows[i].words, out);
	}
}

static void
test_zsh_and_fish(void **state)
{
	static const char *const zsh[] = { "zsh", "-f", "-n", NULL };
	static const char *const fish[] = { "fish", "--no-config", "-n", NULL };
	struct buf b;

	completion("zsh", &b);
	assert_non_null(strstr(buf_z(&b), "'--stream-json:"));
	assert_non_null(strstr(buf_z(&b), "--mode) compadd read_only workspace_write"));
	if (!shell("zsh", zsh, buf_str(&b)))
		print_message("SKIP: no zsh here to check the syntax\n");
	buf_fini(&b);
	completion("fish", &b);
	assert_non_null(strstr(buf_z(&b), "-l stream-json"));
	assert_non_null(strstr(buf_z(&b), "-x -a 'read_only workspace_write"));
	if (!shell("fish", fish, buf_str(&b)))
		print_message("SKIP: no fish here to check the syntax\n");
	buf_fini(&b);
}

static void
test_tables(void **state)
{
	static const struct column columns[] = { { "name", "NAME" }, { "at", "WHEN", COLUMN_TIME },
		{ "cost", "COST", COLUMN_MONEY }, { "what", "WHAT" }, { 0 } };
	struct arena *a = arena_new(1 << 20);
	const struct node *list;
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, 1 << 16);
	assert_int_equal(json_parse(a,
				 STR("[{\"name\":\"日本\",\"at\":1763690645678,\"cost\":12345,\"what\":\"a\\u001b[2J\\nb\"},"
				     "{\"name\":\"abcdefg\",\"at\":0,\"what\":null}]"),
				 &list, &e),
		0);
	print_table(list, columns, &out);
	assert_string_equal(buf_z(&out),
		"NAME     WHEN              COST     WHAT\n"
		"日本     2025-11-21 02:04  $0.0124  a\\x1b[2J\\nb\n"
		"abcdefg\n");
	buf_fini(&out);
	arena_free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_run_options),
		cmocka_unit_test(test_help_names_everything),
		cmocka_unit_test(test_bash),
		cmocka_unit_test(test_zsh_and_fish),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
