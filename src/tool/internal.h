/* SPDX-License-Identifier: MIT
 * Shared by the files of this room: ending a call, and text for a model (decoded lossily once,
 * scrubbed, cut). */
#ifndef TOOL_INTERNAL_H
#define TOOL_INTERNAL_H

#include "base/limits.h"
#include "tool/tool.h"

/* Room that a result keeps free for its notes and facts line. */
#define NOTE_MAX 512u

/* ---- text.c ---- */

/* bytes as a model may see them: UTF-8 with U+FFFD for what is none, secrets replaced. In a. */
struct str text_clean(struct arena *a, struct str bytes);
/* As a terminal would have left it: without control sequences, a line as it was last written. Takes and gives clean text. */
struct str text_terminal(struct arena *a, struct str text);
/* Length of the longest prefix of at most max bytes that ends after a line, or on a character where
 * the line would cost more than half of it. */
size_t text_cut(struct str s, size_t max);
/* The same from the other end: the offset where a suffix of at most max bytes starts. */
size_t text_cut_front(struct str s, size_t max);
/* The longest start of bytes whose clean text has at most max bytes; *used: how many bytes that
 * were. */
struct str text_page(struct arena *a, struct str bytes, size_t max, size_t *used);
/* text with a note in brackets on a line of its own after it. In a. */
struct str text_note(struct arena *a, struct str text, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ---- call.c ---- */

/* In a cell with a tree of its own, whose walls sandbox_wall knows: elsewhere the paths are those of the host. */
bool call_is_in_cell(const struct tool_call *c);
/* Ends the call. text and facts live in c->a; text is cut to the tool's result_max as a last
 * resort. */
void call_done(struct tool_call *c, enum effect_state state, bool is_error, struct str text,
	struct str facts);
/* Ends the call with an error for the model, or as gone when the link broke. */
void call_fail(struct tool_call *c, enum effect_state state, const struct err *e);
/* An object of one or more scalar facts under way. */
struct facts {
	struct json j;
	struct buf b;
};
void facts_begin(struct facts *f);
struct str facts_end(struct facts *f, struct arena *a);
/* Adds the scalars of a head, and the lengths of its lists. */
void facts_add_head(struct facts *f, const struct node *head);
/* "3.2 s", "12 ms" */
const char *span_text(int64_t ms, char out[32]);

/* ---- probe.c: what a crash must not make us guess about a file ---- */

enum { PROBE_STATE_MAX = 96 };
struct probe {
	char path[PROBE_STATE_MAX],
		to[PROBE_STATE_MAX]; /* states of the call's paths, as the answers come in */
};
/* The state of a call of this room's file tools, whatever phase it is in: cancel may come in each.
 */
struct file_row;
struct file_call {
	const struct file_row *row;
	bool cancelled;
	struct probe probe;
	struct err
		why; /* of a change that ended in an error: what is there now decides its state */
};
int probe_prepare(struct tool_call *c, struct err *e);
int probe_recover(struct tool_call *c, struct err *e);
/* Ends a prepared call that failed: looks whether it happened all the same (its process may have
 * been killed after the change, or half-way through a tree) and tells that with the error. */
void probe_failed(struct tool_call *c, const struct err *e);
/* The SHA-256 that the file had when the call was prepared, or empty. */
struct str probe_before(const struct tool_call *c);

/* ---- file.c ---- */

/* The words of an error of a file tool, with the wall of the cell that its paths met, if they did: then *wall is its name,
 * otherwise NULL. */
struct str file_error_text(struct tool_call *c, const struct err *e, const char **wall);

/* Sends one operation into the call's cell. */
int file_send(struct tool_call *c, const char *op, struct str params, struct str content,
	sandbox_reply_fn fn, struct err *e) MUST_USE;

#endif
