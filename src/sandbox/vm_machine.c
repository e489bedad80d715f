/* SPDX-License-Identifier: MIT
 * One machine of QEMU and the virtiofsd beside it. It boots up to where its first program waits;
 * there it is saved, because QEMU cannot save one that shares a directory, and nothing in it is
 * secret yet. Then the share is plugged in, and a hello gives it the token, the time and randomness
 * of this start. A restored one goes on from there. Invariant: of a try that fails no process is
 * left, and a saved machine that does not come up is not tried again. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm_host.h"

#define RESTORE_MS 10000 /* for a saved machine to be there again */
#define CPUS       2
#define ARGS_MAX   64
#define LAST_LINES 20 /* of what a process said that ended too early */

/* The descriptors that QEMU is given, in the order of spawn. */
enum { FD_MONITOR = 3, FD_MEMORY, FD_BOOT };
#define GIVEN_MAX 3

struct machine {
	struct vm_try *t;
	int memory, monitor, boot; /* boot: to the first program */
	char key[SAVED_KEY_SIZE];
	bool is_restored;
	struct qmp q;
};

/* ---- the shared tree ---- */

static void
add_system(struct buf *b)
{
	static const char *const dirs[] = { "/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/var",
		"/home", "/root" };
	struct survey *v = survey_new();
	const char *paths[SURVEY_PATHS_MAX];
	size_t n = survey_paths(v, paths, ARRAY_LEN(paths));
	struct stat st;
	char host[300];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		buf_printf(b, "d%s\n", dirs[i]);
	buf_add_z(b, "r/usr\n");
	for (size_t i = 0; i < n; i++) {
		snprintf(host, sizeof(host), "/%s", paths[i]);
		bool is_link = lstat(host, &st) == 0 && S_ISLNK(st.st_mode),
		     in_etc = strncmp(paths[i], "etc/", 4) == 0;
		if (is_link && !in_etc)
			buf_printf(b, "l%s\n", host);
		else if (stat(host, &st) == 0)
			buf_printf(b, "r%s\n", host);
	}
	survey_free(v);
}

static int
write_share(const struct tier_spec *s, const char *path, struct err *e)
{
	struct buf b;

	buf_init(&b, MIB);
	buf_printf(&b, "t%s/tree\n", s->run_dir);
	add_system(&b);
	for (size_t i = 0; i < s->mounts_n; i++)
		buf_printf(&b, "w%s\n", s->mounts[i]);
	buf_printf(&b, "w%s\nw%s\nd%s\n", s->spool_dir, s->state_root, s->run_dir);
	int rc = file_write(path, buf_str(&b), 0600, e);
	buf_fini(&b);
	return rc;
}

/* ---- processes ---- */

/* What the processes of a machine say goes through pipes. While it starts they may say as much as
 * these hold; then whoever keeps logs takes them. Nobody's disk is filled by a flood. */
enum { LOG_CONSOLE, LOG_QEMU, LOG_SHARE };
_Static_assert(LOG_SHARE + 1 == TIER_LOGS_MAX, "a pipe each");

static int
open_logs(struct tier_run *run, int ends[TIER_LOGS_MAX], struct err *e)
{
	static const char *const streams[] = {
		[LOG_CONSOLE] = "console", [LOG_QEMU] = "qemu", [LOG_SHARE] = "virtiofsd" };

	for (size_t i = 0; i < TIER_LOGS_MAX; i++) {
		int fds[2];
		if (pipe2(fds, O_CLOEXEC) != 0)
			return err_errno(e, errno, ERR_TO_USER, "no pipe for what a machine says");
		run->logs[run->logs_n++] = (struct tier_log){ .stream = streams[i], .fd = fds[0] };
		ends[i] = fds[1];
		fd_set_nonblock(fds[0]);
	}
	return 0;
}

static void
close_logs(struct tier_run *run)
{
	for (size_t i = 0; i < run->logs_n; i++)
		close(run->logs[i].fd);
	run->logs_n = 0;
}

/* given: descriptors that become 3 and up, in this order; what the program says goes to out and
 * err. */
static int
spawn(const char *const *argv, int out, int err, const int *given, int given_n, pid_t *pid,
	struct err *e)
{
	char *const env[] = { (char *)(uintptr_t) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int high[GIVEN_MAX], rc = 0;
	const int said[] = { out, err };
	int said_high[2];

	sigemptyset(&none);
	sigfillset(&all);
	for (int i = 0; i < given_n; i++) /* out of the way of the numbers that they get */
		high[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 3 + GIVEN_MAX);
	for (int i = 0; i < 2; i++)
		said_high[i] = fcntl(said[i], F_DUPFD_CLOEXEC, 3 + GIVEN_MAX);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	for (int i = 0; i < 2; i++)
		posix_spawn_file_actions_adddup2(&fa, said_high[i], 1 + i);
	for (int i = 0; i < given_n; i++)
		posix_spawn_file_actions_adddup2(&fa, high[i], 3 + i);
	posix_spawn_file_actions_addclosefrom_np(&fa, 3 + given_n);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0); /* keys of a terminal are not for it */
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	rc = posix_spawn(pid, argv[0], &fa, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	for (int i = 0; i < given_n; i++) {
		if (high[i] >= 0)
			close(high[i]);
	}
	for (int i = 0; i < 2; i++) {
		if (said_high[i] >= 0)
			close(said_high[i]);
	}
	return rc == 0 ? 0 : err_errno(e, rc, ERR_TO_USER, "cannot start %s", argv[0]);
}

/* The last lines go to our own log: nobody will take the pipe of a process that is gone. */
static void
log_last(const char *stream, struct str s)
{
	struct str line;
	size_t from = s.n;

	for (int lines = 0; from > 0 && lines < LAST_LINES; from--)
		lines += s.p[from - 1] == '\n';
	s = str_sub(s, from, s.n);
	while (str_next(&s, '\n', &line)) {
		char text[200];
		line = str_trim(line);
		snprintf(text, sizeof(text), "%.*s", (int)MIN(line.n, sizeof(text) - 1), line.p);
		if (line.n > 0)
			log_warn("of a machine that did not start", LOG_S("stream", stream),
				LOG_S("said", text));
	}
}

/* What is in a pipe, which is empty then; in out the line that tells most. */
static void
last_words(const struct tier_log *l, char out[120])
{
	struct buf b;
	char *at;

	out[0] = '\0';
	buf_init(&b, MIB);
	while ((at = buf_reserve(&b, 4096)) != NULL) {
		ssize_t got = read(l->fd, at, 4096);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		buf_added(&b, (size_t)got);
	}
	struct str s = str_trim(buf_str(&b));
	log_last(l->stream, s);
	ptrdiff_t panic = str_find(s, STR("Kernel panic"));
	const char *nl = s.n == 0 ? NULL : memrchr(s.p, '\n', s.n);
	if (panic >= 0) { /* a kernel says more behind it */
		s = str_sub(s, (size_t)panic, s.n);
		(void)str_next(&(struct str){ s.p, s.n }, '\n', &s);
	} else if (nl != NULL) {
		s = str_sub(s, (size_t)(nl + 1 - s.p), s.n);
	}
	snprintf(out, 120, "%.*s", (int)MIN(s.n, 119), s.p != NULL ? s.p : "");
	buf_fini(&b);
}

/* false when it ended; then it is reaped and e says what it said last. */
static bool
is_running(pid_t *pid, const char *what, const struct tier_log *log, bool *has_crashed,
	struct err *e)
{
	char line[120];
	int status;

	if (*pid == 0 || waitpid(*pid, &status, WNOHANG) == 0)
		return true;
	*pid = 0;
	*has_crashed = WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL;
	last_words(log, line);
	if (WIFSIGNALED(status) && line[0] == '\0')
		snprintf(line, sizeof(line), "signal %d", WTERMSIG(status));
	err_set(e, ERR_FAILED, ERR_TO_USER, "%s ended: %s", what,
		line[0] != '\0' ? line : "it said nothing");
	return false;
}

static void
end(pid_t *pid)
{
	if (*pid == 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) {
	}
	*pid = 0;
}

/* It is given the socket: it would lock one of its own in a directory that only root may write.
 * QEMU's connection waits there until the tree is built, which takes as long as the machine's own
 * start. */
static int
start_share(const struct tier_spec *s, const struct vm_parts *p, struct tier_run *run, int log,
	struct err *e)
{
	char spec[PLAN_PATH_MAX], sock[PLAN_PATH_MAX], source[PLAN_PATH_MAX + 32];

	snprintf(spec, sizeof(spec), "%s/share", s->run_dir);
	snprintf(sock, sizeof(sock), "%s/fs.sock", s->run_dir);
	snprintf(source, sizeof(source), "source=%s/tree", s->run_dir);
	const char *const argv[] = { s->guest, "--share", spec, p->virtiofsd, "-f", "--fd=3", "-o",
		source, "-o", "cache=auto", "-o", "log_level=warn", NULL };
	unlink(sock);
	AUTO_CLOSE int fd = unix_listen(sock, 0600, e);
	if (fd < 0)
		return fd;
	fcntl(fd, F_SETFL, 0); /* it accepts without looking */
	return write_share(s, spec, e) != 0 ? e->code : spawn(argv, log, log, &fd, 1, &run->share, e);
}

/* ---- QEMU's own arguments ---- */

struct args {
	const char *v[ARGS_MAX];
	size_t n;
	struct arena *a;
};

/* q35 because a device that is plugged in later needs a port of PCI Express; nothing is there that
 * the guest does not use. */
static void
machine_args(struct args *x, const struct vm_try *t)
{
	const struct tier_spec *s = t->s;
	bool is_kvm = strcmp(t->run->accel, "kvm") == 0;
	long long mib = s->memory_bytes / (int64_t)MIB;
	struct arena *a = x->a;
	const char *const given[] = { t->p->qemu, "-M", "q35", "-accel",
		/* Emulated processors beside each other lose what they tell each other, about once in 30 starts: the guest's
		   kernel then waits for ever, and QEMU was seen to crash. */
		is_kvm ? "kvm" : "tcg,thread=single", "-cpu", is_kvm ? "host" : "max", "-smp",
		arena_printf(a, "%d", is_kvm ? CPUS : 1), "-m", arena_printf(a, "%lldM", mib), "-object",
		arena_printf(a,
			"memory-backend-file,id=mem,size=%lldM,share=on,mem-path=/proc/self/fd/%d",
			mib, FD_MEMORY),
		"-numa", "node,memdev=mem", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
		"-kernel", t->p->kernel, "-initrd", arena_printf(a, "%s/initrd", s->run_dir),
		"-append",
		/* What guards against speculation costs an emulated processor, which has none,
		   much. */
		is_kvm ? "console=ttyS0 quiet panic=-1"
		       : "console=ttyS0 quiet panic=-1 nokaslr no_timer_check mitigations=off",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-chardev",
		arena_printf(a, "socket,id=monitor,fd=%d", FD_MONITOR), "-mon",
		"chardev=monitor,mode=control", "-device", "pcie-root-port,id=slot0,chassis=1",
		"-device", "virtio-serial-pci" };

	memcpy(x->v, given, sizeof(given));
	x->n = ARRAY_LEN(given);
}

static void
port_args(struct args *x, const struct tier_spec *s, int number, const char *name)
{
	const char *const given[] = { "-chardev",
		number == VM_PORT_BOOT
			? arena_printf(x->a, "socket,id=%s,fd=%d", name, FD_BOOT)
			: arena_printf(x->a, "socket,id=%s,path=%s/%s.sock,server=on,wait=off",
				  name, s->run_dir, name),
		"-device",
		arena_printf(x->a, "virtserialport,chardev=%s,nr=%d,name=%s", name, number, name) };

	memcpy(x->v + x->n, given, sizeof(given));
	x->n += ARRAY_LEN(given);
}

/* ---- watching it ---- */

static bool
is_there(void *arg, struct err *e)
{
	struct vm_try *t = arg;
	const struct tier_log *logs = t->run->logs;

	if (t->s->is_cancelled != NULL && t->s->is_cancelled(t->s->arg)) {
		err_set(e, ERR_CANCELLED, ERR_TO_LOG, "the start was given up");
		return false;
	}
	bool ignored;
	if (!is_running(&t->run->machine, "the machine", &logs[LOG_QEMU], &t->has_crashed, e)) {
		char line[120];
		last_words(&logs[LOG_CONSOLE], line);
		if (strstr(e->msg, "said nothing") != NULL && line[0] != '\0')
			err_set(e, ERR_FAILED, ERR_TO_USER, "the machine ended: %s", line);
		return false;
	}
	return is_running(&t->run->share, "virtiofsd", &logs[LOG_SHARE], &ignored,
		e); /* which ends when the machine does */
}

/* ---- its steps ---- */

/* Memory that the saved state has filled, where there is one. */
static int
open_memory(struct machine *m, bool may_restore, int *state, struct err *e)
{
	const struct tier_spec *s = m->t->s;
	struct err why = { 0 };

	for (int tries = 0; tries < 2; tries++) {
		m->memory = memfd_create("ithaca-machine", MFD_CLOEXEC);
		if (m->memory < 0 ||
			ftruncate(m->memory, s->memory_bytes / (int64_t)MIB * (int64_t)MIB) != 0)
			return err_errno(e, errno, ERR_TO_USER, "no memory for a machine");
		if (!may_restore || s->microvm.saved == NULL || s->microvm.saved[0] == '\0' ||
			tries > 0)
			return 0;
		if (saved_open(s->microvm.saved, m->key, m->memory,
			    s->memory_bytes / (int64_t)MIB * (int64_t)MIB, state, &why) == 0)
			return 0;
		if (why.code != ERR_NOT_FOUND)
			log_warn("a saved machine is not used", LOG_E(&why));
		close(m->memory);
	}
	return 0;
}

static int
open_machine(struct machine *m, bool may_restore, const int *logs, int *state, struct err *e)
{
	const struct tier_spec *s = m->t->s;
	struct args x = { .a = arena_new(MIB) };
	char path[PLAN_PATH_MAX];
	struct buf initrd;
	int monitor[2] = { -1, -1 }, boot[2] = { -1, -1 };

	machine_args(&x, m->t);
	port_args(&x, s, VM_PORT_RUNNER, "runner");
	port_args(&x, s, VM_PORT_RUNTIME, "runtime");
	port_args(&x, s, VM_PORT_BROKER, "broker");
	port_args(&x, s, VM_PORT_BOOT, "boot");
	buf_init(&initrd, VM_INITRD_MAX);
	int rc = vm_initrd(s, m->t->p, &initrd, e);
	if (rc == 0) {
		snprintf(path, sizeof(path), "%s/initrd", s->run_dir);
		rc = file_write(path, buf_str(&initrd), 0600, e);
	}
	if (rc == 0) {
		vm_machine_key(m->t, x.v, x.n, &initrd, m->key);
		rc = open_memory(m, may_restore, state, e);
	}
	m->is_restored = *state >= 0;
	if (m->is_restored) {
		x.v[x.n++] = "-incoming";
		x.v[x.n++] = "defer";
	}
	x.v[x.n] = NULL;
	if (rc == 0 && (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor) != 0 ||
			       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, boot) != 0))
		rc = err_errno(e, errno, ERR_TO_USER, "no link to a machine");
	m->monitor = monitor[0];
	m->boot = boot[0];
	if (rc == 0)
		rc = spawn(x.v, logs[LOG_CONSOLE], logs[LOG_QEMU],
			(const int[]){ monitor[1], m->memory, boot[1] }, 3, &m->t->run->machine,
			e);
	if (rc == 0) /* the one file that it writes is the state that is saved */
		(void)prlimit(m->t->run->machine, RLIMIT_FSIZE,
			&(struct rlimit){ SAVED_MEMORY_AT, SAVED_MEMORY_AT }, NULL);
	if (monitor[1] >= 0)
		close(monitor[1]);
	if (boot[1] >= 0)
		close(boot[1]);
	buf_fini(&initrd);
	arena_free(x.a);
	return rc;
}

/* The memory is in our hands already, on both ways. */
static int
leave_memory_out(struct machine *m, struct err *e)
{
	return qmp_call(&m->q, "migrate-set-capabilities",
		"{\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true}]}", -1,
		NULL, e);
}

static int
resume(struct machine *m, int state, struct err *e)
{
	static const char *const coming[] = { "inmigrate", NULL };
	char status[QMP_STATUS_MAX];

	m->q.until_ms = clock_mono_ms() + RESTORE_MS;
	if (leave_memory_out(m, e) != 0 ||
		qmp_call(&m->q, "getfd", "{\"fdname\":\"state\"}", state, NULL, e) != 0 ||
		qmp_call(&m->q, "migrate-incoming", "{\"uri\":\"fd:state\"}", -1, NULL, e) != 0)
		return e->code;
	return qmp_await(&m->q, "query-status", coming, status, e);
}

/* Its first program has reached what it needs of this side, and waits. */
static int
await_answer(struct machine *m, struct err *e)
{
	int64_t until_ms = clock_mono_ms() + m->t->timeout_ms;
	char c;

	for (;;) {
		struct pollfd p = { .fd = m->boot, .events = POLLIN };
		if (poll(&p, 1, DOOR_LOOK_MS) > 0) {
			ssize_t n = recv(m->boot, &c, 1, MSG_DONTWAIT);
			if (n == 1 && c == VM_ANSWER)
				return 0;
			if (n == 0) /* QEMU closes it when it ends, which is seen in a moment */
				nanosleep(&(struct timespec){ .tv_nsec = DOOR_LOOK_MS * 1000000L },
					NULL);
		}
		if (!is_there(m->t, e))
			return e->code;
		if (clock_mono_ms() > until_ms)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER,
				"nothing answered in the machine within %lld ms",
				(long long)m->t->timeout_ms);
	}
}

/* Saving is for the next start: this one goes on without. */
static int
save(struct machine *m, struct err *e)
{
	static const char *const going[] = { "", "none", "setup", "active", "device", "wait-unplug",
		NULL };
	const char *path = m->t->s->microvm.saved;
	char status[QMP_STATUS_MAX] = "";
	struct err why = { 0 };
	int state = -1;

	int rc = saved_begin(path, &state, &why);
	if (rc == 0 && qmp_call(&m->q, "stop", NULL, -1, NULL, e) != 0) {
		close(state);
		saved_drop(path);
		return e->code;
	}
	bool is_stopped = rc == 0;
	if (rc == 0)
		rc = leave_memory_out(m, &why);
	if (rc == 0)
		rc = qmp_call(&m->q, "getfd", "{\"fdname\":\"state\"}", state, NULL, &why);
	if (rc == 0)
		rc = qmp_call(&m->q, "migrate", "{\"uri\":\"fd:state\"}", -1, NULL, &why);
	if (rc == 0)
		rc = qmp_await(&m->q, "query-migrate", going, status, &why);
	if (rc == 0 && strcmp(status, "completed") != 0)
		rc = err_set(&why, ERR_FAILED, ERR_TO_LOG, "QEMU could not save it (%s)", status);
	if (rc == 0)
		rc = saved_end(path, m->key, state, m->memory,
			m->t->s->memory_bytes / (int64_t)MIB * (int64_t)MIB, &why);
	if (state >= 0)
		close(state);
	if (rc != 0) {
		log_warn("the machine is not saved", LOG_E(&why));
		saved_drop(path);
	}
	return is_stopped ? qmp_call(&m->q, "cont", NULL, -1, NULL, e) : 0;
}

static int
plug_share(struct machine *m, struct err *e)
{
	char path[PLAN_PATH_MAX];
	struct json j;
	struct buf b;

	snprintf(path, sizeof(path), "%s/fs.sock", m->t->s->run_dir);
	buf_init(&b, QMP_LINE_MAX);
	json_init(&j, &b);
	buf_add_z(&b, "{\"id\":\"fs\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,"
		      "\"addr\":{\"type\":\"unix\",\"data\":{\"path\":");
	json_z(&j, path);
	buf_add_z(&b, "}}}}}");
	int rc = qmp_call(&m->q, "chardev-add", buf_z(&b), -1, NULL, e);
	buf_fini(&b);
	if (rc == 0)
		rc = qmp_call(&m->q, "device_add",
			"{\"driver\":\"vhost-user-fs-pci\",\"id\":\"share\",\"bus\":\"slot0\","
			"\"chardev\":\"fs\",\"tag\":\"" VM_TAG "\"}",
			-1, NULL, e);
	return rc;
}

static int
say_hello(struct machine *m, struct err *e)
{
	struct vm_hello h = { .dir = m->t->s->run_dir };
	struct timespec now;
	struct buf b;

	memcpy(h.token, m->t->run->token, sizeof(h.token));
	random_bytes(h.random, sizeof(h.random));
	clock_gettime(CLOCK_REALTIME, &now);
	h.at_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	buf_init(&b, VM_HELLO_MAX);
	vm_hello_put(&b, &h);
	int rc = !b.overflow && send(m->boot, b.p, b.n, MSG_NOSIGNAL) == (ssize_t)b.n
			 ? 0
			 : err_set(e, ERR_FAILED, ERR_TO_USER, "cannot speak to the machine");
	explicit_bzero(&h, sizeof(h));
	explicit_bzero(b.p, b.n);
	buf_fini(&b);
	return rc;
}

/* ---- one machine ---- */

static int
run_steps(struct machine *m, int state, int *link, struct err *e)
{
	struct vm_try *t = m->t;
	char sock[PLAN_PATH_MAX];

	if (qmp_open(&m->q, m->monitor, clock_mono_ms() + t->timeout_ms, is_there, t, e) != 0)
		return e->code;
	if ((m->is_restored ? resume(m, state, e) : await_answer(m, e)) != 0)
		return e->code;
	t->has_answered = true;
	m->q.until_ms = clock_mono_ms() + t->timeout_ms;
	if (!m->is_restored && t->s->microvm.saved != NULL && t->s->microvm.saved[0] != '\0' &&
		save(m, e) != 0)
		return e->code;
	if (plug_share(m, e) != 0 ||
		(m->is_restored && qmp_call(&m->q, "cont", NULL, -1, NULL, e) != 0) ||
		say_hello(m, e) != 0)
		return e->code;
	snprintf(sock, sizeof(sock), "%s/runner.sock", t->s->run_dir);
	int fd = door_reach(sock, ROLE_RUNNER, t->run->token,
		m->is_restored ? MIN(t->timeout_ms, RESTORE_MS) : t->timeout_ms, is_there, t, e);
	if (fd < 0 && e->code == ERR_GONE) { /* why is known when its process has ended */
		struct err why = { 0 };
		nanosleep(&(struct timespec){ .tv_nsec = DOOR_LOOK_MS * 1000000L }, NULL);
		return is_there(t, &why) ? e->code : err_copy(e, &why);
	}
	if (fd < 0)
		return e->code;
	*link = fd;
	return 0;
}

static int
once(struct vm_try *t, bool may_restore, bool *was_restored, int *link, struct err *e)
{
	struct machine m = { .t = t, .memory = -1, .monitor = -1, .boot = -1 };
	int state = -1, logs[TIER_LOGS_MAX] = { -1, -1, -1 };

	door_token(t->run->token);
	int rc = open_logs(t->run, logs, e);
	if (rc == 0)
		rc = start_share(t->s, t->p, t->run, logs[LOG_SHARE], e);
	if (rc == 0)
		vm_note(t->s->run_dir, 0, t->run->share, false);
	if (rc == 0)
		rc = open_machine(&m, may_restore, logs, &state, e);
	if (rc == 0)
		vm_note(t->s->run_dir, t->run->machine, t->run->share, false);
	for (size_t i = 0; i < TIER_LOGS_MAX; i++) {
		if (logs[i] >= 0)
			close(logs[i]);
	}
	*was_restored = m.is_restored;
	if (rc == 0)
		rc = run_steps(&m, state, link, e);
	qmp_fini(&m.q);
	for (size_t i = 0; i < 4; i++) {
		int fd = (const int[]){ m.memory, m.monitor, m.boot, state }[i];
		if (fd >= 0)
			close(fd);
	}
	for (size_t i = 0; rc != 0 && rc != ERR_CANCELLED && i < t->run->logs_n; i++) {
		char line[120];
		last_words(&t->run->logs[i], line);
	}
	if (rc != 0)
		vm_end(t->run);
	else
		vm_note(t->s->run_dir, t->run->machine, t->run->share, true);
	return rc;
}

static void
clear_away(const char *dir)
{
	static const char *const names[] = { "runner.sock", "runtime.sock", "broker.sock",
		"fs.sock", "initrd", "share", "processes" };
	char path[PLAN_PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/tree", dir);
	rmdir(path);
}

void
vm_end(struct tier_run *run)
{
	end(&run->machine);
	end(&run->share);
	close_logs(run);
	if (run->dir[0] == '/')
		clear_away(run->dir);
	explicit_bzero(run->token, sizeof(run->token));
}

int
vm_start(struct vm_try *t, int *link, struct err *e)
{
	int64_t began_ms = clock_mono_ms();
	bool was_restored = false, may_restore = true, may_crash = true;
	int rc;

	for (;;) {
		t->has_crashed = false;
		rc = once(t, may_restore, &was_restored, link, e);
		if (rc == 0 || rc == ERR_CANCELLED)
			break;
		if (was_restored) {
			log_warn("a saved machine did not come up", LOG_E(e));
			unlink(t->s->microvm.saved);
			may_restore = false;
		} else if (t->has_crashed && may_crash) {
			/* Emulation on several threads has a race with changes of the memory map,
			 * as the share makes one, up to QEMU 8.1. */
			log_warn("QEMU crashed: a machine is tried once more", LOG_E(e));
			may_crash = false;
		} else {
			break;
		}
	}
	t->run->is_restored = rc == 0 && was_restored;
	if (rc == 0)
		log_info("a machine is up", LOG_S("acceleration", t->run->accel),
			LOG_S("from", was_restored ? "a saved state" : "its kernel"),
			LOG_I("ms", clock_mono_ms() - began_ms));
	return rc;
}
