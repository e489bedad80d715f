/* SPDX-License-Identifier: MIT
 * The zygote: forked by shelld before that has a loop or a thread, so that cells are made by a process that is small
 * and single-threaded. It takes orders for cells, with a plan or as a spare that will get one, and answers each with the
 * pidfd of a cell init or with the reason why there is none. Invariant: it ends with shelld, and cell inits end with it. */
#include <errno.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/mem.h"
#include "sandbox/internal.h"

/* All but the mount namespace, which a cell init makes when it builds its root: a spare that waits with a copy of the host's mounts
 * would keep busy what the host wants to unmount. */
#define CELL_FLAGS (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

struct zygote {
	int sock;
	pid_t parent;
	struct survey *survey;
	char mem[ORDER_MAX];
};

pid_t
process_clone(uint64_t flags, int *pidfd)
{
	struct clone_args a = { .flags = flags | CLONE_PIDFD, .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD };
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

/* The user namespace belongs to the user that the cell is mapped to, because the effective ids are his at clone. */
static pid_t
clone_cell(const struct order *o, int *pidfd)
{
	bool is_full = o->num[CELL_NUM_KIND] == KIND_FULL, is_root = is_full && geteuid() == 0;
	if (is_root && (setegid((gid_t)o->num[CELL_NUM_GID]) != 0 || seteuid((uid_t)o->num[CELL_NUM_UID]) != 0))
		return -1;
	pid_t pid = process_clone(is_full ? CELL_FLAGS : 0, pidfd);
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
	int pidfd = -1;

	if (survey_is_stale(z->survey)) {
		survey_free(z->survey);
		z->survey = survey_new();
	}
	pid_t pid = clone_cell(o, &pidfd);
	if (pid == 0) {
		close(z->sock);
		cell_main(o, z->mem, z->survey);
	}
	report_started(z, o->id, pid, pidfd);
}

/* A socket and as many groups as it says, whatever binds are before them. */
static bool
is_whole(const struct order *o)
{
	return o->num[CELL_NUM_CGROUPS] >= 0 && o->num[CELL_NUM_CGROUPS] < ORDER_FDS &&
		o->fd_n == order_binds(o) + 1 + (size_t)o->num[CELL_NUM_CGROUPS];
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
			if ((o.kind == ORDER_CELL || o.kind == ORDER_SPARE) && is_whole(&o))
				make_cell(z, &o);
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
