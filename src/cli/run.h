/* SPDX-License-Identifier: MIT
 * `ithaca run`: submits a message (or continues), follows the turn through broken links, shows it, and ends with its
 * status. The parts are here so that tests can drive them against a runtime of their own. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "base/id.h"
#include "cli/attach.h"
#include "cli/ask.h"
#include "cli/internal.h"
#include "cli/live.h"

enum run_output {
	OUTPUT_LIVE, /* standard output is a terminal: everything goes there */
	OUTPUT_PLAIN, /* the answer to standard output, progress to standard error */
	OUTPUT_JSON, /* one object */
	OUTPUT_STREAM, /* one event per line */
};

struct run {
	/* Set by the caller. */
	struct cli *cli;
	enum run_output output;
	int out_fd, err_fd;
	bool may_ask;
	enum api_method method; /* session.turn or session.continue */
	struct buf params; /* its parameters as JSON */
	char turn[ID_SIZE]; /* id that the parameters of session.turn carry */
	bool is_new_session;
	struct attached *files; /* that the message names; owned */
	size_t files_n;

	size_t files_sent; /* they are there, also after the link broke */
	struct loop *loop; /* NULL: run_turn makes one */
	struct client *client; /* NULL between two links */
	struct fold fold;
	struct live live;
	struct buf screen; /* what the live view drew and nobody wrote yet */
	uint64_t sub;
	int64_t after;
	bool is_sent; /* the message may have reached the runtime */
	bool is_accepted; /* its answer came: session and turn are known */
	bool is_caught_up;
	bool is_private; /* the runtime is ours: it may be started again */
	bool wants_cancel, is_cancel_sent;
	int links; /* tried since something last came over one */
	int64_t down_since_ms;
	bool is_over;
	struct timer *tick, *retry;
	struct signal_watch *sigint, *sigterm;
	struct ask *ask;
	char asked[FOLD_ID_MAX]; /* approval that the question is about */
};

void run_init(struct run *r, struct cli *c, enum run_output output, struct live_style style);
void run_fini(struct run *r);
/* Runs until the turn has ended or cannot be followed; gives the exit status. */
int run_turn(struct run *r);
/* Ends before it began: prints what run_turn would print on this error. */
int run_refuse(struct run *r, const struct err *e);

#endif
