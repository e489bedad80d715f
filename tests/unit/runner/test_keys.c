/* SPDX-License-Identifier: MIT
 * How the runner comes by keys and master keys: each way, which wins, and what is refused, without a word of what was
 * read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "runner/internal.h"

#define VALUE "sk-value-0123456789"

extern char **environ;

static char home[64];

static char *
put(const char *name, const char *text, mode_t mode)
{
	char *path = xasprintf("%s/%s", home, name);
	struct err e;

	unlink(path);
	assert_int_equal(file_write(path, str_of(text), 0600, &e), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static struct config *
config_of(const char *provider)
{
	AUTO_FREE char *path = xasprintf("%s/config.yaml", home);
	AUTO_FREE char *text = xasprintf("providers:\n  p: { api: openai-chat, %s }\n", provider);
	struct config_sources src = { .system_file = "/nonexistent", .home_file = path };
	struct config *c;
	struct err e = { 0 };

	assert_int_equal(file_write(path, str_of(text), 0600, &e), 0);
	if (config_load(&src, &c, &e) != 0)
		fail_msg("%s", e.msg);
	return c;
}

/* The key that a provider with these settings gets; NULL: none, e says why if there should be one. */
static const char *
key_of(const char *provider, struct err *e)
{
	static char out[KEY_MAX + 1];
	struct config *c = config_of(provider);
	struct env_keys *env = env_keys_take(c);
	struct secret *key = NULL;

	*e = (struct err){ 0 };
	int rc = key_resolve(config_get(c, "providers.p"), home, env, &key, e);
	assert_int_equal(rc, e->code);
	assert_null(strstr(e->msg, VALUE));
	if (key != NULL)
		snprintf(out, sizeof(out), "%.*s", STR_FMT(first_line(key)));
	const char *found = key != NULL ? out : NULL;
	secret_free(key);
	env_keys_free(env);
	config_unref(c);
	return found;
}

static void
assert_no_key(const char *provider, const char *why)
{
	struct err e;

	assert_null(key_of(provider, &e));
	if (strstr(e.msg, why) == NULL)
		fail_msg("%s: \"%s\" is not \"%s\"", provider, e.msg, why);
}

static void
test_ways(void **state)
{
	struct err e;

	free(put("key", "  " VALUE "-file \nsecond line\n", 0600));
	setenv("P_KEY", VALUE "-env", 1);
	assert_string_equal(key_of("api_key: " VALUE ", api_key_file: key, api_key_cmd: 'false', api_key_env: P_KEY", &e), VALUE);
	setenv("P_KEY", VALUE "-env", 1);
	assert_string_equal(key_of("api_key_file: key, api_key_cmd: 'false', api_key_env: P_KEY", &e), VALUE "-file");
	setenv("P_KEY", VALUE "-env", 1);
	assert_string_equal(key_of("api_key_cmd: 'echo " VALUE "-cmd; echo more', api_key_env: P_KEY", &e), VALUE "-cmd");
	setenv("P_KEY", VALUE "-env", 1);
	assert_string_equal(key_of("api_key_env: P_KEY", &e), VALUE "-env");
	assert_null(key_of("api_key_env: P_KEY", &e)); /* it was taken out of the environment */
	assert_int_equal(e.code, 0);
	assert_null(key_of("connect_ms: 5", &e));
}

/* The bytes of the environment themselves, which /proc/PID/environ and every copy show. */
static void
test_environment_is_emptied(void **state)
{
	static char key[] = "P_KEY=" VALUE, header[] = "ITHACA__PROVIDERS__P__HEADERS__X=" VALUE, other[] = "OTHER=" VALUE;
	static char again[] = "P_KEY=" VALUE "-again";
	char *env[] = { key, header, other, again, NULL }, **was = environ;
	struct config *c = config_of("api_key_env: P_KEY");

	environ = env;
	struct env_keys *keys = env_keys_take(c);
	environ = was;
	assert_null(memmem(key, sizeof(key), VALUE, 8));
	assert_null(memmem(again, sizeof(again), VALUE, 8));
	assert_null(memmem(header, sizeof(header), VALUE, 8));
	assert_non_null(strstr(other, VALUE)); /* the control: what is no key of ours stays */
	env_keys_free(keys);
	config_unref(c);
}

static void
test_files(void **state)
{
	struct err e;

	free(put("key", VALUE "\n", 0640));
	assert_no_key("api_key_file: key", "is open to other users, mode 640 (chmod 600");
	free(put("key", VALUE "\n", 0604));
	assert_no_key("api_key_file: key", "mode 604");
	free(put("key", VALUE "\n", 0400));
	assert_string_equal(key_of("api_key_file: key", &e), VALUE);
	free(put("key", "\n\n", 0600));
	assert_no_key("api_key_file: key", "is empty");
	assert_no_key("api_key_file: missing", "missing");
	assert_no_key("api_key_file: .", "is not a regular file");
	assert_no_key("api_key_file: /dev/zero", "is not a regular file");
	AUTO_FREE char *big = xmalloc(KEY_MAX + 3);
	memset(big, 'k', KEY_MAX + 2);
	big[KEY_MAX + 2] = '\0';
	free(put("key", big, 0600));
	assert_no_key("api_key_file: key", "is larger than");
	if (geteuid() == 0) {
		AUTO_FREE char *path = put("key", VALUE "\n", 0600);
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_no_key("api_key_file: key", "belongs to another user");
	}
}

static void
test_commands(void **state)
{
	struct err e;

	assert_no_key("api_key_cmd: 'echo " VALUE "; echo " VALUE " >&2; exit 3'", "failed with status 3");
	assert_no_key("api_key_cmd: 'kill -9 $$'", "failed with signal 9");
	assert_no_key("api_key_cmd: 'true'", "printed nothing");
	assert_no_key("api_key_cmd: 'yes " VALUE "'", "printed more than");
	/* What it leaves behind may keep its output open: only the command itself is waited for. */
	AUTO_FREE char *fifo = xasprintf("%s/fifo", home);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	AUTO_FREE char *text = xasprintf("api_key_cmd: 'cat %s & echo " VALUE "'", fifo);
	assert_string_equal(key_of(text, &e), VALUE);
	AUTO_CLOSE int fd = open(fifo, O_WRONLY); /* cat ends when we do */
	assert_true(fd >= 0);
	/* Its standard input is empty, its standard error is nobody's. */
	assert_string_equal(key_of("api_key_cmd: 'cat; readlink /proc/self/fd/2'", &e), "/dev/null");
}

/* ---- master keys ---- */

static void
load(struct masters *m)
{
	*m = (struct masters){ 0 };
	masters_load(m, home, false);
}

static void
remove_masters(void)
{
	static const char *const names[] = { "master.key", "master.salt" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO_FREE char *path = xasprintf("%s/%s", home, names[i]);
		unlink(path);
	}
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("ITHACA_PASSPHRASE_FILE");
}

static void
assert_seed(const struct masters *m, size_t i, const char *kind, const struct masters *same)
{
	assert_true(i < m->n);
	assert_string_equal(m->v[i].kind, kind);
	if (same != NULL)
		assert_true(str_eq(secret_peek(m->v[i].seed), secret_peek(same->v[0].seed)));
}

static void
test_master_file(void **state)
{
	struct masters a, b;
	struct stat st;

	remove_masters();
	load(&a);
	assert_int_equal(a.n, 1);
	assert_seed(&a, 0, "file", NULL);
	assert_int_equal(a.why.code, 0);
	AUTO_FREE char *path = xasprintf("%s/master.key", home);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	load(&b);
	assert_seed(&b, 0, "file", &a);
	masters_fini(&b);
	assert_int_equal(chmod(path, 0644), 0);
	load(&b);
	assert_int_equal(b.n, 0);
	assert_non_null(strstr(b.why.msg, "open to other users"));
	free(put("master.key", "ithaca-master 1 key 00\n", 0600)); /* never written over */
	load(&b);
	assert_int_equal(b.n, 0);
	assert_non_null(strstr(b.why.msg, "is damaged"));
	masters_fini(&a);
}

static void
test_master_passphrase(void **state)
{
	struct masters file, a, b;

	remove_masters();
	load(&file);
	AUTO_FREE char *path = put("phrase", "correct horse battery\n", 0600);
	setenv("ITHACA_PASSPHRASE_FILE", path, 1);
	load(&a);
	assert_int_equal(a.n, 2); /* and the former file, for what was sealed to it */
	assert_seed(&a, 0, "passphrase", NULL);
	assert_int_equal(a.why.code, 0);
	assert_seed(&a, 1, "file", &file);
	load(&b);
	assert_seed(&b, 0, "passphrase", &a);
	masters_fini(&b);
	free(put("phrase", "wrong horse battery\n", 0600));
	load(&b);
	assert_int_equal(b.n, 1);
	assert_non_null(strstr(b.why.msg, "is not the one of"));
	masters_fini(&b);
	unsetenv("ITHACA_PASSPHRASE_FILE"); /* it was chosen once: the file does not quietly stand in */
	load(&b);
	assert_non_null(strstr(b.why.msg, "wait for their passphrase"));
	masters_fini(&b);
	free(put("phrase", "short\n", 0600));
	setenv("ITHACA_PASSPHRASE_FILE", path, 1);
	load(&b);
	assert_non_null(strstr(b.why.msg, "shorter than 8"));
	masters_fini(&b);
	masters_fini(&a);
	masters_fini(&file);
}

static void
test_master_credential(void **state)
{
	struct masters a, b;

	remove_masters();
	setenv("CREDENTIALS_DIRECTORY", home, 1);
	free(put("ithaca-master", "0123456789abcdef0123\n", 0400));
	load(&a);
	assert_int_equal(a.n, 1); /* no file is made */
	assert_seed(&a, 0, "credential", NULL);
	load(&b);
	assert_seed(&b, 0, "credential", &a);
	masters_fini(&b);
	free(put("ithaca-master", "short\n", 0400));
	load(&b);
	assert_int_equal(b.n, 0);
	assert_non_null(strstr(b.why.msg, "shorter than 16"));
	masters_fini(&a);
	remove_masters();
}

static int
teardown(void **state)
{
	static const char *const names[] = { "config.yaml", "key", "fifo", "phrase", "ithaca-master" };

	remove_masters();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO_FREE char *path = xasprintf("%s/%s", home, names[i]);
		unlink(path);
	}
	return rmdir(home);
}

static int
setup(void **state)
{
	snprintf(home, sizeof(home), "/tmp/ithaca-keys.XXXXXX");
	return mkdtemp(home) == NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_environment_is_emptied),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_master_file),
		cmocka_unit_test(test_master_passphrase),
		cmocka_unit_test(test_master_credential),
	};
	log_open("test", 2, LOG_OFF, LOG_LOGFMT);
	return cmocka_run_group_tests(tests, setup, teardown);
}
