/* SPDX-License-Identifier: MIT
 * The way to one provider's server, with at most as many requests on it as it may have connections;
 * the others wait in order of arrival. libcurl could hold them back too, but would count the wait
 * as part of the connection's time. A server that turns out to speak HTTP/2 takes many requests on
 * one connection, so there none waits any more. Invariant: a request starts from the loop, never
 * from inside libcurl. */
#include "broker/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>

#define TELL_MS 10000 /* between two such notes */

struct lane {
	struct loop *l;
	const char *name;                /* of the provider */
	size_t connections;              /* at the same time, at most */
	bool is_shared;                  /* many requests share a connection */
	size_t active, waiting, longest; /* longest: since a wait was told; 0: not told */
	int64_t told_ms;
	struct ticket *first, **last;
};

struct lane *
lane_new(struct loop *l, const char *name, int64_t connections)
{
	struct lane *n = xcalloc(1, sizeof(*n));

	*n = (struct lane){ .l = l, .name = name, .connections = (size_t)connections };
	n->last = &n->first;
	return n;
}

void
lane_free(struct lane *n)
{
	free(n);
}

/* A queue is seen where the operator looks: when it begins, and when it has drained. */
static void
tell(struct lane *n)
{
	int64_t now_ms = loop_now_ms(n->l);

	if (n->waiting == 1 && n->longest == 0 &&
		(n->told_ms == 0 || now_ms - n->told_ms >= TELL_MS)) {
		n->told_ms = now_ms;
		n->longest = 1;
		log_warn("requests wait for a free connection", LOG_S("provider", n->name),
			LOG_I("connections", (int64_t)n->connections));
	}
	if (n->longest > 0)
		n->longest = MAX(n->longest, n->waiting);
	if (n->waiting > 0 || n->longest == 0)
		return;
	log_info("no request waits any more", LOG_S("provider", n->name),
		LOG_I("waited_at_most", (int64_t)n->longest));
	n->longest = 0;
}

static void
unlink_ticket(struct ticket *t)
{
	struct lane *n = t->lane;

	*t->link = t->next;
	if (t->next != NULL)
		t->next->link = t->link;
	else
		n->last = t->link;
	t->is_waiting = false;
	n->waiting--;
	tell(n);
}

static void
start(struct ticket *t)
{
	t->lane->active++;
	t->is_active = true;
	t->queued_ms = loop_now_ms(t->lane->l) - t->since_ms;
	t->go(t->arg);
}

static void
start_waiting(void *arg)
{
	struct lane *n = arg;

	while (n->first != NULL && (n->is_shared || n->active < n->connections)) {
		struct ticket *t = n->first;

		unlink_ticket(t);
		start(t);
	}
}

void
lane_enter(struct lane *n, struct ticket *t, loop_fn go, void *arg)
{
	*t = (struct ticket){ .lane = n, .go = go, .arg = arg, .since_ms = loop_now_ms(n->l) };
	if (n->is_shared || (n->first == NULL && n->active < n->connections)) {
		start(t);
		return;
	}
	t->is_waiting = true;
	t->link = n->last;
	*n->last = t;
	n->last = &t->next;
	n->waiting++;
	tell(n);
}

void
lane_leave(struct ticket *t)
{
	struct lane *n = t->lane;

	if (t->is_waiting)
		unlink_ticket(t);
	if (!t->is_active)
		return;
	t->is_active = false;
	n->active--;
	if (n->first != NULL)
		start_waiting(n);
}

void
lane_shares(struct ticket *t)
{
	if (t->lane->is_shared)
		return;
	t->lane->is_shared = true;
	loop_defer(t->lane->l, start_waiting, t->lane); /* we are inside libcurl */
}
