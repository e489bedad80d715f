/* SPDX-License-Identifier: MIT
 * The egress role: holds the keys, speaks TLS and HTTP, checks every address; bodies are opaque
 * bytes to it. This header has its main and the client through which the runtime makes requests. */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "loop/wire.h"

/* The role: serves the link to the runner on fd until told to stop. Returns an exit status. */
int broker_main(int runner_fd);

struct broker; /* client side, in the runtime */
struct broker *broker_new(struct loop *l, loop_fn on_up, void *arg); /* on_up: linked (again) */
void broker_free(struct broker *b);
void broker_attach(struct broker *b, int fd); /* takes fd; calls in flight fail with ERR_GONE */
bool broker_is_up(const struct broker *b);

/* ---- what the commands in cells may reach ---- */

/* Tells the role where a cell may connect to (policy_egress_write); an empty text: nowhere any more. Not kept here: after
 * a restart of the role it is told again by who knows. */
void broker_grant(struct broker *b, const char *cell, struct str grant);
/* head: {cell, denied, rule, why}: refused; {cell, bytes}: moved since the last time; or {cell, mark}: see broker_mark.
 * Borrowed. NULL: the link is lost, and with it what was not told yet. */
typedef void (*broker_egress_fn)(void *arg, const struct node *head);
void broker_on_egress(struct broker *b, broker_egress_fn fn, void *arg);
/* Asks for the mark back, which comes behind everything that the cell has done so far. False: there is no link. */
bool broker_mark(struct broker *b, const char *cell, const char *mark);

/* ---- sealed secrets: the runtime keeps the file, the role opens it ---- */

/* Hands the file over, now and after each restart of the role. An answer comes through on_keyring.
 */
void broker_secrets(struct broker *b, struct str file);
/* What the role said last: {master, key, why?, bad_file?, secrets: [{name, state, why?, master?}],
 * providers: {NAME: has a key}}; NULL while none is there or it has not answered the last file yet.
 * Borrowed until the loop goes on. */
const struct node *broker_keyring(const struct broker *b);
void broker_on_keyring(struct broker *b, loop_fn fn, void *arg);

/* Reads the file: the list of its entries, in a. An empty text has none. */
int sealed_parse(
	struct arena *a, struct str text, const struct node **list, struct err *e) MUST_USE;
const struct node *sealed_find(const struct node *list, struct str name); /* NULL: not there */
/* Writes the file again without one entry and with another (may be NULL). */
int sealed_write(struct buf *out, const struct node *list, struct str without,
	const struct node *with, struct err *e) MUST_USE;

struct fetch_request {
	const char *provider;        /* names base URL and credentials on the broker's side */
	struct str path;             /* appended to the base URL */
	struct str headers;          /* "name: value\n" lines without credentials */
	struct str body;             /* borrowed until the call ends */
	int64_t connect_ms, idle_ms; /* idle: no byte from the server for this long */
};
struct fetch_handler {
	/* headers: "name: value\n" lines, names in lower case */
	void (*on_head)(void *arg, int status, struct str headers);
	void (*on_data)(void *arg, struct str bytes);
	/* Exactly one of these two ends the call; the call object is released after it. */
	void (*on_end)(void *arg);
	/* ERR_NET, ERR_TIMEOUT, ERR_AUTH, ERR_DENIED, ERR_GONE, ERR_PROTO, ... */
	void (*on_fail)(void *arg, const struct err *e);
};
struct fetch;
int broker_fetch(struct broker *b, const struct fetch_request *r, const struct fetch_handler *h,
	void *arg, struct fetch **out, struct err *e) MUST_USE;
void fetch_cancel(struct fetch *f); /* no callback after it */

#endif
