/* SPDX-License-Identifier: MIT
 * What a target claims of an input; where it does not hold, the input is a find. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include <stdbool.h>
#include <stdlib.h>

static inline void
check(bool ok)
{
	if (!ok)
		abort();
}

#endif
