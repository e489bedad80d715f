/* SPDX-License-Identifier: MIT
 * Packets between shelld, the zygote and cell inits: orders (numbers, texts, descriptors) and fixed-size reports. Both
 * ends are this binary, but a cell init sits beside foreign code, so what it sends is parsed with suspicion. Invariant:
 * a descriptor that arrives is either handed to the caller or closed. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/json.h"
#include "sandbox/internal.h"

#define ORDER_MAGIC 0x69746f72u

struct order_head {
	uint32_t magic, kind, id, fd_n;
	int64_t num[ORDER_NUMS];
	uint32_t text_n[ORDER_TEXTS]; /* each is followed by a NUL in the packet */
};

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * ORDER_FDS)];
};

int
order_encode(const struct order *o, struct buf *b)
{
	struct order_head h = { .magic = ORDER_MAGIC, .kind = o->kind, .id = o->id, .fd_n = (uint32_t)o->fd_n };
	size_t total = sizeof(h);

	memcpy(h.num, o->num, sizeof(h.num));
	for (size_t i = 0; i < ORDER_TEXTS; i++) {
		if (o->text[i].n > ORDER_MAX)
			return ERR_LIMIT;
		h.text_n[i] = (uint32_t)o->text[i].n;
		total += o->text[i].n + 1;
	}
	if (total > ORDER_MAX || o->fd_n > ORDER_FDS)
		return ERR_LIMIT;
	buf_add(b, &h, sizeof(h));
	for (size_t i = 0; i < ORDER_TEXTS; i++) {
		buf_add_str(b, o->text[i]);
		buf_add_char(b, '\0');
	}
	return b->overflow ? ERR_LIMIT : 0;
}

int
order_parse(struct str in, struct order *o)
{
	struct order_head h;
	if (in.n < sizeof(h) || in.n > ORDER_MAX)
		return ERR_PROTO;
	memcpy(&h, in.p, sizeof(h));
	if (h.magic != ORDER_MAGIC || h.kind == 0 || h.kind >= ORDER_KIND_END || h.fd_n > ORDER_FDS)
		return ERR_PROTO;

	struct order got = { .kind = h.kind, .id = h.id, .fd_n = h.fd_n };
	size_t at = sizeof(h);
	memcpy(got.num, h.num, sizeof(got.num));
	for (size_t i = 0; i < ORDER_TEXTS; i++) {
		if (h.text_n[i] >= in.n - at || in.p[at + h.text_n[i]] != '\0')
			return ERR_PROTO;
		got.text[i] = (struct str){ in.p + at, h.text_n[i] };
		at += h.text_n[i] + 1u;
		if (at == in.n && i + 1 < ORDER_TEXTS)
			return ERR_PROTO;
	}
	if (at != in.n)
		return ERR_PROTO;
	*o = got;
	return 0;
}

static int
packet_send(int sock, const void *p, size_t n, const int *fds, size_t fd_n)
{
	union control c;
	struct iovec iov = { (void *)(uintptr_t)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_n > 0) {
		memset(&c, 0, sizeof(c));
		m.msg_control = c.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_n);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * fd_n);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * fd_n);
	}
	ssize_t r;
	do {
		r = sendmsg(sock, &m, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -1 : 0;
}

/* Length, 0 at the end, -1 with errno. Descriptors go to fds (ORDER_FDS of them at most). */
static ssize_t
packet_recv(int sock, void *p, size_t n, int *fds, size_t *fd_n)
{
	union control c;
	struct iovec iov = { p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof(c) };
	ssize_t r;

	*fd_n = 0;
	do { /* ECONNRESET, once: the other side ended with something unread; what it said before comes after that */
		r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	} while (r < 0 && (errno == EINTR || errno == ECONNRESET));
	if (r < 0)
		return -1;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t got = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds + *fd_n, CMSG_DATA(h), got * sizeof(int));
		*fd_n += got;
	}
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		for (size_t i = 0; i < *fd_n; i++)
			close(fds[i]);
		*fd_n = 0;
		errno = EPROTO;
		return -1;
	}
	return r;
}

size_t
order_binds(const struct order *o)
{
	size_t n = 0;

	for (int i = 0; i < BIND_COUNT; i++)
		n += o->text[i].n > 0;
	return n;
}

int
order_send(int sock, const struct order *o)
{
	struct buf b;
	buf_init(&b, ORDER_MAX);
	int r = -1;
	if (order_encode(o, &b) == 0)
		r = packet_send(sock, b.p, b.n, o->fd, o->fd_n);
	else
		errno = EMSGSIZE;
	int saved = errno;
	buf_fini(&b);
	errno = saved;
	return r;
}

int
order_recv(int sock, char *mem, struct order *o)
{
	int fds[ORDER_FDS];
	size_t fd_n;
	ssize_t n = packet_recv(sock, mem, ORDER_MAX, fds, &fd_n);
	if (n <= 0)
		return (int)n;
	int r = order_parse((struct str){ mem, (size_t)n }, o);
	if (r != 0 || o->fd_n != fd_n) {
		for (size_t i = 0; i < fd_n; i++)
			close(fds[i]);
		errno = EPROTO;
		return -1;
	}
	memcpy(o->fd, fds, sizeof(int) * fd_n);
	return 1;
}

void
order_close_fds(struct order *o)
{
	for (size_t i = 0; i < o->fd_n; i++) {
		if (o->fd[i] >= 0)
			close(o->fd[i]);
	}
	o->fd_n = 0;
}

int
report_send(int sock, const struct report *r, int fd)
{
	return packet_send(sock, r, sizeof(*r), &fd, fd >= 0 ? 1 : 0);
}

int
report_fail(int sock, uint32_t id, const struct err *e)
{
	struct report r = { .kind = REPORT_FAILED, .id = id, .code = e->code != 0 ? e->code : ERR_FAILED };
	memcpy(r.text, e->msg, sizeof(r.text));
	return report_send(sock, &r, -1);
}

int
report_recv(int sock, struct report *r, int *fd)
{
	int fds[ORDER_FDS];
	size_t fd_n;
	ssize_t n = packet_recv(sock, r, sizeof(*r), fds, &fd_n);
	if (n <= 0)
		return (int)n;
	if (n != sizeof(*r) || fd_n > 1 || r->kind == 0 || r->kind >= REPORT_KIND_END) {
		for (size_t i = 0; i < fd_n; i++)
			close(fds[i]);
		errno = EPROTO;
		return -1;
	}
	r->text[sizeof(r->text) - 1] = '\0';
	*fd = fd_n == 1 ? fds[0] : -1;
	return 1;
}

static bool
is_flat(const struct node *n, size_t depth)
{
	size_t count = n->type == NODE_MAP ? n->map.n : n->type == NODE_LIST ? n->list.n : 0;

	for (size_t i = 0; i < count; i++) {
		if (depth == 0 || !is_flat(n->type == NODE_MAP ? &n->map.pairs[i].value : &n->list.items[i], depth - 1))
			return false;
	}
	return true;
}

int
file_head_parse(struct arena *a, struct str head, const struct node **out, struct err *e)
{
	if (json_parse(a, head, out, e) != 0)
		return e->code;
	return is_flat(*out, FILE_ANSWER_DEPTH) ? 0 : err_set(e, ERR_PROTO, ERR_TO_LOG, "the answer of a file operation is nested too deep");
}

int
file_answer_parse(struct str in, struct file_answer *a, struct str *head, struct str *tail)
{
	struct file_answer got;
	if (in.n < sizeof(got))
		return 0;
	memcpy(&got, in.p, sizeof(got));
	if (got.magic != FILE_ANSWER_MAGIC || got.code > 0 || got.head_n > ANSWER_HEAD_MAX || got.tail_n > WIRE_TAIL_MAX)
		return -1;
	size_t total = sizeof(got) + got.head_n + got.tail_n;
	if (in.n > total)
		return -1;
	if (in.n < total)
		return 0;
	*a = got;
	*head = (struct str){ in.p + sizeof(got), got.head_n };
	*tail = (struct str){ in.p + sizeof(got) + got.head_n, got.tail_n };
	return 1;
}
