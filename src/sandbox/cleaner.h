/* SPDX-License-Identifier: MIT
 * The process that removes what a killed shelld leaves, or a runner whose shelld is not on the host: see cleaner.c. */
#ifndef SANDBOX_CLEANER_H
#define SANDBOX_CLEANER_H

#include "base/str.h"
#include "loop/loop.h"

#define CLEANER_FD 3 /* ends with who started it */

/* What it is told; all is copied. */
struct cleaner_order {
	const char *program; /* ithaca-guest */
	const char *dir;
	struct str lock; /* of the home; "": files are not its business */
	/* Of what may be left in dir: the first is a socket that shows whether somebody serves the home. One with a slash at its end is
	 * a directory, all in which is removed; it stays. */
	const struct str *names;
	size_t names_n;
	/* Not 0: others may live on for about as long, who are known by a path below dir in their command line; they come to their
	 * end first. */
	int64_t wait_ms;
};
/* Starts it, and again when it ends before us. */
struct cleaner;
struct cleaner *cleaner_start(struct loop *l, const struct cleaner_order *o);
void cleaner_dismiss(struct cleaner *c); /* nothing will be left: it ends, c is taken; NULL is fine */
int cleaner_main(void); /* ithaca-guest --clean */

#endif
