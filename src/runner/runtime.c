/* SPDX-License-Identifier: MIT
 * The runtime role: wires store, engine and gateway together over the links that the runner gives it. It holds no keys,
 * starts no process and opens no outgoing connection. */
#include "runner/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "gateway/gateway.h"
#include "loop/hostfiles.h"
#include "sandbox/tier.h"
#include "store/blob.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORPHAN_S    10 /* for commits under way to end, when the runner is gone */
#define DOOR_WAIT_S 60 /* in a container, for the runner to come */

struct runtime {
	struct loop *loop;
	struct wire *runner;
	struct door *door; /* in a container, until the runner has come */
	struct hostfiles *files; /* NULL: not in a container */
	char *socket; /* of the door; NULL: none */
	int lock_fd; /* held to our end */
	struct config *config;
	char *home, *config_file, *tier, *scratch, *guest;
	bool is_private;
	struct buf roles; /* what the runner said last of the roles */
	struct store *store;
	struct blobs *blobs;
	struct events *events;
	struct sandbox *sandbox;
	struct broker *broker;
	struct registry *registry;
	struct engine *engine;
	struct gateway *gateway;
	int told_idle; /* -1: nothing yet */
	bool is_orphan; /* the runner is gone */
	bool is_ending; /* what goes away now is no trouble */
};

static void
tell_idle(void *arg)
{
	struct runtime *rt = arg;
	bool is_idle = rt->engine == NULL || engine_is_idle(rt->engine);

	if (rt->gateway != NULL && !rt->is_ending) {
		gateway_look(rt->gateway);
		is_idle = is_idle && gateway_clients(rt->gateway) == 0;
	}
	if (rt->runner == NULL || rt->told_idle == (int)is_idle)
		return;
	rt->told_idle = is_idle;
	json_kv_bool(wire_begin(rt->runner, WIRE_IDLE, 0), "idle", is_idle);
	wire_end(rt->runner, STR(""), -1);
}

static void
on_broker_up(void *arg)
{
	struct runtime *rt = arg;

	if (rt->engine != NULL)
		engine_broker_up(rt->engine);
	if (rt->gateway != NULL)
		gateway_broker_up(rt->gateway);
}

static void
on_sandbox(void *arg, bool is_up, const struct sandbox_facts *facts)
{
	struct runtime *rt = arg;

	if (rt->gateway != NULL && !rt->is_ending)
		gateway_look(rt->gateway);
	if (is_up && rt->engine != NULL)
		engine_sandbox_up(rt->engine);
}

/* ---- start ---- */

static int
open_store(struct runtime *rt, struct err *e)
{
	const char *url = config_z(rt->config, "store.url");
	struct store_options o = { .busy_ms = 2000 };
	AUTO_FREE char *path = NULL;

	if (strncmp(url, "sqlite:", 7) != 0)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "store.url %s: this build has the sqlite store only "
			"(use sqlite:state/ithaca.db)", url);
	path = url[7] == '/' ? xstrdup(url + 7) : xasprintf("%s/%s", rt->home, url + 7);
	o.path = path;
	return store_open(&rt->store, rt->loop, &o, e);
}

static int
open_engine(struct runtime *rt, struct err *e)
{
	struct engine_parts parts = { .loop = rt->loop, .store = rt->store, .events = rt->events, .sandbox = rt->sandbox,
		.broker = rt->broker, .registry = rt->registry, .config = rt->config, .blobs = rt->blobs,
		.home = rt->home, .files = rt->files, .scratch = rt->scratch,
		.on_busy = tell_idle, .arg = rt };

	return engine_open(&parts, &rt->engine, e);
}

/* What is in it, and whether it can be read, is for the broker to find out. */
static void
pass_secrets(struct runtime *rt)
{
	AUTO_FREE char *path = xasprintf("%s/secrets", rt->home);
	AUTO_FREE char *text = NULL;
	struct err e;
	size_t n;

	if (hostfiles_read(rt->files, path, SECRETS_FILE_MAX, &text, &n, &e) == 0)
		broker_secrets(rt->broker, (struct str){ text, n });
	else if (e.code != ERR_NOT_FOUND)
		log_error("the sealed secrets cannot be read", LOG_E(&e));
}

/* The directory of a file outside the home that we write; NULL: none. */
static const char *
dir_outside(struct arena *a, const char *path)
{
	struct str s = str_of(path);

	if (path == NULL || path[0] != '/')
		return NULL;
	while (s.n > 1 && s.p[s.n - 1] != '/')
		s.n--;
	return arena_strdup(a, s);
}

/* Tier process has no cells, so the least is that we ourselves reach no further than the home and the workspace. Done
 * before any thread is started. What cannot be had is logged, and is in status with the tier. */
static void
confine(struct runtime *rt)
{
	struct arena *a = arena_new(64 * KIB);
	const char *url = config_z(rt->config, "store.url"), *tmp = getenv("TMPDIR");
	const char *dirs[] = { rt->home, gateway_user_dir(rt->config, rt->home, a), tmp != NULL ? tmp : "/tmp",
		dir_outside(a, rt->config_file), dir_outside(a, strncmp(url, "sqlite:", 7) == 0 ? url + 7 : NULL) };
	const char *writable[ARRAY_LEN(dirs) + 1] = { 0 };
	struct err e;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (dirs[i] != NULL)
			writable[n++] = dirs[i];
	if (sandbox_confine_self(writable, &e) != 0)
		log_warn("tier process: the runtime is not confined", LOG_E(&e));
	else
		log_warn("tier process: the runtime is confined by Landlock to the home and the workspace, and nothing else is",
			LOG_S("home", rt->home), LOG_S("workspace", dirs[1]));
	arena_free(a);
}

static int
boot(struct runtime *rt, struct str envelope, struct err *e)
{
	struct arena *a = arena_new(16 * MIB);
	const struct node *n = &node_null;
	enum log_level level = LOG_INFO;
	AUTO_FREE char *blobs_dir = NULL;
	struct buf b;
	int rc = json_parse(a, envelope, &n, e);

	buf_init(&b, 4 * MIB);
	if (rc == 0) {
		struct json j;

		json_init(&j, &b);
		json_node(&j, node_get(n, "config"));
		rc = config_from_envelope(buf_str(&b), &rt->config, e);
	}
	buf_fini(&b);
	if (rc == 0) {
		rt->home = str_dup(node_str(n, "home", STR("")));
		rt->config_file = node_get(n, "config_file") != NULL ? str_dup(node_str(n, "config_file", STR(""))) : NULL;
		rt->tier = str_dup(node_str(n, "tier", STR("cell")));
		rt->is_private = node_bool(n, "private", false);
		if (log_level_parse(str_of(config_z(rt->config, "log.level")), &level) == 0)
			log_open("runtime", 2, level,
				strcmp(config_z(rt->config, "log.format"), "json") == 0 ? LOG_JSON : LOG_LOGFMT);
	}
	arena_free(a);
	if (rc == 0 && strcmp(rt->tier, "process") == 0) {
		sandbox_set_files_only(rt->sandbox);
		confine(rt);
	}
	if (rc == 0) {
		pass_secrets(rt);
		gateway_load_catalog(rt->config, rt->home);
	}
	if (rc != 0 || (rc = open_store(rt, e)) != 0)
		return rc;
	blobs_dir = xasprintf("%s/state/blobs", rt->home);
	rt->blobs = blobs_open(rt->store, rt->loop, blobs_dir);
	rt->events = events_open(rt->store, rt->loop);
	a = arena_new(64 * KIB);
	rt->scratch = xstrdup(path_join(a, gateway_user_dir(rt->config, rt->home, a), "tmp"));
	arena_free(a);
	AUTO_FREE char *dir = program_dir(e);
	if (dir == NULL)
		return e->code;
	rt->guest = program_path(dir, "ithaca-guest");
	registry_add(rt->registry, file_tools);
	registry_add(rt->registry, exec_tools);
	return open_engine(rt, e);
}

static void
fault(struct runtime *rt, const struct err *e)
{
	struct json *j = wire_begin(rt->runner, WIRE_FAULT, 0);

	log_error("the runtime cannot start", LOG_E(e));
	json_kv_err(j, e);
	wire_end(rt->runner, STR(""), -1);
}

/* The socket of clients. */
static int
on_clients(struct runtime *rt, struct wire_msg *m, struct err *e)
{
	struct gateway_parts parts = { .loop = rt->loop, .store = rt->store, .events = rt->events, .engine = rt->engine,
		.sandbox = rt->sandbox, .broker = rt->broker, .registry = rt->registry, .config = rt->config,
		.blobs = rt->blobs, .home = rt->home, .files = rt->files, .config_file = rt->config_file, .tier = rt->tier,
		.guest = rt->guest, .is_private = rt->is_private,
		.root_is_foreign = rt->files != NULL && tier_outer_id("/proc/self/uid_map", 0) != 0,
		.on_busy = tell_idle,
		.arg = rt };

	if (rt->engine == NULL)
		return 0; /* could not start: the fault was told */
	if (engine_recover(rt->engine, e) != 0) {
		fault(rt, e);
		return 0;
	}
	rt->gateway = gateway_open(&parts, take_fd(&m->fd));
	gateway_roles(rt->gateway, buf_str(&rt->roles));
	wire_begin(rt->runner, WIRE_READY, 0);
	wire_end(rt->runner, STR(""), -1);
	tell_idle(rt);
	return 0;
}

/* ---- the runner's messages ---- */

/* In a container nothing was inherited: what a child of the runner has from the start comes before the envelope. */
static int
on_listen(struct runtime *rt, struct wire_msg *m, struct err *e)
{
	struct str name = node_str(m->head, "name", STR(""));

	if (str_is(name, "rpc"))
		return on_clients(rt, m, e);
	if (str_is(name, "log")) {
		(void)dup2(m->fd, STDOUT_FILENO);
		(void)dup2(m->fd, STDERR_FILENO);
	} else if (str_is(name, "lock") && rt->lock_fd < 0) {
		rt->lock_fd = take_fd(&m->fd);
	} else if (str_is(name, "files") && rt->files == NULL) {
		rt->files = hostfiles_open(take_fd(&m->fd));
	} else {
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the runner gave a descriptor %.*s", (int)MIN(name.n, 40u), name.p);
	}
	return 0;
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct runtime *rt = arg;
	struct err be = { 0 };

	switch (m->kind) {
	case WIRE_BOOT:
		if (boot(rt, m->tail, &be) != 0)
			fault(rt, &be);
		return 0;
	case WIRE_LISTEN:
		return on_listen(rt, m, e);
	case WIRE_PEER:
		if (str_is(node_str(m->head, "role", STR("")), role_name(ROLE_BROKER)))
			broker_attach(rt->broker, take_fd(&m->fd));
		else
			sandbox_attach(rt->sandbox, take_fd(&m->fd));
		return 0;
	case WIRE_STATUS:
		buf_reset(&rt->roles);
		buf_add_str(&rt->roles, m->tail);
		if (rt->gateway != NULL)
			gateway_roles(rt->gateway, m->tail);
		return 0;
	case WIRE_STOP:
		loop_stop(rt->loop);
		return 0;
	default:
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the runner sent %s", wire_kind_name(m->kind));
	}
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct runtime *rt = arg;

	rt->runner = NULL;
	alarm(ORPHAN_S); /* whoever takes over waits for us: the log is good at any time */
	rt->is_orphan = true;
	loop_stop(rt->loop); /* nobody would restart us or our peers */
}

static const struct wire_handler handler = { on_msg, on_gone };

/* What a runner that was killed could not take away. We hold the lock as well, so nobody else listens there yet. */
static void
clean_after_runner(const struct runtime *rt)
{
	/* In a container we do not see them, and the runner's cleaner does it. */
	for (size_t i = 0; leaves_ours[i] != NULL && home_is_ours(rt->home, rt->lock_fd); i++) {
		AUTO_FREE char *path = xasprintf("%s/run/%s", rt->home, leaves_ours[i]);

		(void)unlink(path);
	}
}

/* Open turns stay open in the log: the next runtime takes them up. */
static void
finish(struct runtime *rt)
{
	rt->is_ending = true;
	if (rt->gateway != NULL)
		gateway_stop(rt->gateway);
	/* What waits for the store has its answer in store_close, from an engine and a gateway that still are. */
	if (rt->engine != NULL)
		engine_stop(rt->engine);
	sandbox_detach(rt->sandbox); /* effects that still run end here, and stay open in the log */
	if (rt->blobs != NULL)
		blobs_stop(rt->blobs);
	store_close(rt->store);
	if (rt->gateway != NULL)
		gateway_close(take_ptr(&rt->gateway));
	if (rt->engine != NULL)
		engine_close(take_ptr(&rt->engine));
	blobs_free(rt->blobs);
	sandbox_free(rt->sandbox);
	broker_free(rt->broker);
	if (rt->events != NULL)
		events_close(rt->events);
	registry_free(rt->registry);
	if (rt->is_orphan && rt->home != NULL)
		clean_after_runner(rt);
	config_unref(rt->config);
	hostfiles_close(rt->files);
	door_close(rt->door);
	wire_close(rt->runner);
	free(rt->socket);
	free(rt->home);
	free(rt->config_file);
	free(rt->tier);
	free(rt->scratch);
	free(rt->guest);
	buf_fini(&rt->roles);
	loop_close(rt->loop);
}

static void
prepare(struct runtime *rt)
{
	struct err e;

	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	fd_limit_raise(); /* one for each client */
	if (loop_open(&rt->loop, &e) != 0)
		fatal("runtime: %s", e.msg);
	buf_init(&rt->roles, 64 * KIB);
	rt->registry = registry_new();
	rt->sandbox = sandbox_new(rt->loop, on_sandbox, rt);
	rt->broker = broker_new(rt->loop, on_broker_up, rt);
}

int
runtime_main(int runner_fd)
{
	struct runtime rt = { .told_idle = -1, .lock_fd = FD_LOCK };

	prepare(&rt);
	rt.runner = wire_open(rt.loop, runner_fd, ROLE_RUNTIME, ROLE_RUNNER, &handler, &rt);
	loop_run(rt.loop);
	finish(&rt);
	return 0;
}

/* ---- in a container ---- */

/* The first who has the token is the runner; nobody else comes. */
static void
on_door(void *arg, enum role who, int fd)
{
	struct runtime *rt = arg;

	if (rt->runner != NULL || who != ROLE_RUNNER) {
		close(fd);
		return;
	}
	alarm(0);
	rt->runner = wire_open(rt->loop, fd, ROLE_RUNTIME, ROLE_RUNNER, &handler, rt);
	door_close(take_ptr(&rt->door));
	(void)unlink(rt->socket);
}

int
runtime_main_contained(const char *dir)
{
	struct runtime rt = { .told_idle = -1, .lock_fd = -1 };
	char token[DOOR_TOKEN_SIZE], path[FILE_PATH_MAX];
	struct err e;
	int fd;

	prctl(PR_SET_DUMPABLE, 0);
	log_open("runtime", STDERR_FILENO, LOG_WARN, LOG_LOGFMT);
	if (getpid() == 1)
		pid1_split();
	prepare(&rt);
	door_path(dir, ROLE_RUNTIME, path, sizeof path);
	rt.socket = xstrdup(path);
	fd = door_take(dir, ROLE_RUNTIME, token, &e);
	if (fd < 0) {
		log_error("cannot start", LOG_E(&e));
		finish(&rt);
		return 1;
	}
	alarm(DOOR_WAIT_S);
	rt.door = door_open(rt.loop, fd, token, on_door, &rt);
	explicit_bzero(token, sizeof token);
	loop_run(rt.loop);
	finish(&rt);
	return 0;
}
