/* SPDX-License-Identifier: MIT
 * err, mem, arena, attr, clock, id, hash: what everything else stands on. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/utf8.h"

static void
errors(void **state)
{
	struct err e = { 0 };
	assert_int_equal(err_set(NULL, ERR_DENIED, ERR_TO_USER, "x"), ERR_DENIED);
	assert_int_equal(err_set(&e, ERR_LIMIT, ERR_TO_MODEL, "%d is too much", 5), ERR_LIMIT);
	assert_int_equal(e.to, ERR_TO_MODEL);
	assert_int_equal(err_wrap(&e, "config %s", "a.yaml"), ERR_LIMIT);
	assert_string_equal(e.msg, "config a.yaml: 5 is too much");
	assert_int_equal(err_wrap(NULL, "x"), ERR_FAILED);
	struct err empty = { 0 }, copy = { 0 };
	assert_int_equal(err_wrap(&empty, "x"), ERR_FAILED);
	assert_int_equal(err_copy(&copy, &e), ERR_LIMIT);
	assert_string_equal(copy.msg, e.msg);
	assert_int_equal(err_copy(NULL, &e), ERR_LIMIT);
}

static void
errors_of_the_system(void **state)
{
	static const struct {
		int errnum, code;
	} rows[] = { { ENOSPC, ERR_FULL }, { EDQUOT, ERR_FULL }, { EROFS, ERR_READONLY },
		{ EACCES, ERR_DENIED }, { ENOENT, ERR_NOT_FOUND }, { EIO, ERR_IO } };
	struct err e;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(err_errno(&e, rows[i].errnum, ERR_TO_USER, "open"), rows[i].code);
	assert_string_equal(e.msg, "open: Input/output error");
	(void)err_errno(&e, 99999, ERR_TO_USER, "open");
	assert_non_null(strstr(e.msg, "99999"));
}

static void
error_messages_are_cut_between_characters(void **state)
{
	struct err e;
	char text[400];
	for (size_t i = 0; i < 199; i++)
		memcpy(text + 2 * i, "\xc3\xa9", 2);
	text[398] = '\0';
	for (size_t shift = 0; shift < 2; shift++) {
		(void)err_set(&e, ERR_IO, ERR_TO_LOG, "%s%s", shift ? "x" : "", text);
		assert_true(utf8_valid(str_of(e.msg)));
		assert_true(strlen(e.msg) >= ERR_MSG_MAX - 3);
	}
	(void)err_set(&e, ERR_IO, ERR_TO_LOG,
		"a\xff"
		"b");
	assert_string_equal(e.msg, "a\xef\xbf\xbd"
				   "b");
}

static void
error_names(void **state)
{
	assert_string_equal(err_name(ERR_NOT_FOUND), "not_found");
	assert_string_equal(err_name(12345), "internal");
	for (int code = ERR_INTERNAL; code < 0; code++)
		assert_int_equal(err_from_name(err_name(code)), code);
	assert_int_equal(err_from_name("nonsense"), ERR_FAILED);
	assert_int_equal(err_from_name(NULL), ERR_FAILED);
	static const int want[][2] = { { 0, 0 }, { ERR_FAILED, 1 }, { ERR_CONFIG, 2 },
		{ ERR_DENIED, 3 }, { ERR_LIMIT, 4 }, { ERR_CANCELLED, 5 }, { -999, 1 } };
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(err_exit_status(want[i][0]), want[i][1]);
}

static void
fatal_aborts(void **state)
{
	int fds[2];
	char text[200] = "";
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)signal(SIGABRT, SIG_DFL);
		(void)dup2(fds[1], STDERR_FILENO);
		fatal("store %s", "broken");
	}
	(void)close(fds[1]);
	int status;
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_string_equal(text, "fatal: store broken\n");
}

static void
cleanup_attributes(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), kept;
	{
		AUTO_CLOSE int closes = dup(fd);
		AUTO_CLOSE int stays = fd;
		AUTO_FREE char *p = xstrdup("x");
		kept = closes;
		assert_int_equal(take_fd(&stays), fd);
		AUTO_FREE char *q = take_ptr(&p);
		assert_null(p);
		assert_string_equal(q, "x");
		errno = EDOM;
	}
	assert_int_equal(errno, EDOM);
	assert_int_equal(fcntl(kept, F_GETFD), -1);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	(void)close(fd);
}

static void
allocation(void **state)
{
	AUTO_FREE char *z = xasprintf("%d-%s", 5, "x");
	assert_string_equal(z, "5-x");
	AUTO_FREE char *part = xstrndup("abcdef", 3);
	assert_string_equal(part, "abc");
	assert_null(mem_try(11, 10));
	AUTO_FREE void *ok = mem_try(10, 10);
	assert_non_null(ok);
	size_t cap = 0;
	int *items = NULL;
	for (size_t i = 0; i < 1000; i++) {
		items = vec_grow(items, &cap, i + 1, sizeof(*items));
		items[i] = (int)i;
	}
	assert_int_equal(items[999], 999);
	assert_true(cap >= 1000 && cap < 4000);
	free(items);
}

static void
arena_gives_zeroed_aligned_memory(void **state)
{
	struct arena *a = arena_new(1 << 20);
	for (int round = 0; round < 3; round++) {
		for (size_t size = 0; size < 3000; size += 7) {
			unsigned char *p = arena_alloc(a, size);
			assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xaa, size);
			char *unaligned = arena_printf(a, "%zu", size);
			assert_int_equal(strtoul(unaligned, NULL, 10), size);
			if (arena_used(a) > 900000)
				arena_reset(a);
		}
		arena_reset(a);
		assert_int_equal(arena_used(a), 0);
	}
	arena_free(a);
	arena_free(NULL);
}

static void
arena_keeps_its_maximum(void **state)
{
	struct arena *a = arena_new(1000);
	assert_non_null(arena_try(a, 900));
	assert_null(arena_try(a, 101));
	assert_null(arena_try(a, SIZE_MAX));
	assert_null(arena_try(a, SIZE_MAX - 16));
	assert_non_null(arena_try(a, 100));
	assert_null(arena_try(a, 1));
	arena_reset(a);
	assert_string_equal(arena_printf(a, "%s-%d", "x", 3), "x-3");
	assert_string_equal(arena_strdup(a, STR("ab\0c")), "ab");
	assert_int_equal(arena_str(a, STR("ab\0c")).n, 4);
	arena_free(a);
}

static void
time_as_text(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 4107542399999, "2100-02-28T23:59:59.999Z" },
		{ 4107542400000, "2100-03-01T00:00:00.000Z" },
		{ 1795226645678, "2026-11-21T02:04:05.678Z" },
		{ INT64_MAX, "9999-12-31T23:59:59.999Z" },
		{ INT64_MIN, "0000-01-01T00:00:00.000Z" },
	};
	char text[CLOCK_TEXT_SIZE];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(clock_text(rows[i].ms, text), rows[i].text);
	int64_t before = clock_mono_us();
	assert_true(clock_mono_us() >= before);
	assert_true(clock_wall_ms() > 1700000000000);
}

static void
ids_are_ordered(void **state)
{
	int64_t before = clock_wall_ms();
	struct id last = id_new(), next;
	for (int i = 0; i < 20000; i++) {
		next = id_new();
		assert_true(strcmp(last.z, next.z) < 0);
		last = next;
	}
	assert_true(id_valid(str_of(last.z)));
	assert_true(id_time_ms(&last) >= before && id_time_ms(&last) <= clock_wall_ms());
}

static void
ids_are_checked(void **state)
{
	struct id id;
	assert_int_equal(id_parse(STR("01ARZ3NDEKTSV4RRFFQ69G5FAV"), &id), 0);
	assert_string_equal(id.z, "01arz3ndektsv4rrffq69g5fav");
	assert_int_equal(id_time_ms(&id), 1469922850259);
	assert_true(id_valid(str_of(id.z)));
	static const char *const bad[] = { "", "01arz3ndektsv4rrffq69g5fa",
		"81arz3ndektsv4rrffq69g5fav", "01arz3ndektsv4rrffq69g5fau",
		"01arz3ndektsv4rrffq69g5fai", "01arz3ndektsv4rrffq69g5fa/" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(id_valid(str_of(bad[i])));
		assert_int_equal(id_parse(str_of(bad[i]), &id), -1);
	}
	assert_false(id_valid(STR("01ARZ3NDEKTSV4RRFFQ69G5FAV")));
}

/* Parent and child in the same millisecond must not give the same id. */
static void
a_fork_does_not_repeat_ids(void **state)
{
	int fds[2];
	struct id ours[200], theirs[200];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	(void)id_new();
	pid_t pid = fork();
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		ours[i] = id_new();
	if (pid == 0)
		_exit(write(fds[1], ours, sizeof(ours)) == (ssize_t)sizeof(ours) ? 0 : 1);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(fds[0], theirs, sizeof(theirs)), sizeof(theirs));
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		for (size_t k = 0; k < ARRAY_LEN(theirs); k++)
			assert_string_not_equal(ours[i].z, theirs[k].z);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void
digests(void **state)
{
	char hex[SHA256_HEX];
	sha256_hex(STR("abc"), hex); /* FIPS 180-4 */
	assert_string_equal(
		hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex(STR(""), hex);
	assert_string_equal(
		hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	struct sha256 h;
	unsigned char out[SHA256_SIZE];
	sha256_init(&h);
	sha256_add(&h, "a", 1);
	sha256_add(&h, NULL, 0);
	sha256_add(&h, "bc", 2);
	sha256_done(&h, out);
	hex_encode(out, 2, hex);
	assert_string_equal(hex, "ba78");
	assert_true(hash64(STR("")) == UINT64_C(0xcbf29ce484222325));
	assert_true(hash64(STR("foobar")) == UINT64_C(0x85944171f73967e8));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors),
		cmocka_unit_test(errors_of_the_system),
		cmocka_unit_test(error_messages_are_cut_between_characters),
		cmocka_unit_test(error_names),
		cmocka_unit_test(fatal_aborts),
		cmocka_unit_test(cleanup_attributes),
		cmocka_unit_test(allocation),
		cmocka_unit_test(arena_gives_zeroed_aligned_memory),
		cmocka_unit_test(arena_keeps_its_maximum),
		cmocka_unit_test(time_as_text),
		cmocka_unit_test(ids_are_ordered),
		cmocka_unit_test(ids_are_checked),
		cmocka_unit_test(a_fork_does_not_repeat_ids),
		cmocka_unit_test(digests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
