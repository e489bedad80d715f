/* SPDX-License-Identifier: MIT
 * Runs a fuzz target over saved inputs, without a fuzzer: `replay_NAME DIR`. A crash is a failure of the test. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define INPUT_MAX (8u << 20)

static void
replay(const char *dir, const char *name)
{
	char path[4096];
	uint8_t *data = malloc(INPUT_MAX);
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (f != NULL && data != NULL) {
		n = fread(data, 1, INPUT_MAX, f);
		LLVMFuzzerTestOneInput(data, n);
	}
	if (f != NULL)
		fclose(f);
	free(data);
}

int
main(int argc, char **argv)
{
	DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	unsigned inputs = 0;

	if (d == NULL) {
		fprintf(stderr, "usage: replay DIR with saved inputs\n");
		return 1;
	}
	while ((entry = readdir(d)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		replay(argv[1], entry->d_name);
		inputs++;
	}
	closedir(d);
	printf("%u inputs replayed\n", inputs);
	return inputs > 0 ? 0 : 1;
}
