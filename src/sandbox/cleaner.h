/* SPDX-License-Identifier: MIT
 * The process that removes what a killed shelld leaves: see cleaner.c. */
#ifndef SANDBOX_CLEANER_H
#define SANDBOX_CLEANER_H

#include "sandbox/internal.h"

/* Before there is a thread. The descriptor that it waits on, to be held as long as shelld lives; -1: there is none, which
 * was logged. argv: of the process, whose words it writes over. */
int cleaner_start(int argc, char **argv);
/* In this order: the directory, the lock of the home ("": files are not its business), names in the directory. */
void cleaner_tell(int fd, struct str name); /* -1 is fine */
void cleaner_dismiss(int fd); /* nothing will be left */

#endif
