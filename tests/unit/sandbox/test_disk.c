/* SPDX-License-Identifier: MIT
 * The disk limit of cells: what a tree takes, counted in trees that were made to deceive or to exhaust whoever counts; and
 * commands that take too much, in every way that they have. */
#include <sys/resource.h>
#include "rig.h"
#include "sandbox/disk.h"

#define DEEP    10000
#define LIMIT   (4 * MIB)
#define BLOCK   4096
#define FOREVER "; exec sleep 1000"

/* ---- trees ---- */

static int
tree_new(void **state)
{
	const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR"); /* ten thousand directories are made */
	char *dir = xasprintf("%s/ithaca-tree-XXXXXX", tmp != NULL ? tmp : "/tmp");

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	*state = dir;
	return 0;
}

static int
tree_end(void **state)
{
	assert_int_equal(chdir("/"), 0);
	rig_remove(*state);
	free(*state);
	return 0;
}

static void
fill(int at, const char *name, size_t n)
{
	static char bytes[MIB];
	AUTO_CLOSE int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	memset(bytes, 'x', sizeof(bytes));
	for (; n > 0; n -= MIN(n, sizeof(bytes)))
		assert_int_equal(fd_write_all(fd, bytes, MIN(n, sizeof(bytes))), 0);
}

/* What takes room counts once, and what only looks large does not. */
static void
test_blocks(void **state)
{
	char name[16];

	fill(AT_FDCWD, "sparse", 1);
	assert_int_equal(truncate("sparse", INT64_C(6) * 1024 * MIB), 0);
	assert_int_equal(symlink("/", "everything"), 0);
	assert_int_equal(mkfifo("waits", 0600), 0);
	fill(AT_FDCWD, "two\nlines", 1);
	assert_int_equal(disk_walk(".", INT64_MAX / 4), 4 * BLOCK);
	fill(AT_FDCWD, "linked", MIB);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		assert_int_equal(link("linked", name), 0);
	}
	int64_t n = disk_walk(".", INT64_MAX / 4);
	assert_true(n >= (int64_t)MIB && n < (int64_t)MIB + 8 * BLOCK);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "e%d", i);
		fill(AT_FDCWD, name, 0);
	}
	assert_true(disk_walk(".", INT64_MAX / 4) >= n + 1000 * BLOCK);
	n = disk_walk(".", 10 * BLOCK);
	assert_true(n > 10 * BLOCK && n < (int64_t)MIB + 12 * BLOCK);
}

/* Deeper than there are descriptors, with a file at the bottom and one that is met on the way back. */
static void
test_deep(void **state)
{
	struct rlimit was, few;
	int at = open(".", O_RDONLY | O_DIRECTORY);

	for (int i = 0; i < DEEP; i++) {
		if (i == DEEP / 2) {
			assert_int_equal(mkdirat(at, "z", 0700), 0);
			AUTO_CLOSE int side = openat(at, "z", O_RDONLY | O_DIRECTORY);
			fill(side, "f", MIB);
		}
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	fill(at, "f", MIB);
	close(at);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = (struct rlimit){ 128, was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int64_t n = disk_walk(".", INT64_MAX / 4);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_true(n >= (int64_t)(2 * MIB) + (DEEP + 1) * BLOCK);
	assert_true(n < (int64_t)(2 * MIB) + (DEEP + 16) * BLOCK);
}

/* Directories that nobody may enter hide nothing, and are as they were after it, at any depth. */
static void
test_locked(void **state)
{
	enum { LEVELS = 200 };
	char path[2 * LEVELS + 8] = "";
	struct stat st;

	for (int i = 0; i < LEVELS; i++) {
		strncat(path, "d/", 3);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	snprintf(path + strlen(path), 2, "f");
	fill(AT_FDCWD, path, MIB);
	for (int i = LEVELS; i > 0; i--) {
		path[2 * i - 1] = '\0';
		assert_int_equal(chmod(path, i % 2 ? 0 : 0300), 0);
	}
	assert_true(disk_walk(".", INT64_MAX / 4) >= (int64_t)MIB + LEVELS * BLOCK);
	for (int i = 1; i <= LEVELS; i++) {
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, i % 2 ? 0 : 0300);
		assert_int_equal(chmod(path, 0700), 0);
		path[2 * i - 1] = '/';
	}
}

/* ---- commands ---- */

static int
setup(void **state)
{
	rig_setup(state);
	((struct rig *)*state)->plan.disk_bytes = LIMIT;
	return 0;
}

static void
expect(struct rig *r, const char *command, bool is_too_much)
{
	struct outcome o;

	rig_sh(r, command, &o);
	if (o.e.code != 0 || o.st.out_of_disk != is_too_much || (!is_too_much && (o.st.exit_code != 0 || o.st.signal != 0)))
		fail_msg("%s: %s, exit %d, signal %d, out_of_disk %d: %s", command, o.e.msg, o.st.exit_code, o.st.signal, o.st.out_of_disk,
			buf_z(&o.both));
	outcome_fini(&o);
}

/* Each way to take room ends the command; the next one can make room again. */
static void
test_too_much(void **state)
{
	static const struct {
		const char *take, *give;
	} ways[] = {
		{ "head -c 6M /dev/zero > ~/big", "rm ~/big" },
		{ "head -c 6M /dev/zero > /run/work/outbox/big", "rm /run/work/outbox/big" },
		{ "for i in 1 2 3 4 5 6 7 8; do head -c 768K /dev/zero > ~/.cache/big$i; done", "rm ~/.cache/big*" },
		{ "mkdir ~/many && cd ~/many && seq 1500 | xargs touch", "rm -r ~/many" },
		{ "mkdir ~/d && head -c 6M /dev/zero > ~/d/big && chmod 0 ~/d", "chmod 700 ~/d && rm -r ~/d" },
		{ "exec 3> ~/gone && rm ~/gone && head -c 6M /dev/zero >&3", "true" },
		{ "head -c 6M /dev/zero > /scratch/big", "rm /scratch/big" },
		{ "fallocate -l 6M ~/big", "rm ~/big" },
	};
	struct rig *r = *state;
	char command[200], scratch[RIG_PATH + 16];

	snprintf(scratch, sizeof(scratch), "%s/scratch", r->dir);
	assert_int_equal(mkdir(scratch, 0700), 0);
	r->plan.scratch = scratch;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		snprintf(command, sizeof(command), "{ %s; }" FOREVER, ways[i].take);
		expect(r, command, true);
		expect(r, ways[i].give, false);
	}
	r->plan.scratch = NULL;
}

/* A hole, another name of a file and the workspace take nothing of it. */
static void
test_enough(void **state)
{
	struct rig *r = *state;

	expect(r, "truncate -s 60M ~/hole && head -c 1M /dev/zero > ~/f && mkdir ~/l && for i in 1 2 3 4 5 6 7 8 9; do ln ~/f ~/l/$i; done; "
		"head -c 10M /dev/zero > /shared/big", false);
	expect(r, "head -c 5M /dev/zero > ~/more" FOREVER, true); /* so all of it was counted */
	expect(r, "rm ~/more && head -c 2M /dev/zero > ~/more && rm /shared/big", false);
}

/* What ran in the cell goes, what runs in another stays. */
static void
test_others(void **state)
{
	struct rig *r = *state;
	struct id id = id_new(), mine = id_new();
	struct exec_request q = rig_request(r, id.z, "echo ready; read line; echo \"$line\""),
		beside = rig_request(r, mine.z, "echo ready; read line");
	struct cell_plan plan = r->plan;
	char other[RIG_PATH + 16];
	struct outcome o, b;

	snprintf(other, sizeof(other), "%s/other", r->cells);
	plan.state = other;
	q.cell = "cell-2";
	q.plan = &plan;
	q.input = beside.input = true;
	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	rig_begin(r, &beside, &b);
	b.stop_after = 1;
	rig_wait(r);
	o.stop_after = b.stop_after = 0;
	expect(r, "head -c 6M /dev/zero > ~/big" FOREVER, true);
	rig_finish(&b);
	assert_true(b.st.out_of_disk);
	exec_call_input(o.call, STR("still here\n"));
	rig_finish(&o);
	assert_string_equal(buf_z(&o.out), "ready\nstill here\n");
	outcome_fini(&o);
	outcome_fini(&b);
}

static void
remove_file(struct rig *r, struct str params)
{
	struct file_request q = { .cell = "cell-1", .plan = &r->plan, .op = "delete", .params = params };
	struct answer x;

	answer_init(&x, r);
	assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	assert_int_equal(x.e.code, 0);
	answer_fini(&x);
}

/* Commands that end before anybody looks are not for free: far above the limit none is started, and files can be removed. */
static void
test_refused(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	int tries = 0;

	do {
		rig_sh(r, "mkdir -p ~/d && head -c 512K /dev/zero > $(mktemp -p ~/d)", &o);
		int code = o.e.code;
		if (code != 0) {
			assert_int_equal(code, ERR_FULL);
			assert_non_null(strstr(o.e.msg, "out_of_disk"));
			tries = -1;
		}
		outcome_fini(&o);
	} while (tries >= 0 && ++tries < 1000);
	assert_int_equal(tries, -1);
	remove_file(r, STR("{\"path\":\"/home/agent/d\",\"recursive\":true}"));
	for (int i = 0; i < 1000; i++) { /* until it was looked at */
		rig_sh(r, "echo again", &o);
		tries = o.e.code;
		outcome_fini(&o);
		if (tries == 0)
			return;
	}
	fail_msg("no room came");
}

/* What a cell piles up deeper than any path can say is counted, and goes with its session. */
static void
test_deep_state(void **state)
{
	struct rig *r = *state;
	struct err e = { 0 };
	struct answer x;

	r->plan.disk_bytes = 4 * LIMIT;
	expect(r, "cd ~ && perl -e 'for (1 .. 2500) { mkdir \"d\\nd\"; chdir \"d\\nd\" or die } open F, \">f\" or die; print F \"x\" x 8e6; close F; exec qw(sleep 1000)'", true);
	answer_init(&x, r);
	assert_int_equal(sandbox_cell_close(r->sb, "cell-1", true, rig_reply, &x, &e), 0);
	answer_wait(&x);
	answer_fini(&x);
	assert_int_equal(access(r->state, F_OK), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_blocks, tree_new, tree_end),
		cmocka_unit_test_setup_teardown(test_deep, tree_new, tree_end),
		cmocka_unit_test_setup_teardown(test_locked, tree_new, tree_end),
		cmocka_unit_test_setup_teardown(test_too_much, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_enough, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_others, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_deep_state, setup, rig_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
