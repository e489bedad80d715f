/* SPDX-License-Identifier: MIT
 * HTTP over a Unix socket: the parser by every cut of good answers and by bad ones; the exchange against a server of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/path.h"
#include "loop/loop.h"
#include "net/local.h"

static void
expect(const char *text, bool is_end, int rc, int status, const char *body)
{
	struct buf b;
	struct err e = { 0 };
	int got = 0;

	buf_init(&b, 100);
	assert_int_equal(local_answer_parse(str_of(text), is_end, &got, &b, &e), rc);
	if (rc == 1) {
		assert_int_equal(got, status);
		assert_string_equal(buf_z(&b), body);
	}
	if (rc < 0)
		assert_int_not_equal(e.msg[0], 0);
	buf_fini(&b);
}

static void
test_good(void **state)
{
	static const struct {
		const char *text, *body;
		int status;
		bool needs_end;
	} rows[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, false },
		{ "HTTP/1.1 200 OK\r\nCONTENT-length:3\r\ncontent-length: 3\r\n\r\nabc", "abc", 200, false },
		{ "HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nabc", "abc", 404, true },
		{ "HTTP/1.1 204 No Content\r\n\r\n", "", 204, false },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "", 201, false },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "abcde", 200, false },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n", "0123456789", 200, false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char cut[256];
		size_t n = strlen(rows[i].text);
		expect(rows[i].text, true, 1, rows[i].status, rows[i].body);
		for (size_t k = 0; k < n; k++) {
			snprintf(cut, sizeof(cut), "%.*s", (int)k, rows[i].text);
			expect(cut, false, 0, 0, "");
		}
		if (!rows[i].needs_end)
			expect(rows[i].text, false, 1, rows[i].status, rows[i].body);
	}
}

static void
test_bad(void **state)
{
	static const char *const rows[] = {
		"SSH-2.0-x\r\n\r\n", "HTTP/1.1 ok\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\nno name\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
	};
	struct err e;
	struct buf b, in;
	int status;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_init(&b, 100);
		assert_true(local_answer_parse(str_of(rows[i]), false, &status, &b, &e) < 0);
		assert_int_equal(b.n, 0);
		buf_fini(&b);
	}
	expect("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, ERR_NET, 0, "");
	expect("", true, ERR_NET, 0, "");
	buf_init(&b, 100); /* past the named maxima */
	buf_init(&in, MIB);
	for (unsigned i = 0; i <= FETCH_HEADERS_MAX; i++)
		buf_add_char(&in, 'x');
	assert_int_equal(local_answer_parse(buf_str(&in), false, &status, &b, &e), ERR_LIMIT);
	buf_reset(&in);
	buf_add_z(&in, "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n");
	for (int i = 0; i < 101; i++)
		buf_add_char(&in, 'x');
	assert_int_equal(local_answer_parse(buf_str(&in), false, &status, &b, &e), ERR_LIMIT);
	buf_fini(&in);
	buf_fini(&b);
}

static void
test_escape(void **state)
{
	struct buf b;
	buf_init(&b, 100);
	local_escape(&b, STR("a/b c{\"~\xc3\xa4"));
	assert_string_equal(buf_z(&b), "a%2Fb%20c%7B%22~%C3%A4");
	buf_fini(&b);
}

/* ---- a server ---- */

struct server {
	char dir[64], path[80];
	pid_t pid;
};

/* Takes one connection, reads until `until` has come, answers and ends. What it read is in DIR/seen. */
static void
server_start(struct server *s, const char *until, const char *answer)
{
	struct err e;
	snprintf(s->dir, sizeof(s->dir), "/tmp/ithaca-local-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/s", s->dir);
	int fd = unix_listen(s->path, 0600, &e);
	assert_true(fd >= 0);
	s->pid = fork();
	if (s->pid == 0) {
		struct buf in;
		char seen[100];
		buf_init(&in, 4 * MIB);
		int c = -1;
		while (c < 0)
			c = accept(fd, NULL, NULL);
		while (buf_z(&in) != NULL && strstr(buf_z(&in), until) == NULL) {
			char bytes[4096];
			ssize_t n = recv(c, bytes, sizeof(bytes), 0);
			if (n <= 0)
				break;
			buf_add(&in, bytes, (size_t)n);
		}
		snprintf(seen, sizeof(seen), "%s/seen", s->dir);
		if (file_write(seen, buf_str(&in), 0600, NULL) != 0 || fd_write_all(c, answer, strlen(answer)) != 0)
			_exit(1);
		if (answer[0] == '\0') /* silent: until the client gives up */
			(void)!recv(c, seen, 1, 0);
		_exit(0);
	}
	close(fd);
}

static char *
server_stop(struct server *s)
{
	char path[100], *text = NULL;
	int status;
	size_t n;
	waitpid(s->pid, &status, 0);
	assert_int_equal(status, 0);
	snprintf(path, sizeof(path), "%s/seen", s->dir);
	assert_int_equal(file_read(path, 4 * MIB, &text, &n, NULL), 0);
	unlink(path);
	unlink(s->path);
	rmdir(s->dir);
	return text;
}

static void
test_exchange(void **state)
{
	struct server s;
	struct buf body;
	struct err e;
	int status, pipe_fds[2];

	server_start(&s, "{\"a\":1}", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
	struct local_request r = { .socket = s.path, .method = "POST", .target = "/x?y=z", .type = "application/json",
		.body = STR("{\"a\":1}"), .timeout_ms = 20000, .answer_max = 1000 };
	assert_int_equal(local_http(&r, &status, &body, &e), 0);
	assert_int_equal(status, 201);
	assert_string_equal(buf_z(&body), "ok");
	buf_fini(&body);
	char *seen = server_stop(&s);
	assert_int_equal(strncmp(seen, "POST /x?y=z HTTP/1.1\r\n", 22), 0);
	assert_non_null(strstr(seen, "\r\nContent-Length: 7\r\n"));
	free(seen);

	server_start(&s, "0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nok"); /* what a descriptor gives, in chunks */
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(write(pipe_fds[1], "twelve bytes", 12), 12);
	close(pipe_fds[1]);
	r.body_fd = pipe_fds[0];
	assert_int_equal(local_http(&r, &status, &body, &e), 0);
	assert_int_equal(status, 200);
	buf_fini(&body);
	close(pipe_fds[0]);
	seen = server_stop(&s);
	assert_non_null(strstr(seen, "\r\n\r\nc\r\ntwelve bytes\r\n0\r\n\r\n"));
	free(seen);

	server_start(&s, "\r\n\r\n", ""); /* says nothing */
	r = (struct local_request){ .socket = s.path, .method = "GET", .target = "/", .timeout_ms = 30, .answer_max = 10 };
	assert_int_equal(local_http(&r, &status, &body, &e), ERR_TIMEOUT);
	free(server_stop(&s));
	assert_int_equal(local_http(&r, &status, &body, &e), ERR_NOT_FOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_escape), cmocka_unit_test(test_exchange) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
