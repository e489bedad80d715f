/* SPDX-License-Identifier: MIT
 * Unix sockets: modes, stale files, sockets in use, long paths, peer credentials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "loop/loop.h"

struct state {
	char dir[200];
	char path[220];
};

static int
setup(void **out)
{
	struct state *s = calloc(1, sizeof(*s));
	const char *tmp = getenv("TMPDIR");
	snprintf(s->dir, sizeof(s->dir), "%s/ithaca-unix-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
	*out = s;
	return 0;
}

static int
teardown(void **in)
{
	struct state *s = *in;
	unlink(s->path);
	rmdir(s->dir);
	free(s);
	return 0;
}

static void
test_listen_connect_peer(void **in)
{
	struct state *s = *in;
	struct stat st;
	uid_t uid = 12345;
	pid_t pid = 0;
	int l = unix_listen(s->path, 0600, NULL);
	assert_true(l >= 0);
	assert_int_equal(stat(s->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(unix_accept(l), -1);
	assert_int_equal(errno, EAGAIN);
	int c = unix_connect(s->path, NULL);
	assert_true(c >= 0);
	int a = unix_accept(l);
	assert_true(a >= 0);
	assert_int_equal(unix_peer(a, &uid, &pid), 0);
	assert_int_equal(uid, getuid());
	assert_int_equal(pid, getpid());
	close(a);
	close(c);
	close(l);
}

static void
test_mode_is_exact_under_any_umask(void **in)
{
	struct state *s = *in;
	struct stat st;
	mode_t old = umask(0077);
	int l = unix_listen(s->path, 0666, NULL);
	umask(old);
	assert_true(l >= 0);
	assert_int_equal(stat(s->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	close(l);
}

static void
test_stale_socket_is_replaced_and_live_one_is_not(void **in)
{
	struct state *s = *in;
	struct err e = { 0 };
	int l = unix_listen(s->path, 0600, NULL);
	close(l);
	assert_int_equal(unix_connect(s->path, &e), ERR_NOT_FOUND);
	l = unix_listen(s->path, 0600, NULL);
	assert_true(l >= 0);
	assert_int_equal(unix_listen(s->path, 0600, &e), ERR_BUSY);
	assert_non_null(strstr(e.msg, s->path));
	int c = unix_connect(s->path, NULL);
	assert_true(c >= 0);
	close(c);
	close(l);
}

static void
test_other_file_is_kept(void **in)
{
	struct state *s = *in;
	struct err e = { 0 };
	FILE *f = fopen(s->path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(unix_listen(s->path, 0600, &e), ERR_EXISTS);
	assert_int_equal(access(s->path, F_OK), 0);
}

static void
test_missing(void **in)
{
	struct state *s = *in;
	struct err e = { 0 };
	assert_int_equal(unix_connect(s->path, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, s->path));
}

static void
test_long_path(void **in)
{
	struct state *s = *in;
	char part[101], *dir, *path;
	memset(part, 'd', 100);
	part[100] = '\0';
	dir = xasprintf("%s/%s", s->dir, part);
	path = xasprintf("%s/rpc.sock", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	int l = unix_listen(path, 0600, NULL);
	assert_true(l >= 0);
	int c = unix_connect(path, NULL);
	assert_true(c >= 0);
	assert_int_equal(unix_listen(path, 0600, NULL), ERR_BUSY);
	close(c);
	close(l);
	unlink(path);
	rmdir(dir);
	free(path);
	free(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_listen_connect_peer),
		T(test_mode_is_exact_under_any_umask),
		T(test_stale_socket_is_replaced_and_live_one_is_not),
		T(test_other_file_is_kept),
		T(test_missing),
		T(test_long_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
