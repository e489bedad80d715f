/* SPDX-License-Identifier: MIT
 * The event loop: timers, descriptors, children, signals, worker threads. libuv is inside and seen
 * by nobody else. All callbacks run on the loop's thread; only loop_post may be called from
 * another. Handles are closed with the *_close call, which is safe inside any callback: no callback
 * of that handle runs after it. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct loop;

int loop_open(struct loop **out, struct err *e) MUST_USE;
void loop_run(struct loop *l); /* until loop_stop, or until nothing is left that keeps it alive */
void loop_stop(struct loop *l);
/* Every handle must have been closed. Calls posted before it still run. */
void loop_close(struct loop *l);
int64_t loop_now_ms(struct loop *l); /* monotonic, of this loop pass */

typedef void (*loop_fn)(void *arg);

/* Thread-safe: fn(arg) runs on the loop's thread, in the order of posting. */
void loop_post(struct loop *l, loop_fn fn, void *arg);
/* fn(arg) runs at the end of this loop pass, before the loop blocks: for reaping objects that
 * callers up the stack still hold, and for writing once what a pass has gathered. */
void loop_defer(struct loop *l, loop_fn fn, void *arg);
/* work runs on a pool thread, then done on the loop's thread. */
void loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg);

/* Timers. One shot; timer_again moves it. */
struct timer;
struct timer *timer_start(struct loop *l, int64_t ms, loop_fn fn, void *arg);
void timer_again(struct timer *t, int64_t ms); /* starts over, also after it fired */
/* As timer_again, at most ms from now and up to step_ms earlier, at a multiple of step_ms of the
 * loop's clock: many that are not due at an exact time end in one pass, and what they do is done
 * together. */
void timer_align(struct timer *t, int64_t ms, int64_t step_ms);
void timer_stop(struct timer *t); /* keeps the handle */
void timer_close(struct timer *t); /* NULL is fine */
/* A timer that does not keep loop_run alive. */
void timer_unref(struct timer *t);

/* Readiness of a descriptor that the caller owns and closes after watch_close. An error on the
 * descriptor is reported as everything that was asked for plus LOOP_HANGUP: reading or writing
 * tells which. NULL: a regular file, which is always ready and cannot be watched. */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };
struct watch;
typedef void (*watch_fn)(void *arg, int events);
struct watch *watch_start(struct loop *l, int fd, int events, watch_fn fn, void *arg);
void watch_update(struct watch *w, int events); /* 0 pauses */
void watch_close(struct watch *w); /* NULL is fine */

struct signal_watch;
/* Does not keep the loop alive. */
struct signal_watch *signal_start(struct loop *l, int signo, loop_fn fn, void *arg);
void signal_close(struct signal_watch *s);

/* Children, watched by pidfd; no SIGCHLD handler, no waitpid(-1), so libraries keep theirs. */
struct child_spec {
	const char *path;
	char *const *argv;
	char *const *env; /* NULL: empty environment */
	const char *cwd; /* NULL: unchanged */
	/* fds[i] becomes descriptor i of the child (-1: /dev/null for 0..2, closed above); all
	 * others are closed. */
	const int *fds;
	size_t fds_n;
};
struct child;
/* status as from waitpid(2). The child object is released after this call. */
typedef void (*child_fn)(void *arg, pid_t pid, int status);
int child_start(struct loop *l, const struct child_spec *spec, child_fn on_exit, void *arg,
	struct child **out, struct err *e) MUST_USE;
pid_t child_pid(const struct child *c);
int child_kill(struct child *c, int signo); /* by pidfd: never a reused pid */
/* For who ends before a child that outlives him: on_exit is not called, and c is released. */
void child_leave(struct child *c);

/* Unix stream sockets. */
/* fd, or ERR_BUSY when another process serves it. Replaces a stale socket file. Paths may be longer
 * than sun_path. */
int unix_listen(const char *path, mode_t mode, struct err *e) MUST_USE;
/* fd, or ERR_NOT_FOUND when nobody serves it. */
int unix_connect(const char *path, struct err *e) MUST_USE;
int unix_accept(int listen_fd); /* fd, close-on-exec and non-blocking, or -1 with errno */
/* Peer credentials; 0 or -1. */
int unix_peer(int fd, uid_t *uid, pid_t *pid) MUST_USE;

#endif
