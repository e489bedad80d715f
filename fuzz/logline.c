/* SPDX-License-Identifier: MIT
 * One line of a log file, as `ithaca logs` reads it: what is printed of it is one line, and holds nothing that steers a
 * terminal. */
#include <stdlib.h>
#include "base/limits.h"
#include "cli/logline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	struct arena *a = arena_new(16 * MIB);
	struct logline l;

	if (logline_parse(text, a, &l) == 0) {
		struct buf out;

		buf_init(&out, 4 * MIB);
		logline_print(&l, &out);
		for (size_t i = 0; i + 1 < out.n; i++)
			if ((unsigned char)out.p[i] < ' ' || out.p[i] == 0x7f)
				abort();
		if (out.n == 0 || out.p[out.n - 1] != '\n')
			abort();
		buf_fini(&out);
	}
	arena_free(a);
	return 0;
}
