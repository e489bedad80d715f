/* SPDX-License-Identifier: MIT
 * Digests over files and environment variables. Every item is hashed with its length, so that no two lists give the same
 * bytes. The salt makes digests of two homes different, and useless for guessing a value. */
#include "base/inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "base/mem.h"

static void
add(struct sha256 *h, struct str s)
{
	uint64_t n = s.n;

	sha256_add(h, &n, sizeof n);
	sha256_add(h, s.p, s.n);
}

static void
done(struct sha256 *h, char out[SHA256_HEX])
{
	unsigned char digest[SHA256_SIZE];

	sha256_done(h, digest);
	hex_encode(digest, sizeof digest, out);
}

void
inputs_files(const char *salt, const char *const *files, size_t n, char out[SHA256_HEX])
{
	struct sha256 h;

	sha256_init(&h);
	add(&h, str_of(salt));
	for (size_t i = 0; i < n; i++) {
		char state[128] = "missing";
		struct stat st;

		if (stat(files[i], &st) == 0)
			snprintf(state, sizeof state, "%llu %lld %lld.%09ld", (unsigned long long)st.st_ino,
				(long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		add(&h, str_of(files[i]));
		add(&h, str_of(state));
	}
	done(&h, out);
}

static size_t
name_len(const char *pair)
{
	return strcspn(pair, "=");
}

/* The pair of this name that counts, NULL when there is none. */
static const char *
find(char *const *env, size_t env_n, const char *name, size_t name_n)
{
	for (size_t i = env_n; i-- > 0;)
		if (name_len(env[i]) == name_n && memcmp(env[i], name, name_n) == 0)
			return env[i];
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void
inputs_env(const char *salt, char *const *env, size_t env_n, const char *prefix, const char *const *names, size_t n,
	char out[SHA256_HEX])
{
	AUTO_FREE const char **found = xcalloc(env_n + 1, sizeof *found);
	size_t found_n = 0;
	struct sha256 h;

	for (size_t i = 0; i < env_n; i++)
		if (str_starts(str_of(env[i]), prefix) && find(env, env_n, env[i], name_len(env[i])) == env[i])
			found[found_n++] = env[i];
	qsort(found, found_n, sizeof *found, compare);
	sha256_init(&h);
	add(&h, str_of(salt));
	for (size_t i = 0; i < found_n; i++)
		add(&h, str_of(found[i]));
	for (size_t i = 0; i < n; i++) {
		const char *pair = find(env, env_n, names[i], strlen(names[i]));

		add(&h, str_of(names[i]));
		add(&h, str_of(pair != NULL ? pair : ""));
	}
	done(&h, out);
}
