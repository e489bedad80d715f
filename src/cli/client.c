/* SPDX-License-Identifier: MIT
 * One link to a runtime: calls with an answer each, and the events of subscriptions. Does not reconnect: whoever
 * follows a turn knows from where to go on. Each call is answered exactly once, with ERR_GONE when the link breaks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/limits.h"
#include "base/mem.h"
#include "cli/internal.h"

#define REPEATS_MAX 6 /* of a call whose runtime went away: for 630 ms at most */
#define REPEAT_MS   10

/* Bytes behind a call. */
struct upload {
	struct stream *s; /* NULL: the runtime wants no more */
	struct str bytes;
	size_t at;
};

struct call {
	uint64_t id;
	client_answer_fn fn;
	void *arg;
	struct upload *up; /* NULL: nothing follows the call */
};

struct client {
	struct wire *w;
	const struct client_handler *h;
	void *arg;
	struct call *calls; /* in flight */
	size_t calls_n, calls_cap;
};

static void
upload_free(struct upload *up)
{
	if (up && up->s)
		stream_close(up->s, NULL);
	free(up);
}

static void
upload_write(struct upload *up)
{
	up->at += stream_write(up->s, 0, str_sub(up->bytes, up->at, up->bytes.n));
	if (up->at == up->bytes.n)
		stream_eof(up->s);
}

static void
on_credit(void *arg)
{
	upload_write(arg);
}

static void
on_upload_data(void *arg, int ch, struct str bytes)
{
}

static void
on_upload_eof(void *arg)
{
}

static void
on_upload_reset(void *arg, const struct err *e)
{
	((struct upload *)arg)->s = NULL; /* the answer says why */
}

static const struct stream_handler upload_handler = { .on_data = on_upload_data, .on_credit = on_credit,
	.on_eof = on_upload_eof, .on_reset = on_upload_reset };

static bool
take_call(struct client *k, uint64_t id, struct call *out)
{
	for (size_t i = 0; i < k->calls_n; i++) {
		if (k->calls[i].id != id)
			continue;
		*out = k->calls[i];
		k->calls[i] = k->calls[--k->calls_n];
		upload_free(out->up);
		return true;
	}
	return false;
}

/* The client may be closed by fn: it is not touched after. */
static int
on_result(struct client *k, struct wire_msg *m, struct err *e)
{
	struct arena *a;
	struct call call;
	const struct node *result = NULL;

	if (!take_call(k, m->id, &call))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the runtime answered a call that was not made");
	a = arena_new(JSON_TEXT_MAX);
	if (json_parse(a, m->tail.n > 0 ? m->tail : STR("{}"), &result, e) != 0) {
		err_wrap(e, "the runtime's answer");
		call.fn(call.arg, NULL, e);
	} else {
		call.fn(call.arg, result, NULL);
	}
	arena_free(a);
	return 0;
}

static int
on_error(struct client *k, struct wire_msg *m, struct err *e)
{
	struct err answer = { 0 };
	struct call call;

	if (!take_call(k, m->id, &call))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the runtime refused a call that was not made");
	wire_err(m->head, &answer);
	if (answer.code == 0)
		err_set(&answer, ERR_FAILED, ERR_TO_USER, "the runtime refused without a reason");
	call.fn(call.arg, NULL, &answer);
	return 0;
}

static void
on_event(struct client *k, struct wire_msg *m)
{
	uint64_t sub = (uint64_t)node_int(m->head, "sub", 0);
	struct err e = { 0 };

	if (!k->h)
		return;
	if (node_get(m->head, "code")) {
		wire_err(m->head, &e);
		k->h->on_failed(k->arg, sub, &e);
	} else if (m->tail.n > 0 || node_bool(m->head, "caught_up", false)) {
		k->h->on_event(k->arg, sub, m->tail);
	}
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct client *k = arg;

	switch (m->kind) {
	case WIRE_RESULT:
		return on_result(k, m, e);
	case WIRE_ERROR:
		return on_error(k, m, e);
	case WIRE_EVENT:
		on_event(k, m);
		return 0;
	default:
		return 0;
	}
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct client *k = arg;
	struct err gone = { 0 };
	const struct client_handler *h = k->h;
	void *h_arg = k->arg;

	err_set(&gone, ERR_GONE, ERR_TO_USER, "the link to the runtime broke: %s",
		e && e->msg[0] ? e->msg : "it was closed");
	k->w = NULL;
	while (k->calls_n > 0) {
		struct call call = k->calls[--k->calls_n];

		upload_free(call.up);
		call.fn(call.arg, NULL, &gone);
	}
	if (h)
		h->on_gone(h_arg, &gone);
}

static const struct wire_handler wire_handler = { .on_msg = on_msg, .on_gone = on_gone };

struct client *
client_new(struct loop *l, int fd, const struct client_handler *h, void *arg)
{
	struct client *k = xcalloc(1, sizeof(*k));

	k->h = h;
	k->arg = arg;
	k->w = wire_open(l, fd, ROLE_CLIENT, ROLE_RUNTIME, &wire_handler, k);
	return k;
}

void
client_close(struct client *k)
{
	if (!k)
		return;
	wire_close(k->w);
	for (size_t i = 0; i < k->calls_n; i++)
		free(k->calls[i].up);
	free(k->calls);
	free(k);
}

static uint64_t
call_add(struct client *k, enum api_method m, struct str params, struct upload *up, client_answer_fn fn, void *arg)
{
	uint64_t id = wire_next_id(k->w);
	struct json *head = wire_begin(k->w, WIRE_CALL, id);

	json_kv_z(head, "method", api_methods[m].name);
	wire_end(k->w, params, -1);
	k->calls = vec_grow(k->calls, &k->calls_cap, k->calls_n + 1, sizeof(*k->calls));
	k->calls[k->calls_n++] = (struct call){ id, fn, arg, up };
	return id;
}

void
client_call(struct client *k, enum api_method m, struct str params, client_answer_fn fn, void *arg)
{
	call_add(k, m, params, NULL, fn, arg);
}

void
client_put(struct client *k, struct str bytes, client_answer_fn fn, void *arg)
{
	struct upload *up = xcalloc(1, sizeof(*up));
	char params[48];
	uint64_t id;

	up->bytes = bytes;
	snprintf(params, sizeof(params), "{\"size\":%zu}", bytes.n);
	id = call_add(k, API_BLOB_PUT, str_of(params), up, fn, arg);
	up->s = stream_open(k->w, id, &upload_handler, up);
	upload_write(up);
}

/* ---- bytes behind an answer ---- */

struct download {
	struct stream *s;
	client_bytes_fn on_bytes;
	client_answer_fn fn;
	void *arg;
	bool is_answered, is_whole;
};

/* Ends it with its last word: the end of the bytes, or what went wrong. */
static void
download_ends(struct download *d, const struct err *e)
{
	struct download over = *d;

	free(d);
	if (over.s != NULL)
		stream_close(over.s, NULL);
	over.fn(over.arg, NULL, e);
}

static void
on_download_answer(void *arg, const struct node *result, const struct err *e)
{
	struct download *d = arg;

	d->is_answered = true;
	if (e != NULL || d->is_whole)
		download_ends(d, e);
}

static void
on_download_data(void *arg, int ch, struct str bytes)
{
	struct download *d = arg;

	d->on_bytes(d->arg, bytes);
	stream_consume(d->s, bytes.n);
}

static void
on_download_credit(void *arg)
{
}

static void
on_download_eof(void *arg)
{
	struct download *d = arg;

	d->is_whole = true;
	if (d->is_answered)
		download_ends(d, NULL);
}

static void
on_download_reset(void *arg, const struct err *e)
{
	struct download *d = arg;

	d->s = NULL; /* before the answer: that says why */
	if (d->is_answered)
		download_ends(d, e);
}

static const struct stream_handler download_handler = { .on_data = on_download_data, .on_credit = on_download_credit,
	.on_eof = on_download_eof, .on_reset = on_download_reset };

void
client_get(struct client *k, const char *blob, client_bytes_fn on_bytes, client_answer_fn fn, void *arg)
{
	struct download *d = xcalloc(1, sizeof(*d));
	char params[96];
	uint64_t id;

	*d = (struct download){ .on_bytes = on_bytes, .fn = fn, .arg = arg };
	snprintf(params, sizeof(params), "{\"blob\":\"%.64s\"}", blob);
	id = call_add(k, API_BLOB_GET, str_of(params), NULL, on_download_answer, d);
	d->s = stream_open(k->w, id, &download_handler, d);
	stream_eof(d->s);
}

/* ---- one call of a short command ---- */

struct once {
	struct cli *cli;
	struct loop *loop;
	const struct node *result;
	struct err e;
};

static void
once_answer(void *arg, const struct node *result, const struct err *e)
{
	struct once *o = arg;

	if (e)
		err_copy(&o->e, e);
	else
		o->result = node_copy(o->cli->a, result);
	loop_stop(o->loop);
}

static void
once_late(void *arg)
{
	struct once *o = arg;

	err_set(&o->e, ERR_TIMEOUT, ERR_TO_USER, "the runtime did not answer within %lld ms", (long long)o->cli->wait_ms);
	loop_stop(o->loop);
}

static int
call_on(struct loop *l, struct cli *c, int fd, enum api_method m, struct str params,
	const struct node **result, struct err *e)
{
	struct once o = { .cli = c, .loop = l };
	struct client *k = client_new(l, fd, NULL, NULL);
	struct timer *late = c->wait_ms > 0 ? timer_start(l, c->wait_ms, once_late, &o) : NULL;

	client_call(k, m, params, once_answer, &o);
	loop_run(l);
	timer_close(late);
	client_close(k);
	if (!o.result)
		return err_copy(e, &o.e);
	*result = o.result;
	return 0;
}

int
runtime_agrees(struct cli *c, const struct node *status, struct err *e)
{
	const char *file = node_z(status, "config_file", "none");
	const char *tier = node_z(status, "tier", "unknown");

	if (c->env_n > 0)
		return err_set(e, ERR_CONFLICT, ERR_TO_USER,
			"a runtime is running for %s already and -e cannot change it (stop it, or leave -e out)",
			c->home);
	if (c->config && strcmp(c->config, file) != 0)
		return err_set(e, ERR_CONFLICT, ERR_TO_USER,
			"the runtime of %s uses the configuration %s (stop it, or leave --config out)", c->home,
			file);
	if (c->tier && strcmp(c->tier, tier) != 0 && strcmp(c->tier, "auto") != 0)
		return err_set(e, ERR_CONFLICT, ERR_TO_USER,
			"the runtime of %s works in tier %s (stop it, or leave --tier out)", c->home, tier);
	return 0;
}

static bool
has_start_options(const struct cli *c)
{
	return c->env_n > 0 || c->config || c->tier;
}

static int
call_connected(struct loop *l, struct cli *c, enum api_method m, struct str params, enum connect how,
	const struct node **result, struct err *e)
{
	const struct node *status;
	bool is_ours;
	int fd = runtime_connect(c, how, &is_ours, e);

	if (fd < 0)
		return fd;
	if (!is_ours && has_start_options(c)) {
		if (call_on(l, c, fd, API_STATUS_GET, STR("{}"), &status, e) != 0 ||
			runtime_agrees(c, status, e) != 0)
			return e->code;
		fd = runtime_connect(c, how, NULL, e);
		if (fd < 0)
			return fd;
	}
	return call_on(l, c, fd, m, params, result, e);
}

/* Methods that may be sent again when a runtime went away before it answered: done twice, they do no more than once. */
static bool
may_repeat(enum api_method m)
{
	return m != API_SESSION_CREATE && m != API_SESSION_TURN;
}

int
call_once(struct cli *c, enum api_method m, struct str params, enum connect how,
	const struct node **result, struct err *e)
{
	struct loop *l;
	int rc = loop_open(&l, e);

	if (rc != 0)
		return rc;
	rc = call_connected(l, c, m, params, how, result, e);
	/* A runtime that is just ending closes the link; a later connect finds or starts another. */
	for (int i = 0; rc == ERR_GONE && how != CONNECT_ONLY && may_repeat(m) && i < REPEATS_MAX; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = REPEAT_MS * 1000000L << i }, NULL);
		rc = call_connected(l, c, m, params, how, result, e);
	}
	loop_close(l);
	return rc;
}
