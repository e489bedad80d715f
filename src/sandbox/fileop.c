/* SPDX-License-Identifier: MIT
 * The table of file operations: their parameters, whether they change anything, and what runs them.
 * This file checks and dispatches; paths, text, trees and searches are in fileop_*.c. An operation
 * that fails leaves the answer empty. */
#include <signal.h>
#include "sandbox/fileop.h"
#include "sandbox/fileop_internal.h"
#include "sandbox/sandbox.h"

#define PATH_ROW                                                                                   \
	{                                                                                          \
		.name = "path", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "The file."    \
	}
#define BELOW_ROW                                                                                  \
	{                                                                                          \
		.name = "below", .type = FIELD_STR,                                                \
		.text = "A directory: path is below it, and no link in path is followed."          \
	}
#define DIR_ROW                                                                                    \
	{                                                                                          \
		.name = "path", .type = FIELD_STR, .dflt = ".",                                    \
		.text = "The directory to start at."                                               \
	}
#define MAX_ROW(d)                                                                                 \
	{                                                                                          \
		.name = "max", .type = FIELD_INT, .min = 1, .max = 10000, .dflt = d,               \
		.text = "Entries in the answer."                                                   \
	}
#define END_ROW                                                                                    \
	{                                                                                          \
		.type = FIELD_END                                                                  \
	}

static const struct field read_params[] = {
	PATH_ROW,
	{ .name = "offset", .type = FIELD_INT, .min = 0, .max = INT64_MAX, .text = "First byte." },
	{ .name = "n",
		.type = FIELD_INT,
		.min = 1,
		.max = WIRE_TAIL_MAX,
		.unit = "bytes",
		.text = "Bytes at most." },
	{ .name = "line",
		.type = FIELD_INT,
		.min = 1,
		.max = INT64_MAX,
		.text = "First line, from 1." },
	{ .name = "lines",
		.type = FIELD_INT,
		.min = 1,
		.max = INT64_MAX,
		.text = "Lines at most." },
	END_ROW,
};
static const struct field write_params[] = {
	PATH_ROW,
	{ .name = "mkdirs",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Make missing directories." },
	END_ROW,
};
static const struct field edit_params[] = {
	PATH_ROW,
	{ .name = "old", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "Text to replace." },
	{ .name = "new", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "Text to put there." },
	{ .name = "all", .type = FIELD_BOOL, .dflt = "false", .text = "Replace every match." },
	{ .name = "expect",
		.type = FIELD_STR,
		.dflt = "",
		.text = "SHA-256 that the file must have." },
	{ .name = "dry", .type = FIELD_BOOL, .dflt = "false", .text = "Only say what would be." },
	END_ROW,
};
static const struct field list_params[] = {
	DIR_ROW,
	{ .name = "depth",
		.type = FIELD_INT,
		.min = 1,
		.max = FILE_DEPTH_MAX,
		.dflt = "1",
		.text = "Levels." },
	{ .name = "media", .type = FIELD_BOOL, .dflt = "false", .text = "Also the type of each file, by its content." },
	BELOW_ROW,
	MAX_ROW("1000"),
	END_ROW,
};
static const struct field glob_params[] = {
	DIR_ROW,
	{ .name = "pattern", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "Glob pattern." },
	MAX_ROW("1000"),
	END_ROW,
};
static const struct field grep_params[] = {
	DIR_ROW,
	{ .name = "pattern",
		.type = FIELD_STR,
		.flags = FIELD_REQUIRED,
		.text = "POSIX extended regular expression." },
	{ .name = "glob", .type = FIELD_STR, .dflt = "", .text = "Only files that match this." },
	{ .name = "ignore_case",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Case does not count." },
	{ .name = "context",
		.type = FIELD_INT,
		.min = 0,
		.max = 20,
		.dflt = "0",
		.text = "Lines around a match." },
	{ .name = "per_file",
		.type = FIELD_INT,
		.min = 1,
		.max = 10000,
		.dflt = "100",
		.text = "Matches per file." },
	MAX_ROW("200"),
	END_ROW,
};
static const struct field move_params[] = {
	PATH_ROW,
	{ .name = "to", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "New path." },
	{ .name = "replace",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Replace what is there." },
	{ .name = "mkdirs",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Make missing directories." },
	END_ROW,
};
static const struct field delete_params[] = {
	PATH_ROW,
	{ .name = "recursive",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "A directory with all that is in it." },
	END_ROW,
};
static const struct field stat_params[] = {
	PATH_ROW,
	{ .name = "hash",
		.type = FIELD_BOOL,
		.dflt = "false",
		.text = "Also the SHA-256 of a file." },
	END_ROW,
};

static const struct field put_params[] = {
	PATH_ROW,
	{ .name = "below", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "A directory, as in list." },
	{ .name = "offset", .type = FIELD_INT, .min = 0, .max = INT64_MAX, .dflt = "0", .text = "Where this part begins: 0, or where the last one ended." },
	{ .name = "last", .type = FIELD_BOOL, .dflt = "false", .text = "The file is whole with it." },
	END_ROW,
};

static const struct field get_params[] = {
	PATH_ROW,
	{ .name = "below", .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = "A directory, as in list." },
	{ .name = "offset", .type = FIELD_INT, .min = 0, .max = INT64_MAX, .dflt = "0", .text = "First byte." },
	{ .name = "n", .type = FIELD_INT, .flags = FIELD_REQUIRED, .min = 1, .max = WIRE_TAIL_MAX, .unit = "bytes", .text = "Bytes at most." },
	END_ROW,
};

static const struct op {
	const char *name;
	bool changes;
	const struct field *params;
	int (*run)(struct fileop *c, struct err *e);
} ops[] = {
	{ "read", false, read_params, op_read },
	{ "write", true, write_params, op_write },
	{ "edit", true, edit_params, op_edit },
	{ "list", false, list_params, op_list },
	{ "glob", false, glob_params, op_glob },
	{ "grep", false, grep_params, op_grep },
	{ "move", true, move_params, op_move },
	{ "delete", true, delete_params, op_delete },
	{ "stat", false, stat_params, op_stat },
	{ "get", false, get_params, op_get },
	{ "put", false, put_params, op_put }, /* for /run/work, also where the workspace is read-only */
};

bool
head_has_room(const struct fileop *c, size_t n)
{
	/* Six bytes for the worst character (\u0001), and the keys around it. */
	return c->j->b->n + 6 * n + 256 < MIN((size_t)FILE_HEAD_MAX, c->j->b->max);
}

static int
run_checked(const struct op *o, struct fileop *c, struct str params, int access, struct err *e)
{
	const struct node *map;

	if (params.n > FILE_PARAMS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%s: %zu bytes of parameters, at most %u are possible", o->name, params.n,
			FILE_PARAMS_MAX);
	int rc = json_parse(c->a, params, &map, e);
	if (rc != 0) {
		if (e != NULL)
			e->to = ERR_TO_MODEL;
		return err_wrap(e, "%s", o->name);
	}
	if ((rc = field_check(o->params, map, o->name, ERR_TO_MODEL, e)) != 0)
		return rc;
	c->params = field_defaults(o->params, map, c->a);
	if (o->changes && access == CELL_READ_ONLY && !node_bool(c->params, "dry", false))
		return err_set(e, ERR_READONLY, ERR_TO_MODEL,
			"%s is not possible: this session is read_only", o->name);
	json_obj(c->j);
	if ((rc = o->run(c, e)) != 0)
		return rc;
	json_obj_end(c->j);
	if (c->j->b->overflow || c->tail->overflow)
		return err_set(e, ERR_LIMIT, ERR_TO_MODEL,
			"%s: the answer is too large (ask for less)", o->name);
	return 0;
}

int
fileop_run(struct str op, struct str params_json, struct str content, int access,
	struct buf *head_json, struct buf *tail, struct err *e)
{
	const struct op *o = NULL;
	size_t head_n = head_json->n, tail_n = tail->n;
	struct sigaction ignore = { .sa_handler = SIG_IGN }, former;
	struct json j;

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		if (str_is(op, ops[i].name))
			o = &ops[i];
	if (o == NULL)
		return err_set(e, ERR_INVALID, ERR_TO_MODEL, "no file operation %.*s",
			STR_FMT(str_sub(op, 0, 40)));
	json_init(&j, head_json);
	struct fileop c = {
		.content = content, .j = &j, .tail = tail, .a = arena_new(FILE_ARENA_MAX)
	};
	/* A write past RLIMIT_FSIZE shall be an error, not the end of this process. */
	sigaction(SIGXFSZ, &ignore, &former);
	int rc = run_checked(o, &c, params_json, access, e);
	sigaction(SIGXFSZ, &former, NULL);
	arena_free(c.a);
	if (rc != 0) {
		buf_truncate(head_json, head_n);
		buf_truncate(tail, tail_n);
	}
	return rc;
}
