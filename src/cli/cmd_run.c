/* SPDX-License-Identifier: MIT
 * From the options of `ithaca run` to a turn: which session, which text, which workspace, and how to show it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/path.h"
#include "cli/run.h"
#include "cli/task.h"

static bool
is_utf8_terminal(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *v = getenv(names[i]);

		if (v && *v)
			return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
	}
	return false;
}

static struct live_style
style_for(const struct cli *c, enum run_output output)
{
	int fd = output == OUTPUT_LIVE ? STDOUT_FILENO : STDERR_FILENO;
	const char *term = getenv("TERM");
	bool is_tty = isatty(fd), is_smart = is_tty && term && *term && strcmp(term, "dumb") != 0;
	bool is_shown = output == OUTPUT_LIVE || output == OUTPUT_PLAIN;
	const char *no_color = getenv("NO_COLOR");
	struct winsize size = { 0 };

	if (is_tty)
		ioctl(fd, TIOCGWINSZ, &size);
	return (struct live_style){
		.text = output == OUTPUT_LIVE,
		.spinner = is_smart && is_shown,
		.color = is_smart && !(no_color && *no_color),
		.utf8 = is_utf8_terminal(),
		.verbose = c->verbose,
		.columns = size.ws_col ? size.ws_col : is_tty ? 80 : 160,
		.rows = size.ws_row,
	};
}

static int
workspace(struct cli *c, const char **out, struct err *e)
{
	const char *given = node_z(c->options, "workspace", NULL);
	struct stat st;
	char *path;

	if (given && strcmp(given, "user") == 0) {
		*out = given;
		return 0;
	}
	path = realpath(given ? given : ".", NULL);
	if (!path && given)
		return err_set(e, ERR_USAGE, ERR_TO_USER, "--workspace %.100s: %s (give a directory that is there)",
			given, strerror(errno));
	if (!path)
		return err_errno(e, errno, ERR_TO_USER, "the current directory");
	*out = arena_strdup(c->a, str_of(path));
	free(path);
	if (stat(*out, &st) != 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ERR_USAGE, ERR_TO_USER, "--workspace %.150s: is not a directory", *out);
	return 0;
}

/* The newest session: what --continue means without --session. */
static int
newest_session(struct cli *c, const char **out, struct err *e)
{
	const struct node *result;

	if (call_once(c, API_SESSION_LIST, STR("{\"limit\":1}"), CONNECT_START, &result, e) != 0)
		return e->code;
	*out = node_z(node_at(node_get(result, "sessions"), 0), "session", NULL);
	if (!*out)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER,
			"--continue: there is no session yet (give a task: ithaca run \"...\")");
	return 0;
}

static int
check_options(const struct node *o, bool has_text, struct err *e)
{
	bool is_continue = node_bool(o, "continue", false);

	if (node_bool(o, "json", false) && node_bool(o, "stream_json", false))
		return err_set(e, ERR_USAGE, ERR_TO_USER, "--json and --stream-json exclude each other");
	if (node_bool(o, "new", false) && (is_continue || node_get(o, "session")))
		return err_set(e, ERR_USAGE, ERR_TO_USER, "--new excludes --session and --continue");
	if (node_get(o, "name") && (is_continue || node_get(o, "session")))
		return err_set(e, ERR_USAGE, ERR_TO_USER,
			"--name is for a new session (for an old one: ithaca session rename)");
	if (node_bool(o, "insecure", false) && node_get(o, "tier") &&
		strcmp(node_z(o, "tier", ""), "process") != 0)
		return err_set(e, ERR_USAGE, ERR_TO_USER, "--insecure is tier process: leave --tier out");
	if (!has_text && node_len(node_get(o, "attach")) > 0)
		return err_set(e, ERR_USAGE, ERR_TO_USER,
			"--attach goes with a task (ithaca run --attach FILE \"what is this?\")");
	if (!has_text && !is_continue)
		return err_set(e, ERR_USAGE, ERR_TO_USER,
			"no task was given (ithaca run \"list the files\", or - to read it from standard input)");
	return 0;
}

static int
read_task(struct cli *c, struct buf *text, struct err *e)
{
	const struct node *words = node_get(c->options, "task");
	struct task task = { .stdin_fd = STDIN_FILENO };
	struct buf typed;
	int rc;

	buf_init(&typed, 2 * USER_TEXT_MAX);
	for (size_t i = 0; i < node_len(words); i++) {
		struct str word = node_at(words, i)->s;

		if (str_is(word, "-")) {
			task.is_stdin_task = true;
			continue;
		}
		if (typed.n > 0)
			buf_add_char(&typed, ' ');
		buf_add_str(&typed, word);
	}
	task.text = buf_str(&typed);
	/* Going on takes no text, so there is nothing that a pipe could be context for; without --continue a pipe is then
	 * the task. */
	if (typed.n == 0 && !task.is_stdin_task) {
		task.is_stdin_task = !node_bool(c->options, "continue", false) && !isatty(STDIN_FILENO);
		task.stdin_fd = task.is_stdin_task ? STDIN_FILENO : -1;
	}
	rc = task_text(&task, text, e);
	buf_fini(&typed);
	return rc;
}

static void
write_files(const struct run *r, struct json *j)
{
	json_kv_arr(j, "attachments");
	for (size_t i = 0; i < r->files_n; i++) {
		json_obj(j);
		json_kv_z(j, "blob", r->files[i].hash);
		json_kv_z(j, "name", r->files[i].name);
		json_obj_end(j);
	}
	json_arr_end(j);
}

static int
read_schema(struct cli *c, const char *path, const struct node **out, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t n;

	if (file_read(path, ANSWER_SCHEMA_MAX, &text, &n, e) != 0)
		return err_wrap(e, "--schema");
	if (json_parse(c->a, arena_str(c->a, (struct str){ text, n }), out, e) != 0)
		return err_wrap(e, "--schema %.100s", path);
	return 0;
}

static int
turn_params(struct run *r, const char *session, struct str text, struct err *e)
{
	static const char *const same[] = { "model", "agent", "mode", "name", "effort" };
	const struct node *o = r->cli->options;
	const char *dir = NULL;
	const struct node *schema = NULL;
	struct json j;

	if ((!session || node_get(o, "workspace")) && workspace(r->cli, &dir, e) != 0)
		return e->code;
	if (node_get(o, "schema") && read_schema(r->cli, node_z(o, "schema", ""), &schema, e) != 0)
		return e->code;
	json_init(&j, &r->params);
	json_obj(&j);
	if (session)
		json_kv_z(&j, "session", session);
	json_kv_str(&j, "text", text);
	json_kv_z(&j, "turn", r->turn);
	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		if (node_get(o, same[i]))
			json_kv_node(&j, same[i], node_get(o, same[i]));
	if (schema)
		json_kv_node(&j, "schema", schema);
	if (dir)
		json_kv_z(&j, "workspace", dir);
	if (node_bool(o, "yes", false))
		json_kv_bool(&j, "yes", true);
	if (r->files_n > 0)
		write_files(r, &j);
	json_obj_end(&j);
	return 0;
}

static int
prepare(struct run *r, struct err *e)
{
	const struct node *o = r->cli->options;
	const char *session = node_z(o, "session", NULL);
	struct buf text;
	struct json j;
	int rc;

	buf_init(&text, 4 * USER_TEXT_MAX);
	rc = read_task(r->cli, &text, e);
	if (rc == 0)
		rc = check_options(o, text.n > 0, e);
	if (rc == 0)
		rc = attach_read(node_get(o, "attach"), &r->files, &r->files_n, e);
	if (rc == 0 && !session && node_bool(o, "continue", false))
		rc = newest_session(r->cli, &session, e);
	if (rc == 0 && text.n > 0) {
		struct id id = id_new();

		memcpy(r->turn, id.z, sizeof(r->turn));
		r->is_new_session = session == NULL;
		rc = turn_params(r, session, buf_str(&text), e);
	} else if (rc == 0) {
		r->method = API_SESSION_CONTINUE;
		json_init(&j, &r->params);
		json_obj(&j);
		json_kv_z(&j, "session", session);
		json_obj_end(&j);
	}
	buf_fini(&text);
	return rc;
}

int
cmd_run(struct cli *c, struct err *e)
{
	const struct node *o = c->options;
	enum run_output output = node_bool(o, "json", false) ? OUTPUT_JSON :
		node_bool(o, "stream_json", false)           ? OUTPUT_STREAM :
		isatty(STDOUT_FILENO)                        ? OUTPUT_LIVE :
							       OUTPUT_PLAIN;
	struct run r;
	int exit;

	run_init(&r, c, output, style_for(c, output));
	r.may_ask = (output == OUTPUT_LIVE || output == OUTPUT_PLAIN) && ask_possible();
	exit = prepare(&r, e) == 0 ? run_turn(&r) : run_refuse(&r, e);
	e->code = 0; /* said already */
	run_fini(&r);
	return exit;
}

int
cmd_run_refuse(struct cli *c, struct err *e)
{
	struct run r;
	int exit;

	run_init(&r, c, OUTPUT_JSON, style_for(c, OUTPUT_JSON));
	exit = run_refuse(&r, e);
	e->code = 0;
	run_fini(&r);
	return exit;
}
