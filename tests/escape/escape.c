/* SPDX-License-Identifier: MIT
 * Ways out of a cell (sandbox/attempt.h), each tried twice by the same program: inside a cell, where it must be denied, and outside, where
 * it must work, so that a denial means a wall and not a mistake of the test. Outside it acts on decoys that this driver
 * made, or in namespaces of its own. A control that cannot work here (no root, no such kernel feature) is a SKIP that
 * says why; the denial is asserted all the same.
 *   escape [--owner-nobody]   the workspace belongs to nobody, the daemon to root */
#include <arpa/inet.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include "../unit/sandbox/rig.h"
#include "sandbox/attempt.h"

#define NOBODY          65534
#define WORKED          ATTEMPT_WORKED
#define DENIED          ATTEMPT_DENIED
#define SKIPPED         ATTEMPT_SKIPPED
#define CONTROL_MAX_MS  20000
#define ENV_MAX         28

/* Where the control runs. */
enum stage {
	HOST, /* as this driver */
	SPACE, /* as root of new user, mount, process and network namespaces */
	OTHER, /* as nobody, when the driver is root */
};
enum { ROOT = 1, /* the control needs root */ KERNEL = 2 /* or something that a kernel may lack or switch off */ };

static const struct trial {
	const char *name;
	enum stage stage;
	int needs;
} trials[] = {
	{ "read_outside", HOST, 0 }, { "write_outside", HOST, 0 }, { "create_outside", HOST, 0 },
	{ "dot_dot", HOST, 0 }, { "symlink", HOST, 0 }, { "hard_link", HOST, 0 }, { "write_system", HOST, ROOT },
	{ "shadow", HOST, ROOT }, { "daemon_memory", HOST, 0 }, { "proc_root", HOST, 0 }, { "proc_mem", HOST, 0 },
	{ "proc_fd", HOST, 0 }, { "sysrq", HOST, ROOT | KERNEL }, { "core_pattern", HOST, ROOT },
	{ "kernel_symbols", HOST, KERNEL }, { "chmod_device", HOST, ROOT }, { "make_device", HOST, ROOT },
	{ "use_device", HOST, ROOT }, { "handle", HOST, ROOT | KERNEL }, { "signal", HOST, 0 },
	{ "ptrace_other", HOST, KERNEL }, { "ptrace_child", HOST, 0 }, { "read_process", HOST, KERNEL },
	{ "steal_descriptor", HOST, KERNEL }, { "mount", SPACE, 0 }, { "bind", SPACE, 0 }, { "umount", SPACE, 0 },
	{ "open_tree", SPACE, 0 }, { "chroot", SPACE, 0 }, { "unshare_user", HOST, KERNEL },
	{ "clone_user", HOST, KERNEL }, { "clone3_user", HOST, KERNEL }, { "setns", SPACE, 0 },
	{ "host_name", SPACE, 0 }, { "connect", HOST, 0 }, { "control_socket", HOST, 0 },
	{ "abstract_socket", HOST, 0 }, { "raw_socket", SPACE, 0 }, { "packet_socket", SPACE, KERNEL },
	{ "see_roles", HOST, 0 }, { "udp", HOST, 0 }, { "vsock", HOST, KERNEL }, { "alg", HOST, KERNEL },
	{ "netlink_uevent", HOST, KERNEL }, { "netlink_netfilter", HOST, KERNEL }, { "host_shm", HOST, 0 }, { "host_mq", HOST, KERNEL },
	{ "sys_write", HOST, ROOT | KERNEL }, { "kvm", HOST, KERNEL }, { "session_key", HOST, KERNEL }, { "core", HOST, KERNEL },
	{ "core_handler", HOST, 0 }, { "core_memory", HOST, KERNEL },
	{ "netlink_audit", HOST, KERNEL }, { "keyctl", HOST, KERNEL }, { "add_key", HOST, KERNEL },
	{ "bpf", HOST, ROOT | KERNEL }, { "perf", HOST, KERNEL }, { "io_uring", HOST, KERNEL },
	{ "userfaultfd", HOST, KERNEL }, { "foreign_abi", HOST, KERNEL }, { "x32", HOST, KERNEL },
	{ "tiocsti", HOST, KERNEL }, { "tiocsti_high_bits", HOST, KERNEL }, { "setuid_program", OTHER, ROOT },
	{ "capability", HOST, ROOT }, { "descriptors", HOST, 0 }, { "signals", HOST, 0 }, { "environment", HOST, 0 },
	{ "setid_chmod", HOST, 0 }, { "setid_fchmod", HOST, 0 }, { "setid_fchmodat", HOST, 0 },
	{ "setid_fchmodat2", HOST, KERNEL }, { "setid_high_bits", HOST, 0 }, { "setid_open", HOST, 0 },
	{ "setid_openat", HOST, 0 }, { "setid_openat2", HOST, 0 }, { "setid_tmpfile", HOST, KERNEL },
	{ "setid_tmpfile_at", HOST, KERNEL }, { "setid_creat", HOST, 0 }, { "setid_mknod", HOST, 0 },
	{ "setid_mknodat", HOST, 0 }, { "fork_bomb", HOST, 0 }, { "memory_bomb", HOST, 0 }, { "big_file", HOST, 0 },
};

struct world {
	struct rig r;
	char control_dir[RIG_PATH], file[RIG_PATH], socket[RIG_PATH], attack[RIG_PATH];
	char env[ENV_MAX][RIG_PATH + 32];
	const char *env_list[ENV_MAX + 1];
	size_t env_n;
	pid_t decoy;
	int tcp, unix_path, unix_abstract, shm;
	char mq[32];
};

/* The one world of this driver: cmocka hands a test only its row. */
static struct world *w;

/* ---- decoys ---- */

static void
put_env(const char *name, const char *value)
{
	assert_true(w->env_n < ENV_MAX);
	snprintf(w->env[w->env_n], sizeof(w->env[0]), "%s=%s", name, value);
	w->env_list[w->env_n] = w->env[w->env_n];
	w->env_n++;
}

static void
put_number(const char *name, long n)
{
	char text[32];
	snprintf(text, sizeof(text), "%ld", n);
	put_env(name, text);
}

static int
listen_tcp(int *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static int
listen_abstract(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + 1, name, strlen(name));
	assert_int_equal(bind(fd, (struct sockaddr *)&a,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

/* The decoy process answers every datagram. */
static int
bind_udp(int *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void
answer_udp(int fd)
{
	struct sockaddr_in from;
	char c;

	for (;;) {
		socklen_t n = sizeof(from);
		if (recvfrom(fd, &c, 1, 0, (struct sockaddr *)&from, &n) >= 0)
			(void)!sendto(fd, &c, 1, 0, (struct sockaddr *)&from, n);
	}
}

/* Names that mean something to the whole machine, or to whoever has our keyring. */
static void
make_names(void)
{
	int key = (int)getpid() | 0x40000000;
	char name[32];

	w->shm = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0666);
	assert_true(w->shm >= 0);
	put_number("DECOY_SHM", key);
	snprintf(w->mq, sizeof(w->mq), "ithaca-escape-%d", (int)getpid());
	int mq = (int)syscall(SYS_mq_open, w->mq, O_RDWR | O_CREAT | O_CLOEXEC, 0666, NULL);
	if (mq >= 0)
		close(mq);
	put_env("DECOY_MQ", w->mq);
	snprintf(name, sizeof(name), "ithaca-escape-%d", (int)getpid());
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	(void)syscall(SYS_add_key, "user", name, "secret", 6, KEY_SPEC_SESSION_KEYRING);
	put_env("DECOY_KEY", name);
}

static void
copy_file(const char *from, const char *to, mode_t mode)
{
	char *text;
	size_t n;
	struct err e = { 0 };
	if (file_read(from, 64 * MIB, &text, &n, &e) != 0 || file_write(to, (struct str){ text, n }, mode, &e) != 0)
		fail_msg("%s", e.msg);
	free(text);
}

static void
make_decoys(bool owner_is_nobody)
{
	char path[RIG_PATH + 32], name[64];
	struct err e = { 0 };
	int port, udp, udp_port;

	rig_built_guest(w->attack); /* static and never sanitized, so that it runs in a cell as it does outside */
	snprintf(w->control_dir, RIG_PATH, "%s/control", w->r.dir);
	assert_int_equal(mkdir(w->control_dir, 0755), 0);
	snprintf(w->file, RIG_PATH, "%s/secret", w->r.dir);
	assert_int_equal(file_write(w->file, STR("the daemon's key"), 0666, &e), 0);
	snprintf(w->socket, RIG_PATH, "%s/control.sock", w->r.dir);
	w->unix_path = unix_listen(w->socket, 0777, &e);
	assert_true(w->unix_path >= 0);
	snprintf(name, sizeof(name), "ithaca-escape-%d", (int)getpid());
	w->unix_abstract = listen_abstract(name);
	w->tcp = listen_tcp(&port);
	udp = bind_udp(&udp_port);
	w->decoy = fork();
	if (w->decoy == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "ithaca-zygote"); /* those of a machine are not to be seen outside of it */
		close(0);
		(void)!open("/dev/null", O_RDONLY);
		answer_udp(udp);
	}
	close(udp);
	put_env("DECOY_FILE", w->file);
	put_env("DECOY_DIR", w->r.dir);
	put_env("DECOY_SOCKET", w->socket);
	put_env("DECOY_ABSTRACT", name);
	put_number("DECOY_PORT", port);
	put_number("DECOY_UDP", udp_port);
	make_names();
	put_number("DECOY_PID", w->decoy);
	put_number("DECOY_FORKS", 200);
	put_number("DECOY_MEGABYTES", 200);
	snprintf(path, sizeof(path), "%s/attack", w->r.shared);
	copy_file(w->attack, path, 0755);
	if (geteuid() == 0) {
		snprintf(path, sizeof(path), "%s/node", w->r.shared);
		assert_int_equal(mknod(path, S_IFCHR | 0666, makedev(1, 3)), 0);
		assert_int_equal(chmod(path, 0666), 0);
		put_env("DECOY_NODE", "node");
		snprintf(path, sizeof(path), "%s/node", w->control_dir);
		assert_int_equal(mknod(path, S_IFCHR | 0666, makedev(1, 3)), 0);
		snprintf(path, sizeof(path), "%s/setuid", w->r.shared);
		copy_file(w->attack, path, 0755);
		assert_int_equal(chmod(path, 04755), 0);
		snprintf(path, sizeof(path), "%s/setuid", w->control_dir);
		copy_file(w->attack, path, 0755);
		assert_int_equal(chmod(path, 04755), 0);
		put_env("DECOY_SETUID", "./setuid");
	}
	assert_int_equal(chmod(w->r.dir, 0755), 0);
	if (owner_is_nobody)
		assert_int_equal(chown(w->r.shared, NOBODY, NOBODY), 0);
}

static int
setup(void **state)
{
	w = xcalloc(1, sizeof(*w));
	rig_init(&w->r);
	make_decoys(getenv("OWNER_NOBODY") != NULL);
	w->r.plan.memory_bytes = 128 * MIB;
	w->r.plan.processes = 64;
	w->r.plan.file_bytes = 16 * MIB;
	w->r.plan.tmp_bytes = 16 * MIB;
	rig_spawn(&w->r);
	rig_peer(&w->r);
	return 0;
}

static int
teardown(void **state)
{
	kill(w->decoy, SIGKILL);
	waitpid(w->decoy, NULL, 0);
	shmctl(w->shm, IPC_RMID, NULL);
	(void)syscall(SYS_mq_unlink, w->mq);
	close(w->tcp);
	close(w->unix_path);
	close(w->unix_abstract);
	rig_stop(&w->r);
	free(w);
	return 0;
}

/* ---- inside ---- */

static void
in_cell(const char *command, struct outcome *o)
{
	struct id id = id_new();
	struct exec_request q = rig_request(&w->r, id.z, command);
	q.env = w->env_list;
	rig_run(&w->r, &q, o);
	if (o->e.code != 0)
		fail_msg("%s: %s", command, o->e.msg);
}

static void
assert_denied(const struct trial *a)
{
	struct outcome o;
	char command[128];

	snprintf(command, sizeof(command), "DECOY_INIT=1 exec ./attack --attempt %s", a->name);
	in_cell(command, &o);
	bool is_skipped = o.st.exit_code == SKIPPED && (a->needs & ROOT) != 0 && geteuid() != 0;
	bool was_killed = o.st.signal == SIGKILL || o.st.out_of_memory; /* by a limit */
	if (!was_killed && !is_skipped && o.st.exit_code != DENIED)
		fail_msg("%s: not denied in the cell: exit %d, signal %d, \"%s\" %s", a->name, o.st.exit_code, o.st.signal,
			buf_z(&o.out), buf_z(&o.err));
	print_message("   cell: %s%s\n", is_skipped ? "SKIP: " : "", was_killed ? "killed at a limit" : buf_z(&o.out));
	outcome_fini(&o);
}

/* ---- outside ---- */

static void
write_map(const char *path, int id)
{
	char text[64];
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int n = id < 0 ? snprintf(text, sizeof(text), "deny") : snprintf(text, sizeof(text), "0 %d 1\n", id);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		_exit(SKIPPED);
	close(fd);
}

/* A world of its own for the controls that mount, so that nothing of the host is touched. */
static void
enter_space(void)
{
	int uid = (int)geteuid(), gid = (int)getegid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
		_exit(SKIPPED);
	write_map("/proc/self/setgroups", -1);
	write_map("/proc/self/uid_map", uid);
	write_map("/proc/self/gid_map", gid);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		_exit(SKIPPED);
	setenv("DECOY_STAGE", "1", 1);
	pid_t pid = fork();
	if (pid != 0) {
		int status;
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : SKIPPED);
	}
}

static void
control_child(const struct trial *a, int out)
{
	char decoy[32], program[RIG_PATH + 32];

	dup2(out, 1);
	if (chdir(w->control_dir) != 0)
		_exit(2);
	for (size_t i = 0; i < w->env_n; i++)
		putenv(w->env[i]);
	snprintf(decoy, sizeof(decoy), "%d", (int)w->decoy);
	setenv("DECOY_INIT", decoy, 1);
	setenv("DECOY_DEVICE", "node", 1);
	setenv("LEAK", "secret", 1);
	signal(SIGPIPE, strcmp(a->name, "signals") == 0 ? SIG_IGN : SIG_DFL);
	if (strcmp(a->name, "descriptors") == 0)
		(void)!open("/dev/null", O_RDONLY); /* without close-on-exec */
	alarm(CONTROL_MAX_MS / 1000);
	if (a->stage == SPACE)
		enter_space();
	if (a->stage == OTHER && (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
		_exit(SKIPPED);
	/* The copy: a build below root's home cannot be run by another user. */
	snprintf(program, sizeof(program), "%s/attack", w->r.shared);
	execl(program, "attack", "--attempt", a->name, (char *)NULL);
	_exit(127);
}

static int
control(const struct trial *a, char *said, size_t said_n)
{
	int out[2], status;
	size_t n = 0;
	ssize_t got;

	assert_int_equal(pipe(out), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(out[0]);
		control_child(a, out[1]);
	}
	close(out[1]);
	while (n + 1 < said_n && (got = read(out[0], said + n, said_n - n - 1)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(out[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void
test_attempt(void **state)
{
	const struct trial *a = *state;
	char said[256];

	assert_denied(a);
	if ((a->needs & ROOT) != 0 && geteuid() != 0) {
		print_message("   SKIP the control of %s: it needs root\n", a->name);
		return;
	}
	int r = control(a, said, sizeof(said));
	if (r == WORKED) {
		print_message("   outside: it works %s\n", said);
		return;
	}
	if ((a->needs & KERNEL) == 0 && !(a->stage == SPACE && r == SKIPPED))
		fail_msg("%s: the control does not work: %d %s", a->name, r, said);
	print_message("   SKIP the control of %s: this machine refuses it too (%s)\n", a->name, said);
}

/* ---- trials that take more than one call ---- */

/* Nothing survives its timeout; without a cell the same command leaves a writer behind, who ends by himself. */
static void
test_outlive(void **state)
{
	static const char command[] =
		"exec 3>alive; (setsid sh -c 'i=0; while [ $i -lt 400 ]; do echo x >&3; sleep 0.01; i=$((i+1)); done' &);"
		"(nohup sh -c 'exec sleep 1' >/dev/null 2>&1 &); echo begun; exec sleep 1000";
	struct id id = id_new();
	struct exec_request q = rig_request(&w->r, id.z, command);
	struct outcome o;
	int alive = rig_alive(&w->r);
	bool is_machine = w->r.tier.tier == &tier_microvm;
	struct outcome reader;
	char c;

	/* A fifo has two sides for each kernel: in a machine another command holds the reading one. */
	struct id reader_id = id_new();
	struct exec_request reads = rig_request(&w->r, reader_id.z, "echo ready; cat alive | uniq; echo all gone");
	if (is_machine) {
		rig_begin(&w->r, &reads, &reader);
		reader.stop_after = 1;
		rig_wait(&w->r);
		reader.stop_after = 0;
	}
	q.timeout_ms = 2000 * rig_slow(); /* in which even a busy machine begins it */
	if (is_machine) { /* whose programs may take seconds to begin */
		q.command = STR("exec 3>alive; (setsid sh -c 'while echo x >&3; do sleep 0.01; done' &); sleep 1000");
		q.timeout_ms = 5000 * rig_slow();
	}
	rig_run(&w->r, &q, &o);
	assert_true(o.st.timed_out);
	outcome_fini(&o);
	if (is_machine) {
		rig_finish(&reader);
		assert_string_equal(buf_z(&reader.out), "ready\nx\nall gone\n");
		outcome_fini(&reader);
		close(alive);
	} else {
		rig_expect_alive(alive);
		rig_expect_dead(alive);
	}

	alive = rig_alive(&w->r);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 1);
		if (chdir(w->r.shared) == 0)
			execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	rig_expect_alive(alive);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (read(alive, &c, 1) == 1) { /* what came before it died */
	}
	rig_expect_alive(alive);
	rig_expect_dead(alive);
}

/* Two commands of one cell do not see each other's processes. */
static void
test_neighbours(void **state)
{
	struct outcome other, o;
	struct id id = id_new();
	struct exec_request q = rig_request(&w->r, id.z, "echo ready; exec sleep 60");

	rig_begin(&w->r, &q, &other);
	other.stop_after = 1;
	rig_wait(&w->r);
	other.stop_after = 0;
	in_cell("cat /proc/[0-9]*/comm | grep -c sleep; kill -KILL -1 2>/dev/null; kill -9 1; echo alive", &o);
	assert_string_equal(buf_z(&o.out), "0\nalive\n");
	outcome_fini(&o);
	assert_false(other.is_over);
	exec_call_kill(other.call);
	rig_finish(&other);
	outcome_fini(&other);
}

/* Two commands of a cell share its network namespace; Landlock keeps them apart all the same. */
static void
test_landlock(void **state)
{
	struct outcome other, o;
	struct id id = id_new();
	struct exec_request q = rig_request(&w->r, id.z, "DECOY_OFFER=landlock exec ./attack --attempt offer_socket");

	if (sandbox_facts(w->r.sb)->landlock_abi < 6) { /* of the kernel that the cell is on */
		print_message("   SKIP: this kernel's Landlock has no scopes\n");
		return;
	}
	rig_begin(&w->r, &q, &other);
	other.stop_after = 1;
	rig_wait(&w->r);
	other.stop_after = 0;
	in_cell("DECOY_OFFER=landlock ./attack --attempt take_socket", &o);
	assert_int_equal(o.st.exit_code, DENIED);
	assert_string_equal(buf_z(&o.out), "Operation not permitted");
	outcome_fini(&o);
	exec_call_kill(other.call);
	rig_finish(&other);
	outcome_fini(&other);
	/* The control: within one command it works. */
	in_cell("export DECOY_OFFER=own; ./attack --attempt offer_socket | { read ready; ./attack --attempt take_socket; echo $?; kill -9 -1; }", &o);
	assert_string_equal(buf_z(&o.out), "0\n");
	outcome_fini(&o);
}

/* Two sessions: what one has lying about is nowhere for the other. The control is a second command of the same one. */
static void
test_sessions(void **state)
{
	static const char *const takes[] = { "take_shm", "take_queue", "take_semaphore", "take_tmp", "take_dev_shm", "take_home",
		"take_tcp" };
	struct outcome offer, o;
	struct id id = id_new();
	struct exec_request q = rig_request(&w->r, id.z, "exec ./attack --attempt offer_all");
	struct cell_plan plan = w->r.plan;
	char other[RIG_PATH + 8], command[64];

	snprintf(other, sizeof(other), "%s/other", w->r.cells);
	plan.state = other;
	rig_begin(&w->r, &q, &offer);
	offer.stop_after = 1;
	rig_wait(&w->r);
	offer.stop_after = 0;
	assert_string_equal(buf_z(&offer.out), "ready\n");
	for (size_t i = 0; i < ARRAY_LEN(takes); i++) {
		for (int is_own = 0; is_own < 2; is_own++) {
			struct id next = id_new();
			snprintf(command, sizeof(command), "exec ./attack --attempt %s", takes[i]);
			struct exec_request t = rig_request(&w->r, next.z, command);
			t.cell = is_own ? "cell-1" : "cell-2";
			t.plan = is_own ? &w->r.plan : &plan;
			rig_run(&w->r, &t, &o);
			assert_int_equal(o.e.code, 0);
			if (o.st.exit_code != (is_own ? WORKED : DENIED))
				fail_msg("%s from %s: exit %d, %s", takes[i], t.cell, o.st.exit_code, buf_z(&o.out));
			outcome_fini(&o);
		}
	}
	exec_call_kill(offer.call);
	rig_finish(&offer);
	outcome_fini(&offer);
}

/* Same user, other process: shelld, zygote, cell init and exec init can be neither read nor traced. */
static void
test_roles_are_closed(void **state)
{
	char path[64];
	if (geteuid() == 0 || w->r.guest == NULL) {
		print_message("   SKIP: %s\n", w->r.guest == NULL ? "it is no child of ours" : "root may read every process");
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)child_pid(w->r.guest));
	assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EACCES);
}

/* The daemon's own directory below a workspace, tried by every path that leads there. */
static void
test_hidden(void **state)
{
	struct outcome o;
	char path[RIG_PATH + 16];

	snprintf(path, sizeof(path), "%s/key", w->r.hidden);
	assert_int_equal(file_write(path, STR("secret"), 0644, NULL), 0);
	in_cell("cat .daemon/key /shared/.daemon/key ./.daemon/../.daemon/key; cat /proc/self/cwd/.daemon/key; "
		   "ln -s .daemon/key l; cat l; umount .daemon; mv .daemon away; rmdir .daemon; find . -name key | xargs cat", &o);
	assert_null(strstr(buf_z(&o.out), "secret"));
	outcome_fini(&o);
	assert_int_equal(access(path, F_OK), 0);
}

static void
test_tmp_limit(void **state)
{
	struct outcome o;
	in_cell("head -c 10000000 /dev/zero > /tmp/a && head -c 10000000 /dev/zero > /tmp/b", &o);
	assert_int_not_equal(o.st.exit_code, 0);
	assert_non_null(strstr(buf_z(&o.err), "No space left"));
	outcome_fini(&o);
	in_cell("rm -f /tmp/a /tmp/b; head -c 10000000 /dev/zero > /tmp/a && echo fits; rm /tmp/a", &o);
	assert_string_equal(buf_z(&o.out), "fits\n");
	outcome_fini(&o);
	in_cell("mkdir /tmp/n && cd /tmp/n && seq 1 4000 | xargs touch && echo fit; seq 4001 9000 | xargs touch; rm -rf /tmp/n", &o);
	assert_string_equal(buf_z(&o.out), "fit\n"); /* empty files are counted too */
	assert_non_null(strstr(buf_z(&o.err), "No space left"));
	outcome_fini(&o);
}

/* mkdir has no row: the kernel takes the bits out of its mode, inside and outside. */
static void
test_setid_directory(void **state)
{
	struct outcome o;
	struct stat st;
	char path[RIG_PATH + 16];

	snprintf(path, sizeof(path), "%s/bits", w->control_dir);
	assert_int_equal(mkdir(path, 06755), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & (S_ISUID | S_ISGID), 0);
	in_cell("perl -e 'mkdir \"bits\", 06755 or die' && stat -c %a bits", &o);
	assert_string_equal(buf_z(&o.out), "755\n");
	outcome_fini(&o);
}

/* What doctor tries in a cell is tried here with a control, and the other way round. */
static void
test_one_suite(void **state)
{
	size_t n = 0;

	for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a)) {
		size_t i = 0;
		while (i < ARRAY_LEN(trials) && strcmp(trials[i].name, a->name) != 0)
			i++;
		if (a->wall != NULL && i == ARRAY_LEN(trials))
			fail_msg("%s has no control", a->name);
		n += i < ARRAY_LEN(trials);
	}
	assert_int_equal(n, ARRAY_LEN(trials));
}

int
main(int argc, char **argv)
{
	struct CMUnitTest tests[ARRAY_LEN(trials) + 12] = { 0 };
	size_t n = 0;

	if (argc > 1 && strcmp(argv[1], "--owner-nobody") == 0) {
		if (geteuid() != 0) {
			print_message("SKIP: only root has workspaces of others\n");
			return 77;
		}
		setenv("OWNER_NOBODY", "1", 1);
	}
	for (; n < ARRAY_LEN(trials); n++)
		tests[n] = (struct CMUnitTest){ .name = trials[n].name, .test_func = test_attempt,
			.initial_state = (void *)(uintptr_t)&trials[n] };
	const struct CMUnitTest more[] = { cmocka_unit_test(test_outlive), cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_landlock), cmocka_unit_test(test_sessions), cmocka_unit_test(test_setid_directory),
		cmocka_unit_test(test_roles_are_closed), cmocka_unit_test(test_hidden), cmocka_unit_test(test_one_suite), cmocka_unit_test(test_tmp_limit) };
	memcpy(tests + n, more, sizeof(more));
	return _cmocka_run_group_tests("escape", tests, n + ARRAY_LEN(more), setup, teardown);
}
