/* SPDX-License-Identifier: MIT
 * A role in a tier above the cell, shelld in its sidecar or the runtime: started on a worker thread, because engines take seconds, and told about on the loop.
 * Invariant: between the order to start and its answer nothing else happens to it; a start that nobody wants any more is
 * undone by the same thread that did it. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/tier.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct guest {
	struct runner *r;
	enum role role;
	guest_fn fn;
	void *arg;
	const struct tier *tier;
	struct arena *a; /* the texts of spec */
	struct tier_spec spec;
	struct tier_run run, old; /* old: of the start before */
	struct tier_reason why;
	int link, rc;
	bool is_busy;
	int links; /* under way */
	struct watch *ends[2]; /* of processes that it does not outlive */
	int pidfds[2];
	atomic_bool is_cancelled;
};

struct guest *
guest_new(struct runner *r, enum role role, guest_fn fn, void *arg)
{
	struct guest *g = xcalloc(1, sizeof *g);

	*g = (struct guest){ .r = r, .role = role, .fn = fn, .arg = arg, .link = -1, .pidfds = { -1, -1 } };
	return g;
}

static bool
is_cancelled(void *arg)
{
	return atomic_load(&((struct guest *)arg)->is_cancelled);
}

/* ---- what it is to see ---- */

static bool
is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The real path of a directory that is there and not in another one already; never the whole system. */
static void
add_mount(struct guest *g, const char *path)
{
	struct tier_spec *s = &g->spec;
	AUTO_FREE char *real = realpath(path, NULL);

	if (real == NULL || strcmp(real, "/") == 0 || s->mounts_n == TIER_MOUNTS_MAX) {
		log_warn("a directory is not shown to the sidecar", LOG_S("path", path),
			LOG_S("why", real == NULL ? "it is not there" : real[1] == '\0' ? "it is the whole system" : "there are too many"));
		return;
	}
	for (size_t i = 0; i < s->mounts_n; i++)
		if (is_within(real, s->mounts[i]))
			return;
	s->mounts[s->mounts_n++] = arena_strdup(g->a, str_of(real));
}

/* The directory of a store that the configuration puts outside of state/; NULL: it is there. */
static const char *
store_outside(struct guest *g)
{
	const char *url = config_z(g->r->settings.config, "store.url"), *path;
	char *slash;

	if (strncmp(url, "sqlite:", 7) != 0)
		return NULL;
	path = path_clean(g->a, path_join(g->a, g->r->home, url + 7));
	slash = strrchr(path, '/');
	*slash = '\0';
	return is_within(path, g->spec.runtime.state) ? NULL : path;
}

/* The sidecar has just asked the engine what it is. */
static const struct oci *
known_engine(struct guest *g)
{
	for (size_t i = 0; i < PROCESSES; i++) {
		const struct process *p = &g->r->processes[i];

		if (p->role == ROLE_SHELLD && p->guest != NULL && p->guest->run.tier == &tier_container)
			return memcpy(arena_alloc(g->a, sizeof(struct oci)), &p->guest->run.oci, sizeof(struct oci));
	}
	return NULL;
}

static void
fill_runtime(struct guest *g)
{
	AUTO_FREE char *program = program_path(g->r->bin_dir, "ithacad");
	struct tier_spec *s = &g->spec;

	s->runtime.program = arena_strdup(g->a, str_of(program));
	s->runtime.state = arena_printf(g->a, "%s/state", g->r->home);
	s->runtime.store = store_outside(g);
	s->run_dir = arena_printf(g->a, "%s/run/runtime", g->r->home);
	s->container.engine = known_engine(g);
	s->memory_bytes = RUNTIME_MEMORY_MAX;
	s->processes = RUNTIME_TASKS_MAX;
}

/* What its cells may work in. */
static void
fill_sidecar(struct guest *g, const struct node *more)
{
	AUTO_FREE char *workspaces = below_home(g->r->home, config_z(g->r->settings.config, "workspace_root"));
	AUTO_FREE char *cwd = realpath(".", NULL);
	struct err e;

	g->spec.run_dir = arena_printf(g->a, "%s/run/guest", g->r->home);
	if (path_mkdirs(workspaces, 0700, &e) == 0)
		add_mount(g, workspaces);
	if (cwd != NULL && strcmp(cwd, "/") != 0)
		add_mount(g, cwd);
	for (size_t i = 0; i < node_len(more); i++)
		add_mount(g, node_at(more, i)->s.p);
}

static void
fill_spec(struct guest *g)
{
	const struct config *c = g->r->settings.config;
	bool is_machine = g->tier == &tier_microvm;
	AUTO_FREE char *guest = program_path(g->r->bin_dir, "ithaca-guest");

	g->a = arena_new(4 * MIB);
	g->spec = (struct tier_spec){ .home = g->r->home, .guest = arena_strdup(g->a, str_of(guest)),
		.spool_dir = arena_printf(g->a, "%s/state/spool", g->r->home), .state_root = arena_printf(g->a, "%s/state/cells", g->r->home),
		.memory_bytes = config_int(c, is_machine ? "microvm.memory_mb" : "container.memory_mb") * (int64_t)MIB,
		.processes = config_int(c, "container.processes"), .cpu_percent = config_int(c, "container.cpu_percent"),
		.is_cancelled = is_cancelled, .arg = g };
	g->spec.microvm.qemu = arena_strdup(g->a, str_of(config_z(c, "microvm.qemu")));
	g->spec.microvm.virtiofsd = arena_strdup(g->a, str_of(config_z(c, "microvm.virtiofsd")));
	g->spec.microvm.kernel = arena_strdup(g->a, str_of(config_z(c, "microvm.kernel")));
	if (config_bool(c, "microvm.keep_booted"))
		g->spec.microvm.saved = arena_printf(g->a, "%s/state/machine", g->r->home);
	g->spec.microvm.verdict = arena_printf(g->a, "%s/state/machine.kvm", g->r->home); /* known to cli/cmd_tiers.c */
	g->spec.microvm.allow_emulation = config_bool(c, "microvm.allow_emulation");
	g->spec.container.socket = arena_strdup(g->a, str_of(config_z(c, "container.socket")));
	g->spec.container.image = arena_strdup(g->a, str_of(config_z(c, "container.image")));
	if (g->role == ROLE_RUNTIME)
		fill_runtime(g);
	else
		fill_sidecar(g, config_get(c, is_machine ? "microvm.mounts" : "container.mounts"));
}

/* ---- its processes ---- */

static void
unwatch(struct guest *g)
{
	for (size_t i = 0; i < ARRAY_LEN(g->ends); i++) {
		watch_close(take_ptr(&g->ends[i]));
		if (g->pidfds[i] >= 0)
			close(g->pidfds[i]);
		g->pidfds[i] = -1;
	}
}

static void
end_run(struct guest *g)
{
	unwatch(g);
	if (g->run.tier != NULL)
		g->run.tier->stop(&g->run);
}

/* A machine without its directories would wait for them for ever; its link tells when it is gone. */
static void
on_process_end(void *arg, int events)
{
	end_run(arg);
}

static void
watch_processes(struct guest *g)
{
	const pid_t pids[ARRAY_LEN(g->ends)] = { g->run.machine, g->run.share };

	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		g->pidfds[i] = pids[i] > 0 ? (int)syscall(SYS_pidfd_open, pids[i], 0) : -1;
		if (g->pidfds[i] >= 0)
			g->ends[i] = watch_start(g->r->loop, g->pidfds[i], LOOP_READ, on_process_end, g);
	}
}

/* Bounded and put aside by size, as what every role says. */
static void
take_logs(struct guest *g)
{
	for (size_t i = 0; i < g->run.logs_n; i++)
		outputs_take(g->r->outputs, g->role, g->run.logs[i].stream, g->run.logs[i].fd);
	g->run.logs_n = 0;
}

/* ---- the start ---- */

static void
on_worker(void *arg)
{
	struct guest *g = arg;

	if (g->old.tier != NULL) /* what of it is left ends first */
		g->old.tier->stop(&g->old);
	g->rc = g->tier->start(&g->spec, &g->run, &g->link, &g->why);
	if (g->rc == 0 && is_cancelled(g)) {
		close(g->link);
		g->link = -1;
		g->tier->stop(&g->run);
		g->rc = tier_refuse(&g->why, "cancelled", ERR_CANCELLED, "the start was given up");
	}
}

static void
on_done(void *arg)
{
	struct guest *g = arg;
	int link = g->link;

	g->is_busy = false;
	g->link = -1;
	arena_free(g->a);
	g->a = NULL;
	if (g->rc == 0) {
		watch_processes(g);
		take_logs(g);
	}
	g->fn(g->arg, link, g->rc == 0 ? NULL : &g->why.e);
}

void
guest_start(struct guest *g, const char *tier)
{
	unwatch(g);
	g->old = g->run;
	g->run.tier = NULL;
	g->tier = tier_find(tier);
	g->is_busy = true;
	atomic_store(&g->is_cancelled, false);
	fill_spec(g);
	loop_work(g->r->loop, on_worker, on_done, g);
}

/* ---- a link of another role, where descriptors do not pass ---- */

struct link_work {
	struct guest *g;
	enum role who;
	guest_link_fn fn;
	void *arg;
	struct tier_run run; /* as it was: the machine may be gone meanwhile, and then its sockets do not answer */
	int fd;
	struct err e;
};

static void
on_link_worker(void *arg)
{
	struct link_work *w = arg;

	w->fd = w->run.tier->link(&w->run, w->who, &w->e);
}

static void
on_link_done(void *arg)
{
	struct link_work *w = arg;

	w->g->links--;
	w->fn(w->arg, w->who, w->fd, w->fd < 0 ? &w->e : NULL);
	explicit_bzero(&w->run, sizeof w->run);
	free(w);
}

bool
guest_needs_link(const struct guest *g)
{
	return g != NULL && g->run.tier != NULL && g->run.tier->link != NULL;
}

void
guest_link(struct guest *g, enum role who, guest_link_fn fn, void *arg)
{
	struct link_work *w = xcalloc(1, sizeof *w);

	*w = (struct link_work){ .g = g, .who = who, .fn = fn, .arg = arg, .run = g->run, .fd = -1 };
	g->links++;
	loop_work(g->r->loop, on_link_worker, on_link_done, w);
}

const char *
guest_container(const struct guest *g)
{
	return g != NULL && g->run.tier != NULL ? g->run.name : "";
}

bool
guest_is_busy(const struct guest *g)
{
	return g != NULL && (g->is_busy || g->links > 0);
}

void
guest_cancel(struct guest *g)
{
	if (g != NULL)
		atomic_store(&g->is_cancelled, true);
}

void
guest_free(struct guest *g)
{
	if (g == NULL)
		return;
	end_run(g);
	free(g);
}
