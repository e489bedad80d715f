/* SPDX-License-Identifier: MIT
 * What the files of this room share: the session that is active, the run of a turn, and the steps of the driver. */
#ifndef AGENT_INTERNAL_H
#define AGENT_INTERNAL_H

#include "agent/agent.h"

struct run;
struct active;
struct breaker;

/* What a model call that is under way may cost at most. All zero: nothing. */
struct claim {
	struct claim *next;
	const struct run *r; /* NULL: of no turn */
	const char *owner, *agent; /* borrowed as long as it is claimed */
	int64_t microusd;
};

/* A message that waits for its turn. */
struct queued {
	struct queued *next;
	char turn[ID_SIZE];
	char *text, *model, *effort, *schema; /* the last two: NULL when not said */
	size_t text_n; /* the text may hold NUL */
	char *attachments; /* JSON list; NULL: none */
	int mode;
	bool yes;
	bool is_logged; /* turn.queued is in the log */
	engine_done_fn done; /* until acknowledged */
	void *arg;
};

/* Called when a session has been read from the log, or could not be. */
typedef void (*session_ready_fn)(struct engine *en, struct active *s, void *arg, const struct err *e);

struct active {
	struct engine *en;
	struct active *next; /* of its hash chain */
	char id[ID_SIZE];
	char *owner, *agent, *workspace;
	enum mode mode;
	struct config *config; /* narrowed by the workspace's file */
	struct policy *policy;
	struct transcript *tr;
	struct media_held *media; /* bytes of files, while a turn works; NULL: none */
	struct loading *loading; /* while it is read */
	struct run *run;
	char recovered[ID_SIZE]; /* the turn that was open when this was read, until the next one begins: a client may want it */
	struct queued *queue;
	char **notices; /* to be told in the next turn: what the workspace's file may not set */
	size_t notices_n, notices_cap;
	char **always; /* rules that the user allowed for this session */
	size_t always_n, always_cap;
	char cell[ID_SIZE + 8];
	char *cell_state; /* host directory */
	int64_t spent_microusd; /* by its turns that have ended */
	bool has_grant; /* the broker knows where its cell may connect to */
	int64_t egress_bytes, egress_unlogged; /* that its commands moved, and those of them in no outcome yet */
	struct buf egress_notes, egress_facts; /* what was refused, for the next result of a command: text; rows of a JSON list */
	int64_t used_ms; /* loop time of the last use: the least recently used idle one is dropped */
	bool is_closing;
};

/* The run of one turn: its machine, and what is under way for it. Reference-counted, because completions of commits
 * and calls can come after its end. */
struct run {
	int refs;
	struct engine *en;
	struct active *s; /* NULL when the run is over */
	char turn[ID_SIZE];
	struct arena *a;
	struct turn *t;
	struct tool_env env;
	struct model_call *model; /* under way */
	struct effect_call **effects; /* by index of the call; NULL where none is under way */
	size_t effects_n;
	int64_t *output_ends; /* by index of the call: bytes of output that the log had when the turn was taken up */
	size_t output_ends_n;
	struct timer *deadline;
	int64_t attempts; /* model calls of this step so far */
	int64_t failures; /* of them, those that the model's server failed: what `retries` limits */
	size_t model_at; /* in the chain of models: 0 is the turn's own, 1 the first fallback */
	size_t view_bytes_max; /* the server found a longer conversation too long; 0: none was */
	bool is_narrowed; /* in this step */
	bool text_shown; /* of this step: a retry must reset it */
	bool is_begun; /* replayed: the log has the start of an attempt, and not how it ended */
	size_t begun_bytes; /* of its text that the log has */
	bool recovers; /* resumed after a crash in the middle of a model call: the next one is a further attempt */
	bool yes;
	struct outbox *outbox; /* while it is collected */
	struct inbox *inbox; /* while it is filled */
	bool has_inbox; /* it was: what commands did to it since is theirs */
	struct buf inbox_notes; /* what could not be put there, for the next result */
	bool is_warmed; /* its cell was asked for ahead */
	bool has_failed; /* the machine and the log disagree: no further input */
};

/* The tools as a request offers them. */
struct toolset {
	struct tool_schema *schemas;
	const struct tool **tools; /* of the same index */
	size_t n, bytes;
};

struct engine {
	struct engine_parts parts;
	struct active **table;
	size_t table_n, active_n;
	struct toolset toolsets[2]; /* full, small */
	struct arena *a; /* process lifetime: schemas */
	struct buf body; /* of an event that is being written and told at once */
	struct arena *scratch; /* its tree */
	struct scripted *offline; /* open offline models by provider */
	struct guarded *breakers; /* by provider */
	struct purse *purses; /* what ended turns have cost today */
	struct claim *claims;
	struct embedding *embeddings; /* under way */
	engine_degraded_fn degraded; /* NULL: nobody knows */
	void *degraded_arg;
	bool is_stopping; /* no effect starts any more */
};

/* engine.c */
struct active *active_find(struct engine *en, const char *id);
void active_insert(struct active *s);
void active_drop(struct active *s); /* from memory; a run is detached */
void active_idle(struct active *s); /* its run is over or waits: start what is queued */
void engine_changed(struct engine *en);
void engine_egress_lost(struct engine *en); /* nothing more will be told of what was refused so far */
/* Calls fn for the run of every session that has one. */
typedef void (*run_fn)(void *arg, const struct run *r);
void engine_each_run(const struct engine *en, run_fn fn, void *arg);
void queued_free(struct queued *q);
/* Whether a turn of this id runs or waits: two calls with one id may both have found none in the store. */
bool engine_has_turn(const struct engine *en, const char *turn);
/* The offline model of a provider, opened once. */
int engine_offline(struct engine *en, const struct model_info *m, const struct offline **out, struct err *e) MUST_USE;

/* submit.c */
bool forget_queued(struct active *s, const char *turn); /* whether it was there */
/* Who is told when what he asked for is in the log. */
struct ack {
	struct engine *en;
	char session[ID_SIZE], turn[ID_SIZE];
	engine_done_fn done;
	void *arg;
};

/* load.c: reads a session from the log; ready is called once, maybe at once. */
void active_load(struct engine *en, const char *id, session_ready_fn ready, void *arg);
/* For who only wants it read. */
void active_loaded(struct engine *en, struct active *s, void *arg, const struct err *e);
int active_create(struct engine *en, const char *id, const struct session_spec *spec, struct active **out,
	struct err *e) MUST_USE;

/* driver.c */
struct run *run_new(struct active *s, const char *turn);
struct run *run_ref(struct run *r);
void run_unref(struct run *r);
/* Logs an input, steps the machine, makes all of it durable, then starts the effects. body is JSON. */
void run_input(struct run *r, enum event_kind kind, struct str body);
/* As run_input, for a run that has not ended; done (may be NULL) is called when all of it is durable. */
void run_input_acked(struct run *r, enum event_kind kind, struct str body, engine_done_fn done, void *arg);
/* As run_input for the first input of a turn: with the message or instead of a queued one. */
void run_begin(struct run *r, struct queued *q);
/* Feeds one event of the log, without effects: recovery. */
int run_replay(struct run *r, enum event_kind kind, const struct node *body, int64_t time_ms, struct err *e);
/* Ends a turn that the machine cannot go on with: the log says so, and the session is read again without it. */
void run_fail(struct run *r, const struct err *why);
/* Starts what the machine's state says is left to do. */
void run_resume(struct run *r);
/* The approval that is pending has expired. */
void run_expire(struct run *r);
void run_stop(struct run *r, const char *why, const char *code, const char *message);
void run_cancel(struct run *r, const char *by, engine_done_fn done, void *arg);
/* Takes the run off its session and stops what is under way; the log still has its turn open. */
void run_detach(struct run *r);
/* To live subscribers: nothing more of this session's turns comes from here. */
void active_tell_suspended(struct active *s, const struct err *e);
/* The run cannot go on in this process (the store failed): tells live subscribers and drops it; the log still has it
 * open, so it is taken up again later. */
void run_suspend(struct run *r, const struct err *e);

/* What turn.started says of a turn that this message begins. */
void write_options(struct run *r, const struct queued *q, struct json *j);
/* Fills r->env from the session and the options of the turn. */
void run_env(struct run *r);
/* Body of effect.intent for a call. */
void intent_body(struct run *r, size_t index, struct str probe, struct buf *b);

/* admit.c */
void admit_call(struct run *r, size_t index, struct arena *a, struct buf *body);
void always_add(struct active *s, struct str rule);

/* model.c */
void model_start(struct run *r);
void model_broker_up(struct run *r);
void model_sandbox_up(struct run *r);
/* Failures of the model that is on, after a logged model.retry. */
int64_t retry_failures(const struct node *body, int64_t before);

/* model_request.c: the chain of models of a turn. */
struct str run_model(const struct run *r); /* that is on, as provider/model */
bool run_next_model(struct run *r); /* false: there is none */
void run_set_model(struct run *r, struct str name); /* as the log says */

/* links.c: breakers of providers and open offline models */
struct breaker *engine_breaker(struct engine *en, struct str provider);
void engine_breaker_changed(struct engine *en, struct str provider);
void engine_links_free(struct engine *en);

/* embed.c */
void embeddings_free(struct engine *en);

/* tools.c */
void toolsets_make(struct engine *en);
/* Why a run is not offered this tool now; NULL: it is. *code (may be NULL) is the reason's, as in status. */
const char *tool_withdrawn(const struct run *r, const struct tool *tool, const char **code);

/* money.c */
int money_open(struct engine *en, struct err *e) MUST_USE; /* what was spent today, from the store */
void money_close(struct engine *en);
struct money money_of_turn(const struct engine *en, const struct run *r);
struct spender {
	const struct run *r; /* NULL: none */
	const char *owner, *agent;
	const struct config *config;
};
/* What the strictest cap leaves; cap: its name below limits. */
int64_t money_left(struct engine *en, const struct spender *w, const char **cap);
void money_claim(struct engine *en, struct claim *c, const struct spender *w, int64_t microusd);
void money_release(struct engine *en, struct claim *c); /* also when nothing is claimed */
/* Work is over, or goes: what it cost counts as spent. */
void money_ended(struct engine *en, const char *owner, const char *agent, const struct expense *x);
void money_turn_ended(struct run *r);
/* The durable half, for the same commit. */
void money_project(struct batch *batch, const char *owner, const char *agent, int64_t now_ms, const struct expense *x);
void model_flush(struct run *r); /* logs the text that was shown */
void model_cancel(struct run *r);
/* What the call under way has cost, by estimate; it is to be told with what ends the call now, and only there. */
int64_t model_lost(struct run *r);
void write_lost(struct json *j, int64_t microusd); /* as cost_microusd and estimated_microusd; nothing when it is 0 */

/* media.c */
void media_forget(struct active *s); /* frees the bytes that a session holds */
/* In the commit that names them: the session needs these blobs from now on. attachments may be NULL. */
void media_keep(struct batch *batch, const struct active *s, const char *attachments);

/* effect.c */
void effect_prepare(struct run *r, size_t index);
void effect_run(struct run *r, size_t index);
void effect_recover(struct run *r, size_t index);
void effects_cancel(struct run *r, bool is_detached);
void effects_resume(struct run *r); /* the sandbox is back */
/* What the broker refused this effect has all been told, or (NULL: each) will not be. */
void effects_told(struct run *r, const char *effect);
void effect_replay_output(struct run *r, const struct node *body); /* tool.partial */

/* inbox.c */
/* Before the first call of a run begins. 0: the inbox is there; 1: it is being filled, then effects_resume comes; ERR_GONE: the
 * sandbox is away. */
int inbox_fill(struct run *r, struct err *e) MUST_USE;

/* outbox.c */
/* Keeps what is in the outbox of the run as blobs, and says so: turn.files is the next input. */
void outbox_collect(struct run *r);
void outbox_resume(struct run *r); /* the sandbox is back */
void outbox_detach(struct run *r); /* nothing of it keeps the loop */

/* egress.c */
void egress_grant(struct active *s); /* tells the broker what the session's cell may reach; what was refused is told anew */
void egress_withdraw(struct active *s);
void egress_broker_up(struct engine *en, struct active *s);
void egress_told(void *arg, const struct node *head); /* arg: the engine; head: of EGRESS, NULL: the link is lost */
/* The facts of a command, an object or empty, and what was refused: told once. met_it: it failed behind a refusal. */
struct str egress_facts(struct active *s, bool met_it, struct str facts, struct arena *a);
const char *egress_text(const struct active *s, struct arena *a);

/* prompt.c */
/* schema: of the final answer, or empty. */
struct str prompt_system(const struct run *r, bool is_small, struct str schema, struct arena *a);

#endif
