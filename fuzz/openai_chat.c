/* SPDX-License-Identifier: MIT
 * The stream parser of the openai-chat API. */
#include "stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_stream("openai-chat", data, size);
}
