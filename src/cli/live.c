/* SPDX-License-Identifier: MIT
 * The live view. Text that is on the screen is either extended or, while nothing else followed it and it still fits,
 * taken back and printed anew: so a retry or a broken link never shows the same words twice. */
#include <inttypes.h>
#include "base/media.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "cli/live.h"

#define PREVIEW_LINES   3
#define PREVIEW_VERBOSE 40
#define LABEL_MAX       1024

enum glyph { GLYPH_OK, GLYPH_BAD, GLYPH_UNKNOWN, GLYPH_NOTE, GLYPH_DOT, GLYPH_CUT };
static const char *const glyphs[2][6] = {
	{ "ok", "x", "?", "!", " - ", "..." },
	{ "✓", "✗", "?", "!", " · ", "…" },
};
static const char *const frames[2][10] = {
	{ "-", "\\", "|", "/", "-", "\\", "|", "/", "-", "\\" },
	{ "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" },
};

/* SGR parameters. */
#define DIM    "2"
#define BOLD   "1"
#define RED    "31"
#define GREEN  "32"
#define YELLOW "33"

void
live_init(struct live *v, struct live_style style, struct buf *out)
{
	*v = (struct live){ .style = style, .out = out, .step = -1 };
	if (v->style.columns < 20)
		v->style.columns = 80;
	if (v->style.rows < 4)
		v->style.rows = 24;
	buf_init(&v->printed, 8 * MODEL_TEXT_MAX); /* an escaped byte takes up to eight */
	buf_init(&v->label, LABEL_MAX);
	buf_init(&v->tail, LABEL_MAX);
}

void
live_fini(struct live *v)
{
	buf_fini(&v->printed);
	buf_fini(&v->label);
	buf_fini(&v->tail);
}

static const char *
glyph(const struct live *v, enum glyph g)
{
	return glyphs[v->style.utf8][g];
}

static void
color(struct live *v, const char *sgr)
{
	if (v->style.color)
		buf_printf(v->out, "\x1b[%sm", sgr);
}

/* ---- small formats ---- */

void
add_duration(struct buf *b, int64_t ms)
{
	if (ms < 1000)
		buf_printf(b, "%" PRId64 " ms", ms);
	else if (ms < 10000)
		buf_printf(b, "%" PRId64 ".%" PRId64 " s", ms / 1000, ms % 1000 / 100);
	else if (ms < 120000)
		buf_printf(b, "%" PRId64 " s", ms / 1000);
	else
		buf_printf(b, "%" PRId64 " min %02" PRId64 " s", ms / 60000, ms / 1000 % 60);
}

/* Rounded up, as the price of a call is: what was spent is never shown as nothing. */
void
add_money(struct buf *b, int64_t microusd)
{
	int64_t cents = (microusd + 9999) / 10000;

	if (microusd > 999900)
		buf_printf(b, "$%" PRId64 ".%02" PRId64, cents / 100, cents % 100);
	else
		buf_printf(b, "$0.%04" PRId64, (microusd + 99) / 100);
}

/* Bytes of cleaned text that fit into so many columns. */
static size_t
fit(struct str s, size_t columns)
{
	size_t at = 0, width = 0;

	while (at < s.n) {
		uint32_t cp;
		size_t n = MAX(utf8_decode(s.p + at, s.n - at, &cp), 1);
		size_t w = utf8_width(str_sub(s, at, n));

		if (width + w > columns)
			break;
		width += w;
		at += n;
	}
	return at;
}

void
add_cut(struct buf *b, struct str text, size_t columns, bool utf8)
{
	const char *more = glyphs[utf8][GLYPH_CUT];
	struct buf clean;
	size_t n;

	/* No more than this can be shown, so no more is cleaned. */
	buf_init(&clean, 16 * columns + 64);
	text = str_trim(str_sub(text, 0, utf8_cut(text, 4 * columns + 4)));
	term_clean(&clean, text, true);
	n = fit(buf_str(&clean), columns);
	if (n == clean.n) {
		buf_add_str(b, buf_str(&clean));
	} else {
		n = fit(buf_str(&clean), columns > 3 ? columns - (utf8 ? 1 : 3) : 1);
		buf_add(b, clean.p, n);
		buf_add_z(b, more);
	}
	buf_fini(&clean);
}

/* Rows below the first that text takes, when printed from column 0 on. */
static size_t
rows_below(const struct live *v, struct str s)
{
	size_t row = 0, column = 0;

	for (size_t at = 0; at < s.n;) {
		uint32_t cp = 0;
		size_t n = MAX(utf8_decode(s.p + at, s.n - at, &cp), 1);
		size_t w = cp == '\t' ? 8 - column % 8 : utf8_width(str_sub(s, at, n));

		at += n;
		if (cp == '\n') {
			row++;
			column = 0;
			continue;
		}
		if (cp == '\t') {
			column = MIN(column + w, v->style.columns - 1);
			continue;
		}
		if (column + w > v->style.columns) {
			row++;
			column = 0;
		}
		column += w;
	}
	return row;
}

/* ---- lines ---- */

static void
spinner_off(struct live *v)
{
	if (v->has_spinner)
		buf_add_z(v->out, "\r\x1b[K");
	v->has_spinner = false;
}

void
live_pause(struct live *v)
{
	spinner_off(v);
	if (v->is_mid_line)
		buf_add_char(v->out, '\n');
	v->is_mid_line = false;
	v->is_fixed = true;
}

static void
set_label(struct live *v, int64_t now_ms, const char *what, struct str detail)
{
	buf_reset(&v->label);
	buf_reset(&v->tail);
	buf_add_z(&v->label, what);
	if (detail.n > 0) {
		buf_add_char(&v->label, ' ');
		add_cut(&v->label, detail, v->style.columns / 2, v->style.utf8);
	}
	v->label_since_ms = now_ms;
}

void
live_tick(struct live *v, int64_t now_ms)
{
	struct buf line;
	int64_t ms = now_ms - v->label_since_ms;

	if (!v->style.spinner || v->label.n == 0 || v->is_mid_line)
		return;
	buf_init(&line, 4 * LABEL_MAX);
	buf_add_str(&line, buf_str(&v->label));
	if (ms >= 1000) {
		buf_add_z(&line, "  ");
		add_duration(&line, ms);
	}
	if (v->tail.n > 0) {
		buf_add_z(&line, "  ");
		buf_add_str(&line, buf_str(&v->tail));
	}
	buf_add_z(v->out, "\r\x1b[K");
	color(v, DIM);
	buf_printf(v->out, "%s ", frames[v->style.utf8][v->frame++ % ARRAY_LEN(frames[0])]);
	buf_add(v->out, line.p, fit(buf_str(&line), v->style.columns - 3));
	color(v, "0");
	v->has_spinner = true;
	buf_fini(&line);
}

static void
line_begin(struct live *v, enum glyph g, const char *sgr)
{
	live_pause(v);
	color(v, sgr);
	buf_add_z(v->out, glyph(v, g));
	color(v, "0");
	buf_add_char(v->out, ' ');
}

static void
dim(struct live *v, struct str text)
{
	color(v, DIM);
	buf_add_str(v->out, text);
	color(v, "0");
}

void
live_note(struct live *v, struct str text)
{
	line_begin(v, GLYPH_NOTE, YELLOW);
	term_clean(v->out, str_trim(text), false);
	buf_add_char(v->out, '\n');
}

/* ---- streamed text ---- */

static void
text_print(struct live *v, struct str text)
{
	size_t n = text.n - utf8_incomplete(text), from = v->printed.n;

	if (n == 0)
		return;
	spinner_off(v);
	term_clean(&v->printed, str_sub(text, 0, n), false);
	buf_add(v->out, v->printed.p + from, v->printed.n - from);
	v->shown += n;
	v->is_mid_line = v->printed.n > 0 && v->printed.p[v->printed.n - 1] != '\n';
	v->has_break = false;
}

/* Takes back what is on the screen of this step. False when it has scrolled away or other lines followed. */
static bool
text_erase(struct live *v)
{
	size_t rows = rows_below(v, buf_str(&v->printed));

	if (!v->style.spinner || v->is_fixed || rows + 1 >= v->style.rows)
		return false;
	spinner_off(v);
	buf_add_char(v->out, '\r');
	if (rows > 0)
		buf_printf(v->out, "\x1b[%zuA", rows);
	buf_add_z(v->out, "\x1b[J");
	return true;
}

static void
text_forget(struct live *v)
{
	buf_reset(&v->printed);
	v->shown = 0;
	v->has_break = false;
}

static void
text_show(struct live *v, struct str text, size_t kept)
{
	if (v->shown == 0) {
		buf_reset(&v->printed);
		v->is_fixed = false;
	} else if (kept < v->shown) {
		if (v->printed.n > 0 && !text_erase(v)) {
			live_pause(v);
			dim(v, STR("(the answer was cut off; from the start:)"));
			buf_add_char(v->out, '\n');
		}
		text_forget(v);
		v->is_mid_line = false;
		v->is_fixed = false;
	} else if (v->has_break && text_erase(v)) {
		text_forget(v);
		v->is_mid_line = false;
	} else if (v->is_fixed) {
		/* The rest comes under other lines; what is above can no longer be taken back. */
		buf_reset(&v->printed);
	}
	text_print(v, str_sub(text, v->shown, text.n));
}

static void
text_step(struct live *v, const struct fold *f)
{
	if (f->step == v->step)
		return;
	spinner_off(v);
	if (v->is_mid_line)
		buf_add_char(v->out, '\n');
	v->is_mid_line = false;
	v->is_fixed = false;
	v->step = f->step;
	text_forget(v);
}

/* ---- events ---- */

struct live_input {
	struct fold *f;
	const struct node *body;
	int64_t now_ms;
};

static void
on_turn_started(struct live *v, const struct live_input *in)
{
	static const char *const keys[] = { "model", "mode", "cell" };
	struct buf b;

	buf_init(&b, LABEL_MAX);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct str s = node_str(in->body, keys[i], STR(""));

		if (s.n == 0)
			continue;
		if (b.n > 0)
			buf_add_z(&b, glyph(v, GLYPH_DOT));
		add_cut(&b, s, 60, v->style.utf8);
	}
	if (b.n > 0) {
		live_pause(v);
		dim(v, buf_str(&b));
		buf_add_char(v->out, '\n');
	}
	buf_fini(&b);
}

static void
on_model_started(struct live *v, const struct live_input *in)
{
	set_label(v, in->now_ms, "thinking", STR(""));
}

static void
on_model_retry(struct live *v, const struct live_input *in)
{
	struct str why = node_str(node_get(in->body, "error"), "message", STR("the model's server failed"));
	struct buf b;

	struct str next = node_str(in->body, "next", STR(""));

	buf_init(&b, LABEL_MAX);
	if (next.n > 0) {
		term_clean(&b, next, true);
		buf_add_z(&b, " goes on:");
	} else {
		buf_add_z(&b, "trying again in ");
		add_duration(&b, node_int(in->body, "after_ms", 0));
		buf_add_z(&b, ":");
	}
	if (!v->style.spinner) {
		line_begin(v, GLYPH_NOTE, YELLOW);
		buf_printf(v->out, "%s ", buf_z(&b));
		add_cut(v->out, why, 160, v->style.utf8);
		buf_add_char(v->out, '\n');
	} else if (v->is_mid_line) {
		/* Below the text, in a way that a reset or more text can take back. */
		buf_add_char(v->out, '\n');
		buf_add_char(&v->printed, '\n');
		v->is_mid_line = false;
		v->has_break = true;
	}
	set_label(v, in->now_ms, buf_z(&b), why);
	buf_fini(&b);
}

static void
on_tool_requested(struct live *v, const struct live_input *in)
{
	struct str decision = node_str(in->body, "decision", STR(""));
	bool is_denied = str_is(decision, "deny");
	struct buf b;
	struct str why;

	if (!is_denied && !str_is(decision, "invalid"))
		return;
	why = node_str(in->body, is_denied ? "reason" : "error", node_str(in->body, "reason", STR("")));
	if (why.n == 0)
		why = node_str(node_get(in->body, "error"), "message", STR(""));
	buf_init(&b, MODEL_ARGS_MAX);
	call_summary(&b, node_get(in->body, "args"));
	line_begin(v, GLYPH_BAD, RED);
	color(v, BOLD);
	add_cut(v->out, node_str(in->body, "tool", STR("?")), 40, v->style.utf8);
	color(v, "0");
	buf_add_z(v->out, " ");
	add_cut(v->out, buf_str(&b), v->style.columns / 2, v->style.utf8);
	buf_add_z(v->out, is_denied ? "  denied: " : "  refused: ");
	add_cut(v->out, why, 200, v->style.utf8);
	buf_add_char(v->out, '\n');
	buf_fini(&b);
}

static void
on_effect_intent(struct live *v, const struct live_input *in)
{
	struct fold_effect *x = fold_effect(in->f, node_str(in->body, "effect", STR("")));

	if (x)
		set_label(v, in->now_ms, x->tool, str_of(x->summary));
}

static void
on_tool_progress(struct live *v, const struct live_input *in)
{
	struct str text = str_trim(node_str(in->body, "text", STR("")));

	for (size_t i = text.n; i-- > 0;) {
		if (text.p[i] != '\n')
			continue;
		text = str_sub(text, i + 1, text.n);
		break;
	}
	if (text.n == 0)
		return;
	buf_reset(&v->tail);
	add_cut(&v->tail, text, v->style.columns / 2, v->style.utf8);
}

static void
preview(struct live *v, struct str text)
{
	size_t max = v->style.verbose ? PREVIEW_VERBOSE : PREVIEW_LINES, n = 0, more = 0;
	struct str line;

	text = str_trim(text);
	if (!v->style.spinner && !v->style.verbose)
		return;
	while (text.n > 0 && str_next(&text, '\n', &line)) {
		if (n++ >= max) {
			more++;
			continue;
		}
		buf_add_z(v->out, "    ");
		color(v, DIM);
		add_cut(v->out, line, v->style.columns - 6, v->style.utf8);
		color(v, "0");
		buf_add_char(v->out, '\n');
	}
	if (more > 0) {
		buf_add_z(v->out, "    ");
		color(v, DIM);
		buf_printf(v->out, "(%zu more line%s)", more, more == 1 ? "" : "s");
		color(v, "0");
		buf_add_char(v->out, '\n');
	}
}

static void
outcome_facts(struct live *v, const struct fold_effect *x, const struct node *facts)
{
	int64_t exit = node_int(facts, "exit", 0), signal = node_int(facts, "signal", 0);

	if (str_is(str_of(x->status), "unknown"))
		buf_add_z(v->out, "  unknown: nobody can tell whether it happened");
	else if (str_is(str_of(x->status), "not_done"))
		buf_add_z(v->out, "  not done");
	else if (signal != 0)
		buf_printf(v->out, "  signal %" PRId64, signal);
	else if (exit != 0)
		buf_printf(v->out, "  exit %" PRId64, exit);
}

static void
on_effect_outcome(struct live *v, const struct live_input *in)
{
	struct fold_effect *x = fold_effect(in->f, node_str(in->body, "effect", STR("")));
	bool is_done, is_unknown;
	struct buf b;

	if (!x)
		return;
	is_done = str_is(str_of(x->status), "done") && !x->is_error;
	is_unknown = str_is(str_of(x->status), "unknown");
	line_begin(v, is_done ? GLYPH_OK : is_unknown ? GLYPH_UNKNOWN : GLYPH_BAD,
		is_done ? GREEN : is_unknown ? YELLOW : RED);
	color(v, BOLD);
	add_cut(v->out, str_of(x->tool), 40, v->style.utf8);
	color(v, "0");
	buf_add_char(v->out, ' ');
	add_cut(v->out, str_of(x->summary), MAX(v->style.columns, 60) - 40, v->style.utf8);
	outcome_facts(v, x, node_get(in->body, "facts"));
	buf_init(&b, 64);
	buf_add_z(&b, "  ");
	add_duration(&b, x->ms);
	dim(v, buf_str(&b));
	buf_fini(&b);
	buf_add_char(v->out, '\n');
	preview(v, node_str(in->body, "text", STR("")));
	set_label(v, in->now_ms, "working", STR(""));
}

static void
on_approval_resolved(struct live *v, const struct live_input *in)
{
	struct str by = node_str(in->body, "by", STR(""));

	live_pause(v);
	color(v, DIM);
	buf_add_z(v->out, "approval: ");
	add_cut(v->out, node_str(in->body, "decision", STR("expired")), 40, v->style.utf8);
	if (by.n > 0) {
		buf_add_z(v->out, " by ");
		add_cut(v->out, by, 60, v->style.utf8);
	}
	color(v, "0");
	buf_add_char(v->out, '\n');
	set_label(v, in->now_ms, "working", STR(""));
}

static void
on_notice(struct live *v, const struct live_input *in)
{
	if (str_is(node_str(in->body, "code", STR("")), "model"))
		return; /* who sent the message was told with the answer, in every form of output */
	if (!str_is(node_str(in->body, "level", STR("warn")), "debug") || v->style.verbose)
		live_note(v, node_str(in->body, "text", STR("")));
}

void
add_attachment(struct buf *b, const struct node *file)
{
	char size[32];

	add_cut(b, node_str(file, "name", STR("file")), 60, true);
	buf_add_char(b, ' ');
	add_cut(b, node_str(file, "mime", STR("")), 30, true);
	buf_printf(b, " %s", media_size_text((size_t)MAX(node_int(file, "size", 0), 0), size));
}

static void
on_user_message(struct live *v, const struct live_input *in)
{
	const struct node *files = node_get(in->body, "attachments");

	for (size_t i = 0; i < node_len(files); i++) {
		live_pause(v);
		color(v, DIM);
		buf_add_z(v->out, "[attached ");
		add_attachment(v->out, node_at(files, i));
		buf_add_char(v->out, ']');
		color(v, "0");
		buf_add_char(v->out, '\n');
	}
}

/* With the words that get it; the name there is harmless, unquoted, in any shell. */
static void
live_file(struct live *v, const struct node *file)
{
	char size[32], name[MEDIA_NAME_MAX + 1];

	line_begin(v, GLYPH_OK, GREEN);
	buf_add_z(v->out, "file ");
	color(v, BOLD);
	add_cut(v->out, node_str(file, "name", STR("?")), 60, v->style.utf8);
	color(v, "0");
	buf_add_char(v->out, ' ');
	add_cut(v->out, node_str(file, "type", STR("")), 40, v->style.utf8);
	buf_printf(v->out, " %s\n    ithaca blob get ", media_size_text((size_t)MAX(node_int(file, "bytes", 0), 0), size));
	add_cut(v->out, node_str(file, "blob", STR("")), 64, v->style.utf8);
	buf_printf(v->out, " -o %s\n", media_file_name(node_str(file, "name", STR("")), 1, name));
}

static void
on_turn_files(struct live *v, const struct live_input *in)
{
	const struct node *files = node_get(in->body, "files"), *left = node_get(in->body, "left_out");
	int64_t more = node_int(in->body, "left_out_more", 0);
	struct buf b;

	for (size_t i = 0; i < node_len(files); i++)
		live_file(v, node_at(files, i));
	buf_init(&b, EVENT_BODY_MAX);
	for (size_t i = 0; i < node_len(left); i++) {
		buf_reset(&b);
		buf_add_z(&b, "not kept: ");
		add_cut(&b, node_str(node_at(left, i), "name", STR("?")), 60, v->style.utf8);
		buf_add_z(&b, " (");
		add_cut(&b, node_str(node_at(left, i), "why", STR("?")), 160, v->style.utf8);
		buf_add_z(&b, ")");
		live_note(v, buf_str(&b));
	}
	buf_reset(&b);
	if (more > 0)
		buf_printf(&b, "not kept: %" PRId64 " or more other files in the outbox", more);
	if (node_get(in->body, "error") != NULL)
		buf_add_str(&b, node_str(node_get(in->body, "error"), "message", STR("?")));
	if (b.n > 0)
		live_note(v, buf_str(&b));
	buf_fini(&b);
}

static void
on_stop(struct live *v, const struct live_input *in)
{
	buf_reset(&v->label);
	live_pause(v);
}

static const struct {
	const char *kind;
	void (*fn)(struct live *v, const struct live_input *in);
} renderers[] = {
	{ "user.message", on_user_message },
	{ "turn.started", on_turn_started },
	{ "turn.files", on_turn_files },
	{ "turn.finished", on_stop },
	{ "model.started", on_model_started },
	{ "model.done", on_stop },
	{ "model.retry", on_model_retry },
	{ "tool.requested", on_tool_requested },
	{ "tool.progress", on_tool_progress },
	{ "effect.intent", on_effect_intent },
	{ "effect.outcome", on_effect_outcome },
	{ "approval.requested", on_stop },
	{ "approval.resolved", on_approval_resolved },
	{ "approval.expired", on_approval_resolved },
	{ "notice", on_notice },
};

void
live_event(struct live *v, struct fold *f, const struct node *envelope, enum fold_news news,
	size_t kept, int64_t now_ms)
{
	struct live_input in = { f, node_get(envelope, "body"), now_ms };
	struct str kind = node_str(envelope, "kind", STR(""));

	if (news == FOLD_OLD)
		return;
	if (v->style.text)
		text_step(v, f);
	if (news == FOLD_TEXT && v->style.text)
		text_show(v, buf_str(&f->text), kept);
	for (size_t i = 0; i < ARRAY_LEN(renderers); i++)
		if (str_is(kind, renderers[i].kind))
			renderers[i].fn(v, &in);
	/* An answer whose text was never streamed here, as after joining late. */
	if (f->is_finished && v->style.text && v->shown == 0 && f->answer.n > 0) {
		text_print(v, buf_str(&f->answer));
		live_pause(v);
	}
}

void
live_summary(struct live *v, const struct fold *f)
{
	bool is_good = f->status == TURN_ANSWERED;
	const char *dot = glyph(v, GLYPH_DOT);

	line_begin(v, is_good ? GLYPH_OK : GLYPH_BAD, is_good ? GREEN : RED);
	color(v, DIM);
	buf_printf(v->out, "%s%s%" PRId64 " step%s%s%" PRId64 " in, %" PRId64 " out tokens%s",
		turn_status_name(f->status), dot, f->steps, f->steps == 1 ? "" : "s", dot, f->usage.input,
		f->usage.output, dot);
	add_money(v->out, f->cost_microusd);
	buf_add_z(v->out, dot);
	add_duration(v->out, f->duration_ms);
	if (f->session[0])
		buf_printf(v->out, "%ssession %s", dot, f->session);
	color(v, "0");
	buf_add_char(v->out, '\n');
}
