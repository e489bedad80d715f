/* SPDX-License-Identifier: MIT
 * The parts of shelld that need no process: packets, the frame of an answer, plans and states on the link, the spool,
 * and where cgroups are looked for. */
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "rig.h"
#include "sandbox/cgroup.h"
#include "sandbox/cleaner.c"
#include "sandbox/job.h"
#include "sandbox/spool.h"

static struct order
sample(void)
{
	struct order o = { .kind = ORDER_EXEC, .id = 7 };
	o.num[EXEC_NUM_DATA] = INT64_MIN;
	o.text[EXEC_TEXT_COMMAND] = STR("echo \0 hidden");
	o.text[EXEC_TEXT_CWD] = STR("/shared");
	return o;
}

static void
test_order(void **state)
{
	struct order o = sample(), got;
	struct buf b;

	buf_init(&b, ORDER_MAX);
	assert_int_equal(order_encode(&o, &b), 0);
	assert_int_equal(order_parse(buf_str(&b), &got), 0);
	assert_int_equal(got.kind, ORDER_EXEC);
	assert_int_equal(got.id, 7);
	assert_true(got.num[EXEC_NUM_DATA] == INT64_MIN);
	assert_true(str_eq(got.text[EXEC_TEXT_COMMAND], o.text[EXEC_TEXT_COMMAND]));
	assert_string_equal(got.text[EXEC_TEXT_CWD].p, "/shared");
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(order_parse((struct str){ b.p, n }, &got), ERR_PROTO);
	buf_add_char(&b, 'x');
	assert_int_equal(order_parse(buf_str(&b), &got), ERR_PROTO);
	buf_fini(&b);
}

static void
test_order_too_large(void **state)
{
	struct order o = sample();
	struct buf b;
	char *big = xcalloc(1, ORDER_MAX);

	buf_init(&b, ORDER_MAX);
	o.text[EXEC_TEXT_ENV] = (struct str){ big, ORDER_MAX - 64 };
	assert_int_equal(order_encode(&o, &b), ERR_LIMIT);
	free(big);
	buf_fini(&b);
}

/* The last word of one who ends with orders unread is heard, and then its end. */
static void
test_last_report(void **state)
{
	struct order o = sample();
	struct report r;
	int pair[2], fd;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(order_send(pair[0], &o), 0);
	assert_int_equal(report_send(pair[1], &(struct report){ .kind = REPORT_FAILED, .id = 9 }, -1), 0);
	close(pair[1]);
	assert_int_equal(report_recv(pair[0], &r, &fd), 1);
	assert_int_equal(r.kind, REPORT_FAILED);
	assert_int_equal(report_recv(pair[0], &r, &fd), 0);
	close(pair[0]);
}

/* Descriptors arrive, and an order that claims more than came is refused and closes them. */
static void
test_order_fds(void **state)
{
	struct order o = sample(), got;
	char *mem = xmalloc(ORDER_MAX);
	int pair[2], pipes[2];
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	o.fd[o.fd_n++] = pipes[1];
	assert_int_equal(order_send(pair[0], &o), 0);
	assert_int_equal(order_recv(pair[1], mem, &got), 1);
	assert_int_equal(got.fd_n, 1);
	assert_int_equal(write(got.fd[0], "x", 1), 1);
	assert_int_equal(read(pipes[0], &c, 1), 1);
	order_close_fds(&got);

	struct report r = { .kind = REPORT_BEGUN, .id = 9 };
	int fd = -1;
	assert_int_equal(report_send(pair[1], &r, pipes[1]), 0);
	memset(&r, 0, sizeof(r));
	assert_int_equal(report_recv(pair[0], &r, &fd), 1);
	assert_int_equal(r.id, 9);
	assert_true(fd >= 0);
	close(fd);

	assert_int_equal(report_send(pair[1], &(struct report){ .kind = REPORT_KIND_END }, pipes[1]), 0);
	close(pipes[1]);
	assert_int_equal(report_recv(pair[0], &r, &fd), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(read(pipes[0], &c, 1), 0); /* nobody holds its other end */
	close(pair[0]);
	assert_int_equal(order_recv(pair[1], mem, &got), 0);
	close(pair[1]);
	close(pipes[0]);
	free(mem);
}

static void
test_answer(void **state)
{
	struct file_answer a = { .magic = FILE_ANSWER_MAGIC, .head_n = 2, .tail_n = 3 }, got;
	struct str head, tail;
	struct buf b;

	buf_init(&b, 1024);
	buf_add(&b, &a, sizeof(a));
	buf_add_z(&b, "{}abc");
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(file_answer_parse((struct str){ b.p, n }, &got, &head, &tail), 0);
	assert_int_equal(file_answer_parse(buf_str(&b), &got, &head, &tail), 1);
	assert_true(str_is(head, "{}") && str_is(tail, "abc"));
	buf_add_char(&b, 'x');
	assert_int_equal(file_answer_parse(buf_str(&b), &got, &head, &tail), -1);
	static const struct file_answer lies[] = { { .magic = 1 }, { .magic = FILE_ANSWER_MAGIC, .code = 1 },
		{ .magic = FILE_ANSWER_MAGIC, .head_n = ANSWER_HEAD_MAX + 1 },
		{ .magic = FILE_ANSWER_MAGIC, .tail_n = UINT32_MAX } };
	for (size_t i = 0; i < ARRAY_LEN(lies); i++)
		assert_int_equal(file_answer_parse((struct str){ (const char *)&lies[i], sizeof(lies[i]) }, &got, &head, &tail), -1);
	buf_fini(&b);
}

static const struct node *
parse(struct arena *a, const char *text)
{
	const struct node *n;
	struct err e = { 0 };
	if (json_parse(a, str_of(text), &n, &e) != 0)
		fail_msg("%s", e.msg);
	return n;
}

static void
test_plan(void **state)
{
	struct cell_plan p = { .access = CELL_READ_ONLY, .shared = "/a", .state = "/b", .app = "/c", .memory_bytes = 1,
		.processes = 2, .cpu_percent = 3, .file_bytes = 4, .tmp_bytes = 4096, .allow_basic = true }, got;
	struct arena *a = arena_new(MIB);
	struct err e = { 0 };
	struct buf b;
	struct json j;

	buf_init(&b, 4096);
	json_init(&j, &b);
	plan_write(&j, &p);
	assert_int_equal(plan_read(parse(a, buf_z(&b)), &got, &e), 0);
	assert_int_equal(got.access, CELL_READ_ONLY);
	assert_string_equal(got.app, "/c");
	assert_null(got.scratch);
	assert_true(got.allow_basic && !got.require_limits);
	assert_int_equal(got.tmp_bytes, 4096);
	static const char *const bad[] = { "{}", "{\"access\":\"all\"}",
		"{\"access\":\"read_only\",\"shared\":\"relative\",\"state\":\"/b\"}",
		"{\"access\":\"read_only\",\"shared\":\"/a\\u0000b\",\"state\":\"/b\"}",
		"{\"access\":\"read_only\",\"shared\":\"/a\",\"state\":\"/b\",\"memory_bytes\":0}" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(plan_read(parse(a, bad[i]), &got, &e), ERR_INVALID);
	buf_fini(&b);
	arena_free(a);
}

static void
test_status(void **state)
{
	struct exec_status st = { .state = EXEC_DONE, .exit_code = 3, .signal = 9, .timed_out = true, .duration_ms = 5,
		.output_bytes = 1ll << 40, .kept_bytes = 6 }, got;
	struct arena *a = arena_new(MIB);
	struct buf b;
	struct json j;

	buf_init(&b, 4096);
	json_init(&j, &b);
	json_obj(&j);
	status_write(&j, &st);
	json_obj_end(&j);
	assert_int_equal(exec_status_read(parse(a, buf_z(&b)), &got), 0);
	assert_memory_equal(&st, &got, sizeof(st));
	assert_int_equal(exec_status_read(parse(a, "{\"state\":\"perhaps\"}"), &got), -1);
	buf_fini(&b);
	arena_free(a);
}

static void
test_keys(void **state)
{
	static const char *const good[] = { "a", "0", "01m7y23jrvcd8qqkz3hn1e5ssf", "a.b-c_d" };
	static const char *const bad[] = { "", ".", "..", ".x", "a/b", "a b", "a\n", "\xc3\xa4",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(key_valid(str_of(good[i])));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(key_valid(str_of(bad[i])));
}

/* ---- the spool ---- */

struct lines {
	char text[256];
};

static void
note_line(void *arg, const char *line, bool is_state)
{
	struct lines *l = arg;
	strncat(l->text, is_state ? "state " : "effect ", sizeof(l->text) - strlen(l->text) - 1);
	strncat(l->text, line, sizeof(l->text) - strlen(l->text) - 1);
	strncat(l->text, ";", sizeof(l->text) - strlen(l->text) - 1);
}

static void
test_spool(void **state)
{
	char dir[] = "/tmp/ithaca-spool-XXXXXX", path[128];
	struct spool s;
	struct err e = { 0 };
	struct exec_status st, done = { .state = EXEC_DONE, .exit_code = 2 };
	struct lines l = { "" };

	assert_non_null(mkdtemp(dir));
	assert_int_equal(spool_open(&s, dir, &e), 0);
	spool_find(&s, "e1", &st);
	assert_int_equal(st.state, EXEC_NOT_BEGUN);
	spool_cell(&s, "c1", "/state/c1");
	assert_int_equal(spool_begin(&s, "e1", "c1", &e), 0);
	assert_int_equal(spool_begin(&s, "e1", "c1", &e), ERR_EXISTS);
	spool_find(&s, "e1", &st);
	assert_int_equal(st.state, EXEC_UNKNOWN); /* began, and nobody runs it */
	assert_int_equal(spool_end(&s, "e1", &done), 0);
	spool_find(&s, "e1", &st);
	assert_int_equal(st.state, EXEC_DONE);
	assert_int_equal(st.exit_code, 2);
	assert_int_equal(spool_cell_read(&s, "c1", note_line, &l), 0);
	assert_string_equal(l.text, "state /state/c1;effect e1;");

	assert_int_equal(spool_begin(&s, "e1", "c1", &e), ERR_EXISTS); /* also when it is over */
	assert_true(spool_is_of(&s, "e1", STR("c1")));
	assert_false(spool_is_of(&s, "e1", STR("c2")));

	/* The same with files that were made ahead, which have a name only once they are used. */
	spool_prepare(&s);
	spool_prepare(&s);
	assert_int_equal(spool_begin(&s, "b1", "c1", &e), 0);
	assert_int_equal(spool_begin(&s, "b1", "c1", &e), ERR_EXISTS);
	AUTO_CLOSE int out = spool_out(&s, "b1", true), again = spool_out(&s, "b1", true);
	assert_true(out >= 0 && again >= 0);
	assert_int_equal(write(out, "text", 4), 4);
	spool_find(&s, "b1", &st);
	assert_int_equal(st.state, EXEC_UNKNOWN);
	assert_int_equal(spool_end(&s, "b1", &done), 0);
	spool_find(&s, "b1", &st);
	assert_int_equal(st.state, EXEC_DONE);
	assert_true(spool_is_of(&s, "b1", STR("c1")));
	spool_prepare(&s);
	snprintf(path, sizeof(path), "%s/b2.begun", dir);
	assert_int_equal(symlink("/tmp/ithaca-elsewhere", path), 0);
	assert_int_equal(spool_begin(&s, "b2", "c1", &e), ERR_EXISTS);
	assert_int_equal(spool_begin(&s, "b3", "c1", &e), 0); /* with the file that b2 did not take */

	/* A status that a crash cut short is no status; nor is a begin that has one and not its name. */
	assert_int_equal(spool_begin(&s, "e2", "c1", &e), 0);
	snprintf(path, sizeof(path), "%s/e2.status", dir);
	assert_int_equal(file_write(path, STR("{\"state\":\"do"), 0600, &e), 0);
	spool_find(&s, "e2", &st);
	assert_int_equal(st.state, EXEC_UNKNOWN);

	/* Ids from before this boot are unknown, later ones are not. */
	spool_find(&s, "00000000010000000000000000", &st);
	assert_int_equal(st.state, EXEC_UNKNOWN);
	struct id now = id_new();
	spool_find(&s, now.z, &st);
	assert_int_equal(st.state, EXEC_NOT_BEGUN);

	/* A link in the place of a file is not followed. */
	snprintf(path, sizeof(path), "%s/e3.begun", dir);
	assert_int_equal(symlink("/tmp/ithaca-elsewhere", path), 0);
	assert_int_equal(spool_begin(&s, "e3", "c1", &e), ERR_EXISTS);
	assert_int_equal(access("/tmp/ithaca-elsewhere", F_OK), -1);

	spool_forget(&s, "e1");
	spool_find(&s, "e1", &st);
	assert_int_equal(st.state, EXEC_NOT_BEGUN);
	spool_close(&s);
	rig_remove(dir);
}

/* ---- cgroups ---- */

static void
put(const char *dir, const char *name, const char *text)
{
	char path[256];
	struct err e = { 0 };
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*strrchr(path, '/') = '\0';
	assert_int_equal(path_mkdirs(path, 0755, &e), 0);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_write(path, str_of(text), 0644, &e), 0);
}

static void
test_cgroup_v1(void **state)
{
	char dir[] = "/tmp/ithaca-cgroup-XXXXXX", text[1024], path[128], elsewhere[128];
	struct cgroups g;
	struct stat ns;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(stat("/proc/self/ns/pid", &ns), 0);
	snprintf(text, sizeof(text),
		"30 1 0:30 / %s/memory rw - cgroup cgroup rw,memory\n31 1 0:31 /box %s/pids rw,x shared:1 - cgroup cgroup rw,pids\n"
		"32 1 0:32 / %s/none rw - cgroup cgroup rw,cpuset\n", dir, dir, dir);
	put(dir, "proc/mountinfo", text);
	put(dir, "proc/cgroup", "3:memory:/a/b\n2:pids:/box/c\n1:cpuset:/\n0::/\n");
	put(dir, "memory/a/b/cgroup.procs", "");
	put(dir, "pids/c/cgroup.procs", "");
	snprintf(path, sizeof(path), "%s/memory/a/b/ithaca-cell-%lu-999999999-1", dir, (unsigned long)ns.st_ino);
	assert_int_equal(mkdir(path, 0755), 0); /* of a shelld that is no more */
	snprintf(elsewhere, sizeof(elsewhere), "%s/memory/a/b/ithaca-cell-1-999999999-1", dir);
	assert_int_equal(mkdir(elsewhere, 0755), 0); /* of another pid namespace, where it may live */
	snprintf(path, sizeof(path), "%s/proc", dir);
	cgroups_open(&g, path);
	assert_int_equal(g.version, CGROUP_V1);
	snprintf(path, sizeof(path), "%s/memory/a/b", dir);
	assert_string_equal(g.base[CGROUP_MEMORY], path);
	snprintf(path, sizeof(path), "%s/pids/c", dir);
	assert_string_equal(g.base[CGROUP_PIDS], path);
	assert_string_equal(g.base[CGROUP_CPU], "");
	assert_int_equal(cgroups_level(&g), LIMITS_CGROUP);
	snprintf(path, sizeof(path), "%s/memory/a/b/ithaca-cell-%lu-999999999-1", dir, (unsigned long)ns.st_ino);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(elsewhere, F_OK), 0);
	rig_remove(dir);
}

static void
test_cgroup_v2(void **state)
{
	char dir[] = "/tmp/ithaca-cgroup-XXXXXX", text[512], path[128];
	struct cgroups g;

	assert_non_null(mkdtemp(dir));
	snprintf(text, sizeof(text), "30 1 0:30 / %s/v2 rw - cgroup2 cgroup2 rw,nsdelegate\n", dir);
	put(dir, "proc/mountinfo", text);
	put(dir, "proc/cgroup", "0::/user.slice/x.scope\n");
	put(dir, "v2/user.slice/x.scope/cgroup.controllers", "cpu memory pids\n");
	put(dir, "v2/user.slice/x.scope/cgroup.subtree_control", "");
	put(dir, "v2/user.slice/x.scope/cgroup.procs", "");
	snprintf(path, sizeof(path), "%s/proc", dir);
	cgroups_open(&g, path); /* not delegated: somebody else's group */
	assert_int_equal(g.version, CGROUP_NONE);
	assert_int_equal(cgroups_level(&g), LIMITS_SOFT);
	put(dir, "v2/user.slice/x.scope/cgroup.subtree_control", "memory pids\n");
	cgroups_open(&g, path);
	assert_int_equal(g.version, CGROUP_V2);
	assert_int_equal(cgroups_level(&g), LIMITS_CGROUP);
	/* One that is started again is where the first has put all of us: its groups lie beside that. */
	put(dir, "proc/cgroup", "0::/user.slice/x.scope/ithaca-roles\n");
	put(dir, "v2/user.slice/x.scope/ithaca-roles/cgroup.procs", "");
	put(dir, "v2/user.slice/x.scope/cgroup.subtree_control", "memory pids\n"); /* a plain file takes the last that was written */
	cgroups_open(&g, path);
	assert_int_equal(g.version, CGROUP_V2);
	assert_true(str_ends(str_of(g.base[0]), "/v2/user.slice/x.scope"));
	/* The root of a container's view is its own. Whether it must be emptied first only a kernel can say: scripts/guest-check. */
	put(dir, "proc/cgroup", "0::/\n");
	put(dir, "v2/cgroup.controllers", "memory pids\n");
	put(dir, "v2/cgroup.subtree_control", "");
	put(dir, "v2/ithaca-roles/cgroup.procs", "");
	for (int i = 0; i < 2; i++) {
		cgroups_open(&g, path);
		assert_int_equal(g.version, CGROUP_V2);
		assert_true(str_ends(str_of(g.base[0]), "/v2"));
		put(dir, "v2/cgroup.subtree_control", "memory pids\n");
		put(dir, "proc/cgroup", "0::/ithaca-roles\n");
	}
	rig_remove(dir);
}

/* What somebody else limits our own group to. */
static void
test_own_limits(void **state)
{
	char dir[] = "/tmp/ithaca-cgroup-XXXXXX", text[512], path[128];
	struct own_limits l;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/proc", dir);
	snprintf(text, sizeof(text), "30 1 0:30 /box %s/memory rw - cgroup cgroup rw,memory\n31 1 0:31 /box %s/pids rw - cgroup cgroup rw,pids\n"
		"32 1 0:32 / %s/v2 rw - cgroup2 cgroup2 rw\n", dir, dir, dir);
	put(dir, "proc/mountinfo", text);
	put(dir, "proc/cgroup", "3:memory:/box\n2:pids:/box\n0::/\n");
	put(dir, "memory/memory.limit_in_bytes", "1048576\n");
	put(dir, "pids/pids.max", "77\n");
	put(dir, "v2/memory.max", "5\n"); /* a hierarchy without these controllers */
	cgroups_own(path, &l);
	assert_true(l.version == CGROUP_V1 && l.memory_bytes == 1048576 && l.processes == 77);
	put(dir, "memory/memory.limit_in_bytes", "9223372036854771712\n");
	put(dir, "pids/pids.max", "max\n");
	cgroups_own(path, &l);
	assert_true(l.version == CGROUP_V1 && l.memory_bytes == -1 && l.processes == -1);
	put(dir, "proc/cgroup", "0::/\n");
	put(dir, "v2/memory.max", "2097152\n");
	put(dir, "v2/pids.max", "88\n");
	cgroups_own(path, &l);
	assert_true(l.version == CGROUP_V2 && l.memory_bytes == 2097152 && l.processes == 88);
	put(dir, "v2/memory.max", "max\n");
	cgroups_own(path, &l);
	assert_true(l.version == CGROUP_V2 && l.memory_bytes == -1 && l.processes == 88);
	put(dir, "proc/cgroup", "");
	cgroups_own(path, &l);
	assert_true(l.version == CGROUP_NONE && l.memory_bytes == -1 && l.processes == -1);
	rig_remove(dir);
}

/* Found, not believed: the same process with and without a wall. */
static void
test_around(void **state)
{
	struct sandbox_facts f = { .tier = "cell" };
	int status;

	around_find(&f);
	assert_string_equal(f.around, "");
	assert_string_equal(f.around_lacks, "");
	snprintf(f.tier, sizeof(f.tier), "microvm");
	around_find(&f);
	assert_non_null(strstr(f.around, "Linux "));
	snprintf(f.tier, sizeof(f.tier), "container");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0) {
		print_message("SKIP: this process may gain no privileges from its start\n");
		return;
	}
	around_find(&f);
	assert_non_null(strstr(f.around_lacks, "programs may gain privileges"));
	assert_null(strstr(f.around, "no new privileges"));
	pid_t pid = fork();
	if (pid == 0) {
		bool may_unshare = unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		around_find(&f);
		_exit(strstr(f.around, "no new privileges") == NULL || strstr(f.around_lacks, "programs may") != NULL ||
			(may_unshare && strstr(f.around, "no network") == NULL));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_tree(void **state)
{
	int hold[2];
	char c;
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (fork() == 0) {
			static char block[8 << 20];
			memset(block, 1, sizeof(block));
			__asm__ volatile("" : : "r"(block) : "memory");
		}
		(void)!write(hold[1], "x", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(hold[0], &c, 1), 1);
	assert_int_equal(read(hold[0], &c, 1), 1);
	struct tree_use use;
	tree_measure(pid, &use);
	assert_true(use.resident_bytes > 8 << 20);
	assert_int_equal(use.tasks, 2);
	assert_true(user_tasks(geteuid()) >= 3);
	char path[64], text[64] = { 0 };
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	kill((pid_t)strtol(text, NULL, 10), SIGKILL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(hold[0]);
	close(hold[1]);
}

/* The kernel gives as much of the list as there is room for. The number that is cut is that of a stranger: nobody is killed for it.
 * It gets the signal that comes first. */
static void
test_orphans(void **state)
{
	enum { ROOM = 4095 };
	static const char *const after[] = { "7 ", " " };

	for (size_t i = 0; i < ARRAY_LEN(after); i++) {
		char text[ROOM + 32];
		int status;
		pid_t child = fork();
		if (child == 0)
			for (;;)
				pause();
		int n = snprintf(text, sizeof(text), "%d", (int)child);
		memset(text, ' ', sizeof(text));
		snprintf(text + ROOM - n - (i == 1), (size_t)n + 8, "%d%s", (int)child, after[i]);
		int fd = memfd_create("children", MFD_CLOEXEC);
		assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
		assert_int_equal(orphans_kill(fd, NULL, 0), 0);
		assert_int_equal(orphans_kill(fd, &child, 1), 1);
		kill(child, SIGTERM);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(WTERMSIG(status), i == 0 ? SIGTERM : SIGKILL);
		close(fd);
	}
}

/* Deep enough to be parsed alone, and too deep as a part of something: the runtime would drop the link for it. */
static void
test_deep_answer(void **state)
{
	static const unsigned depths[] = { FILE_ANSWER_DEPTH, FILE_ANSWER_DEPTH + 1, JSON_DEPTH_MAX };

	for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
		struct arena *a = arena_new(MIB);
		const struct node *n;
		struct err e = { 0 };
		char text[2 * JSON_DEPTH_MAX + 2];
		memset(text, '[', depths[i]);
		text[depths[i]] = '1';
		memset(text + depths[i] + 1, ']', depths[i]);
		int r = file_head_parse(a, (struct str){ text, 2 * depths[i] + 1 }, &n, &e);
		assert_int_equal(r, i == 0 ? 0 : ERR_PROTO);
		arena_free(a);
	}
}

/* A command that is gone may have given its output to one that writes without end. */
static void
test_endless_output(void **state)
{
	struct shelld *d = xcalloc(1, sizeof(*d));
	struct job j = { .d = d, .has_terminal = true };

	for (int i = 0; i < 2; i++)
		j.out[i] = (struct pipe_end){ .j = &j, .ch = i + 1, .fd = open("/dev/zero", O_RDONLY | O_CLOEXEC) };
	job_drain(&j);
	assert_int_equal(j.out[0].fd, -1);
	assert_int_equal(j.out[1].fd, -1);
	assert_in_range(j.st.output_bytes, 2, 4 * MIB);
	free(d);
}

static char *
below(const char *dir, const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static bool
is_left(const char *dir, const char *name)
{
	AUTO_FREE char *path = below(dir, name);
	struct stat st;

	return lstat(path, &st) == 0;
}

/* A process whose command line names something in the directory; it ends when the descriptor that is given back is closed. */
static int
live_in(const char *dir, pid_t *pid)
{
	AUTO_FREE char *path = below(dir, "guest/x");
	int in[2], out[2];
	char c;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	*pid = fork();
	if (*pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl("/bin/sh", "sh", "-c", "echo; read x", "sh", path, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(read(out[0], &c, 1), 1);
	close(out[0]);
	return in[1];
}

/* What the cleaner takes away in the tiers above the cell, and when: not while somebody lives there, serves or holds the lock, and
 * nothing that lies elsewhere. */
static void
test_clean_guests(void **state)
{
	static const char names[] = "control.sock\0inputs\0guest/\0runtime/";
	static const char *const files[] = { "run/lock", "run/inputs", "run/guest/token", "run/guest/full/of", "other/kept" };
	char top[] = "/tmp/ithaca-clean-XXXXXX";
	struct err e;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(top));
	AUTO_FREE char *run = below(top, "run");
	AUTO_FREE char *lock = below(top, "run/lock");
	AUTO_FREE char *tree = below(top, "run/guest/tree");
	AUTO_FREE char *sock = below(top, "run/guest/shelld.sock");
	AUTO_FREE char *control = below(top, "run/control.sock");
	AUTO_FREE char *other = below(top, "other");
	AUTO_FREE char *to_file = below(top, "run/guest/link");
	AUTO_FREE char *to_dir = below(top, "run/runtime");
	assert_int_equal(path_mkdirs(tree, 0700, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put(top, files[i], "");
	assert_int_equal(symlink(other, to_dir), 0);
	assert_int_equal(symlink("../../other/kept", to_file), 0);
	close(unix_listen(control, 0600, &e));
	int server = unix_listen(sock, 0600, &e);
	assert_true(server >= 0);
	struct told t = { .wait_ms = 1, .dir = str_of(run), .lock = str_of(lock), .names = { names, sizeof(names) - 1 } };

	int held = open(lock, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX), 0);
	assert_false(clean_files(&t));
	close(held);
	int life = live_in(run, &pid);
	assert_false(clean_files(&t));
	assert_true(is_left(run, "inputs") && is_left(run, "control.sock") && is_left(run, "guest/token"));
	close(life);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(clean_files(&t)); /* somebody serves in guest/ */
	assert_true(is_left(run, "guest/token") && is_left(run, "guest/shelld.sock") && is_left(run, "guest/tree"));
	close(server);
	assert_true(clean_files(&t));
	assert_false(is_left(run, "inputs") || is_left(run, "control.sock") || is_left(run, "guest/token"));
	assert_false(is_left(run, "guest/shelld.sock") || is_left(run, "guest/tree") || is_left(run, "guest/link"));
	assert_true(is_left(run, "guest/full/of") && is_left(run, "lock") && is_left(run, "runtime") && is_left(other, "kept"));
	rig_remove(top);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order), cmocka_unit_test(test_order_too_large), cmocka_unit_test(test_order_fds), cmocka_unit_test(test_last_report),
		cmocka_unit_test(test_answer), cmocka_unit_test(test_plan), cmocka_unit_test(test_status),
		cmocka_unit_test(test_keys), cmocka_unit_test(test_spool), cmocka_unit_test(test_cgroup_v1),
		cmocka_unit_test(test_cgroup_v2), cmocka_unit_test(test_own_limits),
		cmocka_unit_test(test_around), cmocka_unit_test(test_tree), cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_clean_guests), cmocka_unit_test(test_deep_answer), cmocka_unit_test(test_endless_output),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
