/* SPDX-License-Identifier: MIT
 * What the linker puts around two calls of a guest for test_machine_reseeded: it shows the first numbers of the kernel's
 * generator after a hello, and where RESEEDS is 0 it leaves out what the hello brings for it: the control. */
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/hash.h"
#include "sandbox/vm.h"

#define CPUS    2
#define NUMBERS 32 /* of each processor, which has a key of its own; others draw too, so two machines are not in step */

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, ...);
ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);

static void
show_numbers(void)
{
	static unsigned char numbers[CPUS * NUMBERS][16];
	char hex[2 * sizeof(numbers[0]) + 1];
	cpu_set_t was, one;
	size_t n = 0;

	sched_getaffinity(0, sizeof(was), &was);
	for (int cpu = 0; cpu < CPUS; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		for (int i = 0; i < NUMBERS; i++, n++)
			(void)!getrandom(numbers[n], sizeof(numbers[n]), 0);
	}
	sched_setaffinity(0, sizeof(was), &was);
	for (size_t i = 0; i < n; i++) {
		hex_encode(numbers[i], sizeof(numbers[i]), hex);
		dprintf(2, "number %s\n", hex);
	}
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	bool is_seed = request == RNDADDENTROPY || request == RNDRESEEDCRNG;
	va_list ap;

	va_start(ap, request);
	int rc = is_seed && !RESEEDS ? 0 : __real_ioctl(fd, request, va_arg(ap, void *));
	va_end(ap);
	if (request == RNDRESEEDCRNG)
		show_numbers();
	return rc;
}

/* The kernel takes a new seed by itself now and then. It does so just before the machine is saved, so that it will not
 * before the numbers are drawn. */
ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	if (n == 1 && *(const char *)bytes == VM_ANSWER && getpid() == 1) {
		int random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
		if (random < 0 || __real_ioctl(random, RNDRESEEDCRNG, NULL) != 0)
			dprintf(2, "no new seed\n");
		close(random);
	}
	return __real_write(fd, bytes, n);
}
