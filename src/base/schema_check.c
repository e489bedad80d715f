/* SPDX-License-Identifier: MIT
 * Checks a value against a compiled JSON Schema and says in words what does not match. Work and
 * depth are counted, because schemas that branch and recurse can ask for more than anybody waits
 * for. Branches of anyOf and oneOf are tried with a list of faults of their own; their first faults
 * are told when no branch matches. */
#include "base/schema_internal.h"

#include <math.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"

#define SHOWN_MAX    8  /* allowed values or names in one message */
#define BRANCHES_MAX 4  /* of anyOf, whose faults are told */
#define VALUE_SIZE   60 /* of a value in a message */
/* What takes longer than a comparison, in comparisons. */
#define COST_CHECK 20     /* one schema on one value */
#define COST_FAULT 500    /* words for a fault */
#define TOLERANCE  1e-12L /* of multipleOf: 0.3 is a multiple of 0.1 for all who write it */

/* Where faults go. */
struct sink {
	struct buf *b; /* NULL: only counted */
	unsigned n, max;
};

struct run {
	struct sink *sink;
	int64_t work;
	unsigned depth;
	bool is_over; /* a limit was reached: nothing that is found counts */
};

struct at {
	const struct at *up; /* NULL: the whole value */
	struct str key;      /* p NULL: index */
	size_t index;
};

static void check(struct run *r, const struct schema *s, const struct node *v, const struct at *at);

/* ---- faults ---- */

static void
add_at(struct buf *b, const struct at *at)
{
	const struct at *way[SCHEMA_DEPTH_MAX];
	size_t n = 0;

	for (; at->up && n < ARRAY_LEN(way); at = at->up)
		way[n++] = at;
	if (n == 0)
		buf_add_z(b, "(top level)");
	while (n-- > 0) {
		if (way[n]->key.p)
			pointer_add(b, way[n]->key);
		else
			buf_printf(b, "/%zu", way[n]->index);
	}
}

static bool
is_full(const struct run *r)
{
	return r->is_over || r->sink->n >= r->sink->max;
}

static bool
spend(struct run *r, size_t units)
{
	r->work -= (int64_t)MIN(units, (size_t)SCHEMA_WORK_MAX) + 1;
	if (r->work < 0)
		r->is_over = true;
	return !r->is_over;
}

static void PRINTF_LIKE(3, 4) fault(struct run *r, const struct at *at, const char *fmt, ...)
{
	struct buf *b = r->sink->b, line;
	va_list ap;

	r->sink->n++;
	if (!b || !spend(r, COST_FAULT))
		return;
	/* A key may be as long as the value: what does not fit is left out, then the line is cut.
	 */
	buf_init(&line, 64 * KIB);
	add_at(&line, at);
	buf_add_z(&line, ": ");
	va_start(ap, fmt);
	buf_vprintf(&line, fmt, ap);
	va_end(ap);
	if (b->n)
		buf_add_char(b, '\n');
	buf_add(b, line.p, utf8_cut(buf_str(&line), SCHEMA_FAULT_TEXT_MAX));
	buf_fini(&line);
}

/* A value as JSON, cut; of an array or object only that there is something in it. */
static void
add_value(struct buf *b, const struct node *v)
{
	struct str text = v->type == NODE_STR ? v->s : v->type == NODE_NUM ? v->num.raw : STR("");
	size_t n = utf8_cut(text, VALUE_SIZE);
	struct json j;

	json_init(&j, b);
	if (v->type == NODE_LIST)
		buf_add_z(b, v->list.n ? "[...]" : "[]");
	else if (v->type == NODE_MAP)
		buf_add_z(b, v->map.n ? "{...}" : "{}");
	else if (v->type == NODE_STR)
		json_str(&j, str_sub(text, 0, n));
	else if (v->type == NODE_NUM)
		buf_add(b, text.p, n);
	else
		json_node(&j, v);
	if (n < text.n)
		buf_add_z(b, "...");
}

/* ---- values ---- */

static bool
is_number(const struct node *v)
{
	return v->type == NODE_INT || v->type == NODE_NUM;
}

/* Exact for whole numbers of 64 bits. */
static long double
number_of(const struct node *v)
{
	return v->type == NODE_INT ? (long double)v->i : (long double)v->num.d;
}

static unsigned
types_of(const struct node *v)
{
	static const unsigned by_node[] = {
		[NODE_NULL] = TYPE_NULL,
		[NODE_BOOL] = TYPE_BOOLEAN,
		[NODE_INT] = TYPE_INTEGER | TYPE_NUMBER,
		[NODE_NUM] = TYPE_NUMBER,
		[NODE_STR] = TYPE_STRING,
		[NODE_LIST] = TYPE_ARRAY,
		[NODE_MAP] = TYPE_OBJECT,
	};

	if (v->type == NODE_NUM && v->num.d == nearbyint(v->num.d))
		return TYPE_INTEGER | TYPE_NUMBER;
	return by_node[v->type];
}

static const char *
type_name(const struct node *v)
{
	unsigned types = types_of(v), k = 0;

	while (!(types & (1u << k)))
		k++;
	return schema_type_names[k];
}

static bool same(struct run *r, const struct node *a, const struct node *b);

static bool
same_maps(struct run *r, const struct node *a, const struct node *b)
{
	if (a->map.n != b->map.n)
		return false;
	for (size_t i = 0; i < a->map.n; i++) {
		const struct node *other;
		if (!spend(r, b->map.n))
			return false;
		other = node_get_str(b, a->map.pairs[i].key);
		if (!other || !same(r, &a->map.pairs[i].value, other))
			return false;
	}
	return true;
}

/* Equal as JSON Schema has it: numbers by value, objects without order. */
static bool
same(struct run *r, const struct node *a, const struct node *b)
{
	if (!spend(r, 0))
		return false;
	if (is_number(a) && is_number(b))
		return a->type == b->type ? node_equal(a, b) : number_of(a) == number_of(b);
	if (a->type != b->type)
		return false;
	if (a->type == NODE_MAP)
		return same_maps(r, a, b);
	if (a->type != NODE_LIST)
		return node_equal(a, b);
	if (a->list.n != b->list.n)
		return false;
	for (size_t i = 0; i < a->list.n; i++)
		if (!same(r, &a->list.items[i], &b->list.items[i]))
			return false;
	return true;
}

/* ---- keywords about one value ---- */

void
check_type(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	struct buf b;
	bool is_first = true;

	if (types_of(v) & (unsigned)u->n)
		return;
	buf_init(&b, 1 * KIB);
	buf_add_z(&b, "expected ");
	for (unsigned k = 0; k < TYPE_COUNT; k++) {
		if (!(u->n & (1 << k)))
			continue;
		buf_printf(&b, "%s%s", is_first ? "" : " or ", schema_type_names[k]);
		is_first = false;
	}
	buf_printf(&b, ", got %s", type_name(v));
	if (v->type != NODE_NULL && v->type != NODE_MAP && v->type != NODE_LIST) {
		buf_add_char(&b, ' ');
		add_value(&b, v);
	}
	fault(r, at, "%s", buf_z(&b));
	buf_fini(&b);
}

void
check_const(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	struct buf b;

	if (same(r, u->value, v) || r->is_over)
		return;
	buf_init(&b, 1 * KIB);
	buf_add_z(&b, "must be ");
	add_value(&b, u->value);
	buf_add_z(&b, ", got ");
	add_value(&b, v);
	fault(r, at, "%s", buf_z(&b));
	buf_fini(&b);
}

void
check_enum(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	size_t n = u->value->list.n;
	struct buf b;

	for (size_t i = 0; i < n; i++)
		if (same(r, node_at(u->value, i), v))
			return;
	if (r->is_over)
		return;
	buf_init(&b, 4 * KIB);
	buf_add_z(&b, n == 1 ? "must be " : "must be one of ");
	for (size_t i = 0; i < MIN(n, (size_t)SHOWN_MAX); i++) {
		buf_add_z(&b, i ? ", " : "");
		add_value(&b, node_at(u->value, i));
	}
	if (n > SHOWN_MAX)
		buf_printf(&b, " and %zu more", n - SHOWN_MAX);
	buf_add_z(&b, ", got ");
	add_value(&b, v);
	fault(r, at, "%s", buf_z(&b));
	buf_fini(&b);
}

void
check_bound(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	static const struct {
		const char *keyword, *words;
	} bounds[] = {
		{ "minimum", "at least" },
		{ "maximum", "at most" },
		{ "exclusiveMinimum", "above" },
		{ "exclusiveMaximum", "below" },
	};
	long double n, bound = number_of(u->value);
	struct buf b;
	size_t k = 0;

	if (!is_number(v))
		return;
	while (strcmp(bounds[k].keyword, u->k->name) != 0)
		k++;
	n = number_of(v);
	if (k == 0 ? n >= bound : k == 1 ? n <= bound : k == 2 ? n > bound : n < bound)
		return;
	buf_init(&b, 1 * KIB);
	buf_printf(&b, "must be %s ", bounds[k].words);
	add_value(&b, u->value);
	buf_add_z(&b, ", got ");
	add_value(&b, v);
	fault(r, at, "%s", buf_z(&b));
	buf_fini(&b);
}

/* Past 2^53 times the step, a double no longer says whether it is a multiple: it passes. */
static bool
is_multiple(const struct node *v, const struct node *of)
{
	long double q;

	if (v->type == NODE_INT && of->type == NODE_INT)
		return v->i % of->i == 0;
	q = number_of(v) / number_of(of);
	return fabsl(q) > 0x1p53L || fabsl(q - roundl(q)) <= TOLERANCE * MAX(1.0L, fabsl(q));
}

void
check_multiple(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	struct buf b;

	if (!is_number(v) || is_multiple(v, u->value))
		return;
	buf_init(&b, 1 * KIB);
	buf_add_z(&b, "must be a multiple of ");
	add_value(&b, u->value);
	buf_add_z(&b, ", got ");
	add_value(&b, v);
	fault(r, at, "%s", buf_z(&b));
	buf_fini(&b);
}

/* Code points of valid UTF-8: all bytes but continuations. */
static size_t
length_of(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

void
check_size(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	static const struct {
		const char *suffix, *unit;
		enum node_type type;
	} sizes[] = {
		{ "Length", "character", NODE_STR },
		{ "Items", "item", NODE_LIST },
		{ "Properties", "key", NODE_MAP },
	};
	bool is_min = str_starts(str_of(u->k->name), "min");
	size_t k = 0;
	int64_t n;

	while (strcmp(sizes[k].suffix, u->k->name + 3) != 0)
		k++;
	if (v->type != sizes[k].type)
		return;
	n = (int64_t)(v->type == NODE_STR ? length_of(v->s) : node_len(v));
	if (is_min ? n < u->n : n > u->n)
		fault(r, at, "must have at %s %lld %s%s, has %lld", is_min ? "least" : "most",
			(long long)u->n, sizes[k].unit, u->n == 1 ? "" : "s", (long long)n);
}

void
check_unique(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	if (!u->value->b || v->type != NODE_LIST)
		return;
	for (size_t i = 1; i < v->list.n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (same(r, &v->list.items[i], &v->list.items[k])) {
				fault(r, at, "items must differ, but items %zu and %zu are equal",
					k, i);
				return;
			}
			if (r->is_over)
				return;
		}
	}
}

/* ---- keywords about parts of a value ---- */

void
check_required(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	for (size_t i = 0; v->type == NODE_MAP && i < u->value->list.n && !is_full(r); i++) {
		struct str name = u->value->list.items[i].s;
		if (spend(r, v->map.n) && !node_get_str(v, name))
			fault(r, at, "is missing the required key \"%.*s\"", (int)MIN(name.n, 80),
				name.p);
	}
}

void
check_properties(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	for (size_t i = 0; v->type == NODE_MAP && i < u->subs_n && !is_full(r); i++) {
		struct at here = { .up = at, .key = u->value->map.pairs[i].key };
		const struct node *part = spend(r, v->map.n) ? node_get_str(v, here.key) : NULL;
		if (part)
			check(r, u->subs[i], part, &here);
	}
}

static void
fault_key(struct run *r, const struct node *known, const struct at *at)
{
	struct buf b;

	buf_init(&b, 4 * KIB);
	for (size_t i = 0; i < MIN(node_len(known), (size_t)SHOWN_MAX); i++) {
		struct str key = known->map.pairs[i].key;
		buf_printf(&b, "%s\"%.*s\"", i ? ", " : "", (int)MIN(key.n, 60), key.p);
	}
	if (node_len(known) > SHOWN_MAX)
		buf_printf(&b, " and %zu more", node_len(known) - SHOWN_MAX);
	if (b.n)
		fault(r, at, "this key is not allowed (allowed: %s)", buf_z(&b));
	else
		fault(r, at, "this key is not allowed (the object must be empty)");
	buf_fini(&b);
}

void
check_additional(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	const struct node *known = node_get(s->node, "properties");

	for (size_t i = 0; v->type == NODE_MAP && i < v->map.n && !is_full(r); i++) {
		struct at here = { .up = at, .key = v->map.pairs[i].key };
		if (!spend(r, node_len(known)) || node_get_str(known, here.key))
			continue;
		if (u->subs[0]->is_nothing)
			fault_key(r, known, &here);
		else
			check(r, u->subs[0], &v->map.pairs[i].value, &here);
	}
}

void
check_prefix(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	for (size_t i = 0; i < u->subs_n && v->type == NODE_LIST && i < v->list.n && !is_full(r);
		i++) {
		struct at here = { .up = at, .index = i };
		check(r, u->subs[i], &v->list.items[i], &here);
	}
}

void
check_items(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	size_t from = node_len(node_get(s->node, "prefixItems"));

	if (v->type != NODE_LIST)
		return;
	if (u->subs[0]->is_nothing && v->list.n > from) {
		fault(r, at, "must have at most %zu item%s, has %zu", from, from == 1 ? "" : "s",
			v->list.n);
		return;
	}
	for (size_t i = from; i < v->list.n && !is_full(r); i++) {
		struct at here = { .up = at, .index = i };
		check(r, u->subs[0], &v->list.items[i], &here);
	}
}

/* ---- keywords that combine schemas ---- */

/* Whether v matches; its first fault goes to b, which may be NULL. */
static bool
try_branch(struct run *r, const struct schema *s, const struct node *v, const struct at *at,
	struct buf *b)
{
	struct sink own = { .b = b, .max = 1 }, *outer = r->sink;

	r->sink = &own;
	check(r, s, v, at);
	r->sink = outer;
	return own.n == 0 && !r->is_over;
}

void
check_all(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	for (size_t i = 0; i < u->subs_n && !is_full(r); i++)
		check(r, u->subs[i], v, at);
}

/* The faults of the branches of one anyOf or oneOf, in one line: "; " between them. */
static void
fault_branches(struct run *r, const struct rule *u, struct buf *faults, const struct at *at)
{
	for (size_t i = 0; i < faults->n; i++)
		if (faults->p[i] == '\n')
			faults->p[i] = ';';
	if (u->subs_n > BRANCHES_MAX)
		buf_printf(faults, "; and %zu more", u->subs_n - BRANCHES_MAX);
	fault(r, at, "matches none of the %zu allowed forms (%s)", u->subs_n, buf_z(faults));
}

/* The number of branches that match, at most `enough`; which[] gets them. No match is told. */
static size_t
count_branches(struct run *r, const struct rule *u, const struct node *v, const struct at *at,
	size_t which[], size_t enough)
{
	struct buf faults;
	size_t n = 0;

	buf_init(&faults, 8 * KIB);
	for (size_t i = 0; i < u->subs_n && n < enough && !r->is_over; i++) {
		struct buf *b = r->sink->b && n == 0 && i < BRANCHES_MAX ? &faults : NULL;
		if (try_branch(r, u->subs[i], v, at, b))
			which[n++] = i;
	}
	if (n == 0 && !r->is_over)
		fault_branches(r, u, &faults, at);
	buf_fini(&faults);
	return n;
}

void
check_any(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	size_t which[1];

	count_branches(r, u, v, at, which, 1);
}

void
check_one(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	size_t which[2];

	if (count_branches(r, u, v, at, which, 2) == 2 && !r->is_over)
		fault(r, at, "matches forms %zu and %zu of %zu, but only one may match",
			which[0] + 1, which[1] + 1, u->subs_n);
}

void
check_not(struct run *r, const struct schema *s, const struct rule *u, const struct node *v,
	const struct at *at)
{
	struct buf b;

	if (!try_branch(r, u->subs[0], v, at, NULL) || r->is_over)
		return;
	buf_init(&b, 1 * KIB);
	add_value(&b, v);
	fault(r, at, "%s is excluded by the schema (not)", buf_z(&b));
	buf_fini(&b);
}

/* ---- the check ---- */

static void
check(struct run *r, const struct schema *s, const struct node *v, const struct at *at)
{
	unsigned before = r->sink->n;

	if (!spend(r, COST_CHECK))
		return;
	if (r->depth == SCHEMA_DEPTH_MAX) {
		r->is_over = true;
		return;
	}
	if (s->is_nothing) {
		fault(r, at, "nothing is allowed here");
		return;
	}
	r->depth++;
	for (size_t i = 0; i < s->rules_n && !is_full(r); i++) {
		const struct rule *u = &s->rules[i];
		u->k->check(r, s, u, v, at);
		/* Of a value of the wrong type, nothing else is worth saying. */
		if (u->k->arg == ARG_TYPES && r->sink->n > before)
			break;
	}
	r->depth--;
}

int
schema_check(const struct schema *s, const struct node *value, struct buf *why)
{
	struct sink sink = { .b = why, .max = why ? SCHEMA_FAULTS_MAX : 1 };
	struct run r = { .sink = &sink, .work = SCHEMA_WORK_MAX };
	struct at root = { 0 };
	size_t before = why ? why->n : 0;

	check(&r, s, value ? value : &node_null, &root);
	if (!r.is_over)
		return sink.n ? ERR_INVALID : 0;
	if (why) {
		buf_truncate(why, before);
		buf_add_z(why,
			"(top level): the value is too deep or too large to be checked against "
			"this schema (make it smaller)");
	}
	return ERR_LIMIT;
}
