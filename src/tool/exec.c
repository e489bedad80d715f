/* SPDX-License-Identifier: MIT
 * exec, job and output: commands in the session's cell. A command is keyed by its effect id: shelld
 * runs it once and keeps its output, so a call can be attached to again after a crash, and what a
 * result leaves out can be read later. This file keeps only the start and the end of the output in
 * memory. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/utf8.h"
#include "tool/internal.h"

#define STATUS_MAX          1400
#define SESSION_NAME_MAX    32
#define EXEC_TIMEOUT_MAX_MS 86400000
#define PAGE_LOOK_BACK                                                                             \
	(4u * KIB) /* bytes before a page that are searched for the start of its line */

static const struct field exec_args[] = {
	{ .name = "command",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = 64 * KIB,
		.text = "Command for /bin/sh -c, run in the workspace /shared." },
	{ .name = "timeout_ms",
		.type = FIELD_INT,
		.min = 1,
		.max = EXEC_TIMEOUT_MAX_MS,
		.unit = "ms",
		.text = "Kill the command and all its children after this long; default 120000, "
			"for a background job "
			"3600000, unless configured otherwise." },
	{ .name = "cwd",
		.type = FIELD_STR,
		.max = FILE_PATH_MAX - 1,
		.text = "Directory to run in; default /shared." },
	{ .name = "session",
		.type = FIELD_STR,
		.max = SESSION_NAME_MAX,
		.text = "Name of a persistent shell to run it in, made at first use: directory, "
			"variables and functions stay for the next command with that name. It "
			"has a terminal." },
	{ .name = "background",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Return at once with the id of a job, for servers and long work; then use "
			"job." },
	{ .type = FIELD_END },
};

static const char *const job_actions[] = { "poll", "kill", NULL };
static const struct field job_args[] = {
	{ .name = "id",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = 64,
		.text = "Id that exec gave." },
	{ .name = "action",
		.type = FIELD_ENUM,
		.dflt = "poll",
		.choices = job_actions,
		.text = "poll: its state and output; kill: end it and all its children." },
	{ .name = "offset",
		.type = FIELD_INT,
		.min = 0,
		.max = INT64_MAX,
		.dflt = "0",
		.unit = "bytes",
		.text = "Show output from here on: give what the last poll said comes next." },
	{ .type = FIELD_END },
};
static const struct field output_args[] = {
	{ .name = "handle",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.min = 1,
		.max = 64,
		.text = "Handle from the note of a result that was cut, or the id of a job." },
	{ .name = "offset",
		.type = FIELD_INT,
		.min = 0,
		.max = INT64_MAX,
		.dflt = "0",
		.unit = "bytes",
		.text = "Where to start; the page starts at the beginning of that line." },
	{ .type = FIELD_END },
};

/* ---- exec ---- */

/* Of the output: the first head_max bytes and the last ring_max bytes. */
struct run {
	struct tool_call *c;
	struct exec_call *call;
	bool cancelled;
	bool on_terminal;
	char *head, *ring;
	size_t head_n, head_max, ring_max;
	int64_t total;
	struct exec_status st; /* how it ended, while its outbox is looked at */
};

static void
ring_add(struct run *r, struct str s)
{
	size_t skip = s.n > r->ring_max ? s.n - r->ring_max : 0;

	for (size_t i = skip; i < s.n;) {
		size_t at = (size_t)((r->total + (int64_t)i) % (int64_t)r->ring_max);
		size_t n = MIN(s.n - i, r->ring_max - at);
		memcpy(r->ring + at, s.p + i, n);
		i += n;
	}
}

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct run *r = arg;
	struct tool_call *c = r->c;
	size_t n = MIN(bytes.n, r->head_max - r->head_n);

	if (n > 0)
		memcpy(r->head + r->head_n, bytes.p, n);
	r->head_n += n;
	ring_add(r, bytes);
	r->total += (int64_t)bytes.n;
	if (c->h->on_output != NULL)
		c->h->on_output(c->arg, ch, offset, bytes);
}

/* The bytes of the ring from an offset of the whole output on, in order. */
static struct str
ring_from(const struct run *r, int64_t from)
{
	size_t n = (size_t)(r->total - from);
	char *p = arena_alloc(r->c->a, n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = r->ring[(size_t)((from + (int64_t)i) % (int64_t)r->ring_max)];
	return (struct str){ p, n };
}

static struct str
joined(struct arena *a, struct str x, struct str y)
{
	char *p = arena_alloc(a, x.n + y.n + 1);

	if (x.n > 0)
		memcpy(p, x.p, x.n);
	if (y.n > 0)
		memcpy(p + x.n, y.p, y.n);
	return (struct str){ p, x.n + y.n };
}

/* Output as the model sees it: whole where it fits, else its first two thirds and its end, with a
 * note between that says how to read what is left out. */
static struct str
run_raw_text(const struct run *r, size_t max)
{
	struct arena *a = r->c->a;
	struct str head = { r->head, r->head_n }, tail = STR("");
	int64_t ring_at = MAX(r->total - (int64_t)r->ring_max, (int64_t)r->head_n);
	size_t used;

	if (r->total > (int64_t)r->head_n)
		tail = ring_from(r, ring_at);
	if (ring_at == (int64_t)r->head_n) { /* nothing is missing between them */
		head = joined(a, head, tail);
		struct str all = text_clean(a, head);
		if (all.n <= max)
			return all;
		tail = head;
	}
	struct str first = text_page(a, head, max / 3 * 2, &used);
	if (ring_at == (int64_t)r->head_n)
		tail = str_sub(tail, used, tail.n);
	struct str end = text_clean(a, tail);
	end = str_sub(end, text_cut_front(end, max / 3), end.n);
	struct str noted = text_note(a, first,
		"... the output has %lld bytes and is cut here; the rest: output {\"handle\": "
		"\"%s\", \"offset\": %zu} ...",
		(long long)r->total, r->c->effect, used);
	return joined(a, joined(a, noted, STR("\n")), end);
}

static struct str
run_text(const struct run *r, size_t max)
{
	struct str s = run_raw_text(r, max);

	return r->on_terminal ? text_terminal(r->c->a, s) : s;
}

/* The limit that ended a command, in a word; NULL: none. */
static const char *
limit_name(const struct exec_status *st)
{
	if (st->out_of_memory)
		return "out_of_memory";
	if (st->out_of_processes)
		return "out_of_processes";
	if (st->out_of_disk)
		return "out_of_disk";
	if (st->out_of_cpu)
		return "cpu_time";
	if (st->signal == SIGXFSZ || st->exit_code == 128 + SIGXFSZ)
		return "file_size";
	return st->timed_out ? "timeout" : NULL;
}

/* The wall that a command met, as far as its end tells; what it made of an error that a wall gave it, only its output says. */
static const char *
wall_name(const struct exec_status *st)
{
	return st->signal == SIGSYS || st->exit_code == 128 + SIGSYS ? "system_calls" : limit_name(st);
}

static struct str
status_facts(struct tool_call *c, const struct exec_status *st)
{
	struct facts f;

	facts_begin(&f);
	if (st->state == EXEC_RUNNING) {
		json_kv_z(&f.j, "job", c->effect);
	} else {
		if (st->signal == 0)
			json_kv_int(&f.j, "exit", st->exit_code);
		json_kv_int(&f.j, "signal", st->signal);
		json_kv_bool(&f.j, "timed_out", st->timed_out);
		json_kv_bool(&f.j, "killed", st->killed);
		json_kv_bool(&f.j, "out_of_memory", st->out_of_memory);
		json_kv_bool(&f.j, "out_of_processes", st->out_of_processes);
		json_kv_bool(&f.j, "out_of_disk", st->out_of_disk);
		json_kv_int(&f.j, "ms", st->duration_ms);
		json_kv_int(&f.j, "output_bytes", st->output_bytes);
		json_kv_int(&f.j, "kept_bytes", st->kept_bytes);
		json_kv_z(&f.j, "handle", c->effect);
		if (limit_name(st) != NULL)
			json_kv_z(&f.j, "limit", limit_name(st));
		if (wall_name(st) != NULL)
			json_kv_z(&f.j, "wall", wall_name(st));
		if (st->cwd[0] != '\0')
			json_kv_z(&f.j, "cwd", st->cwd);
		if (st->shell_ended)
			json_kv_bool(&f.j, "session_ended", true);
		if (st->has_use) {
			json_kv_int(&f.j, "user_ms", st->user_ms);
			json_kv_int(&f.j, "system_ms", st->system_ms);
			json_kv_int(&f.j, "memory_bytes", st->memory_bytes);
			json_kv_int(&f.j, "written_bytes", st->written_bytes);
		}
	}
	if (st->has_outbox || st->state == EXEC_RUNNING || st->state == EXEC_UNKNOWN)
		json_kv_bool(&f.j, "outbox", true); /* something is there, or may come to be */
	return facts_end(&f, c->a);
}

/* "exit 3, 12 ms" and whatever else a reader must know. */
static void
status_line(const struct exec_status *st, char out[STATUS_MAX])
{
	char span[32], how[64];
	const char *name = st->signal > 0 ? sigabbrev_np(st->signal) : NULL;
	const char *limit = limit_name(st), *wall = wall_name(st);
	bool stays = st->cwd[0] != '\0'; /* the command was interrupted, its shell is there */

	if (st->signal == 0)
		snprintf(how, sizeof(how), "exit %d", st->exit_code);
	else
		snprintf(how, sizeof(how), "killed by signal %d%s%s", st->signal,
			name ? " SIG" : "", name ? name : "");
	snprintf(out, STATUS_MAX, "%s, %s%s%s%s%s%s%s%s%s%s%s%s%s", how, span_text(st->duration_ms, span),
		!st->timed_out ? ""
			: stays ? "; it ran into timeout_ms and was interrupted"
				: "; it ran into timeout_ms and was killed with all its children",
		!st->killed ? ""
			: stays ? "; it was interrupted on request"
				: "; it was killed on request, with all its children",
		st->out_of_memory ? "; out_of_memory: the cell ran out of memory (cell.memory_mb)" : "",
		st->out_of_processes ? "; out_of_processes: the cell had more processes than it may have (cell.processes)" : "",
		st->out_of_disk ? "; out_of_disk: /home/agent, /run/work or /scratch reached what cell.disk_mb allows, remove files there" : "",
		st->out_of_cpu ? "; cpu_time: it used all the processor time that one command may use (cell.cpu_ms)" : "",
		limit != NULL && strcmp(limit, "file_size") == 0
			? "; file_size: a file reached the size that one may have (cell.file_mb)" : "",
		wall != NULL && strcmp(wall, "system_calls") == 0
			? "; system_calls: SIGSYS, as every cell answers a system call of another architecture" : "",
		st->shell_ended ? "; the session ended with it, the next command begins a new one" : "",
		stays ? "; in " : "", st->cwd,
		st->kept_bytes < st->output_bytes ? "; the end of its output was not kept" : "");
}

/* Words of an error that a limit of the cell gives, the limit, and the key of the configuration that sets it. */
enum limit_kind { LIMIT_PROCESSES, LIMIT_MEMORY, LIMIT_FILES, LIMIT_FILE_SIZE, LIMIT_TMP, LIMIT_COUNT };
static const struct {
	const char *words;
	enum limit_kind kind;
} limit_words[] = {
	{ "Cannot fork", LIMIT_PROCESSES }, { "Resource temporarily unavailable", LIMIT_PROCESSES },
	{ "can't start new thread", LIMIT_PROCESSES }, { "Cannot allocate memory", LIMIT_MEMORY },
	{ "MemoryError", LIMIT_MEMORY }, { "out of memory", LIMIT_MEMORY }, { "Too many open files", LIMIT_FILES },
	{ "File too large", LIMIT_FILE_SIZE }, { "File size limit exceeded", LIMIT_FILE_SIZE },
	{ "No space left on device", LIMIT_TMP },
};

static bool
has_words(struct str all, const char *words)
{
	return memmem(all.p, all.n, words, strlen(words)) != NULL;
}

static void
add_limits(const struct cell_plan *p, struct str all, char line[STATUS_MAX])
{
	bool is_named[LIMIT_COUNT] = { false };
	size_t n = strlen(line);

	for (size_t i = 0; i < ARRAY_LEN(limit_words); i++)
		is_named[limit_words[i].kind] = is_named[limit_words[i].kind] || has_words(all, limit_words[i].words);
	if (is_named[LIMIT_PROCESSES])
		n += (size_t)snprintf(line + n, STATUS_MAX - n, "; processes: this cell may have %lld (cell.processes)",
			(long long)p->processes);
	if (is_named[LIMIT_MEMORY] && n < STATUS_MAX)
		n += (size_t)snprintf(line + n, STATUS_MAX - n, "; memory: this cell may have %lld MiB (cell.memory_mb)",
			(long long)(p->memory_bytes / MIB));
	if (is_named[LIMIT_FILES] && n < STATUS_MAX)
		n += (size_t)snprintf(line + n, STATUS_MAX - n, "; open_files: a process may have %lld (cell.open_files)",
			(long long)p->open_files);
	if (is_named[LIMIT_FILE_SIZE] && n < STATUS_MAX)
		n += (size_t)snprintf(line + n, STATUS_MAX - n, "; file_size: a file may have %lld MiB (cell.file_mb)",
			(long long)(p->file_bytes / MIB));
	if (is_named[LIMIT_TMP] && n < STATUS_MAX)
		snprintf(line + n, STATUS_MAX - n, "; /tmp has %lld MiB (cell.tmp_mb)", (long long)(p->tmp_bytes / MIB));
}

/* Facts for a command that failed and whose output has the words of an error that a wall or a limit of the cell gives. Whether it
 * was one nobody can tell from outside, so it is not claimed. */
static void
add_walls(const struct run *r, const struct exec_status *st, char line[STATUS_MAX])
{
	static const char *const words[] = { "Read-only file system", "Permission denied", "Operation not permitted",
		("Function not " "implemented"), "Network is unreachable", "Could not resolve", "name resolution" };
	const struct tool_env *env = r->c->env;
	struct str all = joined(r->c->a, (struct str){ r->head, r->head_n },
		r->total > (int64_t)r->head_n
			? ring_from(r, MAX(r->total - (int64_t)r->ring_max, (int64_t)r->head_n)) : STR(""));
	char writable[SANDBOX_TEXT_MAX];
	bool is_named = false;

	if ((st->signal == 0 && st->exit_code == 0) || !call_is_in_cell(r->c))
		return;
	if (limit_name(st) == NULL)
		add_limits(&env->plan, all, line);
	for (size_t i = 0; i < ARRAY_LEN(words) && !is_named; i++)
		is_named = has_words(all, words[i]);
	size_t n = strlen(line);
	if (is_named)
		snprintf(line + n, STATUS_MAX - n,
			"; this cell: mode %s, it can write: %s; %s; no setuid bits, no mounts, no tracing",
			mode_name(env->mode), sandbox_writable(&env->plan, writable),
			env->plan.has_proxy ? "network only through the proxy on 127.0.0.1:3128, as egress rules allow" :
				"no network but its own loopback (egress.allow names hosts)");
}

/* ---- what is in the outbox when a command ended ---- */

#define OUTBOX_NOTE_MAX (3 * NOTE_MAX)
#define OUTBOX_NAME_MAX 100u /* bytes of a name that are shown */

static void
add_entry(struct buf *b, const struct node *x)
{
	struct str name = node_str(x, "name", STR(""));
	const char *type = node_z(x, "type", "");
	int64_t size = node_int(x, "size", 0);
	struct json j;

	buf_add_z(b, b->n > 0 ? ", " : "");
	json_init(&j, b);
	json_str(&j, str_sub(name, 0, utf8_cut(name, OUTBOX_NAME_MAX)));
	if (strcmp(type, "file") == 0)
		buf_printf(b, " %s %lld bytes%s", node_z(x, "media", ""), (long long)size,
			size > MEDIA_MAX ? " (too large to be kept)" : "");
	else
		buf_printf(b, " (%s: not kept)", type);
}

static struct str
outbox_text(const struct run *r, const struct node *head)
{
	const struct node *list = node_get(head, "entries");
	bool is_full = false;
	size_t shown = 0;
	struct buf b;

	buf_init(&b, OUTBOX_NOTE_MAX);
	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *x = node_at(list, i);

		if (strcmp(node_z(x, "type", ""), "dir") == 0)
			continue;
		is_full = is_full || shown == OUTBOX_SHOWN_MAX || b.n + 6 * OUTBOX_NAME_MAX + 128 > b.max;
		if (is_full)
			break;
		add_entry(&b, x);
		shown++;
	}
	if (is_full || node_bool(head, "truncated", false))
		buf_add_z(&b, shown > 0 ? ", and more" : "more than can be listed");
	struct str text = text_clean(r->c->a, buf_str(&b));
	buf_fini(&b);
	return text;
}

static void
run_ends(struct run *r, struct str outbox)
{
	struct tool_call *c = r->c;
	const struct exec_status *st = &r->st;
	size_t max = (size_t)c->tool->result_max - 3 * NOTE_MAX - (st->has_outbox ? OUTBOX_NOTE_MAX : 0);
	char line[STATUS_MAX];
	struct str text;

	status_line(st, line);
	add_walls(r, st, line);
	text = text_note(c->a, run_text(r, max), "%s", line);
	if (outbox.n > 0)
		text = text_note(c->a, text, "in the outbox, for the user when the turn ends: %.*s", STR_FMT(outbox));
	call_done(c, EFFECT_DONE, st->signal != 0 || st->exit_code != 0 || st->timed_out, text, status_facts(c, st));
}

static void
on_outbox(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct run *r = ((struct tool_call *)arg)->state;

	if (e != NULL && e->code == ERR_GONE)
		call_fail(r->c, EFFECT_DONE, e); /* its end is kept: it is asked for again */
	else
		run_ends(r, e != NULL ? text_clean(r->c->a, str_of(e->msg)) : outbox_text(r, head));
}

static int
outbox_list(struct run *r, struct err *e)
{
	struct buf b;
	struct json j;

	buf_init(&b, FILE_PARAMS_MAX);
	json_init(&j, &b);
	json_obj(&j);
	json_kv_z(&j, "below", r->c->env->work);
	json_kv_z(&j, "path", "outbox");
	json_kv_bool(&j, "media", true);
	json_kv_int(&j, "depth", OUTBOX_DEPTH_MAX);
	json_kv_int(&j, "max", 4 * OUTBOX_SHOWN_MAX);
	json_obj_end(&j);
	int rc = file_send(r->c, "list", buf_str(&b), STR(""), on_outbox, e);
	buf_fini(&b);
	return rc;
}

static void
on_status(void *arg, const struct exec_status *st)
{
	struct run *r = arg;
	struct tool_call *c = r->c;
	struct err e;
	struct str facts = status_facts(c, st);
	size_t max = (size_t)c->tool->result_max - 3 * NOTE_MAX;

	r->call = NULL;
	switch (st->state) {
	case EXEC_NOT_BEGUN:
		call_done(c, EFFECT_NOT_DONE, false,
			STR("the command had not begun before a restart"), facts);
		return;
	case EXEC_UNKNOWN:
		call_done(c, EFFECT_UNKNOWN, true,
			text_note(c->a, run_text(r, max),
				"the command began and was cut off by a restart: how it ended is "
				"not known. Look at what "
				"it did before running it again"),
			facts);
		return;
	case EXEC_RUNNING:
		call_done(c, EFFECT_DONE, false,
			text_note(c->a, run_text(r, max),
				"running in the background as job %s: job {\"id\": \"%s\"}",
				c->effect, c->effect),
			facts);
		return;
	case EXEC_DONE:
		r->st = *st;
		if (!st->has_outbox || c->env->work == NULL || outbox_list(r, &e) != 0)
			run_ends(r, STR(""));
		return;
	}
}

static void
on_fail(void *arg, const struct err *e)
{
	struct run *r = arg;

	call_fail(r->c, EFFECT_NOT_DONE, e);
}

static const struct exec_handler exec_handler = { on_output, on_status, on_fail };

static int
exec_send(struct tool_call *c, bool only_resume, struct err *e)
{
	struct run *r = arena_alloc(c->a, sizeof(*r));
	bool background = node_bool(c->args, "background", false);
	const char *session = node_z(c->args, "session", NULL);
	struct exec_request q = { .cell = c->env->cell,
		.plan = &c->env->plan,
		.run = c->env->run,
		.effect = c->effect,
		.command = node_str(c->args, "command", STR("")),
		.cwd = node_z(c->args, "cwd", session != NULL ? NULL : c->env->cwd),
		.shell = session,
		.timeout_ms = MIN(c->env->exec_timeout_max_ms,
			node_int(c->args, "timeout_ms",
				background ? c->env->exec_job_timeout_ms : c->env->exec_timeout_ms)),
		.output_max = c->env->exec_output_max,
		.background = background,
		.only_resume = only_resume };

	r->c = c;
	r->on_terminal = session != NULL;
	r->head_max = (size_t)c->tool->result_max;
	r->ring_max = r->head_max / 2;
	r->head = arena_alloc(c->a, r->head_max);
	r->ring = arena_alloc(c->a, r->ring_max);
	c->state = r;
	return sandbox_exec(c->env->sandbox, &q, &exec_handler, r, &r->call, e);
}

static int
exec_start(struct tool_call *c, struct err *e)
{
	return exec_send(c, false, e);
}

static int
exec_recover(struct tool_call *c, struct err *e)
{
	return exec_send(c, true, e);
}

static void
exec_cancel(struct tool_call *c)
{
	struct run *r = c->state;

	if (r == NULL || r->call == NULL || r->cancelled)
		return;
	r->cancelled = true;
	exec_call_kill(r->call);
}

static void
exec_target(const struct node *args, const struct tool_env *env, struct arena *a,
	struct policy_request *r)
{
	r->target = node_str(args, "command", STR(""));
	r->keeps_state = node_get(args, "session") != NULL;
}

/* ---- job and output ---- */

struct page_call {
	struct tool_call *c;
	const char *effect;
	int64_t offset; /* wanted */
	bool cancelled;
	struct str job_facts; /* job: JSON of its state */
	char line[STATUS_MAX + 64];      /* job: its state in words */
};

/* Of bytes that begin before the wanted offset: where the line starts that the offset is in. A page
 * that began in the middle of a line could show the half of a secret that nobody recognises. */
static size_t
page_start(struct str bytes, size_t wanted)
{
	for (size_t i = MIN(wanted, bytes.n); i > 0; i--)
		if (bytes.p[i - 1] == '\n')
			return i;
	return wanted > PAGE_LOOK_BACK / 2 ? MIN(wanted, bytes.n) : 0;
}

static void
page_show(struct page_call *p, const struct node *head, struct str tail)
{
	struct tool_call *c = p->c;
	int64_t at = node_int(head, "offset", 0), kept = node_int(head, "kept_bytes", 0);
	size_t from = page_start(tail, (size_t)MAX(p->offset - at, (int64_t)0)), used;
	struct str text = text_page(c->a, str_sub(tail, from, tail.n),
		(size_t)c->tool->result_max - 2 * NOTE_MAX, &used);
	int64_t start = at + (int64_t)from, end = start + (int64_t)used;
	const char *gap = p->line[0] ? "; " : "";
	struct facts f;

	if (end < kept)
		text = text_note(c->a, text,
			"%s%sbytes %lld-%lld of %lld; read on with offset %lld", p->line, gap,
			(long long)start, (long long)end, (long long)kept, (long long)end);
	else
		text = text_note(c->a, text, "%s%sbytes %lld-%lld of %lld; this is the end so far",
			p->line, gap, (long long)start, (long long)end, (long long)kept);
	facts_begin(&f);
	json_kv_z(&f.j, "handle", p->effect);
	json_kv_int(&f.j, "offset", start);
	json_kv_int(&f.j, "next", end);
	json_kv_int(&f.j, "kept_bytes", kept);
	if (p->job_facts.n > 0)
		json_kv_raw(&f.j, "job", p->job_facts);
	call_done(c, EFFECT_DONE, false, text, facts_end(&f, c->a));
}

static bool
page_is_over(struct page_call *p, const struct node *head, const struct err *e)
{
	struct err why;

	if (e == NULL && p->cancelled) {
		err_set(&why, ERR_CANCELLED, ERR_TO_MODEL, "%s was cancelled",
			p->c->tool->name);
		e = &why;
	}
	if (e == NULL && strcmp(node_z(head, "state", ""), "not_begun") == 0) {
		err_set(&why, ERR_NOT_FOUND, ERR_TO_MODEL, "no command has the id %s (exec gives it in its answer)",
			p->effect);
		e = &why;
	}
	if (e == NULL)
		return false;
	call_fail(p->c, EFFECT_NOT_DONE, e);
	return true;
}

static void
on_spooled(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct page_call *p = arg;

	if (!page_is_over(p, head, e))
		page_show(p, head, tail);
}

static int
page_send(struct page_call *p, struct err *e)
{
	int64_t from = MAX(p->offset - (int64_t)PAGE_LOOK_BACK, (int64_t)0);

	return sandbox_spool(p->c->env->sandbox, p->c->env->cell, p->effect, from,
		p->offset - from + p->c->tool->result_max, on_spooled, p, e);
}

static struct page_call *
page_new(struct tool_call *c, const char *key)
{
	struct page_call *p = arena_alloc(c->a, sizeof(*p));

	p->c = c;
	p->effect = node_z(c->args, key, "");
	p->offset = node_int(c->args, "offset", 0);
	c->state = p;
	return p;
}

static void
page_cancel(struct tool_call *c)
{
	struct page_call *p = c->state;

	if (p != NULL)
		p->cancelled = true;
}

static int
output_start(struct tool_call *c, struct err *e)
{
	return page_send(page_new(c, "handle"), e);
}

static void
job_line(const struct node *head, char *out, size_t n)
{
	struct exec_status st = { .state = EXEC_UNKNOWN };
	char line[STATUS_MAX], span[32];

	(void)!exec_status_read(head, &st);
	if (st.state == EXEC_DONE) {
		status_line(&st, line);
		snprintf(out, n, "job ended: %s", line);
	} else {
		snprintf(out, n, "job is %s, %s", node_z(head, "state", ""), span_text(st.duration_ms, span));
	}
}

static void
on_job(void *arg, const struct node *head, struct str tail, const struct err *e)
{
	struct page_call *p = arg;
	struct facts f;
	struct err why;

	if (page_is_over(p, head, e))
		return;
	facts_begin(&f);
	facts_add_head(&f, head);
	p->job_facts = facts_end(&f, p->c->a);
	job_line(head, p->line, sizeof(p->line));
	if (page_send(p, &why) != 0)
		call_fail(p->c, EFFECT_NOT_DONE, &why);
}

static int
job_start(struct tool_call *c, struct err *e)
{
	struct page_call *p = page_new(c, "id");

	if (strcmp(node_z(c->args, "action", "poll"), "kill") == 0)
		return sandbox_job_kill(c->env->sandbox, c->env->cell, p->effect, on_job, p, e);
	return sandbox_job(c->env->sandbox, c->env->cell, p->effect, on_job, p, e);
}

const struct tool exec_tools[] = {
	{ .name = "exec",
		.args = exec_args,
		.effects = TOOL_READS | TOOL_WRITES | TOOL_EXECS,
		.recovery = EFFECT_KEYED,
		.subject = SUBJECT_EXEC,
		.result_max = TOOL_RESULT_MAX,
		.start = exec_start,
		.recover = exec_recover,
		.cancel = exec_cancel,
		.target = exec_target,
		.text = "Run a shell command in the session's cell. Answers its output (both "
			"streams) and how it ended. Files that it leaves in the outbox are the user's when "
			"the turn ends. Without a session each command is a "
			"shell of its own, with no terminal and no standard input." },
	{ .name = "job",
		.args = job_args,
		.effects = TOOL_READS | TOOL_EXECS,
		.recovery = EFFECT_PURE,
		.subject = SUBJECT_READ,
		.result_max = TOOL_RESULT_MAX,
		.start = job_start,
		.cancel = page_cancel,
		.text = "Look at a background job of exec, or kill it." },
	{ .name = "output",
		.args = output_args,
		.effects = TOOL_READS,
		.recovery = EFFECT_PURE,
		.subject = SUBJECT_READ,
		.result_max = TOOL_RESULT_MAX,
		.start = output_start,
		.cancel = page_cancel,
		.text = "Read more of the output of a command whose result was cut." },
	{ .name = NULL },
};
