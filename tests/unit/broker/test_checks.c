/* SPDX-License-Identifier: MIT
 * What may go into a request, where a connection may go, and how an envelope becomes servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/internal.h"

static void
test_paths(void **in)
{
	static const struct {
		const char *path;
		int rc;
	} rows[] = {
		{ "/chat/completions", 0 },
		{ "/v1/messages?beta=true&x=%20", 0 },
		{ "/a..b/...", 0 },
		{ "/", 0 },
		{ "/x?q=/../y", 0 }, /* a query is not a path */
		{ "", ERR_INVALID },
		{ "chat", ERR_INVALID },
		{ "@evil.example/x", ERR_INVALID },
		{ "/a b", ERR_INVALID },
		{ "/a\r\nHost: evil", ERR_INVALID },
		{ "/a\nX: y", ERR_INVALID },
		{ "/a#frag", ERR_INVALID },
		{ "/a\\b", ERR_INVALID },
		{ "/\x80", ERR_INVALID },
		{ "/a/../b", ERR_INVALID },
		{ "/..", ERR_INVALID },
		{ "/a/./b", ERR_INVALID },
		{ "/%2e%2E/b", ERR_INVALID },
		{ "/.%2e/b", ERR_INVALID },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		if (request_check_path(str_of(rows[i].path), &e) != rows[i].rc)
			fail_msg("%s: %s", rows[i].path, e.msg);
	}
	char *large = xcalloc(1, FETCH_PATH_MAX + 2);
	memset(large, '/', FETCH_PATH_MAX + 1);
	assert_int_equal(request_check_path(str_of(large), NULL), ERR_LIMIT);
	assert_int_equal(request_check_path((struct str){ "/a\0b", 4 }, NULL), ERR_INVALID);
	free(large);
}

static void
test_headers(void **in)
{
	static const struct {
		const char *lines;
		int rc;
		const char *why;
	} rows[] = {
		{ "", 0, NULL },
		{ "Content-Type: application/json\nanthropic-version: 2023-06-01\n", 0, NULL },
		{ "x: \t spaced\n", 0, NULL },
		{ "x:\n", 0, NULL },
		{ "no colon\n", ERR_INVALID, "without a colon" },
		{ "x: a\rEvil: b\n", ERR_INVALID, "control byte 0x0d" },
		{ "x: a\r\n", ERR_INVALID, "control byte 0x0d" },
		{ "x: a\x7f\n", ERR_INVALID, "control byte 0x7f" },
		{ "x: a\nnext line is not a header\n", ERR_INVALID, "without a colon" },
		{ "x y: a\n", ERR_INVALID, "byte 0x20" },
		{ " x: folded\n", ERR_INVALID, "byte 0x20" },
		{ ": a\n", ERR_INVALID, "without a name" },
		{ "Authorization: Bearer stolen\n", ERR_INVALID, "set by the broker only" },
		{ "X-API-KEY: stolen\n", ERR_INVALID, "set by the broker only" },
		{ "host: evil.example\n", ERR_INVALID, "set by the broker only" },
		{ "Content-Length: 0\n", ERR_INVALID, "set by the broker only" },
		{ "Transfer-Encoding: chunked\n", ERR_INVALID, "set by the broker only" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		if (request_check_headers(str_of(rows[i].lines), &e) != rows[i].rc)
			fail_msg("%s: %s", rows[i].lines, e.msg);
		if (rows[i].why != NULL && strstr(e.msg, rows[i].why) == NULL)
			fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].lines, e.msg,
				rows[i].why);
	}
	assert_int_equal(request_check_headers((struct str){ "x: a\0b\n", 7 }, NULL), ERR_INVALID);
}

static void
test_addresses(void **in)
{
	static const struct {
		const char *address;
		bool allowed;
	} rows[] = {
		{ "127.0.0.1", true },
		{ "10.1.2.3", true },
		{ "192.168.1.5", true },
		{ "1.1.1.1", true },
		{ "0.0.0.0", false },
		{ "0.1.2.3", false },
		{ "169.254.169.254", false },
		{ "224.0.0.1", false },
		{ "239.255.255.255", false },
		{ "255.255.255.255", false },
		{ "192.0.0.1", false },
		{ "192.0.1.1", true },
		{ "::1", true },
		{ "2606:4700::1111", true },
		{ "fd12:3456::1", true },
		{ "::", false },
		{ "fe80::1", false },
		{ "febf::1", false },
		{ "fec0::1", true },
		{ "ff02::1", false },
		{ "fd00:ec2::254", false },
		{ "::ffff:169.254.169.254", false },
		{ "::ffff:127.0.0.1", true },
		{ "64:ff9b::169.254.169.254", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sockaddr_in v4 = { .sin_family = AF_INET };
		struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
		const struct sockaddr *sa = (const struct sockaddr *)&v4;
		if (inet_pton(AF_INET, rows[i].address, &v4.sin_addr) != 1) {
			assert_int_equal(inet_pton(AF_INET6, rows[i].address, &v6.sin6_addr), 1);
			sa = (const struct sockaddr *)&v6;
		}
		if ((address_refusal(sa) == NULL) != rows[i].allowed)
			fail_msg("%s", rows[i].address);
	}
	struct sockaddr unix_address = { .sa_family = AF_UNIX };
	assert_non_null(address_refusal(&unix_address));
}

static void
test_address_text(void **in)
{
	char text[ADDRESS_TEXT_SIZE];
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(443) };
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT
	};
	inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
	assert_string_equal(address_text((struct sockaddr *)&v4, text), "192.0.2.1:443");
	assert_string_equal(address_text((struct sockaddr *)&v6, text), "[::1]:80");
}

/* What a request to u would get of its own; lines end with a NUL each, shown as a bar. */
static int
write_own(const struct upstream *u, const struct vault *v, char *out, size_t n, struct err *e)
{
	struct buf url, lines;
	struct mask m = { 0 };
	buf_init(&url, 4096);
	buf_init(&lines, 4096);
	buf_init(&m.held, 4096);
	int rc = upstream_write(u, v, &url, &lines, &m, e);
	for (size_t i = 0; i < lines.n; i++)
		lines.p[i] = lines.p[i] == '\0' ? '|' : lines.p[i];
	snprintf(out, n, "%s %s", buf_z(&url), buf_z(&lines));
	buf_fini(&url);
	buf_fini(&lines);
	mask_free(&m);
	return rc;
}

/* One provider p with this settings object. */
static const struct upstream *
load(const char *settings, struct upstreams **list, struct err *e)
{
	struct arena *a = arena_new(1 * MIB);
	const struct node *root;
	char *text = xasprintf("{\"p\":%s}", settings);
	assert_int_equal(json_parse(a, str_of(text), &root, NULL), 0);
	*list = upstreams_new(root);
	free(text);
	arena_free(a);
	*e = (struct err){ 0 };
	char own[200];
	const struct upstream *u = upstream_find(*list, STR("p"), e);
	return u != NULL && write_own(u, NULL, own, sizeof(own), e) == 0 ? u : NULL;
}

static void
test_good_upstreams(void **in)
{
	static const struct {
		const char *url, *base, *where;
	} rows[] = {
		{ "https://api.example.com/v1", "https://api.example.com:443/v1",
			"api.example.com:443" },
		{ "http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1", "127.0.0.1:11434" },
		{ "http://[::1]:8080", "http://[::1]:8080", "[::1]:8080" },
		{ "http://[::1]/x", "http://[::1]:80/x", "[::1]:80" },
		{ "http://local_host", "http://local_host:80", "local_host:80" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct upstreams *list;
		struct err e;
		char *text = xasprintf("{\"base_url\":\"%s\"}", rows[i].url);
		const struct upstream *u = load(text, &list, &e);
		if (u == NULL)
			fail_msg("%s: %s", rows[i].url, e.msg);
		assert_string_equal(u->base_url, rows[i].base);
		assert_string_equal(u->where, rows[i].where);
		assert_int_equal(u->connect_ms, 10000);
		assert_int_equal(u->idle_ms, 120000);
		free(text);
		upstreams_free(list);
	}
}

static void
test_bad_upstreams(void **in)
{
	static const struct {
		const char *settings;
		int code;
		const char *why;
	} rows[] = {
		{ "{}", ERR_CONFIG, "https:// or http://" },
		{ "{\"base_url\":\"ftp://x\"}", ERR_CONFIG, "https:// or http://" },
		{ "{\"base_url\":\"file:///etc/passwd\"}", ERR_CONFIG, "https:// or http://" },
		{ "{\"base_url\":\"http://\"}", ERR_CONFIG, "no host" },
		{ "{\"base_url\":\"http://:80\"}", ERR_CONFIG, "no host" },
		{ "{\"base_url\":\"http://[::1\"}", ERR_CONFIG, "no host" },
		{ "{\"base_url\":\"http://u:s3cret@x/\"}", ERR_CONFIG, "user name" },
		{ "{\"base_url\":\"http://x:0/\"}", ERR_CONFIG, "port" },
		{ "{\"base_url\":\"http://x:65536/\"}", ERR_CONFIG, "port" },
		{ "{\"base_url\":\"http://x:8o/\"}", ERR_CONFIG, "port" },
		{ "{\"base_url\":\"http://[::1]8/\"}", ERR_CONFIG, "port" },
		{ "{\"base_url\":\"http://x y/\"}", ERR_CONFIG, "in its host" },
		{ "{\"base_url\":\"http://x/?a=b\"}", ERR_CONFIG, "query" },
		{ "{\"base_url\":\"http://x/a/../b\"}", ERR_INVALID, "dot segment" },
		{ "{\"base_url\":\"http://x\",\"headers\":{\"a\":1}}", ERR_CONFIG, "not a string" },
		{ "{\"base_url\":\"http://x\",\"headers\":{\"a b\":\"c\"}}", ERR_INVALID,
			"header name" },
		{ "{\"base_url\":\"http://x\",\"headers\":{\"a\":\"s3cret\\r\\nb: c\"}}",
			ERR_INVALID, "control byte" },
		{ "{\"base_url\":\"http://x\",\"key_header\":\"k: \",\"api_key\":\"s3cret\\n\"}",
			ERR_INVALID, "api_key" },
		{ "{\"base_url\":\"http://x\",\"key_header\":\"k: \",\"api_key_env\":\"MY_KEY\"}",
			ERR_AUTH, "set MY_KEY" },
		{ "{\"base_url\":\"http://x\",\"key_header\":\"k: \",\"key_error\":\"api_key_file /k is open\"}",
			ERR_AUTH, "api_key_file /k is open" },
		{ "{\"base_url\":\"http://x\",\"key_header\":\"k: \",\"api_key\":{\"secret\":\"a b\"}}",
			ERR_CONFIG, "no valid name" },
		{ "{\"base_url\":\"http://x\",\"key_header\":\"k: \",\"api_key\":{\"s3cret\":\"a\"}}",
			ERR_CONFIG, "not a string" },
		{ "{\"base_url\":\"http://x/{secret:}\"}", ERR_CONFIG, "{secret:NAME}" },
		{ "{\"base_url\":\"http://x/{secret:a\"}", ERR_CONFIG, "{secret:NAME}" },
		{ "{\"base_url\":\"http://x/{other:a}\"}", ERR_CONFIG, "{secret:NAME}" },
		{ "{\"base_url\":\"http://{secret:a}/\"}", ERR_CONFIG, "in its host" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct upstreams *list;
		struct err e;
		assert_null(load(rows[i].settings, &list, &e));
		if (e.code != rows[i].code || strstr(e.msg, rows[i].why) == NULL ||
			strstr(e.msg, "provider p") == NULL)
			fail_msg("%s: \"%s\" (%d)", rows[i].settings, e.msg, e.code);
		assert_null(strstr(e.msg, "s3cret"));
		upstreams_free(list);
	}
}

static void
test_unknown_upstream(void **in)
{
	struct upstreams *list;
	struct err e;
	load("{\"base_url\":\"http://x\"}", &list, &e);
	assert_null(upstream_find(list, STR("pp"), &e));
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "did you mean \"p\""));
	assert_null(upstream_find(list, STR("something else"), &e));
	assert_non_null(strstr(e.msg, "unknown provider \"something else\""));
	upstreams_free(list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_address_text),
		cmocka_unit_test(test_good_upstreams),
		cmocka_unit_test(test_bad_upstreams),
		cmocka_unit_test(test_unknown_upstream),
	};
	log_open("test", 2, LOG_OFF, LOG_LOGFMT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
