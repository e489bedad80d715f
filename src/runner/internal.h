/* SPDX-License-Identifier: MIT
 * What the files of the runner share. */
#ifndef RUNNER_INTERNAL_H
#define RUNNER_INTERNAL_H

#include "base/inputs.h"
#include "base/seal.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "loop/wire.h"
#include "runner/runner.h"

/* The configuration, and what it was made from. */
struct settings {
	struct config *config;
	char *config_file; /* NULL: none in use */
	char salt[INPUTS_SALT_SIZE], files_digest[SHA256_HEX];
	struct arena *a;
	const char *files[3]; /* system, home, user */
	const char *named, *set; /* --config and --set, as given; NULL: not */
	enum { RISE_NOT, RISE_TRIED, RISE_FAILED } rise; /* of tier auto, from cell to container */
	char no_container[160]; /* RISE_FAILED: why */
};
int settings_load(struct settings *s, const char *home, const struct node *opts, struct err *e) MUST_USE;
/* Writes run/inputs for a private runner, so that a command can tell whether it would start one from the same; a runner
 * that was started by itself has none. */
int settings_note(const struct settings *s, const char *home, bool is_private, struct err *e) MUST_USE;
void settings_forget(const char *home); /* removes the note */
const char *settings_tier(const struct settings *s); /* in force; static */
bool settings_needs_guest(const struct settings *s); /* the tier in force has shelld in a sidecar */
bool settings_holds_runtime(const struct settings *s); /* and the runtime in one of its own */
bool settings_has_risen(const struct settings *s); /* tier auto, to the container */
/* Tier auto, and cells cannot be made: the container is to be tried (true), or was (false). */
bool settings_rise(struct settings *s);
bool settings_fall(struct settings *s, const char *why); /* there is no container either: back to the cell, for good */
bool settings_insists(const struct settings *s); /* on cells: the tier cell was named, so a start without them is refused */
void settings_fini(struct settings *s);

/* ---- keys.c ---- */

/* Keys that came with the environment, which no longer has them. */
struct env_keys;
struct env_keys *env_keys_take(const struct config *c);
void env_keys_free(struct env_keys *k); /* NULL is fine */

/* The key of one provider that is no reference; *out is NULL when it has none, owned by the caller, and its first_line
 * is the key. On an error there is one, but it cannot be had. */
int key_resolve(const struct node *settings, const char *home, const struct env_keys *env, struct secret **out,
	struct err *e) MUST_USE;
/* A regular file of at most max bytes that only its owner can read, ours or root's; NULs stand behind its text. */
int private_file_read(const char *path, size_t max, struct secret **out, struct err *e) MUST_USE;
struct str first_line(const struct secret *s); /* trimmed; borrowed */
char *below_home(const char *home, const char *path); /* a relative path is; owned by caller */

/* ---- master.c ---- */

struct masters {
	struct {
		const char *kind; /* "credential", "passphrase", "file" */
		struct secret *seed;
	} v[3];
	size_t n;
	struct err why; /* code set: one that was chosen cannot be had */
};
/* may_ask: a person sits at the terminal. Never fails: without a master key sealed secrets stay closed, nothing else. */
void masters_load(struct masters *m, const char *home, bool may_ask);
void masters_write(const struct masters *m, struct json *j);
void masters_fini(struct masters *m);
/* One line of master.salt: 0 or -1. */
int salt_parse(struct str line, unsigned char salt[SEAL_SALT_SIZE], int64_t *ops, int64_t *mem, struct str *public);

/* Envelopes: what each role is given at its start, and nothing more. */
struct envelope_source {
	struct config *config;
	const char *home;
	const char *config_file; /* NULL: none in use */
	const char *tier; /* in force */
	const char *no_container; /* why tier auto could not rise to it; empty: it did not try */
	bool is_private;
	const struct env_keys *env;
	const struct masters *masters;
};
void envelope_runtime(const struct envelope_source *s, struct json *j);
/* With the keys and the master keys. A key that cannot be had is logged, and calls of that provider say why. */
void envelope_broker(const struct envelope_source *s, struct json *j);
void envelope_shelld(const struct envelope_source *s, struct json *j);

/* ---- leaves.c ---- */

struct runner;
extern const char *const leaves_ours[]; /* in run/, of runner and runtime; ends with NULL */
/* "lock" and "leaves" of shelld's envelope. */
void leaves_write(const char *home, struct json *j);
/* Starts a cleaner of ours, for the tiers in which shelld is not on the host. */
struct cleaner *leaves_watch(const struct runner *r);

/* ---- logfile.c, output.c ---- */

/* A file of logs/ that is put aside by size. A failure is counted, never passed on: logging must not stop the work. */
struct logfile;
struct logfile *logfile_open(const char *path, int64_t max_bytes, int keep);
void logfile_close(struct logfile *f);
void logfile_write(struct logfile *f, struct str line); /* with its newline */
/* For who writes to the descriptor itself: puts the file aside when it has grown too large. */
void logfile_check(struct logfile *f);
int logfile_fd(const struct logfile *f); /* the same for its life; -1: could not be opened */
int logfile_trouble(const struct logfile *f); /* errno of the last write, 0: it worked */

/* The roles' standard output and error, on their way to logs/. */
struct outputs;
struct outputs *outputs_open(struct loop *l, const char *home, const struct config *c);
void outputs_close(struct outputs *o); /* what is in the pipes is written first; NULL is fine */
struct logfile *outputs_file(struct outputs *o, enum role r);
/* The end that the role writes to, owned by caller, or an error code. stream is a literal: "stdout", "stderr". */
int outputs_pipe(struct outputs *o, enum role role, const char *stream, struct err *e) MUST_USE;
/* fd: the end to read, which is taken, of a program that is not ours. */
void outputs_take(struct outputs *o, enum role role, const char *stream, int fd);
int outputs_trouble(const struct outputs *o); /* an errno; 0: every line could be written */

/* ---- notify.c ---- */

void notify(const char *state); /* "READY=1": to the service manager, if there is one */

/* ---- roles.c ---- */

struct process;

/* ---- guest.c ---- */

/* shelld, or the runtime, in a tier above the cell. fn is called once for each start: link is ours, or -1 and e says why. */
struct guest;
typedef void (*guest_fn)(void *arg, int link, const struct err *e);
struct guest *guest_new(struct runner *r, enum role role, guest_fn fn, void *arg);
void guest_start(struct guest *g, const char *tier); /* not while it is busy; what is left of the one before ends first */
const char *guest_container(const struct guest *g); /* its name; "": none runs. NULL is fine */
/* Whether no descriptor reaches what runs, so that other roles take links of their own; NULL is fine. */
bool guest_needs_link(const struct guest *g);
typedef void (*guest_link_fn)(void *arg, enum role who, int link, const struct err *e);
void guest_link(struct guest *g, enum role who, guest_link_fn fn, void *arg); /* makes one, and tells as guest_start does */
bool guest_is_busy(const struct guest *g); /* a start or a link is under way; NULL is fine */
void guest_cancel(struct guest *g); /* the start is to end soon, and without a link; NULL is fine */
void guest_free(struct guest *g); /* ends and removes what runs: may block for seconds. Not while it is busy; NULL is fine */

/* A way to bring a role to life and link it to us. The ways of a role are tried in order: 1 it is linked, WAY_BEGUN it will
 * be, 0 this way is not open here, or an error. */
#define WAY_BEGUN 2
struct way {
	const char *name;
	int (*start)(struct process *p, struct err *e);
};

/* A role that the runner starts. */
struct process {
	struct runner *r;
	enum role role;
	const char *program; /* beside our own executable */
	void (*envelope)(const struct envelope_source *, struct json *);
	const struct way *ways[4]; /* ends with NULL */
	bool holds_lock; /* writes the store: nobody may take over before it has ended too */
	struct child *child; /* NULL: not ours (adopted) or not running */
	struct guest *guest; /* NULL: never needed */
	struct keeper *keeper; /* of a runtime in a container */
	bool waits; /* for the sidecar, to be started after it */
	char stays_out[160]; /* why tier auto could not put it into a container; empty: it did not try */
	const struct way *way; /* that it came by */
	pid_t pid;
	int pidfd; /* of an adopted one; -1: none */
	struct wire *link;
	struct timer *restart, *end; /* to be started again; to be killed when it does not stop */
	struct timer *unanswered; /* of an adopted one, until it answers */
	int64_t started_ms, since_ms; /* monotonic; wall time of its state */
	int failures; /* starts in a row that came to nothing */
	int restarts; /* in all */
	bool is_ready, is_planned /* its end was asked for */;
	char reason[160]; /* why it ended or cannot go on */
};

enum { PROCESSES = 3 };

struct runner {
	struct loop *loop;
	struct settings settings;
	struct env_keys *env;
	struct masters masters;
	struct outputs *outputs;
	struct control *control;
	struct cleaner *cleaner; /* NULL: no guest was ever started */
	char *home, *bin_dir, *rpc_path;
	bool is_private, is_linked /* started by a command: FD_LINK and FD_LOCK are there */, is_stopping, is_idle;
	bool is_stale; /* a private one: ends as soon as it is idle, without waiting for a next command */
	bool was_ready; /* every role has answered */
	bool ends_with_terminal;
	int rpc_fd, lock_fd;
	int64_t started_ms; /* wall time */
	struct process processes[PROCESSES];
	struct wire *client; /* who started us and waits for a word */
	struct timer *idle_timer, *stop_timer;
	struct signal_watch *term, *interrupt, *hangup;
	struct home_watch *home_watch;
	size_t file_jobs; /* of keepers: our end waits for them */
	size_t killed; /* roles that did not stop in time */
	char left[64]; /* their names */
	int status;
};

void roles_open(struct runner *r); /* starts them all */
void roles_close(struct runner *r);
bool roles_running(const struct runner *r);
void roles_stop(struct runner *r); /* the runtime, then the others */
void roles_kill(struct runner *r); /* what has not ended; fills left */
/* Ends one and starts it again, whatever it does. */
void role_restart(struct process *p);
struct process *role_find(struct runner *r, struct str name); /* NULL: there is no such role */
bool role_is_up(const struct process *p);
/* What each is doing, ourselves first. */
size_t roles_health(const struct runner *r, struct role_health *out);

/* ---- runner.c ---- */

void runner_stop(struct runner *r);
void runner_mark_stopped(const struct runner *r); /* by somebody who wants it: clients that wait give up */
char *program_dir(struct err *e); /* where ours lies; owned by caller; NULL: not known */
char *program_path(const char *bin_dir, const char *program); /* beside it or in libexec; owned by caller */
void runner_keep(struct runner *r); /* a private one stays */
void runner_faulted(struct runner *r, struct process *p, const struct err *e);
void runner_idle(struct runner *r, bool is_idle);
/* A role changed: whoever waits is told. */
void runner_changed(struct runner *r);

/* ---- home.c ---- */

/* Whether path leads to the home whose lock is lock_fd: not after it was removed or renamed. */
bool home_is_ours(const char *home, int lock_fd);
void home_unlink(const struct runner *r, const char *path); /* a file of the home, as long as that is ours */
/* fn is called when it may have become another's; NULL: cannot be watched, which was logged. */
struct home_watch;
struct home_watch *home_watch_start(struct loop *l, const char *home, loop_fn fn, void *arg);
void home_watch_close(struct home_watch *w); /* NULL is fine */

/* ---- keeper.c ---- */

/* Serves files of the host to a runtime that does not see them. */
struct keeper;
struct keeper *keeper_open(struct runner *r, int *theirs, struct err *e); /* NULL: e says why */
void keeper_close(struct keeper *k); /* NULL is fine */

/* ---- control.c ---- */

/* run/control.sock: answers by itself, also when the runtime is dead. */
struct control;
int control_open(struct runner *r, struct err *e) MUST_USE;
void control_changed(struct runner *r); /* who waits for a restart may be answered */
void control_close(struct runner *r); /* who asked for the stop is told how it went */

#endif
