/* SPDX-License-Identifier: MIT
 * One call over run/control.sock: short, blocking, with a deadline. Works whatever state the runtime is in. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "cli/internal.h"

static int
send_call(int fd, const char *method, const char *about, struct err *e)
{
	struct buf b;
	struct json j;
	size_t start;
	int rc;

	buf_init(&b, CONTROL_FRAME_MAX);
	start = wire_put_begin(&b, &j, WIRE_CALL, 1);
	json_kv_z(&j, "method", method);
	if (about)
		json_kv_z(&j, "about", about);
	rc = wire_put_end(&b, &j, start, WIRE_CALL, STR(""), false, e);
	if (rc == 0 && fd_write_all(fd, b.p, b.n) != 0)
		rc = err_set(e, ERR_GONE, ERR_TO_USER, "the runner ended");
	buf_fini(&b);
	return rc;
}

static int
read_answer(const struct cli *c, int fd, int64_t wait_ms, struct buf *in, const struct node **result, struct err *e)
{
	struct wire_frame frame;
	const struct node *n = NULL;
	int rc = frame_read(fd, clock_mono_ms() + wait_ms, in, c->a, &frame, e);

	if (rc != 0)
		return rc;
	if (frame.m.kind == WIRE_ERROR) {
		wire_err(frame.m.head, e);
		return e->code ? e->code : err_set(e, ERR_FAILED, ERR_TO_USER, "the runner refused without a reason");
	}
	if (frame.m.kind != WIRE_RESULT || json_parse(c->a, frame.m.tail.n > 0 ? frame.m.tail : STR("{}"), &n, e) != 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER, "the runner answered with something else than a result");
	*result = node_copy(c->a, n);
	return 0;
}

int
control_call(const struct cli *c, const char *method, const char *about, int64_t wait_ms, const struct node **result,
	struct err *e)
{
	AUTO_CLOSE int fd = unix_connect(path_join(c->a, c->home, "run/control.sock"), e);
	struct buf in;
	uid_t uid;
	pid_t pid = 0;
	int rc;

	if (fd < 0)
		return fd;
	/* Whoever could put a socket there could be anybody. */
	if (unix_peer(fd, &uid, &pid) != 0 || (uid != geteuid() && uid != 0 && geteuid() != 0))
		return err_set(e, ERR_DENIED, ERR_TO_USER, "%s/run/control.sock is served by another user", c->home);
	buf_init(&in, CONTROL_FRAME_MAX);
	rc = send_call(fd, method, about, e);
	if (rc == 0)
		rc = read_answer(c, fd, wait_ms, &in, result, e);
	if (rc == ERR_TIMEOUT)
		err_set(e, rc, ERR_TO_USER, "the runner (pid %d) did not answer within %lld s (see %s/logs/runner.log)", (int)pid,
			(long long)(wait_ms / 1000), c->home);
	buf_fini(&in);
	return rc;
}
