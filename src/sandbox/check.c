/* SPDX-License-Identifier: MIT
 * The full self-test, for doctor: one command in a cell of its own looks at what must not be there and what must, and tries
 * what must not work. Each row is a shell condition that holds in a whole cell. What they try leaves nothing behind, also
 * where it works. */
#include <stdio.h>
#include <stdlib.h>
#include "base/id.h"
#include "base/mem.h"
#include "sandbox/internal.h"

#define CHECK_MS         60000 /* an emulated machine takes some */
#define CHECK_OUTPUT_MAX (16u * KIB)
#define CHECK_CELL       "self-check-" /* and an id: two may run at once */

/* no_bits: a file of one's own cannot be made setuid, which nothing but the filter of system calls denies. no_node: a device
 * node cannot be made, which takes a capability. Cell-basic cannot read /proc; there they answer for it. */
static const char functions[] =
	"no_bits() { f=$(mktemp) && { chmod u+s \"$f\"; r=$?; rm -f \"$f\"; [ $r != 0 ]; }; }\n"
	"no_node() { d=$(mktemp -d) && { mknod \"$d/n\" c 1 3; r=$?; rm -rf \"$d\"; [ $r != 0 ]; }; }\n";

static const struct {
	const char *name, *text, *condition;
} rows[] = {
	{ "user", "commands run as user 1000 of the cell", "[ \"$(id -u)\" = 1000 ]" },
	{ "capabilities", "no capability, and none to gain",
		"if s=$(cat /proc/self/status); then echo \"$s\" | grep -q '^CapEff:.0*$' && echo \"$s\" | grep -q '^CapBnd:.0*$' && "
		"echo \"$s\" | grep -q '^NoNewPrivs:.1'; else no_node; fi" },
	{ "seccomp", "system calls are filtered",
		"if s=$(cat /proc/self/status); then echo \"$s\" | grep -q '^Seccomp:.2'; else no_bits; fi" },
	{ "setuid", "no file can be made setuid", "no_bits" },
	{ "nodes", "no device can be made", "no_node" },
	{ "namespaces", "no namespace can be made", "! unshare -U true && ! unshare -m true" },
	{ "processes", "no process of the host is seen", "[ \"$(cat /proc/1/comm)\" = ithaca-exec ]" },
	{ "system", "the system cannot be changed", "! ( : >> /usr/lib/os-release ) && ! ( : >> /etc/passwd )" },
	{ "secrets", "the host's accounts and homes cannot be read", "! ( : < /etc/shadow ) && ! ls /root && ! ls /etc/ssh" },
	{ "kernel", "kernel settings cannot be written", "! ( : >> /proc/sys/kernel/core_pattern )" },
	{ "devices", "only the few devices that programs expect",
		"[ -z \"$(ls /dev | grep -vxE 'fd|full|null|ptmx|pts|random|shm|std(in|out|err)|tty|urandom|zero')\" ]" },
	{ "network", "no network but lo",
		"if d=$(cat /proc/net/dev); then [ \"$(echo \"$d\" | grep -c :)\" = 1 ]; else ! bash -c ': < /dev/udp/127.0.0.1/9'; fi" },
	{ "work", "files can be written where they should", "( : >> ~/.check ) && rm ~/.check && f=$(mktemp) && rm \"$f\"" },
};

struct check {
	struct sandbox *sb;
	sandbox_check_fn fn;
	void *arg;
	struct buf out;
	char cell[CELL_KEY_MAX + 1];
	struct sandbox_check_row found[ARRAY_LEN(rows)];
	struct err e;
};

/* Told when the cell and its files are gone, or nobody is there to remove them. */
static void
on_closed(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct check *c = arg;

	if (c->e.code == 0)
		c->fn(c->arg, c->found, ARRAY_LEN(rows), NULL);
	else
		c->fn(c->arg, NULL, 0, &c->e);
	buf_fini(&c->out);
	free(c);
}

static void
finish(struct check *c)
{
	struct err ignored;

	if (sandbox_cell_close(c->sb, c->cell, true, on_closed, c, &ignored) != 0)
		on_closed(c, NULL, STR(""), NULL);
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
	struct str rest = buf_str(&c->out), line;

	if (st->signal != 0 || st->timed_out || st->killed)
		err_set(&c->e, ERR_FAILED, ERR_TO_USER, "the self-test of cells did not come to its end (%s)",
			st->timed_out ? "it took longer than a minute" : "it was killed");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		c->found[i] = (struct sandbox_check_row){ rows[i].name, rows[i].text, false };
	while (str_next(&rest, '\n', &line)) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			c->found[i].holds = c->found[i].holds || str_is(line, rows[i].name);
	}
	finish(c);
}

static void
on_fail(void *arg, const struct err *e)
{
	struct check *c = arg;

	c->e = *e;
	finish(c);
}

bool
sandbox_check_text(size_t i, const char **name, const char **text)
{
	if (i >= ARRAY_LEN(rows))
		return false;
	*name = rows[i].name;
	*text = rows[i].text;
	return true;
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
	buf_add_z(&command, functions);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		buf_printf(&command, "if { %s; } >/dev/null 2>&1; then echo %s; fi\n", rows[i].condition, rows[i].name);
	snprintf(c->cell, sizeof(c->cell), CHECK_CELL "%s", id.z);
	struct exec_request r = { .cell = c->cell, .plan = plan, .effect = id.z, .command = buf_str(&command),
		.timeout_ms = CHECK_MS, .output_max = CHECK_OUTPUT_MAX };
	int rc = sandbox_exec(sb, &r, &handler, c, &call, e);
	buf_fini(&command);
	if (rc != 0) {
		buf_fini(&c->out);
		free(c);
	}
	return rc;
}
