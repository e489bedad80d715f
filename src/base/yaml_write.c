/* SPDX-License-Identifier: MIT
 * A tree as YAML block text for people, through libyaml's emitter. The emitter knows where plain
 * text is possible; what it does not know is which plain text would be read as something else, so
 * that is decided here, for our reader and for the older ones that take yes and no for booleans.
 * What is written reads back as the same tree. */
#include "base/json.h"

#include <yaml.h>

#include "base/internal.h"
#include "base/limits.h"
#include "base/utf8.h"

static int
write_to_buf(void *data, unsigned char *p, size_t n)
{
	return buf_add(data, p, n) == 0;
}

static bool
is_old_bool(struct str s)
{
	static const char *const words[] = { "y", "n", "yes", "no", "on", "off", "=", "<<" };
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (s.n == strlen(words[i]) && strncasecmp(s.p, words[i], s.n) == 0)
			return true;
	}
	return false;
}

/* Text of several lines that a literal block (|) can hold without indentation marks or lost spaces.
 */
static bool
is_simple_block(struct str s)
{
	if (s.n < 2 || s.p[s.n - 1] != '\n' || s.p[s.n - 2] == '\n')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool line_start = i == 0 || s.p[i - 1] == '\n';
		if ((c < 0x20 && c != '\n') || c >= 0x7f)
			return false;
		if (c == ' ' && (i == 0 || s.p[i + 1] == '\n'))
			return false;
		if (line_start && (c == '#' || c == '-' || c == '.' || c == '%' || c == ' '))
			return false;
	}
	return true;
}

/* Characters that are only safe inside double quotes: controls, invisible ones, and those past
 * U+FFFF, which the emitter would write as two escapes. */
static bool
needs_quotes(struct str s)
{
	uint32_t cp;
	for (size_t i = 0, len; i < s.n && (len = utf8_decode(s.p + i, s.n - i, &cp)) > 0;
		i += len) {
		if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x2028 || cp == 0x2029 ||
			cp == 0xfeff || cp > 0xffff)
			return true;
	}
	return false;
}

static yaml_scalar_style_t
style_of(struct str s)
{
	struct node meaning;
	const char *reason;
	struct arena *scratch = arena_new(2 * JSON_NUMBER_MAX);
	bool is_text = yaml_scalar(scratch, s, &meaning, &reason) == 0 && meaning.type == NODE_STR;
	arena_free(scratch);
	if (!is_text || is_old_bool(s))
		return YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	if (is_simple_block(s))
		return YAML_LITERAL_SCALAR_STYLE;
	return needs_quotes(s) ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE;
}

/* false when the emitter refuses: memory or the buffer is full. */
static bool
emit_scalar(yaml_emitter_t *em, struct str s, yaml_scalar_style_t style)
{
	yaml_event_t event;
	return s.n <= INT32_MAX &&
	       yaml_scalar_event_initialize(
		       &event, NULL, NULL, (const unsigned char *)s.p, (int)s.n, 1, 1, style) &&
	       yaml_emitter_emit(em, &event);
}

static bool
emit_text(yaml_emitter_t *em, struct str s)
{
	if (utf8_valid(s))
		return emit_scalar(em, s, style_of(s));
	struct buf clean;
	buf_init(&clean, 3 * s.n);
	bool ok = utf8_add_lossy(&clean, s) == 0 &&
		  emit_scalar(em, buf_str(&clean), style_of(buf_str(&clean)));
	buf_fini(&clean);
	return ok;
}

static bool emit_node(yaml_emitter_t *em, const struct node *n);

static bool
emit_list(yaml_emitter_t *em, const struct node *n)
{
	yaml_event_t event;
	yaml_sequence_style_t style =
		n->list.n ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE;
	bool ok = yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style) &&
		  yaml_emitter_emit(em, &event);
	for (size_t i = 0; ok && i < n->list.n; i++)
		ok = emit_node(em, &n->list.items[i]);
	return ok && yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(em, &event);
}

static bool
emit_map(yaml_emitter_t *em, const struct node *n)
{
	yaml_event_t event;
	yaml_mapping_style_t style = n->map.n ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE;
	bool ok = yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style) &&
		  yaml_emitter_emit(em, &event);
	for (size_t i = 0; ok && i < n->map.n; i++)
		ok = emit_text(em, n->map.pairs[i].key) && emit_node(em, &n->map.pairs[i].value);
	return ok && yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(em, &event);
}

/* Numbers, booleans and null: their JSON text is their YAML text. */
static bool
emit_plain(yaml_emitter_t *em, const struct node *n)
{
	struct buf text;
	struct json j;
	buf_init(&text, SIZE_MAX);
	json_init(&j, &text);
	json_node(&j, n);
	bool ok = !text.overflow && emit_scalar(em, buf_str(&text), YAML_PLAIN_SCALAR_STYLE);
	buf_fini(&text);
	return ok;
}

static bool
emit_node(yaml_emitter_t *em, const struct node *n)
{
	switch (n->type) {
	case NODE_STR:
		return emit_text(em, n->s);
	case NODE_LIST:
		return emit_list(em, n);
	case NODE_MAP:
		return emit_map(em, n);
	default:
		return emit_plain(em, n);
	}
}

int
yaml_write(struct buf *b, const struct node *n)
{
	yaml_emitter_t em;
	yaml_event_t event;
	if (!yaml_emitter_initialize(&em))
		return ERR_LIMIT;
	yaml_emitter_set_output(&em, write_to_buf, b);
	yaml_emitter_set_unicode(&em, 1);
	yaml_emitter_set_width(&em, -1);
	bool ok = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
		  yaml_emitter_emit(&em, &event) &&
		  yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) &&
		  yaml_emitter_emit(&em, &event) && emit_node(&em, n ? n : &node_null) &&
		  yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(&em, &event) &&
		  yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(&em, &event);
	yaml_emitter_delete(&em);
	return ok && !b->overflow ? 0 : ERR_LIMIT;
}
