/* SPDX-License-Identifier: MIT
 * Errors with an audience. A struct err lives on the caller's stack, so reporting never allocates.
 * The message says what went wrong, where, and in parentheses how to fix it; it never holds a secret.
 * The one who handles an error logs it; nobody both logs and returns. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/attr.h"

#define ERR_MSG_MAX 240

/* Who can do something about it. */
enum err_to {
	ERR_TO_USER,
	ERR_TO_MODEL, /* the model may try again with other arguments */
	ERR_TO_LOG,
};

/* Rows: code, wire name, process exit status. Codes are negative so that `return err_set(...)` works. */
#define ERR_CODES(X)                                                                               \
	X(ERR_FAILED, -1, "failed", 1)                                                             \
	X(ERR_USAGE, -2, "usage", 2)                                                               \
	X(ERR_CONFIG, -3, "config", 2)                                                             \
	X(ERR_INVALID, -4, "invalid", 2)          /* an argument or a document breaks its table */  \
	X(ERR_NOT_FOUND, -5, "not_found", 1)                                                       \
	X(ERR_EXISTS, -6, "exists", 1)                                                             \
	X(ERR_DENIED, -7, "denied", 3)                                                             \
	X(ERR_APPROVAL, -8, "approval_needed", 3)                                                  \
	X(ERR_LIMIT, -9, "limit", 4)              /* a named limit was reached */                   \
	X(ERR_CANCELLED, -10, "cancelled", 5)                                                      \
	X(ERR_TIMEOUT, -11, "timeout", 1)                                                          \
	X(ERR_IO, -12, "io", 1)                                                                    \
	X(ERR_FULL, -13, "full", 1)               /* the disk or a quota */                         \
	X(ERR_READONLY, -14, "read_only", 1)                                                       \
	X(ERR_CORRUPT, -15, "corrupt", 1)                                                          \
	X(ERR_BUSY, -16, "busy", 1)               /* locked, or the queue is full: try later */     \
	X(ERR_NET, -17, "network", 1)             /* could not connect, or the connection broke */  \
	X(ERR_PROTO, -18, "protocol", 1)          /* the peer broke its protocol */                 \
	X(ERR_AUTH, -19, "auth", 2)               /* a key is missing or was refused */             \
	X(ERR_PROVIDER, -20, "provider", 1)       /* the model's server answered with an error */   \
	X(ERR_UNSUPPORTED, -21, "unsupported", 2) /* this machine cannot do or enforce it */        \
	X(ERR_GONE, -22, "gone", 1)               /* the role or object went away meanwhile */      \
	X(ERR_CONFLICT, -23, "conflict", 1)                                                        \
	X(ERR_INTERNAL, -24, "internal", 1)

#define ERR_ENUM(name, code, text, exit) name = code,
enum err_code { ERR_OK = 0, ERR_CODES(ERR_ENUM) };
#undef ERR_ENUM

struct err {
	int code; /* enum err_code, 0: nothing set */
	enum err_to to;
	char msg[ERR_MSG_MAX]; /* UTF-8, cut on a character boundary */
};

/* Sets *e (e may be NULL) and returns code. */
int err_set(struct err *e, int code, enum err_to to, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* As err_set with `: strerror(errnum)` appended; picks ERR_FULL, ERR_READONLY, ERR_DENIED or ERR_NOT_FOUND where
 * errnum says so, otherwise ERR_IO. */
int err_errno(struct err *e, int errnum, enum err_to to, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Puts "<text>: " before the message and returns e->code (ERR_FAILED when e is NULL or empty). */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Copies *from into *e (either may be NULL) and returns its code. */
int err_copy(struct err *e, const struct err *from);

/* "not_found"; "internal" for an unknown code. Static. */
const char *err_name(int code);
/* The code of a wire name, ERR_FAILED when unknown. */
int err_from_name(const char *name);
/* Exit status of a process that ends with this error: interfaces 0..5. */
int err_exit_status(int code);

/* For a broken invariant, a corrupt store or a lying peer process; never for input. Writes to stderr, aborts. */
void fatal(const char *fmt, ...) PRINTF_LIKE(1, 2) NORETURN;

#endif
