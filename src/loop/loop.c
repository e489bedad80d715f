/* SPDX-License-Identifier: MIT
 * The event loop over libuv: passes, posted and deferred calls, timers, watches, signals, pool
 * work. The only file that sees libuv types. Invariant: a handle's memory outlives its last
 * callback, because libuv closes in two steps and the memory goes in the second; deferred calls run
 * before the loop blocks, whoever queued them. */
#include <pthread.h>
#include <stdlib.h>
#include <uv.h>
#undef MIN /* sys/param.h has them too */
#undef MAX
#include "base/mem.h"
#include "loop/internal.h"

struct call {
	loop_fn fn;
	void *arg;
};

struct call_list {
	struct call *v;
	size_t n, cap;
};

struct loop {
	uv_loop_t uv;
	uv_prepare_t before; /* timers ran, about to block */
	uv_check_t after; /* descriptors were served */
	uv_async_t wake;
	pthread_mutex_t lock; /* of posted */
	struct call_list posted;
	struct call_list deferred;
	bool is_stopped;
};

struct timer {
	uv_timer_t uv;
	loop_fn fn;
	void *arg;
};

struct watch {
	uv_poll_t uv;
	int events;
	watch_fn fn;
	void *arg;
};

struct signal_watch {
	uv_signal_t uv;
	loop_fn fn;
	void *arg;
};

struct work {
	uv_work_t uv;
	loop_fn work, done;
	void *arg;
};

static void
must(int rc, const char *what)
{
	if (rc != 0)
		fatal("loop: %s: %s", what, uv_strerror(rc));
}

static void
free_handle(uv_handle_t *h)
{
	free(h->data);
}

static void
call_add(struct call_list *list, loop_fn fn, void *arg)
{
	if (list->n == list->cap)
		list->v = vec_grow(list->v, &list->cap, list->n + 1, sizeof(*list->v));
	list->v[list->n++] = (struct call){ fn, arg };
}

/* Also runs what the calls themselves defer, so nothing waits through a block. */
static void
run_deferred(struct loop *l)
{
	for (size_t i = 0; i < l->deferred.n; i++) {
		struct call c = l->deferred.v[i];
		c.fn(c.arg);
	}
	l->deferred.n = 0;
}

static void
on_before(uv_prepare_t *h)
{
	run_deferred(h->data);
}

static void
on_after(uv_check_t *h)
{
	run_deferred(h->data);
}

static void
on_wake(uv_async_t *h)
{
	struct loop *l = h->data;
	pthread_mutex_lock(&l->lock);
	struct call_list list = l->posted;
	l->posted = (struct call_list){ 0 };
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < list.n; i++)
		list.v[i].fn(list.v[i].arg);
	free(list.v);
}

int
loop_open(struct loop **out, struct err *e)
{
	struct loop *l = xcalloc(1, sizeof(*l));
	int rc = uv_loop_init(&l->uv);
	if (rc != 0) {
		free(l);
		return err_errno(e, -rc, ERR_TO_USER, "cannot make an event loop");
	}
	rc = uv_async_init(&l->uv, &l->wake, on_wake);
	if (rc != 0) {
		uv_loop_close(&l->uv);
		free(l);
		return err_errno(e, -rc, ERR_TO_USER, "cannot make an event loop");
	}
	must(uv_prepare_init(&l->uv, &l->before), "prepare");
	must(uv_check_init(&l->uv, &l->after), "check");
	l->wake.data = l->before.data = l->after.data = l;
	must(uv_prepare_start(&l->before, on_before), "prepare");
	must(uv_check_start(&l->after, on_after), "check");
	uv_unref((uv_handle_t *)&l->wake);
	uv_unref((uv_handle_t *)&l->before);
	uv_unref((uv_handle_t *)&l->after);
	pthread_mutex_init(&l->lock, NULL);
	*out = l;
	return 0;
}

void
loop_run(struct loop *l)
{
	/* A deferred call may close the last handle or make a new one when libuv has already
	 * looked. */
	l->is_stopped = false;
	do {
		run_deferred(l);
		uv_run(&l->uv, UV_RUN_DEFAULT);
		run_deferred(l);
	} while (!l->is_stopped && uv_loop_alive(&l->uv));
}

void
loop_stop(struct loop *l)
{
	l->is_stopped = true;
	uv_stop(&l->uv);
}

static void
name_open_handle(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		*(const char **)arg = uv_handle_type_name(uv_handle_get_type(h));
}

void
loop_close(struct loop *l)
{
	on_wake(&l->wake); /* a posted call may own memory: it runs, late rather than never */
	run_deferred(l);
	uv_close((uv_handle_t *)&l->wake, NULL);
	uv_close((uv_handle_t *)&l->before, NULL);
	uv_close((uv_handle_t *)&l->after, NULL);
	uv_run(&l->uv, UV_RUN_NOWAIT); /* second step of every close */
	const char *open = NULL;
	uv_walk(&l->uv, name_open_handle, &open);
	if (open != NULL)
		fatal("loop_close: a handle of type %s is still open", open);
	must(uv_loop_close(&l->uv), "close");
	pthread_mutex_destroy(&l->lock);
	free(l->posted.v);
	free(l->deferred.v);
	free(l);
}

int64_t
loop_now_ms(struct loop *l)
{
	return (int64_t)uv_now(&l->uv);
}

void
loop_post(struct loop *l, loop_fn fn, void *arg)
{
	pthread_mutex_lock(&l->lock);
	call_add(&l->posted, fn, arg);
	pthread_mutex_unlock(&l->lock);
	must(uv_async_send(&l->wake), "post");
}

void
loop_defer(struct loop *l, loop_fn fn, void *arg)
{
	call_add(&l->deferred, fn, arg);
}

static void
on_work(uv_work_t *h)
{
	struct work *k = h->data;
	k->work(k->arg);
}

static void
on_work_done(uv_work_t *h, int status)
{
	struct work *k = h->data;
	k->done(k->arg);
	free(k);
}

void
loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg)
{
	struct work *k = xcalloc(1, sizeof(*k));
	*k = (struct work){ .work = work, .done = done, .arg = arg };
	k->uv.data = k;
	must(uv_queue_work(&l->uv, &k->uv, on_work, on_work_done), "work");
}

/* ---- timers ---- */

static void
on_timer(uv_timer_t *h)
{
	struct timer *t = h->data;
	t->fn(t->arg);
}

struct timer *
timer_start(struct loop *l, int64_t ms, loop_fn fn, void *arg)
{
	struct timer *t = xcalloc(1, sizeof(*t));
	t->fn = fn;
	t->arg = arg;
	must(uv_timer_init(&l->uv, &t->uv), "timer");
	t->uv.data = t;
	timer_again(t, ms);
	return t;
}

void
timer_again(struct timer *t, int64_t ms)
{
	/* libuv counts from the time of the pass; after a long callback, or before the first pass,
	 * that is in the past and the timer would fire early. */
	uv_update_time(t->uv.loop);
	must(uv_timer_start(&t->uv, on_timer, ms > 0 ? (uint64_t)ms : 0, 0), "timer");
}

void
timer_align(struct timer *t, int64_t ms, int64_t step_ms)
{
	uv_update_time(t->uv.loop);
	int64_t now = (int64_t)uv_now(t->uv.loop), due = (now + ms) / step_ms * step_ms;
	must(uv_timer_start(&t->uv, on_timer, due > now ? (uint64_t)(due - now) : 0, 0), "timer");
}

void
timer_stop(struct timer *t)
{
	must(uv_timer_stop(&t->uv), "timer");
}

void
timer_close(struct timer *t)
{
	if (t != NULL)
		uv_close((uv_handle_t *)&t->uv, free_handle);
}

void
timer_unref(struct timer *t)
{
	uv_unref((uv_handle_t *)&t->uv);
}

/* ---- watches ---- */

static void
on_poll(uv_poll_t *h, int status, int bits)
{
	struct watch *w = h->data;
	int events = 0;
	if (bits & UV_READABLE)
		events |= LOOP_READ;
	if (bits & UV_WRITABLE)
		events |= LOOP_WRITE;
	if (bits & UV_DISCONNECT)
		events |= LOOP_HANGUP;
	if (status >= 0) {
		w->fn(w->arg, events);
		return;
	}
	/* libuv stopped it because the descriptor has an error: reading or writing tells which. It
	 * is armed again, since there may be bytes to read before the error is met. */
	int asked = w->events;
	w->events = 0;
	watch_update(w, asked);
	w->fn(w->arg, asked | LOOP_HANGUP);
}

struct watch *
watch_start(struct loop *l, int fd, int events, watch_fn fn, void *arg)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	w->fn = fn;
	w->arg = arg;
	int rc = uv_poll_init(&l->uv, &w->uv, fd);
	if (rc == UV_EPERM) { /* a regular file */
		free(w);
		return NULL;
	}
	must(rc, "watch");
	w->uv.data = w;
	watch_update(w, events);
	return w;
}

void
watch_update(struct watch *w, int events)
{
	if (events == w->events)
		return;
	w->events = events;
	int bits = 0;
	if (events & LOOP_READ)
		bits |= UV_READABLE;
	if (events & LOOP_WRITE)
		bits |= UV_WRITABLE;
	if (events & LOOP_HANGUP)
		bits |= UV_DISCONNECT;
	must(bits != 0 ? uv_poll_start(&w->uv, bits, on_poll) : uv_poll_stop(&w->uv), "watch");
}

void
watch_close(struct watch *w)
{
	if (w != NULL)
		uv_close((uv_handle_t *)&w->uv, free_handle);
}

/* ---- signals ---- */

static void
on_signal(uv_signal_t *h, int signo)
{
	struct signal_watch *s = h->data;
	s->fn(s->arg);
}

struct signal_watch *
signal_start(struct loop *l, int signo, loop_fn fn, void *arg)
{
	struct signal_watch *s = xcalloc(1, sizeof(*s));
	s->fn = fn;
	s->arg = arg;
	must(uv_signal_init(&l->uv, &s->uv), "signal");
	s->uv.data = s;
	must(uv_signal_start(&s->uv, on_signal, signo), "signal");
	uv_unref((uv_handle_t *)&s->uv);
	return s;
}

void
signal_close(struct signal_watch *s)
{
	if (s != NULL)
		uv_close((uv_handle_t *)&s->uv, free_handle);
}
