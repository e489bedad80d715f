/* SPDX-License-Identifier: MIT
 * Keys of providers on their way to the broker: from the configuration, a file, a command or the environment. Each goes
 * through locked pages only and is forgotten after the hand-over, except what cannot be had again: what came with the
 * environment stays in its page, and is taken out of the environment. Invariant: no message and no log line holds what
 * a file or a command gave. */
#include "runner/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_COMMAND_MS 30000

extern char **environ;

/* ---- the environment ---- */

struct env_key {
	char *name;
	struct secret *value;
};

struct env_keys {
	struct env_key *v;
	size_t n, cap;
};

/* The name of "NAME=VALUE". */
static bool
is_named(const char *pair, const char *name)
{
	size_t n = strlen(name);

	return strncmp(pair, name, n) == 0 && pair[n] == '=';
}

/* Whoever may look at /proc/PID/environ, or is started with a copy, finds nothing. */
static void
wipe_value(char *pair)
{
	char *value = strchr(pair, '=') + 1;

	wipe(value, strlen(value));
}

static void
take(struct env_keys *k, const char *name)
{
	bool is_taken = false; /* of two with this name the first counts, as for getenv */

	for (size_t i = 0; i < k->n; i++)
		is_taken = is_taken || strcmp(k->v[i].name, name) == 0;
	for (char **pair = environ; *pair != NULL; pair++) {
		if (!is_named(*pair, name))
			continue;
		if (!is_taken) {
			k->v = vec_grow(k->v, &k->cap, k->n + 1, sizeof *k->v);
			k->v[k->n++] = (struct env_key){ xstrdup(name), secret_new(str_of(strchr(*pair, '=') + 1)) };
			is_taken = true;
		}
		wipe_value(*pair);
	}
	unsetenv(name);
}

struct env_keys *
env_keys_take(const struct config *c)
{
	const struct node *providers = config_get(c, "providers");
	struct env_keys *k = xcalloc(1, sizeof *k);

	for (size_t i = 0; i < node_len(providers); i++) {
		const char *name = node_z(&providers->map.pairs[i].value, "api_key_env", NULL);

		if (name != NULL)
			take(k, name);
	}
	/* Read with the configuration; a key or a header may be among them. */
	for (char **pair = environ; *pair != NULL; pair++)
		if (strncmp(*pair, "ITHACA__PROVIDERS__", 19) == 0 && strchr(*pair, '=') != NULL)
			wipe_value(*pair);
	return k;
}

void
env_keys_free(struct env_keys *k)
{
	if (k == NULL)
		return;
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].name);
		secret_free(k->v[i].value);
	}
	free(k->v);
	free(k);
}

static struct str
env_key(const struct env_keys *k, const char *name)
{
	for (size_t i = 0; k != NULL && i < k->n; i++)
		if (strcmp(k->v[i].name, name) == 0)
			return secret_peek(k->v[i].value);
	return STR("");
}

/* ---- files ---- */

/* Others who can read it have the key, others who can write it choose it. */
static int
check_private(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "%s is not a regular file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_set(e, ERR_DENIED, ERR_TO_USER, "%s belongs to another user (chown it)", path);
	if ((st.st_mode & 077) != 0)
		return err_set(e, ERR_DENIED, ERR_TO_USER, "%s is open to other users, mode %03o (chmod 600 %s)", path,
			st.st_mode & 0777, path);
	return 0;
}

int
private_file_read(const char *path, size_t max, struct secret **out, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct secret *s;
	size_t n = 0;
	ssize_t got;
	char *room;
	int rc;

	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "%s", path);
	if ((rc = check_private(fd, path, e)) != 0)
		return rc;
	s = secret_room(max + 1, &room);
	while (n <= max && (got = read(fd, room + n, max + 1 - n)) != 0) {
		if (got < 0 && errno != EINTR) {
			secret_free(s);
			return err_errno(e, errno, ERR_TO_USER, "%s", path);
		}
		n += got > 0 ? (size_t)got : 0;
	}
	if (n > max) {
		secret_free(s);
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "%s is larger than %zu bytes", path, max);
	}
	*out = s;
	return 0;
}

struct str
first_line(const struct secret *s)
{
	struct str text = secret_peek(s);
	const char *end = memchr(text.p, 0, text.n);

	if (end != NULL)
		text.n = (size_t)(end - text.p);
	text = str_trim(text);
	const char *eol = text.n > 0 ? memchr(text.p, '\n', text.n) : NULL;
	return eol != NULL ? str_trim(str_sub(text, 0, (size_t)(eol - text.p))) : text;
}

/* ---- commands ---- */

struct command_run {
	int fd, pidfd; /* its output; -1 once it has ended, or is ended */
	char *room;
	size_t n;
	int64_t deadline_ms;
};

/* What it prints until it ends. A process that it leaves behind may keep its output open: that is not waited for. */
static bool
read_output(struct command_run *c)
{
	for (;;) {
		struct pollfd p[] = { { .fd = c->fd, .events = POLLIN }, { .fd = c->pidfd, .events = POLLIN } };
		int64_t left_ms = c->deadline_ms - clock_mono_ms();

		if (left_ms <= 0 || poll(p, 2, (int)left_ms) < 0) {
			if (left_ms > 0 && errno == EINTR)
				continue;
			return false;
		}
		if (p[0].revents != 0) {
			ssize_t n = read(c->fd, c->room + c->n, KEY_MAX + 1 - c->n);

			if (n > 0 && (c->n += (size_t)n) > KEY_MAX)
				return false;
			if (n > 0)
				continue;
			if (n == 0)
				c->fd = -1; /* poll leaves it out */
		}
		if (p[1].revents != 0)
			return true;
	}
}

static int
spawn_command(const char *command, int out_fd, pid_t *pid)
{
	char *argv[] = { "sh", "-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0); /* our own may be a log */
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	rc = posix_spawn(pid, "/bin/sh", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static int
key_from_command(const char *command, struct secret **out, struct err *e)
{
	struct command_run c = { .fd = -1, .pidfd = -1, .deadline_ms = clock_mono_ms() + KEY_COMMAND_MS };
	struct secret *s = secret_room(KEY_MAX + 1, &c.room);
	int fds[2], status = -1;
	bool is_done = false;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0)
		fatal("no pipe for api_key_cmd: %s", strerror(errno));
	if (spawn_command(command, fds[1], &pid) == 0) {
		c.fd = fds[0];
		c.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		close(fds[1]);
		is_done = read_output(&c);
		if (!is_done)
			kill(-pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		close(c.pidfd);
	} else {
		close(fds[1]);
	}
	close(fds[0]);
	if (is_done && WIFEXITED(status) && WEXITSTATUS(status) == 0 && first_line(s).n > 0) {
		*out = s;
		return 0;
	}
	secret_free(s);
	if (c.n > KEY_MAX)
		return err_set(e, ERR_AUTH, ERR_TO_USER, "api_key_cmd printed more than %u bytes", KEY_MAX);
	if (!is_done)
		return err_set(e, ERR_AUTH, ERR_TO_USER, "api_key_cmd did not end within %d s", KEY_COMMAND_MS / 1000);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return err_set(e, ERR_AUTH, ERR_TO_USER, "api_key_cmd printed nothing");
	return err_set(e, ERR_AUTH, ERR_TO_USER, "api_key_cmd failed with %s %d (run it by hand to see why)",
		WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* ---- one provider ---- */

char *
below_home(const char *home, const char *path)
{
	return path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", home, path);
}

int
key_resolve(const struct node *settings, const char *home, const struct env_keys *env, struct secret **out, struct err *e)
{
	struct str literal = node_str(settings, "api_key", STR(""));
	const char *file = node_z(settings, "api_key_file", NULL);
	const char *command = node_z(settings, "api_key_cmd", NULL);
	const char *name = node_z(settings, "api_key_env", NULL);
	struct str value = name != NULL ? env_key(env, name) : STR("");

	*out = NULL;
	if (literal.n > 0) {
		*out = secret_new(literal);
	} else if (file != NULL) {
		AUTO_FREE char *path = below_home(home, file);

		if (private_file_read(path, KEY_MAX, out, e) != 0)
			return err_wrap(e, "api_key_file");
		if (first_line(*out).n == 0) {
			secret_free(*out);
			*out = NULL;
			return err_set(e, ERR_AUTH, ERR_TO_USER, "api_key_file %s is empty", path);
		}
	} else if (command != NULL) {
		return key_from_command(command, out, e);
	} else if (value.n > 0) {
		*out = secret_new(value);
	}
	return 0;
}
