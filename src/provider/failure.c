/* SPDX-License-Identifier: MIT
 * What an error of a model's server means: its kind, whether another attempt can help, how long to
 * wait, and a message that names the provider, the status, the server's own words (cleaned and cut)
 * and what to do. Tables decide; the words of an error outrank its status, because servers send
 * quota and context errors as 400 and 429. */
#include "provider/internal.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>
#include "base/limits.h"
#include "base/utf8.h"

#define SERVER_WORDS_MAX 110 /* bytes of the server's message that are shown */
#define BACKOFF_MS       500
#define BACKOFF_MAX_MS   8000
#define JITTER           0.25

static const struct {
	const char *name;
	bool may_retry;
	const char *fix; /* %s: the provider */
} kinds[] = {
	[FAIL_NETWORK] = { "network", true, "check the network and providers.%s.base_url" },
	[FAIL_RATE] = { "rate", true, "wait, or run fewer agents at once" },
	[FAIL_OVERLOAD] = { "overload", true, "try again later, or set models.fallback" },
	[FAIL_AUTH] = { "auth", false, "check the key that providers.%s.api_key_env names" },
	[FAIL_QUOTA] = { "quota", false,
		"check the plan and balance of the account behind providers.%s" },
	[FAIL_REQUEST] = { "request", false, "check the model's name and providers.%s.base_url" },
	[FAIL_CONTEXT] = { "context", false,
		"start a new session, or choose a model with a larger window" },
	[FAIL_STREAM] = { "stream", true, "check that providers.%s.api is what the server speaks" },
};

static const struct {
	int from, to;
	enum failure_kind kind;
	bool may_retry;
} statuses[] = {
	{ 401, 401, FAIL_AUTH, false }, { 402, 402, FAIL_QUOTA, false },
	{ 403, 403, FAIL_AUTH, false },
	{ 408, 409, FAIL_OVERLOAD,
		true }, /* timed out, lost a race: the vendors' clients repeat both */
	{ 413, 413, FAIL_CONTEXT, false }, { 425, 425, FAIL_OVERLOAD, true },
	{ 429, 429, FAIL_RATE, true }, { 400, 499, FAIL_REQUEST, false },
	{ 500, 599, FAIL_OVERLOAD, true },
	{ 200, 399, FAIL_STREAM,
		false }, /* not an answer of a model's server: a proxy or a wrong path */
};

/* Types and codes, and telling words of messages; earlier rows outrank later ones. */
static const struct {
	const char *word;
	enum failure_kind kind;
} words[] = {
	{ "insufficient_quota", FAIL_QUOTA },
	{ "billing", FAIL_QUOTA },
	{ "credit balance", FAIL_QUOTA },
	{ "exceeded your current quota", FAIL_QUOTA },
	{ "context_length_exceeded", FAIL_CONTEXT },
	{ "request_too_large", FAIL_CONTEXT },
	{ "prompt is too long", FAIL_CONTEXT },
	{ "maximum context length", FAIL_CONTEXT },
	{ "context window", FAIL_CONTEXT },
	{ "context size", FAIL_CONTEXT },
	{ "exceed context limit", FAIL_CONTEXT },
	{ "overloaded", FAIL_OVERLOAD },
	{ "authentication_error", FAIL_AUTH },
	{ "invalid_api_key", FAIL_AUTH },
	{ "permission_error", FAIL_AUTH },
	{ "rate_limit", FAIL_RATE },
	{ "timeout_error", FAIL_OVERLOAD },
	{ "server_error", FAIL_OVERLOAD },
	{ "api_error", FAIL_OVERLOAD },
};

const char *
failure_kind_name(enum failure_kind k)
{
	return (size_t)k < ARRAY_LEN(kinds) ? kinds[k].name : "stream";
}

/* ---- headers ---- */

static bool
header(struct str headers, const char *name, struct str *value)
{
	size_t n = strlen(name);
	struct str l;

	while (str_next(&headers, '\n', &l)) {
		if (l.n <= n || l.p[n] != ':' || strncasecmp(l.p, name, n) != 0)
			continue;
		*value = str_trim(str_sub(l, n + 1, l.n));
		return true;
	}
	return false;
}

/* Decimal number with an optional fraction, times scale. -1: not one. */
static int64_t
decimal_ms(struct str s, int64_t scale)
{
	int64_t whole, ms;
	struct str digits = s;
	ptrdiff_t dot = str_find_char(s, '.');

	if (dot >= 0)
		digits = str_sub(s, 0, (size_t)dot);
	if (str_i64(digits, &whole) != 0 || whole < 0)
		return -1;
	if (whole > RETRY_AFTER_MAX_MS)
		return RETRY_AFTER_MAX_MS; /* the cap, before the multiplication can overflow */
	ms = whole * scale;
	for (size_t i = dot < 0 ? s.n : (size_t)dot + 1; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		scale /= 10;
		ms += (s.p[i] - '0') * scale;
	}
	return MIN(ms, RETRY_AFTER_MAX_MS);
}

/* RFC 9110: IMF-fixdate and the two obsolete forms. */
static int64_t
date_ms(struct str s, int64_t now_ms)
{
	static const char *const forms[] = { "%a, %d %b %Y %H:%M:%S GMT",
		"%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y" };
	char z[64];

	if (s.n == 0 || s.n >= sizeof(z))
		return -1;
	memcpy(z, s.p, s.n);
	z[s.n] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(z, forms[i], &tm);
		int64_t at;

		if (!end || *end)
			continue;
		at = (int64_t)timegm(&tm) * 1000;
		return MIN(MAX(at - now_ms, 0), RETRY_AFTER_MAX_MS);
	}
	return -1;
}

static int64_t
retry_after(struct str headers, int64_t now_ms)
{
	struct str v;
	int64_t ms = -1;

	if (header(headers, "retry-after-ms", &v))
		ms = decimal_ms(v, 1);
	if (ms < 0 && header(headers, "retry-after", &v)) {
		ms = decimal_ms(v, 1000);
		if (ms < 0)
			ms = date_ms(v, now_ms);
	}
	return ms;
}

/* ---- kinds ---- */

static bool
contains(struct str s, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= s.n; i++)
		if (strncasecmp(s.p + i, word, n) == 0)
			return true;
	return false;
}

static bool
find_word(struct str type, struct str message, enum failure_kind *kind)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (contains(type, words[i].word) || contains(message, words[i].word)) {
			*kind = words[i].kind;
			return true;
		}
	}
	return false;
}

static void
set_message(struct failure *f, const char *provider, int code, const char *what, struct str said)
{
	struct buf clean;
	char fix[120];

	buf_init(&clean, 16 * SERVER_WORDS_MAX);
	term_clean(&clean, str_sub(said, 0, utf8_cut(said, SERVER_WORDS_MAX)), true);
	/* The format comes from the table above; each row takes the provider at most once. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(fix, sizeof(fix), kinds[f->kind].fix, provider);
#pragma GCC diagnostic pop
	err_set(&f->e, code, ERR_TO_USER, "%s: %s%s%.*s (%s)", provider, what,
		clean.n && *what ? ": " : "", (int)utf8_cut(buf_str(&clean), SERVER_WORDS_MAX),
		buf_z(&clean), fix);
	buf_fini(&clean);
}

static int
err_code(enum failure_kind k)
{
	return k == FAIL_AUTH ? ERR_AUTH : k == FAIL_CONTEXT ? ERR_LIMIT : ERR_PROVIDER;
}

void
failure_from_http(const struct provider_api *api, const char *provider, int status,
	struct str headers, struct str body, int64_t now_ms, struct failure *out)
{
	struct arena *a = arena_new(MODEL_EVENT_TREE_MAX);
	struct str type = STR("error"), message, v;
	char what[80];

	body = str_sub(body, 0, PROVIDER_ERROR_MAX);
	message = str_trim(body);
	*out = (struct failure){ .kind = FAIL_STREAM, .after_ms = retry_after(headers, now_ms) };
	if (api && api->error)
		api->error(body, &type, &message, a);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		if (status < statuses[i].from || status > statuses[i].to)
			continue;
		out->kind = statuses[i].kind;
		out->may_retry = statuses[i].may_retry;
		break;
	}
	if (find_word(type, message, &out->kind))
		out->may_retry = kinds[out->kind].may_retry;
	if (out->kind != FAIL_QUOTA && header(headers, "x-should-retry", &v))
		out->may_retry = str_is(v, "true") || (!str_is(v, "false") && out->may_retry);
	if (str_is(type, "error"))
		snprintf(what, sizeof(what), "HTTP %d", status);
	else
		snprintf(what, sizeof(what), "HTTP %d %.*s", status, (int)MIN(type.n, 40), type.p);
	set_message(out, provider, err_code(out->kind), what, message);
	arena_free(a);
}

void
failure_from_err(const struct provider_api *api, const char *provider, const struct err *e,
	struct failure *out)
{
	static const struct {
		int code;
		enum failure_kind kind;
		bool may_retry;
	} codes[] = {
		{ ERR_NET, FAIL_NETWORK, true },
		{ ERR_TIMEOUT, FAIL_NETWORK, true },
		{ ERR_GONE, FAIL_NETWORK, true }, /* the broker went away: it is restarted */
		{ ERR_BUSY, FAIL_NETWORK, true },
		{ ERR_PROTO, FAIL_STREAM, true },
		{ ERR_PROVIDER, FAIL_STREAM, true },
		{ ERR_AUTH, FAIL_AUTH, false },
	};
	struct str said = str_of(e->msg);

	*out = (struct failure){ .kind = FAIL_REQUEST, .after_ms = -1 };
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (codes[i].code != e->code)
			continue;
		out->kind = codes[i].kind;
		out->may_retry = codes[i].may_retry;
	}
	if (e->code == ERR_PROVIDER && find_word(said, STR(""), &out->kind))
		out->may_retry = kinds[out->kind].may_retry;
	/* Other errors were written here, for people, with their own advice: only the name is
	 * missing. */
	if (e->code == ERR_PROVIDER || e->code == ERR_NET || e->code == ERR_PROTO)
		set_message(out, provider, e->code, "", said);
	else
		err_set(&out->e, e->code, e->to, "%s: %s", provider, e->msg);
}

void
failure_from_offline(const char *provider, const struct offline_step *s, struct failure *out)
{
	struct err cut;
	char headers[64] = "";

	if (s->type == OFFLINE_CUT) {
		err_set(&cut, ERR_NET, ERR_TO_USER, "the stream was cut before its end");
		failure_from_err(NULL, provider, &cut, out);
		return;
	}
	if (s->ms >= 0)
		snprintf(headers, sizeof(headers), "retry-after-ms: %lld\n", (long long)s->ms);
	failure_from_http(NULL, provider, s->status, str_of(headers), s->text, 0, out);
}

int64_t
retry_delay_ms(const struct failure *f, int attempt, double jitter)
{
	int64_t ms = BACKOFF_MS;

	if (f->after_ms >= 0)
		return MIN(f->after_ms, RETRY_AFTER_MAX_MS);
	for (int i = 1; i < attempt && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	ms = MIN(ms, BACKOFF_MAX_MS);
	return ms - (int64_t)((double)ms * JITTER * MIN(MAX(jitter, 0.0), 1.0));
}
