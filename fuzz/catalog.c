/* SPDX-License-Identifier: MIT
 * A model catalog as a server may send it: what is taken has sane numbers and plain names, the file
 * that is kept of it reads back with the same digest, and nothing else reads as such a file. */
#include "base/limits.h"
#include "provider/catalog.h"
#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_rows(const struct catalog *c)
{
	check(c->n > 0);
	for (size_t i = 0; i < c->n; i++) {
		const struct catalog_row *r = &c->rows[i];
		check(r->context_tokens > 0 && r->max_output_tokens >= 0 && r->input >= 0 &&
			r->output >= 0);
		check(r->long_tokens == 0 ||
			(r->long_input_percent > 0 && r->long_output_percent > 0));
		for (const char *p = r->model; *p; p++)
			check(*p > ' ' && *p <= '~');
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const vendors[] = { "acme", "openai", NULL };
	struct str text = { (const char *)data, size };
	struct catalog *c, *kept;
	struct err e = { 0 };
	struct buf b;
	struct json j;

	if (catalog_read(text, &kept, &e) == 0) {
		check_rows(kept);
		catalog_free(kept);
	}
	if (catalog_import(text, vendors, NULL, NULL, &c, &e) != 0) {
		check(e.msg[0] != '\0');
		return 0;
	}
	check_rows(c);
	buf_init(&b, CATALOG_TEXT_MAX);
	catalog_write(c, "http://127.0.0.1/", 0, &b);
	check(catalog_read(buf_str(&b), &kept, &e) == 0 && kept->n == c->n);
	check(strcmp(kept->digest, c->digest) == 0);
	buf_reset(&b);
	json_init(&j, &b);
	catalog_changes(c, kept, &j);
	catalog_changes(NULL, c, &j);
	buf_fini(&b);
	catalog_free(kept);
	catalog_free(c);
	return 0;
}
