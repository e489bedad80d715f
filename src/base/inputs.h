/* SPDX-License-Identifier: MIT
 * What a process was started from: files and environment variables. A runner that a command started for itself writes it
 * down, and a later command compares it with what it would start one from. Digests only: no value can be read back. */
#ifndef BASE_INPUTS_H
#define BASE_INPUTS_H

#include "base/hash.h"

#define INPUTS_SALT_SIZE 27
#define INPUTS_TEXT_MAX  (256u * 1024u)

/* Over the path, inode, size and date of each file; a missing one counts as missing. */
void inputs_files(const char *salt, const char *const *files, size_t n, char out[SHA256_HEX]);
/* Over every variable whose name begins with `prefix`, in the order of names, and over each of names[], set or not. In
 * env a later NAME=VALUE wins over an earlier one. */
void inputs_env(const char *salt, char *const *env, size_t env_n, const char *prefix, const char *const *names,
	size_t n, char out[SHA256_HEX]);

#endif
