/* SPDX-License-Identifier: MIT
 * The escape suite: ways out of a cell, each tried once by `ithaca-guest --attempt NAME` in a harmless form. It opens but does
 * not write where writing would hurt, undoes what worked, and acts only on what whoever asks set up (names and numbers in DECOY_*
 * variables) or on itself. doctor runs it in a cell, where each must be denied (check.c); tests/escape also outside, where each
 * must work, so that a denial means a wall. */
#ifndef SANDBOX_ATTEMPT_H
#define SANDBOX_ATTEMPT_H

#include <sys/types.h>

/* Exit status; the reason is on standard output. SKIPPED: it cannot be tried here. */
enum { ATTEMPT_WORKED = 0, ATTEMPT_DENIED = 10, ATTEMPT_SKIPPED = 20 };

struct attempt {
	const char *wall; /* the promise of a cell that denies it, a row of check.c; NULL: a part of another attempt */
	const char *name;
	int (*fn)(void);
	long (*setid)(const char *name, mode_t mode); /* instead of fn: makes a file of that name with bits that lend a user */
};
/* Each ends with a row without a name. */
extern const struct attempt attempts_file[], attempts_process[], attempts_network[], attempts_kernel[];

/* `--attempt NAME`; `--attempts`: all but those of the wall "limits", each in a child, with a line "NAME STATUS" for each. */
int attempt_main(int argc, char **argv);
/* The next row after at (NULL: the first); NULL: there is none. */
const struct attempt *attempt_next(const struct attempt *at);

/* For the attempts: a result below zero is a denial by errno. */
int attempt_verdict(long r);
int attempt_skip(const char *why);
/* Never below zero: without a child the attempt is skipped, because -1 as a process is all of them. */
pid_t attempt_fork(void);
int attempt_setid(long (*by)(const char *name, mode_t mode));
/* What a variable says; where it is not set the attempt is skipped. */
const char *attempt_decoy(const char *name);
int attempt_decoy_number(const char *name);

#endif
