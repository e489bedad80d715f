/* SPDX-License-Identifier: MIT
 * Exec inits made ahead: while nobody waits, a cell that was just used gets one that has its
 * namespace, its /proc and its confinement already and waits for a command. What may be long gone
 * when the next command comes is only a few of them, and none for long. Invariant: shelld alone
 * decides that one goes, so no order can meet one that leaves by itself; one that ended all the
 * same (memory ran out) is found before anything is sent to it, or ends its job like any init that
 * was killed. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

void
standby_init(struct standby *s)
{
	*s = (struct standby){ .control = -1, .pidfd = -1 };
}

void
standby_drop(struct standby *s)
{
	if (s->control >= 0)
		close(s->control); /* the end for it */
	if (s->pidfd >= 0)
		close(s->pidfd);
	standby_init(s);
}

void
standby_want(struct cell *c)
{
	if (c->kind != KIND_FULL || c->state != CELL_READY || c->is_retired || c->is_probe ||
		c->run[0] == '\0')
		return;
	c->standby.is_wanted = true;
	shelld_quiet(c->d);
}

static void
ask(struct cell *c)
{
	struct order o = { .kind = ORDER_STANDBY, .fd_n = 1 };
	int pair[2];

	standby_drop(&c->standby);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return; /* the next command makes its own */
	fd_set_nonblock(pair[0]);
	c->standby.control = pair[0];
	memcpy(c->standby.run, c->run, sizeof(c->run));
	o.fd[0] = pair[1];
	o.text[EXEC_TEXT_RUN] = str_of(c->standby.run);
	cell_post(c, &o);
}

/* Takes what it said. False: it is of no use. */
static bool
hear(struct standby *s)
{
	struct report r;
	int n, fd;

	if (s->control < 0)
		return false;
	while ((n = report_recv(s->control, &r, &fd)) == 1) {
		if (r.kind == REPORT_BEGUN && s->pidfd < 0)
			s->pidfd = take_fd(&fd);
		s->is_ready = s->is_ready || r.kind == REPORT_READY;
		if (fd >= 0)
			close(fd);
		if (r.kind == REPORT_FAILED)
			return false;
	}
	return n < 0 && errno == EAGAIN;
}

bool
standby_send(struct cell *c, const struct order *o, int *control, int *pidfd)
{
	struct standby *s = &c->standby;

	if (!hear(s)) {
		standby_drop(s);
		return false;
	}
	if (s->pidfd < 0 || !s->is_ready || !str_is(o->text[EXEC_TEXT_RUN], s->run))
		return false;
	if (order_send(s->control, o) != 0) {
		standby_drop(s);
		return false;
	}
	*control = take_fd(&s->control);
	*pidfd = take_fd(&s->pidfd);
	standby_init(s);
	return true;
}

static struct cell *
oldest(const struct shelld *d, size_t *n)
{
	struct cell *found = NULL;

	*n = 0;
	for (struct cell *c = d->cells; c != NULL; c = c->next) {
		if (c->standby.control < 0)
			continue;
		++*n;
		if (found == NULL || c->used_at_ms < found->used_at_ms)
			found = c;
	}
	return found;
}

bool
standbys_tend(struct shelld *d)
{
	int64_t now = loop_now_ms(d->l);
	struct cell *c;
	size_t n;

	for (c = d->cells; c != NULL; c = c->next) {
		bool is_wanted = c->standby.is_wanted && c->state == CELL_READY && !c->is_retired;
		c->standby.is_wanted = false;
		if (now - c->used_at_ms >= STANDBY_MS)
			standby_drop(&c->standby);
		else if (is_wanted &&
			 (c->standby.control < 0 || strcmp(c->standby.run, c->run) != 0))
			ask(c);
	}
	while ((c = oldest(d, &n)) != NULL && n > STANDBYS_MAX)
		standby_drop(&c->standby);
	return n > 0;
}
