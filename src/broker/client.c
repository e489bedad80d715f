/* SPDX-License-Identifier: MIT
 * The runtime's side: turns a request into a FETCH with its body as a stream, and the answer into
 * callbacks. Holds no key and opens no socket. Invariant: each fetch ends once, by on_end, on_fail
 * or fetch_cancel, and is released before its last callback. */
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "broker/internal.h"

struct broker {
	struct loop *l;
	struct wire *w; /* NULL: no link */
	loop_fn on_up;
	void *arg;
	struct fetch *fetches;
	char *secrets; /* the sealed file */
	size_t secrets_n;
	uint64_t secrets_id; /* of the last message with it */
	struct arena *keyring_arena;
	const struct node *keyring; /* NULL: not answered */
	loop_fn on_keyring;
	void *keyring_arg;
	broker_egress_fn on_egress;
	void *egress_arg;
};

struct fetch {
	struct broker *b;
	struct fetch *next, **link;
	struct stream *stream;
	const struct fetch_handler *h;
	void *arg;
	struct str body; /* not sent yet */
	bool has_head;
};

/* ---- one fetch ---- */

static void
fetch_free(struct fetch *f)
{
	*f->link = f->next;
	if (f->next != NULL)
		f->next->link = f->link;
	free(f);
}

static void
fetch_fail(struct fetch *f, const struct err *e)
{
	const struct fetch_handler *h = f->h;
	void *arg = f->arg;
	struct err copy = *e;

	fetch_free(f);
	h->on_fail(arg, &copy);
}

static void
send_body(void *arg)
{
	struct fetch *f = arg;
	size_t n = stream_write(f->stream, 0, f->body);

	f->body = str_sub(f->body, n, f->body.n);
	if (f->body.n == 0)
		stream_eof(f->stream);
}

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct fetch *f = arg;
	stream_consume(f->stream, bytes.n); /* first: the callback may cancel f */
	f->h->on_data(f->arg, bytes);
}

static void
on_eof(void *arg)
{
	struct fetch *f = arg;
	const struct fetch_handler *h = f->h;
	void *fetch_arg = f->arg;

	stream_close(f->stream, NULL);
	if (!f->has_head) {
		struct err e;
		err_set(&e, ERR_PROTO, ERR_TO_LOG,
			"the broker ended an answer that it had not begun");
		fetch_fail(f, &e);
		return;
	}
	fetch_free(f);
	h->on_end(fetch_arg);
}

static void
on_reset(void *arg, const struct err *e)
{
	fetch_fail(arg, e);
}

static const struct stream_handler stream_callbacks = {
	.on_data = on_data, .on_credit = send_body, .on_eof = on_eof, .on_reset = on_reset
};

static struct fetch *
find_fetch(struct broker *b, uint64_t id)
{
	struct fetch *f = b->fetches;
	while (f != NULL && stream_id(f->stream) != id)
		f = f->next;
	return f;
}

int
broker_fetch(struct broker *b, const struct fetch_request *r, const struct fetch_handler *h,
	void *arg, struct fetch **out, struct err *e)
{
	int rc = request_check_path(r->path, e);
	if (rc == 0)
		rc = request_check_headers(r->headers, e);
	if (rc != 0)
		return rc;
	if (r->body.n > REQUEST_BODY_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "request body of %zu bytes (at most %u)",
			r->body.n, REQUEST_BODY_MAX);
	if (!broker_is_up(b))
		return err_set(e, ERR_GONE, ERR_TO_USER,
			"the broker is not running (it is being restarted)");

	struct fetch *f = xcalloc(1, sizeof(*f));
	*f = (struct fetch){
		.b = b, .h = h, .arg = arg, .body = r->body, .next = b->fetches, .link = &b->fetches
	};
	if (f->next != NULL)
		f->next->link = &f->next;
	b->fetches = f;
	uint64_t id = wire_next_id(b->w);
	struct json *j = wire_begin(b->w, WIRE_FETCH, id);
	json_kv_z(j, "provider", r->provider);
	json_kv_str(j, "path", r->path);
	json_kv_str(j, "headers", r->headers);
	json_kv_int(j, "connect_ms", r->connect_ms);
	json_kv_int(j, "idle_ms", r->idle_ms);
	wire_end(b->w, STR(""), -1);
	f->stream = stream_open(b->w, id, &stream_callbacks, f);
	send_body(f);
	*out = f;
	return 0;
}

void
fetch_cancel(struct fetch *f)
{
	stream_close(f->stream, NULL);
	fetch_free(f);
}

/* ---- the link ---- */

static int
on_fetched(struct broker *b, struct wire_msg *m, struct err *e)
{
	struct fetch *f = find_fetch(b, m->id);
	int64_t status = node_int(m->head, "status", 0);

	if (f == NULL) /* cancelled here meanwhile */
		return 0;
	if (f->has_head || status < 200 || status > 999)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "answer head with status %lld%s",
			(long long)status, f->has_head ? ", the second one" : "");
	f->has_head = true;
	f->h->on_head(f->arg, (int)status, node_str(m->head, "headers", STR("")));
	return 0;
}

/* ---- sealed secrets ---- */

static void
forget_keyring(struct broker *b)
{
	b->keyring = NULL;
	if (b->keyring_arena != NULL)
		arena_free(b->keyring_arena);
	b->keyring_arena = NULL;
}

static int
on_keyring(struct broker *b, struct wire_msg *m, struct err *e)
{
	const struct node *n;

	if (m->id != b->secrets_id) /* about a former file */
		return 0;
	forget_keyring(b);
	b->keyring_arena = arena_new(WIRE_NODES_MAX);
	if (json_parse(b->keyring_arena, m->tail, &n, e) != 0)
		return err_wrap(e, "keyring");
	b->keyring = n;
	if (b->on_keyring != NULL)
		b->on_keyring(b->keyring_arg);
	return 0;
}

static void
send_secrets(struct broker *b)
{
	forget_keyring(b);
	b->secrets_id = wire_next_id(b->w);
	wire_begin(b->w, WIRE_SECRETS, b->secrets_id);
	wire_end(b->w, (struct str){ b->secrets, b->secrets_n }, -1);
}

void
broker_secrets(struct broker *b, struct str file)
{
	free(b->secrets);
	b->secrets = str_dup(file);
	b->secrets_n = MIN(file.n, SECRETS_FILE_MAX);
	if (broker_is_up(b))
		send_secrets(b);
}

const struct node *
broker_keyring(const struct broker *b)
{
	return b->keyring;
}

void
broker_on_keyring(struct broker *b, loop_fn fn, void *arg)
{
	b->on_keyring = fn;
	b->keyring_arg = arg;
}

/* ---- cells ---- */

void
broker_grant(struct broker *b, const char *cell, struct str grant)
{
	if (!broker_is_up(b))
		return;
	json_kv_z(wire_begin(b->w, WIRE_GRANT, 0), "cell", cell);
	wire_end(b->w, grant, -1);
}

void
broker_on_egress(struct broker *b, broker_egress_fn fn, void *arg)
{
	b->on_egress = fn;
	b->egress_arg = arg;
}

bool
broker_mark(struct broker *b, const char *cell, const char *mark)
{
	if (b == NULL || !broker_is_up(b))
		return false;
	struct json *j = wire_begin(b->w, WIRE_EGRESS, 0);
	json_kv_z(j, "cell", cell);
	json_kv_z(j, "mark", mark);
	wire_end(b->w, STR(""), -1);
	return true;
}

static void
tell_lost(struct broker *b)
{
	if (b->on_egress != NULL)
		b->on_egress(b->egress_arg, NULL);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct broker *b = arg;

	if (m->kind == WIRE_FETCHED)
		return on_fetched(b, m, e);
	if (m->kind == WIRE_KEYRING)
		return on_keyring(b, m, e);
	if (m->kind == WIRE_EGRESS) {
		if (b->on_egress != NULL)
			b->on_egress(b->egress_arg, m->head);
		return 0;
	}
	struct fetch *f = find_fetch(b, m->id); /* ERROR: refused before it had a stream */
	if (f != NULL) {
		struct err why = { 0 };
		wire_err(m->head, &why);
		stream_close(f->stream, NULL);
		fetch_fail(f, &why);
	}
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct broker *b = arg;
	if (b->w != w)
		return;
	b->w = NULL;
	forget_keyring(b);
	tell_lost(b);
}

static const struct wire_handler handler = { .on_msg = on_msg, .on_gone = on_gone };

struct broker *
broker_new(struct loop *l, loop_fn on_up, void *arg)
{
	struct broker *b = xcalloc(1, sizeof(*b));
	*b = (struct broker){ .l = l, .on_up = on_up, .arg = arg };
	return b;
}

void
broker_free(struct broker *b)
{
	if (b == NULL)
		return;
	while (b->fetches != NULL)
		fetch_cancel(b->fetches);
	wire_close(b->w);
	forget_keyring(b);
	free(b->secrets);
	free(b);
}

void
broker_attach(struct broker *b, int fd)
{
	struct wire *former = b->w;

	b->w = NULL; /* what fails now cannot start again before the new link is there */
	wire_close(former);
	if (former != NULL)
		tell_lost(b);
	b->w = wire_open(b->l, fd, ROLE_RUNTIME, ROLE_BROKER, &handler, b);
	send_secrets(b); /* before the first request that may need one */
	if (b->on_up != NULL)
		b->on_up(b->arg);
}

bool
broker_is_up(const struct broker *b)
{
	return b->w != NULL && wire_is_open(b->w);
}
