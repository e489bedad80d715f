/* SPDX-License-Identifier: MIT
 * What may be done: modes, rules allow/ask/deny in the form Tool(pattern), the shell parser that
 * finds the simple commands in a script, and `why`, which explains a decision. Pure: no I/O, no
 * clock. The kernel enforces modes; rules decide what is tried at all. Deny wins over ask, ask over
 * allow, whatever their order or specificity. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/json.h"
#include "config/config.h"

enum mode { MODE_READ_ONLY, MODE_WORKSPACE_WRITE, MODE_DANGER_FULL_ACCESS, MODE_COUNT };
const char *mode_name(enum mode m);
int mode_parse(struct str s, enum mode *out) MUST_USE;

/* The name in a rule: what kind of thing a call does. */
enum subject {
	SUBJECT_READ,
	SUBJECT_WRITE,
	SUBJECT_EXEC,
	SUBJECT_FETCH,
	SUBJECT_SEND,
	SUBJECT_DELEGATE,
	SUBJECT_MCP,
	SUBJECT_MEMORY,
	SUBJECT_SCHEDULE,
	SUBJECT_COUNT
};
const char *subject_name(enum subject s); /* "Exec" */

enum decision { DECIDE_ALLOW, DECIDE_ASK, DECIDE_DENY };
const char *decision_name(enum decision d);

/* What is asked. For Exec `target` is the shell command; for files the path as the model wrote it,
 * cleaned lexically by the caller; for Fetch the host. */
struct policy_request {
	enum subject subject;
	struct str tool; /* "exec": rules may also name a tool in lower case */
	struct str target;
	struct str target2; /* move: the destination; else empty */
	enum mode mode;
	bool keeps_state; /* exec: earlier commands of the same shell may have given any name
			     another meaning */
	bool yes;         /* --yes: ask becomes allow inside the mode, never where a rule denies */
};

struct verdict {
	enum decision decision;
	char rule[128];   /* the rule as written, or "mode workspace_write: default" */
	char origin[128]; /* "config.yaml line 7" or "built in" */
	char reason[256]; /* one sentence for model and user */
};

struct policy;
/* Compiles `permissions` of the configuration. A malformed rule is ERR_CONFIG with file, line and
 * the form expected. */
int policy_new(const struct config *c, struct policy **out, struct err *e) MUST_USE;
void policy_free(struct policy *p);
void policy_decide(const struct policy *p, const struct policy_request *r, struct verdict *out);
/* Every rule that was considered and what it said, one line each, for `ithaca why`. */
void policy_explain(const struct policy *p, const struct policy_request *r, struct buf *out);
/* "Tool(pattern)" of one rule or an error that names the mistake: for config validation. */
int policy_rule_check(struct str rule, struct err *e) MUST_USE;
/* The exact rule that "always" would add for this request: an argv prefix, never bare Exec. false:
 * cannot be. */
bool policy_always_rule(const struct policy_request *r, struct buf *out);

/* Where commands in a cell may connect to (`egress` and the Fetch rules). Checked by policy_new. */
int policy_egress_check(const struct config *c, struct err *e) MUST_USE;
bool policy_egress_is_open(const struct policy *p, const struct config *c); /* to anywhere at all */
/* What that grant says of one target, "host", "host:port" or a URL: never ask, since a command cannot wait. ERR_INVALID: it is
 * no target. */
int policy_egress_why(const struct policy *p, const struct config *c, struct str target, struct verdict *out,
	struct err *e) MUST_USE;
/* The grant for the broker, as a JSON object. always: rules that the user allowed for the session.
 */
void policy_egress_write(const struct policy *p, const struct config *c, const char *const *always,
	size_t always_n, int64_t used_bytes, struct json *j);

/* The shell parser (POSIX sh grammar, conservative): splits a script into its simple commands with
 * their words. What cannot be resolved without running it ($(), ``, eval, sh -c, xargs, env,
 * here-documents, variables as a command name, ...) makes the script opaque: then only Exec(*)
 * matches it for allow, while deny rules still look at the commands that were found. */
struct shell_command {
	struct str *argv; /* words with quoting removed; expansions are kept as written and set
			     `dynamic` */
	size_t *known; /* of each word, the bytes before its first expansion; all of them where it
			  has none */
	size_t argc;
	size_t fixed; /* words before the first one that depends on an expansion */
	bool dynamic; /* fixed < argc */
};
struct shell_script {
	struct shell_command *commands;
	size_t n;
	struct str *writes; /* targets of > and >> redirections */
	size_t writes_n;
	bool writes_computed; /* one of them depends on an expansion */
	struct str *reads;    /* sources of < redirections */
	size_t reads_n;
	struct str
		*inputs; /* bodies of here-documents, which a shell among the commands would run */
	size_t inputs_n;
	bool opaque;
	const char *why_opaque; /* static */
};
/* ERR_INVALID for a script that is not valid shell (unclosed quote, ...): treated as opaque by
 * policy. */
int shell_parse(
	struct str script, struct arena *a, struct shell_script *out, struct err *e) MUST_USE;

#endif
