/* SPDX-License-Identifier: MIT
 * libcurl, loaded at run time into a typed table of functions. One executable holds all roles of
 * the daemon, and only the broker needs libcurl: linked, it brings about 30 shared objects, 3.5 ms
 * and 8 MB into every role. The header is used for types only. Invariant: after curl_api_load every
 * member is set. */
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include "broker/internal.h"

#define CURL_LIBRARY "libcurl.so.4"
#define CURL_OLDEST  0x075700 /* 7.87.0: the store of certificates is kept between connections */

/* 5ed36f99.0: how OpenSSL finds a certificate in a directory. */
static bool
is_hash_name(const char *name)
{
	for (int i = 0; i < 8; i++) {
		if (!isxdigit((unsigned char)name[i]))
			return false;
	}
	return name[8] == '.' && isdigit((unsigned char)name[9]);
}

static bool
has_hash_names(const char *dir)
{
	DIR *d = dir != NULL ? opendir(dir) : NULL;
	bool found = false;

	if (d == NULL)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(d)) != NULL;)
		found = is_hash_name(entry->d_name);
	closedir(d);
	return found;
}

static int
resolve(struct curl_api *api, struct err *e)
{
	const struct {
		const char *name;
		void **slot;
	} rows[] = {
#define ROW(name) { "curl_" #name, (void **)&api->name },
		CURL_FUNCTIONS(ROW)
#undef ROW
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		*rows[i].slot = dlsym(api->library, rows[i].name);
		if (*rows[i].slot == NULL)
			return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
				"%s has no %s (install libcurl4 7.87 or later)", CURL_LIBRARY,
				rows[i].name);
	}
	return 0;
}

int
curl_api_load(struct curl_api *out, struct err *e)
{
	struct curl_api api = { .library = dlopen(CURL_LIBRARY, RTLD_LAZY | RTLD_LOCAL) };

	if (api.library == NULL)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"cannot load %s: %s (install the package libcurl4)", CURL_LIBRARY,
			dlerror());
	int rc = resolve(&api, e);
	if (rc == 0 && api.global_init(CURL_GLOBAL_SSL) != CURLE_OK)
		rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "libcurl does not start");
	if (rc != 0) {
		dlclose(api.library);
		return rc;
	}
	const curl_version_info_data *v = api.version_info(CURLVERSION_NOW);
	if (v->version_num < CURL_OLDEST) {
		rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"libcurl %s is too old (install 7.87 or later)", v->version);
		curl_api_unload(&api);
		return rc;
	}
	api.has_hashed_ca = has_hash_names(v->capath);
	*out = api;
	return 0;
}

void
curl_api_unload(struct curl_api *api)
{
	api->global_cleanup();
	/* The library stays mapped: OpenSSL has exit handlers in it. */
}
