/* SPDX-License-Identifier: MIT
 * What a program in a cell may say to the proxy: the head of one HTTP/1 request, and the framing of
 * its body. Strict: whatever two readers could understand differently (two lengths, a length beside
 * chunks, a bare line feed, a folded line, a blank before a colon) is refused, never mended.
 * Invariant: what is passed on was written anew from what was understood. */
#include <stdio.h>
#include <strings.h>
#include "base/limits.h"
#include "broker/proxy.h"

#define METHOD_MAX 16

/* Names that speak about this connection, or that the proxy writes itself. */
static const char *const hop_names[] = {
	"connection",
	"proxy-connection",
	"keep-alive",
	"proxy-authorization",
	"proxy-authenticate",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
	"host",
	"content-length",
	"expect",
	"http2-settings",
};

static int
bad(struct err *e, const char *why)
{
	return err_set(e, ERR_PROTO, ERR_TO_MODEL, "bad request: %s", why);
}

static bool
name_is(struct str a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

/* ---- lines ---- */

/* A line without its CRLF. 1, 0: more bytes are needed, or an error. */
static int
next_line(struct str in, size_t *at, struct str *line, struct err *e)
{
	for (size_t i = *at; i < in.n; i++) {
		unsigned char c = (unsigned char)in.p[i];

		if (c == '\n')
			return bad(e, "a line feed without a carriage return");
		if (c == '\r' && i + 1 == in.n)
			return 0;
		if (c == '\r' && in.p[i + 1] != '\n')
			return bad(e, "a carriage return inside a line");
		if (c == '\r') {
			*line = str_sub(in, *at, i - *at);
			*at = i + 2;
			return 1;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return bad(e, "a control character");
	}
	return 0;
}

/* ---- the first line ---- */

static int
parse_method(struct str m, struct proxy_request *out, struct err *e)
{
	if (m.n == 0 || m.n > METHOD_MAX)
		return bad(e, "no method that is known");
	for (size_t i = 0; i < m.n; i++)
		if (!((m.p[i] >= 'A' && m.p[i] <= 'Z') || m.p[i] == '-'))
			return bad(e, "a method is written in capital letters");
	memcpy(out->method, m.p, m.n);
	out->method[m.n] = '\0';
	return 0;
}

static int
check_target(struct str t, struct err *e)
{
	for (size_t i = 0; i < t.n; i++) {
		unsigned char c = (unsigned char)t.p[i];

		if (c <= 0x20 || c >= 0x7f)
			return bad(e, "a character in the address that must be percent-encoded");
		if (c == '#' || c == '\\')
			return bad(e, "an address with # or \\");
	}
	return t.n > FETCH_PATH_MAX ? bad(e, "an address that is too long") : 0;
}

/* /svc/NAME/path */
static int
parse_service(struct str t, struct proxy_request *out, struct err *e)
{
	struct str rest = str_sub(t, strlen(PROXY_SERVICE_PREFIX), t.n);
	ptrdiff_t end = 0;

	while ((size_t)end < rest.n && rest.p[end] != '/' && rest.p[end] != '?')
		end++;
	out->what = PROXY_SERVICE;
	out->service = str_sub(rest, 0, (size_t)end);
	out->path = str_sub(rest, (size_t)end, rest.n);
	if (out->service.n == 0)
		return bad(e, "no service is named (write /svc/NAME/path)");
	if (out->path.n == 0 || out->path.p[0] != '/')
		return bad(e, "no path behind the service (write /svc/NAME/path)");
	return 0;
}

static int
parse_absolute(struct str t, struct proxy_request *out, struct err *e)
{
	struct str rest = str_sub(t, 7, t.n), authority;
	size_t n = 0;

	while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
		n++;
	authority = str_sub(rest, 0, n);
	out->what = PROXY_FORWARD;
	out->path = str_sub(rest, n, rest.n);
	if (str_find_char(authority, '@') >= 0)
		return bad(e, "an address with a user name");
	return endpoint_parse(authority, 80, &out->to, e);
}

static int
parse_target(struct str t, struct proxy_request *out, struct err *e)
{
	if (check_target(t, e) != 0)
		return e->code;
	if (strcmp(out->method, "CONNECT") == 0) {
		out->what = PROXY_CONNECT;
		return endpoint_parse(t, 0, &out->to, e);
	}
	if (t.n >= 7 && strncasecmp(t.p, "http://", 7) == 0)
		return parse_absolute(t, out, e);
	if (str_starts(t, PROXY_SERVICE_PREFIX))
		return parse_service(t, out, e);
	if (t.n >= 8 && strncasecmp(t.p, "https://", 8) == 0)
		return bad(e, "an https address (a proxy is asked by CONNECT host:443 for it)");
	return bad(e, "this is a proxy (CONNECT host:port, http://host/path or /svc/NAME/path)");
}

static int
parse_first(struct str line, struct proxy_request *out, struct err *e)
{
	ptrdiff_t a = str_find_char(line, ' ');
	struct str rest = a < 0 ? STR("") : str_sub(line, (size_t)a + 1, line.n);
	ptrdiff_t b = str_find_char(rest, ' ');
	struct str version;

	if (a <= 0 || b <= 0)
		return bad(e, "its first line is not METHOD ADDRESS HTTP/1.1");
	version = str_sub(rest, (size_t)b + 1, rest.n);
	out->is_http10 = str_is(version, "HTTP/1.0");
	if (!out->is_http10 && !str_is(version, "HTTP/1.1"))
		return bad(e, "its version is not HTTP/1.1");
	if (parse_method(str_sub(line, 0, (size_t)a), out, e) != 0)
		return e->code;
	return parse_target(str_sub(rest, 0, (size_t)b), out, e);
}

/* ---- headers ---- */

static int
read_length(struct str value, struct proxy_request *out, struct err *e)
{
	uint64_t n;

	if (out->length >= 0)
		return bad(e, "Content-Length twice");
	if (value.n > 18 || str_u64(value, &n) != 0)
		return bad(e, "a Content-Length that is no number");
	out->length = (int64_t)n;
	return 0;
}

static int
read_framing(
	struct str name, struct str value, struct proxy_request *out, int *hosts, struct err *e)
{
	if (name_is(name, "content-length"))
		return read_length(value, out, e);
	if (name_is(name, "host") && ++*hosts > 1)
		return bad(e, "Host twice");
	if (name_is(name, "transfer-encoding")) {
		if (out->is_chunked || !name_is(value, "chunked") || out->is_http10)
			return bad(e, "a Transfer-Encoding that is not chunked");
		out->is_chunked = true;
	}
	if (name_is(name, "expect")) {
		if (!name_is(value, "100-continue"))
			return bad(e, "an Expect that is not 100-continue");
		out->expects_continue = true;
	}
	return 0;
}

static int
split_header(struct str line, struct str *name, struct str *value, struct err *e)
{
	ptrdiff_t colon = str_find_char(line, ':');

	if (line.p[0] == ' ' || line.p[0] == '\t')
		return bad(e, "a header that goes on in a second line");
	if (colon <= 0)
		return bad(e, "a header without a name or a colon");
	*name = str_sub(line, 0, (size_t)colon);
	*value = str_trim(str_sub(line, (size_t)colon + 1, line.n));
	return request_check_header(*name, *value, true, e);
}

/* Names that a Connection header lists are about this connection too. */
static bool
is_listed(struct str connection, struct str name)
{
	struct str one;

	while (str_next(&connection, ',', &one)) {
		one = str_trim(one);
		if (one.n == name.n && strncasecmp(one.p, name.p, name.n) == 0)
			return true;
	}
	return false;
}

static bool
is_hop(struct str connections, struct str name)
{
	struct str line;

	for (size_t i = 0; i < ARRAY_LEN(hop_names); i++)
		if (name_is(name, hop_names[i]))
			return true;
	while (str_next(&connections, '\n', &line))
		if (is_listed(line, name))
			return true;
	return false;
}

/* What goes on: as "name: value\n" lines. */
static void
keep_headers(struct str lines, struct str connections, struct buf *out)
{
	struct str line, name, value;
	struct err e;
	size_t at = 0;

	while (next_line(lines, &at, &line, &e) == 1) {
		if (line.n == 0 || split_header(line, &name, &value, &e) != 0 ||
			is_hop(connections, name))
			continue;
		buf_add_str(out, name);
		buf_add_z(out, ": ");
		buf_add_str(out, value);
		buf_add_char(out, '\n');
	}
}

static int
check_whole(const struct proxy_request *r, int hosts, struct err *e)
{
	if (r->is_chunked && r->length >= 0)
		return bad(e, "Content-Length beside Transfer-Encoding");
	if (!r->is_http10 && hosts == 0)
		return bad(e, "no Host");
	if (r->what == PROXY_CONNECT && (r->is_chunked || r->length > 0))
		return bad(e, "CONNECT with a body");
	return 0;
}

static int
parse_headers(struct str in, size_t at, struct buf *headers, struct proxy_request *r, struct err *e)
{
	struct str line, name, value;
	struct buf connections;
	size_t first = at, n = 0;
	int hosts = 0, rc;

	buf_init(&connections, EGRESS_HEAD_MAX);
	while ((rc = next_line(in, &at, &line, e)) == 1 && line.n > 0) {
		if (++n > EGRESS_HEADERS_MAX)
			rc = bad(e, "too many headers");
		else if (split_header(line, &name, &value, e) != 0 ||
			 read_framing(name, value, r, &hosts, e) != 0)
			rc = e->code;
		if (rc < 0)
			break;
		if (name_is(name, "connection") || name_is(name, "proxy-connection")) {
			buf_add_str(&connections, value);
			buf_add_char(&connections, '\n');
		}
	}
	if (rc == 1 && check_whole(r, hosts, e) != 0)
		rc = e->code;
	if (rc == 1) {
		keep_headers(str_sub(in, first, at - first), buf_str(&connections), headers);
		r->head_n = at;
	}
	buf_fini(&connections);
	return rc;
}

int
proxy_request_parse(struct str in, struct buf *headers, struct proxy_request *out, struct err *e)
{
	struct proxy_request r = { .length = -1 };
	struct str line, head = str_sub(in, 0, EGRESS_HEAD_MAX);
	size_t at = 0;
	int rc = next_line(head, &at, &line, e);

	if (rc == 1)
		rc = parse_first(line, &r, e) != 0 ? e->code : 1;
	if (rc == 1)
		rc = parse_headers(head, at, headers, &r, e);
	if (rc == 0 && in.n >= EGRESS_HEAD_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"bad request: a head of more than %u bytes", EGRESS_HEAD_MAX);
	if (rc == 1)
		*out = r;
	return rc;
}

/* ---- the body ---- */

void
proxy_body_init(struct proxy_body *b, const struct proxy_request *r)
{
	*b = (struct proxy_body){ .left = r->is_chunked ? 0 : MAX(r->length, 0),
		.is_chunked = r->is_chunked,
		.state = r->is_chunked ? CHUNK_SIZE : CHUNK_DATA };
	b->is_done = !r->is_chunked && b->left == 0;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of what stands around the chunks. */
static int
frame_byte(struct proxy_body *b, char c, struct err *e)
{
	static const struct {
		char c;
		enum chunk_state next;
	} fixed[] = {
		[CHUNK_SIZE_LF] = { '\n', CHUNK_DATA },
		[CHUNK_CR] = { '\r', CHUNK_LF },
		[CHUNK_LF] = { '\n', CHUNK_SIZE },
		[CHUNK_END_CR] = { '\r', CHUNK_END_LF },
		[CHUNK_END_LF] = { '\n', CHUNK_END_LF },
	};
	int digit = hex_digit(c);

	if (b->state == CHUNK_SIZE) {
		if (digit >= 0 && b->digits < 8) {
			b->left = b->left * 16 + digit;
			b->digits++;
			return 0;
		}
		if (c != '\r' || b->digits == 0)
			return bad(e, "the size of a chunk is not a plain hexadecimal number");
		b->state = CHUNK_SIZE_LF;
		return 0;
	}
	if (c != fixed[b->state].c)
		return bad(e, "a chunk that does not end where it says");
	b->is_done = b->state == CHUNK_END_LF;
	b->state = fixed[b->state].next;
	b->digits = 0;
	if (b->state == CHUNK_DATA && b->left == 0)
		b->state = CHUNK_END_CR;
	return 0;
}

ptrdiff_t
proxy_body_take(struct proxy_body *b, struct str in, struct str *payload, struct err *e)
{
	size_t at = 0;

	*payload = STR("");
	while (at < in.n && !b->is_done) {
		if (b->state == CHUNK_DATA) {
			*payload = str_sub(in, at, (size_t)MIN((int64_t)(in.n - at), b->left));
			b->left -= (int64_t)payload->n;
			if (b->left == 0 && b->is_chunked)
				b->state = CHUNK_CR;
			else if (b->left == 0)
				b->is_done = true;
			return (ptrdiff_t)(at + payload->n);
		}
		if (frame_byte(b, in.p[at], e) != 0)
			return e->code;
		at++;
	}
	return (ptrdiff_t)at;
}
