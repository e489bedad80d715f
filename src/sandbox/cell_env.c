/* SPDX-License-Identifier: MIT
 * What a command finds around it: its environment and working directory, by the kind of its cell. */
#include <stdlib.h>
#include "base/path.h"
#include "sandbox/shelld.h"

struct variable {
	const char *name, *value;
};

static bool
is_overridden(struct str additions, const char *name)
{
	struct str one;
	size_t n = strlen(name);
	while (str_next(&additions, '\0', &one)) {
		if (one.n > n && one.p[n] == '=' && memcmp(one.p, name, n) == 0)
			return true;
	}
	return false;
}

static void
add_variables(const struct variable *v, size_t n, struct str additions, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		if (!is_overridden(additions, v[i].name)) {
			buf_printf(out, "%s=%s", v[i].name, v[i].value);
			buf_add_char(out, '\0');
		}
	}
}

int
cell_env(const struct cell *c, struct str additions, struct buf *out, struct err *e)
{
	const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	bool is_full = c->kind == KIND_FULL;
	const char *own_path = getenv("PATH"), *own_home = getenv("HOME"), *own_user = getenv("USER");
	const char *home = is_full ? "/home/agent" : arena_printf(c->arena, "%s/data", c->plan.state);
	const char *tmp = is_full ? "/tmp" : arena_printf(c->arena, "%s/" TMP_NAME, c->plan.state);
	const char *cache = is_full ? "/home/agent/" CACHE_NAME : arena_printf(c->arena, "%s/cache", c->plan.state);
	bool is_host = c->kind == KIND_HOST;
	const struct variable vars[] = {
		{ "PATH", is_host && own_path != NULL ? own_path : path },
		{ "HOME", is_host && own_home != NULL ? own_home : home },
		{ "USER", is_host && own_user != NULL ? own_user : "agent" },
		{ "LOGNAME", is_host && own_user != NULL ? own_user : "agent" },
		{ "SHELL", "/bin/sh" }, { "LANG", "C.UTF-8" }, { "TERM", "dumb" }, { "TMPDIR", is_host ? "/tmp" : tmp },
		{ "XDG_CACHE_HOME", cache },
	};
	/* NO_PROXY names what is in the cell itself: its own servers, and the proxy. Node.js looks only where it is told to. */
	const char *proxy = "http://127.0.0.1:3128", *inside = "localhost,127.0.0.1,::1";
	const struct variable ways_out[] = {
		{ "http_proxy", proxy }, { "https_proxy", proxy }, { "all_proxy", proxy }, { "HTTP_PROXY", proxy },
		{ "HTTPS_PROXY", proxy }, { "ALL_PROXY", proxy }, { "no_proxy", inside }, { "NO_PROXY", inside },
		{ "NODE_USE_ENV_PROXY", "1" },
	};
	struct str rest = additions, one;

	add_variables(vars, ARRAY_LEN(vars) - is_host, additions, out); /* on the host its own cache: the last one is ours */
	if (is_full && c->plan.has_proxy)
		add_variables(ways_out, ARRAY_LEN(ways_out), additions, out);
	while (str_next(&rest, '\0', &one)) {
		ptrdiff_t eq = str_find_char(one, '=');
		if (one.n > 0 && eq <= 0)
			return err_set(e, ERR_INVALID, ERR_TO_LOG, "environment: \"%.*s\" is not NAME=VALUE", (int)MIN(one.n, 40),
				one.p);
		if (one.n > 0) {
			buf_add_str(out, one);
			buf_add_char(out, '\0');
		}
	}
	return out->overflow ? err_set(e, ERR_LIMIT, ERR_TO_MODEL, "the environment is larger than %u bytes", EXEC_ENV_MAX)
			     : 0;
}

const char *
cell_cwd(const struct cell *c, struct arena *a, struct str cwd)
{
	const char *base = c->kind == KIND_FULL ? "/shared" : c->plan.shared;

	/* Cell-basic has the host's tree; whoever asks may not know yet that it is not a whole cell. */
	if (c->kind == KIND_BASIC && str_starts(cwd, "/shared") && (cwd.n == strlen("/shared") || cwd.p[strlen("/shared")] == '/'))
		cwd = str_sub(cwd, MIN(cwd.n, strlen("/shared/")), cwd.n);
	return cwd.n == 0 ? base : path_clean(a, path_join(a, base, arena_strdup(a, cwd)));
}
