/* SPDX-License-Identifier: MIT
 * See attach.h. The runtime looks again: what a client says of a file counts for nothing there. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/limits.h"
#include "base/media.h"
#include "base/mem.h"
#include "base/path.h"
#include "cli/attach.h"

void
attach_free(struct attached *files, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(files[i].name);
		free(files[i].bytes);
	}
	free(files);
}

static const char *
last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static int
read_one(const char *path, struct attached *f, struct err *e)
{
	struct stat st;
	struct media m;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"%.120s is a directory (attach its files, or put it into the workspace and "
			"name it)",
			path);
	if (file_read(path, MEDIA_MAX, &f->bytes, &f->n, e) != 0)
		return e->code;
	f->name = xstrdup(last_name(path));
	sha256_hex((struct str){ f->bytes, f->n }, f->hash);
	return media_sniff(str_of(f->name), (struct str){ f->bytes, f->n }, &m, e);
}

int
attach_read(const struct node *paths, struct attached **out, size_t *n, struct err *e)
{
	size_t want = node_len(paths), total = 0;
	struct attached *files = xcalloc(want + 1, sizeof *files);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < want; i++) {
		AUTO_FREE char *path = str_dup(node_at(paths, i)->s);

		rc = read_one(path, &files[i], e);
		total += files[i].n;
		if (rc == 0 && total > TURN_MEDIA_MAX)
			rc = err_set(e, ERR_LIMIT, ERR_TO_USER,
				"the files are larger than %u MiB together (send fewer at once)",
				TURN_MEDIA_MAX / MIB);
	}
	if (rc != 0) {
		attach_free(files, want);
		return err_wrap(e, "--attach");
	}
	*out = files;
	*n = want;
	return 0;
}
