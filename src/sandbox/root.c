/* SPDX-License-Identifier: MIT
 * The file system that a cell sees, built by its cell init between clone and pivot_root from tables: a small tmpfs with
 * read-only binds of the system, a curated /etc, a minimal /dev, its own /proc, and the directories of the plan. Nothing
 * is shown unless a row names it. Invariant: sources are opened before the new root covers anything, and every bind is
 * nosuid; everything but the few devices is nodev. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/internal.h"

#define ROOT_MOUNT_POINT "/tmp" /* exists everywhere; covered only in the cell's own mount namespace */
#define ROOT_OPTIONS     "mode=755,size=4m,nr_inodes=4k"
#define BYTES_PER_INODE 4096 /* of /tmp and /dev/shm */
#define ETC_COPY_MAX     (16u * KIB) /* larger files are bound */
#define ETC_ENTRIES_MAX  128u

#define ATTR_RO (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define ATTR_RW (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

#define RUNS_DIR "run/.runs"

/* ---- tables ---- */

/* Directories of the new root, parents first. */
static const struct {
	const char *path;
	mode_t mode;
} dirs[] = {
	{ "usr", 0755 }, { "etc", 0755 }, { "etc/ssl", 0755 }, { "proc", 0755 }, { "dev", 0755 }, { "dev/pts", 0755 },
	{ "dev/shm", 0755 }, { "tmp", 0755 }, { "var", 0755 }, { "home", 0755 }, { "home/agent", 0755 },
	{ "run", 0755 }, { "run/work", 0755 }, { RUNS_DIR, 0755 }, { "shared", 0755 }, { "scratch", 0755 }, { "app", 0755 },
};

/* Below / beside /usr: links or directories, as the host has them. */
static const char *const top[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };

/* What of the host's /etc is neither secret nor about the host: libraries, certificates, languages, types. */
static const char *const etc_names[] = { "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf",
	"crypto-policies", "debian_version", "fonts", "gai.conf", "ghostscript", "groff", "host.conf", "inputrc",
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "lsb-release", "magic",
	"magic.mime", "maven", "mime.types", "networks", "os-release", "perl", "pki", "protocols", "rpc", "services",
	"sgml", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "texmf", "timezone", "xattr.conf", "xml" };
static const char *const etc_prefixes[] = { "java", "python3", "fpc", "php", "ImageMagick" };

/* What names the people and the host: made here. */
static const struct {
	const char *path, *text;
} etc_texts[] = {
	{ "etc/passwd", "root:x:0:0:root:/:/usr/sbin/nologin\n"
			"agent:x:1000:1000:agent:/home/agent:/bin/sh\n"
			"nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n" },
	{ "etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n" },
	{ "etc/hosts", "127.0.0.1 localhost cell\n::1 localhost cell\n" },
	{ "etc/hostname", "cell\n" },
	{ "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n" },
	{ "etc/resolv.conf", "# This cell has no network.\n" },
};

static const char *const devices[] = { "null", "zero", "full", "random", "urandom", "tty" };

static const struct {
	const char *path, *target;
} links[] = {
	{ "dev/ptmx", "pts/ptmx" }, { "dev/fd", "/proc/self/fd" }, { "dev/stdin", "/proc/self/fd/0" },
	{ "dev/stdout", "/proc/self/fd/1" }, { "dev/stderr", "/proc/self/fd/2" }, { "etc/mtab", "/proc/mounts" },
	{ "var/tmp", "../tmp" }, { "var/run", "../run" }, { "run/shm", "../dev/shm" },
};

/* Of /proc, beyond its being read-only: what tells about the kernel or the machine's keys. */
static const char *const proc_masks[] = { "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/sysrq-trigger",
	"/proc/timer_list", "/proc/kallsyms", "/proc/sched_debug", "/proc/vmallocinfo", "/proc/slabinfo" };

/* Whether they can be written: places.c. */
static const char *const bind_targets[BIND_COUNT] = {
	[BIND_SHARED] = "shared", [BIND_SCRATCH] = "scratch", [BIND_APP] = "app",
	[BIND_HOME] = "home/agent", [BIND_CACHE] = ("home/agent/" CACHE_NAME),
	[BIND_WORK] = RUNS_DIR, [BIND_TMP] = "tmp",
};

/* ---- what the host has ---- */

struct entry {
	char *path; /* below /, as in the new root */
	enum { ENTRY_LINK, ENTRY_COPY, ENTRY_FILE, ENTRY_DIR } type;
	struct str text; /* ENTRY_LINK: target; ENTRY_COPY: content. Heap. */
};

struct survey {
	struct entry *entries;
	size_t n, cap;
	struct timespec etc_mtime;
};

static void
entry_free(struct entry *x)
{
	free(x->path);
	free((void *)(uintptr_t)x->text.p);
}

static void
survey_add(struct survey *s, const char *path)
{
	char host[256], target[256];
	struct stat st;
	struct entry x = { .type = ENTRY_FILE };

	snprintf(host, sizeof(host), "/%s", path);
	if (lstat(host, &st) != 0 || s->n >= ETC_ENTRIES_MAX)
		return;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(host, target, sizeof(target));
		if (n <= 0 || (size_t)n >= sizeof(target))
			return;
		x.type = ENTRY_LINK;
		x.text = (struct str){ xstrndup(target, (size_t)n), (size_t)n };
	} else if (S_ISDIR(st.st_mode)) {
		x.type = ENTRY_DIR;
	} else if (!S_ISREG(st.st_mode) || (st.st_mode & 0444) != 0444) {
		return; /* a file that not everybody may read is nobody's business */
	} else if (st.st_size <= (off_t)ETC_COPY_MAX) {
		char *text;
		size_t n;
		if (file_read(host, ETC_COPY_MAX, &text, &n, NULL) != 0)
			return;
		x.type = ENTRY_COPY;
		x.text = (struct str){ text, n };
	}
	x.path = xstrdup(path);
	s->entries = vec_grow(s->entries, &s->cap, s->n + 1, sizeof(s->entries[0]));
	s->entries[s->n++] = x;
}

static void
survey_prefixes(struct survey *s)
{
	char path[300];
	DIR *d = opendir("/etc");
	if (d == NULL)
		return;
	for (const struct dirent *x = readdir(d); x != NULL; x = readdir(d)) {
		for (size_t i = 0; i < ARRAY_LEN(etc_prefixes); i++) {
			if (strncmp(x->d_name, etc_prefixes[i], strlen(etc_prefixes[i])) == 0) {
				snprintf(path, sizeof(path), "etc/%s", x->d_name);
				survey_add(s, path);
			}
		}
	}
	closedir(d);
}

struct survey *
survey_new(void)
{
	struct survey *s = xcalloc(1, sizeof(*s));
	struct stat st;
	char path[64];

	if (stat("/etc", &st) == 0)
		s->etc_mtime = st.st_mtim;
	for (size_t i = 0; i < ARRAY_LEN(top); i++)
		survey_add(s, top[i]);
	for (size_t i = 0; i < ARRAY_LEN(etc_names); i++) {
		snprintf(path, sizeof(path), "etc/%s", etc_names[i]);
		survey_add(s, path);
	}
	survey_prefixes(s);
	return s;
}

void
survey_free(struct survey *s)
{
	for (size_t i = 0; i < s->n; i++)
		entry_free(&s->entries[i]);
	free(s->entries);
	free(s);
}

size_t
survey_paths(const struct survey *s, const char **out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n && n < max; i++)
		out[n++] = s->entries[i].path;
	return n;
}

bool
survey_is_stale(const struct survey *s)
{
	struct stat st;
	return stat("/etc", &st) == 0 && (st.st_mtim.tv_sec != s->etc_mtime.tv_sec ||
		st.st_mtim.tv_nsec != s->etc_mtime.tv_nsec);
}

/* ---- building ---- */

static int
put(const char *path, struct str text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return fd < 0 ? -1 : fd_write_all(fd, text.p, text.n);
}

int
root_user(const struct order *cell, struct err *e)
{
	char map[64];

	/* The files below /proc/self belong to root while the process is not dumpable, so it has to be for a moment. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	const struct {
		const char *path, *format;
		long long id;
	} files[] = {
		{ "/proc/self/setgroups", "deny", 0 },
		{ "/proc/self/uid_map", "%d %lld 1\n", cell->num[CELL_NUM_UID] },
		{ "/proc/self/gid_map", "%d %lld 1\n", cell->num[CELL_NUM_GID] },
	};
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		AUTO_CLOSE int fd = open(files[i].path, O_WRONLY | O_CLOEXEC);
		int n = i == 0 ? snprintf(map, sizeof(map), "deny")
			       : snprintf(map, sizeof(map), "%d %lld 1\n", CELL_UID, files[i].id);
		if (fd < 0 || write(fd, map, (size_t)n) != n)
			return err_errno(e, errno, ERR_TO_USER, "cannot write %s", files[i].path);
	}
	if (setresgid(CELL_UID, CELL_UID, CELL_UID) != 0 || setresuid(CELL_UID, CELL_UID, CELL_UID) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot become user %d of the cell", CELL_UID);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

int
root_network(struct err *e)
{
	AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot bring up lo in the cell");
	return 0;
}

int
root_proxy(struct err *e)
{
	const struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PROXY_PORT),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, EGRESS_CONNECTIONS_MAX) == 0)
		return fd;
	err_errno(e, errno, ERR_TO_USER, "cannot listen on port %d in the cell", PROXY_PORT);
	if (fd >= 0)
		close(fd);
	return e->code;
}

/* A detached copy of a directory tree of the host, with all that is mounted below it. */
static int
tree_open(const char *path)
{
	return open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

static int
tree_attach(int tree, const char *target, uint64_t attrs)
{
	struct mount_attr attr = { .attr_set = attrs };
	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) != 0)
		return -1;
	return move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

static int
bind_path(const char *host, const char *target, uint64_t attrs, struct err *e)
{
	AUTO_CLOSE int tree = tree_open(host);
	if (tree < 0 || tree_attach(tree, target, attrs) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot show %s in the cell", host);
	return 0;
}

static int
add_entry(const struct entry *x, struct err *e)
{
	char host[256];
	int r = 0;

	snprintf(host, sizeof(host), "/%s", x->path);
	switch (x->type) {
	case ENTRY_LINK:
		r = symlink(x->text.p, x->path);
		break;
	case ENTRY_COPY:
		r = put(x->path, x->text);
		break;
	case ENTRY_FILE:
		r = put(x->path, STR(""));
		return r == 0 ? bind_path(host, x->path, ATTR_RO, e) : err_errno(e, errno, ERR_TO_USER, "%s", host);
	case ENTRY_DIR:
		r = mkdir(x->path, 0755);
		return r == 0 ? bind_path(host, x->path, ATTR_RO, e) : err_errno(e, errno, ERR_TO_USER, "%s", host);
	}
	return r == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot make %s in the cell", host);
}

static int
add_system(const struct survey *s, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		if (mkdir(dirs[i].path, dirs[i].mode) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot make /%s in the cell", dirs[i].path);
	}
	if (bind_path("/usr", "usr", ATTR_RO, e) != 0)
		return e->code;
	for (size_t i = 0; i < s->n; i++) {
		if (add_entry(&s->entries[i], e) != 0)
			return e->code;
	}
	for (size_t i = 0; i < ARRAY_LEN(etc_texts); i++) {
		if (put(etc_texts[i].path, str_of(etc_texts[i].text)) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot make /%s in the cell", etc_texts[i].path);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		if (symlink(links[i].target, links[i].path) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot make /%s in the cell", links[i].path);
	}
	return 0;
}

/* Read-only: that does not keep from writing to a device, but from changing the mode of the host's node. */
static int
add_devices(struct err *e)
{
	char host[64], target[64];
	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		snprintf(host, sizeof(host), "/dev/%s", devices[i]);
		snprintf(target, sizeof(target), "dev/%s", devices[i]);
		if (put(target, STR("")) != 0 || bind_path(host, target, MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY, e) != 0)
			return e->code != 0 ? e->code : err_errno(e, errno, ERR_TO_USER, "cannot make /%s", target);
	}
	if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620") != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot mount devpts in the cell");
	return 0;
}

static int
add_tmpfs(const char *target, int64_t size, struct err *e)
{
	char options[96];
	/* Empty files take memory of the kernel only, which no limit of the cell counts where there is no cgroup. */
	snprintf(options, sizeof(options), "mode=1777,size=%lld,nr_inodes=%lld", (long long)size,
		(long long)(size / BYTES_PER_INODE + 1024));
	if (mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot mount /%s in the cell", target);
	return 0;
}

static int
add_binds(const struct order *cell, const int *trees, struct err *e)
{
	for (int i = 0; i < BIND_COUNT; i++) {
		if (trees[i] < 0)
			continue;
		if (tree_attach(trees[i], bind_targets[i], bind_is_readonly(i, (int)cell->num[CELL_NUM_ACCESS]) ? ATTR_RO : ATTR_RW) != 0)
			return err_errno(e, errno, ERR_TO_USER, "cannot show %s in the cell", cell->text[i].p);
		close(trees[i]);
	}
	return 0;
}

/* Each directory between a bind and what is hidden in it is mounted on itself: a mount point cannot be moved, so what is
 * hidden stays where the next cell will hide it. */
static int
pin_above(char *target, size_t from, struct err *e)
{
	for (char *slash = strchr(target + from, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int r = mount(target, target, NULL, MS_BIND | MS_REC, NULL);
		if (r != 0 && errno != ENOENT)
			return err_errno(e, errno, ERR_TO_USER, "cannot pin %s in the cell", target);
		*slash = '/';
	}
	return 0;
}

/* The daemon's own files may lie below a workspace: an empty read-only directory is put over them. */
static int
add_hides(const struct order *cell, struct err *e)
{
	struct str rest = cell->text[CELL_TEXT_HIDE], one;
	char target[4096];

	while (str_next(&rest, '\0', &one)) {
		if (one.n < 2 || one.p[0] < '0' || one.p[0] >= '0' + BIND_COUNT)
			continue;
		const char *bind = bind_targets[one.p[0] - '0'];
		int n = snprintf(target, sizeof(target), "%s/%.*s", bind, (int)one.n - 1, one.p + 1);
		if (n < 0 || (size_t)n >= sizeof(target))
			return err_set(e, ERR_LIMIT, ERR_TO_USER, "a path to hide in the cell is too long");
		if (pin_above(target, strlen(bind) + 1, e) != 0)
			return e->code;
		if (mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=555,size=4k") != 0 &&
			errno != ENOENT)
			return err_errno(e, errno, ERR_TO_USER, "cannot hide %s in the cell", target);
	}
	return 0;
}

/* The old root ends on top of the new one and is detached: no name leads there any more. */
int
root_enter(struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	if (syscall(SYS_pivot_root, ".", ".") != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot enter the cell's root (pivot_root)");
	if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot detach the host's root");
	if (mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make the cell's root read-only");
	return 0;
}

/* Read-only, so no kernel tunable can be written even where the cell's user is the host's root. is_nested: over the
 * /proc of the cell, for one command. */
int
root_proc(bool is_nested, struct err *e)
{
	const char *target = is_nested ? "/proc" : "proc";
	if (mount("proc", target, "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot mount /proc in the cell");
	if (!is_nested)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(proc_masks); i++) {
		if (mount("/dev/null", proc_masks[i], NULL, MS_BIND, NULL) != 0 && errno != ENOENT)
			return err_errno(e, errno, ERR_TO_USER, "cannot mask %s", proc_masks[i]);
	}
	return 0;
}

/* Kept open, then covered: what other runs left is reached only by root_run. */
static int
cover_runs(int *runs, struct err *e)
{
	*runs = open(RUNS_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*runs < 0 || mount("tmpfs", RUNS_DIR, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=555,size=4k") != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot cover the directories of runs in the cell");
	return 0;
}

/* Commands that run see the mounts that were there when they began. */
int
root_run(int runs, const char *name, struct err *e)
{
	AUTO_CLOSE int tree = open_tree(runs, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (tree < 0)
		return err_errno(e, errno, ERR_TO_MODEL, "/run/work of this run");
	(void)umount2("/run/work", MNT_DETACH); /* of the run before; the first time there is none */
	if (tree_attach(tree, "/run/work", ATTR_RW) != 0)
		return err_errno(e, errno, ERR_TO_MODEL, "/run/work of this run");
	return 0;
}

/* The path must still lead to the directory that was checked. */
static int
bind_open(const struct order *cell, int i, int *bind, struct err *e)
{
	struct stat was, is;
	int tree = tree_open(cell->text[i].p);
	if (tree < 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot show %s in the cell", cell->text[i].p);
	if (fstat(*bind, &was) != 0 || fstat(tree, &is) != 0 || was.st_dev != is.st_dev || was.st_ino != is.st_ino) {
		close(tree);
		return err_set(e, ERR_CONFLICT, ERR_TO_USER, "%s changed while its cell was made (try again)",
			cell->text[i].p);
	}
	close(*bind);
	*bind = tree;
	return 0;
}

/* No mount of a cell shows up on the host, and none of the host's in a cell later. */
int
root_leave(struct err *e)
{
	if (unshare(CLONE_NEWNS) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make a mount namespace for the cell");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make the mounts of the cell private");
	return 0;
}

int
root_open(const struct order *cell, int binds[BIND_COUNT], struct err *e)
{
	for (int i = 0; i < BIND_COUNT; i++) {
		if (binds[i] >= 0 && bind_open(cell, i, &binds[i], e) != 0)
			return e->code;
	}
	return 0;
}

int
root_frame(const struct survey *s, struct err *e)
{
	if (mount("tmpfs", ROOT_MOUNT_POINT, "tmpfs", MS_NOSUID | MS_NODEV, ROOT_OPTIONS) != 0 ||
		chdir(ROOT_MOUNT_POINT) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot mount the cell's root");
	umask(022);
	return add_system(s, e) != 0 || add_devices(e) != 0 ? e->code : root_proc(false, e);
}

int
root_furnish(const struct order *cell, const int trees[BIND_COUNT], int *runs, struct err *e)
{
	int64_t tmp_bytes = cell->num[CELL_NUM_TMP];

	if (add_tmpfs("tmp", tmp_bytes, e) != 0 || add_tmpfs("dev/shm", tmp_bytes, e) != 0 || add_binds(cell, trees, e) != 0 ||
		add_hides(cell, e) != 0)
		return e->code;
	return cover_runs(runs, e);
}
