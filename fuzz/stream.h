/* SPDX-License-Identifier: MIT
 * What the fuzz targets of the model APIs share: any bytes as the body of an answer, fed whole and
 * in pieces whose size the first byte gives; the answers must be equal, and every call must come
 * out complete. */
#ifndef FUZZ_STREAM_H
#define FUZZ_STREAM_H

#include <stdlib.h>
#include "base/hash.h"
#include "provider/provider.h"

static inline void
fuzz_delta(void *arg, enum delta_type type, struct str text)
{
	*(uint64_t *)arg = (*(uint64_t *)arg ^ hash64(text) ^ type) * 1099511628211u;
}

static inline void
fuzz_answer(uint64_t *h, const struct model_answer *a)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct part *p = &a->parts[i];

		if (p->type == PART_RESULT ||
			(p->type == PART_CALL && (!p->tool.n || !p->args.n || !p->call_id.n)))
			abort();
		*h = (*h ^ hash64(p->text) ^ hash64(p->args) ^ hash64(p->tool) ^
			     hash64(p->signature) ^ hash64(p->item_id) ^ p->type) *
		     1099511628211u;
	}
	*h ^= (uint64_t)(a->usage.input_tokens ^ a->usage.output_tokens) ^ a->stop;
}

static inline int
fuzz_feed(const struct provider_api *api, struct str bytes, size_t piece, uint64_t *h)
{
	struct parser *p = parser_new(api, fuzz_delta, h);
	const struct model_answer *a = NULL;
	struct err e;
	int rc = 0;

	for (size_t at = 0; at < bytes.n && rc == 0; at += piece)
		rc = parser_feed(p, str_sub(bytes, at, piece), &e);
	if (rc == 0)
		rc = parser_end(p, &a, &e);
	if (rc == 0)
		fuzz_answer(h, a);
	parser_free(p);
	return rc;
}

static inline int
fuzz_stream(const char *name, const uint8_t *data, size_t size)
{
	const struct provider_api *api = provider_api_find(str_of(name));
	uint64_t whole = 0, pieces = 0;
	struct str bytes;

	if (size < 1)
		return 0;
	bytes = (struct str){ (const char *)data + 1, size - 1 };
	if (fuzz_feed(api, bytes, size, &whole) !=
			fuzz_feed(api, bytes, data[0] % 32 + 1, &pieces) ||
		whole != pieces)
		abort();
	return 0;
}

#endif
