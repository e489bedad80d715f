/* SPDX-License-Identifier: MIT
 * What a stored secret is read from: the file of sealed ones, the plain text of a record, the line
 * of master.salt. A record that parses must seal, open and parse to itself; a file that parses must
 * be written back the same. */
#include <stdlib.h>

#include "base/limits.h"
#include "broker/broker.h"
#include "runner/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_record(const struct seal_record *r)
{
	static const unsigned char seed[SEAL_SEED_SIZE] = { 1 };
	struct seal_key *k = seal_key_new(seed);
	struct seal_record back;
	struct err e = { 0 };
	struct buf sealed;

	buf_init(&sealed, 2 * SECRET_RECORD_MAX);
	if (seal_record_close(r, seal_key_public(k), &sealed, &e) != 0)
		fatal("a good record cannot be sealed: %s", e.msg);
	struct secret *plain = seal_open(k, buf_str(&sealed), &e);
	if (plain == NULL || seal_record_parse(secret_peek(plain), &back, &e) != 0)
		fatal("a sealed record cannot be read: %s", e.msg);
	if (!str_eq(r->name, back.name) || !str_eq(r->value, back.value) ||
		r->hosts_n != back.hosts_n || r->uses_n != back.uses_n)
		fatal("a sealed record has become another one");
	secret_free(plain);
	buf_fini(&sealed);
	seal_key_free(k);
}

static void
check_file(struct arena *a, const struct node *list)
{
	const struct node *again;
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, 4 * SECRETS_FILE_MAX);
	if (sealed_write(&out, list, STR(""), NULL, &e) == 0 &&
		(sealed_parse(a, buf_str(&out), &again, &e) != 0 || !node_equal(list, again)))
		fatal("a file of secrets is not written back the same: %s", e.msg);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data + (size > 0), size > 0 ? size - 1 : 0 };
	unsigned char salt[SEAL_SALT_SIZE];
	struct seal_record r;
	const struct node *list;
	struct str public;
	struct err e = { 0 };
	int64_t ops, mem;

	if (size == 0)
		return 0;
	struct arena *a = arena_new(64 * MIB);
	switch (data[0]) {
	case 'r':
		if (seal_record_parse(text, &r, &e) == 0)
			check_record(&r);
		break;
	case 's':
		(void)!salt_parse(text, salt, &ops, &mem, &public);
		break;
	default:
		if (sealed_parse(a, text, &list, &e) == 0)
			check_file(a, list);
	}
	arena_free(a);
	return 0;
}
