/* SPDX-License-Identifier: MIT
 * Children: status, signals by pidfd, descriptors, working directory, a clean signal state,
 * forgetting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buf.h"
#include "loop/loop.h"

struct state {
	struct loop *l;
	struct child *child;
	pid_t pid;
	int status;
	int ends;
};

static int
setup(void **out)
{
	struct state *s = calloc(1, sizeof(*s));
	assert_int_equal(loop_open(&s->l, NULL), 0);
	*out = s;
	return 0;
}

static int
teardown(void **in)
{
	struct state *s = *in;
	loop_close(s->l);
	free(s);
	return 0;
}

static void
on_exit_(void *arg, pid_t pid, int status)
{
	struct state *s = arg;
	s->ends++;
	s->pid = pid;
	s->status = status;
}

static int
sh(struct state *s, const char *script, const int *fds, size_t fds_n, const char *cwd,
	struct err *e)
{
	char *const argv[] = { "sh", "-c", (char *)script, NULL };
	struct child_spec spec = {
		.path = "/bin/sh", .argv = argv, .cwd = cwd, .fds = fds, .fds_n = fds_n
	};
	return child_start(s->l, &spec, on_exit_, s, &s->child, e);
}

/* Runs a script with its standard output in a pipe and returns what it wrote. */
static const char *
output_of(struct state *s, const char *script, const char *cwd, char out[256])
{
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	int fds[] = { -1, p[1], 2 };
	assert_int_equal(sh(s, script, fds, 3, cwd, NULL), 0);
	close(p[1]);
	loop_run(s->l);
	ssize_t n = read(p[0], out, 255);
	assert_true(n >= 0);
	out[n] = '\0';
	close(p[0]);
	return out;
}

static void
test_exit_status(void **in)
{
	struct state *s = *in;
	assert_int_equal(sh(s, "exit 7", NULL, 0, NULL, NULL), 0);
	pid_t pid = child_pid(s->child);
	loop_run(s->l);
	assert_int_equal(s->ends, 1);
	assert_int_equal(s->pid, pid);
	assert_true(WIFEXITED(s->status));
	assert_int_equal(WEXITSTATUS(s->status), 7);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
	assert_int_equal(errno, ECHILD);
}

static void
test_kill_by_pidfd(void **in)
{
	struct state *s = *in;
	assert_int_equal(sh(s, "while :; do sleep 100; done", NULL, 0, NULL, NULL), 0);
	assert_int_equal(child_kill(s->child, SIGKILL), 0);
	loop_run(s->l);
	assert_true(WIFSIGNALED(s->status));
	assert_int_equal(WTERMSIG(s->status), SIGKILL);
}

static void
test_missing_program(void **in)
{
	struct state *s = *in;
	struct err e = { 0 };
	char *const argv[] = { "x", NULL };
	struct child_spec spec = { .path = "/nonexistent/x", .argv = argv };
	assert_int_equal(child_start(s->l, &spec, on_exit_, s, &s->child, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "/nonexistent/x"));
	loop_run(s->l);
	assert_int_equal(s->ends, 0);
}

static void
test_fds_swap_and_close(void **in)
{
	struct state *s = *in;
	char out[256], script[128], expected[64];
	int p[2], fds[64],
		extra = open("/dev/null", O_RDONLY); /* no close-on-exec: closed all the same */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_true(p[0] > 3 && p[1] > p[0] && p[1] < 64);
	for (int i = 0; i < 64; i++)
		fds[i] = -1;
	fds[1] = p[1];
	fds[2] = 2;
	fds[p[0]] = p[1]; /* each is the target of the other */
	fds[p[1]] = p[0];
	snprintf(script, sizeof(script),
		"echo swapped >/proc/self/fd/%d; ls /proc/self/fd | sort -n | tr '\\n' ' '", p[0]);
	assert_int_equal(sh(s, script, fds, (size_t)p[1] + 1, NULL, NULL), 0);
	loop_run(s->l);
	ssize_t n = read(p[0], out, 255);
	assert_true(n > 0);
	out[n] = '\0';
	/* 3 is the directory that ls itself opens */
	snprintf(expected, sizeof(expected), "swapped\n0 1 2 3 %d %d ", p[0], p[1]);
	assert_string_equal(out, expected);
	close(p[0]);
	close(p[1]);
	close(extra);
}

static void
test_environment_is_empty_and_cwd_set(void **in)
{
	struct state *s = *in;
	char out[256];
	setenv("LEAK", "yes", 1);
	assert_string_equal(
		output_of(s, "echo \"${LEAK-none} $(pwd)\"", "/usr", out), "none /usr\n");
	unsetenv("LEAK");
}

static void
test_bad_cwd_is_an_error(void **in)
{
	struct state *s = *in;
	assert_int_equal(sh(s, "true", NULL, 0, "/nonexistent", NULL), ERR_NOT_FOUND);
}

static void
test_signal_state_is_reset(void **in)
{
	struct state *s = *in;
	char out[256];
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	void (*former)(int) = signal(SIGPIPE, SIG_IGN);
	output_of(
		s, "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | tr '\\n' ' '", NULL, out);
	signal(SIGPIPE, former);
	sigprocmask(SIG_SETMASK, &old, NULL);
	unsigned long long blocked = 1, ignored = 1;
	assert_int_equal(sscanf(out, "%llx %llx", &blocked, &ignored), 2);
	assert_int_equal(blocked, 0);
	/* posix_spawn leaves the C library's own signals 32 and 33 ignored; their users set them
	 * anew */
	assert_int_equal(ignored & ~0x180000000ull, 0);
}

static void
test_ignored_sigchld_does_not_lose_the_status(void **in)
{
	struct state *s = *in;
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(sh(s, "exit 3", NULL, 0, NULL, NULL), 0);
	loop_run(s->l);
	assert_int_equal(WEXITSTATUS(s->status), 3);
}

static void
test_many_children(void **in)
{
	struct state *s = *in;
	for (int i = 0; i < 20; i++)
		assert_int_equal(sh(s, "exit 0", NULL, 0, NULL, NULL), 0);
	loop_run(s->l);
	assert_int_equal(s->ends, 20);
}

static void
test_too_many_fds(void **in)
{
	struct state *s = *in;
	int fds[65];
	for (int i = 0; i < 65; i++)
		fds[i] = -1;
	assert_int_equal(sh(s, "true", fds, 65, NULL, NULL), ERR_LIMIT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_exit_status),
		T(test_kill_by_pidfd),
		T(test_missing_program),
		T(test_fds_swap_and_close),
		T(test_environment_is_empty_and_cwd_set),
		T(test_bad_cwd_is_an_error),
		T(test_signal_state_is_reset),
		T(test_ignored_sigchld_does_not_lose_the_status),
		T(test_many_children),
		T(test_too_many_fds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
