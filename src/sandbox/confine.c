/* SPDX-License-Identifier: MIT
 * Takes rights away from the calling process: capabilities, Landlock, seccomp, descriptors, signal state. It gives none
 * back. The order in confine_self matters: capabilities first (they are needed by nothing after), Landlock next,
 * seccomp last, because its filter has no row for what the others do. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "sandbox/internal.h"
#include "sandbox/sandbox-seccomp.h"

/* Newer than Debian 12's header (which ends at ABI 2). */
#define LL_TRUNCATE     (1ull << 14) /* ABI 3 */
#define LL_IOCTL_DEV    (1ull << 15) /* ABI 5 */
#define LL_NET          3ull /* ABI 4: bind and connect of TCP */
#define LL_SCOPE        3ull /* ABI 6: abstract Unix sockets and signals */

#define LL_READ  (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LL_WRITE                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
		LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
		LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER |   \
		LL_TRUNCATE)
#define LL_NODES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK) /* handled, granted nowhere */
#define LL_FILE  (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
		LL_TRUNCATE | LL_IOCTL_DEV) /* what a rule on something else than a directory may grant */

#define SIGNAL_MAX 64

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

int
landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi < 0 ? 0 : (int)abi;
}

static uint64_t
rights_of_abi(int abi)
{
	uint64_t rights = LL_READ | LL_WRITE | LL_NODES;
	if (abi < 3)
		rights &= ~LL_TRUNCATE;
	if (abi >= 5)
		rights |= LL_IOCTL_DEV;
	return rights;
}

/* ABI 1 cannot grant renames between directories, which git and compilers need: there Landlock is left out, and the
 * facts say so. */
static int
ruleset_new(int abi, bool has_net, int *out, struct err *e)
{
	struct ruleset_attr attr = { .fs = rights_of_abi(abi) };
	size_t size = sizeof(attr.fs);

	if (abi >= 4) {
		attr.net = has_net ? 0 : LL_NET;
		size = sizeof(attr.fs) + sizeof(attr.net);
	}
	if (abi >= 6) {
		attr.scoped = LL_SCOPE;
		size = sizeof(attr);
	}
	long fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "Landlock: cannot create a ruleset");
	*out = (int)fd;
	return 0;
}

static int
ruleset_add(int ruleset, int abi, const char *path, uint64_t rights, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, ERR_TO_USER, "Landlock: %s", path);
	struct stat st;
	if (fstat(fd, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "Landlock: %s", path);
	if (!S_ISDIR(st.st_mode))
		rights &= LL_FILE;
	struct landlock_path_beneath_attr rule = { .allowed_access = rights & rights_of_abi(abi), .parent_fd = fd };
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		return err_errno(e, errno, ERR_TO_USER, "Landlock: rule for %s", path);
	return 0;
}

/* Everything that is mounted in a cell may be read: what must not be read is not mounted. Writing is granted place by
 * place, so a mount that were writable by mistake still could not be written. */
int
landlock_full(int access, int *out, struct err *e)
{
	static const uint64_t rights[] = { [PLACE_WRITE] = LL_WRITE, [PLACE_WORKSPACE] = LL_WRITE,
		[PLACE_DEVICE] = LANDLOCK_ACCESS_FS_WRITE_FILE | LL_TRUNCATE | LL_IOCTL_DEV };
	int abi = landlock_abi(), fd, r;

	*out = -1;
	if (abi < 2)
		return 0;
	if (ruleset_new(abi, true, &fd, e) != 0)
		return e->code;
	r = ruleset_add(fd, abi, "/", LL_READ, e);
	for (const struct cell_place *x = cell_places; r == 0 && x->path != NULL; x++) {
		if (x->right != PLACE_READ && !(x->right == PLACE_WORKSPACE && access == CELL_READ_ONLY))
			r = ruleset_add(fd, abi, x->rule != NULL ? x->rule : x->path, rights[x->right], e);
	}
	if (r != 0) {
		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

/* On the host's own tree: the system for reading, the plan's directories for writing. */
int
landlock_basic(const struct order *cell, int *out, struct err *e)
{
	static const char *const readable[] = { "/usr", "/bin", "/lib", "/lib64", "/lib32", "/sbin", "/etc/ld.so.cache",
		"/etc/alternatives", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/localtime", "/etc/passwd",
		"/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/proc/cpuinfo",
		"/proc/meminfo", "/proc/stat", "/dev" };
	static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/tty" };
	int abi = landlock_abi(), fd, r = 0;

	if (abi < 2)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"cell-basic needs Landlock ABI 2 (Linux 5.19 with the landlock LSM), found %d", abi);
	if (ruleset_new(abi, false, &fd, e) != 0)
		return e->code;
	for (size_t i = 0; i < ARRAY_LEN(readable) && r == 0; i++)
		r = ruleset_add(fd, abi, readable[i], LL_READ, e);
	for (size_t i = 0; i < ARRAY_LEN(devices) && r == 0; i++)
		r = ruleset_add(fd, abi, devices[i], LL_FILE, e);
	for (size_t i = 0; i < BIND_COUNT && r == 0; i++) {
		bool is_readonly = bind_is_readonly((int)i, (int)cell->num[CELL_NUM_ACCESS]);
		if (cell->text[i].n > 0)
			r = ruleset_add(fd, abi, cell->text[i].p, LL_READ | (is_readonly ? 0 : LL_WRITE), e);
	}
	if (r != 0) {
		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

int
sandbox_confine_self(const char *const *writable, struct err *e)
{
	static const char *const readable[] = { "/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc", "/proc", "/sys", "/dev", "/run" };
	static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom" };
	int abi = landlock_abi(), fd, r;

	if (abi < 2)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "Landlock ABI 2 is needed (Linux 5.19 with the landlock LSM), found %d",
			abi);
	r = ruleset_new(abi, true, &fd, e);
	if (r != 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(readable) && r == 0; i++)
		r = ruleset_add(fd, abi, readable[i], LL_READ, e);
	for (size_t i = 0; i < ARRAY_LEN(devices) && r == 0; i++)
		r = ruleset_add(fd, abi, devices[i], LL_FILE, e);
	for (size_t i = 0; writable[i] != NULL && r == 0; i++)
		r = ruleset_add(fd, abi, writable[i], LL_READ | LL_WRITE, e);
	if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		r = err_errno(e, errno, ERR_TO_USER, "Landlock: cannot restrict this process");
	close(fd);
	return r;
}

static int
caps_set(uint64_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ .permitted = (uint32_t)keep, .effective = (uint32_t)keep },
		{ .permitted = (uint32_t)(keep >> 32), .effective = (uint32_t)(keep >> 32) },
	};
	return (int)syscall(SYS_capset, &h, d);
}

static bool
caps_can(uint64_t need)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	if (syscall(SYS_capget, &h, d) != 0)
		return false;
	uint64_t have = d[0].effective | (uint64_t)d[1].effective << 32;
	return (have & need) == need;
}

/* Nothing may be gained by exec any more: the bounding set is emptied and root means nothing. Needs CAP_SETPCAP; where
 * there is none (cell-basic), no_new_privs alone keeps exec from gaining. */
static int
caps_bound(struct err *e)
{
	if (!caps_can(1ull << CAP_SETPCAP) || prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == (SECURE_ALL_BITS | SECURE_ALL_LOCKS))
		return 0;
	for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot drop capability %d", cap);
	}
	if (prctl(PR_SET_SECUREBITS, SECURE_ALL_BITS | SECURE_ALL_LOCKS, 0, 0, 0) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot lock the secure bits");
	return 0;
}

int
caps_reduce(struct err *e)
{
	return caps_set(1ull << CAP_SYS_ADMIN) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot drop capabilities");
}

static int
caps_drop(struct err *e)
{
	if (caps_bound(e) != 0)
		return e->code;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || caps_set(0) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot drop capabilities");
	return 0;
}

struct filter {
	const struct sock_filter *code;
	size_t n;
};

static int
filter_load(const struct filter *f)
{
	struct sock_fprog prog = { .len = (unsigned short)f->n, .filter = (struct sock_filter *)(uintptr_t)f->code };
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

/* What the manual page says: a filter that cannot be read is a bad address where filters are known. */
int
seccomp_check(struct err *e)
{
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) != 0 && errno == EFAULT)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
		"seccomp filters are refused: %s (fix: a kernel with CONFIG_SECCOMP_FILTER; in a container allow the call seccomp)",
		strerror(errno));
}

static const struct filter walls = { filter_walls, ARRAY_LEN(filter_walls) };

static int
gain_nothing(struct err *e)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot set no_new_privs");
}

static int
filter_set(const struct filter *f, struct err *e)
{
	return filter_load(f) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "seccomp: cannot load the filter");
}

int
init_bound(struct err *e)
{
	return caps_bound(e) != 0 || gain_nothing(e) != 0 ? e->code : filter_set(&walls, e);
}

int
confine_self(enum cell_kind kind, bool is_file_op, int ruleset, struct err *e)
{
	static const struct filter full = { filter_full, ARRAY_LEN(filter_full) },
		basic = { filter_basic, ARRAY_LEN(filter_basic) }, file = { filter_file, ARRAY_LEN(filter_file) };

	if (kind == KIND_HOST)
		return 0;
	if (caps_drop(e) != 0 || gain_nothing(e) != 0)
		return e->code;
	if (ruleset >= 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		return err_errno(e, errno, ERR_TO_USER, "Landlock: cannot restrict");
	/* The walls first: loading the second filter is a system call that the first one must allow. In a full cell its init has them
	 * already, and they are inherited. */
	if (kind != KIND_FULL && filter_set(&walls, e) != 0)
		return e->code;
	return filter_set(is_file_op ? &file : kind == KIND_FULL ? &full : &basic, e);
}

/* By the bare system call, because the C library hides two signals of its own, which posix_spawn leaves ignored. */
void
signals_reset(void)
{
	const unsigned long dfl[4] = { 0 }; /* the kernel's struct: handler, flags, restorer, mask */
	sigset_t none;
	for (int s = 1; s <= SIGNAL_MAX; s++)
		syscall(SYS_rt_sigaction, s, dfl, NULL, sizeof(dfl[0]));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int
compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void
fds_keep(const int *keep, size_t n)
{
	int sorted[ORDER_FDS * 2 + 4];
	size_t count = 0;
	unsigned from = 3;

	for (size_t i = 0; i < n && count < ARRAY_LEN(sorted); i++) {
		if (keep[i] > 2)
			sorted[count++] = keep[i];
	}
	qsort(sorted, count, sizeof(sorted[0]), compare_fds);
	for (size_t i = 0; i < count; i++) {
		if ((unsigned)sorted[i] > from)
			close_range(from, (unsigned)sorted[i] - 1, 0);
		from = (unsigned)sorted[i] + 1;
	}
	close_range(from, ~0u, 0);
}
