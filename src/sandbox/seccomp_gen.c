/* SPDX-License-Identifier: MIT
 * Build-time program: turns syscalls.def into the BPF programs that confine.c loads, and prints them as C arrays. It
 * runs on the machine that builds, so that no process ever builds a filter between clone and exec, and ithaca-guest
 * starts without that work. Invariant: a row that libseccomp refuses fails the build. */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum row_form { ROW_ALLOW, ROW_ALLOW_IF, ROW_SOCKET, ROW_SOCKET2, ROW_DENY_IF };

struct row {
	enum row_form form;
	const char *name;
	unsigned arg;
	uint64_t mask, value;
	unsigned arg2;
	uint64_t value2;
	int err;
};

#define ALLOW(n, why)                     { ROW_ALLOW, #n, 0, 0, 0, 0, 0, 0 },
#define ALLOW_IF(n, a, m, v, why)         { ROW_ALLOW_IF, #n, a, m, v, 0, 0, 0 },
#define SOCKET(n, a, m, v, why)           { ROW_SOCKET, #n, a, m, v, 0, 0, 0 },
#define SOCKET2(n, a, v, a2, v2, why)     { ROW_SOCKET2, #n, a, 0xffffffff, v, a2, v2, 0 },
#define DENY_IF(n, a, m, v, e, why)       { ROW_DENY_IF, #n, a, m, v, 0, 0, e },
static const struct row rows[] = {
#include "sandbox/syscalls.def"
};

static void
die(const char *what, const char *name, int rc)
{
	fprintf(stderr, "seccomp_gen: %s %s: error %d\n", what, name, rc);
	exit(1);
}

static void
add(scmp_filter_ctx ctx, const struct row *r)
{
	int nr = seccomp_syscall_resolve_name(r->name);
	if (nr < 0) /* not on this architecture, or newer than the library: then the default is ENOSYS anyway */
		return;
	struct scmp_arg_cmp cmp[2] = {
		{ .arg = r->arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = r->mask, .datum_b = r->value },
		{ .arg = r->arg2, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffffffff, .datum_b = r->value2 },
	};
	unsigned n = r->form == ROW_ALLOW ? 0 : r->form == ROW_SOCKET2 ? 2 : 1;
	uint32_t action = r->form == ROW_DENY_IF ? SCMP_ACT_ERRNO((uint32_t)r->err) : SCMP_ACT_ALLOW;
	int rc = seccomp_rule_add_array(ctx, action, nr, n, cmp);
	if (rc != 0)
		die("rule for", r->name, rc);
}

/* The exported program is read back through a temporary file: a pipe could fill. */
static void
print(scmp_filter_ctx ctx, const char *name)
{
	FILE *f = tmpfile();
	if (f == NULL || seccomp_export_bpf(ctx, fileno(f)) != 0)
		die("export", name, errno);
	rewind(f);
	struct sock_filter ins;
	printf("static const struct sock_filter %s[] = {\n", name);
	while (fread(&ins, sizeof(ins), 1, f) == 1)
		printf("\t{ 0x%x, %u, %u, 0x%x },\n", ins.code, ins.jt, ins.jf, ins.k);
	printf("};\n");
	fclose(f);
}

static void
generate(const char *name, uint32_t dflt, bool want_deny, bool want_sockets)
{
	scmp_filter_ctx ctx = seccomp_init(dflt);
	if (ctx == NULL)
		die("init", name, errno);
	/* Foreign architectures and x32 are killed: their numbers would mean other calls. */
	seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary search */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_socket = rows[i].form == ROW_SOCKET || rows[i].form == ROW_SOCKET2;
		if ((rows[i].form == ROW_DENY_IF) == want_deny && (!is_socket || want_sockets))
			add(ctx, &rows[i]);
	}
	print(ctx, name);
	seccomp_release(ctx);
}

int
main(void)
{
	generate("filter_full", SCMP_ACT_ERRNO(ENOSYS), false, true);
	generate("filter_basic", SCMP_ACT_ERRNO(ENOSYS), false, false);
	generate("filter_walls", SCMP_ACT_ALLOW, true, true);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
