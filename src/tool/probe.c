/* SPDX-License-Identifier: MIT
 * Probes of the file tools that change something: before the call the state of each path is noted,
 * and the state that the call will leave; after a crash the state of now says which of the two it
 * is. Anything else is unknown, and said. A state is one word: "" for nothing there, "sha256:..."
 * for a file, else kind, size and date. */
#include <stdio.h>
#include "base/hash.h"
#include "tool/internal.h"

static struct probe *
probe_of(const struct tool_call *c)
{
	return &((struct file_call *)c->state)->probe;
}

static void
state_of(const struct node *head, char out[PROBE_STATE_MAX])
{
	const char *sha = node_z(head, "sha256", "");

	if (!node_bool(head, "exists", false))
		out[0] = 0;
	else if (sha[0])
		snprintf(out, PROBE_STATE_MAX, "sha256:%s", sha);
	else
		snprintf(out, PROBE_STATE_MAX, "%s:%lld:%lld", node_z(head, "type", ""),
			(long long)node_int(head, "size", 0),
			(long long)node_int(head, "mtime_ms", 0));
}

static bool
is(const struct tool_call *c, const char *tool)
{
	return strcmp(c->tool->name, tool) == 0;
}

static int
send_stat(struct tool_call *c, const char *key, sandbox_reply_fn fn, struct err *e)
{
	struct buf b;
	struct json j;

	buf_init(&b, FILE_PARAMS_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_str(&j, "path", node_str(c->args, key, STR("")));
	json_kv_bool(&j, "hash", true);
	json_obj_end(&j);
	int rc = file_send(c, "stat", buf_str(&b), STR(""), fn, e);
	buf_fini(&b);
	return rc;
}

struct str
probe_before(const struct tool_call *c)
{
	struct str s = node_str(c->probe, "before", STR(""));

	return str_starts(s, "sha256:") ? str_sub(s, 7, s.n) : STR("");
}

/* ---- before the call ---- */

static void
prepared(struct tool_call *c, const char *after, const char *to_after)
{
	const struct probe *p = probe_of(c);
	struct facts f;

	facts_begin(&f);
	json_kv_z(&f.j, "before", p->path);
	json_kv_z(&f.j, "after", after);
	if (to_after != NULL) {
		json_kv_z(&f.j, "to_before", p->to);
		json_kv_z(&f.j, "to_after", to_after);
	}
	struct str probe = facts_end(&f, c->a);
	c->h->on_prepared(c->arg, probe, NULL);
}

static void
on_stat_to(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg;
	struct probe *p = probe_of(c);

	if (e != NULL) {
		c->h->on_prepared(c->arg, STR(""), e);
		return;
	}
	state_of(head, p->to);
	prepared(c, "", p->path);
}

static void
on_stat_path(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg;
	struct probe *p = probe_of(c);
	char after[PROBE_STATE_MAX] = "", hex[SHA256_HEX];
	struct err why;

	if (e != NULL) {
		c->h->on_prepared(c->arg, STR(""), e);
		return;
	}
	state_of(head, p->path);
	if (is(c, "move")) {
		if (send_stat(c, "to", on_stat_to, &why) != 0)
			c->h->on_prepared(c->arg, STR(""), &why);
		return;
	}
	if (is(c, "write")) {
		sha256_hex(node_str(c->args, "content", STR("")), hex);
		snprintf(after, sizeof(after), "sha256:%s", hex);
	}
	prepared(c, after, NULL);
}

static void
on_dry_edit(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg;
	struct probe *p = probe_of(c);
	char after[PROBE_STATE_MAX];

	if (e != NULL) {
		c->h->on_prepared(c->arg, STR(""), e);
		return;
	}
	snprintf(p->path, sizeof(p->path), "sha256:%s", node_z(head, "sha256_before", ""));
	snprintf(after, sizeof(after), "sha256:%s", node_z(head, "sha256", ""));
	prepared(c, after, NULL);
}

static int
send_dry_edit(struct tool_call *c, struct err *e)
{
	struct buf b;
	struct json j;

	buf_init(&b, FILE_PARAMS_MAX);
	json_init(&j, &b);
	json_obj(&j);
	for (size_t i = 0; i < c->args->map.n; i++) {
		json_key_str(&j, c->args->map.pairs[i].key);
		json_node(&j, &c->args->map.pairs[i].value);
	}
	json_kv_bool(&j, "dry", true);
	json_obj_end(&j);
	int rc = b.overflow ? err_set(e, ERR_LIMIT, ERR_TO_MODEL,
				      "edit: the arguments are too large (make several smaller "
				      "edits, or use write)")
			    : file_send(c, "edit", buf_str(&b), STR(""), on_dry_edit, e);
	buf_fini(&b);
	return rc;
}

int
probe_prepare(struct tool_call *c, struct err *e)
{
	c->state = arena_alloc(c->a, sizeof(struct file_call));
	return is(c, "edit") ? send_dry_edit(c, e) : send_stat(c, "path", on_stat_path, e);
}

/* ---- after a crash ---- */

static bool
state_is(const struct tool_call *c, const char *key, const char *now)
{
	const struct node *n = node_get(c->probe, key);

	return n != NULL && n->type == NODE_STR && str_is(n->s, now);
}

static enum effect_state
judge(const struct tool_call *c, const struct probe *now)
{
	if (!is(c, "move")) {
		if (state_is(c, "after", now->path))
			return EFFECT_DONE;
		return state_is(c, "before", now->path) ? EFFECT_NOT_DONE : EFFECT_UNKNOWN;
	}
	/* A directory may get another date by being moved: its kind and a free destination before
	 * are enough. */
	bool arrived = state_is(c, "to_after", now->to) ||
		       (str_starts(node_str(c->probe, "before", STR("")), "dir:") &&
			       state_is(c, "to_before", "") && strncmp(now->to, "dir:", 4) == 0);
	if (now->path[0] == 0 && arrived)
		return EFFECT_DONE;
	return state_is(c, "before", now->path) && state_is(c, "to_before", now->to)
		       ? EFFECT_NOT_DONE
		       : EFFECT_UNKNOWN;
}

/* A call that failed may have happened, or a part of it. One that changed nothing, and meant to,
 * has not. */
static void
failed(struct tool_call *c)
{
	const struct file_call *f = c->state;
	const struct probe *now = &f->probe;
	bool is_as_before = state_is(c, "before", now->path) &&
			    (!is(c, "move") || state_is(c, "to_before", now->to));
	enum effect_state s = is_as_before ? EFFECT_NOT_DONE : judge(c, now);
	const char *wall;
	struct str text = file_error_text(c, &f->why, &wall);
	struct facts x;

	if (s == EFFECT_DONE)
		text = text_note(c->a, text, "the change was found done all the same");
	else if (s == EFFECT_UNKNOWN)
		text = text_note(c->a, text,
			"a part of it may have happened: look at what is there before going on");
	facts_begin(&x);
	json_kv_z(&x.j, "error", err_name(f->why.code));
	if (wall != NULL)
		json_kv_z(&x.j, "wall", wall);
	call_done(c, s, s != EFFECT_DONE, text, facts_end(&x, c->a));
}

static void
recovered(struct tool_call *c)
{
	static const char *const words[] = {
		[EFFECT_DONE] = "was found done after a restart",
		[EFFECT_NOT_DONE] = "had not happened before a restart",
		[EFFECT_UNKNOWN] = "was interrupted by a restart, and what is there is neither as "
				   "before nor as it should be: "
				   "look at it before going on",
	};
	if (((struct file_call *)c->state)->why.code != 0) {
		failed(c);
		return;
	}
	enum effect_state s = judge(c, probe_of(c));
	struct facts f;
	struct buf b;

	buf_init(&b, 2 * FILE_PATH_MAX);
	buf_printf(&b, "%s of %s %s", c->tool->name, node_z(c->args, "path", ""), words[s]);
	struct str text = text_clean(c->a, buf_str(&b));
	buf_fini(&b);
	facts_begin(&f);
	json_kv_z(&f.j, "path", node_z(c->args, "path", ""));
	json_kv_bool(&f.j, "recovered", true);
	call_done(c, s, s == EFFECT_UNKNOWN, text, facts_end(&f, c->a));
}

/* The look itself failed. Of a call that failed before, its own error is what the model can use. */
static void
cannot_look(struct tool_call *c, const struct err *e)
{
	const struct file_call *f = c->state;

	if (f->why.code == 0 || e->code == ERR_GONE)
		call_fail(c, EFFECT_UNKNOWN, e);
	else
		call_fail(c, f->why.code == ERR_FAILED ? EFFECT_UNKNOWN : EFFECT_NOT_DONE, &f->why);
}

static void
on_now_to(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg;

	if (e != NULL) {
		cannot_look(c, e);
		return;
	}
	state_of(head, probe_of(c)->to);
	recovered(c);
}

static void
on_now_path(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg;
	struct err why;

	if (e != NULL) {
		cannot_look(c, e);
		return;
	}
	state_of(head, probe_of(c)->path);
	if (!is(c, "move"))
		recovered(c);
	else if (send_stat(c, "to", on_now_to, &why) != 0)
		cannot_look(c, &why);
}

void
probe_failed(struct tool_call *c, const struct err *e)
{
	struct file_call *f = c->state;
	struct err why;

	f->why = *e;
	if (send_stat(c, "path", on_now_path, &why) != 0)
		cannot_look(c, &why);
}

int
probe_recover(struct tool_call *c, struct err *e)
{
	c->state = arena_alloc(c->a, sizeof(struct file_call));
	return send_stat(c, "path", on_now_path, e);
}
