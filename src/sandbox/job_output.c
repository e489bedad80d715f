/* SPDX-License-Identifier: MIT
 * What commands write, and who sees it. Output goes into the spool and is read back from there at the pace of the
 * watcher's credit, so a flood costs disk up to output_max and no memory. Output of a live command goes straight to its
 * watcher instead, and what that does not take stays in the pipe, which holds the command back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/job.h"

#define CHUNKS_PER_RUN 8 /* of one pipe, before others get a turn */
#define TERMINAL_HOLDS (64 * KIB) /* more than the kernel keeps of one */

/* ---- who watches ---- */

static void
send_status(struct job *j)
{
	struct wire *w = j->d->runtime;
	if (j->fail.code != 0) {
		wire_error(w, j->id, &j->fail);
		return;
	}
	status_write(wire_begin(w, WIRE_EXEC_STATUS, j->id), &j->st);
	(void)wire_end(w, STR(""), -1);
}

/* The call is over for its watcher: everything it should see was sent. */
static void
dismiss(struct job *j)
{
	struct stream *s = j->stream;
	j->stream = NULL;
	stream_eof(s);
	stream_close(s, NULL);
}

/* What of one channel comes next. A run is left only when another follows: the last one may still grow. */
static struct run
next_run(struct job *j)
{
	while (j->run_at + 1 < j->runs_n && j->run_sent == j->runs[j->run_at].n) {
		j->run_at++;
		j->run_sent = 0;
	}
	if (j->run_at >= j->runs_n) /* a replay from the file alone */
		return (struct run){ OUTPUT_CHANNEL, j->st.kept_bytes - j->sent };
	return (struct run){ j->runs[j->run_at].ch, j->runs[j->run_at].n - j->run_sent };
}

/* Of a live command. False when there is no more yet, or the watcher takes no more. */
static bool
pipe_pass(struct pipe_end *x)
{
	struct job *j = x->j;
	char *chunk = j->d->chunk;
	size_t want = j->stream == NULL ? 0 : MIN(SHELLD_CHUNK, stream_credit(j->stream));

	if (x->fd < 0)
		return false;
	if (j->state == JOB_ENDED && x->left <= 0) {
		job_pipe_close(x);
		return false;
	}
	if (want == 0) {
		x->is_paused = true;
		watch_update(x->watch, 0);
		return false;
	}
	ssize_t n = read(x->fd, chunk, want);
	if (n > 0) {
		x->left -= n;
		j->st.output_bytes += n;
		(void)!stream_write(j->stream, x->ch, (struct str){ chunk, (size_t)n });
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR) || j->state == JOB_ENDED)
		job_pipe_close(x);
	return false;
}

static void
pass_on(struct job *j)
{
	for (int i = 0; i < 2; i++) {
		struct pipe_end *x = &j->out[i];
		if (x->is_paused && j->stream != NULL && stream_credit(j->stream) > 0) {
			x->is_paused = false;
			watch_update(x->watch, LOOP_READ);
		}
		for (int n = 0; (n < CHUNKS_PER_RUN || j->state == JOB_ENDED) && !x->is_paused && pipe_pass(x); n++) {
		}
	}
}

/* A live command that ended is over when its watcher has all of it, or is gone. */
static bool
is_passed_on(const struct job *j)
{
	return !j->is_live || j->stream == NULL || (j->out[0].fd < 0 && j->out[1].fd < 0);
}

/* Sends what the watcher has credit for; after the last byte the status. A job that ended goes with its watcher. */
void
job_pump(struct job *j)
{
	char *chunk = j->d->chunk;

	if (j->stream != NULL && j->awaits_begin && j->state == JOB_STARTING)
		return;
	if (j->is_live)
		pass_on(j);
	while (j->stream != NULL && j->sent < j->st.kept_bytes) {
		struct run r = next_run(j);
		size_t want = MIN(MIN(SHELLD_CHUNK, stream_credit(j->stream)), (size_t)r.n);
		if (want == 0)
			return;
		ssize_t n = pread(j->spool_fd, chunk, want, j->sent);
		if (n <= 0) {
			log_error("kept output cannot be read", LOG_S("effect", j->effect), LOG_I("errno", errno));
			break;
		}
		size_t taken = stream_write(j->stream, r.ch, (struct str){ chunk, (size_t)n });
		j->sent += (int64_t)taken;
		j->run_sent += (int64_t)taken;
		if (taken == 0)
			return;
	}
	if (j->state != JOB_ENDED || !is_passed_on(j))
		return;
	if (j->stream != NULL) {
		send_status(j);
		dismiss(j);
	}
	job_free(j);
}

static void
on_stream_data(void *arg, int ch, struct str bytes)
{
	struct job *j = arg;
	stream_consume(j->stream, bytes.n); /* input has a message of its own */
}

static void
on_stream_credit(void *arg)
{
	job_pump(arg);
}

static void
on_stream_eof(void *arg)
{
}

static void
on_stream_reset(void *arg, const struct err *e)
{
	struct job *j = arg;
	j->stream = NULL;
	if (j->state == JOB_ENDED)
		job_free(j);
}

static const struct stream_handler watcher = { on_stream_data, on_stream_credit, on_stream_eof, on_stream_reset };

/* Of a background job its watcher learns that it began, and no more. */
void
job_tell_begun(struct job *j)
{
	if (j->stream == NULL || !j->awaits_begin)
		return;
	wire_begin(j->d->runtime, WIRE_EXEC_BEGUN, j->id);
	(void)wire_end(j->d->runtime, STR(""), -1);
	dismiss(j);
}

void
job_attach(struct job *j, uint64_t id, bool is_background)
{
	static const struct err taken_over = { .code = ERR_CONFLICT, .msg = "someone else attached to this effect" };
	bool tells_only = is_background && j->state == JOB_RUNNING;

	if (j->stream != NULL && !tells_only) {
		struct stream *old = j->stream;
		j->stream = NULL;
		stream_close(old, &taken_over);
	}
	struct stream *s = stream_open(j->d->runtime, id, &watcher, j);
	if (tells_only) {
		wire_begin(j->d->runtime, WIRE_EXEC_BEGUN, id);
		(void)wire_end(j->d->runtime, STR(""), -1);
		stream_eof(s);
		stream_close(s, NULL);
		return;
	}
	j->awaits_begin = is_background;
	j->stream = s;
	j->id = id;
	j->sent = j->run_sent = 0;
	j->run_at = 0;
	job_pump(j);
}

/* A stream only to say one thing on: the client opened its end when it asked. */
void
job_answer(struct shelld *d, uint64_t id, const struct exec_status *st, const struct err *e)
{
	static const struct stream_handler nobody = { on_stream_data, NULL, on_stream_eof, on_stream_reset };
	struct job none = { .state = JOB_STARTING };
	struct stream *s = stream_open(d->runtime, id, &nobody, &none);
	if (e != NULL) {
		wire_error(d->runtime, id, e);
	} else {
		status_write(wire_begin(d->runtime, WIRE_EXEC_STATUS, id), st);
		(void)wire_end(d->runtime, STR(""), -1);
	}
	stream_eof(s);
	stream_close(s, NULL);
}

/* ---- output ---- */

static void
note_run(struct job *j, int ch, int64_t n)
{
	if (j->runs_n > 0 && (j->runs[j->runs_n - 1].ch == ch || j->runs_n >= EXEC_RUNS_MAX)) {
		j->runs[j->runs_n - 1].n += n;
		return;
	}
	j->runs = vec_grow(j->runs, &j->runs_cap, j->runs_n + 1, sizeof(j->runs[0]));
	j->runs[j->runs_n++] = (struct run){ ch, n };
}

void
job_keep(struct job *j, int ch, const char *p, size_t n)
{
	int64_t room = j->output_max - j->st.kept_bytes;
	size_t kept = (size_t)MIN((int64_t)n, MAX(room, 0));

	j->st.output_bytes += (int64_t)n;
	if (kept == 0)
		return;
	if (j->spool_fd < 0)
		j->spool_fd = spool_out(&j->d->spool, j->effect, true);
	if (j->spool_fd < 0 || fd_write_all(j->spool_fd, p, kept) != 0) {
		log_error("output cannot be kept", LOG_S("effect", j->effect), LOG_I("errno", errno));
		j->output_max = j->st.kept_bytes; /* the rest is counted only */
		return;
	}
	j->st.kept_bytes += (int64_t)kept;
	note_run(j, ch, (int64_t)kept);
}

void
job_pipe_close(struct pipe_end *x)
{
	watch_close(x->watch);
	x->watch = NULL;
	if (x->fd >= 0)
		close(x->fd);
	x->fd = -1;
}

/* False when all that had come is read: of a terminal a read gives no more than a line or a page. */
static bool
pipe_read(struct pipe_end *x)
{
	char *chunk = x->j->d->chunk;
	ssize_t n = x->fd < 0 ? -1 : read(x->fd, chunk, SHELLD_CHUNK);
	if (n > 0) {
		x->left -= n;
		job_keep(x->j, x->ch, chunk, (size_t)n);
		return n == SHELLD_CHUNK || x->j->has_terminal;
	}
	if (n == 0 || (x->fd >= 0 && errno != EAGAIN && errno != EINTR))
		job_pipe_close(x);
	return false;
}

static void
on_pipe(void *arg, int events)
{
	struct pipe_end *x = arg;
	for (int i = 0; i < CHUNKS_PER_RUN && !x->j->is_live && pipe_read(x); i++) {
	}
	job_pump(x->j);
}

void
job_pipe_watch(struct pipe_end *x)
{
	x->watch = watch_start(x->j->d->l, x->fd, LOOP_READ, on_pipe, x);
}

/* What may be in it now that the command is gone. It may have handed its end to another command, which writes on without end:
 * that is nobody's output. */
static int64_t
holds(int fd)
{
	int n = fd < 0 ? 0 : fcntl(fd, F_GETPIPE_SZ);
	return n >= 0 ? n : TERMINAL_HOLDS;
}

void
job_drain(struct job *j)
{
	for (int i = 0; i < 2; i++) {
		struct pipe_end *x = &j->out[i];
		x->left = holds(x->fd);
		while (!j->is_live && x->left > 0 && pipe_read(x)) {
		}
		if (!j->is_live)
			job_pipe_close(x);
	}
}
