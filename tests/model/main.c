/* SPDX-License-Identifier: MIT
 * ithaca-model: serves scripted model answers on 127.0.0.1 over HTTP/1.1, byte for byte, and
 * records every request. One epoll loop, no threads; connections are kept alive. Not part of the
 * product: it trusts its clients. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"

#define READ_SIZE  65536
#define EVENTS_MAX 256

struct conn {
	int fd;
	struct conn *next, *prev;
	struct buf in;
	struct buf body; /* decoded, when it came in chunks */
	size_t head_n;   /* bytes of the head with its empty line, 0: not whole yet */
	size_t decoded;  /* bytes of `in` behind the head that are in body already */
	int64_t length;  /* of the body, -1: in chunks */
	int64_t arrived_us;
	bool told_continue;
	bool is_sending, is_blocked;
	bool is_model; /* what is being sent answers request `seq` */
	struct answer answer;
	size_t sent, mark;
	int64_t due_us; /* sending goes on then; 0: now */
	int64_t paced_us; /* the pauses so far end then: one that was noticed late does not delay the next; 0: none */
	uint64_t seq;
};

struct server {
	int epoll, listener, log;
	bool stop_at_eof;
	struct script *script;
	struct conn *conns;
	struct arena *a; /* of one request */
	uint64_t seq;
};

static const char default_script[] = "{repeat: true, steps: [{answer: [{text: ok}]}]}";

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "ithaca-model: %s: %s\n", what, why);
	exit(2);
}

/* ---- log ---- */

static void
log_line(struct server *s, struct buf *line)
{
	buf_add_char(line, '\n');
	if (fd_write_all(s->log, line->p, line->n) != 0)
		die("log", strerror(errno));
	buf_fini(line);
}

static void
log_headers(struct json *j, struct str headers)
{
	struct str l;

	json_kv_obj(j, "headers");
	while (str_next(&headers, '\n', &l)) {
		ptrdiff_t colon = str_find_char(l, ':');

		if (colon <= 0)
			continue;
		json_key_str(j, str_sub(l, 0, (size_t)colon));
		json_str(j, str_trim(str_sub(l, (size_t)colon + 1, l.n)));
	}
	json_obj_end(j);
}

static void
log_request(struct server *s, const struct request *r, bool is_model)
{
	struct buf line;
	struct json j;

	if (s->log < 0)
		return;
	buf_init(&line, 8 * REQUEST_MAX);
	json_init(&j, &line);
	json_obj(&j);
	if (is_model)
		json_kv_int(&j, "seq", (int64_t)r->seq);
	json_kv_int(&j, "t_us", r->arrived_us);
	json_kv_int(&j, "t_whole_us", r->complete_us);
	json_kv_str(&j, "method", r->method);
	json_kv_str(&j, "path", r->path);
	log_headers(&j, r->headers);
	json_key(&j, "body");
	if (r->json)
		json_raw(&j, str_trim(r->body));
	else
		json_str(&j, r->body);
	json_kv_int(&j, "results", r->results);
	json_obj_end(&j);
	for (size_t i = 0; i < line.n; i++) /* a body may have been written over several lines */
		if (line.p[i] == '\n' || line.p[i] == '\r')
			line.p[i] = ' ';
	log_line(s, &line);
}

/* The last byte of an answer was given to the kernel: from here on the client's time counts. */
static void
log_answered(struct server *s, const struct conn *c)
{
	struct buf line;

	if (s->log < 0 || !c->is_model)
		return;
	buf_init(&line, KIB);
	buf_printf(&line, "{\"answered\":%llu,\"t_us\":%lld}", (unsigned long long)c->seq,
		(long long)clock_mono_us());
	log_line(s, &line);
}

/* The client closed while its answer was being sent: how a test sees a cancel. */
static void
log_gone(struct server *s, const struct conn *c)
{
	struct buf line;

	if (s->log < 0 || !c->is_sending)
		return;
	buf_init(&line, KIB);
	buf_printf(&line, "{\"gone\":%llu,\"t_us\":%lld,\"sent\":%zu}", (unsigned long long)c->seq,
		(long long)clock_mono_us(), c->sent);
	log_line(s, &line);
}

/* ---- connections ---- */

static void
conn_watch(struct server *s, struct conn *c, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | (c->is_blocked ? EPOLLOUT : 0),
		.data.ptr = c };

	if (epoll_ctl(s->epoll, op, c->fd, &ev) != 0)
		die("epoll_ctl", strerror(errno));
}

static void
conn_accept(struct server *s)
{
	int one = 1;

	for (;;) {
		struct conn *c;
		int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c = xcalloc(1, sizeof(*c));
		c->fd = fd;
		buf_init(&c->in, REQUEST_HEAD_MAX + 2 * REQUEST_MAX);
		buf_init(&c->body, REQUEST_MAX);
		c->next = s->conns;
		if (c->next)
			c->next->prev = c;
		s->conns = c;
		conn_watch(s, c, EPOLL_CTL_ADD);
	}
}

static void
conn_close(struct server *s, struct conn *c, bool reset)
{
	struct linger now = { 1, 0 };

	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	answer_fini(&c->answer);
	buf_fini(&c->in);
	buf_fini(&c->body);
	free(c);
}

/* ---- sending ---- */

enum sent { SENT_ALL, SENT_WAITS, SENT_GONE };

/* As much as the marks and the socket allow. The connection is released on SENT_GONE. */
static enum sent
conn_send(struct server *s, struct conn *c)
{
	struct answer *a = &c->answer;

	for (;;) {
		const struct mark *m = c->mark < a->n ? &a->marks[c->mark] : NULL;
		size_t end = m ? m->offset : a->bytes.n;
		ssize_t n;

		if (c->sent < end) {
			n = send(c->fd, a->bytes.p + c->sent, end - c->sent, MSG_NOSIGNAL);
			if (n < 0 && errno == EAGAIN) {
				c->is_blocked = true;
				conn_watch(s, c, EPOLL_CTL_MOD);
				return SENT_WAITS;
			}
			if (n < 0) {
				log_gone(s, c);
				conn_close(s, c, false);
				return SENT_GONE;
			}
			c->sent += (size_t)n;
			continue;
		}
		if (!m)
			return SENT_ALL;
		c->mark++;
		if (m->type != MARK_PAUSE) {
			conn_close(s, c, m->type == MARK_RESET);
			return SENT_GONE;
		}
		if (m->ms > 0) {
			c->paced_us = (c->paced_us > 0 ? c->paced_us : clock_mono_us()) + m->ms * 1000;
			c->due_us = c->paced_us;
			return SENT_WAITS;
		}
	}
}

/* ---- requests ---- */

static void
answer_model(struct server *s, struct conn *c, struct request *r)
{
	const struct node *step;
	struct buf why;

	r->seq = c->seq = s->seq++;
	c->is_model = true;
	request_read(r, s->a);
	log_request(s, r, true);
	step = script_choose(s->script, r);
	if (step) {
		render(step, script_usage(s->script), r, &c->answer);
		return;
	}
	buf_init(&why, KIB);
	buf_printf(&why,
		"{\"error\":{\"type\":\"no_step\",\"message\":\"the script has no answer for "
		"request %llu with %lld "
		"tool results\"}}",
		(unsigned long long)r->seq, (long long)r->results);
	render_plain(&c->answer, 404, "application/json", STR(""), buf_str(&why));
	buf_fini(&why);
}

/* Embeddings do not count as steps: a script of answers stays what it is beside them. */
static void
answer_embeddings(struct server *s, struct conn *c, struct request *r)
{
	const struct node *step;

	r->seq = s->seq;
	request_read(r, s->a);
	log_request(s, r, false);
	step = script_choose(s->script, r);
	if (step)
		render(step, script_usage(s->script), r, &c->answer);
	else
		render_embeddings(r, script_dims(s->script), &c->answer);
}

static void
answer_request(struct server *s, struct conn *c, struct request *r)
{
	answer_init(&c->answer);
	c->is_model = false;
	r->api = request_api(r);
	if (r->api >= API_EMBED) {
		answer_embeddings(s, c, r);
		return;
	}
	if (r->api != API_NONE) {
		answer_model(s, c, r);
		return;
	}
	log_request(s, r, false);
	if (str_ends(r->path, "/health"))
		render_plain(&c->answer, 200, "text/plain", STR(""), STR("ok\n"));
	else if (str_ends(r->path, "/models"))
		render_plain(&c->answer, 200, "application/json", STR(""),
			STR("{\"object\":\"list\",\"data\":[{\"id\":\"x\",\"object\":\"model\"}]"
			    "}"));
	else
		render_plain(&c->answer, 404, "application/json", STR(""),
			STR("{\"error\":{\"type\":\"not_found_error\",\"message\":\"no such "
			    "path\"}}"));
}

static struct str
header(struct str headers, const char *name)
{
	struct str l;
	size_t n = strlen(name);

	while (str_next(&headers, '\n', &l))
		if (l.n > n && l.p[n] == ':' && strncasecmp(l.p, name, n) == 0)
			return str_trim(str_sub(l, n + 1, l.n));
	return STR("");
}

/* The head, once it is whole. -1: not HTTP. */
static int
read_head(struct conn *c)
{
	struct str in = buf_str(&c->in), head;
	ptrdiff_t end = str_find(in, STR("\r\n\r\n"));
	struct str length;

	if (end < 0)
		return in.n > REQUEST_HEAD_MAX ? -1 : 0;
	c->head_n = (size_t)end + 4;
	head = str_sub(in, 0, c->head_n);
	length = header(head, "content-length");
	c->length = 0;
	if (str_ends(header(head, "transfer-encoding"), "chunked"))
		c->length = -1;
	else if (length.n &&
		 (str_i64(length, &c->length) != 0 || c->length < 0 || c->length > REQUEST_MAX))
		return -1;
	if (header(head, "expect").n && !c->told_continue) {
		c->told_continue = true;
		if (send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL) != 25)
			return -1;
	}
	return 0;
}

/* Decodes what has come of a body in chunks. 1: whole, 0: more to come, -1: broken. */
static int
read_chunks(struct conn *c)
{
	for (;;) {
		struct str in = str_sub(buf_str(&c->in), c->head_n + c->decoded, c->in.n);
		ptrdiff_t eol = str_find(in, STR("\r\n"));
		char size_z[17] = "";
		size_t size;

		if (eol < 0)
			return 0;
		if (eol == 0 || eol > 16)
			return -1;
		memcpy(size_z, in.p, (size_t)eol);
		size = strtoul(size_z, NULL, 16);
		if (size > REQUEST_MAX)
			return -1;
		if (in.n < (size_t)eol + 2 + size + 2)
			return 0;
		if (buf_add(&c->body, in.p + eol + 2, size) != 0)
			return -1;
		c->decoded += (size_t)eol + 2 + size + 2;
		if (size == 0)
			return 1;
	}
}

/* 1: a whole request is there, 0: more to come, -1: broken. */
static int
read_request(struct conn *c, struct request *r)
{
	struct str in, line, rest;
	int rc;

	if (c->head_n == 0 && read_head(c) != 0)
		return -1;
	if (c->head_n == 0)
		return 0;
	if (c->length < 0) {
		rc = read_chunks(c);
		if (rc <= 0)
			return rc;
	} else if (c->in.n < c->head_n + (size_t)c->length) {
		return 0;
	}
	in = buf_str(&c->in);
	rest = str_sub(in, 0, c->head_n);
	if (!str_next(&rest, '\n', &line) || !str_next(&line, ' ', &r->method) ||
		!str_next(&line, ' ', &r->path))
		return -1;
	r->headers = rest;
	r->body = c->length < 0 ? buf_str(&c->body) : str_sub(in, c->head_n, (size_t)c->length);
	r->arrived_us = c->arrived_us;
	r->complete_us = clock_mono_us();
	return 1;
}

/* Goes on with a connection as far as it can: rest of an answer, next request that is already here.
 */
static void
conn_go_on(struct server *s, struct conn *c)
{
	for (;;) {
		struct request r = { .model = STR("scripted"),
			.user = STR(""),
			.result = STR(""),
			.system = STR("") };
		bool closes;
		int rc;

		if (c->is_sending) {
			if (conn_send(s, c) != SENT_ALL)
				return;
			log_answered(s, c);
			closes = c->answer.close;
			answer_fini(&c->answer);
			c->is_sending = false;
			c->sent = c->mark = 0;
			c->paced_us = 0;
			if (closes) {
				conn_close(s, c, false);
				return;
			}
		}
		rc = read_request(c, &r);
		if (rc < 0) {
			conn_close(s, c, false);
			return;
		}
		if (rc == 0)
			return;
		arena_reset(s->a);
		answer_request(s, c, &r);
		c->is_sending = true;
		buf_consume(&c->in, c->head_n + (c->length < 0 ? c->decoded : (size_t)c->length));
		buf_reset(&c->body);
		c->head_n = c->decoded = 0;
		c->told_continue = false;
		c->arrived_us = c->in.n ? clock_mono_us() : 0;
	}
}

/* false: the connection is gone. */
static bool
conn_read(struct server *s, struct conn *c)
{
	for (;;) {
		char *p = buf_reserve(&c->in, READ_SIZE);
		ssize_t n = p ? recv(c->fd, p, READ_SIZE, 0) : 0;

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			log_gone(s, c);
			conn_close(s, c, false);
			return false;
		}
		if (c->arrived_us == 0)
			c->arrived_us = clock_mono_us();
		buf_added(&c->in, (size_t)n);
		if (n < READ_SIZE)
			return true;
	}
}

static void
conn_event(struct server *s, struct conn *c, uint32_t events)
{
	if (c->is_blocked && (events & EPOLLOUT)) {
		c->is_blocked = false;
		conn_watch(s, c, EPOLL_CTL_MOD);
	}
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && !conn_read(s, c))
		return;
	if (c->due_us == 0 && !c->is_blocked)
		conn_go_on(s, c);
}

/* ---- the loop ---- */

/* Milliseconds until the next pause ends, -1: none. Ends those that are over. */
static int
run_due(struct server *s)
{
	int64_t now = clock_mono_us(), first = INT64_MAX;
	struct conn *c, *next;

	for (c = s->conns; c; c = next) {
		next = c->next;
		if (c->due_us == 0)
			continue;
		if (c->due_us <= now) {
			c->due_us = 0;
			conn_go_on(s, c);
		}
	}
	for (c = s->conns; c; c = c->next)
		if (c->due_us > 0)
			first = MIN(first, c->due_us);
	if (first == INT64_MAX)
		return -1;
	return (int)((MAX(first - clock_mono_us(), 0) + 999) / 1000);
}

static void
loop(struct server *s)
{
	struct epoll_event events[EVENTS_MAX];
	char byte;

	for (;;) {
		int n = epoll_wait(s->epoll, events, EVENTS_MAX, run_due(s));

		if (n < 0 && errno != EINTR)
			die("epoll_wait", strerror(errno));
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &s->listener)
				conn_accept(s);
			else if (events[i].data.ptr == &s->stop_at_eof) {
				if (read(STDIN_FILENO, &byte, 1) <= 0)
					return;
			} else {
				conn_event(s, events[i].data.ptr, events[i].events);
			}
		}
	}
}

static void
start(struct server *s, int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &s->listener };
	socklen_t size = sizeof(at);
	int one = 1;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener < 0 ||
		setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
		bind(s->listener, (struct sockaddr *)&at, size) != 0 ||
		listen(s->listener, 4096) != 0 ||
		getsockname(s->listener, (struct sockaddr *)&at, &size) != 0)
		die("listen", strerror(errno));
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &ev) != 0)
		die("epoll", strerror(errno));
	ev.data.ptr = &s->stop_at_eof;
	if (s->stop_at_eof && epoll_ctl(s->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev) != 0)
		die("stdin", "-e needs a pipe or a terminal");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
}

static void
load(struct server *s, const char *file, const char *inline_text)
{
	char *text = NULL;
	size_t n = 0;
	struct err e = { 0 };
	struct str yaml = str_of(inline_text ? inline_text : default_script);

	if (file && file_read(file, YAML_TEXT_MAX, &text, &n, &e) != 0)
		die(file, e.msg);
	if (text)
		yaml = (struct str){ text, n };
	if (script_load(file ? file : "script", yaml, &s->script, &e) != 0)
		die("script", e.msg);
	free(text);
}

static void
usage(void)
{
	fputs("usage: ithaca-model [-p PORT] [-l LOGFILE] [-e] [-y YAML | SCRIPT.yaml]\n"
	      "Serves scripted model answers on 127.0.0.1 and prints the port. -e: ends when "
	      "standard input ends.\n",
		stderr);
	exit(2);
}

int
main(int argc, char **argv)
{
	struct server s = { .log = -1 };
	const char *text = NULL;
	int64_t port = 0;
	int opt;

	while ((opt = getopt(argc, argv, "p:l:y:e")) != -1) {
		if (opt == 'p' && (str_i64(str_of(optarg), &port) != 0 || port < 0 || port > 65535))
			usage();
		if (opt == 'l') {
			s.log = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
			if (s.log < 0)
				die(optarg, strerror(errno));
		}
		if (opt == 'y')
			text = optarg;
		if (opt == 'e')
			s.stop_at_eof = true;
		if (opt == '?')
			usage();
	}
	signal(SIGPIPE, SIG_IGN);
	load(&s, optind < argc ? argv[optind] : NULL, text);
	s.a = arena_new(1024u * MIB);
	start(&s, (int)port);
	loop(&s);
	while (s.conns)
		conn_close(&s, s.conns, false);
	script_free(s.script);
	arena_free(s.a);
	return 0;
}
