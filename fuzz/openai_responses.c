/* SPDX-License-Identifier: MIT
 * The stream parser of the openai-responses API. */
#include "stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_stream("openai-responses", data, size);
}
