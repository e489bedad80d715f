/* SPDX-License-Identifier: MIT
 * Vectors of texts, for whoever searches by meaning: cut into requests as large as the API takes, each retried like a model
 * call, gated by the provider's breaker, its money claimed before and durable before the answer is given. Belongs to no
 * turn: a crash loses it, and who asked asks again. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/mem.h"
#include "provider/breaker.h"

#include <stdlib.h>

#define BYTES_PER_TOKEN 4 /* where the server does not count */

struct embedding {
	struct embedding *next;
	struct engine *en;
	struct arena *a; /* of the whole; request and answer of one attempt are in own */
	struct arena *own;
	const char *owner, *agent;
	const struct str *texts;
	size_t n, at, part_n; /* texts; those before `at` are done; in the request under way */
	struct embed_request q;
	struct model_info info;
	const char *model;
	struct buf body, headers, answer;
	int status;
	struct fetch *fetch;
	struct timer *timer;
	struct breaker *breaker;
	enum breaker_pass pass;
	struct claim claim;
	int64_t failures;
	float *values;
	size_t dimensions;
	struct expense spent;
	struct err failed; /* why it ends without an answer */
	engine_embed_fn done;
	void *arg;
};

static void part_begin(struct embedding *x);

/* ---- the end ---- */

static void
breaker_end(struct embedding *x, enum breaker_outcome o)
{
	struct breaker *b = x->breaker;

	x->breaker = NULL;
	if (b != NULL && breaker_report(b, x->pass, o, loop_now_ms(x->en->parts.loop)))
		engine_breaker_changed(x->en, x->info.provider);
}

static void
part_end(struct embedding *x)
{
	if (x->fetch != NULL)
		fetch_cancel(x->fetch);
	x->fetch = NULL;
	breaker_end(x, BREAKER_NEITHER);
	money_release(x->en, &x->claim);
}

static void
embedding_free(struct embedding *x)
{
	struct embedding **at = &x->en->embeddings;

	part_end(x);
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	timer_close(x->timer);
	buf_fini(&x->body);
	buf_fini(&x->headers);
	buf_fini(&x->answer);
	free(x->values);
	arena_free(x->own);
	arena_free(x->a);
	free(x);
}

void
embeddings_free(struct engine *en)
{
	while (en->embeddings != NULL)
		embedding_free(en->embeddings);
}

static void
answer(struct embedding *x, const struct err *e)
{
	struct embed_answer out = { .model = x->model, .values = x->values, .n = x->n, .dimensions = x->dimensions,
		.input_tokens = x->spent.usage.input_tokens, .cost_microusd = x->spent.microusd };

	struct engine *en = x->en;

	x->done(x->arg, e == NULL ? &out : NULL, e);
	embedding_free(x);
	engine_changed(en);
}

static void
on_paid(void *arg, const struct err *e)
{
	struct embedding *x = arg;

	answer(x, e != NULL ? e : x->failed.code != 0 ? &x->failed : NULL);
}

/* Nothing is answered before what it cost is durable, be it a failure half-way. */
static void
finish(struct embedding *x, const struct err *e)
{
	struct batch *batch;

	part_end(x);
	if (e != NULL)
		err_copy(&x->failed, e);
	if (x->spent.usage.input_tokens == 0 && x->spent.microusd == 0) {
		answer(x, e);
		return;
	}
	batch = batch_new();
	money_project(batch, x->owner, x->agent, clock_wall_ms(), &x->spent);
	store_commit(x->en->parts.store, batch, on_paid, x);
}

/* ---- a request ---- */

static void
on_timer(void *arg)
{
	part_begin(arg);
}

static void
again_in(struct embedding *x, int64_t ms)
{
	timer_close(x->timer);
	x->timer = timer_start(x->en->parts.loop, ms, on_timer, x);
}

static void
part_failed(struct embedding *x, const struct failure *f)
{
	uint32_t r;

	breaker_end(x, breaker_outcome(f));
	part_end(x);
	if (!f->may_retry || x->failures >= x->info.retries) {
		finish(x, &f->e);
		return;
	}
	random_bytes(&r, sizeof r);
	x->failures++;
	again_in(x, retry_delay_ms(f, (int)x->failures, (double)r / 4294967296.0));
}

static void
part_error(struct embedding *x, const struct err *e)
{
	struct failure f;

	failure_from_err(x->info.api, arena_strdup(x->own, x->info.provider), e, &f);
	part_failed(x, &f);
}

static int
take_values(struct embedding *x, const struct embed_result *r, struct err *e)
{
	struct expense part = { .usage.input_tokens = r->input_tokens };
	size_t bytes = 0;

	if (x->at > 0 && r->dimensions != x->dimensions)
		return err_set(e, ERR_PROTO, ERR_TO_USER, "vectors of %zu and of %zu numbers in one answer", x->dimensions,
			r->dimensions);
	if (x->at == 0) {
		x->dimensions = r->dimensions;
		x->values = xcalloc(x->n * x->dimensions, sizeof *x->values);
	}
	memcpy(x->values + x->at * x->dimensions, r->values, r->n * x->dimensions * sizeof *x->values);
	for (size_t i = 0; part.usage.input_tokens == 0 && i < x->part_n; i++)
		bytes += x->texts[x->at + i].n;
	if (part.usage.input_tokens == 0)
		part.usage.input_tokens = (int64_t)(bytes / BYTES_PER_TOKEN + 1);
	part.microusd = model_cost(&x->info, &part.usage);
	x->spent.usage.input_tokens += part.usage.input_tokens;
	x->spent.microusd += part.microusd;
	money_ended(x->en, x->owner, x->agent, &part);
	return 0;
}

static void
part_done(struct embedding *x)
{
	struct embed_result r;
	struct err e = { 0 };

	if (x->info.api->embed_parse(&x->q, buf_str(&x->answer), x->own, &r, &e) != 0 || take_values(x, &r, &e) != 0) {
		part_error(x, &e);
		return;
	}
	breaker_end(x, BREAKER_OK);
	part_end(x);
	x->at += x->part_n;
	x->failures = 0;
	if (x->at == x->n)
		finish(x, NULL);
	else
		part_begin(x);
}

/* ---- through the broker ---- */

static void
on_head(void *arg, int status, struct str headers)
{
	struct embedding *x = arg;

	x->status = status;
	buf_reset(&x->headers);
	buf_reset(&x->answer);
	buf_add_str(&x->headers, headers);
}

static void
part_refused(struct embedding *x)
{
	struct failure f;

	failure_from_http(x->info.api, arena_strdup(x->own, x->info.provider), x->status, buf_str(&x->headers),
		buf_str(&x->answer), clock_wall_ms(), &f);
	part_failed(x, &f);
}

static void
on_data(void *arg, struct str bytes)
{
	struct embedding *x = arg;
	struct err e;

	if (x->status != 200) {
		buf_add_str(&x->answer, str_sub(bytes, 0, PROVIDER_ERROR_MAX - x->answer.n));
		if (x->answer.n == PROVIDER_ERROR_MAX) /* enough is known; it may never end */
			part_refused(x);
		return;
	}
	buf_add_str(&x->answer, bytes);
	if (!x->answer.overflow)
		return;
	err_set(&e, ERR_LIMIT, ERR_TO_USER, "an answer with vectors is larger than %u MiB", EMBED_ANSWER_MAX / MIB);
	part_error(x, &e);
}

static void
on_end(void *arg)
{
	struct embedding *x = arg;

	x->fetch = NULL;
	if (x->status == 200)
		part_done(x);
	else
		part_refused(x);
}

static void
on_fail(void *arg, const struct err *e)
{
	struct embedding *x = arg;

	x->fetch = NULL;
	part_error(x, e);
}

static const struct fetch_handler handler = { on_head, on_data, on_end, on_fail };

static int
claim(struct embedding *x, struct err *e)
{
	struct spender w = { NULL, x->owner, x->agent, x->en->parts.config };
	struct model_info input_only = x->info;
	const char *cap = "";
	size_t bytes = 0;
	int64_t cost;

	for (size_t i = 0; i < x->part_n; i++)
		bytes += x->texts[x->at + i].n;
	input_only.output_microusd_per_mtok = 0;
	cost = model_cost_bound(&input_only, model_tokens_bound(bytes));
	if (cost > money_left(x->en, &w, &cap))
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "limits.%s: the vectors of %zu texts do not fit into what is left of it", cap,
			x->part_n);
	money_claim(x->en, &x->claim, &w, cost);
	return 0;
}

/* Whether the provider may be called now; else this tries later, or has ended. */
static bool
is_admitted(struct embedding *x)
{
	struct breaker *b = engine_breaker(x->en, x->info.provider);
	int64_t wait_ms;
	struct err e;

	x->pass = breaker_ask(b, loop_now_ms(x->en->parts.loop), &wait_ms);
	if (x->pass != BREAKER_REFUSES) {
		x->breaker = b;
		return true;
	}
	if (b->state == BREAKER_HALF_OPEN || x->failures++ < x->info.retries) { /* a probe ends by itself */
		part_end(x);
		again_in(x, wait_ms);
		return false;
	}
	err_set(&e, ERR_PROVIDER, ERR_TO_USER, "%.*s: not called for another %lld ms, it failed %d times in a row",
		STR_FMT(x->info.provider), (long long)wait_ms, BREAKER_FAILURES);
	finish(x, &e);
	return false;
}

static void
part_begin(struct embedding *x)
{
	struct http_request http = { .body = &x->body };
	struct fetch_request f;
	struct err e = { 0 };

	arena_reset(x->own);
	buf_reset(&x->body);
	buf_reset(&x->answer);
	x->part_n = MIN(x->n - x->at, MIN(x->info.api->embed_max, EMBED_TEXTS_MAX));
	x->q.texts = x->texts + x->at;
	x->q.n = x->part_n;
	if (claim(x, &e) != 0 || x->info.api->embed_build(&x->q, &http, x->own, &e) != 0) {
		finish(x, &e);
		return;
	}
	if (!is_admitted(x))
		return;
	f = (struct fetch_request){ .provider = arena_strdup(x->own, x->info.provider), .path = http.path,
		.headers = http.headers, .body = buf_str(&x->body), .connect_ms = x->info.connect_ms,
		.idle_ms = x->info.idle_ms };
	if (broker_fetch(x->en->parts.broker, &f, &handler, x, &x->fetch, &e) != 0)
		part_error(x, &e);
}

/* ---- asking ---- */

static int
resolve(struct engine *en, const struct embed_spec *spec, struct arena *a, const char **model, struct model_info *info,
	struct err *e)
{
	const char *name = spec->model.n > 0 ? arena_strdup(a, spec->model) : role_model(en->parts.config, ROLE_EMBEDDING);
	int rc;

	if (name == NULL)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"no model for vectors is set (set models.embedding to provider/model, for instance ollama/nomic-embed-text)");
	*model = arena_strdup(a, str_of(name));
	rc = model_resolve(en->parts.config, str_of(name), a, info, e);
	if (rc == 0 && info->api->embed_build == NULL)
		rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "%s: the API %s gives no vectors (choose another models.embedding)", name,
			info->api->name);
	return rc;
}

static int
copy_texts(struct embedding *x, const struct embed_spec *spec, struct err *e)
{
	struct str *texts;

	if (spec->n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "texts: there is none");
	texts = arena_alloc(x->a, spec->n * sizeof *texts);
	for (size_t i = 0; i < spec->n; i++) {
		if (str_trim(spec->texts[i]).n == 0)
			return err_set(e, ERR_INVALID, ERR_TO_USER, "texts[%zu] is empty: it has no vector", i);
		texts[i] = arena_str(x->a, spec->texts[i]);
	}
	x->texts = texts;
	x->n = spec->n;
	return 0;
}

int
engine_embed(struct engine *en, const struct embed_spec *spec, engine_embed_fn done, void *arg, struct err *e)
{
	struct embedding *x = xcalloc(1, sizeof *x);
	int rc;

	*x = (struct embedding){ .next = en->embeddings, .en = en, .done = done, .arg = arg };
	en->embeddings = x;
	x->a = arena_new(TURN_ARENA_MAX);
	x->own = arena_new(EMBED_TREE_MAX + EMBED_ANSWER_MAX);
	buf_init(&x->body, REQUEST_BODY_MAX);
	buf_init(&x->headers, 64 * KIB);
	buf_init(&x->answer, EMBED_ANSWER_MAX);
	x->owner = arena_strdup(x->a, spec->owner);
	x->agent = arena_strdup(x->a, spec->agent);
	rc = copy_texts(x, spec, e);
	if (rc == 0)
		rc = resolve(en, spec, x->a, &x->model, &x->info, e);
	if (rc != 0) {
		embedding_free(x);
		return rc;
	}
	x->q = (struct embed_request){ .model = x->info.model, .dimensions = spec->dimensions, .is_query = spec->is_query };
	again_in(x, 0); /* the callback never comes inside the call */
	engine_changed(en);
	return 0;
}
