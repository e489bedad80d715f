/* SPDX-License-Identifier: MIT
 * The shell parser: never crashes, stays inside its arena, and keeps its promises: a failure leaves
 * the result untouched, an opaque script says why, words before `fixed` are words. */
#include "base/limits.h"
#include "policy/shell.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct shell_script *s)
{
	if (s->opaque != (s->why_opaque != NULL))
		fatal("opaque without a reason");
	for (size_t i = 0; i < s->n; i++) {
		const struct shell_command *c = &s->commands[i];

		if (c->argc == 0 || c->fixed > c->argc || c->dynamic != (c->fixed < c->argc))
			fatal("command %zu is inconsistent", i);
		if (c->fixed == 0 && !s->opaque)
			fatal("a computed name in a script that is not opaque");
		for (size_t k = 0; k < c->argc; k++)
			if (c->known[k] > c->argv[k].n ||
				(k < c->fixed && c->known[k] != c->argv[k].n))
				fatal("word %zu of command %zu is not known as it says", k, i);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str script = { (const char *)data, size };
	struct shell_script s = { .n = SIZE_MAX }, found;
	struct arena *a = arena_new(8 * MIB);
	struct err e = { 0 };

	if (shell_parse(script, a, &s, &e) == 0)
		check(&s);
	else if (s.n != SIZE_MAX)
		fatal("a failure changed the result");
	arena_reset(a);
	if (shell_scan(script, a, &found, &e) != 0 && !found.opaque)
		fatal("an error in a script that is not opaque");
	check(&found);
	arena_free(a);
	return 0;
}
