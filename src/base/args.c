/* SPDX-License-Identifier: MIT
 * Command lines over a field table. Words become values through field_parse, so an option has the
 * type, range and message of its row; the rules of the command line alone (dashes, bundles,
 * operands, repetition) live here. */
#include "base/args.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"

#define NAME_MAX_LEN ((size_t)64)

struct line {
	const struct field *table;
	struct arena *a;
	struct err *e;
	char *const *argv;
	int argc, at;                /* at: the next word */
	const struct field *operand; /* the row that takes the next operand; NULL at the end */
	struct node_pair *pairs;     /* one for each row at most */
	size_t n;
};

static int usage(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int
usage(struct line *l, const char *fmt, ...)
{
	struct buf b;
	va_list ap;
	buf_init(&b, 4 * ERR_MSG_MAX);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	int rc = err_set(l->e, ERR_USAGE, ERR_TO_USER, "%s", buf_z(&b));
	buf_fini(&b);
	return rc;
}

static bool
is_option(const struct field *f)
{
	return f->type != FIELD_END && !(f->flags & FIELD_POSITIONAL) && strcmp(f->name, "-") != 0;
}

/* turn_steps is typed turn-steps; both are understood. */
static bool
same_name(const char *name, struct str typed)
{
	size_t n = strlen(name);
	if (n != typed.n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (name[i] != typed.p[i] && !(name[i] == '_' && typed.p[i] == '-'))
			return false;
	}
	return true;
}

static const struct field *
find_long(const struct field *table, struct str typed)
{
	for (; table->type != FIELD_END; table++) {
		if (is_option(table) && same_name(table->name, typed))
			return table;
	}
	return NULL;
}

static const struct field *
find_short(const struct field *table, char c)
{
	for (; table->type != FIELD_END; table++) {
		if (is_option(table) && table->short_opt == c)
			return table;
	}
	return NULL;
}

static const struct field *
next_operand(const struct field *f)
{
	while (f->type != FIELD_END && !(f->flags & FIELD_POSITIONAL))
		f++;
	return f->type == FIELD_END ? NULL : f;
}

/* How an option is spelled in messages. */
static const char *
spelling(struct line *l, const struct field *f)
{
	if (f->flags & FIELD_POSITIONAL || strcmp(f->name, "-") == 0)
		return arena_printf(l->a, "%s", f->name);
	char *z = arena_printf(l->a, "--%s", f->name);
	for (char *p = z; *p; p++)
		*p = *p == '_' ? '-' : *p;
	return z;
}

static int
unknown_option(struct line *l, struct str typed)
{
	const char *names[128];
	size_t n = 0;
	for (const struct field *f = l->table; f->type != FIELD_END && n < ARRAY_LEN(names); f++) {
		if (is_option(f) && !(f->flags & FIELD_HIDDEN))
			names[n++] = spelling(l, f) + 2;
	}
	const char *nearest = str_nearest(typed, names, n);
	int len = (int)MIN(typed.n, NAME_MAX_LEN);
	if (nearest)
		return usage(
			l, "unknown option --%.*s (did you mean --%s?)", len, typed.p, nearest);
	return usage(l, "unknown option --%.*s (--help lists them)", len, typed.p);
}

static struct node *
slot(struct line *l, const struct field *f)
{
	for (size_t i = 0; i < l->n; i++) {
		if (str_is(l->pairs[i].key, f->name))
			return &l->pairs[i].value;
	}
	l->pairs[l->n] = (struct node_pair){ .key = arena_str(l->a, str_of(f->name)) };
	return &l->pairs[l->n++].value;
}

/* The list or map with room for one more; one word adds one item, so copying is bounded by the
 * command line. */
static struct node *
add_item(struct line *l, struct node *list)
{
	struct node *items = arena_alloc(l->a, (list->list.n + 1) * sizeof(*items));
	if (list->list.n)
		memcpy(items, list->list.items, list->list.n * sizeof(*items));
	list->type = NODE_LIST;
	list->list.items = items;
	return &items[list->list.n++];
}

static struct node *
add_key(struct line *l, struct node *map, struct str key)
{
	struct node_pair *pairs = arena_alloc(l->a, (map->map.n + 1) * sizeof(*pairs));
	if (map->map.n)
		memcpy(pairs, map->map.pairs, map->map.n * sizeof(*pairs));
	map->type = NODE_MAP;
	map->map.pairs = pairs;
	for (size_t i = 0; i < map->map.n; i++) {
		if (str_eq(pairs[i].key, key))
			return &pairs[i].value;
	}
	pairs[map->map.n].key = arena_str(l->a, key);
	return &pairs[map->map.n++].value;
}

static int
parse_into(struct line *l, const struct field *f, const struct field *row, struct str text,
	struct node *to)
{
	struct field named = *row;
	const struct node *n;
	named.name = spelling(l, f);
	int rc = field_parse(&named, text, l->a, &n, l->e);
	if (rc == 0)
		*to = *n;
	else if (l->e)
		l->e->code = ERR_USAGE;
	return rc == 0 ? 0 : ERR_USAGE;
}

static int
put(struct line *l, const struct field *f, struct str text)
{
	static const struct field any_text = { .type = FIELD_STR };
	if (f->type == FIELD_LIST)
		return parse_into(
			l, f, f->item ? f->item : &any_text, text, add_item(l, slot(l, f)));
	if (f->type != FIELD_MAP)
		return parse_into(l, f, f, text, slot(l, f));
	ptrdiff_t equals = str_find_char(text, '=');
	if (equals < 1)
		return usage(l, "%s needs NAME=VALUE, not %.*s", spelling(l, f),
			(int)MIN(text.n, NAME_MAX_LEN), text.p);
	struct node *value = add_key(l, slot(l, f), str_sub(text, 0, (size_t)equals));
	return parse_into(l, f, f->item ? f->item : &any_text,
		str_sub(text, (size_t)equals + 1, text.n), value);
}

static void
put_flag(struct line *l, const struct field *f, bool value)
{
	*slot(l, f) = (struct node){ .type = NODE_BOOL, .b = value };
}

static int
put_next_word(struct line *l, const struct field *f)
{
	if (l->at >= l->argc)
		return usage(l, "%s needs a value", spelling(l, f));
	return put(l, f, str_of(l->argv[l->at++]));
}

/* word is what follows "--". */
static int
long_option(struct line *l, struct str word)
{
	ptrdiff_t equals = str_find_char(word, '=');
	struct str name = equals < 0 ? word : str_sub(word, 0, (size_t)equals);
	const struct field *f = find_long(l->table, name);
	if (!f && equals < 0 && str_starts(name, "no-")) {
		f = find_long(l->table, str_sub(name, 3, name.n));
		if (f && f->type == FIELD_BOOL) {
			put_flag(l, f, false);
			return 0;
		}
		f = NULL;
	}
	if (!f)
		return unknown_option(l, name);
	if (equals >= 0)
		return put(l, f, str_sub(word, (size_t)equals + 1, word.n));
	if (f->type != FIELD_BOOL)
		return put_next_word(l, f);
	put_flag(l, f, true);
	return 0;
}

/* word is what follows "-": flags, and at the end one option that may take a value. */
static int
short_options(struct line *l, struct str word)
{
	for (size_t i = 0; i < word.n; i++) {
		const struct field *f = find_short(l->table, word.p[i]);
		if (!f) {
			uint32_t cp;
			size_t len = utf8_decode(word.p + i, word.n - i, &cp);
			return usage(l,
				"unknown option -%.*s (--help lists them; write -- before an "
				"operand that "
				"begins with a dash)",
				(int)len, word.p + i);
		}
		if (f->type != FIELD_BOOL) {
			struct str value = str_sub(word, i + 1, word.n);
			return value.n ? put(l, f, value) : put_next_word(l, f);
		}
		put_flag(l, f, true);
	}
	return 0;
}

static int
operand(struct line *l, struct str word)
{
	const struct field *f = l->operand;
	if (!f)
		return usage(
			l, "unexpected operand \"%.*s\"", (int)MIN(word.n, NAME_MAX_LEN), word.p);
	if (f->type != FIELD_LIST)
		l->operand = next_operand(f + 1);
	return put(l, f, word);
}

static int
one_word(struct line *l, struct str word, bool *only_operands)
{
	if (!utf8_valid(word))
		return usage(l, "word %d of the command line is not UTF-8", l->at);
	if (*only_operands || word.n == 0 || word.p[0] != '-')
		return operand(l, word);
	if (str_is(word, "--")) {
		*only_operands = true;
		return 0;
	}
	if (str_is(word, "-")) {
		const struct field *f = field_find(l->table, word);
		if (!f || f->type != FIELD_BOOL)
			return operand(l, word);
		put_flag(l, f, true);
		return 0;
	}
	return word.p[1] == '-' ? long_option(l, str_sub(word, 2, word.n))
				: short_options(l, str_sub(word, 1, word.n));
}

/* Required rows and the number of items; everything else was checked word by word. */
static int
check_whole(struct line *l, const struct node *map)
{
	if (node_bool(map, "help", false))
		return 0;
	for (const struct field *f = l->table; f->type != FIELD_END; f++) {
		const struct node *v = node_get(map, f->name);
		if (!v && (f->flags & FIELD_REQUIRED))
			return usage(l, "%s is missing%s%s%s", spelling(l, f), f->text ? " (" : "",
				f->text ? f->text : "", f->text ? ")" : "");
		if (v && field_check_value(f, v, NULL, spelling(l, f), ERR_TO_USER, l->e) != 0) {
			if (l->e)
				l->e->code = ERR_USAGE;
			return ERR_USAGE;
		}
	}
	return 0;
}

int
args_parse(const struct field *table, int argc, char *const *argv, struct arena *a,
	const struct node **out, struct err *e)
{
	struct line l = { .table = table, .a = a, .e = e, .argv = argv, .argc = argc };
	l.operand = next_operand(table);
	l.pairs = arena_alloc(a, field_count(table) * sizeof(*l.pairs));
	bool only_operands = false;
	while (l.at < argc) {
		struct str word = str_of(argv[l.at++]);
		int rc = one_word(&l, word, &only_operands);
		if (rc != 0)
			return rc;
	}
	struct node *map = arena_alloc(a, sizeof(*map));
	map->type = NODE_MAP;
	map->map.pairs = l.pairs;
	map->map.n = l.n;
	int rc = check_whole(&l, map);
	if (rc == 0)
		*out = map;
	return rc;
}
