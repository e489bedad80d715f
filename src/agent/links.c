/* SPDX-License-Identifier: MIT
 * What the engine keeps for each provider: the breaker that says whether it may be called now, and the open offline model. */
#include "agent/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "provider/breaker.h"

#include <stdlib.h>

#define SCRIPT_MAX (1 * MIB)

/* ---- breakers ---- */

struct guarded {
	struct guarded *next;
	char *provider;
	struct breaker breaker;
};

struct breaker *
engine_breaker(struct engine *en, struct str provider)
{
	struct guarded *g = en->breakers;

	while (g != NULL && !str_is(provider, g->provider))
		g = g->next;
	if (g == NULL) {
		g = xcalloc(1, sizeof *g);
		g->provider = str_dup(provider);
		g->next = en->breakers;
		en->breakers = g;
	}
	return &g->breaker;
}

void
engine_breaker_changed(struct engine *en, struct str provider)
{
	const struct breaker *b = engine_breaker(en, provider);

	if (b->state == BREAKER_CLOSED)
		log_info("the breaker of a provider is closed: it answers again", LOG_SV("provider", provider));
	else
		log_warn("the breaker of a provider is open: it is not called for a while", LOG_SV("provider", provider),
			LOG_I("ms", b->cool_ms));
}

void
engine_tell_degraded(struct engine *en, engine_degraded_fn fn, void *arg)
{
	en->degraded = fn;
	en->degraded_arg = arg;
}

void
engine_each_breaker(const struct engine *en, engine_breaker_fn fn, void *arg)
{
	int64_t now_ms = loop_now_ms(en->parts.loop);

	for (const struct guarded *g = en->breakers; g != NULL; g = g->next)
		if (g->breaker.state != BREAKER_CLOSED)
			fn(arg, g->provider, breaker_state_name(g->breaker.state), MAX(g->breaker.until_ms - now_ms, 0));
}

/* ---- offline models ---- */

struct scripted {
	struct scripted *next;
	char *provider;
	struct offline *model;
};

int
engine_offline(struct engine *en, const struct model_info *m, const struct offline **out, struct err *e)
{
	struct arena *a = arena_new(64 * KIB);
	const char *key = arena_printf(a, "providers.%.*s.script", STR_FMT(m->provider));
	const struct node *script = config_get(en->parts.config, key);
	AUTO_FREE char *text = NULL;
	struct scripted *x = en->offline;
	const char *path = "the built-in rules";
	size_t n = 0;
	int rc = 0;

	while (x != NULL && !str_is(m->provider, x->provider))
		x = x->next;
	if (x == NULL && node_is(script, NODE_STR)) {
		path = path_join(a, en->parts.home, script->s.p);
		rc = hostfiles_read(en->parts.files, path, SCRIPT_MAX, &text, &n, e);
	}
	if (x == NULL && rc == 0) {
		struct offline *model;

		rc = offline_open(path, (struct str){ text, n }, &model, e);
		if (rc == 0) {
			x = xcalloc(1, sizeof *x);
			x->provider = str_dup(m->provider);
			x->model = model;
			x->next = en->offline;
			en->offline = x;
		}
	}
	arena_free(a);
	if (rc == 0)
		*out = x->model;
	return rc;
}

void
engine_links_free(struct engine *en)
{
	while (en->breakers != NULL) {
		struct guarded *g = en->breakers;

		en->breakers = g->next;
		free(g->provider);
		free(g);
	}
	while (en->offline != NULL) {
		struct scripted *x = en->offline;

		en->offline = x->next;
		offline_close(x->model);
		free(x->provider);
		free(x);
	}
}
