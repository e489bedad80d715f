/* SPDX-License-Identifier: MIT
 * The helpers behind the cleanup attributes. They get the address of the variable, not its value,
 * and must keep errno, because they run after a return expression was evaluated but before the
 * caller looks at errno. */
#include "base/attr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The variable may be a pointer to any type, so it is moved as bytes: that is what
 * -fstrict-aliasing allows. */
void
auto_free_(void *pointer_to_pointer)
{
	free(take_ptr(pointer_to_pointer));
}

void
auto_close_(int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

int
take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

void *
take_ptr(void *pointer_to_pointer)
{
	void *taken;
	memcpy(&taken, pointer_to_pointer, sizeof(taken));
	memset(pointer_to_pointer, 0, sizeof(taken));
	return taken;
}
