/* SPDX-License-Identifier: MIT
 * What a tool is, and the tools of this room: files and exec. A tool checks nothing that its table can check, decides
 * nothing that policy decides, and reports in words for the model. */
#ifndef TOOL_TOOL_H
#define TOOL_TOOL_H

#include "base/field.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"

enum { TOOL_READS = 1 << 0, TOOL_WRITES = 1 << 1, TOOL_EXECS = 1 << 2, TOOL_SENDS = 1 << 3 };

/* What may be done with an effect whose outcome a crash took away. */
enum effect_class {
	EFFECT_PURE, /* run it again */
	EFFECT_KEYED, /* run it again with the same key: the other side runs it once */
	EFFECT_PROBE, /* ask whether it happened */
	EFFECT_UNSAFE, /* nobody can know */
};
const char *effect_class_name(enum effect_class c);

/* done, or known not to have happened, or nobody can know. */
enum effect_state { EFFECT_DONE, EFFECT_NOT_DONE, EFFECT_UNKNOWN };
const char *effect_state_name(enum effect_state s);

/* Where tools act: given by the driver, the same for all calls of a session. */
struct tool_env {
	struct sandbox *sandbox;
	const char *cell; /* key */
	const char *run; /* key: the turn, whose directory work is */
	const char *work; /* inbox, outbox, work and tmp of the turn, as its tools see them: /run/work; NULL where no commands are */
	struct cell_plan plan;
	const char *cwd; /* "/shared", or the host directory in danger_full_access */
	enum mode mode;
	int64_t exec_timeout_ms, exec_job_timeout_ms; /* when the call names none */
	int64_t exec_timeout_max_ms; /* whatever the call names */
	int64_t exec_output_max; /* bytes kept of one command */
};

struct tool_result {
	enum effect_state state;
	bool is_error;
	struct str text; /* for the model: UTF-8, already cut to result_max with a note and the handle */
	struct str facts; /* JSON object: exit, signal, ms, bytes, path, ...; for events and surfaces */
	bool is_gone; /* the sandbox link broke under the call: recover it when the link is back; nothing else is set */
};

struct tool_call;
struct tool_handler {
	void (*on_prepared)(void *arg, struct str probe, const struct err *e); /* probe: JSON object or empty */
	void (*on_output)(void *arg, int ch, int64_t offset, struct str bytes); /* live; may be NULL */
	void (*on_done)(void *arg, const struct tool_result *r); /* once; r is borrowed */
};
/* One call. The driver fills it and keeps it until on_done, or until cancel was acknowledged by on_done. */
struct tool_call {
	const struct tool *tool;
	const struct tool_env *env;
	const char *effect; /* id of the effect: the key */
	const struct node *args; /* checked, defaults filled in */
	const struct node *probe; /* what prepare said, from the journal; NULL for tools without prepare */
	struct arena *a; /* of this call */
	const struct tool_handler *h;
	void *arg;
	void *state; /* the tool's own */
};

struct tool {
	const char *name, *text;
	unsigned effects; /* TOOL_*; none but TOOL_READS: may run beside other such calls */
	enum effect_class recovery;
	enum subject subject;
	int64_t result_max; /* bytes of text that may enter the context */
	const struct field *args;
	/* Optional: facts of now that a probe after a crash will need (hash before, hash after). Asynchronous. */
	int (*prepare)(struct tool_call *c, struct err *e);
	/* Asynchronous; an error means it did not start and on_done will not come. */
	int (*start)(struct tool_call *c, struct err *e);
	/* After a crash, for EFFECT_PROBE and EFFECT_KEYED: finds out, or attaches to it again; ends in on_done, whose state
	 * EFFECT_NOT_DONE makes the driver start it. */
	int (*recover)(struct tool_call *c, struct err *e);
	void (*cancel)(struct tool_call *c); /* on_done still comes */
	/* What policy looks at: fills target, target2. May be NULL: empty target. */
	void (*target)(const struct node *args, const struct tool_env *env, struct arena *a, struct policy_request *r);
};

extern const struct tool file_tools[]; /* read write edit list glob grep move delete stat; ends with name NULL */
extern const struct tool exec_tools[]; /* exec job output; ends with name NULL */

/* ---- cells for tools (plan.c) ---- */

enum cell_access tool_access(enum mode m);
/* Access and limits; what it sees, and its proxy, are the caller's to fill in. */
struct cell_plan tool_plan(const struct config *c, enum mode m);

/* The tools that exist in one runtime. */
struct registry;
struct registry *registry_new(void);
void registry_free(struct registry *r);
void registry_add(struct registry *r, const struct tool *tools); /* an array that ends with name NULL */
const struct tool *registry_find(const struct registry *r, struct str name);
size_t registry_len(const struct registry *r);
const struct tool *registry_at(const struct registry *r, size_t i);
/* "did you mean", for the model. */
const char *registry_nearest(const struct registry *r, struct str name);

/* The page of the manual: every tool with its arguments, from the tables. */
void tool_doc(const struct registry *r, struct buf *out);

/* Parses and checks arguments as a model wrote them. Salvages what is unambiguous (a trailing comma, a code fence
 * around the object, an object inside a string); otherwise an error to the model that names the field. *out has the
 * defaults filled in and lives in a. */
int tool_args(const struct tool *t, struct str text, struct arena *a, const struct node **out, struct err *e) MUST_USE;

#endif
