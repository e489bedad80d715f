/* SPDX-License-Identifier: MIT
 * Attempts on what of the kernel a command does not need. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sandbox/attempt.h"

/* ---- kernel surface ---- */

/* Opened, never written. */
static int
try_sys_write(void)
{
	return attempt_verdict(open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY | O_CLOEXEC));
}

static int
try_kvm(void)
{
	return attempt_verdict(open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

static int
try_session_key(void)
{
	return attempt_verdict(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", attempt_decoy("DECOY_KEY"), 0));
}

/* Memory of a process that crashed, wherever the machine puts that. */
static int
try_core(void)
{
	struct rlimit limit;
	int status;
	pid_t pid;

	if (getrlimit(RLIMIT_CORE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_CORE, &limit);
	}
	pid = attempt_fork();
	if (pid == 0)
		abort();
	waitpid(pid, &status, 0);
	printf("signal %d, limit %lld", WTERMSIG(status), (long long)limit.rlim_max);
	return WCOREDUMP(status) ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

/* A crash starts the handler that core_pattern pipes to, as root of the machine, unless the limit is 1. */
static int
try_core_handler(void)
{
	static const unsigned long cores[] = { RLIMIT_CORE, 1ul << 32 | RLIMIT_CORE };
	struct rlimit none = { 0, 1 }, old, now = { 0 };

	for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++) {
		syscall(SYS_prlimit64, 0, cores[i], &none, NULL);
		syscall(SYS_prlimit64, 0, cores[i], &none, &old);
		syscall(SYS_setrlimit, cores[i], &none);
	}
	if (getrlimit(RLIMIT_CORE, &now) != 0)
		return attempt_verdict(-1);
	printf("limit %lld", (long long)now.rlim_cur);
	return now.rlim_cur == 1 ? ATTEMPT_DENIED : ATTEMPT_WORKED;
}

/* What a core holds, if one is made all the same. */
static int
try_core_memory(void)
{
	static const char path[] = "/proc/self/coredump_filter";
	char text[32] = { 0 };
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "0x7f", 4);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return attempt_verdict(-1);
	return strtoul(text, NULL, 16) == 0 ? ATTEMPT_DENIED : ATTEMPT_WORKED;
}

static int
try_keyctl(void)
{
	return attempt_verdict(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

static int
try_add_key(void)
{
	return attempt_verdict(syscall(SYS_add_key, "user", "decoy", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int
try_bpf(void)
{
	union bpf_attr a = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };
	return attempt_verdict(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)));
}

static int
try_perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(a),
		.config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1, .exclude_hv = 1 };
	return attempt_verdict(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}

static int
try_io_uring(void)
{
	char params[120] = { 0 };
	return attempt_verdict(syscall(SYS_io_uring_setup, 4, params));
}

static int
try_userfaultfd(void)
{
	return attempt_verdict(syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC));
}

static int
try_foreign_abi(void)
{
#ifdef __x86_64__
	long r;
	pid_t pid = attempt_fork();
	if (pid == 0) {
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory"); /* getpid of i386 */
		_exit(r > 0 ? 0 : 1);
	}
	int status;
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status)) {
		printf("%s", strsignal(WTERMSIG(status)));
		return WTERMSIG(status) == SIGSYS ? ATTEMPT_DENIED : ATTEMPT_SKIPPED;
	}
	return WEXITSTATUS(status) == 0 ? ATTEMPT_WORKED : ATTEMPT_SKIPPED;
#else
	return attempt_skip("no foreign ABI is known for this machine");
#endif
}

static int
try_x32(void)
{
#ifdef __x86_64__
	int status;
	pid_t pid = attempt_fork();
	if (pid == 0)
		_exit(syscall(0x40000000 | SYS_getpid) > 0 ? 0 : 1);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status)) {
		printf("%s", strsignal(WTERMSIG(status)));
		return ATTEMPT_DENIED;
	}
	return WEXITSTATUS(status) == 0 ? ATTEMPT_WORKED : attempt_skip("this kernel has no x32");
#else
	return attempt_skip("x32 belongs to x86-64");
#endif
}

static int
type_into_terminal(unsigned long request)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
		return attempt_verdict(-1);
	pid_t pid = attempt_fork();
	if (pid == 0) {
		setsid();
		int tty = open(ptsname(master), O_RDWR);
		long r = tty < 0 ? -1 : syscall(SYS_ioctl, tty, request, "x");
		if (r == 0)
			_exit(ATTEMPT_WORKED);
		_exit(errno == EIO ? ATTEMPT_SKIPPED : ATTEMPT_DENIED);
	}
	int status;
	waitpid(pid, &status, 0);
	printf("denied");
	return WEXITSTATUS(status) == ATTEMPT_SKIPPED ? attempt_skip("the kernel has it switched off") : WEXITSTATUS(status);
}

static int
try_tiocsti(void)
{
	return type_into_terminal(TIOCSTI);
}

/* The kernel looks at 32 bits of the request; so must the filter. */
static int
try_tiocsti_high_bits(void)
{
	return type_into_terminal(TIOCSTI | 1ul << 32);
}

const struct attempt attempts_kernel[] = {
	{ "kernel", "sys_write", try_sys_write, NULL },
	{ "devices", "kvm", try_kvm, NULL },
	{ "inherited", "session_key", try_session_key, NULL },
	{ "inherited", "core", try_core, NULL },
	{ "inherited", "core_handler", try_core_handler, NULL },
	{ "inherited", "core_memory", try_core_memory, NULL },
	{ "seccomp", "keyctl", try_keyctl, NULL },
	{ "seccomp", "add_key", try_add_key, NULL },
	{ "seccomp", "bpf", try_bpf, NULL },
	{ "seccomp", "perf", try_perf, NULL },
	{ "seccomp", "io_uring", try_io_uring, NULL },
	{ "seccomp", "userfaultfd", try_userfaultfd, NULL },
	{ "seccomp", "foreign_abi", try_foreign_abi, NULL },
	{ "seccomp", "x32", try_x32, NULL },
	{ "terminal", "tiocsti", try_tiocsti, NULL },
	{ "terminal", "tiocsti_high_bits", try_tiocsti_high_bits, NULL },
	{ 0 },
};
