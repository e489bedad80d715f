/* SPDX-License-Identifier: MIT
 * The profile of system calls that a container gets from us instead of the engine's own. */
#include "sandbox/tier.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "base/json.h"

/* Beyond those of a cell: what makes cells and watches over them. Conditions on arguments are not repeated here: the filter
 * of each command has them, and this one is for what makes the filters. */
static const char *const makers[] = { "bind", "capget", "capset", "chroot", "clone", "clone3", "fsconfig",
	"fsmount", "fsopen", "fspick", "ioctl", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "listen",
	"mount", "mount_setattr", "move_mount", "open_tree", "openat2", "pidfd_getfd", "pidfd_open", "pidfd_send_signal",
	"pivot_root", "prctl", "seccomp", "sethostname", "setns", "socket", "socketpair", "umount2", "unshare" };

/* Of the runtime beside those of cells: the door through which its links come. */
static const char *const runtime_only[] = { "bind", "listen" };

/* The rows of cells; with_mask: only where (argument & mask) == value. */
static const struct row {
	const char *name;
	bool of_runtime, with_mask;
	int arg;
	int64_t mask, value;
} of_cells[] = {
#define ALLOW(n, why)                     { #n, .of_runtime = true },
#define ALLOW_IF(n, a, m, v, why)         { #n, .of_runtime = true, .with_mask = true, .arg = a, .mask = m, .value = v },
#define FILE_ONLY(n, why)                 { #n },
#define SOCKET(n, a, m, v, why)           { #n, .of_runtime = (v) == AF_UNIX, .with_mask = true, .arg = a, .mask = m, .value = v },
#define SOCKET2(n, a, v, a2, v2, why)     { #n },
#define DENY_IF(n, a, m, v, e, why)
#define KEEP(n, a, v, why)
#define KEEP_UNLESS_NULL(n, a, v, p, why)
#define NO_SETID(n, a, why)
#define NO_SETID_IF(n, a, a2, flag, why)
#include "sandbox/syscalls.def"
};

/* Whether the rows before i, or all of them, say the same name. */
static bool
is_before(size_t i, const char *name)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(of_cells[k].name, name) == 0)
			return true;
	}
	return false;
}

static void
write_names(struct json *j, const char *const *names, size_t n)
{
	json_kv_arr(j, "names");
	for (size_t i = 0; i < n; i++)
		json_z(j, names[i]);
	json_arr_end(j);
}

/* Its flags are behind a pointer, so no filter can let it make threads alone. The C library goes without it when it is not
 * implemented, and docker takes EPERM for the default. */
static void
write_clone3(struct json *j)
{
	static const char *const name[] = { "clone3" };

	json_obj(j);
	write_names(j, name, 1);
	json_kv_z(j, "action", "SCMP_ACT_ERRNO");
	json_kv_int(j, "errnoRet", ENOSYS);
	json_obj_end(j);
}

static void
write_masked(struct json *j, const struct row *r)
{
	json_obj(j);
	write_names(j, &r->name, 1);
	json_kv_z(j, "action", "SCMP_ACT_ALLOW");
	json_kv_arr(j, "args");
	json_obj(j);
	json_kv_int(j, "index", r->arg);
	json_kv_int(j, "value", r->mask);
	json_kv_int(j, "valueTwo", r->value);
	json_kv_z(j, "op", "SCMP_CMP_MASKED_EQ");
	json_obj_end(j);
	json_arr_end(j);
	json_obj_end(j);
}

/* A sidecar makes the filters of its commands, which have the conditions; in front of the runtime there is only this one. */
void
tier_seccomp(bool is_runtime, struct buf *b)
{
	const char *names[ARRAY_LEN(of_cells) + ARRAY_LEN(makers)];
	const char *const *more = is_runtime ? runtime_only : makers;
	size_t more_n = is_runtime ? ARRAY_LEN(runtime_only) : ARRAY_LEN(makers), n = 0;
	struct json j;

	for (size_t i = 0; i < ARRAY_LEN(of_cells); i++) {
		const struct row *r = &of_cells[i];
		if (is_runtime ? r->of_runtime && !r->with_mask : !is_before(i, r->name))
			names[n++] = r->name;
	}
	for (size_t i = 0; i < more_n; i++) {
		if (is_runtime || !is_before(ARRAY_LEN(of_cells), more[i]))
			names[n++] = more[i];
	}
	json_init(&j, b);
	json_obj(&j);
	json_kv_z(&j, "defaultAction", "SCMP_ACT_ERRNO");
	json_kv_int(&j, "defaultErrnoRet", ENOSYS); /* as in cells */
	json_kv_arr(&j, "syscalls");
	json_obj(&j);
	write_names(&j, names, n);
	json_kv_z(&j, "action", "SCMP_ACT_ALLOW");
	json_obj_end(&j);
	if (is_runtime)
		write_clone3(&j);
	for (size_t i = 0; is_runtime && i < ARRAY_LEN(of_cells); i++) {
		if (of_cells[i].of_runtime && of_cells[i].with_mask)
			write_masked(&j, &of_cells[i]);
	}
	json_arr_end(&j);
	json_obj_end(&j);
}
