/* SPDX-License-Identifier: MIT
 * QEMU's monitor protocol: a line of JSON each way. Events are passed over; an answer is waited for
 * only as long as the machine is there and its time is not up. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "sandbox/vm_host.h"

#define ANSWER_MAX (4u * MIB) /* of a line as a tree */
#define ASK_MS     3

static int
is_over(struct qmp *q, struct err *e)
{
	if (clock_mono_ms() > q->until_ms)
		return err_set(
			e, ERR_TIMEOUT, ERR_TO_USER, "QEMU's monitor did not answer in time");
	return q->is_there != NULL && !q->is_there(q->arg, e) ? e->code : 0;
}

/* The length of the next line, which is at the front of q->in, with its end. */
static int
read_line(struct qmp *q, size_t *n, struct err *e)
{
	for (;;) {
		const char *nl = q->in.n == 0 ? NULL : memchr(q->in.p, '\n', q->in.n);
		if (nl != NULL) {
			*n = (size_t)(nl + 1 - q->in.p);
			return 0;
		}
		struct pollfd p = { .fd = q->fd, .events = POLLIN };
		if (poll(&p, 1, DOOR_LOOK_MS) <= 0) {
			if (is_over(q, e) != 0)
				return e->code;
			continue;
		}
		char *at = buf_reserve(&q->in, 4096);
		if (at == NULL)
			return err_set(e, ERR_PROTO, ERR_TO_USER,
				"QEMU's monitor: a line is longer than %u bytes", QMP_LINE_MAX);
		ssize_t got = recv(q->fd, at, 4096, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0) { /* why it ended is said best by whoever knows its process */
			struct timespec pause = { .tv_nsec = DOOR_LOOK_MS * 1000000L };
			nanosleep(&pause, NULL);
			return q->is_there != NULL && !q->is_there(q->arg, e)
				       ? e->code
				       : err_set(e, ERR_GONE, ERR_TO_USER,
						 "QEMU closed its monitor");
		}
		buf_added(&q->in, (size_t)got);
	}
}

/* Takes one line: 1 when it answers, 0 for an event or the greeting. */
static int
take_line(struct qmp *q, const char *command, char status[QMP_STATUS_MAX], struct err *e)
{
	const struct node *m, *back = NULL, *error;
	struct err bad;
	size_t n;
	int rc = read_line(q, &n, e);

	if (rc != 0)
		return rc;
	struct arena *a = arena_new(ANSWER_MAX);
	if (json_parse(a, (struct str){ q->in.p, n - 1 }, &m, &bad) != 0 || m->type != NODE_MAP)
		rc = err_set(e, ERR_PROTO, ERR_TO_USER, "QEMU's monitor: a line that is no object");
	else if ((error = node_get(m, "error")) != NULL)
		rc = err_set(e, ERR_FAILED, ERR_TO_USER, "QEMU refused %s: %.150s", command,
			node_z(error, "desc", "it does not say why"));
	else if ((back = node_get(m, "return")) != NULL || node_get(m, "QMP") != NULL)
		rc = (back != NULL) == (command != NULL) ? 1 : 0;
	if (rc == 1 && status != NULL)
		snprintf(status, QMP_STATUS_MAX, "%s", node_z(back, "status", ""));
	arena_free(a);
	buf_consume(&q->in, n);
	return rc;
}

static int
put(struct qmp *q, const char *text, size_t n, int given, struct err *e)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = n };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

	if (given >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(c), &given, sizeof(given));
	}
	ssize_t sent = sendmsg(q->fd, &m, MSG_NOSIGNAL);
	if (sent == (ssize_t)n)
		return 0;
	struct err why = { 0 };
	if (is_over(q, &why) != 0)
		return err_copy(e, &why);
	return err_errno(e, sent < 0 ? errno : EIO, ERR_TO_USER, "cannot speak to QEMU's monitor");
}

int
qmp_call(struct qmp *q, const char *command, const char *arguments, int given,
	char status[QMP_STATUS_MAX], struct err *e)
{
	struct buf b;

	buf_init(&b, QMP_LINE_MAX);
	buf_printf(&b, "{\"execute\":\"%s\"%s%s}\n", command,
		arguments != NULL ? ",\"arguments\":" : "", arguments != NULL ? arguments : "");
	int rc = put(q, b.p, b.n, given, e);
	buf_fini(&b);
	while (rc == 0)
		rc = take_line(q, command, status, e);
	return rc > 0 ? 0 : rc;
}

int
qmp_await(struct qmp *q, const char *command, const char *const *while_it_is,
	char status[QMP_STATUS_MAX], struct err *e)
{
	for (;;) {
		if (qmp_call(q, command, NULL, -1, status, e) != 0 || is_over(q, e) != 0)
			return e->code;
		const char *const *w = while_it_is;
		while (*w != NULL && strcmp(*w, status) != 0)
			w++;
		if (*w == NULL)
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = ASK_MS * 1000000L }, NULL);
	}
}

int
qmp_open(struct qmp *q, int fd, int64_t until_ms, door_alive_fn is_there, void *arg, struct err *e)
{
	int rc = 0;

	*q = (struct qmp){ .fd = fd, .until_ms = until_ms, .is_there = is_there, .arg = arg };
	buf_init(&q->in, QMP_LINE_MAX);
	while (rc == 0)
		rc = take_line(q, NULL, NULL, e);
	return rc < 0 ? rc : qmp_call(q, "qmp_capabilities", NULL, -1, NULL, e);
}

void
qmp_fini(struct qmp *q)
{
	buf_fini(&q->in);
}
