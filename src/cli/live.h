/* SPDX-License-Identifier: MIT
 * What a person sees of a turn: streamed text, a line per tool call, a spinner, a last line with cost. Renders into a
 * buffer that the caller writes out; no I/O, no clock. Everything that a model or tool wrote goes through term_clean. */
#ifndef CLI_LIVE_H
#define CLI_LIVE_H

#include "cli/fold.h"

struct live_style {
	bool text; /* stream the answer as it comes; otherwise the caller prints it at the end */
	bool spinner; /* a line that is drawn over: needs a terminal */
	bool color;
	bool utf8;
	bool verbose; /* more of each result */
	size_t columns, rows;
};

struct live {
	struct live_style style;
	struct buf *out; /* borrowed */
	int64_t step;
	size_t shown; /* bytes of the step's text that are on the screen */
	struct buf printed; /* the same as it was printed: cleaned, to know how many rows it takes */
	bool has_break; /* the last byte of printed is a line end that the text does not have */
	bool is_fixed; /* other lines follow the text: it can no longer be taken back */
	bool is_mid_line;
	bool has_spinner; /* a spinner line is on the screen */
	struct buf label; /* cleaned; empty: nothing to wait for */
	struct buf tail; /* last line of a running tool's output, cleaned */
	int64_t label_since_ms;
	unsigned frame;
};

void live_init(struct live *v, struct live_style style, struct buf *out);
void live_fini(struct live *v);
/* After fold_event gave `news` for this envelope. now_ms is monotonic. */
void live_event(struct live *v, struct fold *f, const struct node *envelope, enum fold_news news,
	size_t kept, int64_t now_ms);
/* Draws the next frame of the spinner. */
void live_tick(struct live *v, int64_t now_ms);
/* Takes the spinner away and goes to a new line: before anything else is written, and at the end. */
void live_pause(struct live *v);
/* A line of the program itself (text is cleaned here too). */
void live_note(struct live *v, struct str text);
/* The last line: status, steps, tokens, cost, time, session. */
void live_summary(struct live *v, const struct fold *f);

/* "photo.png image/png 12 KB" of an attachment, cleaned. */
void add_attachment(struct buf *b, const struct node *file);
/* "0.4 s", "12 s", "2 min 05 s". */
void add_duration(struct buf *b, int64_t ms);
/* "$0.0123". */
void add_money(struct buf *b, int64_t microusd);
/* Appends cleaned one-line text cut to so many columns, with an ellipsis when something was left out. */
void add_cut(struct buf *b, struct str text, size_t columns, bool utf8);

#endif
