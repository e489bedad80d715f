/* SPDX-License-Identifier: MIT
 * traffic [-t TIER] [-e ECHOS] [-b BYTES] [-c CELLS] GUEST DIR: what goes through a cell, and what
 * it keeps in memory, as lines of JSON. ECHOS: a byte to a `cat` and back, in microseconds, beside
 * the same through two pipes. BYTES: that many bytes of a command's output to its client, live and
 * kept with a cap, beside a pipe; with the largest resident set of shelld by then. CELLS: that many
 * cells that wait; while each line {"cells"} waits for a line of standard input, their memory can
 * be read. */
#include <fcntl.h>
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

#define TIMEOUT_MS 600000
#define ECHOS_MAX  100000
#define CELLS_MAX  1000
#define CHUNK      65536
#define WARM_UP    20
#define FLOOD_MAX  (1ll << 40)

extern char **environ;

struct bench {
	struct guest g;
	struct exec_status status;
	int64_t bytes; /* of output that came */
	bool is_over, is_flood;
};

/* ---- commands ---- */

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct bench *b = arg;

	b->bytes += (int64_t)bytes.n;
	if (!b->is_flood)
		loop_stop(b->g.l);
}

static void
on_status(void *arg, const struct exec_status *st)
{
	struct bench *b = arg;

	b->status = *st;
	b->is_over = true;
	loop_stop(b->g.l);
}

static void
on_fail(void *arg, const struct err *e)
{
	fatal("traffic: %s", e->msg);
}

static const struct exec_handler handler = { on_output, on_status, on_fail };

/* The rest of *q is filled in. */
static struct exec_call *
start(struct bench *b, struct exec_request *q, struct str command)
{
	struct exec_call *call;
	struct id id = id_new();
	struct err e = { 0 };

	if (q->cell == NULL)
		q->cell = "warm";
	q->plan = &b->g.plan;
	q->effect = id.z;
	q->command = command;
	q->timeout_ms = TIMEOUT_MS;
	b->bytes = 0;
	b->is_over = false;
	if (sandbox_exec(b->g.sb, q, &handler, b, &call, &e) != 0)
		fatal("traffic: %s", e.msg);
	return call;
}

static pid_t
spawn(char *const *argv, int *in, int *out)
{
	posix_spawn_file_actions_t actions;
	int to[2], from[2];
	pid_t pid;

	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
		fatal("traffic: no pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, to[0], 0);
	posix_spawn_file_actions_adddup2(&actions, from[1], 1);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0)
		fatal("traffic: %s cannot be started", argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(to[0]);
	close(from[1]);
	*in = to[1];
	*out = from[0];
	return pid;
}

#define ARG(text) ((char *)(uintptr_t)(text))

/* ---- a byte and back ---- */

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void
print_times(const char *name, int64_t *us, size_t n)
{
	qsort(us, n, sizeof(us[0]), compare);
	printf("{\"echo\":\"%s\",\"us_p50\":%lld,\"us_p99\":%lld,\"n\":%zu}\n", name,
		(long long)us[n / 2], (long long)us[n * 99 / 100], n);
	fflush(stdout);
}

static void
echo_floor(int64_t *us, size_t n)
{
	char *const argv[] = { ARG("cat"), NULL };
	char byte = 'x';
	int in, out;
	pid_t pid = spawn(argv, &in, &out);

	for (size_t i = 0; i < n + WARM_UP; i++) {
		int64_t at = clock_mono_us();

		if (write(in, &byte, 1) != 1 || read(out, &byte, 1) != 1)
			fatal("traffic: cat is gone");
		us[i < WARM_UP ? 0 : i - WARM_UP] = clock_mono_us() - at;
	}
	close(in);
	close(out);
	waitpid(pid, NULL, 0);
	print_times("pipes", us, n);
}

/* On a terminal the line discipline is told to leave everything to cat, which says first that it is
 * there. */
static void
echo_cell(struct bench *b, bool has_terminal, int64_t *us, size_t n)
{
	struct exec_request q = { .input = !has_terminal,
		.live = true,
		.rows = has_terminal ? 24 : 0,
		.columns = has_terminal ? 80 : 0 };
	struct exec_call *call = start(b, &q,
		has_terminal ? STR("stty raw -echo && printf . && exec cat")
			     : STR("printf . && exec cat"));

	guest_wait(&b->g);
	for (size_t i = 0; i < n + WARM_UP && !b->is_over; i++) {
		int64_t at = clock_mono_us();

		exec_call_input(call, STR("x"));
		guest_wait(&b->g);
		us[i < WARM_UP ? 0 : i - WARM_UP] = clock_mono_us() - at;
	}
	if (b->bytes != (int64_t)(n + WARM_UP + 1))
		fatal("traffic: %lld bytes came back", (long long)b->bytes);
	exec_call_kill(call);
	while (!b->is_over)
		guest_wait(&b->g);
	print_times(has_terminal ? "terminal" : "cell", us, n);
}

static void
echos(struct bench *b, int64_t n)
{
	AUTO_FREE int64_t *us = xcalloc((size_t)n, sizeof(int64_t));

	echo_floor(us, (size_t)n);
	echo_cell(b, false, us, (size_t)n);
	echo_cell(b, true, us, (size_t)n);
}

/* ---- a flood ---- */

/* Largest resident set of shelld up to now. */
static int64_t
peak_kib(const struct guest *g)
{
	char path[64], line[256];
	long long kib = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)g->pid);
	FILE *f = g->pid == 0 ? NULL : fopen(path, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtoll(line + 6, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return kib;
}

static void
print_flood(const char *name, int64_t bytes, int64_t us, int64_t kib)
{
	printf("{\"flood\":\"%s\",\"mb_s\":%.1f,\"peak_kib\":%lld}\n", name,
		(double)bytes / (double)MAX(us, 1), (long long)kib);
	fflush(stdout);
}

static void
flood_floor(int64_t bytes)
{
	AUTO_FREE char *count = xasprintf("%lld", (long long)bytes), *chunk = xmalloc(CHUNK);
	char *const argv[] = { ARG("head"), ARG("-c"), count, ARG("/dev/zero"), NULL };
	int64_t at = clock_mono_us(), sum = 0;
	int in, out;
	pid_t pid = spawn(argv, &in, &out);

	for (ssize_t n; (n = read(out, chunk, CHUNK)) > 0;)
		sum += n;
	close(in);
	close(out);
	waitpid(pid, NULL, 0);
	if (sum != bytes)
		fatal("traffic: a pipe gave %lld bytes", (long long)sum);
	print_flood("pipe", bytes, clock_mono_us() - at, 0);
}

/* Of what is kept, the client sees no more than the cap; the rest is counted. */
static void
flood_cell(struct bench *b, bool is_live, int64_t bytes)
{
	AUTO_FREE char *command = xasprintf("head -c %lld /dev/zero", (long long)bytes);
	struct exec_request q = { .live = is_live, .output_max = is_live ? 0 : TOOL_OUTPUT_MAX };
	int64_t at = clock_mono_us();

	b->is_flood = true;
	start(b, &q, str_of(command));
	while (!b->is_over)
		guest_wait(&b->g);
	b->is_flood = false;
	int64_t us = clock_mono_us() - at,
		want = is_live ? bytes : MIN(bytes, (int64_t)TOOL_OUTPUT_MAX);
	if (b->status.exit_code != 0 || b->status.output_bytes != bytes || b->bytes != want)
		fatal("traffic: exit %d, %lld bytes of output, %lld came", b->status.exit_code,
			(long long)b->status.output_bytes, (long long)b->bytes);
	print_flood(is_live ? "live" : "kept", bytes, us, peak_kib(&b->g));
}

/* ---- cells that wait ---- */

static void
wait_read(int64_t cells, const struct guest *g)
{
	char line[16];

	printf("{\"cells\":%lld,\"pid\":%d}\n", (long long)cells, (int)g->pid);
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		fatal("traffic: nobody reads the memory");
}

/* Each has run a command. */
static void
idle(struct bench *b, int64_t n)
{
	struct cell_plan plan = b->g.plan;

	wait_read(0, &b->g);
	for (int64_t i = 0; i < n; i++) {
		AUTO_FREE char *name = xasprintf("idle-%lld", (long long)i);
		struct exec_request q = { 0 };

		q.cell = name;
		b->g.plan = guest_plan(&b->g, name);
		start(b, &q, STR("true"));
		while (!b->is_over)
			guest_wait(&b->g);
	}
	b->g.plan = plan;
	wait_read(n, &b->g);
}

static int64_t
number(const char *text, int64_t max)
{
	int64_t n;

	if (str_i64(str_of(text), &n) != 0 || n < 0 || n > max)
		fatal("traffic: %s is not within 0..%lld", text, (long long)max);
	return n;
}

int
main(int argc, char **argv)
{
	int64_t echos_n = 0, bytes = 0, cells = 0;
	const char *tier = NULL;
	struct bench b = { 0 };
	int c;

	log_open("traffic", 2, LOG_ERROR, LOG_LOGFMT);
	while ((c = getopt(argc, argv, "t:e:b:c:")) != -1) {
		if (c == 't')
			tier = optarg;
		else if (c == 'e')
			echos_n = number(optarg, ECHOS_MAX);
		else if (c == 'b')
			bytes = number(optarg, FLOOD_MAX);
		else if (c == 'c')
			cells = number(optarg, CELLS_MAX);
		else
			return 2;
	}
	if (argc - optind != 2) {
		fputs("usage: traffic [-t TIER] [-e ECHOS] [-b BYTES] [-c CELLS] GUEST DIR\n",
			stderr);
		return 2;
	}
	guest_open(&b.g, argv[optind], argv[optind + 1], tier);
	if (echos_n > 0)
		echos(&b, echos_n);
	if (bytes > 0) {
		flood_floor(bytes);
		flood_cell(&b, true, bytes);
		flood_cell(&b, false, bytes);
	}
	if (cells > 0)
		idle(&b, cells);
	guest_close(&b.g);
	return 0;
}
