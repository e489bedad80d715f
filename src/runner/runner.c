/* SPDX-License-Identifier: MIT
 * The life of the runner: options, settings, lock, sockets, then the roles until it is told to stop. It parses nothing that
 * a model, guest or peer wrote, and outlives each of its roles. */
#include "runner/internal.h"

#include "base/args.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STOP_MS        5000 /* then what has not ended is killed */
#define LOCK_WAIT_MS   500 /* while somebody listens, who may be about to end */
#define ENDING_WAIT_MS 15000 /* for the runtime of a runner that was killed: it ends within 10 s */
#define LOCK_LOOK_MS   20

/* ---- telling ---- */

static void
client_fault(struct runner *r, const struct err *e)
{
	struct json *j;

	if (r->client == NULL)
		return;
	j = wire_begin(r->client, WIRE_FAULT, 0);
	json_kv_err(j, e);
	wire_end(r->client, STR(""), -1);
	wire_close_flushed(r->client);
	r->client = NULL;
}

static void
client_ready(struct runner *r)
{
	if (r->client == NULL)
		return;
	wire_begin(r->client, WIRE_READY, 0);
	wire_end(r->client, STR(""), -1);
	wire_close_flushed(r->client);
	r->client = NULL;
}

static bool
is_role_up(const struct runner *r, enum role role)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (r->processes[i].role == role)
			return role_is_up(&r->processes[i]);
	return false;
}

/* The runtime's copy, for status.get. */
static void
tell_runtime(struct runner *r)
{
	struct process *runtime = role_find(r, str_of(role_name(ROLE_RUNTIME)));
	struct role_health roles[ROLES_HEALTH_MAX];
	size_t n = roles_health(r, roles);
	int trouble = outputs_trouble(r->outputs);
	struct buf b;
	struct json j;

	if (runtime->link == NULL)
		return;
	buf_init(&b, 64 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_bool(&j, "private", r->is_private);
	json_kv_int(&j, "started_at_ms", r->started_ms);
	if (trouble != 0)
		json_kv_z(&j, "log_trouble", strerror(trouble));
	json_key(&j, "roles");
	json_arr(&j);
	for (size_t i = 0; i < n; i++)
		role_health_write(&roles[i], &j);
	json_arr_end(&j);
	json_obj_end(&j);
	wire_begin(runtime->link, WIRE_STATUS, 0);
	wire_end(runtime->link, buf_str(&b), -1);
	buf_fini(&b);
}

void
runner_changed(struct runner *r)
{
	bool all_up = true;

	for (size_t i = 0; i < PROCESSES; i++)
		all_up = all_up && role_is_up(&r->processes[i]);
	tell_runtime(r);
	control_changed(r);
	if (all_up && !r->was_ready) {
		r->was_ready = true;
		notify("READY=1\nSTATUS=every role answers");
	}
	/* A command that started us for itself needs the runtime, and the tier that was asked for; who starts the daemon wants
	 * all of it. */
	if (r->is_private && !settings_needs_guest(&r->settings) && !settings_insists(&r->settings) ? is_role_up(r, ROLE_RUNTIME) : all_up)
		client_ready(r);
	if (r->is_stopping && !roles_running(r))
		loop_stop(r->loop);
}

void
runner_faulted(struct runner *r, struct process *p, const struct err *e)
{
	if (r->client == NULL && !(r->is_private && p->role == ROLE_RUNTIME))
		return; /* a daemon stays: status says what is wrong, and `ithaca restart` tries again */
	r->status = err_exit_status(e->code);
	client_fault(r, e);
	runner_stop(r);
}

/* ---- stopping ---- */

static void
on_stop_timer(void *arg)
{
	struct runner *r = arg;

	roles_kill(r);
	runner_changed(r);
}

void
runner_stop(struct runner *r)
{
	if (r->is_stopping)
		return;
	r->is_stopping = true;
	notify("STOPPING=1");
	log_info("stopping", LOG_I("pid", getpid()));
	if (r->rpc_fd >= 0)
		home_unlink(r, r->rpc_path);
	if (home_is_ours(r->home, r->lock_fd))
		settings_forget(r->home);
	r->stop_timer = timer_start(r->loop, STOP_MS, on_stop_timer, r);
	roles_stop(r);
	runner_changed(r);
}

void
runner_mark_stopped(const struct runner *r)
{
	AUTO_FREE char *path = xasprintf("%s/run/stopped", r->home);
	int fd = home_is_ours(r->home, r->lock_fd) ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		close(fd);
}

static void
forget_stopped(const struct runner *r)
{
	AUTO_FREE char *path = xasprintf("%s/run/stopped", r->home);

	(void)unlink(path);
}

static void
on_signal(void *arg)
{
	const struct runner *r = arg;

	if (!r->is_private)
		runner_mark_stopped(r);
	runner_stop(arg);
}

/* A command found that it would start us from other settings: the next one starts a runner from those. Or our terminal is gone. */
static void
on_hangup(void *arg)
{
	struct runner *r = arg;

	if (r->ends_with_terminal)
		on_signal(r);
	r->is_stale = r->is_private;
	if (r->is_stale && r->is_idle)
		runner_stop(r);
}

/* No command reaches a daemon whose home is not at its path any more, and another may come there. */
static void
on_home(void *arg)
{
	struct runner *r = arg;

	if (r->is_stopping || home_is_ours(r->home, r->lock_fd))
		return;
	log_error("the home was removed or renamed, so its daemon ends", LOG_S("home", r->home));
	runner_stop(r);
}

/* Who started us may still wait for a sidecar, with his work behind it. */
static void
on_idle_timer(void *arg)
{
	struct runner *r = arg;

	if (r->client != NULL)
		timer_again(r->idle_timer, config_int(r->settings.config, "runner.idle_ms"));
	else
		runner_stop(r);
}

void
runner_idle(struct runner *r, bool is_idle)
{
	r->is_idle = is_idle;
	if (!r->is_private)
		return;
	if (!is_idle)
		timer_stop(r->idle_timer);
	else if (r->is_stale)
		runner_stop(r);
	else
		timer_again(r->idle_timer, config_int(r->settings.config, "runner.idle_ms"));
}

void
runner_keep(struct runner *r)
{
	struct err e;

	if (!r->is_private)
		return;
	r->is_private = false;
	timer_stop(r->idle_timer);
	if (settings_note(&r->settings, r->home, false, &e) != 0)
		log_warn("the note of a private runner could not be removed", LOG_E(&e));
	log_info("this private runner is the daemon from now on", LOG_I("pid", getpid()));
	runner_changed(r);
}

/* ---- options ---- */

static const struct field set_item = { .type = FIELD_STR };
static const struct field options[] = {
	{ .name = "home", .type = FIELD_STR, .text = "Home directory; default $ITHACA_HOME, else ~/.ithaca." },
	{ .name = "config", .type = FIELD_STR, .text = "Configuration file instead of HOME/config.yaml." },
	{ .name = "set", .type = FIELD_LIST, .item = &set_item, .text = "key=value of the configuration; may be repeated." },
	{ .name = "private", .type = FIELD_BOOL, .flags = FIELD_HIDDEN, .text = "Started by a command: end when idle." },
	{ .name = "linked", .type = FIELD_BOOL, .flags = FIELD_HIDDEN, .text = "Started by a command that waits for a word." },
	{ .name = "version", .type = FIELD_BOOL, .text = "Print the version." },
	{ .name = "help", .type = FIELD_BOOL, .text = "Print this help." },
	{ .type = FIELD_END },
};

static char *
home_of(const struct node *opts)
{
	const char *home = node_z(opts, "home", getenv("ITHACA_HOME"));

	if (home != NULL && home[0] == '/')
		return xstrdup(home);
	if (home != NULL && home[0] != '\0') {
		AUTO_FREE char *cwd = realpath(".", NULL);

		return xasprintf("%s/%s", cwd != NULL ? cwd : "", home);
	}
	return xasprintf("%s/.ithaca", getenv("HOME") != NULL ? getenv("HOME") : "/root");
}

static int
make_home(struct runner *r, struct err *e)
{
	static const char *const dirs[] = { "run", "logs", "state", "state/cells", "state/spool" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		AUTO_FREE char *dir = xasprintf("%s/%s", r->home, dirs[i]);
		int rc = path_mkdirs(dir, 0700, e);

		if (rc != 0)
			return rc;
	}
	return gateway_user_dirs(r->settings.config, r->home, e);
}

/* Of a daemon that was killed the runtime may still be on its way out: nobody listens, and the lock comes free soon. */
static bool
is_ending(const char *rpc_path)
{
	struct err e;
	int fd = unix_connect(rpc_path, &e);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

/* One runner per home, and one runtime: both hold the lock. A command that starts a runner has it already and hands it
 * on. */
static int
take_lock(struct runner *r, struct err *e)
{
	AUTO_FREE char *path = xasprintf("%s/run/lock", r->home);
	int64_t began_ms = clock_mono_ms();

	if (r->is_linked) {
		r->lock_fd = FD_LOCK;
		return fcntl(FD_LOCK, F_SETFD, FD_CLOEXEC) == 0 ? 0 :
			err_set(e, ERR_USAGE, ERR_TO_USER, "--private and --linked are for `ithaca` only");
	}
	r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "%s", path);
	while (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		if (clock_mono_ms() - began_ms > (is_ending(r->rpc_path) ? ENDING_WAIT_MS : LOCK_WAIT_MS))
			return err_set(e, ERR_BUSY, ERR_TO_USER,
				"Ithaca already runs for %s (stop it first, or choose another --home)", r->home);
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_LOOK_MS * 1000000L }, NULL);
	}
	return 0; /* held until we end */
}

static int
open_sockets(struct runner *r, struct err *e)
{
	r->rpc_fd = unix_listen(r->rpc_path, 0600, e);
	return r->rpc_fd < 0 ? r->rpc_fd : control_open(r, e);
}

static int
find_programs(struct runner *r, struct err *e)
{
	r->bin_dir = program_dir(e);
	return r->bin_dir == NULL ? e->code : 0;
}

/* ---- life ---- */

static int
client_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct runner *r = arg;

	if (m->kind == WIRE_STOP)
		runner_stop(r);
	return 0;
}

static void
client_gone(void *arg, struct wire *w, const struct err *e)
{
	((struct runner *)arg)->client = NULL;
}

static const struct wire_handler client_handler = { client_msg, client_gone };

/* Records go to logs/runner.log; in the foreground also to whoever looks at standard error. */
static void
open_logs(struct runner *r)
{
	const struct config *c = r->settings.config;
	enum log_level level = LOG_INFO;
	int fd;

	r->outputs = outputs_open(r->loop, r->home, c);
	fd = logfile_fd(outputs_file(r->outputs, ROLE_RUNNER));
	if (log_level_parse(str_of(config_z(c, "log.level")), &level) != 0)
		level = LOG_INFO;
	log_open("runner", fd >= 0 ? fd : 2, level, strcmp(config_z(c, "log.format"), "json") == 0 ? LOG_JSON : LOG_LOGFMT);
	if (!r->is_linked && fd >= 0)
		log_copy(2);
	logfile_check(outputs_file(r->outputs, ROLE_RUNNER));
}

static int
prepare(struct runner *r, const struct node *opts, struct err *e)
{
	int rc;

	r->home = home_of(opts);
	r->rpc_path = xasprintf("%s/run/rpc.sock", r->home);
	if ((rc = find_programs(r, e)) != 0 || (rc = settings_load(&r->settings, r->home, opts, e)) != 0 ||
		(rc = make_home(r, e)) != 0 || (rc = take_lock(r, e)) != 0 ||
		(rc = settings_note(&r->settings, r->home, r->is_private, e)) != 0 || (rc = open_sockets(r, e)) != 0)
		return rc;
	forget_stopped(r);
	open_logs(r);
	r->env = env_keys_take(r->settings.config);
	masters_load(&r->masters, r->home, !r->is_linked && isatty(0) && isatty(2));
	return 0;
}

static void
run(struct runner *r)
{
	r->idle_timer = timer_start(r->loop, 1000, on_idle_timer, r);
	timer_stop(r->idle_timer);
	r->term = signal_start(r->loop, SIGTERM, on_signal, r);
	r->interrupt = signal_start(r->loop, SIGINT, on_signal, r);
	r->hangup = signal_start(r->loop, SIGHUP, on_hangup, r);
	r->home_watch = home_watch_start(r->loop, r->home, on_home, r);
	log_info("started", LOG_I("pid", getpid()), LOG_S("home", r->home), LOG_S("tier", settings_tier(&r->settings)));
	roles_open(r);
	loop_run(r->loop);
}

static void
finish(struct runner *r)
{
	roles_close(r);
	wire_close(r->client);
	timer_close(r->idle_timer);
	timer_close(r->stop_timer);
	signal_close(r->term);
	signal_close(r->interrupt);
	signal_close(r->hangup);
	home_watch_close(r->home_watch);
	if (r->rpc_fd >= 0)
		close(r->rpc_fd);
	if (r->rpc_fd >= 0 && !r->is_stopping)
		home_unlink(r, r->rpc_path);
	if (r->outputs != NULL && r->is_stopping)
		log_info("stopped", LOG_I("killed", (int64_t)r->killed));
	log_copy(-1);
	log_open("runner", 2, LOG_WARN, LOG_LOGFMT);
	outputs_close(r->outputs);
	control_close(r);
	settings_fini(&r->settings);
	env_keys_free(r->env);
	masters_fini(&r->masters);
	free(r->home);
	free(r->bin_dir);
	free(r->rpc_path);
	loop_close(r->loop);
}

int
runner_main(int argc, char **argv)
{
	struct arena *a = arena_new(1 * MIB);
	struct runner r = { .rpc_fd = -1, .lock_fd = -1, .started_ms = clock_wall_ms() };
	const struct node *opts = &node_null;
	struct err e = { 0 };
	int rc = args_parse(options, argc - 1, argv + 1, a, &opts, &e);

	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	r.is_private = node_bool(opts, "private", false);
	r.is_linked = r.is_private || node_bool(opts, "linked", false);
	/* Until the loop watches for it; one that was started by nohup finds it so. */
	r.ends_with_terminal = signal(SIGHUP, SIG_IGN) != SIG_IGN && !r.is_linked && (isatty(0) || isatty(2));
	/* What else the command had open is not ours to hold: a lock, or a pipe whose reader waits for the end. */
	(void)close_range(r.is_linked ? FD_LOCK + 1 : FD_LINK, ~0U, 0);
	if (rc == 0)
		rc = loop_open(&r.loop, &e);
	if (rc == 0 && r.is_linked)
		r.client = wire_open(r.loop, FD_LINK, ROLE_RUNNER, ROLE_CLIENT, &client_handler, &r);
	if (rc == 0)
		rc = prepare(&r, opts, &e);
	if (rc == 0) {
		run(&r);
	} else {
		if (!r.is_linked)
			fprintf(stderr, "ithacad: %s\n", e.msg);
		r.status = err_exit_status(e.code);
		if (r.client != NULL) {
			client_fault(&r, &e);
			loop_run(r.loop);
		}
	}
	arena_free(a);
	if (r.loop != NULL)
		finish(&r);
	return r.status;
}
