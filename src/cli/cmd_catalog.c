/* SPDX-License-Identifier: MIT
 * `ithaca catalog`: models in columns for people, what a fetch changed, what verify found. The facts come
 * from the runtime; only their form is made here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/utf8.h"
#include "cli/internal.h"

#define CHANGES_SHOWN 40 /* prices and sizes; new and gone models are counted */

/* 200000 -> "200k", 1048576 -> "1.05M"; 0: not known. */
static const char *
tokens_text(struct arena *a, int64_t n)
{
	if (n <= 0)
		return "?";
	if (n < 1000)
		return arena_printf(a, "%" PRId64, n);
	if (n < 1000000)
		return arena_printf(a, "%" PRId64 "k", (n + 500) / 1000);
	return n % 1000000 == 0 ? arena_printf(a, "%" PRId64 "M", n / 1000000) :
				  arena_printf(a, "%.2fM", (double)n / 1e6);
}

/* Micro-dollars as dollars, without zeros at the end. */
static const char *
price_text(struct arena *a, const struct node *microusd)
{
	char *text;
	size_t n;

	if (!node_is(microusd, NODE_INT))
		return "?";
	text = arena_printf(a, "%" PRId64 ".%06" PRId64, microusd->i / 1000000, microusd->i % 1000000);
	n = strlen(text);
	while (text[n - 1] == '0')
		n--;
	text[text[n - 1] == '.' ? n - 1 : n] = '\0';
	return text;
}

/* "image pdf"; text goes without saying. */
static const char *
modalities_text(struct arena *a, const struct node *list)
{
	const char *text = "";

	for (size_t i = 0; i < node_len(list); i++)
		if (node_is(node_at(list, i), NODE_STR) && !str_is(node_at(list, i)->s, "text"))
			text = arena_printf(a, "%s%s%s", text, text[0] ? " " : "", node_at(list, i)->s.p);
	return text[0] ? text : "-";
}

static const char *
abilities_text(struct arena *a, const struct node *m)
{
	return arena_printf(a, "%s%s%s", node_bool(m, "tools", false) ? "tools " : "",
		node_bool(m, "reasoning", false) ? "reasoning " : "",
		node_bool(m, "structured_output", false) ? "json" : "");
}

static void
write_model_row(struct arena *a, const struct node *m, struct json *j)
{
	json_obj(j);
	json_kv_str(j, "model", node_str(m, "model", STR("")));
	json_kv_z(j, "context", tokens_text(a, node_int(m, "context", 0)));
	json_kv_z(j, "output", tokens_text(a, node_int(m, "max_output", 0)));
	json_kv_z(j, "input", modalities_text(a, node_get(m, "input")));
	json_kv_z(j, "able", abilities_text(a, m));
	json_kv_z(j, "in_usd", price_text(a, node_get(m, "input_microusd_per_mtok")));
	json_kv_z(j, "out_usd", price_text(a, node_get(m, "output_microusd_per_mtok")));
	json_kv_z(j, "cached_usd", price_text(a, node_get(m, "cached_microusd_per_mtok")));
	json_kv_z(j, "source",
		arena_printf(a, "%s%s%s", node_z(m, "source", ""), node_get(m, "status") ? ", " : "",
			node_z(m, "status", "")));
	json_obj_end(j);
}

/* What has no column. */
static void
print_details(struct arena *a, const struct node *m, struct buf *out)
{
	const struct node *rule = node_get(m, "long_prompts");

	buf_add_z(out, "\nover ");
	term_clean(out, node_str(m, "api", STR("")), true);
	if (node_get(m, "knowledge")) {
		buf_add_z(out, "; knows the world until ");
		term_clean(out, node_str(m, "knowledge", STR("")), true);
	}
	if (node_get(m, "cache_write_microusd_per_mtok"))
		buf_printf(out, "; $ %s for input that is written to a cache",
			price_text(a, node_get(m, "cache_write_microusd_per_mtok")));
	if (rule)
		buf_printf(out, "; with more than %s of input, %" PRId64 " %% of the input and %" PRId64 " %% of the output prices",
			tokens_text(a, node_int(rule, "over_tokens", 0)), node_int(rule, "input_percent", 100),
			node_int(rule, "output_percent", 100));
	buf_add_char(out, '\n');
}

static void
print_facts(const char *title, const struct node *f, struct buf *out)
{
	buf_printf(out, "%s", title);
	term_clean(out, node_str(f, "date", node_str(f, "fetched_at", STR(""))), true);
	buf_printf(out, ", %" PRId64 " models", node_int(f, "models", 0));
	if (node_get(f, "url")) {
		buf_add_z(out, ", from ");
		term_clean(out, node_str(f, "url", STR("")), true);
	}
	buf_add_char(out, '\n');
}

void
print_models(const struct node *r, struct buf *out)
{
	static const struct column columns[] = { { "model", "MODEL" }, { "context", "CONTEXT" },
		{ "output", "OUTPUT" }, { "input", "INPUT" }, { "able", "ABLE" }, { "in_usd", "$ IN" },
		{ "out_usd", "$ OUT" }, { "cached_usd", "$ CACHED" }, { "source", "SOURCE" }, { 0 } };
	const struct node *list = node_get(r, "models"), *rows;
	struct arena *a = arena_new(64 * MIB);
	struct buf b;
	struct json j;

	if (node_len(list) == 0)
		buf_add_z(out, "no model of it is in a catalog; its server gets any name as it is\n");
	buf_init(&b, JSON_TEXT_MAX);
	json_init(&j, &b);
	json_arr(&j);
	for (size_t i = 0; i < node_len(list); i++)
		write_model_row(a, node_at(list, i), &j);
	json_arr_end(&j);
	if (node_len(list) > 0 && json_parse(a, buf_str(&b), &rows, NULL) == 0)
		print_table(rows, columns, out);
	buf_fini(&b);
	if (node_len(list) == 1)
		print_details(a, node_at(list, 0), out);
	arena_free(a);
	buf_add_z(out, "\nPrices are US dollars per million tokens; ? is not known. Verify them with the vendor.\n");
	print_facts("Snapshot of ", node_get(r, "snapshot"), out);
	if (node_get(r, "fetched"))
		print_facts("Fetched ", node_get(r, "fetched"), out);
}

/* ---- fetch ---- */

static bool
is_about_model(const struct node *change, const char *what)
{
	return str_is(node_str(change, "what", STR("")), what);
}

static void
print_changes(const struct node *changes, struct buf *out)
{
	static const struct column columns[] = { { "model", "MODEL" }, { "what", "WHAT" },
		{ "from", "FROM", COLUMN_VALUE }, { "to", "TO", COLUMN_VALUE }, { 0 } };
	struct node shown = { .type = NODE_LIST };
	struct node *items = calloc(MAX(node_len(changes), (size_t)1), sizeof(*items));
	size_t fresh = 0, gone = 0, others = 0;

	for (size_t i = 0; items && i < node_len(changes); i++) {
		const struct node *change = node_at(changes, i);

		fresh += is_about_model(change, "new");
		gone += is_about_model(change, "gone");
		if (is_about_model(change, "new") || is_about_model(change, "gone"))
			continue;
		if (others++ < CHANGES_SHOWN)
			items[shown.list.n++] = *change;
	}
	shown.list.items = items;
	buf_printf(out, "%zu new models, %zu gone, %zu other changes\n", fresh, gone, others);
	if (shown.list.n > 0) {
		buf_add_char(out, '\n');
		print_table(&shown, columns, out);
	}
	if (others > CHANGES_SHOWN)
		buf_printf(out, "... and %zu more (--json has all)\n", others - CHANGES_SHOWN);
	free(items);
}

void
print_fetched(const struct node *r, struct buf *out)
{
	const struct node *skipped = node_get(r, "skipped");

	print_changes(node_get(r, "changes"), out);
	for (size_t i = 0; i < node_len(skipped); i++) {
		const struct node *s = node_at(skipped, i);

		buf_add_z(out, "left out: ");
		term_clean(out, node_str(s, "vendor", STR("")), true);
		buf_add_char(out, '/');
		term_clean(out, node_str(s, "model", STR("")), true);
		buf_add_z(out, ": ");
		term_clean(out, node_str(s, "why", STR("")), true);
		buf_add_char(out, '\n');
	}
	if (node_int(r, "skipped_models", 0) > (int64_t)node_len(skipped))
		buf_printf(out, "left out: %" PRId64 " models in all\n", node_int(r, "skipped_models", 0));
	buf_printf(out, "\n%" PRId64 " models, sha256 %.16s..., ", node_int(node_get(r, "catalog"), "models", 0),
		node_z(node_get(r, "catalog"), "sha256", ""));
	if (node_bool(r, "written", false)) {
		buf_add_z(out, "kept in ");
		term_clean(out, node_str(r, "file", STR("")), true);
		buf_add_char(out, '\n');
	} else {
		buf_add_z(out, "not kept (--dry-run)\n");
	}
}

/* One call like others, but --url is no parameter of it: it is a setting of the runtime that is started, because the
 * broker goes where its configuration says and nowhere else. */
int
cmd_catalog_fetch(struct cli *c, struct err *e)
{
	return cmd_call(c, e);
}

/* ---- verify ---- */

static void
print_verified(const struct node *r, struct buf *out)
{
	static const struct column columns[] = { { "key", "KEY" }, { "model", "MODEL" },
		{ "ok", "OK", COLUMN_VALUE }, { "source", "SOURCE" }, { "text", "WHAT" }, { 0 } };
	const struct node *snapshot = node_get(r, "snapshot"), *fetched = node_get(r, "fetched");

	buf_printf(out, "snapshot  %s, %" PRId64 " models, sha256 %s\n", node_z(snapshot, "date", ""),
		node_int(snapshot, "models", 0), node_z(snapshot, "sha256", ""));
	if (fetched)
		buf_printf(out, "fetched   %.10s, %" PRId64 " models, sha256 %s\n", node_z(fetched, "fetched_at", ""),
			node_int(fetched, "models", 0), node_z(fetched, "sha256", ""));
	else if (!node_get(r, "broken"))
		buf_add_z(out, "fetched   none\n");
	if (node_get(r, "broken")) {
		buf_add_z(out, "fetched   broken, not used: ");
		term_clean(out, node_str(r, "broken", STR("")), true);
		buf_add_char(out, '\n');
	}
	buf_add_char(out, '\n');
	print_table(node_get(r, "models"), columns, out);
}

int
cmd_catalog_verify(struct cli *c, struct err *e)
{
	const struct node *result;
	struct buf out;
	int rc = call_once(c, API_CATALOG_VERIFY, STR("{}"), CONNECT_FRESH, &result, e);

	if (rc != 0)
		return rc;
	if (c->json) {
		rc = out_node(result, true, e);
	} else {
		buf_init(&out, JSON_TEXT_MAX);
		print_verified(result, &out);
		rc = out_take(&out, e);
	}
	return rc != 0 ? rc : node_bool(result, "ok", false) ? 0 : 1;
}

/* For completions: one name a line, nothing else. */
void
print_model_names(const struct node *r, struct buf *out)
{
	const struct node *list = node_get(r, "models");

	for (size_t i = 0; i < node_len(list); i++) {
		term_clean(out, node_str(node_at(list, i), "model", STR("")), true);
		buf_add_char(out, '\n');
	}
}
