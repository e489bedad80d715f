/* SPDX-License-Identifier: MIT
 * libcurl's multi interface on the loop: it says which sockets and which timeout it waits for, and
 * is told when they are ready. Each upstream has a multi handle of its own, because the limit of
 * connections belongs to the handle, and so that no connection is ever shared between two
 * upstreams. Knows nothing of requests. Invariant: libcurl is entered from the loop only, never
 * from one of its own callbacks, and a transfer is told of its end after libcurl has returned. */
#include <stdlib.h>
#include <sys/ioctl.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/internal.h"

#define IDLE_CONNECTIONS_MAX 64L /* kept open for the next request */
/* A model that writes a token every few milliseconds would wake this process and the runtime for
 * each. A socket with small pieces in quick succession is read at ticks instead; a tick that finds
 * nothing, or a lot, ends that. */
#define PACE_MS    20
#define PACE_AFTER 2 /* pieces that came less than a tick after the one before */
#define PACE_BYTES 4096

struct egress {
	struct loop *l;
	const struct curl_api *api;
	struct pool *pools;
	struct sock *paced;
	struct timer *tick;
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
	int events;              /* that libcurl waits for */
	int64_t read_ms;         /* loop time of the last piece */
	int quick;               /* pieces in quick succession */
	struct sock *next, **at; /* among the paced; at NULL: not one of them */
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

/* ---- pace ---- */

static void
sock_watch(struct sock *s)
{
	watch_update(s->watch, s->at != NULL ? s->events & ~LOOP_READ : s->events);
}

static void
pace_link(struct sock *s)
{
	struct egress *g = s->p->g;

	s->next = g->paced;
	s->at = &g->paced;
	if (s->next != NULL)
		s->next->at = &s->next;
	g->paced = s;
}

static void
pace_unlink(struct sock *s)
{
	if (s->at == NULL)
		return;
	*s->at = s->next;
	if (s->next != NULL)
		s->next->at = s->at;
	s->at = NULL;
	s->next = NULL;
}

static size_t
pending(const struct sock *s)
{
	int n = 0;

	return ioctl(s->fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* A piece has come. */
static void
pace_note(struct sock *s)
{
	int64_t now_ms = loop_now_ms(s->p->g->l);

	s->quick = now_ms - s->read_ms < PACE_MS ? s->quick + 1 : 0;
	s->read_ms = now_ms;
	if (s->quick < PACE_AFTER || s->events != LOOP_READ || pending(s) > PACE_BYTES)
		return;
	if (s->p->g->paced == NULL)
		timer_again(s->p->g->tick, PACE_MS);
	pace_link(s);
	sock_watch(s);
}

static void
on_tick(void *arg)
{
	struct egress *g = arg;
	struct sock *due = g->paced, *s;

	g->paced = NULL;
	if (due != NULL)
		due->at = &due;
	while ((s = due) != NULL) { /* libcurl may close any of them meanwhile */
		size_t n = pending(s);

		pace_unlink(s);
		if (n > 0 && n <= PACE_BYTES) {
			pace_link(s);
			act(s->p, s->fd, CURL_CSELECT_IN);
		} else {
			s->quick = 0;
			sock_watch(s);
		}
	}
	if (g->paced != NULL)
		timer_again(g->tick, PACE_MS);
}

static void
on_socket(void *arg, int events)
{
	struct sock *s = arg;
	int bits = 0;

	if (events & LOOP_READ) {
		bits |= CURL_CSELECT_IN;
		pace_note(s);
	}
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
			pace_unlink(s);
			watch_close(s->watch);
			free(s);
			p->g->api->multi_assign(p->multi, fd, NULL);
		}
		return 0;
	}
	if (s != NULL) {
		s->events = events;
		if (events != LOOP_READ)
			pace_unlink(s);
		sock_watch(s);
		return 0;
	}
	s = xcalloc(1, sizeof(*s));
	*s = (struct sock){ .p = p, .fd = fd, .events = events };
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
	g->tick = timer_start(l, 0, on_tick, g);
	timer_stop(g->tick);
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
	timer_close(g->tick);
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
