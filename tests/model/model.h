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

#define DIMS_MAX 16384

enum api {
	API_NONE,
	API_OPENAI,
	API_ANTHROPIC,
	API_RESPONSES,
	API_GEMINI,
	API_EMBED, /* embeddings, in four forms */
	API_EMBED_GEMINI,
	API_EMBED_GEMINI_BATCH,
	API_EMBED_OLLAMA,
};

/* What a script can look at. */
struct request {
	enum api api;
	uint64_t seq;                           /* model requests so far */
	struct str method, path, headers, body; /* headers: "Name: value\r\n" lines */
	const struct node *json;                /* NULL: not parsed or not JSON */
	struct str model, user, result;         /* last text of a user, last tool result */
	struct str system;
	bool has_media, has_schema, has_tools, has_reasoning;
	bool is_sse;                   /* gemini: asked for events */
	bool wants_encrypted;          /* responses: asked for encrypted reasoning */
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
int64_t script_dims(const struct script *s);

/* request.c: which API a request is for, by method and path (its query is taken off), and what its
 * body says. */
enum api request_api(struct request *r);
void request_read(struct request *r, struct arena *a);

/* embed.c: vectors for a request of API_EMBED or after it, else a 400. */
void render_embeddings(const struct request *r, int64_t dims, struct answer *a);

/* render.c */
void render(const struct node *step, const struct node *usage, const struct request *r,
	struct answer *a);
void render_plain(
	struct answer *a, int status, const char *type, struct str headers, struct str body);

#endif
