/* SPDX-License-Identifier: MIT
 * Finds the runtime of a home, or starts a private runner for it. The lock makes sure of one runner per home: it is
 * taken here, travels to the runner as a descriptor, and so is held without a gap until that runner ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "cli/internal.h"

#define START_WAIT_MS 20000
#define READY_WAIT_MS 210000 /* a machine may be tried with KVM and then emulated; a runner that ends is seen at once */
#define STALE_WAIT_MS 1000 /* for a runner that may only just have become idle */
#define RETRY_FIRST_MS 2
#define RETRY_MAX_MS  50
#define CMDLINE_MAX   8192 /* of a runner: two paths and a few words */

enum { FD_LINK = 3, FD_LOCK = 4, FD_SAFE = 10 };

extern char **environ;

/* ---- the executable ---- */

static char *
self_dir(struct arena *a)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
	struct str s = { path, n > 0 && (size_t)n < sizeof(path) ? (size_t)n : 0 };

	while (s.n > 0 && s.p[s.n - 1] != '/')
		s.n--;
	return s.n > 0 ? arena_strdup(a, s) : NULL;
}

/* Beside this executable, or where an installation puts it. */
const char *
find_ithacad(struct arena *a, struct err *e)
{
	const char *forced = getenv("ITHACA_BIN_DIR");
	const char *dir = self_dir(a);
	const char *places[] = {
		forced ? path_join(a, forced, "ithacad") : NULL,
		!forced && dir ? path_join(a, dir, "ithacad") : NULL,
		!forced && dir ? path_join(a, dir, "../libexec/ithaca/ithacad") : NULL,
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (places[i] && access(places[i], X_OK) == 0)
			return places[i];
	err_set(e, ERR_NOT_FOUND, ERR_TO_USER,
		"the program ithacad is not in %s (install it there, or set ITHACA_BIN_DIR)",
		forced ? forced : dir ? dir : "the folder of this program");
	return NULL;
}

/* ---- starting ---- */

struct start {
	const struct cli *cli;
	struct arena *a;
	enum runner_kind kind;
	int link, lock, log; /* all at least FD_SAFE and close-on-exec */
};

char *const *
runner_argv(const struct cli *c, struct arena *a, enum runner_kind kind, const char *path)
{
	const char **argv = arena_alloc(a, 16 * sizeof(*argv));
	size_t n = 0;

	argv[n++] = path;
	argv[n++] = "-x";
	argv[n++] = "runner";
	if (kind != RUNNER_FOREGROUND)
		argv[n++] = kind == RUNNER_PRIVATE ? "--private" : "--linked";
	argv[n++] = "--home";
	argv[n++] = c->home;
	if (c->config) {
		argv[n++] = "--config";
		argv[n++] = c->config;
	}
	if (c->tier) {
		argv[n++] = "--set";
		argv[n++] = arena_printf(a, "tier=%s", c->tier);
	}
	argv[n] = NULL;
	return (char *const *)argv;
}

/* The environment with the additions of -e and --env-file; a later one of the same name wins. */
char **
runner_env(const struct cli *c, struct arena *a)
{
	size_t n = 0, out = 0;
	char **env;

	while (environ[n])
		n++;
	env = arena_alloc(a, (n + c->env_n + 1) * sizeof(*env));
	for (size_t i = 0; i < n + c->env_n; i++) {
		char *pair = i < n ? environ[i] : c->env[i - n];
		size_t name_n = strcspn(pair, "="), at = 0;

		while (at < out && (strncmp(env[at], pair, name_n) != 0 || env[at][name_n] != '='))
			at++;
		env[at] = pair;
		if (at == out)
			out++;
	}
	env[out] = NULL;
	return env;
}

static int
open_high(int fd, struct err *e, const char *what)
{
	int high;

	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot open %s", what);
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_SAFE);
	if (high < 0)
		err_errno(e, errno, ERR_TO_USER, "cannot open %s", what);
	close(fd);
	return high < 0 ? e->code : high;
}

static int
spawn_runner(struct start *s, pid_t *pid, struct err *e)
{
	const char *path = find_ithacad(s->a, e);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	if (!path)
		return e->code;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, s->log, 2);
	posix_spawn_file_actions_adddup2(&actions, s->link, FD_LINK);
	posix_spawn_file_actions_adddup2(&actions, s->lock, FD_LOCK);
	posix_spawnattr_init(&attr);
	/* A session of its own: Ctrl-C at this terminal is for this program alone. */
	posix_spawnattr_setflags(&attr,
		POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	rc = posix_spawn(pid, path, &actions, &attr, runner_argv(s->cli, s->a, s->kind, path), runner_env(s->cli, s->a));
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		return err_errno(e, rc, ERR_TO_USER, "cannot start %s", path);
	return 0;
}

static int
runner_ended(const struct start *s, pid_t pid, struct err *e)
{
	int status = 0;

	if (waitpid(pid, &status, WNOHANG) == pid && WIFSIGNALED(status))
		return err_set(e, ERR_GONE, ERR_TO_USER,
			"the runner was killed by signal %d before it was ready (see %s/logs/runner.log)",
			WTERMSIG(status), s->cli->home);
	return err_set(e, ERR_GONE, ERR_TO_USER,
		"the runner ended before it was ready (see %s/logs/runner.log)", s->cli->home);
}

int
frame_read(int fd, int64_t until_ms, struct buf *in, struct arena *a, struct wire_frame *out, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until_ms - clock_mono_ms();
		ptrdiff_t n = wire_parse(buf_str(in), ROLE_RUNNER, ROLE_CLIENT, a, out, e);
		char *room;
		ssize_t got;

		if (n != 0)
			return n < 0 ? (int)n : 0;
		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "the runner did not answer in time");
		room = buf_reserve(in, 4096);
		got = room ? read(fd, room, 4096) : 0;
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return err_set(e, ERR_GONE, ERR_TO_USER, "the runner ended");
		buf_added(in, (size_t)got);
	}
}

/* The first frame: READY, or FAULT with the reason. */
static int
read_ready(struct start *s, int fd, pid_t pid, struct err *e)
{
	struct wire_frame frame;
	struct buf in;
	int rc;

	buf_init(&in, CONTROL_FRAME_MAX);
	rc = frame_read(fd, clock_mono_ms() + READY_WAIT_MS, &in, s->a, &frame, e);
	if (rc == ERR_TIMEOUT)
		err_set(e, rc, ERR_TO_USER, "the runner was not ready after %d s (see %s/logs/runner.log)",
			READY_WAIT_MS / 1000, s->cli->home);
	if (rc == ERR_GONE)
		rc = runner_ended(s, pid, e);
	buf_fini(&in);
	if (rc == 0 && frame.m.kind == WIRE_FAULT) {
		wire_err(frame.m.head, e);
		rc = e->code ? e->code : err_set(e, ERR_FAILED, ERR_TO_USER, "the runner cannot start");
	}
	return rc;
}

/* With the lock held: starts the runner and waits for its word. */
static int
start_locked(struct start *s, struct err *e)
{
	int pair[2] = { -1, -1 }, rc;
	pid_t pid = -1;
	char *log = path_join(s->a, s->cli->home, "logs/runner.log");

	s->log = open_high(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), e, log);
	if (s->log < 0)
		return s->log;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		close(s->log);
		return err_errno(e, errno, ERR_TO_USER, "cannot make a socket pair");
	}
	s->link = open_high(pair[1], e, "the runner's link");
	rc = s->link < 0 ? s->link : spawn_runner(s, &pid, e);
	close(s->log);
	if (s->link >= 0)
		close(s->link);
	if (rc == 0)
		rc = read_ready(s, pair[0], pid, e);
	close(pair[0]);
	return rc;
}

static int
make_dirs(const struct cli *c, struct arena *a, struct err *e)
{
	static const char *const dirs[] = { "run", "logs" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (path_mkdirs(path_join(a, c->home, dirs[i]), 0700, e) != 0)
			return err_wrap(e, "home %s", c->home);
	return 0;
}

int
runner_start(const struct cli *c, struct arena *a, enum runner_kind kind, struct err *e)
{
	struct start s = { .cli = c, .a = a, .kind = kind, .link = -1, .lock = -1, .log = -1 };
	char *lock = path_join(a, c->home, "run/lock");
	int rc = make_dirs(c, a, e);

	if (rc != 0)
		return rc;
	s.lock = open_high(open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600), e, lock);
	if (s.lock < 0)
		return s.lock;
	if (flock(s.lock, LOCK_EX | LOCK_NB) != 0)
		rc = errno == EWOULDBLOCK ? ERR_BUSY : err_errno(e, errno, ERR_TO_USER, "cannot lock %s", lock);
	else
		rc = start_locked(&s, e);
	close(s.lock);
	return rc;
}

static bool
nobody_listens(const struct err *e)
{
	return e->code == ERR_NOT_FOUND || e->code == ERR_NET || e->code == ERR_GONE || e->code == ERR_IO;
}

static bool
is_same_dir(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whether pid runs what spawn_runner starts, for this home. */
static bool
is_our_runner(const struct cli *c, pid_t pid)
{
	char path[64], text[CMDLINE_MAX], home[CMDLINE_MAX] = "";
	bool is_runner = false, is_private = false;
	struct str rest, word;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	rest = (struct str){ text, n > 0 ? (size_t)n : 0 };
	for (int i = 0; str_next(&rest, '\0', &word); i++) {
		is_runner = is_runner || (i == 2 && str_is(word, "runner"));
		is_private = is_private || str_is(word, "--private");
		if (str_is(word, "--home") && str_next(&rest, '\0', &word))
			snprintf(home, sizeof(home), "%.*s", STR_FMT(word));
	}
	return is_runner && is_private && is_same_dir(home, c->home);
}

/* Asks the private runner behind fd to end when it is idle. The socket tells the pid of who began to listen; others may
 * hold it open after his end, and then the pid may be anybody's. So the process is held first, then looked at, then told. */
void
runner_ask_to_end(const struct cli *c, int fd)
{
	uid_t uid;
	pid_t pid;
	int pidfd = unix_peer(fd, &uid, &pid) == 0 && pid > 1 ? pidfd_open(pid, 0) : -1;

	if (pidfd >= 0 && is_our_runner(c, pid))
		(void)pidfd_send_signal(pidfd, SIGHUP, NULL, 0); /* gone meanwhile: all the better */
	if (pidfd >= 0)
		close(pidfd);
	close(fd);
}

struct attempt {
	const struct cli *c;
	struct arena *a;
	enum connect how;
	int64_t until_ms, stale_until_ms; /* 0: nothing stale was met */
	long wait_ms;
	bool is_ours;
};

/* One try: a descriptor, 0 to try again, or an error. */
static int
attempt(struct attempt *t, const char *path, struct err *e)
{
	struct err start = { 0 };
	const char *differs;
	bool noted = false;
	int fd = unix_connect(path, e), rc;

	if (fd >= 0) {
		differs = t->how == CONNECT_FRESH && !t->is_ours ? settings_differ(t->c, t->a, &noted) : NULL;
		t->is_ours = t->is_ours || noted;
		if (differs == NULL)
			return fd;
		t->is_ours = false;
		runner_ask_to_end(t->c, fd);
		if (t->stale_until_ms == 0)
			t->stale_until_ms = clock_mono_ms() + STALE_WAIT_MS;
		if (clock_mono_ms() < t->stale_until_ms)
			return 0;
		return err_set(e, ERR_BUSY, ERR_TO_USER,
			"the runtime of %s is in use and was started from other settings: %s (wait until what it does "
			"is done; see `ithaca status`)", t->c->home, differs);
	}
	if (t->is_ours && nobody_listens(e))
		return err_set(e, ERR_GONE, ERR_TO_USER, "the runner ended as soon as it was ready (see %s/logs/runner.log)",
			t->c->home);
	if (!nobody_listens(e) || t->how == CONNECT_ONLY)
		return fd;
	rc = runner_start(t->c, t->a, RUNNER_PRIVATE, &start);
	t->is_ours = rc == 0;
	if (t->is_ours)
		return 0;
	if (rc != ERR_BUSY || start.code != 0)
		return err_copy(e, &start);
	/* Another one is starting or just ending: whichever it is shows soon. */
	if (clock_mono_ms() > t->until_ms)
		return err_set(e, ERR_BUSY, ERR_TO_USER,
			"another process holds %s/run/lock but does not serve (see %s/logs/runner.log)", t->c->home,
			t->c->home);
	return 0;
}

bool
was_stopped(const struct cli *c, struct err *e)
{
	char path[4096];

	if (snprintf(path, sizeof(path), "%s/run/stopped", c->home) >= (int)sizeof(path) || access(path, F_OK) != 0)
		return false;
	err_set(e, ERR_CANCELLED, ERR_TO_USER,
		"Ithaca was stopped: what was begun stays open (`ithaca run --continue` goes on with it, or the next `ithaca start`)");
	return true;
}

int
runtime_connect(const struct cli *c, enum connect how, bool *ours, struct err *e)
{
	struct attempt t = { .c = c, .a = arena_new(8 * MIB), .how = how,
		.until_ms = clock_mono_ms() + START_WAIT_MS, .wait_ms = RETRY_FIRST_MS };
	const char *path = path_join(t.a, c->home, "run/rpc.sock");
	int fd;

	while ((fd = attempt(&t, path, e)) == 0) {
		if (t.is_ours)
			continue; /* it serves: no need to wait */
		nanosleep(&(struct timespec){ .tv_nsec = t.wait_ms * 1000000 }, NULL);
		t.wait_ms = MIN(2 * t.wait_ms, RETRY_MAX_MS);
	}
	if (fd < 0 && how == CONNECT_ONLY && nobody_listens(e))
		fd = err_set(e, ERR_GONE, ERR_TO_USER, "no runtime is running for %s", c->home);
	if (ours)
		*ours = t.is_ours;
	arena_free(t.a);
	return fd;
}
