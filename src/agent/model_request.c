/* SPDX-License-Identifier: MIT
 * Makes the request of an attempt from what the turn is: the model of the chain that is on, the system prompt, the tools and
 * as much of the conversation as fits the model's window. */
#include "agent/media.h"

#define BYTES_PER_TOKEN      3 /* a low estimate, so that a request that should fit does */
#define SMALL_WINDOW_TOKENS  16000 /* under it a model gets the small profile */
#define SMALL_RESULT_MAX     1024 /* bytes of a result of an earlier step, in the small profile */

/* ---- the chain of models: the turn's own, then the fallbacks, as turn.started has them ---- */

static const struct node *
fallbacks(const struct run *r)
{
	return node_get(turn_options(r->t), "fallback");
}

struct str
run_model(const struct run *r)
{
	if (r->model_at == 0)
		return node_str(turn_options(r->t), "model", STR(""));
	return node_at(fallbacks(r), r->model_at - 1)->s;
}

bool
run_next_model(struct run *r)
{
	if (r->model_at >= node_len(fallbacks(r)))
		return false;
	r->model_at++;
	r->failures = 0;
	r->view_bytes_max = 0; /* another window */
	r->is_narrowed = false;
	return true;
}

void
run_set_model(struct run *r, struct str name)
{
	if (str_eq(run_model(r), name))
		return;
	for (size_t i = r->model_at; i < node_len(fallbacks(r)); i++) /* a chain is never walked back */
		if (str_eq(node_at(fallbacks(r), i)->s, name)) {
			r->model_at = i;
			(void)run_next_model(r);
			return;
		}
}

/* ---- what the configuration wants ---- */

static struct str
provider_key(const struct model_call *m, const char *key)
{
	const struct node *row = node_get_str(config_get(m->r->s->config, "providers"), m->info.provider);

	return node_str(row, key, STR("auto"));
}

static enum tool_mode
tool_mode_of(const struct model_call *m)
{
	struct str want = provider_key(m, "tools");

	if (str_is(want, "text"))
		return TOOLS_TEXT;
	if (str_is(want, "schema"))
		return TOOLS_SCHEMA;
	return str_is(want, "native") || m->info.has_tools ? TOOLS_NATIVE : TOOLS_TEXT;
}

static bool
is_small_of(const struct model_call *m)
{
	struct str want = provider_key(m, "profile");

	return str_is(want, "small") || (str_is(want, "auto") && m->info.context_tokens < SMALL_WINDOW_TOKENS);
}

static enum effort
effort_of(const struct model_call *m)
{
	static const char *const names[] = { [EFFORT_AUTO] = "auto", [EFFORT_OFF] = "off", [EFFORT_LOW] = "low",
		[EFFORT_MEDIUM] = "medium", [EFFORT_HIGH] = "high" };
	struct str want = node_str(turn_options(m->r->t), "effort", STR("auto"));

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_is(want, names[i]))
			return (enum effort)i;
	return EFFORT_AUTO;
}

/* ---- the request ---- */

/* Those that can be used now: the prompt says why the others are missing. */
static void
add_tools(struct model_call *m)
{
	struct model_request *q = &m->q;
	const struct toolset *set = &m->r->en->toolsets[m->is_small];
	struct tool_schema *offered = arena_alloc(m->a, MAX(set->n, 1) * sizeof *offered);

	q->tools = offered;
	q->tools_n = 0;
	for (size_t i = 0; i < set->n; i++)
		if (tool_withdrawn(m->r, set->tools[i], NULL) == NULL)
			offered[q->tools_n++] = set->schemas[i];
	q->tool_mode = tool_mode_of(m);
}

/* How many bytes of conversation the window takes beside the prompt, the tools and the answer. */
static size_t
room(const struct model_call *m, size_t fixed_bytes)
{
	int64_t window = m->info.context_tokens, output = m->q.max_output_tokens;
	int64_t tokens = MAX(window - (output > 0 ? output : window / 4), window / 2);
	size_t bytes = (size_t)tokens * BYTES_PER_TOKEN;

	return bytes > 2 * fixed_bytes ? bytes - fixed_bytes : bytes / 2;
}

static int
add_messages(struct model_call *m, size_t fixed_bytes, struct err *e)
{
	struct view_limits l = { .max_bytes = room(m, fixed_bytes),
		.result_max = m->is_small ? SMALL_RESULT_MAX : 0 };
	struct transcript_view view;

	if (m->r->view_bytes_max > 0)
		l.max_bytes = MIN(l.max_bytes, m->r->view_bytes_max);
	transcript_view(m->r->s->tr, &l, m->a, &view);
	m->q.messages_n = view.n;
	m->view_bytes = view.bytes;
	m->turns = view.turns;
	m->dropped_turns = view.dropped_turns;
	return media_fill(m->r->s, &m->info, m->r->env.work, &view, m->a, &m->q.messages, e);
}

int
call_request(struct model_call *m, struct err *e)
{
	struct model_request *q = &m->q;
	struct str schema = turn_schema(m->r->t);
	size_t fixed;
	int rc;

	arena_reset(m->a);
	m->info = (struct model_info){ 0 }; /* its strings are gone */
	rc = model_resolve(m->r->s->config, run_model(m->r), m->a, &m->info, e);
	if (rc != 0)
		return rc;
	m->is_small = is_small_of(m);
	model_request_init(q, &m->info);
	q->provider = m->info.provider;
	q->cache_key = str_of(m->r->s->id);
	q->effort = effort_of(m);
	q->attempt = (int)m->attempt - 1;
	add_tools(m);
	if (m->info.has_schema && q->tool_mode != TOOLS_SCHEMA)
		q->schema = schema;
	q->system = prompt_system(m->r, m->is_small, schema, m->a);
	fixed = q->system.n + m->r->en->toolsets[m->is_small].bytes;
	rc = add_messages(m, fixed, e);
	m->input_bytes = m->view_bytes + fixed;
	return rc;
}

/* ---- a conversation that the server finds too long ---- */

bool
call_narrow(struct model_call *m)
{
	struct view_limits l = { .max_bytes = m->view_bytes / 2, .result_max = m->is_small ? SMALL_RESULT_MAX : 0 };
	struct transcript_view view;

	if (m->r->is_narrowed)
		return false;
	transcript_view(m->r->s->tr, &l, m->a, &view);
	if (view.bytes >= m->view_bytes)
		return false; /* one message that is too long stays so */
	m->r->is_narrowed = true;
	m->r->view_bytes_max = l.max_bytes;
	call_log_context(m, &view);
	return true;
}
