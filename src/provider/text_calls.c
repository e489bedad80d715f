/* SPDX-License-Identifier: MIT
 * Finds tool calls that a model wrote into its text: a table of markers, each with the reader of
 * what follows it. A reader takes a whole block or nothing, and never guesses: names must have been
 * offered, arguments must be an object, and only such slips are mended as have one reading
 * (json_mend). How tools are told to such a model is in text_tools.c. */
#include "provider/internal.h"

#include "base/id.h"
#include "base/limits.h"

struct found {
	struct str name, args;
};
struct search {
	const struct model_request *r;
	struct arena *a;       /* of what is kept */
	struct arena *scratch; /* of what is tried */
	size_t left;           /* bytes that may still be looked at as JSON: text can be made of
				  beginnings that never end */
	unsigned absent;       /* forms whose marker does not come any more: one bit each */
	struct found calls[MODEL_CALLS_MAX];
	size_t n; /* those of the block that is being read are behind the ones that count */
};

/* ---- one call ---- */

static bool
is_offered(const struct search *s, struct str name)
{
	for (size_t i = 0; i < s->r->tools_n; i++)
		if (str_is(name, s->r->tools[i].name))
			return true;
	return false;
}

static bool
add_call(struct search *s, struct str name, struct str args)
{
	if (s->n == MODEL_CALLS_MAX || args.n > MODEL_ARGS_MAX || !is_offered(s, name))
		return false;
	s->calls[s->n++] = (struct found){ arena_str(s->a, name), arena_str(s->a, args) };
	return true;
}

static const struct node *
parse(struct search *s, struct str text)
{
	const struct node *n;

	if (text.n > MODEL_ARGS_MAX + 4 * KIB || text.n > s->left)
		return NULL;
	s->left -= text.n;
	if (json_parse(s->scratch, text, &n, NULL) == 0 ||
		json_parse(s->scratch, json_mend(s->scratch, text), &n, NULL) == 0)
		return n;
	return NULL;
}

/* The object that arguments are, also when it was put into a string. */
static bool
add_node_call(struct search *s, struct str name, const struct node *args)
{
	struct buf b;
	struct json j;
	bool is_added;

	if (node_is(args, NODE_STR))
		args = parse(s, str_trim(args->s));
	if (!node_is(args, NODE_MAP))
		return false;
	buf_init(&b, MODEL_ARGS_MAX);
	json_init(&j, &b);
	json_node(&j, args);
	is_added = !b.overflow && add_call(s, name, buf_str(&b));
	buf_fini(&b);
	return is_added;
}

/* {"name", "arguments"}, with the other words that models use, alone or below "function". */
static bool
add_object(struct search *s, const struct node *n)
{
	static const char *const names[] = { "name", "tool", "tool_name" };
	static const char *const keys[] = { "arguments", "parameters", "args", "input" };
	const struct node *inner = node_get(n, "function");
	struct str name = STR("");
	size_t k = 0;

	if (node_is(inner, NODE_MAP))
		n = inner;
	for (size_t i = 0; i < ARRAY_LEN(names) && name.n == 0; i++)
		name = node_str(n, names[i], STR(""));
	if (name.n == 0)
		name = node_str(n, "function", STR(""));
	while (k < ARRAY_LEN(keys) && !node_get(n, keys[k]))
		k++;
	return name.n > 0 && k < ARRAY_LEN(keys) && add_node_call(s, name, node_get(n, keys[k]));
}

static bool
add_value(struct search *s, const struct node *n)
{
	if (node_is(n, NODE_MAP))
		return add_object(s, n);
	for (size_t i = 0; i < node_len(n); i++)
		if (!add_object(s, node_at(n, i)))
			return false;
	return node_len(n) > 0;
}

/* ---- pieces of text ---- */

static struct str
after(struct str s, size_t n)
{
	return str_sub(s, n, s.n);
}

static struct str
skip_space(struct str s)
{
	size_t i = 0;

	while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\t' || s.p[i] == '\n' || s.p[i] == '\r'))
		i++;
	return after(s, i);
}

/* Takes the token off the front of *s, white space before it left out. */
static bool
take(struct str *s, const char *token)
{
	struct str t = skip_space(*s);

	if (!str_starts(t, token))
		return false;
	*s = after(t, strlen(token));
	return true;
}

/* Takes the text up to the token, and the token. */
static bool
take_until(struct str *s, const char *token, struct str *out)
{
	ptrdiff_t at = str_find(*s, str_of(token));

	if (at < 0)
		return false;
	*out = str_sub(*s, 0, (size_t)at);
	*s = after(*s, (size_t)at + strlen(token));
	return true;
}

/* The object or list that t begins with; 0: none. */
static size_t
span(struct search *s, struct str t)
{
	size_t n = s->left > 0 ? json_span(t) : 0;

	s->left -= MIN(s->left, n > 0 ? n : t.n);
	return n;
}

/* Takes an object or list with its calls. */
static bool
take_json_calls(struct search *s, struct str *rest)
{
	struct str t = skip_space(*rest);
	size_t n = span(s, t);

	if (n == 0 || !add_value(s, parse(s, str_sub(t, 0, n))))
		return false;
	*rest = after(t, n);
	return true;
}

/* ---- the forms; each takes what stands behind its marker off *rest ---- */

/* A parameter's value as the schema of the tool wants it: text where a string is wanted, JSON where
 * it is anything else and parses. */
static void
write_value(struct search *s, struct json *j, struct str tool, struct str key, struct str value)
{
	const struct node *schema = NULL, *n;
	struct str type;

	for (size_t i = 0; i < s->r->tools_n; i++)
		if (str_is(tool, s->r->tools[i].name) &&
			json_parse(s->scratch, s->r->tools[i].schema, &schema, NULL) != 0)
			schema = NULL;
	type = node_str(node_get_str(node_get(schema, "properties"), key), "type", STR(""));
	n = str_is(type, "string") ? NULL : parse(s, str_trim(value));
	if (n)
		json_node(j, n);
	else
		json_str(j, value);
}

/* One line end belongs to each tag. */
static struct str
tag_body(struct str s)
{
	if (str_starts(s, "\r\n"))
		s = after(s, 2);
	else if (str_starts(s, "\n"))
		s = after(s, 1);
	if (str_ends(s, "\r\n"))
		s.n -= 2;
	else if (str_ends(s, "\n"))
		s.n -= 1;
	return s;
}

/* The tags around a name and a value. */
struct pair_tags {
	const char *open, *key_end, *value, *close; /* value: "" where nothing stands between */
};

/* Pairs of a name and a value become the members of one object. */
static bool
take_pairs(struct search *s, struct str *rest, struct str tool, const struct pair_tags *tags,
	struct buf *b)
{
	struct json j;
	struct str key, value;

	json_init(&j, b);
	json_obj(&j);
	while (take(rest, tags->open)) {
		if (!take_until(rest, tags->key_end, &key) ||
			(*tags->value && !take(rest, tags->value)) ||
			!take_until(rest, tags->close, &value))
			return false;
		key = str_trim(key);
		json_key_str(&j, key);
		write_value(s, &j, tool, key, tag_body(value));
	}
	json_obj_end(&j);
	return !b->overflow;
}

/* <function=NAME><parameter=KEY>VALUE</parameter></function>; the marker is "<function=". A key
 * that comes twice makes an object that does not parse, and so no call. */
static bool
read_function_tag(struct search *s, struct str *rest)
{
	static const struct pair_tags tags = { "<parameter=", ">", "", "</parameter>" };
	struct str name;
	struct buf b;
	bool is_call = false;

	if (!take_until(rest, ">", &name))
		return false;
	name = str_trim(name);
	if (!is_offered(s, name))
		return false;
	buf_init(&b, MODEL_ARGS_MAX);
	if (take_pairs(s, rest, name, &tags, &b) && take(rest, "</function>"))
		is_call = add_node_call(s, name, parse(s, buf_str(&b)));
	buf_fini(&b);
	return is_call;
}

/* NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value> */
static bool
read_arg_tags(struct search *s, struct str *rest)
{
	static const struct pair_tags tags = { "<arg_key>", "</arg_key>", "<arg_value>",
		"</arg_value>" };
	struct str t = skip_space(*rest), name;
	struct buf b;
	size_t n = 0;
	bool is_call = false;

	while (n < t.n && t.p[n] != '<' && t.p[n] != '\n')
		n++;
	name = str_trim(str_sub(t, 0, n));
	if (!is_offered(s, name))
		return false;
	*rest = after(t, n);
	buf_init(&b, MODEL_ARGS_MAX);
	if (take_pairs(s, rest, name, &tags, &b))
		is_call = add_node_call(s, name, parse(s, buf_str(&b)));
	buf_fini(&b);
	return is_call;
}

/* Between "<tool_call>" and its end: one or more objects, or one of the tagged forms. The end may
 * be missing where the text ends. */
static bool
read_tool_call(struct search *s, struct str *rest)
{
	if (take(rest, "<function=")) {
		if (!read_function_tag(s, rest))
			return false;
	} else if (str_starts(skip_space(*rest), "{") || str_starts(skip_space(*rest), "[")) {
		while (take_json_calls(s, rest))
			;
	} else if (!read_arg_tags(s, rest)) {
		return false;
	}
	return take(rest, "</tool_call>") || skip_space(*rest).n == 0;
}

/* Objects up to the end of the message, or to the mark that ends it; some models put ; between. */
static bool
read_python_tag(struct search *s, struct str *rest)
{
	if (!take_json_calls(s, rest))
		return false;
	while (take(rest, ";"))
		if (!take_json_calls(s, rest))
			return false;
	return take(rest, "<|eom_id|>") || take(rest, "<|eot_id|>") || skip_space(*rest).n == 0;
}

/* Behind "[TOOL_CALLS]": a list, or NAME[ARGS]{...} once or more, each with the marker again. */
static bool
read_mistral(struct search *s, struct str *rest)
{
	struct str name, t = skip_space(*rest);
	size_t n;

	if (str_starts(t, "[") || str_starts(t, "{"))
		return take_json_calls(s, rest);
	do {
		if (!take_until(rest, "[ARGS]", &name))
			return false;
		t = skip_space(*rest);
		n = span(s, t);
		if (n == 0 || !add_node_call(s, str_trim(name), parse(s, str_sub(t, 0, n))))
			return false;
		*rest = after(t, n);
	} while (take(rest, "[TOOL_CALLS]"));
	return true;
}

/* A fence holds calls and nothing else. */
static bool
read_fence(struct search *s, struct str *rest)
{
	struct str body;

	if (!take_until(rest, "```", &body) || !take_json_calls(s, &body))
		return false;
	while (take_json_calls(s, &body))
		;
	return skip_space(body).n == 0;
}

#define DS(name)  "<\xEF\xBD\x9C" name "\xEF\xBD\x9C>" /* full-width bars */
#define DS_SPACE  "\xE2\x96\x81"
#define DS_BEGIN  DS("tool" DS_SPACE "calls" DS_SPACE "begin")
#define DS_END    DS("tool" DS_SPACE "calls" DS_SPACE "end")
#define DS_CALL   DS("tool" DS_SPACE "call" DS_SPACE "begin")
#define DS_SEP    DS("tool" DS_SPACE "sep")
#define DS_CALLED DS("tool" DS_SPACE "call" DS_SPACE "end")

/* Older models write "function", the separator, the name and a fenced object; newer ones the name,
 * the separator and the object. */
static bool
take_deepseek_call(struct search *s, struct str *rest)
{
	struct str head, body, name, line;

	if (!take(rest, DS_CALL) || !take_until(rest, DS_SEP, &head) ||
		!take_until(rest, DS_CALLED, &body))
		return false;
	name = str_trim(head);
	if (str_is(name, "function")) {
		if (!str_next(&body, '\n', &line))
			return false;
		name = str_trim(line);
	}
	if (take(&body, "```json") || take(&body, "```")) {
		body = str_trim(body);
		if (!str_ends(body, "```"))
			return false;
		body.n -= 3;
	}
	return add_node_call(s, name, parse(s, str_trim(body)));
}

static bool
read_deepseek(struct search *s, struct str *rest)
{
	if (!take_deepseek_call(s, rest))
		return false;
	while (str_starts(skip_space(*rest), DS_CALL))
		if (!take_deepseek_call(s, rest))
			return false;
	return take(rest, DS_END) || skip_space(*rest).n == 0;
}

static const struct {
	const char *marker;
	bool (*read)(struct search *s, struct str *rest);
} forms[] = {
	{ "<tool_call>", read_tool_call },
	{ "<function=", read_function_tag },
	{ "<|python_tag|>", read_python_tag },
	{ "[TOOL_CALLS]", read_mistral },
	{ DS_BEGIN, read_deepseek },
	{ "```json\n", read_fence },
	{ "```tool_call\n", read_fence },
	{ "```tool_code\n", read_fence },
	{ "```\n", read_fence },
};

/* ---- a text ---- */

/* Where the next marker stands, and which; a marker at one place goes to the first row. */
static bool
find_marker(struct search *s, struct str text, size_t from, size_t *at, size_t *form)
{
	ptrdiff_t best = -1;

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		/* Only the part before the best place so far can change it. */
		struct str part =
			best < 0 ? after(text, from)
				 : str_sub(text, from, (size_t)best + strlen(forms[i].marker));
		ptrdiff_t k = s->absent >> i & 1 ? -1 : str_find(part, str_of(forms[i].marker));

		if (k < 0 && best < 0)
			s->absent |= 1u << i;
		if (k >= 0 && (best < 0 || k < best)) {
			best = k;
			*form = i;
		}
	}
	*at = from + (size_t)MAX(best, 0);
	return best >= 0;
}

struct output {
	struct part *parts;
	size_t n, cap;
};

/* Text around calls without the white space between them. */
static void
put_text(struct output *o, const struct part *from, struct str text, bool is_cut)
{
	if (is_cut && str_trim(text).n == 0)
		return;
	if (o->n == o->cap)
		return;
	o->parts[o->n] = *from;
	o->parts[o->n++].text = is_cut ? str_trim(text) : text;
}

static void
put_calls(struct output *o, const struct search *s, size_t from)
{
	for (size_t i = from; i < s->n && o->n < o->cap; i++) {
		struct id id = id_new();

		o->parts[o->n++] = (struct part){
			.type = PART_CALL,
			.call_id = str_of(arena_printf(s->a, "call_%s", id.z)),
			.tool = s->calls[i].name,
			.args = s->calls[i].args,
		};
	}
}

/* A text that is JSON from end to end: what models write that know no marker. */
static bool
read_bare(struct search *s, struct str text)
{
	size_t before = s->n;
	struct str t = str_trim(text);

	if (take_json_calls(s, &t) && skip_space(t).n == 0)
		return true;
	s->n = before;
	return false;
}

/* {"answer"} or {"tool_calls"}: what TOOLS_SCHEMA demands. */
static bool
read_schema(struct search *s, const struct part *p, struct output *o)
{
	struct str t = str_trim(p->text);
	const struct node *n = json_span(t) == t.n ? parse(s, t) : NULL, *answer, *calls;
	size_t before = s->n;
	struct buf b;
	struct json j;

	answer = node_get(n, "answer");
	calls = node_get(n, "tool_calls");
	if (!node_is(n, NODE_MAP) || (!answer && !calls))
		return false;
	if (calls && node_len(calls) > 0 && !add_value(s, calls)) {
		s->n = before;
		return false;
	}
	if (node_is(answer, NODE_STR)) {
		put_text(o, p, arena_str(s->a, answer->s), true);
	} else if (answer && answer->type != NODE_NULL) {
		buf_init(&b, 8 * MODEL_TEXT_MAX); /* escapes make it longer */
		json_init(&j, &b);
		json_node(&j, answer);
		put_text(o, p, arena_str(s->a, buf_str(&b)), true);
		buf_fini(&b);
	}
	put_calls(o, s, before);
	return true;
}

static void
read_text(struct search *s, const struct part *p, struct output *o)
{
	size_t from = 0, shown = 0, at, form = 0, before = s->n;

	s->absent = 0;
	if (s->r->tool_mode == TOOLS_SCHEMA && read_schema(s, p, o))
		return;
	if (read_bare(s, p->text)) {
		put_calls(o, s, before);
		return;
	}
	for (size_t tried = 0;
		tried < TEXT_CALLS_TRIED_MAX && find_marker(s, p->text, from, &at, &form);
		tried++) {
		struct str rest = after(p->text, at + strlen(forms[form].marker));

		arena_reset(s->scratch);
		before = s->n;
		if (!forms[form].read(s, &rest) || s->n == before) {
			s->n = before;
			from = at + strlen(forms[form].marker);
			continue;
		}
		put_text(o, p, str_sub(p->text, shown, at - shown), true);
		put_calls(o, s, before);
		from = shown = p->text.n - rest.n;
	}
	put_text(o, p, after(p->text, shown), shown > 0);
}

static bool
is_wanted(const struct model_answer *answer, const struct model_request *r)
{
	if (r->tools_n == 0 || (r->tool_mode == TOOLS_NATIVE && r->is_own_server))
		return false;
	for (size_t i = 0; i < answer->n; i++)
		if (answer->parts[i].type == PART_CALL)
			return false;
	return true;
}

size_t
answer_text_calls(const struct model_answer *answer, const struct model_request *r, struct arena *a,
	struct model_answer *out)
{
	struct search s = { .r = r, .a = a, .left = 8 * MODEL_TEXT_MAX };
	/* Each call may be followed by one more text. */
	struct output o = { .cap = answer->n + 2 * MODEL_CALLS_MAX };

	*out = *answer;
	if (!is_wanted(answer, r))
		return 0;
	s.scratch = arena_new(MODEL_EVENT_TREE_MAX);
	o.parts = arena_alloc(a, o.cap * sizeof(*o.parts));
	for (size_t i = 0; i < answer->n; i++) {
		if (answer->parts[i].type == PART_TEXT)
			read_text(&s, &answer->parts[i], &o);
		else if (o.n < o.cap)
			o.parts[o.n++] = answer->parts[i];
	}
	arena_free(s.scratch);
	out->parts = o.parts;
	out->n = o.n;
	if (s.n > 0 && (out->stop == STOP_END || out->stop == STOP_OTHER))
		out->stop = STOP_TOOLS;
	return s.n;
}
