/* SPDX-License-Identifier: MIT
 * The first frame of a link into a container or a machine. */
#include <stdint.h>
#include <stdlib.h>
#include "base/limits.h"
#include "sandbox/door.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena *a = arena_new(MIB);
	struct door_hello h;
	struct err e;
	ptrdiff_t rc = door_hello_parse((struct str){ (const char *)data, n }, a, &h, &e);

	if (rc > (ptrdiff_t)n || (rc > 0 && (!door_token_valid(h.token) || !door_token_valid(h.nonce))) ||
		(rc == 0 && n >= DOOR_FRAME_MAX))
		abort();
	arena_free(a);
	return 0;
}
