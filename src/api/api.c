/* SPDX-License-Identifier: MIT
 * The method table and the names of turn statuses. Handlers are in the gateway; parameters and results are in params.c.
 * The order of rows is the order of API_METHODS, so a method's id is its index. */
#include "api/internal.h"

/* One line per method; a method without one does not compile. */
#define RESULT_SESSION_CREATE   session_result
#define RESULT_SESSION_LIST     session_list_result
#define RESULT_SESSION_GET      session_get_result
#define RESULT_SESSION_RENAME   no_result
#define RESULT_SESSION_DELETE   no_result
#define RESULT_SESSION_EVENTS   events_result
#define RESULT_SESSION_UNFOLLOW no_result
#define RESULT_SESSION_TURN     turn_result
#define RESULT_SESSION_CONTEXT  context_result
#define RESULT_SESSION_CONTINUE turn_result
#define RESULT_BLOB_PUT         blob_result
#define RESULT_BLOB_GET         blob_result
#define RESULT_TURN_GET         turn_get_result
#define RESULT_TURN_CANCEL      no_result
#define RESULT_APPROVAL_LIST    approval_list_result
#define RESULT_APPROVAL_RESOLVE no_result
#define RESULT_CONFIG_LIST      config_list_result
#define RESULT_CONFIG_GET       config_value_result
#define RESULT_CONFIG_SET       config_set_result
#define RESULT_CONFIG_SCHEMA    config_schema_result
#define RESULT_CONFIG_VALIDATE  config_validate_result
#define RESULT_CONFIG_DEFAULT   config_default_result
#define RESULT_SECRET_KEY       secret_key_result
#define RESULT_SECRET_SET       secret_set_result
#define RESULT_SECRET_LIST      secret_list_result
#define RESULT_SECRET_REMOVE    secret_remove_result
#define RESULT_CATALOG_SHOW     catalog_show_result
#define RESULT_CATALOG_FETCH    catalog_fetch_result
#define RESULT_CATALOG_VERIFY   catalog_verify_result
#define RESULT_POLICY_WHY       why_result
#define RESULT_DOCTOR_RUN       doctor_result
#define RESULT_TOOL_LIST        tool_list_result
#define RESULT_MODEL_EMBED      model_embed_result
#define RESULT_BUDGET_GET       budget_result
#define RESULT_STATUS_GET       status_result

#define ROW(name_, text_, cap_, params_, help_)                                                   \
	{ .id = API_##name_,                                                                        \
		.name = text_,                                                                      \
		.capability = cap_,                                                                 \
		.params = params_,                                                                  \
		.result = RESULT_##name_,                                                           \
		.text = help_ },
const struct method api_methods[API_METHOD_COUNT] = { API_METHODS(ROW) };
#undef ROW

const struct method *
api_find(struct str name)
{
	for (size_t i = 0; i < API_METHOD_COUNT; i++)
		if (str_is(name, api_methods[i].name))
			return &api_methods[i];
	return NULL;
}

const char *
api_nearest(struct str name)
{
	const char *names[API_METHOD_COUNT];

	for (size_t i = 0; i < API_METHOD_COUNT; i++)
		names[i] = api_methods[i].name;
	return str_nearest(name, names, API_METHOD_COUNT);
}

#define ROW(name_, text_, exit_) { text_, exit_ },
static const struct {
	const char *name;
	int exit;
} statuses[TURN_STATUS_COUNT] = { TURN_STATUSES(ROW) };
#undef ROW

const char *
turn_status_name(enum turn_status s)
{
	return (unsigned)s < TURN_STATUS_COUNT ? statuses[s].name : "failed";
}

int
turn_status_parse(struct str s, enum turn_status *out)
{
	for (size_t i = 0; i < TURN_STATUS_COUNT; i++) {
		if (!str_is(s, statuses[i].name))
			continue;
		*out = (enum turn_status)i;
		return 0;
	}
	return -1;
}

int
turn_status_exit(enum turn_status s)
{
	return (unsigned)s < TURN_STATUS_COUNT ? statuses[s].exit : 1;
}
