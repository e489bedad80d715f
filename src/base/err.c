/* SPDX-License-Identifier: MIT
 * Filling and naming errors. Every message is first formatted into a local array, so an argument
 * may point into the error itself, and then copied as UTF-8: bytes that are not become U+FFFD, and
 * the end is cut between characters. Nothing here allocates: an error can be reported when memory
 * is gone. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"

#define ROW(code, value, text, status) { code, text, status },
static const struct {
	int code;
	const char *name;
	int exit_status;
} rows[] = { ERR_CODES(ROW) };
#undef ROW

static const char replacement[] = "\xEF\xBF\xBD";

/* Copies z into out, valid and cut between characters. */
static void
copy_utf8(char out[ERR_MSG_MAX], const char *z)
{
	size_t left = strlen(z), n = 0;
	while (left > 0) {
		uint32_t cp;
		size_t len = utf8_decode(z, left, &cp);
		const char *from = len > 0 ? z : replacement;
		size_t add = len > 0 ? len : sizeof(replacement) - 1;
		size_t step = len > 0 ? len : 1;
		if (n + add >= ERR_MSG_MAX)
			break;
		memcpy(out + n, from, add);
		n += add;
		z += step;
		left -= step;
	}
	out[n] = '\0';
}

int
err_set(struct err *e, int code, enum err_to to, const char *fmt, ...)
{
	if (!e)
		return code;
	char text[2 * ERR_MSG_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e->code = code;
	e->to = to;
	copy_utf8(e->msg, text);
	return code;
}

static int
code_of_errno(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case EROFS:
		return ERR_READONLY;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case ENOENT:
		return ERR_NOT_FOUND;
	default:
		return ERR_IO;
	}
}

int
err_errno(struct err *e, int errnum, enum err_to to, const char *fmt, ...)
{
	int code = code_of_errno(errnum);
	if (!e)
		return code;
	char text[ERR_MSG_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* strerror(3) translates by locale; this one is a plain table and safe in a thread. */
	const char *reason = strerrordesc_np(errnum);
	if (!reason)
		return err_set(e, code, to, "%s: error %d of the operating system", text, errnum);
	return err_set(e, code, to, "%s: %s", text, reason);
}

int
err_wrap(struct err *e, const char *fmt, ...)
{
	if (!e)
		return ERR_FAILED;
	char text[ERR_MSG_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (e->code == ERR_OK)
		return err_set(e, ERR_FAILED, ERR_TO_LOG, "%s", text);
	return err_set(e, e->code, e->to, "%s: %s", text, e->msg);
}

int
err_copy(struct err *e, const struct err *from)
{
	if (!from)
		return ERR_FAILED;
	if (e && e != from)
		*e = *from;
	return from->code;
}

const char *
err_name(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].code == code)
			return rows[i].name;
	}
	return "internal";
}

int
err_from_name(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].name, name) == 0)
			return rows[i].code;
	}
	return ERR_FAILED;
}

int
err_exit_status(int code)
{
	if (code == ERR_OK)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].code == code)
			return rows[i].exit_status;
	}
	return 1;
}

void
fatal(const char *fmt, ...)
{
	char text[1024] = "fatal: ";
	size_t head = strlen(text);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text + head, sizeof(text) - head - 1, fmt, ap);
	va_end(ap);
	size_t len = head + (n < 0 ? 0 : MIN((size_t)n, sizeof(text) - head - 2));
	text[len++] = '\n';
	if (write(STDERR_FILENO, text, len) < 0) {
		/* There is nobody left to tell. */
	}
	abort();
}
