/* SPDX-License-Identifier: MIT
 * What the host and the first program of a virtual machine agree on. */
#ifndef SANDBOX_VM_H
#define SANDBOX_VM_H

#include "sandbox/door.h"
#include "sandbox/internal.h"

#define VM_MARK "/ithaca.machine" /* in the initial file system: it is ours */
#define VM_CONF                                                                                    \
	"/ithaca.conf" /* in memory, after the hello: two lines, token and directory of shelld */
#define VM_MODULES      "/modules" /* there, loaded in the order of their names */
#define VM_TAG          "ithaca"   /* of the shared tree */
#define VM_PORT_RUNNER  1
#define VM_PORT_RUNTIME 2
#define VM_PORT_BROKER  3
#define VM_PORTS        3
#define VM_PORT_BOOT                                                                               \
	4 /* of the first program: VM_ANSWER to the host when it waits, then a hello from it */
#define VM_ANSWER    'r'
#define VM_RANDOM    64 /* bytes for the machine's generator, never the same for two starts */
#define VM_HELLO_MAX (PLAN_PATH_MAX + 512)

/* What one start is given. As text: token, directory of shelld, time and random bytes, a line each.
 */
struct vm_hello {
	char token[DOOR_TOKEN_SIZE];
	const char *dir;
	int64_t at_ns; /* since 1970 */
	unsigned char random[VM_RANDOM];
};
void vm_hello_put(struct buf *b, const struct vm_hello *h);
/* dir is left in the text, which gets its NUL. 0: more is to come; 1: whole; negative: it is none.
 */
int vm_hello_parse(char *text, size_t n, struct vm_hello *out);

/* ---- inside (vm_init.c) ---- */

bool vm_is_first(void);
/* Returns in the process that becomes shelld, which is to listen in dir; the first one stays and
 * carries bytes. */
void vm_split(char dir[PLAN_PATH_MAX]);

/* ---- outside, in a process of its own (vm_share.c) ---- */

/* ithaca-guest --share SPEC PROGRAM ARG...: in a mount namespace of its own builds at a place of
 * ours the tree that SPEC describes, and becomes PROGRAM, which shares it. SPEC: lines of a letter
 * and a path: `t` where the tree is built, `d` a directory, `r` something of the host that may be
 * read, `w` one that may be written, `l` a link of the host. */
int vm_share(const char *spec, char *const *argv);

/* ---- on the host: processes of a machine that a killed runner may leave (vm_left.c) ---- */

/* run_dir: of its sockets. 0: not yet there. */
void vm_note(const char *run_dir, pid_t machine, pid_t share, bool is_up);
/* Ends those of a start that never came to its end, or all. Not while a runner lives. */
void vm_end_noted(const char *run_dir, bool is_up_too);

#endif
