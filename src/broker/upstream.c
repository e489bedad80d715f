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

/* ---- values that are here, or in the vault ---- */

static void
credential_free(struct credential *c)
{
	secret_free(c->value);
	free(c->reference);
}

/* The value must fit into a header line, or it could smuggle in another. */
static int
read_credential(const struct node *n, const char *name, struct credential *out, struct err *e)
{
	struct str reference = field_secret_name(n);

	if (reference.n > 0) {
		if (!secret_name_is_valid(reference))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"%s refers to no valid name of a secret", name);
		out->reference = str_dup(reference);
		return 0;
	}
	if (!node_is(n, NODE_STR))
		return err_set(e, ERR_CONFIG, ERR_TO_USER, "header %s is %s, not a string", name,
			node_type_name(n->type));
	if (request_check_header(str_of(name), n->s, true, e) != 0)
		return e->code;
	out->value = secret_new(n->s);
	return 0;
}

static int
read_headers(struct upstream *u, const struct node *map, struct err *e)
{
	size_t bytes = 0;

	u->headers = xcalloc(MAX(node_len(map), 1), sizeof(*u->headers));
	for (size_t i = 0; i < node_len(map); i++) {
		const struct node_pair *p = &map->map.pairs[i];
		struct header *h = &u->headers[u->headers_n++];
		int rc = request_check_header(p->key, STR(""), true, e);

		h->name = str_dup(p->key);
		if (rc == 0)
			rc = read_credential(&p->value, h->name, &h->value, e);
		if (rc != 0)
			return rc;
		bytes += p->key.n + secret_peek(h->value.value).n + 4;
	}
	if (bytes <= FETCH_HEADERS_MAX)
		return 0;
	return err_set(e, ERR_LIMIT, ERR_TO_USER, "headers are over %u bytes", FETCH_HEADERS_MAX);
}

static int
read_key(struct upstream *u, const struct node *settings, struct err *e)
{
	const struct node *key = node_get(settings, "api_key");
	struct str why = node_str(settings, "key_error", STR(""));

	if (why.n > 0)
		err_set(&u->key_error, ERR_AUTH, ERR_TO_USER, "%.*s", STR_FMT(why));
	if (u->key_header == NULL || key == NULL || (node_is(key, NODE_STR) && key->s.n == 0))
		return 0;
	return read_credential(key, "api_key", &u->key, e);
}

/* The placeholders of a base URL stand in its path, where they cannot change the server. */
static int
check_placeholders(const char *url, struct err *e)
{
	for (const char *p = url; (p = strstr(p, "{")) != NULL; p++) {
		const char *end = strchr(p, '}');
		struct str name = { p + 8, end != NULL && end > p + 8 ? (size_t)(end - p) - 8 : 0 };

		if (strncmp(p, "{secret:", 8) != 0 || !secret_name_is_valid(name))
			return err_set(e, ERR_CONFIG, ERR_TO_USER,
				"base_url has a { that begins no {secret:NAME}");
	}
	return 0;
}

static char *
dup_or_null(const struct node *map, const char *key)
{
	const char *z = node_z(map, key, NULL);

	return z != NULL ? xstrdup(z) : NULL;
}

static int64_t
number_or(const struct node *settings, const char *key, int64_t dflt)
{
	int64_t n = node_int(settings, key, 0);

	return n > 0 ? n : dflt;
}

static int
read_upstream(struct upstream *u, const struct node *settings, struct err *e)
{
	struct url url = { 0 };

	u->connect_ms = number_or(settings, "connect_ms", CONNECT_MS_DEFAULT);
	u->idle_ms = number_or(settings, "idle_ms", IDLE_MS_DEFAULT);
	u->total_ms = number_or(settings, "total_ms", 0);
	u->connections =
		MIN(number_or(settings, "connections", CONNECTIONS), FETCH_CONNECTIONS_MAX);
	u->key_header = dup_or_null(settings, "key_header");
	u->key_env = dup_or_null(settings, "api_key_env");
	u->ca_file = dup_or_null(settings, "ca_file");
	int rc = split_url(node_str(settings, "base_url", STR("")), &url, e);
	if (rc == 0)
		rc = read_headers(u, node_get(settings, "headers"), e);
	if (rc == 0)
		rc = read_key(u, settings, e);
	if (rc != 0)
		return rc;
	u->is_tls = url.is_tls;
	u->host = str_dup(url.host);
	(void)!str_u64(url.port, &u->port);
	u->where = xasprintf("%.*s:%.*s", STR_FMT(url.host), STR_FMT(url.port));
	u->base_url = xasprintf(
		"%s://%s%.*s", url.is_tls ? "https" : "http", u->where, STR_FMT(url.prefix));
	return check_placeholders(u->base_url, e);
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

		u->name = str_dup(p->key);
		if (read_upstream(u, &p->value, &u->bad) != 0) {
			err_wrap(&u->bad, "provider %s", u->name);
			log_warn("a provider cannot be used", LOG_S("provider", u->name),
				LOG_E(&u->bad));
		}
	}
	return list;
}

void
upstreams_free(struct upstreams *list)
{
	if (list == NULL)
		return;
	for (size_t i = 0; i < list->n; i++) {
		struct upstream *u = &list->v[i];
		credential_free(&u->key);
		for (size_t k = 0; k < u->headers_n; k++) {
			credential_free(&u->headers[k].value);
			free(u->headers[k].name);
		}
		free(u->headers);
		free(u->ca_file);
		free(u->host);
		free(u->name);
		free(u->base_url);
		free(u->where);
		free(u->key_header);
		free(u->key_env);
	}
	free(list->v);
	free(list);
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
	return u;
}

/* ---- what a request gets ---- */

static struct destination
destination_of(const struct upstream *u)
{
	return (struct destination){ u->is_tls, str_of(u->host), u->port };
}

static int
resolve(const struct upstream *u, const struct vault *v, const struct credential *c,
	const char *use, struct str *value, struct err *e)
{
	struct destination d = destination_of(u);

	if (c->reference == NULL) {
		*value = secret_peek(c->value);
		return 0;
	}
	return vault_use(v, str_of(c->reference), use, &d, value, e);
}

/* "Authorization: Bearer " is used as header:Authorization. */
static int
key_value(const struct upstream *u, const struct vault *v, struct str *value, struct err *e)
{
	char use[SECRET_HOST_MAX];

	*value = STR("");
	if (u->key_header == NULL)
		return 0;
	if (u->key.value == NULL && u->key.reference == NULL) {
		if (u->key_error.code != 0) {
			err_copy(e, &u->key_error);
			return err_wrap(e, "provider %s has no key", u->name);
		}
		return u->key_env == NULL ? 0
					  : err_set(e, ERR_AUTH, ERR_TO_USER,
						    "provider %s has no key (set %s, or say "
						    "`ithaca secret set`: docs/secrets.md)",
						    u->name, u->key_env);
	}
	snprintf(use, sizeof(use), "header:%.*s", (int)strcspn(u->key_header, ":"), u->key_header);
	return resolve(u, v, &u->key, use, value, e);
}

static void
add_line(struct buf *lines, const char *name, size_t name_n, const char *between, struct str value)
{
	buf_add(lines, name, name_n);
	buf_add_z(lines, between);
	buf_add_str(lines, value);
	buf_add(lines, "", 1);
}

/* Nothing of a value may end the path or begin another part of the URL. */
static int
check_in_url(struct str value, struct err *e)
{
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			  (c >= 'A' && c <= 'Z') ||
			  (c != 0 && strchr("-._~:@!$&'()*+,;=", c) != NULL);

		if (!ok)
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"a secret in base_url has a character that may not stand in a path "
				"(percent-encode it)");
	}
	return str_is(value, ".") || str_is(value, "..")
		       ? err_set(e, ERR_INVALID, ERR_TO_USER,
				 "a secret in base_url is a dot segment")
		       : 0;
}

static int
write_url(const struct upstream *u, const struct vault *v, struct buf *url, struct mask *m,
	struct err *e)
{
	struct destination d = destination_of(u);
	const char *p = u->base_url, *open;

	while ((open = strstr(p, "{secret:")) != NULL) {
		size_t n = strcspn(open + 8, "}");
		struct str value;

		buf_add(url, p, (size_t)(open - p));
		if (vault_use(v, (struct str){ open + 8, n }, "url", &d, &value, e) != 0 ||
			check_in_url(value, e) != 0)
			return e->code;
		buf_add_str(url, value);
		mask_add(m, value);
		p = open + 8 + n + 1;
	}
	buf_add_z(url, p);
	return 0;
}

int
upstream_write(const struct upstream *u, const struct vault *v, struct buf *url, struct buf *lines,
	struct mask *m, struct err *e)
{
	char use[SECRET_HOST_MAX];
	struct str value;

	for (size_t i = 0; i < u->headers_n; i++) {
		const struct header *h = &u->headers[i];

		snprintf(use, sizeof(use), "header:%s", h->name);
		if (resolve(u, v, &h->value, use, &value, e) != 0)
			return err_wrap(e, "provider %s, header %s", u->name, h->name);
		add_line(lines, h->name, strlen(h->name), ": ", value);
		mask_add(m, value);
	}
	if (key_value(u, v, &value, e) != 0)
		return u->key.reference != NULL ? err_wrap(e, "provider %s, api_key", u->name)
						: e->code;
	if (value.n > 0) {
		add_line(lines, u->key_header, strlen(u->key_header), "", value);
		mask_add(m, value);
	}
	if (write_url(u, v, url, m, e) != 0)
		return err_wrap(e, "provider %s, base_url", u->name);
	if (url->overflow || lines->overflow)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"provider %s: its headers are over %u bytes", u->name, FETCH_HEADERS_MAX);
	return 0;
}

void
upstreams_report(const struct upstreams *list, const struct vault *v, struct json *j)
{
	json_obj(j);
	for (size_t i = 0; i < list->n; i++) {
		const struct upstream *u = &list->v[i];
		struct str value;
		struct err e = { 0 };

		json_key(j, u->name);
		json_bool(j, u->bad.code == 0 && key_value(u, v, &value, &e) == 0 && value.n > 0);
	}
	json_obj_end(j);
}
