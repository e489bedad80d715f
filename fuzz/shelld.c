/* SPDX-License-Identifier: MIT
 * Messages of a runtime to shelld: the real link, dispatcher, cells, jobs and shells, with a zygote that takes orders and
 * never makes a cell. A line is a message: its kind, then keys of its head as JSON, then `|` and the tail; %P is a plan
 * that can be opened, %E a fresh effect. A line that begins with `!` is sent as bytes. After each input shelld must have
 * let go of everything when its cells are gone. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/job.h"

#define LINES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct shelld *d;
static int zygote = -1;
static char dir[64], plan[512];
static unsigned effects;

static void
remove_dirs(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
}

static void
on_pass(void *arg)
{
	loop_stop(d->l);
}

static void
start(void)
{
	struct err e = { 0 };
	int pair[2];
	char path[96];

	log_open("fuzz", 2, LOG_OFF, LOG_LOGFMT);
	snprintf(dir, sizeof(dir), "/tmp/ithaca-fuzz-XXXXXX");
	d = xcalloc(1, sizeof(*d));
	if (mkdtemp(dir) == NULL || loop_open(&d->l, &e) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		fatal("fuzz shelld: start");
	atexit(remove_dirs);
	snprintf(path, sizeof(path), "%s/shared", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/spool", dir);
	if (spool_open(&d->spool, path, &e) != 0)
		fatal("fuzz shelld: %s", e.msg);
	snprintf(plan, sizeof(plan), "{\"access\":\"workspace_write\",\"shared\":\"%s/shared\",\"state\":\"%s/state\","
		"\"memory_bytes\":100000000,\"processes\":10,\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192}", dir, dir);
	zygote = pair[1];
	fd_set_nonblock(zygote);
	fd_set_nonblock(pair[0]);
	d->arena = arena_new(MIB);
	d->listen_fd = d->adopter = -1;
	d->zygote_sock = pair[0];
	outbox_init(&d->zygote, pair[0]);
	d->has_facts = d->is_booted = true;
	d->facts = (struct sandbox_facts){ .level = CELL_FULL, .limits = LIMITS_SOFT };
	d->ceiling = (struct ceiling){ .run_dir = dir, .spool_dir = dir, .state_root = dir, .mode_max = CELL_WORKSPACE_WRITE,
		.orphan_ms = 1 << 30 }; /* no input names files of others */
	d->orphan = timer_start(d->l, 1 << 30, on_pass, NULL);
}

/* Orders to the zygote go nowhere, and their descriptors with them. */
static void
drain_zygote(void)
{
	static char mem[ORDER_MAX];
	struct order o;
	while (order_recv(zygote, mem, &o) == 1)
		order_close_fds(&o);
}

static void
passes(int n)
{
	while (n-- > 0) {
		struct timer *t = timer_start(d->l, 1, on_pass, NULL);
		loop_run(d->l);
		timer_close(t);
		drain_zygote();
	}
}

static void
add_expanded(struct buf *b, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '%' && i + 1 < s.n && s.p[i + 1] == 'P') {
			buf_add_z(b, plan);
			i++;
		} else if (s.p[i] == '%' && i + 1 < s.n && s.p[i + 1] == 'E') {
			buf_printf(b, "\"e-%u\"", effects++);
			i++;
		} else {
			buf_add_char(b, s.p[i]);
		}
	}
}

static void
add_message(struct buf *b, struct str line)
{
	ptrdiff_t space = str_find_char(line, ' '), bar = str_find_char(line, '|');
	size_t head_end = bar < 0 ? line.n : (size_t)bar, start = b->n;
	static const char sizes[8];

	if (line.n > 0 && line.p[0] == '!') {
		buf_add_str(b, str_sub(line, 1, line.n));
		return;
	}
	if (space < 0 || (size_t)space > head_end)
		return;
	buf_add(b, sizes, sizeof(sizes));
	buf_printf(b, "{\"v\":1,\"kind\":\"%.*s\",", (int)MIN(space, 32), line.p);
	add_expanded(b, str_sub(line, (size_t)space + 1, head_end - (size_t)space - 1));
	buf_add_char(b, '}');
	uint32_t head_n = (uint32_t)(b->n - start - 8);
	if (bar >= 0)
		buf_add_str(b, str_sub(line, head_end + 1, line.n));
	uint32_t total = (uint32_t)(b->n - start - 4);
	if (b->overflow)
		return;
	memcpy(b->p + start, &total, 4);
	memcpy(b->p + start + 4, &head_n, 4);
}

static void
settle(void)
{
	for (int i = 0; i < 200 && (d->cells != NULL || d->jobs != NULL || d->closings != NULL || d->file_jobs != NULL); i++) {
		for (struct cell *c = d->cells; c != NULL; c = c->next)
			cell_kill(c);
		passes(1);
		if (i > 20)
			usleep(1000); /* files of a cell are removed by another thread */
	}
	if (d->cells != NULL || d->jobs != NULL || d->shells != NULL || d->file_jobs != NULL || d->closings != NULL)
		fatal("fuzz shelld: something stayed");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = { (const char *)data, size }, line;
	struct buf b;
	int pair[2];

	if (d == NULL)
		start();
	buf_init(&b, 4 * MIB);
	for (int n = 0; n < LINES_MAX && str_next(&rest, '\n', &line); n++)
		add_message(&b, line);
	if (!b.overflow && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0) {
		shelld_runtime(d, pair[1]);
		for (size_t at = 0; at < b.n;) {
			ssize_t put = send(pair[0], b.p + at, b.n - at, MSG_NOSIGNAL);
			if (put <= 0)
				break;
			at += (size_t)put;
			passes(1);
		}
		passes(3);
		close(pair[0]);
		passes(2);
		settle();
	}
	buf_fini(&b);
	return 0;
}
