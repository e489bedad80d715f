/* SPDX-License-Identifier: MIT
 * Results on standard output: JSON for programs, columns for people. What came from a model, a tool or a file is
 * cleaned before it reaches a terminal. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/internal.h"
#include "cli/live.h"

#define COLUMNS_MAX 12
#define CELL_MAX    (16u * KIB)

int
out_flush(int fd, struct buf *b, struct err *e)
{
	int rc = 0;

	if (b->n > 0 && fd_write_all(fd, b->p, b->n) != 0)
		rc = err_set(e, ERR_IO, ERR_TO_USER, "cannot write the output: %s",
			errno == EPIPE ? "its reader has gone" : strerror(errno));
	buf_reset(b);
	return rc;
}

int
out_text(struct str text, struct err *e)
{
	if (fd_write_all(STDOUT_FILENO, text.p, text.n) != 0)
		return err_set(e, ERR_IO, ERR_TO_USER, "cannot write the output: %s",
			errno == EPIPE ? "its reader has gone" : strerror(errno));
	return 0;
}

int
out_take(struct buf *b, struct err *e)
{
	int rc = out_text(buf_str(b), e);

	buf_fini(b);
	return rc;
}

int
out_node(const struct node *n, bool is_json, struct err *e)
{
	struct buf b;
	struct json j;

	buf_init(&b, 2 * JSON_TEXT_MAX);
	if (is_json) {
		json_init(&j, &b);
		json_node(&j, n);
	} else {
		json_pretty(&b, n);
	}
	buf_add_char(&b, '\n');
	return out_take(&b, e);
}

static void
add_value(struct buf *b, const struct node *v)
{
	struct buf text;
	struct json j;

	if (node_is(v, NODE_STR)) {
		term_clean(b, v->s, true);
		return;
	}
	buf_init(&text, CELL_MAX);
	json_init(&j, &text);
	json_node(&j, v);
	term_clean(b, buf_str(&text), true);
	buf_fini(&text);
}

static void
add_cell(struct buf *b, const struct node *row, const struct column *c)
{
	const struct node *v = node_get(row, c->key);
	char time[CLOCK_TEXT_SIZE];
	int64_t i = node_int(row, c->key, 0);

	if (!v || node_is(v, NODE_NULL))
		return;
	switch (c->form) {
	case COLUMN_TIME:
		if (i > 0) /* minutes are enough for a list */
			buf_printf(b, "%.10s %.5s", clock_text(i, time), time + 11);
		break;
	case COLUMN_MONEY:
		add_money(b, i);
		break;
	case COLUMN_NUMBER:
		buf_printf(b, "%" PRId64, i);
		break;
	case COLUMN_TEXT:
	case COLUMN_VALUE:
		add_value(b, v);
		break;
	}
}

static void
pad(struct buf *b, size_t n)
{
	while (n-- > 0)
		buf_add_char(b, ' ');
}

/* Writes one line; widths NULL: only measures into max. */
static void
table_line(const struct node *row, const struct column *columns, size_t *widths, struct buf *out)
{
	struct buf cell;

	buf_init(&cell, 4 * CELL_MAX);
	for (size_t i = 0; columns[i].key && i < COLUMNS_MAX; i++) {
		bool is_last = !columns[i + 1].key;
		size_t w;

		buf_reset(&cell);
		if (row)
			add_cell(&cell, row, &columns[i]);
		else
			buf_add_z(&cell, columns[i].title);
		w = utf8_width(buf_str(&cell));
		if (!out) {
			widths[i] = MAX(widths[i], w);
			continue;
		}
		buf_add_str(out, buf_str(&cell));
		if (!is_last)
			pad(out, widths[i] - w + 2);
	}
	if (out) {
		while (out->n > 0 && out->p[out->n - 1] == ' ')
			buf_truncate(out, out->n - 1);
		buf_add_char(out, '\n');
	}
	buf_fini(&cell);
}

void
print_table(const struct node *list, const struct column *columns, struct buf *out)
{
	size_t widths[COLUMNS_MAX] = { 0 };

	table_line(NULL, columns, widths, NULL);
	for (size_t i = 0; i < node_len(list); i++)
		table_line(node_at(list, i), columns, widths, NULL);
	table_line(NULL, columns, widths, out);
	for (size_t i = 0; i < node_len(list); i++)
		table_line(node_at(list, i), columns, widths, out);
}

void
print_row(const struct node *row, const struct column *columns, struct buf *out)
{
	size_t width = 0;

	for (size_t i = 0; columns[i].key; i++)
		width = MAX(width, utf8_width(str_of(columns[i].title)));
	for (size_t i = 0; columns[i].key; i++) {
		struct buf cell;

		buf_init(&cell, 4 * CELL_MAX);
		add_cell(&cell, row, &columns[i]);
		if (cell.n > 0) {
			buf_add_z(out, columns[i].title);
			pad(out, width - utf8_width(str_of(columns[i].title)) + 2);
			buf_add_str(out, buf_str(&cell));
			buf_add_char(out, '\n');
		}
		buf_fini(&cell);
	}
}

void
report(const struct err *e)
{
	struct buf b;

	buf_init(&b, 8 * ERR_MSG_MAX);
	buf_add_z(&b, "ithaca: ");
	term_clean(&b, str_of(e->msg[0] ? e->msg : err_name(e->code)), false);
	buf_add_char(&b, '\n');
	fd_write_all(STDERR_FILENO, b.p, b.n);
	buf_fini(&b);
}
