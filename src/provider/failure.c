/* SPDX-License-Identifier: MIT
 * What an error of a model's server means: its kind, whether another attempt can help, how long to
 * wait, and a message that names the provider, the status, the server's own words (cleaned and cut)
 * and what to do. Tables decide; the name and words of an error outrank its status, because servers
 * send quota and context errors as 400 and 429. */
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
	[FAIL_AUTH] = { "auth", false,
		"check the key of providers.%s; docs/secrets.md names all places that it may come "
		"from" },
	[FAIL_QUOTA] = { "quota", false,
		"check the plan and balance of the account behind providers.%s" },
	[FAIL_REQUEST] = { "request", false, "check the model's name and providers.%s.base_url" },
	[FAIL_CONTEXT] = { "context", false,
		"start a new session, or choose a model with a larger window" },
	[FAIL_CONTENT] = { "content", false,
		"the filter of providers.%s refused it: change the request, or the model" },
	[FAIL_PROTOCOL] = { "protocol", true,
		"check that providers.%s.api is what the server speaks" },
};

static const struct {
	int from, to;
	enum failure_kind kind;
	bool may_retry;
} statuses[] = {
	{ 401, 401, FAIL_AUTH, false },
	{ 402, 402, FAIL_QUOTA, false },
	{ 403, 403, FAIL_AUTH, false },
	/* timed out, lost a race: the vendors' clients repeat both */
	{ 408, 409, FAIL_OVERLOAD, true },
	{ 413, 413, FAIL_CONTEXT, false },
	{ 429, 429, FAIL_RATE, true },
	{ 400, 499, FAIL_REQUEST, false },
	{ 500, 599, FAIL_OVERLOAD, true },
	/* not an answer of a model's server: a proxy or a wrong path */
	{ 200, 399, FAIL_PROTOCOL, false },
};

/* What vendors call their errors, and telling words of their messages. Earlier rows outrank later
 * ones: those that no retry helps, then names, then words, then names that say little. */
static const struct {
	const char *type; /* the whole type, code or status word; NULL: any */
	const char *word; /* in the message; NULL: any */
	enum failure_kind kind;
} signs[] = {
	/* OpenAI and its imitators */
	{ "insufficient_quota", NULL, FAIL_QUOTA },
	{ "billing_hard_limit_reached", NULL, FAIL_QUOTA },
	{ "billing_not_active", NULL, FAIL_QUOTA },
	{ "invalid_api_key", NULL, FAIL_AUTH },
	{ "account_deactivated", NULL, FAIL_AUTH },
	{ "context_length_exceeded", NULL, FAIL_CONTEXT },
	{ "string_above_max_length", NULL, FAIL_CONTEXT },
	{ "exceed_context_size_error", NULL, FAIL_CONTEXT },
	{ "content_policy_violation", NULL, FAIL_CONTENT },
	{ "content_filter", NULL, FAIL_CONTENT },
	{ "invalid_prompt", NULL, FAIL_CONTENT },
	/* more than the limit of a whole minute: waiting does not make it smaller */
	{ "rate_limit_exceeded", "request too large", FAIL_CONTEXT },
	{ "rate_limit_exceeded", NULL, FAIL_RATE },
	{ "slow_down", NULL, FAIL_OVERLOAD },
	{ "engine_overloaded", NULL, FAIL_OVERLOAD },
	/* Anthropic */
	{ "billing_error", NULL, FAIL_QUOTA },
	{ "authentication_error", NULL, FAIL_AUTH },
	{ "permission_error", NULL, FAIL_AUTH },
	{ "request_too_large", NULL, FAIL_CONTEXT },
	{ "rate_limit_error", NULL, FAIL_RATE },
	{ "overloaded_error", NULL, FAIL_OVERLOAD },
	{ "timeout_error", NULL, FAIL_OVERLOAD },
	{ "conflict_error", NULL, FAIL_OVERLOAD },
	/* Gemini; its words for a minute's limit are those of others for a spent quota */
	{ "RESOURCE_EXHAUSTED", "per day", FAIL_QUOTA },
	{ "RESOURCE_EXHAUSTED", "depleted", FAIL_QUOTA },
	{ "RESOURCE_EXHAUSTED", NULL, FAIL_RATE },
	{ "UNAUTHENTICATED", NULL, FAIL_AUTH },
	{ "PERMISSION_DENIED", NULL, FAIL_AUTH },
	{ "UNAVAILABLE", NULL, FAIL_OVERLOAD },
	{ "INTERNAL", NULL, FAIL_OVERLOAD },
	{ "DEADLINE_EXCEEDED", NULL, FAIL_OVERLOAD },
	{ "ABORTED", NULL, FAIL_OVERLOAD },
	{ "MISSING_THOUGHT_SIGNATURE", NULL, FAIL_REQUEST },
	/* words */
	{ NULL, "credit balance", FAIL_QUOTA },
	{ NULL, "exceeded your current quota", FAIL_QUOTA },
	{ NULL, "plan and billing", FAIL_QUOTA },
	{ NULL, "api key not valid", FAIL_AUTH },
	{ NULL, "api key expired", FAIL_AUTH },
	{ NULL, "incorrect api key", FAIL_AUTH },
	{ NULL, "prompt is too long", FAIL_CONTEXT },
	{ NULL, "maximum context length", FAIL_CONTEXT },
	{ NULL, "context window", FAIL_CONTEXT },
	{ NULL, "context size", FAIL_CONTEXT },
	{ NULL, "context length", FAIL_CONTEXT },
	{ NULL, "exceed context limit", FAIL_CONTEXT },
	{ NULL, "input token count", FAIL_CONTEXT },
	{ NULL, "content filtering policy", FAIL_CONTENT },
	{ NULL, "content management policy", FAIL_CONTENT },
	{ NULL, "content policy", FAIL_CONTENT },
	{ NULL, "usage policy", FAIL_CONTENT },
	{ NULL, "usage policies", FAIL_CONTENT },
	{ NULL, "overloaded", FAIL_OVERLOAD },
	{ NULL, "rate limit", FAIL_RATE },
	/* names that say little */
	{ "server_error", NULL, FAIL_OVERLOAD },
	{ "api_error", NULL, FAIL_OVERLOAD },
};

const char *
failure_kind_name(enum failure_kind k)
{
	return (size_t)k < ARRAY_LEN(kinds) ? kinds[k].name : "protocol";
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

/* How long until then. A time that has passed, by a clock that may be wrong here, says nothing: the
 * usual wait takes its place. */
static int64_t
until_ms(int64_t at_ms, int64_t now_ms)
{
	return at_ms < now_ms ? -1 : MIN(at_ms - now_ms, RETRY_AFTER_MAX_MS);
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

		if (end && !*end)
			return until_ms((int64_t)timegm(&tm) * 1000, now_ms);
	}
	return -1;
}

/* RFC 3339, as Anthropic's limits say when they are reset. */
static int64_t
rfc3339_ms(struct str s, int64_t now_ms)
{
	struct tm tm = { 0 };
	int hours = 0, minutes = 0, n = 0;
	char z[64], sign = '+';
	const char *end;
	int64_t at;

	if (s.n == 0 || s.n >= sizeof(z))
		return -1;
	memcpy(z, s.p, s.n);
	z[s.n] = '\0';
	end = strptime(z, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end)
		return -1;
	if (*end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	if (strcmp(end, "Z") != 0 &&
		(sscanf(end, "%c%2d:%2d%n", &sign, &hours, &minutes, &n) != 3 || end[n] != '\0' ||
			(sign != '+' && sign != '-')))
		return -1;
	at = (int64_t)timegm(&tm) - (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return until_ms(at * 1000, now_ms);
}

/* "1s", "6m0s", "2m59.56s", "250ms". */
static int64_t
duration_ms(struct str s, int64_t now_ms)
{
	static const struct {
		const char *unit; /* longer ones first */
		int64_t ms;
	} units[] = { { "ms", 1 }, { "us", 0 }, { "\xC2\xB5s", 0 }, { "ns", 0 }, { "h", 3600000 },
		{ "m", 60000 }, { "s", 1000 } };
	int64_t sum = 0;

	if (s.n == 0)
		return -1;
	while (s.n > 0) {
		size_t n = 0, u = 0;
		int64_t ms;

		while (n < s.n && ((s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '.'))
			n++;
		while (u < ARRAY_LEN(units) && !str_starts(str_sub(s, n, s.n), units[u].unit))
			u++;
		if (n == 0 || u == ARRAY_LEN(units))
			return -1;
		ms = units[u].ms == 0 ? 0 : decimal_ms(str_sub(s, 0, n), units[u].ms);
		if (ms < 0)
			return -1;
		sum = MIN(sum + ms, RETRY_AFTER_MAX_MS);
		s = str_sub(s, n + strlen(units[u].unit), s.n);
	}
	return sum;
}

/* When a limit is reset. A limit of which something is left was not the one that was reached; where
 * that is said of all, it was one of tokens, of which the request wanted more than was left. */
static int64_t
limit_reset(struct str headers, int64_t now_ms)
{
	static const struct {
		const char *remaining, *reset;
		int64_t (*read)(struct str s, int64_t now_ms);
		bool is_tokens;
	} limits[] = {
		{ "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", duration_ms,
			false },
		{ "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", duration_ms, true },
		{ "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset",
			rfc3339_ms, false },
		{ "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset",
			rfc3339_ms, true },
		{ "anthropic-ratelimit-input-tokens-remaining",
			"anthropic-ratelimit-input-tokens-reset", rfc3339_ms, true },
		{ "anthropic-ratelimit-output-tokens-remaining",
			"anthropic-ratelimit-output-tokens-reset", rfc3339_ms, true },
	};
	int64_t reached = -1, tokens = -1;

	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		struct str v, left;
		int64_t ms;
		bool has_left = header(headers, limits[i].remaining, &left) && !str_is(left, "0");

		if (!header(headers, limits[i].reset, &v))
			continue;
		ms = limits[i].read(v, now_ms);
		if (!has_left)
			reached = MAX(reached, ms);
		if (limits[i].is_tokens)
			tokens = MAX(tokens, ms);
	}
	return reached >= 0 ? reached : tokens;
}

/* {"error":{"details":[{"@type":"...google.rpc.RetryInfo","retryDelay":"34.5s"}]}}, alone or in a
 * list. */
static int64_t
retry_info(struct str body, struct arena *a)
{
	const struct node *root, *details;

	if (json_parse(a, body, &root, NULL) != 0)
		return -1;
	details = node_find(root->type == NODE_LIST ? node_at(root, 0) : root, "error.details");
	for (size_t i = 0; i < node_len(details); i++) {
		const struct node *d = node_at(details, i);

		if (str_ends(node_str(d, "@type", STR("")), "google.rpc.RetryInfo"))
			return duration_ms(node_str(d, "retryDelay", STR("")), 0);
	}
	return -1;
}

/* What the server said most plainly counts. */
static int64_t
retry_after(int status, struct str headers, struct str body, int64_t now_ms, struct arena *a)
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
	if (ms < 0)
		ms = retry_info(body, a);
	return ms < 0 && status == 429 ? limit_reset(headers, now_ms) : ms;
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
find_sign(struct str type, struct str message, enum failure_kind *kind)
{
	for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
		if (signs[i].type && (type.n != strlen(signs[i].type) ||
					     strncasecmp(type.p, signs[i].type, type.n) != 0))
			continue;
		if (signs[i].word && !contains(message, signs[i].word))
			continue;
		*kind = signs[i].kind;
		return true;
	}
	return false;
}

/* Where words that are too long end: behind the last whole one, where there is any. */
static size_t
word_cut(struct str s, size_t max)
{
	size_t n = utf8_cut(s, max), at = n;

	if (n == s.n)
		return n;
	while (at > n / 2 && s.p[at] != ' ')
		at--;
	return at > n / 2 ? at : n;
}

static void
set_message(struct failure *f, const char *provider, int code, const char *what, struct str said)
{
	struct buf clean;
	size_t n;
	char fix[120];

	buf_init(&clean, 16 * SERVER_WORDS_MAX);
	term_clean(&clean, str_sub(said, 0, utf8_cut(said, 2 * SERVER_WORDS_MAX)), true);
	n = word_cut(buf_str(&clean), SERVER_WORDS_MAX);
	/* The format comes from the table above; each row takes the provider at most once. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(fix, sizeof(fix), kinds[f->kind].fix, provider);
#pragma GCC diagnostic pop
	err_set(&f->e, code, ERR_TO_USER, "%s: %s%s%.*s%s (%s)", provider, what,
		clean.n && *what ? ": " : "", (int)n, buf_z(&clean), n < clean.n ? "..." : "", fix);
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
	bool is_signed;
	char what[80];

	body = str_sub(body, 0, PROVIDER_ERROR_MAX);
	message = str_trim(body);
	*out = (struct failure){
		.kind = FAIL_PROTOCOL,
		.after_ms = retry_after(status, headers, body, now_ms, a),
	};
	if (api && api->error)
		api->error(body, &type, &message, a);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		if (status < statuses[i].from || status > statuses[i].to)
			continue;
		out->kind = statuses[i].kind;
		out->may_retry = statuses[i].may_retry;
		break;
	}
	/* The details say which of Gemini's limits was reached, the message does not. */
	if (str_is(type, "RESOURCE_EXHAUSTED") && contains(body, "PerDay"))
		is_signed = find_sign(type, STR("per day"), &out->kind);
	else
		is_signed = find_sign(type, message, &out->kind);
	if (is_signed)
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

/* Errors inside a stream are "type: message". */
static struct str
type_of(struct str said)
{
	ptrdiff_t colon = str_find_char(said, ':');

	return colon < 0 ? STR("") : str_sub(said, 0, (size_t)colon);
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
		{ ERR_PROTO, FAIL_PROTOCOL, true },
		{ ERR_PROVIDER, FAIL_PROTOCOL, true },
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
	if (e->code == ERR_PROVIDER && find_sign(type_of(said), said, &out->kind))
		out->may_retry = kinds[out->kind].may_retry;
	/* Errors that were written here, for people, come with their own advice, which knows more:
	 * then only the name is missing. */
	if (e->code == ERR_PROVIDER ||
		((e->code == ERR_NET || e->code == ERR_PROTO) && !str_ends(said, ")")))
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
