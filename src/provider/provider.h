/* SPDX-License-Identifier: MIT
 * Model APIs without sockets: one file per API builds the HTTP request and parses the streamed
 * answer into the same few events. Also the catalog of models and prices, the classification of
 * errors with the retry delays, and the offline model. Who sends the bytes is somebody else's
 * business. */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include "base/hash.h"
#include "base/json.h"
#include "config/config.h"

/* ---- the conversation, in the form that every API builder reads ---- */

enum part_type {
	PART_TEXT,      /* text */
	PART_REASONING, /* text and, from APIs that sign it, signature; must go back unchanged */
	PART_REASONING_REDACTED, /* data in signature */
	PART_CALL,               /* call_id, tool, args (JSON object text) */
	PART_RESULT,             /* call_id, text, is_error; only in user messages */
	PART_MEDIA,              /* mime, data, name: an attachment; only in user messages. text:
				    what stands for it where it cannot be sent */
};
struct part {
	enum part_type type;
	struct str text;
	struct str
		signature; /* opaque: what the API wants back with this part, on any type of part */
	struct str
		item_id; /* what the API calls this part where it must go back with it, or empty */
	struct str origin; /* the provider (key below `providers:`) that made the part, or empty;
			      signature and item_id go back to that one only */
	struct str call_id;
	struct str tool;
	struct str args;
	struct str mime; /* "image/png" */
	struct str data; /* raw bytes, borrowed; p is NULL until blob was read */
	struct str blob; /* name of the bytes in the store; also on the text that became of them */
	struct str name; /* file name, for APIs that show it to the model; may be empty */
	struct str file; /* what it is called in the inbox of a run */
	bool is_error;
};
enum message_role { MSG_USER, MSG_ASSISTANT };
struct message {
	enum message_role role;
	const struct part *parts;
	size_t n;
};
struct tool_schema {
	const char *name, *text;
	struct str schema; /* JSON Schema of the arguments */
};
enum effort { EFFORT_AUTO, EFFORT_OFF, EFFORT_LOW, EFFORT_MEDIUM, EFFORT_HIGH };
enum tool_mode {
	TOOLS_NATIVE, /* in the API's own fields */
	TOOLS_TEXT,   /* described in the system text, calls are parsed from the answer's text */
	TOOLS_SCHEMA, /* as TOOLS_TEXT, and the server constrains the answer to the schema of a call
		       */
};
struct model_request {
	struct str provider; /* key below `providers:`: see part.origin */
	struct str model;    /* as the API calls it, without the provider's name */
	struct str system;
	const struct message *messages;
	size_t messages_n;
	const struct tool_schema *tools;
	size_t tools_n;
	struct str schema;    /* JSON Schema that the answer's text must match; empty: none */
	struct str cache_key; /* the same for requests that share a prefix; empty: none */
	enum effort effort;   /* of reasoning; EFFORT_AUTO: the server's default */
	enum tool_mode tool_mode;
	int64_t max_output_tokens; /* 0: the server's default */
	bool is_own_server; /* from model_info: openai-chat then says max_completion_tokens instead
			       of max_tokens, and cache_key is sent */
	bool has_reasoning; /* from model_info: otherwise nothing about reasoning is asked for */
	int attempt;        /* 0, then 1 for the first retry: only the offline model looks at it */
};
struct model_info;
/* Empty request for this model; the strings are borrowed from m. */
void model_request_init(struct model_request *r, const struct model_info *m);

/* ---- the answer ---- */

struct model_usage {
	int64_t input_tokens;       /* all input, cached included */
	int64_t output_tokens;      /* all output, reasoning included */
	int64_t cached_tokens;      /* read from a cache; part of input */
	int64_t cache_write_tokens; /* part of input */
	int64_t reasoning_tokens;   /* part of output */
};
enum model_stop { STOP_END, STOP_TOOLS, STOP_LENGTH, STOP_REFUSED, STOP_OTHER };
const char *model_stop_name(enum model_stop s); /* end tools length refused other */

/* Deltas while the answer streams: for live display and partials only. */
enum delta_type { DELTA_TEXT, DELTA_REASONING, DELTA_CALL };
typedef void (*delta_fn)(
	void *arg, enum delta_type type, struct str text); /* DELTA_CALL: the tool's name, once */

/* The whole answer; in the parser's arena, valid until parser_free. */
struct model_answer {
	const struct part *parts; /* text, reasoning, calls in the order in which they came */
	size_t n;
	enum model_stop stop;
	struct model_usage usage;
};

/* ---- calls as text ---- */

/* For models whose server does not know their way of calling tools: finds calls that a finished
 * answer has as text, in the forms that open models write (see docs/internals/provider.md). Only a
 * block that parses whole and names offered tools alone becomes calls; everything else stays text,
 * and an answer with native calls, or of an API's own server in TOOLS_NATIVE, stays as it is. *out
 * borrows from the answer and lives in a. Returns how many calls were found. */
size_t answer_text_calls(const struct model_answer *answer, const struct model_request *r,
	struct arena *a, struct model_answer *out);

/* ---- vectors ---- */

struct embed_request {
	struct str model;
	const struct str *texts; /* none empty */
	size_t n;                /* 1..EMBED_TEXTS_MAX, and the API's embed_max */
	int64_t dimensions;      /* 0: the model's own */
	bool is_query;           /* what is searched with, not for: some models differ */
};
struct embed_result {
	const float
		*values; /* n rows, in the order of the texts, each of `dimensions`; all finite */
	size_t n, dimensions;
	int64_t input_tokens; /* 0 where the server does not say */
};

/* ---- one API ---- */

struct http_request {
	struct str path;    /* appended to the base URL: "/chat/completions" */
	struct str headers; /* "name: value\n" lines without credentials */
	struct buf
		*body; /* JSON; made by the caller (max REQUEST_BODY_MAX), appended to by build */
};

struct parser; /* of one answer */
struct provider_api {
	const char *name;     /* "openai-chat" */
	const char *base_url; /* default */
	const char *version;  /* that a base URL ends with when it names none: "/v1"; NULL: none */
	bool is_hosted;       /* base_url is the vendor's service: its models are in the catalog */
	bool ends_with_body;  /* the stream has no end mark: an answer with a stop reason is whole
				 when the body ends */
	const char *key_header; /* "Authorization: Bearer " or "x-api-key: ": how the broker sends
				   the key; NULL: none */
	/* Pure: the same request gives the same bytes, and a conversation that goes on gives a body
	 * that begins with the same bytes. ERR_LIMIT when the body's maximum is reached,
	 * ERR_INVALID without any message. NULL: no transport. */
	int (*build)(const struct model_request *r, struct http_request *out, struct arena *a,
		struct err *e);
	/* Feeds one SSE event; the stream is complete when parser_is_done. */
	int (*event)(struct parser *p, struct str event, struct str data, struct err *e);
	/* Vectors of texts, not streamed; NULL: the API has none. Pure. ERR_INVALID and ERR_LIMIT
	 * for a bad request; of an answer ERR_PROTO (not what was asked for, with what is wrong),
	 * ERR_PROVIDER, ERR_LIMIT. The result lives in a. */
	int (*embed_build)(const struct embed_request *q, struct http_request *out, struct arena *a,
		struct err *e);
	int (*embed_parse)(const struct embed_request *q, struct str body, struct arena *a,
		struct embed_result *out, struct err *e);
	size_t embed_max; /* texts in one request */
	unsigned no_input; /* INPUT_*: files that it has no form for, whatever the model could take */
	/* The message of an error body (status >= 400), or of an error inside a stream. */
	void (*error)(struct str body, struct str *type, struct str *message, struct arena *a);
};
extern const struct provider_api *const provider_apis[]; /* NULL-terminated */
const struct provider_api *provider_api_find(struct str name);
/* What request paths are appended to, whatever way the user wrote the server down: without slashes
 * at the end and without an endpoint, and with the API's version unless the URL names one already
 * (or came with an endpoint, and so says where that is). Lives in a. */
struct str provider_base_url(const struct provider_api *api, struct str url, struct arena *a);

struct parser *parser_new(const struct provider_api *api, delta_fn fn, void *arg);
void parser_free(struct parser *p);
/* Bytes of a 200 answer's body, cut anywhere. Errors: ERR_PROTO (malformed), ERR_LIMIT (a named
 * maximum), ERR_PROVIDER (an error event inside the stream; provider_classify tells whether to
 * retry). */
int parser_feed(struct parser *p, struct str bytes, struct err *e) MUST_USE;
/* The body has ended: 0 with the answer, or ERR_NET when the stream was cut before its end mark. */
int parser_end(struct parser *p, const struct model_answer **out, struct err *e) MUST_USE;
/* At any time: what the server has counted so far, and how many bytes the model has written. */
const struct model_usage *parser_usage(const struct parser *p);
size_t parser_bytes(const struct parser *p);

/* ---- errors and retry ---- */

enum failure_kind {
	FAIL_NETWORK,                /* could not connect, cut, idle too long */
	FAIL_RATE,                   /* 429 */
	FAIL_OVERLOAD,               /* 503, 529, 5xx */
	FAIL_AUTH,                   /* 401, 403 */
	FAIL_QUOTA,                  /* insufficient_quota: no retry helps */
	FAIL_REQUEST,                /* other 4xx: no retry helps */
	FAIL_CONTEXT,                /* the request does not fit the model's context window */
	FAIL_CONTENT,                /* a filter of the provider refused the request */
	FAIL_PROTOCOL,               /* malformed, or an event that nobody understands */
};
/* network rate overload auth quota request context content protocol */
const char *failure_kind_name(enum failure_kind k);
struct failure {
	enum failure_kind kind;
	bool may_retry;
	int64_t after_ms; /* asked for by the server, -1: not said; capped at RETRY_AFTER_MAX_MS */
	struct err e;     /* for the user: what, which provider, how to fix */
};
#define RETRY_AFTER_MAX_MS 120000
/* From an HTTP answer. headers: "name: value\n" lines. now_ms (wall) is for Retry-After dates. */
void failure_from_http(const struct provider_api *api, const char *provider, int status,
	struct str headers, struct str body, int64_t now_ms, struct failure *out);
/* From an error of parser_feed, parser_end or of the link to the server. */
void failure_from_err(const struct provider_api *api, const char *provider, const struct err *e,
	struct failure *out);
/* From an OFFLINE_ERROR or OFFLINE_CUT step. */
struct offline_step;
void failure_from_offline(const char *provider, const struct offline_step *s, struct failure *out);
/* Delay before attempt n (1: the first retry): what the server asked, else 500 ms doubled each time
 * up to 8 s, with up to 25 % of it taken off by `jitter` in [0, 1). */
int64_t retry_delay_ms(const struct failure *f, int attempt, double jitter);

/* ---- models ---- */

/* What is known about a provider before any model is chosen: for the runner, which tells the
 * broker. Rows of the configuration, with built-in rows for "anthropic", "openai" and "offline".
 * Strings live in a, NUL-terminated. */
struct provider_info {
	struct str name;
	const struct provider_api *api;
	struct str base_url; /* without a slash at the end; empty for offline */
	struct str key_env;  /* environment variable of the key; empty: none */
	bool is_own_server;  /* the API's own default server */
};
int provider_resolve(const struct config *c, struct str name, struct arena *a,
	struct provider_info *out, struct err *e) MUST_USE;

/* Name i of those that need no configuration, NULL past the end. */
const char *provider_builtin_name(size_t i);

#define INPUT_TEXT  1u
#define INPUT_IMAGE 2u
#define INPUT_PDF   4u
#define INPUT_AUDIO 8u
/* The strongest of those who say something about a model. */
enum catalog_source { CATALOG_ASSUMED, CATALOG_SNAPSHOT, CATALOG_FETCHED, CATALOG_CONFIG };
const char *catalog_source_name(enum catalog_source s); /* assumed snapshot fetched config */
struct model_info {
	struct str provider; /* key below `providers:` */
	struct str model;    /* what the API calls it */
	const struct provider_api *api;
	struct str base_url;
	bool is_own_server;
	enum catalog_source source;
	unsigned input;                            /* INPUT_*: what a message may hold */
	bool has_tools, has_reasoning, has_schema; /* what the model can do */
	bool has_price; /* false: nobody gave one, and 0 is assumed */
	int64_t context_tokens;
	int64_t max_output_tokens; /* 0: not known, the server's default */
	int64_t input_microusd_per_mtok, output_microusd_per_mtok;
	int64_t cached_microusd_per_mtok, cache_write_microusd_per_mtok;
	/* A request whose input is longer than this pays these percentages of all prices; 0: no
	 * such rule. */
	int64_t long_tokens, long_input_percent, long_output_percent;
	const char *knowledge; /* "2025-01": what it was trained on ends there; NULL: not known */
	const char *status;    /* "deprecated", "beta"; NULL: nothing said */
	int64_t connect_ms, idle_ms;
	int retries;
};
/* Resolves "provider/model" from configuration, fetched catalog (what is attached to c) and snapshot.
 * ERR_CONFIG with the nearest names when either is unknown; a provider with its own base_url needs no
 * catalog entry (price 0). Strings live in a. */
int model_resolve(const struct config *c, struct str name, struct arena *a, struct model_info *out,
	struct err *e) MUST_USE;
void model_write_input(const struct model_info *m, struct json *j); /* ["text", "image"] */
/* What a person should know before the model is used: that it or its price is not known. NULL: nothing.
 */
const char *model_notice(const struct model_info *m, struct arena *a);
/* Cost, each part rounded up to a micro-dollar. */
int64_t model_cost(const struct model_info *m, const struct model_usage *u);
/* What a call may cost at most: the estimate of its input (bytes / 3, rounded up, at the dearest
 * input price) and all of its output (the context window where the maximum output is not known). */
int64_t model_cost_bound(const struct model_info *m, int64_t input_tokens);
/* Tokens of a text, rather too many: a token for 3 bytes. */
int64_t model_tokens_bound(size_t bytes);

/* ---- catalogs ---- */

#define CATALOG_DATE "2026-11" /* of the snapshot in the executable; prices are to be verified */
struct catalog;                /* a fetched one, immutable: config_attach gives it to model_resolve */
/* From JSON in the form of models.dev: the vendors named (NULL-terminated), known fields only. Rows that
 * are not usable are left out and told through on_bad (may be NULL). ERR_PROTO: it is no catalog. */
typedef void (*catalog_bad_fn)(void *arg, const char *vendor, const char *model, const char *why);
int catalog_import(struct str json, const char *const *vendors, catalog_bad_fn on_bad, void *arg,
	struct catalog **out, struct err *e) MUST_USE;
/* The file that is kept of it, which names its origin and holds its own digest. */
void catalog_write(const struct catalog *c, const char *url, int64_t now_ms, struct buf *b);
int catalog_read(struct str text, struct catalog **out, struct err *e) MUST_USE; /* ERR_CORRUPT */
void catalog_free(void *catalog);
/* Facts of a catalog; NULL: the snapshot. */
struct catalog_facts {
	size_t models;
	char digest[SHA256_HEX];
	const char *url, *fetched_at; /* of catalog_read; NULL: none. Live as long as the catalog */
};
void catalog_facts(const struct catalog *c, struct catalog_facts *out);
/* [{model, what, from?, to?}]: what differs; either may be NULL: the snapshot. */
void catalog_changes(const struct catalog *from, const struct catalog *to, struct json *j);
/* Whose rows of a catalog the providers of a configuration use; NULL-terminated, in a. */
const char *const *catalog_vendors(const struct config *c, struct arena *a);
/* The models of a provider that rows are known for, some twice. */
typedef void (*catalog_name_fn)(void *arg, const char *provider, const char *model);
void catalog_each_model(const struct config *c, struct str provider, catalog_name_fn fn, void *arg);
/* "https://host" and "/path?query" of catalog.url: what the broker is told, and what is asked for. */
int catalog_url_split(struct str url, struct str *base, struct str *path, struct err *e) MUST_USE;
#define CATALOG_UPSTREAM "catalog/url" /* its name at the broker: no provider's name has a slash */

/* ---- the offline model ---- */

/* A small rule-based model for demonstration, tests and load: docs/offline-model.md. Every answer
 * is labelled
 * "[offline model]". It has no transport: the answer is a list of steps in time. */
enum offline_step_type {
	OFFLINE_TEXT,
	OFFLINE_REASONING,
	OFFLINE_CALL,
	OFFLINE_DELAY,
	OFFLINE_ERROR,
	OFFLINE_CUT
};
struct offline_step {
	enum offline_step_type type;
	struct str text;       /* a piece of text; error message */
	struct str tool, args; /* OFFLINE_CALL */
	int64_t ms;            /* OFFLINE_DELAY; OFFLINE_ERROR: the retry-after, -1 not said */
	int status;            /* OFFLINE_ERROR: as an HTTP status */
};
struct offline; /* rules, or a script */
/* script: YAML text or empty for the built-in rules; name is for messages. */
int offline_open(const char *name, struct str script, struct offline **out, struct err *e) MUST_USE;
void offline_close(struct offline *o);
/* Deterministic: the same conversation gives the same steps. The steps live in a. */
int offline_answer(const struct offline *o, const struct model_request *r, struct arena *a,
	const struct offline_step **steps, size_t *n, struct err *e) MUST_USE;

/* ---- roles ---- */

enum model_role { ROLE_MAIN, ROLE_FAST, ROLE_JUDGE, ROLE_EMBEDDING };
/* "provider/model" for a role: its own, else the main one. NULL: models.embedding is not set, and
 * a main model gives no vectors. Borrowed from c. */
const char *role_model(const struct config *c, enum model_role role);

#endif
