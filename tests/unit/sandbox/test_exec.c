/* SPDX-License-Identifier: MIT
 * Commands through a real shelld: status, output, limits of time and size, input, background, resumption. */
#include "rig.h"

static int
setup(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	rig_start(r);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void
test_status(void **state)
{
	struct outcome o;
	rig_sh(*state, "echo out; echo err >&2; exit 3", &o);
	assert_int_equal(o.e.code, 0);
	assert_int_equal(o.st.state, EXEC_DONE);
	assert_int_equal(o.st.exit_code, 3);
	assert_int_equal(o.st.signal, 0);
	assert_string_equal(buf_z(&o.out), "out\n");
	assert_string_equal(buf_z(&o.err), "err\n");
	assert_int_equal(o.st.kept_bytes, 8);
	outcome_fini(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_status, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
