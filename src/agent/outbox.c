/* SPDX-License-Identifier: MIT
 * What a turn left in its outbox for the user: regular files, found and read by file operations of its cell that follow no
 * link, kept as blobs, and told by turn.files, the input that ends the turn. The blobs are durable before they are told, and
 * that event is in the commit of the end: after a crash all of it is done again, and it is told once. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/media.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "store/blob.h"

#include <stdio.h>
#include <stdlib.h>

#define SANDBOX_WAIT_MS 20000 /* for a shelld that is started again */
#define WHY_MAX         240

struct entry {
	struct str name; /* below the outbox, as it is there */
	int64_t size;
	const char *type; /* static */
	char blob[SHA256_HEX]; /* empty: it is left out */
	char why[WHY_MAX]; /* it is; empty: it is to be read */
};

struct outbox {
	struct run *r;
	struct arena *a; /* names */
	struct entry entries[OUTBOX_SEEN_MAX];
	size_t n, at;
	size_t kept, kept_bytes;
	bool is_more; /* than were looked at */
	struct buf bytes; /* of the file that is being read */
	char stamp[96]; /* of it, as its first part had it */
	int64_t until_ms;
	struct timer *wait; /* for the sandbox; NULL: a callback will come */
	struct err e; /* it could not be looked at */
};

static void outbox_look(struct outbox *o);
static void next_entry(struct outbox *o);

static void
outbox_free(struct outbox *o)
{
	o->r->outbox = NULL;
	timer_close(o->wait);
	buf_fini(&o->bytes);
	arena_free(o->a);
	run_unref(o->r);
	free(o);
}

/* Whoever would want the answer is gone. */
static bool
is_left(struct outbox *o)
{
	if (o->r->s != NULL && !o->r->en->is_stopping)
		return false;
	outbox_free(o);
	return true;
}

/* ---- the event ---- */

static void
write_text(struct json *j, const char *key, struct str s)
{
	struct buf lossy, clean;

	buf_init(&lossy, 3 * FILE_PATH_MAX);
	buf_init(&clean, 16 * FILE_PATH_MAX);
	utf8_add_lossy(&lossy, s);
	secret_scrub(&clean, buf_str(&lossy));
	json_kv_str(j, key, buf_str(&clean));
	buf_fini(&clean);
	buf_fini(&lossy);
}

static void
write_kept(const struct outbox *o, struct json *j)
{
	json_key(j, "files");
	json_arr(j);
	for (size_t i = 0; i < o->n; i++) {
		const struct entry *x = &o->entries[i];

		if (x->blob[0] == '\0')
			continue;
		json_obj(j);
		write_text(j, "name", x->name);
		json_kv_int(j, "bytes", x->size);
		json_kv_z(j, "type", x->type);
		json_kv_z(j, "blob", x->blob);
		json_obj_end(j);
	}
	json_arr_end(j);
}

/* Enough of them to see what is wrong; of the others that they are there. */
static void
write_left_out(const struct outbox *o, struct json *j)
{
	size_t left = 0;

	json_key(j, "left_out");
	json_arr(j);
	for (size_t i = 0; i < o->n; i++) {
		const struct entry *x = &o->entries[i];

		if (x->why[0] == '\0' || left++ >= OUTBOX_FILES_MAX)
			continue;
		json_obj(j);
		write_text(j, "name", x->name);
		json_kv_int(j, "bytes", x->size);
		write_text(j, "why", str_of(x->why));
		json_obj_end(j);
	}
	json_arr_end(j);
	if (left > OUTBOX_FILES_MAX || o->is_more)
		json_kv_int(j, "left_out_more", (int64_t)(left - MIN(left, OUTBOX_FILES_MAX)) + o->is_more); /* so many at least */
}

static void
outbox_told(struct outbox *o)
{
	struct run *r = run_ref(o->r);
	struct buf b;
	struct json j;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	json_obj(&j);
	write_kept(o, &j);
	write_left_out(o, &j);
	if (o->e.code != 0) {
		json_key(&j, "error");
		json_obj(&j);
		json_kv_err(&j, &o->e);
		json_obj_end(&j);
	}
	json_obj_end(&j);
	outbox_free(o);
	run_input(r, EVENT_TURN_FILES, buf_str(&b));
	buf_fini(&b);
	run_unref(r);
}

/* ---- the sandbox is away ---- */

static void
on_wait(void *arg)
{
	struct outbox *o = arg;

	err_set(&o->e, ERR_GONE, ERR_TO_USER, "the outbox could not be looked at: there is no cell (see `ithaca doctor`)");
	o->n = 0; /* what was kept so far is not all of it */
	outbox_told(o);
}

static void
outbox_wait(struct outbox *o)
{
	if (o->wait == NULL)
		o->wait = timer_start(o->r->en->parts.loop, SANDBOX_WAIT_MS, on_wait, o);
}

void
outbox_resume(struct run *r)
{
	struct outbox *o = r->outbox;

	if (o == NULL || o->wait == NULL)
		return;
	timer_close(o->wait);
	o->wait = NULL;
	outbox_look(o);
}

void
outbox_detach(struct run *r)
{
	if (r->outbox != NULL && r->outbox->wait != NULL)
		outbox_free(r->outbox);
}

static void
ask(struct outbox *o, const char *op, struct json *j, sandbox_reply_fn fn)
{
	const struct tool_env *env = &o->r->env;
	struct file_request q = { .cell = env->cell, .plan = &env->plan, .run = env->run, .op = op };
	struct err e;

	json_kv_z(j, "below", env->work);
	json_obj_end(j);
	q.params = buf_str(j->b);
	if (sandbox_file(env->sandbox, &q, fn, o, &e) != 0)
		outbox_wait(o);
	buf_fini(j->b);
}

static void
ask_begin(struct json *j, struct buf *b, struct str path)
{
	buf_init(b, FILE_PARAMS_MAX);
	json_init(j, b);
	json_obj(j);
	json_kv_str(j, "path", path);
}

/* ---- one file after the other ---- */

static void PRINTF_LIKE(2, 3)
leave_out(struct outbox *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->entries[o->at].why, WHY_MAX, fmt, ap);
	va_end(ap);
	o->at++;
	next_entry(o);
}

static void
on_kept(void *arg, const char *hash, const struct err *e)
{
	struct outbox *o = arg;
	struct entry *x = &o->entries[o->at];

	if (is_left(o))
		return;
	if (e != NULL) {
		leave_out(o, "%s", e->msg);
		return;
	}
	snprintf(x->blob, sizeof x->blob, "%s", hash);
	o->kept++;
	o->kept_bytes += (size_t)x->size;
	o->at++;
	next_entry(o);
}

static void
keep(struct outbox *o)
{
	struct entry *x = &o->entries[o->at];
	size_t n;
	char *bytes;

	x->type = media_type(buf_str(&o->bytes), false);
	x->size = (int64_t)o->bytes.n;
	bytes = buf_take(&o->bytes, &n);
	blob_put(o->r->en->parts.blobs, o->r->s->owner, bytes != NULL ? bytes : xcalloc(1, 1), n, on_kept, o);
}

static void read_part(struct outbox *o);

static void
on_part(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct outbox *o = arg;
	struct str stamp = node_str(head, "stamp", STR(""));

	if (is_left(o))
		return;
	if (e != NULL && e->code == ERR_GONE) {
		outbox_wait(o);
		return;
	}
	if (o->bytes.n == 0)
		snprintf(o->stamp, sizeof o->stamp, "%.*s", STR_FMT(stamp));
	if (e != NULL)
		leave_out(o, "%s", e->msg);
	else if (!str_is(stamp, o->stamp))
		leave_out(o, "it was changed while it was read");
	else if (o->bytes.n + tail.n > MIN(MEDIA_MAX, OUTBOX_BYTES_MAX - o->kept_bytes))
		leave_out(o, "it grew while it was read");
	else if (buf_add_str(&o->bytes, tail) == 0 && !node_bool(head, "is_end", true) && tail.n > 0)
		read_part(o);
	else
		keep(o);
}

static void
read_part(struct outbox *o)
{
	struct buf b;
	struct json j;

	ask_begin(&j, &b, str_of(arena_printf(o->a, "outbox/%.*s", STR_FMT(o->entries[o->at].name))));
	json_kv_int(&j, "offset", (int64_t)o->bytes.n);
	json_kv_int(&j, "n", OUTBOX_PART);
	ask(o, "get", &j, on_part);
}

static void
next_entry(struct outbox *o)
{
	const struct entry *x = &o->entries[o->at];

	buf_reset(&o->bytes);
	if (o->at == o->n)
		outbox_told(o);
	else if (x->why[0] != '\0' || x->blob[0] != '\0') {
		o->at++;
		next_entry(o);
	} else if (x->size > MEDIA_MAX)
		leave_out(o, "it is larger than %u MiB", MEDIA_MAX / MIB);
	else if (o->kept == OUTBOX_FILES_MAX)
		leave_out(o, "more than %u files", OUTBOX_FILES_MAX);
	else if (o->kept_bytes + (size_t)x->size > OUTBOX_BYTES_MAX)
		leave_out(o, "more than %u MiB together", OUTBOX_BYTES_MAX / MIB);
	else if (clock_mono_ms() > o->until_ms)
		leave_out(o, "it took more than %d s to read the others", OUTBOX_COLLECT_MS / 1000);
	else
		read_part(o);
}

static void
on_list(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct outbox *o = arg;
	const struct node *list = node_get(head, "entries");

	if (is_left(o))
		return;
	if (e != NULL && e->code == ERR_GONE) {
		outbox_wait(o);
		return;
	}
	if (e != NULL && e->code != ERR_NOT_FOUND)
		err_copy(&o->e, e);
	for (size_t i = 0; e == NULL && i < node_len(list); i++) {
		struct str name = node_str(node_at(list, i), "name", STR(""));
		const char *type = node_z(node_at(list, i), "type", "");
		struct entry *x = &o->entries[o->n];

		if (strcmp(type, "dir") == 0)
			continue;
		*x = (struct entry){ .name = arena_str(o->a, name), .size = node_int(node_at(list, i), "size", 0) };
		if (strcmp(type, "file") != 0)
			snprintf(x->why, sizeof x->why, "%s", type);
		o->n++;
	}
	o->is_more = e == NULL && node_bool(head, "truncated", false);
	next_entry(o);
}

static void
outbox_look(struct outbox *o)
{
	struct buf b;
	struct json j;

	o->n = o->at = o->kept = o->kept_bytes = 0;
	arena_reset(o->a);
	ask_begin(&j, &b, STR("outbox"));
	json_kv_int(&j, "depth", OUTBOX_DEPTH_MAX);
	json_kv_int(&j, "max", OUTBOX_SEEN_MAX);
	ask(o, "list", &j, on_list);
}

void
outbox_collect(struct run *r)
{
	struct outbox *o = xcalloc(1, sizeof *o);

	o->r = run_ref(r);
	o->a = arena_new(16 * MIB);
	buf_init(&o->bytes, MEDIA_MAX);
	o->until_ms = clock_mono_ms() + OUTBOX_COLLECT_MS;
	r->outbox = o;
	if (r->env.work != NULL)
		outbox_look(o);
	else
		outbox_told(o);
}
