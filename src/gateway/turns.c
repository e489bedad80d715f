/* SPDX-License-Identifier: MIT
 * Handlers of session.turn, turn.* and approval.*: what starts, shows, stops and decides work. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/schema.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- what a new session is ---- */

const char *
gateway_user_dir(const struct config *c, const char *home, struct arena *a)
{
	const char *root = config_z(c, "workspace_root");

	return path_join(a, path_join(a, home, root != NULL ? root : "workspaces"), OWNER);
}

int
gateway_user_dirs(const struct config *c, const char *home, struct err *e)
{
	static const char *const parts[] = { "shared", "tmp", "vault" };
	struct arena *a = arena_new(64 * KIB);
	const char *user = gateway_user_dir(c, home, a);
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts) && rc == 0; i++)
		rc = path_mkdirs(path_join(a, user, parts[i]), 0700, e);
	arena_free(a);
	return rc == 0 ? 0 : err_wrap(e, "workspace of user %s", OWNER);
}

/* The user's own workspace, made when it is missing. */
static int
user_workspace(struct request *q, const char **out, struct err *e)
{
	const struct gateway_parts *gp = &q->g->parts;
	/* The runner has made it; we cannot, in a container. */
	int rc = gp->files != NULL ? 0 : gateway_user_dirs(gp->config, gp->home, e);

	*out = path_join(q->a, gateway_user_dir(gp->config, gp->home, q->a), "shared");
	return rc;
}

static int
workspace_of(struct request *q, const char **out, struct err *e)
{
	const char *want = node_z(q->params, "workspace", "user");
	const char *clean;
	mode_t kind;

	if (strcmp(want, "user") == 0)
		return user_workspace(q, out, e);
	if (want[0] != '/')
		return err_set(e, ERR_INVALID, ERR_TO_USER, "workspace %s is not an absolute directory", want);
	clean = path_clean(q->a, want);
	if (hostfiles_look(q->g->parts.files, clean, true, &kind, e) != 0)
		return err_wrap(e, "workspace");
	if (!S_ISDIR(kind))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "workspace %s is not a directory", clean);
	if (strcmp(clean, "/") == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "workspace / is the whole machine (choose a directory in it)");
	*out = clean;
	return 0;
}

int
session_spec_of(struct request *q, struct session_spec *spec, struct err *e)
{
	struct str mode = node_str(q->params, "mode", str_of(config_z(q->g->parts.config, "mode")));
	struct str agent = node_str(q->params, "agent", STR("default"));
	const char *workspace = NULL;
	int rc = workspace_of(q, &workspace, e);

	if (rc != 0)
		return rc;
	if (!str_is(agent, "default"))
		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "there is no agent %.*s (the one there is: default)",
			STR_FMT(agent));
	*spec = (struct session_spec){ .owner = STR(OWNER), .name = node_str(q->params, "name", STR("")),
		.agent = agent, .workspace = str_of(workspace) };
	if (mode_parse(mode, &spec->mode) != 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "there is no mode %.*s", STR_FMT(mode));
	return 0;
}

/* ---- session.turn ---- */

static int
asked_model(struct request *q, struct model_info *out, struct err *e)
{
	const char *name = node_z(q->params, "model", config_z(q->g->parts.config, "model"));

	return model_resolve(q->g->parts.config, str_of(name), q->a, out, e);
}

static void
write_notice(struct request *q, struct json *j)
{
	static const char process[] = "WARNING: tier process has no cells: commands are not offered, and file tools are confined by "
		"Landlock alone (use tier: cell)";
	bool is_process = strcmp(q->g->parts.tier, "process") == 0;
	struct model_info info;
	const char *notice;

	if (q->method->id != API_SESSION_TURN || asked_model(q, &info, NULL) != 0)
		return;
	notice = model_notice(&info, q->a);
	if (is_process)
		notice = notice != NULL ? arena_printf(q->a, "%s; %s", process, notice) : process;
	if (notice != NULL)
		json_kv_z(j, "notice", notice);
}

static void
on_submitted(void *arg, const char *session, const char *turn, uint64_t seq, const struct err *e)
{
	struct request *q = arg;
	struct json *j;

	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	json_kv_z(j, "session", session);
	json_kv_z(j, "turn", turn);
	json_kv_int(j, "seq", seq > 0 ? (int64_t)seq - 1 : 0);
	write_notice(q, j);
	reply_end(q);
}

/* The schema as text; refused before anything is logged when it cannot be checked against. */
static int
check_schema(struct request *q, struct str *out, struct err *e)
{
	const struct node *n = node_get(q->params, "schema");
	struct schema *compiled;
	struct buf b;
	struct json j;

	*out = STR("");
	if (n == NULL || node_is(n, NODE_NULL))
		return 0;
	if (!node_is(n, NODE_MAP))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "schema: expected an object (a JSON Schema)");
	if (schema_compile(q->a, n, &compiled, e) != 0)
		return err_wrap(e, "schema");
	buf_init(&b, ANSWER_SCHEMA_MAX);
	json_init(&j, &b);
	json_node(&j, n);
	if (!b.overflow)
		*out = arena_str(q->a, buf_str(&b));
	buf_fini(&b);
	return out->n > 0 ? 0 : err_set(e, ERR_LIMIT, ERR_TO_USER, "schema: it is larger than %u KiB", ANSWER_SCHEMA_MAX / KIB);
}

/* What the parameters of a message come to, found good before anything is logged: q->own. */
struct checked {
	struct str schema, attachments;
};

static void
submit(struct request *q, const char *session)
{
	const struct checked *checked = q->own;
	const char *turn = node_z(q->params, "turn", NULL);
	struct turn_spec spec = { .session = session, .turn = turn, .model = node_str(q->params, "model", STR("")),
		.effort = node_str(q->params, "effort", STR("")), .mode = -1, .yes = node_bool(q->params, "yes", false),
		.text = node_str(q->params, "text", STR("")), .schema = checked->schema, .attachments = checked->attachments };
	enum mode mode;

	if (mode_parse(node_str(q->params, "mode", STR("")), &mode) == 0)
		spec.mode = (int)mode;
	engine_submit(q->g->parts.engine, &spec, on_submitted, q);
}

static void
submit_new(struct request *q)
{
	struct session_spec spec;
	struct id id;
	struct err e = { 0 };

	if (session_spec_of(q, &spec, &e) != 0 ||
		engine_session_create(q->g->parts.engine, &spec, &id, NULL, NULL, &e) != 0)
		reply_error(q, &e);
	else
		submit(q, id.z);
}

static void
find_session(struct request *q)
{
	if (node_get(q->params, "session") != NULL)
		with_session(q, submit);
	else
		submit_new(q);
}

static void
on_turn_known(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct err le;

	if (e == NULL && rows_len(rows) > 0) {
		err_set(&le, ERR_EXISTS, ERR_TO_USER, "turn %s was submitted already", node_z(q->params, "turn", ""));
		e = &le;
	}
	if (e != NULL)
		reply_error(q, e);
	else
		find_session(q);
}

static void
find_turn(struct request *q)
{
	const char *turn = node_z(q->params, "turn", NULL);
	struct cell_value param = V_Z(turn);

	if (turn != NULL)
		store_query(q->g->parts.store, STMT_TURN_GET, &param, 1, on_turn_known, q);
	else
		find_session(q);
}

void
handle_session_turn(struct request *q)
{
	const char *turn = node_z(q->params, "turn", NULL);
	struct checked *checked = arena_alloc(q->a, sizeof *checked);
	struct model_info *info = arena_alloc(q->a, sizeof *info);
	struct err e = { 0 };

	q->own = checked;
	/* Refused before anything is logged: a model that does not exist would only fail later. */
	if (asked_model(q, info, &e) != 0 || check_schema(q, &checked->schema, &e) != 0 ||
		engine_check_text(node_str(q->params, "text", STR("")), &e) != 0) {
		reply_error(q, &e);
	} else if (turn != NULL && !id_valid(str_of(turn))) {
		err_set(&e, ERR_INVALID, ERR_TO_USER, "turn %s is not an id", turn);
		reply_error(q, &e);
	} else {
		with_attachments(q, info, &checked->attachments, find_turn);
	}
}

static void
continue_session(struct request *q, const char *session)
{
	engine_continue(q->g->parts.engine, session, on_submitted, q);
}

void
handle_session_continue(struct request *q)
{
	with_session(q, continue_session);
}

/* ---- turn.* ---- */

/* The state as the API has it: how an ended turn ended is part of it. */
static const char *
state_of(struct str state, struct str status)
{
	if (!str_is(state, "ended"))
		return str_is(state, "queued") ? "queued" : str_is(state, "waiting") ? "waiting" : "running";
	return str_is(status, "answered") ? "done" : str_is(status, "cancelled") ? "cancelled" : "failed";
}

void
write_turn_row(struct json *j, const struct rows *rows, size_t i)
{
	json_kv_str(j, "turn", rows_str(rows, i, 0));
	json_kv_str(j, "session", rows_str(rows, i, 1));
	json_kv_z(j, "state", state_of(rows_str(rows, i, 3), rows_str(rows, i, 4)));
	if (rows_str(rows, i, 4).n > 0)
		json_kv_str(j, "status", rows_str(rows, i, 4));
	json_kv_int(j, "created_at_ms", rows_int(rows, i, 5));
	if (rows_int(rows, i, 6) > 0)
		json_kv_int(j, "ended_at_ms", rows_int(rows, i, 6));
	json_kv_int(j, "cost_microusd", rows_int(rows, i, 7));
}

static int
turn_rows_check(struct request *q, const struct rows *rows, const struct err *e, struct err *out)
{
	if (e != NULL)
		return err_copy(out, e);
	if (rows_len(rows) == 0 || !str_is(rows_str(rows, 0, 2), OWNER))
		return err_set(out, ERR_NOT_FOUND, ERR_TO_USER, "there is no turn %s", node_z(q->params, "turn", ""));
	return 0;
}

/* What it left: as the event says it, which is in front of its end. */
static void
on_turn_files(void *arg, const struct rows *rows, const struct err *e)
{
	static const char *const keys[] = { "files", "left_out", "left_out_more", "error" };
	struct request *q = arg;
	const struct node *body = &node_null;
	struct json *j = &q->j;

	if (reply_failed(q, e))
		return;
	if (rows_len(rows) > 0 && json_parse(q->a, rows_str(rows, 0, 0), &body, NULL) != 0)
		body = &node_null;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (node_get(body, keys[i]) != NULL)
			json_kv_node(j, i < 3 ? keys[i] : "files_error", node_get(body, keys[i]));
	reply_end(q);
}

static void
on_turn_first(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct cell_value params[3];
	struct json *j = &q->j;

	if (reply_failed(q, e))
		return;
	json_kv_int(j, "seq", MAX(rows_int(rows, 0, 0) - 1, 0));
	params[0] = V_Z(q->own);
	params[1] = V_TEXT(node_str(q->params, "turn", STR("")));
	params[2] = V_Z(event_kind_name(EVENT_TURN_FILES));
	store_query(q->g->parts.store, STMT_EVENT_OF_TURN, params, ARRAY_LEN(params), on_turn_files, q);
}

static void
on_turn(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct cell_value params[2];
	struct json *j;
	struct err le = { 0 };

	if (turn_rows_check(q, rows, e, &le) != 0) {
		reply_error(q, &le);
		return;
	}
	j = reply_begin(q);
	write_turn_row(j, rows, 0);
	q->own = arena_strdup(q->a, rows_str(rows, 0, 1)); /* its session */
	params[0] = V_Z(q->own);
	params[1] = V_TEXT(rows_str(rows, 0, 0));
	store_query(q->g->parts.store, STMT_EVENT_FIRST_OF_TURN, params, 2, on_turn_first, q);
}

void
handle_turn_get(struct request *q)
{
	struct cell_value param = V_TEXT(node_str(q->params, "turn", STR("")));

	store_query(q->g->parts.store, STMT_TURN_GET, &param, 1, on_turn, q);
}

static void
on_wished(void *arg, const char *session, const char *turn, uint64_t seq, const struct err *e)
{
	reply_done(arg, e);
}

static void
on_turn_cancel(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct err le = { 0 };

	if (turn_rows_check(q, rows, e, &le) != 0)
		reply_error(q, &le);
	else
		engine_cancel(q->g->parts.engine, arena_strdup(q->a, rows_str(rows, 0, 1)), node_z(q->params, "turn", ""),
			"the user", on_wished, q);
}

void
handle_turn_cancel(struct request *q)
{
	struct cell_value param = V_TEXT(node_str(q->params, "turn", STR("")));

	store_query(q->g->parts.store, STMT_TURN_GET, &param, 1, on_turn_cancel, q);
}

/* ---- approval.* ---- */

static void
write_approval(struct request *q, struct json *j, const struct rows *rows, size_t i)
{
	const struct node *body = &node_null;
	struct err e;

	if (json_parse(q->a, rows_str(rows, i, 6), &body, &e) != 0)
		body = &node_null;
	json_obj(j);
	json_kv_str(j, "id", rows_str(rows, i, 0));
	json_kv_str(j, "session", rows_str(rows, i, 1));
	json_kv_str(j, "turn", rows_str(rows, i, 2));
	json_kv_str(j, "tool", node_str(body, "tool", STR("")));
	json_kv_str(j, "summary", node_str(body, "summary", STR("")));
	json_kv_str(j, "hash", rows_str(rows, i, 4));
	json_kv_int(j, "created_at_ms", rows_int(rows, i, 7));
	json_kv_int(j, "expires_at_ms", rows_int(rows, i, 8));
	json_obj_end(j);
}

static void
on_approvals(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct json *j;

	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	json_kv_arr(j, "approvals");
	for (size_t i = 0; i < rows_len(rows); i++)
		write_approval(q, j, rows, i);
	json_arr_end(j);
	reply_end(q);
}

void
handle_approval_list(struct request *q)
{
	struct cell_value param = V_Z(OWNER);

	store_query(q->g->parts.store, STMT_APPROVAL_LIST, &param, 1, on_approvals, q);
}

static void
on_approval(void *arg, const struct rows *rows, const struct err *e)
{
	struct request *q = arg;
	struct str decision = node_str(q->params, "decision", STR("deny"));
	enum approval_decision d = str_is(decision, "allow_once") ? APPROVE_ONCE :
		str_is(decision, "allow_always") ? APPROVE_ALWAYS : APPROVE_DENY;
	const char *id = node_z(q->params, "id", "");
	struct err le;

	if (e == NULL && (rows_len(rows) == 0 || !str_is(rows_str(rows, 0, 3), OWNER))) {
		err_set(&le, ERR_NOT_FOUND, ERR_TO_USER, "there is no approval %s (see `ithaca approval list`)", id);
		e = &le;
	}
	if (e != NULL)
		reply_error(q, e);
	else
		engine_approve(q->g->parts.engine, arena_strdup(q->a, rows_str(rows, 0, 1)), id, d, "the user", on_wished, q);
}

void
handle_approval_resolve(struct request *q)
{
	struct cell_value param = V_TEXT(node_str(q->params, "id", STR("")));
	struct err e;

	if (node_get(q->params, "edited") != NULL) {
		err_set(&e, ERR_UNSUPPORTED, ERR_TO_USER, "a call cannot be edited here (deny it and say what you want)");
		reply_error(q, &e);
	} else if (str_is(node_str(q->params, "decision", STR("")), "allow_always") &&
		!str_is(node_str(q->params, "scope", STR("session")), "session")) {
		err_set(&e, ERR_UNSUPPORTED, ERR_TO_USER,
			"allow_always reaches a session (for more, add a rule to `permissions.allow` in the configuration)");
		reply_error(q, &e);
	} else {
		store_query(q->g->parts.store, STMT_APPROVAL_GET, &param, 1, on_approval, q);
	}
}
