/* SPDX-License-Identifier: MIT
 * The roles: how each is started and linked, which of them get a link to each other, and what happens when one ends. Three
 * tables: processes, ways, links. Invariant: a role counts as ended when both its process and its link are gone, and only
 * then is it started again. */
#include "runner/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/cleaner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MS_MIN 20
#define BACKOFF_MS_MAX 5000
#define HEALTHY_MS     10000 /* a role that lived this long starts again at once */
#define FAULTS_MAX     5 /* a command that waits is told after this many starts of one role in a row */
#define ROLE_STOP_MS   5000 /* for one role that is to be started again */
#define ADOPT_MS       8000 /* for one that outlived its runner to answer */

static void process_start(struct process *p);

/* Which roles get a link to each other. */
static const struct {
	enum role a, b;
} links[] = {
	{ ROLE_RUNTIME, ROLE_BROKER },
	{ ROLE_RUNTIME, ROLE_SHELLD },
	{ ROLE_SHELLD, ROLE_BROKER },
};

/* ---- what they do ---- */

static bool
is_running(const struct process *p)
{
	return p->child != NULL || p->link != NULL || guest_is_busy(p->guest);
}

bool
roles_running(const struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (is_running(&r->processes[i]))
			return true;
	return r->file_jobs > 0;
}

struct process *
role_find(struct runner *r, struct str name)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (str_is(name, role_name(r->processes[i].role)))
			return &r->processes[i];
	return NULL;
}

/* Ready, and in a machine reached by those who need it. */
bool
role_is_up(const struct process *p)
{
	return p->is_ready && !guest_is_busy(p->guest);
}

static enum role_phase
phase_of(const struct process *p)
{
	if (p->r->is_stopping)
		return is_running(p) ? PHASE_STOPPING : PHASE_DOWN;
	if (role_is_up(p))
		return PHASE_UP;
	if (p->failures == 0 && p->restarts == 0 && p->reason[0] == '\0')
		return PHASE_STARTING;
	return is_running(p) || p->waits || p->restart != NULL ? PHASE_RESTARTING : PHASE_DOWN;
}

size_t
roles_health(const struct runner *r, struct role_health *out)
{
	size_t n = 0;

	out[n++] = (struct role_health){ .role = ROLE_RUNNER, .phase = r->is_stopping ? PHASE_STOPPING : PHASE_UP,
		.pid = getpid(), .since_ms = r->started_ms };
	for (size_t i = 0; i < PROCESSES; i++) {
		const struct process *p = &r->processes[i];

		out[n] = (struct role_health){ .role = p->role, .phase = phase_of(p), .pid = is_running(p) ? p->pid : 0,
			.restarts = p->restarts, .since_ms = p->since_ms };
		snprintf(out[n].container, sizeof out[n].container, "%s", is_running(p) ? guest_container(p->guest) : "");
		snprintf(out[n].reason, sizeof out[n].reason, "%s", out[n].phase != PHASE_UP ? p->reason : p->stays_out);
		n++;
	}
	return n;
}

static void
changed(struct process *p)
{
	p->since_ms = clock_wall_ms();
	runner_changed(p->r);
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

static void process_ended(struct process *p);

/* The other role's end of a link into a machine; shelld has its own already. */
static void
on_machine_link(void *arg, enum role who, int fd, const struct err *e)
{
	struct process *p = arg, *peer = process_of(p->r, who);

	if (e != NULL) {
		struct err copy = *e;
		log_error("a role has no link to the machine", LOG_S("name", role_name(who)), LOG_E(&copy));
	} else if (peer->link != NULL && p->link != NULL) {
		send_fd(peer, WIRE_PEER, "role", role_name(p->role), fd);
	}
	if (fd >= 0)
		close(fd);
	if (p->link == NULL)
		process_ended(p); /* which had to wait for us */
	else if (role_is_up(p))
		runner_changed(p->r);
}

/* Whether one of them is in a machine, which no descriptor reaches. It takes others when it has its envelope: when it is
 * ready. */
static bool
link_machine(struct process *a, struct process *b)
{
	struct process *p = guest_needs_link(a->guest) ? a : b, *other = p == a ? b : a;

	if (!guest_needs_link(p->guest))
		return false;
	if (p->is_ready)
		guest_link(p->guest, other->role, on_machine_link, p);
	return true;
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
		if (link_machine(a, b))
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

/* ---- a container for the runtime ---- */

static bool
wants_guest(const struct process *p)
{
	const struct settings *s = &p->r->settings;

	return p->role == ROLE_RUNTIME ? settings_holds_runtime(s) && p->stays_out[0] == '\0' : settings_needs_guest(s);
}

/* Tier auto rose while the runtime was a child of ours: it follows into a container when nobody works with it. */
static void
move_runtime(struct runner *r)
{
	struct process *p = process_of(r, ROLE_RUNTIME);

	if (p->child == NULL || !p->is_ready || p->is_planned || !r->is_idle || r->is_stopping || !wants_guest(p) ||
		process_of(r, ROLE_SHELLD)->link == NULL)
		return;
	log_info("the runtime goes into a container as well");
	role_restart(p);
}

/* The sidecar's start is over, however it went. */
static void
start_waiting(struct runner *r)
{
	struct process *p = process_of(r, ROLE_RUNTIME);

	if (p->waits && !r->is_stopping) {
		p->waits = false;
		process_start(p);
	}
}

/* ---- a role's messages ---- */

static void
on_fault(struct process *p, const struct node *head)
{
	struct err fault = { 0 };

	wire_err(head, &fault);
	log_error("a role cannot go on", LOG_S("name", role_name(p->role)), LOG_E(&fault));
	snprintf(p->reason, sizeof p->reason, "%.*s", (int)MIN(strlen(fault.msg), sizeof p->reason - 1), fault.msg);
	p->failures++;
	changed(p);
	runner_faulted(p->r, p, &fault);
}

/* Whether commands can run by what shelld found out. When they cannot, tier auto tries the container (false: not ready
 * yet), and a tier cell that was named is refused to whoever waits for its start. */
static bool
look_at_cells(struct process *p, const struct node *facts)
{
	struct str level = node_str(facts, "level", STR(""));
	const char *reason = node_z(facts, "reason", "");
	struct err e;

	if (str_is(level, "full") || str_is(level, "basic"))
		return true;
	if (settings_rise(&p->r->settings)) {
		log_warn("no cell can be made here: the container is tried", LOG_S("reason", reason));
		role_restart(p);
		return false;
	}
	if (settings_insists(&p->r->settings)) {
		err_set(&e, ERR_UNSUPPORTED, ERR_TO_USER, "cell_none: %s", reason);
		runner_faulted(p->r, p, &e);
	}
	return true;
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct process *p = arg;

	switch (m->kind) {
	case WIRE_READY:
		if (p->is_ready) /* shelld found out more; the runtime has it from there */
			return 0;
		if (p->role == ROLE_SHELLD && !look_at_cells(p, node_get(m->head, "facts")))
			return 0;
		p->is_ready = true;
		timer_close(take_ptr(&p->unanswered));
		if (guest_needs_link(p->guest))
			make_links(p);
		changed(p);
		return 0;
	case WIRE_IDLE:
		runner_idle(p->r, node_bool(m->head, "idle", false));
		move_runtime(p->r);
		return 0;
	case WIRE_FAULT:
		on_fault(p, m->head);
		return 0;
	default:
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s sent %s", role_name(p->role), wire_kind_name(m->kind));
	}
}

/* ---- ends ---- */

static void
on_restart(void *arg)
{
	struct process *p = arg;

	timer_close(take_ptr(&p->restart));
	process_start(p);
}

/* Gives up what a command waits for. */
static void
tell_again_and_again(struct process *p)
{
	struct err e;

	err_set(&e, ERR_INTERNAL, ERR_TO_USER, "the %s ends again and again (see %s/logs/%s.log)", role_name(p->role),
		p->r->home, role_name(p->role));
	runner_faulted(p->r, p, &e);
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
	if (p->pidfd >= 0)
		close(take_fd(&p->pidfd));
	p->is_ready = false;
	keeper_close(take_ptr(&p->keeper));
	timer_close(take_ptr(&p->end));
	timer_close(take_ptr(&p->unanswered));
	if (r->is_stopping) {
		if (p->role == ROLE_RUNTIME)
			roles_stop(r);
		changed(p);
		return;
	}
	p->failures = p->is_planned ? 0 : was_healthy ? 1 : p->failures + 1;
	delay_ms = p->is_planned ? 0 : MIN((int64_t)BACKOFF_MS_MIN << MIN(p->failures - 1, 8), BACKOFF_MS_MAX);
	p->restarts++;
	if (p->failures > FAULTS_MAX && r->client != NULL) {
		tell_again_and_again(p);
		return;
	}
	if (!p->is_planned)
		log_warn("a role ended and is started again", LOG_S("name", role_name(p->role)), LOG_S("reason", p->reason),
			LOG_I("after_ms", delay_ms));
	p->is_planned = false;
	timer_close(p->restart);
	p->restart = timer_start(r->loop, delay_ms, on_restart, p);
	changed(p);
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct process *p = arg;

	p->link = NULL;
	if (p->child != NULL && e->code != ERR_GONE) {
		log_error("a role broke its protocol", LOG_S("name", role_name(p->role)), LOG_E(e));
		child_kill(p->child, SIGKILL);
	}
	if (p->child == NULL && p->reason[0] == '\0')
		snprintf(p->reason, sizeof p->reason, "its link broke");
	process_ended(p);
}

static const struct wire_handler role_handler = { on_msg, on_gone };

static void
on_role_exit(void *arg, pid_t pid, int status)
{
	struct process *p = arg;

	p->child = NULL;
	if (WIFSIGNALED(status))
		snprintf(p->reason, sizeof p->reason, "it was killed by signal %d", WTERMSIG(status));
	else if (p->failures == 0 || p->reason[0] == '\0')
		snprintf(p->reason, sizeof p->reason, "it ended with status %d", WEXITSTATUS(status));
	if (!p->r->is_stopping || WIFSIGNALED(status))
		log_warn("a role exited", LOG_S("name", role_name(p->role)), LOG_I("pid", pid),
			LOG_I("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
			LOG_I("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
	logfile_check(outputs_file(p->r->outputs, ROLE_RUNNER));
	if (p->link != NULL) {
		wire_close(p->link);
		p->link = NULL;
	}
	process_ended(p);
}

static void
on_end_timer(void *arg)
{
	struct process *p = arg;

	log_warn("a role did not stop in time and is killed", LOG_S("name", role_name(p->role)));
	guest_cancel(p->guest);
	if (p->child != NULL) {
		child_kill(p->child, SIGKILL);
	} else if (p->link != NULL) {
		if (p->pidfd >= 0)
			(void)pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
		wire_close(take_ptr(&p->link));
		process_ended(p);
	}
}

/* Nothing will be heard of it: what it holds is lost, and another is started. */
static void
on_unanswered(void *arg)
{
	struct process *p = arg;

	snprintf(p->reason, sizeof p->reason, "it did not answer");
	log_warn("an adopted role does not answer", LOG_S("name", role_name(p->role)), LOG_I("pid", p->pid));
	on_end_timer(p);
}

static void
stop_role(struct process *p)
{
	timer_close(take_ptr(&p->restart));
	guest_cancel(p->guest);
	if (p->link == NULL)
		return;
	wire_begin(p->link, WIRE_STOP, 0);
	wire_end(p->link, STR(""), -1);
}

void
role_restart(struct process *p)
{
	p->is_planned = true;
	p->failures = 0;
	p->is_ready = false;
	snprintf(p->reason, sizeof p->reason, "it was asked to start again");
	log_info("a role is started again, as asked", LOG_S("name", role_name(p->role)));
	if (!is_running(p)) {
		timer_close(take_ptr(&p->restart));
		p->restart = timer_start(p->r->loop, 0, on_restart, p);
		changed(p);
		return;
	}
	stop_role(p);
	if (p->end == NULL)
		p->end = timer_start(p->r->loop, ROLE_STOP_MS, on_end_timer, p);
	changed(p);
}

/* The runtime first: what it still asks of the others must be answered. */
void
roles_stop(struct runner *r)
{
	struct process *runtime = process_of(r, ROLE_RUNTIME);

	if (is_running(runtime)) {
		stop_role(runtime);
		return;
	}
	for (size_t i = 0; i < PROCESSES; i++)
		stop_role(&r->processes[i]);
}

void
roles_kill(struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++) {
		struct process *p = &r->processes[i];
		size_t n = strlen(r->left);

		if (!is_running(p))
			continue;
		r->killed++;
		snprintf(r->left + n, sizeof r->left - n, "%s%s", n > 0 ? ", " : "", role_name(p->role));
		on_end_timer(p);
	}
}

/* ---- ways ---- */

static void
send_boot(struct process *p)
{
	struct runner *r = p->r;
	struct envelope_source src = { r->settings.config, r->home, r->settings.config_file,
		settings_tier(&r->settings), r->settings.no_container, r->is_private, r->env, &r->masters };
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
char *
program_path(const char *bin_dir, const char *program)
{
	char *path = xasprintf("%s/%s", bin_dir, program);

	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return xasprintf("%s/../libexec/ithaca/%s", bin_dir, program);
}

char *
program_dir(struct err *e)
{
	char *self = realpath("/proc/self/exe", NULL), *slash = self != NULL ? strrchr(self, '/') : NULL;

	if (slash == NULL) {
		free(self);
		err_set(e, ERR_INTERNAL, ERR_TO_USER, "/proc/self/exe cannot be read (is /proc mounted?)");
		return NULL;
	}
	*slash = '\0';
	return self;
}

static int
spawn_child(struct process *p, int out, int err, int link, struct err *e)
{
	struct runner *r = p->r;
	AUTO_FREE char *path = program_path(r->bin_dir, p->program);
	char *argv[] = { (char *)p->program, "-x", (char *)role_name(p->role), NULL };
	int fds[] = { -1, out, err, link, r->lock_fd };
	char **env = role_env();
	struct child_spec spec = { .path = path, .argv = argv, .env = env, .fds = fds,
		.fds_n = p->holds_lock ? ARRAY_LEN(fds) : ARRAY_LEN(fds) - 1 };
	int rc = child_start(r->loop, &spec, on_role_exit, p, &p->child, e);

	for (size_t i = 0; env[i] != NULL; i++)
		free(env[i]);
	free(env);
	if (rc == 0)
		p->pid = child_pid(p->child);
	return rc;
}

/* A child of ours. */
static int
way_spawn(struct process *p, struct err *e)
{
	AUTO_CLOSE int out = -1;
	AUTO_CLOSE int err = -1;
	AUTO_CLOSE int theirs = -1;
	int pair[2], rc;

	if ((out = outputs_pipe(p->r->outputs, p->role, "stdout", e)) < 0 ||
		(err = outputs_pipe(p->r->outputs, p->role, "stderr", e)) < 0)
		return e->code;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "no socket pair");
	theirs = pair[1];
	rc = spawn_child(p, out, err, theirs, e);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	p->link = wire_open(p->r->loop, pair[0], ROLE_RUNNER, p->role, &role_handler, p);
	send_boot(p);
	return 1;
}

/* Where a role that outlives its runner listens; owned by caller. */
static char *
adopt_path(const struct process *p)
{
	return xasprintf("%s/run/%s.sock", p->r->home, role_name(p->role));
}

/* No child of ours, so its process is held as long as its link lives: a number alone may become another's. */
static void
hold(struct process *p, int link)
{
	struct pollfd dead = { .fd = link, .events = POLLIN };
	uid_t uid;

	p->pid = 0;
	if (unix_peer(link, &uid, &p->pid) == 0 && p->pid > 1)
		p->pidfd = pidfd_open(p->pid, 0);
	if (poll(&dead, 1, 0) == 1 && (dead.revents & POLLHUP) != 0 && p->pidfd >= 0)
		close(take_fd(&p->pidfd));
}

/* A shelld that outlived its runner still holds the results of commands: it is taken over, and says further things to us. */
static int
way_adopt(struct process *p, struct err *e)
{
	AUTO_FREE char *path = adopt_path(p);
	int fd = access(path, F_OK) == 0 ? unix_connect(path, e) : -1;
	AUTO_CLOSE int err = -1;

	if (fd < 0)
		return 0;
	hold(p, fd);
	p->unanswered = timer_start(p->r->loop, ADOPT_MS, on_unanswered, p);
	p->link = wire_open(p->r->loop, fd, ROLE_RUNNER, p->role, &role_handler, p);
	err = outputs_pipe(p->r->outputs, p->role, "stderr", e);
	if (err >= 0)
		send_fd(p, WIRE_LISTEN, "name", "log", err);
	log_info("a running role was adopted", LOG_S("name", role_name(p->role)), LOG_I("pid", p->pid));
	return 1;
}

/* A start that did not come to a link. What tier auto only tried is not missed: there is the cell, which says why it is none, and
 * a runtime outside of a container. */
static void
start_failed(struct process *p, const struct err *e)
{
	struct err copy = *e;

	log_error("a role could not be started", LOG_S("name", role_name(p->role)), LOG_E(&copy));
	snprintf(p->reason, sizeof p->reason, "%.*s", (int)MIN(strlen(copy.msg), sizeof p->reason - 1), copy.msg);
	if (p->role == ROLE_RUNTIME && settings_has_risen(&p->r->settings))
		memcpy(p->stays_out, p->reason, sizeof p->stays_out);
	else if (!settings_fall(&p->r->settings, copy.msg) && settings_needs_guest(&p->r->settings) && !p->r->is_stopping)
		runner_faulted(p->r, p, &copy);
	process_ended(p);
}

static void
linked(struct process *p)
{
	if (p->role == ROLE_RUNTIME)
		send_fd(p, WIRE_LISTEN, "name", "rpc", p->r->rpc_fd);
	make_links(p);
	changed(p);
}

/* What a child has from its start: where to log to, the lock, and those files of the host that it needs. */
static int
hand_over(struct process *p, struct err *e)
{
	AUTO_CLOSE int log = outputs_pipe(p->r->outputs, p->role, "stderr", e);
	AUTO_CLOSE int files = -1;

	if (log < 0)
		return log;
	p->keeper = keeper_open(p->r, &files, e);
	if (p->keeper == NULL)
		return e->code;
	send_fd(p, WIRE_LISTEN, "name", "log", log);
	send_fd(p, WIRE_LISTEN, "name", "lock", p->r->lock_fd);
	send_fd(p, WIRE_LISTEN, "name", "files", files);
	return 0;
}

static void
guest_came(struct process *p, int link)
{
	struct err e;
	uid_t uid;

	p->pid = 0;
	if (!guest_needs_link(p->guest) && unix_peer(link, &uid, &p->pid) != 0)
		p->pid = 0;
	p->link = wire_open(p->r->loop, link, ROLE_RUNNER, p->role, &role_handler, p);
	if (p->role == ROLE_RUNTIME && hand_over(p, &e) != 0) {
		wire_close(take_ptr(&p->link));
		start_failed(p, &e);
		return;
	}
	send_boot(p);
	if (p->r->is_stopping)
		stop_role(p);
	else
		linked(p);
}

static void
on_guest(void *arg, int link, const struct err *e)
{
	struct process *p = arg;
	struct runner *r = p->r;

	if (e != NULL)
		start_failed(p, e);
	else
		guest_came(p, link);
	if (p->role == ROLE_SHELLD) {
		start_waiting(r);
		move_runtime(r);
	}
}

/* In a container or a machine, where the tier wants that. The runtime comes after the sidecar, without which it is of no use. */
static int
way_guest(struct process *p, struct err *e)
{
	const struct process *sidecar = process_of(p->r, ROLE_SHELLD);

	if (!wants_guest(p))
		return 0;
	if (p->r->cleaner == NULL)
		p->r->cleaner = leaves_watch(p->r);
	if (p->role == ROLE_RUNTIME && (sidecar->started_ms == 0 || guest_is_busy(sidecar->guest))) {
		p->waits = true;
		return WAY_BEGUN;
	}
	if (p->guest == NULL)
		p->guest = guest_new(p->r, p->role, on_guest, p);
	guest_start(p->guest, settings_tier(&p->r->settings));
	return WAY_BEGUN;
}

static const struct way in_guest = { "contained", way_guest };
static const struct way spawned = { "spawned", way_spawn }, adopted = { "adopted", way_adopt };

static const struct process rows[PROCESSES] = {
	{ .role = ROLE_RUNTIME, .program = "ithacad", .envelope = envelope_runtime, .ways = { &in_guest, &spawned }, .holds_lock = true },
	{ .role = ROLE_BROKER, .program = "ithacad", .envelope = envelope_broker, .ways = { &spawned } },
	{ .role = ROLE_SHELLD, .program = "ithaca-guest", .envelope = envelope_shelld, .ways = { &in_guest, &adopted, &spawned } },
};

static void
process_start(struct process *p)
{
	struct runner *r = p->r;
	struct err e = { 0 };
	int rc = 0;

	p->started_ms = loop_now_ms(r->loop);
	for (size_t i = 0; rc == 0 && p->ways[i] != NULL; i++) {
		p->way = p->ways[i];
		rc = p->way->start(p, &e);
	}
	if (rc <= 0)
		start_failed(p, &e);
	else if (rc == WAY_BEGUN)
		changed(p);
	else
		linked(p);
}

/* ---- all of them ---- */

void
roles_open(struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++) {
		r->processes[i] = rows[i];
		r->processes[i].r = r;
		r->processes[i].pidfd = -1;
	}
	for (size_t i = 0; i < PROCESSES; i++)
		process_start(&r->processes[i]);
}

/* One that was killed could not take its socket away. All have ended, and no other can come while we hold the lock. */
static void
remove_socket(const struct process *p)
{
	AUTO_FREE char *path = adopt_path(p);

	for (size_t i = 0; p->ways[i] != NULL; i++)
		if (p->ways[i] == &adopted)
			home_unlink(p->r, path);
}

void
roles_close(struct runner *r)
{
	for (size_t i = 0; i < PROCESSES; i++) {
		timer_close(r->processes[i].restart);
		timer_close(r->processes[i].end);
		timer_close(r->processes[i].unanswered);
		guest_free(r->processes[i].guest);
		keeper_close(r->processes[i].keeper);
		if (r->is_stopping)
			remove_socket(&r->processes[i]);
	}
	cleaner_dismiss(take_ptr(&r->cleaner));
}
