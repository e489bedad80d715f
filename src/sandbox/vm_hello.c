/* SPDX-License-Identifier: MIT
 * What the host gives the first program of a machine, as text: four lines. */
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "sandbox/vm.h"

void
vm_hello_put(struct buf *b, const struct vm_hello *h)
{
	char random[2 * VM_RANDOM + 1];

	hex_encode(h->random, VM_RANDOM, random);
	buf_printf(b, "%s\n%s\n%lld\n%s\n", h->token, h->dir, (long long)h->at_ns, random);
	explicit_bzero(random, sizeof(random));
}

static int
from_hex(struct str s, unsigned char *out, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	if (s.n != 2 * n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const char *a = memchr(digits, s.p[2 * i], 16),
			   *b = memchr(digits, s.p[2 * i + 1], 16);
		if (a == NULL || b == NULL)
			return -1;
		out[i] = (unsigned char)((a - digits) << 4 | (b - digits));
	}
	return 0;
}

int
vm_hello_parse(char *text, size_t n, struct vm_hello *out)
{
	struct vm_hello h = { 0 };
	struct str rest = { text, n }, lines[4];
	size_t whole = 0;

	for (size_t i = 0; i < n; i++)
		whole += text[i] == '\n';
	if (whole < ARRAY_LEN(lines))
		return n < VM_HELLO_MAX ? 0 : -1;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		(void)str_next(&rest, '\n', &lines[i]);
	bool is_path = lines[1].n > 1 && lines[1].n < PLAN_PATH_MAX && lines[1].p[0] == '/' &&
		       memchr(lines[1].p, 0, lines[1].n) == NULL;
	if (rest.n > 0 || !door_token_valid(lines[0]) || !is_path ||
		str_i64(lines[2], &h.at_ns) != 0 || from_hex(lines[3], h.random, VM_RANDOM) != 0)
		return -1;
	memcpy(h.token, lines[0].p, lines[0].n);
	text[(size_t)(lines[1].p - text) + lines[1].n] = '\0';
	h.dir = lines[1].p;
	*out = h;
	return 1;
}
