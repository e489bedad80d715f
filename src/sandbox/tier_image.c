/* SPDX-License-Identifier: MIT
 * What a container gets from us instead of from a registry: a root directory without a single program in it, and a profile of
 * system calls. */
#include "sandbox/tier.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json.h"

/* ---- the root (ustar, POSIX.1-1988) ---- */

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2], user[32],
		group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == 512, "a tar header is one block");

static void
entry(struct buf *b, const char *name, char type, int mode, const char *link)
{
	struct ustar h = { .type = type, .magic = "ustar", .version = { '0', '0' }, .sum = { ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ' } };
	unsigned sum = 0;

	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.link, sizeof(h.link), "%s", link);
	snprintf(h.mode, sizeof(h.mode), "%07o", (unsigned)mode);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	snprintf(h.size, sizeof(h.size), "%011o", 0u);
	snprintf(h.mtime, sizeof(h.mtime), "%011o", 0u);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	h.sum[7] = ' ';
	buf_add(b, &h, sizeof(h));
}

/* Beside /usr a host has links into it or directories of their own; those are mounted. */
static void
add_top(struct buf *b)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[16], target[80];
		struct stat st;
		ssize_t n;

		snprintf(path, sizeof(path), "/%s", names[i]);
		if (lstat(path, &st) != 0)
			continue;
		n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof(target) - 1) : -1;
		if (n > 0) {
			target[n] = '\0';
			entry(b, names[i], '2', 0777, target);
		} else {
			entry(b, names[i], '5', 0755, "");
		}
	}
}

void
tier_image_tar(struct buf *b)
{
	static const struct {
		const char *name;
		int mode;
	} dirs[] = { { "usr/", 0755 }, { "etc/", 0755 }, { "proc/", 0755 }, { "sys/", 0755 }, { "dev/", 0755 }, { "run/", 0755 },
		{ "tmp/", 01777 }, { "var/", 0755 }, { "home/", 0755 }, { "root/", 0700 } };
	static const char end[1024];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		entry(b, dirs[i].name, '5', dirs[i].mode, "");
	add_top(b);
	buf_add(b, end, sizeof(end));
}

/* ---- system calls ---- */

/* Beyond those of a cell: what makes cells and watches over them. Conditions on arguments are not repeated here: the filter
 * of each command has them, and this one is for what makes the filters. */
static const char *const makers[] = { "bind", "capget", "capset", "chroot", "clone", "clone3", "fsconfig",
	"fsmount", "fsopen", "fspick", "ioctl", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "listen",
	"mount", "mount_setattr", "move_mount", "open_tree", "openat2", "pidfd_getfd", "pidfd_open", "pidfd_send_signal",
	"pivot_root", "prctl", "seccomp", "sethostname", "setns", "socket", "socketpair", "umount2", "unshare" };

#define ALLOW(n, why)                     #n,
#define ALLOW_IF(n, a, m, v, why)         #n,
#define FILE_ONLY(n, why)                 #n,
#define SOCKET(n, a, m, v, why)           #n,
#define SOCKET2(n, a, v, a2, v2, why)     #n,
#define DENY_IF(n, a, m, v, e, why)
#define NO_SETID(n, a, why)
#define NO_SETID_IF(n, a, a2, flag, why)
static const char *const of_cells[] = {
#include "sandbox/syscalls.def"
};

static bool
is_before(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

void
tier_seccomp(struct buf *b)
{
	struct json j;

	json_init(&j, b);
	json_obj(&j);
	json_kv_z(&j, "defaultAction", "SCMP_ACT_ERRNO");
	json_kv_int(&j, "defaultErrnoRet", 38); /* ENOSYS, as in cells */
	json_key(&j, "syscalls");
	json_arr(&j);
	json_obj(&j);
	json_key(&j, "names");
	json_arr(&j);
	for (size_t i = 0; i < ARRAY_LEN(of_cells); i++) {
		if (!is_before(of_cells, i, of_cells[i]))
			json_z(&j, of_cells[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
		if (!is_before(of_cells, ARRAY_LEN(of_cells), makers[i]))
			json_z(&j, makers[i]);
	}
	json_arr_end(&j);
	json_kv_z(&j, "action", "SCMP_ACT_ALLOW");
	json_obj_end(&j);
	json_arr_end(&j);
	json_obj_end(&j);
}
