/* SPDX-License-Identifier: MIT
 * Limits of a cell by cgroups (v2 where it is delegated to us, else v1 where it can be written), and the measure that
 * stands in for them where there are none. A cgroup only limits; cells are ended through their namespace. */
#ifndef SANDBOX_CGROUP_H
#define SANDBOX_CGROUP_H

#include "sandbox/internal.h"

#define CGROUP_PATH_MAX 512
#define CGROUP_DIRS     3 /* memory, pids, cpu; with v2 one directory holds them all */

enum cgroup_version { CGROUP_NONE, CGROUP_V1 = 1, CGROUP_V2 = 2 };
enum cgroup_controller { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_CONTROLLERS };

struct cgroups {
	enum cgroup_version version;
	char base[CGROUP_DIRS][CGROUP_PATH_MAX]; /* "": not there */
	unsigned next;
};
struct cgroup {
	char dir[CGROUP_DIRS][CGROUP_PATH_MAX]; /* "": not used */
	enum cgroup_version version;
	int64_t oom_seen;
};

/* Finds out what can be limited; proc_root and so on are "/proc/self" outside tests. */
void cgroups_open(struct cgroups *g, const char *proc_self);
/* Removes the groups of a shelld that is no more and whose cells have ended; opening does it as well. How many of a shelld
 * that is no more stay, because their cells are still ending. */
size_t cgroups_sweep(const struct cgroups *g);
/* What our own group, of whoever made it, may have; -1: as much as it likes. */
struct own_limits {
	enum cgroup_version version;
	int64_t memory_bytes, processes;
};
void cgroups_own(const char *proc_self, struct own_limits *out);
enum limit_level cgroups_level(const struct cgroups *g);
/* Makes the group of one cell; fds are its cgroup.procs files, for the cell init to write to. Before cgroup_limit it
 * limits nothing. */
int cgroup_new(struct cgroups *g, struct cgroup *out, int fds[CGROUP_DIRS], size_t *fd_n, struct err *e) MUST_USE;
int cgroup_limit(const struct cgroup *c, const struct cell_plan *p, struct err *e) MUST_USE;
bool cgroup_saw_oom(struct cgroup *c); /* a process of it was killed for memory since the last call */
bool cgroup_remove(struct cgroup *c); /* false: processes are still in it, try again */

/* A process and all its descendants. */
struct tree_use {
	int64_t resident_bytes, tasks; /* tasks: threads, as a cgroup counts them */
};
void tree_measure(pid_t root, struct tree_use *out);
#define TREE_MAX 8192 /* processes that are found at most */
size_t tree_list(pid_t root, pid_t list[TREE_MAX]); /* root and all its descendants; how many */
int64_t user_tasks(uid_t uid); /* threads of a user, those of this machine */

#endif
