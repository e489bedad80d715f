/* SPDX-License-Identifier: MIT
 * A real ithaca-guest under test: this process plays runner and runtime on one loop and calls through the client. Each
 * rig_* call runs the loop until its answer is there; a guard aborts a test that waits too long.
 * RIG_TIER: in this tier instead of as a child; RIG_ENGINE: the socket of its container engine; RIG_KERNEL, RIG_SAVED,
 * RIG_VERDICT: the kernel of a machine, and where it and what was found out about KVM are kept for all tests. */
#ifndef TEST_RIG_H
#define TEST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/internal.h"
#include "sandbox/tier.h"

#define RIG_GUARD_MS 30000
#define RIG_PATH     256

struct rig {
	struct loop *l;
	struct timer *guard;
	char dir[64]; /* of everything */
	char cells[RIG_PATH]; /* the state root in a tier: what is beside it is not there */
	char shared[RIG_PATH], state[RIG_PATH], run[RIG_PATH], spool[RIG_PATH], hidden[RIG_PATH];
	struct wire *runner;
	struct sandbox *sb;
	struct child *guest;
	int guest_status;
	bool guest_ended, is_ready, was_adopted;
	struct err fault;
	int ups, downs;
	struct cell_plan plan;
	int64_t orphan_ms; /* 0: the default */
	const char *mode_max;
	struct tier_run tier; /* of RIG_TIER */
	bool is_tier;
};

/* What a command gave. */
struct outcome {
	struct rig *r;
	struct buf out, err, both; /* both: in the order in which they came */
	struct exec_status st;
	struct err e; /* code 0 when a status came */
	struct exec_call *call; /* NULL once it ended */
	bool is_over;
	size_t stop_after; /* bytes after which the loop is left, 0: never */
	int64_t next_offset;
};

/* RIG_SLOW: how many times slower this machine is, for an emulated one. */
static inline int
rig_slow(void)
{
	const char *n = getenv("RIG_SLOW");
	return n != NULL ? MAX(1, (int)strtol(n, NULL, 10)) : 1;
}

static inline void
rig_guard(void *arg)
{
	fatal("the test waited for %d ms", RIG_GUARD_MS * rig_slow());
}

/* Runs the loop until it is stopped by a callback. */
static inline void
rig_wait(struct rig *r)
{
	r->guard = timer_start(r->l, RIG_GUARD_MS * rig_slow(), rig_guard, NULL);
	loop_run(r->l);
	timer_close(r->guard);
}

static inline void
rig_state(void *arg, bool is_up, const struct sandbox_facts *f)
{
	struct rig *r = arg;
	if (is_up)
		r->ups++;
	else
		r->downs++;
	loop_stop(r->l);
}

static inline int
rig_runner_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct rig *r = arg;
	if (m->kind == WIRE_READY) {
		r->is_ready = true;
		r->was_adopted = node_bool(m->head, "adopted", false);
	} else if (m->kind == WIRE_FAULT) {
		wire_err(m->head, &r->fault);
	}
	loop_stop(r->l);
	return 0;
}

static inline void
rig_runner_gone(void *arg, struct wire *w, const struct err *e)
{
	struct rig *r = arg;
	if (r->runner == w) {
		r->runner = NULL;
		r->guest_ended = r->guest_ended || r->is_tier; /* nothing else tells */
	}
	loop_stop(r->l);
}

static const struct wire_handler rig_runner_handler = { rig_runner_msg, rig_runner_gone };

static inline void
rig_guest_end(void *arg, pid_t pid, int status)
{
	struct rig *r = arg;
	r->guest_ended = true;
	r->guest_status = status;
	r->guest = NULL;
	loop_stop(r->l);
}

/* build/ithaca-guest: in a directory above this test. */
static inline void
rig_built_guest(char out[RIG_PATH])
{
	char self[RIG_PATH - 16], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	while ((slash = strrchr(self, '/')) != NULL) {
		*slash = '\0';
		snprintf(out, RIG_PATH, "%s/ithaca-guest", self);
		if (access(out, X_OK) == 0)
			return;
	}
	snprintf(out, RIG_PATH, "ithaca-guest");
}

/* The one under test. */
static inline void
rig_guest_path(char out[RIG_PATH])
{
	const char *given = getenv("ITHACA_GUEST");

	if (given == NULL)
		rig_built_guest(out);
	else
		snprintf(out, RIG_PATH, "%s", given);
}

static inline void
rig_boot(struct rig *r, const char *extra)
{
	char text[2048];
	int n = snprintf(text, sizeof(text),
		"{\"log\":{\"level\":\"error\"},\"allow_basic\":true,\"run_dir\":\"%s\",\"spool_dir\":\"%s\",\"state_root\":\"%s\","
		"\"mode_max\":\"%s\",\"hide\":[\"%s\"],\"orphan_ms\":%lld%s}",
		r->run, r->spool, r->is_tier ? r->cells : r->dir, r->mode_max != NULL ? r->mode_max : "danger_full_access", r->hidden,
		(long long)(r->orphan_ms > 0 ? r->orphan_ms : 60000), extra != NULL ? extra : "");
	wire_begin(r->runner, WIRE_BOOT, 0);
	assert_int_equal(wire_end(r->runner, (struct str){ text, (size_t)n }, -1), 0);
}

/* A (new) runtime: a link to shelld through the runner. */
static inline void
rig_peer(struct rig *r)
{
	int pair[2];
	if (r->tier.tier != NULL && r->tier.tier->link != NULL) {
		struct err e = { 0 };
		while (!r->is_ready) /* nothing orders one channel behind the other */
			rig_wait(r);
		sandbox_detach(r->sb); /* a serial port takes one at a time */
		pair[0] = r->tier.tier->link(&r->tier, ROLE_RUNTIME, &e);
		if (pair[0] < 0)
			fatal("%s", e.msg);
		sandbox_attach(r->sb, pair[0]);
		for (int before = r->ups; r->ups == before && !r->guest_ended;)
			rig_wait(r);
		return;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	json_kv_z(wire_begin(r->runner, WIRE_PEER, 0), "role", "runtime");
	assert_int_equal(wire_end(r->runner, STR(""), pair[1]), 0);
	close(pair[1]);
	sandbox_attach(r->sb, pair[0]);
	int ups = r->ups;
	while (r->ups == ups && !r->guest_ended)
		rig_wait(r);
}

/* The limit of processes is below what a fork bomb wants: where no cgroup is there for a cell, the container's own holds. */
static inline int
rig_tier_start(struct rig *r, const struct tier *t, struct tier_reason *why)
{
	char path[RIG_PATH];
	struct tier_spec s = { .home = r->run, .guest = path, .run_dir = r->run, .spool_dir = r->spool, .state_root = r->cells,
		.mounts = { r->shared }, .mounts_n = 1, .memory_bytes = 1024 * (int64_t)MIB, .processes = 160, .cpu_percent = 400,
		.container = { .socket = getenv("RIG_ENGINE"), .image = getenv("RIG_IMAGE") },
		.microvm = { .kernel = getenv("RIG_KERNEL"), .saved = getenv("RIG_SAVED"), .verdict = getenv("RIG_VERDICT"), .allow_emulation = true } };
	int fd;

	rig_guest_path(path);
	int rc = t->start(&s, &r->tier, &fd, why);
	if (rc == 0)
		r->runner = wire_open(r->l, fd, ROLE_RUNNER, ROLE_SHELLD, &rig_runner_handler, r);
	return rc;
}

/* Starts the guest and waits until it can be used. */
static inline void
rig_spawn(struct rig *r)
{
	const struct tier *tier = tier_find(getenv("RIG_TIER") != NULL ? getenv("RIG_TIER") : "");
	struct tier_reason why;
	struct err e = { 0 };
	char path[RIG_PATH];
	int pair[2];

	r->is_tier = tier != NULL;
	if (r->is_tier) {
		r->guest_ended = r->is_ready = false;
		if (rig_tier_start(r, tier, &why) != 0)
			fatal("%s", why.e.msg);
		rig_boot(r, strcmp(tier->name, "microvm") == 0 ? ",\"tier\":\"microvm\"" : ",\"tier\":\"container\"");
		return;
	}
	rig_guest_path(path);
	char *argv[] = { path, NULL };
	char *env[] = { (char *)(uintptr_t) "PATH=/usr/bin:/bin", (char *)(uintptr_t) "LEAK=secret", NULL };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fd_set_nonblock(pair[0]);
	int fds[] = { -1, 2, 2, pair[1] };
	struct child_spec spec = { .path = path, .argv = argv, .env = env, .fds = fds, .fds_n = ARRAY_LEN(fds) };
	r->guest_ended = r->is_ready = false;
	if (child_start(r->l, &spec, rig_guest_end, r, &r->guest, &e) != 0)
		fatal("%s", e.msg);
	close(pair[1]);
	r->runner = wire_open(r->l, pair[0], ROLE_RUNNER, ROLE_SHELLD, &rig_runner_handler, r);
	rig_boot(r, NULL);
}

static inline void
rig_init(struct rig *r)
{
	struct err e = { 0 };
	const char *tmp = getenv("TMPDIR");

	memset(r, 0, sizeof(*r));
	log_open("test", 2, LOG_ERROR, LOG_LOGFMT);
	assert_int_equal(loop_open(&r->l, &e), 0);
	snprintf(r->dir, sizeof(r->dir), "%.40s/ithaca-rig-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->shared, RIG_PATH, "%s/shared", r->dir);
	snprintf(r->cells, RIG_PATH, "%s/cells", r->dir);
	snprintf(r->state, RIG_PATH, "%s/cells/state", r->dir);
	assert_int_equal(mkdir(r->cells, 0700), 0);
	snprintf(r->run, RIG_PATH, "%s/run", r->dir);
	snprintf(r->spool, RIG_PATH, "%s/spool", r->dir);
	snprintf(r->hidden, RIG_PATH, "%s/shared/.daemon", r->dir);
	assert_int_equal(mkdir(r->shared, 0755), 0);
	assert_int_equal(mkdir(r->hidden, 0700), 0);
	r->sb = sandbox_new(r->l, rig_state, r);
	r->plan = (struct cell_plan){ .access = CELL_WORKSPACE_WRITE, .shared = r->shared, .state = r->state,
		.memory_bytes = 512 * MIB, .processes = 128, .cpu_percent = 400, .file_bytes = 64 * MIB,
		.tmp_bytes = 64 * MIB };
}

static inline void
rig_start(struct rig *r)
{
	rig_init(r);
	rig_spawn(r);
	rig_peer(r);
}

static inline void
rig_remove(const char *dir)
{
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static inline void
rig_stop(struct rig *r)
{
	if (r->runner != NULL) {
		wire_begin(r->runner, WIRE_STOP, 0);
		(void)wire_end(r->runner, STR(""), -1);
	}
	while (!r->guest_ended)
		rig_wait(r);
	sandbox_free(r->sb);
	wire_close(r->runner);
	if (r->tier.tier != NULL)
		r->tier.tier->stop(&r->tier);
	loop_close(r->l);
	rig_remove(r->dir);
}

/* For cmocka: *state is a struct rig that was started. */
static inline int
rig_setup(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	rig_start(r);
	*state = r;
	return 0;
}

static inline int
rig_teardown(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

/* ---- what is still alive ----
 * A command opens the fifo "alive" of the workspace and hands the descriptor down. Its end of file is the event that
 * nobody who had it lives any more: no pause long enough to call a silence has to be guessed. */

static inline int
rig_alive(struct rig *r)
{
	char path[RIG_PATH + 8];

	snprintf(path, sizeof(path), "%s/alive", r->shared);
	unlink(path);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(chmod(path, 0666), 0);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* Waits until one of them wrote. */
static inline void
rig_expect_alive(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, RIG_GUARD_MS * rig_slow()), 1);
	assert_true(p.revents & POLLIN);
}

static inline void
rig_expect_dead(int fd)
{
	char bytes[4096];
	ssize_t n;
	int64_t until = clock_mono_ms() + RIG_GUARD_MS * rig_slow();

	do {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, RIG_GUARD_MS * rig_slow()), 1);
		assert_true(clock_mono_ms() < until); /* one that lives may write for ever */
		n = read(fd, bytes, sizeof(bytes));
	} while (n > 0);
	assert_int_equal(n, 0);
	close(fd);
}

/* Waits until a file appears in a directory that exists. */
static inline void
rig_expect_file(const char *dir, const char *name)
{
	char path[RIG_PATH + 64], events[4096];
	int fd = inotify_init1(IN_CLOEXEC);

	assert_true(fd >= 0 && inotify_add_watch(fd, dir, IN_CREATE | IN_MOVED_TO) >= 0);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	while (access(path, F_OK) != 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, RIG_GUARD_MS), 1);
		assert_true(read(fd, events, sizeof(events)) > 0);
	}
	close(fd);
}

/* ---- commands ---- */

static inline void
rig_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct outcome *o = arg;
	assert_int_equal(offset, o->next_offset);
	o->next_offset += (int64_t)bytes.n;
	buf_add_str(ch == 1 ? &o->out : &o->err, bytes);
	buf_add_str(&o->both, bytes);
	if (o->stop_after > 0 && o->both.n >= o->stop_after)
		loop_stop(o->r->l);
}

static inline void
rig_status(void *arg, const struct exec_status *st)
{
	struct outcome *o = arg;
	o->st = *st;
	o->is_over = true;
	o->call = NULL;
	loop_stop(o->r->l);
}

static inline void
rig_fail(void *arg, const struct err *e)
{
	struct outcome *o = arg;
	o->e = *e;
	o->is_over = true;
	o->call = NULL;
	loop_stop(o->r->l);
}

static const struct exec_handler rig_handler = { rig_output, rig_status, rig_fail };

static inline void
outcome_init(struct outcome *o, struct rig *r)
{
	memset(o, 0, sizeof(*o));
	o->r = r;
	buf_init(&o->out, 64 * MIB);
	buf_init(&o->err, 64 * MIB);
	buf_init(&o->both, 64 * MIB);
}

static inline void
outcome_fini(struct outcome *o)
{
	buf_fini(&o->out);
	buf_fini(&o->err);
	buf_fini(&o->both);
}

static inline struct exec_request
rig_request(struct rig *r, const char *effect, const char *command)
{
	return (struct exec_request){ .cell = "cell-1", .plan = &r->plan, .effect = effect, .command = str_of(command),
		.timeout_ms = 20000 * rig_slow(), .output_max = 1 * MIB };
}

/* Begins a command; the answer comes with rig_wait. */
static inline void
rig_begin(struct rig *r, const struct exec_request *q, struct outcome *o)
{
	outcome_init(o, r);
	if (sandbox_exec(r->sb, q, &rig_handler, o, &o->call, &o->e) != 0)
		o->is_over = true;
}

static inline void
rig_finish(struct outcome *o)
{
	while (!o->is_over)
		rig_wait(o->r);
}

static inline void
rig_run(struct rig *r, const struct exec_request *q, struct outcome *o)
{
	rig_begin(r, q, o);
	rig_finish(o);
}

/* A command under a fresh effect id. */
static inline void
rig_sh(struct rig *r, const char *command, struct outcome *o)
{
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, command);
	rig_run(r, &q, o);
}

/* Compares what a command writes to its standard output. */
static inline void
rig_expect(struct rig *r, const char *command, const char *output)
{
	struct outcome o;
	rig_sh(r, command, &o);
	if (o.e.code != 0)
		fail_msg("%s: %s", command, o.e.msg);
	assert_string_equal(buf_z(&o.out), output);
	outcome_fini(&o);
}

/* Runs a command for a run and compares all that it said. */
static inline void
rig_expect_in(struct rig *r, const char *run, const char *command, const char *output)
{
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, command);
	struct outcome o;

	q.run = run;
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, 0);
	assert_string_equal(buf_z(&o.both), output);
	outcome_fini(&o);
}

/* ---- namespaces of a test's own ---- */

static inline int
rig_put(const char *path, const char *text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
}

/* A user namespace in which the caller is who he was. False: it is refused here. */
static inline bool
rig_own_users(void)
{
	int uid = (int)geteuid(), gid = (int)getegid();
	char users[64], groups[64];

	snprintf(users, sizeof(users), "%d %d 1\n", uid, uid);
	snprintf(groups, sizeof(groups), "%d %d 1\n", gid, gid);
	return unshare(CLONE_NEWUSER) == 0 && rig_put("/proc/self/setgroups", "deny") == 0 &&
		rig_put("/proc/self/uid_map", users) == 0 && rig_put("/proc/self/gid_map", groups) == 0;
}

/* ---- answers ---- */

struct answer {
	struct rig *r;
	bool is_over;
	struct err e;
	struct arena *a;
	const struct node *head;
	struct buf tail;
};

static inline void
rig_reply(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct answer *x = arg;
	x->is_over = true;
	if (e != NULL)
		x->e = *e;
	else
		x->head = node_copy(x->a, head);
	buf_add_str(&x->tail, tail);
	loop_stop(x->r->l);
}

static inline void
answer_init(struct answer *x, struct rig *r)
{
	memset(x, 0, sizeof(*x));
	x->r = r;
	x->a = arena_new(16 * MIB);
	buf_init(&x->tail, 64 * MIB);
}

static inline void
answer_wait(struct answer *x)
{
	while (!x->is_over)
		rig_wait(x->r);
}

static inline void
answer_fini(struct answer *x)
{
	arena_free(x->a);
	buf_fini(&x->tail);
}

/* A file below /proc of a process, as text; false when there is nothing. */
static inline bool
rig_read_proc(pid_t pid, const char *name, char *out, size_t size)
{
	char path[96];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* 0: it has ended. */
static inline pid_t
rig_parent_of(pid_t pid)
{
	char text[512];
	const char *end = rig_read_proc(pid, "stat", text, sizeof(text)) ? strrchr(text, ')') : NULL;
	return end != NULL ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

#endif
