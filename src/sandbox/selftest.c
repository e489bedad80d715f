/* SPDX-License-Identifier: MIT
 * The self-test of shelld: whether a whole cell can be made here, found out with one that has no workspace, and kept for this
 * boot, program and namespace. Invariant: what was kept is not believed after a cell was refused. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

#define PROBE_FILE      "selftest"
#define PROBE_STAMP_MAX 256
#define PROBE_BYTES     (1 * MIB)

/* What switches user namespaces off; where one is not there, it is no part of the answer. */
static const char *const switches[] = { "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone",
	"/proc/sys/kernel/apparmor_restrict_unprivileged_userns" };

/* What the result depends on: this boot, this program, the user namespace that it is in, and the switches. */
static void
probe_stamp(const struct shelld *d, char out[PROBE_STAMP_MAX])
{
	struct stat st = { 0 }, ns = { 0 };
	size_t n;

	(void)stat("/proc/self/exe", &st);
	(void)stat("/proc/self/ns/user", &ns);
	n = (size_t)snprintf(out, PROBE_STAMP_MAX, "%s %lld.%09ld %lld %llu", d->spool.boot, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec, (long long)st.st_size, (unsigned long long)ns.st_ino);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
		char value[16] = "-";
		AUTO_CLOSE int fd = open(switches[i], O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? 0 : read(fd, value, sizeof(value) - 1);
		value[got > 0 ? got : 1] = '\0';
		n += (size_t)snprintf(out + n, PROBE_STAMP_MAX - n, " %.*s", (int)strcspn(value, "\n"), value);
	}
	snprintf(out + n, PROBE_STAMP_MAX - n, " full\n");
}

/* clone3 worked and a mount was refused: some distributions confine user namespaces that way, and containers do. */
static const char *
mount_fix(void)
{
	char on = '0';
	AUTO_CLOSE int fd = open("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, &on, 1) == 1 && on == '1')
		return "fix: install the AppArmor profile of the package, or sysctl -w "
		       "kernel.apparmor_restrict_unprivileged_userns=0";
	return "fix: in a container, allow mount in its seccomp and AppArmor profiles and unmask /proc";
}

void
probe_done(struct cell *c)
{
	struct shelld *d = c->d;
	struct sandbox_facts *f = &d->facts;
	enum cell_level before = f->level;

	f->level = c->was_ready ? CELL_FULL : d->ceiling.allow_basic && f->landlock_abi >= 2 ? CELL_BASIC : CELL_NONE;
	if (c->was_ready) {
		char stamp[PROBE_STAMP_MAX];
		AUTO_FREE char *path = xasprintf("%s/" PROBE_FILE, d->ceiling.run_dir);
		probe_stamp(d, stamp);
		AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			(void)fd_write_all(fd, stamp, strlen(stamp));
	} else {
		if (c->why.code == ERR_DENIED)
			snprintf(f->reason, sizeof(f->reason), "%.80s (%.115s)", c->why.msg, mount_fix());
		else
			snprintf(f->reason, sizeof(f->reason), "%.*s", (int)sizeof(f->reason) - 1, c->why.msg);
	}
	if (!d->has_facts || f->level != before)
		shelld_facts(d);
}

void
probe_again(struct shelld *d)
{
	AUTO_FREE char *path = xasprintf("%s/" PROBE_FILE, d->ceiling.run_dir);

	for (const struct cell *c = d->cells; c != NULL; c = c->next)
		if (c->is_probe)
			return;
	if (d->is_stopping || d->facts.level != CELL_FULL)
		return;
	unlink(path);
	cells_probe(d);
}

/* No cell of any kind. */
static void
probe_refused(struct shelld *d, const struct err *e)
{
	d->facts.level = CELL_NONE;
	snprintf(d->facts.reason, sizeof(d->facts.reason), "%.*s", (int)sizeof(d->facts.reason) - 1, e->msg);
	shelld_facts(d);
}

void
cells_probe(struct shelld *d)
{
	char stamp[PROBE_STAMP_MAX], got[PROBE_STAMP_MAX] = { 0 };
	AUTO_FREE char *path = xasprintf("%s/" PROBE_FILE, d->ceiling.run_dir);
	struct err e = { 0 };

	d->facts.landlock_abi = landlock_abi();
	d->facts.limits = cgroups_level(&d->cgroups);
	d->facts.cgroup_version = d->facts.limits == LIMITS_CGROUP ? (int)d->cgroups.version : 0;
	if (seccomp_check(&e) != 0) { /* neither commands nor file operations are confined without */
		d->facts.files_only = d->ceiling.files_only;
		probe_refused(d, &e);
		return;
	}
	if (d->ceiling.files_only) { /* asked for: nothing is to be found out */
		d->facts.files_only = true;
		d->facts.level = d->facts.landlock_abi >= 2 ? CELL_BASIC : CELL_NONE;
		snprintf(d->facts.reason, sizeof d->facts.reason, "%s", d->facts.level == CELL_BASIC ? "tier process" :
			"tier process needs Landlock ABI 2 (Linux 5.19) for file tools");
		shelld_facts(d);
		return;
	}
	probe_stamp(d, stamp);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && read(fd, got, sizeof(got) - 1) > 0 && strcmp(got, stamp) == 0) {
		d->facts.level = CELL_FULL;
		shelld_facts(d);
		return;
	}
	struct cell *c = cell_new(d, STR("self-test"));
	c->is_probe = true;
	c->kind = KIND_FULL;
	c->plan = (struct cell_plan){ .access = CELL_READ_ONLY, .tmp_bytes = PROBE_BYTES, .file_bytes = PROBE_BYTES };
	if (cell_start(c, &e) != 0) {
		arena_free(c->arena);
		free(c);
		probe_refused(d, &e);
		return;
	}
	cell_link(c);
}
