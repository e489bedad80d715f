/* SPDX-License-Identifier: MIT
 * An HTTP server of plain blocking sockets on a thread: reads one request at a time and lets the
 * test's script answer it. It keeps what it read and counts connections; a script that waits for
 * the client to go away needs no clock. */
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"

struct server;
/* Answers the n-th request (from 0) on fd. Returns whether the connection stays open for another
 * one. */
typedef bool (*server_script)(struct server *s, int fd, int n);

struct server {
	int listen_fd, port;
	pthread_t thread;
	server_script script;
	char *request; /* the last one: head and body */
	size_t head_n, body_n;
	int requests;
	atomic_int connections;
	atomic_int closed; /* connections that the client closed while a script waited for that */
	atomic_bool stops;
};

static UNUSED void
say(int fd, const char *text)
{
	fd_write_all(fd, text,
		strlen(text)); /* the client may be gone: that is for the script to notice */
}

/* Reads until the client closes its end. */
static UNUSED void
await_close(struct server *s, int fd)
{
	char c[256];
	while (recv(fd, c, sizeof(c), 0) > 0)
		;
	s->closed++;
}

/* The former request stays readable until this one is whole. */
static bool
read_request(struct server *s, int fd)
{
	struct buf b;
	const char *end = NULL, *length = NULL;
	size_t head_n = 0, body_n = 0;

	buf_init(&b, 80 * MIB);
	while (end == NULL || b.n < head_n + body_n) {
		char *p = buf_reserve(&b, 64 * KIB);
		ssize_t got = recv(fd, p, 64 * KIB, 0);
		if (got <= 0) {
			buf_fini(&b);
			return false;
		}
		buf_added(&b, (size_t)got);
		end = strstr(buf_z(&b), "\r\n\r\n");
		if (end == NULL)
			continue;
		head_n = (size_t)(end - b.p) + 4;
		length = strcasestr(b.p, "\r\ncontent-length:");
		body_n = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
	}
	free(s->request);
	s->request = buf_take(&b, NULL);
	s->head_n = head_n;
	s->body_n = body_n;
	return true;
}

static void *
serve(void *arg)
{
	struct server *s = arg;
	for (;;) {
		int fd = accept(s->listen_fd, NULL, NULL);
		if (fd < 0 || s->stops) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		s->connections++;
		while (read_request(s, fd) && s->script(s, fd, s->requests++))
			;
		close(fd);
	}
}

/* The listening socket is made before the broker is forked, the thread after it. */
static void
server_listen(struct server *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
		listen(s->listen_fd, 16) != 0 ||
		getsockname(s->listen_fd, (struct sockaddr *)&a, &n) != 0)
		fatal("the test server cannot listen");
	s->port = ntohs(a.sin_port);
}

static void
server_start(struct server *s, server_script script)
{
	s->script = script;
	if (pthread_create(&s->thread, NULL, serve, s) != 0)
		fatal("the test server cannot start");
}

static void
server_stop(struct server *s)
{
	s->stops = true;
	if (s->script != NULL) {
		shutdown(s->listen_fd, SHUT_RDWR);
		pthread_join(s->thread, NULL);
	}
	close(s->listen_fd);
	free(s->request);
}

#endif
