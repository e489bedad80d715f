/* SPDX-License-Identifier: MIT
 * Comparing a node tree with the one that json-c makes of the same text. */
#include "json_c.h"

#include <json.h>

#include "base/limits.h"

static bool
same(const struct node *n, struct json_object *o)
{
	struct json_object *value;
	switch (n->type) {
	case NODE_NULL:
		return o == NULL;
	case NODE_BOOL:
		return json_object_is_type(o, json_type_boolean) &&
		       json_object_get_boolean(o) == n->b;
	case NODE_INT:
		return json_object_is_type(o, json_type_int) && json_object_get_int64(o) == n->i;
	case NODE_NUM:
		/* A whole number past 64 bits: json-c saturates, which is why it is not the parser.
		 */
		return json_object_is_type(o, json_type_int) ||
		       json_object_get_double(o) == n->num.d;
	case NODE_STR:
		return json_object_is_type(o, json_type_string) &&
		       (size_t)json_object_get_string_len(o) == n->s.n &&
		       memcmp(json_object_get_string(o), n->s.p, n->s.n) == 0;
	case NODE_LIST:
		if (!json_object_is_type(o, json_type_array) ||
			json_object_array_length(o) != n->list.n)
			return false;
		for (size_t i = 0; i < n->list.n; i++) {
			if (!same(&n->list.items[i], json_object_array_get_idx(o, i)))
				return false;
		}
		return true;
	case NODE_MAP:
		if (!json_object_is_type(o, json_type_object) ||
			(size_t)json_object_object_length(o) != n->map.n)
			return false;
		for (size_t i = 0; i < n->map.n; i++) {
			if (!json_object_object_get_ex(o, n->map.pairs[i].key.p, &value) ||
				!same(&n->map.pairs[i].value, value))
				return false;
		}
		return true;
	}
	return false;
}

bool
json_c_agrees(struct str text, const struct node *n)
{
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH_MAX);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *o = json_tokener_parse_ex(t, text.p, (int)text.n + 1);
	bool agrees = json_tokener_get_error(t) == json_tokener_success && same(n, o);
	json_object_put(o);
	json_tokener_free(t);
	return agrees;
}
