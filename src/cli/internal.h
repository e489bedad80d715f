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
	int64_t wait_ms; /* for the answer to a call; 0: as long as it takes */
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
int cmd_blob_get(struct cli *c, struct err *e);
int cmd_doctor_tiers(struct cli *c, const char *which, struct err *e);
int cmd_image_build(struct cli *c, struct err *e);
int cmd_image_list(struct cli *c, struct err *e);
int cmd_image_remove(struct cli *c, struct err *e);
int cmd_approve(struct cli *c, struct err *e);
int cmd_deny(struct cli *c, struct err *e);
int cmd_start(struct cli *c, struct err *e);
int cmd_stop(struct cli *c, struct err *e);
int cmd_restart(struct cli *c, struct err *e);
int cmd_status(struct cli *c, struct err *e);
int cmd_logs(struct cli *c, struct err *e);
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
int out_take(struct buf *b, struct err *e); /* as out_text; b is freed */
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
int help_print(struct cli *c, const struct command *cmd, struct err *e); /* NULL: of all */
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
/* Whether somebody stopped the runner that we were connected to: then who waits does not start another. Sets e. */
bool was_stopped(const struct cli *c, struct err *e);
/* Compares the note of a private runner with what would start one now: NULL when there is no note or they are the
 * same, else what differs. *noted (may be NULL): there is a note. */
const char *settings_differ(const struct cli *c, struct arena *a, bool *noted);

/* Whom a runner serves: commands of the moment, a home for good, or the terminal that it was started from. */
enum runner_kind { RUNNER_PRIVATE, RUNNER_DAEMON, RUNNER_FOREGROUND };
const char *find_ithacad(struct arena *a, struct err *e);
char *const *runner_argv(const struct cli *c, struct arena *a, enum runner_kind kind, const char *path);
char **runner_env(const struct cli *c, struct arena *a);
/* 0: started and ready. ERR_BUSY with e not set: another process holds the lock. */
int runner_start(const struct cli *c, struct arena *a, enum runner_kind kind, struct err *e) MUST_USE;
/* Asks the private runner behind fd (rpc.sock; taken) to end as soon as it is idle. */
void runner_ask_to_end(const struct cli *c, int fd);

/* The next frame from a runner; in is kept between calls and holds what out points into. ERR_TIMEOUT, ERR_GONE. */
#define CONTROL_FRAME_MAX (2 * WIRE_HEAD_MAX + 64u)
int frame_read(int fd, int64_t until_ms, struct buf *in, struct arena *a, struct wire_frame *out, struct err *e) MUST_USE;
/* One call over run/control.sock, which the runner answers by itself. about: the role of restart, "silent" for
 * the status of a runtime that does not answer, or NULL. Waits for at most
 * wait_ms. *result is in c->a. ERR_NOT_FOUND: no runner listens. */
int control_call(const struct cli *c, const char *method, const char *about, int64_t wait_ms, const struct node **result,
	struct err *e) MUST_USE;

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
/* blob.get: its bytes as they come, then fn, once. */
typedef void (*client_bytes_fn)(void *arg, struct str bytes);
void client_get(struct client *k, const char *blob, client_bytes_fn on_bytes, client_answer_fn fn, void *arg);

/* Connects (starting a runner where needed), calls, waits, closes. *result is in c->a. */
int call_once(struct cli *c, enum api_method m, struct str params, enum connect how,
	const struct node **result, struct err *e) MUST_USE;
/* A runtime that was there already cannot take on what -e, --config or --tier say: an error unless it agrees. */
int runtime_agrees(struct cli *c, const struct node *status, struct err *e) MUST_USE;

#endif
