/* SPDX-License-Identifier: MIT
 * The method table is whole: every row has a name of the form noun.verb, tables with a sentence per field, and lookups
 * that agree with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "api/api.h"

static void
check_table(const struct field *f, int depth)
{
	assert_true(depth < 8);
	for (; f->type != FIELD_END; f++) {
		assert_non_null(f->name);
		assert_non_null(f->text);
		assert_int_equal(f->text[strlen(f->text) - 1], '.');
		if (f->type == FIELD_ENUM)
			assert_non_null(f->choices);
		if (f->type == FIELD_LIST)
			assert_non_null(f->item);
		if (f->sub)
			check_table(f->sub, depth + 1);
		if (f->item && f->item->sub)
			check_table(f->item->sub, depth + 1);
	}
}

static void
test_rows_are_whole(void **state)
{
	for (int i = 0; i < API_METHOD_COUNT; i++) {
		const struct method *m = &api_methods[i];

		assert_int_equal(m->id, i);
		assert_non_null(strchr(m->name, '.'));
		assert_true(m->capability > CAP_NONE && m->capability <= CAP_ADMIN);
		assert_non_null(m->text);
		check_table(m->params, 0);
		check_table(m->result, 0);
		assert_ptr_equal(api_find(str_of(m->name)), m);
	}
}

static void
test_unknown_method(void **state)
{
	assert_null(api_find(STR("session.turns")));
	assert_null(api_find(STR("")));
	assert_null(api_find(STR("session")));
	assert_string_equal(api_nearest(STR("sesion.turn")), "session.turn");
	assert_null(api_nearest(STR("xyzzy.plugh")));
}

/* Checks one parameter object against a method; returns the error's text or NULL. */
static const char *
check(const char *method, const char *json, struct err *e)
{
	struct arena *a = arena_new(1 << 20);
	const struct node *n;
	int rc;

	*e = (struct err){ 0 };
	assert_int_equal(json_parse(a, str_of(json), &n, e), 0);
	rc = field_check(api_find(str_of(method))->params, n, method, ERR_TO_USER, e);
	arena_free(a);
	return rc ? e->msg : NULL;
}

#define BLOB "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void
test_params(void **state)
{
	struct err e;

	assert_null(check("session.turn", "{\"text\":\"hello\"}", &e));
	assert_null(check("session.turn",
		"{\"text\":\"x\",\"session\":\"demo\",\"turn\":\"01jd0000000000000000000000\",\"mode\":\"read_only\","
		"\"yes\":true,\"attachments\":[{\"name\":\"a\",\"blob\":\"" BLOB "\"}]}",
		&e));
	assert_null(check("session.events", "{\"session\":\"s\",\"after\":7,\"follow\":true}", &e));
	assert_null(check("status.get", "{}", &e));
	assert_null(check("blob.put", "{\"size\":20971520}", &e));
	assert_null(check("blob.get", "{\"blob\":\"" BLOB "\"}", &e));
	assert_null(check("session.context", "{\"session\":\"s\",\"text\":\"and now?\",\"model\":\"a/b\"}", &e));

	assert_non_null(check("blob.put", "{\"size\":20971521}", &e));
	assert_non_null(check("blob.put", "{\"size\":0}", &e));
	assert_non_null(check("blob.get", "{\"blob\":\"../../etc/passwd\"}", &e));
	assert_non_null(check("session.turn", "{\"text\":\"x\",\"attachments\":[{\"blob\":\"" BLOB "\"}]}", &e));
	assert_non_null(strstr(check("session.turn", "{}", &e), "text"));
	assert_non_null(strstr(check("session.turn", "{\"text\":\"x\",\"modle\":\"a/b\"}", &e), "model"));
	assert_non_null(strstr(check("session.turn", "{\"text\":\"x\",\"mode\":\"yolo\"}", &e), "yolo"));
	assert_non_null(check("session.turn", "{\"text\":\"\"}", &e));
	assert_non_null(check("session.turn", "{\"text\":\"x\",\"turn\":\"short\"}", &e));
	assert_non_null(check("session.events", "{\"session\":\"s\",\"after\":-1}", &e));
	assert_non_null(check("approval.resolve", "{\"id\":\"x\",\"decision\":\"maybe\"}", &e));
	assert_non_null(check("status.get", "{\"x\":1}", &e));
}

static void
test_statuses(void **state)
{
	static const struct {
		const char *name;
		int exit;
	} want[] = { { "answered", 0 }, { "failed", 1 }, { "waiting", 3 }, { "denied", 3 },
		{ "limit", 4 }, { "cancelled", 5 } };
	enum turn_status s;

	assert_int_equal(ARRAY_LEN(want), TURN_STATUS_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(turn_status_parse(str_of(want[i].name), &s), 0);
		assert_string_equal(turn_status_name(s), want[i].name);
		assert_int_equal(turn_status_exit(s), want[i].exit);
	}
	assert_int_equal(turn_status_parse(STR("done"), &s), -1);
	assert_int_equal(turn_status_exit((enum turn_status)99), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_are_whole),
		cmocka_unit_test(test_unknown_method),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
