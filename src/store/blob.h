/* SPDX-License-Identifier: MIT
 * Blobs: bytes under the name of their SHA-256. Up to BLOB_ROW_MAX they are a row, above it a file
 * in state/blobs with a row that says so. Sessions refer to blobs; one that nobody refers to is
 * swept, an upload that no message took BLOB_UPLOAD_MS after it came. All calls on the loop's
 * thread; callbacks come later, never inside the call. */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include "base/hash.h"
#include "store/store.h"

#define BLOB_UPLOAD_MS (24 * 3600 * 1000LL)

struct blobs;
/* dir is made when the first large blob comes. Sweeps now, and every hour. */
struct blobs *blobs_open(struct store *s, struct loop *l, const char *dir) MUST_USE;
/* Before store_close: answers what is under way, and every later call, with ERR_GONE. */
void blobs_stop(struct blobs *b);
void blobs_free(
	struct blobs *b); /* after store_close, and when nobody calls any more; NULL is fine */

/* hash is 64 lower-case hex digits. The blob is durable: as a row, or as a file that was synced
 * before its row. */
typedef void (*blob_put_fn)(void *arg, const char *hash, const struct err *e);
/* Takes bytes (heap). It belongs to owner until a session keeps it or the time is over. */
void blob_put(struct blobs *b, const char *owner, char *bytes, size_t n, blob_put_fn fn, void *arg);

/* bytes (heap, NUL behind them) belong to the callback; NULL with e. They are what the name says:
 * checked. */
typedef void (*blob_get_fn)(void *arg, char *bytes, size_t n, const struct err *e);
void blob_get(struct blobs *b, const char *hash, blob_get_fn fn, void *arg);

/* The size of a blob that the owner brought or that a session of this owner refers to, else
 * ERR_NOT_FOUND. */
typedef void (*blob_find_fn)(void *arg, int64_t size_bytes, const struct err *e);
void blob_find(struct blobs *b, const char *owner, struct str hash, blob_find_fn fn, void *arg);
bool blob_hash_valid(struct str hash);

/* Adds to a batch that the session needs this blob from now on. The batch fails with ERR_CONFLICT
 * when it is gone. */
void blob_keep(struct batch *batch, const char *owner, struct str hash, const char *session);
/* Removes what nobody refers to: after a session was deleted. */
void blobs_sweep(struct blobs *b);

#endif
