/* SPDX-License-Identifier: MIT
 * One record, one line, one write(2). A record that would pass LOG_RECORD_MAX loses its last fields
 * and says so (cut=true); a value is never cut inside a character. Values pass the secret scrubber
 * and are escaped, so a record can neither forge another one nor steer a terminal. A failed write
 * is dropped: logging must not stop the work. */
#include "base/log.h"

#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/utf8.h"

#define VALUE_MAX ((size_t)4 * KIB)
#define TAIL_MAX  ((size_t)32) /* room for the cut mark and the end of the record */

static const char *const level_names[] = { "debug", "info", "warn", "error", "off" };

static struct {
	const char *role;
	_Atomic int fd, copy_fd, level, format;
} sink = { .role = "ithaca", .fd = STDERR_FILENO, .copy_fd = -1, .level = LOG_WARN, .format = LOG_LOGFMT };

void
log_open(const char *role, int fd, enum log_level level, enum log_format format)
{
	sink.role = role;
	sink.fd = fd;
	sink.format = (int)format;
	sink.level = (int)level;
}

void
log_copy(int fd)
{
	sink.copy_fd = fd;
}

enum log_level
log_level(void)
{
	return (enum log_level)sink.level;
}

int
log_level_parse(struct str s, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
		if (str_is(s, level_names[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

/* A bare word needs no quotes in logfmt. */
static bool
is_bare(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return s.n > 0;
}

static void
add_quoted(struct buf *b, struct str s)
{
	if (is_bare(s)) {
		(void)buf_add_str(b, s);
		return;
	}
	(void)buf_add_char(b, '"');
	size_t from = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '"' && s.p[i] != '\\')
			continue;
		(void)term_clean(b, str_sub(s, from, i - from), true);
		(void)buf_add_char(b, '\\');
		(void)buf_add_char(b, s.p[i]);
		from = i + 1;
	}
	(void)term_clean(b, str_sub(s, from, s.n), true);
	(void)buf_add_char(b, '"');
}

/* One record while it is written. */
struct record {
	struct buf b;
	struct json j;
	bool is_json;
};

static void
put_str(struct record *r, const char *key, struct str s)
{
	if (r->is_json) {
		json_kv_str(&r->j, key, s);
		return;
	}
	(void)buf_printf(&r->b, "%s%s=", r->b.n ? " " : "", key);
	add_quoted(&r->b, s);
}

/* Scrubbed whole and then cut, so that a cut cannot split a secret into parts that look harmless.
 */
static void
put_value(struct record *r, const char *key, struct str s)
{
	struct buf clean;
	buf_init(&clean, 2 * VALUE_MAX);
	(void)secret_scrub(&clean, str_sub(s, 0, 2 * VALUE_MAX));
	struct str text = buf_str(&clean);
	put_str(r, key, str_sub(text, 0, utf8_cut(text, VALUE_MAX)));
	buf_fini(&clean);
}

static void
put_field(struct record *r, const struct log_field *f)
{
	if (f->type == LOG_STR)
		put_value(r, f->key, f->s);
	else if (r->is_json)
		json_kv_int(&r->j, f->key, f->i);
	else
		(void)buf_printf(&r->b, " %s=%lld", f->key, (long long)f->i);
}

/* false when the field did not fit; the record is then as it was before. */
static bool
try_field(struct record *r, const struct log_field *f)
{
	struct json j = r->j;
	size_t n = r->b.n;
	put_field(r, f);
	if (!r->b.overflow)
		return true;
	r->j = j;
	r->b.n = n;
	r->b.overflow = false;
	return false;
}

void
log_record(struct buf *out, const char *role, enum log_level level, enum log_format format, const char *msg,
	const struct log_field *fields, size_t n)
{
	char time[CLOCK_TEXT_SIZE];
	struct record r = { .is_json = format == LOG_JSON };
	buf_init(&r.b, LOG_RECORD_MAX - TAIL_MAX);
	json_init(&r.j, &r.b);
	if (r.is_json)
		json_obj(&r.j);
	put_str(&r, "time", str_of(clock_text(clock_wall_ms(), time)));
	put_str(&r, "level", str_of(level_names[level]));
	put_str(&r, "role", str_of(role));
	put_value(&r, "msg", str_of(msg));
	bool cut = false;
	for (size_t i = 0; i < n && !cut; i++)
		cut = !try_field(&r, &fields[i]);
	r.b.max = LOG_RECORD_MAX;
	if (cut)
		put_str(&r, "cut", STR("true"));
	if (r.is_json)
		json_obj_end(&r.j);
	(void)buf_add_char(&r.b, '\n');
	(void)buf_add_str(out, buf_str(&r.b));
	buf_fini(&r.b);
}

void
log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n)
{
	struct buf b;
	ssize_t put = 0;

	if (level < log_level() || level >= LOG_OFF)
		return;
	buf_init(&b, LOG_RECORD_MAX);
	log_record(&b, sink.role, level, (enum log_format)sink.format, msg, fields, n);
	if (b.p != NULL)
		put = write(sink.fd, b.p, b.n);
	if (b.p != NULL && sink.copy_fd >= 0)
		put = write(sink.copy_fd, b.p, b.n);
	(void)put;
	buf_fini(&b);
}
