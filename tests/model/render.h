/* SPDX-License-Identifier: MIT
 * What the renderers of the four chat APIs share: an answer in the making, and the table of what an
 * API does with each action of a script. render.c walks the actions; a dialect knows the form. */
#ifndef TESTS_MODEL_RENDER_H
#define TESTS_MODEL_RENDER_H

#include "model.h"

/* Why an answer ends, by the names that a script may use for every API. */
enum finish { FINISH_END, FINISH_TOOLS, FINISH_LENGTH, FINISH_REFUSAL, FINISH_FILTER, FINISH_N };

/* A tool call of the script, with what is filled in. */
struct call {
	struct str tool, id, args; /* args: text, not always JSON */
	struct str signature;      /* empty: none */
	int64_t pieces;
	bool has_id;    /* the script says which */
	bool has_index; /* false: leave it out */
};

struct render {
	const struct request *r;
	struct answer *a;
	const struct dialect *d;
	struct str eol;
	struct buf event; /* one event of the stream */
	struct buf data;  /* its JSON */
	struct json j;
	int64_t blocks, calls; /* begun so far */
	const char *block;     /* kind of the open block or item, or NULL */
	struct str finish;     /* from the script, or empty */
	const struct node *usage;
	int64_t sequence;     /* responses: number of the next event; gemini: chunks so far */
	struct buf items;     /* responses: what is done; gemini: calls that wait for their chunk */
	struct buf text;      /* responses: text of the open item */
	struct str signature; /* gemini: of a thought, waits for the part that carries it */
	bool is_array;        /* gemini without alt=sse: one JSON array instead of events */
	bool is_over;         /* respond, error or cut: nothing more */
	bool lacks_end;       /* cut */
	bool is_cut;          /* without the last chunk */
};

struct dialect {
	const char *call_prefix; /* of the ids that are made */
	const char *request_id;  /* header that names the request, or NULL */
	bool has_event_names;    /* an `event:` line, and the same as `type` in the data */
	const char *finish[FINISH_N];
	void (*start)(struct render *w);
	/* signature: on the last piece of a text, where a script or a thought left one. */
	void (*text)(struct render *w, struct str text, struct str signature);
	void (*refusal)(struct render *w, struct str text);
	void (*thought)(struct render *w, struct str text);
	void (*thought_end)(struct render *w, struct str signature);
	void (*redacted)(struct render *w, struct str data);
	void (*call)(struct render *w, const struct call *c);
	void (*settle)(struct render *w); /* before what is no call; NULL: nothing waits */
	void (*blocked)(struct render *w, struct str reason); /* NULL: as a finish of FILTER */
	void (*finished)(struct render *w, struct str reason, bool is_done);
	/* The members of an error's body; status 0: inside a stream. */
	void (*error)(struct json *j, const struct render *w, const struct node *error, int status);
	void (*stream_error)(struct render *w, const struct node *error);
};
extern const struct dialect dialect_chat, dialect_responses, dialect_anthropic, dialect_gemini;

struct json *event_begin(struct render *w, const char *name); /* into its object */
void event_end(struct render *w);
void event_send(struct render *w, struct str data);
void chunk_send(struct render *w, struct str bytes); /* one chunk of the body */
/* The next of `pieces` pieces of *rest, cut on a character. false: nothing is left. */
bool piece_next(struct str *rest, int64_t *pieces, struct str *out);
int64_t usage_of(const struct render *w, const char *key);

#endif
