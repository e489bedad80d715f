/* SPDX-License-Identifier: MIT
 * start, stop, restart, status: the daemon of a home. They speak to the runner over its control socket, so that they work
 * also when the runtime does not; status asks the runtime for what only it knows when that answers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/internal.h"

#define CONTROL_MS 5000
#define START_MS   20000 /* for a runner that is just starting or ending */
#define STOP_MS    15000 /* the runner itself kills after 5 s what does not end */
#define RESTART_MS 30000
#define RUNTIME_MS 3000 /* for status, from a runtime that should be there */
#define LOOK_MS    20

static void
wait_a_little(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
}

static int
print_line(const char *text, struct err *e)
{
	struct buf b;

	buf_init(&b, 64 * KIB);
	term_clean(&b, str_of(text), false);
	buf_add_char(&b, '\n');
	return out_take(&b, e);
}

static int64_t
runner_pid(const struct node *status)
{
	const struct node *roles = node_get(status, "roles");

	for (size_t i = 0; i < node_len(roles); i++)
		if (str_is(node_str(node_at(roles, i), "name", STR("")), "runner"))
			return node_int(node_at(roles, i), "pid", 0);
	return 0;
}

/* ---- status ---- */

static void
print_status(const struct node *r, struct buf *out)
{
	static const struct column columns[] = {
		{ "version", "version" },
		{ "home", "home" },
		{ "config_file", "configuration" },
		{ "tier", "tier" },
		{ "started_at_ms", "started (UTC)", COLUMN_TIME },
		{ "sessions", "sessions", COLUMN_NUMBER },
		{ "turns", "turns", COLUMN_NUMBER },
		{ "private", "ends when idle", COLUMN_VALUE },
		{ 0 },
	};
	static const struct column roles[] = { { "name", "ROLE" }, { "state", "STATE" },
		{ "pid", "PID", COLUMN_VALUE }, { "restarts", "RESTARTS", COLUMN_VALUE }, { "since_ms", "SINCE (UTC)", COLUMN_TIME },
		{ "reason", "WHY" }, { 0 } };
	static const struct column degraded[] = { { "code", "DEGRADED" }, { "text", "WHAT" }, { "fix", "FIX" },
		{ 0 } };

	print_row(r, columns, out);
	if (node_len(node_get(r, "roles")) > 0) {
		buf_add_char(out, '\n');
		print_table(node_get(r, "roles"), roles, out);
	}
	if (node_len(node_get(r, "degraded")) > 0) {
		buf_add_char(out, '\n');
		print_table(node_get(r, "degraded"), degraded, out);
	}
}

static int
show_status(struct cli *c, const struct node *status, struct err *e)
{
	struct buf out;
	struct json j;

	buf_init(&out, JSON_TEXT_MAX);
	if (c->json) {
		json_init(&j, &out);
		json_obj(&j);
		json_kv_bool(&j, "running", true);
		for (size_t i = 0; node_is(status, NODE_MAP) && i < status->map.n; i++) {
			json_key_str(&j, status->map.pairs[i].key);
			json_node(&j, &status->map.pairs[i].value);
		}
		json_obj_end(&j);
		buf_add_char(&out, '\n');
	} else {
		print_status(status, &out);
	}
	return out_take(&out, e);
}

static int
status_none(struct cli *c, struct err *e)
{
	struct buf out;
	struct json j;
	int rc;

	buf_init(&out, 16 * KIB);
	if (c->json) {
		json_init(&j, &out);
		json_obj(&j);
		json_kv_bool(&j, "running", false);
		json_kv_z(&j, "home", c->home);
		json_obj_end(&j);
	} else {
		buf_printf(&out, "no runtime is running for %s (`ithaca start`; a command that needs one starts its own)", c->home);
	}
	buf_add_char(&out, '\n');
	rc = out_take(&out, e);
	return rc != 0 ? rc : 1;
}

static bool
role_is(const struct node *status, const char *name, const char *state)
{
	const struct node *roles = node_get(status, "roles");

	for (size_t i = 0; i < node_len(roles); i++)
		if (str_is(node_str(node_at(roles, i), "name", STR("")), name))
			return str_is(node_str(node_at(roles, i), "state", STR("")), state);
	return false;
}

/* The fullest object there is: the runtime's, else the runner's. */
static int
ask_status(struct cli *c, const struct node **status, struct err *e)
{
	struct err late = { 0 };
	int rc = control_call(c, "status", NULL, CONTROL_MS, status, e);

	if (rc != 0 || !role_is(*status, "runtime", "up"))
		return rc;
	c->wait_ms = RUNTIME_MS;
	rc = call_once(c, API_STATUS_GET, STR("{}"), CONNECT_ONLY, status, &late);
	c->wait_ms = 0;
	return rc == 0 ? 0 : control_call(c, "status", rc == ERR_TIMEOUT ? "silent" : NULL, CONTROL_MS, status, e);
}

int
cmd_status(struct cli *c, struct err *e)
{
	const struct node *status;
	int rc = ask_status(c, &status, e);

	if (rc == ERR_NOT_FOUND || rc == ERR_GONE)
		return status_none(c, e);
	return rc != 0 ? rc : show_status(c, status, e);
}

/* ---- start ---- */

/* In our place: the terminal is the daemon's then. */
static int
exec_runner(struct cli *c, struct err *e)
{
	const char *path = find_ithacad(c->a, e);

	if (!path)
		return e->code;
	execve(path, runner_argv(c, c->a, RUNNER_FOREGROUND, path), runner_env(c, c->a));
	return err_errno(e, errno, ERR_TO_USER, "cannot start %s", path);
}

static void
warn_process(const struct node *status)
{
	static const char text[] =
		"ithaca: WARNING: tier process has no cells: commands are not offered, and file tools are held by Landlock alone "
		"(use tier: cell)\n";

	if (str_is(node_str(status, "tier", STR("")), "process"))
		fd_write_all(STDERR_FILENO, text, sizeof(text) - 1);
}

static int
say_running(struct cli *c, const struct node *status, struct err *e)
{
	const struct node *degraded = node_get(status, "degraded");
	struct buf b;

	warn_process(status);
	if (c->json)
		return show_status(c, status, e);
	buf_init(&b, 1 * MIB);
	buf_printf(&b, "Ithaca runs for %s (pid %lld)\n", c->home, (long long)runner_pid(status));
	for (size_t i = 0; i < node_len(degraded); i++) {
		const struct node *d = node_at(degraded, i);

		buf_printf(&b, "degraded: %s: %s (%s)\n", node_z(d, "code", ""), node_z(d, "text", ""), node_z(d, "fix", ""));
	}
	return out_take(&b, e);
}

static int
already_running(const struct cli *c, const struct node *status, struct err *e)
{
	char since[CLOCK_TEXT_SIZE];

	return err_set(e, ERR_USAGE, ERR_TO_USER, "already running (pid %lld, since %s) for %s (`ithaca restart` starts it anew)",
		(long long)runner_pid(status), clock_text(node_int(status, "started_at_ms", 0), since), c->home);
}

/* Somebody holds the lock. A private runner with our settings stays as the daemon; one with others is asked to end. 0: it
 * is the daemon now; ERR_BUSY: try again. */
static int
take_over(struct cli *c, const struct node **status, struct err *e)
{
	const char *differs;
	int fd;

	if (control_call(c, "status", NULL, CONTROL_MS, status, e) != 0 || role_is(*status, "runner", "stopping"))
		return ERR_BUSY; /* is only just starting, or ends */
	if (!node_bool(*status, "private", false))
		return already_running(c, *status, e);
	differs = settings_differ(c, c->a, NULL);
	if (differs == NULL)
		return control_call(c, "keep", NULL, CONTROL_MS, status, e) == 0 ? 0 : ERR_BUSY;
	fd = unix_connect(path_join(c->a, c->home, "run/rpc.sock"), e);
	if (fd >= 0)
		runner_ask_to_end(c, fd);
	err_set(e, ERR_BUSY, ERR_TO_USER, "a command's own runner works and was started from other settings: %s (wait until it is "
		"done, or stop it)", differs);
	return ERR_BUSY;
}

static int
start_daemon(struct cli *c, const struct node **status, struct err *e)
{
	int64_t until_ms = clock_mono_ms() + START_MS;
	struct err held = { 0 };
	int rc;

	for (;;) {
		rc = runner_start(c, c->a, RUNNER_DAEMON, e);
		if (rc == 0)
			return ask_status(c, status, e);
		if (rc != ERR_BUSY || e->code != 0)
			return rc;
		rc = take_over(c, status, &held);
		if (rc == 0)
			return ask_status(c, status, e);
		if (rc != ERR_BUSY)
			return err_copy(e, &held);
		if (clock_mono_ms() > until_ms)
			return err_set(e, ERR_BUSY, ERR_TO_USER, "%s", held.code == ERR_BUSY ? held.msg :
				"another process holds run/lock but does not answer (see logs/runner.log)");
		wait_a_little();
	}
}

int
cmd_start(struct cli *c, struct err *e)
{
	const struct node *status;
	int rc;

	if (node_bool(c->options, "foreground", false))
		return exec_runner(c, e);
	rc = start_daemon(c, &status, e);
	return rc != 0 ? rc : say_running(c, status, e);
}

/* ---- stop ---- */

/* Whether somebody holds the lock of the home. */
static bool
is_held(const struct cli *c)
{
	AUTO_CLOSE int fd = open(path_join(c->a, c->home, "run/lock"), O_RDWR | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;
}

/* Whether a start that waited for the end of pid has taken its place. */
static bool
is_another(struct cli *c, int64_t pid)
{
	const struct node *status;
	struct err e;

	return pid > 0 && control_call(c, "status", NULL, CONTROL_MS, &status, &e) == 0 && runner_pid(status) != pid;
}

/* Until what pid (0: not known) held is free. */
static bool
wait_free(struct cli *c, int64_t pid, int64_t ms)
{
	int64_t until_ms = clock_mono_ms() + ms;

	while (is_held(c) && !is_another(c, pid)) {
		if (clock_mono_ms() > until_ms)
			return false;
		wait_a_little();
	}
	return true;
}

/* *was: one ran. The text says how it went. */
static int
stop_daemon(struct cli *c, const char *about, bool *was, const char **text, struct err *e)
{
	const struct node *result;
	int rc = control_call(c, "stop", about, STOP_MS, &result, e);

	*was = rc != ERR_NOT_FOUND || is_held(c);
	if (rc == ERR_NOT_FOUND && !*was) {
		*text = "nothing is running";
		return 0;
	}
	if (rc != 0 && rc != ERR_NOT_FOUND && rc != ERR_GONE)
		return rc;
	if (!wait_free(c, rc == 0 ? node_int(result, "pid", 0) : 0, STOP_MS))
		return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "something still holds %s/run/lock (see %s/logs/runtime.log)", c->home,
			c->home);
	if (rc != 0)
		*text = "stopped; the runner was gone already";
	else if (node_int(result, "killed", 0) > 0)
		*text = arena_printf(c->a, "stopped; did not end in time and was killed: %s", node_z(result, "left", ""));
	else
		*text = arena_printf(c->a, "stopped (pid %lld)", (long long)node_int(result, "pid", 0));
	return 0;
}

int
cmd_stop(struct cli *c, struct err *e)
{
	const char *text;
	bool was;
	int rc = stop_daemon(c, NULL, &was, &text, e);

	if (rc != 0 || !c->json)
		return rc != 0 ? rc : print_line(text, e);
	return out_text(str_of(was ? "{\"stopped\":true}\n" : "{\"stopped\":false}\n"), e);
}

/* ---- restart ---- */

int
cmd_restart(struct cli *c, struct err *e)
{
	const char *role = node_z(c->options, "role", NULL), *text;
	const struct node *status;
	bool was;
	int rc;

	if (role && strcmp(role, "all") != 0) {
		rc = control_call(c, "restart", role, RESTART_MS, &status, e);
		if (rc == ERR_NOT_FOUND)
			return err_set(e, rc, ERR_TO_USER, "nothing is running for %s (`ithaca start`)", c->home);
		if (rc != 0 || c->json)
			return rc != 0 ? rc : show_status(c, status, e);
		return print_line(arena_printf(c->a, "%s was started again", role), e);
	}
	rc = stop_daemon(c, "restart", &was, &text, e);
	if (rc == 0)
		rc = start_daemon(c, &status, e);
	return rc != 0 ? rc : say_running(c, status, e);
}
