/* SPDX-License-Identifier: MIT
 * Walks libyaml's events along one path of keys and remembers the marks. libyaml counts characters,
 * so marks become byte offsets through a table. Nesting is bounded by JSON_DEPTH_MAX, the text by
 * YAML_TEXT_MAX. */
#include "base/yaml_span.h"

#include <stdlib.h>
#include <yaml.h>

#include "base/limits.h"
#include "base/mem.h"

struct walk {
	yaml_parser_t parser;
	yaml_event_t event;
	struct err *e;
	const struct str *path;
	size_t n;
	uint32_t *bytes; /* offset of each character, and of the end */
	size_t chars;
	size_t last_end; /* where the last scalar, alias or flow collection ended */
	unsigned depth;
	bool has_found;
	struct yaml_span *out;
};

static int visit(struct walk *w, size_t at, bool is_on_path, struct yaml_span *span);

static size_t
byte_of(const struct walk *w, yaml_mark_t mark)
{
	return w->bytes[MIN(mark.index, w->chars)];
}

static int
next(struct walk *w)
{
	yaml_event_delete(&w->event);
	if (yaml_parser_parse(&w->parser, &w->event))
		return 0;
	return err_set(w->e, ERR_INVALID, ERR_TO_USER, "line %zu: %s",
		w->parser.problem_mark.line + 1,
		w->parser.problem ? w->parser.problem : "not YAML");
}

static int
visit_list(struct walk *w, struct yaml_span *span)
{
	int rc = next(w);

	while (rc == 0 && w->event.type != YAML_SEQUENCE_END_EVENT) {
		struct yaml_span item;

		span->items++;
		rc = visit(w, 0, false, &item);
		if (rc == 0)
			rc = next(w);
	}
	return rc;
}

/* Is the current event the key that the path wants at this place? */
static bool
is_wanted(const struct walk *w, size_t at)
{
	struct str key;

	if (at >= w->n || w->event.type != YAML_SCALAR_EVENT)
		return false;
	key = (struct str){ (const char *)w->event.data.scalar.value, w->event.data.scalar.length };
	return str_eq(key, w->path[at]);
}

static int
visit_map(struct walk *w, size_t at, bool is_on_path, struct yaml_span *span)
{
	int rc = next(w);

	while (rc == 0 && w->event.type != YAML_MAPPING_END_EVENT) {
		bool wanted = is_on_path && is_wanted(w, at);
		size_t column = w->event.start_mark.column;
		struct yaml_span key, value = { 0 };

		if (span->items++ == 0)
			span->column = column;
		rc = visit(w, 0, false, &key);
		if (rc == 0)
			rc = next(w);
		value.column = column;
		if (rc == 0)
			rc = visit(w, at + 1, wanted, &value);
		if (rc == 0)
			rc = next(w);
	}
	return rc;
}

static void
begin(struct walk *w, struct yaml_span *span)
{
	const yaml_event_t *ev = &w->event;

	span->from = byte_of(w, ev->start_mark);
	span->line = (uint32_t)ev->start_mark.line + 1;
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		span->is_tied = ev->data.scalar.anchor != NULL || ev->data.scalar.tag != NULL;
		span->form = YAML_FORM_SCALAR;
		if (ev->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
			ev->data.scalar.style == YAML_FOLDED_SCALAR_STYLE)
			span->form = YAML_FORM_BLOCK_SCALAR;
		else if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
			 ev->data.scalar.length == 0)
			span->form = YAML_FORM_EMPTY;
		break;
	case YAML_SEQUENCE_START_EVENT:
		span->is_tied = ev->data.sequence_start.anchor != NULL ||
				ev->data.sequence_start.tag != NULL;
		span->form = ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE
				     ? YAML_FORM_FLOW
				     : YAML_FORM_BLOCK;
		break;
	case YAML_MAPPING_START_EVENT:
		span->is_map = true;
		span->is_tied =
			ev->data.mapping_start.anchor != NULL || ev->data.mapping_start.tag != NULL;
		span->form = ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
				     ? YAML_FORM_FLOW
				     : YAML_FORM_BLOCK;
		break;
	default:
		span->form = YAML_FORM_ALIAS;
	}
}

/* The node that begins at the current event; it ends with its last event current. */
static int
visit(struct walk *w, size_t at, bool is_on_path, struct yaml_span *span)
{
	size_t column = is_on_path ? span->column : 0;
	int rc = 0;

	*span = (struct yaml_span){ .found = at, .column = column };
	if (++w->depth > JSON_DEPTH_MAX)
		return err_set(w->e, ERR_LIMIT, ERR_TO_USER, "nested too deeply");
	begin(w, span);
	if (w->event.type == YAML_SEQUENCE_START_EVENT)
		rc = visit_list(w, span);
	else if (w->event.type == YAML_MAPPING_START_EVENT)
		rc = visit_map(w, at, is_on_path, span);
	w->depth--;
	if (rc != 0)
		return rc;
	span->to = byte_of(w, w->event.end_mark);
	span->is_one_line = span->line == w->event.end_mark.line + 1;
	if (span->form != YAML_FORM_BLOCK)
		w->last_end = span->to;
	span->end = w->last_end;
	if (is_on_path && (!w->has_found || span->found > w->out->found)) {
		*w->out = *span; /* deeper places are seen first and stay */
		w->has_found = true;
	}
	return 0;
}

static int
walk_document(struct walk *w)
{
	struct yaml_span root;
	int rc = next(w);

	while (rc == 0 && w->event.type != YAML_STREAM_END_EVENT) {
		if (w->event.type == YAML_DOCUMENT_START_EVENT) {
			rc = next(w);
			root.column = 0;
			return rc != 0 ? rc : visit(w, 0, true, &root);
		}
		rc = next(w);
	}
	return rc;
}

/* A UTF-8 mark at the front is not counted by libyaml. */
static int
count_chars(struct walk *w, struct str text, size_t skip)
{
	w->bytes =
		mem_try((text.n + 1) * sizeof(*w->bytes), (YAML_TEXT_MAX + 1) * sizeof(*w->bytes));
	if (w->bytes == NULL)
		return err_set(w->e, ERR_LIMIT, ERR_TO_USER, "the text is too large");
	for (size_t i = skip; i < text.n; i++)
		if (((unsigned char)text.p[i] & 0xc0) != 0x80)
			w->bytes[w->chars++] = (uint32_t)i;
	w->bytes[w->chars] = (uint32_t)text.n;
	return 0;
}

int
yaml_locate(struct str text, const struct str *path, size_t n, struct yaml_span *out, struct err *e)
{
	size_t skip = str_starts(text, "\xef\xbb\xbf") ? 3 : 0;
	struct yaml_span found = { .from = text.n, .to = text.n, .end = text.n, .line = 1 };
	struct walk w = { .e = e, .path = path, .n = n, .out = &found };
	int rc = count_chars(&w, text, skip);

	if (rc != 0)
		return rc;
	if (!yaml_parser_initialize(&w.parser)) {
		free(w.bytes);
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "out of memory");
	}
	yaml_parser_set_encoding(&w.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&w.parser,
		(const unsigned char *)(text.n > 0 ? text.p : "") + skip, text.n - skip);
	rc = walk_document(&w);
	yaml_event_delete(&w.event);
	yaml_parser_delete(&w.parser);
	free(w.bytes);
	if (rc == 0)
		*out = found;
	return rc;
}
