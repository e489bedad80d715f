/* SPDX-License-Identifier: MIT
 * The tree that a virtual machine sees of the host, built of bind mounts that nobody else sees: what is read-only is so by
 * the host's kernel, whatever the guest's may do. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/vm.h"

static int
put_text(const char *path, const char *text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
}

/* Who is not root gets a user namespace in which he may mount, and is nobody else in. */
static int
own_mounts(struct err *e)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (uid == 0 && unshare(CLONE_NEWNS) != 0)
		return err_errno(e, errno, ERR_TO_USER, "no mount namespace");
	if (uid != 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			return err_errno(e, errno, ERR_TO_USER, "no user namespace");
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else our maps are root's; it holds nothing, and virtiofsd is so too */
		snprintf(map, sizeof(map), "0 %u 1\n", uid);
		int rc = put_text("/proc/self/setgroups", "deny") | put_text("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1\n", gid);
		if ((rc | put_text("/proc/self/gid_map", map)) != 0)
			return err_errno(e, errno, ERR_TO_USER, "no user namespace");
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "mounts cannot be private");
}

static int
add_bind(const char *host, const char *target, bool is_readonly, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (is_readonly ? MOUNT_ATTR_RDONLY : 0) };
	AUTO_CLOSE int tree = open_tree(AT_FDCWD, host, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	struct stat st;

	if (tree < 0 || fstat(tree, &st) != 0)
		return err_errno(e, errno, ERR_TO_USER, "%s", host);
	if (S_ISDIR(st.st_mode)) {
		if (path_mkdirs(target, 0755, e) != 0)
			return e->code;
	} else {
		AUTO_CLOSE int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0)
			return err_errno(e, errno, ERR_TO_USER, "%s", target);
	}
	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) != 0 ||
		move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot show %s", host);
	return 0;
}

static int
add_line(char kind, const char *path, const char *top, struct err *e)
{
	char target[2 * PLAN_PATH_MAX], link[PLAN_PATH_MAX];
	ssize_t n;

	snprintf(target, sizeof(target), "%s%s", top, path);
	switch (kind) {
	case 'd':
		return path_mkdirs(target, 0755, e);
	case 'r':
	case 'w':
		return add_bind(path, target, kind == 'r', e);
	case 'l':
		n = readlink(path, link, sizeof(link) - 1);
		if (n <= 0)
			return err_errno(e, errno, ERR_TO_USER, "%s", path);
		link[n] = '\0';
		return symlink(link, target) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "%s", target);
	default:
		return err_set(e, ERR_INVALID, ERR_TO_USER, "unknown line '%c' of a shared tree", kind);
	}
}

static int
build(const char *spec, struct err *e)
{
	struct str rest, line;
	const char *top = NULL;
	char *text, path[PLAN_PATH_MAX];
	size_t n;

	if (own_mounts(e) != 0 || file_read(spec, MIB, &text, &n, e) != 0)
		return e->code;
	rest = (struct str){ text, n };
	while (str_next(&rest, '\n', &line)) {
		if (line.n == 0)
			continue;
		if (line.n < 2 || line.n > sizeof(path) || line.p[1] != '/')
			return err_set(e, ERR_INVALID, ERR_TO_USER, "%s: a line without a path", spec);
		snprintf(path, sizeof(path), "%.*s", (int)line.n - 1, line.p + 1);
		if (line.p[0] == 't') {
			if (path_mkdirs(path, 0700, e) != 0)
				return e->code;
			if (mount("ithaca", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4m") != 0)
				return err_errno(e, errno, ERR_TO_USER, "%s", path);
			top = strdup(path);
		} else if (top == NULL || add_line(line.p[0], path, top, e) != 0) {
			return top == NULL ? err_set(e, ERR_INVALID, ERR_TO_USER, "%s: no tree", spec) : e->code;
		}
	}
	return 0;
}

int
vm_share(const char *spec, char *const *argv)
{
	struct err e = { 0 };

	if (build(spec, &e) != 0) {
		log_error("the tree for the machine cannot be made", LOG_E(&e));
		return 1;
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	execv(argv[0], argv);
	log_error("cannot start", LOG_S("program", argv[0]), LOG_S("error", strerror(errno)));
	return 127;
}
