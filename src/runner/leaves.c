/* SPDX-License-Identifier: MIT
 * What stays in the home when we are killed, by name, for the cleaner that removes it (sandbox/cleaner.h): shelld's, where shelld is on
 * the host, and one of our own in the tiers above, where none of those who outlive us sees these files. */
#include "runner/internal.h"

#include "base/mem.h"
#include "sandbox/cleaner.h"

#define GUEST_END_MS 90000 /* for a container whose start was under way, which gives itself up after 60 s, and for a machine to go off */

/* The first shows whether one of us lives. */
const char *const leaves_ours[] = { "control.sock", "rpc.sock", "inputs", NULL };
/* Of a sidecar and of the runtime in a container: sockets, tokens, profiles, the files of a machine; and half a saved one. */
static const char *const of_guests[] = { "guest/", "runtime/", "../state/machine.new" };

void
leaves_write(const char *home, struct json *j)
{
	AUTO_FREE char *lock = xasprintf("%s/run/lock", home);

	json_kv_z(j, "lock", lock);
	json_key(j, "leaves");
	json_arr(j);
	for (size_t i = 0; leaves_ours[i] != NULL; i++)
		json_z(j, leaves_ours[i]);
	json_arr_end(j);
}

struct cleaner *
leaves_watch(const struct runner *r)
{
	AUTO_FREE char *dir = xasprintf("%s/run", r->home);
	AUTO_FREE char *lock = xasprintf("%s/lock", dir);
	AUTO_FREE char *program = program_path(r->bin_dir, "ithaca-guest");
	struct str names[ARRAY_LEN(leaves_ours) + ARRAY_LEN(of_guests)];
	size_t n = 0;

	for (size_t i = 0; leaves_ours[i] != NULL; i++)
		names[n++] = str_of(leaves_ours[i]);
	for (size_t i = 0; i < ARRAY_LEN(of_guests); i++)
		names[n++] = str_of(of_guests[i]);
	return cleaner_start(r->loop, &(struct cleaner_order){ .program = program, .dir = dir, .lock = str_of(lock), .names = names,
		.names_n = n, .wait_ms = config_int(r->settings.config, "cell.orphan_ms") + GUEST_END_MS });
}
