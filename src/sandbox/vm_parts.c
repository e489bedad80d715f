/* SPDX-License-Identifier: MIT
 * What a machine of QEMU is made of: programs and a kernel that are found on the host, and its
 * initial file system. The archive is the same for every start: it holds no token and nothing of a
 * home. */
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm_host.h"

#define MODULE_MAX (4u * MIB)

/* In this order; what the kernel has built in is not there as a file. */
static const char *const modules[] = { "virtio_ring", "virtio", "virtio_pci_legacy_dev",
	"virtio_pci_modern_dev", "virtio_pci", "virtio_console", "fuse", "virtiofs" };
static const char *const needed[] = { "virtio_console", "virtiofs" };

/* ---- finding the parts ---- */

static const char *
first_there(const char *given, const char *const *places, size_t n, int mode)
{
	if (given != NULL && given[0] != '\0')
		return access(given, mode) == 0 ? given : NULL;
	for (size_t i = 0; i < n; i++) {
		if (access(places[i], mode) == 0)
			return places[i];
	}
	return NULL;
}

/* The newest of /boot, or the given one: vmlinuz-VERSION, with its modules in
 * ../lib/modules/VERSION. */
static int
find_kernel(const struct tier_spec *s, struct vm_parts *p, struct tier_reason *why)
{
	const char *given = s->microvm.kernel;
	char best[256] = "";

	if (given != NULL && given[0] != '\0') {
		snprintf(p->kernel, sizeof(p->kernel), "%s", given);
	} else {
		DIR *d = opendir("/boot");
		for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL;
			x = readdir(d)) {
			if (strncmp(x->d_name, "vmlinuz-", 8) == 0 &&
				strverscmp(x->d_name, best) > 0)
				snprintf(best, sizeof(best), "%s", x->d_name);
		}
		if (d != NULL)
			closedir(d);
		snprintf(p->kernel, sizeof(p->kernel), "/boot/%s", best);
	}
	const char *name = strrchr(p->kernel, '/');
	const char *version = name == NULL ? NULL : strchr(name, '-');
	if (version == NULL || access(p->kernel, R_OK) != 0)
		return tier_refuse(why, "kernel_missing", ERR_UNSUPPORTED,
			"there is no kernel that can be read (apt-get install "
			"linux-image-cloud-amd64, or set microvm.kernel to a vmlinuz-VERSION)");
	int n = (int)(name - p->kernel);
	snprintf(p->modules, sizeof(p->modules), "%.*s/../lib/modules/%.200s", n, p->kernel,
		version + 1);
	if (access(p->modules, R_OK) != 0)
		return tier_refuse(why, "kernel_missing", ERR_UNSUPPORTED,
			"the kernel %.100s has no modules in %.100s", p->kernel, p->modules);
	return 0;
}

int
vm_parts_find(const struct tier_spec *s, struct vm_parts *p, struct tier_reason *why)
{
	static const char *const qemus[] = { "/usr/bin/qemu-system-x86_64",
		"/usr/local/bin/qemu-system-x86_64" };
	static const char *const shares[] = { "/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd",
		"/usr/bin/virtiofsd" };

	p->qemu = first_there(s->microvm.qemu, qemus, ARRAY_LEN(qemus), X_OK);
	p->virtiofsd = first_there(s->microvm.virtiofsd, shares, ARRAY_LEN(shares), X_OK);
	if (p->qemu == NULL)
		return tier_refuse(why, "qemu_missing", ERR_UNSUPPORTED,
			"there is no qemu-system-x86_64 (apt-get install qemu-system-x86, or set "
			"microvm.qemu)");
	if (p->virtiofsd == NULL)
		return tier_refuse(why, "virtiofsd_missing", ERR_UNSUPPORTED,
			"there is no virtiofsd to share workspaces with (apt-get install "
			"qemu-system-common, or set microvm.virtiofsd)");
	return find_kernel(s, p, why);
}

/* ---- the initial file system ---- */

struct found {
	char path[ARRAY_LEN(modules)][PLAN_PATH_MAX];
};
/* nftw has no argument; each worker thread looks for itself. */
static _Thread_local struct found *looking;

static int
on_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	const char *name = path + at->base;

	for (size_t i = 0; type == FTW_F && i < ARRAY_LEN(modules); i++) {
		size_t n = strlen(modules[i]);
		if (strncmp(name, modules[i], n) == 0 && strcmp(name + n, ".ko") == 0)
			snprintf(looking->path[i], PLAN_PATH_MAX, "%s", path);
	}
	return 0;
}

static int
add_file(
	struct buf *b, const char *name, unsigned mode, const char *path, size_t max, struct err *e)
{
	char *text;
	size_t n;

	if (file_read(path, max, &text, &n, e) != 0)
		return e->code;
	cpio_add(b, name, mode, (struct str){ text, n });
	free(text);
	return b->overflow
		       ? err_set(e, ERR_LIMIT, ERR_TO_USER,
				 "the initial file system is larger than %u bytes", VM_INITRD_MAX)
		       : 0;
}

static int
add_modules(struct buf *b, const struct vm_parts *p, struct err *e)
{
	struct found *f = xcalloc(1, sizeof(*f));
	char name[64];
	int rc = 0;

	looking = f;
	(void)nftw(p->modules, on_file, 16, FTW_PHYS);
	looking = NULL;
	for (size_t i = 0; i < ARRAY_LEN(needed) && rc == 0; i++) {
		for (size_t k = 0; k < ARRAY_LEN(modules); k++) {
			if (strcmp(modules[k], needed[i]) == 0 && f->path[k][0] == '\0')
				rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
					"%.150s has no %s.ko (uncompressed)", p->modules,
					needed[i]);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(modules) && rc == 0; i++) {
		snprintf(name, sizeof(name), "modules/%02zu-%s.ko", i, modules[i]);
		if (f->path[i][0] != '\0')
			rc = add_file(b, name, S_IFREG | 0600, f->path[i], MODULE_MAX, e);
	}
	free(f);
	return rc;
}

int
vm_initrd(const struct tier_spec *s, const struct vm_parts *p, struct buf *b, struct err *e)
{
	cpio_add(b, "dev", S_IFDIR | 0755, STR(""));
	cpio_add(b, "sys", S_IFDIR | 0755, STR(""));
	cpio_add(b, "modules", S_IFDIR | 0755, STR(""));
	cpio_add(b, VM_MARK + 1, S_IFREG | 0600, STR(""));
	int rc = add_file(b, "init", S_IFREG | 0755, s->guest, VM_INITRD_MAX, e);
	if (rc == 0)
		rc = add_modules(b, p, e);
	cpio_end(b);
	return rc;
}
