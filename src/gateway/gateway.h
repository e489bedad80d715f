/* SPDX-License-Identifier: MIT
 * The API's handlers and its transport over frames on run/rpc.sock. A connection belongs to the operator: the peer's uid
 * must be the daemon's own or root's. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "agent/agent.h"

/* What the handlers work with; borrowed for the gateway's life. */
struct gateway_parts {
	struct loop *loop;
	struct store *store;
	struct events *events;
	struct engine *engine;
	struct sandbox *sandbox;
	struct broker *broker;
	struct blobs *blobs;
	struct registry *registry;
	struct config *config;
	const char *home;
	struct hostfiles *files; /* those of the host; NULL: the file system */
	const char *config_file; /* in use; NULL: none */
	const char *tier; /* in force */
	const char *guest; /* the program ithaca-guest, for the self-test */
	bool is_private; /* started by a command; ends when idle */
	bool root_is_foreign; /* in our user namespace root is somebody else */
	loop_fn on_busy; /* clients came or went */
	void *arg;
};

/* Where the user's workspace is: shared, tmp (the cell's /scratch) and vault, which no cell ever sees. In the arena. */
const char *gateway_user_dir(const struct config *c, const char *home, struct arena *a);
int gateway_user_dirs(const struct config *c, const char *home, struct err *e) MUST_USE; /* makes them, for nobody else */

/* ---- health: one object on every surface ---- */

enum role_phase { PHASE_STARTING, PHASE_UP, PHASE_RESTARTING, PHASE_DOWN, PHASE_STOPPING, PHASE_COUNT };
/* What the runner knows of a process. */
struct role_health {
	enum role role;
	enum role_phase phase;
	int64_t pid, restarts, since_ms; /* pid 0: not known */
	char reason[160]; /* why it is not up, or not where it should be; empty: nothing is wrong */
	char container[64]; /* its name; empty: it is in none */
};
#define ROLES_HEALTH_MAX 8
void role_health_write(const struct role_health *r, struct json *j);
size_t role_health_read(const struct node *list, struct role_health *out, size_t max);

/* Something that cannot be had or enforced here: a stable code, what it means, how to get it. */
struct reason {
	const char *code; /* static */
	char text[320], fix[320];
};
#define REASONS_MAX 24
struct health {
	struct reason v[REASONS_MAX];
	size_t n;
};
/* fmt: what there is to say beyond the row of the code, or NULL. A code that is not in the table is a broken invariant. */
void health_add(struct health *h, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* One reason for each role that is not there; a role that is only just starting is no reason. */
void health_roles(struct health *h, const struct role_health *roles, size_t n);
/* The members roles and degraded. */
void health_write(const struct health *h, const struct role_health *roles, size_t n, struct json *j);
/* For a model: code and meaning of each, once, without what changes from look to look, so that requests can be cached. Not
 * the code `except` (NULL: all). */
void health_brief(const struct health *h, const char *except, struct buf *out);
/* Logs what came and went since the last time, a line each. */
void health_log(const struct health *now, struct health *last);

/* Gives c the fetched model catalog of this home, where there is a good one. */
void gateway_load_catalog(struct config *c, const char *home);

struct gateway;
/* Takes listen_fd. */
struct gateway *gateway_open(const struct gateway_parts *parts, int listen_fd);
/* Lets go of every client: each finds out from the next runtime how things stand, and hears nothing of an end that is
 * only ours. Answers to their calls may still come, and go nowhere. */
void gateway_stop(struct gateway *g);
void gateway_close(struct gateway *g);
void gateway_broker_up(struct gateway *g); /* what waited for the broker goes on */
/* What the runner says of the roles and of itself: the tail of WIRE_STATUS. */
void gateway_roles(struct gateway *g, struct str status);
/* Something may have got better or worse: logs what did. */
void gateway_look(struct gateway *g);
size_t gateway_clients(const struct gateway *g);

#endif
