/* SPDX-License-Identifier: MIT
 * What the files of this room share: the seams between wire, link and streams. Nothing
 * here is seen by other rooms, and nothing here shows a libuv type. */
#ifndef LOOP_INTERNAL_H
#define LOOP_INTERNAL_H

#include "loop/wire.h"

/* ---- wire.c for link.c ---- */

/* Kinds that only streams use. */
bool wire_is_stream_kind(enum wire_kind k);
/* Kinds that open a stream on their id. */
bool wire_opens_stream(enum wire_kind k);
/* The keys of an error in the head of ERROR or RESET; wire_err reads them. */
void wire_put_err(struct json *j, const struct err *e);

/* ---- stream.c for link.c: the streams of one link ---- */

struct stream_table {
	struct stream **buckets; /* chained by id */
	size_t size, n;
	uint64_t id_max; /* the highest id that ever named a stream: above it nothing can be late */
	size_t waiting; /* streams that were told 0 because of the link's backlog */
};

struct stream_table *wire_streams(struct wire *w);
bool stream_exists(struct stream_table *t, uint64_t id);
/* A message of a stream kind arrived. 0, or the error for which the peer is dropped. */
int stream_receive(struct stream_table *t, const struct wire_msg *m, struct err *e) MUST_USE;
/* The link's backlog is low: on_credit for every stream that waits for it. */
void stream_resume_all(struct stream_table *t);
/* The link is gone: on_reset for every stream, which is released after it. */
void stream_reset_all(struct stream_table *t, const struct err *e);

#endif
