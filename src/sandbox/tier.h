/* SPDX-License-Identifier: MIT
 * Where shelld runs, above the cell tier: a row per tier says how a sidecar is probed, started, reached and ended. In every
 * tier the same ithaca-guest makes the same cells; a tier adds a wall around all of them, and may have one for the runtime too. The calls block: they are made
 * on worker threads, and need nothing but what is in a spec. */
#ifndef SANDBOX_TIER_H
#define SANDBOX_TIER_H

#include "net/oci.h"
#include "sandbox/door.h"

#define TIER_MOUNTS_MAX 64u
#define TIER_START_MS   30000 /* from the order to start until shelld answers */

/* Why a tier cannot be used. Codes are part of the interface: status, doctor and docs/tiers.md name them. */
struct tier_reason {
	char code[32];
	struct err e; /* with the fix in parentheses */
};
int tier_refuse(struct tier_reason *why, const char *code, int err_code, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* What one start takes. Strings are borrowed until it is over. */
struct tier_spec {
	const char *home; /* ITHACA_HOME */
	const char *guest; /* the program ithaca-guest, beside ithacad inside */
	const char *run_dir, *spool_dir, *state_root; /* below home; run_dir is for this sidecar alone */
	const char *mounts[TIER_MOUNTS_MAX]; /* directories that may be workspaces, at the same path inside */
	size_t mounts_n;
	int64_t memory_bytes, processes, cpu_percent; /* of all cells together, and shelld; or of the runtime */
	/* The runtime instead of shelld: the program ithacad, state/ of the home, and where a store outside of that is. */
	struct {
		const char *program, *state, *store; /* NULL: shelld; in state */
	} runtime;
	struct {
		const char *socket, *image; /* NULL or "": found; the host's own /usr */
		const struct oci *engine; /* what another start found out of it, which takes a second; NULL: it is asked */
	} container;
	struct {
		const char *qemu, *virtiofsd, *kernel; /* NULL or "": found */
		const char *saved; /* where a machine is saved for the next start; NULL or "": it is not */
		const char *verdict; /* where it is kept what was found out about KVM; NULL or "": nowhere */
		bool allow_emulation;
	} microvm;
	bool (*is_cancelled)(void *arg); /* asked now and then; may be NULL */
	void *arg;
};

#define TIER_LOGS_MAX 3u
/* What a process of a sidecar says: the end to read of a pipe, to be taken by who keeps logs. */
struct tier_log {
	const char *stream; /* a literal */
	int fd;
};

/* A role that was started. */
struct tier_run {
	const struct tier *tier; /* NULL: none */
	char token[DOOR_TOKEN_SIZE];
	struct oci oci;
	char id[OCI_ID_SIZE], name[64]; /* of the container */
	pid_t machine, share; /* our children, 0: none */
	struct tier_log logs[TIER_LOGS_MAX]; /* stop closes those that nobody took */
	size_t logs_n;
	char accel[8]; /* of the machine: kvm, tcg */
	bool is_restored; /* it did not boot */
	char dir[512]; /* of its sockets */
};

struct tier {
	const char *name;
	bool holds_runtime; /* start can do it as well */
	/* Whether it could be used here; nothing is started. What was found is told in *found, for people. */
	int (*probe)(const struct tier_spec *s, char found[120], struct tier_reason *why);
	/* Ends what an earlier runner of this home left, starts one, and waits until shelld answers. *link: to be the runner's. */
	int (*start)(const struct tier_spec *s, struct tier_run *out, int *link, struct tier_reason *why);
	/* Ends and removes it, whatever state it is in. */
	void (*stop)(struct tier_run *run);
	/* A new link for the runtime or the broker, blocking; NULL: descriptors pass, so it is a socket pair. */
	int (*link)(const struct tier_run *run, enum role who, struct err *e);
};

extern const struct tier tier_container, tier_microvm;
/* NULL: shelld is a child of the runner (cell), or there is no such tier. */
const struct tier *tier_find(const char *name);

/* The number by which those outside of our user namespace know one of ours; the same where there is none. map: "/proc/self/uid_map"
 * or gid_map. */
int64_t tier_outer_id(const char *map, int64_t id);

/* ---- microvm: the initial file system, a cpio archive of the form newc ---- */

void cpio_add(struct buf *b, const char *name, unsigned mode, struct str content);
void cpio_end(struct buf *b);

/* ---- container ---- */

/* Which system calls a container may make, as an engine's JSON: a sidecar those of cells and those that make cells, the runtime
 * those of cells, no namespace, and Unix sockets alone. */
void tier_seccomp(bool is_runtime, struct buf *b);

#endif
