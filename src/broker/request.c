/* SPDX-License-Identifier: MIT
 * Checks of what goes into an HTTP request: path and headers. Done by the client for a good
 * message, and again by the role, which does not believe its peer. Invariant: no byte that passes
 * here can end a line, begin another header or leave the base URL. */
#include <strings.h>
#include "base/limits.h"
#include "broker/internal.h"

/* Header names that the broker sets, or that decide where a message ends or goes. */
static const char *const own_names[] = {
	"authorization",
	"proxy-authorization",
	"x-api-key",
	"x-goog-api-key",
	"api-key",
	"cookie",
	"host",
	"content-length",
	"transfer-encoding",
	"connection",
	"keep-alive",
	"proxy-connection",
	"te",
	"trailer",
	"upgrade",
	"expect",
};

/* RFC 9110 token. */
static bool
is_token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_own_name(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(own_names); i++) {
		if (name.n == strlen(own_names[i]) &&
			strncasecmp(name.p, own_names[i], name.n) == 0)
			return true;
	}
	return false;
}

int
request_check_header(struct str name, struct str value, bool may_own, struct err *e)
{
	for (size_t i = 0; i < name.n; i++) {
		if (!is_token_char((unsigned char)name.p[i]))
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"header name has byte 0x%02x at %zu (letters, digits and - only)",
				(unsigned char)name.p[i], i);
	}
	if (name.n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"header without a name (write \"name: value\")");
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"value of header %.*s has control byte 0x%02x at %zu",
				(int)MIN(name.n, 64), name.p, c, i);
	}
	if (!may_own && is_own_name(name))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "header %.*s is set by the broker only",
			(int)name.n, name.p);
	return 0;
}

int
request_check_headers(struct str lines, struct err *e)
{
	struct str line;

	if (lines.n > FETCH_HEADERS_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "%zu bytes of headers (at most %u)",
			lines.n, FETCH_HEADERS_MAX);
	while (str_next(&lines, '\n', &line)) {
		if (line.n == 0)
			continue;
		ptrdiff_t colon = str_find_char(line, ':');
		if (colon < 0)
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"header line without a colon (write \"name: value\")");
		struct str value = str_sub(line, (size_t)colon + 1, line.n);
		int rc = request_check_header(str_sub(line, 0, (size_t)colon), value, false, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* "." and ".." also in their percent-encoded spellings. */
static bool
is_dot_segment(struct str part)
{
	size_t dots = 0;

	while (part.n > 0) {
		size_t n = part.p[0] == '.' ? 1 : 3;
		if (n == 3 && (part.n < 3 || strncasecmp(part.p, "%2e", 3) != 0))
			return false;
		part = str_sub(part, n, part.n);
		dots++;
	}
	return dots == 1 || dots == 2;
}

int
request_check_path(struct str path, struct err *e)
{
	if (path.n > FETCH_PATH_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "path of %zu bytes (at most %u)", path.n,
			FETCH_PATH_MAX);
	if (path.n == 0 || path.p[0] != '/')
		return err_set(e, ERR_INVALID, ERR_TO_USER, "path does not start with a slash");
	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '#' || c == '\\')
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"path has byte 0x%02x at %zu (percent-encode it)", c, i);
	}
	ptrdiff_t query = str_find_char(path, '?');
	struct str rest = query >= 0 ? str_sub(path, 0, (size_t)query) : path, part;
	while (str_next(&rest, '/', &part)) {
		if (is_dot_segment(part))
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"path has a dot segment (write it without . and ..)");
	}
	return 0;
}
