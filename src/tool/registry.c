/* SPDX-License-Identifier: MIT
 * The tools of one runtime, in the order in which they were added, and their page in the manual,
 * which is written from the same tables that check arguments. Holds pointers to the rooms' own
 * arrays and copies nothing. */
#include <stdlib.h>
#include "base/mem.h"
#include "tool/internal.h"

struct registry {
	const struct tool **tools;
	size_t n, cap;
};

struct registry *
registry_new(void)
{
	return xcalloc(1, sizeof(struct registry));
}

void
registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	free(r->tools);
	free(r);
}

void
registry_add(struct registry *r, const struct tool *tools)
{
	for (const struct tool *t = tools; t->name != NULL; t++) {
		if (registry_find(r, str_of(t->name)) != NULL)
			fatal("two tools are named %s", t->name);
		r->tools = vec_grow(r->tools, &r->cap, r->n + 1, sizeof(*r->tools));
		r->tools[r->n++] = t;
	}
}

const struct tool *
registry_find(const struct registry *r, struct str name)
{
	for (size_t i = 0; i < r->n; i++)
		if (str_is(name, r->tools[i]->name))
			return r->tools[i];
	return NULL;
}

size_t
registry_len(const struct registry *r)
{
	return r->n;
}

const struct tool *
registry_at(const struct registry *r, size_t i)
{
	return i < r->n ? r->tools[i] : NULL;
}

const char *
registry_nearest(const struct registry *r, struct str name)
{
	const char **names = xcalloc(r->n + 1, sizeof(*names));

	for (size_t i = 0; i < r->n; i++)
		names[i] = r->tools[i]->name;
	const char *nearest = str_nearest(name, names, r->n);
	free(names);
	return nearest;
}

/* ---- the manual ---- */

static const struct {
	unsigned bit;
	const char *text;
} effect_words[] = {
	{ TOOL_READS, "reads" },
	{ TOOL_WRITES, "writes" },
	{ TOOL_EXECS, "runs commands" },
	{ TOOL_SENDS, "sends" },
};
static const char *const recovery_words[] = {
	[EFFECT_PURE] = "it is run again",
	[EFFECT_KEYED] = "it is attached to by its key and never runs twice",
	[EFFECT_PROBE] = "the state of the file tells whether it happened",
	[EFFECT_UNSAFE] = "it is reported as unknown",
};
static const char *const type_words[] = {
	[FIELD_BOOL] = "true or false",
	[FIELD_INT] = "integer",
	[FIELD_STR] = "text",
	[FIELD_ENUM] = "one of",
	[FIELD_MONEY] = "US dollars",
	[FIELD_LIST] = "list",
	[FIELD_OBJECT] = "object",
	[FIELD_MAP] = "map",
	[FIELD_ANY] = "any",
};

static void
doc_type(const struct field *f, struct buf *b)
{
	buf_add_z(b, type_words[f->type]);
	for (size_t i = 0; f->type == FIELD_ENUM && f->choices[i] != NULL; i++)
		buf_printf(b, "%s `%s`", i ? "," : "", f->choices[i]);
	if (f->type == FIELD_INT && f->max > f->min && f->max != INT64_MAX)
		buf_printf(b, ", %lld to %lld", (long long)f->min, (long long)f->max);
	else if (f->type == FIELD_INT && f->max > f->min)
		buf_printf(b, ", at least %lld", (long long)f->min);
	else if (f->type == FIELD_STR && f->max > 0)
		buf_printf(b, ", at most %lld bytes", (long long)f->max);
	if (f->unit != NULL)
		buf_printf(b, " (%s)", f->unit);
}

/* In a table of Markdown a bar ends the cell. */
static void
doc_cell(struct str s, struct buf *b)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '|')
			buf_add_char(b, '\\');
		buf_add_char(b, s.p[i]);
	}
}

static void
doc_args(const struct field *args, struct buf *b)
{
	buf_add_z(b, "| argument | type | default | meaning |\n|---|---|---|---|\n");
	for (const struct field *f = args; f->type != FIELD_END; f++) {
		buf_printf(b, "| `%s` | ", f->name);
		doc_type(f, b);
		if (f->flags & FIELD_REQUIRED)
			buf_add_z(b, " | required");
		else if (f->dflt != NULL && f->dflt[0] != 0)
			buf_printf(b, " | `%s`", f->dflt);
		else
			buf_add_z(b, " |");
		buf_add_z(b, " | ");
		doc_cell(str_of(f->text), b);
		buf_add_z(b, " |\n");
	}
	buf_add_char(b, '\n');
}

void
tool_doc(const struct registry *r, struct buf *b)
{
	buf_add_z(b, "# Tools\n\nThis page is written from the tables that the runtime checks "
		     "arguments against.\n");
	for (size_t i = 0; i < r->n; i++) {
		const struct tool *t = r->tools[i];
		buf_printf(b, "\n## %s\n\n%s\n\n", t->name, t->text);
		doc_args(t->args, b);
		buf_printf(b, "Rule name `%s`;", subject_name(t->subject));
		for (size_t k = 0, n = 0; k < ARRAY_LEN(effect_words); k++)
			if (t->effects & effect_words[k].bit)
				buf_printf(b, "%s %s", n++ ? "," : "", effect_words[k].text);
		buf_printf(b, "; at most %lld bytes of result. After a crash (class `%s`): %s.\n",
			(long long)t->result_max, effect_class_name(t->recovery),
			recovery_words[t->recovery]);
	}
}
