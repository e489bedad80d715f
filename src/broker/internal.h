/* SPDX-License-Identifier: MIT
 * What the files of the broker share. Only the role's side uses libcurl, through struct curl_api;
 * the client side (client.c) and the checks of a request (request.c) know nothing of it. */
#ifndef BROKER_INTERNAL_H
#define BROKER_INTERNAL_H

#include <curl/curl.h>
#include "base/buf.h"
#include "base/secret.h"
#include "broker/broker.h"

/* ---- request.c: what may be asked for; used on both sides of the link ---- */

/* The path is appended to a base URL: it starts with '/', has no white space, fragment or dot
 * segments. */
int request_check_path(struct str path, struct err *e) MUST_USE;
/* "name: value\n" lines without names that belong to the broker (credentials, framing, host). */
int request_check_headers(struct str lines, struct err *e) MUST_USE;
/* One header; may_own also accepts what request_check_headers leaves to the broker. */
int request_check_header(struct str name, struct str value, bool may_own, struct err *e) MUST_USE;

/* ---- upstream.c: the servers from the envelope, with their keys ---- */

struct upstream {
	char *name;
	char *base_url; /* without a slash at the end */
	char *where; /* host:port, for messages */
	bool is_tls;
	char *key_header; /* "x-api-key: "; NULL: sends none */
	struct secret *key; /* NULL: none */
	char *key_env; /* the variable it should have come from; NULL: none */
	char *headers; /* "name: value\n" lines; may hold secrets */
	int64_t connect_ms, idle_ms;
	int64_t connections; /* at the same time, at most */
	struct err bad; /* code set: cannot be used, and why */
};

struct upstreams;
/* From the "providers" map of the envelope. A bad entry fails when it is used, not here. */
struct upstreams *upstreams_new(const struct node *providers);
void upstreams_free(struct upstreams *u); /* NULL is fine; wipes */
const struct upstream *upstream_find(const struct upstreams *u, struct str name, struct err *e);
size_t upstreams_count(const struct upstreams *u);

/* ---- address.c: where a connection may go ---- */

/* NULL: allowed for a server that the operator named; else the reason why not. */
const char *address_refusal(const struct sockaddr *sa);
/* "192.0.2.1:443" or "[2001:db8::1]:443" into out; returns out. */
#define ADDRESS_TEXT_SIZE 64
const char *address_text(const struct sockaddr *sa, char out[ADDRESS_TEXT_SIZE]);

/* ---- curl_api.c ---- */

#define CURL_FUNCTIONS(X)                                                                          \
	X(global_init) X(global_cleanup) X(version_info) X(slist_append) X(slist_free_all)         \
	X(easy_init) X(easy_cleanup) X(easy_setopt) X(easy_getinfo) X(easy_pause) X(easy_strerror) \
	X(multi_init) X(multi_cleanup) X(multi_setopt) X(multi_add_handle) X(multi_remove_handle)  \
	X(multi_socket_action) X(multi_assign) X(multi_info_read)

struct curl_api {
	void *library;
#define MEMBER(name) __typeof__(curl_##name) *name;
	CURL_FUNCTIONS(MEMBER)
#undef MEMBER
	bool has_hashed_ca; /* the system's certificate directory can be searched by hash */
};

int curl_api_load(struct curl_api *api, struct err *e) MUST_USE;
void curl_api_unload(struct curl_api *api);

/* ---- egress.c: the transfers of this role on the loop ---- */

struct egress;
struct egress *egress_new(struct loop *l, const struct curl_api *api);
void egress_free(struct egress *g); /* every transfer must have ended */
const struct curl_api *egress_api(const struct egress *g);
struct loop *egress_loop(const struct egress *g);
/* The connections of one upstream, made at its first request; owned by g. */
struct pool;
struct pool *egress_pool(struct egress *g, const struct upstream *u);
void pool_add(struct pool *p, CURL *easy);
/* Closes a connection that is in the middle of an answer. */
void pool_remove(struct pool *p, CURL *easy);

/* ---- transfer.c: one request ---- */

/* Serves a FETCH: opens its stream and answers on it, whatever happens. */
void transfer_start(struct egress *g, const struct upstreams *u, struct wire *w,
	const struct wire_msg *m);
/* From egress.c: libcurl is through with it. */
void transfer_done(void *transfer, CURLcode result);

#endif
