/* SPDX-License-Identifier: MIT
 * `blob get`: the bytes of a file that a turn left or that came with a message, to a file or to standard output. They are
 * checked against their name before anything is written. */
#include <string.h>
#include <unistd.h>
#include "base/hash.h"
#include "base/limits.h"
#include "base/path.h"
#include "cli/internal.h"

struct getting {
	struct loop *loop;
	struct buf bytes;
	bool is_done;
	struct err e;
};

static void
on_bytes(void *arg, struct str bytes)
{
	buf_add_str(&((struct getting *)arg)->bytes, bytes);
}

static void
on_end(void *arg, const struct node *result, const struct err *e)
{
	struct getting *g = arg;

	g->is_done = e == NULL;
	if (e != NULL)
		err_copy(&g->e, e);
	loop_stop(g->loop);
}

static int
get_bytes(struct cli *c, const char *blob, struct getting *g, struct err *e)
{
	char hash[SHA256_HEX];
	struct client *k;
	int fd, rc = loop_open(&g->loop, e);

	if (rc != 0)
		return rc;
	fd = runtime_connect(c, CONNECT_START, NULL, e);
	if (fd >= 0) {
		k = client_new(g->loop, fd, NULL, NULL);
		client_get(k, blob, on_bytes, on_end, g);
		loop_run(g->loop);
		client_close(k);
		rc = g->is_done ? 0 : err_copy(e, &g->e);
	}
	loop_close(g->loop);
	if (fd < 0 || rc != 0)
		return e->code;
	sha256_hex(buf_str(&g->bytes), hash);
	return strcmp(hash, blob) == 0 && !g->bytes.overflow ? 0 :
		err_set(e, ERR_PROTO, ERR_TO_USER, "the blob did not arrive as it was sent (try again)");
}

int
cmd_blob_get(struct cli *c, struct err *e)
{
	const char *blob = node_z(c->options, "blob", ""), *path = node_z(c->options, "output", NULL);
	struct getting g = { 0 };
	int rc;

	if (path == NULL && isatty(STDOUT_FILENO))
		return err_set(e, ERR_USAGE, ERR_TO_USER, "a file is not for a terminal (name a file with --output, or pipe it)");
	buf_init(&g.bytes, MEDIA_MAX);
	rc = get_bytes(c, blob, &g, e);
	if (rc == 0)
		rc = path != NULL ? file_write(path, buf_str(&g.bytes), 0644, e) : out_flush(STDOUT_FILENO, &g.bytes, e);
	buf_fini(&g.bytes);
	return rc;
}
