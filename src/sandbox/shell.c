/* SPDX-License-Identifier: MIT
 * Persistent shells: one interactive shell per cell and name, on a terminal of its own, that keeps its directory and
 * variables between commands. It reads from a pipe, so that neither echo nor the length of a terminal's line matters, and
 * what it runs reads from the terminal. After each command it prints a mark: a random word of the shell and one of the
 * command, which the text that it reads holds in two halves, so not even `set -x` can print one by accident. Invariant: a
 * shell runs one command at a time and ends with its cell. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/job.h"

#define SHELL_ROWS    50
#define SHELL_COLUMNS 200
#define STEP_MS       2000 /* from the interrupt to SIGKILL of the foreground, and from there to the end of the shell */
#define IDLE_MS       (30 * 60 * 1000) /* an unused shell ends */
#define IDLE_MAX      (16u * KIB) /* last output of background processes between two commands */
#define INPUT_MAX     (5u * EXEC_COMMAND_MAX)
#define LAST_READS    64
#define WORD          32 /* hexadecimal digits of a random word */
#define MARK_MAX      (PLAN_PATH_MAX + 128u)

struct shell {
	struct shelld *d;
	struct shell *next;
	struct cell *cell;
	char name[CELL_KEY_MAX + 1];
	int control, pidfd, terminal, in;
	struct watch *control_watch, *pidfd_watch, *terminal_watch, *in_watch;
	struct timer *timer; /* of the steps of an interruption, or of idleness */
	struct buf input; /* to be read by the shell */
	struct buf held; /* output whose end may be the beginning of a mark */
	struct buf idle;
	char mark[WORD + 2]; /* a record separator and the word of the shell */
	char word[WORD + 1]; /* of the command */
	struct job *job;
	enum { STEP_NONE, STEP_INTERRUPT, STEP_KILL, STEP_END } step;
	bool is_ready; /* its first mark came: what is before that is no command's */
	bool has_status;
	int status;
	struct err fail;
};

static void
random_word(char out[WORD + 1])
{
	unsigned char bytes[WORD / 2];
	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* ---- input ---- */

static void
input_flush(struct shell *s)
{
	while (s->in >= 0 && s->input.n > 0) {
		ssize_t n = write(s->in, s->input.p, s->input.n);
		if (n <= 0)
			break; /* full; or it ends, which its control socket tells */
		buf_consume(&s->input, (size_t)n);
	}
	if (s->in_watch != NULL)
		watch_update(s->in_watch, s->input.n > 0 ? LOOP_WRITE : 0);
}

static void
on_input(void *arg, int events)
{
	input_flush(arg);
}

static void
add_mark(struct shell *s)
{
	buf_printf(&s->input, "command printf '\\036%%s%%s:%%s%%s:%%d:%%s\\036' '%.16s' '%s' '%.16s' '%s' \"$?\" \"$PWD\" >/dev/tty\n",
		s->mark + 1, s->mark + 17, s->word, s->word + 16);
}

/* ---- output ---- */

static void
emit(struct shell *s, const char *p, size_t n)
{
	if (n == 0 || !s->is_ready)
		return;
	if (s->job != NULL) {
		job_keep(s->job, OUTPUT_CHANNEL, p, n);
		return;
	}
	struct str last = { p + (n > IDLE_MAX ? n - IDLE_MAX : 0), MIN(n, IDLE_MAX) };
	if (s->idle.n + last.n > IDLE_MAX)
		buf_consume(&s->idle, s->idle.n + last.n - IDLE_MAX);
	buf_add_str(&s->idle, last);
}

static void
rest(struct shell *s)
{
	s->job = NULL;
	s->step = STEP_NONE;
	timer_again(s->timer, IDLE_MS);
	if (s->cell->is_retired)
		shell_kill(s);
}

/* The text of a mark after its first word: ":WORD:STATUS:DIRECTORY". */
static void
take_mark(struct shell *s, struct str text)
{
	struct job *j = s->job;
	char status[8] = { 0 };

	if (!s->is_ready) {
		s->is_ready = true;
		return;
	}
	if (j == NULL || text.n < WORD + 4 || text.p[0] != ':' || memcmp(text.p + 1, s->word, WORD) != 0)
		return; /* a late one, asked for again after an interrupt */
	struct str after = str_sub(text, WORD + 2, text.n);
	ptrdiff_t colon = str_find_char(after, ':');
	if (colon < 1 || colon > 3)
		return;
	memcpy(status, after.p, (size_t)colon);
	j->st.exit_code = (int)strtol(status, NULL, 10);
	struct str cwd = str_sub(after, (size_t)colon + 1, after.n);
	if (cwd.n < sizeof(j->st.cwd))
		memcpy(j->st.cwd, cwd.p, cwd.n);
	j->is_sure = true;
	rest(s);
	job_finish(j);
}

/* How many bytes at the end of b may be the beginning of a mark. */
static size_t
may_begin(const struct shell *s, const struct buf *b)
{
	for (size_t n = MIN(b->n, (size_t)WORD); n > 0; n--) {
		if (memcmp(b->p + b->n - n, s->mark, n) == 0)
			return n;
	}
	return 0;
}

static void
scan(struct shell *s)
{
	struct buf *b = &s->held;
	for (;;) {
		const char *p = b->n == 0 ? NULL : memmem(b->p, b->n, s->mark, WORD + 1);
		size_t before = p != NULL ? (size_t)(p - b->p) : b->n - may_begin(s, b);
		emit(s, b->p, before);
		buf_consume(b, before);
		if (p == NULL)
			return;
		const char *end = b->n <= WORD + 1 ? NULL : memchr(b->p + WORD + 1, '\036', b->n - WORD - 1);
		if (end == NULL && b->n < MARK_MAX)
			return;
		size_t n = end != NULL ? (size_t)(end - b->p) + 1 : WORD + 1;
		if (end != NULL) {
			AUTO_FREE char *text = xstrndup(b->p + WORD + 1, n - WORD - 2);
			buf_consume(b, n);
			take_mark(s, (struct str){ text, n - WORD - 2 });
		} else {
			buf_consume(b, n);
		}
	}
}

/* False when all that had come is read. */
static bool
terminal_read(struct shell *s)
{
	char *chunk = s->d->chunk;

	if (s->terminal < 0)
		return false;
	ssize_t n = read(s->terminal, chunk, SHELLD_CHUNK);
	if (n > 0) {
		buf_add(&s->held, chunk, (size_t)n);
		scan(s);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		watch_update(s->terminal_watch, 0); /* nobody has it open: the shell ends */
	return false;
}

static void
on_terminal(void *arg, int events)
{
	struct shell *s = arg;
	for (int i = 0; i < 16 && terminal_read(s); i++) {
	}
	if (s->job != NULL)
		job_pump(s->job);
}

/* ---- the end ---- */

void
shell_kill(struct shell *s)
{
	if (s->pidfd < 0)
		return;
	if (s->step != STEP_END && exec_order(s->pidfd, 0) == 0) {
		s->step = STEP_END;
		timer_again(s->timer, STEP_MS);
	} else {
		(void)pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
	}
}

/* SIGINT to the foreground; then SIGKILL to it; then the shell goes, and all that it started. */
static void
step(struct shell *s)
{
	if (s->pidfd < 0) { /* its cell init takes no orders */
		cell_kill(s->cell);
		return;
	}
	timer_again(s->timer, STEP_MS);
	switch (s->step) {
	case STEP_NONE:
		s->step = STEP_INTERRUPT;
		(void)exec_order(s->pidfd, SIGINT);
		add_mark(s); /* some shells drop what they have read already */
		input_flush(s);
		break;
	case STEP_INTERRUPT:
		s->step = STEP_KILL;
		(void)exec_order(s->pidfd, SIGKILL);
		break;
	default:
		shell_kill(s);
		break;
	}
}

static void
on_timer(void *arg)
{
	struct shell *s = arg;
	if (s->job == NULL)
		shell_kill(s); /* nobody used it for long, or it does not end */
	else
		step(s);
}

void
shell_interrupt(struct shell *s)
{
	if (s->step == STEP_NONE)
		step(s);
}

void
shells_end(struct cell *c, bool also_busy)
{
	for (struct shell *s = c->d->shells; s != NULL; s = s->next) {
		if (s->cell == c && (also_busy || s->job == NULL))
			shell_kill(s);
	}
}

int
shell_pidfd(const struct shell *s)
{
	return s->pidfd;
}

static void
end_job(struct shell *s)
{
	struct job *j = s->job;

	s->job = NULL;
	j->shell = NULL;
	j->is_sure = true;
	j->fail = s->fail;
	j->st.shell_ended = true;
	j->st.signal = !s->has_status ? SIGKILL : WIFSIGNALED(s->status) ? WTERMSIG(s->status) : 0;
	j->st.exit_code = s->has_status && WIFEXITED(s->status) ? WEXITSTATUS(s->status) : 0;
	job_finish(j);
}

static void
shell_gone(struct shell *s)
{
	struct cell *c = s->cell;
	struct shell **p = &s->d->shells;

	/* What the kernel holds of a terminal; a command of another process tree may write on without end. */
	for (int i = 0; i < LAST_READS && terminal_read(s); i++) {
	}
	emit(s, s->held.p, s->held.n);
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	if (s->pidfd < 0 && s->fail.code == 0 && !c->was_ready)
		s->fail = cell_why(c);
	if (s->job != NULL)
		end_job(s);
	watch_close(s->control_watch);
	watch_close(s->pidfd_watch);
	watch_close(s->terminal_watch);
	watch_close(s->in_watch);
	timer_close(s->timer);
	int fds[] = { s->control, s->pidfd, s->terminal, s->in };
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	buf_fini(&s->input);
	buf_fini(&s->held);
	buf_fini(&s->idle);
	free(s);
	c->shells_n--;
	cell_job_ends(c);
}

/* ---- what its init reports ---- */

static void
on_report(struct shell *s, const struct report *r, int fd)
{
	if (r->kind == REPORT_BEGUN && s->pidfd < 0) {
		s->pidfd = fd;
		return;
	}
	if (r->kind == REPORT_TERMINAL && s->terminal < 0 && fd >= 0) {
		s->terminal = fd;
		fd_set_nonblock(fd);
		s->terminal_watch = watch_start(s->d->l, fd, LOOP_READ, on_terminal, s);
		return;
	}
	if (r->kind == REPORT_ENDED) {
		s->has_status = true;
		s->status = r->status;
	} else if (r->kind == REPORT_FAILED) {
		err_set(&s->fail, r->code, ERR_TO_MODEL, "%s", r->text);
		s->has_status = true;
	}
	if (fd >= 0)
		close(fd);
}

static void
on_pidfd(void *arg, int events)
{
	shell_gone(arg);
}

static void
on_control(void *arg, int events)
{
	struct shell *s = arg;
	struct report r;
	int fd = -1, n;

	while ((n = report_recv(s->control, &r, &fd)) == 1)
		on_report(s, &r, fd);
	if (n < 0 && errno == EAGAIN && !s->has_status)
		return;
	if (s->has_status || s->pidfd < 0) {
		cell_read(s->cell);
		shell_gone(s);
		return;
	}
	watch_close(s->control_watch);
	s->control_watch = NULL;
	s->pidfd_watch = watch_start(s->d->l, s->pidfd, LOOP_READ, on_pidfd, s);
}

/* ---- begin ---- */

static int
open_ends(struct shell *s, struct order *o, struct err *e)
{
	int in[2], control[2];

	if (pipe2(in, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "shell: pipe");
	o->fd[o->fd_n++] = in[0];
	s->in = in[1];
	while (o->fd_n < 3) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_errno(e, errno, ERR_TO_LOG, "shell: /dev/null");
		o->fd[o->fd_n++] = fd;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "shell: socketpair");
	o->fd[o->fd_n++] = control[1];
	s->control = control[0];
	fd_set_nonblock(s->control);
	fd_set_nonblock(s->in);
	return 0;
}

static struct shell *
shell_new(struct cell *c, struct str name)
{
	struct shell *s = xcalloc(1, sizeof(*s));
	s->d = c->d;
	s->cell = c;
	memcpy(s->name, name.p, name.n);
	s->control = s->pidfd = s->terminal = s->in = -1;
	buf_init(&s->input, INPUT_MAX);
	buf_init(&s->held, SHELLD_CHUNK + MARK_MAX);
	buf_init(&s->idle, IDLE_MAX);
	return s;
}

static int
shell_start(struct cell *c, struct str name, struct str env, const char *cwd, struct shell **out, struct err *e)
{
	struct order o = { .kind = ORDER_EXEC };
	struct shell *s = shell_new(c, name);

	s->mark[0] = '\036';
	random_word(s->mark + 1);
	if (open_ends(s, &o, e) != 0) {
		order_close_fds(&o);
		if (s->in >= 0)
			close(s->in);
		free(s);
		return ERR_FAILED;
	}
	o.text[EXEC_TEXT_CWD] = str_of(cwd);
	o.text[EXEC_TEXT_ENV] = env;
	o.text[EXEC_TEXT_RUN] = str_of(c->run);
	o.num[EXEC_NUM_DATA] = c->has_group || c->kind == KIND_HOST ? 0 : c->plan.memory_bytes;
	o.num[EXEC_NUM_PROCESSES] = cell_processes_rlimit(c);
	o.num[EXEC_NUM_ROWS] = SHELL_ROWS;
	o.num[EXEC_NUM_COLUMNS] = SHELL_COLUMNS;
	o.num[EXEC_NUM_FILES] = c->plan.open_files;
	o.num[EXEC_NUM_SHELL] = 1;
	s->control_watch = watch_start(s->d->l, s->control, LOOP_READ, on_control, s);
	s->in_watch = watch_start(s->d->l, s->in, 0, on_input, s);
	s->timer = timer_start(s->d->l, IDLE_MS, on_timer, s);
	s->next = s->d->shells;
	s->d->shells = s;
	c->shells_n++;
	cell_job_begins(c);
	/* No history, neither for `!` nor in memory; no prompt. */
	buf_add_z(&s->input, "[ -z \"$BASH_VERSION\" ] || set +H +o history; PS1= PS2=; unset ENV PROMPT_COMMAND\n");
	random_word(s->word);
	add_mark(s);
	cell_post(c, &o);
	*out = s;
	return 0;
}

static struct shell *
shell_find(const struct cell *c, struct str name, size_t *n)
{
	struct shell *found = NULL;
	*n = 0;
	for (struct shell *s = c->d->shells; s != NULL; s = s->next) {
		*n += s->cell == c;
		if (s->cell == c && str_is(name, s->name))
			found = s;
	}
	return found;
}

int
shell_ready(struct cell *c, struct str name, struct err *e)
{
	size_t n;
	const struct shell *s = shell_find(c, name, &n);

	if (s == NULL && n >= SHELLS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL, "this cell has %u shells already (use one of them, or end one with exit)",
			SHELLS_MAX);
	if (s != NULL && (s->job != NULL || s->step == STEP_END))
		return err_set(e, ERR_BUSY, ERR_TO_MODEL, "the shell %s still runs a command (wait, or use another name)", s->name);
	return 0;
}

int
shell_run(struct job *j, struct str name, struct str command, struct str env, const char *cwd, bool has_cwd, struct err *e)
{
	size_t n;
	struct shell *s = shell_find(j->cell, name, &n);

	if (s == NULL && shell_start(j->cell, name, env, cwd, &s, e) != 0)
		return ERR_FAILED;
	random_word(s->word);
	s->job = j;
	j->shell = s;
	s->step = STEP_NONE;
	timer_stop(s->timer);
	if (s->terminal >= 0)
		terminal_plain(s->terminal); /* a command may have left it in any state */
	if (s->idle.n > 0) {
		job_keep(j, OUTPUT_CHANNEL, s->idle.p, s->idle.n);
		buf_reset(&s->idle);
	}
	if (has_cwd) {
		buf_add_z(&s->input, "cd ");
		buf_add_quoted(&s->input, str_of(cwd));
		buf_add_z(&s->input, " && ");
	}
	buf_add_z(&s->input, "eval ");
	buf_add_quoted(&s->input, command);
	buf_add_z(&s->input, " </dev/tty\n");
	add_mark(s);
	if (s->input.overflow) { /* cannot be: the shell read all of the last command */
		shell_kill(s);
		log_error("the input of a shell is full", LOG_S("shell", s->name));
	}
	input_flush(s);
	return 0;
}
