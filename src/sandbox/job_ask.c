/* SPDX-License-Identifier: MIT
 * Requests about a command by its effect id, running or not: a signal, its kill, what is kept of its output, and that it
 * be forgotten. A cell knows only of its own. */
#include <errno.h>
#include <unistd.h>
#include "base/mem.h"
#include "sandbox/job.h"

static int
read_effect(const struct wire_msg *m, char out[CELL_KEY_MAX + 1], struct err *e)
{
	struct str effect = node_str(m->head, "effect", STR(""));
	if (!key_valid(effect))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "bad effect key");
	memcpy(out, effect.p, effect.n);
	out[effect.n] = '\0';
	return 0;
}

/* The effect that a request is about, as far as its cell may know of it. */
static int
read_own_effect(const struct shelld *d, const struct wire_msg *m, char out[CELL_KEY_MAX + 1], struct err *e)
{
	if (read_effect(m, out, e) != 0)
		return e->code;
	if (!spool_is_of(&d->spool, out, node_str(m->head, "cell", STR(""))))
		return err_set(e, ERR_NOT_FOUND, ERR_TO_MODEL,
			"no command of this session has the id %s (use the id that exec gave)", out);
	return 0;
}

/* State of an effect, running or not. */
static struct job *
look_up(struct shelld *d, const char *effect, struct exec_status *st)
{
	struct job *j = job_find(d, str_of(effect));
	if (j == NULL) {
		spool_find(&d->spool, effect, st);
		return NULL;
	}
	*st = j->st;
	if (j->state != JOB_ENDED) {
		st->state = EXEC_RUNNING;
		st->duration_ms = loop_now_ms(d->l) - j->began_at_ms;
	}
	return j;
}

/* Answered like KILL, but at once: the command goes on unless the signal ends it. */
int
job_signal(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	char effect[CELL_KEY_MAX + 1];
	struct exec_status st;
	int number = exec_signal_parse(node_str(m->head, "signal", STR("")));

	if (read_own_effect(d, m, effect, e) != 0)
		return e->code;
	if (number == 0)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "no signal that can be sent (HUP INT QUIT TERM KILL USR1 USR2 STOP TSTP CONT)");
	struct job *j = look_up(d, effect, &st);
	if (j != NULL && j->state == JOB_STARTING)
		return err_set(e, ERR_BUSY, ERR_TO_MODEL, "%s has not begun yet", effect);
	int pidfd = j == NULL ? -1 : j->shell != NULL ? shell_pidfd(j->shell) : j->pidfd;
	if (j != NULL && j->state == JOB_RUNNING && exec_order(pidfd, number) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "signal %d", number);
	status_write(wire_begin(d->runtime, WIRE_SPOOLED, m->id), &st);
	(void)wire_end(d->runtime, STR(""), -1);
	return 0;
}

int
job_kill(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	char effect[CELL_KEY_MAX + 1];
	struct exec_status st;

	if (read_own_effect(d, m, effect, e) != 0)
		return e->code;
	struct job *j = look_up(d, effect, &st);
	if (j != NULL && j->state != JOB_ENDED) {
		if (waiter_add(&j->killed, m->id, e) != 0)
			return e->code;
		j->st.killed = true;
		job_kill_tree(j);
		return 0;
	}
	status_write(wire_begin(d->runtime, WIRE_SPOOLED, m->id), &st);
	(void)wire_end(d->runtime, STR(""), -1);
	return 0;
}

int
job_spool(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	char effect[CELL_KEY_MAX + 1];
	struct exec_status st;
	int64_t offset = node_int(m->head, "offset", 0), n = node_int(m->head, "n", 0);
	struct buf b;

	if (read_own_effect(d, m, effect, e) != 0)
		return e->code;
	if (offset < 0 || n < 0)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "spool: offset and n must not be negative");
	(void)look_up(d, effect, &st);
	n = MIN(MIN(n, (int64_t)WIRE_TAIL_MAX), MAX(st.kept_bytes - offset, 0));
	buf_init(&b, WIRE_TAIL_MAX);
	AUTO_CLOSE int fd = n > 0 ? spool_out(&d->spool, effect, false) : -1;
	char *room = fd >= 0 ? buf_reserve(&b, (size_t)n) : NULL;
	ssize_t got = room != NULL ? pread(fd, room, (size_t)n, offset) : 0;
	if (got > 0)
		buf_added(&b, (size_t)got);
	struct json *j = wire_begin(d->runtime, WIRE_SPOOLED, m->id);
	status_write(j, &st);
	json_kv_int(j, "offset", offset);
	json_kv_bool(j, "is_end", st.state != EXEC_RUNNING && offset + (int64_t)b.n >= st.kept_bytes);
	int r = wire_end(d->runtime, buf_str(&b), -1);
	buf_fini(&b);
	return r;
}

int
job_forget(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	char effect[CELL_KEY_MAX + 1];
	if (read_effect(m, effect, e) != 0)
		return e->code;
	struct job *j = job_find(d, str_of(effect));
	if (j != NULL && j->state != JOB_ENDED)
		return err_set(e, ERR_BUSY, ERR_TO_LOG, "effect %s is still running (kill it first)", effect);
	spool_forget(&d->spool, effect);
	wire_begin(d->runtime, WIRE_CLOSED, m->id);
	return wire_end(d->runtime, STR(""), -1);
}
