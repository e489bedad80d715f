/* SPDX-License-Identifier: MIT
 * What the files of shelld share: the process itself, its cells and its jobs (commands and file operations). Cells and
 * jobs are found by key, never by pointers kept across a wait of someone else. */
#ifndef SANDBOX_SHELLD_H
#define SANDBOX_SHELLD_H

#include <sys/stat.h>
#include "loop/loop.h"
#include "loop/wire.h"
#include "sandbox/cgroup.h"
#include "sandbox/disk.h"
#include "sandbox/door.h"
#include "sandbox/spool.h"

/* A real path that no cell sees, and what it led to when shelld began; ino 0: nothing. */
struct hidden {
	const char *path;
	dev_t dev;
	ino_t ino;
};

/* What the runner allows this shelld, from BOOT. Strings live in shelld's arena. */
struct ceiling {
	const char *run_dir, *spool_dir;
	const char *state_root; /* plan.state must lie below it; NULL: anywhere */
	const char *home; /* ITHACA_HOME: hidden, but a directory in it that is not the daemon's may be a workspace */
	struct hidden hide[HIDE_MAX];
	size_t hide_n;
	enum cell_access mode_max;
	bool allow_basic;
	bool files_only; /* tier process: no commands, and every cell is a basic one */
	int64_t orphan_ms;
	const char *tier; /* where this shelld runs */
	const char *no_container; /* why tier auto is not there instead; empty: it did not try */
};

/* Requests of the runtime that are answered later. */
struct waiter {
	uint64_t id;
	struct waiter *next;
};
int waiter_add(struct waiter **list, uint64_t id, struct err *e) MUST_USE; /* ERR_LIMIT */
void waiters_free(struct waiter **list);

/* Orders that a socket did not take yet. */
struct packet {
	struct packet *next;
	struct order o; /* texts point into mem */
	char *mem;
};
struct outbox {
	int sock;
	struct watch *watch;
	struct packet *head, **tail;
};
void outbox_init(struct outbox *b, int sock);
/* Takes the descriptors of *o in any case. An order for a dead socket is dropped: its sockets tell by their end. */
void outbox_post(struct outbox *b, struct order *o);
void outbox_flush(struct outbox *b);
void outbox_fini(struct outbox *b);

#define SHELLD_CHUNK 65536

/* A cell that waits for a plan. */
struct spare {
	struct cell *cell; /* in cells; NULL: there is none */
	struct timer *timer;
	struct timespec etc; /* when the host's /etc last changed as it was asked for */
	int mounts; /* tells of changes of the host's mounts */
	uint64_t system; /* a digest of those that a root shows */
	uid_t uid; /* whose the next one will be */
	gid_t gid;
	bool has_trees;
};

struct cell;
struct job;
struct shell;
struct file_job;
struct closing;
struct forward;
struct cleaner;

struct shelld {
	struct loop *l;
	int zygote_sock, zygote_pidfd;
	struct outbox zygote;
	struct wire *runner, *runtime, *broker;
	uint64_t exec_id_max; /* of this runtime */
	struct cleaner *cleaner; /* NULL: none */
	int listen_fd, adopter; /* adopter: a new runner that waits for the end of the old */
	struct stat listen_stat; /* of the socket's file: only that one is ours to remove */
	struct watch *listen_watch, *zygote_dead;
	struct door *door; /* NULL: links come by descriptor 3 and by message */
	struct signal_watch *term;
	struct arena *arena;
	struct ceiling ceiling;
	bool is_booted, has_facts, is_stopping;
	bool owes_hello; /* to the runtime: it is new, or facts are. Until nothing of one before it can change a file any more */
	struct sandbox_facts facts;
	struct spool spool;
	struct cgroups cgroups;
	struct cell *cells;
	struct spare spare;
	struct job *jobs;
	struct shell *shells;
	struct file_job *file_jobs;
	struct closing *closings;
	size_t forwards_n; /* of all cells */
	bool is_short; /* a connection waits because there are too few descriptors */
	uint32_t next_cell;
	struct timer *orphan, *stop_timer, *adopt_timer, *sweep, *quiet;
	int status; /* to exit with */
	char chunk[SHELLD_CHUNK]; /* for one read or write at a time */
};

/* ---- cells (cells.c) ---- */

enum cell_state { CELL_MAKING, CELL_READY, CELL_DEAD };

/* An exec init that waits for a command. */
struct standby {
	int control, pidfd; /* -1: there is none */
	bool is_ready, is_wanted; /* one is to be made when it is quiet */
	char run[CELL_KEY_MAX + 1]; /* whose directory it has as /run/work */
};

struct cell {
	struct shelld *d;
	struct cell *next;
	char key[CELL_KEY_MAX + 1];
	uint32_t id;
	enum cell_state state;
	struct err why; /* CELL_DEAD, or why it is about to be */
	bool is_retired; /* a newer plan took the key; it ends with its last job */
	bool is_probe; /* the self-test */
	bool was_ready; /* a spare: may be taken */
	enum cell_kind kind;
	struct arena *arena;
	struct cell_plan plan;
	struct str plan_text;
	int sock, pidfd;
	pid_t pid;
	struct outbox out;
	struct cgroup group;
	bool has_group;
	size_t jobs_n; /* with shells, and commands in them */
	size_t shells_n;
	struct waiter *spawned;
	struct timer *grave, *watchdog;
	int proxy_fd; /* valid with its watch: connections to the proxy inside the cell */
	struct watch *proxy_watch;
	struct forward *forwards;
	size_t forwards_n;
	int64_t used_at_ms;
	uid_t uid; /* of its directories on the host */
	gid_t gid;
	bool has_trees; /* its directories came to it as detached trees */
	char run[CELL_KEY_MAX + 1]; /* the last one that it was asked for */
	struct disk disks[DISK_COUNT];
	struct {
		dev_t dev;
		ino_t ino;
	} seen[BIND_APP + 1]; /* what the paths of the plan led to when the cell was made; ino 0: it has none */
	struct standby standby;
};

int cell_get(struct shelld *d, struct str key, const struct node *plan, struct cell **out, struct err *e) MUST_USE;
int64_t cell_processes_rlimit(const struct cell *c); /* for one command; 0: none */
struct cell *cell_by_id(struct shelld *d, uint32_t id);
void cell_post(struct cell *c, struct order *o);
void cell_read(struct cell *c); /* takes what it reported by now */
/* Makes the directory of the run that m is for, if need be; *run is its name, borrowed from c. */
int cell_run(struct cell *c, const struct node *head, struct str *run, struct err *e) MUST_USE;
int cell_room(const struct cell *c, struct err *e) MUST_USE; /* for one more command or file operation */
void cell_job_begins(struct cell *c);
void cell_job_ends(struct cell *c);
void cell_kill(struct cell *c);
void zygote_read(struct shelld *d);
void cells_waiters_drop(struct shelld *d);
struct err cell_why(const struct cell *c); /* why nothing came of what it was asked for, when it ended */
/* One that was started is linked; one that was not is freed by the caller, with its arena. */
struct cell *cell_new(struct shelld *d, struct str key);
/* A socket to the cell, and its group: the descriptors go into *o. On failure c owns neither. */
int cell_open(struct cell *c, struct order *o, struct err *e) MUST_USE;
int cell_start(struct cell *c, struct err *e) MUST_USE;
void cell_link(struct cell *c);

/* ---- the next cell (spare.c) ---- */

void spare_init(struct shelld *d);
void spare_want(struct shelld *d); /* a cell may be needed, but not at once */
/* The spare, if c can become it: then it is no longer the spare, and has the limits of c's plan. Its user, gid, plan and has_trees
 * count. NULL: there is none that fits. */
struct cell *spare_take(struct cell *c);

/* ---- around a command (cell_env.c) ---- */

/* NULL-terminated environment of a command, as NUL-terminated entries: ours, then additions over it. */
int cell_env(const struct cell *c, struct str additions, struct buf *out, struct err *e) MUST_USE;
/* The working directory as a command of this cell must see it. */
const char *cell_cwd(const struct cell *c, struct arena *a, struct str cwd);

/* ---- the end of a key (cell_close.c) ---- */

int cell_close(struct shelld *d, struct str key, bool forget, uint64_t id, struct err *e) MUST_USE;
void closings_check(struct shelld *d); /* a cell is gone */

/* ---- what can be made here (selftest.c) ---- */

void cells_probe(struct shelld *d); /* starts the self-test; shelld_facts follows */
void probe_done(struct cell *c); /* the cell of the self-test ended */
/* A cell was refused although the self-test had made one: it may be the plan, or what was found out is true no more. */
void probe_again(struct shelld *d);

/* ---- exec inits made ahead (standby.c) ---- */

void standby_init(struct standby *s);
void standby_drop(struct standby *s);
void standby_want(struct cell *c); /* the cell was used, or will be soon */
/* Gives the order, which has no control, to the one that waits for that run. True: *control and
 * *pidfd are its. */
bool standby_send(struct cell *c, const struct order *o, int *control, int *pidfd);
/* Makes those that are wanted and ends those that are not. True: there are some. */
bool standbys_tend(struct shelld *d);

/* ---- the root of trouble: paths of a plan (paths.c) ---- */

/* Opens, makes and checks the directories of a plan and fills the texts and descriptors of a cell order. */
int plan_open(const struct ceiling *k, const struct cell_plan *p, enum cell_kind kind, struct arena *a, struct order *o,
	struct err *e) MUST_USE;
/* Removes what cells keep in a state directory, then the directory itself if it is empty. Never follows a link. */
void state_remove(const char *state);

#define RUNS_NAME "runs"
#define TMP_NAME  "tmp" /* TMPDIR of a cell that has no mounts of its own */
/* The directories of a run, below runs/ of a state directory. */
int run_make(const char *state, const char *run, uid_t uid, gid_t gid, struct err *e) MUST_USE;
/* Whether something is in this directory of a run. */
bool run_has(const char *state, const char *run, const char *dir);
/* Removes the oldest beyond RUNS_KEPT, but not the current one. For a pool thread. */
void runs_prune(const char *state, const char *current);

/* ---- jobs (job.c, filejob.c) ---- */

int job_exec(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
void job_input(struct shelld *d, const struct wire_msg *m);
void job_resize(struct shelld *d, const struct wire_msg *m);
int job_signal(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
int job_kill(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
int job_spool(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
int job_forget(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
void jobs_runtime_gone(struct shelld *d);
enum kill_why { KILL_ASKED, KILL_MEMORY, KILL_PROCESSES, KILL_DISK };
void jobs_kill_cell(struct cell *c, enum kill_why why);
void shells_end(struct cell *c, bool also_busy); /* shell.c */
int file_begin(struct shelld *d, const struct wire_msg *m, struct err *e) MUST_USE;
void files_runtime_gone(struct shelld *d);
const struct file_job *file_next(const struct file_job *f);

/* ---- the way out (forward.c) ---- */

void forward_listen(struct cell *c, int fd); /* takes fd: listens inside the cell */
void forward_close(struct cell *c); /* the cell ends, or its way out does */
void forward_again(struct shelld *d); /* there may be descriptors again */
void forward_broker(struct shelld *d, int fd); /* takes fd: the link to a (new) broker */

/* ---- shelld.c ---- */

void shelld_runtime(struct shelld *d, int fd); /* a link to a new runtime; the old one is dropped */
void shelld_facts(struct shelld *d); /* facts are known: tell everyone */
void shelld_hello(struct shelld *d); /* if it is due */
/* Whether there are descriptors for one more command, file operation, cell or connection, and all that it will need later: what
 * was begun must never lose the one by which it is ended. ERR_BUSY */
int shelld_room(const struct shelld *d, struct err *e) MUST_USE;
void shelld_quiet(struct shelld *d); /* soon, when nobody waits: get ready for the next command */
void shelld_progress(struct shelld *d); /* something ended: a stop may be complete */
/* How it is reached: by the link runner_fd; or, when that is -1, by whoever has the token and connects to listen_fd. */
struct shelld_links {
	int runner_fd, listen_fd;
	const char *token; /* copied */
};
int shelld_main(const struct shelld_links *links, int zygote_sock, int zygote_pidfd);

#endif
