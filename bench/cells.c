/* SPDX-License-Identifier: MIT
 * cells ROUNDS GUEST DIR: times of one command, in microseconds, as arrays of one JSON object: `sh -c true` by
 * posix_spawn, in bwrap with all its namespaces (when it is installed), in a full cell made for it, and in a full cell
 * that is there already. Each round has one of each. It is runner and runtime to a real ithaca-guest. */
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/sandbox.h"

#define ROUNDS_MAX 10000
#define GUARD_MS   60000
#define SETTLE_MS  20 /* between rounds: the kernel takes namespaces and groups down behind a process that ended */

extern char **environ;

enum way { WAY_TRUE, WAY_SH, WAY_BWRAP, WAY_NEW, WAY_WARM, WAY_COUNT };
static const char *const way_names[WAY_COUNT] = { "spawn_true", "spawn_sh", "bwrap_sh", "cell_new", "cell_warm" };

struct bench {
	struct loop *l;
	struct wire *runner;
	struct sandbox *sb;
	struct child *guest;
	struct cell_plan plan;
	struct exec_status status;
	int64_t rounds, *times[WAY_COUNT];
	bool is_stopping;
};

/* ---- processes ---- */

static int64_t
run_process(char *const *argv)
{
	int64_t start = clock_mono_us();
	int status = -1;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return -1;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return -1;
	return clock_mono_us() - start;
}

#define ARG(text) ((char *)(uintptr_t)(text))

static int64_t
run_way(enum way way)
{
	char *const true_argv[] = { ARG("true"), NULL };
	char *const sh_argv[] = { ARG("sh"), ARG("-c"), ARG("true"), NULL };
	char *const bwrap_argv[] = { ARG("bwrap"), ARG("--ro-bind"), ARG("/"), ARG("/"), ARG("--dev"), ARG("/dev"), ARG("--proc"),
		ARG("/proc"), ARG("--tmpfs"), ARG("/tmp"), ARG("--unshare-all"), ARG("--die-with-parent"), ARG("sh"), ARG("-c"),
		ARG("true"), NULL };

	return run_process(way == WAY_TRUE ? true_argv : way == WAY_SH ? sh_argv : bwrap_argv);
}

/* ---- cells ---- */

static void
on_guard(void *arg)
{
	fatal("cells: no answer in %d ms", GUARD_MS);
}

static void
wait_answer(struct bench *b)
{
	struct timer *guard = timer_start(b->l, GUARD_MS, on_guard, NULL);

	loop_run(b->l);
	timer_close(guard);
}

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
}

static void
on_status(void *arg, const struct exec_status *st)
{
	struct bench *b = arg;

	b->status = *st;
	loop_stop(b->l);
}

static void
on_fail(void *arg, const struct err *e)
{
	fatal("cells: %s", e->msg);
}

static const struct exec_handler handler = { on_output, on_status, on_fail };

static int64_t
run_cell(struct bench *b, const char *cell)
{
	struct id id = id_new();
	struct exec_request q = { .cell = cell, .plan = &b->plan, .effect = id.z, .command = STR("true"), .timeout_ms = GUARD_MS,
		.output_max = MIB };
	struct exec_call *call;
	struct err e = { 0 };
	int64_t start = clock_mono_us();

	if (sandbox_exec(b->sb, &q, &handler, b, &call, &e) != 0)
		fatal("cells: %s", e.msg);
	wait_answer(b);
	if (b->status.exit_code != 0 || b->status.signal != 0)
		fatal("cells: true ended with %d, signal %d", b->status.exit_code, b->status.signal);
	return clock_mono_us() - start;
}

static void
on_closed(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	loop_stop(((struct bench *)arg)->l);
}

static int64_t
run_new_cell(struct bench *b)
{
	int64_t us = run_cell(b, "new");
	struct err e = { 0 };

	if (sandbox_cell_close(b->sb, "new", true, on_closed, b, &e) != 0)
		fatal("cells: %s", e.msg);
	wait_answer(b);
	return us;
}

/* ---- the guest ---- */

static void
on_state(void *arg, bool is_up, const struct sandbox_facts *f)
{
	struct bench *b = arg;

	if (b->is_stopping)
		return;
	if (!is_up || f->level != CELL_FULL)
		fatal("cells: no full cell here: %s", is_up ? f->reason : "shelld ended");
	loop_stop(b->l);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct err why = { 0 };

	if (m->kind == WIRE_FAULT) {
		wire_err(m->head, &why);
		fatal("cells: %s", why.msg);
	}
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	((struct bench *)arg)->runner = NULL;
}

static const struct wire_handler runner_handler = { on_msg, on_gone };

static void
on_guest_end(void *arg, pid_t pid, int status)
{
	loop_stop(((struct bench *)arg)->l);
}

static void
boot(struct bench *b, const char *dir)
{
	struct buf envelope;
	struct json j;

	buf_init(&envelope, 64 * KIB);
	json_init(&j, &envelope);
	json_obj(&j);
	for (size_t i = 0; i < 3; i++) {
		static const char *const keys[] = { "run_dir", "spool_dir", "state_root" };
		AUTO_FREE char *path = xasprintf("%s/%s", dir, keys[i]);

		json_kv_z(&j, keys[i], path);
	}
	json_obj_end(&j);
	wire_begin(b->runner, WIRE_BOOT, 0);
	if (wire_end(b->runner, buf_str(&envelope), -1) != 0)
		fatal("cells: boot");
	buf_fini(&envelope);
}

static void
start_guest(struct bench *b, const char *guest, const char *dir)
{
	char *argv[] = { ARG(guest), NULL }, *env[] = { ARG("PATH=/usr/bin:/bin"), NULL };
	int to_guest[2], to_peer[2];
	struct err e = { 0 };

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to_guest) != 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to_peer) != 0)
		fatal("cells: no socket pair");
	int fds[] = { -1, 2, 2, to_guest[1] };
	struct child_spec spec = { .path = guest, .argv = argv, .env = env, .fds = fds, .fds_n = ARRAY_LEN(fds) };

	if (child_start(b->l, &spec, on_guest_end, b, &b->guest, &e) != 0)
		fatal("cells: %s", e.msg);
	close(to_guest[1]);
	b->runner = wire_open(b->l, to_guest[0], ROLE_RUNNER, ROLE_SHELLD, &runner_handler, b);
	boot(b, dir);
	json_kv_z(wire_begin(b->runner, WIRE_PEER, 0), "role", "runtime");
	if (wire_end(b->runner, STR(""), to_peer[1]) != 0)
		fatal("cells: peer");
	close(to_peer[1]);
	sandbox_attach(b->sb, to_peer[0]);
	wait_answer(b);
}

static void
stop_guest(struct bench *b)
{
	b->is_stopping = true;
	if (b->runner != NULL) {
		wire_begin(b->runner, WIRE_STOP, 0);
		if (wire_end(b->runner, STR(""), -1) == 0)
			wait_answer(b);
	}
	sandbox_free(b->sb);
	wire_close(b->runner);
	loop_close(b->l);
}

/* ---- rounds ---- */

static void
round_once(struct bench *b, int64_t i)
{
	for (enum way w = WAY_TRUE; w <= WAY_BWRAP; w++)
		b->times[w][i] = run_way(w);
	b->times[WAY_WARM][i] = run_cell(b, "warm");
	b->times[WAY_NEW][i] = run_new_cell(b);
	poll(NULL, 0, SETTLE_MS);
}

static void
print(const struct bench *b)
{
	for (enum way w = 0; w < WAY_COUNT; w++) {
		printf("%s\"%s\":[", w > 0 ? ",\n" : "{", way_names[w]);
		for (int64_t i = 0, n = 0; i < b->rounds; i++)
			if (b->times[w][i] >= 0)
				printf("%s%lld", n++ > 0 ? "," : "", (long long)b->times[w][i]);
		printf("]");
	}
	puts("}");
}

int
main(int argc, char **argv)
{
	struct bench b = { 0 };
	struct err e = { 0 };

	if (argc != 4 || str_i64(str_of(argv[1]), &b.rounds) != 0 || b.rounds < 1 || b.rounds > ROUNDS_MAX) {
		fputs("usage: cells ROUNDS GUEST DIR\n", stderr);
		return 2;
	}
	log_open("cells", 2, LOG_WARN, LOG_LOGFMT);
	if (loop_open(&b.l, &e) != 0)
		fatal("cells: %s", e.msg);
	AUTO_FREE char *shared = xasprintf("%s/shared", argv[3]), *state = xasprintf("%s/state_root/warm", argv[3]);
	if (mkdir(shared, 0700) != 0)
		fatal("cells: %s cannot be made", shared);
	b.plan = (struct cell_plan){ .access = CELL_WORKSPACE_WRITE, .shared = shared, .state = state, .memory_bytes = 512 * MIB,
		.processes = 256, .cpu_percent = 400, .file_bytes = 64 * MIB, .tmp_bytes = 64 * MIB };
	for (enum way w = 0; w < WAY_COUNT; w++)
		b.times[w] = xcalloc((size_t)b.rounds, sizeof(int64_t));
	b.sb = sandbox_new(b.l, on_state, &b);
	start_guest(&b, argv[2], argv[3]);
	run_cell(&b, "warm");
	for (int64_t i = 0; i < b.rounds; i++)
		round_once(&b, i);
	print(&b);
	stop_guest(&b);
	for (enum way w = 0; w < WAY_COUNT; w++)
		free(b.times[w]);
	return 0;
}
