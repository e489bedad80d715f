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

#define MODE_SETUID 04000
#define MODE_SETGID 02000

enum row_form { ROW_ALLOW, ROW_FILE_ONLY, ROW_SOCKET, ROW_DENY };
enum { WANT_SOCKETS = 1, WANT_FILE = 2, WANT_WALLS = 4 };

struct row {
	enum row_form form;
	const char *name;
	int err; /* of ROW_DENY */
	unsigned conditions; /* all of them must hold */
	struct condition {
		unsigned arg;
		uint64_t mask /* 0: all of it, and it must not be the value */, value;
	} when[2];
};

#define ALLOW(n, why)                     { ROW_ALLOW, #n, 0, 0, { { 0 } } },
#define ALLOW_IF(n, a, m, v, why)         { ROW_ALLOW, #n, 0, 1, { { a, m, v } } },
#define FILE_ONLY(n, why)                 { ROW_FILE_ONLY, #n, 0, 0, { { 0 } } },
#define SOCKET(n, a, m, v, why)           { ROW_SOCKET, #n, 0, 1, { { a, m, v } } },
#define SOCKET2(n, a, v, a2, v2, why)     { ROW_SOCKET, #n, 0, 2, { { a, 0xffffffff, v }, { a2, 0xffffffff, v2 } } },
#define DENY_IF(n, a, m, v, e, why)       { ROW_DENY, #n, e, 1, { { a, m, v } } },
#define KEEP(n, a, v, why)                { ROW_DENY, #n, 0, 1, { { a, 0xffffffff, v } } },
#define KEEP_UNLESS_NULL(n, a, v, p, why) { ROW_DENY, #n, 0, 2, { { a, 0xffffffff, v }, { p, 0, 0 } } },
#define NO_BIT(n, a, bit)                 { ROW_DENY, #n, EPERM, 1, { { a, bit, bit } } },
#define NO_BIT_IF(n, a, bit, a2, flag)    { ROW_DENY, #n, EPERM, 2, { { a, bit, bit }, { a2, flag, flag } } },
#define NO_SETID(n, a, why)               NO_BIT(n, a, MODE_SETUID) NO_BIT(n, a, MODE_SETGID)
#define NO_SETID_IF(n, a, a2, flag, why)  NO_BIT_IF(n, a, MODE_SETUID, a2, flag) NO_BIT_IF(n, a, MODE_SETGID, a2, flag)
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
	struct scmp_arg_cmp cmp[2];
	for (unsigned i = 0; i < r->conditions; i++)
		cmp[i] = r->when[i].mask == 0
			? (struct scmp_arg_cmp){ .arg = r->when[i].arg, .op = SCMP_CMP_NE, .datum_a = r->when[i].value }
			: (struct scmp_arg_cmp){ .arg = r->when[i].arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = r->when[i].mask,
				.datum_b = r->when[i].value };
	uint32_t action = r->form == ROW_DENY ? SCMP_ACT_ERRNO((uint32_t)r->err) : SCMP_ACT_ALLOW;
	int rc = seccomp_rule_add_array(ctx, action, nr, r->conditions, cmp);
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

static bool
is_wanted(enum row_form form, int want)
{
	switch (form) {
	case ROW_FILE_ONLY:
		return (want & WANT_FILE) != 0;
	case ROW_SOCKET:
		return (want & WANT_SOCKETS) != 0;
	case ROW_DENY:
		return (want & WANT_WALLS) != 0;
	default:
		return (want & WANT_WALLS) == 0;
	}
}

static void
generate(const char *name, uint32_t dflt, int want)
{
	scmp_filter_ctx ctx = seccomp_init(dflt);
	if (ctx == NULL)
		die("init", name, errno);
	/* Foreign architectures and x32 are killed: their numbers would mean other calls. */
	seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary search */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (is_wanted(rows[i].form, want))
			add(ctx, &rows[i]);
	}
	print(ctx, name);
	seccomp_release(ctx);
}

int
main(void)
{
	generate("filter_full", SCMP_ACT_ERRNO(ENOSYS), WANT_SOCKETS);
	generate("filter_basic", SCMP_ACT_ERRNO(ENOSYS), 0);
	generate("filter_file", SCMP_ACT_ERRNO(ENOSYS), WANT_FILE);
	generate("filter_walls", SCMP_ACT_ALLOW, WANT_WALLS);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
