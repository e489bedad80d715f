/* SPDX-License-Identifier: MIT
 * One blocking HTTP/1.1 exchange over a Unix socket. The answer may come by length, in chunks, or until the connection ends
 * (RFC 9112, 6.3); what is none of these, or says two of them, is refused. */
#include "net/local.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "loop/loop.h"

#define CHUNK (64u * KIB)

/* ---- the answer ---- */

struct head {
	size_t n; /* bytes, with the empty line */
	int status;
	int64_t length; /* -1: not said */
	bool is_chunked;
};

static bool
same_name(struct str name, const char *lower)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (lower[i] == '\0' || (c >= 'A' && c <= 'Z' ? c + 32 : c) != lower[i])
			return false;
	}
	return lower[name.n] == '\0';
}

static int
read_header(struct str line, struct head *h, struct err *e)
{
	ptrdiff_t colon = str_find_char(line, ':');
	if (colon <= 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER, "a header line without a name");
	struct str name = str_sub(line, 0, (size_t)colon), value = str_trim(str_sub(line, (size_t)colon + 1, line.n));

	if (same_name(name, "transfer-encoding")) {
		if (h->is_chunked || !same_name(value, "chunked"))
			return err_set(e, ERR_PROTO, ERR_TO_USER, "a transfer encoding that is not chunked");
		h->is_chunked = true;
	} else if (same_name(name, "content-length")) {
		int64_t n;
		if (str_i64(value, &n) != 0 || n < 0 || (h->length >= 0 && h->length != n))
			return err_set(e, ERR_PROTO, ERR_TO_USER, "a content length that is no length");
		h->length = n;
	}
	return 0;
}

/* 1: *h is filled; 0: it is not all there. */
static int
read_head(struct str in, struct head *h, struct err *e)
{
	ptrdiff_t end = str_find(in, STR("\r\n\r\n"));
	struct str rest, line;

	*h = (struct head){ .length = -1 };
	if (end < 0)
		return in.n <= FETCH_HEADERS_MAX ? 0 :
			err_set(e, ERR_LIMIT, ERR_TO_USER, "more than %u bytes of headers", FETCH_HEADERS_MAX);
	rest = str_sub(in, 0, (size_t)end);
	h->n = (size_t)end + 4;
	for (bool is_first = true; str_next(&rest, '\n', &line); is_first = false) {
		int64_t status;
		if (str_ends(line, "\r"))
			line.n--;
		if (!is_first) {
			if (read_header(line, h, e) != 0)
				return e->code;
			continue;
		}
		if (!str_starts(line, "HTTP/1.") || line.n < 12 || str_i64(str_sub(line, 9, 3), &status) != 0 || status < 100)
			return err_set(e, ERR_PROTO, ERR_TO_USER, "it does not speak HTTP/1.1");
		h->status = (int)status;
	}
	if (h->is_chunked && h->length >= 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER, "an answer with a length and in chunks");
	return 1;
}

static int
hex_of(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 1: the last chunk is there. */
static int
read_chunks(struct str in, struct buf *body, struct err *e)
{
	for (;;) {
		ptrdiff_t eol = str_find(in, STR("\r\n"));
		size_t n = 0, i = 0;

		if (eol < 0)
			return in.n <= 1024 ? 0 : err_set(e, ERR_PROTO, ERR_TO_USER, "a chunk without a size");
		for (; i < (size_t)eol && hex_of(in.p[i]) >= 0; i++) {
			if (n > JSON_TEXT_MAX)
				return err_set(e, ERR_LIMIT, ERR_TO_USER, "a chunk that is too large");
			n = n * 16 + (size_t)hex_of(in.p[i]);
		}
		if (i == 0 || (i < (size_t)eol && in.p[i] != ';'))
			return err_set(e, ERR_PROTO, ERR_TO_USER, "a chunk without a size");
		in = str_sub(in, (size_t)eol + 2, in.n);
		if (n == 0) /* trailers, if any, end with an empty line */
			return str_starts(in, "\r\n") || str_find(in, STR("\r\n\r\n")) >= 0;
		if (in.n < n + 2)
			return 0;
		if (in.p[n] != '\r' || in.p[n + 1] != '\n')
			return err_set(e, ERR_PROTO, ERR_TO_USER, "a chunk that is longer than its size");
		if (buf_add(body, in.p, n) != 0)
			return err_set(e, ERR_LIMIT, ERR_TO_USER, "the answer is larger than %zu bytes", body->max);
		in = str_sub(in, n + 2, in.n);
	}
}

static int
read_body(struct str in, const struct head *h, bool is_end, struct buf *body, struct err *e)
{
	if (h->status == 204 || h->status == 304)
		return 1;
	if (h->is_chunked)
		return read_chunks(in, body, e);
	if (h->length >= 0 && (uint64_t)h->length > in.n)
		return 0;
	if (h->length < 0 && !is_end)
		return 0;
	if (buf_add(body, in.p, h->length >= 0 ? (size_t)h->length : in.n) != 0)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "the answer is larger than %zu bytes", body->max);
	return 1;
}

int
local_answer_parse(struct str in, bool is_end, int *status, struct buf *body, struct err *e)
{
	size_t before = body->n;
	struct head h;
	int rc = read_head(in, &h, e);

	while (rc == 1 && h.status < 200) { /* 100 Continue and its like: another head follows */
		in = str_sub(in, h.n, in.n);
		rc = read_head(in, &h, e);
	}
	if (rc == 1)
		rc = read_body(str_sub(in, h.n, in.n), &h, is_end, body, e);
	if (rc == 0 && is_end)
		rc = err_set(e, ERR_NET, ERR_TO_USER, "the connection ended in the middle of the answer");
	if (rc == 1)
		*status = h.status;
	else
		buf_truncate(body, before);
	return rc;
}

/* ---- the exchange ---- */

void
local_escape(struct buf *b, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || memchr("-._~", c, 4) != NULL)
			buf_add_char(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

struct exchange {
	const struct local_request *r;
	int fd;
	int64_t until_ms;
	struct buf in;
};

static int
wait_ready(struct exchange *x, short events, struct err *e)
{
	struct pollfd p = { .fd = x->fd, .events = events };
	int64_t left = x->until_ms - clock_mono_ms();
	int n = left > 0 ? poll(&p, 1, (int)left) : 0;

	if (n < 0 && errno != EINTR)
		return err_errno(e, errno, ERR_TO_USER, "poll");
	return n != 0 ? 0 : err_set(e, ERR_TIMEOUT, ERR_TO_USER, "no answer within %lld ms", (long long)x->r->timeout_ms);
}

/* A server that refuses early closes its reading end: then what it says is worth more than EPIPE. */
static int
send_all(struct exchange *x, const char *p, size_t n, bool *is_refused, struct err *e)
{
	while (n > 0 && !*is_refused) {
		ssize_t sent = send(x->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			p += sent;
			n -= (size_t)sent;
		} else if (errno == EAGAIN) {
			if (wait_ready(x, POLLOUT, e) != 0)
				return e->code;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			*is_refused = true;
		} else if (errno != EINTR) {
			return err_errno(e, errno, ERR_TO_USER, "cannot send");
		}
	}
	return 0;
}

static int
send_chunks(struct exchange *x, bool *is_refused, struct err *e)
{
	char bytes[CHUNK + 32];
	ssize_t n;

	do {
		n = read(x->r->body_fd, bytes + 16, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot read what is to be sent");
		int digits = snprintf(bytes, 16, "%zx\r\n", (size_t)n);
		memmove(bytes + 16 - digits, bytes, (size_t)digits);
		memcpy(bytes + 16 + n, "\r\n", 2);
		if (send_all(x, bytes + 16 - digits, (size_t)digits + (size_t)n + 2, is_refused, e) != 0)
			return e->code;
	} while (n != 0 && !*is_refused);
	return 0;
}

static int
send_request(struct exchange *x, struct err *e)
{
	const struct local_request *r = x->r;
	bool is_refused = false;
	struct buf b;

	buf_init(&b, FETCH_HEADERS_MAX + FETCH_PATH_MAX);
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n", r->method, r->target);
	if (r->type != NULL)
		buf_printf(&b, "Content-Type: %s\r\n", r->type);
	if (r->body_fd > 0)
		buf_add_z(&b, "Transfer-Encoding: chunked\r\n\r\n");
	else
		buf_printf(&b, "Content-Length: %zu\r\n\r\n", r->type != NULL ? r->body.n : 0);
	int rc = b.overflow ? err_set(e, ERR_LIMIT, ERR_TO_USER, "the request is too long") :
		send_all(x, b.p, b.n, &is_refused, e);
	buf_fini(&b);
	if (rc == 0 && r->body_fd > 0)
		rc = send_chunks(x, &is_refused, e);
	else if (rc == 0 && r->type != NULL)
		rc = send_all(x, r->body.p, r->body.n, &is_refused, e);
	return rc;
}

static int
receive(struct exchange *x, int *status, struct buf *body, struct err *e)
{
	for (;;) {
		char *p = buf_reserve(&x->in, CHUNK);
		if (p == NULL)
			return err_set(e, ERR_LIMIT, ERR_TO_USER, "the answer is larger than %zu bytes", x->r->answer_max);
		if (wait_ready(x, POLLIN, e) != 0)
			return e->code;
		ssize_t n = recv(x->fd, p, CHUNK, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0 && errno != ECONNRESET)
			return err_errno(e, errno, ERR_TO_USER, "cannot read the answer");
		buf_added(&x->in, n > 0 ? (size_t)n : 0);
		int rc = local_answer_parse(buf_str(&x->in), n <= 0, status, body, e);
		if (rc != 0)
			return rc == 1 ? 0 : rc;
	}
}

/* White space or a line's end in it would begin another header. */
static bool
target_valid(const char *target)
{
	for (const char *p = target; *p != '\0'; p++) {
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return false;
	}
	return target[0] == '/';
}

int
local_http(const struct local_request *r, int *status, struct buf *body, struct err *e)
{
	struct exchange x = { .r = r, .until_ms = clock_mono_ms() + r->timeout_ms };
	int rc;

	if (!target_valid(r->target))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "%s can not be asked of %s", r->target, r->socket);
	x.fd = unix_connect(r->socket, e);
	if (x.fd < 0)
		return e->code;
	buf_init(&x.in, r->answer_max + FETCH_HEADERS_MAX + 2 * CHUNK);
	buf_init(body, r->answer_max);
	rc = send_request(&x, e);
	if (rc == 0)
		rc = receive(&x, status, body, e);
	if (rc != 0) {
		buf_fini(body);
		err_wrap(e, "%s %s", r->socket, r->target);
	}
	buf_fini(&x.in);
	close(x.fd);
	return rc;
}
