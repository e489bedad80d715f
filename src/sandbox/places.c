/* SPDX-License-Identifier: MIT
 * The one table of what a cell sees and may change. The cell's mounts and its Landlock rules are made from it, and so is every
 * explanation of a denial: what is said and what holds cannot differ. What no row names is not there. */
#include <stdio.h>
#include <string.h>
#include "sandbox/internal.h"

const struct cell_place cell_places[] = {
	{ "/shared", PLACE_WORKSPACE, BIND_SHARED, NULL, "the workspace" },
	{ "/scratch", PLACE_WRITE, BIND_SCRATCH, NULL, "temporary files of the user, the same for all sessions" },
	{ "/home/agent", PLACE_WRITE, BIND_HOME, NULL, "the home of the session" },
	{ "/home/agent/" CACHE_NAME, PLACE_WRITE, BIND_CACHE, NULL, "the cache of the session" },
	/* Mounted anew for each run: the rule is for what it is mounted in, which is read-only. */
	{ "/run/work", PLACE_WRITE, BIND_WORK, "/run", "inbox, outbox, work and tmp of this turn" },
	{ "/tmp", PLACE_WRITE, BIND_TMP, NULL, "memory of this cell" },
	{ "/dev/shm", PLACE_WRITE, -1, NULL, "memory of this cell" },
	{ "/app", PLACE_READ, BIND_APP, NULL, "a bundle" },
	{ "/dev", PLACE_DEVICE, -1, NULL, "the few devices that programs expect" },
	{ "/proc", PLACE_READ, -1, NULL, "the processes of one command" },
	{ "/usr", PLACE_READ, -1, NULL, "the system" },
	{ "/etc", PLACE_READ, -1, NULL, "the system's settings, without what is secret or about the host" },
	{ "/bin", PLACE_READ, -1, NULL, "the system" },
	{ "/sbin", PLACE_READ, -1, NULL, "the system" },
	{ "/lib", PLACE_READ, -1, NULL, "the system" },
	{ "/lib32", PLACE_READ, -1, NULL, "the system" },
	{ "/lib64", PLACE_READ, -1, NULL, "the system" },
	{ "/libx32", PLACE_READ, -1, NULL, "the system" },
	{ "/run", PLACE_READ, -1, NULL, "empty but for /run/work" },
	{ "/var", PLACE_READ, -1, NULL, "empty" },
	{ NULL },
};

static bool
may_write(const struct cell_place *x, int access)
{
	return x->right == PLACE_WRITE || (x->right == PLACE_WORKSPACE && access != CELL_READ_ONLY);
}

bool
bind_is_readonly(int bind, int access)
{
	for (const struct cell_place *x = cell_places; x->path != NULL; x++) {
		if (x->bind == bind)
			return !may_write(x, access);
	}
	return true;
}

/* How much of path a place covers; 0: it is not in there. */
static size_t
covers(const struct cell_place *x, const char *path)
{
	size_t n = strlen(x->path);

	return strncmp(path, x->path, n) == 0 && (path[n] == '/' || path[n] == '\0') ? n : 0;
}

/* What the plan has nothing for is an empty read-only directory. */
static bool
is_missing(const struct cell_place *x, const struct cell_plan *p)
{
	return (x->bind == BIND_SCRATCH && p->scratch == NULL) || (x->bind == BIND_APP && p->app == NULL);
}

static const struct cell_place *
place_of(const char *path)
{
	const struct cell_place *best = NULL;

	for (const struct cell_place *x = cell_places; x->path != NULL; x++) {
		if (covers(x, path) > (best == NULL ? 0 : strlen(best->path)))
			best = x;
	}
	return best;
}

const char *
sandbox_writable(const struct cell_plan *p, char out[SANDBOX_TEXT_MAX])
{
	size_t n = 0;

	out[0] = '\0';
	for (const struct cell_place *x = cell_places; x->path != NULL && n < SANDBOX_TEXT_MAX; x++) {
		if (may_write(x, p->access) && !is_missing(x, p) && x->bind != BIND_CACHE)
			n += (size_t)snprintf(out + n, SANDBOX_TEXT_MAX - n, "%s%s", n > 0 ? " " : "", x->path);
	}
	return out;
}

/* The workspace by its path on the host, which people use. */
static const char *
below_workspace(const struct cell_plan *p, const char *path)
{
	size_t n = p->shared == NULL ? 0 : strlen(p->shared);

	return n > 1 && strncmp(path, p->shared, n) == 0 && (path[n] == '/' || path[n] == '\0') ? path + n : NULL;
}

static const char *
outside(const char *below, char out[SANDBOX_TEXT_MAX])
{
	if (below != NULL)
		snprintf(out, SANDBOX_TEXT_MAX, "outside: a cell does not see the host's paths; this one is /shared%.150s there", below);
	else
		snprintf(out, SANDBOX_TEXT_MAX, "outside: a cell sees /shared, places of its own and the system, nothing else of the host; "
			"the vault and people's homes are in no cell");
	return "outside";
}

const char *
sandbox_wall(const struct cell_plan *p, const char *path, bool is_write, char text[SANDBOX_TEXT_MAX])
{
	const char *below = below_workspace(p, path);
	const struct cell_place *x = below != NULL ? NULL : place_of(path);
	char writable[SANDBOX_TEXT_MAX];

	text[0] = '\0';
	if (p->access == CELL_HOST || (x == NULL && !is_write && (strcmp(path, "/") == 0 || strcmp(path, "/home") == 0)))
		return NULL;
	if (x == NULL)
		return outside(below, text);
	if (!is_write || x->right == PLACE_DEVICE || (may_write(x, p->access) && !is_missing(x, p)))
		return NULL;
	bool is_mode = x->right == PLACE_WORKSPACE;
	snprintf(text, SANDBOX_TEXT_MAX, "%s: %s is %s, read-only %s; a cell can write: %s", is_mode ? "mode" : "system", x->path,
		is_missing(x, p) ? "empty in this cell" : x->text, is_mode ? "in mode read_only" : "in every cell", sandbox_writable(p, writable));
	return is_mode ? "mode" : "system";
}

const char *
sandbox_place(const char *path)
{
	const struct cell_place *x = place_of(path);

	return x == NULL ? NULL : x->text;
}
