/* SPDX-License-Identifier: MIT
 * The circuit breaker of a provider: states and times, no I/O and no clock. Invariant: while it is
 * half open exactly one call is the probe, and its report leaves that state. */
#include "provider/breaker.h"

#include <string.h>
#include "provider/provider.h"

static const char *const state_names[] = { "closed", "open", "half_open" };

const char *
breaker_state_name(enum breaker_state s)
{
	return state_names[s];
}

enum breaker_pass
breaker_ask(struct breaker *b, int64_t now_ms, int64_t *wait_ms)
{
	*wait_ms = 0;
	switch (b->state) {
	case BREAKER_OPEN:
		if (now_ms >= b->until_ms) {
			b->state = BREAKER_HALF_OPEN;
			return BREAKER_PROBES;
		}
		*wait_ms = b->until_ms - now_ms;
		return BREAKER_REFUSES;
	case BREAKER_HALF_OPEN:
		*wait_ms = BREAKER_LOOK_MS;
		return BREAKER_REFUSES;
	default:
		return BREAKER_ADMITS;
	}
}

/* Whether that was the last one of as many as it takes, near enough to each other. */
static bool
count_failure(struct breaker *b, int64_t now_ms)
{
	if (b->failures == BREAKER_FAILURES) {
		memmove(b->failed_ms, b->failed_ms + 1,
			(BREAKER_FAILURES - 1) * sizeof(b->failed_ms[0]));
		b->failures--;
	}
	b->failed_ms[b->failures++] = now_ms;
	return b->failures == BREAKER_FAILURES && now_ms - b->failed_ms[0] <= BREAKER_WINDOW_MS;
}

static void
open_for(struct breaker *b, int64_t cool_ms, int64_t now_ms)
{
	b->state = BREAKER_OPEN;
	b->cool_ms = MIN(cool_ms, BREAKER_COOL_MAX_MS);
	b->until_ms = now_ms + b->cool_ms;
}

bool
breaker_report(struct breaker *b, enum breaker_pass pass, enum breaker_outcome o, int64_t now_ms)
{
	enum breaker_state before = b->state;

	if (o == BREAKER_OK)
		*b = (struct breaker){ 0 };
	else if (pass == BREAKER_PROBES && b->state == BREAKER_HALF_OPEN && o == BREAKER_FAILED)
		open_for(b, 2 * b->cool_ms, now_ms);
	else if (pass == BREAKER_PROBES && b->state == BREAKER_HALF_OPEN) {
		b->state = BREAKER_OPEN;
		b->until_ms = now_ms;
	} else if (b->state == BREAKER_CLOSED && o == BREAKER_FAILED && count_failure(b, now_ms))
		open_for(b, BREAKER_COOL_MS, now_ms);
	return b->state != before;
}

enum breaker_outcome
breaker_outcome(const struct failure *f)
{
	switch (f->kind) {
	case FAIL_NETWORK:
	case FAIL_OVERLOAD:
		return BREAKER_FAILED;
	case FAIL_RATE: /* a server that says how long to wait is well */
		return f->after_ms < 0 ? BREAKER_FAILED : BREAKER_NEITHER;
	case FAIL_PROTOCOL:
		return BREAKER_NEITHER;
	default: /* it has looked at the request, and refused it */
		return BREAKER_OK;
	}
}
