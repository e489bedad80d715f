/* SPDX-License-Identifier: MIT
 * The directories of a plan: opened once with shelld's rights, made where they are the cell's own, and checked against
 * what the runner allows. What must stay hidden is turned into the list of masks that the cell's root is built with.
 * Invariant: nothing of the daemon's own directories becomes visible in a cell but its own state. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/shelld.h"

/* below("/a", "/a/b"): "b"; below("/a", "/a"): ""; NULL when it is not. */
static const char *
below(const char *dir, const char *path)
{
	size_t n = strlen(dir);
	if (strcmp(dir, "/") == 0)
		return path + 1;
	if (strncmp(dir, path, n) != 0 || (path[n] != '/' && path[n] != '\0'))
		return NULL;
	return path[n] == '/' ? path + n + 1 : path + n;
}

/* What the daemon keeps directly below its home. */
static const char *const private_names[] = { "agents", "bundles", "config.yaml", "logs", "master.key", "master.salt",
	"programs", "run", "secrets", "skills", "state", "users" };

static bool
is_private_in_home(const char *rest)
{
	size_t n = strcspn(rest, "/");
	if (n == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(private_names); i++) {
		if (str_is((struct str){ rest, n }, private_names[i]))
			return true;
	}
	return false;
}

/* By its path, or because it is the same directory under another name (a bind mount). */
static bool
is_hidden(const struct ceiling *k, const char *path, const struct stat *st)
{
	for (size_t i = 0; i < k->hide_n; i++) {
		const struct hidden *h = &k->hide[i];
		const char *rest = below(h->path, path);
		if (rest != NULL && (h->path != k->home || is_private_in_home(rest)))
			return true;
		if (h->ino != 0 && h->ino == st->st_ino && h->dev == st->st_dev)
			return true;
	}
	return false;
}

/* Where an open directory is: what is checked is what was opened, whatever becomes of the links on the way. */
static const char *
path_of(int fd, struct arena *a)
{
	char link[32], path[PLAN_PATH_MAX + 1];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path));
	if (n <= 0 || (size_t)n == sizeof(path))
		return NULL;
	return arena_strdup(a, (struct str){ path, (size_t)n });
}

static bool
is_elsewhere(const struct ceiling *k)
{
	return k->tier != NULL && strcmp(k->tier, "cell") != 0 && strcmp(k->tier, "process") != 0;
}

/* A directory of the host that a cell shall see. */
static int
open_visible(const struct ceiling *k, const char *path, bool is_host, struct arena *a, const char **real, struct err *e)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && is_elsewhere(k)) {
		err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"not_mounted: %s is not part of this %s (add it to %s.mounts, or start Ithaca in it)", path, k->tier, k->tier);
		return -1;
	}
	if (fd < 0) {
		err_errno(e, errno, ERR_TO_USER, "workspace %s", path);
		return -1;
	}
	const char *resolved = path_of(fd, a);
	struct stat st;
	if (resolved == NULL || fstat(fd, &st) != 0) {
		err_errno(e, errno, ERR_TO_USER, "workspace %s", path);
		close(fd);
		return -1;
	}
	if (!is_host && (strcmp(resolved, "/") == 0 || is_hidden(k, resolved, &st))) {
		close(fd);
		err_set(e, ERR_DENIED, ERR_TO_USER,
			"%s cannot be a workspace: it is %s (choose a project directory with --workspace)", resolved,
			strcmp(resolved, "/") == 0 ? "the whole system" : "the daemon's own");
		return -1;
	}
	*real = resolved;
	return fd;
}

/* A directory of the cell itself, owned by the user that the cell is mapped to. Commands may have put something else in its
 * place, to lead us elsewhere: that is removed. */
static int
make_own(int parent, const char *name, uid_t uid, gid_t gid)
{
	struct stat st;

	if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
		return -1;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP) && unlinkat(parent, name, 0) == 0 && mkdirat(parent, name, 0700) == 0)
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	if (geteuid() == 0 && (st.st_uid != uid || st.st_gid != gid) && fchown(fd, uid, gid) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The directories of one run below runs/. */
static int
make_run(int runs, const char *name, uid_t uid, gid_t gid)
{
	static const char *const dirs[] = { "inbox", "outbox", "work", "tmp" };
	AUTO_CLOSE int run = make_own(runs, name, uid, gid);

	for (size_t i = 0; run >= 0 && i < ARRAY_LEN(dirs); i++) {
		AUTO_CLOSE int fd = make_own(run, dirs[i], uid, gid);
		if (fd < 0)
			return -1;
	}
	return run < 0 ? -1 : 0;
}

/* What a state directory holds. */
static const struct {
	int bind;
	const char *name;
	bool is_bare; /* only where a cell has no mounts of its own */
} state_dirs[] = { { BIND_HOME, "data", false }, { BIND_CACHE, "cache", false }, { BIND_WORK, RUNS_NAME, false },
	{ BIND_TMP, TMP_NAME, true } };

/* Makes them and, in them, where others are mounted. */
static int
make_state(int dir, enum cell_kind kind, uid_t uid, gid_t gid, int fds[BIND_COUNT])
{
	for (size_t i = 0; i < ARRAY_LEN(state_dirs); i++) {
		if (state_dirs[i].is_bare && kind == KIND_FULL)
			continue;
		fds[state_dirs[i].bind] = make_own(dir, state_dirs[i].name, uid, gid);
		if (fds[state_dirs[i].bind] < 0)
			return -1;
	}
	if (make_run(fds[BIND_WORK], RUN_DEFAULT, uid, gid) != 0)
		return -1;
	if (kind != KIND_FULL)
		return 0;
	AUTO_CLOSE int cache = make_own(fds[BIND_HOME], CACHE_NAME, uid, gid);
	return cache < 0 ? -1 : 0;
}

static int
open_state(const struct ceiling *k, const char *state, enum cell_kind kind, struct order *o, struct arena *a,
	int fds[BIND_COUNT], struct err *e)
{
	/* The spool keeps a line for each, and what is read back as one is removed one day. */
	if (strchr(state, '\n') != NULL)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "cell state %s: there is a line break in the name (choose another home)", state);
	if (path_mkdirs(state, 0700, e) != 0)
		return e->code;
	AUTO_FREE char *real = realpath(state, NULL);
	if (real == NULL)
		return err_errno(e, errno, ERR_TO_USER, "cell state %s", state);
	if (k->state_root != NULL && (below(k->state_root, real) == NULL || below(k->state_root, real)[0] == '\0'))
		return err_set(e, ERR_DENIED, ERR_TO_LOG, "cell state %s is not below %s", real, k->state_root);
	AUTO_CLOSE int dir = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (make_state(dir, kind, (uid_t)o->num[CELL_NUM_UID], (gid_t)o->num[CELL_NUM_GID], fds) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cell state %s", real);
	for (size_t i = 0; i < ARRAY_LEN(state_dirs); i++)
		if (fds[state_dirs[i].bind] >= 0)
			o->text[state_dirs[i].bind] = str_of(arena_printf(a, "%s/%s", real, state_dirs[i].name));
	return 0;
}

/* A path that leads elsewhere now would hide nothing of what it was meant to. */
static int
check_hidden(const struct hidden *h, struct err *e)
{
	struct stat st = { 0 };
	(void)lstat(h->path, &st);
	if (h->ino == 0 || (h->ino == st.st_ino && h->dev == st.st_dev))
		return 0;
	return err_set(e, ERR_CONFLICT, ERR_TO_USER,
		"%s is not the directory that it was when the daemon started (move it back, or restart the daemon)", h->path);
}

/* Where the home lies below what is mounted, it covers what is in it; a workspace inside the home has to hide that itself. */
static bool
is_covered(const struct ceiling *k, const struct hidden *h, const char *bind)
{
	const char *home = k->home == NULL ? NULL : below(bind, k->home);
	const char *rest = home == NULL || home[0] == '\0' ? NULL : below(k->home, h->path);
	return rest != NULL && rest[0] != '\0';
}

/* For each hidden path below a bind one entry "Ipath": see ORDER_CELL. */
static int
add_hides(const struct ceiling *k, struct order *o, struct arena *a, struct err *e)
{
	struct buf b;
	int r = 0;
	buf_init(&b, HIDE_MAX * BIND_COUNT * 512u);
	for (int i = BIND_SHARED; i <= BIND_APP; i++) {
		for (size_t h = 0; o->text[i].n > 0 && h < k->hide_n; h++) {
			const struct hidden *x = &k->hide[h];
			const char *rest = is_covered(k, x, o->text[i].p) ? NULL : below(o->text[i].p, x->path);
			if (rest != NULL && rest[0] != '\0' && (x->ino != 0 || access(x->path, F_OK) == 0)) {
				if ((r = check_hidden(x, e)) != 0)
					goto out;
				buf_printf(&b, "%d%s", i, rest);
				buf_add_char(&b, '\0');
			}
		}
	}
	if (b.overflow)
		r = err_set(e, ERR_LIMIT, ERR_TO_USER, "too many hidden paths below the workspace");
	o->text[CELL_TEXT_HIDE] = arena_str(a, buf_str(&b));
out:
	buf_fini(&b);
	return r;
}

/* The cell's user: ours, or, when that is root, the owner of the workspace. In a container that would take the capabilities
 * that are not there. */
static int
choose_user(const struct ceiling *k, int shared, enum cell_kind kind, struct order *o, struct err *e)
{
	struct stat st;
	if (fstat(shared, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "workspace");
	bool is_owner = geteuid() == 0 && kind == KIND_FULL && st.st_uid != 0;
	if (is_owner && is_elsewhere(k))
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"foreign_owner: the workspace %s belongs to user %lld, whom this %s cannot become (run Ithaca as that user)",
			o->text[BIND_SHARED].p, (long long)st.st_uid, k->tier);
	o->num[CELL_NUM_UID] = is_owner ? st.st_uid : geteuid();
	o->num[CELL_NUM_GID] = is_owner ? st.st_gid : getegid();
	return 0;
}

int
plan_open(const struct ceiling *k, const struct cell_plan *p, enum cell_kind kind, struct arena *a, struct order *o,
	struct err *e)
{
	const char *const visible[] = { p->shared, p->scratch, p->app };
	int fds[BIND_COUNT] = { -1, -1, -1, -1, -1, -1, -1 }, r = 0;

	for (int i = 0; i < (int)ARRAY_LEN(visible) && r == 0; i++) {
		const char *real = NULL;
		if (visible[i] == NULL)
			continue;
		fds[i] = open_visible(k, visible[i], kind == KIND_HOST, a, &real, e);
		o->text[i] = str_of(real);
		r = fds[i] < 0 ? e->code : 0;
	}
	if (r == 0)
		r = choose_user(k, fds[BIND_SHARED], kind, o, e);
	if (r == 0)
		r = open_state(k, p->state, kind, o, a, fds, e);
	if (r == 0 && kind != KIND_HOST)
		r = add_hides(k, o, a, e);
	if (r == 0 && kind == KIND_BASIC && o->text[CELL_TEXT_HIDE].n > 0)
		r = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"the workspace %s holds the daemon's own files, which cell-basic cannot hide (choose a project "
			"directory)", o->text[BIND_SHARED].p);
	for (int i = 0; i < BIND_COUNT; i++) {
		if (fds[i] >= 0 && r == 0)
			o->fd[o->fd_n++] = fds[i];
		else if (fds[i] >= 0)
			close(fds[i]);
	}
	return r;
}

/* ---- removal ---- */

/* Opens a directory of a cell to be emptied, whatever mode that gave it; -1 for anything else. No link is followed: the
 * names are the cell's. */
static int
open_to_empty(int at, const char *name)
{
	char path[32];
	AUTO_CLOSE int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (chmod(path, 0700) != 0)
		return -1;
	return openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What is in `from` is unlinked; a directory in it moves up into top, under a name of ours. The tree was made by a cell
 * that is gone: it may be deeper than we have descriptors, so it is flattened instead of walked. */
static void
flatten(int from, int top, unsigned *number)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char name[32];

	if (d == NULL)
		return;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 || unlinkat(from, x->d_name, 0) == 0)
			continue;
		if (from == top || unlinkat(from, x->d_name, AT_REMOVEDIR) == 0)
			continue;
		snprintf(name, sizeof(name), ".removed-%u", (*number)++);
		AUTO_CLOSE int sub = open_to_empty(from, x->d_name); /* its mode matters: a move rewrites its ".." */
		if (sub >= 0)
			(void)renameat(from, x->d_name, top, name);
	}
	closedir(d);
}

static int
remove_level(int top, unsigned *number)
{
	int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), removed = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL)
		return 0;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
			continue;
		AUTO_CLOSE int sub = open_to_empty(top, x->d_name);
		if (sub >= 0)
			flatten(sub, top, number);
		removed += unlinkat(top, x->d_name, AT_REMOVEDIR) == 0;
	}
	closedir(d);
	return removed;
}

static void
empty_dir(int top)
{
	unsigned number = 0;
	flatten(top, top, &number);
	while (remove_level(top, &number) > 0) {
	}
}

static int
dir_remove(int parent, const char *name)
{
	int fd = open_to_empty(parent, name);

	if (fd < 0)
		return -1;
	empty_dir(fd);
	close(fd);
	return unlinkat(parent, name, AT_REMOVEDIR);
}

int
run_make(const char *state, const char *run, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_CLOSE int dir = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int runs = dir < 0 ? -1 : openat(dir, RUNS_NAME, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (runs < 0 || make_run(runs, run, uid, gid) != 0)
		return err_errno(e, errno, ERR_TO_USER, "directory of the run in %s", state);
	return 0;
}

bool
run_has(const char *state, const char *run, const char *dir)
{
	AUTO_CLOSE int top = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int runs = top < 0 ? -1 : openat(top, RUNS_NAME, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_CLOSE int at = runs < 0 ? -1 : openat(runs, run, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd = at < 0 ? -1 : openat(at, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool has = false;

	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL && !has; x = readdir(d))
		has = strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0;
	if (d != NULL)
		closedir(d);
	return has;
}

/* The run whose directory changed longest ago; false when there are no more than are kept. */
static bool
oldest_run(int runs, const char *current, char out[CELL_KEY_MAX + 1])
{
	int fd = openat(runs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct timespec oldest = { 0 };
	size_t n = 0;

	out[0] = '\0';
	for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
		struct stat st;
		if (!key_valid(str_of(x->d_name)) || fstatat(runs, x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		n++;
		if (strcmp(x->d_name, current) == 0 || strcmp(x->d_name, RUN_DEFAULT) == 0)
			continue;
		if (out[0] == '\0' || st.st_ctim.tv_sec < oldest.tv_sec ||
			(st.st_ctim.tv_sec == oldest.tv_sec && st.st_ctim.tv_nsec < oldest.tv_nsec)) {
			oldest = st.st_ctim;
			snprintf(out, CELL_KEY_MAX + 1, "%.*s", (int)CELL_KEY_MAX, x->d_name);
		}
	}
	if (d != NULL)
		closedir(d);
	return n > RUNS_KEPT && out[0] != '\0';
}

void
runs_prune(const char *state, const char *current)
{
	AUTO_CLOSE int dir = open(state, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_CLOSE int runs = dir < 0 ? -1 : openat(dir, RUNS_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char name[CELL_KEY_MAX + 1];

	while (runs >= 0 && oldest_run(runs, current, name)) {
		if (dir_remove(runs, name) != 0)
			return;
	}
}

void
state_remove(const char *state)
{
	AUTO_CLOSE int dir = open(state, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(state_dirs); i++)
		(void)dir_remove(dir, state_dirs[i].name);
	rmdir(state);
}
