/* SPDX-License-Identifier: MIT
 * Handlers of catalog.*, and the fetched catalog on disk: state/catalog.json is written whole after it
 * was checked, read at start, and ignored with a word about it when it is broken. A start never needs
 * the network: only catalog.fetch asks, through the broker, at the address that catalog.url names. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

#include <stdio.h>
#include <stdlib.h>

#define BROKER_WAIT_MS 15000 /* for a broker that is just starting */
#define SKIPPED_MAX    20    /* rows that were left out, by name */

/* ---- the kept file ---- */

static char *
kept_path(struct arena *a, const char *home)
{
	return path_join(a, home, "state/catalog.json");
}

/* 0 with *out NULL when there is none. */
static int
kept_read(const char *home, struct catalog **out, struct err *e)
{
	struct arena *a = arena_new(64 * KIB);
	const char *path = kept_path(a, home);
	AUTO_FREE char *text = NULL;
	size_t n = 0;
	int rc = file_read(path, CATALOG_TEXT_MAX, &text, &n, e);

	*out = NULL;
	if (rc == 0)
		rc = catalog_read((struct str){ text, n }, out, e);
	else if (rc == ERR_NOT_FOUND)
		rc = 0;
	if (rc != 0)
		err_wrap(e, "%s", path);
	arena_free(a);
	return rc;
}

void
gateway_load_catalog(struct config *c, const char *home)
{
	struct catalog *fetched;
	struct err e = { 0 };

	if (kept_read(home, &fetched, &e) != 0)
		log_warn("the fetched model catalog is not used", LOG_E(&e));
	else if (fetched != NULL)
		config_attach(c, fetched, catalog_free);
}

int
gateway_check_catalog(const char *home, struct err *e)
{
	struct catalog *kept = NULL;
	int rc = kept_read(home, &kept, e);

	catalog_free(kept);
	return rc;
}

/* ---- catalog.show ---- */

struct show {
	struct request *q;
	struct json *j;
	struct str only; /* a model's id without a provider; empty: all */
	const char **seen;
	size_t seen_n, seen_cap;
};

static void
write_model(struct show *s, const char *name, const struct model_info *m)
{
	struct json *j = s->j;

	json_obj(j);
	json_kv_z(j, "model", name);
	json_kv_z(j, "api", m->api->name);
	json_kv_int(j, "context", m->context_tokens);
	json_kv_int(j, "max_output", m->max_output_tokens);
	json_key(j, "input");
	model_write_input(m, j);
	json_kv_bool(j, "tools", m->has_tools);
	json_kv_bool(j, "reasoning", m->has_reasoning);
	json_kv_bool(j, "structured_output", m->has_schema);
	if (m->has_price) {
		json_kv_int(j, "input_microusd_per_mtok", m->input_microusd_per_mtok);
		json_kv_int(j, "output_microusd_per_mtok", m->output_microusd_per_mtok);
		json_kv_int(j, "cached_microusd_per_mtok", m->cached_microusd_per_mtok);
		json_kv_int(j, "cache_write_microusd_per_mtok", m->cache_write_microusd_per_mtok);
	}
	if (m->long_tokens > 0) {
		json_kv_obj(j, "long_prompts");
		json_kv_int(j, "over_tokens", m->long_tokens);
		json_kv_int(j, "input_percent", m->long_input_percent);
		json_kv_int(j, "output_percent", m->long_output_percent);
		json_obj_end(j);
	}
	json_kv_z(j, "source", catalog_source_name(m->source));
	if (m->knowledge != NULL)
		json_kv_z(j, "knowledge", m->knowledge);
	if (m->status != NULL)
		json_kv_z(j, "status", m->status);
	json_obj_end(j);
}

static bool
is_seen(struct show *s, const char *name)
{
	for (size_t i = 0; i < s->seen_n; i++)
		if (strcmp(s->seen[i], name) == 0)
			return true;
	s->seen = vec_grow(s->seen, &s->seen_cap, s->seen_n + 1, sizeof *s->seen);
	s->seen[s->seen_n++] = name;
	return false;
}

static void
show_model(void *arg, const char *provider, const char *model)
{
	struct show *s = arg;
	const char *name = arena_printf(s->q->a, "%s/%s", provider, model);
	struct model_info m;

	if ((s->only.n > 0 && !str_is(s->only, model)) || is_seen(s, name))
		return;
	if (model_resolve(s->q->g->parts.config, str_of(name), s->q->a, &m, NULL) == 0)
		write_model(s, name, &m);
}

/* Providers that are built in, then those of the configuration. */
static void
show_all(struct show *s)
{
	const struct config *c = s->q->g->parts.config;
	const struct node *own = config_get(c, "providers");
	const char *name;

	for (size_t i = 0; (name = provider_builtin_name(i)) != NULL; i++)
		catalog_each_model(c, str_of(name), show_model, s);
	for (size_t i = 0; i < node_len(own); i++)
		catalog_each_model(c, own->map.pairs[i].key, show_model, s);
}

static void
write_catalog(struct json *j, const char *key, const struct catalog *c)
{
	struct catalog_facts f;

	catalog_facts(c, &f);
	json_kv_obj(j, key);
	json_kv_int(j, "models", (int64_t)f.models);
	json_kv_z(j, "sha256", f.digest);
	if (c == NULL)
		json_kv_z(j, "date", CATALOG_DATE);
	if (f.fetched_at != NULL)
		json_kv_z(j, "fetched_at", f.fetched_at);
	if (f.url != NULL)
		json_kv_z(j, "url", f.url);
	json_obj_end(j);
}

/* Of one model that is asked for by its whole name, the error says what is near. */
static int
show_named(struct show *s, struct str name, struct err *e)
{
	const struct config *c = s->q->g->parts.config;
	struct provider_info p;
	struct model_info m;
	int rc;

	if (str_find_char(name, '/') > 0) {
		rc = model_resolve(c, name, s->q->a, &m, e);
		if (rc == 0)
			write_model(s, arena_strdup(s->q->a, name), &m);
		return rc;
	}
	if (provider_resolve(c, name, s->q->a, &p, e) == 0) {
		catalog_each_model(c, name, show_model, s);
		return 0;
	}
	s->only = name;
	show_all(s);
	return s->seen_n > 0 ? 0 : ERR_CONFIG; /* e: no such provider */
}

void
handle_catalog_show(struct request *q)
{
	struct str name = node_str(q->params, "name", STR(""));
	const struct catalog *fetched = config_attached(q->g->parts.config);
	struct show s = { .q = q };
	struct err e = { 0 };
	int rc = 0;

	s.j = reply_begin(q);
	write_catalog(s.j, "snapshot", NULL);
	if (fetched != NULL)
		write_catalog(s.j, "fetched", fetched);
	json_kv_arr(s.j, "models");
	if (name.n > 0)
		rc = show_named(&s, name, &e);
	else
		show_all(&s);
	free(s.seen);
	if (rc != 0) {
		if (e.code == ERR_CONFIG)
			e.code = ERR_NOT_FOUND;
		reply_error(q, &e);
		return;
	}
	json_arr_end(s.j);
	reply_end(q);
}

/* ---- catalog.verify ---- */

struct verify {
	struct request *q;
	struct json *j;
	bool is_ok;
};

static void
verify_model(struct verify *v, const char *key, struct str name)
{
	struct model_info m;
	struct err e = { 0 };
	int rc = model_resolve(v->q->g->parts.config, name, v->q->a, &m, &e);
	const char *notice = rc == 0 ? model_notice(&m, v->q->a) : NULL;

	v->is_ok = v->is_ok && rc == 0;
	json_obj(v->j);
	json_kv_z(v->j, "key", key);
	json_kv_str(v->j, "model", name);
	json_kv_bool(v->j, "ok", rc == 0);
	json_kv_z(v->j, "source", rc == 0 ? catalog_source_name(m.source) : "");
	json_kv_z(v->j, "text", rc != 0 ? e.msg : notice != NULL ? notice : "");
	json_obj_end(v->j);
}

static void
verify_models(struct verify *v)
{
	const struct config *c = v->q->g->parts.config;
	const struct node *roles = config_get(c, "models");

	verify_model(v, "model", str_of(config_z(c, "model")));
	for (size_t i = 0; i < node_len(roles); i++) {
		const struct node_pair *p = &roles->map.pairs[i];
		const char *key = arena_printf(v->q->a, "models.%s", p->key.p);

		if (node_is(&p->value, NODE_STR))
			verify_model(v, key, p->value.s);
		for (size_t k = 0; node_is(&p->value, NODE_LIST) && k < node_len(&p->value); k++)
			if (node_is(node_at(&p->value, k), NODE_STR))
				verify_model(v, key, node_at(&p->value, k)->s);
	}
}

static void
verify_kept(struct verify *v)
{
	struct catalog *kept = NULL;
	struct err e = { 0 };

	if (kept_read(v->q->g->parts.home, &kept, &e) != 0) {
		v->is_ok = false;
		json_kv_z(v->j, "broken", e.msg);
	} else if (kept != NULL) {
		write_catalog(v->j, "fetched", kept);
	}
	catalog_free(kept);
}

void
handle_catalog_verify(struct request *q)
{
	struct verify v = { .q = q, .is_ok = true };

	v.j = reply_begin(q);
	write_catalog(v.j, "snapshot", NULL);
	json_kv_z(v.j, "file", kept_path(q->a, q->g->parts.home));
	verify_kept(&v);
	json_kv_arr(v.j, "models");
	verify_models(&v);
	json_arr_end(v.j);
	json_kv_bool(v.j, "ok", v.is_ok);
	reply_end(q);
}

/* ---- catalog.fetch: one at a time ---- */

struct catalog_fetch {
	struct request *q;
	const char *url; /* in q->a */
	struct fetch *fetch; /* NULL: waits for the broker */
	struct timer *timer; /* how long it waits for that */
	struct buf body;
	int status;
	char location[512];
};

static void
fetch_free(struct catalog_fetch *f)
{
	f->q->g->catalog_fetch = NULL;
	timer_close(f->timer);
	if (f->fetch != NULL)
		fetch_cancel(f->fetch);
	buf_fini(&f->body);
	free(f);
}

static void
fetch_fail(struct catalog_fetch *f, struct err *e)
{
	struct request *q = f->q;

	err_wrap(e, "catalog fetch from %s", f->url);
	fetch_free(f);
	reply_error(q, e);
}

static void
on_head(void *arg, int status, struct str headers)
{
	struct catalog_fetch *f = arg;
	struct str line;

	f->status = status;
	while (str_next(&headers, '\n', &line))
		if (str_starts(line, "location: "))
			(void)snprintf(f->location, sizeof f->location, "%.*s", STR_FMT(str_sub(line, 10, line.n)));
}

static void
on_data(void *arg, struct str bytes)
{
	struct catalog_fetch *f = arg;
	struct err e;

	if (buf_add_str(&f->body, bytes) == 0)
		return;
	err_set(&e, ERR_LIMIT, ERR_TO_USER, "it is larger than %u MiB (is catalog.url right?)", CATALOG_TEXT_MAX / MIB);
	fetch_fail(f, &e);
}

static void
on_fail(void *arg, const struct err *e)
{
	struct catalog_fetch *f = arg;
	struct err copy = *e;

	f->fetch = NULL; /* it is gone */
	fetch_fail(f, &copy);
}

struct skipped {
	struct json j;
	struct buf b;
	size_t n;
};

static void
on_bad(void *arg, const char *vendor, const char *model, const char *why)
{
	struct skipped *s = arg;

	if (s->n++ >= SKIPPED_MAX)
		return;
	json_obj(&s->j);
	json_kv_z(&s->j, "vendor", vendor);
	json_kv_z(&s->j, "model", model);
	json_kv_z(&s->j, "why", why);
	json_obj_end(&s->j);
}

/* Checks everything before anything changes; then the file, then the memory. */
static int
take_catalog(struct catalog_fetch *f, struct skipped *skipped, struct catalog **out, struct err *e)
{
	struct request *q = f->q;
	bool is_dry = node_bool(q->params, "dry_run", false);
	const char *path = kept_path(q->a, q->g->parts.home);
	struct buf text;
	int rc = catalog_import(buf_str(&f->body), catalog_vendors(q->g->parts.config, q->a), on_bad, skipped, out, e);

	if (rc != 0 || is_dry)
		return rc;
	buf_init(&text, CATALOG_TEXT_MAX);
	catalog_write(*out, f->url, clock_wall_ms(), &text);
	rc = text.overflow ? err_set(e, ERR_LIMIT, ERR_TO_USER, "the catalog is larger than %u MiB", CATALOG_TEXT_MAX / MIB) :
			     path_mkdirs(path_join(q->a, q->g->parts.home, "state"), 0700, e);
	if (rc == 0)
		rc = file_write(path, buf_str(&text), 0600, e);
	buf_fini(&text);
	if (rc != 0)
		catalog_free(*out);
	return rc;
}

static void
reply_fetched(struct catalog_fetch *f, struct skipped *skipped, struct catalog *c)
{
	struct request *q = f->q;
	bool is_dry = node_bool(q->params, "dry_run", false);
	struct json *j = reply_begin(q);

	json_kv_z(j, "url", f->url);
	json_kv_int(j, "bytes", (int64_t)f->body.n);
	json_kv_bool(j, "written", !is_dry);
	json_kv_z(j, "file", kept_path(q->a, q->g->parts.home));
	write_catalog(j, "catalog", c);
	json_key(j, "changes");
	catalog_changes(config_attached(q->g->parts.config), c, j);
	json_arr_end(&skipped->j);
	json_kv_raw(j, "skipped", buf_str(&skipped->b));
	json_kv_int(j, "skipped_models", (int64_t)skipped->n);
	fetch_free(f);
	if (is_dry)
		catalog_free(c);
	else
		config_attach(q->g->parts.config, c, catalog_free);
	reply_end(q);
}

static void
on_end(void *arg)
{
	struct catalog_fetch *f = arg;
	struct skipped skipped = { 0 };
	struct catalog *c;
	struct err e = { 0 };

	f->fetch = NULL;
	buf_init(&skipped.b, 64 * KIB);
	json_init(&skipped.j, &skipped.b);
	json_arr(&skipped.j);
	if (f->status >= 300 && f->status < 400)
		err_set(&e, ERR_NET, ERR_TO_USER, "status %d, it has moved to %.120s (set catalog.url)", f->status,
			f->location[0] != '\0' ? f->location : "an address that it does not say");
	else if (f->status != 200)
		err_set(&e, ERR_NET, ERR_TO_USER, "the server answered with status %d (is catalog.url right?)", f->status);
	else
		take_catalog(f, &skipped, &c, &e);
	if (e.code != 0)
		fetch_fail(f, &e);
	else
		reply_fetched(f, &skipped, c);
	buf_fini(&skipped.b);
}

static const struct fetch_handler fetch_callbacks = { .on_head = on_head, .on_data = on_data, .on_end = on_end,
	.on_fail = on_fail };

static void
fetch_begin(struct catalog_fetch *f)
{
	struct fetch_request r = { .provider = CATALOG_UPSTREAM, .headers = STR("accept: application/json\n") };
	struct str base;
	struct err e = { 0 };

	timer_stop(f->timer);
	if (catalog_url_split(str_of(f->url), &base, &r.path, &e) != 0 ||
		broker_fetch(f->q->g->parts.broker, &r, &fetch_callbacks, f, &f->fetch, &e) != 0)
		fetch_fail(f, &e);
}

static void
on_broker_late(void *arg)
{
	struct err e;

	err_set(&e, ERR_GONE, ERR_TO_USER, "the broker is not running (see logs/broker.log)");
	fetch_fail(arg, &e);
}

void
gateway_broker_up(struct gateway *g)
{
	if (g->catalog_fetch != NULL && g->catalog_fetch->fetch == NULL)
		fetch_begin(g->catalog_fetch);
}

void
catalog_fetch_stop(struct gateway *g)
{
	struct request *q;
	struct err e;

	if (g->catalog_fetch == NULL)
		return;
	q = g->catalog_fetch->q;
	fetch_free(g->catalog_fetch);
	err_set(&e, ERR_GONE, ERR_TO_USER, "the runtime is ending (try again)");
	reply_error(q, &e);
}

void
handle_catalog_fetch(struct request *q)
{
	struct catalog_fetch *f;
	struct err e;

	if (q->g->catalog_fetch != NULL) {
		err_set(&e, ERR_BUSY, ERR_TO_USER, "the catalog is being fetched already (wait for it to end)");
		reply_error(q, &e);
		return;
	}
	f = xcalloc(1, sizeof *f);
	f->q = q;
	f->url = config_z(q->g->parts.config, "catalog.url");
	f->timer = timer_start(q->g->parts.loop, BROKER_WAIT_MS, on_broker_late, f);
	buf_init(&f->body, CATALOG_TEXT_MAX);
	q->g->catalog_fetch = f;
	if (broker_is_up(q->g->parts.broker))
		fetch_begin(f);
}
