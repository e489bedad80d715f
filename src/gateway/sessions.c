/* SPDX-License-Identifier: MIT
 * Handlers of session.*: naming, listing, reading and deleting sessions. Every row is looked up with its owner, so one
 * user never reaches another's session. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"

#define SESSIONS_SEARCHED_MAX 100000

/* ---- which session is meant ---- */

/* The better match wins: a name that looks like an id never hides the session of that id. */
enum match { NO_MATCH, MATCH_START, MATCH_NAME, MATCH_ID };

static enum match
match_of(const struct rows *rows, size_t i, struct str want)
{
	struct str id = rows_str(rows, i, 0), name = rows_str(rows, i, 2);

	if (str_eq(id, want))
		return MATCH_ID;
	if (str_eq(name, want))
		return MATCH_NAME;
	return want.n >= 4 && id.n > want.n && memcmp(id.p, want.p, want.n) == 0 ? MATCH_START : NO_MATCH;
}

static void
on_candidates(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct str want = node_str(q->params, "session", STR(""));
	enum match best = NO_MATCH;
	bool is_deleted = q->method->id == API_SESSION_DELETE; /* where the wrong one cannot be had back */
	size_t found = 0, names = 0, at = 0;
	struct err le;

	for (size_t i = 0; e == NULL && i < rows_len(rows); i++) {
		enum match m = match_of(rows, i, want);

		found += m == MATCH_START;
		names += m == MATCH_NAME;
		if (m > best) { /* among equals the newest */
			best = m;
			at = i;
		}
	}
	if (e == NULL && best == NO_MATCH)
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "there is no session %.*s (see `ithaca session list`)",
			STR_FMT(want));
	else if (e == NULL && found > 1 && best == MATCH_START)
		err_set(&le, ERR_INVALID, ERR_TO_USER, "%.*s is the start of %zu sessions (give more of the id)",
			STR_FMT(want), found);
	else if (e == NULL && names > 1 && best == MATCH_NAME && is_deleted)
		err_set(&le, ERR_INVALID, ERR_TO_USER, "%.*s is the name of %zu sessions (give the id of one)", STR_FMT(want),
			names);
	else if (e == NULL) {
		q->then(q, arena_strdup(q->a, rows_str(rows, at, 0)));
		return;
	}
	reply_error(q, e != NULL ? e : &le);
}

void
with_session(struct request *q, void (*then)(struct request *q, const char *session))
{
	struct cell_value params[] = { V_Z(OWNER), V_INT(SESSIONS_SEARCHED_MAX) };
	const char *id = node_z(q->params, "session", "");
	const char *owner = engine_session_owner(q->g->parts.engine, id);

	if (owner != NULL && strcmp(owner, OWNER) == 0) { /* in memory: no need to look for it */
		then(q, id);
		return;
	}
	q->then = then;
	store_query(q->g->parts.store, STMT_SESSION_NAMES, params, 2, on_candidates, q);
}

/* ---- create, list, get ---- */

static void
on_created(void *arg, const char *session, const char *turn, uint64_t seq, const struct err *e)
{
	struct request *q = arg;
	struct json *j;

	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	json_kv_z(j, "session", session);
	reply_end(q);
}

void
handle_session_create(struct request *q)
{
	struct session_spec spec;
	struct id id;
	struct err e = { 0 };

	if (session_spec_of(q, &spec, &e) != 0 ||
		engine_session_create(q->g->parts.engine, &spec, &id, on_created, q, &e) != 0)
		reply_error(q, &e);
}

static void
write_session(struct json *j, const struct rows *rows, size_t i)
{
	json_kv_str(j, "session", rows_str(rows, i, 0));
	json_kv_str(j, "name", rows_str(rows, i, 2));
	json_kv_str(j, "agent", rows_str(rows, i, 3));
	json_kv_str(j, "workspace", rows_str(rows, i, 4));
	json_kv_str(j, "mode", rows_str(rows, i, 5));
	json_kv_str(j, "state", rows_str(rows, i, 6));
	json_kv_int(j, "created_at_ms", rows_int(rows, i, 7));
	json_kv_int(j, "last_seq", rows_int(rows, i, 8));
	json_kv_int(j, "updated_at_ms", rows_int(rows, i, 9));
}

static void
on_list(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct json *j;

	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	json_kv_arr(j, "sessions");
	for (size_t i = 0; i < rows_len(rows); i++) {
		json_obj(j);
		write_session(j, rows, i);
		json_obj_end(j);
	}
	json_arr_end(j);
	reply_end(q);
}

void
handle_session_list(struct request *q)
{
	struct cell_value params[] = { V_Z(OWNER), V_INT(node_int(q->params, "limit", 50)) };

	store_query(q->g->parts.store, STMT_SESSION_LIST, params, 2, on_list, q);
}

/* What a session has of files, by the events that name them: looked through a few at a time, because each may be as large
 * as an event may be. */
#define EVENTS_AT_ONCE 3

static const struct {
	enum event_kind kind;
	const char *list, *answer; /* in the body, and in the result */
	const char *const keys[6];
} file_lists[] = {
	{ EVENT_USER_MESSAGE, "attachments", "attachments", { "name", "mime", "size", "blob", "tokens" } },
	{ EVENT_TURN_FILES, "files", "files", { "name", "type", "bytes", "blob" } },
};

struct gathering {
	const char *session;
	size_t at; /* in file_lists */
	int64_t after;
};

static void
write_files(struct request *q, size_t at, struct str turn, struct str body)
{
	struct arena *a = arena_new(4 * EVENT_BODY_MAX);
	const struct node *n, *files;

	if (json_parse(a, body, &n, NULL) == 0) {
		files = node_get(n, file_lists[at].list);
		for (size_t i = 0; i < node_len(files); i++) {
			json_obj(&q->j);
			json_kv_str(&q->j, "turn", turn);
			for (const char *const *key = file_lists[at].keys; *key != NULL; key++)
				json_kv_node(&q->j, *key, node_get(node_at(files, i), *key));
			json_obj_end(&q->j);
		}
	}
	arena_free(a);
}

static void on_file_events(void *arg, const struct rows *rows, const struct err *e);

static void
gather(struct request *q)
{
	struct gathering *g = q->own;
	struct cell_value params[] = { V_Z(g->session), V_INT(g->after), V_INT(EVENTS_AT_ONCE),
		V_Z(event_kind_name(file_lists[g->at].kind)) };

	store_query(q->g->parts.store, STMT_EVENT_WITH_FILES, params, ARRAY_LEN(params), on_file_events, q);
}

static void
gather_list(struct request *q)
{
	struct gathering *g = q->own;

	if (g->at == ARRAY_LEN(file_lists)) {
		reply_end(q);
		return;
	}
	g->after = 0;
	json_kv_arr(&q->j, file_lists[g->at].answer);
	gather(q);
}

static void
on_file_events(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct gathering *g = q->own;

	if (reply_failed(q, e))
		return;
	for (size_t i = 0; i < rows_len(rows); i++) {
		g->after = rows_int(rows, i, 0);
		write_files(q, g->at, rows_str(rows, i, 1), rows_str(rows, i, 2));
	}
	if (rows_len(rows) == EVENTS_AT_ONCE) {
		gather(q);
		return;
	}
	json_arr_end(&q->j);
	g->at++;
	gather_list(q);
}

static void
on_turns(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct json *j = &q->j;

	if (reply_failed(q, e))
		return;
	json_kv_arr(j, "turns");
	for (size_t i = 0; i < rows_len(rows); i++) {
		json_obj(j);
		write_turn_row(j, rows, i);
		json_obj_end(j);
	}
	json_arr_end(j);
	gather_list(q);
}

static void
on_get(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct cell_value param;
	struct err le;
	struct json *j;

	if (e == NULL && rows_len(rows) == 0) {
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "the session was deleted meanwhile");
		e = &le;
	}
	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	write_session(j, rows, 0);
	param = V_TEXT(rows_str(rows, 0, 0));
	store_query(q->g->parts.store, STMT_TURN_LIST, &param, 1, on_turns, q);
}

static void
get_session(struct request *q, const char *session)
{
	struct cell_value params[] = { V_Z(session), V_Z(OWNER) };
	struct gathering *g = arena_alloc(q->a, sizeof *g);

	g->session = arena_strdup(q->a, str_of(session));
	q->own = g;
	store_query(q->g->parts.store, STMT_SESSION_GET, params, 2, on_get, q);
}

void
handle_session_get(struct request *q)
{
	with_session(q, get_session);
}

/* ---- rename, delete ---- */

static void
on_renamed(void *arg, const struct err *e)
{
	reply_done(arg, e);
}

static void
rename_session(struct request *q, const char *session)
{
	struct batch *b = batch_new();

	BATCH(b, STMT_SESSION_RENAME, V_Z(session), V_TEXT(node_str(q->params, "name", STR(""))));
	store_commit(q->g->parts.store, b, on_renamed, q);
}

void
handle_session_rename(struct request *q)
{
	with_session(q, rename_session);
}

static void
on_deleted(void *arg, const char *session, const char *turn, uint64_t seq, const struct err *e)
{
	reply_done(arg, e);
}

static void
delete_session(struct request *q, const char *session)
{
	engine_session_delete(q->g->parts.engine, session, on_deleted, q);
}

void
handle_session_delete(struct request *q)
{
	with_session(q, delete_session);
}

/* ---- events ---- */

#define ENVELOPE_MAX 1024 /* of an event around its body */

struct reading {
	const char *session;
	uint64_t after;
	size_t n, limit;
	bool is_full;
};

static void
on_events(void *arg, const struct event *evs, size_t n, bool more, const struct err *e)
{
	struct request *q = arg;
	struct reading *rd = q->own;
	struct json *j = &q->j;

	if (reply_failed(q, e))
		return;
	for (size_t i = 0; i < n; i++) {
		/* As many as one message holds; the first one always fits. */
		if (rd->n > 0 && j->b->n + evs[i].body.n + ENVELOPE_MAX > WIRE_TAIL_MAX) {
			rd->is_full = true;
			break;
		}
		event_envelope(&evs[i], j);
		rd->after = evs[i].seq;
		rd->n++;
	}
	if (more && rd->n < rd->limit && !rd->is_full) {
		events_read(q->g->parts.events, rd->session, rd->after, rd->limit - rd->n, on_events, q);
		return;
	}
	json_arr_end(j);
	json_kv_bool(j, "more", more || rd->is_full);
	reply_end(q);
}

static void
read_events(struct request *q, const char *session)
{
	struct reading *rd = arena_alloc(q->a, sizeof *rd);
	struct json *j;

	*rd = (struct reading){ .session = session, .after = (uint64_t)node_int(q->params, "after", 0),
		.limit = (size_t)node_int(q->params, "limit", 1000) };
	if (node_bool(q->params, "follow", false)) {
		reply_subscribe(q, session, rd->after);
		return;
	}
	q->own = rd;
	j = reply_begin(q);
	json_kv_arr(j, "events");
	events_read(q->g->parts.events, session, rd->after, rd->limit, on_events, q);
}

void
handle_session_events(struct request *q)
{
	with_session(q, read_events);
}

void
handle_session_unfollow(struct request *q)
{
	reply_unsubscribe(q, (uint64_t)node_int(q->params, "sub", 0));
}
