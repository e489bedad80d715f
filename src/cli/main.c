/* SPDX-License-Identifier: MIT
 * `ithaca`: finds the command, reads its options and the global ones, runs it, reports its error. The only place that
 * looks at the environment for where things are. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/args.h"
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/internal.h"
#include "ithaca-version.h"

#define ARGS_MAX     4096
#define ENV_FILE_MAX (1u * MIB)
#define ENV_MAX      4096

/* ---- finding the command ---- */

/* Whether this word is a global option whose value is the next word. */
static bool
takes_next(const char *word)
{
	for (const struct field *f = global_options; f->type != FIELD_END; f++) {
		if (f->type == FIELD_BOOL)
			continue;
		if (word[0] == '-' && word[1] == '-' && strlen(f->name) == strlen(word + 2)) {
			size_t i = 0;

			while (f->name[i] && (word[2 + i] == f->name[i] || (word[2 + i] == '-' && f->name[i] == '_')))
				i++;
			if (!f->name[i])
				return true;
		}
		if (f->short_opt && word[0] == '-' && word[1] == f->short_opt && !word[2])
			return true;
	}
	return false;
}

/* Index of the first word that is neither an option nor the value of one. */
static int
command_at(int argc, char **argv)
{
	int i = 1;

	while (i < argc && argv[i][0] == '-' && argv[i][1])
		i += takes_next(argv[i]) ? 2 : 1;
	return MIN(i, argc);
}

/* Whether this word stands among the options, whatever is wrong with the others. */
static bool
has_word(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], word) == 0)
			return true;
	return false;
}

/* Options and no command: the options may be what is wrong. */
static int
no_command(struct cli *c, int argc, char **argv, struct err *e)
{
	const struct node *options;

	if (args_parse(global_options, argc - 1, argv + 1, c->a, &options, e) != 0)
		return e->code;
	return err_set(e, ERR_USAGE, ERR_TO_USER, "no command was given (ithaca --help lists them)");
}

/* ---- global options ---- */

static const char *
absolute(struct cli *c, const char *path, struct err *e)
{
	char cwd[4096];

	if (path[0] == '/')
		return path_clean(c->a, path);
	if (!getcwd(cwd, sizeof(cwd))) {
		err_errno(e, errno, ERR_TO_USER, "cannot tell the current directory");
		return NULL;
	}
	return path_clean(c->a, path_join(c->a, cwd, path));
}

static int
find_home(struct cli *c, struct err *e)
{
	const char *home = node_z(c->options, "home", NULL);
	const char *user_home = getenv("HOME");

	if (!home)
		home = getenv("ITHACA_HOME");
	if (home && *home)
		c->home = absolute(c, home, e);
	else if (user_home && user_home[0] == '/')
		c->home = path_join(c->a, user_home, ".ithaca");
	else
		err_set(e, ERR_CONFIG, ERR_TO_USER,
			"cannot tell where the home is (set HOME or ITHACA_HOME, or give --home DIR)");
	return c->home ? 0 : e->code;
}

static bool
is_env_pair(struct str s)
{
	ptrdiff_t eq = str_find_char(s, '=');

	if (eq < 1 || (s.p[0] >= '0' && s.p[0] <= '9') || memchr(s.p, '\0', s.n))
		return false;
	for (ptrdiff_t i = 0; i < eq; i++) {
		char x = s.p[i];

		if (x != '_' && !(x >= 'A' && x <= 'Z') && !(x >= 'a' && x <= 'z') && !(x >= '0' && x <= '9'))
			return false;
	}
	return true;
}

static int
env_add(struct cli *c, char **env, struct str pair, struct err *e)
{
	if (c->env_n >= ENV_MAX)
		return err_set(e, ERR_USAGE, ERR_TO_USER, "more than %d environment variables", ENV_MAX);
	env[c->env_n++] = arena_strdup(c->a, pair);
	return 0;
}

static int
env_from_file(struct cli *c, char **env, const char *path, struct err *e)
{
	AUTO_FREE char *content = NULL;
	struct str rest, line;
	size_t n;

	if (file_read(path, ENV_FILE_MAX, &content, &n, e) != 0)
		return err_wrap(e, "--env-file");
	rest = (struct str){ content, n };
	for (int number = 1; rest.n > 0 && str_next(&rest, '\n', &line); number++) {
		line = str_trim(line);
		if (line.n == 0 || line.p[0] == '#')
			continue;
		if (!is_env_pair(line))
			return err_set(e, ERR_USAGE, ERR_TO_USER,
				"%.120s line %d: is not NAME=VALUE (one variable per line, # starts a comment)", path, number);
		if (env_add(c, env, line, e) != 0)
			return e->code;
	}
	return 0;
}

/* Options that are settings of the runtime that the command starts: another spelling of -e. */
static const struct {
	const char *words, *option, *variable;
} settings[] = {
	{ "run", "allow_unknown_model", "ITHACA__CATALOG__ALLOW_UNKNOWN" },
	{ "catalog fetch", "url", "ITHACA__CATALOG__URL" },
};

static int
env_from_options(struct cli *c, char **env, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		const struct node *value = node_get(c->options, settings[i].option);
		bool is_on = node_is(value, NODE_STR) || (node_is(value, NODE_BOOL) && value->b);

		if (!is_on || strcmp(c->command->words, settings[i].words) != 0)
			continue;
		if (env_add(c, env,
			    str_of(arena_printf(c->a, "%s=%s", settings[i].variable,
				    node_is(value, NODE_STR) ? value->s.p : "true")),
			    e) != 0)
			return e->code;
	}
	return 0;
}

static int
read_env(struct cli *c, struct err *e)
{
	const struct node *list = node_get(c->options, "env");
	const char *path = node_z(c->options, "env_file", NULL);
	char **env;

	env = arena_alloc(c->a, ENV_MAX * sizeof(*env));
	c->env = env;
	if (path && env_from_file(c, env, path, e) != 0)
		return e->code;
	for (size_t i = 0; i < node_len(list); i++) {
		struct str pair = node_at(list, i)->s;

		if (!is_env_pair(pair))
			return err_set(e, ERR_USAGE, ERR_TO_USER, "-e %.*s: is not NAME=VALUE",
				(int)utf8_cut(pair, 60), pair.p);
		if (env_add(c, env, pair, e) != 0)
			return e->code;
	}
	return env_from_options(c, env, e);
}

static int
read_globals(struct cli *c, struct err *e)
{
	const char *config = node_z(c->options, "config", NULL);
	const char *user = node_z(c->options, "user", "default");
	const char *tier = node_z(c->options, "tier", NULL);

	if (strcmp(user, "default") != 0)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"--user %.60s: this home has the user \"default\" alone (leave --user out)", user);
	c->verbose = node_bool(c->options, "verbose", false);
	c->json = node_bool(c->options, "json", false);
	/* Elsewhere tier is a parameter of the call; here it is a setting of the runner. */
	if (c->command->run == cmd_run || c->command->run == cmd_start || c->command->run == cmd_restart) {
		c->tier = node_bool(c->options, "insecure", false) ? "process" : tier;
		if (c->tier && strcmp(c->tier, "micro_vm") == 0)
			c->tier = "microvm";
	}
	if (c->command->run == cmd_doctor)
		c->tier = node_z(c->options, "in_tier", NULL);
	if (config && !(c->config = absolute(c, config, e)))
		return e->code;
	if (c->command->flags & CMD_LOCAL)
		return 0;
	return find_home(c, e) != 0 ? e->code : read_env(c, e);
}

/* ---- running ---- */

/* The words without those of the command: options may stand before and after it. */
static int
parse(struct cli *c, int argc, char **argv, int at, size_t used, struct err *e)
{
	char **words = arena_alloc(c->a, ((size_t)argc + 1) * sizeof(*words));
	const struct field *fields = command_fields(c->a, c->command);
	const struct node *options;
	int n = 0;

	for (int i = 1; i < argc; i++)
		if (i < at || i >= at + (int)used)
			words[n++] = argv[i];
	if (args_parse(fields, n, words, c->a, &options, e) != 0)
		return err_wrap(e, "%s", c->command->words);
	c->options = field_defaults(fields, options, c->a);
	return read_globals(c, e);
}

static int
dispatch(struct cli *c, int argc, char **argv, struct err *e)
{
	int at = command_at(argc, argv);
	size_t used = 0;
	bool help = has_word(argc, argv, "--help") || has_word(argc, argv, "-h");

	for (int i = 1; i < at; i++)
		if (strcmp(argv[i], "--version") == 0)
			return out_text(STR("ithaca " ITHACA_VERSION "\n"), e);
	if (at == argc && argc > 1 && !help)
		return no_command(c, argc, argv, e);
	if (at == argc) {
		int rc = help_print(c, NULL, e);

		return rc != 0 || help ? rc : err_exit_status(ERR_USAGE);
	}
	c->command = command_find(argv + at, (size_t)(argc - at), &used, e);
	if (!c->command && help)
		return help_print(c, NULL, e);
	if (!c->command)
		return e->code;
	if (help)
		return help_print(c, c->command, e);
	if (parse(c, argc, argv, at, used, e) != 0)
		return c->command->run == cmd_run && has_word(argc, argv, "--json") ? cmd_run_refuse(c, e) : e->code;
	return c->command->run(c, e);
}

/* A caller may have closed them. What is opened later must not take their place: a socket would get the output. Standard
 * input is then empty, standard output takes nothing and says so, messages go nowhere. */
static void
open_standard(void)
{
	static const int modes[] = { O_RDONLY, O_RDONLY, O_WRONLY };

	for (int fd = 0; fd < (int)ARRAY_LEN(modes); fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			_exit(1);
}

/* For a program that reads the output of --json: it always finds an object. */
static void
out_error(const struct err *e)
{
	struct err late;
	struct json j;
	struct buf b;

	buf_init(&b, 8 * ERR_MSG_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_obj(&j, "error");
	json_kv_err(&j, e);
	json_obj_end(&j);
	json_obj_end(&j);
	buf_add_char(&b, '\n');
	(void)!out_text(buf_str(&b), &late); /* where that is what failed, it was said */
	buf_fini(&b);
}

int
main(int argc, char **argv)
{
	struct cli c = { 0 };
	struct err e = { 0 };
	int status;

	open_standard();
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return write(STDOUT_FILENO, "ithaca " ITHACA_VERSION "\n", sizeof("ithaca " ITHACA_VERSION)) < 0;
	if (argc > ARGS_MAX) {
		err_set(&e, ERR_USAGE, ERR_TO_USER, "more than %d words on the command line", ARGS_MAX);
		report(&e);
		return err_exit_status(e.code);
	}
	/* A reader that went away is an error of a write, not a death. */
	signal(SIGPIPE, SIG_IGN);
	c.a = arena_new(256u * MIB);
	status = dispatch(&c, argc, argv, &e);
	if (status < 0) {
		if (has_word(argc, argv, "--json"))
			out_error(&e);
		report(&e);
		status = err_exit_status(status);
	}
	arena_free(c.a);
	return status;
}
