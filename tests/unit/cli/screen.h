/* SPDX-License-Identifier: MIT
 * A terminal for tests, as much of one as the view uses: lines that wrap, \r, \n, cursor up, erase, colours (ignored).
 * Anything else in an escape sequence fails the test. */
#ifndef TESTS_CLI_SCREEN_H
#define TESTS_CLI_SCREEN_H

#include "base/utf8.h"

#define SCREEN_ROWS 400
#define SCREEN_COLS 200

struct screen {
	size_t columns, row, column;
	char cells[SCREEN_ROWS][SCREEN_COLS][5];
};

static inline void
screen_erase(struct screen *s, size_t row, size_t column)
{
	for (; column < SCREEN_COLS; column++)
		s->cells[row][column][0] = '\0';
}

static inline size_t
screen_escape(struct screen *s, const char *p, size_t n)
{
	size_t i = 2, number = 0;

	assert_true(n > 2 && p[1] == '[');
	for (; i < n && ((p[i] >= '0' && p[i] <= '9') || p[i] == ';'); i++)
		number = p[i] == ';' ? 0 : number * 10 + (size_t)(p[i] - '0');
	assert_true(i < n);
	switch (p[i]) {
	case 'm':
		break;
	case 'A':
		assert_true(number <= s->row);
		s->row -= number;
		break;
	case 'K':
		screen_erase(s, s->row, s->column);
		break;
	case 'J':
		screen_erase(s, s->row, s->column);
		for (size_t r = s->row + 1; r < SCREEN_ROWS; r++)
			screen_erase(s, r, 0);
		break;
	default:
		fail_msg("escape sequence with %c", p[i]);
	}
	return i + 1;
}

static inline void
screen_put(struct screen *s, const char *p, size_t n)
{
	size_t w = utf8_width((struct str){ p, n });

	if (s->column + w > s->columns) {
		s->row++;
		s->column = 0;
	}
	assert_true(s->row < SCREEN_ROWS);
	memcpy(s->cells[s->row][s->column], p, n);
	s->cells[s->row][s->column][n] = '\0';
	s->column += w;
}

static inline void
screen_write(struct screen *s, struct str out)
{
	for (size_t i = 0; i < out.n;) {
		uint32_t cp;
		size_t n = utf8_decode(out.p + i, out.n - i, &cp);

		assert_true(n > 0);
		if (cp == 27) {
			i += screen_escape(s, out.p + i, out.n - i);
			continue;
		}
		if (cp == '\n') {
			s->row++;
			s->column = 0;
		} else if (cp == '\r') {
			s->column = 0;
		} else {
			assert_true(cp >= 32);
			screen_put(s, out.p + i, n);
		}
		i += n;
	}
}

/* The text on it: rows joined by \n, gaps as spaces, nothing at line ends. */
static inline void
screen_text(const struct screen *s, struct buf *b)
{
	buf_reset(b);
	for (size_t r = 0; r < SCREEN_ROWS; r++) {
		size_t end = SCREEN_COLS, start = b->n;

		while (end > 0 && !s->cells[r][end - 1][0])
			end--;
		for (size_t c = 0; c < end; c++)
			buf_add_z(b, s->cells[r][c]);
		while (b->n > start && b->p[b->n - 1] == ' ')
			buf_truncate(b, b->n - 1);
		buf_add_char(b, '\n');
	}
	while (b->n > 0 && b->p[b->n - 1] == '\n')
		buf_truncate(b, b->n - 1);
}

static inline size_t
occurrences(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
		n++;
	return n;
}

#endif
