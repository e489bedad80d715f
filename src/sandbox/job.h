/* SPDX-License-Identifier: MIT
 * A command as shelld keeps it, shared by job.c (its life), job_ask.c (requests about it), job_output.c (what it writes
 * and who sees that) and shell.c (those that run in a persistent shell). */
#ifndef SANDBOX_JOB_H
#define SANDBOX_JOB_H

#include "sandbox/shelld.h"

#define OUTPUT_CHANNEL 1
#define ERROR_CHANNEL  2

/* Bytes of one channel, in the order in which they arrived. */
struct run {
	int ch;
	int64_t n;
};

struct pipe_end {
	struct job *j;
	int ch, fd;
	struct watch *watch;
	bool is_paused; /* of a live one: its watcher takes no more until it gives credit */
	int64_t left; /* of a command that ended: that may still be read */
};

struct job {
	struct shelld *d;
	struct job *next;
	struct cell *cell; /* NULL once it ended */
	char effect[CELL_KEY_MAX + 1];
	char run[CELL_KEY_MAX + 1];
	enum { JOB_STARTING, JOB_RUNNING, JOB_ENDED } state;
	bool is_sure; /* an init reported its end, or that it never began */
	bool is_live; /* output goes to its watcher or nowhere */
	bool has_terminal; /* out[0] and in are two descriptors of our end of it */
	struct shell *shell; /* that runs it; NULL: it has an init of its own */
	bool asked_end; /* its init was told to end everything */
	struct exec_status st;
	struct err fail; /* it did not begin */
	int64_t output_max, began_at_ms;
	int control, pidfd, spool_fd;
	struct watch *control_watch, *pidfd_watch;
	struct pipe_end out[2];
	struct timer *timeout;
	struct run *runs;
	size_t runs_n, runs_cap;
	/* standard input */
	int in;
	struct watch *in_watch;
	struct buf input;
	bool input_ended;
	/* who watches */
	struct stream *stream;
	uint64_t id;
	bool awaits_begin; /* of a background job: is told that it began, and no more */
	int64_t sent;
	size_t run_at;
	int64_t run_sent;
	struct waiter *killed; /* KILL requests that wait for the end */
};

/* ---- job.c ---- */

void job_finish(struct job *j); /* its status is set; may free it */
int exec_order(int pidfd, int number); /* of an exec init: a signal for its command; 0: the end. 0 or -1 */
struct job *job_find(struct shelld *d, struct str effect);
void job_free(struct job *j);
void job_kill_tree(struct job *j); /* its status follows */

/* ---- job_output.c ---- */

void job_keep(struct job *j, int ch, const char *p, size_t n); /* output: for the spool */
void job_pipe_watch(struct pipe_end *x);
void job_pipe_close(struct pipe_end *x);
void job_drain(struct job *j); /* at its end: what is left in the pipes. Closes them, but not those of a live one */
void job_pump(struct job *j); /* shows what its watcher has credit for; may free j */
void job_attach(struct job *j, uint64_t id, bool is_background);
void job_tell_begun(struct job *j);
/* An answer to an EXEC for which there is no job. */
void job_answer(struct shelld *d, uint64_t id, const struct exec_status *st, const struct err *e);

/* ---- shell.c ---- */

int shell_ready(struct cell *c, struct str name, struct err *e) MUST_USE; /* may shell_run be called? */
/* Runs a command in the shell of j's cell with that name, which is started if there is none. */
int shell_run(struct job *j, struct str name, struct str command, struct str env, const char *cwd, bool has_cwd,
	struct err *e) MUST_USE;
void shell_interrupt(struct shell *s); /* its command, which ends within a few seconds, if need be with the shell */
void shell_kill(struct shell *s);
int shell_pidfd(const struct shell *s); /* -1: it has not begun */

#endif
