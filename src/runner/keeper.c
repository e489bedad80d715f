/* SPDX-License-Identifier: MIT
 * What a runtime in a container still needs of the host's files, on a link of its own. Invariant: only what the table below
 * names is read or written, and nothing in it is parsed here; a runtime that was taken over gets no further by asking. */
#include "runner/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "loop/hostfiles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKSPACE_FILE ".ithaca.yaml"

enum op { OP_READ, OP_PLAIN, OP_WRITE, OP_LOOK, OP_LOOK_PLAIN, OPS };
static const char *const op_names[OPS] = { "read", "plain", "write", "look", "look_plain" };

/* One request. The work is done on another thread: a disk may be slow, and a workspace on a network. */
struct file_job {
	struct keeper *k;
	uint64_t id;
	enum op op;
	char *path, *bytes; /* to be written, or what was read */
	size_t n, max;
	mode_t mode;
	struct err e;
};

struct keeper {
	struct runner *r;
	struct wire *w; /* NULL: the runtime is gone */
	bool is_busy, is_closed;
};

/* ---- what may be asked for ---- */

static bool
is_config(const struct runner *r, const char *path, struct arena *a)
{
	const char *file = r->settings.config_file;

	return strcmp(path, file != NULL ? file : path_join(a, r->home, "config.yaml")) == 0;
}

static bool
is_script(const struct runner *r, const char *path, struct arena *a)
{
	const struct node *providers = config_get(r->settings.config, "providers");

	for (size_t i = 0; i < node_len(providers); i++) {
		const char *script = node_z(&providers->map.pairs[i].value, "script", NULL);

		if (script != NULL && strcmp(path, path_join(a, r->home, script)) == 0)
			return true;
	}
	return false;
}

/* The file of a workspace that narrows the configuration, wherever that is. */
static bool
is_of_workspace(const char *path, struct arena *a)
{
	const char *slash = strrchr(path, '/');

	return path[0] == '/' && strcmp(slash + 1, WORKSPACE_FILE) == 0 && strcmp(path_clean(a, path), path) == 0;
}

static bool
is_allowed(const struct runner *r, enum op op, const char *path, struct arena *a)
{
	bool is_kept = is_config(r, path, a) || strcmp(path, path_join(a, r->home, "secrets")) == 0;

	switch (op) {
	case OP_READ:
		return is_kept || strcmp(path, CONFIG_SYSTEM_FILE) == 0 || is_script(r, path, a);
	case OP_WRITE:
		return is_kept;
	case OP_PLAIN:
		return is_of_workspace(path, a);
	case OP_LOOK: /* a workspace may be anywhere; what is in it is not told */
	case OP_LOOK_PLAIN:
		return path[0] == '/';
	case OPS:
		break;
	}
	return false;
}

/* ---- one request ---- */

static void
work(void *arg)
{
	struct file_job *q = arg;

	switch (q->op) {
	case OP_READ:
		(void)!file_read(q->path, q->max, &q->bytes, &q->n, &q->e);
		break;
	case OP_PLAIN:
		(void)!file_read_no_link(q->path, q->max, &q->bytes, &q->n, &q->e);
		break;
	case OP_WRITE:
		(void)!file_write(q->path, (struct str){ q->bytes, q->n }, 0600, &q->e);
		break;
	case OP_LOOK:
	case OP_LOOK_PLAIN:
		(void)!hostfiles_look(NULL, q->path, q->op == OP_LOOK, &q->mode, &q->e);
		break;
	case OPS:
		break;
	}
}

static void
keeper_free(struct keeper *k)
{
	if (k->is_closed && !k->is_busy)
		free(k);
}

static void
on_done(void *arg)
{
	struct file_job *q = arg;
	struct keeper *k = q->k;
	struct runner *r = k->r;
	bool is_read = q->op == OP_READ || q->op == OP_PLAIN, is_last = k->is_closed;

	k->is_busy = false;
	r->file_jobs--;
	if (k->w != NULL && q->e.code != 0) {
		wire_error(k->w, q->id, &q->e);
	} else if (k->w != NULL) {
		json_kv_int(wire_begin(k->w, WIRE_RESULT, q->id), "mode", q->mode);
		wire_end(k->w, is_read ? (struct str){ q->bytes, q->n } : STR(""), -1);
		wire_wipe(k->w);
	}
	if (q->bytes != NULL)
		explicit_bzero(q->bytes, q->n);
	free(q->bytes);
	free(q->path);
	free(q);
	keeper_free(k);
	if (is_last)
		runner_changed(r); /* a stop may have waited for us */
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct keeper *k = arg;
	struct str name = node_str(m->head, "op", STR("")), path = node_str(m->head, "path", STR(""));
	struct file_job *q;
	struct arena *a;
	enum op op = 0;
	struct err why;
	bool may;

	while (op < OPS && !str_is(name, op_names[op]))
		op++;
	if (m->kind != WIRE_HOST_FILE || k->is_busy || op == OPS || path.n == 0 || memchr(path.p, '\0', path.n) != NULL)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "no request for a file of the host");
	q = xcalloc(1, sizeof *q);
	*q = (struct file_job){ .k = k, .id = m->id, .op = op, .path = str_dup(path),
		.max = (size_t)MIN(MAX(node_int(m->head, "max", 0), 0), (int64_t)(1 * MIB)) };
	a = arena_new(1 * MIB);
	may = is_allowed(k->r, op, q->path, a);
	arena_free(a);
	if (!may) {
		log_warn("the runtime asked for a file that it is not shown", LOG_S("op", op_names[op]), LOG_S("path", q->path));
		err_set(&why, ERR_DENIED, ERR_TO_USER, "%s: the runtime, which is in a container, is not shown this file", q->path);
		wire_error(w, m->id, &why);
		free(q->path);
		free(q);
		return 0;
	}
	if (op == OP_WRITE) {
		q->bytes = str_dup(m->tail);
		q->n = m->tail.n;
	}
	k->is_busy = true;
	k->r->file_jobs++;
	loop_work(k->r->loop, work, on_done, q);
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct keeper *k = arg;

	if (e->code != ERR_GONE)
		log_error("the runtime broke the protocol of files", LOG_E(e));
	k->w = NULL;
}

static const struct wire_handler handler = { on_msg, on_gone };

struct keeper *
keeper_open(struct runner *r, int *theirs, struct err *e)
{
	struct keeper *k;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
		err_errno(e, errno, ERR_TO_LOG, "no socket pair");
		return NULL;
	}
	k = xcalloc(1, sizeof *k);
	k->r = r;
	k->w = wire_open(r->loop, fds[0], ROLE_RUNNER, ROLE_RUNTIME, &handler, k);
	*theirs = fds[1];
	return k;
}

void
keeper_close(struct keeper *k)
{
	if (k == NULL)
		return;
	wire_close(take_ptr(&k->w));
	k->is_closed = true;
	keeper_free(k);
}
