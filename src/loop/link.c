/* SPDX-License-Identifier: MIT
 * One end of a message stream: a socket, an input buffer, an output queue, descriptors in flight.
 * What is sent within a loop pass leaves in one write at its end. Invariant: callbacks run from the
 * loop only, never from a sending call; the memory of a wire goes at the end of a pass, so whoever
 * is on the stack may still look at it. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/secret.h"
#include "loop/internal.h"

#define READ_CALL       (1u * KIB) /* of a client: its calls are small, and there may be many clients */
#define READ_SMALL      (16u * KIB)
#define READ_LARGE      (64u * KIB)
#define READS_PER_PASS  16 /* then other descriptors get their turn */
#define FLUSH_NOW       (256u * KIB) /* queued within one pass before it is written early */
#define KEEP_CAPACITY   (256u * KIB) /* of an empty buffer; more is given back */
#define FDS_IN_MAX      4 /* received before the frame that they belong to */
#define FRAME_MAX       (WIRE_PREFIX + WIRE_HEAD_MAX + WIRE_TAIL_MAX)

enum link_state {
	LINK_OPEN,
	LINK_BROKEN, /* the socket takes no more; what the peer sent before is still read */
	LINK_DEAD, /* on_gone is due at the end of the pass */
	LINK_FLUSHING, /* closed by the owner, bytes are still to be sent */
	LINK_CLOSED, /* memory goes at the end of the pass */
};

/* A descriptor travels with the first byte of its frame. */
struct fd_mark {
	size_t at; /* offset in out */
	int fd;
};

struct wire {
	struct loop *l;
	struct watch *watch;
	int fd;
	enum role me, peer;
	const struct wire_handler *handler;
	void *arg;
	enum link_state state;
	struct err err; /* LINK_DEAD */
	bool is_scheduled; /* wire_pass is deferred */
	bool is_blocked; /* the socket is full */
	bool is_wiped; /* out holds keys: it is wiped once it is sent */
	struct timer *linger;

	struct buf in;
	size_t read_n; /* bytes to ask for */
	int fds_in[FDS_IN_MAX];
	size_t fds_in_n;
	struct arena *arena;

	struct buf out;
	size_t out_at; /* bytes of out already sent */
	struct fd_mark *marks;
	size_t marks_n, marks_cap;
	struct json json;
	size_t begin_at; /* of the frame being written */
	enum wire_kind begin_kind;
	uint64_t begin_id;

	uint64_t id_next;
	struct stream_table streams;
	size_t drain_low;
	loop_fn drain;
	void *drain_arg;
};

static void wire_pass(void *arg);

static void
schedule(struct wire *w)
{
	if (!w->is_scheduled) {
		w->is_scheduled = true;
		loop_defer(w->l, wire_pass, w);
	}
}

static void
wire_fail(struct wire *w, const struct err *e)
{
	if (w->state != LINK_OPEN && w->state != LINK_BROKEN)
		return;
	w->state = LINK_DEAD;
	w->err = *e;
	watch_update(w->watch, 0);
	schedule(w);
}

bool
wire_is_open(const struct wire *w)
{
	return w->state == LINK_OPEN;
}

struct stream_table *
wire_streams(struct wire *w)
{
	return &w->streams;
}

size_t
wire_queued(const struct wire *w)
{
	return w->out.n - w->out_at;
}

uint64_t
wire_next_id(struct wire *w)
{
	uint64_t id = w->id_next;
	w->id_next += 2; /* the other side makes the ids between */
	return id;
}

/* ---- output ---- */

static void
shrink_if_empty(struct buf *b)
{
	if (b->n == 0 && b->cap > KEEP_CAPACITY) {
		size_t max = b->max;
		buf_fini(b);
		buf_init(b, max);
	}
}

static void
drop_sent(struct wire *w)
{
	if (w->out_at < w->out.n && (w->out_at < READ_LARGE || w->out_at < w->out.n / 2))
		return;
	for (size_t i = 0; i < w->marks_n; i++)
		w->marks[i].at -= w->out_at;
	buf_consume(&w->out, w->out_at);
	w->out_at = 0;
	if (w->is_wiped && w->out.cap > 0)
		wipe(w->out.p + w->out.n, w->out.cap - w->out.n);
	w->is_wiped = w->is_wiped && w->out.n > 0;
	shrink_if_empty(&w->out);
}

static void
drop_output(struct wire *w)
{
	for (size_t i = 0; i < w->marks_n; i++)
		close(w->marks[i].fd);
	w->marks_n = 0;
	w->out_at = w->out.n;
	drop_sent(w);
}

static ssize_t
send_part(int sock, const char *p, size_t n, int fd)
{
	if (fd < 0)
		return send(sock, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)p, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sends up to the next descriptor. 0 or -1 with errno. */
static int
send_next(struct wire *w)
{
	size_t end = w->out.n;
	int fd = -1;

	if (w->marks_n > 0 && w->marks[0].at == w->out_at) {
		fd = w->marks[0].fd;
		end = w->marks_n > 1 ? w->marks[1].at : end;
	} else if (w->marks_n > 0) {
		end = w->marks[0].at;
	}
	ssize_t n = send_part(w->fd, w->out.p + w->out_at, end - w->out_at, fd);
	if (n < 0)
		return -1;
	if (fd >= 0) {
		close(fd);
		w->marks_n--;
		memmove(w->marks, w->marks + 1, w->marks_n * sizeof(*w->marks));
	}
	w->out_at += (size_t)n;
	return 0;
}

/* On an error the link is broken, not dead: the peer's last words (a fault, a status) may still be
 * unread. */
static void
flush(struct wire *w)
{
	bool was_blocked = w->is_blocked;

	w->is_blocked = false;
	while (w->out_at < w->out.n) {
		if (send_next(w) == 0 || errno == EINTR)
			continue;
		if (errno == EAGAIN) {
			w->is_blocked = true;
			break;
		}
		drop_output(w);
		if (w->state == LINK_OPEN) {
			w->state = LINK_BROKEN;
			schedule(w);
		}
		break;
	}
	drop_sent(w);
	if (w->is_blocked != was_blocked)
		watch_update(w->watch, (w->state == LINK_FLUSHING ? 0 : LOOP_READ) |
			(w->is_blocked ? LOOP_WRITE : 0));
}

struct json *
wire_begin(struct wire *w, enum wire_kind k, uint64_t id)
{
	if (!wire_may_send(w->me, w->peer, k))
		fatal("a %s may not send %s to a %s", role_name(w->me), wire_kind_name(k),
			role_name(w->peer));
	drop_sent(w);
	w->begin_kind = k;
	w->begin_id = id;
	w->begin_at = wire_put_begin(&w->out, &w->json, k, id);
	return &w->json;
}

static int
refuse_large(struct wire *w, const struct err *e)
{
	if (w->begin_kind != WIRE_ERROR && wire_may_send(w->me, w->peer, WIRE_ERROR))
		wire_error(w, w->begin_id, e);
	return e->code;
}

static void
mark_fd(struct wire *w, int fd)
{
	if (w->marks_n == w->marks_cap)
		w->marks = vec_grow(w->marks, &w->marks_cap, w->marks_n + 1, sizeof(*w->marks));
	w->marks[w->marks_n++] = (struct fd_mark){ w->begin_at, fd };
}

int
wire_end(struct wire *w, struct str tail, int fd)
{
	struct err e = { 0 };

	int rc = wire_put_end(&w->out, &w->json, w->begin_at, w->begin_kind, tail, fd >= 0, &e);
	if (rc != 0 && !w->out.overflow)
		return refuse_large(w, &e);
	if (w->state != LINK_OPEN) { /* nobody will read it: on_gone is due */
		buf_truncate(&w->out, w->begin_at);
		return 0;
	}
	int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (fd >= 0 && copy < 0) {
		err_errno(&e, errno, ERR_TO_LOG, "cannot pass a descriptor to the %s",
			role_name(w->peer));
		buf_truncate(&w->out, w->begin_at);
		wire_fail(w, &e);
		return 0;
	}
	if (copy >= 0)
		mark_fd(w, copy);
	if (wire_queued(w) >= FLUSH_NOW && !w->is_blocked)
		flush(w);
	if (w->out.overflow || wire_queued(w) > WIRE_OUT_MAX) {
		err_set(&e, ERR_LIMIT, ERR_TO_LOG,
			"the %s does not read: %zu bytes are queued (at most %u)",
			role_name(w->peer), wire_queued(w), WIRE_OUT_MAX);
		wire_fail(w, &e);
	}
	schedule(w);
	return 0;
}

void
wire_wipe(struct wire *w)
{
	w->is_wiped = true;
	if (!w->is_blocked && w->state == LINK_OPEN)
		flush(w);
}

void
wire_error(struct wire *w, uint64_t id, const struct err *e)
{
	wire_put_err(wire_begin(w, WIRE_ERROR, id), e);
	wire_end(w, STR(""), -1);
}

void
wire_on_drain(struct wire *w, size_t low, loop_fn fn, void *arg)
{
	w->drain_low = low;
	w->drain = fn;
	w->drain_arg = arg;
	schedule(w);
}

/* ---- input ---- */

static int
take_fds(struct wire *w, struct msghdr *msg, struct err *e)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (w->fds_in_n < FDS_IN_MAX) {
				w->fds_in[w->fds_in_n++] = fd;
			} else {
				close(fd);
				msg->msg_flags |= MSG_CTRUNC;
			}
		}
	}
	if (msg->msg_flags & MSG_CTRUNC)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "more than %d descriptors at once",
			FDS_IN_MAX);
	return 0;
}

/* Bytes read; 0: nothing there now; below 0: the link is over and e says why. */
static ssize_t
receive(struct wire *w, struct err *e)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_IN_MAX * sizeof(int))];
	} control;
	char *p = buf_reserve(&w->in, w->read_n);
	if (p == NULL)
		fatal("wire: input buffer past its maximum");
	struct iovec iov = { p, w->read_n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n;
	do
		n = recvmsg(w->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0 && errno != ECONNRESET)
		return err_errno(e, errno, ERR_TO_LOG, "cannot read from the %s",
			role_name(w->peer));
	if (n <= 0)
		return err_set(e, ERR_GONE, ERR_TO_LOG, "the %s closed the link%s",
			role_name(w->peer), w->in.n > 0 ? " in the middle of a message" : "");
	buf_added(&w->in, (size_t)n);
	int rc = take_fds(w, &msg, e);
	return rc != 0 ? rc : n;
}

static int
deliver(struct wire *w, struct wire_frame *f, struct err *e)
{
	if (wire_is_stream_kind(f->m.kind))
		return stream_receive(&w->streams, &f->m, e);
	if (wire_opens_stream(f->m.kind)) {
		if (stream_exists(&w->streams, f->m.id))
			return err_set(e, ERR_PROTO, ERR_TO_LOG,
				"%s on id %llu, which is a stream in use",
				wire_kind_name(f->m.kind), (unsigned long long)f->m.id);
		if (w->streams.n >= WIRE_STREAMS_MAX)
			return err_set(e, ERR_LIMIT, ERR_TO_LOG, "more than %u streams",
				WIRE_STREAMS_MAX);
		w->streams.id_max = MAX(w->streams.id_max, f->m.id);
	}
	if (f->has_fd) {
		if (w->fds_in_n == 0)
			return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s came without its descriptor",
				wire_kind_name(f->m.kind));
		f->m.fd = w->fds_in[0];
		w->fds_in_n--;
		memmove(w->fds_in, w->fds_in + 1, w->fds_in_n * sizeof(w->fds_in[0]));
	}
	int rc = w->handler->on_msg(w->arg, w, &f->m, e);
	if (f->m.fd >= 0)
		close(f->m.fd);
	return rc;
}

static bool
is_reading(const struct wire *w)
{
	return w->state == LINK_OPEN || w->state == LINK_BROKEN;
}

/* Hands every whole frame on; sets how much to read next. */
static int
dispatch(struct wire *w, struct err *e)
{
	size_t at = 0;

	while (is_reading(w)) {
		struct wire_frame f;
		struct str rest = { w->in.p + at, w->in.n - at };
		ptrdiff_t n = wire_parse(rest, w->peer, w->me, w->arena, &f, e);
		if (n == 0)
			break;
		if (n < 0)
			return (int)n;
		at += (size_t)n;
		int rc = deliver(w, &f, e);
		arena_reset(w->arena);
		if (rc != 0)
			return rc;
	}
	if (!is_reading(w)) /* closed by a callback that may still hold the message: keep it */
		return 0;
	buf_consume(&w->in, at);
	if (w->in.n == 0 && w->fds_in_n > 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG,
			"a descriptor came without a message that carries one");
	return 0;
}

static size_t
read_first(enum role peer)
{
	return peer == ROLE_CLIENT ? READ_CALL : READ_SMALL;
}

/* The rest of a large frame is asked for at once; a full read suggests that more is waiting. */
static size_t
next_read(struct wire *w, bool was_full)
{
	uint32_t total = 0;

	if (w->in.n >= WIRE_PREFIX) { /* wire_parse has checked it */
		memcpy(&total, w->in.p, sizeof(total));
		total = le32toh(total) + 4 - (uint32_t)w->in.n;
	}
	return MAX(total, was_full ? READ_LARGE : read_first(w->peer));
}

/* One read and what it brought. Whether it is worth reading on in this pass; below 0: the link is
 * over. */
static int
read_once(struct wire *w, struct err *e)
{
	ssize_t n = receive(w, e);
	if (n < 0)
		return (int)n;
	int rc = n > 0 ? dispatch(w, e) : 0;
	if (rc != 0)
		return rc;
	if (!is_reading(w))
		return 0;
	bool was_full = (size_t)n == w->read_n;
	w->read_n = next_read(w, was_full);
	shrink_if_empty(&w->in);
	return was_full || (n > 0 && w->state == LINK_BROKEN);
}

static void
read_peer(struct wire *w)
{
	struct err e = { 0 };
	int more = 1;

	for (int i = 0; i < READS_PER_PASS && more > 0; i++)
		more = read_once(w, &e);
	/* A broken link ends here: one pass reads more than a socket holds, so the last word has
	 * been heard. */
	if (more >= 0 && w->state == LINK_BROKEN)
		more = err_set(&e, ERR_GONE, ERR_TO_LOG, "the %s closed the link",
			role_name(w->peer));
	if (more < 0) {
		e.code = e.code != 0 ? e.code : more;
		wire_fail(w, &e);
	}
}

/* ---- life ---- */

static void
on_ready(void *arg, int events)
{
	struct wire *w = arg;

	if (events & LOOP_WRITE) {
		flush(w);
		schedule(w); /* drain, or the end of a flushed close */
	}
	if ((events & LOOP_READ) && is_reading(w))
		read_peer(w);
}

struct wire *
wire_open(struct loop *l, int fd, enum role me, enum role peer, const struct wire_handler *handler,
	void *arg)
{
	struct wire *w = xcalloc(1, sizeof(*w));

	*w = (struct wire){ .l = l, .fd = fd, .me = me, .peer = peer, .handler = handler };
	w->arg = arg;
	w->read_n = read_first(peer);
	w->id_next = me < peer ? 1 : 2;
	fd_set_nonblock(fd);
	fd_set_cloexec(fd);
	buf_init(&w->in, 2 * FRAME_MAX);
	buf_init(&w->out, 2 * (WIRE_OUT_MAX + FRAME_MAX));
	w->arena = arena_new(WIRE_NODES_MAX);
	w->watch = watch_start(l, fd, LOOP_READ, on_ready, w);
	if (w->watch == NULL)
		fatal("wire_open: descriptor %d is not a socket", fd);
	return w;
}

static void
close_socket(struct wire *w)
{
	watch_close(w->watch);
	w->watch = NULL;
	close(w->fd);
	timer_close(w->linger);
	w->linger = NULL;
	w->state = LINK_CLOSED;
}

static void
wire_free(struct wire *w)
{
	drop_output(w);
	for (size_t i = 0; i < w->fds_in_n; i++)
		close(w->fds_in[i]);
	buf_fini(&w->in);
	buf_fini(&w->out);
	free(w->marks);
	arena_free(w->arena);
	free(w);
}

static void
tell_gone(struct wire *w)
{
	struct err lost = w->err, e = w->err;

	lost.code = ERR_GONE; /* to a stream it is all the same why: its work may be asked again */
	stream_reset_all(&w->streams, &lost);
	if (w->state == LINK_DEAD) /* an on_reset may have closed the wire */
		w->handler->on_gone(w->arg, w, &e);
	if (w->state == LINK_DEAD)
		close_socket(w);
}

/* The end of a loop pass: one write, then whatever had to wait until nobody is on the stack. */
static void
wire_pass(void *arg)
{
	struct wire *w = arg;

	w->is_scheduled = false;
	if ((w->state == LINK_OPEN || w->state == LINK_FLUSHING) && !w->is_blocked)
		flush(w);
	if (w->state == LINK_BROKEN)
		read_peer(w);
	if (w->state == LINK_DEAD)
		tell_gone(w);
	if (w->state == LINK_FLUSHING && wire_queued(w) == 0)
		close_socket(w);
	if (w->state == LINK_OPEN && wire_queued(w) <= WIRE_BACKLOG_LOW)
		stream_resume_all(wire_streams(w));
	if (w->state == LINK_OPEN && w->drain != NULL && wire_queued(w) <= w->drain_low) {
		loop_fn fn = w->drain;
		w->drain = NULL;
		fn(w->drain_arg);
	}
	if (w->state == LINK_CLOSED && !w->is_scheduled)
		wire_free(w);
}

static void
linger_over(void *arg)
{
	struct wire *w = arg;
	close_socket(w);
	schedule(w);
}

static void
reset_streams(struct wire *w)
{
	static const struct err closed = {
		.code = ERR_GONE,
		.to = ERR_TO_LOG,
		.msg = "the link was closed",
	};
	stream_reset_all(&w->streams, &closed);
}

void
wire_close(struct wire *w)
{
	if (w == NULL)
		return;
	if (w->state == LINK_OPEN && !w->is_blocked)
		flush(w);
	close_socket(w);
	reset_streams(w);
	schedule(w);
}

void
wire_close_flushed(struct wire *w)
{
	if (w == NULL)
		return;
	if (w->state == LINK_OPEN && !w->is_blocked)
		flush(w);
	if (w->state != LINK_OPEN || wire_queued(w) == 0) {
		wire_close(w);
		return;
	}
	w->state = LINK_FLUSHING;
	watch_update(w->watch, LOOP_WRITE);
	w->linger = timer_start(w->l, WIRE_LINGER_MS, linger_over, w);
	reset_streams(w);
}
