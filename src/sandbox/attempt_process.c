/* SPDX-License-Identifier: MIT
 * Attempts on other processes, namespaces, mounts and rights; what came along with a command; floods. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sandbox/attempt.h"

/* ---- other processes ---- */

static int
try_signal(void)
{
	return attempt_verdict(kill(attempt_decoy_number("DECOY_PID"), 0));
}

static int
try_ptrace_other(void)
{
	long r = ptrace(PTRACE_SEIZE, attempt_decoy_number("DECOY_PID"), NULL, NULL);
	if (r == 0)
		ptrace(PTRACE_DETACH, attempt_decoy_number("DECOY_PID"), NULL, NULL);
	return attempt_verdict(r);
}

/* A child to aim at. */
static pid_t
victim_start(void)
{
	pid_t pid = attempt_fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static int
victim_end(pid_t pid, long r)
{
	int saved = errno;

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = saved;
	return attempt_verdict(r);
}

static int
try_ptrace_child(void)
{
	pid_t pid = victim_start();
	return victim_end(pid, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
}

static int
try_read_process(void)
{
	char byte = 1, got;
	pid_t pid = victim_start();
	struct iovec mine = { &got, 1 }, its = { &byte, 1 };
	return victim_end(pid, process_vm_readv(pid, &mine, 1, &its, 1, 0));
}

static int
try_steal_descriptor(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return attempt_verdict(pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0));
}

/* ---- namespaces and mounts ---- */

/* On a directory of its own, so that nothing is hidden from anybody where it works. */
static long
mount_own(const char *what, const char *type, unsigned long flags)
{
	char dir[64];
	long r;
	int saved;

	snprintf(dir, sizeof(dir), "mount-%d", (int)getpid());
	if (mkdir(dir, 0700) != 0)
		return -1;
	r = mount(what, dir, type, flags, NULL);
	saved = errno;
	if (r == 0)
		(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	errno = saved;
	return r;
}

static int
try_mount(void)
{
	return attempt_verdict(mount_own("none", "tmpfs", 0));
}

static int
try_bind(void)
{
	return attempt_verdict(mount_own("/usr", NULL, MS_BIND));
}

/* What is no mount: who may not unmount is told so first. */
static int
try_umount(void)
{
	char dir[64];
	long r;
	int saved;

	snprintf(dir, sizeof(dir), "umount-%d", (int)getpid());
	if (mkdir(dir, 0700) != 0)
		return attempt_skip("no directory can be made here");
	r = umount2(dir, MNT_DETACH);
	saved = errno;
	(void)rmdir(dir);
	if (r != 0 && saved == EINVAL)
		return ATTEMPT_WORKED;
	errno = saved;
	return attempt_verdict(r);
}

static int
try_open_tree(void)
{
	return attempt_verdict(open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
}

static int
try_chroot(void)
{
	return attempt_verdict(chroot("."));
}

static int
try_unshare_user(void)
{
	return attempt_verdict(unshare(CLONE_NEWUSER));
}

static int
try_clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return attempt_verdict(pid);
}

static int
try_clone3_user(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} a = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return attempt_verdict(pid);
}

static int
try_setns(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	return attempt_verdict(fd < 0 ? -1 : setns(fd, 0));
}

static int
try_host_name(void)
{
	char name[65] = "";

	(void)gethostname(name, sizeof(name) - 1);
	return attempt_verdict(sethostname(name, strlen(name))); /* to what it is */
}

/* ---- rights ---- */

static int
try_setuid_program(void)
{
	char text[64] = { 0 };
	int out[2], status;
	const char *program = getenv("DECOY_SETUID");

	if (program == NULL)
		return attempt_skip("only root can prepare a setuid program");
	if (pipe(out) != 0)
		return attempt_skip("no pipe");
	pid_t pid = attempt_fork();
	if (pid == 0) {
		dup2(out[1], 1);
		execl(program, program, "--attempt", "whoami", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	if (read(out[0], text, sizeof(text) - 1) < 0)
		return attempt_skip("no answer");
	waitpid(pid, &status, 0);
	printf("effective user %s", text);
	return WEXITSTATUS(status) == 0 ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

/* For try_setuid_program: tells whether it runs with another effective user. */
static int
try_whoami(void)
{
	printf("%d", (int)geteuid());
	return geteuid() != getuid() ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

static int
try_capability(void)
{
	return attempt_verdict(syscall(SYS_setpriority, PRIO_PROCESS, 0, -5)); /* CAP_SYS_NICE */
}

/* ---- what comes along ---- */

static int
try_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int extra = 0;
	if (d == NULL)
		return attempt_skip("no /proc");
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		int fd = (int)strtol(x->d_name, NULL, 10);
		if (x->d_name[0] != '.' && fd > 2 && fd != dirfd(d)) {
			extra++;
			printf("%s ", x->d_name);
		}
	}
	closedir(d);
	if (extra == 0)
		printf("none");
	return extra > 0 ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

static int
try_signals(void)
{
	char line[256];
	unsigned long long set, sum = 0;
	FILE *f = fopen("/proc/self/status", "re");
	if (f == NULL)
		return attempt_skip("no /proc");
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "SigIgn: %llx", &set) == 1 || sscanf(line, "SigBlk: %llx", &set) == 1)
			sum |= set;
	}
	fclose(f);
	printf("ignored or blocked: %llx", sum);
	return sum != 0 ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

static int
try_environment(void)
{
	const char *v = getenv("LEAK");
	printf("%s", v != NULL ? v : "nothing");
	return v != NULL ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

/* ---- floods ---- */

/* Where a watchdog is the limit it must have looked. */
static void
stay(void)
{
	if (getenv("DECOY_STAY_MS") != NULL)
		(void)poll(NULL, 0, attempt_decoy_number("DECOY_STAY_MS"));
}

/* Children that wait on a pipe; all are gone with it. */
static int
try_fork_bomb(void)
{
	int hold[2], n = 0, want = attempt_decoy_number("DECOY_FORKS");
	if (pipe(hold) != 0)
		return attempt_skip("no pipe");
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
	if (n == want)
		stay();
	close(hold[1]);
	while (wait(NULL) > 0) {
	}
	printf("%d of %d", n, want);
	return n == want ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

static int
try_memory_bomb(void)
{
	size_t want = (size_t)attempt_decoy_number("DECOY_MEGABYTES") << 20;
	char *p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return attempt_verdict(-1);
	for (size_t i = 0; i < want; i += 4096)
		p[i] = 1;
	stay();
	return ATTEMPT_WORKED;
}

static int
try_big_file(void)
{
	size_t left = (size_t)attempt_decoy_number("DECOY_MEGABYTES") << 20;
	static char block[1 << 20];
	char name[64];
	signal(SIGXFSZ, SIG_IGN);
	snprintf(name, sizeof(name), "big-%d", (int)getpid());
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	unlink(name);
	for (; left > 0; left -= sizeof(block)) {
		if (write(fd, block, sizeof(block)) != sizeof(block))
			return attempt_verdict(-1);
	}
	return ATTEMPT_WORKED;
}

const struct attempt attempts_process[] = {
	{ "processes", "signal", try_signal, NULL },
	{ "processes", "ptrace_other", try_ptrace_other, NULL },
	{ "processes", "read_process", try_read_process, NULL },
	{ "processes", "steal_descriptor", try_steal_descriptor, NULL },
	{ "seccomp", "ptrace_child", try_ptrace_child, NULL },
	{ "mounts", "mount", try_mount, NULL },
	{ "mounts", "bind", try_bind, NULL },
	{ "mounts", "umount", try_umount, NULL },
	{ "mounts", "open_tree", try_open_tree, NULL },
	{ "mounts", "chroot", try_chroot, NULL },
	{ "namespaces", "unshare_user", try_unshare_user, NULL },
	{ "namespaces", "clone_user", try_clone_user, NULL },
	{ "namespaces", "clone3_user", try_clone3_user, NULL },
	{ "namespaces", "setns", try_setns, NULL },
	{ "namespaces", "host_name", try_host_name, NULL },
	{ "setuid", "setuid_program", try_setuid_program, NULL },
	{ "capabilities", "capability", try_capability, NULL },
	{ "inherited", "descriptors", try_descriptors, NULL },
	{ "inherited", "signals", try_signals, NULL },
	{ NULL, "environment", try_environment, NULL },
	{ NULL, "whoami", try_whoami, NULL },
	{ "limits", "fork_bomb", try_fork_bomb, NULL },
	{ "limits", "memory_bomb", try_memory_bomb, NULL },
	{ "limits", "big_file", try_big_file, NULL },
	{ 0 },
};
