/* SPDX-License-Identifier: MIT
 * Process roles: the runner, which starts, links and restarts the others, and the runtime, which wires the rooms
 * together. The runner parses nothing that a model, guest or peer wrote. */
#ifndef RUNNER_RUNNER_H
#define RUNNER_RUNNER_H

/* Descriptors that a role is started with. */
enum { FD_LINK = 3 /* to the runner, or of a private runner to the client that started it */, FD_LOCK = 4 };

/* Each returns an exit status. */
int runner_main(int argc, char **argv);
int runtime_main(int runner_fd);
int runtime_main_contained(const char *dir); /* waits in dir for the runner, who brings what else is inherited */

#endif
