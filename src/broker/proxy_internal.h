/* SPDX-License-Identifier: MIT
 * For the files of the proxy alone: a connection of a cell, and what each file does to it. A
 * function that may end a connection says so by its result, or is the last thing that is done. */
#ifndef BROKER_PROXY_INTERNAL_H
#define BROKER_PROXY_INTERNAL_H

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "broker/proxy.h"

#define PROXY_CHUNK 65536

enum state {
	ST_HEAD,  /* the request is not whole */
	ST_GRANT, /* it is, and the cell's grant is not here yet */
	ST_RESOLVE,
	ST_CONNECT,
	ST_RELAY, /* bytes pass */
	ST_SERVICE,
};

/* What comes from the server next. A tunnel has bytes only. */
enum answer { ANSWER_BODY, ANSWER_STATUS, ANSWER_INTERIM };

struct address {
	struct sockaddr_storage sa;
	socklen_t n;
};

/* A name that is being resolved on a pool thread. It may outlive its connection. */
struct lookup {
	struct proxied *c; /* NULL: it is gone */
	struct proxy *x;
	struct lookup *next;
	char *cell;
	char host[ENDPOINT_HOST_MAX + 1], port[8];
	struct address found[EGRESS_ADDRESSES_MAX];
	size_t n;
	int error;
};

struct proxied {
	struct proxy *x;
	struct proxied *next;
	struct wire *w;
	struct stream *stream;
	char *cell;
	struct grant *g; /* NULL: not known yet */
	enum state state;
	struct buf in;   /* from the cell */
	struct buf head; /* the request's, while it is needed: what r points into */
	struct buf out;  /* for the server, written anew; not of a tunnel */
	struct buf headers;
	enum answer answer;
	struct buf line; /* of the answer's head, as far as it came */
	struct proxy_request r;
	struct proxy_body body;
	bool cell_ended, server_ended, has_shut, has_answered;
	struct address to[EGRESS_ADDRESSES_MAX];
	size_t to_n, to_at;
	int connect_error;
	int fd;
	struct watch *watch;
	struct timer *timer;
	int64_t moved_ms; /* loop time of the last byte */
	struct lookup *lookup; /* NULL in ST_RESOLVE: it waits for others of its cell */
	struct service_call *service;
};

struct proxy {
	struct loop *l;
	const struct upstreams *services;
	struct service_link *link;
	struct wire *shelld, *runtime;
	struct grant *grants;
	struct proxied *connections;
	struct lookup *lookups;
	size_t n;
	char chunk[PROXY_CHUNK];
};

/* ---- proxy.c ---- */

void proxied_close_server(struct proxied *c);
void proxied_refuse_err(struct proxied *c, int status, const char *phrase, const struct err *e);
/* Told to the model by the answer, and to user and model by the runtime. target: what was wanted;
 * name: what a rule would have to name. */
void proxied_deny(struct proxied *c, const char *target, const char *name, const char *why);
/* Its request is whole: goes on when the cell's grant is here, or waits for it. */
void proxied_granted(struct proxied *c);

/* ---- proxy_grant.c: what cells may do, as the runtime says, and what it is told ---- */

struct grant *proxy_find_grant(struct proxy *x, const char *cell); /* NULL: none */
void proxy_free_grants(struct proxy *x);                           /* cuts what they allowed */
void proxy_tell_use(struct proxy *x, struct grant *g);
/* Once for each target until the next grant: a program that tries again and again says nothing new.
 */
void proxy_tell_denied(
	struct proxy *x, struct grant *g, const char *target, const char *rule, const char *why);

/* ---- proxy_connect.c: from a name to a connection ---- */

void proxied_connect(struct proxied *c);
void proxied_connect_timeout(struct proxied *c);
void proxied_resolve_timeout(struct proxied *c);

/* ---- proxy_relay.c: bytes, both ways ---- */

void proxied_relay(struct proxied *c);        /* connected */
void proxied_relay_out(struct proxied *c);    /* bytes or their end came from the cell */
void proxied_relay_credit(struct proxied *c); /* it takes more */

#endif
