/* SPDX-License-Identifier: MIT
 * YAML text into nodes, from libyaml's events. libyaml gives structure, quoting and line numbers;
 * meaning is ours: the 1.2 core schema (yaml_scalar), unique scalar keys, no foreign tags, one
 * document. An alias shares the nodes of its anchor, so expansion costs no memory here, but readers
 * walk and copy it: every anchor knows its weight, and the expanded document is bounded by
 * YAML_NODES_MAX, YAML_EXPANDED_MAX and JSON_DEPTH_MAX. */
#include "base/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/internal.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

/* What a value amounts to once aliases are expanded. */
struct weight {
	size_t nodes, bytes;
	unsigned height;
};

struct anchor {
	struct str name;
	struct node node;
	struct weight weight;
};

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; deleted when the next is read */
	struct arena *a;
	const char *name;
	size_t lines; /* of the text; what follows its last line break counts as one */
	struct err *e;
	unsigned depth;
	struct weight total;
	struct anchor *anchors;
	size_t anchors_n, anchors_cap;
	struct node_pair *stack; /* children that wait for their list or map to close */
	size_t n, cap;
};

static int read_node(struct reader *r, struct node *out, struct weight *w);

static int
fail(struct reader *r, int code, size_t line, const char *what)
{
	return err_set(r->e, code, ERR_TO_USER, "%s line %zu: %s", r->name, line + 1, what);
}

static size_t
line_of(const struct reader *r)
{
	return r->event.start_mark.line;
}

static int
too_large(struct reader *r)
{
	return fail(
		r, ERR_LIMIT, line_of(r), "the document needs too much memory (make it smaller)");
}

/* libyaml's own words, with what usually helps. */
static int
syntax_error(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	if (p->error == YAML_MEMORY_ERROR)
		return too_large(r);
	const char *problem = p->problem ? p->problem : "not YAML";
	bool tab = strstr(problem, "cannot start any token") || strstr(problem, "tab");
	/* At an end without a line break libyaml counts one line more than there is. */
	bool past = p->problem_mark.line >= r->lines;
	size_t line = past ? r->lines : p->problem_mark.line + 1;
	char column[32] = "";
	if (!past)
		(void)snprintf(column, sizeof(column), " column %zu", p->problem_mark.column + 1);
	return err_set(r->e, ERR_INVALID, ERR_TO_USER, "%s line %zu%s: %s%s%s (%s)", r->name, line,
		column, problem, p->context ? " " : "", p->context ? p->context : "",
		tab ? "indent with spaces, not tabs; quote text that begins with @ ` or %"
		    : "check indentation, colons and quotes near this line");
}

static int
next(struct reader *r)
{
	yaml_event_delete(&r->event);
	return yaml_parser_parse(&r->parser, &r->event) ? 0 : syntax_error(r);
}

static int
add_weight(struct reader *r, const struct weight *w)
{
	r->total.nodes += w->nodes;
	r->total.bytes += w->bytes;
	if (r->total.nodes > YAML_NODES_MAX || r->total.bytes > YAML_EXPANDED_MAX)
		return fail(r, ERR_LIMIT, line_of(r), "too many values once aliases are expanded");
	return 0;
}

static const char *
anchor_of(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return (const char *)event->data.scalar.anchor;
	case YAML_SEQUENCE_START_EVENT:
		return (const char *)event->data.sequence_start.anchor;
	case YAML_MAPPING_START_EVENT:
		return (const char *)event->data.mapping_start.anchor;
	default:
		return NULL;
	}
}

/* The latest anchor of a name counts: YAML lets a document use a name again. */
static int
read_alias(struct reader *r, struct node *out, struct weight *w)
{
	struct str name = str_of((const char *)r->event.data.alias.anchor);
	for (size_t i = r->anchors_n; i-- > 0;) {
		const struct anchor *x = &r->anchors[i];
		if (!str_eq(x->name, name))
			continue;
		if (r->depth + x->weight.height > JSON_DEPTH_MAX)
			return fail(r, ERR_LIMIT, line_of(r), "nested too deeply");
		*out = x->node;
		*w = x->weight;
		return add_weight(r, w);
	}
	return err_set(r->e, ERR_INVALID, ERR_TO_USER,
		"%s line %zu: the alias *%.60s has no anchor that ends before it (write &%.60s at "
		"a value above)",
		r->name, line_of(r) + 1, name.p, name.p);
}

/* The tag without its prefix "str", "int", ...; "" when there is none; NULL when it is a foreign
 * one. */
static const char *
core_tag(const char *tag)
{
	static const char prefix[] = "tag:yaml.org,2002:";
	static const char *const known[] = { "str", "int", "float", "bool", "null", "seq", "map" };
	if (!tag || !*tag)
		return "";
	if (strcmp(tag, "!") == 0)
		return "str";
	if (strncmp(tag, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcmp(tag + sizeof(prefix) - 1, known[i]) == 0)
			return known[i];
	}
	return NULL;
}

/* Whether a resolved value is what its tag promises. */
static bool
tag_fits(const char *tag, enum node_type type)
{
	static const struct {
		const char *tag;
		enum node_type type;
	} fits[] = {
		{ "int", NODE_INT },
		{ "int", NODE_NUM },
		{ "float", NODE_NUM },
		{ "float", NODE_INT },
		{ "bool", NODE_BOOL },
		{ "null", NODE_NULL },
		{ "str", NODE_STR },
		{ "seq", NODE_LIST },
		{ "map", NODE_MAP },
	};
	for (size_t i = 0; i < ARRAY_LEN(fits); i++) {
		if (fits[i].type == type && strcmp(fits[i].tag, tag) == 0)
			return true;
	}
	return *tag == '\0';
}

static int
check_tag(struct reader *r, const char *tag, enum node_type type)
{
	const char *core = core_tag(tag);
	if (core && tag_fits(core, type))
		return 0;
	return err_set(r->e, ERR_INVALID, ERR_TO_USER,
		core ? "%s line %zu: the value is not what its tag %.80s says"
		     : "%s line %zu: unknown tag %.80s (only the core ones such as !!str are "
		       "understood)",
		r->name, line_of(r) + 1, tag);
}

static int
read_text(struct reader *r, struct str *out)
{
	struct str s = { (const char *)r->event.data.scalar.value, r->event.data.scalar.length };
	char *copy = arena_chars(r->a, s.n + 1);
	if (!copy)
		return too_large(r);
	memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	*out = (struct str){ copy, s.n };
	return 0;
}

static int
read_scalar(struct reader *r, struct node *out, struct weight *w)
{
	const char *tag = (const char *)r->event.data.scalar.tag;
	const char *core = core_tag(tag);
	bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	*w = (struct weight){ 1, r->event.data.scalar.length, 0 };
	int rc = add_weight(r, w);
	if (rc != 0)
		return rc;
	if (core && strcmp(core, "str") != 0 && (plain || *core)) {
		const char *reason = "";
		struct str s = { (const char *)r->event.data.scalar.value,
			r->event.data.scalar.length };
		rc = yaml_scalar(r->a, s, out, &reason);
		if (rc != 0)
			return rc == ERR_LIMIT ? too_large(r) : fail(r, rc, line_of(r), reason);
	} else {
		out->type = NODE_STR;
	}
	if (out->type == NODE_STR)
		rc = read_text(r, &out->s);
	return rc == 0 ? check_tag(r, tag, out->type) : rc;
}

static int
read_key(struct reader *r, struct node_pair *pair)
{
	pair->line = (uint32_t)line_of(r) + 1;
	if (r->event.type == YAML_ALIAS_EVENT) {
		struct node key;
		struct weight w;
		int rc = read_alias(r, &key, &w);
		if (rc == 0 && key.type != NODE_STR)
			rc = fail(r, ERR_INVALID, line_of(r), "a key must be plain text");
		if (rc == 0)
			pair->key = key.s;
		return rc;
	}
	if (r->event.type != YAML_SCALAR_EVENT)
		return fail(r, ERR_INVALID, line_of(r),
			"a key must be plain text, not a list or a map");
	if (r->event.data.scalar.tag || r->event.data.scalar.anchor)
		return fail(
			r, ERR_INVALID, line_of(r), "a key must have neither a tag nor an anchor");
	return read_text(r, &pair->key);
}

static int
close_list(struct reader *r, size_t from, struct node *out)
{
	size_t n = r->n - from;
	struct node *items = arena_try(r->a, n * sizeof(*items));
	if (!items)
		return too_large(r);
	for (size_t i = 0; i < n; i++)
		items[i] = r->stack[from + i].value;
	out->type = NODE_LIST;
	out->list.items = items;
	out->list.n = n;
	return 0;
}

static int
close_map(struct reader *r, size_t from, struct node *out)
{
	size_t n = r->n - from;
	const struct node_pair *twice = n ? pairs_duplicate(r->stack + from, n) : NULL;
	if (twice)
		return err_set(r->e, ERR_INVALID, ERR_TO_USER,
			"%s line %u: the key \"%.80s\" occurs twice (remove one)", r->name,
			twice->line, twice->key.p);
	struct node_pair *pairs = arena_try(r->a, n * sizeof(*pairs));
	if (!pairs)
		return too_large(r);
	if (n)
		memcpy(pairs, r->stack + from, n * sizeof(*pairs));
	out->type = NODE_MAP;
	out->map.pairs = pairs;
	out->map.n = n;
	return 0;
}

/* Current event: the start of a list or map. Ends on its end event. */
static int
read_children(struct reader *r, struct node *out, struct weight *w)
{
	bool is_map = r->event.type == YAML_MAPPING_START_EVENT;
	yaml_event_type_t end = is_map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
	size_t from = r->n;
	*w = (struct weight){ 1, 0, 1 };
	const char *tag = (const char *)(is_map ? r->event.data.mapping_start.tag
						: r->event.data.sequence_start.tag);
	int rc = check_tag(r, tag, is_map ? NODE_MAP : NODE_LIST);
	if (rc == 0)
		rc = add_weight(r, w);
	if (rc == 0 && ++r->depth > JSON_DEPTH_MAX)
		rc = fail(r, ERR_LIMIT, line_of(r), "nested too deeply");
	for (rc = rc ? rc : next(r); rc == 0 && r->event.type != end; rc = rc ? rc : next(r)) {
		struct node_pair pair = { 0 };
		struct weight child = { 0 };
		if (is_map) {
			rc = read_key(r, &pair);
			rc = rc ? rc : next(r);
		}
		rc = rc ? rc : read_node(r, &pair.value, &child);
		if (rc != 0)
			return rc;
		w->nodes += child.nodes;
		w->bytes += child.bytes + pair.key.n;
		w->height = MAX(w->height, child.height + 1);
		r->stack = vec_grow(r->stack, &r->cap, r->n + 1, sizeof(*r->stack));
		r->stack[r->n++] = pair;
	}
	if (rc != 0)
		return rc;
	r->depth--;
	rc = is_map ? close_map(r, from, out) : close_list(r, from, out);
	r->n = from;
	return rc;
}

static void
remember(struct reader *r, struct str name, const struct node *n, const struct weight *w)
{
	r->anchors = vec_grow(r->anchors, &r->anchors_cap, r->anchors_n + 1, sizeof(*r->anchors));
	r->anchors[r->anchors_n++] = (struct anchor){ name, *n, *w };
}

/* Reads the value that the current event begins and ends on its last event. */
static int
read_node(struct reader *r, struct node *out, struct weight *w)
{
	*out = (struct node){ .line = (uint32_t)line_of(r) + 1 };
	if (r->event.type == YAML_ALIAS_EVENT)
		return read_alias(r, out, w);
	const char *anchor = anchor_of(&r->event);
	struct str name = { NULL, 0 };
	if (anchor) {
		if (r->anchors_n >= YAML_ANCHORS_MAX || strlen(anchor) > YAML_ANCHORS_MAX)
			return fail(r, ERR_LIMIT, line_of(r), "too many anchors");
		name = arena_str(r->a, str_of(anchor));
	}
	int rc = r->event.type == YAML_SCALAR_EVENT ? read_scalar(r, out, w)
						    : read_children(r, out, w);
	if (rc == 0 && anchor)
		remember(r, name, out, w);
	return rc;
}

/* STREAM-START [DOCUMENT-START node DOCUMENT-END] STREAM-END */
static int
read_stream(struct reader *r, struct node *root)
{
	struct weight w;
	int rc = next(r);
	rc = rc ? rc : next(r);
	if (rc != 0 || r->event.type == YAML_STREAM_END_EVENT)
		return rc;
	rc = next(r);
	rc = rc ? rc : read_node(r, root, &w);
	rc = rc ? rc : next(r);
	rc = rc ? rc : next(r);
	if (rc == 0 && r->event.type != YAML_STREAM_END_EVENT)
		rc = fail(r, ERR_INVALID, line_of(r),
			"a second document begins here (keep one, or one file for each)");
	return rc;
}

/* The line on which the byte at n stands. */
static size_t
line_at(struct str text, size_t n)
{
	size_t line = 1;
	for (size_t i = 0; i < n; i++)
		line += text.p[i] == '\n';
	return line;
}

/* Length of the part of text that is UTF-8. */
static size_t
valid_length(struct str text)
{
	uint32_t cp;
	size_t i = 0, len;
	while (i < text.n && (len = utf8_decode(text.p + i, text.n - i, &cp)) > 0)
		i += len;
	return i;
}

int
yaml_parse(
	struct arena *a, const char *name, struct str text, const struct node **out, struct err *e)
{
	struct reader r = { .a = a, .name = name, .e = e };
	if (text.n > YAML_TEXT_MAX)
		return err_set(
			e, ERR_LIMIT, ERR_TO_USER, "%s: more than %u bytes", name, YAML_TEXT_MAX);
	if (!utf8_valid(text))
		return fail(&r, ERR_INVALID, line_at(text, valid_length(text)) - 1,
			"bytes that are not UTF-8 (save the file as UTF-8)");
	struct node *root = arena_try(a, sizeof(*root));
	if (!root)
		return too_large(&r);
	if (!yaml_parser_initialize(&r.parser))
		return too_large(&r);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(
		&r.parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
	*root = (struct node){ .line = 1 };
	r.lines = line_at(text, text.n);
	int rc = read_stream(&r, root);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	free(r.anchors);
	free(r.stack);
	if (rc == 0)
		*out = root;
	return rc;
}
