/* SPDX-License-Identifier: MIT
 * The process that removes what a killed shelld leaves: see cleaner.c. */
#ifndef SANDBOX_CLEANER_H
#define SANDBOX_CLEANER_H

#include "loop/loop.h"
#include "sandbox/internal.h"

#define CLEANER_FD 3 /* ends with shelld */

/* Starts it, and again when it ends before us. lock: of the home, "": files are not its business; names: of what may be left
 * in dir, the first of which shows whether somebody serves the home. All are copied. */
struct cleaner;
struct cleaner *cleaner_start(struct loop *l, const char *dir, struct str lock, const struct node *names);
void cleaner_dismiss(struct cleaner *c); /* nothing will be left; NULL is fine */
int cleaner_main(void); /* ithaca-guest --clean */

#endif
