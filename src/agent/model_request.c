/* SPDX-License-Identifier: MIT
 * Makes the request of an attempt from what the turn is: the model, the system prompt, the tools and as much of the
 * conversation as fits the model's window. */
#include "agent/model_call.h"

#define BYTES_PER_TOKEN 3 /* a low estimate, so that a request that should fit does */

int
call_request(struct model_call *m, struct model_request *q, struct err *e)
{
	struct engine *en = m->r->en;
	struct transcript_view view;
	int rc;

	arena_reset(m->a);
	rc = model_resolve(m->r->s->config, node_str(turn_options(m->r->t), "model", STR("")), m->a, &m->info, e);
	if (rc != 0)
		return rc;
	model_request_init(q, &m->info);
	q->attempt = (int)m->attempt - 1;
	q->system = prompt_system(m->r, m->a);
	q->tools = en->schemas;
	q->tools_n = en->schemas_n;
	transcript_view(m->r->s->tr,
		(size_t)MAX(m->info.context_tokens - q->max_output_tokens, m->info.context_tokens / 2) * BYTES_PER_TOKEN, m->a,
		&view);
	q->messages = view.messages;
	q->messages_n = view.n;
	m->input_bytes = view.bytes + q->system.n + en->schemas_bytes;
	return 0;
}
