/* SPDX-License-Identifier: MIT */
#include "floor_json_c.h"

#include <json-c/json.h>
#include <stdio.h>

int
floor_json_c(const struct str *lines, size_t n)
{
	struct json_tokener *t = json_tokener_new();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o;

		json_tokener_reset(t);
		o = json_tokener_parse_ex(t, lines[i].p, (int)lines[i].n);
		if (o == NULL) {
			fprintf(stderr, "parsers: json-c: %s\n",
				json_tokener_error_desc(json_tokener_get_error(t)));
			json_tokener_free(t);
			return -1;
		}
		json_object_put(o);
	}
	json_tokener_free(t);
	return 0;
}
