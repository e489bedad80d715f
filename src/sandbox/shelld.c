/* SPDX-License-Identifier: MIT
 * shelld: the process that owns cells and what they run. Here are its links and its life: BOOT and STOP from the
 * runner, requests from the runtime through one table, adoption by a new runner, and the end. Commands go on while a
 * link is broken and results are kept. Invariant: without a runner or a runtime for orphan_ms everything it made ends. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/cleaner.h"
#include "sandbox/job.h"

#define SWEEP_FIRST_MS 2000
#define SWEEP_MS       30000
#define STOP_MS  2000 /* for cells to be gone before shelld is */
#define LARGE_BYTES (256 * 1024)
#define ADOPT_MS 100 /* for the end of the old runner to be seen when a new one is there */

/* ---- small things that the others use ---- */

int
waiter_add(struct waiter **list, uint64_t id, struct err *e)
{
	size_t n = 0;
	for (const struct waiter *x = *list; x != NULL; x = x->next)
		n++;
	if (n >= WAITERS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG, "%u requests wait for this already", WAITERS_MAX);
	struct waiter *w = xcalloc(1, sizeof(*w));
	*w = (struct waiter){ id, *list };
	*list = w;
	return 0;
}

void
waiters_free(struct waiter **list)
{
	while (*list != NULL) {
		struct waiter *w = *list;
		*list = w->next;
		free(w);
	}
}

void
outbox_init(struct outbox *b, int sock)
{
	*b = (struct outbox){ .sock = sock, .tail = &b->head };
}

static void
packet_keep(struct outbox *b, const struct order *o)
{
	struct packet *p = xcalloc(1, sizeof(*p));
	size_t n = 0;
	for (size_t i = 0; i < ORDER_TEXTS; i++)
		n += o->text[i].n;
	p->o = *o;
	p->mem = xmalloc(n + 1);
	n = 0;
	for (size_t i = 0; i < ORDER_TEXTS; i++) {
		if (o->text[i].n > 0)
			memcpy(p->mem + n, o->text[i].p, o->text[i].n);
		p->o.text[i].p = p->mem + n;
		n += o->text[i].n;
	}
	*b->tail = p;
	b->tail = &p->next;
}

void
outbox_post(struct outbox *b, struct order *o)
{
	if (b->head == NULL && (b->sock < 0 || order_send(b->sock, o) == 0 || errno != EAGAIN)) {
		order_close_fds(o);
		return;
	}
	packet_keep(b, o);
	if (b->watch != NULL)
		watch_update(b->watch, LOOP_READ | LOOP_WRITE);
}

static void
packet_drop(struct outbox *b)
{
	struct packet *p = b->head;
	b->head = p->next;
	if (b->head == NULL)
		b->tail = &b->head;
	order_close_fds(&p->o);
	free(p->mem);
	free(p);
}

void
outbox_flush(struct outbox *b)
{
	while (b->head != NULL) {
		if (order_send(b->sock, &b->head->o) != 0 && errno == EAGAIN)
			return;
		packet_drop(b);
	}
	watch_update(b->watch, LOOP_READ);
}

void
outbox_fini(struct outbox *b)
{
	while (b->head != NULL)
		packet_drop(b);
}

/* At most, each: its own ends, those that an order may still hold, and what arrives later. */
enum { FDS_OWN = 48, FDS_JOB = 10, FDS_FILE = 6, FDS_SHELL = 10, FDS_CELL = 8 };

int
shelld_room(const struct shelld *d, struct err *e)
{
	struct rlimit limit;
	size_t n = FDS_OWN + FDS_JOB + d->forwards_n;

	for (const struct job *j = d->jobs; j != NULL; j = j->next)
		n += FDS_JOB;
	for (const struct file_job *f = d->file_jobs; f != NULL; f = file_next(f))
		n += FDS_FILE;
	for (const struct cell *c = d->cells; c != NULL; c = c->next)
		n += FDS_CELL + c->shells_n * FDS_SHELL;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || n <= limit.rlim_cur)
		return 0;
	return err_set(e, ERR_BUSY, ERR_TO_MODEL, "as many commands run as there are descriptors for (try again later; `ulimit -Hn` is %llu)",
		(unsigned long long)limit.rlim_cur);
}

/* ---- the end ---- */

void
shelld_progress(struct shelld *d)
{
	if (d->is_stopping && d->cells == NULL)
		loop_stop(d->l);
}

static void
stop_now(void *arg)
{
	struct shelld *d = arg;
	loop_stop(d->l);
}

/* One that ends is not there to be adopted, and takes its socket away before another can have made its own. */
static void
stop_listening(struct shelld *d)
{
	char path[PLAN_PATH_MAX];
	struct stat st;

	door_close(take_ptr(&d->door));
	if (d->listen_fd < 0)
		return;
	watch_close(d->listen_watch);
	d->listen_watch = NULL;
	close(d->listen_fd);
	d->listen_fd = -1;
	snprintf(path, sizeof(path), "%s/shelld.sock", d->ceiling.run_dir);
	if (lstat(path, &st) == 0 && st.st_dev == d->listen_stat.st_dev && st.st_ino == d->listen_stat.st_ino)
		unlink(path);
	if (d->adopter >= 0)
		close(take_fd(&d->adopter));
}

static void
stop(struct shelld *d, int status)
{
	if (d->is_stopping)
		return;
	d->is_stopping = true;
	d->status = status;
	stop_listening(d);
	for (struct cell *c = d->cells; c != NULL; c = c->next) {
		jobs_kill_cell(c, KILL_ASKED);
		cell_kill(c);
	}
	d->stop_timer = timer_start(d->l, STOP_MS, stop_now, d);
	shelld_progress(d);
}

static void
on_term(void *arg)
{
	stop(arg, 0);
}

static void
on_orphan(void *arg)
{
	struct shelld *d = arg;
	log_warn("nobody came back: everything ends", LOG_S("missing", d->runner == NULL ? "runner" : "runtime"));
	stop(d, 0);
}

static void
orphan_check(struct shelld *d)
{
	if (d->runner != NULL && d->runtime != NULL)
		timer_stop(d->orphan);
	else
		timer_again(d->orphan, d->ceiling.orphan_ms);
}

static void
on_zygote_dead(void *arg, int events)
{
	struct shelld *d = arg;
	log_error("the zygote ended: no cell can be made, so shelld ends", LOG_I("pid", getpid()));
	stop(d, 1);
}

/* ---- the runtime ---- */

typedef int (*request_fn)(struct shelld *d, const struct wire_msg *m, struct err *e);

static int
on_spawn(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	struct cell *c;
	if (cell_get(d, node_str(m->head, "cell", STR("")), node_get(m->head, "plan"), &c, e) != 0)
		return e->code;
	if (node_get(m->head, "run") != NULL) {
		struct str run;
		if (cell_run(c, m->head, &run, e) != 0)
			return e->code;
		standby_want(c);
	}
	if (c->state == CELL_READY) {
		wire_begin(d->runtime, WIRE_SPAWNED, m->id);
		return wire_end(d->runtime, STR(""), -1);
	}
	return waiter_add(&c->spawned, m->id, e);
}

/* Whatever the runtime thinks; one that was begun in another tier may still be asked for. */
static int
on_exec(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	if (d->ceiling.files_only && !node_bool(m->head, "only_resume", false))
		return err_set(e, ERR_DENIED, ERR_TO_MODEL, "commands are not offered in tier process (use the file tools)");
	return job_exec(d, m, e);
}

static int
on_input(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	job_input(d, m);
	return 0;
}

static int
on_resize(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	job_resize(d, m);
	return 0;
}

static int
on_close(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	struct str cell = node_str(m->head, "cell", STR(""));
	if (cell.n == 0)
		return job_forget(d, m, e);
	if (!key_valid(cell))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "bad cell key");
	return cell_close(d, cell, node_bool(m->head, "forget", false), m->id, e);
}

static const struct {
	enum wire_kind kind;
	request_fn fn;
} requests[] = {
	{ WIRE_SPAWN, on_spawn }, { WIRE_EXEC, on_exec }, { WIRE_INPUT, on_input }, { WIRE_RESIZE, on_resize },
	{ WIRE_SIGNAL, job_signal }, { WIRE_KILL, job_kill }, { WIRE_SPOOL, job_spool },
	{ WIRE_FILE, file_begin }, { WIRE_CLOSE, on_close },
};

static int
on_runtime_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct shelld *d = arg;

	/* Input may come late for what ended, but not for what never was. */
	if ((m->kind == WIRE_INPUT || m->kind == WIRE_RESIZE) && m->id > d->exec_id_max)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s for exec %llu, which was never asked for", wire_kind_name(m->kind),
			(unsigned long long)m->id);
	if (m->kind == WIRE_EXEC)
		d->exec_id_max = MAX(d->exec_id_max, m->id);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct err why = { 0 };
		if (requests[i].kind != m->kind)
			continue;
		if (requests[i].fn(d, m, &why) != 0)
			wire_error(w, m->id, &why);
		return 0;
	}
	return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s is not a request that shelld knows", wire_kind_name(m->kind));
}

static void
runtime_left(struct shelld *d)
{
	d->runtime = NULL;
	jobs_runtime_gone(d);
	files_runtime_gone(d);
	cells_waiters_drop(d);
}

static void
on_runtime_gone(void *arg, struct wire *w, const struct err *e)
{
	struct shelld *d = arg;
	if (d->runtime != w)
		return;
	runtime_left(d);
	orphan_check(d);
}

static const struct wire_handler runtime_handler = { on_runtime_msg, on_runtime_gone };

/* A runtime that comes back looks at files to find out what its calls did, and calls again what did not happen. So it is
 * told to begin when the file operations of the one before it have ended. */
void
shelld_hello(struct shelld *d)
{
	if (!d->owes_hello || d->runtime == NULL || !d->has_facts || d->file_jobs != NULL)
		return;
	d->owes_hello = false;
	facts_write(wire_begin(d->runtime, WIRE_HELLO, 0), &d->facts);
	(void)wire_end(d->runtime, STR(""), -1);
}

void
shelld_runtime(struct shelld *d, int fd)
{
	if (d->runtime != NULL) {
		struct wire *old = d->runtime;
		runtime_left(d);
		wire_close(old);
	}
	d->runtime = wire_open(d->l, fd, ROLE_SHELLD, ROLE_RUNTIME, &runtime_handler, d);
	d->exec_id_max = 0;
	d->owes_hello = true;
	shelld_hello(d);
	orphan_check(d);
}

/* ---- the runner ---- */

static void
send_ready(struct shelld *d, bool is_adopted)
{
	struct json *j = wire_begin(d->runner, WIRE_READY, 0);
	json_kv_bool(j, "adopted", is_adopted);
	json_kv_obj(j, "facts");
	facts_write(j, &d->facts);
	json_obj_end(j);
	(void)wire_end(d->runner, STR(""), -1);
}

void
shelld_facts(struct shelld *d)
{
	size_t n = strlen(d->facts.reason);

	d->has_facts = true;
	d->owes_hello = true; /* also to a runtime that was told something else before */
	if (d->facts.level == CELL_NONE && d->ceiling.no_container != NULL && d->ceiling.no_container[0] != '\0')
		snprintf(d->facts.reason + n, sizeof(d->facts.reason) - n, "; tier auto tried the container: %s", d->ceiling.no_container);
	if (d->facts.level != CELL_FULL)
		log_warn("commands cannot be fully isolated here", LOG_S("level", level_name(d->facts.level)),
			LOG_S("reason", d->facts.reason));
	if (d->runner != NULL)
		send_ready(d, false);
	shelld_hello(d);
	spare_want(d);
}

/* The real path of something that may not exist yet: then its parent is resolved. */
static const char *
real_path(struct shelld *d, struct str path)
{
	if (path.n == 0 || path.n > PLAN_PATH_MAX || path.p[0] != '/')
		return NULL;
	char *z = path_clean(d->arena, arena_strdup(d->arena, path)), *name = strrchr(z, '/');
	AUTO_FREE char *real = realpath(z, NULL);
	if (real != NULL)
		return arena_strdup(d->arena, str_of(real));
	*name = '\0';
	AUTO_FREE char *parent = realpath(z[0] != '\0' ? z : "/", NULL);
	return parent == NULL ? NULL : path_join(d->arena, parent, name + 1);
}

static const char *
hide(struct shelld *d, struct str text)
{
	struct ceiling *k = &d->ceiling;
	const char *path = real_path(d, text);
	struct stat st = { 0 };

	if (path == NULL || k->hide_n == HIDE_MAX)
		return path;
	(void)stat(path, &st);
	k->hide[k->hide_n++] = (struct hidden){ path, st.st_dev, st.st_ino };
	return path;
}

static int
read_ceiling(struct shelld *d, const struct node *n, struct err *e)
{
	struct ceiling *k = &d->ceiling;
	int mode = access_parse(node_str(n, "mode_max", STR("workspace_write")));
	struct str run_dir = node_str(n, "run_dir", STR("")), spool_dir = node_str(n, "spool_dir", STR(""));
	struct str state_root = node_str(n, "state_root", STR("")), home = node_str(n, "home", STR(""));

	if (run_dir.n == 0 || run_dir.p[0] != '/' || spool_dir.n == 0 || spool_dir.p[0] != '/' || mode < 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"boot envelope of shelld: run_dir and spool_dir must be absolute paths, mode_max a mode");
	k->mode_max = (enum cell_access)mode;
	k->allow_basic = node_bool(n, "allow_basic", false);
	k->files_only = node_bool(n, "files_only", false);
	k->orphan_ms = node_int(n, "orphan_ms", SHELLD_ORPHAN_MS);
	k->tier = arena_strdup(d->arena, node_str(n, "tier", STR("cell")));
	k->no_container = arena_strdup(d->arena, node_str(n, "no_container", STR("")));
	k->run_dir = arena_strdup(d->arena, run_dir);
	k->spool_dir = arena_strdup(d->arena, spool_dir);
	if (path_mkdirs(k->run_dir, 0700, e) != 0 || spool_open(&d->spool, k->spool_dir, e) != 0)
		return e->code;
	if (state_root.n > 0) {
		k->state_root = arena_strdup(d->arena, state_root);
		if (path_mkdirs(k->state_root, 0700, e) != 0)
			return e->code;
		k->state_root = real_path(d, state_root);
	}
	const struct node *list = node_get(n, "hide");
	for (size_t i = 0; i < node_len(list); i++) {
		if (node_is(node_at(list, i), NODE_STR))
			hide(d, node_at(list, i)->s);
	}
	if (k->hide_n + 3 > HIDE_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "boot envelope of shelld: more than %u hidden paths", HIDE_MAX - 3);
	if (home.n > 0)
		k->home = hide(d, home);
	/* Whatever the runner says, these two are nobody's business. */
	hide(d, run_dir);
	hide(d, spool_dir);
	return 0;
}

/* In a pass of its own, after what the last one had to say has left. */
static void
on_quiet(void *arg)
{
	struct shelld *d = arg;

	spool_prepare(&d->spool);
	if (standbys_tend(d))
		timer_again(d->quiet, STANDBY_MS);
}

void
shelld_quiet(struct shelld *d)
{
	if (d->is_stopping)
		return;
	if (d->quiet == NULL)
		d->quiet = timer_start(d->l, 0, on_quiet, d);
	else
		timer_again(d->quiet, 0);
}

/* A shelld that was killed leaves groups whose cells are still ending when we begin. */
static void
on_sweep(void *arg)
{
	struct shelld *d = arg;

	(void)cgroups_sweep(&d->cgroups);
	timer_again(d->sweep, SWEEP_MS);
}

static void on_adopter(void *arg, int events);

static void
start_cleaner(struct shelld *d, const struct node *boot)
{
	const struct node *leaves = node_get(boot, "leaves");
	size_t n = node_len(leaves);
	struct str *names = arena_alloc(d->arena, (n + 1) * sizeof(*names));

	for (size_t i = 0; i < n; i++)
		names[i] = node_is(node_at(leaves, i), NODE_STR) ? node_at(leaves, i)->s : STR(".");
	names[n] = STR("shelld.sock");
	d->cleaner = cleaner_start(d->l, &(struct cleaner_order){ .program = "/proc/self/exe", .dir = d->ceiling.run_dir,
		.lock = node_str(boot, "lock", STR("")), .names = names, .names_n = n + 1 });
}

static int
on_boot(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	const struct node *boot;
	char path[PLAN_PATH_MAX];
	const struct node *log = NULL;
	enum log_level level = LOG_WARN;

	if (d->is_booted)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "boot envelope twice");
	if (json_parse(d->arena, m->tail, &boot, e) != 0 || read_ceiling(d, boot, e) != 0)
		return e->code;
	log = node_get(boot, "log");
	if (log_level_parse(node_str(log, "level", STR("warn")), &level) == 0)
		log_open("shelld", STDERR_FILENO, level,
			str_is(node_str(log, "format", STR("")), "json") ? LOG_JSON : LOG_LOGFMT);
	if (d->door == NULL) /* else the runner has one, who is on the host */
		start_cleaner(d, boot);
	snprintf(path, sizeof(path), "%s/shelld.sock", d->ceiling.run_dir);
	d->listen_fd = d->door != NULL ? -1 : unix_listen(path, 0600, e);
	if (d->door == NULL && d->listen_fd < 0)
		return e->code;
	if (d->door == NULL) {
		(void)lstat(path, &d->listen_stat);
		d->listen_watch = watch_start(d->l, d->listen_fd, LOOP_READ, on_adopter, d);
	}
	d->is_booted = true;
	snprintf(d->facts.tier, sizeof(d->facts.tier), "%s", d->ceiling.tier);
	around_find(&d->facts);
	orphan_check(d);
	cgroups_open(&d->cgroups, "/proc/self");
	d->sweep = timer_start(d->l, SWEEP_FIRST_MS, on_sweep, d);
	timer_unref(d->sweep);
	cells_probe(d);
	return 0;
}

static int
on_peer(struct shelld *d, struct wire_msg *m, struct err *e)
{
	struct str role = node_str(m->head, "role", STR(""));

	if (m->fd >= 0 && d->is_booted && str_is(role, role_name(ROLE_RUNTIME)))
		shelld_runtime(d, take_fd(&m->fd));
	else if (m->fd >= 0 && d->is_booted && str_is(role, role_name(ROLE_BROKER)))
		forward_broker(d, take_fd(&m->fd));
	else
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "shelld takes two peers, runtime and broker, after boot");
	return 0;
}

static int
on_runner_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct shelld *d = arg;
	switch (m->kind) {
	case WIRE_BOOT:
		if (on_boot(d, m, e) != 0) {
			struct json *j = wire_begin(w, WIRE_FAULT, 0);
			json_kv_err(j, e);
			(void)wire_end(w, STR(""), -1);
			stop(d, 1);
		}
		return 0;
	case WIRE_PEER:
		return on_peer(d, m, e);
	case WIRE_LISTEN: /* from a runner that adopted us: the pipe to the one before is gone */
		if (!str_is(node_str(m->head, "name", STR("")), "log") || m->fd < 0 || dup2(m->fd, STDOUT_FILENO) < 0 ||
			dup2(m->fd, STDERR_FILENO) < 0)
			return err_set(e, ERR_PROTO, ERR_TO_LOG, "shelld takes one descriptor by name, log");
		return 0;
	case WIRE_STOP:
		stop(d, 0);
		return 0;
	default:
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s is not for shelld", wire_kind_name(m->kind));
	}
}

static void
on_runner_gone(void *arg, struct wire *w, const struct err *e)
{
	struct shelld *d = arg;
	if (d->runner != w)
		return;
	d->runner = NULL;
	if (d->is_booted)
		orphan_check(d);
	else
		stop(d, 1);
}

static const struct wire_handler runner_handler = { on_runner_msg, on_runner_gone };

static void
adopt(struct shelld *d, int fd)
{
	d->runner = wire_open(d->l, fd, ROLE_SHELLD, ROLE_RUNNER, &runner_handler, d);
	if (d->has_facts)
		send_ready(d, true);
	orphan_check(d);
}

/* The end of the old runner and the call of the new one may arrive in any order. */
static void
on_adopt_later(void *arg)
{
	struct shelld *d = arg;
	int fd = take_fd(&d->adopter);

	if (fd < 0)
		return;
	if (d->runner == NULL) {
		adopt(d, fd);
		return;
	}
	log_warn("a runner was turned away", LOG_S("why", "there is one"));
	close(fd);
}

/* A runner that waits for the end of the one before it is not there for long, if that ended at all. */
static void
runner_came(struct shelld *d, int fd)
{
	if (d->runner == NULL) {
		adopt(d, fd);
	} else {
		d->adopter = fd;
		timer_again(d->adopt_timer, ADOPT_MS);
	}
}

/* Somebody with the token of this start. */
static void
on_door(void *arg, enum role who, int fd)
{
	struct shelld *d = arg;

	if (who == ROLE_RUNNER && d->adopter < 0) {
		runner_came(d, fd);
	} else if (who == ROLE_RUNTIME && d->is_booted) {
		shelld_runtime(d, fd);
	} else if (who == ROLE_BROKER && d->is_booted) {
		forward_broker(d, fd);
	} else {
		log_warn("a link was turned away", LOG_S("role", role_name(who)),
			LOG_S("why", d->is_booted ? "another is waiting" : "there was no boot envelope yet"));
		close(fd);
	}
}

/* A new runner takes a shelld over whose own is gone. It must be the same user. */
static void
on_adopter(void *arg, int events)
{
	struct shelld *d = arg;
	uid_t uid;
	pid_t pid;
	int fd = unix_accept(d->listen_fd);

	if (fd < 0)
		return;
	if (unix_peer(fd, &uid, &pid) != 0 || uid != geteuid() || d->adopter >= 0) {
		log_warn("a runner was turned away", LOG_S("why", d->adopter >= 0 ? "another is waiting" : "another user"));
		close(fd);
	} else {
		runner_came(d, fd);
	}
}

/* ---- life ---- */

static void
on_zygote(void *arg, int events)
{
	struct shelld *d = arg;
	if ((events & LOOP_WRITE) != 0)
		outbox_flush(&d->zygote);
	if ((events & LOOP_READ) != 0)
		zygote_read(d);
}

int
shelld_main(const struct shelld_links *links, int zygote_sock, int zygote_pidfd)
{
	struct shelld *d = xcalloc(1, sizeof(*d));
	struct err e = { 0 };

	/* What a large queue took goes back to the machine: left alone, malloc keeps as much as was freed once. */
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
	if (loop_open(&d->l, &e) != 0) {
		log_error("no event loop", LOG_E(&e));
		return 1;
	}
	d->listen_fd = d->adopter = -1;
	d->spool.dir = -1;
	spare_init(d);
	d->zygote_sock = zygote_sock;
	d->zygote_pidfd = zygote_pidfd;
	d->arena = arena_new(MIB);
	fd_set_nonblock(zygote_sock);
	outbox_init(&d->zygote, zygote_sock);
	d->zygote.watch = watch_start(d->l, zygote_sock, LOOP_READ, on_zygote, d);
	d->zygote_dead = watch_start(d->l, zygote_pidfd, LOOP_READ, on_zygote_dead, d);
	d->term = signal_start(d->l, SIGTERM, on_term, d);
	d->ceiling.orphan_ms = SHELLD_ORPHAN_MS;
	d->adopt_timer = timer_start(d->l, ADOPT_MS, on_adopt_later, d);
	d->orphan = timer_start(d->l, SHELLD_ORPHAN_MS, on_orphan, d);
	if (links->runner_fd >= 0)
		d->runner = wire_open(d->l, links->runner_fd, ROLE_SHELLD, ROLE_RUNNER, &runner_handler, d);
	else
		d->door = door_open(d->l, links->listen_fd, links->token, on_door, d);
	loop_run(d->l);
	(void)cgroups_sweep(&d->cgroups); /* of one before us that was killed: nobody may come after us */
	if (d->runner != NULL)
		cleaner_dismiss(d->cleaner);
	if (d->runner != NULL)
		wire_close(d->runner);
	return d->status; /* the kernel takes the rest: the process ends here */
}
