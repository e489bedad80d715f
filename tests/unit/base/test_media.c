/* SPDX-License-Identifier: MIT
 * Types by content: a small good file of each, what is cut, forged or not taken, names that promise
 * something else, and the estimates of tokens. */
#include "test.h"

#include <stdlib.h>
#include "base/limits.h"
#include "base/media.h"
#include "base/mem.h"
#include "base/utf8.h"

#define PNG(w, h) "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" w h "\x08\x02\0\0\0crc!"
#define WAV                                                                                        \
	"RIFF\x2c\0\0\0WAVEfmt "                                                                   \
	"\x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x08\0\0\0soundsss"

static const struct good {
	const char *name, *bytes;
	size_t n;
	enum media_class class;
	const char *mime;
	int64_t width, height;
} good[] = {
#define G(name, bytes, class, mime, w, h)                                                          \
	{                                                                                          \
		name, bytes, sizeof(bytes) - 1, class, mime, w, h                                  \
	}
	G("a.png", PNG("\0\0\x02\x80", "\0\0\x01\xe0"), MEDIA_IMAGE, "image/png", 640, 480),
	G("a.gif", "GIF89a\x0a\0\x14\0\0\0\0;", MEDIA_IMAGE, "image/gif", 10, 20),
	G("a.jpg", "\xff\xd8\xff\xe0\0\x06JFIF\xff\xff\xc2\0\x0b\x08\0\x64\0\xc8\x01\x01\x11\0",
		MEDIA_IMAGE, "image/jpeg", 200, 100),
	G("a.webp", "RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x01\0", MEDIA_IMAGE,
		"image/webp", 1024, 512),
	G("b.webp", "RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\x3f\xc0\x07\0\0\0\0\0\0\0\0\0\0",
		MEDIA_IMAGE, "image/webp", 64, 32),
	G("c.webp", "RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\x30\x01\0\x9d\x01\x2a\x40\0\x20\0",
		MEDIA_IMAGE, "image/webp", 64, 32),
	G("a.pdf", "%PDF-1.7\n1 0 obj", MEDIA_PDF, "application/pdf", 0, 0),
	G("a.wav", WAV, MEDIA_AUDIO, "audio/wav", 0, 0),
	G("a.flac",
		"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0\0\x01\x58\x88mmmmmmmmmmmmmm"
		"mm",
		MEDIA_AUDIO, "audio/flac", 0, 0),
	G("a.ogg",
		"OggS\0\x02"
		"posiposiserisequcrcc"
		"\x01\x13OpusHead\x01",
		MEDIA_AUDIO, "audio/ogg", 0, 0),
	G("a.m4a",
		"\0\0\0\x20"
		"ftypM4A \0\0\0\0",
		MEDIA_AUDIO, "audio/mp4", 0, 0),
	G("a.mp3", "ID3\x03\0\0\0\0\0\x02tt\xff\xfb\x90\x44", MEDIA_AUDIO, "audio/mpeg", 0, 0),
	G("a.c", "int main(void);\n", MEDIA_TEXT, "text/plain", 0, 0),
	G("README",
		"gr\xc3\xbc\xc3\x9f"
		"e",
		MEDIA_TEXT, "text/plain", 0, 0),
	/* What a picture is saved as is not always what it is. */
	G("shot.png", "GIF87a\x0a\0\x14\0\0\0\0;", MEDIA_IMAGE, "image/gif", 10, 20),
	G("ID3 notes", "ID3 is a tag", MEDIA_TEXT, "text/plain", 0, 0),
	G("BM", "BM is no bitmap, and this is text", MEDIA_TEXT, "text/plain", 0, 0),
};

static void
test_types(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		const struct good *g = &good[i];
		struct media m;
		struct err e = { 0 };

		if (media_sniff(str_of(g->name), (struct str){ g->bytes, g->n }, &m, &e) != 0)
			fail_msg("%s: %s", g->name, e.msg);
		assert_int_equal(m.class, g->class);
		assert_string_equal(m.mime, g->mime);
		assert_int_equal(m.width, g->width);
		assert_int_equal(m.height, g->height);
		assert_true(m.tokens > 0);
		assert_int_equal(media_class_of(str_of(m.mime), g->n), g->class);
		assert_string_equal(media_type((struct str){ g->bytes, g->n }, false), g->mime);
	}
}

/* A file that ends before its header does is refused, wherever it ends, or is text as far as it
 * goes. */
static void
test_cut_anywhere(void **state)
{
	for (size_t i = 0; i < 12; i++)
		for (size_t n = 1; n < good[i].n; n++) {
			char *copy = malloc(
				n); /* of just that size: reading past it shows under a sanitizer */
			struct media m;
			struct err e = { 0 };
			int rc;

			memcpy(copy, good[i].bytes, n);
			rc = media_sniff(STR("x"), (struct str){ copy, n }, &m, &e);
			free(copy);
			if (rc == 0)
				assert_true(m.class == MEDIA_TEXT || m.class == MEDIA_FILE ||
					    str_is(str_of(m.mime), good[i].mime));
			else
				assert_true(e.code == ERR_INVALID && e.msg[0] != '\0');
		}
}

static void
refused(const char *name, const char *bytes, size_t n, const char *word)
{
	struct media m = { .mime = "untouched" };
	struct err e = { 0 };

	assert_true(media_sniff(str_of(name), (struct str){ bytes, n }, &m, &e) != 0);
	if (strstr(e.msg, word) == NULL || strstr(e.msg, name) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", e.msg, word);
	assert_string_equal(m.mime, "untouched");
}
#define REFUSED(name, bytes, word) refused(name, bytes, sizeof(bytes) - 1, word)

static void
test_refusals(void **state)
{
	REFUSED("a.txt", "", "is empty");
	REFUSED("a.png", "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "inside its header");
	REFUSED("a.png", PNG("\0\0\0\0", "\0\0\0\x01"), "without any point");
	REFUSED("a.jpg", "\xff\xd8\xff\xda\0\x02\0\0\0", "no frame header");
	REFUSED("a.jpg", "\xff\xd8\xff\xe0\0\x01\0\0\0", "broken");
	REFUSED("a.webp", "RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x01\0",
		"cut off");
	REFUSED("a.wav", "RIFF\x2c\0\0\0WAVEdata\x08\0\0\0soundsss", "fmt");
	REFUSED("a.pdf", "%PDF-x.y rest", "no version");
	REFUSED("a.mp3",
		"ID3\x03\0\0\0\0\0\x02tt\0\0"
		"noise and more",
		"no MP3 sound");
	REFUSED("a.ogg",
		"OggS\0\x02"
		"posiposiserisequcrcc"
		"\x01\x13"
		"\x80theora.",
		"Ogg file without sound");
	REFUSED("photo.png", "\0\0\0\x18" "ftypheic", "its name says an image");
	REFUSED("notes.txt", PNG("\0\0\x02\x80", "\0\0\x01\xe0"), "its name says text");
	REFUSED("photo.PNG", "<html>404</html>", "its name says an image");
	REFUSED("scan.pdf", "\xff\xd8\xff\xc0\0\x0b\x08\0\x64\0\xc8\x01\x01\x11\0",
		"its name says a PDF");
}

/* What no model takes is a file for commands, and is told as what it is. */
static void
test_files(void **state)
{
#define F(name, bytes, mime, what) { name, bytes, sizeof(bytes) - 1, mime, what }
	static const struct {
		const char *name, *bytes;
		size_t n;
		const char *mime, *what;
	} files[] = {
		F("a.heic", "\0\0\0\x18" "ftypheic", "image/heic", "HEIC"),
		F("a.mp4", "\0\0\0\x18" "ftypisom", "video/mp4", "video"),
		F("a.docx", "PK\x03\x04\x14", "application/zip", "Office"),
		F("a.txt", "\xff\xfe" "a\0", "application/octet-stream", "UTF-16"),
		F("a.csv", "gr\xfc\xdf" "e;1\n", "application/octet-stream", "not known"),
		F("nul.txt", "a\0b", "application/octet-stream", "not known"),
		F("a.bmp", "BM\x10\0\0\0\0\0\0\0\x36\0\0\0", "image/bmp", "BMP"),
	};
#undef F

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct str bytes = { files[i].bytes, files[i].n };
		struct media m;
		struct err e = { 0 };

		if (media_sniff(str_of(files[i].name), bytes, &m, &e) != 0)
			fail_msg("%s: %s", files[i].name, e.msg);
		assert_int_equal(m.class, MEDIA_FILE);
		assert_string_equal(m.mime, files[i].mime);
		assert_non_null(strstr(m.what, files[i].what));
		assert_int_equal(media_class_of(str_of(m.mime), files[i].n), MEDIA_FILE);
	}
	assert_string_equal(media_type(STR("gr\xc3"), true), "text/plain");
	assert_string_equal(media_type(STR("gr\xc3"), false), "application/octet-stream");
	assert_string_equal(media_type(STR(""), false), "text/plain");
}

static void
test_file_names(void **state)
{
	char out[MEDIA_NAME_MAX + 1], longest[300];
	static const struct {
		const char *name, *clean, *second;
	} names[] = {
		{ "photo.png", "photo.png", "photo-2.png" },
		{ "../../etc/passwd", "passwd", "passwd-2" },
		{ "..", "_.", "_-2." },
		{ ".", "_", "_-2" },
		{ "", "file", "file-2" },
		{ "a/", "file", "file-2" },
		{ ".profile", "_profile", "_profile-2" },
		{ "-rf", "_rf", "_rf-2" },
		{ "a\nb\x1b[31m.tar.gz", "a_b__31m.tar.gz", "a_b__31m.tar-2.gz" },
		{ "two words;$(x)", "two_words___x_", "two_words___x_-2" },
		{ "gr\xc3\xb6\xc3\x9f" "e.bin", "gr\xc3\xb6\xc3\x9f" "e.bin", "gr\xc3\xb6\xc3\x9f" "e-2.bin" },
		{ "bad\xff\xc3.x", "bad__.x", "bad__-2.x" },
		{ "\xe2\x80\xae" "txt.exe", "_txt.exe", "_txt-2.exe" }, /* right to left */
		{ "a\xe2\x80\x8b" "b", "a_b", "a_b-2" }, /* a space of no width */
		{ "a\xc2\xa0" "b", "a_b", "a_b-2" },
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_string_equal(media_file_name(str_of(names[i].name), 1, out), names[i].clean);
		assert_string_equal(media_file_name(str_of(names[i].name), 2, out), names[i].second);
	}
	memset(longest, 'x', sizeof longest);
	memcpy(longest + sizeof longest - 5, ".jpeg", 5);
	assert_int_equal(strlen(media_file_name((struct str){ longest, sizeof longest }, 1, out)), MEDIA_NAME_MAX);
	assert_int_equal(strlen(media_file_name((struct str){ longest, sizeof longest }, 4000000000u, out)), MEDIA_NAME_MAX);
	assert_non_null(strstr(out, "x-4000000000.jpeg"));
	for (size_t n = 0; n < sizeof longest; n++) /* never half a character */
		longest[n] = "\xc3\xa4"[n % 2];
	for (size_t n = 0; n < sizeof longest; n++)
		assert_true(utf8_valid(str_of(media_file_name((struct str){ longest, n }, 12, out))));
}

static void
test_maxima(void **state)
{
	size_t n = MEDIA_MAX + 1;
	char *bytes = xcalloc(1, n);
	struct media m;
	struct err e = { 0 };

	memset(bytes, 'a', TEXT_FILE_MAX + 1);
	assert_int_equal(media_sniff(STR("a"), (struct str){ bytes, TEXT_FILE_MAX }, &m, &e), 0);
	assert_int_equal(m.tokens, (TEXT_FILE_MAX + 2) / 3);
	assert_int_equal(m.class, MEDIA_TEXT);
	assert_int_equal(media_sniff(STR("a"), (struct str){ bytes, TEXT_FILE_MAX + 1 }, &m, &e), 0);
	assert_int_equal(m.class, MEDIA_FILE);
	assert_int_equal(m.tokens, MEDIA_FILE_TOKENS);
	assert_int_equal(media_class_of(str_of(m.mime), TEXT_FILE_MAX + 1), MEDIA_FILE);
	assert_int_equal(media_class_of(str_of(m.mime), TEXT_FILE_MAX), MEDIA_TEXT);
	memcpy(bytes, "%PDF-1.7", 8);
	assert_int_equal(media_sniff(STR("a"), (struct str){ bytes, n - 1 }, &m, &e), 0);
	assert_int_equal(media_sniff(STR("a"), (struct str){ bytes, n }, &m, &e), ERR_LIMIT);
	assert_non_null(strstr(e.msg, "at most 20480 KiB"));
	free(bytes);
}

static void
test_tokens(void **state)
{
	struct media image = { .class = MEDIA_IMAGE, .width = 900, .height = 750 },
		     pdf = { .class = MEDIA_PDF }, audio = { .class = MEDIA_AUDIO, .ms = 61500 };

	assert_int_equal(media_tokens(&image, 1), 901);
	image.width = image.height = 16;
	assert_int_equal(media_tokens(&image, 1), 258);
	image.width = image.height = 0xffffffff;
	assert_int_equal(media_tokens(&image, 1), 1600);
	assert_int_equal(media_tokens(&pdf, 1), 2500);
	assert_int_equal(media_tokens(&pdf, 50001), 5000);
	assert_int_equal(media_tokens(&pdf, MEDIA_MAX), 250000);
	assert_int_equal(media_tokens(&audio, 1), 62 * 32);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_file_names),
		cmocka_unit_test(test_maxima),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
