/* SPDX-License-Identifier: MIT
 * The numbered checks of `ithaca doctor`: each row finds out one thing that can be wrong with an installation and says
 * how to repair it. Numbers stay the same between versions. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/path.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <stdio.h>

#define DISK_FREE_WARN (512ull * MIB)
#define DISK_FREE_FAIL (32ull * MIB)

enum outcome { PASS, WARN, FAIL, SKIP };
static const char *const outcome_names[] = { "pass", "warn", "fail", "skip" };

struct finding {
	enum outcome outcome;
	char text[640];
	char fix[400];
};

typedef void (*check_fn)(struct request *q, struct finding *f);

#define SHELLD_WAIT_MS 5000 /* for one that is only just starting */
#define SHELLD_LOOK_MS 20

/* What takes time and ends before the checks are written: the look through the store, then the self-test of cells. */
struct self_test {
	struct self_test *next; /* of the gateway, while wait runs */
	struct request *q;
	struct err store; /* what is wrong with it */
	struct timer *wait;
	int64_t until_ms;
	struct err e; /* it could not be tried, and why */
	size_t walls, broken;
	char names[300]; /* of the walls that hold; or what the others promise */
};

static void
find(struct finding *f, enum outcome o, const char *text, const char *fix)
{
	f->outcome = o;
	snprintf(f->text, sizeof f->text, "%s", text);
	snprintf(f->fix, sizeof f->fix, "%s", fix);
}

static void
check_config(struct request *q, struct finding *f)
{
	const char *file = q->g->parts.config_file;

	snprintf(f->text, sizeof f->text, "%s", file != NULL ? file : "no file: defaults, environment and flags");
}

static void
check_home(struct request *q, struct finding *f)
{
	mode_t mode;

	if (hostfiles_look(q->g->parts.files, q->g->parts.home, true, &mode, NULL) != 0) {
		find(f, FAIL, "the home directory cannot be read", "check ITHACA_HOME");
	} else if ((mode & 077) != 0) {
		snprintf(f->text, sizeof f->text, "%s is open to others (mode %o)", q->g->parts.home, mode & 07777);
		snprintf(f->fix, sizeof f->fix, "chmod 700 %s", q->g->parts.home);
		f->outcome = WARN;
	} else {
		snprintf(f->text, sizeof f->text, "%s is private", q->g->parts.home);
	}
}

static void
check_store(struct request *q, struct finding *f)
{
	const struct self_test *t = q->own;

	if (t->store.code != 0)
		find(f, FAIL, t->store.msg, "stop Ithaca and restore state/ithaca.db from a backup");
	else
		snprintf(f->text, sizeof f->text, "integrity check passed, schema version %d", store_schema_version());
}

static void
check_disk(struct request *q, struct finding *f)
{
	const char *state = path_join(q->a, q->g->parts.home, "state"); /* which grows, and is there also in a container */
	struct statvfs v;
	uint64_t free_bytes;

	if (statvfs(state, &v) != 0) {
		find(f, FAIL, strerror(errno), "check the file system of ITHACA_HOME");
		return;
	}
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	f->outcome = free_bytes < DISK_FREE_FAIL ? FAIL : free_bytes < DISK_FREE_WARN ? WARN : PASS;
	snprintf(f->text, sizeof f->text, "%llu MiB free for %s", (unsigned long long)(free_bytes / MIB), q->g->parts.home);
	if (f->outcome != PASS)
		snprintf(f->fix, sizeof f->fix, "make room on the file system of %s", q->g->parts.home);
}

static void
check_cell(struct request *q, struct finding *f)
{
	const struct sandbox_facts *s = sandbox_facts(q->g->parts.sandbox);
	const struct self_test *t = q->own;
	char text[400];

	if (s->files_only && s->level == CELL_NONE) {
		snprintf(text, sizeof text, "tier process: no cells, and file tools are withdrawn: %s", s->reason);
		find(f, FAIL, text, "use tier: cell");
	} else if (s->files_only) {
		find(f, WARN, "tier process: no cells; commands are not offered, and file tools are confined by Landlock alone",
			"use tier: cell");
	} else if (t->e.code != 0) {
		find(f, FAIL, t->e.msg, t->e.code == ERR_GONE ? "see logs/shelld.log" :
			"do what it says, then restart; tools that need a cell are withdrawn until then");
	} else if (s->level == CELL_BASIC) {
		snprintf(text, sizeof text, "cell-basic (Landlock and seccomp only), tried in a cell made just now; it lacks: %s",
			t->names);
		find(f, WARN, text, s->reason);
	} else if (t->broken > 0) {
		snprintf(text, sizeof text, "in a cell made just now %zu of %zu walls do not hold: %s", t->broken, t->walls, t->names);
		find(f, FAIL, text, "run nothing untrusted here, and report this with what `uname -a` says");
	} else {
		snprintf(text, sizeof text, "full, tried in a cell made just now: %zu of %zu walls hold (%s)", t->walls, t->walls,
			t->names);
		find(f, PASS, text, "");
	}
}

static void
check_landlock(struct request *q, struct finding *f)
{
	/* Rights by ABI, from the kernel's documentation: what is missing below the newest one we use. ABI 1 denies renames
	 * across directories, which git and compilers need, so it is left out. */
	static const char *const missing[] = {
		"all of it (kernel older than 5.13, or not enabled)", "all of it (not used: only Linux 5.19 can allow renames across directories)",
		"truncate, network, devices, scopes", "network, devices, scopes", "devices, scopes", "scopes", "nothing",
	};
	int abi = sandbox_facts(q->g->parts.sandbox)->landlock_abi;
	char text[300];

	snprintf(text, sizeof text, "ABI %d; missing rights: %s", abi, missing[MIN(abi, 6)]);
	find(f, PASS, text, "");
	if (abi < 2)
		find(f, WARN, text, "boot with lsm=landlock,... or a newer kernel; namespaces and seccomp still hold");
}

static void
check_limits(struct request *q, struct finding *f)
{
	const struct sandbox_facts *s = sandbox_facts(q->g->parts.sandbox);
	char text[200];

	switch (s->files_only ? LIMITS_NONE : s->limits) {
	case LIMITS_CGROUP:
		snprintf(text, sizeof text, "memory, processes and processor time of cells are limited by cgroup v%d", s->cgroup_version);
		find(f, PASS, text, "");
		break;
	case LIMITS_SOFT:
		find(f, WARN, "limits: soft (rlimits per process; a watchdog looks at a cell's memory and processes every 250 ms)",
			"systemd-run --user --scope -p Delegate=yes ithaca ...");
		break;
	default:
		find(f, SKIP, "no cells, so nothing to limit", "");
	}
}

/* What a container or a machine adds around all cells. */
static void
check_tier(struct request *q, struct finding *f)
{
	const struct sandbox_facts *s = sandbox_facts(q->g->parts.sandbox);
	char text[sizeof f->text];

	if (!sandbox_is_up(q->g->parts.sandbox)) {
		find(f, FAIL, "shelld is not running", "see logs/shelld.log");
	} else if (s->files_only) {
		find(f, SKIP, "process: nothing is around file tools", "");
	} else if (strcmp(s->tier, "cell") == 0) {
		find(f, SKIP, "cell: nothing is around the cells, they are processes of this host", "");
	} else {
		bool is_whole = s->around_lacks[0] == '\0';

		snprintf(text, sizeof text, "%s, around all cells: %s%s%s", s->tier, s->around, is_whole ? "" : "; missing: ",
			s->around_lacks);
		find(f, is_whole ? PASS : WARN, text, is_whole ? "" : "use an engine that can do it (without root: a system with "
			"cgroup v2), or another tier");
	}
}

/* In a container of its own, where the tier has one for it: as it is found from inside. */
static void
check_runtime(struct request *q, struct finding *f)
{
	struct sandbox_facts own = { .tier = "container" };
	char text[sizeof f->text];

	if (q->g->parts.files == NULL) {
		find(f, SKIP, "a process of this host", "");
		return;
	}
	around_find(&own);
	snprintf(text, sizeof text, "in a container of its own: %s%s%s", own.around, own.around_lacks[0] == '\0' ? "" : "; missing: ",
		own.around_lacks);
	find(f, own.around_lacks[0] == '\0' ? PASS : WARN, text, own.around_lacks[0] == '\0' ? "" :
		"use an engine that can do it (without root: a system with cgroup v2)");
}

static void
check_broker(struct request *q, struct finding *f)
{
	if (broker_is_up(q->g->parts.broker))
		find(f, PASS, "the broker is up", "");
	else
		find(f, FAIL, "the broker is not running", "see logs/broker.log");
}

static void
check_model(struct request *q, struct finding *f)
{
	const char *name = config_z(q->g->parts.config, "model");
	struct model_info m;
	struct err e = { 0 };

	if (model_resolve(q->g->parts.config, str_of(name), q->a, &m, &e) != 0)
		find(f, FAIL, e.msg, "set `model` in the configuration");
	else if (m.api->build == NULL)
		snprintf(f->text, sizeof f->text, "%s: the offline model; set `model` and a key to use a real one", name);
	else if (model_notice(&m, q->a) != NULL)
		find(f, WARN, model_notice(&m, q->a), "`ithaca catalog fetch`, or set what is known below catalog.models");
	else
		snprintf(f->text, sizeof f->text, "%s over %s", name, m.api->name);
}

static void
each_breaker(void *arg, const char *provider, const char *state, int64_t wait_ms)
{
	struct finding *f = arg;

	f->outcome = WARN;
	snprintf(f->text, sizeof f->text, "%s failed several times in a row: its breaker is %s, next call in %lld ms", provider,
		state, (long long)wait_ms);
	snprintf(f->fix, sizeof f->fix, "check providers.%s.base_url and the server, or set models.fallback", provider);
}

static void
check_providers(struct request *q, struct finding *f)
{
	find(f, PASS, "no provider is left out for failing", "");
	engine_each_breaker(q->g->parts.engine, each_breaker, f);
}

/* Every model that a turn may come to must be one. */
static void
check_fallback(struct request *q, struct finding *f)
{
	const struct node *list = config_get(q->g->parts.config, "models.fallback");
	struct model_info m;
	struct err e = { 0 };

	snprintf(f->text, sizeof f->text, "%zu fallback models", node_len(list));
	for (size_t i = 0; i < node_len(list) && f->outcome == PASS; i++)
		if (model_resolve(q->g->parts.config, node_at(list, i)->s, q->a, &m, &e) != 0)
			find(f, FAIL, e.msg, "correct models.fallback");
}

static void
check_catalog(struct request *q, struct finding *f)
{
	const struct catalog *fetched = config_attached(q->g->parts.config);
	struct catalog_facts facts;
	struct err e = { 0 };

	catalog_facts(fetched, &facts);
	if (gateway_check_catalog(q->g->parts.home, &e) != 0)
		find(f, WARN, e.msg, "ithaca catalog fetch, or remove the file; the snapshot of " CATALOG_DATE " is used");
	else if (fetched == NULL)
		snprintf(f->text, sizeof f->text, "snapshot of " CATALOG_DATE ", %zu models", facts.models);
	else
		snprintf(f->text, sizeof f->text, "fetched %.10s, %zu models, over the snapshot of " CATALOG_DATE,
			facts.fetched_at != NULL ? facts.fetched_at : "now", facts.models);
}

static void
each_reserved(void *arg, const char *dotted, const struct node *value, struct config_origin origin)
{
	struct finding *f = arg;
	size_t n = strlen(f->text);

	if (origin.layer == LAYER_DEFAULT || !config_is_reserved(str_of(dotted)))
		return;
	f->outcome = WARN;
	snprintf(f->text + n, sizeof f->text - n, "%s%s", n > 0 ? ", " : "", dotted);
}

static void
check_reserved(struct request *q, struct finding *f)
{
	config_each(q->g->parts.config, each_reserved, f);
	if (f->outcome == PASS)
		find(f, PASS, "every key that is set is in use", "");
	else
		snprintf(f->fix, sizeof f->fix, "nothing in this version reads these keys; take them out or leave them for later");
}

static void
check_keys(struct request *q, struct finding *f)
{
	f->outcome = secrets_check(q, f->text, sizeof f->text, f->fix, sizeof f->fix) ? PASS : WARN;
}

static const struct check {
	int n;
	const char *name;
	check_fn run;
} checks[] = {
	{ 1, "configuration", check_config },
	{ 2, "home", check_home },
	{ 3, "store", check_store },
	{ 4, "disk", check_disk },
	{ 5, "cell", check_cell },
	{ 6, "landlock", check_landlock },
	{ 7, "cell limits", check_limits },
	{ 8, "broker", check_broker },
	{ 9, "model", check_model },
	{ 10, "unused keys", check_reserved },
	{ 11, "keys", check_keys },
	{ 12, "fallback models", check_fallback },
	{ 13, "providers", check_providers },
	{ 14, "model catalog", check_catalog },
	{ 15, "tier", check_tier },
	{ 16, "runtime", check_runtime },
};

static void
write_checks(struct request *q)
{
	struct json *j = reply_begin(q);

	json_kv_arr(j, "checks");
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct finding f = { 0 };

		checks[i].run(q, &f);
		json_obj(j);
		json_kv_int(j, "n", checks[i].n);
		json_kv_z(j, "name", checks[i].name);
		json_kv_z(j, "ok", outcome_names[f.outcome]);
		json_kv_z(j, "text", f.text);
		if (f.fix[0] != '\0')
			json_kv_z(j, "fix", f.fix);
		json_obj_end(j);
	}
	json_arr_end(j);
	reply_end(q);
}

static void self_test_try(void *arg);

static void
self_test_wait(struct request *q, int64_t ms)
{
	struct self_test *t = q->own;

	t->wait = timer_start(q->g->parts.loop, ms, self_test_try, q);
	t->next = q->g->self_tests;
	q->g->self_tests = t;
}

static void
self_test_waited(struct self_test *t)
{
	struct self_test **at = &t->q->g->self_tests;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	timer_close(t->wait);
}

void
self_tests_close(struct gateway *g)
{
	struct err e;

	err_set(&e, ERR_GONE, ERR_TO_USER, "the runtime is ending");
	while (g->self_tests != NULL) {
		struct request *q = g->self_tests->q;

		self_test_waited(g->self_tests);
		reply_error(q, &e);
	}
}

static void
on_self_test(void *arg, const struct sandbox_check_row *rows, size_t n, const struct err *e)
{
	struct request *q = arg;
	struct self_test *t = q->own;
	size_t at = 0;

	if (e != NULL && e->code == ERR_GONE && clock_mono_ms() < t->until_ms) { /* shelld is started again, as for tier auto */
		self_test_wait(q, SHELLD_LOOK_MS);
		return;
	}
	if (e != NULL)
		t->e = *e;
	t->walls = n;
	for (size_t i = 0; i < n; i++)
		t->broken += !rows[i].holds;
	for (size_t i = 0; i < n && at < sizeof t->names; i++)
		if (t->broken == 0 || !rows[i].holds)
			at += (size_t)snprintf(t->names + at, sizeof t->names - at, "%s%s", at > 0 ? ", " : "",
				t->broken == 0 ? rows[i].name : rows[i].text);
	write_checks(q);
}

/* In the user's own workspace, with the limits of a session, under a key and in a state directory of its own. */
static int
self_test_start(struct request *q, struct err *e)
{
	const struct config *c = q->g->parts.config;
	struct session_spec spec;
	int rc = session_spec_of(q, &spec, e);
	struct cell_plan plan;

	if (rc != 0)
		return rc;
	plan = tool_plan(c, spec.mode == MODE_READ_ONLY ? MODE_READ_ONLY : MODE_WORKSPACE_WRITE);
	plan.shared = arena_strdup(q->a, spec.workspace);
	plan.state = arena_printf(q->a, "%s/state/cells/doctor-%s", q->g->parts.home, id_new().z);
	struct check_spec check = { .plan = &plan, .program = q->g->parts.guest, .dir = path_join(q->a, q->g->parts.home, "state"),
		.socket = path_join(q->a, q->g->parts.home, "run/rpc.sock") };
	return sandbox_check(q->g->parts.sandbox, &check, on_self_test, q, e);
}

static void
self_test_try(void *arg)
{
	struct request *q = arg;
	struct self_test *t = q->own;

	if (!sandbox_is_up(q->g->parts.sandbox) && clock_mono_ms() < t->until_ms) {
		timer_again(t->wait, SHELLD_LOOK_MS);
		return;
	}
	self_test_waited(t);
	if (self_test_start(q, &t->e) != 0)
		write_checks(q);
}

static void
on_store(void *arg, const struct err *e)
{
	struct request *q = arg;
	struct self_test *t = q->own;

	err_copy(&t->store, e);
	t->until_ms = clock_mono_ms() + SHELLD_WAIT_MS;
	self_test_wait(q, 0);
}

void
handle_doctor_run(struct request *q)
{
	struct self_test *t = arena_alloc(q->a, sizeof *t);

	*t = (struct self_test){ .q = q };
	q->own = t;
	store_verify(q->g->parts.store, on_store, q);
}
