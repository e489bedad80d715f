/* SPDX-License-Identifier: MIT
 * Clocks. Wall time is UTC milliseconds since 1970; monotonic time only measures spans. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);

#define CLOCK_TEXT_SIZE 25
/* "2026-11-21T02:04:05.678Z" into out; returns out. */
const char *clock_text(int64_t wall_ms, char out[CLOCK_TEXT_SIZE]);

#endif
