/* SPDX-License-Identifier: MIT
 * The table of tiers above the cell. */
#include "sandbox/tier.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct tier *const tiers[] = { &tier_container, &tier_microvm };

const struct tier *
tier_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(tiers); i++) {
		if (strcmp(tiers[i]->name, name) == 0)
			return tiers[i];
	}
	return NULL;
}

int
tier_refuse(struct tier_reason *why, const char *code, int err_code, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(why->code, sizeof(why->code), "%s", code);
	return err_set(&why->e, err_code, ERR_TO_USER, "%s: %s", code, text);
}
