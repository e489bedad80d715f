/* SPDX-License-Identifier: MIT
 * The engine: sessions that are active, their turns, and the driver that makes a turn's events durable before it starts
 * its effects. Turns of one session run one after the other, turns of different sessions side by side. A turn that
 * waits for an approval holds no worker. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/turn.h"
#include "base/media.h"
#include "broker/broker.h"
#include "session/session.h"
#include "tool/tool.h"

/* What the engine works with; borrowed for its life. */
struct engine_parts {
	struct loop *loop;
	struct store *store;
	struct events *events;
	struct sandbox *sandbox;
	struct broker *broker;
	struct blobs *blobs;
	struct registry *registry;
	struct config *config;
	const char *home; /* ITHACA_HOME */
	struct hostfiles *files; /* those of the host; NULL: the file system */
	const char *scratch; /* the user's tmp: /scratch of every cell; NULL: none */
	loop_fn on_busy; /* engine_is_idle may have changed */
	void *arg;
};

struct engine;
int engine_open(const struct engine_parts *parts, struct engine **out, struct err *e) MUST_USE;
/* Logs what was shown; from here on no effect starts. The engine is then kept until store_close has answered. */
void engine_stop(struct engine *en);
void engine_close(struct engine *en); /* after store_close */
/* Takes up every turn that a crash or a stop left open: called once, when the store is open. */
int engine_recover(struct engine *en, struct err *e) MUST_USE;
/* Nothing runs and nothing is queued; turns that wait for an approval do not count. */
bool engine_is_idle(const struct engine *en);
/* Links to the broker or to shelld came (back): what waited for them goes on. */
void engine_broker_up(struct engine *en);
void engine_sandbox_up(struct engine *en);

/* Adds to out what is degraded, in words for a model: nothing when nothing is, and not the reason `except`, which it is told
 * of otherwise (NULL: all). Asked whenever a request is made; fn NULL: no more. */
typedef void (*engine_degraded_fn)(void *arg, const char *except, struct buf *out);
void engine_tell_degraded(struct engine *en, engine_degraded_fn fn, void *arg);

/* Providers that are not called for a while, because they failed several times in a row. */
typedef void (*engine_breaker_fn)(void *arg, const char *provider, const char *state, int64_t wait_ms);
void engine_each_breaker(const struct engine *en, engine_breaker_fn fn, void *arg);

/* ---- money ---- */

struct money {
	struct expense spent;
	int64_t claimed; /* micro-dollars: by calls under way, at most */
};
/* Of today (UTC); agent NULL: of all of the owner's. */
struct money engine_money_of_day(const struct engine *en, const char *owner, const char *agent);
/* What a running turn has reserved; 0 when it does not run. */
int64_t engine_claimed(const struct engine *en, const char *session);
/* Each agent that cost the owner something today, once. */
typedef void (*engine_agent_fn)(void *arg, const char *agent);
void engine_each_agent(const struct engine *en, const char *owner, engine_agent_fn fn, void *arg);

/* ---- vectors ---- */

struct embed_spec {
	struct str owner, agent; /* who pays */
	struct str model; /* provider/model; empty: models.embedding */
	const struct str *texts; /* copied */
	size_t n;
	int64_t dimensions; /* 0: the model's own */
	bool is_query; /* what is searched with, not for */
};
struct embed_answer {
	const char *model;
	const float *values; /* n rows of `dimensions` */
	size_t n, dimensions;
	int64_t input_tokens, cost_microusd;
};
/* Exactly one of answer and e is set; both are borrowed. */
typedef void (*engine_embed_fn)(void *arg, const struct embed_answer *answer, const struct err *e);
/* Retried, and answered when its cost is durable. done comes later, never inside the call; not at all when the engine is
 * closed before. An error: nothing was asked, and done does not come. */
int engine_embed(struct engine *en, const struct embed_spec *spec, engine_embed_fn done, void *arg,
	struct err *e) MUST_USE;

/* ---- sessions ---- */

struct session_spec {
	struct str owner, name, agent, workspace; /* workspace: host directory */
	enum mode mode;
};
/* e is NULL on success; session, turn and seq are then valid. */
typedef void (*engine_done_fn)(void *arg, const char *session, const char *turn, uint64_t seq, const struct err *e);
/* Gives the id at once, so that a turn may be submitted right behind it: the log keeps the order. done (may be NULL) runs
 * when it is durable. An error: the workspace's configuration is not valid, and nothing was created. */
int engine_session_create(struct engine *en, const struct session_spec *spec, struct id *out, engine_done_fn done,
	void *arg, struct err *e) MUST_USE;
/* The owner of a session that is in memory, else NULL. Borrowed for this pass of the loop. */
const char *engine_session_owner(const struct engine *en, const char *session);
/* Sessions in memory, and turns that run or wait. */
void engine_counts(const struct engine *en, size_t *sessions, size_t *turns);
/* Cancels its turns, kills its cell, then removes its rows and files. */
void engine_session_delete(struct engine *en, const char *session, engine_done_fn done, void *arg);

/* ---- turns ---- */

struct turn_spec {
	const char *session;
	const char *turn; /* id that the client made and that is free, or NULL */
	struct str text;
	struct str model; /* empty: the configuration's */
	struct str effort; /* of reasoning; empty: the configuration's */
	struct str schema; /* JSON Schema that the final answer must match; empty: none */
	struct str attachments; /* JSON list of what user.message says of files, their blobs found; empty: none */
	int mode; /* enum mode, or -1: the session's */
	bool yes; /* ask becomes allow inside the mode */
};
/* Whether a message fits into its event, where some characters take six bytes. */
int engine_check_text(struct str text, struct err *e) MUST_USE;
/* Acknowledged by done when the message is durable: as a running turn, or queued behind the one that runs. */
void engine_submit(struct engine *en, const struct turn_spec *spec, engine_done_fn done, void *arg);
/* ERR_UNSUPPORTED, with models that do, when the model does not take this file. What no model takes is for commands: it is taken
 * where they are on offer. */
int engine_model_takes(struct engine *en, const struct model_info *m, struct str name, const struct media *md,
	struct err *e) MUST_USE;
/* Loads a session and takes up what is open in it; done gives the open turn, ERR_NOT_FOUND when there is none. */
void engine_continue(struct engine *en, const char *session, engine_done_fn done, void *arg);
/* What the next request holds, as a JSON object. text: as if this message came next (empty: the conversation as it
 * stands); model: with this one (empty: that of the turn in progress, else the configuration's). */
typedef void (*engine_text_fn)(void *arg, struct str json, const struct err *e);
void engine_context(struct engine *en, const char *session, struct str text, struct str model, engine_text_fn done,
	void *arg);
/* by: who, for the log. Acknowledged when the wish is durable; ERR_NOT_FOUND: no such turn is open in the session. */
void engine_cancel(struct engine *en, const char *session, const char *turn, const char *by, engine_done_fn done,
	void *arg);
enum approval_decision { APPROVE_ONCE, APPROVE_ALWAYS, APPROVE_DENY };
/* Acknowledged when the decision is durable; ERR_NOT_FOUND: the approval is not pending. */
void engine_approve(struct engine *en, const char *session, const char *approval, enum approval_decision d,
	const char *by, engine_done_fn done, void *arg);

#endif
