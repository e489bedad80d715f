/* SPDX-License-Identifier: MIT
 * Attachments in requests: their bytes as base64, written into the body itself so that a large file
 * is never held twice more. What a file is, base/media.h knows. What an API cannot take becomes a
 * line of text that says so: a conversation stays sendable to every model. */
#include "provider/internal.h"

#include "base/limits.h"

bool
media_is(const struct part *p, enum media_class class)
{
	return media_class_of(p->mime, p->data.n) == class;
}

/* RFC 6838 restricted names; anything else could not be sent as a type anyway. */
static bool
is_mime(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c != '\0' && strchr("/+-._", c))))
			return false;
	}
	return s.n > 0;
}

struct str
media_mime(const struct part *p)
{
	return is_mime(p->mime) ? p->mime : STR("application/octet-stream");
}

struct str
media_name(const struct part *p)
{
	return p->name.n > 0 ? p->name : STR("attachment");
}

/* ---- base64 (RFC 4648) ---- */

static void
add_base64(struct buf *b, struct str data)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *in = (const unsigned char *)data.p;
	size_t n = (data.n + 2) / 3 * 4, i = 0;
	char *out = buf_reserve(b, n);

	if (!out)
		return; /* the overflow is told at the end of the body */
	for (; i + 3 <= data.n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			*out++ = digits[v >> shift & 63];
	}
	if (i < data.n) {
		uint32_t v =
			(uint32_t)in[i] << 16 | (i + 1 < data.n ? (uint32_t)in[i + 1] << 8 : 0);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < data.n ? digits[v >> 6 & 63] : '=';
		*out++ = '=';
	}
	buf_added(b, n);
}

void
write_base64(struct json *j, struct str data)
{
	json_raw(j, STR("\""));
	add_base64(j->b, data);
	buf_add_char(j->b, '"');
}

void
write_data_url(struct json *j, const struct part *p)
{
	json_raw(j, STR("\"data:"));
	buf_add_str(j->b, media_mime(p));
	buf_add_z(j->b, ";base64,");
	add_base64(j->b, p->data);
	buf_add_char(j->b, '"');
}

/* ---- as text ---- */

struct str
media_text(const struct part *p, struct arena *a)
{
	struct str name = media_name(p), mime = media_mime(p);
	struct buf b;

	buf_init(&b, REQUEST_BODY_MAX);
	if (media_is(p, MEDIA_TEXT)) {
		buf_printf(&b, "File %.*s:\n", STR_FMT(name));
		buf_add_str(&b, p->data);
	} else {
		buf_printf(&b,
			"(The file %.*s, %.*s, %zu bytes, is attached, but this model's API cannot "
			"take such files.)",
			STR_FMT(name), STR_FMT(mime), p->data.n);
	}
	return arena_take(a, &b);
}
