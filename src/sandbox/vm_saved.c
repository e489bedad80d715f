/* SPDX-License-Identifier: MIT
 * The file of a saved machine. Memory is where it is in the machine, behind SAVED_MEMORY_AT, with
 * holes for pages of zeros. The check is against damage, not against forgery: whoever can write the
 * file is the user himself. Invariant: what is at the path is whole, or is not taken. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/vm_host.h"

#define PAGE  4096u
#define CHUNK (256u * PAGE)
#define TITLE "ithaca machine 1"

void
saved_header_put(const struct saved_header *h, char out[SAVED_HEADER_MAX])
{
	memset(out, 0, SAVED_HEADER_MAX);
	snprintf(out, SAVED_HEADER_MAX, TITLE "\n%s\n%llu\n%llu\n%llu\n", h->key,
		(unsigned long long)h->device_bytes, (unsigned long long)h->memory_bytes,
		(unsigned long long)h->check);
}

int
saved_header_parse(struct str text, struct saved_header *out, struct err *e)
{
	struct saved_header h = { 0 };
	uint64_t *const numbers[] = { &h.device_bytes, &h.memory_bytes, &h.check };
	struct str line;

	if (!str_next(&text, '\n', &line) || !str_is(line, TITLE))
		return err_set(
			e, ERR_INVALID, ERR_TO_LOG, "it is no saved machine of this version");
	if (!str_next(&text, '\n', &line) || line.n != SAVED_KEY_SIZE - 1)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "its key is damaged");
	memcpy(h.key, line.p, line.n);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (!str_next(&text, '\n', &line) || str_u64(line, numbers[i]) != 0)
			return err_set(e, ERR_INVALID, ERR_TO_LOG, "its header is damaged");
	}
	if (h.device_bytes == 0 || h.device_bytes > SAVED_MEMORY_AT - SAVED_HEADER_MAX ||
		h.memory_bytes % PAGE != 0 || h.memory_bytes > INT64_MAX - SAVED_MEMORY_AT)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "its header is damaged");
	*out = h;
	return 0;
}

/* FNV-1a over words: as fast as the bytes come, and each damaged one changes it. */
static uint64_t
mix(uint64_t check, const char *p, size_t n)
{
	uint64_t word;

	for (; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		check = (check ^ word) * 0x100000001b3u;
	}
	for (; n > 0; p++, n--)
		check = (check ^ (unsigned char)*p) * 0x100000001b3u;
	return check;
}

static int
read_at(int fd, char *p, size_t n, off_t at, struct err *e)
{
	while (n > 0) {
		ssize_t got = pread(fd, p, n, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? err_errno(e, errno, ERR_TO_LOG, "it cannot be read")
				       : err_set(e, ERR_INVALID, ERR_TO_LOG, "it is cut short");
		p += got;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

static int
write_at(int fd, const char *p, size_t n, off_t at, struct err *e)
{
	while (n > 0) {
		ssize_t put = pwrite(fd, p, n, at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return err_errno(
				e, put < 0 ? errno : ENOSPC, ERR_TO_LOG, "it cannot be written");
		p += put;
		at += put;
		n -= (size_t)put;
	}
	return 0;
}

static bool
is_zero(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* Pages that are not zero. number: which the first one is in the machine, for the check. */
static int
copy_pages(int from, off_t from_at, int to, off_t to_at, uint64_t number, char *chunk, size_t n,
	uint64_t *check, struct err *e)
{
	size_t begin = 0;

	if (read_at(from, chunk, n, from_at, e) != 0)
		return e->code;
	for (size_t i = 0; i <= n; i += PAGE) {
		bool is_end = i == n || is_zero(chunk + i);
		if (is_end && begin < i &&
			write_at(to, chunk + begin, i - begin, to_at + (off_t)begin, e) != 0)
			return e->code;
		if (is_end)
			begin = i + PAGE;
		else
			*check = mix(*check ^ (number + i / PAGE), chunk + i, PAGE);
	}
	return 0;
}

static int
copy_memory(
	int from, off_t from_at, int to, off_t to_at, int64_t bytes, uint64_t *check, struct err *e)
{
	AUTO_FREE char *chunk = xmalloc(CHUNK);
	off_t at = from_at, until = from_at + bytes;

	while (at < until) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return 0; /* zeros to the end */
		if (data >= until)
			return 0;
		at = data < 0 ? at : data - data % PAGE;
		off_t hole = data < 0 ? -1 : lseek(from, at, SEEK_HOLE);
		off_t end = hole < 0 ? until : MIN(until, (hole + PAGE - 1) / PAGE * PAGE);
		while (at < end) {
			size_t n = (size_t)MIN((off_t)CHUNK, end - at);
			off_t done = at - from_at;
			if (copy_pages(from, at, to, to_at + done, (uint64_t)done / PAGE, chunk, n,
				    check, e) != 0)
				return e->code;
			at += (off_t)n;
		}
	}
	return 0;
}

static int
check_devices(int fd, uint64_t bytes, uint64_t *check, struct err *e)
{
	AUTO_FREE char *chunk = xmalloc(CHUNK);
	off_t at = SAVED_HEADER_MAX;

	while (bytes > 0) {
		size_t n = (size_t)MIN((uint64_t)CHUNK, bytes);
		if (read_at(fd, chunk, n, at, e) != 0)
			return e->code;
		*check = mix(*check, chunk, n);
		at += (off_t)n;
		bytes -= n;
	}
	return 0;
}

int
saved_open(const char *path, const char *key, int memory, int64_t memory_bytes, int *out,
	struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char head[SAVED_HEADER_MAX];
	struct saved_header h;
	struct stat st;
	uint64_t check = 0;

	if (fd < 0)
		return err_errno(e, errno, ERR_TO_LOG, "%s", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
		(st.st_mode & 077) != 0)
		return err_set(e, ERR_DENIED, ERR_TO_LOG, "%s is not ours alone", path);
	if (read_at(fd, head, sizeof(head), 0, e) != 0 ||
		saved_header_parse((struct str){ head, sizeof(head) }, &h, e) != 0)
		return err_wrap(e, "%s", path);
	if (strcmp(h.key, key) != 0 || h.memory_bytes != (uint64_t)memory_bytes)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_LOG,
			"%s is of another kernel, program or machine", path);
	if ((uint64_t)st.st_size != SAVED_MEMORY_AT + h.memory_bytes)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "%s is cut short", path);
	if (check_devices(fd, h.device_bytes, &check, e) != 0 ||
		copy_memory(fd, SAVED_MEMORY_AT, memory, 0, memory_bytes, &check, e) != 0)
		return err_wrap(e, "%s", path);
	if (check != h.check)
		return err_set(e, ERR_INVALID, ERR_TO_LOG, "%s is damaged", path);
	if (lseek(fd, SAVED_HEADER_MAX, SEEK_SET) < 0)
		return err_errno(e, errno, ERR_TO_LOG, "%s", path);
	*out = take_fd(&fd);
	return 0;
}

static void
temporary(const char *path, char out[PLAN_PATH_MAX])
{
	snprintf(out, PLAN_PATH_MAX, "%s.new", path);
}

void
saved_drop(const char *path)
{
	char name[PLAN_PATH_MAX];

	temporary(path, name);
	unlink(name);
}

int
saved_begin(const char *path, int *out, struct err *e)
{
	char name[PLAN_PATH_MAX];

	temporary(path, name);
	unlink(name); /* of a runner that was killed */
	AUTO_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || lseek(fd, SAVED_HEADER_MAX, SEEK_SET) < 0)
		return err_errno(e, errno, ERR_TO_LOG, "%s", name);
	*out = take_fd(&fd);
	return 0;
}

int
saved_end(
	const char *path, const char *key, int fd, int memory, int64_t memory_bytes, struct err *e)
{
	struct saved_header h = { .memory_bytes = (uint64_t)memory_bytes };
	char head[SAVED_HEADER_MAX], name[PLAN_PATH_MAX];
	struct stat st;

	temporary(path, name);
	if (fstat(fd, &st) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "%s", name);
	if (st.st_size <= (off_t)SAVED_HEADER_MAX || st.st_size > (off_t)SAVED_MEMORY_AT)
		return err_set(e, ERR_LIMIT, ERR_TO_LOG,
			"the state of the machine's devices has %lld bytes", (long long)st.st_size);
	snprintf(h.key, sizeof(h.key), "%s", key);
	h.device_bytes = (uint64_t)st.st_size - SAVED_HEADER_MAX;
	if (check_devices(fd, h.device_bytes, &h.check, e) != 0)
		return e->code;
	if (ftruncate(fd, (off_t)SAVED_MEMORY_AT + memory_bytes) != 0)
		return err_errno(e, errno, ERR_TO_LOG, "%s", name);
	if (copy_memory(memory, 0, fd, SAVED_MEMORY_AT, memory_bytes, &h.check, e) != 0)
		return err_wrap(e, "%s", name);
	saved_header_put(&h, head);
	if (write_at(fd, head, sizeof(head), 0, e) != 0)
		return err_wrap(e, "%s", name);
	return rename(name, path) == 0 ? 0 : err_errno(e, errno, ERR_TO_LOG, "%s", path);
}
