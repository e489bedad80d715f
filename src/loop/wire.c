/* SPDX-License-Identifier: MIT
 * Messages between roles: the table of who may send what to whom, and the codec of one frame. No
 * sockets and no loop here. Invariant: nothing leaves wire_parse that the table does not allow or
 * that is over a named maximum. */
#include <endian.h>
#include "base/limits.h"
#include "loop/internal.h"

static const struct kind {
	const char *name;
	size_t tail_max;
	bool may_carry_fd;
} kinds[WIRE_KIND_COUNT] = {
#define ROW(constant, text, tail, fd) [WIRE_##constant] = { text, tail, fd },
	WIRE_KINDS(ROW)
#undef ROW
};

#define K(constant) (UINT64_C(1) << WIRE_##constant)
#define STREAM      (K(DATA) | K(CREDIT) | K(EOF) | K(RESET))
_Static_assert(WIRE_KIND_COUNT <= 64, "a row of edges is a set of at most 64 kinds");

/* [from][to]: what may be sent. An empty place is an edge that does not exist. */
static const uint64_t edges[ROLE_COUNT][ROLE_COUNT] = {
	[ROLE_RUNNER] = {
		[ROLE_RUNTIME] = K(BOOT) | K(PEER) | K(LISTEN) | K(STOP) | K(STATUS) | K(RESULT) |
			K(ERROR),
		[ROLE_BROKER] = K(BOOT) | K(PEER) | K(LISTEN) | K(STOP),
		[ROLE_SHELLD] = K(BOOT) | K(PEER) | K(LISTEN) | K(STOP) | K(LINK),
		[ROLE_CLIENT] = K(RESULT) | K(ERROR) | K(READY) | K(FAULT),
	},
	[ROLE_RUNTIME] = {
		[ROLE_RUNNER] = K(READY) | K(IDLE) | K(FAULT) | K(HOST_FILE),
		[ROLE_CLIENT] = K(RESULT) | K(ERROR) | K(EVENT) | STREAM,
		[ROLE_BROKER] = K(FETCH) | K(SECRETS) | K(GRANT) | K(EGRESS) | STREAM,
		[ROLE_SHELLD] = K(SPAWN) | K(EXEC) | K(INPUT) | K(RESIZE) | K(SIGNAL) | K(KILL) |
			K(SPOOL) | K(FILE) | K(CLOSE) | STREAM,
	},
	[ROLE_BROKER] = {
		[ROLE_RUNNER] = K(READY) | K(IDLE) | K(FAULT),
		[ROLE_RUNTIME] = K(FETCHED) | K(KEYRING) | K(EGRESS) | K(ERROR) | STREAM,
		[ROLE_SHELLD] = STREAM,
	},
	[ROLE_SHELLD] = {
		[ROLE_RUNNER] = K(READY) | K(IDLE) | K(FAULT) | K(LINKED),
		[ROLE_RUNTIME] = K(HELLO) | K(SPAWNED) | K(EXEC_BEGUN) | K(EXEC_STATUS) |
			K(SPOOLED) | K(FILED) | K(CLOSED) | K(ERROR) | STREAM,
		[ROLE_BROKER] = K(PROXY) | STREAM,
	},
	[ROLE_CLIENT] = {
		[ROLE_RUNTIME] = K(CALL) | STREAM,
		[ROLE_RUNNER] = K(CALL) | K(STOP),
	},
};

const char *
role_name(enum role r)
{
	static const char *const names[ROLE_COUNT] = {
		[ROLE_RUNNER] = "runner",
		[ROLE_RUNTIME] = "runtime",
		[ROLE_BROKER] = "broker",
		[ROLE_SHELLD] = "shelld",
		[ROLE_CLIENT] = "client",
	};
	return r < ROLE_COUNT ? names[r] : "unknown";
}

const char *
wire_kind_name(enum wire_kind k)
{
	return k < WIRE_KIND_COUNT ? kinds[k].name : "unknown";
}

bool
wire_may_send(enum role from, enum role to, enum wire_kind k)
{
	return from < ROLE_COUNT && to < ROLE_COUNT && k < WIRE_KIND_COUNT &&
		(edges[from][to] >> k & 1) != 0;
}

bool
wire_is_stream_kind(enum wire_kind k)
{
	return (STREAM >> k & 1) != 0;
}

bool
wire_opens_stream(enum wire_kind k)
{
	return ((K(FETCH) | K(EXEC) | K(CALL) | K(PROXY)) >> k & 1) != 0;
}

static uint32_t
get_u32(const char *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static void
put_u32(char *p, size_t n)
{
	uint32_t v = htole32((uint32_t)n);
	memcpy(p, &v, sizeof(v));
}

/* ---- receiving ---- */

static int
find_kind(struct str name)
{
	for (int k = 0; k < WIRE_KIND_COUNT; k++) {
		if (str_is(name, kinds[k].name))
			return k;
	}
	return -1;
}

/* What every head must say; kind-specific keys are the receiver's business. */
static int
check_head(const struct node *head, size_t tail_n, enum role from, enum role to,
	struct wire_frame *out, struct err *e)
{
	if (!node_is(head, NODE_MAP))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "head is %s, not a map",
			node_type_name(head->type));
	int64_t version = node_int(head, "v", -1);
	if (version != WIRE_VERSION)
		return err_set(e, ERR_PROTO, ERR_TO_LOG,
			"the %s speaks message version %lld, this program %d (use one build)",
			role_name(from), (long long)version, WIRE_VERSION);
	struct str name = node_str(head, "kind", STR(""));
	int kind = find_kind(name);
	if (kind < 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "unknown kind \"%.*s\"",
			(int)MIN(name.n, 40), name.p);
	if (!wire_may_send(from, to, (enum wire_kind)kind))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "a %s may not send %s to a %s",
			role_name(from), kinds[kind].name, role_name(to));
	if (tail_n > kinds[kind].tail_max)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s has a tail of %zu bytes (at most %zu)",
			kinds[kind].name, tail_n, kinds[kind].tail_max);
	int64_t id = node_int(head, "id", -1);
	if (id < 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s has no id (an integer from 0)",
			kinds[kind].name);
	bool has_fd = node_bool(head, "fd", false);
	if (has_fd && !kinds[kind].may_carry_fd)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "%s may not carry a descriptor",
			kinds[kind].name);
	out->m.kind = (enum wire_kind)kind;
	out->m.id = (uint64_t)id;
	out->has_fd = has_fd;
	return 0;
}

/* The sizes are checked as soon as they are known, so a liar is dropped before memory is given to
 * it. */
static int
check_prefix(struct str in, size_t *total, size_t *head_n, struct err *e)
{
	*total = get_u32(in.p);
	*head_n = get_u32(in.p + 4);
	if (*total < 4 || *head_n > *total - 4)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "frame of %zu bytes with a head of %zu",
			*total, *head_n);
	if (*head_n > WIRE_HEAD_MAX)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "head of %zu bytes (at most %u)", *head_n,
			WIRE_HEAD_MAX);
	if (*total - 4 - *head_n > WIRE_TAIL_MAX)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "tail of %zu bytes (at most %u)",
			*total - 4 - *head_n, WIRE_TAIL_MAX);
	return 0;
}

ptrdiff_t
wire_parse(struct str in, enum role from, enum role to, struct arena *a, struct wire_frame *out,
	struct err *e)
{
	size_t total, head_n;
	const struct node *head;
	struct wire_frame f = { 0 };

	if (in.n < WIRE_PREFIX)
		return 0;
	int rc = check_prefix(in, &total, &head_n, e);
	if (rc != 0)
		return rc;
	if (in.n - 4 < total)
		return 0;
	struct str tail = { in.p + WIRE_PREFIX + head_n, total - 4 - head_n };
	rc = json_parse(a, (struct str){ in.p + WIRE_PREFIX, head_n }, &head, e);
	if (rc != 0) {
		err_wrap(e, "head");
		return ERR_PROTO;
	}
	rc = check_head(head, tail.n, from, to, &f, e);
	if (rc != 0)
		return rc;
	f.m.head = head;
	f.m.tail = tail;
	f.m.fd = -1;
	*out = f;
	return (ptrdiff_t)(4 + total);
}

/* ---- sending ---- */

size_t
wire_put_begin(struct buf *b, struct json *j, enum wire_kind k, uint64_t id)
{
	static const char space[WIRE_PREFIX];
	size_t start = b->n;

	buf_add(b, space, sizeof(space));
	json_init(j, b);
	json_obj(j);
	json_kv_int(j, "v", WIRE_VERSION);
	json_kv_z(j, "kind", wire_kind_name(k));
	json_kv_int(j, "id", (int64_t)id);
	return start;
}

static int
put_refuse(struct buf *b, size_t start, struct err *e, enum wire_kind k, const char *part, size_t n,
	size_t max)
{
	buf_truncate(b, start);
	return err_set(e, ERR_LIMIT, ERR_TO_LOG, "%s: %s of %zu bytes (at most %zu)",
		wire_kind_name(k), part, n, max);
}

int
wire_put_end(struct buf *b, struct json *j, size_t start, enum wire_kind k, struct str tail,
	bool has_fd, struct err *e)
{
	if (has_fd)
		json_kv_bool(j, "fd", true);
	json_obj_end(j);
	size_t head_n = b->n - start - WIRE_PREFIX;
	if (head_n > WIRE_HEAD_MAX)
		return put_refuse(b, start, e, k, "head", head_n, WIRE_HEAD_MAX);
	if (tail.n > kinds[k].tail_max)
		return put_refuse(b, start, e, k, "tail", tail.n, kinds[k].tail_max);
	buf_add_str(b, tail);
	if (b->overflow)
		return put_refuse(b, start, e, k, "queue", b->n + tail.n, b->max);
	put_u32(b->p + start, b->n - start - 4);
	put_u32(b->p + start + 4, head_n);
	return 0;
}

/* ---- errors that travel ---- */

static const char *const audiences[] = {
	[ERR_TO_USER] = "user",
	[ERR_TO_MODEL] = "model",
	[ERR_TO_LOG] = "log",
};

void
wire_put_err(struct json *j, const struct err *e)
{
	json_kv_err(j, e);
	json_kv_z(j, "to", e->to < ARRAY_LEN(audiences) ? audiences[e->to] : "log");
}

void
wire_err(const struct node *head, struct err *e)
{
	struct str message = node_str(head, "message", STR("no reason given"));
	struct str to = node_str(head, "to", STR("user"));
	enum err_to audience = ERR_TO_USER;

	for (size_t i = 0; i < ARRAY_LEN(audiences); i++) {
		if (str_is(to, audiences[i]))
			audience = (enum err_to)i;
	}
	err_set(e, err_from_name(node_z(head, "code", "failed")), audience, "%.*s",
		STR_FMT(message));
}
