/* SPDX-License-Identifier: MIT
 * The file of sealed secrets, $ITHACA_HOME/secrets: JSON {v, secrets: [{name, hosts, uses,
 * set_at_ms, key, sealed}]}. The runtime keeps it and lists it, the broker opens it. Everything but
 * `sealed` is for people: what counts is inside. */
#include "base/field.h"
#include "base/limits.h"
#include "base/seal.h"
#include "broker/broker.h"

static const struct field text_item = {
	.name = "text", .type = FIELD_STR, .min = 1, .max = SECRET_HOST_MAX
};

static const struct field secret_fields[] = {
	{ .name = "name",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = SECRET_NAME_MAX },
	{ .name = "hosts",
		.type = FIELD_LIST,
		.flags = FIELD_REQUIRED,
		.item = &text_item,
		.max = SECRET_HOSTS_MAX },
	{ .name = "uses",
		.type = FIELD_LIST,
		.flags = FIELD_REQUIRED,
		.item = &text_item,
		.max = SECRET_USES_MAX },
	{ .name = "set_at_ms",
		.type = FIELD_INT,
		.flags = FIELD_REQUIRED,
		.min = 0,
		.max = INT64_MAX },
	{ .name = "key",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = SEAL_PUBLIC_HEX - 1 },
	{ .name = "sealed",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = 2 * SECRET_RECORD_MAX },
	{ .type = FIELD_END },
};
static const struct field secret_item = {
	.name = "secret", .type = FIELD_OBJECT, .sub = secret_fields
};
static const struct field file_fields[] = {
	{ .name = "v", .type = FIELD_INT, .flags = FIELD_REQUIRED, .min = 0, .max = INT64_MAX },
	{ .name = "secrets",
		.type = FIELD_LIST,
		.flags = FIELD_REQUIRED,
		.item = &secret_item,
		.max = SECRETS_MAX },
	{ .type = FIELD_END },
};

static int
check_names(const struct node *list, struct err *e)
{
	for (size_t i = 0; i < node_len(list); i++) {
		struct str name = node_str(node_at(list, i), "name", STR(""));

		if (!secret_name_is_valid(name))
			return err_set(
				e, ERR_CORRUPT, ERR_TO_USER, "entry %zu has no valid name", i);
		if (sealed_find((struct node[]){ { .type = NODE_LIST,
					.list = { list->list.items, i } } },
			    name) != NULL)
			return err_set(e, ERR_CORRUPT, ERR_TO_USER, "there are two entries %.*s",
				STR_FMT(name));
	}
	return 0;
}

int
sealed_parse(struct arena *a, struct str text, const struct node **list, struct err *e)
{
	static const struct node none = { .type = NODE_LIST };
	const struct node *root;

	if (str_trim(text).n == 0) {
		*list = &none;
		return 0;
	}
	if (text.n > SECRETS_FILE_MAX)
		return err_set(e, ERR_CORRUPT, ERR_TO_USER, "the file is larger than %u bytes",
			SECRETS_FILE_MAX);
	if (json_parse(a, text, &root, e) != 0)
		return e->code = ERR_CORRUPT;
	if (node_is(root, NODE_MAP) && node_int(root, "v", 1) != 1)
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"the file has version %lld, this program reads 1 (upgrade it)",
			(long long)node_int(root, "v", 0));
	if (field_check(file_fields, root, "file", ERR_TO_USER, e) != 0)
		return e->code = ERR_CORRUPT;
	if (check_names(node_get(root, "secrets"), e) != 0)
		return e->code;
	*list = node_get(root, "secrets");
	return 0;
}

const struct node *
sealed_find(const struct node *list, struct str name)
{
	for (size_t i = 0; i < node_len(list); i++)
		if (str_eq(node_str(node_at(list, i), "name", STR("")), name))
			return node_at(list, i);
	return NULL;
}

int
sealed_write(struct buf *out, const struct node *list, struct str without, const struct node *with,
	struct err *e)
{
	struct json j;
	size_t n = 0;

	json_init(&j, out);
	json_obj(&j);
	json_kv_int(&j, "v", 1);
	json_kv_arr(&j, "secrets");
	for (size_t i = 0; i < node_len(list); i++) {
		if (str_eq(node_str(node_at(list, i), "name", STR("")), without))
			continue;
		buf_add_char(out, '\n');
		json_node(&j, node_at(list, i));
		n++;
	}
	if (with != NULL) {
		buf_add_char(out, '\n');
		json_node(&j, with);
		n++;
	}
	json_arr_end(&j);
	json_obj_end(&j);
	buf_add_char(out, '\n');
	if (out->overflow || out->n > SECRETS_FILE_MAX || n > SECRETS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER,
			"there are too many secrets (at most %u, %u bytes sealed)", SECRETS_MAX,
			SECRETS_FILE_MAX);
	return 0;
}
