/* SPDX-License-Identifier: MIT
 * Structured logging to one descriptor: a line is one record, escaped, as logfmt or JSON. Records name the role and,
 * where they exist, the session, turn and call ids. Secrets and prompt bodies are never logged at info.
 * The one place of base with process-wide state. Thread-safe: a record is one write(2). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>
#include "base/err.h"
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* role is borrowed for the life of the process. Before log_open records go to stderr at LOG_WARN as logfmt. */
void log_open(const char *role, int fd, enum log_level level, enum log_format format);
void log_copy(int fd); /* records go there as well; -1: no more */
enum log_level log_level(void);
int log_level_parse(struct str s, enum log_level *out) MUST_USE; /* debug info warn error off */

/* A field of a record. Keys are literals in snake_case. */
struct log_field {
	const char *key;
	enum { LOG_STR, LOG_INT } type;
	struct str s;
	int64_t i;
};
#define LOG_S(k, z)  ((struct log_field){ .key = (k), .type = LOG_STR, .s = str_of(z) })
#define LOG_SV(k, v) ((struct log_field){ .key = (k), .type = LOG_STR, .s = (v) })
#define LOG_I(k, v)  ((struct log_field){ .key = (k), .type = LOG_INT, .i = (v) })
#define LOG_E(e)     ((struct log_field){ .key = "error", .type = LOG_STR, .s = str_of((e)->msg) })

void log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n);
/* One record with its newline, appended to out: for what another process said. At most LOG_RECORD_MAX bytes. */
struct buf;
void log_record(struct buf *out, const char *role, enum log_level level, enum log_format format, const char *msg,
	const struct log_field *fields, size_t n);
#define LOG_AT(level, msg, ...)                                                                    \
	log_write(level, msg, (const struct log_field[]){ __VA_ARGS__ },                           \
		sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))
/* log_info("turn finished", LOG_S("session", id), LOG_I("ms", ms)): at least one field. */
#define log_debug(msg, ...) LOG_AT(LOG_DEBUG, msg, __VA_ARGS__)
#define log_info(msg, ...)  LOG_AT(LOG_INFO, msg, __VA_ARGS__)
#define log_warn(msg, ...)  LOG_AT(LOG_WARN, msg, __VA_ARGS__)
#define log_error(msg, ...) LOG_AT(LOG_ERROR, msg, __VA_ARGS__)

#endif
