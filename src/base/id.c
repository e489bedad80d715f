/* SPDX-License-Identifier: MIT
 * Time-ordered ids in the ULID layout. Two ids of one millisecond must be strictly increasing in
 * this process, and that is impossible without remembering the last one: the small locked state
 * below exists for that alone. A clock that steps back does not move it back. The state lies in a
 * page that the kernel wipes in a forked child, which so starts afresh and cannot repeat its
 * parent's; asking for the process id each time would cost more than the rest. */
#include "base/id.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"

#define RANDOM_SIZE 10

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

struct last {
	int64_t ms;
	unsigned char random[RANDOM_SIZE]; /* big endian */
	/* For the milliseconds to come: one call of the kernel serves many. */
	unsigned char pool[24 * RANDOM_SIZE];
	size_t pool_n;
};
static struct last *last;
static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;

static void
last_map(void)
{
	last = mmap(
		NULL, sizeof(*last), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (last == MAP_FAILED || madvise(last, sizeof(*last), MADV_WIPEONFORK) != 0)
		fatal("no memory for ids: %s", strerrordesc_np(errno));
}

void
random_bytes(void *p, size_t n)
{
	unsigned char *to = p;
	while (n > 0) {
		ssize_t got = getrandom(to, MIN(n, (size_t)256), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fatal("the kernel gives no random bytes: %s", strerrordesc_np(errno));
		to += got;
		n -= (size_t)got;
	}
}

static void
take_random(void)
{
	if (last->pool_n == 0) {
		random_bytes(last->pool, sizeof(last->pool));
		last->pool_n = sizeof(last->pool);
	}
	last->pool_n -= RANDOM_SIZE;
	memcpy(last->random, last->pool + last->pool_n, RANDOM_SIZE);
}

/* The top bit starts clear, so 2^79 increments fit into one millisecond. */
static void
step(int64_t now_ms)
{
	if (now_ms > last->ms) {
		last->ms = now_ms;
		take_random();
		last->random[0] &= 0x7f;
		return;
	}
	for (size_t i = RANDOM_SIZE; i-- > 0;) {
		if (++last->random[i] != 0)
			break;
	}
}

/* 128 bits, five at a time from the end; the first digit holds the upper three. */
static struct id
encode(const unsigned char bytes[16])
{
	struct id id;
	unsigned __int128 v = 0;
	for (size_t i = 0; i < 16; i++)
		v = v << 8 | bytes[i];
	for (size_t i = ID_SIZE - 1; i-- > 0;) {
		id.z[i] = digits[(unsigned)v & 31];
		v >>= 5;
	}
	id.z[ID_SIZE - 1] = '\0';
	return id;
}

struct id
id_new(void)
{
	unsigned char bytes[16];
	(void)pthread_mutex_lock(&last_lock);
	if (last == NULL)
		last_map();
	step(clock_wall_ms());
	for (int i = 0; i < 6; i++)
		bytes[i] = (unsigned char)(last->ms >> (40 - 8 * i));
	memcpy(bytes + 6, last->random, RANDOM_SIZE);
	(void)pthread_mutex_unlock(&last_lock);
	return encode(bytes);
}

static int
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c - 'A' + 'a');
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

bool
id_valid(struct str s)
{
	if (s.n != ID_SIZE - 1 || s.p[0] < '0' || s.p[0] > '7')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (digit_value(s.p[i]) < 0 || (s.p[i] >= 'A' && s.p[i] <= 'Z'))
			return false;
	}
	return true;
}

int
id_parse(struct str s, struct id *out)
{
	struct id id;
	if (s.n != ID_SIZE - 1)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		int v = digit_value(s.p[i]);
		if (v < 0 || (i == 0 && v > 7))
			return -1;
		id.z[i] = digits[v];
	}
	id.z[ID_SIZE - 1] = '\0';
	*out = id;
	return 0;
}

int64_t
id_time_ms(const struct id *id)
{
	int64_t ms = 0;
	for (size_t i = 0; i < 10; i++)
		ms = ms << 5 | digit_value(id->z[i]);
	return ms;
}
