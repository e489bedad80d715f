/* SPDX-License-Identifier: MIT
 * The spare: it becomes the next cell, unless that has another owner or the host has changed since; it has nothing of
 * the host while it waits, and ends with the zygote. */
#include "rig.h"

#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/pidfd.h>

#define TRIES_MAX 20 /* a cell that is asked for a moment too early takes none */
#define NOBODY    65534

static pid_t
find(const struct rig *r, const char *comm, pid_t (*owner)(pid_t))
{
	DIR *d = opendir("/proc");
	pid_t found = 0;

	assert_non_null(d);
	for (const struct dirent *x = readdir(d); x != NULL && found == 0; x = readdir(d)) {
		char name[32];
		pid_t pid = (pid_t)strtol(x->d_name, NULL, 10);
		if (pid > 0 && rig_read_proc(pid, "comm", name, sizeof(name)) && strcmp(name, comm) == 0 && owner(pid) == child_pid(r->guest))
			found = pid;
	}
	closedir(d);
	return found;
}

static pid_t
zygotes_parent(pid_t pid)
{
	return rig_parent_of(rig_parent_of(pid));
}

/* The spare of this guest, once it is in its cgroup, where there are any. */
static pid_t
wait_spare(struct rig *r)
{
	bool has_groups = sandbox_facts(r->sb)->limits == LIMITS_CGROUP;
	char groups[2048];

	for (int64_t end = clock_mono_ms() + RIG_GUARD_MS; clock_mono_ms() < end; sched_yield()) {
		pid_t found = find(r, "ithaca-spare\n", zygotes_parent);
		if (found != 0 && (!has_groups || (rig_read_proc(found, "cgroup", groups, sizeof(groups)) && strstr(groups, "ithaca-cell-") != NULL)))
			return found;
	}
	fail_msg("no spare came");
	return 0;
}

static void
make_cell(struct rig *r)
{
	struct id id = id_new(), cell = id_new();
	struct exec_request q = rig_request(r, id.z, "cat /proc/self/cgroup");
	struct outcome o;

	q.cell = cell.z;
	rig_run(r, &q, &o);
	if (o.e.code != 0)
		fail_msg("%s", o.e.msg);
	if (sandbox_facts(r->sb)->limits == LIMITS_CGROUP)
		assert_non_null(strstr(buf_z(&o.out), "ithaca-cell-"));
	outcome_fini(&o);
}

/* Only root has other owners, and mounts of his own for this test. */
static void
needs_root(void)
{
	if (geteuid() != 0) {
		print_message("SKIP: only root can arrange that\n");
		skip();
	}
}

/* A handle of the spare that there is now. */
static int
open_spare(struct rig *r)
{
	int pidfd = pidfd_open(wait_spare(r), 0);

	assert_true(pidfd >= 0);
	return pidfd;
}

static void
expect_end(int pidfd)
{
	assert_int_equal(poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, RIG_GUARD_MS), 1);
	close(pidfd);
}

/* New cells until the spare has become one. */
static void
expect_taken(struct rig *r)
{
	char comm[32];

	for (int i = 0; i < TRIES_MAX; i++) {
		pid_t pid = wait_spare(r);
		make_cell(r);
		if (rig_read_proc(pid, "comm", comm, sizeof(comm)) && strcmp(comm, "ithaca-cell\n") == 0)
			return;
	}
	fail_msg("no cell took the spare");
}

/* The next cell is made from nothing, and the spare that there was is gone. */
static void
expect_dropped(struct rig *r, int pidfd)
{
	make_cell(r);
	expect_end(pidfd);
}

/* A spare becomes a cell; without one a cell is made from nothing; either way the next has a spare. */
static void
test_taken(void **state)
{
	struct rig *r = *state;

	expect_taken(r);
	int pidfd = open_spare(r);
	assert_int_equal(pidfd_send_signal(pidfd, SIGKILL, NULL, 0), 0);
	expect_end(pidfd);
	make_cell(r);
	expect_taken(r);
}

/* What is mounted over the system after the spare was made would not be in a cell that takes it. */
static void
test_host_changed(void **state)
{
	struct rig *r = *state;

	needs_root();
	expect_taken(r);
	int pidfd = open_spare(r);
	assert_int_equal(mount("tmpfs", "/usr/local", "tmpfs", 0, "size=4k"), 0); /* in the namespace of this test */
	expect_dropped(r, pidfd);
	expect_taken(r);
	assert_int_equal(umount2("/usr/local", MNT_DETACH), 0);
}

/* Others mount something all the time: containers, removable disks. */
static void
test_other_mounts(void **state)
{
	struct rig *r = *state;
	char place[RIG_PATH + 8], comm[32];
	bool is_taken = false;

	needs_root();
	snprintf(place, sizeof(place), "%s/mount", r->dir);
	assert_int_equal(mkdir(place, 0700), 0);
	for (int i = 0; i < TRIES_MAX && !is_taken; i++) {
		pid_t pid = wait_spare(r);
		assert_int_equal(mount("tmpfs", place, "tmpfs", 0, "size=4k"), 0);
		make_cell(r);
		assert_int_equal(umount2(place, MNT_DETACH), 0);
		is_taken = rig_read_proc(pid, "comm", comm, sizeof(comm)) && strcmp(comm, "ithaca-cell\n") == 0;
	}
	assert_true(is_taken);
}

/* Root's daemon makes the cell of a workspace's owner; the spare after that is his. */
static void
test_other_owner(void **state)
{
	struct rig *r = *state;
	char made[RIG_PATH + 8];
	struct stat st;

	needs_root();
	snprintf(made, sizeof(made), "%s/f", r->shared);
	expect_taken(r);
	int pidfd = open_spare(r);
	assert_int_equal(chown(r->shared, NOBODY, NOBODY), 0);
	expect_dropped(r, pidfd);
	expect_taken(r);
	rig_expect_in(r, "main", "touch f", "");
	assert_int_equal(stat(made, &st), 0);
	assert_int_equal(st.st_uid, NOBODY);
}

/* Whether a process has what the host has at a path, by its root or by where it stands. */
static bool
sees(pid_t pid, const char *path)
{
	char at[RIG_PATH + 32];
	bool is_there = false;

	for (int i = 0; i < 2; i++) {
		snprintf(at, sizeof(at), "/proc/%d/%s%s", (int)pid, i == 0 ? "root" : "cwd", path);
		is_there = is_there || access(at, F_OK) == 0;
	}
	return is_there;
}

static size_t
descriptors_of(pid_t pid)
{
	char path[64];
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	assert_non_null(d);
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d))
		n += x->d_name[0] != '.';
	closedir(d);
	return n;
}

/* The control is the zygote, of which the spare is a child. */
static void
test_holds_nothing(void **state)
{
	struct rig *r = *state;
	char *mounts = xcalloc(1, 65536);

	needs_root();
	expect_taken(r);
	pid_t pid = wait_spare(r);
	int64_t until = clock_mono_ms() + RIG_GUARD_MS;
	while (descriptors_of(pid) > 4 || !rig_read_proc(pid, "mountinfo", mounts, 65536) || strstr(mounts, " /sys") != NULL) {
		assert_true(clock_mono_ms() < until); /* it is being made */
		sched_yield();
	}
	assert_false(sees(pid, r->dir));
	assert_true(sees(rig_parent_of(pid), r->dir));
	assert_true(sees(pid, "/usr"));
	assert_false(sees(pid, "/etc/shadow"));
	assert_true(sees(rig_parent_of(pid), "/etc/shadow"));
	assert_true(rig_read_proc(rig_parent_of(pid), "mountinfo", mounts, 65536));
	assert_non_null(strstr(mounts, " /sys"));
	free(mounts);
}

static void
test_ends(void **state)
{
	struct rig *r = *state;

	int pidfd = open_spare(r);
	pid_t zygote = find(r, "ithaca-zygote\n", rig_parent_of);
	assert_true(zygote > 0);
	assert_int_equal(kill(zygote, SIGKILL), 0);
	expect_end(pidfd);
	while (!r->guest_ended)
		rig_wait(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_taken, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_host_changed, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_other_mounts, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_other_owner, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_holds_nothing, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_ends, rig_setup, rig_teardown),
	};

	if (geteuid() == 0 && (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
