/* SPDX-License-Identifier: MIT
 * The only way out of a cell: its init listens on 127.0.0.1:3128 inside the cell and hands the socket to shelld, which
 * passes each connection to the broker as a stream named by the cell. The bytes are opaque here. Invariant: a cell
 * cannot say which cell it is, and what it has under way never exceeds a stream's credit, nor its number of connections
 * EGRESS_CONNECTIONS_MAX; further ones wait in the cell. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

#define LINGER_MS 2000 /* for a program to take the end of its answer */

struct forward {
	struct shelld *d;
	struct cell *c;
	struct forward *next; /* of the cell */
	int fd;
	struct watch *watch;
	struct stream *stream; /* NULL: the broker is done, what is left is for the cell */
	struct buf out; /* for the cell, not yet taken by its socket */
	bool cell_ended, broker_ended, has_shut;
	struct timer *linger;
};

static void listen_again(struct shelld *d);

/* ---- ends ---- */

/* is_cut: the program in the cell must not take this for the end of what it was reading. */
static void
forward_free(struct forward *f, bool is_cut)
{
	struct cell *c = f->c;
	struct shelld *d = f->d;
	struct forward **p = &c->forwards;
	const struct linger now = { .l_onoff = 1 };

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	c->forwards_n--;
	d->forwards_n--;
	if (is_cut)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	watch_close(f->watch);
	timer_close(f->linger);
	close(f->fd);
	buf_fini(&f->out);
	free(f);
	listen_again(d);
}

static void
forward_end(struct forward *f, bool is_cut)
{
	if (f->stream != NULL)
		stream_close(f->stream, NULL);
	forward_free(f, is_cut);
}

static void
on_linger(void *arg)
{
	forward_end(arg, false);
}

/* ---- bytes ---- */

static void
watch_set(struct forward *f)
{
	int events = f->out.n > 0 ? LOOP_WRITE : 0;

	if (!f->cell_ended && (f->stream == NULL || stream_credit(f->stream) > 0))
		events |= LOOP_READ;
	watch_update(f->watch, events);
}

/* Everything is written. false: f is gone. */
static bool
shut(struct forward *f)
{
	if (!f->has_shut)
		(void)shutdown(f->fd, SHUT_WR);
	f->has_shut = true;
	if (f->cell_ended) {
		forward_end(f, false);
		return false;
	}
	/* Closing with bytes unread would take from the program what it has not read yet. */
	if (f->stream == NULL && f->linger == NULL)
		f->linger = timer_start(f->d->l, LINGER_MS, on_linger, f);
	return true;
}

/* Writes what is for the cell. false: f is gone. */
static bool
flush(struct forward *f)
{
	size_t taken = 0;

	while (taken < f->out.n) {
		ssize_t n = send(f->fd, f->out.p + taken, f->out.n - taken, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			forward_end(f, true);
			return false;
		}
		if (n < 0)
			break;
		taken += (size_t)n;
	}
	if (taken > 0) {
		buf_consume(&f->out, taken);
		if (f->stream != NULL)
			stream_consume(f->stream, taken);
	}
	return f->out.n > 0 || !f->broker_ended || shut(f);
}

/* Reads what the cell says, as far as there is credit. false: f is gone. */
static bool
fill(struct forward *f)
{
	while (!f->cell_ended && (f->stream == NULL || stream_credit(f->stream) > 0)) {
		size_t max = f->stream == NULL ? sizeof(f->d->chunk) : MIN(stream_credit(f->stream), sizeof(f->d->chunk));
		ssize_t n = recv(f->fd, f->d->chunk, max, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			forward_end(f, true);
			return false;
		}
		if (n == 0) {
			f->cell_ended = true;
			if (f->stream != NULL)
				stream_eof(f->stream);
		} else if (f->stream == NULL) {
			return true; /* nobody wants it; the rest in the next pass */
		} else if (stream_write(f->stream, 0, (struct str){ f->d->chunk, (size_t)n }) != (size_t)n) {
			forward_end(f, true); /* the link is lost */
			return false;
		} else if ((size_t)n < sizeof(f->d->chunk)) {
			return true;
		}
	}
	return true;
}

static void
on_socket(void *arg, int events)
{
	struct forward *f = arg;

	if ((events & LOOP_READ) != 0 && !fill(f))
		return;
	if (!flush(f))
		return;
	/* Nothing left to read or write, and the other end is gone altogether: it would be reported without end. */
	if ((events & LOOP_HANGUP) != 0 && f->cell_ended && f->out.n == 0)
		forward_end(f, true);
	else
		watch_set(f);
}

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct forward *f = arg;

	if (buf_add_str(&f->out, bytes) != 0)
		fatal("forward: more than the credit of a stream");
	if (flush(f))
		watch_set(f);
}

static void
on_credit(void *arg)
{
	watch_set(arg);
}

static void
on_eof(void *arg)
{
	struct forward *f = arg;

	f->broker_ended = true;
	if (flush(f))
		watch_set(f);
}

static void
on_reset(void *arg, const struct err *e)
{
	struct forward *f = arg;

	f->stream = NULL;
	if (!f->broker_ended)
		forward_free(f, true);
	else if (flush(f))
		watch_set(f);
}

static const struct stream_handler handler = { on_data, on_credit, on_eof, on_reset };

/* ---- connections ---- */

static void
forward_start(struct cell *c, int fd)
{
	struct shelld *d = c->d;
	struct forward *f = xcalloc(1, sizeof(*f));
	uint64_t id = wire_next_id(d->broker);
	struct json *j;

	*f = (struct forward){ .d = d, .c = c, .next = c->forwards, .fd = fd };
	c->forwards = f;
	c->forwards_n++;
	d->forwards_n++;
	buf_init(&f->out, WIRE_WINDOW);
	j = wire_begin(d->broker, WIRE_PROXY, id);
	json_kv_z(j, "cell", c->key);
	(void)wire_end(d->broker, STR(""), -1);
	f->stream = stream_open(d->broker, id, &handler, f);
	f->watch = watch_start(d->l, fd, LOOP_READ, on_socket, f);
}

static bool
may_accept(const struct cell *c)
{
	struct err ignored;

	if (c->d->broker == NULL || !wire_is_open(c->d->broker) || c->forwards_n >= EGRESS_CONNECTIONS_MAX ||
		c->d->forwards_n >= EGRESS_ALL_MAX)
		return false;
	c->d->is_short = c->d->is_short || shelld_room(c->d, &ignored) != 0;
	return !c->d->is_short;
}

static void
on_connection(void *arg, int events)
{
	struct cell *c = arg;

	while (may_accept(c)) {
		int fd = accept4(c->proxy_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && errno == EINTR)
			continue;
		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			c->d->is_short = true;
			break;
		}
		if (fd < 0)
			return;
		forward_start(c, fd);
	}
	watch_update(c->proxy_watch, 0);
}

static void
listen_again(struct shelld *d)
{
	d->is_short = false; /* until the next one finds out */
	for (struct cell *c = d->cells; c != NULL; c = c->next)
		if (c->proxy_watch != NULL)
			watch_update(c->proxy_watch, may_accept(c) ? LOOP_READ : 0);
}

void
forward_again(struct shelld *d)
{
	if (d->is_short)
		listen_again(d);
}

void
forward_listen(struct cell *c, int fd)
{
	if (c->proxy_watch != NULL || c->state == CELL_DEAD) {
		close(fd);
		return;
	}
	fd_set_nonblock(fd);
	c->proxy_fd = fd;
	c->proxy_watch = watch_start(c->d->l, fd, may_accept(c) ? LOOP_READ : 0, on_connection, c);
}

void
forward_close(struct cell *c)
{
	if (c->proxy_watch != NULL) {
		watch_close(c->proxy_watch);
		c->proxy_watch = NULL;
		close(c->proxy_fd);
	}
	while (c->forwards != NULL)
		forward_end(c->forwards, true);
}

/* ---- the link to the broker ---- */

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s is not for shelld", wire_kind_name(m->kind));
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct shelld *d = arg;

	if (d->broker != w)
		return;
	d->broker = NULL;
	listen_again(d);
}

static const struct wire_handler broker_handler = { on_msg, on_gone };

void
forward_broker(struct shelld *d, int fd)
{
	struct wire *old = d->broker;

	d->broker = NULL;
	wire_close(old); /* resets its streams: their connections end */
	d->broker = wire_open(d->l, fd, ROLE_SHELLD, ROLE_BROKER, &broker_handler, d);
	listen_again(d);
}
