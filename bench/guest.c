/* SPDX-License-Identifier: MIT
 * Starts, boots, links and ends the guest of a bench program, as a child or in a tier. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest.h"

#define GUARD_MS      120000
#define TIER_GUARD_MS 900000 /* a machine may be an emulated one */

static int
guard_ms(const struct guest *g)
{
	return g->tier.tier != NULL ? TIER_GUARD_MS : GUARD_MS;
}

static void
on_guard(void *arg)
{
	fatal("bench: no answer in %d ms", guard_ms(arg));
}

void
guest_wait(struct guest *g)
{
	struct timer *guard = timer_start(g->l, guard_ms(g), on_guard, g);

	loop_run(g->l);
	timer_close(guard);
}

static void
on_state(void *arg, bool is_up, const struct sandbox_facts *f)
{
	struct guest *g = arg;

	if (g->is_stopping)
		return;
	if (!is_up || f->level != CELL_FULL)
		fatal("bench: no full cell here: %s", is_up ? f->reason : "shelld ended");
	loop_stop(g->l);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct guest *g = arg;
	struct err why = { 0 };

	if (m->kind == WIRE_FAULT) {
		wire_err(m->head, &why);
		fatal("bench: %s", why.msg);
	}
	if (m->kind == WIRE_READY && !g->is_ready) {
		g->is_ready = true;
		if (g->tier.tier != NULL)
			loop_stop(g->l);
	}
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct guest *g = arg;

	g->runner = NULL;
	if (g->tier.tier != NULL)
		loop_stop(g->l); /* nothing else tells its end */
}

static const struct wire_handler runner_handler = { on_msg, on_gone };

static void
on_end(void *arg, pid_t pid, int status)
{
	loop_stop(((struct guest *)arg)->l);
}

static const char *
below(const struct guest *g, const char *name)
{
	return xasprintf("%s/%s", g->dir, name);
}

static void
boot(struct guest *g, const char *tier)
{
	static const char *const keys[] = { "run_dir", "spool_dir", "state_root" };
	struct buf envelope;
	struct json j;

	buf_init(&envelope, 64 * KIB);
	json_init(&j, &envelope);
	json_obj(&j);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		AUTO_FREE char *path = xasprintf("%s/%s", g->dir, keys[i]);

		json_kv_z(&j, keys[i], path);
	}
	if (tier != NULL)
		json_kv_z(&j, "tier", tier);
	json_obj_end(&j);
	wire_begin(g->runner, WIRE_BOOT, 0);
	if (wire_end(g->runner, buf_str(&envelope), -1) != 0)
		fatal("bench: boot");
	buf_fini(&envelope);
}

static void
start_child(struct guest *g, const char *program)
{
	char *argv[] = { (char *)(uintptr_t)program, NULL }, path[] = "PATH=/usr/bin:/bin",
	     *env[] = { path, NULL };
	int pair[2];
	struct err e = { 0 };

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		fatal("bench: no socket pair");
	int fds[] = { -1, 2, 2, pair[1] };
	struct child_spec spec = {
		.path = program, .argv = argv, .env = env, .fds = fds, .fds_n = ARRAY_LEN(fds)
	};
	if (child_start(g->l, &spec, on_end, g, &g->child, &e) != 0)
		fatal("bench: %s", e.msg);
	close(pair[1]);
	g->pid = child_pid(g->child);
	g->runner = wire_open(g->l, pair[0], ROLE_RUNNER, ROLE_SHELLD, &runner_handler, g);
	boot(g, NULL);
}

static void
start_tier(struct guest *g, const char *program, const struct tier *tier)
{
	struct tier_reason why;
	struct tier_spec s = { .home = below(g, "run_dir"),
		.guest = program,
		.run_dir = below(g, "run_dir"),
		.spool_dir = below(g, "spool_dir"),
		.state_root = below(g, "state_root"),
		.mounts = { g->plan.shared },
		.mounts_n = 1,
		.memory_bytes = 1024 * (int64_t)MIB,
		.processes = 400,
		.cpu_percent = 400,
		.container = { .socket = getenv("BENCH_ENGINE") },
		.microvm = { .kernel = getenv("RIG_KERNEL"), .allow_emulation = true } };
	int fd;

	if (tier->start(&s, &g->tier, &fd, &why) != 0)
		fatal("bench: %s", why.e.msg);
	g->runner = wire_open(g->l, fd, ROLE_RUNNER, ROLE_SHELLD, &runner_handler, g);
	boot(g, tier->name);
}

/* A tier hands out links of its own once it is ready; elsewhere the descriptor of one passes. */
static void
attach(struct guest *g)
{
	struct err e = { 0 };
	int pair[2];

	if (g->tier.tier != NULL && g->tier.tier->link != NULL) {
		while (!g->is_ready)
			guest_wait(g);
		pair[0] = g->tier.tier->link(&g->tier, ROLE_RUNTIME, &e);
		if (pair[0] < 0)
			fatal("bench: %s", e.msg);
	} else {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
			fatal("bench: no socket pair");
		json_kv_z(wire_begin(g->runner, WIRE_PEER, 0), "role", "runtime");
		if (wire_end(g->runner, STR(""), pair[1]) != 0)
			fatal("bench: peer");
		close(pair[1]);
	}
	sandbox_attach(g->sb, pair[0]);
	while (!sandbox_is_up(g->sb))
		guest_wait(g);
}

struct cell_plan
guest_plan(const struct guest *g, const char *name)
{
	struct cell_plan p = g->plan;

	p.state = xasprintf("%s/state_root/%s", g->dir, name);
	return p;
}

void
guest_open(struct guest *g, const char *program, const char *dir, const char *tier)
{
	const struct tier *t = tier_find(tier != NULL ? tier : "");
	struct err e = { 0 };

	if (tier != NULL && t == NULL)
		fatal("bench: there is no tier %s", tier);
	*g = (struct guest){ .dir = dir };
	if (loop_open(&g->l, &e) != 0)
		fatal("bench: %s", e.msg);
	g->plan = (struct cell_plan){ .access = CELL_WORKSPACE_WRITE,
		.shared = below(g, "shared"),
		.memory_bytes = 512 * MIB,
		.processes = 256,
		.cpu_percent = 400,
		.file_bytes = 64 * MIB,
		.tmp_bytes = 64 * MIB };
	if (mkdir(g->plan.shared, 0700) != 0)
		fatal("bench: %s cannot be made", g->plan.shared);
	g->plan = guest_plan(g, "warm");
	g->sb = sandbox_new(g->l, on_state, g);
	if (t == NULL)
		start_child(g, program);
	else
		start_tier(g, program, t);
	attach(g);
}

void
guest_close(struct guest *g)
{
	g->is_stopping = true;
	if (g->runner != NULL) {
		wire_begin(g->runner, WIRE_STOP, 0);
		if (wire_end(g->runner, STR(""), -1) == 0)
			guest_wait(g);
	}
	sandbox_free(g->sb);
	wire_close(g->runner);
	if (g->tier.tier != NULL)
		g->tier.tier->stop(&g->tier);
	loop_close(g->l);
}
