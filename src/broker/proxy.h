/* SPDX-License-Identifier: MIT
 * What the files of the proxy share: the way out of cells. A connection comes from shelld as a
 * stream that names its cell; a grant, which the runtime sends, says where that cell may connect
 * to. */
#ifndef BROKER_PROXY_H
#define BROKER_PROXY_H

#include "broker/internal.h"
#include "net/endpoint.h"

/* ---- proxy_request.c ---- */

#define PROXY_SERVICE_PREFIX "/svc/"

enum proxy_what {
	PROXY_CONNECT, /* a tunnel */
	PROXY_FORWARD, /* http://host/path, passed on */
	PROXY_SERVICE, /* /svc/NAME/path: to a server that the operator named, with its key */
};

struct proxy_request {
	enum proxy_what what;
	char method[17];
	struct endpoint to;       /* not of a service */
	struct str service, path; /* point into the head */
	bool is_http10, is_chunked, expects_continue;
	int64_t length; /* -1: none is said */
	size_t head_n;  /* bytes of the head */
};

/* 1: *out and the headers that go on are there, 0: more bytes are needed, or an error for the
 * program in the cell. */
int proxy_request_parse(
	struct str in, struct buf *headers, struct proxy_request *out, struct err *e) MUST_USE;

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_CR,
	CHUNK_LF,
	CHUNK_END_CR,
	CHUNK_END_LF
};
struct proxy_body {
	int64_t left; /* of the body, or of its chunk */
	int digits;
	enum chunk_state state;
	bool is_chunked, is_done;
};
void proxy_body_init(struct proxy_body *b, const struct proxy_request *r);
/* Takes the next piece: how many bytes of `in` it used up (all, or up to the end of a payload), or
 * an error. Nothing is taken behind the end. */
ptrdiff_t proxy_body_take(
	struct proxy_body *b, struct str in, struct str *payload, struct err *e) MUST_USE;

/* ---- grant.c: where a cell may connect to ---- */

struct grant_host { /* a name that the operator maps to an address */
	char *name;
	struct endpoint to; /* port 0: the one that was asked for */
};
struct grant {
	struct grant *next;
	char *cell;
	struct endpoint_rule *allow, *deny;
	size_t allow_n, deny_n;
	struct grant_host *hosts;
	size_t hosts_n;
	char **services;
	size_t services_n;
	int64_t quota_bytes; /* 0: none */
	int64_t used_bytes, reported_bytes;
	char *told[EGRESS_TOLD_MAX]; /* refused targets that the runtime knows of */
	size_t told_n;
	size_t connections;
};
/* From the tail of GRANT. What cannot be read is an error, and then nothing is granted. */
struct grant *grant_new(struct str cell, struct str text, struct err *e);
void grant_free(struct grant *g);
/* The rule that the configuration needs, or why none helps. false: refused. */
bool grant_allows(const struct grant *g, const struct endpoint *to, struct err *why);
const struct grant_host *grant_host_find(const struct grant *g, const struct endpoint *to);
/* May a name lead to this address? special: what it is besides an address of the Internet, or NULL.
 */
const char *grant_address_refusal(const struct grant *g, const struct sockaddr *sa, bool is_mapped);
bool grant_has_service(const struct grant *g, struct str name);
/* A rule in deny names its server, or no rule could. */
bool grant_denies_service(const struct grant *g, const struct upstream *u);
size_t grant_left(const struct grant *g); /* bytes of its quota; SIZE_MAX: it has none */

/* ---- proxy.c: connections of cells ---- */

struct proxy;
/* Borrows all; services: the upstreams behind /svc. */
struct proxy *proxy_new(
	struct loop *l, struct egress *g, const struct upstreams *services, const struct vault *v);
void proxy_free(struct proxy *x);                    /* NULL is fine */
void proxy_runtime(struct proxy *x, struct wire *w); /* who is told; NULL: nobody */
void proxy_shelld(struct proxy *x, int fd);          /* takes fd: the link to a (new) shelld */
void proxy_grant(struct proxy *x, const struct wire_msg *m); /* GRANT */
void proxy_tell_mark(struct proxy *x, const struct wire_msg *m); /* EGRESS */

/* ---- between the proxy and proxy_service.c ---- */

struct service_call;
struct proxied;
struct service_call *service_start(struct proxy *x, struct proxied *c, const struct upstream *u,
	const struct proxy_request *r, struct str headers);
void service_free(struct service_call *s); /* NULL is fine; cancels */
void service_pump(struct service_call *s); /* bytes or credit came from the cell */
struct service_link;
struct service_link *service_link_new(
	struct loop *l, struct egress *g, const struct upstreams *u, const struct vault *v);
void service_link_free(struct service_link *k);
struct service_link *proxy_service_link(struct proxy *x);

/* The side of the cell, for a service. */
struct stream *proxied_stream(struct proxied *c);
struct buf *proxied_in(struct proxied *c);   /* what the cell sent and nobody has taken */
bool proxied_ended(const struct proxied *c); /* nothing more comes from the cell */
void proxied_consume(struct proxied *c, size_t n);
/* Counts bytes that went out or in. false: the quota is spent, and c is gone. */
bool proxied_count(struct proxied *c, size_t n) MUST_USE;
/* Ends with an answer of the proxy's own; or, where one has begun, by cutting it. c is gone or on
 * its way. */
void proxied_refuse(struct proxied *c, int status, const char *phrase, const char *text);
void proxied_cut(struct proxied *c, const struct err *e); /* e NULL: cancelled */
void proxied_finish(struct proxied *c);                   /* everything was written */
void proxied_answered(struct proxied *c); /* an answer has begun: no other can be given */
void proxied_alive(struct proxied *c);    /* a byte moved */

#endif
