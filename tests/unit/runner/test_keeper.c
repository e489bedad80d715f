/* SPDX-License-Identifier: MIT
 * Files of the host for a runtime in a container: those of the table come and go as they are, any other is refused that who
 * may see it can read, and a link that broke gives no answer any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "runner/internal.h"

static char home[64], work[64];
static struct runner r;
static struct keeper *keeper;

/* In place of the runner's: a job of a keeper that was closed is over. */
void
runner_changed(struct runner *of)
{
	assert_int_equal(of->file_jobs, 0);
}

static char *
at(const char *dir, const char *name)
{
	static char path[8][200];
	static unsigned next;
	char *p = path[next++ % 8];

	snprintf(p, 200, "%s/%s", dir, name);
	return p;
}

static int
setup(void **state)
{
	static const char *const flags[] = { "providers.offline.script=rules.yaml", NULL };
	struct config_sources src = { .system_file = "/nonexistent", .flags = flags };
	struct err e;

	snprintf(home, sizeof home, "/tmp/ithaca-keeper.XXXXXX");
	snprintf(work, sizeof work, "/tmp/ithaca-keeper-work.XXXXXX");
	if (mkdtemp(home) == NULL || mkdtemp(work) == NULL)
		return -1;
	r = (struct runner){ .home = home };
	assert_int_equal(loop_open(&r.loop, &e), 0);
	if (config_load(&src, &r.settings.config, &e) != 0)
		fail_msg("%s", e.msg);
	return 0;
}

static int
teardown(void **state)
{
	static const char *const names[] = { "config.yaml", "secrets", "master.key", "rules.yaml" };

	config_unref(r.settings.config);
	loop_close(r.loop);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(at(home, names[i]));
	unlink(at(work, ".ithaca.yaml"));
	unlink(at(work, "other"));
	return rmdir(home) | rmdir(work);
}

static void
put(const char *path, const char *text)
{
	struct err e;

	assert_int_equal(file_write(path, str_of(text), 0600, &e), 0);
}

/* The asking end blocks, so it has a thread of its own; the loop runs until it has closed its end. */
struct asking {
	void (*fn)(struct hostfiles *h);
	int fd;
};

static void *
asker(void *arg)
{
	struct asking *a = arg;
	struct hostfiles *h = hostfiles_open(a->fd);

	a->fn(h);
	hostfiles_close(h);
	return NULL;
}

static void
ask(void (*fn)(struct hostfiles *h))
{
	struct asking a = { .fn = fn };
	struct err e;
	pthread_t t;

	keeper = keeper_open(&r, &a.fd, &e);
	assert_non_null(keeper);
	assert_int_equal(pthread_create(&t, NULL, asker, &a), 0);
	loop_run(r.loop);
	pthread_join(t, NULL);
	keeper_close(keeper);
	assert_int_equal(r.file_jobs, 0);
}

/* What a read of either kind gives: "" for an error. */
static int
read_rc(struct hostfiles *h, const char *path, bool is_plain, char text[200])
{
	struct err e = { 0 };
	char *got = NULL;
	size_t n = 0;
	int rc = (is_plain ? hostfiles_read_plain : hostfiles_read)(h, path, 64 * KIB, &got, &n, &e);

	text[0] = '\0';
	if (rc == 0)
		snprintf(text, 200, "%.*s", (int)n, got);
	free(got);
	assert_true(rc == 0 || (rc == e.code && e.msg[0] != '\0'));
	return rc;
}

static void
ask_table(struct hostfiles *h)
{
	char text[200];
	struct err e = { 0 };
	char *got = NULL;
	mode_t mode;
	size_t n;

	assert_int_equal(read_rc(h, at(home, "config.yaml"), false, text), ERR_NOT_FOUND);
	assert_int_equal(hostfiles_write(h, at(home, "config.yaml"), STR("mode: read_only\n"), &e), 0);
	assert_int_equal(read_rc(h, at(home, "config.yaml"), false, text), 0);
	assert_string_equal(text, "mode: read_only\n");
	assert_int_equal(hostfiles_write(h, at(home, "secrets"), STR("sealed\n"), &e), 0);
	assert_int_equal(read_rc(h, at(home, "secrets"), false, text), 0);
	assert_string_equal(text, "sealed\n");
	assert_int_equal(read_rc(h, at(home, "rules.yaml"), false, text), 0);
	assert_int_equal(read_rc(h, at(work, ".ithaca.yaml"), true, text), 0);
	assert_string_equal(text, "mode: read_only\n");
	assert_int_equal(hostfiles_read(h, at(home, "secrets"), 3, &got, &n, &e), ERR_LIMIT);
	assert_int_equal(hostfiles_look(h, work, true, &mode, &e), 0);
	assert_true(S_ISDIR(mode));
	assert_int_equal(hostfiles_look(h, at(work, "none"), true, &mode, &e), ERR_NOT_FOUND);
	assert_int_equal(hostfiles_look(h, "relative", true, &mode, &e), ERR_DENIED);
}

static void
test_table(void **state)
{
	struct stat st;

	put(at(home, "rules.yaml"), "rules");
	put(at(work, ".ithaca.yaml"), "mode: read_only\n");
	ask(ask_table);
	assert_int_equal(stat(at(home, "secrets"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
ask_others(struct hostfiles *h)
{
	const char *no_read[] = { at(home, "master.key"), "/etc/passwd", at(work, ".ithaca.yaml"), at(work, "other"),
		at(home, "../../etc/passwd"), "config.yaml" };
	const char *no_plain[] = { at(work, "other"), at(home, "master.key"), at(home, "config.yaml") };
	char text[200];
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(no_read); i++)
		assert_int_equal(read_rc(h, no_read[i], false, text), ERR_DENIED);
	for (size_t i = 0; i < ARRAY_LEN(no_plain); i++)
		assert_int_equal(read_rc(h, no_plain[i], true, text), ERR_DENIED);
	assert_int_equal(read_rc(h, at(work, "../tmp/.ithaca.yaml"), true, text), ERR_DENIED);
	assert_int_equal(hostfiles_write(h, at(home, "master.key"), STR("mine"), &e), ERR_DENIED);
	assert_int_equal(hostfiles_write(h, at(work, ".ithaca.yaml"), STR("mine"), &e), ERR_DENIED);
	assert_int_equal(hostfiles_write(h, at(home, "rules.yaml"), STR("mine"), &e), ERR_DENIED);
	/* A link of the workspace to what may not be read. */
	assert_int_equal(unlink(at(work, ".ithaca.yaml")), 0);
	assert_int_equal(symlink(at(home, "master.key"), at(work, ".ithaca.yaml")), 0);
	assert_true(read_rc(h, at(work, ".ithaca.yaml"), true, text) != 0);
	assert_string_equal(text, "");
}

static void
test_others(void **state)
{
	char text[200];

	put(at(home, "master.key"), "the key");
	put(at(home, "config.yaml"), "");
	put(at(work, "other"), "other");
	put(at(work, ".ithaca.yaml"), "");
	/* The control: who sees them can read them. */
	assert_int_equal(read_rc(NULL, at(home, "master.key"), false, text), 0);
	assert_string_equal(text, "the key");
	assert_int_equal(read_rc(NULL, at(work, "other"), true, text), 0);
	ask(ask_others);
	assert_int_equal(read_rc(NULL, at(home, "master.key"), false, text), 0);
	assert_string_equal(text, "the key");
}

static void
close_it(void *arg)
{
	keeper_close(take_ptr(&keeper));
}

static void
ask_gone(struct hostfiles *h)
{
	char text[200];

	put(at(home, "secrets"), "sealed\n");
	assert_int_equal(read_rc(h, at(home, "secrets"), false, text), 0);
	loop_post(r.loop, close_it, NULL);
	/* Answered or not, the next one is not. */
	(void)read_rc(h, at(home, "secrets"), false, text);
	assert_int_equal(read_rc(h, at(home, "secrets"), false, text), ERR_GONE);
	assert_int_equal(read_rc(h, at(home, "secrets"), false, text), ERR_GONE);
}

static void
test_gone(void **state)
{
	ask(ask_gone);
}

static void *
babbler(void *arg)
{
	int fd = *(int *)arg;
	char answer[64];

	assert_int_equal(send(fd, "\xff\xff\xff\x7f\0\0\0\0no frame", 16, MSG_NOSIGNAL), 16);
	assert_int_equal(recv(fd, answer, sizeof answer, 0), 0); /* dropped */
	close(fd);
	return NULL;
}

static void
test_no_frame(void **state)
{
	struct err e;
	pthread_t t;
	int fd;

	keeper = keeper_open(&r, &fd, &e);
	assert_int_equal(pthread_create(&t, NULL, babbler, &fd), 0);
	loop_run(r.loop);
	pthread_join(t, NULL);
	keeper_close(keeper);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_frame, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
