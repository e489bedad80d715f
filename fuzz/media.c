/* SPDX-License-Identifier: MIT
 * Types of files by content: any bytes under a name that the first byte chooses, in memory of just
 * their size. What is taken has a type that is known, a positive estimate and a class that its name
 * does not deny; what is not says why. */
#include <stdlib.h>
#include "base/media.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "file", "a.png", "a.pdf", "a.mp3", "a.txt" };
	struct str name = str_of(names[size > 0 ? data[0] % ARRAY_LEN(names) : 0]);
	size_t n = size > 0 ? size - 1 : 0;
	char *bytes = malloc(n > 0 ? n : 1);
	struct media m;
	struct err e = { 0 };

	if (n > 0)
		memcpy(bytes, data + 1, n);
	if (media_sniff(name, (struct str){ bytes, n }, &m, &e) != 0) {
		if (e.code == 0 || !str_starts(str_of(e.msg),
					   names[size > 0 ? data[0] % ARRAY_LEN(names) : 0]))
			abort();
	} else if (m.tokens <= 0 || m.ms < 0 || media_class_of(str_of(m.mime), n) != m.class ||
		   (m.what != NULL) != (m.class == MEDIA_FILE)) {
		abort();
	}
	for (unsigned nth = 1; nth < 300; nth += 290) { /* the file's bytes as its name */
		char out[MEDIA_NAME_MAX + 1];
		struct str s = str_of(media_file_name((struct str){ bytes, n }, nth, out));

		if (s.n == 0 || s.p[0] == '.' || s.p[0] == '-' || str_find_char(s, '/') >= 0 || !utf8_valid(s))
			abort();
	}
	if (media_type((struct str){ bytes, n }, true)[0] == '\0')
		abort();
	free(bytes);
	return 0;
}
