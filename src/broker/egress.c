/* SPDX-License-Identifier: MIT
 * libcurl's multi interface on the loop: it says which sockets and which timeout it waits for, and
 * is told when they are ready. Each upstream has a multi handle of its own, because the limit of
 * connections belongs to the handle, and so that no connection is ever shared between two
 * upstreams. Knows nothing of requests. Invariant: libcurl is entered from the loop only, never
 * from one of its own callbacks, and a transfer is told of its end after libcurl has returned. */
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/internal.h"

#define IDLE_CONNECTIONS_MAX 64L /* kept open for the next request */

struct egress {
	struct loop *l;
	const struct curl_api *api;
	struct pool *pools;
};

struct pool {
	struct egress *g;
	struct pool *next;
	const struct upstream *u;
	CURLM *multi;
	struct timer *timer;
	struct lane *lane; /* who may have a connection, and who waits */
};

struct sock {
	struct pool *p;
	struct watch *watch;
	curl_socket_t fd;
};

static void
tell_done(struct pool *p)
{
	CURLMsg *msg;
	int left;

	while ((msg = p->g->api->multi_info_read(p->multi, &left)) != NULL) {
		CURLcode result = msg->data.result;
		void *transfer = NULL;
		if (msg->msg != CURLMSG_DONE)
			continue;
		p->g->api->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer_done(transfer, result); /* msg is gone after it */
	}
}

static void
act(struct pool *p, curl_socket_t fd, int bits)
{
	int running;
	p->g->api->multi_socket_action(p->multi, fd, bits, &running);
	tell_done(p);
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
	act(s->p, s->fd, bits); /* s may be gone after it */
}

static int
want_timer(CURLM *multi, long ms, void *arg)
{
	struct pool *p = arg;
	if (ms < 0)
		timer_stop(p->timer);
	else
		timer_again(p->timer, ms);
	return 0;
}

static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct pool *p = arg;
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
			p->g->api->multi_assign(p->multi, fd, NULL);
		}
		return 0;
	}
	if (s != NULL) {
		watch_update(s->watch, events);
		return 0;
	}
	s = xcalloc(1, sizeof(*s));
	*s = (struct sock){ .p = p, .fd = fd };
	s->watch = watch_start(p->g->l, fd, events, on_socket, s);
	p->g->api->multi_assign(p->multi, fd, s);
	return 0;
}

static struct pool *
pool_new(struct egress *g, const struct upstream *u)
{
	const struct curl_api *api = g->api;
	struct pool *p = xcalloc(1, sizeof(*p));

	*p = (struct pool){ .g = g, .next = g->pools, .u = u, .multi = api->multi_init() };
	if (p->multi == NULL)
		fatal("broker: out of memory");
	g->pools = p;
	p->lane = lane_new(g->l, u->name, u->connections);
	p->timer = timer_start(g->l, 0, on_timer, p);
	timer_stop(p->timer);
	api->multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	api->multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
	api->multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	api->multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
	/* Without a limit libcurl opens a connection per HTTP/2 request that arrives while the
	 * first one is set up. */
	api->multi_setopt(p->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)u->connections);
	api->multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS_MAX);
	api->multi_setopt(p->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	return p;
}

struct pool *
egress_pool(struct egress *g, const struct upstream *u)
{
	struct pool *p = g->pools;

	while (p != NULL && p->u != u)
		p = p->next;
	return p != NULL ? p : pool_new(g, u);
}

struct egress *
egress_new(struct loop *l, const struct curl_api *api)
{
	struct egress *g = xcalloc(1, sizeof(*g));

	*g = (struct egress){ .l = l, .api = api };
	return g;
}

void
egress_free(struct egress *g)
{
	if (g == NULL)
		return;
	for (struct pool *p = g->pools, *next; p != NULL; p = next) {
		next = p->next;
		g->api->multi_cleanup(p->multi);
		timer_close(p->timer);
		lane_free(p->lane);
		free(p);
	}
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

struct lane *
pool_lane(struct pool *p)
{
	return p->lane;
}

void
pool_add(struct pool *p, CURL *easy)
{
	p->g->api->multi_add_handle(p->multi, easy);
}

void
pool_remove(struct pool *p, CURL *easy)
{
	p->g->api->multi_remove_handle(p->multi, easy);
}
