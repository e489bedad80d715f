/* SPDX-License-Identifier: MIT
 * The methods of Ithaca: names, parameters, results and the capability that each needs. Command line, frames, REST and
 * WebSocket are transports of these rows; the handlers are in gateway/. */
#ifndef API_API_H
#define API_API_H

#include "base/field.h"

enum capability { CAP_NONE, CAP_READ, CAP_RUN, CAP_APPROVE, CAP_ADMIN };

#define API_METHODS(X)                                                                             \
	X(SESSION_CREATE, "session.create", CAP_RUN, session_create_params, "Create a session.")   \
	X(SESSION_LIST, "session.list", CAP_READ, session_list_params, "List sessions, newest first.") \
	X(SESSION_GET, "session.get", CAP_READ, session_ref_params, "Show one session.")           \
	X(SESSION_RENAME, "session.rename", CAP_RUN, session_rename_params, "Rename a session.")   \
	X(SESSION_DELETE, "session.delete", CAP_RUN, session_ref_params, "Delete a session with its events and cell.") \
	X(SESSION_EVENTS, "session.events", CAP_READ, session_events_params, "Read events after a sequence number, and follow.") \
	X(SESSION_UNFOLLOW, "session.unfollow", CAP_READ, session_unfollow_params, "End a subscription of this link.") \
	X(SESSION_TURN, "session.turn", CAP_RUN, session_turn_params, "Submit a message: starts a turn.") \
	X(SESSION_CONTEXT, "session.context", CAP_READ, session_context_params, "What the next request to the model holds, part by part.") \
	X(SESSION_CONTINUE, "session.continue", CAP_RUN, session_ref_params, "Go on with what a crash or a stop left open.") \
	X(BLOB_PUT, "blob.put", CAP_RUN, blob_put_params, "Store bytes that a message will name: they follow the call as a stream.") \
	X(BLOB_GET, "blob.get", CAP_READ, blob_get_params, "Read a blob: its bytes follow the answer as a stream.") \
	X(TURN_GET, "turn.get", CAP_READ, turn_ref_params, "State of a turn.")                     \
	X(TURN_CANCEL, "turn.cancel", CAP_RUN, turn_ref_params, "Cancel a turn: stops the model stream and kills its commands.") \
	X(APPROVAL_LIST, "approval.list", CAP_READ, no_params, "List pending approvals.")          \
	X(APPROVAL_RESOLVE, "approval.resolve", CAP_APPROVE, approval_resolve_params, "Allow or deny a call.") \
	X(CONFIG_LIST, "config.list", CAP_READ, no_params, "Effective configuration with the origin of each key.") \
	X(CONFIG_GET, "config.get", CAP_READ, config_key_params, "One effective value.")           \
	X(CONFIG_SET, "config.set", CAP_ADMIN, config_set_params, "Set a key in the home configuration file.") \
	X(CONFIG_SCHEMA, "config.schema", CAP_READ, no_params, "JSON Schema of the configuration.") \
	X(CONFIG_VALIDATE, "config.validate", CAP_READ, config_validate_params, "Check a configuration file without using it.") \
	X(CONFIG_DEFAULT, "config.default", CAP_READ, no_params, "A commented configuration file with every default.") \
	X(SECRET_KEY, "secret.key", CAP_ADMIN, secret_key_params, "The key that secrets are sealed to, and where a secret is wanted.") \
	X(SECRET_SET, "secret.set", CAP_ADMIN, secret_set_params, "Keep a sealed secret; takes effect at once.") \
	X(SECRET_LIST, "secret.list", CAP_ADMIN, no_params, "Names, bindings and state of the secrets, never values.") \
	X(SECRET_REMOVE, "secret.remove", CAP_ADMIN, secret_ref_params, "Forget a secret; takes effect at once.") \
	X(CATALOG_SHOW, "catalog.show", CAP_READ, catalog_show_params, "What is known about models, and who says so.") \
	X(CATALOG_FETCH, "catalog.fetch", CAP_ADMIN, catalog_fetch_params, "Get a newer model catalog from catalog.url.") \
	X(CATALOG_VERIFY, "catalog.verify", CAP_READ, no_params, "Check the catalogs and that configured models are known.") \
	X(POLICY_WHY, "policy.why", CAP_READ, policy_why_params, "Explain what would be decided on a call.") \
	X(DOCTOR_RUN, "doctor.run", CAP_READ, doctor_params, "Run the numbered checks.")           \
	X(TOOL_LIST, "tool.list", CAP_READ, no_params, "Tools on offer, and those withdrawn with the reason.") \
	X(MODEL_EMBED, "model.embed", CAP_RUN, model_embed_params, "Vectors of texts, by the model of models.embedding.") \
	X(BUDGET_GET, "budget.get", CAP_READ, budget_get_params, "Money and tokens by day, agent, session, turn and call, beside the caps.") \
	X(STATUS_GET, "status.get", CAP_READ, no_params, "Roles, sessions, degraded parts and their reasons.")

#define API_ENUM(name, text, cap, params, help) API_##name,
enum api_method { API_METHODS(API_ENUM) API_METHOD_COUNT };
#undef API_ENUM

struct method {
	enum api_method id;
	const char *name; /* "session.create" */
	enum capability capability;
	const struct field *params;
	const struct field *result; /* the object that answers it; nobody checks results against it at run time */
	const char *text;
};
extern const struct method api_methods[API_METHOD_COUNT];
const struct method *api_find(struct str name); /* NULL when unknown */
const char *api_nearest(struct str name);

/* How a turn ended, as the command line and JSON say it: rows (status, exit). */
#define TURN_STATUSES(X)                                                                           \
	X(ANSWERED, "answered", 0)                                                                 \
	X(FAILED, "failed", 1)                                                                     \
	X(WAITING, "waiting", 3) /* an approval is pending: the turn has not ended */              \
	X(DENIED, "denied", 3)                                                                     \
	X(LIMIT, "limit", 4)                                                                       \
	X(CANCELLED, "cancelled", 5)
#define TURN_STATUS_ENUM(name, text, exit) TURN_##name,
enum turn_status { TURN_STATUSES(TURN_STATUS_ENUM) TURN_STATUS_COUNT };
#undef TURN_STATUS_ENUM
const char *turn_status_name(enum turn_status s);
int turn_status_parse(struct str s, enum turn_status *out) MUST_USE;
int turn_status_exit(enum turn_status s);

#endif
