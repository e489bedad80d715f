/* SPDX-License-Identifier: MIT
 * The daemon's executable: the runner, or with -x the role that the runner starts it as. */
#include "broker/broker.h"
#include "config/config.h"
#include "ithaca-version.h"
#include "runner/runner.h"
#include "tool/tool.h"

#include <stdio.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*main)(int runner_fd);
} roles[] = {
	{ "runtime", runtime_main },
	{ "broker", broker_main },
};

/* Pages that derive from tables: `make docs`. */
static int
print_docs(const char *page)
{
	struct registry *r = registry_new();
	struct buf b;

	buf_init(&b, 4 << 20);
	registry_add(r, file_tools);
	registry_add(r, exec_tools);
	if (strcmp(page, "config") == 0)
		config_doc(&b);
	else
		tool_doc(r, &b);
	fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
	registry_free(r);
	return fflush(stdout) == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "-x") == 0 && strcmp(argv[2], "docs") == 0)
		return print_docs(argv[3]);
	if (argc == 5 && strcmp(argv[1], "-x") == 0 && strcmp(argv[2], "runtime") == 0 && strcmp(argv[3], "--listen") == 0)
		return runtime_main_contained(argv[4]);
	if (argc >= 3 && strcmp(argv[1], "-x") == 0) {
		for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
			if (strcmp(argv[2], roles[i].name) != 0)
				continue;
			(void)setsid(); /* a key typed at the runner's terminal is for the runner, which stops us in order */
			return roles[i].main(FD_LINK);
		}
		if (strcmp(argv[2], "runner") == 0) {
			argv[2] = argv[0];
			return runner_main(argc - 2, argv + 2);
		}
		fprintf(stderr, "ithacad: there is no role %s (runner, runtime, broker)\n", argv[2]);
		return 2;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("ithacad " ITHACA_VERSION);
		return 0;
	}
	return runner_main(argc, argv);
}
