/* SPDX-License-Identifier: MIT
 * The codec and the table of edges: every (from, to, kind), sizes, heads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "loop/wire.h"

struct state {
	struct arena *a;
	struct buf b;
	struct err e;
	struct wire_frame f;
};

static int
setup(void **out)
{
	struct state *s = xcalloc(1, sizeof(*s));
	s->a = arena_new(WIRE_NODES_MAX);
	buf_init(&s->b, 16 * MIB);
	*out = s;
	return 0;
}

static int
teardown(void **in)
{
	struct state *s = *in;
	arena_free(s->a);
	buf_fini(&s->b);
	free(s);
	return 0;
}

static void
frame(struct state *s, const char *head, size_t tail_n)
{
	uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n + (uint32_t)tail_n;
	buf_reset(&s->b);
	buf_add(&s->b, &total, 4);
	buf_add(&s->b, &head_n, 4);
	buf_add(&s->b, head, head_n);
	char *p = buf_reserve(&s->b, tail_n + 1);
	memset(p, 't', tail_n);
	buf_added(&s->b, tail_n);
}

static ptrdiff_t
parse(struct state *s, enum role from, enum role to)
{
	arena_reset(s->a);
	s->e = (struct err){ 0 };
	return wire_parse(buf_str(&s->b), from, to, s->a, &s->f, &s->e);
}

static void
assert_refused(struct state *s, const char *why)
{
	assert_int_equal(parse(s, ROLE_CLIENT, ROLE_RUNTIME), ERR_PROTO);
	if (strstr(s->e.msg, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", s->e.msg, why);
}

static void
test_round_trip(void **in)
{
	struct state *s = *in;
	struct json j;
	size_t start = wire_put_begin(&s->b, &j, WIRE_CALL, 41);
	json_kv_z(&j, "method", "session.create");
	assert_int_equal(wire_put_end(&s->b, &j, start, WIRE_CALL, STR("{}"), false, NULL), 0);
	start = wire_put_begin(&s->b, &j, WIRE_CALL, 43);
	assert_int_equal(
		start, s->b.n - strlen("{\"v\":1,\"kind\":\"call\",\"id\":43") - WIRE_PREFIX);
	assert_int_equal(wire_put_end(&s->b, &j, start, WIRE_CALL, STR(""), false, NULL), 0);

	assert_int_equal(parse(s, ROLE_CLIENT, ROLE_RUNTIME), start);
	assert_int_equal(s->f.m.kind, WIRE_CALL);
	assert_int_equal(s->f.m.id, 41);
	assert_string_equal(node_z(s->f.m.head, "method", ""), "session.create");
	assert_true(str_is(s->f.m.tail, "{}"));
	assert_int_equal(s->f.m.fd, -1);
	assert_false(s->f.has_fd);
	buf_consume(&s->b, start);
	assert_int_equal(parse(s, ROLE_CLIENT, ROLE_RUNTIME), s->b.n);
	assert_int_equal(s->f.m.id, 43);
}

static void
test_every_cut_needs_more(void **in)
{
	struct state *s = *in;
	frame(s, "{\"v\":1,\"kind\":\"call\",\"id\":1}", 5);
	size_t whole = s->b.n;
	for (size_t n = 0; n < whole; n++) {
		struct str part = { s->b.p, n };
		assert_int_equal(
			wire_parse(part, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), 0);
	}
	assert_int_equal(parse(s, ROLE_CLIENT, ROLE_RUNTIME), whole);
}

/* The table in words of its own: what a row is missing or has too much shows here. */
static const struct {
	enum role from, to;
	const char *kinds;
} allowed[] = {
	{ ROLE_RUNNER, ROLE_RUNTIME, " boot peer listen stop status result error " },
	{ ROLE_RUNNER, ROLE_BROKER, " boot peer listen stop " },
	{ ROLE_RUNNER, ROLE_SHELLD, " boot peer listen stop link " },
	{ ROLE_RUNNER, ROLE_CLIENT, " result error ready fault " },
	{ ROLE_RUNTIME, ROLE_RUNNER, " ready idle fault host.file " },
	{ ROLE_BROKER, ROLE_RUNNER, " ready idle fault " },
	{ ROLE_SHELLD, ROLE_RUNNER, " ready idle fault linked " },
	{ ROLE_RUNTIME, ROLE_CLIENT, " result error event data credit eof reset " },
	{ ROLE_RUNTIME, ROLE_BROKER, " fetch secrets grant egress data credit eof reset " },
	{ ROLE_BROKER, ROLE_RUNTIME, " fetched keyring egress error data credit eof reset " },
	{ ROLE_RUNTIME, ROLE_SHELLD,
		" spawn exec input resize signal kill spool file close data credit eof reset " },
	{ ROLE_SHELLD, ROLE_RUNTIME,
		" hello spawned exec.begun exec.status spooled filed closed error data credit eof "
		"reset " },
	{ ROLE_SHELLD, ROLE_BROKER, " proxy data credit eof reset " },
	{ ROLE_BROKER, ROLE_SHELLD, " data credit eof reset " },
	{ ROLE_CLIENT, ROLE_RUNTIME, " call data credit eof reset " },
	{ ROLE_CLIENT, ROLE_RUNNER, " call stop " },
};

static bool
is_allowed(enum role from, enum role to, enum wire_kind k)
{
	char name[32];
	snprintf(name, sizeof(name), " %s ", wire_kind_name(k));
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
		if (allowed[i].from == from && allowed[i].to == to)
			return strstr(allowed[i].kinds, name) != NULL;
	}
	return false;
}

static void
test_every_edge(void **in)
{
	struct state *s = *in;
	char head[80], why[80];
	for (enum role from = 0; from < ROLE_COUNT; from++)
		for (enum role to = 0; to < ROLE_COUNT; to++)
			for (enum wire_kind k = 0; k < WIRE_KIND_COUNT; k++) {
				bool may = is_allowed(from, to, k);
				assert_int_equal(wire_may_send(from, to, k), may);
				snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"%s\",\"id\":1}",
					wire_kind_name(k));
				frame(s, head, 0);
				if (may) {
					assert_int_equal(parse(s, from, to), s->b.n);
					assert_int_equal(s->f.m.kind, k);
					continue;
				}
				assert_int_equal(parse(s, from, to), ERR_PROTO);
				snprintf(why, sizeof(why), "a %s may not send %s to a %s",
					role_name(from), wire_kind_name(k), role_name(to));
				assert_string_equal(s->e.msg, why);
			}
	assert_false(wire_may_send(ROLE_COUNT, ROLE_RUNTIME, WIRE_CALL));
	assert_false(wire_may_send(ROLE_CLIENT, ROLE_RUNTIME, WIRE_KIND_COUNT));
}

static void
test_sizes(void **in)
{
	struct state *s = *in;
	uint32_t prefix[2];
	struct str only = { (const char *)prefix, sizeof(prefix) };

	prefix[0] = 3, prefix[1] = 0;
	assert_int_equal(
		wire_parse(only, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), ERR_PROTO);
	prefix[0] = 10, prefix[1] = 7; /* head longer than the frame */
	assert_int_equal(
		wire_parse(only, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), ERR_PROTO);
	prefix[0] = 4 + WIRE_HEAD_MAX + 1, prefix[1] = WIRE_HEAD_MAX + 1;
	assert_int_equal(
		wire_parse(only, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), ERR_PROTO);
	assert_non_null(strstr(s->e.msg, "head of 262145 bytes"));
	prefix[0] = 4 + 2 + WIRE_TAIL_MAX + 1,
	prefix[1] = 2; /* refused before one byte of it came */
	assert_int_equal(
		wire_parse(only, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), ERR_PROTO);
	assert_non_null(strstr(s->e.msg, "tail of 4194305 bytes"));
	prefix[0] = UINT32_MAX, prefix[1] = UINT32_MAX;
	assert_int_equal(
		wire_parse(only, ROLE_CLIENT, ROLE_RUNTIME, s->a, &s->f, &s->e), ERR_PROTO);
}

static void
test_tail_maximum_of_a_kind(void **in)
{
	struct state *s = *in;
	frame(s, "{\"v\":1,\"kind\":\"data\",\"id\":1}", 256 * KIB);
	assert_int_equal(parse(s, ROLE_RUNTIME, ROLE_BROKER), s->b.n);
	frame(s, "{\"v\":1,\"kind\":\"data\",\"id\":1}", 256 * KIB + 1);
	assert_int_equal(parse(s, ROLE_RUNTIME, ROLE_BROKER), ERR_PROTO);
	assert_non_null(strstr(s->e.msg, "data has a tail of 262145 bytes (at most 262144)"));
	frame(s, "{\"v\":1,\"kind\":\"stop\",\"id\":1}", 1);
	assert_int_equal(parse(s, ROLE_RUNNER, ROLE_BROKER), ERR_PROTO);
}

static void
test_heads(void **in)
{
	struct state *s = *in;
	static const struct {
		const char *head, *why;
	} bad[] = {
		{ "", "head" },
		{ "{", "head" },
		{ "[]", "not a map" },
		{ "{\"kind\":\"call\",\"id\":1}", "version -1" },
		{ "{\"v\":2,\"kind\":\"call\",\"id\":1}",
			"speaks message version 2, this program 1" },
		{ "{\"v\":1,\"id\":1}", "unknown kind \"\"" },
		{ "{\"v\":1,\"kind\":\"cal\",\"id\":1}", "unknown kind \"cal\"" },
		{ "{\"v\":1,\"kind\":\"calls\",\"id\":1}", "unknown kind \"calls\"" },
		{ "{\"v\":1,\"kind\":\"CALL\",\"id\":1}", "unknown kind" },
		{ "{\"v\":1,\"kind\":\"call\"}", "no id" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":-1}", "no id" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":\"1\"}", "no id" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":1.5}", "no id" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":1,\"fd\":true}",
			"may not carry a descriptor" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":1,\"id\":2}", "head" },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":1} ", NULL },
		{ "{\"v\":1,\"kind\":\"call\",\"id\":1}x", "head" },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		frame(s, bad[i].head, 0);
		if (bad[i].why != NULL)
			assert_refused(s, bad[i].why);
		else
			assert_int_equal(parse(s, ROLE_CLIENT, ROLE_RUNTIME), s->b.n);
	}
}

static void
test_fd_only_where_the_row_says_so(void **in)
{
	struct state *s = *in;
	frame(s, "{\"v\":1,\"kind\":\"peer\",\"id\":1,\"fd\":true}", 0);
	assert_int_equal(parse(s, ROLE_RUNNER, ROLE_BROKER), s->b.n);
	assert_true(s->f.has_fd);
	frame(s, "{\"v\":1,\"kind\":\"boot\",\"id\":1,\"fd\":true}", 0);
	assert_int_equal(parse(s, ROLE_RUNNER, ROLE_BROKER), ERR_PROTO);
}

static void
test_put_refuses_what_is_too_large(void **in)
{
	struct state *s = *in;
	struct json j;
	struct err e = { 0 };
	char *large = xcalloc(1, WIRE_HEAD_MAX + 1);
	buf_add_z(&s->b, "before");
	size_t start = wire_put_begin(&s->b, &j, WIRE_STOP, 1);
	assert_int_equal(wire_put_end(&s->b, &j, start, WIRE_STOP, STR("x"), false, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "stop: tail of 1 bytes (at most 0)"));
	assert_true(str_is(buf_str(&s->b), "before"));
	memset(large, 'x', WIRE_HEAD_MAX);
	start = wire_put_begin(&s->b, &j, WIRE_CALL, 1);
	json_kv_z(&j, "method", large);
	assert_int_equal(wire_put_end(&s->b, &j, start, WIRE_CALL, STR(""), false, &e), ERR_LIMIT);
	assert_true(str_is(buf_str(&s->b), "before"));
	free(large);
}

static void
test_err_travels(void **in)
{
	struct state *s = *in;
	const struct node *head;
	struct err e = { 0 };
	assert_int_equal(
		json_parse(s->a, STR("{\"code\":\"denied\",\"message\":\"no\",\"to\":\"model\"}"),
			&head, NULL),
		0);
	wire_err(head, &e);
	assert_int_equal(e.code, ERR_DENIED);
	assert_int_equal(e.to, ERR_TO_MODEL);
	assert_string_equal(e.msg, "no");
	assert_int_equal(json_parse(s->a, STR("{}"), &head, NULL), 0);
	wire_err(head, &e);
	assert_int_equal(e.code, ERR_FAILED);
	assert_string_equal(e.msg, "no reason given");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_round_trip),
		T(test_every_cut_needs_more),
		T(test_every_edge),
		T(test_sizes),
		T(test_tail_maximum_of_a_kind),
		T(test_heads),
		T(test_fd_only_where_the_row_says_so),
		T(test_put_refuses_what_is_too_large),
		T(test_err_travels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
