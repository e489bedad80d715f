/* SPDX-License-Identifier: MIT
 * Exec init: the process around one command, and the child that runs one file operation. Both take every right from
 * themselves before they look at anything foreign. In a process namespace exec init is its pid 1: it reaps, and when
 * the command ends it kills what the command left behind, waits until that is gone and only then reports. Without a
 * namespace it adopts descendants and kills them one generation after the other; the cell init does when it cannot. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/fileop.h"
#include "sandbox/internal.h"

#define NOFILE_MAX  65536
#define CPU_TICK_MS 250 /* between looks at the processor time of a tree that has a limit */
#define AHEAD_STACK (64u * KIB) /* of what comes between an order and its execve */

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

/* Of one process; the tree is watched. A second between the two, so that it ends by SIGXCPU, which says why. */
static void
limit_cpu(int64_t seconds)
{
	struct rlimit now, want;

	if (seconds <= 0 || getrlimit(RLIMIT_CPU, &now) != 0)
		return;
	want.rlim_max = MIN((rlim_t)seconds + 1, now.rlim_max);
	want.rlim_cur = MIN((rlim_t)seconds, want.rlim_max);
	setrlimit(RLIMIT_CPU, &want);
}

static void
limits_set(const struct order *cell, int64_t data_bytes, int64_t processes, int64_t cpu_ms, int64_t files)
{
	limit(RLIMIT_NOFILE, files > 0 ? files : NOFILE_MAX);
	limit_cpu((cpu_ms + 999) / 1000);
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

/* One look: SIGKILL to the children that are not among the first keep_n of keep. False: there was none to be seen. What the kernel
 * says of one is whole when a space follows; a list that was cut would otherwise end with the number of a stranger. */
static bool
children_signal(int children, const pid_t *keep, size_t keep_n)
{
	char text[4096], *end;
	ssize_t n = pread(children, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	for (char *p = text;; p = end + 1) {
		pid_t pid = (pid_t)strtol(p, &end, 10);
		size_t i = 0;
		if (end == p || *end != ' ')
			return true;
		while (i < keep_n && keep[i] != pid)
			i++;
		if (i == keep_n && pid > 1)
			kill(pid, SIGKILL);
	}
}

/* Descendants of a killed child become children of this process. */
void
children_kill(int children)
{
	signal(SIGCHLD, SIG_DFL); /* ignored, it would make waitpid wait for the last child */
	while (children_signal(children, NULL, 0))
		waitpid(-1, NULL, __WALL);
}

size_t
orphans_kill(int children, pid_t *own, size_t own_n)
{
	pid_t ended;

	while ((ended = waitpid(-1, NULL, WNOHANG | __WALL)) > 0) {
		for (size_t i = 0; i < own_n; i++) {
			if (own[i] == ended)
				own[i--] = own[--own_n];
		}
	}
	(void)children_signal(children, own, own_n);
	return own_n;
}

struct command {
	const char *path;
	char *argv[5], **env;
	int in, out, err;
	bool has_terminal;
	sigset_t no_signals;
};

/* In the process of the command; returns, with errno, only when it cannot. */
static void
command_become(const struct command *c)
{
	sigprocmask(SIG_SETMASK, &c->no_signals, NULL);
	if (dup2(c->in, 0) == 0 && dup2(c->out, 1) == 1 && dup2(c->err, 2) == 2 &&
		(!c->has_terminal || ioctl(1, TIOCSCTTY, 0) == 0)) {
		/* Later, since a failure may have to be told; where that is not known (before Linux 5.11) at once. */
		if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
			close_range(3, ~0u, 0);
		execve(c->path, c->argv, c->env);
	}
}

/* Between vfork and exec only the new process runs, in this one's memory. */
static pid_t
command_start(const struct command *c, volatile int *failed)
{
	pid_t pid = vfork();
	if (pid != 0)
		return pid;
	setsid();
	command_become(c);
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

/* A command under way, as its init sees it. */
struct tree {
	pid_t pid;
	bool has_namespace;
	int children; /* without one: see children_open */
	int terminal; /* our end of its terminal, to ask who is in its foreground; -1: none */
	int64_t cpu_ms; /* that all of it may use; 0: no limit */
	const volatile int64_t *ahead_cpu_ms; /* the same of a command that was made before it was known; NULL: it was not */
	bool out_of_cpu;
	sigset_t waited;
};

/* The process group that a signal is for. */
static pid_t
tree_foreground(const struct tree *t)
{
	pid_t group = t->terminal >= 0 ? tcgetpgrp(t->terminal) : -1;
	return group > 1 ? group : t->pid;
}

static int64_t
timeval_ms(struct timeval t)
{
	return (int64_t)t.tv_sec * 1000 + t.tv_usec / 1000;
}

/* Processor time in a /proc/PID/stat: its own and that of the children that it waited for. */
static int64_t
stat_ticks(const char *name)
{
	char path[64], text[1024];
	int64_t sum = 0;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", name);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	char *p = strrchr(text, ')'); /* of the name, which may hold anything */
	for (int field = 3; p != NULL && field <= 17; field++) {
		p = strchr(p + 1, ' ');
		if (p != NULL && field >= 14)
			sum += strtoll(p, NULL, 10);
	}
	return sum;
}

/* Of all that lives in this namespace and all that ended in it. */
static int64_t
tree_cpu_ms(void)
{
	struct rusage ended;
	int64_t ticks = 0, per_second = sysconf(_SC_CLK_TCK);
	DIR *d = opendir("/proc");

	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
		if (x->d_name[0] >= '1' && x->d_name[0] <= '9' && strcmp(x->d_name, "1") != 0)
			ticks += stat_ticks(x->d_name);
	}
	if (d != NULL)
		closedir(d);
	getrusage(RUSAGE_CHILDREN, &ended);
	return ticks * 1000 / per_second + timeval_ms(ended.ru_utime) + timeval_ms(ended.ru_stime);
}

/* Until a child ends, shelld asks for something, or it is time to look at the processor time. */
static void
tree_wait(struct tree *t)
{
	const struct timespec tick = { .tv_nsec = CPU_TICK_MS * 1000000L };
	siginfo_t info = { 0 };

	if (t->ahead_cpu_ms != NULL)
		t->cpu_ms = *t->ahead_cpu_ms;
	int got = sigtimedwait(&t->waited, &info, t->cpu_ms > 0 && !t->out_of_cpu ? &tick : NULL);

	if (got == EXEC_SIGNAL && info.si_value.sival_int == 0) {
		kill(-1, SIGKILL);
	} else if (got == EXEC_SIGNAL && exec_signal_name(info.si_value.sival_int) != NULL) {
		kill(-tree_foreground(t), info.si_value.sival_int);
	} else if (got < 0 && errno == EAGAIN && tree_cpu_ms() > t->cpu_ms) {
		t->out_of_cpu = true;
		kill(-1, SIGKILL);
	}
}

/* Waits for the command as pid 1, then for the end of everything that it left. All that lives here descends from us and whatever loses
 * its parent becomes our child, so no child means that nothing is left; to signal nobody would cost a look at each process of
 * the machine. */
static int
wait_namespace(struct tree *t)
{
	int status = 0;
	bool is_over = false, is_killed = false;

	for (;;) {
		int st;
		pid_t got;
		while ((got = waitpid(-1, &st, WNOHANG | __WALL)) > 0) {
			if (got == t->pid) {
				status = st;
				is_over = true;
			}
		}
		if (got < 0 && errno == ECHILD)
			return status;
		if (is_over && !is_killed) {
			kill(-1, SIGKILL);
			is_killed = true;
		}
		tree_wait(t);
	}
}

/* SIGTERM tells of the end of the cell init. */
static int
wait_subreaper(const struct tree *t)
{
	int status = 0, st;
	for (;;) {
		pid_t got;
		siginfo_t info = { 0 };
		while ((got = waitpid(-1, &st, WNOHANG | __WALL)) > 0) {
			if (got == t->pid) {
				children_kill(t->children);
				return st;
			}
		}
		int signal = sigwaitinfo(&t->waited, &info);
		if (signal == EXEC_SIGNAL && exec_signal_name(info.si_value.sival_int) != NULL) {
			kill(-tree_foreground(t), info.si_value.sival_int);
		} else if (signal == SIGTERM || (signal == EXEC_SIGNAL && info.si_value.sival_int == 0)) {
			kill(t->pid, SIGKILL);
			waitpid(t->pid, &status, __WALL);
			children_kill(t->children);
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

/* Takes everything away; what is left depends on the command. */
static int
prepare(const struct order *cell, int ruleset, bool has_namespace, struct err *e)
{
	enum cell_kind kind = (enum cell_kind)cell->num[CELL_NUM_KIND];
	if (has_namespace && (kind == KIND_FULL ? root_proc(true, e) : proc_on_host(e)) != 0)
		return e->code;
	return confine_self(kind, false, ruleset, e);
}

static void
prepare_signals(bool has_namespace, sigset_t *waited)
{
	signal(SIGCHLD, SIG_DFL); /* the others are as cell init has them: default */
	sigemptyset(waited);
	sigaddset(waited, SIGCHLD);
	sigaddset(waited, EXEC_SIGNAL);
	prctl(PR_SET_PDEATHSIG, has_namespace ? SIGKILL : SIGTERM, 0, 0, 0);
	if (!has_namespace) {
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
		sigaddset(waited, SIGTERM);
	}
	sigprocmask(SIG_BLOCK, waited, NULL);
}

void
terminal_plain(int fd)
{
	struct termios t;
	if (tcgetattr(fd, &t) != 0)
		return;
	t.c_oflag &= ~(tcflag_t)OPOST;
	t.c_lflag = (t.c_lflag | ISIG | ICANON | IEXTEN) & ~(tcflag_t)(ECHO | ECHONL | TOSTOP);
	t.c_iflag |= ICRNL | BRKINT;
	(void)tcsetattr(fd, TCSANOW, &t);
}

/* A terminal of the cell for the command, before anything is confined; shelld gets the other end. */
static int
open_terminal(const struct order *o, struct command *c, int *master, struct err *e)
{
	struct winsize size = { .ws_row = (unsigned short)o->num[EXEC_NUM_ROWS],
		.ws_col = (unsigned short)o->num[EXEC_NUM_COLUMNS] };
	int unlocked = 0, fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int slave = fd < 0 || ioctl(fd, TIOCSPTLCK, &unlocked) != 0 || ioctl(fd, TIOCSWINSZ, &size) != 0
		? -1 : ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (slave < 0)
		return err_errno(e, errno, ERR_TO_MODEL, "cannot open a terminal in the cell");
	struct report r = { .kind = REPORT_TERMINAL, .id = o->id };
	if (report_send(o->fd[3], &r, fd) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "cannot hand out the terminal");
	c->out = c->err = slave;
	if (o->num[EXEC_NUM_SHELL] == 0)
		c->in = slave;
	else
		terminal_plain(fd);
	c->has_terminal = true;
	*master = fd;
	return 0;
}

/* An empty command is an interactive shell, the better one if the cell has it. */
static void
choose_program(const struct order *o, struct command *c)
{
	static const char sh[] = "sh", bash[] = "bash", interactive[] = "-i", flag[] = "-c", no_rc[] = "--norc",
		    no_editing[] = "--noediting";
	bool is_shell = o->text[EXEC_TEXT_COMMAND].n == 0 && c->has_terminal;
	bool has_bash = is_shell && access("/bin/bash", X_OK) == 0;

	c->path = has_bash ? "/bin/bash" : "/bin/sh";
	c->argv[0] = (char *)(uintptr_t)(has_bash ? bash : sh);
	c->argv[1] = (char *)(uintptr_t)(is_shell ? interactive : flag);
	if (has_bash && o->num[EXEC_NUM_SHELL] != 0) {
		c->argv[1] = (char *)(uintptr_t)no_rc;
		c->argv[2] = (char *)(uintptr_t)no_editing;
		c->argv[3] = (char *)(uintptr_t)interactive;
		return;
	}
	c->argv[2] = is_shell ? NULL : (char *)(uintptr_t)o->text[EXEC_TEXT_COMMAND].p;
}

static void
report_end(int control, const struct order *o, const struct tree *t, int status)
{
	struct report r = { .kind = REPORT_ENDED, .id = o->id, .status = status, .out_of_cpu = t->out_of_cpu };
	struct rusage use = { 0 };

	getrusage(RUSAGE_CHILDREN, &use);
	r.memory_bytes = (int64_t)use.ru_maxrss * 1024;
	r.user_ms = timeval_ms(use.ru_utime);
	r.system_ms = timeval_ms(use.ru_stime);
	r.written_bytes = (int64_t)use.ru_oublock * 512;
	report_send(control, &r, -1);
}

static void NORETURN
fail(const struct order *o, int control, const struct err *e)
{
	report_fail(control, o->id, e);
	_exit(1);
}

/* What all of a command inherits, and what is to be executed. c has the descriptors. */
static void
command_prepare(const struct order *cell, const struct order *o, struct command *c, int control)
{
	struct err e = { 0 };

	c->env = env_split(o->text[EXEC_TEXT_ENV]);
	sigemptyset(&c->no_signals);
	limits_set(cell, o->num[EXEC_NUM_DATA], o->num[EXEC_NUM_PROCESSES], o->num[EXEC_NUM_CPU_MS],
		o->num[EXEC_NUM_FILES]);
	if (chdir(o->text[EXEC_TEXT_CWD].p) != 0) {
		err_errno(&e, errno, ERR_TO_MODEL, "working directory %s", o->text[EXEC_TEXT_CWD].p);
		fail(o, control, &e);
	}
	choose_program(o, c);
}

static void NORETURN
command_failed(const struct order *o, int control, int errnum)
{
	struct err e = { 0 };

	err_errno(&e, errnum, ERR_TO_MODEL, "cannot start /bin/sh in the cell");
	fail(o, control, &e);
}

/* In an init that is confined. */
static void NORETURN
run(const struct order *cell, const struct order *o, struct command *c, struct tree *t, int control)
{
	volatile int failed = 0;

	command_prepare(cell, o, c, control);
	t->pid = command_start(c, &failed);
	if (t->pid < 0 || failed != 0)
		command_failed(o, control, t->pid < 0 ? errno : failed);
	for (int i = 0; i < 3; i++)
		close(o->fd[i]);
	if (c->has_terminal)
		close(c->out);
	report_end(control, o, t, t->has_namespace ? wait_namespace(t) : wait_subreaper(t));
	_exit(0);
}

void
exec_main(const struct order *cell, const struct order *o, int ruleset, bool has_namespace)
{
	struct err e = { 0 };
	int control = o->fd[3];
	struct tree t = { .terminal = -1, .has_namespace = has_namespace, .cpu_ms = has_namespace ? o->num[EXEC_NUM_CPU_MS] : 0 };
	struct command c = { .in = o->fd[0], .out = o->fd[1], .err = o->fd[2] };

	t.children = has_namespace ? -1 : children_open(); /* before Landlock hides /proc */
	prepare_signals(has_namespace, &t.waited);
	prctl(PR_SET_NAME, "ithaca-exec", 0, 0, 0);
	if ((o->num[EXEC_NUM_ROWS] > 0 && open_terminal(o, &c, &t.terminal, &e) != 0) ||
		prepare(cell, ruleset, has_namespace, &e) != 0)
		fail(o, control, &e);
	run(cell, o, &c, &t, control);
}

/* A process that will be a command. */
struct ahead {
	const struct order *cell;
	struct order *o;
	char *mem;
	int control;
	volatile int64_t cpu_ms;
	volatile bool is_running; /* it became the command */
};

/* It waits for its order itself, so that nothing is to be made then and nobody but it to be woken. As with vfork its memory is that
 * of its init, so that execve has none to take down. Meanwhile the init only waits: it allocates nothing before cpu_ms is
 * set, and what it does for a signal may at worst garble the reason why nothing was started. */
static int
ahead_main(void *arg)
{
	struct ahead *a = arg;
	struct order *o = a->o;

	setsid();
	report_send(a->control, &(struct report){ .kind = REPORT_READY, .id = o->id }, -1);
	if (order_recv(a->control, a->mem, o) != 1 || o->kind != ORDER_EXEC || o->fd_n != 3)
		_exit(0); /* not needed any more */
	struct command c = { .in = o->fd[0], .out = o->fd[1], .err = o->fd[2] };
	command_prepare(a->cell, o, &c, a->control);
	a->is_running = true;
	if (o->num[EXEC_NUM_CPU_MS] > 0) {
		a->cpu_ms = o->num[EXEC_NUM_CPU_MS];
		kill(1, SIGCHLD); /* look at it */
	}
	command_become(&c);
	int failed = errno;
	a->is_running = false;
	command_failed(o, a->control, failed);
}

void
exec_standby(const struct order *cell, struct order *o, char *mem, int ruleset)
{
	struct err e = { 0 };
	struct ahead a = { .cell = cell, .o = o, .mem = mem, .control = o->fd[0] };
	struct tree t = { .terminal = -1, .has_namespace = true, .children = -1, .ahead_cpu_ms = &a.cpu_ms };
	char *stack = xmalloc(AHEAD_STACK);

	prepare_signals(true, &t.waited);
	prctl(PR_SET_NAME, "ithaca-exec", 0, 0, 0);
	if (prepare(cell, ruleset, true, &e) != 0)
		fail(o, a.control, &e);
	t.pid = clone(ahead_main, stack + AHEAD_STACK, CLONE_VM | SIGCHLD, &a);
	if (t.pid < 0) {
		err_errno(&e, errno, ERR_TO_LOG, "a command cannot be made ahead");
		fail(o, a.control, &e);
	}
	int status = wait_namespace(&t);
	if (a.is_running)
		report_end(a.control, o, &t, status);
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
	limits_set(cell, o->num[FILE_NUM_DATA], 0, 0, 0);
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
