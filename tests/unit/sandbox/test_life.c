/* SPDX-License-Identifier: MIT
 * The life of shelld and of cells: plans, modes, limits, closing, adoption by a new runner, and that nothing outlives
 * its owner. */
#include "rig.h"
#include "sandbox/attempt.h"

static int
setup_empty(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	rig_init(r);
	*state = r;
	return 0;
}

static void
test_facts(void **state)
{
	struct rig *r = *state;
	const struct sandbox_facts *f = sandbox_facts(r->sb);
	assert_int_equal(f->level, CELL_FULL);
	assert_int_equal(f->landlock_abi, landlock_abi());
	assert_true(f->limits == LIMITS_SOFT || f->limits == LIMITS_CGROUP);
}

/* Equal plans share a cell, a changed one makes a new cell: /tmp tells. */
static void
test_plans(void **state)
{
	struct rig *r = *state;
	rig_expect(r, "echo kept > /tmp/x", "");
	rig_expect(r, "cat /tmp/x", "kept\n");
	r->plan.tmp_bytes = 32 * MIB;
	rig_expect(r, "cat /tmp/x 2>&1 || true", "cat: /tmp/x: No such file or directory\n");
	rig_expect(r, "df -k /tmp | awk 'NR == 2 { print $2 }'", "32768\n");
}

static void
expect_in(struct rig *r, const char *cell, const char *command, const char *output)
{
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, command);
	struct outcome o;

	q.cell = cell;
	rig_run(r, &q, &o);
	if (o.e.code != 0)
		fail_msg("%s: %s", command, o.e.msg);
	assert_string_equal(buf_z(&o.out), output);
	outcome_fini(&o);
}

/* Whatever differs in a plan makes another cell, whose memory is its own; what is kept stays with the session, and none of it is
 * seen by another session, not even under the same names of runs. */
static void
test_keys(void **state)
{
	struct rig *r = *state;
	const struct cell_plan first = r->plan;
	char other[RIG_PATH + 16], scratch[RIG_PATH + 16];
	struct cell_plan plans[10];

	snprintf(other, sizeof(other), "%s/other", r->cells);
	snprintf(scratch, sizeof(scratch), "%s/scratch", r->dir);
	assert_int_equal(mkdir(scratch, 0755), 0);
	for (size_t i = 0; i < ARRAY_LEN(plans); i++)
		plans[i] = first;
	plans[0].access = CELL_READ_ONLY;
	plans[1].has_proxy = true;
	plans[2].scratch = scratch;
	plans[3].app = scratch;
	plans[4].shared = scratch;
	plans[5].memory_bytes /= 2;
	plans[6].processes++;
	plans[7].file_bytes++;
	plans[8].disk_bytes = 1024 * MIB;
	plans[9].cpu_ms = 5000;
	for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
		r->plan = first;
		rig_expect(r, "for d in /tmp /dev/shm ~ ~/.cache /run/work/tmp; do echo mine > $d/x; done; cat /tmp/x", "mine\n");
		r->plan = plans[i];
		rig_expect(r, "ls /tmp /dev/shm; cat ~/x ~/.cache/x /run/work/tmp/x", "/dev/shm:\n\n/tmp:\nmine\nmine\nmine\n");
	}
	r->plan = first;
	rig_expect(r, "for d in /tmp /dev/shm ~ ~/.cache /run/work/tmp; do echo mine > $d/x; done", "");
	r->plan.state = other;
	expect_in(r, "cell-2", "cat /tmp/x /dev/shm/x ~/x ~/.cache/x /run/work/tmp/x 2>/dev/null; find / -name x -type f 2>/dev/null | grep -v ^/usr; echo none",
		"none\n");
	r->plan = first;
	rig_expect(r, "cat /tmp/x ~/x", "mine\nmine\n"); /* beside it the first one went on */
}

/* A workspace that is replaced is the new one for the next command, while one that runs goes on in the old; where there is none it is
 * said, and one that comes back is taken. */
static void
test_workspace_replaced(void **state)
{
	struct rig *r = *state;
	struct id id = id_new();
	char work[RIG_PATH], old[RIG_PATH];
	struct outcome o, x;

	snprintf(work, sizeof(work), "%s/work", r->dir);
	snprintf(old, sizeof(old), "%s/old", r->dir);
	assert_int_equal(mkdir(work, 0755), 0);
	r->plan.shared = work;
	struct exec_request q = rig_request(r, id.z, "echo ready; read line; cat of-old");
	q.input = true;
	rig_expect(r, "echo old > of-old; echo kept > ~/kept", "");
	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	o.stop_after = 0;
	assert_int_equal(rename(work, old), 0);
	rig_sh(r, "ls", &x);
	assert_int_equal(x.e.code, ERR_NOT_FOUND);
	assert_non_null(strstr(x.e.msg, work));
	outcome_fini(&x);
	assert_int_equal(mkdir(work, 0755), 0);
	rig_expect(r, "ls; echo new > of-new; cat ~/kept", "kept\n");
	exec_call_input(o.call, STR("go\n"));
	rig_finish(&o);
	assert_string_equal(buf_z(&o.out), "ready\nold\n");
	outcome_fini(&o);
	rig_remove(work);
	assert_int_equal(rename(old, work), 0);
	rig_expect(r, "ls; cat of-old", "of-old\nold\n");
	r->plan.shared = r->shared;
}

/* What is said of a path is what happens there: for each place, in each mode, with and without the directories that a plan may
 * have. */
static void
test_walls(void **state)
{
	static const char *const others[] = { "/w", "/root/w", "/vault/w", "/home/w", "/opt/w", "/shared/../etc/w", "/tmpw" };
	struct rig *r = *state;
	char scratch[RIG_PATH + 16], text[SANDBOX_TEXT_MAX], path[64], command[256];

	snprintf(scratch, sizeof(scratch), "%s/scratch", r->dir);
	assert_int_equal(mkdir(scratch, 0755), 0);
	for (int mode = 0; mode < 4; mode++) {
		r->plan.access = mode % 2 == 0 ? CELL_WORKSPACE_WRITE : CELL_READ_ONLY;
		r->plan.scratch = r->plan.app = mode < 2 ? scratch : NULL;
		for (size_t i = 0; cell_places[i].path != NULL; i++) {
			if (cell_places[i].right == PLACE_DEVICE)
				continue;
			snprintf(path, sizeof(path), "%s/w", cell_places[i].path);
			const char *wall = sandbox_wall(&r->plan, path, true, text);
			snprintf(command, sizeof(command), "( : > %s && rm %s ) 2>/dev/null && echo written || echo refused", path, path);
			rig_expect(r, command, wall == NULL ? "written\n" : "refused\n");
			assert_null(sandbox_wall(&r->plan, path, false, text));
		}
		for (size_t i = 0; i < ARRAY_LEN(others); i++) {
			struct arena *a = arena_new(64 * KIB);
			assert_non_null(sandbox_wall(&r->plan, path_clean(a, others[i]), true, text));
			arena_free(a);
			snprintf(command, sizeof(command), "( : > %s ) 2>/dev/null && echo written || echo refused", others[i]);
			rig_expect(r, command, "refused\n");
		}
	}
	assert_string_equal(sandbox_wall(&r->plan, "/root/x", false, text), "outside");
	assert_string_equal(sandbox_wall(&r->plan, "/etc/x", true, text), "system");
	assert_string_equal(sandbox_wall(&r->plan, "/shared/x", true, text), "mode");
	assert_null(strstr(text, "/shared /")); /* among what can be written */
	snprintf(command, sizeof(command), "%.100s/a", r->shared);
	assert_string_equal(sandbox_wall(&r->plan, command, false, text), "outside");
	assert_non_null(strstr(text, "/shared/a"));
	r->plan.access = CELL_HOST;
	assert_null(sandbox_wall(&r->plan, "/etc/x", true, text));
}

static void
test_read_only(void **state)
{
	struct rig *r = *state;
	rig_expect(r, "echo seen > /shared/file", "");
	r->plan.access = CELL_READ_ONLY;
	rig_expect(r, "cat file; touch new 2>&1; touch file 2>&1; echo x > file; mkdir d 2>/dev/null || echo no",
		"seen\ntouch: cannot touch 'new': Read-only file system\n"
		"touch: cannot touch 'file': Read-only file system\nno\n");
	rig_expect(r, "touch /tmp/a ~/a /run/work/tmp/a && echo other places", "other places\n");
}

static void
test_places(void **state)
{
	struct rig *r = *state;
	char path[RIG_PATH + 32];

	rig_expect(r, "pwd; ls /run/work; echo h > ~/h; echo w > /run/work/outbox/w; ls / | grep -v lib.*[0-9] | tr '\\n' ' '",
		/* without the directories of other word sizes, which not every system has */
		"/shared\ninbox\noutbox\ntmp\nwork\napp bin dev etc home lib proc run sbin scratch shared tmp usr var ");
	snprintf(path, sizeof(path), "%s/data/h", r->state);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/runs/main/outbox/w", r->state);
	assert_int_equal(access(path, F_OK), 0);
	r->plan.scratch = r->shared;
	r->plan.app = r->shared;
	rig_expect(r, "touch /scratch/s && ls /app; touch /app/x 2>/dev/null || echo app is read-only", "s\napp is read-only\n");
}

/* The cache is a directory of its own, in the home. What a command puts where a directory of the cell should be leads the next
 * cell nowhere. */
static void
test_state(void **state)
{
	struct rig *r = *state;
	char path[RIG_PATH + 32];

	rig_expect(r, "echo c > ~/.cache/c && echo $XDG_CACHE_HOME; rm -rf ~/.cache 2>/dev/null; mv ~/.cache ~/x 2>/dev/null || echo stays",
		"/home/agent/.cache\nstays\n");
	rig_expect(r, "echo d > ~/.cache/d", "");
	snprintf(path, sizeof(path), "%s/cache/d", r->state);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/data/.cache/d", r->state);
	assert_int_equal(access(path, F_OK), -1);
	rig_expect(r, "cd /run/work && rmdir inbox outbox && ln -s /etc inbox && echo f > outbox && ls -d inbox/passwd", "inbox/passwd\n");
	r->plan.tmp_bytes = 32 * MIB;
	rig_expect(r, "cat ~/.cache/d; touch /run/work/inbox/a /run/work/outbox/b && ls /run/work/*/", "d\n/run/work/inbox/:\na\n\n"
		"/run/work/outbox/:\nb\n\n/run/work/tmp/:\n\n/run/work/work/:\n");
}

/* Each run has its own /run/work in the same cell, also for file operations; no path leads to that of another. */
static void
test_runs(void **state)
{
	struct rig *r = *state;
	struct answer x;
	char path[RIG_PATH + 64], name[16];
	struct stat st;

	rig_expect_in(r, "turn-1", "echo one > /run/work/outbox/f; ls /run/work/; echo cell > /tmp/cell", "inbox\noutbox\ntmp\nwork\n");
	rig_expect_in(r, "turn-2", "ls /run/work/outbox; cat /tmp/cell; echo two > /run/work/outbox/g", "cell\n");
	rig_expect_in(r, "turn-1", "cat /run/work/outbox/f; ls /run/work/outbox/", "one\nf\n");
	rig_expect_in(r, "turn-2", "ls -A /run/.runs; ls /run/work/../.runs/turn-1 /run/work/../turn-1 2>&1 | grep -c 'No such'; "
		"touch /run/x /run/.runs/x 2>/dev/null || echo read-only", "2\nread-only\n");
	struct file_request q = { .cell = "cell-1", .plan = &r->plan, .run = "turn-1", .op = "stat",
		.params = STR("{\"path\":\"/run/work/outbox/f\"}") };
	for (int i = 0; i < 2; i++) {
		answer_init(&x, r);
		assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &x.e), 0);
		answer_wait(&x);
		assert_int_equal(node_bool(x.head, "exists", false), i == 0);
		answer_fini(&x);
		q.run = "turn-2";
	}
	/* Its status says whether something is in the outbox of its run, and a link in its place is none. */
	static const struct {
		const char *run, *command;
		bool has;
	} ends[] = { { "turn-1", "true", true }, { "turn-3", "true", false }, { "turn-3", "touch /run/work/outbox/x; exit 3", true },
		{ "turn-3", "rm /run/work/outbox/x", false }, { "turn-3", "cd /run/work && rmdir outbox && ln -s /etc outbox", false } };
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct id id = id_new();
		struct exec_request q = rig_request(r, id.z, ends[i].command);
		struct outcome o;

		q.run = ends[i].run;
		rig_run(r, &q, &o);
		assert_int_equal(o.st.has_outbox, ends[i].has);
		outcome_fini(&o);
	}
	/* A command that began in one run stays there. */
	struct id id = id_new();
	struct exec_request long_one = rig_request(r, id.z, "echo ready; read line; cat /run/work/outbox/f");
	struct outcome o;
	long_one.run = "turn-1";
	long_one.input = true;
	rig_begin(r, &long_one, &o);
	o.stop_after = 1;
	rig_wait(r);
	rig_expect_in(r, "turn-2", "cat /run/work/outbox/g", "two\n");
	exec_call_input(o.call, STR("go\n"));
	rig_finish(&o);
	assert_string_equal(buf_z(&o.out), "ready\none\n");
	outcome_fini(&o);
	/* The oldest go, whatever is in them. */
	rig_expect_in(r, "turn-1", "mkdir -p /run/work/tmp/a/b; chmod 0 /run/work/tmp/a", "");
	for (unsigned i = 0; i < RUNS_KEPT; i++) {
		snprintf(name, sizeof(name), "later-%u", i);
		rig_expect_in(r, name, "", "");
	}
	snprintf(path, sizeof(path), "%s/runs/turn-1", r->state);
	for (int i = 0; i < 1000 && stat(path, &st) == 0; i++)
		rig_expect_in(r, name, "", ""); /* they are removed by another thread */
	assert_int_equal(stat(path, &st), -1);
}

/* The daemon's own files below a workspace are an empty place in the cell. */
static void
test_hidden(void **state)
{
	struct rig *r = *state;
	char path[RIG_PATH + 32];

	snprintf(path, sizeof(path), "%s/key", r->hidden);
	assert_int_equal(file_write(path, STR("secret"), 0644, NULL), 0);
	rig_expect(r, "ls -A .daemon; cat .daemon/key 2>/dev/null; touch .daemon/x 2>/dev/null || echo nothing there",
		"nothing there\n");
	rig_expect(r, "mv .daemon elsewhere 2>/dev/null || echo stays; rmdir .daemon 2>/dev/null || echo stays", "stays\nstays\n");
	r->plan.access = CELL_HOST; /* the control: it is there */
	rig_expect(r, "cat .daemon/key", "secret");
}

/* Nor can a directory above them be moved away, so that the next cell would hide the wrong place. */
static void
test_hidden_deep(void **state)
{
	struct rig *r = *state;
	struct err e = { 0 };
	char path[RIG_PATH + 32];

	snprintf(r->hidden, RIG_PATH, "%.200s/a/b/daemon", r->shared);
	assert_int_equal(path_mkdirs(r->hidden, 0755, &e), 0);
	snprintf(path, sizeof(path), "%s/key", r->hidden);
	assert_int_equal(file_write(path, STR("secret"), 0644, NULL), 0);
	rig_spawn(r);
	rig_peer(r);
	rig_expect(r, "mv a x 2>/dev/null || echo stays; mv a/b y 2>/dev/null || echo stays; mkdir -p a/b/daemon; touch a/new a/b/new;"
		  "ls -A a a/b a/b/daemon", "stays\nstays\na:\nb\nnew\n\na/b:\ndaemon\nnew\n\na/b/daemon:\n");
	r->plan.tmp_bytes = 32 * MIB; /* a new cell */
	rig_expect(r, "find . -name key", "");
	r->plan.access = CELL_HOST; /* the control: it is there, and can be moved */
	rig_expect(r, "mv a x; find . -name key", "./x/b/daemon/key\n");
	r->plan.access = CELL_WORKSPACE_WRITE; /* what was moved from outside is not shown */
	struct outcome o;
	rig_sh(r, "find . -name key", &o);
	assert_int_equal(o.e.code, ERR_CONFLICT);
	outcome_fini(&o);
}

/* danger_full_access: the host's tree and the daemon's user, but still the end of the whole tree. */
static void
test_host(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct id id = id_new();
	char text[RIG_PATH + 64];

	r->plan.access = CELL_HOST;
	snprintf(text, sizeof(text), "%s\n%d\n", r->shared, (int)geteuid());
	rig_expect(r, "pwd; id -u", text);
	struct exec_request q = rig_request(r, id.z,
		"(setsid sh -c 'while :; do echo x >> alive; sleep 0.01; done' &); echo begun; sleep 60");
	q.timeout_ms = 300;
	rig_run(r, &q, &o);
	assert_true(o.st.timed_out);
	outcome_fini(&o);
	rig_expect(r, "a=$(wc -c < alive); sleep 0.1; b=$(wc -c < alive); [ $a = $b ] && echo dead", "dead\n");
	rig_expect(r, "(setsid sleep 60 &) ; echo over", "over\n"); /* ends at once, leftovers are killed */
}

/* The end of a runtime: who waits hears that the link is gone, at once; the command goes on and can be taken up again. */
static void
test_detach(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct answer x;
	struct err e = { 0 };
	struct file_request f = { .cell = "cell-1", .plan = &r->plan, .op = "stat", .params = STR("{\"path\":\"a\"}") };
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo begun; read x < go; echo over");
	char path[RIG_PATH + 8];

	snprintf(path, sizeof(path), "%s/go", r->shared);
	assert_int_equal(mkfifo(path, 0666), 0);
	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	answer_init(&x, r);
	assert_int_equal(sandbox_file(r->sb, &f, rig_reply, &x, &e), 0);
	sandbox_detach(r->sb);
	assert_true(o.is_over && x.is_over);
	assert_int_equal(o.e.code, ERR_GONE);
	assert_int_equal(x.e.code, ERR_GONE);
	assert_false(sandbox_is_up(r->sb));
	assert_int_equal(sandbox_file(r->sb, &f, rig_reply, &x, &e), ERR_GONE);
	sandbox_detach(r->sb); /* nothing is left to do */
	answer_fini(&x);
	outcome_fini(&o);

	rig_peer(r);
	q.only_resume = true;
	rig_begin(r, &q, &o);
	int go = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(write(go, "g\n", 2), 2);
	rig_finish(&o);
	close(go);
	assert_string_equal(buf_z(&o.out), "begun\nover\n");
	outcome_fini(&o);
}

static void
test_mode_max(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->mode_max = "read_only";
	rig_spawn(r);
	rig_peer(r);
	rig_sh(r, "true", &o);
	assert_int_equal(o.e.code, ERR_DENIED);
	assert_non_null(strstr(o.e.msg, "mode_max"));
	outcome_fini(&o);
	r->plan.access = CELL_READ_ONLY;
	rig_expect(r, "echo fine", "fine\n");
}

static void
test_processes(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->plan.processes = 16;
	rig_sh(r, "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all", &o);
	assert_null(strstr(buf_z(&o.out), "all"));
	assert_true(o.err.n > 0); /* sh: Cannot fork */
	outcome_fini(&o);
	rig_expect(r, "echo next", "next\n");
}

static void
test_memory(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->plan.memory_bytes = 64 * MIB;
	rig_sh(r, "head -c 300000000 /dev/zero | tail", &o); /* tail keeps it all: there is no line end */
	if (sandbox_facts(r->sb)->limits == LIMITS_CGROUP)
		assert_true(o.st.out_of_memory);
	assert_true(o.st.signal != 0 || o.st.exit_code != 0);
	outcome_fini(&o);
	rig_expect(r, "echo next", "next\n");
}

/* Each process is below the limit, together they are not: without a cgroup a watchdog looks at the whole cell. */
static void
test_memory_of_many(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->plan.memory_bytes = 96 * MIB;
	rig_sh(r, "for i in 1 2 3 4 5 6 7 8; do (head -c 20000000 /dev/zero; sleep 2) | tail > /dev/null & done; wait; exit 9", &o);
	assert_true(o.st.out_of_memory || o.st.exit_code == 9);
	if (sandbox_facts(r->sb)->limits == LIMITS_SOFT)
		assert_true(o.st.out_of_memory);
	outcome_fini(&o);
}

static void
test_file_size(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->plan.file_bytes = 1 * MIB;
	rig_sh(r, "head -c 3000000 /dev/zero > big; stat -c %s big", &o);
	assert_string_equal(buf_z(&o.out), "1048576\n");
	outcome_fini(&o);
}

static void
test_require_limits(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	r->plan.require_limits = true;
	rig_sh(r, "true", &o);
	if (sandbox_facts(r->sb)->limits == LIMITS_CGROUP)
		assert_int_equal(o.e.code, 0);
	else
		assert_int_equal(o.e.code, ERR_UNSUPPORTED);
	outcome_fini(&o);
}

static size_t
count_files(const char *dir)
{
	size_t n = 0;
	DIR *d = opendir(dir);
	if (d == NULL)
		return 0;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d))
		n += x->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Closing ends what runs; forgetting removes the spool and the state, however deep and locked a tree is. */
static void
test_close(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct answer x;
	struct err e = { 0 };
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo a; sleep 60");

	rig_expect(r, "cd ~ && x=d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d && i=0 && "
		  "while [ $i -lt 75 ]; do mkdir -p $x && cd $x && touch f && i=$((i+1)); done; "
		  "mkdir -p ~/locked/in && chmod 0 ~/locked; ln -s /shared ~/link; echo keep > /shared/keep", "");
	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	answer_init(&x, r);
	assert_int_equal(sandbox_cell_close(r->sb, "cell-1", true, rig_reply, &x, &e), 0);
	rig_finish(&o);
	assert_true(o.st.killed);
	outcome_fini(&o);
	answer_wait(&x);
	assert_int_equal(x.e.code, 0);
	answer_fini(&x);
	assert_int_equal(count_files(r->spool), 0);
	assert_int_equal(access(r->state, F_OK), -1);
	rig_expect(r, "cat /shared/keep", "keep\n");
}

/* A link that a cell left in a directory without write permission is not followed when that is removed. */
static void
test_close_locked(void **state)
{
	struct rig *r = *state;
	struct answer x;
	struct err e = { 0 };
	struct stat st;
	char path[RIG_PATH + 32], command[2 * RIG_PATH + 160];

	snprintf(path, sizeof(path), "%s/theirs", r->dir);
	assert_int_equal(file_write(path, STR("x"), 0644, &e), 0);
	snprintf(command, sizeof(command), "ln -s %s ~/link && mkdir ~/d && ln -s %s ~/d/link && chmod 0500 ~/d ~", path, path);
	rig_expect(r, command, "");
	answer_init(&x, r);
	assert_int_equal(sandbox_cell_close(r->sb, "cell-1", true, rig_reply, &x, &e), 0);
	answer_wait(&x);
	answer_fini(&x);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(access(r->state, F_OK), -1);
}

static void
test_warm(void **state)
{
	struct rig *r = *state;
	sandbox_warm(r->sb, "cell-1", &r->plan, NULL);
	rig_expect(r, "echo warm", "warm\n");
}

static void
test_file(void **state)
{
	struct rig *r = *state;
	struct answer x;
	struct err e = { 0 };
	struct file_request q = { .cell = "cell-1", .plan = &r->plan, .op = "write",
		.params = STR("{\"path\":\"a.txt\"}"), .content = STR("content") };

	answer_init(&x, r);
	assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_int_equal(x.e.code, 0);
	assert_int_equal(node_int(x.head, "size", 0), 7);
	answer_fini(&x);
	rig_expect(r, "cat a.txt", "content");

	answer_init(&x, r);
	q = (struct file_request){ .cell = "cell-1", .plan = &r->plan, .op = "read", .params = STR("{\"path\":\"a.txt\"}") };
	assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_string_equal(buf_z(&x.tail), "content");
	answer_fini(&x);

	answer_init(&x, r);
	q.params = STR("{\"path\":\"/etc/shadow\"}");
	assert_int_equal(sandbox_file(r->sb, &q, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_int_equal(x.e.code, ERR_NOT_FOUND);
	assert_int_equal(x.e.to, ERR_TO_MODEL);
	answer_fini(&x);
}

/* The runner dies; shelld and a command live on; a new runner takes over and gives a new runtime. */
static void
test_adoption(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct err e = { 0 };
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "echo a; while [ ! -e go ]; do sleep 0.01; done; echo b");
	char path[RIG_PATH + 32];

	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	outcome_fini(&o);
	sandbox_free(r->sb);
	wire_close(r->runner);
	r->is_ready = false;
	snprintf(path, sizeof(path), "%s/shelld.sock", r->run);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	int fd = unix_connect(path, &e);
	assert_true(fd >= 0);
	r->runner = wire_open(r->l, fd, ROLE_RUNNER, ROLE_SHELLD, &rig_runner_handler, r);
	while (!r->is_ready)
		rig_wait(r);
	assert_true(r->was_adopted);
	r->sb = sandbox_new(r->l, rig_state, r);
	rig_peer(r);
	q.only_resume = true;
	rig_begin(r, &q, &o);
	snprintf(path, sizeof(path), "%s/go", r->shared);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	rig_finish(&o);
	assert_string_equal(buf_z(&o.out), "a\nb\n");
	outcome_fini(&o);
}

/* A shelld that ends is nobody's to adopt, and what comes on a link that it still has is asked of the next one. */
static void
test_stopping(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	struct answer x;
	struct err e = { 0 };
	struct file_request f = { .cell = "cell-2", .plan = &r->plan, .op = "write", .params = STR("{\"path\":\"a\"}"),
		.content = STR("content") };
	struct stat st;
	char path[RIG_PATH + 32];

	rig_sh(r, "echo made", &o);
	outcome_fini(&o);
	wire_begin(r->runner, WIRE_STOP, 0);
	assert_int_equal(wire_end(r->runner, STR(""), -1), 0);
	answer_init(&x, r);
	assert_int_equal(sandbox_file(r->sb, &f, rig_reply, &x, &e), 0);
	answer_wait(&x);
	assert_int_equal(x.e.code, ERR_GONE); /* never an error that would make the call not done for good */
	answer_fini(&x);
	while (!r->guest_ended)
		rig_wait(r);
	snprintf(path, sizeof(path), "%s/shelld.sock", r->run);
	assert_int_equal(stat(path, &st), -1);
	rig_spawn(r);
	rig_peer(r);
}

/* Of two runners the first stays. */
static void
test_second_runner(void **state)
{
	struct rig *r = *state;
	struct err e = { 0 };
	char path[RIG_PATH + 32], c;
	snprintf(path, sizeof(path), "%s/shelld.sock", r->run);
	int fd = unix_connect(path, &e);
	assert_true(fd >= 0);
	fcntl(fd, F_SETFL, 0);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
	rig_expect(r, "echo fine", "fine\n");
}

/* Nobody comes back: shelld ends by itself and takes everything along. */
static void
test_orphan(void **state)
{
	struct rig *r = *state;
	struct outcome o;
	int alive = rig_alive(r);

	r->orphan_ms = 300;
	rig_spawn(r);
	rig_peer(r);
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "exec 3>alive; while :; do echo x >&3; echo x; sleep 0.01; done");
	rig_begin(r, &q, &o);
	o.stop_after = 2;
	rig_wait(r);
	o.stop_after = 0;
	sandbox_free(r->sb);
	outcome_fini(&o);
	int64_t began = clock_mono_ms();
	while (!r->guest_ended)
		rig_wait(r);
	assert_true(clock_mono_ms() - began >= 250);
	assert_int_equal(r->guest_status, 0);
	rig_expect_dead(alive);
	r->sb = sandbox_new(r->l, rig_state, r);
}

/* SIGKILL to shelld: zygote, cell inits and commands end with it. */
static void
test_killed(void **state)
{
	static const enum cell_access modes[] = { CELL_WORKSPACE_WRITE, CELL_HOST };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		struct outcome o;
		int alive = rig_alive(r);
		struct id id = id_new();
		r->plan.access = modes[i];
		rig_spawn(r);
		rig_peer(r);
		struct exec_request q = rig_request(r, id.z,
			"exec 3>alive; setsid sh -c 'while :; do echo x >&3; sleep 0.01; done' & "
			"while :; do echo x; sleep 0.01; done");
		rig_begin(r, &q, &o);
		o.stop_after = 2;
		rig_wait(r);
		o.stop_after = 0;
		rig_expect_alive(alive);
		child_kill(r->guest, SIGKILL);
		while (!r->guest_ended || !o.is_over)
			rig_wait(r);
		outcome_fini(&o);
		rig_expect_dead(alive);
	}
}

struct checked {
	struct rig *r;
	size_t n, held;
	char failed[256];
	struct err e;
	bool is_over;
};

static void
on_check(void *arg, const struct sandbox_check_row *rows, size_t n, const struct err *e)
{
	struct checked *c = arg;
	c->n = n;
	c->is_over = true;
	if (e != NULL)
		c->e = *e;
	for (size_t i = 0; i < n; i++) {
		c->held += rows[i].holds;
		if (!rows[i].holds)
			snprintf(c->failed + strlen(c->failed), sizeof(c->failed) - strlen(c->failed), "%s ", rows[i].name);
	}
	loop_stop(c->r->l);
}

/* Whatever is tried is tried for a row, and every row but those that only look has attempts. */
static void
test_check_table(void **state)
{
	static const char *const looks[] = { "user", "work" };
	const char *name, *text;

	for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a)) {
		size_t i = 0;
		while (a->wall != NULL && sandbox_check_text(i, &name, &text) && strcmp(name, a->wall) != 0)
			i++;
		if (a->wall != NULL && !sandbox_check_text(i, &name, &text))
			fail_msg("%s belongs to no row: %s", a->name, a->wall);
	}
	for (size_t i = 0; sandbox_check_text(i, &name, &text); i++) {
		bool is_tried = false, is_look = false;
		for (size_t k = 0; k < ARRAY_LEN(looks); k++)
			is_look = is_look || strcmp(looks[k], name) == 0;
		for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a))
			is_tried = is_tried || (a->wall != NULL && strcmp(a->wall, name) == 0);
		if (is_tried == is_look)
			fail_msg("%s: %s", name, is_look ? "has attempts" : "nothing is tried");
	}
}

/* The self-test holds in a full cell; its control is a cell that is none. */
static void
test_check(void **state)
{
	static const char *const never[] = { "capabilities ", "seccomp ", "setuid ", "files ", "processes ", "network ", "memory " };
	struct rig *r = *state;
	struct checked c = { .r = r };
	struct err e = { 0 };
	char program[RIG_PATH], socket[RIG_PATH + 16];

	rig_guest_path(program);
	snprintf(socket, sizeof(socket), "%s/decoy.sock", r->dir);
	int fd = unix_listen(socket, 0600, &e);
	assert_true(fd >= 0);
	struct check_spec spec = { .plan = &r->plan, .program = program, .dir = r->dir, .socket = socket };
	assert_int_equal(sandbox_check(r->sb, &spec, on_check, &c, &e), 0);
	while (!c.is_over)
		rig_wait(r);
	if (c.e.code != 0 || c.n == 0 || c.held != c.n)
		fail_msg("does not hold: %s%s", c.failed, c.e.msg);
	c = (struct checked){ .r = r };
	r->plan.access = CELL_HOST;
	assert_int_equal(sandbox_check(r->sb, &spec, on_check, &c, &e), 0);
	while (!c.is_over)
		rig_wait(r);
	assert_int_equal(c.e.code, 0);
	for (size_t i = 0; i < ARRAY_LEN(never); i++) /* whoever the user is, and whatever the host has */
		if (strstr(c.failed, never[i]) == NULL)
			fail_msg("%s holds without a cell; not: %s", never[i], c.failed);
	close(fd);
}

/* Without its zygote shelld can make nothing: it ends with an error, so that its runner starts another. */
static void
test_zygote_killed(void **state)
{
	struct rig *r = *state;
	char path[64], text[64] = { 0 };
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)child_pid(r->guest), (int)child_pid(r->guest));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(kill((pid_t)strtol(text, NULL, 10), SIGKILL), 0);
	while (!r->guest_ended)
		rig_wait(r);
	assert_true(WIFEXITED(r->guest_status));
	assert_int_equal(WEXITSTATUS(r->guest_status), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_facts, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_plans, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_keys, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_workspace_replaced, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_walls, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_read_only, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_places, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_state, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_runs, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_hidden, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_hidden_deep, setup_empty, rig_teardown),
		cmocka_unit_test_setup_teardown(test_host, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_mode_max, setup_empty, rig_teardown),
		cmocka_unit_test_setup_teardown(test_detach, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_processes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_memory, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_memory_of_many, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_file_size, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_require_limits, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_close, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_close_locked, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_warm, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_file, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_adoption, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopping, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_second_runner, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_orphan, setup_empty, rig_teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup_empty, rig_teardown),
		cmocka_unit_test(test_check_table), cmocka_unit_test_setup_teardown(test_check, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_zygote_killed, rig_setup, rig_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
