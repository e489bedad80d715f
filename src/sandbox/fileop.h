/* SPDX-License-Identifier: MIT
 * File operations (the table at the end of sandbox.h), executed by a confined child of a cell: after Landlock, seccomp
 * and the loss of every capability, in one thread, with the time and size limits of its parent around it. */
#ifndef SANDBOX_FILEOP_H
#define SANDBOX_FILEOP_H

#include "base/buf.h"
#include "base/err.h"

/* Runs one operation. The working directory is the workspace (/shared in a full cell, its host path otherwise), so
 * relative paths need no prefix. params_json: the object as it came from outside, unchecked. access: enum cell_access.
 * Appends the answer's head (one JSON object) and its tail. */
int fileop_run(struct str op, struct str params_json, struct str content, int access, struct buf *head_json,
	struct buf *tail, struct err *e) MUST_USE;

#endif
