/* SPDX-License-Identifier: MIT
 * A machine of QEMU, from the host: its parts, its monitor, its saved state. All calls block. */
#ifndef SANDBOX_VM_HOST_H
#define SANDBOX_VM_HOST_H

#include "sandbox/tier.h"
#include "sandbox/vm.h"

#define VM_INITRD_MAX (64u * MIB)

/* ---- what it is made of (vm_parts.c) ---- */

struct vm_parts {
	const char *qemu, *virtiofsd;
	char kernel[PLAN_PATH_MAX], modules[PLAN_PATH_MAX];
};
int vm_parts_find(const struct tier_spec *s, struct vm_parts *p, struct tier_reason *why);
/* The initial file system, an archive. */
int vm_initrd(
	const struct tier_spec *s, const struct vm_parts *p, struct buf *b, struct err *e) MUST_USE;

/* ---- QEMU's monitor (vm_qmp.c) ---- */

#define QMP_LINE_MAX   (256u * KIB)
#define QMP_STATUS_MAX 32

struct qmp {
	int fd; /* borrowed */
	struct buf in;
	int64_t until_ms;       /* of the monotonic clock: calls give up */
	door_alive_fn is_there; /* as in door_reach */
	void *arg;
};
/* Reads the greeting and agrees on capabilities. qmp_fini in every case. */
int qmp_open(struct qmp *q, int fd, int64_t until_ms, door_alive_fn is_there, void *arg,
	struct err *e) MUST_USE;
void qmp_fini(struct qmp *q);
/* arguments: a JSON object or NULL. given: a descriptor that goes along, or -1. status, unless
 * NULL: "status" of the answer. */
int qmp_call(struct qmp *q, const char *command, const char *arguments, int given,
	char status[QMP_STATUS_MAX], struct err *e) MUST_USE;
/* Asks with `command` until the status is another one than `while_it_is`, which is left in status.
 */
int qmp_await(struct qmp *q, const char *command, const char *const *while_it_is,
	char status[QMP_STATUS_MAX], struct err *e) MUST_USE;

/* ---- a saved machine (vm_saved.c): one file of a header, the state of its devices and its memory
 * ---- */

#define SAVED_KEY_SIZE   65 /* of a digest in hexadecimal, with its NUL */
#define SAVED_HEADER_MAX 4096u
#define SAVED_MEMORY_AT  (16u * MIB) /* so large may the state of devices be */

struct saved_header {
	char key[SAVED_KEY_SIZE];
	uint64_t device_bytes, memory_bytes, check;
};
void saved_header_put(const struct saved_header *h, char out[SAVED_HEADER_MAX]);
int saved_header_parse(struct str text, struct saved_header *out, struct err *e) MUST_USE;

/* Fills memory (of memory_bytes, all zero) from a file that is ours alone and undamaged; *fd then
 * stands at the state of the devices. ERR_NOT_FOUND: there is none of this key. On an error memory
 * may be half filled. */
int saved_open(const char *path, const char *key, int memory, int64_t memory_bytes, int *fd,
	struct err *e) MUST_USE;
/* A new file beside path, standing where the state of the devices goes. */
int saved_begin(const char *path, int *fd, struct err *e) MUST_USE;
/* With that state written: adds the memory and replaces what is at path. */
int saved_end(const char *path, const char *key, int fd, int memory, int64_t memory_bytes,
	struct err *e) MUST_USE;
void saved_drop(const char *path); /* what saved_begin made */

/* ---- what a start depends on (vm_key.c) ---- */

struct vm_try;
/* With what a saved machine must agree: the arguments of QEMU, and what they name. */
void vm_machine_key(const struct vm_try *t, const char *const *argv, size_t n,
	const struct buf *initrd, char key[SAVED_KEY_SIZE]);

/* What is known of KVM here, as it is now. */
enum kvm_verdict {
	KVM_UNTRIED,
	KVM_ANSWERED, /* a machine did; one that does not was too slow, for once */
	KVM_SILENT,   /* none did in time */
};
enum kvm_verdict kvm_recall(const struct tier_spec *s, const struct vm_parts *p);
void kvm_remember(const struct tier_spec *s, const struct vm_parts *p, enum kvm_verdict v);
/* Of a file; KVM_UNTRIED also for another key and for what is none. */
enum kvm_verdict kvm_verdict_parse(struct str text, const char *key);

/* ---- the machine and the program that shares directories with it (vm_machine.c) ---- */

struct vm_try {
	const struct tier_spec *s;
	const struct vm_parts *p;
	struct tier_run *run;
	int64_t timeout_ms; /* for its first program to answer, and again for shelld */
	bool has_answered;  /* its first program did: this acceleration works */
	bool has_crashed;   /* QEMU ended by a signal of its own doing */
};
/* A machine in which shelld answers: *link is the runner's. Nothing is left of one that fails. */
int vm_start(struct vm_try *t, int *link, struct err *e) MUST_USE;
void vm_end(struct tier_run *run);

#endif
