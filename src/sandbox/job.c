/* SPDX-License-Identifier: MIT
 * Commands: each runs once per effect id. Here are their begin, input and end; requests about them are in job_ask.c.
 * Invariant: begun is in the spool before the order leaves, and a status only when everything of the command is gone. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/job.h"

#define STUCK_MS 5000 /* after its timeout, for a command to have begun */
#define END_MS   1000 /* for an init to end its tree and say what that used; then it is killed */

#define END_OF_INPUT "\4" /* on a terminal */

struct job *
job_find(struct shelld *d, struct str effect)
{
	for (struct job *j = d->jobs; j != NULL; j = j->next) {
		if (str_is(effect, j->effect))
			return j;
	}
	return NULL;
}

void
job_free(struct job *j)
{
	struct job **p = &j->d->jobs;
	while (*p != NULL && *p != j)
		p = &(*p)->next;
	if (*p == j)
		*p = j->next;
	if (j->spool_fd >= 0)
		close(j->spool_fd);
	job_pipe_close(&j->out[0]);
	job_pipe_close(&j->out[1]);
	waiters_free(&j->killed);
	buf_fini(&j->input);
	free(j->runs);
	free(j);
}

/* ---- input ---- */

static void
input_close(struct job *j)
{
	watch_close(j->in_watch);
	j->in_watch = NULL;
	if (j->in >= 0)
		close(j->in);
	j->in = -1;
	buf_reset(&j->input);
}

static void
input_flush(struct job *j)
{
	while (j->in >= 0 && j->input.n > 0) {
		ssize_t n = write(j->in, j->input.p, j->input.n);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			input_close(j); /* it reads no more */
			return;
		}
		buf_consume(&j->input, (size_t)n);
	}
	if (j->in_watch != NULL)
		watch_update(j->in_watch, j->input.n > 0 ? LOOP_WRITE : 0);
	if (j->input.n == 0 && j->input_ended)
		input_close(j);
}

static void
on_input(void *arg, int events)
{
	input_flush(arg);
}

static bool
is_size(int64_t n)
{
	return n >= 1 && n <= TERMINAL_MAX;
}

static struct job *
job_watched(struct shelld *d, uint64_t id)
{
	struct job *j = d->jobs;
	while (j != NULL && (j->stream == NULL || j->id != id))
		j = j->next;
	return j;
}

/* What does not go to its command at once is queued, for one and for all of them within limits. */
static bool
input_has_room(const struct job *to, size_t n)
{
	size_t all = n;

	if (to->input.n == 0)
		return true;
	for (const struct job *j = to->d->jobs; j != NULL; j = j->next)
		all += j->input.n;
	return all <= INPUT_ALL_MAX;
}

void
job_input(struct shelld *d, const struct wire_msg *m)
{
	struct job *j = job_watched(d, m->id);
	bool is_dropped;

	if (j == NULL || j->input_ended || (j->in < 0 && !(j->has_terminal && j->state == JOB_STARTING)))
		return; /* it ended meanwhile, or takes no input */
	if (m->tail.n > 0) {
		is_dropped = !input_has_room(j, m->tail.n) || buf_add_str(&j->input, m->tail) != 0;
	} else {
		is_dropped = j->has_terminal && buf_add_str(&j->input, STR(END_OF_INPUT)) != 0;
		j->input_ended = !j->has_terminal;
	}
	if (is_dropped)
		log_warn("input was dropped: the command does not read", LOG_S("effect", j->effect));
	input_flush(j);
}

void
job_resize(struct shelld *d, const struct wire_msg *m)
{
	const struct job *j = job_watched(d, m->id);
	int64_t rows = node_int(m->head, "rows", 0), columns = node_int(m->head, "columns", 0);
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (j == NULL || !j->has_terminal || j->out[0].fd < 0)
		return;
	if (is_size(rows) && is_size(columns))
		(void)ioctl(j->out[0].fd, TIOCSWINSZ, &size);
}

/* ---- end ---- */

/* To the command of an init; 0: the init ends everything. */
int
exec_order(int pidfd, int number)
{
	siginfo_t info = { 0 };
	info.si_signo = EXEC_SIGNAL;
	info.si_code = SI_QUEUE;
	info.si_value.sival_int = number;
	return pidfd_send_signal(pidfd, EXEC_SIGNAL, &info, 0);
}

/* Its init can say what the tree used, so it is asked first. When it does not answer, SIGKILL to it ends the tree. */
void
job_kill_tree(struct job *j)
{
	if (j->shell != NULL)
		shell_interrupt(j->shell);
	if (j->pidfd < 0)
		return;
	if (!j->asked_end && exec_order(j->pidfd, 0) == 0) {
		j->asked_end = true;
		timer_again(j->timeout, END_MS);
	} else {
		(void)pidfd_send_signal(j->pidfd, SIGKILL, NULL, 0);
	}
}

static void
set_end(struct job *j, int status)
{
	j->is_sure = true;
	if (WIFSIGNALED(status)) {
		j->st.signal = WTERMSIG(status);
		j->st.exit_code = 0;
	} else {
		j->st.signal = 0;
		j->st.exit_code = WEXITSTATUS(status);
	}
}

static void
set_use(struct job *j, const struct report *r)
{
	j->st.has_use = true;
	j->st.user_ms = r->user_ms;
	j->st.system_ms = r->system_ms;
	j->st.memory_bytes = r->memory_bytes;
	j->st.written_bytes = r->written_bytes;
	j->st.out_of_cpu = r->out_of_cpu || j->st.signal == SIGXCPU || j->st.exit_code == 128 + SIGXCPU;
}

/* Two descriptors, because each is watched for one thing. */
static void
take_terminal(struct job *j, int fd)
{
	fd_set_nonblock(fd);
	j->out[0].fd = fd;
	job_pipe_watch(&j->out[0]);
	j->in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (j->in >= 0) {
		j->in_watch = watch_start(j->d->l, j->in, 0, on_input, j);
		input_flush(j);
	}
}

static void
on_report(struct job *j, const struct report *r, int fd)
{
	switch (r->kind) {
	case REPORT_BEGUN:
		if (j->pidfd >= 0 || fd < 0)
			break;
		j->state = JOB_RUNNING;
		j->pidfd = fd;
		job_tell_begun(j);
		if (j->st.killed || j->st.timed_out)
			job_kill_tree(j);
		return;
	case REPORT_TERMINAL:
		if (!j->has_terminal || j->out[0].fd >= 0 || fd < 0)
			break;
		take_terminal(j, fd);
		return;
	case REPORT_ENDED:
		set_end(j, r->status);
		set_use(j, r);
		break;
	case REPORT_FAILED:
		err_set(&j->fail, r->code, ERR_TO_MODEL, "%s", r->text);
		j->is_sure = true;
		break;
	default:
		break;
	}
	if (fd >= 0)
		close(fd);
}

/* Takes what was reported. True when the job has come to its end. */
static bool
control_read(struct job *j)
{
	struct report r;
	int fd = -1;
	for (;;) {
		int n = report_recv(j->control, &r, &fd);
		if (n < 0 && errno == EAGAIN)
			return j->is_sure;
		if (n < 0 && j->pidfd < 0 && !j->is_sure)
			cell_kill(j->cell); /* what it takes to end the command alone was lost */
		if (n <= 0)
			return true;
		on_report(j, &r, fd);
	}
}

static void
on_pidfd(void *arg, int events)
{
	job_finish(arg);
}

/* The control socket ends before the namespace does: when the init was killed its pidfd has the last word. */
static void
on_control(void *arg, int events)
{
	struct job *j = arg;
	if (!control_read(j))
		return;
	if (j->is_sure || j->pidfd < 0) {
		job_finish(j);
		return;
	}
	watch_close(j->control_watch);
	j->control_watch = NULL;
	j->pidfd_watch = watch_start(j->d->l, j->pidfd, LOOP_READ, on_pidfd, j);
}

/* Nobody reported an end. Either the order never reached a cell init, or the tree was killed. */
static void
set_unreported(struct job *j)
{
	cell_read(j->cell);
	if (j->pidfd < 0 && !j->cell->was_ready) {
		j->fail = cell_why(j->cell);
		return;
	}
	j->st.signal = SIGKILL;
}

static void
close_all(struct job *j)
{
	timer_close(j->timeout);
	j->timeout = NULL;
	watch_close(j->control_watch);
	watch_close(j->pidfd_watch);
	j->control_watch = j->pidfd_watch = NULL;
	close(j->control);
	if (j->pidfd >= 0)
		close(j->pidfd);
	j->control = j->pidfd = -1;
	input_close(j);
	job_drain(j);
}

static void
answer_killers(struct job *j)
{
	for (struct waiter *x = j->killed; x != NULL && j->d->runtime != NULL; x = x->next) {
		status_write(wire_begin(j->d->runtime, WIRE_SPOOLED, x->id), &j->st);
		(void)wire_end(j->d->runtime, STR(""), -1);
	}
	waiters_free(&j->killed);
}

void
job_finish(struct job *j)
{
	struct cell *c = j->cell;

	if (!j->is_sure)
		set_unreported(j);
	close_all(j);
	j->state = JOB_ENDED;
	j->st.state = EXEC_DONE;
	j->st.duration_ms = loop_now_ms(j->d->l) - j->began_at_ms;
	if ((j->st.signal == SIGKILL || j->st.exit_code == 128 + SIGKILL) && c->has_group && cgroup_saw_oom(&c->group))
		j->st.out_of_memory = true;
	j->st.has_outbox = run_has(c->plan.state, j->run, "outbox");
	if (j->fail.code != 0)
		spool_forget(&j->d->spool, j->effect); /* nothing ran: the key may be used again */
	else if (spool_end(&j->d->spool, j->effect, &j->st) != 0)
		log_error("a status cannot be kept", LOG_S("effect", j->effect), LOG_I("errno", errno));
	j->cell = NULL;
	answer_killers(j);
	cell_job_ends(c);
	job_pump(j);
}

static void
on_timeout(void *arg)
{
	struct job *j = arg;
	bool is_second = j->st.timed_out;

	if (j->state == JOB_STARTING && is_second) {
		cell_kill(j->cell); /* its init takes no orders */
		return;
	}
	if (j->shell == NULL)
		timer_again(j->timeout, STUCK_MS);
	j->st.timed_out = j->st.timed_out || !j->asked_end;
	job_kill_tree(j);
}

void
jobs_kill_cell(struct cell *c, enum kill_why why)
{
	shells_end(c, true);
	for (struct job *j = c->d->jobs; j != NULL; j = j->next) {
		if (j->cell != c)
			continue;
		j->st.killed = j->st.killed || why == KILL_ASKED;
		j->st.out_of_memory = j->st.out_of_memory || why == KILL_MEMORY;
		j->st.out_of_processes = j->st.out_of_processes || why == KILL_PROCESSES;
		j->st.out_of_disk = j->st.out_of_disk || why == KILL_DISK;
		job_kill_tree(j);
	}
}

void
jobs_runtime_gone(struct shelld *d)
{
	for (struct job *j = d->jobs, *next; j != NULL; j = next) {
		next = j->next;
		waiters_free(&j->killed);
		if (j->stream == NULL)
			continue;
		struct stream *s = j->stream;
		j->stream = NULL;
		stream_close(s, NULL);
		if (j->state == JOB_ENDED)
			job_free(j);
	}
}

/* ---- begin ---- */

struct exec_args {
	struct str cell, effect, command, env, cwd, shell;
	int64_t timeout_ms, output_max;
	int64_t rows, columns;
	bool is_background, only_resume, wants_input, is_live;
	const struct node *plan, *head;
};

static int
read_args(const struct wire_msg *m, struct exec_args *a, struct err *e)
{
	int64_t n = node_int(m->head, "command_bytes", -1);

	*a = (struct exec_args){
		.cell = node_str(m->head, "cell", STR("")),
		.effect = node_str(m->head, "effect", STR("")),
		.cwd = node_str(m->head, "cwd", STR("")),
		.shell = node_str(m->head, "shell", STR("")),
		.timeout_ms = node_int(m->head, "timeout_ms", 0),
		.output_max = node_int(m->head, "output_max", 0),
		.is_background = node_bool(m->head, "background", false),
		.only_resume = node_bool(m->head, "only_resume", false),
		.wants_input = node_bool(m->head, "input", false),
		.is_live = node_bool(m->head, "live", false),
		.rows = node_int(m->head, "rows", 0),
		.columns = node_int(m->head, "columns", 0),
		.plan = node_get(m->head, "plan"),
		.head = m->head,
	};
	if (!key_valid(a->effect))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "bad effect key");
	if (n < 0 || (uint64_t)n > m->tail.n)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "exec: command_bytes is not within the tail");
	a->command = str_sub(m->tail, 0, (size_t)n);
	a->env = str_sub(m->tail, (size_t)n, m->tail.n);
	if (a->command.n > EXEC_COMMAND_MAX || memchr(a->command.p, '\0', a->command.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"the command is longer than %u bytes or holds a NUL (write a long script to a file and run that)",
			EXEC_COMMAND_MAX);
	if (a->cwd.n > PLAN_PATH_MAX || memchr(a->cwd.p, '\0', a->cwd.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "cwd must be a path of at most %u bytes", PLAN_PATH_MAX);
	if (a->timeout_ms < 1 || a->output_max < 0 || a->output_max > (int64_t)TOOL_OUTPUT_MAX)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "exec: timeout_ms must be at least 1, output_max 0..%u",
			TOOL_OUTPUT_MAX);
	if (a->shell.n > 0 && (!key_valid(a->shell) || a->is_background || a->wants_input || a->is_live || a->rows != 0))
		return err_set(e, ERR_INVALID, ERR_TO_MODEL,
			"a shell has a name of at most %u letters, digits, '-', '_' and '.', and cannot be used in the background, "
			"live, or with input", CELL_KEY_MAX);
	if ((a->rows != 0 || a->columns != 0) && (!is_size(a->rows) || !is_size(a->columns)))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "exec: rows and columns of a terminal must be 1..%d", TERMINAL_MAX);
	return 0;
}

static struct job *
job_new(struct shelld *d, struct str effect)
{
	struct job *j = xcalloc(1, sizeof(*j));
	j->d = d;
	memcpy(j->effect, effect.p, effect.n);
	j->control = j->pidfd = j->spool_fd = j->in = -1;
	for (int i = 0; i < 2; i++)
		j->out[i] = (struct pipe_end){ .j = j, .ch = i == 0 ? OUTPUT_CHANNEL : ERROR_CHANNEL, .fd = -1 };
	buf_init(&j->input, EXEC_INPUT_MAX);
	j->began_at_ms = loop_now_ms(d->l);
	j->next = d->jobs;
	d->jobs = j;
	return j;
}

/* On a terminal the command's ends are made in the cell. */
static int
open_control(struct job *j, struct order *o, struct err *e)
{
	int control[2];

	while (o->fd_n < 3) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_errno(e, errno, ERR_TO_LOG, "exec: /dev/null");
		o->fd[o->fd_n++] = fd;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "exec: socketpair");
	o->fd[o->fd_n++] = control[1];
	j->control = control[0];
	fd_set_nonblock(j->control);
	return 0;
}

/* Descriptors of the order: the command's ends. Ours stay in j. */
static int
open_ends(struct job *j, struct order *o, bool wants_input, struct err *e)
{
	int in[2], out[2], err[2];

	if (j->has_terminal)
		return 0;
	if (wants_input ? pipe2(in, O_CLOEXEC) != 0 : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		return err_errno(e, errno, ERR_TO_LOG, "exec: standard input");
	o->fd[o->fd_n++] = in[0];
	j->in = wants_input ? in[1] : -1;
	if (pipe2(out, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "exec: pipe");
	o->fd[o->fd_n++] = out[1];
	j->out[0].fd = out[0];
	if (pipe2(err, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "exec: pipe");
	o->fd[o->fd_n++] = err[1];
	j->out[1].fd = err[0];
	fd_set_nonblock(j->out[0].fd);
	fd_set_nonblock(j->out[1].fd);
	if (j->in >= 0)
		fd_set_nonblock(j->in);
	return 0;
}

static void
watch_ends(struct job *j, int64_t timeout_ms)
{
	struct loop *l = j->d->l;
	j->control_watch = watch_start(l, j->control, LOOP_READ, on_control, j);
	for (int i = 0; i < 2 && !j->has_terminal; i++)
		job_pipe_watch(&j->out[i]);
	if (j->in >= 0)
		j->in_watch = watch_start(l, j->in, 0, on_input, j);
	j->timeout = timer_start(l, timeout_ms, on_timeout, j);
}

/* To the init that stands by, or to the cell init, which makes one. */
static int
post(struct job *j, struct order *o, struct err *e)
{
	if (!j->has_terminal && standby_send(j->cell, o, &j->control, &j->pidfd)) {
		j->state = JOB_RUNNING;
		order_close_fds(o);
		return 0;
	}
	if (open_control(j, o, e) != 0) {
		spool_forget(&j->d->spool, j->effect);
		return e->code;
	}
	cell_post(j->cell, o);
	return 0;
}

/* The job has no init of its own: the shell of that name does everything. */
static int
begin_in_shell(struct job *j, const struct exec_args *a, struct str env, const char *cwd, struct err *e)
{
	struct cell *c = j->cell;

	if (shell_ready(c, a->shell, e) != 0 || spool_begin(&j->d->spool, j->effect, c->key, e) != 0)
		return e->code;
	if (shell_run(j, a->shell, a->command, env, cwd, a->cwd.n > 0, e) != 0) {
		spool_forget(&j->d->spool, j->effect);
		return e->code;
	}
	cell_job_begins(c);
	j->state = JOB_RUNNING;
	j->timeout = timer_start(j->d->l, a->timeout_ms, on_timeout, j);
	return 0;
}

static int
jobs_room(const struct shelld *d, struct err *e)
{
	size_t n = 0;
	for (const struct job *j = d->jobs; j != NULL; j = j->next)
		n++;
	if (n < JOBS_MAX)
		return 0;
	return err_set(e, ERR_BUSY, ERR_TO_MODEL, "%u commands run already (try again later)", JOBS_MAX);
}

static int
job_begin(struct shelld *d, const struct exec_args *a, struct job **out, struct err *e)
{
	struct order o = { .kind = ORDER_EXEC };
	struct cell *c;
	struct buf env;
	struct str run;

	if (jobs_room(d, e) != 0 || shelld_room(d, e) != 0 || cell_get(d, a->cell, a->plan, &c, e) != 0 || cell_room(c, e) != 0 ||
		disk_room(c, e) != 0 || cell_run(c, a->head, &run, e) != 0)
		return e->code;
	buf_init(&env, EXEC_ENV_MAX);
	struct arena *arena = arena_new(256 * KIB);
	struct job *j = job_new(d, a->effect);
	j->cell = c;
	memcpy(j->run, run.p, run.n); /* a key */
	j->output_max = a->output_max;
	j->is_live = a->is_live;
	j->has_terminal = a->rows > 0;
	int r = cell_env(c, a->env, &env, e);
	if (r == 0 && a->shell.n > 0) {
		r = begin_in_shell(j, a, buf_str(&env), cell_cwd(c, arena, a->cwd), e);
		if (r == 0) {
			*out = j;
			goto out;
		}
	}
	if (r == 0)
		r = open_ends(j, &o, a->wants_input, e);
	if (r == 0)
		r = spool_begin(&d->spool, j->effect, c->key, e);
	if (r == 0) {
		o.text[EXEC_TEXT_COMMAND] = a->command;
		o.text[EXEC_TEXT_CWD] = str_of(cell_cwd(c, arena, a->cwd));
		o.text[EXEC_TEXT_ENV] = buf_str(&env);
		o.text[EXEC_TEXT_RUN] = run;
		o.num[EXEC_NUM_DATA] = c->has_group || c->kind == KIND_HOST ? 0 : c->plan.memory_bytes;
		o.num[EXEC_NUM_PROCESSES] = cell_processes_rlimit(c);
		o.num[EXEC_NUM_ROWS] = a->rows;
		o.num[EXEC_NUM_COLUMNS] = a->columns;
		o.num[EXEC_NUM_CPU_MS] = c->plan.cpu_ms;
		o.num[EXEC_NUM_FILES] = c->plan.open_files;
		r = post(j, &o, e);
	}
	if (r == 0) {
		cell_job_begins(c);
		watch_ends(j, a->timeout_ms);
		*out = j;
	} else {
		order_close_fds(&o);
		if (j->control >= 0)
			close(j->control);
		job_pipe_close(&j->out[0]);
		job_pipe_close(&j->out[1]);
		input_close(j);
		job_free(j);
	}
out:
	arena_free(arena);
	buf_fini(&env);
	return r;
}

/* A finished command, to be shown from what is kept. */
static struct job *
job_replay(struct shelld *d, struct str effect, const struct exec_status *st)
{
	struct job *j = job_new(d, effect);
	j->state = JOB_ENDED;
	j->st = *st;
	if (st->kept_bytes > 0)
		j->spool_fd = spool_out(&d->spool, j->effect, false);
	return j;
}

int
job_exec(struct shelld *d, const struct wire_msg *m, struct err *e)
{
	struct exec_args a;
	struct exec_status st;
	struct err why = { 0 };
	struct job *j;

	if (read_args(m, &a, &why) != 0) {
		job_answer(d, m->id, NULL, &why);
		return 0;
	}
	j = job_find(d, a.effect);
	if (j != NULL) {
		job_attach(j, m->id, a.is_background);
		return 0;
	}
	char effect[CELL_KEY_MAX + 1] = { 0 };
	memcpy(effect, a.effect.p, a.effect.n);
	spool_find(&d->spool, effect, &st);
	if (st.state == EXEC_DONE && (jobs_room(d, &why) != 0 || shelld_room(d, &why) != 0)) {
		job_answer(d, m->id, NULL, &why);
	} else if (st.state == EXEC_DONE) {
		job_attach(job_replay(d, a.effect, &st), m->id, false);
	} else if (a.only_resume || (st.state == EXEC_UNKNOWN && spool_has_begun(&d->spool, effect))) {
		job_answer(d, m->id, &st, NULL);
	} else if (job_begin(d, &a, &j, &why) != 0) {
		job_answer(d, m->id, NULL, &why);
	} else {
		job_attach(j, m->id, a.is_background);
	}
	return 0;
}
