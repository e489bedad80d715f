/* SPDX-License-Identifier: MIT
 * Combinations of keys that no single row can check. Each message names the key and where it was set. */
#include "config/internal.h"

#include <stdlib.h>

static int
bad(const struct setting *s, struct err *e, const char *why)
{
	struct buf path;
	int rc;

	buf_init(&path, 1024);
	setting_path(s, &path);
	if (s->origin.file != NULL)
		rc = err_set(e, ERR_CONFIG, ERR_TO_USER, "config %s line %u: %s: %s", s->origin.file, s->origin.line,
			buf_z(&path), why);
	else
		rc = err_set(e, ERR_CONFIG, ERR_TO_USER, "config (%s) %s: %s", config_layer_name(s->origin.layer),
			buf_z(&path), why);
	buf_fini(&path);
	return rc;
}

static struct str
text_of(const struct setting *s, const char *key)
{
	const struct setting *kid = setting_find(s, str_of(key));

	return kid != NULL && node_is(kid->value, NODE_STR) ? kid->value->s : (struct str){ 0 };
}

/* Keys of maps appear in dotted paths, messages and environment names. */
static int
check_key(const struct setting *s, struct err *e)
{
	for (size_t i = 0; i < s->key.n; i++)
		if ((unsigned char)s->key.p[i] <= ' ' || s->key.p[i] == 0x7f || s->key.p[i] == '"')
			return bad(s, e, "a name may not hold spaces, quotes or control characters");
	return s->key.n > 0 ? 0 : bad(s, e, "a name may not be empty");
}

/* Readers take strings as C strings: what stands behind a NUL would be checked and then not used. */
static bool
has_nul(const struct node *n)
{
	if (node_is(n, NODE_STR))
		return n->s.n > 0 && memchr(n->s.p, 0, n->s.n) != NULL;
	for (size_t i = 0; node_is(n, NODE_LIST) && i < node_len(n); i++)
		if (has_nul(node_at(n, i)))
			return true;
	return false;
}

static int
check_keys(const struct setting *s, struct err *e)
{
	int rc = 0;

	for (const struct setting *kid = s->first; rc == 0 && kid != NULL; kid = kid->next) {
		if (s->field->type == FIELD_MAP)
			rc = check_key(kid, e);
		if (rc == 0 && has_nul(kid->value))
			rc = bad(kid, e, "a text may not hold a NUL character");
		if (rc == 0)
			rc = check_keys(kid, e);
	}
	return rc;
}

static int
check_url(const struct setting *url, struct err *e)
{
	struct str s = url->value->s;
	bool is_http = str_starts(s, "http://") || str_starts(s, "https://");

	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
			return bad(url, e, "a URL may not hold spaces or control characters");
	if (!is_http)
		return bad(url, e, "expected a URL that begins with http:// or https://");
	s = str_sub(s, (size_t)str_find(s, STR("//")) + 2, s.n);
	if (str_find_char(s, '@') >= 0)
		return bad(url, e, "a URL may not hold a user name or password (use api_key or headers)");
	return s.n > 0 && s.p[0] != '/' ? 0 : bad(url, e, "the URL has no host");
}

static int
check_provider(const struct setting *p, struct err *e)
{
	const struct setting *url = setting_find(p, STR("base_url"));
	struct str api = text_of(p, "api");

	if (str_find_char(p->key, '/') >= 0)
		return bad(p, e, "a provider's name may not hold a / (models are written provider/model)");
	if (api.n == 0)
		return bad(p, e, "has no api (expected api: openai-chat, openai-responses, anthropic, gemini, ollama or offline)");
	if (setting_find(p, STR("script")) != NULL && !str_is(api, "offline"))
		return bad(setting_find(p, STR("script")), e, "is only for api: offline");
	return url != NULL ? check_url(url, e) : 0;
}

static int
check_model(const struct setting *s, struct str model, struct err *e)
{
	ptrdiff_t slash = str_find_char(model, '/');

	if (slash > 0 && (size_t)slash + 1 < model.n)
		return 0;
	return bad(s, e, "expected provider/model (as in anthropic/claude-sonnet-4-5)");
}

static int
check_models(const struct config *c, struct err *e)
{
	const struct setting *model = setting_at(c, STR("model"));
	int rc = check_model(model, model->value->s, e);

	for (const struct setting *s = setting_at(c, STR("models"))->first; rc == 0 && s != NULL; s = s->next) {
		if (node_is(s->value, NODE_STR))
			rc = check_model(s, s->value->s, e);
		for (size_t i = 0; rc == 0 && i < node_len(s->value); i++)
			rc = check_model(s, node_at(s->value, i)->s, e);
	}
	return rc;
}

static size_t
tier_rank(struct str name)
{
	size_t i = 0;

	while (config_tiers[i] != NULL && !str_is(name, config_tiers[i]))
		i++;
	return i;
}

static int
check_tier(const struct config *c, struct err *e)
{
	const struct setting *tier = setting_at(c, STR("tier")), *min = setting_at(c, STR("tier_min"));

	if (str_is(tier->value->s, "auto") || tier_rank(tier->value->s) >= tier_rank(min->value->s))
		return 0;
	return bad(tier, e, "is weaker than tier_min (choose a stronger tier, or lower tier_min)");
}

static int
check_tls(const struct config *c, struct err *e)
{
	const struct setting *tls = setting_at(c, STR("gateway.tls"));
	bool has_cert = text_of(tls, "cert").n > 0, has_key = text_of(tls, "key").n > 0;

	return has_cert == has_key ? 0 : bad(tls, e, "needs both cert and key, or neither");
}

int
config_check(const struct config *c, struct err *e)
{
	int rc = check_keys(&c->root, e);

	for (const struct setting *p = setting_at(c, STR("providers"))->first; rc == 0 && p != NULL; p = p->next)
		rc = check_provider(p, e);
	if (rc == 0)
		rc = check_models(c, e);
	if (rc == 0)
		rc = check_tier(c, e);
	return rc != 0 ? rc : check_tls(c, e);
}
