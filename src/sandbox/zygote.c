/* SPDX-License-Identifier: MIT
 * The zygote: forked by shelld before that has a loop or a thread, so that cells are made by a process that is small
 * and single-threaded. It takes cell orders and answers each with the pidfd of a cell init or with the reason why there
 * is none. A spare is a copy of it that has entered the cgroups of a cell to come: the kernel takes several milliseconds
 * for that, and nobody then waits. Invariant: it ends with shelld, and spares and cell inits end with it. */
#include <errno.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/mem.h"
#include "sandbox/internal.h"

#define CELL_FLAGS (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

struct zygote {
	int sock;
	pid_t parent;
	bool is_spare;
	struct survey *survey;
	char mem[ORDER_MAX];
};

/* With CLONE_PARENT the child gets the exit signal of the caller and must not be given one. */
pid_t
process_clone(uint64_t flags, int *pidfd)
{
	struct clone_args a = { .flags = flags | CLONE_PIDFD, .pidfd = (uintptr_t)pidfd,
		.exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD };
	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

static bool
has_parent(const struct zygote *z)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return getppid() == z->parent;
}

/* What stands in the way when clone3 itself refuses; mounts that refuse speak for themselves. */
static int
refused(int errnum, struct err *e)
{
	if (errnum == ENOSPC || errnum == EUSERS)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"user namespaces are switched off (fix: sysctl -w user.max_user_namespaces=15000)");
	if (errnum == EPERM)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"user namespaces are refused (fix: sysctl -w kernel.unprivileged_userns_clone=1, or in a "
			"container allow clone and mount in its seccomp profile)");
	return err_errno(e, errnum, ERR_TO_USER, "cannot start a cell");
}

/* The first descriptors of an order, one per directory that the plan names, leave it. Root's become detached trees here, because a
 * cell's user may not be able to walk to them. Without the right to do so the cell init opens them again by path. */
static void
take_binds(struct order *o, struct bind *binds)
{
	size_t at = 0;
	bool is_root = o->num[CELL_NUM_KIND] == KIND_FULL && geteuid() == 0;

	for (int i = 0; i < BIND_COUNT; i++) {
		binds[i] = (struct bind){ .fd = -1 };
		if (o->text[i].n == 0 || at >= o->fd_n)
			continue;
		binds[i].fd = take_fd(&o->fd[at++]);
		int tree = !is_root ? -1 : open_tree(binds[i].fd, "",
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
		if (tree >= 0) {
			close(binds[i].fd);
			binds[i] = (struct bind){ tree, true };
		}
	}
	o->fd_n -= at;
	memmove(o->fd, o->fd + at, o->fd_n * sizeof(o->fd[0]));
}

/* The user namespace belongs to the user that the cell is mapped to, because the effective ids are his at clone. */
static pid_t
clone_cell(const struct zygote *z, const struct order *o, int *pidfd)
{
	bool is_full = o->num[CELL_NUM_KIND] == KIND_FULL, is_root = is_full && geteuid() == 0;
	if (is_root && (setegid((gid_t)o->num[CELL_NUM_GID]) != 0 || seteuid((uid_t)o->num[CELL_NUM_UID]) != 0))
		return -1;
	pid_t pid = process_clone((is_full ? CELL_FLAGS : 0) | (z->is_spare ? CLONE_PARENT : 0), pidfd);
	int saved = errno;
	if (pid != 0 && is_root) {
		if (seteuid(0) != 0 || setegid(0) != 0)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* a change of ids clears it */
	}
	errno = saved;
	return pid;
}

/* Says what clone3 gave. */
static void
report_started(const struct zygote *z, uint32_t id, pid_t pid, int pidfd)
{
	struct report r = { .kind = REPORT_STARTED, .id = id, .pid = pid };
	struct err e = { 0 };

	if (pid < 0) {
		refused(errno, &e);
		report_fail(z->sock, id, &e);
		return;
	}
	report_send(z->sock, &r, pidfd);
	close(pidfd);
}

static void
make_cell(struct zygote *z, struct order *o)
{
	struct bind binds[BIND_COUNT];
	int pidfd = -1;

	take_binds(o, binds);
	if (survey_is_stale(z->survey)) {
		survey_free(z->survey);
		z->survey = survey_new();
	}
	pid_t pid = clone_cell(z, o, &pidfd);
	if (pid == 0) {
		close(z->sock);
		cell_main(o, binds, z->survey);
	}
	report_started(z, o->id, pid, pidfd);
	for (int i = 0; i < BIND_COUNT; i++) {
		if (binds[i].fd >= 0)
			close(binds[i].fd);
	}
}

/* Waits for the order of its one cell. The cell init is a child of the zygote, so it does not end with the spare. */
static void NORETURN
spare_main(struct zygote *z, struct order *o, pid_t zygote)
{
	int sock = o->fd[0], keep[] = { z->sock, sock };
	struct err e = { 0 };

	z->parent = zygote;
	z->is_spare = true;
	if (!has_parent(z))
		_exit(0);
	prctl(PR_SET_NAME, "ithaca-spare", 0, 0, 0);
	if (cell_join(o, &e) != 0) {
		report_fail(sock, o->id, &e);
		_exit(1);
	}
	fds_keep(keep, ARRAY_LEN(keep));
	report_send(sock, &(struct report){ .kind = REPORT_READY, .id = o->id }, -1);
	if (order_recv(sock, z->mem, o) == 1 && o->kind == ORDER_CELL && o->fd_n < ORDER_FDS) {
		o->fd[o->fd_n++] = sock;
		make_cell(z, o);
	}
	_exit(0);
}

static void
make_spare(struct zygote *z, struct order *o)
{
	pid_t me = getpid();
	int pidfd = -1;
	pid_t pid = process_clone(0, &pidfd);

	if (pid == 0)
		spare_main(z, o, me);
	report_started(z, o->id, pid, pidfd);
}

/* A socket and as many groups as it says, whatever binds are before them. */
static bool
is_whole(const struct order *o)
{
	size_t binds = 0;

	for (int i = 0; i < BIND_COUNT; i++)
		binds += o->text[i].n > 0;
	return o->num[CELL_NUM_CGROUPS] >= 0 && o->num[CELL_NUM_CGROUPS] < ORDER_FDS &&
		o->fd_n == binds + 1 + (size_t)o->num[CELL_NUM_CGROUPS];
}

static void NORETURN
zygote_main(int sock, pid_t parent)
{
	struct zygote *z = xcalloc(1, sizeof(*z));
	struct order o;

	z->sock = sock;
	z->parent = parent;
	if (!has_parent(z))
		_exit(0);
	prctl(PR_SET_NAME, "ithaca-zygote", 0, 0, 0);
	fds_keep(&sock, 1);
	signals_reset();
	signal(SIGCHLD, SIG_IGN); /* the kernel reaps cell inits; their pidfds tell shelld */
	if (geteuid() == 0)
		(void)setgroups(0, NULL); /* a cell's user has no group of root's */
	z->survey = survey_new();
	for (;;) {
		int r = order_recv(sock, z->mem, &o);
		if (r == 0 || (r < 0 && errno != EPROTO))
			_exit(0);
		if (r == 1) {
			if (o.kind == ORDER_CELL && is_whole(&o))
				make_cell(z, &o);
			else if (o.kind == ORDER_SPARE && is_whole(&o))
				make_spare(z, &o);
			order_close_fds(&o);
		}
	}
}

int
zygote_start(int *sock, int *pidfd, struct err *e)
{
	int pair[2], fd = -1;
	pid_t me = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "zygote: socketpair");
	pid_t pid = process_clone(0, &fd);
	if (pid < 0) {
		close(pair[0]);
		close(pair[1]);
		return err_errno(e, errno, ERR_TO_LOG, "zygote: clone3");
	}
	if (pid == 0) {
		close(pair[0]);
		zygote_main(pair[1], me);
	}
	close(pair[1]);
	*sock = pair[0];
	*pidfd = fd;
	return 0;
}
