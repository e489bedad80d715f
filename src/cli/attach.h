/* SPDX-License-Identifier: MIT
 * Files of --attach: read and looked at before anything is started, so that what cannot be sent is
 * said at once. */
#ifndef CLI_ATTACH_H
#define CLI_ATTACH_H

#include "base/hash.h"
#include "base/node.h"

struct attached {
	char *name; /* without directories */
	char *bytes;
	size_t n;
	char hash[SHA256_HEX]; /* the name that the blob will have */
};

/* paths: a list of texts, or NULL. Blocks while it reads. On an error nothing is owned. */
int attach_read(const struct node *paths, struct attached **out, size_t *n, struct err *e) MUST_USE;
void attach_free(struct attached *files, size_t n);

#endif
