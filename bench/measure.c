/* SPDX-License-Identifier: MIT
 * measure [-m] [-o FILE] PROGRAM ARGS...: runs a program once and prints one JSON object: when it was executed and when
 * it ended (CLOCK_MONOTONIC, microseconds), the CPU time of every process that came from it, and with -m their largest
 * common PSS. It ends when the last of them has: whatever they leave behind becomes its child. Memory is read all the
 * time, which slows the program down, so a run is for time or for memory and never for both. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 1024
#define NAME_SIZE     40

struct process {
	pid_t pid, parent;
	long pss_kib;
	bool is_ours;
};

/* The largest sum seen, and of whom. */
struct peak {
	long kib, samples;
	size_t n;
	char name[PROCESSES_MAX][NAME_SIZE];
	long part[PROCESSES_MAX];
};

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
die(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- processes ---- */

static size_t
read_proc(pid_t pid, const char *file, char *out, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, out, size - 1);
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static size_t
list_processes(struct process *out)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	if (d == NULL)
		die("/proc");
	while (n < PROCESSES_MAX && (entry = readdir(d)) != NULL) {
		char text[512], *after;
		pid_t pid = (pid_t)strtol(entry->d_name, &after, 10);
		int parent;

		if (*after != '\0' || pid <= 0 || read_proc(pid, "stat", text, sizeof(text)) == 0)
			continue;
		after = strrchr(text, ')');
		if (after != NULL && sscanf(after, ") %*c %d", &parent) == 1)
			out[n++] = (struct process){ .pid = pid, .parent = parent };
	}
	closedir(d);
	return n;
}

/* Everything below this process. A child may stand before its parent in the list, so until nothing is added. */
static void
mark_ours(struct process *p, size_t n)
{
	pid_t me = getpid();
	bool is_new = true;

	while (is_new) {
		is_new = false;
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; k < n && !p[i].is_ours; k++)
				if (p[i].parent == me || (p[k].is_ours && p[k].pid == p[i].parent))
					is_new = p[i].is_ours = true;
	}
}

/* A child between vfork and exec shows the pages of its parent a second time: it is left out. */
static long
pss_kib(const struct process *p)
{
	char text[2048], *line;

	if (syscall(SYS_kcmp, p->pid, p->parent, KCMP_VM, 0, 0) == 0 ||
		read_proc(p->pid, "smaps_rollup", text, sizeof(text)) == 0)
		return 0;
	line = strstr(text, "\nPss:");
	return line != NULL ? strtol(line + 5, NULL, 10) : 0;
}

/* Program, and the role behind -x. */
static void
name_of(pid_t pid, char out[NAME_SIZE])
{
	char text[512];
	size_t n = read_proc(pid, "cmdline", text, sizeof(text));
	const char *base = strrchr(text, '/'), *role = "";

	for (size_t i = 0; i + 4 < n; i++)
		if (memcmp(text + i, "\0-x", 4) == 0)
			role = text + i + 4;
	if (n == 0)
		base = "/ended"; /* since its memory was read */
	snprintf(out, NAME_SIZE, "%.20s%s%.16s", base != NULL ? base + 1 : text, role[0] ? " " : "", role);
}

static void
sample(struct peak *peak)
{
	static struct process p[PROCESSES_MAX];
	size_t n = list_processes(p);
	long sum = 0;

	mark_ours(p, n);
	for (size_t i = 0; i < n; i++)
		if (p[i].is_ours)
			sum += p[i].pss_kib = pss_kib(&p[i]);
	peak->samples++;
	if (sum <= peak->kib)
		return;
	peak->kib = sum;
	peak->n = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i].pss_kib == 0)
			continue;
		name_of(p[i].pid, peak->name[peak->n]);
		peak->part[peak->n++] = p[i].pss_kib;
	}
}

/* ---- the run ---- */

static pid_t
start(char **argv, const char *out, int64_t *exec_us)
{
	int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	pid_t pid = fd < 0 ? -1 : fork();

	if (pid < 0)
		die(out);
	if (pid == 0) {
		int in = open("/dev/null", O_RDONLY);

		dup2(in, 0);
		dup2(fd, 1);
		*exec_us = now_us();
		execvp(argv[0], argv);
		_exit(127);
	}
	close(fd);
	return pid;
}

static void
print(int64_t exec_us, int64_t end_us, int status, const struct peak *peak)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	printf("{\"exec_us\":%lld,\"end_us\":%lld,\"cpu_us\":%lld,\"status\":%d", (long long)exec_us, (long long)end_us,
		(long long)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	if (peak->samples > 0)
		printf(",\"samples\":%ld,\"peak_pss_kib\":%ld,\"parts\":{", peak->samples, peak->kib);
	for (size_t i = 0; i < peak->n; i++)
		printf("%s\"%s %zu\":%ld", i > 0 ? "," : "", peak->name[i], i + 1, peak->part[i]);
	puts(peak->samples > 0 ? "}}" : "}");
}

int
main(int argc, char **argv)
{
	static struct peak peak;
	const char *out = "/dev/null";
	bool has_memory = false;
	int64_t *exec_us, end_us = 0;
	int opt, status = 0;
	pid_t first, pid;

	while ((opt = getopt(argc, argv, "+mo:")) != -1) {
		if (opt == 'm')
			has_memory = true;
		else if (opt == 'o')
			out = optarg;
		else
			return 2;
	}
	if (optind >= argc) {
		fputs("usage: measure [-m] [-o FILE] PROGRAM ARGS...\n", stderr);
		return 2;
	}
	exec_us = mmap(NULL, sizeof(*exec_us), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (exec_us == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		die("start");
	first = start(argv + optind, out, exec_us);
	for (;;) {
		int one;

		if (has_memory)
			sample(&peak);
		pid = waitpid(-1, &one, has_memory ? WNOHANG : 0);
		if (pid < 0 && errno == ECHILD)
			break;
		if (pid == first) {
			end_us = now_us();
			status = one;
			has_memory = false; /* what stays behind is waited for, not measured */
		}
	}
	print(*exec_us, end_us, status, &peak);
	return 0;
}
