/* SPDX-License-Identifier: MIT
 * Log files: put aside by size without losing a line, held back while the disk takes nothing, and what roles say on its
 * way there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "runner/internal.h"

static char dir[64];

static char *
content(const char *name, size_t *n)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	char *text = NULL;
	struct err e;

	*n = 0;
	if (file_read(path, 64 * MIB, &text, n, &e) != 0)
		return xstrdup("");
	return text;
}

static int
setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/ithaca-logs.XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	for (int i = 0; i < 8; i++) {
		AUTO_FREE char *path = i == 0 ? xasprintf("%s/x.log", dir) : xasprintf("%s/x.log.%d", dir, i);

		unlink(path);
	}
	return rmdir(dir);
}

/* Every line once and in order, over as many files as there are. */
static void
test_put_aside(void **state)
{
	AUTO_FREE char *path = xasprintf("%s/x.log", dir);
	struct logfile *f = logfile_open(path, 4096, 6);
	int fd = logfile_fd(f), seen = 0;

	for (int i = 0; i < 1000; i++) {
		char line[64];

		snprintf(line, sizeof line, "line %04d of a thousand\n", i);
		logfile_write(f, str_of(line));
	}
	assert_int_equal(logfile_fd(f), fd);
	assert_int_equal(logfile_trouble(f), 0);
	logfile_close(f);
	for (int i = 6; i >= 0; i--) {
		char name[16];
		size_t n;

		snprintf(name, sizeof name, i == 0 ? "x.log" : "x.log.%d", i);
		AUTO_FREE char *text = content(name, &n);
		assert_true(n <= 4096);
		for (char *p = text; *p != '\0'; p += 24) {
			assert_int_equal(strtol(p + 5, NULL, 10), seen++);
			assert_int_equal(p[23], '\n');
		}
	}
	assert_int_equal(seen, 1000);
}

static void
test_keep(void **state)
{
	AUTO_FREE char *path = xasprintf("%s/x.log", dir);
	AUTO_FREE char *second = xasprintf("%s/x.log.2", dir);
	struct logfile *f = logfile_open(path, 64, 1);
	struct stat st;

	for (int i = 0; i < 100; i++)
		logfile_write(f, STR("0123456789012345678901234567890\n"));
	logfile_close(f);
	assert_int_equal(stat(second, &st), -1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	f = logfile_open(path, 64, 0); /* none is kept */
	for (int i = 0; i < 100; i++)
		logfile_write(f, STR("0123456789012345678901234567890\n"));
	logfile_close(f);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= 64);
}

/* The limit of file sizes stands for the full disk: a line that fits in part is taken back, others wait, and all come when
 * there is room again. */
static void
test_full_disk(void **state)
{
	AUTO_FREE char *path = xasprintf("%s/x.log", dir);
	struct logfile *f = logfile_open(path, 1 * MIB, 1);
	struct rlimit before, small = { .rlim_cur = 100 };
	size_t n;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	logfile_write(f, STR("a line that there is room for, and that stays whole\n"));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 3; i++)
		logfile_write(f, STR("a line that fits only in part, so that it has to wait for room\n"));
	assert_int_not_equal(logfile_trouble(f), 0);
	AUTO_FREE char *text = content("x.log", &n);
	assert_string_equal(text, "a line that there is room for, and that stays whole\n");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	logfile_write(f, STR("the last\n"));
	assert_int_equal(logfile_trouble(f), 0);
	AUTO_FREE char *all = content("x.log", &n);
	assert_string_equal(all, "a line that there is room for, and that stays whole\n"
		"a line that fits only in part, so that it has to wait for room\n"
		"a line that fits only in part, so that it has to wait for room\n"
		"a line that fits only in part, so that it has to wait for room\nthe last\n");
	logfile_close(f);
}

/* More than is held back is counted, and the count is written. */
static void
test_lost_lines(void **state)
{
	AUTO_FREE char *path = xasprintf("%s/x.log", dir);
	struct logfile *f = logfile_open(path, 64 * MIB, 1);
	struct rlimit before, none = { .rlim_cur = 0 };
	char line[1025];
	size_t n;

	memset(line, 'x', 1023);
	line[1023] = '\n';
	line[1024] = '\0';
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	for (int i = 0; i < 1000; i++)
		logfile_write(f, str_of(line));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	logfile_write(f, STR("the last\n"));
	AUTO_FREE char *all = content("x.log", &n);
	assert_int_equal(n > LOG_PENDING_MAX, 1);
	assert_non_null(strstr(all, "lines=744"));
	assert_string_equal(all + n - 9, "the last\n");
	logfile_close(f);
}

static void
test_no_link_is_followed(void **state)
{
	AUTO_FREE char *path = xasprintf("%s/x.log", dir);
	struct logfile *f;

	assert_int_equal(symlink("/tmp/ithaca-elsewhere", path), 0);
	f = logfile_open(path, 4096, 1);
	assert_int_equal(logfile_fd(f), -1);
	logfile_write(f, STR("nowhere\n"));
	assert_int_not_equal(logfile_trouble(f), 0);
	assert_int_equal(access("/tmp/ithaca-elsewhere", F_OK), -1);
	logfile_close(f);
}

/* Pipes of a machine: lines end as on a serial port, and none passes for a record of ours, as those of a role do. */
static void
test_taken(void **state)
{
	static const char said[] = "time=2026-01-02T03:04:05.678Z level=warn role=shelld msg=x\r\n\r\n[    1.2] kernel\r\n";
	struct config_sources src = { .system_file = "/nonexistent", .home_file = "/nonexistent" };
	AUTO_FREE char *logs = xasprintf("%s/logs", dir);
	struct config *c = NULL;
	struct loop *l = NULL;
	struct err e;
	int fds[2];
	size_t n;

	assert_int_equal(config_load(&src, &c, &e), 0);
	assert_int_equal(loop_open(&l, &e), 0);
	assert_int_equal(mkdir(logs, 0700), 0);
	struct outputs *o = outputs_open(l, dir, c);
	int own = outputs_pipe(o, ROLE_BROKER, "stderr", &e);
	assert_true(own >= 0);
	assert_int_equal(fd_write_all(own, "time=2026 of a role\n", 20), 0);
	close(own);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	outputs_take(o, ROLE_SHELLD, "console", fds[0]);
	assert_int_equal(fd_write_all(fds[1], said, sizeof said - 1), 0);
	close(fds[1]);
	outputs_close(o);
	AUTO_FREE char *text = content("logs/shelld.log", &n);
	AUTO_FREE char *of_role = content("logs/broker.log", &n);
	assert_string_equal(of_role, "time=2026 of a role\n");
	assert_non_null(strstr(text, " level=info role=shelld msg=\"time=2026-01-02T03:04:05.678Z level=warn role=shelld msg=x\" "
		"stream=console\n"));
	assert_non_null(strstr(text, "level=info role=shelld msg=\"[    1.2] kernel\" stream=console\n"));
	assert_null(strchr(text, '\r'));
	assert_null(strstr(text, "\\r"));
	for (enum role r = ROLE_RUNNER; r <= ROLE_SHELLD; r++) {
		AUTO_FREE char *path = xasprintf("%s/%s.log", logs, role_name(r));
		unlink(path);
	}
	assert_int_equal(rmdir(logs), 0);
	config_unref(c);
	loop_close(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_aside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_link_is_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
