/* SPDX-License-Identifier: MIT
 * One line of a log file: a record of base/log, as logfmt or JSON. */
#ifndef CLI_LOGLINE_H
#define CLI_LOGLINE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/node.h"

struct logline {
	struct str time, role, stream, msg; /* stream is empty for what a role logged itself */
	enum log_level level;
	const struct node *fields; /* all of them, in order; numbers are numbers */
};
/* Everything is in a or borrowed from text. 0, or -1 when it is no record. */
int logline_parse(struct str text, struct arena *a, struct logline *out) MUST_USE;
/* "TIME LEVEL ROLE MESSAGE key=value ...", fit for a terminal, with a newline. */
void logline_print(const struct logline *l, struct buf *out);

#endif
