/* SPDX-License-Identifier: MIT
 * Inside of ithaca-model, the scripted model server for tests and benches: a script gives answers,
 * an answer becomes bytes with marks (pause, close, reset), a connection sends them. README.md
 * describes the script. */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <netinet/in.h>
#include "base/json.h"

#define REQUEST_HEAD_MAX (64u * 1024)
#define REQUEST_MAX      (64u * 1024 * 1024)
#define ANSWER_MAX       (64u * 1024 * 1024)

enum api { API_NONE, API_OPENAI, API_ANTHROPIC };

/* What a script can look at. */
struct request {
	enum api api;
	uint64_t seq;                           /* model requests so far */
	struct str method, path, headers, body; /* headers: "Name: value\r\n" lines */
	const struct node *json;                /* NULL: not parsed or not JSON */
	struct str model, user, result;         /* last text of a user, last tool result */
	int64_t results, turn_results; /* tool results in all, and since the last text of a user */
	int64_t arrived_us, complete_us; /* CLOCK_MONOTONIC: first byte, last byte */
};

/* Where sending stops for a while or for good. */
enum mark_type { MARK_PAUSE, MARK_CLOSE, MARK_RESET };
struct mark {
	size_t offset; /* bytes before this one are sent first */
	enum mark_type type;
	int64_t ms;
};
struct answer {
	struct buf bytes;
	struct mark *marks;
	size_t n, cap;
	bool close; /* after the last byte */
};
void answer_init(struct answer *a);
void answer_fini(struct answer *a);
void answer_mark(struct answer *a, enum mark_type type, int64_t ms); /* at the end so far */

/* script.c */
struct script;
int script_load(const char *name, struct str text, struct script **out, struct err *e) MUST_USE;
void script_free(struct script *s);
/* The answer for r: a map with `answer` and the transport keys, or NULL. Counts `times`. */
const struct node *script_choose(struct script *s, const struct request *r);
const struct node *script_usage(const struct script *s);
void request_read(struct request *r, struct arena *a); /* fills what comes from the body */

/* render.c */
void render(const struct node *step, const struct node *usage, const struct request *r,
	struct answer *a);
void render_plain(
	struct answer *a, int status, const char *type, struct str headers, struct str body);

#endif
