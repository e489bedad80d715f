/* SPDX-License-Identifier: MIT
 * Asks a person at the terminal for one key, without blocking the loop. The terminal is restored when the question is
 * answered or dropped. */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <stdbool.h>
#include "loop/loop.h"

struct ask;
typedef void (*ask_fn)(void *arg, char key);

/* Whether there is a person: standard error is a terminal, and so is standard input or the controlling terminal. */
bool ask_possible(void);
/* fn gets each key that is one of keys (lower case). NULL when the terminal cannot be had. */
struct ask *ask_open(struct loop *l, const char *keys, ask_fn fn, void *arg);
void ask_close(struct ask *q); /* safe inside fn; NULL is fine */

#endif
