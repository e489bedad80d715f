/* SPDX-License-Identifier: MIT
 * For this room alone: the answer under construction, which each API's event function fills through
 * the functions below. They enforce the named maxima, so no API can forget one. */
#ifndef PROVIDER_INTERNAL_H
#define PROVIDER_INTERNAL_H

#include "base/media.h"
#include "net/sse.h"
#include "provider/provider.h"

extern const struct provider_api provider_openai_chat;
extern const struct provider_api provider_openai_responses;
extern const struct provider_api provider_anthropic;
extern const struct provider_api provider_gemini;
extern const struct provider_api provider_ollama;
extern const struct provider_api provider_offline;

/* One part of the answer while it grows. */
struct slot {
	enum part_type type;
	bool is_ignored; /* a block that this program has no use for: takes deltas, gives no part */
	bool is_preset;  /* the body came whole at the start; a delta replaces it */
	bool has_gap;    /* the next piece of text begins a new paragraph */
	int64_t key;     /* what the API calls it: block, item or call index */
	struct buf body; /* text, or arguments as they came */
	struct buf id;   /* call id */
	struct buf name; /* tool */
	struct buf signature, item_id; /* as in struct part */
};

#define PARSER_HEAD_SIZE 64

struct parser {
	const struct provider_api *api;
	delta_fn fn;
	void *arg;
	struct sse *sse;
	struct arena *scratch; /* tree of one event */
	struct slot *slots;
	size_t n, cap, calls;
	size_t text_bytes, all_bytes;
	struct part *parts; /* made at the end */
	struct model_answer answer;
	bool has_stop;
	bool is_done; /* the end mark came */
	uint64_t events;
	struct err *e; /* of the parser_feed that is running */
	int failed;
	char head[PARSER_HEAD_SIZE]; /* first bytes of the body: to say what it was if it was not a
					stream */
	size_t head_n;
};

/* The event's data as a JSON object, valid until the next event. ERR_PROTO with what is wrong with
 * it. */
int parser_json(struct parser *p, struct str data, const struct node **out, struct err *e) MUST_USE;
int parser_malformed(struct parser *p, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* NULL with ERR_LIMIT when there are too many calls. */
struct slot *slot_new(struct parser *p, enum part_type type, int64_t key, struct err *e) MUST_USE;
struct slot *slot_find(struct parser *p, int64_t key); /* the latest with this key, or NULL */
struct slot *slot_last(struct parser *p);
int slot_add(struct parser *p, struct slot *s, struct str text, struct err *e) MUST_USE;
int slot_add_id(struct parser *p, struct slot *s, struct str id, struct err *e) MUST_USE;
int slot_add_signature(struct parser *p, struct slot *s, struct str text, struct err *e) MUST_USE;
int slot_set_signature(struct parser *p, struct slot *s, struct str text, struct err *e) MUST_USE;
int slot_set_item_id(struct parser *p, struct slot *s, struct str id, struct err *e) MUST_USE;
/* Arguments that came as a tree, as JSON text. */
int slot_add_node(struct parser *p, struct slot *s, const struct node *n, struct err *e) MUST_USE;
/* The tool's name; only the first one counts (some servers repeat it in every chunk). */
int slot_set_name(struct parser *p, struct slot *s, struct str name, struct err *e) MUST_USE;
/* Text of an API without blocks: goes to the last part when that has the same type. */
int parser_add_text(struct parser *p, enum part_type type, struct str text, struct err *e) MUST_USE;
void parser_set_stop(struct parser *p, enum model_stop stop);
/* A token count: nothing negative, nothing that could overflow a price. dflt when absent. */
int64_t usage_count(const struct node *usage, const char *key, int64_t dflt);

struct stop_name {
	const char *name;
	enum model_stop stop;
};
enum model_stop stop_find(const struct stop_name *table, size_t n, struct str name);

/* Shared by the builders. */
/* The arguments of a call as a JSON object: what the model wrote when it is one, else
 * {"raw_arguments": "..."}, which servers that look into the arguments accept. Lives in a, or is
 * args itself. */
struct str call_args(struct str args, struct arena *a);
/* Whether this request goes to the provider that made the part: only that one gets its signature
 * and ids back. */
bool part_is_own(const struct model_request *r, const struct part *p);
/* The tool of a result, which has the call's id alone. */
struct str result_tool(const struct model_request *r, const struct part *p);
/* What both of OpenAI's APIs call the effort; NULL: nothing is said. */
const char *openai_effort(const struct model_request *r);
/* The number behind "gemini-" or the like; 0 when there is none. */
int64_t model_generation(struct str model, const char *prefix);
#define SCHEMA_NAME "answer" /* APIs want a name for a schema */
/* Whether every object of a JSON Schema forbids other members and requires all of its own: what the
 * strict mode of OpenAI's APIs demands. */
bool schema_is_strict(struct str schema);
/* The schema with every object closed, as Anthropic's API demands, in a; false: it cannot be said
 * that way. */
bool schema_close(struct str schema, struct arena *a, struct str *out);
struct str schema_words(struct str schema, struct arena *a); /* for the system text */
/* The request as the API gets it: the same, or with tools as text (see tool_mode). */
const struct model_request *request_prepare(const struct model_request *r, struct arena *a);
/* JSON Schema of an answer in TOOLS_SCHEMA: {"answer"} or {"tool_calls"}. */
struct str text_call_schema(const struct model_request *r, struct arena *a);
/* The body is one object: begin opens it, end closes it. begin also gives the request as it is to be sent, and the headers
 * of an answer that is a stream. */
#define STREAM_HEADERS "content-type: application/json\naccept: text/event-stream\n"
int build_begin(const struct model_request **r, struct http_request *out, struct json *j, struct arena *a,
	struct err *e) MUST_USE;
int build_end(const struct http_request *out, struct json *j, struct err *e) MUST_USE;
/* media.c: attachments */
bool media_is(const struct part *p, enum media_class class); /* false too for a type that nobody knows */
/* Always safe inside JSON. */
struct str media_mime(const struct part *p);
struct str media_name(const struct part *p);          /* never empty */
void write_base64(struct json *j, struct str data);   /* a JSON string */
void write_data_url(struct json *j, const struct part *p);
/* A text file with its name above it; or that there was a file which this API cannot take. */
struct str media_text(const struct part *p, struct arena *a);

/* embed.c: vectors, in the forms of three APIs */
int embed_build_openai(const struct embed_request *q, struct http_request *out, struct arena *a,
	struct err *e) MUST_USE;
int embed_parse_openai(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e) MUST_USE;
int embed_build_gemini(const struct embed_request *q, struct http_request *out, struct arena *a,
	struct err *e) MUST_USE;
int embed_parse_gemini(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e) MUST_USE;
int embed_build_ollama(const struct embed_request *q, struct http_request *out, struct arena *a,
	struct err *e) MUST_USE;
int embed_parse_ollama(const struct embed_request *q, struct str body, struct arena *a,
	struct embed_result *out, struct err *e) MUST_USE;

/* gemini.c: "/models/NAME" and the verb, the name as one segment. */
struct str gemini_path(struct str model, const char *verb, struct arena *a);

/* Messages with one role in a row, which are sent as one. */
size_t messages_run(const struct model_request *r, size_t from);
struct str result_text(const struct part *p, struct arena *a);
/* {"error":{"type","code","message"}} and its relatives. */
void error_object(struct str body, struct str *type, struct str *message, struct arena *a);
/* The struct err of an error that came inside a stream: "TYPE: message". */
int stream_error(struct parser *p, struct str data, struct err *e) MUST_USE;

/* offline_rules.c: one answer to plain English. */
struct offline_out {
	struct arena *a;
	struct offline_step *steps;
	size_t n, cap;
	bool is_labelled;
};
#define OFFLINE_LABEL "[offline model]"
/* NULL when the arena's maximum or OFFLINE_STEPS_MAX is reached. */
struct offline_step *offline_add(struct offline_out *o, enum offline_step_type type);
/* Text in pieces of `chunk` bytes (0: whole) with delay_ms between them; puts the label before the
 * first. */
int offline_text(struct offline_out *o, enum offline_step_type type, struct str text, int64_t chunk,
	int64_t delay_ms, struct err *e) MUST_USE;
struct phrases; /* compiled table of requests */
struct phrases *phrases_new(void);
void phrases_free(struct phrases *p);
int phrases_answer(const struct phrases *p, const struct model_request *r, struct offline_out *o,
	struct err *e) MUST_USE;

/* The request that the conversation is about, and what came after it. */
struct offline_view {
	struct str user;             /* text of the last user message that has one */
	const struct part *result;   /* the last tool result after it, or NULL */
	const struct part **results; /* all of them after it */
	size_t results_n;
	const struct part *call; /* the call of `result`, or NULL */
	size_t answers;          /* model answers in the whole conversation */
};
int offline_look(const struct model_request *r, size_t messages_n, struct arena *a,
	struct offline_view *v, struct err *e) MUST_USE;

/* offline_script.c */
struct script;
int script_parse(const char *name, struct str text, struct script **out, struct err *e) MUST_USE;
void script_free(struct script *s);
bool script_has_builtin(const struct script *s); /* otherwise: builtin */
/* 1: answered, 0: the script leaves it to the built-in rules, < 0: error. */
int script_answer(const struct script *s, const struct model_request *r, struct offline_out *o,
	struct err *e) MUST_USE;

#endif
