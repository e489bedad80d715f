/* SPDX-License-Identifier: MIT
 * Compiler attributes and tiny guards. Nothing here makes types, functions or control flow. */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <stddef.h>

#define MUST_USE          __attribute__((warn_unused_result))
#define NORETURN          __attribute__((noreturn))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define UNUSED            __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))

/* Early returns release these; hand ownership on with the take_* helpers. Not mixed with an `out:` label. */
#define AUTO_FREE  __attribute__((cleanup(auto_free_)))
#define AUTO_CLOSE __attribute__((cleanup(auto_close_)))

void auto_free_(void *pointer_to_pointer);
void auto_close_(int *fd);

/* Returns *fd and sets it to -1, so that AUTO_CLOSE leaves it open. */
int take_fd(int *fd);
/* Returns *pp and sets it to NULL, so that AUTO_FREE leaves it allocated. */
void *take_ptr(void *pointer_to_pointer);

#endif
