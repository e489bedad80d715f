/* SPDX-License-Identifier: MIT
 * The runtime's side of shelld: requests out, answers back to their callbacks. It knows nothing of cells but their keys
 * and keeps no state across a broken link: every call then fails with ERR_GONE and is issued again by its owner.
 * Invariant: each call ends exactly once, and its object is released before its last callback runs. */
#include <stdlib.h>
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/internal.h"

#define START_MS 10000 /* for a shelld that is only just starting */

struct reply {
	struct reply *next;
	uint64_t id;
	sandbox_reply_fn fn;
	void *arg;
};

struct exec_call {
	struct exec_call *next;
	struct sandbox *sb;
	uint64_t id;
	struct stream *stream;
	char cell[CELL_KEY_MAX + 1], effect[CELL_KEY_MAX + 1];
	int64_t offset;
	const struct exec_handler *h;
	void *arg;
};

struct sandbox {
	struct loop *l;
	sandbox_state_fn fn;
	void *arg;
	struct wire *wire;
	bool is_up, was_up;
	int64_t made_ms; /* it, or its link */
	struct sandbox_facts facts;
	struct exec_call *calls;
	struct reply *replies;
};

static const struct err gone = { .code = ERR_GONE, .to = ERR_TO_LOG, .msg = "the link to shelld broke" };

/* ---- calls ---- */

static struct exec_call *
call_find(struct sandbox *sb, uint64_t id)
{
	struct exec_call *c = sb->calls;
	while (c != NULL && c->id != id)
		c = c->next;
	return c;
}

/* Takes the call out of the list and releases it. */
static void
call_end(struct exec_call *c)
{
	struct exec_call **p = &c->sb->calls;
	struct stream *s = c->stream;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->stream = NULL;
	if (s != NULL)
		stream_close(s, NULL);
	free(c);
}

static void
call_fail(struct exec_call *c, const struct err *e)
{
	const struct exec_handler *h = c->h;
	void *arg = c->arg;
	call_end(c);
	h->on_fail(arg, e);
}

static void
call_status(struct exec_call *c, const struct exec_status *st)
{
	const struct exec_handler *h = c->h;
	void *arg = c->arg;
	call_end(c);
	h->on_status(arg, st);
}

static void
on_data(void *arg, int ch, struct str bytes)
{
	struct exec_call *c = arg;
	uint64_t id = c->id;
	struct sandbox *sb = c->sb;
	int64_t offset = c->offset;

	c->offset += (int64_t)bytes.n;
	if (c->h->on_output != NULL)
		c->h->on_output(c->arg, ch, offset, bytes);
	c = call_find(sb, id); /* it may have been forgotten meanwhile */
	if (c != NULL)
		stream_consume(c->stream, bytes.n);
}

static void
on_eof(void *arg)
{
}

static void
on_reset(void *arg, const struct err *e)
{
	struct exec_call *c = arg;
	c->stream = NULL;
	call_fail(c, e->code == ERR_GONE || e->code == ERR_CONFLICT ? e : &gone);
}

static const struct stream_handler output_handler = { on_data, NULL, on_eof, on_reset };

/* ---- replies ---- */

static void
reply_end(struct sandbox *sb, uint64_t id, const struct node *head, struct str tail, const struct err *e)
{
	for (struct reply **p = &sb->replies; *p != NULL; p = &(*p)->next) {
		struct reply *r = *p;
		if (r->id != id)
			continue;
		sandbox_reply_fn fn = r->fn;
		void *arg = r->arg;
		*p = r->next;
		free(r);
		if (fn != NULL)
			fn(arg, head, tail, e);
		return;
	}
}

static void
reply_add(struct sandbox *sb, uint64_t id, sandbox_reply_fn fn, void *arg)
{
	struct reply *r = xcalloc(1, sizeof(*r));
	*r = (struct reply){ .next = sb->replies, .id = id, .fn = fn, .arg = arg };
	sb->replies = r;
}

/* ---- the link ---- */

static int
on_hello(struct sandbox *sb, const struct node *head, struct err *e)
{
	if (facts_read(head, &sb->facts) != 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "hello with unknown facts");
	sb->is_up = sb->was_up = true;
	if (sb->fn != NULL)
		sb->fn(sb->arg, true, &sb->facts);
	return 0;
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct sandbox *sb = arg;
	struct exec_call *c = call_find(sb, m->id);
	struct exec_status st = { .state = EXEC_RUNNING };
	struct err why = { 0 };

	switch (m->kind) {
	case WIRE_HELLO:
		return on_hello(sb, m->head, e);
	case WIRE_EXEC_BEGUN:
		if (c != NULL)
			call_status(c, &st);
		return 0;
	case WIRE_EXEC_STATUS:
		if (exec_status_read(m->head, &st) != 0)
			return err_set(e, ERR_PROTO, ERR_TO_LOG, "exec.status with an unknown state");
		if (c != NULL)
			call_status(c, &st);
		return 0;
	case WIRE_ERROR:
		wire_err(m->head, &why);
		if (c != NULL)
			call_fail(c, &why);
		else
			reply_end(sb, m->id, NULL, STR(""), &why);
		return 0;
	case WIRE_FILED:
		reply_end(sb, m->id, node_get(m->head, "answer"), m->tail, NULL);
		return 0;
	default: /* spooled, closed, spawned: the table lets nothing else through */
		reply_end(sb, m->id, m->head, m->tail, NULL);
		return 0;
	}
}

static void
link_lost(struct sandbox *sb)
{
	bool was_up = sb->is_up;

	sb->is_up = false;
	sb->wire = NULL;
	/* A callback may make calls: they fail at once, because there is no link. */
	while (sb->calls != NULL)
		call_fail(sb->calls, &gone);
	while (sb->replies != NULL)
		reply_end(sb, sb->replies->id, NULL, STR(""), &gone);
	if (was_up && sb->fn != NULL)
		sb->fn(sb->arg, false, &sb->facts);
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	struct sandbox *sb = arg;
	if (sb->wire != w)
		return;
	log_warn("shelld is gone", LOG_E(e));
	link_lost(sb);
}

static const struct wire_handler link_handler = { on_msg, on_gone };

struct sandbox *
sandbox_new(struct loop *l, sandbox_state_fn fn, void *arg)
{
	struct sandbox *sb = xcalloc(1, sizeof(*sb));
	*sb = (struct sandbox){ .l = l, .fn = fn, .arg = arg, .made_ms = loop_now_ms(l) };
	return sb;
}

void
sandbox_set_files_only(struct sandbox *sb)
{
	sb->facts.files_only = true;
}

void
sandbox_free(struct sandbox *sb)
{
	if (sb == NULL)
		return;
	while (sb->calls != NULL)
		call_end(sb->calls);
	while (sb->replies != NULL) {
		struct reply *r = sb->replies;
		sb->replies = r->next;
		free(r);
	}
	wire_close(sb->wire);
	free(sb);
}

void
sandbox_detach(struct sandbox *sb)
{
	struct wire *old = sb->wire;

	if (old == NULL)
		return;
	sb->wire = NULL;
	wire_close(old);
	link_lost(sb);
}

void
sandbox_attach(struct sandbox *sb, int fd)
{
	sandbox_detach(sb);
	sb->wire = wire_open(sb->l, fd, ROLE_RUNTIME, ROLE_SHELLD, &link_handler, sb);
	sb->made_ms = loop_now_ms(sb->l);
}

bool
sandbox_is_up(const struct sandbox *sb)
{
	return sb->is_up;
}

const struct sandbox_facts *
sandbox_facts(const struct sandbox *sb)
{
	return &sb->facts;
}

bool
sandbox_is_coming(const struct sandbox *sb)
{
	return !sb->is_up && (sb->wire != NULL || !sb->was_up) && loop_now_ms(sb->l) - sb->made_ms <= START_MS;
}

const char *
sandbox_withdrawn(const struct sandbox *sb, bool execs, const char **code)
{
	const char *unused;

	if (code == NULL)
		code = &unused;
	if (sb->facts.files_only && execs) {
		*code = "tier_process";
		return "commands are not offered in tier process";
	}
	if (!sb->is_up) {
		*code = "shelld_down";
		return sandbox_is_coming(sb) ? NULL : "shelld, which makes cells, is not running";
	}
	if (sb->facts.level == CELL_NONE) {
		*code = sb->facts.files_only ? "tier_process" : "cell_none";
		return sb->facts.reason;
	}
	return NULL;
}

/* ---- requests ---- */

static int
need_link(const struct sandbox *sb, struct err *e)
{
	if (sb->wire != NULL && sb->is_up)
		return 0;
	return err_set(e, ERR_GONE, ERR_TO_LOG, "shelld is not there");
}

static int
check_keys(const char *cell, const char *effect, struct err *e)
{
	if ((cell != NULL && !key_valid(str_of(cell))) || (effect != NULL && !key_valid(str_of(effect))))
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "cell and effect keys are 1 to %u letters, digits, '-', '_', '.'",
			CELL_KEY_MAX);
	return 0;
}

static void
put_cell(struct json *j, const char *cell, const struct cell_plan *plan, const char *run)
{
	json_kv_z(j, "cell", cell);
	if (run != NULL)
		json_kv_z(j, "run", run);
	if (plan != NULL) {
		json_key(j, "plan");
		plan_write(j, plan);
	}
}

static int
exec_tail(const struct exec_request *r, struct buf *b, struct err *e)
{
	buf_add_str(b, r->command);
	for (const char *const *v = r->env; v != NULL && *v != NULL; v++) {
		buf_add_z(b, *v);
		buf_add_char(b, '\0');
	}
	return b->overflow ? err_set(e, ERR_LIMIT, ERR_TO_MODEL, "command and environment are larger than %u bytes",
				     EXEC_COMMAND_MAX + EXEC_ENV_MAX)
			   : 0;
}

int
sandbox_exec(struct sandbox *sb, const struct exec_request *r, const struct exec_handler *h, void *arg,
	struct exec_call **out, struct err *e)
{
	struct buf tail;

	if (need_link(sb, e) != 0 || check_keys(r->cell, r->effect, e) != 0)
		return e->code;
	buf_init(&tail, EXEC_COMMAND_MAX + EXEC_ENV_MAX);
	int rc = exec_tail(r, &tail, e);
	if (rc == 0) {
		uint64_t id = wire_next_id(sb->wire);
		struct json *j = wire_begin(sb->wire, WIRE_EXEC, id);
		put_cell(j, r->cell, r->plan, r->run);
		json_kv_z(j, "effect", r->effect);
		if (r->cwd != NULL)
			json_kv_z(j, "cwd", r->cwd);
		json_kv_int(j, "timeout_ms", r->timeout_ms);
		json_kv_int(j, "output_max", r->output_max);
		json_kv_bool(j, "background", r->background);
		json_kv_bool(j, "only_resume", r->only_resume);
		json_kv_bool(j, "input", r->input);
		if (r->shell != NULL)
			json_kv_z(j, "shell", r->shell);
		if (r->live)
			json_kv_bool(j, "live", true);
		if (r->rows > 0) {
			json_kv_int(j, "rows", r->rows);
			json_kv_int(j, "columns", r->columns);
		}
		json_kv_int(j, "command_bytes", (int64_t)r->command.n);
		if (wire_end(sb->wire, buf_str(&tail), -1) != 0) {
			rc = err_set(e, ERR_LIMIT, ERR_TO_LOG, "the plan of the cell is too large");
		} else {
			struct exec_call *c = xcalloc(1, sizeof(*c));
			*c = (struct exec_call){ .next = sb->calls, .sb = sb, .id = id, .h = h, .arg = arg };
			memcpy(c->cell, r->cell, strlen(r->cell) + 1);
			memcpy(c->effect, r->effect, strlen(r->effect) + 1);
			c->stream = stream_open(sb->wire, id, &output_handler, c);
			stream_eof(c->stream); /* input has a message of its own */
			sb->calls = c;
			*out = c;
		}
	}
	buf_fini(&tail);
	return rc;
}

static void
send_kill(struct sandbox *sb, uint64_t id, const char *cell, const char *effect)
{
	struct json *j = wire_begin(sb->wire, WIRE_KILL, id);
	json_kv_z(j, "cell", cell);
	json_kv_z(j, "effect", effect);
	(void)wire_end(sb->wire, STR(""), -1);
}

void
exec_call_kill(struct exec_call *c)
{
	send_kill(c->sb, wire_next_id(c->sb->wire), c->cell, c->effect);
}

void
exec_call_forget(struct exec_call *c)
{
	call_end(c);
}

void
exec_call_input(struct exec_call *c, struct str bytes)
{
	do {
		struct str part = str_sub(bytes, 0, 64 * KIB);
		wire_begin(c->sb->wire, WIRE_INPUT, c->id);
		(void)wire_end(c->sb->wire, part, -1);
		bytes = str_sub(bytes, part.n, bytes.n);
	} while (bytes.n > 0);
}

void
exec_call_signal(struct exec_call *c, int signal)
{
	struct json *j = wire_begin(c->sb->wire, WIRE_SIGNAL, wire_next_id(c->sb->wire));
	json_kv_z(j, "cell", c->cell);
	json_kv_z(j, "effect", c->effect);
	json_kv_z(j, "signal", exec_signal_name(signal));
	(void)wire_end(c->sb->wire, STR(""), -1);
}

void
exec_call_resize(struct exec_call *c, int rows, int columns)
{
	struct json *j = wire_begin(c->sb->wire, WIRE_RESIZE, c->id);
	json_kv_int(j, "rows", rows);
	json_kv_int(j, "columns", columns);
	(void)wire_end(c->sb->wire, STR(""), -1);
}

void
sandbox_warm(struct sandbox *sb, const char *cell, const struct cell_plan *plan, const char *run)
{
	if (sb->wire == NULL || !sb->is_up || !key_valid(str_of(cell)))
		return;
	put_cell(wire_begin(sb->wire, WIRE_SPAWN, wire_next_id(sb->wire)), cell, plan, run);
	(void)wire_end(sb->wire, STR(""), -1);
}

int
sandbox_spool(struct sandbox *sb, const char *cell, const char *effect, int64_t offset, int64_t n,
	sandbox_reply_fn fn, void *arg, struct err *e)
{
	if (need_link(sb, e) != 0 || check_keys(cell, effect, e) != 0)
		return e->code;
	uint64_t id = wire_next_id(sb->wire);
	struct json *j = wire_begin(sb->wire, WIRE_SPOOL, id);
	json_kv_z(j, "cell", cell);
	json_kv_z(j, "effect", effect);
	json_kv_int(j, "offset", offset);
	json_kv_int(j, "n", n);
	(void)wire_end(sb->wire, STR(""), -1);
	reply_add(sb, id, fn, arg);
	return 0;
}

int
sandbox_job(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg, struct err *e)
{
	return sandbox_spool(sb, cell, effect, 0, 0, fn, arg, e);
}

int
sandbox_job_kill(struct sandbox *sb, const char *cell, const char *effect, sandbox_reply_fn fn, void *arg,
	struct err *e)
{
	if (need_link(sb, e) != 0 || check_keys(cell, effect, e) != 0)
		return e->code;
	uint64_t id = wire_next_id(sb->wire);
	send_kill(sb, id, cell, effect);
	reply_add(sb, id, fn, arg);
	return 0;
}

int
sandbox_cell_close(struct sandbox *sb, const char *cell, bool forget, sandbox_reply_fn fn, void *arg,
	struct err *e)
{
	if (need_link(sb, e) != 0 || check_keys(cell, NULL, e) != 0)
		return e->code;
	uint64_t id = wire_next_id(sb->wire);
	struct json *j = wire_begin(sb->wire, WIRE_CLOSE, id);
	json_kv_z(j, "cell", cell);
	json_kv_bool(j, "forget", forget);
	(void)wire_end(sb->wire, STR(""), -1);
	reply_add(sb, id, fn, arg);
	return 0;
}

void
sandbox_effect_forget(struct sandbox *sb, const char *effect)
{
	if (sb->wire == NULL || !sb->is_up || !key_valid(str_of(effect)))
		return;
	json_kv_z(wire_begin(sb->wire, WIRE_CLOSE, wire_next_id(sb->wire)), "effect", effect);
	(void)wire_end(sb->wire, STR(""), -1);
}

int
sandbox_file(struct sandbox *sb, const struct file_request *r, sandbox_reply_fn fn, void *arg, struct err *e)
{
	struct buf tail;

	if (need_link(sb, e) != 0 || check_keys(r->cell, NULL, e) != 0)
		return e->code;
	buf_init(&tail, WIRE_TAIL_MAX);
	buf_add_str(&tail, r->params);
	buf_add_str(&tail, r->content);
	if (tail.overflow) {
		buf_fini(&tail);
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL, "parameters and content are larger than %u bytes (write in parts)",
			WIRE_TAIL_MAX);
	}
	uint64_t id = wire_next_id(sb->wire);
	struct json *j = wire_begin(sb->wire, WIRE_FILE, id);
	put_cell(j, r->cell, r->plan, r->run);
	json_kv_z(j, "op", r->op);
	json_kv_int(j, "params_bytes", (int64_t)r->params.n);
	int rc = wire_end(sb->wire, buf_str(&tail), -1);
	buf_fini(&tail);
	if (rc != 0)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG, "the plan of the cell is too large");
	reply_add(sb, id, fn, arg);
	return 0;
}
