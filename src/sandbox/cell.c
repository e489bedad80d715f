/* SPDX-License-Identifier: MIT
 * Cell init: pid 1 of a cell. It builds the cell, keeps only the capabilities that starting a command takes, and then
 * obeys its socket, whose other end is shelld: one exec init per command, one child per file operation. A spare is one
 * that has done what no plan decides (the kernel takes milliseconds for cgroups, namespaces and mounts) and waits for its
 * plan. It reads nothing that a command wrote and cannot be reached by one: commands live in nested process namespaces.
 * Invariant: it ends with its socket, and everything in the cell ends with it. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/internal.h"

struct cell_init {
	struct order *cell;
	enum cell_kind kind;
	int sock, ruleset, runs;
	char run[CELL_KEY_MAX + 1]; /* whose directory /run/work is */
	int proxy; /* listens on lo, until shelld has it; -1: there is none */
	bool may_nest; /* a command gets a process namespace with a /proc of its own */
	/* Where it gets none: exec inits and file children that live, and the list of all children, to know which are neither. */
	pid_t *own;
	size_t own_n, own_cap;
	int children;
	char mem[ORDER_MAX];
};

/* A v1 or v2 group takes a process that writes "0" to its cgroup.procs; shelld opened it with the right to do so. */
static int
cell_join(const struct order *cell, struct err *e)
{
	const int *fds = cell->fd + order_binds(cell) + 1;

	for (int64_t i = 0; i < cell->num[CELL_NUM_CGROUPS]; i++) {
		if (fd_write_all(fds[i], "0\n", 2) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot enter the cell's cgroup");
		close(fds[i]);
	}
	return 0;
}

/* The first descriptors of an order are those of its binds. They stay open, here and in order; what is -1 the plan has not. */
static void
take_binds(struct order *o, int binds[BIND_COUNT])
{
	size_t at = 0;

	for (int i = 0; i < BIND_COUNT; i++)
		binds[i] = o->text[i].n == 0 || at >= o->fd_n ? -1 : o->fd[at++];
	o->fd_n -= at;
	memmove(o->fd, o->fd + at, o->fd_n * sizeof(o->fd[0]));
}

/* What no plan decides. Where the plan's directories come as trees nothing of the host is needed after it, and the root is that of
 * the cell already; where they are opened by path the host's tree is left with the plan. */
static int
set_up_frame(struct cell_init *c, const struct survey *s, struct err *e)
{
	if (root_user(c->cell, e) != 0)
		return e->code;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (cell_join(c->cell, e) != 0)
		return e->code;
	if (sethostname("cell", 4) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot name the cell's host");
	if (root_network(e) != 0 || init_bound(e) != 0)
		return e->code;
	if (c->cell->num[CELL_NUM_TREES] == 0)
		return 0;
	return root_leave(e) != 0 || root_frame(s, e) != 0 ? e->code : root_enter(e);
}

/* Waits for the plan; the socket stays what it was. Ends with it when there will be none. */
static void
await_plan(struct cell_init *c, char *mem)
{
	const int64_t has_trees = c->cell->num[CELL_NUM_TREES];

	fds_keep(&c->sock, 1);
	report_send(c->sock, &(struct report){ .kind = REPORT_READY }, -1);
	if (order_recv(c->sock, mem, c->cell) != 1 || c->cell->kind != ORDER_CELL || c->cell->fd_n != order_binds(c->cell) ||
		c->cell->num[CELL_NUM_TREES] != has_trees)
		_exit(0);
}

static int
set_up_plan(struct cell_init *c, const struct survey *s, struct err *e)
{
	int binds[BIND_COUNT];
	bool has_trees = c->cell->num[CELL_NUM_TREES] != 0;

	take_binds(c->cell, binds);
	if (c->cell->num[CELL_NUM_PROXY] != 0 && (c->proxy = root_proxy(e)) < 0)
		return e->code;
	if (!has_trees && (root_leave(e) != 0 || root_open(c->cell, binds, e) != 0 || root_frame(s, e) != 0))
		return e->code;
	if (root_furnish(c->cell, binds, &c->runs, e) != 0 || (!has_trees && root_enter(e) != 0))
		return e->code;
	const int keep[] = { c->sock, c->proxy, c->runs };
	fds_keep(keep, ARRAY_LEN(keep));
	if (landlock_full((int)c->cell->num[CELL_NUM_ACCESS], &c->ruleset, e) != 0)
		return e->code;
	return caps_reduce(e);
}

/* Without user namespaces only root may have others, and not everywhere: tried once, in a child. */
static bool
try_namespace(void)
{
	int pidfd, status = 1;
	struct err e;

	signal(SIGCHLD, SIG_DFL);
	pid_t pid = process_clone(CLONE_NEWPID | CLONE_NEWNS, &pidfd);
	if (pid == 0)
		_exit(proc_on_host(&e) == 0 ? 0 : 1);
	if (pid > 0) {
		waitpid(pid, &status, 0);
		close(pidfd);
	}
	signal(SIGCHLD, SIG_IGN);
	return status == 0;
}

static void
on_child(int number)
{
	/* It is enough that ppoll ends. */
}

/* Without namespaces neither the end of an exec init nor that of the cell is the end of a command: what an init that was killed
 * leaves behind becomes ours, and is killed. */
static void
adopt(struct cell_init *c)
{
	const struct sigaction wake = { .sa_handler = on_child }; /* without SA_RESTART */
	sigset_t held;

	c->children = children_open();
	if (c->children < 0)
		return;
	sigemptyset(&held);
	sigaddset(&held, SIGCHLD);
	sigprocmask(SIG_BLOCK, &held, NULL);
	sigaction(SIGCHLD, &wake, NULL);
}

static int
set_up_host(struct cell_init *c, struct err *e)
{
	if (cell_join(c->cell, e) != 0)
		return e->code;
	fds_keep(&c->sock, 1);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	c->may_nest = try_namespace();
	if (!c->may_nest)
		adopt(c);
	if (c->kind == KIND_BASIC && landlock_basic(c->cell, &c->ruleset, e) != 0)
		return e->code;
	return 0;
}

static int
enter_run(struct cell_init *c, struct str run, struct err *e)
{
	if (c->kind != KIND_FULL || run.n == 0 || run.n > CELL_KEY_MAX || str_is(run, c->run))
		return 0;
	if (c->runs < 0 || root_run(c->runs, run.p, e) != 0)
		return e->code;
	memcpy(c->run, run.p, run.n + 1);
	return 0;
}

static void
begin(struct cell_init *c, struct order *o, int control)
{
	struct err e = { 0 };
	bool has_namespace = o->kind != ORDER_FILE && c->may_nest;
	int pidfd = -1;

	if (o->kind != ORDER_FILE && !c->may_nest && c->children < 0) {
		err_set(&e, ERR_UNSUPPORTED, ERR_TO_USER, "what a command leaves behind could not be ended (mount /proc, of a kernel with "
			"CONFIG_PROC_CHILDREN)");
		report_fail(control, o->id, &e);
		return;
	}
	if (enter_run(c, o->text[o->kind == ORDER_FILE ? FILE_TEXT_RUN : EXEC_TEXT_RUN], &e) != 0) {
		report_fail(control, o->id, &e);
		return;
	}
	pid_t pid = process_clone(has_namespace ? CLONE_NEWPID | CLONE_NEWNS : 0, &pidfd);

	if (pid == 0) {
		close(c->sock);
		if (c->children >= 0)
			close(c->children);
		if (o->kind == ORDER_EXEC)
			exec_main(c->cell, o, c->ruleset, has_namespace);
		if (o->kind == ORDER_STANDBY)
			exec_standby(c->cell, o, c->mem, c->ruleset);
		file_main(c->cell, o, c->ruleset);
	}
	if (pid < 0) {
		err_errno(&e, errno, ERR_TO_MODEL, "cannot start a process in the cell (its process limit may be reached)");
		report_fail(control, o->id, &e);
		return;
	}
	if (c->children >= 0) {
		c->own = vec_grow(c->own, &c->own_cap, c->own_n + 1, sizeof(*c->own));
		c->own[c->own_n++] = pid;
	}
	struct report r = { .kind = REPORT_BEGUN, .id = o->id };
	report_send(control, &r, pidfd);
	close(pidfd);
}

/* Until there is an order, or the end of the socket. */
static void
wait_order(struct cell_init *c)
{
	struct pollfd p = { .fd = c->sock, .events = POLLIN };
	sigset_t held;

	if (c->children < 0)
		return;
	sigemptyset(&held);
	sigaddset(&held, EXEC_SIGNAL);
	do
		c->own_n = orphans_kill(c->children, c->own, c->own_n);
	while (ppoll(&p, 1, NULL, &held) < 0 && errno == EINTR);
}

static int
set_up_full(struct cell_init *c, char *mem, const struct survey *s, struct err *e)
{
	bool is_spare = c->cell->kind == ORDER_SPARE;

	if (set_up_frame(c, s, e) != 0)
		return e->code;
	if (is_spare) {
		await_plan(c, mem);
		prctl(PR_SET_NAME, "ithaca-cell", 0, 0, 0);
	}
	return set_up_plan(c, s, e);
}

void
cell_main(struct order *cell, char *mem, const struct survey *s)
{
	struct cell_init *c = xcalloc(1, sizeof(*c));
	struct err e = { 0 };
	struct order o;
	sigset_t held;

	c->cell = cell;
	c->kind = (enum cell_kind)cell->num[CELL_NUM_KIND];
	c->sock = cell->fd[order_binds(cell)];
	c->ruleset = c->proxy = c->runs = c->children = -1;
	c->may_nest = true;
	prctl(PR_SET_NAME, cell->kind == ORDER_SPARE ? "ithaca-spare" : "ithaca-cell", 0, 0, 0);
	sigemptyset(&held); /* all else as the zygote has it: default, and SIGCHLD ignored */
	sigaddset(&held, EXEC_SIGNAL);
	sigprocmask(SIG_BLOCK, &held, NULL);
	if ((c->kind == KIND_FULL ? set_up_full(c, mem, s, &e) : set_up_host(c, &e)) != 0) {
		report_fail(c->sock, 0, &e);
		_exit(1);
	}
	report_send(c->sock, &(struct report){ .kind = REPORT_READY }, c->proxy);
	if (c->proxy >= 0)
		close(c->proxy); /* what runs in the cell must not get it */
	for (;;) {
		wait_order(c);
		int r = order_recv(c->sock, c->mem, &o);
		if (r == 0 || (r < 0 && errno != EPROTO))
			break;
		if (r == 1) {
			if (o.kind == ORDER_EXEC && o.fd_n == 4)
				begin(c, &o, o.fd[3]);
			else if (o.kind == ORDER_STANDBY && o.fd_n == 1 && c->kind == KIND_FULL)
				begin(c, &o, o.fd[0]);
			else if (o.kind == ORDER_FILE && o.fd_n == 3)
				begin(c, &o, o.fd[2]);
			order_close_fds(&o);
		}
	}
	if (c->kind != KIND_FULL)
		children_kill(c->children >= 0 ? c->children : children_open());
	_exit(0);
}
