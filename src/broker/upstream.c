/* SPDX-License-Identifier: MIT
 * The servers that the operator named, and their keys. A key goes from the envelope into a locked
 * page and from there only into the header of a request to its own server. Invariant: no message of
 * this file holds a key or a header's value. */
#include <stdio.h>
#include <stdlib.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/internal.h"

#define CONNECT_MS_DEFAULT 10000
#define IDLE_MS_DEFAULT    120000
#define CONNECTIONS        256

struct upstreams {
	struct upstream *v;
	size_t n;
};

/* What a base URL is made of; all views into it. */
struct url {
	bool is_tls;
	struct str host, port, prefix;
};

static bool
is_host_char(char c, bool in_brackets)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '.' || (in_brackets ? c == ':' : c == '-' || c == '_');
}

static int
split_authority(struct str authority, struct url *out, struct err *e)
{
	bool in_brackets = authority.n > 0 && authority.p[0] == '[';
	ptrdiff_t end = in_brackets ? str_find_char(authority, ']') : str_find_char(authority, ':');
	size_t host_n = end < 0 ? authority.n : (size_t)end + (in_brackets ? 1 : 0);
	struct str host = str_sub(authority, 0, host_n);
	struct str rest = str_sub(authority, host_n, authority.n);
	struct str name = in_brackets && host.n >= 2 ? str_sub(host, 1, host.n - 2) : host;
	uint64_t port = 0;

	if (str_find_char(authority, '@') >= 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"base_url holds a user name (use api_key or headers)");
	if (name.n == 0 || (in_brackets && end < 0))
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "base_url has no host");
	for (size_t i = 0; i < name.n; i++) {
		if (!is_host_char(name.p[i], in_brackets))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"base_url has byte 0x%02x in its host", (unsigned char)name.p[i]);
	}
	out->host = host;
	out->port = rest.n > 0 ? str_sub(rest, 1, rest.n) : out->is_tls ? STR("443") : STR("80");
	if ((rest.n > 0 && rest.p[0] != ':') || str_u64(out->port, &port) != 0 || port < 1 ||
		port > 65535)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "base_url has no valid port (1..65535)");
	return 0;
}

static int
split_url(struct str text, struct url *out, struct err *e)
{
	struct url u = { .is_tls = str_starts(text, "https://") };

	if (!u.is_tls && !str_starts(text, "http://"))
		return err_set(e, ERR_CONFIG, ERR_TO_USER,
			"base_url does not start with https:// or http://");
	struct str rest = str_sub(text, u.is_tls ? 8 : 7, text.n);
	ptrdiff_t slash = str_find_char(rest, '/');
	size_t n = slash < 0 ? rest.n : (size_t)slash;
	int rc = split_authority(str_sub(rest, 0, n), &u, e);
	if (rc != 0)
		return rc;
	u.prefix = str_sub(rest, n, rest.n);
	while (str_ends(u.prefix, "/"))
		u.prefix.n--;
	if (u.prefix.n > 0 && request_check_path(u.prefix, e) != 0)
		return err_wrap(e, "base_url");
	if (str_find_char(u.prefix, '?') >= 0)
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "base_url has a query");
	*out = u;
	return 0;
}

static int
read_headers(const struct node *map, struct buf *b, struct err *e)
{
	for (size_t i = 0; i < node_len(map); i++) {
		const struct node_pair *p = &map->map.pairs[i];
		if (p->value.type != NODE_STR)
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"header %.*s is %s, not a string", (int)MIN(p->key.n, 64), p->key.p,
				node_type_name(p->value.type));
		int rc = request_check_header(p->key, p->value.s, true, e);
		if (rc != 0)
			return rc;
		buf_add_str(b, p->key);
		buf_add_z(b, ": ");
		buf_add_str(b, p->value.s);
		buf_add_char(b, '\n');
	}
	if (!b->overflow)
		return 0;
	return err_set(e, ERR_LIMIT, ERR_TO_USER, "headers are over %u bytes", FETCH_HEADERS_MAX);
}

/* The key must fit into a header line, or it could smuggle in another. */
static int
read_key(struct upstream *u, struct str key, struct err *e)
{
	if (key.n == 0 || u->key_header == NULL)
		return 0;
	int rc = request_check_header(STR("api_key"), key, true, e);
	if (rc != 0)
		return rc;
	u->key = secret_new(key);
	return 0;
}

static int
read_upstream(struct upstream *u, const struct node *settings, struct buf *headers, struct err *e)
{
	struct url url = { 0 };
	struct str text = node_str(settings, "base_url", STR(""));
	const char *key_header = node_z(settings, "key_header", NULL);
	const char *env = node_z(settings, "api_key_env", NULL);

	u->connect_ms = node_int(settings, "connect_ms", CONNECT_MS_DEFAULT);
	u->idle_ms = node_int(settings, "idle_ms", IDLE_MS_DEFAULT);
	u->connections = MIN(MAX(node_int(settings, "connections", CONNECTIONS), 1), FETCH_CONNECTIONS_MAX);
	u->key_header = key_header != NULL ? xstrdup(key_header) : NULL;
	u->key_env = env != NULL ? xstrdup(env) : NULL;
	int rc = split_url(text, &url, e);
	if (rc == 0)
		rc = read_headers(node_get(settings, "headers"), headers, e);
	if (rc == 0)
		rc = read_key(u, node_str(settings, "api_key", STR("")), e);
	if (rc != 0)
		return rc;
	u->is_tls = url.is_tls;
	u->where = xasprintf("%.*s:%.*s", STR_FMT(url.host), STR_FMT(url.port));
	u->base_url = xasprintf("%s://%s%.*s", url.is_tls ? "https" : "http", u->where,
		STR_FMT(url.prefix));
	u->headers = xstrdup(buf_z(headers));
	return 0;
}

struct upstreams *
upstreams_new(const struct node *providers)
{
	struct upstreams *list = xcalloc(1, sizeof(*list));

	list->n = node_is(providers, NODE_MAP) ? node_len(providers) : 0;
	list->v = xcalloc(MAX(list->n, 1), sizeof(*list->v));
	for (size_t i = 0; i < list->n; i++) {
		const struct node_pair *p = &providers->map.pairs[i];
		struct upstream *u = &list->v[i];
		struct buf headers;
		buf_init(&headers, FETCH_HEADERS_MAX);
		u->name = str_dup(p->key);
		if (read_upstream(u, &p->value, &headers, &u->bad) != 0) {
			err_wrap(&u->bad, "provider %s", u->name);
			log_warn("a provider cannot be used", LOG_S("provider", u->name),
				LOG_E(&u->bad));
		}
		wipe(headers.p, headers.n);
		buf_fini(&headers);
	}
	return list;
}

static void
free_wiped(char *z)
{
	if (z != NULL)
		wipe(z, strlen(z));
	free(z);
}

void
upstreams_free(struct upstreams *list)
{
	if (list == NULL)
		return;
	for (size_t i = 0; i < list->n; i++) {
		struct upstream *u = &list->v[i];
		secret_free(u->key);
		free_wiped(u->headers);
		free(u->name);
		free(u->base_url);
		free(u->where);
		free(u->key_header);
		free(u->key_env);
	}
	free(list->v);
	free(list);
}

size_t
upstreams_count(const struct upstreams *list)
{
	return list->n;
}

static int
refuse_unknown(const struct upstreams *list, struct str name, struct err *e)
{
	for (size_t i = 0; i < list->n; i++) {
		if (str_distance(name, str_of(list->v[i].name)) <= 2)
			return err_set(e, ERR_NOT_FOUND, ERR_TO_USER,
				"unknown provider \"%.*s\" (did you mean \"%s\"?)",
				(int)MIN(name.n, 64), name.p, list->v[i].name);
	}
	return err_set(e, ERR_NOT_FOUND, ERR_TO_USER,
		"unknown provider \"%.*s\" (name it below providers: in config.yaml)",
		(int)MIN(name.n, 64), name.p);
}

const struct upstream *
upstream_find(const struct upstreams *list, struct str name, struct err *e)
{
	const struct upstream *u = NULL;

	for (size_t i = 0; i < list->n && u == NULL; i++) {
		if (str_is(name, list->v[i].name))
			u = &list->v[i];
	}
	if (u == NULL) {
		refuse_unknown(list, name, e);
		return NULL;
	}
	if (u->bad.code != 0) {
		err_copy(e, &u->bad);
		return NULL;
	}
	if (u->key_header != NULL && u->key == NULL && u->key_env != NULL) {
		err_set(e, ERR_AUTH, ERR_TO_USER,
			"provider %s has no key (set %s, or api_key_cmd in config.yaml)", u->name,
			u->key_env);
		return NULL;
	}
	return u;
}
