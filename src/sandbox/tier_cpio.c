/* SPDX-License-Identifier: MIT
 * The archive that a kernel unpacks as its first file system: cpio, form newc (Documentation/driver-api/early-userspace).
 * Each field is 8 hexadecimal digits; names and contents are padded to 4 bytes. */
#include "sandbox/tier.h"

#include <string.h>

static void
pad(struct buf *b, size_t start)
{
	while ((b->n - start) % 4 != 0 && !b->overflow)
		buf_add_char(b, '\0');
}

void
cpio_add(struct buf *b, const char *name, unsigned mode, struct str content)
{
	size_t start = b->n - b->n % 4;

	/* inode, mode, uid, gid, links, time, size, device (2), special device (2), length of the name, checksum */
	buf_printf(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 0u, mode, 0u, 0u, 1u, 0u, content.n, 0u, 0u, 0u,
		0u, strlen(name) + 1, 0u);
	buf_add(b, name, strlen(name) + 1);
	pad(b, start);
	buf_add_str(b, content);
	pad(b, start);
}

void
cpio_end(struct buf *b)
{
	cpio_add(b, "TRAILER!!!", 0, STR(""));
}
