/* SPDX-License-Identifier: MIT
 * What the start of a machine depends on, as digests; and the verdict on KVM, which is kept under
 * one: where KVM opens and no machine ever answers with it, only the first start waits for that.
 * Invariant: a verdict is believed only where everything is as it was when it was found. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm_host.h"

#define VERDICT_TITLE "ithaca kvm 1"
#define VERDICT_MAX   256

static void
add_text(struct sha256 *h, const char *z)
{
	sha256_add(h, z, strlen(z) + 1);
}

static void
add_stat(struct sha256 *h, const char *path)
{
	char text[200];
	struct stat st = { 0 };

	(void)stat(path, &st);
	snprintf(text, sizeof(text), "%llu %llu %llu %lld %lld.%09ld", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino, (unsigned long long)st.st_rdev,
		(long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	add_text(h, text);
}

/* With KVM the processor of the machine is the host's: a restored one would count on what another
 * does not have. */
static void
add_host(struct sha256 *h)
{
	static const char *const wanted[] = { "vendor_id", "model", "stepping", "microcode",
		"flags" };
	struct utsname u = { 0 };
	struct str rest, line;
	char *text = NULL;
	size_t n = 0;
	AUTO_CLOSE int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);

	(void)uname(&u);
	add_text(h, u.release);
	text = xcalloc(1, 64 * KIB);
	for (ssize_t got; fd >= 0 && n < 64 * KIB && (got = read(fd, text + n, 64 * KIB - n)) > 0;)
		n += (size_t)got;
	rest = (struct str){ text, n };
	while (str_next(&rest, '\n', &line) && line.n > 0) { /* of the first processor */
		for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
			if (str_starts(line, wanted[i]))
				sha256_add(h, line.p, line.n);
		}
	}
	free(text);
}

static void
done(struct sha256 *h, char key[SAVED_KEY_SIZE])
{
	unsigned char digest[SHA256_SIZE];

	sha256_done(h, digest);
	hex_encode(digest, sizeof(digest), key);
}

void
vm_machine_key(const struct vm_try *t, const char *const *argv, size_t n, const struct buf *initrd,
	char key[SAVED_KEY_SIZE])
{
	struct sha256 h;

	sha256_init(&h);
	for (size_t i = 0; i < n; i++) {
		if (strstr(argv[i], t->s->run_dir) ==
			NULL) /* where files and sockets are is nothing that the machine sees */
			add_text(&h, argv[i]);
	}
	sha256_add(&h, initrd->p, initrd->n);
	add_stat(&h, t->p->qemu);
	add_stat(&h, t->p->kernel);
	if (strcmp(t->run->accel, "kvm") == 0)
		add_host(&h);
	done(&h, key);
}

/* ---- the verdict on KVM ---- */

static const char *const verdicts[] = {
	[KVM_UNTRIED] = "", [KVM_ANSWERED] = "answered", [KVM_SILENT] = "silent" };

/* This boot of the host, its kernel and processor, the device, and all that starts on it. */
static void
verdict_key(const struct tier_spec *s, const struct vm_parts *p, char key[SAVED_KEY_SIZE])
{
	const char *const paths[] = { "/dev/kvm", p->qemu, p->kernel, s->guest };
	char boot[64] = "", memory[32];
	struct sha256 h;
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	sha256_init(&h);
	if (fd >= 0 && read(fd, boot, sizeof(boot) - 1) < 0)
		boot[0] = '\0';
	snprintf(memory, sizeof(memory), "%lld", (long long)s->memory_bytes);
	add_text(&h, boot);
	add_text(&h, memory);
	add_host(&h);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		add_text(&h, paths[i]);
		add_stat(&h, paths[i]);
	}
	done(&h, key);
}

enum kvm_verdict
kvm_verdict_parse(struct str text, const char *key)
{
	struct str line;

	if (!str_next(&text, '\n', &line) || !str_is(line, VERDICT_TITLE) ||
		!str_next(&text, '\n', &line) || !str_is(line, key) ||
		!str_next(&text, '\n', &line) || text.n > 0)
		return KVM_UNTRIED;
	for (enum kvm_verdict v = KVM_ANSWERED; v < ARRAY_LEN(verdicts); v++) {
		if (str_is(line, verdicts[v]))
			return v;
	}
	return KVM_UNTRIED;
}

enum kvm_verdict
kvm_recall(const struct tier_spec *s, const struct vm_parts *p)
{
	enum kvm_verdict v = KVM_UNTRIED;
	char key[SAVED_KEY_SIZE], *text;
	size_t n;

	if (s->microvm.verdict == NULL || s->microvm.verdict[0] == '\0' ||
		file_read_no_link(s->microvm.verdict, VERDICT_MAX, &text, &n, NULL) != 0)
		return KVM_UNTRIED;
	verdict_key(s, p, key);
	v = kvm_verdict_parse((struct str){ text, n }, key);
	free(text);
	return v;
}

void
kvm_remember(const struct tier_spec *s, const struct vm_parts *p, enum kvm_verdict v)
{
	char key[SAVED_KEY_SIZE], text[VERDICT_MAX];
	struct err e;

	if (s->microvm.verdict == NULL || s->microvm.verdict[0] == '\0' || kvm_recall(s, p) == v)
		return;
	verdict_key(s, p, key);
	snprintf(text, sizeof(text), VERDICT_TITLE "\n%s\n%s\n", key, verdicts[v]);
	if (file_write(s->microvm.verdict, str_of(text), 0600, &e) != 0)
		log_warn("what was found out about KVM is not kept", LOG_E(&e));
}
