/* SPDX-License-Identifier: MIT
 * From the name in a request to a connection: resolved here and nowhere else, each address that
 * comes out is checked, and exactly those are tried. */
#include "broker/proxy_internal.h"

#include <netdb.h>
#include <netinet/tcp.h>

static void connect_next(struct proxied *c);
static void lookup_start(struct proxied *c);

static void
try_next(struct proxied *c)
{
	proxied_close_server(c);
	c->to_at++;
	connect_next(c);
}

void
proxied_connect_timeout(struct proxied *c)
{
	c->connect_error = ETIMEDOUT;
	try_next(c);
}

static void
on_connected(void *arg, int events)
{
	struct proxied *c = arg;
	socklen_t n = sizeof(c->connect_error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &c->connect_error, &n) != 0)
		c->connect_error = errno;
	watch_close(c->watch);
	c->watch = NULL;
	if (c->connect_error != 0)
		try_next(c);
	else
		proxied_relay(c);
}

static void
refuse_unreachable(struct proxied *c)
{
	char to[ENDPOINT_TEXT_SIZE];
	struct err e;

	err_set(&e, ERR_NET, ERR_TO_MODEL, "cannot connect to %s: %s", endpoint_text(&c->r.to, to),
		strerror(c->connect_error != 0 ? c->connect_error : EHOSTUNREACH));
	proxied_refuse_err(c, 502, "Bad gateway", &e);
}

/* Tries the addresses in turn; all of them were checked. */
static void
connect_next(struct proxied *c)
{
	const int on = 1;

	for (; c->to_at < c->to_n; c->to_at++) {
		const struct address *a = &c->to[c->to_at];

		c->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->fd < 0) {
			c->connect_error = errno;
			continue;
		}
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(c->fd, (const struct sockaddr *)&a->sa, a->n) == 0 ||
			errno == EINPROGRESS) {
			c->state = ST_CONNECT;
			c->watch = watch_start(c->x->l, c->fd, LOOP_WRITE, on_connected, c);
			timer_again(c->timer, EGRESS_CONNECT_MS);
			return;
		}
		c->connect_error = errno;
		proxied_close_server(c);
	}
	refuse_unreachable(c);
}

/* Keeps the addresses that a connection may go to, and goes there. */
static void
connect_checked(struct proxied *c, const struct address *found, size_t n, bool is_mapped)
{
	char target[ENDPOINT_TEXT_SIZE], text[ADDRESS_TEXT_SIZE] = "";
	const char *why = "its name leads to no address";
	struct err e;

	c->to_n = c->to_at = 0;
	for (size_t i = 0; i < n; i++) {
		const struct sockaddr *sa = (const struct sockaddr *)&found[i].sa;
		const char *refusal = grant_address_refusal(c->g, sa, is_mapped);

		if (refusal == NULL) {
			c->to[c->to_n++] = found[i];
		} else {
			why = refusal;
			address_text(sa, text);
		}
	}
	if (c->to_n > 0) {
		connect_next(c);
		return;
	}
	endpoint_text(&c->r.to, target);
	err_set(&e, ERR_DENIED, ERR_TO_MODEL, "it leads to %s, which is not of the Internet: %s",
		text, why);
	proxied_deny(c, target, text[0] != '\0' ? text : target, e.msg);
}

/* ---- names ---- */

static void
lookup_work(void *arg)
{
	struct lookup *k = arg;
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list = NULL;

	k->error = getaddrinfo(k->host, k->port, &hints, &list);
	for (struct addrinfo *a = list; a != NULL && k->n < EGRESS_ADDRESSES_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(k->found[0].sa))
			continue;
		memcpy(&k->found[k->n].sa, a->ai_addr, a->ai_addrlen);
		k->found[k->n++].n = a->ai_addrlen;
	}
	if (list != NULL)
		freeaddrinfo(list);
}

/* The next name of a cell: its connections wait for each other, not for those of other cells. */
static void
lookup_next(struct proxy *x, const char *cell)
{
	struct proxied *next = NULL;

	for (struct proxied *c = x->connections; c != NULL; c = c->next)
		if (c->state == ST_RESOLVE && c->lookup == NULL && strcmp(c->cell, cell) == 0)
			next = c; /* the oldest is last */
	if (next != NULL)
		lookup_start(next);
}

static void
lookup_done(void *arg)
{
	struct lookup *k = arg, **p = &k->x->lookups;
	struct proxied *c = k->c;
	char target[ENDPOINT_TEXT_SIZE];
	struct err e;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	lookup_next(k->x, k->cell);
	if (c != NULL) {
		c->lookup = NULL;
		if (k->error != 0 || k->n == 0) {
			err_set(&e, ERR_NET, ERR_TO_MODEL, "cannot resolve %s: %s",
				endpoint_text(&c->r.to, target),
				k->error != 0 ? gai_strerror(k->error) : "no address");
			proxied_refuse_err(c, 502, "Bad gateway", &e);
		} else {
			connect_checked(c, k->found, k->n, false);
		}
	}
	free(k->cell);
	free(k);
}

/* A name whose servers are silent holds a thread of the pool for long: one cell must not take all
 * of them. Also those count whose connection is gone. */
static void
lookup_start(struct proxied *c)
{
	struct proxy *x = c->x;
	size_t n = 0;

	for (struct lookup *k = x->lookups; k != NULL; k = k->next)
		n += strcmp(k->cell, c->cell) == 0;
	if (n >= EGRESS_LOOKUPS_MAX)
		return;
	struct lookup *k = xcalloc(1, sizeof(*k));
	*k = (struct lookup){ .c = c, .x = x, .next = x->lookups, .cell = xstrdup(c->cell) };
	x->lookups = c->lookup = k;
	snprintf(k->host, sizeof(k->host), "%s", c->r.to.host);
	snprintf(k->port, sizeof(k->port), "%u", c->r.to.port);
	loop_work(x->l, lookup_work, lookup_done, k);
}

void
proxied_resolve_timeout(struct proxied *c)
{
	char to[ENDPOINT_TEXT_SIZE];
	struct err e;

	err_set(&e, ERR_TIMEOUT, ERR_TO_MODEL, "cannot resolve %s: no answer in %d s",
		endpoint_text(&c->r.to, to), EGRESS_RESOLVE_MS / 1000);
	proxied_refuse_err(c, 504, "Gateway timeout", &e);
}

/* An address is itself, a name of the operator's map is what that says, any other is asked for. */
void
proxied_connect(struct proxied *c)
{
	const struct grant_host *h = grant_host_find(c->g, &c->r.to);
	struct endpoint at = h != NULL ? h->to : c->r.to;
	struct address a;

	if (at.port == 0)
		at.port = c->r.to.port;
	a.n = endpoint_address(&at, &a.sa);
	if (a.n > 0) {
		connect_checked(c, &a, 1, h != NULL);
		return;
	}
	c->state = ST_RESOLVE;
	timer_again(c->timer, EGRESS_RESOLVE_MS);
	lookup_start(c);
}
