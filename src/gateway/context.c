/* SPDX-License-Identifier: MIT
 * Handler of session.context: the engine makes the next request and describes it; nothing is sent.
 */
#include "gateway/internal.h"

static void
on_context(void *arg, struct str json, const struct err *e)
{
	if (e != NULL)
		reply_error(arg, e);
	else
		reply_text(arg, json);
}

static void
show_context(struct request *q, const char *session)
{
	engine_context(q->g->parts.engine, session, node_str(q->params, "text", STR("")),
		node_str(q->params, "model", STR("")), on_context, q);
}

void
handle_session_context(struct request *q)
{
	with_session(q, show_context);
}
