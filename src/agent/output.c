/* SPDX-License-Identifier: MIT
 * Structured output: finds the JSON in a final answer, with or without a fence around it, and checks it. Says in words for the
 * model what is wrong. No I/O, no clock. */
#include "agent/output.h"

#include "base/json.h"
#include "base/schema.h"

#define FENCE "```"

/* What stands between the first fence and the last one, without the word behind the first. Nothing: no fences. */
static bool
inside_fence(struct str text, struct str *out)
{
	ptrdiff_t open = str_find(text, STR(FENCE)), line, close = -1;
	struct str rest;

	if (open < 0)
		return false;
	rest = str_sub(text, (size_t)open, text.n);
	line = str_find_char(rest, '\n');
	if (line < 0)
		return false;
	rest = str_sub(rest, (size_t)line + 1, rest.n);
	for (ptrdiff_t at = str_find(rest, STR(FENCE)); at >= 0;) {
		ptrdiff_t more = str_find(str_sub(rest, (size_t)at + 1, rest.n), STR(FENCE));

		close = at;
		at = more < 0 ? -1 : at + 1 + more;
	}
	if (close < 0)
		return false;
	while (close > 0 && rest.p[close - 1] == '`') /* of a longer fence */
		close--;
	*out = str_trim(str_sub(rest, 0, (size_t)close));
	return true;
}

static int
parse(struct arena *a, struct str text, const struct node **out, struct err *e)
{
	struct str inside;
	int rc = json_parse(a, str_trim(text), out, e);

	if (rc != 0 && inside_fence(text, &inside)) {
		struct err ignored = { 0 };

		rc = json_parse(a, inside, out, &ignored) == 0 ? 0 : rc;
	}
	return rc;
}

int
output_read(struct arena *a, const struct node *schema, struct str text, const struct node **out, struct buf *why)
{
	struct schema *compiled;
	const struct node *value;
	struct err e = { 0 };
	int rc = parse(a, text, &value, &e);

	if (rc != 0) {
		buf_printf(why, "it is not JSON: %s", e.msg);
		return ERR_INVALID;
	}
	rc = schema_compile(a, schema, &compiled, &e);
	if (rc != 0)
		buf_printf(why, "the schema itself: %s", e.msg);
	else
		rc = schema_check(compiled, value, why);
	if (rc == 0)
		*out = value;
	return rc;
}
