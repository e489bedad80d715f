/* SPDX-License-Identifier: MIT
 * One attack per name, tried once and in a harmless form: it opens but does not write where writing would hurt, and it
 * acts only on what the driver set up (names and numbers in DECOY_* variables) or on itself. The driver runs it inside a
 * cell, where it must be denied, and outside, where it must work. Exit status: 0 it worked, 10 denied (the reason on
 * standard output), 20 it cannot be tried here. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <net/ethernet.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKED = 0, DENIED = 10, SKIPPED = 20 };

/* A result below zero is a denial by errno. */
static int
verdict(long r)
{
	if (r >= 0)
		return WORKED;
	printf("%s", strerror(errno));
	return DENIED;
}

static const char *
decoy(const char *name)
{
	const char *v = getenv(name);
	if (v == NULL) {
		fprintf(stderr, "attack: %s is not set\n", name);
		exit(2);
	}
	return v;
}

static int
skip(const char *why)
{
	printf("%s", why);
	return SKIPPED;
}

/* ---- files ---- */

static int
read_path(const char *path)
{
	char c;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &c, 1) < 0)
		return verdict(-1);
	return WORKED;
}

static int
write_path(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_APPEND);
	return verdict(fd < 0 ? -1 : write(fd, "x", 1));
}

static int
attack_read_outside(void)
{
	return read_path(decoy("DECOY_FILE"));
}

static int
attack_write_outside(void)
{
	return write_path(decoy("DECOY_FILE"));
}

static int
attack_create_outside(void)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/created-%d", decoy("DECOY_DIR"), (int)getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlink(path);
	return verdict(fd);
}

/* Up from the workspace, by as many steps as it takes, then down. */
static int
attack_dot_dot(void)
{
	char path[1024] = "";
	for (int i = 0; i < 20; i++)
		strncat(path, "../", sizeof(path) - strlen(path) - 1);
	strncat(path, decoy("DECOY_FILE") + 1, sizeof(path) - strlen(path) - 1);
	return read_path(path);
}

static int
attack_symlink(void)
{
	char name[64];
	snprintf(name, sizeof(name), "link-%d", (int)getpid());
	if (symlink(decoy("DECOY_FILE"), name) != 0)
		return skip("no symlink can be made here");
	int r = read_path(name);
	unlink(name);
	return r;
}

static int
attack_hard_link(void)
{
	char name[64];
	snprintf(name, sizeof(name), "hard-%d", (int)getpid());
	int r = link(decoy("DECOY_FILE"), name);
	if (r == 0)
		unlink(name);
	return verdict(r);
}

static int
attack_write_system(void)
{
	return verdict(access("/usr/bin", W_OK));
}

static int
attack_shadow(void)
{
	return read_path("/etc/shadow");
}

static int
attack_daemon_memory(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/environ", decoy("DECOY_PID"));
	return read_path(path);
}

/* The processes that make cells, by their names. */
static int
attack_see_roles(void)
{
	DIR *d = opendir("/proc");
	char path[300], name[32];
	int found = 0;

	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/proc/%s/comm", x->d_name);
		if (x->d_name[0] < '0' || x->d_name[0] > '9' || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			continue;
		n = read(fd, name, sizeof(name) - 1);
		close(fd);
		name[n > 0 ? n - 1 : 0] = '\0';
		found += strcmp(name, "ithaca-guest") == 0 || strcmp(name, "ithaca-zygote") == 0 || strcmp(name, "ithaca-cell") == 0;
	}
	printf("%d seen", found);
	return found > 0 ? WORKED : DENIED;
}

static int
attack_proc_root(void)
{
	char path[512];
	snprintf(path, sizeof(path), "/proc/%s/root%s", getenv("DECOY_INIT"), decoy("DECOY_FILE"));
	return read_path(path);
}

static int
open_pid_file(const char *name, int flags)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/%s", getenv("DECOY_INIT"), name);
	return verdict(open(path, flags | O_CLOEXEC));
}

static int
attack_proc_mem(void)
{
	return open_pid_file("mem", O_RDWR);
}

static int
attack_proc_fd(void)
{
	return open_pid_file("fd/0", O_RDONLY);
}

/* Opened, never written. */
static int
attack_sysrq(void)
{
	return verdict(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC));
}

static int
attack_core_pattern(void)
{
	return verdict(open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC));
}

static int
attack_kernel_symbols(void)
{
	char line[64] = { 0 };
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0) {
		printf("nothing to read");
		return DENIED;
	}
	return WORKED;
}

static int
attack_chmod_device(void)
{
	const char *node = getenv("DECOY_DEVICE") != NULL ? getenv("DECOY_DEVICE") : "/dev/null";
	struct stat st;
	if (stat(node, &st) != 0)
		return skip("no device");
	return verdict(chmod(node, st.st_mode & 07777)); /* to what it is */
}

static int
attack_make_device(void)
{
	char name[64];
	snprintf(name, sizeof(name), "node-%d", (int)getpid());
	int r = mknod(name, S_IFCHR | 0600, makedev(1, 3));
	if (r == 0)
		unlink(name);
	return verdict(r);
}

static int
attack_use_device(void)
{
	if (getenv("DECOY_NODE") == NULL)
		return skip("only root can prepare a device node");
	return verdict(open(getenv("DECOY_NODE"), O_RDWR | O_CLOEXEC));
}

static int
attack_handle(void)
{
	struct {
		struct file_handle h;
		char room[128];
	} x = { .h = { .handle_bytes = 128 } };
	int mount_id;
	if (name_to_handle_at(AT_FDCWD, ".", &x.h, &mount_id, 0) != 0 && errno != ENOSYS)
		return skip("this file system has no handles");
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return verdict(open_by_handle_at(dir, &x.h, O_RDONLY));
}

/* ---- bits that lend a user or a group: each way to give them to a file, tried with both ---- */

/* A file that is there, and its descriptor. */
static int
plain_file(const char *name)
{
	return open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
}

static long
with_plain_file(const char *name, long (*change)(int fd, const char *name, mode_t mode), mode_t mode)
{
	int fd = plain_file(name);
	long r = fd < 0 ? -1 : change(fd, name, mode);
	int saved = errno;
	close(fd);
	errno = saved;
	return r;
}

static long
change_chmod(int fd, const char *name, mode_t mode)
{
	return syscall(SYS_chmod, name, mode);
}

static long
change_fchmod(int fd, const char *name, mode_t mode)
{
	return syscall(SYS_fchmod, fd, mode);
}

static long
change_fchmodat(int fd, const char *name, mode_t mode)
{
	return syscall(SYS_fchmodat, AT_FDCWD, name, mode);
}

static long
change_fchmodat2(int fd, const char *name, mode_t mode)
{
	return syscall(452 /* fchmodat2, newer than this C library */, AT_FDCWD, name, mode, AT_SYMLINK_NOFOLLOW);
}

static long
setid_by_chmod(const char *name, mode_t mode)
{
	return with_plain_file(name, change_chmod, mode);
}

static long
setid_by_fchmod(const char *name, mode_t mode)
{
	return with_plain_file(name, change_fchmod, mode);
}

static long
setid_by_fchmodat(const char *name, mode_t mode)
{
	return with_plain_file(name, change_fchmodat, mode);
}

static long
setid_by_fchmodat2(const char *name, mode_t mode)
{
	return with_plain_file(name, change_fchmodat2, mode);
}

/* The kernel takes the high half of a register for nothing; so must the filter. */
static long
setid_by_high_bits(const char *name, mode_t mode)
{
	int fd = plain_file(name);
	return fd < 0 ? -1 : syscall(SYS_fchmod, fd, mode | 1ul << 40);
}

static long
setid_by_open(const char *name, mode_t mode)
{
	return syscall(SYS_open, name, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
}

static long
setid_by_openat(const char *name, mode_t mode)
{
	return syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
}

static long
setid_by_openat2(const char *name, mode_t mode)
{
	uint64_t how[3] = { O_WRONLY | O_CREAT | O_CLOEXEC, mode, 0 };
	return syscall(SYS_openat2, AT_FDCWD, name, how, sizeof(how));
}

static long
name_it(int fd, const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd < 0 ? -1 : linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

static long
setid_by_tmpfile(const char *name, mode_t mode)
{
	return name_it((int)syscall(SYS_open, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, mode), name);
}

static long
setid_by_tmpfile_at(const char *name, mode_t mode)
{
	return name_it((int)syscall(SYS_openat, AT_FDCWD, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, mode), name);
}

static long
setid_by_creat(const char *name, mode_t mode)
{
	return syscall(SYS_creat, name, mode);
}

static long
setid_by_mknod(const char *name, mode_t mode)
{
	return syscall(SYS_mknod, name, S_IFREG | mode, 0);
}

static long
setid_by_mknodat(const char *name, mode_t mode)
{
	return syscall(SYS_mknodat, AT_FDCWD, name, S_IFREG | mode, 0);
}

static int
setid(long (*by)(const char *name, mode_t mode))
{
	static const mode_t bits[] = { S_ISUID, S_ISGID };
	int denied = 0;
	char name[64];

	umask(0);
	for (size_t i = 0; i < 2; i++) {
		struct stat st = { 0 };
		snprintf(name, sizeof(name), "setid-%d-%zu", (int)getpid(), i);
		long r = by(name, bits[i] | 0755);
		int saved = errno;
		bool has_bit = stat(name, &st) == 0 && (st.st_mode & bits[i]) != 0;
		unlink(name);
		if (!has_bit) {
			printf("%s ", r < 0 ? strerror(saved) : "without the bit");
			denied++;
		}
	}
	return denied == 2 ? DENIED : WORKED;
}

/* ---- other processes ---- */

static int
attack_signal(void)
{
	return verdict(kill(atoi(decoy("DECOY_PID")), 0));
}

static int
attack_ptrace_other(void)
{
	long r = ptrace(PTRACE_SEIZE, atoi(decoy("DECOY_PID")), NULL, NULL);
	if (r == 0)
		ptrace(PTRACE_DETACH, atoi(decoy("DECOY_PID")), NULL, NULL);
	return verdict(r);
}

static int
attack_ptrace_child(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	long r = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
	int saved = errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = saved;
	return verdict(r);
}

static int
attack_read_process(void)
{
	char byte = 1, got;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	struct iovec mine = { &got, 1 }, its = { &byte, 1 };
	long r = process_vm_readv(pid, &mine, 1, &its, 1, 0);
	int saved = errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = saved;
	return verdict(r);
}

static int
attack_steal_descriptor(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return verdict(pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0));
}

/* ---- namespaces and mounts ---- */

static int
attack_mount(void)
{
	return verdict(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int
attack_bind(void)
{
	return verdict(mount("/usr", "/tmp", NULL, MS_BIND, NULL));
}

static int
attack_umount(void)
{
	if (getenv("DECOY_STAGE") != NULL && mount("none", "/tmp", "tmpfs", 0, NULL) != 0)
		return skip("nothing to unmount");
	return verdict(umount2(getenv("DECOY_STAGE") != NULL ? "/tmp" : "/proc", MNT_DETACH));
}

static int
attack_open_tree(void)
{
	return verdict(open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
}

static int
attack_chroot(void)
{
	return verdict(chroot("."));
}

static int
attack_unshare_user(void)
{
	return verdict(unshare(CLONE_NEWUSER));
}

static int
attack_clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return verdict(pid);
}

static int
attack_clone3_user(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} a = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return verdict(pid);
}

static int
attack_setns(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	return verdict(fd < 0 ? -1 : setns(fd, 0));
}

static int
attack_host_name(void)
{
	return verdict(sethostname("taken", 5));
}

/* ---- network ---- */

static int
attack_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(decoy("DECOY_PORT"))),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return verdict(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static int
connect_unix(const char *name, bool is_abstract)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + is_abstract, name, n);
	return verdict(fd < 0 ? -1
			      : connect(fd, (struct sockaddr *)&a,
					(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + is_abstract)));
}

static int
attack_control_socket(void)
{
	return connect_unix(decoy("DECOY_SOCKET"), false);
}

static int
attack_abstract_socket(void)
{
	return connect_unix(decoy("DECOY_ABSTRACT"), true);
}

/* The other end of attack_abstract_socket, for as long as it is let live. */
static int
attack_offer_socket(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *name = decoy("DECOY_OFFER");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + 1, name, strlen(name));
	if (bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) != 0 ||
		listen(fd, 4) != 0)
		return skip("cannot listen");
	printf("ready\n");
	fflush(stdout);
	pause();
	return WORKED;
}

static int
attack_take_socket(void)
{
	return connect_unix(decoy("DECOY_OFFER"), true);
}

static int
attack_raw_socket(void)
{
	return verdict(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
}

static int
attack_packet_socket(void)
{
	return verdict(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
}

/* Something answers there, and only there. */
static int
attack_udp(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(decoy("DECOY_UDP"))),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval wait = { .tv_sec = 2 };
	char c = 'x';

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
		connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || send(fd, &c, 1, 0) != 1)
		return verdict(-1);
	return verdict(recv(fd, &c, 1, 0));
}

static int
attack_vsock(void)
{
	return verdict(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int
attack_alg(void)
{
	return verdict(socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static int
attack_netlink_uevent(void)
{
	return verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 15 /* NETLINK_KOBJECT_UEVENT */));
}

static int
attack_netlink_netfilter(void)
{
	return verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 12 /* NETLINK_NETFILTER */));
}

static int
attack_netlink_audit(void)
{
	return verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 9 /* NETLINK_AUDIT */));
}

/* ---- memory and queues with a name: of the host, and of another session ---- */

#define OFFER_KEY  0x17741774
#define OFFER_PORT 4711

static int
attack_host_shm(void)
{
	return verdict(shmget(atoi(decoy("DECOY_SHM")), 0, 0));
}

static int
attack_host_mq(void)
{
	return verdict(syscall(SYS_mq_open, decoy("DECOY_MQ"), O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, NULL));
}

static int
make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd >= 0)
		close(fd);
	return fd;
}

/* What a session may have lying about, for as long as it is let live. */
static int
attack_offer_all(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(OFFER_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (shmget(OFFER_KEY, 4096, IPC_CREAT | 0666) < 0 || msgget(OFFER_KEY, IPC_CREAT | 0666) < 0 ||
		semget(OFFER_KEY, 1, IPC_CREAT | 0666) < 0 ||
		make_file("/tmp/offered") < 0 || make_file("/dev/shm/offered") < 0 || make_file("/home/agent/offered") < 0 ||
		bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 4) != 0)
		return verdict(-1);
	printf("ready\n");
	fflush(stdout);
	pause();
	return WORKED;
}

static int
attack_take_shm(void)
{
	return verdict(shmget(OFFER_KEY, 0, 0));
}

static int
attack_take_queue(void)
{
	return verdict(msgget(OFFER_KEY, 0));
}

static int
attack_take_semaphore(void)
{
	return verdict(semget(OFFER_KEY, 0, 0));
}

static int
attack_take_tmp(void)
{
	return verdict(access("/tmp/offered", F_OK));
}

static int
attack_take_dev_shm(void)
{
	return verdict(access("/dev/shm/offered", F_OK));
}

static int
attack_take_home(void)
{
	return verdict(access("/home/agent/offered", F_OK));
}

static int
attack_take_tcp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(OFFER_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return verdict(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

/* ---- kernel surface ---- */

/* Opened, never written. */
static int
attack_sys_write(void)
{
	return verdict(open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY | O_CLOEXEC));
}

static int
attack_kvm(void)
{
	return verdict(open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

static int
attack_session_key(void)
{
	return verdict(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", decoy("DECOY_KEY"), 0));
}

/* Memory of a process that crashed, wherever the machine puts that. */
static int
attack_core(void)
{
	struct rlimit limit;
	int status;
	pid_t pid;

	if (getrlimit(RLIMIT_CORE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_CORE, &limit);
	}
	pid = fork();
	if (pid == 0)
		abort();
	waitpid(pid, &status, 0);
	printf("signal %d, limit %lld", WTERMSIG(status), (long long)limit.rlim_max);
	return WCOREDUMP(status) ? WORKED : DENIED;
}

/* A crash starts the handler that core_pattern pipes to, as root of the machine, unless the limit is 1. */
static int
attack_core_handler(void)
{
	static const unsigned long cores[] = { RLIMIT_CORE, 1ul << 32 | RLIMIT_CORE };
	struct rlimit none = { 0, 1 }, old, now = { 0 };

	for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++) {
		syscall(SYS_prlimit64, 0, cores[i], &none, NULL);
		syscall(SYS_prlimit64, 0, cores[i], &none, &old);
		syscall(SYS_setrlimit, cores[i], &none);
	}
	if (getrlimit(RLIMIT_CORE, &now) != 0)
		return verdict(-1);
	printf("limit %lld", (long long)now.rlim_cur);
	return now.rlim_cur == 1 ? DENIED : WORKED;
}

/* What a core holds, if one is made all the same. */
static int
attack_core_memory(void)
{
	static const char path[] = "/proc/self/coredump_filter";
	char text[32] = { 0 };
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "0x7f", 4);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return verdict(-1);
	return strtoul(text, NULL, 16) == 0 ? DENIED : WORKED;
}

static int
attack_keyctl(void)
{
	return verdict(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

static int
attack_add_key(void)
{
	return verdict(syscall(SYS_add_key, "user", "decoy", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int
attack_bpf(void)
{
	union bpf_attr a = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };
	return verdict(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)));
}

static int
attack_perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(a),
		.config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1, .exclude_hv = 1 };
	return verdict(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}

static int
attack_io_uring(void)
{
	char params[120] = { 0 };
	return verdict(syscall(SYS_io_uring_setup, 4, params));
}

static int
attack_userfaultfd(void)
{
	return verdict(syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC));
}

static int
attack_foreign_abi(void)
{
#ifdef __x86_64__
	long r;
	pid_t pid = fork();
	if (pid == 0) {
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory"); /* getpid of i386 */
		_exit(r > 0 ? 0 : 1);
	}
	int status;
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status)) {
		printf("%s", strsignal(WTERMSIG(status)));
		return WTERMSIG(status) == SIGSYS ? DENIED : SKIPPED;
	}
	return WEXITSTATUS(status) == 0 ? WORKED : SKIPPED;
#else
	return skip("no foreign ABI is known for this machine");
#endif
}

static int
attack_x32(void)
{
#ifdef __x86_64__
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(syscall(0x40000000 | SYS_getpid) > 0 ? 0 : 1);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status)) {
		printf("%s", strsignal(WTERMSIG(status)));
		return DENIED;
	}
	return WEXITSTATUS(status) == 0 ? WORKED : skip("this kernel has no x32");
#else
	return skip("x32 belongs to x86-64");
#endif
}

static int
type_into_terminal(unsigned long request)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
		return skip("no terminal can be made");
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		int tty = open(ptsname(master), O_RDWR);
		long r = tty < 0 ? -1 : syscall(SYS_ioctl, tty, request, "x");
		if (r == 0)
			_exit(WORKED);
		_exit(errno == EIO ? SKIPPED : DENIED);
	}
	int status;
	waitpid(pid, &status, 0);
	printf("denied");
	return WEXITSTATUS(status) == SKIPPED ? skip("the kernel has it switched off") : WEXITSTATUS(status);
}

static int
attack_tiocsti(void)
{
	return type_into_terminal(TIOCSTI);
}

/* The kernel looks at 32 bits of the request; so must the filter. */
static int
attack_tiocsti_high_bits(void)
{
	return type_into_terminal(TIOCSTI | 1ul << 32);
}

/* ---- rights ---- */

static int
attack_setuid_program(void)
{
	char text[64] = { 0 };
	int out[2], status;
	const char *program = getenv("DECOY_SETUID");

	if (program == NULL)
		return skip("only root can prepare a setuid program");
	if (pipe(out) != 0)
		return skip("no pipe");
	pid_t pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		execl(program, program, "whoami", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	if (read(out[0], text, sizeof(text) - 1) < 0)
		return skip("no answer");
	waitpid(pid, &status, 0);
	printf("effective user %s", text);
	return WEXITSTATUS(status) == 0 ? WORKED : DENIED;
}

/* For attack_setuid_program: tells whether it runs with another effective user. */
static int
attack_whoami(void)
{
	printf("%d", (int)geteuid());
	return geteuid() != getuid() ? WORKED : DENIED;
}

static int
attack_capability(void)
{
	return verdict(syscall(SYS_setpriority, PRIO_PROCESS, 0, -5)); /* CAP_SYS_NICE */
}

/* ---- what comes along ---- */

static int
attack_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int extra = 0;
	if (d == NULL)
		return skip("no /proc");
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		int fd = atoi(x->d_name);
		if (x->d_name[0] != '.' && fd > 2 && fd != dirfd(d)) {
			extra++;
			printf("%s ", x->d_name);
		}
	}
	closedir(d);
	if (extra == 0)
		printf("none");
	return extra > 0 ? WORKED : DENIED;
}

static int
attack_signals(void)
{
	char line[256];
	unsigned long long set, sum = 0;
	FILE *f = fopen("/proc/self/status", "re");
	if (f == NULL)
		return skip("no /proc");
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "SigIgn: %llx", &set) == 1 || sscanf(line, "SigBlk: %llx", &set) == 1)
			sum |= set;
	}
	fclose(f);
	printf("ignored or blocked: %llx", sum);
	return sum != 0 ? WORKED : DENIED;
}

static int
attack_environment(void)
{
	const char *v = getenv("LEAK");
	printf("%s", v != NULL ? v : "nothing");
	return v != NULL ? WORKED : DENIED;
}

/* ---- floods ---- */

/* Children that wait on a pipe; all are gone with it. */
static int
attack_fork_bomb(void)
{
	int hold[2], n = 0, want = atoi(decoy("DECOY_FORKS"));
	if (pipe(hold) != 0)
		return skip("no pipe");
	for (; n < want; n++) {
		pid_t pid = fork();
		if (pid == 0) {
			char c;
			close(hold[1]);
			(void)!read(hold[0], &c, 1);
			_exit(0);
		}
		if (pid < 0)
			break;
	}
	close(hold[1]);
	while (wait(NULL) > 0) {
	}
	printf("%d of %d", n, want);
	return n == want ? WORKED : DENIED;
}

static int
attack_memory_bomb(void)
{
	size_t want = (size_t)atoi(decoy("DECOY_MEGABYTES")) << 20;
	char *p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return verdict(-1);
	for (size_t i = 0; i < want; i += 4096)
		p[i] = 1;
	return WORKED;
}

static int
attack_big_file(void)
{
	size_t left = (size_t)atoi(decoy("DECOY_MEGABYTES")) << 20;
	static char block[1 << 20];
	char name[64];
	signal(SIGXFSZ, SIG_IGN);
	snprintf(name, sizeof(name), "big-%d", (int)getpid());
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	unlink(name);
	for (; left > 0; left -= sizeof(block)) {
		if (write(fd, block, sizeof(block)) != sizeof(block))
			return verdict(-1);
	}
	return WORKED;
}

static const struct {
	const char *name;
	int (*fn)(void);
} attacks[] = {
	{ "read_outside", attack_read_outside }, { "write_outside", attack_write_outside },
	{ "create_outside", attack_create_outside }, { "dot_dot", attack_dot_dot }, { "symlink", attack_symlink },
	{ "hard_link", attack_hard_link }, { "write_system", attack_write_system }, { "shadow", attack_shadow },
	{ "daemon_memory", attack_daemon_memory }, { "proc_root", attack_proc_root }, { "proc_mem", attack_proc_mem },
	{ "proc_fd", attack_proc_fd }, { "sysrq", attack_sysrq }, { "core_pattern", attack_core_pattern },
	{ "kernel_symbols", attack_kernel_symbols }, { "chmod_device", attack_chmod_device },
	{ "make_device", attack_make_device }, { "use_device", attack_use_device }, { "handle", attack_handle },
	{ "signal", attack_signal }, { "ptrace_other", attack_ptrace_other }, { "ptrace_child", attack_ptrace_child },
	{ "read_process", attack_read_process }, { "steal_descriptor", attack_steal_descriptor },
	{ "mount", attack_mount }, { "bind", attack_bind }, { "umount", attack_umount },
	{ "open_tree", attack_open_tree }, { "chroot", attack_chroot }, { "unshare_user", attack_unshare_user },
	{ "clone_user", attack_clone_user }, { "clone3_user", attack_clone3_user }, { "setns", attack_setns },
	{ "host_name", attack_host_name }, { "connect", attack_connect }, { "control_socket", attack_control_socket },
	{ "abstract_socket", attack_abstract_socket }, { "offer_socket", attack_offer_socket },
	{ "take_socket", attack_take_socket }, { "raw_socket", attack_raw_socket },
	{ "packet_socket", attack_packet_socket }, { "netlink_audit", attack_netlink_audit },
	{ "see_roles", attack_see_roles }, { "udp", attack_udp }, { "vsock", attack_vsock }, { "alg", attack_alg },
	{ "netlink_uevent", attack_netlink_uevent }, { "netlink_netfilter", attack_netlink_netfilter },
	{ "host_shm", attack_host_shm }, { "host_mq", attack_host_mq }, { "offer_all", attack_offer_all },
	{ "take_shm", attack_take_shm }, { "take_queue", attack_take_queue }, { "take_semaphore", attack_take_semaphore },
	{ "take_tmp", attack_take_tmp }, { "take_dev_shm", attack_take_dev_shm },
	{ "take_home", attack_take_home }, { "take_tcp", attack_take_tcp }, { "sys_write", attack_sys_write },
	{ "kvm", attack_kvm }, { "session_key", attack_session_key }, { "core", attack_core },
	{ "core_handler", attack_core_handler }, { "core_memory", attack_core_memory },
	{ "keyctl", attack_keyctl }, { "add_key", attack_add_key }, { "bpf", attack_bpf }, { "perf", attack_perf },
	{ "io_uring", attack_io_uring }, { "userfaultfd", attack_userfaultfd },
	{ "foreign_abi", attack_foreign_abi }, { "x32", attack_x32 }, { "tiocsti", attack_tiocsti },
	{ "tiocsti_high_bits", attack_tiocsti_high_bits }, { "setuid_program", attack_setuid_program },
	{ "whoami", attack_whoami }, { "capability", attack_capability },
	{ "descriptors", attack_descriptors }, { "signals", attack_signals }, { "environment", attack_environment },
	{ "fork_bomb", attack_fork_bomb }, { "memory_bomb", attack_memory_bomb }, { "big_file", attack_big_file },
};

static const struct {
	const char *name;
	long (*by)(const char *name, mode_t mode);
} setids[] = {
	{ "setid_chmod", setid_by_chmod }, { "setid_fchmod", setid_by_fchmod }, { "setid_fchmodat", setid_by_fchmodat },
	{ "setid_fchmodat2", setid_by_fchmodat2 }, { "setid_high_bits", setid_by_high_bits },
	{ "setid_open", setid_by_open }, { "setid_openat", setid_by_openat }, { "setid_openat2", setid_by_openat2 },
	{ "setid_tmpfile", setid_by_tmpfile }, { "setid_tmpfile_at", setid_by_tmpfile_at },
	{ "setid_creat", setid_by_creat }, { "setid_mknod", setid_by_mknod }, { "setid_mknodat", setid_by_mknodat },
};

int
main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(setids) / sizeof(setids[0]); i++) {
		if (strcmp(argv[1], setids[i].name) == 0) {
			int r = setid(setids[i].by);
			fflush(stdout);
			return r;
		}
	}
	for (size_t i = 0; argc == 2 && i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (strcmp(argv[1], attacks[i].name) == 0) {
			int r = attacks[i].fn();
			fflush(stdout);
			return r;
		}
	}
	fprintf(stderr, "attack: one known name is needed\n");
	return 2;
}
