/* SPDX-License-Identifier: MIT
 * A real ithaca-guest for programs that measure it: this process is its runner and its runtime, on
 * one loop. A failure ends the program, with the reason. */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include "sandbox/sandbox.h"
#include "sandbox/tier.h"

struct guest {
	struct loop *l;
	struct sandbox *sb;
	struct cell_plan plan; /* of cells, with a workspace; a key needs a state of its own */
	const char *dir;       /* everything is in it; borrowed */
	pid_t pid;             /* of shelld; 0: it is in a tier */
	/* of guest.c */
	struct wire *runner;
	struct child *child;
	struct tier_run tier;
	bool is_ready, is_stopping;
};

/* tier NULL: as a child. dir exists and is empty. */
void guest_open(struct guest *g, const char *program, const char *dir, const char *tier);
void guest_close(struct guest *g);
/* Runs the loop until a callback stops it. */
void guest_wait(struct guest *g);
/* The plan of another cell: its state is the directory of that name. The strings stay. */
struct cell_plan guest_plan(const struct guest *g, const char *name);

#endif
