/* SPDX-License-Identifier: MIT
 * The loop guard: sees the calls of a turn with their results, and tells when the model spins: the
 * same call with the same result again and again, or two or three calls in turns. Pure. */
#ifndef AGENT_GUARD_H
#define AGENT_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_WINDOW      16
#define GUARD_REPEAT_WARN 3 /* same call, same result */
#define GUARD_REPEAT_STOP 5
#define GUARD_SWING_WARN  3 /* pairs A B A B A B, or A B C three times */
#define GUARD_SWING_STOP  5

enum guard_verdict { GUARD_OK, GUARD_WARN, GUARD_STOP };

struct guard {
	uint64_t seen[GUARD_WINDOW]; /* newest last */
	size_t n;
	bool has_warned;  /* of the run of repetitions that is going on */
	const char *what; /* static text of the last finding */
};

/* signature: a hash over tool, arguments and result. */
enum guard_verdict guard_add(struct guard *g, uint64_t signature);

#endif
