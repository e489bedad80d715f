/* SPDX-License-Identifier: MIT
 * The files that a message names, looked at before anything is created: each is the caller's, its
 * bytes tell what it is, the model takes that, and all of them stay within the maximum of a
 * message. What the log will say of them comes out. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/media.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(INPUT_TEXT == 1u << MEDIA_TEXT && INPUT_IMAGE == 1u << MEDIA_IMAGE &&
		       INPUT_PDF == 1u << MEDIA_PDF && INPUT_AUDIO == 1u << MEDIA_AUDIO,
	"what a file is and what a model takes are the same bits");

struct looking {
	const struct node *list;
	const struct model_info *m;
	void (*then)(struct request *q);
	struct str *out;
	void *own; /* of the request, meanwhile */
	size_t at, total;
	struct buf b;
	struct json j;
};

static void look_next(struct request *q);

static void
look_ends(struct request *q, const struct err *e)
{
	struct looking *l = q->own;

	if (e == NULL)
		*l->out = l->at > 0 ? arena_str(q->a, buf_str(&l->b)) : STR("");
	buf_fini(&l->b);
	q->own = l->own;
	if (reply_failed(q, e))
		return;
	l->then(q);
}

static struct str
name_at(const struct looking *l)
{
	return node_str(node_at(l->list, l->at), "name", STR(""));
}

static void
write_file(struct looking *l, const struct media *md, size_t size)
{
	struct json *j = &l->j;

	json_obj(j);
	json_kv_str(j, "name", name_at(l));
	json_kv_z(j, "mime", md->mime);
	json_kv_int(j, "size", (int64_t)size);
	json_kv_str(j, "blob", node_str(node_at(l->list, l->at), "blob", STR("")));
	json_kv_int(j, "tokens", md->tokens);
	if (md->class == MEDIA_IMAGE) {
		json_kv_int(j, "width", md->width);
		json_kv_int(j, "height", md->height);
	}
	json_obj_end(j);
}

static void
on_bytes(void *arg, char *bytes, size_t n, const struct err *e)
{
	struct request *q = arg;
	struct looking *l = q->own;
	struct media md;
	struct err le = { 0 };
	int rc = e != NULL ? err_copy(&le, e) : 0;

	if (rc == 0)
		rc = media_sniff(name_at(l), (struct str){ bytes, n }, &md, &le);
	free(bytes);
	if (rc == 0)
		rc = engine_model_takes(q->g->parts.engine, l->m, name_at(l), &md, &le);
	if (rc != 0) {
		look_ends(q, &le);
		return;
	}
	write_file(l, &md, n);
	l->at++;
	look_next(q);
}

static void
on_found(void *arg, int64_t size_bytes, const struct err *e)
{
	struct request *q = arg;
	struct looking *l = q->own;
	struct str name = name_at(l);
	struct err le;

	if (e != NULL) {
		err_copy(&le, e);
		err_wrap(&le, "%.*s", (int)utf8_cut(name, 100), name.p);
		look_ends(q, &le);
		return;
	}
	l->total += (size_t)size_bytes;
	if (l->total > TURN_MEDIA_MAX) {
		err_set(&le, ERR_LIMIT, ERR_TO_USER,
			"the attachments are larger than %u MiB together (send fewer at once)",
			TURN_MEDIA_MAX / MIB);
		look_ends(q, &le);
		return;
	}
	blob_get(q->g->parts.blobs, node_z(node_at(l->list, l->at), "blob", ""), on_bytes, q);
}

static void
look_next(struct request *q)
{
	struct looking *l = q->own;
	struct str hash = node_str(node_at(l->list, l->at), "blob", STR(""));
	struct err e;

	if (l->at == node_len(l->list)) {
		json_arr_end(&l->j);
		look_ends(q, NULL);
	} else if (!blob_hash_valid(hash)) {
		err_set(&e, ERR_INVALID, ERR_TO_USER,
			"attachments: blob is not 64 lower-case hex digits");
		look_ends(q, &e);
	} else {
		blob_find(q->g->parts.blobs, OWNER, hash, on_found, q);
	}
}

void
with_attachments(struct request *q, const struct model_info *m, struct str *out,
	void (*then)(struct request *q))
{
	struct looking *l = arena_alloc(q->a, sizeof *l);

	*l = (struct looking){ .list = node_get(q->params, "attachments"),
		.m = m,
		.out = out,
		.own = q->own,
		.then = then };
	buf_init(&l->b, EVENT_BODY_MAX);
	json_init(&l->j, &l->b);
	json_arr(&l->j);
	q->own = l;
	look_next(q);
}
