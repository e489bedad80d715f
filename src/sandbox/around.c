/* SPDX-License-Identifier: MIT
 * What is around all cells in a container or a machine, looked up from inside: of what an engine was asked for only what is
 * there counts. Nothing here changes anything. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/limits.h"
#include "sandbox/cgroup.h"

#define TEXT_MAX  8192 /* of a file of /proc */
#define PART_MAX  160
#define SETFCAP   (UINT64_C(1) << 31)

struct part {
	char text[PART_MAX]; /* what holds, or what is missing; "": nothing to say */
	bool holds;
};

static struct str
proc_read(const char *path, char text[TEXT_MAX])
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, TEXT_MAX);

	return (struct str){ text, n > 0 ? (size_t)n : 0 };
}

static void
look_network(struct part *p)
{
	char text[TEXT_MAX];
	struct str rest = proc_read("/proc/self/net/dev", text), line;
	size_t others = 0, all = 0;

	while (str_next(&rest, '\n', &line)) {
		ptrdiff_t colon = str_find_char(line, ':');
		if (colon <= 0)
			continue;
		all++;
		others += !str_is(str_trim(str_sub(line, 0, (size_t)colon)), "lo");
	}
	p->holds = all > 0 && others == 0;
	snprintf(p->text, PART_MAX, "%s", p->holds ? "no network" : "a network of its own or the host's");
}

static void
look_root(struct part *p)
{
	struct statvfs v;

	p->holds = statvfs("/", &v) == 0 && (v.f_flag & ST_RDONLY) != 0;
	snprintf(p->text, PART_MAX, "%s", p->holds ? "read-only root" : "its root can be written");
}

/* One that root needs to map root into a namespace is no surprise. */
static void
look_capabilities(struct part *p)
{
	char text[TEXT_MAX];
	struct str rest = proc_read("/proc/self/status", text), line;
	uint64_t seen = 0;
	size_t n = 0;

	while (str_next(&rest, '\n', &line)) {
		static const char *const names[] = { "CapPrm:", "CapEff:", "CapBnd:" };
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			if (!str_starts(line, names[i]))
				continue;
			char digits[24];
			struct str v = str_trim(str_sub(line, strlen(names[i]), line.n));
			snprintf(digits, sizeof(digits), "%.*s", (int)MIN(v.n, sizeof(digits) - 1), v.p);
			seen |= strtoull(digits, NULL, 16);
			n++;
		}
	}
	p->holds = n == 3 && (seen & ~SETFCAP) == 0;
	if (!p->holds)
		snprintf(p->text, PART_MAX, "it has capabilities (%llx)", (unsigned long long)seen);
	else
		snprintf(p->text, PART_MAX, "%s", seen == 0 ? "no capability" : "no capability but SETFCAP");
}

static void
look_privileges(struct part *p)
{
	p->holds = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	snprintf(p->text, PART_MAX, "%s", p->holds ? "no new privileges" : "programs may gain privileges");
}

static void
look_calls(struct part *p)
{
	p->holds = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2;
	snprintf(p->text, PART_MAX, "%s", p->holds ? "system calls filtered" : "system calls are not filtered");
}

static void
look_limits(struct part *p)
{
	struct own_limits l;

	cgroups_own("/proc/self", &l);
	p->holds = l.memory_bytes >= 0 && l.processes >= 0;
	if (p->holds)
		snprintf(p->text, PART_MAX, "at most %lld MiB and %lld processes by cgroup v%d", (long long)(l.memory_bytes / (int64_t)MIB),
			(long long)l.processes, (int)l.version);
	else
		snprintf(p->text, PART_MAX, "no limit of %s%s%s by a cgroup", l.memory_bytes < 0 ? "memory" : "",
			l.memory_bytes < 0 && l.processes < 0 ? " and " : "", l.processes < 0 ? "processes" : "");
}

static void
look_kernel(struct part *p)
{
	struct utsname u;
	struct sysinfo s;

	p->holds = uname(&u) == 0 && sysinfo(&s) == 0;
	if (p->holds)
		snprintf(p->text, PART_MAX, "Linux %.64s of its own, %llu MiB", u.release,
			(unsigned long long)s.totalram * s.mem_unit / MIB);
}

static const struct {
	const char *tier;
	void (*look)(struct part *p);
} looks[] = {
	{ "container", look_network }, { "container", look_root }, { "container", look_capabilities },
	{ "container", look_privileges }, { "container", look_calls }, { "container", look_limits },
	{ "microvm", look_kernel }, { "microvm", look_network },
};

static void
add(char *out, size_t max, const char *text)
{
	size_t n = strlen(out);

	if (text[0] != '\0')
		snprintf(out + n, max - n, "%s%s", n > 0 ? ", " : "", text);
}

void
around_find(struct sandbox_facts *f)
{
	f->around[0] = f->around_lacks[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
		struct part p = { .holds = false };
		if (strcmp(looks[i].tier, f->tier) != 0)
			continue;
		looks[i].look(&p);
		if (p.holds)
			add(f->around, sizeof(f->around), p.text);
		else
			add(f->around_lacks, sizeof(f->around_lacks), p.text);
	}
}
