/* SPDX-License-Identifier: MIT
 * JSON as models write it, made valid where only one reading is possible: no value, brace or name
 * is ever guessed. */
#include "base/json.h"

/* Whether only white space stands between p[i] and a closing bracket. */
static bool
closes_next(struct str s, size_t i)
{
	while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\t' || s.p[i] == '\n' || s.p[i] == '\r'))
		i++;
	return i < s.n && (s.p[i] == '}' || s.p[i] == ']');
}

struct str
json_mend(struct arena *a, struct str s)
{
	struct buf b;
	bool in_string = false;

	buf_init(&b, 6 * s.n + 1);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (!in_string && c == ',' && closes_next(s, i + 1))
			continue;
		if (in_string && c < 0x20) {
			buf_printf(&b, "\\u%04x", c);
			continue;
		}
		buf_add_char(&b, (char)c);
		if (in_string && c == '\\' && i + 1 < s.n && (unsigned char)s.p[i + 1] >= 0x20)
			buf_add_char(&b, s.p[++i]);
		else if (c == '"')
			in_string = !in_string;
	}
	struct str out = s;
	char *p = arena_try(a, b.n + 1);
	if (p != NULL && b.n > 0) {
		memcpy(p, b.p, b.n);
		out = (struct str){ p, b.n };
	}
	buf_fini(&b);
	return out;
}

size_t
json_span(struct str s)
{
	bool in_string = false;
	size_t depth = 0;

	if (s.n == 0 || (s.p[0] != '{' && s.p[0] != '['))
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			depth++;
		} else if ((c == '}' || c == ']') && --depth == 0) {
			return i + 1;
		}
	}
	return 0;
}
