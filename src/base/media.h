/* SPDX-License-Identifier: MIT
 * What a file is that goes along with a message: told by its first bytes, never by its name. Pure.
 * Nothing is decoded beyond the header: sizes and lengths that stand there serve the estimate of
 * tokens, and nothing else. */
#ifndef BASE_MEDIA_H
#define BASE_MEDIA_H

#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

/* The order is that of the bits by which a model says what it takes. No model takes MEDIA_FILE: it is for commands. */
enum media_class { MEDIA_TEXT, MEDIA_IMAGE, MEDIA_PDF, MEDIA_AUDIO, MEDIA_FILE, MEDIA_CLASS_COUNT };
const char *media_class_name(
	enum media_class c); /* text image pdf audio, as in a model's `input`, or file */
const char *media_class_noun(enum media_class c); /* "an image", for messages */

struct media {
	enum media_class class;
	const char *mime;      /* static */
	const char *what;      /* of a MEDIA_FILE: what it is, and in which form a model would take it; static */
	int64_t width, height; /* of an image */
	int64_t ms;     /* of audio; where the header does not tell, from its size at 128 kbit/s */
	int64_t tokens; /* estimate, see media_tokens */
};

/* Fills *out, or says what is wrong with the file: empty, over MEDIA_MAX, cut inside its header, or
 * of another class than its name promises. name is for messages and for that. What no model takes
 * is a MEDIA_FILE, and so is text over TEXT_FILE_MAX. */
int media_sniff(struct str name, struct str bytes, struct media *out, struct err *e) MUST_USE;
/* The class of a file of a type that media_sniff gave; MEDIA_FILE for any other. */
enum media_class media_class_of(struct str mime, size_t size_bytes);
/* The type of whatever bytes, as in image/png; static. is_part: they are the beginning of more. */
const char *media_type(struct str bytes, bool is_part);

/* Estimates that are high rather than low, the same for every provider:
 *   text   a token for 3 bytes
 *   image  width x height / 750, at least 258, at most 1600
 *   pdf    2500 a page, a page for each begun 50,000 bytes, at most 100
 *   audio  32 a second
 *   file   100: a line about it */
#define MEDIA_TEXT_BYTES   3
#define MEDIA_IMAGE_PIXELS 750
#define MEDIA_IMAGE_MIN    258
#define MEDIA_IMAGE_MAX    1600
#define MEDIA_PAGE_TOKENS  2500
#define MEDIA_PAGE_BYTES   50000
#define MEDIA_PAGES_MAX    100
#define MEDIA_AUDIO_SECOND 32
#define MEDIA_FILE_TOKENS  100
int64_t media_tokens(const struct media *m, size_t size_bytes);

/* The name of a file as it may stand in a directory and, unquoted, in a command: its last component
 * with '_' for what is neither a printable character above ASCII nor one of A-Z a-z 0-9 . _ - + , = @ %,
 * not empty, beginning with neither '.' nor '-', of at most MEDIA_NAME_MAX bytes, its ending kept. nth
 * from 2 on makes it another one: a.png, a-2.png. Returns out. */
#define MEDIA_NAME_MAX 120
const char *media_file_name(struct str name, unsigned nth, char out[MEDIA_NAME_MAX + 1]);

/* "12 KB", for people; returns out. */
const char *media_size_text(size_t bytes, char out[32]);
/* Appends content as data that is not to be taken for instructions: a line that names its source,
 * and a fence that the content cannot end. Invalid UTF-8 is replaced. */
void media_add_block(struct buf *b, struct str source, struct str content);

#endif
