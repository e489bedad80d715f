/* SPDX-License-Identifier: MIT
 * What shelld keeps of commands, by effect id, so that the same id never runs twice. */
#ifndef SANDBOX_SPOOL_H
#define SANDBOX_SPOOL_H

#include "sandbox/internal.h"

#define SPOOL_BLANKS 2u /* what the next command needs: a note and its output */

struct spool {
	int dir;
	int blanks[SPOOL_BLANKS]; /* files without a name; -1: none */
	char boot[40];
	int64_t boot_at_ms; /* wall time of this boot */
};

int spool_open(struct spool *s, const char *dir, struct err *e) MUST_USE;
void spool_close(struct spool *s);
void spool_prepare(struct spool *s); /* makes blanks, while nobody waits */
/* ERR_EXISTS: it began before. */
int spool_begin(struct spool *s, const char *effect, const char *cell, struct err *e) MUST_USE;
int spool_out(struct spool *s, const char *effect, bool is_new); /* fd or -1 with errno */
int spool_end(const struct spool *s, const char *effect, const struct exec_status *st); /* the last word; 0 or -1 */
/* What is known of an effect that does not run: EXEC_DONE, EXEC_NOT_BEGUN or EXEC_UNKNOWN. */
void spool_find(const struct spool *s, const char *effect, struct exec_status *st);
bool spool_has_begun(const struct spool *s, const char *effect);
/* False when it began in another cell, or nobody can say in which. True for what never began. */
bool spool_is_of(const struct spool *s, const char *effect, struct str cell);
void spool_forget(const struct spool *s, const char *effect);
/* Notes the state directory of a cell. */
void spool_cell(const struct spool *s, const char *cell, const char *state);
/* Each noted state directory (is_state) and effect of a cell. */
typedef void (*spool_line_fn)(void *arg, const char *line, bool is_state);
int spool_cell_read(const struct spool *s, const char *cell, spool_line_fn fn, void *arg);
void spool_cell_forget(const struct spool *s, const char *cell);

#endif
