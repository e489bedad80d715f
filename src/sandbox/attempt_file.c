/* SPDX-License-Identifier: MIT
 * Attempts on files: those of the host and of the system, device nodes, and bits that lend a user or a group. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "sandbox/attempt.h"

/* ---- files ---- */

static int
read_path(const char *path)
{
	char c;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &c, 1) < 0)
		return attempt_verdict(-1);
	return ATTEMPT_WORKED;
}

static int
write_path(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_APPEND);
	return attempt_verdict(fd < 0 ? -1 : write(fd, "x", 1));
}

static int
try_read_outside(void)
{
	return read_path(attempt_decoy("DECOY_FILE"));
}

static int
try_write_outside(void)
{
	return write_path(attempt_decoy("DECOY_FILE"));
}

static int
try_create_outside(void)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/created-%d", attempt_decoy("DECOY_DIR"), (int)getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlink(path);
	return attempt_verdict(fd);
}

/* Up from the workspace, by as many steps as it takes, then down. */
static int
try_dot_dot(void)
{
	char path[1024] = "";
	for (int i = 0; i < 20; i++)
		strncat(path, "../", sizeof(path) - strlen(path) - 1);
	strncat(path, attempt_decoy("DECOY_FILE") + 1, sizeof(path) - strlen(path) - 1);
	return read_path(path);
}

static int
try_symlink(void)
{
	char name[64];
	snprintf(name, sizeof(name), "link-%d", (int)getpid());
	if (symlink(attempt_decoy("DECOY_FILE"), name) != 0)
		return attempt_skip("no symlink can be made here");
	int r = read_path(name);
	unlink(name);
	return r;
}

static int
try_hard_link(void)
{
	char name[64];
	snprintf(name, sizeof(name), "hard-%d", (int)getpid());
	int r = link(attempt_decoy("DECOY_FILE"), name);
	if (r == 0)
		unlink(name);
	return attempt_verdict(r);
}

static int
try_write_system(void)
{
	return attempt_verdict(open("/usr/lib/os-release", O_WRONLY | O_CLOEXEC)); /* opened, never written */
}

static int
try_shadow(void)
{
	return read_path("/etc/shadow");
}

static int
try_daemon_memory(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/environ", attempt_decoy("DECOY_PID"));
	return read_path(path);
}

/* The processes that make cells, by their names. */
static int
try_see_roles(void)
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
	return found > 0 ? ATTEMPT_WORKED : ATTEMPT_DENIED;
}

static int
try_proc_root(void)
{
	char path[512];
	snprintf(path, sizeof(path), "/proc/%s/root%s", getenv("DECOY_INIT"), attempt_decoy("DECOY_FILE"));
	return read_path(path);
}

static int
open_pid_file(const char *name, int flags)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/%s", getenv("DECOY_INIT"), name);
	return attempt_verdict(open(path, flags | O_CLOEXEC));
}

static int
try_proc_mem(void)
{
	return open_pid_file("mem", O_RDWR);
}

static int
try_proc_fd(void)
{
	return open_pid_file("fd/0", O_RDONLY);
}

/* Opened, never written. */
static int
try_sysrq(void)
{
	return attempt_verdict(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC));
}

static int
try_core_pattern(void)
{
	return attempt_verdict(open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC));
}

static int
try_kernel_symbols(void)
{
	char line[64] = { 0 };
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0) {
		printf("nothing to read");
		return ATTEMPT_DENIED;
	}
	return ATTEMPT_WORKED;
}

static int
try_chmod_device(void)
{
	const char *node = getenv("DECOY_DEVICE") != NULL ? getenv("DECOY_DEVICE") : "/dev/null";
	struct stat st;
	if (stat(node, &st) != 0)
		return attempt_skip("no device");
	return attempt_verdict(chmod(node, st.st_mode & 07777)); /* to what it is */
}

static int
try_make_device(void)
{
	char name[64];
	snprintf(name, sizeof(name), "node-%d", (int)getpid());
	int r = mknod(name, S_IFCHR | 0600, makedev(1, 3));
	if (r == 0)
		unlink(name);
	return attempt_verdict(r);
}

static int
try_use_device(void)
{
	if (getenv("DECOY_NODE") == NULL)
		return attempt_skip("only root can prepare a device node");
	return attempt_verdict(open(getenv("DECOY_NODE"), O_RDWR | O_CLOEXEC));
}

static int
try_handle(void)
{
	struct {
		struct file_handle h;
		char room[128];
	} x = { .h = { .handle_bytes = 128 } };
	int mount_id;
	if (name_to_handle_at(AT_FDCWD, ".", &x.h, &mount_id, 0) != 0 && errno != ENOSYS)
		return attempt_skip("this file system has no handles");
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return attempt_verdict(open_by_handle_at(dir, &x.h, O_RDONLY));
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

int
attempt_setid(long (*by)(const char *name, mode_t mode))
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
	return denied == 2 ? ATTEMPT_DENIED : ATTEMPT_WORKED;
}

const struct attempt attempts_file[] = {
	{ "files", "read_outside", try_read_outside, NULL },
	{ "files", "write_outside", try_write_outside, NULL },
	{ "files", "create_outside", try_create_outside, NULL },
	{ "files", "dot_dot", try_dot_dot, NULL },
	{ "files", "symlink", try_symlink, NULL },
	{ "files", "hard_link", try_hard_link, NULL },
	{ "files", "handle", try_handle, NULL },
	{ "system", "write_system", try_write_system, NULL },
	{ "secrets", "shadow", try_shadow, NULL },
	{ "kernel", "sysrq", try_sysrq, NULL },
	{ "kernel", "core_pattern", try_core_pattern, NULL },
	{ "kernel", "kernel_symbols", try_kernel_symbols, NULL },
	{ "nodes", "chmod_device", try_chmod_device, NULL },
	{ "nodes", "make_device", try_make_device, NULL },
	{ "nodes", "use_device", try_use_device, NULL },
	{ "processes", "daemon_memory", try_daemon_memory, NULL },
	{ "processes", "see_roles", try_see_roles, NULL },
	{ "processes", "proc_root", try_proc_root, NULL },
	{ "processes", "proc_mem", try_proc_mem, NULL },
	{ "processes", "proc_fd", try_proc_fd, NULL },
	{ .wall = "setuid", .name = "setid_chmod", .setid = setid_by_chmod },
	{ .wall = "setuid", .name = "setid_fchmod", .setid = setid_by_fchmod },
	{ .wall = "setuid", .name = "setid_fchmodat", .setid = setid_by_fchmodat },
	{ .wall = "setuid", .name = "setid_fchmodat2", .setid = setid_by_fchmodat2 },
	{ .wall = "setuid", .name = "setid_high_bits", .setid = setid_by_high_bits },
	{ .wall = "setuid", .name = "setid_open", .setid = setid_by_open },
	{ .wall = "setuid", .name = "setid_openat", .setid = setid_by_openat },
	{ .wall = "setuid", .name = "setid_openat2", .setid = setid_by_openat2 },
	{ .wall = "setuid", .name = "setid_tmpfile", .setid = setid_by_tmpfile },
	{ .wall = "setuid", .name = "setid_tmpfile_at", .setid = setid_by_tmpfile_at },
	{ .wall = "setuid", .name = "setid_creat", .setid = setid_by_creat },
	{ .wall = "setuid", .name = "setid_mknod", .setid = setid_by_mknod },
	{ .wall = "setuid", .name = "setid_mknodat", .setid = setid_by_mknodat },
	{ 0 },
};
