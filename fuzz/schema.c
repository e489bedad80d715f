/* SPDX-License-Identifier: MIT
 * A schema and a value, separated by a NUL: whatever they are, the check ends, a refusal has words,
 * what is not valid has a reason, and a schema that is negated says the opposite. */
#include "base/json.h"
#include "base/limits.h"
#include "base/schema.h"
#include "base/utf8.h"
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct node *
negated(struct arena *a, struct str text)
{
	const struct node *n = NULL;
	struct buf b;

	buf_init(&b, 1 * MIB);
	buf_printf(&b, "{\"not\":%.*s}", STR_FMT(text));
	if (json_parse(a, buf_str(&b), &n, NULL) != 0)
		n = NULL;
	buf_fini(&b);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str all = { (const char *)data, size }, text, rest = all;
	struct arena *a = arena_new(64 * MIB);
	const struct node *n, *value, *opposite;
	struct schema *s, *not_s;
	struct err e = { 0 };
	struct buf why;

	buf_init(&why, 64 * KIB);
	if (size > 64 * KIB || !str_next(&rest, '\0', &text) ||
		json_parse(a, text, &n, NULL) != 0 || json_parse(a, rest, &value, NULL) != 0)
		goto out;
	if (schema_compile(a, n, &s, &e) != 0) {
		check(e.msg[0] != '\0');
		goto out;
	}
	int rc = schema_check(s, value, &why);
	check((rc == 0) == (why.n == 0));
	check(utf8_valid(buf_str(&why)));
	check(rc == ERR_LIMIT || rc == schema_check(s, value, NULL));
	/* Only a schema whose references do not name its own top level means the same one level
	 * down. */
	opposite = str_find(text, STR("$ref")) < 0 && str_find(text, STR("$id")) < 0 &&
				   str_find_char(text, '\\') < 0
			   ? negated(a, text)
			   : NULL;
	if (rc != ERR_LIMIT && opposite && schema_compile(a, opposite, &not_s, NULL) == 0) {
		int not_rc = schema_check(not_s, value, NULL);
		check(not_rc == ERR_LIMIT || (not_rc == 0) == (rc != 0));
	}
out:
	buf_fini(&why);
	arena_free(a);
	return 0;
}
