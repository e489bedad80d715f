/* SPDX-License-Identifier: MIT
 * The full self-test, for doctor: one command in a cell of its own looks at what must not be there and what must. Each row is
 * a shell condition that holds in a whole cell. Conditions only look: nothing is written, wherever they run. */
#include <stdlib.h>
#include "base/id.h"
#include "base/mem.h"
#include "sandbox/internal.h"

#define CHECK_MS         10000
#define CHECK_OUTPUT_MAX (16u * KIB)
#define CHECK_CELL       "self-check"

static const struct {
	const char *name, *text, *condition;
} rows[] = {
	{ "user", "commands run as user 1000 of the cell", "[ \"$(id -u)\" = 1000 ]" },
	{ "capabilities", "no capability, and none to gain",
		"grep -q '^CapEff:.0*$' /proc/self/status && grep -q '^CapBnd:.0*$' /proc/self/status && "
		"grep -q '^NoNewPrivs:.1' /proc/self/status" },
	{ "seccomp", "system calls are filtered", "grep -q '^Seccomp:.2' /proc/self/status" },
	{ "processes", "no process of the host is seen", "[ \"$(cat /proc/1/comm)\" = ithaca-exec ]" },
	{ "system", "the system is read-only", "[ ! -w /usr ] && [ ! -w / ]" },
	{ "secrets", "the host's accounts and homes are not there", "[ ! -e /etc/shadow ] && [ ! -e /root ] && [ ! -e /etc/ssh ]" },
	{ "kernel", "kernel settings cannot be written", "[ ! -w /proc/sys/kernel/core_pattern ]" },
	{ "devices", "only the few devices that programs expect",
		"[ -z \"$(ls /dev | grep -vxE 'fd|full|null|ptmx|pts|random|shm|std(in|out|err)|tty|urandom|zero')\" ]" },
	{ "network", "no network but lo", "[ \"$(grep -c : /proc/net/dev)\" = 1 ]" },
	{ "work", "files can be written where they should", "[ -w /tmp ] && [ -w ~ ] && [ -w /run/work/tmp ]" },
};

struct check {
	struct sandbox *sb;
	sandbox_check_fn fn;
	void *arg;
	struct buf out;
};

static void
finish(struct check *c, const struct sandbox_check_row *found, size_t n, const struct err *e)
{
	c->fn(c->arg, found, n, e);
	struct err ignored;
	(void)!sandbox_cell_close(c->sb, CHECK_CELL, true, NULL, NULL, &ignored); /* best effort: the link may be gone */
	buf_fini(&c->out);
	free(c);
}

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct check *c = arg;
	if (ch == 1)
		buf_add_str(&c->out, bytes);
}

static void
on_status(void *arg, const struct exec_status *st)
{
	struct check *c = arg;
	struct sandbox_check_row found[ARRAY_LEN(rows)];
	struct str rest = buf_str(&c->out), line;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		found[i] = (struct sandbox_check_row){ rows[i].name, rows[i].text, false };
	while (str_next(&rest, '\n', &line)) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			found[i].holds = found[i].holds || str_is(line, rows[i].name);
	}
	finish(c, found, ARRAY_LEN(rows), NULL);
}

static void
on_fail(void *arg, const struct err *e)
{
	finish(arg, NULL, 0, e);
}

int
sandbox_check(struct sandbox *sb, const struct cell_plan *plan, sandbox_check_fn fn, void *arg, struct err *e)
{
	static const struct exec_handler handler = { on_output, on_status, on_fail };
	struct check *c = xcalloc(1, sizeof(*c));
	struct exec_call *call;
	struct id id = id_new();
	struct buf command;

	*c = (struct check){ .sb = sb, .fn = fn, .arg = arg };
	buf_init(&c->out, CHECK_OUTPUT_MAX);
	buf_init(&command, EXEC_COMMAND_MAX);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		buf_printf(&command, "if { %s; } 2>/dev/null; then echo %s; fi\n", rows[i].condition, rows[i].name);
	struct exec_request r = { .cell = CHECK_CELL, .plan = plan, .effect = id.z, .command = buf_str(&command),
		.timeout_ms = CHECK_MS, .output_max = CHECK_OUTPUT_MAX };
	int rc = sandbox_exec(sb, &r, &handler, c, &call, e);
	buf_fini(&command);
	if (rc != 0) {
		buf_fini(&c->out);
		free(c);
	}
	return rc;
}
