/* SPDX-License-Identifier: MIT
 * The message codec: any bytes between any two roles. Whatever is accepted obeys the table and the
 * maxima, and is accepted again with the same meaning after it was written by our own encoder. */
#include <stdlib.h>
#include "base/limits.h"
#include "loop/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok, const char *what)
{
	if (!ok)
		fatal("fuzz wire: %s", what);
}

/* Writes the frame anew and reads it back. */
static void
round_trip(const struct wire_frame *f, enum role from, enum role to)
{
	struct arena *a = arena_new(WIRE_NODES_MAX);
	struct buf b;
	struct json j;
	struct wire_frame again;

	buf_init(&b, 16 * MIB);
	size_t start = wire_put_begin(&b, &j, f->m.kind, f->m.id);
	json_kv_node(&j, "head", f->m.head);
	if (wire_put_end(&b, &j, start, f->m.kind, f->m.tail, f->has_fd, NULL) == 0) {
		ptrdiff_t n = wire_parse(buf_str(&b), from, to, a, &again, NULL);
		/* One level deeper the head may pass the depth that is allowed. */
		if (n > 0) {
			check((size_t)n == b.n, "length");
			check(again.m.kind == f->m.kind && again.m.id == f->m.id, "kind and id");
			check(again.has_fd == f->has_fd, "descriptor");
			check(str_eq(again.m.tail, f->m.tail), "tail");
			check(node_equal(node_get(again.m.head, "head"), f->m.head), "head");
		}
	}
	buf_fini(&b);
	arena_free(a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	enum role from = data[0] % ROLE_COUNT, to = data[0] / ROLE_COUNT % ROLE_COUNT;
	/* an exact copy, so that reading one byte too far is seen */
	char *bytes = malloc(size);
	struct str in = { bytes, size - 1 };
	struct arena *a = arena_new(WIRE_NODES_MAX);
	struct wire_frame f;
	struct err e = { 0 };

	memcpy(bytes, data + 1, size - 1);
	for (;;) {
		ptrdiff_t n = wire_parse(in, from, to, a, &f, &e);
		check(n >= 0 || e.msg[0] != '\0', "an error without a reason");
		if (n <= 0)
			break;
		check((size_t)n <= in.n, "longer than the input");
		check(wire_may_send(from, to, f.m.kind), "an edge that is not in the table");
		check(f.m.tail.n <= WIRE_TAIL_MAX, "tail");
		round_trip(&f, from, to);
		arena_reset(a);
		in = str_sub(in, (size_t)n, in.n);
	}
	arena_free(a);
	free(bytes);
	return 0;
}
