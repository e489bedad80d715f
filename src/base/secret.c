/* SPDX-License-Identifier: MIT
 * Secrets in pages of their own: locked against swap, left out of core dumps, empty in a forked
 * child, and wiped when freed. The head of the mapping holds the length, so nothing about a secret
 * lies in the ordinary heap. */
#include "base/secret.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

struct secret {
	size_t mapped, n;
	bool locked;
	char bytes[];
};

struct secret *
secret_room(size_t n, char **room)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t need = sizeof(struct secret) + n + 1;
	size_t mapped = (need + page - 1) / page * page;
	struct secret *x =
		mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (x == MAP_FAILED)
		fatal("no memory for a secret");
	/* Before the secret is in: no moment in which it could be swapped, dumped or inherited. */
	x->locked = mlock(x, mapped) == 0;
	(void)madvise(x, mapped, MADV_DONTDUMP);
	(void)madvise(x, mapped, MADV_WIPEONFORK);
	x->mapped = mapped;
	x->n = n;
	*room = x->bytes;
	return x;
}

struct secret *
secret_new(struct str s)
{
	char *room;
	struct secret *x = secret_room(s.n, &room);

	if (s.n)
		memcpy(room, s.p, s.n);
	return x;
}

void
secret_free(struct secret *x)
{
	/* In a forked child the page reads as zeros: there is nothing to wipe and no size to unmap.
	 */
	if (!x || x->mapped == 0)
		return;
	size_t mapped = x->mapped;
	wipe(x, mapped);
	(void)munmap(x, mapped);
}

struct str
secret_peek(const struct secret *x)
{
	return x ? (struct str){ x->bytes, x->n } : (struct str){ "", 0 };
}

bool
secret_is_locked(const struct secret *x)
{
	return x->locked;
}

void
wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}
