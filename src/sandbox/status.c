/* SPDX-License-Identifier: MIT
 * The words that both ends of the link use for plans, states and facts: one table each, written and read here only. */
#include "base/utf8.h"
#include "sandbox/internal.h"

static const char *const state_names[] = {
	[EXEC_DONE] = "done",
	[EXEC_RUNNING] = "running",
	[EXEC_NOT_BEGUN] = "not_begun",
	[EXEC_UNKNOWN] = "unknown",
};
static const char *const access_names[] = {
	[CELL_READ_ONLY] = "read_only",
	[CELL_WORKSPACE_WRITE] = "workspace_write",
	[CELL_HOST] = "danger_full_access",
};
static const char *const level_names[] = { [CELL_NONE] = "none", [CELL_BASIC] = "basic", [CELL_FULL] = "full" };
static const char *const limit_names[] = { [LIMITS_NONE] = "none", [LIMITS_SOFT] = "soft", [LIMITS_CGROUP] = "cgroup" };

static int
find(const char *const *names, size_t n, struct str s)
{
	for (size_t i = 0; i < n; i++) {
		if (str_is(s, names[i]))
			return (int)i;
	}
	return -1;
}

static const struct {
	int number;
	const char *name;
} signal_names[] = {
	{ SIGHUP, "HUP" }, { SIGINT, "INT" }, { SIGQUIT, "QUIT" }, { SIGTERM, "TERM" }, { SIGKILL, "KILL" },
	{ SIGUSR1, "USR1" }, { SIGUSR2, "USR2" }, { SIGSTOP, "STOP" }, { SIGTSTP, "TSTP" }, { SIGCONT, "CONT" },
};

const char *
exec_signal_name(int signal)
{
	for (size_t i = 0; i < ARRAY_LEN(signal_names); i++) {
		if (signal_names[i].number == signal)
			return signal_names[i].name;
	}
	return NULL;
}

int
exec_signal_parse(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(signal_names); i++) {
		if (str_is(name, signal_names[i].name))
			return signal_names[i].number;
	}
	return 0;
}

int
access_parse(struct str s)
{
	return find(access_names, ARRAY_LEN(access_names), s);
}

const char *
access_name(enum cell_access access)
{
	return access_names[access];
}

const char *
level_name(enum cell_level level)
{
	return level_names[level];
}

int
sandbox_tier_rank(const char *tier)
{
	static const char *const names[] = { "process", "cell", "container", "microvm" };

	if (strcmp(tier, "micro_vm") == 0)
		return ARRAY_LEN(names) - 1;
	return MAX(find(names, ARRAY_LEN(names), str_of(tier)), strcmp(tier, "process") == 0 ? 0 : 1);
}

void
status_write(struct json *j, const struct exec_status *st)
{
	json_kv_z(j, "state", state_names[st->state]);
	json_kv_int(j, "exit", st->exit_code);
	json_kv_int(j, "signal", st->signal);
	json_kv_bool(j, "timed_out", st->timed_out);
	json_kv_bool(j, "killed", st->killed);
	json_kv_bool(j, "out_of_memory", st->out_of_memory);
	json_kv_bool(j, "out_of_processes", st->out_of_processes);
	json_kv_bool(j, "out_of_disk", st->out_of_disk);
	json_kv_int(j, "ms", st->duration_ms);
	json_kv_int(j, "output_bytes", st->output_bytes);
	json_kv_int(j, "kept_bytes", st->kept_bytes);
	json_kv_bool(j, "out_of_cpu", st->out_of_cpu);
	if (st->cwd[0] != '\0')
		json_kv_z(j, "cwd", st->cwd);
	if (st->shell_ended)
		json_kv_bool(j, "shell_ended", true);
	if (st->has_outbox)
		json_kv_bool(j, "outbox", true);
	if (!st->has_use)
		return;
	json_kv_int(j, "user_ms", st->user_ms);
	json_kv_int(j, "system_ms", st->system_ms);
	json_kv_int(j, "memory_bytes", st->memory_bytes);
	json_kv_int(j, "written_bytes", st->written_bytes);
}

int
exec_status_read(const struct node *n, struct exec_status *st)
{
	int state = find(state_names, ARRAY_LEN(state_names), node_str(n, "state", STR("")));
	if (state < 0)
		return -1;
	*st = (struct exec_status){
		.state = (enum exec_state)state,
		.exit_code = (int)node_int(n, "exit", 0),
		.signal = (int)node_int(n, "signal", 0),
		.timed_out = node_bool(n, "timed_out", false),
		.killed = node_bool(n, "killed", false),
		.out_of_memory = node_bool(n, "out_of_memory", false),
		.out_of_processes = node_bool(n, "out_of_processes", false),
		.out_of_disk = node_bool(n, "out_of_disk", false),
		.duration_ms = node_int(n, "ms", 0),
		.output_bytes = node_int(n, "output_bytes", 0),
		.kept_bytes = node_int(n, "kept_bytes", 0),
		.out_of_cpu = node_bool(n, "out_of_cpu", false),
		.shell_ended = node_bool(n, "shell_ended", false),
		.has_outbox = node_bool(n, "outbox", false),
		.has_use = node_get(n, "user_ms") != NULL,
		.user_ms = node_int(n, "user_ms", 0),
		.system_ms = node_int(n, "system_ms", 0),
		.memory_bytes = node_int(n, "memory_bytes", 0),
		.written_bytes = node_int(n, "written_bytes", 0),
	};
	struct str cwd = node_str(n, "cwd", STR(""));
	if (cwd.n < sizeof(st->cwd))
		memcpy(st->cwd, cwd.p, cwd.n);
	return 0;
}

void
facts_write(struct json *j, const struct sandbox_facts *f)
{
	json_kv_z(j, "level", level_names[f->level]);
	json_kv_z(j, "limits", limit_names[f->limits]);
	json_kv_int(j, "landlock_abi", f->landlock_abi);
	json_kv_int(j, "cgroup_version", f->cgroup_version);
	json_kv_bool(j, "files_only", f->files_only);
	json_kv_z(j, "reason", f->reason);
	json_kv_z(j, "tier", f->tier);
	json_kv_z(j, "around", f->around);
	json_kv_z(j, "around_lacks", f->around_lacks);
}

int
facts_read(const struct node *n, struct sandbox_facts *f)
{
	int level = find(level_names, ARRAY_LEN(level_names), node_str(n, "level", STR("")));
	int limits = find(limit_names, ARRAY_LEN(limit_names), node_str(n, "limits", STR("")));
	if (level < 0 || limits < 0)
		return -1;
	*f = (struct sandbox_facts){ .level = (enum cell_level)level, .limits = (enum limit_level)limits,
		.landlock_abi = (int)node_int(n, "landlock_abi", 0),
		.cgroup_version = (int)node_int(n, "cgroup_version", 0), .files_only = node_bool(n, "files_only", false) };
	utf8_copy(f->reason, sizeof(f->reason), node_str(n, "reason", STR("")));
	utf8_copy(f->tier, sizeof(f->tier), node_str(n, "tier", STR("cell")));
	utf8_copy(f->around, sizeof(f->around), node_str(n, "around", STR("")));
	utf8_copy(f->around_lacks, sizeof(f->around_lacks), node_str(n, "around_lacks", STR("")));
	return 0;
}

void
plan_write(struct json *j, const struct cell_plan *p)
{
	json_obj(j);
	json_kv_z(j, "access", access_names[p->access]);
	json_kv_z(j, "shared", p->shared);
	if (p->scratch != NULL)
		json_kv_z(j, "scratch", p->scratch);
	if (p->app != NULL)
		json_kv_z(j, "app", p->app);
	json_kv_z(j, "state", p->state);
	json_kv_int(j, "memory_bytes", p->memory_bytes);
	json_kv_int(j, "processes", p->processes);
	json_kv_int(j, "cpu_percent", p->cpu_percent);
	json_kv_int(j, "file_bytes", p->file_bytes);
	json_kv_int(j, "tmp_bytes", p->tmp_bytes);
	json_kv_int(j, "disk_bytes", p->disk_bytes);
	json_kv_int(j, "cpu_ms", p->cpu_ms);
	json_kv_int(j, "open_files", p->open_files);
	json_kv_bool(j, "require_limits", p->require_limits);
	json_kv_bool(j, "allow_basic", p->allow_basic);
	json_kv_bool(j, "has_proxy", p->has_proxy);
	json_obj_end(j);
}

static int
plan_path(const struct node *n, const char *key, bool is_required, const char **out, struct err *e)
{
	struct str s = node_str(n, key, STR(""));
	if (s.n == 0 && !is_required) {
		*out = NULL;
		return 0;
	}
	if (s.n == 0 || s.p[0] != '/' || s.n > PLAN_PATH_MAX || memchr(s.p, '\0', s.n) != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "cell plan: %s must be an absolute path of at most %u bytes", key,
			PLAN_PATH_MAX);
	*out = s.p;
	return 0;
}

int
plan_read(const struct node *n, struct cell_plan *p, struct err *e)
{
	struct cell_plan got = { 0 };
	int access = access_parse(node_str(n, "access", STR("")));
	const struct {
		const char *key;
		int64_t *to, min;
	} numbers[] = {
		{ "memory_bytes", &got.memory_bytes, 1 }, { "processes", &got.processes, 1 },
		{ "cpu_percent", &got.cpu_percent, 1 }, { "file_bytes", &got.file_bytes, 1 },
		{ "tmp_bytes", &got.tmp_bytes, 4096 }, { "disk_bytes", &got.disk_bytes, 0 },
		{ "cpu_ms", &got.cpu_ms, 0 },
		{ "open_files", &got.open_files, 0 },
	};

	if (access < 0)
		return err_set(e, ERR_INVALID, ERR_TO_LOG,
			"cell plan: access must be read_only, workspace_write or danger_full_access");
	got.access = (enum cell_access)access;
	if (plan_path(n, "shared", true, &got.shared, e) != 0 || plan_path(n, "state", true, &got.state, e) != 0 ||
		plan_path(n, "scratch", false, &got.scratch, e) != 0 || plan_path(n, "app", false, &got.app, e) != 0)
		return e->code;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		*numbers[i].to = node_int(n, numbers[i].key, 0);
		if (*numbers[i].to < numbers[i].min)
			return err_set(e, ERR_INVALID, ERR_TO_LOG, "cell plan: %s must be at least %lld", numbers[i].key,
				(long long)numbers[i].min);
	}
	got.disk_bytes = MIN(got.disk_bytes, INT64_MAX / 4); /* it is multiplied */
	got.require_limits = node_bool(n, "require_limits", false);
	got.allow_basic = node_bool(n, "allow_basic", false);
	got.has_proxy = node_bool(n, "has_proxy", false);
	*p = got;
	return 0;
}

bool
key_valid(struct str s)
{
	if (s.n == 0 || s.n > CELL_KEY_MAX || s.p[0] == '.')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
			    c == '_' || c == '.'))
			return false;
	}
	return true;
}
