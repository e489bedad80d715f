/* SPDX-License-Identifier: MIT
 * What every test of base includes: cmocka in the order it needs, and a view compared with a
 * literal. */
#ifndef TEST_BASE_H
#define TEST_BASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"

#define assert_str(s, z)                                                                           \
	do {                                                                                       \
		struct str got_ = (s), want_ = str_of(z);                                          \
		if (!str_eq(got_, want_))                                                          \
			fail_msg("got \"%.*s\", want \"%s\"", STR_FMT(got_), (z));                 \
	} while (0)

#endif
