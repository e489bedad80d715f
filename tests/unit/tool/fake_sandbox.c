/* SPDX-License-Identifier: MIT
 * See fake_sandbox.h. Commands run to their end inside fake_pump; a background one too, and is told
 * as running once. */
#include "fake_sandbox.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "sandbox/fileop.h"

enum { RUNS_MAX = 64 };

struct run {
	char effect[64];
	struct buf out;
	struct exec_status st;
};

struct exec_call {
	struct sandbox *sb;
	struct exec_request r;
	char *command;
	struct exec_handler h;
	void *arg;
	bool killed;
};

enum kind { FILE_OP, EXEC_OP, SPOOL_OP, JOB_OP, KILL_OP };

struct pending {
	enum kind kind;
	struct exec_call *exec;
	char op[16], effect[64];
	char *params, *content;
	size_t content_n;
	int access;
	int64_t offset, n;
	sandbox_reply_fn fn;
	void *arg;
	enum fake_fault fault;
	struct pending *next;
};

struct sandbox {
	char dir[256];
	struct pending *first;
	struct run runs[RUNS_MAX];
	int run_n;
	enum fake_fault fault;
	bool has_outbox;
	struct exec_request last;
};

struct sandbox *
fake_new(const char *dir)
{
	struct sandbox *sb = xcalloc(1, sizeof(*sb));

	snprintf(sb->dir, sizeof(sb->dir), "%s", dir);
	return sb;
}

void
fake_free(struct sandbox *sb)
{
	for (int i = 0; i < sb->run_n; i++)
		buf_fini(&sb->runs[i].out);
	free(sb);
}

void
fake_fault(struct sandbox *sb, enum fake_fault f)
{
	sb->fault = f;
}

void
fake_outbox(struct sandbox *sb, bool has)
{
	sb->has_outbox = has;
}

int
fake_started(const struct sandbox *sb)
{
	return sb->run_n;
}

const struct exec_request *
fake_last_exec(const struct sandbox *sb)
{
	return &sb->last;
}

static struct run *
run_find(struct sandbox *sb, const char *effect)
{
	for (int i = 0; i < sb->run_n; i++)
		if (strcmp(sb->runs[i].effect, effect) == 0)
			return &sb->runs[i];
	return NULL;
}

struct exec_status *
fake_status(struct sandbox *sb, const char *effect)
{
	return &run_find(sb, effect)->st;
}

static struct pending *
add(struct sandbox *sb, enum kind kind, sandbox_reply_fn fn, void *arg)
{
	struct pending *p = xcalloc(1, sizeof(*p)), **at = &sb->first;

	p->kind = kind;
	p->fn = fn;
	p->arg = arg;
	p->fault = sb->fault;
	sb->fault = FAKE_NO_FAULT;
	while (*at != NULL)
		at = &(*at)->next;
	*at = p;
	return p;
}

/* ---- the calls of sandbox.h ---- */

int
sandbox_file(struct sandbox *sb, const struct file_request *r, sandbox_reply_fn fn, void *arg,
	struct err *e)
{
	struct pending *p = add(sb, FILE_OP, fn, arg);

	snprintf(p->op, sizeof(p->op), "%s", r->op);
	p->params = str_dup(r->params);
	p->content = str_dup(r->content);
	p->content_n = r->content.n;
	p->access = r->plan->access;
	return 0;
}

int
sandbox_exec(struct sandbox *sb, const struct exec_request *r, const struct exec_handler *h,
	void *arg, struct exec_call **out, struct err *e)
{
	struct pending *p = add(sb, EXEC_OP, NULL, NULL);

	p->exec = xcalloc(1, sizeof(*p->exec));
	*p->exec = (struct exec_call){
		.sb = sb, .r = *r, .command = str_dup(r->command), .h = *h, .arg = arg
	};
	snprintf(p->effect, sizeof(p->effect), "%s", r->effect);
	sb->last = *r;
	*out = p->exec;
	return 0;
}

void
exec_call_kill(struct exec_call *c)
{
	c->killed = true;
}

int
sandbox_spool(struct sandbox *sb, const char *cell, const char *effect, int64_t offset, int64_t n,
	sandbox_reply_fn fn, void *arg, struct err *e)
{
	struct pending *p = add(sb, SPOOL_OP, fn, arg);

	snprintf(p->effect, sizeof(p->effect), "%s", effect);
	p->offset = offset;
	p->n = n;
	return 0;
}

int
sandbox_job(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg,
	struct err *e)
{
	snprintf(add(sb, JOB_OP, fn, arg)->effect, 64, "%s", effect);
	return 0;
}

int
sandbox_job_kill(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg,
	struct err *e)
{
	snprintf(add(sb, KILL_OP, fn, arg)->effect, 64, "%s", effect);
	return 0;
}

/* ---- doing it ---- */

/* Runs the command in a process group of its own; output of both streams in the order in which it
 * arrives. */
static void
run_shell(struct sandbox *sb, const struct exec_call *x, struct run *run)
{
	int out[2], status;
	int64_t start = clock_mono_ms();

	if (pipe(out) != 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		if (chdir(sb->dir) != 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", x->command, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	for (;;) {
		struct pollfd fd = { .fd = out[0], .events = POLLIN };
		int64_t left = x->r.timeout_ms - (clock_mono_ms() - start);
		if (left <= 0 || poll(&fd, 1, (int)MIN(left, (int64_t)60000)) == 0) {
			run->st.timed_out = true;
			kill(-pid, SIGKILL);
			break;
		}
		char *p = buf_reserve(&run->out, 4096);
		ssize_t n = p ? read(out[0], p, 4096) : 0;
		if (n <= 0)
			break;
		buf_added(&run->out, (size_t)n);
	}
	close(out[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	run->st.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	run->st.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	run->st.duration_ms = clock_mono_ms() - start;
	run->st.output_bytes = run->st.kept_bytes = (int64_t)run->out.n;
}

static void
replay(const struct exec_call *x, const struct run *run)
{
	for (size_t at = 0; at < run->out.n; at += 1000)
		x->h.on_output(x->arg, 1, (int64_t)at, str_sub(buf_str(&run->out), at, 1000));
	x->h.on_status(x->arg, &run->st);
}

static void
do_exec(struct sandbox *sb, struct pending *p)
{
	struct exec_call *x = p->exec;
	struct exec_status st = { .state = EXEC_NOT_BEGUN };
	struct err gone = { .code = ERR_GONE };
	struct run *run = run_find(sb, p->effect);

	if (run == NULL && !x->r.only_resume && p->fault != FAKE_LOSE_REQUEST) {
		run = &sb->runs[sb->run_n++];
		snprintf(run->effect, sizeof(run->effect), "%s", p->effect);
		buf_init(&run->out, (size_t)x->r.output_max);
		run->st.state = EXEC_DONE;
		if (x->killed)
			run->st = (struct exec_status){
				.state = EXEC_DONE, .killed = true, .signal = SIGKILL
			};
		else
			run_shell(sb, x, run);
		run->st.has_outbox = sb->has_outbox;
	}
	if (p->fault != FAKE_NO_FAULT) {
		x->h.on_fail(x->arg, &gone);
	} else if (run == NULL) {
		x->h.on_status(x->arg, &st);
	} else if (x->r.background) {
		st.state = EXEC_RUNNING;
		x->h.on_status(x->arg, &st);
	} else {
		replay(x, run);
	}
	free(x->command);
	free(x);
}

static void
reply_json(struct pending *p, struct buf *head, struct str tail)
{
	struct arena *a = arena_new(64 * MIB);
	const struct node *n;
	struct err e = { 0 };

	if (json_parse(a, buf_str(head), &n, &e) != 0)
		fatal("the head is no JSON: %s", e.msg);
	p->fn(p->arg, n, tail, NULL);
	arena_free(a);
}

static void
do_file(struct sandbox *sb, struct pending *p)
{
	struct buf head, tail;
	struct err e = { 0 };
	char cwd[4096];

	buf_init(&head, WIRE_HEAD_MAX);
	buf_init(&tail, WIRE_TAIL_MAX);
	if (getcwd(cwd, sizeof(cwd)) == NULL || chdir(sb->dir) != 0)
		abort();
	int rc = 0;
	if (p->fault != FAKE_LOSE_REQUEST && p->fault != FAKE_KILL_BEFORE)
		rc = fileop_run(str_of(p->op), str_of(p->params),
			(struct str){ p->content, p->content_n }, p->access, &head, &tail, &e);
	if (chdir(cwd) != 0)
		abort();
	if (p->fault == FAKE_LOSE_REQUEST || p->fault == FAKE_LOSE_ANSWER)
		rc = err_set(&e, ERR_GONE, ERR_TO_LOG, "gone");
	else if (p->fault != FAKE_NO_FAULT)
		rc = err_set(&e, ERR_FAILED, ERR_TO_MODEL, "the file operation was killed");
	if (rc != 0)
		p->fn(p->arg, NULL, STR(""), &e);
	else
		reply_json(p, &head, buf_str(&tail));
	buf_fini(&head);
	buf_fini(&tail);
}

static void
do_job(struct sandbox *sb, struct pending *p)
{
	struct run *run = run_find(sb, p->effect);
	struct buf head;
	struct err e;

	if (run == NULL || p->fault != FAKE_NO_FAULT) {
		err_set(&e, run == NULL ? ERR_NOT_FOUND : ERR_GONE, ERR_TO_MODEL,
			"no command has the id %s", p->effect);
		p->fn(p->arg, NULL, STR(""), &e);
		return;
	}
	buf_init(&head, WIRE_HEAD_MAX);
	if (p->kind == SPOOL_OP) {
		struct str s = str_sub(buf_str(&run->out), (size_t)p->offset, (size_t)p->n);
		buf_printf(&head,
			"{\"v\":1,\"kind\":\"spooled\",\"id\":7,\"offset\":%lld,\"kept_bytes\":%zu,"
			"\"is_end\":false}",
			(long long)p->offset, run->out.n);
		reply_json(p, &head, s);
	} else {
		if (p->kind == KILL_OP)
			run->st = (struct exec_status){ .state = EXEC_DONE,
				.killed = true,
				.signal = SIGKILL,
				.duration_ms = 5 };
		buf_printf(&head,
			"{\"state\":\"done\",\"exit\":%d,\"signal\":%d,\"killed\":%s,\"ms\":%lld,"
			"\"out_of_cpu\":%s,\"output_bytes\":%zu,"
			"\"kept_bytes\":%zu}",
			run->st.exit_code, run->st.signal, run->st.killed ? "true" : "false",
			(long long)run->st.duration_ms, run->st.out_of_cpu ? "true" : "false", run->out.n, run->out.n);
		reply_json(p, &head, STR(""));
	}
	buf_fini(&head);
}

void
fake_pump(struct sandbox *sb)
{
	struct pending *p;

	while ((p = sb->first) != NULL) {
		sb->first = p->next;
		if (p->kind == EXEC_OP)
			do_exec(sb, p);
		else if (p->kind == FILE_OP)
			do_file(sb, p);
		else
			do_job(sb, p);
		free(p->params);
		free(p->content);
		free(p);
	}
}
