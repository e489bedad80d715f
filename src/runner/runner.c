/* SPDX-License-Identifier: MIT
 * The runner: reads the configuration, starts the roles, gives each its envelope and the links that the table of links
 * allows, restarts what ends with back-off, and ends everything in order. It parses nothing that a model, guest or peer
 * wrote, and outlives each of its roles. */
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MS_MIN 20
#define BACKOFF_MS_MAX 5000
#define HEALTHY_MS     10000 /* a role that lived this long starts again at once */
#define FAULTS_MAX     5 /* a private runner gives up after this many starts of one role in a row */
#define STOP_MS        5000 /* then what has not ended is killed */
#define LOCK_WAIT_MS   500 /* while somebody listens, who may be about to end */
#define ENDING_WAIT_MS 15000 /* for the runtime of a runner that was killed: it ends within 10 s */
#define LOCK_LOOK_MS   20

extern char **environ;

struct runner;

/* A role that the runner starts. */
struct process {
	struct runner *r;
	enum role role;
	const char *program; /* beside our own executable */
	void (*envelope)(const struct envelope_source *, struct json *);
	bool holds_lock; /* writes the store: nobody may take over before it has ended too */
	struct child *child; /* NULL: not ours (adopted) or not running */
	struct wire *link;
	struct timer *restart;
	int64_t started_ms;
	int failures;
	bool is_ready;
};

/* Which roles get a link to each other. */
static const struct {
	enum role a, b;
} links[] = {
	{ ROLE_RUNTIME, ROLE_BROKER },
	{ ROLE_RUNTIME, ROLE_SHELLD },
};

enum { PROCESSES = 3 };

struct runner {
	struct loop *loop;
	struct settings settings;
	struct env_keys *env;
	struct masters masters;
	char *home, *bin_dir, *rpc_path;
	bool is_private, is_stopping, is_idle;
	bool is_stale; /* a private one: ends as soon as it is idle, without waiting for a next command */
	int rpc_fd, lock_fd;
	struct process processes[PROCESSES];
	struct wire *client; /* who started a private runner */
	struct timer *idle_timer, *stop_timer;
	struct signal_watch *term, *interrupt, *hangup;
	int status;
};

static void process_start(struct process *p);

/* ---- telling ---- */

static void
client_fault(struct runner *r, const struct err *e)
{
	struct json *j;

	if (r->client == NULL)
		return;
	j = wire_begin(r->client, WIRE_FAULT, 0);
	json_kv_z(j, "code", err_name(e->code));
	json_kv_z(j, "message", e->msg);
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

/* ---- stopping ---- */

static bool
is_running(const struct process *p)
{
	return p->child != NULL || p->link != NULL;
}

static void
check_stopped(struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (is_running(&r->processes[i]))
			return;
	loop_stop(r->loop);
}

static void
on_stop_timer(void *arg)
{
	struct runner *r = arg;

	for (size_t i = 0; i < PROCESSES; i++) {
		struct process *p = &r->processes[i];

		if (p->child != NULL) {
			log_warn("a role did not stop in time and is killed", LOG_S("role", role_name(p->role)));
			child_kill(p->child, SIGKILL);
		} else if (p->link != NULL) {
			wire_close(p->link);
			p->link = NULL;
		}
	}
	check_stopped(r);
}

static void
stop_role(struct process *p)
{
	timer_close(p->restart);
	p->restart = NULL;
	if (p->link == NULL)
		return;
	wire_begin(p->link, WIRE_STOP, 0);
	wire_end(p->link, STR(""), -1);
}

/* The runtime first: what it still asks of the others must be answered. */
static void
runner_stop(struct runner *r)
{
	if (r->is_stopping)
		return;
	r->is_stopping = true;
	if (r->rpc_fd >= 0)
		unlink(r->rpc_path);
	r->stop_timer = timer_start(r->loop, STOP_MS, on_stop_timer, r);
	if (r->processes[0].link != NULL)
		stop_role(&r->processes[0]);
	else
		for (size_t i = 0; i < PROCESSES; i++)
			stop_role(&r->processes[i]);
	check_stopped(r);
}

static void
on_signal(void *arg)
{
	runner_stop(arg);
}

/* A command found that it would start us from other settings: the next one starts a runner from those. */
static void
on_hangup(void *arg)
{
	struct runner *r = arg;

	r->is_stale = r->is_private;
	if (r->is_stale && r->is_idle)
		runner_stop(r);
}

static void
on_idle_timer(void *arg)
{
	runner_stop(arg);
}

static void
set_idle(struct runner *r, bool is_idle)
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

/* ---- links ---- */

static void
send_fd(struct process *p, enum wire_kind kind, const char *key, const char *value, int fd)
{
	json_kv_z(wire_begin(p->link, kind, 0), key, value);
	wire_end(p->link, STR(""), fd);
}

static struct process *
process_of(struct runner *r, enum role role)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (r->processes[i].role == role)
			return &r->processes[i];
	fatal("runner: no process for role %d", role);
}

/* A role came: it gets a fresh link to each role of the table that is there. */
static void
make_links(struct process *p)
{
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		struct process *a = process_of(p->r, links[i].a), *b = process_of(p->r, links[i].b);
		int fds[2];

		if ((a != p && b != p) || a->link == NULL || b->link == NULL)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
			log_error("no socket pair", LOG_S("error", strerror(errno)));
			continue;
		}
		send_fd(a, WIRE_PEER, "role", role_name(b->role), fds[0]);
		send_fd(b, WIRE_PEER, "role", role_name(a->role), fds[1]);
		close(fds[0]);
		close(fds[1]);
	}
}

/* ---- a role's messages ---- */

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct process *p = arg;
	struct err fault = { 0 };

	switch (m->kind) {
	case WIRE_READY:
		p->is_ready = true;
		if (p->role == ROLE_RUNTIME)
			client_ready(p->r);
		return 0;
	case WIRE_IDLE:
		set_idle(p->r, node_bool(m->head, "idle", false));
		return 0;
	case WIRE_FAULT:
		wire_err(m->head, &fault);
		log_error("a role cannot go on", LOG_S("role", role_name(p->role)), LOG_E(&fault));
		if (p->r->is_private && p->role == ROLE_RUNTIME) {
			p->r->status = err_exit_status(fault.code);
			client_fault(p->r, &fault);
			runner_stop(p->r);
		}
		return 0;
	default:
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s sent %s", role_name(p->role), wire_kind_name(m->kind));
	}
}

static void
on_restart(void *arg)
{
	process_start(arg);
}

/* Ended, for whatever reason: again after a while, unless we are stopping. */
static void
process_ended(struct process *p)
{
	struct runner *r = p->r;
	bool was_healthy = loop_now_ms(r->loop) - p->started_ms >= HEALTHY_MS;
	int64_t delay_ms;

	if (is_running(p))
		return; /* the other half comes */
	p->is_ready = false;
	if (r->is_stopping) {
		if (p->role == ROLE_RUNTIME)
			for (size_t i = 0; i < PROCESSES; i++)
				stop_role(&r->processes[i]);
		check_stopped(r);
		return;
	}
	p->failures = was_healthy ? 1 : p->failures + 1;
	delay_ms = MIN((int64_t)BACKOFF_MS_MIN << MIN(p->failures - 1, 8), BACKOFF_MS_MAX);
	if (p->failures > FAULTS_MAX && r->client != NULL) {
		struct err e;

		err_set(&e, ERR_INTERNAL, ERR_TO_USER, "the %s ends again and again (see %s/logs/%s.log)", role_name(p->role),
			r->home, role_name(p->role));
		r->status = 1;
		client_fault(r, &e);
		runner_stop(r);
		return;
	}
	log_warn("a role ended and is started again", LOG_S("role", role_name(p->role)), LOG_I("after_ms", delay_ms));
	timer_close(p->restart);
	p->restart = timer_start(r->loop, delay_ms, on_restart, p);
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct process *p = arg;

	p->link = NULL;
	if (p->child != NULL && e->code != ERR_GONE) {
		log_error("a role broke its protocol", LOG_S("role", role_name(p->role)), LOG_E(e));
		child_kill(p->child, SIGKILL);
	}
	process_ended(p);
}

static const struct wire_handler role_handler = { on_msg, on_gone };

static void
on_role_exit(void *arg, pid_t pid, int status)
{
	struct process *p = arg;

	p->child = NULL;
	if (!p->r->is_stopping || WIFSIGNALED(status))
		log_warn("a role exited", LOG_S("role", role_name(p->role)), LOG_I("pid", pid),
			LOG_I("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
			LOG_I("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
	if (p->link != NULL) {
		wire_close(p->link);
		p->link = NULL;
	}
	process_ended(p);
}

/* ---- starting ---- */

static void
send_boot(struct process *p)
{
	struct runner *r = p->r;
	struct envelope_source src = { r->settings.config, r->home, r->settings.config_file, r->is_private, r->env,
		&r->masters };
	struct buf b;
	struct json j;

	buf_init(&b, 4 * MIB);
	if (buf_reserve(&b, 4 * MIB) == NULL) /* keys are written into it: it must not move */
		fatal("no memory for an envelope");
	json_init(&j, &b);
	p->envelope(&src, &j);
	wire_begin(p->link, WIRE_BOOT, 0);
	wire_end(p->link, buf_str(&b), -1);
	wire_wipe(p->link);
	explicit_bzero(b.p, b.n);
	buf_fini(&b);
}

static int
open_log(struct runner *r, const char *name)
{
	AUTO_FREE char *path = xasprintf("%s/logs/%s.log", r->home, name);

	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* What a role may know of the environment: never the keys of the person who started us. */
static char **
role_env(void)
{
	static const char *const names[] = { "PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" };
	char **env = xcalloc(ARRAY_LEN(names) + 1, sizeof *env);
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (getenv(names[i]) != NULL)
			env[n++] = xasprintf("%s=%s", names[i], getenv(names[i]));
	return env;
}

/* Beside our own executable, as in a build; or where an installation keeps what nobody types. */
static char *
program_path(const struct runner *r, const char *program)
{
	char *path = xasprintf("%s/%s", r->bin_dir, program);

	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return xasprintf("%s/../libexec/ithaca/%s", r->bin_dir, program);
}

static int
spawn(struct process *p, struct err *e)
{
	struct runner *r = p->r;
	AUTO_FREE char *path = program_path(r, p->program);
	char *argv[] = { (char *)p->program, "-x", (char *)role_name(p->role), NULL };
	int pair[2], log_fd = open_log(r, role_name(p->role));
	char **env = role_env();
	int rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "no socket pair");
	int fds[] = { -1, log_fd, log_fd, pair[1], r->lock_fd };
	struct child_spec spec = { .path = path, .argv = argv, .env = env, .fds = fds,
		.fds_n = p->holds_lock ? ARRAY_LEN(fds) : ARRAY_LEN(fds) - 1 };

	rc = child_start(r->loop, &spec, on_role_exit, p, &p->child, e);
	close(pair[1]);
	if (log_fd >= 0)
		close(log_fd);
	for (size_t i = 0; env[i] != NULL; i++)
		free(env[i]);
	free(env);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	p->link = wire_open(r->loop, pair[0], ROLE_RUNNER, p->role, &role_handler, p);
	return 0;
}

/* A shelld that outlived its runner still holds the results of commands: it is taken over. */
static bool
adopt(struct process *p)
{
	AUTO_FREE char *path = xasprintf("%s/run/shelld.sock", p->r->home);
	struct err e;
	int fd;

	if (p->role != ROLE_SHELLD || access(path, F_OK) != 0)
		return false;
	fd = unix_connect(path, &e);
	if (fd < 0)
		return false;
	p->link = wire_open(p->r->loop, fd, ROLE_RUNNER, p->role, &role_handler, p);
	log_info("a running shelld was adopted", LOG_S("home", p->r->home));
	return true;
}

static void
process_start(struct process *p)
{
	struct runner *r = p->r;
	struct err e = { 0 };

	p->started_ms = loop_now_ms(r->loop);
	if (!adopt(p)) {
		if (spawn(p, &e) != 0) {
			log_error("a role could not be started", LOG_S("role", role_name(p->role)), LOG_E(&e));
			process_ended(p);
			return;
		}
		send_boot(p);
	}
	if (p->role == ROLE_RUNTIME)
		send_fd(p, WIRE_LISTEN, "name", "rpc", r->rpc_fd);
	make_links(p);
}

/* ---- options ---- */

static const struct field set_item = { .type = FIELD_STR };
static const struct field options[] = {
	{ .name = "home", .type = FIELD_STR, .text = "Home directory; default $ITHACA_HOME, else ~/.ithaca." },
	{ .name = "config", .type = FIELD_STR, .text = "Configuration file instead of HOME/config.yaml." },
	{ .name = "set", .type = FIELD_LIST, .item = &set_item, .text = "key=value of the configuration; may be repeated." },
	{ .name = "private", .type = FIELD_BOOL, .flags = FIELD_HIDDEN, .text = "Started by a command: end when idle." },
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
	return 0;
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

/* One runner per home, and one runtime: both hold the lock. The client that starts a private runner has it already and
 * hands it on. */
static int
take_lock(struct runner *r, struct err *e)
{
	AUTO_FREE char *path = xasprintf("%s/run/lock", r->home);
	int64_t began_ms = clock_mono_ms();

	if (r->is_private) {
		r->lock_fd = FD_LOCK;
		return fcntl(FD_LOCK, F_SETFD, FD_CLOEXEC) == 0 ? 0 :
			err_set(e, ERR_USAGE, ERR_TO_USER, "a private runner is started by `ithaca` only");
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
	return r->rpc_fd < 0 ? r->rpc_fd : 0;
}

static int
find_programs(struct runner *r, struct err *e)
{
	AUTO_FREE char *self = realpath("/proc/self/exe", NULL);
	char *slash = self != NULL ? strrchr(self, '/') : NULL;

	if (slash == NULL)
		return err_set(e, ERR_INTERNAL, ERR_TO_USER, "/proc/self/exe cannot be read (is /proc mounted?)");
	*slash = '\0';
	r->bin_dir = xstrdup(self);
	return 0;
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

static int
prepare(struct runner *r, const struct node *opts, struct err *e)
{
	enum log_level level = LOG_INFO;
	int rc;

	r->home = home_of(opts);
	r->rpc_path = xasprintf("%s/run/rpc.sock", r->home);
	if ((rc = find_programs(r, e)) != 0 || (rc = settings_load(&r->settings, r->home, opts, e)) != 0 ||
		(rc = make_home(r, e)) != 0 || (rc = take_lock(r, e)) != 0 ||
		(rc = settings_note(&r->settings, r->home, r->is_private, e)) != 0 || (rc = open_sockets(r, e)) != 0)
		return rc;
	if (log_level_parse(str_of(config_z(r->settings.config, "log.level")), &level) != 0)
		level = LOG_INFO;
	log_open("runner", 2, level, strcmp(config_z(r->settings.config, "log.format"), "json") == 0 ? LOG_JSON : LOG_LOGFMT);
	r->env = env_keys_take(r->settings.config);
	masters_load(&r->masters, r->home, !r->is_private && isatty(0) && isatty(2));
	return 0;
}

static void
run(struct runner *r)
{
	static const struct process rows[PROCESSES] = {
		{ .role = ROLE_RUNTIME, .program = "ithacad", .envelope = envelope_runtime, .holds_lock = true },
		{ .role = ROLE_BROKER, .program = "ithacad", .envelope = envelope_broker },
		{ .role = ROLE_SHELLD, .program = "ithaca-guest", .envelope = envelope_shelld },
	};

	r->idle_timer = timer_start(r->loop, 1000, on_idle_timer, r);
	timer_stop(r->idle_timer);
	r->term = signal_start(r->loop, SIGTERM, on_signal, r);
	r->interrupt = signal_start(r->loop, SIGINT, on_signal, r);
	r->hangup = signal_start(r->loop, SIGHUP, on_hangup, r);
	for (size_t i = 0; i < PROCESSES; i++) {
		r->processes[i] = rows[i];
		r->processes[i].r = r;
	}
	for (size_t i = 0; i < PROCESSES; i++)
		process_start(&r->processes[i]);
	loop_run(r->loop);
}

static void
finish(struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++)
		timer_close(r->processes[i].restart);
	wire_close(r->client);
	timer_close(r->idle_timer);
	timer_close(r->stop_timer);
	signal_close(r->term);
	signal_close(r->interrupt);
	signal_close(r->hangup);
	if (r->rpc_fd >= 0)
		close(r->rpc_fd);
	if (r->rpc_fd >= 0 && !r->is_stopping)
		unlink(r->rpc_path);
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
	struct runner r = { .rpc_fd = -1, .lock_fd = -1 };
	const struct node *opts = &node_null;
	struct err e = { 0 };
	int rc = args_parse(options, argc - 1, argv + 1, a, &opts, &e);

	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* until the loop watches for it */
	umask(077);
	r.is_private = node_bool(opts, "private", false);
	if (rc == 0)
		rc = loop_open(&r.loop, &e);
	if (rc == 0 && r.is_private)
		r.client = wire_open(r.loop, FD_LINK, ROLE_RUNNER, ROLE_CLIENT, &client_handler, &r);
	if (rc == 0)
		rc = prepare(&r, opts, &e);
	if (rc == 0) {
		run(&r);
	} else {
		if (!r.is_private)
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
