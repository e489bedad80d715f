/* SPDX-License-Identifier: MIT
 * How calls end: one result, in the words of the model, with facts for everything else. The only
 * place that calls on_done; after it the call may be gone. */
#include <stdio.h>
#include "base/utf8.h"
#include "tool/internal.h"

static const char *const class_names[] = { "pure", "keyed", "probe", "unsafe" };
static const char *const state_names[] = { "done", "not_done", "unknown" };

const char *
effect_class_name(enum effect_class c)
{
	return (unsigned)c < ARRAY_LEN(class_names) ? class_names[c] : "unsafe";
}

const char *
effect_state_name(enum effect_state s)
{
	return (unsigned)s < ARRAY_LEN(state_names) ? state_names[s] : "unknown";
}

bool
call_is_in_cell(const struct tool_call *c)
{
	return c->env->cwd == NULL || strcmp(c->env->cwd, "/shared") == 0;
}

void
call_done(struct tool_call *c, enum effect_state state, bool is_error, struct str text,
	struct str facts)
{
	struct tool_result r = {
		.state = state, .is_error = is_error, .text = text, .facts = facts
	};

	if (r.text.n > (size_t)c->tool->result_max)
		r.text = str_sub(r.text, 0, text_cut(r.text, (size_t)c->tool->result_max));
	if (r.facts.n == 0)
		r.facts = STR("{}");
	c->h->on_done(c->arg, &r);
}

void
call_fail(struct tool_call *c, enum effect_state state, const struct err *e)
{
	if (e->code == ERR_GONE) {
		struct tool_result r = { .state = EFFECT_UNKNOWN, .is_gone = true };
		c->h->on_done(c->arg, &r);
		return;
	}
	struct facts f;
	facts_begin(&f);
	json_kv_z(&f.j, "error", err_name(e->code));
	struct str facts = facts_end(&f, c->a);
	call_done(c, state, true, text_clean(c->a, str_of(e->msg)), facts);
}

void
facts_begin(struct facts *f)
{
	buf_init(&f->b, 64 * KIB);
	json_init(&f->j, &f->b);
	json_obj(&f->j);
}

struct str
facts_end(struct facts *f, struct arena *a)
{
	json_obj_end(&f->j);
	struct str s = f->b.overflow ? STR("{}") : arena_str(a, buf_str(&f->b));
	buf_fini(&f->b);
	return s;
}

void
facts_add_head(struct facts *f, const struct node *head)
{
	for (size_t i = 0; head != NULL && head->type == NODE_MAP && i < head->map.n; i++) {
		const struct node_pair *p = &head->map.pairs[i];
		if (str_is(p->key, "v") || str_is(p->key, "kind") || str_is(p->key, "id"))
			continue; /* the envelope's own */
		json_key_str(&f->j, p->key);
		if (p->value.type == NODE_LIST)
			json_uint(&f->j, p->value.list.n);
		else
			json_node(&f->j, &p->value);
	}
}

const char *
span_text(int64_t ms, char out[32])
{
	if (ms < 1000)
		snprintf(out, 32, "%lld ms", (long long)ms);
	else
		snprintf(out, 32, "%lld.%lld s", (long long)(ms / 1000),
			(long long)(ms % 1000 / 100));
	return out;
}
