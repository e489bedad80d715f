/* SPDX-License-Identifier: MIT
 * Requests to the proxy as tables: what each is understood as, whole and cut at every place, and
 * what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "broker/proxy.h"

#define H "Host: h\r\n"

/* "connect a:1", "forward GET a:80 /x len chunked", or "bad". */
static void
describe(struct str text, struct buf *out)
{
	char to[ENDPOINT_TEXT_SIZE] = "";
	struct proxy_request r;
	struct buf headers;
	struct err e = { 0 };
	int rc;

	buf_init(&headers, EGRESS_HEAD_MAX);
	rc = proxy_request_parse(text, &headers, &r, &e);
	if (rc <= 0) {
		buf_add_z(out, rc == 0 ? "more" : "bad");
		if (rc < 0 && e.msg[0] == '\0')
			fail_msg("refused without a reason");
		buf_fini(&headers);
		return;
	}
	if (r.what != PROXY_SERVICE)
		endpoint_text(&r.to, to);
	buf_printf(out, "%s %s %s %.*s %.*s",
		r.what == PROXY_CONNECT   ? "connect"
		: r.what == PROXY_FORWARD ? "forward"
					  : "service",
		r.method, to, STR_FMT(r.service), STR_FMT(r.path));
	if (r.length >= 0)
		buf_printf(out, " %lld", (long long)r.length);
	buf_printf(out, "%s%s%s|%.*s", r.is_chunked ? " chunked" : "",
		r.expects_continue ? " continue" : "", r.is_http10 ? " 1.0" : "",
		STR_FMT(buf_str(&headers)));
	if (r.head_n > text.n)
		fail_msg("a head longer than the request");
	buf_fini(&headers);
}

static void
expect(struct str text, const char *want)
{
	struct buf b;

	buf_init(&b, MIB);
	describe(text, &b);
	if (strcmp(buf_z(&b), want) != 0)
		fail_msg("%.*s\nis %s", STR_FMT(text), buf_z(&b));
	for (size_t n = 0; n < text.n && strcmp(want, "bad") != 0; n++) {
		buf_reset(&b);
		describe(str_sub(text, 0, n), &b);
		assert_string_equal(buf_z(&b), "more");
	}
	buf_fini(&b);
}

static void
test_good(void **in)
{
	expect(STR("CONNECT a.b:443 HTTP/1.1\r\n" H "\r\n"), "connect CONNECT a.b:443  |");
	expect(STR("CONNECT A.b.:443 HTTP/1.0\r\n\r\n"), "connect CONNECT a.b:443   1.0|");
	expect(STR("CONNECT [::1]:443 HTTP/1.1\r\n" H "Proxy-Authorization: Basic x\r\n\r\n"),
		"connect CONNECT [::1]:443  |");
	expect(STR("GET http://a.b/x?y HTTP/1.1\r\n" H "\r\n"), "forward GET a.b:80  /x?y|");
	expect(STR("GET HTTP://a.b HTTP/1.1\r\n" H "\r\n"), "forward GET a.b:80  |");
	expect(STR("PUT http://a.b:81?q HTTP/1.1\r\n" H
		   "Content-Length: 3\r\nExpect: 100-Continue\r\nA:\t b \r\n\r\n"),
		"forward PUT a.b:81  ?q 3 continue|A: b\n");
	expect(STR("POST http://a.b/ HTTP/1.1\r\n" H
		   "transfer-encoding: Chunked\r\nTE: x\r\nUpgrade: y\r\n\r\n"),
		"forward POST a.b:80  / chunked|");
	expect(STR("GET http://a/ HTTP/1.1\r\nConnection: X-One , close\r\nProxy-Connection: "
		   "x-two\r\n" H "x-one: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n"),
		"forward GET a:80  /|X-Three: 3\n");
	expect(STR("GET /svc/api/v1/x?y=/svc/ HTTP/1.1\r\n" H "\r\n"),
		"service GET  api /v1/x?y=/svc/|");
	expect(STR("GET /svc/api/ HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"),
		"service GET  api / 0|");
}

static void
test_bad(void **in)
{
	static const char *const bad[] = {
		"GET http://a/ HTTP/1.1\n\n",
		"\r\nGET http://a/ HTTP/1.1\r\n" H "\r\n",
		"GET http://a/\r\n\r\n",
		"GET http://a/ HTTP/2.0\r\n" H "\r\n",
		"GET http://a/ HTTP/1.1 \r\n" H "\r\n",
		"get http://a/ HTTP/1.1\r\n" H "\r\n",
		"G\tT http://a/ HTTP/1.1\r\n" H "\r\n",
		" GET http://a/ HTTP/1.1\r\n" H "\r\n",
		"GET  http://a/ HTTP/1.1\r\n" H "\r\n",
		"GET http://a/#x HTTP/1.1\r\n" H "\r\n",
		"GET http://a\\b/ HTTP/1.1\r\n" H "\r\n",
		"GET http://u@a/ HTTP/1.1\r\n" H "\r\n",
		"GET http:/// HTTP/1.1\r\n" H "\r\n",
		"GET ftp://a/ HTTP/1.1\r\n" H "\r\n",
		"GET https://a/ HTTP/1.1\r\n" H "\r\n",
		"GET / HTTP/1.1\r\n" H "\r\n",
		"OPTIONS * HTTP/1.1\r\n" H "\r\n",
		"GET /svc/ HTTP/1.1\r\n" H "\r\n",
		"GET /svc/api HTTP/1.1\r\n" H "\r\n",
		"GET /svc/api?x HTTP/1.1\r\n" H "\r\n",
		"CONNECT a HTTP/1.1\r\n" H "\r\n",
		"CONNECT http://a:1/ HTTP/1.1\r\n" H "\r\n",
		"CONNECT a:1 HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H H "\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H ": x\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x : y\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H " x: y\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x: y\r\n\tz\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x: y\nz: w\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x: y\rz: w\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x: \001\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "x: \177\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length: 1,1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length:\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Content-Length: 9999999999999999999\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H
		"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H
		"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\n" H "Expect: more\r\n\r\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect(str_of(bad[i]), "bad");
	expect(STR("GET http://a/ HTTP/1.1\r\n" H "x: a\0b\r\n\r\n"), "bad");
	expect(STR("GET http://a\0b/ HTTP/1.1\r\n" H "\r\n"), "bad");
}

static void
test_limits(void **in)
{
	struct buf b;

	buf_init(&b, MIB);
	buf_add_z(&b, "GET http://a/ HTTP/1.1\r\n" H);
	for (unsigned i = 1; i < EGRESS_HEADERS_MAX; i++)
		buf_add_z(&b, "x: y\r\n");
	size_t n = b.n;
	buf_add_z(&b, "\r\n");
	struct buf out;
	buf_init(&out, MIB);
	describe(buf_str(&b), &out);
	assert_true(str_starts(buf_str(&out), "forward"));
	buf_truncate(&b, n);
	buf_add_z(&b, "x: y\r\n\r\n");
	buf_reset(&out);
	describe(buf_str(&b), &out);
	assert_string_equal(buf_z(&out), "bad");
	buf_reset(&b);
	buf_add_z(&b, "GET http://a/ HTTP/1.1\r\nx: ");
	while (b.n < EGRESS_HEAD_MAX)
		buf_add_char(&b, 'y');
	buf_reset(&out);
	describe(buf_str(&b), &out);
	assert_string_equal(buf_z(&out), "bad");
	buf_fini(&out);
	buf_fini(&b);
}

/* The payload of a chunked body, or "bad"; fed in pieces of n bytes. *rest: bytes behind its end.
 */
static void
chunks(struct str text, size_t n, struct buf *out, size_t *rest)
{
	const struct proxy_request r = { .length = -1, .is_chunked = true };
	struct proxy_body body;
	struct err e;
	size_t at = 0;

	proxy_body_init(&body, &r);
	while (at < text.n && !body.is_done) {
		struct str payload;
		ptrdiff_t used = proxy_body_take(&body, str_sub(text, at, n), &payload, &e);

		if (used < 0) {
			buf_reset(out);
			buf_add_z(out, "bad");
			return;
		}
		assert_true(used > 0);
		buf_add_str(out, payload);
		at += (size_t)used;
	}
	if (!body.is_done)
		buf_add_z(out, "...");
	*rest = text.n - at;
}

static void
test_chunks(void **in)
{
	static const struct {
		const char *text, *want;
		size_t rest;
	} rows[] = {
		{ "0\r\n\r\n", "", 0 },
		{ "5\r\nhello\r\n0\r\n\r\n", "hello", 0 },
		{ "5\r\nhello\r\n000\r\n\r\nGET", "hello", 3 },
		{ "A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "0123456789x", 0 },
		{ "5\r\nhel", "hel...", 0 },
		{ "5;a=b\r\nhello\r\n0\r\n\r\n", "bad", 0 },
		{ "5 \r\nhello\r\n0\r\n\r\n", "bad", 0 },
		{ " 5\r\nhello\r\n", "bad", 0 },
		{ "\r\n", "bad", 0 },
		{ "-1\r\n", "bad", 0 },
		{ "0x5\r\nhello\r\n", "bad", 0 },
		{ "5\nhello\r\n", "bad", 0 },
		{ "5\r\nhello0\r\n\r\n", "bad", 0 },
		{ "4\r\nhello\r\n", "bad", 0 },
		{ "5\r\nhello\n0\r\n\r\n", "bad", 0 },
		{ "0\r\nTrailer: x\r\n\r\n", "bad", 0 },
		{ "0\r\n\rx", "bad", 0 },
		{ "123456789\r\n", "bad", 0 },
		{ "g\r\n", "bad", 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t n = 1; n <= strlen(rows[i].text); n++) {
			struct buf out;
			size_t rest = 0;

			buf_init(&out, MIB);
			chunks(str_of(rows[i].text), n, &out, &rest);
			if (strcmp(buf_z(&out), rows[i].want) != 0 ||
				(strcmp(rows[i].want, "bad") != 0 && rest != rows[i].rest))
				fail_msg("%s by %zu: %s, %zu left", rows[i].text, n, buf_z(&out),
					rest);
			buf_fini(&out);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_chunks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
