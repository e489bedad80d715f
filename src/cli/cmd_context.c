/* SPDX-License-Identifier: MIT
 * `context`: the parts of the next request as a table, and what they come to. */
#include <inttypes.h>
#include "cli/internal.h"
#include "cli/live.h"

#define WHAT_MAX 48 /* columns */

static void
add_share(struct buf *b, int64_t tokens, int64_t window)
{
	int64_t permille = window > 0 ? tokens * 1000 / window : 0;

	buf_printf(b, "%" PRId64 ".%" PRId64 "%%", permille / 10, permille % 10);
}

/* A row for print_table: texts of people in place of numbers. */
static void
write_part(const struct node *part, int64_t window, struct json *j)
{
	struct buf b;

	buf_init(&b, 4096);
	json_obj(j);
	json_kv_node(j, "kind", node_get(part, "kind"));
	add_cut(&b, node_str(part, "what", STR("")), WHAT_MAX, true);
	json_kv_str(j, "what", buf_str(&b));
	if (node_get(part, "turn"))
		json_kv_node(j, "turn", node_get(part, "turn"));
	json_kv_node(j, "bytes", node_get(part, "bytes"));
	json_kv_node(j, "tokens", node_get(part, "tokens"));
	buf_reset(&b);
	add_share(&b, node_int(part, "tokens", 0), window);
	json_kv_str(j, "share", buf_str(&b));
	json_kv_node(j, "fresh_microusd", node_get(part, "fresh_microusd"));
	json_kv_node(j, "cached_microusd", node_get(part, "cached_microusd"));
	json_kv_z(j, "sent", node_bool(part, "stable", false) ? "sent" : "new");
	if (node_get(part, "drops"))
		json_kv_node(j, "drops", node_get(part, "drops"));
	json_kv_node(j, "why", node_get(part, "why"));
	json_obj_end(j);
	buf_fini(&b);
}

static void
print_parts(const struct node *result, struct buf *out)
{
	static const struct column columns[] = {
		{ "kind", "PART" },
		{ "what", "WHAT" },
		{ "turn", "TURN", COLUMN_VALUE },
		{ "bytes", "BYTES", COLUMN_NUMBER },
		{ "tokens", "TOKENS", COLUMN_NUMBER },
		{ "share", "WINDOW" },
		{ "fresh_microusd", "FRESH", COLUMN_MONEY },
		{ "cached_microusd", "CACHED", COLUMN_MONEY },
		{ "sent", "LAST CALL" },
		{ "drops", "DROPPED", COLUMN_VALUE },
		{ "why", "WHY" },
		{ 0 },
	};
	const struct node *parts = node_get(result, "parts"), *rows;
	struct arena *a = arena_new(64 << 20);
	struct buf b;
	struct json j;

	buf_init(&b, 16 << 20);
	json_init(&j, &b);
	json_arr(&j);
	for (size_t i = 0; i < node_len(parts); i++)
		write_part(node_at(parts, i), node_int(result, "window_tokens", 0), &j);
	json_arr_end(&j);
	if (json_parse(a, buf_str(&b), &rows, NULL) == 0)
		print_table(rows, columns, out);
	buf_fini(&b);
	arena_free(a);
}

static void
print_sums(const struct node *r, struct buf *out)
{
	int64_t window = node_int(r, "window_tokens", 0), dropped = node_int(r, "dropped_turns", 0);

	buf_printf(out, "\nsum           %" PRId64 " bytes, about %" PRId64 " tokens, ",
		node_int(r, "bytes", 0), node_int(r, "tokens", 0));
	add_share(out, node_int(r, "tokens", 0), window);
	buf_printf(out, " of the window of %" PRId64 "; ", window);
	add_money(out, node_int(r, "fresh_microusd", 0));
	buf_add_z(out, " fresh, ");
	add_money(out, node_int(r, "cached_microusd", 0));
	buf_add_z(out, " with what was sent cached\n");
	buf_printf(out, "stable prefix %" PRId64 " bytes, about %" PRId64 " tokens",
		node_int(r, "stable_bytes", 0), node_int(r, "stable_tokens", 0));
	if (node_int(r, "cache_marks", 0) > 0)
		buf_printf(out, "; %" PRId64 " marks for the server's cache",
			node_int(r, "cache_marks", 0));
	buf_add_char(out, '\n');
	if (dropped > 0)
		buf_printf(out, "left out      the oldest %" PRId64 " turn%s\n", dropped,
			dropped == 1 ? "" : "s");
}

static void
print_last_call(const struct node *last, struct buf *out)
{
	if (!last)
		return;
	buf_printf(out,
		"last call     %" PRId64 " tokens in, %" PRId64 " of them cached, %" PRId64
		" written to the cache; %" PRId64 " out; ",
		node_int(last, "input_tokens", 0), node_int(last, "cached_tokens", 0),
		node_int(last, "cache_write_tokens", 0), node_int(last, "output_tokens", 0));
	add_money(out, node_int(last, "cost_microusd", 0));
	buf_add_char(out, '\n');
}

void
print_context(const struct node *r, struct buf *out)
{
	static const struct column head[] = { { "session", "session" }, { "model", "model" },
		{ "api", "api" }, { 0 } };

	print_row(r, head, out);
	buf_add_char(out, '\n');
	print_parts(r, out);
	print_sums(r, out);
	print_last_call(node_get(r, "last_call"), out);
}
