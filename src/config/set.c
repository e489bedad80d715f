/* SPDX-License-Identifier: MIT
 * `config set`: changes one key in YAML text and nothing else, comments and layout included. It splices bytes where the
 * place is plain, and refuses with the line to edit where it is not. The result is parsed again: it must be the old
 * document with that one key changed, or nothing is returned. */
#include "config/internal.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/yaml_span.h"

#define SEGMENTS_MAX 16

struct edit {
	struct arena *a;
	struct str yaml, dotted;
	struct str path[SEGMENTS_MAX];
	size_t n;
	const struct node *value;
	struct str value_text; /* as YAML */
	struct yaml_span span;
	struct err *e;
};

static bool
is_plain(struct str s)
{
	static const char *const words[] = { "true", "false", "null", "True", "False", "Null", "TRUE", "FALSE", "NULL" };

	if (s.n == 0 || strchr("0123456789.@+-", s.p[0]) != NULL)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			(c != '\0' && strchr("_./@+-", c) != NULL)))
			return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_is(s, words[i]))
			return false;
	return true;
}

/* On one line, fit for block and flow. */
static void
write_value(struct buf *b, const struct node *n)
{
	struct json j;

	if (node_is(n, NODE_STR) && is_plain(n->s)) {
		buf_add_str(b, n->s);
	} else if (node_is(n, NODE_LIST)) {
		buf_add_char(b, '[');
		for (size_t i = 0; i < node_len(n); i++) {
			buf_add_z(b, i > 0 ? ", " : "");
			write_value(b, node_at(n, i));
		}
		buf_add_char(b, ']');
	} else {
		json_init(&j, b);
		json_node(&j, n);
	}
}

static void
write_key(struct buf *b, struct str key)
{
	const struct node n = { .type = NODE_STR, .s = key };

	write_value(b, &n);
}

/* The keys from path[at] on with the value, as a flow map. */
static void
write_flow(struct buf *b, const struct edit *d, size_t at)
{
	if (at == d->n) {
		buf_add_str(b, d->value_text);
		return;
	}
	buf_add_z(b, "{ ");
	write_key(b, d->path[at]);
	buf_add_z(b, ": ");
	write_flow(b, d, at + 1);
	buf_add_z(b, " }");
}

static void
write_lines(struct buf *b, const struct edit *d, size_t at, size_t column, const char *newline)
{
	for (; at < d->n; at++, column += 2) {
		for (size_t i = 0; i < column; i++)
			buf_add_char(b, ' ');
		write_key(b, d->path[at]);
		buf_add_char(b, ':');
		if (at + 1 == d->n) {
			buf_add_char(b, ' ');
			buf_add_str(b, d->value_text);
		}
		buf_add_z(b, newline);
	}
}

static void
splice(struct buf *out, struct str text, size_t from, size_t to, struct str new)
{
	buf_add_str(out, str_sub(text, 0, from));
	buf_add_str(out, new);
	buf_add_str(out, str_sub(text, to, text.n));
}

static int
refuse(const struct edit *d, const char *why)
{
	return err_set(d->e, ERR_UNSUPPORTED, ERR_TO_USER, "line %u: %.*s cannot be set here: %s (edit that line by hand)",
		d->span.line, STR_FMT(str_sub(d->dotted, 0, 80)), why);
}

/* The key is there: its value is replaced. */
static int
replace(const struct edit *d, struct buf *out)
{
	const struct yaml_span *s = &d->span;

	if (s->form == YAML_FORM_ALIAS || s->is_tied)
		return refuse(d, "its value is an alias, or has an anchor or a tag");
	if (s->form == YAML_FORM_EMPTY) {
		buf_add_str(out, str_sub(d->yaml, 0, s->from));
		buf_add_char(out, ' ');
		splice(out, str_sub(d->yaml, s->from, d->yaml.n), 0, 0, d->value_text);
		return 0;
	}
	if (s->form == YAML_FORM_BLOCK || s->form == YAML_FORM_BLOCK_SCALAR || !s->is_one_line)
		return refuse(d, "its value takes several lines");
	splice(out, d->yaml, s->from, s->to, d->value_text);
	return 0;
}

/* Adds the missing keys as lines after the line that holds byte `after`. */
static void
insert_lines(const struct edit *d, size_t after, size_t column, struct buf *out)
{
	const char *newline = str_find(d->yaml, STR("\r\n")) >= 0 ? "\r\n" : "\n";
	size_t at = after;

	if (at == 0 || at > d->yaml.n || d->yaml.p[at - 1] != '\n')
		while (at < d->yaml.n && d->yaml.p[at++] != '\n')
			;
	buf_add_str(out, str_sub(d->yaml, 0, at));
	if (at > 0 && d->yaml.p[at - 1] != '\n')
		buf_add_z(out, newline);
	write_lines(out, d, d->span.found, column, newline);
	buf_add_str(out, str_sub(d->yaml, at, d->yaml.n));
}

/* The key is not there: it is added below the deepest one that is. */
static int
add(const struct edit *d, struct buf *out)
{
	const struct yaml_span *s = &d->span;
	struct buf flow;

	if (s->form == YAML_FORM_ALIAS || s->is_tied)
		return refuse(d, "its section is an alias, or has an anchor or a tag");
	if (s->form == YAML_FORM_EMPTY) {
		insert_lines(d, s->found == 0 && s->from == d->yaml.n ? d->yaml.n : s->from,
			s->found == 0 ? 0 : s->column + 2, out);
		return 0;
	}
	if (s->form == YAML_FORM_BLOCK && s->is_map) {
		insert_lines(d, s->end, s->column, out);
		return 0;
	}
	if (s->form != YAML_FORM_FLOW || !s->is_map || s->items > 0 || !s->is_one_line)
		return refuse(d, "its section is written as { ... }");
	buf_init(&flow, CONFIG_TEXT_MAX);
	write_flow(&flow, d, s->found);
	splice(out, d->yaml, s->from, s->to, buf_str(&flow));
	buf_fini(&flow);
	return 0;
}

/* A copy of the document with the value at path[at..]. */
static const struct node *
with_value(const struct edit *d, const struct node *old, size_t at)
{
	struct node *new = arena_alloc(d->a, sizeof(*new));
	struct node_pair *pairs;
	size_t n = node_is(old, NODE_MAP) ? node_len(old) : 0, i = 0;

	if (at == d->n)
		return d->value;
	pairs = arena_alloc(d->a, (n + 1) * sizeof(*pairs));
	if (n > 0)
		memcpy(pairs, old->map.pairs, n * sizeof(*pairs));
	while (i < n && !str_eq(pairs[i].key, d->path[at]))
		i++;
	pairs[i].value = *with_value(d, i < n ? &pairs[i].value : NULL, at + 1);
	pairs[i].key = d->path[at];
	*new = (struct node){ .type = NODE_MAP, .map = { pairs, MAX(n, i + 1) } };
	return new;
}

static int
verify(const struct edit *d, const struct node *old, struct str text)
{
	const struct node *new, *checked;
	struct err e = { 0 };

	if (text.n > CONFIG_TEXT_MAX || yaml_parse(d->a, "result", text, &new, &e) != 0 ||
		!node_equal(new, with_value(d, old, 0)))
		return refuse(d, "the change would touch more than this key");
	return document_read(d->a, "config", text, &checked, d->e);
}

static int
split_path(struct edit *d)
{
	struct str rest = d->dotted, segment;

	while (dotted_next(&rest, &segment)) {
		if (d->n == SEGMENTS_MAX)
			return err_set(d->e, ERR_CONFIG, ERR_TO_USER, "the key has too many parts");
		d->path[d->n++] = segment;
	}
	return 0;
}

static int
prepare(struct edit *d, struct str value)
{
	const struct field *f;
	struct field named;
	int rc = field_resolve(d->dotted, d->a, &f, d->e);

	if (rc != 0)
		return rc;
	if (f->type == FIELD_OBJECT || f->type == FIELD_MAP)
		return err_set(d->e, ERR_CONFIG, ERR_TO_USER, "%.*s is a section (set one of the keys below it)",
			STR_FMT(str_sub(d->dotted, 0, 80)));
	named = *f;
	named.name = arena_strdup(d->a, str_sub(d->dotted, 0, 80)); /* the message says the whole key */
	if (field_parse(&named, value, d->a, &d->value, d->e) != 0)
		return d->e != NULL ? (d->e->code = ERR_CONFIG) : ERR_CONFIG;
	if (node_is(d->value, NODE_NULL))
		return err_set(d->e, ERR_CONFIG, ERR_TO_USER, "%.*s: has no value (write [] for an empty list)",
			STR_FMT(str_sub(d->dotted, 0, 80)));
	return split_path(d);
}

static int
set_text(struct edit *d, struct str value, struct buf *result)
{
	const struct node *old, *checked;
	struct buf text;
	int rc = prepare(d, value);

	if (rc == 0)
		rc = document_read(d->a, "config", d->yaml, &checked, d->e);
	if (rc == 0)
		rc = yaml_parse(d->a, "config", d->yaml, &old, d->e);
	if (rc == 0)
		rc = yaml_locate(d->yaml, d->path, d->n, &d->span, d->e);
	if (rc != 0)
		return rc;
	buf_init(&text, CONFIG_TEXT_MAX);
	write_value(&text, d->value);
	d->value_text = arena_take(d->a, &text);
	rc = d->span.found == d->n ? replace(d, result) : add(d, result);
	return rc != 0 ? rc : verify(d, old, buf_str(result));
}

int
config_set_text(struct str yaml, struct str dotted, struct str value, struct buf *out, struct err *e)
{
	struct edit d = { .a = arena_new(CONFIG_ARENA_MAX), .yaml = yaml, .dotted = dotted, .e = e };
	struct buf result;
	int rc;

	buf_init(&result, CONFIG_TEXT_MAX + 64 * KIB);
	if (yaml.n > CONFIG_TEXT_MAX)
		rc = err_set(e, ERR_LIMIT, ERR_TO_USER, "the file is larger than %u bytes", CONFIG_TEXT_MAX);
	else
		rc = set_text(&d, value, &result);
	if (rc == 0)
		rc = buf_add_str(out, buf_str(&result));
	buf_fini(&result);
	arena_free(d.a);
	return rc;
}
