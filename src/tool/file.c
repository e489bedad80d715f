/* SPDX-License-Identifier: MIT
 * The file tools: each is one row of arguments, one operation in the cell, and one way to say its
 * answer to a model. They open nothing themselves. Calls with effects are prepared and recovered in
 * probe.c. */
#include <stdio.h>
#include <time.h>
#include "base/path.h"
#include "tool/internal.h"

/* ---- arguments ---- */

#define FILE_ROW                                                                                   \
	{                                                                                          \
		.name = "path", .type = FIELD_STR, .flags = FIELD_REQUIRED,                        \
		.max = FILE_PATH_MAX - 1,                                                          \
		.text = "Path of the file: absolute, or relative to the workspace /shared."        \
	}
#define DIR_ROW                                                                                    \
	{                                                                                          \
		.name = "path", .type = FIELD_STR, .dflt = ".", .max = FILE_PATH_MAX - 1,          \
		.text = "Directory to start at; default is the workspace /shared."                 \
	}
#define END_ROW                                                                                    \
	{                                                                                          \
		.type = FIELD_END                                                                  \
	}

static const struct field read_args[] = {
	FILE_ROW,
	{ .name = "line",
		.type = FIELD_INT,
		.min = 1,
		.max = INT64_MAX,
		.text = "First line to read, counted from 1." },
	{ .name = "lines",
		.type = FIELD_INT,
		.min = 1,
		.max = INT64_MAX,
		.text = "How many lines to read." },
	{ .name = "offset",
		.type = FIELD_INT,
		.min = 0,
		.max = INT64_MAX,
		.unit = "bytes",
		.text = "First byte to read, instead of line." },
	END_ROW,
};
static const struct field write_args[] = {
	FILE_ROW,
	{ .name = "content",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED | FIELD_NUL,
		.max = MODEL_ARGS_MAX,
		.text = "The whole new content of the file." },
	{ .name = "mkdirs",
		.type = FIELD_BOOL,
		.dflt = "true",
		.text = "Make missing directories." },
	END_ROW,
};
static const struct field edit_args[] = {
	FILE_ROW,
	{ .name = "old",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED | FIELD_NUL,
		.max = 64 * KIB,
		.text = "Text to replace, exactly as in the file. It must occur once unless all is "
			"set: add lines around it "
			"until it does." },
	{ .name = "new",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED | FIELD_NUL,
		.max = 64 * KIB,
		.text = "Text to put in its place." },
	{ .name = "all", .type = FIELD_BOOL, .dflt = "false", .text = "Replace every occurrence." },
	{ .name = "expect",
		.type = FIELD_STR,
		.max = 64,
		.text = "SHA-256 that the file must have; the edit is refused when it changed." },
	END_ROW,
};
static const struct field list_args[] = {
	DIR_ROW,
	{ .name = "depth",
		.type = FIELD_INT,
		.min = 1,
		.max = FILE_DEPTH_MAX,
		.dflt = "1",
		.text = "Levels to list." },
	{ .name = "max",
		.type = FIELD_INT,
		.min = 1,
		.max = 2000,
		.dflt = "500",
		.text = "Entries at most." },
	END_ROW,
};
static const struct field glob_args[] = {
	{ .name = "pattern",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = GLOB_PATTERN_MAX,
		.text = "Pattern for paths below the directory: * and ? within a name, ** for any "
			"directories, [a-z], "
			"{c,h}. For example **/*.{c,h}. The directory .git is left out unless it "
			"is named." },
	DIR_ROW,
	{ .name = "max",
		.type = FIELD_INT,
		.min = 1,
		.max = 2000,
		.dflt = "500",
		.text = "Paths at most." },
	END_ROW,
};
static const struct field grep_args[] = {
	{ .name = "pattern",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = GREP_PATTERN_MAX,
		.text = "POSIX extended regular expression, matched line by line; ( ) [ { * + ? . "
			"| ^ $ are operators, \\ "
			"quotes them. Bytes, not characters, are matched; no back references." },
	{ .name = "path",
		.type = FIELD_STR,
		.dflt = ".",
		.max = FILE_PATH_MAX - 1,
		.text = "File, or directory to search; default is the workspace /shared." },
	{ .name = "glob",
		.type = FIELD_STR,
		.max = GLOB_PATTERN_MAX,
		.text = "Search only files that match, for example *.c or src/**/*.h. .git is left "
			"out unless it is named." },
	{ .name = "ignore_case",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Case does not count." },
	{ .name = "context",
		.type = FIELD_INT,
		.min = 0,
		.max = 20,
		.dflt = "0",
		.text = "Lines to show around a match." },
	{ .name = "per_file",
		.type = FIELD_INT,
		.min = 1,
		.max = 1000,
		.dflt = "50",
		.text = "Matches per file at most." },
	{ .name = "max",
		.type = FIELD_INT,
		.min = 1,
		.max = 1000,
		.dflt = "200",
		.text = "Matches at most." },
	END_ROW,
};
static const struct field move_args[] = {
	{ .name = "path",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = FILE_PATH_MAX - 1,
		.text = "File or directory to move." },
	{ .name = "to",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = FILE_PATH_MAX - 1,
		.text = "Its whole new path, with the new name at the end." },
	{ .name = "replace",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Overwrite a file that is there." },
	{ .name = "mkdirs",
		.type = FIELD_BOOL,
		.dflt = "true",
		.text = "Make missing directories." },
	END_ROW,
};
static const struct field delete_args[] = {
	{ .name = "path",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = FILE_PATH_MAX - 1,
		.text = "File or directory to delete." },
	{ .name = "recursive",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Delete a directory with all that is in it." },
	END_ROW,
};
static const struct field stat_args[] = {
	{ .name = "path",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.max = FILE_PATH_MAX - 1,
		.text = "File or directory; it need not exist." },
	{ .name = "hash",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Also the SHA-256 of a file." },
	END_ROW,
};

/* ---- answers ---- */

/* One answer on its way to the model. */
struct answer {
	struct tool_call *c;
	const struct node *head;
	struct str tail;
	struct buf b;    /* bytes for the model, cleaned and cut at the end */
	struct str text; /* set instead of b when it is clean already */
};

static const char *
arg(const struct answer *w, const char *name)
{
	return node_z(w->c->args, name, "");
}

static const char *
date_text(int64_t ms, char out[20])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, 20, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, 20, "?");
	return out;
}

static int64_t
lines_in(struct str s)
{
	int64_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\n';
	return n + (s.n > 0 && s.p[s.n - 1] != '\n');
}

/* The whole file is shown as it is. Of a part the model is told where it lies and how to go on. */
static void
show_read(struct answer *w)
{
	struct arena *a = w->c->a;
	int64_t size = node_int(w->head, "size", 0), offset = node_int(w->head, "offset", 0);
	int64_t line = node_int(w->head, "line", 0), total = node_int(w->head, "total_lines", -1);
	char where[160], next[64] = "";
	size_t used;

	if (node_bool(w->head, "binary", false)) {
		w->text = text_note(a, STR(""),
			"%s is binary, %lld bytes: not shown (use exec, for example file, xxd or "
			"strings)",
			arg(w, "path"), (long long)size);
		return;
	}
	struct str shown = text_page(a, w->tail, (size_t)w->c->tool->result_max - NOTE_MAX, &used);
	bool is_end = node_bool(w->head, "is_end", false) && used == w->tail.n;
	if (used == 0 && is_end) {
		w->text = offset == 0 ? text_note(a, STR(""), "the file is empty")
				      : text_note(a, STR(""),
						"nothing is there: the file has %lld bytes and "
						"%lld lines",
						(long long)size, (long long)total);
		return;
	}
	w->text = shown;
	if (offset == 0 && is_end)
		return;
	struct str raw = str_sub(w->tail, 0, used);
	int64_t last = line + lines_in(raw) - 1, end = offset + (int64_t)used;
	if (!is_end && line > 0 && raw.p[raw.n - 1] == '\n')
		snprintf(next, sizeof(next), "; read on with line %lld", (long long)last + 1);
	else if (!is_end)
		snprintf(next, sizeof(next), "; read on with offset %lld", (long long)end);
	if (line > 0 && total >= 0)
		snprintf(where, sizeof(where), "lines %lld-%lld of %lld, ", (long long)line,
			(long long)last, (long long)total);
	else if (line > 0)
		snprintf(where, sizeof(where), "lines %lld-%lld, ", (long long)line,
			(long long)last);
	else
		where[0] = 0;
	w->text = text_note(a, shown, "%sbytes %lld-%lld of %lld%s", where, (long long)offset,
		(long long)end, (long long)size, next);
}

static void
show_write(struct answer *w)
{
	buf_printf(&w->b, "%s %s (%lld bytes)",
		node_bool(w->head, "existed", false) ? "replaced" : "made", arg(w, "path"),
		(long long)node_int(w->head, "size", 0));
}

static void
show_edit(struct answer *w)
{
	int64_t n = node_int(w->head, "replacements", 0);

	buf_printf(&w->b, "replaced %lld place%s in %s, %s line %lld", (long long)n,
		n == 1 ? "" : "s", arg(w, "path"), n == 1 ? "at" : "the first at",
		(long long)node_int(w->head, "line", 0));
}

static void
show_list(struct answer *w)
{
	const struct node *list = node_get(w->head, "entries");
	char date[20];

	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *x = node_at(list, i);
		const char *type = node_z(x, "type", "");
		date_text(node_int(x, "mtime_ms", 0), date);
		if (strcmp(type, "dir") == 0)
			buf_printf(&w->b, "%s/\n", node_z(x, "name", ""));
		else if (strcmp(type, "file") == 0)
			buf_printf(&w->b, "%s  %lld bytes  %s\n", node_z(x, "name", ""),
				(long long)node_int(x, "size", 0), date);
		else
			buf_printf(&w->b, "%s  (%s)  %s\n", node_z(x, "name", ""), type, date);
	}
	if (node_len(list) == 0)
		buf_add_z(&w->b, "[the directory is empty]\n");
}

static void
show_glob(struct answer *w)
{
	const struct node *list = node_get(w->head, "paths");

	for (size_t i = 0; i < node_len(list); i++) {
		buf_add_str(&w->b, node_at(list, i)->s);
		buf_add_char(&w->b, '\n');
	}
	if (node_len(list) == 0)
		buf_add_z(&w->b, "[no path matches]\n");
}

/* As grep prints: path:line:text for a match, path-line-text around it, -- between groups. */
static void
show_grep(struct answer *w)
{
	const struct node *list = node_get(w->head, "matches");
	bool has_context = node_int(w->c->args, "context", 0) > 0;
	const char *last_path = "";
	int64_t last_line = 0, skipped = node_int(w->head, "skipped_large", 0);

	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *m = node_at(list, i);
		const char *path = node_z(m, "path", "");
		char sep = node_bool(m, "context", false) ? '-' : ':';
		int64_t line = node_int(m, "line", 0);
		if (has_context && i > 0 && (strcmp(path, last_path) != 0 || line != last_line + 1))
			buf_add_z(&w->b, "--\n");
		buf_printf(&w->b, "%s%c%lld%c", path, sep, (long long)line, sep);
		buf_add_str(&w->b, node_str(m, "text", STR("")));
		buf_add_z(&w->b, node_bool(m, "cut", false) ? " [line cut]\n" : "\n");
		last_path = path;
		last_line = line;
	}
	if (node_len(list) == 0)
		buf_printf(&w->b, "[no match in %lld files]\n",
			(long long)node_int(w->head, "searched", 0));
	if (skipped > 0)
		buf_printf(&w->b, "[%lld files larger than %u MiB were not searched]\n",
			(long long)skipped, GREP_FILE_MAX / MIB);
}

static void
show_move(struct answer *w)
{
	buf_printf(&w->b, "moved %s to %s", arg(w, "path"), arg(w, "to"));
}

static void
show_delete(struct answer *w)
{
	int64_t n = node_int(w->head, "removed", 0);

	buf_printf(&w->b, "deleted %s", arg(w, "path"));
	if (n > 1)
		buf_printf(&w->b, " (%lld entries)", (long long)n);
}

static void
show_stat(struct answer *w)
{
	char date[20];

	if (!node_bool(w->head, "exists", false)) {
		buf_printf(&w->b, "%s does not exist", arg(w, "path"));
		return;
	}
	buf_printf(&w->b, "%s: %s, %lld bytes, mode %s, changed %s UTC", arg(w, "path"),
		node_z(w->head, "type", ""), (long long)node_int(w->head, "size", 0),
		node_z(w->head, "mode", ""), date_text(node_int(w->head, "mtime_ms", 0), date));
	if (node_get(w->head, "target") != NULL)
		buf_printf(&w->b, ", leads to %s", node_z(w->head, "target", ""));
	if (node_get(w->head, "sha256") != NULL)
		buf_printf(&w->b, ", sha256 %s", node_z(w->head, "sha256", ""));
}

/* ---- running ---- */

static struct str
clean_path(const struct node *args, const char *name, const struct tool_env *env, struct arena *a)
{
	const char *path = node_z(args, name, NULL);

	return path == NULL
		       ? STR("")
		       : str_of(path_clean(a, path_join(a, env->cwd ? env->cwd : "/shared", path)));
}

struct str
file_error_text(struct tool_call *c, const struct err *e, const char **wall)
{
	static const char *const names[] = { "path", "to" };
	bool writes = (c->tool->effects & TOOL_WRITES) != 0;
	char text[SANDBOX_TEXT_MAX];
	struct str said = text_clean(c->a, str_of(e->msg));

	*wall = NULL;
	if (!call_is_in_cell(c) || (e->code != ERR_DENIED && e->code != ERR_READONLY && e->code != ERR_NOT_FOUND))
		return said;
	for (size_t i = 0; i < ARRAY_LEN(names) && *wall == NULL; i++) {
		struct str path = clean_path(c->args, names[i], c->env, c->a);

		if (path.n > 0)
			*wall = sandbox_wall(&c->env->plan, path.p, writes, text);
	}
	return *wall == NULL ? said : text_note(c->a, said, "wall of the cell: %s", text);
}

/* What is particular to one tool; the operation has the tool's name. */
static const struct file_row {
	const char *name;
	void (*show)(struct answer *w);
	const char *narrow; /* how to get a smaller answer */
} rows[] = {
	{ "read", show_read, "read a part" },
	{ "write", show_write, "" },
	{ "edit", show_edit, "" },
	{ "list", show_list, "list a directory below, or raise max" },
	{ "glob", show_glob, "narrow pattern or path, or raise max" },
	{ "grep", show_grep, "narrow pattern, path or glob, or raise max or per_file" },
	{ "move", show_move, "" },
	{ "delete", show_delete, "" },
	{ "stat", show_stat, "" },
};

static const struct file_row *
row_of(const struct tool *t)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strcmp(rows[i].name, t->name) == 0)
			return &rows[i];
	fatal("no file tool %s", t->name);
}

static struct str
facts_of(const struct answer *w)
{
	struct facts f;

	facts_begin(&f);
	json_kv_z(&f.j, "path", arg(w, "path"));
	if (node_get(w->c->args, "to") != NULL)
		json_kv_z(&f.j, "to", arg(w, "to"));
	facts_add_head(&f, w->head);
	return facts_end(&f, w->c->a);
}

/* Cuts an answer of many lines and says why it is not whole. */
static void
finish_text(struct answer *w, const struct file_row *row)
{
	size_t max = (size_t)w->c->tool->result_max - NOTE_MAX;
	struct str all = text_clean(w->c->a, buf_str(&w->b));
	size_t n = text_cut(all, max);

	w->text = str_sub(all, 0, n);
	if (n < all.n)
		w->text = text_note(w->c->a, w->text, "%zu more bytes are not shown: %s", all.n - n,
			row->narrow);
	else if (node_bool(w->head, "truncated", false))
		w->text = text_note(w->c->a, w->text, "not all is shown: %s (%s)",
			node_z(w->head, "why", "too much"), row->narrow);
}

static void
file_fail(struct tool_call *c, const struct err *e)
{
	const char *wall;
	struct facts f;
	struct str text = file_error_text(c, e, &wall);

	if (wall == NULL) {
		call_fail(c, EFFECT_NOT_DONE, e);
		return;
	}
	facts_begin(&f);
	json_kv_z(&f.j, "error", err_name(e->code));
	json_kv_z(&f.j, "wall", wall);
	call_done(c, EFFECT_NOT_DONE, true, text, facts_end(&f, c->a));
}

static void
on_filed(void *arg_, const struct node *head, struct str tail, const struct err *e)
{
	struct tool_call *c = arg_;
	const struct file_call *f = c->state;
	struct answer w = { .c = c, .head = head, .tail = tail };
	bool is_pure = c->tool->recovery == EFFECT_PURE;
	struct err cancelled;

	if (f->cancelled && is_pure && (e == NULL || e->code != ERR_GONE)) {
		err_set(&cancelled, ERR_CANCELLED, ERR_TO_MODEL, "%s was cancelled", c->tool->name);
		e = &cancelled;
	}
	if (e != NULL && c->tool->recovery == EFFECT_PROBE && c->probe != NULL && e->code != ERR_GONE) {
		probe_failed(c, e);
		return;
	}
	if (e != NULL) {
		file_fail(c, e);
		return;
	}
	buf_init(&w.b, WIRE_HEAD_MAX + MIB);
	f->row->show(&w);
	if (w.text.n == 0)
		finish_text(&w, f->row);
	buf_fini(&w.b);
	call_done(c, EFFECT_DONE, false, w.text, facts_of(&w));
}

int
file_send(struct tool_call *c, const char *op, struct str params, struct str content,
	sandbox_reply_fn fn, struct err *e)
{
	struct file_request r = { .cell = c->env->cell,
		.plan = &c->env->plan,
		.run = c->env->run,
		.op = op,
		.params = params,
		.content = content };

	return sandbox_file(c->env->sandbox, &r, fn, c, e);
}

/* The arguments are the parameters, but for the content, which travels beside them. */
static int
file_start(struct tool_call *c, struct err *e)
{
	struct file_call *f = arena_alloc(c->a, sizeof(*f));
	struct str before = probe_before(c);
	struct buf b;
	struct json j;

	f->row = row_of(c->tool);
	c->state = f;
	buf_init(&b, FILE_PARAMS_MAX);
	json_init(&j, &b);
	json_obj(&j);
	for (size_t i = 0; i < c->args->map.n; i++) {
		const struct node_pair *p = &c->args->map.pairs[i];
		if (str_is(p->key, "content") || (str_is(p->key, "expect") && before.n > 0))
			continue;
		json_key_str(&j, p->key);
		json_node(&j, &p->value);
	}
	if (f->row->show == show_read)
		json_kv_int(&j, "n", c->tool->result_max - NOTE_MAX);
	/* The file must still be the one that the probe was made for, or the probe would mislead
	 * after a crash. */
	if (f->row->show == show_edit && before.n > 0)
		json_kv_str(&j, "expect", before);
	json_obj_end(&j);
	int rc = b.overflow ? err_set(e, ERR_LIMIT, ERR_TO_MODEL,
				      "%s: the arguments are too large (make several smaller "
				      "edits, or use write)",
				      c->tool->name)
			    : file_send(c, f->row->name, buf_str(&b),
				      node_str(c->args, "content", STR("")), on_filed, e);
	buf_fini(&b);
	return rc;
}

/* A file operation is short and bounded: its answer is awaited. That of a read is dropped; what a
 * write did is told. */
static void
file_cancel(struct tool_call *c)
{
	struct file_call *f = c->state;

	if (f != NULL)
		f->cancelled = true;
}

static void
file_target(const struct node *args, const struct tool_env *env, struct arena *a,
	struct policy_request *r)
{
	r->target = clean_path(args, "path", env, a);
	r->target2 = clean_path(args, "to", env, a);
}

#define READ_TOOL                                                                                  \
	.effects = TOOL_READS, .recovery = EFFECT_PURE, .subject = SUBJECT_READ,                   \
	.result_max = TOOL_RESULT_MAX, .start = file_start, .cancel = file_cancel,                 \
	.target = file_target
#define WRITE_TOOL                                                                                 \
	.effects = TOOL_READS | TOOL_WRITES, .recovery = EFFECT_PROBE, .subject = SUBJECT_WRITE,   \
	.result_max = 4096, .prepare = probe_prepare, .start = file_start,                         \
	.recover = probe_recover, .cancel = file_cancel, .target = file_target

const struct tool file_tools[] = {
	{ .name = "read",
		.args = read_args,
		READ_TOOL,
		.text = "Read a text file, whole or from a line on. A long file is cut, with a "
			"note how to read on." },
	{ .name = "write",
		.args = write_args,
		WRITE_TOOL,
		.text = "Make a file, or replace its whole content. To change a part of a file, "
			"use edit." },
	{ .name = "edit",
		.args = edit_args,
		WRITE_TOOL,
		.text = "Replace a piece of text in a file by another. Read the file first." },
	{ .name = "list",
		.args = list_args,
		READ_TOOL,
		.text = "List a directory in the order of names: directories end in /, files have "
			"size and date (UTC)." },
	{ .name = "glob",
		.args = glob_args,
		READ_TOOL,
		.text = "Find files and directories by a pattern of their paths." },
	{ .name = "grep",
		.args = grep_args,
		READ_TOOL,
		.text = "Search the lines of text files by a regular expression. Answers "
			"path:line:text; binary files are left out." },
	{ .name = "move",
		.args = move_args,
		WRITE_TOOL,
		.text = "Move or rename a file or a directory." },
	{ .name = "delete",
		.args = delete_args,
		WRITE_TOOL,
		.text = "Delete a file, an empty directory, or with recursive a directory and all "
			"that is in it." },
	{ .name = "stat",
		.args = stat_args,
		READ_TOOL,
		.text = "Say whether a path exists, and its type, size, mode and date." },
	{ .name = NULL },
};
