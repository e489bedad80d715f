/* SPDX-License-Identifier: MIT
 * Who is told to end when a private runner was started from other settings: the runner of this home, and nobody who only
 * has the pid that the socket names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "../../../src/cli/start.c"

#define PLACE "/tmp/ithaca-start-XXXXXX"

static char place[sizeof(PLACE)];

/* A child that listens on a socket of its own and then becomes argv, which is this program again; the client's end. */
static int
peer_that_runs(char *const *argv, pid_t *pid)
{
	char path[64];
	struct err e = { 0 };
	int ready[2];
	char c;

	snprintf(path, sizeof(path), "%s/rpc.sock", place);
	assert_int_equal(pipe(ready), 0);
	*pid = fork();
	if (*pid == 0) {
		int listener = unix_listen(path, 0600, &e);
		if (listener < 0 || fcntl(listener, F_SETFD, 0) != 0)
			_exit(1);
		(void)dup2(ready[1], 3);
		execv("/proc/self/exe", argv);
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1); /* it runs main */
	close(ready[0]);
	int fd = unix_connect(path, &e);
	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

/* Whether SIGHUP came; the child is ended in any case. SIGTERM, which follows, cannot overtake it. */
static bool
was_told(pid_t pid)
{
	int status;

	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == SIGHUP;
}

static void
test_peer(void **state)
{
	static const struct {
		const char *words[5]; /* home is put in where it says HOME, another directory for OTHER */
		bool is_told;
	} rows[] = {
		{ { "runner", "--private", "--home", "HOME" }, true },
		{ { "runner", "--private", "--home", "OTHER" }, false },
		{ { "runner", "--home", "HOME" }, false },
		{ { "runtime", "--private", "--home", "HOME" }, false },
		{ { "runner", "--private", "--home" }, false },
		{ { "runner", "--private" }, false },
	};
	struct cli cli = { .home = place };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *argv[8] = { (char *)"ithacad", (char *)"-x" };
		pid_t pid;

		for (size_t k = 0; k < ARRAY_LEN(rows[i].words) && rows[i].words[k] != NULL; k++) {
			const char *word = rows[i].words[k];
			argv[k + 2] = strcmp(word, "HOME") == 0 ? place : (char *)(strcmp(word, "OTHER") == 0 ? "/" : word);
		}
		runner_ask_to_end(&cli, peer_that_runs(argv, &pid));
		if (was_told(pid) != rows[i].is_told)
			fail_msg("row %zu: the peer was %stold to end", i, rows[i].is_told ? "not " : "");
	}
}

/* Who listened is gone, and another process holds the socket. */
static void
test_dead_peer(void **state)
{
	struct cli cli = { .home = place };
	char *argv[] = { (char *)"ithacad", (char *)"-x", (char *)"runner", NULL };
	pid_t pid;
	int fd = peer_that_runs(argv, &pid);

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	runner_ask_to_end(&cli, fd);
}

/* As a child of a test: ends with the number of the first signal that comes. */
static int
be_a_peer(void)
{
	sigset_t set;
	int got;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (write(3, "r", 1) != 1 || close(3) != 0 || sigwait(&set, &got) != 0)
		return 99;
	return got;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_peer), cmocka_unit_test(test_dead_peer) };
	char path[64];
	int rc;

	if (argc > 1 && strcmp(argv[1], "-x") == 0)
		return be_a_peer();
	memcpy(place, PLACE, sizeof(PLACE));
	if (mkdtemp(place) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/rpc.sock", place);
	unlink(path);
	rmdir(place);
	return rc;
}
