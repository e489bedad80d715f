/* SPDX-License-Identifier: MIT
 * The vault: a secret goes where it is bound to, and nowhere else; what is wrong with the file is
 * said and loses nothing else. The file itself, and the mask that keeps values out of answers at
 * every cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/internal.h"

#define VALUE "sk-value-0123456789"

static const unsigned char seed_a[SEAL_SEED_SIZE] = { 1 }, seed_b[SEAL_SEED_SIZE] = { 2 };

static struct vault *
vault_of(const char *masters, const char *error)
{
	struct arena *a = arena_new(MIB);
	const struct node *root;
	char hex_a[65], hex_b[65];
	char text[600];

	hex_encode(seed_a, sizeof(seed_a), hex_a);
	hex_encode(seed_b, sizeof(seed_b), hex_b);
	size_t n = (size_t)snprintf(text, sizeof(text), "{\"masters\":[");
	for (const char *m = masters; *m != '\0'; m++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
			"%s{\"kind\":\"%s\",\"seed\":\"%s\"}", m > masters ? "," : "",
			*m == 'a' ? "passphrase" : "file", *m == 'a' ? hex_a : hex_b);
	snprintf(text + n, sizeof(text) - n, "]%s%s%s}", error ? ",\"master_error\":\"" : "",
		error ? error : "", error ? "\"" : "");
	assert_int_equal(json_parse(a, str_of(text), &root, NULL), 0);
	struct vault *v = vault_new(root);
	arena_free(a);
	return v;
}

/* One entry of a file, sealed with `seed` under the inner name. */
static char *
entry(const char *name, const char *inner, const unsigned char *seed, const char *host,
	const char *use)
{
	struct seal_key *k = seal_key_new(seed);
	struct seal_record r = { .name = str_of(inner),
		.hosts = { str_of(host) },
		.hosts_n = 1,
		.uses = { str_of(use) },
		.uses_n = 1,
		.value = STR(VALUE) };
	struct buf sealed;
	struct err e;

	buf_init(&sealed, 2 * SECRET_RECORD_MAX);
	assert_int_equal(seal_record_close(&r, seal_key_public(k), &sealed, &e), 0);
	/* What stands outside says otherwise: it must not count. */
	char *text = xasprintf(
		"{\"name\":\"%s\",\"hosts\":[\"evil.example\"],\"uses\":[\"url\"],\"set_at_ms\":1,"
		"\"key\":\"%s\",\"sealed\":\"%s\"}",
		name, seal_key_public(k), buf_z(&sealed));
	buf_fini(&sealed);
	seal_key_free(k);
	return text;
}

static void
load(struct vault *v, const char *a, const char *b)
{
	AUTO_FREE char *file =
		xasprintf("{\"v\":1,\"secrets\":[%s%s%s]}", a, b ? "," : "", b ? b : "");

	vault_load(v, str_of(file));
}

static int
use(const struct vault *v, const char *name, const char *use, bool is_tls, const char *host,
	uint64_t port, struct err *e)
{
	struct destination d = { is_tls, str_of(host), port };
	struct str value = STR("");

	*e = (struct err){ 0 };
	int rc = vault_use(v, str_of(name), use, &d, &value, e);
	assert_true(rc == 0 ? str_is(value, VALUE) : value.n == 0);
	assert_null(strstr(e->msg, VALUE));
	return rc;
}

static void
test_bound(void **state)
{
	struct vault *v = vault_of("a", NULL);
	AUTO_FREE char *one =
		entry("openai", "openai", seed_a, "api.openai.com", "header:authorization");
	struct err e;

	load(v, one, NULL);
	assert_int_equal(
		use(v, "openai", "header:Authorization", true, "api.openai.com", 443, &e), 0);
	assert_int_equal(use(v, "openai", "header:Authorization", true, "evil.example", 443, &e),
		ERR_DENIED);
	assert_non_null(strstr(e.msg, "not bound to https://evil.example:443"));
	assert_int_equal(use(v, "openai", "header:Authorization", false, "api.openai.com", 80, &e),
		ERR_DENIED);
	assert_int_equal(
		use(v, "openai", "header:X-Other", true, "api.openai.com", 443, &e), ERR_DENIED);
	assert_non_null(strstr(e.msg, "may not be used as header:X-Other"));
	assert_int_equal(use(v, "openai", "url", true, "api.openai.com", 443, &e), ERR_DENIED);
	assert_int_equal(use(v, "openia", "url", true, "api.openai.com", 443, &e), ERR_AUTH);
	assert_non_null(strstr(e.msg, "ithaca secret set openia"));
	vault_load(v, STR("")); /* removed */
	assert_int_equal(use(v, "openai", "header:Authorization", true, "api.openai.com", 443, &e),
		ERR_AUTH);
	vault_free(v);
}

/* Who stores the file can exchange entries, and gains nothing. */
static void
test_exchanged_entry(void **state)
{
	struct vault *v = vault_of("a", NULL);
	AUTO_FREE char *moved = entry("other", "openai", seed_a, "api.openai.com", "header");
	struct err e;

	load(v, moved, NULL);
	assert_int_equal(use(v, "other", "header:a", true, "api.openai.com", 443, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.msg, "exchanged"));
	vault_free(v);
}

static void
test_master_keys(void **state)
{
	AUTO_FREE char *a = entry("a", "a", seed_a, "x", "header"),
		       *b = entry("b", "b", seed_b, "x", "header");
	struct vault *v = vault_of("b", NULL);
	struct err e;

	load(v, a, b); /* a was sealed to another one: b works */
	assert_int_equal(use(v, "a", "header:k", true, "x", 443, &e), ERR_AUTH);
	assert_non_null(strstr(e.msg, "another master key"));
	assert_int_equal(use(v, "b", "header:k", true, "x", 443, &e), 0);
	vault_free(v);
	v = vault_of("ab", NULL); /* the former one is there too: both work */
	load(v, a, b);
	assert_int_equal(use(v, "a", "header:k", true, "x", 443, &e), 0);
	assert_int_equal(use(v, "b", "header:k", true, "x", 443, &e), 0);
	vault_free(v);
	v = vault_of("b",
		"the passphrase is missing"); /* what can be opened is; nothing new is sealed */
	load(v, a, b);
	assert_int_equal(use(v, "a", "header:k", true, "x", 443, &e), ERR_AUTH);
	assert_non_null(strstr(e.msg, "the passphrase is missing"));
	assert_int_equal(use(v, "b", "header:k", true, "x", 443, &e), 0);
	struct buf out;
	struct json j;
	buf_init(&out, MIB);
	json_init(&j, &out);
	json_obj(&j);
	vault_report(v, &j);
	json_obj_end(&j);
	assert_non_null(strstr(buf_z(&out), "\"key\":null"));
	assert_non_null(strstr(buf_z(&out), "\"name\":\"b\",\"state\":\"ready\""));
	assert_non_null(strstr(buf_z(&out), "\"name\":\"a\",\"state\":\"closed\""));
	assert_null(strstr(buf_z(&out), VALUE));
	buf_fini(&out);
	vault_free(v);
}

static void
test_bad_files(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "{", "" },
		{ "[]", "" },
		{ "{\"v\":2,\"secrets\":[]}", "version 2" },
		{ "{\"v\":1}", "secrets" },
		{ "{\"v\":1,\"secrets\":[{}]}", "" },
		{ "{\"v\":1,\"secrets\":[{\"name\":\"a "
		  "b\",\"hosts\":[],\"uses\":[],\"set_at_ms\":1,\"key\":\"k\",\"sealed\":\"00\"}]}",
			"no valid name" },
		{ "{\"v\":1,\"secrets\":[{\"name\":\"a\",\"hosts\":[],\"uses\":[],\"set_at_ms\":1,"
		  "\"key\":\"k\",\"sealed\":\"00\"},"
		  "{\"name\":\"a\",\"hosts\":[],\"uses\":[],\"set_at_ms\":1,\"key\":\"k\","
		  "\"sealed\":\"00\"}]}",
			"two entries a" },
	};
	struct vault *v = vault_of("a", NULL);
	AUTO_FREE char *one = entry("a", "a", seed_a, "x", "header");
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		vault_load(v, str_of(rows[i].text));
		assert_int_not_equal(use(v, "a", "header:k", true, "x", 443, &e), 0);
		if (strstr(e.msg, "secrets file cannot be read") == NULL ||
			strstr(e.msg, rows[i].why) == NULL)
			fail_msg("%s: %s", rows[i].text, e.msg);
	}
	load(v, one, NULL); /* a good one after it is good */
	assert_int_equal(use(v, "a", "header:k", true, "x", 443, &e), 0);
	vault_free(v);
}

static void
test_file_is_written_again(void **state)
{
	struct arena *a = arena_new(MIB);
	AUTO_FREE char *one = entry("one", "one", seed_a, "x", "header"),
		       *two = entry("two", "two", seed_a, "x", "header");
	AUTO_FREE char *file = xasprintf("{\"v\":1,\"secrets\":[%s,%s]}", one, two);
	const struct node *list, *with;
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, SECRETS_FILE_MAX);
	assert_int_equal(sealed_parse(a, str_of(file), &list, &e), 0);
	assert_int_equal(
		sealed_write(&out, list, STR("one"), sealed_find(list, STR("one")), &e), 0);
	assert_int_equal(sealed_parse(a, buf_str(&out), &list, &e), 0);
	assert_int_equal(node_len(list), 2);
	with = sealed_find(list, STR("two"));
	assert_true(node_equal(node_at(list, 0), with));
	buf_reset(&out);
	assert_int_equal(sealed_write(&out, list, STR("two"), NULL, &e), 0);
	assert_int_equal(sealed_parse(a, buf_str(&out), &list, &e), 0);
	assert_int_equal(node_len(list), 1);
	assert_null(sealed_find(list, STR("two")));
	assert_int_equal(sealed_parse(a, STR(" \n"), &list, &e), 0);
	assert_int_equal(node_len(list), 0);
	buf_fini(&out);
	arena_free(a);
}

/* The whole answer, given in pieces cut at i and k. */
static void
mask_in_pieces(const char *in, size_t i, size_t k, const char *want)
{
	struct mask m = { 0 };
	struct buf out;
	size_t n = strlen(in);

	buf_init(&m.held, KIB);
	buf_init(&out, KIB);
	mask_add(&m, STR(VALUE));
	mask_add(&m, STR("0123456789abcdef"));
	mask_add(&m, STR("short"));
	buf_add_str(&out, mask_take(&m, (struct str){ in, i }));
	buf_add_str(&out, mask_take(&m, (struct str){ in + i, k - i }));
	buf_add_str(&out, mask_take(&m, (struct str){ in + k, n - k }));
	assert_true(mask_held(&m) < sizeof(VALUE));
	buf_add_str(&out, mask_rest(&m));
	if (strcmp(buf_z(&out), want) != 0)
		fail_msg("cut at %zu and %zu: %s", i, k, buf_z(&out));
	buf_fini(&out);
	mask_free(&m);
}

static void
test_mask_at_every_cut(void **state)
{
	static const char in[] = "a " VALUE VALUE " sk-value-0123 short 0123456789abcdef sk-valu";
	static const char want[] = "a ************************************** sk-value-0123 short "
				   "**************** sk-valu";

	assert_int_equal(sizeof(in), sizeof(want));
	for (size_t i = 0; i < sizeof(in); i++)
		for (size_t k = i; k < sizeof(in); k++)
			mask_in_pieces(in, i, k, want);
}

static void
assert_masked(struct mask *m, const char *in, const char *want)
{
	struct buf out;

	buf_init(&out, KIB);
	buf_add_str(&out, mask_take(m, str_of(in)));
	buf_add_str(&out, mask_rest(m));
	buf_consume(&m->held, m->held.n);
	assert_string_equal(buf_z(&out), want);
	buf_fini(&out);
}

/* A key that comes behind many headers; one value that is the beginning of another. */
static void
test_mask_knows_all_values(void **state)
{
	struct mask m = { 0 };
	char header[40];

	buf_init(&m.held, KIB);
	for (int i = 0; i < 40; i++) {
		snprintf(header, sizeof(header), "value-of-header-%02d", i);
		mask_add(&m, str_of(header));
	}
	mask_add(&m, STR("sk-value-01"));
	mask_add(&m, STR(VALUE));
	assert_masked(&m, "<" VALUE ">", "<*******************>");
	assert_masked(&m, "value-of-header-39", "******************");
	mask_free(&m);
}

/* A header that was configured whole: servers quote the key without its scheme. */
static void
test_mask_behind_a_scheme(void **state)
{
	struct mask m = { 0 };

	buf_init(&m.held, KIB);
	mask_add(&m, STR("bearer " VALUE));
	assert_masked(&m, "Incorrect API key provided: " VALUE ".",
		"Incorrect API key provided: *******************.");
	assert_masked(&m, "bearer " VALUE, "**************************");
	mask_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_exchanged_entry),
		cmocka_unit_test(test_master_keys),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_file_is_written_again),
		cmocka_unit_test(test_mask_at_every_cut),
		cmocka_unit_test(test_mask_knows_all_values),
		cmocka_unit_test(test_mask_behind_a_scheme),
	};
	log_open("test", 2, LOG_OFF, LOG_LOGFMT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
