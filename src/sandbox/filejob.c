/* SPDX-License-Identifier: MIT
 * File operations: one confined child of the cell each, which answers on a pipe. The answer comes from a process that
 * read foreign data, so it is bounded in time and size and its head is parsed before it goes on. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

#define READ_CHUNK (64u * KIB)
#define ORPHAN_MS  5000 /* for an operation whose runtime is gone: the next one waits for its end */
#define ANSWER_MAX (sizeof(struct file_answer) + ANSWER_HEAD_MAX + WIRE_TAIL_MAX)

struct file_job {
	struct shelld *d;
	struct file_job *next;
	struct cell *cell;
	uint64_t id;
	bool is_wanted; /* the runtime that asked is still there */
	bool timed_out;
	int control, pidfd, answer;
	struct watch *watch;
	struct timer *timeout;
	struct buf in;
	struct err fail;
};

static void
file_free(struct file_job *f)
{
	struct file_job **p = &f->d->file_jobs;
	while (*p != NULL && *p != f)
		p = &(*p)->next;
	if (*p == f)
		*p = f->next;
	watch_close(f->watch);
	timer_close(f->timeout);
	if (f->control >= 0)
		close(f->control);
	if (f->answer >= 0)
		close(f->answer);
	if (f->pidfd >= 0)
		close(f->pidfd);
	buf_fini(&f->in);
	free(f);
}

static void
control_read(struct file_job *f)
{
	struct report r;
	int fd = -1;
	while (report_recv(f->control, &r, &fd) == 1) {
		if (r.kind == REPORT_BEGUN && f->pidfd < 0)
			f->pidfd = fd;
		else if (fd >= 0)
			close(fd);
		if (r.kind == REPORT_FAILED)
			err_set(&f->fail, r.code, ERR_TO_MODEL, "%s", r.text);
	}
}

static int
forward(struct file_job *f, struct err *e)
{
	struct wire *w = f->d->runtime;
	struct file_answer a;
	struct str head, tail;
	const struct node *n;

	if (file_answer_parse(buf_str(&f->in), &a, &head, &tail) != 1)
		return err_set(e, ERR_FAILED, ERR_TO_MODEL, "the file operation was killed (%s)",
			f->timed_out ? "it took too long" : "a limit of the cell was reached");
	if (a.code != 0) {
		bool is_known = a.to >= ERR_TO_USER && a.to <= ERR_TO_LOG;
		return err_set(e, a.code, is_known ? (enum err_to)a.to : ERR_TO_LOG, "%.*s", STR_FMT(head));
	}
	struct arena *arena = arena_new(WIRE_NODES_MAX);
	int r = file_head_parse(arena, head, &n, e);
	if (r == 0) {
		json_kv_node(wire_begin(w, WIRE_FILED, f->id), "answer", n);
		r = wire_end(w, tail, -1);
	}
	arena_free(arena);
	return r;
}

static void
file_end(struct file_job *f)
{
	struct shelld *d = f->d;
	struct cell *c = f->cell;
	struct err e = { 0 };

	control_read(f);
	if (f->is_wanted) {
		if (f->in.n == 0 && !f->timed_out) {
			cell_read(c);
			if (f->fail.code != 0)
				e = f->fail;
			else if (d->is_stopping)
				err_set(&e, ERR_GONE, ERR_TO_LOG, "shelld is stopping");
			else if (!c->was_ready && c->why.code != 0)
				e = c->why;
		}
		if (e.code != 0 || forward(f, &e) != 0)
			wire_error(f->d->runtime, f->id, &e);
	}
	file_free(f);
	cell_job_ends(c);
	shelld_hello(d);
}

static void
on_answer(void *arg, int events)
{
	struct file_job *f = arg;
	char *room = buf_reserve(&f->in, READ_CHUNK);
	ssize_t n = room == NULL ? 0 : read(f->answer, room, READ_CHUNK);

	if (n > 0)
		buf_added(&f->in, (size_t)n);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		file_end(f);
}

static void
on_timeout(void *arg)
{
	struct file_job *f = arg;
	control_read(f);
	f->timed_out = true;
	if (f->pidfd >= 0)
		(void)pidfd_send_signal(f->pidfd, SIGKILL, NULL, 0);
	else
		cell_kill(f->cell); /* its init does not even take orders */
}

/* Parameters and content in memory that the child maps. */
static int
request_fd(const struct wire_msg *m, struct err *e)
{
	int fd = memfd_create("file-operation", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, m->tail.p, m->tail.n) != 0) {
		err_errno(e, errno, ERR_TO_LOG, "file operation");
		if (fd >= 0)
			close(fd);
		return e->code;
	}
	return fd;
}

static int
open_ends(struct file_job *f, const struct wire_msg *m, struct order *o, struct err *e)
{
	int out[2], control[2], request = request_fd(m, e);

	if (request < 0)
		return e->code;
	o->fd[o->fd_n++] = request;
	if (pipe2(out, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "file operation: pipe");
	o->fd[o->fd_n++] = out[1];
	f->answer = out[0];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "file operation: socketpair");
	o->fd[o->fd_n++] = control[1];
	f->control = control[0];
	fd_set_nonblock(f->control);
	fd_set_nonblock(f->answer);
	return 0;
}

static int
files_room(const struct shelld *d, struct err *e)
{
	size_t n = 0;

	for (const struct file_job *f = d->file_jobs; f != NULL; f = f->next)
		n++;
	if (n < FILE_JOBS_MAX)
		return shelld_room(d, e);
	return err_set(e, ERR_BUSY, ERR_TO_MODEL, "%u file operations run already (try again later)", FILE_JOBS_MAX);
}

int
file_begin(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	struct order o = { .kind = ORDER_FILE };
	struct str op = node_str(m->head, "op", STR(""));
	int64_t params = node_int(m->head, "params_bytes", -1);
	struct cell *c;
	struct str run;

	if (params < 0 || (uint64_t)params > m->tail.n || op.n == 0 || op.n > 32)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "file: params_bytes must be within the tail and op a name");
	if (files_room(d, e) != 0 || cell_get(d, node_str(m->head, "cell", STR("")), node_get(m->head, "plan"), &c, e) != 0 || cell_room(c, e) != 0 ||
		cell_run(c, m->head, &run, e) != 0)
		return e->code;
	struct file_job *f = xcalloc(1, sizeof(*f));
	*f = (struct file_job){ .d = d, .cell = c, .id = m->id, .is_wanted = true, .control = -1, .pidfd = -1, .answer = -1 };
	buf_init(&f->in, ANSWER_MAX + READ_CHUNK);
	if (open_ends(f, m, &o, e) != 0) {
		order_close_fds(&o);
		file_free(f);
		return e->code;
	}
	o.text[FILE_TEXT_OP] = op;
	o.text[FILE_TEXT_RUN] = run;
	o.num[FILE_NUM_PARAMS] = params;
	o.num[FILE_NUM_TOTAL] = (int64_t)m->tail.n;
	o.num[FILE_NUM_DATA] = c->has_group || c->kind == KIND_HOST ? 0 : c->plan.memory_bytes;
	f->next = d->file_jobs;
	d->file_jobs = f;
	f->watch = watch_start(d->l, f->answer, LOOP_READ, on_answer, f);
	f->timeout = timer_start(d->l, FILE_OP_MS, on_timeout, f);
	cell_job_begins(c);
	cell_post(c, &o);
	return 0;
}

const struct file_job *
file_next(const struct file_job *f)
{
	return f->next;
}

void
files_runtime_gone(struct shelld *d)
{
	for (struct file_job *f = d->file_jobs; f != NULL; f = f->next) {
		f->is_wanted = false;
		timer_again(f->timeout, ORPHAN_MS);
	}
}
