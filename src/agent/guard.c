/* SPDX-License-Identifier: MIT
 * The loop guard over a window of call signatures. It counts how often the end of the window
 * repeats with period one, two or three; a call whose result changes (polling a job) has another
 * signature each time and is never stopped. */
#include "agent/guard.h"

#include <string.h>

/* How many times the last `period` signatures stand at the end of the window, one behind the other.
 */
static size_t
repeats(const struct guard *g, size_t period)
{
	size_t count = 1;

	while ((count + 1) * period <= g->n &&
		memcmp(&g->seen[g->n - period], &g->seen[g->n - (count + 1) * period],
			period * sizeof g->seen[0]) == 0)
		count++;
	return count;
}

enum guard_verdict
guard_add(struct guard *g, uint64_t signature)
{
	size_t same, two, swing;

	if (g->n == GUARD_WINDOW)
		memmove(&g->seen[0], &g->seen[1], (--g->n) * sizeof g->seen[0]);
	g->seen[g->n++] = signature;
	same = repeats(g, 1);
	two = same > 1 ? 1 : repeats(g, 2);
	swing = same > 1 || two > 1 ? two : repeats(g, 3);
	g->what = same > 1  ? "the same call with the same result"
		  : two > 1 ? "the same two calls with the same results in turns"
			    : "the same three calls with the same results in turns";
	if (same >= GUARD_REPEAT_STOP || swing >= GUARD_SWING_STOP)
		return GUARD_STOP;
	if (same < GUARD_REPEAT_WARN && swing < GUARD_SWING_WARN) {
		g->has_warned = false;
		return GUARD_OK;
	}
	if (g->has_warned)
		return GUARD_OK;
	g->has_warned = true;
	return GUARD_WARN;
}
