/* SPDX-License-Identifier: MIT
 * What a field table says to others: JSON Schema for models and editors, and the option list of
 * --help and the man page. All of it is derived, so that none of it can drift from what is checked. */
#include "base/field.h"

#include <stdio.h>

#include "base/utf8.h"

#define HELP_COLUMNS 100
#define HELP_TEXT_AT 30 /* column where the text of an option begins */

static void schema_of(const struct field *f, struct json *j);

static bool
has_range(const struct field *f)
{
	return f->type == FIELD_INT && f->max > f->min;
}

/* The sentence, and the unit unless the sentence names it. */
static void
schema_description(const struct field *f, struct json *j)
{
	if (!f->text && !f->unit)
		return;
	struct buf b;
	buf_init(&b, 4096);
	if (f->text)
		(void)buf_add_z(&b, f->text);
	if (f->unit)
		(void)buf_printf(&b, "%sUnit: %s.", b.n ? " " : "", f->unit);
	if (f->type == FIELD_MONEY)
		(void)buf_add_z(&b, b.n ? " In US dollars." : "In US dollars.");
	json_kv_str(j, "description", buf_str(&b));
	buf_fini(&b);
}

static void
schema_default(const struct field *f, struct json *j)
{
	if (!f->dflt || (f->flags & FIELD_SECRET))
		return;
	struct arena *a = arena_new(1 << 20);
	const struct node *n;
	struct err e = { 0 };
	if (field_parse(f, str_of(f->dflt), a, &n, &e) != 0)
		fatal("the default of %s does not fit its own row: %s", f->name, e.msg);
	json_kv_node(j, "default", n);
	arena_free(a);
}

static void
schema_table(const struct field *table, unsigned flags, struct json *j)
{
	json_kv_z(j, "type", "object");
	json_kv_obj(j, "properties");
	bool has_required = false;
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		has_required |= (f->flags & FIELD_REQUIRED) != 0;
		json_key(j, f->name);
		schema_of(f, j);
	}
	json_obj_end(j);
	if (has_required) {
		json_kv_arr(j, "required");
		for (const struct field *f = table; f->type != FIELD_END; f++) {
			if (f->flags & FIELD_REQUIRED)
				json_z(j, f->name);
		}
		json_arr_end(j);
	}
	json_kv_bool(j, "additionalProperties", (flags & FIELD_OPEN) != 0);
}

static void
schema_limits(const struct field *f, struct json *j, const char *min, const char *max)
{
	if (f->min > 0 || has_range(f))
		json_kv_int(j, min, f->min);
	if (f->max > 0 || has_range(f))
		json_kv_int(j, max, f->max);
}

static void
schema_map(const struct field *f, struct json *j)
{
	json_kv_z(j, "type", "object");
	if (f->max > 0)
		json_kv_int(j, "maxProperties", f->max);
	if (!f->sub && !f->item)
		return;
	json_key(j, "additionalProperties");
	if (f->sub) {
		json_obj(j);
		schema_table(f->sub, f->flags, j);
		json_obj_end(j);
	} else {
		schema_of(f->item, j);
	}
}

static void
schema_enum(const struct field *f, struct json *j)
{
	json_kv_z(j, "type", "string");
	json_kv_arr(j, "enum");
	for (size_t i = 0; f->choices && f->choices[i]; i++)
		json_z(j, f->choices[i]);
	json_arr_end(j);
}

/* A string's limits are bytes with us and characters in JSON Schema: a maximum still holds there
 * (it only allows more), a minimum above 1 would not. */
static void
schema_string(const struct field *f, struct json *j)
{
	json_kv_z(j, "type", "string");
	if (f->min > 0)
		json_kv_int(j, "minLength", 1);
	if (f->max > 0)
		json_kv_int(j, "maxLength", f->max);
}

/* The secret itself, or where it is kept. */
static void
schema_secret(const struct field *f, struct json *j)
{
	json_kv_arr(j, "anyOf");
	json_obj(j);
	schema_string(f, j);
	json_obj_end(j);
	json_raw(j, STR("{\"type\":\"object\",\"properties\":{\"secret\":{\"type\":\"string\"}},"
		"\"required\":[\"secret\"],\"additionalProperties\":false}"));
	json_arr_end(j);
}

static void
schema_of(const struct field *f, struct json *j)
{
	json_obj(j);
	switch (f->type) {
	case FIELD_BOOL:
		json_kv_z(j, "type", "boolean");
		break;
	case FIELD_INT:
		json_kv_z(j, "type", "integer");
		if (has_range(f))
			schema_limits(f, j, "minimum", "maximum");
		break;
	case FIELD_STR:
		if (f->flags & FIELD_SECRET)
			schema_secret(f, j);
		else
			schema_string(f, j);
		break;
	case FIELD_ENUM:
		schema_enum(f, j);
		break;
	case FIELD_MONEY:
		json_kv_raw(j, "type", STR("[\"number\",\"string\"]"));
		break;
	case FIELD_LIST:
		json_kv_z(j, "type", "array");
		if (f->item) {
			json_key(j, "items");
			schema_of(f->item, j);
		}
		schema_limits(f, j, "minItems", "maxItems");
		break;
	case FIELD_OBJECT:
		if (f->sub)
			schema_table(f->sub, f->flags, j);
		else
			json_kv_z(j, "type", "object");
		break;
	case FIELD_MAP:
		schema_map(f, j);
		break;
	case FIELD_ANY:
	case FIELD_END:
		break;
	}
	schema_description(f, j);
	schema_default(f, j);
	json_obj_end(j);
}

void
field_schema(const struct field *table, struct json *j)
{
	json_obj(j);
	schema_table(table, 0, j);
	json_obj_end(j);
}

/* "1..600000 ms", "at most 65536 bytes", "a, b, c"; nothing where there is no limit. */
static void
add_range(struct buf *b, const struct field *f)
{
	const char *unit = f->unit                 ? f->unit
			   : f->type == FIELD_STR  ? "bytes"
			   : f->type == FIELD_LIST ? "items"
						   : "";
	const char *space = *unit ? " " : "";
	if (f->type == FIELD_ENUM) {
		for (size_t i = 0; f->choices && f->choices[i]; i++)
			(void)buf_printf(b, "%s%s", i ? ", " : "", f->choices[i]);
	} else if (has_range(f)) {
		(void)buf_printf(
			b, "%lld..%lld%s%s", (long long)f->min, (long long)f->max, space, unit);
	} else if (f->type == FIELD_MONEY && f->max > f->min) {
		(void)buf_printf(b, "%.6g..%.6g", (double)f->min / 1e6, (double)f->max / 1e6);
	} else if ((f->type == FIELD_STR || f->type == FIELD_LIST) && f->max > 0) {
		(void)buf_printf(b, "at most %lld%s%s", (long long)f->max, space, unit);
	} else if (f->unit) {
		(void)buf_add_z(b, f->unit);
	}
}

/* What stands for the value in "--name VALUE"; "" for a flag. */
static void
add_placeholder(struct buf *b, const struct field *f)
{
	if (f->type == FIELD_LIST && f->item)
		f = f->item;
	switch (f->type) {
	case FIELD_BOOL:
		return;
	case FIELD_INT:
		(void)buf_add_z(b, "N");
		return;
	case FIELD_ENUM:
		for (size_t i = 0; f->choices && f->choices[i]; i++)
			(void)buf_printf(b, "%s%s", i ? "|" : "", f->choices[i]);
		return;
	case FIELD_MONEY:
		(void)buf_add_z(b, "USD");
		return;
	case FIELD_MAP:
		(void)buf_add_z(b, "NAME=VALUE");
		return;
	case FIELD_STR:
		for (const char *p = f->unit ? f->unit : "TEXT"; *p; p++)
			(void)buf_add_char(b, *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p);
		return;
	default:
		(void)buf_add_z(b, "YAML");
	}
}

/* The name as it is typed (a positional in capitals). */
static void
add_typed_name(struct buf *b, const struct field *f)
{
	bool operand = (f->flags & FIELD_POSITIONAL) != 0;
	for (const char *p = f->name; *p; p++) {
		char c = *p == '_' ? '-' : *p;
		(void)buf_add_char(b, operand && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
	}
}

static void
add_option(struct buf *b, const struct field *f)
{
	if (f->flags & FIELD_POSITIONAL) {
		(void)buf_add_z(b, "  ");
		add_typed_name(b, f);
		if (f->type == FIELD_LIST)
			(void)buf_add_z(b, "...");
		return;
	}
	if (strcmp(f->name, "-") == 0) {
		(void)buf_add_z(b, "  -");
		return;
	}
	if (f->short_opt)
		(void)buf_printf(b, "  -%c, --", f->short_opt);
	else
		(void)buf_add_z(b, "      --");
	add_typed_name(b, f);
	if (f->type == FIELD_BOOL)
		return;
	size_t before = b->n;
	(void)buf_add_char(b, ' ');
	add_placeholder(b, f);
	if (b->n - before > 40) { /* a long list of choices is in the text */
		buf_truncate(b, before);
		(void)buf_add_z(b, " NAME");
	}
}

/* "Text. (default: 5; 1..100 ms; may be repeated)" */
static void
add_help_text(struct buf *b, const struct field *f, bool choices_shown)
{
	struct buf notes;
	buf_init(&notes, 4096);
	if (f->flags & FIELD_REQUIRED)
		(void)buf_add_z(&notes, "required");
	if (f->dflt && *f->dflt && !(f->flags & FIELD_SECRET) &&
		!(f->type == FIELD_BOOL && strcmp(f->dflt, "false") == 0))
		(void)buf_printf(&notes, "%sdefault: %s", notes.n ? "; " : "", f->dflt);
	if (f->type != FIELD_STR && f->type != FIELD_LIST &&
		!(f->type == FIELD_ENUM && choices_shown)) {
		size_t before = notes.n;
		(void)buf_add_z(&notes, notes.n ? "; " : "");
		size_t after = notes.n;
		add_range(&notes, f);
		if (notes.n == after)
			buf_truncate(&notes, before);
	}
	if ((f->type == FIELD_LIST || f->type == FIELD_MAP) && !(f->flags & FIELD_POSITIONAL))
		(void)buf_printf(&notes, "%smay be repeated", notes.n ? "; " : "");
	(void)buf_add_z(b, f->text ? f->text : "");
	if (notes.n)
		(void)buf_printf(b, "%s(%s)", b->n ? " " : "", buf_z(&notes));
	buf_fini(&notes);
}

/* Appends text word by word, going on at HELP_TEXT_AT of the next line where it would pass
 * HELP_COLUMNS. */
static void
add_wrapped(struct buf *b, struct str text)
{
	size_t column = HELP_TEXT_AT;
	bool first = true;
	struct str word;
	while (str_next(&text, ' ', &word)) {
		size_t width = utf8_width(word);
		if (!first && column + 1 + width > HELP_COLUMNS) {
			(void)buf_printf(b, "\n%*s", HELP_TEXT_AT, "");
			column = HELP_TEXT_AT;
		} else if (!first) {
			(void)buf_add_char(b, ' ');
			column++;
		}
		(void)buf_add_str(b, word);
		column += width;
		first = false;
	}
	(void)buf_add_char(b, '\n');
}

static void
help_row(const struct field *f, struct buf *b)
{
	struct buf left, text;
	buf_init(&left, 4096);
	buf_init(&text, 16384);
	add_option(&left, f);
	add_help_text(&text, f, str_find_char(buf_str(&left), '|') >= 0);
	(void)buf_add_str(b, buf_str(&left));
	if (left.n + 2 > HELP_TEXT_AT)
		(void)buf_printf(b, "\n%*s", HELP_TEXT_AT, "");
	else
		(void)buf_printf(b, "%*s", (int)(HELP_TEXT_AT - left.n), "");
	add_wrapped(b, buf_str(&text));
	buf_fini(&left);
	buf_fini(&text);
}

void
field_help(const struct field *table, struct buf *b)
{
	for (unsigned operand = FIELD_POSITIONAL;; operand = 0) {
		for (const struct field *f = table; f->type != FIELD_END; f++) {
			if ((f->flags & FIELD_POSITIONAL) == operand && !(f->flags & FIELD_HIDDEN))
				help_row(f, b);
		}
		if (operand == 0)
			return;
	}
}
