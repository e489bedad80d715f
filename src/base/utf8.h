/* SPDX-License-Identifier: MIT
 * UTF-8 (RFC 3629): validation, lossy decoding, cutting, and the cleaner for text that goes to a terminal.
 * All text is cut through utf8_cut, and all model or tool text reaches a terminal only through term_clean. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

bool utf8_valid(struct str s); /* no surrogates, no overlong forms, at most U+10FFFF */
/* Decodes one character; returns its length, or 0 when the bytes at p are not one. */
size_t utf8_decode(const char *p, size_t n, uint32_t *cp);
size_t utf8_encode(uint32_t cp, char out[4]); /* 0 for an invalid code point */
/* Largest n <= max so that s[0..n) ends on a character boundary. */
size_t utf8_cut(struct str s, size_t max);
/* Into an array of size bytes, at least 1: as much of s as fits, cut like that, and a NUL. */
void utf8_copy(char *out, size_t size, struct str s);
/* As utf8_cut from the other end: smallest offset >= from that starts a character. */
size_t utf8_start(struct str s, size_t from);
/* Bytes at the end of s that begin a character which is not complete yet (0..3): for streams. */
size_t utf8_incomplete(struct str s);
/* Appends s with each invalid sequence replaced by U+FFFD (Unicode maximal subpart practice). */
int utf8_add_lossy(struct buf *b, struct str s);
/* Appends s made safe for a terminal: C0 and C1 controls (except \n and \t), DEL, bidirectional and zero-width
 * controls shown as \xNN or \u{NNNN}; invalid bytes as U+FFFD. one_line also escapes \n and \t. */
int term_clean(struct buf *b, struct str s, bool one_line);
/* Columns that s takes on a terminal (East Asian wide = 2, combining = 0), by wcwidth in a UTF-8 locale or our own
 * table. s must have been cleaned. */
size_t utf8_width(struct str s);

#endif
