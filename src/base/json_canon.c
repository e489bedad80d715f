/* SPDX-License-Identifier: MIT
 * Two other ways to write a tree: RFC 8785 canonical bytes, over which hashes are taken, and
 * indented text for people. Canonical means: no white space, keys in UTF-16 order, numbers as
 * ECMAScript prints them. A whole number that a double cannot hold keeps all its digits, so that
 * two different numbers never hash alike. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/internal.h"

#define DIGITS_MAX 17

/* Decimal digits d1 d2 ... dk of a positive double, value 0.d1d2... * 10^point. */
struct decimal {
	char digits[DIGITS_MAX + 2];
	int n, point;
};

static double
decimal_value(const struct decimal *x)
{
	char text[40];
	(void)snprintf(text, sizeof(text), "0.%se%d", x->digits, x->point);
	return number_value(text);
}

static void
decimal_round(double d, int n, struct decimal *out)
{
	char text[40];
	(void)snprintf(text, sizeof(text), "%.*e", n - 1, d); /* d.ddde+NN */
	out->digits[0] = text[0];
	if (n > 1)
		memcpy(out->digits + 1, text + 2, (size_t)n - 1);
	out->digits[n] = '\0';
	out->n = n;
	out->point = (int)strtol(strchr(text, 'e') + 1, NULL, 10) + 1;
}

/* The next larger decimal of as many digits. */
static struct decimal
decimal_next(struct decimal x)
{
	int i = x.n - 1;
	while (i >= 0 && x.digits[i] == '9')
		x.digits[i--] = '0';
	if (i >= 0) {
		x.digits[i]++;
	} else {
		x.digits[0] = '1';
		x.point++;
	}
	return x;
}

/* The fewest digits that read back as d. The correctly rounded decimal is the nearest one, and
 * where any decimal of that length reads back it does too, except at a power of two, whose lower
 * gap is half the upper: there the decimal above is tried as well. */
static void
decimal_shortest(double d, struct decimal *out)
{
	int exponent;
	bool power_of_two = frexp(d, &exponent) == 0.5;
	for (int n = 1; n <= DIGITS_MAX; n++) {
		decimal_round(d, n, out);
		if (decimal_value(out) == d)
			return;
		struct decimal above = decimal_next(*out);
		if (power_of_two && decimal_value(&above) == d) {
			*out = above;
			return;
		}
	}
}

void
es_number(double d, char out[ES_NUMBER_SIZE])
{
	static const char zeros[] = "00000000000000000000000";
	struct decimal x;
	if (d == 0) {
		memcpy(out, "0", 2);
		return;
	}
	decimal_shortest(fabs(d), &x);
	const char *sign = d < 0 ? "-" : "";
	int k = x.n, n = x.point;
	if (k <= n && n <= 21)
		(void)snprintf(out, ES_NUMBER_SIZE, "%s%s%.*s", sign, x.digits, n - k, zeros);
	else if (0 < n && n <= 21)
		(void)snprintf(out, ES_NUMBER_SIZE, "%s%.*s.%s", sign, n, x.digits, x.digits + n);
	else if (-6 < n && n <= 0)
		(void)snprintf(out, ES_NUMBER_SIZE, "%s0.%.*s%s", sign, -n, zeros, x.digits);
	else
		(void)snprintf(out, ES_NUMBER_SIZE, "%s%c%s%se%+d", sign, x.digits[0],
			k > 1 ? "." : "", x.digits + 1, n - 1);
}

/* raw as RFC 8785 wants it: ECMAScript's form, or all digits where a double is not the number that
 * was written. */
static void
canonical_number(struct json *j, const struct node *n)
{
	char exact[320], text[ES_NUMBER_SIZE];
	bool whole = n->num.raw.p[strcspn(n->num.raw.p, ".eE")] == '\0';
	if (whole) {
		(void)snprintf(exact, sizeof(exact), "%.0f", n->num.d);
		if (!str_is(n->num.raw, exact)) {
			json_raw(j, n->num.raw);
			return;
		}
	}
	es_number(n->num.d, text);
	json_raw(j, str_of(text));
}

static void
canonical(struct json *j, const struct node *n)
{
	if (n->type == NODE_MAP) {
		AUTO_FREE const struct node_pair **sorted = pairs_sorted(n, true);
		json_obj(j);
		for (size_t i = 0; i < n->map.n; i++) {
			json_key_str(j, sorted[i]->key);
			canonical(j, &sorted[i]->value);
		}
		json_obj_end(j);
	} else if (n->type == NODE_LIST) {
		json_arr(j);
		for (size_t i = 0; i < n->list.n; i++)
			canonical(j, &n->list.items[i]);
		json_arr_end(j);
	} else if (n->type == NODE_NUM) {
		canonical_number(j, n);
	} else {
		json_node(j, n);
	}
}

int
json_canonical(struct buf *b, const struct node *n)
{
	struct json j;
	json_init(&j, b);
	canonical(&j, n ? n : &node_null);
	return b->overflow ? ERR_LIMIT : 0;
}

static void
new_line(struct buf *b, unsigned depth)
{
	(void)buf_printf(b, "\n%*s", (int)(2 * depth), "");
}

/* A scalar, a key or an empty container: the plain writer's text without its comma. */
static void
add_plain(struct buf *b, const struct node *n)
{
	struct json j;
	json_init(&j, b);
	json_node(&j, n);
}

static void
pretty(struct buf *b, const struct node *n, unsigned depth)
{
	size_t len = node_len(n);
	bool is_map = n->type == NODE_MAP;
	if (len == 0) {
		add_plain(b, n);
		return;
	}
	(void)buf_add_char(b, is_map ? '{' : '[');
	for (size_t i = 0; i < len; i++) {
		if (i > 0)
			(void)buf_add_char(b, ',');
		new_line(b, depth + 1);
		if (is_map) {
			const struct node key = { .type = NODE_STR, .s = n->map.pairs[i].key };
			add_plain(b, &key);
			(void)buf_add_z(b, ": ");
		}
		pretty(b, is_map ? &n->map.pairs[i].value : &n->list.items[i], depth + 1);
	}
	new_line(b, depth);
	(void)buf_add_char(b, is_map ? '}' : ']');
}

int
json_pretty(struct buf *b, const struct node *n)
{
	pretty(b, n ? n : &node_null, 0);
	return b->overflow ? ERR_LIMIT : 0;
}
