/* SPDX-License-Identifier: MIT
 * The root directory of a container that shows the host's own programs: places for mounts, and not a single program. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "net/oci.h"

/* ---- the root (ustar, POSIX.1-1988) ---- */

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2], user[32],
		group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == 512, "a tar header is one block");

static void
entry(struct buf *b, const char *name, char type, int mode, const char *link)
{
	struct ustar h = { .type = type, .magic = "ustar", .version = { '0', '0' }, .sum = { ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ' } };
	unsigned sum = 0;

	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.link, sizeof(h.link), "%s", link);
	snprintf(h.mode, sizeof(h.mode), "%07o", (unsigned)mode);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	snprintf(h.size, sizeof(h.size), "%011o", 0u);
	snprintf(h.mtime, sizeof(h.mtime), "%011o", 0u);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	h.sum[7] = ' ';
	buf_add(b, &h, sizeof(h));
}

/* Beside /usr a host has links into it or directories of their own; those are mounted. */
static void
add_top(struct buf *b)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[16], target[80];
		struct stat st;
		ssize_t n;

		snprintf(path, sizeof(path), "/%s", names[i]);
		if (lstat(path, &st) != 0)
			continue;
		n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof(target) - 1) : -1;
		if (n > 0) {
			target[n] = '\0';
			entry(b, names[i], '2', 0777, target);
		} else {
			entry(b, names[i], '5', 0755, "");
		}
	}
}

void
oci_host_root(struct buf *b)
{
	static const struct {
		const char *name;
		int mode;
	} dirs[] = { { "usr/", 0755 }, { "etc/", 0755 }, { "proc/", 0755 }, { "sys/", 0755 }, { "dev/", 0755 }, { "run/", 0755 },
		{ "tmp/", 01777 }, { "var/", 0755 }, { "home/", 0755 }, { "root/", 0700 } };
	static const char end[1024];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		entry(b, dirs[i].name, '5', dirs[i].mode, "");
	add_top(b);
	buf_add(b, end, sizeof(end));
}
