/* SPDX-License-Identifier: MIT
 * A server may send back what it was sent: an echo, or an error that quotes the key. Here each
 * occurrence in an answer becomes as many asterisks, also when it is cut between two pieces.
 * Invariant: a piece that is let through holds no whole value, nor its beginning unless the bytes
 * that follow show that it is none. */
#include "broker/internal.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <strings.h>

#define SHORTEST 8 /* below it, a value is likely part of ordinary text */

/* Longer ones stand first: one that is part of another must not take it apart. */
static void
add_value(struct mask *m, struct str value)
{
	size_t at = m->n;

	if (value.n < SHORTEST)
		return;
	m->values = vec_grow(m->values, &m->cap, m->n + 1, sizeof(*m->values));
	for (; at > 0 && m->values[at - 1].n < value.n; at--)
		m->values[at] = m->values[at - 1];
	m->values[at] = (struct str){ str_dup(value), value.n };
	m->n++;
}

void
mask_add(struct mask *m, struct str value)
{
	static const char *const schemes[] = { "Bearer ", "Basic ", "Token " };

	add_value(m, value);
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		size_t n = strlen(schemes[i]);

		if (value.n > n && strncasecmp(value.p, schemes[i], n) == 0)
			add_value(m, str_trim(str_sub(value, n, value.n)));
	}
}

void
mask_free(struct mask *m)
{
	for (size_t i = 0; i < m->n; i++) {
		wipe((char *)m->values[i].p, m->values[i].n);
		free((char *)m->values[i].p);
	}
	free(m->values);
	m->values = NULL;
	m->n = m->cap = 0;
	wipe(m->held.p, m->held.cap);
	buf_fini(&m->held);
}

void
mask_text(const struct mask *m, char *p, size_t n)
{
	for (size_t i = 0; i < m->n; i++) {
		struct str value = m->values[i];
		char *at = p, *hit;

		while ((hit = memmem(at, n - (size_t)(at - p), value.p, value.n)) != NULL) {
			memset(hit, '*', value.n);
			at = hit + value.n;
		}
	}
}

/* How many bytes at the end may be the beginning of a value. */
static size_t
tail_n(const struct mask *m, struct str s)
{
	size_t longest = 0;

	for (size_t i = 0; i < m->n; i++) {
		struct str value = m->values[i];
		size_t k = MIN(s.n, value.n - 1);

		while (k > longest && memcmp(s.p + s.n - k, value.p, k) != 0)
			k--;
		longest = MAX(longest, k);
	}
	return longest;
}

static bool
has_value(const struct mask *m, struct str s)
{
	for (size_t i = 0; i < m->n; i++)
		if (str_find(s, m->values[i]) >= 0)
			return true;
	return false;
}

struct str
mask_take(struct mask *m, struct str bytes)
{
	size_t k;

	if (m->n == 0)
		return bytes;
	buf_consume(&m->held, m->taken);
	m->taken = 0;
	if (m->held.n == 0 && !has_value(m, bytes)) { /* nearly always: nothing is copied */
		k = tail_n(m, bytes);
		buf_add_str(&m->held, str_sub(bytes, bytes.n - k, k));
		return str_sub(bytes, 0, bytes.n - k);
	}
	if (buf_add_str(&m->held, bytes) != 0)
		fatal("broker: a piece of an answer is larger than libcurl makes them");
	mask_text(m, m->held.p, m->held.n);
	m->taken = m->held.n - tail_n(m, buf_str(&m->held));
	return str_sub(buf_str(&m->held), 0, m->taken);
}

struct str
mask_rest(struct mask *m)
{
	buf_consume(&m->held, m->taken);
	m->taken = 0;
	return buf_str(&m->held);
}

size_t
mask_held(const struct mask *m)
{
	return m->held.n - m->taken;
}
