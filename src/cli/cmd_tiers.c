/* SPDX-License-Identifier: MIT
 * `ithaca doctor --tier T|all`: tries tiers that are not the one in force. Each is started by a runner of its own in a home
 * that is there for this moment, with the same configuration, and the self-test of its cells says what is truly enforced.
 * Invariant: the home of the user and what runs in it are not touched, but for what was found out about KVM. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/id.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/internal.h"

#define OUTPUT_MAX  MIB
#define VERDICT_MAX 256

extern char **environ;

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)remove(path);
	return 0;
}

/* Runs this program again, with what it says on one of its outputs in out. Its exit status, or -1. */
static int
again(struct cli *c, const char *const *argv, int which, struct buf *out)
{
	/* Nothing of it outlives the question for long, and a store elsewhere is left alone. */
	static const char *const own[] = { "ITHACA__RUNNER__IDLE_MS=2000", "ITHACA__STORE__URL=sqlite:state/ithaca.db" };
	posix_spawn_file_actions_t actions;
	const char **env;
	size_t n = 0;
	int fds[2], status = -1;
	pid_t pid;

	while (environ[n] != NULL)
		n++;
	env = arena_alloc(c->a, (n + ARRAY_LEN(own) + 1) * sizeof(*env));
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], "ITHACA__RUNNER__IDLE_MS=", 24) != 0 && strncmp(environ[i], "ITHACA__STORE__URL=", 19) != 0)
			env[at++] = environ[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		env[at++] = own[i];
	env[at] = NULL;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 3 - which, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], which);
	int rc = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (rc == 0)
		(void)!fd_read_all(fds[0], out);
	close(fds[0]);
	while (rc == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return rc == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What is told of a tier, of all that a doctor in it checks. */
static const char *const told[] = { "tier", "cell", "landlock", "cell limits" };

static const struct node *
find_check(const struct node *checks, const char *name)
{
	for (size_t i = 0; i < node_len(checks); i++) {
		if (str_is(node_str(node_at(checks, i), "name", STR("")), name))
			return node_at(checks, i);
	}
	return &node_null;
}

static void
write_check(struct json *j, const char *name, struct str ok, struct str text)
{
	json_obj(j);
	json_kv_z(j, "name", name);
	json_kv_str(j, "ok", ok);
	json_kv_str(j, "text", text);
	json_obj_end(j);
}

/* The row about cells is what the tier is; a refusal to start is said on standard error. */
static void
write_tier(struct cli *c, const char *tier, const char *home, const char *config, struct json *j)
{
	const char *argv[12] = { "ithaca", "--home", home };
	size_t n = 3;
	const struct node *result, *checks;
	struct buf out;
	struct err e;

	if (config != NULL) {
		argv[n++] = "--config";
		argv[n++] = config;
	}
	argv[n] = "doctor";
	argv[n + 1] = "--in-tier";
	argv[n + 2] = tier;
	argv[n + 3] = "--json";
	buf_init(&out, OUTPUT_MAX);
	int status = again(c, argv, STDOUT_FILENO, &out);
	json_obj(j);
	json_kv_z(j, "tier", tier);
	if (json_parse(c->a, buf_str(&out), &result, &e) == 0 && (checks = node_get(result, "checks")) != NULL) {
		const struct node *cell = find_check(checks, "cell");
		json_kv_str(j, "ok", node_str(cell, "ok", STR("fail")));
		json_kv_str(j, "text", node_str(cell, "text", STR("nothing was said of its cells")));
		json_kv_arr(j, "checks");
		for (size_t i = 0; i < ARRAY_LEN(told); i++) {
			const struct node *one = find_check(checks, told[i]);
			write_check(j, told[i], node_str(one, "ok", STR("fail")), node_str(one, "text", STR("nothing was said")));
		}
		json_arr_end(j);
	} else {
		buf_reset(&out);
		argv[n + 3] = NULL;
		(void)again(c, argv, STDERR_FILENO, &out);
		struct str text = str_trim(buf_str(&out));
		if (str_starts(text, "ithaca: "))
			text = str_sub(text, 8, text.n);
		json_kv_z(j, "ok", "fail");
		if (text.n == 0)
			text = str_of(arena_printf(c->a, "it ended with status %d", status));
		json_kv_str(j, "text", text);
		json_kv_arr(j, "checks");
		write_check(j, "tier", STR("fail"), text);
		json_arr_end(j);
	}
	json_obj_end(j);
	/* Whatever is left of it ends before its home goes. */
	argv[n] = "stop";
	argv[n + 1] = NULL;
	buf_reset(&out);
	(void)again(c, argv, STDERR_FILENO, &out);
	buf_fini(&out);
}

/* What a try has found out about KVM (sandbox/vm_key.c) is so for the user's home too: it is the same machine. Nothing
 * found out: what is kept there is no longer believed either. */
static void
keep_verdict(const struct cli *c, const char *home)
{
	static const char name[] = "state/machine.kvm";
	const char *from = path_join(c->a, home, name), *to = path_join(c->a, c->home, name);
	char *text;
	size_t n;
	struct err e;

	(void)unlink(to);
	if (file_read_no_link(from, VERDICT_MAX, &text, &n, &e) != 0)
		return;
	int rc = file_write(to, (struct str){ text, n }, 0600, &e);
	if (rc != 0) /* there is no home yet: its first start finds out for itself */
		(void)unlink(to);
	free(text);
}

static int
try_tier(struct cli *c, const char *tier, const char *config, struct json *j, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char *home = arena_printf(c->a, "%s/ithaca-doctor-%s", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp", id_new().z);

	if (mkdir(home, 0700) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make %s", home);
	write_tier(c, tier, home, config, j);
	if (strcmp(tier, "microvm") == 0)
		keep_verdict(c, home);
	(void)nftw(home, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

/* For people: a row for each thing that was found out, with the name of the tier at its first. */
static int
print_tiers(struct cli *c, const struct node *list, struct buf *out, struct err *e)
{
	static const struct column columns[] = { { "tier", "TIER" }, { "ok", "OK" }, { "name", "CHECK" },
		{ "text", "WHAT IS ENFORCED, OR WHY NOT" }, { 0 } };
	const struct node *rows;
	struct buf text;
	struct json j;

	buf_init(&text, OUTPUT_MAX);
	json_init(&j, &text);
	json_arr(&j);
	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *checks = node_get(node_at(list, i), "checks");
		for (size_t k = 0; k < node_len(checks); k++) {
			const struct node *one = node_at(checks, k);
			json_obj(&j);
			json_kv_str(&j, "tier", k == 0 ? node_str(node_at(list, i), "tier", STR("")) : STR(""));
			json_kv_str(&j, "ok", node_str(one, "ok", STR("")));
			json_kv_str(&j, "name", node_str(one, "name", STR("")));
			json_kv_str(&j, "text", node_str(one, "text", STR("")));
			json_obj_end(&j);
		}
	}
	json_arr_end(&j);
	int rc = json_parse(c->a, buf_str(&text), &rows, e);
	if (rc == 0)
		print_table(rows, columns, out);
	buf_fini(&text);
	return rc;
}

int
cmd_doctor_tiers(struct cli *c, const char *which, struct err *e)
{
	static const char *const all[] = { "microvm", "container", "cell", "process" };
	const char *config = c->config != NULL ? c->config : path_join(c->a, c->home, "config.yaml");
	const struct node *list;
	bool has_one = false;
	struct buf text, out;
	struct json j;
	int rc = 0;

	if (access(config, R_OK) != 0)
		config = NULL;
	buf_init(&text, OUTPUT_MAX);
	buf_init(&out, OUTPUT_MAX);
	json_init(&j, &text);
	json_arr(&j);
	for (size_t i = 0; i < ARRAY_LEN(all) && rc == 0; i++) {
		if (strcmp(which, "all") == 0 || strcmp(which, all[i]) == 0)
			rc = try_tier(c, all[i], config, &j, e);
	}
	json_arr_end(&j);
	if (rc == 0)
		rc = json_parse(c->a, buf_str(&text), &list, e);
	for (size_t i = 0; rc == 0 && i < node_len(list); i++)
		has_one = has_one || !str_is(node_str(node_at(list, i), "ok", STR("")), "fail");
	if (rc == 0) {
		if (c->json)
			buf_printf(&out, "{\"tiers\":%s}\n", buf_z(&text));
		else
			rc = print_tiers(c, list, &out, e);
		rc = rc != 0 ? rc : out_text(buf_str(&out), e);
	}
	buf_fini(&text);
	buf_fini(&out);
	return rc != 0 ? rc : !has_one;
}
