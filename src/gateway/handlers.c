/* SPDX-License-Identifier: MIT
 * Which function answers which method: one row each, in the order of the method table. */
#include "gateway/internal.h"

const handler_fn handlers[API_METHOD_COUNT] = {
	[API_SESSION_CREATE] = handle_session_create,
	[API_SESSION_LIST] = handle_session_list,
	[API_SESSION_GET] = handle_session_get,
	[API_SESSION_RENAME] = handle_session_rename,
	[API_SESSION_DELETE] = handle_session_delete,
	[API_SESSION_EVENTS] = handle_session_events,
	[API_SESSION_TURN] = handle_session_turn,
	[API_SESSION_CONTINUE] = handle_session_continue,
	[API_TURN_GET] = handle_turn_get,
	[API_TURN_CANCEL] = handle_turn_cancel,
	[API_APPROVAL_LIST] = handle_approval_list,
	[API_APPROVAL_RESOLVE] = handle_approval_resolve,
	[API_CONFIG_LIST] = handle_config_list,
	[API_CONFIG_GET] = handle_config_get,
	[API_CONFIG_SET] = handle_config_set,
	[API_CONFIG_SCHEMA] = handle_config_schema,
	[API_CONFIG_VALIDATE] = handle_config_validate,
	[API_CONFIG_DEFAULT] = handle_config_default,
	[API_POLICY_WHY] = handle_policy_why,
	[API_SECRET_KEY] = handle_secret_key,
	[API_SECRET_SET] = handle_secret_set,
	[API_SECRET_LIST] = handle_secret_list,
	[API_SECRET_REMOVE] = handle_secret_remove,
	[API_DOCTOR_RUN] = handle_doctor_with_keyring,
	[API_TOOL_LIST] = handle_tool_list,
	[API_MODEL_EMBED] = handle_model_embed,
	[API_BUDGET_GET] = handle_budget_get,
	[API_STATUS_GET] = handle_status_get,
};
