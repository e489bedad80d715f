/* SPDX-License-Identifier: MIT
 * What the files of the broker share. Only the role's side uses libcurl, through struct curl_api;
 * the client side (client.c) and the checks of a request (request.c) know nothing of it. */
#ifndef BROKER_INTERNAL_H
#define BROKER_INTERNAL_H

#include <curl/curl.h>
#include "base/buf.h"
#include "base/secret.h"
#include "base/field.h"
#include "base/seal.h"
#include "broker/broker.h"

/* ---- request.c: what may be asked for; used on both sides of the link ---- */

/* The path is appended to a base URL: it starts with '/', has no white space, fragment or dot
 * segments. */
int request_check_path(struct str path, struct err *e) MUST_USE;
/* "name: value\n" lines without names that belong to the broker (credentials, framing, host). */
int request_check_headers(struct str lines, struct err *e) MUST_USE;
/* One header; may_own also accepts what request_check_headers leaves to the broker. */
int request_check_header(struct str name, struct str value, bool may_own, struct err *e) MUST_USE;

/* ---- vault.c: the opened secrets ---- */

/* Where a value is about to go; host as in the URL. */
struct destination {
	bool is_tls;
	struct str host;
	uint64_t port;
};

struct vault;
struct vault *vault_new(const struct node *envelope); /* masters [{kind, seed}], master_error */
void vault_free(struct vault *v);                     /* NULL is fine; wipes */
/* Replaces all secrets by those of the file. What cannot be opened is logged, and said when it is
 * used. */
void vault_load(struct vault *v, struct str file);
/* The value (borrowed until the next vault_load) for a use, "header:NAME" or "url", if it is bound
 * to the destination. */
int vault_use(const struct vault *v, struct str name, const char *use, const struct destination *d,
	struct str *value, struct err *e) MUST_USE;
void vault_report(const struct vault *v, struct json *j); /* keys of an object */

/* ---- mask.c: what was sent does not come back ---- */

struct mask {
	struct str *values; /* longest first; heap, as the lines of the request are; wiped */
	size_t n, cap;
	struct buf held; /* what may be the beginning of a value, behind `taken` bytes that were let
			    through */
	size_t taken;
};
/* Also what stands behind the scheme of an Authorization. Short ones are left out. */
void mask_add(struct mask *m, struct str value);
void mask_free(struct mask *m);
void mask_text(const struct mask *m, char *p, size_t n); /* a whole text, in place */
/* The next piece of a stream: gives what may pass now, valid until the next call. */
struct str mask_take(struct mask *m, struct str bytes);
struct str mask_rest(struct mask *m); /* at the end */
size_t mask_held(const struct mask *m);

/* ---- lane.c: connections of one server ---- */

struct lane;    /* of a pool */
struct ticket { /* a request's place in it */
	struct lane *lane;
	struct ticket *next, **link;
	loop_fn go;
	void *arg;
	int64_t since_ms, queued_ms;
	bool is_waiting, is_active;
};
struct lane *lane_new(struct loop *l, const char *name, int64_t connections); /* name is borrowed */
void lane_free(struct lane *n);                                               /* nobody is in it */
/* Calls go(arg) when a connection may be used: at once, or later. go must not leave. */
void lane_enter(struct lane *n, struct ticket *t, loop_fn go, void *arg);
void lane_leave(struct ticket *t);
void lane_shares(struct ticket *t); /* the server speaks HTTP/2; may be called inside libcurl */

/* ---- upstream.c: the servers from the envelope, with their keys ---- */

/* A text that is kept here or, as a reference, in the vault. */
struct credential {
	struct secret *value; /* NULL: none, or a reference */
	char *reference;      /* NULL: none */
};

struct header {
	char *name;
	struct credential value;
};

struct upstream {
	char *name;
	char *base_url; /* without a slash at the end; may hold {secret:NAME} behind the host */
	char *where;    /* host:port, for messages */
	char *host;
	uint64_t port;
	bool is_tls;
	char *key_header; /* "x-api-key: "; NULL: sends none */
	struct credential key;
	char *key_env;        /* the variable it should have come from; NULL: none */
	struct err key_error; /* code set: there should be one, and why there is none */
	struct header *headers;
	size_t headers_n;
	char *ca_file; /* NULL: the system's authorities */
	int64_t connect_ms, idle_ms, total_ms;
	int64_t connections; /* at the same time, at most */
	struct err bad;      /* code set: cannot be used, and why */
};

struct upstreams;
/* From the "providers" map of the envelope. A bad entry fails when it is used, not here. */
struct upstreams *upstreams_new(const struct node *providers);
void upstreams_free(struct upstreams *u); /* NULL is fine; wipes */
const struct upstream *upstream_find(const struct upstreams *u, struct str name, struct err *e);
void upstreams_report(const struct upstreams *list, const struct vault *v,
	struct json *j); /* {NAME: has a key} */

/* What the server gets from us alone: its URL up to the request's path, and the lines of headers,
 * as "name: value\0" one after the other. Both are to be wiped. The values go into the mask too. */
int upstream_write(const struct upstream *u, const struct vault *v, struct buf *url,
	struct buf *lines, struct mask *m, struct err *e) MUST_USE;

/* ---- address.c: where a connection may go ---- */

/* NULL: allowed for a server that the operator named; else the reason why not. */
const char *address_refusal(const struct sockaddr *sa);
/* "192.0.2.1:443" or "[2001:db8::1]:443" into out; returns out. */
#define ADDRESS_TEXT_SIZE 64
const char *address_text(const struct sockaddr *sa, char out[ADDRESS_TEXT_SIZE]);

/* ---- curl_api.c ---- */

#define CURL_FUNCTIONS(X)                                                                          \
	X(global_init)                                                                             \
	X(global_cleanup) X(version_info) X(slist_append) X(slist_free_all) X(easy_init)           \
		X(easy_cleanup) X(easy_setopt) X(easy_getinfo) X(easy_pause) X(easy_strerror)      \
			X(multi_init) X(multi_cleanup) X(multi_setopt) X(multi_add_handle)         \
				X(multi_remove_handle) X(multi_socket_action) X(multi_assign)      \
					X(multi_info_read)

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
struct lane *pool_lane(struct pool *p);
void pool_add(struct pool *p, CURL *easy);
/* Closes a connection that is in the middle of an answer. */
void pool_remove(struct pool *p, CURL *easy);

/* ---- transfer.c: one request ---- */

/* Serves a FETCH: opens its stream and answers on it, whatever happens. */
void transfer_start(struct egress *g, const struct upstreams *u, const struct vault *v,
	struct wire *w, const struct wire_msg *m);
/* From egress.c: libcurl is through with it. */
void transfer_done(void *transfer, CURLcode result);

#endif
