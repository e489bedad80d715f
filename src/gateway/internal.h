/* SPDX-License-Identifier: MIT
 * What the transport and the handlers share. A handler answers its request exactly once, at once or later; the client
 * may be gone by then, which reply_* notices. */
#ifndef GATEWAY_INTERNAL_H
#define GATEWAY_INTERNAL_H

#include "api/api.h"
#include "gateway/gateway.h"
#include "store/blob.h"

#define OWNER "default" /* the user of a home that has one */

struct client;

/* One call that is being answered. */
struct request {
	struct request *next;
	struct gateway *g;
	struct client *client; /* NULL: gone */
	uint64_t id;
	const struct method *method;
	struct arena *a; /* lives as long as the request */
	const struct node *params; /* checked, defaults filled in */
	struct buf out; /* of reply_begin */
	struct json j;
	void *own; /* the handler's own, in a */
	void (*then)(struct request *q, const char *session); /* what with_session goes on with */
	struct stream *stream; /* bytes that travel beside it; closed with the request, unless the handler takes it */
};

struct gateway {
	struct gateway_parts parts;
	int listen_fd;
	struct watch *watch;
	struct client *clients;
	size_t clients_n;
	uint64_t next_sub;
	struct buf envelope; /* of the event that was told last: one event goes to many */
	struct id envelope_id;
	int64_t started_ms;
	/* status.c: what the runner said last */
	bool is_private;
	bool is_settled; /* the broker was up once */
	struct role_health roles[ROLES_HEALTH_MAX];
	size_t roles_n;
	char log_trouble[120], catalog_trouble[ERR_MSG_MAX];
	struct health health; /* as it was logged */
	struct keyring_wait *keyring_waits; /* secrets.c */
	struct catalog_fetch *catalog_fetch; /* NULL: none is under way */
	struct transfer *transfers; /* of blobs, under way */
	struct self_test *self_tests; /* doctor.c: that wait */
};

typedef void (*handler_fn)(struct request *q);
extern const handler_fn handlers[API_METHOD_COUNT];

/* rpc.c: each of these ends the request. */
void reply_error(struct request *q, const struct err *e);
void reply_text(struct request *q, struct str json);
/* Answers with e, if there is one, and says whether there was. */
bool reply_failed(struct request *q, const struct err *e);
void reply_done(struct request *q, const struct err *e); /* with e, or with {} where that is NULL */
/* For handlers that write their result: begin opens the object and gives its writer, end closes and sends it. */
struct json *reply_begin(struct request *q);
void reply_end(struct request *q);
/* Makes the stream of bytes that belongs to this call; while the handler runs for the first time, and q->client is there. */
struct stream *request_stream(struct request *q, const struct stream_handler *handler, void *arg);
/* Answers {sub} and sends the events of a session after `after`, then what comes. */
void reply_subscribe(struct request *q, const char *session, uint64_t after);
/* Ends a subscription of this client: no event of it comes after the answer. */
void reply_unsubscribe(struct request *q, uint64_t sub);

/* sessions.c: finds the session that the parameter `session` names (id, unique start of one, or name) among the
 * caller's, then calls then(q, id). */
void with_session(struct request *q, void (*then)(struct request *q, const char *session));
void handle_session_create(struct request *q);
void handle_session_list(struct request *q);
void handle_session_get(struct request *q);
void handle_session_rename(struct request *q);
void handle_session_delete(struct request *q);
void handle_session_events(struct request *q);
void handle_session_unfollow(struct request *q);

/* turns.c */
void handle_session_turn(struct request *q);
void handle_session_continue(struct request *q);
void handle_turn_get(struct request *q);
void handle_turn_cancel(struct request *q);
void handle_approval_list(struct request *q);
void handle_approval_resolve(struct request *q);
int session_spec_of(struct request *q, struct session_spec *spec, struct err *e) MUST_USE;
void write_turn_row(struct json *j, const struct rows *rows, size_t i);

/* attachments.c: looks at the files that the parameters name, before anything is created: are they the caller's, what are
 * they, does the model take them. then is called with what user.message says of them (a JSON list, empty: none) in *out
 * (of the request's arena), or the request is answered. */
void with_attachments(struct request *q, const struct model_info *m, struct str *out, void (*then)(struct request *q));

/* blobs.c */
void handle_blob_put(struct request *q);
void handle_blob_get(struct request *q);

/* context.c */
void handle_session_context(struct request *q);

/* settings.c */
void handle_config_list(struct request *q);
void handle_config_get(struct request *q);
void handle_config_set(struct request *q);
void handle_config_schema(struct request *q);
void handle_config_validate(struct request *q);
void handle_config_default(struct request *q);

/* status.c */
void look_at_catalog(struct gateway *g); /* whether the kept file can be used */
void gateway_degraded(void *g, const char *except, struct buf *out); /* engine_degraded_fn */
void handle_tool_list(struct request *q);
void handle_status_get(struct request *q);

/* models.c */
void handle_model_embed(struct request *q);

/* budget.c */
void handle_budget_get(struct request *q);

/* secrets.c */
void secrets_open(struct gateway *g);
void secrets_close(struct gateway *g); /* answers what waits */
void handle_secret_key(struct request *q);
void handle_secret_set(struct request *q);
void handle_secret_list(struct request *q);
void handle_secret_remove(struct request *q);
/* Master key, secrets and the key of the configured model's provider: false when something is to be repaired. */
bool secrets_check(struct request *q, char *text, size_t text_n, char *fix, size_t fix_n);
void handle_doctor_with_keyring(struct request *q); /* handle_doctor_run, once the broker has said what it has */

/* catalog.c */
void handle_catalog_show(struct request *q);
void handle_catalog_fetch(struct request *q);
void handle_catalog_verify(struct request *q);
/* Whether the kept file can be used; none is fine. */
int gateway_check_catalog(const char *home, struct err *e) MUST_USE;
/* Ends a fetch that is under way. */
void catalog_fetch_stop(struct gateway *g);

/* why.c */
void handle_policy_why(struct request *q);

/* doctor.c */
void handle_doctor_run(struct request *q);
void self_tests_close(struct gateway *g); /* answers what waits */

#endif
