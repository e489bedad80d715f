/* SPDX-License-Identifier: MIT
 * Which model a role has: one table from role to configuration key. */
#include "provider/provider.h"

static const struct {
	const char *key;
	bool falls_back; /* unset: the main model */
} roles[] = {
	[ROLE_MAIN] = { "model", false },
	[ROLE_FAST] = { "models.fast", true },
	[ROLE_JUDGE] = { "models.judge", true },
	[ROLE_EMBEDDING] = { "models.embedding", false },
};

const char *
role_model(const struct config *c, enum model_role role)
{
	const char *name = config_z(c, roles[role].key);

	return name || !roles[role].falls_back ? name : config_z(c, roles[ROLE_MAIN].key);
}
