/* SPDX-License-Identifier: MIT
 * Message streams between roles: `u32 total, u32 head_len, JSON head {v, kind, id, ...}, raw tail`
 * (little endian; total counts everything after itself). A table says which role may send which
 * kind to which; what is not in the table cannot be sent, and receiving it drops the peer. Streams
 * have credit, so a flood never fills the receiver. */
#ifndef LOOP_WIRE_H
#define LOOP_WIRE_H

#include "base/json.h"
#include "loop/loop.h"

#define WIRE_VERSION 1
#define WIRE_PREFIX  8 /* total and head_len */

enum role { ROLE_RUNNER, ROLE_RUNTIME, ROLE_BROKER, ROLE_SHELLD, ROLE_CLIENT, ROLE_COUNT };
const char *role_name(enum role r);

/* Rows: constant, name on the wire, largest tail in bytes, may carry a descriptor. */
#define WIRE_KINDS(X)                                                                              \
	/* runner and a role: life cycle */                                                        \
	X(BOOT, "boot", 4 * MIB, 0)        /* runner: first frame; tail is the role's envelope (JSON) */ \
	X(READY, "ready", 0, 0)            /* role: serving; head has what it can and cannot do */ \
	X(PEER, "peer", 0, 1)              /* runner: {role} and the descriptor of a new link to it */ \
	X(LISTEN, "listen", 0, 1)          /* runner: {name} and a listening socket */             \
	X(LINK, "link", 0, 0)              /* first frame of a link into a container or machine: {role, token, nonce} */ \
	X(LINKED, "linked", 0, 0)          /* answers LINK: {nonce}; what follows is the role's */ \
	X(IDLE, "idle", 0, 0)              /* runtime: {idle: bool}; a private runner exits when idle */ \
	X(STATUS, "status", 64 * KIB, 0)   /* runner to runtime: what the roles do; tail: JSON */    \
	X(STOP, "stop", 0, 0)              /* runner: finish and exit; client to runner: stop all */ \
	X(FAULT, "fault", 0, 0)            /* role: cannot go on; {code, message} is shown to the user */ \
	X(HOST_FILE, "host.file", 1 * MIB, 0) /* runtime in a container, on a link of its own: {op, path, max} of a file that it \
	                                         does not see; tail: what to write. Answered by RESULT or ERROR */ \
	/* client and runtime: API methods */                                                      \
	X(CALL, "call", 4 * MIB, 0)        /* {method}; tail: parameters as JSON; bytes of a blob follow as data */ \
	X(RESULT, "result", 4 * MIB, 0)    /* answers CALL; tail: result as JSON */                \
	X(ERROR, "error", 0, 0)            /* answers any request: {code, message} */              \
	X(EVENT, "event", 4 * MIB, 0)      /* {sub}; tail: one event envelope as JSON */           \
	/* runtime and broker */                                                                   \
	X(FETCH, "fetch", 0, 0)            /* opens a stream: {provider, path, headers, ...}; data is the body */ \
	X(FETCHED, "fetched", 0, 0)        /* {status, headers, queued_ms}; the body follows as data */ \
	X(SECRETS, "secrets", 1 * MIB, 0)  /* tail: the file of sealed secrets, whole; may be empty */ \
	X(KEYRING, "keyring", 1 * MIB, 0)  /* broker: which secrets and providers have a key; tail: JSON, no key */ \
	X(GRANT, "grant", 256 * KIB, 0)    /* {cell}: where it may connect to; tail: JSON; empty: nowhere any more */ \
	X(EGRESS, "egress", 0, 0)          /* broker: {cell, denied, rule, why} or {cell, bytes}: what a cell did; from and \
	                                      to the runtime {cell, mark}: all of it up to here was told */ \
	/* shelld and broker */                                                                    \
	X(PROXY, "proxy", 0, 0)            /* opens a stream: {cell}: a connection to the proxy in that cell */ \
	/* runtime and shelld */                                                                   \
	X(HELLO, "hello", 0, 0)            /* shelld: what is in force here */                     \
	X(SPAWN, "spawn", 0, 0)            /* {cell, plan}: make a cell, or reuse an equal one */  \
	X(SPAWNED, "spawned", 0, 0)                                                                \
	X(EXEC, "exec", 4 * MIB, 0)        /* opens a stream: {cell, effect, ...}; tail: command and environment */ \
	X(EXEC_BEGUN, "exec.begun", 0, 0)                                                          \
	X(EXEC_STATUS, "exec.status", 0, 0) /* {exit, signal, ms, ...}: the last word on an exec */ \
	X(INPUT, "input", 64 * KIB, 0)     /* standard input of an exec */                         \
	X(RESIZE, "resize", 0, 0)                                                                  \
	X(SIGNAL, "signal", 0, 0)                                                                  \
	X(KILL, "kill", 0, 0)              /* {effect} or {cell}: SIGKILL to pid 1 of its namespace */ \
	X(SPOOL, "spool", 0, 0)            /* {effect, offset, n}: read kept output of an exec */  \
	X(SPOOLED, "spooled", 4 * MIB, 0)                                                          \
	X(FILE, "file", 4 * MIB, 0)        /* {cell, op, path, ...}; tail: content */              \
	X(FILED, "filed", 4 * MIB, 0)                                                              \
	X(CLOSE, "close", 0, 0)            /* {cell} or {effect}: forget it and its files */       \
	X(CLOSED, "closed", 0, 0)                                                                  \
	/* streams, on the id of the message that opened them */                                   \
	X(DATA, "data", 256 * KIB, 0)      /* {id, ch}: ch is a small channel number (1 out, 2 err) */ \
	X(CREDIT, "credit", 0, 0)          /* {id, n}: n more bytes may be sent */                 \
	X(EOF, "eof", 0, 0)                /* no more data from this side */                       \
	X(RESET, "reset", 0, 0)            /* {id, code, message}: the stream is over, both ways */

#define WIRE_ENUM(name, text, tail, fd) WIRE_##name,
enum wire_kind { WIRE_KINDS(WIRE_ENUM) WIRE_KIND_COUNT };
#undef WIRE_ENUM
const char *wire_kind_name(enum wire_kind k);
/* Whether the table has this edge. */
bool wire_may_send(enum role from, enum role to, enum wire_kind k);

struct wire;

/* A received message. Everything is borrowed and gone after the callback; a descriptor that is not
 * taken (take_fd on &m->fd) is closed. */
struct wire_msg {
	enum wire_kind kind;
	uint64_t id;
	const struct node *head;
	struct str tail;
	int fd;
};

struct wire_handler {
	/* Any message that is not a stream kind. Return 0, or an error code to drop the peer (e
	 * says why). */
	int (*on_msg)(void *arg, struct wire *w, struct wire_msg *m, struct err *e);
	/* The link is gone: peer closed (e->code ERR_GONE) or dropped (e says why). Streams were
	 * reset before this call. The wire is released after it. Not called by wire_close. */
	void (*on_gone)(void *arg, struct wire *w, const struct err *e);
};

/* Takes fd, a connected stream socket, and makes it non-blocking. handler is borrowed. */
struct wire *wire_open(struct loop *l, int fd, enum role me, enum role peer,
	const struct wire_handler *handler, void *arg);
/* Sends what is queued if the socket takes it at once. Streams that are still open are reset
 * (on_reset, ERR_GONE) and released first. NULL is fine. */
void wire_close(struct wire *w);
/* As wire_close, but the socket lives on until everything queued was sent, the peer is gone or
 * WIRE_LINGER_MS passed. Nothing is received any more. */
void wire_close_flushed(struct wire *w);
#define WIRE_LINGER_MS 5000
/* false once the link is lost or closed, also before on_gone: what an on_reset starts then would be
 * lost as well. */
bool wire_is_open(const struct wire *w);
uint64_t wire_next_id(struct wire *w); /* unique among ids that this side makes */
size_t wire_queued(const struct wire *w); /* bytes not yet taken by the socket */
/* fn is called once, at the end of the pass in which at most low bytes are queued (this one, if so
 * already). */
void wire_on_drain(struct wire *w, size_t low, loop_fn fn, void *arg);

/* Sending: begin gives the writer of the head object with v, kind and id in it; add keys; end
 * queues the message. Between begin and end no other call on this wire. fd is duplicated (-1:
 * none). A kind the table does not allow is a broken invariant: fatal. Past WIRE_OUT_MAX the peer
 * is dropped (on_gone at the end of the pass). wire_end returns 0, or ERR_LIMIT when head or tail
 * is over its named maximum: then the message is not sent, and where the table lets us answer ERROR
 * the peer gets that for the same id. */
struct json *wire_begin(struct wire *w, enum wire_kind k, uint64_t id);
int wire_end(struct wire *w, struct str tail, int fd);
/* For what holds keys: sends what is queued at once, and wipes it from memory when all of it is sent. */
void wire_wipe(struct wire *w);
/* WIRE_ERROR {code, message} for request id. */
void wire_error(struct wire *w, uint64_t id, const struct err *e);
/* The error that a WIRE_ERROR or WIRE_RESET head carries. */
void wire_err(const struct node *head, struct err *e);

/* Streams. Either side makes the object for an id after it sent, or while it handles, the opening
 * message. */
struct stream;
struct stream_handler {
	/* Bytes arrived; give credit back with stream_consume when they are dealt with. */
	void (*on_data)(void *arg, int ch, struct str bytes);
	void (*on_credit)(void *arg); /* more may be written; may be NULL */
	void (*on_eof)(void *arg);
	/* Reset by the peer or the link is gone. The stream is released after it. */
	void (*on_reset)(void *arg, const struct err *e);
};
struct stream *stream_open(struct wire *w, uint64_t id, const struct stream_handler *handler,
	void *arg);
/* An opening kind from the peer whose id already names a stream, or which would be number
 * WIRE_STREAMS_MAX + 1, drops the peer before on_msg. A stream frame for an id that was released is
 * late and ignored. */
uint64_t stream_id(const struct stream *s);
/* Queues as much as credit allows and returns how many bytes were taken. */
size_t stream_write(struct stream *s, int ch, struct str bytes) MUST_USE;
/* How much to write now: 0 also while WIRE_BACKLOG_HIGH is queued for the peer, who may be slow as a
 * whole. After a 0, on_credit comes when there is room again. */
size_t stream_credit(struct stream *s);
void stream_consume(struct stream *s, size_t n);
void stream_eof(struct stream *s);
/* Tells the peer (unless both sides sent eof) and releases the stream. e NULL: cancelled. */
void stream_close(struct stream *s, const struct err *e);

/* The codec alone, for tests and fuzzing, and for the zygote and cell init, which have no loop:
 * parses the first frame of `in`. Returns its whole length, 0 when more bytes are needed, or an
 * error code. from/to check the edge. Head and tail point into a and in; m.fd is -1, has_fd says
 * that a descriptor travels with the frame. */
struct wire_frame {
	struct wire_msg m;
	bool has_fd;
};
ptrdiff_t wire_parse(struct str in, enum role from, enum role to, struct arena *a,
	struct wire_frame *out, struct err *e);
/* The other direction: appends a frame to b. put_begin starts it (its offset in b comes back) and
 * leaves j inside the head object; put_end closes it. ERR_LIMIT: a maximum would be passed, b is as
 * it was. */
size_t wire_put_begin(struct buf *b, struct json *j, enum wire_kind k, uint64_t id);
int wire_put_end(struct buf *b, struct json *j, size_t start, enum wire_kind k, struct str tail,
	bool has_fd, struct err *e) MUST_USE;

#endif
