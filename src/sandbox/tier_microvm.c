/* SPDX-License-Identifier: MIT
 * The microVM tier: a machine of QEMU with the distribution's kernel, an initial file system of
 * ours, and one shared tree (virtiofsd) in which everything has the path that it has on the host.
 * It has no network device; a serial port each carries the links of runner, runtime and broker. KVM
 * is believed when a machine answered with it, not because its device is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm_host.h"

#define KVM_START_MS 15000 /* a machine that does not answer by then does not work with it */
#define TCG_START_MS 90000

static int
probe(const struct tier_spec *s, char found[120], struct tier_reason *why)
{
	struct vm_parts *p = xcalloc(1, sizeof(*p));
	int rc = vm_parts_find(s, p, why);

	if (rc == 0 && access("/dev/kvm", R_OK | W_OK) != 0 && !s->microvm.allow_emulation)
		rc = tier_refuse(why, "no_acceleration", ERR_UNSUPPORTED,
			"/dev/kvm cannot be used (join the group kvm; or microvm: "
			"{ allow_emulation: true }, which is slow)");
	if (rc == 0)
		snprintf(found, 120, "%.40s with %.60s", p->qemu, p->kernel);
	free(p);
	return rc;
}

static void
stop(struct tier_run *run)
{
	vm_end(run);
	run->tier = NULL;
}

/* With KVM, or where that does not work and it is allowed by emulation. */
static int
accelerate(struct vm_try *t, int *link, struct tier_reason *why)
{
	bool may_emulate = t->s->microvm.allow_emulation,
	     has_kvm = access("/dev/kvm", R_OK | W_OK) == 0;
	enum kvm_verdict known = has_kvm ? kvm_recall(t->s, t->p) : KVM_UNTRIED;
	struct err e = { 0 };
	int rc = 0;

	if (known == KVM_SILENT && !may_emulate)
		return tier_refuse(why, "no_acceleration", ERR_UNSUPPORTED,
			"no machine answered with KVM when it was tried (`ithaca doctor --tier "
			"microvm` tries again; microvm: { allow_emulation: true } does without, "
			"slowly)");
	if (known == KVM_SILENT) {
		log_warn("no machine answered with KVM when it was tried: it is emulated", LOG_S("kept_in", t->s->microvm.verdict));
	} else if (has_kvm) {
		snprintf(t->run->accel, sizeof(t->run->accel), "kvm");
		t->timeout_ms = KVM_START_MS;
		rc = vm_start(t, link, &e);
		if (t->has_answered)
			kvm_remember(t->s, t->p, KVM_ANSWERED);
		else if (rc == ERR_TIMEOUT && known == KVM_UNTRIED) /* what ends at once costs nothing */
			kvm_remember(t->s, t->p, KVM_SILENT);
		if (rc == 0)
			return 0;
		if (rc == ERR_CANCELLED || t->has_answered)
			return tier_refuse(why, rc == ERR_CANCELLED ? "cancelled" : "guest_failed",
				rc, "%s", e.msg);
		if (!may_emulate)
			return tier_refuse(why, "no_acceleration", ERR_UNSUPPORTED,
				"no machine answers with KVM: %.90s (microvm: { "
				"allow_emulation: true } does without, slowly)",
				e.msg);
		log_warn("no machine answers with KVM: it is emulated", LOG_E(&e));
	}
	snprintf(t->run->accel, sizeof(t->run->accel), "tcg");
	t->timeout_ms = TCG_START_MS;
	rc = vm_start(t, link, &e);
	return rc == 0 ? 0
		       : tier_refuse(why, rc == ERR_CANCELLED ? "cancelled" : "guest_failed", rc,
				 "%s", e.msg);
}

static int
start(const struct tier_spec *s, struct tier_run *out, int *link, struct tier_reason *why)
{
	struct vm_parts *p = xcalloc(1, sizeof(*p));
	struct tier_run run = { .tier = &tier_microvm };
	struct vm_try t = { .s = s, .p = p, .run = &run };
	const char *const dirs[] = { s->run_dir, s->spool_dir, s->state_root };
	char found[120];
	struct err e = { 0 };
	int rc = probe(s, found, why);

	if (rc == 0)
		rc = vm_parts_find(s, p, why);
	snprintf(run.dir, sizeof(run.dir), "%s", s->run_dir);
	for (size_t i = 0; i < ARRAY_LEN(dirs) && rc == 0; i++) {
		if (path_mkdirs(dirs[i], 0700, &e) != 0)
			rc = tier_refuse(why, "guest_failed", e.code, "%s", e.msg);
	}
	if (rc == 0) {
		vm_end_noted(s->run_dir, true);
		rc = accelerate(&t, link, why);
	}
	if (rc == 0)
		*out = run;
	free(p);
	return rc;
}

static int
new_link(const struct tier_run *run, enum role who, struct err *e)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s.sock", run->dir, role_name(who));
	return door_reach(path, who, run->token, TIER_START_MS, NULL, NULL, e);
}

const struct tier tier_microvm = {
	.name = "microvm", .probe = probe, .start = start, .stop = stop, .link = new_link
};
