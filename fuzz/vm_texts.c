/* SPDX-License-Identifier: MIT
 * The header of a saved machine, the verdict on KVM and the hello of a start: what is taken is
 * within its bounds, and reads back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "sandbox/vm_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *text = malloc(n + 1), head[SAVED_HEADER_MAX];
	struct saved_header s, again;
	struct vm_hello h;
	struct err e;

	memcpy(text, data, n);
	if (saved_header_parse((struct str){ text, n }, &s, &e) == 0) {
		if (s.device_bytes > SAVED_MEMORY_AT || memchr(s.key, 0, sizeof(s.key)) == NULL)
			abort();
		saved_header_put(&s, head);
		if (saved_header_parse((struct str){ head, sizeof(head) }, &again, &e) != 0 ||
			again.check != s.check)
			abort();
	}
	enum kvm_verdict v = kvm_verdict_parse((struct str){ text, n }, "key");
	if (v != KVM_UNTRIED && v != KVM_ANSWERED && v != KVM_SILENT)
		abort();
	int rc = vm_hello_parse(text, n, &h);
	if ((rc == 0 && n >= VM_HELLO_MAX) ||
		(rc == 1 && (h.dir[0] != '/' || strlen(h.dir) >= PLAN_PATH_MAX)))
		abort();
	free(text);
	return 0;
}
