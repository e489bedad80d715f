/* SPDX-License-Identifier: MIT
 * The control socket: a few methods that the runner answers by itself, so that they work when the runtime is dead, hangs or
 * cannot start. Only our own user and root may speak; a peer that breaks the protocol is dropped. Requests are short and
 * nothing in them came from a model: the frames are those of every other link. */
#include "runner/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "ithaca-version.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RESULT_MAX (64 * KIB)

enum wait { WAIT_NONE, WAIT_STOP, WAIT_RESTART };

struct asker {
	struct asker *next;
	struct runner *r;
	struct wire *w;
	enum wait wait; /* what the answer to id waits for */
	uint64_t id;
	struct process *process; /* of WAIT_RESTART */
};

struct control {
	char *path;
	int fd;
	struct watch *watch;
	struct asker *askers;
	size_t n;
};

static const struct wire_handler asker_handler;

/* ---- answers ---- */

static void
answer(struct asker *k, uint64_t id, const struct buf *json)
{
	wire_begin(k->w, WIRE_RESULT, id);
	wire_end(k->w, buf_str(json), -1);
}

/* What status.get gives, as far as we can know it. */
static void
write_status(struct runner *r, bool is_silent, struct json *j)
{
	struct role_health roles[ROLES_HEALTH_MAX];
	size_t n = roles_health(r, roles);
	struct health h = { 0 };
	int trouble = outputs_trouble(r->outputs);

	health_roles(&h, roles, n);
	if (is_silent)
		health_add(&h, "runtime_down", "it does not answer");
	if (trouble != 0)
		health_add(&h, "log_trouble", "%s", strerror(trouble));
	json_obj(j);
	json_kv_z(j, "version", ITHACA_VERSION);
	json_kv_bool(j, "private", r->is_private);
	json_kv_z(j, "home", r->home);
	if (r->settings.config_file != NULL)
		json_kv_z(j, "config_file", r->settings.config_file);
	json_kv_z(j, "tier", settings_tier(&r->settings));
	json_kv_z(j, "tier_asked", config_z(r->settings.config, "tier"));
	json_kv_int(j, "started_at_ms", r->started_ms);
	health_write(&h, roles, n, j);
	json_obj_end(j);
}

static int
do_status(struct asker *k, uint64_t id, const struct node *head, struct err *e)
{
	struct buf b;
	struct json j;

	buf_init(&b, RESULT_MAX);
	json_init(&j, &b);
	write_status(k->r, str_is(node_str(head, "about", STR("")), "silent"), &j);
	answer(k, id, &b);
	buf_fini(&b);
	return 0;
}

/* Answered at the very end, with what had to be killed. */
static int
do_stop(struct asker *k, uint64_t id, const struct node *head, struct err *e)
{
	k->wait = WAIT_STOP;
	k->id = id;
	if (!str_is(node_str(head, "about", STR("")), "restart")) /* else another comes, and clients wait for it */
		runner_mark_stopped(k->r);
	runner_stop(k->r);
	return 0;
}

static int
do_restart(struct asker *k, uint64_t id, const struct node *head, struct err *e)
{
	struct str name = node_str(head, "about", STR(""));
	struct process *p = role_find(k->r, name);

	if (p == NULL)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "there is no role %.*s to start again (runtime, broker or shelld)",
			(int)MIN(name.n, 40u), name.p);
	k->wait = WAIT_RESTART;
	k->id = id;
	k->process = p;
	role_restart(p);
	return 0;
}

static int
do_keep(struct asker *k, uint64_t id, const struct node *head, struct err *e)
{
	if (k->r->is_stopping)
		return err_set(e, ERR_BUSY, ERR_TO_USER, "the runner is stopping (try again)");
	runner_keep(k->r);
	return do_status(k, id, head, e);
}

static const struct {
	const char *name;
	int (*run)(struct asker *k, uint64_t id, const struct node *head, struct err *e);
} methods[] = {
	{ "status", do_status },
	{ "stop", do_stop },
	{ "restart", do_restart }, /* {about: role} */
	{ "keep", do_keep }, /* a private runner becomes the daemon of its home */
};

/* ---- askers ---- */

static void
forget(struct asker *k)
{
	struct control *c = k->r->control;
	struct asker **p = &c->askers;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	c->n--;
	free(k);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct asker *k = arg;
	struct str name = node_str(m->head, "method", STR(""));
	struct err why = { 0 };

	if (m->kind == WIRE_STOP) {
		runner_stop(k->r);
		return 0;
	}
	if (m->kind != WIRE_CALL || k->wait != WAIT_NONE)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "one request at a time");
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		if (!str_is(name, methods[i].name))
			continue;
		if (methods[i].run(k, m->id, m->head, &why) != 0)
			wire_error(w, m->id, &why);
		return 0;
	}
	err_set(&why, ERR_NOT_FOUND, ERR_TO_USER, "the control socket has no method %.*s (status, stop, restart, keep)",
		(int)MIN(name.n, 40u), name.p);
	wire_error(w, m->id, &why);
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	forget(arg);
}

static const struct wire_handler asker_handler = { on_msg, on_gone };

/* Room for one more: the oldest that waits for nothing goes, so that idle ones lock nobody out. */
static bool
make_room(struct control *c)
{
	struct asker *oldest = NULL;

	if (c->n < CONTROL_CLIENTS_MAX)
		return true;
	for (struct asker *k = c->askers; k != NULL; k = k->next)
		if (k->wait == WAIT_NONE)
			oldest = k; /* the newest is first */
	if (oldest == NULL)
		return false;
	wire_close(oldest->w);
	forget(oldest);
	return true;
}

static void
on_asker(void *arg, int events)
{
	struct runner *r = arg;
	struct control *c = r->control;
	int fd = unix_accept(c->fd);
	struct asker *k;
	uid_t uid;
	pid_t pid;

	if (fd < 0)
		return;
	if (unix_peer(fd, &uid, &pid) != 0 || (uid != geteuid() && uid != 0) || !make_room(c)) {
		log_warn("a client of the control socket was refused", LOG_I("pid", pid), LOG_I("uid", uid));
		close(fd);
		return;
	}
	k = xcalloc(1, sizeof *k);
	*k = (struct asker){ .next = c->askers, .r = r };
	c->askers = k;
	c->n++;
	k->w = wire_open(r->loop, fd, ROLE_RUNNER, ROLE_CLIENT, &asker_handler, k);
}

void
control_changed(struct runner *r)
{
	for (struct asker *k = r->control != NULL ? r->control->askers : NULL; k != NULL; k = k->next) {
		struct err e;

		if (k->wait != WAIT_RESTART || (!role_is_up(k->process) && k->process->failures <= 2 && !r->is_stopping))
			continue;
		k->wait = WAIT_NONE;
		if (role_is_up(k->process)) {
			(void)do_status(k, k->id, &node_null, NULL);
			continue;
		}
		err_set(&e, ERR_GONE, ERR_TO_USER, "the %s did not come up again: %s (see `ithaca logs --role %s`)",
			role_name(k->process->role), k->process->reason, role_name(k->process->role));
		wire_error(k->w, k->id, &e);
	}
}

int
control_open(struct runner *r, struct err *e)
{
	struct control *c = xcalloc(1, sizeof *c);

	c->path = xasprintf("%s/run/control.sock", r->home);
	c->fd = unix_listen(c->path, 0600, e);
	if (c->fd < 0) {
		int rc = c->fd;

		free(c->path);
		free(c);
		return rc;
	}
	r->control = c;
	c->watch = watch_start(r->loop, c->fd, LOOP_READ, on_asker, r);
	return 0;
}

static void
say_stopped(struct asker *k)
{
	struct buf b;
	struct json j;

	buf_init(&b, RESULT_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_int(&j, "pid", getpid());
	json_kv_int(&j, "killed", (int64_t)k->r->killed);
	json_kv_z(&j, "left", k->r->left);
	json_obj_end(&j);
	answer(k, k->id, &b);
	buf_fini(&b);
}

void
control_close(struct runner *r)
{
	struct control *c = r->control;

	if (c == NULL)
		return;
	watch_close(c->watch);
	home_unlink(r, c->path);
	while (c->askers != NULL) {
		struct asker *k = c->askers;

		if (k->wait == WAIT_STOP)
			say_stopped(k);
		wire_close(k->w); /* sends what the socket takes: our last word is short */
		forget(k);
	}
	close(c->fd);
	free(c->path);
	free(take_ptr(&r->control));
}
