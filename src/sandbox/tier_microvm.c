/* SPDX-License-Identifier: MIT
 * The microVM tier: a machine of QEMU with the distribution's kernel, an initial file system of ours, and one shared tree
 * (virtiofsd) in which everything has the path that it has on the host. It has no network device; a serial port each carries
 * the links of runner, runtime and broker. KVM is believed when a machine answered with it, not because its device is there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/tier.h"
#include "sandbox/vm.h"

#define KVM_START_MS 15000 /* a machine that does not answer by then does not work with it */
#define TCG_START_MS 90000
#define SHARE_MS     5000 /* for virtiofsd to have its socket */
#define INITRD_MAX   (64u * MIB)
#define MODULE_MAX   (4u * MIB)
#define CPUS         2

/* In this order; what the kernel has built in is not there as a file. */
static const char *const modules[] = { "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
	"virtio_console", "fuse", "virtiofs" };
static const char *const needed[] = { "virtio_console", "virtiofs" };

/* ---- finding the parts ---- */

static const char *
first_there(const char *given, const char *const *places, size_t n, int mode)
{
	if (given != NULL && given[0] != '\0')
		return access(given, mode) == 0 ? given : NULL;
	for (size_t i = 0; i < n; i++) {
		if (access(places[i], mode) == 0)
			return places[i];
	}
	return NULL;
}

struct parts {
	const char *qemu, *virtiofsd;
	char kernel[PLAN_PATH_MAX], modules[PLAN_PATH_MAX];
};

/* The newest of /boot, or the given one: vmlinuz-VERSION, with its modules in ../lib/modules/VERSION. */
static int
find_kernel(const struct tier_spec *s, struct parts *p, struct tier_reason *why)
{
	const char *given = s->microvm.kernel;
	char best[256] = "";

	if (given != NULL && given[0] != '\0') {
		snprintf(p->kernel, sizeof(p->kernel), "%s", given);
	} else {
		DIR *d = opendir("/boot");
		for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
			if (strncmp(x->d_name, "vmlinuz-", 8) == 0 && strverscmp(x->d_name, best) > 0)
				snprintf(best, sizeof(best), "%s", x->d_name);
		}
		if (d != NULL)
			closedir(d);
		snprintf(p->kernel, sizeof(p->kernel), "/boot/%s", best);
	}
	const char *name = strrchr(p->kernel, '/');
	const char *version = name == NULL ? NULL : strchr(name, '-');
	if (version == NULL || access(p->kernel, R_OK) != 0)
		return tier_refuse(why, "kernel_missing", ERR_UNSUPPORTED,
			"there is no kernel that can be read (apt-get install linux-image-cloud-amd64, or set microvm.kernel to a vmlinuz-VERSION)");
	int n = (int)(name - p->kernel);
	snprintf(p->modules, sizeof(p->modules), "%.*s/../lib/modules/%.200s", n, p->kernel, version + 1);
	if (access(p->modules, R_OK) != 0)
		return tier_refuse(why, "kernel_missing", ERR_UNSUPPORTED, "the kernel %.100s has no modules in %.100s", p->kernel, p->modules);
	return 0;
}

static int
find_parts(const struct tier_spec *s, struct parts *p, struct tier_reason *why)
{
	static const char *const qemus[] = { "/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64" };
	static const char *const shares[] = { "/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/bin/virtiofsd" };

	p->qemu = first_there(s->microvm.qemu, qemus, ARRAY_LEN(qemus), X_OK);
	p->virtiofsd = first_there(s->microvm.virtiofsd, shares, ARRAY_LEN(shares), X_OK);
	if (p->qemu == NULL)
		return tier_refuse(why, "qemu_missing", ERR_UNSUPPORTED,
			"there is no qemu-system-x86_64 (apt-get install qemu-system-x86, or set microvm.qemu)");
	if (p->virtiofsd == NULL)
		return tier_refuse(why, "virtiofsd_missing", ERR_UNSUPPORTED,
			"there is no virtiofsd to share workspaces with (apt-get install qemu-system-common, or set microvm.virtiofsd)");
	return find_kernel(s, p, why);
}

/* ---- the initial file system ---- */

struct found {
	char path[ARRAY_LEN(modules)][PLAN_PATH_MAX];
};
/* nftw has no argument; each worker thread looks for itself. */
static _Thread_local struct found *looking;

static int
on_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	const char *name = path + at->base;

	for (size_t i = 0; type == FTW_F && i < ARRAY_LEN(modules); i++) {
		size_t n = strlen(modules[i]);
		if (strncmp(name, modules[i], n) == 0 && strcmp(name + n, ".ko") == 0)
			snprintf(looking->path[i], PLAN_PATH_MAX, "%s", path);
	}
	return 0;
}

static int
add_file(struct buf *b, const char *name, unsigned mode, const char *path, size_t max, struct err *e)
{
	char *text;
	size_t n;

	if (file_read(path, max, &text, &n, e) != 0)
		return e->code;
	cpio_add(b, name, mode, (struct str){ text, n });
	free(text);
	return b->overflow ? err_set(e, ERR_LIMIT, ERR_TO_USER, "the initial file system is larger than %u bytes", INITRD_MAX) : 0;
}

static int
add_modules(struct buf *b, const struct parts *p, struct err *e)
{
	struct found *f = xcalloc(1, sizeof(*f));
	char name[64];
	int rc = 0;

	looking = f;
	(void)nftw(p->modules, on_file, 16, FTW_PHYS);
	looking = NULL;
	for (size_t i = 0; i < ARRAY_LEN(needed) && rc == 0; i++) {
		for (size_t k = 0; k < ARRAY_LEN(modules); k++) {
			if (strcmp(modules[k], needed[i]) == 0 && f->path[k][0] == '\0')
				rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "%.150s has no %s.ko (uncompressed)", p->modules, needed[i]);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(modules) && rc == 0; i++) {
		snprintf(name, sizeof(name), "modules/%02zu-%s.ko", i, modules[i]);
		if (f->path[i][0] != '\0')
			rc = add_file(b, name, S_IFREG | 0600, f->path[i], MODULE_MAX, e);
	}
	free(f);
	return rc;
}

static int
write_initrd(const struct tier_spec *s, const struct parts *p, const char *token, const char *path, struct err *e)
{
	char conf[PLAN_PATH_MAX + 128];
	struct buf b;

	snprintf(conf, sizeof(conf), "%s\n%s\n", token, s->run_dir);
	buf_init(&b, INITRD_MAX);
	cpio_add(&b, "dev", S_IFDIR | 0755, STR(""));
	cpio_add(&b, "modules", S_IFDIR | 0755, STR(""));
	cpio_add(&b, &VM_CONF[1], S_IFREG | 0600, str_of(conf));
	int rc = add_file(&b, "init", S_IFREG | 0755, s->guest, INITRD_MAX, e);
	if (rc == 0)
		rc = add_modules(&b, p, e);
	cpio_end(&b);
	if (rc == 0)
		rc = file_write(path, buf_str(&b), 0600, e);
	explicit_bzero(conf, sizeof(conf));
	buf_fini(&b);
	return rc;
}

/* ---- the shared tree ---- */

static void
add_system(struct buf *b)
{
	static const char *const dirs[] = { "/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/var", "/home", "/root" };
	struct survey *v = survey_new();
	const char *paths[SURVEY_PATHS_MAX];
	size_t n = survey_paths(v, paths, ARRAY_LEN(paths));
	struct stat st;
	char host[300];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		buf_printf(b, "d%s\n", dirs[i]);
	buf_add_z(b, "r/usr\n");
	for (size_t i = 0; i < n; i++) {
		snprintf(host, sizeof(host), "/%s", paths[i]);
		bool is_link = lstat(host, &st) == 0 && S_ISLNK(st.st_mode), in_etc = strncmp(paths[i], "etc/", 4) == 0;
		if (is_link && !in_etc)
			buf_printf(b, "l%s\n", host);
		else if (stat(host, &st) == 0)
			buf_printf(b, "r%s\n", host);
	}
	survey_free(v);
}

static int
write_share(const struct tier_spec *s, const char *path, struct err *e)
{
	struct buf b;

	buf_init(&b, MIB);
	buf_printf(&b, "t%s/tree\n", s->run_dir);
	add_system(&b);
	for (size_t i = 0; i < s->mounts_n; i++)
		buf_printf(&b, "w%s\n", s->mounts[i]);
	buf_printf(&b, "w%s\nw%s\nd%s\n", s->spool_dir, s->state_root, s->run_dir);
	int rc = file_write(path, buf_str(&b), 0600, e);
	buf_fini(&b);
	return rc;
}

/* ---- processes ---- */

static int
spawn(const char *const *argv, const char *log, pid_t *pid, struct err *e)
{
	char *const env[] = { (char *)(uintptr_t)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0); /* keys of a terminal are not for it */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int rc = posix_spawn(pid, argv[0], &fa, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return rc == 0 ? 0 : err_errno(e, rc, ERR_TO_USER, "cannot start %s", argv[0]);
}

static void
last_line(const char *path, char out[120])
{
	char *text = NULL;
	size_t n = 0;

	out[0] = '\0';
	if (file_read(path, MIB, &text, &n, NULL) != 0)
		return;
	struct str s = str_trim((struct str){ text, n });
	const char *nl = memrchr(s.p, '\n', s.n);
	if (nl != NULL)
		s = str_sub(s, (size_t)(nl + 1 - s.p), s.n);
	snprintf(out, 120, "%.*s", (int)MIN(s.n, 119), s.p);
	free(text);
}

/* false when it ended; then it is reaped and e says what it said last. */
static bool
is_running(pid_t *pid, const char *what, const char *log, struct err *e)
{
	char line[120];
	int status;

	if (*pid == 0 || waitpid(*pid, &status, WNOHANG) == 0)
		return true;
	*pid = 0;
	last_line(log, line);
	err_set(e, ERR_FAILED, ERR_TO_USER, "%s ended: %s", what, line[0] != '\0' ? line : "it said nothing");
	return false;
}

static void
end(pid_t *pid)
{
	if (*pid == 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) {
	}
	*pid = 0;
}

/* ---- what a runner that was killed left: it would share the same directories for another minute ---- */

static void
note_processes(const struct tier_spec *s, const struct tier_run *run)
{
	char path[PLAN_PATH_MAX], text[64];
	struct err e;

	snprintf(path, sizeof(path), "%s/processes", s->run_dir);
	snprintf(text, sizeof(text), "%d\n%d\n", (int)run->machine, (int)run->share);
	if (file_write(path, str_of(text), 0600, &e) != 0)
		log_warn("the processes of a machine are not noted", LOG_E(&e));
}

/* A number may be another process's by now: only one whose command line names our directory is ended. */
static void
end_left(const struct tier_spec *s, int64_t number)
{
	char path[64], *text = NULL;
	size_t n = 0;
	int pidfd = number > 1 ? (int)syscall(SYS_pidfd_open, (pid_t)number, 0) : -1;

	if (pidfd < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%lld/cmdline", (long long)number);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	text = xcalloc(1, 64 * KIB);
	ssize_t got = fd < 0 ? -1 : read(fd, text, 64 * KIB - 1);
	n = got > 0 ? (size_t)got : 0;
	if (str_find((struct str){ text, n }, str_of(s->run_dir)) >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		(void)poll(&p, 1, SHARE_MS);
		log_warn("a process of an earlier machine was ended", LOG_I("pid", number));
	}
	free(text);
	close(pidfd);
}

static void
end_orphans(const struct tier_spec *s)
{
	char path[PLAN_PATH_MAX], *text = NULL;
	struct str rest, line;
	size_t n;

	snprintf(path, sizeof(path), "%s/processes", s->run_dir);
	if (file_read_no_link(path, 256, &text, &n, NULL) != 0)
		return;
	rest = (struct str){ text, n };
	while (str_next(&rest, '\n', &line)) {
		int64_t number;
		if (str_i64(line, &number) == 0)
			end_left(s, number);
	}
	free(text);
	unlink(path);
}

static int
start_share(const struct tier_spec *s, const struct parts *p, struct tier_run *run, struct err *e)
{
	char spec[PLAN_PATH_MAX], sock[PLAN_PATH_MAX], log[PLAN_PATH_MAX], socket_arg[PLAN_PATH_MAX + 32], source[PLAN_PATH_MAX + 32];

	snprintf(spec, sizeof(spec), "%s/share", s->run_dir);
	snprintf(sock, sizeof(sock), "%s/fs.sock", s->run_dir);
	snprintf(log, sizeof(log), "%s/fs.log", s->run_dir);
	snprintf(socket_arg, sizeof(socket_arg), "--socket-path=%s", sock);
	snprintf(source, sizeof(source), "source=%s/tree", s->run_dir);
	const char *const argv[] = { s->guest, "--share", spec, p->virtiofsd, "-f", socket_arg, "-o", source, "-o", "cache=auto", "-o",
		"log_level=warn", NULL };
	unlink(sock);
	if (write_share(s, spec, e) != 0 || spawn(argv, log, &run->share, e) != 0)
		return e->code;
	for (int64_t until_ms = clock_mono_ms() + SHARE_MS; access(sock, F_OK) != 0;) {
		if (!is_running(&run->share, "virtiofsd", log, e))
			return e->code;
		if (clock_mono_ms() > until_ms)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "virtiofsd has no socket after %d ms", SHARE_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	return 0;
}

static int
start_machine(const struct tier_spec *s, const struct parts *p, struct tier_run *run, struct err *e)
{
	int64_t mib = s->memory_bytes / MIB;
	bool is_kvm = strcmp(run->accel, "kvm") == 0;
	struct arena *a = arena_new(256 * KIB);
	const char *const argv[] = { p->qemu, "-M", "q35", "-accel", is_kvm ? "kvm" : "tcg,thread=multi", "-cpu", is_kvm ? "host" : "max",
		"-smp", arena_printf(a, "%d", CPUS), "-m", arena_printf(a, "%lldM", (long long)mib), "-object",
		arena_printf(a, "memory-backend-memfd,id=mem,size=%lldM,share=on", (long long)mib), "-numa", "node,memdev=mem", "-nodefaults",
		"-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
		"-kernel", p->kernel, "-initrd", arena_printf(a, "%s/initrd", s->run_dir), "-append",
		"console=ttyS0 quiet panic=-1 nokaslr mitigations=off", "-serial", arena_printf(a, "file:%s/console.log", s->run_dir), "-chardev",
		arena_printf(a, "socket,id=fs,path=%s/fs.sock", s->run_dir), "-device", "vhost-user-fs-pci,chardev=fs,tag=" VM_TAG, "-device",
		"virtio-serial-pci", "-chardev", arena_printf(a, "socket,id=runner,path=%s/runner.sock,server=on,wait=off", s->run_dir), "-device",
		arena_printf(a, "virtserialport,chardev=runner,nr=%d,name=runner", VM_PORT_RUNNER), "-chardev",
		arena_printf(a, "socket,id=runtime,path=%s/runtime.sock,server=on,wait=off", s->run_dir), "-device",
		arena_printf(a, "virtserialport,chardev=runtime,nr=%d,name=runtime", VM_PORT_RUNTIME), "-chardev",
		arena_printf(a, "socket,id=broker,path=%s/broker.sock,server=on,wait=off", s->run_dir), "-device",
		arena_printf(a, "virtserialport,chardev=broker,nr=%d,name=broker", VM_PORT_BROKER), NULL };
	char log[PLAN_PATH_MAX];

	snprintf(log, sizeof(log), "%s/qemu.log", s->run_dir);
	int rc = spawn(argv, log, &run->machine, e);
	arena_free(a);
	return rc;
}

struct watcher {
	const struct tier_spec *s;
	struct tier_run *run;
};

static bool
is_there(void *arg, struct err *e)
{
	struct watcher *w = arg;
	char log[PLAN_PATH_MAX];

	if (w->s->is_cancelled != NULL && w->s->is_cancelled(w->s->arg)) {
		err_set(e, ERR_CANCELLED, ERR_TO_LOG, "the start was given up");
		return false;
	}
	snprintf(log, sizeof(log), "%s/qemu.log", w->s->run_dir);
	if (!is_running(&w->run->machine, "the machine", log, e)) {
		char line[120];
		snprintf(log, sizeof(log), "%s/console.log", w->s->run_dir);
		last_line(log, line);
		if (strstr(e->msg, "said nothing") != NULL && line[0] != '\0')
			err_set(e, ERR_FAILED, ERR_TO_USER, "the machine ended: %s", line);
		return false;
	}
	return true;
}

/* ---- the tier ---- */

static int
probe(const struct tier_spec *s, char found[120], struct tier_reason *why)
{
	struct parts *p = xcalloc(1, sizeof(*p));
	int rc = find_parts(s, p, why);

	if (rc == 0 && access("/dev/kvm", R_OK | W_OK) != 0 && !s->microvm.allow_emulation)
		rc = tier_refuse(why, "no_acceleration", ERR_UNSUPPORTED, "/dev/kvm cannot be used (join the group kvm; or microvm: "
			"{ allow_emulation: true }, which is slow)");
	if (rc == 0)
		snprintf(found, 120, "%.40s with %.60s", p->qemu, p->kernel);
	free(p);
	return rc;
}

static void
stop(struct tier_run *run)
{
	end(&run->machine);
	end(&run->share);
	explicit_bzero(run->token, sizeof(run->token));
	run->tier = NULL;
}

/* One machine with one kind of acceleration. */
static int
attempt(const struct tier_spec *s, const struct parts *p, struct tier_run *run, int64_t timeout_ms, int *link, struct err *e)
{
	struct watcher w = { s, run };
	char path[PLAN_PATH_MAX];

	snprintf(path, sizeof(path), "%s/initrd", s->run_dir);
	door_token(run->token);
	int rc = write_initrd(s, p, run->token, path, e);
	if (rc == 0)
		rc = start_share(s, p, run, e);
	if (rc == 0)
		rc = start_machine(s, p, run, e);
	char sock[PLAN_PATH_MAX];
	snprintf(sock, sizeof(sock), "%s/runner.sock", s->run_dir);
	int fd = rc != 0 ? -1 : door_reach(sock, ROLE_RUNNER, run->token, timeout_ms, is_there, &w, e);
	unlink(path); /* it holds the token, and the machine has read it */
	if (fd < 0) {
		end(&run->machine);
		end(&run->share);
		return e->code;
	}
	note_processes(s, run);
	*link = fd;
	return 0;
}

static int
start(const struct tier_spec *s, struct tier_run *out, int *link, struct tier_reason *why)
{
	struct parts *p = xcalloc(1, sizeof(*p));
	struct tier_run run = { .tier = &tier_microvm, .accel = "kvm" };
	const char *const dirs[] = { s->run_dir, s->spool_dir, s->state_root };
	char found[120];
	struct err e = { 0 };
	int rc = probe(s, found, why);

	if (rc == 0)
		rc = find_parts(s, p, why);
	if (rc != 0) {
		free(p);
		return rc;
	}
	snprintf(run.dir, sizeof(run.dir), "%s", s->run_dir);
	for (size_t i = 0; i < ARRAY_LEN(dirs) && rc == 0; i++)
		rc = path_mkdirs(dirs[i], 0700, &e);
	if (rc == 0)
		end_orphans(s);
	bool has_kvm = access("/dev/kvm", R_OK | W_OK) == 0;
	if (rc == 0 && has_kvm)
		rc = attempt(s, p, &run, KVM_START_MS, link, &e);
	if (rc != 0 && rc != ERR_CANCELLED && !s->microvm.allow_emulation)
		rc = tier_refuse(why, "no_acceleration", ERR_UNSUPPORTED, "no machine answers with KVM: %.90s (microvm: { allow_emulation: "
			"true } does without, slowly)", e.msg);
	else if (s->microvm.allow_emulation && rc != ERR_CANCELLED && (rc != 0 || !has_kvm)) {
		snprintf(run.accel, sizeof(run.accel), "tcg");
		rc = attempt(s, p, &run, TCG_START_MS, link, &e);
		if (rc != 0)
			rc = tier_refuse(why, "guest_failed", ERR_FAILED, "%s", e.msg);
	} else if (rc != 0) {
		rc = tier_refuse(why, "guest_failed", rc, "%s", e.msg);
	}
	if (rc == 0)
		*out = run;
	free(p);
	return rc;
}

static int
new_link(const struct tier_run *run, enum role who, struct err *e)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s.sock", run->dir, role_name(who));
	return door_reach(path, who, run->token, TIER_START_MS, NULL, NULL, e);
}

const struct tier tier_microvm = { .name = "microvm", .probe = probe, .start = start, .stop = stop, .link = new_link };
