/* SPDX-License-Identifier: MIT
 * What a plain YAML scalar means in the 1.2 core schema. `yes`, `no`, `on`, 1_000 and 12:30 are
 * text. A number is also rewritten in the form that JSON has for it ("+.5" becomes "0.5"), because
 * nodes keep numbers as written and any of them may later be written as JSON. */
#include <math.h>
#include <stdio.h>

#include "base/internal.h"
#include "base/limits.h"

static const struct {
	const char *text;
	enum node_type type;
	bool b;
} words[] = {
	{ "", NODE_NULL, false },
	{ "~", NODE_NULL, false },
	{ "null", NODE_NULL, false },
	{ "Null", NODE_NULL, false },
	{ "NULL", NODE_NULL, false },
	{ "true", NODE_BOOL, true },
	{ "True", NODE_BOOL, true },
	{ "TRUE", NODE_BOOL, true },
	{ "false", NODE_BOOL, false },
	{ "False", NODE_BOOL, false },
	{ "FALSE", NODE_BOOL, false },
};

static const char *const not_finite[] = { ".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN" };

static size_t
digits(struct str s)
{
	size_t n = 0;
	while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
		n++;
	return n;
}

/* [-+]? (digits [. digits*]? | . digits) ([eE] [-+]? digits)?, taken apart. */
struct parts {
	bool negative;
	struct str whole, fraction, exponent; /* exponent with its sign, without the e */
};

static bool
take_apart(struct str s, struct parts *out)
{
	*out = (struct parts){ .negative = s.n > 0 && s.p[0] == '-' };
	if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '+'))
		s = str_sub(s, 1, s.n);
	out->whole = str_sub(s, 0, digits(s));
	s = str_sub(s, out->whole.n, s.n);
	if (s.n > 0 && s.p[0] == '.') {
		s = str_sub(s, 1, s.n);
		out->fraction = str_sub(s, 0, digits(s));
		s = str_sub(s, out->fraction.n, s.n);
	}
	if (out->whole.n + out->fraction.n == 0)
		return false;
	if (s.n == 0)
		return true;
	if (s.p[0] != 'e' && s.p[0] != 'E')
		return false;
	out->exponent = s = str_sub(s, 1, s.n);
	if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '+'))
		s = str_sub(s, 1, s.n);
	return s.n > 0 && digits(s) == s.n;
}

/* 0x1F and 0o17; only what fits 64 bits. 1: not of this form. */
static int
based_integer(struct str s, struct node *out, const char **reason)
{
	unsigned bits = str_starts(s, "0x") ? 4 : str_starts(s, "0o") ? 3 : 0;
	uint64_t v = 0;
	if (bits == 0 || s.n == 2)
		return 1;
	for (size_t i = 2; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned d = c >= '0' && c <= '9'                     ? c - '0'
			     : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
								      : 99;
		if (d >> bits)
			return 1;
		if (v >> (63 - bits)) {
			*reason = "a number past 64 bits (write it in quotes)";
			return ERR_INVALID;
		}
		v = v << bits | d;
	}
	out->type = NODE_INT;
	out->i = (int64_t)v;
	return 0;
}

static int
number(struct arena *a, const struct parts *x, struct node *out, const char **reason)
{
	struct str whole = x->whole;
	while (whole.n > 1 && whole.p[0] == '0')
		whole = str_sub(whole, 1, whole.n);
	if (whole.n == 0)
		whole = STR("0");
	size_t need = whole.n + x->fraction.n + x->exponent.n + 4;
	if (need > JSON_NUMBER_MAX) {
		*reason = "a number with too many digits (write it in quotes)";
		return ERR_INVALID;
	}
	char *text = arena_chars(a, need);
	if (!text)
		return ERR_LIMIT;
	int n = snprintf(text, need, "%s%.*s%s%.*s%s%.*s", x->negative ? "-" : "", STR_FMT(whole),
		x->fraction.n ? "." : "", STR_FMT(x->fraction), x->exponent.n ? "e" : "",
		STR_FMT(x->exponent));
	struct str raw = { text, (size_t)n };
	out->type = NODE_INT;
	if (!x->fraction.n && !x->exponent.n && str_i64(raw, &out->i) == 0)
		return 0;
	out->type = NODE_NUM;
	out->num.raw = raw;
	out->num.d = number_value(text);
	if (isfinite(out->num.d))
		return 0;
	*reason = "a number past 1.8e308 (write it in quotes)";
	return ERR_INVALID;
}

int
yaml_scalar(struct arena *a, struct str s, struct node *out, const char **reason)
{
	struct parts parts;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_is(s, words[i].text)) {
			out->type = words[i].type;
			out->b = words[i].b;
			return 0;
		}
	}
	struct str unsigned_part =
		s.n > 0 && (s.p[0] == '-' || s.p[0] == '+') ? str_sub(s, 1, s.n) : s;
	for (size_t i = 0; i < ARRAY_LEN(not_finite); i++) {
		if (str_is(unsigned_part, not_finite[i])) {
			*reason = "infinity and NaN are not allowed (write it in quotes when it is "
				  "text)";
			return ERR_INVALID;
		}
	}
	int rc = based_integer(s, out, reason);
	if (rc <= 0)
		return rc;
	if (take_apart(s, &parts))
		return number(a, &parts, out, reason);
	out->type = NODE_STR;
	out->s = s;
	return 0;
}
