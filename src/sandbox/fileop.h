/* SPDX-License-Identifier: MIT
 * File operations on a workspace, run synchronously by a process that is already confined (or by a unit test in a
 * directory of its own). The table of operations is at the end of sandbox.h. The kernel is the wall; this code only
 * promises that it never hangs, never follows the last symbolic link of a path it changes, and never leaves a
 * half-written file under a name that was asked for. */
#ifndef SANDBOX_FILEOP_H
#define SANDBOX_FILEOP_H

#include "base/buf.h"
#include "base/err.h"

/* Runs one operation. Relative paths are relative to the working directory, which is the workspace. access is an enum
 * cell_access: CELL_READ_ONLY refuses the operations that change something before they touch anything. head_json
 * receives one JSON object of at most FILE_HEAD_MAX bytes, tail the content; both are appended to only on success.
 * Errors are for the model and say what to do instead. */
int fileop_run(struct str op, struct str params_json, struct str content, int access, struct buf *head_json,
	struct buf *tail, struct err *e) MUST_USE;

#endif
