/* SPDX-License-Identifier: MIT
 * Paths, whole files, log records, secrets and the scrubber. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/inputs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/node.h"
#include "base/path.h"
#include "base/secret.h"

struct place {
	struct arena *a;
	char dir[64];
};

static int
setup(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	p->a = arena_new(MIB);
	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/base-test.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;
	static const char *const made[] = { "file", "pipe", "x/y/z", "x/y", "x", "log" };
	for (size_t i = 0; i < ARRAY_LEN(made); i++)
		(void)remove(path_join(p->a, p->dir, made[i]));
	int rc = rmdir(p->dir); /* fails when a temporary file was left behind */
	arena_free(p->a);
	free(p);
	return rc;
}

static void
path_text(void **state)
{
	struct place *p = *state;
	assert_string_equal(path_join(p->a, "/a", "b"), "/a/b");
	assert_string_equal(path_join(p->a, "/a//", "b"), "/a/b");
	assert_string_equal(path_join(p->a, "/", "b"), "/b");
	assert_string_equal(path_join(p->a, "", "b"), "b");
	assert_string_equal(path_join(p->a, "/a", "/b"), "/b");
	static const char *const clean[][2] = {
		{ "/a/./b//c/", "/a/b/c" },
		{ "/a/../..", "/" },
		{ "/../x", "/x" },
		{ "a/../../b", "../b" },
		{ "../../a", "../../a" },
		{ "../a/..", ".." },
		{ "", "." },
		{ ".", "." },
		{ "a/..", "." },
		{ "/", "/" },
		{ "//", "/" },
		{ "a/b/../c", "a/c" },
		{ "..a/b..", "..a/b.." },
		{ "a/...", "a/..." },
		{ "/a/b/..", "/a" },
	};
	for (size_t i = 0; i < ARRAY_LEN(clean); i++)
		assert_string_equal(path_clean(p->a, clean[i][0]), clean[i][1]);
}

static void
directories(void **state)
{
	struct place *p = *state;
	struct err e = { 0 };
	struct stat st;
	const char *dir = path_join(p->a, p->dir, "x/y/z");
	assert_int_equal(path_mkdirs(dir, 0700, &e), 0);
	assert_int_equal(path_mkdirs(dir, 0700, &e), 0);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	const char *file = path_join(p->a, p->dir, "file");
	assert_int_equal(file_write(file, STR(""), 0600, &e), 0);
	assert_int_equal(path_mkdirs(file, 0700, &e), ERR_EXISTS);
	assert_non_null(strstr(e.msg, "not a directory"));
	assert_true(path_mkdirs(path_join(p->a, file, "sub"), 0700, &e) < 0);
}

static void
whole_files(void **state)
{
	struct place *p = *state;
	const char *file = path_join(p->a, p->dir, "file");
	struct err e = { 0 };
	struct stat st;
	char *text = NULL;
	size_t n;
	assert_int_equal(file_read(file, 100, &text, &n, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, file));
	assert_int_equal(file_write(file, STR("one"), 0644, &e), 0);
	assert_int_equal(file_write(file, STR("hello\0world"), 0640, &e), 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(file_read(file, 11, &text, &n, &e), 0);
	assert_int_equal(n, 11);
	assert_memory_equal(text, "hello\0world", 12);
	free(text);
	text = NULL;
	assert_int_equal(file_read(file, 10, &text, &n, &e), ERR_LIMIT);
	assert_null(text);
	assert_int_equal(file_read(p->dir, 10, &text, &n, &e), ERR_INVALID);
	assert_int_equal(file_write(path_join(p->a, p->dir, "none/file"), STR("x"), 0600, &e),
		ERR_NOT_FOUND);
	/* Opening a pipe without a writer would wait for ever. */
	const char *pipe_path = path_join(p->a, p->dir, "pipe");
	assert_int_equal(mkfifo(pipe_path, 0600), 0);
	assert_int_equal(file_read(pipe_path, 10, &text, &n, &e), ERR_INVALID);
	assert_int_equal(unlink(pipe_path), 0); /* a link leads one of the two to the file */
	assert_int_equal(symlink(file, pipe_path), 0);
	assert_int_not_equal(file_read_no_link(pipe_path, 11, &text, &n, &e), 0);
	assert_int_equal(file_read(pipe_path, 11, &text, &n, &e), 0);
	free(text);
	assert_int_equal(file_read_no_link(file, 11, &text, &n, &e), 0);
	free(text);
	AUTO_FREE char *big = xcalloc(1, 300000);
	assert_int_equal(file_write(file, (struct str){ big, 300000 }, 0600, &e), 0);
	assert_int_equal(file_read(file, MIB, &text, &n, &e), 0);
	assert_int_equal(n, 300000);
	free(text);
	assert_int_equal(file_write(file, STR(""), 0600, &e), 0);
	assert_int_equal(file_read(file, 0, &text, &n, &e), 0);
	assert_string_equal(text, "");
	free(text);
}

static void
reading_to_the_end(void **state)
{
	char big[10000];
	memset(big, 'x', sizeof(big));
	for (size_t max = 1; max <= 20000; max += 19999) {
		struct buf b;
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		assert_int_equal(fd_write_all(ends[1], big, sizeof(big)), 0);
		close(ends[1]);
		buf_init(&b, max);
		assert_int_equal(fd_read_all(ends[0], &b), max == 1 ? -1 : 0);
		assert_int_equal(b.n, max == 1 ? 1 : sizeof(big));
		assert_memory_equal(buf_z(&b), big, b.n);
		buf_fini(&b);
		close(ends[0]);
		buf_init(&b, max);
		assert_int_equal(fd_read_all(-1, &b), -1);
		assert_int_equal(errno, EBADF);
		buf_fini(&b);
	}
}

static void
descriptor_flags(void **state)
{
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fd_set_cloexec(fds[0]), 0);
	assert_int_equal(fd_set_nonblock(fds[0]), 0);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	(void)close(fds[0]);
	(void)close(fds[1]);
	assert_int_equal(fd_set_cloexec(-1), -1);
	assert_int_equal(fd_write_all(-1, "x", 1), -1);
}

/* Everything that was logged since the last call. */
static char *
logged(struct place *p, int fd)
{
	char *text = arena_alloc(p->a, 100000);
	ssize_t n = pread(fd, text, 99999, 0);
	assert_true(n >= 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	return text;
}

static int
log_file(struct place *p)
{
	return open(path_join(p->a, p->dir, "log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void
records_as_logfmt(void **state)
{
	struct place *p = *state;
	AUTO_CLOSE int fd = log_file(p);
	log_open("runtime", fd, LOG_INFO, LOG_LOGFMT);
	log_debug("not shown", LOG_I("x", 1));
	log_info("turn finished", LOG_S("session", "01arz3ndektsv4rrffq69g5fav"), LOG_I("ms", -5),
		LOG_S("empty", ""));
	const char *line = logged(p, fd);
	assert_int_equal(strncmp(line, "time=20", 7), 0);
	assert_string_equal(strstr(line, " level="),
		" level=info role=runtime msg=\"turn finished\" "
		"session=01arz3ndektsv4rrffq69g5fav ms=-5 empty=\"\"\n");
	/* A value can neither end the record, nor steer the terminal, nor show a key. */
	log_info("x", LOG_S("v", "a\nlevel=error \"q\" \\ \x1b[0m \xff"),
		LOG_S("k", "Bearer sk-abcdefgh12345678abcd"));
	assert_string_equal(strstr(logged(p, fd), " v="),
		" v=\"a\\nlevel=error \\\"q\\\" \\\\ \\x1b[0m "
		"\xef\xbf\xbd\" k=\"Bearer [redacted]\"\n");
	log_open("x", fd, LOG_OFF, LOG_LOGFMT);
	log_error("never", LOG_I("x", 1));
	assert_string_equal(logged(p, fd), "");
}

static void
records_as_json(void **state)
{
	struct place *p = *state;
	AUTO_CLOSE int fd = log_file(p);
	const struct node *n = NULL;
	log_open("broker", fd, LOG_DEBUG, LOG_JSON);
	log_debug("a \"b\"\n", LOG_S("s", "\x1b\xff"), LOG_I("i", INT64_MIN));
	const char *line = logged(p, fd);
	assert_int_equal(json_parse(p->a, str_of(line), &n, NULL), 0);
	assert_str(node_str(n, "msg", STR("")), "a \"b\"\n");
	assert_str(node_str(n, "s", STR("")), "\x1b\xef\xbf\xbd");
	assert_true(node_int(n, "i", 0) == INT64_MIN);
	assert_str(node_str(n, "level", STR("")), "debug");
	assert_non_null(strchr(line, '\n'));
	assert_null(strchr(line, '\n')[1] ? line : NULL);
}

static void
long_records_stay_whole(void **state)
{
	struct place *p = *state;
	AUTO_CLOSE int fd = log_file(p);
	static char huge[3 * LOG_RECORD_MAX];
	memset(huge, 'x', sizeof(huge) - 1);
	for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
		const struct node *n = NULL;
		log_open("r", fd, LOG_INFO, (enum log_format)format);
		log_info("m", LOG_S("a", huge), LOG_S("b", huge), LOG_S("c", huge),
			LOG_S("d", huge), LOG_S("e", huge));
		const char *line = logged(p, fd);
		assert_true(strlen(line) <= LOG_RECORD_MAX);
		assert_int_equal(line[strlen(line) - 1], '\n');
		if (format == LOG_JSON) {
			assert_int_equal(json_parse(p->a, str_of(line), &n, NULL), 0);
			assert_str(node_str(n, "cut", STR("")), "true");
		} else {
			assert_non_null(strstr(line, " cut=true\n"));
		}
	}
}

static void *
log_much(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_info("record", LOG_S("who", arg), LOG_I("i", i));
	return NULL;
}

static void
records_of_threads_do_not_mix(void **state)
{
	struct place *p = *state;
	AUTO_CLOSE int fd = log_file(p);
	pthread_t threads[4];
	log_open("r", fd, LOG_INFO, LOG_JSON);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_much, "thread"), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	struct str rest = str_of(logged(p, fd)), line;
	size_t n = 0;
	while (str_next(&rest, '\n', &line) && line.n) {
		const struct node *record = NULL;
		assert_int_equal(json_parse(p->a, line, &record, NULL), 0);
		n++;
	}
	assert_int_equal(n, 800);
}

static void
levels(void **state)
{
	enum log_level level = LOG_OFF;
	assert_int_equal(log_level_parse(STR("debug"), &level), 0);
	assert_int_equal(level, LOG_DEBUG);
	assert_int_equal(log_level_parse(STR("verbose"), &level), -1);
	assert_int_equal(level, LOG_DEBUG);
}

static void
secrets(void **state)
{
	struct secret *x = secret_new(STR("hunter2"));
	assert_str(secret_peek(x), "hunter2");
	(void)secret_is_locked(x);
	pid_t pid = fork();
	if (pid == 0) {
		bool hidden = secret_peek(x).n == 0;
		secret_free(x);
		_exit(hidden ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	secret_free(x);
	secret_free(NULL);
	AUTO_FREE char *big = xcalloc(1, 10000);
	memset(big, 'k', 9999);
	x = secret_new(str_of(big));
	assert_int_equal(secret_peek(x).n, 9999);
	secret_free(x);
	wipe(big, 10000);
	assert_int_equal(big[0] + big[9998], 0);
}

#define UUID   "550e8400-e29b-41d4-a716-446655440000"
#define ULID   "01arz3ndektsv4rrffq69g5fav"
#define COMMIT "0f58373a9b1c2d3e4f5061728394a5b6c7d8e9f0"
#define DIGEST "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* Each key is made up. */
static void
scrubbed(void **state)
{
	static const char *const rows[][2] = {
		{ "key sk-ant-api03-AbCdEfGh12345678 end", "key [redacted] end" },
		{ "sk-proj-abcdefgh1234567890", "[redacted]" },
		{ "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[redacted]" },
		{ "(github_pat_11ABCDEFG0abcdefghijkl_xyz)", "([redacted])" },
		{ "xoxb-123456789012-abcdefABCDEF", "[redacted]" },
		{ "AKIAIOSFODNN7EXAMPLE", "[redacted]" },
		{ "AIzaSyA1234567890abcdefghijklmnopqrstuv", "[redacted]" },
		{ "ith_0123456789abcdefghij", "[redacted]" },
		{ "Authorization: Bearer abcdef1234567890", "Authorization: Bearer [redacted]" },
		{ "authorization: Basic dXNlcjpwYXNzd29yZDE=", "authorization: Basic [redacted]" },
		{ "-H 'Authorization: Bearer "
		  "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc_def-123'",
			"-H 'Authorization: Bearer [redacted]'" },
		{ "OPENAI_API_KEY=abcd1234efgh", "OPENAI_API_KEY=[redacted]" },
		{ "export DB_PASSWORD='correct horse'", "export DB_PASSWORD='[redacted]'" },
		{ "{\"api_key\": \"abc123def\", \"n\": 5}",
			"{\"api_key\": \"[redacted]\", \"n\": 5}" },
		{ "{\"clientSecret\":\"abc\\\"123\"}", "{\"clientSecret\":\"[redacted]\"}" },
		{ "password: hunter2\nuser: me", "password: [redacted]\nuser: me" },
		{ "password=secretword&x=1", "password=[redacted]&x=1" },
		{ "access_token=abcd1234efgh5678", "access_token=[redacted]" },
		{ "curl --api-key abcd1234efgh", "curl --api-key [redacted]" },
		{ "postgresql://user:p4ss@db.example.org/x",
			"postgresql://user:[redacted]@db.example.org/x" },
		{ "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb",
			"a\n[redacted]\nb" },
		{ "-----BEGIN PRIVATE KEY-----\ncut off here", "[redacted]" },
		{ "api_key=" COMMIT, "api_key=[redacted]" },
		{ "one sk-aaaaaaaaaaaaaaaa1 two sk-bbbbbbbbbbbbbbbb2",
			"one [redacted] two [redacted]" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b;
		buf_init(&b, MIB);
		size_t n = secret_scrub(&b, str_of(rows[i][0]));
		assert_string_equal(buf_z(&b), rows[i][1]);
		assert_int_equal(n, i == ARRAY_LEN(rows) - 1 ? 2 : 1);
		/* Clean text stays as it is. */
		struct buf again;
		buf_init(&again, MIB);
		assert_int_equal(secret_scrub(&again, buf_str(&b)), 0);
		assert_string_equal(buf_z(&again), buf_z(&b));
		buf_fini(&again);
		buf_fini(&b);
	}
}

static void
kept(void **state)
{
	static const char *const rows[] = {
		"",
		"plain text",
		UUID,
		ULID,
		COMMIT,
		DIGEST,
		"sha256:" DIGEST,
		"session=" ULID,
		"token=" UUID,
		"token: " ULID,
		"commit " COMMIT,
		"/home/user/.ssh/id_ed25519",
		"password_file=/run/secrets/db",
		"secret: /run/secrets/db_key1",
		"API_KEY=$OPENAI_API_KEY",
		"api_key: ${KEY}",
		"api_key=<your key>",
		"\"token\": \"string\"",
		"password: string;",
		"token = get_token(5)",
		"self.password = form.password",
		"max_tokens=4096",
		"input_tokens: 500, token: 5",
		"sk-learn-pipeline-config-name",
		"the bearer of news",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
		"https://example.org/a:b@c",
		"http://127.0.0.1:8080/x@y",
		"task-management-system-for-2024",
		"risk-assessment-document1",
		"password:",
		"password=",
		"token",
		"secret: null",
		"password = ask()",
		"\"password\": {\"type\": \"x\"}",
		"https://user@example.org/",
		"git@github.com:a/b.git",
		"tokenizer: v2long4name",
		"xhp_abc",
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b;
		buf_init(&b, MIB);
		size_t n = secret_scrub(&b, str_of(rows[i]));
		assert_string_equal(buf_z(&b), rows[i]);
		assert_int_equal(n, 0);
		buf_fini(&b);
	}
}

static void
inputs_of_a_process(void **state)
{
	char *a[] = { "X__A=1", "KEY=k", "PATH=/bin", "X__B=2" },
	     *b[] = { "PATH=/sbin", "X__B=2", "KEY=k", "X__A=1" };
	char *later[] = { "X__A=0", "KEY=k", "X__B=2", "X__A=1" },
	     *other[] = { "X__A=1", "KEY=l", "X__B=2" };
	const char *names[] = { "KEY" }, *files[] = { "/etc/passwd", "/nowhere" };
	char one[SHA256_HEX], two[SHA256_HEX];

	inputs_env("salt", a, 4, "X__", names, 1, one);
	inputs_env("salt", b, 4, "X__", names, 1, two);
	assert_string_equal(one, two); /* neither order nor other variables count */
	inputs_env("salt", later, 4, "X__", names, 1, two);
	assert_string_equal(one, two); /* the last of a name counts */
	inputs_env("salt", other, 3, "X__", names, 1, two);
	assert_string_not_equal(one, two);
	inputs_env("salt", a, 3, "X__", names, 1, two);
	assert_string_not_equal(one, two);
	inputs_env("pepper", a, 4, "X__", names, 1, two);
	assert_string_not_equal(one, two);
	inputs_files("salt", files, 2, one);
	inputs_files("salt", files, 1, two);
	assert_string_not_equal(one, two);
	inputs_files("salt", files, 2, two);
	assert_string_equal(one, two);
}

/* What a command prints cannot make the scrubber look at everything again and again: each of these
 * took minutes when it did. */
static void
scrubbed_in_one_pass(void **state)
{
	static const char *const pieces[] = { "-", "a-", "sk-", "sk-a-", "eyJ+", "eyJ.",
		"token=", "token=a.", "x.token=y/", "--token ", "a://a:", "password='a\\",
		"-----BEGIN " };

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		struct buf in, out;
		buf_init(&in, 2 * MIB);
		buf_init(&out, 4 * MIB);
		while (in.n < MIB)
			assert_int_equal(buf_add_z(&in, pieces[i]), 0);
		(void)secret_scrub(&out, buf_str(&in));
		assert_true(out.n > 0);
		buf_fini(&in);
		buf_fini(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(path_text, setup, teardown),
		cmocka_unit_test_setup_teardown(directories, setup, teardown),
		cmocka_unit_test_setup_teardown(whole_files, setup, teardown),
		cmocka_unit_test(descriptor_flags),
		cmocka_unit_test(reading_to_the_end),
		cmocka_unit_test_setup_teardown(records_as_logfmt, setup, teardown),
		cmocka_unit_test_setup_teardown(records_as_json, setup, teardown),
		cmocka_unit_test_setup_teardown(long_records_stay_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(records_of_threads_do_not_mix, setup, teardown),
		cmocka_unit_test(levels),
		cmocka_unit_test(secrets),
		cmocka_unit_test(scrubbed),
		cmocka_unit_test(scrubbed_in_one_pass),
		cmocka_unit_test(kept),
		cmocka_unit_test(inputs_of_a_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
