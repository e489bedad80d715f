/* SPDX-License-Identifier: MIT
 * The full self-test, for doctor, in a cell of its own. Its rows are what a cell promises. Each has a shell condition that holds in
 * a whole cell, and the attempts of the escape suite (attempt.h) that belong to it: our own program is copied in, as an attacker's
 * would be, and tries them against decoys that are made for it outside. A row holds when its condition does, at least one of
 * its attempts was denied and none worked. What is tried leaves nothing behind, also where it works. */
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/id.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/attempt.h"
#include "sandbox/internal.h"

#define CHECK_MS         60000 /* an emulated machine takes some */
#define CHECK_OUTPUT_MAX (16u * KIB)
#define CHECK_CELL       "self-check-" /* and an id: two may run at once */
#define PROGRAM          "~/.ithaca-attempt" /* in the cell */
#define PROGRAM_MAX      (16u * MIB)
#define PART_BYTES       (EXEC_INPUT_MAX - 64u * KIB) /* of it in one command */
/* What its floods are measured against; the decoys are more. */
#define CHECK_PROCESSES  64
#define CHECK_MEMORY     (128u * MIB)
#define CHECK_FILE_BYTES (16u * MIB)

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
	{ "nodes", "no device can be made or changed", "no_node" },
	{ "namespaces", "no namespace can be made", "! unshare -U true && ! unshare -m true" },
	{ "processes", "no process of the host is seen", "[ \"$(cat /proc/1/comm)\" = ithaca-exec ]" },
	{ "system", "the system cannot be changed", "! ( : >> /usr/lib/os-release ) && ! ( : >> /etc/passwd )" },
	{ "secrets", "the host's accounts and homes cannot be read", "! ( : < /etc/shadow ) && ! ls /root && ! ls /etc/ssh" },
	{ "kernel", "kernel settings cannot be written", "! ( : >> /proc/sys/kernel/core_pattern )" },
	{ "devices", "only the few devices that programs expect",
		"[ -z \"$(ls /dev | grep -vxE 'fd|full|null|ptmx|pts|random|shm|std(in|out|err)|tty|urandom|zero')\" ]" },
	{ "network", "no network but lo",
		"if d=$(cat /proc/net/dev); then [ \"$(echo \"$d\" | grep -c :)\" = 1 ]; else ! bash -c ': < /dev/udp/127.0.0.1/9'; fi" },
	{ "files", "no file of the host can be reached by any path", "true" },
	{ "mounts", "nothing can be mounted, unmounted or entered", "true" },
	{ "memory", "no memory or queue of the host is shared", "true" },
	{ "terminal", "nothing can be typed into a terminal", "true" },
	{ "inherited", "no descriptor, ignored signal or key comes along, and a crash leaves nothing", "true" },
	{ "limits", "processes, memory and files end at their limits", "true" },
	{ "work", "files can be written where they should", "( : >> ~/.check ) && rm ~/.check && f=$(mktemp) && rm \"$f\"" },
};

/* Those of the row "limits": each in a command of its own, because it may be ended for it. */
static const char *const floods[] = { "fork_bomb", "memory_bomb", "big_file" };

enum { DECOYS_MAX = 12 };
/* What the attempts are aimed at; outside they would reach it. */
struct decoys {
	char file[PLAN_PATH_MAX];
	int tcp, abstract, shm; /* -1: could not be made, so that the attempt is skipped */
	char text[DECOYS_MAX][PLAN_PATH_MAX + 32];
	const char *env[DECOYS_MAX + 1];
	size_t n;
};

struct check {
	struct sandbox *sb;
	sandbox_check_fn fn;
	void *arg;
	struct cell_plan plan; /* its strings are below */
	char *strings[4];
	char *program; /* the bytes of ithaca-guest */
	size_t program_n, sent;
	size_t flood; /* the next */
	bool is_tried;
	struct decoys decoys;
	struct buf out; /* of the command that runs */
	char cell[CELL_KEY_MAX + 1];
	struct sandbox_check_row found[ARRAY_LEN(rows)];
	size_t denied[ARRAY_LEN(rows)], worked[ARRAY_LEN(rows)];
	struct err e;
};

/* ---- decoys ---- */

static void
decoy_put(struct decoys *d, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void
decoy_put(struct decoys *d, const char *name, const char *fmt, ...)
{
	char value[PLAN_PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	snprintf(d->text[d->n], sizeof(d->text[0]), "%s=%s", name, value);
	d->env[d->n] = d->text[d->n];
	d->n++;
}

/* A listener that nobody accepts from: to be connected to is enough. */
static int
listen_at(const struct sockaddr *a, socklen_t n)
{
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && (bind(fd, a, n) != 0 || listen(fd, 4) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
decoys_make(struct decoys *d, const char *dir, const char *socket, const char *id)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(in);
	struct err e;

	snprintf(d->file, sizeof(d->file), "%s/decoy-%s", dir, id);
	if (file_write(d->file, STR("decoy"), 0644, &e) == 0)
		decoy_put(d, "DECOY_FILE", "%s", d->file);
	decoy_put(d, "DECOY_DIR", "%s", dir);
	decoy_put(d, "DECOY_SOCKET", "%s", socket);
	decoy_put(d, "DECOY_PID", "%d", (int)getpid());
	decoy_put(d, "DECOY_INIT", "1");
	d->tcp = listen_at((struct sockaddr *)&in, n);
	if (d->tcp >= 0 && getsockname(d->tcp, (struct sockaddr *)&in, &n) == 0)
		decoy_put(d, "DECOY_PORT", "%d", ntohs(in.sin_port));
	int len = snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "ithaca-decoy-%s", id);
	d->abstract = listen_at((struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len));
	if (d->abstract >= 0)
		decoy_put(d, "DECOY_ABSTRACT", "%s", un.sun_path + 1);
	int key = 0x40000000; /* and what tells two checks of one moment apart */
	for (const char *z = id; *z != '\0'; z++)
		key ^= (int)(((unsigned)key * 31u + (unsigned char)*z) & 0x3fffffffu);
	d->shm = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0666);
	if (d->shm >= 0)
		decoy_put(d, "DECOY_SHM", "%d", key);
	decoy_put(d, "DECOY_FORKS", "200");
	decoy_put(d, "DECOY_MEGABYTES", "200");
	decoy_put(d, "DECOY_STAY_MS", "3000");
}

static void
decoys_remove(struct decoys *d)
{
	if (d->tcp >= 0)
		close(d->tcp);
	if (d->abstract >= 0)
		close(d->abstract);
	if (d->shm >= 0)
		(void)shmctl(d->shm, IPC_RMID, NULL);
	(void)unlink(d->file);
}

/* ---- the end ---- */

static void
check_free(struct check *c)
{
	decoys_remove(&c->decoys);
	buf_fini(&c->out);
	free(c->program);
	for (size_t i = 0; i < ARRAY_LEN(c->strings); i++)
		free(c->strings[i]);
	free(c);
}

/* Told when the cell and its files are gone, or nobody is there to remove them. */
static void
on_closed(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct check *c = arg;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		c->found[i].holds = c->found[i].holds && c->worked[i] == 0;
	if (c->e.code == 0)
		c->fn(c->arg, c->found, ARRAY_LEN(rows), NULL);
	else
		c->fn(c->arg, NULL, 0, &c->e);
	check_free(c);
}

static void
finish(struct check *c)
{
	struct err ignored;

	if (sandbox_cell_close(c->sb, c->cell, true, on_closed, c, &ignored) != 0)
		on_closed(c, NULL, STR(""), NULL);
}

/* ---- what was found ---- */

static size_t
row_of(const char *name)
{
	size_t i = 0;

	while (i < ARRAY_LEN(rows) && strcmp(rows[i].name, name) != 0)
		i++;
	return i;
}

static void
count_attempt(struct check *c, struct str name, struct str status)
{
	for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a)) {
		size_t i = a->wall == NULL || !str_is(name, a->name) ? ARRAY_LEN(rows) : row_of(a->wall);

		if (i == ARRAY_LEN(rows))
			continue;
		c->denied[i] += str_is(status, "10");
		c->worked[i] += str_is(status, "0");
	}
}

/* Lines of one word are conditions that hold, those of two an attempt and how it ended. */
static void
read_lines(struct check *c)
{
	struct str rest = buf_str(&c->out), line;

	while (str_next(&rest, '\n', &line)) {
		ptrdiff_t space = str_find_char(line, ' ');

		if (space >= 0)
			count_attempt(c, str_sub(line, 0, (size_t)space), str_sub(line, (size_t)space + 1, line.n));
		for (size_t i = 0; space < 0 && i < ARRAY_LEN(rows); i++)
			c->found[i].holds = c->found[i].holds || str_is(line, rows[i].name);
	}
	for (const struct attempt *a = attempt_next(NULL); a != NULL; a = attempt_next(a)) {
		size_t i = a->wall == NULL ? ARRAY_LEN(rows) : row_of(a->wall);

		if (i < ARRAY_LEN(rows) && strcmp(a->wall, "limits") != 0 && c->denied[i] == 0)
			c->found[i].holds = false; /* nothing was tried */
	}
}

/* ---- the commands ---- */

static void next(struct check *c);

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
	bool is_killed = st->signal != 0 || st->timed_out || st->killed;

	if (!c->is_tried && is_killed) {
		err_set(&c->e, ERR_FAILED, ERR_TO_USER, "the self-test of cells did not come to its end (%s)",
			st->timed_out ? "it took longer than a minute" : "it was killed");
		finish(c);
		return;
	}
	if (c->flood > 0) /* whoever is ended for it met its limit */
		c->worked[row_of("limits")] += !is_killed && !st->out_of_memory && !st->out_of_processes && st->exit_code != ATTEMPT_DENIED;
	else if (c->sent == c->program_n && c->out.n > 0)
		read_lines(c);
	next(c);
}

static void
on_fail(void *arg, const struct err *e)
{
	struct check *c = arg;

	c->e = *e;
	finish(c);
}

static int
run(struct check *c, struct str command, struct str input, struct err *e)
{
	static const struct exec_handler handler = { on_output, on_status, on_fail };
	struct id id = id_new();
	struct exec_request r = { .cell = c->cell, .plan = &c->plan, .effect = id.z, .command = command, .env = c->decoys.env,
		.timeout_ms = CHECK_MS, .output_max = CHECK_OUTPUT_MAX, .input = input.n > 0 };
	struct exec_call *call;

	buf_reset(&c->out);
	int rc = sandbox_exec(c->sb, &r, &handler, c, &call, e);
	if (rc == 0 && input.n > 0) {
		exec_call_input(call, input);
		exec_call_input(call, STR(""));
	}
	return rc;
}

static int
run_rows(struct check *c, struct err *e)
{
	struct buf command;

	buf_init(&command, EXEC_COMMAND_MAX);
	buf_add_z(&command, functions);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		buf_printf(&command, "if { %s; } >/dev/null 2>&1; then echo %s; fi\n", rows[i].condition, rows[i].name);
	buf_printf(&command, "d=$(mktemp -d) && cd \"$d\" && chmod 700 %s && %s --attempts; cd / && rm -rf \"$d\"", PROGRAM, PROGRAM);
	int rc = run(c, buf_str(&command), STR(""), e);
	buf_fini(&command);
	return rc;
}

static int
run_flood(struct check *c, struct err *e)
{
	char command[256];
	bool is_last = c->flood + 1 == ARRAY_LEN(floods);

	snprintf(command, sizeof(command), "cd /tmp && %s --attempt %s; r=$?; %s; exit $r", PROGRAM, floods[c->flood++],
		is_last ? "rm -f " PROGRAM : ":");
	return run(c, str_of(command), STR(""), e);
}

/* The program part by part, then the rows, then the floods. */
static int
run_next(struct check *c, struct err *e)
{
	if (c->sent < c->program_n) {
		struct str part = str_sub((struct str){ c->program, c->program_n }, c->sent, PART_BYTES);
		c->sent += part.n;
		return run(c, c->sent == part.n ? STR("cat > " PROGRAM) : STR("cat >> " PROGRAM), part, e);
	}
	if (!c->is_tried) {
		c->is_tried = true;
		return run_rows(c, e);
	}
	return run_flood(c, e);
}

static void
next(struct check *c)
{
	if (c->is_tried && c->flood == ARRAY_LEN(floods))
		finish(c);
	else if (run_next(c, &c->e) != 0)
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

static const char *
keep(struct check *c, size_t i, const char *z)
{
	return z == NULL ? NULL : (c->strings[i] = xstrdup(z));
}

int
sandbox_check(struct sandbox *sb, const struct check_spec *spec, sandbox_check_fn fn, void *arg, struct err *e)
{
	struct check *c = xcalloc(1, sizeof(*c));
	struct id id = id_new();

	*c = (struct check){ .sb = sb, .fn = fn, .arg = arg, .plan = *spec->plan };
	buf_init(&c->out, CHECK_OUTPUT_MAX);
	c->plan.shared = keep(c, 0, spec->plan->shared);
	c->plan.scratch = keep(c, 1, spec->plan->scratch);
	c->plan.app = keep(c, 2, spec->plan->app);
	c->plan.state = keep(c, 3, spec->plan->state);
	c->plan.processes = CHECK_PROCESSES;
	c->plan.memory_bytes = CHECK_MEMORY;
	c->plan.file_bytes = CHECK_FILE_BYTES;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		c->found[i] = (struct sandbox_check_row){ rows[i].name, rows[i].text, false };
	snprintf(c->cell, sizeof(c->cell), CHECK_CELL "%s", id.z);
	decoys_make(&c->decoys, spec->dir, spec->socket, id.z);
	int rc = file_read(spec->program, PROGRAM_MAX, &c->program, &c->program_n, e);
	if (rc == 0)
		rc = run_next(c, e);
	if (rc != 0)
		check_free(c);
	return rc;
}
