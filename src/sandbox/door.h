/* SPDX-License-Identifier: MIT
 * How links reach a shelld that could not inherit any, because it runs in a container or a machine of its own. Each link
 * begins with LINK {role, token, nonce}, which only the runner can write: the token is made for one start and known to it
 * and the guest alone. The answer LINKED {nonce} says that all bytes after it belong to this link. */
#ifndef SANDBOX_DOOR_H
#define SANDBOX_DOOR_H

#include "loop/loop.h"
#include "loop/wire.h"

#define DOOR_TOKEN_BYTES 32
#define DOOR_TOKEN_SIZE  (2 * DOOR_TOKEN_BYTES + 1) /* as text, with its NUL */
#define DOOR_FRAME_MAX   512u /* of LINK and LINKED */
#define DOOR_WAITING_MAX 8u /* connections that have not said who they are */
#define DOOR_HELLO_MS    5000 /* for them to say so */

/* Random, as lower-case hexadecimal digits. */
void door_token(char out[DOOR_TOKEN_SIZE]);
bool door_token_valid(struct str s);

/* ---- inside ---- */

struct door;
/* fd is owned by the callee, which is ROLE_RUNNER, ROLE_RUNTIME or ROLE_BROKER by `who`. */
typedef void (*door_fn)(void *arg, enum role who, int fd);
/* Takes listen_fd. token is copied. */
struct door *door_open(struct loop *l, int listen_fd, const char *token, door_fn fn, void *arg);
void door_close(struct door *d); /* NULL is fine; who still waits is turned away */

/* The token of this start from dir/token, where it is gone before anything else runs, and a socket that listens at dir/NAME.sock:
 * its descriptor, or an error code. */
int door_take(const char *dir, enum role me, char token[DOOR_TOKEN_SIZE], struct err *e) MUST_USE;
void door_path(const char *dir, enum role me, char *out, size_t max); /* of that socket */

/* For pid 1 of a container or a machine, before its first thread: returns in a child that goes on; the caller stays behind, reaps
 * what nobody else does, passes SIGTERM on and exits as that child did (pid1.c). */
void pid1_split(void);

/* ---- outside ---- */

/* Says who is there on a connected Unix socket and waits for the answer. What came before it, from a link that was on the
 * same channel earlier, is dropped. Blocks up to timeout_ms; fd must be blocking. */
int door_knock(int fd, enum role who, const char *token, int64_t timeout_ms, struct err *e) MUST_USE;

/* Connects to path, which may not be served yet, and knocks: a blocking socket for wire_open, or an error. It gives up
 * early when is_there (may be NULL) says that nobody will come; that is asked every DOOR_LOOK_MS. */
#define DOOR_LOOK_MS 200
typedef bool (*door_alive_fn)(void *arg, struct err *e);
int door_reach(const char *path, enum role who, const char *token, int64_t timeout_ms, door_alive_fn is_there, void *arg,
	struct err *e) MUST_USE;

/* ---- the two frames, for both ends, tests and fuzzing ---- */

struct door_hello {
	enum role who;
	struct str token, nonce; /* borrowed from the arena of door_hello_parse */
};
void door_hello_put(struct buf *b, enum role who, const char *token, const char *nonce);
/* Its whole length, 0 when more bytes are needed, or an error code. */
ptrdiff_t door_hello_parse(struct str in, struct arena *a, struct door_hello *out, struct err *e);
void door_answer_put(struct buf *b, struct str nonce);

#endif
