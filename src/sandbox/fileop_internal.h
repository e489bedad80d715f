/* SPDX-License-Identifier: MIT
 * Shared by the fileop_*.c files: the call, paths, the atomic replacement, glob patterns and the
 * tree walk. */
#ifndef SANDBOX_FILEOP_INTERNAL_H
#define SANDBOX_FILEOP_INTERNAL_H

#include <sys/stat.h>
#include "base/field.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

/* One operation under way. The head object is open in j: an operation adds its keys. */
struct fileop {
	const struct node *params; /* checked, defaults filled in */
	struct str content;
	struct json *j;
	struct buf *tail;
	struct arena *a;
};

int op_read(struct fileop *c, struct err *e);
int op_write(struct fileop *c, struct err *e);
int op_edit(struct fileop *c, struct err *e);
int op_list(struct fileop *c, struct err *e);
int op_glob(struct fileop *c, struct err *e);
int op_grep(struct fileop *c, struct err *e);
int op_move(struct fileop *c, struct err *e);
int op_delete(struct fileop *c, struct err *e);
int op_stat(struct fileop *c, struct err *e);
int op_get(struct fileop *c, struct err *e);
int op_put(struct fileop *c, struct err *e);

/* Whether an entry with n bytes of text still fits the answer. */
bool head_has_room(const struct fileop *c, size_t n);
/* The keys truncated and, when not NULL, why. */
void json_truncated(struct json *j, const char *why);

/* ---- paths (fileop_path.c) ---- */

#define SHOWN_MAX 100
/* A path as messages show it: its end when it is long. Returns out. */
const char *path_shown(const char *path, char out[SHOWN_MAX]);
/* A path parameter: refuses an empty one (unless it has a default), NUL bytes and more than
 * FILE_PATH_MAX bytes. */
int param_path(const struct fileop *c, const char *key, const char **out, struct err *e) MUST_USE;
/* ERR_TO_MODEL for errnum of an operation on path: what, why, and what to do instead; for ENOENT
 * the component that is missing and the nearest name beside it. */
int path_error(struct err *e, int errnum, const char *path);
/* "a file", "a directory", "a symbolic link", "a FIFO", ... */
const char *kind_text(mode_t mode);
/* "file", "dir", "link", "fifo", "socket", "device": as answers name it. */
const char *kind_name(mode_t mode);

/* openat2 without magic links, close-on-exec, never blocking. fd or -1 with errno. */
int path_openat(int dir, const char *path, int flags);
/* The same below a directory, following no link and never leading out of it; below NULL: as path_openat. */
int path_open_below(const char *below, const char *path, int flags);
/* Opens a regular file for reading; anything else is refused. fd or an error code. below: as above. */
int path_open_file(const char *below, const char *path, struct stat *st, struct err *e) MUST_USE;
int path_open_dir(const char *below, const char *path, struct err *e) MUST_USE;

/* The directory that holds the last component of a path, and that component. */
struct parent {
	int fd;
	char name[256];
};
int parent_open(const char *path, bool mkdirs, struct parent *out, struct err *e) MUST_USE;
void parent_close(struct parent *p);

/* The name under which a file is written until it is whole: made from its own, so that what a killed writer left behind is
 * taken over by the next one. */
#define TMP_NAME_SIZE 32
void tmp_name(const char *name, char out[TMP_NAME_SIZE]);

void dir_sync(int dir); /* makes names in it durable where that can be had */

/* Replaces one file atomically: begin, write to r->fd, then commit or abort. The name of the
 * temporary file is made from the target's name, so that what a killed writer left behind is taken
 * over by the next write of that file. */
struct replace {
	struct parent dir;
	int fd;
	char tmp[TMP_NAME_SIZE];
	bool existed;
	struct stat old; /* when existed */
};
int replace_begin(struct replace *r, const char *path, bool mkdirs, struct err *e) MUST_USE;
/* keep: mode and owner to give (NULL: those of the file that is replaced). no_clobber: ERR_EXISTS
 * where a file is. */
int replace_commit(struct replace *r, const char *path, const struct stat *keep, bool no_clobber,
	struct err *e) MUST_USE;
void replace_abort(struct replace *r);

/* Reads from offset until max bytes or the end of the file; appends to out. */
int fd_load(int fd, int64_t offset, size_t max, struct buf *out, const char *path,
	struct err *e) MUST_USE;
bool is_binary(struct str s); /* a NUL among the first 8 KiB */
/* SHA-256 of a whole file of at most FILE_HASH_MAX bytes. 0, ERR_LIMIT for a larger one, or another
 * error. */
int fd_sha256(int fd, char out[SHA256_HEX]);

/* ---- glob patterns (fileop_glob.c) ---- */

/* Patterns with * ? [a-z] [!x] {a,b} and ** for any number of directories; \ quotes. Braces are
 * expanded first. A pattern is matched directory by directory as a set of positions, so it costs
 * the same whatever it holds. */
struct glob;
struct glob_pos {
	uint64_t at[GLOB_BRACES_MAX]; /* per expansion: bit i: parts before i have matched */
};
/* any_depth: a pattern without '/' matches a name at every depth. */
int glob_new(struct arena *a, struct str pattern, bool any_depth, struct glob **out,
	struct err *e) MUST_USE;
void glob_start(const struct glob *g, struct glob_pos *p);
/* Steps over one name; false when nothing below it can match and it does not match itself. */
bool glob_step(
	const struct glob *g, const struct glob_pos *from, struct str name, struct glob_pos *to);
bool glob_done(const struct glob *g, const struct glob_pos *p); /* the path so far matches */
bool glob_names_git(const struct glob *g);                      /* some part is written ".git" */

/* ---- walking a tree (fileop_tree.c) ---- */

struct walk_entry {
	int dir;          /* of the entry */
	const char *name; /* in dir */
	struct str path;  /* from the start of the walk, names joined by '/' */
	int depth;        /* 1: directly below the start */
	struct stat st;   /* of the entry itself: links are not followed */
};
enum walk_next { WALK_ON, WALK_SKIP /* do not enter this directory */, WALK_STOP };
/* Visits a tree in the order of names, parents first, links not followed. It stops by itself at
 * FILE_WALK_MAX entries, FILE_DEPTH_MAX levels, FILE_DIR_MAX names of one directory or
 * FILE_WALK_MS, and says so in *why (static text). */
typedef enum walk_next (*walk_fn)(void *arg, const struct walk_entry *w);
int walk_tree(
	int dir, struct arena *a, walk_fn fn, void *arg, const char **why, struct err *e) MUST_USE;
/* The answer of an operation: what fn writes of a tree as a list, and whether it is cut. dir is closed; where it could not be
 * opened it is the error. */
int list_tree(struct fileop *c, int dir, const char *key, walk_fn fn, void *arg, const char **why,
	struct err *e) MUST_USE;

#endif
