/* SPDX-License-Identifier: MIT
 * cells ROUNDS GUEST DIR [NAME=COMMAND]...: times of one command, in microseconds, as arrays of one
 * JSON object: `sh -c true` by posix_spawn, in a full cell made for it, in a full cell that is
 * there already, and each COMMAND (words between spaces) by posix_spawn. Each round has one of
 * each. */
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest.h"

#define ROUNDS_MAX 10000
#define GUARD_MS   60000
#define SETTLE_MS  20 /* after each: the kernel takes namespaces and groups down behind a process that ended */
#define WORDS_MAX 64
#define WAYS_MAX  16

extern char **environ;

/* A way to run a command: a process, or one of the two in a cell. */
struct way {
	char *name, *argv[WORDS_MAX];
	int64_t (*run)(struct way *w);
	struct bench *b;
	int64_t *times;
};

struct bench {
	struct guest g;
	struct exec_status status;
	int64_t rounds;
	struct way ways[WAYS_MAX];
	size_t ways_n;
};

/* ---- processes ---- */

static int64_t
run_process(struct way *w)
{
	int64_t start = clock_mono_us();
	int status = -1;
	pid_t pid;

	if (posix_spawnp(&pid, w->argv[0], NULL, NULL, w->argv, environ) != 0)
		fatal("cells: %s cannot be started", w->argv[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fatal("cells: %s ended with status %d", w->name, status);
	return clock_mono_us() - start;
}

/* ---- cells ---- */

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
}

static void
on_status(void *arg, const struct exec_status *st)
{
	struct bench *b = arg;

	b->status = *st;
	loop_stop(b->g.l);
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
	struct exec_request q = { .cell = cell,
		.plan = &b->g.plan,
		.effect = id.z,
		.command = STR("true"),
		.timeout_ms = GUARD_MS,
		.output_max = MIB };
	struct exec_call *call;
	struct err e = { 0 };
	int64_t start = clock_mono_us();

	if (sandbox_exec(b->g.sb, &q, &handler, b, &call, &e) != 0)
		fatal("cells: %s", e.msg);
	guest_wait(&b->g);
	if (b->status.exit_code != 0 || b->status.signal != 0)
		fatal("cells: true ended with %d, signal %d", b->status.exit_code,
			b->status.signal);
	return clock_mono_us() - start;
}

static void
on_closed(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	loop_stop(((struct bench *)arg)->g.l);
}

static int64_t
run_warm(struct way *w)
{
	return run_cell(w->b, "warm");
}

static int64_t
run_new(struct way *w)
{
	struct bench *b = w->b;
	int64_t us = run_cell(b, "new");
	struct err e = { 0 };

	if (sandbox_cell_close(b->g.sb, "new", true, on_closed, b, &e) != 0)
		fatal("cells: %s", e.msg);
	guest_wait(&b->g);
	return us;
}

/* ---- rounds ---- */

/* NAME=COMMAND; the text is cut into pieces. */
static void
add(struct bench *b, int64_t (*run)(struct way *), char *text)
{
	struct way *w = &b->ways[b->ways_n];
	char *at = strchr(text, '='), *rest;
	size_t n = 0;

	if (b->ways_n++ >= WAYS_MAX || at == NULL)
		fatal("cells: at most %d ways, as NAME=COMMAND", WAYS_MAX);
	*at = '\0';
	*w = (struct way){ .name = text,
		.run = run,
		.b = b,
		.times = xcalloc((size_t)b->rounds, sizeof(int64_t)) };
	for (char *word = strtok_r(at + 1, " ", &rest); word != NULL && n + 1 < WORDS_MAX;
		word = strtok_r(NULL, " ", &rest))
		w->argv[n++] = word;
}

static void
print(const struct bench *b)
{
	for (size_t i = 0; i < b->ways_n; i++) {
		printf("%s\"%s\":[", i > 0 ? ",\n" : "{", b->ways[i].name);
		for (int64_t k = 0; k < b->rounds; k++)
			printf("%s%lld", k > 0 ? "," : "", (long long)b->ways[i].times[k]);
		printf("]");
	}
	puts("}");
}

int
main(int argc, char **argv)
{
	static char spawn_true[] = "spawn_true=true", spawn_sh[] = "spawn_sh=sh -c true",
		    warm[] = "cell_warm=", new[] = "cell_new=";
	struct bench b = { 0 };

	if (argc < 4 || str_i64(str_of(argv[1]), &b.rounds) != 0 || b.rounds < 1 ||
		b.rounds > ROUNDS_MAX) {
		fputs("usage: cells ROUNDS GUEST DIR [NAME=COMMAND]...\n", stderr);
		return 2;
	}
	log_open("cells", 2, LOG_WARN, LOG_LOGFMT);
	add(&b, run_process, spawn_true);
	add(&b, run_process, spawn_sh);
	for (int i = 4; i < argc; i++)
		add(&b, run_process, argv[i]);
	add(&b, run_warm, warm);
	add(&b, run_new, new);
	guest_open(&b.g, argv[2], argv[3], NULL);
	run_cell(&b, "warm");
	for (int64_t i = 0; i < b.rounds; i++) {
		for (size_t k = 0; k < b.ways_n; k++) {
			b.ways[k].times[i] = b.ways[k].run(&b.ways[k]);
			poll(NULL, 0, SETTLE_MS);
		}
	}
	print(&b);
	guest_close(&b.g);
	for (size_t k = 0; k < b.ways_n; k++)
		free(b.ways[k].times);
	return 0;
}
