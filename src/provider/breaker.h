/* SPDX-License-Identifier: MIT
 * A circuit breaker: when a server fails several times in a row, nobody calls it for a while; then
 * one call probes it, and decides for all. Pure: the clock is given.
 *
 *   closed --BREAKER_FAILURES failures within BREAKER_WINDOW_MS--> open
 *   open --its time is over, somebody asks--> half_open (that call is the probe)
 *   half_open --the probe fails--> open, twice as long
 *   half_open --the probe says nothing about the server--> open, the next call probes
 *   any --an answer--> closed */
#ifndef PROVIDER_BREAKER_H
#define PROVIDER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES    5
#define BREAKER_WINDOW_MS   60000
#define BREAKER_COOL_MS     10000
#define BREAKER_COOL_MAX_MS 300000
#define BREAKER_LOOK_MS     1000 /* how soon to ask again while somebody else probes */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
const char *breaker_state_name(enum breaker_state s); /* closed open half_open */

/* All zero: closed. */
struct breaker {
	enum breaker_state state;
	int64_t failed_ms[BREAKER_FAILURES]; /* of the failures in a row, newest last */
	int failures;
	int64_t until_ms, cool_ms; /* while it is open */
};

enum breaker_pass { BREAKER_REFUSES, BREAKER_ADMITS, BREAKER_PROBES };
/* Asks for one call; every call that is let through must be reported. wait_ms: when to ask again.
 */
enum breaker_pass breaker_ask(struct breaker *b, int64_t now_ms, int64_t *wait_ms);

enum breaker_outcome { BREAKER_OK, BREAKER_FAILED, BREAKER_NEITHER };
/* NEITHER: cancelled, or an error that says nothing about the server. True: the state has changed.
 */
bool breaker_report(struct breaker *b, enum breaker_pass pass, enum breaker_outcome o, int64_t now_ms);

struct failure;
/* What an error says about its server. */
enum breaker_outcome breaker_outcome(const struct failure *f);

#endif
