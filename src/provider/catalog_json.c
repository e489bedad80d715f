/* SPDX-License-Identifier: MIT
 * Catalogs as JSON, in the form of models.dev: {vendor: {models: {id: {limit, cost, modalities,
 * ...}}}}. Takes known fields only, and of those only values that make sense; the file that is kept
 * has the same form with its origin and digest around it. No files and no network here. */
#include "provider/catalog.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"

#include <stdlib.h>
#include "base/mem.h"
#include "base/utf8.h"

#define FILE_VERSION 1
#define TOKENS_MAX   1000000000
#define PRICE_MAX    INT64_C(1000000000000) /* a million dollars per million tokens */
#define PERCENT_MAX  100000
#define WORD_MAX     32

struct reader {
	struct arena *a;
	struct catalog_row *rows;
	size_t n, max;
	catalog_bad_fn on_bad;
	void *arg;
};

/* ---- one row ---- */

/* Ids go into messages, URLs and shells' completions. */
static bool
is_name(struct str s, size_t max)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] > '~' || s.p[i] == '"' ||
			s.p[i] == '\'' || s.p[i] == '\\')
			return false;
	return s.n > 0 && s.n <= max;
}

static bool
take_tokens(const struct node *limit, const char *key, int64_t *out, unsigned *has, unsigned bit)
{
	const struct node *n = node_get(limit, key);

	if (!n || node_is(n, NODE_NULL))
		return true;
	if (!node_as_int(n, out) || *out < 0 || *out > TOKENS_MAX)
		return false;
	*has |= *out > 0 ? bit : 0; /* 0: models that are not about text have no window */
	return true;
}

static bool
take_price(const struct node *cost, const char *key, int64_t *out, unsigned *has, unsigned bit)
{
	const struct node *n = node_get(cost, key);

	if (!n || node_is(n, NODE_NULL))
		return true;
	if (node_is(n, NODE_STR) || field_money(n, out) != 0 || *out < 0 || *out > PRICE_MAX)
		return false;
	*has |= bit;
	return true;
}

/* Percent that the dearer price is of the other, rounded up. */
static int64_t
percent_of(int64_t price, int64_t base)
{
	__int128 p = base > 0 ? ((__int128)price * 100 + base - 1) / base : 100;

	return (int64_t)MAX(MIN(p, (__int128)PERCENT_MAX), (__int128)1);
}

/* "context_over_200k": {input, output}. */
static bool
take_long(const struct node *cost, struct catalog_row *r)
{
	static const char prefix[] = "context_over_";

	for (size_t i = 0; i < node_len(cost); i++) {
		const struct node_pair *p = &cost->map.pairs[i];
		struct str digits = str_sub(p->key, sizeof(prefix) - 1, p->key.n);
		int64_t in = r->input, out = r->output, thousands;
		unsigned has = 0;

		if (!str_starts(p->key, prefix) || !str_ends(p->key, "k"))
			continue;
		digits.n--;
		if (str_i64(digits, &thousands) != 0 || thousands < 1 ||
			thousands > TOKENS_MAX / 1000 ||
			!take_price(&p->value, "input", &in, &has, HAS_INPUT) ||
			!take_price(&p->value, "output", &out, &has, HAS_OUTPUT))
			return false;
		r->long_tokens = thousands * 1000;
		r->long_input_percent = percent_of(in, r->input);
		r->long_output_percent = percent_of(out, r->output);
	}
	/* A price without such a rule says that there is none. */
	r->has |= r->has & HAS_INPUT ? HAS_LONG : 0;
	return true;
}

static bool
take_flag(const struct node *model, const char *key, unsigned able, struct catalog_row *r,
	unsigned bit)
{
	const struct node *n = node_get(model, key);

	if (!n || node_is(n, NODE_NULL))
		return true;
	if (n->type != NODE_BOOL)
		return false;
	r->has |= bit;
	r->able |= n->b ? able : 0;
	return true;
}

static bool
take_word(struct arena *a, const struct node *model, const char *key, const char **out)
{
	const struct node *n = node_get(model, key);

	if (!n || node_is(n, NODE_NULL))
		return true;
	if (n->type != NODE_STR || (n->s.n && !is_name(n->s, WORD_MAX)))
		return false;
	if (n->s.n)
		*out = arena_strdup(a, n->s);
	return true;
}

/* NULL, or what is wrong with it. */
static const char *
read_row(struct arena *a, const struct node *m, struct catalog_row *r)
{
	const struct node *limit = node_get(m, "limit"), *cost = node_get(m, "cost");
	const struct node *input = node_find(m, "modalities.input");

	if (!node_is(m, NODE_MAP))
		return "it is no object";
	if (!take_tokens(limit, "context", &r->context_tokens, &r->has, HAS_CONTEXT) ||
		!take_tokens(limit, "output", &r->max_output_tokens, &r->has, HAS_OUTPUT_MAX))
		return "limit: not a number of tokens";
	if (!take_price(cost, "input", &r->input, &r->has, HAS_INPUT) ||
		!take_price(cost, "output", &r->output, &r->has, HAS_OUTPUT) ||
		!take_price(cost, "cache_read", &r->cached, &r->has, HAS_CACHED) ||
		!take_price(cost, "cache_write", &r->cache_write, &r->has, HAS_CACHE_WRITE) ||
		!take_long(cost, r))
		return "cost: not a price in US dollars per million tokens";
	if (!(r->has & HAS_INPUT) != !(r->has & HAS_OUTPUT))
		return "cost: a price of input without one of output, or the other way round";
	if (!take_flag(m, "tool_call", ABLE_TOOLS, r, HAS_TOOLS) ||
		!take_flag(m, "reasoning", ABLE_REASONING, r, HAS_REASONING) ||
		!take_flag(m, "structured_output", ABLE_SCHEMA, r, HAS_SCHEMA))
		return "tool_call, reasoning and structured_output are true or false";
	if (!take_word(a, m, "knowledge", &r->knowledge) || !take_word(a, m, "status", &r->status))
		return "knowledge and status are short words";
	if (node_is(input, NODE_LIST)) {
		r->able |= input_from_names(input);
		r->has |= HAS_MODALITIES;
	}
	return r->has & HAS_CONTEXT ? NULL : "it has no context window";
}

/* ---- all rows ---- */

static void
tell_bad(struct reader *rd, const char *vendor, struct str model, const char *why)
{
	char name[128];

	utf8_copy(name, sizeof(name), model);
	if (rd->on_bad)
		rd->on_bad(rd->arg, vendor, name, why);
}

static int
read_vendor(struct reader *rd, const char *vendor, const struct node *models, struct err *e)
{
	for (size_t i = 0; i < node_len(models); i++) {
		const struct node_pair *p = &models->map.pairs[i];
		struct catalog_row row = { .vendor = vendor };
		const char *why = is_name(p->key, MODEL_ID_MAX) ? read_row(rd->a, &p->value, &row)
								: "its id is not a plain name";

		if (why) {
			tell_bad(rd, vendor, p->key, why);
			continue;
		}
		if (rd->n == rd->max)
			return err_set(e, ERR_LIMIT, ERR_TO_USER,
				"the catalog has more than %zu models", rd->max);
		row.model = arena_strdup(rd->a, p->key);
		rd->rows[rd->n++] = row;
	}
	return 0;
}

static int
read_rows(struct reader *rd, const struct node *root, const char *const *vendors, struct err *e)
{
	size_t known = 0;
	int rc = 0;

	if (!node_is(root, NODE_MAP))
		return err_set(e, ERR_PROTO, ERR_TO_USER,
			"this is no model catalog: %s where an object of vendors is expected",
			node_type_name(root->type));
	for (size_t i = 0; vendors[i] && rc == 0; i++) {
		const struct node *models = node_find(node_get(root, vendors[i]), "models");
		if (!node_is(models, NODE_MAP))
			continue;
		known++;
		rc = read_vendor(rd, arena_strdup(rd->a, str_of(vendors[i])), models, e);
	}
	if (rc == 0 && rd->n == 0)
		return err_set(e, ERR_PROTO, ERR_TO_USER,
			known ? "the catalog has no model that is usable"
			      : "this is no model catalog: none of the vendors in use is in it, as "
				"in "
				"{\"anthropic\": {\"models\": {...}}}");
	return rc;
}

static void
take_digest(struct catalog *c)
{
	struct arena *a = arena_new(CATALOG_ARENA_MAX);
	const struct node *n;
	struct buf text, canonical;
	struct json j;

	buf_init(&text, 2 * CATALOG_TEXT_MAX);
	buf_init(&canonical, 2 * CATALOG_TEXT_MAX);
	json_init(&j, &text);
	rows_write(c->rows, c->n, &j);
	if (json_parse(a, buf_str(&text), &n, NULL) != 0 || json_canonical(&canonical, n) != 0)
		fatal("catalog: its own rows cannot be read back");
	sha256_hex(buf_str(&canonical), c->digest);
	buf_fini(&canonical);
	buf_fini(&text);
	arena_free(a);
}

/* root is in another arena than the catalog. */
static int
make_catalog(const struct node *root, const char *const *vendors, catalog_bad_fn on_bad, void *arg,
	struct catalog **out, struct err *e)
{
	struct arena *a = arena_new(CATALOG_ARENA_MAX);
	struct reader rd = { .a = a, .max = CATALOG_MODELS_MAX, .on_bad = on_bad, .arg = arg };
	struct catalog *c;
	int rc;

	rd.rows = arena_alloc(a, rd.max * sizeof(*rd.rows));
	rc = read_rows(&rd, root, vendors, e);
	if (rc != 0) {
		arena_free(a);
		return rc;
	}
	c = xcalloc(1, sizeof(*c));
	c->a = a;
	c->rows = rd.rows;
	c->n = rd.n;
	*out = c;
	return 0;
}

static int
parse(struct arena *a, struct str json, const struct node **out, struct err *e)
{
	if (json.n > CATALOG_TEXT_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "the catalog is larger than %u MiB",
			CATALOG_TEXT_MAX / MIB);
	return json_parse(a, json, out, e) != 0 ? err_wrap(e, "this is no model catalog") : 0;
}

int
catalog_import(struct str json, const char *const *vendors, catalog_bad_fn on_bad, void *arg,
	struct catalog **out, struct err *e)
{
	struct arena *a = arena_new(CATALOG_TREE_MAX);
	const struct node *root;
	int rc = parse(a, json, &root, e);

	if (rc == 0)
		rc = make_catalog(root, vendors, on_bad, arg, out, e);
	if (rc == 0)
		take_digest(*out);
	arena_free(a);
	return rc;
}

void
catalog_free(void *catalog)
{
	struct catalog *c = catalog;

	if (!c)
		return;
	arena_free(c->a);
	free(c);
}

/* ---- writing ---- */

/* Micro-dollars as dollars, without a double in between. */
static void
write_price(struct json *j, const char *key, int64_t microusd)
{
	char text[32];
	size_t n = (size_t)snprintf(text, sizeof(text), "%" PRId64 ".%06" PRId64,
		microusd / 1000000, microusd % 1000000);

	while (text[n - 1] == '0')
		n--;
	if (text[n - 1] == '.')
		n--;
	json_kv_raw(j, key, (struct str){ text, n });
}

static void
write_cost(const struct catalog_row *r, struct json *j)
{
	char key[64];

	json_kv_obj(j, "cost");
	write_price(j, "input", r->input);
	write_price(j, "output", r->output);
	if (r->has & HAS_CACHED)
		write_price(j, "cache_read", r->cached);
	if (r->has & HAS_CACHE_WRITE)
		write_price(j, "cache_write", r->cache_write);
	if (r->long_tokens > 0) {
		(void)snprintf(
			key, sizeof(key), "context_over_%" PRId64 "k", r->long_tokens / 1000);
		json_kv_obj(j, key);
		write_price(
			j, "input", (int64_t)((__int128)r->input * r->long_input_percent / 100));
		write_price(
			j, "output", (int64_t)((__int128)r->output * r->long_output_percent / 100));
		json_obj_end(j);
	}
	json_obj_end(j);
}

static void
write_row(const struct catalog_row *r, struct json *j)
{
	json_obj(j);
	if (r->has & HAS_TOOLS)
		json_kv_bool(j, "tool_call", r->able & ABLE_TOOLS);
	if (r->has & HAS_REASONING)
		json_kv_bool(j, "reasoning", r->able & ABLE_REASONING);
	if (r->has & HAS_SCHEMA)
		json_kv_bool(j, "structured_output", r->able & ABLE_SCHEMA);
	if (r->has & HAS_MODALITIES) {
		json_kv_obj(j, "modalities");
		json_key(j, "input");
		input_write_names(r->able, j);
		json_obj_end(j);
	}
	json_kv_obj(j, "limit");
	json_kv_int(j, "context", r->context_tokens);
	if (r->has & HAS_OUTPUT_MAX)
		json_kv_int(j, "output", r->max_output_tokens);
	json_obj_end(j);
	if (r->has & HAS_INPUT)
		write_cost(r, j);
	if (r->knowledge)
		json_kv_z(j, "knowledge", r->knowledge);
	if (r->status)
		json_kv_z(j, "status", r->status);
	json_obj_end(j);
}

void
rows_write(const struct catalog_row *rows, size_t n, struct json *j)
{
	json_obj(j);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || strcmp(rows[i].vendor, rows[i - 1].vendor) != 0) {
			json_kv_obj(j, rows[i].vendor);
			json_kv_obj(j, "models");
		}
		json_key(j, rows[i].model);
		write_row(&rows[i], j);
		if (i + 1 == n || strcmp(rows[i].vendor, rows[i + 1].vendor) != 0) {
			json_obj_end(j);
			json_obj_end(j);
		}
	}
	json_obj_end(j);
}

void
catalog_write(const struct catalog *c, const char *url, int64_t now_ms, struct buf *b)
{
	char time[CLOCK_TEXT_SIZE];
	struct json j;

	json_init(&j, b);
	json_obj(&j);
	json_kv_int(&j, "v", FILE_VERSION);
	json_kv_z(&j, "source", url);
	json_kv_z(&j, "fetched_at", clock_text(now_ms, time));
	json_kv_z(&j, "sha256", c->digest);
	json_key(&j, "catalog");
	rows_write(c->rows, c->n, &j);
	json_obj_end(&j);
	buf_add_char(b, '\n');
}

/* ---- the kept file ---- */

static const char *const *
vendors_in(const struct node *map, struct arena *a)
{
	const char **names = arena_alloc(a, (node_len(map) + 1) * sizeof(*names));

	for (size_t i = 0; i < node_len(map); i++)
		names[i] = map->map.pairs[i].key.p;
	return names;
}

static int
check_digest(const struct node *rows, const char *recorded, struct err *e)
{
	char digest[SHA256_HEX];
	struct buf b;
	int rc;

	buf_init(&b, 2 * CATALOG_TEXT_MAX);
	rc = json_canonical(&b, rows);
	sha256_hex(buf_str(&b), digest);
	buf_fini(&b);
	if (rc == 0 && strcmp(digest, recorded) == 0)
		return 0;
	return err_set(e, ERR_CORRUPT, ERR_TO_USER,
		"its content does not have the digest that it records (it was changed; run `ithaca "
		"catalog fetch`)");
}

int
catalog_read(struct str text, struct catalog **out, struct err *e)
{
	struct arena *a = arena_new(CATALOG_TREE_MAX);
	const struct node *root, *rows;
	struct catalog *c;
	int rc = parse(a, text, &root, e);

	if (rc == 0 && node_int(root, "v", 0) != FILE_VERSION)
		rc = err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"it is no kept catalog of version %d (run `ithaca catalog fetch`)",
			FILE_VERSION);
	rows = rc == 0 ? node_get(root, "catalog") : NULL;
	if (rc == 0)
		rc = check_digest(rows ? rows : &node_null, node_z(root, "sha256", ""), e);
	if (rc == 0)
		rc = make_catalog(rows, vendors_in(rows, a), NULL, NULL, &c, e);
	if (rc == 0) {
		c->url = arena_strdup(c->a, node_str(root, "source", STR("")));
		c->fetched_at = arena_strdup(c->a, node_str(root, "fetched_at", STR("")));
		memcpy(c->digest, node_z(root, "sha256", ""), SHA256_HEX);
		*out = c;
	}
	arena_free(a);
	return rc == 0 ? 0 : rc == ERR_LIMIT ? ERR_LIMIT : ERR_CORRUPT;
}

/* ---- facts and differences ---- */

void
catalog_facts(const struct catalog *c, struct catalog_facts *out)
{
	struct arena *a = arena_new(1 * MIB);
	struct catalog snapshot;

	if (!c) {
		catalog_snapshot(&snapshot, a);
		take_digest(&snapshot);
		c = &snapshot;
	}
	*out = (struct catalog_facts){ .models = c->n, .url = c->url, .fetched_at = c->fetched_at };
	memcpy(out->digest, c->digest, SHA256_HEX);
	arena_free(a);
}

static const struct catalog_row *
find_exactly(const struct catalog *c, const struct catalog_row *like)
{
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->rows[i].vendor, like->vendor) == 0 &&
			strcmp(c->rows[i].model, like->model) == 0)
			return &c->rows[i];
	return NULL;
}

static void
begin_change(const struct catalog_row *r, const char *what, struct json *j)
{
	char name[2 * MODEL_ID_MAX];

	(void)snprintf(name, sizeof(name), "%s/%s", r->vendor, r->model);
	json_obj(j);
	json_kv_z(j, "model", name);
	json_kv_z(j, "what", what);
}

static void
write_changes(const struct catalog_row *from, const struct catalog_row *to, struct json *j)
{
	const struct {
		const char *what;
		unsigned bit;
		bool is_price;
		int64_t from, to;
	} fields[] = {
		{ "context", HAS_CONTEXT, false, from->context_tokens, to->context_tokens },
		{ "max_output", HAS_OUTPUT_MAX, false, from->max_output_tokens,
			to->max_output_tokens },
		{ "input price", HAS_INPUT, true, from->input, to->input },
		{ "output price", HAS_OUTPUT, true, from->output, to->output },
		{ "cached price", HAS_CACHED, true, from->cached, to->cached },
		{ "cache write price", HAS_CACHE_WRITE, true, from->cache_write, to->cache_write },
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		bool had = from->has & fields[i].bit, has = to->has & fields[i].bit;
		if (!has || (had && fields[i].from == fields[i].to))
			continue;
		begin_change(to, fields[i].what, j);
		if (had && fields[i].is_price)
			write_price(j, "from", fields[i].from);
		else if (had)
			json_kv_int(j, "from", fields[i].from);
		if (fields[i].is_price)
			write_price(j, "to", fields[i].to);
		else
			json_kv_int(j, "to", fields[i].to);
		json_obj_end(j);
	}
}

void
catalog_changes(const struct catalog *from, const struct catalog *to, struct json *j)
{
	struct arena *a = arena_new(1 * MIB);
	struct catalog snapshot;
	const struct catalog *before = from;

	if (!before || !to)
		catalog_snapshot(&snapshot, a);
	before = from ? from : &snapshot;
	to = to ? to : &snapshot;
	json_arr(j);
	for (size_t i = 0; i < to->n; i++) {
		const struct catalog_row *old = find_exactly(before, &to->rows[i]);
		if (old) {
			write_changes(old, &to->rows[i], j);
		} else {
			begin_change(&to->rows[i], "new", j);
			json_obj_end(j);
		}
	}
	/* What the snapshot has stays known: only a fetched catalog can lose a model. */
	for (size_t i = 0; from && i < from->n; i++) {
		if (find_exactly(to, &from->rows[i]))
			continue;
		begin_change(&from->rows[i], "gone", j);
		json_obj_end(j);
	}
	json_arr_end(j);
	arena_free(a);
}
