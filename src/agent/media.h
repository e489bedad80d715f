/* SPDX-License-Identifier: MIT
 * Files that came with messages, for the files of this room that make, send and show requests. */
#ifndef AGENT_MEDIA_H
#define AGENT_MEDIA_H

#include "agent/model_call.h"
#include "base/media.h"

/* The messages of a view with the bytes of files in them, in a. What is not held yet is noted as
 * wanted, and a line stands in its place. work: the directory whose inbox has them too (NULL: none),
 * which is told. ERR_UNSUPPORTED: a file of the newest turn is nothing for this model. */
int media_fill(struct active *s, const struct model_info *m, const char *work, const struct transcript_view *v,
	struct arena *a, const struct message **out, struct err *e) MUST_USE;
bool media_is_wanted(const struct active *s);
/* Reads what is wanted, then calls done, whatever became of it and of the session. Something is
 * wanted. */
void media_read(struct active *s, loop_fn done, void *arg);

#endif
