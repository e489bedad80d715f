/* SPDX-License-Identifier: MIT
 * libcurl's multi interface on the loop: it says which sockets and which timeout it waits for, and
 * is told when they are ready. Knows nothing of requests. Invariant: libcurl is entered from the
 * loop only, never from one of its own callbacks, and a transfer is told of its end after libcurl
 * has returned. */
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/internal.h"

#define IDLE_CONNECTIONS_MAX 64L /* kept open for the next request */

struct egress {
	struct loop *l;
	const struct curl_api *api;
	CURLM *multi;
	struct timer *timer;
};

struct sock {
	struct egress *g;
	struct watch *watch;
	curl_socket_t fd;
};

static void
tell_done(struct egress *g)
{
	CURLMsg *msg;
	int left;

	while ((msg = g->api->multi_info_read(g->multi, &left)) != NULL) {
		CURLcode result = msg->data.result;
		void *transfer = NULL;
		if (msg->msg != CURLMSG_DONE)
			continue;
		g->api->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer_done(transfer, result); /* msg is gone after it */
	}
}

static void
act(struct egress *g, curl_socket_t fd, int bits)
{
	int running;
	g->api->multi_socket_action(g->multi, fd, bits, &running);
	tell_done(g);
}

static void
on_timer(void *arg)
{
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void
on_socket(void *arg, int events)
{
	struct sock *s = arg;
	int bits = 0;

	if (events & LOOP_READ)
		bits |= CURL_CSELECT_IN;
	if (events & LOOP_WRITE)
		bits |= CURL_CSELECT_OUT;
	act(s->g, s->fd, bits); /* s may be gone after it */
}

static int
want_timer(CURLM *multi, long ms, void *arg)
{
	struct egress *g = arg;
	if (ms < 0)
		timer_stop(g->timer);
	else
		timer_again(g->timer, ms);
	return 0;
}

static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct egress *g = arg;
	struct sock *s = known;
	int events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LOOP_READ;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LOOP_WRITE;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL) {
			watch_close(s->watch);
			free(s);
			g->api->multi_assign(g->multi, fd, NULL);
		}
		return 0;
	}
	if (s != NULL) {
		watch_update(s->watch, events);
		return 0;
	}
	s = xcalloc(1, sizeof(*s));
	*s = (struct sock){ .g = g, .fd = fd };
	s->watch = watch_start(g->l, fd, events, on_socket, s);
	g->api->multi_assign(g->multi, fd, s);
	return 0;
}

struct egress *
egress_new(struct loop *l, const struct curl_api *api)
{
	struct egress *g = xcalloc(1, sizeof(*g));

	*g = (struct egress){ .l = l, .api = api, .multi = api->multi_init() };
	if (g->multi == NULL)
		fatal("broker: out of memory");
	g->timer = timer_start(l, 0, on_timer, g);
	timer_stop(g->timer);
	api->multi_setopt(g->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	api->multi_setopt(g->multi, CURLMOPT_SOCKETDATA, g);
	api->multi_setopt(g->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	api->multi_setopt(g->multi, CURLMOPT_TIMERDATA, g);
	/* Without a limit libcurl opens a connection per HTTP/2 request that arrives while the
	 * first one is set up. */
	api->multi_setopt(g->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)FETCH_CONNECTIONS_MAX);
	api->multi_setopt(g->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS_MAX);
	api->multi_setopt(g->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	return g;
}

void
egress_free(struct egress *g)
{
	if (g == NULL)
		return;
	g->api->multi_cleanup(g->multi);
	timer_close(g->timer);
	free(g);
}

const struct curl_api *
egress_api(const struct egress *g)
{
	return g->api;
}

struct loop *
egress_loop(const struct egress *g)
{
	return g->l;
}

void
egress_add(struct egress *g, CURL *easy)
{
	g->api->multi_add_handle(g->multi, easy);
}

void
egress_remove(struct egress *g, CURL *easy)
{
	g->api->multi_remove_handle(g->multi, easy);
}
