/* SPDX-License-Identifier: MIT
 * Endpoints, rules and public addresses as tables: what is accepted, how it is written then, what
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include "net/endpoint.h"

static void
test_parse(void **in)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} rows[] = {
		{ "example.org:443", "example.org:443" },
		{ "Example.ORG.:80", "example.org:80" },
		{ "a_b-c.x1:1", "a_b-c.x1:1" },
		{ "127.0.0.1:8080", "127.0.0.1:8080" },
		{ "[::1]:80", "[::1]:80" },
		{ "[2001:DB8:0:0::1]:80", "[2001:db8::1]:80" },
		{ "xn--bcher-kva.example:443", "xn--bcher-kva.example:443" },
		{ "1a:1", "1a:1" },
		{ "127.1:80", NULL },
		{ "2130706433:80", NULL },
		{ "0177.0.0.1:80", NULL },
		{ "127.0.0.01:80", NULL },
		{ "0x7f000001:80", NULL },
		{ "a.0x7f:80", NULL },
		{ "256.1.1.1:80", NULL },
		{ "1.2.3.4.5:80", NULL },
		{ "[::ffff:127.0.0.1]:80", NULL },
		{ "[::127.0.0.1]:80", NULL },
		{ "[fe80::1%lo]:80", NULL },
		{ "[::1:80", NULL },
		{ "[]:80", NULL },
		{ "::1:80", NULL },
		{ "example.org", NULL },
		{ "example.org:", NULL },
		{ "example.org:0", NULL },
		{ "example.org:080", NULL },
		{ "example.org:65536", NULL },
		{ "example.org:+80", NULL },
		{ "example.org:80:80", NULL },
		{ ":80", NULL },
		{ ".:80", NULL },
		{ "a..b:80", NULL },
		{ "a b:80", NULL },
		{ "a/b:80", NULL },
		{ "u@a:80", NULL },
		{ "b\xc3\xbc"
		  "cher.example:80",
			NULL },
		{ "*.example.org:80", NULL },
		{ "", NULL },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[ENDPOINT_TEXT_SIZE] = "refused";
		struct endpoint got;
		struct err e = { 0 };

		if (endpoint_parse(str_of(rows[i].text), 0, &got, &e) == 0)
			endpoint_text(&got, text);
		else
			assert_int_equal(e.code, ERR_INVALID);
		if (strcmp(text, rows[i].want != NULL ? rows[i].want : "refused") != 0)
			fail_msg("%s gives %s", rows[i].text, text);
	}
}

static void
test_long(void **in)
{
	char text[400];
	struct endpoint got;
	struct err e;

	memset(text, 'a', sizeof(text));
	memcpy(text + 63, ":1", 3);
	assert_int_equal(endpoint_parse(str_of(text), 0, &got, &e), 0);
	memcpy(text + 63, "a:1", 4);
	assert_int_not_equal(endpoint_parse(str_of(text), 0, &got, &e), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 != 0 ? '.' : 'a';
	assert_int_not_equal(endpoint_parse((struct str){ text, 399 }, 80, &got, &e), 0);
	assert_int_equal(endpoint_parse((struct str){ text, 253 }, 80, &got, &e), 0);
}

static void
test_rules(void **in)
{
	static const struct {
		const char *rule, *to;
		bool allows, denies;
	} rows[] = {
		{ "example.org:443", "example.org:443", true, true },
		{ "example.org:443", "example.org:80", false, false },
		{ "example.org", "example.org:80", true, true },
		{ "example.org", "example.org:443", true, true },
		{ "example.org", "example.org:22", false, true },
		{ "example.org:*", "example.org:22", true, true },
		{ "Example.org", "example.org:80", true, true },
		{ "*.example.org", "a.example.org:80", true, true },
		{ "*.example.org", "a.b.example.org:80", true, true },
		{ "*.example.org", "example.org:80", false, false },
		{ "*.example.org", "aexample.org:80", false, false },
		{ "*.example.org", "a.example.org.evil:80", false, false },
		{ "*", "a.b:443", true, true },
		{ "*", "a.b:444", false, true },
		{ "*:*", "a.b:444", true, true },
		{ "*:*", "127.0.0.1:80", false, true },
		{ "*", "[::1]:80", false, true },
		{ "127.0.0.1:80", "127.0.0.1:80", true, true },
		{ "127.0.0.1", "127.0.0.1:81", false, true },
		{ "[::1]:80", "[::1]:80", true, true },
		{ "[0:0::1]:80", "[::1]:80", true, true },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct endpoint_rule rule;
		struct endpoint to;
		struct err e;

		assert_int_equal(endpoint_rule_parse(str_of(rows[i].rule), true, &rule, &e), 0);
		assert_int_equal(endpoint_parse(str_of(rows[i].to), 0, &to, &e), 0);
		if (endpoint_rule_allows(&rule, &to) != rows[i].allows ||
			endpoint_rule_denies(&rule, &to) != rows[i].denies)
			fail_msg("%s and %s", rows[i].rule, rows[i].to);
	}
}

static void
test_rules_refused(void **in)
{
	static const char *const bad[] = { "a*b.org", "a.*.org", "*a.org", "**", "http://a.org",
		"a.org/x", "1.2.3", "a.org:x", "a.org:", "::1", "" };
	struct endpoint_rule rule;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (endpoint_rule_parse(str_of(bad[i]), true, &rule, &e) == 0)
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(endpoint_rule_parse(STR("docs*.example.org"), false, &rule, &e),
		0); /* as permissions may say */
}

static void
test_addresses(void **in)
{
	static const struct {
		const char *text;
		bool is_public;
	} rows[] = {
		{ "93.184.216.34", true },
		{ "8.8.8.8", true },
		{ "127.0.0.1", false },
		{ "127.255.255.255", false },
		{ "10.1.2.3", false },
		{ "172.15.0.1", true },
		{ "172.16.0.1", false },
		{ "172.31.255.1", false },
		{ "172.32.0.1", true },
		{ "192.168.0.1", false },
		{ "100.64.0.1", false },
		{ "100.128.0.1", true },
		{ "169.254.169.254", false },
		{ "0.0.0.0", false },
		{ "224.0.0.1", false },
		{ "255.255.255.255", false },
		{ "198.18.0.1", false },
		{ "192.0.2.1", false },
		{ "2606:4700::1", true },
		{ "::1", false },
		{ "::", false },
		{ "::ffff:8.8.8.8", false },
		{ "::8.8.8.8", false },
		{ "64:ff9b::808:808", false },
		{ "64:ff9b:1::1", false },
		{ "fc00::1", false },
		{ "fd12::1", false },
		{ "fe80::1", false },
		{ "fec0::1", false },
		{ "ff02::1", false },
		{ "2002:7f00:1::", false },
		{ "2001::1", false },
		{ "2001:db8::1", false },
		{ "2001:4860::1", true },
		{ "3fff::1", false },
		{ "100::1", false },
		{ "4000::1", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
		struct sockaddr_in v4 = { .sin_family = AF_INET };
		bool is_v4 = inet_pton(AF_INET, rows[i].text, &v4.sin_addr) == 1;
		const struct sockaddr *sa =
			is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;

		assert_true(is_v4 || inet_pton(AF_INET6, rows[i].text, &v6.sin6_addr) == 1);
		if ((address_is_special(sa) == NULL) != rows[i].is_public)
			fail_msg("%s: %s", rows[i].text, address_is_special(sa));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_rules_refused),
		cmocka_unit_test(test_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
