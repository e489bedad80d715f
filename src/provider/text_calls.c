/* SPDX-License-Identifier: MIT */
#include "provider/internal.h"

const struct model_request *
request_prepare(const struct model_request *r, struct arena *a)
{
	return r;
}
