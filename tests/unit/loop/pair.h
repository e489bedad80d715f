/* SPDX-License-Identifier: MIT
 * Fixture of the link tests: a wire of ours whose peer is either another wire or a bare socket that
 * says whatever the test wants. Each end records what happens to it in a trace. */
#ifndef TEST_PAIR_H
#define TEST_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "loop/wire.h"

struct end {
	struct pair *pair;
	struct wire *w;
	struct buf trace; /* "kind:id:tail " per message, "gone " */
	struct err err; /* of on_gone */
	int gone;
	int refuse; /* what on_msg returns */
	int fd; /* taken */
	void (*on_msg)(struct end *end, struct wire_msg *m); /* may be NULL */
	void *arg;
	struct stream *stream;
	size_t received, expected;
	int eof, resets, credits;
	struct err reset;
	bool consume;
};

struct pair {
	struct loop *l;
	struct end a, b; /* b.w is NULL when raw is used */
	int raw;
	struct timer *guard, *pause;
};

static int
end_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct end *end = arg;
	buf_printf(&end->trace, "%s:%llu:%.*s ", wire_kind_name(m->kind), (unsigned long long)m->id,
		(int)MIN(m->tail.n, 20), m->tail.p != NULL ? m->tail.p : "");
	if (end->on_msg != NULL)
		end->on_msg(end, m);
	if (end->refuse != 0)
		return err_set(e, end->refuse, ERR_TO_LOG, "refused by the handler");
	return 0;
}

static void
end_gone(void *arg, struct wire *w, const struct err *e)
{
	struct end *end = arg;
	buf_add_z(&end->trace, "gone ");
	end->gone++;
	end->err = *e;
	end->w = NULL;
}

static const struct wire_handler end_handler = { .on_msg = end_msg, .on_gone = end_gone };

static void
end_data(void *arg, int ch, struct str bytes)
{
	struct end *end = arg;
	end->received += bytes.n;
	if (end->consume)
		stream_consume(end->stream, bytes.n);
	if (end->expected > 0 && end->received >= end->expected)
		loop_stop(end->pair->l);
}

static void
end_credit(void *arg)
{
	((struct end *)arg)->credits++;
}

static void
end_eof(void *arg)
{
	((struct end *)arg)->eof++;
}

static void
end_reset(void *arg, const struct err *e)
{
	struct end *end = arg;
	buf_add_z(&end->trace, "reset ");
	end->resets++;
	end->reset = *e;
	end->stream = NULL;
}

static const struct stream_handler end_stream = {
	.on_data = end_data, .on_credit = end_credit, .on_eof = end_eof, .on_reset = end_reset
};

static void
pair_hangs(void *arg)
{
	fatal("the test waited for something that did not happen");
}

static void
end_init(struct pair *p, struct end *end)
{
	end->pair = p;
	end->fd = -1;
	buf_init(&end->trace, 64 * KIB);
}

static struct pair *
pair_new_raw(enum role me, enum role peer)
{
	struct pair *p = xcalloc(1, sizeof(*p));
	int fds[2];
	assert_int_equal(loop_open(&p->l, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	end_init(p, &p->a);
	end_init(p, &p->b);
	p->raw = fds[1];
	p->a.w = wire_open(p->l, fds[0], me, peer, &end_handler, &p->a);
	p->guard = timer_start(p->l, 30000, pair_hangs, p);
	timer_unref(p->guard);
	return p;
}

static struct pair *
pair_new(enum role me, enum role peer)
{
	struct pair *p = pair_new_raw(me, peer);
	p->b.w = wire_open(p->l, p->raw, peer, me, &end_handler, &p->b);
	p->raw = -1;
	return p;
}

static void
end_free(struct end *end)
{
	wire_close(end->w);
	buf_fini(&end->trace);
	if (end->fd >= 0)
		close(end->fd);
}

static void
pair_free(struct pair *p)
{
	end_free(&p->a);
	end_free(&p->b);
	if (p->raw >= 0)
		close(p->raw);
	timer_close(p->guard);
	loop_close(p->l);
	free(p);
}

static void
pass_over(void *arg)
{
	struct pair *p = arg;
	timer_close(p->pause);
	loop_stop(p->l);
}

/* Runs until both ends have nothing more to say: a few passes with everything readable. */
static UNUSED void
pair_settle(struct pair *p)
{
	for (int i = 0; i < 6; i++) {
		p->pause = timer_start(p->l, 0, pass_over, p);
		loop_run(p->l);
	}
}

/* Sends a frame with this head (text after {"v":1, ) and tail from the raw side. */
static UNUSED void
raw_send(struct pair *p, const char *keys, const char *tail, size_t tail_n)
{
	char *head = xasprintf("{\"v\":1,%s}", keys);
	uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n + (uint32_t)tail_n;
	char *frame = xmalloc(4 + total);
	memcpy(frame, &total, 4);
	memcpy(frame + 4, &head_n, 4);
	memcpy(frame + 8, head, head_n);
	if (tail_n > 0)
		memcpy(frame + 8 + head_n, tail, tail_n);
	size_t sent = 0;
	while (sent < 4 + total) {
		ssize_t n =
			send(p->raw, frame + sent, 4 + total - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			pair_settle(p); /* let the other side read */
			continue;
		}
		if (n < 0)
			break;
		sent += (size_t)n;
	}
	free(frame);
	free(head);
}

static UNUSED void
send_text(struct wire *w, enum wire_kind k, uint64_t id, const char *tail)
{
	wire_begin(w, k, id);
	assert_int_equal(wire_end(w, str_of(tail), -1), 0);
}

static UNUSED void
assert_trace(struct end *end, const char *text)
{
	assert_string_equal(buf_z(&end->trace), text);
}

static UNUSED void
assert_dropped(struct pair *p, const char *why)
{
	pair_settle(p);
	assert_int_equal(p->a.gone, 1);
	if (strstr(p->a.err.msg, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", p->a.err.msg, why);
	char c;
	if (p->raw >= 0) { /* the socket was closed */
		ssize_t n;
		while ((n = recv(p->raw, &c, 1, MSG_DONTWAIT)) > 0)
			;
		assert_true(n == 0 || errno == ECONNRESET);
	}
}

#endif
