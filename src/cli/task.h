/* SPDX-License-Identifier: MIT
 * Puts together the text of a task from operands and standard input. */
#ifndef CLI_TASK_H
#define CLI_TASK_H

#include "base/buf.h"
#include "base/node.h"

struct task {
	struct str text; /* what was typed; may be empty */
	int stdin_fd; /* -1: do not look at it */
	bool is_stdin_task; /* `-`: standard input is the task itself */
};

/* The whole message into out (born with more than USER_TEXT_MAX). Blocks while standard input is read. */
int task_text(const struct task *t, struct buf *out, struct err *e) MUST_USE;
/* Reads fd to its end when something is piped into it: a pipe, a file, or a socket that speaks. is_task: always. */
int task_stdin(int fd, bool is_task, struct buf *out, struct err *e) MUST_USE;

#endif
