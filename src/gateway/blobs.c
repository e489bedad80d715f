/* SPDX-License-Identifier: MIT
 * Handlers of blob.*: bytes that travel beside a call, as a stream on its id with the credit of all
 * streams, so neither side ever holds more than the window unread. An upload is gathered whole, up
 * to the size that the call named, and is answered when it is durable. A download is sent as the
 * client takes it. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

/* Each holds its bytes in memory. */
static bool
may_transfer(struct request *q)
{
	struct err e;

	if (q->g->transfers < BLOB_TRANSFERS_MAX)
		return true;
	err_set(&e, ERR_BUSY, ERR_TO_USER, "%u blobs are on their way already (try again)",
		BLOB_TRANSFERS_MAX);
	reply_error(q, &e);
	return false;
}

/* ---- blob.put ---- */

struct upload {
	struct request *q;
	struct gateway *g;
	size_t size;
	struct buf bytes;
};

static void
upload_free(struct upload *u)
{
	u->g->transfers--;
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
reply_blob(struct request *q, const char *hash, size_t size)
{
	struct json *j = reply_begin(q);

	json_obj(j);
	json_kv_z(j, "blob", hash);
	json_kv_int(j, "size", (int64_t)size);
	json_obj_end(j);
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
	bytes = buf_take(&u->bytes, &n);
	blob_put(u->g->parts.blobs, OWNER, bytes, n, on_put, u);
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
	u->g = g;
	u->size = (size_t)node_int(q->params, "size", 0);
	buf_init(&u->bytes, u->size);
	g->transfers++;
	request_stream(q, &upload_handler, u);
}

/* ---- blob.get ---- */

/* Lives from the call on, and beyond the answer until the last byte is on its way. */
struct download {
	struct request *q; /* NULL: answered */
	struct gateway *g;
	struct stream *s; /* NULL: the client went, or wants no more */
	char *bytes;
	size_t n, at;
};

static void
download_free(struct download *d)
{
	d->g->transfers--;
	free(d->bytes);
	free(d);
}

static void
download_send(struct download *d)
{
	d->at += stream_write(d->s, 0, (struct str){ d->bytes + d->at, d->n - d->at });
	if (d->at < d->n)
		return;
	stream_eof(d->s);
	stream_close(d->s, NULL);
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
	d->g = q->g;
	d->g->transfers++;
	d->s = request_stream(q, &download_handler, d);
	blob_find(q->g->parts.blobs, OWNER, hash, on_found, d);
}
