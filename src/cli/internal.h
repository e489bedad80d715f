/* SPDX-License-Identifier: MIT
 * One invocation of `ithaca`: what the command line said, the link to a runtime, and the command table. */
#ifndef CLI_INTERNAL_H
#define CLI_INTERNAL_H

#include "api/api.h"
#include "base/arena.h"
#include "base/buf.h"
#include "loop/wire.h"

struct client;

/* What the command line said. Lives as long as the process. */
struct cli {
	struct arena *a;
	const char *home; /* absolute */
	const char *config; /* absolute; NULL: the home's */
	const char *tier; /* NULL: as configured */
	char *const *env; /* NULL-terminated NAME=VALUE additions for a runner that is started; may be empty */
	size_t env_n;
	bool verbose, json;
	const struct command *command;
	const struct node *options; /* of the command, checked, defaults filled in */
};

/* ---- the command table ---- */

enum {
	CMD_HIDDEN = 1 << 0,
	CMD_LOCAL = 1 << 1, /* needs no home and no runtime */
	CMD_FRESH = 1 << 2, /* answers from the settings: never asks a runner that was started from others */
};

struct column {
	const char *key, *title;
	enum column_form { COLUMN_TEXT, COLUMN_TIME, COLUMN_MONEY, COLUMN_VALUE, COLUMN_NUMBER } form;
};

struct command {
	const char *words; /* "session list" */
	const char *text; /* one sentence */
	const struct field *options;
	/* Gives the exit status, or an error code with e set: main reports it. */
	int (*run)(struct cli *c, struct err *e);
	/* For cmd_call: the method, its options are its parameters. */
	enum api_method method;
	const char *list; /* key of the list in the result; NULL: the result itself is one row */
	const struct column *columns; /* ends with key NULL */
	void (*print)(const struct node *result, struct buf *out); /* instead of columns */
	const char *done; /* printed on success when the result has nothing to show */
	unsigned flags;
	const char *more; /* further paragraphs for help and man page; may be NULL */
};

extern const struct command commands[]; /* ends with words NULL */
extern const struct field global_options[];

/* The row whose words start argv; *used tells how many words that were. NULL with an error naming the nearest. */
const struct command *command_find(char *const *argv, size_t argc, size_t *used, struct err *e);
/* Global and own options in one table, in the arena. */
const struct field *command_fields(struct arena *a, const struct command *cmd);

/* ---- commands with code of their own ---- */

int cmd_run(struct cli *c, struct err *e);
/* `run --json` whose command line is wrong: still prints its object. Gives the exit status, and e is said. */
int cmd_run_refuse(struct cli *c, struct err *e);
int cmd_call(struct cli *c, struct err *e);
int cmd_events(struct cli *c, struct err *e);
int cmd_approve(struct cli *c, struct err *e);
int cmd_deny(struct cli *c, struct err *e);
int cmd_status(struct cli *c, struct err *e);
int cmd_doctor(struct cli *c, struct err *e);
int cmd_secret_set(struct cli *c, struct err *e);
int cmd_catalog_fetch(struct cli *c, struct err *e);
int cmd_catalog_verify(struct cli *c, struct err *e);
int cmd_version(struct cli *c, struct err *e);
int cmd_completion(struct cli *c, struct err *e);
int cmd_docs(struct cli *c, struct err *e);
int cmd_help(struct cli *c, struct err *e);

void print_context(const struct node *result, struct buf *out);

/* ---- printing ---- */

/* Writes all of b to fd and empties it. ERR_IO when the reader is gone. */
int out_flush(int fd, struct buf *b, struct err *e);
/* Exit status 0, or an error when standard output could not be written. */
int out_text(struct str text, struct err *e);
int out_node(const struct node *n, bool is_json, struct err *e);
void print_table(const struct node *list, const struct column *columns, struct buf *out);
void print_row(const struct node *row, const struct column *columns, struct buf *out);
/* cmd_catalog.c */
void print_models(const struct node *result, struct buf *out);
void print_fetched(const struct node *result, struct buf *out);
void print_model_names(const struct node *result, struct buf *out);
/* "ithaca: what (fix)" on standard error. */
void report(const struct err *e);

/* ---- help and documents ---- */

void help_all(struct buf *b);
void help_command(struct arena *a, const struct command *cmd, struct buf *b);
void docs_man(struct arena *a, struct buf *b);
void docs_markdown(struct arena *a, struct buf *b);
int docs_completion(struct arena *a, struct str shell, struct buf *b, struct err *e);

/* ---- the runtime ---- */

enum connect {
	CONNECT_ONLY, /* ERR_GONE when none runs */
	CONNECT_START, /* starts a private runner when none runs */
	CONNECT_FRESH, /* and replaces a private one that was started from other settings; ERR_BUSY while it works */
};
/* Connects to the runtime of the home and waits until it serves. Blocks for at most START_WAIT_MS. Gives a descriptor, or
 * an error code. *ours (may be NULL) tells that it is a private one started from our settings, by this call or before. */
int runtime_connect(const struct cli *c, enum connect how, bool *ours, struct err *e) MUST_USE;
/* Compares the note of a private runner with what would start one now: NULL when there is no note or they are the
 * same, else what differs. *noted (may be NULL): there is a note. */
const char *settings_differ(const struct cli *c, struct arena *a, bool *noted);

/* Answers to calls: exactly one of result and error is set; both are borrowed. */
typedef void (*client_answer_fn)(void *arg, const struct node *result, const struct err *e);
struct client_handler {
	/* One event of the subscription `sub`; an empty envelope: the replay has reached the present. */
	void (*on_event)(void *arg, uint64_t sub, struct str envelope);
	/* The subscription is over: no more events come. */
	void (*on_failed)(void *arg, uint64_t sub, const struct err *e);
	/* The link broke; calls in flight were answered with ERR_GONE before. The handler closes the
	 * client. */
	void (*on_gone)(void *arg, const struct err *e);
};
struct client *client_new(struct loop *l, int fd, const struct client_handler *h, void *arg); /* takes fd; h may be NULL */
void client_close(struct client *k); /* NULL is fine */
void client_call(struct client *k, enum api_method m, struct str params, client_answer_fn fn, void *arg);
/* blob.put with these bytes behind it; they are borrowed until the answer. */
void client_put(struct client *k, struct str bytes, client_answer_fn fn, void *arg);

/* Connects (starting a runner where needed), calls, waits, closes. *result is in c->a. */
int call_once(struct cli *c, enum api_method m, struct str params, enum connect how,
	const struct node **result, struct err *e) MUST_USE;
/* A runtime that was there already cannot take on what -e, --config or --tier say: an error unless it agrees. */
int runtime_agrees(struct cli *c, const struct node *status, struct err *e) MUST_USE;

#endif
