/* SPDX-License-Identifier: MIT
 * shelld where something runs out: descriptors, the disk of its spool, the directory of its spool. What cannot be begun is
 * refused with the reason; what was said to have ended has ended; and afterwards the same shelld works as before. */
#include <sys/mount.h>
#include <sys/resource.h>
#include "rig.h"

#define FDS_MAX   160
#define CELLS     4
#define CROWD     32 /* commands, in each cell */
#define SPOOL_KIB 256
#define SKIP_TEST 77

static void
expect_well(struct rig *r)
{
	struct outcome o;

	assert_false(r->guest_ended);
	rig_sh(r, "echo well", &o);
	if (o.e.code != 0)
		fail_msg("%s", o.e.msg);
	assert_string_equal(buf_z(&o.out), "well\n");
	outcome_fini(&o);
}

static void
close_cell(struct rig *r, const char *key)
{
	struct answer x;

	answer_init(&x, r);
	assert_int_equal(sandbox_cell_close(r->sb, key, true, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	answer_fini(&x);
}

/* More commands than there are descriptors for. Each holds the fifo open until it has ended. */
static void
test_descriptors(void **state)
{
	static struct outcome o[CELLS * CROWD];
	struct rig *r = *state;
	struct rlimit few = { FDS_MAX, FDS_MAX };
	char key[CELLS][16];
	size_t ran = 0, refused = 0;
	int alive = rig_alive(r);

	for (size_t i = 0; i < CELLS; i++)
		snprintf(key[i], sizeof(key[i]), "crowd-%zu", i);
	expect_well(r);
	assert_int_equal(prlimit(child_pid(r->guest), RLIMIT_NOFILE, &few, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		struct id id = id_new();
		struct exec_request q = rig_request(r, id.z, "exec 9>alive; echo x >&9; exec sleep 3");
		q.cell = key[i % CELLS];
		rig_begin(r, &q, &o[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		rig_finish(&o[i]);
		ran += o[i].e.code == 0 && o[i].st.exit_code == 0 && o[i].st.signal == 0;
		refused += o[i].e.code == ERR_BUSY;
		if (o[i].e.code != 0 && o[i].e.code != ERR_BUSY)
			fail_msg("%s", o[i].e.msg);
		outcome_fini(&o[i]);
	}
	assert_true(ran > 0 && refused > 0);
	assert_int_equal(ran + refused, ARRAY_LEN(o)); /* nothing was lost on the way */
	rig_expect_alive(alive);
	rig_expect_dead(alive);
	for (size_t i = 0; i < CELLS; i++)
		close_cell(r, key[i]);
	expect_well(r);
}

/* The spool's directory goes: nothing begins, because nothing could be told of it later. */
static void
test_spool_removed(void **state)
{
	struct rig *r = *state;
	struct outcome before, o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo begun; read line; echo over");

	q.input = true;
	rig_begin(r, &q, &before);
	before.stop_after = 1;
	rig_wait(r);
	before.stop_after = 0;
	rig_remove(r->spool);
	rig_sh(r, "echo must not run > never", &o);
	assert_int_equal(o.e.code, ERR_NOT_FOUND);
	assert_non_null(strstr(o.e.msg, "cannot note that effect"));
	outcome_fini(&o);
	exec_call_input(before.call, STR("x\n"));
	rig_finish(&before);
	assert_int_equal(before.e.code, 0);
	assert_int_equal(before.st.exit_code, 0);
	outcome_fini(&before);
}

/* ---- a disk of our own for the spool, as small as can be ---- */

static void
enter_mounts(void)
{
	if ((geteuid() != 0 && !rig_own_users()) || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		_exit(SKIP_TEST);
}

static int
setup_small(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	char option[32];

	rig_init(r);
	snprintf(option, sizeof(option), "size=%dk,mode=700", SPOOL_KIB);
	assert_int_equal(mkdir(r->spool, 0700), 0);
	assert_int_equal(mount("tmpfs", r->spool, "tmpfs", 0, option), 0);
	rig_spawn(r);
	rig_peer(r);
	*state = r;
	return 0;
}

static int
teardown_small(void **state)
{
	struct rig *r = *state;

	umount2(r->spool, MNT_DETACH);
	return rig_teardown(state);
}

/* Output beyond the disk is counted and not kept; what could not be told of later does not begin. */
static void
test_disk_full(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2");
	char path[RIG_PATH + 8];

	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.exit_code, 0);
	assert_int_equal(o.st.output_bytes, 1000004);
	assert_true(o.st.kept_bytes > 0 && o.st.kept_bytes < SPOOL_KIB * 1024);
	assert_int_equal(o.out.n, o.st.kept_bytes);
	outcome_fini(&o);
	rig_sh(r, "echo must not run > ran", &o);
	assert_int_equal(o.e.code, ERR_FULL);
	assert_non_null(strstr(o.e.msg, "cannot note that effect"));
	outcome_fini(&o);
	snprintf(path, sizeof(path), "%s/ran", r->shared);
	assert_int_equal(access(path, F_OK), -1);
	sandbox_effect_forget(r->sb, id.z);
	expect_well(r);
}

static int
run(void (*prepare)(void), const char *name, const struct CMUnitTest *tests, size_t n)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (prepare != NULL)
			prepare();
		exit(_cmocka_run_group_tests(name, tests, n, NULL, NULL));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_TEST) {
		print_message("SKIP: %s cannot be arranged here\n", name);
		return 0;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int
main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test_setup_teardown(test_descriptors, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_spool_removed, rig_setup, rig_teardown),
	};
	const struct CMUnitTest small[] = {
		cmocka_unit_test_setup_teardown(test_disk_full, setup_small, teardown_small),
	};

	return run(NULL, "descriptors and directories", plain, ARRAY_LEN(plain)) | run(enter_mounts, "a small disk", small, ARRAY_LEN(small));
}
