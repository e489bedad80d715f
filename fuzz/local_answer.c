/* SPDX-License-Identifier: MIT
 * Answers of a container engine. What is complete stays complete when the connection ends. */
#include <stdint.h>
#include <stdlib.h>
#include "base/limits.h"
#include "net/local.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str in = { (const char *)data, n };
	struct buf open, ended;
	struct err e;
	int a = 0, b = 0;

	buf_init(&open, 64 * KIB);
	buf_init(&ended, 64 * KIB);
	int rc = local_answer_parse(in, false, &a, &open, &e);
	int rc2 = local_answer_parse(in, true, &b, &ended, &e);
	if (rc2 == 0 || (rc == 1 && (rc2 != 1 || a != b || !str_eq(buf_str(&open), buf_str(&ended)))) || (rc < 0 && rc2 > 0))
		abort();
	buf_fini(&open);
	buf_fini(&ended);
	return 0;
}
