/* SPDX-License-Identifier: MIT
 * Cells, and the client of shelld, the process that makes them. The runtime uses only this header: it attaches the link
 * that the runner gave it, then runs commands and file operations in cells. Everything below shelld (zygote, cell init,
 * Landlock, seccomp, cgroups) is in ithaca-guest and internal.h. The wire side of each call is in docs/internals/sandbox.md. */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include "loop/wire.h"

enum cell_access { CELL_READ_ONLY, CELL_WORKSPACE_WRITE, CELL_HOST };

/* What a cell may see and use. Equal plans share a cell; a changed plan makes a new one. */
struct cell_plan {
	enum cell_access access;
	const char *shared; /* host directory: /shared */
	const char *scratch; /* host directory: /scratch; NULL: none */
	const char *app; /* host directory: /app, read only; NULL: none */
	const char *state; /* host directory of this cell: data/ cache/ runs/ are made in it (/home/agent, its .cache, /run/work) */
	/* Limits of the whole cell. */
	int64_t memory_bytes;
	int64_t processes;
	int64_t cpu_percent; /* 100: one core */
	int64_t file_bytes; /* largest file that may be written */
	int64_t tmp_bytes; /* size of /tmp */
	int64_t disk_bytes; /* of what the state directory holds, and of /scratch; 0: no limit */
	/* Limits of each command. 0: none. */
	int64_t cpu_ms; /* processor time of it and all its children */
	int64_t open_files; /* of one process */
	bool require_limits; /* refuse the cell where memory and processes cannot be enforced by a cgroup */
	bool allow_basic; /* cell-basic may be used where user namespaces are refused */
	bool has_proxy; /* 127.0.0.1:3128 in the cell leads to the broker */
};

/* What is in force here, from shelld's self-test. */
enum cell_level { CELL_NONE, CELL_BASIC, CELL_FULL };
enum limit_level { LIMITS_NONE, LIMITS_SOFT /* rlimits and a watchdog */, LIMITS_CGROUP };
struct sandbox_facts {
	enum cell_level level;
	enum limit_level limits;
	int landlock_abi; /* 0: none */
	int cgroup_version; /* of LIMITS_CGROUP: 1 or 2 */
	bool files_only; /* tier process: no commands, and file operations confined by Landlock */
	char reason[320]; /* why the level is not CELL_FULL, and how to fix it */
	char tier[12]; /* where shelld runs: cell, container, microvm */
	char around[240], around_lacks[240]; /* what a container or a machine adds around all cells, as found inside; what it does not */
};

/* How strong a tier is: process 0, cell (and auto) 1, container 2, microvm 3. */
int sandbox_tier_rank(const char *tier);

struct sandbox;
typedef void (*sandbox_state_fn)(void *arg, bool is_up, const struct sandbox_facts *facts);

struct sandbox *sandbox_new(struct loop *l, sandbox_state_fn fn, void *arg);
void sandbox_free(struct sandbox *sb);
void sandbox_set_files_only(struct sandbox *sb); /* known before shelld has said so */
/* Takes fd, the link to a (new) shelld. A former link is dropped. */
void sandbox_attach(struct sandbox *sb, int fd);
/* As if the link had broken: every call ends with ERR_GONE, now. For the end of a runtime, while those who called are there. */
void sandbox_detach(struct sandbox *sb);
bool sandbox_is_up(const struct sandbox *sb); /* linked and hello received */
bool sandbox_is_coming(const struct sandbox *sb); /* not up yet, but only just being started */
const struct sandbox_facts *sandbox_facts(const struct sandbox *sb);
/* Why tools that act in a cell (execs: those that run commands) are not on offer; NULL: they are. In the first moments of
 * a runtime, before shelld has said what it can, they are: what is called then waits for it. *code (may be NULL): as in
 * status. */
const char *sandbox_withdrawn(const struct sandbox *sb, bool execs, const char **code);

/* The full self-test, for doctor: tries, in a cell of its own that is made by plan and removed after, what a cell promises, with the
 * escape suite (attempt.h). The plan's state directory is removed too. fn is called once; rows are borrowed. e: it could not be
 * tried. */
struct check_spec { /* borrowed for the call */
	const struct cell_plan *plan; /* its limits are made smaller */
	const char *program; /* ithaca-guest: what tries */
	const char *dir; /* of the daemon, no cell may see it: a decoy lies there meanwhile */
	const char *socket; /* of the daemon, that no cell may reach */
};
struct sandbox_check_row {
	const char *name, *text; /* what a whole cell promises */
	bool holds;
};
typedef void (*sandbox_check_fn)(void *arg, const struct sandbox_check_row *rows, size_t n, const struct err *e);
int sandbox_check(struct sandbox *sb, const struct check_spec *spec, sandbox_check_fn fn, void *arg, struct err *e) MUST_USE;

/* What sandbox_check looks for, without looking: row i; false: there are no more. */
bool sandbox_check_text(size_t i, const char **name, const char **text);

/* What is around the calling process, by f->tier, which is set: around and around_lacks. */
void around_find(struct sandbox_facts *f);

/* ---- what a cell sees, and why not ---- */

#define SANDBOX_TEXT_MAX 240
/* The wall that keeps what a cell of this plan runs from reading or writing a path, absolute and clean, as the cell sees it: a
 * word (mode: the mode; system: every cell; outside: it is not there) and in text the same in words, with what to do; NULL:
 * none does. Links are not looked at. */
const char *sandbox_wall(const struct cell_plan *p, const char *path, bool is_write, char text[SANDBOX_TEXT_MAX]);
const char *sandbox_place(const char *path); /* what is there; NULL: not in a cell */
const char *sandbox_writable(const struct cell_plan *p, char out[SANDBOX_TEXT_MAX]); /* "/shared /tmp ..." */

/* Takes from the calling thread, and from those it starts, the file system but for the system's own directories (to read)
 * and the directories named, a list that ends with NULL. For the runtime in tier process; needs no_new_privs. */
int sandbox_confine_self(const char *const *writable, struct err *e) MUST_USE;

/* ---- commands ---- */

struct exec_request {
	const char *cell; /* key: one per session and agent */
	const struct cell_plan *plan; /* borrowed for the call */
	const char *run; /* a key: which directory /run/work is, one per turn; NULL: "main" */
	const char *effect; /* the key under which shelld spools: the same key never runs twice */
	struct str command; /* for /bin/sh -c */
	const char *cwd; /* as the cell sees it; NULL: /shared */
	const char *const *env; /* NULL-terminated NAME=VALUE additions; may be NULL */
	int64_t timeout_ms;
	int64_t output_max; /* bytes kept of its output; the rest is counted and dropped */
	bool background; /* on_status comes when it began; then poll with sandbox_job */
	bool only_resume; /* after a crash: attach to a run of this key, never start one */
	bool input; /* exec_call_input will be used; otherwise its standard input is empty */
	/* On a terminal of its own of this size (0: none); an empty command is an interactive shell. Output comes on channel
	 * 1; an empty input is ^D. */
	int rows, columns;
	/* Output is not kept but goes to this call alone, and the command is held back while that does not consume it. A call
	 * that attaches later sees what comes from then on. */
	bool live;
	/* In the persistent shell of the cell with this name (as a key; NULL: none), which is started if need be: it keeps its
	 * directory and variables. Runs on a terminal; one command at a time. cwd NULL: where the shell is. env is for a shell
	 * that is started. Not with background, input, live or rows. A timeout or a kill interrupts the command and keeps the
	 * shell, if that is enough. */
	const char *shell;
};
enum exec_state {
	EXEC_DONE, /* ended: exit, signal, ... are set */
	EXEC_RUNNING, /* a background job that has begun */
	EXEC_NOT_BEGUN, /* only_resume: it never started, so it is safe to run it */
	EXEC_UNKNOWN, /* it began, and nobody can know how it ended */
};
struct exec_status {
	enum exec_state state;
	int exit_code; /* valid when signal is 0 */
	int signal;
	bool timed_out, killed; /* killed: on request */
	bool out_of_memory, out_of_processes; /* killed for it, with the other commands of the cell where limits are soft */
	bool out_of_disk; /* killed, with the other commands of the cell, for what the cell has on the disk */
	bool out_of_cpu; /* cpu_ms of the plan is used up */
	int64_t duration_ms;
	int64_t output_bytes; /* that it wrote */
	int64_t kept_bytes; /* that can be read with sandbox_spool */
	/* What the command and its children used; not known of one whose init had to be killed. */
	char cwd[512]; /* of a persistent shell, after the command; empty: not known */
	bool shell_ended; /* with the command, so that the next one begins anew */
	bool has_outbox; /* something was in the outbox of its run when it ended */
	bool has_use;
	int64_t user_ms, system_ms;
	int64_t memory_bytes; /* largest resident set of one process */
	int64_t written_bytes; /* to files on disks */
};
/* From the head of an answer; 0, or -1 when that has no state. */
int exec_status_read(const struct node *head, struct exec_status *st) MUST_USE;
struct exec_handler {
	/* Live output, in order. ch: 1 standard output, 2 standard error. offset: of these bytes in the whole output; after
	 * a resume output starts again at 0. */
	void (*on_output)(void *arg, int ch, int64_t offset, struct str bytes);
	/* Exactly one of these two ends the call. ERR_GONE: the link broke; issue it again with only_resume. */
	void (*on_status)(void *arg, const struct exec_status *st);
	void (*on_fail)(void *arg, const struct err *e);
};
struct exec_call;
int sandbox_exec(struct sandbox *sb, const struct exec_request *r, const struct exec_handler *h, void *arg,
	struct exec_call **out, struct err *e) MUST_USE;
/* SIGKILLs the whole tree; on_status still comes (killed). */
void exec_call_kill(struct exec_call *c);
/* No callbacks any more; the command goes on. */
void exec_call_forget(struct exec_call *c);
/* Empty: the end of its input. There is no credit for input: what is more than 1 MiB ahead of the command is dropped, and logged. */
void exec_call_input(struct exec_call *c, struct str bytes);
/* To what runs in the foreground of its terminal, or to its process group. A signal of exec_signal_name. */
void exec_call_signal(struct exec_call *c, int signal);
void exec_call_resize(struct exec_call *c, int rows, int columns);
/* The signals that can be sent: "INT" and so on; NULL and 0 for any other. */
const char *exec_signal_name(int signal);
int exec_signal_parse(struct str name);

/* Makes the cell ahead of its first use, while the model still thinks, and what a command of that run (NULL: nothing is known)
 * will need. No answer: a failure shows at the first use. */
void sandbox_warm(struct sandbox *sb, const char *cell, const struct cell_plan *plan, const char *run);

/* ---- requests with one answer ---- */

/* head and tail are borrowed for the call; e is NULL on success. */
typedef void (*sandbox_reply_fn)(void *arg, const struct node *head, struct str tail, const struct err *e);

/* A model names effects, so each of these three says for which cell it asks: what began in another one is
 * ERR_NOT_FOUND. */
/* Kept output of an exec: n bytes from offset. Head: {offset, kept_bytes, is_end}. */
int sandbox_spool(struct sandbox *sb, const char *cell, const char *effect, int64_t offset, int64_t n,
	sandbox_reply_fn fn, void *arg, struct err *e) MUST_USE;
/* State of a background job. Head: what exec_status_read reads. */
int sandbox_job(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg,
	struct err *e) MUST_USE;
int sandbox_job_kill(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg,
	struct err *e) MUST_USE;
/* Kills the cell (SIGKILL to pid 1 of its namespace) and, with forget, removes its spool and state directory. */
int sandbox_cell_close(struct sandbox *sb, const char *cell, bool forget, sandbox_reply_fn fn, void *arg,
	struct err *e) MUST_USE;
/* Drops the spool of one effect. */
void sandbox_effect_forget(struct sandbox *sb, const char *effect);

/* File operations, run by a confined child inside the cell. Paths are as the cell sees them; relative ones are below
 * /shared. Every operation refuses anything but regular files and directories, never follows the last symlink of a
 * path it writes, and writes atomically (temporary file, fsync, rename).
 *   op       parameters                                       answer head                          tail
 *   read     path, offset, n (bytes) or line, lines           size, offset, n, line, lines, is_end, sha256, binary  content
 *   write    path, mkdirs; tail: content                      size, sha256, existed
 *   edit     path, old, new, all, expect (sha256 or ""); dry  sha256_before, sha256, replacements, line
 *   get      path, offset, n; below                           size, stamp, is_end                  a part
 *   put      path, offset, last; below; tail: a part          size
 *   list     path, depth, max, media; below                   entries[{name, type, size, mtime_ms, media}], truncated
 *   glob     path, pattern, max                               paths[], truncated
 *   grep     path, pattern (ERE), glob, ignore_case, context, max   matches[{path, line, text}], files, truncated
 *   move     path, to, replace                                (none)
 *   delete   path, recursive                                  removed
 *   stat     path, hash                                       exists, type, size, mtime_ms, mode, sha256 */
/* below: a directory that path is taken from, and no link in path is followed. get and put are for files of /run/work, in parts:
 * the stamp tells that a file is another one; what is put is there, and read-only, with the last part. */
struct file_request {
	const char *cell;
	const struct cell_plan *plan;
	const char *run; /* as in exec_request */
	const char *op;
	struct str params; /* JSON object text with the parameters of the row above */
	struct str content; /* tail */
};
int sandbox_file(struct sandbox *sb, const struct file_request *r, sandbox_reply_fn fn, void *arg,
	struct err *e) MUST_USE;

#endif
