/* SPDX-License-Identifier: MIT
 * Structured output: where the JSON of an answer is found, and what is said when it is not there or does not match. */
#include "agent/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/json.h"

#define SCHEMA "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}"

static int
output(struct arena *a, const char *text, int64_t *n, struct buf *why)
{
	const struct node *schema, *value = NULL;
	struct err e;
	int rc;

	assert_int_equal(json_parse(a, STR(SCHEMA), &schema, &e), 0);
	rc = output_read(a, schema, str_of(text), &value, why);
	*n = node_int(value, "n", -1);
	return rc;
}

static void
test_found(void **state)
{
	static const char *const texts[] = {
		"{\"n\":7}",
		"  \n{\"n\":7}\n\n",
		"```\n{\"n\":7}\n```",
		"```json\n{\"n\":7}\n```\n",
		"Here you are:\n\n```json\n{\n \"n\": 7\n}\n```\nAnything else?",
		"````json\n{\"n\":7}\n````",
		"```json\r\n{\"n\":7}\r\n```",
		"```json\n{\"n\":7,\"code\":\"```x```\"}\n```", /* fences inside a string */
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct arena *a = arena_new(1 << 20);
		struct buf why;
		int64_t n;

		buf_init(&why, 4096);
		if (output(a, texts[i], &n, &why) != 0 || n != 7)
			fail_msg("%s: %s", texts[i], buf_z(&why));
		assert_int_equal(why.n, 0);
		buf_fini(&why);
		arena_free(a);
	}
}

static void
test_not_found(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "not JSON" },
		{ "n is 7", "not JSON" },
		{ "```", "not JSON" },
		{ "``````", "not JSON" },
		{ "```json\n{\"n\":7}", "not JSON" }, /* cut off */
		{ "```json\nno\n```", "not JSON" },
		{ "{\"n\":\"seven\"}", "/n" },
		{ "```\n{\"m\":7}\n```", "n" },
		{ "[7]", "object" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct arena *a = arena_new(1 << 20);
		struct buf why;
		int64_t n;

		buf_init(&why, 4096);
		assert_int_not_equal(output(a, rows[i].text, &n, &why), 0);
		if (str_find(buf_str(&why), str_of(rows[i].why)) < 0)
			fail_msg("%s: %s", rows[i].text, buf_z(&why));
		buf_fini(&why);
		arena_free(a);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_found), cmocka_unit_test(test_not_found) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
