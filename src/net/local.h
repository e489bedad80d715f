/* SPDX-License-Identifier: MIT
 * HTTP/1.1 to a server on this machine, over its Unix socket: one request, one answer, blocking. For the REST APIs of
 * container engines; models and the web are reached by the broker alone. Call it from a worker thread or a command. */
#ifndef NET_LOCAL_H
#define NET_LOCAL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/node.h"

struct local_request {
	const char *socket; /* path */
	const char *method, *target; /* target: "/v1.40/info?..." with what is special in it already escaped */
	const char *type; /* of the body; NULL: none is sent */
	struct str body;
	int body_fd; /* when above 0: the body is what it gives until its end, sent in chunks */
	int64_t timeout_ms; /* for all of it */
	size_t answer_max; /* bytes of a body; more is an error */
};
/* 0 whenever the server answered, whatever its *status; *body is then owned by the caller (buf_fini). ERR_NOT_FOUND: nobody
 * serves the socket. */
int local_http(const struct local_request *r, int *status, struct buf *body, struct err *e) MUST_USE;

/* The parser alone. in: all bytes so far; is_end: no more come. 1: complete, *status is set and body appended to *body;
 * 0: more bytes are needed; below 0: an error code. */
int local_answer_parse(struct str in, bool is_end, int *status, struct buf *body, struct err *e) MUST_USE;
/* Appends text with everything but unreserved characters escaped. */
void local_escape(struct buf *b, struct str text);

#endif
