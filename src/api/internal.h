/* SPDX-License-Identifier: MIT
 * The parameter and result tables that the method rows point to. Only this room sees them: others go through
 * api_find. */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "api/api.h"

/* One a line, in alphabetical order. */
extern const struct field
	approval_resolve_params[],
	blob_get_params[],
	blob_put_params[],
	budget_get_params[],
	catalog_fetch_params[],
	catalog_show_params[],
	config_key_params[],
	config_set_params[],
	config_validate_params[],
	doctor_params[],
	model_embed_params[],
	no_params[],
	policy_why_params[],
	secret_key_params[],
	secret_ref_params[],
	secret_set_params[],
	session_context_params[],
	session_create_params[],
	session_events_params[],
	session_list_params[],
	session_ref_params[],
	session_rename_params[],
	session_turn_params[],
	session_unfollow_params[],
	turn_ref_params[];

extern const struct field
	approval_list_result[],
	blob_result[],
	budget_result[],
	catalog_fetch_result[],
	catalog_show_result[],
	catalog_verify_result[],
	config_default_result[],
	config_list_result[],
	config_schema_result[],
	config_set_result[],
	config_validate_result[],
	config_value_result[],
	context_result[],
	doctor_result[],
	events_result[],
	model_embed_result[],
	no_result[],
	secret_key_result[],
	secret_list_result[],
	secret_remove_result[],
	secret_set_result[],
	session_get_result[],
	session_list_result[],
	session_result[],
	status_result[],
	tool_list_result[],
	turn_get_result[],
	turn_result[],
	why_result[];

#endif
