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
	const char *config_file; /* in use; NULL: none */
	bool is_private; /* started by a command; ends when idle */
	loop_fn on_busy; /* clients came or went */
	void *arg;
};

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
size_t gateway_clients(const struct gateway *g);

#endif
