/* SPDX-License-Identifier: MIT
 * The profile of system calls that a container gets from us instead of the engine's own. */
#include "sandbox/tier.h"

#include <string.h>
#include "base/json.h"

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
#define KEEP(n, a, v, why)
#define KEEP_UNLESS_NULL(n, a, v, p, why)
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
	json_kv_arr(&j, "syscalls");
	json_obj(&j);
	json_kv_arr(&j, "names");
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
