/* SPDX-License-Identifier: MIT
 * cgroups: where ours are, whether they can be used, one group per cell. Everything is a small file, written and read
 * here only. Invariant: groups are made below the group that this process is in, never elsewhere, and with v2 only
 * where the subtree was delegated (or is the root of a container's view). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/cgroup.h"

#define CELL_PREFIX     "ithaca-cell-"
#define ROLES_GROUP     "ithaca-roles"
#define CGROUP_FILE_MAX (256u * KIB)
#define CPU_PERIOD_US   100000
#define NO_LIMIT        (INT64_MAX / 2)
#define EMPTY_TRIES     8

static const char *const controllers[CGROUP_CONTROLLERS] = {
	[CGROUP_MEMORY] = "memory", [CGROUP_PIDS] = "pids", [CGROUP_CPU] = "cpu",
};

static int
write_file(const char *dir, const char *name, const char *text)
{
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
}

static int
write_number(const char *dir, const char *name, int64_t n)
{
	char text[32];
	snprintf(text, sizeof(text), "%lld", (long long)n);
	return write_file(dir, name, text);
}

/* Files of /proc and of cgroups tell no size. */
static int
slurp(const char *dir, const char *name, struct buf *b)
{
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -1 : fd_read_all(fd, b);
}

static bool
has_word(struct str list, char sep, const char *word)
{
	struct str one;
	while (str_next(&list, sep, &one)) {
		if (str_is(str_trim(one), word))
			return true;
	}
	return false;
}

/* ---- where our groups are ---- */

/* A line of /proc/self/cgroup: "4:memory:/a/b" or "0::/a". Our path in the hierarchy of that controller, or of v2. */
static bool
own_path(struct str cgroup, const char *controller, struct str *out)
{
	struct str line, number, names;
	while (str_next(&cgroup, '\n', &line)) {
		if (!str_next(&line, ':', &number) || !str_next(&line, ':', &names))
			continue;
		if (controller == NULL ? names.n == 0 : has_word(names, ',', controller)) {
			*out = line;
			return true;
		}
	}
	return false;
}

/* A line of mountinfo: "id parent dev ROOT POINT options ... - TYPE source SUPER". */
struct mount_line {
	struct str root, point, type, super;
};

static bool
mount_parse(struct str line, struct mount_line *m)
{
	struct str f;
	for (int i = 0; i < 5; i++) {
		if (!str_next(&line, ' ', &f))
			return false;
		if (i == 3)
			m->root = f;
		if (i == 4)
			m->point = f;
	}
	ptrdiff_t at = str_find(line, STR(" - "));
	if (at < 0)
		return false;
	line = str_sub(line, (size_t)at + 3, line.n);
	struct str source;
	return str_next(&line, ' ', &m->type) && str_next(&line, ' ', &source) && str_next(&line, ' ', &m->super);
}

/* The directory of our own group: mount point plus our path less the root of the mount. */
static bool
find_base(struct str mounts, struct str cgroup, const char *controller, char out[CGROUP_PATH_MAX])
{
	struct str line, path;
	struct mount_line m;

	if (!own_path(cgroup, controller, &path))
		return false;
	while (str_next(&mounts, '\n', &line)) {
		if (!mount_parse(line, &m) || !str_is(m.type, controller == NULL ? "cgroup2" : "cgroup"))
			continue;
		if (controller != NULL && !has_word(m.super, ',', controller))
			continue;
		if (m.root.n > 1 && path.n >= m.root.n && memcmp(path.p, m.root.p, m.root.n) == 0)
			path = str_sub(path, m.root.n, path.n);
		int n = snprintf(out, CGROUP_PATH_MAX, "%.*s%.*s", STR_FMT(m.point), STR_FMT(path));
		while (n > 1 && n < CGROUP_PATH_MAX && out[n - 1] == '/')
			out[--n] = '\0';
		struct stat st;
		return n > 0 && n < CGROUP_PATH_MAX && stat(out, &st) == 0;
	}
	return false;
}

/* One that has ended and was not waited for yet is no more, too. */
static bool
is_alive(pid_t pid)
{
	AUTO_CLOSE int fd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd >= 0 ? poll(&p, 1, 0) == 0 : errno != ESRCH && errno != EINVAL;
}

/* A process id means something in its own namespace only, and two may share a hierarchy: names of groups have both. */
static unsigned long
pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? (unsigned long)st.st_ino : 0;
}

/* Groups of a shelld of this namespace that is no more. How many stay. */
static size_t
remove_stale(const char *base)
{
	unsigned long here = pid_namespace();
	char *end;
	char path[CGROUP_PATH_MAX + 256];
	size_t left = 0;
	DIR *d = opendir(base);
	if (d == NULL)
		return 0;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		if (strncmp(x->d_name, CELL_PREFIX, strlen(CELL_PREFIX)) != 0)
			continue;
		if (strtoul(x->d_name + strlen(CELL_PREFIX), &end, 10) != here || *end != '-')
			continue;
		long pid = strtol(end + 1, NULL, 10);
		if (pid > 0 && !is_alive((pid_t)pid)) {
			snprintf(path, sizeof(path), "%s/%s", base, x->d_name);
			left += rmdir(path) != 0 && errno != ENOENT;
		}
	}
	closedir(d);
	return left;
}

/* ---- may they be used ---- */

static bool
is_delegated(const char *base, struct str own)
{
	char v[8];
	if (str_is(own, "/")) /* the root of a container's view: everything in it is ours */
		return true;
	return (getxattr(base, "user.delegate", v, sizeof(v)) > 0 && v[0] == '1') ||
		(getxattr(base, "trusted.delegate", v, sizeof(v)) > 0 && v[0] == '1');
}

/* A shelld that was started again is where the first one moved all of us. */
static void
leave_roles(char *base, struct str *own)
{
	size_t n = strlen(base);

	if (!str_ends(*own, "/" ROLES_GROUP) || n <= strlen("/" ROLES_GROUP))
		return;
	base[n - strlen("/" ROLES_GROUP)] = '\0';
	own->n -= strlen("/" ROLES_GROUP);
	if (own->n == 0)
		*own = STR("/");
}

/* v2 gives controllers to children only when the group itself holds no process: all of them, which are our roles, move
 * into one child. */
static int
empty_base(const char *base)
{
	char roles[CGROUP_PATH_MAX + 32], pid[32];
	struct buf b;

	snprintf(roles, sizeof(roles), "%s/" ROLES_GROUP, base);
	if (mkdir(roles, 0755) != 0 && errno != EEXIST)
		return -1;
	buf_init(&b, CGROUP_FILE_MAX);
	int r = slurp(base, "cgroup.procs", &b);
	struct str rest = buf_str(&b), one;
	while (r == 0 && str_next(&rest, '\n', &one)) {
		if (one.n == 0 || one.n >= sizeof(pid))
			continue;
		snprintf(pid, sizeof(pid), "%.*s", STR_FMT(one));
		if (write_file(roles, "cgroup.procs", pid) != 0 && errno != ESRCH)
			r = -1;
	}
	buf_fini(&b);
	return r;
}

/* The root of the whole machine may have both, children with controllers and processes, and would not let go of the kernel's:
 * only a group that refuses is emptied. A process may fork meanwhile, into the group. */
static int
enable(const char *base)
{
	static const char controls[] = "+memory +pids";
	int r = write_file(base, "cgroup.subtree_control", controls);

	for (int i = 0; i < EMPTY_TRIES && r != 0 && errno == EBUSY; i++)
		r = empty_base(base) != 0 ? -1 : write_file(base, "cgroup.subtree_control", controls);
	return r;
}

static bool
open_v2(struct cgroups *g, struct str mounts, struct str cgroup)
{
	char base[CGROUP_PATH_MAX];
	struct str own;
	struct buf b;

	if (!own_path(cgroup, NULL, &own) || !find_base(mounts, cgroup, NULL, base))
		return false;
	leave_roles(base, &own);
	buf_init(&b, CGROUP_FILE_MAX);
	bool is_usable = slurp(base, "cgroup.controllers", &b) == 0 && has_word(buf_str(&b), ' ', "memory") &&
		has_word(buf_str(&b), ' ', "pids");
	bool has_cpu = has_word(buf_str(&b), ' ', "cpu");
	buf_reset(&b);
	if (is_usable && (slurp(base, "cgroup.subtree_control", &b) != 0 || !has_word(buf_str(&b), ' ', "memory") ||
				 !has_word(buf_str(&b), ' ', "pids")))
		is_usable = is_delegated(base, own) && enable(base) == 0;
	if (is_usable && has_cpu)
		(void)write_file(base, "cgroup.subtree_control", "+cpu");
	buf_fini(&b);
	if (!is_usable || access(base, W_OK) != 0)
		return false;
	memcpy(g->base[0], base, sizeof(base));
	g->version = CGROUP_V2;
	return true;
}

static bool
open_v1(struct cgroups *g, struct str mounts, struct str cgroup)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (!find_base(mounts, cgroup, controllers[i], g->base[i]) || access(g->base[i], W_OK) != 0)
			g->base[i][0] = '\0';
	}
	if (g->base[CGROUP_MEMORY][0] == '\0' && g->base[CGROUP_PIDS][0] == '\0')
		return false;
	g->version = CGROUP_V1;
	return true;
}

void
cgroups_open(struct cgroups *g, const char *proc_self)
{
	struct buf mounts, cgroup;

	memset(g, 0, sizeof(*g));
	buf_init(&mounts, CGROUP_FILE_MAX);
	buf_init(&cgroup, CGROUP_FILE_MAX);
	if (slurp(proc_self, "mountinfo", &mounts) == 0 && slurp(proc_self, "cgroup", &cgroup) == 0 &&
		!open_v2(g, buf_str(&mounts), buf_str(&cgroup)) && !open_v1(g, buf_str(&mounts), buf_str(&cgroup)))
		memset(g, 0, sizeof(*g));
	(void)cgroups_sweep(g);
	buf_fini(&mounts);
	buf_fini(&cgroup);
}

/* "max" of v2, and the number near 2^63 of v1, are no limit. */
static int64_t
read_limit(const char *dir, const char *name)
{
	int64_t n = -1;
	struct buf b;

	buf_init(&b, CGROUP_FILE_MAX);
	if (slurp(dir, name, &b) != 0 || str_i64(str_trim(buf_str(&b)), &n) != 0 || n >= NO_LIMIT)
		n = -1;
	buf_fini(&b);
	return n;
}

void
cgroups_own(const char *proc_self, struct own_limits *out)
{
	char dir[CGROUP_PATH_MAX];
	struct buf mounts, cgroup;

	*out = (struct own_limits){ .memory_bytes = -1, .processes = -1 };
	buf_init(&mounts, CGROUP_FILE_MAX);
	buf_init(&cgroup, CGROUP_FILE_MAX);
	if (slurp(proc_self, "mountinfo", &mounts) == 0 && slurp(proc_self, "cgroup", &cgroup) == 0) {
		struct str m = buf_str(&mounts), c = buf_str(&cgroup);
		if (find_base(m, c, controllers[CGROUP_MEMORY], dir))
			*out = (struct own_limits){ CGROUP_V1, read_limit(dir, "memory.limit_in_bytes"), -1 };
		if (find_base(m, c, controllers[CGROUP_PIDS], dir)) {
			out->version = CGROUP_V1;
			out->processes = read_limit(dir, "pids.max");
		}
		if (out->version == CGROUP_NONE && find_base(m, c, NULL, dir))
			*out = (struct own_limits){ CGROUP_V2, read_limit(dir, "memory.max"), read_limit(dir, "pids.max") };
	}
	buf_fini(&mounts);
	buf_fini(&cgroup);
}

size_t
cgroups_sweep(const struct cgroups *g)
{
	size_t left = 0;

	for (int i = 0; i < CGROUP_DIRS; i++) {
		if (g->base[i][0] != '\0')
			left += remove_stale(g->base[i]);
	}
	return left;
}

enum limit_level
cgroups_level(const struct cgroups *g)
{
	bool is_whole = g->version == CGROUP_V2 ||
		(g->version == CGROUP_V1 && g->base[CGROUP_MEMORY][0] != '\0' && g->base[CGROUP_PIDS][0] != '\0');
	return is_whole ? LIMITS_CGROUP : LIMITS_SOFT;
}

/* ---- one cell ---- */

static int
set_limits(const struct cgroup *c, const struct cell_plan *p)
{
	int64_t quota = p->cpu_percent * (CPU_PERIOD_US / 100);
	char text[64];

	if (c->version == CGROUP_V2) {
		snprintf(text, sizeof(text), "%lld %d", (long long)quota, CPU_PERIOD_US);
		(void)write_file(c->dir[0], "cpu.max", text);
		(void)write_file(c->dir[0], "memory.swap.max", "0");
		return write_number(c->dir[0], "memory.max", p->memory_bytes) |
			write_number(c->dir[0], "pids.max", p->processes);
	}
	int r = 0;
	if (c->dir[CGROUP_MEMORY][0] != '\0') {
		r |= write_number(c->dir[CGROUP_MEMORY], "memory.limit_in_bytes", p->memory_bytes);
		(void)write_number(c->dir[CGROUP_MEMORY], "memory.memsw.limit_in_bytes", p->memory_bytes);
	}
	if (c->dir[CGROUP_PIDS][0] != '\0')
		r |= write_number(c->dir[CGROUP_PIDS], "pids.max", p->processes);
	if (c->dir[CGROUP_CPU][0] != '\0') {
		(void)write_number(c->dir[CGROUP_CPU], "cpu.cfs_period_us", CPU_PERIOD_US);
		(void)write_number(c->dir[CGROUP_CPU], "cpu.cfs_quota_us", quota);
	}
	return r;
}

int
cgroup_limit(const struct cgroup *c, const struct cell_plan *p, struct err *e)
{
	return set_limits(c, p) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot limit the cell by a cgroup");
}

int
cgroup_new(struct cgroups *g, struct cgroup *out, int fds[CGROUP_DIRS], size_t *fd_n, struct err *e)
{
	struct cgroup c = { .version = g->version };
	char procs[CGROUP_PATH_MAX + 32];
	unsigned number = g->next++;

	*fd_n = 0;
	for (int i = 0; i < CGROUP_DIRS; i++) {
		if (g->base[i][0] == '\0')
			continue;
		int n = snprintf(c.dir[i], sizeof(c.dir[i]), "%s/" CELL_PREFIX "%lu-%d-%u", g->base[i], pid_namespace(),
			(int)getpid(), number);
		if (n < 0 || (size_t)n >= sizeof(c.dir[i]) || mkdir(c.dir[i], 0755) != 0) {
			c.dir[i][0] = '\0';
			goto fail;
		}
		snprintf(procs, sizeof(procs), "%s/cgroup.procs", c.dir[i]);
		int fd = open(procs, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			goto fail;
		fds[(*fd_n)++] = fd;
	}
	*out = c;
	return 0;
fail:
	err_errno(e, errno, ERR_TO_USER, "cannot make a cgroup for the cell");
	for (size_t i = 0; i < *fd_n; i++)
		close(fds[i]);
	*fd_n = 0;
	cgroup_remove(&c);
	return e->code;
}

bool
cgroup_saw_oom(struct cgroup *c)
{
	bool is_v2 = c->version == CGROUP_V2;
	struct str rest, line;
	struct buf b;
	int64_t kills = 0;

	if (c->dir[CGROUP_MEMORY][0] == '\0')
		return false;
	buf_init(&b, CGROUP_FILE_MAX);
	(void)slurp(c->dir[CGROUP_MEMORY], is_v2 ? "memory.events" : "memory.oom_control", &b);
	rest = buf_str(&b);
	while (str_next(&rest, '\n', &line)) {
		if (str_starts(line, "oom_kill "))
			(void)!str_i64(str_sub(line, strlen("oom_kill "), line.n), &kills);
	}
	buf_fini(&b);
	bool is_new = kills > c->oom_seen;
	c->oom_seen = kills;
	return is_new;
}

bool
cgroup_remove(struct cgroup *c)
{
	bool is_gone = true;
	for (int i = 0; i < CGROUP_DIRS; i++) {
		if (c->dir[i][0] == '\0')
			continue;
		if (rmdir(c->dir[i]) == 0 || errno == ENOENT)
			c->dir[i][0] = '\0';
		else
			is_gone = false;
	}
	return is_gone;
}

/* ---- without cgroups ---- */

static int64_t
resident_bytes(pid_t pid)
{
	char path[64], text[128];
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *p = strchr(text, ' ');
	return p == NULL ? 0 : strtoll(p, NULL, 10) * sysconf(_SC_PAGESIZE);
}

/* Appends the children of each thread of pid to list. How many threads there are. */
static int64_t
add_children(pid_t pid, pid_t *list, size_t *n)
{
	int64_t threads = 0;
	char tasks[64], dir[64 + 256];
	struct buf b;
	int64_t child;

	snprintf(tasks, sizeof(tasks), "/proc/%d/task", (int)pid);
	DIR *d = opendir(tasks);
	if (d == NULL)
		return 0;
	buf_init(&b, CGROUP_FILE_MAX);
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		if (x->d_name[0] == '.')
			continue;
		threads++;
		buf_reset(&b);
		snprintf(dir, sizeof(dir), "%s/%s", tasks, x->d_name);
		(void)slurp(dir, "children", &b);
		struct str rest = buf_str(&b), one;
		while (str_next(&rest, ' ', &one) && *n < TREE_MAX) {
			if (str_i64(one, &child) == 0)
				list[(*n)++] = (pid_t)child;
		}
	}
	buf_fini(&b);
	closedir(d);
	return threads;
}

void
tree_measure(pid_t root, struct tree_use *out)
{
	AUTO_FREE pid_t *list = xcalloc(TREE_MAX, sizeof(*list));
	size_t n = 0;

	*out = (struct tree_use){ 0 };
	list[n++] = root;
	for (size_t i = 0; i < n; i++) {
		out->resident_bytes += resident_bytes(list[i]);
		out->tasks += add_children(list[i], list, &n);
	}
}

size_t
tree_list(pid_t root, pid_t list[TREE_MAX])
{
	size_t n = 0;

	list[n++] = root;
	for (size_t i = 0; i < n; i++)
		(void)add_children(list[i], list, &n);
	return n;
}

int64_t
user_tasks(uid_t uid)
{
	char path[300];
	struct stat st;
	int64_t n = 0;
	DIR *d = opendir("/proc");

	if (d == NULL)
		return 0;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		if (x->d_name[0] < '1' || x->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task", x->d_name);
		if (stat(path, &st) == 0 && st.st_uid == uid)
			n += (int64_t)st.st_nlink - 2; /* one directory per thread */
	}
	closedir(d);
	return n;
}
