/* SPDX-License-Identifier: MIT
 * Runs a command on a machine that lacks something: without WHAT[,WHAT...] COMMAND [ARG ...]
 *   namespaces   no further user namespace can be made (the limit of one of our own, never the host's)
 *   cgroup       cgroups cannot be written (read-only in a mount namespace of our own)
 *   mount        nothing can be mounted, as where AppArmor confines user namespaces
 *   seccomp      no filter of system calls can be loaded
 *   landlock=N   Landlock has ABI N, 0: there is none. The kernel's is asked through a supervisor, which refuses what
 *                that ABI does not know and ends with the last process of the command
 * Status 77: this machine does not let it be arranged. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIP 77

struct lack {
	bool namespaces, cgroup, mount, seccomp, landlock;
	int abi;
};

static void
cannot(const char *what)
{
	fprintf(stderr, "without: %s: %s\n", what, strerror(errno));
	_exit(SKIP);
}

static void
put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		cannot(path);
	close(fd);
}

/* Everybody stays who he is. */
static void
enter_user_namespace(void)
{
	int uid = (int)geteuid(), gid = (int)getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER) != 0)
		cannot("user namespace");
	put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%d %d 1\n", uid, uid);
	put("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%d %d 1\n", gid, gid);
	put("/proc/self/gid_map", map);
}

static void
lock_cgroups(void)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };

	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount_setattr(AT_FDCWD, "/sys/fs/cgroup", AT_RECURSIVE, &read_only, sizeof(read_only)) != 0)
		cannot("mount namespace");
}

/* ---- the supervisor ---- */

/* Rights by ABI, as the kernel's documentation lists them: file system, network, scopes; and how large the structure is. */
static bool
knows(int abi, const uint64_t attr[3])
{
	static const uint64_t fs[] = { 0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff };

	return (attr[0] & ~fs[abi < 5 ? abi : 5]) == 0 && (attr[1] & ~(uint64_t)(abi >= 4 ? 3 : 0)) == 0 &&
		(attr[2] & ~(uint64_t)(abi >= 6 ? 3 : 0)) == 0;
}

static void
answer(const struct seccomp_notif *q, int abi, struct seccomp_notif_resp *r)
{
	uint64_t attr[3] = { 0 }, size = q->data.args[1];
	struct iovec mine = { attr, size < sizeof(attr) ? size : sizeof(attr) };
	struct iovec its = { (void *)(uintptr_t)q->data.args[0], mine.iov_len };

	if ((q->data.args[2] & LANDLOCK_CREATE_RULESET_VERSION) != 0) {
		r->val = abi;
		return;
	}
	/* One that cannot be read is held to the size alone, which holds what came with ABI 4 and 6. */
	(void)!process_vm_readv((pid_t)q->pid, &mine, 1, &its, 1, 0);
	if (size > (abi >= 6 ? 24u : abi >= 4 ? 16u : 8u))
		r->error = -E2BIG;
	else if (!knows(abi, attr))
		r->error = -EINVAL;
	else
		r->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
}

static void
supervise(int listener, int abi)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	while (poll(&p, 1, -1) > 0 && (p.revents & POLLHUP) == 0) {
		struct seccomp_notif q = { 0 };
		struct seccomp_notif_resp r = { 0 };

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) != 0)
			continue; /* the caller died */
		r.id = q.id;
		answer(&q, abi, &r);
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
	_exit(0);
}

static int
take_listener(int sock)
{
	char room[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *h;
	int fd = -1;

	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1 && (h = CMSG_FIRSTHDR(&m)) != NULL)
		memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	return fd;
}

/* A grandchild, so that the command has no child that it does not know. It keeps no descriptor of the command. */
static int
supervisor_start(int abi)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		cannot("socket pair");
	if (fork() == 0) {
		int listener;

		if (fork() != 0)
			_exit(0);
		setsid();
		close(pair[1]);
		listener = take_listener(pair[0]);
		if (listener < 0)
			_exit(1);
		dup2(listener, 0);
		close_range(1, ~0u, 0);
		supervise(0, abi);
	}
	(void)!waitid(P_ALL, 0, NULL, WEXITED);
	close(pair[0]);
	return pair[1];
}

static void
give_listener(int sock, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	if (sendmsg(sock, &m, 0) != 1)
		cannot("supervisor");
	close(fd);
	close(sock);
}

/* ---- the filter ---- */

static void
filter(const struct lack *x)
{
	bool has_supervisor = x->landlock && x->abi > 0;
	uint32_t landlock = has_supervisor ? SECCOMP_RET_USER_NOTIF :
		x->landlock ? SECCOMP_RET_ERRNO | EOPNOTSUPP : SECCOMP_RET_ALLOW;
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, landlock),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, x->mount ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, x->seccomp ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, x->seccomp ? SECCOMP_RET_ERRNO | EINVAL : SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), (struct sock_filter *)(uintptr_t)code };
	int sock = has_supervisor ? supervisor_start(x->abi) : -1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		cannot("no_new_privs");
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, has_supervisor ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &prog);
	if (fd < 0)
		cannot("seccomp");
	if (has_supervisor)
		give_listener(sock, (int)fd);
}

static bool
parse(char *list, struct lack *x)
{
	for (char *p = strtok_r(list, ",", &list); p != NULL; p = strtok_r(NULL, ",", &list)) {
		if (strcmp(p, "namespaces") == 0)
			x->namespaces = true;
		else if (strcmp(p, "cgroup") == 0)
			x->cgroup = true;
		else if (strcmp(p, "mount") == 0)
			x->mount = true;
		else if (strcmp(p, "seccomp") == 0)
			x->seccomp = true;
		else if (strncmp(p, "landlock=", 9) == 0 && p[9] >= '0' && p[9] <= '9')
			*x = (struct lack){ x->namespaces, x->cgroup, x->mount, x->seccomp, true, p[9] - '0' };
		else
			return false;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct lack x = { 0 };

	if (argc < 3 || !parse(argv[1], &x)) {
		fprintf(stderr, "usage: without namespaces|cgroup|mount|seccomp|landlock=N[,...] COMMAND [ARG ...]\n");
		return 2;
	}
	if (x.namespaces || (x.cgroup && geteuid() != 0))
		enter_user_namespace();
	if (x.cgroup)
		lock_cgroups();
	if (x.namespaces)
		put("/proc/sys/user/max_user_namespaces", "0\n");
	if (x.mount || x.seccomp || x.landlock)
		filter(&x);
	execvp(argv[2], argv + 2);
	cannot(argv[2]);
}
