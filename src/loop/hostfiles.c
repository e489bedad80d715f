/* SPDX-License-Identifier: MIT
 * The asking end of hostfiles: a frame out, a frame in. After a timeout or a frame that is none nothing more is asked, so that no
 * answer can be taken for another's. */
#include "loop/hostfiles.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "loop/wire.h"

#define ANSWER_MS 30000 /* of a disk that is slow */
#define FRAME_MAX (WIRE_PREFIX + WIRE_HEAD_MAX + WIRE_TAIL_MAX)
#define READ_ONCE (64u * KIB)

struct hostfiles {
	int fd; /* -1: nothing is asked any more */
	uint64_t id;
};

struct hostfiles *
hostfiles_open(int fd)
{
	struct hostfiles *h = xcalloc(1, sizeof(*h));

	h->fd = fd;
	return h;
}

void
hostfiles_close(struct hostfiles *h)
{
	if (h == NULL)
		return;
	if (h->fd >= 0)
		close(h->fd);
	free(h);
}

static int
send_all(int fd, struct str s, struct err *e)
{
	while (s.n > 0) {
		ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot speak to the runner");
		s = str_sub(s, (size_t)n, s.n);
	}
	return 0;
}

/* Until a whole frame is there; it points into in and a. */
static int
await(int fd, struct buf *in, struct arena *a, struct wire_frame *f, struct err *e)
{
	int64_t until_ms = clock_mono_ms() + ANSWER_MS;

	for (;;) {
		ptrdiff_t whole = wire_parse(buf_str(in), ROLE_RUNNER, ROLE_RUNTIME, a, f, e);
		if (whole != 0)
			return whole < 0 ? (int)whole : 0;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until_ms - clock_mono_ms();
		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "the runner did not answer within %d s", ANSWER_MS / 1000);
		char *to = buf_reserve(in, READ_ONCE);
		ssize_t n = to == NULL ? 0 : recv(fd, to, READ_ONCE, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, ERR_GONE, ERR_TO_USER, "the runner is gone");
		buf_added(in, (size_t)n);
	}
}

/* *f lives as long as in and a. */
static int
ask(struct hostfiles *h, const char *op, const char *path, size_t max, struct str content, struct buf *in, struct arena *a,
	struct wire_frame *f, struct err *e)
{
	struct buf out;
	struct json j;

	if (h->fd < 0)
		return err_set(e, ERR_GONE, ERR_TO_USER, "%s: the runner, which keeps it, does not answer", path);
	buf_init(&out, FRAME_MAX);
	size_t start = wire_put_begin(&out, &j, WIRE_HOST_FILE, ++h->id);
	json_kv_z(&j, "op", op);
	json_kv_z(&j, "path", path);
	json_kv_int(&j, "max", (int64_t)max);
	int rc = wire_put_end(&out, &j, start, WIRE_HOST_FILE, content, false, e);
	if (rc == 0) {
		rc = send_all(h->fd, buf_str(&out), e);
		if (rc == 0)
			rc = await(h->fd, in, a, f, e);
		if (rc == 0 && f->m.id != h->id)
			rc = err_set(e, ERR_PROTO, ERR_TO_USER, "the runner answers what was not asked");
		if (rc != 0)
			close(take_fd(&h->fd));
	}
	if (rc == 0 && f->m.kind == WIRE_ERROR) {
		struct err why = { 0 };
		wire_err(f->m.head, &why);
		rc = err_copy(e, &why);
	}
	explicit_bzero(out.p, out.n); /* a configuration may hold a key */
	buf_fini(&out);
	return rc;
}

static int
read_op(struct hostfiles *h, const char *op, const char *path, size_t max, char **text, size_t *n, struct err *e)
{
	struct arena *a = arena_new(1 * MIB);
	struct wire_frame f;
	struct buf in;

	buf_init(&in, FRAME_MAX);
	int rc = ask(h, op, path, max, STR(""), &in, a, &f, e);
	if (rc == 0 && f.m.tail.n > max)
		rc = err_set(e, ERR_LIMIT, ERR_TO_USER, "%s is larger than %zu bytes", path, max);
	if (rc == 0) {
		*text = str_dup(f.m.tail);
		*n = f.m.tail.n;
	}
	if (in.p != NULL)
		explicit_bzero(in.p, in.n);
	buf_fini(&in);
	arena_free(a);
	return rc;
}

int
hostfiles_read(struct hostfiles *h, const char *path, size_t max, char **out, size_t *n, struct err *e)
{
	return h == NULL ? file_read(path, max, out, n, e) : read_op(h, "read", path, max, out, n, e);
}

int
hostfiles_read_plain(struct hostfiles *h, const char *path, size_t max, char **out, size_t *n, struct err *e)
{
	return h == NULL ? file_read_no_link(path, max, out, n, e) : read_op(h, "plain", path, max, out, n, e);
}

int
hostfiles_write(struct hostfiles *h, const char *path, struct str content, struct err *e)
{
	struct arena *a;
	struct wire_frame f;
	struct buf in;

	if (h == NULL)
		return file_write(path, content, 0600, e);
	a = arena_new(1 * MIB);
	buf_init(&in, FRAME_MAX);
	int rc = ask(h, "write", path, 0, content, &in, a, &f, e);
	buf_fini(&in);
	arena_free(a);
	return rc;
}

int
hostfiles_look(struct hostfiles *h, const char *path, bool may_follow, mode_t *mode, struct err *e)
{
	struct arena *a;
	struct wire_frame f;
	struct stat st;
	struct buf in;

	if (h == NULL) {
		if ((may_follow ? stat : lstat)(path, &st) != 0)
			return err_errno(e, errno, ERR_TO_USER, "%s", path);
		*mode = st.st_mode;
		return 0;
	}
	a = arena_new(1 * MIB);
	buf_init(&in, FRAME_MAX);
	int rc = ask(h, may_follow ? "look" : "look_plain", path, 0, STR(""), &in, a, &f, e);
	if (rc == 0)
		*mode = (mode_t)node_int(f.m.head, "mode", 0);
	buf_fini(&in);
	arena_free(a);
	return rc;
}
