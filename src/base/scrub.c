/* SPDX-License-Identifier: MIT
 * Hides secret values in text that goes to a model or a log. Three tables: shapes of known keys,
 * names whose assigned value is a secret, and values that are certainly none. It is a net under the
 * real protection (secrets never reach the process that makes this text), so it errs towards
 * keeping what a model needs: ids, digests, paths, code. One pass; each byte is looked at a bounded
 * number of times, whatever the text: it comes from commands and pages. */
#include "base/secret.h"

#include "base/buf.h"

#define LOOK_MAX                                                                                   \
	512 /* of a value or key that is examined: what is longer is judged by its beginning */
#define NAME_MAX_ 64 /* of a word, from its end, that is examined as a name */

static const struct str mark = { "[redacted]", 10 };

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* A character of a word: a key never begins in the middle of one. */
static bool
is_word(char c)
{
	return is_digit(c) || is_alpha(c) || c == '_';
}

static bool
is_key_char(char c)
{
	return is_word(c) || c == '-';
}

static bool
is_token_char(char c)
{
	return is_key_char(c) || (c && strchr(".~+/=", c));
}

static size_t
span(struct str s, size_t at, bool (*in)(char))
{
	size_t n = 0;
	while (at + n < s.n && in(s.p[at + n]))
		n++;
	return n;
}

/* Runs of characters that many places of a text ask for: the last one of each kind is kept. */
enum run_kind { RUN_WORD, RUN_KEY, RUN_TOKEN, RUN_VALUE, RUN_KINDS };

struct scan {
	struct str s;
	struct {
		size_t from, end;
	} runs[RUN_KINDS];
	size_t word_end; /* of the last word that was looked at as a name */
};

static bool is_bare_value(char c);

static size_t
run_length(struct scan *k, enum run_kind kind, size_t at)
{
	static bool (*const in[RUN_KINDS])(
		char) = { is_word, is_key_char, is_token_char, is_bare_value };

	if (at < k->runs[kind].from || at >= k->runs[kind].end) {
		k->runs[kind].from = at;
		k->runs[kind].end = at + span(k->s, at, in[kind]);
	}
	return k->runs[kind].end - at;
}

static bool
has(struct str s, bool (*in)(char))
{
	for (size_t i = 0; i < s.n; i++) {
		if (in(s.p[i]))
			return true;
	}
	return false;
}

/* Keys that are known by how they begin. min and max count the characters after the prefix. */
static const struct shape {
	const char *prefix;
	size_t min, max; /* max 0: any number */
	enum run_kind in;
} shapes[] = {
	{ "sk-", 16, 0, RUN_KEY }, { "sk_live_", 10, 0, RUN_WORD }, { "sk_test_", 10, 0, RUN_WORD },
	{ "rk_live_", 10, 0, RUN_WORD }, { "ghp_", 20, 0, RUN_WORD }, { "gho_", 20, 0, RUN_WORD },
	{ "ghu_", 20, 0, RUN_WORD }, { "ghs_", 20, 0, RUN_WORD }, { "ghr_", 20, 0, RUN_WORD },
	{ "github_pat_", 20, 0, RUN_WORD }, { "glpat-", 16, 0, RUN_KEY },
	{ "xoxa-", 10, 0, RUN_KEY }, { "xoxb-", 10, 0, RUN_KEY }, { "xoxe-", 10, 0, RUN_KEY },
	{ "xoxp-", 10, 0, RUN_KEY }, { "xoxr-", 10, 0, RUN_KEY }, { "xoxs-", 10, 0, RUN_KEY },
	{ "xapp-", 10, 0, RUN_KEY }, { "AKIA", 16, 16, RUN_WORD }, { "ASIA", 16, 16, RUN_WORD },
	{ "AIza", 35, 35, RUN_KEY }, { "ith_", 16, 0, RUN_KEY }, { "hf_", 30, 0, RUN_WORD },
	{ "npm_", 36, 36, RUN_WORD },
	{ "eyJ", 40, 0, RUN_TOKEN }, /* a JSON web token: base64 of {" */
};

static size_t
match_shape(struct scan *k, size_t at)
{
	struct str rest = str_sub(k->s, at, k->s.n);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct shape *x = &shapes[i];
		if (rest.p[0] != x->prefix[0] || !str_starts(rest, x->prefix))
			continue;
		size_t head = strlen(x->prefix), n = run_length(k, x->in, at + head);
		if (n < x->min || (x->max && n > x->max))
			continue;
		/* "sk-learn-pipeline-config" is a name: a key has a digit. */
		if (has(str_sub(rest, head, MIN(n, (size_t)LOOK_MAX)), is_digit))
			return head + n;
	}
	return 0;
}

/* From the header line of a private key to the end of its last line (or of the text, when it was
 * cut). */
static size_t
match_pem(struct str s, size_t at)
{
	struct str rest = str_sub(s, at, s.n);
	if (!str_starts(rest, "-----BEGIN "))
		return 0;
	struct str head = str_sub(rest, 0, 64);
	ptrdiff_t kind = str_find(head, STR("PRIVATE KEY"));
	ptrdiff_t line = str_find_char(head, '\n');
	if (kind < 0 || (line >= 0 && line < kind))
		return 0;
	ptrdiff_t end = str_find(rest, STR("-----END "));
	if (end < 0)
		return rest.n;
	ptrdiff_t tail = str_find(str_sub(rest, (size_t)end + 9, 64), STR("-----"));
	return (size_t)end + 9 + (tail < 0 ? 0 : (size_t)tail + 5);
}

/* The password of scheme://user:password@host; at is the colon of "://". Sets where it begins. */
static size_t
match_url(struct str s, size_t at, size_t *from)
{
	if (!str_starts(str_sub(s, at, 3), "://"))
		return 0;
	size_t colon = 0, i = at + 3;
	for (; i < s.n && i - at < 512; i++) {
		char c = s.p[i];
		if (c == ':' && !colon)
			colon = i;
		if (c == '@')
			break;
		if (c <= ' ' || strchr("/?#\"'<>`", c))
			return 0;
	}
	if (i >= s.n || s.p[i] != '@' || !colon || i - colon < 2)
		return 0;
	if (str_starts(str_sub(s, colon + 1, s.n), mark.p))
		return 0;
	*from = colon + 1;
	return i - *from;
}

/* Names whose value is a secret. `strong`: also without a digit in it and also when it looks like
 * an id. */
static const struct {
	const char *name; /* without '_' and '-', lower case; the end of the assigned name */
	bool strong;
} names[] = {
	{ "apikey", true },
	{ "secret", true },
	{ "secretkey", true },
	{ "password", true },
	{ "passwd", true },
	{ "passphrase", true },
	{ "privatekey", true },
	{ "accesskey", true },
	{ "token", false },
	{ "authorization", false },
	{ "credential", false },
};

/* Does the word s[from..to) end with a name of the table? 0 no, 1 weak, 2 strong. */
static int
name_strength(struct str word)
{
	char flat[24];
	size_t n = sizeof(flat);
	for (size_t i = word.n; i > 0 && n > 0 && word.n - i < NAME_MAX_; i--) {
		if (is_digit(word.p[i - 1]) || is_alpha(word.p[i - 1]))
			flat[--n] = lower(word.p[i - 1]);
	}
	struct str tail = { flat + n, sizeof(flat) - n };
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (str_ends(tail, names[i].name))
			return names[i].strong ? 2 : 1;
	}
	return 0;
}

static bool
is_hex_or_dash(char c)
{
	return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f') || c == '-';
}

/* UUIDs (36), ULIDs (26), and hexadecimal digests of the usual lengths. */
static bool
is_id(struct str v)
{
	if (v.n == 26 && span(v, 0, is_word) == 26 && v.p[0] >= '0' && v.p[0] <= '7')
		return true;
	if (str_starts(v, "sha256:") || str_starts(v, "sha512-") || str_starts(v, "sha256-"))
		return true;
	return (v.n == 36 || v.n == 40 || v.n == 64) && span(v, 0, is_hex_or_dash) == v.n;
}

static bool
is_path(struct str v)
{
	if (str_starts(v, "./") || str_starts(v, "../") || str_starts(v, "~/"))
		return true;
	return v.n > 1 && v.p[0] == '/' && str_find_char(str_sub(v, 1, v.n), '/') >= 0 &&
	       str_find_char(v, '=') < 0 && str_find_char(v, '+') < 0;
}

/* Not a value but a word about one: a type, a placeholder, a variable. */
static bool
is_placeholder(struct str v)
{
	static const char *const words[] = { "null", "none", "true", "false", "string", "str",
		"bytes", "text", "optional", "required", "undefined", "secret", "password", "token",
		"changeme" };
	if (v.n == 0 || strchr("$<{%*", v.p[0]) || str_starts(v, "[redacted"))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (v.n == strlen(words[i]) && strncasecmp(v.p, words[i], v.n) == 0)
			return true;
	}
	return false;
}

static bool
is_bare_value(char c)
{
	return (unsigned char)c > ' ' && !strchr("\"'`,;()[]{}<>&|\\", c);
}

/* Length of the value at `at` up to its closing quote, or of a bare one. */
static size_t
value_length(struct scan *k, size_t at, char quote)
{
	struct str s = k->s;
	if (!quote)
		return run_length(k, RUN_VALUE, at);
	size_t n = 0;
	while (at + n < s.n && s.p[at + n] != quote && s.p[at + n] != '\n')
		n += s.p[at + n] == '\\' && at + n + 1 < s.n ? 2 : 1;
	return n;
}

static bool
is_secret_value(struct str v, int strength, char quote, char after)
{
	v = str_sub(v, 0, LOOK_MAX);
	if (is_placeholder(v) || is_path(v) || v.n < 4)
		return false;
	if (!quote && (after == '(' || after == '[' || after == '{'))
		return false; /* a call or an index: code */
	if (strength == 1)
		return v.n >= 8 && has(v, is_digit) && has(v, is_alpha) && !is_id(v);
	if (quote)
		return true;
	/* user.password = form.password is code as well. */
	return has(v, is_digit) || (v.n >= 6 && str_find_char(v, '.') < 0);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* `word` ends at `at`: is it `name = value`, `name: "value"`, `"name": "value"`, `--name value`?
 * Sets where the value begins and gives its length. */
static size_t
match_assignment(struct scan *k, struct str word, size_t at, size_t *from)
{
	struct str s = k->s;
	int strength = name_strength(word);
	if (strength == 0)
		return 0;
	if (at < s.n && (s.p[at] == '"' || s.p[at] == '\''))
		at++;
	size_t gap = span(s, at, is_blank);
	at += gap;
	bool sign = at < s.n && (s.p[at] == '=' || s.p[at] == ':');
	bool is_option = str_starts(word, "--") || str_find(word, STR("---")) >= 0;
	if (!sign && !(gap && is_option))
		return 0;
	at += sign;
	at += at < s.n && sign && s.p[at] == '=' && s.p[at - 1] == ':'; /* := */
	at += span(s, at, is_blank);
	char quote = at < s.n && s.p[at] && strchr("\"'`", s.p[at]) ? s.p[at] : '\0';
	at += quote != '\0';
	static const char *const schemes[] = { "Bearer ", "bearer ", "Basic ", "basic ", "token " };
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (str_starts(str_sub(s, at, 8), schemes[i]))
			at += strlen(schemes[i]);
	}
	size_t n = MIN(value_length(k, at, quote), s.n - at);
	char after = at + n < s.n ? s.p[at + n] : '\0';
	if (!is_secret_value(str_sub(s, at, n), strength, quote, after))
		return 0;
	*from = at;
	return n;
}

static size_t
match_bearer(struct str s, struct str word, size_t at, size_t *from)
{
	struct str last = word.n > 6 ? str_sub(word, word.n - 6, 6) : word;
	bool is_whole = word.n == last.n || word.p[word.n - 7] == '-';
	if (last.n != 6 || !is_whole || strncasecmp(last.p, "bearer", 6) != 0 || at >= s.n ||
		s.p[at] != ' ')
		return 0;
	size_t n = span(s, at + 1, is_token_char);
	struct str v = str_sub(s, at + 1, n);
	if (n < 12 || !(has(v, is_digit) || n >= 24))
		return 0;
	*from = at + 1;
	return n;
}

/* A word that begins at i: who carries a key, or the name of a value. */
static size_t
match_word(struct scan *k, size_t i, size_t end, size_t *from)
{
	struct str word = str_sub(k->s, i, end - i);
	size_t n = match_bearer(k->s, word, end, from);
	return n > 0 ? n : match_assignment(k, word, end, from);
}

/* Looks for a secret at i, which is where a word or a mark begins. Gives its length and where it
 * begins; *next is where the search goes on when there is none. */
static size_t
match_at(struct scan *k, size_t i, size_t *from, size_t *next)
{
	char c = k->s.p[i];
	*next = i + 1;
	*from = i;
	if (c == ':')
		return match_url(k->s, i, from);
	size_t n = c == '-' ? match_pem(k->s, i) : 0;
	if (n > 0 || !is_key_char(c))
		return n;
	n = match_shape(k, i);
	if (n > 0) {
		k->word_end = 0; /* what follows may be a name again */
		return n;
	}
	size_t end = i + run_length(k, RUN_KEY, i);
	*next = end;
	/* The end of a word says what the whole of it says. */
	if (i >= k->word_end)
		n = match_word(k, i, end, from);
	k->word_end = end;
	if (n > 0)
		return n;
	/* "--sk-..." and "key-sk-...": a shape may also begin after a dash. */
	const char *dash = memchr(k->s.p + i, '-', end - i);
	if (dash)
		*next = (size_t)(dash - k->s.p) + 1;
	return 0;
}

size_t
secret_scrub(struct buf *b, struct str s)
{
	struct scan scan = { .s = s };
	size_t found = 0, kept = 0;
	for (size_t i = 0; i < s.n;) {
		size_t from, next, n = match_at(&scan, i, &from, &next);
		if (n == 0) {
			i = next;
			continue;
		}
		(void)buf_add(b, s.p + kept, from - kept);
		(void)buf_add_str(b, mark);
		found++;
		i = kept = from + n;
	}
	if (kept < s.n)
		(void)buf_add(b, s.p + kept, s.n - kept);
	return found;
}
