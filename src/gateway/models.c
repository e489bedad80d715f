/* SPDX-License-Identifier: MIT
 * Handler of model.embed: vectors of texts, by the model that the configuration gives that role. */
#include "gateway/internal.h"

#include "base/limits.h"

#include <stdio.h>

static void
write_vectors(struct json *j, const struct embed_answer *a)
{
	char number[32];

	json_kv_arr(j, "vectors");
	for (size_t i = 0; i < a->n; i++) {
		json_arr(j);
		for (size_t k = 0; k < a->dimensions; k++) {
			/* Nine digits give the same float again. */
			snprintf(number, sizeof number, "%.9g", (double)a->values[i * a->dimensions + k]);
			json_raw(j, str_of(number));
		}
		json_arr_end(j);
	}
	json_arr_end(j);
}

static void
on_vectors(void *arg, const struct embed_answer *a, const struct err *e)
{
	struct request *q = arg;
	struct json *j;

	if (reply_failed(q, e))
		return;
	j = reply_begin(q);
	json_kv_z(j, "model", a->model);
	json_kv_int(j, "dimensions", (int64_t)a->dimensions);
	json_kv_obj(j, "usage");
	json_kv_int(j, "input_tokens", a->input_tokens);
	json_obj_end(j);
	json_kv_int(j, "cost_microusd", a->cost_microusd);
	write_vectors(j, a);
	reply_end(q);
}

void
handle_model_embed(struct request *q)
{
	const struct node *list = node_get(q->params, "texts");
	size_t n = node_len(list);
	struct str *texts = arena_alloc(q->a, (n + 1) * sizeof *texts);
	struct embed_spec spec = { .owner = STR(OWNER), .agent = STR("default"), .texts = texts, .n = n,
		.model = node_str(q->params, "model", STR("")), .dimensions = node_int(q->params, "dimensions", 0),
		.is_query = node_bool(q->params, "query", false) };
	struct err e = { 0 };

	for (size_t i = 0; i < n; i++)
		texts[i] = node_at(list, i)->s;
	if (engine_embed(q->g->parts.engine, &spec, on_vectors, q, &e) != 0)
		reply_error(q, &e);
}
