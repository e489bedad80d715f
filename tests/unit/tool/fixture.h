/* SPDX-License-Identifier: MIT
 * A workspace of its own, the fake sandbox, and one way to take a call through its life. */
#ifndef TESTS_TOOL_FIXTURE_H
#define TESTS_TOOL_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "fake_sandbox.h"
#include "tool/tool.h"

struct fix {
	char dir[256];
	struct sandbox *sb;
	struct registry *tools;
	struct tool_env env;
	struct arena *a;
	/* The last call. */
	struct tool_call call;
	int next_effect;
	char effect[64];
	struct str probe;   /* what prepare said */
	int prepared, done; /* how often each came */
	struct err prepare_err;
	struct tool_result r; /* text and facts live in a */
	const struct node *facts;
	int64_t live_bytes; /* of on_output */
};

int fix_setup(void **state);
int fix_teardown(void **state);

/* Checks arguments and makes the call; fails the test when they are refused. */
void fix_call(struct fix *f, const char *tool, const char *args);
void fix_prepare(struct fix *f); /* when the tool has it */
void fix_start(struct fix *f);   /* up to on_done */
void fix_recover(struct fix *f);
/* All of it; the text of the result, NUL-terminated. */
const char *fix_run(struct fix *f, const char *tool, const char *args);

void fix_put(struct fix *f, const char *name, struct str content);
char *fix_get(struct fix *f, const char *name); /* in the arena; NULL when there is none */
void assert_has(const char *text, const char *part);

#endif
