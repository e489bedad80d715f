/* SPDX-License-Identifier: MIT
 * Reads what base/log writes. Log files are written by our own roles, but what stands in them came from anywhere: nothing
 * here trusts a length or a quote, and nothing reaches a terminal uncleaned. */
#include "cli/logline.h"
#include <string.h>
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"

#define FIELDS_MAX   256
#define ROLE_COLUMNS 7

/* ---- logfmt ---- */

/* The value at the front of *rest, without its quotes. 0 or -1. */
static int
take_value(struct str *rest, struct arena *a, struct str *out)
{
	struct buf b;
	size_t i = 1;

	if (rest->n == 0 || rest->p[0] != '"') {
		ptrdiff_t end = str_find_char(*rest, ' ');

		*out = str_sub(*rest, 0, end < 0 ? rest->n : (size_t)end);
		*rest = str_sub(*rest, out->n, rest->n);
		return 0;
	}
	buf_init(&b, LOG_RECORD_MAX);
	while (i < rest->n && rest->p[i] != '"') {
		i += rest->p[i] == '\\' && i + 1 < rest->n;
		(void)buf_add_char(&b, rest->p[i++]);
	}
	*out = arena_take(a, &b);
	if (i >= rest->n)
		return -1;
	*rest = str_sub(*rest, i + 1, rest->n);
	return 0;
}

static bool
is_number(struct str s)
{
	size_t i = s.n > 0 && s.p[0] == '-';

	if (s.n == i || s.n > 18 || (s.p[i] == '0' && s.n > i + 1))
		return false;
	while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
		i++;
	return i == s.n;
}

/* What every record begins with. */
static const char *const heads[] = { "time", "level", "role", "msg" };
enum { HEADS = ARRAY_LEN(heads) };

static bool
is_head(struct str key)
{
	for (size_t i = 0; i < ARRAY_LEN(heads); i++)
		if (str_is(key, heads[i]))
			return true;
	return false;
}

/* key=value key="value" ...: as JSON text, so that there is one kind of tree. 0 or -1. */
static int
to_json(struct str line, struct arena *a, struct buf *out)
{
	struct json j;
	struct str key, value;

	json_init(&j, out);
	json_obj(&j);
	for (size_t n = 0; line.n > 0; n++) {
		ptrdiff_t eq = str_find_char(line, '=');

		if (eq < 1 || n == FIELDS_MAX)
			return -1;
		key = str_sub(line, 0, (size_t)eq);
		line = str_sub(line, (size_t)eq + 1, line.n);
		bool is_quoted = line.n > 0 && line.p[0] == '"';
		if (memchr(key.p, ' ', key.n) != NULL || take_value(&line, a, &value) != 0)
			return -1;
		if (n >= HEADS && is_head(key)) /* would be there twice */
			key = str_of(arena_printf(a, "%.*s_", STR_FMT(key)));
		json_key_str(&j, key);
		if (!is_quoted && is_number(value))
			json_raw(&j, value);
		else
			json_str(&j, value);
		if (line.n > 0 && line.p[0] != ' ')
			return -1;
		line = str_sub(line, 1, line.n);
	}
	json_obj_end(&j);
	return out->overflow ? -1 : 0;
}

/* ---- both ---- */

int
logline_parse(struct str text, struct arena *a, struct logline *out)
{
	struct buf b;
	struct err e;
	const struct node *n = NULL;
	int rc = -1;

	text = str_trim(text);
	buf_init(&b, 4 * LOG_RECORD_MAX);
	if (text.n > 0 && text.n <= LOG_RECORD_MAX && text.p[0] == '{')
		rc = json_parse(a, text, &n, &e);
	else if (text.n > 0 && text.n <= LOG_RECORD_MAX && to_json(text, a, &b) == 0)
		rc = json_parse(a, arena_str(a, buf_str(&b)), &n, &e);
	buf_fini(&b);
	if (rc != 0 || !node_is(n, NODE_MAP))
		return -1;
	*out = (struct logline){ .time = node_str(n, "time", STR("")), .role = node_str(n, "role", STR("")),
		.stream = node_str(n, "stream", STR("")), .msg = node_str(n, "msg", STR("")), .fields = n };
	return out->time.n > 0 && log_level_parse(node_str(n, "level", STR("")), &out->level) == 0 ? 0 : -1;
}

void
logline_print(const struct logline *l, struct buf *out)
{
	static const char *const levels[] = { "debug", "info ", "warn ", "error", "off  " };
	size_t column;

	(void)term_clean(out, l->time, true);
	(void)buf_printf(out, " %s ", levels[l->level]);
	column = out->n + ROLE_COLUMNS;
	(void)term_clean(out, l->role, true);
	while (out->n < column && buf_add_char(out, ' ') == 0) {
	}
	(void)buf_add_char(out, ' ');
	(void)term_clean(out, l->msg, true);
	for (size_t i = 0; i < l->fields->map.n; i++) {
		const struct node *v = &l->fields->map.pairs[i].value;

		if (is_head(l->fields->map.pairs[i].key))
			continue;
		(void)buf_add_char(out, ' ');
		(void)term_clean(out, l->fields->map.pairs[i].key, true);
		(void)buf_add_char(out, '=');
		if (node_is(v, NODE_STR)) {
			(void)term_clean(out, v->s, true);
		} else {
			struct buf b;
			struct json j;

			buf_init(&b, LOG_RECORD_MAX);
			json_init(&j, &b);
			json_node(&j, v);
			(void)term_clean(out, buf_str(&b), true);
			buf_fini(&b);
		}
	}
	(void)buf_add_char(out, '\n');
}
