/* SPDX-License-Identifier: MIT
 * The cells of shelld: one per key while its plan stays equal, made by the zygote, reached through a socket to their
 * cell init, ended by SIGKILL to that. Invariant: a cell object lives until its processes, its jobs and its cgroup are gone, so
 * nothing is forgotten half-way. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

#define GRAVE_MS    20 /* between attempts to remove the cgroup of a dead cell */
#define WATCHDOG_MS 250 /* between looks at the memory and processes of a cell without cgroup */
#define BOMB_ROOM   4096

/* ---- the end of a cell ---- */

static void
cell_free(struct cell *c)
{
	struct shelld *d = c->d;
	struct cell **p = &d->cells;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	timer_close(c->grave);
	timer_close(c->watchdog);
	waiters_free(&c->spawned);
	arena_free(c->arena);
	free(c);
	(void)malloc_trim(0); /* a cell may have cost much: what was queued for it, what its files said */
	closings_check(d);
	shelld_progress(d);
}

static void
on_grave(void *arg)
{
	struct cell *c = arg;
	if (c->jobs_n > 0)
		return;
	if (c->has_group && !cgroup_remove(&c->group))
		timer_again(c->grave, GRAVE_MS); /* its processes are still on their way out */
	else
		cell_free(c);
}

static void
bury(struct cell *c)
{
	if (c->grave == NULL)
		c->grave = timer_start(c->d->l, 0, on_grave, c);
	else
		timer_again(c->grave, 0);
}

/* The runtime waits for SPAWNED of this cell. */
static void
answer_spawned(struct cell *c)
{
	struct wire *w = c->d->runtime;
	for (struct waiter *x = c->spawned; x != NULL && w != NULL; x = x->next) {
		if (c->state == CELL_READY) {
			wire_begin(w, WIRE_SPAWNED, x->id);
			(void)wire_end(w, STR(""), -1);
		} else {
			wire_error(w, x->id, &c->why);
		}
	}
	waiters_free(&c->spawned);
}

/* GONE would have the runtime wait for another shelld. */
struct err
cell_why(const struct cell *c)
{
	struct err e = { .code = c->d->is_stopping ? ERR_GONE : ERR_FAILED, .to = ERR_TO_MODEL, .msg = "the cell ended" };

	return c->why.code != 0 ? c->why : e;
}

static void
cell_dead(struct cell *c)
{
	if (c->state == CELL_DEAD)
		return;
	c->state = CELL_DEAD;
	c->why = cell_why(c);
	forward_close(c);
	standby_drop(&c->standby);
	watch_close(c->out.watch);
	c->out.watch = NULL;
	outbox_fini(&c->out);
	close(c->sock);
	c->sock = c->out.sock = -1;
	if (c->pidfd >= 0) {
		(void)pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
		close(c->pidfd);
		c->pidfd = -1;
	}
	timer_close(c->watchdog);
	c->watchdog = NULL;
	if (c->is_probe)
		probe_done(c);
	else if (!c->was_ready && c->kind == KIND_FULL && (c->why.code == ERR_UNSUPPORTED || c->why.code == ERR_DENIED))
		probe_again(c->d);
	if (c->d->spare.cell == c)
		c->d->spare.cell = NULL;
	answer_spawned(c);
	bury(c);
}

/* Without namespaces the cell init kills what it adopted when its socket ends; with them SIGKILL does it all. */
void
cell_kill(struct cell *c)
{
	if (c->state == CELL_DEAD)
		return;
	if (c->kind == KIND_FULL && c->pidfd >= 0)
		(void)pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
	if (c->kind != KIND_FULL && c->pidfd >= 0) {
		close(c->pidfd); /* not SIGKILL: it has work left */
		c->pidfd = -1;
	}
	cell_dead(c);
}

struct pruning {
	char *state, *run;
};

static void
prune_work(void *arg)
{
	const struct pruning *p = arg;
	runs_prune(p->state, p->run);
}

static void
prune_done(void *arg)
{
	struct pruning *p = arg;
	free(p->state);
	free(p->run);
	free(p);
}

int
cell_run(struct cell *c, const struct node *head, struct str *run, struct err *e)
{
	struct str want = node_str(head, "run", STR(RUN_DEFAULT));
	char name[CELL_KEY_MAX + 1] = { 0 };

	if (!key_valid(want))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "bad key of a run");
	if (!str_is(want, c->run)) {
		memcpy(name, want.p, want.n);
		if (run_make(c->plan.state, name, c->uid, c->gid, e) != 0)
			return e->code;
		memcpy(c->run, name, sizeof(name));
		struct pruning *p = xcalloc(1, sizeof(*p));
		*p = (struct pruning){ xstrdup(c->plan.state), xstrdup(name) };
		loop_work(c->d->l, prune_work, prune_done, p);
	}
	*run = str_of(c->run);
	return 0;
}

int
cell_room(const struct cell *c, struct err *e)
{
	if (c->jobs_n < CELL_EXECS_MAX)
		return 0;
	return err_set(e, ERR_BUSY, ERR_TO_MODEL,
		"%u commands run in this cell already, and more are not started (end background jobs with job)", CELL_EXECS_MAX);
}

void
cell_job_begins(struct cell *c)
{
	c->used_at_ms = loop_now_ms(c->d->l);
	if (c->jobs_n++ > 0)
		return;
	disk_begins(c);
	if (c->watchdog != NULL)
		timer_again(c->watchdog, WATCHDOG_MS);
}

void
cell_job_ends(struct cell *c)
{
	c->jobs_n--;
	c->used_at_ms = loop_now_ms(c->d->l);
	forward_again(c->d);
	if (c->jobs_n > 0)
		return;
	if (c->state == CELL_DEAD) {
		bury(c);
	} else if (c->is_retired) {
		cell_kill(c);
	} else {
		disk_ends(c);
		standby_want(c);
	}
}

/* ---- what it reports ---- */

static void
cell_report(struct cell *c, const struct report *r, int *fd)
{
	switch (r->kind) {
	case REPORT_READY:
		c->was_ready = true;
		if (c == c->d->spare.cell)
			break;
		c->state = CELL_READY;
		if (*fd >= 0 && c->plan.has_proxy && c->kind == KIND_FULL)
			forward_listen(c, take_fd(fd));
		answer_spawned(c);
		if (c->is_probe)
			cell_kill(c);
		else
			spare_want(c->d);
		if (c->jobs_n == 0)
			standby_want(c);
		break;
	case REPORT_FAILED:
		err_set(&c->why, r->code, ERR_TO_USER, "%s", r->text);
		break;
	default:
		break; /* not for this socket */
	}
}

void
cell_read(struct cell *c)
{
	struct report r;
	int fd = -1;
	while (c->state != CELL_DEAD) {
		int n = report_recv(c->sock, &r, &fd);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			cell_dead(c);
			return;
		}
		cell_report(c, &r, &fd);
		if (fd >= 0)
			close(fd);
	}
}

static void
on_cell(void *arg, int events)
{
	struct cell *c = arg;
	if ((events & LOOP_WRITE) != 0)
		outbox_flush(&c->out);
	if ((events & (LOOP_READ | LOOP_HANGUP)) != 0)
		cell_read(c);
}

struct cell *
cell_by_id(struct shelld *d, uint32_t id)
{
	for (struct cell *c = d->cells; c != NULL; c = c->next) {
		if (c->id == id)
			return c;
	}
	return NULL;
}

/* The zygote says that a cell init exists, or why none does. */
void
zygote_read(struct shelld *d)
{
	struct report r;
	int fd;
	while (report_recv(d->zygote_sock, &r, &fd) == 1) {
		struct cell *c = cell_by_id(d, r.id);
		if (c != NULL && c->state != CELL_DEAD && r.kind == REPORT_STARTED) {
			c->pid = r.pid;
			c->pidfd = fd;
			continue;
		}
		if (c != NULL && r.kind == REPORT_FAILED)
			err_set(&c->why, r.code, ERR_TO_USER, "%s", r.text);
		/* Killed before it was born: its socket has ended, and so will it. */
		if (c != NULL && c->state == CELL_DEAD && fd >= 0 && c->kind == KIND_FULL)
			(void)pidfd_send_signal(fd, SIGKILL, NULL, 0);
		if (fd >= 0)
			close(fd);
	}
}

/* ---- making one ---- */

/* Whether RLIMIT_NPROC counts the processes of one user namespace alone. Before, it counts all of the host's user. */
static bool
counts_by_namespace(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
		(major > 5 || (major == 5 && minor >= 14));
}

/* Only a count that is the cell's own can be its limit: one over all processes of the user would make commands fail
 * because of what else runs on the machine. There the watchdog counts, and the limit, so far above what runs now that
 * nothing but a fork bomb meets it, keeps one from filling the machine before the watchdog looks. Nothing is limited in
 * danger_full_access. */
int64_t
cell_processes_rlimit(const struct cell *c)
{
	if (c->has_group || c->kind == KIND_HOST)
		return 0;
	if (c->kind == KIND_FULL && counts_by_namespace())
		return c->plan.processes;
	return user_tasks(geteuid()) + c->plan.processes + BOMB_ROOM;
}

/* Root is above RLIMIT_NPROC, so here too the watchdog counts. It stands still while nothing runs. */
static void
on_watchdog(void *arg)
{
	struct cell *c = arg;
	struct tree_use use = { 0 };

	if (c->jobs_n == 0)
		return;
	disk_tick(c);
	if (!c->has_group && c->pid > 0)
		tree_measure(c->pid, &use);
	if (use.resident_bytes > c->plan.memory_bytes) {
		log_warn("a cell passed its memory limit", LOG_S("cell", c->key), LOG_I("bytes", c->plan.memory_bytes));
		jobs_kill_cell(c, KILL_MEMORY);
	} else if (use.tasks > c->plan.processes) {
		log_warn("a cell passed its process limit", LOG_S("cell", c->key), LOG_I("processes", c->plan.processes));
		jobs_kill_cell(c, KILL_PROCESSES);
	}
	if (c->watchdog != NULL)
		timer_again(c->watchdog, WATCHDOG_MS);
}

struct cell *
cell_new(struct shelld *d, struct str key)
{
	struct cell *c = xcalloc(1, sizeof(*c));
	c->d = d;
	c->id = ++d->next_cell;
	c->pidfd = c->sock = -1;
	standby_init(&c->standby);
	c->arena = arena_new(256 * KIB);
	memcpy(c->key, key.p, key.n);
	c->used_at_ms = loop_now_ms(d->l);
	return c;
}

int
cell_open(struct cell *c, struct order *o, struct err *e)
{
	int pair[2], fds[CGROUP_DIRS];
	size_t n = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "cell: socketpair");
	if (cgroups_level(&c->d->cgroups) == LIMITS_CGROUP && !c->is_probe) {
		if (cgroup_new(&c->d->cgroups, &c->group, fds, &n, e) != 0) {
			close(pair[0]);
			close(pair[1]);
			return e->code;
		}
		c->has_group = true;
	}
	c->sock = pair[0];
	fd_set_nonblock(c->sock);
	o->fd[o->fd_n++] = pair[1];
	for (size_t i = 0; i < n; i++)
		o->fd[o->fd_n++] = fds[i];
	o->num[CELL_NUM_CGROUPS] = (int64_t)n;
	outbox_init(&c->out, c->sock);
	c->out.watch = watch_start(c->d->l, c->sock, LOOP_READ, on_cell, c);
	return 0;
}

void
cell_link(struct cell *c)
{
	c->next = c->d->cells;
	c->d->cells = c;
}

/* c becomes what the spare was going to be. False: there is none that could. */
static bool
cell_take_spare(struct cell *c)
{
	struct cell *s = spare_take(c);

	if (s == NULL)
		return false;
	c->id = s->id;
	c->sock = s->sock;
	c->pid = s->pid;
	c->pidfd = s->pidfd;
	c->group = s->group;
	c->has_group = s->has_group;
	watch_close(s->out.watch);
	outbox_init(&c->out, c->sock);
	c->out.watch = watch_start(c->d->l, c->sock, LOOP_READ, on_cell, c);
	cell_free(s);
	return true;
}

static int
cell_open_limited(struct cell *c, struct order *o, struct err *e)
{
	if (cell_open(c, o, e) != 0)
		return e->code;
	if (!c->has_group || cgroup_limit(&c->group, &c->plan, e) == 0)
		return 0;
	watch_close(c->out.watch);
	close(c->sock);
	cgroup_remove(&c->group);
	return e->code;
}

/* Root's directories become detached trees: a cell's user may not be able to walk to them, and a cell that was made ahead has no way
 * to the host any more. Without the right to do so the cell opens them again by path. */
static bool
detach_binds(struct order *o)
{
	int trees[BIND_COUNT];
	size_t n = order_binds(o), got = 0;

	while (got < n && (trees[got] = open_tree(o->fd[got], "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE |
		AT_EMPTY_PATH)) >= 0)
		got++;
	for (size_t i = 0; i < got; i++) {
		close(got == n ? o->fd[i] : trees[i]);
		if (got == n)
			o->fd[i] = trees[i];
	}
	return got == n;
}

/* The directories of the plan, as they were opened for the order. */
static void
note_binds(struct cell *c, const struct order *o)
{
	size_t at = 0;
	struct stat st;

	for (int i = 0; i <= BIND_APP; i++) {
		if (o->text[i].n == 0 || at >= o->fd_n || fstat(o->fd[at++], &st) != 0)
			continue;
		c->seen[i].dev = st.st_dev;
		c->seen[i].ino = st.st_ino;
	}
}

int
cell_start(struct cell *c, struct err *e)
{
	struct shelld *d = c->d;
	struct order o = { .kind = ORDER_CELL };
	bool is_spare;

	o.num[CELL_NUM_KIND] = c->kind;
	o.num[CELL_NUM_ACCESS] = c->plan.access;
	o.num[CELL_NUM_TMP] = c->plan.tmp_bytes;
	o.num[CELL_NUM_FILE] = c->kind == KIND_HOST ? 0 : c->plan.file_bytes;
	o.num[CELL_NUM_PROXY] = c->kind == KIND_FULL && c->plan.has_proxy;
	o.num[CELL_NUM_UID] = geteuid();
	o.num[CELL_NUM_GID] = getegid();
	if (!c->is_probe && plan_open(&d->ceiling, &c->plan, c->kind, c->arena, &o, e) != 0) {
		order_close_fds(&o);
		return e->code;
	}
	note_binds(c, &o);
	c->uid = (uid_t)o.num[CELL_NUM_UID];
	c->gid = (gid_t)o.num[CELL_NUM_GID];
	c->has_trees = c->kind == KIND_FULL && geteuid() == 0 && detach_binds(&o);
	o.num[CELL_NUM_TREES] = c->has_trees;
	is_spare = cell_take_spare(c);
	if (!is_spare && cell_open_limited(c, &o, e) != 0) {
		order_close_fds(&o);
		return e->code;
	}
	o.id = c->id;
	/* The plan as the cell will have it: paths resolved. */
	c->plan.shared = o.text[BIND_SHARED].p;
	outbox_post(is_spare ? &c->out : &d->zygote, &o);
	if (!c->is_probe && c->kind != KIND_HOST)
		c->watchdog = timer_start(d->l, WATCHDOG_MS, on_watchdog, c);
	disk_starts(c);
	return 0;
}

static int
choose_kind(const struct shelld *d, const struct cell_plan *p, enum cell_kind *out, struct err *e)
{
	if (p->access > d->ceiling.mode_max)
		return err_set(e, ERR_DENIED, ERR_TO_USER, "mode %s is above what this daemon allows (mode_max: %s)",
			access_name(p->access), access_name(d->ceiling.mode_max));
	if (d->ceiling.files_only && (p->access == CELL_HOST || d->facts.level != CELL_BASIC))
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "tier process: %s", p->access == CELL_HOST ?
			"mode danger_full_access has no meaning without commands (use tier: cell)" : d->facts.reason);
	if (p->access == CELL_HOST || d->ceiling.files_only) {
		*out = p->access == CELL_HOST ? KIND_HOST : KIND_BASIC;
		return 0;
	}
	if (p->require_limits && cgroups_level(&d->cgroups) != LIMITS_CGROUP)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"memory and processes of a cell cannot be limited by a cgroup here (start through: systemd-run "
			"--user --scope -p Delegate=yes, or set cell.require_limits: false)");
	if (d->facts.level == CELL_FULL) {
		*out = KIND_FULL;
		return 0;
	}
	if (d->facts.level == CELL_BASIC && p->allow_basic && d->ceiling.allow_basic) {
		*out = KIND_BASIC;
		return 0;
	}
	return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "no cell: %s", d->facts.reason);
}

/* An idle cell goes when there are too many. */
static int
make_room(struct shelld *d, struct err *e)
{
	struct cell *oldest = NULL;
	size_t n = 0;

	if (shelld_room(d, e) != 0)
		return e->code;
	for (struct cell *c = d->cells; c != NULL; c = c->next) {
		n++;
		if (c->state == CELL_READY && c->jobs_n == c->shells_n && (oldest == NULL || c->used_at_ms < oldest->used_at_ms))
			oldest = c;
	}
	if (n < CELLS_MAX)
		return 0;
	if (oldest == NULL)
		return err_set(e, ERR_BUSY, ERR_TO_USER, "%u cells are at work (try again later)", CELLS_MAX);
	cell_kill(oldest);
	return 0;
}

/* A directory that was removed or replaced would go on in a cell that has it mounted, where nobody else sees it. */
static bool
is_stale(const struct cell *c, const struct node *plan)
{
	static const char *const keys[] = { [BIND_SHARED] = "shared", [BIND_SCRATCH] = "scratch", [BIND_APP] = "app" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (c->seen[i].ino == 0)
			continue;
		if (stat(node_z(plan, keys[i], ""), &st) != 0)
			return errno == ENOENT || errno == ENOTDIR;
		if (st.st_dev != c->seen[i].dev || st.st_ino != c->seen[i].ino)
			return true;
	}
	return false;
}

int
cell_get(struct shelld *d, struct str key, const struct node *plan, struct cell **out, struct err *e)
{
	struct buf text;
	struct cell *c;

	if (!key_valid(key))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "bad cell key");
	if (d->is_stopping) /* the link breaks soon, and then another shelld is asked again */
		return err_set(e, ERR_GONE, ERR_TO_LOG, "shelld is stopping");
	if (!d->has_facts)
		return err_set(e, ERR_BUSY, ERR_TO_LOG, "shelld is starting");
	buf_init(&text, WIRE_HEAD_MAX);
	if (json_canonical(&text, plan != NULL ? plan : &node_null) != 0) {
		buf_fini(&text);
		return err_set(e, ERR_LIMIT, ERR_TO_LOG, "cell plan too large");
	}
	for (c = d->cells; c != NULL; c = c->next) {
		if (c->state == CELL_DEAD || c->is_retired || !str_is(key, c->key))
			continue;
		if (str_eq(c->plan_text, buf_str(&text)) && !is_stale(c, plan)) {
			buf_fini(&text);
			*out = c;
			return 0;
		}
		c->is_retired = true;
		shells_end(c, false);
		if (c->jobs_n == 0)
			cell_kill(c);
		break;
	}
	c = cell_new(d, key);
	c->plan_text = arena_take(c->arena, &text);
	if (make_room(d, e) != 0 || plan_read(node_copy(c->arena, plan != NULL ? plan : &node_null), &c->plan, e) != 0 ||
		choose_kind(d, &c->plan, &c->kind, e) != 0 || cell_start(c, e) != 0) {
		arena_free(c->arena);
		free(c);
		return e->code;
	}
	spool_cell(&d->spool, c->key, c->plan.state);
	cell_link(c);
	*out = c;
	return 0;
}

void
cell_post(struct cell *c, struct order *o)
{
	outbox_post(&c->out, o);
}

void
cells_waiters_drop(struct shelld *d)
{
	for (struct cell *c = d->cells; c != NULL; c = c->next)
		waiters_free(&c->spawned);
}
