/* SPDX-License-Identifier: MIT
 * Requests to the proxy of cells. What is understood must not depend on where the bytes were cut;
 * the headers that go on must themselves be lines that end nowhere else; and a body's payload is
 * the same in pieces of any size. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/mem.h"
#include "broker/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_headers(struct str lines)
{
	struct str line;
	struct err e;

	while (str_next(&lines, '\n', &line)) {
		ptrdiff_t colon = str_find_char(line, ':');

		if (line.n == 0)
			continue;
		if (colon <= 0 || request_check_header(str_sub(line, 0, (size_t)colon),
					  str_sub(line, (size_t)colon + 1, line.n), true, &e) != 0)
			fatal("a header goes on that is none");
	}
}

static uint64_t
body_hash(struct str text, const struct proxy_request *r, size_t piece)
{
	struct proxy_body body;
	struct str payload;
	struct err e;
	uint64_t hash = 14695981039346656037u;
	size_t at = 0;

	proxy_body_init(&body, r);
	while (at < text.n && !body.is_done) {
		ptrdiff_t n = proxy_body_take(&body, str_sub(text, at, piece), &payload, &e);

		if (n < 0)
			return 1;
		if (n == 0 || payload.n > (size_t)n)
			fatal("a body that does not move");
		for (size_t i = 0; i < payload.n; i++)
			hash = (hash ^ (unsigned char)payload.p[i]) * 1099511628211u;
		at += (size_t)n;
	}
	return hash ^ at ^ (body.is_done ? 2 : 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_request r, cut;
	struct buf headers, other;
	struct err e;
	struct str text;
	int rc;

	if (size < 1)
		return 0;
	text = (struct str){ (const char *)data + 1, size - 1 };
	buf_init(&headers, EGRESS_HEAD_MAX);
	buf_init(&other, EGRESS_HEAD_MAX);
	rc = proxy_request_parse(text, &headers, &r, &e);
	if (rc == 1) {
		if (r.head_n > text.n || headers.overflow || (r.is_chunked && r.length >= 0))
			fatal("a request that cannot be");
		check_headers(buf_str(&headers));
		if (proxy_request_parse(str_sub(text, 0, r.head_n), &other, &cut, &e) != 1 ||
			cut.what != r.what || !str_eq(buf_str(&headers), buf_str(&other)))
			fatal("what stands behind a head changes it");
		buf_reset(&other);
		if (proxy_request_parse(str_sub(text, 0, r.head_n - 1), &other, &cut, &e) == 1)
			fatal("a head that ends before its end");
		text = str_sub(text, r.head_n, text.n);
		if (body_hash(text, &r, MAX(text.n, 1)) != body_hash(text, &r, data[0] % 16 + 1))
			fatal("a body that depends on where it is cut");
	}
	buf_fini(&headers);
	buf_fini(&other);
	return 0;
}
