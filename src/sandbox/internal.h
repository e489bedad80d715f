/* SPDX-License-Identifier: MIT
 * What the files of ithaca-guest share: orders and reports between shelld, the zygote and cell inits, the confinement
 * of one process, the root of a cell, cgroups and the spool. Processes: shelld has the event loop and forks once, at
 * its start; the zygote makes cell inits; a cell init makes one exec init per command and one child per file
 * operation. Only the last two run foreign code or read foreign data, and both are confined first. */
#ifndef SANDBOX_INTERNAL_H
#define SANDBOX_INTERNAL_H

#include <signal.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/node.h"
#include "sandbox/sandbox.h"

/* ---- limits ---- */

#define ORDER_MAX        (200u * KIB) /* one packet; the kernel's default takes 208 KiB */
#define ORDER_NUMS       9
#define ORDER_TEXTS      8
#define ORDER_FDS        16
#define EXEC_COMMAND_MAX (128u * KIB - 1u) /* what execve takes as one argument */
#define EXEC_ENV_MAX     (60u * KIB)
#define EXEC_ENV_N       512u
#define EXEC_INPUT_MAX   (1u * MIB) /* queued for one command */
#define INPUT_ALL_MAX    (32u * MIB) /* queued for all commands */
#define JOBS_MAX         4096u /* commands at once in all cells */
#define FILE_JOBS_MAX    256u /* file operations at once in all cells: each may hold a whole answer */
#define RUNS_KEPT        16u /* directories of runs of one cell; the oldest go */
#define RUN_DEFAULT      "main"
#define CACHE_NAME       ".cache" /* in the home: where cache/ of the state directory is mounted */
#define STANDBYS_MAX     8u /* exec inits that wait for a command, in all cells; those of the cells used last */
#define STANDBY_MS       60000 /* after the last use of its cell one goes */
#define SHELLS_MAX       8u /* persistent shells in one cell */
#define WAITERS_MAX      256u /* requests that wait for the same end */
#define TERMINAL_MAX     10000 /* rows, and columns */
#define EXEC_RUNS_MAX    4096u /* alternations of the two outputs that a replay keeps apart */
#define CELLS_MAX        1024u
#define CELL_EXECS_MAX   64u /* commands and file operations at once in one cell */
#define CELL_KEY_MAX     64u
#define CLOSINGS_MAX     1024u /* cells that are being closed */
#define HIDE_MAX         16u
#define ANSWER_HEAD_MAX  (WIRE_HEAD_MAX - 8u * KIB) /* of the answer of a file operation, inside a head */
#define FILE_OP_MS       30000 /* a file operation is killed after this */
#define SHELLD_ORPHAN_MS 60000 /* without a runner or a runtime shelld ends after this */
#define CELL_UID         1000 /* inside every cell */

/* ---- words of the link (status.c) ---- */

#define PLAN_PATH_MAX 4096u
int access_parse(struct str s) MUST_USE; /* enum cell_access or -1 */
const char *access_name(enum cell_access access);
const char *level_name(enum cell_level level);
void status_write(struct json *j, const struct exec_status *st); /* keys of an open object */
void facts_write(struct json *j, const struct sandbox_facts *f);
int facts_read(const struct node *n, struct sandbox_facts *f) MUST_USE;
void plan_write(struct json *j, const struct cell_plan *p);
int plan_read(const struct node *n, struct cell_plan *p, struct err *e) MUST_USE; /* strings are borrowed from n */
bool key_valid(struct str s); /* of a cell or an effect: letters, digits, '-', '_', '.', not first '.' */

/* ---- orders: shelld to the zygote and to a cell init; reports: back. Packets of a SOCK_SEQPACKET pair. ---- */

enum order_kind { ORDER_CELL = 1, ORDER_SPARE, ORDER_STANDBY, ORDER_EXEC, ORDER_FILE, ORDER_KIND_END };

/* What is around a command. */
enum cell_kind {
	KIND_FULL, /* namespaces, own root, Landlock, seccomp */
	KIND_BASIC, /* Landlock and seccomp */
	KIND_HOST, /* nothing: danger_full_access */
};

/* ORDER_CELL: fds: one per bind text that is not empty, each a detached tree or (CELL_NUM_TREES is 0) an O_PATH descriptor of
 * what its text must still lead to; then, unless it goes to a spare, the cell's socket and its cgroup.procs files
 * (CELL_NUM_CGROUPS of them). Texts from CELL_TEXT_HIDE on are what must not be seen below the binds.
 * ORDER_SPARE: a cell without a plan, for which it waits: an ORDER_CELL on its socket, with the same numbers for KIND, UID, GID
 * and TREES. fds: a cell's socket and its cgroup.procs files. */
enum { CELL_NUM_KIND, CELL_NUM_ACCESS, CELL_NUM_UID, CELL_NUM_GID, CELL_NUM_CGROUPS, CELL_NUM_TMP, CELL_NUM_FILE,
	CELL_NUM_PROXY, CELL_NUM_TREES };
enum { BIND_SHARED, BIND_SCRATCH, BIND_APP, BIND_HOME, BIND_CACHE /* in the home: after it */, BIND_WORK,
	BIND_TMP /* where a cell has no memory of its own mounted there */, BIND_COUNT };
enum { CELL_TEXT_HIDE = BIND_COUNT /* NUL-terminated entries: a digit of enum BIND_*, then a path below it */ };
/* ORDER_STANDBY, to a cell init: an exec init that waits on control, its one descriptor, for an ORDER_EXEC without control. Of
 * its texts EXEC_TEXT_RUN counts.
 * ORDER_EXEC: fds: stdin, stdout, stderr, control. Numbers: for RLIMIT_DATA and RLIMIT_NPROC (0: a cgroup does it). */
enum { EXEC_TEXT_COMMAND, EXEC_TEXT_CWD, EXEC_TEXT_ENV, EXEC_TEXT_RUN };
enum { EXEC_NUM_DATA, EXEC_NUM_PROCESSES, EXEC_NUM_ROWS /* 0: no terminal */, EXEC_NUM_COLUMNS, EXEC_NUM_CPU_MS, EXEC_NUM_FILES,
	EXEC_NUM_SHELL /* a persistent shell: reads from standard input, has the terminal beside it */ };
/* To an exec init, with the number of the signal that its command shall get as value; 0: end everything and report. It is
 * blocked in cell inits and below, so that none is lost. */
#define EXEC_SIGNAL (SIGRTMIN + 1)
/* ORDER_FILE: fds: request (a memory file: parameters then content), answer (a pipe), control. */
enum { FILE_TEXT_OP, FILE_TEXT_RUN };
enum { FILE_NUM_PARAMS, FILE_NUM_TOTAL, FILE_NUM_DATA };

struct order {
	enum order_kind kind;
	uint32_t id;
	int64_t num[ORDER_NUMS];
	struct str text[ORDER_TEXTS]; /* NUL-terminated in memory when parsed */
	int fd[ORDER_FDS];
	size_t fd_n;
};

size_t order_binds(const struct order *o); /* descriptors of directories that an ORDER_CELL begins with */
int order_encode(const struct order *o, struct buf *b) MUST_USE;
/* Texts point into `in`. Descriptors are not part of it. */
int order_parse(struct str in, struct order *o) MUST_USE;
/* 0, or -1 with errno (EAGAIN: the socket is full). */
int order_send(int sock, const struct order *o) MUST_USE;
/* 1: *o is filled, its descriptors are owned by the caller; 0: the other end is gone; -1 with errno (EPROTO: not an
 * order). mem has ORDER_MAX bytes. */
int order_recv(int sock, char *mem, struct order *o) MUST_USE;
void order_close_fds(struct order *o);

enum report_kind {
	REPORT_STARTED = 1, /* zygote: cell init, which a spare is too, exists; id, pid, descriptor: pidfd */
	REPORT_READY, /* cell init: takes orders; descriptor, if the order asked for one: the socket that listens as the
		       * cell's proxy; spare: takes ORDER_CELL; exec init that stands by: takes ORDER_EXEC */
	REPORT_BEGUN, /* on a control socket: the exec init exists; descriptor: pidfd. SIGKILL to it kills the tree: its
		       * namespace ends, or the cell init adopts and kills */
	REPORT_TERMINAL, /* exec init: the other end of its command's terminal is the descriptor */
	REPORT_ENDED, /* exec init: the command and all its descendants are gone; status as from waitpid */
	REPORT_FAILED, /* whatever was asked did not happen; text says why */
	REPORT_KIND_END,
};
struct report {
	uint32_t kind, id;
	int32_t pid, status;
	int32_t code; /* enum err_code of REPORT_FAILED */
	/* REPORT_ENDED */
	int64_t memory_bytes, user_ms, system_ms, written_bytes;
	bool out_of_cpu;
	char text[ERR_MSG_MAX];
};
int report_send(int sock, const struct report *r, int fd); /* 0 or -1 */
int report_fail(int sock, uint32_t id, const struct err *e);
/* As order_recv; *fd is -1 or owned by the caller. */
int report_recv(int sock, struct report *r, int *fd) MUST_USE;

/* Frame of a file operation's answer on its pipe: this, head_n bytes of JSON, tail_n bytes. */
struct file_answer {
	uint32_t magic;
	int32_t code, to; /* 0, or the error; then the head is its message */
	uint32_t head_n, tail_n;
};
#define FILE_ANSWER_MAGIC 0x69746661u
/* 1: whole, 0: more bytes are needed, -1: a lie. *head and *tail point into in. */
int file_answer_parse(struct str in, struct file_answer *a, struct str *head, struct str *tail) MUST_USE;
#define FILE_ANSWER_DEPTH 16u
/* The head of an answer, as part of a head that its receiver can parse: otherwise that would drop the link. */
int file_head_parse(struct arena *a, struct str head, const struct node **out, struct err *e) MUST_USE;

/* ---- what a cell sees (places.c) ---- */

enum place_right {
	PLACE_READ,
	PLACE_WRITE,
	PLACE_WORKSPACE, /* to be written, but in mode read_only */
	PLACE_DEVICE, /* what is there can be written, nothing can be made */
};
struct cell_place {
	const char *path; /* NULL ends the table */
	enum place_right right;
	int bind; /* enum BIND_* of a directory of the plan; -1: none */
	const char *rule; /* where Landlock grants the right to write; NULL: at the path */
	const char *text;
};
extern const struct cell_place cell_places[];
bool bind_is_readonly(int bind, int access);

/* ---- confinement of one process (confine.c) ---- */

int landlock_abi(void); /* 0: none */
int seccomp_check(struct err *e) MUST_USE; /* whether a filter could be loaded; an error without one says why */
/* The ruleset of a cell for its commands: -1 with *e set, or a descriptor; 0 descriptors' worth of Landlock (ABI 0 and
 * 1) gives *out = -1 and success. roots: see landlock_rules. */
int landlock_full(int access, int *out, struct err *e) MUST_USE;
int landlock_basic(const struct order *cell, int *out, struct err *e) MUST_USE;
/* No capability (permitted, bounding, ambient), no way back, then Landlock, then seccomp. A file operation runs our own
 * code only and gets a filter of its own. */
int confine_self(enum cell_kind kind, bool is_file_op, int ruleset, struct err *e) MUST_USE;
/* What a full cell's init and all below it never get back: capabilities by exec, and what the first filter of commands denies. It
 * still has what building a cell takes. */
int init_bound(struct err *e) MUST_USE;
/* Keeps only what a cell init needs to start commands: mount and namespaces, dropping the rest. */
int caps_reduce(struct err *e) MUST_USE;
void signals_reset(void);
/* Closes every descriptor but keep[0..n) and 0, 1, 2. */
void fds_keep(const int *keep, size_t n);

/* ---- the root of a cell (root.c) ---- */

struct survey;
/* What the host has of what cells see of it; the zygote keeps it. */
struct survey *survey_new(void);
void survey_free(struct survey *s);
/* What of it, beside /usr: paths below / without their first slash, borrowed. */
#define SURVEY_PATHS_MAX 128u
size_t survey_paths(const struct survey *s, const char **out, size_t max);
bool survey_is_stale(const struct survey *s);
int root_user(const struct order *cell, struct err *e) MUST_USE; /* uid and gid maps of a new user namespace */
/* Steps of making it, in this order, but that root_furnish may be the last. A mount namespace, still with the host's tree. */
int root_leave(struct err *e) MUST_USE;
/* Opens the directories of a plan in it: binds, of which -1 are those that the plan does not have, become detached trees. */
int root_open(const struct order *cell, int binds[BIND_COUNT], struct err *e) MUST_USE;
int root_frame(const struct survey *s, struct err *e) MUST_USE; /* what every cell has */
int root_enter(struct err *e) MUST_USE; /* the host's tree is gone */
/* What a plan adds. Takes trees. *runs: the directory with those of all runs, which no path leads to. */
int root_furnish(const struct order *cell, const int trees[BIND_COUNT], int *runs, struct err *e) MUST_USE;
int root_run(int runs, const char *name, struct err *e) MUST_USE; /* /run/work becomes that of this run */
int root_proc(bool is_nested, struct err *e) MUST_USE; /* a /proc of the pid namespace of the caller */
int root_network(struct err *e) MUST_USE; /* lo up */
#define PROXY_PORT 3128
int root_proxy(struct err *e) MUST_USE; /* a socket that listens on PROXY_PORT of lo; or an error, which is negative */

/* ---- processes ---- */

/* Like clone3(2) with CLONE_PIDFD and SIGCHLD. Only in single-threaded processes; most of them ignore SIGCHLD, so that the kernel
 * reaps, and learn of an end through the pidfd. */
pid_t process_clone(uint64_t flags, int *pidfd);
/* Starts the zygote; called before anything else of shelld. The socket to it; *pidfd. */
int zygote_start(int *sock, int *pidfd, struct err *e) MUST_USE;
/* An ORDER_CELL, or an ORDER_SPARE, whose plan comes into mem of ORDER_MAX bytes. */
void cell_main(struct order *cell, char *mem, const struct survey *s) NORETURN;
int proc_on_host(struct err *e) MUST_USE; /* a /proc of the caller's process namespace over the host's, for it alone */
int children_open(void); /* the list of the caller's children, for children_kill; -1: none */
/* SIGKILL to all descendants, one generation after the other, and reaps them. The caller is a subreaper. */
void children_kill(int children);
/* For who must not wait: reaps what ended and sends SIGKILL to each child that is not in own[0..own_n), so that who does this after
 * every SIGCHLD ends one generation after the other. Those of own that ended leave it; how many are left. */
size_t orphans_kill(int children, pid_t *own, size_t own_n) MUST_USE;
void exec_main(const struct order *cell, const struct order *o, int ruleset, bool has_namespace) NORETURN;
/* The same with everything done ahead that needs no command: o is an ORDER_STANDBY, mem has ORDER_MAX bytes. */
void exec_standby(const struct order *cell, struct order *o, char *mem, int ruleset) NORETURN;
void terminal_plain(int fd); /* no echo, nothing added to output; the interrupt key works */
void file_main(const struct order *cell, const struct order *o, int ruleset) NORETURN;

#endif
