/* SPDX-License-Identifier: MIT
 * The stream parser of the gemini API. */
#include "stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_stream("gemini", data, size);
}
