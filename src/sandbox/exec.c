/* SPDX-License-Identifier: MIT
 * Exec init: the process around one command, and the child that runs one file operation. Both take every right from
 * themselves before they look at anything foreign. In a process namespace exec init is its pid 1: it reaps, and when
 * the command ends it kills what the command left behind, waits until that is gone and only then reports. Without a
 * namespace it adopts descendants and kills them one generation after the other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/fileop.h"
#include "sandbox/internal.h"

#define NOFILE_MAX 65536

static int
limit(int what, int64_t value)
{
	struct rlimit now, want;
	if (value <= 0 || getrlimit(what, &now) != 0)
		return 0;
	rlim_t v = (rlim_t)value;
	want.rlim_max = MIN(v, now.rlim_max);
	want.rlim_cur = want.rlim_max;
	return setrlimit(what, &want);
}

static void
limits_set(const struct order *cell, int64_t data_bytes, int64_t processes)
{
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	limit(RLIMIT_NOFILE, NOFILE_MAX);
	limit(RLIMIT_FSIZE, cell->num[CELL_NUM_FILE]);
	limit(RLIMIT_NPROC, processes);
	limit(RLIMIT_DATA, data_bytes);
}

int
children_open(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Descendants of a killed child become children of this process. */
void
children_kill(int children)
{
	char text[4096];
	signal(SIGCHLD, SIG_DFL); /* ignored, it would make waitpid wait for the last child */
	for (;;) {
		ssize_t n = pread(children, text, sizeof(text) - 1, 0);
		if (n <= 0)
			return;
		text[n] = '\0';
		for (char *p = text; *p != '\0';) {
			long pid = strtol(p, &p, 10);
			if (pid > 1)
				kill((pid_t)pid, SIGKILL);
			while (*p == ' ' || *p == '\n')
				p++;
		}
		waitpid(-1, NULL, __WALL);
	}
}

struct command {
	char *argv[4], **env;
	int in, out, err;
	sigset_t no_signals;
};

/* Between vfork and exec only the new process runs, in this one's memory. */
static pid_t
command_start(const struct command *c, volatile int *failed)
{
	pid_t pid = vfork();
	if (pid != 0)
		return pid;
	setsid();
	sigprocmask(SIG_SETMASK, &c->no_signals, NULL);
	if (dup2(c->in, 0) == 0 && dup2(c->out, 1) == 1 && dup2(c->err, 2) == 2) {
		close_range(3, ~0u, 0);
		execve("/bin/sh", c->argv, c->env);
	}
	*failed = errno;
	_exit(127);
}

static char **
env_split(struct str block)
{
	char **env = xcalloc(EXEC_ENV_N + 1, sizeof(*env));
	struct str one;
	for (size_t n = 0; n < EXEC_ENV_N && str_next(&block, '\0', &one);) {
		if (one.n > 0)
			env[n++] = (char *)(uintptr_t)one.p;
	}
	return env;
}

/* Waits for the command as pid 1, then for the end of everything that it left. */
static int
wait_namespace(pid_t pid)
{
	int status = 0;
	for (;;) {
		int st;
		pid_t got = waitpid(-1, &st, __WALL);
		if (got == pid) {
			status = st;
			kill(-1, SIGKILL);
		} else if (got < 0 && errno == ECHILD) {
			return status;
		}
	}
}

/* SIGTERM from shelld asks for the end of the tree. */
static int
wait_subreaper(pid_t pid, const sigset_t *waited, int children)
{
	int status = 0, st;
	for (;;) {
		pid_t got;
		while ((got = waitpid(-1, &st, WNOHANG | __WALL)) > 0) {
			if (got == pid) {
				children_kill(children);
				return st;
			}
		}
		if (sigwaitinfo(waited, NULL) == SIGTERM) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, __WALL);
			children_kill(children);
			return status;
		}
	}
}

/* A command with the host's tree in a process namespace of its own: its /proc must not show up for others. */
int
proc_on_host(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot mount /proc for the command");
	return 0;
}

static int
prepare(const struct order *cell, const struct order *o, int ruleset, bool has_namespace, struct err *e)
{
	enum cell_kind kind = (enum cell_kind)cell->num[CELL_NUM_KIND];
	if (has_namespace && (kind == KIND_FULL ? root_proc(true, e) : proc_on_host(e)) != 0)
		return e->code;
	limits_set(cell, o->num[EXEC_NUM_DATA], o->num[EXEC_NUM_PROCESSES]);
	if (confine_self(kind, false, ruleset, e) != 0)
		return e->code;
	if (chdir(o->text[EXEC_TEXT_CWD].p) != 0) {
		err_errno(e, errno, ERR_TO_MODEL, "working directory %s", o->text[EXEC_TEXT_CWD].p);
		return e->code;
	}
	return 0;
}

static void
prepare_signals(bool has_namespace, sigset_t *waited)
{
	signal(SIGCHLD, SIG_DFL); /* the others are as cell init has them: default */
	if (has_namespace) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sigemptyset(waited);
	sigaddset(waited, SIGTERM);
	sigaddset(waited, SIGCHLD);
	sigprocmask(SIG_BLOCK, waited, NULL);
}

void
exec_main(const struct order *cell, const struct order *o, int ruleset, bool has_namespace)
{
	static const char sh[] = "sh", flag[] = "-c";
	struct err e = { 0 };
	sigset_t waited;
	volatile int failed = 0;
	struct report r = { .kind = REPORT_ENDED, .id = o->id };
	struct rusage use;
	int control = o->fd[3];
	struct command c = { .argv = { (char *)(uintptr_t)sh, (char *)(uintptr_t)flag,
			(char *)(uintptr_t)o->text[EXEC_TEXT_COMMAND].p, NULL },
		.env = env_split(o->text[EXEC_TEXT_ENV]), .in = o->fd[0], .out = o->fd[1], .err = o->fd[2] };

	int children = has_namespace ? -1 : children_open(); /* before Landlock hides /proc */
	prepare_signals(has_namespace, &waited);
	sigemptyset(&c.no_signals);
	prctl(PR_SET_NAME, "ithaca-exec", 0, 0, 0);
	if (prepare(cell, o, ruleset, has_namespace, &e) != 0) {
		report_fail(control, o->id, &e);
		_exit(1);
	}
	pid_t pid = command_start(&c, &failed);
	if (pid < 0 || failed != 0) {
		err_errno(&e, pid < 0 ? errno : failed, ERR_TO_MODEL, "cannot start /bin/sh in the cell");
		report_fail(control, o->id, &e);
		_exit(1);
	}
	close(o->fd[0]);
	close(o->fd[1]);
	close(o->fd[2]);
	r.status = has_namespace ? wait_namespace(pid) : wait_subreaper(pid, &waited, children);
	if (getrusage(RUSAGE_CHILDREN, &use) == 0)
		r.memory_bytes = (int64_t)use.ru_maxrss * 1024;
	report_send(control, &r, -1);
	_exit(0);
}

static int
file_run(const struct order *cell, const struct order *o, struct buf *head, struct buf *tail, struct err *e)
{
	size_t total = (size_t)o->num[FILE_NUM_TOTAL], n = (size_t)o->num[FILE_NUM_PARAMS];
	struct stat st;

	if (fstat(o->fd[0], &st) != 0 || (uint64_t)st.st_size < total || n > total)
		return err_set(e, ERR_INTERNAL, ERR_TO_LOG, "the request of a file operation is cut");
	const char *p = total == 0 ? "" : mmap(NULL, total, PROT_READ, MAP_PRIVATE, o->fd[0], 0);
	if (p == MAP_FAILED)
		return err_errno(e, errno, ERR_TO_LOG, "the request of a file operation");
	return fileop_run(o->text[FILE_TEXT_OP], (struct str){ p, n }, (struct str){ p + n, total - n },
		(int)cell->num[CELL_NUM_ACCESS], head, tail, e);
}

void
file_main(const struct order *cell, const struct order *o, int ruleset)
{
	enum cell_kind kind = (enum cell_kind)cell->num[CELL_NUM_KIND];
	struct err e = { 0 };
	struct buf head, tail;
	int out = o->fd[1];

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	buf_init(&head, ANSWER_HEAD_MAX);
	buf_init(&tail, WIRE_TAIL_MAX);
	limits_set(cell, o->num[FILE_NUM_DATA], 0);
	int r = confine_self(kind, true, ruleset, &e);
	if (r == 0 && chdir(kind == KIND_FULL ? "/shared" : cell->text[BIND_SHARED].p) != 0)
		r = err_errno(&e, errno, ERR_TO_MODEL, "the workspace");
	if (r == 0)
		r = file_run(cell, o, &head, &tail, &e);
	if (r == 0 && (head.overflow || tail.overflow))
		r = err_set(&e, ERR_LIMIT, ERR_TO_MODEL, "the answer is too large (ask for less)");
	if (r != 0) {
		buf_reset(&head);
		buf_reset(&tail);
		buf_add_z(&head, e.msg);
	}
	struct file_answer a = { .magic = FILE_ANSWER_MAGIC, .code = r, .to = (int32_t)e.to,
		.head_n = (uint32_t)head.n, .tail_n = (uint32_t)tail.n };
	if (fd_write_all(out, &a, sizeof(a)) != 0 || fd_write_all(out, head.p, head.n) != 0 ||
		fd_write_all(out, tail.p, tail.n) != 0)
		_exit(1);
	_exit(0);
}
