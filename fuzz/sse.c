/* SPDX-License-Identifier: MIT
 * The reader of server-sent events: any bytes, fed whole and again in pieces whose size the first
 * byte gives. Both must give the same events and the same verdict. */
#include <stdlib.h>
#include "base/hash.h"
#include "net/sse.h"

struct seen {
	uint64_t hash;
	size_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
on_event(void *arg, const struct sse_event *ev)
{
	struct seen *s = arg;
	const struct str parts[] = { ev->event, ev->data, ev->id };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		s->hash = (s->hash ^ hash64(parts[i]) ^ parts[i].n) * 1099511628211u;
	return ++s->n == 1000 ? ERR_CANCELLED : 0;
}

static int
feed(struct str bytes, size_t piece, struct seen *seen)
{
	struct sse *s = sse_new(on_event, seen);
	struct err e;
	int rc = 0;

	for (size_t at = 0; at < bytes.n && rc == 0; at += piece)
		rc = sse_feed(s, str_sub(bytes, at, piece), &e);
	seen->hash ^= (uint64_t)sse_retry_ms(s);
	sse_free(s);
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole = { 0 }, pieces = { 0 };
	struct str bytes;

	if (size < 1)
		return 0;
	bytes = (struct str){ (const char *)data + 1, size - 1 };
	if (feed(bytes, size, &whole) != feed(bytes, data[0] % 16 + 1, &pieces) ||
		whole.n != pieces.n || whole.hash != pieces.hash)
		abort();
	return 0;
}
