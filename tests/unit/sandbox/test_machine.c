/* SPDX-License-Identifier: MIT
 * The parts of a machine that need no QEMU: the file of a saved one, its monitor's protocol, and
 * the hello of a start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "sandbox/vm_host.h"

#define MEMORY  (8 * (int64_t)MIB)
#define WAIT_MS 20000
#define KEY     "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER   "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* ---- the verdict on KVM ---- */

static enum kvm_verdict
parse(const char *z)
{
	return kvm_verdict_parse(str_of(z), KEY);
}

static void
test_verdict_text(void **state)
{
	assert_int_equal(parse("ithaca kvm 1\n" KEY "\nsilent\n"), KVM_SILENT);
	assert_int_equal(parse("ithaca kvm 1\n" KEY "\nanswered\n"), KVM_ANSWERED);
	assert_int_equal(parse("ithaca kvm 1\n" OTHER "\nsilent\n"), KVM_UNTRIED);
	assert_int_equal(parse("ithaca kvm 2\n" KEY "\nsilent\n"), KVM_UNTRIED);
	assert_int_equal(parse("ithaca kvm 1\n" KEY "\nsilent\nmore\n"), KVM_UNTRIED);
	assert_int_equal(parse("ithaca kvm 1\n" KEY "\nloud\n"), KVM_UNTRIED);
	assert_int_equal(parse("ithaca kvm 1\n" KEY "\n\n"), KVM_UNTRIED);
	assert_int_equal(parse("ithaca kvm 1\n" KEY), KVM_UNTRIED);
	assert_int_equal(parse(""), KVM_UNTRIED);
}

static void
touch(const char *path, const char *z)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0 && write(fd, z, strlen(z)) == (ssize_t)strlen(z));
	close(fd);
}

/* Whatever a start depends on makes what is known of another one worth nothing. */
static void
test_verdict_kept(void **state)
{
	char dir[] = "/tmp/ithaca-verdict-XXXXXX", verdict[64], qemu[64], other[64], guest[64];
	struct vm_parts *p = calloc(1, sizeof(*p));
	struct tier_spec s = { .guest = guest, .memory_bytes = MEMORY, .microvm = { .verdict = verdict } };

	assert_non_null(mkdtemp(dir));
	snprintf(verdict, sizeof(verdict), "%s/kvm", dir);
	snprintf(qemu, sizeof(qemu), "%s/qemu", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	snprintf(guest, sizeof(guest), "%s/guest", dir);
	snprintf(p->kernel, sizeof(p->kernel), "%s/kernel", dir);
	p->qemu = qemu;
	const char *const files[] = { qemu, other, guest, p->kernel };
	for (size_t i = 0; i < 4; i++)
		touch(files[i], "x");
	assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
	kvm_remember(&s, p, KVM_SILENT);
	assert_int_equal(kvm_recall(&s, p), KVM_SILENT);
	kvm_remember(&s, p, KVM_ANSWERED);
	assert_int_equal(kvm_recall(&s, p), KVM_ANSWERED);
	p->qemu = other;
	assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
	p->qemu = qemu;
	s.memory_bytes *= 2;
	assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
	s.memory_bytes = MEMORY;
	assert_int_equal(kvm_recall(&s, p), KVM_ANSWERED);
	for (size_t i = 0; i < 4; i++) {
		if (i == 1)
			continue; /* nobody starts it */
		touch(files[i], "longer");
		assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
		kvm_remember(&s, p, KVM_SILENT);
		assert_int_equal(kvm_recall(&s, p), KVM_SILENT);
	}
	/* Not through a link, and nowhere when nowhere is said. */
	assert_int_equal(rename(verdict, other), 0);
	assert_int_equal(symlink(other, verdict), 0);
	assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
	s.microvm.verdict = NULL;
	kvm_remember(&s, p, KVM_SILENT);
	assert_int_equal(kvm_recall(&s, p), KVM_UNTRIED);
	assert_int_equal(unlink(verdict), 0);
	for (size_t i = 0; i < 4; i++)
		unlink(files[i]);
	assert_int_equal(rmdir(dir), 0);
	free(p);
}

/* ---- the file ---- */

struct place {
	char dir[64], path[80];
	int memory;
};

static int
empty_memory(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0 && ftruncate(fd, MEMORY) == 0);
	return fd;
}

static void
put(int fd, off_t at, const char *z)
{
	assert_int_equal(pwrite(fd, z, strlen(z), at), strlen(z));
}

static int
save(struct place *p, struct err *e)
{
	int fd;

	if (saved_begin(p->path, &fd, e) != 0)
		return e->code;
	assert_int_equal(write(fd, "the devices", 11), 11);
	int rc = saved_end(p->path, KEY, fd, p->memory, MEMORY, e);
	close(fd);
	if (rc != 0)
		saved_drop(p->path);
	return rc;
}

static int
setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct err e;

	snprintf(p->dir, sizeof(p->dir), "/tmp/ithaca-saved-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/machine", p->dir);
	p->memory = empty_memory();
	put(p->memory, 0, "first page");
	put(p->memory, 5 * 4096 + 4090, "over two pages");
	put(p->memory, 3 * (off_t)MIB, "far");
	put(p->memory, MEMORY - 4, "last");
	assert_int_equal(save(p, &e), 0);
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	close(p->memory);
	unlink(p->path);
	assert_int_equal(rmdir(p->dir), 0); /* nothing is beside it */
	free(p);
	return 0;
}

static int
open_it(const struct place *p, const char *key, int64_t bytes, struct err *e)
{
	int memory = empty_memory(), fd = -1;
	int rc = saved_open(p->path, key, memory, bytes, &fd, e);

	if (rc == 0)
		close(fd);
	close(memory);
	return rc;
}

static void
test_saved(void **state)
{
	struct place *p = *state;
	char devices[12] = "", *a, *b;
	struct stat st;
	struct err e;
	int memory = empty_memory(), fd;

	assert_int_equal(saved_open(p->path, KEY, memory, MEMORY, &fd, &e), 0);
	assert_int_equal(read(fd, devices, 11), 11);
	assert_string_equal(devices, "the devices");
	close(fd);
	/* Zeros take no room, on neither side. */
	assert_int_equal(fstat(memory, &st), 0);
	assert_true(st.st_blocks * 512 < MEMORY / 4);
	a = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, p->memory, 0);
	b = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, memory, 0);
	assert_true(a != MAP_FAILED && b != MAP_FAILED);
	assert_memory_equal(a, b, MEMORY);
	munmap(a, MEMORY);
	munmap(b, MEMORY);
	close(memory);
	assert_int_equal(stat(p->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(st.st_blocks * 512 < MEMORY / 4);
	assert_int_equal(open_it(p, OTHER, MEMORY, &e), ERR_NOT_FOUND);
	assert_int_equal(open_it(p, KEY, MEMORY / 2, &e), ERR_NOT_FOUND);
}

static void
test_saved_elsewhere(void **state)
{
	struct place *p = *state;
	char link[96];
	struct err e;

	assert_int_equal(chmod(p->path, 0640), 0);
	assert_int_equal(open_it(p, KEY, MEMORY, &e), ERR_DENIED);
	assert_int_equal(chmod(p->path, 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(p->path, 65534, 0), 0);
		assert_int_equal(open_it(p, KEY, MEMORY, &e), ERR_DENIED);
		assert_int_equal(chown(p->path, 0, 0), 0);
	}
	snprintf(link, sizeof(link), "%s.real", p->path);
	assert_int_equal(rename(p->path, link), 0);
	assert_int_equal(open_it(p, KEY, MEMORY, &e), ERR_NOT_FOUND);
	assert_int_equal(symlink(link, p->path), 0);
	assert_true(open_it(p, KEY, MEMORY, &e) < 0);
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(mkfifo(p->path, 0600), 0);
	assert_int_equal(
		open_it(p, KEY, MEMORY, &e), ERR_DENIED); /* and does not wait for a writer */
	assert_int_equal(rename(link, p->path), 0);
	assert_int_equal(open_it(p, KEY, MEMORY, &e), 0);
}

/* Each of its parts, and each way of being cut. */
static void
test_saved_damage(void **state)
{
	static const struct {
		off_t at;
		const char *bytes;
	} rows[] = { { 0, "another" }, { 20, "-" }, { 85, "x" }, { SAVED_HEADER_MAX, "THE" },
		{ SAVED_MEMORY_AT, "First" },
		{ SAVED_MEMORY_AT + 2 * (off_t)MIB, "where zeros were" },
		{ SAVED_MEMORY_AT + MEMORY - 1, "T" } };
	struct place *p = *state;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int fd = open(p->path, O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		put(fd, rows[i].at, rows[i].bytes);
		close(fd);
		assert_true(open_it(p, KEY, MEMORY, &e) < 0);
		assert_int_equal(save(p, &e), 0); /* replaces it */
		assert_int_equal(open_it(p, KEY, MEMORY, &e), 0);
	}
	static const off_t sizes[] = { 0, 100, SAVED_HEADER_MAX, SAVED_HEADER_MAX + 5,
		SAVED_MEMORY_AT, SAVED_MEMORY_AT + MEMORY - 1, SAVED_MEMORY_AT + MEMORY + 1 };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		assert_int_equal(truncate(p->path, sizes[i]), 0);
		assert_true(open_it(p, KEY, MEMORY, &e) < 0);
		assert_int_equal(save(p, &e), 0);
	}
	/* A page at another place is another machine. */
	int fd = open(p->path, O_WRONLY | O_CLOEXEC);
	char page[4096] = "far", zero[4096] = "";
	assert_int_equal(
		pwrite(fd, zero, sizeof(zero), SAVED_MEMORY_AT + 3 * (off_t)MIB), sizeof(zero));
	assert_int_equal(pwrite(fd, page, sizeof(page), SAVED_MEMORY_AT + 3 * (off_t)MIB + 4096),
		sizeof(page));
	close(fd);
	assert_true(open_it(p, KEY, MEMORY, &e) < 0);
}

/* A disk that takes no more: what was there stays, and nothing is beside it. */
static void
test_saved_full(void **state)
{
	struct place *p = *state;
	struct rlimit was, less;
	struct err e;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	less = (struct rlimit){ SAVED_MEMORY_AT + MIB, was.rlim_max };
	put(p->memory, MIB + 100, "something else");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
	int rc = save(p, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_true(rc < 0);
	assert_int_equal(open_it(p, KEY, MEMORY, &e), 0);
	char name[96];
	snprintf(name, sizeof(name), "%s.new", p->path);
	assert_int_equal(access(name, F_OK), -1);
}

/* ---- the monitor ---- */

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define DONE     "{\"return\": {}}\r\n"

/* A monitor that says this, whatever it is asked. */
static pid_t
monitor(const char *says, int *fd)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char heard[4096];
		close(pair[0]);
		for (const char *c = says; *c != '\0';
			c++) { /* byte by byte: lines come in pieces */
			if (write(pair[1], c, 1) != 1)
				_exit(1);
		}
		if (shutdown(pair[1], SHUT_WR) != 0)
			_exit(1);
		while (read(pair[1], heard, sizeof(heard)) > 0) {
		}
		_exit(0);
	}
	close(pair[1]);
	*fd = pair[0];
	return pid;
}

static bool
is_lost(void *arg, struct err *e)
{
	err_set(e, ERR_CANCELLED, ERR_TO_LOG, "nobody is there");
	return false;
}

static void
test_monitor(void **state)
{
	static const struct {
		const char *says;
		int opened, called;
		const char *text;
	} rows[] = {
		{ GREETING DONE "{\"return\": {\"status\": \"running\"}}\r\n", 0, 0, "running" },
		{ "{\"event\": \"STOP\"}\n" GREETING "{\"event\": \"X\"}\r\n" DONE
		  "{\"event\":\"Y\"}\n{\"return\":{\"status\":\"paused\"}}\n",
			0, 0, "paused" },
		{ GREETING DONE
			"{\"return\": {\"status\": \"12345678901234567890123456789012345\"}}\n",
			0, 0, "1234567890123456789012345678901" },
		{ GREETING DONE "{\"return\": []}\n", 0, 0, "" },
		{ GREETING DONE
			"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\n",
			0, ERR_FAILED, "no such thing" },
		{ GREETING DONE "{\"error\": 3}\n", 0, ERR_FAILED, "does not say why" },
		{ GREETING DONE "nonsense\n", 0, ERR_PROTO, "no object" },
		{ GREETING DONE "[1]\n", 0, ERR_PROTO, "no object" },
		{ GREETING DONE, 0, ERR_GONE, "closed" },
		{ GREETING "{\"error\": {\"desc\": \"not you\"}}\n", ERR_FAILED, 0, "not you" },
		{ "", ERR_GONE, 0, "closed" },
		{ "\n", ERR_PROTO, 0, "no object" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char status[QMP_STATUS_MAX] = "";
		struct err e = { 0 };
		struct qmp q;
		int fd;
		pid_t pid = monitor(rows[i].says, &fd);
		int rc = qmp_open(&q, fd, clock_mono_ms() + WAIT_MS, NULL, NULL, &e);
		assert_int_equal(rc, rows[i].opened);
		if (rc == 0) {
			rc = qmp_call(&q, "query-status", NULL, -1, status, &e);
			assert_int_equal(rc, rows[i].called);
		}
		if (rc == 0)
			assert_string_equal(status, rows[i].text);
		else if (strstr(e.msg, rows[i].text) == NULL)
			fail_msg("row %zu: %s", i, e.msg);
		qmp_fini(&q);
		close(fd);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
}

static void
test_monitor_waits(void **state)
{
	static const char *const coming[] = { "inmigrate", NULL };
	char status[QMP_STATUS_MAX], *line = calloc(1, QMP_LINE_MAX + 2);
	struct err e = { 0 };
	struct qmp q;
	int fd, silent[2];

	pid_t pid = monitor(GREETING DONE
		"{\"return\":{\"status\":\"inmigrate\"}}\n{\"return\":{\"status\":\"inmigrate\"}}\n"
		"{\"return\":{\"status\":\"paused\"}}\n",
		&fd);
	assert_int_equal(qmp_open(&q, fd, clock_mono_ms() + WAIT_MS, NULL, NULL, &e), 0);
	assert_int_equal(qmp_await(&q, "query-status", coming, status, &e), 0);
	assert_string_equal(status, "paused");
	qmp_fini(&q);
	close(fd);
	waitpid(pid, NULL, 0);
	/* A line without end. */
	memset(line, 'x', QMP_LINE_MAX + 1);
	pid = monitor(line, &fd);
	assert_int_equal(qmp_open(&q, fd, clock_mono_ms() + WAIT_MS, NULL, NULL, &e), ERR_PROTO);
	qmp_fini(&q);
	close(fd);
	waitpid(pid, NULL, 0);
	free(line);
	/* One that says nothing: until the time is up, or nobody is there. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, silent), 0);
	assert_int_equal(
		qmp_open(&q, silent[0], clock_mono_ms() + 50, NULL, NULL, &e), ERR_TIMEOUT);
	qmp_fini(&q);
	assert_int_equal(qmp_open(&q, silent[0], clock_mono_ms() + WAIT_MS, is_lost, NULL, &e),
		ERR_CANCELLED);
	qmp_fini(&q);
	close(silent[0]);
	close(silent[1]);
}

/* ---- the hello ---- */

static void
test_hello(void **state)
{
	struct vm_hello h = { .dir = "/home/u/.ithaca/run/guest", .at_ns = 1790000000123456789 },
			got;
	struct buf b;

	memset(h.token, 'a', sizeof(h.token) - 1);
	for (size_t i = 0; i < VM_RANDOM; i++)
		h.random[i] = (unsigned char)(i * 5);
	buf_init(&b, VM_HELLO_MAX);
	vm_hello_put(&b, &h);
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(vm_hello_parse(b.p, n, &got), 0);
	assert_int_equal(vm_hello_parse(b.p, b.n, &got), 1);
	assert_string_equal(got.token, h.token);
	assert_string_equal(got.dir, h.dir);
	assert_int_equal(got.at_ns, h.at_ns);
	assert_memory_equal(got.random, h.random, VM_RANDOM);
	static const char *const wrong[] = { "\n\n\n\n", "a\n/b\n1\n00\n" };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		char text[64];
		snprintf(text, sizeof(text), "%s", wrong[i]);
		assert_true(vm_hello_parse(text, strlen(text), &got) < 0);
	}
	buf_reset(&b);
	h.dir = "relative";
	vm_hello_put(&b, &h);
	assert_true(vm_hello_parse(b.p, b.n, &got) < 0);
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdict_text),
		cmocka_unit_test(test_verdict_kept), cmocka_unit_test_setup_teardown(
						    test_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved_full, setup, teardown),
		cmocka_unit_test(test_monitor), cmocka_unit_test(test_monitor_waits),
		cmocka_unit_test(test_hello) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
