/* SPDX-License-Identifier: MIT
 * A secret in a locked page that is left out of core dumps and wiped at its end. There is no way to print one. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/str.h"

struct secret;

/* Copies s. Dies when no page can be had; when it cannot be locked (RLIMIT_MEMLOCK) it is kept unlocked and
 * secret_is_locked says so. */
struct secret *secret_new(struct str s) MUST_USE;
/* n zero bytes to be filled in at once through *room, so that a secret need not exist elsewhere first. */
struct secret *secret_room(size_t n, char **room) MUST_USE;
void secret_free(struct secret *x); /* wipes; NULL is fine */
struct str secret_peek(const struct secret *x); /* borrowed: use at once, never store or log */
bool secret_is_locked(const struct secret *x);
/* Overwrites memory in a way the compiler keeps. */
void wipe(void *p, size_t n);
/* Secret.h's other half: hides values in text that goes to a model or a log. Appends s to b with each occurrence of
 * a secret-looking token replaced by "[redacted]" and returns how many: known key prefixes (sk-, ghp_, xox?-, AKIA,
 * AIza, ith_, Bearer ...), PEM private key blocks, and values of api_key=/token:/password= style assignments.
 * UUIDs, ULIDs, git hashes, digests and paths stay as they are. */
struct buf;
size_t secret_scrub(struct buf *b, struct str s);

#endif
