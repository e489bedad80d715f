/* SPDX-License-Identifier: MIT
 * `ithaca image`: images for tier container, made on this machine out of a directory. It speaks to the container engine
 * itself: no runtime and no home is needed, and nothing is fetched from anywhere. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/json.h"
#include "base/limits.h"
#include "base/path.h"
#include "cli/internal.h"
#include "net/oci.h"

#define ROOT_IMAGE "localhost/ithaca-root"
#define PREFIX     "localhost/"

extern char **environ;

/* Ours begin with localhost/, which no registry serves. */
static int
full_name(struct cli *c, const char *given, const char *dflt, const char **out, struct err *e)
{
	const char *name = given == NULL ? dflt : strchr(given, '/') != NULL ? given : arena_printf(c->a, PREFIX "%s", given);

	for (const char *p = name; *p != '\0'; p++) {
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-_./", *p) == NULL)
			return err_set(e, ERR_USAGE, ERR_TO_USER, "%s is no name of an image (lower-case letters, digits, - _ . and /)",
				name);
	}
	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return err_set(e, ERR_USAGE, ERR_TO_USER, "%s: images that are made here are called " PREFIX "NAME (leave the first "
			"part out)", name);
	*out = name;
	return 0;
}

/* ---- a directory as an archive ---- */

static int
check_root(struct cli *c, const char *root, struct err *e)
{
	static const char *const needed[] = { "usr", "etc", "bin/sh" };

	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		if (access(path_join(c->a, root, needed[i]), F_OK) != 0 && !(i == 2 && access(path_join(c->a, root, "usr/bin/sh"), F_OK) == 0))
			return err_set(e, ERR_USAGE, ERR_TO_USER, "%s is no root directory: %s is missing (debootstrap --variant=minbase "
				"SUITE DIR makes one)", root, needed[i]);
	}
	return 0;
}

/* tar knows hard links, extended attributes and sparse files; it is part of every system that has such a directory. What an
 * ordinary user made belongs to root in the image: his own number may be none there. */
static int
tar_start(const char *root, int *out, pid_t *pid, struct err *e)
{
	bool is_root = geteuid() == 0;
	char *const argv[] = { (char *)"tar", (char *)"--create", (char *)"--file=-", (char *)"--one-file-system",
		(char *)"--numeric-owner", (char *)"--xattrs", (char *)"--directory", (char *)root,
		(char *)(is_root ? "." : "--owner=0"), (char *)(is_root ? NULL : "--group=0"), (char *)".", NULL };
	posix_spawn_file_actions_t actions;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_errno(e, errno, ERR_TO_USER, "no pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	int rc = posix_spawnp(pid, "tar", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (rc != 0) {
		close(fds[0]);
		return err_errno(e, rc, ERR_TO_USER, "cannot start tar");
	}
	*out = fds[0];
	return 0;
}

static int
import_root(const struct oci *g, const char *name, const char *root, struct err *e)
{
	int fd, status = -1;
	struct err ignored;
	pid_t pid;

	if (tar_start(root, &fd, &pid, e) != 0)
		return e->code;
	int rc = oci_import(g, name, STR(""), fd, e);
	close(fd); /* a tar whose reader is gone ends */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	if (rc == 0 && status != 0) {
		(void)!oci_image_remove(g, name, &ignored);
		rc = err_set(e, ERR_FAILED, ERR_TO_USER, "tar could not read all of %s (as root it can)", root);
	}
	return rc;
}

static int
import_host(const struct oci *g, const char *name, struct err *e)
{
	struct buf tar;

	buf_init(&tar, MIB);
	oci_host_root(&tar);
	int rc = oci_import(g, name, buf_str(&tar), -1, e);
	buf_fini(&tar);
	return rc;
}

/* ---- commands ---- */

int
cmd_image_build(struct cli *c, struct err *e)
{
	const char *root = node_z(c->options, "root", NULL), *name;
	struct oci g;
	struct buf out;

	if (full_name(c, node_z(c->options, "name", NULL), root != NULL ? ROOT_IMAGE : OCI_HOST_IMAGE, &name, e) != 0 ||
		(root != NULL && check_root(c, root, e) != 0) || oci_open(node_z(c->options, "socket", NULL), &g, e) != 0)
		return e->code;
	if ((root != NULL ? import_root(&g, name, root, e) : import_host(&g, name, e)) != 0)
		return e->code;
	buf_init(&out, 4 * KIB);
	if (c->json) {
		struct json j;
		json_init(&j, &out);
		json_obj(&j);
		json_kv_z(&j, "name", name);
		json_kv_z(&j, "engine", g.socket);
		json_obj_end(&j);
		buf_add_char(&out, '\n');
	} else if (root != NULL) {
		buf_printf(&out, "%s is made; to use it: container: { image: %s }\n", name, name);
	} else {
		buf_printf(&out, "%s is made; tier container uses it when container.image is empty\n", name);
	}
	return out_take(&out, e);
}

int
cmd_image_list(struct cli *c, struct err *e)
{
	static const struct column columns[] = { { "name", "NAME" }, { "bytes", "BYTES", COLUMN_NUMBER },
		{ "created_at_ms", "MADE (UTC)", COLUMN_TIME }, { 0 } };
	const struct node *list;
	struct buf text, out;
	struct json j;
	struct oci g;

	if (oci_open(node_z(c->options, "socket", NULL), &g, e) != 0)
		return e->code;
	buf_init(&text, MIB);
	buf_init(&out, MIB);
	json_init(&j, &text);
	json_arr(&j);
	int rc = oci_images(&g, PREFIX, &j, e);
	json_arr_end(&j);
	if (rc == 0 && (rc = json_parse(c->a, buf_str(&text), &list, e)) == 0) {
		if (c->json)
			buf_printf(&out, "{\"images\":%s}\n", buf_z(&text));
		else
			print_table(list, columns, &out);
		rc = out_text(buf_str(&out), e);
	}
	buf_fini(&text);
	buf_fini(&out);
	return rc;
}

int
cmd_image_remove(struct cli *c, struct err *e)
{
	const char *name;
	bool is_there;
	struct oci g;

	if (full_name(c, node_z(c->options, "name", NULL), NULL, &name, e) != 0 ||
		oci_open(node_z(c->options, "socket", NULL), &g, e) != 0 || oci_has_image(&g, name, &is_there, e) != 0)
		return e->code;
	if (!is_there)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "there is no image %s (`ithaca image list`)", name);
	return oci_image_remove(&g, name, e) != 0 ? e->code : out_text(STR("removed\n"), e);
}
