/* SPDX-License-Identifier: MIT
 * Batches: operations packed one behind the other in one piece of memory, and bound from there
 * without a copy. Does not run anything. Invariant: a batch past STORE_BATCH_MAX holds nothing and
 * is refused whole. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

void
batch_init(struct batch *b)
{
	b->ticket = (struct ticket){ 0 };
	b->len = b->used = 0;
	b->cap = sizeof(b->inline_);
	b->data = b->inline_;
	b->too_big = false;
}

struct batch *
batch_new(void)
{
	struct batch *b = xmalloc(sizeof(*b));

	batch_init(b);
	return b;
}

void
batch_fini(struct batch *b)
{
	if (b->data != b->inline_)
		free(b->data);
	free(b->ticket.err);
	batch_init(b);
}

void
batch_free(struct batch *b)
{
	if (b == NULL)
		return;
	batch_fini(b);
	free(b);
}

size_t
batch_len(const struct batch *b)
{
	return b->len;
}

static size_t
padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* Room for n more bytes, or NULL when the batch is too big (then it is emptied: it can only be
 * refused). */
static char *
batch_room(struct batch *b, size_t n)
{
	char *data;
	size_t cap = b->cap;

	if (b->too_big)
		return NULL;
	if (n > STORE_BATCH_MAX || b->used + n > STORE_BATCH_MAX) {
		b->too_big = true;
		b->used = 0;
		return NULL;
	}
	if (b->used + n > cap) {
		while (cap < b->used + n)
			cap *= 2;
		data = xmalloc(cap);
		memcpy(data, b->data, b->used);
		if (b->data != b->inline_)
			free(b->data);
		b->data = data;
		b->cap = cap;
	}
	b->used += n;
	return b->data + b->used - n;
}

static size_t
value_size(const struct cell_value *v)
{
	return v->type == CELL_TEXT || v->type == CELL_BYTES ? v->s.n : 0;
}

void
batch_add_expect(struct batch *b, enum stmt st, const struct cell_value *params, size_t n, int rows)
{
	struct batch_op op = { .stmt = (uint16_t)st, .n = (uint16_t)n, .expect = rows };
	size_t size = sizeof(op);
	char *p;

	for (size_t i = 0; i < n; i++) {
		if (value_size(&params[i]) > STORE_BATCH_MAX)
			size = STORE_BATCH_MAX; /* with its head this is past the maximum */
		else
			size += padded(value_size(&params[i]));
		size += sizeof(struct batch_value);
	}
	b->len++;
	p = batch_room(b, size);
	if (p == NULL)
		return;
	memcpy(p, &op, sizeof(op));
	p += sizeof(op);
	for (size_t i = 0; i < n; i++) {
		struct batch_value v = { params[i].type, (uint32_t)value_size(&params[i]),
			params[i].i };
		memcpy(p, &v, sizeof(v));
		p += sizeof(v);
		if (v.size != 0)
			memcpy(p, params[i].s.p, v.size);
		p += padded(v.size);
	}
}

void
batch_add(struct batch *b, enum stmt st, const struct cell_value *params, size_t n)
{
	batch_add_expect(b, st, params, n, -1);
}

static int
bind_value(sqlite3_stmt *q, int i, const struct batch_value *v, const char *bytes)
{
	switch ((enum cell_type)v->type) {
	case CELL_NULL:
		return sqlite3_bind_null(q, i);
	case CELL_INT:
		return sqlite3_bind_int64(q, i, v->i);
	case CELL_TEXT:
		return sqlite3_bind_text(q, i, bytes, (int)v->size, SQLITE_STATIC);
	case CELL_BYTES:
		return sqlite3_bind_blob(q, i, bytes, (int)v->size, SQLITE_STATIC);
	}
	fatal("store: a value has type %u", v->type);
}

int
batch_bind(struct conn *c, const struct batch *b, size_t *offset, struct batch_op *op,
	sqlite3_stmt **out, struct err *e)
{
	const char *p = b->data + *offset;
	sqlite3_stmt *q;
	int rc;

	memcpy(op, p, sizeof(*op));
	p += sizeof(*op);
	rc = conn_stmt(c, op->stmt, &q, e);
	if (rc != 0)
		return rc;
	if (sqlite3_bind_parameter_count(q) != op->n)
		fatal("store: %s takes %d parameters, not %u", stmt_name(op->stmt),
			sqlite3_bind_parameter_count(q), op->n);
	for (int i = 1; i <= op->n; i++) {
		struct batch_value v;
		memcpy(&v, p, sizeof(v));
		p += sizeof(v);
		rc = bind_value(q, i, &v, p);
		if (rc != SQLITE_OK)
			return conn_err(c, rc, stmt_name(op->stmt), e);
		p += padded(v.size);
	}
	*offset = (size_t)(p - b->data);
	*out = q;
	return 0;
}
