/* SPDX-License-Identifier: MIT
 * Handlers of blob.*: bytes that travel beside a call, as a stream on its id with the credit of all
 * streams, so neither side ever holds more than the window unread. An upload is gathered whole, up
 * to the size that the call named, and is answered when it is durable. A download is sent as the
 * client takes it. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

/* Under way: at most BLOB_TRANSFERS_MAX, because each holds its bytes in memory. A client that takes or sends nothing keeps its
 * place only as long as nobody else wants it. */
struct transfer {
	struct transfer *next;
	struct gateway *g;
	int64_t moved_ms; /* when its last byte did */
	bool is_ours; /* the store is at work, and no client can hurry it */
	void (*give_up)(struct transfer *t, const struct err *e); /* frees it */
};

static void
transfer_moved(struct transfer *t)
{
	t->moved_ms = loop_now_ms(t->g->parts.loop);
}

static void
transfer_begin(struct transfer *t, struct gateway *g)
{
	t->g = g;
	t->next = g->transfers;
	g->transfers = t;
	transfer_moved(t);
}

static void
transfer_end(struct transfer *t)
{
	struct transfer **p = &t->g->transfers;

	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
}

static bool
may_transfer(struct request *q)
{
	struct transfer *oldest = NULL;
	struct err e;
	size_t n = 0;

	for (struct transfer *t = q->g->transfers; t != NULL; t = t->next) {
		n++;
		if (!t->is_ours && (oldest == NULL || t->moved_ms < oldest->moved_ms))
			oldest = t;
	}
	if (n < BLOB_TRANSFERS_MAX)
		return true;
	if (oldest != NULL && loop_now_ms(q->g->parts.loop) - oldest->moved_ms >= BLOB_STALL_MS) {
		err_set(&e, ERR_TIMEOUT, ERR_TO_USER, "no byte of the blob moved for %d s, and others wait (try again)",
			BLOB_STALL_MS / 1000);
		oldest->give_up(oldest, &e);
		return true;
	}
	err_set(&e, ERR_BUSY, ERR_TO_USER, "%u blobs are on their way already (try again)",
		BLOB_TRANSFERS_MAX);
	reply_error(q, &e);
	return false;
}

/* ---- blob.put ---- */

struct upload {
	struct transfer t; /* first: it is found by it */
	struct request *q;
	size_t size;
	struct buf bytes;
};

static void
upload_free(struct upload *u)
{
	transfer_end(&u->t);
	buf_fini(&u->bytes);
	free(u);
}

static void
upload_fails(struct upload *u, const struct err *e)
{
	struct request *q = u->q;

	upload_free(u);
	reply_error(q, e);
}

static void
upload_give_up(struct transfer *t, const struct err *e)
{
	upload_fails((struct upload *)t, e);
}

static void
reply_blob(struct request *q, const char *hash, size_t size)
{
	struct json *j = reply_begin(q);

	json_kv_z(j, "blob", hash);
	json_kv_int(j, "size", (int64_t)size);
	reply_end(q);
}

static void
on_put(void *arg, const char *hash, const struct err *e)
{
	struct upload *u = arg;
	struct request *q = u->q;
	size_t size = u->size;

	if (e != NULL) {
		upload_fails(u, e);
		return;
	}
	upload_free(u);
	reply_blob(q, hash, size);
}

static void
on_upload_data(void *arg, int ch, struct str bytes)
{
	struct upload *u = arg;
	struct err e;

	if (u->bytes.n + bytes.n > u->size) {
		err_set(&e, ERR_INVALID, ERR_TO_USER,
			"blob.put: more than the %zu bytes came that the call named", u->size);
		upload_fails(u, &e);
		return;
	}
	buf_add_str(&u->bytes, bytes);
	transfer_moved(&u->t);
	stream_consume(u->q->stream, bytes.n);
}

static void
on_upload_eof(void *arg)
{
	struct upload *u = arg;
	struct err e;
	size_t n;
	char *bytes;

	if (u->bytes.n < u->size) {
		err_set(&e, ERR_INVALID, ERR_TO_USER,
			"blob.put: %zu of the %zu bytes came that the call named", u->bytes.n,
			u->size);
		upload_fails(u, &e);
		return;
	}
	stream_eof(u->q->stream);
	stream_close(take_ptr(&u->q->stream), NULL);
	u->t.is_ours = true;
	bytes = buf_take(&u->bytes, &n);
	blob_put(u->t.g->parts.blobs, OWNER, bytes, n, on_put, u);
}

static void
on_upload_reset(void *arg, const struct err *e)
{
	struct upload *u = arg;

	u->q->stream = NULL; /* released with this call */
	upload_fails(u, e);
}

static const struct stream_handler upload_handler = {
	.on_data = on_upload_data, .on_eof = on_upload_eof, .on_reset = on_upload_reset
};

void
handle_blob_put(struct request *q)
{
	struct gateway *g = q->g;
	struct upload *u;

	if (!may_transfer(q))
		return;
	u = xcalloc(1, sizeof *u);
	u->q = q;
	u->size = (size_t)node_int(q->params, "size", 0);
	buf_init(&u->bytes, u->size);
	u->t.give_up = upload_give_up;
	transfer_begin(&u->t, g);
	request_stream(q, &upload_handler, u);
}

/* ---- blob.get ---- */

/* Lives from the call on, and beyond the answer until the last byte is on its way. */
struct download {
	struct transfer t; /* first: it is found by it */
	struct request *q; /* NULL: answered */
	struct stream *s; /* NULL: the client went, or wants no more */
	char *bytes;
	size_t n, at;
};

static void
download_free(struct download *d)
{
	transfer_end(&d->t);
	free(d->bytes);
	free(d);
}

static void
download_send(struct download *d)
{
	size_t n = stream_write(d->s, 0, (struct str){ d->bytes + d->at, d->n - d->at });

	d->at += n;
	if (n > 0)
		transfer_moved(&d->t);
	if (d->at < d->n)
		return;
	stream_eof(d->s);
	stream_close(d->s, NULL);
	download_free(d);
}

static void
download_give_up(struct transfer *t, const struct err *e)
{
	struct download *d = (struct download *)t;

	stream_close(d->s, e);
	download_free(d);
}

static void
on_download_data(void *arg, int ch, struct str bytes)
{
	struct download *d = arg; /* nothing is expected; its credit is simply not given back */

	(void)d;
}

static void
on_download_credit(void *arg)
{
	struct download *d = arg;

	if (d->q == NULL)
		download_send(d);
}

static void
on_download_eof(void *arg)
{
}

static void
on_download_reset(void *arg, const struct err *e)
{
	struct download *d = arg;

	d->s = NULL;
	if (d->q == NULL)
		download_free(d);
	else
		d->q->stream = NULL;
}

static const struct stream_handler download_handler = { .on_data = on_download_data,
	.on_credit = on_download_credit,
	.on_eof = on_download_eof,
	.on_reset = on_download_reset };

static void
on_get(void *arg, char *bytes, size_t n, const struct err *e)
{
	struct download *d = arg;
	struct request *q = d->q;

	d->bytes = bytes;
	d->n = n;
	d->q = NULL;
	d->t.is_ours = false;
	if (e != NULL || d->s == NULL) {
		struct err gone = { .code = ERR_GONE };

		reply_error(q, e != NULL ? e : &gone);
		download_free(d);
		return;
	}
	q->stream = NULL; /* it outlives the request */
	reply_blob(q, node_z(q->params, "blob", ""), n);
	download_send(d);
}

static void
on_found(void *arg, int64_t size_bytes, const struct err *e)
{
	struct download *d = arg;

	if (e != NULL)
		on_get(d, NULL, 0, e);
	else
		blob_get(d->q->g->parts.blobs, node_z(d->q->params, "blob", ""), on_get, d);
}

void
handle_blob_get(struct request *q)
{
	struct str hash = node_str(q->params, "blob", STR(""));
	struct download *d;
	struct err e;

	if (!blob_hash_valid(hash)) {
		err_set(&e, ERR_INVALID, ERR_TO_USER,
			"blob.get: blob is not 64 lower-case hex digits");
		reply_error(q, &e);
		return;
	}
	if (!may_transfer(q))
		return;
	d = xcalloc(1, sizeof *d);
	d->q = q;
	d->t.give_up = download_give_up;
	d->t.is_ours = true;
	transfer_begin(&d->t, q->g);
	d->s = request_stream(q, &download_handler, d);
	blob_find(q->g->parts.blobs, OWNER, hash, on_found, d);
}
