/* SPDX-License-Identifier: MIT
 * The base URL that request paths are appended to. People write a server down with and without its
 * version, with a slash at the end, or copy a whole endpoint out of a manual; all of these must
 * give the same requests, and the version never comes twice. Pure; whether the URL is a valid one
 * is checked elsewhere. */
#include "provider/internal.h"

#include <stdio.h>

/* What a copied endpoint ends with; a longer row stands before its own end. */
static const char *const endpoints[] = {
	"/chat/completions",
	"/api/embeddings",
	"/completions",
	"/embeddings",
	"/responses",
	"/messages",
	"/models",
	"/api/generate",
	"/api/chat",
	"/api/embed",
	"/api/tags",
};

static struct str
without_slash(struct str url)
{
	while (url.n > 0 && url.p[url.n - 1] == '/')
		url.n--;
	return url;
}

/* Where the path begins, or the length where there is none. */
static size_t
path_of(struct str url)
{
	ptrdiff_t scheme = str_find(url, STR("://"));
	size_t from = scheme < 0 ? 0 : (size_t)scheme + 3;
	ptrdiff_t slash = str_find_char(str_sub(url, from, url.n), '/');

	return slash < 0 ? url.n : from + (size_t)slash;
}

/* Gemini's endpoints have the model's name and a verb: /models/NAME:verb. */
static bool
drop_verb(struct str *url)
{
	static const char *const verbs[] = { ":streamGenerateContent", ":generateContent",
		":batchEmbedContents", ":embedContent" };
	ptrdiff_t models;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (!str_ends(*url, verbs[i]))
			continue;
		models = str_find(*url, STR("/models/"));
		if (models < 0)
			return false;
		url->n = (size_t)models;
		return true;
	}
	return false;
}

static bool
drop_endpoint(struct str *url)
{
	size_t path = path_of(*url);

	if (drop_verb(url))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
		if (!str_ends(str_sub(*url, path, url->n), endpoints[i]))
			continue;
		url->n -= strlen(endpoints[i]);
		*url = without_slash(*url);
		return true;
	}
	return false;
}

/* v1, v4, v1beta, v1beta3, v1alpha */
static bool
is_version(struct str segment)
{
	size_t i = 1;

	if (segment.n < 2 || segment.p[0] != 'v' || segment.p[1] < '0' || segment.p[1] > '9')
		return false;
	while (i < segment.n && segment.p[i] >= '0' && segment.p[i] <= '9')
		i++;
	segment = str_sub(segment, i, segment.n);
	return segment.n == 0 || str_starts(segment, "beta") || str_starts(segment, "alpha");
}

static bool
has_version(struct str url)
{
	struct str rest = str_sub(url, path_of(url), url.n), segment;

	while (str_next(&rest, '/', &segment))
		if (is_version(segment))
			return true;
	return false;
}

/* For an API whose paths begin at the root: "/v1" and "/api" at the end are parts of them. */
static struct str
without_version(struct str url)
{
	for (;;) {
		size_t path = path_of(url), at = url.n;
		struct str last;

		while (at > path && url.p[at - 1] != '/')
			at--;
		last = str_sub(url, at, url.n);
		if (at <= path || (!is_version(last) && !str_is(last, "api")))
			return url;
		url = without_slash(str_sub(url, 0, at));
	}
}

struct str
provider_base_url(const struct provider_api *api, struct str url, struct arena *a)
{
	ptrdiff_t query = str_find_char(url, '?');
	bool had_endpoint;
	struct buf b;

	url = without_slash(str_trim(url));
	/* A query can only be that of a copied endpoint (?alt=sse); any other stays, to be refused
	 * by the one who checks. */
	if (query >= 0) {
		struct str path = str_sub(url, 0, (size_t)query);

		had_endpoint = drop_endpoint(&path);
		url = had_endpoint ? path : url;
	} else {
		had_endpoint = drop_endpoint(&url);
	}
	if (!api->version) /* the paths of the API have it */
		return arena_str(a, without_version(url));
	if (url.n == 0 || had_endpoint || has_version(url) || str_find_char(url, '?') >= 0)
		return arena_str(a, url);
	buf_init(&b, url.n + 16);
	buf_add_str(&b, url);
	buf_add_z(&b, api->version);
	return arena_take(a, &b);
}
