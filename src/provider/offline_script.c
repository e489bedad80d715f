/* SPDX-License-Identifier: MIT
 * Scripts of the offline model: YAML, checked against the tables below, with file and line in every
 * error. A script answers by the number of model answers so far (`steps`) or by what was said last
 * (`rules`). Nothing is remembered between calls: how often a rule has fired is worked out from the
 * conversation. docs/offline-model.md is its page. */
#include "provider/internal.h"

#include <regex.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#define EXPR_MAX     256        /* bytes of a regular expression */
#define MATCHED_MAX  (64 * KIB) /* of a text that expressions look at */
#define RULES_MAX    1000
#define CHUNK_MAX    1000000
#define DELAY_MAX_MS 600000

/* ---- tables ---- */

static const struct field call_fields[] = {
	{ .name = "tool",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = MODEL_NAME_MAX,
		.text = "Name of the tool." },
	{ .name = "args",
		.type = FIELD_ANY,
		.text = "Arguments as a map, or as text that is sent as it is." },
	{ .type = FIELD_END },
};
static const struct field error_fields[] = {
	{ .name = "status",
		.type = FIELD_INT,
		.min = 400,
		.max = 599,
		.dflt = "500",
		.text = "HTTP status." },
	{ .name = "message",
		.type = FIELD_STR,
		.max = 1000,
		.dflt = "scripted error",
		.text = "Server's message." },
	{ .name = "retry_after",
		.type = FIELD_INT,
		.min = 0,
		.max = 3600,
		.unit = "s",
		.text = "What the server asks to wait." },
	{ .type = FIELD_END },
};
static const struct field action_fields[] = {
	{ .name = "text",
		.type = FIELD_STR,
		.flags = FIELD_NUL,
		.max = MODEL_TEXT_MAX,
		.text = "Answer text; {{user}} and {{result}} stand for the last request and tool "
			"result." },
	{ .name = "reasoning",
		.type = FIELD_STR,
		.flags = FIELD_NUL,
		.max = MODEL_TEXT_MAX,
		.text = "Reasoning text." },
	{ .name = "call", .type = FIELD_OBJECT, .sub = call_fields, .text = "Tool call." },
	{ .name = "error",
		.type = FIELD_OBJECT,
		.sub = error_fields,
		.text = "Fail like a server." },
	{ .name = "cut", .type = FIELD_BOOL, .text = "End the stream before its end mark." },
	{ .name = "delay",
		.type = FIELD_INT,
		.min = 0,
		.max = DELAY_MAX_MS,
		.unit = "ms",
		.text = "Pause; beside a text: between its pieces." },
	{ .name = "chunk",
		.type = FIELD_INT,
		.min = 1,
		.max = CHUNK_MAX,
		.unit = "bytes",
		.text = "Size of the pieces of a text." },
	{ .name = "attempts",
		.type = FIELD_INT,
		.min = 1,
		.max = 1000,
		.text = "Error or cut in the first attempts of a request only." },
	{ .type = FIELD_END },
};
static const struct field when_fields[] = {
	{ .name = "user",
		.type = FIELD_STR,
		.min = 1,
		.max = EXPR_MAX,
		.text = "Expression for the last request." },
	{ .name = "user_has",
		.type = FIELD_STR,
		.min = 1,
		.max = 1000,
		.text = "Text in the last request." },
	{ .name = "result",
		.type = FIELD_STR,
		.min = 1,
		.max = EXPR_MAX,
		.text = "Expression for the last tool result since the request." },
	{ .name = "result_has",
		.type = FIELD_STR,
		.min = 1,
		.max = 1000,
		.text = "Text in that result." },
	{ .name = "tool",
		.type = FIELD_STR,
		.min = 1,
		.max = MODEL_NAME_MAX,
		.text = "Tool of that result." },
	{ .name = "is_error", .type = FIELD_BOOL, .text = "Whether that result is an error." },
	{ .name = "step",
		.type = FIELD_INT,
		.min = 0,
		.max = 1000000,
		.text = "Tool results since the request." },
	{ .type = FIELD_END },
};
static const struct field action_item = { .type = FIELD_OBJECT, .sub = action_fields };
static const struct field rule_fields[] = {
	{ .name = "when",
		.type = FIELD_OBJECT,
		.sub = when_fields,
		.text = "Conditions; all must hold." },
	{ .name = "times",
		.type = FIELD_INT,
		.min = 1,
		.max = 1000000,
		.text = "How often the rule may fire in a conversation." },
	{ .name = "answer",
		.type = FIELD_LIST,
		.flags = FIELD_REQUIRED,
		.item = &action_item,
		.max = RULES_MAX,
		.text = "What to do, in order." },
	{ .type = FIELD_END },
};
static const struct field step_fields[] = {
	{ .name = "answer",
		.type = FIELD_LIST,
		.flags = FIELD_REQUIRED,
		.item = &action_item,
		.max = RULES_MAX,
		.text = "What to do, in order." },
	{ .type = FIELD_END },
};
static const struct field rule_item = { .type = FIELD_OBJECT, .sub = rule_fields };
static const struct field step_item = { .type = FIELD_OBJECT, .sub = step_fields };
static const char *const otherwise_names[] = { "error", "builtin", NULL };
static const struct field script_fields[] = {
	{ .name = "rules",
		.type = FIELD_LIST,
		.item = &rule_item,
		.max = RULES_MAX,
		.text = "The first rule whose conditions hold answers." },
	{ .name = "steps",
		.type = FIELD_LIST,
		.item = &step_item,
		.max = RULES_MAX,
		.text = "Answer number n of the conversation, where no rule fires." },
	{ .name = "otherwise",
		.type = FIELD_ENUM,
		.choices = otherwise_names,
		.dflt = "error",
		.text = "Where neither answers: an error, or the built-in rules." },
	{ .type = FIELD_END },
};

/* ---- reading ---- */

struct rule {
	const struct node *when, *answer;
	regex_t user, result;
	bool has_user, has_result;
	int64_t times; /* 0: no limit */
	bool may_fail; /* has an error or cut without `attempts`: never became an answer */
};

struct script {
	char *name;
	struct arena *a;
	const struct node *root, *steps;
	struct rule *rules;
	size_t n;
	bool has_times;
	bool is_builtin_otherwise;
};

/* Back references and large repetitions can keep the matcher busy for ever: this model has no use
 * for them. */
static const char *
bad_expr(struct str expr)
{
	size_t depth = 0, repeats = 0;

	for (size_t i = 0; i < expr.n; i++) {
		char c = expr.p[i];

		if (c == '\\' && i + 1 < expr.n && expr.p[i + 1] >= '1' && expr.p[i + 1] <= '9')
			return "back references are not supported";
		if (c == '\\') {
			i++;
			continue;
		}
		depth += c == '(';
		repeats += c == '{';
	}
	return depth > 16    ? "more than 16 groups"
	       : repeats > 0 ? "{n,m} is not supported; write the repetition out"
			     : NULL;
}

static int
compile(const struct script *s, const struct node *when, const char *key, regex_t *re, bool *has,
	struct err *e)
{
	const struct node *n = node_get(when, key);
	const char *why;
	char text[120];
	int rc;

	if (!n)
		return 0;
	why = bad_expr(n->s);
	if (!why) {
		rc = regcomp(re, n->s.p, REG_EXTENDED | REG_ICASE | REG_NOSUB);
		if (rc == 0) {
			*has = true;
			return 0;
		}
		regerror(rc, re, text, sizeof(text));
		why = text;
	}
	return err_set(e, ERR_CONFIG, ERR_TO_USER,
		"%s line %u: when.%s: not a usable regular expression: %s", s->name, n->line, key,
		why);
}

static int
check_action(const struct script *s, const struct node *action, struct err *e)
{
	static const char *const kinds[] = { "text", "reasoning", "call", "error", "cut" };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		n += node_get(action, kinds[i]) != NULL;
	if (n > 1 || (n == 0 && !node_get(action, "delay")))
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"%s line %u: expected exactly one of text, reasoning, call, error, cut, "
			"delay in an action",
			s->name, action->line);
	if (node_get(action, "attempts") && !node_get(action, "error") && !node_get(action, "cut"))
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"%s line %u: attempts belongs to error or cut", s->name, action->line);
	return 0;
}

static int
check_answer(const struct script *s, const struct node *answer, bool *may_fail, struct err *e)
{
	for (size_t i = 0; i < node_len(answer); i++) {
		const struct node *action = node_at(answer, i);
		int rc = check_action(s, action, e);

		if (rc != 0)
			return rc;
		if ((node_get(action, "error") || node_bool(action, "cut", false)) &&
			!node_get(action, "attempts"))
			*may_fail = true;
	}
	return 0;
}

static int
load_rule(struct script *s, struct rule *r, const struct node *n, struct err *e)
{
	int rc;

	r->when = node_get(n, "when");
	r->answer = node_get(n, "answer");
	r->times = node_int(n, "times", 0);
	s->has_times |= r->times > 0;
	rc = check_answer(s, r->answer, &r->may_fail, e);
	if (rc == 0)
		rc = compile(s, r->when, "user", &r->user, &r->has_user, e);
	if (rc == 0)
		rc = compile(s, r->when, "result", &r->result, &r->has_result, e);
	return rc;
}

static int
load(struct script *s, struct str text, struct err *e)
{
	const struct node *rules;
	bool ignored;
	int rc = yaml_parse(s->a, s->name, text, &s->root, e);

	if (rc == 0)
		rc = field_check(script_fields, s->root, s->name, ERR_TO_USER, e);
	if (rc != 0)
		return rc;
	rules = node_get(s->root, "rules");
	s->steps = node_get(s->root, "steps");
	s->is_builtin_otherwise = str_is(node_str(s->root, "otherwise", STR("error")), "builtin");
	s->rules = xcalloc(node_len(rules) + 1, sizeof(*s->rules));
	for (size_t i = 0; i < node_len(rules); i++) {
		s->n++; /* counted first, so that script_free sees what is compiled */
		rc = load_rule(s, &s->rules[i], node_at(rules, i), e);
		if (rc != 0)
			return rc;
	}
	for (size_t i = 0; i < node_len(s->steps); i++) {
		rc = check_answer(s, node_get(node_at(s->steps, i), "answer"), &ignored, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
script_parse(const char *name, struct str text, struct script **out, struct err *e)
{
	struct script *s = xcalloc(1, sizeof(*s));
	int rc;

	s->name = xstrdup(name);
	s->a = arena_new(MODEL_EVENT_TREE_MAX);
	rc = load(s, text, e);
	if (rc != 0) {
		script_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

bool
script_has_builtin(const struct script *s)
{
	return s->is_builtin_otherwise;
}

void
script_free(struct script *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		if (s->rules[i].has_user)
			regfree(&s->rules[i].user);
		if (s->rules[i].has_result)
			regfree(&s->rules[i].result);
	}
	free(s->rules);
	arena_free(s->a);
	free(s->name);
	free(s);
}

/* ---- matching ---- */

static bool
expr_holds(const regex_t *re, struct str s)
{
	/* regexec looks for a NUL even where the length is given: the copy has one. */
	size_t n = utf8_cut(s, MATCHED_MAX);
	AUTO_FREE char *z = str_dup(str_sub(s, 0, n));
	regmatch_t whole = { .rm_so = 0, .rm_eo = (regoff_t)n };

	return regexec(re, z, 1, &whole, REG_STARTEND) == 0;
}

static bool
has_holds(const struct node *when, const char *key, struct str s)
{
	const struct node *n = node_get(when, key);

	return !n || str_find(s, n->s) >= 0;
}

static bool
holds(const struct rule *r, const struct offline_view *v)
{
	static const char *const of_result[] = { "result", "result_has", "tool", "is_error" };
	struct str text = v->result ? v->result->text : STR("");
	const struct node *n;

	for (size_t i = 0; i < ARRAY_LEN(of_result) && !v->result; i++)
		if (node_get(r->when, of_result[i]))
			return false;
	n = node_get(r->when, "tool");
	if (n && !(v->call && str_eq(v->call->tool, n->s)))
		return false;
	n = node_get(r->when, "is_error");
	if (n && v->result->is_error != n->b)
		return false;
	n = node_get(r->when, "step");
	if (n && (size_t)n->i != v->results_n)
		return false;
	return has_holds(r->when, "user_has", v->user) && has_holds(r->when, "result_has", text) &&
	       (!r->has_user || expr_holds(&r->user, v->user)) &&
	       (!r->has_result || expr_holds(&r->result, text));
}

static struct rule *
find_rule(const struct script *s, const struct offline_view *v, const int64_t *fired, bool is_past)
{
	for (size_t i = 0; i < s->n; i++) {
		struct rule *r = &s->rules[i];

		if (is_past && r->may_fail)
			continue; /* an answer that failed left nothing in the conversation */
		if ((r->times == 0 || fired[i] < r->times) && holds(r, v))
			return r;
	}
	return NULL;
}

/* How often each rule has fired: the conversation is gone through once more, answer by answer. */
static int
count_fired(const struct script *s, const struct model_request *r, struct arena *scratch,
	int64_t *fired, struct err *e)
{
	struct offline_view v;

	for (size_t m = 0; m < r->messages_n && s->has_times; m++) {
		const struct rule *rule;

		if (r->messages[m].role != MSG_ASSISTANT)
			continue;
		arena_reset(scratch);
		if (offline_look(r, m, scratch, &v, e) != 0)
			return ERR_LIMIT;
		rule = find_rule(s, &v, fired, true);
		if (rule)
			fired[rule - s->rules]++;
	}
	return 0;
}

static int
find_answer(const struct script *s, const struct model_request *r, const struct offline_view *v,
	const struct node **answer, struct err *e)
{
	struct arena *scratch = arena_new(MODEL_EVENT_TREE_MAX);
	int64_t *fired = xcalloc(s->n + 1, sizeof(*fired));
	const struct rule *rule = NULL;
	int rc = count_fired(s, r, scratch, fired, e);

	*answer = NULL;
	if (rc == 0)
		rule = find_rule(s, v, fired, false);
	if (rule)
		*answer = rule->answer;
	else if (v->answers < node_len(s->steps))
		*answer = node_get(node_at(s->steps, v->answers), "answer");
	free(fired);
	arena_free(scratch);
	return rc;
}

/* ---- answering ---- */

static struct str
expand(struct str text, const struct offline_view *v, struct arena *a)
{
	static const char *const names[] = { "{{user}}", "{{result}}" };
	struct str values[] = { v->user, v->result ? v->result->text : STR("") };
	struct buf b;
	ptrdiff_t at;

	if (str_find(text, STR("{{")) < 0)
		return text;
	buf_init(&b, MODEL_TEXT_MAX);
	while ((at = str_find(text, STR("{{"))) >= 0) {
		size_t skip = 2, k = 0;

		buf_add_str(&b, str_sub(text, 0, (size_t)at));
		text = str_sub(text, (size_t)at, text.n);
		while (k < ARRAY_LEN(names) && !str_starts(text, names[k]))
			k++;
		if (k < ARRAY_LEN(names))
			skip = strlen(names[k]);
		buf_add_str(&b, k < ARRAY_LEN(names) ? values[k] : STR("{{"));
		text = str_sub(text, skip, text.n);
	}
	buf_add_str(&b, text);
	return arena_take(a, &b);
}

static struct str
args_text(const struct node *args, struct arena *a)
{
	struct buf b;
	struct json j;

	if (!args || args->type == NODE_NULL)
		return STR("{}");
	if (args->type == NODE_STR)
		return args->s;
	buf_init(&b, MODEL_ARGS_MAX);
	json_init(&j, &b);
	json_node(&j, args);
	return arena_take(a, &b);
}

static int
act(const struct node *action, const struct model_request *r, const struct offline_view *v,
	struct offline_out *o, struct err *e)
{
	const struct node *call = node_get(action, "call"), *error = node_get(action, "error");
	const struct node *text = node_get(action, "text"),
			  *reasoning = node_get(action, "reasoning");
	int64_t delay = node_int(action, "delay", 0),
		retry_after = node_int(error, "retry_after", -1);
	bool applies = r->attempt < node_int(action, "attempts", INT64_MAX);
	struct offline_step *s;

	if (text || reasoning)
		return offline_text(o, text ? OFFLINE_TEXT : OFFLINE_REASONING,
			expand(text ? text->s : reasoning->s, v, o->a),
			node_int(action, "chunk", 0), delay, e);
	if ((error || node_get(action, "cut")) &&
		(!applies || !(error || node_bool(action, "cut", false))))
		return 0;
	s = offline_add(o, call                      ? OFFLINE_CALL
			   : error                   ? OFFLINE_ERROR
			   : node_get(action, "cut") ? OFFLINE_CUT
						     : OFFLINE_DELAY);
	if (!s)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"the script's answer has more than %u steps", OFFLINE_STEPS_MAX);
	if (call) {
		s->tool = node_str(call, "tool", STR(""));
		s->args = args_text(node_get(call, "args"), o->a);
	} else if (error) {
		s->status = (int)node_int(error, "status", 500);
		s->text = node_str(error, "message", STR("scripted error"));
		s->ms = retry_after < 0 ? -1 : retry_after * 1000;
	} else if (s->type == OFFLINE_DELAY) {
		s->ms = delay;
	}
	return 0;
}

static bool
is_last(const struct offline_out *o)
{
	enum offline_step_type last = o->n ? o->steps[o->n - 1].type : OFFLINE_TEXT;

	return last == OFFLINE_ERROR || last == OFFLINE_CUT;
}

int
script_answer(
	const struct script *s, const struct model_request *r, struct offline_out *o, struct err *e)
{
	const struct node *answer;
	struct offline_view v;
	int rc = offline_look(r, r->messages_n, o->a, &v, e);

	if (rc == 0)
		rc = find_answer(s, r, &v, &answer, e);
	if (rc != 0)
		return rc;
	if (!answer && s->is_builtin_otherwise)
		return 0;
	if (!answer)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER,
			"%s has no rule that matches and no step %zu (add one, or set otherwise: "
			"builtin)",
			s->name, v.answers);
	for (size_t i = 0; i < node_len(answer) && !is_last(o); i++) {
		rc = act(node_at(answer, i), r, &v, o, e);
		if (rc != 0)
			return rc;
	}
	return 1;
}
