/* SPDX-License-Identifier: MIT
 * Handlers of secret.*, and what doctor says about keys. The runtime keeps the file of sealed secrets and passes it on; it
 * has no key to open it with. Invariant: the file is replaced whole or not at all, and one that cannot be read is never
 * written over. */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define KEYRING_WAIT_MS 5000 /* for a broker that starts */

/* ---- waiting for what the broker says ---- */

struct keyring_wait {
	struct keyring_wait *next;
	struct request *q;
	void (*then)(struct request *q);
	struct timer *timer;
};

static struct request *
wait_forget(struct keyring_wait *w)
{
	struct request *q = w->q;
	struct keyring_wait **at = &q->g->keyring_waits;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	timer_close(w->timer);
	free(w);
	return q;
}

static void
wait_end(struct keyring_wait *w)
{
	void (*then)(struct request *) = w->then;

	then(wait_forget(w));
}

static void
on_wait_timer(void *arg)
{
	wait_end(arg);
}

static void
on_keyring(void *arg)
{
	struct gateway *g = arg;

	while (g->keyring_waits != NULL && broker_keyring(g->parts.broker) != NULL)
		wait_end(g->keyring_waits);
}

/* Goes on once the broker has said what it has, or does not say it in time. */
static void
with_keyring(struct request *q, void (*then)(struct request *q))
{
	struct keyring_wait *w;

	if (broker_keyring(q->g->parts.broker) != NULL) {
		then(q);
		return;
	}
	w = xcalloc(1, sizeof *w);
	*w = (struct keyring_wait){ .next = q->g->keyring_waits, .q = q, .then = then };
	w->timer = timer_start(q->g->parts.loop, KEYRING_WAIT_MS, on_wait_timer, w);
	q->g->keyring_waits = w;
}

void
secrets_open(struct gateway *g)
{
	if (g->parts.broker != NULL)
		broker_on_keyring(g->parts.broker, on_keyring, g);
}

void
secrets_close(struct gateway *g)
{
	if (g->parts.broker != NULL)
		broker_on_keyring(g->parts.broker, NULL, NULL);
	while (g->keyring_waits != NULL) {
		struct err e;

		/* Nothing that a handler would need is there any more. */
		err_set(&e, ERR_GONE, ERR_TO_USER, "Ithaca is stopping");
		reply_error(wait_forget(g->keyring_waits), &e);
	}
}

static bool
need_keyring(struct request *q, const struct node **keyring)
{
	struct err e;

	*keyring = broker_keyring(q->g->parts.broker);
	if (*keyring != NULL)
		return true;
	err_set(&e, ERR_GONE, ERR_TO_USER, "the broker, which opens secrets, is not running (see logs/broker.log)");
	reply_error(q, &e);
	return false;
}

/* ---- the file ---- */

static const char *
secrets_path(struct request *q)
{
	return path_join(q->a, q->g->parts.home, "secrets");
}

static int
read_file(struct request *q, const struct node **list, struct err *e)
{
	AUTO_FREE char *text = NULL;
	const char *path = secrets_path(q);
	size_t n = 0;
	int rc = hostfiles_read(q->g->parts.files, path, SECRETS_FILE_MAX, &text, &n, e);

	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	e->code = 0;
	if (sealed_parse(q->a, (struct str){ text, n }, list, e) == 0)
		return 0;
	return err_wrap(e, "%s cannot be read (restore it from a backup, or move it away)", path);
}

static int
write_file(struct request *q, const struct node *list, struct str without, const struct node *with, struct err *e)
{
	struct buf out;
	int rc;

	buf_init(&out, SECRETS_FILE_MAX);
	rc = sealed_write(&out, list, without, with, e);
	if (rc == 0)
		rc = hostfiles_write(q->g->parts.files, secrets_path(q), buf_str(&out), e);
	if (rc == 0)
		broker_secrets(q->g->parts.broker, buf_str(&out));
	buf_fini(&out);
	return rc;
}

/* ---- secret.key: what a client needs to seal one ---- */

static bool
refers(const struct node *value, struct str name)
{
	struct str to = field_secret_name(value);

	return to.n > 0 && str_eq(to, name);
}

/* "https://api.example.com" of a base URL. */
static struct str
origin_of(struct str url)
{
	size_t start = (size_t)str_find(url, STR("://")) + 3;
	ptrdiff_t end = str_find_char(str_sub(url, start, url.n), '/');

	return end < 0 ? url : str_sub(url, 0, start + (size_t)end);
}

/* Servers behind the proxy of cells have keys as providers do. */
static void
write_wanted_services(struct request *q, struct str name, const char *placeholder, struct json *hosts, bool *in_url)
{
	const struct node *services = config_get(q->g->parts.config, "egress.services");

	for (size_t i = 0; name.n > 0 && i < node_len(services); i++) {
		const struct node *s = &services->map.pairs[i].value;
		struct str url = node_str(s, "url", STR(""));
		bool is_in_url = str_find(url, str_of(placeholder)) >= 0;

		if ((is_in_url || refers(node_get(s, "key"), name)) && str_find(url, STR("://")) >= 0)
			json_str(hosts, origin_of(url));
		*in_url = *in_url || is_in_url;
	}
}

/* Which servers the configuration would send it to, so that a person need not write them again. */
static void
write_wanted(struct request *q, struct str name, struct json *hosts, bool *in_url)
{
	const struct node *providers = config_get(q->g->parts.config, "providers");
	const char *placeholder = arena_printf(q->a, "{secret:%.*s}", STR_FMT(name));

	for (size_t i = 0; name.n > 0 && i < node_len(providers); i++) {
		const struct node *p = &providers->map.pairs[i].value, *headers = node_get(p, "headers");
		const struct provider_api *api = provider_api_find(node_str(p, "api", STR("")));
		struct str url = node_str(p, "base_url", str_of(api != NULL ? api->base_url : NULL));
		bool is_in_url = str_find(url, str_of(placeholder)) >= 0;
		bool is_wanted = is_in_url || refers(node_get(p, "api_key"), name);

		for (size_t k = 0; k < node_len(headers); k++)
			is_wanted = is_wanted || refers(&headers->map.pairs[k].value, name);
		if (is_wanted && str_find(url, STR("://")) >= 0)
			json_str(hosts, origin_of(url));
		*in_url = *in_url || is_in_url;
	}
	write_wanted_services(q, name, placeholder, hosts, in_url);
}

static void
key_known(struct request *q)
{
	const struct node *keyring;
	bool in_url = false;
	struct json *j;
	struct err e;

	if (!need_keyring(q, &keyring))
		return;
	if (node_str(keyring, "key", STR("")).n == 0) {
		err_set(&e, ERR_AUTH, ERR_TO_USER, "there is no master key to seal to: %.*s",
			STR_FMT(node_str(keyring, "why", STR(""))));
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	json_kv_node(j, "key", node_get(keyring, "key"));
	json_kv_node(j, "master", node_get(keyring, "master"));
	json_kv_arr(j, "hosts");
	write_wanted(q, node_str(q->params, "name", STR("")), j, &in_url);
	json_arr_end(j);
	json_kv_arr(j, "uses");
	json_z(j, "header");
	if (in_url)
		json_z(j, "url");
	json_arr_end(j);
	reply_end(q);
}

void
handle_secret_key(struct request *q)
{
	with_keyring(q, key_known);
}

/* ---- secret.set ---- */

static size_t
texts(const struct node *list, struct str *out, size_t max)
{
	size_t n = MIN(node_len(list), max);

	for (size_t i = 0; i < n; i++)
		out[i] = node_at(list, i)->s;
	return n;
}

static void
answer_state(struct request *q)
{
	struct str name = node_str(q->params, "name", STR(""));
	const struct node *keyring = broker_keyring(q->g->parts.broker), *s;
	struct json *j = reply_begin(q);

	s = keyring != NULL ? sealed_find(node_get(keyring, "secrets"), name) : NULL;
	json_kv_str(j, "name", name);
	json_kv_str(j, "state", node_str(s, "state", STR("unknown")));
	if (node_str(s, "why", STR("")).n > 0)
		json_kv_node(j, "why", node_get(s, "why"));
	json_kv_node(j, "hosts", node_get(q->params, "hosts"));
	json_kv_node(j, "uses", node_get(q->params, "uses"));
	reply_end(q);
}

static const struct node *
entry_of(struct request *q)
{
	static const char *const copied[] = { "name", "hosts", "uses", "key", "sealed" };
	struct node_pair *pairs = arena_alloc(q->a, (ARRAY_LEN(copied) + 1) * sizeof *pairs);
	struct node *entry = arena_alloc(q->a, sizeof *entry);

	for (size_t i = 0; i < ARRAY_LEN(copied); i++)
		pairs[i] = (struct node_pair){ .key = str_of(copied[i]), .value = *node_get(q->params, copied[i]) };
	pairs[ARRAY_LEN(copied)] = (struct node_pair){ .key = STR("set_at_ms"),
		.value = { .type = NODE_INT, .i = clock_wall_ms() } };
	*entry = (struct node){ .type = NODE_MAP, .map = { pairs, ARRAY_LEN(copied) + 1 } };
	return entry;
}

static void
set_known(struct request *q)
{
	struct seal_record r = { .name = node_str(q->params, "name", STR("")) };
	const struct node *keyring, *list;
	struct err e = { 0 };

	if (!need_keyring(q, &keyring))
		return;
	r.hosts_n = texts(node_get(q->params, "hosts"), r.hosts, ARRAY_LEN(r.hosts));
	r.uses_n = texts(node_get(q->params, "uses"), r.uses, ARRAY_LEN(r.uses));
	if (!str_eq(node_str(keyring, "key", STR("")), node_str(q->params, "key", STR("?"))))
		err_set(&e, ERR_CONFLICT, ERR_TO_USER, "it was sealed to a key that is not the broker's now (try again)");
	else if (seal_record_check(&r, &e) == 0 && read_file(q, &list, &e) == 0)
		(void)write_file(q, list, r.name, entry_of(q), &e);
	if (e.code != 0)
		reply_error(q, &e);
	else
		with_keyring(q, answer_state);
}

void
handle_secret_set(struct request *q)
{
	with_keyring(q, set_known);
}

/* ---- secret.list, secret.remove ---- */

static void
write_secret(struct json *j, const struct node *entry, const struct node *keyring)
{
	static const char *const copied[] = { "name", "hosts", "uses", "set_at_ms" };
	const struct node *s = keyring != NULL ?
		sealed_find(node_get(keyring, "secrets"), node_str(entry, "name", STR(""))) : NULL;

	json_obj(j);
	for (size_t i = 0; i < ARRAY_LEN(copied); i++)
		json_kv_node(j, copied[i], node_get(entry, copied[i]));
	json_kv_str(j, "state", node_str(s, "state", STR("unknown")));
	if (node_str(s, "why", STR("")).n > 0)
		json_kv_node(j, "why", node_get(s, "why"));
	json_obj_end(j);
}

static void
list_known(struct request *q)
{
	const struct node *keyring = broker_keyring(q->g->parts.broker), *list;
	struct err e = { 0 };
	struct json *j;

	if (read_file(q, &list, &e) != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	json_kv_arr(j, "secrets");
	for (size_t i = 0; i < node_len(list); i++)
		write_secret(j, node_at(list, i), keyring);
	json_arr_end(j);
	reply_end(q);
}

void
handle_secret_list(struct request *q)
{
	with_keyring(q, list_known);
}

void
handle_secret_remove(struct request *q)
{
	struct str name = node_str(q->params, "name", STR(""));
	const struct node *list;
	struct err e = { 0 };
	struct json *j;

	if (read_file(q, &list, &e) == 0 && sealed_find(list, name) == NULL)
		err_set(&e, ERR_NOT_FOUND, ERR_TO_USER, "there is no secret %.*s (ithaca secret list)",
			STR_FMT(str_sub(name, 0, SECRET_NAME_MAX)));
	if (e.code != 0 || write_file(q, list, name, NULL, &e) != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	json_kv_str(j, "name", name);
	reply_end(q);
}

/* ---- doctor ---- */

void
handle_doctor_with_keyring(struct request *q)
{
	with_keyring(q, handle_doctor_run);
}

static const struct {
	const char *kind, *text;
} masters[] = {
	{ "credential", "master key: a credential of systemd; a copy of this home cannot open the sealed secrets" },
	{ "passphrase", "master key: a passphrase; a copy of this home cannot open the sealed secrets without guessing it" },
	{ "file", "master key: the file master.key; a copy of `secrets` alone opens nothing, a copy of this whole home "
		"opens all (docs/secrets.md has stronger ones)" },
};

static size_t
closed_secrets(const struct node *keyring, const struct node **first)
{
	const struct node *list = node_get(keyring, "secrets");
	size_t n = 0;

	for (size_t i = 0; i < node_len(list); i++)
		if (!str_is(node_str(node_at(list, i), "state", STR("")), "ready") && n++ == 0)
			*first = node_at(list, i);
	return n;
}

/* The provider of the configured model, when it should have a key and has none. */
static const char *
keyless_provider(struct request *q, const struct node *keyring)
{
	static const char *const ways[] = { "api_key", "api_key_file", "api_key_cmd", "api_key_env" };
	struct str model = str_of(config_z(q->g->parts.config, "model")), name;
	const struct node *p;

	if (!str_next(&model, '/', &name))
		return NULL;
	const char *key = arena_strdup(q->a, name);
	p = node_get(config_get(q->g->parts.config, "providers"), key);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++)
		if (node_get(p, ways[i]) != NULL && node_get(node_get(keyring, "providers"), key) != NULL &&
			!node_bool(node_get(keyring, "providers"), key, true))
			return key;
	return NULL;
}

bool
secrets_check(struct request *q, char *text, size_t text_n, char *fix, size_t fix_n)
{
	const struct node *keyring = broker_keyring(q->g->parts.broker), *first = NULL;
	struct str kind = node_str(keyring, "master", STR("")), bad = node_str(keyring, "bad_file", STR(""));
	const char *keyless = keyring != NULL ? keyless_provider(q, keyring) : NULL;
	size_t closed = keyring != NULL ? closed_secrets(keyring, &first) : 0;

	snprintf(fix, fix_n, "see docs/secrets.md");
	if (keyring == NULL) {
		snprintf(text, text_n, "the broker has not said which keys it has");
		snprintf(fix, fix_n, "see logs/broker.log");
	} else if (bad.n > 0) {
		snprintf(text, text_n, "%s/secrets cannot be read: %.*s", q->g->parts.home, STR_FMT(bad));
		snprintf(fix, fix_n, "restore it from a backup, or move it away and set the secrets again");
	} else if (kind.n == 0) {
		snprintf(text, text_n, "no master key: %.*s", STR_FMT(node_str(keyring, "why", STR(""))));
	} else if (closed > 0) {
		snprintf(text, text_n, "%zu secrets cannot be opened; %.*s: %.*s", closed,
			STR_FMT(node_str(first, "name", STR(""))), STR_FMT(node_str(first, "why", STR(""))));
	} else if (keyless != NULL) {
		snprintf(text, text_n, "provider %s, which the model needs, has no key", keyless);
		snprintf(fix, fix_n, "ithaca secret set %s, and api_key: {secret: %s} in the configuration; or see docs/secrets.md",
			keyless, keyless);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(masters); i++)
			if (str_is(kind, masters[i].kind))
				snprintf(text, text_n, "%s", masters[i].text);
		fix[0] = '\0';
		return true;
	}
	return false;
}
