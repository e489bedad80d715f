/* SPDX-License-Identifier: MIT
 * A sandbox for the tests of the tools: file operations run for real in a directory, commands in a
 * real sh, and links break where a test says so. Answers come when fake_pump is called, as they
 * come from a loop otherwise. */
#ifndef TESTS_FAKE_SANDBOX_H
#define TESTS_FAKE_SANDBOX_H

#include "sandbox/sandbox.h"

enum fake_fault {
	FAKE_NO_FAULT,
	FAKE_LOSE_REQUEST, /* the link breaks before anything happened */
	FAKE_LOSE_ANSWER,  /* it happened, but nobody heard */
	FAKE_KILL_BEFORE, /* the process of a file operation is killed before it did anything */
	FAKE_KILL_AFTER, /* ... and after it did everything */
};

struct sandbox *fake_new(const char *dir);
void fake_free(struct sandbox *sb);
void fake_pump(struct sandbox *sb);                     /* until nothing is pending */
void fake_fault(struct sandbox *sb, enum fake_fault f); /* of the next request */
/* From now on commands end with this word about their outbox. */
void fake_outbox(struct sandbox *sb, bool has);
int fake_started(const struct sandbox *sb);             /* commands that really ran */
/* What shelld says of the command of this key. */
struct exec_status *fake_status(struct sandbox *sb, const char *effect);
const struct exec_request *fake_last_exec(const struct sandbox *sb);

#endif
