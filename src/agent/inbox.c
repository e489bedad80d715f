/* SPDX-License-Identifier: MIT
 * The inbox of a run: the files that came with the session's messages, put where its tools can work on them, by file
 * operations of its cell and before its first call begins. It is filled once: a run whose log has a call that was done had it.
 * Until then it may be filled again, because nothing has seen it: a file is there whole or not at all. */
#include "agent/internal.h"

#include "base/limits.h"
#include "base/mem.h"
#include "store/blob.h"

#include <stdlib.h>

struct inbox {
	struct run *r;
	struct transcript_file files[TURN_FILES_MAX]; /* strings in the run's arena */
	size_t n, at;
	char *bytes; /* of the file that is being put */
	size_t size, done;
};

static void next_file(struct inbox *b);

/* Takes it off its run; whoever waited goes on. */
static void
inbox_end(struct inbox *b, bool is_full)
{
	struct run *r = b->r;

	r->inbox = NULL;
	r->has_inbox = r->has_inbox || is_full;
	free(b->bytes);
	free(b);
	if (r->s != NULL && !r->en->is_stopping)
		effects_resume(r);
	run_unref(r);
}

/* One file less is no reason to do nothing: the model is told. */
static void
skip_file(struct inbox *b, const struct err *e)
{
	buf_printf(&b->r->inbox_notes, "\n[%.*s is not in the inbox: %s]", STR_FMT(b->files[b->at].name), e->msg);
	b->at++;
	next_file(b);
}

static void put_part(struct inbox *b);

static void
on_put(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct inbox *b = arg;

	if (e != NULL && e->code == ERR_GONE) {
		inbox_end(b, false); /* the next call waits for the sandbox, and then begins here again */
	} else if (e != NULL) {
		skip_file(b, e);
	} else if (b->done < b->size) {
		put_part(b);
	} else {
		b->at++;
		next_file(b);
	}
}

static void
put_part(struct inbox *b)
{
	const struct tool_env *env = &b->r->env;
	struct file_request q = { .cell = env->cell, .plan = &env->plan, .run = env->run, .op = "put",
		.content = str_sub((struct str){ b->bytes, b->size }, b->done, INBOX_PART) };
	struct buf params;
	struct json j;
	struct err e;

	buf_init(&params, FILE_PARAMS_MAX);
	json_init(&j, &params);
	json_obj(&j);
	json_kv_z(&j, "below", env->work);
	json_kv_str(&j, "path", str_of(arena_printf(b->r->a, "inbox/%.*s", STR_FMT(b->files[b->at].name))));
	json_kv_int(&j, "offset", (int64_t)b->done);
	b->done += q.content.n;
	json_kv_bool(&j, "last", b->done == b->size);
	json_obj_end(&j);
	q.params = buf_str(&params);
	int rc = sandbox_file(env->sandbox, &q, on_put, b, &e);
	buf_fini(&params);
	if (rc != 0)
		on_put(b, NULL, STR(""), &e);
}

static void
on_bytes(void *arg, char *bytes, size_t n, const struct err *e)
{
	struct inbox *b = arg;

	free(b->bytes);
	b->bytes = bytes;
	b->size = n;
	b->done = 0;
	if (b->r->s == NULL || b->r->en->is_stopping)
		inbox_end(b, false);
	else if (e != NULL)
		skip_file(b, e);
	else
		put_part(b);
}

static void
next_file(struct inbox *b)
{
	if (b->r->s == NULL || b->r->en->is_stopping)
		inbox_end(b, false);
	else if (b->at == b->n)
		inbox_end(b, true);
	else
		blob_get(b->r->en->parts.blobs, b->files[b->at].blob.p, on_bytes, b);
}

int
inbox_fill(struct run *r, struct err *e)
{
	struct inbox *b;

	if (r->has_inbox || r->env.work == NULL || !transcript_has_media(r->s->tr))
		return 0;
	if (r->inbox != NULL)
		return 1;
	if (!sandbox_is_up(r->en->parts.sandbox))
		return err_set(e, ERR_GONE, ERR_TO_LOG, "shelld is away");
	b = xcalloc(1, sizeof *b);
	b->n = transcript_files(r->s->tr, b->files);
	for (size_t i = 0; i < b->n; i++) { /* the session may be dropped meanwhile */
		b->files[i].name = arena_str(r->a, b->files[i].name);
		b->files[i].blob = arena_str(r->a, b->files[i].blob);
	}
	b->r = run_ref(r);
	r->inbox = b;
	blob_get(r->en->parts.blobs, b->files[0].blob.p, on_bytes, b);
	return 1;
}
