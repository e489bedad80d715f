/* SPDX-License-Identifier: MIT
 * Sealed records: what goes in comes out, whatever is changed does not; and what a binding allows,
 * row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/hash.h"
#include "base/seal.h"

#define VALUE "sk-value-0123456789"

static struct seal_record
record(void)
{
	return (struct seal_record){ .name = STR("openai"),
		.hosts = { STR("api.openai.com"), STR("http://[::1]:8080") },
		.hosts_n = 2,
		.uses = { STR("header"), STR("url") },
		.uses_n = 2,
		.value = STR(VALUE) };
}

static void
seal(const struct seal_record *r, const struct seal_key *k, struct buf *out)
{
	struct err e = { 0 };

	buf_init(out, 2 * SECRET_RECORD_MAX);
	if (seal_record_close(r, seal_key_public(k), out, &e) != 0)
		fail_msg("%s", e.msg);
}

static void
test_round_trip(void **state)
{
	unsigned char seed[SEAL_SEED_SIZE] = { 1 };
	struct seal_key *k = seal_key_new(seed);
	struct seal_record r = record(), back;
	struct err e = { 0 };
	struct buf sealed;

	seal(&r, k, &sealed);
	assert_null(strstr(buf_z(&sealed), "openai")); /* hex of a box: nothing of it shows */
	struct secret *plain = seal_open(k, buf_str(&sealed), &e);
	assert_non_null(plain);
	assert_int_equal(seal_record_parse(secret_peek(plain), &back, &e), 0);
	assert_true(str_is(back.name, "openai"));
	assert_int_equal(back.hosts_n, 2);
	assert_true(str_is(back.hosts[1], "http://[::1]:8080"));
	assert_int_equal(back.uses_n, 2);
	assert_true(str_is(back.value, VALUE));
	secret_free(plain);
	/* Two boxes of the same record differ: an equal value does not show. */
	struct buf again;
	seal(&r, k, &again);
	assert_string_not_equal(buf_z(&sealed), buf_z(&again));
	buf_fini(&again);
	buf_fini(&sealed);
	seal_key_free(k);
	seal_key_free(NULL);
}

static void
test_what_was_changed_does_not_open(void **state)
{
	unsigned char seed[SEAL_SEED_SIZE] = { 1 }, other_seed[SEAL_SEED_SIZE] = { 2 };
	struct seal_key *k = seal_key_new(seed), *other = seal_key_new(other_seed);
	struct seal_record r = record();
	struct err e = { 0 };
	struct buf sealed;

	seal(&r, k, &sealed);
	assert_null(seal_open(other, buf_str(&sealed), &e));
	assert_int_equal(e.code, ERR_CORRUPT);
	for (size_t i = 0; i < sealed.n; i++) {
		char was = sealed.p[i];

		sealed.p[i] = was == '0' ? '1' : '0';
		assert_null(seal_open(k, buf_str(&sealed), &e));
		sealed.p[i] = 'x';
		assert_null(seal_open(k, buf_str(&sealed), &e));
		sealed.p[i] = was;
		assert_null(seal_open(k, str_sub(buf_str(&sealed), 0, i), &e));
		assert_null(strstr(e.msg, VALUE));
	}
	struct secret *plain =
		seal_open(k, buf_str(&sealed), &e); /* the control: unchanged it opens */
	assert_non_null(plain);
	secret_free(plain);
	buf_fini(&sealed);
	seal_key_free(k);
	seal_key_free(other);
}

static void
test_bad_records(void **state)
{
	static const struct {
		const char *name, *host, *use, *value, *why;
	} rows[] = {
		{ "", "x", "header", "v", "no name" },
		{ "a b", "x", "header", "v", "no name" },
		{ "-a", "x", "header", "v", "no name" },
		{ "a\nhost y", "x", "header", "v", "no name" },
		{ "a", "", "header", "v", "no host" },
		{ "a", "x\nuse url", "header", "v", "no host" },
		{ "a", "user@x", "header", "v", "no host" },
		{ "a", "*.x", "header", "v", "no host" },
		{ "a", "ftp://x", "header", "v", "no host" },
		{ "a", "x:0", "header", "v", "no host" },
		{ "a", "x:70000", "header", "v", "no host" },
		{ "a", "x:", "header", "v", "no host" },
		{ "a", "x/path", "header", "v", "no host" },
		{ "a", "[::1", "header", "v", "no host" },
		{ "a", "x", "cookie", "v", "cannot be used" },
		{ "a", "x", "header:", "v", "cannot be used" },
		{ "a", "x", "header:a b", "v", "cannot be used" },
		{ "a", "x", "header", "", "is empty" },
		{ "a", "x", "header", "v\r\nX: y", "control character" },
	};
	unsigned char seed[SEAL_SEED_SIZE] = { 1 };
	struct seal_key *k = seal_key_new(seed);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct seal_record r = { .name = str_of(rows[i].name),
			.hosts = { str_of(rows[i].host) },
			.hosts_n = 1,
			.uses = { str_of(rows[i].use) },
			.uses_n = 1,
			.value = str_of(rows[i].value) };
		struct err e = { 0 };
		struct buf out;

		buf_init(&out, 2 * SECRET_RECORD_MAX);
		assert_int_not_equal(seal_record_close(&r, seal_key_public(k), &out, &e), 0);
		if (strstr(e.msg, rows[i].why) == NULL)
			fail_msg("%zu: \"%s\" is not \"%s\"", i, e.msg, rows[i].why);
		assert_int_equal(out.n, 0);
		buf_fini(&out);
	}
	seal_key_free(k);
}

static void
test_bad_plain_texts(void **state)
{
	static const char *const rows[] = {
		"",
		"ithaca-secret 2\nname a\nhost x\nuse header\n\nv",
		"name a\nhost x\nuse header\n\nv",
		"ithaca-secret 1\nname a\nname b\nhost x\nuse header\n\nv",
		"ithaca-secret 1\nname a\nuse header\n\nv",
		"ithaca-secret 1\nname a\nhost x\n\nv",
		"ithaca-secret 1\nname a\nhost x\nuse header\nmore y\n\nv",
		"ithaca-secret 1\nname a\nhost x\nuse header\n\n",
		"ithaca-secret 1\nname a\nhost x\nuse header",
	};
	struct seal_record r;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (seal_record_parse(str_of(rows[i]), &r, &e) == 0)
			fail_msg("accepted: %s", rows[i]);
	assert_int_equal(
		seal_record_parse(STR("ithaca-secret 1\nname a\nhost x\nuse header\n\nv"), &r, &e),
		0);
}

static void
test_bindings(void **state)
{
	static const struct {
		const char *binding;
		bool is_tls;
		const char *host;
		uint64_t port;
		bool is_allowed;
	} rows[] = {
		{ "api.openai.com", true, "api.openai.com", 443, true },
		{ "api.openai.com", true, "API.OpenAI.com", 443, true },
		{ "api.openai.com", true, "api.openai.com", 8443, false },
		{ "api.openai.com", false, "api.openai.com", 80, false }, /* not without TLS */
		{ "api.openai.com", false, "api.openai.com", 443, false },
		{ "api.openai.com", true, "api.openai.com.evil.example", 443, false },
		{ "api.openai.com", true, "evil-api.openai.com", 443, false },
		{ "api.openai.com", true, "openai.com", 443, false },
		{ "api.openai.com:8443", true, "api.openai.com", 8443, true },
		{ "api.openai.com:8443", true, "api.openai.com", 443, false },
		{ "https://api.openai.com", true, "api.openai.com", 443, true },
		{ "https://api.openai.com", false, "api.openai.com", 443, false },
		{ "HTTPS://api.openai.com", true, "api.openai.com", 443, true },
		{ "http://10.0.0.5:8080", false, "10.0.0.5", 8080, true },
		{ "http://10.0.0.5:8080", true, "10.0.0.5", 8080, false },
		{ "http://10.0.0.5", false, "10.0.0.5", 80, true },
		{ "10.0.0.5:8080", false, "10.0.0.5", 8080, false },
		{ "127.0.0.1", false, "127.0.0.1", 11434, true },
		{ "127.0.0.1", true, "127.0.0.1", 1, true },
		{ "127.0.0.1", false, "127.0.0.2", 11434, false },
		{ "127.0.0.1:5", false, "127.0.0.1", 6, false },
		{ "localhost", false, "localhost", 8080, true },
		{ "[::1]", false, "[::1]", 8080, true },
		{ "https://127.0.0.1:5", false, "127.0.0.1", 5, false },
		{ "127.0.0.1.evil.example", false, "127.0.0.1.evil.example", 80,
			false }, /* a name, not this machine */
		{ "127.1.2.3.4", false, "127.1.2.3.4", 80, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (binding_allows(str_of(rows[i].binding), rows[i].is_tls, str_of(rows[i].host),
			    rows[i].port) != rows[i].is_allowed)
			fail_msg("row %zu: %s", i, rows[i].binding);
	assert_true(use_allows(STR("header"), STR("header:Authorization")));
	assert_true(use_allows(STR("header:authorization"), STR("header:Authorization")));
	assert_false(use_allows(STR("header:x-key"), STR("header:Authorization")));
	assert_false(use_allows(STR("header"), STR("url")));
	assert_false(use_allows(STR("url"), STR("header:url")));
	assert_true(use_allows(STR("url"), STR("url")));
}

static void
test_seeds(void **state)
{
	unsigned char salt[SEAL_SALT_SIZE] = { 7 }, a[SEAL_SEED_SIZE], b[SEAL_SEED_SIZE];
	struct err e = { 0 };

	assert_int_equal(seal_seed_derive(STR("correct horse"), salt, 1, MIB, a, &e), 0);
	assert_int_equal(seal_seed_derive(STR("correct horse"), salt, 1, MIB, b, &e), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(seal_seed_derive(STR("correct horsf"), salt, 1, MIB, b, &e), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	salt[0]++;
	assert_int_equal(seal_seed_derive(STR("correct horse"), salt, 1, MIB, b, &e), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	/* A file may not ask for any amount. */
	assert_int_equal(seal_seed_derive(STR("x"), salt, 1000000, MIB, b, &e), ERR_CORRUPT);
	assert_int_equal(seal_seed_derive(STR("x"), salt, 1, INT64_MAX, b, &e), ERR_CORRUPT);
	assert_int_equal(seal_seed_derive(STR("x"), salt, -1, MIB, b, &e), ERR_CORRUPT);
	seal_seed_of(STR("0123456789abcdef"), a);
	seal_seed_of(STR("0123456789abcdeg"), b);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(hex_decode(STR("00ff"), a, 2), 0);
	assert_int_equal(a[1], 255);
	assert_int_equal(hex_decode(STR("00fF"), a, 2), -1);
	assert_int_equal(hex_decode(STR("00f"), a, 2), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_what_was_changed_does_not_open),
		cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_bad_plain_texts),
		cmocka_unit_test(test_bindings),
		cmocka_unit_test(test_seeds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
