/* SPDX-License-Identifier: MIT
 * Packets between shelld, the zygote and cell inits, the frame of a file operation's answer, and cell plans. The first
 * byte chooses. An order that is taken must come out of the encoder as it went in. */
#include <stdlib.h>
#include "sandbox/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_order(struct str in)
{
	struct order o;
	struct buf b;
	if (order_parse(in, &o) != 0)
		return;
	buf_init(&b, ORDER_MAX);
	for (size_t i = 0; i < ORDER_TEXTS; i++) {
		if (o.text[i].p[o.text[i].n] != '\0')
			abort();
	}
	if (order_encode(&o, &b) != 0 || !str_eq(buf_str(&b), in))
		abort();
	buf_fini(&b);
}

static void
try_answer(struct str in)
{
	struct file_answer a;
	struct str head, tail;
	if (file_answer_parse(in, &a, &head, &tail) == 1 && sizeof(a) + head.n + tail.n != in.n)
		abort();
}

static void
try_plan(struct str in)
{
	struct arena *a = arena_new(4 * MIB);
	const struct node *n;
	struct cell_plan p;
	struct exec_status st;
	struct err e;
	if (json_parse(a, in, &n, &e) == 0) {
		if (plan_read(n, &p, &e) == 0 && (p.shared[0] != '/' || p.state[0] != '/'))
			abort();
		(void)!exec_status_read(n, &st);
	}
	arena_free(a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of its own, so that a read past the end is seen. */
	char *copy = malloc(size + 1);
	if (size > 0 && copy != NULL) {
		memcpy(copy, data + 1, size - 1);
		struct str in = { copy, size - 1 };
		switch (data[0] % 3) {
		case 0:
			try_order(in);
			break;
		case 1:
			try_answer(in);
			break;
		default:
			try_plan(in);
		}
	}
	free(copy);
	return 0;
}
