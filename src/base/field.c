/* SPDX-License-Identifier: MIT
 * Checking a tree against a field table, making a value from text, filling in defaults, and money.
 * A message names the place (document, line, path of keys) and what was expected; the value of a
 * FIELD_SECRET never appears in it. A null counts as absent, because that is what YAML's `key:` and
 * many models mean by it. */
#include "base/field.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/internal.h"
#include "base/limits.h"
#include "base/seal.h"
#include "base/utf8.h"

#define MONEY_DIGITS 6 /* micro-dollars */

/* Where a value is: a chain on the stack that is only written out when there is something to say.
 */
struct place {
	const struct place *up;
	struct str name; /* of a key; NULL for an item */
	size_t index;
};

struct check {
	const char *where; /* may be NULL */
	enum err_to to;
	struct err *e;
};

static int check_value(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v);
static int fail(const struct check *c, const struct place *at, uint32_t line, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

static void
add_path(struct buf *b, const struct place *at)
{
	if (!at)
		return;
	add_path(b, at->up);
	if (!at->name.p)
		(void)buf_printf(b, "[%zu]", at->index);
	else if (at->name.n)
		(void)buf_printf(b, "%s%.*s", b->n ? "." : "", STR_FMT(str_sub(at->name, 0, 80)));
}

/* "config.yaml line 12: limits.turn_steps: <what>". A model wrote its arguments in one line: it
 * gets no line. */
static int
fail(const struct check *c, const struct place *at, uint32_t line, const char *fmt, ...)
{
	struct buf path, what;
	va_list ap;
	buf_init(&path, ERR_MSG_MAX);
	buf_init(&what, 4 * ERR_MSG_MAX);
	add_path(&path, at);
	va_start(ap, fmt);
	(void)buf_vprintf(&what, fmt, ap);
	va_end(ap);
	char number[24] = "";
	if (line && c->to != ERR_TO_MODEL && c->where)
		(void)snprintf(number, sizeof(number), " line %u", line);
	int rc = err_set(c->e, ERR_INVALID, c->to, "%s%s%s%s%s%s", c->where ? c->where : "", number,
		c->where ? ": " : "", buf_z(&path), path.n ? ": " : "", buf_z(&what));
	buf_fini(&path);
	buf_fini(&what);
	return rc;
}

size_t
field_count(const struct field *table)
{
	size_t n = 0;
	while (table[n].type != FIELD_END)
		n++;
	return n;
}

const struct field *
field_find(const struct field *table, struct str name)
{
	for (; table && table->type != FIELD_END; table++) {
		if (str_is(name, table->name))
			return table;
	}
	return NULL;
}

static bool
is_absent(const struct node *v)
{
	return !v || v->type == NODE_NULL;
}

static void
add_names(struct buf *b, const struct field *table)
{
	const char *comma = "";
	for (; table->type != FIELD_END; table++) {
		if (table->flags & FIELD_HIDDEN)
			continue;
		(void)buf_printf(b, "%s%s", comma, table->name);
		comma = ", ";
	}
}

static int
unknown_key(const struct check *c, const struct place *up, const struct field *table,
	const struct node_pair *pair)
{
	struct place at = { .up = up, .name = pair->key };
	size_t n = field_count(table);
	AUTO_FREE const char **names = calloc(n + 1, sizeof(*names));
	for (size_t i = 0; names && i < n; i++)
		names[i] = table[i].name;
	const char *nearest = names ? str_nearest(pair->key, names, n) : NULL;
	if (nearest)
		return fail(c, &at, pair->line, "unknown key (did you mean %s?)", nearest);
	struct buf known;
	buf_init(&known, ERR_MSG_MAX);
	add_names(&known, table);
	int rc = fail(c, &at, pair->line, "unknown key (known: %s)", buf_z(&known));
	buf_fini(&known);
	return rc;
}

static int
check_table(const struct check *c, const struct place *up, const struct field *table,
	unsigned flags, const struct node *map)
{
	for (size_t i = 0; i < map->map.n; i++) {
		const struct node_pair *pair = &map->map.pairs[i];
		const struct field *f = field_find(table, pair->key);
		struct place at = { .up = up, .name = pair->key };
		int rc = 0;
		if (!f && !(flags & FIELD_OPEN))
			return unknown_key(c, up, table, pair);
		if (f && pair->value.type != NODE_NULL)
			rc = check_value(c, &at, f, &pair->value);
		if (rc != 0)
			return rc;
	}
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		struct place at = { .up = up, .name = str_of(f->name) };
		if ((f->flags & FIELD_REQUIRED) && is_absent(node_get(map, f->name)))
			return fail(c, &at, map->line, "is required%s%s%s", f->text ? " (" : "",
				f->text ? f->text : "", f->text ? ")" : "");
	}
	return 0;
}

static int
check_int(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	int64_t i;
	if (!node_as_int(v, &i))
		return fail(
			c, at, v->line, "must be a whole number, not %s", node_type_name(v->type));
	if (f->max <= f->min || (i >= f->min && i <= f->max))
		return 0;
	const char *space = f->unit ? " " : "", *unit = f->unit ? f->unit : "";
	if (f->flags & FIELD_SECRET)
		return fail(c, at, v->line, "is outside %lld..%lld", (long long)f->min,
			(long long)f->max);
	return fail(c, at, v->line, "%lld is outside %lld..%lld%s%s", (long long)i,
		(long long)f->min, (long long)f->max, space, unit);
}

struct str
field_secret_name(const struct node *n)
{
	return node_is(n, NODE_MAP) && n->map.n == 1 ? node_str(n, "secret", STR("")) : STR("");
}

/* What stands there instead may be the secret itself: it is not quoted. */
static int
check_reference(const struct check *c, const struct place *at, const struct node *v)
{
	if (secret_name_is_valid(field_secret_name(v)))
		return 0;
	return fail(c, at, v->line, "must be a string or {secret: NAME}, the NAME of letters, digits, . _ -");
}

static int
check_str(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	if (v->type != NODE_STR)
		return fail(c, at, v->line, "must be a string, not %s%s", node_type_name(v->type),
			v->type == NODE_LIST || v->type == NODE_MAP ? ""
								    : " (put it in double quotes)");
	if (f->max > 0 && v->s.n > (uint64_t)f->max)
		return fail(c, at, v->line, "has %zu bytes, at most %lld are allowed", v->s.n,
			(long long)f->max);
	if (v->s.n > 0 && (f->flags & FIELD_NUL) == 0 && memchr(v->s.p, '\0', v->s.n))
		return fail(c, at, v->line, "a text may not hold a NUL character");
	if (f->min > 0 && v->s.n == 0)
		return fail(c, at, v->line, "must not be empty");
	if (f->min > 0 && v->s.n < (uint64_t)f->min)
		return fail(c, at, v->line, "has %zu bytes, at least %lld are needed", v->s.n,
			(long long)f->min);
	return 0;
}

static size_t
count_choices(const struct field *f)
{
	size_t n = 0;
	while (f->choices && f->choices[n])
		n++;
	return n;
}

static int
check_enum(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	size_t n = count_choices(f);
	for (size_t i = 0; v->type == NODE_STR && i < n; i++) {
		if (str_is(v->s, f->choices[i]))
			return 0;
	}
	struct buf known;
	buf_init(&known, ERR_MSG_MAX);
	for (size_t i = 0; i < n; i++)
		(void)buf_printf(&known, "%s%s", i ? ", " : "", f->choices[i]);
	bool shown = v->type == NODE_STR && !(f->flags & FIELD_SECRET);
	const char *nearest = shown ? str_nearest(v->s, f->choices, n) : NULL;
	int rc;
	if (nearest)
		rc = fail(c, at, v->line, "\"%.*s\" is not one of %s (did you mean %s?)",
			STR_FMT(str_sub(v->s, 0, 40)), buf_z(&known), nearest);
	else if (shown)
		rc = fail(c, at, v->line, "\"%.*s\" is not one of %s",
			STR_FMT(str_sub(v->s, 0, 40)), buf_z(&known));
	else
		rc = fail(c, at, v->line, "must be one of %s", buf_z(&known));
	buf_fini(&known);
	return rc;
}

static int
check_money(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	int64_t micro;
	if (field_money(v, &micro) != 0)
		return fail(c, at, v->line, "must be an amount of US dollars such as 2.50");
	if (f->max <= f->min || (micro >= f->min && micro <= f->max))
		return 0;
	return fail(c, at, v->line, "is outside %.6g..%.6g US dollars", (double)f->min / 1e6,
		(double)f->max / 1e6);
}

static int
check_list(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	if (v->type != NODE_LIST)
		return fail(c, at, v->line, "must be a list, not %s (write [a, b])",
			node_type_name(v->type));
	if (f->max > 0 && v->list.n > (uint64_t)f->max)
		return fail(c, at, v->line, "has %zu items, at most %lld are allowed", v->list.n,
			(long long)f->max);
	if (f->min > 0 && v->list.n < (uint64_t)f->min)
		return fail(c, at, v->line, "has %zu items, at least %lld are needed", v->list.n,
			(long long)f->min);
	for (size_t i = 0; f->item && i < v->list.n; i++) {
		struct place item = { .up = at, .index = i };
		int rc = check_value(c, &item, f->item, &v->list.items[i]);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
check_map(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	const struct field object = {
		.type = FIELD_OBJECT, .flags = f->flags & FIELD_OPEN, .sub = f->sub
	};
	const struct field *item = f->sub ? &object : f->item;
	if (v->type != NODE_MAP)
		return fail(c, at, v->line, "must be a map, not %s (write {key: value})",
			node_type_name(v->type));
	if (f->max > 0 && v->map.n > (uint64_t)f->max)
		return fail(c, at, v->line, "has %zu keys, at most %lld are allowed", v->map.n,
			(long long)f->max);
	for (size_t i = 0; item && i < v->map.n; i++) {
		struct place key = { .up = at, .name = v->map.pairs[i].key };
		const struct node *value = &v->map.pairs[i].value;
		const struct node empty = { .type = NODE_MAP, .line = value->line };
		/* `local:` alone is a provider with no keys, not no provider. */
		int rc = check_value(c, &key, item, f->sub && is_absent(value) ? &empty : value);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
check_value(
	const struct check *c, const struct place *at, const struct field *f, const struct node *v)
{
	switch (f->type) {
	case FIELD_BOOL:
		return v->type == NODE_BOOL ? 0
					    : fail(c, at, v->line, "must be true or false, not %s",
						      node_type_name(v->type));
	case FIELD_INT:
		return check_int(c, at, f, v);
	case FIELD_STR:
		if ((f->flags & FIELD_SECRET) && v->type == NODE_MAP)
			return check_reference(c, at, v);
		return check_str(c, at, f, v);
	case FIELD_ENUM:
		return check_enum(c, at, f, v);
	case FIELD_MONEY:
		return check_money(c, at, f, v);
	case FIELD_LIST:
		return check_list(c, at, f, v);
	case FIELD_MAP:
		return check_map(c, at, f, v);
	case FIELD_OBJECT:
		if (v->type != NODE_MAP)
			return fail(c, at, v->line, "must be a map, not %s (write {key: value})",
				node_type_name(v->type));
		return f->sub ? check_table(c, at, f->sub, f->flags, v) : 0;
	case FIELD_ANY:
	case FIELD_END:
		break;
	}
	return 0;
}

int
field_check(const struct field *table, const struct node *map, const char *where, enum err_to to,
	struct err *e)
{
	struct check c = { where, to, e };
	map = map ? map : &node_null;
	const struct node empty = { .type = NODE_MAP, .line = map->line };
	if (map->type == NODE_NULL)
		map = &empty;
	if (map->type != NODE_MAP)
		return fail(&c, NULL, map->line, "must be a map of keys, not %s",
			node_type_name(map->type));
	return check_table(&c, NULL, table, 0, map);
}

int
field_check_value(const struct field *f, const struct node *value, const char *where,
	const char *path, enum err_to to, struct err *e)
{
	struct check c = { where, to, e };
	struct place at = { .name = str_of(path) };
	value = value ? value : &node_null;
	if (value->type != NODE_NULL)
		return check_value(&c, &at, f, value);
	return f->flags & FIELD_REQUIRED ? fail(&c, &at, value->line, "is required") : 0;
}

/* The node of one scalar; false when text is not of the row's type. */
static bool
parse_scalar(const struct field *f, struct str text, struct arena *a, struct node *n)
{
	const char *reason;
	switch (f->type) {
	case FIELD_BOOL:
		n->type = NODE_BOOL;
		n->b = str_is(text, "true");
		return n->b || str_is(text, "false");
	case FIELD_INT:
		n->type = NODE_INT;
		return str_i64(text, &n->i) == 0;
	case FIELD_MONEY:
		return yaml_scalar(a, text, n, &reason) == 0 &&
		       (n->type == NODE_INT || n->type == NODE_NUM);
	default:
		n->type = NODE_STR;
		n->s = arena_str(a, text);
		return utf8_valid(text);
	}
}

int
field_parse(const struct field *f, struct str text, struct arena *a, const struct node **out,
	struct err *e)
{
	static const char *const expected[FIELD_ANY + 1] = {
		[FIELD_BOOL] = "true or false",
		[FIELD_INT] = "a whole number",
		[FIELD_MONEY] = "an amount of US dollars such as 2.50",
	};
	const char *name = f->name ? f->name : "value";
	struct check c = { NULL, ERR_TO_USER, e };
	struct place at = { .name = str_of(name) };
	const struct node *n;
	if (f->type == FIELD_STR && (f->flags & FIELD_SECRET) && str_starts(text, "{secret:") &&
		yaml_parse(a, name, text, &n, NULL) == 0 && field_secret_name(n).n > 0) {
		/* A reference; anything else is the secret itself, whatever it looks like. */
	} else if (f->type == FIELD_LIST || f->type == FIELD_OBJECT || f->type == FIELD_MAP ||
		f->type == FIELD_ANY) {
		int rc = yaml_parse(a, name, text, &n, e);
		if (rc != 0)
			return rc;
	} else {
		struct node *scalar = arena_try(a, sizeof(*scalar));
		if (!scalar || text.n > YAML_TEXT_MAX)
			return err_set(e, ERR_LIMIT, ERR_TO_USER, "%s: the text is too long", name);
		if (!parse_scalar(f, text, a, scalar)) {
			const char *what = expected[f->type] ? expected[f->type] : "text in UTF-8";
			return fail(&c, &at, 0, "must be %s", what);
		}
		n = scalar;
	}
	int rc = field_check_value(f, n, NULL, name, ERR_TO_USER, e);
	if (rc == 0)
		*out = n;
	return rc;
}

static void fill_table(
	const struct field *table, const struct node *map, struct arena *a, struct node *out);

/* v (may be absent) as a copy with the defaults below f. false when there is nothing to put. */
static bool
fill_value(const struct field *f, const struct node *v, struct arena *a, struct node *out)
{
	const struct node *made;
	if (f->type == FIELD_OBJECT && f->sub && (is_absent(v) || v->type == NODE_MAP)) {
		fill_table(f->sub, v, a, out);
		return !is_absent(v) || out->map.n > 0;
	}
	if (is_absent(v)) {
		if (!f->dflt)
			return false;
		struct err e = { 0 };
		if (field_parse(f, str_of(f->dflt), a, &made, &e) != 0)
			fatal("the default of %s does not fit its own row: %s", f->name, e.msg);
		*out = *made;
		return true;
	}
	if (f->type == FIELD_LIST && f->item && f->item->type == FIELD_OBJECT &&
		v->type == NODE_LIST) {
		struct node *items = arena_alloc(a, v->list.n * sizeof(*items));
		for (size_t i = 0; i < v->list.n; i++)
			(void)fill_value(f->item, &v->list.items[i], a, &items[i]);
		*out = *v;
		out->list.items = items;
		return true;
	}
	if (f->type == FIELD_MAP && f->sub && v->type == NODE_MAP) {
		struct node_pair *pairs = arena_alloc(a, v->map.n * sizeof(*pairs));
		for (size_t i = 0; i < v->map.n; i++) {
			const struct node_pair *from = &v->map.pairs[i];
			pairs[i].key = arena_str(a, from->key);
			pairs[i].line = from->line;
			fill_table(f->sub, &from->value, a, &pairs[i].value);
		}
		*out = *v;
		out->map.pairs = pairs;
		return true;
	}
	*out = *node_copy(a, v);
	return true;
}

/* The document's keys in their order, then the defaults of the others in the table's order. */
static void
fill_table(const struct field *table, const struct node *map, struct arena *a, struct node *out)
{
	size_t have = node_len(map), n = 0;
	struct node_pair *pairs = arena_alloc(a, (have + field_count(table)) * sizeof(*pairs));
	for (size_t i = 0; i < have; i++) {
		const struct node_pair *from = &map->map.pairs[i];
		const struct field *f = field_find(table, from->key);
		if (f && from->value.type == NODE_NULL)
			continue;
		pairs[n] = (struct node_pair){ .key = arena_str(a, from->key), .line = from->line };
		if (f)
			(void)fill_value(f, &from->value, a, &pairs[n].value);
		else
			pairs[n].value = *node_copy(a, &from->value);
		n++;
	}
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		if (!is_absent(node_get(map, f->name)) || !fill_value(f, NULL, a, &pairs[n].value))
			continue;
		pairs[n++].key = arena_str(a, str_of(f->name));
	}
	*out = (struct node){ .type = NODE_MAP, .line = map ? map->line : 0 };
	out->map.pairs = pairs;
	out->map.n = n;
}

const struct node *
field_defaults(const struct field *table, const struct node *map, struct arena *a)
{
	struct node *out = arena_alloc(a, sizeof(*out));
	fill_table(table, node_is(map, NODE_MAP) ? map : NULL, a, out);
	if (map)
		out->line = map->line;
	return out;
}

/* Appends one decimal digit; false when the amount no longer fits. */
static bool
money_digit(int64_t *v, int digit)
{
	return !__builtin_mul_overflow(*v, INT64_C(10), v) &&
	       !__builtin_add_overflow(*v, (int64_t)digit, v);
}

/* Exact: the decimal point is moved by six places and whatever is left behind it rounds up. */
static int
money_text(struct str s, int64_t *out)
{
	bool negative = s.n > 0 && s.p[0] == '-', rest = false, ok = true;
	int64_t v = 0, exponent = 0;
	s = str_sub(s, negative, s.n);
	ptrdiff_t e = str_find_char(s, 'e') >= 0 ? str_find_char(s, 'e') : str_find_char(s, 'E');
	if (e >= 0) {
		struct str power = str_sub(s, (size_t)e + 1, s.n);
		if (str_starts(power, "+") && !str_starts(power, "+-"))
			power = str_sub(power, 1, power.n);
		if (str_i64(power, &exponent) != 0 || exponent < -400 || exponent > 18)
			return -1;
		s = str_sub(s, 0, (size_t)e);
	}
	ptrdiff_t dot = str_find_char(s, '.');
	size_t whole = dot < 0 ? s.n : (size_t)dot, digits = s.n - (dot >= 0);
	if (whole == 0 || (dot >= 0 && whole + 1 == s.n))
		return -1;
	int64_t places = (int64_t)whole + exponent +
			 MONEY_DIGITS; /* digits before the point of the result */
	for (size_t i = 0; i < digits; i++) {
		char c = s.p[i + (dot >= 0 && i >= whole)];
		if (c < '0' || c > '9')
			return -1;
		if ((int64_t)i < places)
			ok = ok && money_digit(&v, c - '0');
		else
			rest = rest || c != '0';
	}
	for (int64_t i = (int64_t)digits; ok && v && i < places; i++)
		ok = money_digit(&v, 0);
	/* Up means towards more: a negative amount loses its rest. */
	if (rest && !negative)
		ok = ok && !__builtin_add_overflow(v, INT64_C(1), &v);
	*out = ok ? (negative ? -v : v) : *out;
	return ok ? 0 : -1;
}

int
field_money(const struct node *value, int64_t *microusd)
{
	char text[24];
	if (node_is(value, NODE_STR))
		return money_text(value->s, microusd);
	if (node_is(value, NODE_NUM))
		return money_text(value->num.raw, microusd);
	if (!node_is(value, NODE_INT))
		return -1;
	(void)snprintf(text, sizeof(text), "%lld", (long long)value->i);
	return money_text(str_of(text), microusd);
}
