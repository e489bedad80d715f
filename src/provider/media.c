/* SPDX-License-Identifier: MIT
 * Attachments: what kind of file a part holds, as far as the APIs make a difference, and its bytes
 * as base64, written into the body itself so that a large file is never held twice more. What an
 * API cannot take becomes a line of text that says so: a conversation stays sendable to every
 * model. */
#include "provider/internal.h"

#include <strings.h>
#include "base/limits.h"

static const struct {
	const char *mime; /* with a * at the end: the beginning */
	enum media_kind kind;
	const char *usual; /* spelling that the APIs know; NULL: as it is */
	const char *audio; /* what OpenAI's APIs call the format */
} kinds[] = {
	{ "image/jpg", MEDIA_IMAGE, "image/jpeg", NULL },
	{ "image/jpeg", MEDIA_IMAGE, "image/jpeg", NULL },
	{ "image/png", MEDIA_IMAGE, "image/png", NULL },
	{ "image/gif", MEDIA_IMAGE, "image/gif", NULL },
	{ "image/webp", MEDIA_IMAGE, "image/webp", NULL },
	{ "image/svg+xml", MEDIA_TEXT, NULL, NULL },
	{ "image/*", MEDIA_IMAGE, NULL, NULL },
	{ "application/pdf", MEDIA_PDF, "application/pdf", NULL },
	{ "audio/wav", MEDIA_AUDIO, "audio/wav", "wav" },
	{ "audio/wave", MEDIA_AUDIO, "audio/wav", "wav" },
	{ "audio/x-wav", MEDIA_AUDIO, "audio/wav", "wav" },
	{ "audio/vnd.wave", MEDIA_AUDIO, "audio/wav", "wav" },
	{ "audio/mpeg", MEDIA_AUDIO, "audio/mpeg", "mp3" },
	{ "audio/mp3", MEDIA_AUDIO, "audio/mpeg", "mp3" },
	{ "audio/*", MEDIA_AUDIO, NULL, NULL },
	{ "video/*", MEDIA_VIDEO, NULL, NULL },
	{ "text/*", MEDIA_TEXT, NULL, NULL },
	{ "application/json", MEDIA_TEXT, NULL, NULL },
	{ "application/xml", MEDIA_TEXT, NULL, NULL },
	{ "application/yaml", MEDIA_TEXT, NULL, NULL },
	{ "application/x-yaml", MEDIA_TEXT, NULL, NULL },
	{ "application/toml", MEDIA_TEXT, NULL, NULL },
	{ "application/javascript", MEDIA_TEXT, NULL, NULL },
	{ "application/sql", MEDIA_TEXT, NULL, NULL },
	{ "application/x-sh", MEDIA_TEXT, NULL, NULL },
	{ "application/x-ndjson", MEDIA_TEXT, NULL, NULL },
};

/* Without parameters. */
static struct str
bare(struct str mime)
{
	ptrdiff_t end = str_find_char(mime, ';');

	return str_trim(end < 0 ? mime : str_sub(mime, 0, (size_t)end));
}

static bool
matches(struct str mime, const char *pattern)
{
	size_t n = strlen(pattern);
	bool is_start = n > 0 && pattern[n - 1] == '*';

	if (is_start)
		return mime.n >= n - 1 && strncasecmp(mime.p, pattern, n - 1) == 0;
	return mime.n == n && strncasecmp(mime.p, pattern, n) == 0;
}

/* Row of the table, or its length. */
static size_t
find(struct str mime)
{
	size_t i = 0;

	while (i < ARRAY_LEN(kinds) && !matches(mime, kinds[i].mime))
		i++;
	return i;
}

enum media_kind
media_kind(const struct part *p)
{
	struct str mime = bare(p->mime);
	size_t i = find(mime);

	if (i < ARRAY_LEN(kinds))
		return kinds[i].kind;
	return str_ends(mime, "+json") || str_ends(mime, "+xml") ? MEDIA_TEXT : MEDIA_OTHER;
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
	struct str mime = bare(p->mime);
	size_t i = find(mime);

	if (i < ARRAY_LEN(kinds) && kinds[i].usual)
		return str_of(kinds[i].usual);
	return is_mime(mime) ? mime : STR("application/octet-stream");
}

const char *
media_audio_format(const struct part *p)
{
	size_t i = find(bare(p->mime));

	return i < ARRAY_LEN(kinds) ? kinds[i].audio : NULL;
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
	struct str name = media_name(p), mime = media_mime(p), out;
	struct buf b;

	buf_init(&b, REQUEST_BODY_MAX);
	if (media_kind(p) == MEDIA_TEXT) {
		buf_printf(&b, "File %.*s:\n", STR_FMT(name));
		buf_add_str(&b, p->data);
	} else {
		buf_printf(&b,
			"(The file %.*s, %.*s, %zu bytes, is attached, but this model's API cannot "
			"take such files.)",
			STR_FMT(name), STR_FMT(mime), p->data.n);
	}
	out = arena_str(a, buf_str(&b));
	buf_fini(&b);
	return out;
}
